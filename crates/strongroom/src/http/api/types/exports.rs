//! Exports on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::DarkVault;
pub use crate::export::ExportFormat;
use crate::secret_text::SecretText;

/// `POST …/exports/plan`: what an export would hold.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanExport {
    /// One vault; all of which you see something when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_id: Option<Uuid>,
    #[serde(default)]
    pub format: ExportFormat,
}

/// `POST …/exports`. Answers the file itself, piece by piece; one that broke off is no file.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartExport {
    /// One vault; all of which you see something when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_id: Option<Uuid>,
    /// `json` and `csv` are not encrypted: they need a sign-in of the last 15 minutes, and all admins are told.
    #[serde(default)]
    pub format: ExportFormat,
    /// Of `encrypted_json`, 12 to 256 characters. Without it nobody opens the file again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<SecretText>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub struct ExportPlan {
    pub format: ExportFormat,
    /// Items in all.
    pub items: u64,
    /// The vaults that they are in.
    pub vaults: Vec<ExportedVault>,
    /// Vaults whose key does not answer; nothing of them would be in the file.
    pub dark: Vec<DarkVault>,
    /// Items in the trash, which stay out.
    pub trashed: u64,
    /// What no file of this format holds, in words.
    pub leaves_out: Vec<String>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub struct ExportedVault {
    pub vault_id: Uuid,
    pub items: u64,
}

//! What a vault signs in with, and how that is changed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{CredentialKind, Problem, Vault};
use crate::{secret_text::SecretText, vault::Accepted};

/// Goes on although checks warn: `true` takes every warning, a list those of these lines, as in `["rights.scope"]`. A check
/// that fails always stops it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum AcceptWarnings {
    All(bool),
    Lines(Vec<String>),
}

impl Default for AcceptWarnings {
    fn default() -> Self {
        Self::All(false)
    }
}

impl From<AcceptWarnings> for Accepted {
    fn from(accepted: AcceptWarnings) -> Self {
        match accepted {
            AcceptWarnings::All(false) => Self::None,
            AcceptWarnings::All(true) => Self::All,
            AcceptWarnings::Lines(lines) => Self::Lines(lines),
        }
    }
}

/// `PUT …/vaults/{id}/credential`, and `POST …/vaults/{id}/credential/check`, which changes nothing. At most one of
/// `client_secret`, `client_certificate` and `workload_identity` is given; with none of them, `client_secret_expires` notes
/// when the client secret that is held ends.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCredential {
    /// The application that it belongs to, in the same tenant; the same as before when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<SecretText>,
    /// PEM text: an RSA private key and its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<SecretText>,
    /// Signs in with the token file that the server's configuration names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub workload_identity: bool,
    /// When the client secret ends, to be warned in time: `2027-05-01`, or RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_expires: Option<String>,
    #[serde(default)]
    pub accept_warnings: AcceptWarnings,
    /// Also in every other vault of the workspace that signs in with the credential of this one.
    #[serde(default)]
    pub everywhere: bool,
}

/// Answer of `PUT …/vaults/{id}/credential`.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct ReplacedCredential {
    pub vault: Vault,
    /// What became of the others, where it was replaced everywhere.
    pub others: Vec<OtherVault>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub struct OtherVault {
    pub id: Uuid,
    pub name: String,
    /// Why its credential was not replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// `GET …/vaults/{id}/credential`: what the vault signs in with, never the secret itself.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Credential {
    pub client_id: String,
    pub kind: CredentialKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Whether the one before is still held, because this one has not worked again yet.
    pub previous_held: bool,
    /// The other vaults of the workspace that sign in with it.
    pub also_in: Vec<VaultName>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VaultName {
    pub id: Uuid,
    pub name: String,
}

/// `PUT …/vaults/{id}/key-vault` and `POST …/key-vault/check`: another key for the vault. What is absent stays as it is; without a credential the one
/// that is held signs in there too.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKeyVault {
    pub vault_url: String,
    pub vault_key_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<SecretText>,
    /// PEM text: an RSA private key and its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<SecretText>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub workload_identity: bool,
    /// When the client secret ends, to be warned in time: `2027-05-01`, or RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_expires: Option<String>,
    #[serde(default)]
    pub accept_warnings: AcceptWarnings,
}

/// Answer of `PUT …/vaults/{id}/key-vault`.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct ChangedKeyVault {
    pub vault: Vault,
    /// The rewrap that brings the vault keys over: `GET …/jobs/{job}`. Until it is done, both keys are needed.
    pub job: Uuid,
}

/// The query of `DELETE …/vaults/{id}`.
#[derive(Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteVault {
    /// The vault's name, typed again.
    pub name: String,
}

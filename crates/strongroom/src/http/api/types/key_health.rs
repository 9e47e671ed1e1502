//! How a vault's key is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Vault;

/// The health of a vault's key, as the canaries and the watch found it. Asking for it asks Azure nothing.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct KeyHealth {
    pub vault: Vault,
    /// When the key last gave the vault key back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Timestamp>,
    /// Absent for a Cloud vault, and before the first look at the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<WatchedKey>,
    /// Vault keys in the memory of the server that answers.
    pub leases: Vec<KeyLease>,
    /// What the server that answers has used of the Key Vault's limit. Absent for a Cloud vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<KeyQuota>,
    /// By the hour, oldest first, of the last seven days; hours in which nobody asked are left out.
    pub samples: Vec<KeyHour>,
}

/// What Azure says of the key under which new wraps go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WatchedKey {
    /// Of the newest key version. It and what follows is as it was at `seen_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_kid: Option<String>,
    /// Whether the vault's key is wrapped by an older one than that.
    pub rewrap_due: bool,
    /// As in `RSA-HSM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// Azure's words, as in `Recoverable+Purgeable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_level: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recoverable_days: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purge_protected: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<Timestamp>,
    /// The code of the failure, where Azure did not describe the key when it was last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Codes of the lines that warned or failed in the vault's latest check, at `checked_at`.
    pub check_codes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyLease {
    pub generation: u32,
    pub ends_at: Timestamp,
    /// It was used, and will be renewed before it ends.
    pub in_use: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyQuota {
    /// Operations in the last `window_seconds`, of readers, canaries and jobs.
    pub used: u32,
    /// What background jobs were granted of them.
    pub jobs: u32,
    /// Azure's limit for the Key Vault, by the size of the key.
    pub limit: u32,
    pub window_seconds: u32,
}

/// How the unwraps of an hour went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyHour {
    pub from: Timestamp,
    pub ok: u64,
    pub failed: u64,
    /// Milliseconds.
    pub latency_mean: u64,
    pub latency_max: u64,
}

//! The page of one vault: its key, how it is, what is safe.

use askama::Template;

use super::{DarkPanel, Field, Moment, Shell, VaultState, filters, settings::CheckRow};

/// `GET /settings/vaults/{id}`.
#[derive(Template)]
#[template(path = "settings/vault.html")]
pub struct VaultPage {
    pub shell: Shell,
    pub id: String,
    pub name: String,
    pub is_default: bool,
    pub strategy: String,
    pub state: VaultState,
    pub items: u64,
    pub created: Moment,
    pub created_by: String,
    pub generation: u64,
    pub dark: Option<DarkPanel>,
    /// None for a Cloud vault.
    pub azure: Option<AzureKey>,
    pub lease: Lease,
    /// Result of *Check now*.
    pub checks: Vec<CheckRow>,
}

pub struct AzureKey {
    pub vault_url: String,
    pub key_name: String,
    /// "RSA 4096", "RSA-HSM 4096".
    pub key_type: String,
    pub client_id: String,
    pub tenant_id: String,
    pub secret_set: Moment,
    pub secret_expires: Option<Moment>,
    pub versions: Vec<KeyVersionRow>,
    /// New client secret; only its error is ever filled.
    pub new_secret: Field,
}

pub struct KeyVersionRow {
    pub key_version: String,
    /// Whether new wraps use it.
    pub current: bool,
    /// "Enabled", "Disabled", "Not seen".
    pub status: String,
    pub wraps: u64,
    pub first_seen: Moment,
    /// Whether it may be disabled in Azure without anything turning dark.
    pub safe_to_disable: bool,
}

/// How this node holds the vault key.
pub struct Lease {
    /// None when the vault key is not in memory.
    pub until: Option<Moment>,
    pub seconds: u64,
    pub last_use: Option<Moment>,
    pub last_check: Option<Moment>,
    pub last_check_ms: Option<u64>,
    pub last_azure_request_id: Option<String>,
}

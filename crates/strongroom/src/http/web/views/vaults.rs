//! The page of one vault: its key, how it is, what is safe.

use askama::Template;

use super::{DarkPanel, Moment, Shell, Tone, VaultState, checks::Checks, filters};

/// `GET /settings/vaults/{id}`.
#[derive(Template)]
#[template(path = "settings/vault.html")]
pub struct VaultPage {
    pub shell: Shell,
    pub id: String,
    pub name: String,
    pub is_default: bool,
    pub strategy: &'static str,
    pub state: VaultState,
    pub items: u64,
    pub created: Moment,
    pub generation: u32,
    pub lease_seconds: u32,
    /// When the key last answered this server.
    pub answered: Option<Moment>,
    pub dark: Option<DarkPanel>,
    /// None for a Cloud vault.
    pub azure: Option<AzureKey>,
    /// None for a Cloud vault.
    pub checks: Option<Checks>,
}

pub struct AzureKey {
    pub vault_url: String,
    pub key_name: String,
    pub key_version: String,
    pub client_id: String,
    pub tenant_id: String,
    /// "Client secret", "Certificate", "Workload identity".
    pub credential: &'static str,
    pub credential_kept: &'static str,
    /// None for one that does not expire, or of which nobody said when.
    pub expiry: Option<Expiry>,
}

/// When a credential ends.
pub struct Expiry {
    pub at: Moment,
    pub tone: Tone,
    /// "expires in 12 days", "expired 2 days ago".
    pub text: String,
}

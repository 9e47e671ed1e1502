//! The page of one vault: its key, and what may be changed of it.

use askama::Template;

use super::{
    DarkPanel, Field, Moment, Shell, Tone, VaultState, checks::Checks, filters, jobs::JobCard, key::CensusView,
};

/// What every tab of a vault's page has at its head.
pub struct VaultHead {
    pub id: String,
    pub name: String,
    pub is_default: bool,
    pub strategy: &'static str,
    pub state: VaultState,
    /// Whether its key is in Azure.
    pub external: bool,
    /// To new items.
    pub closed: bool,
    pub items: u64,
    pub dark: Option<DarkPanel>,
    /// What goes on with its key or its items, and what ended last.
    pub jobs: Vec<JobCard>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum VaultTab {
    Key,
    Health,
    Settings,
}

/// `GET /settings/vaults/{id}`.
#[derive(Template)]
#[template(path = "vault/key.html")]
pub struct VaultPage {
    pub shell: Shell,
    pub vault: VaultHead,
    pub tab: VaultTab,
    pub created: Moment,
    pub generation: u32,
    pub lease_seconds: u32,
    /// When the key last answered this server.
    pub answered: Option<Moment>,
    /// None for a Cloud vault.
    pub azure: Option<AzureKey>,
    /// None where the vault’s rows fail their proof.
    pub census: Option<CensusView>,
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

/// `GET /settings/vaults/{id}/settings`.
#[derive(Template)]
#[template(path = "vault/settings.html")]
pub struct VaultSettingsPage {
    pub shell: Shell,
    pub vault: VaultHead,
    pub tab: VaultTab,
    pub name: Field,
    pub lease_seconds: Field,
    pub longest_lease: u32,
    pub states: Vec<StateChoice>,
    /// Whether items may move to a Cloud vault or another tenant; None for a Cloud vault.
    pub may_leave: Option<bool>,
    /// Whether the reader may change that.
    pub can_leave: bool,
    /// Of the vault, so that two who save at once notice.
    pub revision: u64,
    pub problem: Option<String>,
}

/// What may be done with a vault, as the form offers it.
pub struct StateChoice {
    pub state: crate::vault::VaultState,
    pub title: &'static str,
    pub means: &'static str,
    pub chosen: bool,
}

/// `GET /settings/vaults/{id}/delete`.
#[derive(Template)]
#[template(path = "vault/delete.html")]
pub struct VaultDeletePage {
    pub shell: Shell,
    pub id: String,
    pub name: String,
    pub typed: Field,
    pub problem: Option<String>,
}

//! Health: all vaults at a glance, and the tab of one.

use askama::Template;

use super::{
    Moment, Shell, VaultState,
    chart::{Chart, Span},
    filters,
    vault::{Expiry, VaultHead, VaultTab},
};

/// `GET /health`.
#[derive(Template)]
#[template(path = "health/list.html")]
pub struct HealthPage {
    pub shell: Shell,
    pub rows: Vec<HealthRow>,
    /// Whether a key is in Azure at all.
    pub external: bool,
}

pub struct HealthRow {
    pub id: String,
    pub name: String,
    pub state: VaultState,
    /// "contoso-kv / strongroom-kek", or "Instance key".
    pub key: String,
    /// First eight digits of the key version in use; empty for a Cloud vault.
    pub key_version: String,
    /// When the key last answered this server.
    pub answered: Option<Moment>,
    /// Since when something is wrong.
    pub since: Option<Moment>,
    pub credential: Option<Expiry>,
    /// Of the newest key version.
    pub key_ends: Option<Expiry>,
    /// "12 of 500 in 10 s, 3 by jobs": what this server asks of the Key Vault.
    pub quota: Option<String>,
}

/// What Azure says of the key.
pub struct WatchRow {
    pub newest: Option<String>,
    /// "RSA-HSM 4096".
    pub kind: Option<String>,
    pub enabled: Option<bool>,
    pub purge_protected: Option<bool>,
    /// Lines of the latest check that warned or failed.
    pub checked: Vec<String>,
    pub seen: Option<Moment>,
    /// The code of why it was not told.
    pub error: Option<String>,
}

/// `GET /settings/vaults/{id}/health`.
#[derive(Template)]
#[template(path = "health/vault.html")]
pub struct VaultHealthPage {
    pub shell: Shell,
    pub vault: VaultHead,
    pub tab: VaultTab,
    /// None until something was asked.
    pub chart: Option<Chart>,
    pub span: Span,
    pub key: HealthRow,
    /// None for a Cloud vault, and before the first look.
    pub watch: Option<WatchRow>,
    pub lease_seconds: u32,
    /// None where leases of this vault are not told.
    pub leases: Vec<LeaseRow>,
}

/// One vault key in this server's memory.
pub struct LeaseRow {
    pub generation: u32,
    pub ends: Moment,
    pub in_use: bool,
}

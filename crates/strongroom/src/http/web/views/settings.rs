//! Settings › Workspace Configuration: General, and Privacy and Security.

use askama::Template;

use super::{
    Choice, Field, Moment, Shell, VaultState, checks::Checks, credential::CredentialFields, filters, jobs::JobCard,
    vault::Expiry,
};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SettingsTab {
    General,
    PrivacyAndSecurity,
    Notices,
}

/// `GET /settings`.
#[derive(Template)]
#[template(path = "settings/general.html")]
pub struct GeneralPage {
    pub shell: Shell,
    pub tab: SettingsTab,
    pub name: Field,
    pub slug: String,
    pub created: Moment,
    /// Whether every member has to use a second step.
    pub require_two_step: bool,
    /// Whether members may create vaults with external keys at all.
    pub external_keys: bool,
    /// Of the workspace, so that two who save at once notice.
    pub revision: u64,
    pub problem: Option<String>,
}

/// `GET /settings/privacy-and-security`: the table of vaults.
#[derive(Template)]
#[template(path = "settings/privacy.html")]
pub struct PrivacyPage {
    pub shell: Shell,
    pub tab: SettingsTab,
    /// Whether Azure External Keys is on for this workspace.
    pub external_keys: bool,
    pub vaults: Vec<VaultRow>,
}

impl PrivacyPage {
    fn has_external(&self) -> bool {
        self.vaults.iter().any(|vault| vault.external)
    }
}

pub struct VaultRow {
    pub id: String,
    pub name: String,
    pub is_default: bool,
    /// "Cloud vault", "Azure External Keys".
    pub strategy: String,
    /// "contoso-kv / strongroom-kek", or "Instance key".
    pub key: String,
    /// First eight digits of the key version; empty for a Cloud vault.
    pub key_version: String,
    /// Whether its key is in Azure.
    pub external: bool,
    /// To new items.
    pub closed: bool,
    /// What goes on with it.
    pub jobs: Vec<JobCard>,
    pub state: VaultState,
    /// Of a credential that has ended, or ends soon.
    pub expiry: Option<Expiry>,
    pub items: u64,
    pub created: Moment,
}

/// `GET /settings/vaults/new`: the dialog *Create new vault*.
#[derive(Template)]
#[template(path = "settings/new_vault.html")]
pub struct NewVaultPage {
    pub shell: Shell,
    pub name: Field,
    /// `cloud` or `azure_external_keys`.
    pub strategies: Vec<Choice>,
    pub strategy_error: Option<String>,
    pub default: bool,
    /// A rule of the workspace that stands against it.
    pub problem: Option<String>,
}

/// *Next* of the first dialog and every answer after it: *Configure the Azure vault*.
#[derive(Template)]
#[template(path = "settings/azure_vault.html")]
pub struct AzureVaultPage {
    pub shell: Shell,
    /// From the first dialog, carried along.
    pub name: String,
    pub default: bool,
    /// What makes everything that is asked for here.
    pub setup_command: String,
    pub client_id: Field,
    pub tenant_id: Field,
    pub fields: CredentialFields,
    pub vault_url: Field,
    pub key_name: Field,
    pub checks: Checks,
    pub problem: Option<String>,
}

/// The dialog for a Cloud vault: nothing to configure, a last look before *Create vault*.
#[derive(Template)]
#[template(path = "settings/cloud_vault.html")]
pub struct CloudVaultPage {
    pub shell: Shell,
    pub name: String,
    pub default: bool,
    pub problem: Option<String>,
}

//! Settings › Workspace Configuration: General, and Privacy and Security.

use askama::Template;

use super::{Choice, Field, Moment, Shell, VaultState, filters};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SettingsTab {
    General,
    PrivacyAndSecurity,
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
    pub state: VaultState,
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

/// `POST /settings/vaults/new/azure` (from the first dialog) and every answer after it: *Configure the Azure vault*.
#[derive(Template)]
#[template(path = "settings/azure_vault.html")]
pub struct AzureVaultPage {
    pub shell: Shell,
    /// From the first dialog, carried along.
    pub name: String,
    pub default: bool,
    pub client_id: Field,
    pub tenant_id: Field,
    /// Its value is never sent back.
    pub client_secret_error: Option<String>,
    pub vault_url: Field,
    pub key_name: Field,
    pub checks: Vec<CheckRow>,
    pub problem: Option<String>,
}

impl AzureVaultPage {
    fn warnings(&self) -> usize {
        self.checks.iter().filter(|check| check.status == CheckStatus::Warn).count()
    }

    /// "19 checks: 18 passed, 1 could not be made".
    fn summary(&self) -> String {
        let count = |wanted: CheckStatus| self.checks.iter().filter(|check| check.status == wanted).count();
        let parts = [
            (count(CheckStatus::Fail), "failed"),
            (count(CheckStatus::Warn), "with a warning"),
            (count(CheckStatus::Pass), "passed"),
            (count(CheckStatus::Unknown), "could not be made"),
            (count(CheckStatus::Skipped), "not tried"),
        ];
        let told: Vec<_> =
            parts.iter().filter(|(count, _)| *count > 0).map(|(count, how)| format!("{count} {how}")).collect();
        format!("{} checks: {}", self.checks.len(), told.join(", "))
    }

    fn failed(&self) -> bool {
        self.checks.iter().any(|check| check.status == CheckStatus::Fail)
    }
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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckStatus {
    Pass,
    Warn,
    Fail,
    /// Not tried, because something before it failed.
    Skipped,
    /// Could not be asked; legal, and said.
    Unknown,
}

impl CheckStatus {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pass => "Passed",
            Self::Warn => "Warning",
            Self::Fail => "Failed",
            Self::Skipped => "Not tried",
            Self::Unknown => "Could not be checked",
        }
    }

    pub fn class(&self) -> &'static str {
        match self {
            Self::Pass => "ok",
            Self::Warn => "warn",
            Self::Fail => "bad",
            Self::Skipped | Self::Unknown => "plain",
        }
    }

    pub fn icon(&self) -> &'static str {
        match self {
            Self::Pass => "circle-check",
            Self::Warn => "triangle-alert",
            Self::Fail => "circle-x",
            Self::Skipped | Self::Unknown => "circle-dashed",
        }
    }
}

/// One check of a key.
pub struct CheckRow {
    /// The stable code, as in the API.
    pub code: String,
    /// What was checked: "Service principal signs in".
    pub label: String,
    pub status: CheckStatus,
    pub cause: Option<String>,
    /// What to do, in words.
    pub fix: Option<String>,
    pub command: Option<String>,
    /// None where nothing had to be asked.
    pub ms: Option<u64>,
    pub azure_request_id: Option<String>,
}

//! What may be done about a vault's key: the three changes of it, and which key versions are still needed.

use askama::Template;

use super::{Shell, filters};

/// `GET /settings/vaults/{id}/key`: *Change the key*.
#[derive(Template)]
#[template(path = "vault/change_key.html")]
pub struct ChangeKeyPage {
    pub shell: Shell,
    pub id: String,
    pub name: String,
    pub choices: Vec<KeyChoice>,
    pub problem: Option<String>,
}

/// One of the three changes.
pub struct KeyChoice {
    /// As the form sends it.
    pub kind: &'static str,
    pub icon: &'static str,
    /// "Rewrap".
    pub title: &'static str,
    /// When somebody wants it.
    pub when: &'static str,
    /// What it is, in the words of the glossary.
    pub means: &'static str,
    pub chosen: bool,
    /// What it costs; or why it cannot be had now.
    pub cost: Result<KeyCost, String>,
}

pub struct KeyCost {
    /// Whether it would change nothing.
    pub nothing_to_do: bool,
    /// "3 key operations at Key Vault", "0 items touched".
    pub parts: Vec<String>,
    /// What somebody with an earlier copy of the database can still read.
    pub exposes: Vec<&'static str>,
}

/// Which key versions and generations are still needed, and by what.
pub struct CensusView {
    /// Empty for a Cloud vault.
    pub versions: Vec<KeyVersionRow>,
    pub generations: Vec<GenerationRow>,
    /// The commands that disable every key version that the vault needs.
    pub kill_switch: Vec<String>,
    /// Why nobody knows which key version is the newest.
    pub newest_unknown: Option<String>,
}

impl CensusView {
    /// Whether a newer key version waits for the vault keys.
    pub fn is_behind(&self) -> bool {
        self.versions.iter().any(|row| row.newest && !row.in_use)
    }
}

pub struct KeyVersionRow {
    /// The last part of the key identifier.
    pub code: String,
    /// Where its key is, if that is not the key that wraps the current generation: `other.vault.azure.net/keys/name`.
    pub elsewhere: Option<String>,
    /// The current generation is wrapped by it.
    pub in_use: bool,
    pub newest: bool,
    /// None where nobody has looked yet.
    pub enabled: Option<bool>,
    pub safe_to_disable: bool,
    /// Whether it may go, in words.
    pub verdict: String,
}

impl KeyVersionRow {
    pub fn short(&self) -> &str {
        self.code.get(..8).unwrap_or(&self.code)
    }
}

pub struct GenerationRow {
    pub generation: u32,
    pub current: bool,
    /// First digits of the key version that wraps it.
    pub key_version: String,
    pub data_keys: u64,
    pub items: u64,
    pub retirable: bool,
}

/// `GET /settings/vaults/rewrap`: every vault's keys under the newest key versions.
#[derive(Template)]
#[template(path = "vault/rewrap_all.html")]
pub struct RewrapAllPage {
    pub shell: Shell,
    /// Vaults with something to do.
    pub vaults: u64,
    pub vault_keys: u64,
    pub key_operations: u64,
    /// "at least 3 minutes".
    pub time: String,
    /// Vaults that cannot be rewrapped now, and why.
    pub refused: Vec<(String, String)>,
}

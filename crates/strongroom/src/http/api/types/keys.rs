//! Changes of a vault's key, and the census, on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{JobKind, Problem};

/// `POST …/vaults/{vault}/rewrap`, `…/rotate`, `…/reencrypt`, and `POST …/vaults/rewrap`.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeKey {
    /// Only say what it comes to.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a change of a vault's key comes to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct KeyChange {
    pub kind: JobKind,
    /// The job that does it; absent in a dry run, and where nothing is to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<Uuid>,
    /// Vault keys that get a new wrap.
    pub vault_keys: u64,
    /// Requests to Key Vault that use the key.
    pub key_operations: u64,
    /// Data keys that are wrapped anew or replaced.
    pub data_keys: u64,
    /// Items whose bodies are sealed anew.
    pub items: u64,
    /// Of those items, older ones included.
    pub revisions: u64,
    /// What it takes at the least.
    pub seconds_at_least: u64,
    /// What somebody with an earlier copy of the database can still read afterwards, and how.
    pub exposes: Vec<String>,
}

/// `POST …/vaults/rewrap`: each vault under a key in Azure, with what became of it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct KeyChanges {
    pub items: Vec<VaultKeyChange>,
}

/// Either a change or what stands against it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct VaultKeyChange {
    pub vault_id: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<KeyChange>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// `GET …/vaults/{vault}/census`: what this instance knows of that still needs which key version and generation.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Census {
    /// The newest first, where it is known, then those in use.
    pub versions: Vec<KeyVersionUse>,
    /// The current one first.
    pub generations: Vec<GenerationUse>,
    /// Why Key Vault did not say which key version is the newest, where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_unknown: Option<String>,
    /// The commands that switch off every key version that wraps a key of this vault.
    pub kill_switch: Vec<String>,
}

/// One key version, counted over all vaults of this instance.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct KeyVersionUse {
    pub kid: String,
    pub newest: bool,
    /// Absent where nobody has asked: Key Vault tells it of the newest alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Vault keys, one for each generation, whose wrap in use is under it.
    pub vault_keys: u64,
    /// Items, those in the trash included, that open through it.
    pub items: u64,
    /// Jobs that have not ended, on vaults that need it.
    pub jobs: u64,
    /// Backups that this instance has made and that open through it.
    pub backups: u64,
    /// Wraps that nothing uses any more; each goes a day after it was superseded.
    pub superseded_wraps: u64,
    /// Nothing that this instance knows of needs it, and new wraps go elsewhere.
    pub safe_to_disable: bool,
    /// The same in words.
    pub verdict: String,
}

/// One generation of a vault key.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GenerationUse {
    pub generation: u32,
    /// Of its wrap in use.
    pub kid: String,
    pub current: bool,
    pub data_keys: u64,
    pub items: u64,
    pub revisions: u64,
    /// Nothing is under it and it is not the current one: it can be retired.
    pub retirable: bool,
}

//! What a change of a vault's key costs, and what earlier copies still expose after it: said before it starts.

use jiff::{SignedDuration, Timestamp};
use strongroom_keys::Kid;

use crate::{
    app::{App, Caller},
    error::{Error, Result},
    id::{JobId, ProviderId, VaultId},
    job::JobKind,
    keyring::{Policy, ProviderRow, REWRAP_OPERATIONS, ROTATE_OPERATIONS, Strategy},
    store::Tx,
};

/// Of plans that are shown side by side, one asks.
const RECENT: SignedDuration = SignedDuration::from_secs(5);
/// Data keys that a server takes to another generation in a second, at best.
const DATA_KEYS_A_SECOND: u64 = 10_000;
/// Revisions that it opens and seals anew in a second, at best.
const REVISIONS_A_SECOND: u64 = 2_000;

/// One of the three changes of a vault's key: what it works on, and what it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    pub kind: JobKind,
    /// The job that does it; None where it was only asked what it would be, or nothing is to do.
    pub job: Option<JobId>,
    /// Vault keys that get a new wrap.
    pub vault_keys: u64,
    /// Requests to Key Vault that use the key.
    pub key_operations: u64,
    /// Data keys that are wrapped anew or replaced.
    pub data_keys: u64,
    /// Items whose bodies are sealed anew, and their revisions in all.
    pub items: u64,
    pub revisions: u64,
    /// What it takes at the least, given that jobs use no more than half of what Azure grants the key.
    pub seconds_at_least: u64,
    /// What somebody with an earlier copy of the database can still read, and how.
    pub exposes: Vec<&'static str>,
}

/// What a rotation leaves to whoever had the vault key, and any change to whoever has read.
const LEARNED: &str = "Whoever has learned the vault key before and has a copy from before can open today’s content of the items in \
                       it too: their data keys stay the same.";
const READ: &str = "What somebody has read stays known: change the passwords themselves.";

impl KeyChange {
    /// What the choice means, in a sentence.
    pub fn means(kind: JobKind) -> &'static str {
        match kind {
            JobKind::Rewrap => {
                "The same vault key under the newest key version. Content is untouched. Hygiene, not a cure for a compromise."
            }
            JobKind::Rotate => {
                "A new vault key becomes current and data keys are taken to it. The old one still opens; bodies are untouched."
            }
            JobKind::Reencrypt => {
                "A new vault key, and every item opened and sealed under a new data key, its history included. What a \
                 compromise needs."
            }
            JobKind::Move => "Items go to another vault.",
        }
    }

    /// What earlier copies of the database still expose once it is done.
    fn exposes(kind: JobKind, strategy: Strategy) -> Vec<&'static str> {
        match (kind, strategy) {
            (JobKind::Rewrap, _) => vec![
                "Earlier copies of the database open with the older key version for as long as it is enabled in Key Vault.",
                "Whoever has learned the vault key itself can still open everything, later items included: it stays the same.",
            ],
            (JobKind::Rotate, Strategy::Cloud) => vec![
                "Earlier copies of the database open with the vault key before, for whoever also has the instance key of that \
                 time.",
                LEARNED,
            ],
            (JobKind::Rotate, Strategy::AzureExternalKeys) => vec![
                "Earlier copies of the database open with the vault key before, for as long as a key version that wraps it \
                 is enabled.",
                LEARNED,
            ],
            (JobKind::Reencrypt, Strategy::Cloud) => vec![
                "Earlier copies of the database show what was in them, to whoever also has the instance key of that time.",
                READ,
            ],
            (JobKind::Reencrypt, Strategy::AzureExternalKeys) => vec![
                "Earlier copies of the database show what was in them, for as long as a key version that wraps the keys of \
                 that time is enabled.",
                READ,
            ],
            (JobKind::Move, _) => vec![],
        }
    }
}

/// What there is of a vault.
#[derive(Debug, Clone, Copy, Default)]
struct Contents {
    data_keys: u64,
    items: u64,
    revisions: u64,
}

impl Contents {
    fn count(tx: &mut Tx<'_>, vault: VaultId) -> Result<Self> {
        let id = [vault.0.into()];
        let older = "SELECT COUNT(*) FROM item_revisions r JOIN items i ON i.id = r.item_id WHERE i.vault_id = $1";
        let items = tx.count("SELECT COUNT(*) FROM items WHERE vault_id = $1", &id)?;
        let data_keys = tx.count("SELECT COUNT(*) FROM data_keys WHERE vault_id = $1", &id)?;
        Ok(Self { data_keys, items, revisions: items + tx.count(older, &id)? })
    }
}

impl App {
    /// Policy and provider of a vault of the caller's workspace.
    pub(super) async fn key_of(&self, caller: &Caller, vault: VaultId) -> Result<(Policy, ProviderRow)> {
        let found = self.keyring.wraps_to(vault).await?;
        if found.0.workspace == caller.workspace { Ok(found) } else { Err(Error::NotFound("vault")) }
    }

    /// How old an answer of Key Vault may be: a plan may do with a recent one, a start may not.
    pub(super) fn asked_after(&self, dry_run: bool) -> Timestamp {
        let now = self.clock.now();
        if dry_run { now - RECENT } else { now }
    }

    /// What it would take, with `behind` the vault keys that a rewrap concerns.
    pub(super) async fn key_change(&self, kind: JobKind, row: &ProviderRow, behind: u64) -> Result<KeyChange> {
        let vault = row.vault;
        let has = match kind {
            JobKind::Rewrap => Contents::default(),
            _ => self.store.read(move |tx| Contents::count(tx, vault)).await?,
        };
        let (vault_keys, key_operations) = match (kind, row.strategy) {
            (JobKind::Rewrap, _) => (behind, behind * u64::from(REWRAP_OPERATIONS)),
            (_, Strategy::AzureExternalKeys) => (1, u64::from(ROTATE_OPERATIONS)),
            // Its KEK lies here: nobody is asked.
            (_, Strategy::Cloud) => (1, 0),
        };
        let (items, revisions) = if kind == JobKind::Reencrypt { (has.items, has.revisions) } else { (0, 0) };
        let quota = self.keyring.quota(row);
        // Jobs take no more than half.
        let granted = u64::from(quota.limit / 2).max(1);
        let at_azure = match row.strategy {
            Strategy::Cloud => 0,
            Strategy::AzureExternalKeys => (key_operations * u64::from(quota.window_seconds)).div_ceil(granted),
        };
        let here = has.data_keys / DATA_KEYS_A_SECOND + revisions / REVISIONS_A_SECOND;
        Ok(KeyChange {
            kind,
            job: None,
            vault_keys,
            key_operations,
            data_keys: has.data_keys,
            items,
            revisions,
            seconds_at_least: at_azure.max(here),
            exposes: KeyChange::exposes(kind, row.strategy),
        })
    }
}

/// The generations of a vault whose wrap in use is not under `newest` of `provider`, the current one first.
pub(super) fn behind(tx: &mut Tx<'_>, vault: VaultId, provider: ProviderId, newest: &Kid) -> Result<Vec<u32>> {
    let in_use = tx.all(
        "SELECT g.generation, g.kid, w.provider_id FROM generations g \
         LEFT JOIN wraps w ON w.vault_id = g.vault_id AND w.generation = g.generation AND w.kid = g.kid \
         WHERE g.vault_id = $1 ORDER BY g.generation DESC",
        &[vault.0.into()],
        |row| Ok((row.get::<u32>(0)?, row.get::<String>(1)?, row.get::<Option<uuid::Uuid>>(2)?)),
    )?;
    let is_there = |kid: &str, by| by == Some(provider.0) && kid.parse().is_ok_and(|kid| newest.same_key_version(&kid));
    Ok(in_use.into_iter().filter(|(_, kid, by)| !is_there(kid, *by)).map(|(generation, ..)| generation).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_vault_is_told_nothing_of_key_versions() {
        for kind in [JobKind::Rotate, JobKind::Reencrypt] {
            let told = |strategy| KeyChange::exposes(kind, strategy).join(" ");
            assert!(told(Strategy::AzureExternalKeys).contains("key version"));
            assert!(told(Strategy::Cloud).contains("instance key"));
            assert!(!told(Strategy::Cloud).contains("key version"));
        }
    }
}

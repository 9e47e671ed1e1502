//! The census of a vault's key: which key versions and generations are still needed, and by what. It knows what this
//! instance knows: copies of the database that were made elsewhere are not in it.

use jiff::{SignedDuration, Timestamp};
use strongroom_keys::{KeyDescription, Kid, azure::disable_command};

use crate::{
    access::Action,
    app::{App, Caller},
    error::Result,
    id::VaultId,
    store::{Param, Tx},
};

/// A description of the key this old is good enough to look at.
const RECENT: SignedDuration = SignedDuration::from_secs(30);

/// What is under which key version, and under which generation of the vault key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// The newest first, as far as it is known; then those in use.
    pub versions: Vec<KeyVersionUse>,
    /// The current one first.
    pub generations: Vec<GenerationUse>,
    /// Why Key Vault did not say which key version is the newest, where it did not.
    pub newest_unknown: Option<String>,
}

/// One key version that wraps keys of this vault, or is to wrap the next; counted over all vaults of this instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyVersionUse {
    pub kid: String,
    pub newest: bool,
    /// None where nobody has asked: Key Vault tells it of the newest alone.
    pub enabled: Option<bool>,
    /// Vault keys, one for each generation, whose wrap in use is under it.
    pub vault_keys: u64,
    /// Items, those in the trash included, that open through it.
    pub items: u64,
    /// Jobs that have not ended, on vaults that need it.
    pub jobs: u64,
    /// Backups that this instance has made, that open through it, and that are neither expired nor retired.
    pub backups: u64,
    /// Wraps that nothing uses any more; each goes a day after it was superseded.
    pub superseded_wraps: u64,
    /// True when nothing that this instance knows of needs it, and new wraps go elsewhere.
    pub safe_to_disable: bool,
}

/// One generation of the vault key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerationUse {
    pub generation: u32,
    /// Of its wrap in use.
    pub kid: String,
    pub current: bool,
    pub data_keys: u64,
    pub items: u64,
    /// Revisions, the current ones included.
    pub revisions: u64,
    /// True when nothing is under it and it is not the current one.
    pub retirable: bool,
}

impl Census {
    /// The commands that switch off every key version that wraps a key of this vault, whether in use or superseded: the
    /// way of withdrawal that bites fastest. Empty for a Cloud vault.
    pub fn kill_switch(&self) -> Vec<String> {
        self.versions
            .iter()
            .filter(|used| used.vault_keys + used.superseded_wraps > 0)
            .filter_map(|used| match used.kid.parse() {
                Ok(Kid::Azure(url)) => Some(disable_command(&url)),
                _ => None,
            })
            .collect()
    }
}

impl KeyVersionUse {
    /// Whether it may be switched off, in words, and what lies under it that nothing needs.
    pub fn verdict(&self) -> String {
        match self.superseded_wraps {
            0 => self.may_be_disabled(),
            1 => format!("{} 1 superseded wrap is under it and goes a day later.", self.may_be_disabled()),
            many => format!("{} {many} superseded wraps are under it and go a day later.", self.may_be_disabled()),
        }
    }

    fn may_be_disabled(&self) -> String {
        if self.safe_to_disable {
            return "Safe to disable: nothing that this instance knows of needs it.".into();
        }
        let counted = |count: u64, one: &str| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            many => Some(format!("{many} {one}s")),
        };
        let needs = [
            counted(self.vault_keys, "vault key"),
            counted(self.items, "item"),
            counted(self.jobs, "job"),
            counted(self.backups, "backup"),
        ];
        let needs: Vec<_> = needs.into_iter().flatten().collect();
        match (needs.is_empty(), self.newest) {
            (false, _) => format!("Needed by {}.", needs.join(", ")),
            (true, true) => "New wraps go under it.".into(),
            (true, false) => {
                "Nothing is known to need it, but Key Vault did not say which key version is the newest.".into()
            }
        }
    }
}

impl App {
    /// What still needs which key version and generation of a vault's key.
    pub async fn census(&self, caller: &Caller, vault: VaultId) -> Result<Census> {
        self.authorize_here(caller, Action::ManageVaults).await?;
        let (_, provider) = self.key_of(caller, vault).await?;
        let (newest, newest_unknown) = match self.keyring.described(&provider, self.clock.now() - RECENT).await {
            Ok(newest) => (Some(newest), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let now = self.clock.now();
        let (versions, generations) = self
            .store
            .read(move |tx| Ok((key_versions(tx, vault, newest.as_ref(), now)?, generations(tx, vault)?)))
            .await?;
        Ok(Census { versions, generations, newest_unknown })
    }
}

fn key_versions(
    tx: &mut Tx<'_>,
    vault: VaultId,
    newest: Option<&KeyDescription>,
    now: Timestamp,
) -> Result<Vec<KeyVersionUse>> {
    let sql = "SELECT kid FROM wraps WHERE vault_id = $1 \
               UNION SELECT k.kid FROM backup_kids k JOIN backups b ON b.id = k.backup_id \
               WHERE k.vault_id = $1 AND b.retired_at IS NULL AND b.expires_at > $2 ORDER BY kid";
    let mut kids = tx.all(sql, &[vault.0.into(), now.into()], |row| row.get::<String>(0))?;
    let is_newest =
        |kid: &str| newest.is_some_and(|newest| kid.parse().is_ok_and(|kid: Kid| newest.kid.same_key_version(&kid)));
    if let Some(newest) = newest
        && !kids.iter().any(|kid| is_newest(kid))
    {
        kids.push(newest.kid.to_string());
    }
    let mut versions = Vec::with_capacity(kids.len());
    for kid in kids {
        let enabled = newest.filter(|_| is_newest(&kid)).map(|newest| newest.enabled);
        let newest_known = newest.is_some();
        versions.push(key_version(tx, kid, enabled, newest_known, now)?);
    }
    versions.sort_by_key(|used| (!used.newest, used.vault_keys == 0));
    Ok(versions)
}

/// With `enabled` known it is the newest, of which alone that is asked.
fn key_version(
    tx: &mut Tx<'_>,
    kid: String,
    enabled: Option<bool>,
    newest_known: bool,
    now: Timestamp,
) -> Result<KeyVersionUse> {
    let by_kid = [Param::from(&kid)];
    let vault_keys = tx.count("SELECT COUNT(*) FROM generations WHERE kid = $1", &by_kid)?;
    let items = tx.count(
        "SELECT COUNT(DISTINCT d.item_id) FROM generations g \
         JOIN data_keys d ON d.vault_id = g.vault_id AND d.generation = g.generation WHERE g.kid = $1",
        &by_kid,
    )?;
    let jobs = tx.count(
        "SELECT COUNT(DISTINCT j.id) FROM generations g JOIN jobs j ON j.vault_id = g.vault_id OR j.target_id = g.vault_id \
         WHERE g.kid = $1 AND j.finished_at IS NULL",
        &by_kid,
    )?;
    let superseded_wraps =
        tx.count("SELECT COUNT(*) FROM wraps WHERE kid = $1 AND superseded_at IS NOT NULL", &by_kid)?;
    let backups = tx.count(
        "SELECT COUNT(DISTINCT b.id) FROM backup_kids k JOIN backups b ON b.id = k.backup_id \
         WHERE k.kid = $1 AND b.retired_at IS NULL AND b.expires_at > $2",
        &[Param::from(&kid), now.into()],
    )?;
    let newest = enabled.is_some();
    let needed = vault_keys + items + jobs + backups > 0;
    let safe_to_disable = newest_known && !newest && !needed;
    Ok(KeyVersionUse { kid, newest, enabled, vault_keys, items, jobs, backups, superseded_wraps, safe_to_disable })
}

fn generations(tx: &mut Tx<'_>, vault: VaultId) -> Result<Vec<GenerationUse>> {
    let sql = "SELECT g.generation, g.kid, CAST(CASE WHEN g.generation = v.generation THEN 1 ELSE 0 END AS BIGINT) \
               FROM generations g JOIN vaults v ON v.id = g.vault_id WHERE g.vault_id = $1 ORDER BY g.generation DESC";
    let known =
        tx.all(sql, &[vault.0.into()], |row| Ok((row.get::<u32>(0)?, row.get::<String>(1)?, row.get::<bool>(2)?)))?;
    let mut used = Vec::with_capacity(known.len());
    for (generation, kid, current) in known {
        let slot = [vault.0.into(), i64::from(generation).into()];
        let under = "FROM data_keys d WHERE d.vault_id = $1 AND d.generation = $2";
        let data_keys = tx.count(&format!("SELECT COUNT(*) {under}"), &slot)?;
        let items = tx.count(&format!("SELECT COUNT(DISTINCT d.item_id) {under}"), &slot)?;
        let newest = "SELECT COUNT(*) FROM data_keys d JOIN items i ON i.id = d.item_id AND i.data_key_id = d.id \
                      WHERE d.vault_id = $1 AND d.generation = $2";
        let older = "SELECT COUNT(*) FROM data_keys d \
                     JOIN item_revisions r ON r.item_id = d.item_id AND r.data_key_id = d.id \
                     WHERE d.vault_id = $1 AND d.generation = $2";
        let revisions = tx.count(newest, &slot)? + tx.count(older, &slot)?;
        let retirable = !current && data_keys == 0;
        used.push(GenerationUse { generation, kid, current, data_keys, items, revisions, retirable });
    }
    Ok(used)
}

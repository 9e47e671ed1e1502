//! What nobody does but time and Azure do: credentials and keys come to their end, an outage lasts, a new key version
//! appears, protection is taken away. Looked for each minute; what is not so any more is marked as over.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};
use strongroom_envelope::Random;
use strongroom_keys::Kid;

use super::{Kind, NewNotice, Severity, raise};
use crate::{
    app::App,
    error::{Result, Unavailable},
    id::{NoticeId, VaultId, WorkspaceId},
    keyring::KeyWatch,
    store::Tx,
    vault::{self, Health, Vault},
};

/// Days before an end at which it is told.
const DAYS: [i64; 4] = [1, 7, 14, 30];
/// An outage that lasts longer than this is told; a shorter one is Azure's everyday.
const OUTAGE: SignedDuration = SignedDuration::from_mins(5);
/// Notices are kept this long.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 365);
/// The kinds that end when what they tell of is not so any more.
const ENDING: &str = "('credential.expiring', 'key.expiring', 'key.new_version', 'key.purge_protection_off', \
                      'key.rights_too_wide')";

impl App {
    /// Raises what is new, marks what is over, and drops what is a year old.
    pub async fn look_for_news(&self) -> Result<()> {
        let (keys, now) = (self.keys.clone(), self.clock.now());
        let vaults = self.store.read(move |tx| {
            let vaults = vault::of_all_workspaces(tx, &keys, now)?;
            let watched = vaults.into_iter().map(|(workspace, vault)| {
                let watch = KeyWatch::find(tx, vault.id)?;
                Ok((workspace, vault, watch))
            });
            watched.collect::<Result<Vec<_>>>()
        });
        let mut found = Found::default();
        for (workspace, vault, watch) in &vaults.await? {
            let looked = Looked { workspace: *workspace, vault, now, random: self.random.as_ref() };
            looked.outage(&mut found)?;
            looked.credential(&mut found)?;
            if let Some(watch) = watch {
                looked.key(watch, &mut found)?;
            }
        }
        let oldest = now - KEPT;
        // A write each minute for nothing is what this saves; `raise` and the database decide.
        let (fresh, over, has_old) = self
            .store
            .read(move |tx| {
                let old = tx.count("SELECT COUNT(*) FROM notices WHERE created_at < $1", &[oldest.into()])?;
                Ok((found.fresh(tx)?, found.over(tx)?, old > 0))
            })
            .await?;
        if fresh.is_empty() && over.is_empty() && !has_old {
            return Ok(());
        }
        self.store
            .write(move |tx| {
                for new in &fresh {
                    raise(tx, new)?;
                }
                for id in &over {
                    // It may be told anew, should it come back: what it was known by is free.
                    let sql = "UPDATE notices SET over_at = $2, once = $3 WHERE id = $1 AND over_at IS NULL";
                    tx.execute(sql, &[id.0.into(), now.into(), (&id.to_string()).into()])?;
                }
                drop_old(tx, oldest)
            })
            .await
    }
}

fn drop_old(tx: &mut Tx<'_>, oldest: Timestamp) -> Result<()> {
    for table in ["deliveries", "notice_reads"] {
        let sql = format!("DELETE FROM {table} WHERE notice_id IN (SELECT id FROM notices WHERE created_at < $1)");
        tx.execute(&sql, &[oldest.into()])?;
    }
    tx.execute("DELETE FROM notices WHERE created_at < $1", &[oldest.into()]).map(drop)
}

/// What one look over all vaults found.
#[derive(Default)]
struct Found {
    news: Vec<NewNotice>,
    /// What is so now, told or not, by [`NewNotice::once`].
    standing: HashSet<String>,
    /// The vaults and kinds of which it is known what is so: of nothing else anything is over.
    known: HashSet<(VaultId, Kind)>,
}

impl Found {
    /// What was not told yet.
    fn fresh(&self, tx: &mut Tx<'_>) -> Result<Vec<NewNotice>> {
        let told = "SELECT COUNT(*) FROM notices WHERE workspace_id = $1 AND once = $2";
        let mut fresh = Vec::new();
        for new in &self.news {
            if tx.count(told, &[new.workspace.0.into(), (&new.once).into()])? == 0 {
                fresh.push(new.clone());
            }
        }
        Ok(fresh)
    }

    /// What was told and is not so any more.
    fn over(&self, tx: &mut Tx<'_>) -> Result<Vec<NoticeId>> {
        let sql = format!(
            "SELECT id, vault_id, kind, once FROM notices \
             WHERE over_at IS NULL AND vault_id IS NOT NULL AND kind IN {ENDING}"
        );
        let open = tx.all(&sql, &[], |row| {
            Ok((NoticeId(row.get(0)?), VaultId(row.get(1)?), row.parse::<Kind>(2)?, row.get::<String>(3)?))
        })?;
        let over = open
            .into_iter()
            .filter(|(_, vault, kind, once)| self.known.contains(&(*vault, *kind)) && !self.standing.contains(once));
        Ok(over.map(|(id, ..)| id).collect())
    }
}

/// One vault, looked at now.
struct Looked<'a> {
    workspace: WorkspaceId,
    vault: &'a Vault,
    now: Timestamp,
    random: &'a dyn Random,
}

impl Looked<'_> {
    fn credential(&self, found: &mut Found) -> Result<()> {
        // Without proven rows nothing is known.
        let Some(azure) = &self.vault.azure else { return Ok(()) };
        self.ending(Kind::CredentialExpiring, azure.credential_kind.word(), azure.credential_expires, found)
    }

    /// What Azure and the latest check say of the key.
    fn key(&self, watch: &KeyWatch, found: &mut Found) -> Result<()> {
        let Some(azure) = &self.vault.azure else { return Ok(()) };
        if watch.seen_at.is_some() {
            self.ending(Kind::KeyExpiring, "", watch.expires, found)?;
            let newer = watch.newest.as_deref().filter(|newest| !is_same(newest, &self.vault.kid));
            let newer = newer.map(|kid| (kid.rsplit('/').next().unwrap_or_default(), kid));
            self.state(Kind::KeyNewVersion, Severity::Info, newer, found)?;
        }
        if let Some(protected) = watch.purge_protected() {
            let off = (!protected).then_some(("", azure.vault_url.as_str()));
            self.state(Kind::PurgeProtectionOff, Severity::Warning, off, found)?;
        }
        if watch.checked_at.is_some() {
            let wide = watch.check_codes.iter().find(|code| code.starts_with("rights."));
            let wide = wide.map(|code| (code.as_str(), azure.client_id.as_str()));
            self.state(Kind::RightsTooWide, Severity::Warning, wide, found)?;
        }
        Ok(())
    }

    /// Something that is so or not: its code, and what tells one case of it from another.
    fn state(&self, kind: Kind, severity: Severity, so: Option<(&str, &str)>, found: &mut Found) -> Result<()> {
        found.known.insert((self.vault.id, kind));
        let Some((code, of)) = so else { return Ok(()) };
        let once = format!("{}:{}:{of}", kind.word(), self.vault.id);
        found.standing.insert(once.clone());
        found.news.push(self.notice(kind, severity, code, None, once)?);
        Ok(())
    }

    /// An end within the days that count; the nearest of them alone is told, if several have passed unseen.
    fn ending(&self, kind: Kind, code: &str, until: Option<Timestamp>, found: &mut Found) -> Result<()> {
        found.known.insert((self.vault.id, kind));
        let Some(until) = until else { return Ok(()) };
        let left = until.duration_since(self.now);
        let once = |days: i64| format!("{}:{}:{}:{days}", kind.word(), self.vault.id, until.as_millisecond());
        let mut passed: Vec<i64> =
            DAYS.into_iter().filter(|days| left <= SignedDuration::from_hours(24 * days)).collect();
        if left.is_negative() {
            passed.insert(0, 0);
        }
        found.standing.extend(passed.iter().map(|days| once(*days)));
        let Some(days) = passed.first().copied() else { return Ok(()) };
        let severity = if days <= 1 { Severity::Critical } else { Severity::Warning };
        found.news.push(self.notice(kind, severity, code, Some(until), once(days))?);
        Ok(())
    }

    fn outage(&self, found: &mut Found) -> Result<()> {
        let Health::Unavailable(why) = &self.vault.health else { return Ok(()) };
        if why.class != Unavailable::Outage || self.now.duration_since(why.since) < OUTAGE {
            return Ok(());
        }
        let kind = Kind::KeyUnhealthy;
        let once = format!("{}:{}:{}", kind.word(), self.vault.id, why.since.as_millisecond());
        found.news.push(self.notice(kind, Severity::Critical, &why.code, None, once)?);
        Ok(())
    }

    fn notice(
        &self,
        kind: Kind,
        severity: Severity,
        code: &str,
        until: Option<Timestamp>,
        once: String,
    ) -> Result<NewNotice> {
        Ok(NewNotice {
            id: NoticeId::generate(self.now, self.random)?,
            at: self.now,
            workspace: self.workspace,
            vault: Some(self.vault.id),
            job: None,
            kind,
            severity,
            code: code.to_owned(),
            until,
            once,
        })
    }
}

/// Whether two kids name the same key version; what cannot be read is not told of.
fn is_same(newest: &str, in_use: &str) -> bool {
    match (newest.parse::<Kid>(), in_use.parse::<Kid>()) {
        (Ok(newest), Ok(in_use)) => newest.same_key_version(&in_use),
        _ => true,
    }
}

//! What nobody does but time does: credentials and keys come to their end, an outage lasts. Looked for each minute.

use jiff::{SignedDuration, Timestamp};
use strongroom_envelope::Random;

use super::{Kind, NewNotice, Severity, raise};
use crate::{
    app::App,
    error::{Result, Unavailable},
    id::{NoticeId, WorkspaceId},
    vault::{self, Health, Vault},
};

/// Days before an end at which it is told.
const DAYS: [i64; 4] = [1, 7, 14, 30];
/// An outage that lasts longer than this is told; a shorter one is Azure's everyday.
const OUTAGE: SignedDuration = SignedDuration::from_mins(5);
/// Notices are kept this long.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 365);

impl App {
    /// Raises what is new, and drops what is a year old.
    pub async fn look_for_news(&self) -> Result<()> {
        let (keys, now) = (self.keys.clone(), self.clock.now());
        let vaults = self.store.read(move |tx| vault::of_all_workspaces(tx, &keys, now)).await?;
        let mut news = Vec::new();
        for (workspace, vault) in &vaults {
            let told = Told { workspace: *workspace, vault, now, random: self.random.as_ref() };
            news.extend(told.credential()?);
            news.extend(told.outage()?);
        }
        let oldest = now - KEPT;
        // A write each minute for nothing is what this saves; `raise` and the database decide.
        let (news, has_old) = self
            .store
            .read(move |tx| {
                let told = "SELECT COUNT(*) FROM notices WHERE workspace_id = $1 AND once = $2";
                let mut fresh = Vec::new();
                for new in &news {
                    if tx.count(told, &[new.workspace.0.into(), (&new.once).into()])? == 0 {
                        fresh.push(new.clone());
                    }
                }
                let old = tx.count("SELECT COUNT(*) FROM notices WHERE created_at < $1", &[oldest.into()])?;
                Ok((fresh, old > 0))
            })
            .await?;
        if news.is_empty() && !has_old {
            return Ok(());
        }
        self.store
            .write(move |tx| {
                for new in &news {
                    raise(tx, new)?;
                }
                for table in ["deliveries", "notice_reads"] {
                    let sql = format!(
                        "DELETE FROM {table} WHERE notice_id IN (SELECT id FROM notices WHERE created_at < $1)"
                    );
                    tx.execute(&sql, &[oldest.into()])?;
                }
                tx.execute("DELETE FROM notices WHERE created_at < $1", &[oldest.into()]).map(drop)
            })
            .await
    }
}

/// What there is to tell of one vault now.
struct Told<'a> {
    workspace: WorkspaceId,
    vault: &'a Vault,
    now: Timestamp,
    random: &'a dyn Random,
}

impl Told<'_> {
    fn credential(&self) -> Result<Option<NewNotice>> {
        let Some(azure) = &self.vault.azure else { return Ok(None) };
        self.ending(Kind::CredentialExpiring, azure.credential_kind.word(), azure.credential_expires)
    }

    /// An end within the days that count; the nearest of them alone, if several have passed unseen.
    fn ending(&self, kind: Kind, code: &str, until: Option<Timestamp>) -> Result<Option<NewNotice>> {
        let Some(until) = until else { return Ok(None) };
        let left = until.duration_since(self.now);
        let ended = left.is_negative();
        let Some(days) = DAYS.into_iter().find(|days| left <= SignedDuration::from_hours(24 * days)) else {
            return Ok(None);
        };
        let days = if ended { 0 } else { days };
        let severity = if days <= 1 { Severity::Critical } else { Severity::Warning };
        let once = format!("{}:{}:{}:{days}", kind.word(), self.vault.id, until.as_millisecond());
        self.new(kind, severity, code, Some(until), once).map(Some)
    }

    fn outage(&self) -> Result<Option<NewNotice>> {
        let Health::Unavailable(why) = &self.vault.health else { return Ok(None) };
        if why.class != Unavailable::Outage || self.now.duration_since(why.since) < OUTAGE {
            return Ok(None);
        }
        let kind = Kind::KeyUnhealthy;
        let once = format!("{}:{}:{}", kind.word(), self.vault.id, why.since.as_millisecond());
        self.new(kind, Severity::Critical, &why.code, None, once).map(Some)
    }

    fn new(
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

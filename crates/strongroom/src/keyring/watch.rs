//! What the provider says of each key, looked at every minute: its newest key version, size, dates, whether it can be
//! recovered. And how the unwraps of the last thirty days went, by the minute. Nothing that is found here purges.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use strongroom_keys::{KeyDescription, Kid};
use uuid::Uuid;

use super::{Fingerprint, Keyring, ProviderRow, canary::guarded, governor::Share, record::external_keys};
use crate::{
    audit::{Actor, Event, Target},
    error::Result,
    id::{EventId, VaultId},
    store::{Row, Tx},
};

/// Between two looks at a key.
pub const LOOK_PAUSE: Duration = Duration::from_secs(60);
/// A look of another node this young is as good as one's own.
const YOUNG: SignedDuration = SignedDuration::from_secs(45);
/// What a look waits for Azure.
const LOOK_DEADLINE: Duration = Duration::from_secs(4);
/// Looks that are under way at the same time.
const TOGETHER: usize = 8;
/// Rows read in one go.
const PAGE: u32 = 200;
/// How long samples are kept.
const KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);
const MINUTE_MS: i64 = 60_000;

/// What is known of the key under which a vault's new wraps go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyWatch {
    /// The newest key version, as a kid. It and what follows is as it was at `seen_at`.
    pub newest: Option<String>,
    /// Azure's word, as in `RSA-HSM`.
    pub key_type: Option<String>,
    pub bits: Option<u32>,
    pub enabled: Option<bool>,
    pub expires: Option<Timestamp>,
    pub not_before: Option<Timestamp>,
    /// Azure's words, as in `Recoverable+Purgeable`.
    pub recovery_level: Option<String>,
    pub recoverable_days: Option<u32>,
    /// When the provider last described it; None before the first time.
    pub seen_at: Option<Timestamp>,
    /// When it was last asked to.
    pub asked_at: Timestamp,
    /// The code of the failure, where it did not answer that.
    pub error: Option<String>,
    /// Codes of the lines of the vault's latest check that warned or failed, as in `rights.wide`.
    pub check_codes: Vec<String>,
    pub checked_at: Option<Timestamp>,
}

impl KeyWatch {
    /// Whether nobody can purge the deleted key before its retention ends; None where that is not known.
    pub fn purge_protected(&self) -> Option<bool> {
        self.recovery_level.as_ref().map(|level| !level.contains("Purgeable"))
    }

    /// Whether the newest key version is another than the one that wraps a vault's key.
    pub fn is_newer_than(&self, in_use: &str) -> bool {
        let newest = self.newest.as_deref().and_then(|newest| newest.parse::<Kid>().ok());
        newest.zip(in_use.parse().ok()).is_some_and(|(newest, in_use)| !newest.same_key_version(&in_use))
    }

    /// What is known of a vault's key.
    pub(crate) fn find(tx: &mut Tx<'_>, vault: VaultId) -> Result<Option<Self>> {
        tx.first(
            "SELECT newest_kid, key_type, bits, enabled, expires_at, not_before, recovery_level, recoverable_days, \
                    seen_at, asked_at, error, check_codes, checked_at FROM key_watch WHERE vault_id = $1",
            &[vault.0.into()],
            Self::read,
        )
    }

    fn read(row: &Row<'_>) -> Result<Self> {
        let number =
            |column| Ok::<_, crate::error::Error>(row.get::<Option<i64>>(column)?.and_then(|n| n.try_into().ok()));
        let codes: Option<String> = row.get(11)?;
        Ok(Self {
            newest: row.get(0)?,
            key_type: row.get(1)?,
            bits: number(2)?,
            enabled: row.get::<Option<i64>>(3)?.map(|enabled| enabled != 0),
            expires: row.get(4)?,
            not_before: row.get(5)?,
            recovery_level: row.get(6)?,
            recoverable_days: number(7)?,
            seen_at: row.get(8)?,
            asked_at: row.get(9)?,
            error: row.get(10)?,
            check_codes: codes.unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
            checked_at: row.get(12)?,
        })
    }

    /// Notes what a check of the vault warned of or failed at.
    pub(crate) fn put_check(tx: &mut Tx<'_>, vault: VaultId, codes: &[&str], now: Timestamp) -> Result<()> {
        tx.execute(
            "INSERT INTO key_watch (vault_id, asked_at, check_codes, checked_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (vault_id) DO UPDATE SET check_codes = excluded.check_codes, \
                                                  checked_at = excluded.checked_at",
            &[vault.0.into(), 0i64.into(), (&codes.join(" ")).into(), now.into()],
        )?;
        Ok(())
    }
}

/// A key, and the vaults whose new wraps go under it through the same credential.
struct Looked {
    vaults: Vec<(ProviderRow, String)>,
}

/// What one look found.
enum Found {
    Key(Box<KeyDescription>),
    Failure(&'static str),
}

impl Keyring {
    pub(super) async fn look_at_keys(&self) {
        loop {
            if let Err(error) = guarded(self.look_round()).await {
                tracing::warn!(%error, "the keys could not be looked at");
            }
            tokio::select! {
                () = self.clock.sleep(LOOK_PAUSE) => {}
                () = self.governor.rotated.notified() => {}
            }
        }
    }

    /// Looks once at each key that no node has looked at lately.
    pub async fn look_round(&self) -> Result<()> {
        let looks = self.due_looks().await?.into_iter().map(|key| guarded(self.look(key)));
        let outcomes: Vec<_> = stream::iter(looks).buffer_unordered(TOGETHER).collect().await;
        outcomes.into_iter().collect()
    }

    async fn due_looks(&self) -> Result<Vec<Looked>> {
        let mut keys: HashMap<(Fingerprint, String, String), Looked> = HashMap::new();
        let mut after = VaultId(Uuid::nil());
        loop {
            let instance = self.keys.clone();
            let page = self.store.read(move |tx| external_keys(tx, &instance, after, PAGE)).await?;
            let is_last = page.len() < PAGE as usize;
            for (vault, found) in page {
                after = vault;
                let Some((row, in_use)) = found else { continue };
                let id = (self.fingerprint(&row), row.vault_url.clone(), row.key_name.clone());
                keys.entry(id).or_insert_with(|| Looked { vaults: Vec::new() }).vaults.push((row, in_use));
            }
            if is_last {
                break;
            }
        }
        let asked = self.store.read(|tx| {
            let row = |row: &Row<'_>| Ok((VaultId(row.get(0)?), row.get::<Timestamp>(1)?));
            tx.all("SELECT vault_id, asked_at FROM key_watch", &[], row)
        });
        let asked: HashMap<VaultId, Timestamp> = asked.await?.into_iter().collect();
        let now = self.clock.now();
        // A look from the future is from before a clock was set back.
        let is_young =
            |vault: &VaultId| asked.get(vault).is_some_and(|at| *at <= now && now.duration_since(*at) < YOUNG);
        let is_due =
            |key: &Looked| key.vaults.iter().any(|(row, _)| !is_young(&row.vault) || self.governor.is_stale(row));
        Ok(keys.into_values().filter(is_due).collect())
    }

    async fn look(&self, key: Looked) -> Result<()> {
        let Some((first, _)) = key.vaults.first() else { return Ok(()) };
        let provider = self.provider_for(first, Share::Canary)?;
        let found = match provider.describe(LOOK_DEADLINE).await {
            Ok((described, _)) => Found::Key(Box::new(described)),
            Err(failure) => Found::Failure(failure.code.as_str()),
        };
        let now = self.clock.now();
        let mut rows = Vec::new();
        for (row, in_use) in key.vaults {
            rows.push((row.vault, self.new_version_event(&row, &found, &in_use)?, in_use));
        }
        self.store
            .write(move |tx| {
                for (vault, event, in_use) in &rows {
                    put_look(tx, *vault, &found, now, in_use, event.as_ref())?;
                }
                Ok(())
            })
            .await
    }

    /// To be recorded should the key version be news.
    fn new_version_event(&self, row: &ProviderRow, found: &Found, in_use: &str) -> Result<Option<Event>> {
        let Found::Key(described) = found else { return Ok(None) };
        let at = self.clock.now();
        Ok(Some(Event {
            id: EventId::generate(at, self.random.as_ref())?,
            at,
            workspace: Some(row.workspace),
            actor: Actor::System,
            action: "key.new_version",
            target: Target::Vault(row.vault),
            detail: vec![("kid", described.kid.to_string().into()), ("in_use", in_use.into())],
        }))
    }

    /// Writes what was collected of the minutes gone by, every minute; drops what is too old, every hour.
    pub(super) async fn keep_samples(&self) {
        for minute in 0u64.. {
            self.clock.sleep(LOOK_PAUSE).await;
            let work = async {
                self.write_samples().await?;
                if minute % 60 == 0 { self.drop_old_samples().await } else { Ok(()) }
            };
            if let Err(error) = guarded(work).await {
                tracing::warn!(%error, "how the keys answered could not be written");
            }
        }
    }

    /// Writes the samples of the minutes that have ended.
    pub async fn write_samples(&self) -> Result<()> {
        let samples = self.governor.samples.take_before(self.clock.now());
        if samples.is_empty() {
            return Ok(());
        }
        self.store
            .write(move |tx| samples.iter().try_for_each(|((vault, minute), sample)| sample.add(tx, *vault, *minute)))
            .await
    }

    async fn drop_old_samples(&self) -> Result<()> {
        let oldest = minute_of(self.clock.now() - KEPT);
        self.store
            .write(move |tx| {
                tx.execute("DELETE FROM key_samples WHERE minute < $1", &[oldest.into()])?;
                tx.execute("DELETE FROM key_samples WHERE vault_id NOT IN (SELECT id FROM vaults)", &[])?;
                tx.execute("DELETE FROM key_watch WHERE vault_id NOT IN (SELECT id FROM vaults)", &[]).map(drop)
            })
            .await
    }
}

/// Writes what a look found. A key version that no look has found before is an event, whichever node saw it first.
fn put_look(
    tx: &mut Tx<'_>,
    vault: VaultId,
    found: &Found,
    now: Timestamp,
    in_use: &str,
    event: Option<&Event>,
) -> Result<()> {
    let described = match found {
        Found::Key(described) => described,
        Found::Failure(code) => {
            tx.execute(
                "INSERT INTO key_watch (vault_id, asked_at, error) VALUES ($1, $2, $3) \
                 ON CONFLICT (vault_id) DO UPDATE SET asked_at = excluded.asked_at, error = excluded.error",
                &[vault.0.into(), now.into(), (*code).into()],
            )?;
            return Ok(());
        }
    };
    let sql = "SELECT newest_kid FROM key_watch WHERE vault_id = $1";
    let before = tx.first_locked(sql, &[vault.0.into()], |row| row.get::<Option<String>>(0))?.flatten();
    let known = before.as_deref().unwrap_or(in_use);
    let same = known.parse::<Kid>().is_ok_and(|known| known.same_key_version(&described.kid));
    if let Some(event) = event.filter(|_| !same) {
        tx.record(event)?;
    }
    tx.execute(
        "INSERT INTO key_watch (vault_id, newest_kid, key_type, bits, enabled, expires_at, not_before, recovery_level, \
                                recoverable_days, seen_at, asked_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10) \
         ON CONFLICT (vault_id) DO UPDATE SET newest_kid = excluded.newest_kid, key_type = excluded.key_type, \
             bits = excluded.bits, enabled = excluded.enabled, expires_at = excluded.expires_at, \
             not_before = excluded.not_before, recovery_level = excluded.recovery_level, \
             recoverable_days = excluded.recoverable_days, seen_at = excluded.seen_at, asked_at = excluded.asked_at, \
             error = NULL",
        &[
            vault.0.into(),
            (&described.kid.to_string()).into(),
            (&described.key_type.to_string()).into(),
            described.bits.map(i64::from).into(),
            described.enabled.into(),
            described.expires.into(),
            described.not_before.into(),
            described.recovery_level.as_deref().into(),
            described.recoverable_days.map(i64::from).into(),
            now.into(),
        ],
    )?;
    Ok(())
}

/// How the unwraps of one minute went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySample {
    /// When the minute began.
    pub minute: Timestamp,
    pub ok: u64,
    pub failed: u64,
    /// Of all of them together, and of the slowest.
    pub latency_ms_sum: u64,
    pub latency_ms_max: u64,
}

impl KeySample {
    /// Of the key that wraps a vault's key, since `from`: the samples of all vaults under that key, since they have one
    /// canary between them.
    pub(crate) fn of_key(tx: &mut Tx<'_>, row: &ProviderRow, from: Timestamp) -> Result<Vec<Self>> {
        tx.all(
            "SELECT s.minute, CAST(SUM(s.ok) AS BIGINT), CAST(SUM(s.failed) AS BIGINT), \
                    CAST(SUM(s.latency_ms_sum) AS BIGINT), CAST(MAX(s.latency_ms_max) AS BIGINT) \
             FROM key_samples s WHERE s.minute >= $4 AND s.vault_id IN \
                 (SELECT p.vault_id FROM providers p WHERE p.tenant_id = $1 AND p.vault_url = $2 AND p.key_name = $3) \
             GROUP BY s.minute ORDER BY s.minute",
            &[(&row.tenant_id).into(), (&row.vault_url).into(), (&row.key_name).into(), minute_of(from).into()],
            |row| {
                let minute = row.get::<i64>(0)?.saturating_mul(MINUTE_MS);
                Ok(Self {
                    minute: Timestamp::from_millisecond(minute).unwrap_or(Timestamp::UNIX_EPOCH),
                    ok: row.get(1)?,
                    failed: row.get(2)?,
                    latency_ms_sum: row.get(3)?,
                    latency_ms_max: row.get(4)?,
                })
            },
        )
    }
}

/// Unwraps since the process started.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct UnwrapTotals {
    pub ok: u64,
    pub failed: u64,
    /// Of all of them together.
    pub latency_ms: u64,
}

/// How the unwraps of this process went: in all, and by the minute what is not written yet.
#[derive(Default)]
pub(super) struct Samples(Mutex<Collected>);

#[derive(Default)]
struct Collected {
    totals: UnwrapTotals,
    unwritten: HashMap<(VaultId, i64), Sample>,
}

#[derive(Default, Clone, Copy)]
pub(super) struct Sample {
    ok: u64,
    failed: u64,
    sum: u64,
    max: u64,
}

impl Samples {
    pub fn add(&self, vault: VaultId, at: Timestamp, worked: bool, latency: Duration) {
        let latency = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        let mut collected = self.collected();
        let totals = &mut collected.totals;
        if worked {
            totals.ok += 1
        } else {
            totals.failed += 1
        }
        totals.latency_ms = totals.latency_ms.saturating_add(latency);
        let sample = collected.unwritten.entry((vault, minute_of(at))).or_default();
        if worked {
            sample.ok += 1
        } else {
            sample.failed += 1
        }
        sample.sum = sample.sum.saturating_add(latency);
        sample.max = sample.max.max(latency);
    }

    pub fn totals(&self) -> UnwrapTotals {
        self.collected().totals
    }

    /// The samples of the minutes that ended before `now`, taken out.
    fn take_before(&self, now: Timestamp) -> Vec<((VaultId, i64), Sample)> {
        let current = minute_of(now);
        self.collected().unwritten.extract_if(|(_, minute), _| *minute != current).collect()
    }

    fn collected(&self) -> MutexGuard<'_, Collected> {
        self.0.lock().expect("no holder panics")
    }
}

impl Sample {
    /// Adds to what other nodes wrote of the same minute.
    fn add(&self, tx: &mut Tx<'_>, vault: VaultId, minute: i64) -> Result<()> {
        tx.execute(
            "INSERT INTO key_samples (vault_id, minute, ok, failed, latency_ms_sum, latency_ms_max) \
             VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (vault_id, minute) DO UPDATE SET ok = key_samples.ok + excluded.ok, \
                 failed = key_samples.failed + excluded.failed, \
                 latency_ms_sum = key_samples.latency_ms_sum + excluded.latency_ms_sum, \
                 latency_ms_max = CASE WHEN excluded.latency_ms_max > key_samples.latency_ms_max \
                                       THEN excluded.latency_ms_max ELSE key_samples.latency_ms_max END",
            &[vault.0.into(), minute.into(), self.ok.into(), self.failed.into(), self.sum.into(), self.max.into()],
        )?;
        Ok(())
    }
}

/// Minutes since 1970.
fn minute_of(at: Timestamp) -> i64 {
    at.as_millisecond().div_euclid(MINUTE_MS)
}

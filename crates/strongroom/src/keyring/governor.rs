//! How much this node asks of each Key Vault, and who may ask when.
//!
//! Azure limits operations per Key Vault in windows of ten seconds, by the size of the key. Everything that this node asks
//! is counted here over a sliding window, which no ten seconds of Azure's can exceed. Canaries never wait: a share is set
//! aside for them. Readers wait while the rest is used up, no longer than their deadline. Jobs together take at most half,
//! and nothing while readers need the room or after Azure has said "too many".
//! Source: learn.microsoft.com/azure/key-vault/general/service-limits.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use strongroom_envelope::WrapRecord;
use strongroom_keys::{
    Code, KeyDescription, KeyFailure, KeyProvider, KeyType, Kid, Operation, Receipt, Receipts, Step, TokenUse,
    Unwrapped, Wrapped,
};
use tokio::{sync::Notify, time::Instant};

use super::{
    Keyring, ProviderRow, Strategy,
    watch::{Samples, UnwrapTotals},
};
use crate::{clock::Clock, error::Result, id::VaultId};

/// Azure's window.
const WINDOW: Duration = Duration::from_secs(10);
/// One Key Vault's limit, in the units that keys of every size divide.
const CAPACITY: u32 = 4000;
/// Set aside for canaries and the watch: readers leave it free.
const FOR_CANARIES: u32 = CAPACITY / 10;
/// What jobs leave free for readers, beside the canaries' share.
const FOR_READERS: u32 = CAPACITY / 10;
/// All that jobs may take together.
const FOR_JOBS: u32 = CAPACITY / 2;
/// Operations in a window, where nothing is known of the key: RSA-4096 in software.
const ASSUMED: u32 = 500;
/// The pause of jobs after a 429 that names none, doubled from one to the next as often as four times.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// What a broken gateway asks for may be any number.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// What this node has asked of the Key Vault that holds a key, in operations on that key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// In the window that ends now, by readers, canaries and jobs alike.
    pub used: u32,
    /// What jobs were granted of the window.
    pub jobs: u32,
    /// Azure's limit for the Key Vault.
    pub limit: u32,
    pub window_seconds: u32,
}

/// Whose operation it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    Canary,
    /// Readers, and jobs that had their turn.
    Others,
}

/// Shared by the keyring and all providers that it hands out.
pub(super) struct Governor {
    clock: Arc<dyn Clock>,
    /// By the host of the Key Vault.
    meters: Mutex<HashMap<String, Meter>>,
    pub(super) samples: Samples,
    /// An answer named a newer key version than the one known.
    pub(super) rotated: Notify,
}

/// One Key Vault.
#[derive(Default)]
struct Meter {
    asked: Window,
    granted: Window,
    /// Operations in a window, by key name.
    limits: HashMap<String, u32>,
    /// The newest key version known, by key name.
    newest: HashMap<String, Kid>,
    /// Keys that the watch has not seen since they were rotated.
    stale: HashSet<String>,
    /// No job before this, since boot.
    jobs_from: Duration,
    /// 429s in a row.
    refusals: u32,
}

/// Units spent, and when, since boot.
#[derive(Default)]
struct Window {
    spent: VecDeque<(Duration, u32)>,
    sum: u32,
}

impl Keyring {
    /// Waits until a job may do so many key operations at the provider. Ask before each piece of work, for all that it takes.
    pub(crate) async fn job_turn(&self, provider: &ProviderRow, operations: u32) -> Result<()> {
        if provider.strategy == Strategy::Cloud {
            return Ok(());
        }
        while let Some(pause) = self.governor.grant(provider, operations) {
            self.clock.sleep(pause).await;
        }
        Ok(())
    }

    /// What is used of the quota of the Key Vault behind a provider.
    pub fn quota(&self, provider: &ProviderRow) -> Quota {
        self.governor.quota(provider)
    }

    /// The same of every Key Vault that this node has asked, by Vault URL: in operations on its largest key.
    pub fn quotas(&self) -> Vec<(String, Quota)> {
        self.governor.quotas()
    }

    /// All unwraps that this node has asked Azure for.
    pub fn unwrap_totals(&self) -> UnwrapTotals {
        self.governor.samples.totals()
    }

    /// Counts what a check, or the making of a vault, asks beside the keyring.
    pub(crate) fn count_check(&self, provider: &ProviderRow, operations: u32) {
        self.governor.count(&provider.vault_url, &provider.key_name, operations);
    }
}

impl Governor {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, meters: Mutex::default(), samples: Samples::default(), rotated: Notify::new() }
    }

    /// Whether the watch has to look at a key at once, because another answer named a newer key version.
    pub fn is_stale(&self, row: &ProviderRow) -> bool {
        self.meters().get(&row.vault_url).is_some_and(|meter| meter.stale.contains(&row.key_name))
    }

    /// Notes how many operations a key's size allows.
    fn learn(&self, host: &str, key: &str, described: &KeyDescription) {
        let mut meters = self.meters();
        let meter = meters.entry(host.to_owned()).or_default();
        meter.limits.insert(key.to_owned(), allowed(&described.key_type, described.bits));
    }

    /// None when the job may go on, else how long to wait before asking again.
    fn grant(&self, row: &ProviderRow, operations: u32) -> Option<Duration> {
        let now = self.clock.since_boot();
        let mut meters = self.meters();
        let meter = meters.entry(row.vault_url.clone()).or_default();
        if now < meter.jobs_from {
            return Some(meter.jobs_from - now);
        }
        let cost = meter.cost(&row.key_name) * operations;
        meter.asked.forget(now);
        meter.granted.forget(now);
        // More than the whole share is granted alone, or it would wait for ever.
        let fits = meter.granted.sum + cost <= FOR_JOBS || meter.granted.sum == 0;
        if !fits {
            return Some(meter.granted.next(now));
        }
        let busy = meter.asked.sum > 0 && meter.asked.sum + cost > CAPACITY - FOR_CANARIES - FOR_READERS;
        if busy {
            return Some(meter.asked.next(now));
        }
        meter.granted.spend(now, cost);
        None
    }

    /// Counts an operation of `share` if there is room for it now; else how long to wait before asking again.
    fn admit(&self, host: &str, key: &str, share: Share) -> Option<Duration> {
        let now = self.clock.since_boot();
        let mut meters = self.meters();
        let meter = meters.entry(host.to_owned()).or_default();
        let cost = meter.cost(key);
        meter.asked.forget(now);
        if share == Share::Others && meter.asked.sum + cost > CAPACITY - FOR_CANARIES {
            return Some(meter.asked.next(now));
        }
        meter.asked.spend(now, cost);
        None
    }

    fn count(&self, host: &str, key: &str, operations: u32) {
        let now = self.clock.since_boot();
        let mut meters = self.meters();
        let meter = meters.entry(host.to_owned()).or_default();
        let cost = meter.cost(key) * operations;
        meter.asked.spend(now, cost);
    }

    /// Azure said 429: jobs hold back, for as long as it asks or twice as long as the time before.
    fn throttled(&self, host: &str, retry_after: Option<Duration>) {
        let now = self.clock.since_boot();
        let mut meters = self.meters();
        let meter = meters.entry(host.to_owned()).or_default();
        let pause = retry_after.unwrap_or_else(|| FIRST_PAUSE * 2u32.pow(meter.refusals.min(4)));
        meter.jobs_from = meter.jobs_from.max(now + pause.min(LONGEST_PAUSE));
        meter.refusals += 1;
    }

    fn answered(&self, host: &str) {
        let now = self.clock.since_boot();
        if let Some(meter) = self.meters().get_mut(host).filter(|meter| now >= meter.jobs_from) {
            meter.refusals = 0;
        }
    }

    fn quota(&self, row: &ProviderRow) -> Quota {
        let mut meters = self.meters();
        let meter = meters.entry(row.vault_url.clone()).or_default();
        let cost = meter.cost(&row.key_name);
        meter.quota(self.clock.since_boot(), cost)
    }

    fn quotas(&self) -> Vec<(String, Quota)> {
        let now = self.clock.since_boot();
        let mut meters = self.meters();
        let mut quotas: Vec<_> = (meters.iter_mut())
            .map(|(url, meter)| {
                let smallest = meter.limits.values().copied().min().unwrap_or(ASSUMED);
                (url.clone(), meter.quota(now, CAPACITY / smallest))
            })
            .collect();
        quotas.sort_by(|(url, _), (other, _)| url.cmp(other));
        quotas
    }

    /// Notes the newest key version, as an answer named it. News wakes the watch, unless it is the watch that asked.
    fn newest(&self, host: &str, key: &str, kid: &Kid, share: Share) {
        let mut meters = self.meters();
        let meter = meters.entry(host.to_owned()).or_default();
        let before = meter.newest.insert(key.to_owned(), kid.clone());
        if share == Share::Canary {
            meter.stale.remove(key);
        } else if before.is_some_and(|before| !before.same_key_version(kid)) {
            meter.stale.insert(key.to_owned());
            self.rotated.notify_one();
        }
    }

    fn meters(&self) -> MutexGuard<'_, HashMap<String, Meter>> {
        self.meters.lock().expect("no holder panics")
    }
}

impl Meter {
    fn quota(&mut self, now: Duration, cost: u32) -> Quota {
        self.asked.forget(now);
        self.granted.forget(now);
        Quota {
            used: self.asked.sum / cost,
            jobs: self.granted.sum / cost,
            limit: CAPACITY / cost,
            window_seconds: u32::try_from(WINDOW.as_secs()).expect("ten"),
        }
    }

    /// Units of one operation on a key.
    fn cost(&self, key: &str) -> u32 {
        CAPACITY / self.limits.get(key).copied().unwrap_or(ASSUMED)
    }
}

impl Window {
    fn spend(&mut self, now: Duration, units: u32) {
        self.forget(now);
        self.spent.push_back((now, units));
        self.sum += units;
    }

    fn forget(&mut self, now: Duration) {
        while let Some((at, units)) = self.spent.front()
            && *at + WINDOW <= now
        {
            self.sum -= units;
            self.spent.pop_front();
        }
    }

    /// Until there is more room than now.
    fn next(&self, now: Duration) -> Duration {
        let oldest = self.spent.front().map_or(now, |(at, _)| *at);
        (oldest + WINDOW).saturating_sub(now).max(Duration::from_millis(10))
    }
}

/// Operations other than making a key, in a window, for one Key Vault.
fn allowed(key_type: &KeyType, bits: Option<u32>) -> u32 {
    match (key_type, bits) {
        (KeyType::RsaHsm, Some(2048)) => 2000,
        (KeyType::RsaHsm, Some(3072)) => 500,
        (KeyType::RsaHsm, _) => 250,
        (_, Some(2048)) => 4000,
        (_, Some(3072)) => 1000,
        _ => ASSUMED,
    }
}

/// A provider whose every request is counted, and waits for its turn.
pub(super) struct Counted {
    inner: Arc<dyn KeyProvider>,
    governor: Arc<Governor>,
    share: Share,
    vault: VaultId,
    host: String,
    key: String,
}

impl Counted {
    pub fn new(inner: Arc<dyn KeyProvider>, governor: &Arc<Governor>, share: Share, row: &ProviderRow) -> Self {
        let (host, key) = (row.vault_url.clone(), row.key_name.clone());
        Self { inner, governor: Arc::clone(governor), share, vault: row.vault, host, key }
    }

    /// Waits for room; returns what is left of the deadline.
    async fn turn(&self, operation: Operation, deadline: Duration) -> std::result::Result<Duration, KeyFailure> {
        let end = Instant::now() + deadline;
        let room = async {
            while let Some(pause) = self.governor.admit(&self.host, &self.key, self.share) {
                self.governor.clock.sleep(pause).await;
            }
        };
        if tokio::time::timeout_at(end, room).await.is_err() {
            let detail = "this server has used up what Azure allows for this Key Vault in ten seconds, and waits";
            return Err(KeyFailure::new(Code::Throttled, operation, detail));
        }
        Ok(end.saturating_duration_since(Instant::now()))
    }

    /// Books what an answer took beside the request that was counted before, and what it says of the quota.
    fn book<T>(&self, answer: &std::result::Result<T, KeyFailure>, receipts: &[Receipt]) {
        let of_the_key =
            |step| matches!(step, Step::GetKey | Step::WrapKey | Step::UnwrapKey | Step::Sign | Step::Probe);
        let again = receipts.iter().filter(|receipt| of_the_key(receipt.step)).count().saturating_sub(1);
        self.governor.count(&self.host, &self.key, u32::try_from(again).unwrap_or(u32::MAX));
        match answer {
            Err(failure) if failure.code == Code::Throttled => {
                self.governor.throttled(&self.host, failure.retry_after);
            }
            _ => self.governor.answered(&self.host),
        }
    }

    fn sample(&self, receipts: &[Receipt], worked: bool) {
        let latency = receipts.last().map_or(Duration::ZERO, |receipt| receipt.latency);
        self.governor.samples.add(self.vault, self.governor.clock.now(), worked, latency);
    }
}

#[async_trait]
impl KeyProvider for Counted {
    async fn describe(&self, deadline: Duration) -> std::result::Result<(KeyDescription, Receipts), KeyFailure> {
        let left = self.turn(Operation::Describe, deadline).await?;
        let answer = self.inner.describe(left).await;
        let receipts = answer.as_ref().map_or_else(|failure| &failure.receipts, |(_, receipts)| receipts);
        self.book(&answer, receipts);
        if let Ok((described, _)) = &answer {
            self.governor.learn(&self.host, &self.key, described);
            self.governor.newest(&self.host, &self.key, &described.kid, self.share);
        }
        answer
    }

    async fn wrap_key(&self, record: &WrapRecord, deadline: Duration) -> std::result::Result<Wrapped, KeyFailure> {
        let left = self.turn(Operation::Wrap, deadline).await?;
        let answer = self.inner.wrap_key(record, left).await;
        let receipts = answer.as_ref().map_or_else(|failure| &failure.receipts, |wrapped| &wrapped.receipts);
        self.book(&answer, receipts);
        if let Ok(wrapped) = &answer {
            self.governor.newest(&self.host, &self.key, &wrapped.kid, self.share);
        }
        answer
    }

    async fn unwrap_key(
        &self,
        kid: &Kid,
        wrapped: &[u8],
        token: TokenUse,
        deadline: Duration,
    ) -> std::result::Result<Unwrapped, KeyFailure> {
        let left = self.turn(Operation::Unwrap, deadline).await?;
        let answer = self.inner.unwrap_key(kid, wrapped, token, left).await;
        let receipts = answer.as_ref().map_or_else(|failure| &failure.receipts, |unwrapped| &unwrapped.receipts);
        self.book(&answer, receipts);
        self.sample(receipts, answer.is_ok());
        answer
    }

    fn command(&self, failure: &KeyFailure, kid: Option<&Kid>) -> Option<String> {
        self.inner.command(failure, kid)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use strongroom_keys::KeyUrl;
    use uuid::Uuid;

    use super::*;
    use crate::{
        clock::ManualClock,
        id::{ProviderId, WorkspaceId},
        keyring::HeldCredential,
    };

    fn row(key: &str) -> ProviderRow {
        ProviderRow {
            id: ProviderId(Uuid::nil()),
            workspace: WorkspaceId(Uuid::nil()),
            vault: VaultId(Uuid::nil()),
            strategy: Strategy::AzureExternalKeys,
            tenant_id: String::new(),
            vault_url: "https://keys.vault.azure.net".into(),
            key_name: key.into(),
            credential: HeldCredential {
                id: Uuid::nil(),
                client_id: String::new(),
                kind: None,
                expires: None,
                sealed: Vec::new(),
            },
            previous: None,
            revision: 1,
        }
    }

    fn governor() -> (Governor, ManualClock) {
        let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
        (Governor::new(Arc::new(clock.clone())), clock)
    }

    fn admitted(governor: &Governor, share: Share) -> usize {
        let row = row("k");
        (0..1000).take_while(|_| governor.admit(&row.vault_url, &row.key_name, share).is_none()).count()
    }

    #[test]
    fn readers_leave_the_canaries_their_share_in_every_window() {
        let (governor, clock) = governor();
        assert_eq!(admitted(&governor, Share::Others), 450);
        assert_eq!(governor.admit("https://keys.vault.azure.net", "k", Share::Canary), None);
        clock.advance(Duration::from_millis(9_990));
        assert_eq!(admitted(&governor, Share::Others), 0);
        clock.advance(Duration::from_millis(10));
        assert_eq!(admitted(&governor, Share::Others), 450);
    }

    #[test]
    fn jobs_get_half_of_what_the_key_s_size_allows_and_nothing_while_readers_need_the_room() {
        let (governor, clock) = governor();
        let granted = |row: &ProviderRow| (0..1000).take_while(|_| governor.grant(row, 3).is_none()).count();
        assert_eq!(granted(&row("k")), 83, "249 of 500");
        assert_eq!(governor.quota(&row("k")).jobs, 249);
        clock.advance(WINDOW);
        let hsm = KeyDescription {
            kid: Kid::Azure(
                "https://keys.vault.azure.net/keys/h/0123456789abcdef0123456789abcdef"
                    .parse::<KeyUrl>()
                    .expect("a kid"),
            ),
            key_type: KeyType::RsaHsm,
            bits: Some(4096),
            operations: Vec::new(),
            enabled: true,
            not_before: None,
            expires: None,
            created: None,
            recovery_level: None,
            recoverable_days: None,
        };
        governor.learn(&row("h").vault_url, "h", &hsm);
        assert_eq!(granted(&row("h")), 41, "123 of 250");
        clock.advance(WINDOW);
        assert_eq!(admitted(&governor, Share::Others), 450);
        assert_eq!(granted(&row("k")), 0);
        clock.advance(WINDOW);
        assert_eq!(granted(&row("k")), 83);
    }

    #[test]
    fn a_429_stops_jobs_for_as_long_as_azure_asks_and_longer_each_time() {
        let (governor, clock) = governor();
        let row = row("k");
        governor.throttled(&row.vault_url, Some(Duration::from_secs(7)));
        assert_eq!(governor.grant(&row, 1), Some(Duration::from_secs(7)));
        clock.advance(Duration::from_secs(7));
        assert_eq!(governor.grant(&row, 1), None);
        governor.throttled(&row.vault_url, None);
        assert_eq!(governor.grant(&row, 1), Some(Duration::from_secs(2)));
        clock.advance(Duration::from_secs(2));
        governor.answered(&row.vault_url);
        governor.throttled(&row.vault_url, None);
        assert_eq!(governor.grant(&row, 1), Some(Duration::from_secs(1)));
    }
}

//! Vault keys in memory: leases, canaries, denials. The only place where an unwrapped vault key lives.
//!
//! A lease runs from the start of the unwrap that gave it, on boot time and on the wall clock, whichever ends first.
//! However many readers wait, one unwrap runs; it belongs to the keyring, so that a reader who gives up hurts nobody.
//! Canaries unwrap for real every [`CANARY_PAUSE`], so that a denial bites and ends within seconds.

mod canary;
mod credential;
mod governor;
mod held;
mod marks;
mod reanchor;
mod record;
mod renew;
pub mod request_ids;
mod rewrap;
mod rotate;
mod watch;

use std::{
    collections::{HashMap, HashSet},
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use jiff::Timestamp;
use strongroom_envelope::{InstanceKeys, Random, VaultKey, digest, read_wrap_record};
use strongroom_keys::{INTERACTIVE, KeyDescription, KeyProvider, Kid, TokenUse, Unwrapped, azure::AzureKeys};
use tokio::sync::broadcast;

pub(crate) use self::record::{
    POLICY_COLUMNS, RECORD_COLUMNS, connect_with, load_provider, policy_columns, proven, provider_columns,
    providers_of, record_columns,
};
pub use self::{
    canary::CANARY_PAUSE,
    credential::{CredentialKind, CredentialText},
    governor::Quota,
    reanchor::{LostVault, ProvenVault},
    record::{HeldCredential, KeyRecord, Policy, ProviderRow, Strategy, VaultState, connect, wrap_mac},
    watch::{KeySample, KeyWatch, UnwrapTotals},
};
use self::{
    canary::{Fingerprint, GroupId},
    governor::{Counted, Governor, Share},
    marks::{Mark, Stored},
    record::load,
    rewrap::Superseded,
};
pub(crate) use self::{
    reanchor::lost_vaults,
    renew::renew_vaults,
    rewrap::{REWRAP_OPERATIONS, Rewrapped},
    rotate::{DataKeyRow, ROTATE_OPERATIONS},
};
use crate::{
    audit::{Actor, Event, Fact, Target},
    clock::Clock,
    error::{Error, KeyUnavailable, Result, Unavailable},
    id::{EventId, LeaseId, NodeId, ProviderId, VaultId},
    store::Store,
};

/// How long the failure of an outage answers for new readers too, so that they do not all ask again.
const SHARED_FAILURE: Duration = Duration::from_secs(1);
/// How much longer than the unwrap itself whoever waits for it stays, so as to hear why it failed.
const GRACE: Duration = Duration::from_millis(500);

/// Every vault key that this process may use now, and why it may not use others.
pub struct Keyring {
    store: Arc<Store>,
    azure: Arc<AzureKeys>,
    keys: Arc<InstanceKeys>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    node: NodeId,
    state: Mutex<State>,
    governor: Arc<Governor>,
    /// Vaults that went dark or came back, for open pages.
    changes: broadcast::Sender<VaultId>,
}

/// A lease, without the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseState {
    pub generation: u32,
    /// When it ends on the wall clock, should it not be renewed.
    pub ends_at: Timestamp,
    /// Whether it was used since it began, so that it will be renewed.
    pub in_use: bool,
}

/// One generation of one vault.
type Slot = (VaultId, u32);
type Flight = Shared<BoxFuture<'static, std::result::Result<Arc<Lease>, Arc<Error>>>>;

#[derive(Default)]
struct State {
    leases: HashMap<Slot, Arc<Lease>>,
    flights: HashMap<Slot, Flight>,
    /// The last failure of an outage or fault, and when (since boot) it was.
    failures: HashMap<Slot, (Duration, Arc<Error>)>,
    /// The generations of vaults whose last answer was an outage or a fault, and which of the two.
    troubled: HashMap<VaultId, HashMap<u32, Unavailable>>,
    /// Outages and faults as rows of the database tell them.
    stored: HashMap<VaultId, Stored>,
    marks: HashMap<VaultId, Mark>,
    /// The rows that last passed their proof.
    proven: HashMap<Slot, Arc<KeyRecord>>,
    /// When (since boot) Entra first refused a credential; only a fresh sign-in takes it back.
    refused_since: HashMap<Fingerprint, Duration>,
    /// Of the credentials of providers, by id and revision.
    fingerprints: HashMap<ProviderId, (u64, Fingerprint)>,
    /// How many canaries each group has had, and how many outages in a row.
    turns: HashMap<GroupId, usize>,
    outages: HashMap<GroupId, u32>,
    /// The last time each vault's key answered.
    answered: HashMap<VaultId, Timestamp>,
    providers: HashMap<ProviderId, (u64, Arc<dyn KeyProvider>)>,
    /// The newest key version by tenant, Vault URL and key name, and when it was asked for.
    described: HashMap<(String, String, String), (Timestamp, KeyDescription)>,
    /// The superseded wrap that was looked at last, where the looking through stopped before the end.
    superseded_after: Option<Superseded>,
    /// Vaults that their managers switched off: no lease is given.
    disabled: HashSet<VaultId>,
    /// How often each vault was forgotten. An unwrap that began before the last time installs no lease.
    forgotten: HashMap<VaultId, u64>,
    /// The latest wall clock seen: one that jumps back ends every lease.
    latest: Option<Timestamp>,
}

impl State {
    /// Ends every lease of a vault.
    fn drop_leases(&mut self, vault: VaultId) {
        self.leases.retain(|(leased, _), lease| {
            let keep = *leased != vault;
            if !keep {
                lease.purged.store(true, Ordering::Release);
            }
            keep
        });
    }

    fn times_forgotten(&self, vault: VaultId) -> u64 {
        self.forgotten.get(&vault).copied().unwrap_or_default()
    }
}

/// An unwrapped vault key that may be used until it ends or is purged.
pub struct Lease {
    pub id: LeaseId,
    pub vault: VaultId,
    pub generation: u32,
    key: VaultKey,
    ends_wall: Timestamp,
    ends_boot: Duration,
    /// When the unwrap that gave it began, since boot.
    started: Duration,
    length: Duration,
    /// Whether it is renewed before it ends; a Cloud vault's key is unwrapped anew when it is next needed.
    renews: bool,
    purged: AtomicBool,
    used: AtomicBool,
    /// When a renewal was last tried, in milliseconds since boot.
    tried: AtomicU64,
}

impl Lease {
    /// The key, for wrapping and unwrapping data keys.
    pub fn vault_key(&self) -> &VaultKey {
        &self.key
    }

    /// Whether it was used since it began and less than one part of so many is left of it.
    fn is_due(&self, now: Duration, parts: u32) -> bool {
        self.renews && self.used.load(Ordering::Relaxed) && now + self.length / parts > self.ends_boot
    }

    /// True when no renewal was tried within a canary's pause.
    fn try_renewal(&self, now: Duration) -> bool {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (now, pause) = (millis(now), millis(CANARY_PAUSE));
        let again = |tried: u64| (tried == 0 || tried + pause <= now).then_some(now);
        self.tried.fetch_update(Ordering::Relaxed, Ordering::Relaxed, again).is_ok()
    }

    fn live(&self, clock: &dyn Clock) -> bool {
        !self.purged.load(Ordering::Acquire) && clock.since_boot() < self.ends_boot && clock.now() < self.ends_wall
    }
}

impl Keyring {
    pub fn new(
        store: Arc<Store>,
        azure: Arc<AzureKeys>,
        keys: Arc<InstanceKeys>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        node: NodeId,
    ) -> Self {
        let changes = broadcast::Sender::new(64);
        let governor = Arc::new(Governor::new(Arc::clone(&clock)));
        Self { store, azure, keys, clock, random, node, state: Mutex::default(), governor, changes }
    }

    /// The vault key of one generation, from memory or by one unwrap, however many ask at once.
    pub async fn lease(self: &Arc<Self>, vault: VaultId, generation: u32) -> Result<Arc<Lease>> {
        let slot = (vault, generation);
        let flight = {
            let mut state = self.state();
            self.notice_time(&mut state);
            if state.disabled.contains(&vault) {
                return Err(self.switched_off(vault, ""));
            }
            if let Some(mark) = state.marks.get(&vault) {
                return Err(Error::KeyUnavailable(Box::new(mark.explained())));
            }
            if let Some(lease) = state.leases.get(&slot).filter(|lease| lease.live(self.clock.as_ref())) {
                lease.used.store(true, Ordering::Relaxed);
                return Ok(Arc::clone(lease));
            }
            if let Some((at, error)) = state.failures.get(&slot)
                && self.clock.since_boot() < *at + SHARED_FAILURE
            {
                return Err(again(error));
            }
            match state.flights.get(&slot) {
                Some(flight) => flight.clone(),
                None => self.depart(&mut state, slot),
            }
        };
        match tokio::time::timeout(INTERACTIVE + GRACE, flight).await {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(error)) => Err(again(&error)),
            Err(_) => Err(self.too_slow(vault)),
        }
    }

    /// Before plaintext leaves: the lease it was opened under still stands. Refuses what a denial has overtaken.
    pub fn still_leased(&self, lease: &Lease) -> Result<()> {
        if lease.live(self.clock.as_ref()) {
            return Ok(());
        }
        let state = self.state();
        match state.marks.get(&lease.vault) {
            Some(mark) => Err(Error::KeyUnavailable(Box::new(mark.explained()))),
            None if state.disabled.contains(&lease.vault) => Err(self.switched_off(lease.vault, "")),
            None => Err(self.too_slow(lease.vault)),
        }
    }

    /// The same where work may outlast its lease: for one that ran out, the key is asked again if need be. One that was
    /// purged refuses.
    pub async fn leased_still_or_anew(self: &Arc<Self>, lease: &Lease) -> Result<()> {
        match self.still_leased(lease) {
            Ok(()) => Ok(()),
            Err(error) if lease.purged.load(Ordering::Acquire) => Err(error),
            Err(_) => self.lease(lease.vault, lease.generation).await.and_then(|anew| self.still_leased(&anew)),
        }
    }

    /// Ends the vault's leases and drops every row and provider known of it, on this node now and on the others, where its
    /// state says so, at their next look at the marks. Call it once the change is committed.
    pub(crate) fn forget(&self, vault: VaultId) {
        let mut state = self.state();
        *state.forgotten.entry(vault).or_default() += 1;
        state.disabled.remove(&vault);
        state.drop_leases(vault);
        state.flights.retain(|(flying, _), _| *flying != vault);
        state.failures.retain(|(failed, _), _| *failed != vault);
        let gone: Vec<ProviderId> =
            state.proven.values().filter(|record| record.vault == vault).map(|record| record.provider.id).collect();
        for provider in gone {
            state.providers.remove(&provider);
            if let Some((_, credential)) = state.fingerprints.remove(&provider) {
                state.refused_since.remove(&credential);
            }
        }
        state.proven.retain(|(proven, _), _| *proven != vault);
        drop(state);
        self.tell(vault);
    }

    /// Why the vault is dark, if it is.
    pub fn dark(&self, vault: VaultId) -> Option<KeyUnavailable> {
        self.state().marks.get(&vault).map(Mark::explained)
    }

    /// Notes that a vault's key has just answered outside of an unwrap of ours, as when the vault is made.
    pub fn note_answer(&self, vault: VaultId) {
        self.state().answered.insert(vault, self.clock.now());
    }

    /// When the vault's key last answered, as far as this process knows.
    pub fn last_answer(&self, vault: VaultId) -> Option<Timestamp> {
        self.state().answered.get(&vault).copied()
    }

    /// Where a vault's KEK is and how to get there, and which key version wraps the vault's key: proven to be what this
    /// instance wrote.
    pub async fn provider_row(&self, vault: VaultId, generation: u32) -> Result<(ProviderRow, Kid)> {
        let record = self.record(vault, generation).await?;
        Ok((record.provider.clone(), record.kid.clone()))
    }

    /// The same, with every key version of that key that wraps a generation of the vault's key, the current one's first.
    pub(crate) async fn key_in_use(&self, vault: VaultId, generation: u32) -> Result<(ProviderRow, Vec<Kid>)> {
        let (row, current) = self.provider_row(vault, generation).await?;
        let sql =
            "SELECT generation FROM generations WHERE vault_id = $1 AND generation <> $2 ORDER BY generation DESC";
        let older = self
            .store
            .read(move |tx| tx.all(sql, &[vault.0.into(), i64::from(generation).into()], |row| row.get::<u32>(0)))
            .await?;
        let mut kids = vec![current];
        for generation in older {
            match self.record(vault, generation).await {
                Ok(record) if kids.iter().all(|known| !known.same_key_version(&record.kid)) => {
                    kids.extend(Some(record.kid.clone()).filter(|kid| kid.same_key(&kids[0])));
                }
                // A generation whose rows fail their proof is told of by its canary.
                Ok(_) | Err(Error::Integrity { .. } | Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((row, kids))
    }

    /// The leases of a vault that run now, by generation.
    pub fn lease_states(&self, vault: VaultId) -> Vec<LeaseState> {
        let state = self.state();
        let of_vault = state.leases.values().filter(|lease| lease.vault == vault && lease.live(self.clock.as_ref()));
        let mut leases: Vec<_> = of_vault
            .map(|lease| LeaseState {
                generation: lease.generation,
                ends_at: lease.ends_wall,
                in_use: lease.used.load(Ordering::Relaxed),
            })
            .collect();
        leases.sort_by_key(|lease| lease.generation);
        leases
    }

    /// How many leases run now.
    pub fn leases(&self) -> usize {
        self.state().leases.values().filter(|lease| lease.live(self.clock.as_ref())).count()
    }

    /// Tells of vaults that went dark or came back.
    pub fn watch(&self) -> broadcast::Receiver<VaultId> {
        self.changes.subscribe()
    }

    /// Forgets the keys whose leases have ended.
    fn drop_lapsed(&self) {
        let clock = self.clock.as_ref();
        self.state().leases.retain(|_, lease| lease.live(clock));
    }

    /// Forgets every key, as at shutdown.
    pub fn purge_all(&self) {
        let mut state = self.state();
        for (_, lease) in state.leases.drain() {
            lease.purged.store(true, Ordering::Release);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// A wall clock that jumped back could stretch a lease: every lease ends.
    fn notice_time(&self, state: &mut State) {
        let now = self.clock.now();
        if state.latest.is_some_and(|latest| now < latest) {
            for (_, lease) in state.leases.drain() {
                lease.purged.store(true, Ordering::Release);
            }
        }
        state.latest = Some(now);
    }

    /// Starts the unwrap of a slot in a task of the keyring's own.
    fn depart(self: &Arc<Self>, state: &mut State, slot: Slot) -> Flight {
        let keyring = Arc::clone(self);
        let forgotten = state.times_forgotten(slot.0);
        let task = tokio::spawn(async move {
            let unwrap = AssertUnwindSafe(keyring.unwrap(slot, TokenUse::Cached, INTERACTIVE)).catch_unwind().await;
            let landed = unwrap.unwrap_or_else(|_| Err(Error::integrity("key.task", "an unwrap ended in a panic")));
            let landed = landed.map_err(Arc::new);
            let mut state = keyring.state();
            // A flight from before the vault was forgotten is not in the table any more; another may be in its place.
            if state.times_forgotten(slot.0) != forgotten {
                return landed;
            }
            state.flights.remove(&slot);
            if let Err(error) = &landed {
                let at = keyring.clock.since_boot();
                state.failures.insert(slot, (at, Arc::clone(error)));
            }
            landed
        });
        let flight = task
            .map(|joined| {
                joined.unwrap_or_else(|_| Err(Arc::new(Error::integrity("key.task", "an unwrap ended in a panic"))))
            })
            .boxed()
            .shared();
        state.flights.insert(slot, flight.clone());
        flight
    }

    /// One unwrap: read and prove the rows, ask the provider, record it, install the lease.
    async fn unwrap(&self, (vault, generation): Slot, token: TokenUse, deadline: Duration) -> Result<Arc<Lease>> {
        let forgotten = self.state().times_forgotten(vault);
        let record = self.record(vault, generation).await?;
        if record.policy.state == VaultState::Disabled {
            self.state().disabled.insert(vault);
            return Err(self.switched_off(vault, &record.vault_name));
        }
        let provider = self.provider(&record.provider)?;
        let started = (self.clock.now(), self.clock.since_boot());
        let answer = provider.unwrap_key(&record.kid, &record.wrapped, token, deadline).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => return Err(self.failed(&record, provider.as_ref(), failure, started.1).await),
        };
        let key = match read_wrap_record(&answer.record, &record.place()) {
            Ok(key) => key,
            Err(error) => return Err(self.faulty(&record, &error).await),
        };
        let lease = self.lease_of(&record, key, started)?;
        let event = self.unwrap_event(&record, Some(lease.id), &answer)?;
        self.store.write(move |tx| tx.record(&event)).await?;
        self.install(&record, lease, (started.1, forgotten), token).await
    }

    /// The wrap in use of one generation, and all that leads to it, proven.
    pub(crate) async fn record(&self, vault: VaultId, generation: u32) -> Result<Arc<KeyRecord>> {
        let keys = Arc::clone(&self.keys);
        let record = self.store.read(move |tx| load(tx, &keys, vault, generation)).await.map(Arc::new)?;
        self.state().proven.insert((vault, generation), Arc::clone(&record));
        Ok(record)
    }

    /// The provider that a row describes; kept while its row stays as it is, because it holds a token worth keeping. What
    /// it is asked counts, and waits while Azure's limit is used up.
    pub(crate) fn provider(&self, row: &ProviderRow) -> Result<Arc<dyn KeyProvider>> {
        self.provider_for(row, Share::Others)
    }

    fn provider_for(&self, row: &ProviderRow, share: Share) -> Result<Arc<dyn KeyProvider>> {
        let known = self.state().providers.get(&row.id).filter(|(revision, _)| *revision == row.revision).cloned();
        let provider = match known {
            Some((_, provider)) => provider,
            None => {
                let provider = connect(row, &self.azure, &self.keys, &self.random)?;
                self.state().providers.insert(row.id, (row.revision, Arc::clone(&provider)));
                provider
            }
        };
        Ok(match row.strategy {
            Strategy::Cloud => provider,
            Strategy::AzureExternalKeys => Arc::new(Counted::new(provider, &self.governor, share, row)),
        })
    }

    fn lease_of(&self, record: &KeyRecord, key: VaultKey, started: (Timestamp, Duration)) -> Result<Lease> {
        let length = Duration::from_secs(record.policy.lease_seconds.into());
        Ok(Lease {
            id: LeaseId::generate(started.0, self.random.as_ref())?,
            vault: record.vault,
            generation: record.generation,
            key,
            ends_wall: started.0 + length,
            ends_boot: started.1 + length,
            started: started.1,
            length,
            renews: record.provider.strategy == Strategy::AzureExternalKeys,
            purged: AtomicBool::new(false),
            used: AtomicBool::new(true),
            tried: AtomicU64::new(0),
        })
    }

    /// Installs a lease unless a denial, or word to forget the vault, is newer than the start of its unwrap.
    async fn install(
        &self,
        record: &KeyRecord,
        lease: Lease,
        (started, forgotten): (Duration, u64),
        token: TokenUse,
    ) -> Result<Arc<Lease>> {
        self.succeeded(&[record], started, token).await?;
        let mut state = self.state();
        if state.disabled.contains(&record.vault) {
            return Err(self.switched_off(record.vault, &record.vault_name));
        }
        if state.times_forgotten(record.vault) != forgotten {
            return Err(self.too_slow(record.vault));
        }
        if let Some(mark) = state.marks.get(&record.vault) {
            return Err(Error::KeyUnavailable(Box::new(mark.explained())));
        }
        let lease = Arc::new(lease);
        let slot = (record.vault, record.generation);
        state.failures.remove(&slot);
        state.leases.insert(slot, Arc::clone(&lease));
        Ok(lease)
    }

    /// A canary's unwrap replaces a lease past its half that was used since it began; an unused one lapses.
    async fn renew(
        &self,
        record: &KeyRecord,
        key: VaultKey,
        started: (Timestamp, Duration),
        answer: &Unwrapped,
    ) -> Result<()> {
        let slot = (record.vault, record.generation);
        if !self.state().leases.get(&slot).is_some_and(|lease| lease.is_due(started.1, 2)) {
            return Ok(());
        }
        let Some(before) = self.state().leases.get(&slot).cloned() else { return Ok(()) };
        let lease = self.lease_of(record, key, started)?;
        lease.used.store(false, Ordering::Relaxed);
        let event = self.unwrap_event(record, Some(lease.id), answer)?;
        self.store.write(move |tx| tx.record(&event)).await?;
        let mut state = self.state();
        // The lease that was there when this began is the one that it renews: one that is gone, or was followed by another,
        // was purged meanwhile by a denial or by word to forget the vault, and this key may not outlive that.
        let stands = state.leases.get(&slot).is_some_and(|lease| Arc::ptr_eq(lease, &before));
        if stands && !before.purged.load(Ordering::Acquire) && before.started <= started.1 {
            state.leases.insert(slot, Arc::new(lease));
        }
        Ok(())
    }

    /// Of an unwrap whose key is used: for a lease, or at once and only once.
    fn unwrap_event(&self, record: &KeyRecord, lease: Option<LeaseId>, answer: &Unwrapped) -> Result<Event> {
        let mut detail = record.facts();
        detail.extend(lease.map(|lease| ("lease", lease.0.into())));
        if let Some(receipt) = answer.receipts.last() {
            detail.push(("request", receipt.our_request_id.into()));
            detail.push(("ms", Fact::Number(u64::try_from(receipt.latency.as_millis()).unwrap_or(u64::MAX))));
            if let Some(id) = &receipt.azure_request_id {
                detail.push(("azure_request", id.as_str().into()));
            }
        }
        self.event(record, "key.unwrap", detail)
    }

    /// Writes down, before its key is used, an unwrap that gives no lease.
    pub(crate) async fn note_unwrap(&self, record: &KeyRecord, answer: &Unwrapped) -> Result<()> {
        let event = self.unwrap_event(record, None, answer)?;
        self.store.write(move |tx| tx.record(&event)).await
    }

    fn event(&self, record: &KeyRecord, action: &'static str, detail: Vec<(&'static str, Fact)>) -> Result<Event> {
        let at = self.clock.now();
        let id = EventId::generate(at, self.random.as_ref())?;
        let target = Target::Vault(record.vault);
        Ok(Event { id, at, workspace: Some(record.workspace), actor: Actor::System, action, target, detail })
    }

    fn switched_off(&self, vault: VaultId, vault_name: &str) -> Error {
        Error::vault_disabled(vault, vault_name, self.clock.now())
    }

    fn too_slow(&self, vault: VaultId) -> Error {
        let code = strongroom_keys::Code::Timeout;
        Error::KeyUnavailable(Box::new(KeyUnavailable {
            vault,
            vault_name: String::new(),
            class: Unavailable::Outage,
            code: code.as_str().into(),
            title: code.title().into(),
            detail: "The key's answer did not arrive while this request waited.".into(),
            fix: code.fix().into(),
            since: self.clock.now(),
            recoverable_until: None,
            azure_request_id: None,
        }))
    }
}

impl KeyRecord {
    /// What every key event says of the wrap it used.
    pub fn facts(&self) -> Vec<(&'static str, Fact)> {
        vec![
            ("generation", self.generation.into()),
            ("kid", self.kid.to_string().into()),
            ("wrap_digest", Fact::Bytes(digest(&self.wrapped).to_vec())),
        ]
    }
}

/// One failure told to several readers.
fn again(error: &Error) -> Error {
    match error {
        Error::KeyUnavailable(key) => Error::KeyUnavailable(key.clone()),
        Error::Store(error) => Error::Store(error.clone()),
        Error::NotFound(what) => Error::NotFound(what),
        Error::Integrity { code, what } => Error::Integrity { code, what: what.clone() },
        other => Error::integrity("key.unwrap", other.to_string()),
    }
}

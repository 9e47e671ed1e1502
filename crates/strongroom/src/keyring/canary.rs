//! Canaries: an unwrap of a live wrap for each credential and key version, for real, every few seconds, also while it is
//! denied, so that a withdrawal and its end are both noticed without a reader. However many vaults lie under one key
//! version, it is asked once a round; they take turns, and what a canary learns counts for all of them.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, stream};
use strongroom_envelope::{digest, read_wrap_record};
use strongroom_keys::{Class, TokenUse, routine};
use uuid::Uuid;

use super::{
    Keyring, ProviderRow, Slot, VaultState, governor::Share, marks::Failed, record::KeyRecord, record::load_in_use,
};
use crate::{
    error::{Error, Result},
    id::VaultId,
};

/// Between two canaries of a key version.
pub const CANARY_PAUSE: Duration = Duration::from_secs(5);
/// What a canary waits for Azure.
const CANARY_DEADLINE: Duration = Duration::from_secs(4);
/// Between two looks at the marks of other nodes.
const MARKS_PAUSE: Duration = Duration::from_secs(1);
/// Every so many rounds a canary signs in anew, so that a withdrawn credential shows within a minute.
const FRESH_EVERY: u64 = 12;
/// Canaries of one key version in one round: a success while it is dark is followed at once by the second that it needs.
const AT_ONCE: usize = 3;
/// Requests that are under way at the same time.
const TOGETHER: usize = 32;
/// Rows read in one go.
const PAGE: u32 = 200;
/// Outages in a row after which they count for every vault of the group: one is Azure's everyday.
const LASTING: u32 = 2;

/// What stands for a credential: a digest of tenant, application and secret.
pub(super) type Fingerprint = [u8; 32];
/// Which canary it is: whose credential, which key version.
pub(super) type GroupId = (Fingerprint, String);

/// The wraps that one canary speaks for.
struct Group {
    id: GroupId,
    /// Those that may be asked for: their rows passed their proof, unless none of the group's did.
    members: Vec<Arc<KeyRecord>>,
    /// The last known rows of wraps whose present ones fail their proof.
    spoilt: Vec<Arc<KeyRecord>>,
}

impl Keyring {
    /// Watches over the keys until the task is dropped. Nothing that one of its loops meets ends the others.
    pub async fn keep_watch(self: Arc<Self>) {
        let marks = async {
            loop {
                self.clock.sleep(MARKS_PAUSE).await;
                self.drop_lapsed();
                if let Err(error) = guarded(self.read_marks()).await {
                    tracing::warn!(%error, "the denial marks could not be read");
                }
            }
        };
        let canaries = async {
            for round in 0u64.. {
                let pause = self.clock.sleep(CANARY_PAUSE);
                let token = if round % FRESH_EVERY == 0 { TokenUse::Fresh } else { TokenUse::Cached };
                if let Err(error) = guarded(self.canary_round(token)).await {
                    tracing::warn!(%error, "a round of canaries failed");
                }
                pause.await;
            }
        };
        let renewals = async {
            loop {
                self.clock.sleep(MARKS_PAUSE).await;
                if let Err(error) = guarded(self.renew_leases()).await {
                    tracing::warn!(%error, "leases could not be renewed");
                }
            }
        };
        tokio::join!(marks, canaries, renewals, self.look_at_keys(), self.keep_samples());
    }

    /// One canary for each credential and key version that a wrap in use needs.
    pub async fn canary_round(self: &Arc<Self>, token: TokenUse) -> Result<()> {
        let groups = self.groups().await?;
        let canaries = groups.into_iter().map(|group| {
            let keyring = Arc::clone(self);
            async move { guarded(keyring.canary(&group, token)).await }
        });
        let outcomes: Vec<_> = stream::iter(canaries).buffer_unordered(TOGETHER).collect().await;
        for outcome in outcomes {
            match outcome {
                // What a canary finds is the vault's state, noted already.
                Ok(()) | Err(Error::KeyUnavailable(_)) => {}
                Err(Error::Store(error)) => return Err(error.into()),
                Err(error) => tracing::error!(%error, "a canary could not be sent"),
            }
        }
        Ok(())
    }

    /// All wraps in use, by who asks which key version. A disabled vault has no canary: its key is not used.
    async fn groups(&self) -> Result<Vec<Group>> {
        let mut groups: HashMap<GroupId, Group> = HashMap::new();
        let mut by_vault: HashMap<VaultId, Vec<Arc<KeyRecord>>> = HashMap::new();
        let mut after = (VaultId(Uuid::nil()), 0);
        loop {
            let keys = Arc::clone(&self.keys);
            let page = self.store.read(move |tx| load_in_use(tx, &keys, after, PAGE)).await?;
            let is_last = page.len() < PAGE as usize;
            for (vault, generation, found) in page {
                after = (vault, generation);
                let (record, is_proven) = match found {
                    Ok(record) => (Arc::new(record), true),
                    // Rows that fail their proof must not blind the canary: it goes on with those it last saw.
                    Err(error) => match self.last_proven(vault, generation, error).await {
                        Ok(record) => (record, false),
                        Err(error) => {
                            tracing::error!(%vault, %error, "a canary could not be sent");
                            continue;
                        }
                    },
                };
                if record.policy.state == VaultState::Disabled {
                    continue;
                }
                if is_proven {
                    self.state().proven.insert((vault, generation), Arc::clone(&record));
                }
                by_vault.entry(vault).or_default().push(Arc::clone(&record));
                let id = (self.fingerprint(&record.provider), record.kid.to_string());
                let empty = || Group { id: id.clone(), members: Vec::new(), spoilt: Vec::new() };
                let group = groups.entry(id.clone()).or_insert_with(empty);
                if is_proven { group.members.push(record) } else { group.spoilt.push(record) }
            }
            if is_last {
                break;
            }
        }
        self.drop_stale_marks(&by_vault).await?;
        Ok(groups.into_values().collect())
    }

    async fn canary(self: &Arc<Self>, group: &Group, token: TokenUse) -> Result<()> {
        // A cached token says nothing of a credential that Entra has refused.
        let token = if self.credential_in_doubt(group.id.0, &group.all()) { TokenUse::Fresh } else { token };
        for _ in 0..AT_ONCE {
            if self.canary_once(group, token).await? {
                break;
            }
        }
        Ok(())
    }

    /// True when the group needs no second canary now.
    async fn canary_once(&self, group: &Group, token: TokenUse) -> Result<bool> {
        let record = self.whose_turn(group);
        let provider = self.provider_for(&record.provider, Share::Canary)?;
        let started = (self.clock.now(), self.clock.since_boot());
        let answer = match routine(provider.unwrap_key(&record.kid, &record.wrapped, token, CANARY_DEADLINE)).await {
            Ok(answer) => answer,
            Err(failure) => {
                let others = group.all().into_iter().filter(|other| other.vault != record.vault).collect();
                let lasting = self.outages(&group.id, failure.class == Class::Outage) >= LASTING;
                let (record, provider) = (record.as_ref(), provider.as_ref());
                let failed = Failed { record, others, lasting, provider, failure, started: started.1 };
                return Err(self.failed_for(failed).await);
            }
        };
        self.outages(&group.id, false);
        let key = match read_wrap_record(&answer.record, &record.place()) {
            Ok(key) => key,
            Err(error) => return Err(self.faulty(&record, &error).await),
        };
        // What was asked by rows of yesterday clears nothing.
        if group.members.is_empty() {
            return Ok(true);
        }
        let others = group.members.iter().filter(|other| !Arc::ptr_eq(other, &record));
        let members: Vec<_> = std::iter::once(&record).chain(others).map(Arc::as_ref).collect();
        if !self.succeeded(&members, started.1, token).await? {
            return Ok(false);
        }
        self.renew(&record, key, started, &answer).await?;
        Ok(true)
    }

    /// The member that the canary asks for: one whose lease is due, so that this renews it too; else the next in turn.
    fn whose_turn(&self, group: &Group) -> Arc<KeyRecord> {
        let members = if group.members.is_empty() { &group.spoilt } else { &group.members };
        let mut state = self.state();
        let due = members.iter().find(|record| {
            let lease = state.leases.get(&(record.vault, record.generation));
            lease.is_some_and(|lease| lease.is_due(self.clock.since_boot(), 2))
        });
        let turn = state.turns.get(&group.id).copied().unwrap_or_default();
        // A fault ends only by an answer to its own wrap: every other turn is for those.
        let faulty = members.iter().find(|record| state.is_faulty(record));
        let next = match faulty {
            Some(faulty) if turn % 2 == 1 => faulty,
            Some(_) => &members[turn / 2 % members.len()],
            None => &members[turn % members.len()],
        };
        let record = due.unwrap_or(next);
        let record = Arc::clone(record);
        state.turns.insert(group.id.clone(), turn.wrapping_add(1));
        record
    }

    /// How many outages in a row the group has met, this one included if it was one.
    fn outages(&self, group: &GroupId, is_outage: bool) -> u32 {
        let mut state = self.state();
        if !is_outage {
            state.outages.remove(group);
            return 0;
        }
        let count = state.outages.entry(group.clone()).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// Renews the leases in use that no canary came by to renew, of groups of many vaults.
    pub async fn renew_leases(&self) -> Result<()> {
        let now = self.clock.since_boot();
        let due: Vec<Slot> = {
            let state = self.state();
            let due = state.leases.iter().filter(|((vault, _), lease)| {
                lease.is_due(now, 3)
                    && lease.live(self.clock.as_ref())
                    && !state.marks.contains_key(vault)
                    && lease.try_renewal(now)
            });
            due.map(|(slot, _)| *slot).collect()
        };
        let renewals = due.into_iter().map(|slot| guarded(self.renew_one(slot)));
        let outcomes: Vec<_> = stream::iter(renewals).buffer_unordered(TOGETHER).collect().await;
        for outcome in outcomes {
            match outcome {
                Ok(()) | Err(Error::KeyUnavailable(_) | Error::NotFound(_)) => {}
                Err(Error::Store(error)) => return Err(error.into()),
                Err(error) => tracing::error!(%error, "a lease could not be renewed"),
            }
        }
        Ok(())
    }

    async fn renew_one(&self, (vault, generation): Slot) -> Result<()> {
        let record = self.record(vault, generation).await?;
        let provider = self.provider(&record.provider)?;
        let started = (self.clock.now(), self.clock.since_boot());
        let answer =
            match routine(provider.unwrap_key(&record.kid, &record.wrapped, TokenUse::Cached, CANARY_DEADLINE)).await {
                Ok(answer) => answer,
                Err(failure) => return Err(self.failed(&record, provider.as_ref(), failure, started.1).await),
            };
        let key = match read_wrap_record(&answer.record, &record.place()) {
            Ok(key) => key,
            Err(error) => return Err(self.faulty(&record, &error).await),
        };
        self.succeeded(&[&record], started.1, TokenUse::Cached).await?;
        self.renew(&record, key, started, &answer).await
    }

    /// What stands for the credentials that a provider holds. Vaults that hold the same ones have the same canary.
    pub(super) fn fingerprint(&self, row: &ProviderRow) -> Fingerprint {
        if let Some((revision, known)) = self.state().fingerprints.get(&row.id)
            && *revision == row.revision
        {
            return *known;
        }
        let mut parts = digest(row.tenant_id.as_bytes()).to_vec();
        for held in [Some(&row.credential), row.previous.as_ref()].into_iter().flatten() {
            parts.extend(digest(held.client_id.as_bytes()));
            parts.extend(match row.opened(held, &self.keys) {
                Ok(secret) => digest(secret.text().as_bytes()),
                // One that does not open is like no other.
                Err(_) => digest(row.id.0.as_bytes()),
            });
        }
        let known = digest(&parts);
        self.state().fingerprints.insert(row.id, (row.revision, known));
        known
    }
}

impl Group {
    fn all(&self) -> Vec<&KeyRecord> {
        self.members.iter().chain(&self.spoilt).map(Arc::as_ref).collect()
    }
}

/// A panic in one canary is a defect of ours; it must not end the watch.
pub(super) async fn guarded(work: impl Future<Output = Result<()>>) -> Result<()> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(Error::integrity("key.task", "a canary ended in a panic")))
}

//! Denial, outage, fault: what a failed unwrap means for a vault, kept in memory and in the database for other nodes.
//!
//! A denial marks the vault dark at once: its leases end, nobody asks Azure for readers any more, and only canaries go
//! on. It is a key version that is denied; the vault is dark until each that it needs has answered twice, by unwraps that
//! began after the denial. An outage or a fault ends no lease.
//!
//! What one answer says counts for every vault that the same question would have been asked for: they are judged
//! together and written in one transaction.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use strongroom_envelope::RecordError;
use strongroom_keys::{Class, Code, KeyFailure, KeyProvider, Kid, State as KeyState, TokenUse};

use super::{Fingerprint, KeyRecord, Keyring, State, Strategy, VaultState};
use crate::{
    error::{Error, KeyUnavailable, Result, Unavailable},
    id::{NodeId, VaultId},
    notice,
    store::Tx,
};

/// Entra's refusals count as a denial only when they last this long: one may be a passing fault of the directory.
const REFUSED_FOR: Duration = Duration::from_secs(5);
/// Successes in a row, begun after the denial, that clear it.
const CLEARING: u8 = 2;

/// A vault whose key is denied.
pub(super) struct Mark {
    why: KeyUnavailable,
    /// When the latest denial came, on the wall clock, to compare with what other nodes write.
    denied_on: Timestamp,
    /// Whether the other nodes can read of it.
    noted: bool,
    /// What of it is denied, by the key version's kid.
    denied: HashMap<String, Denied>,
}

/// A key version that refused.
struct Denied {
    /// When it last did, since boot; a success that began earlier proves nothing.
    at: Duration,
    /// Whether Entra refused the credential: then only a fresh sign-in can clear it.
    sign_in: bool,
    successes: u8,
}

/// What a row says of an outage or a fault, as it was last read: of this process, of one before it, or of another node.
pub(super) struct Stored {
    kid: String,
    class: Unavailable,
    /// When it was read, since boot: an unwrap that began later proves that it is over.
    read_at: Duration,
}

impl Mark {
    pub(super) fn explained(&self) -> KeyUnavailable {
        self.why.clone()
    }

    /// Whether it is the credential that Entra refused.
    fn doubts_credential(&self) -> bool {
        self.denied.values().any(|denied| denied.sign_in)
    }
}

/// A failed unwrap: of which wrap, and for which others the answer counts too.
pub(super) struct Failed<'a> {
    pub record: &'a KeyRecord,
    /// Other wraps under the same key version and credential. A denial is theirs as well; a fault is not.
    pub others: Vec<&'a KeyRecord>,
    /// Whether an outage is news for the others too: it was not the first in a row.
    pub lasting: bool,
    pub provider: &'a dyn KeyProvider,
    pub failure: KeyFailure,
    /// When the unwrap began, since boot.
    pub started: Duration,
}

impl Keyring {
    /// Judges a failed unwrap and returns what to tell whoever waits for it.
    pub(super) async fn failed(
        &self,
        record: &KeyRecord,
        provider: &dyn KeyProvider,
        failure: KeyFailure,
        started: Duration,
    ) -> Error {
        self.failed_for(Failed { record, others: Vec::new(), lasting: false, provider, failure, started }).await
    }

    /// The same for all whom the answer concerns.
    pub(super) async fn failed_for(&self, failed: Failed<'_>) -> Error {
        let Failed { record, others, lasting, provider, failure, started } = failed;
        if let Some(error) = self.overtaken(record, others.is_empty(), &failure).await {
            return error;
        }
        let (vault, name, kid) = (record.vault, &record.vault_name, Some(&record.kid));
        let mut why = KeyUnavailable::told(vault, name, provider, &failure, kid, self.clock.now());
        if failure.class == Class::Denial && failure.is_sign_in() {
            let credential = self.fingerprint(&record.provider);
            if !self.refused_long_enough(credential, started) {
                why.class = Unavailable::Outage;
            }
        }
        let concerns_all = match why.class {
            Unavailable::Dark => true,
            Unavailable::Outage => lasting,
            Unavailable::Fault | Unavailable::Disabled => false,
        };
        let mut concerned = vec![record];
        if concerns_all {
            concerned.extend(others);
        }
        self.note(&concerned, why, failure.is_sign_in()).await
    }

    /// A denial of a wrap that was superseded while it was asked for, or of a generation that was retired, says nothing of
    /// those in use: whoever waited asks again. None when the wrap is in use, or others are under the same key version.
    async fn overtaken(&self, record: &KeyRecord, alone: bool, failure: &KeyFailure) -> Option<Error> {
        if !alone || failure.class != Class::Denial {
            return None;
        }
        let slot = [record.vault.0.into(), i64::from(record.generation).into()];
        let kid = record.kid.to_string();
        let in_use = self
            .store
            .read(move |tx| {
                let sql = "SELECT kid FROM generations WHERE vault_id = $1 AND generation = $2";
                Ok(tx.first(sql, &slot, |row| row.get::<String>(0))?.is_some_and(|in_use| in_use == kid))
            })
            .await;
        // Who cannot tell takes it for what it is: a denial.
        if in_use.unwrap_or(true) { None } else { Some(self.too_slow(record.vault)) }
    }

    /// An unwrap that answered something else than this vault's key.
    pub(super) async fn faulty(&self, record: &KeyRecord, error: &RecordError) -> Error {
        let code = Code::WrongLength;
        let why = KeyUnavailable {
            vault: record.vault,
            vault_name: record.vault_name.clone(),
            class: Unavailable::Fault,
            code: "fault.wrong_record".into(),
            title: "The key answered with something else than this vault's key".into(),
            detail: error.to_string(),
            fix: code.fix().into(),
            since: self.clock.now(),
            recoverable_until: None,
            azure_request_id: None,
        };
        self.note(&[record], why, false).await
    }

    /// A verified unwrap of the first of these wraps, which counts for all of them: clears what it can clear. A fault is
    /// only cleared by the wrap that it is of. False when a second one now could clear more.
    pub(super) async fn succeeded(&self, records: &[&KeyRecord], started: Duration, token: TokenUse) -> Result<bool> {
        let (settled, restored) = self.clear(records, started, token);
        Ok(self.write_restored(restored).await? && settled)
    }

    /// Drops denials of key versions, and outages and faults of generations, that no wrap in use is of any more: nothing
    /// could clear them.
    pub(super) async fn drop_stale_marks(&self, in_use: &HashMap<VaultId, Vec<Arc<KeyRecord>>>) -> Result<()> {
        let mut stale = Vec::new();
        {
            let mut state = self.state();
            for (vault, records) in in_use {
                state.drop_retired(*vault, records);
                let troubled = state.troubled.get_mut(vault).is_some_and(|generations| {
                    generations.retain(|generation, _| records.iter().any(|record| record.generation == *generation));
                    generations.is_empty()
                });
                let needed = |kid: &String| records.iter().any(|record| record.kid.to_string() == *kid);
                let stored = state.stored.get(vault).is_some_and(|stored| !needed(&stored.kid));
                if stored && !state.troubled.contains_key(vault) && !state.marks.contains_key(vault) {
                    state.stored.remove(vault);
                    stale.extend(records.first().map(|record| (record.as_ref(), None)));
                } else if troubled {
                    state.troubled.remove(vault);
                    stale.extend(records.first().map(|record| (record.as_ref(), None)));
                }
                let Some(mark) = state.marks.get_mut(vault) else { continue };
                if mark.denied.keys().any(needed) {
                    mark.denied.retain(|kid, _| needed(kid));
                } else if let (Some(record), Some(denied)) = (records.first(), mark.denied.values().next()) {
                    stale.push((record.as_ref(), Some(denied.at)));
                }
            }
        }
        self.write_restored(stale).await.map(drop)
    }

    /// Tells all nodes and the log of vaults whose keys answer again. False when a denial of one came meanwhile.
    async fn write_restored(&self, restored: Vec<(&KeyRecord, Option<Duration>)>) -> Result<bool> {
        if restored.is_empty() {
            return Ok(true);
        }
        let now = self.clock.now();
        let mut rows = Vec::new();
        for (record, _) in &restored {
            let event = self.event(record, "key.restored", record.facts())?;
            let kid = record.kid.to_string();
            rows.push((
                StateRow { vault: record.vault, status: "healthy", why: None, kid, node: self.node, now },
                event,
            ));
        }
        self.store
            .write(move |tx| {
                for (row, event) in &rows {
                    // Another node may have said so already.
                    let sql = "SELECT status FROM key_states WHERE vault_id = $1";
                    let before = tx.first_locked(sql, &[row.vault.0.into()], |row| row.get::<String>(0))?;
                    row.put(tx)?;
                    if before.is_some_and(|before| before != row.status) {
                        notice::healthy(tx, event)?;
                        tx.record(event)?;
                    }
                }
                Ok(())
            })
            .await?;
        Ok(restored.into_iter().fold(true, |all, (record, denied_at)| self.restore(record, denied_at) && all))
    }

    /// Takes what a success says into the marks. Returns whether it settled everything, and the vaults that nothing stands
    /// against any more, with the denial that this clears.
    fn clear<'a>(
        &self,
        records: &[&'a KeyRecord],
        started: Duration,
        token: TokenUse,
    ) -> (bool, Vec<(&'a KeyRecord, Option<Duration>)>) {
        let credential = records.first().map(|record| self.fingerprint(&record.provider));
        let mut state = self.state();
        if token == TokenUse::Fresh
            && let Some(credential) = credential
        {
            state.refused_since.remove(&credential);
        }
        let (mut settled, mut restored) = (true, Vec::new());
        for (position, record) in records.iter().enumerate() {
            state.answered.insert(record.vault, self.clock.now());
            let troubled = state.calm(record.vault, record.generation, position == 0)
                || state.outlived(record, started, position == 0);
            let Some(mark) = state.marks.get_mut(&record.vault) else {
                if troubled {
                    restored.push((*record, None));
                }
                continue;
            };
            let kid = record.kid.to_string();
            // Another key version is denied; this one has nothing to clear.
            let Some(denied) = mark.denied.get_mut(&kid) else { continue };
            if started < denied.at || (denied.sign_in && token != TokenUse::Fresh) {
                settled = false;
                continue;
            }
            denied.successes += 1;
            if denied.successes < CLEARING {
                settled = false;
            } else if mark.denied.len() == 1 {
                restored.push((*record, Some(mark.denied[&kid].at)));
            } else {
                mark.denied.remove(&kid);
            }
        }
        let mut seen = HashSet::new();
        restored.retain(|(record, _)| seen.insert(record.vault));
        (settled, restored)
    }

    /// The vault's mark goes, unless a denial came meanwhile.
    fn restore(&self, record: &KeyRecord, denied_at: Option<Duration>) -> bool {
        let vault = record.vault;
        if denied_at.is_some() {
            let mut state = self.state();
            let stands = |mark: &Mark| mark.denied.values().any(|denied| Some(denied.at) > denied_at);
            if state.marks.get(&vault).is_some_and(stands) {
                return false;
            }
            state.marks.remove(&vault);
            state.failures.retain(|(failed, _), _| *failed != vault);
        }
        self.tell(vault);
        true
    }

    /// Whether Entra refused the credential and no fresh sign-in has succeeded since.
    pub(super) fn credential_in_doubt(&self, credential: Fingerprint, records: &[&KeyRecord]) -> bool {
        let state = self.state();
        let doubted = |vault: &VaultId| state.marks.get(vault).is_some_and(Mark::doubts_credential);
        state.refused_since.contains_key(&credential) || records.iter().any(|record| doubted(&record.vault))
    }

    /// The rows that a canary goes on with when those in the database fail their proof, which is a fault of its own.
    pub(super) async fn last_proven(&self, vault: VaultId, generation: u32, error: Error) -> Result<Arc<KeyRecord>> {
        let last = self.state().proven.get(&(vault, generation)).cloned();
        let Some(record) = last else { return Err(error) };
        let Some(why) = KeyUnavailable::tampered(vault, &record.vault_name, &error, self.clock.now()) else {
            return Err(error);
        };
        // Noted; what it says to a reader is of no use here.
        let _ = self.note(&[record.as_ref()], why, false).await;
        Ok(record)
    }

    /// Takes over the denial marks that other nodes have set, and drops those that they have cleared.
    pub async fn read_marks(&self) -> Result<()> {
        // Whatever is wrong there, denials of other nodes are heard.
        if let Err(error) = self.read_states().await {
            tracing::warn!(%error, "the states of the vaults could not be read");
        }
        let rows = self.store.read(StateRow::read_all).await?;
        let read_at = self.clock.since_boot();
        for row in rows {
            let vault = row.vault;
            let denied_on = self.state().marks.get(&vault).map(|mark| mark.denied_on);
            self.remember(vault, row.trouble, &row.kid, read_at);
            match (row.why, denied_on) {
                (Some(why), None) => {
                    let sign_in = why.code.starts_with("credential.") || why.code.starts_with("tenant.");
                    self.darken(&row.kid, why, sign_in);
                    self.noted(vault, true);
                }
                (None, Some(denied_on)) if denied_on < row.now => {
                    self.state().marks.remove(&vault);
                    self.tell(vault);
                }
                // Ours is newer: the next canary writes it again.
                (None, Some(_)) => self.noted(vault, false),
                (Some(why), Some(_)) => self.learn_recovery(&why),
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// Takes over how long the deleted key of a vault that is dark can be recovered.
    fn learn_recovery(&self, told: &KeyUnavailable) {
        if let Some(mark) = self.state().marks.get_mut(&told.vault)
            && mark.why.code == told.code
        {
            mark.why.recoverable_until = told.recoverable_until;
        }
    }

    /// Keeps what a row says of an outage or a fault, so that the next answer of the key clears it, whoever wrote it.
    fn remember(&self, vault: VaultId, trouble: Option<Unavailable>, kid: &str, read_at: Duration) {
        let mut state = self.state();
        match trouble {
            None => drop(state.stored.remove(&vault)),
            Some(class) => {
                let known = state.stored.get(&vault).filter(|known| known.kid == kid && known.class == class);
                let read_at = known.map_or(read_at, |known| known.read_at);
                state.stored.insert(vault, Stored { kid: kid.to_owned(), class, read_at });
            }
        }
    }

    /// Forgets the vaults that were disabled or deleted, on whichever node, and knows those that were enabled again.
    async fn read_states(&self) -> Result<()> {
        let rows = self
            .store
            .read(|tx| {
                tx.all("SELECT id, state FROM vaults", &[], |row| {
                    // A state that this program does not know opens nothing.
                    Ok((VaultId(row.get(0)?), row.parse(1).unwrap_or(VaultState::Disabled)))
                })
            })
            .await?;
        let states: HashMap<VaultId, bool> =
            rows.into_iter().map(|(id, state)| (id, state == VaultState::Disabled)).collect();
        let (switched_off, gone): (Vec<_>, Vec<_>) = {
            let mut state = self.state();
            state.disabled.retain(|vault| states.get(vault) == Some(&true));
            let news = states.iter().filter(|(vault, disabled)| **disabled && !state.disabled.contains(vault));
            let known: HashSet<VaultId> =
                state.leases.keys().chain(state.proven.keys()).map(|(vault, _)| *vault).collect();
            (
                news.map(|(vault, _)| *vault).collect(),
                known.into_iter().filter(|vault| !states.contains_key(vault)).collect(),
            )
        };
        for vault in gone {
            self.forget(vault);
        }
        for vault in switched_off {
            self.forget(vault);
            self.state().disabled.insert(vault);
        }
        Ok(())
    }

    /// Records what is wrong with the keys of these wraps' vaults, where that is new, and ends their leases if they are
    /// denied. Returns what to tell whoever waits for the first.
    async fn note(&self, records: &[&KeyRecord], why: KeyUnavailable, sign_in: bool) -> Error {
        if why.code == Code::NotAnnounced.as_str() {
            // The key was not asked. A database that could take a note of it could have taken the announcement.
            return Error::KeyUnavailable(Box::new(why));
        }
        let (mut news, mut seen) = (Vec::new(), HashSet::new());
        for record in records {
            let own = KeyUnavailable { vault: record.vault, vault_name: record.vault_name.clone(), ..why.clone() };
            let is_news = match own.class {
                Unavailable::Dark => self.darken(&record.kid.to_string(), own.clone(), sign_in),
                class => self.trouble(record, class),
            };
            if is_news && seen.insert(record.vault) {
                news.push((*record, own));
            }
        }
        if !news.is_empty() {
            match self.write_notes(&news).await {
                Ok(()) => news.iter().for_each(|(record, _)| self.noted(record.vault, true)),
                Err(error) => return error,
            }
        }
        let known = self.dark(why.vault).filter(|known| known.code == why.code);
        let recoverable_until = known.and_then(|known| known.recoverable_until);
        let since = self.dark(why.vault).map_or(why.since, |mark| mark.since);
        Error::KeyUnavailable(Box::new(KeyUnavailable { since, recoverable_until, ..why }))
    }

    /// An outage or a fault. True when it is news; a dark vault stays what it is.
    fn trouble(&self, record: &KeyRecord, class: Unavailable) -> bool {
        let mut state = self.state();
        match state.marks.get_mut(&record.vault) {
            Some(mark) => {
                if let Some(denied) = mark.denied.get_mut(&record.kid.to_string()) {
                    denied.successes = 0;
                }
                false
            }
            None => state.trouble(record.vault, record.generation, class),
        }
    }

    async fn write_notes(&self, news: &[(&KeyRecord, KeyUnavailable)]) -> Result<()> {
        let now = self.clock.now();
        let mut rows = Vec::new();
        for (record, why) in news {
            let (status, action) = match why.class {
                Unavailable::Dark => ("dark", "key.denied"),
                Unavailable::Outage => ("outage", "key.outage"),
                Unavailable::Fault | Unavailable::Disabled => ("fault", "key.fault"),
            };
            let mut facts = record.facts();
            facts.push(("code", why.code.as_str().into()));
            if let Some(id) = &why.azure_request_id {
                facts.push(("azure_request", id.as_str().into()));
            }
            let event = self.event(record, action, facts)?;
            tracing::warn!(vault = %record.vault, code = why.code, "{action}");
            // An outage is told once it lasts.
            let told = (why.class != Unavailable::Outage).then(|| why.code.clone());
            let (kid, why) = (record.kid.to_string(), Some(why.clone()));
            rows.push((StateRow { vault: record.vault, status, why, kid, node: self.node, now }, event, told));
        }
        self.store
            .write(move |tx| {
                for (row, event, told) in &rows {
                    row.put(tx)?;
                    if let Some(code) = told {
                        notice::unhealthy(tx, event, code)?;
                    }
                    tx.record(event)?;
                }
                Ok(())
            })
            .await
    }

    /// Marks a vault dark and ends its leases. True when the database does not know of it yet.
    fn darken(&self, kid: &str, why: KeyUnavailable, sign_in: bool) -> bool {
        let vault = why.vault;
        let denied = Denied { at: self.clock.since_boot(), sign_in, successes: 0 };
        let denied_on = self.clock.now();
        let (same, noted) = {
            let mut state = self.state();
            state.troubled.remove(&vault);
            state.drop_leases(vault);
            match state.marks.entry(vault) {
                Entry::Vacant(vacant) => {
                    let denied = HashMap::from([(kid.to_owned(), denied)]);
                    vacant.insert(Mark { why, denied_on, noted: false, denied });
                    (false, false)
                }
                Entry::Occupied(occupied) => {
                    let mark = occupied.into_mut();
                    let same = mark.why.code == why.code;
                    mark.noted &= same;
                    mark.denied_on = denied_on;
                    let recoverable_until = mark.why.recoverable_until.filter(|_| same);
                    mark.why = KeyUnavailable { since: mark.why.since, recoverable_until, ..why };
                    mark.denied.insert(kid.to_owned(), denied);
                    (same, mark.noted)
                }
            }
        };
        if !same {
            self.tell(vault);
        }
        !noted
    }

    fn noted(&self, vault: VaultId, noted: bool) {
        if let Some(mark) = self.state().marks.get_mut(&vault) {
            mark.noted = noted;
        }
    }

    fn refused_long_enough(&self, credential: Fingerprint, started: Duration) -> bool {
        let mut state = self.state();
        let first = *state.refused_since.entry(credential).or_insert(started);
        started >= first + REFUSED_FOR
    }

    pub(super) fn tell(&self, vault: VaultId) {
        // Without listeners there is nobody to tell.
        let _ = self.changes.send(vault);
    }
}

impl State {
    /// Ends the leases of generations that another node has retired.
    fn drop_retired(&mut self, vault: VaultId, records: &[Arc<KeyRecord>]) {
        let newest = records.iter().map(|record| record.generation).max();
        let retired: Vec<_> = (self.leases.keys().copied())
            .filter(|(leased, generation)| *leased == vault && Some(*generation) < newest)
            .filter(|(_, generation)| !records.iter().any(|record| record.generation == *generation))
            .collect();
        for slot in retired {
            self.proven.remove(&slot);
            if let Some(lease) = self.leases.remove(&slot) {
                lease.purged.store(true, Ordering::Release);
            }
        }
    }

    /// Notes an outage or a fault of a generation. True when it is news for its vault. A fault stays one until its own wrap
    /// answers as it should.
    fn trouble(&mut self, vault: VaultId, generation: u32, class: Unavailable) -> bool {
        let generations = self.troubled.entry(vault).or_default();
        let is_news = generations.is_empty()
            || class == Unavailable::Fault && !generations.values().any(|known| *known == Unavailable::Fault);
        let known = generations.entry(generation).or_insert(class);
        if class == Unavailable::Fault {
            *known = class;
        }
        is_news
    }

    /// Whether this answer ends what a row says of an outage or a fault, and nothing that this process met stands against
    /// it. A fault ends only where its own wrap was `asked`.
    fn outlived(&mut self, record: &KeyRecord, started: Duration, asked: bool) -> bool {
        let over = |stored: &Stored| {
            stored.kid == record.kid.to_string()
                && started >= stored.read_at
                && (asked || stored.class != Unavailable::Fault)
        };
        let is_over = !self.troubled.contains_key(&record.vault)
            && !self.marks.contains_key(&record.vault)
            && self.stored.get(&record.vault).is_some_and(over);
        if is_over {
            self.stored.remove(&record.vault);
        }
        is_over
    }

    /// Whether a fault of this wrap is known.
    pub(super) fn is_faulty(&self, record: &KeyRecord) -> bool {
        let met = self.troubled.get(&record.vault).and_then(|known| known.get(&record.generation));
        let stored = self.stored.get(&record.vault).filter(|stored| stored.kid == record.kid.to_string());
        met == Some(&Unavailable::Fault) || stored.is_some_and(|stored| stored.class == Unavailable::Fault)
    }

    /// Takes it back for a generation that answered; a fault only where it was the one `asked`. True when nothing is left
    /// of it for the vault.
    fn calm(&mut self, vault: VaultId, generation: u32, asked: bool) -> bool {
        let Some(generations) = self.troubled.get_mut(&vault) else { return false };
        if asked || generations.get(&generation) != Some(&Unavailable::Fault) {
            generations.remove(&generation);
        }
        if !generations.is_empty() {
            return false;
        }
        self.troubled.remove(&vault);
        true
    }
}

/// What the nodes tell each other of a vault's key.
struct StateRow {
    vault: VaultId,
    status: &'static str,
    why: Option<KeyUnavailable>,
    /// The key version that it is about.
    kid: String,
    node: NodeId,
    now: Timestamp,
}

/// What another node wrote of a vault: why it is dark, if it is.
struct Told {
    vault: VaultId,
    why: Option<KeyUnavailable>,
    /// The outage or fault that it is in otherwise.
    trouble: Option<Unavailable>,
    kid: String,
    now: Timestamp,
}

impl StateRow {
    /// In place of the row before. An outage or a fault that one node meets does not lift a denial that another wrote.
    fn put(&self, tx: &mut Tx<'_>) -> Result<()> {
        let (code, detail) = self.why.as_ref().map_or(("", ""), |why| (&why.code, &why.detail));
        let request = self.why.as_ref().and_then(|why| why.azure_request_id.as_deref());
        let since = self.why.as_ref().map_or(self.now, |why| why.since);
        tx.execute(
            "INSERT INTO key_states (vault_id, status, code, detail, azure_request_id, kid, node, since, changed_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
             ON CONFLICT (vault_id) DO UPDATE SET status = excluded.status, code = excluded.code, \
                 detail = excluded.detail, azure_request_id = excluded.azure_request_id, kid = excluded.kid, \
                 node = excluded.node, since = excluded.since, changed_at = excluded.changed_at \
             WHERE key_states.status <> 'dark' OR excluded.status NOT IN ('outage', 'fault')",
            &[
                self.vault.0.into(),
                self.status.into(),
                code.into(),
                detail.into(),
                request.into(),
                (&self.kid).into(),
                self.node.0.into(),
                since.into(),
                self.now.into(),
            ],
        )?;
        Ok(())
    }

    /// Of all vaults with Azure keys.
    fn read_all(tx: &mut Tx<'_>) -> Result<Vec<Told>> {
        tx.all(
            "SELECT k.vault_id, v.name, k.code, k.detail, k.azure_request_id, k.since, k.changed_at, k.status, k.kid, \
                    w.newest_kid, w.recoverable_days \
             FROM key_states k JOIN vaults v ON v.id = k.vault_id LEFT JOIN key_watch w ON w.vault_id = v.id \
             WHERE v.strategy = $1",
            &[Strategy::AzureExternalKeys.word().into()],
            |row| {
                let vault = VaultId(row.get(0)?);
                let code: String = row.get(2)?;
                let known = Code::of(&code);
                let (kid, since) = (row.get::<String>(8)?, row.get(5)?);
                let (newest, days) = (row.get::<Option<String>>(9)?, row.get::<Option<i64>>(10)?);
                let why = KeyUnavailable {
                    vault,
                    vault_name: row.get(1)?,
                    class: Unavailable::Dark,
                    title: known.map_or("The key is denied", |code| code.title()).into(),
                    fix: known.map_or("Look at the vault's checks.", |code| code.fix_of_vault()).into(),
                    recoverable_until: known
                        .filter(|code| code.state() == KeyState::KeyDeleted)
                        .and(newest.zip(days))
                        .and_then(|(newest, days)| recoverable_until(since, &kid, &newest, days)),
                    code,
                    detail: row.get(3)?,
                    since,
                    azure_request_id: row.get(4)?,
                };
                let status = row.get::<String>(7)?;
                let trouble = match status.as_str() {
                    "dark" | "healthy" => None,
                    "outage" => Some(Unavailable::Outage),
                    // What this program does not know is not over before its own wrap answers.
                    _ => Some(Unavailable::Fault),
                };
                Ok(Told { vault, why: (status == "dark").then_some(why), trouble, kid, now: row.get(6)? })
            },
        )
    }
}

/// About when a key that was deleted at `since` can no longer be recovered. `days` were told of the key of `newest`, and
/// count only where the denied key version, `kid`, is of the same key. None where it cannot be recovered at all.
fn recoverable_until(since: Timestamp, kid: &str, newest: &str, days: i64) -> Option<Timestamp> {
    let (kid, newest) = (kid.parse::<Kid>().ok()?, newest.parse().ok()?);
    (days > 0 && kid.same_key(&newest)).then_some(())?;
    since.checked_add(SignedDuration::from_hours(days.checked_mul(24)?)).ok()
}

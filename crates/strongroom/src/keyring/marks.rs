//! Denial, outage, fault: what a failed unwrap means for a vault, kept in memory and in the database for other nodes.
//!
//! A denial marks the vault dark at once: its leases end, nobody asks Azure for readers any more, and only canaries go
//! on. Two successes that began after the denial clear it. An outage or a fault ends no lease.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use strongroom_envelope::RecordError;
use strongroom_keys::{Class, Code, KeyFailure, KeyProvider, TokenUse};

use super::{KeyRecord, Keyring, Strategy, VaultState};
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
    /// When the latest denial came, since boot; a success that began earlier proves nothing.
    denied_at: Duration,
    /// The same on the wall clock, to compare with what other nodes write.
    denied_on: Timestamp,
    /// Whether Entra refused the credential: then only a fresh sign-in can clear it.
    sign_in: bool,
    /// Whether the other nodes can read of it.
    noted: bool,
    successes: u8,
}

impl Mark {
    pub(super) fn explained(&self) -> KeyUnavailable {
        self.why.clone()
    }
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
        let (vault, name, kid) = (record.vault, &record.vault_name, Some(&record.kid));
        let mut why = KeyUnavailable::told(vault, name, provider, &failure, kid, self.clock.now());
        if failure.class == Class::Denial && failure.is_sign_in() && !self.refused_long_enough(record.vault, started) {
            why.class = Unavailable::Outage;
        }
        self.note(record, why, failure.is_sign_in()).await
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
            azure_request_id: None,
        };
        self.note(record, why, false).await
    }

    /// A verified unwrap: clears what it can clear. True when the vault is not dark (any more).
    pub(super) async fn succeeded(&self, record: &KeyRecord, started: Duration, token: TokenUse) -> Result<bool> {
        let vault = record.vault;
        let denied_at = {
            let mut state = self.state();
            state.answered.insert(vault, self.clock.now());
            if token == TokenUse::Fresh {
                state.refused_since.remove(&vault);
            }
            let troubled = state.troubled.remove(&vault);
            match state.marks.get_mut(&vault) {
                None if !troubled => return Ok(true),
                None => None,
                Some(mark) if started < mark.denied_at || (mark.sign_in && token != TokenUse::Fresh) => {
                    return Ok(false);
                }
                Some(mark) => {
                    mark.successes += 1;
                    if mark.successes < CLEARING {
                        return Ok(false);
                    }
                    Some(mark.denied_at)
                }
            }
        };
        let event = self.event(record, "key.restored", record.facts())?;
        let row = StateRow { vault, status: "healthy", why: None, node: self.node, now: self.clock.now() };
        self.store
            .write(move |tx| {
                row.put(tx)?;
                notice::healthy(tx, &event)?;
                tx.record(&event)
            })
            .await?;
        if let Some(denied_at) = denied_at {
            let mut state = self.state();
            // A denial that came meanwhile stands.
            if state.marks.get(&vault).is_some_and(|mark| mark.denied_at != denied_at) {
                return Ok(false);
            }
            state.marks.remove(&vault);
            state.failures.retain(|(failed, _), _| *failed != vault);
        }
        self.tell(vault);
        Ok(true)
    }

    /// Whether Entra refused the vault's credential and no fresh sign-in has succeeded since.
    pub(super) fn credential_in_doubt(&self, vault: VaultId) -> bool {
        let state = self.state();
        state.refused_since.contains_key(&vault) || state.marks.get(&vault).is_some_and(|mark| mark.sign_in)
    }

    /// The rows that a canary goes on with when those in the database fail their proof, which is a fault of its own.
    pub(super) async fn last_proven(&self, vault: VaultId, generation: u32, error: Error) -> Result<Arc<KeyRecord>> {
        let last = self.state().proven.get(&(vault, generation)).cloned();
        let Some(record) = last else { return Err(error) };
        let Some(why) = KeyUnavailable::tampered(vault, &record.vault_name, &error, self.clock.now()) else {
            return Err(error);
        };
        // Noted; what it says to a reader is of no use here.
        let _ = self.note(&record, why, false).await;
        Ok(record)
    }

    /// Takes over the denial marks that other nodes have set, and drops those that they have cleared.
    pub async fn read_marks(&self) -> Result<()> {
        self.read_states().await?;
        let rows = self
            .store
            .read(|tx| {
                tx.all(
                    "SELECT k.vault_id, v.name, k.code, k.detail, k.azure_request_id, k.since, k.changed_at, k.status \
                     FROM key_states k JOIN vaults v ON v.id = k.vault_id WHERE v.strategy = $1",
                    &[Strategy::AzureExternalKeys.word().into()],
                    |row| {
                        let code: String = row.get(2)?;
                        let known = Code::ALL.iter().find(|known| known.as_str() == code);
                        let why = KeyUnavailable {
                            vault: VaultId(row.get(0)?),
                            vault_name: row.get(1)?,
                            class: Unavailable::Dark,
                            title: known.map_or("The key is denied", |code| code.title()).into(),
                            fix: known.map_or("Look at the vault's checks.", |code| code.fix_of_vault()).into(),
                            code,
                            detail: row.get(3)?,
                            since: row.get(5)?,
                            azure_request_id: row.get(4)?,
                        };
                        Ok((why, row.get::<Timestamp>(6)?, row.get::<String>(7)?))
                    },
                )
            })
            .await?;
        for (why, changed_at, status) in rows {
            let vault = why.vault;
            let denied_on = self.state().marks.get(&vault).map(|mark| mark.denied_on);
            match (status == "dark", denied_on) {
                (true, None) => {
                    let sign_in = why.code.starts_with("credential.") || why.code.starts_with("tenant.");
                    self.darken(why, sign_in);
                    self.noted(vault, true);
                }
                (false, Some(denied_on)) if denied_on < changed_at => {
                    self.state().marks.remove(&vault);
                    self.tell(vault);
                }
                // Ours is newer: the next canary writes it again.
                (false, Some(_)) => self.noted(vault, false),
                _ => {}
            }
        }
        Ok(())
    }

    /// Forgets the vaults that were disabled or deleted, on whichever node, and knows those that were enabled again.
    async fn read_states(&self) -> Result<()> {
        let rows = self
            .store
            .read(|tx| {
                tx.all("SELECT id, state FROM vaults", &[], |row| {
                    Ok((VaultId(row.get(0)?), row.parse::<VaultState>(1)?))
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

    /// Records what is wrong with a vault's key, where that is new, and ends its leases if it is denied.
    async fn note(&self, record: &KeyRecord, mut why: KeyUnavailable, sign_in: bool) -> Error {
        let status = match why.class {
            Unavailable::Dark => "dark",
            Unavailable::Outage => "outage",
            Unavailable::Fault | Unavailable::Disabled => "fault",
        };
        let news = if why.class == Unavailable::Dark {
            self.darken(why.clone(), sign_in)
        } else {
            let mut state = self.state();
            match state.marks.get_mut(&record.vault) {
                Some(mark) => {
                    mark.successes = 0;
                    false
                }
                None => state.troubled.insert(record.vault),
            }
        };
        if let Some(mark) = self.dark(record.vault) {
            why.since = mark.since;
        }
        if news {
            match self.write_note(record, &why, status).await {
                Ok(()) => self.noted(record.vault, true),
                Err(error) => return error,
            }
        }
        Error::KeyUnavailable(Box::new(why))
    }

    async fn write_note(&self, record: &KeyRecord, why: &KeyUnavailable, status: &'static str) -> Result<()> {
        let action = match why.class {
            Unavailable::Dark => "key.denied",
            Unavailable::Outage => "key.outage",
            Unavailable::Fault | Unavailable::Disabled => "key.fault",
        };
        let mut facts = record.facts();
        facts.push(("code", why.code.as_str().into()));
        if let Some(id) = &why.azure_request_id {
            facts.push(("azure_request", id.as_str().into()));
        }
        let event = self.event(record, action, facts)?;
        tracing::warn!(vault = %record.vault, code = why.code, "{action}");
        let row = StateRow { vault: why.vault, status, why: Some(why.clone()), node: self.node, now: self.clock.now() };
        // An outage is told once it lasts.
        let told = (why.class != Unavailable::Outage).then(|| why.code.clone());
        self.store
            .write(move |tx| {
                row.put(tx)?;
                if let Some(code) = &told {
                    notice::unhealthy(tx, &event, code)?;
                }
                tx.record(&event)
            })
            .await
    }

    /// Marks a vault dark and ends its leases. True when the database does not know of it yet.
    fn darken(&self, why: KeyUnavailable, sign_in: bool) -> bool {
        let vault = why.vault;
        let (denied_at, denied_on) = (self.clock.since_boot(), self.clock.now());
        let news = {
            let mut state = self.state();
            let before = state.marks.remove(&vault);
            let same = before.as_ref().is_some_and(|before| before.why.code == why.code);
            let noted = same && before.as_ref().is_some_and(|before| before.noted);
            let since = before.map_or(why.since, |before| before.why.since);
            let why = KeyUnavailable { since, ..why };
            state.marks.insert(vault, Mark { why, denied_at, denied_on, sign_in, noted, successes: 0 });
            state.troubled.remove(&vault);
            state.drop_leases(vault);
            (!same, !noted)
        };
        if news.0 {
            self.tell(vault);
        }
        news.1
    }

    fn noted(&self, vault: VaultId, noted: bool) {
        if let Some(mark) = self.state().marks.get_mut(&vault) {
            mark.noted = noted;
        }
    }

    fn refused_long_enough(&self, vault: VaultId, started: Duration) -> bool {
        let mut state = self.state();
        let first = *state.refused_since.entry(vault).or_insert(started);
        started >= first + REFUSED_FOR
    }

    pub(super) fn tell(&self, vault: VaultId) {
        // Without listeners there is nobody to tell.
        let _ = self.changes.send(vault);
    }
}

/// What the nodes tell each other of a vault's key.
struct StateRow {
    vault: VaultId,
    status: &'static str,
    why: Option<KeyUnavailable>,
    node: NodeId,
    now: Timestamp,
}

impl StateRow {
    /// In place of the row before. An outage or a fault that one node meets does not lift a denial that another wrote.
    fn put(&self, tx: &mut Tx<'_>) -> Result<()> {
        let before =
            tx.first_locked("SELECT status FROM key_states WHERE vault_id = $1", &[self.vault.0.into()], |row| {
                row.get::<String>(0)
            })?;
        if before.as_deref() == Some("dark") && matches!(self.status, "outage" | "fault") {
            return Ok(());
        }
        let (code, detail) = self.why.as_ref().map_or(("", ""), |why| (&why.code, &why.detail));
        let request = self.why.as_ref().and_then(|why| why.azure_request_id.as_deref());
        let since = self.why.as_ref().map_or(self.now, |why| why.since);
        tx.execute("DELETE FROM key_states WHERE vault_id = $1", &[self.vault.0.into()])?;
        tx.execute(
            "INSERT INTO key_states (vault_id, status, code, detail, azure_request_id, node, since, changed_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            &[
                self.vault.0.into(),
                self.status.into(),
                code.into(),
                detail.into(),
                request.into(),
                self.node.0.into(),
                since.into(),
                self.now.into(),
            ],
        )?;
        Ok(())
    }
}

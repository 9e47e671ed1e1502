//! Denial, outage, fault: what a failed unwrap means for a vault, kept in memory and in the database for other nodes.
//!
//! A denial marks the vault dark at once: its leases end, nobody asks Azure for readers any more, and only canaries go
//! on. Two successes that began after the denial clear it. An outage or a fault ends no lease.

use std::{sync::atomic::Ordering, time::Duration};

use jiff::Timestamp;
use strongroom_envelope::RecordError;
use strongroom_keys::{Class, Code, KeyFailure, KeyProvider};

use super::{KeyRecord, Keyring, unavailable};
use crate::{
    error::{Error, KeyUnavailable, Result, Unavailable},
    id::VaultId,
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
        let mut why = explain(record, provider, &failure, self.clock.now());
        if failure.class == Class::Denial && failure.is_sign_in() && !self.refused_long_enough(record.vault, started) {
            why.class = Unavailable::Outage;
        }
        self.note(record, why).await
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
        self.note(record, why).await
    }

    /// A verified unwrap: clears what it can clear. True when the vault is not dark (any more).
    pub(super) async fn succeeded(&self, record: &KeyRecord, started: Duration) -> Result<bool> {
        let cleared = {
            let mut state = self.state();
            state.answered.insert(record.vault, self.clock.now());
            state.refused_since.remove(&record.vault);
            match state.marks.get_mut(&record.vault) {
                None => state.troubled.remove(&record.vault),
                Some(mark) if started < mark.denied_at => return Ok(false),
                Some(mark) => {
                    mark.successes += 1;
                    if mark.successes < CLEARING {
                        return Ok(false);
                    }
                    state.marks.remove(&record.vault);
                    state.failures.retain(|(vault, _), _| *vault != record.vault);
                    true
                }
            }
        };
        if cleared {
            let now = self.clock.now();
            let event = self.event(record, "key.restored", record.facts())?;
            let (vault, node) = (record.vault, self.node);
            self.store
                .write(move |tx| {
                    set_state(tx, vault, "healthy", "", "", None, node.0, now)?;
                    tx.record(&event)
                })
                .await?;
            self.tell(record.vault);
        }
        Ok(true)
    }

    /// Takes over the denial marks that other nodes have set, and drops those that they have cleared.
    pub async fn read_marks(&self) -> Result<()> {
        let rows = self
            .store
            .read(|tx| {
                tx.all(
                    "SELECT k.vault_id, v.name, k.code, k.detail, k.azure_request_id, k.since, k.changed_at, k.status \
                     FROM key_states k JOIN vaults v ON v.id = k.vault_id",
                    &[],
                    |row| {
                        let code: String = row.get(2)?;
                        let known = Code::ALL.iter().find(|known| known.as_str() == code);
                        let why = KeyUnavailable {
                            vault: VaultId(row.get(0)?),
                            vault_name: row.get(1)?,
                            class: Unavailable::Dark,
                            title: known.map_or("The key is denied", |code| code.title()).into(),
                            fix: known.map_or("Look at the vault's checks.", |code| code.fix()).into(),
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
            if status == "dark" && denied_on.is_none() {
                self.darken(why);
            } else if status != "dark" && denied_on.is_some_and(|denied_on| denied_on < changed_at) {
                self.state().marks.remove(&vault);
                self.tell(vault);
            }
        }
        Ok(())
    }

    /// Records what is wrong with a vault's key, where that is new, and ends its leases if it is denied.
    async fn note(&self, record: &KeyRecord, mut why: KeyUnavailable) -> Error {
        let status = match why.class {
            Unavailable::Dark => "dark",
            Unavailable::Outage => "outage",
            Unavailable::Fault => "fault",
        };
        let news = if why.class == Unavailable::Dark {
            self.darken(why.clone())
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
        if news && let Err(error) = self.write_note(record, &why, status).await {
            return error;
        }
        Error::KeyUnavailable(Box::new(why))
    }

    async fn write_note(&self, record: &KeyRecord, why: &KeyUnavailable, status: &'static str) -> Result<()> {
        let action = match why.class {
            Unavailable::Dark => "key.denied",
            Unavailable::Outage => "key.outage",
            Unavailable::Fault => "key.fault",
        };
        let mut facts = record.facts();
        facts.push(("code", why.code.as_str().into()));
        if let Some(id) = &why.azure_request_id {
            facts.push(("azure_request", id.as_str().into()));
        }
        let event = self.event(record, action, facts)?;
        tracing::warn!(vault = %record.vault, code = why.code, "{action}");
        let (why, node, now) = (why.clone(), self.node, self.clock.now());
        self.store
            .write(move |tx| {
                let request = why.azure_request_id.as_deref();
                set_state(tx, why.vault, status, &why.code, &why.detail, request, node.0, now)?;
                tx.record(&event)
            })
            .await
    }

    /// Marks a vault dark and ends its leases. True when it was not dark before, or for another reason.
    fn darken(&self, why: KeyUnavailable) -> bool {
        let vault = why.vault;
        let (denied_at, denied_on) = (self.clock.since_boot(), self.clock.now());
        let news = {
            let mut state = self.state();
            let before = state.marks.remove(&vault);
            let news = before.as_ref().is_none_or(|before| before.why.code != why.code);
            let since = before.map_or(why.since, |before| before.why.since);
            state
                .marks
                .insert(vault, Mark { why: KeyUnavailable { since, ..why }, denied_at, denied_on, successes: 0 });
            state.troubled.remove(&vault);
            state.leases.retain(|(leased, _), lease| {
                let keep = *leased != vault;
                if !keep {
                    lease.purged.store(true, Ordering::Release);
                }
                keep
            });
            news
        };
        if news {
            self.tell(vault);
        }
        news
    }

    fn refused_long_enough(&self, vault: VaultId, started: Duration) -> bool {
        let mut state = self.state();
        let first = *state.refused_since.entry(vault).or_insert(started);
        started >= first + REFUSED_FOR
    }

    fn tell(&self, vault: VaultId) {
        // Without listeners there is nobody to tell.
        let _ = self.changes.send(vault);
    }
}

/// A failure in the words of `strongroom_keys`, with the customer's own names in the command that mends it.
fn explain(record: &KeyRecord, provider: &dyn KeyProvider, failure: &KeyFailure, now: Timestamp) -> KeyUnavailable {
    KeyUnavailable {
        vault: record.vault,
        vault_name: record.vault_name.clone(),
        class: unavailable(failure),
        code: failure.code.as_str().into(),
        title: failure.code.title().into(),
        detail: failure.detail.clone(),
        fix: provider.command(failure, Some(&record.kid)).unwrap_or_else(|| failure.code.fix().into()),
        since: now,
        azure_request_id: failure.azure_request_id.clone(),
    }
}

#[allow(clippy::too_many_arguments)]
fn set_state(
    tx: &mut Tx<'_>,
    vault: VaultId,
    status: &str,
    code: &str,
    detail: &str,
    request: Option<&str>,
    node: uuid::Uuid,
    now: Timestamp,
) -> Result<()> {
    tx.execute("DELETE FROM key_states WHERE vault_id = $1", &[vault.0.into()])?;
    tx.execute(
        "INSERT INTO key_states (vault_id, status, code, detail, azure_request_id, node, since, changed_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        &[
            vault.0.into(),
            status.into(),
            code.into(),
            detail.into(),
            request.into(),
            node.into(),
            now.into(),
            now.into(),
        ],
    )?;
    Ok(())
}

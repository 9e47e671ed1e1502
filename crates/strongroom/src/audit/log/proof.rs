//! Proofs for those who hold no copy: that one event is in the log, and that a newer log begins with an older one.
//!
//! The first is a C2SP tlog-proof (c2sp.org/tlog-proof), with the event's canonical bytes as its extra data: one file
//! that says what happened, and proves it to whoever has the log's public key.

use std::{fmt, str::FromStr, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use strongroom_envelope::LogPublicKey;
use tlog_tiles::{Hash, check_record, record_hash};

use super::{
    Checkpoint, State, VerifierKey,
    checkpoint::newest,
    note::origin_name,
    tree::{consistency, inclusion},
};
use crate::{
    access::Action,
    app::{App, Caller},
    audit::{
        Entry,
        read::proven,
        verify::{EVENT_COLUMNS, Stored},
    },
    error::{Error, Result},
    id::EventId,
};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// One event, and that it is in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct EventProof {
    /// Its place in the log, counted from 0.
    pub index: u64,
    /// The event's canonical bytes.
    pub bytes: Vec<u8>,
    /// From the leaf's sibling up to a child of the root (RFC 6962, section 2.1.1).
    hashes: Vec<Hash>,
    pub checkpoint: Checkpoint,
}

/// This text is not the proof of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no proof of an event: it should begin with {FIRST_LINE} and hold an event and a checkpoint")]
pub struct NotAProof;

/// The newest head of the log, and what it is verified with.
#[derive(Debug, Clone)]
pub struct LogHead {
    pub checkpoint: Checkpoint,
    pub key: VerifierKey,
}

/// That the log of `checkpoint` begins with the one of `from` events.
#[derive(Debug, Clone)]
pub struct Growth {
    pub from: u64,
    pub checkpoint: Checkpoint,
    /// RFC 6962, section 2.1.2.
    pub hashes: Vec<[u8; 32]>,
}

impl App {
    /// The newest checkpoint, for those who may read the log.
    pub async fn log_head(&self, caller: &Caller) -> Result<LogHead> {
        self.authorize_here(caller, Action::ReadAudit).await?;
        let keys = Arc::clone(&self.keys);
        self.store
            .read(move |tx| {
                let (state, checkpoint) = (State::read(tx)?, newest(tx)?);
                let (Some(state), Some(checkpoint)) = (state, checkpoint) else { return Err(not_yet()) };
                let key = VerifierKey { name: origin_name(state.origin), key: state.key(&keys)?.public() };
                Ok(LogHead { checkpoint, key })
            })
            .await
    }

    /// Proves an event of the caller's workspace. One that came in the last minute may not be signed yet.
    pub async fn prove_event(&self, caller: &Caller, id: EventId) -> Result<EventProof> {
        self.authorize_here(caller, Action::ReadAudit).await?;
        let (workspace, keys) = (caller.workspace, Arc::clone(&self.keys));
        self.store
            .read(move |tx| {
                let sql = format!("SELECT {EVENT_COLUMNS} FROM audit_events WHERE id = $1 AND workspace_id = $2");
                let found = tx.first(&sql, &[id.0.into(), workspace.0.into()], Stored::read)?;
                let row = found.ok_or(Error::NotFound("event"))?;
                // What is handed out as proven, this instance wrote.
                let entry = proven(&keys, &row).map_err(|_| {
                    Error::integrity("integrity.event", "an event of the audit log was changed or planted")
                })?;
                let sql = "SELECT log_index FROM log_leaves WHERE boot = $1 AND sequence = $2";
                let place = [entry.place.boot.0.into(), entry.place.sequence.into()];
                let (index, bytes) = (tx.first(sql, &place, |row| row.get::<i64>(0))?, row.bytes);
                let checkpoint = newest(tx)?.ok_or_else(not_yet)?;
                let index = index.and_then(|index| u64::try_from(index).ok());
                let index = index.filter(|index| *index < checkpoint.size).ok_or_else(not_yet)?;
                let hashes = inclusion(tx, checkpoint.size, index)?;
                Ok(EventProof { index, bytes, hashes, checkpoint })
            })
            .await
    }

    /// Proves that the log only grew since it had `from` events.
    pub async fn prove_growth(&self, caller: &Caller, from: u64) -> Result<Growth> {
        self.authorize_here(caller, Action::ReadAudit).await?;
        self.store
            .read(move |tx| {
                let checkpoint = newest(tx)?.ok_or_else(not_yet)?;
                if !(1..=checkpoint.size).contains(&from) {
                    let message =
                        format!("From 1 to {}, as many events as the newest checkpoint covers.", checkpoint.size);
                    return Err(Error::field("from", message));
                }
                let hashes = consistency(tx, checkpoint.size, from)?.into_iter().map(|hash| hash.0).collect();
                Ok(Growth { from, checkpoint, hashes })
            })
            .await
    }
}

impl EventProof {
    /// The event, if it is in the log that `key` signed.
    pub fn verify(&self, key: &LogPublicKey) -> Option<Entry> {
        let Checkpoint { size, root, .. } = &self.checkpoint;
        let leaf = record_hash(&self.bytes);
        let proven = self.checkpoint.is_signed_by(key)
            && check_record(&self.hashes, *size, Hash(*root), self.index, leaf).is_ok();
        Entry::decode(&self.bytes).ok().filter(|_| proven)
    }
}

impl fmt::Display for EventProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}\nextra {}\nindex {}", BASE64_STANDARD.encode(&self.bytes), self.index)?;
        for hash in &self.hashes {
            writeln!(f, "{}", BASE64_STANDARD.encode(hash.0))?;
        }
        write!(f, "\n{}", self.checkpoint.note())
    }
}

impl FromStr for EventProof {
    type Err = NotAProof;

    fn from_str(text: &str) -> std::result::Result<Self, NotAProof> {
        let (proof, note) = text.split_once("\n\n").ok_or(NotAProof)?;
        let mut lines = proof.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Err(NotAProof);
        }
        let extra = lines.next().and_then(|line| line.strip_prefix("extra ")).ok_or(NotAProof)?;
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).ok_or(NotAProof)?;
        let hashes = lines.map(|line| {
            let hash = BASE64_STANDARD.decode(line).ok().and_then(|hash| hash.try_into().ok());
            hash.map(Hash).ok_or(NotAProof)
        });
        Ok(Self {
            index: index.parse().map_err(|_| NotAProof)?,
            bytes: BASE64_STANDARD.decode(extra).map_err(|_| NotAProof)?,
            hashes: hashes.collect::<std::result::Result<_, _>>()?,
            checkpoint: note.parse().map_err(|_| NotAProof)?,
        })
    }
}

fn not_yet() -> Error {
    Error::conflict(
        "log.not_signed_yet",
        "this part of the audit log is not signed yet",
        "Ask again in a minute: the server signs the log once a minute.",
    )
}

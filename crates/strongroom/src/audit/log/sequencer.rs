//! Gives events their indexes: one node at a time, by a lease with a fence, in the order in which they were committed as
//! far as anybody can tell. Within a chain that is the sequence; what one look finds of several chains is ordered by
//! the times that the events say.

use std::{cmp::Reverse, collections::BinaryHeap, ops::Range};

use jiff::{SignedDuration, Timestamp};
use strongroom_envelope::InstanceKeys;
use tlog_tiles::{Hash, record_hash};
use uuid::Uuid;

use super::{State, tree::Frontier};
use crate::{
    app::App,
    audit::{
        Place,
        verify::{EVENT_COLUMNS, Stored, prove},
    },
    error::{Error, Result},
    id::NodeId,
    store::{Param, StoreError, Tx},
};

/// How long a holder may be silent before another takes over.
const LEASE: SignedDuration = SignedDuration::from_secs(30);
/// Events that one pass takes in.
const BATCH: usize = 256;

/// Grows with each holder of the lease; a write under an old one does not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fence(pub(super) i64);

/// What a pass came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// There is more to take in.
    More,
    /// Nothing is left, or another node holds the lease.
    Done,
}

/// What one look found.
pub(super) struct Batch {
    /// The tree's size before.
    size: u64,
    leaves: Vec<Leaf>,
    /// The hashes to store, with their positions.
    hashes: Vec<(u64, Hash)>,
    /// Chain → the sequence from which on nothing of it has been looked at.
    progress: Vec<(Uuid, u64)>,
    full: bool,
    /// When the lease under which it looked ends: with nothing to write, it is renewed once half of it is over.
    lease_ends: Timestamp,
}

struct Leaf {
    boot: Uuid,
    sequence: i64,
}

impl App {
    /// The lease, if it is free, has ended, or is that of an earlier start of this node and `starting` says so.
    pub(super) async fn claim_log(&self, starting: bool) -> Result<Option<Fence>> {
        let (node, now) = (self.node, self.clock.now());
        let state = self.store.read(State::read).await?;
        if !state.is_some_and(|state| state.is_free(node, now, starting)) {
            return Ok(None);
        }
        self.store.write(move |tx| claim(tx, node, now, starting)).await
    }

    /// Takes in what is new. Whoever does not hold the lease any more has `held` taken away.
    pub(super) async fn log_pass(&self, held: &mut Option<Fence>) -> Result<Pass> {
        let Some(fence) = *held else { return Ok(Pass::Done) };
        let keys = self.keys.clone();
        let Some(batch) = self.store.read(move |tx| gather(tx, &keys, fence)).await? else {
            *held = None;
            return Ok(Pass::Done);
        };
        let (now, full) = (self.clock.now(), batch.full);
        if batch.progress.is_empty() && now + LEASE / 2 < batch.lease_ends {
            return Ok(Pass::Done);
        }
        if !self.store.write(move |tx| append(tx, fence, now, &batch)).await? {
            *held = None;
            return Ok(Pass::Done);
        }
        Ok(if full { Pass::More } else { Pass::Done })
    }
}

impl State {
    fn is_free(&self, node: NodeId, now: Timestamp, starting: bool) -> bool {
        match self.node {
            None => true,
            // A clock that was far ahead must not keep the lease for ever.
            Some(_) if self.lease_ends <= now || self.lease_ends > now + LEASE + LEASE => true,
            Some(holder) => starting && holder == node,
        }
    }
}

/// A chain begins with this event: the sequencer has to know of it.
pub(in crate::audit) fn begin_chain(tx: &mut Tx<'_>, first: &Place) -> Result<()> {
    tx.execute(
        "INSERT INTO log_chains (boot, node, next_sequence) VALUES ($1, $2, 0)",
        &[first.boot.0.into(), first.node.0.into()],
    )?;
    Ok(())
}

pub(super) fn claim(tx: &mut Tx<'_>, node: NodeId, now: Timestamp, starting: bool) -> Result<Option<Fence>> {
    let Some(state) = State::locked(tx)?.filter(|state| state.is_free(node, now, starting)) else { return Ok(None) };
    let fence = Fence(state.fence.0 + 1);
    tx.execute(
        "UPDATE log_state SET node = $1, lease_ends = $2, fence = $3 WHERE one = 1",
        &[node.0.into(), (now + LEASE).into(), fence.0.into()],
    )?;
    Ok(Some(fence))
}

/// Lets another node take over at once.
pub(super) fn let_go(tx: &mut Tx<'_>, fence: Fence) -> Result<()> {
    tx.execute("UPDATE log_state SET node = NULL, lease_ends = 0 WHERE one = 1 AND fence = $1", &[fence.0.into()])?;
    Ok(())
}

/// What has no index yet, in its order. None if the lease is another's.
///
/// It reads a snapshot outside of the transaction that writes: nobody's transaction conflicts with this look.
pub(super) fn gather(tx: &mut Tx<'_>, keys: &InstanceKeys, fence: Fence) -> Result<Option<Batch>> {
    let Some(state) = State::read(tx)?.filter(|state| state.fence == fence) else { return Ok(None) };
    let mut chains = Vec::new();
    for (boot, next) in waiting_chains(tx)? {
        chains.push(Waiting {
            boot,
            next,
            rows: waiting_events(tx, boot, next)?.into_iter().peekable(),
            latest: i64::MIN,
        });
    }
    let mut frontier = Frontier::stored(tx, state.size)?;
    let mut batch = Batch {
        size: state.size,
        leaves: Vec::new(),
        hashes: Vec::new(),
        progress: Vec::new(),
        full: false,
        lease_ends: state.lease_ends,
    };
    let mut queue: BinaryHeap<_> = (0..chains.len()).map(|index| Reverse((chains[index].key(), index))).collect();
    let mut looked_at = 0;
    while let Some(Reverse((_, index))) = queue.pop() {
        if looked_at == BATCH {
            batch.full = true;
            break;
        }
        looked_at += 1;
        let chain = &mut chains[index];
        let Some(row) = chain.rows.next() else { continue };
        chain.take(&row);
        if belongs(keys, &row) {
            batch.hashes.extend(frontier.push(record_hash(&row.bytes)));
            batch.leaves.push(Leaf { boot: chain.boot, sequence: row.sequence });
        }
        if chain.rows.peek().is_some() {
            queue.push(Reverse((chains[index].key(), index)));
        }
    }
    batch.progress = chains.iter().filter(|chain| chain.moved()).map(|chain| (chain.boot, chain.next)).collect();
    Ok(Some(batch))
}

/// Writes what was gathered, and renews the lease; false, and nothing is written, where the lease is another's.
pub(super) fn append(tx: &mut Tx<'_>, fence: Fence, now: Timestamp, batch: &Batch) -> Result<bool> {
    let Some(state) = State::locked(tx)? else { return Ok(false) };
    if state.fence != fence || state.size != batch.size {
        return Ok(false);
    }
    for (index, leaf) in (batch.size..).zip(&batch.leaves) {
        let place = [index.into(), leaf.boot.into(), leaf.sequence.into()];
        let taken = tx.execute("INSERT INTO log_leaves (log_index, boot, sequence) VALUES ($1, $2, $3)", &place);
        taken.map_err(|error| match error {
            // The fence says that nobody else gives places: a place was planted, or a chain's counter set back.
            Error::Store(StoreError::Taken) => Error::integrity(
                "log.planted",
                "the audit log has a place already for what is to get one; nothing is added, run audit verify",
            ),
            other => other,
        })?;
    }
    for (position, hash) in &batch.hashes {
        tx.execute(
            "INSERT INTO log_hashes (position, hash) VALUES ($1, $2)",
            &[(*position).into(), Param::Bytes(&hash.0)],
        )?;
    }
    for (boot, next) in &batch.progress {
        tx.execute("UPDATE log_chains SET next_sequence = $2 WHERE boot = $1", &[(*boot).into(), (*next).into()])?;
    }
    let size = batch.size + batch.leaves.len() as u64;
    tx.execute("UPDATE log_state SET size = $1, lease_ends = $2 WHERE one = 1", &[size.into(), (now + LEASE).into()])?;
    Ok(true)
}

/// Proves the events at these indexes once more, before their tree is signed: between their placing and this moment
/// somebody may have written into the tree's own tables. An error where one is not genuine, or not what the tree has.
pub(super) fn prove_again(tx: &mut Tx<'_>, keys: &InstanceKeys, indexes: Range<u64>) -> Result<()> {
    let event = format!("SELECT {EVENT_COLUMNS} FROM audit_events WHERE boot = $1 AND sequence = $2");
    let mut frontier = Frontier::stored(tx, indexes.start)?;
    for index in indexes {
        let place = "SELECT boot, sequence FROM log_leaves WHERE log_index = $1";
        let leaf = tx.first(place, &[index.into()], |row| Ok(Leaf { boot: row.get(0)?, sequence: row.get(1)? }))?;
        let row = match leaf {
            Some(leaf) => tx.first(&event, &[leaf.boot.into(), leaf.sequence.into()], Stored::read)?,
            None => None,
        };
        let Some(row) = row.filter(|row| belongs(keys, row)) else { return Err(planted()) };
        for (position, hash) in frontier.push(record_hash(&row.bytes)) {
            let stored = "SELECT hash FROM log_hashes WHERE position = $1";
            let stored = tx.first(stored, &[position.into()], |row| row.get::<Vec<u8>>(0))?;
            if stored.as_deref() != Some(&hash.0[..]) {
                return Err(planted());
            }
        }
    }
    Ok(())
}

fn planted() -> Error {
    Error::integrity(
        "log.forked",
        "the audit log's tree holds an event that this instance did not write; nothing is signed, run audit verify",
    )
}

/// A chain with events that have no index.
struct Waiting {
    boot: Uuid,
    next: u64,
    rows: std::iter::Peekable<std::vec::IntoIter<Stored>>,
    /// Clocks jump back, sequences do not.
    latest: i64,
}

impl Waiting {
    fn key(&mut self) -> (i64, Uuid) {
        let at = self.rows.peek().map_or(i64::MAX, |row| row.at);
        (self.latest.max(at), self.boot)
    }

    fn take(&mut self, row: &Stored) {
        self.latest = self.latest.max(row.at);
        self.next = u64::try_from(row.sequence).map_or(self.next, |sequence| sequence + 1);
    }

    fn moved(&self) -> bool {
        self.latest != i64::MIN
    }
}

/// The chains that have something, each with where it goes on. Whether one has is asked of its index, not of a join
/// for which an engine might read all events.
fn waiting_chains(tx: &mut Tx<'_>) -> Result<Vec<(Uuid, u64)>> {
    tx.all(
        "SELECT boot, next_sequence FROM \
           (SELECT c.boot, c.next_sequence, (SELECT e.sequence FROM audit_events e \
              WHERE e.boot = c.boot AND e.sequence >= c.next_sequence ORDER BY e.sequence LIMIT 1) AS found \
            FROM log_chains c) AS chains \
         WHERE found IS NOT NULL ORDER BY boot",
        &[],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

fn waiting_events(tx: &mut Tx<'_>, boot: Uuid, next: u64) -> Result<Vec<Stored>> {
    let sql = format!(
        "SELECT {EVENT_COLUMNS} FROM audit_events WHERE boot = $1 AND sequence >= $2 ORDER BY sequence LIMIT {BATCH}"
    );
    tx.all(&sql, &[boot.into(), next.into()], Stored::read)
}

/// The log signs what this instance wrote, and nothing that somebody put into its table. What is left out here,
/// `audit verify` names.
fn belongs(keys: &InstanceKeys, row: &Stored) -> bool {
    let genuine = prove(keys, row).is_ok_and(|entry| row.differs(&entry).is_empty());
    if !genuine {
        tracing::error!(event = %row.id, "an event was changed or planted before it came into the log; run audit verify");
    }
    genuine
}

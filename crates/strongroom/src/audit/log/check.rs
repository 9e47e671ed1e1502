//! The offline proof: builds the tree anew from the events as they lie there, and compares it with what was signed.
//!
//! Two trees are built side by side: one of the events, one of the leaf hashes that the sequencer stored. Where the
//! second is the signed one and the first is not, the leaves in which they differ name the events that were changed.
//! Where neither is, somebody changed both, and the checkpoints bound where.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use strongroom_envelope::LogPublicKey;
use tlog_tiles::{Hash, record_hash, stored_hash_index};
use uuid::Uuid;

use super::{Checkpoint, State, checkpoint::bound, note::origin_name, tree::Frontier};
use crate::{error::Result, id::EventId, store::Tx};

/// Leaves read at a time.
const PAGE: u64 = 500;
/// Faults that a report lists; the rest is counted.
const LISTED: usize = 10_000;

/// What became of the Merkle log.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct LogReport {
    /// Its present name.
    pub origin: String,
    /// Events in the tree.
    pub size: u64,
    /// Of those, how many the newest good checkpoint covers.
    pub proven: u64,
    /// Good checkpoints that the database keeps.
    pub checkpoints: u64,
    /// The size of the checkpoint that was given, if it is good and of this log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given: Option<u64>,
    /// Events that have no place in the tree yet.
    pub waiting: u64,
    pub faults: Vec<LogFault>,
    /// Faults beyond those listed.
    pub more_faults: u64,
}

/// What is wrong with the log, and where.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct LogFault {
    /// The place in the tree, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<EventId>,
    #[serde(flatten)]
    pub what: LogWhat,
}

/// How it is wrong.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum LogWhat {
    /// The event at this place is not the one that came into the tree there.
    Altered,
    /// The event at this place is one that came into the tree elsewhere.
    Reordered { belongs: u64 },
    /// The event at this place is gone.
    Removed,
    /// The list of leaves lacks these places.
    Unlisted { from: u64, to: u64 },
    /// The event is genuine and was passed over: it was hidden while its neighbours came into the tree.
    LeftOut,
    /// The event has its place, and the counter of its chain was set back to before it: it would get another.
    Counter,
    /// The names that the log has had are not those that its events tell, or two of them have no parent.
    Names,
    /// The events of these places, or some of them, are not those that were signed.
    Unproven { from: u64, to: u64 },
    /// The events are as they were signed; the hash that the database stores for this place is another.
    StoredHash,
    /// The tree has another size than the database says.
    Size { said: u64, found: u64 },
    /// A checkpoint in the database is not signed by the log's key, or cannot be read.
    Checkpoint { origin: String, size: u64 },
    /// The given checkpoint covers events that are not here.
    RolledBack { covered: u64, left: u64 },
    /// The given checkpoint is not signed by the key.
    NotSigned,
    /// The given checkpoint is of another log.
    Strange { origin: String },
    /// Its events say that there was a log, and its table is empty.
    NoLog,
}

/// Checks the tree against every checkpoint in the database and the one that was given. None where there is no log.
pub(in crate::audit) fn check(
    tx: &mut Tx<'_>,
    key: &LogPublicKey,
    given: Option<&Checkpoint>,
) -> Result<Option<LogReport>> {
    let Some(state) = State::read(tx)? else {
        return Ok(given.map(|given| {
            let mut report = LogReport::default();
            report.fault(None, None, LogWhat::Strange { origin: given.origin.clone() });
            report
        }));
    };
    let mut report = LogReport { origin: origin_name(state.origin), size: state.size, ..LogReport::default() };
    let mut heads = stored_heads(tx, &state, key, &mut report)?;
    if let Some(given) = given {
        given_head(tx, &state, key, given, &mut heads, &mut report)?;
    }
    let mut walk = Walk { heads, report, ..Walk::default() };
    walk.leaves(tx, state.size)?;
    walk.end(state.size);
    let Walk { heads, mut report, .. } = walk;
    report.given = given.map(|given| given.size).filter(|size| *size <= report.proven && heads.contains_key(size));
    Ok(Some(report))
}

/// Size → the root that was signed for it, of every good checkpoint in the database.
fn stored_heads(
    tx: &mut Tx<'_>,
    state: &State,
    key: &LogPublicKey,
    report: &mut LogReport,
) -> Result<BTreeMap<u64, [u8; 32]>> {
    let rows = tx.all("SELECT origin_id, size, note FROM log_checkpoints ORDER BY origin_id, size", &[], |row| {
        Ok((row.get::<Uuid>(0)?, row.get::<u64>(1)?, row.get::<String>(2)?))
    })?;
    let mut heads = BTreeMap::new();
    for (origin, size, note) in rows {
        let origin = origin_name(crate::id::OriginId(origin));
        let good = note.parse::<Checkpoint>().ok().filter(|checkpoint| {
            checkpoint.origin == origin && checkpoint.size == size && checkpoint.is_signed_by(key)
        });
        match good {
            Some(checkpoint) if bound(tx, state, &checkpoint)?.is_some_and(|bound| size <= bound) => {
                report.checkpoints += 1;
                heads.insert(size, checkpoint.root);
            }
            Some(_) => {
                let left = state.size;
                report.fault(None, None, LogWhat::RolledBack { covered: size, left });
            }
            None => report.fault(None, None, LogWhat::Checkpoint { origin, size }),
        }
    }
    Ok(heads)
}

fn given_head(
    tx: &mut Tx<'_>,
    state: &State,
    key: &LogPublicKey,
    given: &Checkpoint,
    heads: &mut BTreeMap<u64, [u8; 32]>,
    report: &mut LogReport,
) -> Result<()> {
    if !given.is_signed_by(key) {
        report.fault(None, None, LogWhat::NotSigned);
        return Ok(());
    }
    match bound(tx, state, given)? {
        None => report.fault(None, None, LogWhat::Strange { origin: given.origin.clone() }),
        Some(left) if given.size > left => {
            report.fault(None, None, LogWhat::RolledBack { covered: given.size, left });
        }
        // What was given from outside counts, not what the database says of the same size.
        Some(_) => {
            heads.insert(given.size, given.root);
        }
    }
    Ok(())
}

#[derive(Default)]
struct Walk {
    /// Size → the root that was signed for it.
    heads: BTreeMap<u64, [u8; 32]>,
    report: LogReport,
    /// Of the events as they lie there; a stored hash stands in for one that is gone.
    events: Frontier,
    /// Of the hashes that the sequencer stored.
    stored: Frontier,
    differing: Vec<Differing>,
    /// The last place that is known not to be what was signed, if there is one.
    unproven: Option<(u64, u64)>,
    /// How far the tree of events is the signed one.
    events_proven: u64,
}

struct Differing {
    index: u64,
    event: Option<EventId>,
    found: Option<Hash>,
    stored: Hash,
}

/// A leaf with its event, as the tables say it.
struct Leaf {
    index: u64,
    event: Option<EventId>,
    bytes: Option<Vec<u8>>,
}

impl Walk {
    fn leaves(&mut self, tx: &mut Tx<'_>, size: u64) -> Result<()> {
        let mut next = 0;
        loop {
            let page = tx.all(
                &format!(
                    "SELECT l.log_index, e.id, e.bytes FROM log_leaves l \
                     LEFT JOIN audit_events e ON e.boot = l.boot AND e.sequence = l.sequence \
                     WHERE l.log_index >= $1 ORDER BY l.log_index LIMIT {PAGE}"
                ),
                &[next.into()],
                |row| {
                    let event = row.get::<Option<Uuid>>(1)?.map(EventId);
                    Ok(Leaf { index: row.get(0)?, event, bytes: row.get(2)? })
                },
            )?;
            let Some(last) = page.last().map(|leaf| leaf.index) else { break };
            let stored = stored_leaves(tx, page[0].index, last)?;
            for leaf in page {
                self.missing(tx, next, leaf.index)?;
                next = leaf.index + 1;
                self.leaf(leaf, &stored);
            }
            debug_assert_eq!(next, last + 1);
        }
        self.missing(tx, next, size)?;
        if next > size {
            self.report.fault(None, None, LogWhat::Size { said: size, found: next });
        }
        Ok(())
    }

    /// Places without a leaf: what the sequencer stored of them stands in, so that the rest is still proven.
    fn missing(&mut self, tx: &mut Tx<'_>, from: u64, to: u64) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        self.report.fault(Some(from), None, LogWhat::Unlisted { from, to: to - 1 });
        for first in (from..to).step_by(usize::try_from(PAGE).expect("a page is small")) {
            let last = (first + PAGE).min(to) - 1;
            let stored = stored_leaves(tx, first, last)?;
            for index in first..=last {
                let Some(stored) = stored.get(&stored_hash_index(0, index)) else { return Ok(()) };
                self.push(*stored, *stored);
            }
        }
        Ok(())
    }

    fn leaf(&mut self, leaf: Leaf, stored: &HashMap<u64, Hash>) {
        let found = leaf.bytes.as_deref().map(record_hash);
        let stored = stored.get(&stored_hash_index(0, leaf.index)).copied();
        let stands = stored.or(found).unwrap_or_default();
        if found != Some(stands) || stored != found {
            self.differing.push(Differing { index: leaf.index, event: leaf.event, found, stored: stands });
        }
        self.push(found.unwrap_or(stands), stands);
    }

    fn push(&mut self, event: Hash, stored: Hash) {
        self.events.push(event);
        self.stored.push(stored);
        let size = self.events.size();
        let Some(signed) = self.heads.get(&size) else { return };
        if self.events.root() == *signed {
            (self.events_proven, self.report.proven) = (size, size);
        } else if self.stored.root() == *signed {
            self.report.proven = size;
        } else if self.unproven.is_none() {
            self.unproven = Some((self.report.proven, size - 1));
        }
    }

    /// Says what the differing leaves are, now that it is known which tree was signed.
    fn end(&mut self, size: u64) {
        if let Some((from, to)) = self.unproven {
            self.report.fault(Some(from), None, LogWhat::Unproven { from, to });
        }
        for (&signed, _) in self.heads.range(self.events.size() + 1..) {
            self.report.fault(None, None, LogWhat::RolledBack { covered: signed, left: size });
        }
        let places: HashMap<[u8; 32], u64> =
            self.differing.iter().map(|differing| (differing.stored.0, differing.index)).collect();
        for differing in std::mem::take(&mut self.differing) {
            let belongs = differing.found.and_then(|found| places.get(&found.0).copied());
            let what = match (differing.found, belongs) {
                (None, _) => LogWhat::Removed,
                _ if differing.index < self.events_proven => LogWhat::StoredHash,
                (Some(_), Some(belongs)) if belongs != differing.index => LogWhat::Reordered { belongs },
                _ => LogWhat::Altered,
            };
            self.report.fault(Some(differing.index), differing.event, what);
        }
    }
}

/// The stored hashes of the leaves from `first` to `last`, and of the nodes between them, by their positions.
fn stored_leaves(tx: &mut Tx<'_>, first: u64, last: u64) -> Result<HashMap<u64, Hash>> {
    let sql = "SELECT position, hash FROM log_hashes WHERE position >= $1 AND position <= $2";
    let span = [stored_hash_index(0, first).into(), stored_hash_index(0, last).into()];
    let rows = tx.all(sql, &span, |row| Ok((row.get::<u64>(0)?, row.get::<Vec<u8>>(1)?)))?;
    Ok(rows.into_iter().filter_map(|(position, hash)| Some((position, Hash(hash.try_into().ok()?)))).collect())
}

impl LogReport {
    pub(in crate::audit) fn fault(&mut self, index: Option<u64>, event: Option<EventId>, what: LogWhat) {
        if self.faults.len() < LISTED {
            self.faults.push(LogFault { index, event, what });
        } else {
            self.more_faults += 1;
        }
    }
}

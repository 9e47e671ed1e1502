//! `audit verify`: walks every chain from its first event to its last and names what does not fit; then the Merkle log
//! over all of them, against what was signed of it.
//!
//! It reads one snapshot, in pages, and writes nothing; so it works beside a running server and on a copy. Events cut off
//! at the end of a chain show in the log, and those cut off at the end of the log against a checkpoint kept elsewhere.

use std::{collections::BTreeSet, sync::Arc};

use strongroom_envelope::{InstanceKeys, LogPublicKey, Mac, MacError, digest, verify_audit};
use uuid::Uuid;

use super::{
    ChainFault, ChainHead, Entry, Fact, Place, Report, What,
    log::{self, Checkpoint, LogReport, LogWhat},
    replay::{Rank, Replay},
    state, vocabulary,
};
use crate::{
    error::Result,
    id::{BootId, EventId, NodeId, OriginId},
    store::{Row, Store, Tx},
};

/// Events read at a time.
const PAGE: usize = 500;

/// What a verification has in hand, beside the database.
#[derive(Default, Clone)]
pub struct Means {
    /// Without them, an event is proven by its place in the signed tree alone.
    pub keys: Option<Arc<InstanceKeys>>,
    /// That of the log; without it, the one that the instance keys open.
    pub public_key: Option<LogPublicKey>,
    /// One that was kept elsewhere.
    pub checkpoint: Option<Checkpoint>,
    /// Whether the rows are compared that the log vouches for; needs the keys.
    pub state: bool,
}

/// Verifies the whole log under the loaded instance keys and, `with_state`, the rows that it vouches for.
pub async fn verify(store: &Store, keys: Arc<InstanceKeys>, with_state: bool) -> Result<Report> {
    verify_by(store, Means { keys: Some(keys), state: with_state, ..Means::default() }).await
}

/// Verifies the whole log by the means that there are.
pub async fn verify_by(store: &Store, means: Means) -> Result<Report> {
    store
        .read(move |tx| {
            let replay = (means.state && means.keys.is_some()).then(Replay::default);
            let mut walk = Walk { keys: means.keys.as_deref(), replay, ..Walk::default() };
            walk.every_event(tx)?;
            let Walk { mut report, replay, left_out, set_back, names, waiting, had_log, .. } = walk;
            let state = log::State::read(tx)?;
            let is_there = state.is_some();
            let key = match (means.public_key, state, &means.keys) {
                (Some(key), ..) => Some(key),
                (None, Some(state), Some(keys)) => Some(state.key(keys)?.public()),
                _ => None,
            };
            report.log = match key {
                Some(key) => log::check(tx, &key, means.checkpoint.as_ref())?,
                None => None,
            };
            match &mut report.log {
                Some(log) => {
                    log.waiting = waiting;
                    for event in left_out {
                        log.fault(None, Some(event), LogWhat::LeftOut);
                    }
                    for (index, event) in set_back {
                        log.fault(u64::try_from(index).ok(), Some(event), LogWhat::Counter);
                    }
                    if names != log::names(tx)? || names.iter().filter(|(_, parent)| parent.is_none()).count() > 1 {
                        log.fault(None, None, LogWhat::Names);
                    }
                }
                // Where it is there, no key was given to judge it by.
                None if had_log && !is_there => {
                    let mut log = LogReport::default();
                    log.fault(None, None, LogWhat::NoLog);
                    report.log = Some(log);
                }
                None => {}
            }
            if let Some(replay) = replay {
                report.state = Some(state::compare(tx, replay)?);
            }
            Ok(report)
        })
        .await
}

/// The columns of an event, in the order in which [`Stored::read`] takes them.
pub(super) const EVENT_COLUMNS: &str =
    "id, node, boot, sequence, workspace_id, actor_id, target_id, action, at, bytes, mac";

/// Proves one row of the log: the MAC under a loaded key, the one encoding, and columns that say the same.
pub(super) fn prove(keys: &InstanceKeys, row: &Stored) -> std::result::Result<Entry, What> {
    let mac = Mac::from_bytes(&row.mac).map_err(|_| What::Forged)?;
    verify_audit(keys, &digest(&row.bytes), &mac).map_err(|error| match error {
        MacError::UnknownInstanceKey(key) => What::KeyNotLoaded { key: key.to_string() },
        _ => What::Forged,
    })?;
    let entry = Entry::decode(&row.bytes).map_err(|_| What::NotCanonical)?;
    Ok(entry)
}

#[derive(Default)]
struct Walk<'a> {
    keys: Option<&'a InstanceKeys>,
    report: Report,
    chain: Option<Walked>,
    replay: Option<Replay>,
    /// Events with a place, to which the counter of their chain would give another.
    set_back: Vec<(i64, EventId)>,
    /// The log's names as its events tell them, each with its parent.
    names: BTreeSet<(OriginId, Option<OriginId>)>,
    /// Genuine events that the log passed over.
    left_out: Vec<EventId>,
    /// Events that have no place in the log yet.
    waiting: u64,
    /// An event says that there was a log.
    had_log: bool,
}

/// What the log's tables say of an event.
struct Indexed {
    index: Option<i64>,
    /// From which sequence on the events of its chain have no index yet; none where the log does not know the chain.
    next: Option<i64>,
}

/// The chain that is being walked.
struct Walked {
    node: NodeId,
    boot: BootId,
    events: u64,
    next: u64,
    /// The hash that the next event has to name; unknown after an event that is missing or not genuine.
    link: Option<[u8; 32]>,
    head: [u8; 32],
    /// The latest time in this chain: clocks jump back, sequences do not.
    latest: i64,
}

impl Walk<'_> {
    fn every_event(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        let (mut after, mut compare) = ((Uuid::nil(), i64::MIN), ">=");
        loop {
            let rows = tx.all(
                &format!(
                    "SELECT e.id, e.node, e.boot, e.sequence, e.workspace_id, e.actor_id, e.target_id, e.action, e.at, \
                            e.bytes, e.mac, l.log_index, c.next_sequence FROM audit_events e \
                     LEFT JOIN log_leaves l ON l.boot = e.boot AND l.sequence = e.sequence \
                     LEFT JOIN log_chains c ON c.boot = e.boot \
                     WHERE (e.boot, e.sequence) {compare} ($1, $2) ORDER BY e.boot, e.sequence LIMIT {PAGE}"
                ),
                &[after.0.into(), after.1.into()],
                |row| {
                    let indexed = Indexed { index: row.get(11)?, next: row.get(12)? };
                    Ok(Stored::read(row).map(|stored| (stored, indexed)))
                },
            )?;
            let count = rows.len();
            self.report.events += count as u64;
            let before = (after, compare);
            for row in rows {
                match row {
                    Ok((row, indexed)) => {
                        (after, compare) = ((row.boot.0, row.sequence), ">");
                        self.step(&row, &indexed);
                    }
                    Err(_) => self.fault_at(after, EventId(Uuid::nil()), What::Unreadable),
                }
            }
            // Without progress, a page holds nothing but rows that cannot be read, and the next would be the same.
            if count < PAGE || before == (after, compare) {
                self.end_chain();
                return Ok(());
            }
        }
    }

    fn step(&mut self, row: &Stored, indexed: &Indexed) {
        if self.chain.as_ref().is_none_or(|chain| chain.boot != row.boot) {
            self.end_chain();
        }
        let mut chain = self.chain.take().unwrap_or_else(|| Walked::begin(row));
        let sequence = u64::try_from(row.sequence).unwrap_or(0);
        if sequence > chain.next {
            self.fault(row, What::Gap { from: chain.next, to: sequence - 1 });
            chain.link = None;
        }
        chain.next = sequence + 1;
        chain.events += 1;
        chain.head = digest(&row.bytes);
        let link = chain.link.take();
        let proven = match self.keys {
            Some(keys) => prove(keys, row),
            None => Entry::decode(&row.bytes).map_err(|_| What::NotCanonical),
        };
        match proven {
            Err(what) => self.fault(row, what),
            Ok(entry) => {
                self.placed(row, &entry, indexed);
                self.fits(row, &entry, &mut chain, link, indexed);
            }
        }
        self.chain = Some(chain);
    }

    /// Whether a genuine event has its place in the log, or is still to get one.
    fn placed(&mut self, row: &Stored, entry: &Entry, indexed: &Indexed) {
        if entry.event.action == "log.origin" {
            self.had_log = true;
            let id = |name: &str| match entry.event.fact(name) {
                Some(Fact::Id(id)) => Some(OriginId(*id)),
                _ => None,
            };
            self.names.extend(id("origin").map(|origin| (origin, id("parent"))));
        }
        match indexed {
            Indexed { index: Some(index), next } if next.is_none_or(|next| row.sequence >= next) => {
                self.set_back.push((*index, row.id));
            }
            Indexed { index: Some(_), .. } => {}
            Indexed { next: Some(next), .. } if row.sequence >= *next => self.waiting += 1,
            // The sequencer leaves out what does not say what its columns say; that is a fault of its own.
            _ if row.differs(entry).is_empty() => self.left_out.push(row.id),
            _ => {}
        }
    }

    /// A genuine event: is it where it belongs, and what does it say?
    fn fits(&mut self, row: &Stored, entry: &Entry, chain: &mut Walked, link: Option<[u8; 32]>, indexed: &Indexed) {
        let columns = row.differs(entry);
        let moved = columns.iter().any(|column| ["node", "boot", "sequence"].contains(column));
        let mut at = entry.event.at.as_millisecond();
        if !moved {
            chain.link = Some(chain.head);
            chain.latest = chain.latest.max(at);
            at = chain.latest;
            if link.is_some_and(|link| link != entry.place.previous) {
                self.fault(row, What::NotNext);
            }
        }
        if !columns.is_empty() {
            self.fault(row, What::Columns { columns });
        }
        if let Err(why) = vocabulary::check(&entry.event) {
            self.fault(row, What::Unlisted { why });
        } else if let Some(replay) = &mut self.replay {
            let Place { boot, sequence, .. } = entry.place;
            replay.apply(Rank { index: indexed.index.unwrap_or(i64::MAX), at, boot, sequence }, &entry.event);
        }
    }

    fn end_chain(&mut self) {
        if let Some(chain) = self.chain.take() {
            let head = hex::encode(chain.head);
            self.report.chains.push(ChainHead { node: chain.node, boot: chain.boot, events: chain.events, head });
        }
    }

    fn fault(&mut self, row: &Stored, what: What) {
        self.fault_at((row.boot.0, row.sequence), row.id, what);
    }

    fn fault_at(&mut self, (boot, sequence): (Uuid, i64), event: EventId, what: What) {
        self.report.fault(ChainFault { boot: BootId(boot), sequence, event, what });
    }
}

impl Walked {
    fn begin(row: &Stored) -> Self {
        Self {
            node: row.node,
            boot: row.boot,
            events: 0,
            next: 0,
            link: Some([0; 32]),
            head: [0; 32],
            latest: i64::MIN,
        }
    }
}

/// A row of `audit_events`.
pub(super) struct Stored {
    pub(super) id: EventId,
    node: NodeId,
    boot: BootId,
    pub(super) sequence: i64,
    workspace: Option<Uuid>,
    actor: Option<Uuid>,
    target: Option<Uuid>,
    action: String,
    pub(super) at: i64,
    pub(super) bytes: Vec<u8>,
    pub(super) mac: Vec<u8>,
}

impl Stored {
    /// In the order of [`EVENT_COLUMNS`].
    pub(super) fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            id: EventId(row.get(0)?),
            node: NodeId(row.get(1)?),
            boot: BootId(row.get(2)?),
            sequence: row.get(3)?,
            workspace: row.get(4)?,
            actor: row.get(5)?,
            target: row.get(6)?,
            action: row.get(7)?,
            at: row.get(8)?,
            bytes: row.get(9)?,
            mac: row.get(10)?,
        })
    }

    /// The columns that do not say what the event says.
    pub(super) fn differs(&self, entry: &Entry) -> Vec<&'static str> {
        let (place, event) = (&entry.place, &entry.event);
        let columns = [
            ("id", self.id == event.id),
            ("node", self.node == place.node),
            ("boot", self.boot == place.boot),
            ("sequence", u64::try_from(self.sequence) == Ok(place.sequence)),
            ("workspace_id", self.workspace == event.workspace.map(|id| id.0)),
            ("actor_id", self.actor == event.actor.member().map(|id| id.0)),
            ("target_id", self.target == event.target.id()),
            ("action", self.action == event.action),
            ("at", self.at == event.at.as_millisecond()),
        ];
        columns.into_iter().filter(|(_, same)| !same).map(|(column, _)| column).collect()
    }
}

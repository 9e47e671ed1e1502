//! `audit verify`: walks every chain from its first event to its last and names what does not fit.
//!
//! It reads one snapshot, in pages, and writes nothing; so it works beside a running server and on a copy. What it
//! cannot see is events cut off at the end of a chain: the heads in its report, kept elsewhere, show that.

use std::sync::Arc;

use strongroom_envelope::{InstanceKeys, Mac, MacError, digest, verify_audit};
use uuid::Uuid;

use super::{
    ChainFault, ChainHead, Entry, Report, What,
    replay::{Rank, Replay},
    state, vocabulary,
};
use crate::{
    error::Result,
    id::{BootId, EventId, NodeId},
    store::{Row, Store, Tx},
};

/// Events read at a time.
const PAGE: usize = 500;

/// Verifies the whole log under the loaded instance keys and, `with_state`, the rows that it vouches for.
pub async fn verify(store: &Store, keys: Arc<InstanceKeys>, with_state: bool) -> Result<Report> {
    store
        .read(move |tx| {
            let mut walk =
                Walk { keys: &keys, report: Report::default(), chain: None, replay: with_state.then(Replay::default) };
            walk.every_event(tx)?;
            let mut report = walk.report;
            if let Some(replay) = walk.replay {
                report.state = Some(state::compare(tx, replay)?);
            }
            Ok(report)
        })
        .await
}

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

struct Walk<'a> {
    keys: &'a InstanceKeys,
    report: Report,
    chain: Option<Walked>,
    replay: Option<Replay>,
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
                    "SELECT id, node, boot, sequence, workspace_id, actor_id, target_id, action, at, bytes, mac \
                     FROM audit_events WHERE (boot, sequence) {compare} ($1, $2) ORDER BY boot, sequence LIMIT {PAGE}"
                ),
                &[after.0.into(), after.1.into()],
                |row| Ok(Stored::read(row)),
            )?;
            let count = rows.len();
            self.report.events += count as u64;
            let before = (after, compare);
            for row in rows {
                match row {
                    Ok(row) => {
                        (after, compare) = ((row.boot.0, row.sequence), ">");
                        self.step(&row);
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

    fn step(&mut self, row: &Stored) {
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
        match prove(self.keys, row) {
            Err(what) => self.fault(row, what),
            Ok(entry) => self.fits(row, &entry, &mut chain, link),
        }
        self.chain = Some(chain);
    }

    /// A genuine event: is it where it belongs, and what does it say?
    fn fits(&mut self, row: &Stored, entry: &Entry, chain: &mut Walked, link: Option<[u8; 32]>) {
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
            replay.apply(Rank { at, boot: entry.place.boot, sequence: entry.place.sequence }, &entry.event);
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
    sequence: i64,
    workspace: Option<Uuid>,
    actor: Option<Uuid>,
    target: Option<Uuid>,
    action: String,
    at: i64,
    pub(super) bytes: Vec<u8>,
    mac: Vec<u8>,
}

impl Stored {
    /// In the order: id, node, boot, sequence, workspace_id, actor_id, target_id, action, at, bytes, mac.
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

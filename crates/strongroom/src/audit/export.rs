//! The log in its own order, oldest first, for those who copy it elsewhere: each page says where the next one begins, so
//! that whoever stores the events before the cursor gets every event at least once.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use strongroom_envelope::InstanceKeys;
use uuid::Uuid;

use super::{
    Entry, Target,
    log::{self, State},
    read::proven,
    verify::Stored,
};
use crate::{
    access::Action,
    app::{App, Caller},
    error::{Error, Result},
    id::{EventId, OriginId},
    store::Tx,
};

const EXPORT: &str = "audit.export";
const MAX_LIMIT: usize = 200;

/// An event with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Its place in the log over all events of the instance, counted from 0.
    pub index: u64,
    pub entry: Entry,
    /// Its canonical bytes: the leaf of the Merkle tree.
    pub bytes: Vec<u8>,
}

/// Events one after the other.
#[derive(Debug)]
pub struct ExportPage {
    pub items: Vec<Exported>,
    /// Rows that did not prove genuine; they are named and not given out.
    pub broken: Vec<EventId>,
    /// Where to go on, now or later.
    pub next_cursor: String,
    /// Whether there is more to fetch now.
    pub more: bool,
}

impl App {
    /// The workspace's events from `cursor` on, the oldest first; from the beginning without one. `limit` from 1 to 200.
    ///
    /// To read them is an event, `audit.export`. A page that holds nothing else is not recorded: whoever follows the
    /// log would never come to its end.
    pub async fn export_audit(&self, caller: &Caller, cursor: Option<&str>, limit: usize) -> Result<ExportPage> {
        self.authorize_here(caller, Action::ReadAudit).await?;
        let cursor = cursor.map(Cursor::read).transpose()?;
        let (workspace, keys) = (caller.workspace, Arc::clone(&self.keys));
        let limit = limit.clamp(1, MAX_LIMIT);
        let page = self.store.read(move |tx| page(tx, &keys, workspace.0, cursor, limit)).await?;
        if let (Some(first), Some(last)) = (page.items.first(), page.items.last())
            && page.items.iter().any(|item| item.entry.event.action != EXPORT)
        {
            let facts = vec![
                ("count", (page.items.len() as u64).into()),
                ("from", first.index.into()),
                ("to", last.index.into()),
            ];
            self.record(self.event(caller, EXPORT, Target::Workspace(workspace), facts)?).await?;
        }
        Ok(page)
    }
}

/// The next place to give out, under the name that the log had then.
#[derive(Clone, Copy)]
struct Cursor {
    origin: OriginId,
    next: u64,
}

impl Cursor {
    fn read(text: &str) -> Result<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let parts = bytes.as_deref().and_then(|bytes| bytes.split_first_chunk::<16>());
        let cursor = parts.and_then(|(origin, next)| {
            let next = u64::from_be_bytes(next.try_into().ok()?);
            Some(Self { origin: OriginId(Uuid::from_bytes(*origin)), next })
        });
        cursor.ok_or_else(|| Error::field("cursor", "Send next_cursor as the page before gave it."))
    }

    fn write(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode([&self.origin.bytes()[..], &self.next.to_be_bytes()].concat())
    }

    /// Where to go on in the log as it is now. One that was set back gives what came after that, though it has places
    /// that were given out before.
    fn place(&self, tx: &mut Tx<'_>, state: &State) -> Result<u64> {
        let common = log::common(tx, state, self.origin)?.ok_or_else(|| {
            Error::conflict(
                "audit.cursor_unknown",
                "this log never had the name that the cursor is of: the database is another one now",
                "Start again without a cursor. Events keep their ids, so those that come twice can be told.",
            )
        })?;
        Ok(self.next.min(common))
    }
}

fn page(
    tx: &mut Tx<'_>,
    keys: &InstanceKeys,
    workspace: Uuid,
    cursor: Option<Cursor>,
    limit: usize,
) -> Result<ExportPage> {
    let state = State::read(tx)?.ok_or(Error::NotFound("audit log"))?;
    let from = cursor.map_or(Ok(0), |cursor| cursor.place(tx, &state))?;
    let sql = format!(
        "SELECT e.id, e.node, e.boot, e.sequence, e.workspace_id, e.actor_id, e.target_id, e.action, e.at, e.bytes, \
                e.mac, l.log_index FROM log_leaves l \
         JOIN audit_events e ON e.boot = l.boot AND e.sequence = l.sequence \
         WHERE l.log_index >= $1 AND e.workspace_id = $2 ORDER BY l.log_index LIMIT {}",
        limit + 1
    );
    let mut rows =
        tx.all(&sql, &[from.into(), workspace.into()], |row| Ok((Stored::read(row)?, row.get::<u64>(11)?)))?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = if more { rows.last().map_or(from, |(_, index)| index + 1) } else { state.size.max(from) };
    let next_cursor = Cursor { origin: state.origin, next }.write();
    let mut page = ExportPage { items: Vec::new(), broken: Vec::new(), next_cursor, more };
    for (row, index) in rows {
        match proven(keys, &row) {
            Ok(entry) => page.items.push(Exported { index, entry, bytes: row.bytes }),
            Err(_) => page.broken.push(row.id),
        }
    }
    Ok(page)
}

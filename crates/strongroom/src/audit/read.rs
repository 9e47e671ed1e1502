//! Reading the log page by page, newest first. To read it is an event too.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use strongroom_envelope::InstanceKeys;
use uuid::Uuid;

use super::{
    Entry, Outcome, Target, VOCABULARY, What,
    verify::{EVENT_COLUMNS, Stored, prove},
};
use crate::{
    access::Action,
    app::{App, Caller},
    error::{Error, Result},
    id::{EventId, MemberId},
    store::{Param, Tx},
};

/// Entries of a page when the caller does not say how many.
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 200;
/// The longest action that can be asked for.
const MAX_ACTION: usize = 64;

/// Which events; what is absent does not restrict.
#[derive(Debug, Default, Clone)]
pub struct AuditFilter {
    /// An action, such as `item.reveal`, or a family of them with its dot: `item.`.
    pub action: Option<String>,
    pub outcome: Option<Outcome>,
    pub actor: Option<MemberId>,
    /// The id of an item, vault, member, session or token.
    pub target: Option<Uuid>,
    /// At this time or later.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub to: Option<Timestamp>,
}

/// One page of the log.
#[derive(Debug)]
pub struct AuditPage {
    /// Proven events, newest first.
    pub entries: Vec<Entry>,
    /// Rows that did not prove genuine. They are named and not shown; `audit verify` says what is wrong with them.
    pub broken: Vec<EventId>,
    /// Opaque; absent on the last page.
    pub next_cursor: Option<String>,
}

impl App {
    /// The workspace's events, newest first; `limit` from 1 to 200, or 0 for 50.
    pub async fn audit_page(
        &self,
        caller: &Caller,
        filter: AuditFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<AuditPage> {
        self.authorize_here(caller, Action::ReadAudit).await?;
        if filter.action.as_ref().is_some_and(|action| action.len() > MAX_ACTION || !action.is_ascii()) {
            return Err(Error::field("action", "Write an action as docs/format.md lists it, or its family: item."));
        }
        let before = cursor.map(read_cursor).transpose()?;
        let limit = if limit == 0 { DEFAULT_LIMIT } else { limit.min(MAX_LIMIT) };
        let (workspace, keys) = (caller.workspace, Arc::clone(&self.keys));
        let page = self
            .store
            .read(move |tx| {
                let (sql, params) = select(workspace.0, &filter, before, limit);
                let rows = tx.all(&sql, &params, Stored::read)?;
                let more = rows.len() > limit;
                let mut page = AuditPage { entries: Vec::new(), broken: Vec::new(), next_cursor: None };
                for row in rows.into_iter().take(limit) {
                    page.next_cursor = more.then(|| cursor_at(row.id));
                    match proven(&keys, &row) {
                        Ok(entry) => page.entries.push(entry),
                        Err(_) => page.broken.push(row.id),
                    }
                }
                Ok(page)
            })
            .await?;
        let facts = vec![("count", (page.entries.len() as u64).into())];
        self.record(self.event(caller, "audit.read", Target::Workspace(workspace), facts)?).await?;
        Ok(page)
    }
}

/// The newest event of `target` that is one of `actions`, once it is proven; None if there is none. An error where a row
/// that calls itself so is not genuine: then nothing is known.
pub(crate) fn newest_of(
    tx: &mut Tx<'_>,
    keys: &InstanceKeys,
    target: Target,
    actions: &[&'static str],
) -> Result<Option<Entry>> {
    let words: Vec<_> = actions.iter().map(|action| format!("'{action}'")).collect();
    let sql = format!(
        "SELECT {EVENT_COLUMNS} FROM audit_events \
         WHERE target_id = $1 AND action IN ({}) ORDER BY id DESC LIMIT 1",
        words.join(", ")
    );
    let Some(row) = tx.first(&sql, &[target.id().into()], Stored::read)? else { return Ok(None) };
    match proven(keys, &row) {
        Ok(entry) if entry.event.target == target => Ok(Some(entry)),
        _ => Err(Error::integrity("integrity.event", "an event of the audit log was changed or planted")),
    }
}

pub(super) fn proven(keys: &InstanceKeys, row: &Stored) -> std::result::Result<Entry, What> {
    let entry = prove(keys, row)?;
    let columns = row.differs(&entry);
    if columns.is_empty() { Ok(entry) } else { Err(What::Columns { columns }) }
}

/// The statement with the conditions that the filter sets, and no others, so that the engine finds its index.
fn select<'a>(
    workspace: Uuid,
    filter: &'a AuditFilter,
    before: Option<Uuid>,
    limit: usize,
) -> (String, Vec<Param<'a>>) {
    let mut sql = format!("SELECT {EVENT_COLUMNS} FROM audit_events WHERE workspace_id = $1");
    let mut params: Vec<Param<'a>> = vec![workspace.into()];
    let mut condition = |text: &str, param: Param<'a>| {
        params.push(param);
        sql.push_str(&format!(" AND {text} ${}", params.len()));
    };
    if let Some(action) = &filter.action {
        let text = if action.ends_with('.') {
            format!("substr(action, 1, {}) =", action.len())
        } else {
            "action =".to_owned()
        };
        condition(&text, action.into());
    }
    if let Some(before) = before {
        condition("id <", before.into());
    }
    if let Some(actor) = filter.actor {
        condition("actor_id =", actor.0.into());
    }
    if let Some(target) = filter.target {
        condition("target_id =", target.into());
    }
    if let Some(from) = filter.from {
        condition("at >=", from.into());
    }
    if let Some(to) = filter.to {
        condition("at <", to.into());
    }
    if let Some(outcome) = filter.outcome {
        let actions: Vec<_> =
            VOCABULARY.iter().filter(|word| word.outcome == outcome).map(|word| format!("'{}'", word.action)).collect();
        sql.push_str(&format!(" AND action IN ({})", actions.join(", ")));
    }
    sql.push_str(&format!(" ORDER BY id DESC LIMIT {}", limit + 1));
    (sql, params)
}

fn cursor_at(id: EventId) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(id.bytes())
}

fn read_cursor(text: &str) -> Result<Uuid> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok();
    bytes
        .and_then(|bytes| Uuid::from_slice(&bytes).ok())
        .ok_or_else(|| Error::field("cursor", "Send next_cursor as the page before gave it."))
}

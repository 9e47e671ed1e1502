//! What is there after a kill: items as the restarted server shows and opens them, and rows as they lie in the
//! database while no server runs.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::Value;
use strongroom::{
    error::Result,
    store::{Store, Tx},
};
use uuid::Uuid;

use crate::child::Api;

/// One item as the restarted server shows it.
pub struct Seen {
    pub id: Uuid,
    pub overview: std::result::Result<Value, String>,
    /// Every revision that was opened, or why it did not open.
    pub revealed: Vec<(u64, std::result::Result<Value, String>)>,
}

impl Seen {
    /// Reads the item, opens it, and opens each of its older `revisions`.
    pub async fn read(api: &Api, id: Uuid, revisions: &[u64]) -> Seen {
        let overview = answer(api, Method::GET, format!("/items/{id}")).await;
        let current = overview.as_ref().ok().and_then(|item| item["revision"].as_u64()).unwrap_or(0);
        let mut revealed = vec![(current, answer(api, Method::POST, format!("/items/{id}/reveal")).await)];
        for revision in revisions.iter().filter(|revision| **revision != current) {
            let path = format!("/items/{id}/history/{revision}/reveal");
            revealed.push((*revision, answer(api, Method::POST, path).await));
        }
        Seen { id, overview, revealed }
    }
}

async fn answer(api: &Api, method: Method, path: String) -> std::result::Result<Value, String> {
    match api.try_send(method, &path, None, &Value::Null).await {
        Some(answer) if answer.status == 200 => Ok(answer.json()),
        Some(answer) => Err(format!("{} {}", answer.status, answer.text)),
        None => Err("no answer".into()),
    }
}

/// What the tables say of all items.
pub struct Ledger {
    pub rows: BTreeMap<Uuid, Row>,
    data_keys: u64,
    roles: u64,
    older_revisions: u64,
}

/// One item's row, and how many events tell of it.
#[derive(Debug, Default)]
pub struct Row {
    pub vault: Uuid,
    pub revision: u64,
    pub creates: u64,
    pub edits: u64,
    pub reveals: u64,
}

impl Ledger {
    pub async fn read(store: &Store) -> Ledger {
        store.read(Self::of).await.expect("the tables can be read")
    }

    fn of(tx: &mut Tx<'_>) -> Result<Ledger> {
        let sql = "SELECT id, vault_id, revision FROM items";
        let rows = tx.all(sql, &[], |row| {
            Ok((row.get::<Uuid>(0)?, Row { vault: row.get(1)?, revision: row.get(2)?, ..Row::default() }))
        })?;
        let mut rows: BTreeMap<Uuid, Row> = rows.into_iter().collect();
        let sql = "SELECT target_id, action, COUNT(*) FROM audit_events \
                   WHERE action IN ('item.create', 'item.edit', 'item.reveal') GROUP BY target_id, action";
        let events = tx.all(sql, &[], |row| Ok((row.get::<Uuid>(0)?, row.get::<String>(1)?, row.get::<u64>(2)?)))?;
        for (id, action, count) in events {
            // An event of an item that is not there makes a row of no vault, which is a fault.
            let row = rows.entry(id).or_default();
            match action.as_str() {
                "item.create" => row.creates = count,
                "item.edit" => row.edits = count,
                _ => row.reveals = count,
            }
        }
        Ok(Ledger {
            rows,
            data_keys: tx.count("SELECT COUNT(*) FROM data_keys", &[])?,
            roles: tx.count("SELECT COUNT(*) FROM item_roles", &[])?,
            older_revisions: tx.count("SELECT COUNT(*) FROM item_revisions", &[])?,
        })
    }

    /// Writes that are there by half.
    pub fn halves(&self) -> Vec<String> {
        // Of what was deleted forever only events tell.
        let items = self.rows.values().filter(|row| row.revision > 0).count() as u64;
        let older: u64 = self.rows.values().map(|row| row.revision.saturating_sub(1)).sum();
        let tables = [
            ("data keys", self.data_keys, items),
            ("roles", self.roles, items),
            ("older revisions", self.older_revisions, older),
        ];
        let wrong = tables.into_iter().filter(|(_, found, wanted)| found != wanted);
        wrong
            .map(|(what, found, wanted)| format!("{found} {what} of {items} items; there should be {wanted}"))
            .collect()
    }
}

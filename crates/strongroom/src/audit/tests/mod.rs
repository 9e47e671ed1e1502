//! The proof side of the log, against everything that a writer of the database can do to it.

mod app;
mod chain;
mod state;
mod store;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use jiff::Timestamp;
use strongroom_envelope::{InstanceKey, InstanceKeys, Random, SystemRandom};
use uuid::Uuid;

use super::*;
use crate::{
    error::Result,
    id::{BootId, NodeId},
    store::{Param, Store, Tx, Writer},
};

/// When the tests' first event happens, in milliseconds since 1970.
const START: i64 = 1_800_000_000_000;

/// A log on SQLite in a folder of its own. Each event is a minute after the one before.
struct Log {
    folder: tempfile::TempDir,
    store: Store,
    keys: Arc<InstanceKeys>,
    workspace: WorkspaceId,
    now: AtomicI64,
}

fn instance_keys() -> Arc<InstanceKeys> {
    let key = InstanceKey::generate(&SystemRandom::new()).expect("the system gives randomness");
    Arc::new(InstanceKeys::new(key, Vec::new()))
}

fn random_id(at: i64) -> Uuid {
    let mut tail = [0; 10];
    SystemRandom::new().fill(&mut tail).expect("the system gives randomness");
    uuid::Builder::from_unix_timestamp_millis(at.unsigned_abs(), &tail).into_uuid()
}

fn open(file: PathBuf, keys: &Arc<InstanceKeys>) -> Store {
    let boot = Arc::new(|| Ok(BootId(random_id(START))));
    let writer = Writer { node: NodeId(random_id(START)), keys: Arc::clone(keys), boot };
    Store::open(&format!("sqlite:{}", file.display()), writer).expect("an empty folder takes a database")
}

impl Log {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keys = instance_keys();
        let store = open(folder.path().join("db"), &keys);
        let workspace = WorkspaceId(random_id(START));
        Self { folder, store, keys, workspace, now: AtomicI64::new(START) }
    }

    /// The server starts again: another chain.
    fn restarted(self) -> Self {
        let Self { folder, store, keys, workspace, now } = self;
        drop(store);
        let store = open(folder.path().join("db"), &keys);
        Self { folder, store, keys, workspace, now }
    }

    fn event(&self, action: &'static str, target: Target, detail: Vec<(&'static str, Fact)>) -> Event {
        let at = self.now.fetch_add(60_000, Ordering::Relaxed);
        Event {
            id: EventId(random_id(at)),
            at: Timestamp::from_millisecond(at).expect("in range"),
            workspace: Some(self.workspace),
            actor: Actor::System,
            action,
            target,
            detail,
        }
    }

    async fn record(&self, event: Event) {
        self.store.write(move |tx| tx.record(&event)).await.expect("an event is written");
    }

    /// `count` events that change nothing.
    async fn views(&self, count: usize) {
        let events: Vec<_> = (0..count)
            .map(|_| self.event("item.list", Target::Workspace(self.workspace), vec![("count", 1u64.into())]))
            .collect();
        self.store
            .write(move |tx| events.iter().try_for_each(|event| tx.record(event)))
            .await
            .expect("events are written");
    }

    /// What somebody with the database in hand does.
    async fn tamper(&self, work: impl Fn(&mut Tx<'_>) -> Result<u64> + Send + 'static) {
        let touched = self.store.write(work).await.expect("the database lets it happen");
        assert_ne!(touched, 0, "the statement changed something");
    }

    async fn report(&self, with_state: bool) -> Report {
        verify(&self.store, Arc::clone(&self.keys), with_state).await.expect("the log can be read")
    }

    /// The faults of the chains as (sequence, what), and nothing else.
    async fn faults(&self) -> Vec<(i64, What)> {
        self.report(false).await.faults.into_iter().map(|fault| (fault.sequence, fault.what)).collect()
    }
}

#[test]
fn the_vocabulary_is_the_table_of_the_documentation() {
    let page = include_str!("../../../../../docs/format.md");
    let section = page.split("### Vocabulary").nth(1).expect("the page has the section");
    let section = section.split("\n## ").next().expect("split gives a first part");
    let rows: Vec<_> = section.lines().filter(|line| line.starts_with("| `")).map(str::to_owned).collect();
    let table: Vec<_> = VOCABULARY.iter().map(Word::row).collect();
    assert_eq!(rows.join("\n"), table.join("\n"));
}

#[test]
fn no_action_is_listed_twice() {
    let mut actions: Vec<_> = VOCABULARY.iter().map(|word| word.action).collect();
    actions.sort_unstable();
    let count = actions.len();
    actions.dedup();
    assert_eq!(actions.len(), count);
}

#[test]
fn an_event_that_is_not_of_the_table_does_not_pass() {
    let log_like = |action, target, detail| Event {
        id: EventId(random_id(START)),
        at: Timestamp::from_millisecond(START).expect("in range"),
        workspace: None,
        actor: Actor::System,
        action,
        target,
        detail,
    };
    let list = Target::Workspace(WorkspaceId(random_id(START)));
    assert!(vocabulary::check(&log_like("item.list", list, vec![("count", 1u64.into())])).is_ok());
    for event in [
        log_like("item.lost", list, vec![]),
        log_like("item.list", Target::None, vec![("count", 1u64.into())]),
        log_like("item.list", list, vec![]),
        log_like("item.list", list, vec![("count", 1u64.into()), ("count", 1u64.into())]),
        log_like("item.list", list, vec![("count", "one".into())]),
        log_like("item.list", list, vec![("count", 1u64.into()), ("title", "Bank".into())]),
    ] {
        assert!(vocabulary::check(&event).is_err(), "{event:?}");
    }
}

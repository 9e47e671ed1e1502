//! What is given away of the log: its export, page by page, and the proof of one event.

use super::*;

const WORKSPACE: crate::id::WorkspaceId = crate::id::WorkspaceId(Uuid::from_u128(5));

/// Somebody who may read the log of a workspace.
fn owner() -> Caller {
    Caller {
        workspace: WORKSPACE,
        workspace_slug: "demo".into(),
        member: MemberId(Uuid::from_u128(6)),
        role: Role::Owner,
        through: Through::Session(SessionId(Uuid::from_u128(7))),
        signed_in_at: START.parse().expect("a time"),
        must_set_up_code: false,
    }
}

impl Office {
    /// Events of the workspace; their ids.
    async fn lists(&self, count: usize) -> Vec<EventId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            self.clock.advance(Duration::from_secs(1));
            let facts = vec![("count", 1u64.into())];
            let event =
                self.app.event_by(Actor::System, Some(WORKSPACE), "item.list", Target::Workspace(WORKSPACE), facts);
            let event = event.expect("randomness");
            ids.push(event.id);
            self.app.record(event).await.expect("recorded");
        }
        ids
    }

    /// Everything from `cursor` on, and where to go on later.
    async fn exported(&self, mut cursor: Option<String>) -> (Vec<EventId>, String) {
        let mut ids = Vec::new();
        loop {
            let page = self.app.export_audit(&owner(), cursor.as_deref(), 3).await.expect("exported");
            assert!(page.items.is_sorted_by_key(|item| item.index) && page.broken.is_empty());
            ids.extend(page.items.iter().map(|item| item.entry.event.id));
            assert!(page.items.iter().all(|item| Entry::decode(&item.bytes).expect("an event") == item.entry));
            match page.more {
                true => cursor = Some(page.next_cursor),
                false => return (ids, page.next_cursor),
            }
        }
    }
}

async fn export(url: Option<String>) {
    let office = Office::open(url).await;
    let first = office.lists(7).await;
    office.events(2).await;
    assert_eq!(office.exported(None).await.0, [], "nothing has a place yet");
    office.minute().await;
    let (given, cursor) = office.exported(None).await;
    assert_eq!(given, first, "the workspace's own events, in the log's order");
    assert_eq!(office.exported(Some(cursor.clone())).await.0, []);
    let second = office.lists(2).await;
    office.minute().await;
    let (given, cursor) = office.exported(Some(cursor)).await;
    let (reads, lists): (Vec<_>, Vec<_>) = given.into_iter().partition(|id| !second.contains(id));
    assert_eq!(lists, second);
    assert_eq!(reads.len(), 3, "to read them was an event, once for each page");
    office.minute().await;
    let (given, cursor) = office.exported(Some(cursor)).await;
    assert_eq!(given.len(), 1, "the read of the one page that held more than reads");
    office.minute().await;
    assert_eq!(office.exported(Some(cursor)).await.0, [], "and to read those was none: it comes to an end");
}

#[tokio::test]
async fn an_export_gives_everything_in_the_logs_order_and_goes_on_where_it_ended() {
    export(None).await;
}

#[tokio::test]
async fn an_export_gives_everything_in_the_logs_order_and_goes_on_where_it_ended_on_postgres() {
    if let Some(url) = postgres().await {
        export(Some(url)).await;
    }
}

#[tokio::test]
async fn an_export_leaves_nothing_out_after_the_database_was_set_back() {
    let office = Office::open(None).await;
    office.lists(3).await;
    office.minute().await;
    let office =
        office.after(|folder| std::fs::copy(folder.join("db"), folder.join("copy")).map(|_| ()).expect("copied")).await;
    office.lists(6).await;
    office.minute().await;
    let (_, cursor) = office.exported(None).await;
    let office =
        office.after(|folder| std::fs::rename(folder.join("copy"), folder.join("db")).expect("put back")).await;
    office.minute().await;
    let new = office.lists(4).await;
    office.minute().await;
    let (given, _) = office.exported(Some(cursor)).await;
    assert!(new.iter().all(|id| given.contains(id)), "though their places were given out before");
    let other = Office::open(None).await;
    let (_, strange) = other.exported(None).await;
    let refused = office.app.export_audit(&owner(), Some(&strange), 3).await.expect_err("refused");
    assert_eq!(refused.code(), "audit.cursor_unknown");
    assert!(office.app.export_audit(&owner(), Some("made-up"), 3).await.is_err());
}

async fn proven(url: Option<String>) {
    let office = Office::open(url).await;
    let early = office.lists(5).await[2];
    let unsigned = office.app.prove_event(&owner(), early).await.expect_err("not yet");
    assert_eq!(unsigned.code(), "log.not_signed_yet");
    office.minute().await;
    let old = office.app.log_head(&owner()).await.expect("signed");
    assert_eq!(old.key.key, office.key);
    office.lists(6).await;
    office.minute().await;
    let proof = office.app.prove_event(&owner(), early).await.expect("proven");
    let text = proof.to_string();
    let read: EventProof = text.parse().expect("our own text");
    assert_eq!(read, proof);
    assert_eq!(read.verify(&office.key).expect("it is in the log").event.id, early);
    let other = LogKey::generate(&SystemRandom::new()).expect("randomness").public();
    assert!(read.verify(&other).is_none(), "another log's key");
    let elsewhere = text.replace(&format!("index {}", read.index), &format!("index {}", read.index + 1));
    assert!(elsewhere.parse::<EventProof>().expect("still a proof").verify(&office.key).is_none());
    for cut in [&text[1..], text.split("\n\n").next().expect("a part"), &text.replace("extra ", "extra")] {
        assert!(cut.parse::<EventProof>().is_err(), "{cut}");
    }

    let growth = office.app.prove_growth(&owner(), old.checkpoint.size).await.expect("proven");
    let (new, hashes) = (&growth.checkpoint, growth.hashes.iter().copied().map(Hash).collect());
    check_tree(&hashes, new.size, Hash(new.root), old.checkpoint.size, Hash(old.checkpoint.root)).expect("it grew");
    assert!(office.app.prove_growth(&owner(), 0).await.is_err());
    let stranger = Caller { workspace: crate::id::WorkspaceId(Uuid::from_u128(8)), ..owner() };
    let refused = office.app.prove_event(&stranger, early).await.expect_err("not of that workspace");
    assert!(matches!(refused, Error::NotFound(_)));
    let guest = Caller { role: Role::User, ..owner() };
    assert!(matches!(office.app.prove_event(&guest, early).await, Err(Error::Denied(_))));
    assert!(matches!(office.app.export_audit(&guest, None, 3).await, Err(Error::Denied(_))));
}

#[tokio::test]
async fn one_event_is_proven_to_whoever_has_the_public_key() {
    proven(None).await;
}

#[tokio::test]
async fn one_event_is_proven_to_whoever_has_the_public_key_on_postgres() {
    if let Some(url) = postgres().await {
        proven(Some(url)).await;
    }
}

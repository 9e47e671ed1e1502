//! The Merkle log against everything that a writer of the database can do to it, on both engines; and the sequencer
//! against its like.

mod given;
mod planted;
mod set_back;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use strongroom_envelope::{LogPublicKey, SystemRandom};
use tlog_tiles::{Hash, check_record, check_tree, record_hash};
use uuid::Uuid;

use super::{sequencer::*, tree::*, *};
use crate::{
    access::Role,
    app::{Caller, Through},
    audit::{Actor, Entry, Means, Report, Target, What, Wrong, verify_by},
    clock::{Clock, ManualClock},
    config::Config,
    id::{EventId, MemberId, SessionId},
    server,
    store::Store,
};

/// A server that was opened and does nothing by itself, on an engine.
struct Office {
    folder: tempfile::TempDir,
    url: String,
    app: Arc<App>,
    clock: Arc<ManualClock>,
    /// As whoever keeps checkpoints has it.
    key: LogPublicKey,
}

const START: &str = "2026-11-24T02:00:00Z";

impl Office {
    async fn open(url: Option<String>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = url.unwrap_or_else(|| format!("sqlite:{}", folder.path().join("db").display()));
        let clock = Arc::new(ManualClock::at(START.parse().expect("a time")));
        let app = open(folder.path(), &url, &clock).await;
        let key = verifier_key(&app.store, Arc::clone(&app.keys)).await.expect("there is a log").key;
        Self { folder, url, app, clock, key }
    }

    /// The same, from the files and the database as they are.
    async fn again(self) -> Self {
        self.after(|_| {}).await
    }

    /// As [`Office::again`], after something was done to the files meanwhile.
    async fn after(self, work: impl FnOnce(&Path)) -> Self {
        let Self { folder, url, app, clock, key } = self;
        drop(app);
        work(folder.path());
        let app = open(folder.path(), &url, &clock).await;
        Self { folder, url, app, clock, key }
    }

    fn checkpoint_file(&self) -> PathBuf {
        self.folder.path().join("checkpoint")
    }

    fn pushed(&self) -> Checkpoint {
        let text = std::fs::read_to_string(self.checkpoint_file()).expect("it was pushed");
        text.parse().expect("it is a checkpoint")
    }

    /// Events that change nothing; a second lies between two.
    async fn events(&self, count: usize) {
        for _ in 0..count {
            self.clock.advance(Duration::from_secs(1));
            let event = self.app.event_by(Actor::System, None, "server.start", Target::None, Vec::new());
            self.app.record(event.expect("randomness")).await.expect("recorded");
        }
    }

    /// What the loop does in a minute.
    async fn minute(&self) {
        let mut held = self.app.claim_log(true).await.expect("asked");
        while self.app.log_pass(&mut held).await.expect("a pass") == Pass::More {}
        self.app.settle_pushed().await.expect("looked at");
        self.app.sign_log(held.expect("nobody else wants it")).await.expect("signed");
        self.app.push_checkpoint().await.expect("pushed");
    }

    async fn report(&self, checkpoint: Option<Checkpoint>) -> Report {
        let means = Means { keys: Some(Arc::clone(&self.app.keys)), checkpoint, state: true, ..Means::default() };
        verify_by(&self.app.store, means).await.expect("the log can be read")
    }

    /// What somebody finds who has the database, a checkpoint and the public key, and no secret.
    async fn stranger(&self, checkpoint: Checkpoint) -> Report {
        let means = Means { public_key: Some(self.key), checkpoint: Some(checkpoint), ..Means::default() };
        verify_by(&Store::open_read_only(&self.url).expect("a copy"), means).await.expect("the log can be read")
    }

    async fn tamper(&self, statements: Vec<String>) {
        let write = move |tx: &mut Tx<'_>| {
            statements.iter().try_for_each(|sql| {
                assert_ne!(tx.execute(sql, &[])?, 0, "{sql} changed something");
                Ok(())
            })
        };
        self.app.store.write(write).await.expect("the database lets it happen");
    }

    async fn state(&self) -> State {
        self.app.store.read(State::read).await.expect("read").expect("there is a log")
    }
}

async fn open(folder: &Path, url: &str, clock: &Arc<ManualClock>) -> Arc<App> {
    let toml = format!(
        "[database]\nurl = '{url}'\n[instance]\nkey_file = '{0}/key'\n[audit]\ncheckpoint_file = '{0}/checkpoint'\n",
        folder.display()
    );
    let config = Config::parse(&toml, "test", Vec::new()).expect("a configuration");
    let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
    server::open(&config, clock, Arc::new(SystemRandom::new())).await.expect("opened").app
}

/// A database of its own on the server of the test run; none where there is no such server.
async fn postgres() -> Option<String> {
    let server = std::env::var("STRONGROOM_TEST_POSTGRES").ok()?;
    let name = format!("log_{}", Uuid::now_v7().simple());
    let url = format!("{}/{name}", server.rsplit_once('/').expect("a URL names a database").0);
    let made = tokio::task::spawn_blocking(move || {
        let mut client = postgres::Client::connect(&server, postgres::NoTls)?;
        client.batch_execute(&format!("CREATE DATABASE {name}"))
    });
    made.await.expect("it ends").expect("a database of its own");
    Some(url)
}

/// The faults of the log as (place, what), with the log's own name left out.
fn log_faults(report: &Report, origin: &str) -> Vec<(Option<u64>, String)> {
    let log = report.log.as_ref().expect("there is a log");
    log.faults.iter().map(|fault| (fault.index, format!("{:?}", fault.what).replace(origin, "it"))).collect()
}

/// Places 0 and 1 are `log.origin` and `server.start`, then come eight events, a checkpoint, eight more and another.
async fn two_minutes(url: Option<String>) -> (Office, Checkpoint, Checkpoint) {
    let office = Office::open(url).await;
    office.events(8).await;
    office.minute().await;
    let old = office.pushed();
    office.events(8).await;
    office.minute().await;
    let kept = office.pushed();
    assert_eq!((old.size, kept.size), (10, 18));
    (office, old, kept)
}

async fn untouched(url: Option<String>) {
    let (office, old, kept) = two_minutes(url).await;
    let report = office.report(Some(kept.clone())).await;
    assert!(report.is_sound(), "{report}");
    let log = report.log.expect("there is a log");
    assert_eq!((log.size, log.proven, log.given, log.waiting), (18, 18, Some(18), 0));
    for checkpoint in [old.clone(), kept.clone()] {
        let report = office.stranger(checkpoint).await;
        assert!(report.is_sound(), "{report}");
    }
    let proven = move |tx: &mut Tx<'_>| {
        let (root, before) = (Hash(kept.root), Hash(old.root));
        check_tree(&consistency(tx, 18, 10)?, 18, root, 10, before).expect("the newer extends the older");
        assert!(check_tree(&consistency(tx, 18, 9)?, 18, root, 10, before).is_err(), "another proof");
        let sql = "SELECT l.log_index, e.bytes FROM log_leaves l \
                   JOIN audit_events e ON e.boot = l.boot AND e.sequence = l.sequence ORDER BY l.log_index";
        let leaves = tx.all(sql, &[], |row| Ok((row.get::<u64>(0)?, row.get::<Vec<u8>>(1)?)))?;
        assert_eq!(leaves.len(), 18);
        for (index, bytes) in leaves {
            let proof = inclusion(tx, 18, index)?;
            check_record(&proof, 18, root, index, record_hash(&bytes)).expect("it is in the tree");
            assert!(check_record(&proof, 18, root, index, record_hash(b"another")).is_err());
        }
        Ok(())
    };
    office.app.store.read(proven).await.expect("read");
}

#[tokio::test]
async fn an_untouched_log_is_proven_by_a_checkpoint_and_the_public_key() {
    untouched(None).await;
}

#[tokio::test]
async fn an_untouched_log_is_proven_by_a_checkpoint_and_the_public_key_on_postgres() {
    if let Some(url) = postgres().await {
        untouched(Some(url)).await;
    }
}

/// What is done to the database, and what a stranger with the second checkpoint finds.
type Case = (&'static str, Vec<String>, Vec<(Option<u64>, &'static str)>);

fn cases() -> Vec<Case> {
    let at = |place: u64| {
        format!(
            "sequence = (SELECT sequence FROM log_leaves WHERE log_index = {place}) \
             AND boot = (SELECT boot FROM log_leaves WHERE log_index = {place})"
        )
    };
    let altered = |place: u64| {
        let other = "(SELECT e.bytes FROM audit_events e JOIN log_leaves l ON e.boot = l.boot \
                      AND e.sequence = l.sequence WHERE l.log_index = 1)";
        format!("UPDATE audit_events SET bytes = {other} WHERE {}", at(place))
    };
    let deleted = |place: u64| format!("DELETE FROM audit_events WHERE {}", at(place));
    let hash = |place: u64| {
        let position = tlog_tiles::stored_hash_index(0, place);
        format!(
            "UPDATE log_hashes SET hash = (SELECT hash FROM log_hashes WHERE position = 1) WHERE position = {position}"
        )
    };
    let sql = |statements: &[&str]| statements.iter().map(|sql| (*sql).to_owned()).collect::<Vec<_>>();
    vec![
        ("an event altered", vec![altered(6)], vec![(Some(6), "Altered")]),
        ("the newest altered", vec![altered(17)], vec![(Some(17), "Altered")]),
        (
            "an event altered, and its stored hash with it",
            vec![altered(12), hash(12)],
            vec![(Some(10), "Unproven { from: 10, to: 17 }")],
        ),
        ("an event removed", vec![deleted(6)], vec![(Some(6), "Removed")]),
        (
            "an event removed, and its place with it",
            vec![deleted(6), "DELETE FROM log_leaves WHERE log_index = 6".into()],
            vec![(Some(6), "Unlisted { from: 6, to: 6 }")],
        ),
        (
            "two events in the other order",
            sql(&[
                "UPDATE log_leaves SET log_index = -1 WHERE log_index = 6",
                "UPDATE log_leaves SET log_index = 6 WHERE log_index = 7",
                "UPDATE log_leaves SET log_index = 7 WHERE log_index = -1",
            ]),
            vec![(Some(6), "Reordered { belongs: 7 }"), (Some(7), "Reordered { belongs: 6 }")],
        ),
        (
            "the newest event taken back with every trace of it",
            [
                vec![
                    "UPDATE log_chains SET next_sequence = next_sequence - 1 \
                     WHERE boot = (SELECT boot FROM log_leaves WHERE log_index = 17)"
                        .into(),
                    deleted(17),
                ],
                sql(&[
                    "DELETE FROM log_leaves WHERE log_index = 17",
                    "DELETE FROM log_hashes WHERE position >= 32",
                    "DELETE FROM log_checkpoints WHERE size = 18",
                    "UPDATE log_state SET size = 17",
                ]),
            ]
            .concat(),
            vec![(None, "RolledBack { covered: 18, left: 17 }")],
        ),
        ("a stored hash changed", vec![hash(12)], vec![(Some(12), "StoredHash")]),
        (
            "a checkpoint changed",
            sql(&[
                "UPDATE log_checkpoints SET note = (SELECT note FROM log_checkpoints WHERE size = 18) WHERE size = 10",
            ]),
            vec![(None, "Checkpoint { origin: \"it\", size: 10 }")],
        ),
        ("the log gone", sql(&["DELETE FROM log_state"]), vec![(None, "Strange { origin: \"it\" }")]),
    ]
}

async fn matrix(postgres_too: bool) {
    for (name, statements, expected) in cases() {
        let url = if postgres_too { postgres().await } else { None };
        if postgres_too && url.is_none() {
            return;
        }
        let (office, _, kept) = two_minutes(url).await;
        office.tamper(statements).await;
        let expected: Vec<_> = expected.into_iter().map(|(at, what)| (at, what.to_owned())).collect();
        assert_eq!(log_faults(&office.stranger(kept.clone()).await, &kept.origin), expected, "{name}");
        assert!(!office.report(Some(kept)).await.is_sound(), "{name}, to whoever has the instance key");
    }
}

#[tokio::test]
async fn whatever_is_done_to_the_log_a_checkpoint_and_the_public_key_show_it() {
    matrix(false).await;
}

#[tokio::test]
async fn whatever_is_done_to_the_log_a_checkpoint_and_the_public_key_show_it_on_postgres() {
    matrix(true).await;
}

#[tokio::test]
async fn a_checkpoint_of_another_key_or_another_log_is_named() {
    let (office, _, kept) = two_minutes(None).await;
    let other = two_minutes(None).await.2;
    let found = office.report(Some(other.clone())).await;
    assert_eq!(log_faults(&found, &other.origin), [(None, "NotSigned".to_owned())]);
    let keys = Arc::clone(&office.app.keys);
    let key = office.app.store.read(move |tx| State::read(tx)?.expect("there is a log").key(&keys)).await;
    let key = key.expect("it opens");
    let strange = Checkpoint::sign(OriginId(Uuid::from_u128(1)), 5, kept.root, &key);
    let found = office.report(Some(strange.clone())).await;
    assert_eq!(log_faults(&found, &strange.origin), [(None, "Strange { origin: \"it\" }".to_owned())]);
}

#[tokio::test]
async fn an_event_that_was_hidden_while_others_came_into_the_log_is_named() {
    let office = Office::open(None).await;
    office.events(3).await;
    let hidden = office.app.store.read(|tx| {
        tx.first("SELECT id, sequence FROM audit_events ORDER BY sequence DESC LIMIT 1 OFFSET 1", &[], |row| {
            Ok((row.get::<Uuid>(0)?, row.get::<i64>(1)?))
        })
    });
    let (id, sequence) = hidden.await.expect("read").expect("there are three");
    let park = |to: i64, from: i64| format!("UPDATE audit_events SET sequence = {to} WHERE sequence = {from}");
    office.tamper(vec![park(-7, sequence)]).await;
    office.minute().await;
    office.tamper(vec![park(sequence, -7)]).await;
    let report = office.report(None).await;
    let log = report.log.expect("there is a log");
    assert_eq!(log.faults, [LogFault { index: None, event: Some(EventId(id)), what: LogWhat::LeftOut }]);
}

#[tokio::test]
async fn an_event_that_was_planted_before_it_came_into_the_log_stays_out() {
    let office = Office::open(None).await;
    office.events(2).await;
    office
        .tamper(vec![
            "UPDATE audit_events SET mac = (SELECT mac FROM audit_events WHERE sequence = 0) WHERE sequence = \
             (SELECT MAX(sequence) FROM audit_events)"
                .into(),
        ])
        .await;
    office.minute().await;
    office.events(1).await;
    office.minute().await;
    assert_eq!(office.state().await.size, 4);
    let report = office.report(None).await;
    assert_eq!(report.faults.iter().map(|fault| &fault.what).collect::<Vec<_>>(), [&What::Forged]);
    assert!(report.log.expect("there is a log").faults.is_empty());
}

#[tokio::test]
async fn a_clock_that_was_ahead_does_not_make_later_events_earlier() {
    let office = Office::open(None).await;
    let workspace = crate::id::WorkspaceId(Uuid::from_u128(9));
    let settings = |name: &'static str| {
        vec![
            ("slug", "demo".into()),
            ("name_digest", crate::audit::Fact::Bytes(strongroom_envelope::digest(name.as_bytes()).to_vec())),
            ("external_keys", true.into()),
            ("require_code", false.into()),
        ]
    };
    office.clock.jump_to("2026-11-24T05:00:00Z".parse().expect("a time"));
    let made = office.app.event_by(
        Actor::System,
        Some(workspace),
        "workspace.create",
        Target::Workspace(workspace),
        settings("A"),
    );
    let made = made.expect("randomness");
    let insert = move |tx: &mut Tx<'_>| {
        tx.execute(
            "INSERT INTO workspaces (id, slug, name, external_keys, require_code, created_at, revision) \
             VALUES ($1, 'demo', 'A', 1, 0, 1, 1)",
            &[workspace.0.into()],
        )?;
        tx.record(&made)
    };
    office.app.store.write(insert).await.expect("written");
    office.clock.jump_to("2026-11-24T02:10:00Z".parse().expect("a time"));
    let office = office.again().await;
    let renamed = office.app.event_by(
        Actor::System,
        Some(workspace),
        "workspace.settings",
        Target::Workspace(workspace),
        settings("B"),
    );
    let renamed = renamed.expect("randomness");
    let rename = move |tx: &mut Tx<'_>| {
        tx.execute("UPDATE workspaces SET name = 'B'", &[])?;
        tx.record(&renamed)
    };
    office.app.store.write(rename).await.expect("written");
    office.minute().await;
    let report = office.report(None).await;
    assert!(report.is_sound(), "{report}");
    office.tamper(vec!["UPDATE workspaces SET name = 'A'".into()]).await;
    let state = office.report(None).await.state.expect("it was asked for");
    assert_eq!(state.faults.iter().map(|fault| fault.wrong).collect::<Vec<_>>(), [Wrong::Altered], "the name it had");
}

/// One node gathers and is frozen before it writes; another takes over and goes on; the first thaws.
async fn thaw(url: Option<String>) {
    let office = Office::open(url).await;
    office.events(4).await;
    let app = &office.app;
    let keys = || Arc::clone(&app.keys);
    let first = app.claim_log(true).await.expect("asked").expect("free");
    let (loaded, now) = (keys(), app.clock.now());
    let batch = app.store.read(move |tx| gather(tx, &loaded, first)).await.expect("read").expect("it is ours");
    let unsigned = app.store.read(State::read).await.expect("read").expect("there is a log").size;

    let other = NodeId(Uuid::from_u128(2));
    let taken = app.store.write(move |tx| claim(tx, other, now, false)).await.expect("asked");
    assert_eq!(taken, None, "a lease is a lease");
    office.clock.advance(Duration::from_secs(31));
    let later = app.clock.now();
    let second = app.store.write(move |tx| claim(tx, other, later, false)).await.expect("asked").expect("it ended");
    office.events(3).await;
    let mut held = Some(second);
    assert_eq!(app.log_pass(&mut held).await.expect("a pass"), Pass::Done);
    app.sign_log(second).await.expect("signed");
    let signed = app.store.read(checkpoint::newest).await.expect("read").expect("it was signed");

    let written = app.store.write(move |tx| append(tx, first, later, &batch)).await.expect("asked");
    assert!(!written, "the first one thaws, and its fence is old");
    let mut thawed = Some(first);
    app.log_pass(&mut thawed).await.expect("a pass");
    assert_eq!(thawed, None);
    app.sign_log(first).await.expect("nothing to say");
    let keys = keys();
    let forged = app.store.write(move |tx| {
        let state = State::read(tx)?.expect("there is a log");
        let key = state.key(&keys)?;
        let fork = Checkpoint::sign(state.origin, state.size + 1, [7; 32], &key);
        checkpoint::keep(tx, first, later, &fork)
    });
    forged.await.expect("what was signed under an old lease is not kept");
    let now = app.store.read(checkpoint::newest).await.expect("read").expect("it was signed");
    assert_eq!(now, signed);
    assert!(signed.size > unsigned);
    let report = office.report(Some(signed)).await;
    assert!(report.is_sound(), "{report}");
}

#[tokio::test]
async fn a_node_that_was_frozen_signs_no_fork() {
    thaw(None).await;
}

#[tokio::test]
async fn a_node_that_was_frozen_signs_no_fork_on_postgres() {
    if let Some(url) = postgres().await {
        thaw(Some(url)).await;
    }
}

#[tokio::test]
async fn a_tree_that_does_not_extend_the_signed_one_is_not_signed() {
    let (office, ..) = two_minutes(None).await;
    office.events(1).await;
    // The hash over the places 0 to 15.
    office
        .tamper(vec![
            "UPDATE log_hashes SET hash = (SELECT hash FROM log_hashes WHERE position = 1) WHERE position = 30".into(),
        ])
        .await;
    let mut held = office.app.claim_log(true).await.expect("asked");
    while office.app.log_pass(&mut held).await.expect("a pass") == Pass::More {}
    let refused = office.app.sign_log(held.expect("nobody else wants it")).await.expect_err("refused");
    assert_eq!(refused.code(), "log.forked");
}

async fn restored(url: Option<String>) {
    let (office, old, kept) = two_minutes(url).await;
    let parent = office.state().await;
    let new = office.app.new_origin(OriginReason::Restored).expect("randomness");
    office.app.store.write(move |tx| open_origin(tx, &new)).await.expect("opened");
    std::fs::remove_file(office.checkpoint_file()).expect("it was there");
    office.events(2).await;
    office.minute().await;
    let pushed = office.pushed();
    assert_eq!(pushed.origin, origin_name(new.id));
    assert_ne!(pushed.origin, kept.origin);
    assert_eq!(pushed.size, 21);
    for checkpoint in [old, kept.clone(), pushed] {
        let report = office.report(Some(checkpoint)).await;
        assert!(report.is_sound(), "{report}");
    }
    // The parent went on after the backup was taken.
    let keys = Arc::clone(&office.app.keys);
    let ahead = office.app.store.read(move |tx| {
        let state = State::read(tx)?.expect("there is a log");
        Ok(Checkpoint::sign(parent.origin, 25, [3; 32], &state.key(&keys)?))
    });
    let ahead = ahead.await.expect("signed");
    let found = office.report(Some(ahead.clone())).await;
    assert_eq!(log_faults(&found, &ahead.origin), [(None, "RolledBack { covered: 25, left: 18 }".to_owned())]);
}

#[tokio::test]
async fn a_restored_log_goes_on_under_another_name_and_tells_how_far_back_it_is() {
    restored(None).await;
}

#[tokio::test]
async fn a_restored_log_goes_on_under_another_name_and_tells_how_far_back_it_is_on_postgres() {
    if let Some(url) = postgres().await {
        restored(Some(url)).await;
    }
}

#[tokio::test]
async fn a_log_of_several_passes_and_starts_is_whole() {
    let office = Office::open(None).await;
    office.events(700).await;
    let office = office.again().await;
    office.events(300).await;
    office.minute().await;
    let report = office.report(Some(office.pushed())).await;
    assert!(report.is_sound(), "{report}");
    let log = report.log.expect("there is a log");
    assert_eq!((log.size, log.proven), (1_003, 1_003));
    office.app.rest_log().await.expect("rested");
    assert_eq!(office.state().await.node, None, "another node need not wait");
}

#[tokio::test]
async fn a_log_with_nothing_new_writes_nothing_until_half_of_its_lease_is_over() {
    let office = Office::open(None).await;
    let mut held = office.app.claim_log(true).await.expect("the store works");
    while office.app.log_pass(&mut held).await.expect("taken in") == Pass::More {}
    let begun = office.state().await.lease_ends;
    for (seconds, renewed) in [(10, false), (4, false), (2, true)] {
        office.clock.advance(Duration::from_secs(seconds));
        assert_eq!(office.app.log_pass(&mut held).await.expect("looked"), Pass::Done);
        assert_eq!(office.state().await.lease_ends > begun, renewed, "{seconds} s later");
    }
    assert!(held.is_some(), "the lease is kept");
}

#[tokio::test]
async fn checkpoints_are_posted_once_and_the_newest_after_a_failure() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (sent, mut taken) = tokio::sync::mpsc::unbounded_channel();
    let answers = Arc::new(std::sync::atomic::AtomicU16::new(503));
    let answer = Arc::clone(&answers);
    let receiver = axum::Router::new().route(
        "/",
        axum::routing::post(move |body: String| async move {
            let status = answer.load(std::sync::atomic::Ordering::Relaxed);
            sent.send((status, body)).expect("the test listens");
            axum::http::StatusCode::from_u16(status).expect("a status")
        }),
    );
    let serving = tokio::spawn(async move { axum::serve(listener, receiver).await });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let toml = format!(
        "[database]\nurl = 'sqlite:{0}/db'\n[instance]\nkey_file = '{0}/key'\n[audit]\n\
         checkpoint_url = 'http://{address}/'\n[notices]\nallow_loopback = true\n",
        folder.path().display()
    );
    let config = Config::parse(&toml, "test", Vec::new()).expect("a configuration");
    let clock = Arc::new(ManualClock::at(START.parse().expect("a time")));
    let app = server::open(&config, Arc::clone(&clock) as _, Arc::new(SystemRandom::new())).await.expect("opened").app;
    let mut keeper =
        Keeper { held: None, starting: true, sign_at: Duration::ZERO, posted: None, stands_since: None, told: false };
    let mut minute = async || {
        clock.advance(MINUTE);
        while app.log_round(&mut keeper).await.expect("a round") == Pass::More {}
    };
    minute().await;
    answers.store(200, std::sync::atomic::Ordering::Relaxed);
    minute().await;
    minute().await;
    let (refused, first) = taken.try_recv().expect("a try");
    let (done, again) = taken.try_recv().expect("another");
    assert_eq!((refused, done), (503, 200));
    assert_eq!(first, again, "nothing new was signed meanwhile");
    assert!(again.parse::<Checkpoint>().is_ok());
    assert!(taken.try_recv().is_err(), "what was taken is not sent again");
    serving.abort();
}

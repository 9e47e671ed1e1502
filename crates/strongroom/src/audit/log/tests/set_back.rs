//! A database that was set back behind the server's back, with the checkpoint that was pushed before.

use std::path::{Path, PathBuf};

use super::{Checkpoint, Office, Pass, log_faults, two_minutes};
use crate::{audit::log::LogWhat, error::Error};

/// A workspace, three events, a copy of the file, more events, and the copy put back.
async fn set_back() -> (Office, Checkpoint, Checkpoint) {
    let office = Office::open(None).await;
    office
        .tamper(vec![
            "INSERT INTO workspaces (id, slug, name, external_keys, require_code, created_at, revision) \
             VALUES (zeroblob(16), 'demo', 'Demo', 1, 0, 1, 1)"
                .into(),
        ])
        .await;
    office.events(3).await;
    office.minute().await;
    let kept = office.pushed();
    let copy = |folder: &Path| std::fs::copy(folder.join("db"), folder.join("copy")).map(|_| ());
    let office = office.after(|folder| copy(folder).expect("copied")).await;
    office.events(5).await;
    office.minute().await;
    let lost = office.pushed();
    let office =
        office.after(|folder| std::fs::rename(folder.join("copy"), folder.join("db")).expect("put back")).await;
    (office, kept, lost)
}

impl Office {
    async fn count(&self, sql: &'static str) -> u64 {
        self.app.store.read(move |tx| tx.count(sql, &[])).await.expect("read")
    }

    /// What was kept beside the checkpoint file.
    fn put_aside(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.folder.path()).expect("readable").filter_map(|entry| {
            let path = entry.expect("readable").path();
            let name = path.file_name()?.to_str()?.to_owned();
            (name.starts_with("checkpoint.") && !name.ends_with(".new")).then_some(path)
        });
        files.collect()
    }

    async fn alarms(&self) -> (u64, u64) {
        let events = "SELECT COUNT(*) FROM audit_events WHERE action = 'log.set_back'";
        let notices = "SELECT COUNT(*) FROM notices WHERE kind = 'log.set_back' AND severity = 'critical'";
        (self.count(events).await, self.count(notices).await)
    }

    async fn run(&self, sql: &'static str) {
        self.app.store.write(move |tx| tx.execute(sql, &[]).map(drop)).await.expect("the database lets it happen");
    }
}

#[tokio::test]
async fn a_database_file_that_was_set_back_is_noticed_by_the_pushed_checkpoint() {
    let (office, kept, lost) = set_back().await;
    office.minute().await;
    assert_eq!(office.pushed(), lost, "the evidence stays until something takes its place");
    office.minute().await;
    let pushed = office.pushed();
    assert_ne!(pushed.origin, lost.origin, "no fork under the name that the lost events had");
    let aside = office.put_aside();
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(std::fs::read_to_string(&aside[0]).expect("readable"), lost.note());
    assert_eq!(office.alarms().await, (1, 1));
    let told = "SELECT code FROM notices WHERE kind = 'log.set_back'";
    let told = office.app.store.read(move |tx| tx.first(told, &[], |row| row.get::<String>(0))).await;
    assert_eq!(told.expect("read"), Some((lost.size - kept.size).to_string()), "what was written since is not had");
    let signed = office.count("SELECT COUNT(*) FROM log_checkpoints WHERE size > 5 AND origin_id = (SELECT id FROM log_origins WHERE parent_id IS NULL)");
    assert_eq!(signed.await, 0, "nothing was signed under the old name after it was set back");
    let found = office.report(Some(lost.clone())).await;
    let faults = log_faults(&found, &lost.origin);
    assert!(faults.len() == 1 && faults[0].1.starts_with("RolledBack"), "{faults:?}");
}

#[tokio::test]
async fn an_alarm_that_could_not_be_written_is_raised_at_the_next_look() {
    let (office, _, lost) = set_back().await;
    office.run("CREATE TRIGGER no BEFORE INSERT ON notices BEGIN SELECT RAISE(ABORT, 'full'); END").await;
    for _ in 0..2 {
        office.app.settle_pushed().await.expect_err("the alarm cannot be written");
        assert_eq!((office.pushed(), office.alarms().await), (lost.clone(), (0, 0)));
    }
    office.run("DROP TRIGGER no").await;
    for _ in 0..3 {
        office.minute().await;
    }
    assert_eq!((office.alarms().await, office.put_aside().len()), ((1, 1), 1), "once");
    assert_ne!(office.pushed().origin, lost.origin);
}

#[tokio::test]
async fn a_checkpoint_of_another_log_in_the_file_is_told_as_well() {
    let (office, ..) = two_minutes(None).await;
    let (_, _, other) = two_minutes(None).await;
    std::fs::write(office.checkpoint_file(), other.note()).expect("ours to write");
    let before = office.state().await.origin;
    office.minute().await;
    assert_eq!(office.alarms().await.0, 1);
    assert_eq!(office.state().await.origin, before, "nothing of this log is gone");
    std::fs::write(office.checkpoint_file(), other.note()).expect("ours to write");
    office.minute().await;
    assert_eq!(office.alarms().await.0, 1, "two servers that name one file tell it once");
    std::fs::write(office.checkpoint_file(), [0xff, 0xfe, b'x']).expect("ours to write");
    office.events(1).await;
    office.minute().await;
    assert_eq!(office.pushed().origin, other_origin(&office).await, "what is no checkpoint is replaced");
}

async fn other_origin(office: &Office) -> String {
    crate::audit::log::origin_name(office.state().await.origin)
}

#[tokio::test]
async fn a_log_whose_tables_were_wiped_is_not_begun_anew() {
    let (office, _, kept) = two_minutes(None).await;
    let wiped = ["log_leaves", "log_hashes", "log_checkpoints", "log_origins", "log_state"];
    office.tamper(wiped.into_iter().map(|table| format!("DELETE FROM {table}")).collect()).await;
    office.tamper(vec!["UPDATE log_chains SET next_sequence = 0".into()]).await;
    let office = office.again().await;
    assert!(office.app.store.read(super::State::read).await.expect("read").is_none());
    assert!(!office.report(Some(kept)).await.is_sound());
    let refused = office.app.open_log().await;
    assert!(matches!(&refused, Err(error @ Error::Integrity { .. }) if error.code() == "log.gone"), "{refused:?}");
}

#[tokio::test]
async fn two_beginnings_of_one_log_are_a_fault() {
    let (office, ..) = two_minutes(None).await;
    let new = office.app.new_origin(crate::audit::log::OriginReason::First).expect("randomness");
    let begun = office.app.store.write(move |tx| {
        tx.execute("DELETE FROM log_state", &[])?;
        crate::audit::log::origin::first_origin(tx, &new, &[0; 8])
    });
    begun.await.expect("the database lets it happen");
    office.tamper(vec!["UPDATE log_state SET sealed_key = x'00'".into()]).await;
    let report = office.app.store.read(crate::audit::log::names).await.expect("read");
    assert_eq!(report.iter().filter(|(_, parent)| parent.is_none()).count(), 2);
    let (_, key) = (report, office.key);
    let means = super::Means { public_key: Some(key), ..super::Means::default() };
    let report = super::verify_by(&office.app.store, means).await.expect("the log can be read");
    let log = report.log.expect("there is a log");
    assert!(log.faults.iter().any(|fault| fault.what == LogWhat::Names), "{:?}", log.faults);
}

#[tokio::test]
async fn a_counter_that_was_set_back_stops_the_log_and_not_the_server() {
    let (office, ..) = two_minutes(None).await;
    office.tamper(vec!["UPDATE log_chains SET next_sequence = 0".into()]).await;
    let report = office.report(None).await;
    let log = report.log.expect("there is a log");
    assert!(
        log.faults.iter().all(|fault| fault.what == LogWhat::Counter) && log.faults.len() == 18,
        "{:?}",
        log.faults
    );
    let office = office.again().await;
    let mut held = office.app.claim_log(true).await.expect("asked");
    let refused: Result<Pass, Error> = office.app.log_pass(&mut held).await;
    assert!(matches!(&refused, Err(error) if error.code() == "log.planted"), "{refused:?}");
    office.run("INSERT INTO workspaces (id, slug, name, external_keys, require_code, created_at, revision) VALUES (zeroblob(16), 'demo', 'Demo', 1, 0, 1, 1)").await;
    office.app.tell_stopped("log.planted").await.expect("told");
    assert_eq!(
        office.count("SELECT COUNT(*) FROM notices WHERE kind = 'log.stopped' AND severity = 'critical'").await,
        1
    );
}

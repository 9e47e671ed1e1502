//! Verification beside a running server and on a copy: it only reads.

use std::fs;

use super::*;
use crate::{error::Error, store::StoreError};

fn read_only(file: PathBuf) -> Store {
    Store::open_read_only(&format!("sqlite:{}", file.display())).expect("the database can be read")
}

#[tokio::test]
async fn verification_runs_beside_the_server_and_sees_what_it_wrote_last() {
    let log = Log::new();
    log.views(3).await;
    let reader = read_only(log.folder.path().join("db"));
    log.views(2).await;
    let report = verify(&reader, Arc::clone(&log.keys), true).await.expect("the log can be read");
    assert!(report.is_sound(), "{report}");
    assert_eq!(report.events, 5);
    log.views(1).await;
}

#[tokio::test]
async fn a_copy_is_verified_where_nothing_can_be_written() {
    let log = Log::new();
    log.views(3).await;
    let Log { folder, store, keys, .. } = log;
    drop(store);
    let copy = tempfile::tempdir().expect("a temporary folder");
    let file = copy.path().join("copy of 100% #1?");
    fs::copy(folder.path().join("db"), &file).expect("copied");
    let before = fs::read(&file).expect("readable");
    let reader = read_only(file.clone());
    let report = verify(&reader, keys, true).await.expect("the copy can be read");
    assert_eq!(report.events, 3);
    drop(reader);
    let beside: Vec<_> =
        fs::read_dir(copy.path()).expect("readable").map(|entry| entry.expect("readable").path()).collect();
    assert_eq!(beside, std::slice::from_ref(&file), "no lock, no write-ahead log");
    assert_eq!(fs::read(&file).expect("readable"), before);
}

#[tokio::test]
async fn a_store_that_only_reads_refuses_to_write() {
    let log = Log::new();
    let reader = read_only(log.folder.path().join("db"));
    let event = log.event("server.start", Target::None, vec![]);
    let refused = reader.write(move |tx| tx.record(&event)).await.expect_err("refused");
    assert!(matches!(refused, Error::Store(StoreError::ReadOnly)), "{refused}");
    let sly = reader.read(|tx| tx.execute("DELETE FROM audit_events", &[])).await.expect_err("refused");
    assert!(matches!(sly, Error::Store(StoreError::ReadOnly)), "{sly}");
}

#[test]
fn what_is_not_a_database_is_not_made_into_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("sqlite:{}", folder.path().join("none").display());
    assert!(Store::open_read_only(&url).is_err());
    assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 0);
}

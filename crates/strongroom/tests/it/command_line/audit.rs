//! The log copied elsewhere, and proofs of one event, as a script gets them.

use std::{collections::BTreeSet, fs};

use serde_json::Value;
use strongroom::audit::log::verifier_key;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_exported_as_lines_and_a_later_run_goes_on_where_one_ended() {
    let desk = Desk::open().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cursor = folder.path().join("cursor").display().to_string();
    desk.world.account("Mail", "tide-and-lamp").await;
    let mut seen = exported(&desk, &cursor, "item.create").await;
    desk.world.account("Bank", "oar-and-anchor").await;
    let later = exported(&desk, &cursor, "item.create").await;
    let before = seen.len();
    seen.extend(later.iter().cloned());
    assert_eq!(seen.len(), before + later.len(), "nothing came twice");
    let whole = desk.run(&["audit", "export"]).await;
    assert_eq!(whole.code, 0, "{}", whole.err);
    let whole = lines(&whole.out);
    assert!(whole.iter().map(id).collect::<BTreeSet<_>>().is_superset(&seen));
    assert!(whole.is_sorted_by_key(|event| event["index"].as_u64()));
    let made = whole.iter().find(|event| event["action"] == "item.create").expect("an account was made");
    assert_eq!(made["facts"]["revision"], 1);
    assert!(made["bytes"].as_str().is_some_and(|bytes| !bytes.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_is_proven_by_a_file_that_needs_no_server() {
    let desk = Desk::open().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    desk.world.account("Mail", "tide-and-lamp").await;
    let listed = desk.run(&["--format", "json", "audit", "list", "--action", "item.create"]).await;
    let listed: Value = serde_json::from_str(&listed.out).expect("JSON");
    let event = listed["items"][0]["id"].as_str().expect("an id").to_owned();
    desk.world.app.rest_log().await.expect("signed");
    let proof = desk.run(&["audit", "prove", &event]).await;
    assert_eq!(proof.code, 0, "{}", proof.err);
    let checkpoint = desk.run(&["audit", "checkpoint"]).await;
    assert!(proof.out.ends_with(&checkpoint.out), "{}", checkpoint.err);
    fs::write(file("proof"), &proof.out).expect("written");
    let key = verifier_key(&desk.world.app.store, Arc::clone(&desk.world.app.keys)).await.expect("there is a log");
    fs::write(file("key"), key.to_string()).expect("written");
    let (proven, key) = (file("proof"), file("key"));
    let check = ["audit", "check-proof", &proven, "--public-key", &key];
    let checked = desk.run_at("http://127.0.0.1:9", &check).await;
    assert_eq!(checked.code, 0, "{}", checked.err);
    assert!(checked.out.contains(&event) && checked.out.contains("item.create"), "{}", checked.out);
    let change = "UPDATE audit_events SET mac = (SELECT mac FROM audit_events WHERE sequence = 0 LIMIT 1) \
                  WHERE action = 'item.create'";
    desk.world.app.store.write(move |tx| tx.execute(change, &[]).map(drop)).await.expect("the database lets it happen");
    let refused = desk.run(&["audit", "prove", &event]).await;
    assert!(refused.code == 1 && refused.err.contains("was changed or planted"), "{}", refused.err);
    let index = proof.out.lines().find(|line| line.starts_with("index ")).expect("its place");
    fs::write(file("proof"), proof.out.replace(index, "index 0")).expect("written");
    let refused = desk.run(&check).await;
    assert_eq!(refused.code, 1, "{}", refused.out);
}

/// Runs the export once everything has its place; the ids of all that came, an event of `action` among them.
async fn exported(desk: &Desk, cursor: &str, action: &str) -> BTreeSet<String> {
    desk.world.app.open_log().await.expect("every event has its place");
    let ended = desk.run(&["audit", "export", "--cursor-file", cursor]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    let events = lines(&ended.out);
    assert!(events.iter().any(|event| event["action"] == action), "no {action}");
    let ids: BTreeSet<_> = events.iter().map(id).collect();
    assert_eq!(ids.len(), events.len(), "nothing came twice");
    ids
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

fn id(event: &Value) -> String {
    event["id"].as_str().expect("an id").to_owned()
}

//! Start-up: the instance key and the database have to belong together, and what is wrong is said by name.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, sync::Arc};

use strongroom::{clock::SystemClock, config::Config, server};
use strongroom_envelope::SystemRandom;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_makes_an_instance_key_that_only_its_owner_reads_and_says_where() {
    let dir = tempfile::tempdir().expect("a temp folder");
    let notices = start(dir.path()).await.expect("an empty folder is a first start");
    assert!(notices.iter().any(|notice| notice.contains("instance.key") && notice.contains("offline copy")));
    let mode = fs::metadata(dir.path().join("instance.key")).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(start(dir.path()).await.expect("a second start").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_instance_key_stops_the_start_and_no_other_takes_its_place() {
    let dir = tempfile::tempdir().expect("a temp folder");
    start(dir.path()).await.expect("a first start");
    let key = dir.path().join("instance.key");
    fs::rename(&key, dir.path().join("elsewhere")).expect("moved");
    let refusal = start(dir.path()).await.expect_err("refused");
    assert!(refusal.contains("missing"), "{refusal}");
    assert!(!key.exists(), "a new key would make the loss look mended");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_instance_s_key_stops_the_start() {
    let (ours, theirs) = (tempfile::tempdir().expect("a temp folder"), tempfile::tempdir().expect("a temp folder"));
    start(ours.path()).await.expect("a first start");
    start(theirs.path()).await.expect("a first start");
    fs::copy(theirs.path().join("instance.key"), ours.path().join("instance.key")).expect("copied");
    let refusal = start(ours.path()).await.expect_err("refused");
    assert!(refusal.contains("is not the one of this database"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_that_others_can_read_stops_the_start() {
    let dir = tempfile::tempdir().expect("a temp folder");
    start(dir.path()).await.expect("a first start");
    let key = dir.path().join("instance.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("set");
    let refusal = start(dir.path()).await.expect_err("refused");
    assert!(refusal.contains("mode 644"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_beforehand_is_the_one_that_the_first_start_takes_and_no_file_is_replaced() {
    let dir = tempfile::tempdir().expect("a temp folder");
    let make = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.args(["admin", "new-instance-key"]).arg(dir.path().join("instance.key")).output().expect("it runs")
    };
    assert!(make().status.success());
    let made = fs::read(dir.path().join("instance.key")).expect("made");
    let mode = fs::metadata(dir.path().join("instance.key")).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(start(dir.path()).await.expect("a first start").is_empty(), "it made another one");
    assert!(!make().status.success());
    assert_eq!(fs::read(dir.path().join("instance.key")).expect("still there"), made);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistyped_key_file_is_named_and_not_repeated() {
    let dir = tempfile::tempdir().expect("a temp folder");
    start(dir.path()).await.expect("a first start");
    let key = dir.path().join("instance.key");
    let text = fs::read_to_string(&key).expect("read");
    let letter = if text.as_bytes()[10] == b'a' { 'b' } else { 'a' };
    let wrong = format!("{}{letter}{}", &text[..10], &text[11..]);
    fs::write(&key, &wrong).expect("written");
    let refusal = start(dir.path()).await.expect_err("refused");
    assert!(!refusal.contains(wrong.trim()), "{refusal}");
}

/// Opens the product in `dir` and closes it again; its notices, or the refusal in words.
async fn start(dir: &Path) -> Result<Vec<String>, String> {
    let text = format!(
        "[database]\nurl = \"sqlite:{0}/strongroom.db\"\n[instance]\nkey_file = \"{0}/instance.key\"\n",
        dir.display()
    );
    let config = Config::parse(&text, "the test", Vec::new()).map_err(|error| error.to_string())?;
    let opened = server::open(&config, Arc::new(SystemClock), Arc::new(SystemRandom::new())).await;
    opened.map(|opened| opened.notices).map_err(|error| error.to_string())
}

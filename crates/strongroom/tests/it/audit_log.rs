//! `strongroom audit verify` as somebody runs it who has a copy of the database, a checkpoint and the public key.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    sync::Arc,
};

use strongroom::{app::App, clock::SystemClock, config::Config, server};
use strongroom_envelope::SystemRandom;

#[tokio::test]
async fn a_copy_is_verified_offline_without_any_secret() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let toml = format!(
        "[database]\nurl = 'sqlite:{0}/db'\n[instance]\nkey_file = '{0}/key'\n[audit]\ncheckpoint_file = '{0}/checkpoint'\n",
        folder.path().display()
    );
    fs::write(at("strongroom.toml"), &toml).expect("written");
    let app = open(&toml).await;
    app.setup_link().await.expect("made");
    app.rest_log().await.expect("signed and pushed");
    drop(app);
    let key = strongroom(folder.path(), &["audit", "key", "--config", "strongroom.toml"]);
    assert!(key.status.success(), "{key:?}");

    let elsewhere = tempfile::tempdir().expect("a temporary folder");
    for file in ["db", "checkpoint"] {
        fs::copy(at(file), elsewhere.path().join(file)).expect("copied");
    }
    fs::write(elsewhere.path().join("log.pub"), &key.stdout).expect("written");
    let verify =
        ["audit", "verify", "--database", "sqlite:db", "--checkpoint", "checkpoint", "--public-key", "log.pub"];
    let sound = strongroom(elsewhere.path(), &verify);
    assert_eq!(sound.status.code(), Some(0), "{sound:?}");
    let said = String::from_utf8(sound.stdout).expect("text");
    assert!(said.contains("The given checkpoint, of 3 events, is one of this log."), "{said}");

    let copy = rusqlite::Connection::open(elsewhere.path().join("db")).expect("opened");
    let sql = "DELETE FROM audit_events WHERE sequence = 1";
    assert_eq!(copy.execute(sql, []).expect("deleted"), 1);
    drop(copy);
    let found = strongroom(elsewhere.path(), &verify);
    assert_eq!(found.status.code(), Some(1), "{found:?}");
    let said = String::from_utf8(found.stdout).expect("text");
    assert!(said.contains("log place 1: the event that came into the log here is gone"), "{said}");

    let without_key = strongroom(elsewhere.path(), &verify[..6]);
    assert_eq!(without_key.status.code(), Some(2), "{without_key:?}");
    let not_a_key = [&verify[..7], &["checkpoint"]].concat();
    assert_eq!(strongroom(elsewhere.path(), &not_a_key).status.code(), Some(2));
}

async fn open(toml: &str) -> Arc<App> {
    let config = Config::parse(toml, "test", Vec::new()).expect("a configuration");
    server::open(&config, Arc::new(SystemClock), Arc::new(SystemRandom::new())).await.expect("opened").app
}

fn strongroom(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.current_dir(folder).args(arguments).env_clear().output().expect("it runs")
}

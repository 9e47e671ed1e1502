//! The doctor: a sound installation has nothing that fails, each fault is named with what to do, and looking changes
//! nothing, neither here nor at Azure.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use azure_standin::{Effect, Fault, Match};
use serde_json::Value;
use strongroom::azure_setup;

use crate::{
    child::Server,
    site::{Site, Wishes},
    world::{Database, on_each_database},
};

/// What it said and how it ended.
struct Diagnosis {
    exit: i32,
    lines: Vec<Value>,
}

impl Diagnosis {
    #[track_caller]
    fn line(&self, code: &str) -> &Value {
        self.lines.iter().find(|line| line["code"] == code).unwrap_or_else(|| panic!("no {code} in {:#?}", self.lines))
    }

    #[track_caller]
    fn status(&self, code: &str) -> &str {
        self.line(code)["status"].as_str().expect("a word")
    }

    /// The line of the vault that has its key in Azure.
    #[track_caller]
    fn azure_vault(&self) -> &Value {
        let named = |line: &&Value| line["title"].as_str().is_some_and(|title| title.contains("Azure vault"));
        self.lines.iter().find(named).unwrap_or_else(|| panic!("no line of the Azure vault in {:#?}", self.lines))
    }
}

fn examine(site: &Site) -> Diagnosis {
    let ran = Command::new(env!("CARGO_BIN_EXE_strongroom"))
        .args(["--format", "json", "doctor", "--config"])
        .arg(site.config_file())
        .current_dir(&site.folder)
        .stdin(Stdio::null())
        .output()
        .expect("the command runs");
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr))
    });
    let lines = told["lines"].as_array().expect("lines").clone();
    assert_eq!(told["sound"], ran.status.success());
    Diagnosis { exit: ran.status.code().expect("it ends by itself"), lines }
}

fn on_each_site<F: Future<Output = ()>>(test: impl Fn(Site, bool) -> F) {
    on_each_database(|database| {
        let sqlite = matches!(database, Database::Sqlite(_));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let url = database.url();
            let wishes = Wishes { folder: folder.path(), database: url, owner_password: "correct horse battery" };
            test(Site::build(wishes).await, sqlite).await;
        });
    });
}

#[test]
fn a_sound_installation_passes_beside_its_running_server_and_no_key_is_used() {
    on_each_site(|site, sqlite| async move {
        let server = Server::start(&site, "warn").await;
        let used = || ["wrapkey", "unwrapkey"].map(|name| site.standin.stats().operations(name));
        // The server's own canary goes on meanwhile, so only wraps stand still.
        let before = used();
        let found = examine(&site);
        assert_eq!(used()[0], before[0], "a key was wrapped with");
        server.kill();
        let quiet = used();
        let alone = examine(&site);
        assert_eq!(used(), quiet, "a key was used");
        for found in [found, alone] {
            assert_eq!(found.exit, 0, "{:#?}", found.lines);
            for code in ["process.core_dumps", "files.folders", "instance_key", "database.answers", "database.schema"] {
                assert_eq!(found.status(code), "pass", "{:#?}", found.lines);
            }
            for code in ["database.writable", "database.instance_key", "azure.clock"] {
                assert_eq!(found.status(code), "pass", "{:#?}", found.lines);
            }
            assert_eq!(found.status("database.clock"), if sqlite { "skipped" } else { "pass" });
            // The stand-in's Key Vault warns of what a test's key is like; nothing of it fails.
            assert_ne!(found.azure_vault()["status"], "fail", "{:#?}", found.azure_vault());
            let fixed = |line: &Value| line["fix"].as_str().is_some_and(|fix| !fix.is_empty());
            let bad = |line: &&Value| ["warn", "fail"].contains(&line["status"].as_str().unwrap_or_default());
            assert!(found.lines.iter().filter(bad).all(fixed), "a line without advice in {:#?}", found.lines);
        }
    });
}

#[test]
fn a_missing_backup_and_checkpoints_that_nobody_keeps_are_said_until_they_are_there() {
    on_each_site(|site, _| async move {
        let found = examine(&site);
        assert_eq!((found.status("backup.newest"), found.status("audit.checkpoint")), ("warn", "warn"));
        assert_eq!(found.exit, 0, "none of it keeps the server from working");
        let file = site.folder.join("kept.checkpoint");
        let toml = fs::read_to_string(site.config_file()).expect("the file is ours");
        fs::write(site.config_file(), format!("{toml}\n[audit]\ncheckpoint_file = {file:?}\n")).expect("ours");
        let server = Server::start(&site, "warn").await;
        let ran = Command::new(env!("CARGO_BIN_EXE_strongroom"))
            .args(["backup", "create"])
            .arg(site.folder.join("whole.srbk"))
            .arg("--config")
            .arg(site.config_file())
            .current_dir(&site.folder)
            .output()
            .expect("the command runs");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        server.ask_to_stop();
        assert!(server.ended().await.success());
        let found = examine(&site);
        assert_eq!(found.status("backup.newest"), "pass", "{:#?}", found.lines);
        assert_eq!(found.status("audit.checkpoint"), "pass", "{:#?}", found.lines);
        fs::remove_file(&file).expect("a checkpoint was kept");
        assert_eq!(examine(&site).status("audit.checkpoint"), "warn");
    });
}

#[test]
fn a_disabled_key_and_a_wrong_clock_are_named_with_what_to_do() {
    on_each_site(|site, _| async move {
        let (url, key) = (&site.azure.vault_url, &site.azure.vault_key_name);
        azure_setup::set_enabled(&site.admin, url, key, false).await.expect("the key is switched off");
        let found = examine(&site);
        assert_eq!(found.exit, 1);
        let line = found.azure_vault();
        assert_eq!(line["status"], "fail", "{line:#}");
        assert!(line["fix"].as_str().is_some_and(|fix| fix.contains("az keyvault key set-attributes")), "{line:#}");
        azure_setup::set_enabled(&site.admin, url, key, true).await.expect("the key is switched on");
        let effect = Effect { date_skew_seconds: 200, ..Effect::default() };
        site.standin.set_fault(Fault { matching: Match::default(), effect, ..Fault::default() });
        let found = examine(&site);
        let line = found.line("azure.clock");
        assert_eq!(line["status"], "warn", "{:#?}", found.lines);
        assert!(line["why"].as_str().is_some_and(|why| why.contains("behind Azure's")), "{line:#}");
        assert!(line["fix"].as_str().is_some_and(|fix| fix.contains("timedatectl")), "{line:#}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_others_may_read_or_replace_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let database = format!("sqlite:{}", folder.path().join("strongroom.db").display());
    let site = Site::build(Wishes { folder: folder.path(), database, owner_password: "correct horse battery" }).await;
    let set = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the file is ours");
    };
    set(&site.folder.join("strongroom.db"), 0o644);
    let found = examine(&site);
    assert_eq!(found.status("files.private"), "warn");
    assert!(found.line("files.private")["fix"].as_str().is_some_and(|fix| fix.contains("strongroom.db")));
    set(&site.folder.join("strongroom.db"), 0o600);
    assert_eq!(examine(&site).status("files.private"), "pass");

    set(&site.folder, 0o777);
    let found = examine(&site);
    assert_eq!((found.status("files.folders"), found.exit), ("fail", 1));
    set(&site.folder, 0o700);

    set(&site.folder.join("strongroom.key"), 0o644);
    let found = examine(&site);
    assert_eq!((found.status("instance_key"), found.exit), ("fail", 1));
    assert!(found.line("instance_key")["fix"].as_str().is_some_and(|fix| fix.starts_with("chmod 600")));
    set(&site.folder.join("strongroom.key"), 0o600);

    fs::remove_file(site.folder.join("strongroom.key")).expect("the key is lost");
    let found = examine(&site);
    assert_eq!((found.status("instance_key"), found.status("vault.keys")), ("warn", "skipped"));
    assert!(!site.folder.join("strongroom.key").exists(), "a new key would make the loss look mended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_there_is_said_and_none_is_made() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let database = format!("sqlite:{}", folder.path().join("strongroom.db").display());
    let site = Site::build(Wishes { folder: folder.path(), database, owner_password: "correct horse battery" }).await;
    for end in ["", "-wal", "-shm", ".lock"] {
        // Those beside it are not always there.
        let _ = fs::remove_file(site.folder.join(format!("strongroom.db{end}")));
    }
    let found = examine(&site);
    assert_eq!(found.status("database.answers"), "warn");
    assert!(!site.folder.join("strongroom.db").exists());
    let toml = fs::read_to_string(site.config_file()).expect("the file is ours");
    let nowhere = toml
        .replace(&format!("sqlite:{}", folder.path().join("strongroom.db").display()), "postgres://a@127.0.0.1:1/a");
    assert_ne!(nowhere, toml);
    fs::write(site.config_file(), nowhere).expect("the file is ours");
    let found = examine(&site);
    assert_eq!((found.status("database.answers"), found.exit), ("fail", 1), "{:#?}", found.lines);
}

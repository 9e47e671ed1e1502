//! Backups as an operator makes, checks and restores them, with the real program, between both engines.

use std::{fs, path::PathBuf};

use reqwest::Method;
use serde_json::{Value, json};
use strongroom::azure_setup;

use crate::{
    child::{Api, Server},
    instance_key::furnish,
    ran::{refused, said, strongroom, told},
    site::{AZURE_VAULT, Site, Wishes, close},
    world::{Database, on_each_database, on_postgres, runtime},
};

const PASSWORD: &str = "correct horse battery";

/// Runs `test` with a whole installation on each engine.
fn on_each_site<F: Future<Output = ()>>(test: impl Fn(Site) -> F) {
    on_each_database(|database| on_site(&database, &test));
}

fn on_site<F: Future<Output = ()>>(database: &Database, test: impl FnOnce(Site) -> F) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    runtime().block_on(async {
        let wishes = Wishes { folder: folder.path(), database: database.url(), owner_password: PASSWORD };
        test(Site::build(wishes).await).await;
    });
}

/// Points the installation at another database.
fn name_database(site: &Site, url: &str) {
    let before = fs::read_to_string(site.config_file()).expect("the file is ours");
    let line = |line: &str| if line.starts_with("url = ") { format!("url = {url:?}") } else { line.to_owned() };
    let after: Vec<String> = before.lines().map(line).collect();
    fs::write(site.config_file(), after.join("\n")).expect("the file is ours");
}

/// Lets the server push a checkpoint of its log to a file, each minute and when it stops.
fn keep_checkpoints(site: &Site) {
    let mut toml = fs::read_to_string(site.config_file()).expect("the file is ours");
    toml += &format!("\n[audit]\ncheckpoint_file = {:?}\n", file(site, "checkpoint"));
    fs::write(site.config_file(), toml).expect("the file is ours");
}

async fn create(api: &Api, vault: uuid::Uuid, title: &str, password: &str) -> Value {
    let item = json!({
        "type": "secret", "vault_id": vault, "title": title,
        "fields": [{ "name": "value", "kind": "hidden", "value": password }],
    });
    api.try_send(Method::POST, "/items", None, &item).await.expect("an answer").expect(201).json()
}

async fn password_of(api: &Api, id: &str) -> String {
    let path = format!("/items/{id}/reveal");
    let item = api.try_send(Method::POST, &path, None, &Value::Null).await.expect("an answer").expect(200).json();
    item["fields"][0]["value"].as_str().expect("a value").to_owned()
}

/// A fresh API token of the Owner, who signs in again: those of before a restore have ended.
async fn sign_in_again(site: &Site) -> Api {
    let body = json!({ "email": crate::site::OWNER, "password": PASSWORD, "token_name": "again" });
    let answer = Api::of(site).try_raw(Method::POST, "/api/v1/login", None, Some(body.to_string().into_bytes())).await;
    let token = answer.expect("an answer").expect(200).json();
    Api::of(site).with_token(token["token"].as_str().unwrap_or_else(|| panic!("no token in {token}")))
}

fn file(site: &Site, name: &str) -> PathBuf {
    site.folder.join(name)
}

#[test]
fn a_backup_made_beside_the_server_restores_into_either_engine_with_every_item() {
    let restore = |source: Database, target: Database| {
        on_site(&source, |site| async move { back_up_and_restore(&site, &target).await });
    };
    on_each_database(|target| restore(Database::sqlite(), target));
    on_postgres(|source| restore(source, Database::sqlite()));
}

async fn back_up_and_restore(site: &Site, target: &Database) {
    keep_checkpoints(site);
    let server = Server::start(site, "warn").await;
    let api = Api::of(site);
    let cloud = create(&api, site.cloud_vault, "In the cloud vault", "cloud-pass").await;
    let azure = create(&api, site.azure_vault, "Under the key", "azure-pass").await;
    let made = told(site, &["backup", "create", "now.srbk"]);
    let later = create(&api, site.cloud_vault, "After the backup", "too-late").await;
    let listed = told(site, &["backup", "list"]);
    assert_eq!(listed["items"][0]["id"], made["id"]);
    assert_eq!(listed["items"][0]["counts"], true);
    server.ask_to_stop();
    assert!(server.ended().await.success());
    fs::copy(file(site, "checkpoint"), file(site, "newest-checkpoint")).expect("it was pushed at the end");
    let found = told(site, &["backup", "verify", "now.srbk"]);
    assert_eq!((&found["id"], &found["tables"]["items"]), (&made["id"], &json!(2)));

    name_database(site, &target.url());
    let would = told(site, &["restore", "now.srbk", "--dry-run"]);
    assert_eq!((&would["restored"], &would["tables"]["items"]), (&json!(false), &json!(2)));
    let done = told(site, &["restore", "now.srbk"]);
    assert_eq!(done["restored"], true);
    assert_eq!(done["ends"], would["ends"], "a dry run told something else");
    assert!(refused(site, &["restore", "now.srbk"]).contains("not empty"));

    let server = Server::start(site, "warn").await;
    let old = Api::of(site).try_send(Method::GET, "/items", None, &Value::Null).await;
    assert_eq!(old.expect("an answer").status, 401, "a token outlived the restore");
    let api = sign_in_again(site).await;
    assert_eq!(password_of(&api, cloud["id"].as_str().expect("an id")).await, "cloud-pass");
    assert_eq!(password_of(&api, azure["id"].as_str().expect("an id")).await, "azure-pass");
    let path = format!("/items/{}", later["id"].as_str().expect("an id"));
    let gone = api.try_send(Method::GET, &path, None, &Value::Null).await.expect("an answer");
    assert_eq!(gone.status, 404);
    server.kill();
    // Whoever kept the newest checkpoint sees the step back, and how far it went.
    let stepped = strongroom(site, &["audit", "verify", "--checkpoint", "newest-checkpoint"]);
    assert_eq!(stepped.status.code(), Some(1), "{}", said(&stepped));
    assert!(said(&stepped).contains("the database was set back by"), "{}", said(&stepped));
    let state = told(site, &["audit", "verify", "--state"]);
    assert_eq!(state["state"]["faults"].as_array().map_or(0, Vec::len), 0, "{state:#}");
}

#[test]
fn a_restore_ends_recovery_codes_and_pauses_jobs_that_may_be_over_since() {
    on_each_site(|site| async move {
        let app = site.open().await;
        furnish(&site, &app).await;
        close(app).await;
        told(&site, &["backup", "create", "now.srbk"]);
        let database = file(&site, "restored.db");
        name_database(&site, &format!("sqlite:{}", database.display()));
        let would = told(&site, &["restore", "now.srbk", "--dry-run"]);
        let done = told(&site, &["restore", "now.srbk"]);
        for told in [&would, &done] {
            assert_eq!((&told["ends"]["recovery_codes"], &told["pauses"]["jobs"]), (&json!(10), &json!(1)), "{told}");
        }
        told(&site, &["audit", "verify", "--state"]);
        let app = site.open().await;
        let sql = "SELECT (SELECT COUNT(*) FROM recovery_codes WHERE used_at IS NULL), \
                   (SELECT COUNT(*) FROM jobs WHERE state = 'paused' AND waiting_code = 'job.restored')";
        let left =
            app.store.read(move |tx| tx.first(sql, &[], |row| Ok((row.get::<u64>(0)?, row.get::<u64>(1)?)))).await;
        assert_eq!(left.expect("it is read"), Some((0, 1)));
        close(app).await;
    });
}

#[test]
fn a_backup_is_made_and_proven_while_its_vault_is_dark_and_opens_once_the_key_is_back() {
    on_each_site(|site| async move {
        let server = Server::start(&site, "warn").await;
        create(&Api::of(&site), site.azure_vault, "Under the key", "azure-pass").await;
        create(&Api::of(&site), site.cloud_vault, "In the cloud vault", "cloud-pass").await;
        let (url, key) = (&site.azure.vault_url, &site.azure.vault_key_name);
        azure_setup::set_enabled(&site.admin, url, key, false).await.expect("the key is switched off");
        told(&site, &["backup", "create", "dark.srbk"]);
        told(&site, &["backup", "verify", "dark.srbk"]);
        let denied = strongroom(&site, &["backup", "verify", "dark.srbk", "--open"]);
        assert_eq!(denied.status.code(), Some(1), "{}", said(&denied));
        let text = said(&denied);
        assert!(text.contains(&format!("Vault {AZURE_VAULT:?} could not be opened")), "{text}");
        assert!(text.contains("\"Cloud vault\" opens: 1 item, 1 revision") || text.contains("opens: 1 item"), "{text}");
        azure_setup::set_enabled(&site.admin, url, key, true).await.expect("the key is switched on");
        let opened = told(&site, &["backup", "verify", "dark.srbk", "--open"]);
        assert_eq!(opened["opens"], true, "{opened:#}");
        fs::write(file(&site, "azure.json"), site.standin.key_vault_log()).expect("the folder is ours");
        let compared = told(&site, &["audit", "reconcile", "azure.json"]);
        assert_eq!(compared["findings"], json!([]), "its unwraps are this instance's own");
        server.kill();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn no_backup_opens_that_was_cut_changed_mixed_or_made_under_another_instance_key() {
    let (folder, database) = (tempfile::tempdir().expect("a temporary folder"), Database::sqlite());
    let wishes = Wishes { folder: folder.path(), database: database.url(), owner_password: PASSWORD };
    let site = Site::build(wishes).await;
    told(&site, &["backup", "create", "one.srbk"]);
    told(&site, &["backup", "create", "two.srbk"]);
    let one = fs::read(file(&site, "one.srbk")).expect("the file is ours");
    let two = fs::read(file(&site, "two.srbk")).expect("the file is ours");
    let mut changed = one.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    let last = one.len() - 1;
    // The head of one, with the parts of the other.
    let mixed = [&one[..21], &two[21..]].concat();
    let longer = [&one[..], b"more"].concat();
    let parts = parts_of(&one);
    assert!(parts.len() >= 3, "a backup has a manifest, rows and an end: {}", parts.len());
    let without_rows = [&one[..21], parts[0], parts[parts.len() - 1]].concat();
    let without_end = one[..one.len() - parts[parts.len() - 1].len()].to_vec();
    for (name, bytes, why) in [
        ("changed", changed, "was changed"),
        ("cut", one[..last].to_vec(), "was cut off"),
        ("without its end", without_end, "was cut off"),
        ("mixed", mixed, "belongs to another backup"),
        ("longer", longer, "added after its end"),
        ("without its rows", without_rows, "was changed, moved"),
        ("empty", Vec::new(), "too short"),
        ("text", b"this is a text of more than twenty-one bytes".to_vec(), "no backup of Strongroom"),
    ] {
        fs::write(file(&site, "bad.srbk"), bytes).expect("the folder is ours");
        for command in [&["backup", "verify", "bad.srbk"][..], &["restore", "bad.srbk", "--dry-run"]] {
            let text = refused(&site, command);
            assert!(text.contains(why), "{name}: {text}");
        }
    }
    assert!(refused(&site, &["backup", "create", "one.srbk"]).contains("is there already"));
    assert!(refused(&site, &["restore", "one.srbk"]).contains("not empty"));
    fs::rename(file(&site, "strongroom.key"), file(&site, "lost.key")).expect("the key is ours");
    let made = strongroom(&site, &["admin", "new-instance-key", "strongroom.key"]);
    assert!(made.status.success(), "{}", said(&made));
    assert!(refused(&site, &["backup", "verify", "one.srbk"]).contains("which is not loaded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_database_is_readable_in_a_backup() {
    let (folder, database) = (tempfile::tempdir().expect("a temporary folder"), Database::sqlite());
    let wishes = Wishes { folder: folder.path(), database: database.url(), owner_password: PASSWORD };
    let site = Site::build(wishes).await;
    let server = Server::start(&site, "warn").await;
    create(&Api::of(&site), site.cloud_vault, "A title to look for", "a password to look for").await;
    server.kill();
    told(&site, &["backup", "create", "now.srbk"]);
    let bytes = fs::read(file(&site, "now.srbk")).expect("the file is ours");
    let key = fs::read_to_string(file(&site, "strongroom.key")).expect("the key is ours");
    let key = key.trim().rsplit('-').next().expect("hex").to_owned();
    for needle in
        ["a password to look for", "A title to look for", crate::site::OWNER, AZURE_VAULT, "audit_events", &key]
    {
        assert!(!bytes.windows(needle.len()).any(|window| window == needle.as_bytes()), "{needle} is in it");
    }
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(file(&site, "now.srbk")).expect("ours").permissions());
    assert_eq!(mode & 0o077, 0, "others may read it");
}

#[test]
fn a_key_version_that_only_a_backup_needs_is_not_safe_to_disable_until_that_is_retired() {
    on_each_site(|site| async move {
        let server = Server::start(&site, "warn").await;
        let api = Api::of(&site);
        let made = told(&site, &["backup", "create", "now.srbk"]);
        let census = format!("/vaults/{}/census", site.azure_vault);
        let counted = async || {
            let census = api.try_send(Method::GET, &census, None, &Value::Null).await.expect("an answer").expect(200);
            census.json()["versions"][0]["backups"].clone()
        };
        assert_eq!(counted().await, 1);
        let id = made["id"].as_str().expect("an id");
        let ran = strongroom(&site, &["backup", "retire", id]);
        assert!(ran.status.success(), "{}", said(&ran));
        assert_eq!(counted().await, 0);
        let unknown = refused(&site, &["backup", "retire", "00000000-0000-7000-8000-000000000000"]);
        assert!(unknown.contains("No such backup"), "{unknown}");
        server.kill();
    });
}

/// Each part of a backup with its length before it, as docs/format.md says.
fn parts_of(backup: &[u8]) -> Vec<&[u8]> {
    let (mut parts, mut rest) = (Vec::new(), &backup[21..]);
    while let Some((length, _)) = rest.split_first_chunk::<4>() {
        let (part, after) = rest.split_at(4 + u32::from_be_bytes(*length) as usize);
        parts.push(part);
        rest = after;
    }
    parts
}

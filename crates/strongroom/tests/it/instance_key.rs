//! A new instance key in place of an old one: everything comes over, from wherever it was cut off, and nothing that
//! fails its proof is vouched for.

use std::{fs, sync::Arc};

use reqwest::Method;
use serde_json::{Value, json};
use strongroom::{
    app::App,
    clock::SystemClock,
    config::{Config, DatabaseUrl},
    id::VaultId,
    instance_key::{self, Means},
    secret_text::SecretText,
    server,
};
use strongroom_envelope::SystemRandom;
use totp_rs::{Builder, Secret};

use crate::{
    child::{Api, Server},
    ran::{refused, told},
    site::{Site, Wishes, close},
    world::{on_each_database, origin, runtime},
};

/// Runs `test` on each engine with an installation that has something of every kind that an instance key protects.
fn on_each_site<F: Future<Output = ()>>(test: impl Fn(Site) -> F) {
    on_each_database(|database| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        runtime().block_on(async {
            let wishes =
                Wishes { folder: folder.path(), database: database.url(), owner_password: "correct horse battery" };
            let site = Site::build(wishes).await;
            let app = site.open().await;
            furnish(&site, &app).await;
            close(app).await;
            test(site).await;
        });
    });
}

/// A webhook, a second factor with recovery codes, and a job that has not ended.
pub async fn furnish(site: &Site, app: &Arc<App>) {
    let owner = app.caller_by_session(site.session.expose()).await.expect("signed in");
    app.create_webhook(&owner, &SecretText::from("https://hooks.example.com/a")).await.expect("a webhook");
    let setup = app.begin_code(&owner).await.expect("a secret");
    let secret = Secret::try_from_base32(setup.secret.expose()).expect("base32");
    let totp = Builder::new().with_secret(secret).build().expect("a good secret");
    let now = u64::try_from(app.clock.now().as_second()).expect("after 1970");
    let code = SecretText::from(totp.generate(now).to_string());
    app.confirm_code(&owner, code, &origin()).await.expect("its own code");
    app.reencrypt(&owner, VaultId(site.cloud_vault), false).await.expect("a job");
}

fn key_file(site: &Site) -> String {
    fs::read_to_string(site.folder.join("strongroom.key")).expect("the key file")
}

/// The ids of the keys in the file, the current one first.
fn ids(site: &Site) -> Vec<String> {
    key_file(site).lines().map(|line| line.split('-').nth(1).expect("an id").to_owned()).collect()
}

pub async fn create(api: &Api, vault: uuid::Uuid, title: &str) -> String {
    let item = json!({
        "type": "secret", "vault_id": vault, "title": title,
        "fields": [{ "name": "value", "kind": "hidden", "value": format!("value of {title}") }],
    });
    let made = api.try_send(Method::POST, "/items", None, &item).await.expect("an answer").expect(201).json();
    made["id"].as_str().expect("an id").to_owned()
}

pub async fn value_of(api: &Api, id: &str) -> String {
    let path = format!("/items/{id}/reveal");
    let item = api.try_send(Method::POST, &path, None, &Value::Null).await.expect("an answer").expect(200).json();
    item["fields"][0]["value"].as_str().expect("a value").to_owned()
}

async fn stop(server: Server) {
    server.ask_to_stop();
    assert!(server.ended().await.success());
}

#[test]
fn a_rotation_brings_everything_under_the_new_key_and_tokens_go_over_when_they_are_used() {
    on_each_site(|site| async move {
        let server = Server::start(&site, "warn").await;
        let api = Api::of(&site);
        let items = [
            (create(&api, site.cloud_vault, "Cloud").await, "value of Cloud"),
            (create(&api, site.azure_vault, "Azure").await, "value of Azure"),
        ];
        let why = refused(&site, &["instance-key", "rotate"]);
        assert!(why.contains("nother server has this database open"), "{why}");
        stop(server).await;
        let old = ids(&site).remove(0);

        let done = told(&site, &["instance-key", "rotate"]);
        let new = ids(&site).remove(0);
        assert_eq!((&done["key"], &done["made"]), (&json!(new), &json!(true)));
        assert_eq!(ids(&site), [new.clone(), old.clone()]);
        assert_eq!(done["keys"][1]["macs_and_seals"], 0, "{done}");
        assert_eq!(done["keys"][1]["living"]["tokens"], 1, "{done}");
        assert_eq!(told(&site, &["instance-key", "rotate"])["renewed"], 0, "it had ended");
        assert_eq!(ids(&site).len(), 2, "a second run makes no third key");
        told(&site, &["audit", "verify", "--state"]);

        let server = Server::start(&site, "warn").await;
        for (id, value) in &items {
            assert_eq!(value_of(&api, id).await, *value);
        }
        stop(server).await;
        let listed = told(&site, &["instance-key", "list"]);
        assert_eq!(listed["keys"][1]["living"]["tokens"], 0, "the token was used: {listed}");

        assert!(refused(&site, &["instance-key", "retire", &new]).contains("is the current instance key"));
        let why = refused(&site, &["instance-key", "retire", &old]);
        assert!(why.contains("10 recovery codes") && why.contains("--end-tokens"), "{why}");
        let ended = told(&site, &["instance-key", "retire", &old, "--end-tokens"]);
        assert_eq!(ended["ended"]["recovery_codes"], 10, "{ended}");
        assert_eq!(ids(&site), [new]);

        let server = Server::start(&site, "warn").await;
        for (id, value) in &items {
            assert_eq!(value_of(&api, id).await, *value, "the old key is gone");
        }
        stop(server).await;
        told(&site, &["audit", "verify", "--state"]);
        assert!(!fs::exists(site.folder.join("strongroom.key.new")).expect("a look"), "nothing is left beside it");
    });
}

#[test]
fn a_rotation_that_is_cut_off_anywhere_opens_and_goes_on() {
    on_each_site(|site| async move {
        let config = Config::load(Some(&site.config_file()), []).expect("a sound file");
        let random = Arc::new(SystemRandom::new());
        let rotating = server::keys_to_rotate(&config, random.as_ref()).expect("one key, in a file");
        fs::write(site.folder.join("strongroom.key"), rotating.unsaved.expect("a new key").as_bytes()).expect("kept");
        let means = Means { keys: rotating.keys, random: random.clone(), now: jiff::Timestamp::now() };
        // PostgreSQL lists the connections of a run for a while after its end, and the next one waits for them.
        let step = if matches!(config.database.url, DatabaseUrl::Sqlite(_)) { 1 } else { 4 };
        let mut cut_after = 1;
        loop {
            let store = server::open_to_renew(&config, &means.keys, Arc::new(SystemClock), random.clone()).await;
            let (store, means) = (store.expect("nobody has it open"), means.clone());
            let run = tokio::spawn(async move {
                let mut told = 0;
                let mut tell = |_| {
                    told += 1;
                    assert!(told < cut_after, "cut off here");
                };
                instance_key::rotate(&store, &means, &mut tell).await.expect("nothing is broken")
            });
            let ended = run.await;

            let app = site.open().await;
            let owner = app.caller_by_session(site.session.expose()).await.expect("the session goes on");
            assert_eq!(app.webhooks(&owner).await.expect("webhooks")[0].shown, "https://hooks.example.com/…");
            assert_eq!(app.vaults(&owner).await.expect("vaults").len(), 2);
            close(app).await;
            match ended {
                Ok(_) => break,
                Err(error) => assert!(error.is_panic()),
            }
            cut_after += step;
        }
        assert!(cut_after > 12, "it was never cut off while it wrote");
        told(&site, &["audit", "verify", "--state"]);
        assert_eq!(told(&site, &["instance-key", "list"])["keys"][1]["macs_and_seals"], 0);
    });
}

#[test]
fn no_server_starts_without_the_older_key_before_a_rotation_has_ended() {
    on_each_site(|site| async move {
        let config = Config::load(Some(&site.config_file()), []).expect("a sound file");
        let random = Arc::new(SystemRandom::new());
        let rotating = server::keys_to_rotate(&config, random.as_ref()).expect("one key, in a file");
        let both = rotating.unsaved.expect("a new key");
        let means = Means { keys: rotating.keys, random: random.clone(), now: jiff::Timestamp::now() };
        let store = server::open_to_renew(&config, &means.keys, Arc::new(SystemClock), random).await.expect("at rest");
        let with = means.clone();
        let cut = tokio::spawn(async move {
            let mut told = 0;
            let mut tell = |_| {
                told += 1;
                assert!(told < 8, "cut off here");
            };
            instance_key::rotate(&store, &with, &mut tell).await.map(drop)
        });
        assert!(cut.await.expect_err("cut off").is_panic());
        let file = site.folder.join("strongroom.key");
        for (lines, why) in [(0..1, "has not ended"), (1..2, "is not the one of this database")] {
            let lines: Vec<&str> = both.lines().skip(lines.start).take(1).collect();
            fs::write(&file, lines.join("\n")).expect("written");
            let told = refused(&site, &["serve"]);
            assert!(told.contains(why), "{told}");
        }
        fs::write(&file, both.as_bytes()).expect("written");
        assert!(told(&site, &["instance-key", "rotate"])["renewed"].as_u64().expect("a count") > 0);
    });
}

#[test]
fn a_row_that_fails_its_proof_is_named_and_no_new_key_vouches_for_it() {
    let changes = [
        ("UPDATE vaults SET lease_seconds = 31536000", "vault "),
        ("UPDATE providers SET vault_url = 'https://mallory.vault.azure.net'", "vault "),
        ("UPDATE wraps SET algorithm = 'RSA1_5'", "vault "),
        ("UPDATE jobs SET kind = 'rewrap'", "job "),
        ("UPDATE audit_events SET action = 'item.edit' WHERE action = 'server.start'", "event "),
        ("UPDATE webhooks SET id = workspace_id", "webhook "),
        ("UPDATE members SET sealed_totp = (SELECT sealed_target FROM webhooks)", "second factor of member "),
        ("UPDATE log_state SET sealed_key = (SELECT sealed_target FROM webhooks)", "the key that signs the log"),
    ];
    on_each_database(|database| {
        for (change, named) in changes {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let fresh = database.another();
            runtime().block_on(async {
                let wishes =
                    Wishes { folder: folder.path(), database: fresh.url(), owner_password: "correct horse battery" };
                let site = Site::build(wishes).await;
                let app = site.open().await;
                furnish(&site, &app).await;
                app.store.write(move |tx| tx.execute(change, &[]).map(drop)).await.expect("a statement that works");
                close(app).await;
                let before = key_file(&site);
                let why = refused(&site, &["instance-key", "rotate"]);
                assert!(why.contains("failed their proof") && why.contains(named), "{change}: {why}");
                assert_eq!(key_file(&site), before, "{change}: the key file was changed");
            });
        }
    });
}

//! Going on without a lost instance key.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};
use strongroom::azure_setup;

use crate::{
    child::{Api, Server},
    instance_key::{create, furnish, value_of},
    ran::{answered, json_of, refusal_of, said},
    site::{AZURE_VAULT, OWNER, Site, Wishes, close},
    world::{on_each_database, runtime},
};

const PASSWORD: &str = "correct horse battery";

fn on_each_site<F: Future<Output = ()>>(test: impl Fn(Site) -> F) {
    on_each_database(|database| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        runtime().block_on(async {
            let wishes = Wishes { folder: folder.path(), database: database.url(), owner_password: PASSWORD };
            let site = Site::build(wishes).await;
            let mut toml = fs::read_to_string(site.config_file()).expect("the file is ours");
            toml += &format!("\n[audit]\ncheckpoint_file = {:?}\n", site.folder.join("checkpoint"));
            fs::write(site.config_file(), toml).expect("the file is ours");
            let app = site.open().await;
            furnish(&site, &app).await;
            close(app).await;
            test(site).await;
        });
    });
}

#[track_caller]
fn told(site: &Site, arguments: &[&str], input: &Value) -> Value {
    json_of(arguments, &answered(site, arguments, input))
}

#[track_caller]
fn refused(site: &Site, arguments: &[&str], input: &Value) -> String {
    refusal_of(arguments, &answered(site, arguments, input))
}

const REANCHOR: [&str; 5] = ["restore", "--reanchor", "--email", OWNER, "--answers-stdin"];

async fn sign_in(site: &Site) -> Api {
    let body = json!({ "email": OWNER, "password": PASSWORD, "token_name": "again" });
    let answer = Api::of(site).try_raw(Method::POST, "/api/v1/login", None, Some(body.to_string().into_bytes())).await;
    let token = answer.expect("an answer").expect(200).json();
    Api::of(site).with_token(token["token"].as_str().unwrap_or_else(|| panic!("no token in {token}")))
}

async fn stop(server: Server) {
    server.ask_to_stop();
    assert!(server.ended().await.success());
}

#[test]
fn an_owner_anchors_azure_vaults_to_a_new_key_and_is_told_what_is_lost() {
    on_each_site(|site| async move {
        let server = Server::start(&site, "warn").await;
        let cloud = create(&Api::of(&site), site.cloud_vault, "Cloud").await;
        let azure = create(&Api::of(&site), site.azure_vault, "Azure").await;
        stop(server).await;
        let ran = answered(&site, &["audit", "key"], &Value::Null);
        fs::write(site.folder.join("log.pub"), &ran.stdout).expect("kept");
        fs::copy(site.folder.join("checkpoint"), site.folder.join("kept-checkpoint")).expect("kept");
        let key = site.folder.join("strongroom.key");
        let secret = site.azure.client_secret.expose().to_owned();
        let good = json!({ "password": PASSWORD, "credentials": { AZURE_VAULT: { "client_secret": secret } } });
        assert!(refused(&site, &REANCHOR, &good).contains("is in place"), "nothing is lost yet");

        let lost = fs::read_to_string(&key).expect("the key file");
        fs::remove_file(&key).expect("lost");
        assert!(refused(&site, &["serve"], &Value::Null).contains("is missing"));
        let why = refused(&site, &REANCHOR, &json!({ "password": "wrong" }));
        assert!(why.contains("not the e-mail address and password of an Owner"), "{why}");
        let dry = answered(&site, &[&REANCHOR[..], &["--dry-run"]].concat(), &good);
        for line in ["LOST: Cloud vault, a Cloud vault, with 1 item", "every second factor", "are taken on trust"] {
            assert!(said(&dry).contains(line), "{line}: {}", said(&dry));
        }
        assert!(!key.exists(), "a dry run makes no key");

        let proof = ["--checkpoint", "kept-checkpoint", "--public-key", "log.pub"];
        let done = told(&site, &[&REANCHOR[..], &proof].concat(), &good);
        assert_eq!(
            (&done["vaults"][0]["data_keys_opened"], &done["vaults"][0]["state"]),
            (&json!(1), &json!("active"))
        );
        assert_eq!((&done["closed"], &done["left"], &done["second_factors"]), (&json!(1), &json!(0), &json!(1)));
        assert!(done["proven"].as_u64() > Some(20), "{done}");

        let server = Server::start(&site, "warn").await;
        let old = Api::of(&site).try_send(Method::GET, "/items", None, &Value::Null).await;
        assert_eq!(old.expect("an answer").status, 401, "a token outlived the key that made it");
        let api = sign_in(&site).await;
        assert_eq!(value_of(&api, &azure).await, "value of Azure");
        let path = format!("/items/{cloud}/reveal");
        let gone = api.try_send(Method::POST, &path, None, &Value::Null).await.expect("an answer");
        assert!(gone.status >= 400 && gone.status < 600 && gone.status != 500, "{}", gone.status);
        stop(server).await;
        told(&site, &["audit", "verify", "--state"], &Value::Null);
        assert_ne!(
            answered(&site, &["audit", "key"], &Value::Null).stdout,
            ran.stdout,
            "the log signs with another key"
        );
        let pushed = fs::read_to_string(site.folder.join("checkpoint")).expect("pushed");
        assert_ne!(
            pushed,
            fs::read_to_string(site.folder.join("kept-checkpoint")).expect("kept"),
            "the next one is there"
        );
        let aside = fs::read_dir(&site.folder).expect("listed").filter_map(std::result::Result::ok);
        let aside = aside.filter(|entry| entry.file_name().to_string_lossy().starts_with("checkpoint.")).count();
        assert_eq!(aside, 0, "nothing was set back, so nothing is kept aside");

        // The key is found after all.
        let both = fs::read_to_string(&key).expect("the new key") + &lost;
        fs::write(&key, both).expect("written");
        let server = Server::start(&site, "warn").await;
        let vault = format!("/vaults/{}", site.cloud_vault);
        let held = api.try_send(Method::GET, &vault, None, &Value::Null).await.expect("an answer").expect(200).json();
        let revision = held["revision"].as_u64();
        api.try_send(Method::PATCH, &vault, revision, &json!({ "state": "active" }))
            .await
            .expect("an answer")
            .expect(200);
        assert_eq!(value_of(&api, &cloud).await, "value of Cloud");
        stop(server).await;
    });
}

#[test]
fn a_vault_whose_key_does_not_come_back_is_left_for_another_run() {
    on_each_site(|site| async move {
        let server = Server::start(&site, "warn").await;
        let azure = create(&Api::of(&site), site.azure_vault, "Azure").await;
        stop(server).await;
        fs::remove_file(site.folder.join("strongroom.key")).expect("lost");
        let secret = site.azure.client_secret.expose().to_owned();
        let good = json!({ "password": PASSWORD, "credentials": { AZURE_VAULT: { "client_secret": secret } } });
        let (url, key) = (&site.azure.vault_url, &site.azure.vault_key_name);
        azure_setup::set_enabled(&site.admin, url, key, false).await.expect("the customer may");
        let done = told(&site, &REANCHOR, &good);
        assert_eq!((&done["left"], &done["vaults"]), (&json!(1), &json!([])), "{done}");
        azure_setup::set_enabled(&site.admin, url, key, true).await.expect("the customer may");
        let done = told(&site, &REANCHOR, &good);
        assert_eq!((&done["left"], &done["vaults"][0]["data_keys_opened"]), (&json!(0), &json!(1)), "{done}");
        let server = Server::start(&site, "warn").await;
        assert_eq!(value_of(&sign_in(&site).await, &azure).await, "value of Azure");
        stop(server).await;
        told(&site, &["audit", "verify", "--state"], &Value::Null);
    });
}

#[test]
fn a_wrap_that_was_planted_is_not_anchored_and_an_event_that_was_changed_stops_it() {
    on_each_site(|site| async move {
        let server = Server::start(&site, "warn").await;
        create(&Api::of(&site), site.azure_vault, "Azure").await;
        stop(server).await;
        let app = site.open().await;
        let vault = site.azure_vault;
        // The data key of another item: the vault's key does not open it there.
        let sql = "UPDATE data_keys SET id = $2 WHERE vault_id = $1";
        app.store
            .write(move |tx| tx.execute(sql, &[vault.into(), uuid::Uuid::new_v4().into()]).map(drop))
            .await
            .expect("a statement that works");
        close(app).await;
        fs::remove_file(site.folder.join("strongroom.key")).expect("lost");
        let secret = site.azure.client_secret.expose().to_owned();
        let good = json!({ "password": PASSWORD, "credentials": { AZURE_VAULT: { "client_secret": secret } } });
        let ran = answered(&site, &REANCHOR, &good);
        assert!(said(&ran).contains("does not open the data key"), "{}", said(&ran));
    });
    on_each_site(|site| async move {
        let app = site.open().await;
        let sql = "UPDATE audit_events SET at = at + 1 WHERE action = 'vault.create'";
        app.store.write(move |tx| tx.execute(sql, &[]).map(drop)).await.expect("a statement that works");
        close(app).await;
        fs::remove_file(site.folder.join("strongroom.key")).expect("lost");
        let why = refused(&site, &REANCHOR, &json!({ "password": PASSWORD }));
        assert!(why.contains("audit log is not whole"), "{why}");
        assert!(!site.folder.join("strongroom.key").exists(), "no key was made");
    });
}

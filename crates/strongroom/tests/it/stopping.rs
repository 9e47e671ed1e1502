//! The end of a server: SIGTERM lets what is in progress finish and takes nothing new, gives its jobs to other nodes at
//! once, and writes down what is to be written.

use std::time::{Duration, Instant};

use azure_standin::{Effect, Fault, Match};
use reqwest::Method;
use serde_json::{Value, json};
use strongroom::store::Store;

use crate::{
    child::{Api, Server, log_file},
    site::{PATIENCE, SLUG, Site, Wishes, close},
    world::on_each_database,
};

/// How long Azure takes for an answer here, so that something is in progress when the signal comes.
const SLOW_MS: u64 = 1500;
const HELD: &str = "SELECT COUNT(*) FROM jobs WHERE state = 'running' AND lease_ends <> 0";

#[test]
fn sigterm_lets_requests_finish_takes_no_more_and_gives_jobs_away() {
    on_each_database(|database| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let url = database.url();
            let wishes =
                Wishes { folder: folder.path(), database: url.clone(), owner_password: "correct horse battery" };
            stops_well(Site::build(wishes).await, &url).await;
        });
    });
}

#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    on_each_database(|database| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let wishes =
                Wishes { folder: folder.path(), database: database.url(), owner_password: "correct horse battery" };
            works_without_a_log(Site::build(wishes).await).await;
        });
    });
}

/// A job that waits says so in the log, and goes on all the same.
async fn works_without_a_log(site: Site) {
    let api = Api::of(&site);
    // Every write to it fails, as on a full disk.
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let server = Server::start_writing_to(&site, &site.url, &[("STRONGROOM_LOG", "trace")], full).await;
    let item = json!({"vault_id": site.azure_vault, "type": "secret", "title": "Quiet",
        "fields": [{"name": "value", "kind": "hidden", "value": "is there"}]});
    api.try_send(Method::POST, "/items", None, &item).await.expect("an answer").expect(201);
    let path = format!("/vaults/{}/reencrypt", site.azure_vault);
    let started = api.try_send(Method::POST, &path, None, &json!({})).await.expect("an answer").expect(200).json();
    let job = format!("/jobs/{}", started["job_id"].as_str().expect("a job"));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = api.try_send(Method::GET, &job, None, &Value::Null).await.expect("an answer").expect(200).json();
        if seen["state"] == "done" {
            break;
        }
        assert!(Instant::now() < deadline, "nobody works on the job: {seen}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.ask_to_stop();
    assert!(server.ended().await.success());
}

async fn stops_well(site: Site, database: &str) {
    let api = Api::of(&site);
    let server = Server::start(&site, "info").await;
    let item = json!({"vault_id": site.azure_vault, "type": "secret", "title": "Slow",
        "fields": [{"name": "value", "kind": "hidden", "value": "arrives"}]});
    api.try_send(Method::POST, "/items", None, &item).await.expect("an answer").expect(201);
    slow(&site, "unwrapkey");
    let path = format!("/vaults/{}/reencrypt", site.azure_vault);
    let started = api.try_send(Method::POST, &path, None, &json!({})).await.expect("an answer");
    assert!(started.status < 300, "{} {}", started.status, started.text);
    let store = Store::open_read_only(database).expect("the database can be read");
    let deadline = Instant::now() + PATIENCE;
    while store.read(|tx| tx.count(HELD, &[])).await.expect("read") == 0 {
        assert!(Instant::now() < deadline, "nobody takes the job");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    slow(&site, "get");
    let mut check = begin_check(&site).await;
    let first = check.chunk().await.expect("an answer").expect("a first line");

    server.ask_to_stop();
    let mut lines = first.to_vec();
    while let Some(more) = check.chunk().await.expect("the answer does not break off") {
        lines.extend_from_slice(&more);
    }
    let ended = server.ended().await;
    assert!(ended.success(), "{ended}");
    let lines = String::from_utf8(lines).expect("text");
    assert!(
        lines.contains("key.compare") && lines.contains("azure.quota"),
        "the check did not come to its end: {lines}"
    );
    assert!(api.try_send(Method::GET, "/items", None, &Value::Null).await.is_none(), "it still answers");
    drop(store);
    let app = site.open().await;
    assert_eq!(app.store.read(|tx| tx.count(HELD, &[])).await.expect("read"), 0, "a job is still held");
    let stops = "SELECT COUNT(*) FROM audit_events WHERE action = 'server.stop'";
    assert_eq!(app.store.read(move |tx| tx.count(stops, &[])).await.expect("read"), 1);
    close(app).await;
    let log = std::fs::read_to_string(log_file(&site.folder)).expect("a log");
    for word in ["guarded", "serving", "stopping", "stopped"] {
        assert!(log.contains(word), "the log does not say {word}: {log}");
    }
}

fn slow(site: &Site, operation: &str) {
    let effect = Effect { delay_ms: Some(SLOW_MS), ..Effect::default() };
    let matching = Match { operation: Some(operation.into()), ..Match::default() };
    site.standin.set_fault(Fault { matching, effect, ..Fault::default() });
}

/// A check of the vault, told line by line.
async fn begin_check(site: &Site) -> reqwest::Response {
    let url = format!("{}/api/v1/workspaces/{SLUG}/vaults/{}/check", site.url, site.azure_vault);
    let http = reqwest::Client::builder().timeout(PATIENCE).build().expect("a client");
    let asked = http.post(url).bearer_auth(site.token.expose()).header("accept", "application/x-ndjson").send();
    asked.await.expect("an answer begins").error_for_status().expect("a check")
}

//! `strongroom store migrate`: a whole installation carried from one engine to the other, with the real program.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
    sync::Arc,
    time::Instant,
};

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use strongroom::{
    clock::SystemClock,
    config::{Config, DatabaseUrl},
    item::Filter,
    server,
    store::{
        Store,
        transfer::{Step, transfer},
    },
};
use strongroom_envelope::SystemRandom;
use tokio::sync::Notify;

use crate::{
    azure::account,
    child::{Api, Server},
    kills::number,
    ran::{json_of, said, strongroom},
    site::{Site, Wishes, close},
    world::{Database, administer, on_each_database, on_postgres, open_store, runtime},
};

const PASSWORD: &str = "correct horse battery";

fn on_site<F: Future<Output = ()>>(database: &Database, test: impl FnOnce(Site) -> F) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    runtime().block_on(async {
        let wishes = Wishes { folder: folder.path(), database: database.url(), owner_password: PASSWORD };
        test(Site::build(wishes).await).await;
    });
}

/// From SQLite into each engine, and from PostgreSQL into SQLite.
fn on_each_way(test: impl Fn(&Database, &Database)) {
    on_each_database(|target| test(&Database::sqlite(), &target));
    on_postgres(|source| test(&source, &Database::sqlite()));
}

fn migrate(site: &Site, from: &str, to: &str) -> Output {
    strongroom(site, &["--format", "json", "store", "migrate", "--from", from, "--to", to])
}

/// What a migration that has to work printed.
#[track_caller]
fn migrated(site: &Site, from: &str, to: &str) -> Value {
    json_of(&["store", "migrate"], &migrate(site, from, to))
}

fn name_database(site: &Site, url: &str) {
    let before = fs::read_to_string(site.config_file()).expect("the file is ours");
    let line = |line: &str| if line.starts_with("url = ") { format!("url = {url:?}") } else { line.to_owned() };
    let after: Vec<String> = before.lines().map(line).collect();
    fs::write(site.config_file(), after.join("\n")).expect("the file is ours");
}

async fn create(api: &Api, vault: uuid::Uuid, title: &str) -> String {
    let item = json!({
        "type": "secret", "vault_id": vault, "title": title,
        "fields": [{ "name": "value", "kind": "hidden", "value": format!("value of {title}") }],
    });
    let made = api.try_send(Method::POST, "/items", None, &item).await.expect("an answer").expect(201).json();
    made["id"].as_str().expect("an id").to_owned()
}

async fn value_of(api: &Api, id: &str) -> Value {
    let path = format!("/items/{id}/reveal");
    let item = api.try_send(Method::POST, &path, None, &Value::Null).await.expect("an answer").expect(200).json();
    item["fields"][0]["value"].clone()
}

fn checksums(told: &Value) -> Vec<(Value, Value)> {
    let tables = told["tables"].as_array().expect("tables");
    for table in tables {
        assert_eq!(table["from_sha256"], table["to_sha256"], "{table}");
    }
    tables.iter().map(|table| (table["table"].clone(), table["to_sha256"].clone())).collect()
}

#[test]
fn an_installation_goes_to_another_database_and_on_to_a_third_with_every_item_and_session() {
    on_each_way(|source, target| {
        on_site(source, |site| async move {
            let server = Server::start(&site, "warn").await;
            let api = Api::of(&site);
            let cloud = create(&api, site.cloud_vault, "in the cloud vault").await;
            let azure = create(&api, site.azure_vault, "under the key").await;
            server.ask_to_stop();
            assert!(server.ended().await.success());

            let there = migrated(&site, &source.url(), &target.url());
            let third = Database::sqlite();
            let further = migrated(&site, &target.url(), &third.url());
            assert_eq!(checksums(&there), checksums(&further), "it is not what it was");
            assert!(said(&migrate(&site, &source.url(), &target.url())).contains("is not empty"));

            name_database(&site, &target.url());
            let server = Server::start(&site, "warn").await;
            assert_eq!(value_of(&api, &cloud).await, "value of in the cloud vault");
            assert_eq!(value_of(&api, &azure).await, "value of under the key");
            let busy = migrate(&site, &target.url(), &Database::sqlite().url());
            assert!(!busy.status.success() && said(&busy).contains("store.in_use"), "{}", said(&busy));
            server.kill();
            let state = Command::new(env!("CARGO_BIN_EXE_strongroom"))
                .args(["--format", "json", "audit", "verify", "--state"])
                .current_dir(&site.folder)
                .output()
                .expect("the command runs");
            assert!(state.status.success(), "{}", said(&state));
        });
    });
}

#[test]
fn a_migration_that_was_cut_off_is_no_database_to_serve_from_and_goes_on_where_it_stopped() {
    on_each_way(|source, target| {
        on_site(source, |site| async move {
            cut_off(&source.url(), &target.url(), Step::Copy, 4).await;
            name_database(&site, &target.url());
            let config = Config::load(Some(&site.config_file()), []).expect("it was written above");
            let opened = server::open(&config, Arc::new(SystemClock), Arc::new(SystemRandom::new())).await;
            let refused = opened.err().expect("half a database must not be served").to_string();
            assert!(refused.contains("is not whole"), "{refused}");

            // Nothing that is there already is taken on trust.
            cut_off(&source.url(), &target.url(), Step::Compare, 2).await;
            let rows = "UPDATE workspaces SET name = 'Planted'";
            change(&target.url(), rows).await;
            let differs = migrate(&site, &source.url(), &target.url());
            assert!(said(&differs).contains("table workspaces is not the same"), "{}", said(&differs));
            change(&target.url(), "UPDATE workspaces SET name = 'Site'").await;

            let done = migrated(&site, &source.url(), &target.url());
            assert!(checksums(&done).len() > 20, "{done:#}");
            let opened = server::open(&config, Arc::new(SystemClock), Arc::new(SystemRandom::new())).await;
            assert!(opened.is_ok(), "it is whole now");
        });
    });
}

#[test]
fn what_a_command_writes_into_the_source_after_it_was_compared_is_no_equal_migration() {
    let (source, target) = (Database::sqlite(), Database::sqlite());
    on_site(&source, async |_site: Site| {
        let file = source.url().trim_start_matches("sqlite:").to_owned();
        let (from, to) =
            (Store::open_at_rest(&source.url()).expect("nobody uses it"), open_store(&target.url()).expect("made"));
        let mut compared = 0;
        let mut tell = |progress: &strongroom::store::transfer::Progress| {
            let first = compared == 0;
            compared += u64::from(progress.step == Step::Compare);
            if first && compared == 1 {
                let beside = rusqlite::Connection::open(&file).expect("the same file");
                beside.execute("INSERT INTO meta (name, value) VALUES ('late', '1')", []).expect("written");
            }
        };
        let done = transfer(&from, &to, Timestamp::now(), &mut tell).await;
        let refused = done.expect_err("the target has not what the source has").to_string();
        assert!(refused.contains("wrote to the source"), "{refused}");
    });
}

/// Gives the work up after so many batches of a step, as a killed process does.
async fn cut_off(from: &str, to: &str, step: Step, batches: usize) {
    let from = Store::open_at_rest(from).expect("nobody uses it");
    let to = open_store(to).expect("it can be made");
    let (enough, mut seen) = (Notify::new(), 0);
    let mut tell = |progress: &strongroom::store::transfer::Progress| {
        seen += usize::from(progress.step == step);
        if seen == batches {
            enough.notify_one();
        }
    };
    tokio::select! {
        biased;
        () = enough.notified() => {}
        done = transfer(&from, &to, Timestamp::now(), &mut tell) => panic!("it came to its end: {done:?}"),
    }
}

async fn change(url: &str, sql: &'static str) {
    let store = open_store(url).expect("it is there");
    store.write(move |tx| tx.execute(sql, &[]).map(drop)).await.expect("a statement that works");
}

/// Items that are made in one go.
const BATCH: u64 = 200;

#[test]
#[ignore = "takes minutes: cargo xtask migrate"]
fn as_many_items_as_asked_for_go_there_and_back_with_equal_checksums() {
    let items = number("STRONGROOM_MIGRATE_ITEMS").expect("cargo xtask migrate says how many");
    on_postgres(|postgres| {
        // What is measured is no engine that refuses each transaction at first.
        administer(&postgres.url(), "DROP EVENT TRIGGER watch");
        on_site(&Database::sqlite(), |site| there_and_back(site, items, postgres.url()));
    });
}

async fn there_and_back(site: Site, items: u64, postgres: String) {
    let app = site.open().await;
    let owner = app.caller_by_session(site.session.expose()).await.expect("signed in");
    let began = Instant::now();
    for batch in 0..items.div_ceil(BATCH) {
        let few = BATCH.min(items - batch * BATCH);
        let contents = (0..few).map(|item| account(&format!("Account {}", batch * BATCH + item), "tide-and-lamp"));
        let made = app.create_items(&owner, None, contents.collect()).await.expect("made");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }
    eprintln!("{items} items made in {:.1} s", began.elapsed().as_secs_f64());
    close(app).await;
    let config = Config::load(Some(&site.config_file()), []).expect("a sound file");
    let DatabaseUrl::Sqlite(file) = &config.database.url else { panic!("it is on SQLite") };
    let (sqlite, other) =
        (format!("sqlite:{}", file.display()), format!("sqlite:{}", site.folder.join("back").display()));

    let began = Instant::now();
    kill_in_the_middle(&site, &sqlite, &postgres);
    let there = migrated(&site, &sqlite, &postgres);
    let to_postgres = began.elapsed();
    let began = Instant::now();
    let back = migrated(&site, &postgres, &other);
    let to_sqlite = began.elapsed();
    let sums = |told: &Value, side: &str| -> Vec<Value> {
        let tables = told["tables"].as_array().expect("tables").clone();
        tables.into_iter().map(|table| table[side].clone()).collect()
    };
    assert_eq!(sums(&there, "from_sha256"), sums(&there, "to_sha256"));
    assert_eq!(sums(&there, "from_sha256"), sums(&back, "from_sha256"));
    assert_eq!(sums(&there, "from_sha256"), sums(&back, "to_sha256"));

    name_database(&site, &other);
    let ran = strongroom(&site, &["audit", "verify", "--state"]);
    assert!(ran.status.success(), "{}", said(&ran));
    let app = site.open().await;
    let found = app.find_items(&owner, Filter { limit: 50, ..Filter::default() }).await.expect("a list");
    for item in &found.items {
        let revealed = app.reveal_item(&owner, item.id, None).await.expect("it opens");
        assert!(revealed.1.iter().any(|field| field.value.expose() == "tide-and-lamp"));
    }
    close(app).await;
    let line = format!(
        "items={items} rows={} to_postgres={:.1}s (killed once) to_sqlite={:.1}s checksums=equal",
        there["rows"],
        to_postgres.as_secs_f64(),
        to_sqlite.as_secs_f64()
    );
    fs::write(env::var("STRONGROOM_MIGRATE_TALLY").expect("cargo xtask migrate names it"), line).expect("written");
}

/// Starts a migration, and ends it with SIGKILL once it has told twice how far it is.
fn kill_in_the_middle(site: &Site, from: &str, to: &str) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_strongroom"))
        .args(["store", "migrate", "--from", from, "--to", to])
        .current_dir(&site.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    let told = BufReader::new(child.stderr.take().expect("piped")).lines();
    let told: Vec<_> = told.take(2).map(|line| line.expect("text")).collect();
    child.kill().expect("it is our child");
    child.wait().expect("it ends");
    eprintln!("killed after: {}", told.join("; "));
    assert_eq!(told.len(), 2, "it was over before it could be killed");
}

//! A whole vault moves while the server is killed again and again: nothing lost, nothing twice, everything opens, and
//! the account adds up. SQLite and PostgreSQL.
//!
//! `STRONGROOM_MOVE_ITEMS` and `STRONGROOM_MOVE_KILLS` set how many items there are and how often the server is killed,
//! on each engine; `cargo xtask chaos move` runs this with more, and reads the tally.

use std::{
    collections::BTreeMap,
    env,
    fs::File,
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};
use strongroom::{
    app::{App, Caller},
    id::{ItemId, VaultId},
    item::{Content, Field, FieldKind, ItemType, Patch},
    store::Tx,
};
use uuid::Uuid;

use super::{check_audit, number, writers::Dice};
use crate::{
    child::{Api, Server},
    site::{PATIENCE, Site, Wishes, close},
    world::on_each_database,
};

/// Of an ordinary test run, on each engine.
const ITEMS: u64 = 300;
const KILLS: u64 = 2;
/// Items written at a time.
const BATCH: u64 = 500;
/// Every so many items have a second revision, and every so many lie in the trash.
const EDITED: u64 = 20;
const TRASHED: u64 = 30;
/// Items opened at the same time.
const READERS: usize = 32;
/// A kill comes up to this long after its moment.
const LONGEST_DELAY_MICROS: u64 = 30_000;

#[test]
fn a_killed_server_finishes_its_move_and_the_account_adds_up() {
    let seed = number("STRONGROOM_KILLS_SEED").unwrap_or_else(|| u64::from(std::process::id()) ^ 0x6d6f_7665);
    let items = number("STRONGROOM_MOVE_ITEMS").unwrap_or(ITEMS);
    let kills = number("STRONGROOM_MOVE_KILLS").unwrap_or(KILLS);
    on_each_database(|database| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let faults = runtime.expect("a runtime").block_on(moved(seed, items, kills, database.url()));
        let line = format!("items={items} kills={kills} lost={}", faults.len());
        eprintln!("{line}");
        if let Some(file) = env::var_os("STRONGROOM_KILLS_TALLY") {
            let mut out = File::options().create(true).append(true).open(file).expect("the tally can be written");
            writeln!(out, "{line}").expect("the tally can be written");
        }
        assert!(faults.is_empty(), "seed {seed}:\n{}", faults.join("\n"));
    });
}

/// One move under kills; what is wrong afterwards.
async fn moved(seed: u64, items: u64, kills: u64, database: String) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let site = Site::build(Wishes { folder: folder.path(), database, owner_password: "correct horse battery" }).await;
    let app = site.open().await;
    let made = populate(&app, &owner(&app, &site).await, VaultId(site.cloud_vault), items).await;
    close(app).await;
    let api = Api::of(&site);
    let mut dice = Dice::new(seed);
    let mut server = Server::start(&site, "warn").await;
    let body = json!({ "vault_id": site.cloud_vault, "to": site.azure_vault });
    let plan = api.try_send(Method::POST, "/moves", None, &body).await.expect("an answer").expect(200).json();
    let job = plan["job_id"].as_str().expect("a job").to_owned();
    let deadline = Instant::now() + PATIENCE + Duration::from_millis(20 * items);
    for kill in 0..kills {
        // Somewhere in this kill's part of the move.
        let moment = (kill * items + dice.below(items.max(1))) / (kills + 1);
        until(&api, &job, deadline, |job| job["done"].as_u64() >= Some(moment)).await;
        tokio::time::sleep(Duration::from_micros(dice.below(LONGEST_DELAY_MICROS))).await;
        server.kill();
        server = Server::start(&site, "warn").await;
    }
    let ended = until(&api, &job, deadline, |job| job["state"] == "done").await;
    server.kill();
    let mut faults = account_faults(&ended, items);
    let app = site.open().await;
    faults.extend(row_faults(&app, &site, &made).await);
    faults.extend(item_faults(&app, &owner(&app, &site).await, made).await);
    faults.extend(check_audit(&app).await);
    close(app).await;
    faults
}

/// Waits until the job `is_so` or has ended.
async fn until(api: &Api, job: &str, deadline: Instant, is_so: impl Fn(&Value) -> bool) -> Value {
    loop {
        let answer = api.try_send(Method::GET, &format!("/jobs/{job}"), None, &Value::Null).await;
        let seen = answer.expect("the server runs").expect(200).json();
        if is_so(&seen) || seen["finished_at"].is_string() {
            return seen;
        }
        assert!(Instant::now() < deadline, "the move takes too long: {seen}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn owner(app: &App, site: &Site) -> Caller {
    app.caller_by_session(site.session.expose()).await.expect("the Owner is signed in")
}

/// Items, each with its number as password; and of some a second revision.
async fn populate(app: &App, owner: &Caller, vault: VaultId, items: u64) -> BTreeMap<ItemId, Made> {
    let mut made = BTreeMap::new();
    let mut number = 0;
    while number < items {
        let batch: Vec<_> = (number..items.min(number + BATCH)).collect();
        let contents = batch.iter().map(|number| account(*number)).collect();
        let outcomes = app.create_items(owner, Some(vault), contents).await.expect("created");
        for (number, id) in batch.iter().zip(outcomes) {
            let item = Made { number: *number, edited: number % EDITED == 0, trashed: number % TRASHED == 0 };
            made.insert(id.expect("created"), item);
        }
        number += BATCH;
    }
    for (id, item) in &made {
        if item.edited {
            let patch = Patch { fields: Some(vec![password("edited")]), ..Patch::default() };
            app.edit_item(owner, *id, 1, patch).await.expect("edited");
        }
        if item.trashed {
            app.trash_item(owner, *id, None).await.expect("trashed");
        }
    }
    made
}

/// What was written of an item.
#[derive(Clone, Copy)]
struct Made {
    number: u64,
    edited: bool,
    trashed: bool,
}

fn account(number: u64) -> Content {
    Content {
        item_type: ItemType::Account,
        kind: None,
        title: format!("Item {number}").as_str().into(),
        urls: vec![],
        usernames: vec![],
        labels: vec![],
        fields: vec![password(&number.to_string())],
    }
}

fn password(value: &str) -> Field {
    Field::new("Password", FieldKind::Password, value.into())
}

fn account_faults(job: &Value, items: u64) -> Vec<String> {
    let account = &job["account"];
    let expected = [("found", items), ("came", 0), ("done", items), ("kept", 0), ("gone", 0), ("left", 0)];
    let wrong = expected.iter().filter(|(name, count)| account[name].as_u64() != Some(*count));
    let faults: Vec<_> = wrong.map(|(name, count)| format!("{name} is {} instead of {count}", account[name])).collect();
    if job["done"].as_u64() == Some(items) && job["total"].as_u64() == Some(items) {
        return faults;
    }
    faults.into_iter().chain([format!("the progress does not add up: {job}")]).collect()
}

/// Every item is in the one vault and not in the other, under one data key, and each revision was moved once.
async fn row_faults(app: &App, site: &Site, made: &BTreeMap<ItemId, Made>) -> Vec<String> {
    let (from, to) = (site.cloud_vault, site.azure_vault);
    let counts = move |tx: &mut Tx<'_>| {
        let mut rows = |table: &str, vault: Uuid| {
            tx.count(&format!("SELECT COUNT(*) FROM {table} WHERE vault_id = $1"), &[vault.into()])
        };
        let counts = [rows("items", from)?, rows("data_keys", from)?, rows("items", to)?, rows("data_keys", to)?];
        Ok((counts, tx.count("SELECT COUNT(*) FROM audit_events WHERE action = 'item.move'", &[])?))
    };
    let (counts, moves) = app.store.read(counts).await.expect("the tables can be read");
    let (items, edited) = (made.len() as u64, made.values().filter(|item| item.edited).count() as u64);
    let mut faults = Vec::new();
    if counts != [0, 0, items, items] {
        faults.push(format!("items and data keys here, items and data keys there: {counts:?} of {items}"));
    }
    if moves != items + edited {
        faults.push(format!("{moves} revisions were moved instead of {}", items + edited));
    }
    faults
}

/// Every item opens to what was written, its history too.
async fn item_faults(app: &Arc<App>, owner: &Caller, made: BTreeMap<ItemId, Made>) -> Vec<String> {
    let opened = stream::iter(made).map(|(id, item)| async move {
        let number = item.number.to_string();
        let current = if item.edited { "edited" } else { number.as_str() };
        let mut wanted = vec![(None, current)];
        if item.edited {
            wanted.push((Some(1), number.as_str()));
        }
        let mut faults = Vec::new();
        for (revision, value) in wanted {
            match app.reveal_item(owner, id, revision).await {
                Ok((_, fields)) if fields[0].value.expose() == value => {}
                Ok(_) => faults.push(format!("{id}: revision {revision:?} holds something else")),
                Err(error) => faults.push(format!("{id}: revision {revision:?} does not open: {error}")),
            }
        }
        if item.trashed && app.untrash_item(owner, id).await.is_err() {
            faults.push(format!("{id}: it is not in the trash any more"));
        }
        faults
    });
    opened.buffer_unordered(READERS).concat().await
}

//! Drills: the real server with a vault on each of several keys, under reading load, while the keys are disabled and
//! enabled again at staggered moments. Every way to each vault has to be refused, and back, within the promise.
//!
//! `STRONGROOM_DRILL_ROUNDS` and `STRONGROOM_DRILL_KEYS` set how much (1 and 2 otherwise), `STRONGROOM_DRILL_SECONDS`
//! when no further round begins. `cargo xtask drill` runs this with more and reads what was measured, a line of JSON, from
//! the file in `STRONGROOM_DRILL_TALLY`.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use strongroom::{
    azure_setup::{self, Plan},
    client::{Client, Server as Address},
    drill::{Measured, PROMISE, Pace, Probes, TITLE, Target, Way},
    http::api::types::{CreateItem, Field, FieldKind, ItemType, SearchItems},
    secret_text::SecretText,
    vault::{Accepted, AzureRequest, CredentialText, KeyRequest, VaultRequest},
};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    child::Server,
    site::{AZURE_VAULT, OWNER, SLUG, Site, Wishes, close},
};

/// Longest that a way may take before the round is given up; what took longer than the promise has failed anyway.
const PATIENCE: Duration = Duration::from_secs(40);
const PASSWORD: &str = "correct horse battery";
/// Readers that do nothing but reveal, all the time.
const READERS: usize = 4;

#[test]
fn every_way_is_refused_and_back_within_the_promise_under_load() {
    let (rounds, keys) = (number("STRONGROOM_DRILL_ROUNDS", 1), number("STRONGROOM_DRILL_KEYS", 2));
    let until = Instant::now() + Duration::from_secs(number("STRONGROOM_DRILL_SECONDS", 3600));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let tally = runtime.expect("a runtime").block_on(hold(rounds, keys, until));
    tally.tell();
    assert!(tally.faults.is_empty(), "{}", tally.faults.join("\n"));
    assert!(tally.withdrawals > 0, "no key was ever withdrawn");
    for (way, times) in &tally.ways {
        assert!(times.denied <= PROMISE && times.recovered <= PROMISE, "{way:?}: {times:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_holds_a_drill_by_itself_and_writes_its_report() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let site = Site::build(wishes(&folder)).await;
    fs::write(folder.path().join("demo.json"), demo_file(&site)).expect("the folder is ours");
    let server = Server::start(&site, "warn").await;
    let drill = |vault: &'static str| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.args(["vault", "drill", vault, "--format", "json", "--demo"]).arg(folder.path());
        command.arg("--report").arg(folder.path().join("report"));
        command.env("STRONGROOM_URL", &site.url).env("STRONGROOM_TOKEN", site.token.expose());
        command.env("STRONGROOM_WORKSPACE", SLUG).current_dir(folder.path()).kill_on_drop(true).output()
    };
    let held = tokio::time::timeout(PATIENCE * 2, drill(AZURE_VAULT)).await.expect("it ends").expect("it runs");
    let told: serde_json::Value = serde_json::from_slice(&held.stdout)
        .unwrap_or_else(|_| panic!("no report: {}", String::from_utf8_lossy(&held.stderr)));
    assert_eq!((held.status.code(), &told["passed"], &told["state"]), (Some(0), &true.into(), &"key_disabled".into()));
    let ways: BTreeSet<_> =
        told["paths"].as_array().into_iter().flatten().map(|path| path["path"].to_string()).collect();
    assert_eq!(ways.len(), 7, "{ways:?}");
    let written = fs::read_to_string(folder.path().join("report/report.json")).expect("report.json");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&written).expect("JSON"), told);
    let left = client(&site).search(&drill_items()).await.expect("a search");
    assert!(left.items.is_empty(), "the drill deletes what it made");

    let refused = drill("Cloud vault").await.expect("it runs");
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && words.contains("drill.cloud_vault"), "{words}");
    server.kill();
}

/// One vault of the drill, and where its key is.
struct Place {
    vault: Uuid,
    item: Uuid,
    vault_url: String,
    key: String,
}

/// The longest times of one way over all keys and rounds.
#[derive(Debug, Default)]
struct Times {
    denied: Duration,
    recovered: Duration,
    tries: usize,
}

/// What came of all rounds.
#[derive(Default)]
struct Tally {
    keys: u64,
    withdrawals: u64,
    reads: u64,
    ways: BTreeMap<Way, Times>,
    faults: Vec<String>,
}

impl Tally {
    fn add(&mut self, place: usize, round: u64, measured: Vec<Measured>) {
        self.withdrawals += 1;
        for found in measured {
            let times = self.ways.entry(found.probe.way).or_default();
            times.tries += found.tries;
            match (found.denied, found.recovered) {
                (Some(denied), Some(recovered)) => {
                    times.denied = times.denied.max(denied);
                    times.recovered = times.recovered.max(recovered);
                }
                _ => self.faults.push(format!("key {place}, round {round}: never refused, or never back: {found:?}")),
            }
            if !found.odd.is_empty() {
                self.faults.push(format!("key {place}, round {round}, {:?}: {}", found.probe, found.odd.join("; ")));
            }
        }
    }

    fn tell(&self) {
        let ways: Vec<_> = self
            .ways
            .iter()
            .map(|(way, times)| {
                serde_json::json!({"way": way.title(), "tries": times.tries,
                    "denied_ms": u64::try_from(times.denied.as_millis()).unwrap_or(u64::MAX),
                    "recovered_ms": u64::try_from(times.recovered.as_millis()).unwrap_or(u64::MAX)})
            })
            .collect();
        let told = serde_json::json!({"keys": self.keys, "withdrawals": self.withdrawals, "reads": self.reads,
            "limit_ms": PROMISE.as_millis(), "ways": ways, "faults": self.faults});
        eprintln!("{told}");
        if let Some(file) = env::var_os("STRONGROOM_DRILL_TALLY") {
            fs::write(PathBuf::from(file), told.to_string()).expect("the tally can be written");
        }
    }
}

async fn hold(rounds: u64, keys: u64, until: Instant) -> Tally {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let site = Arc::new(Site::build(wishes(&folder)).await);
    let mut vaults = further_vaults(&site, keys).await;
    vaults.insert(0, (site.azure_vault, site.azure.vault_url.clone(), site.azure.vault_key_name.clone()));
    let server = Server::start(&site, "warn").await;
    let mut places = Vec::new();
    for (vault, vault_url, key) in vaults {
        let item = client(&site).create_item(&account(vault)).await.expect("an item is made").id;
        places.push(Arc::new(Place { vault, item, vault_url, key }));
    }
    let (_readers, reads) = readers(&site, &places);
    let mut drills = JoinSet::new();
    for (index, place) in places.into_iter().enumerate() {
        let site = Arc::clone(&site);
        drills.spawn(async move { drill(&site, &place, index, rounds, until).await });
    }
    let mut tally = Tally { keys, ..Tally::default() };
    while let Some(done) = drills.join_next().await {
        let (index, results) = done.expect("no panic");
        for (round, result) in results.into_iter().enumerate() {
            match result {
                Ok(measured) => tally.add(index, round as u64, measured),
                Err(words) => tally.faults.push(words),
            }
        }
    }
    tally.reads = reads.load(Ordering::Relaxed);
    server.kill();
    tally
}

/// Withdraws one key again and again, its own rounds staggered against those of the others.
async fn drill(
    site: &Site,
    place: &Place,
    index: usize,
    rounds: u64,
    until: Instant,
) -> (usize, Vec<Result<Vec<Measured>, String>>) {
    let target = Target {
        url: site.url.clone(),
        workspace: SLUG.to_owned(),
        token: SecretText::from(site.token.expose()),
        sessions: vec![("strongroom", SecretText::from(site.session.expose()))],
        vault: place.vault,
        item: place.item,
        program: Some(PathBuf::from(env!("CARGO_BIN_EXE_strongroom"))),
        pace: Pace { requests: Duration::from_millis(500), costly: Duration::from_secs(3) },
    };
    let probes = Probes::start(target).expect("the server's address is one");
    let mut results = Vec::new();
    if !probes.all_serve(Instant::now(), PATIENCE).await {
        return (index, vec![Err(format!("key {index}: {}", probes.record.latest().join("; ")))]);
    }
    for round in 0..rounds {
        if Instant::now() > until {
            break;
        }
        let stagger = (index as u64 * 7919 + round * 104_729) % 1500;
        tokio::time::sleep(Duration::from_millis(stagger)).await;
        let result = withdraw_once(site, place, &probes).await;
        let failed = result.is_err();
        results.push(result.map_err(|why| format!("key {index}, round {round}: {why}")));
        if failed {
            break;
        }
        probes.record.forget_before(Instant::now());
    }
    (index, results)
}

async fn withdraw_once(site: &Site, place: &Place, probes: &Probes) -> Result<Vec<Measured>, String> {
    let enable = |enabled| azure_setup::set_enabled(&site.admin, &place.vault_url, &place.key, enabled);
    enable(false).await.map_err(|error| error.to_string())?;
    let withdrawn = Instant::now();
    let refused = probes.all_refuse(withdrawn, PATIENCE).await;
    let latest = probes.record.latest().join("; ");
    enable(true).await.map_err(|error| error.to_string())?;
    let restored = Instant::now();
    if !refused {
        return Err(format!("not refused after 40 s: {latest}"));
    }
    if !probes.all_serve(restored, PATIENCE).await {
        return Err(format!("not back after 40 s: {}", probes.record.latest().join("; ")));
    }
    Ok(probes.record.measure(withdrawn, restored))
}

/// Readers of all vaults, dark or not, until they are dropped.
fn readers(site: &Arc<Site>, places: &[Arc<Place>]) -> (JoinSet<()>, Arc<AtomicU64>) {
    let reads = Arc::new(AtomicU64::new(0));
    let mut readers = JoinSet::new();
    for reader in 0..READERS {
        let (client, places, reads) = (client(site), places.to_vec(), Arc::clone(&reads));
        readers.spawn(async move {
            for turn in reader.. {
                // Refused or not: what is wrong, the probes tell.
                let _ = client.reveal(places[turn % places.len()].item).await;
                reads.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }
    (readers, reads)
}

/// As many vaults more as there are keys beyond the first, each with a key and an application of its own.
async fn further_vaults(site: &Site, keys: u64) -> Vec<(Uuid, String, String)> {
    let app = site.open().await;
    let owner = app.caller_by_session(site.session.expose()).await.expect("the Owner is signed in");
    let mut vaults = Vec::new();
    for number in 2..=keys {
        let (application, key) = (format!("Strongroom {number}"), format!("strongroom-kek-{number}"));
        let plan =
            Plan { retention_days: 7, ..Plan::new(&application, "rg", "strongroom-test-kv", "westeurope", &key) };
        let values = azure_setup::set_up(&site.admin, &plan, &|_| ()).await.expect("Azure is set up");
        let (vault_url, key) = (values.vault_url.clone(), values.vault_key_name.clone());
        let request = AzureRequest {
            client_id: values.client_id,
            tenant_id: values.tenant_id,
            credential: CredentialText::Secret(values.client_secret),
            credential_expires: None,
            vault_url: values.vault_url,
            vault_key_name: values.vault_key_name,
        };
        let request = VaultRequest {
            name: format!("Vault {number}"),
            make_default: false,
            key: KeyRequest::Azure(request),
            accept_warnings: Accepted::All,
        };
        vaults.push((app.create_vault(&owner, request).await.expect("a vault is made").id.0, vault_url, key));
    }
    close(app).await;
    vaults
}

fn wishes(folder: &tempfile::TempDir) -> Wishes<'_> {
    let database = format!("sqlite:{}", folder.path().join("strongroom.db").display());
    Wishes { folder: folder.path(), database, owner_password: PASSWORD }
}

/// What the demo would have written of this site.
fn demo_file(site: &Site) -> String {
    let admin = site.standin.admin();
    let file = serde_json::json!({
        "url": site.url, "workspace": SLUG, "vaults": [],
        "members": [{"role": "owner", "email": OWNER, "password": PASSWORD, "token": site.token.expose()}],
        "azure": {"client_id": site.azure.client_id, "tenant_id": site.azure.tenant_id, "client_secret": "",
            "vault_url": site.azure.vault_url, "vault_key_name": site.azure.vault_key_name},
        "standin": {"proxy": site.standin.proxy_url(), "control": site.standin.control_url(),
            "ca": site.folder.join("azure-ca.pem"), "admin": {"tenant_id": admin.tenant_id,
            "client_id": admin.client_id, "client_secret": admin.client_secret,
            "subscription_id": admin.subscription_id}},
    });
    file.to_string()
}

fn drill_items() -> SearchItems {
    SearchItems { query: TITLE.into(), item_type: None, vault_id: None, cursor: None, limit: None }
}

fn client(site: &Site) -> Client {
    let address = Address::new(&site.url).expect("the server's address is one");
    address.sign_in(SLUG.to_owned(), SecretText::from(site.token.expose()))
}

fn account(vault: Uuid) -> CreateItem {
    let field = Field { name: "Password".into(), kind: FieldKind::Password, value: "tide-and-lamp".into() };
    CreateItem { vault_id: Some(vault), fields: vec![field], ..CreateItem::new(ItemType::Account, TITLE.into()) }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

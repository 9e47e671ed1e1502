//! Our log beside the customer's own: the stand-in writes that one as Azure would, and knows nothing of ours.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use strongroom::{
    audit::{Reconciled, Why, read_azure_log, reconcile},
    instance_key::{self, Means},
    store::Store,
};
use strongroom_envelope::{InstanceKey, InstanceKeys, SystemRandom, VaultKey, VaultKeyPlace, wrap_record};
use strongroom_keys::{
    ClientId, ClientSecret, Credential, INTERACTIVE, KeyName, KeyProvider, TenantId, TokenUse, VaultUrl,
    azure::{AzureAccess, AzureConfig, AzureKeys, Cloud},
    check::CheckStatus,
};
use uuid::Uuid;

use crate::{
    azure::AzureWorld,
    world::{on_each_database, runtime, writer},
};

/// A vault made, an item written, and its key unwrapped anew three times.
async fn used(url: Option<&str>) -> AzureWorld {
    let world = AzureWorld::start(url).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    for _ in 0..3 {
        world.app.keyring.purge_all();
        world.password(item).await.expect("revealed");
    }
    world
}

/// The lines of Azure's log, with an entry some minutes before and one as long after: well within them, a receipt that has
/// no entry is missing.
fn azure_log(world: &AzureWorld) -> Vec<Value> {
    let text = world.standin.key_vault_log();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    for shift in [-1, 1] {
        let mut entry =
            lines.iter().find(|entry| entry["operationName"] == "KeyGet").expect("the key was read").clone();
        let at: Timestamp = entry["time"].as_str().expect("a time").parse().expect("a time");
        entry["time"] = (at + SignedDuration::from_mins(8 * shift)).to_string().into();
        lines.push(entry);
    }
    lines
}

fn unwraps(log: &[Value]) -> Vec<usize> {
    let of_ours = |entry: &Value| entry["operationName"] == "KeyUnwrap" && entry["resultType"] == "Success";
    (0..log.len()).filter(|index| of_ours(&log[*index])).collect()
}

async fn compared(world: &AzureWorld, log: &[Value]) -> Reconciled {
    let text: String = log.iter().map(|entry| format!("{entry}\n")).collect();
    let entries = read_azure_log(&text).expect("the stand-in's log is one of Azure's").entries;
    reconcile(&world.app.store, Arc::clone(&world.app.keys), entries).await.expect("both logs can be read")
}

fn findings(report: &Reconciled) -> Vec<(Why, Option<String>)> {
    report.findings.iter().map(|found| (found.why, found.request.map(|id| id.to_string()))).collect()
}

async fn both_logs(url: Option<&str>) {
    let world = used(url).await;
    let log = azure_log(&world);
    let report = compared(&world, &log).await;
    assert_eq!(findings(&report), [], "{report}");
    assert!(report.uses >= 5 && report.ours == report.uses, "{report}");
    assert!(report.receipts >= 3, "{report}");
    let id = |index: usize| Some(log[index]["correlationId"].as_str().expect("an id").to_owned());
    let [.., first, last] = unwraps(&log)[..] else { panic!("it was unwrapped several times") };

    let without: Vec<_> = (0..log.len()).filter(|index| *index != last).map(|index| log[index].clone()).collect();
    assert_eq!(findings(&compared(&world, &without).await), [(Why::NotInAzure, id(last))]);

    let twice = [&log[..], &log[last..=last]].concat();
    assert_eq!(findings(&compared(&world, &twice).await), [(Why::Duplicate, id(last))]);

    // An id of ours, on another key version than it was made for, and by another operation.
    for (from, to) in [("/unwrapkey", "/decrypt"), ("/keys/", "/keys//")] {
        let mut moved = log.clone();
        let asked = moved[last]["properties"]["requestUri"].as_str().expect("a URL").replace(from, to);
        moved[last]["properties"]["requestUri"] = asked.into();
        let found = findings(&compared(&world, &moved).await);
        match to {
            "/decrypt" => assert_eq!(found, [(Why::Foreign, id(last))]),
            _ => assert_eq!(found, [], "an empty part of the path is none"),
        }
    }

    // An id that was ours then, in the log of another day.
    let mut replayed = log.clone();
    let at: Timestamp = replayed[last]["time"].as_str().expect("a time").parse().expect("a time");
    replayed[last]["time"] = (at + SignedDuration::from_mins(30)).to_string().into();
    assert_eq!(findings(&compared(&world, &replayed).await), [(Why::Late, id(last))]);

    // However the thief spells it, it is this instance's key.
    for (from, to) in [("/keys/", "/%6Beys/"), (".vault.azure.net", ".vaultcore.azure.net")] {
        let mut spelled = log.clone();
        let asked = spelled[last]["properties"]["requestUri"].as_str().expect("a URL").replace(from, to);
        spelled[last]["properties"]["requestUri"] = asked.into();
        spelled[last]["correlationId"] = Uuid::new_v4().to_string().into();
        let found: Vec<_> = findings(&compared(&world, &spelled).await).into_iter().map(|found| found.0).collect();
        assert_eq!(found, [Why::Foreign, Why::NotInAzure], "{to}");
    }

    let mut hidden = log.clone();
    let properties = hidden[last]["properties"].as_object_mut().expect("properties");
    properties.retain(|name, _| name == "httpStatusCode");
    assert_eq!(findings(&compared(&world, &hidden).await), [(Why::Unplaced, id(last))]);

    let mut planted = log.clone();
    let mut entry = log[first].clone();
    let random = Uuid::new_v4().to_string();
    entry["correlationId"] = random.as_str().into();
    planted.push(entry);
    assert_eq!(findings(&compared(&world, &planted).await), [(Why::Foreign, Some(random))]);
}

#[test]
fn what_only_one_of_the_two_logs_knows_is_named() {
    on_each_database(|database| runtime().block_on(both_logs(Some(&database.url()))));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_uses_the_key_with_our_own_credential_is_named() {
    let world = used(None).await;
    let proxy = Some(world.standin.proxy_url().parse().expect("a URL"));
    let config =
        AzureConfig { proxy, ca_pem: Some(world.standin.ca_pem().as_bytes().to_vec()), ..AzureConfig::default() };
    let values = &world.values;
    let access = AzureAccess {
        tenant: TenantId::parse(&values.tenant_id).expect("a tenant"),
        client: ClientId::parse(&values.client_id).expect("a client"),
        credential: Credential::Secret(ClientSecret::parse(values.client_secret.expose()).expect("a secret")),
        vault_url: VaultUrl::parse(&values.vault_url, Cloud::Public).expect("a Key Vault"),
        key_name: KeyName::parse(&values.vault_key_name).expect("a key"),
    };
    let thief = AzureKeys::new(&config).expect("a configuration").provider(access);
    let key = VaultKey::generate(&SystemRandom::new()).expect("randomness");
    let place = VaultKeyPlace { workspace: [1; 16], vault: [2; 16], generation: 1 };
    thief.wrap_key(&wrap_record(&place, &key), INTERACTIVE).await.expect("Azure lets them");
    let report = compared(&world, &azure_log(&world)).await;
    assert_eq!(report.findings.len(), 1, "{report}");
    let found = &report.findings[0];
    assert_eq!((found.why, found.operation.as_str()), (Why::Foreign, "KeyWrap"));
    assert_eq!(found.application.as_deref(), Some(values.client_id.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_the_log_did_not_announce_is_named_though_the_instance_key_made_it() {
    let world = used(None).await;
    let log = azure_log(&world);
    let taken = "DELETE FROM audit_events WHERE action = 'key.intent' AND sequence = \
                 (SELECT MAX(sequence) FROM audit_events WHERE action = 'key.intent')";
    let taken = world.app.store.write(move |tx| tx.execute(taken, &[])).await.expect("the database lets it happen");
    assert_eq!(taken, 1);
    let report = compared(&world, &log).await;
    assert_eq!(report.findings.iter().map(|found| found.why).collect::<Vec<_>>(), [Why::Unannounced], "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn uses_under_an_instance_key_that_was_retired_are_not_called_foreign() {
    let world = used(None).await;
    let log = azure_log(&world);
    let old = std::fs::read_to_string(world.database_file().with_file_name("instance.key")).expect("the key file");
    let new = InstanceKey::generate(&SystemRandom::new()).expect("randomness").to_key_file();
    let keys = |text: &str| Arc::new(InstanceKeys::parse_key_file(text).expect("a key file"));
    let (both, alone) = (keys(&format!("{}{old}", *new)), keys(&new));
    let url = format!("sqlite:{}", world.database_file().display());
    let store = Store::open_beside(&url, writer(Arc::clone(&both), world.app.node)).expect("it opens");
    let means = Means { keys: Arc::clone(&both), random: Arc::new(SystemRandom::new()), now: Timestamp::now() };
    assert!(instance_key::rotate(&store, &means, &mut |_| {}).await.expect("rotated") > 0);

    let text: String = log.iter().map(|entry| format!("{entry}\n")).collect();
    let entries = || read_azure_log(&text).expect("the stand-in's log is one of Azure's").entries;
    let report = reconcile(&store, both, entries()).await.expect("both logs can be read");
    assert_eq!(findings(&report), [], "{report}");
    let report = reconcile(&store, alone, entries()).await.expect("both logs can be read");
    assert!(report.findings.len() >= 5, "{report}");
    assert!(report.findings.iter().all(|found| found.why == Why::KeyNotLoaded), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn canaries_are_announced_once_and_known_all_the_same() {
    let world = AzureWorld::start(None).await;
    world.account("Mail", "tide-and-lamp").await;
    let before = world.events("key.intent").await;
    for _ in 0..4 {
        world.app.keyring.canary_round(TokenUse::Cached).await.expect("asked");
    }
    assert!(world.events("key.intent").await <= before + 1, "one intent for all of them");
    let report = compared(&world, &azure_log(&world)).await;
    assert_eq!(findings(&report), [], "{report}");
    assert!(report.ours >= 4, "{report}");
}

/// Switches what is said of one Key Vault over to another.
fn of_another_key_vault(log: &[Value]) -> Vec<Value> {
    let text = Value::from(log).to_string().replace("//customer-keys.", "//others-keys.");
    serde_json::from_str::<Vec<Value>>(&text).expect("still JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_tells_nothing_of_our_key_vault_is_no_agreement() {
    let world = used(None).await;
    let log = azure_log(&world);
    let other = of_another_key_vault(&log);
    for nothing in [&[][..], &other[..]] {
        let text: String = nothing.iter().map(|entry| format!("{entry}\n")).collect();
        let entries = read_azure_log(&text).expect("a log").entries;
        let refused = reconcile(&world.app.store, Arc::clone(&world.app.keys), entries).await;
        let refused = refused.expect_err("there is nothing to compare").to_string();
        assert!(refused.contains("customer-keys.vault.azure.net"), "{refused}");
    }
    // Diagnostics switched off for our Key Vault while another's go on, for hours.
    let at: Timestamp = log[0]["time"].as_str().expect("a time").parse().expect("a time");
    let mut goes_on = other[0].clone();
    goes_on["time"] = (at + SignedDuration::from_hours(3)).to_string().into();
    let mut first = log[0].clone();
    first["time"] = (at - SignedDuration::from_hours(1)).to_string().into();
    let report = compared(&world, &[first, goes_on]).await;
    assert_eq!(findings(&report), [(Why::Silent, None)], "{report}");
    assert!(report.to_string().contains("customer-keys.vault.azure.net: Azure's log shows nothing"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_finds_a_wider_role_is_our_own_use_of_the_key() {
    let world = used(None).await;
    world.assign_crypto_user().await;
    world.change_key(json!({"key_ops": ["wrapKey", "unwrapKey", "sign"]})).await;
    let lines = world.app.check_vault(&world.owner, world.vault, &|_| ()).await.expect("checked");
    let role = lines.iter().find(|line| line.code == "rights.role").expect("the role is checked");
    assert_eq!(role.status, CheckStatus::Warn, "{role:?}");
    let log = azure_log(&world);
    let signed = |entry: &Value| entry["operationName"] == "KeySign" && entry["resultType"] == "Success";
    assert!(log.iter().any(signed));
    let report = compared(&world, &log).await;
    assert_eq!(findings(&report), [], "{report}");
}

/// Holds the database's one writer off until it is dropped.
fn held(world: &AzureWorld) -> rusqlite::Connection {
    let other = rusqlite::Connection::open(world.database_file()).expect("the same file");
    other.execute_batch("BEGIN IMMEDIATE").expect("nobody writes");
    other
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_is_named_as_the_cause_and_stops_no_canary() {
    let world = used(None).await;
    world.app.keyring.canary_round(TokenUse::Cached).await.expect("asked");
    let before = (world.unwraps(), world.events("key.intent").await);
    let held = held(&world);
    world.app.keyring.purge_all();
    let refused = world.app.keyring.lease(world.vault, 1).await.err().expect("it cannot be announced");
    assert_eq!(refused.code(), "log.not_announced", "{refused}");
    assert_eq!(world.unwraps(), before.0, "what is not announced is not sent");
    drop(held);
    world.clock.advance(Duration::from_secs(2));
    world.app.keyring.lease(world.vault, 1).await.expect("announced again");

    // A range that is announced slowly is there for the next canary, though the first gave up.
    world.clock.advance(Duration::from_secs(61 * 60));
    let announced = world.events("key.intent").await;
    let slow = self::held(&world);
    let _ = world.app.keyring.canary_round(TokenUse::Cached).await;
    assert_eq!(world.events("key.intent").await, announced);
    drop(slow);
    let end = Instant::now() + Duration::from_secs(20);
    while world.events("key.intent").await == announced {
        assert!(Instant::now() < end, "the range was never announced");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let announced = world.events("key.intent").await;
    world.app.keyring.canary_round(TokenUse::Cached).await.expect("asked");
    assert_eq!(world.events("key.intent").await, announced, "out of the range that took so long");
}

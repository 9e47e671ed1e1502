//! Our log beside the customer's own: the stand-in writes that one as Azure would, and knows nothing of ours.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use strongroom::audit::{Reconciled, Why, read_azure_log, reconcile};
use strongroom_envelope::{SystemRandom, VaultKey, VaultKeyPlace, wrap_record};
use strongroom_keys::{
    ClientId, ClientSecret, Credential, INTERACTIVE, KeyName, KeyProvider, TenantId, TokenUse, VaultUrl,
    azure::{AzureAccess, AzureConfig, AzureKeys, Cloud},
};
use uuid::Uuid;

use crate::{
    azure::AzureWorld,
    world::{on_each_database, runtime},
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

/// The lines of Azure's log, with an entry an hour before and one an hour after: well within them, a receipt that has
/// no entry is missing.
fn azure_log(world: &AzureWorld) -> Vec<Value> {
    let text = world.standin.key_vault_log();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    for shift in [-1, 1] {
        let mut entry =
            lines.iter().find(|entry| entry["operationName"] == "KeyGet").expect("the key was read").clone();
        let at: Timestamp = entry["time"].as_str().expect("a time").parse().expect("a time");
        entry["time"] = (at + SignedDuration::from_hours(shift)).to_string().into();
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
    let entries = read_azure_log(&text).expect("the stand-in's log is one of Azure's");
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

//! The key is withdrawn and restored: what bites, how fast, and what is left untouched.

use std::{sync::Arc, time::Duration};

use azure_standin::{Effect, Fault, Match};
use strongroom::{
    error::{Error, KeyUnavailable, Unavailable},
    item::{Filter, Patch},
};
use strongroom_keys::TokenUse;

use crate::azure::{AzureWorld, account};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_cold_readers_cause_exactly_one_unwrap() {
    let world = Arc::new(AzureWorld::start(None).await);
    let item = world.account("Mail", "tide-and-lamp").await;
    world.app.keyring.purge_all();
    let before = world.unwraps();
    let readers: Vec<_> = (0..1000)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.password(item).await })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.await.expect("no panic").expect("revealed"), "tide-and-lamp");
    }
    assert_eq!(world.unwraps() - before, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_key_turns_the_vault_dark_and_an_enabled_one_brings_all_back() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    world.enable_key(false).await;
    round(&world).await;
    let why = unavailable(world.password(item).await);
    assert_eq!((why.code.as_str(), why.class), ("key.disabled", Unavailable::Dark));
    assert!(why.fix.contains("az keyvault key set-attributes --vault-name customer-keys"), "{}", why.fix);
    assert!(why.azure_request_id.is_some());
    let found = world.app.find_items(&world.owner, Filter { limit: 50, ..Filter::default() }).await.expect("a list");
    assert_eq!((found.items.len(), found.dark.len(), found.dark[0].count), (0, 1, 1));
    world.enable_key(true).await;
    round(&world).await;
    assert_eq!(world.password(item).await.expect("revealed"), "tide-and-lamp");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_dark_nothing_is_written_and_azure_is_not_asked_by_readers() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    world.enable_key(false).await;
    round(&world).await;
    let before = world.unwraps();
    let app = &world.app;
    unavailable(app.create_item(&world.owner, Some(world.vault), account("Two", "x")).await.map(|_| ()));
    unavailable(app.edit_item(&world.owner, item, 1, Patch::default()).await.map(|_| ()));
    unavailable(app.trash_item(&world.owner, item, None).await);
    unavailable(app.item_history(&world.owner, item).await.map(|_| ()));
    unavailable(world.password(item).await);
    assert_eq!(world.unwraps(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_lets_a_lease_run_to_its_end_and_no_further() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    world.standin.set_fault(fault("unwrapkey", 503));
    round(&world).await;
    world.clock.advance(Duration::from_secs(200));
    assert!(world.password(item).await.is_ok());
    world.clock.advance(Duration::from_secs(101));
    let why = unavailable(world.password(item).await);
    assert_eq!(why.class, Unavailable::Outage);
    world.standin.clear_faults();
    world.clock.advance(Duration::from_secs(2));
    assert!(world.password(item).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_jumps_back_ends_every_lease() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    let before = world.unwraps();
    assert!(world.password(item).await.is_ok());
    assert_eq!(world.unwraps(), before);
    let an_hour_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
    world.clock.jump_to(an_hour_ago);
    assert!(world.password(item).await.is_ok());
    assert_eq!(world.unwraps(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_refused_once_is_no_denial_but_twice_five_seconds_apart_is() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    refuse_credential(&world);
    world.app.keyring.canary_round(TokenUse::Fresh).await.expect("a round");
    assert!(world.password(item).await.is_ok(), "one refusal may be a passing fault of the directory");
    world.clock.advance(Duration::from_secs(5));
    world.app.keyring.canary_round(TokenUse::Fresh).await.expect("a round");
    let why = unavailable(world.password(item).await);
    assert_eq!((why.code.as_str(), why.class), ("credential.refused", Unavailable::Dark));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_credential_is_noticed_although_the_last_token_still_works() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    refuse_credential(&world);
    // One canary signs in anew; those after it would find the old token good.
    world.app.keyring.canary_round(TokenUse::Fresh).await.expect("a round");
    round(&world).await;
    assert_eq!(unavailable(world.password(item).await).code, "credential.refused");
    round(&world).await;
    assert_eq!(unavailable(world.password(item).await).code, "credential.refused", "a cached token clears nothing");
    world.standin.clear_faults();
    round(&world).await;
    assert!(world.password(item).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_fail_their_proof_do_not_blind_the_canary() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    let vault = world.vault;
    let spoil = move |tx: &mut strongroom::store::Tx<'_>| {
        tx.execute("UPDATE wraps SET algorithm = 'none' WHERE vault_id = $1", &[vault.0.into()])
    };
    world.app.store.write(spoil).await.expect("the database writer has their way");
    world.enable_key(false).await;
    round(&world).await;
    assert_eq!(unavailable(world.password(item).await).code, "key.disabled");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_s_outage_does_not_lift_another_node_s_denial() {
    let world = AzureWorld::start(None).await;
    world.enable_key(false).await;
    round(&world).await;
    world.standin.set_fault(fault("unwrapkey", 503));
    round(&world).await;
    let vault = world.vault;
    let status = world.app.store.read(move |tx| {
        let sql = "SELECT status FROM key_states WHERE vault_id = $1";
        tx.first(sql, &[vault.0.into()], |row| row.get::<String>(0))
    });
    assert_eq!(status.await.expect("read").as_deref(), Some("dark"));
    assert!(world.app.keyring.dark(vault).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_that_another_node_wrote_turns_this_one_dark_too() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    let vault = world.vault;
    let now = jiff::Timestamp::now();
    world
        .app
        .store
        .write(move |tx| {
            tx.execute(
                "INSERT INTO key_states (vault_id, status, code, detail, node, since, changed_at) \
                 VALUES ($1, 'dark', 'key.disabled', '', $1, $2, $2)",
                &[vault.0.into(), now.into()],
            )
        })
        .await
        .expect("written");
    world.app.keyring.read_marks().await.expect("read");
    assert_eq!(unavailable(world.password(item).await).code, "key.disabled");
}

/// Lets a canary's pause pass and runs one round.
async fn round(world: &AzureWorld) {
    world.clock.advance(Duration::from_secs(5));
    world.app.keyring.canary_round(TokenUse::Cached).await.expect("a round of canaries");
}

/// Entra refuses the client secret from now on; tokens that it gave before go on.
fn refuse_credential(world: &AzureWorld) {
    let body = serde_json::json!({"error": "invalid_client", "error_codes": [7000215],
        "error_description": "AADSTS7000215: Invalid client secret provided."});
    world.standin.set_fault(Fault {
        matching: Match { operation: Some("token".into()), ..Match::default() },
        effect: Effect { status: Some(401), body: Some(body), ..Effect::default() },
        ..Fault::default()
    });
}

fn unavailable<T>(result: strongroom::error::Result<T>) -> KeyUnavailable {
    match result {
        Err(Error::KeyUnavailable(why)) => *why,
        Err(other) => panic!("refused for another reason: {other}"),
        Ok(_) => panic!("served"),
    }
}

fn fault(operation: &str, status: u16) -> Fault {
    Fault {
        matching: Match { operation: Some(operation.into()), ..Match::default() },
        effect: Effect { status: Some(status), ..Effect::default() },
        ..Fault::default()
    }
}

//! Many vaults under one key, several nodes, several key versions, clocks that jump: what the keyring makes of it.

use std::{sync::Arc, time::Duration};

use azure_standin::{Effect, Fault, Match};
use futures_util::{StreamExt, future, stream};
use jiff::SignedDuration;
use strongroom::{
    azure_setup,
    error::{Error, KeyUnavailable, Unavailable},
    id::{ProviderId, VaultId},
    keyring::{HeldCredential, KeyRecord, Policy, ProviderRow, Strategy, VaultState, connect, wrap_mac},
};
use strongroom_envelope::{VaultKey, VaultKeyPlace, seal, wrap_record};
use strongroom_keys::{INTERACTIVE, TokenUse};

use crate::{
    azure::{AzureWorld, account},
    world::{on_each_database, on_postgres, runtime},
};

#[test]
fn a_hundred_vaults_under_one_key_cost_one_canary_and_a_denial_is_everyone_s() {
    on_each_database(|database| {
        runtime().block_on(async {
            let world = AzureWorld::start(Some(&database.url())).await;
            let vaults = more_vaults(&world, 100).await;
            let before = world.unwraps();
            round(&world).await;
            assert_eq!(world.unwraps() - before, 1);
            world.enable_key(false).await;
            round(&world).await;
            assert_eq!(world.unwraps() - before, 2);
            assert_eq!((dark(&world, &vaults), written_dark(&world).await), (100, 100));
            let item = world.app.create_item(&world.owner, Some(vaults[57]), account("Mail", "x")).await;
            assert_eq!(unavailable(item.map(drop)).code, "key.disabled");
            world.enable_key(true).await;
            round(&world).await;
            assert_eq!((dark(&world, &vaults), written_dark(&world).await), (0, 0));
            assert_eq!(world.unwraps() - before, 4, "two successes clear the denial of all");
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_cold_vaults_are_all_served_at_once_within_azure_s_limit() {
    let world = Arc::new(AzureWorld::start_limited().await);
    let vaults = more_vaults(&world, 100).await;
    round(&world).await;
    let readers: Vec<_> = vaults
        .into_iter()
        .map(|vault| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.app.keyring.lease(vault, 1).await.map(drop) })
        })
        .collect();
    for reader in readers {
        reader.await.expect("no panic").expect("served within its deadline");
    }
    assert_eq!(world.app.keyring.leases(), 100);
    let throttled: u64 = world.standin.stats().operations.values().filter_map(|by| by.get(&429)).sum();
    assert_eq!(throttled, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn cold_vaults_beyond_azure_s_limit_are_told_of_the_limit_and_not_of_the_network() {
    let world = AzureWorld::start(None).await;
    // What making it asked of the Key Vault counts too; eight at a time, so that a slow machine keeps up.
    let mut vaults = more_vaults(&world, 460).await;
    let beyond = vaults.split_off(400);
    let lease = |vault| world.app.keyring.lease(vault, 1);
    let served: Vec<_> = stream::iter(vaults).map(lease).buffer_unordered(8).collect().await;
    assert!(served.iter().all(Result::is_ok), "within the limit");
    let answers = future::join_all(beyond.into_iter().map(lease)).await;
    let refused: Vec<_> = answers.into_iter().filter(Result::is_err).map(unavailable).collect();
    assert!(!refused.is_empty(), "more than Azure allows in ten seconds");
    for why in refused {
        assert_eq!(why.code, "azure.throttled", "{}", why.detail);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_that_no_canary_renews_are_renewed_before_they_end() {
    let world = AzureWorld::start(None).await;
    let vaults = more_vaults(&world, 3).await;
    for vault in &vaults {
        world.app.keyring.lease(*vault, 1).await.expect("a lease");
    }
    world.clock.advance(Duration::from_secs(205));
    let before = world.unwraps();
    world.app.keyring.renew_leases().await.expect("renewed");
    world.app.keyring.renew_leases().await.expect("nothing is due");
    assert_eq!(world.unwraps() - before, 3);
    world.clock.advance(Duration::from_secs(200));
    assert_eq!(world.app.keyring.leases(), 3);
    world.app.keyring.renew_leases().await.expect("unused ones lapse");
    world.clock.advance(Duration::from_secs(101));
    assert_eq!((world.app.keyring.leases(), world.unwraps() - before), (0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_outlasts_its_lease_is_refused_only_if_the_key_is() {
    let world = AzureWorld::start(None).await;
    let keyring = &world.app.keyring;
    let lease = keyring.lease(world.vault, 1).await.expect("a lease");
    let before = world.unwraps();
    world.clock.advance(Duration::from_secs(301));
    assert!(keyring.still_leased(&lease).is_err());
    keyring.leased_still_or_anew(&lease).await.expect("the key is asked again");
    keyring.leased_still_or_anew(&lease).await.expect("and not each time");
    assert_eq!(world.unwraps() - before, 1);
    let purged = keyring.lease(world.vault, 1).await.expect("the new one");
    keyring.purge_all();
    assert!(keyring.leased_still_or_anew(&purged).await.is_err());
    world.enable_key(false).await;
    let why = unavailable(keyring.leased_still_or_anew(&lease).await);
    assert_eq!((why.class, why.code.as_str()), (Unavailable::Dark, "key.disabled"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_answer_troubles_only_the_vault_that_was_asked_for() {
    let world = AzureWorld::start(None).await;
    let vaults = more_vaults(&world, 3).await;
    let matching = Match { operation: Some("unwrapkey".into()), ..Match::default() };
    let effect = Effect { wrong_kid: true, ..Effect::default() };
    world.standin.set_fault(Fault { matching, effect, times: Some(1), ..Fault::default() });
    round(&world).await;
    assert_eq!(statuses(&world, "fault").await, 1);
    assert_eq!(dark(&world, &vaults), 0);
    round(&world).await;
    assert_eq!(statuses(&world, "fault").await, 0, "what the next one answers counts for all");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_outage_is_the_asked_vault_s_and_two_in_a_row_are_everyone_s() {
    let world = AzureWorld::start(None).await;
    more_vaults(&world, 3).await;
    world.standin.set_fault(status("unwrapkey", 503));
    round(&world).await;
    assert_eq!(statuses(&world, "outage").await, 1);
    round(&world).await;
    assert_eq!(statuses(&world, "outage").await, 3);
    world.standin.clear_faults();
    round(&world).await;
    assert_eq!(statuses(&world, "outage").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_that_another_process_wrote_is_over_at_the_key_s_next_answer() {
    let world = AzureWorld::start(None).await;
    let gone = world.kid.replace(&world.kid[world.kid.len() - 32..], "0123456789abcdef0123456789abcdef");
    for (status, kid) in [("outage", world.kid.clone()), ("fault", world.kid.clone()), ("outage", gone)] {
        let restored = world.events("key.restored").await;
        let vault = world.vault;
        let write = move |tx: &mut strongroom::store::Tx<'_>| {
            tx.execute("DELETE FROM key_states", &[])?;
            tx.execute(
                "INSERT INTO key_states (vault_id, status, code, detail, kid, node, since, changed_at) \
                 VALUES ($1, $2, 'azure.timeout', '', $3, $1, 0, 0)",
                &[vault.0.into(), status.into(), (&kid).into()],
            )
        };
        world.app.store.write(write).await.expect("a process that is gone wrote it");
        world.app.keyring.read_marks().await.expect("read");
        round(&world).await;
        assert_eq!(statuses(&world, status).await, 0);
        round(&world).await;
        assert_eq!(world.events("key.restored").await - restored, 1, "told once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_version_that_data_keys_need_has_a_canary() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    let newest = new_key_version(&world).await;
    // The job that would bring the data keys over does not run here: both generations are in use.
    world.app.rotate(&world.owner, world.vault, false).await.expect("a second generation");
    assert_eq!(world.password(item).await.expect("readable"), "tide-and-lamp");
    for kid in [world.kid.clone(), newest] {
        enable(&world, &kid, false).await;
        round(&world).await;
        assert_eq!(unavailable(world.password(item).await).code, "key.disabled", "{kid}");
        round(&world).await;
        assert!(world.app.keyring.dark(world.vault).is_some(), "the other key version clears nothing: {kid}");
        enable(&world, &kid, true).await;
        round(&world).await;
        assert_eq!(world.password(item).await.expect("back"), "tide-and-lamp");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_key_version_of_an_unused_generation_keeps_the_vault_dark_without_flapping_until_it_is_retired() {
    let world = AzureWorld::start(None).await;
    new_key_version(&world).await;
    world.app.rotate(&world.owner, world.vault, false).await.expect("nothing is under the first generation");
    let item = world.account("Mail", "tide-and-lamp").await;
    enable(&world, &world.kid, false).await;
    for _ in 0..5 {
        round(&world).await;
        assert_eq!(unavailable(world.password(item).await).code, "key.disabled");
    }
    assert_eq!((told(&world, "key.denied").await, told(&world, "key.restored").await), (1, 0));
    world.app.retire_generation(&world.owner, world.vault, 1).await.expect("nothing is under it");
    round(&world).await;
    assert_eq!(world.password(item).await.expect("nothing needs that key version now"), "tide-and-lamp");
    assert_eq!((told(&world, "key.denied").await, told(&world, "key.restored").await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_one_generation_is_told_once_while_the_other_answers_well() {
    let world = AzureWorld::start(None).await;
    new_key_version(&world).await;
    world.app.rotate(&world.owner, world.vault, false).await.expect("a second generation");
    let matching = Match { operation: Some("unwrapkey".into()), kid: Some(world.kid.clone()), ..Match::default() };
    let effect = Effect { wrong_kid: true, ..Effect::default() };
    world.standin.set_fault(Fault { matching, effect, ..Fault::default() });
    for _ in 0..5 {
        round(&world).await;
        assert_eq!(statuses(&world, "fault").await, 1);
    }
    assert_eq!((told(&world, "key.fault").await, told(&world, "key.restored").await), (1, 0));
    world.standin.clear_faults();
    round(&world).await;
    assert_eq!((statuses(&world, "fault").await, told(&world, "key.restored").await), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newest_key_version_that_is_off_does_not_matter_to_what_an_older_one_wraps() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    let newest = new_key_version(&world).await;
    enable(&world, &newest, false).await;
    round(&world).await;
    world.app.keyring.purge_all();
    assert_eq!(world.password(item).await.expect("reads go on"), "tide-and-lamp");
    look(&world).await;
    let watch = world.app.key_health(&world.owner, world.vault).await.expect("known").watch.expect("looked at");
    assert_eq!((watch.newest, watch.enabled), (Some(newest), Some(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unwrap_that_began_before_a_denial_gives_no_lease_although_it_succeeds_after_it() {
    let world = Arc::new(AzureWorld::start(None).await);
    let item = world.account("Mail", "tide-and-lamp").await;
    world.app.keyring.purge_all();
    let matching = Match { operation: Some("unwrapkey".into()), ..Match::default() };
    let effect = Effect { delay_ms: Some(2500), ..Effect::default() };
    let before = world.unwraps();
    world.standin.set_fault(Fault { matching, effect, times: Some(1), ..Fault::default() });
    let reader = {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.password(item).await })
    };
    // The reader's request is on its way once the order for the delay is used up: its event comes first of all.
    tokio::time::sleep(Duration::from_millis(700)).await;
    world.enable_key(false).await;
    round(&world).await;
    assert!(world.app.keyring.dark(world.vault).is_some());
    world.enable_key(true).await;
    let why = unavailable(reader.await.expect("no panic"));
    assert_eq!((why.class, why.code.as_str()), (Unavailable::Dark, "key.disabled"));
    assert_eq!(world.unwraps() - before, 2, "the reader's own was answered");
    assert_eq!(world.app.keyring.leases(), 0);
    round(&world).await;
    assert_eq!(world.password(item).await.expect("back"), "tide-and-lamp");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_forward_and_a_machine_that_slept_end_leases_and_lose_nothing() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    let before = world.unwraps();
    world.clock.jump_to(jiff::Timestamp::now() + SignedDuration::from_hours(2));
    assert!(world.password(item).await.is_ok());
    assert_eq!(world.unwraps() - before, 1, "set forward");
    world.clock.advance(Duration::from_secs(8 * 3600));
    assert_eq!(world.app.keyring.leases(), 0, "slept");
    world.enable_key(false).await;
    let why = unavailable(world.password(item).await);
    assert_eq!(why.code, "key.disabled", "what was withdrawn meanwhile is not served");
    world.enable_key(true).await;
    world.clock.jump_to(jiff::Timestamp::now() - SignedDuration::from_hours(1));
    round(&world).await;
    assert!(world.password(item).await.is_ok(), "set back");
}

#[test]
fn a_denial_that_one_node_meets_darkens_the_other_at_its_next_look() {
    on_postgres(|database| {
        runtime().block_on(async {
            let world = AzureWorld::start(Some(&database.url())).await;
            let item = world.account("Mail", "tide-and-lamp").await;
            let other = world.another_node(&database.url()).await;
            let reveal = async || other.reveal_item(&world.owner, item, None).await.map(drop);
            reveal().await.expect("the other node reads too");
            world.enable_key(false).await;
            round(&world).await;
            let unwraps = world.unwraps();
            other.keyring.read_marks().await.expect("the look of each second");
            assert_eq!(unavailable(reveal().await).code, "key.disabled");
            assert_eq!(world.unwraps(), unwraps, "it asked nobody");
            world.enable_key(true).await;
            round(&world).await;
            world.clock.advance(Duration::from_secs(1));
            other.keyring.read_marks().await.expect("the next look");
            reveal().await.expect("back");
        });
    });
}

#[test]
fn a_vault_that_is_disabled_gives_no_lease_on_any_node_and_has_no_canary() {
    on_postgres(|database| {
        runtime().block_on(async {
            let world = AzureWorld::start(Some(&database.url())).await;
            let item = world.account("Mail", "tide-and-lamp").await;
            let other = world.another_node(&database.url()).await;
            let reveal = async || other.reveal_item(&world.owner, item, None).await.map(drop);
            reveal().await.expect("the other node reads too");
            set_state(&world, VaultState::Disabled).await;
            world.app.keyring.read_marks().await.expect("a look");
            other.keyring.read_marks().await.expect("a look");
            let why = unavailable(world.password(item).await);
            assert_eq!((why.class, why.code.as_str()), (Unavailable::Disabled, "vault.disabled"));
            assert_eq!(unavailable(reveal().await).code, "vault.disabled");
            assert_eq!((world.app.keyring.leases(), other.keyring.leases()), (0, 0));
            let unwraps = world.unwraps();
            round(&world).await;
            assert_eq!(world.unwraps(), unwraps);
            set_state(&world, VaultState::Active).await;
            other.keyring.read_marks().await.expect("a look");
            reveal().await.expect("enabled again");
        });
    });
}

#[test]
fn the_watch_asks_once_for_all_vaults_under_a_key_and_tells_of_a_new_key_version_once() {
    on_each_database(|database| {
        runtime().block_on(async {
            let world = AzureWorld::start(Some(&database.url())).await;
            more_vaults(&world, 5).await;
            let gets = || world.standin.stats().operations("get");
            let before = gets();
            look(&world).await;
            assert_eq!(gets() - before, 1);
            world.app.keyring.look_round().await.expect("a look too soon");
            assert_eq!((gets() - before, events(&world).await), (1, 0));
            let newest = new_key_version(&world).await;
            look(&world).await;
            look(&world).await;
            assert_eq!(events(&world).await, 5);
            let health = world.app.key_health(&world.owner, world.vault).await.expect("known");
            let watch = health.watch.expect("looked at");
            assert_eq!((watch.newest.as_deref(), watch.bits), (Some(newest.as_str()), Some(4096)));
            assert!(watch.is_newer_than(&world.kid) && watch.error.is_none());
            world.standin.set_fault(status("get", 503));
            look(&world).await;
            let watch = world.app.key_health(&world.owner, world.vault).await.expect("known").watch.expect("kept");
            assert_eq!((watch.newest, watch.error.as_deref()), (Some(newest), Some("azure.unavailable")));
            assert!(world.app.keyring.dark(world.vault).is_none(), "a look purges nothing");
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrap_that_a_newer_key_version_answered_makes_the_watch_look_at_once() {
    let world = AzureWorld::start(None).await;
    look(&world).await;
    new_key_version(&world).await;
    world.app.keyring.look_round().await.expect("too soon to look");
    assert_eq!(events(&world).await, 0);
    world.app.rotate(&world.owner, world.vault, false).await.expect("a wrap under the newest key version");
    world.app.keyring.look_round().await.expect("a look");
    assert_eq!(events(&world).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_making_a_vault_asks_of_the_key_vault_counts_against_its_quota() {
    let world = AzureWorld::start(None).await;
    let health = world.app.key_health(&world.owner, world.vault).await.expect("its health");
    let stats = world.standin.stats();
    let asked = stats.operations_on(&world.kid, "wrapkey") + stats.operations_on(&world.kid, "unwrapkey");
    let used = health.quota.expect("of the Key Vault").used;
    assert!(asked >= 2 && u64::from(used) >= asked, "{used} of {asked}");
}

#[test]
fn the_health_of_a_key_tells_its_leases_quota_and_how_it_answered() {
    on_each_database(|database| {
        runtime().block_on(async {
            let world = AzureWorld::start(Some(&database.url())).await;
            world.account("Mail", "tide-and-lamp").await;
            world.app.check_vault(&world.owner, world.vault, &|_| ()).await.expect("checked");
            round(&world).await;
            world.standin.set_fault(status("unwrapkey", 503));
            round(&world).await;
            world.clock.advance(Duration::from_secs(60));
            for _ in 0..2 {
                world.app.keyring.write_samples().await.expect("written");
            }
            let health = world.app.key_health(&world.owner, world.vault).await.expect("known");
            let (ok, failed) =
                health.samples.iter().fold((0, 0), |(ok, failed), one| (ok + one.ok, failed + one.failed));
            assert_eq!((ok, failed), (2, 1), "the reader's, a canary's, and one that failed");
            assert!(health.samples.iter().all(|one| one.latency_ms_max <= one.latency_ms_sum));
            assert_eq!((health.leases.len(), health.leases[0].generation), (1, 1));
            assert!(health.last_success.is_some());
            let quota = health.quota.expect("of the Key Vault");
            assert_eq!((quota.limit, quota.window_seconds, quota.jobs), (500, 10, 0));
            assert!(health.watch.is_some_and(|watch| watch.checked_at.is_some()));
            let guest = world.member("Greta", strongroom::access::Role::Guest).await;
            assert!(matches!(world.app.key_health(&guest, world.vault).await, Err(Error::Denied(_))));
        });
    });
}

/// Lets a canary's pause pass and runs one round.
async fn round(world: &AzureWorld) {
    world.clock.advance(Duration::from_secs(5));
    world.app.keyring.canary_round(TokenUse::Cached).await.expect("a round of canaries");
}

/// Lets the watch's pause pass and looks at the keys.
async fn look(world: &AzureWorld) {
    world.clock.advance(Duration::from_secs(60));
    world.app.keyring.look_round().await.expect("a look");
}

async fn new_key_version(world: &AzureWorld) -> String {
    azure_setup::rotate(&world.administrator, &world.values.vault_url, &world.values.vault_key_name)
        .await
        .expect("rotated")
}

async fn enable(world: &AzureWorld, kid: &str, enabled: bool) {
    let name = kid.split("/keys/").nth(1).expect("a kid");
    azure_setup::set_enabled(&world.administrator, &world.values.vault_url, name, enabled)
        .await
        .expect("the administrator may");
}

fn dark(world: &AzureWorld, vaults: &[VaultId]) -> usize {
    vaults.iter().filter(|vault| world.app.keyring.dark(**vault).is_some()).count()
}

async fn written_dark(world: &AzureWorld) -> u64 {
    statuses(world, "dark").await
}

async fn statuses(world: &AzureWorld, status: &'static str) -> u64 {
    let sql = "SELECT COUNT(*) FROM key_states WHERE status = $1";
    world.app.store.read(move |tx| tx.count(sql, &[status.into()])).await.expect("read")
}

async fn told(world: &AzureWorld, action: &'static str) -> u64 {
    let sql = "SELECT COUNT(*) FROM audit_events WHERE action = $1";
    world.app.store.read(move |tx| tx.count(sql, &[action.into()])).await.expect("read")
}

/// How many vaults were told of a new key version.
async fn events(world: &AzureWorld) -> u64 {
    let sql = "SELECT COUNT(*) FROM audit_events WHERE action = 'key.new_version'";
    world.app.store.read(move |tx| tx.count(sql, &[])).await.expect("read")
}

fn status(operation: &str, status: u16) -> Fault {
    let matching = Match { operation: Some(operation.into()), ..Match::default() };
    Fault { matching, effect: Effect { status: Some(status), ..Effect::default() }, ..Fault::default() }
}

fn unavailable<T>(result: strongroom::error::Result<T>) -> KeyUnavailable {
    match result {
        Err(Error::KeyUnavailable(why)) => *why,
        Err(other) => panic!("refused for another reason: {other}"),
        Ok(_) => panic!("served"),
    }
}

/// Writes another state of the vault, signed, and tells the keyring.
async fn set_state(world: &AzureWorld, state: VaultState) {
    let record = world.app.keyring.provider_row(world.vault, 1).await.expect("its row").0;
    let policy = Policy {
        workspace: record.workspace,
        vault: record.vault,
        strategy: Strategy::AzureExternalKeys,
        state,
        lease_seconds: world.app.settings.lease_seconds,
        generation: 1,
        provider: record.id,
        may_leave: false,
    };
    let mac = policy.mac(&world.app.keys).to_bytes();
    let write = move |tx: &mut strongroom::store::Tx<'_>| {
        let values = [policy.vault.0.into(), policy.state.word().into(), mac.as_slice().into()];
        tx.execute("UPDATE vaults SET state = $2, policy_mac = $3 WHERE id = $1", &values)
    };
    world.app.store.write(write).await.expect("written");
}

/// Vaults like the first one, under the same key and credential, until there are `count`; all of them.
async fn more_vaults(world: &AzureWorld, count: usize) -> Vec<VaultId> {
    let (like, _) = world.app.keyring.provider_row(world.vault, 1).await.expect("its row");
    let mut vaults = vec![world.vault];
    for number in 1..count {
        vaults.push(another_vault(world, &like, number).await);
    }
    vaults
}

/// A vault as making one would leave it, without the checks.
async fn another_vault(world: &AzureWorld, like: &ProviderRow, number: usize) -> VaultId {
    let app = &world.app;
    let (now, random) = (app.clock.now(), app.random.as_ref());
    let new_id = || ProviderId::generate(now, random).expect("random");
    let vault = VaultId::generate(now, random).expect("random");
    let mut row = ProviderRow { id: new_id(), vault, ..like.clone() };
    let credential = new_id().0;
    let text = like.opened(&like.credential, &app.keys).expect("its own");
    let sealed = seal(app.keys.as_ref(), &row.credential_place(credential), text.text().as_bytes(), random);
    row.credential = HeldCredential { id: credential, sealed: sealed.expect("sealed"), ..like.credential.clone() };
    let place = VaultKeyPlace { workspace: row.workspace.bytes(), vault: vault.bytes(), generation: 1 };
    let provider = connect(&row, &app.azure, &app.keys, &app.random).expect("a provider");
    let key = VaultKey::generate(random).expect("random");
    let wrapped = provider.wrap_key(&wrap_record(&place, &key), INTERACTIVE).await.expect("wrapped");
    let policy = Policy {
        workspace: row.workspace,
        vault,
        strategy: Strategy::AzureExternalKeys,
        state: VaultState::Active,
        lease_seconds: app.settings.lease_seconds,
        generation: 1,
        provider: row.id,
        may_leave: false,
    };
    let record = KeyRecord {
        workspace: row.workspace,
        vault,
        vault_name: format!("Azure {number}"),
        generation: 1,
        kid: wrapped.kid,
        algorithm: wrapped.algorithm.into(),
        wrapped: wrapped.bytes,
        policy,
        provider: row,
    };
    let keys = Arc::clone(&app.keys);
    app.store.write(move |tx| insert(tx, &record, &keys, now)).await.expect("written");
    vault
}

fn insert(
    tx: &mut strongroom::store::Tx<'_>,
    record: &KeyRecord,
    keys: &strongroom_envelope::InstanceKeys,
    now: jiff::Timestamp,
) -> strongroom::error::Result<()> {
    let (policy, kid) = (&record.policy, record.kid.to_string());
    tx.execute(
        "INSERT INTO vaults (id, workspace_id, name, name_key, strategy, state, lease_seconds, generation, provider_id, \
                             may_leave, created_at, revision, policy_mac) \
         VALUES ($1, $2, $3, $3, $4, 'active', $5, 1, $6, 0, $7, 1, $8)",
        &[
            record.vault.0.into(),
            record.workspace.0.into(),
            (&record.vault_name).into(),
            policy.strategy.word().into(),
            i64::from(policy.lease_seconds).into(),
            policy.provider.0.into(),
            now.into(),
            policy.mac(keys).to_bytes().as_slice().into(),
        ],
    )?;
    record.provider.insert(tx, keys, now)?;
    tx.execute(
        "INSERT INTO generations (vault_id, generation, kid, created_at) VALUES ($1, 1, $2, $3)",
        &[record.vault.0.into(), (&kid).into(), now.into()],
    )?;
    tx.execute(
        "INSERT INTO wraps (vault_id, generation, kid, provider_id, algorithm, wrapped, created_at, row_mac) \
         VALUES ($1, 1, $2, $3, $4, $5, $6, $7)",
        &[
            record.vault.0.into(),
            (&kid).into(),
            record.provider.id.0.into(),
            (&record.algorithm).into(),
            (&record.wrapped).into(),
            now.into(),
            wrap_mac(keys, record).to_bytes().as_slice().into(),
        ],
    )?;
    Ok(())
}

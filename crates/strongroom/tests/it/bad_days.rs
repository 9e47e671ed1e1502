//! Bad days of the key: it is taken away and given back in the middle of work, in each of the ways that Azure has. What is
//! refused, what goes on, what is back within 15 s.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use azure_standin::{Effect, Fault, Match, Preset};
use serde_json::json;
use strongroom::{
    error::{Error, KeyUnavailable, Unavailable},
    id::ItemId,
    vault::Health,
};
use strongroom_keys::{
    State, TokenUse,
    check::{CheckLine, CheckStatus},
};

use crate::azure::{AzureWorld, account, request};

/// No wait in these tests is longer.
const BOUND: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_in_the_middle_of_a_burst_of_reveals_lets_none_through_after_it() {
    let world = Arc::new(AzureWorld::start(None).await);
    let item = world.account("Mail", "tide-and-lamp").await;
    let (over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let readers: Vec<_> = (0..32)
        .map(|_| {
            let (world, over, served) = (Arc::clone(&world), Arc::clone(&over), Arc::clone(&served));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    match world.password(item).await {
                        Ok(_) => served.fetch_add(1, Ordering::Relaxed),
                        Err(Error::KeyUnavailable(why)) => {
                            assert_eq!(why.state(), State::KeyDisabled);
                            break;
                        }
                        Err(other) => panic!("{other}"),
                    };
                }
            })
        })
        .collect();
    until(|| served.load(Ordering::Relaxed) > 100).await;
    world.enable_key(false).await;
    round(&world, TokenUse::Cached).await;
    let at_denial = served.load(Ordering::Relaxed);
    assert_eq!(state(&world, item).await, State::KeyDisabled);
    for reader in readers {
        tokio::time::timeout(BOUND, reader).await.expect("each reader is refused").expect("for the right reason");
    }
    over.store(true, Ordering::Relaxed);
    let slipped = served.load(Ordering::Relaxed) - at_denial;
    assert!(slipped <= 32, "{slipped} answers left after the denial; at most those on their way may");
    let reveals = "SELECT COUNT(*) FROM audit_events WHERE action = 'item.reveal'";
    let events = world.app.store.read(move |tx| tx.count(reveals, &[])).await.expect("read");
    assert!(events >= served.load(Ordering::Relaxed), "no event, no plaintext");
    world.enable_key(true).await;
    back_within_the_promise(&world, item, TokenUse::Cached).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_key_that_is_recovered_brings_everything_back() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    world.delete_key().await;
    round(&world, TokenUse::Cached).await;
    world.app.keyring.read_marks().await.expect("read");
    let unknown = why(&world, item).await;
    assert_eq!((unknown.state(), unknown.recoverable_until), (State::KeyDeleted, None), "nobody has told the days");
    world.recover_key().await;
    back_within_the_promise(&world, item, TokenUse::Cached).await;

    world.app.keyring.look_round().await.expect("the watch has seen for how many days");
    world.enable_key(false).await;
    round(&world, TokenUse::Cached).await;
    assert_eq!(why(&world, item).await.recoverable_until, None, "a disabled key is there");
    world.clock.advance(Duration::from_secs(30 * 86_400));
    world.enable_key(true).await;
    world.delete_key().await;
    round(&world, TokenUse::Cached).await;
    world.app.keyring.read_marks().await.expect("read");
    let deleted = why(&world, item).await;
    let seen = strongroom::clock::Clock::now(&world.clock);
    let ninety_days = jiff::SignedDuration::from_hours(90 * 24);
    assert_eq!(deleted.state(), State::KeyDeleted);
    let until = deleted.recoverable_until.map(jiff::Timestamp::as_millisecond);
    assert_eq!(until, Some((seen + ninety_days).as_millisecond()));
    assert!(deleted.since < seen, "dark for longer than deleted");
    world.clock.advance(Duration::from_secs(86_400));
    round(&world, TokenUse::Cached).await;
    world.app.keyring.read_marks().await.expect("read");
    assert_eq!(why(&world, item).await.recoverable_until, deleted.recoverable_until, "it does not move on");
    let vault = world.app.vault(&world.owner, world.vault).await.expect("seen");
    assert!(matches!(vault.health, Health::Unavailable(told) if told.recoverable_until == deleted.recoverable_until));
    world.recover_key().await;
    back_within_the_promise(&world, item, TokenUse::Cached).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_vault_recovered_without_its_roles_stays_dark_until_they_are_assigned_again() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    let role = world.remove_role().await;
    world.assign_again(&role).await;
    world.delete_key_vault().await;
    round(&world, TokenUse::Cached).await;
    assert_eq!(world.password(item).await.expect("the lease runs"), "tide-and-lamp");
    world.clock.advance(Duration::from_secs(300));
    assert_eq!(why(&world, item).await.class, Unavailable::Outage, "a vanished host name is no denial");
    world.recover_key_vault().await;
    round(&world, TokenUse::Cached).await;
    assert_eq!(state(&world, item).await, State::AccessRemoved);
    world.assign_again(&role).await;
    back_within_the_promise(&world, item, TokenUse::Cached).await;
    world.become_officer_again().await;
    world.enable_key(false).await;
    round(&world, TokenUse::Cached).await;
    assert_eq!(state(&world, item).await, State::KeyDisabled, "and the kill switch works as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_minutes_of_throttling_are_bounded_by_the_lease_and_deny_nobody() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    // It asks for more patience than a canary has, so that none of them tries again in real time.
    let mut throttled = preset(Preset::Throttled);
    throttled.effect.retry_after = Some(30);
    world.standin.set_fault(throttled);
    let began = world.clock_seconds();
    while world.clock_seconds() - began < 290 {
        round(&world, TokenUse::Cached).await;
        assert!(world.password(item).await.is_ok(), "after {} s", world.clock_seconds() - began);
    }
    while world.clock_seconds() - began < 600 {
        round(&world, TokenUse::Cached).await;
    }
    let refused = why(&world, item).await;
    assert_eq!((refused.state(), refused.class), (State::Throttled, Unavailable::Outage));
    assert!(world.app.keyring.dark(world.vault).is_none(), "nobody was denied anything");
    world.standin.clear_faults();
    back_within_the_promise(&world, item, TokenUse::Cached).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_s_own_refusals_purge_nothing() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    let leases = world.app.keyring.leases();
    let unwraps = world.unwraps();
    let lines = world.app.check_vault(&world.owner, world.vault, &|_| ()).await.expect("checked");
    assert!(lines.iter().any(|line| line.code == "rights.role" && line.status == CheckStatus::Pass), "{lines:?}");
    let forbidden: u64 = world.standin.stats().operations.values().filter_map(|statuses| statuses.get(&403)).sum();
    assert!(forbidden > 0, "the check of the rights is refused on purpose");
    assert_eq!(world.app.keyring.leases(), leases);
    assert!(world.app.keyring.dark(world.vault).is_none());
    let asked = world.unwraps();
    assert!(world.password(item).await.is_ok());
    assert_eq!(
        world.unwraps(),
        asked,
        "the lease from before still serves; {} unwraps were the check's",
        asked - unwraps
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_key_is_read_from_and_written_to_but_makes_no_new_vault() {
    let world = AzureWorld::with_room_for(None, 2).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    world.change_key(json!({"attributes": {"exp": jiff::Timestamp::now().as_second() - 60}})).await;
    world.clock.advance(Duration::from_secs(300));
    round(&world, TokenUse::Cached).await;
    assert_eq!(world.password(item).await.expect("an expired key unwraps"), "tide-and-lamp");
    world.app.create_item(&world.owner, Some(world.vault), account("Two", "x")).await.expect("items go on");
    let refused = world.app.create_vault(&world.owner, request("Another", &world.values)).await;
    let Some(Error::ChecksFailed(lines)) = refused.err() else { panic!("its checks fail") };
    let expired = |line: &&CheckLine| line.code == "key.dates" && line.status == CheckStatus::Fail;
    assert!(lines.iter().any(|line| expired(&line)), "{lines:?}");
    assert!(world.app.keyring.dark(world.vault).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_cannot_be_right_serves_nothing_new_and_ends_no_lease() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    let wrong = Effect { wrong_kid: true, ..Effect::default() };
    let short = Effect {
        status: Some(200),
        body: Some(json!({"kid": world.kid, "value": "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw"})),
        ..Effect::default()
    };
    for effect in [wrong, short] {
        let matching = Match { operation: Some("unwrapkey".into()), ..Match::default() };
        world.standin.set_fault(Fault { matching, effect, ..Fault::default() });
        round(&world, TokenUse::Cached).await;
        assert!(world.password(item).await.is_ok(), "the lease from before goes on");
        world.app.keyring.purge_all();
        world.clock.advance(Duration::from_secs(2));
        let refused = why(&world, item).await;
        assert_eq!((refused.state(), refused.class), (State::WrongAnswer, Unavailable::Fault));
        world.standin.clear_faults();
        back_within_the_promise(&world, item, TokenUse::Cached).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firewall_and_an_expired_secret_have_their_own_words_and_both_end() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    world.standin.set_fault(preset(Preset::Firewall));
    round(&world, TokenUse::Cached).await;
    assert_eq!(state(&world, item).await, State::Blocked);
    world.standin.clear_faults();
    back_within_the_promise(&world, item, TokenUse::Cached).await;

    let body =
        json!({"error": "invalid_client", "error_codes": [7_000_222], "error_description": "AADSTS7000222: expired."});
    world.standin.set_fault(Fault {
        matching: Match { operation: Some("token".into()), ..Match::default() },
        effect: Effect { status: Some(401), body: Some(body), ..Effect::default() },
        ..Fault::default()
    });
    round(&world, TokenUse::Fresh).await;
    round(&world, TokenUse::Fresh).await;
    assert_eq!(state(&world, item).await, State::CredentialExpired);
    world.standin.clear_faults();
    back_within_the_promise(&world, item, TokenUse::Cached).await;
}

impl AzureWorld {
    fn clock_seconds(&self) -> i64 {
        self.app.clock.now().as_second()
    }
}

/// All is back after at most three rounds of canaries, 5 s apart.
async fn back_within_the_promise(world: &AzureWorld, item: ItemId, token: TokenUse) {
    for _ in 0..3 {
        if world.password(item).await.is_ok() {
            break;
        }
        round(world, token).await;
    }
    assert_eq!(world.password(item).await.expect("back within 15 s"), "tide-and-lamp");
}

async fn round(world: &AzureWorld, token: TokenUse) {
    world.clock.advance(Duration::from_secs(5));
    world.app.keyring.canary_round(token).await.expect("a round of canaries");
}

async fn state(world: &AzureWorld, item: ItemId) -> State {
    let refused = why(world, item).await;
    assert_eq!(refused.class, Unavailable::Dark, "{refused:?}");
    refused.state()
}

async fn why(world: &AzureWorld, item: ItemId) -> KeyUnavailable {
    match world.password(item).await {
        Err(Error::KeyUnavailable(why)) => *why,
        Err(other) => panic!("refused for another reason: {other}"),
        Ok(_) => panic!("served"),
    }
}

async fn until(holds: impl Fn() -> bool) {
    let deadline = Instant::now() + BOUND;
    while !holds() {
        assert!(Instant::now() < deadline, "it never came to that");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn preset(preset: Preset) -> Fault {
    let matching = Match { operation: Some("unwrapkey".into()), ..Match::default() };
    Fault { matching, effect: Effect { preset: Some(preset), ..Effect::default() }, ..Fault::default() }
}

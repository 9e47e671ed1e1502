//! Notices: told once to those who manage, and sent on whatever the receiver does.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::hmac;
use axum::{Router, body::Bytes, http::HeaderMap, http::StatusCode, routing::post};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;
use strongroom::{
    access::Role,
    app::Caller,
    error::Error,
    id::{MemberId, NoticeId, WorkspaceId},
    notice::{DeliveryState, Kind, MadeWebhook, Mail, NoticeSettings, words},
    secret_text::SecretText,
    store::{StoreError, Tx},
};
use strongroom_keys::TokenUse;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::{
    azure::{AzureWorld, request},
    world::{World, fresh_keys, on_both_engines, on_each_database, refusal, runtime, wrong_fields},
};

/// A receiver of webhooks on this machine, which answers as it is told and keeps what it got.
#[derive(Clone, Default)]
struct Receiver {
    got: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    /// The next answers; 204 when there are none left.
    answers: Arc<Mutex<VecDeque<u16>>>,
}

impl Receiver {
    /// Listens; returns its address.
    async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/hook", listener.local_addr().expect("its address"));
        let receiver = self.clone();
        let hook = async move |headers: HeaderMap, body: Bytes| {
            receiver.got.lock().expect("no holder panics").push((headers, body));
            let answer = receiver.answers.lock().expect("no holder panics").pop_front().unwrap_or(204);
            StatusCode::from_u16(answer).expect("a status")
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/hook", post(hook))).await });
        url
    }

    fn answer(&self, statuses: impl IntoIterator<Item = u16>) {
        self.answers.lock().expect("no holder panics").extend(statuses);
    }

    fn got(&self) -> Vec<(HeaderMap, Bytes)> {
        self.got.lock().expect("no holder panics").clone()
    }
}

/// Runs `test` on each engine, on an instance with these settings.
fn with_settings<F: Future<Output = ()>>(settings: NoticeSettings, test: impl Fn(Arc<World>) -> F) {
    on_each_database(|database| {
        let mut world = World::begin(database, fresh_keys());
        Arc::get_mut(&mut world.app).expect("nobody else has it").settings.notices = settings.clone();
        runtime().block_on(test(Arc::new(world)));
    });
}

fn loopback() -> NoticeSettings {
    NoticeSettings { allow_loopback: true, ..NoticeSettings::default() }
}

/// A notice as a denial would raise it.
async fn raise(world: &World, owner: &Caller) -> NoticeId {
    let id = NoticeId(Uuid::now_v7());
    let (workspace, now) = (owner.workspace, strongroom::clock::Clock::now(&world.clock));
    let sql = "INSERT INTO notices (id, workspace_id, kind, severity, code, once, created_at, sent_out) \
               VALUES ($1, $2, 'key.unhealthy', 'critical', 'key.disabled', $3, $4, 0)";
    let once = id.to_string();
    let write = world
        .app
        .store
        .write(move |tx| tx.execute(sql, &[id.0.into(), workspace.0.into(), (&once).into(), now.into()]).map(drop));
    write.await.expect("written");
    id
}

async fn hook(world: &World, owner: &Caller, url: &str) -> MadeWebhook {
    world.app.create_webhook(owner, &SecretText::from(url)).await.expect("a webhook")
}

#[test]
fn each_manager_reads_for_themselves_and_nobody_else_is_told() {
    on_both_engines(async |world| {
        let owner = world.set_up().await;
        let admin = world.member(&owner, "Adam", Role::Admin).await;
        let user = world.member(&owner, "Uma", Role::User).await;
        let (first, second) = (raise(&world, &owner).await, raise(&world, &owner).await);
        assert_eq!(world.app.unread_notices(&owner).await.expect("counted"), 2);
        world.app.read_notices(&owner, Some(vec![first])).await.expect("read");
        world.app.read_notices(&owner, Some(vec![first])).await.expect("twice is as good");
        let left = world.app.notices(&owner, true).await.expect("a list");
        assert_eq!(left.iter().map(|notice| notice.id).collect::<Vec<_>>(), [second]);
        assert_eq!(world.app.unread_notices(&admin).await.expect("counted"), 2);
        world.app.read_notices(&admin, None).await.expect("read");
        let seen = world.app.notices(&admin, false).await.expect("a list");
        assert!(seen.len() == 2 && seen.iter().all(|notice| notice.read));
        assert_eq!(world.app.unread_notices(&user).await.expect("nothing for them"), 0);
        assert_eq!(refusal(world.app.notices(&user, false).await), "denied");
        assert_eq!(refusal(world.app.webhooks(&user).await), "denied");
    });
}

#[test]
fn a_webhook_gets_a_signed_notice_once() {
    with_settings(loopback(), async |world| {
        let owner = world.set_up().await;
        let receiver = Receiver::default();
        let made = hook(&world, &owner, &receiver.listen().await).await;
        let notice = raise(&world, &owner).await;
        assert_eq!(world.app.send_notices().await.expect("sent"), 1);
        assert_eq!(world.app.send_notices().await.expect("nothing is left"), 0);
        let got = receiver.got();
        assert_eq!(got.len(), 1);
        let (headers, body) = &got[0];
        let header = |name: &str| headers[name].to_str().expect("text").to_owned();
        assert_eq!(header("webhook-id"), notice.to_string());
        // Verified as a receiver would, from the secret that was shown.
        let key = made.secret.expose().strip_prefix("whsec_").expect("its prefix");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64_STANDARD.decode(key).expect("base64"));
        let signed =
            [header("webhook-id"), header("webhook-timestamp"), String::from_utf8(body.to_vec()).expect("text")];
        let tag = BASE64_STANDARD.decode(&header("webhook-signature")[3..]).expect("base64");
        hmac::verify(&key, signed.join(".").as_bytes(), &tag).expect("a good signature");
        let told: Value = serde_json::from_slice(body).expect("JSON");
        assert_eq!((&told["type"], &told["data"]["code"]), (&"key.unhealthy".into(), &"key.disabled".into()));
        let kept = world.app.deliveries(&owner, made.webhook.id).await.expect("a list");
        assert_eq!(
            (kept[0].state, kept[0].outcome.as_str(), kept[0].attempts),
            (DeliveryState::Delivered, "status 204", 1)
        );
    });
}

#[test]
fn a_receiver_that_fails_is_tried_again_for_a_day_and_no_longer() {
    with_settings(loopback(), async |world| {
        let owner = world.set_up().await;
        let receiver = Receiver::default();
        receiver.answer([500, 302]);
        let made = hook(&world, &owner, &receiver.listen().await).await;
        raise(&world, &owner).await;
        let last = async || world.app.deliveries(&owner, made.webhook.id).await.expect("a list").remove(0);
        world.app.send_notices().await.expect("tried");
        let first = last().await;
        assert_eq!((first.state, first.outcome.as_str()), (DeliveryState::Waiting, "status 500"));
        assert_eq!(world.app.send_notices().await.expect("not due yet"), 0);
        world.clock.advance(Duration::from_secs(5));
        world.app.send_notices().await.expect("tried");
        assert!(last().await.outcome.contains("redirect"), "{}", last().await.outcome);
        world.clock.advance(Duration::from_secs(30));
        world.app.send_notices().await.expect("tried");
        let third = last().await;
        assert_eq!((third.state, third.attempts, third.next_at), (DeliveryState::Delivered, 3, None));

        receiver.answer([503; 20]);
        raise(&world, &owner).await;
        for _ in 0..24 * 60 {
            world.app.send_notices().await.expect("tried");
            if last().await.state == DeliveryState::Failed {
                break;
            }
            world.minutes(5);
        }
        let given_up = last().await;
        assert_eq!((given_up.state, given_up.attempts), (DeliveryState::Failed, 12));
    });
}

#[test]
fn what_is_not_sent_yet_survives_a_restart() {
    on_each_database(|database| {
        let keys = fresh_keys();
        let mut world = World::begin(database, Arc::clone(&keys));
        Arc::get_mut(&mut world.app).expect("alone").settings.notices = loopback();
        let (receiver, runtime) = (Receiver::default(), runtime());
        let owner = runtime.block_on(async {
            let owner = world.set_up().await;
            receiver.answer([500]);
            hook(&world, &owner, &receiver.listen().await).await;
            raise(&world, &owner).await;
            world.app.send_notices().await.expect("tried");
            raise(&world, &owner).await;
            owner
        });
        let mut world = world.restart(keys);
        Arc::get_mut(&mut world.app).expect("alone").settings.notices = loopback();
        runtime.block_on(async {
            world.minutes(1);
            assert_eq!(world.app.send_notices().await.expect("sent"), 2);
            assert_eq!(receiver.got().len(), 3);
            let hooks = world.app.webhooks(&owner).await.expect("a list");
            assert_eq!(hooks[0].last.as_ref().map(|last| last.state), Some(DeliveryState::Delivered));
        });
    });
}

#[test]
fn two_nodes_send_a_notice_once() {
    with_settings(loopback(), async |world| {
        let owner = world.set_up().await;
        let receiver = Receiver::default();
        hook(&world, &owner, &receiver.listen().await).await;
        for _ in 0..10 {
            raise(&world, &owner).await;
        }
        // Two loops over one database, as on two nodes.
        let looks = (0..8).map(|_| world.app.send_notices());
        for tried in futures_util::future::join_all(looks).await {
            // Who is told that the database is busy looks again, as the loop does.
            assert!(matches!(tried, Ok(_) | Err(Error::Store(StoreError::Retry))), "{tried:?}");
        }
        world.app.send_notices().await.expect("sent");
        assert_eq!(receiver.got().len(), 10);
    });
}

#[test]
fn a_removed_webhook_gets_nothing_and_a_planted_one_neither() {
    with_settings(loopback(), async |world| {
        let owner = world.set_up().await;
        let receiver = Receiver::default();
        let url = receiver.listen().await;
        let (gone, planted) = (hook(&world, &owner, &url).await, hook(&world, &owner, &url).await);
        raise(&world, &owner).await;
        world.app.delete_webhook(&owner, gone.webhook.id).await.expect("removed");
        assert_eq!(refusal(world.app.delete_webhook(&owner, gone.webhook.id).await), "not_found");
        // A database writer gives one webhook the sealed address of another.
        let other = hook(&world, &owner, &url).await.webhook.id;
        let planted = planted.webhook.id;
        let sql =
            "UPDATE webhooks SET sealed_target = (SELECT sealed_target FROM webhooks WHERE id = $2) WHERE id = $1";
        let write = world.app.store.write(move |tx| tx.execute(sql, &[planted.0.into(), other.0.into()]));
        write.await.expect("the database writer has their way");
        world.app.send_notices().await.expect("tried");
        let kept = world.app.deliveries(&owner, other).await.expect("a list");
        assert_eq!(kept[0].state, DeliveryState::Delivered);
        assert_eq!(receiver.got().len(), 1);
        assert_eq!(refusal(world.app.test_webhook(&owner, planted).await), "integrity.row");
        assert_eq!(world.events("webhook.create").await, 3);
        assert_eq!(world.events("webhook.delete").await, 1);
    });
}

#[test]
fn a_trial_says_what_the_receiver_answered() {
    with_settings(loopback(), async |world| {
        let owner = world.set_up().await;
        let receiver = Receiver::default();
        let made = hook(&world, &owner, &receiver.listen().await).await;
        receiver.answer([401]);
        let tested = world.app.test_webhook(&owner, made.webhook.id).await.expect("tried");
        assert_eq!((tested.delivered, tested.outcome.as_str()), (false, "status 401"));
        assert!(world.app.test_webhook(&owner, made.webhook.id).await.expect("tried").delivered);
        let closed = hook(&world, &owner, "http://127.0.0.1:9/hook").await;
        assert_eq!(world.app.test_webhook(&owner, closed.webhook.id).await.expect("tried").outcome, "no connection");
    });
}

#[test]
fn trials_need_a_fresh_sign_in_and_are_few() {
    with_settings(loopback(), async |world| {
        let owner = world.set_up().await;
        let closed = hook(&world, &owner, "http://127.0.0.1:9/hook").await;
        for _ in 0..30 {
            world.app.test_webhook(&owner, closed.webhook.id).await.expect("tried");
        }
        assert_eq!(refusal(world.app.test_webhook(&owner, closed.webhook.id).await), "webhook.too_many_trials");
        world.hours(1);
        assert_eq!(refusal(world.app.test_webhook(&owner, closed.webhook.id).await), "signin.fresh_required");
    });
}

#[test]
fn a_row_that_this_program_does_not_know_holds_up_no_other() {
    with_settings(loopback(), async |world| {
        let owner = world.set_up().await;
        let receiver = Receiver::default();
        hook(&world, &owner, &receiver.listen().await).await;
        let planted = raise(&world, &owner).await;
        let good = raise(&world, &owner).await;
        let plant = move |tx: &mut Tx<'_>| {
            tx.execute("UPDATE notices SET kind = 'of.tomorrow' WHERE id = $1", &[planted.0.into()])
        };
        world.app.store.write(plant).await.expect("written");
        assert_eq!(world.app.send_notices().await.expect("sent"), 1);
        let seen = world.app.notices(&owner, false).await.expect("a list");
        assert_eq!(seen.iter().map(|notice| notice.id).collect::<Vec<_>>(), [good]);
        assert_eq!(receiver.got().len(), 1);
    });
}

#[test]
fn slow_receivers_of_one_workspace_hold_up_no_other() {
    with_settings(loopback(), async |world| {
        let owner = world.set_up().await;
        let neighbour = neighbour(&world, &owner).await;
        let (slow, receiver) = (Silent::default(), Receiver::default());
        let url = slow.listen().await;
        for _ in 0..20 {
            hook(&world, &owner, &url).await;
        }
        hook(&world, &neighbour, &receiver.listen().await).await;
        raise(&world, &owner).await;
        let telling = tokio::spawn(Arc::clone(&world.app).keep_telling());
        beats(&world, || slow.held.load(Ordering::SeqCst) > 0).await;
        let notice = raise(&world, &neighbour).await;
        beats(&world, || !receiver.got().is_empty()).await;
        assert_eq!(receiver.got()[0].0["webhook-id"], notice.to_string().as_str());
        let (held, most) = (slow.held.load(Ordering::SeqCst), slow.most.load(Ordering::SeqCst));
        assert!(held > 0 && most <= 5, "{held} wait still, {most} did at once");
        telling.abort();
    });
}

/// A receiver that takes requests and answers none.
#[derive(Clone, Default)]
struct Silent {
    /// Requests that wait now.
    held: Arc<AtomicUsize>,
    /// The most that ever waited at once.
    most: Arc<AtomicUsize>,
}

impl Silent {
    async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/hook", listener.local_addr().expect("its address"));
        let silent = self.clone();
        let hook = async move || {
            let _held = Held::of(&silent);
            std::future::pending::<StatusCode>().await
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/hook", post(hook))).await });
        url
    }
}

/// One request that waits, until whoever sent it gives up.
struct Held(Silent);

impl Held {
    fn of(silent: &Silent) -> Self {
        let held = silent.held.fetch_add(1, Ordering::SeqCst) + 1;
        silent.most.fetch_max(held, Ordering::SeqCst);
        Self(silent.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Lets the sender look again and again until `is`.
async fn beats(world: &World, is: impl Fn() -> bool) {
    let looking = async {
        while !is() {
            world.clock.advance(Duration::from_secs(2));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looking).await.expect("within 20 s");
}

/// The Owner of a second workspace.
async fn neighbour(world: &World, owner: &Caller) -> Caller {
    let (workspace, member) = (WorkspaceId(Uuid::now_v7()), MemberId(Uuid::now_v7()));
    let planted = world.app.store.write(move |tx| {
        tx.execute(
            "INSERT INTO workspaces (id, slug, name, external_keys, require_code, created_at, revision) \
             VALUES ($1, 'other', 'Other', 1, 0, 0, 1)",
            &[workspace.0.into()],
        )?;
        tx.execute(
            "INSERT INTO members (id, workspace_id, email, name, role, password_hash, totp_confirmed, totp_last_step, \
                                  created_at, revision) VALUES ($1, $2, 'n@example.com', 'N', 'owner', 'x', 0, 0, 0, 1)",
            &[member.0.into(), workspace.0.into()],
        )
    });
    planted.await.expect("a second workspace");
    Caller { workspace, workspace_slug: "other".into(), member, ..owner.clone() }
}

#[test]
fn an_unsent_notice_that_cannot_be_read_holds_up_no_other() {
    with_settings(loopback(), async |world| {
        let owner = world.set_up().await;
        let receiver = Receiver::default();
        hook(&world, &owner, &receiver.listen().await).await;
        let (planted, good) = (raise(&world, &owner).await, raise(&world, &owner).await);
        // A time that no calendar has.
        let plant = move |tx: &mut Tx<'_>| {
            tx.execute("UPDATE notices SET created_at = $2 WHERE id = $1", &[planted.0.into(), i64::MAX.into()])
        };
        world.app.store.write(plant).await.expect("written");
        assert_eq!(world.app.send_notices().await.expect("sent"), 1);
        let got = receiver.got();
        assert_eq!((got.len(), &got[0].0["webhook-id"]), (1, &good.to_string().parse().expect("a header")));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_comes_and_goes_is_told_outside_once_an_hour() {
    let world = AzureWorld::start(None).await;
    // It gets one delivery of each notice, whatever comes of it.
    let url = SecretText::from("https://hooks.invalid/x");
    world.app.create_webhook(&world.owner, &url).await.expect("a webhook");
    let turn = async |on: bool| {
        world.clock.advance(Duration::from_secs(1));
        world.enable_key(on).await;
        for _ in 0..3 {
            world.app.keyring.canary_round(TokenUse::Cached).await.expect("a round");
        }
        world.app.send_notices().await.expect("made out");
    };
    let told = async || {
        let count = |tx: &mut Tx<'_>| tx.count("SELECT COUNT(*) FROM deliveries", &[]);
        world.app.store.read(count).await.expect("counted")
    };
    for _ in 0..4 {
        turn(false).await;
        turn(true).await;
    }
    assert_eq!(world.app.notices(&world.owner, false).await.expect("a list").len(), 8);
    assert_eq!(told().await, 2, "the first silence and its end");
    turn(false).await;
    assert_eq!(told().await, 2);
    world.clock.advance(Duration::from_secs(3601));
    world.app.send_notices().await.expect("made out");
    assert_eq!(told().await, 3, "this one lasts");
}

#[test]
fn this_machine_gets_no_webhooks_unless_its_operator_says_so() {
    on_both_engines(async |world| {
        let owner = world.set_up().await;
        for url in ["http://127.0.0.1:8470/x", "https://localhost/x", "http://hooks.example.com"] {
            let made = world.app.create_webhook(&owner, &SecretText::from(url)).await;
            assert_eq!(wrong_fields(made), ["url"], "{url}");
        }
        world.hours(1);
        let stale = world.app.create_webhook(&owner, &SecretText::from("https://hooks.example.com")).await;
        assert_eq!(refusal(stale), "signin.fresh_required");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_key_is_told_once_and_so_is_its_return() {
    let world = AzureWorld::start(None).await;
    let kinds = async || {
        let notices = world.app.notices(&world.owner, false).await.expect("a list");
        notices.iter().map(|notice| (notice.kind, notice.over_at.is_some())).collect::<Vec<_>>()
    };
    world.enable_key(false).await;
    for _ in 0..3 {
        world.app.keyring.canary_round(TokenUse::Cached).await.expect("a round");
    }
    assert_eq!(kinds().await, [(Kind::KeyUnhealthy, false)]);
    let told = world.app.notices(&world.owner, false).await.expect("a list").remove(0);
    assert_eq!((told.code.as_str(), told.vault), ("key.disabled", Some(world.vault)));
    assert!(words(&told, told.at).title.starts_with("Azure: "));
    world.clock.advance(Duration::from_secs(1));
    world.enable_key(true).await;
    for _ in 0..3 {
        world.app.keyring.canary_round(TokenUse::Cached).await.expect("a round");
    }
    assert_eq!(kinds().await, [(Kind::KeyHealthy, false), (Kind::KeyUnhealthy, true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_of_a_credential_is_told_at_30_14_7_and_1_days() {
    let world = AzureWorld::without_vault(None).await;
    let mut wish = request("Azure", &world.values);
    if let strongroom::vault::KeyRequest::Azure(azure) = &mut wish.key {
        azure.credential_expires =
            Some(strongroom::clock::Clock::now(&world.clock) + jiff::SignedDuration::from_hours(40 * 24));
    }
    world.app.create_vault(&world.owner, wish).await.expect("made");
    let mut told = Vec::new();
    for day in 0..42 {
        for _ in 0..2 {
            world.app.look_for_news().await.expect("looked");
        }
        let count = world.app.notices(&world.owner, false).await.expect("a list").len();
        if count > told.len() {
            told.push(40 - day);
        }
        world.clock.advance(Duration::from_secs(24 * 3600));
    }
    // The last one once it has ended.
    assert_eq!(told, [30, 14, 7, 1, 0]);
    let notices = world.app.notices(&world.owner, false).await.expect("a list");
    assert!(notices.iter().all(|notice| notice.kind == Kind::CredentialExpiring && notice.code == "secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_azure_says_of_a_key_is_told_and_over_once_it_is_mended() {
    let world = AzureWorld::start(None).await;
    world.app.keyring.look_round().await.expect("Azure describes the key");
    let open = async |kind: Kind| {
        world.clock.advance(Duration::from_secs(1));
        world.app.look_for_news().await.expect("looked");
        let notices = world.app.notices(&world.owner, false).await.expect("a list");
        let of_kind: Vec<_> = notices.iter().filter(|notice| notice.kind == kind).collect();
        (of_kind.len(), of_kind.iter().filter(|notice| notice.over_at.is_none()).count())
    };
    let say = async |level: &'static str| {
        let sql = "UPDATE key_watch SET recovery_level = $1";
        world.app.store.write(move |tx| tx.execute(sql, &[level.into()])).await.expect("as the watch would write it");
    };
    say("Recoverable+Purgeable").await;
    assert_eq!(open(Kind::PurgeProtectionOff).await, (1, 1));
    assert_eq!(open(Kind::PurgeProtectionOff).await, (1, 1), "told once");
    say("Recoverable").await;
    assert_eq!(open(Kind::PurgeProtectionOff).await, (1, 0), "it is over");
    say("Recoverable+Purgeable").await;
    assert_eq!(open(Kind::PurgeProtectionOff).await, (2, 1), "and may come back");
    assert_eq!(open(Kind::KeyNewVersion).await, (0, 0), "the key version in use is the newest");
    let newer = format!("{}/{}", world.kid.rsplit_once('/').expect("a kid").0, "0123456789abcdef0123456789abcdef");
    let write = world.app.store.write(move |tx| tx.execute("UPDATE key_watch SET newest_kid = $1", &[(&newer).into()]));
    write.await.expect("as the watch would write it");
    assert_eq!(open(Kind::KeyNewVersion).await, (1, 1));
}

#[test]
fn mail_goes_to_managers_who_want_it() {
    let server = runtime();
    let (address, letters) = server.block_on(smtp::listen());
    let url = url::Url::parse(&format!("smtp://{address}")).expect("a URL");
    let mail = Mail::new(&url, "Strongroom <strongroom@example.com>", None).expect("sound settings");
    with_settings(NoticeSettings { mail: Some(Arc::new(mail)), ..NoticeSettings::default() }, async |world| {
        let owner = world.set_up().await;
        let admin = world.member(&owner, "Adam", Role::Admin).await;
        world.member(&owner, "Uma", Role::User).await;
        world.member(&owner, "Sue", Role::SuperAdmin).await;
        world.app.set_wants_mail(&admin, false).await.expect("refused");
        raise(&world, &owner).await;
        assert_eq!(world.app.send_notices().await.expect("sent"), 2);
        let mut sent: Vec<_> = letters.lock().expect("no holder panics").drain(..).collect();
        sent.sort();
        let to: Vec<_> = sent.iter().map(|letter| letter.to.as_str()).collect();
        assert_eq!(to, ["olivia@example.com", "sue@example.com"]);
        assert!(sent[0].text.contains("Subject: [Strongroom] Key disabled"), "{}", sent[0].text);
        assert!(sent[0].text.contains("/profile#notices"), "{}", sent[0].text);
    });
}

/// As much of an SMTP server (RFC 5321) as a message needs.
mod smtp {
    use std::sync::{Arc, Mutex};

    use tokio::{
        io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
        net::{TcpListener, TcpStream},
    };

    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    pub struct Letter {
        pub to: String,
        pub text: String,
    }

    pub type Letters = Arc<Mutex<Vec<Letter>>>;

    pub async fn listen() -> (std::net::SocketAddr, Letters) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (address, letters) = (listener.local_addr().expect("its address"), Letters::default());
        let kept = Arc::clone(&letters);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(talk(stream, Arc::clone(&kept)));
            }
        });
        (address, letters)
    }

    async fn talk(stream: TcpStream, letters: Letters) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 test\r\n").await?;
        let (mut line, mut to) = (String::new(), String::new());
        while stream.read_line(&mut line).await? > 0 {
            let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
            let answer: &[u8] = match verb.as_str() {
                "RCPT" => {
                    to = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                    b"250 ok\r\n"
                }
                "DATA" => {
                    stream.write_all(b"354 go on\r\n").await?;
                    let mut text = String::new();
                    while !text.ends_with("\r\n.\r\n") && stream.read_line(&mut text).await? > 0 {}
                    // Soft line breaks of quoted-printable (RFC 2045, section 6.7) taken out.
                    let text = text.replace("=\r\n", "");
                    letters.lock().expect("no holder panics").push(Letter { to: to.clone(), text });
                    b"250 kept\r\n"
                }
                "QUIT" => return stream.write_all(b"221 bye\r\n").await,
                _ => b"250 ok\r\n",
            };
            stream.write_all(answer).await?;
            line.clear();
        }
        Ok(())
    }
}

//! How long sessions and API tokens last, and that nobody makes one but the product.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use strongroom::{
    access::Role,
    app::Caller,
    member::{NewSession, SignIn},
};
use strongroom_envelope::{InstanceKey, InstanceKeys, SystemRandom, TokenKind, token_mac};

use crate::world::{
    Database, PASSWORD, World, email, fresh_keys, new_member, on_both_engines, on_each_database, origin, refusal, text,
    wrong_fields,
};

#[test]
fn a_session_ends_eight_hours_after_its_last_use() {
    on_both_engines(|world| async move {
        world.set_up().await;
        let session = sign_in(&world, "Olivia").await;
        for _ in 0..3 {
            world.hours(8);
            world.app.caller_by_session(session.token.expose()).await.expect("used within eight hours");
        }
        world.hours(8);
        world.minutes(1);
        assert_eq!(refusal(world.app.caller_by_session(session.token.expose()).await), "signin.expired");
    });
}

#[test]
fn a_session_ends_after_seven_days_however_much_it_is_used() {
    on_both_engines(|world| async move {
        world.set_up().await;
        let session = sign_in(&world, "Olivia").await;
        for _ in 0..23 {
            world.hours(7);
            world.app.caller_by_session(session.token.expose()).await.expect("used within eight hours");
        }
        world.hours(7);
        assert_eq!(refusal(world.app.caller_by_session(session.token.expose()).await), "signin.expired");
    });
}

#[test]
fn the_last_use_is_written_every_five_minutes_at_most() {
    on_both_engines(|world| async move {
        world.set_up().await;
        let session = sign_in(&world, "Olivia").await;
        let began = world.app.clock.now();
        world.minutes(4);
        let caller = world.app.caller_by_session(session.token.expose()).await.expect("a live session");
        assert_eq!(last_seen(&world, &caller).await, began);
        world.minutes(1);
        world.app.caller_by_session(session.token.expose()).await.expect("a live session");
        assert_eq!(last_seen(&world, &caller).await, world.app.clock.now());
    });
}

#[test]
fn sessions_are_listed_and_ended_one_by_one_or_all_others() {
    on_both_engines(|world| async move {
        world.set_up().await;
        let app = &world.app;
        let (one, two, three) =
            (sign_in(&world, "Olivia").await, sign_in(&world, "Olivia").await, sign_in(&world, "Olivia").await);
        let caller = app.caller_by_session(three.token.expose()).await.expect("a live session");
        let listed = app.sessions(&caller).await.expect("a list");
        assert_eq!(listed.len(), 4, "with the one of the set-up");
        let current: Vec<_> = listed.iter().filter(|session| session.current).map(|session| session.id).collect();
        assert_eq!(current, [three.id]);
        assert_eq!((listed[0].address.as_str(), listed[0].agent.as_str()), ("203.0.113.7", "a browser"));
        app.revoke_session(&caller, one.id).await.expect("ended");
        assert_eq!(refusal(app.caller_by_session(one.token.expose()).await), "signin.expired");
        assert_eq!(refusal(app.revoke_session(&caller, one.id).await), "not_found");
        assert_eq!(app.revoke_other_sessions(&caller).await.expect("ended"), 2);
        assert_eq!(refusal(app.caller_by_session(two.token.expose()).await), "signin.expired");
        app.sign_out(&caller).await.expect("ended");
        assert_eq!(refusal(app.caller_by_session(three.token.expose()).await), "signin.expired");
    });
}

#[test]
fn nobody_ends_the_session_or_token_of_another() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let user = world.member(&owner, "Uma", Role::User).await;
        let theirs = sign_in(&world, "Olivia").await;
        assert_eq!(refusal(world.app.revoke_session(&user, theirs.id).await), "not_found");
        let token = world.app.create_token(&owner, "script", 1).await.expect("a token");
        assert_eq!(refusal(world.app.revoke_token(&user, token.token.id).await), "not_found");
        world.app.caller_by_session(theirs.token.expose()).await.expect("untouched");
        world.app.caller_by_token(token.secret.expose()).await.expect("untouched");
    });
}

#[test]
fn a_session_row_that_points_at_another_member_is_no_session() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let user = world.member(&owner, "Uma", Role::User).await;
        let session = sign_in(&world, "Uma").await;
        let token = world.app.create_token(&user, "script", 1).await.expect("a token");
        let owner_id = "(SELECT id FROM members WHERE role = 'owner')";
        let sql = Box::leak(format!("UPDATE sessions SET member_id = {owner_id}").into_boxed_str());
        world.tamper(sql).await;
        let sql = Box::leak(format!("UPDATE api_tokens SET member_id = {owner_id}").into_boxed_str());
        world.tamper(sql).await;
        assert_eq!(refusal(world.app.caller_by_session(session.token.expose()).await), "signin.required");
        assert_eq!(refusal(world.app.caller_by_token(token.secret.expose()).await), "signin.required");
    });
}

#[test]
fn a_session_made_up_by_a_database_writer_is_no_session() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        // What such a writer has: every row, the program, a key of their own; not the instance key.
        let mut body = owner.member.bytes().to_vec();
        // Good until the year 2100.
        body.extend(4_102_444_800_000_i64.to_be_bytes());
        body.extend([7; 32]);
        let token = format!("srs_{}", BASE64_URL_SAFE_NO_PAD.encode(body));
        let mac = token_mac(&fresh_keys(), TokenKind::Session, token.as_bytes()).to_bytes();
        let (member, id) = (owner.member.0, uuid::Uuid::new_v4());
        let planted = world.app.store.write(move |tx| {
            let sql = "INSERT INTO sessions (id, token_mac, member_id, created_at, signed_in_at, last_seen_at, \
                                             expires_at, address, agent) \
                       SELECT $1, $2, $3, created_at, signed_in_at, last_seen_at, expires_at, address, agent \
                       FROM sessions";
            tx.execute(sql, &[id.into(), mac.as_slice().into(), member.into()])
        });
        assert_eq!(planted.await.expect("the database takes it"), 1);
        assert_eq!(refusal(world.app.caller_by_session(&token).await), "signin.required");
    });
}

#[test]
fn what_is_no_token_at_all_is_nobody() {
    on_both_engines(|world| async move {
        world.set_up().await;
        for token in ["", "srs_", "srm_", "srs_AAAA", "Bearer x", "srs_\u{1F511}"] {
            assert_eq!(refusal(world.app.caller_by_session(token).await), "signin.required");
            assert_eq!(refusal(world.app.caller_by_token(token).await), "signin.required");
        }
    });
}

#[test]
fn sessions_outlive_a_rotation_of_the_instance_key() {
    on_each_database(|database| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let random = SystemRandom::new();
        let old = InstanceKey::generate(&random).expect("random");
        let file = old.to_key_file();
        let world = World::begin(database, Arc::new(InstanceKeys::new(old, vec![])));
        let session = runtime.block_on(async {
            world.set_up().await;
            sign_in(&world, "Olivia").await
        });
        let old = InstanceKey::parse_key_file(&file).expect("its own file");
        let new = InstanceKey::generate(&random).expect("random");
        let world = world.restart(Arc::new(InstanceKeys::new(new, vec![old])));
        runtime.block_on(async {
            world.app.caller_by_session(session.token.expose()).await.expect("found under the old key");
            let session = sign_in(&world, "Olivia").await;
            world.app.caller_by_session(session.token.expose()).await.expect("found under the new key");
        });
        let world = world.restart(fresh_keys());
        let gone = runtime.block_on(world.app.caller_by_session(session.token.expose()));
        assert_eq!(refusal(gone), "signin.required");
    });
}

#[test]
fn an_api_token_acts_as_its_member_until_its_day_or_until_it_is_revoked() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        assert_eq!(wrong_fields(app.create_token(&owner, "", 0).await), ["name", "expires_in_days"]);
        assert_eq!(wrong_fields(app.create_token(&owner, "script", 367).await), ["expires_in_days"]);
        let short = app.create_token(&owner, "one day", 1).await.expect("a token");
        let long = app.create_token(&owner, "a year", 366).await.expect("a token");
        assert!(short.secret.expose().starts_with("srm_"));
        let caller = app.caller_by_token(short.secret.expose()).await.expect("a live token");
        assert_eq!((caller.member, caller.role), (owner.member, Role::Owner));
        let listed = app.tokens(&owner).await.expect("a list");
        let names: Vec<_> = listed.iter().map(|token| token.name.as_str()).collect();
        assert_eq!(names.len(), 2);
        assert!(listed.iter().any(|token| token.name == "one day" && token.last_used_at.is_some()));
        world.hours(24);
        assert_eq!(refusal(app.caller_by_token(short.secret.expose()).await), "signin.expired");
        let caller = app.caller_by_token(long.secret.expose()).await.expect("a live token");
        assert_eq!(app.tokens(&caller).await.expect("a list").len(), 1);
        app.revoke_token(&caller, long.token.id).await.expect("revoked");
        assert_eq!(refusal(app.caller_by_token(long.secret.expose()).await), "signin.expired");
    });
}

#[test]
fn an_api_token_changes_nothing_of_how_its_member_signs_in() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        let token = app.create_token(&owner, "script", 1).await.expect("a token");
        let program = app.caller_by_token(token.secret.expose()).await.expect("a live token");
        let changed = app.change_password(&program, text(PASSWORD), text("another horse battery"), &origin()).await;
        assert_eq!(refusal(changed), "denied");
        assert_eq!(refusal(app.begin_code(&program).await), "denied");
        assert_eq!(refusal(app.disable_code(&program).await), "denied");
        assert_eq!(refusal(app.renew_recovery_codes(&program).await), "denied");
        assert_eq!(refusal(app.refresh(&program, text(PASSWORD), None, &origin()).await), "denied");
        assert_eq!(refusal(app.sign_out(&program).await), "denied");
        assert_eq!(refusal(app.create_token(&program, "successor", 366).await), "denied");
    });
}

#[test]
fn an_api_token_too_is_fresh_for_15_minutes_of_its_sign_in() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        world.minutes(10);
        let token = app.create_token(&owner, "script", 30).await.expect("a token");
        world.minutes(5);
        let program = app.caller_by_token(token.secret.expose()).await.expect("a live token");
        app.require_fresh(&program).expect("just fresh");
        world.minutes(1);
        let program = app.caller_by_token(token.secret.expose()).await.expect("a live token");
        let invite = app.invite(&program, new_member("Uma", Role::User)).await;
        assert_eq!(refusal(invite), "signin.fresh_required");
        app.members(&program).await.expect("reading needs no fresh sign-in");
    });
}

#[test]
fn a_member_has_a_hundred_living_tokens_at_most() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        let mut tokens = vec![];
        for _ in 0..100 {
            tokens.push(app.create_token(&owner, "script", 1).await.expect("a token").token.id);
        }
        assert_eq!(refusal(app.create_token(&owner, "one more", 1).await), "token.too_many");
        app.revoke_token(&owner, tokens[0]).await.expect("revoked");
        app.create_token(&owner, "in its place", 1).await.expect("a token");
        let (address, here) = (email("Olivia"), origin());
        let login = || app.sign_in_for_token((&address, text(PASSWORD), None), ("laptop", 1), &here);
        assert_eq!(refusal(login().await), "token.too_many");
        world.hours(24);
        login().await.expect("the others have ended");
        let rows = app.store.read(|tx| tx.count("SELECT COUNT(*) FROM api_tokens", &[])).await;
        assert_eq!(rows.expect("a count"), 1);
    });
}

#[test]
fn an_end_that_was_moved_in_the_database_revives_nothing() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let session = sign_in(&world, "Olivia").await;
        let token = world.app.create_token(&owner, "script", 1).await.expect("a token");
        world.hours(7 * 24);
        world.tamper("UPDATE sessions SET expires_at = expires_at * 2, last_seen_at = expires_at").await;
        world.tamper("UPDATE api_tokens SET expires_at = expires_at * 2").await;
        assert_eq!(refusal(world.app.caller_by_session(session.token.expose()).await), "signin.expired");
        assert_eq!(refusal(world.app.caller_by_token(token.secret.expose()).await), "signin.expired");
    });
}

#[test]
fn no_password_code_or_token_lies_in_the_database() {
    let world = World::begin(Database::sqlite(), fresh_keys());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut secrets = vec![PASSWORD.as_bytes().to_vec()];
    runtime.block_on(async {
        let owner = world.set_up().await;
        let session = sign_in(&world, "Olivia").await;
        let token = world.app.create_token(&owner, "script", 1).await.expect("a token");
        let link = world.app.reset_link(&email("Olivia")).await.expect("a link");
        let code = world.app.begin_code(&owner).await.expect("a secret");
        for secret in [session.token, token.secret, link.token, code.secret] {
            secrets.push(secret.expose().as_bytes().to_vec());
        }
    });
    let Database::Sqlite(folder) = &world.database else { panic!("made as SQLite") };
    for file in folder.path().read_dir().expect("a folder") {
        let bytes = std::fs::read(file.expect("a file").path()).expect("readable");
        for secret in &secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{} lies in the clear", String::from_utf8_lossy(secret));
        }
    }
}

async fn sign_in(world: &World, name: &str) -> NewSession {
    match world.app.sign_in(&email(name), text(PASSWORD), &origin()).await.expect("the right password") {
        SignIn::Session(session) => session,
        SignIn::NeedsCode { .. } => panic!("{name} has a second factor"),
    }
}

async fn last_seen(world: &World, caller: &Caller) -> jiff::Timestamp {
    let listed = world.app.sessions(caller).await.expect("a list");
    listed.iter().find(|session| session.current).expect("the one that asks").last_seen_at
}

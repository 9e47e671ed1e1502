//! Passwords, second factors, limits, and the links for who has no password yet.

use std::time::Duration;

use strongroom::{
    access::Role,
    app::{App, Caller},
    member::{Join, OpenLink, Purpose, SignIn},
    secret_text::SecretText,
    workspace::Edit,
};
use totp_rs::{Builder, Secret};

use crate::world::{
    PASSWORD, World, email, new_member, on_both_engines, origin, origin_at, refusal, setup, text, wrong_fields,
};

#[test]
fn the_set_up_link_makes_the_workspace_and_its_owner_once() {
    on_both_engines(|world| async move {
        let app = &world.app;
        let link = app.setup_link().await.expect("the store works").expect("the store is empty");
        assert!(link.url.expose().starts_with("https://strongroom.example/setup/srl_setup_"));
        let seen = app.look_at_link(Purpose::Setup, link.token.expose()).await.expect("a good link");
        assert_eq!((seen.workspace, seen.member), (None, None));
        let session = app.open_setup(link.token.expose(), setup(), &origin()).await.expect("a good setup");
        let owner = app.caller_by_session(session.token.expose()).await.expect("signed in at once");
        assert_eq!((owner.role, owner.workspace_slug.as_str()), (Role::Owner, "acme"));
        let workspace = app.workspace(&owner).await.expect("a workspace");
        assert!(workspace.external_keys && !workspace.require_code);
        let vaults = app.vaults(&owner).await.expect("vaults");
        assert_eq!(vaults.len(), 1);
        assert_eq!((Some(vaults[0].id), vaults[0].name.as_str()), (workspace.default_vault, "Cloud vault"));
        assert!(app.setup_link().await.expect("the store works").is_none());
        let again = app.open_setup(link.token.expose(), setup(), &origin()).await;
        assert_eq!(refusal(again), "link.gone");
    });
}

#[test]
fn a_newer_set_up_link_ends_the_one_before_and_both_end_after_15_minutes() {
    on_both_engines(|world| async move {
        let app = &world.app;
        let first = app.setup_link().await.expect("the store works").expect("the store is empty");
        let second = app.setup_link().await.expect("the store works").expect("the store is empty");
        assert_eq!(refusal(app.look_at_link(Purpose::Setup, first.token.expose()).await), "link.gone");
        world.minutes(14);
        app.look_at_link(Purpose::Setup, second.token.expose()).await.expect("still good");
        world.minutes(1);
        assert_eq!(refusal(app.open_setup(second.token.expose(), setup(), &origin()).await), "link.gone");
    });
}

#[test]
fn every_wrong_field_of_the_set_up_is_named_at_once_and_the_link_stays_good() {
    on_both_engines(|world| async move {
        let link = world.app.setup_link().await.expect("the store works").expect("the store is empty");
        let mut wrong = setup();
        (wrong.workspace, wrong.slug, wrong.name) = (" ".into(), "Not a slug".into(), "a\nb".into());
        (wrong.email, wrong.password) = ("nobody".into(), text("too short"));
        let fields = wrong_fields(world.app.open_setup(link.token.expose(), wrong, &origin()).await);
        assert_eq!(fields, ["workspace", "slug", "name", "email", "password"]);
        world.app.open_setup(link.token.expose(), setup(), &origin()).await.expect("a good setup");
    });
}

#[test]
fn two_set_ups_at_once_make_one_workspace() {
    on_both_engines(|world| async move {
        let link = world.app.setup_link().await.expect("the store works").expect("the store is empty");
        let here = origin();
        let open = || world.app.open_setup(link.token.expose(), setup(), &here);
        let (first, second) = tokio::join!(open(), open());
        assert_eq!(u8::from(first.is_ok()) + u8::from(second.is_ok()), 1);
    });
}

#[test]
fn an_unknown_address_and_a_wrong_password_are_answered_alike() {
    on_both_engines(|world| async move {
        world.set_up().await;
        let wrong = world.app.sign_in(&email("Olivia"), text("wrong horse battery"), &origin()).await;
        let unknown = world.app.sign_in("nobody@example.com", text(PASSWORD), &origin()).await;
        let malformed = world.app.sign_in("no address", text(PASSWORD), &origin()).await;
        let said = |result: Result<SignIn, strongroom::error::Error>| {
            let error = result.err().expect("refused");
            (error.code().to_owned(), error.to_string(), error.fix().into_owned())
        };
        let wrong = said(wrong);
        assert_eq!(wrong.0, "signin.wrong");
        assert_eq!(wrong, said(unknown));
        assert_eq!(wrong, said(malformed));
    });
}

#[test]
fn an_address_is_known_in_capitals_too() {
    on_both_engines(|world| async move {
        world.set_up().await;
        let signed_in = world.app.sign_in(" OLIVIA@Example.com ", text(PASSWORD), &origin()).await;
        assert!(matches!(signed_in, Ok(SignIn::Session(_))));
        assert_eq!(world.events("session.create").await, 2);
    });
}

#[test]
fn ten_wrong_passwords_make_their_network_wait_and_nobody_else() {
    on_both_engines(|world| async move {
        world.set_up().await;
        let (_, caller) = session_of(&world, "Olivia").await;
        let try_with = |password: &'static str, host| {
            let app = world.app.clone();
            async move { app.sign_in(&email("Olivia"), text(password), &origin_at(host)).await }
        };
        for n in 0..10 {
            assert_eq!(refusal(try_with("wrong horse battery", 99).await), "signin.wrong");
            assert!(n > 8 || try_with(PASSWORD, 99).await.is_ok(), "a right one costs nothing");
        }
        let refused = try_with(PASSWORD, 99).await.err().expect("the network waits");
        assert!(matches!(refused, strongroom::error::Error::TooMany(30)), "{refused:?}");
        try_with(PASSWORD, 7).await.expect("the member's own network");
        world.app.refresh(&caller, text(PASSWORD), None, &origin_at(99)).await.expect("who is signed in already");
        world.clock.advance(Duration::from_secs(30));
        try_with(PASSWORD, 99).await.expect("it has waited");
    });
}

#[test]
fn who_signs_in_again_and_again_waits_and_locks_nobody_else_out() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        world.member(&owner, "Uma", Role::User).await;
        for _ in 0..30 {
            session_of(&world, "Uma").await;
        }
        let refused = world.app.sign_in(&email("Uma"), text(PASSWORD), &origin_at(9)).await.err().expect("waits");
        assert!(matches!(refused, strongroom::error::Error::TooMany(10)), "{refused:?}");
        session_of(&world, "Olivia").await;
        world.clock.advance(Duration::from_secs(10));
        session_of(&world, "Uma").await;
    });
}

#[test]
fn a_link_whose_time_is_over_is_not_revived_in_the_database() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        let reset = app.reset_link(&email("Olivia")).await.expect("a link");
        let join = app.invite(&owner, new_member("Uma", Role::User)).await.expect("an invitation").link;
        world.hours(72);
        world.tamper("UPDATE links SET used_at = NULL, expires_at = expires_at * 2").await;
        assert_eq!(refusal(app.look_at_link(Purpose::Join, join.token.expose()).await), "link.gone");
        assert_eq!(refusal(app.reset(reset.token.expose(), text("another horse battery")).await), "link.gone");
    });
}

#[test]
fn failed_sign_ins_are_one_event_a_minute_with_their_count() {
    on_both_engines(|world| async move {
        world.set_up().await;
        for host in 0..5 {
            let tried = world.app.sign_in(&email("Olivia"), text("wrong horse battery"), &origin_at(host)).await;
            assert_eq!(refusal(tried), "signin.wrong");
        }
        assert_eq!(world.events("signin.failed").await, 1);
        world.minutes(1);
        world.app.record_failed_sign_ins().await.expect("the other four");
        world.app.record_failed_sign_ins().await.expect("nothing more");
        assert_eq!(world.events("signin.failed").await, 2);
    });
}

#[test]
fn a_code_is_asked_for_once_it_is_set_up_and_taken_once() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let (secret, _) = set_up_code(&world, &owner).await;
        let app = &world.app;
        // The code that confirmed it is spent; the next one is good.
        assert_eq!(refusal(second_step(&world, "Olivia", code(&world, &secret, 0)).await), "signin.code_wrong");
        world.clock.advance(Duration::from_secs(30));
        let ticket = ticket(app, "Olivia").await;
        let now = code(&world, &secret, 0);
        app.sign_in_code(copy(&ticket), copy(&now), &origin()).await.expect("a right code");
        assert_eq!(refusal(app.sign_in_code(ticket, copy(&now), &origin()).await), "signin.expired");
        assert_eq!(refusal(second_step(&world, "Olivia", now).await), "signin.code_wrong");
    });
}

#[test]
fn a_code_counts_one_step_to_either_side_and_no_further() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let (secret, _) = set_up_code(&world, &owner).await;
        world.minutes(5);
        for (step, good) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let tried = second_step(&world, "Olivia", code(&world, &secret, step)).await;
            assert_eq!(tried.is_ok(), good, "{step}");
        }
    });
}

#[test]
fn a_step_that_was_passed_is_not_taken_again() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let (secret, _) = set_up_code(&world, &owner).await;
        world.minutes(5);
        second_step(&world, "Olivia", code(&world, &secret, 1)).await.expect("the next step's");
        let older = second_step(&world, "Olivia", code(&world, &secret, 0)).await;
        assert_eq!(refusal(older), "signin.code_wrong");
    });
}

#[test]
fn two_who_show_one_code_at_once_are_one_sign_in() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let (secret, _) = set_up_code(&world, &owner).await;
        world.minutes(5);
        let (first, second) = (ticket(&world.app, "Olivia").await, ticket(&world.app, "Olivia").await);
        assert_eq!(refusal(world.app.sign_in_code(first, text("000 000"), &origin()).await), "signin.expired");
        let (here, now) = (origin(), code(&world, &secret, 0));
        let show = || world.app.sign_in_code(copy(&second), copy(&now), &here);
        let (one, other) = tokio::join!(show(), show());
        assert_eq!(u8::from(one.is_ok()) + u8::from(other.is_ok()), 1);
    });
}

#[test]
fn a_wrong_code_leaves_the_ticket_and_five_make_the_account_wait() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let (secret, _) = set_up_code(&world, &owner).await;
        world.clock.advance(Duration::from_secs(30));
        let ticket = ticket(&world.app, "Olivia").await;
        for host in 0..5 {
            let tried = world.app.sign_in_code(copy(&ticket), text("abc"), &origin_at(host)).await;
            assert_eq!(refusal(tried), "signin.code_wrong");
        }
        let now = code(&world, &secret, 0);
        let tried = world.app.sign_in_code(copy(&ticket), now, &origin_at(9)).await;
        assert_eq!(refusal(tried), "too_many");
        world.clock.advance(Duration::from_secs(299));
        assert_eq!(refusal(world.app.sign_in_code(copy(&ticket), text("1"), &origin_at(9)).await), "too_many");
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(refusal(world.app.sign_in_code(ticket, text("1"), &origin_at(9)).await), "signin.expired");
    });
}

#[test]
fn a_recovery_code_opens_once_however_it_is_typed() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let (_, codes) = set_up_code(&world, &owner).await;
        assert_eq!(codes.len(), 10);
        let typed = codes[0].expose().to_uppercase().replace('-', " ");
        second_step(&world, "Olivia", text(&typed)).await.expect("a recovery code");
        assert_eq!(refusal(second_step(&world, "Olivia", copy(&codes[0])).await), "signin.code_wrong");
        assert_eq!(world.app.recovery_codes_left(&owner).await.expect("a count"), 9);
        let renewed = world.app.renew_recovery_codes(&owner).await.expect("ten new ones");
        assert_eq!(refusal(second_step(&world, "Olivia", copy(&codes[1])).await), "signin.code_wrong");
        second_step(&world, "Olivia", copy(&renewed[1])).await.expect("a new one");
    });
}

#[test]
fn a_second_factor_counts_from_its_first_code_until_it_is_turned_off() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        let first = app.begin_code(&owner).await.expect("a secret");
        assert!(first.uri.expose().contains("olivia%40example.com"));
        assert!(matches!(app.sign_in(&email("Olivia"), text(PASSWORD), &origin()).await, Ok(SignIn::Session(_))));
        assert_eq!(refusal(app.confirm_code(&owner, text("000000"), &origin()).await), "signin.code_wrong");
        let (secret, _) = set_up_code(&world, &owner).await;
        assert_eq!(refusal(app.begin_code(&owner).await), "member.code_exists");
        app.disable_code(&owner).await.expect("turned off");
        assert!(matches!(app.sign_in(&email("Olivia"), text(PASSWORD), &origin()).await, Ok(SignIn::Session(_))));
        assert_eq!(refusal(app.confirm_code(&owner, code(&world, &secret, 1), &origin()).await), "member.code_missing");
    });
}

#[test]
fn where_a_second_factor_is_required_nothing_else_is_open_before_it() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        let user = world.member(&owner, "Uma", Role::User).await;
        let token = app.create_token(&user, "script", 30).await.expect("a token");
        let edit = Edit { require_code: Some(true), ..Edit::default() };
        app.edit_workspace(&owner, edit, 1).await.expect("required from now on");
        let user = again(&world, "Uma").await;
        assert!(user.must_set_up_code);
        assert_eq!(refusal(app.members(&user).await), "signin.setup_code");
        assert_eq!(refusal(app.vaults(&user).await), "signin.setup_code");
        let program = app.caller_by_token(token.secret.expose()).await.expect("a live token");
        assert_eq!(refusal(app.members(&program).await), "signin.setup_code");
        app.workspace(&user).await.expect("its name may be seen");
        set_up_code(&world, &user).await;
        let program = app.caller_by_token(token.secret.expose()).await.expect("a live token");
        app.members(&program).await.expect("all is open");
    });
}

#[test]
fn a_reset_link_ends_all_that_the_old_password_opened() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        world.member(&owner, "Uma", Role::User).await;
        let (session, user) = session_of(&world, "Uma").await;
        let token = app.create_token(&user, "script", 30).await.expect("a token");
        let link = app.reset_link(" UMA@example.com").await.expect("a link");
        let OpenLink { workspace, member, .. } =
            app.look_at_link(Purpose::Reset, link.token.expose()).await.expect("a good link");
        assert_eq!((workspace.as_deref(), member), (Some("Acme"), Some((email("Uma"), "Uma".into()))));
        assert_eq!(wrong_fields(app.reset(link.token.expose(), text("short")).await), ["password"]);
        app.reset(link.token.expose(), text("another horse battery")).await.expect("a new password");
        assert_eq!(refusal(app.caller_by_session(session.expose()).await), "signin.expired");
        assert_eq!(refusal(app.caller_by_token(token.secret.expose()).await), "signin.expired");
        assert_eq!(refusal(app.sign_in(&email("Uma"), text(PASSWORD), &origin()).await), "signin.wrong");
        app.sign_in(&email("Uma"), text("another horse battery"), &origin()).await.expect("the new one");
        assert_eq!(refusal(app.reset(link.token.expose(), text(PASSWORD)).await), "link.gone");
    });
}

#[test]
fn a_reset_link_is_for_members_who_have_joined_and_lasts_an_hour() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        assert_eq!(refusal(app.reset_link("nobody@example.com").await), "not_found");
        app.invite(&owner, new_member("Uma", Role::User)).await.expect("an invitation");
        assert_eq!(refusal(app.reset_link(&email("Uma")).await), "member.not_joined");
        let link = app.reset_link(&email("Olivia")).await.expect("a link");
        world.minutes(60);
        assert_eq!(refusal(app.reset(link.token.expose(), text("another horse battery")).await), "link.gone");
    });
}

#[test]
fn a_link_of_one_purpose_is_none_of_another_even_in_a_changed_row() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        set_up_code(&world, &owner).await;
        let ticket = ticket(&world.app, "Olivia").await;
        world.tamper("UPDATE links SET purpose = 'reset'").await;
        let reset = world.app.reset(ticket.expose(), text("another horse battery")).await;
        assert_eq!(refusal(reset), "link.gone");
        let renamed = ticket.expose().replace("srl_code_", "srl_reset_");
        assert_eq!(refusal(world.app.reset(&renamed, text("another horse battery")).await), "link.gone");
    });
}

#[test]
fn a_changed_password_ends_every_other_session() {
    on_both_engines(|world| async move {
        world.set_up().await;
        let app = &world.app;
        let (other, _) = session_of(&world, "Olivia").await;
        let (mine, caller) = session_of(&world, "Olivia").await;
        let here = origin();
        let wrong = app.change_password(&caller, text("wrong horse battery"), text("a new horse battery"), &here);
        assert_eq!(refusal(wrong.await), "signin.wrong");
        let short = app.change_password(&caller, text(PASSWORD), text("short"), &here);
        assert_eq!(wrong_fields(short.await), ["password"]);
        app.change_password(&caller, text(PASSWORD), text("a new horse battery"), &origin()).await.expect("changed");
        app.caller_by_session(mine.expose()).await.expect("the one that asked");
        assert_eq!(refusal(app.caller_by_session(other.expose()).await), "signin.expired");
        app.sign_in(&email("Olivia"), text("a new horse battery"), &origin()).await.expect("the new one");
    });
}

#[test]
fn a_sign_in_is_fresh_for_15_minutes_and_again_after_a_password() {
    on_both_engines(|world| async move {
        world.set_up().await;
        let app = &world.app;
        let (session, caller) = session_of(&world, "Olivia").await;
        world.minutes(15);
        app.require_fresh(&caller).expect("just fresh");
        world.minutes(1);
        assert_eq!(refusal(app.require_fresh(&caller)), "signin.fresh_required");
        let invite = app.invite(&caller, new_member("Uma", Role::User)).await;
        assert_eq!(refusal(invite), "signin.fresh_required");
        assert_eq!(refusal(app.refresh(&caller, text("wrong"), None, &origin()).await), "signin.wrong");
        app.refresh(&caller, text(PASSWORD), None, &origin()).await.expect("proven again");
        let caller = app.caller_by_session(session.expose()).await.expect("the same session");
        app.require_fresh(&caller).expect("fresh");
    });
}

#[test]
fn who_has_a_second_factor_needs_it_to_be_fresh_again() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let (secret, _) = set_up_code(&world, &owner).await;
        world.clock.advance(Duration::from_secs(30));
        let without = world.app.refresh(&owner, text(PASSWORD), None, &origin()).await;
        assert_eq!(refusal(without), "signin.code_required");
        let now = code(&world, &secret, 0);
        world.app.refresh(&owner, text(PASSWORD), Some(now), &origin()).await.expect("both");
    });
}

#[test]
fn a_program_signs_in_for_a_token_in_one_step() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        let login = |code: Option<SecretText>| {
            let app = app.clone();
            let email = email("Olivia");
            async move { app.sign_in_for_token((&email, text(PASSWORD), code), ("laptop", 90), &origin()).await }
        };
        let token = login(None).await.expect("no code is needed");
        assert_eq!(app.caller_by_token(token.secret.expose()).await.expect("a live token").role, Role::Owner);
        let (secret, _) = set_up_code(&world, &owner).await;
        world.clock.advance(Duration::from_secs(30));
        assert_eq!(refusal(login(None).await), "signin.code_required");
        assert_eq!(refusal(login(Some(text("1"))).await), "signin.code_wrong");
        login(Some(code(&world, &secret, 0))).await.expect("both");
    });
}

#[test]
fn a_join_names_what_is_wrong_and_the_link_stays_good() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let invitation = world.app.invite(&owner, new_member("Uma", Role::User)).await.expect("invited");
        let join = Join { name: "x".repeat(101), password: text("short") };
        let fields = wrong_fields(world.app.join(invitation.link.token.expose(), join, &origin()).await);
        assert_eq!(fields, ["name", "password"]);
        let join = Join { name: "Uma".into(), password: text(PASSWORD) };
        world.app.join(invitation.link.token.expose(), join, &origin()).await.expect("joined");
    });
}

/// Sets up the caller's second factor; returns its secret and the recovery codes.
async fn set_up_code(world: &World, caller: &Caller) -> (String, Vec<SecretText>) {
    let setup = world.app.begin_code(caller).await.expect("a secret");
    let secret = setup.secret.expose().to_owned();
    let codes = world.app.confirm_code(caller, code(world, &secret, 0), &origin()).await.expect("its own code");
    (secret, codes)
}

/// The code of an authenticator app, `step` steps from now.
fn code(world: &World, secret: &str, step: i64) -> SecretText {
    let secret = Secret::try_from_base32(secret).expect("base32");
    let totp = Builder::new().with_secret(secret).build().expect("a good secret");
    let time = world.app.clock.now().as_second() + step * 30;
    SecretText::from(totp.generate(u64::try_from(time).expect("after 1970")).to_string())
}

async fn ticket(app: &App, name: &str) -> SecretText {
    match app.sign_in(&email(name), text(PASSWORD), &origin()).await.expect("the right password") {
        SignIn::NeedsCode { ticket } => ticket,
        SignIn::Session(_) => panic!("{name} has no second factor"),
    }
}

async fn second_step(
    world: &World,
    name: &str,
    code: SecretText,
) -> strongroom::error::Result<strongroom::member::NewSession> {
    let ticket = ticket(&world.app, name).await;
    world.app.sign_in_code(ticket, code, &origin()).await
}

async fn session_of(world: &World, name: &str) -> (SecretText, Caller) {
    match world.app.sign_in(&email(name), text(PASSWORD), &origin()).await.expect("the right password") {
        SignIn::Session(session) => {
            let caller = world.app.caller_by_session(session.token.expose()).await.expect("a live session");
            (session.token, caller)
        }
        SignIn::NeedsCode { .. } => panic!("{name} has a second factor"),
    }
}

async fn again(world: &World, name: &str) -> Caller {
    session_of(world, name).await.1
}

fn copy(secret: &SecretText) -> SecretText {
    SecretText::from(secret.expose())
}

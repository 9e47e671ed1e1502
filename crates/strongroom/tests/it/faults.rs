//! Every fault that the stand-in can make: its class, what is seen of it, what it purges and what is kept. What is
//! observed here is the table in `docs/withdrawal.md`; `STRONGROOM_WRITE_DOCS=1` writes it there.

use std::{collections::HashSet, fs, time::Duration};

use azure_standin::{Effect, Fault, Match, Preset};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use strongroom::{
    error::{Error, KeyUnavailable, Unavailable},
    http::error::status,
};
use strongroom_envelope::{SystemRandom, VaultKey, VaultKeyPlace, wrap_record};
use strongroom_keys::TokenUse;

use crate::{azure::AzureWorld, customer::Assignment};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/withdrawal.md");
const BEGIN: &str = "<!-- written by the test of the faults -->\n\n";
const END: &str = "\n<!-- end of what it wrote -->";
/// Everything that a withdrawal, an outage or a fault must leave as it is.
const TABLES: [&str; 6] = ["items", "item_revisions", "data_keys", "generations", "wraps", "providers"];

/// What happens to the key, in the words of the table.
struct Case {
    what: &'static str,
    strike: Strike,
    /// Whether only a fresh sign-in meets it.
    sign_in: bool,
}

enum Strike {
    Orders(Vec<Fault>),
    Disabled,
    RoleRemoved,
    Deleted,
    UnwrapNotPermitted,
    ApplicationDisabled,
    KeyVaultDeleted,
}

/// What was seen of one case.
struct Seen {
    why: KeyUnavailable,
    status: u16,
    /// Whether the running lease was purged.
    purged: bool,
    /// Seconds until all was back.
    back: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_has_its_class_its_words_and_purges_only_if_it_denies() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    world.app.keyring.look_round().await.expect("the key was looked at");
    let before = rows(&world).await;
    let mut table = String::from(
        "| What Azure, or the way to it, does | Class | Shown as | Code | HTTP | Leases | Rows | Back after |\n|---|---|---|---|---|---|---|---|\n",
    );
    for case in cases(&world).await {
        let seen = observe(&world, item, &case).await;
        let class = match seen.why.class {
            Unavailable::Dark => "denial",
            Unavailable::Outage => "outage",
            Unavailable::Fault => "fault",
            Unavailable::Disabled => panic!("nobody disabled the vault"),
        };
        assert_eq!(seen.purged, seen.why.class == Unavailable::Dark, "{}: only a denial purges", case.what);
        assert_eq!(rows(&world).await, before, "{}: nothing is destroyed", case.what);
        table += &format!(
            "| {} | {class} | {} | `{}` | {} | {} | all kept | {} s |\n",
            case.what,
            shown(&seen),
            seen.why.code,
            seen.status,
            if seen.purged { "purged" } else { "run to their end" },
            seen.back,
        );
    }
    hold_to_page(&table);
}

#[test]
fn every_effect_that_the_stand_in_documents_is_in_the_table() {
    let readme = include_str!("../../../azure-standin/README.md");
    let effects = readme.split("| `effect` |").nth(1).expect("the README lists the effects");
    let effects = effects.split("\n\n").next().unwrap_or_default();
    let first_cells = effects.lines().skip(2).filter_map(|line| line.split('|').nth(1));
    let names: HashSet<&str> = first_cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(|name| name.split(':').next().unwrap_or_default())
        .collect();
    assert!(names.len() > 10, "{names:?}");
    let mut ordered = HashSet::new();
    for fault in orders("kid", "record").into_iter().flat_map(|(_, faults, _)| faults) {
        let Value::Object(effect) = json!(fault.effect) else { continue };
        let set = |value: &Value| {
            !matches!(value, Value::Null | Value::Bool(false)) && *value != json!(0) && *value != json!({})
        };
        ordered.extend(effect.into_iter().filter(|(_, value)| set(value)).map(|(name, _)| name));
    }
    // Alone these two refuse nothing: a wait adds to a header, and skewed clocks to what is judged by them.
    let harmless = ["headers", "retry_after"];
    let missing: Vec<_> = names.iter().filter(|name| !ordered.contains(**name) && !harmless.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?} is in no row");
}

async fn cases(world: &AzureWorld) -> Vec<Case> {
    let place = VaultKeyPlace { workspace: [7; 16], vault: [8; 16], generation: 1 };
    let stranger = VaultKey::generate(&SystemRandom::new()).expect("random");
    let record = BASE64_URL_SAFE_NO_PAD.encode(&*wrap_record(&place, &stranger));
    let customer = [
        ("The key version is disabled", Strike::Disabled, false),
        ("The role on the key is removed", Strike::RoleRemoved, false),
        ("The key no longer permits `unwrapKey`", Strike::UnwrapNotPermitted, false),
        ("The key is deleted", Strike::Deleted, false),
        ("The application is switched off", Strike::ApplicationDisabled, true),
    ];
    let ordered = orders(&world.kid, &record);
    let last = [("The Key Vault is deleted", Strike::KeyVaultDeleted, false)];
    let ordered = ordered.into_iter().map(|(what, faults, sign_in)| (what, Strike::Orders(faults), sign_in));
    let all = customer.into_iter().chain(ordered).chain(last);
    all.map(|(what, strike, sign_in)| Case { what, strike, sign_in }).collect()
}

/// Orders to the stand-in; with those of a sign-in marked.
fn orders(kid: &str, record: &str) -> Vec<(&'static str, Vec<Fault>, bool)> {
    let unwrap = |effect: Effect| vec![on("unwrapkey", effect)];
    let preset = |preset: Preset| Effect { preset: Some(preset), ..Effect::default() };
    let answer = |status: u16, body: Value| Effect { status: Some(status), body: Some(body), ..Effect::default() };
    let refused = |code: u32| {
        let text = format!("AADSTS{code}: refused.");
        vec![on(
            "token",
            answer(401, json!({"error": "invalid_client", "error_codes": [code], "error_description": text})),
        )]
    };
    // A connection that stands is not struck by what happens to a CONNECT: it is broken first.
    let connect = |effect: Effect| {
        let broken = Fault { times: Some(1), ..on("unwrapkey", Effect { drop: true, ..Effect::default() }) };
        vec![broken, Fault { effect, ..Fault::default() }]
    };
    let short = BASE64_URL_SAFE_NO_PAD.encode([3; 31]);
    vec![
        ("The firewall blocks this server (`firewall`)", unwrap(preset(Preset::Firewall)), false),
        ("Only private endpoints are let in (`private_link`)", unwrap(preset(Preset::PrivateLink)), false),
        (
            "Conditional Access blocks the sign-in (`conditional_access`)",
            vec![on("token", preset(Preset::ConditionalAccess))],
            true,
        ),
        ("The client secret was deleted or is wrong (AADSTS7000215)", refused(7_000_215), true),
        ("The client secret has expired (AADSTS7000222)", refused(7_000_222), true),
        ("The application was deleted (AADSTS700016)", refused(700_016), true),
        ("The service principal was deleted (AADSTS7000229)", refused(7_000_229), true),
        ("The tenant is gone (AADSTS90002)", refused(90_002), true),
        (
            "Entra gives tokens that the Key Vault refuses (`expired_token`)",
            vec![on("token", Effect { expired_token: true, ..Effect::default() })],
            true,
        ),
        (
            "Entra's clock is off by a day (`date_skew_seconds`)",
            vec![on("token", Effect { date_skew_seconds: -86_400, ..Effect::default() })],
            true,
        ),
        ("Throttled (`throttled`)", unwrap(preset(Preset::Throttled)), false),
        ("A page says that the service is unavailable (`unavailable`)", unwrap(preset(Preset::Unavailable)), false),
        ("A server error without words (`status`)", unwrap(Effect { status: Some(500), ..Effect::default() }), false),
        (
            "A page in place of an answer (`body`)",
            unwrap(answer(200, json!("<html>Sign in to the guest network</html>"))),
            false,
        ),
        ("The answer breaks off (`truncate`)", unwrap(Effect { truncate: Some(20), ..Effect::default() }), false),
        ("The connection is dropped (`drop`)", unwrap(Effect { drop: true, ..Effect::default() }), false),
        ("No answer in time (`delay_ms`)", unwrap(Effect { delay_ms: Some(6000), ..Effect::default() }), false),
        (
            "The proxy wants a sign-in (`connect_status`)",
            connect(Effect { connect_status: Some(407), ..Effect::default() }),
            false,
        ),
        ("The network swallows the connection (`hang`)", connect(Effect { hang: true, ..Effect::default() }), false),
        (
            "A certificate of an unknown authority (`untrusted_ca`)",
            connect(Effect { untrusted_ca: Some("Example Corp".into()), ..Effect::default() }),
            false,
        ),
        (
            "The right bytes under a wrong kid (`wrong_kid`)",
            unwrap(Effect { wrong_kid: true, ..Effect::default() }),
            false,
        ),
        ("31 bytes (`body`)", unwrap(answer(200, json!({"kid": kid, "value": short}))), false),
        ("Another key's bytes (`body`)", unwrap(answer(200, json!({"kid": kid, "value": record}))), false),
        (
            "The key cannot unwrap what it wrapped (`body`)",
            unwrap(answer(
                400,
                json!({"error": {"code": "BadParameter", "message": "Unable to decrypt specified value with this key."}}),
            )),
            false,
        ),
    ]
}

async fn observe(world: &AzureWorld, item: strongroom::id::ItemId, case: &Case) -> Seen {
    assert_eq!(world.password(item).await.expect("all is well before"), "tide-and-lamp", "{}", case.what);
    let undo = strike(world, &case.strike).await;
    let token = if case.sign_in { TokenUse::Fresh } else { TokenUse::Cached };
    // Entra's refusal counts when it lasts five seconds; a connection that was broken first is made again.
    let twice = case.sign_in || matches!(&case.strike, Strike::Orders(faults) if faults.len() > 1);
    for _ in 0..if twice { 2 } else { 1 } {
        round(world, token).await;
    }
    world.app.keyring.read_marks().await.expect("a look at the marks");
    let leased = world.password(item).await;
    let purged = leased.is_err();
    if !purged {
        // The lease ends; whoever comes then asks Azure, and signs in for it.
        world.app.keyring.purge_all();
        world.clock.advance(Duration::from_secs(2));
    }
    let refused = if purged { leased } else { world.password(item).await };
    let error = refused.err().unwrap_or_else(|| panic!("{}: served without a lease", case.what));
    let status = status(&error).as_u16();
    let Error::KeyUnavailable(why) = error else { panic!("{}: {error}", case.what) };
    world.standin.clear_faults();
    lift(world, &case.strike, undo).await;
    let mut back = 0;
    while world.password(item).await.is_err() {
        back += 5;
        assert!(back <= 15, "{}: not back after 15 s", case.what);
        round(world, token).await;
    }
    Seen { why: *why, status, purged, back }
}

async fn strike(world: &AzureWorld, strike: &Strike) -> Option<Assignment> {
    match strike {
        Strike::Orders(faults) => faults.iter().for_each(|fault| world.standin.set_fault(fault.clone())),
        Strike::Disabled => world.enable_key(false).await,
        Strike::RoleRemoved => return Some(world.remove_role().await),
        Strike::Deleted => world.delete_key().await,
        Strike::UnwrapNotPermitted => world.change_key(json!({"key_ops": ["wrapKey"]})).await,
        Strike::ApplicationDisabled => world.enable_application(false).await,
        Strike::KeyVaultDeleted => {
            let role = world.remove_role().await;
            world.assign_again(&role).await;
            world.delete_key_vault().await;
            return Some(role);
        }
    }
    None
}

async fn lift(world: &AzureWorld, strike: &Strike, undo: Option<Assignment>) {
    match (strike, undo) {
        (Strike::Disabled, _) => world.enable_key(true).await,
        (Strike::RoleRemoved, Some(role)) => world.assign_again(&role).await,
        (Strike::Deleted, _) => world.recover_key().await,
        (Strike::UnwrapNotPermitted, _) => world.change_key(json!({"key_ops": ["wrapKey", "unwrapKey"]})).await,
        (Strike::ApplicationDisabled, _) => world.enable_application(true).await,
        (Strike::KeyVaultDeleted, Some(role)) => {
            world.recover_key_vault().await;
            world.assign_again(&role).await;
        }
        _ => {}
    }
}

/// The state in words; with the days for which a deleted key can be recovered.
fn shown(seen: &Seen) -> String {
    let label = seen.why.state().label();
    let days = seen.why.recoverable_until.map(|until| (until.duration_since(seen.why.since).as_hours() + 12) / 24);
    days.map_or_else(|| label.into(), |days| format!("{label} (recoverable until about {days} days later)"))
}

async fn round(world: &AzureWorld, token: TokenUse) {
    world.clock.advance(Duration::from_secs(5));
    world.app.keyring.canary_round(token).await.expect("a round of canaries");
}

fn on(operation: &str, effect: Effect) -> Fault {
    let matching = Match { operation: Some(operation.into()), ..Match::default() };
    Fault { matching, effect, ..Fault::default() }
}

/// How many rows there are of each kind.
async fn rows(world: &AzureWorld) -> Vec<u64> {
    let count = |tx: &mut strongroom::store::Tx<'_>| {
        TABLES.iter().map(|table| tx.count(&format!("SELECT COUNT(*) FROM {table}"), &[])).collect()
    };
    world.app.store.read(count).await.expect("the store works")
}

/// Compares the table with the page's, or writes it there.
fn hold_to_page(table: &str) {
    let page = fs::read_to_string(PAGE).expect("docs/withdrawal.md");
    let (head, rest) = page.split_once(BEGIN).expect("the page has a place for the table");
    let (written, tail) = rest.split_once(END).expect("the place has an end");
    if std::env::var_os("STRONGROOM_WRITE_DOCS").is_some() {
        fs::write(PAGE, format!("{head}{BEGIN}{table}{END}{tail}")).expect("written");
        return;
    }
    assert_eq!(written, table, "docs/withdrawal.md says otherwise; STRONGROOM_WRITE_DOCS=1 writes what is seen here");
}

//! The check of a connection: what the stand-in breaks, the first red line names.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use azure_standin::{Effect, Settings};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use strongroom_keys::CredentialInput;
use strongroom_keys::azure::AzureKeys;
use strongroom_keys::check::{AzureInput, CheckLine, CheckStatus, LINES, check};

use crate::tenant::{HOST, KEY, Tenant, VAULT, answer};

mod document;
mod existing;
mod rights;
mod rows;
mod way;

const URL: &str = "https://acme-kv.vault.azure.net/";

/// Checks the tenant's own values, changed by `change`.
async fn check_with<'a>(
    tenant: &'a Tenant,
    keys: &AzureKeys,
    change: impl FnOnce(&mut AzureInput<'a>),
) -> Vec<CheckLine> {
    let mut input = AzureInput {
        client_id: &tenant.client_id,
        tenant_id: &tenant.standin.admin().tenant_id,
        credential: CredentialInput::Secret(&tenant.secret),
        vault_url: URL,
        vault_key_name: KEY,
        credential_expires: None,
    };
    change(&mut input);
    let start = Instant::now();
    let told = Mutex::new(Vec::new());
    let tell = |line: &CheckLine| told.lock().expect("not poisoned").push(line.clone());
    let lines = check(keys, &input, Timestamp::now(), 4096, &tell).await;
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    let codes: Vec<_> = lines.iter().map(|line| line.code).collect();
    assert_eq!(codes, LINES.map(|(code, _)| code), "every line once, in order");
    assert_eq!(told.into_inner().expect("not poisoned"), lines, "what was told is what came of it");
    lines
}

async fn check_now(tenant: &Tenant) -> Vec<CheckLine> {
    check_with(tenant, &tenant.keys(), |_| ()).await
}

/// The first red line, with all after its stage skipped.
fn first_failure(lines: &[CheckLine]) -> &CheckLine {
    let first = lines.iter().find(|line| line.status == CheckStatus::Fail).expect("a failure");
    assert!(first.cause.is_some() && first.fix.is_some() && first.reason.is_some(), "{first:?}");
    assert!(lines.iter().all(|line| line.code != "azure.quota" || line.status == CheckStatus::Skipped));
    first
}

fn find<'a>(lines: &'a [CheckLine], code: &str) -> &'a CheckLine {
    lines.iter().find(|line| line.code == code).expect(code)
}

fn status(lines: &[CheckLine], code: &str) -> CheckStatus {
    find(lines, code).status
}

#[tokio::test]
async fn a_good_connection_passes_with_a_warning_about_purge_protection() {
    let tenant = Tenant::start().await;
    let lines = check_now(&tenant).await;
    for line in &lines {
        let expected = match line.code {
            "key.recovery" => CheckStatus::Warn,
            "net.dns" | "net.tcp" => CheckStatus::Skipped,
            // Nobody gave the secret's date.
            "credential.expiry" => CheckStatus::CouldNotCheck,
            _ => CheckStatus::Pass,
        };
        assert_eq!(line.status, expected, "{line:?}");
    }
    let recovery = find(&lines, "key.recovery");
    assert_eq!(
        recovery.command.as_deref(),
        Some(format!("az keyvault update --name {VAULT} --enable-purge-protection true").as_str())
    );
    let wrap = lines.iter().find(|line| line.code == "key.wrap").expect("a line");
    assert!(wrap.azure_request_id.is_some());

    tenant.change_key_vault(json!({"enablePurgeProtection": true})).await;
    assert_eq!(status(&check_now(&tenant).await, "key.recovery"), CheckStatus::Pass);
}

#[tokio::test]
async fn every_typing_error_shows_at_once_and_nothing_is_sent() {
    let tenant = Tenant::start().await;
    let before = tenant.standin.stats();
    let lines = check_with(&tenant, &tenant.keys(), |input| {
        input.client_id = "object id";
        input.tenant_id = "contoso.onmicrosoft.com";
        input.credential = CredentialInput::Secret("12345678-90ab-cdef-1234-567890abcdef");
        input.vault_url = "https://acme.privatelink.vaultcore.azure.net";
        input.vault_key_name = "under_score";
    })
    .await;
    let reasons: Vec<_> = lines.iter().filter_map(|line| line.reason).collect();
    assert_eq!(reasons, ["not_a_guid", "domain", "secret_id", "characters", "host_privatelink"]);
    assert_eq!(status(&lines, "form.vault_url"), CheckStatus::Pass);
    assert_eq!(status(&lines, "proxy.reachable"), CheckStatus::Skipped);
    assert_eq!(tenant.standin.stats(), before);
}

#[tokio::test]
async fn a_pasted_key_identifier_passes() {
    let tenant = Tenant::start().await;
    let pasted = format!("https://{HOST}/keys/{KEY}/0123456789abcdef0123456789abcdef");
    let url = format!("https://{HOST}");
    let input = AzureInput {
        client_id: &format!(" {{{}}} ", tenant.client_id),
        tenant_id: &tenant.standin.admin().tenant_id,
        credential: CredentialInput::Secret(&tenant.secret),
        vault_url: &url,
        vault_key_name: &pasted,
        credential_expires: None,
    };
    let lines = check(&tenant.keys(), &input, Timestamp::now(), 4096, &|_| ()).await;
    assert!(lines.iter().all(|line| line.status != CheckStatus::Fail), "{lines:?}");
}

#[tokio::test]
async fn each_unusable_key_is_named() {
    let tenant = Tenant::start().await;
    let keys = tenant.keys();
    let lines = check_with(&tenant, &keys, |input| input.vault_key_name = "absent").await;
    // The role is on the one key, so Azure does not even say whether another exists.
    assert_eq!(first_failure(&lines).reason, Some("key.access_removed"));

    let in_an_hour = (Timestamp::now() + SignedDuration::from_hours(1)).as_second();
    for (change, code, reason) in [
        (json!({"attributes": {"enabled": false}}), "key.enabled", "key.disabled"),
        (json!({"attributes": {"enabled": true, "exp": 1_600_000_000}}), "key.dates", "key.expired"),
        (json!({"attributes": {"exp": in_an_hour + 90 * 86_400, "nbf": in_an_hour}}), "key.dates", "key.not_yet_valid"),
        (
            json!({"attributes": {"nbf": 1_600_000_000}, "key_ops": ["wrapKey", "sign"]}),
            "key.operations",
            "key.operation_forbidden",
        ),
    ] {
        tenant.change_key(change).await;
        let lines = check_now(&tenant).await;
        let first = first_failure(&lines);
        assert_eq!((first.code, first.reason), (code, Some(reason)), "{first:?}");
        assert_eq!(status(&lines, "key.wrap"), CheckStatus::Skipped);
    }

    tenant.create_key(KEY, "RSA", 2048).await;
    let lines = check_now(&tenant).await;
    assert_eq!(first_failure(&lines).cause.as_deref(), Some("The key is RSA-2048; RSA-4096 is required."));
    tenant.create_key(KEY, "EC", 0).await;
    let lines = check_now(&tenant).await;
    let first = first_failure(&lines);
    assert_eq!((first.code, first.reason), ("key.type", Some("key.wrong_type")));
    assert!(first.command.as_deref().is_some_and(|command| command.contains("--kty RSA --size 4096")));
}

#[tokio::test]
async fn a_key_that_expires_soon_is_a_warning() {
    let tenant = Tenant::start().await;
    let soon = (Timestamp::now() + SignedDuration::from_hours(240)).as_second();
    tenant.change_key(json!({"attributes": {"exp": soon}})).await;
    let lines = check_now(&tenant).await;
    assert_eq!(status(&lines, "key.dates"), CheckStatus::Warn);
    assert_eq!(status(&lines, "key.compare"), CheckStatus::Pass);
}

#[tokio::test]
async fn a_disabled_key_that_cannot_be_read_is_still_called_disabled() {
    let settings = Settings { disabled_blocks_get: true, service_limits: None, ..Settings::default() };
    let tenant = Tenant::with(settings).await;
    tenant.set_enabled(false).await;
    let lines = check_now(&tenant).await;
    let first = first_failure(&lines);
    assert_eq!((first.code, first.reason), ("key.readable", Some("key.disabled")));
}

#[tokio::test]
async fn what_azure_answers_badly_is_named_where_it_is_asked() {
    let tenant = Tenant::start().await;
    for (operation, effect, code, reason) in [
        ("token", answer(503, json!("")), "sign_in", "azure.unavailable"),
        ("token", answer(200, json!("<html>")), "sign_in", "azure.unreadable"),
        ("get", answer(429, json!("")), "key.readable", "azure.throttled"),
        ("get", Effect { truncate: Some(20), ..Effect::default() }, "key.readable", "azure.unreadable"),
        ("wrapkey", answer(500, json!("")), "key.wrap", "azure.unavailable"),
        ("wrapkey", Effect { wrong_kid: true, ..Effect::default() }, "key.wrap", "fault.wrong_kid"),
        ("unwrapkey", Effect { wrong_kid: true, ..Effect::default() }, "key.unwrap", "fault.wrong_kid"),
        ("unwrapkey", Effect { delay_ms: Some(30_000), ..Effect::default() }, "key.unwrap", "azure.timeout"),
    ] {
        tenant.fault(operation, effect);
        let lines = check_now(&tenant).await;
        let first = first_failure(&lines);
        assert_eq!((first.code, first.reason), (code, Some(reason)), "{first:?}");
        tenant.standin.clear_faults();
    }
}

#[tokio::test]
async fn a_token_that_cannot_be_right_is_named_before_it_is_used() {
    let tenant = Tenant::start().await;
    tenant.fault("token", Effect { expired_token: true, ..Effect::default() });
    let lines = check_now(&tenant).await;
    let first = first_failure(&lines);
    assert_eq!((first.code, first.reason), ("token.claims", Some("token.expired")), "{first:?}");
    assert_eq!(tenant.standin.stats().operations("get"), 0);
}

#[tokio::test]
async fn a_clock_that_is_off_is_a_warning_with_how_far() {
    let tenant = Tenant::start().await;
    // A secret that was there before any of these clocks.
    let old = json!({"startDateTime": "2020-01-01T00:00:00Z", "endDateTime": "2090-01-01T00:00:00Z"});
    let (old, _) = tenant.add_secret(old).await;
    // Seconds may pass between Azure's answer and our look at the clock.
    for (skew, words) in [(-635, "10 min 3"), (7530, "2 h 5 min behind")] {
        tenant.fault_at("login.microsoftonline.com", Effect { date_skew_seconds: skew, ..Effect::default() });
        let keys = tenant.keys();
        let lines = check_with(&tenant, &keys, |input| input.credential = CredentialInput::Secret(&old)).await;
        let line = find(&lines, "token.clock");
        assert_eq!((line.status, line.reason), (CheckStatus::Warn, Some("clock.skew")), "{line:?}");
        let cause = line.cause.as_deref().expect("a cause");
        assert!(cause.contains(words), "{cause}");
        tenant.standin.clear_faults();
    }
}

#[tokio::test]
async fn a_wrong_clock_of_ours_does_not_make_the_key_expired() {
    let tenant = Tenant::start().await;
    let now = Timestamp::now();
    let end = now + SignedDuration::from_hours(24 * 60);
    tenant.change_key(json!({"attributes": {"exp": end.as_second()}})).await;
    let input = AzureInput {
        client_id: &tenant.client_id,
        tenant_id: &tenant.standin.admin().tenant_id,
        credential: CredentialInput::Secret(&tenant.secret),
        vault_url: URL,
        vault_key_name: KEY,
        credential_expires: Some(end),
    };
    let in_a_year = now + SignedDuration::from_hours(24 * 365);
    let lines = check(&tenant.keys(), &input, in_a_year, 4096, &|_| ()).await;
    for code in ["key.dates", "credential.expiry"] {
        assert_eq!(status(&lines, code), CheckStatus::Pass, "{:?}", find(&lines, code));
    }
    assert_eq!(find(&lines, "token.clock").reason, Some("clock.skew"));
}

#[tokio::test]
async fn the_end_of_the_credential_is_told_thirty_days_ahead() {
    let tenant = Tenant::start().await;
    let keys = tenant.keys();
    let now = Timestamp::now();
    for (days, status, reason) in [
        (60, CheckStatus::Pass, None),
        (29, CheckStatus::Warn, Some("credential.ends_soon")),
        (-1, CheckStatus::Fail, Some("credential.past_its_date")),
    ] {
        let end = now + SignedDuration::from_hours(24 * days);
        let lines = check_with(&tenant, &keys, |input| input.credential_expires = Some(end)).await;
        let line = find(&lines, "credential.expiry");
        assert_eq!((line.status, line.reason), (status, reason), "{line:?}");
        assert!(line.cause.as_deref().is_some_and(|cause| cause.contains(&end.to_string())), "{line:?}");
    }
}

#[tokio::test]
async fn key_versions_are_counted_over_all_pages() {
    let tenant = Tenant::start().await;
    // Curves are made faster; only the newest has to be of use.
    for _ in 0..26 {
        tenant.create_key(KEY, "EC", 0).await;
    }
    tenant.create_key(KEY, "RSA", 4096).await;
    let lines = check_now(&tenant).await;
    let line = find(&lines, "key.versions");
    assert_eq!(line.status, CheckStatus::Pass, "{line:?}");
    assert!(line.cause.as_deref().is_some_and(|cause| cause.contains("28 key versions: 28 enabled")), "{line:?}");
}

#[tokio::test]
async fn a_key_version_that_azure_does_not_list_is_a_warning() {
    let tenant = Tenant::start().await;
    tenant.fault("versions", answer(200, json!({"value": []})));
    let lines = check_now(&tenant).await;
    let line = find(&lines, "key.versions");
    assert_eq!((line.status, line.reason), (CheckStatus::Warn, Some("key.version_unlisted")), "{line:?}");
}

#[tokio::test]
async fn no_line_repeats_the_secret() {
    let tenant = Tenant::start().await;
    let echo = json!({"error": "invalid_client", "error_description": format!("AADSTS7000215: {} is wrong", tenant.secret), "error_codes": [7_000_215]});
    tenant.fault("token", answer(401, echo));
    let lines = check_now(&tenant).await;
    assert_eq!(first_failure(&lines).reason, Some("credential.refused"));
    assert!(!format!("{lines:?}").contains(&tenant.secret));
}

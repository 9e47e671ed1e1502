//! Everything between here and Azure fails, one thing after another: each is an outage with its own code, and each call
//! is over before its deadline. And what Azure answers when it works: receipts, tokens, faults.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use azure_standin::Effect;
use serde_json::json;
use strongroom_keys::azure::{AzureAccess, AzureConfig, AzureKeys, AzureProvider, Cloud};
use strongroom_keys::{Class, INTERACTIVE, KeyFailure, KeyProvider, Step, TokenUse, VaultUrl, Wrapped};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::contract::sample;
use crate::tenant::{HOST, Tenant, answer};

/// How much later than its deadline a call may end on a busy machine.
const SLACK: Duration = Duration::from_secs(1);

async fn wrapped(provider: &AzureProvider) -> Wrapped {
    provider.wrap_key(&sample().1, INTERACTIVE).await.expect("a wrap")
}

/// An unwrap that fails, and how long that took.
async fn fail(provider: &AzureProvider, wrapped: &Wrapped, deadline: Duration) -> (KeyFailure, Duration) {
    let start = Instant::now();
    let result = provider.unwrap_key(&wrapped.kid, &wrapped.bytes, TokenUse::Cached, deadline).await;
    let elapsed = start.elapsed();
    let failure = result.map(|_| ()).expect_err("no unwrap");
    assert!(elapsed < deadline + SLACK, "{failure} took {elapsed:?} of {deadline:?}");
    (failure, elapsed)
}

#[tokio::test]
async fn every_bad_answer_is_an_outage_with_its_code() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let wrapped = wrapped(&provider).await;
    let html = json!("<!DOCTYPE html><html><body>Access denied by the gateway: KeyDisabled</body></html>");
    let cut = json!("{\"error\":{\"code\":\"Forbidden\",\"message\":\"Operation unwrapKey is not allow");
    for (effect, code) in [
        (answer(500, json!({"error": {"code": "InternalServerError", "message": "?"}})), "azure.unavailable"),
        (answer(503, json!("")), "azure.unavailable"),
        (answer(408, json!("")), "azure.timeout"),
        (answer(429, json!({"error": {"code": "Throttled", "message": "too many requests"}})), "azure.throttled"),
        (answer(403, html.clone()), "azure.unreadable"),
        (answer(404, html.clone()), "azure.unreadable"),
        (answer(401, html.clone()), "azure.unreadable"),
        (answer(403, cut), "azure.unreadable"),
        (answer(403, json!("")), "azure.unreadable"),
        (answer(200, html), "azure.unreadable"),
        (Effect { drop: true, ..Effect::default() }, "azure.unreachable"),
    ] {
        tenant.fault("unwrapkey", effect);
        let (failure, _) = fail(&provider, &wrapped, INTERACTIVE).await;
        assert_eq!((failure.code.as_str(), failure.class), (code, Class::Outage), "{failure}");
        tenant.standin.clear_faults();
    }
    provider.unwrap_key(&wrapped.kid, &wrapped.bytes, TokenUse::Cached, INTERACTIVE).await.expect("an unwrap");
}

#[tokio::test]
async fn a_passing_error_is_retried_and_a_denial_is_not() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let wrapped = wrapped(&provider).await;
    for effect in [answer(503, json!("")), answer(429, json!("")), Effect { drop: true, ..Effect::default() }] {
        tenant.fault_times("unwrapkey", effect, Some(1));
        let unwrapped = provider.unwrap_key(&wrapped.kid, &wrapped.bytes, TokenUse::Cached, INTERACTIVE).await;
        let receipts = unwrapped.expect("an unwrap").receipts;
        assert_eq!(receipts.len(), 2, "{receipts:?}");
        tenant.standin.clear_faults();
    }
    tenant.set_enabled(false).await;
    let (failure, _) = fail(&provider, &wrapped, INTERACTIVE).await;
    assert_eq!(failure.receipts.len(), 1);
}

#[tokio::test]
async fn retry_after_is_kept_if_it_fits_and_reported_if_it_does_not() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let wrapped = wrapped(&provider).await;
    let throttled = |seconds| Effect { retry_after: Some(seconds), ..answer(429, json!("")) };

    tenant.fault_times("unwrapkey", throttled(1), Some(1));
    let start = Instant::now();
    provider.unwrap_key(&wrapped.kid, &wrapped.bytes, TokenUse::Cached, INTERACTIVE).await.expect("an unwrap");
    assert!(start.elapsed() >= Duration::from_secs(1));

    tenant.fault("unwrapkey", throttled(60));
    let (failure, elapsed) = fail(&provider, &wrapped, INTERACTIVE).await;
    assert_eq!((failure.code.as_str(), failure.retry_after), ("azure.throttled", Some(Duration::from_secs(60))));
    assert!(elapsed < Duration::from_secs(1), "it waited {elapsed:?} for nothing");
}

#[tokio::test]
async fn a_silent_azure_is_given_up_at_the_deadline() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let wrapped = wrapped(&provider).await;
    tenant.fault("unwrapkey", Effect { delay_ms: Some(30_000), ..Effect::default() });
    for deadline in [Duration::from_millis(300), Duration::from_secs(4)] {
        let (failure, elapsed) = fail(&provider, &wrapped, deadline).await;
        assert_eq!((failure.code.as_str(), failure.class), ("azure.timeout", Class::Outage));
        assert!(elapsed >= deadline.min(Duration::from_secs(3)), "{elapsed:?}");
        assert!(failure.receipts.iter().all(|receipt| receipt.latency > Duration::ZERO));
    }
}

#[tokio::test]
async fn who_waits_for_another_callers_sign_in_is_told_of_a_timeout() {
    let tenant = Tenant::start().await;
    let wrapped = wrapped(&tenant.provider()).await;
    tenant.fault("token", Effect { delay_ms: Some(30_000), ..Effect::default() });
    let provider = tenant.provider();
    let all = (0..3).map(|_| fail(&provider, &wrapped, Duration::from_secs(1)));
    for (failure, _) in futures_util::future::join_all(all).await {
        assert_eq!((failure.code.as_str(), failure.class), ("azure.timeout", Class::Outage), "{failure}");
    }
}

#[tokio::test]
async fn a_token_refused_too_late_to_get_another_denies_nothing() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let wrapped = wrapped(&provider).await;
    tenant.fault("unwrapkey", crate::denial::unauthorized());
    tenant.fault("token", Effect { delay_ms: Some(30_000), ..Effect::default() });
    let (failure, _) = fail(&provider, &wrapped, Duration::from_secs(1)).await;
    assert_eq!((failure.code.as_str(), failure.class), ("azure.timeout", Class::Outage), "{failure}");
}

#[tokio::test]
async fn one_connection_that_died_silently_does_not_cost_the_call() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let wrapped = wrapped(&provider).await;
    tenant.fault_times("unwrapkey", Effect { delay_ms: Some(30_000), ..Effect::default() }, Some(1));
    let unwrapped = provider.unwrap_key(&wrapped.kid, &wrapped.bytes, TokenUse::Cached, INTERACTIVE).await;
    assert_eq!(unwrapped.expect("an unwrap").receipts.len(), 2);
}

#[tokio::test]
async fn a_black_hole_for_a_proxy_is_given_up_at_the_deadline() {
    let tenant = Tenant::start().await;
    let wrapped = wrapped(&tenant.provider()).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let proxy = format!("http://{}", silent.local_addr().expect("an address"));
    let config = AzureConfig { proxy: Some(proxy.parse().expect("a URL")), ..tenant.config() };
    let provider = AzureKeys::new(&config).expect("a configuration").provider(tenant.access());
    let (failure, _) = fail(&provider, &wrapped, Duration::from_secs(3)).await;
    assert_eq!((failure.code.as_str(), failure.class), ("azure.timeout", Class::Outage), "{failure}");
}

#[tokio::test]
async fn an_untrusted_certificate_fails_at_once_and_names_its_issuer() {
    let tenant = Tenant::start().await;
    let wrapped = wrapped(&tenant.provider()).await;
    let config = AzureConfig { ca_pem: None, ..tenant.config() };
    let provider = AzureKeys::new(&config).expect("a configuration").provider(tenant.access());
    let (failure, elapsed) = fail(&provider, &wrapped, INTERACTIVE).await;
    assert_eq!((failure.code.as_str(), failure.class), ("tls.untrusted", Class::Outage), "{failure}");
    assert!(failure.detail.contains("issued by CN="), "{}", failure.detail);
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
    assert_eq!(failure.receipts.len(), 1, "trying again cannot help");
}

#[tokio::test]
async fn a_proxy_that_is_away_or_refuses_is_named() {
    let tenant = Tenant::start().await;
    let wrapped = wrapped(&tenant.provider()).await;

    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let config = AzureConfig { proxy: Some(format!("http://{closed}").parse().expect("a URL")), ..tenant.config() };
    let provider = AzureKeys::new(&config).expect("a configuration").provider(tenant.access());
    let (failure, elapsed) = fail(&provider, &wrapped, INTERACTIVE).await;
    assert_eq!(failure.code.as_str(), "proxy.unreachable", "{failure}");
    assert!(elapsed < SLACK, "{elapsed:?}");

    let vault_url = VaultUrl::parse("https://absent-kv.vault.azure.net", Cloud::Public).expect("a URL");
    let provider = tenant.keys().provider(AzureAccess { vault_url, ..tenant.access() });
    let failure = provider.describe(INTERACTIVE).await.expect_err("no description");
    assert_eq!((failure.code.as_str(), failure.class), ("proxy.refused", Class::Outage), "{failure}");
}

/// A proxy that reads the CONNECT, says `answer` and closes the connection.
async fn brusque_proxy(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1024];
            if stream.read(&mut head).await.is_ok() {
                // The client may be gone already; the next one gets the same answer.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn a_proxy_that_asks_for_credentials_is_told_from_one_that_breaks_tls() {
    let tenant = Tenant::start().await;
    for (answer, code, words) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "proxy.refused", "asks for credentials"),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "proxy.refused", "CONNECT acme-kv.vault.azure.net:443"),
        ("HTTP/1.1 200 Connection established\r\n\r\n", "tls.failed", "TLS handshake"),
        ("HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 400 Bad Request\r\n\r\n", "tls.failed", HOST),
    ] {
        let proxy = brusque_proxy(answer).await;
        let config = AzureConfig { proxy: Some(proxy.parse().expect("a URL")), ..tenant.config() };
        let provider = AzureKeys::new(&config).expect("a configuration").provider(tenant.access());
        let failure = provider.describe(INTERACTIVE).await.expect_err("no description");
        assert_eq!((failure.code.as_str(), failure.class), (code, Class::Outage), "{answer}: {failure}");
        assert!(failure.detail.contains(words), "{failure}");
    }
}

#[test]
fn a_proxy_in_the_environment_is_ignored() {
    let this = std::env::current_exe().expect("this test's program");
    let output = std::process::Command::new(this)
        .args(["--exact", "network::a_host_name_that_does_not_resolve_is_named"])
        .envs([("HTTPS_PROXY", "http://127.0.0.1:1"), ("ALL_PROXY", "http://127.0.0.1:1")])
        .output()
        .expect("the other test runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
async fn a_host_name_that_does_not_resolve_is_named() {
    let tenant = Tenant::start().await;
    let keys = AzureKeys::new(&AzureConfig::default()).expect("a configuration");
    let vault_url = VaultUrl::parse("https://no-such-kv-3f9a.vault.azure.net", Cloud::Public).expect("a URL");
    let provider = keys.provider(AzureAccess { vault_url, ..tenant.access() });
    let failure = provider.describe(INTERACTIVE).await.expect_err("no description");
    assert_eq!(failure.class, Class::Outage, "{failure}");
    // A machine whose resolver is out of reach hears nothing instead of a no.
    assert!(["dns.unknown_host", "azure.timeout"].contains(&failure.code.as_str()), "{failure}");
    assert!(failure.detail.contains("no-such-kv-3f9a.vault.azure.net"), "{failure}");
}

#[tokio::test]
async fn a_host_of_another_cloud_is_never_contacted() {
    let tenant = Tenant::start().await;
    let config = AzureConfig { cloud: Cloud::Government, ..tenant.config() };
    let provider = AzureKeys::new(&config).expect("a configuration").provider(tenant.access());
    let before = tenant.standin.stats();
    let failure = provider.describe(INTERACTIVE).await.expect_err("no description");
    assert_eq!((failure.code.as_str(), failure.class), ("fault.host_not_allowed", Class::Fault), "{failure}");
    assert_eq!(tenant.standin.stats(), before);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let wrapped = wrapped(&provider).await;
    let headers = [("Location".to_owned(), "https://graph.microsoft.com/v1.0/me".to_owned())].into();
    tenant.fault("unwrapkey", Effect { headers, ..answer(307, json!("")) });
    let before = tenant.standin.stats().requests.get("graph.microsoft.com").cloned();
    let (failure, _) = fail(&provider, &wrapped, INTERACTIVE).await;
    assert_eq!((failure.code.as_str(), failure.class), ("azure.redirected", Class::Outage));
    assert_eq!(tenant.standin.stats().requests.get("graph.microsoft.com").cloned(), before);
}

#[tokio::test]
async fn an_answer_about_another_key_or_of_a_wrong_length_is_a_fault() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let wrapped = wrapped(&provider).await;
    let kid = wrapped.kid.to_string();
    let other = format!("https://{HOST}/keys/another/0123456789abcdef0123456789abcdef");
    for (body, code) in [
        (json!({"kid": other, "value": "AAAA"}), "fault.wrong_kid"),
        (json!({"value": "AAAA"}), "fault.wrong_kid"),
        (json!({"kid": kid, "value": "AAAA"}), "fault.wrong_length"),
        (json!({"kid": kid}), "fault.wrong_length"),
    ] {
        tenant.fault("unwrapkey", answer(200, body));
        let (failure, _) = fail(&provider, &wrapped, INTERACTIVE).await;
        assert_eq!((failure.code.as_str(), failure.class), (code, Class::Fault), "{failure}");
        assert!(failure.azure_request_id.is_some());
        tenant.standin.clear_faults();
    }
    tenant.fault("wrapkey", answer(200, json!({"kid": other, "value": "AAAA"})));
    let failure = provider.wrap_key(&sample().1, INTERACTIVE).await.expect_err("no wrap");
    assert_eq!((failure.code.as_str(), failure.class), ("fault.wrong_kid", Class::Fault));
}

#[tokio::test]
async fn every_request_leaves_a_receipt() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let receipts = wrapped(&provider).await.receipts;
    let steps: Vec<_> = receipts.iter().map(|receipt| receipt.step).collect();
    assert_eq!(steps, [Step::Challenge, Step::SignIn, Step::WrapKey]);
    let ours: HashSet<_> = receipts.iter().map(|receipt| receipt.our_request_id).collect();
    assert_eq!(ours.len(), 3, "each request has an id of its own");
    for receipt in &receipts {
        assert!(receipt.azure_request_id.is_some() && receipt.latency > Duration::ZERO, "{receipt:?}");
    }
    assert_eq!(receipts[2].region.as_deref(), Some("westeurope"));
    assert_eq!((receipts[2].host.as_str(), receipts[2].status), (HOST, Some(200)));
}

#[tokio::test]
async fn a_token_is_fetched_once_and_reused_unless_a_fresh_one_is_asked_for() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let wrapped = wrapped(&tenant.provider()).await;
    let before = tokens(&tenant);
    let all = (0..20).map(|_| provider.unwrap_key(&wrapped.kid, &wrapped.bytes, TokenUse::Cached, INTERACTIVE));
    for unwrapped in futures_util::future::join_all(all).await {
        unwrapped.expect("an unwrap");
    }
    assert_eq!(tokens(&tenant) - before, 1, "twenty callers, one sign-in");
    provider.unwrap_key(&wrapped.kid, &wrapped.bytes, TokenUse::Fresh, INTERACTIVE).await.expect("an unwrap");
    assert_eq!(tokens(&tenant) - before, 2);
    provider.unwrap_key(&wrapped.kid, &wrapped.bytes, TokenUse::Cached, INTERACTIVE).await.expect("an unwrap");
    assert_eq!(tokens(&tenant) - before, 2, "the fresh token is the cached one from now on");
}

fn tokens(tenant: &Tenant) -> u64 {
    tenant.standin.stats().requests.get("login.microsoftonline.com").map_or(0, |statuses| statuses.values().sum())
}

#[test]
fn a_configuration_that_cannot_work_is_refused_at_the_start() {
    let proxy = Some("ftp://proxy:21".parse().expect("a URL"));
    let refused = AzureKeys::new(&AzureConfig { proxy, ..AzureConfig::default() });
    assert!(refused.err().is_some_and(|error| error.to_string().contains("azure.proxy")));
    for pem in ["", "no PEM at all", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let ca_pem = Some(pem.as_bytes().to_vec());
        assert!(AzureKeys::new(&AzureConfig { ca_pem, ..AzureConfig::default() }).is_err(), "{pem}");
    }
}

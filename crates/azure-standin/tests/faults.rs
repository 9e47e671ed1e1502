//! Faults on order, as clients see them.

mod support;

use std::time::Duration;

use azure_standin::{Effect, Fault, Match, Preset};
use serde_json::{Value, json};
use support::{App, Azure, VAULT, b64, client, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SECRET: &[u8] = b"thirty-two bytes of a vault key!";
const LOGIN: &str = "login.microsoftonline.com";

fn order(azure: &Azure, matching: Match, effect: Effect) {
    azure.standin.set_fault(Fault { matching, effect, ..Fault::default() });
}

fn on(operation: &str) -> Match {
    Match { operation: Some(operation.into()), ..Match::default() }
}

fn at(host: &str) -> Match {
    Match { host: Some(host.into()), ..Match::default() }
}

fn preset(preset: Preset) -> Effect {
    Effect { preset: Some(preset), ..Effect::default() }
}

async fn set_up() -> (Azure, App, String) {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    let token = azure.app_token(&app).await;
    (azure, app, token)
}

/// The error of a request that gets no whole answer, with all of its causes.
async fn broken(azure: &Azure, token: &str) -> String {
    let body = json!({"alg": "RSA-OAEP-256", "value": b64(SECRET)});
    let url = format!("{VAULT}/keys/app-key/wrapkey?api-version=7.5");
    let error = azure.try_send("POST", &url, Some(token), body).await.err().expect("the fault breaks it");
    format!("{error:?}")
}

#[tokio::test]
async fn faults_on_order_strike_what_they_name_and_no_challenge() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    let token = azure.app_token(&app).await;
    let value = azure.wrap(&token, SECRET).await.expect(200).json()["value"].clone();
    let effect =
        Effect { status: Some(503), body: Some(json!("<h1>busy</h1>")), retry_after: Some(9), ..Effect::default() };
    let matching = Match { operation: Some("unwrapkey".into()), kid: Some(app.key_id.clone()), ..Match::default() };
    azure.standin.set_fault(Fault { matching, effect, times: Some(1), ..Fault::default() });
    azure.send("POST", &format!("{}/unwrapkey?api-version=7.5", app.key_id), None, Value::Null).await.expect(401);
    azure.wrap(&token, SECRET).await.expect(200);
    let struck = azure.unwrap(&token, &app.key_id, &value).await.expect(503);
    assert_eq!((struck.text.as_str(), struck.header("retry-after")), ("<h1>busy</h1>", "9"));
    azure.unwrap(&token, &app.key_id, &value).await.expect(200);

    let control = azure.standin.control_url();
    let order = json!({"match": {"operation": "wrapkey"}, "effect": {"drop": true}});
    let plain = reqwest::Client::builder().no_proxy().build().unwrap();
    let ordered = plain.post(format!("{control}/faults")).json(&order).send().await.unwrap();
    assert_eq!(ordered.status(), 204);
    let body = json!({"alg": "RSA-OAEP-256", "value": b64(SECRET)});
    let url = format!("{VAULT}/keys/app-key/wrapkey?api-version=7.5");
    assert!(azure.try_send("POST", &url, Some(&token), body).await.is_err());
    plain.delete(format!("{control}/faults")).send().await.unwrap();
    azure.wrap(&token, SECRET).await.expect(200);
    let stats: azure_standin::Stats = plain.get(format!("{control}/stats")).send().await.unwrap().json().await.unwrap();
    assert_eq!(stats, azure.standin.stats());
    assert_eq!(stats.operations["unwrapkey"], [(200, 1), (503, 1)].into());
}

#[tokio::test]
async fn a_delayed_answer_comes_late_and_right() {
    let (azure, _, token) = set_up().await;
    order(&azure, on("wrapkey"), Effect { delay_ms: Some(300), ..Effect::default() });
    let before = std::time::Instant::now();
    azure.wrap(&token, SECRET).await.expect(200);
    assert!(before.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn azures_own_refusals_come_from_the_place_where_azure_gives_them() {
    let (azure, app, token) = set_up().await;
    let vault = at("kv-one.vault.azure.net");
    order(&azure, vault.clone(), preset(Preset::Firewall));
    azure.send("GET", &format!("{VAULT}/keys/app-key?api-version=7.5"), None, Value::Null).await.expect(401);
    let refused = azure.wrap(&token, SECRET).await.expect(403);
    assert_eq!(refused.inner(), "ForbiddenByFirewall");
    assert!(refused.message().contains("Client address: 127.0.0.1\r\n"), "{}", refused.message());
    azure.standin.clear_faults();
    order(&azure, vault.clone(), preset(Preset::PrivateLink));
    assert_eq!(azure.wrap(&token, SECRET).await.expect(403).inner(), "ForbiddenByConnection");
    azure.standin.clear_faults();

    order(&azure, on("wrapkey"), preset(Preset::Throttled));
    let throttled = azure.wrap(&token, SECRET).await.expect(429);
    assert_eq!((throttled.code(), throttled.header("retry-after")), ("Throttled".into(), ""));
    azure.standin.clear_faults();
    order(&azure, on("wrapkey"), Effect { retry_after: Some(7), ..preset(Preset::Throttled) });
    assert_eq!(azure.wrap(&token, SECRET).await.expect(429).header("retry-after"), "7");
    azure.standin.clear_faults();

    order(&azure, vault, preset(Preset::Unavailable));
    let page = azure.wrap(&token, SECRET).await.expect(503);
    assert!(page.header("content-type").starts_with("text/html") && page.text.contains("HTTP Error 503"));
    azure.standin.clear_faults();

    order(&azure, on("token"), preset(Preset::ConditionalAccess));
    let scope = "https://vault.azure.net/.default";
    let wrong = azure.sign_in(&app.tenant, &app.client, "wrong", scope).await.expect(401).json();
    assert_eq!(wrong["error_codes"], json!([7_000_215]), "the credential is judged first");
    let blocked = azure.sign_in(&app.tenant, &app.client, &app.secret, scope).await.expect(400).json();
    assert_eq!(blocked["error_codes"], json!([53_003]));
}

#[tokio::test]
async fn a_truncated_answer_is_announced_whole_and_breaks_off() {
    let (azure, _, token) = set_up().await;
    order(&azure, on("get"), Effect { truncate: Some(10), ..Effect::default() });
    let request = azure.http.get(format!("{VAULT}/keys/app-key?api-version=7.5")).bearer_auth(&token);
    let mut response = request.send().await.unwrap();
    assert!(response.content_length().is_some_and(|length| length > 10));
    assert_eq!(response.chunk().await.unwrap().as_deref(), Some(&b"{\"attribut"[..]));
    response.chunk().await.unwrap_err();
    azure.standin.clear_faults();
    order(&azure, on("wrapkey"), Effect { truncate: Some(0), ..Effect::default() });
    broken(&azure, &token).await;
}

#[tokio::test]
async fn a_wrong_kid_names_a_key_version_that_does_not_exist() {
    let (azure, app, token) = set_up().await;
    order(&azure, on("wrapkey"), Effect { wrong_kid: true, ..Effect::default() });
    let wrapped = azure.wrap(&token, SECRET).await.expect(200).json();
    let wrong = text(&wrapped["kid"]);
    assert_ne!(wrong, app.key_id);
    azure.unwrap(&token, &wrong, &wrapped["value"]).await.expect(404);
    azure.unwrap(&token, &app.key_id, &wrapped["value"]).await.expect(200);
}

#[tokio::test]
async fn an_expired_token_is_handed_out_as_good_and_refused_with_a_challenge() {
    let (azure, app, _) = set_up().await;
    order(&azure, on("token"), Effect { expired_token: true, ..Effect::default() });
    let token = azure.app_token(&app).await;
    assert!(azure.wrap(&token, SECRET).await.expect(401).header("www-authenticate").starts_with("Bearer "));
    azure.standin.clear_faults();
    azure.wrap(&azure.app_token(&app).await, SECRET).await.expect(200);
}

#[tokio::test]
async fn a_skewed_clock_shows_in_the_date_and_in_the_token() {
    let (azure, app, token) = set_up().await;
    order(&azure, at(LOGIN), Effect { date_skew_seconds: 3600, ..Effect::default() });
    let scope = "https://vault.azure.net/.default";
    let answer = azure.sign_in(&app.tenant, &app.client, &app.secret, scope).await.expect(200);
    let date = jiff::fmt::rfc2822::parse(answer.header("date")).unwrap().timestamp();
    let ahead = date.as_second() - azure.standin_now();
    assert_eq!(ahead, 3600);
    let early = azure.wrap(&text(&answer.json()["access_token"]), SECRET).await.expect(401);
    assert_eq!(early.code(), "Unauthorized");
    order(&azure, at("kv-one.vault.azure.net"), Effect { date_skew_seconds: -86_400, ..Effect::default() });
    let wrapped = azure.wrap(&token, SECRET).await.expect(200);
    let date = jiff::fmt::rfc2822::parse(wrapped.header("date")).unwrap().timestamp();
    assert_eq!(date.as_second() - azure.standin_now(), -86_400);
}

#[tokio::test]
async fn a_fault_at_connect_strikes_its_host_and_no_request() {
    let (azure, app, token) = set_up().await;
    let connect = |host: &'static str, effect: Effect| {
        azure.standin.clear_faults();
        order(&azure, at(host), effect);
    };
    let status = |status| Effect { connect_status: Some(status), ..Effect::default() };
    let proxy = azure.standin.proxy_url();
    for (code, line) in [(407, "HTTP/1.1 407 Proxy Authentication Required\r\n"), (403, "HTTP/1.1 403 Forbidden\r\n")] {
        connect("kv-one.vault.azure.net", status(code));
        let mut stream = TcpStream::connect(proxy.trim_start_matches("http://")).await.unwrap();
        stream.write_all(b"CONNECT kv-one.vault.azure.net:443 HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(line), "{answer}");
        assert_eq!(answer.contains("proxy-authenticate: Basic"), code == 407, "{answer}");
    }
    // The pooled connection of before is past its CONNECT.
    azure.wrap(&token, SECRET).await.expect(200);
    azure.token(azure.standin.admin(), "https://vault.azure.net").await;

    connect(LOGIN, Effect { hang: true, ..Effect::default() });
    let fresh = client(&azure.standin);
    let url = format!("https://{LOGIN}/{}/v2.0/.well-known/openid-configuration", app.tenant);
    let error = fresh.get(url).timeout(Duration::from_millis(500)).send().await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    fresh.get(format!("{VAULT}/keys")).send().await.unwrap();
}

#[tokio::test]
async fn an_inspecting_proxy_shows_a_certificate_that_nobody_trusts() {
    let (azure, _, _) = set_up().await;
    let untrusted = Effect { untrusted_ca: Some("Example Corp TLS Inspection".into()), ..Effect::default() };
    order(&azure, at("kv-one.vault.azure.net"), untrusted);
    let fresh = client(&azure.standin);
    let error = fresh.get(format!("{VAULT}/keys")).send().await.unwrap_err();
    assert!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");
}

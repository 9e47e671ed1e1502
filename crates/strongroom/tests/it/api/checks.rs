//! Checks of a key in Azure over REST: in one answer, or one a line as they are made.

use axum::{
    body::{Body, to_bytes},
    http::header,
};
use serde_json::{Value, json};
use strongroom::access::Role;
use strongroom_keys::check::LINES;
use tower::ServiceExt;

use super::{Api, POST, here, request};
use crate::world::on_both_engines;

const NDJSON: &str = "application/x-ndjson";

/// Values with a mistake, so that nothing is sent anywhere.
fn mistaken() -> Value {
    json!({"azure": {
        "client_id": "object id",
        "tenant_id": "12345678-90ab-cdef-1234-567890abcdef",
        "client_secret": "abc8Q~def",
        "vault_url": "https://acme-kv.vault.azure.net",
        "vault_key_name": "kek",
    }})
}

async fn lines(api: &Api, token: &str) -> (u16, String, String) {
    let asked = request(token, POST, &here("/vaults/check")).header(header::ACCEPT, NDJSON);
    let asked = asked.body(Body::from(mistaken().to_string())).expect("a request");
    let answer = api.router.clone().oneshot(asked).await.expect("the router answers");
    let (parts, body) = answer.into_parts();
    let kind = parts.headers[header::CONTENT_TYPE].to_str().expect("plain text").to_owned();
    let text = to_bytes(body, 1 << 20).await.expect("the body ends");
    (parts.status.as_u16(), kind, String::from_utf8(text.to_vec()).expect("UTF-8"))
}

#[test]
fn checks_come_in_one_answer_or_one_a_line_and_are_the_same() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        let whole = api.ask(POST, "/vaults/check", mistaken()).await;
        assert_eq!(whole.status, 200, "{}", whole.body);
        let first = &whole.body["checks"][0];
        assert_eq!((&first["code"], &first["status"]), (&json!("form.client_id"), &json!("fail")));
        assert_eq!((&first["reason"], &first["title"]), (&json!("not_a_guid"), &json!("Client ID is well-formed")));
        assert_eq!(whole.body["checks"][LINES.len() - 1]["status"], "skipped");

        let (status, kind, text) = lines(&api, &api.token).await;
        assert_eq!((status, kind.as_str()), (200, NDJSON));
        let mut told: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(told.pop(), Some(json!({"end": true})));
        assert_eq!(json!(told), whole.body["checks"]);
    });
}

#[test]
fn who_may_not_check_is_refused_before_a_line_is_sent() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        let (_, user) = api.member("Uma", Role::User).await;
        let (status, kind, text) = lines(&api, &user).await;
        assert_eq!((status, kind.as_str()), (403, "application/problem+json"), "{text}");
    });
}

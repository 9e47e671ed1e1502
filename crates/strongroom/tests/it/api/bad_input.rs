//! What cannot be taken: named by its field, never repeated, nothing lost.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::{Value, json};
use strongroom::id::WorkspaceId;
use uuid::Uuid;

use super::{Api, GET, POST, account, here, request};
use crate::world::on_both_engines;

#[test]
fn bad_bodies_are_refused_by_name_and_never_repeated() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        let named = |name: &str, value: Value| {
            let mut item = account("hunter2");
            item[name] = value;
            item
        };
        let field = |value: String| json!([{"name": "a", "kind": "text", "value": value}]);
        let refused = [
            ("/items", named("title", json!("")), "title"),
            ("/items", named("title", json!(" \n ")), "title"),
            ("/items", named("title", json!("hunter2".repeat(100))), "title"),
            ("/items", named("title", json!(4711)), "title"),
            ("/items", named("fields", field("hunter2".repeat((1 << 20) / 7))), "fields.0.value"),
            ("/items", named("fields", json!("hunter2")), "fields"),
            ("/items", named("kind", json!("hunter2")), "kind"),
            ("/items", named("colour", json!("hunter2")), "colour"),
            ("/items", named("vault_id", json!("hunter2")), "vault_id"),
            ("/vaults", json!({"name": " ", "strategy": "cloud"}), "name"),
            ("/vaults", json!({"name": "hunter2".repeat(100), "strategy": "cloud"}), "name"),
            ("/vaults", json!({"name": "a", "strategy": "azure_external_keys"}), "azure"),
            ("/vaults", json!({"name": "a", "strategy": "hunter2"}), "strategy"),
            ("/members", json!({"email": "hunter2", "name": "a", "role": "user"}), "email"),
            ("/members", json!({"email": "a@example.com", "name": "", "role": "user"}), "name"),
        ];
        for (path, body, field) in refused {
            let answer = api.ask(POST, path, body).await;
            assert_eq!(answer.problem(), (422, "invalid"), "{path} {field}");
            assert!(answer.fields().contains(&field), "{path} {field}: {}", answer.body);
            let text = answer.body.to_string();
            assert!(!text.contains("hunter2") && !text.contains("4711"), "{text}");
        }
    });
}

#[test]
fn bodies_that_are_too_large_or_no_json_are_refused() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        let huge = "x".repeat(10 << 20);
        for (path, body) in [
            ("/items", account(&huge)),
            ("/vaults", json!({"name": huge, "strategy": "cloud"})),
            ("/members", json!({"email": "a@example.com", "name": huge, "role": "user"})),
        ] {
            assert_eq!(api.ask(POST, path, body).await.problem(), (413, "body.too_large"), "{path}");
        }
        let raw = async |body: &'static [u8]| {
            let request = request(&api.token, POST, &here("/items")).body(Body::from(body)).expect("a request");
            let answer = api.raw(request).await;
            assert!(!answer.body.to_string().contains("hunter2"));
            let (status, code) = answer.problem();
            (status, code.to_owned())
        };
        assert_eq!(raw(b"{\"title\": \"hunter2\xff\"}").await, (400, "body.not_utf8".to_owned()));
        assert_eq!(raw(b"{\"title\": \"hunter2\"").await, (400, "body.not_json".to_owned()));
        assert_eq!(raw(b"").await, (400, "body.not_json".to_owned()));
        assert_eq!(raw(b"{\"title\": \"a\\u0000\\ud800hunter2\"}").await, (400, "body.not_json".to_owned()));
        let form = Request::post(here("/items")).header(header::AUTHORIZATION, format!("Bearer {}", api.token));
        assert_eq!(api.send(form, json!({})).await.problem(), (415, "body.media_type"));
    });
}

#[test]
fn an_id_of_another_workspace_looks_like_one_that_names_nothing() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        let (mine, foreign) = (api.account("Mail").await, api.account("Bank").await);
        let elsewhere = Uuid::now_v7();
        let item: Uuid = foreign.parse().expect("an id");
        api.world
            .app
            .store
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO workspaces (id, slug, name, external_keys, require_code, created_at, revision) \
                     VALUES ($1, 'other', 'Other', 1, 0, 0, 1)",
                    &[WorkspaceId(elsewhere).0.into()],
                )?;
                tx.execute("UPDATE items SET workspace_id = $1 WHERE id = $2", &[elsewhere.into(), item.into()])
            })
            .await
            .expect("a second workspace");
        let nothing = Uuid::now_v7().to_string();
        for ask in ["", "/reveal", "/history", "/roles"] {
            let method = if ask == "/reveal" { POST } else { GET };
            let mut answers = Vec::new();
            for id in [foreign.as_str(), &nothing, "no-id", "%20"] {
                let answer = api.ask(method.clone(), &format!("/items/{id}{ask}"), Value::Null).await;
                assert_eq!(answer.problem(), (404, "not_found"), "{id}{ask}");
                answers.push(answer.body);
            }
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        }
        assert_eq!(api.ask(GET, &format!("/items/{mine}"), Value::Null).await.status, 200);
        for slug in ["other", "nowhere", "ACME"] {
            let path = format!("/api/v1/workspaces/{slug}/items/{mine}");
            assert_eq!(api.send(request(&api.token, GET, &path), Value::Null).await.problem(), (404, "not_found"));
        }
    });
}

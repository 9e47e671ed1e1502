//! Vaults, members, the audit log.

use axum::http::header;
use serde_json::{Value, json};
use strongroom::access::Role;

use super::{Api, DELETE, GET, PATCH, POST};
use crate::world::on_both_engines;

#[test]
fn a_cloud_vault_is_made_and_becomes_the_default() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        let made = api.ask(POST, "/vaults", json!({"name": "Team", "strategy": "cloud", "default": true})).await;
        assert_eq!((made.status, &made.body["default"]), (201, &json!(true)), "{}", made.body);
        let again = api.ask(POST, "/vaults", json!({"name": "team", "strategy": "cloud"})).await;
        assert_eq!(again.problem(), (409, "vault.name_taken"));
        let list = api.ask(GET, "/vaults", Value::Null).await;
        let defaults: Vec<_> = list.body["items"].as_array().expect("a list").iter().map(|v| &v["default"]).collect();
        assert_eq!(defaults, [true, false]);
        let vault = format!("/vaults/{}", made.text("id"));
        let undo = api.ask_at(made.header(header::ETAG), PATCH, &vault, json!({"default": false})).await;
        assert_eq!(undo.fields(), ["default"]);
        assert_eq!(api.ask(POST, &format!("{vault}/check"), Value::Null).await.problem(), (409, "vault.not_external"));

        let (_, user) = api.member("Uma", Role::User).await;
        let seen = api.ask_as(&user, GET, &vault, Value::Null).await;
        assert!(seen.status == 200 && seen.body.get("item_count").is_none(), "{}", seen.body);
    });
}

#[test]
fn a_member_is_invited_raised_and_removed() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        let new = json!({"email": "ada@example.com", "name": "Ada", "role": "user"});
        let invited = api.ask(POST, "/members", new.clone()).await;
        assert_eq!((invited.status, &invited.body["member"]["state"]), (201, &json!("invited")));
        assert!(invited.text("link").starts_with("https://strongroom.example/"));
        assert_eq!(api.ask(POST, "/members", new).await.problem(), (409, "member.email_taken"));
        let member = format!("/members/{}", invited.body["member"]["id"].as_str().expect("an id"));
        assert_eq!(api.ask(POST, &format!("{member}/invitation"), Value::Null).await.status, 201);
        let raised = api.ask_at("\"1\"", PATCH, &member, json!({"role": "owner"})).await;
        assert_eq!(raised.problem(), (403, "denied"));
        assert_eq!(api.ask_at("\"1\"", PATCH, &member, json!({"role": "admin"})).await.text("role"), "admin");
        assert_eq!(api.ask(DELETE, &member, Value::Null).await.fields(), ["heir"]);
        let heir = format!("{member}?heir={}", api.owner.member);
        assert_eq!(api.ask(DELETE, &heir, Value::Null).await.status, 204);
        assert_eq!(api.ask(GET, &member, Value::Null).await.problem(), (404, "not_found"));
        assert_eq!(api.ask(GET, "/members", Value::Null).await.body["items"].as_array().map(Vec::len), Some(1));
    });
}

#[test]
fn the_audit_log_says_who_revealed_what_under_which_chain() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        let item = api.account("Mail").await;
        api.world.minutes(1);
        api.ask(POST, &format!("/items/{item}/reveal"), Value::Null).await;
        let page = api.ask(GET, &format!("/audit?action=item.&item_id={item}"), Value::Null).await;
        let events = page.body["items"].as_array().unwrap_or_else(|| panic!("no list in {}", page.body));
        let actions: Vec<_> = events.iter().map(|event| event["action"].as_str().expect("an action")).collect();
        assert_eq!(actions, ["item.reveal", "item.create"]);
        assert_eq!(events[0]["member_id"], json!(api.owner.member));
        assert_eq!(events[0]["hash"].as_str().map(str::len), Some(64));
        assert!(!page.body.to_string().contains("Mail"), "the log holds ids only");

        let first = api.ask(GET, "/audit?limit=1", Value::Null).await;
        let cursor = first.text("next_cursor");
        let second = api.ask(GET, &format!("/audit?limit=1&cursor={cursor}"), Value::Null).await;
        assert_ne!(first.body["items"][0]["id"], second.body["items"][0]["id"]);
        let (_, user) = api.member("Uma", Role::User).await;
        assert_eq!(api.ask_as(&user, GET, "/audit", Value::Null).await.problem(), (403, "denied"));
        let refused = api.ask(GET, "/audit?outcome=refused", Value::Null).await;
        assert_eq!(refused.body["items"][0]["action"], "access.refused");
    });
}

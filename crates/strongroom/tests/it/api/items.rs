//! Items: their life, revisions, pages, shares, imports.

use axum::http::header;
use serde_json::{Value, json};
use strongroom::access::Role;
use uuid::Uuid;

use super::{Api, DELETE, GET, PATCH, POST, PUT, account, here, request};
use crate::world::on_both_engines;

#[test]
fn an_item_is_made_read_revealed_and_edited() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        let made = api.ask(POST, "/items", account("Mail")).await;
        assert_eq!((made.status, made.header(header::ETAG)), (201, "\"1\""));
        let place = made.header(header::LOCATION).to_owned();
        let read = api.send(request(&api.token, GET, &place), Value::Null).await;
        assert_eq!((read.text("title").as_str(), read.text("role").as_str()), ("Mail", "owner"));
        assert!(!read.body.to_string().contains("s3cret"), "an overview holds no values");
        let item = format!("/items/{}", made.text("id"));
        let revealed = api.ask(POST, &format!("{item}/reveal"), Value::Null).await;
        assert_eq!(revealed.body["fields"][0]["value"], "s3cret");

        let change = json!({"title": "Post", "fields": []});
        let edited = api.ask_at("\"1\"", PATCH, &item, change).await;
        assert_eq!((edited.status, edited.header(header::ETAG)), (200, "\"2\""));
        assert_eq!((edited.text("title").as_str(), edited.body["usernames"][0].as_str()), ("Post", Some("ada")));

        let history = api.ask(GET, &format!("{item}/history"), Value::Null).await;
        assert_eq!(history.body["items"][0]["revision"], 2);
        let older = api.ask(POST, &format!("{item}/history/1/reveal"), Value::Null).await;
        assert_eq!(older.body["fields"][0]["value"], "s3cret");
        let restored = api.ask(POST, &format!("{item}/history/1/restore"), Value::Null).await;
        assert_eq!((restored.text("title").as_str(), restored.header(header::ETAG)), ("Mail", "\"3\""));
        assert_eq!(api.ask(POST, &format!("{item}/history/9/reveal"), Value::Null).await.problem().0, 404);
        assert_eq!(api.ask(POST, &format!("{item}/history/x/reveal"), Value::Null).await.problem().0, 404);
    });
}

#[test]
fn an_edit_must_name_the_revision_it_changes() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        let item = format!("/items/{}", api.account("Mail").await);
        let vault = format!(
            "/vaults/{}",
            api.ask(GET, "/vaults", Value::Null).await.body["items"][0]["id"].as_str().expect("one")
        );
        let member = format!("/members/{}", api.member("Uma", Role::User).await.0.member);
        let edits = [
            (item.as_str(), json!({"title": "Post"})),
            (&vault, json!({"name": "Other"})),
            (&member, json!({"role": "admin"})),
            ("", json!({"name": "Acme 2"})),
        ];
        for (path, change) in edits {
            let revision = api.ask(GET, path, Value::Null).await.header(header::ETAG).to_owned();
            let missing = api.ask(PATCH, path, change.clone()).await;
            assert_eq!(missing.problem(), (428, "revision.required"), "{path}");
            let stale = api.ask_at("\"999\"", PATCH, path, change.clone()).await;
            assert_eq!(stale.problem(), (412, "revision.stale"), "{path}");
            for unreadable in ["*", "1", "\"one\"", "W/\"1\"", "\"1\", \"2\""] {
                assert_eq!(api.ask_at(unreadable, PATCH, path, change.clone()).await.fields(), ["If-Match"], "{path}");
            }
            let good = api.ask_at(&revision, PATCH, path, change.clone()).await;
            assert_eq!(good.status, 200, "{path}: {}", good.body);
            assert_ne!(good.header(header::ETAG), revision, "{path}");
            assert_eq!(api.ask_at(&revision, PATCH, path, change).await.problem().0, 412, "{path}");
        }
        assert_eq!(api.ask_at("\"1\"", DELETE, &item, Value::Null).await.problem(), (412, "revision.stale"));
    });
}

#[test]
fn an_item_goes_to_the_trash_and_comes_back() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        let item = format!("/items/{}", api.account("Mail").await);
        assert_eq!(api.ask_at("\"1\"", DELETE, &item, Value::Null).await.status, 204);
        assert!(api.ask(GET, "/items", Value::Null).await.titles().is_empty());
        assert_eq!(api.ask(GET, "/trash", Value::Null).await.titles(), ["Mail"]);
        assert_eq!(api.ask(POST, &format!("{item}/restore"), Value::Null).await.status, 204);
        assert_eq!(api.ask(GET, "/items", Value::Null).await.titles(), ["Mail"]);
    });
}

#[test]
fn pages_give_every_item_once_in_the_order_of_titles() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        for title in ["e", "A", "dq", "c", "B"] {
            api.account(title).await;
        }
        let (mut path, mut seen) = ("/items?limit=2".to_owned(), Vec::new());
        loop {
            let page = api.ask(GET, &path, Value::Null).await;
            seen.extend(page.titles().into_iter().map(str::to_owned));
            let Some(cursor) = page.body["next_cursor"].as_str() else { break };
            path = format!("/items?limit=2&cursor={cursor}");
        }
        assert_eq!(seen, ["A", "B", "c", "dq", "e"]);
        let found = api.ask(POST, "/items/search", json!({"query": "Q", "limit": 1})).await;
        assert_eq!(found.titles(), ["dq"]);
        assert!(found.body.get("next_cursor").is_none(), "nothing else holds a q");
        for (query, field) in [("limit=0", "limit"), ("limit=x", "limit"), ("cursor=x", "cursor"), ("q=x", "q")] {
            let refused = api.ask(GET, &format!("/items?{query}"), Value::Null).await;
            assert_eq!((refused.problem().0, refused.fields()), (422, vec![field]));
        }
    });
}

#[test]
fn a_share_shows_an_item_and_its_end_hides_it() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        let (guest, token) = api.member("Greta", Role::Guest).await;
        let item = format!("/items/{}", api.account("Mail").await);
        api.account("Bank").await;
        let share = format!("{item}/roles/{}", guest.member);
        let see = async || api.ask_as(&token, GET, "/items", Value::Null).await;
        assert!(see().await.titles().is_empty());
        assert_eq!(api.ask(PUT, &share, json!({"role": "viewer"})).await.status, 204);
        assert_eq!(see().await.titles(), ["Mail"]);
        assert_eq!(api.ask_as(&token, POST, &format!("{item}/reveal"), Value::Null).await.status, 200);
        let edit = request(&token, PATCH, &here(&item)).header(header::IF_MATCH, "\"1\"");
        assert_eq!(api.send(edit, json!({"title": "x"})).await.problem(), (403, "denied"));
        assert_eq!(api.ask(PUT, &share, json!({"role": "owner"})).await.fields(), ["role"]);
        let roles = api.ask(GET, &format!("{item}/roles"), Value::Null).await;
        assert_eq!(roles.body["items"].as_array().map(Vec::len), Some(2));
        assert_eq!(api.ask(DELETE, &share, Value::Null).await.status, 204);
        assert!(see().await.titles().is_empty());
    });
}

#[test]
fn a_take_over_is_for_the_owner_of_the_workspace_and_loud() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        let (_, user) = api.member("Uma", Role::User).await;
        let made = api.ask_as(&user, POST, "/items", account("Mail")).await;
        let item = format!("/items/{}", made.text("id"));
        assert_eq!(api.ask(POST, &format!("{item}/reveal"), Value::Null).await.problem(), (404, "not_found"));
        let (_, other) = api.member("Ugo", Role::Admin).await;
        let refused = api.ask_as(&other, POST, &format!("{item}/take-over"), Value::Null).await;
        assert_eq!(refused.problem(), (403, "denied"));
        assert_eq!(api.ask(POST, &format!("{item}/take-over"), Value::Null).await.status, 204);
        assert_eq!(api.ask(POST, &format!("{item}/reveal"), Value::Null).await.status, 200);
        assert_eq!(api.world.events("item.take_over").await, 1);
    });
}

#[test]
fn an_import_says_what_became_of_each_item() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        let nowhere = Uuid::now_v7();
        let mut lost = account("lost");
        lost["vault_id"] = json!(nowhere);
        let batch = json!({"items": [account("one"), account(" "), lost, account("two")]});
        let answer = api.ask(POST, "/items/import", batch).await;
        let outcomes = answer.body["outcomes"].as_array().expect("a list");
        let codes: Vec<_> =
            outcomes.iter().map(|outcome| outcome["problem"]["code"].as_str().unwrap_or("made")).collect();
        assert_eq!(codes, ["made", "invalid", "not_found", "made"]);
        assert_eq!(outcomes[1]["problem"]["errors"][0]["field"], "title");
        assert_eq!(api.ask(GET, "/items", Value::Null).await.titles(), ["one", "two"]);
        assert_eq!(api.world.events("item.create").await, 2);
        let one = outcomes[0]["id"].as_str().expect("an id");
        let revealed = api.ask(POST, &format!("/items/{one}/reveal"), Value::Null).await;
        assert_eq!(revealed.body["fields"][0]["value"], "s3cret");
    });
}

#[test]
fn an_import_takes_500_items_and_a_body_that_others_refuse() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        let mut large = account("large");
        large["fields"][0]["value"] = json!("x".repeat(10_000));
        let body = json!({"items": vec![large; 500]});
        assert!(body.to_string().len() > 4 << 20);
        assert_eq!(api.ask(POST, "/items", body.clone()).await.problem(), (413, "body.too_large"));
        let taken = api.ask(POST, "/items/import", body).await;
        let outcomes = taken.body["outcomes"].as_array().expect("a list");
        assert!(outcomes.len() == 500 && outcomes.iter().all(|outcome| outcome["id"].is_string()));
        let many = api.ask(POST, "/items/import", json!({"items": vec![account("x"); 501]})).await;
        assert_eq!(many.fields(), ["items"]);
    });
}

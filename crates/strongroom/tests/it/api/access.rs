//! Who may ask what: every route of the table, without a token and as a Guest; sign-in and tokens.

use axum::http::header;
use serde_json::{Value, json};
use strongroom::{
    access::{Action, ItemRole, Role, Target, allowed},
    http::{self, routes::Needs},
};

use super::{Api, DELETE, GET, POST, filled, request};
use crate::world::{PASSWORD, email, on_both_engines};

#[test]
fn every_route_without_a_good_token_answers_401() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        let mut guarded = 0;
        for route in http::routes().list() {
            let Needs::Token(_) = route.needs else { continue };
            guarded += 1;
            for token in ["", "srm_", "srm_AAAA", "nonsense"] {
                let answer = api.send(request(token, route.method.clone(), &filled(route.path)), Value::Null).await;
                assert_eq!(answer.problem(), (401, "signin.required"), "{} {}", route.method, route.path);
                assert!(answer.header(header::WWW_AUTHENTICATE).starts_with("Bearer"));
            }
        }
        assert!(guarded > 30, "the table lists only {guarded} guarded routes");
    });
}

#[test]
fn a_guest_is_refused_wherever_the_permission_table_says_no() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        let (_, guest) = api.member("Greta", Role::Guest).await;
        for route in http::routes().list() {
            let Needs::Token(action) = route.needs else { continue };
            let wanted = match reach(Role::Guest, action) {
                Reach::Never => (403, "denied"),
                Reach::SomeItems => (404, "not_found"),
                Reach::Always => continue,
            };
            let asked = request(&guest, route.method.clone(), &filled(route.path)).header(header::IF_MATCH, "\"1\"");
            let answer = api.send(asked, json!({})).await;
            assert_eq!(answer.problem(), wanted, "{} {}", route.method, route.path);
        }
    });
}

enum Reach {
    Never,
    SomeItems,
    Always,
}

fn reach(role: Role, action: Action) -> Reach {
    let mut members = Role::ALL.into_iter().map(Target::Member);
    if allowed(role, action, Target::Workspace) || members.any(|target| allowed(role, action, target)) {
        Reach::Always
    } else if ItemRole::ALL.into_iter().any(|mine| allowed(role, action, Target::Item(Some(mine)))) {
        Reach::SomeItems
    } else {
        Reach::Never
    }
}

#[test]
fn a_revoked_token_and_one_of_a_removed_member_open_nothing() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        let made = api.world.app.create_token(&api.owner, "build", 7).await.expect("made in person");
        let secret = made.secret.expose().to_owned();
        assert_eq!(api.ask_as(&secret, GET, "", Value::Null).await.status, 200);
        assert!(!api.ask(GET, "/tokens", Value::Null).await.body.to_string().contains(&secret));
        assert_eq!(api.ask(DELETE, &format!("/tokens/{}", made.token.id), Value::Null).await.status, 204);
        assert_eq!(api.ask_as(&secret, GET, "", Value::Null).await.problem().0, 401);

        let (member, token) = api.member("Uma", Role::User).await;
        let path = format!("/members/{}?heir={}", member.member, api.owner.member);
        assert_eq!(api.ask(DELETE, &path, Value::Null).await.status, 204);
        assert_eq!(api.ask_as(&token, GET, "", Value::Null).await.problem().0, 401);
    });
}

#[test]
fn a_password_is_exchanged_for_a_token() {
    on_both_engines(async |world| {
        let api = Api::over(world).await;
        let login = |password: &str, workspace: Value| json!({"email": email("Olivia"), "password": password, "token_name": "maple", "workspace": workspace});
        let ask = async |body| api.send(request("", POST, "/api/v1/login"), body).await;
        let good = ask(login(PASSWORD, Value::Null)).await;
        assert_eq!((good.status, good.text("workspace").as_str()), (200, "acme"));
        let mine = api.send(request(&good.text("token"), GET, "/api/v1/workspaces"), Value::Null).await;
        assert_eq!(mine.body["items"][0]["slug"], "acme");
        assert_eq!(ask(login("not the password", Value::Null)).await.problem(), (401, "signin.wrong"));

        let before = api.ask(GET, "/tokens", Value::Null).await.body["items"].as_array().map(Vec::len);
        assert_eq!(ask(login(PASSWORD, json!("other"))).await.problem(), (404, "not_found"));
        let after = api.ask(GET, "/tokens", Value::Null).await.body["items"].as_array().map(Vec::len);
        assert_eq!(before, after, "the token of a refused sign-in lives on");
    });
}

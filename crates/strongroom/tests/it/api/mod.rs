//! The REST API, through the router that the server serves.

mod access;
mod bad_input;
mod checks;
mod frame;
mod items;
mod workspace;

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, header},
};
use serde_json::{Value, json};
use strongroom::{access::Role, app::Caller, http};
use tower::ServiceExt;
use uuid::Uuid;

use crate::world::World;

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PATCH: Method = Method::PATCH;
const PUT: Method = Method::PUT;
const DELETE: Method = Method::DELETE;

/// A set-up workspace, its Owner, and the router over it.
struct Api {
    world: Arc<World>,
    router: Router,
    owner: Caller,
    /// The Owner's token.
    token: String,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Api {
    async fn over(world: Arc<World>) -> Self {
        let owner = world.set_up().await;
        let router = http::router(Arc::clone(&world.app));
        let token = token(&world, &owner).await;
        Self { world, router, owner, token }
    }

    /// A member with a token.
    async fn member(&self, name: &str, role: Role) -> (Caller, String) {
        let member = self.world.member(&self.owner, name, role).await;
        let token = token(&self.world, &member).await;
        (member, token)
    }

    /// Asks as the Owner, about the workspace.
    async fn ask(&self, method: Method, path: &str, body: Value) -> Answer {
        self.ask_as(&self.token, method, path, body).await
    }

    async fn ask_as(&self, token: &str, method: Method, path: &str, body: Value) -> Answer {
        self.send(request(token, method, &here(path)), body).await
    }

    /// With the revision that was read.
    async fn ask_at(&self, revision: &str, method: Method, path: &str, body: Value) -> Answer {
        self.send(request(&self.token, method, &here(path)).header(header::IF_MATCH, revision), body).await
    }

    async fn send(&self, request: axum::http::request::Builder, body: Value) -> Answer {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.raw(request.body(body).expect("a request")).await
    }

    async fn raw(&self, request: Request<Body>) -> Answer {
        let answer = self.router.clone().oneshot(request).await.expect("the router answers");
        let (parts, body) = answer.into_parts();
        let bytes = to_bytes(body, 16 << 20).await.expect("the body ends");
        // 204 and health answers are no JSON.
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// A new account; returns its id.
    async fn account(&self, title: &str) -> String {
        let made = self.ask(POST, "/items", account(title)).await;
        assert_eq!(made.status, 201, "{}", made.body);
        made.text("id")
    }
}

impl Answer {
    fn text(&self, name: &str) -> String {
        self.body[name].as_str().unwrap_or_else(|| panic!("{name} in {}", self.body)).to_owned()
    }

    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(&name).map_or("", |value| value.to_str().expect("plain text"))
    }

    /// Its status and code, once it is known to be a problem document and for nobody to keep.
    #[track_caller]
    fn problem(&self) -> (u16, &str) {
        assert_eq!(self.header(header::CONTENT_TYPE), "application/problem+json", "{}", self.body);
        assert_eq!(self.header(header::CACHE_CONTROL), "no-store");
        assert_eq!(self.body["status"], self.status, "{}", self.body);
        assert!(self.body["title"].is_string() && self.body["fix"].is_string(), "{}", self.body);
        (self.status, self.body["code"].as_str().expect("a code"))
    }

    /// The fields that a problem names.
    #[track_caller]
    fn fields(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().unwrap_or_else(|| panic!("no fields in {}", self.body));
        errors.iter().map(|error| error["field"].as_str().expect("a field")).collect()
    }

    fn titles(&self) -> Vec<&str> {
        let items = self.body["items"].as_array().unwrap_or_else(|| panic!("no list in {}", self.body));
        items.iter().map(|item| item["title"].as_str().expect("a title")).collect()
    }
}

fn here(path: &str) -> String {
    format!("/api/v1/workspaces/acme{path}")
}

fn request(token: &str, method: Method, path: &str) -> axum::http::request::Builder {
    let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
    if token.is_empty() { request } else { request.header(header::AUTHORIZATION, format!("Bearer {token}")) }
}

async fn token(world: &World, caller: &Caller) -> String {
    world.app.create_token(caller, "test", 30).await.expect("a token").secret.expose().to_owned()
}

fn account(title: &str) -> Value {
    json!({
        "type": "account",
        "title": title,
        "urls": ["https://mail.example.com"],
        "usernames": ["ada"],
        "fields": [{"name": "Password", "kind": "password", "value": "s3cret"}],
    })
}

/// A path of the table with ids that name nothing.
fn filled(template: &str) -> String {
    let parts = template.split('/').map(|part| match part {
        "{workspace}" => "acme".to_owned(),
        "{revision}" => "1".to_owned(),
        part if part.starts_with('{') => Uuid::now_v7().to_string(),
        part => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("/")
}

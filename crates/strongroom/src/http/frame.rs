//! Around every request: an id, a line in the log, headers that browsers and proxies obey, an answer after a panic.
//! The log gets the route's template, never the path, the query or a body.

use std::{any::Any, sync::Arc, time::Duration};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::error::Refusal;
use crate::app::App;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the log calls a request; pages show it when something went wrong.
#[derive(Clone)]
pub struct RequestId(pub String);

/// Serves one request and says so.
pub async fn frame(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let started = app.clock.since_boot();
    let id = request_id(&app);
    request.extensions_mut().insert(RequestId(id.clone()));
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    let ms = millis(app.clock.since_boot().saturating_sub(started));
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    tracing::info!(%method, route, status = response.status().as_u16(), ms, request = id, "request");
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, HeaderValue::try_from(id).expect("hexadecimal digits are a header's value"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // Kept by nobody, unless a handler knows better: embedded assets do.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The answer when a handler panicked. What it said may hold anything, so nobody is told.
pub fn panicked(_: Box<dyn Any + Send>) -> Response {
    Refusal::Panicked.into_response()
}

/// To find a request in the log; says nothing about it.
fn request_id(app: &App) -> String {
    let mut id = [0u8; 8];
    match app.random.fill(&mut id) {
        Ok(()) => hex::encode(id),
        Err(_) => String::from("none"),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

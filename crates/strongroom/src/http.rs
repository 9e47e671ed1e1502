//! The server's two faces: JSON for machines, HTML for people.

pub mod api;
pub mod error;
mod extract;
mod frame;
mod origin;
pub mod progress;
pub mod routes;
pub mod web;

use std::sync::Arc;

use axum::{Router, extract::DefaultBodyLimit, middleware::from_fn_with_state};
use tower_http::catch_panic::CatchPanicLayer;

use self::{error::Refusal, routes::Routes};
use crate::app::App;

/// Bytes of a body, where a route does not take more.
const BODY_LIMIT: usize = 2 << 20;

/// Everything that is served.
pub fn router(app: Arc<App>) -> Router {
    serving(routes(), app)
}

/// A table of routes with what surrounds every request.
pub fn serving(routes: Routes, app: Arc<App>) -> Router {
    routes
        .into_router()
        .fallback(async || Refusal::NoRoute)
        .method_not_allowed_fallback(async || Refusal::Method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(CatchPanicLayer::custom(frame::panicked))
        .layer(from_fn_with_state(Arc::clone(&app), web::frame::frame))
        .layer(from_fn_with_state(Arc::clone(&app), frame::frame))
        .with_state(app)
}

/// The table of all routes.
pub fn routes() -> Routes {
    web::routes(api::routes(Routes::new()))
}

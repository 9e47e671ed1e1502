//! The server's two faces: JSON for machines, HTML for people.

pub mod api;
pub mod error;
pub mod web;

use std::sync::Arc;

use crate::app::App;

/// Everything that is served.
pub fn router(app: Arc<App>) -> axum::Router {
    axum::Router::new().with_state(app)
}

//! For supervisors and load balancers: is the process alive, can it serve.

use std::sync::Arc;

use axum::extract::State;

use crate::{app::App, error::Result};

/// The process answers.
pub async fn live() -> &'static str {
    "alive\n"
}

/// The database answers too. A dark vault is no reason to take the server out of service.
pub async fn ready(State(app): State<Arc<App>>) -> Result<&'static str> {
    app.store.read(|tx| tx.count("SELECT COUNT(*) FROM meta", &[])).await?;
    Ok("ready\n")
}

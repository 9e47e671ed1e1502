//! `GET /events`: the states of the reader's vaults, sent at once and at every change, so that open pages turn dark
//! and back by themselves.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension,
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use tokio_util::sync::CancellationToken;

use super::{views::states_json, visit::Visit, words};
use crate::error::Result;

/// What another node noticed is not told here; it is looked for this often.
const LOOK: Duration = Duration::from_secs(2);

/// Ends every event stream when the server stops, which waits for open requests.
#[derive(Clone, Default)]
pub struct Stopping(pub CancellationToken);

pub async fn events(visit: Visit, stopping: Option<Extension<Stopping>>) -> Result<Response> {
    let stopping = stopping.map(|Extension(stopping)| stopping.0).unwrap_or_default();
    let first = states(&visit).await?;
    let changes = visit.app.keyring.watch();
    let begin = (Arc::new(visit), changes, stopping, String::new(), Some(first));
    let stream =
        futures_util::stream::unfold(begin, |(visit, mut changes, stopping, mut last, mut first)| async move {
            loop {
                let now = match first.take() {
                    Some(now) => now,
                    None => {
                        tokio::select! {
                            () = stopping.cancelled() => return None,
                            _ = changes.recv() => {}
                            () = tokio::time::sleep(LOOK) => {}
                        }
                        if !visit.app.still_signed_in(&visit.caller).await.unwrap_or(false) {
                            return None;
                        }
                        states(&visit).await.ok()?
                    }
                };
                if now != last {
                    last.clone_from(&now);
                    let event = Event::default().event("vaults").data(now);
                    return Some((Ok::<_, Infallible>(event), (visit, changes, stopping, last, None)));
                }
            }
        });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()).into_response())
}

async fn states(visit: &Visit) -> Result<String> {
    let vaults = visit.app.vaults(&visit.caller).await?;
    let states: Vec<_> = vaults.iter().map(|vault| (vault.id.to_string(), words::state(&vault.health))).collect();
    Ok(states_json(states.iter().map(|(id, state)| (id.as_str(), state))))
}

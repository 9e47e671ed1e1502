//! Checks as they are told: an answer that begins with the first line and not with the last.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use strongroom_keys::check::CheckLine;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{error::Result, vault::broken};

/// What a check tells, in order.
pub enum Told {
    Line(CheckLine),
    /// After the last line: all of them, or why they do not count.
    End(Result<Vec<CheckLine>>),
}

/// Where a running check puts its lines.
pub type Lines = Arc<dyn Fn(&CheckLine) + Send + Sync>;

/// Starts a check and waits for its first line, so that whoever may not check is refused before an answer begins. `App`
/// sees to it that the check runs to its end, and into the audit log, whether or not anybody goes on listening.
pub async fn start<F, Fut>(check: F) -> Result<BoxStream<'static, Told>>
where
    F: FnOnce(Lines) -> Fut,
    Fut: Future<Output = Result<Vec<CheckLine>>> + Send + 'static,
{
    let (sender, mut lines) = mpsc::unbounded_channel();
    let tell: Lines = Arc::new(move |line: &CheckLine| {
        // Nobody listens any more; the check goes on.
        let _ = sender.send(line.clone());
    });
    let running = tokio::spawn(check(tell));
    match lines.recv().await {
        Some(first) => {
            let rest = stream::unfold(Some((lines, running)), next);
            Ok(stream::once(async { Told::Line(first) }).chain(rest).boxed())
        }
        None => Err(ended(running).await.err().unwrap_or_else(broken)),
    }
}

type Running = (mpsc::UnboundedReceiver<CheckLine>, JoinHandle<Result<Vec<CheckLine>>>);

async fn next(running: Option<Running>) -> Option<(Told, Option<Running>)> {
    let (mut lines, check) = running?;
    match lines.recv().await {
        Some(line) => Some((Told::Line(line), Some((lines, check)))),
        None => Some((Told::End(ended(check).await), None)),
    }
}

async fn ended(check: JoinHandle<Result<Vec<CheckLine>>>) -> Result<Vec<CheckLine>> {
    check.await.unwrap_or_else(|_| Err(broken()))
}

/// The media type of one JSON value a line.
pub const NDJSON: &str = "application/x-ndjson";

/// Whether the request asks for one JSON value a line.
pub fn wants_lines(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .any(|range| range.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(NDJSON))
}

/// What was told as an answer, one line each; `write` gives a line's JSON.
pub fn answer<W>(told: BoxStream<'static, Told>, mut write: W) -> Response
where
    W: FnMut(Told) -> serde_json::Value + Send + 'static,
{
    let lines = told.map(move |told| Ok::<_, Infallible>(Bytes::from(format!("{}\n", write(told)))));
    let headers = [
        (header::CONTENT_TYPE, NDJSON),
        (header::CACHE_CONTROL, "no-store"),
        // A proxy in front that collects the answer would hold the lines back (nginx).
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(lines)).into_response()
}

//! What has to hold after a round, and at the end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};
use strongroom::{
    app::App,
    audit::{self, read_azure_log},
};
use uuid::Uuid;

use super::{load::Shared, place::Place};
use crate::{
    child::Api,
    kills::{
        check_audit,
        evidence::{Ledger, Seen},
        model::Content,
        writers::id_of,
    },
    site::{PATIENCE, close},
};

/// Requests that check at the same time.
const CHECKERS: usize = 8;
/// A job waits up to a minute before it tries again, and has its work to do.
const JOBS: Duration = Duration::from_secs(120);

/// Every node writes and opens again, under both keys, within 20 s after a fault: nobody restarts anything for it.
pub async fn comes_back(place: &Place, shared: &Shared) -> Vec<String> {
    serve(place, None, shared).await
}

/// While one node is frozen, the others write and open all the same: what it held, they have within 20 s.
pub async fn others_serve(place: &Place, frozen: usize, shared: &Shared) -> Vec<String> {
    serve(place, Some(frozen), shared).await
}

async fn serve(place: &Place, but: Option<usize>, shared: &Shared) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, api) in place.apis().iter().enumerate().filter(|(number, _)| Some(*number) != but) {
        let deadline = Instant::now() + PATIENCE;
        for vault in [place.cloud_vault, place.azure_vault] {
            while let Err(why) = works(api, vault, shared).await {
                if Instant::now() > deadline {
                    faults.push(format!("node {number} does not serve within 20 s: {why}"));
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    faults
}

async fn works(api: &Api, vault: Uuid, shared: &Shared) -> Result<(), String> {
    let value = Uuid::new_v4().to_string();
    let content = Content { title: format!("probe {value}"), value };
    let mut body = content.body();
    body["type"] = "secret".into();
    body["vault_id"] = vault.to_string().into();
    shared.model().will_create(vault, content.clone());
    let made = match api.try_send(Method::POST, "/items", None, &body).await {
        Some(answer) if answer.status == 201 => answer.json(),
        Some(answer) => return Err(format!("{} {}", answer.status, answer.text)),
        None => return Err("no answer".into()),
    };
    let id = id_of(&made);
    shared.model().created(id, vault, content);
    shared.model().will_reveal(id);
    match api.try_send(Method::POST, &format!("/items/{id}/reveal"), None, &Value::Null).await {
        Some(answer) if answer.status == 200 => {
            shared.model().revealed(id, &answer.json());
            Ok(())
        }
        Some(answer) => Err(format!("{} {}", answer.status, answer.text)),
        None => Err("no answer".into()),
    }
}

/// Every job comes to its end.
pub async fn jobs_end(place: &Place) -> Vec<String> {
    let deadline = Instant::now() + JOBS;
    loop {
        let open = place.open_jobs().await;
        if open.is_empty() {
            return vec![];
        }
        if Instant::now() > deadline {
            return vec![format!("jobs that do not end: {}", json!(open))];
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Opens every item that was touched since the last look, by all nodes in turn; and whoever was removed reads nothing.
pub async fn everything_opens(place: &Place, shared: &Shared) -> Vec<String> {
    let apis = place.apis();
    let wanted = shared.model().touched();
    let seen: Vec<Seen> = stream::iter(wanted.into_iter().enumerate())
        .map(|(number, (id, revisions))| {
            let api = apis[number % apis.len()].clone();
            async move { seen_at_last(&api, id, &revisions, shared).await }
        })
        .buffer_unordered(CHECKERS)
        .collect()
        .await;
    let mut faults: Vec<_> = {
        let mut model = shared.model();
        seen.iter().flat_map(|seen| model.compare(seen)).collect()
    };
    let removed = shared.removed.lock().expect("no holder panics").clone();
    for guest in removed {
        for api in &apis {
            let answer = api.with_token(&guest.token).try_send(Method::GET, "/items", None, &Value::Null).await;
            if answer.is_none_or(|answer| answer.status != 401) {
                faults.push(format!("the removed member {} is not refused", guest.id));
            }
        }
    }
    faults
}

/// As [`Seen::read`], again while something is out of reach for a moment: for 20 s at most.
async fn seen_at_last(api: &Api, id: Uuid, revisions: &[u64], shared: &Shared) -> Seen {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = Seen::read(api, id, revisions).await;
        let answers =
            seen.revealed.iter().map(|(_, opened)| opened.as_ref().err()).chain([seen.overview.as_ref().err()]);
        let busy = answers.flatten().any(|why| why.starts_with("503 ") || why == "no answer");
        if !busy || Instant::now() > deadline {
            return seen;
        }
        // What was not answered, or answered and not looked at, may be in the log.
        seen.revealed.iter().for_each(|_| shared.model().will_reveal(id));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// While no node runs: the rows, the log, and that the log tells of every row.
pub async fn rows_hold(place: &Place, shared: &Shared) -> Vec<String> {
    let app = place.open().await;
    let ledger = Ledger::read(&app.store).await;
    let mut faults = shared.model().compare_rows(&ledger);
    faults.extend(check_audit(&app).await);
    close(app).await;
    faults
}

/// Azure's log and ours say the same.
pub async fn logs_agree(place: &Place) -> Vec<String> {
    let app = place.open().await;
    let faults = compare_logs(&app, &place.key_vault_log()).await;
    close(app).await;
    faults
}

async fn compare_logs(app: &Arc<App>, azure: &str) -> Vec<String> {
    let mut lines: Vec<String> = azure.lines().map(str::to_owned).collect();
    // Well within the log's span, whatever we have an answer to has to be there: two entries of another time widen it.
    let read = lines.iter().find(|line| line.contains("\"KeyGet\"")).cloned();
    let entry: Value = read.and_then(|line| serde_json::from_str(&line).ok()).expect("the key was read");
    for hours in [-1, 1] {
        let mut entry = entry.clone();
        let at: Timestamp = entry["time"].as_str().expect("a time").parse().expect("a time");
        entry["time"] = (at + SignedDuration::from_hours(hours)).to_string().into();
        lines.push(entry.to_string());
    }
    let entries = read_azure_log(&lines.join("\n")).expect("Azure's log can be read").entries;
    let report = audit::reconcile(&app.store, Arc::clone(&app.keys), entries).await.expect("both logs can be read");
    report.findings.iter().map(|found| format!("Azure's log and ours: {found}")).collect()
}

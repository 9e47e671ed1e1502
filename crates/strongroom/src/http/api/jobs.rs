//! `…/jobs` and `…/moves`: long work in the background.

use std::sync::Arc;

use axum::{Json, extract::State};

use super::{
    paging,
    types::{ItemKept, Job as Shown, JobAccount, JobWaiting, MoveItems, MovePlan, Page, PageQuery},
};
use crate::{
    app::App,
    error::{Error, Result},
    http::extract::{Authenticated, Body, ListQuery, PathId},
    id::{ItemId, JobId, VaultId},
    item::{MoveRequest, MoveWhat},
    job::Job,
};

type Server = State<Arc<App>>;

pub async fn list(
    State(app): Server,
    Authenticated(caller): Authenticated,
    ListQuery(query): ListQuery<PageQuery>,
) -> Result<Json<Page<Shown>>> {
    paging::page(&query, app.jobs(&caller).await?, shown).map(Json)
}

pub async fn get(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<JobId>,
) -> Result<Json<Shown>> {
    Ok(Json(shown(app.job(&caller, id).await?)))
}

pub async fn pause(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<JobId>,
) -> Result<Json<Shown>> {
    Ok(Json(shown(app.pause_job(&caller, id).await?)))
}

pub async fn resume(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<JobId>,
) -> Result<Json<Shown>> {
    Ok(Json(shown(app.resume_job(&caller, id).await?)))
}

pub async fn cancel(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<JobId>,
) -> Result<Json<Shown>> {
    Ok(Json(shown(app.cancel_job(&caller, id).await?)))
}

pub async fn start_move(
    State(app): Server,
    Authenticated(caller): Authenticated,
    Body(body): Body<MoveItems>,
) -> Result<Json<MovePlan>> {
    let what = match (body.vault_id, body.item_ids) {
        (Some(vault), items) if items.is_empty() => MoveWhat::Vault(VaultId(vault)),
        (None, items) => MoveWhat::Items(items.into_iter().map(ItemId).collect()),
        (Some(_), _) => return Err(Error::field("vault_id", "Give either item_ids or vault_id.")),
    };
    let request = MoveRequest { what, to: VaultId(body.to), dry_run: body.dry_run };
    let plan = app.move_items(&caller, request).await?;
    Ok(Json(MovePlan {
        items: plan.items,
        revisions: plan.revisions,
        bytes: plan.bytes,
        weakens: plan.weakens,
        refused: plan.refused.into_iter().map(|(item, code)| ItemKept { item_id: item.0, code: code.into() }).collect(),
        job_id: plan.job.map(|job| job.0),
    }))
}

fn shown(job: Job) -> Shown {
    Shown {
        id: job.id.0,
        kind: job.kind,
        vault_id: job.vault.0,
        target_id: job.target.map(|target| target.0),
        whole: job.whole,
        state: job.state,
        total: job.total,
        done: job.done,
        failed: job.failed,
        waiting: job.waiting.map(|why| JobWaiting { code: why.code, detail: why.detail, until: why.until }),
        started_by: job.started_by.0,
        created_at: job.created_at,
        updated_at: job.updated_at,
        finished_at: job.finished_at,
        account: job.account.map(|account| JobAccount {
            found: account.found,
            came: account.came,
            done: account.done,
            kept: account.kept,
            gone: account.gone,
            left: account.left,
            why_kept: account.why_kept.into_iter().map(|(item, code)| ItemKept { item_id: item.0, code }).collect(),
        }),
    }
}

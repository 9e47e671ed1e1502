//! `…/trash`: what lies there, and deleting it forever.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};

use super::{
    items::listed,
    types::{ItemPage, ItemQuery, KeptItem, PurgeItems, PurgedItems},
};
use crate::{
    app::App,
    error::Result,
    http::{
        error::problem,
        extract::{Authenticated, Body, ListQuery, PathId},
    },
    id::ItemId,
    item::Purged,
};

type Server = State<Arc<App>>;

pub async fn list(
    State(app): Server,
    Authenticated(caller): Authenticated,
    ListQuery(query): ListQuery<ItemQuery>,
) -> Result<Json<ItemPage>> {
    let Json(mut page) = listed(&app, &caller, query, true).await?;
    let ids: Vec<_> = page.items.iter().map(|item| ItemId(item.id)).collect();
    let ends = app.trash_ends(&caller, &ids).await?;
    for item in &mut page.items {
        item.deleted_after = ends.get(&ItemId(item.id)).copied();
    }
    Ok(Json(page))
}

pub async fn empty(State(app): Server, Authenticated(caller): Authenticated) -> Result<Json<PurgedItems>> {
    Ok(shown(app.empty_trash(&caller).await?))
}

pub async fn purge(
    State(app): Server,
    Authenticated(caller): Authenticated,
    Body(body): Body<PurgeItems>,
) -> Result<Json<PurgedItems>> {
    let ids: Vec<_> = body.items.into_iter().map(ItemId).collect();
    Ok(shown(app.purge_items(&caller, &ids).await?))
}

pub async fn purge_one(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<ItemId>,
) -> Result<StatusCode> {
    app.purge_item(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(Purged { purged, kept }: Purged) -> Json<PurgedItems> {
    let kept = kept.into_iter().map(|kept| KeptItem { id: kept.item.0, problem: problem(&kept.why) }).collect();
    Json(PurgedItems { purged: purged.into_iter().map(|id| id.0).collect(), kept })
}

//! `…/items`: accounts and secrets.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};

use super::{
    paging::{self, Window},
    types::{
        CreateItem, DarkVault, EditItem, ImportItems, ImportOutcome, Imported, Item as Shown, ItemGrant, ItemPage,
        ItemQuery, Page, PageQuery, Revealed, Revision, SearchItems, SetItemRole,
    },
};
use crate::{
    app::{App, Caller},
    error::{Error, Result},
    http::{
        error::problem,
        extract::{Authenticated, Body, IfMatch, ListQuery, MaybeIfMatch, PathId, Tagged},
    },
    id::{ItemId, MemberId, VaultId},
    item::{Content, Dark, Filter, Found, Item, Patch},
};

/// Bytes of an import's body.
pub const IMPORT_LIMIT: usize = 64 << 20;
/// Items of one import.
const IMPORT_ITEMS: usize = 500;

type Server = State<Arc<App>>;

pub async fn list(
    State(app): Server,
    Authenticated(caller): Authenticated,
    ListQuery(query): ListQuery<ItemQuery>,
) -> Result<Json<ItemPage>> {
    listed(&app, &caller, query, false).await
}

pub async fn search(
    State(app): Server,
    Authenticated(caller): Authenticated,
    Body(body): Body<SearchItems>,
) -> Result<Json<ItemPage>> {
    let window = Window::of(body.cursor.as_deref(), body.limit)?;
    let vault = body.vault_id.map(VaultId);
    let filter = Filter { query: Some(body.query), item_type: body.item_type, vault, ..filter(&window) };
    Ok(Json(item_page(app.find_items(&caller, filter).await?, &window)))
}

pub async fn create(
    State(app): Server,
    Authenticated(caller): Authenticated,
    Body(body): Body<CreateItem>,
) -> Result<impl IntoResponse> {
    let (vault, content) = parts(body);
    let item = app.create_item(&caller, vault, content).await?;
    let place = format!("/api/v1/workspaces/{}/items/{}", caller.workspace_slug, item.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, place)], tagged(item)))
}

/// Items of one vault go into one transaction; what one item did wrong does not stop the others.
pub async fn import(
    State(app): Server,
    Authenticated(caller): Authenticated,
    Body(body): Body<ImportItems>,
) -> Result<Json<Imported>> {
    if body.items.len() > IMPORT_ITEMS {
        return Err(Error::field("items", format!("At most {IMPORT_ITEMS} items at once.")));
    }
    let mut batches: Vec<(Option<VaultId>, Vec<usize>, Vec<Content>)> = Vec::new();
    let count = body.items.len();
    for (index, item) in body.items.into_iter().enumerate() {
        let (vault, content) = parts(item);
        match batches.iter_mut().find(|(other, ..)| *other == vault) {
            Some((_, places, contents)) => {
                places.push(index);
                contents.push(content);
            }
            None => batches.push((vault, vec![index], vec![content])),
        }
    }
    let mut outcomes: Vec<ImportOutcome> = (0..count).map(|_| ImportOutcome { id: None, problem: None }).collect();
    for (vault, places, contents) in batches {
        let made = match app.create_items(&caller, vault, contents).await {
            Ok(made) => made,
            // Nothing of this vault was written. The other vaults' items may be, so each line says what happened.
            Err(error) => {
                let told = problem(&error);
                places.iter().for_each(|&index| outcomes[index].problem = Some(told.clone()));
                continue;
            }
        };
        for (index, outcome) in places.into_iter().zip(made) {
            match outcome {
                Ok(id) => outcomes[index].id = Some(id.0),
                Err(error) => outcomes[index].problem = Some(problem(&error)),
            }
        }
    }
    Ok(Json(Imported { outcomes }))
}

pub async fn get(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<ItemId>,
) -> Result<Tagged<Json<Shown>>> {
    Ok(tagged(app.item(&caller, id).await?))
}

pub async fn edit(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<ItemId>,
    IfMatch(revision): IfMatch,
    Body(body): Body<EditItem>,
) -> Result<Tagged<Json<Shown>>> {
    let EditItem { title, kind, urls, usernames, labels, fields } = body;
    let patch = Patch { kind, title, urls, usernames, labels, fields };
    Ok(tagged(app.edit_item(&caller, id, revision, patch).await?))
}

pub async fn discard(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<ItemId>,
    MaybeIfMatch(revision): MaybeIfMatch,
) -> Result<StatusCode> {
    app.trash_item(&caller, id, revision).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn restore(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<ItemId>,
) -> Result<StatusCode> {
    app.untrash_item(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn reveal(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<ItemId>,
) -> Result<Tagged<Json<Revealed>>> {
    let (revision, fields) = app.reveal_item(&caller, id, None).await?;
    Ok(Tagged(revision, Json(Revealed { revision, fields })))
}

pub async fn history(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<ItemId>,
    ListQuery(query): ListQuery<PageQuery>,
) -> Result<Json<Page<Revision>>> {
    let revisions = app.item_history(&caller, id).await?;
    let shown = |line: crate::item::Revision| Revision {
        revision: line.revision,
        created_at: line.at,
        member_id: line.by.0,
        current: line.current,
        restored_from: line.restored_from,
    };
    paging::page(&query, revisions, shown).map(Json)
}

pub async fn reveal_revision(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<ItemId>,
    PathId(revision): PathId<u64>,
) -> Result<Json<Revealed>> {
    let (revision, fields) = app.reveal_item(&caller, id, Some(revision)).await?;
    Ok(Json(Revealed { revision, fields }))
}

pub async fn restore_revision(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<ItemId>,
    PathId(revision): PathId<u64>,
) -> Result<Tagged<Json<Shown>>> {
    Ok(tagged(app.restore_revision(&caller, id, revision).await?))
}

pub async fn grants(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<ItemId>,
    ListQuery(query): ListQuery<PageQuery>,
) -> Result<Json<Page<ItemGrant>>> {
    let grants = app.item_grants(&caller, id).await?;
    let shown = |grant: crate::item::Grant| ItemGrant {
        member_id: grant.member.0,
        email: grant.email,
        name: grant.name,
        role: grant.role,
    };
    paging::page(&query, grants, shown).map(Json)
}

pub async fn share(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<ItemId>,
    PathId(member): PathId<MemberId>,
    Body(SetItemRole { role }): Body<SetItemRole>,
) -> Result<StatusCode> {
    app.share_item(&caller, id, member, role).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn unshare(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<ItemId>,
    PathId(member): PathId<MemberId>,
) -> Result<StatusCode> {
    app.unshare_item(&caller, id, member).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn take_over(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<ItemId>,
) -> Result<StatusCode> {
    app.take_over_item(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn listed(app: &App, caller: &Caller, query: ItemQuery, trashed: bool) -> Result<Json<ItemPage>> {
    let window = Window::of(query.cursor.as_deref(), query.limit)?;
    let vault = query.vault_id.map(VaultId);
    let filter = Filter { item_type: query.item_type, vault, trashed, ..filter(&window) };
    Ok(Json(item_page(app.find_items(caller, filter).await?, &window)))
}

fn filter(window: &Window) -> Filter {
    Filter { skip: window.skip, limit: window.limit, ..Filter::default() }
}

fn item_page(found: Found, window: &Window) -> ItemPage {
    ItemPage {
        next_cursor: window.next(found.total),
        items: found.items.into_iter().map(shown).collect(),
        dark: found.dark.into_iter().map(dark).collect(),
        damaged: found.damaged.into_iter().map(|id| id.0).collect(),
    }
}

pub(super) fn dark(Dark { why, count }: Dark) -> DarkVault {
    let state = why.state().word().into();
    DarkVault {
        vault_id: why.vault.0,
        count,
        code: why.code,
        state,
        title: why.title,
        since: Some(why.since),
        recoverable_until: why.recoverable_until,
    }
}

fn parts(item: CreateItem) -> (Option<VaultId>, Content) {
    let CreateItem { vault_id, item_type, title, kind, urls, usernames, labels, fields } = item;
    (vault_id.map(VaultId), Content { item_type, kind, title, urls, usernames, labels, fields })
}

fn tagged(item: Item) -> Tagged<Json<Shown>> {
    Tagged(item.revision, Json(shown(item)))
}

fn shown(item: Item) -> Shown {
    let overview = item.overview;
    Shown {
        id: item.id.0,
        vault_id: item.vault.0,
        item_type: overview.item_type,
        title: overview.title,
        kind: overview.kind,
        urls: overview.urls,
        usernames: overview.usernames,
        labels: overview.labels,
        revision: item.revision,
        role: item.role,
        created_at: item.created_at,
        updated_at: item.updated_at,
        trashed_at: item.trashed_at,
        deleted_after: None,
    }
}

//! The trash: what lies there and until when, and deleting it forever.

use axum::{http::StatusCode, response::Response};

use super::{
    form::Form,
    items::row,
    views::{
        Section,
        trash::{PurgePage, TrashPage, TrashRow},
    },
    visit::{Visit, to},
    words,
};
use crate::{
    access::{Action, Target as Aim},
    error::{Error, Result},
    id::ItemId,
    item::Filter,
};

pub async fn list(visit: Visit) -> Result<Response> {
    let shell = visit.item_shell("Trash", Section::Trash, visit.path.clone()).await?;
    let filter = Filter { trashed: true, newest_first: true, limit: usize::MAX, ..Filter::default() };
    let found = visit.app.find_items(&visit.caller, filter).await?;
    let ids: Vec<_> = found.items.iter().map(|item| item.id).collect();
    let ends = visit.app.trash_ends(&visit.caller, &ids).await?;
    let now = visit.app.clock.now();
    let dark = visit.panels(&found.dark, &shell);
    let rows = found.items.into_iter().map(|item| TrashRow {
        at: words::moment(now, item.trashed_at.unwrap_or(item.updated_at)),
        ends: ends.get(&item.id).map(|at| words::moment(now, *at)),
        can_manage: visit.caller.may(Action::ManageItem, Aim::Item(Some(item.role))),
        item: row(item, now, &shell),
    });
    let rows = rows.collect();
    visit.page(TrashPage { days: visit.app.settings.trash_days, shell, rows, dark })
}

/// *Empty the trash*, before it is confirmed.
pub async fn ask_all(visit: Visit) -> Result<Response> {
    ask(&visit, Vec::new()).await
}

/// *Delete forever*: asks first, then does it.
pub async fn purge(visit: Visit, form: Form) -> Result<Response> {
    let ids: Option<Vec<ItemId>> = form.all("item").map(|id| id.parse().ok()).collect();
    let ids = ids.ok_or(Error::NotFound("item"))?;
    if !form.has("confirmed") {
        // A selection of nothing is no wish to empty the trash.
        return if ids.is_empty() { Ok(to("/trash")) } else { ask(&visit, ids).await };
    }
    let done = match ids.is_empty() {
        true => visit.app.empty_trash(&visit.caller).await?,
        false => visit.app.purge_items(&visit.caller, &ids).await?,
    };
    Ok(to(if done.kept.is_empty() { "/trash?done=purged" } else { "/trash?done=purged-some" }))
}

async fn ask(visit: &Visit, ids: Vec<ItemId>) -> Result<Response> {
    let shell = visit.shell("Delete forever", Section::Trash).await?;
    let items = ids.iter().map(ToString::to_string).collect();
    words::page(StatusCode::OK, PurgePage { shell, items })
}

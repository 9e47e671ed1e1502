//! *Move to another vault*: one item, a selection, or a whole vault. First where to, then what it would do, then the
//! job that does it.

use axum::{http::StatusCode, response::Response};

use super::{
    form::Form,
    jobs::why_kept,
    vaults::said,
    views::{
        Choice, Section, Shell,
        jobs::KeptRow,
        moves::{MoveAskPage, MovePlanPage, Moving},
    },
    visit::{Visit, to},
    words,
};
use crate::{
    counted::counted,
    error::{Error, Result},
    http::{error::status, extract::PathId},
    id::{ItemId, VaultId},
    item::{MovePlan, MoveRequest, MoveWhat},
    vault::{Strategy, VaultState},
};

/// Items whose titles one page may ask for.
const TITLES: usize = 200;

/// One item.
pub async fn ask_item(visit: Visit, PathId(id): PathId<ItemId>) -> Result<Response> {
    visit.app.item(&visit.caller, id).await?;
    let wish = Wish { what: MoveWhat::Items(vec![id]), back: format!("/items/{id}") };
    ask(&visit, StatusCode::OK, wish, None).await
}

/// A selection of the list, or the item of [`ask_item`].
pub async fn items(visit: Visit, form: Form) -> Result<Response> {
    let ids: Option<Vec<ItemId>> = form.all("item").map(|id| id.parse().ok()).collect();
    let ids = ids.ok_or(Error::NotFound("item"))?;
    let back = match ids.as_slice() {
        [] => return Ok(to("/items")),
        [id] => format!("/items/{id}"),
        _ => "/items".to_owned(),
    };
    step(&visit, Wish { what: MoveWhat::Items(ids), back }, form).await
}

/// The address of a selection's dialog, loaded again.
pub async fn back_to_items(_: Visit) -> Response {
    to("/items")
}

/// All of a vault.
pub async fn ask_vault(visit: Visit, PathId(id): PathId<VaultId>) -> Result<Response> {
    visit.app.require_fresh(&visit.caller)?;
    ask(&visit, StatusCode::OK, Wish::whole(id), None).await
}

pub async fn vault(visit: Visit, PathId(id): PathId<VaultId>, form: Form) -> Result<Response> {
    step(&visit, Wish::whole(id), form).await
}

/// What somebody wants to move, and the page that they come from.
struct Wish {
    what: MoveWhat,
    back: String,
}

impl Wish {
    fn whole(id: VaultId) -> Self {
        Self { what: MoveWhat::Vault(id), back: format!("/settings/vaults/{id}/settings") }
    }

    fn shown(&self, shell: &Shell) -> Moving {
        let (title, action, items) = match &self.what {
            MoveWhat::Items(ids) => {
                let title = format!("Move {}", counted(ids.len() as u64, "item"));
                (title, "/items/move".to_owned(), ids.iter().map(ToString::to_string).collect())
            }
            MoveWhat::Vault(id) => {
                let title = format!("Move all items of {}", Visit::vault_name(shell, *id));
                (title, format!("/settings/vaults/{id}/move"), Vec::new())
            }
        };
        Moving { title, action, back: self.back.clone(), items }
    }
}

/// What follows from what was sent: the first dialog, the plan, or the job.
async fn step(visit: &Visit, wish: Wish, form: Form) -> Result<Response> {
    let Some(target) = form.parsed::<VaultId>("to") else { return ask(visit, StatusCode::OK, wish, None).await };
    let wanted = |dry_run| MoveRequest { what: wish.what.clone(), to: target, dry_run };
    let planned = match visit.app.move_items(&visit.caller, wanted(true)).await {
        Ok(plan) => plan,
        Err(error) => return refused(visit, wish, error).await,
    };
    if !form.has("confirmed") || (planned.weakens && !form.has("weakens")) {
        return plan(visit, wish, target, planned).await;
    }
    match visit.app.move_items(&visit.caller, wanted(false)).await {
        Ok(MovePlan { job: Some(job), .. }) => Ok(to(format!("/jobs/{job}"))),
        Ok(nothing) => plan(visit, wish, target, nothing).await,
        Err(error) => refused(visit, wish, error).await,
    }
}

/// A rule that stands against it is told where it can be answered; any other error stays what it is.
async fn refused(visit: &Visit, wish: Wish, error: Error) -> Result<Response> {
    match error {
        Error::Conflict { .. } | Error::Denied(_) | Error::KeyUnavailable(_) | Error::Invalid(_) => {
            ask(visit, status(&error), wish, Some(said(&error))).await
        }
        error => Err(error),
    }
}

async fn ask(visit: &Visit, status: StatusCode, wish: Wish, problem: Option<String>) -> Result<Response> {
    let source = match &wish.what {
        MoveWhat::Vault(id) => Some(*id),
        MoveWhat::Items(ids) => match ids.as_slice() {
            [id] => Some(visit.app.item(&visit.caller, *id).await?.vault),
            _ => None,
        },
    };
    let vaults = visit.app.vaults(&visit.caller).await?;
    let targets = vaults.iter().filter(|vault| vault.state == VaultState::Active && Some(vault.id) != source);
    let targets = targets
        .map(|vault| Choice::new(vault.id.to_string(), format!("{} ({})", vault.name, vault.strategy.title()), false));
    let shell = visit.shell("Move to another vault", Section::Items).await?;
    words::page(status, MoveAskPage { moving: wish.shown(&shell), targets: targets.collect(), problem, shell })
}

async fn plan(visit: &Visit, wish: Wish, target: VaultId, plan: MovePlan) -> Result<Response> {
    let target = visit.app.vault(&visit.caller, target).await?;
    let ids: Vec<_> = plan.refused.iter().map(|(id, _)| *id).take(TITLES).collect();
    let mut titles = visit.app.titles(&visit.caller, &ids).await?;
    let refused_count = plan.refused.len() as u64;
    let refused = plan.refused.into_iter().take(TITLES).map(|(id, code)| KeptRow {
        id: id.to_string(),
        title: titles.remove(&id).map(Into::into),
        why: why_kept(code),
    });
    let shell = visit.shell("Move to another vault", Section::Items).await?;
    words::page(
        StatusCode::OK,
        MovePlanPage {
            moving: wish.shown(&shell),
            target_id: target.id.to_string(),
            target: target.name,
            strategy: target.strategy.title(),
            to_cloud: target.strategy == Strategy::Cloud,
            items: plan.items,
            revisions: plan.revisions,
            size: size(plan.bytes),
            weakens: plan.weakens,
            refused: refused.collect(),
            refused_count,
            problem: None,
            shell,
        },
    )
}

/// Bytes as people say them.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_as_people_say_them() {
        assert_eq!([size(12), size(1500), size(3 << 20)], ["12 bytes", "2 KiB", "3.0 MiB"]);
    }
}

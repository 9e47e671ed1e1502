//! *Change the key*: which of the three is wanted, with its cost, before it starts. And the end of an old generation.

use axum::{http::StatusCode, response::Response};

use crate::{
    counted::counted,
    error::{Error, Result},
    http::{
        error::status,
        extract::PathId,
        web::{
            form::Form,
            vaults::said,
            views::{
                Section,
                key::{ChangeKeyPage, KeyChoice, KeyCost, RewrapAllPage},
            },
            visit::{Visit, to},
            words,
        },
    },
    id::VaultId,
    job::JobKind,
    vault::KeyChange,
};

const KINDS: [JobKind; 3] = [JobKind::Rewrap, JobKind::Rotate, JobKind::Reencrypt];

pub async fn ask(visit: Visit, PathId(id): PathId<VaultId>) -> Result<Response> {
    visit.app.require_fresh(&visit.caller)?;
    page(&visit, StatusCode::OK, id, None, None).await
}

pub async fn start(visit: Visit, PathId(id): PathId<VaultId>, form: Form) -> Result<Response> {
    let Some(kind) = form.parsed::<JobKind>("kind").filter(|kind| KINDS.contains(kind)) else {
        let text = "Choose one of the three.".to_owned();
        return page(&visit, StatusCode::UNPROCESSABLE_ENTITY, id, None, Some(text)).await;
    };
    match change(&visit, id, kind, false).await {
        Ok(KeyChange { job: Some(_), .. }) => Ok(to(format!("/settings/vaults/{id}?done=key-change"))),
        Ok(_) => Ok(to(format!("/settings/vaults/{id}?done=key-newest"))),
        Err(error @ (Error::Conflict { .. } | Error::KeyUnavailable(_))) => {
            page(&visit, status(&error), id, Some(kind), Some(said(&error))).await
        }
        Err(error) => Err(error),
    }
}

pub async fn retire(visit: Visit, PathId(id): PathId<VaultId>, PathId(generation): PathId<u32>) -> Result<Response> {
    visit.app.retire_generation(&visit.caller, id, generation).await?;
    Ok(to(format!("/settings/vaults/{id}?done=generation-retired")))
}

/// *Rewrap all*: what it would be.
pub async fn ask_all(visit: Visit) -> Result<Response> {
    visit.app.require_fresh(&visit.caller)?;
    let changes = visit.app.rewrap_all(&visit.caller, true).await?;
    let shell = visit.shell("Rewrap all vaults", Section::Settings).await?;
    let (none, refused) = (0, Vec::new());
    let mut page =
        RewrapAllPage { shell, vaults: none, vault_keys: none, key_operations: none, time: String::new(), refused };
    let mut seconds = 0;
    for (vault, change) in changes {
        match change {
            Ok(change) => {
                page.vaults += u64::from(change.vault_keys > 0);
                page.vault_keys += change.vault_keys;
                page.key_operations += change.key_operations;
                seconds += change.seconds_at_least;
            }
            Err(error @ Error::Store(_)) => return Err(error),
            Err(error) => page.refused.push((Visit::vault_name(&page.shell, vault), said(&error))),
        }
    }
    page.time = at_least(seconds);
    visit.page(page)
}

pub async fn start_all(visit: Visit) -> Result<Response> {
    for (_, change) in visit.app.rewrap_all(&visit.caller, false).await? {
        if let Err(error @ (Error::Store(_) | Error::StaleSignIn)) = change {
            return Err(error);
        }
    }
    Ok(to("/jobs"))
}

async fn change(visit: &Visit, id: VaultId, kind: JobKind, dry_run: bool) -> Result<KeyChange> {
    match kind {
        JobKind::Rewrap => visit.app.rewrap(&visit.caller, id, dry_run).await,
        JobKind::Rotate => visit.app.rotate(&visit.caller, id, dry_run).await,
        JobKind::Reencrypt => visit.app.reencrypt(&visit.caller, id, dry_run).await,
        JobKind::Move => Err(Error::NotFound("change")),
    }
}

async fn page(
    visit: &Visit,
    status: StatusCode,
    id: VaultId,
    wanted: Option<JobKind>,
    problem: Option<String>,
) -> Result<Response> {
    let vault = visit.app.vault(&visit.caller, id).await?;
    let mut choices = Vec::with_capacity(KINDS.len());
    for kind in KINDS {
        let cost = match change(visit, id, kind, true).await {
            Ok(change) => Ok(cost_of(&change)),
            Err(error @ (Error::Conflict { .. } | Error::KeyUnavailable(_))) => Err(said(&error)),
            Err(error) => return Err(error),
        };
        choices.push(choice(kind, cost));
    }
    // Where a newer key version waits for its wraps, that is what most people come for.
    let useful = choices.iter().position(|choice| choice.cost.as_ref().is_ok_and(|cost| !cost.nothing_to_do));
    let asked_for = choices.iter().position(|choice| wanted.is_some_and(|kind| kind.word() == choice.kind));
    if let Some(at) = asked_for.or(useful) {
        choices[at].chosen = choices[at].cost.is_ok();
    }
    let shell = visit.shell("Change the key", Section::Settings).await?;
    words::page(status, ChangeKeyPage { shell, id: id.to_string(), name: vault.name, choices, problem })
}

fn choice(kind: JobKind, cost: std::result::Result<KeyCost, String>) -> KeyChoice {
    let (icon, title, when) = match kind {
        JobKind::Rewrap => ("key-round", "Rewrap", "when the key in Azure has a newer key version"),
        JobKind::Rotate => ("rotate-ccw", "Rotate", "when the vault key is to be a fresh one, as a routine"),
        _ => ("shield-check", "Re-encrypt", "when somebody may know a key, or may have read the server’s memory"),
    };
    KeyChoice { kind: kind.word(), icon, title, when, means: KeyChange::means(kind), chosen: false, cost }
}

fn cost_of(change: &KeyChange) -> KeyCost {
    let items = match change.items {
        0 => "no item opened".to_owned(),
        items => format!("{} with {} sealed anew", counted(items, "item"), counted(change.revisions, "revision")),
    };
    let mut parts = Vec::new();
    // A Cloud vault asks nobody.
    if change.key_operations > 0 || change.kind == JobKind::Rewrap {
        parts.push(format!("{} at Key Vault", counted(change.key_operations, "key operation")));
    }
    if change.kind != JobKind::Rewrap {
        parts.push(format!("{} wrapped anew", counted(change.data_keys, "data key")));
    }
    parts.push(items);
    parts.push(at_least(change.seconds_at_least));
    let nothing_to_do = change.kind == JobKind::Rewrap && change.vault_keys == 0;
    KeyCost { nothing_to_do, parts, exposes: change.exposes.clone() }
}

fn at_least(seconds: u64) -> String {
    match seconds {
        0 | 1 => "about a second".to_owned(),
        2..120 => format!("at least {}", counted(seconds, "second")),
        _ => format!("at least {}", counted(seconds.div_ceil(60), "minute")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_said_in_a_unit_that_people_can_picture() {
        assert_eq!(
            [at_least(0), at_least(90), at_least(3601)],
            ["about a second", "at least 90 seconds", "at least 61 minutes"]
        );
    }
}

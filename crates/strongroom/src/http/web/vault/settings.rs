//! What may be changed of a vault itself: its name, its lease, who may use it, whether it is the default; and its end.

use axum::{http::StatusCode, response::Response};

use super::head;
use crate::{
    access::Action,
    error::{Error, FieldError, Result},
    http::{
        error::status,
        extract::PathId,
        web::{
            form::Form,
            vaults::said,
            views::{
                Field, Section,
                vault::{StateChoice, VaultDeletePage, VaultSettingsPage, VaultTab},
            },
            visit::{Visit, to},
            words,
        },
    },
    id::VaultId,
    vault::{MIN_LEASE, VaultEdit, VaultState},
};

pub async fn show(visit: Visit, PathId(id): PathId<VaultId>) -> Result<Response> {
    page(&visit, StatusCode::OK, id, None, &[], None).await
}

pub async fn save(visit: Visit, PathId(id): PathId<VaultId>, form: Form) -> Result<Response> {
    let revision = form.parsed("revision").ok_or(Error::RevisionRequired)?;
    let Some(lease_seconds) = form.parsed::<u32>("lease_seconds") else {
        let errors = [FieldError { field: "lease_seconds".into(), message: "Write a number of seconds.".into() }];
        return page(&visit, StatusCode::UNPROCESSABLE_ENTITY, id, Some(&form), &errors, None).await;
    };
    let vault = visit.app.vault(&visit.caller, id).await?;
    // What stays as it is needs no leave to change it.
    let changed = |is: bool, typed: bool| (is != typed).then_some(typed);
    let edit = VaultEdit {
        name: Some(form.text("name")).filter(|name| *name != vault.name),
        lease_seconds: Some(lease_seconds).filter(|seconds| *seconds != vault.lease_seconds),
        state: form.parsed("state").filter(|state| *state != vault.state),
        may_leave: changed(vault.may_leave, form.has("may_leave")).filter(|_| may_leave(&visit)),
        ..VaultEdit::default()
    };
    match visit.app.edit_vault(&visit.caller, id, Some(revision), edit).await {
        Ok(_) => Ok(to(format!("/settings/vaults/{id}/settings?done=vault-saved"))),
        Err(Error::Invalid(errors)) => {
            page(&visit, StatusCode::UNPROCESSABLE_ENTITY, id, Some(&form), &errors, None).await
        }
        Err(error @ Error::Conflict { .. }) => {
            page(&visit, status(&error), id, Some(&form), &[], Some(said(&error))).await
        }
        Err(error @ Error::RevisionStale { .. }) => {
            let text = "Somebody else changed this vault at the same moment. Look at it below and save yours again.";
            page(&visit, status(&error), id, None, &[], Some(text.into())).await
        }
        Err(error) => Err(error),
    }
}

pub async fn make_default(visit: Visit, PathId(id): PathId<VaultId>) -> Result<Response> {
    let edit = VaultEdit { make_default: true, ..VaultEdit::default() };
    visit.app.edit_vault(&visit.caller, id, None, edit).await?;
    Ok(to(format!("/settings/vaults/{id}?done=vault-default")))
}

pub async fn ask_delete(visit: Visit, PathId(id): PathId<VaultId>) -> Result<Response> {
    visit.app.require_fresh(&visit.caller)?;
    delete_page(&visit, StatusCode::OK, id, "", &[], None).await
}

pub async fn delete(visit: Visit, PathId(id): PathId<VaultId>, form: Form) -> Result<Response> {
    match visit.app.delete_vault(&visit.caller, id, form.get("typed_name")).await {
        Ok(()) => Ok(to("/settings/privacy-and-security?done=vault-deleted")),
        Err(Error::Invalid(errors)) => {
            delete_page(&visit, StatusCode::UNPROCESSABLE_ENTITY, id, form.get("typed_name"), &errors, None).await
        }
        Err(error @ Error::Conflict { .. }) => {
            delete_page(&visit, status(&error), id, form.get("typed_name"), &[], Some(said(&error))).await
        }
        Err(error) => Err(error),
    }
}

fn may_leave(visit: &Visit) -> bool {
    visit.may(Action::LeaveAzure)
}

/// The tab; with what was typed, if something stands against it.
async fn page(
    visit: &Visit,
    status: StatusCode,
    id: VaultId,
    form: Option<&Form>,
    errors: &[FieldError],
    problem: Option<String>,
) -> Result<Response> {
    let vault = visit.app.vault(&visit.caller, id).await?;
    let (shell, head) = head(visit, &vault, format!("/settings/vaults/{id}/settings")).await?;
    let typed = |name, is: String| Field::checked(form.map_or(is, |form| form.text(name)), name, errors);
    let chosen = form.and_then(|form| form.parsed("state")).unwrap_or(vault.state);
    let leaves = form.map_or(vault.may_leave, |form| form.has("may_leave"));
    words::page(
        status,
        VaultSettingsPage {
            shell,
            name: typed("name", vault.name),
            lease_seconds: typed("lease_seconds", vault.lease_seconds.to_string()),
            longest_lease: visit.app.settings.lease_seconds.max(MIN_LEASE),
            states: VaultState::ALL.map(|state| state_choice(state, chosen)).into(),
            may_leave: head.external.then_some(leaves),
            can_leave: may_leave(visit),
            revision: vault.revision,
            vault: head,
            tab: VaultTab::Settings,
            problem,
        },
    )
}

fn state_choice(state: VaultState, chosen: VaultState) -> StateChoice {
    let (title, means) = match state {
        VaultState::Active => ("Active", "Items are read, written and added."),
        VaultState::Closed => ("Closed to new items", "What is there is read and written as before; nothing is added."),
        VaultState::Disabled => (
            "Disabled",
            "Nobody reads or writes its items, whatever its key says. They are kept, and all is back once it is active again.",
        ),
    };
    StateChoice { state, title, means, chosen: state == chosen }
}

async fn delete_page(
    visit: &Visit,
    status: StatusCode,
    id: VaultId,
    typed: &str,
    errors: &[FieldError],
    problem: Option<String>,
) -> Result<Response> {
    let name = visit.app.vault(&visit.caller, id).await?.name;
    let shell = visit.shell("Delete a vault", Section::Settings).await?;
    let typed = Field::checked(typed, "name", errors);
    words::page(status, VaultDeletePage { shell, id: id.to_string(), name, typed, problem })
}

//! What may be changed of a vault itself: its name, its lease, whether it is the default.

use axum::{http::StatusCode, response::Response};

use super::head;
use crate::{
    error::{Error, FieldError, Result},
    http::{
        error::status,
        extract::PathId,
        web::{
            form::Form,
            vaults::said,
            views::{
                Field,
                vault::{VaultSettingsPage, VaultTab},
            },
            visit::{Visit, to},
            words,
        },
    },
    id::VaultId,
    vault::{MIN_LEASE, VaultEdit},
};

pub async fn show(visit: Visit, PathId(id): PathId<VaultId>) -> Result<Response> {
    let vault = visit.app.vault(&visit.caller, id).await?;
    let typed = [vault.name, vault.lease_seconds.to_string()];
    page(&visit, StatusCode::OK, id, typed, &[], None).await
}

pub async fn save(visit: Visit, PathId(id): PathId<VaultId>, form: Form) -> Result<Response> {
    let revision = form.parsed("revision").ok_or(Error::RevisionRequired)?;
    let typed = || [form.text("name"), form.text("lease_seconds")];
    let Some(lease_seconds) = form.parsed::<u32>("lease_seconds") else {
        let errors = [FieldError { field: "lease_seconds".into(), message: "Write a number of seconds.".into() }];
        return page(&visit, StatusCode::UNPROCESSABLE_ENTITY, id, typed(), &errors, None).await;
    };
    let edit = VaultEdit { name: Some(form.text("name")), lease_seconds: Some(lease_seconds), ..VaultEdit::default() };
    match visit.app.edit_vault(&visit.caller, id, Some(revision), edit).await {
        Ok(_) => Ok(to(format!("/settings/vaults/{id}/settings?done=vault-saved"))),
        Err(Error::Invalid(errors)) => page(&visit, StatusCode::UNPROCESSABLE_ENTITY, id, typed(), &errors, None).await,
        Err(error @ Error::Conflict { .. }) => page(&visit, status(&error), id, typed(), &[], Some(said(&error))).await,
        Err(error @ Error::RevisionStale { .. }) => {
            let text = "Somebody else changed this vault at the same moment. Look at it below and save yours again.";
            page(&visit, status(&error), id, typed(), &[], Some(text.into())).await
        }
        Err(error) => Err(error),
    }
}

pub async fn make_default(visit: Visit, PathId(id): PathId<VaultId>) -> Result<Response> {
    let edit = VaultEdit { make_default: true, ..VaultEdit::default() };
    visit.app.edit_vault(&visit.caller, id, None, edit).await?;
    Ok(to(format!("/settings/vaults/{id}?done=vault-default")))
}

async fn page(
    visit: &Visit,
    status: StatusCode,
    id: VaultId,
    [name, lease_seconds]: [String; 2],
    errors: &[FieldError],
    problem: Option<String>,
) -> Result<Response> {
    let vault = visit.app.vault(&visit.caller, id).await?;
    let (shell, head) = head(visit, &vault, format!("/settings/vaults/{id}/settings")).await?;
    words::page(
        status,
        VaultSettingsPage {
            shell,
            vault: head,
            tab: VaultTab::Settings,
            name: Field::checked(name, "name", errors),
            lease_seconds: Field::checked(lease_seconds, "lease_seconds", errors),
            longest_lease: visit.app.settings.lease_seconds.max(MIN_LEASE),
            revision: vault.revision,
            problem,
        },
    )
}

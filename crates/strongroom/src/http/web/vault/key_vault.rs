//! *Change the Key Vault*: another key for a vault, checked like that of a new one. A rewrap brings the vault keys over.

use axum::{
    http::{HeaderMap, StatusCode},
    response::Response,
};

use crate::{
    error::{Error, FieldError, Result},
    http::{
        error::status,
        extract::PathId,
        progress::wants_lines,
        web::{
            checks::{self, Ran, Subject},
            form::Form,
            vaults::{Outcome, accepted, credential_fields, credential_text, ends, said},
            views::{
                Field, Section,
                checks::Place,
                credential::{Keep, KeyVaultPage},
            },
            visit::{Visit, to},
            words,
        },
    },
    id::VaultId,
    vault::{AzureKey, NewKeyVault},
};

pub async fn ask(visit: Visit, PathId(id): PathId<VaultId>) -> Result<Response> {
    visit.app.require_fresh(&visit.caller)?;
    page(&visit, StatusCode::OK, id, None, Outcome::default()).await
}

/// *Check*: nothing is changed.
pub async fn check(visit: Visit, headers: HeaderMap, PathId(id): PathId<VaultId>, form: Form) -> Result<Response> {
    let new = match new_key_vault(&form) {
        Ok(new) => new,
        Err(error) => return wrong(&visit, id, &form, error).await,
    };
    let subject = Subject::KeyVault(id, new);
    if wants_lines(&headers) {
        return checks::streamed(visit, subject).await;
    }
    match checks::whole(&visit, &subject).await {
        Ok(ran) => page(&visit, StatusCode::OK, id, Some(&form), Outcome::of(ran, &form)).await,
        Err(error @ Error::CheckRunning) => {
            page(&visit, status(&error), id, Some(&form), Outcome::problem(&error)).await
        }
        Err(error) => Err(error),
    }
}

pub async fn change(visit: Visit, PathId(id): PathId<VaultId>, form: Form) -> Result<Response> {
    let new = match new_key_vault(&form) {
        Ok(new) => new,
        Err(error) => return wrong(&visit, id, &form, error).await,
    };
    match visit.app.change_key_vault(&visit.caller, id, new).await {
        Ok(_) => Ok(to(format!("/settings/vaults/{id}?done=key-vault"))),
        Err(error) => {
            let status = status(&error);
            let outcome = match error {
                Error::ChecksFailed(lines) => Outcome::of(Ran { lines, took: None }, &form),
                Error::Invalid(errors) => Outcome { errors, ..Outcome::default() },
                error
                @ (Error::Conflict { .. } | Error::Denied(_) | Error::KeyUnavailable(_) | Error::CheckRunning) => {
                    Outcome { problem: Some(said(&error)), ..Outcome::default() }
                }
                error => return Err(error),
            };
            page(&visit, status, id, Some(&form), outcome).await
        }
    }
}

/// The values as they were typed.
fn new_key_vault(form: &Form) -> std::result::Result<NewKeyVault, FieldError> {
    let keep = form.get("credential") == "keep";
    Ok(NewKeyVault {
        tenant_id: Some(form.text("tenant_id")),
        client_id: Some(form.text("client_id")),
        credential: (!keep).then(|| credential_text(form)),
        expires: if keep { None } else { ends(form, "client_secret_expires")? },
        vault_url: form.text("vault_url"),
        vault_key_name: form.text("vault_key_name"),
        accept_warnings: accepted(form),
    })
}

async fn wrong(visit: &Visit, id: VaultId, form: &Form, error: FieldError) -> Result<Response> {
    page(visit, StatusCode::UNPROCESSABLE_ENTITY, id, Some(form), Outcome::wrong(error)).await
}

/// The dialog with what was typed; at first with the values of now.
async fn page(
    visit: &Visit,
    status: StatusCode,
    id: VaultId,
    form: Option<&Form>,
    outcome: Outcome,
) -> Result<Response> {
    let vault = visit.app.vault(&visit.caller, id).await?;
    let Some(AzureKey { tenant_id, client_id, vault_url, key_name, .. }) = vault.azure else {
        return Err(Error::conflict(
            "vault.not_external",
            "a Cloud vault has no key in Azure",
            "Move its items to a vault with Azure External Keys.",
        ));
    };
    let shell = visit.shell("Change the Key Vault", Section::Settings).await?;
    let Outcome { ran, errors, problem } = outcome;
    let empty = Form::default();
    let mut fields = credential_fields(visit, form.unwrap_or(&empty), &errors);
    if form.is_none() {
        fields.credential = None;
    }
    fields.keep = Some(Keep {
        label: "The same",
        hint: "Signs in there with the credential that the vault holds now; its application needs a role on the new key.",
        expires: None,
    });
    let field = |name: &'static str, is: String| Field::checked(form.map_or(is, |form| form.text(name)), name, &errors);
    words::page(
        status,
        KeyVaultPage {
            shell,
            id: id.to_string(),
            name: vault.name,
            client_id: field("client_id", client_id),
            tenant_id: field("tenant_id", tenant_id),
            vault_url: field("vault_url", vault_url),
            key_name: field("vault_key_name", key_name),
            fields,
            checks: checks::panel(Place::Change, ran.as_ref()),
            problem,
        },
    )
}

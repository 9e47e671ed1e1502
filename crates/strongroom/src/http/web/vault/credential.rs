//! *Replace the credential*: the new one is checked as it is typed, then held beside the old one until it has worked.

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
                credential::{CredentialPage, Keep},
            },
            visit::{Visit, to},
            words,
        },
    },
    id::VaultId,
    vault::{NewCredential, Signer},
};

pub async fn ask(visit: Visit, PathId(id): PathId<VaultId>) -> Result<Response> {
    // Asked now, so that nobody types a secret and is asked then.
    visit.app.require_fresh(&visit.caller)?;
    let held = visit.app.credential(&visit.caller, id).await?;
    let client_id = held.client_id.clone();
    page(&visit, StatusCode::OK, id, held, &Form::default(), client_id, Outcome::default()).await
}

/// *Check*: nothing is changed.
pub async fn check(visit: Visit, headers: HeaderMap, PathId(id): PathId<VaultId>, form: Form) -> Result<Response> {
    let new = match new_credential(&form) {
        Ok(new) => new,
        Err(error) => return again(&visit, StatusCode::UNPROCESSABLE_ENTITY, id, &form, Outcome::wrong(error)).await,
    };
    let subject = Subject::Credential(id, new);
    if wants_lines(&headers) {
        return checks::streamed(visit, subject).await;
    }
    match checks::whole(&visit, &subject).await {
        Ok(ran) => again(&visit, StatusCode::OK, id, &form, Outcome::of(ran, &form)).await,
        Err(error @ Error::CheckRunning) => again(&visit, status(&error), id, &form, Outcome::problem(&error)).await,
        Err(error) => Err(error),
    }
}

pub async fn replace(visit: Visit, PathId(id): PathId<VaultId>, form: Form) -> Result<Response> {
    let new = match new_credential(&form) {
        Ok(new) => new,
        Err(error) => return again(&visit, StatusCode::UNPROCESSABLE_ENTITY, id, &form, Outcome::wrong(error)).await,
    };
    let only_its_end = new.credential.is_none();
    match visit.app.replace_credential(&visit.caller, id, new).await {
        Ok(replaced) if replaced.others.iter().any(|other| other.refused.is_some()) => {
            Ok(to(format!("/settings/vaults/{id}?done=credential-here")))
        }
        Ok(_) if only_its_end => Ok(to(format!("/settings/vaults/{id}?done=credential-end"))),
        Ok(_) => Ok(to(format!("/settings/vaults/{id}?done=credential-replaced"))),
        Err(error) => {
            let status = status(&error);
            let outcome = match error {
                Error::ChecksFailed(lines) => Outcome::of(Ran { lines, took: None }, &form),
                Error::Invalid(errors) => Outcome { errors, ..Outcome::default() },
                error @ (Error::Conflict { .. } | Error::KeyUnavailable(_) | Error::CheckRunning) => {
                    Outcome { problem: Some(said(&error)), ..Outcome::default() }
                }
                error => return Err(error),
            };
            again(&visit, status, id, &form, outcome).await
        }
    }
}

/// The credential as it was typed; none where only the end of the one that is held was.
fn new_credential(form: &Form) -> std::result::Result<NewCredential, FieldError> {
    let keep = form.get("credential") == "keep";
    let credential = (!keep).then(|| credential_text(form));
    let expires = if keep { ends(form, "credential_expires")? } else { ends(form, "client_secret_expires")? };
    if keep && expires.is_none() {
        return Err(FieldError { field: "credential_expires".into(), message: "Write the day it ends.".into() });
    }
    Ok(NewCredential {
        client_id: Some(form.text("client_id")).filter(|id| !id.is_empty() && !keep),
        credential,
        expires,
        accept_warnings: accepted(form),
        everywhere: form.has("everywhere"),
    })
}

async fn again(visit: &Visit, status: StatusCode, id: VaultId, form: &Form, outcome: Outcome) -> Result<Response> {
    let held = visit.app.credential(&visit.caller, id).await?;
    page(visit, status, id, held, form, form.text("client_id"), outcome).await
}

async fn page(
    visit: &Visit,
    status: StatusCode,
    id: VaultId,
    held: Signer,
    form: &Form,
    client_id: String,
    outcome: Outcome,
) -> Result<Response> {
    let name = visit.app.vault(&visit.caller, id).await?.name;
    let shell = visit.shell("Replace the credential", Section::Settings).await?;
    let Outcome { ran, errors, problem } = outcome;
    let mut fields = credential_fields(visit, form, &errors);
    if form.get("credential").is_empty() {
        fields.credential = Some(held.kind);
    }
    fields.keep = Some(Keep {
        label: "Its date only",
        hint: "Notes when the client secret that is held ends, as chosen in Azure; nothing else is changed.",
        expires: Some(Field::checked(form.get("credential_expires"), "credential_expires", &errors)),
    });
    words::page(
        status,
        CredentialPage {
            shell,
            id: id.to_string(),
            name,
            client_id: Field::checked(client_id, "client_id", &errors),
            fields,
            others: held.also_in.len() as u64,
            everywhere: form.has("everywhere"),
            checks: checks::panel(Place::Change, ran.as_ref()),
            problem,
        },
    )
}

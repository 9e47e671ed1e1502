//! `…/vaults`: strategies, checks, health.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde_json::json;
use strongroom_keys::check::CheckLine;

use super::{
    paging,
    types::{
        AzureKey, ChangedKeyVault, Check, CheckStatus, CheckVault, Checks, CreateVault, DeleteVault, EditVault,
        HealthStatus, NewKeyVault as Asked, Page, PageQuery, Vault as Shown, VaultHealth, VaultKey,
    },
};
use crate::{
    access::{Action, Target as Aim},
    app::{App, Caller},
    error::{Error, KeyUnavailable, Result, Unavailable},
    http::{
        error::problem,
        extract::{Authenticated, Body, IfMatch, ListQuery, PathId, Tagged},
        progress::{self, Told},
    },
    id::VaultId,
    keyring::Strategy,
    secret_text::SecretText,
    vault::{AzureRequest, CredentialText, Health, KeyRequest, NewKeyVault, Vault, VaultEdit, VaultRequest, expiry},
};

type Server = State<Arc<App>>;

pub async fn list(
    State(app): Server,
    Authenticated(caller): Authenticated,
    ListQuery(query): ListQuery<PageQuery>,
) -> Result<Json<Page<Shown>>> {
    let vaults = app.vaults(&caller).await?;
    paging::page(&query, vaults, |vault| shown(vault, &caller)).map(Json)
}

pub async fn create(
    State(app): Server,
    Authenticated(caller): Authenticated,
    Body(body): Body<CreateVault>,
) -> Result<impl IntoResponse> {
    let key = match (body.strategy, body.azure) {
        (Strategy::Cloud, None) => KeyRequest::Cloud,
        (Strategy::AzureExternalKeys, Some(azure)) => KeyRequest::Azure(azure_request(azure)?),
        (Strategy::Cloud, Some(_)) => return Err(Error::field("azure", "A Cloud vault takes no key in Azure.")),
        (Strategy::AzureExternalKeys, None) => {
            return Err(Error::field("azure", "Azure External Keys needs the values of the key in Azure."));
        }
    };
    let CreateVault { name, default: make_default, accept_warnings, .. } = body;
    let vault = app
        .create_vault(&caller, VaultRequest { name, make_default, key, accept_warnings: accept_warnings.into() })
        .await?;
    let place = format!("/api/v1/workspaces/{}/vaults/{}", caller.workspace_slug, vault.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, place)], tagged(vault, &caller)))
}

pub async fn get(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<VaultId>,
) -> Result<Tagged<Json<Shown>>> {
    Ok(tagged(app.vault(&caller, id).await?, &caller))
}

pub async fn edit(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<VaultId>,
    IfMatch(revision): IfMatch,
    Body(body): Body<EditVault>,
) -> Result<Tagged<Json<Shown>>> {
    if body.default == Some(false) {
        return Err(Error::field("default", "Make another vault the default one instead."));
    }
    let EditVault { name, lease_seconds, state, may_leave, default } = body;
    let edit = VaultEdit { name, make_default: default.is_some(), lease_seconds, state, may_leave };
    Ok(tagged(app.edit_vault(&caller, id, Some(revision), edit).await?, &caller))
}

pub async fn delete(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<VaultId>,
    ListQuery(query): ListQuery<DeleteVault>,
) -> Result<StatusCode> {
    app.delete_vault(&caller, id, &query.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn change_key_vault(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<VaultId>,
    Body(body): Body<Asked>,
) -> Result<Json<ChangedKeyVault>> {
    let job = app.change_key_vault(&caller, id, key_vault(body)?).await?;
    Ok(Json(ChangedKeyVault { vault: shown(app.vault(&caller, id).await?, &caller), job: job.0 }))
}

pub async fn check_key_vault(
    State(app): Server,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    PathId(id): PathId<VaultId>,
    Body(body): Body<Asked>,
) -> Result<Response> {
    let new = key_vault(body)?;
    answer_checks(&headers, move |tell| async move { app.check_key_vault(&caller, id, &new, &*tell).await }).await
}

fn key_vault(body: Asked) -> Result<NewKeyVault> {
    let typed = (body.client_secret, body.client_certificate, body.workload_identity);
    let (credential, expires) = credential("azure", typed, body.client_secret_expires)?;
    Ok(NewKeyVault {
        tenant_id: body.tenant_id,
        client_id: body.client_id,
        credential,
        expires,
        vault_url: body.vault_url,
        vault_key_name: body.vault_key_name,
        accept_warnings: body.accept_warnings.into(),
    })
}

pub async fn check_azure(
    State(app): Server,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    Body(CheckVault { azure }): Body<CheckVault>,
) -> Result<Response> {
    let request = azure_request(azure)?;
    answer_checks(&headers, move |tell| async move { app.check_azure(&caller, &request.input(), &*tell).await }).await
}

pub async fn check(
    State(app): Server,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    PathId(id): PathId<VaultId>,
) -> Result<Response> {
    answer_checks(&headers, move |tell| async move { app.check_vault(&caller, id, &*tell).await }).await
}

/// All checks in one answer, or each as soon as it is made.
pub(super) async fn answer_checks<F, Fut>(headers: &HeaderMap, check: F) -> Result<Response>
where
    F: FnOnce(progress::Lines) -> Fut,
    Fut: Future<Output = Result<Vec<CheckLine>>> + Send + 'static,
{
    if progress::wants_lines(headers) {
        return Ok(progress::answer(progress::start(check).await?, news));
    }
    let lines = check(Arc::new(|_: &CheckLine| ())).await?;
    Ok(Json(Checks { checks: lines.into_iter().map(check_line).collect() }).into_response())
}

fn news(told: Told) -> serde_json::Value {
    match told {
        Told::Line(line) => json!(check_line(line)),
        // Behind a proxy that collects answers, one that was cut off would look whole.
        Told::End(Ok(_)) => json!({ "end": true }),
        Told::End(Err(error)) => json!({ "problem": problem(&error) }),
    }
}

/// What was typed, with exactly one credential.
fn azure_request(azure: AzureKey) -> Result<AzureRequest> {
    let typed = (azure.client_secret, azure.client_certificate, azure.workload_identity);
    let (credential, credential_expires) = credential("azure", typed, azure.client_secret_expires)?;
    let Some(credential) = credential else {
        return Err(one_credential("azure"));
    };
    let AzureKey { client_id, tenant_id, vault_url, vault_key_name, .. } = azure;
    Ok(AzureRequest { client_id, tenant_id, credential, credential_expires, vault_url, vault_key_name })
}

fn one_credential(field: &'static str) -> Error {
    Error::field(field, "Give exactly one of client_secret, client_certificate and workload_identity: true.")
}

/// A credential, if one was typed, and when it ends. More than one is refused; `field` is where they were typed.
pub(super) fn credential(
    field: &'static str,
    typed: (Option<SecretText>, Option<SecretText>, bool),
    expires: Option<String>,
) -> Result<(Option<CredentialText>, Option<Timestamp>)> {
    let credential = match typed {
        (None, None, false) => None,
        (Some(secret), None, false) => Some(CredentialText::Secret(secret)),
        (None, Some(pem), false) => Some(CredentialText::Certificate(pem)),
        (None, None, true) => Some(CredentialText::WorkloadIdentity),
        _ => return Err(one_credential(field)),
    };
    let wrong = |message| Error::field(format!("{field}.client_secret_expires"), message);
    let expires = match (expires, &credential) {
        (None, _) => None,
        (Some(text), None | Some(CredentialText::Secret(_))) => {
            Some(expiry(&text).ok_or_else(|| wrong("Write a date like 2027-05-01, or RFC 3339."))?)
        }
        (Some(_), _) => return Err(wrong("Only a client secret takes this; a certificate says itself when it ends.")),
    };
    Ok((credential, expires))
}

pub(super) fn tagged(vault: Vault, caller: &Caller) -> Tagged<Json<Shown>> {
    Tagged(vault.revision, Json(shown(vault, caller)))
}

/// Where the key is and how much lies under it is for those who manage vaults.
pub(super) fn shown(vault: Vault, caller: &Caller) -> Shown {
    let manages = caller.may(Action::ManageVaults, Aim::Workspace);
    let key = vault.azure.filter(|_| manages).map(|azure| VaultKey {
        key_version: vault.kid.rsplit('/').next().unwrap_or_default().to_owned(),
        kid: vault.kid,
        provider: "azure".into(),
        tenant_id: azure.tenant_id,
        client_id: azure.client_id,
        vault_url: azure.vault_url,
        vault_key_name: azure.key_name,
        credential_kind: azure.credential_kind,
        credential_expires: azure.credential_expires,
    });
    Shown {
        id: vault.id.0,
        name: vault.name,
        strategy: vault.strategy,
        default: vault.is_default,
        state: vault.state,
        may_leave: vault.may_leave,
        lease_seconds: vault.lease_seconds,
        key,
        health: health(vault.health),
        item_count: manages.then_some(vault.items),
        revision: vault.revision,
        created_at: vault.created_at,
    }
}

fn health(health: Health) -> VaultHealth {
    let well = |status| VaultHealth {
        status,
        state: None,
        code: None,
        title: None,
        detail: None,
        since: None,
        recoverable_until: None,
        fix: None,
        azure_request_id: None,
        answered_at: None,
    };
    match health {
        Health::Healthy(Some(at)) => VaultHealth { answered_at: Some(at), ..well(HealthStatus::Healthy) },
        Health::Healthy(None) => well(HealthStatus::Unknown),
        Health::Unavailable(why) => unwell(why),
    }
}

fn unwell(why: KeyUnavailable) -> VaultHealth {
    VaultHealth {
        status: match why.class {
            Unavailable::Dark | Unavailable::Disabled => HealthStatus::Dark,
            Unavailable::Outage => HealthStatus::Outage,
            Unavailable::Fault => HealthStatus::Fault,
        },
        state: Some(why.state().word().into()),
        code: Some(why.code),
        title: Some(why.title),
        detail: Some(why.detail),
        since: Some(why.since),
        recoverable_until: why.recoverable_until,
        fix: Some(why.fix),
        azure_request_id: why.azure_request_id,
        answered_at: None,
    }
}

fn check_line(line: CheckLine) -> Check {
    use strongroom_keys::check::CheckStatus as Status;
    Check {
        code: line.code.into(),
        title: line.title.into(),
        status: match line.status {
            Status::Pass => CheckStatus::Pass,
            Status::Warn => CheckStatus::Warn,
            Status::Fail => CheckStatus::Fail,
            Status::Skipped => CheckStatus::Skipped,
            Status::CouldNotCheck => CheckStatus::CouldNotCheck,
        },
        reason: line.reason.map(Into::into),
        cause: line.cause,
        fix: line.fix,
        command: line.command,
        ms: Some(line.ms),
        azure_request_id: line.azure_request_id,
    }
}

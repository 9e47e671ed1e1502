//! `…/vaults/{vault}/credential`: what the vault signs in with.

use std::sync::Arc;

use axum::{Json, extract::State, http::HeaderMap, response::Response};

use super::{
    types::{Credential, NewCredential as Asked, OtherVault as Other, ReplacedCredential, VaultName},
    vaults::{answer_checks, credential, shown},
};
use crate::{
    app::App,
    error::Result,
    http::{
        error::problem,
        extract::{Authenticated, Body, PathId},
    },
    id::VaultId,
    vault::{NewCredential, OtherVault},
};

type Server = State<Arc<App>>;

pub async fn get(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<VaultId>,
) -> Result<Json<Credential>> {
    let held = app.credential(&caller, id).await?;
    Ok(Json(Credential {
        client_id: held.client_id,
        kind: held.kind,
        expires: held.expires,
        previous_held: held.previous_held,
        also_in: held.also_in.into_iter().map(|vault| VaultName { id: vault.id.0, name: vault.name }).collect(),
    }))
}

pub async fn check(
    State(app): Server,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    PathId(id): PathId<VaultId>,
    Body(body): Body<Asked>,
) -> Result<Response> {
    let new = asked(body)?;
    answer_checks(&headers, move |tell| async move { app.check_credential(&caller, id, &new, &*tell).await }).await
}

pub async fn replace(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<VaultId>,
    Body(body): Body<Asked>,
) -> Result<Json<ReplacedCredential>> {
    let replaced = app.replace_credential(&caller, id, asked(body)?).await?;
    let others = replaced.others.into_iter().map(|OtherVault { id, name, refused }| Other {
        id: id.0,
        name,
        problem: refused.as_ref().map(problem),
    });
    Ok(Json(ReplacedCredential { others: others.collect(), vault: shown(replaced.vault, &caller) }))
}

fn asked(body: Asked) -> Result<NewCredential> {
    let typed = (body.client_secret, body.client_certificate, body.workload_identity);
    let (credential, expires) = credential("credential", typed, body.client_secret_expires)?;
    Ok(NewCredential {
        client_id: body.client_id,
        credential,
        expires,
        accept_warnings: body.accept_warnings.into(),
        everywhere: body.everywhere,
    })
}

//! `…/vaults/{vault}/rewrap`, `rotate`, `reencrypt`, `census`, and the end of old generations.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};

use super::types::{Census, ChangeKey, GenerationUse, KeyChange as Shown, KeyChanges, KeyVersionUse, VaultKeyChange};
use crate::{
    app::App,
    error::Result,
    http::{
        error::problem,
        extract::{Authenticated, Body, PathId},
    },
    id::VaultId,
    vault::{self, KeyChange},
};

type Server = State<Arc<App>>;

pub async fn rewrap(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(vault): PathId<VaultId>,
    Body(ChangeKey { dry_run }): Body<ChangeKey>,
) -> Result<Json<Shown>> {
    app.rewrap(&caller, vault, dry_run).await.map(shown).map(Json)
}

pub async fn rotate(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(vault): PathId<VaultId>,
    Body(ChangeKey { dry_run }): Body<ChangeKey>,
) -> Result<Json<Shown>> {
    app.rotate(&caller, vault, dry_run).await.map(shown).map(Json)
}

pub async fn reencrypt(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(vault): PathId<VaultId>,
    Body(ChangeKey { dry_run }): Body<ChangeKey>,
) -> Result<Json<Shown>> {
    app.reencrypt(&caller, vault, dry_run).await.map(shown).map(Json)
}

pub async fn rewrap_all(
    State(app): Server,
    Authenticated(caller): Authenticated,
    Body(ChangeKey { dry_run }): Body<ChangeKey>,
) -> Result<Json<KeyChanges>> {
    let changes = app.rewrap_all(&caller, dry_run).await?;
    let items = changes.into_iter().map(|(vault, change)| match change {
        Ok(change) => VaultKeyChange { vault_id: vault.0, change: Some(shown(change)), problem: None },
        Err(error) => VaultKeyChange { vault_id: vault.0, change: None, problem: Some(problem(&error)) },
    });
    Ok(Json(KeyChanges { items: items.collect() }))
}

pub async fn census(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(vault): PathId<VaultId>,
) -> Result<Json<Census>> {
    let census = app.census(&caller, vault).await?;
    let kill_switch = census.kill_switch();
    let vault::Census { versions, generations, newest_unknown } = census;
    Ok(Json(Census {
        versions: versions.into_iter().map(key_version).collect(),
        generations: generations.into_iter().map(generation).collect(),
        newest_unknown,
        kill_switch,
    }))
}

pub async fn retire(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(vault): PathId<VaultId>,
    PathId(generation): PathId<u32>,
) -> Result<StatusCode> {
    app.retire_generation(&caller, vault, generation).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(change: KeyChange) -> Shown {
    Shown {
        kind: change.kind,
        job_id: change.job.map(|job| job.0),
        vault_keys: change.vault_keys,
        key_operations: change.key_operations,
        data_keys: change.data_keys,
        items: change.items,
        revisions: change.revisions,
        seconds_at_least: change.seconds_at_least,
        exposes: change.exposes.into_iter().map(str::to_owned).collect(),
    }
}

fn key_version(used: vault::KeyVersionUse) -> KeyVersionUse {
    KeyVersionUse {
        verdict: used.verdict(),
        kid: used.kid,
        newest: used.newest,
        enabled: used.enabled,
        vault_keys: used.vault_keys,
        items: used.items,
        jobs: used.jobs,
        backups: used.backups,
        superseded_wraps: used.superseded_wraps,
        safe_to_disable: used.safe_to_disable,
    }
}

fn generation(used: vault::GenerationUse) -> GenerationUse {
    GenerationUse {
        generation: used.generation,
        kid: used.kid,
        current: used.current,
        data_keys: used.data_keys,
        items: used.items,
        revisions: used.revisions,
        retirable: used.retirable,
    }
}

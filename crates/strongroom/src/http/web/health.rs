//! Health: `GET /health` and the tab of a vault's page.

use axum::response::Response;
use jiff::Timestamp;

use super::{
    vault,
    vaults::{key_vault_name, key_version},
    views::{
        Section,
        chart::{Chart, Span},
        health::{HealthPage, HealthRow, VaultHealthPage},
        vault::VaultTab,
    },
    visit::Visit,
    words,
};
use crate::{
    error::Result,
    http::extract::PathId,
    id::VaultId,
    keyring::Strategy,
    vault::{Health, Vault},
};

/// All vaults.
pub async fn list(visit: Visit) -> Result<Response> {
    let (now, vaults) = (visit.app.clock.now(), visit.app.vaults(&visit.caller).await?);
    let rows = vaults.iter().map(|vault| row(&visit, vault, now)).collect();
    let external = vaults.iter().any(|vault| vault.strategy == Strategy::AzureExternalKeys);
    let shell = visit.shell("Health", Section::Health).await?;
    visit.page(HealthPage { shell, rows, external })
}

/// One of them.
pub async fn show(visit: Visit, PathId(id): PathId<VaultId>) -> Result<Response> {
    let vault = visit.app.vault(&visit.caller, id).await?;
    let (now, span) = (visit.app.clock.now(), Span::parse(visit.asked("span")));
    let (shell, head) = vault::head(&visit, &vault, visit.path.clone()).await?;
    visit.page(VaultHealthPage {
        shell,
        chart: Chart::of(id.to_string(), &[], now, span),
        vault: head,
        tab: VaultTab::Health,
        span,
        key: row(&visit, &vault, now),
        lease_seconds: vault.lease_seconds,
        leases: Vec::new(),
    })
}

fn row(visit: &Visit, vault: &Vault, now: Timestamp) -> HealthRow {
    let (answered, since) = match &vault.health {
        Health::Healthy(at) => (*at, None),
        Health::Unavailable(why) => (visit.app.keyring.last_answer(vault.id), Some(why.since)),
    };
    HealthRow {
        id: vault.id.to_string(),
        name: vault.name.clone(),
        state: words::state(&vault.health),
        key: match (&vault.azure, vault.strategy) {
            (Some(azure), _) => format!("{} / {}", key_vault_name(&azure.vault_url), azure.key_name),
            (None, Strategy::Cloud) => "Instance key".to_owned(),
            (None, Strategy::AzureExternalKeys) => "not known".to_owned(),
        },
        key_version: vault
            .azure
            .as_ref()
            .map(|_| key_version(&vault.kid).chars().take(8).collect())
            .unwrap_or_default(),
        answered: answered.map(|at| words::moment(now, at)),
        since: since.map(words::since),
        credential: vault.azure.as_ref().and_then(|azure| azure.credential_expires).map(|at| vault::expiry_of(now, at)),
    }
}

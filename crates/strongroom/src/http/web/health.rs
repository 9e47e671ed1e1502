//! Health: `GET /health` and the tab of a vault's page.

use axum::response::Response;
use jiff::Timestamp;

use super::{
    vault,
    vaults::{key_vault_name, key_version},
    views::{
        Section,
        chart::{Chart, Span},
        health::{HealthPage, HealthRow, LeaseRow, VaultHealthPage, WatchRow},
        vault::VaultTab,
    },
    visit::Visit,
    words,
};
use crate::{
    error::Result,
    http::extract::PathId,
    id::VaultId,
    keyring::{KeyWatch, Strategy},
    vault::{Health, KeyHealth},
};

/// All vaults.
pub async fn list(visit: Visit) -> Result<Response> {
    let (now, vaults) = (visit.app.clock.now(), visit.app.vaults(&visit.caller).await?);
    let external = vaults.iter().any(|vault| vault.strategy == Strategy::AzureExternalKeys);
    let mut rows = Vec::with_capacity(vaults.len());
    for vault in vaults {
        let health = visit.app.key_health(&visit.caller, vault.id).await?;
        rows.push(row(&health, now));
    }
    let shell = visit.shell("Health", Section::Health).await?;
    visit.page(HealthPage { shell, rows, external })
}

/// One of them.
pub async fn show(visit: Visit, PathId(id): PathId<VaultId>) -> Result<Response> {
    let health = visit.app.key_health(&visit.caller, id).await?;
    let (now, span) = (visit.app.clock.now(), Span::parse(visit.asked("span")));
    let (shell, head) = vault::head(&visit, &health.vault, visit.path.clone()).await?;
    let leases = health.leases.iter().map(|lease| LeaseRow {
        generation: lease.generation,
        ends: words::moment(now, lease.ends_at),
        in_use: lease.in_use,
    });
    visit.page(VaultHealthPage {
        shell,
        chart: Chart::of(id.to_string(), &health.samples, now, span),
        vault: head,
        tab: VaultTab::Health,
        span,
        key: row(&health, now),
        watch: health.watch.as_ref().map(|watch| watch_row(watch, now)),
        lease_seconds: health.vault.lease_seconds,
        leases: leases.collect(),
    })
}

fn watch_row(watch: &KeyWatch, now: Timestamp) -> WatchRow {
    let size = watch.bits.map(|bits| format!(" {bits}")).unwrap_or_default();
    WatchRow {
        newest: watch.newest.as_deref().map(|kid| key_version(kid).chars().take(8).collect()),
        kind: watch.key_type.as_ref().map(|kind| format!("{kind}{size}")),
        enabled: watch.enabled,
        purge_protected: watch.purge_protected(),
        checked: watch.check_codes.clone(),
        seen: watch.seen_at.map(|at| words::moment(now, at)),
        error: watch.error.clone(),
    }
}

fn row(health: &KeyHealth, now: Timestamp) -> HealthRow {
    let vault = &health.vault;
    let since = match &vault.health {
        Health::Healthy(_) => None,
        Health::Unavailable(why) => Some(why.since),
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
        answered: health.last_success.map(|at| words::moment(now, at)),
        since: since.map(words::since),
        credential: vault
            .azure
            .as_ref()
            .and_then(|azure| azure.credential_expires)
            .map(|at| super::vault::expiry_of(now, at)),
        key_ends: health.watch.as_ref().and_then(|watch| watch.expires).map(|at| super::vault::expiry_of(now, at)),
        quota: health.quota.as_ref().map(|quota| {
            format!("{} of {} in {} s, {} by jobs", quota.used, quota.limit, quota.window_seconds, quota.jobs)
        }),
    }
}

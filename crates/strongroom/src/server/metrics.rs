//! `GET /metrics` on a listener of its own, in Prometheus' text format. Ids and numbers, no names.

mod keys;

use std::{fmt::Write, net::SocketAddr, sync::Arc};

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};

use crate::{app::App, error::Result, id::VaultId, keyring::Strategy, notice, vault};

/// Serves until the task is dropped.
pub async fn serve(app: Arc<App>, address: SocketAddr) -> Result<()> {
    let listener = super::listen(address).await?;
    let router = Router::new().route("/metrics", get(metrics)).with_state(app);
    axum::serve(listener, router).await.map_err(super::broken)
}

async fn metrics(State(app): State<Arc<App>>) -> Result<impl IntoResponse> {
    let vaults = app
        .store
        .read(|tx| {
            tx.all(
                "SELECT v.id, v.strategy, k.status FROM vaults v LEFT JOIN key_states k ON k.vault_id = v.id",
                &[],
                |row| Ok((VaultId(row.get(0)?), row.parse::<Strategy>(1)?, row.get::<Option<String>>(2)?)),
            )
        })
        .await?;
    let mut out = String::from(
        "# HELP strongroom_vault_key Whether a vault's key answers: 1 for its present status.\n\
         # TYPE strongroom_vault_key gauge\n",
    );
    for (id, strategy, status) in &vaults {
        let status = status.as_deref().unwrap_or("healthy");
        let strategy = strategy.word();
        let line = format!("strongroom_vault_key{{vault=\"{id}\",strategy=\"{strategy}\",status=\"{status}\"}} 1\n");
        out += &line;
    }
    out += "# HELP strongroom_vault_key_answered_seconds When a vault's key last answered this node.\n\
            # TYPE strongroom_vault_key_answered_seconds gauge\n";
    for (id, ..) in &vaults {
        if let Some(at) = app.keyring.last_answer(*id) {
            let line = format!("strongroom_vault_key_answered_seconds{{vault=\"{id}\"}} {}\n", at.as_second());
            out += &line;
        }
    }
    keys::write(&app, &mut out).await?;
    out += "# HELP strongroom_leases Vault keys in this node's memory.\n# TYPE strongroom_leases gauge\n";
    writeln!(out, "strongroom_leases {}", app.keyring.leases()).expect("writing to memory does not fail");
    credentials(&app, &mut out).await?;
    notices(&app, &mut out).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], out))
}

/// When credentials end, where that is known and proven.
async fn credentials(app: &App, out: &mut String) -> Result<()> {
    let (keys, now) = (app.keys.clone(), app.clock.now());
    let vaults = app.store.read(move |tx| vault::of_all_workspaces(tx, &keys, now)).await?;
    *out += "# HELP strongroom_credential_expires_seconds When a vault's credential ends.\n\
             # TYPE strongroom_credential_expires_seconds gauge\n";
    for (_, vault) in &vaults {
        if let Some(at) = vault.azure.as_ref().and_then(|azure| azure.credential_expires) {
            *out += &format!("strongroom_credential_expires_seconds{{vault=\"{}\"}} {}\n", vault.id, at.as_second());
        }
    }
    Ok(())
}

/// What was told, and what became of it.
async fn notices(app: &App, out: &mut String) -> Result<()> {
    let (told, sent) = app.store.read(|tx| Ok((notice::counts(tx)?, notice::delivery_counts(tx)?))).await?;
    *out += "# HELP strongroom_notices Notices of the last year, by kind.\n# TYPE strongroom_notices gauge\n";
    for (kind, all, _) in &told {
        *out += &format!("strongroom_notices{{kind=\"{kind}\"}} {all}\n");
    }
    *out += "# HELP strongroom_notices_open Of those, the ones that tell of a key that still does not answer.\n\
             # TYPE strongroom_notices_open gauge\n";
    for (kind, _, open) in told.iter().filter(|(kind, ..)| kind == notice::Kind::KeyUnhealthy.word()) {
        *out += &format!("strongroom_notices_open{{kind=\"{kind}\"}} {open}\n");
    }
    *out += "# HELP strongroom_notice_deliveries Deliveries of notices, by channel and state.\n\
             # TYPE strongroom_notice_deliveries gauge\n";
    for (channel, state, count) in &sent {
        *out += &format!("strongroom_notice_deliveries{{channel=\"{channel}\",state=\"{state}\"}} {count}\n");
    }
    Ok(())
}

//! `…/exports`: items as a file for elsewhere.

use std::sync::Arc;

use axum::{
    Json,
    body::Body as Bytes,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use super::{
    items::dark,
    types::{ExportPlan, ExportedVault, PlanExport, StartExport},
};
use crate::{
    app::{App, Caller},
    error::Result,
    http::extract::{Authenticated, Body},
    id::VaultId,
    item::{Export, ExportRequest},
};

pub async fn plan(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Body(PlanExport { vault_id, format }): Body<PlanExport>,
) -> Result<Json<ExportPlan>> {
    let plan = app.plan_export(&caller, vault_id.map(VaultId), format).await?;
    Ok(Json(ExportPlan {
        format,
        items: plan.items,
        vaults: plan.vaults.into_iter().map(|(vault, items)| ExportedVault { vault_id: vault.0, items }).collect(),
        dark: plan.dark.into_iter().map(dark).collect(),
        trashed: plan.trashed,
        leaves_out: format.leaves_out().into_iter().map(str::to_owned).collect(),
    }))
}

pub async fn start(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Body(StartExport { vault_id, format, passphrase }): Body<StartExport>,
) -> Result<Response> {
    let request = ExportRequest { vault: vault_id.map(VaultId), format, passphrase };
    Ok(file(&app, &caller, app.export(&caller, request).await?))
}

/// The file as an answer that browsers save.
pub fn file(app: &App, caller: &Caller, export: Export) -> Response {
    let format = export.plan.format;
    let day = app.clock.now().strftime("%Y%m%d");
    let ending = if format.word() == "csv" { "csv" } else { "json" };
    let readable = if format.is_encrypted() { "" } else { "readable_" };
    let name = format!("attachment; filename=\"strongroom_{readable}{}_{day}.{ending}\"", caller.workspace_slug);
    let headers = [
        (header::CONTENT_TYPE, format.media_type().to_owned()),
        (header::CONTENT_DISPOSITION, name),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (headers, Bytes::from_stream(export.file)).into_response()
}

//! `…/audit`: the log, as it proves itself genuine.

use std::sync::Arc;

use axum::{Json, extract::State};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use uuid::Uuid;

use super::{
    paging::Window,
    types::{
        AuditCheckpoint, AuditEvent, AuditGrowth, AuditOutcome, AuditPage as ShownPage, AuditProof, AuditQuery,
        AuditTarget, ExportPage, ExportQuery, ExportedEvent, GrowthQuery,
    },
};
use crate::{
    app::App,
    audit::{AuditFilter, AuditPage, Entry, Exported, Fact, Outcome, Target, word},
    error::{Error, Result},
    http::extract::{Authenticated, ListQuery, PathId},
    id::{EventId, MemberId},
};

pub async fn list(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    ListQuery(query): ListQuery<AuditQuery>,
) -> Result<Json<ShownPage>> {
    let limit = Window::of(None, query.limit)?.limit;
    let target = match (query.item_id, query.vault_id) {
        (Some(_), Some(_)) => return Err(Error::field("vault_id", "Ask for an item or for a vault.")),
        (item, vault) => item.or(vault),
    };
    let filter = AuditFilter {
        action: query.action,
        outcome: query.outcome.map(outcome),
        actor: query.member_id.map(MemberId),
        target,
        from: query.after,
        to: query.before,
    };
    let AuditPage { entries, broken, next_cursor } =
        app.audit_page(&caller, filter, query.cursor.as_deref(), limit).await?;
    let items = entries.into_iter().map(shown).collect();
    Ok(Json(ShownPage { items, broken: broken.into_iter().map(|id| id.0).collect(), next_cursor }))
}

pub async fn export(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    ListQuery(query): ListQuery<ExportQuery>,
) -> Result<Json<ExportPage>> {
    let limit = Window::of(None, query.limit)?.limit;
    let page = app.export_audit(&caller, query.cursor.as_deref(), limit).await?;
    let items = page.items.into_iter().map(exported).collect();
    let broken = page.broken.into_iter().map(|id| id.0).collect();
    Ok(Json(ExportPage { items, broken, next_cursor: page.next_cursor, more: page.more }))
}

pub async fn checkpoint(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
) -> Result<Json<AuditCheckpoint>> {
    let head = app.log_head(&caller).await?;
    let note = head.checkpoint.note().to_owned();
    let (origin, size) = (head.checkpoint.origin, head.checkpoint.size);
    Ok(Json(AuditCheckpoint { origin, size, note, public_key: head.key.to_string() }))
}

pub async fn growth(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    ListQuery(query): ListQuery<GrowthQuery>,
) -> Result<Json<AuditGrowth>> {
    let growth = app.prove_growth(&caller, query.from).await?;
    let hashes = growth.hashes.iter().map(|hash| BASE64_STANDARD.encode(hash)).collect();
    let note = growth.checkpoint.note().to_owned();
    Ok(Json(AuditGrowth { from: growth.from, size: growth.checkpoint.size, hashes, note }))
}

pub async fn proof(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    PathId(event): PathId<EventId>,
) -> Result<Json<AuditProof>> {
    let proof = app.prove_event(&caller, event).await?;
    Ok(Json(AuditProof { index: proof.index, proof: proof.to_string() }))
}

fn exported(exported: Exported) -> ExportedEvent {
    let Exported { index, entry, bytes } = exported;
    let facts = entry.event.detail.iter().map(|(name, fact)| {
        let value = match fact {
            Fact::Text(text) => text.as_str().into(),
            Fact::Number(number) => (*number).into(),
            Fact::Id(id) => id.to_string().into(),
            Fact::Bytes(bytes) => hex::encode(bytes).into(),
        };
        (name.clone(), value)
    });
    let facts = facts.collect();
    ExportedEvent { index, event: shown(entry), facts, bytes: BASE64_STANDARD.encode(bytes) }
}

fn shown(entry: Entry) -> AuditEvent {
    let hash = hex::encode(entry.hash());
    let Entry { place, event } = entry;
    let text = |name: &str| match event.fact(name) {
        Some(Fact::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let count = match event.fact("count") {
        Some(Fact::Number(count)) => Some(*count),
        _ => None,
    };
    let vault_of_item = match event.fact("vault") {
        Some(Fact::Id(id)) => Some(*id),
        _ => None,
    };
    let kind = target(&event.target);
    let aimed_at = |wanted: &str| kind.as_ref().filter(|target| target.kind == wanted).map(|target| target.id);
    AuditEvent {
        id: event.id.0,
        at: event.at,
        outcome: word(&event.action).map_or(AuditOutcome::Allowed, |word| shown_outcome(word.outcome)),
        member_id: event.actor.member().map(|member| member.0),
        vault_id: aimed_at("vault").or(vault_of_item),
        item_id: aimed_at("item"),
        count,
        azure_request_id: text("azure_request"),
        code: text("code"),
        node: place.node.0,
        boot: place.boot.0,
        sequence: place.sequence,
        hash,
        action: event.action,
        target: kind,
    }
}

fn target(target: &Target) -> Option<AuditTarget> {
    let (kind, id): (&str, Uuid) = match target {
        Target::None => return None,
        Target::Workspace(id) => ("workspace", id.0),
        Target::Member(id) => ("member", id.0),
        Target::Vault(id) => ("vault", id.0),
        Target::Item(id) => ("item", id.0),
        Target::Session(id) => ("session", id.0),
        Target::Token(id) => ("token", id.0),
    };
    Some(AuditTarget { kind: kind.to_owned(), id })
}

fn outcome(asked: AuditOutcome) -> Outcome {
    match asked {
        AuditOutcome::Allowed => Outcome::Done,
        AuditOutcome::Refused => Outcome::Refused,
        AuditOutcome::Failed => Outcome::Failed,
    }
}

fn shown_outcome(outcome: Outcome) -> AuditOutcome {
    match outcome {
        Outcome::Done => AuditOutcome::Allowed,
        Outcome::Refused => AuditOutcome::Refused,
        Outcome::Failed => AuditOutcome::Failed,
    }
}

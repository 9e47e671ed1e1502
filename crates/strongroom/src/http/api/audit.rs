//! `…/audit`: the log, as it proves itself genuine.

use std::sync::Arc;

use axum::{Json, extract::State};
use uuid::Uuid;

use super::{
    paging::Window,
    types::{AuditEvent, AuditOutcome, AuditPage as ShownPage, AuditQuery, AuditTarget},
};
use crate::{
    app::App,
    audit::{AuditFilter, AuditPage, Entry, Fact, Outcome, Target, word},
    error::{Error, Result},
    http::extract::{Authenticated, ListQuery},
    id::MemberId,
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

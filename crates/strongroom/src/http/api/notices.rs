//! `…/notices` and `…/webhooks`: what those who manage the workspace are told, and where else it goes.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};

use super::{
    paging,
    types::{
        CreateWebhook, Delivery as ShownDelivery, NewWebhook, Notice as Shown, NoticeMail, NoticeQuery, Page,
        PageQuery, ReadNotices, SetNoticeMail, Webhook as ShownWebhook, WebhookTest,
    },
};
use crate::{
    app::App,
    error::{Error, Result},
    http::extract::{Authenticated, Body, ListQuery, PathId},
    id::{NoticeId, WebhookId},
    notice::{Delivery, Webhook, words},
};

type Server = State<Arc<App>>;

/// Ids that one request may mark as read.
const MOST_READ: usize = 500;

pub async fn list(
    State(app): Server,
    Authenticated(caller): Authenticated,
    ListQuery(query): ListQuery<NoticeQuery>,
) -> Result<Json<Page<Shown>>> {
    let now = app.clock.now();
    let notices = app.notices(&caller, query.unread == Some(true)).await?;
    let window = PageQuery { cursor: query.cursor, limit: query.limit };
    let page = paging::page(&window, notices, |notice| {
        let said = words(&notice, now);
        Shown {
            id: notice.id.0,
            kind: notice.kind,
            severity: notice.severity,
            code: notice.code,
            title: said.title,
            detail: said.more,
            vault_id: notice.vault.map(|vault| vault.0),
            job_id: notice.job.map(|job| job.0),
            until: notice.until,
            at: notice.at,
            over_at: notice.over_at,
            read: notice.read,
        }
    });
    page.map(Json)
}

pub async fn read(
    State(app): Server,
    Authenticated(caller): Authenticated,
    Body(ReadNotices { ids }): Body<ReadNotices>,
) -> Result<StatusCode> {
    if ids.as_ref().is_some_and(|ids| ids.len() > MOST_READ) {
        return Err(Error::field("ids", "At most 500 at once; leave it out for all."));
    }
    let ids = ids.map(|ids| ids.into_iter().map(NoticeId).collect());
    app.read_notices(&caller, ids).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn mail(State(app): Server, Authenticated(caller): Authenticated) -> Result<Json<NoticeMail>> {
    let sent_here = app.settings.notices.mail.is_some();
    Ok(Json(NoticeMail { wanted: app.wants_mail(&caller).await?, sent_here }))
}

pub async fn set_mail(
    State(app): Server,
    Authenticated(caller): Authenticated,
    Body(SetNoticeMail { wanted }): Body<SetNoticeMail>,
) -> Result<StatusCode> {
    app.set_wants_mail(&caller, wanted).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn webhooks(
    State(app): Server,
    Authenticated(caller): Authenticated,
    ListQuery(query): ListQuery<PageQuery>,
) -> Result<Json<Page<ShownWebhook>>> {
    paging::page(&query, app.webhooks(&caller).await?, shown).map(Json)
}

pub async fn create(
    State(app): Server,
    Authenticated(caller): Authenticated,
    Body(CreateWebhook { url }): Body<CreateWebhook>,
) -> Result<impl IntoResponse> {
    let made = app.create_webhook(&caller, &url).await?;
    let place = format!("/api/v1/workspaces/{}/webhooks/{}", caller.workspace_slug, made.webhook.id);
    let body = NewWebhook { webhook: shown(made.webhook), secret: made.secret };
    Ok((StatusCode::CREATED, [(header::LOCATION, place)], Json(body)))
}

pub async fn remove(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<WebhookId>,
) -> Result<StatusCode> {
    app.delete_webhook(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn test(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<WebhookId>,
) -> Result<Json<WebhookTest>> {
    let tested = app.test_webhook(&caller, id).await?;
    Ok(Json(WebhookTest { delivered: tested.delivered, outcome: tested.outcome, ms: tested.ms }))
}

pub async fn deliveries(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<WebhookId>,
    ListQuery(query): ListQuery<PageQuery>,
) -> Result<Json<Page<ShownDelivery>>> {
    paging::page(&query, app.deliveries(&caller, id).await?, delivery).map(Json)
}

fn shown(webhook: Webhook) -> ShownWebhook {
    ShownWebhook {
        id: webhook.id.0,
        address: webhook.shown,
        created_by: webhook.created_by.0,
        created_at: webhook.created_at,
        last_delivery: webhook.last.map(delivery),
    }
}

fn delivery(delivery: Delivery) -> ShownDelivery {
    ShownDelivery {
        notice_id: delivery.notice.0,
        kind: delivery.kind,
        state: delivery.state,
        attempts: delivery.attempts,
        tried_at: delivery.tried_at,
        next_at: delivery.next_at,
        outcome: delivery.outcome,
        created_at: delivery.created_at,
    }
}

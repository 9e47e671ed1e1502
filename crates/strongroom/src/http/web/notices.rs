//! Notices for people: the bell's page, and Settings › Workspace Configuration › Notices with its webhooks.

use axum::{http::StatusCode, response::Response};
use jiff::Timestamp;

use super::{
    form::Form,
    vaults::said,
    views::{Field, Notice as Message, Section, Tone, notices::*, settings::SettingsTab},
    visit::{Names, Visit, to},
    words,
};
use crate::{
    error::{Error, FieldError, Result},
    http::{error::status, extract::PathId},
    id::{NoticeId, WebhookId},
    notice::{self, Delivery, DeliveryState, Notice, Severity, Webhook},
};

const TABLE: &str = "/settings/notices";

/// `GET /notices`.
pub async fn list(visit: Visit) -> Result<Response> {
    let unread_only = visit.asked("show") == "unread";
    let (now, notices) = (visit.app.clock.now(), visit.app.notices(&visit.caller, unread_only).await?);
    let rows: Vec<_> = notices.iter().map(|notice| row(notice, now)).collect();
    let shell = visit.shell("Notices", Section::Notices).await?;
    let unread = shell.unread.is_some_and(|unread| unread > 0);
    visit.page(NoticesPage { shell, rows, unread, unread_only })
}

/// *Mark as read*: one, or all.
pub async fn read(visit: Visit, form: Form) -> Result<Response> {
    let ids = match form.get("id") {
        "" => None,
        id => Some(vec![NoticeId(id.parse().map_err(|_| Error::NotFound("notice"))?)]),
    };
    visit.app.read_notices(&visit.caller, ids).await?;
    Ok(to("/notices"))
}

pub async fn settings(visit: Visit) -> Result<Response> {
    let (names, now) = (visit.names().await?, visit.app.clock.now());
    let webhooks = visit.app.webhooks(&visit.caller).await?;
    visit.page(NoticeSettingsPage {
        shell: visit.shell("Notices", Section::Settings).await?,
        tab: SettingsTab::Notices,
        webhooks: webhooks.into_iter().map(|webhook| webhook_row(webhook, &names, now)).collect(),
        mail: visit.app.settings.notices.mail.as_ref().map(|mail| mail.server.clone()),
    })
}

pub async fn ask_webhook(visit: Visit) -> Result<Response> {
    visit.app.require_fresh(&visit.caller)?;
    form_page(&visit, StatusCode::OK, "", &[], None).await
}

pub async fn create_webhook(visit: Visit, form: Form) -> Result<Response> {
    match visit.app.create_webhook(&visit.caller, &form.secret("url")).await {
        Ok(made) => visit.page(WebhookSecretPage {
            shell: visit.shell("Webhook added", Section::Settings).await?,
            id: made.webhook.id.to_string(),
            address: made.webhook.shown,
            secret: made.secret.into(),
        }),
        Err(Error::Invalid(errors)) => {
            form_page(&visit, StatusCode::UNPROCESSABLE_ENTITY, form.get("url"), &errors, None).await
        }
        Err(error @ Error::Conflict { .. }) => {
            form_page(&visit, status(&error), form.get("url"), &[], Some(said(&error))).await
        }
        Err(error) => Err(error),
    }
}

pub async fn webhook(visit: Visit, PathId(id): PathId<WebhookId>) -> Result<Response> {
    webhook_page(&visit, id, None).await
}

/// *Send a trial*.
pub async fn test_webhook(visit: Visit, PathId(id): PathId<WebhookId>) -> Result<Response> {
    let tested = visit.app.test_webhook(&visit.caller, id).await?;
    let told = match tested.delivered {
        true => Message::success(format!("The trial was taken: {}, in {} ms.", tested.outcome, tested.ms)),
        false => Message::problem(
            format!("The trial was not taken: {}.", tested.outcome),
            "Check the address and what listens there. Real notices are tried again for a day.",
        ),
    };
    webhook_page(&visit, id, Some(told)).await
}

/// The address of a trial's answer, loaded again.
pub async fn back_to_webhook(_: Visit, PathId(id): PathId<WebhookId>) -> Response {
    to(format!("/settings/webhooks/{id}"))
}

pub async fn ask_remove(visit: Visit, PathId(id): PathId<WebhookId>) -> Result<Response> {
    visit.app.require_fresh(&visit.caller)?;
    let webhook = find(&visit, id).await?;
    visit.page(RemoveWebhookPage {
        shell: visit.shell("Remove a webhook", Section::Settings).await?,
        id: id.to_string(),
        address: webhook.shown,
    })
}

pub async fn remove(visit: Visit, PathId(id): PathId<WebhookId>) -> Result<Response> {
    visit.app.delete_webhook(&visit.caller, id).await?;
    Ok(to(format!("{TABLE}?done=webhook-removed")))
}

/// My profile: whether notices come by e-mail.
pub async fn save_mail(visit: Visit, form: Form) -> Result<Response> {
    visit.app.set_wants_mail(&visit.caller, form.has("notice_mail")).await?;
    Ok(to("/profile?done=notices-saved#notices"))
}

async fn find(visit: &Visit, id: WebhookId) -> Result<Webhook> {
    let webhooks = visit.app.webhooks(&visit.caller).await?;
    webhooks.into_iter().find(|webhook| webhook.id == id).ok_or(Error::NotFound("webhook"))
}

async fn webhook_page(visit: &Visit, id: WebhookId, told: Option<Message>) -> Result<Response> {
    let (webhook, names, now) = (find(visit, id).await?, visit.names().await?, visit.app.clock.now());
    let rows = match visit.app.deliveries(&visit.caller, id).await {
        Ok(deliveries) => deliveries.iter().map(|delivery| delivery_row(delivery, now)).collect(),
        // One whose row was changed gets nothing; its page is there to remove it.
        Err(Error::Integrity { .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut shell = visit.shell("Webhook", Section::Settings).await?;
    shell.path = format!("/settings/webhooks/{id}");
    shell.notice = told.or(shell.notice);
    visit.page(WebhookPage { shell, webhook: webhook_row(webhook, &names, now), rows })
}

async fn form_page(
    visit: &Visit,
    status: StatusCode,
    url: &str,
    errors: &[FieldError],
    problem: Option<String>,
) -> Result<Response> {
    let shell = visit.shell("Add webhook", Section::Settings).await?;
    words::page(status, NewWebhookPage { shell, url: Field::checked(url, "url", errors), problem })
}

fn row(notice: &Notice, now: Timestamp) -> NoticeRow {
    let said = notice::words(notice, now);
    let (tone, severity) = match notice.severity {
        Severity::Critical if notice.over_at.is_none() => (Tone::Bad, "critical"),
        Severity::Critical => (Tone::Plain, "was critical"),
        Severity::Warning => (Tone::Warn, "warning"),
        Severity::Info => (Tone::Ok, "for your information"),
    };
    let url = match (notice.job, notice.vault) {
        (Some(job), _) => Some((format!("/jobs/{job}"), "See the job")),
        (None, Some(vault)) if !notice.vault_name.is_empty() => {
            Some((format!("/settings/vaults/{vault}"), "Open the vault’s page"))
        }
        _ => None,
    };
    NoticeRow {
        id: notice.id.to_string(),
        tone,
        severity,
        title: said.title,
        more: said.more,
        at: words::moment(now, notice.at),
        over: notice.over_at.map(|at| words::moment(now, at)),
        read: notice.read,
        url,
    }
}

fn webhook_row(webhook: Webhook, names: &Names, now: Timestamp) -> WebhookRow {
    WebhookRow {
        id: webhook.id.to_string(),
        address: webhook.shown,
        by: names.of(webhook.created_by),
        created: words::moment(now, webhook.created_at),
        last: webhook.last.as_ref().map(|last| delivery_row(last, now)),
    }
}

fn delivery_row(delivery: &Delivery, now: Timestamp) -> DeliveryRow {
    let (tone, state) = match delivery.state {
        DeliveryState::Delivered => (Tone::Ok, "Delivered"),
        DeliveryState::Waiting if delivery.attempts > 0 => (Tone::Warn, "Tried again"),
        DeliveryState::Waiting => (Tone::Plain, "Waiting"),
        DeliveryState::Failed => (Tone::Bad, "Given up"),
    };
    DeliveryRow {
        kind: delivery.kind.word(),
        tone,
        state,
        outcome: delivery.outcome.clone(),
        attempts: delivery.attempts,
        created: words::moment(now, delivery.created_at),
        tried: delivery.tried_at.map(|at| words::moment(now, at)),
        next: delivery.next_at.map(|at| words::moment(now, at)),
    }
}

//! Notices: the list, where else they go, and the dialogs of webhooks.

use askama::Template;

use super::{Field, Moment, Shell, Shown, Tone, filters, settings::SettingsTab};

/// `GET /notices`.
#[derive(Template)]
#[template(path = "notices/list.html")]
pub struct NoticesPage {
    pub shell: Shell,
    pub rows: Vec<NoticeRow>,
    /// Whether there is an unread one.
    pub unread: bool,
    pub unread_only: bool,
}

pub struct NoticeRow {
    pub id: String,
    pub tone: Tone,
    /// "Critical", "Warning", "Info".
    pub severity: &'static str,
    pub title: String,
    pub more: String,
    pub at: Moment,
    /// When what it tells of was over.
    pub over: Option<Moment>,
    pub read: bool,
    /// The page that shows what it tells of, and what to call it.
    pub url: Option<(String, &'static str)>,
}

/// `GET /settings/notices`.
#[derive(Template)]
#[template(path = "notices/settings.html")]
pub struct NoticeSettingsPage {
    pub shell: Shell,
    pub tab: SettingsTab,
    pub webhooks: Vec<WebhookRow>,
    /// "mail.example.com:465"; None: the server sends no e-mail.
    pub mail: Option<String>,
}

pub struct WebhookRow {
    pub id: String,
    /// Scheme and host.
    pub address: String,
    pub by: String,
    pub created: Moment,
    pub last: Option<DeliveryRow>,
}

/// One notice on its way to one webhook.
pub struct DeliveryRow {
    /// "key.unhealthy".
    pub kind: &'static str,
    pub tone: Tone,
    /// "Delivered", "Waiting", "Given up".
    pub state: &'static str,
    pub outcome: String,
    pub attempts: u64,
    pub created: Moment,
    pub tried: Option<Moment>,
    pub next: Option<Moment>,
}

/// `GET /settings/webhooks/{id}`, and the answer to a trial.
#[derive(Template)]
#[template(path = "notices/webhook.html")]
pub struct WebhookPage {
    pub shell: Shell,
    pub webhook: WebhookRow,
    pub rows: Vec<DeliveryRow>,
}

/// `GET /settings/webhooks/new`.
#[derive(Template)]
#[template(path = "notices/new_webhook.html")]
pub struct NewWebhookPage {
    pub shell: Shell,
    pub url: Field,
    pub problem: Option<String>,
}

/// The answer to `POST /settings/webhooks`: the secret, shown once.
#[derive(Template)]
#[template(path = "notices/secret.html")]
pub struct WebhookSecretPage {
    pub shell: Shell,
    pub id: String,
    pub address: String,
    pub secret: Shown,
}

/// `GET /settings/webhooks/{id}/remove`.
#[derive(Template)]
#[template(path = "notices/remove_webhook.html")]
pub struct RemoveWebhookPage {
    pub shell: Shell,
    pub id: String,
    pub address: String,
}

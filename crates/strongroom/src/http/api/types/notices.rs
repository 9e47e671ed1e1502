//! Notices and webhooks on the wire.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

pub use crate::notice::{DeliveryState, Kind as NoticeKind, Severity};
use crate::secret_text::SecretText;

/// The query of `GET …/notices`; newest first.
#[derive(Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NoticeQuery {
    /// Only those that you have not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// 1 to 200; 50 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u16>,
}

/// What those who manage the workspace have to know.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Notice {
    pub id: Uuid,
    pub kind: NoticeKind,
    pub severity: Severity,
    /// By the kind: why a key does not answer (`key.disabled`), which credential ends, the newer key version …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// What happened, in a line.
    pub title: String,
    /// What it means, and what to do.
    pub detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<Uuid>,
    /// When what it warns of happens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    pub at: Timestamp,
    /// When what it tells of was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_at: Option<Timestamp>,
    /// Whether you have read it.
    pub read: bool,
}

/// `POST …/notices/read`: these, or all of them.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadNotices {
    /// At most 500; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<Uuid>>,
}

/// `PUT …/notices/mail`
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetNoticeMail {
    /// Whether you get notices by e-mail.
    pub wanted: bool,
}

/// `GET …/notices/mail`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NoticeMail {
    /// Whether you get notices by e-mail, once the server sends any.
    pub wanted: bool,
    /// Whether the server sends e-mail.
    pub sent_here: bool,
}

/// `POST …/webhooks`. Answers `NewWebhook`.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateWebhook {
    /// An `https:` address. It is not shown again: many hold a secret in their path.
    pub url: SecretText,
}

/// An address that gets notices.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Webhook {
    pub id: Uuid,
    /// Scheme and host of its address.
    pub address: String,
    pub created_by: Uuid,
    pub created_at: Timestamp,
    /// The latest, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_delivery: Option<Delivery>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub struct NewWebhook {
    pub webhook: Webhook,
    /// `whsec_…`, for the receiver to verify signatures by; shown this once.
    pub secret: SecretText,
}

/// One notice on its way to one webhook.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    pub notice_id: Uuid,
    pub kind: NoticeKind,
    pub state: DeliveryState,
    pub attempts: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried_at: Option<Timestamp>,
    /// When it is tried next, while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
    /// What the last attempt met: `status 500`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub outcome: String,
    pub created_at: Timestamp,
}

/// What came of `POST …/webhooks/{id}/test`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WebhookTest {
    pub delivered: bool,
    /// `status 204`, `no answer in time` …
    pub outcome: String,
    pub ms: u64,
}

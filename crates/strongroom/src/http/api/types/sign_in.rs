//! Sign-in, API tokens and sessions.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::secret_text::SecretText;

/// `POST /api/v1/login`. Answers `LoginAnswer`, or the problem `signin.code_required`.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// A slug; may be left out where the member belongs to one workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    pub email: String,
    pub password: SecretText,
    /// The six digits of the second factor, or a recovery code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<SecretText>,
    /// What the token is listed under: `strongroom CLI on maple`.
    pub token_name: String,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub struct LoginAnswer {
    /// `srm_…`; shown this once.
    pub token: SecretText,
    pub expires_at: Timestamp,
    /// The slug of the workspace that it opens.
    pub workspace: String,
}

/// One API token of the member who asks: `GET …/tokens`.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Token {
    pub id: Uuid,
    pub name: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
}

/// One browser session of the member who asks: `GET …/sessions`.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Session {
    pub id: Uuid,
    pub created_at: Timestamp,
    pub last_seen_at: Timestamp,
    pub expires_at: Timestamp,
    /// The address that it was begun from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// Whether it is the one that asks.
    pub current: bool,
}

//! The shapes of `$filter` that Azure's tools send.

use serde_json::Value;

use super::error;
use crate::http::Reply;

pub(super) enum Filter {
    All,
    Equals(String, String),
    StartsWith(String, String),
}

impl Filter {
    pub fn parse(text: &str) -> Result<Self, Reply> {
        let text = text.trim();
        let unquoted = |value: &str| {
            value
                .trim()
                .strip_prefix('\'')
                .and_then(|value| value.strip_suffix('\''))
                .map(|value| value.replace("''", "'"))
        };
        let parsed = if text.is_empty() {
            Some(Self::All)
        } else if let Some(inner) = text.strip_prefix("startswith(").and_then(|rest| rest.strip_suffix(')')) {
            inner
                .split_once(',')
                .and_then(|(field, value)| Some(Self::StartsWith(field.trim().into(), unquoted(value)?)))
        } else if let Some(inner) =
            text.strip_prefix("servicePrincipalNames/any(").and_then(|rest| rest.strip_suffix(')'))
        {
            inner.split_once(" eq ").and_then(|(_, value)| Some(Self::Equals("appId".into(), unquoted(value)?)))
        } else {
            text.split_once(" eq ").and_then(|(field, value)| Some(Self::Equals(field.trim().into(), unquoted(value)?)))
        };
        parsed.ok_or_else(|| error(400, "Request_UnsupportedQuery", "Unsupported or invalid query filter clause."))
    }

    /// Graph compares text without case.
    pub fn matches(&self, object: &Value) -> bool {
        let text = |field: &String| object[field.as_str()].as_str().unwrap_or_default().to_lowercase();
        match self {
            Self::All => true,
            Self::Equals(field, value) => text(field) == value.to_lowercase(),
            Self::StartsWith(field, value) => text(field).starts_with(&value.to_lowercase()),
        }
    }
}

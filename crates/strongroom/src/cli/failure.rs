//! How a command ends when it does not succeed: what happened, why, what to do, and the exit code.

use std::ops::{Deref, DerefMut};

use jiff::Timestamp;
use serde::Serialize;
use strongroom_keys::State;

use crate::client::ClientError;
use crate::http::api::types::{FieldError, Problem};

/// The exit codes. Scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    Other = 1,
    Usage = 2,
    NotFound = 3,
    Denied = 4,
    KeyUnavailable = 5,
    Unreachable = 6,
}

/// With `--format json` it is printed as it stands. Boxed, because every result carries the room for one.
#[derive(Clone, Debug, Serialize)]
pub struct Failure(Box<Parts>);

#[derive(Clone, Debug, Serialize)]
pub struct Parts {
    #[serde(skip)]
    pub exit: Exit,
    pub code: String,
    /// The state of a vault whose key does not answer: `key_disabled` …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Of a deleted key, about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recoverable_until: Option<Timestamp>,
    pub title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure_request_id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// The code of the failure that is none: whoever read our output has closed it, as `head` does.
pub const PIPE_CLOSED: &str = "pipe.closed";

impl Failure {
    pub fn new(exit: Exit, code: &str, title: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            exit,
            code: code.to_owned(),
            state: None,
            recoverable_until: None,
            title: title.into(),
            detail: None,
            fix: None,
            azure_request_id: None,
            errors: Vec::new(),
        }))
    }

    pub fn usage(title: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", title)
    }

    pub fn why(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// Adds what to do, unless the server said it.
    pub fn fix_or(self, fix: &str) -> Self {
        if self.fix.is_some() { self } else { self.fix(fix) }
    }

    /// For a person: what happened, why, what to do.
    pub fn text(&self) -> String {
        let state = self.state.as_deref().map(|word| format!("{}: ", state_words(word, self.recoverable_until)));
        let state = state.unwrap_or_default();
        let mut lines = vec![format!("error: {state}{}", self.title)];
        lines.extend(self.detail.as_ref().map(|detail| format!("  why: {detail}")));
        lines.extend(self.errors.iter().map(|error| format!("  {}: {}", error.field, error.message)));
        lines.extend(self.fix.as_ref().map(|fix| format!("  what to do: {fix}")));
        lines.extend(self.azure_request_id.as_ref().map(|id| format!("  Azure request id: {id}")));
        lines.join("\n")
    }
}

impl Deref for Failure {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl DerefMut for Failure {
    fn deref_mut(&mut self) -> &mut Parts {
        &mut self.0
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        // The page says where to click; here it is a command.
        let fix = match problem.code.as_str() {
            "signin.fresh_required" => Some("sign in again by `strongroom login`, then repeat what you did".to_owned()),
            _ => problem.fix.clone(),
        };
        Self(Box::new(Parts {
            exit: exit_of(&problem),
            code: problem.code,
            state: problem.state,
            recoverable_until: problem.recoverable_until,
            title: problem.title,
            detail: problem.detail,
            fix,
            azure_request_id: problem.azure_request_id,
            errors: problem.errors,
        }))
    }
}

impl From<crate::error::Error> for Failure {
    fn from(error: crate::error::Error) -> Self {
        crate::http::error::problem(&error).into()
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let title = error.to_string();
        match error {
            ClientError::Problem(problem) => Self::from(*problem),
            ClientError::Unreachable { .. } => Self::new(Exit::Unreachable, "server.unreachable", title)
                .fix("check the address (--server, STRONGROOM_URL) and that the server runs"),
            ClientError::NotStrongroom { .. } => Self::new(Exit::Unreachable, "server.foreign", title)
                .fix("check the address (--server, STRONGROOM_URL)"),
            ClientError::BrokenOff { .. } => Self::new(Exit::Unreachable, "server.broke_off", title)
                .fix("run it again; if it stays, look for a proxy in front of the server that ends answers early"),
            ClientError::BadUrl { .. } => Self::usage(title),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::new(Exit::Ok, PIPE_CLOSED, "the output was closed"),
            _ => Self::new(Exit::Other, "io", error.to_string()),
        }
    }
}

/// `key_disabled` as people read it, a word of a newer server as it stands; of a deleted key with the day until which it
/// can be recovered, where that is known.
pub fn state_words(word: &str, recoverable_until: Option<Timestamp>) -> String {
    let label = State::of_word(word).map_or(word, |state| state.label());
    match recoverable_until {
        Some(until) => format!("{label} (recoverable until about {})", until.strftime("%F")),
        None => label.to_owned(),
    }
}

fn exit_of(problem: &Problem) -> Exit {
    // The families of `strongroom_keys`' codes: what stands between the server and the customer's key.
    let of_the_key = ["key.", "credential.", "azure.", "tls.", "dns.", "proxy."]
        .iter()
        .any(|family| problem.code.starts_with(family));
    match problem.status {
        404 => Exit::NotFound,
        401 | 403 => Exit::Denied,
        423 => Exit::KeyUnavailable,
        409 | 500 | 503 if of_the_key => Exit::KeyUnavailable,
        _ => Exit::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, code: &str) -> Problem {
        Problem {
            kind: "about:blank".into(),
            title: "The key is disabled".into(),
            status,
            code: code.into(),
            state: (status == 423).then(|| "key_disabled".into()),
            recoverable_until: None,
            detail: Some("Azure answers KeyDisabled".into()),
            fix: Some("az keyvault key set-attributes --enabled true".into()),
            azure_request_id: Some("0a1b".into()),
            errors: Vec::new(),
        }
    }

    #[test]
    fn problems_map_to_the_documented_exit_codes() {
        for (status, code, exit) in [
            (404, "item.not_found", Exit::NotFound),
            (401, "token.expired", Exit::Denied),
            (403, "access.denied", Exit::Denied),
            (423, "key.disabled", Exit::KeyUnavailable),
            (409, "key.expired", Exit::KeyUnavailable),
            (409, "vault.closed", Exit::Other),
            (503, "azure.unreachable", Exit::KeyUnavailable),
            (500, "key.wrong_record", Exit::KeyUnavailable),
            (500, "internal", Exit::Other),
            (503, "store.full", Exit::Other),
            (422, "item.title_missing", Exit::Other),
            (412, "item.changed", Exit::Other),
        ] {
            assert_eq!(Failure::from(problem(status, code)).exit, exit, "{status} {code}");
        }
    }

    #[test]
    fn a_problem_reads_as_what_why_and_what_to_do() {
        assert_eq!(
            Failure::from(problem(423, "key.disabled")).text(),
            "error: Key disabled: The key is disabled\n  why: Azure answers KeyDisabled\n  \
             what to do: az keyvault key set-attributes --enabled true\n  Azure request id: 0a1b"
        );
    }

    #[test]
    fn a_deleted_key_says_until_when_it_can_be_recovered_where_that_is_known() {
        let until = "2026-12-23T14:00:00Z".parse().ok();
        let (state, title) = (Some("key_deleted".into()), "The key was deleted in Azure".into());
        let deleted = Problem { state, title, recoverable_until: until, ..problem(423, "key.deleted") };
        let text = Failure::from(deleted).text();
        assert!(text.starts_with("error: Key deleted (recoverable until about 2026-12-23): The key was"), "{text}");
        assert_eq!(state_words("key_deleted", None), "Key deleted");
    }

    #[test]
    fn an_unreachable_server_is_six() {
        let error = ClientError::Unreachable { url: "https://a.example".into(), reason: "refused".into() };
        assert_eq!(Failure::from(error).exit as u8, 6);
        let error = ClientError::BrokenOff { url: "https://a.example".into() };
        assert_eq!(Failure::from(error).exit as u8, 6);
    }
}

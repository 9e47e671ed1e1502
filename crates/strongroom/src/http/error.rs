//! The one map from a use case's error to HTTP: status, headers, and RFC 9457 problem details for the API.

use std::sync::Arc;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use strongroom_keys::check::CheckLine;

use super::api::types::{FieldError, Problem};
use crate::{
    error::{Error, Unavailable, obstacle},
    store::StoreError,
};

/// The longest that a check takes.
const CHECK_SECONDS: u64 = 15;

/// The status of an error, the same for the API and for pages.
pub fn status(error: &Error) -> StatusCode {
    match error {
        Error::NotFound(_) => StatusCode::NOT_FOUND,
        Error::Denied(_) | Error::StaleSignIn => StatusCode::FORBIDDEN,
        Error::NotSignedIn { .. } => StatusCode::UNAUTHORIZED,
        Error::Invalid(_) | Error::ChecksFailed(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Error::Conflict { .. } | Error::Store(StoreError::Taken) => StatusCode::CONFLICT,
        Error::RevisionRequired => StatusCode::PRECONDITION_REQUIRED,
        Error::RevisionStale { .. } => StatusCode::PRECONDITION_FAILED,
        Error::KeyUnavailable(key) => match key.class {
            Unavailable::Dark | Unavailable::Disabled => StatusCode::LOCKED,
            Unavailable::Outage => StatusCode::SERVICE_UNAVAILABLE,
            Unavailable::Fault => StatusCode::INTERNAL_SERVER_ERROR,
        },
        Error::TooMany(_) | Error::CheckRunning => StatusCode::TOO_MANY_REQUESTS,
        Error::Store(StoreError::Full | StoreError::ReadOnly | StoreError::Retry | StoreError::Unreachable(_)) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Error::Store(_) | Error::Integrity { .. } | Error::Setup { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The error as the API says it.
pub fn problem(error: &Error) -> Problem {
    let status = status(error);
    let (detail, azure_request_id) = match error {
        Error::KeyUnavailable(key) => (Some(key.detail.clone()), key.azure_request_id.clone()),
        Error::ChecksFailed(lines) => {
            let first = lines.iter().find(|line| line.status == obstacle(lines));
            (first.and_then(|line| line.cause.clone()), first.and_then(|line| line.azure_request_id.clone()))
        }
        _ => (None, None),
    };
    let errors = match error {
        Error::Invalid(errors) => errors.iter().map(field_error).collect(),
        Error::ChecksFailed(lines) => {
            let standing = lines.iter().filter(|line| line.status == obstacle(lines));
            standing.map(|line| FieldError { field: line.code.to_owned(), message: check_words(line) }).collect()
        }
        _ => Vec::new(),
    };
    Problem {
        kind: format!("/problems/{}", error.code()),
        title: capital(&error.to_string()),
        status: status.as_u16(),
        code: error.code().to_owned(),
        state: match error {
            Error::KeyUnavailable(key) => Some(key.state().word().to_owned()),
            _ => None,
        },
        recoverable_until: match error {
            Error::KeyUnavailable(key) => key.recoverable_until,
            _ => None,
        },
        detail: detail.filter(|detail| !detail.is_empty()),
        fix: Some(error.fix().into_owned()),
        azure_request_id,
        errors,
    }
}

/// A problem as an answer.
pub fn answer(problem: Problem, retry_after: Option<u64>) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(problem)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"strongroom\""));
    }
    response
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        Refusal::Refused(self).into_response()
    }
}

/// What HTTP itself refuses, before any use case is asked.
#[derive(Debug)]
pub enum Refusal {
    /// No route has this path.
    NoRoute,
    /// The route does not take this method.
    Method,
    /// A body that does not say that it is JSON.
    MediaType,
    TooLarge,
    /// The connection broke while the body was read.
    BodyLost,
    /// `at` is the number of good bytes before the first bad one.
    NotUtf8 {
        at: usize,
    },
    NotJson {
        line: usize,
        column: usize,
    },
    /// A form that no page of this server sent.
    ForeignPage,
    /// A handler panicked.
    Panicked,
    /// As a use case would have refused it.
    Refused(Error),
}

impl Refusal {
    /// The refusal as the API says it. Never holds anything that was sent.
    pub fn problem(&self) -> Problem {
        let place;
        let (status, code, title, fix) = match self {
            Self::NoRoute => (404, "route.not_found", "No such address", "GET /api/v1/openapi.json lists all of them."),
            Self::Method => (
                405,
                "route.method",
                "This address does not take this method",
                "See the header Allow for those it takes.",
            ),
            Self::ForeignPage => (
                403,
                "request.foreign",
                "This did not come from a page of Strongroom",
                "Open the page here and send its form again.",
            ),
            Self::MediaType => {
                (415, "body.media_type", "The body must be JSON", "Send the header Content-Type: application/json.")
            }
            Self::TooLarge => {
                (413, "body.too_large", "The body is too large", "Send at most 2 MiB, to an import 64 MiB.")
            }
            Self::BodyLost => (400, "body.lost", "The body did not arrive whole", "Send it again."),
            Self::NotUtf8 { at } => {
                place = format!("The body is not UTF-8 after {at} bytes");
                (400, "body.not_utf8", place.as_str(), "Send the body as UTF-8.")
            }
            Self::NotJson { line, column } => {
                place = format!("The body is not JSON at line {line}, column {column}");
                (400, "body.not_json", place.as_str(), "Send one JSON value.")
            }
            Self::Panicked => {
                (500, "internal", "A defect of Strongroom ended this request", "Report it, with the server's log.")
            }
            Self::Refused(error) => return problem(error),
        };
        Problem {
            kind: format!("/problems/{code}"),
            title: title.to_owned(),
            status,
            code: code.to_owned(),
            state: None,
            recoverable_until: None,
            detail: None,
            fix: Some(fix.to_owned()),
            azure_request_id: None,
            errors: Vec::new(),
        }
    }
}

/// The answer for a program. What it was made of goes with it, so that `web::frame` can say it as a page.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let problem = self.problem();
        let mut retry_after = None;
        if let Self::Refused(error) = &self {
            if problem.status >= 500 {
                tracing::error!(code = problem.code, error = %error, "a request failed");
            }
            retry_after = match error {
                Error::TooMany(seconds) => Some(*seconds),
                Error::CheckRunning => Some(CHECK_SECONDS),
                _ => None,
            };
        }
        let mut response = answer(problem, retry_after);
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// What a check found, and what to do.
fn check_words(line: &CheckLine) -> String {
    let words = [Some(line.cause.as_deref().unwrap_or(line.title)), line.fix.as_deref()];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn field_error(error: &crate::error::FieldError) -> FieldError {
    FieldError { field: error.field.clone().into_owned(), message: error.message.clone().into_owned() }
}

/// A file or a setting stays as its name is written.
pub(super) fn capital(text: &str) -> String {
    let first = text.split(' ').next().unwrap_or_default().trim_end_matches('.');
    if first.contains(['.', '_', '/']) {
        return text.to_owned();
    }
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use strongroom_keys::check::CheckStatus;

    use super::*;

    fn line(code: &'static str, status: CheckStatus) -> CheckLine {
        CheckLine {
            code,
            title: "A title",
            status,
            reason: None,
            cause: Some(format!("{code} is so.")),
            fix: Some("Do this.".into()),
            command: None,
            ms: 0,
            azure_request_id: None,
        }
    }

    #[test]
    fn of_checks_what_stands_in_the_way_is_named_and_nothing_else() {
        use CheckStatus::{CouldNotCheck, Fail, Pass, Warn};
        for (compared, other, code, named) in [
            (Fail, Warn, "vault.checks_failed", "key.compare"),
            (Pass, Warn, "vault.checks_warned", "rights.role"),
            (CouldNotCheck, Warn, "vault.checks_unfinished", "key.compare"),
        ] {
            let problem =
                problem(&Error::ChecksFailed(vec![line("key.compare", compared), line("rights.role", other)]));
            assert_eq!((problem.status, problem.code.as_str()), (422, code));
            assert_eq!(problem.errors.len(), 1, "{code}");
            assert_eq!(problem.errors[0].field, named, "{code}");
            assert_eq!(problem.errors[0].message, format!("{named} is so. Do this."));
            let fix = problem.fix.unwrap_or_default();
            assert_eq!(
                fix.contains("accept_warnings") && fix.contains("--accept-warnings"),
                other == Warn && compared == Pass
            );
        }
    }

    #[test]
    fn a_second_check_is_told_when_to_come_back() {
        let answer = Error::CheckRunning.into_response();
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.headers()[header::RETRY_AFTER], "15");
        assert_eq!(Error::CheckRunning.code(), "vault.check_running");
    }
}

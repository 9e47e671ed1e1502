//! From a request to typed values. What cannot be taken is named by its field and never repeated.

use std::str::FromStr;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request, rejection::BytesRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};

use super::error::Refusal;
use crate::{
    app::Caller,
    error::Error,
    id::{EventId, ItemId, JobId, MemberId, SessionId, TokenId, VaultId, WebhookId},
};

/// The member who asks; left with the request by the route table.
#[derive(Clone)]
pub struct Authenticated(pub Caller);

impl<S: Send + Sync> FromRequestParts<S> for Authenticated {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Error::Setup {
            what: "a route that needs a caller is listed as needing nobody".into(),
            fix: "This is a defect of Strongroom; report it.".into(),
        })
    }
}

/// One parameter of the path. One that cannot be read looks like one that does not exist.
pub struct PathId<T>(pub T);

/// What stands in a path between braces, and what to call it when there is none.
pub trait PathParameter: FromStr {
    const NAME: &'static str;

    /// Whether there can be such a thing.
    fn is_possible(&self) -> bool {
        true
    }
}

/// Revisions are counted in the database's numbers, of 63 bits.
impl PathParameter for u64 {
    const NAME: &'static str = "revision";

    fn is_possible(&self) -> bool {
        i64::try_from(*self).is_ok()
    }
}

impl PathParameter for u32 {
    const NAME: &'static str = "generation";
}

macro_rules! path_parameters {
    ($($type:ty = $name:literal),* $(,)?) => {$(
        impl PathParameter for $type {
            const NAME: &'static str = $name;
        }
    )*};
}

path_parameters! {
    VaultId = "vault",
    ItemId = "item",
    MemberId = "member",
    TokenId = "token",
    SessionId = "session",
    JobId = "job",
    WebhookId = "webhook",
    EventId = "event",
}

impl<T: PathParameter, S: Send + Sync> FromRequestParts<S> for PathId<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let missing = || Error::NotFound(T::NAME);
        let found = RawPathParams::from_request_parts(parts, state).await.map_err(|_| missing())?;
        let text = found.iter().find(|(name, _)| *name == T::NAME).map(|(_, text)| text).ok_or_else(missing)?;
        text.parse().ok().filter(T::is_possible).map(Self).ok_or_else(missing)
    }
}

/// A JSON body. Its size is bounded by the router's `DefaultBodyLimit`.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        if !is_json(request.headers()) {
            return Err(Refusal::MediaType);
        }
        let bytes = Bytes::from_request(request, state).await.map_err(unread)?;
        let text = std::str::from_utf8(&bytes).map_err(|error| Refusal::NotUtf8 { at: error.valid_up_to() })?;
        // Every body is an object; serde would also take a list of its values in the order of our fields.
        if text.trim_ascii_start().starts_with('[') {
            return Err(Refusal::Refused(Error::field("body", "Expected a JSON object, not a list.")));
        }
        let mut reader = serde_json::Deserializer::from_str(text);
        let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| unfit(&error))?;
        reader.end().map_err(|error| not_json(&error))?;
        Ok(Self(value))
    }
}

/// The query of a list.
pub struct ListQuery<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for ListQuery<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                // "Failed to deserialize query string: limit: invalid digit …"
                let text = rejection.body_text();
                let text = text.split_once(": ").map_or("", |(_, told)| told);
                let (path, told) = text.split_once(": ").unwrap_or(("", text));
                let named = path.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                Err(harmless(if named { path } else { "" }.to_owned(), told))
            }
        }
    }
}

/// `If-Match: "revision"` (RFC 9110, section 13.1.1), which every edit carries.
pub struct IfMatch(pub u64);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        match revision_of(&parts.headers)? {
            Some(revision) => Ok(Self(revision)),
            None => Err(Error::RevisionRequired),
        }
    }
}

/// The same where it may be left out.
pub struct MaybeIfMatch(pub Option<u64>);

impl<S: Send + Sync> FromRequestParts<S> for MaybeIfMatch {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        revision_of(&parts.headers).map(Self)
    }
}

/// An answer with its revision as `ETag`.
pub struct Tagged<T>(pub u64, pub T);

impl<T: IntoResponse> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let tag = HeaderValue::try_from(format!("\"{}\"", self.0)).expect("digits are a header's value");
        ([(header::ETAG, tag)], self.1).into_response()
    }
}

fn revision_of(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let quoted = value.to_str().ok().and_then(|text| text.trim().strip_prefix('"')?.strip_suffix('"'));
    match (quoted.and_then(|digits| digits.parse().ok()), values.next()) {
        (Some(revision), None) => Ok(Some(revision)),
        _ => Err(Error::field("If-Match", "Send one revision, a number in quotes: \"3\".")),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn unread(rejection: BytesRejection) -> Refusal {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::TooLarge,
        _ => Refusal::BodyLost,
    }
}

fn unfit(error: &serde_path_to_error::Error<serde_json::Error>) -> Refusal {
    let inner = error.inner();
    match inner.classify() {
        serde_json::error::Category::Data => {
            let text = inner.to_string();
            let told = text.rsplit_once(" at line ").map_or(text.as_str(), |(told, _)| told);
            Refusal::Refused(harmless(dotted(error.path()), told))
        }
        _ => not_json(inner),
    }
}

fn not_json(error: &serde_json::Error) -> Refusal {
    Refusal::NotJson { line: error.line(), column: error.column() }
}

/// `fields.2.name`. Only names of ours: a key that is not known is not entered.
fn dotted(path: &Path) -> String {
    let parts = path.iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    parts.collect::<Vec<_>>().join(".")
}

/// What serde says, without the value that it says it of: `told` may repeat somebody's password.
fn harmless(path: String, told: &str) -> Error {
    let within = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let named = |start: &str| told.strip_prefix(start).and_then(|rest| rest.split_once('`'));
    if let Some((name, _)) = named("unknown field `") {
        // The path may end in the unknown name already.
        let name = shortened(name);
        let field = if path.ends_with(&name) { path.clone() } else { within(&name) };
        return Error::field(field, "There is no such field.");
    }
    if let Some((name, _)) = named("missing field `") {
        return Error::field(within(name), "This field is missing.");
    }
    if let Some((name, _)) = named("duplicate field `") {
        return Error::field(within(name), "This field is there twice.");
    }
    let field = if path.is_empty() { "body".to_owned() } else { path };
    // What a type of ours expected stands last, after whatever was found in its place.
    let ours = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant `"];
    let expected = ours.iter().any(|start| told.starts_with(start)).then(|| told.rsplit_once(", expected ")).flatten();
    match expected {
        Some((_, expected)) => Error::field(field, format!("Expected {expected}.")),
        None if told.starts_with("expected a string, found ") => Error::field(field, "Expected a string."),
        None => Error::field(field, "This value cannot be read."),
    }
}

fn shortened(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use axum::body::Body as Raw;

    use super::*;
    use crate::http::api::types::{ChangeKey, CreateItem, CreateVault, EditItem};

    async fn refusal<T: DeserializeOwned>(body: impl Into<Raw>) -> (u16, String) {
        let request = Request::post("/").header(header::CONTENT_TYPE, "application/json").body(body.into());
        let refused = Body::<T>::from_request(request.expect("a request"), &()).await.err().expect("refused");
        let problem = refused.problem();
        let fields: Vec<_> = problem.errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect();
        (problem.status, fields.join(" | "))
    }

    #[tokio::test]
    async fn what_is_wrong_is_named_by_its_field() {
        let (status, told) = refusal::<CreateItem>(r#"{"type":"account","title":"Mail","colour":"red"}"#).await;
        assert_eq!((status, told.as_str()), (422, "colour: There is no such field."));
        let nested = r#"{"type":"account","title":"Mail","fields":[{"name":"a","kind":"text","value":"b","x":1}]}"#;
        assert_eq!(refusal::<CreateItem>(nested).await.1, "fields.0.x: There is no such field.");
        assert_eq!(refusal::<CreateItem>(r#"{"type":"account"}"#).await.1, "title: This field is missing.");
        let missing = r#"{"type":"account","title":"Mail","fields":[{"name":"a","kind":"text"}]}"#;
        assert_eq!(refusal::<CreateItem>(missing).await.1, "fields.0.value: This field is missing.");
    }

    #[tokio::test]
    async fn what_was_sent_is_never_repeated() {
        let bodies = [
            r#"{"type":"hunter2","title":"Mail"}"#,
            r#"{"type":"account","title":4711}"#,
            r#"{"type":"account","title":"Mail","vault_id":"hunter2, expected hunter2"}"#,
            r#"{"type":"account","title":"Mail","fields":"hunter2, expected hunter2"}"#,
            r#"{"type":"account","title":"Mail","fields":[{"name":"a","kind":"hunter2","value":"b"}]}"#,
            r#""hunter2""#,
            r#"{"type":"account","title":"Mail"} hunter2"#,
            r#"{"title":"hunter2""#,
        ];
        for body in bodies {
            let request = Request::post("/").header(header::CONTENT_TYPE, "application/json").body(Raw::from(body));
            let refused = Body::<CreateItem>::from_request(request.expect("a request"), &()).await.err();
            let told = serde_json::to_string(&refused.expect("refused").problem()).expect("a problem serializes");
            assert!(!told.contains("hunter2") && !told.contains("4711"), "{body} gave {told}");
        }
        let told = refusal::<CreateVault>(r#"{"name":"a","strategy":"hunter2"}"#).await.1;
        assert_eq!(told, "strategy: Expected `cloud` or `azure_external_keys`.");
    }

    #[tokio::test]
    async fn a_list_of_values_is_no_body() {
        for body in ["[]", " [null, null]", r#"["hunter2", "cloud"]"#] {
            for (status, told) in [refusal::<EditItem>(body).await, refusal::<ChangeKey>(body).await] {
                assert_eq!((status, told.as_str()), (422, "body: Expected a JSON object, not a list."));
            }
        }
    }

    #[tokio::test]
    async fn bytes_that_are_no_utf_8_are_told_from_bad_json() {
        let request = Request::post("/").header(header::CONTENT_TYPE, "application/json");
        let request = request.body(Raw::from(&b"{\"title\":\"\xff\"}"[..])).expect("a request");
        let refused = Body::<CreateItem>::from_request(request, &()).await.err();
        assert!(matches!(refused, Some(Refusal::NotUtf8 { at: 10 })));
    }
}

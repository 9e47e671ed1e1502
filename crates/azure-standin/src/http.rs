//! One request in, one reply out: the plain values that every service here is a function of.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use serde_json::Value;

/// A request after parsing. `segments` are percent-decoded and never empty, so `//` and a trailing `/` do not matter.
pub(crate) struct Request {
    pub method: Method,
    pub host: String,
    pub path: String,
    pub segments: Vec<String>,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub peer: IpAddr,
}

impl Request {
    pub fn new(host: &str, peer: IpAddr, parts: &hyper::http::request::Parts, body: Bytes) -> Self {
        let path = parts.uri.path().to_owned();
        let segments = path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
            .collect();
        let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or("").as_bytes()).into_owned().collect();
        let host = host.to_owned();
        Self { method: parts.method.clone(), host, path, segments, query, headers: parts.headers.clone(), body, peer }
    }

    /// The query parameter of that name, compared without case.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The token after `Bearer `, if there is one.
    pub fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
    }

    /// The body as JSON; an empty body is an empty object.
    pub fn json(&self) -> Option<Value> {
        if self.body.is_empty() {
            return Some(Value::Object(Default::default()));
        }
        serde_json::from_slice(&self.body).ok().filter(Value::is_object)
    }

    pub fn segments(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }
}

/// What goes back. Services return `Result<Reply, Reply>`, so that an error leaves with `?`.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

pub(crate) type Answer = Result<Reply, Reply>;

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/json; charset=utf-8", &body.to_string())
    }

    pub fn text(status: u16, content_type: &str, body: &str) -> Self {
        Self { status, headers: vec![("content-type".into(), content_type.into())], body: body.as_bytes().to_vec() }
    }

    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The same as hyper wants it. Of a header given twice the first counts; one that cannot be sent is left out.
    pub fn into_hyper(self) -> hyper::Response<Full<Bytes>> {
        let mut response = hyper::Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() =
            hyper::StatusCode::from_u16(self.status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) =
                (hyper::header::HeaderName::try_from(name), hyper::header::HeaderValue::try_from(value))
            {
                response.headers_mut().entry(name).or_insert(value);
            }
        }
        response
    }
}

pub(crate) fn b64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Base64url with or without padding.
pub(crate) fn unb64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

pub(crate) fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

//! One request in, one reply out: the plain values that every service here is a function of.

use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::body::{Bytes, Frame, SizeHint};
use hyper::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::faults::Effect;

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
    /// The fault that strikes it; mostly one that does nothing.
    pub effect: Effect,
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
        let (method, headers) = (parts.method.clone(), parts.headers.clone());
        Self { method, host, path, segments, query, headers, body, peer, effect: Effect::default() }
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
    /// Breaks the connection when so many bytes of the body are sent.
    pub broken_after: Option<usize>,
}

pub(crate) type Answer = Result<Reply, Reply>;

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/json; charset=utf-8", &body.to_string())
    }

    pub fn text(status: u16, content_type: &str, body: &str) -> Self {
        let body = body.as_bytes().to_vec();
        Self { body, ..Self::empty(status) }.with("content-type", content_type)
    }

    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), broken_after: None }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The same as hyper wants it. Of a header given twice the first counts; one that cannot be sent is left out.
    pub fn into_hyper(self) -> hyper::Response<Body> {
        let mut response = hyper::Response::new(Body::new(self.body, self.broken_after));
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

/// All of its bytes at once, or some of them and then a failure.
pub(crate) struct Body {
    bytes: Bytes,
    sent: bool,
    /// How many bytes were announced and never come.
    missing: u64,
}

impl Body {
    fn new(bytes: Vec<u8>, broken_after: Option<usize>) -> Self {
        let whole = Bytes::from(bytes);
        let bytes = whole.slice(..broken_after.unwrap_or(whole.len()).min(whole.len()));
        let missing = (whole.len() - bytes.len()) as u64;
        Self { sent: bytes.is_empty() && missing == 0, bytes, missing }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        if !self.sent {
            self.sent = true;
            return Poll::Ready(Some(Ok(Frame::data(self.bytes.clone()))));
        }
        match self.missing {
            0 => Poll::Ready(None),
            _ if self.bytes.is_empty() => Poll::Ready(Some(Err(std::io::Error::other("truncated on purpose")))),
            // What was written is flushed only while the body makes the connection wait.
            _ => {
                self.bytes = Bytes::new();
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.sent && self.missing == 0
    }

    fn size_hint(&self) -> SizeHint {
        let left = if self.sent { 0 } else { self.bytes.len() as u64 };
        SizeHint::with_exact(left + self.missing)
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

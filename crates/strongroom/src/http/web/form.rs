//! What a browser's form sends. Values may be anybody's passwords: they are wiped on drop and never repeated.

use std::{borrow::Cow, str::FromStr};

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{StatusCode, header},
};
use percent_encoding::percent_decode;
use zeroize::Zeroizing;

use crate::{http::error::Refusal, secret_text::SecretText};

/// The fields of an `application/x-www-form-urlencoded` body, in the order sent.
#[derive(Default)]
pub struct Form(Vec<(String, SecretText)>);

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let kind =
            request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        let is_form = essence.is_empty() || essence.eq_ignore_ascii_case("application/x-www-form-urlencoded");
        if !is_form {
            return Err(Refusal::MediaType);
        }
        let body = Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Refusal::TooLarge,
            _ => Refusal::BodyLost,
        })?;
        parse(&body).map(Self)
    }
}

impl Form {
    /// The first field of this name, as it was sent; empty when there is none.
    pub fn get(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    /// The same without spaces around it.
    pub fn text(&self, name: &str) -> String {
        self.get(name).trim().to_owned()
    }

    pub fn secret(&self, name: &str) -> SecretText {
        SecretText::from(self.get(name))
    }

    /// Every field of this name.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.expose())
    }

    /// Whether a box was ticked.
    pub fn has(&self, name: &str) -> bool {
        self.get(name) == "yes"
    }

    /// A value that parses, or nothing.
    pub fn parsed<T: FromStr>(&self, name: &str) -> Option<T> {
        self.get(name).trim().parse().ok()
    }
}

fn parse(body: &[u8]) -> Result<Vec<(String, SecretText)>, Refusal> {
    let mut fields = Vec::new();
    let mut at = 0;
    for pair in body.split(|byte| *byte == b'&') {
        let middle = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let (name, value) = (&pair[..middle], pair.get(middle + 1..).unwrap_or_default());
        if !pair.is_empty() {
            fields.push((decode(name, at)?.to_string(), SecretText::from(decode(value, at + middle + 1)?)));
        }
        at += pair.len() + 1;
    }
    Ok(fields)
}

/// `at` is where `bytes` stand in the body.
fn decode(bytes: &[u8], at: usize) -> Result<Zeroizing<String>, Refusal> {
    let spaced: Zeroizing<Vec<u8>> =
        Zeroizing::new(bytes.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect());
    match percent_decode(&spaced).decode_utf8() {
        Ok(Cow::Borrowed(text)) => Ok(Zeroizing::new(text.to_owned())),
        Ok(Cow::Owned(text)) => Ok(Zeroizing::new(text)),
        Err(error) => Err(Refusal::NotUtf8 { at: at + error.valid_up_to() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_read_back_as_a_browser_writes_them() {
        let form = Form(parse(b"a=1+2%2B&b=%E2%9C%93&a=x%3Dy&c&&d=").expect("a form"));
        assert_eq!(form.all("a").collect::<Vec<_>>(), ["1 2+", "x=y"]);
        assert_eq!((form.get("b"), form.get("c"), form.get("d"), form.get("e")), ("✓", "", "", ""));
    }

    #[test]
    fn bytes_that_are_no_utf_8_are_refused() {
        assert!(matches!(parse(b"a=1&b=%ff"), Err(Refusal::NotUtf8 { at: 6 })));
        assert!(matches!(parse(b"\xff=1"), Err(Refusal::NotUtf8 { at: 0 })));
    }
}

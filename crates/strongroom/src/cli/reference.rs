//! References to one field: `strongroom://vault/item/field`, by name or id, with `?attribute=otp` for the current code.
//!
//! A `/`, `?`, `%` or blank inside a name is percent-encoded (RFC 3986).

use std::str::FromStr;

use percent_encoding::percent_decode_str;
use thiserror::Error;

const SCHEME: &str = "strongroom://";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub vault: String,
    pub item: String,
    pub field: String,
    /// The current code of a one-time password instead of its secret.
    pub otp: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReferenceError {
    #[error("a reference begins with {SCHEME}")]
    Scheme,
    #[error("a reference has three parts, strongroom://vault/item/field; this one has {0}")]
    Parts(usize),
    #[error("the {0} is empty")]
    EmptyPart(&'static str),
    #[error("the {0} is not percent-encoded UTF-8")]
    Encoding(&'static str),
    #[error("`{0}` is not known; only ?attribute=otp is")]
    Query(String),
}

impl Reference {
    /// Whether a value of the environment is meant as a reference.
    pub fn looks_like_one(text: &str) -> bool {
        text.starts_with(SCHEME)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let rest = text.strip_prefix(SCHEME).ok_or(ReferenceError::Scheme)?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let otp = match query {
            "" => false,
            "attribute=otp" => true,
            other => return Err(ReferenceError::Query(other.to_owned())),
        };
        let parts: Vec<&str> = path.split('/').collect();
        let [vault, item, field] = parts[..] else {
            return Err(ReferenceError::Parts(parts.len()));
        };
        Ok(Self { vault: part("vault", vault)?, item: part("item", item)?, field: part("field", field)?, otp })
    }
}

fn part(name: &'static str, encoded: &str) -> Result<String, ReferenceError> {
    if encoded.is_empty() {
        return Err(ReferenceError::EmptyPart(name));
    }
    let text = percent_decode_str(encoded).decode_utf8().map_err(|_| ReferenceError::Encoding(name))?;
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Reference, ReferenceError> {
        text.parse()
    }

    #[test]
    fn names_are_decoded_and_may_hold_slashes() {
        let reference = parse("strongroom://Azure%20vault/a%2Fb%3F/API key?attribute=otp").expect("a reference");
        assert_eq!(
            reference,
            Reference { vault: "Azure vault".into(), item: "a/b?".into(), field: "API key".into(), otp: true }
        );
    }

    #[test]
    fn wrong_forms_are_named() {
        assert_eq!(parse("op://a/b/c"), Err(ReferenceError::Scheme));
        assert_eq!(parse("strongroom://a/b"), Err(ReferenceError::Parts(2)));
        assert_eq!(parse("strongroom://a/b/c/d"), Err(ReferenceError::Parts(4)));
        assert_eq!(parse("strongroom://a//c"), Err(ReferenceError::EmptyPart("item")));
        assert_eq!(parse("strongroom://a/b/%ff"), Err(ReferenceError::Encoding("field")));
        assert_eq!(parse("strongroom://a/b/c?attribute=x"), Err(ReferenceError::Query("attribute=x".into())));
    }

    proptest! {
        #[test]
        fn any_three_names_survive_encoding(vault in ".{1,20}", item in ".{1,20}", field in ".{1,20}") {
            let encode = |name: &str| utf8_percent_encode(name, NON_ALPHANUMERIC).to_string();
            let text = format!("strongroom://{}/{}/{}", encode(&vault), encode(&item), encode(&field));
            prop_assert_eq!(parse(&text), Ok(Reference { vault, item, field, otp: false }));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*") {
            let _ = parse(&text);
            let _ = parse(&format!("strongroom://{text}"));
        }
    }
}

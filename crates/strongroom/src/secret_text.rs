//! Text that must not linger: zeroized on drop, without `Debug`, `Display` or `Clone`.

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use zeroize::Zeroizing;

/// A password, token, title or any other text that a person typed into an item.
///
/// It can be serialized, unlike the secrets of the domain: it exists to cross the wire between server and client,
/// inside the bodies of `http::api::types`, and nothing else of it may be written anywhere. The buffers of the JSON
/// reader and of the network are not ours to wipe.
#[derive(PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The text, for as long as the borrow lasts. Do not copy it into a plain `String`.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text with its wiping kept, for a domain type to own.
    pub fn into_zeroizing(self) -> Zeroizing<String> {
        self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }
}

impl From<Zeroizing<String>> for SecretText {
    fn from(text: Zeroizing<String>) -> Self {
        Self(text)
    }
}

impl Hash for SecretText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.expose().hash(state);
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not `deserialize_string`: there the JSON reader refuses a number itself, and repeats it.
        deserializer.deserialize_any(TextVisitor)
    }
}

/// Takes strings only. Serde's own refusal of a number repeats it, and it may be somebody's PIN; ours does not.
struct TextVisitor;

impl de::Visitor<'_> for TextVisitor {
    type Value = SecretText;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretText, E> {
        Ok(SecretText::from(text))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<SecretText, E> {
        Ok(SecretText::from(text))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<SecretText, E> {
        Err(E::custom("expected a string, found true or false"))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<SecretText, E> {
        Err(E::custom("expected a string, found a number"))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<SecretText, E> {
        Err(E::custom("expected a string, found a number"))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<SecretText, E> {
        Err(E::custom("expected a string, found a number"))
    }
}

impl PartialSchema for SecretText {
    fn schema() -> RefOr<Schema> {
        String::schema()
    }
}

impl ToSchema for SecretText {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crosses_the_wire_unchanged() {
        let sent = serde_json::to_string(&SecretText::from("p\"ä\u{1F511}\n")).expect("a string serializes");
        let received: SecretText = serde_json::from_str(&sent).expect("and parses");
        assert_eq!(received.expose(), "p\"ä\u{1F511}\n");
    }

    #[test]
    fn anything_but_a_string_is_refused_and_not_repeated() {
        for body in ["4711", "-4711", "4711.5", "true", "null", "[\"4711\"]", "{\"4711\":1}"] {
            let refusal = serde_json::from_str::<SecretText>(body).err().expect("refused");
            assert!(!refusal.to_string().contains("4711"), "{refusal}");
        }
    }
}

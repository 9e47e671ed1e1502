//! Key identifiers: which exact key version wrapped a vault key.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

use crate::input::{KeyName, is_key_name};

/// The full identifier of the key version that made a wrap. It is stored with every wrap, and its text form is what
/// MACs cover, so parsing and printing it gives the same text back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kid {
    /// A key version in the customer's Key Vault.
    Azure(KeyUrl),
    /// The KEK of built-in Cloud vaults, by its id in hexadecimal: `cloud:0011…`.
    Cloud(String),
}

/// `https://HOST/keys/NAME/VERSION`: one version of a key in Key Vault.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyUrl {
    host: String,
    name: KeyName,
    key_version: String,
}

/// The text is no key identifier of either form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a key identifier: expected https://HOST/keys/NAME/VERSION or cloud:ID")]
pub struct NotAKid;

const CLOUD: &str = "cloud:";

impl KeyUrl {
    /// The Key Vault's host, in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The key's name, as Azure spells it.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// Azure's string for the key version.
    pub fn key_version(&self) -> &str {
        &self.key_version
    }

    /// Whether both name the same key version. Azure does not care about letter case in the key's name.
    pub fn same_key_version(&self, other: &KeyUrl) -> bool {
        self.same_key(other) && self.key_version == other.key_version
    }

    fn same_key(&self, other: &KeyUrl) -> bool {
        self.host == other.host && self.name.as_str().eq_ignore_ascii_case(other.name.as_str())
    }
}

impl FromStr for KeyUrl {
    type Err = NotAKid;

    /// Takes exactly the form that Azure gives: https, a host name in lower case, no port, query or trailing slash.
    fn from_str(text: &str) -> Result<KeyUrl, NotAKid> {
        let url = Url::parse(text).map_err(|_| NotAKid)?;
        let Some(Host::Domain(host)) = url.host() else {
            return Err(NotAKid);
        };
        let mut segments = url.path_segments().ok_or(NotAKid)?;
        let (Some("keys"), Some(name), Some(key_version), None) =
            (segments.next(), segments.next(), segments.next(), segments.next())
        else {
            return Err(NotAKid);
        };
        let alphanumeric = key_version.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_key_name(name) || !alphanumeric || !(1..=64).contains(&key_version.len()) {
            return Err(NotAKid);
        }
        let parsed = KeyUrl { host: host.to_owned(), name: KeyName::known(name), key_version: key_version.to_owned() };
        // Whatever else the text had (user, port, query, upper-case host) would not come back.
        if parsed.to_string() == text { Ok(parsed) } else { Err(NotAKid) }
    }
}

impl fmt::Display for KeyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}/keys/{}/{}", self.host, self.name, self.key_version)
    }
}

impl Kid {
    /// Whether both name key versions of the same key.
    pub fn same_key(&self, other: &Kid) -> bool {
        match (self, other) {
            (Kid::Azure(one), Kid::Azure(other)) => one.same_key(other),
            (one, other) => one == other,
        }
    }

    /// Whether both name the same key version; in Azure without regard to letter case in the key's name.
    pub fn same_key_version(&self, other: &Kid) -> bool {
        match (self, other) {
            (Kid::Azure(one), Kid::Azure(other)) => one.same_key_version(other),
            (one, other) => one == other,
        }
    }
}

impl FromStr for Kid {
    type Err = NotAKid;

    fn from_str(text: &str) -> Result<Kid, NotAKid> {
        let Some(id) = text.strip_prefix(CLOUD) else {
            return text.parse().map(Kid::Azure);
        };
        let hex = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if hex && (1..=64).contains(&id.len()) { Ok(Kid::Cloud(id.to_owned())) } else { Err(NotAKid) }
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kid::Azure(url) => url.fmt(f),
            Kid::Cloud(id) => write!(f, "{CLOUD}{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KID: &str = "https://acme.vault.azure.net/keys/Strongroom-KEK/0123456789abcdef0123456789abcdef";

    #[test]
    fn a_kid_prints_as_it_was_read() {
        let Ok(Kid::Azure(url)) = KID.parse() else { panic!("{KID}") };
        assert_eq!(url.host(), "acme.vault.azure.net");
        assert_eq!(url.name().as_str(), "Strongroom-KEK");
        assert_eq!(url.key_version(), "0123456789abcdef0123456789abcdef");
        assert_eq!(url.to_string(), KID);
        let cloud: Kid = "cloud:00ff".parse().expect("a Cloud KEK");
        assert_eq!(cloud.to_string(), "cloud:00ff");
    }

    #[test]
    fn anything_but_the_exact_form_is_no_kid() {
        for text in [
            "",
            "cloud:",
            "cloud:XYZ",
            "http://acme.vault.azure.net/keys/k/0123",
            "https://acme.vault.azure.net/keys/k",
            "https://acme.vault.azure.net/keys/k/",
            "https://acme.vault.azure.net/keys/k/0123/",
            "https://acme.vault.azure.net/keys/k/0123?api-version=7.4",
            "https://acme.vault.azure.net/secrets/k/0123",
            "https://user@acme.vault.azure.net/keys/k/0123",
            "https://acme.vault.azure.net:444/keys/k/0123",
            "https://acme.vault.azure.net:443/keys/k/0123",
            "https://ACME.vault.azure.net/keys/k/0123",
            "https://127.0.0.1/keys/k/0123",
            "https://acme.vault.azure.net/keys/a_b/0123",
            "https://acme.vault.azure.net/keys/k/01%2f23",
            "https://acme.vault.azure.net/keys/x/../k/0123",
        ] {
            assert_eq!(text.parse::<Kid>(), Err(NotAKid), "{text}");
        }
    }

    #[test]
    fn the_same_key_version_may_be_spelt_with_other_letter_case() {
        let spelt = KID.replace("Strongroom-KEK", "strongroom-kek");
        let (one, two): (KeyUrl, KeyUrl) = (KID.parse().expect("kid"), spelt.parse().expect("kid"));
        assert!(one.same_key_version(&two));
        let other: KeyUrl = KID.replace("0123", "3210").parse().expect("kid");
        assert!(!one.same_key_version(&other));
    }

    proptest! {
        #[test]
        fn whatever_is_read_as_a_kid_prints_as_it_was_read(text in "\\PC*", near in "[a-zA-Z0-9./:?#%@_-]{0,80}") {
            for text in [text, format!("https://acme.vault.azure.net/keys/{near}"), format!("cloud:{near}"), near] {
                if let Ok(kid) = text.parse::<Kid>() {
                    prop_assert_eq!(kid.to_string(), text);
                }
            }
        }
    }
}

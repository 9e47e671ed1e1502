//! Bitwarden's JSON export under a passphrase, of Bitwarden or of ours: told apart from others, and opened.
//! Its properties: bitwarden/sdk-internal, `crates/bitwarden-exporters/src/encrypted_json.rs`.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use strongroom_envelope::{Encrypted, PassphraseError, PassphraseKdf, PassphraseKeys, Plaintext};

use super::{ImportError, text};
use crate::secret_text::SecretText;

/// Whether `bytes` are an export that a passphrase opens.
pub fn is_protected(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        #[serde(default)]
        encrypted: bool,
        #[serde(default)]
        password_protected: bool,
    }
    let head = text(bytes).ok().and_then(|text| serde_json::from_str::<Head>(text).ok());
    head.is_some_and(|head| head.encrypted && head.password_protected)
}

/// The unencrypted export inside. The work of the derivation is the file's choice, within bounds.
pub fn unlock(bytes: &[u8], passphrase: &SecretText) -> Result<Plaintext, ImportError> {
    let file: File<'_> = serde_json::from_str(text(bytes)?).map_err(super::bitwarden::without_content)?;
    let kdf = match (file.kdf_type, file.kdf_memory, file.kdf_parallelism) {
        (0, ..) => PassphraseKdf::Pbkdf2 { iterations: file.kdf_iterations },
        (1, Some(memory), Some(lanes)) => PassphraseKdf::Argon2id { iterations: file.kdf_iterations, memory, lanes },
        _ => return Err(ImportError::NotOpened(PassphraseError::Unbearable)),
    };
    let keys =
        PassphraseKeys::derive(passphrase.expose().as_bytes(), &file.salt, kdf).map_err(ImportError::NotOpened)?;
    let sealed = parts(&file.data).ok_or(ImportError::NotOpened(PassphraseError::NotOpened))?;
    keys.decrypt(sealed).map_err(ImportError::NotOpened)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    #[serde(borrow)]
    salt: Cow<'a, str>,
    kdf_type: u32,
    kdf_iterations: u32,
    kdf_memory: Option<u32>,
    kdf_parallelism: Option<u32>,
    #[serde(borrow)]
    data: Cow<'a, str>,
}

/// `2.IV|body|MAC`, each as base64: AES-256-CBC with HMAC-SHA-256, the only kind that such files have.
fn parts(data: &str) -> Option<Encrypted> {
    let mut parts = data.strip_prefix("2.")?.split('|').map(|part| STANDARD.decode(part).ok());
    let (iv, body, mac) = (parts.next()??, parts.next()??, parts.next()??);
    let sealed = Encrypted { iv: iv.try_into().ok()?, body, mac: mac.try_into().ok()? };
    parts.next().is_none().then_some(sealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with Python's hashlib and the openssl command: PBKDF2-HMAC-SHA-256, 1,000 rounds, "tide and lamp".
    const FILE: &str = include_str!("protected.json");

    #[test]
    fn a_file_that_others_made_opens_with_its_passphrase_only() {
        assert!(is_protected(FILE.as_bytes()));
        let opened =
            unlock(FILE.as_bytes(), &SecretText::from("tide and lamp")).unwrap_or_else(|error| panic!("{error}"));
        let parsed = super::super::bitwarden::parse(std::str::from_utf8(&opened).expect("text"))
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(parsed.drafts[0].item.title.expose(), "Mail");
        let wrong = unlock(FILE.as_bytes(), &SecretText::from("tide and lamb")).err();
        assert_eq!(wrong, Some(ImportError::NotOpened(PassphraseError::NotOpened)));
        let cut = FILE.replace("==|", "=|");
        assert!(unlock(cut.as_bytes(), &SecretText::from("tide and lamp")).is_err());
    }

    #[test]
    fn only_files_under_a_passphrase_are_taken_for_one() {
        for text in ["", "{", "[]", r#"{"encrypted":true,"items":[]}"#, r#"{"encrypted":false,"items":[]}"#] {
            assert!(!is_protected(text.as_bytes()), "{text}");
        }
    }
}

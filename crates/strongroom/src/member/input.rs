//! What people type about themselves, parsed at the edge: e-mail addresses, names, passwords, slugs.

use std::fmt;

use garde::rules::email::parse_email;

use crate::{
    error::{Error, FieldError, Result},
    secret_text::SecretText,
};

const EMAIL_MAX: usize = 254;
const NAME_MAX: usize = 100;
const SLUG_MAX: usize = 40;
const PASSWORD_MIN: usize = 12;
const PASSWORD_MAX: usize = 256;

/// An e-mail address in lower case: who signs in with capitals is the same person.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Email(String);

impl Email {
    /// Takes an address with any capitals and spaces around it.
    pub fn parse(text: &str) -> std::result::Result<Self, FieldError> {
        let wrong = |message: &'static str| FieldError { field: "email".into(), message: message.into() };
        let text = text.trim();
        if text.is_empty() {
            return Err(wrong("The e-mail address is missing."));
        }
        if text.len() > EMAIL_MAX {
            return Err(wrong("The e-mail address is longer than 254 characters."));
        }
        parse_email(text).map_err(|_| wrong("This is no e-mail address; it looks like name@example.com."))?;
        Ok(Self(text.to_lowercase()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name of a person, a token or a workspace: trimmed, 1 to 100 characters, nothing that hides or reorders text.
pub fn name(field: &'static str, text: &str) -> std::result::Result<String, FieldError> {
    let wrong = |message: &'static str| FieldError { field: field.into(), message: message.into() };
    let text = text.trim();
    if text.is_empty() {
        return Err(wrong("The name is missing."));
    }
    // A length in bytes first: nobody counts the characters of ten megabytes.
    if text.len() > NAME_MAX * 4 || text.chars().count() > NAME_MAX {
        return Err(wrong("The name is longer than 100 characters."));
    }
    if text.chars().any(hides) {
        return Err(wrong("The name has a control character in it, such as a line break."));
    }
    Ok(text.to_owned())
}

/// The workspace's name in addresses.
pub fn slug(text: &str) -> std::result::Result<String, FieldError> {
    let text = text.trim();
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || text.len() > SLUG_MAX || !text.bytes().all(fits) {
        let message = "The short name has 1 to 40 characters: a to z in lower case, 0 to 9 and the hyphen.";
        return Err(FieldError { field: "slug".into(), message: message.into() });
    }
    Ok(text.to_owned())
}

/// Refuses a new password that is too short or too long.
pub fn new_password(password: &SecretText) -> std::result::Result<(), FieldError> {
    let wrong = |message: &'static str| FieldError { field: "password".into(), message: message.into() };
    let text = password.expose();
    let length = if text.len() > PASSWORD_MAX * 4 { text.len() } else { text.chars().count() };
    match length {
        0 => Err(wrong("The password is missing.")),
        1..PASSWORD_MIN => Err(wrong("The password is shorter than 12 characters; four random words are a good one.")),
        PASSWORD_MIN..=PASSWORD_MAX => Ok(()),
        _ => Err(wrong("The password is longer than 256 characters.")),
    }
}

/// Refuses a passphrase for a file that is too short or too long: whoever has the file can try for years.
pub fn new_passphrase(passphrase: &SecretText) -> std::result::Result<(), FieldError> {
    let wrong = |message: &'static str| FieldError { field: "passphrase".into(), message: message.into() };
    let text = passphrase.expose();
    let length = if text.len() > PASSWORD_MAX * 4 { text.len() } else { text.chars().count() };
    match length {
        0 => Err(wrong("The passphrase is missing.")),
        1..PASSWORD_MIN => Err(wrong("The passphrase is shorter than 12 characters; six random words are a good one.")),
        PASSWORD_MIN..=PASSWORD_MAX => Ok(()),
        _ => Err(wrong("The passphrase is longer than 256 characters.")),
    }
}

/// Every field that is wrong, at once.
pub(crate) fn checked<T>(result: std::result::Result<T, FieldError>, wrong: &mut Vec<FieldError>) -> Option<T> {
    result.map_err(|error| wrong.push(error)).ok()
}

/// One field that is wrong, as the answer to the request.
pub(crate) fn only<T>(result: std::result::Result<T, FieldError>) -> Result<T> {
    result.map_err(|error| Error::Invalid(vec![error]))
}

/// Control characters, and those that turn the direction of the text around them (Unicode TR 9, section 2).
fn hides(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_trimmed_and_put_in_lower_case() {
        assert_eq!(Email::parse("  Ada@Example.COM ").expect("an address").as_str(), "ada@example.com");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("{}@example.com", "a".repeat(250));
        for text in ["", "ada", "@example.com", "ada@", "ada@exa mple.com", "ada\n@example.com", &long] {
            assert!(Email::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_name_is_trimmed_and_hides_nothing() {
        assert_eq!(name("name", " Ada Lovelace ").expect("a name"), "Ada Lovelace");
        let (long, huge) = ("é".repeat(101), "a".repeat(10 << 20));
        for text in ["", "  ", "a\nb", "a\u{202E}b", "a\0b", long.as_str(), huge.as_str()] {
            assert!(name("name", text).is_err());
        }
        assert!(name("name", &"é".repeat(100)).is_ok());
    }

    #[test]
    fn a_slug_is_plain() {
        assert!(slug("acme-2").is_ok());
        for text in ["", "Acme", "a b", "a/b", "ä", &"a".repeat(41)] {
            assert!(slug(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_password_is_counted_in_characters() {
        for (text, good) in [("", false), ("elevenchars", false), ("twelve chars", true), ("ééééééééééé", false)]
        {
            assert_eq!(new_password(&SecretText::from(text)).is_ok(), good, "{text:?}");
        }
        assert!(new_password(&SecretText::from("é".repeat(256))).is_ok());
        assert!(new_password(&SecretText::from("é".repeat(257))).is_err());
    }
}

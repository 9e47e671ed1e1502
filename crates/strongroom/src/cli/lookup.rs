//! Finding vaults, items and field values by name or id.

use std::collections::HashMap;

use jiff::Timestamp;
use totp_rs::{Builder, Secret, Totp};
use uuid::Uuid;

use super::console::printable;
use super::failure::{Exit, Failure};
use super::reference::Reference;
use crate::client::Client;
use crate::http::api::types::{DarkVault, Field, FieldKind, Item, Revealed, SearchItems, Vault};
use crate::secret_text::SecretText;

/// The vault with this id or name.
pub fn vault<'v>(vaults: &'v [Vault], wanted: &str) -> Result<&'v Vault, Failure> {
    vaults.iter().find(|vault| vault.id.to_string() == wanted || vault.name == wanted).ok_or_else(|| {
        Failure::new(Exit::NotFound, "vault.not_found", format!("there is no vault `{}`", printable(wanted)))
            .fix("`strongroom vault list` shows those there are")
    })
}

/// The item with this id or title, in one vault or in all. A title is looked for exactly, then without regard to case.
pub async fn item(client: &Client, vaults: &[Vault], within: Option<&Vault>, wanted: &str) -> Result<Item, Failure> {
    if let Ok(id) = wanted.parse::<Uuid>() {
        let item = client.item(id).await?;
        return match within {
            Some(vault) if vault.id != item.vault_id => Err(not_found(wanted)),
            _ => Ok(item),
        };
    }
    let (mut found, dark) = search(client, within, wanted).await?;
    if found.iter().any(|item| item.title.expose() == wanted) {
        found.retain(|item| item.title.expose() == wanted);
    } else {
        found.retain(|item| item.title.expose().to_lowercase() == wanted.to_lowercase());
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 if !dark.is_empty() => Err(in_the_dark(wanted, &dark, vaults)),
        0 => Err(not_found(wanted)),
        _ => Err(ambiguous(wanted, &found, vaults)),
    }
}

/// Looks up references; each item is found and revealed once.
pub struct Resolver<'c> {
    client: &'c Client,
    vaults: Vec<Vault>,
    items: HashMap<(Uuid, String), Item>,
    revealed: HashMap<Uuid, Revealed>,
}

impl<'c> Resolver<'c> {
    pub async fn new(client: &'c Client) -> Result<Self, Failure> {
        let vaults = client.vaults().await?;
        Ok(Self { client, vaults, items: HashMap::new(), revealed: HashMap::new() })
    }

    /// The value of the field, or the code that its one-time password has at `now`.
    pub async fn value(&mut self, reference: &Reference, now: Timestamp) -> Result<SecretText, Failure> {
        let within = vault(&self.vaults, &reference.vault)?;
        let key = (within.id, reference.item.clone());
        if !self.items.contains_key(&key) {
            let found = item(self.client, &self.vaults, Some(within), &reference.item).await?;
            self.items.insert(key.clone(), found);
        }
        let item = &self.items[&key];
        // What the overview holds needs no reveal, and so leaves none in the audit log.
        if let Some(text) = of_overview(item, &reference.field).filter(|_| !reference.otp) {
            return Ok(SecretText::from(text.expose()));
        }
        if !self.revealed.contains_key(&item.id) {
            self.revealed.insert(item.id, self.client.reveal(item.id).await?);
        }
        let field = field(&self.revealed[&item.id].fields, &reference.field)?;
        if reference.otp { code(field, now) } else { Ok(SecretText::from(field.value.expose())) }
    }
}

/// The code of a field of kind `totp` at `now`.
pub fn code(field: &Field, now: Timestamp) -> Result<SecretText, Failure> {
    let unusable = |detail: &str| {
        Failure::new(Exit::Other, "totp.unusable", "the field holds no usable one-time password secret").why(detail)
    };
    if field.kind != FieldKind::Totp {
        return Err(unusable("its kind is not totp"));
    }
    let text = field.value.expose().trim();
    let totp = if text.starts_with("otpauth://") {
        Totp::from_url_unchecked(text).map_err(|_| unusable("its otpauth: URI cannot be read"))?
    } else {
        let base32: String = text.chars().filter(|letter| !matches!(letter, ' ' | '-' | '=')).collect();
        let secret = Secret::try_from_base32(base32.to_uppercase())
            .map_err(|_| unusable("it is neither an otpauth: URI nor Base32"))?;
        Builder::new().with_secret(secret).build_noncompliant()
    };
    let seconds = u64::try_from(now.as_second()).map_err(|_| unusable("the clock is before 1970"))?;
    Ok(SecretText::from(totp.generate(seconds).to_string()))
}

fn of_overview<'i>(item: &'i Item, name: &str) -> Option<&'i SecretText> {
    match name.to_lowercase().as_str() {
        "title" => Some(&item.title),
        "username" => item.usernames.first(),
        "url" => item.urls.first(),
        _ => None,
    }
}

/// The field with this name, exactly or without regard to case.
fn field<'f>(fields: &'f [Field], name: &str) -> Result<&'f Field, Failure> {
    let exact = fields.iter().find(|field| field.name.expose() == name);
    let loose = || fields.iter().find(|field| field.name.expose().to_lowercase() == name.to_lowercase());
    exact.or_else(loose).ok_or_else(|| {
        let names: Vec<String> = fields.iter().map(|field| format!("`{}`", printable(field.name.expose()))).collect();
        Failure::new(Exit::NotFound, "field.not_found", format!("the item has no field `{}`", printable(name)))
            .why(format!("it has {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") }))
    })
}

async fn search(client: &Client, within: Option<&Vault>, wanted: &str) -> Result<(Vec<Item>, Vec<DarkVault>), Failure> {
    let mut request = SearchItems {
        query: SecretText::from(wanted),
        item_type: None,
        vault_id: within.map(|vault| vault.id),
        cursor: None,
        limit: Some(200),
    };
    let mut found = Vec::new();
    loop {
        let page = client.search(&request).await?;
        found.extend(page.items);
        request.cursor = page.next_cursor;
        if request.cursor.is_none() {
            // Every page names all dark vaults; the last is the newest.
            return Ok((found, page.dark));
        }
    }
}

fn not_found(wanted: &str) -> Failure {
    Failure::new(Exit::NotFound, "item.not_found", format!("there is no item `{}`", printable(wanted)))
        .why("it does not exist, or it is not shared with you")
}

/// Not among what can be read; it may be among what cannot.
fn in_the_dark(wanted: &str, dark: &[DarkVault], vaults: &[Vault]) -> Failure {
    let causes: Vec<String> = dark
        .iter()
        .map(|vault| {
            format!("vault `{}` is dark ({} items): {}", vault_name(vaults, vault.vault_id), vault.count, vault.title)
        })
        .collect();
    let fix = dark.first().and_then(|dark| vaults.iter().find(|vault| vault.id == dark.vault_id)?.health.fix.clone());
    let mut failure = Failure::new(
        Exit::KeyUnavailable,
        &dark[0].code,
        format!("`{}` is not among the items that can be read now", printable(wanted)),
    )
    .why(causes.join("; "));
    failure.state = Some(dark[0].state.clone());
    failure.recoverable_until = dark[0].recoverable_until;
    failure.fix = fix;
    failure
}

fn ambiguous(wanted: &str, found: &[Item], vaults: &[Vault]) -> Failure {
    let lines: Vec<String> = found
        .iter()
        .map(|item| {
            let username = item.usernames.first().map(|name| format!(", {}", printable(name.expose())));
            format!("{} (vault `{}`{})", item.id, vault_name(vaults, item.vault_id), username.unwrap_or_default())
        })
        .collect();
    Failure::new(Exit::Other, "item.ambiguous", format!("{} items are called `{}`", found.len(), printable(wanted)))
        .why(lines.join("; "))
        .fix("name it by its id")
}

pub fn vault_name(vaults: &[Vault], id: Uuid) -> String {
    vaults.iter().find(|vault| vault.id == id).map_or_else(|| id.to_string(), |vault| printable(&vault.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(kind: FieldKind, value: &str, second: i64) -> Result<String, String> {
        let field = Field::new("Code", kind, SecretText::from(value));
        let now = Timestamp::from_second(second).expect("in range");
        code(&field, now)
            .map(|code| code.expose().to_owned())
            .map_err(|failure| failure.detail.clone().unwrap_or_default())
    }

    /// RFC 6238, appendix B: the secret "12345678901234567890" at 59 and 1111111109 seconds, here with six digits.
    #[test]
    fn codes_are_those_of_rfc_6238() {
        let base32 = "gezd gnbv-gy3t qojq gezd gnbv gy3t qojq";
        assert_eq!(code_of(FieldKind::Totp, base32, 59), Ok("287082".into()));
        assert_eq!(code_of(FieldKind::Totp, base32, 1_111_111_109), Ok("081804".into()));
        let uri = "otpauth://totp/ACME:ada@a.example?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=ACME&digits=8";
        assert_eq!(code_of(FieldKind::Totp, uri, 59), Ok("94287082".into()));
    }

    #[test]
    fn what_is_no_one_time_password_says_so_without_repeating_it() {
        assert_eq!(code_of(FieldKind::Password, "hunter2", 59), Err("its kind is not totp".into()));
        assert_eq!(code_of(FieldKind::Totp, "hunter2!", 59), Err("it is neither an otpauth: URI nor Base32".into()));
        assert!(code_of(FieldKind::Totp, "otpauth://totp/x", 59).is_err());
    }

    #[test]
    fn a_field_is_found_exactly_before_it_is_found_loosely() {
        let fields = [
            Field::new("token", FieldKind::Hidden, SecretText::from("1")),
            Field::new("Token", FieldKind::Hidden, SecretText::from("2")),
        ];
        assert_eq!(field(&fields, "Token").expect("found").value.expose(), "2");
        assert_eq!(field(&fields, "TOKEN").expect("found").value.expose(), "1");
        let missing = field(&fields, "PIN").err().expect("missing");
        assert_eq!((missing.exit, missing.detail.as_deref()), (Exit::NotFound, Some("it has `token`, `Token`")));
    }
}

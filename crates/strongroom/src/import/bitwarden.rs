//! Bitwarden's unencrypted JSON export, of a person or of an organisation; our own export is one too, with a layout
//! that makes each item what it was.
//! Field names and types: bitwarden/clients, `libs/common/src/models/export`.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::error::Category;

use super::{ImportDraft, ImportError, LeftOut, Parsed, Part, Place, Reason, Refused};
use crate::export::{Layout, Slot};
use crate::http::api::types::{CreateItem, Field, FieldKind, ItemType, SecretKind};
use crate::item::MAX_ITEM;
use crate::secret_text::SecretText;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Export {
    #[serde(default)]
    encrypted: bool,
    #[serde(default)]
    folders: Vec<Folder>,
    #[serde(default)]
    collections: Vec<Folder>,
    #[serde(default)]
    items: Option<Vec<Entry>>,
}

/// A folder of a person or a collection of an organisation.
#[derive(Deserialize)]
struct Folder {
    id: String,
    name: SecretText,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(rename = "type")]
    kind: u64,
    name: Option<SecretText>,
    notes: Option<SecretText>,
    folder_id: Option<String>,
    collection_ids: Option<Vec<String>>,
    login: Option<Login>,
    card: Option<Card>,
    identity: Option<Identity>,
    ssh_key: Option<SshKey>,
    fields: Option<Vec<CustomField>>,
    password_history: Option<Vec<Ignored>>,
    strongroom: Option<Layout>,
}

#[derive(Deserialize)]
struct Login {
    uris: Option<Vec<Uri>>,
    username: Option<SecretText>,
    password: Option<SecretText>,
    totp: Option<SecretText>,
    #[serde(rename = "fido2Credentials")]
    passkeys: Option<Vec<Ignored>>,
}

#[derive(Deserialize)]
struct Uri {
    uri: Option<SecretText>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Card {
    cardholder_name: Option<SecretText>,
    brand: Option<SecretText>,
    number: Option<SecretText>,
    exp_month: Option<SecretText>,
    exp_year: Option<SecretText>,
    code: Option<SecretText>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    title: Option<SecretText>,
    first_name: Option<SecretText>,
    middle_name: Option<SecretText>,
    last_name: Option<SecretText>,
    address1: Option<SecretText>,
    address2: Option<SecretText>,
    address3: Option<SecretText>,
    city: Option<SecretText>,
    state: Option<SecretText>,
    postal_code: Option<SecretText>,
    country: Option<SecretText>,
    company: Option<SecretText>,
    email: Option<SecretText>,
    phone: Option<SecretText>,
    ssn: Option<SecretText>,
    username: Option<SecretText>,
    passport_number: Option<SecretText>,
    license_number: Option<SecretText>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SshKey {
    private_key: Option<SecretText>,
    public_key: Option<SecretText>,
    key_fingerprint: Option<SecretText>,
}

#[derive(Deserialize)]
struct CustomField {
    name: Option<SecretText>,
    value: Option<SecretText>,
    /// 0 text, 1 hidden, 2 boolean, 3 linked to another field of the entry.
    #[serde(rename = "type", default)]
    kind: u64,
}

/// Counted, not read.
#[derive(Deserialize)]
struct Ignored {}

pub fn parse(text: &str) -> Result<Parsed, ImportError> {
    let export: Export = serde_json::from_str(text).map_err(without_content)?;
    if export.encrypted {
        return Err(ImportError::Encrypted);
    }
    let entries = export.items.ok_or(ImportError::NotBitwarden { line: 1, column: 1 })?;
    let labels: HashMap<String, SecretText> =
        export.folders.into_iter().chain(export.collections).map(|folder| (folder.id, folder.name)).collect();
    let mut parsed = Parsed::default();
    for (entry, number) in entries.into_iter().zip(1..) {
        let place = Place::Entry(number);
        let left_out = parts_left_out(&entry, place);
        match draft(entry, &labels) {
            Ok(item) => {
                parsed.drafts.push(ImportDraft { place, item });
                parsed.left_out.extend(left_out);
            }
            Err(reason) => parsed.refused.push(Refused { place, reason }),
        }
    }
    Ok(parsed)
}

/// Serde's own messages repeat values; place and category are enough to find the fault.
pub(super) fn without_content(error: serde_json::Error) -> ImportError {
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        Category::Data => ImportError::NotBitwarden { line, column },
        Category::Io | Category::Syntax | Category::Eof => ImportError::NotJson { line, column },
    }
}

fn parts_left_out(entry: &Entry, place: Place) -> Vec<LeftOut> {
    let count = |list: Option<&Vec<Ignored>>| list.map_or(0, Vec::len);
    let passkeys = count(entry.login.as_ref().and_then(|login| login.passkeys.as_ref()));
    let history = count(entry.password_history.as_ref());
    [(Part::Passkeys, passkeys), (Part::PasswordHistory, history)]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(part, count)| LeftOut { place, part, count })
        .collect()
}

fn draft(entry: Entry, labels: &HashMap<String, SecretText>) -> Result<CreateItem, Reason> {
    let kind = entry.kind;
    let title = SecretText::from(entry.name.as_ref().map_or("", |name| name.expose().trim()));
    let mut item = CreateItem::new(ItemType::Secret, title);
    match kind {
        1 => login(entry.login.ok_or(Reason::MissingPart(kind))?, entry.strongroom.is_some(), &mut item),
        2 => item.kind = Some(SecretKind::Text),
        3 => card(entry.card.ok_or(Reason::MissingPart(kind))?, &mut item),
        4 => identity(entry.identity.ok_or(Reason::MissingPart(kind))?, &mut item),
        5 => ssh_key(entry.ssh_key.ok_or(Reason::MissingPart(kind))?, &mut item),
        other => return Err(Reason::UnknownType(other)),
    }
    add(&mut item, "Notes", FieldKind::Notes, entry.notes);
    let mut custom = entry.fields.unwrap_or_default();
    let shown = entry.strongroom.as_ref().map_or(0, |layout| layout.shown);
    custom.truncate(custom.len().saturating_sub(shown));
    for field in custom {
        custom_field(field, &mut item);
    }
    let folders = entry.folder_id.into_iter().chain(entry.collection_ids.unwrap_or_default());
    item.labels = folders.filter_map(|id| labels.get(&id)).map(|name| SecretText::from(name.expose())).collect();
    if item.title.is_empty() {
        item.title = SecretText::from("Untitled");
    } else if let (Some(layout), Some(title)) = (entry.strongroom, entry.name) {
        item.title = title;
        arrange(layout, &mut item);
    }
    if size(&item) > MAX_ITEM {
        return Err(Reason::EntryTooLong);
    }
    Ok(item)
}

fn login(login: Login, ours: bool, item: &mut CreateItem) {
    item.item_type = ItemType::Account;
    item.urls = login.uris.unwrap_or_default().into_iter().filter_map(|uri| uri.uri).collect();
    item.urls.retain(|url| !url.is_empty());
    item.usernames = login.username.into_iter().filter(|name| !name.is_empty()).collect();
    // An account keeps its password even when it is empty: that is what the export says. Only ours tells of none.
    let password = login.password.or_else(|| (!ours).then(|| SecretText::from("")));
    item.fields.extend(password.map(|password| Field::new("Password", FieldKind::Password, password)));
    add(item, "One-time password", FieldKind::Totp, login.totp);
}

fn card(card: Card, item: &mut CreateItem) {
    item.kind = Some(SecretKind::Card);
    add(item, "Cardholder", FieldKind::Text, card.cardholder_name);
    add(item, "Brand", FieldKind::Text, card.brand);
    add(item, "Number", FieldKind::Hidden, card.number);
    add(item, "Expiry month", FieldKind::Text, card.exp_month);
    add(item, "Expiry year", FieldKind::Text, card.exp_year);
    add(item, "Security code", FieldKind::Hidden, card.code);
}

fn identity(identity: Identity, item: &mut CreateItem) {
    item.kind = Some(SecretKind::Identity);
    item.usernames = identity.username.into_iter().filter(|name| !name.is_empty()).collect();
    for (name, value) in [
        ("Form of address", identity.title),
        ("First name", identity.first_name),
        ("Middle name", identity.middle_name),
        ("Last name", identity.last_name),
        ("Company", identity.company),
        ("E-mail", identity.email),
        ("Phone", identity.phone),
        ("Address 1", identity.address1),
        ("Address 2", identity.address2),
        ("Address 3", identity.address3),
        ("City", identity.city),
        ("State", identity.state),
        ("Postal code", identity.postal_code),
        ("Country", identity.country),
    ] {
        add(item, name, FieldKind::Text, value);
    }
    add(item, "Social security number", FieldKind::Hidden, identity.ssn);
    add(item, "Passport number", FieldKind::Hidden, identity.passport_number);
    add(item, "Licence number", FieldKind::Hidden, identity.license_number);
}

fn ssh_key(key: SshKey, item: &mut CreateItem) {
    item.kind = Some(SecretKind::SshKey);
    add(item, "Private key", FieldKind::PrivateKey, key.private_key);
    add(item, "Public key", FieldKind::Text, key.public_key);
    add(item, "Fingerprint", FieldKind::Text, key.key_fingerprint);
}

fn custom_field(field: CustomField, item: &mut CreateItem) {
    let kind = match field.kind {
        0 | 2 => FieldKind::Text,
        // It points at another field and holds nothing of its own.
        3 => return,
        // Types that are not known yet are hidden, to be on the safe side.
        _ => FieldKind::Hidden,
    };
    item.fields.push(Field {
        name: field.name.filter(|name| !name.is_empty()).unwrap_or_else(|| SecretText::from(NAMELESS)),
        kind,
        value: field.value.unwrap_or_else(|| SecretText::from("")),
    });
}

/// Makes the item what it was when we exported it: fields in their order and of their kinds, and the lists that
/// Bitwarden has no place for. What was added in the file since stays, at the end; what was taken out of it is gone.
fn arrange(layout: Layout, item: &mut CreateItem) {
    item.kind = layout.kind;
    let mut found = std::mem::take(&mut item.fields);
    for Slot { name, kind } in layout.fields {
        let known = if name.is_empty() { NAMELESS } else { name.expose() };
        if let Some(at) = found.iter().position(|field| field.name.expose() == known) {
            let value = found.remove(at).value;
            item.fields.push(Field { name, kind, value });
        }
    }
    item.fields.extend(found);
    for (list, told) in
        [(&mut item.urls, layout.urls), (&mut item.usernames, layout.usernames), (&mut item.labels, layout.labels)]
    {
        *list = told.unwrap_or_else(|| std::mem::take(list));
    }
}

/// The name of a custom field that has none.
const NAMELESS: &str = "Field";

/// Adds a field that has a value.
fn add(item: &mut CreateItem, name: &str, kind: FieldKind, value: Option<SecretText>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        item.fields.push(Field::new(name, kind, value));
    }
}

/// All text of an item, in bytes.
fn size(item: &CreateItem) -> usize {
    let texts = item.urls.iter().chain(&item.usernames).chain(&item.labels).chain([&item.title]);
    let fields = item.fields.iter().flat_map(|field| [&field.name, &field.value]);
    texts.chain(fields).map(|text| text.expose().len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(items: &str) -> Parsed {
        let text = format!(r#"{{"encrypted":false,"folders":[{{"id":"f1","name":"Work \u2615"}}],"items":[{items}]}}"#);
        parse(&text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn fields(item: &CreateItem) -> Vec<(&str, FieldKind, &str)> {
        item.fields.iter().map(|field| (field.name.expose(), field.kind, field.value.expose())).collect()
    }

    #[test]
    fn a_login_becomes_an_account_with_all_its_parts() {
        let parsed = parsed(
            r#"{"id":"x","type":1,"name":"Mail","notes":"n","favorite":true,"folderId":"f1","reprompt":0,
            "fields":[{"name":"PIN","value":"1","type":1},{"name":"on","value":"true","type":2},
                      {"name":"link","value":null,"type":3,"linkedId":100},{"name":null,"value":null,"type":0}],
            "login":{"uris":[{"match":null,"uri":"https://a.example"},{"uri":null}],"username":"ada",
                     "password":"p","totp":"JBSWY3DPEHPK3PXP","fido2Credentials":[{"credentialId":"c"}]},
            "passwordHistory":[{"lastUsedDate":"2026-01-01T00:00:00Z","password":"old"}]}"#,
        );
        let item = &parsed.drafts[0].item;
        assert_eq!(item.item_type, ItemType::Account);
        assert_eq!((item.urls.len(), item.urls[0].expose()), (1, "https://a.example"));
        assert_eq!(item.usernames[0].expose(), "ada");
        assert_eq!(item.labels[0].expose(), "Work \u{2615}");
        assert_eq!(
            fields(item),
            [
                ("Password", FieldKind::Password, "p"),
                ("One-time password", FieldKind::Totp, "JBSWY3DPEHPK3PXP"),
                ("Notes", FieldKind::Notes, "n"),
                ("PIN", FieldKind::Hidden, "1"),
                ("on", FieldKind::Text, "true"),
                ("Field", FieldKind::Text, ""),
            ]
        );
        let left_out: Vec<String> = parsed.left_out.iter().map(ToString::to_string).collect();
        assert_eq!(left_out, ["entry 1: passkeys (1)", "entry 1: earlier passwords (1)"]);
    }

    #[test]
    fn the_other_types_become_secrets_of_their_kind() {
        let parsed = parsed(
            r#"{"type":2,"name":"Note","notes":"text","secureNote":{"type":0}},
            {"type":3,"name":"Card","card":{"cardholderName":"A","number":"4111","code":"123","expMonth":"1"}},
            {"type":4,"name":"Me","identity":{"firstName":"Ada","ssn":"078","username":"ada"}},
            {"type":5,"name":"Key","sshKey":{"privateKey":"-----","publicKey":"ssh-ed25519","keyFingerprint":"S"}}"#,
        );
        let kinds: Vec<Option<SecretKind>> = parsed.drafts.iter().map(|draft| draft.item.kind).collect();
        assert_eq!(
            kinds,
            [Some(SecretKind::Text), Some(SecretKind::Card), Some(SecretKind::Identity), Some(SecretKind::SshKey)]
        );
        assert!(parsed.drafts.iter().all(|draft| draft.item.item_type == ItemType::Secret));
        assert_eq!(fields(&parsed.drafts[3].item)[0], ("Private key", FieldKind::PrivateKey, "-----"));
        assert_eq!(fields(&parsed.drafts[2].item)[1], ("Social security number", FieldKind::Hidden, "078"));
    }

    #[test]
    fn entries_that_cannot_be_taken_are_refused_one_by_one() {
        let long = "x".repeat(MAX_ITEM + 1);
        let parsed = parsed(&format!(
            r#"{{"type":9,"name":"a"}},{{"type":1,"name":"b"}},{{"type":2,"name":"c","notes":"{long}"}},
            {{"type":2,"name":null}}"#
        ));
        let refused: Vec<String> =
            parsed.refused.iter().map(|refused| format!("{}: {}", refused.place, refused.reason)).collect();
        assert_eq!(
            refused,
            [
                "entry 1: of type 9, which is not known",
                "entry 2: of type 1, but the part that belongs to it is missing",
                "entry 3: larger than 1024 kB",
            ]
        );
        assert_eq!(parsed.drafts[0].item.title.expose(), "Untitled");
    }

    #[test]
    fn an_encrypted_export_is_refused_with_what_to_do() {
        for text in [
            r#"{"encrypted":true,"passwordProtected":true,"salt":"s","kdfType":0,"data":"2.x"}"#,
            r#"{"encrypted":true,"encKeyValidation_DO_NOT_EDIT":"2.x","folders":[],"items":[]}"#,
        ] {
            assert_eq!(parse(text).err(), Some(ImportError::Encrypted));
        }
    }

    #[test]
    fn broken_and_foreign_json_is_named_by_place_and_not_repeated() {
        assert_eq!(parse("{\"items\":[\n}").err(), Some(ImportError::NotJson { line: 2, column: 1 }));
        let foreign = parse(r#"{"items":[{"type":"hunter2"}]}"#).err().expect("refused").to_string();
        assert!(foreign.contains("line 1") && !foreign.contains("hunter2"), "{foreign}");
        assert!(matches!(parse(r#"{"accounts":[]}"#).err(), Some(ImportError::NotBitwarden { .. })));
    }
}

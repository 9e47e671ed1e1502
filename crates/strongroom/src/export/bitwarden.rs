//! Bitwarden's unencrypted JSON export of a person. Names and types of properties: bitwarden/clients,
//! `libs/common/src/models/export`, and bitwarden/sdk-internal, `crates/bitwarden-exporters/src/json.rs`.
//!
//! Fields go where Bitwarden has a place of the same name and kind, all others become custom fields. A property
//! `strongroom` beside them holds what gets lost by that, as names and kinds in order, and no value twice except those
//! that Bitwarden has no place for.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Exported, Tally, room};
use crate::{
    item::{Field, FieldKind, ItemType, SecretKind},
    secret_text::SecretText,
};

/// What makes an item whole again that was read from a Bitwarden file of ours.
#[derive(Default, Serialize, Deserialize)]
pub struct Layout {
    pub kind: Option<SecretKind>,
    /// The item's fields in order; their values stand in the places that Bitwarden gives them.
    pub fields: Vec<Slot>,
    /// How many custom fields at the end only show what stands below.
    #[serde(default)]
    pub shown: usize,
    /// Where Bitwarden's own places do not hold all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<SecretText>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usernames: Option<Vec<SecretText>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<SecretText>>,
}

/// A field's place in the order.
#[derive(Serialize, Deserialize)]
pub struct Slot {
    pub name: SecretText,
    pub kind: FieldKind,
}

/// A place that Bitwarden has for a field: its property, our name and kind.
type Place = (&'static str, &'static str, FieldKind);

/// In the order in which `import` reads them.
const LOGIN: &[Place] =
    &[("password", "Password", FieldKind::Password), ("totp", "One-time password", FieldKind::Totp)];
const CARD: &[Place] = &[
    ("cardholderName", "Cardholder", FieldKind::Text),
    ("brand", "Brand", FieldKind::Text),
    ("number", "Number", FieldKind::Hidden),
    ("expMonth", "Expiry month", FieldKind::Text),
    ("expYear", "Expiry year", FieldKind::Text),
    ("code", "Security code", FieldKind::Hidden),
];
const IDENTITY: &[Place] = &[
    ("title", "Form of address", FieldKind::Text),
    ("firstName", "First name", FieldKind::Text),
    ("middleName", "Middle name", FieldKind::Text),
    ("lastName", "Last name", FieldKind::Text),
    ("company", "Company", FieldKind::Text),
    ("email", "E-mail", FieldKind::Text),
    ("phone", "Phone", FieldKind::Text),
    ("address1", "Address 1", FieldKind::Text),
    ("address2", "Address 2", FieldKind::Text),
    ("address3", "Address 3", FieldKind::Text),
    ("city", "City", FieldKind::Text),
    ("state", "State", FieldKind::Text),
    ("postalCode", "Postal code", FieldKind::Text),
    ("country", "Country", FieldKind::Text),
    ("ssn", "Social security number", FieldKind::Hidden),
    ("passportNumber", "Passport number", FieldKind::Hidden),
    ("licenseNumber", "Licence number", FieldKind::Hidden),
];
const SSH_KEY: &[Place] = &[
    ("privateKey", "Private key", FieldKind::PrivateKey),
    ("publicKey", "Public key", FieldKind::Text),
    ("keyFingerprint", "Fingerprint", FieldKind::Text),
];
const NOTES: Place = ("notes", "Notes", FieldKind::Notes);

/// The document, but for its items: the folders come last, when all are known.
#[derive(Default)]
pub struct Document {
    folders: HashMap<SecretText, Uuid>,
    begun: bool,
}

impl Document {
    pub fn begin() -> Vec<u8> {
        b"{\n  \"encrypted\": false,\n  \"items\": [".to_vec()
    }

    pub fn item(&mut self, item: &Exported<'_>) -> Zeroizing<Vec<u8>> {
        let folder = item.overview.labels.first().filter(|label| !label.is_empty());
        let folder = folder.map(|label| self.folder(label, item.id));
        let mut out = room(item);
        out.extend_from_slice(if self.begun { b",\n    " } else { b"\n    " });
        self.begun = true;
        serde_json::to_writer(&mut *out, &entry(item, folder)).expect("an entry has string keys and goes to memory");
        out
    }

    pub fn end(&self, tally: &Tally) -> Zeroizing<Vec<u8>> {
        #[derive(Serialize)]
        struct Folder<'a> {
            id: Uuid,
            name: &'a SecretText,
        }
        let mut folders: Vec<_> = self.folders.iter().map(|(name, id)| Folder { id: *id, name }).collect();
        folders.sort_by_key(|folder| folder.id);
        let bytes: usize = self.folders.keys().map(|name| 6 * name.expose().len() + 80).sum();
        let mut out = Zeroizing::new(Vec::with_capacity(bytes + 256));
        out.extend_from_slice(b"\n  ],\n  \"folders\": ");
        serde_json::to_writer(&mut *out, &folders).expect("folders have string keys and go to memory");
        out.extend_from_slice(b",\n  \"strongroom\": ");
        serde_json::to_writer(&mut *out, tally).expect("a tally goes to memory");
        out.extend_from_slice(b"\n}\n");
        out
    }

    /// The id of a label's folder. It takes that of the first item that has it: ids need only differ among folders.
    fn folder(&mut self, label: &SecretText, item: Uuid) -> Uuid {
        *self.folders.entry(SecretText::from(label.expose())).or_insert(item)
    }
}

/// A login as a table has it: what of an account stands in columns of its own, and the rest as fields.
pub struct Flat<'a> {
    pub password: Option<&'a SecretText>,
    pub totp: Option<&'a SecretText>,
    pub notes: Option<&'a SecretText>,
    pub fields: Vec<Custom<'a>>,
}

/// The item's fields for a table, which knows logins and notes only.
pub fn flat<'a>(item: &Exported<'a>) -> Flat<'a> {
    let is_login = item.overview.item_type == ItemType::Account;
    let (mut placed, mut fields) = place(item.fields, if is_login { LOGIN } else { &[] });
    fields.extend(shown(item, is_login, is_login).0);
    Flat { password: placed.remove("password"), totp: placed.remove("totp"), notes: placed.remove("notes"), fields }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    id: Uuid,
    folder_id: Option<Uuid>,
    organization_id: Option<Uuid>,
    collection_ids: Option<Vec<Uuid>>,
    name: &'a SecretText,
    notes: Option<&'a SecretText>,
    #[serde(rename = "type")]
    kind: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    login: Option<Login<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secure_note: Option<SecureNote>,
    #[serde(skip_serializing_if = "Option::is_none")]
    card: Option<Object<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Object<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssh_key: Option<Object<'a>>,
    favorite: bool,
    reprompt: u8,
    fields: Vec<Custom<'a>>,
    password_history: Option<Vec<()>>,
    revision_date: Timestamp,
    creation_date: Timestamp,
    deleted_date: Option<Timestamp>,
    strongroom: Layout,
}

#[derive(Serialize)]
struct Login<'a> {
    uris: Vec<Uri<'a>>,
    username: Option<&'a SecretText>,
    password: Option<&'a SecretText>,
    totp: Option<&'a SecretText>,
    #[serde(rename = "fido2Credentials")]
    passkeys: [(); 0],
}

#[derive(Serialize)]
struct Uri<'a> {
    #[serde(rename = "match")]
    matching: Option<u8>,
    uri: &'a SecretText,
}

#[derive(Serialize)]
struct SecureNote {
    #[serde(rename = "type")]
    kind: u8,
}

/// A custom field: 0 text, 1 hidden.
#[derive(Serialize)]
pub struct Custom<'a> {
    pub name: &'a str,
    pub value: &'a SecretText,
    #[serde(rename = "type")]
    kind: u8,
    #[serde(rename = "linkedId")]
    linked: Option<u8>,
}

/// All properties of one part of an entry, with null where there is no value.
struct Object<'a> {
    places: &'static [Place],
    placed: Placed<'a>,
    username: Option<Option<&'a SecretText>>,
}

type Placed<'a> = BTreeMap<&'static str, &'a SecretText>;

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (property, ..) in self.places {
            map.serialize_entry(property, &self.placed.get(property))?;
        }
        if let Some(username) = &self.username {
            map.serialize_entry("username", username)?;
        }
        map.end()
    }
}

fn entry<'a>(item: &Exported<'a>, folder: Option<Uuid>) -> Entry<'a> {
    let overview = item.overview;
    let (kind, places) = bitwarden_kind(item);
    let (mut placed, mut fields) = place(item.fields, places);
    let notes = placed.remove("notes");
    let username = overview.usernames.first().filter(|_| has_username(kind));
    let (more, layout) = shown(item, kind == 1, has_username(kind));
    fields.extend(more);
    let mut entry = Entry {
        id: item.id,
        folder_id: folder,
        organization_id: None,
        collection_ids: None,
        name: &overview.title,
        notes,
        kind,
        login: None,
        secure_note: None,
        card: None,
        identity: None,
        ssh_key: None,
        favorite: false,
        reprompt: 0,
        fields,
        password_history: None,
        revision_date: item.updated_at,
        creation_date: item.created_at,
        deleted_date: None,
        strongroom: layout,
    };
    let object = |username| Some(Object { places, placed: placed.clone(), username });
    match kind {
        1 => {
            entry.login = Some(Login {
                uris: overview.urls.iter().map(|uri| Uri { matching: None, uri }).collect(),
                username,
                password: placed.get("password").copied(),
                totp: placed.get("totp").copied(),
                passkeys: [],
            });
        }
        3 => entry.card = object(None),
        4 => entry.identity = object(Some(username)),
        5 => entry.ssh_key = object(None),
        _ => entry.secure_note = Some(SecureNote { kind: 0 }),
    }
    entry
}

/// Bitwarden's type of an item, and its places.
fn bitwarden_kind(item: &Exported<'_>) -> (u8, &'static [Place]) {
    match (item.overview.item_type, item.overview.kind) {
        (ItemType::Account, _) => (1, LOGIN),
        (ItemType::Secret, Some(SecretKind::Card)) => (3, CARD),
        (ItemType::Secret, Some(SecretKind::Identity)) => (4, IDENTITY),
        // Bitwarden takes an SSH key with all three parts only.
        (ItemType::Secret, Some(SecretKind::SshKey)) => {
            let placed = place(item.fields, SSH_KEY).0;
            if SSH_KEY.iter().all(|(property, ..)| placed.contains_key(property)) { (5, SSH_KEY) } else { (2, &[]) }
        }
        (ItemType::Secret, _) => (2, &[]),
    }
}

fn has_username(kind: u8) -> bool {
    matches!(kind, 1 | 4)
}

/// The fields that have a place, by its property, and the others in order. A name that came before keeps its field out of
/// a place, so that a reader who takes places first and then custom fields finds equal names in the item's order.
fn place<'a>(fields: &'a [Field], places: &'static [Place]) -> (Placed<'a>, Vec<Custom<'a>>) {
    let mut placed = Placed::new();
    let mut others = Vec::new();
    for (at, field) in fields.iter().enumerate() {
        let name = field.name.expose();
        let mut all = places.iter().chain([&NOTES]);
        let found = all.find(|(_, ours, kind)| *ours == name && *kind == field.kind);
        let came = fields[..at].iter().any(|other| other.name.expose() == name);
        match found {
            // Of empty values the reader keeps that of a password only.
            Some((property, ..)) if !came && (*property == "password" || !field.value.is_empty()) => {
                placed.insert(property, &field.value);
            }
            _ => others.push(Custom { name, value: &field.value, kind: hidden(field.kind), linked: None }),
        }
    }
    (placed, others)
}

fn hidden(kind: FieldKind) -> u8 {
    match kind {
        FieldKind::Text | FieldKind::Username | FieldKind::Url | FieldKind::Notes => 0,
        FieldKind::Hidden | FieldKind::Password | FieldKind::Totp | FieldKind::PrivateKey => 1,
    }
}

/// URLs, usernames and labels that Bitwarden has no place for, as fields to be seen there, and the layout to be read here.
fn shown<'a>(item: &Exported<'a>, has_urls: bool, has_name: bool) -> (Vec<Custom<'a>>, Layout) {
    let overview = item.overview;
    let mut fields = Vec::new();
    let mut rest = |name, list: &'a [SecretText], held: usize| {
        let over = list.iter().skip(held);
        fields.extend(over.map(|value| Custom { name, value, kind: 0, linked: None }));
        let told = list.len() > held || list.iter().any(SecretText::is_empty);
        told.then(|| list.iter().map(|text| SecretText::from(text.expose())).collect())
    };
    let urls = rest("URL", &overview.urls, if has_urls { overview.urls.len() } else { 0 });
    let usernames = rest("Username", &overview.usernames, usize::from(has_name));
    let labels = rest("Label", &overview.labels, 1);
    let shown = fields.len();
    let slots = item.fields.iter().map(|field| Slot { name: SecretText::from(field.name.expose()), kind: field.kind });
    (fields, Layout { kind: overview.kind, fields: slots.collect(), shown, urls, usernames, labels })
}

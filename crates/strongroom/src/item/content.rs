//! What an item holds, how it is checked, and its canonical bytes: an overview (what lists and search need) and
//! details (the rest). docs/format.md describes both payloads.

use minicbor::{Decoder, Encoder};
use serde::{Deserialize, Serialize};
use strongroom_envelope::{Commitment, Plaintext, check_padding, pad_256};
use utoipa::ToSchema;

use crate::{
    error::{Error, FieldError, Result},
    secret_text::SecretText,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ItemType {
    /// A login: where, who, password.
    Account,
    /// Anything else worth keeping.
    Secret,
}

/// What a secret is; decides its icon and the fields that a form offers. Accounts have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretKind {
    Text,
    ApiKey,
    SshKey,
    Database,
    Card,
    Identity,
    /// Free fields.
    Custom,
}

/// What a field holds. The server treats all values alike; a client masks `hidden`, `password`, `totp` and
/// `private_key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FieldKind {
    Text,
    /// Text that is masked until asked for: an API key, a PIN.
    Hidden,
    Username,
    Password,
    Url,
    /// An `otpauth://` URI or a Base32 secret.
    Totp,
    /// Text of several lines.
    Notes,
    /// A masked text of several lines.
    PrivateKey,
}

/// One field, with its value: in a create, an edit and the answer of a reveal.
#[derive(PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Field {
    pub name: SecretText,
    pub kind: FieldKind,
    pub value: SecretText,
}

impl Field {
    pub fn new(name: &str, kind: FieldKind, value: SecretText) -> Self {
        let name = SecretText::from(name);
        Self { name, kind, value }
    }
}

/// Everything of one revision, in plaintext, on its way in.
#[derive(PartialEq, Eq)]
pub struct Content {
    pub item_type: ItemType,
    pub kind: Option<SecretKind>,
    pub title: SecretText,
    pub urls: Vec<SecretText>,
    pub usernames: Vec<SecretText>,
    pub labels: Vec<SecretText>,
    pub fields: Vec<Field>,
}

/// An opened overview.
pub struct Overview {
    pub item_type: ItemType,
    pub kind: Option<SecretKind>,
    pub title: SecretText,
    pub urls: Vec<SecretText>,
    pub usernames: Vec<SecretText>,
    pub labels: Vec<SecretText>,
    /// Which details belong to this overview.
    pub details: Commitment,
}

/// What is absent stays.
#[derive(Default)]
pub struct Patch {
    pub kind: Option<SecretKind>,
    pub title: Option<SecretText>,
    pub urls: Option<Vec<SecretText>>,
    pub usernames: Option<Vec<SecretText>>,
    pub labels: Option<Vec<SecretText>>,
    pub fields: Option<Vec<Field>>,
}

/// Characters of a title, of a field's name, of a label.
pub const MAX_NAME: usize = 255;
/// Bytes of a URL or username.
pub const MAX_LINE: usize = 2_048;
/// Bytes of a field's value.
pub const MAX_VALUE: usize = 100 * 1024;
/// Fields of an item, and of URLs, usernames and labels each.
pub const MAX_FIELDS: usize = 140;
const MAX_LIST: usize = 20;
/// Bytes of an item in all.
pub const MAX_ITEM: usize = 1024 * 1024;

impl Content {
    /// Every rule that the content breaks, each by the path of its field.
    pub fn check(&self) -> Result<()> {
        let mut errors = Vec::new();
        let mut refuse = |field: String, message: String| {
            errors.push(FieldError { field: field.into(), message: message.into() });
        };
        if self.title.expose().trim().is_empty() {
            refuse("title".into(), "Give it a title.".into());
        } else if self.title.expose().chars().count() > MAX_NAME {
            refuse("title".into(), format!("A title has at most {MAX_NAME} characters."));
        }
        for (name, list) in [("urls", &self.urls), ("usernames", &self.usernames), ("labels", &self.labels)] {
            if list.len() > MAX_LIST {
                refuse(name.into(), format!("At most {MAX_LIST} of these."));
            }
            for (index, line) in list.iter().enumerate().filter(|(_, line)| line.expose().len() > MAX_LINE) {
                let _ = line;
                refuse(format!("{name}.{index}"), format!("At most {MAX_LINE} bytes."));
            }
        }
        if self.fields.len() > MAX_FIELDS {
            refuse("fields".into(), format!("An item has at most {MAX_FIELDS} fields."));
        }
        for (index, field) in self.fields.iter().enumerate() {
            if field.name.expose().chars().count() > MAX_NAME {
                refuse(format!("fields.{index}.name"), format!("A field's name has at most {MAX_NAME} characters."));
            }
            if field.value.expose().len() > MAX_VALUE {
                refuse(format!("fields.{index}.value"), format!("A field holds at most {} KiB.", MAX_VALUE / 1024));
            }
        }
        if self.size() > MAX_ITEM {
            refuse("fields".into(), format!("An item holds at most {} KiB in all.", MAX_ITEM / 1024));
        }
        if errors.is_empty() { Ok(()) } else { Err(Error::Invalid(errors)) }
    }

    /// The content after a patch, from what was there before.
    pub fn patched(overview: Overview, fields: Vec<Field>, patch: Patch) -> Self {
        Self {
            item_type: overview.item_type,
            kind: patch.kind.or(overview.kind),
            title: patch.title.unwrap_or(overview.title),
            urls: patch.urls.unwrap_or(overview.urls),
            usernames: patch.usernames.unwrap_or(overview.usernames),
            labels: patch.labels.unwrap_or(overview.labels),
            fields: patch.fields.unwrap_or(fields),
        }
    }

    /// The details' payload, padded.
    pub fn details(&self) -> Plaintext {
        details_payload(&self.fields)
    }

    /// The overview's payload, padded; it names the sealed details that belong to it.
    pub fn overview(&self, details: Commitment) -> Plaintext {
        let lists = [&self.urls, &self.usernames, &self.labels].map(Vec::as_slice);
        overview_payload((self.item_type, self.kind), &self.title, lists, &details)
    }

    fn size(&self) -> usize {
        let lists = [&self.urls, &self.usernames, &self.labels];
        let lines: usize = lists.iter().flat_map(|list| list.iter()).map(|text| text.expose().len() + 9).sum();
        let fields: usize =
            self.fields.iter().map(|field| field.name.expose().len() + field.value.expose().len() + 20).sum();
        self.title.expose().len() + lines + fields
    }
}

/// The one encoding of these fields.
fn details_payload(fields: &[Field]) -> Plaintext {
    let size = fields.iter().map(|field| field.name.expose().len() + field.value.expose().len() + 20).sum();
    let mut out = encoder(size);
    let mut write = || -> Written {
        out.array(1)?.array(fields.len() as u64)?;
        for field in fields {
            out.array(3)?.str(field.name.expose())?.u8(field.kind.number())?.str(field.value.expose())?;
        }
        Ok(())
    };
    write().expect("writing to memory does not fail");
    pad_256(out.into_writer())
}

/// The one encoding of an overview.
fn overview_payload(
    (item_type, kind): (ItemType, Option<SecretKind>),
    title: &SecretText,
    lists: [&[SecretText]; 3],
    details: &Commitment,
) -> Plaintext {
    let lines: usize = lists.into_iter().flatten().map(|text| text.expose().len() + 9).sum();
    let mut out = encoder(title.expose().len() + lines);
    let mut write = || -> Written {
        out.array(7)?.u8(item_type.number())?;
        match kind {
            Some(kind) => out.u8(kind.number())?,
            None => out.null()?,
        };
        out.str(title.expose())?;
        for list in lists {
            out.array(list.len() as u64)?;
            for text in list {
                out.str(text.expose())?;
            }
        }
        out.bytes(&details.0)?;
        Ok(())
    };
    write().expect("writing to memory does not fail");
    pad_256(out.into_writer())
}

/// Large enough, with padding and numbers, that the buffer never moves and leaves a copy behind.
fn encoder(size: usize) -> Encoder<Vec<u8>> {
    Encoder::new(Vec::with_capacity(size + 512))
}

type Written = std::result::Result<(), minicbor::encode::Error<std::convert::Infallible>>;

impl Overview {
    /// Reads an opened overview; anything but our own canonical form is refused.
    pub fn read(payload: &Plaintext) -> Result<Self> {
        let mut input = Decoder::new(payload);
        let overview = Self::read_from(&mut input).map_err(|_| unreadable())?;
        check_padding(&payload[input.position()..]).map_err(|_| unreadable())?;
        let lists = [&overview.urls, &overview.usernames, &overview.labels].map(Vec::as_slice);
        let kinds = (overview.item_type, overview.kind);
        let same = overview_payload(kinds, &overview.title, lists, &overview.details)[..] == payload[..];
        same.then_some(overview).ok_or_else(unreadable)
    }

    fn read_from(input: &mut Decoder<'_>) -> std::result::Result<Self, minicbor::decode::Error> {
        let wrong = minicbor::decode::Error::message;
        if input.array()? != Some(7) {
            return Err(wrong("not an overview"));
        }
        let item_type = ItemType::from_number(input.u8()?).ok_or_else(|| wrong("unknown type"))?;
        let kind = match input.datatype()? {
            minicbor::data::Type::Null => input.null().map(|()| None)?,
            _ => Some(SecretKind::from_number(input.u8()?).ok_or_else(|| wrong("unknown kind"))?),
        };
        let title = SecretText::from(input.str()?);
        let mut list = || -> std::result::Result<Vec<SecretText>, minicbor::decode::Error> {
            let count = input.array()?.ok_or_else(|| wrong("a list without a length"))?;
            (0..count).map(|_| input.str().map(SecretText::from)).collect()
        };
        let (urls, usernames, labels) = (list()?, list()?, list()?);
        let details = input.bytes()?.try_into().map(Commitment).map_err(|_| wrong("not a commitment"))?;
        Ok(Self { item_type, kind, title, urls, usernames, labels, details })
    }
}

/// Reads opened details; anything but our own canonical form is refused.
pub fn read_details(payload: &Plaintext) -> Result<Vec<Field>> {
    let mut input = Decoder::new(payload);
    let fields = read_fields(&mut input).map_err(|_| unreadable())?;
    check_padding(&payload[input.position()..]).map_err(|_| unreadable())?;
    let same = details_payload(&fields)[..] == payload[..];
    same.then_some(fields).ok_or_else(unreadable)
}

fn read_fields(input: &mut Decoder<'_>) -> std::result::Result<Vec<Field>, minicbor::decode::Error> {
    let wrong = minicbor::decode::Error::message;
    if input.array()? != Some(1) {
        return Err(wrong("not details"));
    }
    let count = input.array()?.ok_or_else(|| wrong("a list without a length"))?;
    (0..count)
        .map(|_| {
            if input.array()? != Some(3) {
                return Err(wrong("not a field"));
            }
            let name = SecretText::from(input.str()?);
            let kind = FieldKind::from_number(input.u8()?).ok_or_else(|| wrong("unknown field kind"))?;
            Ok(Field { name, kind, value: SecretText::from(input.str()?) })
        })
        .collect()
}

fn unreadable() -> Error {
    Error::integrity("item.unreadable", "an item opened, but what it holds cannot be read; a newer Strongroom wrote it")
}

macro_rules! numbered {
    ($name:ident { $($variant:ident = $number:literal),* $(,)? }) => {
        impl $name {
            /// The number in the payload. Never reused.
            fn number(self) -> u8 {
                match self { $(Self::$variant => $number),* }
            }

            fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

numbered!(ItemType { Account = 1, Secret = 2 });
numbered!(SecretKind { Text = 1, ApiKey = 2, SshKey = 3, Database = 4, Card = 5, Identity = 6, Custom = 7 });
numbered!(FieldKind {
    Text = 1,
    Hidden = 2,
    Username = 3,
    Password = 4,
    Url = 5,
    Totp = 6,
    Notes = 7,
    PrivateKey = 8,
});

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn content() -> Content {
        Content {
            item_type: ItemType::Account,
            kind: None,
            title: "Mail".into(),
            urls: vec!["https://mail.example.com".into()],
            usernames: vec!["ada@example.com".into()],
            labels: vec![],
            fields: vec![Field { name: "Password".into(), kind: FieldKind::Password, value: "p\u{1F511}".into() }],
        }
    }

    #[test]
    fn payloads_read_back_as_they_were_written() {
        let overview = Overview::read(&content().overview(Commitment([7; 32]))).expect("read");
        assert_eq!((overview.title.expose(), overview.details), ("Mail", Commitment([7; 32])));
        let fields = read_details(&content().details()).expect("read");
        assert_eq!(fields[0].value.expose(), "p\u{1F511}");
    }

    #[test]
    fn a_second_encoding_of_the_same_value_is_refused() {
        let (details, overview) = (content().details(), content().overview(Commitment([7; 32])));
        // 0x81 is a list of one; 0x98 0x01 is the same, in a longer form.
        for (payload, at) in [(&details, 0), (&details, 1), (&overview, 0)] {
            let length = payload[at] & 0x1f;
            let longer = [&payload[..at], &[0x98, length], &payload[at + 1..payload.len() - 1]].concat();
            let longer = Plaintext::new(longer);
            assert!(read_details(&longer).is_err() && Overview::read(&longer).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(bytes: Vec<u8>) {
            for payload in [Plaintext::new(bytes.clone()), pad_256(bytes)] {
                let _ = (read_details(&payload), Overview::read(&payload));
            }
        }

        #[test]
        fn any_texts_read_back(title in ".{0,40}", url in ".{0,40}", name in ".{0,40}", value in "(?s).{0,400}") {
            let mut written = content();
            (written.title, written.urls) = (title.as_str().into(), vec![url.as_str().into()]);
            written.fields[0] = Field::new(&name, FieldKind::Notes, value.as_str().into());
            let fields = read_details(&written.details()).expect("our own form");
            prop_assert!(fields[0].name.expose() == name && fields[0].value.expose() == value);
            let overview = Overview::read(&written.overview(Commitment([7; 32]))).expect("our own form");
            prop_assert!(overview.title.expose() == title && overview.urls[0].expose() == url);
        }
    }

    #[test]
    fn a_password_s_length_does_not_show() {
        let mut long = content();
        long.fields[0].value = "x".repeat(100).as_str().into();
        assert_eq!(content().details().len(), long.details().len());
    }

    #[test]
    fn each_broken_rule_is_named_by_its_field() {
        let mut bad = content();
        bad.title = " ".into();
        bad.fields[0].value = "x".repeat(1024 * 1024).as_str().into();
        let Err(Error::Invalid(errors)) = bad.check() else { panic!("taken") };
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_ref()).collect();
        assert_eq!(fields, ["title", "fields.0.value", "fields"]);
    }
}

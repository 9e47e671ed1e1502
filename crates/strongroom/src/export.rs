//! Items as files for other password managers: Bitwarden's JSON, encrypted to a passphrase or not, and its CSV. Written
//! piece by piece, so that an export of any size takes the memory of one item. No I/O.
//!
//! `import` reads all of the JSON back: what Bitwarden has no place for stands in properties of ours that it ignores.

mod bitwarden;
mod csv;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::ValueEnum;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strongroom_envelope::{PassphraseKdf, PassphraseKeys, PassphraseStream, Random, RandomFailed};
use utoipa::ToSchema;
use uuid::Uuid;
use zeroize::Zeroizing;

pub use self::bitwarden::{Layout, Slot};
use crate::item::{Field, Overview};

/// What is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum ExportFormat {
    /// Bitwarden's JSON, encrypted to a passphrase.
    #[default]
    EncryptedJson,
    /// Bitwarden's JSON, readable by whoever gets the file.
    Json,
    /// Bitwarden's CSV, readable by whoever gets the file.
    Csv,
}

impl ExportFormat {
    pub fn is_encrypted(self) -> bool {
        self == Self::EncryptedJson
    }

    /// As events, forms and the API write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::EncryptedJson => "encrypted_json",
            Self::Json => "json",
            Self::Csv => "csv",
        }
    }

    pub fn media_type(self) -> &'static str {
        match self {
            Self::EncryptedJson | Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }

    /// What no file of this format holds, in words, for people who are about to make one or have made one.
    pub fn leaves_out(self) -> Vec<&'static str> {
        let always = [
            "earlier revisions of items; only the current one is written",
            "items in the trash",
            "who an item is shared with, and who owns it",
            "which vault an item was in",
        ];
        let csv: &[&str] = match self {
            Self::EncryptedJson | Self::Json => &[],
            Self::Csv => &[
                "kinds: cards, identities, SSH keys and all other secrets become notes with lines of fields",
                "which fields are hidden, and where a value of several lines ends",
                "the way back: Strongroom imports its JSON, not its CSV",
            ],
        };
        always.iter().chain(csv).copied().collect()
    }
}

impl std::str::FromStr for ExportFormat {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::EncryptedJson, Self::Json, Self::Csv].into_iter().find(|format| format.word() == text).ok_or(())
    }
}

/// One item as it is written.
pub struct Exported<'a> {
    pub id: Uuid,
    pub overview: &'a Overview,
    pub fields: &'a [Field],
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// How an export ended; in JSON it stands at the end of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub items: u64,
    /// Items whose stored bytes did not open.
    pub damaged: u64,
    /// Items that were taken away while the export ran: trashed, moved to another vault, not shared any more.
    pub gone: u64,
}

/// The text under the passphrase: a salt for the derivation, as it stands in the file.
pub struct Salt(String);

impl Salt {
    pub fn generate(random: &dyn Random) -> Result<Self, RandomFailed> {
        let mut salt = [0; 16];
        random.fill(&mut salt)?;
        Ok(Self(STANDARD.encode(salt)))
    }

    pub fn text(&self) -> &str {
        &self.0
    }
}

/// A file on its way out.
pub struct Writer {
    body: Body,
    envelope: Option<Envelope>,
}

enum Body {
    Json(bitwarden::Document),
    Csv(csv::Table),
}

/// The ciphertext of a body, as base64 text.
struct Envelope {
    stream: PassphraseStream,
    /// Ciphertext that is not yet a group of three bytes.
    rest: Vec<u8>,
}

impl Writer {
    /// A readable file.
    pub fn plain(format: ExportFormat) -> Self {
        let body = match format {
            ExportFormat::EncryptedJson | ExportFormat::Json => Body::Json(bitwarden::Document::default()),
            ExportFormat::Csv => Body::Csv(csv::Table),
        };
        Self { body, envelope: None }
    }

    /// A file under the keys that a passphrase gave with `salt` and [`PassphraseKdf::DEFAULT`]; and how it begins.
    pub fn encrypted(salt: &Salt, keys: &PassphraseKeys, random: &dyn Random) -> Result<(Self, Vec<u8>), RandomFailed> {
        let PassphraseKdf::Pbkdf2 { iterations } = PassphraseKdf::DEFAULT else {
            unreachable!("the default is PBKDF2")
        };
        let mut proof = [0; 16];
        random.fill(&mut proof)?;
        let proof = keys.encrypt(uuid::Builder::from_random_bytes(proof).into_uuid().to_string().as_bytes(), random)?;
        let stream = keys.stream(random)?;
        let head = format!(
            "{{\n  \"encrypted\": true,\n  \"passwordProtected\": true,\n  \"salt\": \"{}\",\n  \"kdfType\": 0,\n  \
             \"kdfIterations\": {iterations},\n  \"encKeyValidation_DO_NOT_EDIT\": \"2.{}|{}|{}\",\n  \"data\": \"2.{}|",
            salt.0,
            STANDARD.encode(proof.iv),
            STANDARD.encode(&proof.body),
            STANDARD.encode(proof.mac),
            STANDARD.encode(stream.iv),
        );
        let envelope = Some(Envelope { stream, rest: Vec::new() });
        Ok((Self { body: Body::Json(bitwarden::Document::default()), envelope }, head.into_bytes()))
    }

    /// What goes before the first item.
    pub fn begin(&mut self) -> Zeroizing<Vec<u8>> {
        let text = match &self.body {
            Body::Json(_) => bitwarden::Document::begin(),
            Body::Csv(_) => csv::Table::begin(),
        };
        self.out(Zeroizing::new(text))
    }

    /// One more item.
    pub fn item(&mut self, item: &Exported<'_>) -> Zeroizing<Vec<u8>> {
        let text = match &mut self.body {
            Body::Json(document) => document.item(item),
            Body::Csv(_) => csv::Table::item(item),
        };
        self.out(text)
    }

    /// What goes after the last item; a file without it is not whole, and no reader takes it.
    pub fn end(mut self, tally: &Tally) -> Zeroizing<Vec<u8>> {
        let text = match &self.body {
            Body::Json(document) => document.end(tally),
            Body::Csv(_) => Zeroizing::new(Vec::new()),
        };
        let mut out = self.out(text);
        if let Some(Envelope { stream, mut rest }) = self.envelope {
            let mac = stream.finish(&mut rest);
            let tail = format!("{}|{}\"\n}}\n", STANDARD.encode(&rest), STANDARD.encode(mac));
            out.extend_from_slice(tail.as_bytes());
        }
        out
    }

    fn out(&mut self, text: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
        let Some(Envelope { stream, rest }) = &mut self.envelope else { return text };
        stream.push(&text, rest);
        let whole = rest.len() - rest.len() % 3;
        let encoded = STANDARD.encode(&rest[..whole]).into_bytes();
        rest.drain(..whole);
        Zeroizing::new(encoded)
    }
}

/// Room for `text` as JSON or CSV without growing: at worst each byte becomes six.
fn room(item: &Exported<'_>) -> Zeroizing<Vec<u8>> {
    let overview = item.overview;
    let lists = [&overview.urls, &overview.usernames, &overview.labels].into_iter().flatten();
    let fields = item.fields.iter().flat_map(|field| [&field.name, &field.value]);
    let texts = lists.chain(fields).chain([&overview.title]);
    let bytes: usize = texts.map(|text| text.expose().len()).sum();
    Zeroizing::new(Vec::with_capacity(4096 + 300 * item.fields.len() + 7 * bytes))
}

#[cfg(test)]
mod tests;

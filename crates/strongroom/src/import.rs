//! Reading what other password managers exported, from bytes to items that can be created. No I/O.
//!
//! One bad row never stops the rest: it is refused with its place and the reason. No message repeats what a row holds.

mod bitwarden;
mod columns;
mod protected;
mod rows;

use std::collections::{HashMap, HashSet};
use std::fmt;

use clap::ValueEnum;
use serde::Serialize;
use strongroom_envelope::PassphraseError;
use thiserror::Error;

pub use self::protected::{is_protected, unlock};
use crate::{http::api::types::CreateItem, item::MAX_ITEM};

/// The largest file that is read, in bytes: an export of some hundred thousand items.
pub const FILE_LIMIT: usize = 512 * 1024 * 1024;
/// The largest row of a table that is taken, in bytes of text.
pub const ENTRY_LIMIT: usize = 256 * 1024;

/// The formats that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Chrome, Edge and other Chromium browsers: name,url,username,password,note
    Chrome,
    /// Five columns, as from Apple Passwords and others: Title,URL,Username,Password,Notes
    Columns,
    /// Bitwarden's JSON, as `strongroom export` writes it too: unencrypted, or encrypted to a passphrase
    Bitwarden,
}

/// One item that can be created, and where it stood.
pub struct ImportDraft {
    pub place: Place,
    pub item: CreateItem,
}

/// What a file holds.
#[derive(Default)]
pub struct Parsed {
    /// In the order of the file.
    pub drafts: Vec<ImportDraft>,
    pub refused: Vec<Refused>,
    /// Parts of drafts that have no place in an item.
    pub left_out: Vec<LeftOut>,
}

/// Where in the file something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The line on which a row of a CSV file begins, from 1.
    Line(u64),
    /// The entry in the list of a JSON file, from 1.
    Entry(u64),
}

/// A row that cannot become an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub place: Place,
    pub reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Reason {
    #[error("larger than {} kB; a quotation mark may not be closed", ENTRY_LIMIT / 1024)]
    RowTooLong,
    #[error("a quotation mark is not closed, so the rest of the file could not be told apart")]
    UnclosedQuote,
    #[error("{found} columns where the header has {expected}; from `{first_missing}` on they are missing")]
    TooFewColumns { found: usize, expected: usize, first_missing: String },
    #[error("{found} columns where the header has {expected}; a comma may stand outside quotation marks")]
    TooManyColumns { found: usize, expected: usize },
    #[error("empty")]
    Empty,
    #[error("larger than {} kB", MAX_ITEM / 1024)]
    EntryTooLong,
    #[error("of type {0}, which is not known")]
    UnknownType(u64),
    #[error("of type {0}, but the part that belongs to it is missing")]
    MissingPart(u64),
}

/// A part of an entry that was not taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub place: Place,
    pub part: Part,
    pub count: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Passkeys,
    PasswordHistory,
}

/// Why nothing of a file can be imported. Names no content except column names.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ImportError {
    #[error("the file is empty")]
    Empty,
    #[error("the file has {bytes} bytes; at most {FILE_LIMIT} are read. Split it and import the parts")]
    TooLarge { bytes: usize },
    #[error(
        "the file is not UTF-8: the first wrong byte is at offset {offset}, on line {line}. Save it as UTF-8 and try \
         again"
    )]
    NotUtf8 { offset: usize, line: u64 },
    #[error("the file is in UTF-16, not UTF-8. Save it as UTF-8 and try again")]
    Utf16,
    #[error("line {line}: column {} is missing; the header has {}", listed(.missing), listed(.found))]
    MissingColumns { line: u64, missing: Vec<String>, found: Vec<String> },
    #[error("line {line}: this is not a header; the first line must name the columns {}", listed(.expected))]
    NoHeader { line: u64, expected: Vec<String> },
    #[error("line {line}: column `{name}` stands twice in the header")]
    ColumnTwice { line: u64, name: String },
    #[error("line {line}: the header cannot be read: {reason}")]
    Header { line: u64, reason: Reason },
    #[error("not valid JSON at line {line}, column {column}")]
    NotJson { line: usize, column: usize },
    #[error("not an export of Bitwarden: what stands at line {line}, column {column} does not belong there")]
    NotBitwarden { line: usize, column: usize },
    #[error("the file does not open: {0}")]
    NotOpened(PassphraseError),
    #[error(
        "this export of Bitwarden is encrypted to an account there. Export again as `.json (Encrypted)` with a password \
         of its own, or as `.json`, and delete the file after the import"
    )]
    Encrypted,
}

/// Tells the format from the content: JSON, or the header of a CSV file. A header that fits none counts as the one that
/// it comes nearest to, so that `parse` can say what is missing.
pub fn detect(bytes: &[u8]) -> Result<Format, ImportError> {
    let text = text(bytes)?;
    if text.trim_start().starts_with(['{', '[']) {
        return Ok(Format::Bitwarden);
    }
    columns::detect(text)
}

/// Reads a whole export. `bytes` should be wiped by the caller when done.
pub fn parse(bytes: &[u8], format: Format) -> Result<Parsed, ImportError> {
    let text = text(bytes)?;
    match format {
        Format::Chrome | Format::Columns => columns::parse(text, format),
        Format::Bitwarden => bitwarden::parse(text),
    }
}

impl Parsed {
    /// Drafts that say exactly what an earlier one says: (index in `drafts`, place of the first).
    pub fn duplicates(&self) -> Vec<(usize, Place)> {
        let mut first: HashMap<&CreateItem, Place> = HashMap::new();
        let mut duplicates = Vec::new();
        for (index, draft) in self.drafts.iter().enumerate() {
            match first.get(&draft.item) {
                Some(place) => duplicates.push((index, *place)),
                None => {
                    first.insert(&draft.item, draft.place);
                }
            }
        }
        duplicates
    }

    /// Takes the duplicates out and answers where each stood and what it repeats.
    pub fn remove_duplicates(&mut self) -> Vec<(Place, Place)> {
        let duplicates = self.duplicates();
        let places = duplicates.iter().map(|(index, first)| (self.drafts[*index].place, *first)).collect();
        let gone: HashSet<usize> = duplicates.into_iter().map(|(index, _)| index).collect();
        let mut index = 0;
        self.drafts.retain(|_| {
            index += 1;
            !gone.contains(&(index - 1))
        });
        places
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(formatter, "line {line}"),
            Self::Entry(entry) => write!(formatter, "entry {entry}"),
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, part, count } = self;
        let part = match part {
            Part::Passkeys => "passkeys",
            Part::PasswordHistory => "earlier passwords",
        };
        write!(formatter, "{place}: {part} ({count})")
    }
}

/// Checks size and encoding, and takes the byte order mark off.
fn text(bytes: &[u8]) -> Result<&str, ImportError> {
    within_limit(bytes.len())?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(ImportError::Utf16);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let offset = error.valid_up_to();
        let newlines = bytes[..offset].iter().filter(|byte| **byte == b'\n').count();
        ImportError::NotUtf8 { offset, line: newlines as u64 + 1 }
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(ImportError::Empty);
    }
    Ok(text)
}

fn within_limit(bytes: usize) -> Result<(), ImportError> {
    if bytes > FILE_LIMIT { Err(ImportError::TooLarge { bytes }) } else { Ok(()) }
}

fn listed(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wrong_utf8_is_named_by_offset_and_line() {
        let refusal = parse(b"name,url,username,password,note\na,b,\xe9,d,e\n", Format::Chrome).err();
        assert_eq!(refusal, Some(ImportError::NotUtf8 { offset: 36, line: 2 }));
        assert_eq!(detect(b"\xff\xfen\0a\0").err(), Some(ImportError::Utf16));
    }

    #[test]
    fn an_empty_file_is_refused() {
        for bytes in [&b""[..], b"\xef\xbb\xbf", b" \r\n\r\n"] {
            assert_eq!(detect(bytes).err(), Some(ImportError::Empty));
            assert_eq!(parse(bytes, Format::Bitwarden).err(), Some(ImportError::Empty));
        }
    }

    #[test]
    fn a_file_over_the_limit_is_refused() {
        assert_eq!(within_limit(FILE_LIMIT), Ok(()));
        assert_eq!(within_limit(FILE_LIMIT + 1), Err(ImportError::TooLarge { bytes: FILE_LIMIT + 1 }));
    }

    #[test]
    fn exact_duplicates_are_found_and_taken_out() {
        let text = "name,url,username,password,note\n\
                    a,https://a.example,u,p,\nb,,u,p,\na,https://a.example,u,p,\na,https://a.example,u,other,\n";
        let mut parsed = parse(text.as_bytes(), Format::Chrome).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(parsed.remove_duplicates(), [(Place::Line(4), Place::Line(2))]);
        let places: Vec<Place> = parsed.drafts.iter().map(|draft| draft.place).collect();
        assert_eq!(places, [Place::Line(2), Place::Line(3), Place::Line(5)]);
    }

    fn sample(name: &str, format: Format) -> Parsed {
        let path = format!("{}/../../docs/samples/{name}", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).expect("the samples are part of the repository");
        assert_eq!(detect(&bytes), Ok(format));
        parse(&bytes, format).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn the_samples_give_500_items_in_each_format() {
        for (name, format) in
            [("chrome.csv", Format::Chrome), ("columns.csv", Format::Columns), ("bitwarden.json", Format::Bitwarden)]
        {
            let mut parsed = sample(name, format);
            assert_eq!((parsed.drafts.len(), parsed.refused.len()), (500, 0), "{name}");
            assert_eq!(parsed.remove_duplicates().len(), 12, "{name}");
        }
    }

    #[test]
    fn the_same_accounts_come_out_of_both_csv_samples() {
        let (chrome, columns) = (sample("chrome.csv", Format::Chrome), sample("columns.csv", Format::Columns));
        let of_chrome: HashSet<&CreateItem> = chrome.drafts.iter().map(|draft| &draft.item).collect();
        assert!(columns.drafts.iter().all(|draft| of_chrome.contains(&draft.item)));
    }

    #[test]
    fn the_samples_hold_what_real_exports_hold() {
        let parsed = sample("chrome.csv", Format::Chrome);
        let fields = || parsed.drafts.iter().flat_map(|draft| &draft.item.fields);
        let some = |wanted: &dyn Fn(&str) -> bool| fields().any(|field| wanted(field.value.expose()));
        assert!(some(&|value| value.is_empty()), "an empty password");
        assert!(some(&|value| value.len() >= 10_240), "a note of 10 kB");
        assert!(some(&|value| value.contains("\r\n")), "Windows line ends");
        assert!(some(&|value| value.contains('"') && value.contains(',')), "quotes and commas");
        assert!(some(&|value| value.contains('\u{1F510}')), "emoji");
        assert!(parsed.drafts.iter().any(|draft| draft.item.title.expose().contains('\n')), "a title over two lines");
    }

    fn some_format() -> impl Strategy<Value = Format> {
        prop_oneof![Just(Format::Chrome), Just(Format::Columns), Just(Format::Bitwarden)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_bytes_make_a_parser_panic(bytes: Vec<u8>, format in some_format()) {
            let _ = detect(&bytes);
            let _ = parse(&bytes, format);
        }

        #[test]
        fn no_rows_make_a_parser_panic(rows in "[a-z\",;\r\n\t\u{e4}\u{1F511}]{0,400}") {
            for (header, format) in [
                ("name,url,username,password,note", Format::Chrome),
                ("\u{feff}Title;URL;Username;Password;Notes;OTPAuth", Format::Columns),
            ] {
                let text = format!("{header}\n{rows}");
                let parsed = parse(text.as_bytes(), format).expect("a good header");
                prop_assert!(parsed.drafts.len() + parsed.refused.len() <= rows.len() + 1);
            }
        }

        #[test]
        fn no_json_makes_the_parser_panic(inner in "[\\[\\]{}:,\"a-z0-9 ]{0,200}") {
            let _ = parse(format!("{{\"items\":[{inner}]}}").as_bytes(), Format::Bitwarden);
        }
    }
}

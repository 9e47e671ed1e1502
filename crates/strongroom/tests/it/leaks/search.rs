//! Finds a marked text in bytes, however a careless program may have written it: as it is, in base64 and base64url at
//! any offset, in hexadecimal, as UTF-16, escaped for JSON or for a URL, or as Rust prints bytes and text.

use std::fmt::Write;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use regex::bytes::{Regex, RegexBuilder};

/// A secret that must turn up nowhere, and where it was put in.
pub struct Mark {
    pub name: String,
    pub text: String,
}

/// One mark in one spelling.
struct Needle {
    mark: String,
    spelling: &'static str,
    bytes: Vec<u8>,
}

/// What turned up.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    pub mark: String,
    pub spelling: &'static str,
    pub place: String,
}

pub struct Searcher {
    needles: Vec<Needle>,
    any: Regex,
}

impl Searcher {
    pub fn of(marks: &[Mark]) -> Searcher {
        let needles: Vec<Needle> = marks
            .iter()
            .flat_map(|mark| {
                assert!(mark.text.len() >= 12, "{} is too short to be told from chance", mark.name);
                spellings(&mark.text).into_iter().map(|(spelling, bytes)| Needle {
                    mark: mark.name.clone(),
                    spelling,
                    bytes,
                })
            })
            .collect();
        let pattern = needles.iter().map(|needle| escaped(&needle.bytes)).collect::<Vec<_>>().join("|");
        let any = RegexBuilder::new(&format!("(?-u:{pattern})")).size_limit(256 << 20).build();
        Searcher { needles, any: any.expect("escaped bytes make a pattern") }
    }

    /// Every mark in `bytes`, each once a spelling.
    pub fn search(&self, place: &str, bytes: &[u8]) -> Vec<Found> {
        let mut found: Vec<Found> = self
            .any
            .find_iter(bytes)
            .flat_map(|hit| self.needles.iter().filter(move |needle| needle.bytes == hit.as_bytes()))
            .map(|needle| Found { mark: needle.mark.clone(), spelling: needle.spelling, place: place.to_owned() })
            .collect();
        found.sort();
        found.dedup();
        found
    }
}

/// Every way in which a text may have been written.
fn spellings(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = text.as_bytes();
    let mut all = vec![
        ("as it is", bytes.to_vec()),
        ("hexadecimal", hex::encode(bytes).into_bytes()),
        ("hexadecimal, upper case", hex::encode_upper(bytes).into_bytes()),
        ("UTF-16, little end first", text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("UTF-16, big end first", text.encode_utf16().flat_map(u16::to_be_bytes).collect()),
        ("JSON", inner(&serde_json::to_string(text).expect("text becomes JSON")).into()),
        ("JSON in ASCII", ascii_json(text).into_bytes()),
        ("JSON in JSON", inner(&serde_json::to_string(&ascii_json(text)).expect("text becomes JSON")).into()),
        ("debug text", inner(&format!("{text:?}")).into()),
        ("debug bytes", inner(&format!("{bytes:?}")).into()),
        ("percent-encoded", utf8_percent_encode(text, NON_ALPHANUMERIC).to_string().into_bytes()),
        ("form-encoded", url::form_urlencoded::byte_serialize(bytes).collect::<String>().into_bytes()),
        ("backwards", bytes.iter().rev().copied().collect()),
    ];
    for offset in 0..3 {
        all.push(("base64", in_base64(&STANDARD_NO_PAD, bytes, offset)));
        all.push(("base64url", in_base64(&URL_SAFE_NO_PAD, bytes, offset)));
    }
    all
}

/// The characters that stand for `bytes` alone when `offset` other bytes (modulo 3) stand before them and any after.
fn in_base64(engine: &impl Engine, bytes: &[u8], offset: usize) -> Vec<u8> {
    let mut shifted = vec![0; offset];
    shifted.extend_from_slice(bytes);
    let whole = shifted.len() / 3 * 4;
    let encoded = engine.encode(&shifted).into_bytes();
    // A character that also stands for bits of a neighbour is cut off at either end.
    let first = (offset * 8).div_ceil(6);
    encoded[first..whole].to_vec()
}

/// JSON as some writers make it: everything beyond ASCII by number.
fn ascii_json(text: &str) -> String {
    let json = serde_json::to_string(text).expect("text becomes JSON");
    let mut out = String::new();
    for letter in inner(&json).chars() {
        if letter.is_ascii() {
            out.push(letter);
            continue;
        }
        for unit in letter.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04x}").expect("writing to memory does not fail");
        }
    }
    out
}

/// Without the quotes or brackets around it.
fn inner(text: &str) -> &str {
    &text[1..text.len() - 1]
}

fn escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "\\x{byte:02x}").expect("writing to memory does not fail");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "LEAKMARK \"ä\u{1F511}\\ ?/+ end";

    fn searcher() -> Searcher {
        Searcher::of(&[
            Mark { name: "planted".into(), text: TEXT.into() },
            Mark { name: "other".into(), text: "LEAKMARK-of-another-kind".into() },
        ])
    }

    fn spellings_found(bytes: &[u8]) -> Vec<&'static str> {
        let found = searcher().search("here", bytes);
        assert!(found.iter().all(|found| found.mark == "planted"), "{found:?}");
        found.into_iter().map(|found| found.spelling).collect()
    }

    #[test]
    fn a_planted_mark_is_found_in_every_spelling() {
        let json = serde_json::to_string(TEXT).expect("JSON");
        let utf_16 = |bytes: fn(u16) -> [u8; 2]| -> Vec<u8> { TEXT.encode_utf16().flat_map(bytes).collect() };
        let planted: [(&str, Vec<u8>); 9] = [
            ("as it is", TEXT.into()),
            ("hexadecimal", hex::encode(TEXT).into()),
            ("hexadecimal, upper case", hex::encode_upper(TEXT).into()),
            ("UTF-16, little end first", utf_16(u16::to_le_bytes)),
            ("UTF-16, big end first", utf_16(u16::to_be_bytes)),
            ("JSON", json.into()),
            ("debug text", format!("{TEXT:?}").into()),
            ("debug bytes", format!("{:?}", TEXT.as_bytes()).into()),
            ("percent-encoded", utf8_percent_encode(TEXT, NON_ALPHANUMERIC).to_string().into()),
        ];
        for (spelling, bytes) in planted {
            let bytes = [b"before ", bytes.as_slice(), b" after"].concat();
            assert!(spellings_found(&bytes).contains(&spelling), "not found: {spelling}");
        }
    }

    #[test]
    fn a_mark_inside_of_something_encoded_is_found_at_every_offset() {
        for before in 0..4 {
            for after in 0..4 {
                let whole = [&b"xyz!"[..before], TEXT.as_bytes(), &b"abc!"[..after]].concat();
                assert!(spellings_found(STANDARD_NO_PAD.encode(&whole).as_bytes()).contains(&"base64"), "{before}");
                assert!(spellings_found(URL_SAFE_NO_PAD.encode(&whole).as_bytes()).contains(&"base64url"), "{before}");
            }
        }
    }

    #[test]
    fn json_by_number_and_json_in_json_are_found() {
        let by_number = r#"{"title":"LEAKMARK \"\u00e4\ud83d\udd11\\ ?/+ end"}"#;
        assert!(spellings_found(by_number.as_bytes()).contains(&"JSON in ASCII"));
        let nested = serde_json::to_string(by_number).expect("JSON");
        assert!(spellings_found(nested.as_bytes()).contains(&"JSON in JSON"));
    }

    #[test]
    fn what_holds_no_mark_is_clean() {
        assert_eq!(spellings_found(b"LEAKMARK \"a\" and the rest"), Vec::<&str>::new());
    }
}

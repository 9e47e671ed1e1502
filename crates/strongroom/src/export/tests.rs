use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::Value;
use strongroom_envelope::{Commitment, SystemRandom};

use super::*;
use crate::{
    import::{Format, is_protected, parse, unlock},
    item::{FieldKind, ItemType, SecretKind},
    secret_text::SecretText,
};

/// An item that cannot be printed without exposing it; here that is wanted.
#[derive(Debug, Clone, PartialEq)]
struct Sample {
    item_type: ItemType,
    kind: Option<SecretKind>,
    title: String,
    urls: Vec<String>,
    usernames: Vec<String>,
    labels: Vec<String>,
    fields: Vec<(String, FieldKind, String)>,
}

impl Sample {
    fn mail() -> Self {
        Self {
            item_type: ItemType::Account,
            kind: None,
            title: "Mail \u{1F4EE}".into(),
            urls: vec!["https://mail.example.com".into(), "https://m.example.com".into()],
            usernames: vec!["ada".into(), "ada@example.com".into()],
            labels: vec!["Work".into(), "Old, \"quoted\"".into()],
            fields: vec![
                field("PIN", FieldKind::Hidden, "0815"),
                field("Password", FieldKind::Password, "p\"ä,\n"),
                field("One-time password", FieldKind::Totp, "otpauth://totp/x?secret=GEZDGNBV"),
                field("Password", FieldKind::Password, "the other"),
                field("Notes", FieldKind::Notes, "two\nlines"),
                field("", FieldKind::Text, ""),
            ],
        }
    }
}

fn field(name: &str, kind: FieldKind, value: &str) -> (String, FieldKind, String) {
    (name.into(), kind, value.into())
}

fn secrets(list: &[String]) -> Vec<SecretText> {
    list.iter().map(|text| SecretText::from(text.as_str())).collect()
}

/// The file that `writer` makes of the samples.
fn file(mut writer: Writer, head: Vec<u8>, samples: &[Sample]) -> Vec<u8> {
    let mut out = head;
    out.extend_from_slice(&writer.begin());
    for (number, sample) in samples.iter().enumerate() {
        let overview = Overview {
            item_type: sample.item_type,
            kind: sample.kind,
            title: sample.title.as_str().into(),
            urls: secrets(&sample.urls),
            usernames: secrets(&sample.usernames),
            labels: secrets(&sample.labels),
            details: Commitment([0; 32]),
        };
        let fields: Vec<Field> =
            sample.fields.iter().map(|(name, kind, value)| Field::new(name, *kind, value.as_str().into())).collect();
        let (created_at, updated_at) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        let id = Uuid::from_u128(number as u128 + 1);
        out.extend_from_slice(&writer.item(&Exported {
            id,
            overview: &overview,
            fields: &fields,
            created_at,
            updated_at,
        }));
    }
    out.extend_from_slice(&writer.end(&Tally { items: samples.len() as u64, damaged: 0, gone: 0 }));
    out
}

fn json(samples: &[Sample]) -> Vec<u8> {
    file(Writer::plain(ExportFormat::Json), Vec::new(), samples)
}

fn read(bytes: &[u8]) -> Vec<Sample> {
    let parsed = parse(bytes, Format::Bitwarden).unwrap_or_else(|error| panic!("{error}"));
    assert!(parsed.refused.is_empty() && parsed.left_out.is_empty(), "{:?}", parsed.refused);
    let plain = |list: &[SecretText]| list.iter().map(|text| text.expose().to_owned()).collect();
    let sample = |draft: crate::import::ImportDraft| Sample {
        item_type: draft.item.item_type,
        kind: draft.item.kind,
        title: draft.item.title.expose().to_owned(),
        urls: plain(&draft.item.urls),
        usernames: plain(&draft.item.usernames),
        labels: plain(&draft.item.labels),
        fields: draft
            .item
            .fields
            .iter()
            .map(|field| (field.name.expose().to_owned(), field.kind, field.value.expose().to_owned()))
            .collect(),
    };
    parsed.drafts.into_iter().map(sample).collect()
}

#[test]
fn an_encrypted_export_comes_back_whole_and_only_with_its_passphrase() {
    let random = SystemRandom::new();
    let salt = Salt::generate(&random).expect("random");
    let keys = PassphraseKeys::derive(b"tide and lamp", salt.text(), PassphraseKdf::DEFAULT).expect("derived");
    let (writer, head) = Writer::encrypted(&salt, &keys, &random).expect("random");
    let samples = vec![Sample::mail(); 40];
    let sealed = file(writer, head, &samples);
    let text = std::str::from_utf8(&sealed).expect("text");
    assert!(is_protected(&sealed) && !text.contains("Mail") && !text.contains("0815"));
    let opened = unlock(&sealed, &SecretText::from("tide and lamp")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(read(&opened), samples);
    assert!(unlock(&sealed, &SecretText::from("tide and lamb")).is_err());
    // One that broke off is no JSON; one that was mended to be JSON has no MAC.
    assert!(unlock(&sealed[..sealed.len() - 60], &SecretText::from("tide and lamp")).is_err());
    let mended = [&sealed[..sealed.len() - 60], b"\"}"].concat();
    assert!(unlock(&mended, &SecretText::from("tide and lamp")).is_err());
}

#[test]
fn what_bitwarden_has_a_place_for_stands_there_and_the_rest_can_be_seen() {
    let value: Value = serde_json::from_slice(&json(&[Sample::mail()])).expect("JSON");
    let item = &value["items"][0];
    assert_eq!((value["encrypted"].as_bool(), item["type"].as_u64()), (Some(false), Some(1)));
    assert_eq!(item["login"]["password"], "p\"ä,\n");
    assert_eq!(item["login"]["totp"], "otpauth://totp/x?secret=GEZDGNBV");
    assert_eq!(
        (&item["login"]["username"], &item["login"]["uris"][1]["uri"]),
        (&"ada".into(), &"https://m.example.com".into())
    );
    assert_eq!(item["notes"], "two\nlines");
    let fields: Vec<_> = (item["fields"].as_array().expect("fields").iter())
        .map(|field| (field["name"].as_str().unwrap_or("?"), field["type"].as_u64().unwrap_or(9)))
        .collect();
    assert_eq!(fields, [("PIN", 1), ("Password", 1), ("", 0), ("Username", 0), ("Label", 0)]);
    assert_eq!(value["folders"][0]["name"], "Work");
    assert_eq!((&value["folders"][0]["id"], &value["strongroom"]["items"]), (&item["folderId"], &1.into()));
}

#[test]
fn an_edit_in_the_file_counts() {
    let text = String::from_utf8(json(&[Sample::mail()])).expect("text");
    let text = text.replace("\"value\":\"0815\"", "\"value\":\"4711\"").replace("\"name\":\"Mail", "\"name\":\"Post");
    let found = read(text.as_bytes()).remove(0);
    assert_eq!((found.fields[0].2.as_str(), found.fields.len()), ("4711", 6));
    assert!(found.title.starts_with("Post"));
}

#[test]
fn a_table_has_bitwarden_s_columns_and_every_value() {
    let bytes = file(Writer::plain(ExportFormat::Csv), Vec::new(), &[Sample::mail()]);
    let mut reader = csv_core::Reader::new();
    let (mut out, mut ends) = (vec![0; 4096], [0; 64]);
    let mut rows = Vec::new();
    let mut rest = &bytes[..];
    loop {
        let (result, taken, _, cells) = reader.read_record(rest, &mut out, &mut ends);
        rest = &rest[taken..];
        match result {
            csv_core::ReadRecordResult::Record => {
                let starts = std::iter::once(0).chain(ends.iter().copied());
                let cells = starts
                    .zip(&ends[..cells])
                    .map(|(start, end)| String::from_utf8_lossy(&out[start..*end]).into_owned());
                rows.push(cells.collect::<Vec<_>>());
            }
            csv_core::ReadRecordResult::End => break,
            other => assert!(matches!(other, csv_core::ReadRecordResult::InputEmpty), "{other:?}"),
        }
    }
    assert_eq!(rows.len(), 2);
    let row: HashMap<_, _> = rows[0].iter().map(String::as_str).zip(rows[1].iter().map(String::as_str)).collect();
    assert_eq!((row["type"], row["login_password"], row["login_username"]), ("login", "p\"ä,\n", "ada"));
    assert_eq!((row["folder"], row["notes"]), ("Work", "two\nlines"));
    assert_eq!(row["fields"], "PIN: 0815\nPassword: the other\n: \nUsername: ada@example.com\nLabel: Old, \"quoted\"");
    assert_eq!(row["login_uri"], "https://mail.example.com,https://m.example.com");
}

fn some_text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), Just(" x ".to_owned()), "[a-zA-Z\"\\\\,\n\u{0}\u{e4}\u{1F511}]{1,12}",]
}

fn some_kind() -> impl Strategy<Value = Option<SecretKind>> {
    use SecretKind as K;
    let kinds = [K::Text, K::ApiKey, K::SshKey, K::Database, K::Card, K::Identity, K::Custom].map(Some);
    prop::sample::select([&kinds[..], &[None]].concat())
}

fn some_field() -> impl Strategy<Value = (String, FieldKind, String)> {
    use FieldKind as K;
    let names = [
        "Password",
        "One-time password",
        "Notes",
        "Number",
        "Field",
        "",
        "Private key",
        "Public key",
        "Fingerprint",
        "City",
    ];
    let kinds = [K::Text, K::Hidden, K::Username, K::Password, K::Url, K::Totp, K::Notes, K::PrivateKey];
    let names = prop_oneof![prop::sample::select(names.map(str::to_owned).to_vec()), some_text()];
    (names, prop::sample::select(kinds.to_vec()), some_text())
}

fn some_sample() -> impl Strategy<Value = Sample> {
    let lists = || prop::collection::vec(some_text(), 0..4);
    let fields = prop::collection::vec(some_field(), 0..8);
    let title = "[a-zA-Z ]{0,5}[a-z][ \u{e4}]{0,3}";
    (any::<bool>(), some_kind(), title, lists(), lists(), lists(), fields).prop_map(
        |(account, kind, title, urls, usernames, labels, fields)| Sample {
            item_type: if account { ItemType::Account } else { ItemType::Secret },
            kind,
            title,
            urls,
            usernames,
            labels,
            fields,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_item_comes_back_exactly(samples in prop::collection::vec(some_sample(), 0..4)) {
        prop_assert_eq!(read(&json(&samples)), samples);
    }
}

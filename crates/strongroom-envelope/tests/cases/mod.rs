//! The cases that `tests/vectors/` holds, built from chosen keys, ids and salt.

use serde_json::{Value, json};
use strongroom_envelope::VaultKeyPlace;

use crate::Vector;

pub const SALT: [u8; 24] = *b"salt of the test vectors";

const KEY: [u8; 32] = [0x5a; 32];
const CHUNK: usize = 16 * 1024;

pub fn vault_key_place() -> VaultKeyPlace {
    VaultKeyPlace { workspace: [0x11; 16], vault: [0x22; 16], generation: 7 }
}

/// Every case with the name of its file.
pub fn all() -> Vec<(String, Vector)> {
    let mut cases = good();
    cases.extend(moved());
    cases.extend(damaged());
    cases.extend(bad_records());
    cases.extend(bad_macs());
    cases
}

fn good() -> Vec<(String, Vector)> {
    let record = [b"SRVK\x01".as_slice(), &[0x11; 16], &[0x22; 16], &[0, 0, 0, 7], &[0x77; 32]].concat();
    let long: Vec<u8> = (0..2 * CHUNK + 1).map(|i| (i % 251) as u8).collect();
    [
        ("overview", case("overview", &[b'o'; 256], "A padded overview")),
        ("details", case("details", b"hunter2", "Details, one chunk")),
        ("details_empty", case("details", b"", "Nothing is one empty chunk")),
        ("details_exact_chunk", case("details", &long[..CHUNK], "16384 bytes are two chunks, the second empty")),
        ("details_three_chunks", case("details", &long, "32769 bytes are three chunks")),
        ("attachment", case("attachment", b"%PDF-", "An attachment")),
        ("data_key_wrap", case("data_key_wrap", &[0x66; 32], "A data key under a vault key")),
        ("vault_key_wrap", case("vault_key_wrap", &record, "A vault key's record under a Cloud KEK")),
        ("cloud_kek_wrap", case("cloud_kek_wrap", &[0x88; 32], "A Cloud KEK under the instance key")),
        ("provider_credential", case("provider_credential", b"client secret", "An Azure client secret")),
        ("member_credential", case("member_credential", b"totp secret", "A member's TOTP secret")),
        ("notice_credential", case("notice_credential", b"smtp password", "A workspace's SMTP password")),
        ("notice_credential_of_server", server_notice()),
        ("log_key", case("log_key", &[0x99; 32], "The key that signs checkpoints of the audit log")),
        ("backup", case("backup", b"part", "A part of a backup")),
        ("wrap_record", case("wrap_record", &[0x77; 32], "The record that RSA-OAEP-256 wraps")),
        ("mac_wrap_row", case("mac_wrap_row", b"", "The MAC of a wrap row")),
        ("mac_vault_policy", case("mac_vault_policy", b"", "The MAC of a vault's policy")),
        ("mac_provider", case("mac_provider", b"", "The MAC of a provider; one field is NULL")),
        ("mac_job", case("mac_job", b"", "The MAC of a job; one field is NULL")),
        ("mac_audit", case("mac_audit", b"", "The MAC of an audit event")),
        ("mac_session", case("mac_session", b"", "What is stored for a session token")),
        ("mac_api_token", case("mac_api_token", b"", "What is stored for an API token")),
        ("mac_link", case("mac_link", b"", "What is stored for a one-time link")),
        ("mac_recovery_code", case("mac_recovery_code", b"", "What is stored for a recovery code")),
    ]
    .into_iter()
    .map(|(name, vector)| (name.to_owned(), vector))
    .collect()
}

/// One case for each field of each tuple: the blob is the good one, the slot another.
fn moved() -> Vec<(String, Vector)> {
    let mut cases = Vec::new();
    for (name, vector) in good() {
        let sealed = vector.output.is_some() && vector.kind != "wrap_record";
        if name != vector.kind || !sealed {
            continue;
        }
        for field in vector.place.keys() {
            let other = match &vector.place[field] {
                Value::Number(number) => json!(number.as_u64().expect("unsigned") + 1),
                _ => json!("ee".repeat(16)),
            };
            let about = format!("Sealed in one slot, opened in one with another {field}");
            let case = hostile(&vector, &about, "CommitmentMismatch", |v| {
                v.place.insert(field.clone(), other);
            });
            cases.push((format!("{name}_of_another_{field}"), case));
        }
    }
    let details = case("details", b"hunter2", "");
    let overview = |v: &mut Vector| v.kind = "overview".to_owned();
    let slot = "Details in the slot of an overview";
    cases.push(("details_as_overview".to_owned(), hostile(&details, slot, "WrongKind", overview)));
    let relabelled = hostile(&details, "The same, with the kind in the header changed", "CommitmentMismatch", |v| {
        overview(v);
        change(v, |blob| blob[6] = 1);
    });
    cases.push(("details_relabelled_as_overview".to_owned(), relabelled));
    let server = hostile(&server_notice(), "Absent is not a workspace of zeros", "CommitmentMismatch", |v| {
        v.place.insert("workspace".to_owned(), json!("00".repeat(16)));
    });
    cases.push(("notice_credential_of_server_in_workspace".to_owned(), server));
    cases
}

/// The blob is damaged, the slot the right one.
fn damaged() -> Vec<(String, Vector)> {
    let details = case("details", b"hunter2", "");
    let long: Vec<u8> = (0..2 * CHUNK + 1).map(|i| (i % 251) as u8).collect();
    let long = case("details", &long, "");
    let credential = case("provider_credential", b"client secret", "");
    let data_key = case("data_key_wrap", &[0x66; 32], "");
    let (salt, commitment, chunk) = (8, 8 + 24, 8 + 24 + 32);
    let sealed_chunk = CHUNK + 16;
    let mut cases = Vec::new();
    let mut add = |name: &str, of: &Vector, fault: &str, about: &str, damage: &dyn Fn(&mut Vec<u8>)| {
        cases.push((name.to_owned(), hostile(of, about, fault, |v| change(v, damage))));
    };

    add("bad_magic", &details, "BadMagic", "A bit of the magic is flipped", &|b| b[0] ^= 1);
    add("unknown_format", &details, "UnknownFormat", "Format 2", &|b| b[4] = 2);
    add("unknown_suite", &details, "UnknownSuite", "Suite 2", &|b| b[5] = 2);
    add("unknown_kind", &details, "UnknownKind", "Kind ff", &|b| b[6] = 0xff);
    add("reserved_kind", &details, "WrongKind", "Kind 40 is reserved", &|b| b[6] = 0x40);
    add("unknown_flags", &details, "UnknownFlags", "Flags 80", &|b| b[7] = 0x80);
    add("changed_salt", &details, "CommitmentMismatch", "A bit of the salt", &|b| b[salt] ^= 1);
    add("changed_commitment", &details, "CommitmentMismatch", "A bit of the commitment", &|b| b[commitment] ^= 1);
    add("changed_chunk", &details, "ChunkAuthentication", "A bit of the chunk", &|b| b[chunk] ^= 1);
    add("changed_tag", &details, "ChunkAuthentication", "The last bit", &|b| *b.last_mut().expect("not empty") ^= 1);
    add("empty", &details, "TooShort", "No bytes at all", &|b| b.clear());
    add("truncated_in_header", &details, "TooShort", "7 bytes", &|b| b.truncate(7));
    add("truncated_in_salt", &details, "TooShort", "Part of a salt", &|b| b.truncate(commitment - 1));
    add("truncated_in_commitment", &details, "TooShort", "Part of a commitment", &|b| b.truncate(chunk - 1));
    add("truncated_before_chunk", &details, "Truncated", "No chunk", &|b| b.truncate(chunk));
    add("truncated_in_tag", &details, "Truncated", "15 bytes of the chunk", &|b| b.truncate(chunk + 15));
    add("truncated_in_chunk", &details, "ChunkAuthentication", "The last byte is gone", &|b| {
        b.pop();
    });
    add("trailing_byte", &details, "ChunkAuthentication", "A byte too many", &|b| b.push(0));
    add("truncated_between_chunks", &long, "Truncated", "Only the first of three chunks", &|b| {
        b.truncate(chunk + sealed_chunk)
    });
    add("last_chunk_missing", &long, "Truncated", "The last, short chunk is gone", &|b| {
        b.truncate(chunk + 2 * sealed_chunk)
    });
    add("reordered_chunks", &long, "ChunkAuthentication", "The first two chunks change places", &|b| {
        b[chunk..chunk + 2 * sealed_chunk].rotate_left(sealed_chunk)
    });
    add("first_chunk_missing", &long, "ChunkAuthentication", "The first of three chunks is gone", &|b| {
        b.drain(chunk..chunk + sealed_chunk);
    });
    add("unknown_instance_key", &credential, "UnknownInstanceKey", "A bit of the key id", &|b| b[8] ^= 1);
    add("truncated_in_key_id", &credential, "TooShort", "Part of the instance key id", &|b| b.truncate(12));
    add("changed_data_key_wrap", &data_key, "ChunkAuthentication", "A bit of the wrapped key", &|b| b[chunk] ^= 1);

    cases.push((
        "another_key".to_owned(),
        hostile(&details, "Another data key", "CommitmentMismatch", |v| {
            v.key = "5b".repeat(32);
        }),
    ));
    cases
}

fn bad_records() -> Vec<(String, Vector)> {
    let record = case("wrap_record", &[0x77; 32], "");
    let at = |name: &str, fault: &str, about: &str, index: usize| {
        (format!("record_{name}"), hostile(&record, about, fault, |v| change(v, |b| b[index] ^= 1)))
    };
    let length = |name: &str, len: usize| {
        let case = hostile(&record, "A record of another length", "Length", |v| change(v, |b| b.resize(len, 0)));
        (format!("record_{name}"), case)
    };
    vec![
        at("bad_magic", "Magic", "A bit of the magic", 0),
        at("unknown_format", "Format", "Format 0", 4),
        at("of_another_workspace", "Workspace", "A bit of the workspace", 5),
        at("of_another_vault", "Vault", "A bit of the vault", 5 + 16),
        at("of_another_generation", "Generation", "A bit of the generation", 5 + 32 + 3),
        length("cut", 72),
        length("too_long", 74),
        length("empty", 0),
    ]
}

/// One case for each field of each row and token, and for the MAC itself.
fn bad_macs() -> Vec<(String, Vector)> {
    let mut cases = Vec::new();
    for (name, vector) in good() {
        if !name.starts_with("mac_") {
            continue;
        }
        for field in vector.place.keys() {
            let other = match &vector.place[field] {
                Value::Number(number) => json!(number.as_u64().expect("unsigned") + 1),
                Value::Array(_) => continue,
                Value::String(text) if text.len() == 32 => json!("ee".repeat(16)),
                Value::String(text) => json!(format!("{text}00")),
                other => panic!("no rule for {other}"),
            };
            let about = format!("The MAC of a row or token with another {field}");
            let case = hostile(&vector, &about, "Mismatch", |v| {
                v.place.insert(field.clone(), other);
            });
            cases.push((format!("{name}_with_another_{field}"), case));
        }
    }
    let row = case("mac_wrap_row", b"", "");
    let mut add = |name: &str, fault: &str, about: &str, damage: &dyn Fn(&mut Vec<u8>)| {
        cases.push((name.to_owned(), hostile(&row, about, fault, |v| change(v, damage))));
    };
    add("mac_changed", "Mismatch", "A bit of the MAC", &|b| b[39] ^= 1);
    add("mac_of_unknown_instance_key", "UnknownInstanceKey", "A bit of the key id", &|b| b[0] ^= 1);
    add("mac_cut", "Length", "39 bytes", &|b| b.truncate(39));
    for kind in ["mac_vault_policy", "mac_provider", "mac_job"] {
        cases.extend(with_other_fields(kind));
    }
    let session = hostile(&case("mac_session", b"", ""), "A session token as API token", "Mismatch", |v| {
        v.kind = "mac_api_token".to_owned();
    });
    cases.push(("mac_session_as_api_token".to_owned(), session));
    cases
}

/// One case for each named field of a row, and for two that change places. An empty value becomes NULL, NULL an empty one.
fn with_other_fields(kind: &str) -> Vec<(String, Vector)> {
    let good = case(kind, b"", "");
    let fields = good.place["fields"].as_array().expect("a list").clone();
    let with = |about: &str, fields: Vec<Value>| {
        hostile(&good, about, "Mismatch", |v| {
            v.place.insert("fields".to_owned(), Value::Array(fields));
        })
    };
    let mut cases = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let (name, value) = (field[0].as_str().expect("a name"), field[1].as_str());
        let mut changed = fields.clone();
        changed[index][1] = match value {
            None => json!(""),
            Some("") => Value::Null,
            Some(value) => json!(format!("{value}00")),
        };
        let about = format!("The MAC of a row with another {name}");
        cases.push((format!("{kind}_with_another_{name}"), with(&about, changed)));
    }
    let mut swapped = fields.clone();
    swapped.swap(0, 1);
    cases.push((format!("{kind}_in_another_order"), with("The fields in another order", swapped)));
    let cut = with("The last field is missing", fields[..fields.len() - 1].to_vec());
    cases.push((format!("{kind}_without_last_field"), cut));
    cases
}

/// A good case: `output` sealed, wrapped or authenticated in the kind's own place.
fn case(kind: &str, output: &[u8], about: &str) -> Vector {
    let mut vector = Vector {
        about: about.to_owned(),
        kind: kind.to_owned(),
        key: hex::encode(KEY),
        place: place(kind).as_object().expect("an object").clone().into_iter().collect(),
        input: String::new(),
        output: (!kind.starts_with("mac_")).then(|| hex::encode(output)),
        fault: None,
    };
    vector.input = hex::encode(vector.make(&SALT));
    vector
}

fn server_notice() -> Vector {
    let mut vector = case("notice_credential", b"smtp password", "The whole server's: the workspace is absent");
    vector.place.insert("workspace".to_owned(), Value::Null);
    vector.input = hex::encode(vector.make(&SALT));
    vector
}

fn hostile(of: &Vector, about: &str, fault: &str, edit: impl FnOnce(&mut Vector)) -> Vector {
    let mut vector = of.clone();
    edit(&mut vector);
    vector.about = about.to_owned();
    vector.output = None;
    vector.fault = Some(fault.to_owned());
    vector
}

fn change(vector: &mut Vector, damage: impl FnOnce(&mut Vec<u8>)) {
    let mut input = hex::decode(&vector.input).expect("made by case");
    damage(&mut input);
    vector.input = hex::encode(input);
}

fn place(kind: &str) -> Value {
    let id = |byte: &str| byte.repeat(16);
    let (workspace, vault, provider, item, data_key) = (id("11"), id("22"), id("99"), id("33"), id("44"));
    let kid = "https://contoso.vault.azure.net/keys/strongroom/0123456789abcdef0123456789abcdef";
    match kind {
        "overview" | "details" => {
            json!({"workspace": workspace, "vault": vault, "item": item, "data_key": data_key, "revision": 5})
        }
        "attachment" => json!({"workspace": workspace, "vault": vault, "item": item, "data_key": data_key,
            "revision": 5, "attachment": id("55")}),
        "data_key_wrap" => {
            json!({"workspace": workspace, "vault": vault, "generation": 7, "item": item, "data_key": data_key})
        }
        "vault_key_wrap" | "cloud_kek_wrap" => {
            json!({"workspace": workspace, "provider": provider, "kek": id("aa")})
        }
        "provider_credential" => {
            json!({"workspace": workspace, "provider": provider, "credential": id("bb")})
        }
        "member_credential" => json!({"workspace": workspace, "member": id("cc")}),
        "notice_credential" => json!({"workspace": workspace, "channel": id("dd")}),
        "log_key" => json!({}),
        "backup" => json!({"backup": id("bc"), "part": 3}),
        "wrap_record" => json!({"workspace": workspace, "vault": vault, "generation": 7}),
        "mac_wrap_row" => json!({"workspace": workspace, "vault": vault, "generation": 7, "provider": provider,
            "algorithm": "RSA-OAEP-256", "kid": kid, "wrap": "f0".repeat(512)}),
        "mac_vault_policy" => json!({"workspace": workspace, "vault": vault, "fields": [
            ["strategy", hex::encode("cloud")], ["state", hex::encode("active")],
            ["lease_seconds", "0000012c"], ["generation", "00000007"]]}),
        "mac_provider" => json!({"workspace": workspace, "provider": provider, "fields": [
            ["vault", vault], ["kind", hex::encode("cloud")], ["tenant_id", Value::Null], ["client_id", ""],
            ["vault_url", ""], ["key_name", ""], ["credential_id", id("aa")], ["sealed_credential", "f0".repeat(120)],
            ["revision", "0000000000000001"]]}),
        "mac_job" => json!({"workspace": workspace, "job": id("0b"), "fields": [
            ["kind", hex::encode("move")], ["vault", vault], ["target", id("23")], ["whole", "01"], ["weakens", "00"],
            ["state", hex::encode("running")], ["started_by", id("cc")], ["created_at", "0000018bcfe56800"],
            ["chosen", Value::Null]]}),
        "mac_audit" => json!({"event": hex::encode("canonical bytes of an event")}),
        token => json!({"token": hex::encode(format!("srm_a token for {token}"))}),
    }
}

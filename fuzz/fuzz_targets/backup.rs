//! The backup reader, before and behind the seal: bytes of strangers are refused, and what is authentic but nonsense is
//! refused or read as rows that are written and read again alike.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use strongroom::{
    backup::file::{BackupReader, BackupWriter, Manifest},
    store::rows::Value,
};
use strongroom_envelope::{InstanceContext, InstanceKey, InstanceKeys, SystemRandom, seal};

static KEYS: LazyLock<Arc<InstanceKeys>> = LazyLock::new(|| {
    Arc::new(InstanceKeys::new(InstanceKey::generate(&SystemRandom::new()).expect("random"), Vec::new()))
});

const HEAD: &[u8; 21] = b"SRBK\x01AAAAAAAAAAAAAAAA";

/// A manifest of two tables, as `docs/format.md` has it, so that rows are reached without guessing one.
const MANIFEST: &[u8] = b"\x00\x84\x01\x00\x1a\x00\x01\x00\x00\x82\
    \x83\x61a\x82\x82\x62id\x64UUID\x82\x61n\x66BIGINT\x81\x00\
    \x83\x61b\x82\x82\x61t\x64TEXT\x82\x61x\x65BYTEA\x81\x00";

fuzz_target!(|data: &[u8]| {
    assert!(rows(data).is_none(), "bytes of a stranger are a backup");
    let Some((&how, rest)) = data.split_first() else { return };
    let parts = parts(rest);
    let known = (how % 2 == 0).then_some(MANIFEST);
    let file = sealed(known.into_iter().chain(parts));
    let Some((manifest, read)) = rows(&file) else { return };
    let mut writer =
        BackupWriter::begin(Vec::new(), Arc::clone(&KEYS), Arc::new(SystemRandom::new()), &manifest).expect("memory");
    for (table, row) in &read {
        writer.row(*table, row).expect("what was read can be written");
    }
    let (again, _) = writer.finish().expect("memory");
    assert_eq!(rows(&again), Some((manifest, read)));
});

/// All that a whole backup holds.
#[expect(clippy::type_complexity, reason = "said once, here")]
fn rows(file: &[u8]) -> Option<(Manifest, Vec<(usize, Vec<Value>)>)> {
    let mut reader = BackupReader::begin(file, Arc::clone(&KEYS)).ok()?;
    let mut rows = Vec::new();
    while let Some(row) = reader.next_row().ok()? {
        rows.push(row);
    }
    Some((reader.manifest().clone(), rows))
}

/// Pieces of at most 255 bytes, each after its length.
fn parts(mut data: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some((&length, rest)) = data.split_first() {
        let (part, rest) = rest.split_at(rest.len().min(length.into()));
        parts.push(part);
        data = rest;
    }
    parts
}

/// A file of these parts, each authentic in its place.
fn sealed<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut file = HEAD.to_vec();
    for (number, part) in parts.enumerate() {
        let place = InstanceContext::Backup { backup: [b'A'; 16], part: number as u64 };
        let blob = seal(&**KEYS, &place, part, &SystemRandom::new()).expect("random");
        file.extend_from_slice(&(blob.len() as u32).to_be_bytes());
        file.extend_from_slice(&blob);
    }
    file
}

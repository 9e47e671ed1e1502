//! The plaintext of overview and details, once opened: our own form is read, everything else is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom::item::{Content, ItemType, Overview, Patch, read_details};
use strongroom_envelope::{Plaintext, pad_256};

fuzz_target!(|data: &[u8]| {
    for payload in [Plaintext::new(data.to_vec()), pad_256(data.to_vec())] {
        if let Ok(fields) = read_details(&payload) {
            assert!(written(overview(), fields).details()[..] == payload[..], "details have a second encoding");
        }
        if let Ok(read) = Overview::read(&payload) {
            let details = read.details;
            let again = written(read, Vec::new()).overview(details);
            assert!(again[..] == payload[..], "an overview has a second encoding");
        }
    }
});

fn overview() -> Overview {
    Overview {
        item_type: ItemType::Secret,
        kind: None,
        title: "a".into(),
        urls: vec![],
        usernames: vec![],
        labels: vec![],
        details: strongroom_envelope::Commitment([0; 32]),
    }
}

fn written(overview: Overview, fields: Vec<strongroom::item::Field>) -> Content {
    Content::patched(overview, fields, Patch::default())
}

//! The instance key's file: what was read has its own checksum, and is written as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_envelope::InstanceKeys;

fuzz_target!(|text: &str| {
    let Ok(keys) = InstanceKeys::parse_key_file(text) else { return };
    for key in keys.iter() {
        assert!(text.contains(key.to_key_file().trim()), "a key that the text does not have");
    }
});

//! The stored form of an audit event: there is one encoding of each, and everything else is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom::audit::Entry;
use strongroom_envelope::digest;

fuzz_target!(|data: &[u8]| {
    // The hash is that of its canonical bytes, so these must have been them.
    if let Ok(entry) = Entry::decode(data) {
        assert_eq!(entry.hash(), digest(data));
    }
});

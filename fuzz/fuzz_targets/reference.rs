//! `strongroom://vault/item/field`: what was read, written and read again is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use strongroom::cli::reference::Reference;

fuzz_target!(|text: &str| {
    for text in [text.to_owned(), format!("strongroom://{text}")] {
        let Ok(read) = text.parse::<Reference>() else { continue };
        assert!(Reference::looks_like_one(&text));
        let part = |name: &str| utf8_percent_encode(name, NON_ALPHANUMERIC).to_string();
        let (vault, item, field) = (part(&read.vault), part(&read.item), part(&read.field));
        let query = if read.otp { "?attribute=otp" } else { "" };
        let again: Result<Reference, _> = format!("strongroom://{vault}/{item}/{field}{query}").parse();
        assert_eq!(again, Ok(read));
    }
});

//! Other managers' exports: any file is read or refused, and what a refusal or a report says has nothing of the file in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom::import::{Format, detect, parse};

/// A word that stands in no message of ours.
const MARK: &str = "qxzq";

fuzz_target!(|data: &[u8]| {
    if let Ok(format) = detect(data) {
        read(data, format);
    }
    for format in [Format::Chrome, Format::Columns, Format::Bitwarden] {
        read(data, format);
    }
});

fn read(data: &[u8], format: Format) {
    match parse(data, format) {
        Err(error) => assert!(!error.to_string().contains(MARK) || names_a_column(&error.to_string())),
        Ok(mut parsed) => {
            let before = parsed.drafts.len();
            assert_eq!(parsed.duplicates().len(), parsed.remove_duplicates().len());
            assert!(parsed.drafts.len() <= before && parsed.duplicates().is_empty());
        }
    }
}

/// A wrong heading is named, so that it can be corrected; it is no secret.
fn names_a_column(message: &str) -> bool {
    message.contains("column") || message.contains("head")
}

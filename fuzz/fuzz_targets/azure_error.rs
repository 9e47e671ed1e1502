//! Bodies of refusals, of Azure or of whoever answers in its place: read as one code, said in one line that can do nothing to
//! a terminal, without a token in it; and what is no answer of Azure's is no denial.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_keys::{Class, KeyFailure, Operation, azure::read_refusal};

fuzz_target!(|data: &[u8]| {
    let [which, low, high, body @ ..] = data else { return };
    let operation = [Operation::Describe, Operation::Wrap, Operation::Unwrap][usize::from(which % 3)];
    // Every status that HTTP has, those that Azure uses more often.
    let status = match high % 8 {
        0 => 400 + u16::from(*low) % 200,
        known => [400, 401, 403, 404, 408, 429, 500, 503][usize::from(known)],
    };
    let (code, detail) = read_refusal(which % 2 == 0, status, body, operation);
    assert!(!detail.chars().any(char::is_control), "{detail:?}");
    assert!(detail.chars().count() < 1000 && !detail.contains("eyJ"), "{detail:?}");
    let failure = KeyFailure::new(code, operation, &detail);
    if serde_free(body) {
        assert_ne!(failure.class, Class::Denial, "{status} with what is no JSON was taken for a denial");
    }
});

/// Certainly no JSON object.
fn serde_free(body: &[u8]) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{')
}

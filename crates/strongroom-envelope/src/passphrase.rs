//! Files under a passphrase, for exports that leave Strongroom: the construction of Bitwarden's password-protected
//! exports, so that its clients and others read them. Nothing that stays in Strongroom is sealed like this.
//!
//! ```text
//! master  = PBKDF2-HMAC-SHA-256(passphrase, salt text, iterations), or
//!           Argon2id 1.3(passphrase, SHA-256(salt text), iterations, MiB, lanes)          32 bytes
//! key     = HKDF-Expand-SHA-256(master, "enc")    mac key = HKDF-Expand-SHA-256(master, "mac")    32 bytes each
//! body    = AES-256-CBC with PKCS #7 padding, under a random IV
//! mac     = HMAC-SHA-256(mac key, IV ‖ body)
//! ```
//!
//! Sources: bitwarden.com/help/encrypted-export and bitwarden.com/help/kdf-algorithms; bitwarden/sdk-internal,
//! `crates/bitwarden-exporters/src/encrypted_json.rs`; g3bk47/bwJsonDecryptor. The salt's text, not the bytes that it
//! encodes, goes into the derivation.

use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, StreamingEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{digest, hkdf, hmac, pbkdf2};

use crate::key::{Plaintext, Secret32};
use crate::random::{Random, RandomFailed};

/// How a passphrase becomes a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassphraseKdf {
    /// PBKDF2-HMAC-SHA-256.
    Pbkdf2 { iterations: u32 },
    /// Argon2id; memory in MiB.
    Argon2id { iterations: u32, memory: u32, lanes: u32 },
}

impl PassphraseKdf {
    /// What we write: Bitwarden's own default, and OWASP's least for PBKDF2-HMAC-SHA-256 (Password Storage Cheat Sheet).
    /// Every reader of the format knows it; some know no Argon2id.
    pub const DEFAULT: Self = Self::Pbkdf2 { iterations: 600_000 };

    /// Whether it costs no more than Bitwarden lets anybody choose; a file that demands more is made to hurt its reader.
    fn is_bearable(self) -> bool {
        match self {
            Self::Pbkdf2 { iterations } => (1..=2_000_000).contains(&iterations),
            Self::Argon2id { iterations, memory, lanes } => {
                (1..=10).contains(&iterations) && (1..=1024).contains(&memory) && (1..=16).contains(&lanes)
            }
        }
    }
}

/// The two keys that a passphrase gives with one salt.
pub struct PassphraseKeys {
    encryption: Secret32,
    mac: Secret32,
}

/// Why nothing came of a passphrase or of what is under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseError {
    #[error("the file asks for a key derivation that is out of bounds")]
    Unbearable,
    #[error("there is not enough memory for the key derivation that the file asks for")]
    Memory,
    #[error("the passphrase is another one, or the file was changed or cut off")]
    NotOpened,
}

impl PassphraseKeys {
    /// Derives the keys: hundreds of milliseconds of work, on purpose. `salt` is the text that stands in the file.
    pub fn derive(passphrase: &[u8], salt: &str, kdf: PassphraseKdf) -> Result<Self, PassphraseError> {
        if !kdf.is_bearable() {
            return Err(PassphraseError::Unbearable);
        }
        let mut master = Secret32::zeroed();
        match kdf {
            PassphraseKdf::Pbkdf2 { iterations } => {
                let iterations = NonZeroU32::new(iterations).ok_or(PassphraseError::Unbearable)?;
                pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt.as_bytes(), passphrase, master.as_mut());
            }
            PassphraseKdf::Argon2id { iterations, memory, lanes } => {
                let salt = digest::digest(&digest::SHA256, salt.as_bytes());
                let params =
                    Params::new(memory * 1024, iterations, lanes, None).map_err(|_| PassphraseError::Unbearable)?;
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                    .hash_password_into(passphrase, salt.as_ref(), master.as_mut())
                    .map_err(|_| PassphraseError::Memory)?;
            }
        }
        Ok(Self { encryption: expanded(&master, b"enc"), mac: expanded(&master, b"mac") })
    }

    /// Encrypts one short text in one go.
    pub fn encrypt(&self, plaintext: &[u8], random: &dyn Random) -> Result<Encrypted, RandomFailed> {
        let mut stream = self.stream(random)?;
        let mut body = Vec::new();
        stream.push(plaintext, &mut body);
        let iv = stream.iv;
        let mac = stream.finish(&mut body);
        Ok(Encrypted { iv, body, mac })
    }

    /// Encrypts what comes piece by piece, under a new IV.
    pub fn stream(&self, random: &dyn Random) -> Result<PassphraseStream, RandomFailed> {
        let mut iv = [0; 16];
        random.fill(&mut iv)?;
        let context = EncryptionContext::Iv128(FixedLength::from(&iv));
        let cipher = StreamingEncryptingKey::less_safe_cbc_pkcs7(cipher_key(&self.encryption), context)
            .expect("AES-256 does CBC with an IV of 16 bytes");
        let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.mac.expose()));
        mac.update(&iv);
        Ok(PassphraseStream { iv, cipher, mac })
    }

    /// Opens what [`PassphraseKeys::encrypt`] or a stream gave; the MAC is compared first.
    pub fn decrypt(&self, Encrypted { iv, mut body, mac }: Encrypted) -> Result<Plaintext, PassphraseError> {
        let mut found = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.mac.expose()));
        found.update(&iv);
        found.update(&body);
        aws_lc_rs::constant_time::verify_slices_are_equal(found.sign().as_ref(), &mac)
            .map_err(|_| PassphraseError::NotOpened)?;
        let key = PaddedBlockDecryptingKey::cbc_pkcs7(cipher_key(&self.encryption)).expect("AES-256 does CBC");
        let context = DecryptionContext::Iv128(FixedLength::from(&iv));
        let length = key.decrypt(&mut body, context).map_err(|_| PassphraseError::NotOpened)?.len();
        // What is cut off is padding.
        body.truncate(length);
        Ok(Plaintext::new(body))
    }
}

/// Ciphertext with what it takes to open it.
pub struct Encrypted {
    pub iv: [u8; 16],
    pub body: Vec<u8>,
    pub mac: [u8; 32],
}

/// A ciphertext that grows.
pub struct PassphraseStream {
    /// Goes before the body.
    pub iv: [u8; 16],
    cipher: StreamingEncryptingKey,
    mac: hmac::Context,
}

impl PassphraseStream {
    /// Appends the ciphertext of `plaintext` to `out`; up to 15 bytes of it come with the next call only.
    pub fn push(&mut self, plaintext: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + plaintext.len() + BLOCK, 0);
        let update = self.cipher.update(plaintext, &mut out[start..]).expect("the room is what update asks for");
        let written = update.written().len();
        out.truncate(start + written);
        self.mac.update(&out[start..]);
    }

    /// Appends the last block and returns the MAC of all.
    pub fn finish(mut self, out: &mut Vec<u8>) -> [u8; 32] {
        let mut last = [0; BLOCK];
        let (_, update) = self.cipher.finish(&mut last).expect("the room is one block");
        self.mac.update(update.written());
        out.extend_from_slice(update.written());
        self.mac.sign().as_ref().try_into().expect("HMAC-SHA-256 gives 32 bytes")
    }
}

const BLOCK: usize = 16;

fn cipher_key(key: &Secret32) -> UnboundCipherKey {
    UnboundCipherKey::new(&AES_256, key.expose()).expect("32 bytes are a key of AES-256")
}

fn expanded(master: &Secret32, info: &[u8]) -> Secret32 {
    let mut key = Secret32::zeroed();
    hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, master.expose())
        .expand(&[info], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(key.as_mut()))
        .expect("32 bytes are one block of HKDF");
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    const QUICK: PassphraseKdf = PassphraseKdf::Pbkdf2 { iterations: 1 };

    #[test]
    fn pieces_of_any_size_open_as_one_text() {
        let keys = PassphraseKeys::derive(b"tide and lamp", "c2FsdA==", QUICK).expect("derived");
        let text: Vec<u8> = (0..5000u32).map(|number| number as u8).collect();
        for size in [1, 15, 16, 17, 4096, 5000] {
            let mut stream = keys.stream(&SystemRandom::new()).expect("random");
            let mut body = Vec::new();
            text.chunks(size).for_each(|piece| stream.push(piece, &mut body));
            let iv = stream.iv;
            let mac = stream.finish(&mut body);
            assert_eq!(body.len(), 5008);
            assert_eq!(&keys.decrypt(Encrypted { iv, body, mac }).expect("opened")[..], &text[..]);
        }
    }

    #[test]
    fn nothing_changed_and_no_other_passphrase_opens() {
        let random = SystemRandom::new();
        let keys = PassphraseKeys::derive(b"tide and lamp", "c2FsdA==", QUICK).expect("derived");
        let sealed = || keys.encrypt(b"hunter2", &random).expect("random");
        assert_eq!(&keys.decrypt(sealed()).expect("opened")[..], b"hunter2");
        for (passphrase, salt) in [("tide and lamb", "c2FsdA=="), ("tide and lamp", "c2FsdB==")] {
            let others = PassphraseKeys::derive(passphrase.as_bytes(), salt, QUICK).expect("derived");
            assert_eq!(others.decrypt(sealed()).err(), Some(PassphraseError::NotOpened));
        }
        let spoil: [fn(&mut Encrypted); 4] = [
            |sealed| sealed.iv[0] ^= 1,
            |sealed| sealed.body[0] ^= 1,
            |sealed| sealed.mac[31] ^= 1,
            |sealed| sealed.body.clear(),
        ];
        for spoil in spoil {
            let mut sealed = sealed();
            spoil(&mut sealed);
            assert_eq!(keys.decrypt(sealed).err(), Some(PassphraseError::NotOpened));
        }
    }

    #[test]
    fn a_file_cannot_ask_for_more_work_than_anybody_wants() {
        for kdf in [
            PassphraseKdf::Pbkdf2 { iterations: 0 },
            PassphraseKdf::Pbkdf2 { iterations: u32::MAX },
            PassphraseKdf::Argon2id { iterations: 3, memory: u32::MAX, lanes: 4 },
            PassphraseKdf::Argon2id { iterations: 11, memory: 64, lanes: 4 },
            PassphraseKdf::Argon2id { iterations: 3, memory: 64, lanes: 0 },
        ] {
            assert_eq!(PassphraseKeys::derive(b"x", "salt", kdf).err(), Some(PassphraseError::Unbearable), "{kdf:?}");
        }
    }
}

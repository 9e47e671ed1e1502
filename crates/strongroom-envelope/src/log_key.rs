//! The key that signs checkpoints of the audit log: Ed25519 (RFC 8032). Its seed is kept sealed under the instance key;
//! the public half goes to whoever keeps checkpoints, so that they verify a copy of the log without any secret.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use crate::context::{Kind, Tuple};
use crate::instance_key::InstanceKeys;
use crate::key::Secret32;
use crate::random::{Random, RandomFailed};
use crate::seal::{OpenError, open_under_instance, seal_under_instance};

/// A signing key; made once an instance.
pub struct LogKey(Secret32);

/// The public half of a [`LogKey`], 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPublicKey(pub [u8; 32]);

/// Length of a signature in bytes.
pub const SIGNATURE_LEN: usize = 64;

impl LogKey {
    /// A new key from 32 random bytes.
    pub fn generate(random: &dyn Random) -> Result<Self, RandomFailed> {
        Secret32::generate(random).map(Self)
    }

    /// The half that verifies.
    pub fn public(&self) -> LogPublicKey {
        let mut public = [0; 32];
        public.copy_from_slice(self.pair().public_key().as_ref());
        LogPublicKey(public)
    }

    /// The signature of `message`, which is always the same.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        let mut signature = [0; SIGNATURE_LEN];
        signature.copy_from_slice(self.pair().sign(message).as_ref());
        signature
    }

    fn pair(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(self.0.expose()).expect("any 32 bytes are a seed")
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogKey(..)")
    }
}

impl LogPublicKey {
    /// Whether `signature` is one of `message` under this key.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

/// Seals a log key under the current instance key. 120 bytes.
pub fn seal_log_key(keys: &InstanceKeys, key: &LogKey, random: &dyn Random) -> Result<Vec<u8>, RandomFailed> {
    seal_under_instance(keys, |id| Tuple::context(Kind::LogKey, Some(id)), key.0.expose(), random)
}

/// Opens what [`seal_log_key`] made, under the instance key that the blob names.
pub fn open_log_key(keys: &InstanceKeys, blob: &[u8]) -> Result<LogKey, OpenError> {
    let seed = open_under_instance(keys, Kind::LogKey, |id| Tuple::context(Kind::LogKey, Some(id)), blob)?;
    Secret32::from_slice(&seed).map(LogKey).ok_or(OpenError::WrongKeyLength)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance_key::InstanceKey;
    use crate::random::SystemRandom;

    #[test]
    fn signatures_are_those_of_rfc_8032() {
        let hex = |text: &str| hex::decode(text).expect("hex");
        // Section 7.1, test 2.
        let seed = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let key = LogKey(Secret32::from_slice(&seed).expect("32 bytes"));
        assert_eq!(key.public().0[..], hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"));
        let signature = key.sign(&[0x72]);
        assert_eq!(
            signature[..],
            hex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                 085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00")
        );
        assert!(key.public().verifies(&[0x72], &signature));
        assert!(!key.public().verifies(&[0x73], &signature));
    }

    #[test]
    fn a_sealed_key_opens_under_its_instance_key_and_under_no_other() {
        let random = SystemRandom::new();
        let keys = || InstanceKeys::new(InstanceKey::generate(&random).expect("randomness"), Vec::new());
        let (ours, theirs) = (keys(), keys());
        let key = LogKey::generate(&random).expect("randomness");
        let blob = seal_log_key(&ours, &key, &random).expect("randomness");
        assert_eq!(blob.len(), 120);
        assert_eq!(open_log_key(&ours, &blob).expect("it opens").public(), key.public());
        assert!(matches!(open_log_key(&theirs, &blob), Err(OpenError::UnknownInstanceKey(_))));
    }
}

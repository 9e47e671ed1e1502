//! The keys below the KEK, and plaintext. None of them prints, clones or serialises; all are zeroized on drop.
//!
//! There is no way to make a key from bytes or to read its bytes outside of this crate: a key is generated, or unwrapped.

use std::fmt;
use std::ops::Deref;

use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::random::{Random, RandomFailed};

/// 32 secret bytes on the heap, so that moving a key leaves no copy on the stack.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Secret32(Box<[u8; 32]>);

impl Secret32 {
    /// 32 bytes of zeros, to be filled in place.
    pub(crate) fn zeroed() -> Self {
        Self(Box::new([0; 32]))
    }

    pub(crate) fn generate(random: &dyn Random) -> Result<Self, RandomFailed> {
        let mut secret = Self::zeroed();
        random.fill(secret.as_mut())?;
        Ok(secret)
    }

    /// `None` if `bytes` are not exactly 32.
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut secret = Self::zeroed();
        if bytes.len() != secret.0.len() {
            return None;
        }
        secret.0.copy_from_slice(bytes);
        Some(secret)
    }

    pub(crate) fn as_mut(&mut self) -> &mut [u8; 32] {
        &mut self.0
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

macro_rules! key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name(pub(crate) Secret32);

        impl $name {
            /// A new key of 32 random bytes.
            pub fn generate(random: &dyn Random) -> Result<Self, RandomFailed> {
                Secret32::generate(random).map(Self)
            }

            /// Whether both are the same key, in constant time.
            pub fn matches(&self, other: &Self) -> bool {
                self.0.expose().ct_eq(other.0.expose()).into()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

key!(
    /// A vault's key of one generation. Wraps data keys and nothing else; lives in memory under a lease.
    VaultKey
);
key!(
    /// An item's key. Seals the item's overviews, details and attachments, each under its own derived subkey.
    DataKey
);
key!(
    /// The KEK of built-in Cloud vaults. Wraps vault keys; stored wrapped under the instance key.
    CloudKek
);

/// Opened content. Reads as `&[u8]`; zeroized on drop; cannot be printed, cloned or serialised.
pub struct Plaintext(Zeroizing<Vec<u8>>);

impl Plaintext {
    /// Takes over `bytes`, spare capacity included, to zeroize them in the end.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn zeroed(len: usize) -> Self {
        Self::new(vec![0; len])
    }

    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Deref for Plaintext {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

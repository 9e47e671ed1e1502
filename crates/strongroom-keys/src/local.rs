//! The KEK of built-in Cloud vaults, held by this installation and sealed under its instance key.

use std::time::Duration;

use async_trait::async_trait;
use strongroom_envelope::{
    CloudKek, CloudKekPlace, Plaintext, Random, WrapRecord, unwrap_record_under_cloud_kek, wrap_record_under_cloud_kek,
};
use uuid::Uuid;

use crate::{
    Code, KeyDescription, KeyFailure, KeyProvider, KeyType, Kid, Operation, Receipts, TokenUse, Unwrapped, Wrapped,
};

/// The sealing construction of the envelope, AES-256-GCM with a key commitment.
pub const ALGORITHM: &str = "A256GCM-CHUNKED";

/// A Cloud KEK in memory. Answers at once, so deadlines and token use mean nothing to it.
pub struct LocalProvider {
    kek: CloudKek,
    place: CloudKekPlace,
    random: Box<dyn Random>,
}

impl LocalProvider {
    pub fn new(kek: CloudKek, place: CloudKekPlace, random: Box<dyn Random>) -> LocalProvider {
        LocalProvider { kek, place, random }
    }

    /// The kid that this KEK's wraps carry.
    pub fn kid(&self) -> Kid {
        Kid::Cloud(Uuid::from_bytes(self.place.kek).simple().to_string())
    }
}

#[async_trait]
impl KeyProvider for LocalProvider {
    /// None: only a restored instance key or database mends it.
    fn command(&self, _failure: &KeyFailure, _kid: Option<&Kid>) -> Option<String> {
        None
    }

    async fn describe(&self, _deadline: Duration) -> Result<(KeyDescription, Receipts), KeyFailure> {
        let description = KeyDescription {
            kid: self.kid(),
            key_type: KeyType::Cloud,
            bits: Some(256),
            operations: vec!["wrapKey".to_owned(), "unwrapKey".to_owned()],
            enabled: true,
            not_before: None,
            expires: None,
            created: None,
            recovery_level: None,
            recoverable_days: None,
        };
        Ok((description, Receipts::new()))
    }

    async fn wrap_key(&self, record: &WrapRecord, _deadline: Duration) -> Result<Wrapped, KeyFailure> {
        let bytes = wrap_record_under_cloud_kek(&self.kek, &self.place, record, self.random.as_ref())
            .map_err(|error| KeyFailure::new(Code::NoRandom, Operation::Wrap, error.to_string()))?;
        Ok(Wrapped { kid: self.kid(), algorithm: ALGORITHM, bytes, receipts: Receipts::new() })
    }

    async fn unwrap_key(
        &self,
        kid: &Kid,
        wrapped: &[u8],
        _token: TokenUse,
        _deadline: Duration,
    ) -> Result<Unwrapped, KeyFailure> {
        if *kid != self.kid() {
            let detail = format!("{kid} was asked for, {} is held", self.kid());
            return Err(KeyFailure::new(Code::ForeignKid, Operation::Unwrap, detail));
        }
        let record = unwrap_record_under_cloud_kek(&self.kek, &self.place, wrapped)
            .map_err(|error| KeyFailure::new(Code::NotOpened, Operation::Unwrap, error.to_string()))?;
        Ok(Unwrapped { record: Plaintext::new(record.to_vec()), receipts: Receipts::new() })
    }
}

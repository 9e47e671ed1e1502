//! Keys under keys: data keys under the vault key, the vault key's record for the KEK, Cloud KEKs under the instance key.
//!
//! ```text
//! record = "SRVK"(4) ‖ format(1) = 1 ‖ workspace(16) ‖ vault(16) ‖ generation(4, big-endian) ‖ vault key(32)     73 bytes
//! ```
//!
//! The record is what RSA-OAEP-256 wraps at Key Vault, which takes no label: the record itself says where it belongs, and
//! every field is compared after the unwrap. A Cloud KEK wraps the same record, sealed.

use std::ops::Deref;

use crate::context::{Kind, Tuple};
use crate::instance_key::{InstanceKeyId, InstanceKeys};
use crate::key::{CloudKek, DataKey, Plaintext, Secret32, VaultKey};
use crate::place::{CloudKekPlace, DataKeyPlace, VaultKeyPlace};
use crate::random::{Random, RandomFailed};
use crate::seal::{OpenError, open_under, open_under_instance, seal_under, seal_under_instance};

/// Wraps a data key under the vault key of `place.generation`. 112 bytes.
pub fn wrap_data_key(
    vault_key: &VaultKey,
    place: &DataKeyPlace,
    data_key: &DataKey,
    random: &dyn Random,
) -> Result<Vec<u8>, RandomFailed> {
    seal_under(&vault_key.0, &data_key_tuple(place), None, data_key.0.expose(), random)
}

/// Unwraps what [`wrap_data_key`] made for the same place.
pub fn unwrap_data_key(vault_key: &VaultKey, place: &DataKeyPlace, blob: &[u8]) -> Result<DataKey, OpenError> {
    let key = open_under(&vault_key.0, Kind::DataKeyWrap, &data_key_tuple(place), blob)?;
    secret_of(&key).map(DataKey)
}

/// What a KEK wraps: a vault key with its place. Reads as `&[u8]`; zeroized on drop.
pub struct WrapRecord(Plaintext);

/// Length of every [`WrapRecord`] in bytes; RSA-2048 with OAEP-256 holds 190.
pub const WRAP_RECORD_LEN: usize = 4 + 1 + 16 + 16 + 4 + 32;

/// The record of a vault key, to be wrapped by a KEK.
pub fn wrap_record(place: &VaultKeyPlace, vault_key: &VaultKey) -> WrapRecord {
    let mut record = Vec::with_capacity(WRAP_RECORD_LEN);
    record.extend_from_slice(RECORD_MAGIC);
    record.push(RECORD_FORMAT);
    record.extend_from_slice(&place.workspace);
    record.extend_from_slice(&place.vault);
    record.extend_from_slice(&place.generation.to_be_bytes());
    record.extend_from_slice(vault_key.0.expose());
    WrapRecord(Plaintext::new(record))
}

/// The vault key of an unwrapped record, if every field of the record says `place`.
///
/// The caller zeroizes `bytes`, which are whatever the provider answered.
pub fn read_wrap_record(bytes: &[u8], place: &VaultKeyPlace) -> Result<VaultKey, RecordError> {
    let record: &[u8; WRAP_RECORD_LEN] = bytes.try_into().map_err(|_| RecordError::Length { found: bytes.len() })?;
    let (magic, rest) = record.split_at(4);
    let (format, rest) = rest.split_at(1);
    let (workspace, rest) = rest.split_at(16);
    let (vault, rest) = rest.split_at(16);
    let (generation, key) = rest.split_at(4);
    if magic != RECORD_MAGIC {
        return Err(RecordError::Magic);
    }
    if format != [RECORD_FORMAT] {
        return Err(RecordError::Format { found: format[0] });
    }
    if workspace != place.workspace {
        return Err(RecordError::Workspace);
    }
    if vault != place.vault {
        return Err(RecordError::Vault);
    }
    if generation != place.generation.to_be_bytes() {
        return Err(RecordError::Generation);
    }
    Ok(VaultKey(Secret32::from_slice(key).expect("the last 32 of 73 bytes")))
}

/// Wraps a vault key's record under a Cloud KEK, as Key Vault does under an RSA key. 153 bytes.
pub fn wrap_record_under_cloud_kek(
    kek: &CloudKek,
    place: &CloudKekPlace,
    record: &WrapRecord,
    random: &dyn Random,
) -> Result<Vec<u8>, RandomFailed> {
    seal_under(&kek.0, &cloud_tuple(Kind::VaultKeyWrap, None, place), None, record, random)
}

/// Unwraps what [`wrap_record_under_cloud_kek`] made; the answer goes to [`read_wrap_record`].
pub fn unwrap_record_under_cloud_kek(
    kek: &CloudKek,
    place: &CloudKekPlace,
    blob: &[u8],
) -> Result<WrapRecord, OpenError> {
    let context = cloud_tuple(Kind::VaultKeyWrap, None, place);
    open_under(&kek.0, Kind::VaultKeyWrap, &context, blob).map(WrapRecord)
}

/// Wraps a Cloud KEK under the current instance key. 120 bytes.
pub fn wrap_cloud_kek(
    keys: &InstanceKeys,
    place: &CloudKekPlace,
    kek: &CloudKek,
    random: &dyn Random,
) -> Result<Vec<u8>, RandomFailed> {
    let tuple = |id| cloud_tuple(Kind::CloudKekWrap, Some(id), place);
    seal_under_instance(keys, tuple, kek.0.expose(), random)
}

/// Unwraps what [`wrap_cloud_kek`] made, under the instance key that the blob names.
pub fn unwrap_cloud_kek(keys: &InstanceKeys, place: &CloudKekPlace, blob: &[u8]) -> Result<CloudKek, OpenError> {
    let tuple = |id| cloud_tuple(Kind::CloudKekWrap, Some(id), place);
    let key = open_under_instance(keys, Kind::CloudKekWrap, tuple, blob)?;
    secret_of(&key).map(CloudKek)
}

impl From<WrapRecord> for Plaintext {
    /// The same bytes, not a copy: what a provider answers an unwrap with.
    fn from(record: WrapRecord) -> Self {
        record.0
    }
}

impl Deref for WrapRecord {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Why an unwrapped record is not the vault key that was asked for. A fault, never a denial: somebody changed a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the unwrapped record is {found} bytes long instead of 73: the wrap was not made by Strongroom")]
    Length { found: usize },
    #[error("the unwrapped record does not begin with SRVK: the wrap was not made by Strongroom")]
    Magic,
    #[error("the unwrapped record has format {found}, which this build does not know; a newer build wrote it")]
    Format { found: u8 },
    #[error("the unwrapped record belongs to another workspace: the wrap was moved")]
    Workspace,
    #[error("the unwrapped record belongs to another vault: the wrap was moved")]
    Vault,
    #[error("the unwrapped record belongs to another generation of the vault key: the wrap was moved")]
    Generation,
}

const RECORD_MAGIC: &[u8] = b"SRVK";
const RECORD_FORMAT: u8 = 1;

fn data_key_tuple(place: &DataKeyPlace) -> Tuple {
    Tuple::context(Kind::DataKeyWrap, None)
        .bytes(&place.workspace)
        .bytes(&place.vault)
        .u32(place.generation)
        .bytes(&place.item)
        .bytes(&place.data_key)
}

fn cloud_tuple(kind: Kind, instance_key: Option<InstanceKeyId>, place: &CloudKekPlace) -> Tuple {
    Tuple::context(kind, instance_key).bytes(&place.workspace).bytes(&place.provider).bytes(&place.kek)
}

fn secret_of(plaintext: &[u8]) -> Result<Secret32, OpenError> {
    Secret32::from_slice(plaintext).ok_or(OpenError::WrongKeyLength)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    #[test]
    fn a_wrap_of_something_other_than_a_key_does_not_unwrap() {
        let random = SystemRandom::new();
        let vault_key = VaultKey::generate(&random).expect("the system has random bytes");
        let place =
            DataKeyPlace { workspace: [1; 16], vault: [2; 16], generation: 3, item: [4; 16], data_key: [5; 16] };
        for len in [0, 31, 33] {
            let blob = seal_under(&vault_key.0, &data_key_tuple(&place), None, &vec![0; len], &random)
                .expect("the system has random bytes");
            let refused = unwrap_data_key(&vault_key, &place, &blob).expect_err("it is no key");
            assert_eq!(refused, OpenError::WrongKeyLength);
        }
    }
}

//! Envelope encryption of Strongroom: keys, context, seal, wrap. No I/O, no clock, and the only crate that names a cipher.
mod chunked;
mod context;
mod instance_key;
mod key;
mod mac;
mod pad;
mod place;
mod random;
mod seal;
mod wrap;

pub use context::Kind;
pub use instance_key::{InstanceKey, InstanceKeyId, InstanceKeys, KeyFileError};
pub use key::{CloudKek, DataKey, Plaintext, VaultKey};
pub use mac::{
    Field, Mac, MacError, ProviderRow, TokenKind, VaultPolicyRow, WrapRow, audit_mac, digest,
    mac_provider_row, mac_vault_policy, mac_wrap_row, token_mac, token_macs_all_keys, verify_audit,
    verify_provider_row, verify_vault_policy, verify_wrap_row,
};
pub use pad::{PaddingError, check_padding, pad_256};
pub use place::{CloudKekPlace, DataKeyPlace, ItemPlace, VaultKeyPlace};
pub use random::{Random, RandomFailed, SystemRandom};
pub use seal::{
    Commitment, ContentKey, Context, InstanceContext, OpenError, commitment, open, seal,
};
pub use wrap::{
    RecordError, WRAP_RECORD_LEN, WrapRecord, read_wrap_record, unwrap_cloud_kek, unwrap_data_key,
    unwrap_record_under_cloud_kek, wrap_cloud_kek, wrap_data_key, wrap_record,
    wrap_record_under_cloud_kek,
};

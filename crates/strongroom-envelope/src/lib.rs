//! Envelope encryption of Strongroom: keys, seals, wraps and MACs. No I/O, no clock, and the only crate that names a
//! cipher. `docs/format.md` is the authority for every byte; each module below states its formulas.
//!
//! ```text
//! KEK            in the customer's Key Vault, never here; or a CloudKek under the instance key
//!  └ VaultKey    one per vault and generation          wrap_record → KEK → read_wrap_record
//!     └ DataKey  one per item                          wrap_data_key, unwrap_data_key
//!        └ overview, details, attachments              seal, open
//! InstanceKeys   outside of the database               seal, open credentials; MACs of rows, tokens, audit events
//!
//! blob    = "SRME" ‖ format ‖ suite ‖ kind ‖ flags ‖ [instance key id] ‖ salt(24) ‖ commitment(32) ‖ chunks
//! context = those 8 header bytes ‖ the kind's own tuple of ids, each with its length
//! key ‖ nonce ‖ commitment = HKDF-Expand-SHA-512(input key, "c2sp.org/chunked-encryption@v1+…" ‖ salt ‖ context)
//! mac     = HMAC-SHA-256(subkey(purpose), message), stored as instance key id(8) ‖ mac(32)
//! ```
//!
//! A blob opens only in the place that it was sealed for: nothing of the place is in the blob, all of it is in the key.
//! Keys have no bytes to the outside; they are generated or unwrapped, do not print, clone or serialise, and are zeroized
//! on drop. The type of a key decides what it may do: a [`VaultKey`] seals no content, a [`DataKey`] wraps no key.
//!
//! ```
//! use strongroom_envelope::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let random = SystemRandom::new();
//! let (vault_key, data_key) = (VaultKey::generate(&random)?, DataKey::generate(&random)?);
//! let (workspace, vault, item, id) = ([1; 16], [2; 16], [3; 16], [4; 16]);
//!
//! let slot = DataKeyPlace { workspace, vault, generation: 1, item, data_key: id };
//! let wrapped = wrap_data_key(&vault_key, &slot, &data_key, &random)?;
//! let place = ItemPlace { workspace, vault, item, data_key: id, revision: 1 };
//! let blob = seal(&data_key, &Context::Details(place), &pad_256(b"payload".to_vec()), &random)?;
//!
//! let data_key = unwrap_data_key(&vault_key, &slot, &wrapped)?;
//! let payload = open(&data_key, &Context::Details(place), &blob)?;
//! assert_eq!(&payload[..7], b"payload");
//! assert!(open(&data_key, &Context::Overview(place), &blob).is_err());
//! # Ok(())
//! # }
//! ```

mod chunked;
mod context;
mod instance_key;
mod key;
mod log_key;
mod mac;
mod pad;
mod passphrase;
mod place;
mod random;
mod request_id;
mod seal;
mod wrap;

pub use context::Kind;
pub use instance_key::{InstanceKey, InstanceKeyId, InstanceKeys, KeyFileError};
pub use key::{CloudKek, DataKey, Plaintext, VaultKey};
pub use log_key::{LogKey, LogPublicKey, open_log_key, seal_log_key};
pub use mac::{
    Field, JobRow, Mac, MacError, ProviderRow, TokenKind, VaultPolicyRow, WrapRow, audit_mac, digest, mac_job_row,
    mac_provider_row, mac_vault_policy, mac_wrap_row, token_mac, token_macs_all_keys, verify_audit, verify_job_row,
    verify_provider_row, verify_vault_policy, verify_wrap_row,
};
pub use pad::{PaddingError, check_padding, pad_256};
pub use passphrase::{Encrypted, PassphraseError, PassphraseKdf, PassphraseKeys, PassphraseStream};
pub use place::{CloudKekPlace, DataKeyPlace, ItemPlace, VaultKeyPlace};
pub use random::{Random, RandomFailed, SystemRandom};
pub use request_id::{RequestPlace, is_request_id, request_id, request_random};
pub use seal::{Commitment, ContentKey, Context, InstanceContext, OpenError, commitment, instance_key_of, open, seal};
pub use wrap::{
    RecordError, WRAP_RECORD_LEN, WrapRecord, read_wrap_record, unwrap_cloud_kek, unwrap_data_key,
    unwrap_record_under_cloud_kek, wrap_cloud_kek, wrap_data_key, wrap_record, wrap_record_under_cloud_kek,
};

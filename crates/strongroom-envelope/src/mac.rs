//! MACs under the instance key, so that somebody who can write the database cannot plant rows or tokens; and the digest.
//!
//! ```text
//! mac   = HMAC-SHA-256(subkey(purpose), message)        subkey: see `instance_key`
//! bytes = instance key id(8) ‖ mac(32)
//! row   : message = tuple(key id, row kind, …)          one purpose a kind of row
//! token : message = the token's bytes                   one purpose a kind of token
//! audit : message = the event's hash(32)
//! ```

use std::fmt;

use aws_lc_rs::{digest as sha2, hmac};

use crate::context::Tuple;
use crate::instance_key::{InstanceKey, InstanceKeyId, InstanceKeys};

/// A row that says how a vault key is wrapped. Its MAC is checked before Azure is called.
#[derive(Debug, Clone, Copy)]
pub struct WrapRow<'a> {
    pub workspace: [u8; 16],
    pub vault: [u8; 16],
    pub generation: u32,
    pub provider: [u8; 16],
    /// As the provider names it, such as `RSA-OAEP-256`.
    pub algorithm: &'a str,
    /// The full key id, with its key version.
    pub kid: &'a str,
    pub wrap: &'a [u8],
}

/// A vault's policy. `docs/format.md` fixes the names of the fields and their order.
#[derive(Debug, Clone, Copy)]
pub struct VaultPolicyRow<'a> {
    pub workspace: [u8; 16],
    pub vault: [u8; 16],
    pub fields: &'a [Field<'a>],
}

/// A provider: its URL, key and credentials. `docs/format.md` fixes the names of the fields and their order.
#[derive(Debug, Clone, Copy)]
pub struct ProviderRow<'a> {
    pub workspace: [u8; 16],
    pub provider: [u8; 16],
    pub fields: &'a [Field<'a>],
}

/// A job: what it may do, to what, and by whose leave. `docs/format.md` fixes the names of the fields and their order.
#[derive(Debug, Clone, Copy)]
pub struct JobRow<'a> {
    pub workspace: [u8; 16],
    pub job: [u8; 16],
    pub fields: &'a [Field<'a>],
}

/// A named field of a row; an absent value (SQL's NULL) is not an empty one.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    pub name: &'a str,
    pub value: Option<&'a [u8]>,
}

/// What a token is for. A token of one kind is none of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    Session,
    ApiToken,
    /// The one-time links: invitation, set-up, reset.
    Link,
    RecoveryCode,
}

/// A MAC with the id of the instance key that made it. Not secret. Compared by the `verify_…` functions only.
#[derive(Clone, Copy)]
pub struct Mac {
    instance_key: InstanceKeyId,
    tag: [u8; 32],
}

/// The MAC of a wrap row, under the current instance key.
pub fn mac_wrap_row(keys: &InstanceKeys, row: &WrapRow<'_>) -> Mac {
    mac(keys.current(), Purpose::WrapRow, row.message(keys.current().id()).as_slice())
}

/// Checks a wrap row's MAC, in constant time; to be done before the provider is called.
pub fn verify_wrap_row(keys: &InstanceKeys, row: &WrapRow<'_>, mac: &Mac) -> Result<(), MacError> {
    verify(keys, Purpose::WrapRow, mac, row.message(mac.instance_key).as_slice())
}

/// The MAC of a vault's policy, under the current instance key.
pub fn mac_vault_policy(keys: &InstanceKeys, row: &VaultPolicyRow<'_>) -> Mac {
    mac(keys.current(), Purpose::VaultPolicy, row.message(keys.current().id()).as_slice())
}

/// Checks a vault policy's MAC, in constant time.
pub fn verify_vault_policy(keys: &InstanceKeys, row: &VaultPolicyRow<'_>, mac: &Mac) -> Result<(), MacError> {
    verify(keys, Purpose::VaultPolicy, mac, row.message(mac.instance_key).as_slice())
}

/// The MAC of a provider, under the current instance key.
pub fn mac_provider_row(keys: &InstanceKeys, row: &ProviderRow<'_>) -> Mac {
    mac(keys.current(), Purpose::Provider, row.message(keys.current().id()).as_slice())
}

/// Checks a provider's MAC, in constant time; to be done before its credential is opened.
pub fn verify_provider_row(keys: &InstanceKeys, row: &ProviderRow<'_>, mac: &Mac) -> Result<(), MacError> {
    verify(keys, Purpose::Provider, mac, row.message(mac.instance_key).as_slice())
}

/// The MAC of a job, under the current instance key.
pub fn mac_job_row(keys: &InstanceKeys, row: &JobRow<'_>) -> Mac {
    mac(keys.current(), Purpose::Job, row.message(keys.current().id()).as_slice())
}

/// Checks a job's MAC, in constant time; to be done before anything is opened for it.
pub fn verify_job_row(keys: &InstanceKeys, row: &JobRow<'_>, mac: &Mac) -> Result<(), MacError> {
    verify(keys, Purpose::Job, mac, row.message(mac.instance_key).as_slice())
}

/// What is stored in place of a token, under the current instance key.
///
/// It vouches for the token's bytes, not for the other columns of its row: who writes the database can point the row of
/// his own token at another member. So `token` holds the id of whom it speaks for (for a recovery code: member ‖ code),
/// and the caller believes that id, not the row's.
pub fn token_mac(keys: &InstanceKeys, kind: TokenKind, token: &[u8]) -> Mac {
    mac(keys.current(), kind.purpose(), token)
}

/// What may be stored for a token: one MAC a loaded instance key, the current one first. Look up any of them.
pub fn token_macs_all_keys(keys: &InstanceKeys, kind: TokenKind, token: &[u8]) -> Vec<Mac> {
    keys.iter().map(|key| mac(key, kind.purpose(), token)).collect()
}

/// The MAC of an event of the audit chain, under the current instance key; `event_hash` is the [`digest`] of its canonical bytes.
pub fn audit_mac(keys: &InstanceKeys, event_hash: &[u8; 32]) -> Mac {
    mac(keys.current(), Purpose::Audit, event_hash)
}

/// Checks an audit event's MAC, in constant time.
pub fn verify_audit(keys: &InstanceKeys, event_hash: &[u8; 32], mac: &Mac) -> Result<(), MacError> {
    verify(keys, Purpose::Audit, mac, event_hash)
}

/// SHA-256, for the audit chain and for naming bytes.
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(sha2::digest(&sha2::SHA256, bytes).as_ref());
    out
}

impl Mac {
    /// Length of the stored form in bytes.
    pub const LEN: usize = 8 + 32;

    /// The stored form: key id, then MAC.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.instance_key.0);
        bytes[8..].copy_from_slice(&self.tag);
        bytes
    }

    /// Reads the stored form; fails only by its length, and proves nothing yet.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MacError> {
        let length = MacError::Length { found: bytes.len() };
        let (id, tag) = bytes.split_first_chunk::<8>().ok_or(length)?;
        let tag = tag.try_into().map_err(|_| length)?;
        Ok(Self { instance_key: InstanceKeyId(*id), tag })
    }

    /// Which instance key made it; rows with an older one are made anew in a rotation.
    pub fn instance_key(&self) -> InstanceKeyId {
        self.instance_key
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mac({}, {})", self.instance_key, hex::encode(self.tag))
    }
}

/// Why a MAC was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MacError {
    #[error("the stored MAC is {found} bytes long instead of 40: the row was changed outside of Strongroom")]
    Length { found: usize },
    #[error("the MAC was made with instance key {0}, which is not loaded; add it to the instance key file")]
    UnknownInstanceKey(InstanceKeyId),
    #[error("the MAC does not fit: the row was changed outside of Strongroom, or moved from another place")]
    Mismatch,
}

#[derive(Clone, Copy)]
enum Purpose {
    WrapRow,
    VaultPolicy,
    Provider,
    Job,
    Session,
    ApiToken,
    Link,
    RecoveryCode,
    Audit,
    AzureRequest,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::WrapRow => "mac/wrap-row",
            Self::VaultPolicy => "mac/vault-policy",
            Self::Provider => "mac/provider",
            Self::Job => "mac/job",
            Self::Session => "token/session",
            Self::ApiToken => "token/api",
            Self::Link => "token/link",
            Self::RecoveryCode => "token/recovery-code",
            Self::Audit => "mac/audit",
            Self::AzureRequest => "mac/azure-request",
        }
    }
}

impl TokenKind {
    fn purpose(self) -> Purpose {
        match self {
            Self::Session => Purpose::Session,
            Self::ApiToken => Purpose::ApiToken,
            Self::Link => Purpose::Link,
            Self::RecoveryCode => Purpose::RecoveryCode,
        }
    }
}

impl WrapRow<'_> {
    fn message(&self, id: InstanceKeyId) -> Tuple {
        row(id, "wrap-row")
            .bytes(&self.workspace)
            .bytes(&self.vault)
            .u32(self.generation)
            .bytes(&self.provider)
            .bytes(self.algorithm.as_bytes())
            .bytes(self.kid.as_bytes())
            .bytes(self.wrap)
    }
}

impl VaultPolicyRow<'_> {
    fn message(&self, id: InstanceKeyId) -> Tuple {
        named(row(id, "vault-policy").bytes(&self.workspace).bytes(&self.vault), self.fields)
    }
}

impl ProviderRow<'_> {
    fn message(&self, id: InstanceKeyId) -> Tuple {
        named(row(id, "provider").bytes(&self.workspace).bytes(&self.provider), self.fields)
    }
}

impl JobRow<'_> {
    fn message(&self, id: InstanceKeyId) -> Tuple {
        named(row(id, "job").bytes(&self.workspace).bytes(&self.job), self.fields)
    }
}

/// The MAC in the id of a request to Azure; see `request_id`.
pub(crate) fn request_mac(key: &InstanceKey, random: u64, target: &str, node: &[u8; 16]) -> [u8; 32] {
    let message = row(key.id(), "azure-request").u64(random).bytes(target.as_bytes()).bytes(node);
    mac(key, Purpose::AzureRequest, message.as_slice()).tag
}

fn row(id: InstanceKeyId, kind: &str) -> Tuple {
    Tuple::new().bytes(&id.0).bytes(kind.as_bytes())
}

fn named(tuple: Tuple, fields: &[Field<'_>]) -> Tuple {
    fields.iter().fold(tuple, |tuple, field| tuple.bytes(field.name.as_bytes()).optional(field.value))
}

fn mac(key: &InstanceKey, purpose: Purpose, message: &[u8]) -> Mac {
    let mut tag = [0; 32];
    tag.copy_from_slice(hmac::sign(&hmac_key(key, purpose), message).as_ref());
    Mac { instance_key: key.id(), tag }
}

fn verify(keys: &InstanceKeys, purpose: Purpose, mac: &Mac, message: &[u8]) -> Result<(), MacError> {
    let key = keys.get(mac.instance_key).ok_or(MacError::UnknownInstanceKey(mac.instance_key))?;
    hmac::verify(&hmac_key(key, purpose), message, &mac.tag).map_err(|_| MacError::Mismatch)
}

fn hmac_key(key: &InstanceKey, purpose: Purpose) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.subkey(purpose.name()).expose())
}

//! Who holds the key that wraps a vault's key: the customer's Azure Key Vault, or (for built-in Cloud vaults) this
//! installation itself. Both stand behind [`KeyProvider`]; what can go wrong stands in [`failure`].
//!
//! Nothing here stores, caches or leases a key. A provider answers one question at a time.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use strongroom_envelope::{Plaintext, WrapRecord};
use uuid::Uuid;

pub mod azure;
pub mod check;
pub mod credential;
pub mod failure;
pub mod input;
pub mod kid;
pub mod local;

pub use credential::{ClientCertificate, ClientSecret, Credential, CredentialInput};
pub use failure::{ACCESS_POLICY, Class, Code, KeyFailure, Operation, State};
pub use input::{AzureInput, ClientId, InputError, KeyName, TenantId, VaultUrl, parse_vault_url_and_key};
pub use kid::{KeyUrl, Kid, NotAKid};
pub use local::LocalProvider;

/// What a caller waits for Azure in all, retries included, when a person is waiting.
pub const INTERACTIVE: Duration = Duration::from_secs(5);

/// A holder of wrapping keys. Each call answers before its deadline, whatever happens outside.
#[async_trait]
pub trait KeyProvider: Send + Sync {
    /// The newest key version as the provider describes it now.
    async fn describe(&self, deadline: Duration) -> Result<(KeyDescription, Receipts), KeyFailure>;

    /// Wraps a record under the newest key version. The kid in the answer is the one to store with the bytes.
    async fn wrap_key(&self, record: &WrapRecord, deadline: Duration) -> Result<Wrapped, KeyFailure>;

    /// Unwraps what `wrap_key` gave, under exactly the key version that made it. The record is as the provider
    /// returned it: whoever reads it compares every field.
    async fn unwrap_key(
        &self,
        kid: &Kid,
        wrapped: &[u8],
        token: TokenUse,
        deadline: Duration,
    ) -> Result<Unwrapped, KeyFailure>;

    /// The exact command that mends a failure at this provider, where a single one does.
    fn command(&self, failure: &KeyFailure, kid: Option<&Kid>) -> Option<String>;
}

/// Whether an access token from an earlier call may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenUse {
    Cached,
    /// Sign in anew, so that a withdrawn credential shows now and not when its last token ends.
    Fresh,
}

/// A record wrapped by a key version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapped {
    pub kid: Kid,
    /// How it was wrapped; stored and covered by the wrap's MAC.
    pub algorithm: &'static str,
    pub bytes: Vec<u8>,
    pub receipts: Receipts,
}

/// A record as it came out of an unwrap.
pub struct Unwrapped {
    pub record: Plaintext,
    pub receipts: Receipts,
}

/// The requests that one call made, in order.
pub type Receipts = Vec<Receipt>;

/// Evidence of one request to Azure, for the audit log and for metrics. Holds nothing secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub step: Step,
    /// The host that was asked.
    pub host: String,
    /// Sent as `x-ms-client-request-id`; Key Vault's own logs show it.
    pub our_request_id: Uuid,
    /// Azure's `x-ms-request-id`.
    pub azure_request_id: Option<String>,
    /// Azure's `x-ms-keyvault-region`.
    pub region: Option<String>,
    /// `None` when no answer came.
    pub status: Option<u16>,
    pub latency: Duration,
}

/// What a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Microsoft Entra asked about a tenant, without signing in.
    Tenant,
    /// Key Vault asked without a token, to learn what to sign in for. Answered by 401.
    Challenge,
    SignIn,
    GetKey,
    WrapKey,
    UnwrapKey,
    /// Only the check asks for a signature, of zeros.
    Sign,
    /// What else only the check asks: a question without effect, to learn what the application may do.
    Probe,
}

impl Step {
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Tenant => "tenant",
            Step::Challenge => "challenge",
            Step::SignIn => "sign_in",
            Step::GetKey => "get_key",
            Step::WrapKey => "wrap_key",
            Step::UnwrapKey => "unwrap_key",
            Step::Sign => "sign",
            Step::Probe => "probe",
        }
    }
}

/// Gives the requests that use a key their ids, so that the customer's own log can be compared with this installation's.
#[async_trait]
pub trait RequestIds: Send + Sync {
    /// The id of a request that is about to be sent: it goes out only once this has answered. The error says in a
    /// sentence why it must not.
    async fn next(&self, request: &KeyRequest) -> Result<Uuid, String>;
}

/// A request that uses a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRequest {
    /// Host and path in lower case, as in `contoso.vault.azure.net/keys/kek/0123…/unwrapkey`.
    pub target: String,
    /// One of very many alike, which need not be told one by one; see [`routine`].
    pub routine: bool,
}

tokio::task_local! {
    static ROUTINE: ();
}

/// Marks what `call` asks of a provider as routine: canaries and renewals, which come every few seconds for ever.
pub async fn routine<T>(call: impl Future<Output = T>) -> T {
    ROUTINE.scope((), call).await
}

fn is_routine() -> bool {
    ROUTINE.try_with(|()| ()).is_ok()
}

/// A key as its provider describes it. What the provider leaves out is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDescription {
    /// The newest key version.
    pub kid: Kid,
    pub key_type: KeyType,
    /// Length of an RSA modulus, or of a symmetric key.
    pub bits: Option<u32>,
    /// Permitted operations, as in `wrapKey`.
    pub operations: Vec<String>,
    pub enabled: bool,
    pub not_before: Option<Timestamp>,
    pub expires: Option<Timestamp>,
    pub created: Option<Timestamp>,
    /// Azure's words, as in `Recoverable+Purgeable`.
    pub recovery_level: Option<String>,
    pub recoverable_days: Option<i32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyType {
    Rsa,
    /// RSA in a hardware security module.
    RsaHsm,
    /// The KEK of Cloud vaults: AES-256, held by this installation.
    Cloud,
    /// Any other, by Azure's name for it, as in `EC`. Cannot wrap vault keys.
    Other(String),
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyType::Rsa => "RSA",
            KeyType::RsaHsm => "RSA-HSM",
            KeyType::Cloud => "AES-256",
            KeyType::Other(name) => name,
        })
    }
}

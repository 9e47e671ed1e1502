//! One key in one Key Vault, through Microsoft's SDK: calls, deadlines, retries, tokens, and what an answer must fulfil.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::TokenCredential;
use azure_core::http::response::ResponseBody;
use azure_core::http::{ClientMethodOptions, Context, RequestContent};
use azure_core::{Bytes, json};
use azure_security_keyvault_keys::KeyClient;
use azure_security_keyvault_keys::models::{
    EncryptionAlgorithm, Key, KeyClientGetKeyOptions, KeyClientUnwrapKeyOptions, KeyClientWrapKeyOptions,
    KeyOperationParameters, KeyOperationResult, KeyType as SdkKeyType,
};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use strongroom_envelope::{Plaintext, WRAP_RECORD_LEN, WrapRecord};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;
use zeroize::Zeroize as _;

use super::transport::{Outcome, Recorder};
use super::{AzureAccess, AzureKeys, answer};
use crate::{
    Code, KeyDescription, KeyFailure, KeyProvider, KeyType, KeyUrl, Kid, Operation, Receipts, Step, TokenUse,
    Unwrapped, Wrapped,
};

/// RSA-OAEP with SHA-256 (RFC 8017): the only algorithm used.
pub const ALGORITHM: &str = "RSA-OAEP-256";

/// One try and at most two more.
const TRIES: u32 = 3;

/// One customer's key. Cheap to keep; holds the access token of the last sign-in.
pub struct AzureProvider {
    pub(super) azure: AzureKeys,
    pub(super) access: Arc<AzureAccess>,
    session: Mutex<Arc<KeyClient>>,
}

/// What is asked of Key Vault.
#[derive(Clone, Copy)]
enum Ask<'a> {
    Describe,
    Wrap(&'a WrapRecord),
    Unwrap(&'a KeyUrl, &'a [u8]),
}

impl Ask<'_> {
    fn operation(self) -> Operation {
        match self {
            Ask::Describe => Operation::Describe,
            Ask::Wrap(_) => Operation::Wrap,
            Ask::Unwrap(..) => Operation::Unwrap,
        }
    }
}

#[async_trait]
impl KeyProvider for AzureProvider {
    fn command(&self, failure: &KeyFailure, kid: Option<&Kid>) -> Option<String> {
        super::command(failure, &self.access, kid)
    }

    async fn describe(&self, deadline: Duration) -> Result<(KeyDescription, Receipts), KeyFailure> {
        let recorder = Recorder::default();
        let body = self.call(Ask::Describe, TokenUse::Cached, deadline, &recorder).await?;
        let key: Key = self.read(&body, Operation::Describe, &recorder)?;
        let description =
            self.description(key).map_err(|(code, detail)| self.fault(code, Operation::Describe, detail, &recorder))?;
        Ok((description, receipts(&recorder)))
    }

    async fn wrap_key(&self, record: &WrapRecord, deadline: Duration) -> Result<Wrapped, KeyFailure> {
        let recorder = Recorder::default();
        let fault = |code, detail: &str| self.fault(code, Operation::Wrap, detail.to_owned(), &recorder);
        let body = self.call(Ask::Wrap(record), TokenUse::Cached, deadline, &recorder).await?;
        let answer: KeyOperationResult = self.read(&body, Operation::Wrap, &recorder)?;
        let kid = self.own_kid(answer.kid.as_deref()).map_err(|detail| fault(Code::WrongKid, &detail))?;
        let bytes = answer.result.unwrap_or_default();
        // The length of an RSA ciphertext is the modulus's: 2048, 3072 or 4096 bits.
        if !matches!(bytes.len(), 256 | 384 | 512) {
            return Err(fault(Code::WrongLength, &format!("{} bytes are no RSA ciphertext", bytes.len())));
        }
        Ok(Wrapped { kid: Kid::Azure(kid), algorithm: ALGORITHM, bytes, receipts: receipts(&recorder) })
    }

    async fn unwrap_key(
        &self,
        kid: &Kid,
        wrapped: &[u8],
        token: TokenUse,
        deadline: Duration,
    ) -> Result<Unwrapped, KeyFailure> {
        let recorder = Recorder::default();
        let fault = |code, detail: String| self.fault(code, Operation::Unwrap, detail, &recorder);
        let url = match kid {
            Kid::Azure(url) if url.host() == self.access.vault_url.host() => url,
            other => return Err(fault(Code::ForeignKid, format!("{other} is not in {}", self.access.vault_url))),
        };
        let body = self.call(Ask::Unwrap(url, wrapped), token, deadline, &recorder).await?;
        let answer: KeyOperationResult = self.read(&body, Operation::Unwrap, &recorder)?;
        wipe(body);
        let record = Plaintext::new(answer.result.unwrap_or_default());
        let answered = answer.kid.unwrap_or_default();
        if !answered.parse().is_ok_and(|answered: KeyUrl| answered.same_key_version(url)) {
            return Err(fault(Code::WrongKid, format!("asked for {url}, answered for {}", answer::words(&answered))));
        }
        if record.len() != WRAP_RECORD_LEN {
            return Err(fault(Code::WrongLength, format!("{} bytes are no wrap record", record.len())));
        }
        Ok(Unwrapped { record, receipts: receipts(&recorder) })
    }
}

impl AzureProvider {
    pub(super) fn new(azure: AzureKeys, access: Arc<AzureAccess>) -> AzureProvider {
        let session = Mutex::new(azure.session(&access));
        AzureProvider { azure, access, session }
    }

    /// Where this key lives and who asks for it, for messages and commands.
    pub fn access(&self) -> &AzureAccess {
        &self.access
    }

    /// The answer to one question, before the deadline, with retries where a retry can help.
    async fn call(
        &self,
        ask: Ask<'_>,
        token: TokenUse,
        deadline: Duration,
        recorder: &Recorder,
    ) -> Result<ResponseBody, KeyFailure> {
        let end = Instant::now() + deadline;
        match timeout_at(end, self.tries(ask, token, end, recorder)).await {
            Ok(result) => result,
            // Whatever was answered on the way, the question itself was not: an early 401 must not pass for a denial.
            Err(_) => {
                let detail = format!("no answer within {} ms", deadline.as_millis());
                Err(self.fault(Code::Timeout, ask.operation(), detail, recorder))
            }
        }
    }

    async fn tries(
        &self,
        ask: Ask<'_>,
        token: TokenUse,
        end: Instant,
        recorder: &Recorder,
    ) -> Result<ResponseBody, KeyFailure> {
        let mut session = match token {
            TokenUse::Cached => self.session(),
            TokenUse::Fresh => self.azure.session(&self.access),
        };
        let mut tried = 1;
        loop {
            let before = recorder.exchanges().len();
            let result = self.send(&session, ask, recorder).await;
            let signed_in = recorder.exchanges()[before..]
                .iter()
                .any(|exchange| exchange.receipt.step == Step::SignIn && matches!(exchange.outcome, Outcome::Good));
            if signed_in {
                *self.session.lock().unwrap_or_else(PoisonError::into_inner) = session.clone();
            }
            if let Ok(body) = result {
                return Ok(body);
            }
            let failure = self.failure(ask.operation(), recorder);
            let refused_token = matches!(failure.code, Code::TokenRefused | Code::TenantMismatch);
            if refused_token && !signed_in {
                // The cached token may be the fault: once more with another's newer one, or a new one.
                let current = self.session();
                session = if Arc::ptr_eq(&current, &session) { self.azure.session(&self.access) } else { current };
                continue;
            }
            match pause(&failure, tried) {
                Some(pause) if tried < TRIES && Instant::now() + pause < end => sleep(pause).await,
                _ => return Err(failure),
            }
            tried += 1;
        }
    }

    async fn send(&self, client: &KeyClient, ask: Ask<'_>, recorder: &Recorder) -> azure_core::Result<ResponseBody> {
        let method_options = ClientMethodOptions { context: Context::new().with_value(recorder.clone()) };
        let name = self.access.key_name.as_str();
        match ask {
            Ask::Describe => {
                let options = KeyClientGetKeyOptions { method_options, ..Default::default() };
                within(client.get_key(name, Some(options))).await
            }
            Ask::Wrap(record) => {
                let options = KeyClientWrapKeyOptions { method_options, ..Default::default() };
                within(client.wrap_key(name, parameters(record)?, Some(options))).await
            }
            Ask::Unwrap(kid, wrapped) => {
                let options = KeyClientUnwrapKeyOptions { method_options };
                let (name, key_version) = (kid.name().as_str(), kid.key_version());
                within(client.unwrap_key(name, key_version, parameters(wrapped)?, Some(options))).await
            }
        }
    }

    /// Every call from now on signs in with this credential, and with the token that it holds.
    pub(super) fn use_credential(&self, credential: Arc<dyn TokenCredential>) {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = self.azure.session_of(credential, &self.access);
    }

    fn session(&self) -> Arc<KeyClient> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn read<T: DeserializeOwned>(
        &self,
        body: &ResponseBody,
        operation: Operation,
        recorder: &Recorder,
    ) -> Result<T, KeyFailure> {
        json::from_json(body).map_err(|_| {
            self.fault(Code::Unreadable, operation, "Azure said success, but not in its own form".to_owned(), recorder)
        })
    }

    /// A failure that the last answer itself shows.
    pub(super) fn failure(&self, operation: Operation, recorder: &Recorder) -> KeyFailure {
        let mut failure = answer::failure(operation, recorder.exchanges(), &self.access.credential);
        if failure.code == Code::NoFederation
            && let Some(presented) = self.azure.token_file.presented()
        {
            failure.facts.issuer = Some(answer::words(&presented.issuer));
            failure.facts.subject = Some(answer::words(&presented.subject));
        }
        if let Some(audience) = &failure.facts.audience {
            let wanted = self.azure.cloud().federation_audience();
            let sentence = format!(
                " The token is made out to {audience}. Entra wants {wanted}, or what the application's federated \
                 credential names."
            );
            failure.detail.push_str(&sentence);
        }
        failure
    }

    /// A failure that the last answer alone does not show.
    pub(super) fn fault(&self, code: Code, operation: Operation, detail: String, recorder: &Recorder) -> KeyFailure {
        let seen = self.failure(operation, recorder);
        KeyFailure {
            http_status: seen.http_status,
            azure_request_id: seen.azure_request_id,
            our_request_id: seen.our_request_id,
            receipts: seen.receipts,
            ..KeyFailure::new(code, operation, detail)
        }
    }

    /// The kid of an answer about our own key, whatever its key version.
    fn own_kid(&self, kid: Option<&str>) -> Result<KeyUrl, String> {
        let text = kid.unwrap_or_default();
        let own = |url: &KeyUrl| {
            url.host() == self.access.vault_url.host()
                && url.name().as_str().eq_ignore_ascii_case(self.access.key_name.as_str())
        };
        text.parse().ok().filter(own).ok_or_else(|| {
            format!(
                "asked for {}/keys/{}, answered for {}",
                self.access.vault_url,
                self.access.key_name,
                answer::words(text)
            )
        })
    }

    fn description(&self, key: Key) -> Result<KeyDescription, (Code, String)> {
        let attributes = key.attributes.unwrap_or_default();
        let Some(jwk) = key.key else {
            return Err((Code::Unreadable, "the answer holds no key".to_owned()));
        };
        let kid = self.own_kid(jwk.kid.as_deref()).map_err(|detail| (Code::WrongKid, detail))?;
        let key_type = match jwk.kty {
            Some(SdkKeyType::Rsa) => KeyType::Rsa,
            Some(SdkKeyType::RsaHsm) => KeyType::RsaHsm,
            Some(other) => KeyType::Other(answer::words(other.as_ref())),
            None => return Err((Code::Unreadable, "the answer names no key type".to_owned())),
        };
        let time = |time: azure_core::time::OffsetDateTime| Timestamp::from_second(time.unix_timestamp()).ok();
        Ok(KeyDescription {
            kid: Kid::Azure(kid),
            key_type,
            bits: jwk.n.as_deref().map(bit_length),
            operations: jwk.key_ops.unwrap_or_default(),
            enabled: attributes.enabled.unwrap_or(true),
            not_before: attributes.not_before.and_then(time),
            expires: attributes.expires.and_then(time),
            created: attributes.created.and_then(time),
            recovery_level: attributes.recovery_level.map(|level| level.to_string()),
            recoverable_days: attributes.recoverable_days,
        })
    }
}

async fn within<T>(
    call: impl Future<Output = azure_core::Result<azure_core::http::Response<T>>>,
) -> azure_core::Result<ResponseBody> {
    call.await.map(azure_core::http::Response::into_body)
}

fn parameters(value: &[u8]) -> azure_core::Result<RequestContent<KeyOperationParameters>> {
    KeyOperationParameters {
        algorithm: Some(EncryptionAlgorithm::RsaOaep256),
        value: Some(value.to_vec()),
        ..Default::default()
    }
    .try_into()
}

fn receipts(recorder: &Recorder) -> Receipts {
    recorder.exchanges().into_iter().map(|exchange| exchange.receipt).collect()
}

/// How long to wait before another try, or `None` where another try cannot help. Azure's own wish goes first; throttling
/// without one starts at the second that Azure's guidance names; the rest at a fifth of it. Doubled each time, and spread
/// so that many callers do not come back together.
fn pause(failure: &KeyFailure, tried: u32) -> Option<Duration> {
    let first = match failure.code {
        Code::Throttled => Duration::from_secs(1),
        Code::Unavailable | Code::Unreachable | Code::Timeout => Duration::from_millis(200),
        _ => return None,
    };
    let backoff = first * 2u32.pow(tried - 1);
    let spread = 1.0 + f64::from(Uuid::new_v4().as_bytes()[0]) / 512.0;
    // No deadline is as long as an hour; what a broken gateway asks for may be any number.
    Some(failure.retry_after.unwrap_or(backoff).min(Duration::from_secs(3600)).mul_f64(spread))
}

fn bit_length(modulus: &[u8]) -> u32 {
    let significant = modulus.iter().skip_while(|&&byte| byte == 0).collect::<Vec<_>>();
    let leading = significant.first().map_or(0, |byte| byte.leading_zeros());
    u32::try_from(significant.len() * 8).map_or(u32::MAX, |bits| bits - leading)
}

/// Overwrites an answer that held a key. The copies that the SDK and the TLS library made on the way are out of reach.
fn wipe(body: ResponseBody) {
    if let Ok(mut bytes) = Bytes::from(body).try_into_mut() {
        bytes.as_mut().zeroize();
    }
}

//! What only the check asks, one question each. None of them changes anything at the customer's: they read, they sign in,
//! and one signs zeros, whose request is announced as a wrap's is.

use std::time::Duration;

use azure_core::credentials::{Secret, TokenRequestOptions};
use azure_core::http::headers::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use azure_core::http::{ClientMethodOptions, Context, Method, RawResponse, Request};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::{Instant, timeout};
use url::Url;

use super::credential::token_claims;
use super::reach::Hopped;
use super::transport::Recorder;
use super::{AzureKeys, AzureProvider, answer};
use crate::failure::Facts;
use crate::{Code, KeyFailure, Kid, Operation, Receipt, Receipts};

/// The one that the SDK uses.
const API: &str = "2025-07-01";
/// Pages of key versions that are read, of at most 25 each.
const MOST_PAGES: usize = 8;

/// An answer, and the request behind it.
pub(crate) struct Told<T> {
    pub value: T,
    pub receipts: Receipts,
    /// What time the last answer says that it was at Azure.
    pub date: Option<Timestamp>,
}

impl<T> Told<T> {
    pub fn receipt(&self) -> Option<&Receipt> {
        self.receipts.last()
    }

    fn map<U>(self, make: impl FnOnce(T) -> U) -> Told<U> {
        Told { value: make(self.value), receipts: self.receipts, date: self.date }
    }
}

/// What Entra publishes about a tenant (OpenID Connect Discovery 1.0).
#[derive(Debug, Deserialize)]
pub(crate) struct TenantDocument {
    pub issuer: String,
}

/// What a Key Vault says without a token: where to sign in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// Host of the sign-in.
    pub host: Option<String>,
    pub tenant: Option<String>,
}

/// What an access token says of itself. Read, not verified: Key Vault does that.
#[derive(Debug, Deserialize)]
pub(crate) struct Claims {
    pub aud: String,
    pub tid: String,
    #[serde(alias = "azp")]
    pub appid: String,
    pub oid: String,
    pub nbf: i64,
    pub exp: i64,
}

/// A token that the check holds, for its own questions.
pub(crate) struct SignedIn {
    token: Secret,
    /// `None` if the token cannot be read, which Microsoft does not promise.
    pub claims: Option<Claims>,
}

/// One key version, as a list tells it.
#[derive(Debug, Clone)]
pub(crate) struct ListedVersion {
    pub key_version: String,
    pub enabled: bool,
    pub created: i64,
}

/// Something that *Key Vault Crypto Service Encryption User* on the key alone does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beyond {
    Sign,
    RotationPolicy,
    Secrets,
    Keys,
}

/// Azure's clear answer to whether the application may.
#[derive(Debug)]
pub(crate) struct May {
    pub allowed: bool,
    /// What its refusal named.
    pub facts: Facts,
}

impl AzureKeys {
    /// The way to a host, hop by hop, without a request.
    pub(crate) async fn walk(&self, host: &str, end: Instant) -> Vec<Hopped> {
        self.ways.walk(host, end).await
    }

    pub(crate) fn proxied(&self) -> bool {
        self.ways.proxied()
    }

    /// Operations that this installation asked of a Key Vault within Azure's window of 10 s.
    pub(crate) fn recent_operations(&self, host: &str) -> usize {
        self.transport.recent_operations(host)
    }
}

impl AzureProvider {
    /// What Entra publishes about the tenant.
    pub(crate) async fn tenant_document(&self, limit: Duration) -> Result<Told<TenantDocument>, KeyFailure> {
        let (host, tenant) = (self.azure.cloud().login_host(), self.access.tenant);
        let url = format!("https://{host}/{tenant}/v2.0/.well-known/openid-configuration");
        self.fetch(request(&url, Method::Get), limit).await
    }

    /// Asks the Key Vault without a token. Its 401 is the answer wanted.
    pub(crate) async fn challenge(&self, limit: Duration) -> Result<Told<Challenge>, KeyFailure> {
        let recorder = Recorder::default();
        let asked = self.exchange(&request(&self.key_url(""), Method::Get), limit, &recorder).await?;
        let said = asked.value.headers().get_optional_str(&HeaderName::from("www-authenticate")).map(challenge);
        match said {
            Some(challenge) if u16::from(asked.value.status()) == 401 => Ok(asked.map(|_| challenge)),
            _ => Err(self.failure(Operation::Describe, &recorder)),
        }
    }

    /// Signs in anew; the token is this provider's from now on.
    pub(crate) async fn sign_in(&self, limit: Duration) -> Result<Told<SignedIn>, KeyFailure> {
        let recorder = Recorder::default();
        let credential = self.azure.credential(&self.access);
        let context = Context::new().with_value(recorder.clone());
        let options = TokenRequestOptions { method_options: ClientMethodOptions { context } };
        let scope = format!("{}/.default", self.azure.cloud().vault_resource());
        match timeout(limit, credential.get_token(&[&scope], Some(options))).await {
            Ok(Ok(token)) => {
                self.use_credential(credential);
                let claims = claims(token.token.secret());
                Ok(told(SignedIn { token: token.token, claims }, &recorder))
            }
            Ok(Err(_)) => Err(self.failure(Operation::Describe, &recorder)),
            Err(_) => Err(self.out_of_time(limit, &recorder)),
        }
    }

    /// Whether the application may do this, by Azure's clear yes or no; an answer that says neither is the error.
    pub(crate) async fn may(
        &self,
        beyond: Beyond,
        kid: &Kid,
        by: &SignedIn,
        limit: Duration,
    ) -> Result<Told<May>, KeyFailure> {
        let mut request = match beyond {
            Beyond::Sign => {
                let mut request = request(&format!("{kid}/sign?api-version={API}"), Method::Post);
                request.insert_header(CONTENT_TYPE, "application/json");
                request.set_body(json!({"alg": "RS256", "value": BASE64URL.encode([0; 32])}).to_string());
                request
            }
            Beyond::RotationPolicy => request_get(&self.key_url("/rotationpolicy")),
            Beyond::Secrets => request_get(&self.vault_url("/secrets", "&maxresults=1")),
            Beyond::Keys => request_get(&self.vault_url("/keys", "&maxresults=1")),
        };
        sign_with(&mut request, by);
        let recorder = Recorder::default();
        let asked = self.exchange(&request, limit, &recorder).await?;
        if asked.value.status().is_success() {
            return Ok(asked.map(|_| May { allowed: true, facts: Facts::default() }));
        }
        let failure = self.failure(Operation::Describe, &recorder);
        match failure.code {
            Code::AccessRemoved => Ok(asked.map(|_| May { allowed: false, facts: *failure.facts })),
            _ => Err(failure),
        }
    }

    /// The key's versions, newest first, and whether these are all.
    pub(crate) async fn key_versions(
        &self,
        by: &SignedIn,
        limit: Duration,
    ) -> Result<Told<(Vec<ListedVersion>, bool)>, KeyFailure> {
        let end = Instant::now() + limit;
        let mut next = Some(self.key_url("/versions"));
        let mut found = Vec::new();
        let mut receipts = Vec::new();
        let mut date = None;
        for _ in 0..MOST_PAGES {
            let Some(url) = next.take() else { break };
            let mut request = request_get(&url);
            sign_with(&mut request, by);
            let page: Told<VersionPage> = self.fetch(request, end.saturating_duration_since(Instant::now())).await?;
            receipts.extend(page.receipts);
            date = page.date;
            found.extend(page.value.value.into_iter().filter_map(ListedVersion::read));
            next = page.value.next_link.filter(|link| self.is_own(link));
        }
        found.sort_by_key(|one| std::cmp::Reverse(one.created));
        Ok(Told { value: (found, next.is_none()), receipts, date })
    }

    async fn fetch<T: DeserializeOwned>(&self, request: Request, limit: Duration) -> Result<Told<T>, KeyFailure> {
        let recorder = Recorder::default();
        let asked = self.exchange(&request, limit, &recorder).await?;
        if !asked.value.status().is_success() {
            return Err(self.failure(Operation::Describe, &recorder));
        }
        match serde_json::from_slice(asked.value.body()) {
            Ok(value) => Ok(asked.map(|_| value)),
            // The last answer was good, and not in Azure's form: that is what the failure says then.
            Err(_) => Err(self.failure(Operation::Describe, &recorder)),
        }
    }

    async fn exchange(
        &self,
        request: &Request,
        limit: Duration,
        recorder: &Recorder,
    ) -> Result<Told<RawResponse>, KeyFailure> {
        match timeout(limit, self.azure.transport.exchange(request, recorder)).await {
            Ok(Ok(answer)) => match answer.try_into_raw_response().await {
                Ok(raw) => Ok(told(raw, recorder)),
                Err(_) => Err(self.failure(Operation::Describe, recorder)),
            },
            Ok(Err(_)) => Err(self.failure(Operation::Describe, recorder)),
            Err(_) => Err(self.out_of_time(limit, recorder)),
        }
    }

    fn out_of_time(&self, limit: Duration, recorder: &Recorder) -> KeyFailure {
        let detail = format!("no answer within {} ms", limit.as_millis());
        self.fault(Code::Timeout, Operation::Describe, detail, recorder)
    }

    fn key_url(&self, below: &str) -> String {
        self.vault_url(&format!("/keys/{}{below}", self.access.key_name), "")
    }

    fn vault_url(&self, path: &str, query: &str) -> String {
        format!("{}{path}?api-version={API}{query}", self.access.vault_url)
    }

    /// A further page is on the same Key Vault, or it is not asked for.
    fn is_own(&self, link: &str) -> bool {
        Url::parse(link).is_ok_and(|url| url.host_str() == Some(self.access.vault_url.host()))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionPage {
    value: Vec<VersionItem>,
    next_link: Option<String>,
}

#[derive(Deserialize)]
struct VersionItem {
    kid: String,
    #[serde(default)]
    attributes: VersionAttributes,
}

#[derive(Default, Deserialize)]
struct VersionAttributes {
    enabled: Option<bool>,
    created: Option<i64>,
}

impl ListedVersion {
    fn read(item: VersionItem) -> Option<ListedVersion> {
        Some(ListedVersion {
            key_version: answer::words(item.kid.rsplit('/').next()?),
            enabled: item.attributes.enabled.unwrap_or(true),
            created: item.attributes.created.unwrap_or_default(),
        })
    }
}

fn request(url: &str, method: Method) -> Request {
    Request::new(Url::parse(url).expect("a host, a key and a link of ours make a URL"), method)
}

fn request_get(url: &str) -> Request {
    request(url, Method::Get)
}

fn sign_with(request: &mut Request, by: &SignedIn) {
    request.insert_header(AUTHORIZATION, format!("Bearer {}", by.token.secret()));
}

fn told<T>(value: T, recorder: &Recorder) -> Told<T> {
    let exchanges = recorder.exchanges();
    let date = exchanges.last().and_then(|exchange| exchange.date);
    Told { value, receipts: exchanges.into_iter().map(|exchange| exchange.receipt).collect(), date }
}

/// `Bearer authorization="https://login.microsoftonline.com/TENANT", resource="…"`.
fn challenge(header: &str) -> Challenge {
    let authorization = header.split_once("authorization=\"").and_then(|(_, rest)| rest.split('"').next());
    let Some(url) = authorization.and_then(|text| Url::parse(text).ok()) else { return Challenge::default() };
    let tenant = url.path_segments().and_then(|mut parts| parts.next()).filter(|part| !part.is_empty());
    Challenge { host: url.host_str().map(answer::words), tenant: tenant.map(answer::words) }
}

/// What our own token says, in words that can be shown.
fn claims(token: &str) -> Option<Claims> {
    let claims: Claims = token_claims(token.as_bytes())?;
    let [aud, tid, appid, oid] = [&claims.aud, &claims.tid, &claims.appid, &claims.oid].map(|text| answer::words(text));
    Some(Claims { aud, tid, appid, oid, ..claims })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenant_is_read_out_of_either_form_of_the_challenge() {
        for host in ["login.microsoftonline.com", "login.windows.net"] {
            let header = format!("Bearer authorization=\"https://{host}/t-1\", resource=\"https://vault.azure.net\"");
            let wanted = Challenge { host: Some(host.to_owned()), tenant: Some("t-1".to_owned()) };
            assert_eq!(challenge(&header), wanted);
        }
        for header in
            ["", "Basic realm=\"x\"", "Bearer authorization=\"nonsense\"", "Bearer authorization=\"https://h/\""]
        {
            assert_eq!(challenge(header).tenant, None, "{header}");
        }
    }

    #[test]
    fn claims_are_read_and_what_is_no_token_is_not() {
        let middle = r#"{"aud":"a","tid":"t","appid":"p","oid":"o","iat":1,"nbf":2,"exp":3}"#;
        let token = format!("e30.{}.c2ln", BASE64URL.encode(middle));
        let read = claims(&token).expect("claims");
        assert_eq!((read.tid.as_str(), read.appid.as_str(), read.exp), ("t", "p", 3));
        for token in ["", "opaque", "a.b.c", "e30.e30.e30"] {
            assert!(claims(token).is_none(), "{token}");
        }
    }
}

//! Signed-in requests to Graph, Resource Manager and Key Vault, as an administrator. For set-up only: the key
//! operations of vaults go through `strongroom_keys`.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::Method;
use serde_json::Value;
use strongroom_keys::azure::Cloud;
use url::Url;

use super::hosts;
use crate::secret_text::SecretText;

/// Who does the set-up: a service principal with Owner on the subscription and rights in Graph.
pub struct Admin {
    pub tenant_id: String,
    pub client_id: String,
    pub client_secret: SecretText,
    pub subscription_id: String,
}

/// Which of Azure's faces a request goes to.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    Graph,
    Arm,
    /// A Key Vault, by its URL.
    KeyVault(&'a str),
}

/// A set-up step that did not succeed: what Azure said, without secrets.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SetupError {
    status: Option<u16>,
    code: Option<String>,
    message: String,
}

impl SetupError {
    pub(super) fn answer(message: impl Into<String>) -> Self {
        Self { status: None, code: None, message: message.into() }
    }

    pub(super) fn is_not_found(&self) -> bool {
        self.status == Some(404)
    }

    pub(super) fn is_forbidden(&self) -> bool {
        self.status == Some(403)
    }

    pub(super) fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }
}

/// An administrator's way to Azure.
pub struct Client {
    http: reqwest::Client,
    admin: Admin,
    cloud: Cloud,
    tokens: Mutex<HashMap<String, String>>,
}

impl Client {
    /// Through `proxy`, trusting `ca_pem` beside the platform's roots. Sends nothing.
    pub fn new(admin: Admin, cloud: Cloud, proxy: Option<&Url>, ca_pem: Option<&[u8]>) -> Result<Self, SetupError> {
        let wrong = |error: reqwest::Error| SetupError::answer(format!("the way to Azure cannot be set up: {error}"));
        // One provider a process; that it is there already is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(120));
        if let Some(proxy) = proxy {
            builder = builder.proxy(reqwest::Proxy::all(proxy.clone()).map_err(wrong)?);
        }
        if let Some(pem) = ca_pem {
            let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(wrong)?;
            builder = builder.tls_certs_merge(certificates);
        }
        Ok(Self { http: builder.build().map_err(wrong)?, admin, cloud, tokens: Mutex::default() })
    }

    pub fn tenant(&self) -> &str {
        &self.admin.tenant_id
    }

    pub fn subscription(&self) -> &str {
        &self.admin.subscription_id
    }

    /// The administrator's object id, from the token's own claims.
    pub async fn object_id(&self) -> Result<String, SetupError> {
        let token = self.token(Target::Arm).await?;
        let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let claims: Option<Value> = claims.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let oid = claims.as_ref().and_then(|claims| claims.get("oid")).and_then(Value::as_str);
        oid.map(str::to_owned).ok_or_else(|| SetupError::answer("the administrator's token names no object id"))
    }

    /// One request, signed in. `path` starts with a slash and carries its own query.
    pub async fn send(
        &self,
        target: Target<'_>,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, SetupError> {
        let token = self.token(target).await?;
        let (graph, arm, _) = hosts(self.cloud);
        let url = match target {
            Target::Graph => format!("https://{graph}{path}"),
            Target::Arm => format!("https://{arm}{path}"),
            Target::KeyVault(url) => format!("{url}{path}"),
        };
        let method = Method::from_bytes(method.as_bytes()).expect("callers write HTTP's own words");
        let mut request = self.http.request(method, url).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.map_err(unreachable)?;
        read(answer).await
    }

    async fn token(&self, target: Target<'_>) -> Result<String, SetupError> {
        let (graph, arm, vault) = hosts(self.cloud);
        let host = match target {
            Target::Graph => graph,
            Target::Arm => arm,
            Target::KeyVault(_) => vault,
        };
        let cached = self.tokens.lock().expect("no holder panics").get(host).cloned();
        if let Some(token) = cached {
            return Ok(token);
        }
        let url = format!("https://{}/{}/oauth2/v2.0/token", self.cloud.login_host(), self.admin.tenant_id);
        let scope = format!("https://{host}/.default");
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.admin.client_id),
            ("client_secret", self.admin.client_secret.expose()),
            ("scope", &scope),
        ];
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self.http.post(url).header("content-type", "application/x-www-form-urlencoded").body(body);
        let answer = read(request.send().await.map_err(unreachable)?).await?;
        let token = answer.get("access_token").and_then(Value::as_str);
        let token = token.ok_or_else(|| SetupError::answer("Entra's answer holds no token"))?.to_owned();
        self.tokens.lock().expect("no holder panics").insert(host.to_owned(), token.clone());
        Ok(token)
    }
}

async fn read(answer: reqwest::Response) -> Result<Value, SetupError> {
    let status = answer.status();
    let bytes = answer.bytes().await.map_err(unreachable)?;
    let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    if status.is_success() {
        return Ok(body);
    }
    let word = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let code = word("/error/code").or_else(|| word("/error"));
    let said = word("/error/message").or_else(|| word("/error_description")).unwrap_or_default();
    let first_line = said.lines().next().unwrap_or_default();
    let message = format!("Azure answered {status} {}: {first_line}", code.as_deref().unwrap_or_default());
    Err(SetupError { status: Some(status.as_u16()), code, message })
}

fn unreachable(error: reqwest::Error) -> SetupError {
    // The URL holds ids only; its own words for the cause come last.
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    SetupError::answer(format!("Azure could not be reached: {cause}"))
}

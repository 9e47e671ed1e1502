//! The way to Azure's management faces: https to Azure's own hosts and to no other, and every refusal as one error.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use reqwest::{Method, RequestBuilder, redirect};
use serde_json::Value;
use strongroom_keys::azure::Cloud;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use url::Url;
use zeroize::Zeroizing;

/// For a connection, the proxy's part included.
const CONNECT: Duration = Duration::from_secs(10);

/// A set-up step that did not succeed: what Azure said, without secrets. Boxed, because every result carries the room
/// for one.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message)]
pub struct SetupError(Box<Parts>);

#[derive(Debug)]
pub(super) struct Parts {
    pub kind: Kind,
    pub status: Option<u16>,
    /// Azure's own code, as in `AuthorizationFailed`, or Entra's, as in `authorization_pending`.
    pub code: Option<String>,
    /// Key Vault's closer word, as in `ForbiddenByRbac`.
    pub inner: Option<String>,
    pub message: String,
    pub advice: Option<String>,
    pub azure_request_id: Option<String>,
    pub unknown_host: bool,
    /// The same request meets it again, whatever else is mended.
    pub lasting: bool,
}

/// Who has to do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What was asked for cannot be done as it was asked.
    Usage,
    /// The account may not, or the sign-in was refused.
    Denied,
    NotFound,
    Unreachable,
    Other,
}

impl SetupError {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Box::new(Parts {
            kind,
            status: None,
            code: None,
            inner: None,
            message,
            advice: None,
            azure_request_id: None,
            unknown_host: false,
            lasting: false,
        }))
    }

    pub(super) fn answer(message: impl Into<String>) -> Self {
        Self::new(Kind::Other, message)
    }

    /// What to do about it.
    #[must_use]
    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.0.advice = Some(advice.into());
        self
    }

    /// Of something that is there and stays, and is not what was asked for.
    #[must_use]
    pub(super) fn lasting(mut self) -> Self {
        self.0.lasting = true;
        self
    }

    /// Whether the same command would meet it again: what it names is taken, or is something else.
    pub fn lasts(&self) -> bool {
        self.0.lasting || (self.is_conflict() && !self.is_code("MissingSubscriptionRegistration"))
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    pub(super) fn inner(&self) -> Option<&str> {
        self.0.inner.as_deref()
    }

    pub(super) fn is_conflict(&self) -> bool {
        self.0.status == Some(409)
    }

    /// Adds what to do, unless it is known.
    #[must_use]
    pub(super) fn advise_or(self, advice: impl FnOnce(&Self) -> Option<String>) -> Self {
        match self.0.advice.is_none().then(|| advice(&self)).flatten() {
            Some(advice) => self.advise(advice),
            None => self,
        }
    }

    pub fn advice(&self) -> Option<&str> {
        self.0.advice.as_deref()
    }

    pub fn azure_request_id(&self) -> Option<&str> {
        self.0.azure_request_id.as_deref()
    }

    pub(super) fn is_not_found(&self) -> bool {
        self.0.status == Some(404)
    }

    pub(super) fn is_forbidden(&self) -> bool {
        self.0.status == Some(403)
    }

    pub(super) fn is_unauthorized(&self) -> bool {
        self.0.status == Some(401)
    }

    /// Whether nobody knows the host, as that of a Key Vault that was made a moment ago. Any other failure to reach it
    /// does not pass by itself.
    pub(super) fn is_unknown_host(&self) -> bool {
        self.0.unknown_host
    }

    pub(super) fn is_code(&self, code: &str) -> bool {
        self.0.code.as_deref() == Some(code)
    }

    /// Whether Azure's text has these words. Only for texts that Azure's own tools go by.
    pub(super) fn says(&self, words: &str) -> bool {
        self.0.message.contains(words)
    }
}

/// How this machine reaches Azure. Cloning shares the connections.
#[derive(Clone)]
pub struct Way {
    http: reqwest::Client,
    proxy: Option<Url>,
    pub(super) cloud: Cloud,
}

impl Way {
    /// Through `proxy`, trusting `ca_pem` beside the platform's roots. Sends nothing.
    pub fn new(cloud: Cloud, proxy: Option<&Url>, ca_pem: Option<&[u8]>) -> Result<Self, SetupError> {
        let unusable = |what: &str| SetupError::new(Kind::Usage, format!("the way to Azure cannot be set up: {what}"));
        // One provider a process; that it is there already is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .https_only(true)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(Duration::from_secs(120));
        let proxy = proxy.cloned();
        if let Some(proxy) = &proxy {
            // The URL may hold a password, so the error does not show it.
            let proxy = reqwest::Proxy::all(proxy.clone()).map_err(|_| unusable("the proxy's URL is not usable"))?;
            builder = builder.proxy(proxy);
        }
        if let Some(pem) = ca_pem {
            let wrong = |_| unusable("the CA file holds no readable certificate in PEM form");
            builder = builder.tls_certs_merge(reqwest::Certificate::from_pem_bundle(pem).map_err(wrong)?);
        }
        let http = builder.build().map_err(|error| unusable(&error.without_url().to_string()))?;
        Ok(Self { http, proxy, cloud })
    }

    pub(super) fn hosts(&self) -> Hosts {
        Hosts::of(self.cloud)
    }

    /// A request to one of Azure's own hosts; any other is refused before DNS.
    pub(super) fn request(&self, method: Method, url: &str) -> Result<RequestBuilder, SetupError> {
        let hosts = self.hosts();
        let parsed = Url::parse(url).ok().filter(|parsed| parsed.scheme() == "https" && parsed.port().is_none());
        let allowed = parsed.filter(|parsed| {
            let host = parsed.host_str().unwrap_or_default();
            [hosts.graph, hosts.arm, self.cloud.login_host()].contains(&host)
                || host.ends_with(self.cloud.vault_suffix())
        });
        match allowed {
            Some(url) => Ok(self.http.request(method, url)),
            None => Err(SetupError::answer("a request to a host that is not Azure's was refused")),
        }
    }

    /// Whether the proxy answers 502 to a CONNECT: it cannot find the host. Asked anew, since hyper-util keeps to itself
    /// what the proxy said. `false` if that cannot be told.
    async fn proxy_lacks(&self, host: &str) -> bool {
        let Some(proxy) = self.proxy.as_ref().filter(|proxy| proxy.scheme() == "http") else { return false };
        let asked = async {
            let address = (proxy.host_str()?.trim_matches(['[', ']']), proxy.port_or_known_default()?);
            let mut stream = TcpStream::connect(address).await.ok()?;
            let mut request = Zeroizing::new(format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n"));
            if let Some(password) = proxy.password() {
                let decoded = |text| percent_decode_str(text).decode_utf8_lossy();
                let pair = Zeroizing::new(format!("{}:{}", decoded(proxy.username()), decoded(password)));
                request.push_str(&format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(pair.as_bytes())));
            }
            request.push_str("\r\n");
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut status = [0; 12];
            stream.read_exact(&mut status).await.ok()?;
            Some(status.starts_with(b"HTTP/1.") && status.ends_with(b" 502"))
        };
        tokio::time::timeout(CONNECT, asked).await.ok().flatten().unwrap_or(false)
    }

    /// Sends it, and reads the answer's JSON or Azure's error.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Value, SetupError> {
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => {
                let host = error.url().and_then(Url::host_str).unwrap_or_default().to_owned();
                let unknown = error.is_dns() || (tunnel_refused(&error) && self.proxy_lacks(&host).await);
                let mut error = unreachable(error);
                error.0.unknown_host = unknown;
                return Err(error);
            }
        };
        let status = answer.status();
        let header = answer.headers().get("x-ms-request-id").or_else(|| answer.headers().get("request-id"));
        let azure_request_id = header.and_then(|id| id.to_str().ok()).map(str::to_owned);
        let bytes = answer.bytes().await.map_err(unreachable)?;
        let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(body);
        }
        let word = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let code = word("/error/code").or_else(|| word("/error"));
        let inner = word("/error/innererror/code");
        let said = word("/error/message").or_else(|| word("/error_description")).unwrap_or_default();
        let first_line = said.lines().next().unwrap_or_default();
        // Entra ends its sentence with ids and a time that help nobody here.
        let first_line = first_line.split(" Trace ID:").next().unwrap_or_default();
        let kind = match status.as_u16() {
            401 | 403 => Kind::Denied,
            404 => Kind::NotFound,
            _ if code.as_deref() == Some("unauthorized_client") => Kind::Denied,
            _ => Kind::Other,
        };
        let message = format!(
            "Azure answers {} {}: {first_line}",
            status.as_u16(),
            inner.as_deref().or(code.as_deref()).unwrap_or_default()
        );
        Err(SetupError(Box::new(Parts {
            kind,
            status: Some(status.as_u16()),
            code,
            inner,
            message,
            advice: None,
            azure_request_id,
            unknown_host: false,
            lasting: false,
        })))
    }
}

/// The faces of one cloud beside sign-in; a host's scope is `https://HOST/.default`.
pub(super) struct Hosts {
    pub graph: &'static str,
    pub arm: &'static str,
    pub key_vault: &'static str,
}

impl Hosts {
    fn of(cloud: Cloud) -> Self {
        let (graph, arm, key_vault) = match cloud {
            Cloud::Public => ("graph.microsoft.com", "management.azure.com", "vault.azure.net"),
            Cloud::Government => ("graph.microsoft.us", "management.usgovcloudapi.net", "vault.usgovcloudapi.net"),
            Cloud::China => ("microsoftgraph.chinacloudapi.cn", "management.chinacloudapi.cn", "vault.azure.cn"),
        };
        Self { graph, arm, key_vault }
    }
}

/// Whether the proxy refused the CONNECT for another reason than missing credentials. The text is all there is.
fn tunnel_refused(error: &reqwest::Error) -> bool {
    let chain = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    chain.map(ToString::to_string).any(|text| text == "tunnel error: unsuccessful")
}

fn unreachable(error: reqwest::Error) -> SetupError {
    let host = error.url().and_then(Url::host_str).unwrap_or("Azure").to_owned();
    // reqwest's own words for the cause come last, and hold no URL.
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    SetupError::new(Kind::Unreachable, format!("{host} could not be reached: {cause}"))
        .advise("check DNS, the proxy (--proxy, HTTPS_PROXY) and the CA (--ca-file, SSL_CERT_FILE)")
}

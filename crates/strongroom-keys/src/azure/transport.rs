//! The observing transport: the one place where requests leave for Azure. It sits under Microsoft's SDK, lets only
//! https to allowed hosts through, follows no redirect, takes no proxy from the environment, and keeps what the SDK
//! does not: a receipt of every request, and the raw body of every refusal.

use std::collections::VecDeque;
use std::error::Error as _;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::error::ErrorKind;
use azure_core::http::headers::{AUTHORIZATION, HeaderName, HeaderValue, Headers};
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{AsyncRawResponse, Body, Context, Method, Request, StatusCode};
use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use super::tls;
use super::{AzureConfig, Cloud, ConfigError};
use crate::{Code, KeyRequest, Receipt, RequestIds, Step, is_routine};

/// A TCP connection, the proxy's CONNECT and the TLS handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// One request with its answer. Shorter than a call's deadline, so that a connection which died silently in the pool
/// costs one try and not the call.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Azure's answers are a few kilobytes.
const LONGEST_BODY: usize = 256 * 1024;

/// Keeps what happened during one call. Travels with the SDK's context down to the transport.
#[derive(Debug, Clone, Default)]
pub(super) struct Recorder(Arc<Mutex<Vec<Exchange>>>);

/// One request and what became of it.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    pub receipt: Receipt,
    /// Method and path, as in `GET /keys/kek`.
    pub asked: String,
    /// What time the answer says that it was there.
    pub date: Option<Timestamp>,
    started: Instant,
    pub outcome: Outcome,
}

#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// Still waiting, or given up by the caller.
    Pending,
    /// A 2xx. Its body is not kept: it may hold a token or a key.
    Good,
    /// Any other status, with the whole body as it came.
    Refused { status: u16, body: Vec<u8>, retry_after: Option<Duration> },
    /// No readable answer.
    Failed { code: Code, detail: String },
}

impl Recorder {
    /// Everything recorded so far. Requests without an answer get the time they have taken until now.
    pub(super) fn exchanges(&self) -> Vec<Exchange> {
        let mut exchanges = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for exchange in &mut exchanges {
            if matches!(exchange.outcome, Outcome::Pending) {
                exchange.receipt.latency = exchange.started.elapsed();
            }
        }
        exchanges
    }

    /// A sign-in that could not even be asked for.
    pub(super) fn not_sent(&self, host: &str, code: Code, detail: String) {
        let receipt = Receipt {
            step: Step::SignIn,
            host: host.to_owned(),
            our_request_id: Uuid::new_v4(),
            azure_request_id: None,
            region: None,
            status: None,
            latency: Duration::ZERO,
        };
        let index = self.begin(String::new(), receipt);
        self.end(index, Outcome::Failed { code, detail });
    }

    fn begin(&self, asked: String, receipt: Receipt) -> usize {
        let mut exchanges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        exchanges.push(Exchange { receipt, asked, date: None, started: Instant::now(), outcome: Outcome::Pending });
        exchanges.len() - 1
    }

    fn answered(&self, index: usize, status: u16, headers: &reqwest::header::HeaderMap) {
        let mut exchanges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        exchanges[index].date = headers.get(reqwest::header::DATE).and_then(|date| http_date(date.to_str().ok()?));
        let receipt = &mut exchanges[index].receipt;
        receipt.status = Some(status);
        receipt.azure_request_id = header(headers, "x-ms-request-id");
        receipt.region = header(headers, "x-ms-keyvault-region");
    }

    fn end(&self, index: usize, outcome: Outcome) {
        let mut exchanges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let exchange = &mut exchanges[index];
        exchange.receipt.latency = exchange.started.elapsed();
        exchange.outcome = outcome;
    }
}

pub(super) struct ObservingTransport {
    client: reqwest::Client,
    ids: Option<Arc<dyn RequestIds>>,
    cloud: Cloud,
    proxied: bool,
    /// When and to which Key Vault the operations of the last [`LIMIT_WINDOW`] went.
    operations: Mutex<VecDeque<(Instant, String)>>,
}

/// What Azure's limits per Key Vault are counted over.
const LIMIT_WINDOW: Duration = Duration::from_secs(10);

impl fmt::Debug for ObservingTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservingTransport").field("cloud", &self.cloud).finish_non_exhaustive()
    }
}

impl ObservingTransport {
    pub(super) fn new(config: &AzureConfig, tls: rustls::ClientConfig) -> Result<ObservingTransport, ConfigError> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            // One connection a request: a connection that hangs takes nobody else along, and a retry gets another.
            .http1_only()
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .pool_idle_timeout(Duration::from_secs(60))
            .no_proxy();
        if let Some(proxy) = &config.proxy {
            // The URL may hold a password, so the error does not show it.
            builder = builder.proxy(reqwest::Proxy::all(proxy.clone()).map_err(|_| ConfigError::Proxy)?);
        }
        let client = builder.build().map_err(|error| ConfigError::Tls(error.without_url().to_string()))?;
        let proxied = config.proxy.is_some();
        let ids = config.request_ids.clone();
        Ok(ObservingTransport { client, ids, cloud: config.cloud, proxied, operations: Mutex::default() })
    }

    /// How many operations this installation asked of a Key Vault in the last [`LIMIT_WINDOW`].
    pub(super) fn recent_operations(&self, host: &str) -> usize {
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        forget_old(&mut operations);
        operations.iter().filter(|(_, asked)| asked == host).count()
    }

    fn count_operation(&self, host: &str) {
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        forget_old(&mut operations);
        operations.push_back((Instant::now(), host.to_owned()));
    }

    /// One request and its answer, whatever its status.
    pub(super) async fn exchange(&self, request: &Request, recorder: &Recorder) -> Result<AsyncRawResponse, Failed> {
        let url = request.url();
        let host = url.host_str().unwrap_or_default().to_owned();
        let step = step(request, &host, self.cloud);
        let id = match self.cloud.allows(&host) && url.scheme() == "https" && url.port().is_none() {
            true => self.id_of(request, step, &host).await,
            false => Err(Failed { code: Code::HostRefused, detail: format!("{host} was not contacted") }),
        };
        let our_request_id = *id.as_ref().unwrap_or(&Uuid::new_v4());
        if !matches!(step, Step::Challenge | Step::Tenant | Step::SignIn) {
            self.count_operation(&host);
        }
        let asked = format!("{} {}", request.method(), url.path());
        let receipt = Receipt {
            step,
            host: host.clone(),
            our_request_id,
            azure_request_id: None,
            region: None,
            status: None,
            latency: Duration::ZERO,
        };
        let index = recorder.begin(asked, receipt);
        let result = match id {
            Ok(id) => self.ask(request, id, &host, recorder, index).await,
            Err(failed) => Err(failed),
        };
        if let Err(Failed { code, detail }) = &result {
            recorder.end(index, Outcome::Failed { code: *code, detail: detail.clone() });
        }
        result
    }

    /// What uses the key has an id that was written down first; all else a random one.
    async fn id_of(&self, request: &Request, step: Step, host: &str) -> Result<Uuid, Failed> {
        match &self.ids {
            Some(ids) if matches!(step, Step::WrapKey | Step::UnwrapKey | Step::Sign) => {
                let path: Vec<&str> = request.url().path().split('/').filter(|part| !part.is_empty()).collect();
                let target = format!("{host}/{}", path.join("/")).to_ascii_lowercase();
                let id = ids.next(&KeyRequest { target, routine: is_routine() }).await;
                id.map_err(|detail| Failed { code: Code::NotAnnounced, detail })
            }
            _ => Ok(Uuid::new_v4()),
        }
    }

    async fn ask(
        &self,
        request: &Request,
        our_request_id: Uuid,
        host: &str,
        recorder: &Recorder,
        index: usize,
    ) -> Result<AsyncRawResponse, Failed> {
        let mut answer = self
            .client
            .execute(self.to_reqwest(request, our_request_id)?)
            .await
            .map_err(|error| self.no_answer(&error, host))?;
        let status = answer.status().as_u16();
        recorder.answered(index, status, answer.headers());

        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| broken_off(&error, host))? {
            if body.len() + chunk.len() > LONGEST_BODY {
                let detail = format!("{host} answered with status {status} and a body without end");
                return Err(Failed { code: Code::Unreadable, detail });
            }
            body.extend_from_slice(&chunk);
        }
        let outcome = match status {
            200..300 => Outcome::Good,
            _ => Outcome::Refused { status, body: body.clone(), retry_after: retry_after(answer.headers()) },
        };
        recorder.end(index, outcome);
        Ok(AsyncRawResponse::from_bytes(StatusCode::from(status), to_sdk_headers(answer.headers()), body))
    }

    fn to_reqwest(&self, request: &Request, our_request_id: Uuid) -> Result<reqwest::Request, Failed> {
        let method = match request.method() {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            _ => return Err(Failed { code: Code::BadRequest, detail: "only GET and POST are ever sent".to_owned() }),
        };
        let mut builder = self.client.request(method, request.url().clone());
        for (name, value) in request.headers().iter().filter(|(name, _)| name.as_str() != CLIENT_REQUEST_ID) {
            builder = builder.header(name.as_str(), value.as_str());
        }
        // The SDK reuses one id for the challenge and the request after it; each request gets its own here.
        builder = builder.header(CLIENT_REQUEST_ID, our_request_id.to_string());
        if let Body::Bytes(bytes) = request.body()
            && !bytes.is_empty()
        {
            builder = builder.body(bytes.clone());
        }
        builder.build().map_err(|_| Failed { code: Code::BadRequest, detail: "the request cannot be built".to_owned() })
    }

    /// Tells DNS, TCP, proxy and TLS apart, from the innermost cause that reqwest gives.
    fn no_answer(&self, error: &reqwest::Error, host: &str) -> Failed {
        let failed = |code, detail: String| Failed { code, detail };
        if let Some(tls) = find::<rustls::Error>(error) {
            return match tls::find_untrusted(tls) {
                Some(untrusted) => failed(Code::Untrusted, format!("{host}: {untrusted}")),
                None => failed(Code::TlsFailed, format!("{host}: {tls}")),
            };
        }
        if let Some(tunnel) = chain(error).map(ToString::to_string).find(|text| text.starts_with("tunnel error")) {
            // hyper-util keeps this type to itself; its texts are all there is.
            return match tunnel.as_str() {
                "tunnel error: failed to create underlying connection" => {
                    failed(Code::ProxyUnreachable, "no connection to the proxy".to_owned())
                }
                "tunnel error: proxy authorization required" => {
                    failed(Code::ProxyRefused, format!("CONNECT {host}:443: the proxy asks for credentials"))
                }
                _ => failed(
                    Code::ProxyRefused,
                    format!("CONNECT {host}:443 was refused, or the proxy cannot find the host"),
                ),
            };
        }
        let connecting = error.is_connect();
        if error.is_timeout() {
            let waited = if connecting { CONNECT_TIMEOUT } else { REQUEST_TIMEOUT }.as_secs();
            let through = if self.proxied { " through the proxy" } else { "" };
            return failed(Code::Timeout, format!("{host} did not answer{through} within {waited} s"));
        }
        if error.is_dns() {
            return failed(Code::UnknownHost, format!("{host} was looked up"));
        }
        // The HTTP connector marks what failed before TLS began; it, too, gives no more than a text.
        if connecting && !chain(error).any(|cause| cause.to_string().starts_with("tcp ")) {
            return failed(Code::TlsFailed, format!("{host}: the connection broke during the TLS handshake"));
        }
        let cause = find::<std::io::Error>(error).map_or("connection lost".to_owned(), ToString::to_string);
        failed(Code::Unreachable, format!("{host}: {cause}"))
    }
}

const CLIENT_REQUEST_ID: &str = "x-ms-client-request-id";

pub(super) struct Failed {
    pub code: Code,
    pub detail: String,
}

#[async_trait]
impl Policy for ObservingTransport {
    async fn send(&self, ctx: &Context, request: &mut Request, _next: &[Arc<dyn Policy>]) -> PolicyResult {
        let recorder = ctx.value::<Recorder>().cloned().unwrap_or_default();
        self.exchange(request, &recorder)
            .await
            .map_err(|failed| azure_core::Error::with_message(ErrorKind::Io, failed.code.as_str()))
    }
}

fn step(request: &Request, host: &str, cloud: Cloud) -> Step {
    if host == cloud.login_host() {
        return if request.method() == Method::Get { Step::Tenant } else { Step::SignIn };
    }
    if request.headers().get_optional_str(&AUTHORIZATION).is_none() {
        return Step::Challenge;
    }
    let path: Vec<&str> = request.url().path().split('/').filter(|part| !part.is_empty()).collect();
    match path.as_slice() {
        [.., "wrapkey"] => Step::WrapKey,
        [.., "unwrapkey"] => Step::UnwrapKey,
        [.., "sign"] => Step::Sign,
        ["keys", _] | ["keys", _, _] if request.method() == Method::Get && !PROBED.contains(&path[path.len() - 1]) => {
            Step::GetKey
        }
        _ => Step::Probe,
    }
}

/// What the check asks below a key besides the key itself; no key version is called so.
const PROBED: [&str; 2] = ["rotationpolicy", "versions"];

fn forget_old(operations: &mut VecDeque<(Instant, String)>) {
    while operations.front().is_some_and(|(asked, _)| asked.elapsed() >= LIMIT_WINDOW) {
        operations.pop_front();
    }
}

fn broken_off(error: &reqwest::Error, host: &str) -> Failed {
    match error.is_timeout() {
        true => Failed { code: Code::Timeout, detail: format!("{host} began to answer and stopped") },
        false => Failed { code: Code::Unreadable, detail: format!("the answer of {host} broke off") },
    }
}

/// An error and its sources. An `io::Error` hides the error it was made from as a source, so that one is looked into.
fn chain<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let this = next?;
        let inside = this.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inside {
            Some(inside) => Some(inside as &(dyn std::error::Error + 'static)),
            None => this.source(),
        };
        Some(this)
    })
}

fn find<E: std::error::Error + 'static>(error: &reqwest::Error) -> Option<&E> {
    chain(error).find_map(|cause| cause.downcast_ref::<E>())
}

fn header(headers: &reqwest::header::HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(super::answer::words(value)).filter(|value| !value.is_empty())
}

/// Seconds or milliseconds, in whichever of Azure's headers is there. Key Vault's 429 often has none.
fn retry_after(headers: &reqwest::header::HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    number("x-ms-retry-after-ms")
        .or_else(|| number("retry-after-ms"))
        .map(Duration::from_millis)
        .or_else(|| number("retry-after").map(Duration::from_secs))
}

/// The `Date` of an answer (RFC 9110, section 5.6.7).
fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp())
}

fn to_sdk_headers(headers: &reqwest::header::HeaderMap) -> Headers {
    let mut sdk = Headers::new();
    for (name, value) in headers {
        if let Ok(value) = value.to_str() {
            sdk.insert(HeaderName::from(name.as_str().to_owned()), HeaderValue::from(value.to_owned()));
        }
    }
    sdk
}

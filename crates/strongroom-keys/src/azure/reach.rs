//! The way to a host of Azure, hop by hop: name lookup, TCP, or the proxy and its CONNECT, then TLS. Only the check walks
//! it; requests go through the transport, which sees the same errors, but some of them only as another's words.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::future::select_ok;
use percent_encoding::percent_decode_str;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use url::Url;
use zeroize::Zeroizing;

use super::Cloud;
use super::answer::words;
use super::tls::{self, Untrusted};
use crate::Code;

/// What a hop takes at most. A proxy looks names up and connects before it answers, so it gets more.
const LOOKUP: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_secs(2);
const TUNNEL: Duration = Duration::from_secs(3);
const HANDSHAKE: Duration = Duration::from_secs(2);

/// A proxy's answer to CONNECT is a few lines.
const LONGEST_HEAD: usize = 8 * 1024;

/// One part of the way to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hop {
    Lookup,
    Connect,
    /// To the proxy, in place of the two above.
    Proxy,
    /// The proxy's answer to CONNECT.
    Tunnel,
    Tls,
}

/// What became of a hop.
#[derive(Debug)]
pub(crate) struct Hopped {
    pub hop: Hop,
    pub took: Duration,
    /// What was seen, in a few words, or what stopped it.
    pub outcome: Result<String, Blocked>,
}

/// Why the way ended.
#[derive(Debug)]
pub(crate) struct Blocked {
    /// Stable, as in `dns.unknown_host`.
    pub reason: &'static str,
    pub cause: String,
    pub fix: &'static str,
}

impl Blocked {
    fn by(code: Code, cause: String) -> Blocked {
        Blocked { reason: code.as_str(), cause, fix: code.fix() }
    }
}

/// How this installation's connections leave it.
pub(super) struct Ways {
    cloud: Cloud,
    tls: Arc<ClientConfig>,
    proxy: Option<Url>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
type Boxed = Box<dyn Stream>;

impl Ways {
    pub fn new(cloud: Cloud, tls: Arc<ClientConfig>, proxy: Option<Url>) -> Ways {
        Ways { cloud, tls, proxy }
    }

    pub fn proxied(&self) -> bool {
        self.proxy.is_some()
    }

    /// Walks to port 443 of a host of this cloud, hop by hop until one fails; over before `end`. Sends no request.
    pub async fn walk(&self, host: &str, end: Instant) -> Vec<Hopped> {
        if !self.cloud.allows(host) {
            let blocked = Blocked::by(Code::HostRefused, format!("{host} was not contacted."));
            return vec![Hopped { hop: Hop::Lookup, took: Duration::ZERO, outcome: Err(blocked) }];
        }
        let mut walk = Walk { hops: Vec::new(), end };
        // How far it came stands in the hops.
        let _: Option<()> = self.walk_to(host, &mut walk).await;
        walk.hops
    }

    async fn walk_to(&self, host: &str, walk: &mut Walk) -> Option<()> {
        let stream: Boxed = match &self.proxy {
            None => {
                let found = walk.hop(Hop::Lookup, LOOKUP, lookup(host, 443), |took| no_lookup(host, took)).await?;
                Box::new(
                    walk.hop(Hop::Connect, CONNECT, connect(&found, host), |took| silent(&found, host, took)).await?,
                )
            }
            Some(proxy) => {
                let to_proxy = self.connect_to_proxy(proxy);
                let mut stream = walk.hop(Hop::Proxy, CONNECT, to_proxy, |took| silent_proxy(proxy, took)).await?;
                let tunnel = tunnel(&mut stream, proxy, host);
                walk.hop(Hop::Tunnel, TUNNEL, tunnel, |took| silent_tunnel(proxy, host, took)).await?;
                stream
            }
        };
        let handshake = self.handshake(stream, host);
        walk.hop(Hop::Tls, HANDSHAKE, handshake, |took| silent_handshake(host, took)).await
    }

    async fn connect_to_proxy(&self, proxy: &Url) -> Result<(String, Boxed), Blocked> {
        let unreachable = |cause| Blocked::by(Code::ProxyUnreachable, cause);
        let (host, port) = (proxy.host_str().unwrap_or_default(), proxy.port_or_known_default().unwrap_or(80));
        // An IPv6 address stands in brackets in a URL.
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let found = lookup_host((bare, port)).await.map(Iterator::collect::<Vec<_>>);
        let found = found.map_err(|error| unreachable(format!("The proxy's name {host} was looked up: {error}.")))?;
        let stream = TcpStream::connect(found.as_slice());
        let stream = stream.await.map_err(|error| unreachable(format!("{}: {error}.", place(proxy))))?;
        let seen = format!("{} takes connections.", place(proxy));
        if proxy.scheme() != "https" {
            return Ok((seen, Box::new(stream)));
        }
        match self.tls(stream, bare).await {
            Ok((_, stream)) => Ok((seen, Box::new(stream))),
            Err(error) => Err(broken_tls(&error, &place(proxy))),
        }
    }

    async fn handshake(&self, stream: Boxed, host: &str) -> Result<(String, ()), Blocked> {
        match self.tls(stream, host).await {
            Ok((issuer, _)) => Ok((format!("The certificate was issued by {issuer}."), ())),
            Err(error) => Err(broken_tls(&error, host)),
        }
    }

    async fn tls<S: Stream>(
        &self,
        stream: S,
        host: &str,
    ) -> std::io::Result<(String, tokio_rustls::client::TlsStream<S>)> {
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let issuer = chain.last().map_or_else(|| "nobody".to_owned(), tls::issuer_of);
        Ok((issuer, stream))
    }
}

struct Walk {
    hops: Vec<Hopped>,
    end: Instant,
}

impl Walk {
    /// One hop within its own limit and the walk's end. What it gives with the words goes on to the next.
    async fn hop<T>(
        &mut self,
        hop: Hop,
        limit: Duration,
        future: impl Future<Output = Result<(String, T), Blocked>>,
        silent: impl FnOnce(Duration) -> Blocked,
    ) -> Option<T> {
        let start = Instant::now();
        let result = timeout_at(self.end.min(start + limit), future).await;
        let took = start.elapsed();
        let (outcome, result) = match result {
            Ok(Ok((seen, value))) => (Ok(seen), Some(value)),
            Ok(Err(blocked)) => (Err(blocked), None),
            Err(_) => (Err(silent(took)), None),
        };
        self.hops.push(Hopped { hop, took, outcome });
        result
    }
}

async fn lookup(host: &str, port: u16) -> Result<(String, Vec<SocketAddr>), Blocked> {
    let found: Vec<_> = match lookup_host((host, port)).await {
        Ok(found) => found.collect(),
        // The resolver's words are all there is to tell "no such name" from "no answer".
        Err(error) if error.to_string().contains("emporary failure") => {
            return Err(Blocked { cause: format!("{host} was looked up: {error}."), ..NO_DNS });
        }
        Err(error) => return Err(Blocked::by(Code::UnknownHost, format!("{host} was looked up: {error}."))),
    };
    let Some(first) = found.first() else {
        return Err(Blocked::by(Code::UnknownHost, format!("{host} was looked up and has no address.")));
    };
    Ok((format!("{host} is {}.", first.ip()), found))
}

const NO_DNS: Blocked = Blocked {
    reason: "dns.no_answer",
    cause: String::new(),
    fix: "Check the DNS servers that this server asks, and its way to them.",
};

fn no_lookup(host: &str, took: Duration) -> Blocked {
    Blocked { cause: format!("{host} was looked up; no DNS server answered within {}.", seconds(took)), ..NO_DNS }
}

/// All addresses at once: one that swallows packets must not stand in another's way.
async fn connect(found: &[SocketAddr], host: &str) -> Result<(String, TcpStream), Blocked> {
    match select_ok(found.iter().map(|address| Box::pin(TcpStream::connect(*address)))).await {
        Ok((stream, _)) => {
            let peer = stream.peer_addr().map_or_else(|_| host.to_owned(), |address| address.to_string());
            Ok((format!("{host} takes connections at {peer}."), stream))
        }
        Err(error) => Err(Blocked::by(Code::Unreachable, format!("{host} at {}: {error}.", addresses(found)))),
    }
}

fn silent(found: &[SocketAddr], host: &str, took: Duration) -> Blocked {
    let cause = format!("{host} at {} did not take a connection within {}.", addresses(found), seconds(took));
    Blocked::by(Code::Timeout, cause)
}

fn addresses(found: &[SocketAddr]) -> String {
    found.iter().take(4).map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn silent_proxy(proxy: &Url, took: Duration) -> Blocked {
    let cause = format!("{} did not take a connection within {}.", place(proxy), seconds(took));
    Blocked::by(Code::ProxyUnreachable, cause)
}

/// Asks the proxy for a connection to port 443 of the host (RFC 9110, section 9.3.6).
async fn tunnel(stream: &mut Boxed, proxy: &Url, host: &str) -> Result<(String, ()), Blocked> {
    let broken = |error: &dyn std::fmt::Display| {
        let cause = format!("{} took CONNECT {host}:443 and then the connection broke: {error}.", place(proxy));
        Blocked::by(Code::ProxyRefused, cause)
    };
    let credentials = basic_credentials(proxy);
    let mut request = Zeroizing::new(format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n"));
    if let Some(credentials) = &credentials {
        request.push_str("Proxy-Authorization: Basic ");
        request.push_str(credentials);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| broken(&error))?;
    let mut head = Vec::new();
    // Byte by byte: what follows the head belongs to TLS.
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) if head.len() < LONGEST_HEAD => head.push(byte),
            Ok(_) => return Err(broken(&"its answer has no end")),
            Err(error) => return Err(broken(&error)),
        }
    }
    let first = String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse::<u16>().ok());
    let answered = format!("{} answered CONNECT {host}:443 with \"{}\".", place(proxy), words(&first));
    match status {
        Some(200..300) => Ok((format!("{} connects to {host}:443.", place(proxy)), ())),
        status => Err(refusal(status, answered, credentials.is_some())),
    }
}

/// What a status of an answer to CONNECT means that is no success.
fn refusal(status: Option<u16>, answered: String, sent_credentials: bool) -> Blocked {
    match status {
        Some(407) if sent_credentials => Blocked {
            reason: "proxy.credentials",
            cause: format!("{answered} It refuses the credentials in azure.proxy."),
            fix: "Correct the user name and password in azure.proxy: http://USER:PASSWORD@HOST:PORT.",
        },
        Some(407) => Blocked {
            reason: "proxy.credentials",
            cause: format!("{answered} It asks for credentials, and azure.proxy has none."),
            fix: "Write them into azure.proxy: http://USER:PASSWORD@HOST:PORT.",
        },
        Some(500..600) => Blocked {
            reason: "proxy.failed",
            cause: answered,
            fix: "The proxy itself could not connect. Check the name for typing errors, whether the Key Vault was deleted, and the proxy's own DNS and way to Azure.",
        },
        _ => Blocked::by(Code::ProxyRefused, answered),
    }
}

fn basic_credentials(proxy: &Url) -> Option<Zeroizing<String>> {
    if proxy.username().is_empty() && proxy.password().is_none() {
        return None;
    }
    let mut pair = Zeroizing::new(percent_decode_str(proxy.username()).collect::<Vec<u8>>());
    pair.push(b':');
    pair.extend(percent_decode_str(proxy.password().unwrap_or_default()));
    Some(Zeroizing::new(BASE64.encode(&*pair)))
}

fn silent_tunnel(proxy: &Url, host: &str, took: Duration) -> Blocked {
    let cause = format!("{} took CONNECT {host}:443 and did not answer within {}.", place(proxy), seconds(took));
    Blocked {
        reason: "proxy.silent",
        cause,
        fix: "Ask whoever runs the proxy whether it may connect to this host, and whether it finds it.",
    }
}

fn broken_tls(error: &std::io::Error, host: &str) -> Blocked {
    match error.get_ref().and_then(|inside| inside.downcast_ref::<rustls::Error>()) {
        Some(tls) => match tls::find_untrusted(tls) {
            Some(untrusted) => untrusted_by(untrusted, host),
            None => Blocked::by(Code::TlsFailed, format!("{host}: {tls}.")),
        },
        None => {
            Blocked::by(Code::TlsFailed, format!("{host}: the connection broke during the TLS handshake: {error}."))
        }
    }
}

fn untrusted_by(untrusted: &Untrusted, host: &str) -> Blocked {
    Blocked::by(Code::Untrusted, format!("{host}: {untrusted}."))
}

fn silent_handshake(host: &str, took: Duration) -> Blocked {
    let cause = format!("{host} took the connection and did not answer the TLS handshake within {}.", seconds(took));
    Blocked::by(Code::TlsFailed, cause)
}

/// Where the proxy is, without its credentials.
fn place(proxy: &Url) -> String {
    let host = proxy.host_str().unwrap_or_default();
    format!("The proxy {}://{host}:{}", proxy.scheme(), proxy.port_or_known_default().unwrap_or(80))
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways(proxy: Option<&str>) -> Ways {
        let tls = tls::client_config(None).expect("a configuration");
        Ways::new(Cloud::Public, Arc::new(tls), proxy.map(|url| url.parse().expect("a URL")))
    }

    fn walk() -> Walk {
        Walk { hops: Vec::new(), end: Instant::now() + Duration::from_secs(5) }
    }

    #[tokio::test]
    async fn a_host_of_no_key_vault_is_not_even_looked_up() {
        for proxy in [None, Some("http://127.0.0.1:1")] {
            let hops = ways(proxy).walk("example.com", walk().end).await;
            let blocked = hops[0].outcome.as_ref().expect_err("refused");
            assert_eq!((hops.len(), blocked.reason), (1, "fault.host_not_allowed"));
        }
    }

    #[tokio::test]
    async fn a_port_that_refuses_and_one_that_swallows_are_told_apart() {
        let refusing = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let found = [refusing];
        let mut way = walk();
        let none = way.hop(Hop::Connect, CONNECT, connect(&found, "acme"), |took| silent(&found, "acme", took)).await;
        let blocked = way.hops[0].outcome.as_ref().expect_err("refused");
        assert!(none.is_none() && blocked.cause.starts_with(&format!("acme at {refusing}: ")), "{blocked:?}");
        assert_eq!(blocked.reason, "azure.unreachable");

        let mut way = walk();
        let swallowing = std::future::pending::<Result<(String, ()), Blocked>>();
        let limit = Duration::from_millis(50);
        way.hop(Hop::Connect, limit, swallowing, |took| silent(&found, "acme", took)).await;
        let blocked = way.hops[0].outcome.as_ref().expect_err("silent");
        assert_eq!(blocked.reason, "azure.timeout");
        assert!(blocked.cause.contains("did not take a connection within 0.1 s"), "{blocked:?}");
    }

    #[tokio::test]
    async fn an_address_that_answers_is_found_beside_one_that_does_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let good = listener.local_addr().expect("an address");
        let refusing = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let (seen, _) = connect(&[refusing, good], "acme").await.expect("connected");
        assert_eq!(seen, format!("acme takes connections at {good}."));
    }

    #[test]
    fn the_proxy_is_named_without_its_credentials() {
        let proxy = "http://user:hunter2@proxy.example:3128".parse().expect("a URL");
        assert_eq!(place(&proxy), "The proxy http://proxy.example:3128");
        assert!(silent_tunnel(&proxy, "acme", CONNECT).cause.starts_with("The proxy http://proxy.example:3128 took"));
    }
}

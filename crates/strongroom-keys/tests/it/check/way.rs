//! The way to Azure, broken at each place: the check names it, and is over long before 15 s whatever hangs. The times
//! are printed (`--no-capture`).

use std::time::{Duration, Instant};

use azure_standin::{Effect, Preset};
use strongroom_keys::azure::{AzureConfig, AzureKeys};
use strongroom_keys::check::{AzureInput, CheckLine, CheckStatus};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{check_with, find, first_failure, status};
use crate::tenant::{HOST, Tenant};

const LOGIN: &str = "login.microsoftonline.com";

/// Checks, prints how long it took, and requires that it was shorter than `most`.
#[expect(clippy::print_stdout, reason = "the measured times are an answer of these tests")]
async fn timed<'a>(
    what: &str,
    most: Duration,
    tenant: &'a Tenant,
    keys: &AzureKeys,
    change: impl FnOnce(&mut AzureInput<'a>),
) -> Vec<CheckLine> {
    let start = Instant::now();
    let lines = check_with(tenant, keys, change).await;
    let elapsed = start.elapsed();
    println!("{what}: {} ms", elapsed.as_millis());
    assert!(elapsed < most, "{what} took {elapsed:?}");
    lines
}

fn through(tenant: &Tenant, proxy: &str) -> AzureKeys {
    let config = AzureConfig { proxy: Some(proxy.parse().expect("a URL")), ..tenant.config() };
    AzureKeys::new(&config).expect("a configuration")
}

#[tokio::test]
async fn an_unknown_host_is_named() {
    let tenant = Tenant::start().await;
    let direct = AzureKeys::new(&AzureConfig::default()).expect("a configuration");
    let elsewhere = |input: &mut AzureInput<'_>| input.vault_url = "https://no-such-kv-3f9a.vault.azure.net";
    let lines = timed("unknown host", Duration::from_secs(4), &tenant, &direct, elsewhere).await;
    let first = first_failure(&lines);
    // A machine whose resolver is out of reach hears nothing instead of a no.
    assert!(matches!(first.reason, Some("dns.unknown_host" | "dns.no_answer")), "{first:?}");
    assert_eq!(first.code, "net.dns");
    assert!(first.cause.as_deref().is_some_and(|cause| cause.contains("no-such-kv-3f9a.vault.azure.net")), "{first:?}");
    assert_eq!(status(&lines, "proxy.connect"), CheckStatus::Skipped);

    // Behind a proxy it is the proxy that looks names up.
    let lines = timed("unknown host, proxy", Duration::from_secs(4), &tenant, &tenant.keys(), elsewhere).await;
    let first = first_failure(&lines);
    assert_eq!((first.code, first.reason), ("proxy.connect", Some("proxy.failed")), "{first:?}");
    assert!(first.cause.as_deref().is_some_and(|cause| cause.contains("\"HTTP/1.1 502 Bad Gateway\"")), "{first:?}");
    assert_eq!(find(&lines, "net.dns").cause.as_deref(), Some("The proxy does this."));
}

#[tokio::test]
async fn an_untrusted_authority_is_named_for_the_host_that_shows_it() {
    let tenant = Tenant::start().await;
    for (host, line, other) in [(HOST, "tls.key_vault", "tls.sign_in"), (LOGIN, "tls.sign_in", "tls.key_vault")] {
        let authority = Some("Contoso Inspection CA".to_owned());
        tenant.fault_at(host, Effect { untrusted_ca: authority, ..Effect::default() });
        let lines = timed("untrusted CA", Duration::from_secs(4), &tenant, &tenant.keys(), |_| ()).await;
        let first = first_failure(&lines);
        assert_eq!((first.code, first.reason), (line, Some("tls.untrusted")), "{first:?}");
        let cause = first.cause.as_deref().expect("a cause");
        assert!(cause.contains("CN=Contoso Inspection CA") && cause.contains(host), "{cause}");
        assert!(first.fix.as_deref().is_some_and(|fix| fix.contains("azure.ca_file")), "{first:?}");
        assert_eq!(status(&lines, other), CheckStatus::Pass);
        tenant.standin.clear_faults();
    }
    let lines = check_with(&tenant, &tenant.keys(), |_| ()).await;
    let issued = find(&lines, "tls.key_vault").cause.as_deref();
    assert!(issued.is_some_and(|cause| cause.starts_with("The certificate was issued by CN=")), "{issued:?}");
}

#[tokio::test]
async fn throttling_is_named_at_once_however_long_azure_asks_to_wait() {
    let tenant = Tenant::start().await;
    let throttled = Effect { preset: Some(Preset::Throttled), retry_after: Some(75), ..Effect::default() };
    tenant.fault("get", throttled);
    let lines = timed("throttled, Retry-After 75", Duration::from_secs(4), &tenant, &tenant.keys(), |_| ()).await;
    let first = first_failure(&lines);
    assert_eq!((first.code, first.reason), ("key.readable", Some("azure.throttled")), "{first:?}");
    let cause = first.cause.as_deref().expect("a cause");
    assert!(cause.contains("VaultRequestTypeLimitReached"), "{cause}");
    assert!(cause.contains("1 times in the last 10 s; Azure's limit for RSA-4096 is 500"), "{cause}");
}

/// A port that takes no more connections: its queue is full, so what is sent to it vanishes.
async fn black_hole() -> (String, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let listener = socket.listen(1).expect("it listens");
    let address = listener.local_addr().expect("an address");
    let mut waiting = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        waiting.push(stream.expect("it waits in the queue"));
        assert!(waiting.len() < 100, "the queue never fills");
    }
    (format!("http://{address}"), listener, waiting)
}

#[tokio::test]
async fn a_black_holed_port_is_given_up_and_named() {
    let tenant = Tenant::start().await;
    let (proxy, _listener, _waiting) = black_hole().await;
    let keys = through(&tenant, &proxy);
    let lines = timed("black-holed port", Duration::from_secs(4), &tenant, &keys, |_| ()).await;
    let first = first_failure(&lines);
    assert_eq!((first.code, first.reason), ("proxy.reachable", Some("proxy.unreachable")), "{first:?}");
    assert!(first.cause.as_deref().is_some_and(|cause| cause.contains("did not take a connection within 2.0 s")));

    tenant.fault_at(HOST, Effect { hang: true, ..Effect::default() });
    let most = Duration::from_secs(6);
    let lines = timed("black-holed port behind the proxy", most, &tenant, &tenant.keys(), |_| ()).await;
    let first = first_failure(&lines);
    assert_eq!((first.code, first.reason), ("proxy.connect", Some("proxy.silent")), "{first:?}");
    let cause = first.cause.as_deref().expect("a cause");
    assert!(cause.contains(&format!("took CONNECT {HOST}:443 and did not answer within 3.0 s")), "{cause}");
    assert!(cause.contains(LOGIN), "what is known of the other host is told too: {cause}");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_with_its_answer() {
    let tenant = Tenant::start().await;
    for (answer, reason) in [(407, "proxy.credentials"), (403, "proxy.refused"), (502, "proxy.failed")] {
        tenant.fault_at(HOST, Effect { connect_status: Some(answer), ..Effect::default() });
        let lines =
            timed(&format!("proxy answers {answer}"), Duration::from_secs(4), &tenant, &tenant.keys(), |_| ()).await;
        let first = first_failure(&lines);
        assert_eq!((first.code, first.reason), ("proxy.connect", Some(reason)), "{first:?}");
        assert!(first.cause.as_deref().is_some_and(|cause| cause.contains(&answer.to_string())), "{first:?}");
        assert_eq!(status(&lines, "proxy.reachable"), CheckStatus::Pass);
        assert_eq!(status(&lines, "tls.key_vault"), CheckStatus::Skipped);
        tenant.standin.clear_faults();
    }
}

/// A proxy that asks for credentials, and keeps what it was sent.
async fn guarded_proxy() -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (heads, heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1024];
            let read = stream.read(&mut head).await.unwrap_or_default();
            // The test may have ended; the next client gets the same answer.
            let _ = heads.send(String::from_utf8_lossy(&head[..read]).into_owned());
            let _ = stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
        }
    });
    (address.to_string(), heard)
}

#[tokio::test]
async fn credentials_for_the_proxy_are_sent_and_never_told() {
    let tenant = Tenant::start().await;
    let (address, mut heard) = guarded_proxy().await;
    let keys = through(&tenant, &format!("http://{address}"));
    let lines = timed("proxy asks for credentials", Duration::from_secs(4), &tenant, &keys, |_| ()).await;
    let first = first_failure(&lines);
    assert_eq!(first.reason, Some("proxy.credentials"));
    assert!(first.cause.as_deref().is_some_and(|cause| cause.contains("azure.proxy has none")), "{first:?}");
    assert!(!heard.recv().await.expect("a CONNECT").contains("Proxy-Authorization"));

    let keys = through(&tenant, &format!("http://us%65r:hunter%322@{address}"));
    while heard.try_recv().is_ok() {}
    let lines = check_with(&tenant, &keys, |_| ()).await;
    let first = first_failure(&lines);
    assert!(first.cause.as_deref().is_some_and(|cause| cause.contains("refuses the credentials")), "{first:?}");
    assert!(!format!("{lines:?}").contains("hunter"), "{first:?}");
    // "user:hunter22"
    let head = heard.recv().await.expect("a CONNECT");
    assert!(head.contains("Proxy-Authorization: Basic dXNlcjpodW50ZXIyMg==\r\n"), "{head}");
}

#[tokio::test]
async fn a_proxy_that_is_away_is_named() {
    let tenant = Tenant::start().await;
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let keys = through(&tenant, &format!("http://{closed}"));
    let lines = timed("proxy unreachable", Duration::from_secs(2), &tenant, &keys, |_| ()).await;
    let first = first_failure(&lines);
    assert_eq!((first.code, first.reason), ("proxy.reachable", Some("proxy.unreachable")), "{first:?}");
    let cause = first.cause.as_deref().expect("a cause");
    assert!(cause.contains(&closed.to_string()) && cause.contains("refused"), "{cause}");
}

#[tokio::test]
async fn a_hanging_azure_is_given_up_and_named() {
    let tenant = Tenant::start().await;
    for (host, line, other) in [(LOGIN, "reach.sign_in", "reach.key_vault"), (HOST, "reach.key_vault", "reach.sign_in")]
    {
        tenant.fault_at(host, Effect { delay_ms: Some(30_000), ..Effect::default() });
        let lines = timed(&format!("{host} hangs"), Duration::from_secs(5), &tenant, &tenant.keys(), |_| ()).await;
        let first = first_failure(&lines);
        assert_eq!((first.code, first.reason), (line, Some("azure.timeout")), "{first:?}");
        assert_eq!(status(&lines, other), CheckStatus::Pass);
        tenant.standin.clear_faults();
    }
}

#[tokio::test]
async fn an_azure_that_is_slow_everywhere_is_still_answered_about_in_time() {
    let tenant = Tenant::start().await;
    tenant.fault("unwrapkey", Effect { delay_ms: Some(1_100), ..Effect::default() });
    let lines = check_with(&tenant, &tenant.keys(), |_| ()).await;
    let line = find(&lines, "azure.latency");
    assert_eq!((line.status, line.reason), (CheckStatus::Warn, Some("azure.slow")), "{line:?}");
    assert_eq!(status(&lines, "key.compare"), CheckStatus::Pass);
    tenant.standin.clear_faults();

    for host in [HOST, LOGIN] {
        tenant.fault_at(host, Effect { delay_ms: Some(2_400), ..Effect::default() });
    }
    let lines = timed("every answer takes 2.4 s", Duration::from_secs(15), &tenant, &tenant.keys(), |_| ()).await;
    assert_eq!(first_failure(&lines).reason, Some("azure.timeout"));
}

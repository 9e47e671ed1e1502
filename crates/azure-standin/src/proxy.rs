//! The front door: a CONNECT proxy that ends TLS itself. It opens no connection to anywhere, ever.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::ca::Ca;
use crate::http::Body;
use crate::service::{self, Site};
use crate::{World, lock};

const HEAD_LIMIT: usize = 8 * 1024;
const HANDSHAKE: Duration = Duration::from_secs(20);
const GRACE: Duration = Duration::from_secs(2);

/// Becomes true, or loses its sender, when it is time to stop.
pub(crate) type Shutdown = watch::Receiver<bool>;

/// Serves every connection of `listener` with `serve` until shutdown; then gives those that are open a moment to end.
pub(crate) async fn accept<F>(listener: TcpListener, mut shutdown: Shutdown, serve: impl Fn(TcpStream, SocketAddr) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = shutdown.changed() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(serve(stream, peer));
                }
                // Out of file descriptors, say: one must be given back first.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
    drop(listener);
    let _ = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
}

/// One client of the proxy: its CONNECT, then TLS, then HTTP as the host it asked for.
pub(crate) async fn serve_client(world: Arc<World>, mut stream: TcpStream, peer: SocketAddr, mut shutdown: Shutdown) {
    let Ok(Ok(head)) = timeout(HANDSHAKE, read_head(&mut stream)).await else { return };
    let host = connect_host(&head);
    let effect = lock(&world.faults).strike_connect(world.clock.now(), &host).unwrap_or_default();
    if effect.hang {
        tracing::info!(host, "a CONNECT hangs on order");
        let mut nowhere = tokio::io::sink();
        tokio::select! {
            _ = shutdown.changed() => {}
            _ = tokio::io::copy(&mut stream, &mut nowhere) => {}
        }
        return;
    }
    let admitted = match effect.connect_status {
        Some(status) => Err((status, "Refused on order.".to_owned())),
        None => admit(&world, &head, &host).await,
    };
    let site = match admitted {
        Ok(site) => site,
        Err((status, sentence)) => {
            tracing::info!(host, status, "refused a CONNECT");
            let _ = stream.write_all(refusal(status, &sentence).as_bytes()).await;
            let _ = stream.shutdown().await;
            return;
        }
    };
    if stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_err() {
        return;
    }
    let config = match &effect.untrusted_ca {
        Some(name) => Ca::generate(name).and_then(|ca| ca.server_config(&host)),
        None => world.ca.server_config(&host),
    };
    let config = match config {
        Ok(config) => config,
        Err(error) => return tracing::error!(%error, "no certificate"),
    };
    let Ok(Ok(tls)) = timeout(HANDSHAKE, tokio_rustls::TlsAcceptor::from(config).accept(stream)).await else { return };
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (world, site, host) = (world.clone(), site.clone(), host.clone());
        async move {
            let reply = service::answer(world, site, &host, peer.ip(), request).await;
            reply.map(crate::http::Reply::into_hyper).ok_or_else(|| std::io::Error::other("dropped on purpose"))
        }
    });
    serve_http(tls, service, shutdown).await;
}

/// HTTP/1.1 on one connection, until it ends or shutdown has let the request in progress finish.
pub(crate) async fn serve_http<I, S>(io: I, service: S, mut shutdown: Shutdown)
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Service<hyper::Request<Incoming>, Response = hyper::Response<Body>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(io), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = shutdown.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// The host that the CONNECT asks for, in lower case; empty if it is none, or not for port 443.
fn connect_host(head: &str) -> String {
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let target = words.next().filter(|method| *method == "CONNECT").and(words.next());
    target.and_then(|target| target.strip_suffix(":443")).unwrap_or_default().to_ascii_lowercase()
}

/// Who is played here under that name, if it is someone who exists; else a status and a sentence.
async fn admit(world: &Arc<World>, head: &str, host: &str) -> Result<Site, (u16, String)> {
    if !head.starts_with("CONNECT ") {
        return Err((405, "This is a stand-in for Azure. It takes CONNECT requests only.".into()));
    }
    let Some(site) = Site::of(host) else {
        let target = head.split(' ').nth(1).unwrap_or_default();
        return Err((403, format!("This is a stand-in for Azure. It does not play {target} and never tunnels.")));
    };
    let exists = {
        let (world, site) = (world.clone(), site.clone());
        tokio::task::spawn_blocking(move || site.exists(&world)).await.unwrap_or(false)
    };
    if !exists {
        return Err((502, format!("The host name {host} could not be resolved: there is no such Key Vault.")));
    }
    Ok(site)
}

async fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // Byte by byte, so that nothing of the TLS handshake behind it is taken.
        head.push(stream.read_u8().await?);
        if head.len() > HEAD_LIMIT {
            return Err(std::io::Error::other("request head too long"));
        }
    }
    String::from_utf8(head).map_err(std::io::Error::other)
}

fn refusal(status: u16, sentence: &str) -> String {
    let reason = hyper::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let ask = if status == 407 { "proxy-authenticate: Basic realm=\"proxy\"\r\n" } else { "" };
    format!(
        "HTTP/1.1 {status} {}\r\n{ask}content-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: \
         close\r\n\r\n{sentence}\n",
        reason.unwrap_or("Refused"),
        sentence.len() + 1
    )
}

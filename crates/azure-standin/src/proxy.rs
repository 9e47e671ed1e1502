//! The front door: a CONNECT proxy that ends TLS itself. It opens no connection to anywhere, ever.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::World;
use crate::service::{self, Site};

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
pub(crate) async fn serve_client(world: Arc<World>, mut stream: TcpStream, peer: SocketAddr, shutdown: Shutdown) {
    let Ok(Ok(head)) = timeout(HANDSHAKE, read_head(&mut stream)).await else { return };
    let (host, site) = match admit(&world, &head).await {
        Ok(admitted) => admitted,
        Err((status, sentence)) => {
            tracing::info!(status, "refused a CONNECT");
            let _ = stream.write_all(refusal(status, &sentence).as_bytes()).await;
            let _ = stream.shutdown().await;
            return;
        }
    };
    if stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_err() {
        return;
    }
    let config = match world.ca.server_config(&host) {
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
    S: Service<hyper::Request<Incoming>, Response = hyper::Response<Full<Bytes>>>,
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

/// Whom the CONNECT asks for, if it is someone who is played here and exists.
async fn admit(world: &Arc<World>, head: &str) -> Result<(String, Site), (u16, String)> {
    let refuse = |status: u16, sentence: String| Err((status, sentence));
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (Some("CONNECT"), Some(target)) = (words.next(), words.next()) else {
        return refuse(405, "This is a stand-in for Azure. It takes CONNECT requests only.".into());
    };
    let host = target.strip_suffix(":443").unwrap_or_default().to_ascii_lowercase();
    let Some(site) = Site::of(&host) else {
        return refuse(403, format!("This is a stand-in for Azure. It does not play {target} and never tunnels."));
    };
    let exists = {
        let (world, site) = (world.clone(), site.clone());
        tokio::task::spawn_blocking(move || site.exists(&world)).await.unwrap_or(false)
    };
    if !exists {
        return refuse(502, format!("The host name {host} could not be resolved: there is no such Key Vault."));
    }
    Ok((host, site))
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
    let reason = match status {
        403 => "Forbidden",
        405 => "Method Not Allowed",
        _ => "Bad Gateway",
    };
    format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: \
         close\r\n\r\n{sentence}\n",
        sentence.len() + 1
    )
}

//! A network that can fail: a TCP relay on loopback between two of the programs.

use std::{net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// How the way is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Open,
    /// Every piece that is sent takes so long.
    Slow(Duration),
    /// Connections stay open and nothing comes through; it does when the way is open again.
    Silent,
    /// Connections break, and no new ones come about.
    Broken,
}

/// Listens until the test's runtime ends.
pub struct Relay {
    pub port: u16,
    way: watch::Sender<Way>,
}

impl Relay {
    /// To a port of this machine, whoever listens there at the time of a connection.
    pub async fn to(target: u16) -> Relay {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("it listens").port();
        let way = watch::Sender::new(Way::Open);
        let seen = way.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, target, seen.clone()));
            }
        });
        Relay { port, way }
    }

    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

async fn connect(client: TcpStream, target: u16, mut way: watch::Receiver<Way>) {
    if !passable(&mut way).await {
        return;
    }
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else { return };
    let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (up, down) = (pass(from_client, to_server, way.clone()), pass(from_server, to_client, way));
    tokio::join!(up, down);
}

/// Until one side ends, or the way breaks.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: watch::Receiver<Way>) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let mut broken = way.clone();
        let read = tokio::select! {
            read = from.read(&mut bytes) => read,
            _ = broken.wait_for(|way| *way == Way::Broken) => return,
        };
        let Ok(read @ 1..) = read else { break };
        if !passable(&mut way).await || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// Waits as long as the way wants; false when it is broken.
async fn passable(way: &mut watch::Receiver<Way>) -> bool {
    let now = way.wait_for(|way| *way != Way::Silent).await.map(|way| *way);
    match now {
        Ok(Way::Slow(pause)) => tokio::time::sleep(pause).await,
        Ok(Way::Broken) | Err(_) => return false,
        Ok(Way::Open | Way::Silent) => {}
    }
    true
}

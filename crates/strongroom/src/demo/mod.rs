//! `strongroom demo`: the whole story on one machine. A stand-in for Azure, a server, a workspace with one member of
//! each role, a Cloud vault, and a vault whose key is in (the stand-in's) Azure Key Vault, filled with a sample import.
//!
//! It takes the same way as a customer: set-up by requests to Graph, Resource Manager and Key Vault, and step 5 through
//! the REST API. The server reaches the stand-in exactly as it would reach Azure behind a corporate proxy.

mod file;
mod key;
mod steps;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use azure_standin::{RsaPool, Standin};
use strongroom_envelope::SystemRandom;
use tokio::{net::TcpListener, sync::oneshot};

pub use self::{file::DemoFile, key::KeyCommand};
use crate::{
    clock::SystemClock,
    config::Config,
    error::{Error, Result},
    server,
};

/// Where the demo lives, and how it starts.
#[derive(Debug, Clone)]
pub struct Options {
    pub dir: PathBuf,
    /// Throw away what is there and start over.
    pub fresh: bool,
    /// The server's port; the stand-in takes the two after it.
    pub port: u16,
}

/// Starts everything, fills it if it is new, prints what to try, and serves until `stop` ends.
pub async fn run(options: &Options, say: &(dyn Fn(&str) + Sync), stop: impl Future<Output = ()>) -> Result<()> {
    let ports = Ports::of(options.port)?;
    // Taken before anything is made, so that an occupied port is named at once.
    let listener = server::listen(ports.server).await?;
    // Without its file a demo was interrupted while it was filled: nothing in it is worth keeping.
    if options.fresh || !DemoFile::exists(&options.dir) {
        remove(&options.dir)?;
    }
    fs::create_dir_all(&options.dir).map_err(|error| unusable(&options.dir, &error))?;
    say("Starting the stand-in for Azure");
    let standin = start_standin(&options.dir, &ports).await?;
    let outcome = serve(options, &standin, listener, say, stop).await;
    standin.shutdown().await;
    outcome
}

/// `strongroom demo key …`: acts on the demo's key as the Azure administrator, over the wire.
pub async fn key(dir: &Path, command: KeyCommand) -> Result<String> {
    key::run(dir, &DemoFile::read(dir)?, command).await
}

async fn serve(
    options: &Options,
    standin: &Standin,
    listener: TcpListener,
    say: &(dyn Fn(&str) + Sync),
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let config = config(&options.dir, options.port, standin)?;
    let opened = server::open(&config, Arc::new(SystemClock), Arc::new(SystemRandom::new())).await?;
    let (ask, asked) = oneshot::channel::<()>();
    let running = tokio::spawn(server::serve(Arc::clone(&opened.app), listener, None, async {
        // A dropped sender means the same as a message: stop.
        let _ = asked.await;
    }));
    let work = async {
        match steps::fill(options, &opened.app, standin, say).await {
            Ok(file) => say(&file.what_to_try(&options.dir)),
            Err(error) => return error,
        }
        std::future::pending().await
    };
    let outcome = tokio::select! {
        error = work => Err(error),
        () = stop => Ok(()),
    };
    drop(ask);
    // The server ends within its requests; its own trouble is secondary to the outcome.
    let _ = running.await;
    outcome
}

struct Ports {
    server: SocketAddr,
    standin: SocketAddr,
    control: SocketAddr,
}

impl Ports {
    fn of(port: u16) -> Result<Self> {
        let at = |offset: u16| -> Result<SocketAddr> {
            let port = port.checked_add(offset).ok_or_else(|| Error::Setup {
                what: format!("port {port} leaves no room for the stand-in's two ports after it").into(),
                fix: "Choose a port up to 65533.".into(),
            })?;
            Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        };
        Ok(Self { server: at(0)?, standin: at(1)?, control: at(2)? })
    }
}

async fn start_standin(dir: &Path, ports: &Ports) -> Result<Standin> {
    let config = azure_standin::Config {
        listen: ports.standin,
        control: ports.control,
        data: Some(dir.join("azure")),
        rsa_pool: RsaPool::default(),
        ..azure_standin::Config::default()
    };
    Standin::start(config).await.map_err(|error| Error::Setup {
        what: error.to_string().into(),
        fix: "Choose other ports with --port, or start over with --fresh.".into(),
    })
}

fn config(dir: &Path, port: u16, standin: &Standin) -> Result<Config> {
    let path = |name: &str| dir.join(name).display().to_string();
    let ca = standin.ca_path().map(|path| path.display().to_string()).unwrap_or_default();
    let quoted = |text: String| toml_string(&text);
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:{port}\"\n\n[database]\nurl = {}\n\n[instance]\nkey_file = {}\n\n\
         [azure]\nproxy = \"{}\"\nca_file = {}\n\n[notices]\nallow_loopback = true\n",
        quoted(format!("sqlite:{}", path("strongroom.db"))),
        quoted(path("instance.key")),
        standin.proxy_url(),
        quoted(ca),
    );
    fs::write(dir.join("strongroom.toml"), &text).map_err(|error| unusable(dir, &error))?;
    // The limits of vaults, a workload identity and e-mail may be tried out; everything else of the environment belongs to
    // another server.
    let tried = ["STRONGROOM_VAULTS__", "STRONGROOM_AZURE__FEDERATED_TOKEN_FILE", "STRONGROOM_SMTP__"];
    let environment = std::env::vars().filter(|(name, _)| tried.iter().any(|start| name.starts_with(start)));
    Config::parse(&text, "the demo's configuration", environment).map_err(|error| Error::Setup {
        what: error.to_string().into(),
        fix: "Choose another folder with --dir.".into(),
    })
}

/// A TOML basic string; the escapes of JSON are among TOML's.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Removes only what is a demo's: a folder with something else in it is left alone.
fn remove(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    let empty = fs::read_dir(dir).map_err(|error| unusable(dir, &error))?.next().is_none();
    if !empty && !dir.join("strongroom.toml").exists() {
        return Err(Error::Setup {
            what: format!("{} holds something that no demo made; it is left alone", dir.display()).into(),
            fix: "Name another folder with --dir.".into(),
        });
    }
    fs::remove_dir_all(dir).map_err(|error| unusable(dir, &error))
}

fn unusable(dir: &Path, error: &std::io::Error) -> Error {
    Error::Setup {
        what: format!("{} cannot be used: {error}", dir.display()).into(),
        fix: "Choose another folder with --dir.".into(),
    }
}

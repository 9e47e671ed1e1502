//! A stand-in for Azure: Entra ID, Microsoft Graph, Resource Manager and Key Vault's keys, in one local process.
//!
//! Clients reach it as they would reach Azure from behind a corporate proxy: `HTTPS_PROXY` names its address, a CA
//! variable names its certificate, and the host names stay the real ones. It plays those hosts, refuses every other,
//! and connects to nothing.
//!
//! A request's way: `proxy` takes the CONNECT and ends TLS with a certificate from `ca`; `service` picks the host
//! and the fault that was ordered for it; `entra`, `graph`, `arm` or `keyvault` answers, a plain function of
//! the request and of `state`; `control` counts.
//!
//! ```no_run
//! # async fn example() -> Result<(), azure_standin::StartError> {
//! use azure_standin::{Config, Standin, test_keys};
//!
//! let standin = Standin::start(Config { rsa_pool: test_keys(), ..Config::default() }).await?;
//! let (proxy, ca, admin) = (standin.proxy_url(), standin.ca_pem(), standin.admin());
//! # let _ = (proxy, ca, admin);
//! standin.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod arm;
mod ca;
mod clock;
mod control;
mod entra;
mod faults;
mod graph;
mod http;
mod jwt;
mod keyvault;
mod limits;
mod material;
mod paging;
mod proxy;
mod rbac;
mod service;
mod state;
mod world;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use ca::CaError;
pub use clock::{Clock, ManualClock, SystemClock};
pub use control::{ByStatus, Stats};
pub use faults::{Effect, Fault, Match, Preset};
pub use material::{RsaPool, test_keys};
pub(crate) use world::World;

/// How to start. The default listens on free ports of 127.0.0.1, keeps nothing, and behaves as Azure does.
pub struct Config {
    /// The proxy; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The control server, which must be on loopback; port 0 takes a free one.
    pub control: SocketAddr,
    /// Where state, CA and the administrators' secrets are kept. `None` keeps them in memory.
    pub data: Option<PathBuf>,
    pub clock: Arc<dyn Clock>,
    /// RSA keys that new Key Vault keys take before any is generated.
    pub rsa_pool: RsaPool,
    pub settings: Settings,
}

impl Default for Config {
    fn default() -> Self {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            listen: loopback,
            control: loopback,
            data: None,
            clock: Arc::new(SystemClock),
            rsa_pool: RsaPool::default(),
            settings: Settings::default(),
        }
    }
}

/// Where Azure's behaviour varies, or is too slow for tests.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a role assignment, or its removal, takes to count. Azure: up to ten minutes. Default 0.
    pub propagation_seconds: i64,
    /// The part of Azure's service limits that is granted; `None` turns them off. Default 1.0.
    pub service_limits: Option<f64>,
    /// Whether GET of a disabled key is refused too; sources disagree. Default no.
    pub disabled_blocks_get: bool,
    /// How long Entra tells a program to wait before it asks again whether a device code is approved. Default 5.
    pub device_interval_seconds: u64,
    /// The region that Key Vault names in its answers.
    pub region: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            propagation_seconds: 0,
            service_limits: Some(1.0),
            disabled_blocks_get: false,
            device_interval_seconds: 5,
            region: "westeurope".into(),
        }
    }
}

/// A built-in administrator: a service principal that may use Graph in its tenant. The first tenant's also holds
/// Owner on the subscription; like in Azure that gives no right inside Key Vaults.
#[derive(Clone, Serialize, Deserialize)]
pub struct Admin {
    pub tenant_id: String,
    pub client_id: String,
    pub client_secret: String,
    /// The service principal's object id, which role assignments name.
    pub object_id: String,
    pub subscription_id: String,
}

/// The built-in human of the first tenant: Owner on the subscription, and may use Graph. Signs in with a device code,
/// which [`Standin::approve_device`] approves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AdminUser {
    pub user_principal_name: String,
    pub display_name: String,
    pub object_id: String,
    pub tenant_id: String,
    pub subscription_id: String,
}

/// Both administrators of a data directory, as [`Standin::admin`] and [`Standin::other_admin`] return them.
///
/// # Errors
/// When the directory holds no stand-in, or may not be read.
pub fn read_admins(dir: &Path) -> std::io::Result<(Admin, Admin)> {
    let world::Admins { admin, other, .. } = world::Admins::read(dir)?;
    Ok((admin, other))
}

/// Why the stand-in does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {source}. Stop what uses that port, or choose another")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("the control server must be on loopback, and {0} is not")]
    ControlNotLoopback(SocketAddr),
    #[error("cannot use {}: {source}", path.display())]
    Data { path: PathBuf, source: std::io::Error },
    #[error("{} cannot be read ({reason}). Delete the data directory to start anew", path.display())]
    Corrupt { path: PathBuf, reason: String },
    #[error(transparent)]
    Ca(#[from] CaError),
    #[error("no key could be generated")]
    Entropy,
}

/// A running stand-in. Dropping it stops it too, without waiting.
pub struct Standin {
    world: Arc<World>,
    listen: SocketAddr,
    control: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
}

impl Standin {
    /// Listens and serves; returns when both ports accept connections.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: Config) -> Result<Self, StartError> {
        if !config.control.ip().is_loopback() {
            return Err(StartError::ControlNotLoopback(config.control));
        }
        let (proxy_listener, listen) = bind(config.listen).await?;
        let (control_listener, control) = bind(config.control).await?;
        let opened = tokio::task::spawn_blocking(move || World::open(config)).await;
        let world = Arc::new(opened.map_err(|_| StartError::Entropy)??);
        let (stop, shutdown) = watch::channel(false);
        let proxy = {
            let (world, signal) = (world.clone(), shutdown.clone());
            proxy::accept(proxy_listener, shutdown.clone(), move |stream, peer| {
                proxy::serve_client(world.clone(), stream, peer, signal.clone())
            })
        };
        let counts = {
            let (world, signal) = (world.clone(), shutdown.clone());
            proxy::accept(control_listener, shutdown, move |stream, peer| {
                control::serve_client(world.clone(), stream, peer, signal.clone())
            })
        };
        let tasks = [tokio::spawn(proxy), tokio::spawn(counts)];
        Ok(Self { world, listen, control, stop, tasks })
    }

    /// For `HTTPS_PROXY`: `http://127.0.0.1:8471`.
    pub fn proxy_url(&self) -> String {
        format!("http://{}", self.listen)
    }

    pub fn control_url(&self) -> String {
        format!("http://{}", self.control)
    }

    /// The certificate authority that clients must trust, as PEM.
    pub fn ca_pem(&self) -> &str {
        self.world.ca.cert_pem()
    }

    /// The same as a file, when there is a data directory.
    pub fn ca_path(&self) -> Option<PathBuf> {
        self.world.ca_path()
    }

    /// The administrator of the tenant that owns the subscription.
    pub fn admin(&self) -> &Admin {
        &self.world.admins.admin
    }

    /// The administrator of a second tenant, for clients that shall be in the wrong one.
    pub fn other_admin(&self) -> &Admin {
        &self.world.admins.other
    }

    /// The human administrator of the tenant that owns the subscription.
    pub fn admin_user(&self) -> &AdminUser {
        &self.world.admins.user
    }

    /// The human's yes to a device code, like `POST /device`. False if no such code waits.
    pub fn approve_device(&self, user_code: &str) -> bool {
        entra::approve(&self.world, user_code)
    }

    /// A token for workload identity federation, from an issuer that the stand-in plays: its name and the token, whose
    /// audience is the usual one. `POST /oidc-token` gives others.
    pub fn federated_token(&self, subject: &str) -> (String, String) {
        let wanted = entra::OidcToken::of(subject);
        let token = wanted.sign(&self.world).unwrap_or_default();
        (wanted.issuer, token)
    }

    pub fn stats(&self) -> Stats {
        lock(&self.world.stats).clone()
    }

    /// The Key Vaults' diagnostic log as Azure would have written it to a storage account: one JSON object a line.
    pub fn key_vault_log(&self) -> String {
        self.world.log_text()
    }

    /// Orders a fault, like `POST /faults`.
    pub fn set_fault(&self, fault: Fault) {
        lock(&self.world.faults).add(fault, self.world.clock.now());
    }

    pub fn clear_faults(&self) {
        lock(&self.world.faults).clear();
    }

    /// Stops listening, lets requests in progress finish for two seconds, and gives the data directory free.
    pub async fn shutdown(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// A panic while holding a lock leaves whole values behind here, so its poison is of no interest.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

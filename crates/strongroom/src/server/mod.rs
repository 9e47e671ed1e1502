//! From configuration to a running server: instance key, database, Azure, keyring, listener, and a clean end.

mod beside;
pub(crate) mod instance;
pub mod metrics;

use std::{fs, future::Future, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::Extension;
use axum_server::{Handle, tls_rustls::RustlsConfig};
use strongroom_envelope::{InstanceKeys, Random};
use strongroom_keys::{
    RequestIds,
    azure::{self, AzureKeys, Cloud},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

pub use self::beside::{
    Rotating, announced, keys_to_rotate, open_beside, open_to_fill, open_to_reanchor, open_to_renew, open_to_transfer,
    open_to_verify, present_keys, require_empty_database,
};
use crate::{
    app::{App, Settings},
    audit::{Actor, Target},
    clock::Clock,
    config::{AzureCloud, Config, DatabaseUrl},
    error::{Error, Result},
    http,
    id::BootId,
    keyring::{Keyring, request_ids::Issuer},
    member::guard::Guard,
    notice::{Mail, NoticeSettings},
    store::{Param, Store, StoreError, Writer, transfer},
};

/// An open product, and what the operator should read.
pub struct Opened {
    pub app: Arc<App>,
    pub notices: Vec<String>,
}

/// Opens everything that a configuration names, to serve it. Refuses a database that another instance key wrote.
pub async fn open(config: &Config, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Result<Opened> {
    let Opened { app, notices } = open_for_command(config, clock, random).await?;
    match app.open_log().await {
        // Readers and writers of items do not pay for a log that somebody broke; whoever verifies it is told.
        Err(error @ Error::Integrity { .. }) => {
            tracing::error!(%error, "the audit log goes no further; run audit verify")
        }
        other => other?,
    }
    let started = app.event_by(Actor::System, None, "server.start", Target::None, Vec::new())?;
    app.record(started).await?;
    Ok(Opened { app, notices })
}

/// As [`open`], for a command that does one thing and ends. It takes no leases, so that the server of this node may go on
/// where the engine lets several open the database.
pub async fn open_for_command(config: &Config, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Result<Opened> {
    let loaded = instance_keys(config, random.as_ref())?;
    let keys = Arc::new(loaded.keys);
    let node = instance::node_id(&config.instance.node_file(), clock.now(), random.as_ref())?;
    let boot = {
        let (clock, random) = (Arc::clone(&clock), Arc::clone(&random));
        Arc::new(move || BootId::generate(clock.now(), random.as_ref()))
    };
    let store = Arc::new(Store::open(&database_url(config), Writer { node, keys: Arc::clone(&keys), boot })?);
    store.read(transfer::require_whole).await?;
    let mut notices = Vec::new();
    match recorded_keys(&store).await? {
        Some(recorded) => recorded.require(&keys, loaded.unsaved.is_some(), &loaded.origin)?,
        None => {
            if let Some(text) = &loaded.unsaved {
                instance::save(&config.instance.key_file, text)?;
                notices.push(format!(
                    "The instance key was made and lies in {}. Keep an offline copy: without it, Cloud vaults and \
                     stored credentials are lost.",
                    loaded.origin
                ));
            }
            record_key(&store, keys.current().id().to_string()).await?;
        }
    }
    let issuer = Issuer::new(Arc::clone(&store), Arc::clone(&keys), Arc::clone(&clock), Arc::clone(&random), node);
    let azure = Arc::new(reach_azure(config, Some(Arc::new(issuer)))?);
    let keyring = Arc::new(Keyring::new(
        Arc::clone(&store),
        Arc::clone(&azure),
        Arc::clone(&keys),
        Arc::clone(&clock),
        Arc::clone(&random),
        node,
    ));
    keyring.read_marks().await?;
    let settings = Settings {
        public_url: config.public_url().as_str().trim_end_matches('/').to_owned(),
        max_vaults_per_provider: config.vaults.max_per_provider,
        lease_seconds: config.vaults.lease_seconds,
        trash_days: config.vaults.trash_days,
        trusted_proxies: config.server.trusted_proxies.clone(),
        notices: notice_settings(config)?,
        checkpoint_file: config.audit.checkpoint_file.clone(),
        checkpoint_url: config.audit.checkpoint_url.clone(),
    };
    let guard = Guard::new();
    let app = App { store, keyring, azure, keys, clock, random, node, settings, guard };
    Ok(Opened { app: Arc::new(app), notices })
}

/// Certificate chain and private key, as PEM files.
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Tls {
    /// The files that the configuration names, if it names some.
    pub fn of(config: &Config) -> Option<Self> {
        let (cert, key) = (config.server.tls_cert.clone()?, config.server.tls_key.clone()?);
        Some(Self { cert, key })
    }
}

/// Keeps this server's node id to itself, for as long as the result lives.
pub fn hold_node(config: &Config) -> Result<fs::File> {
    instance::hold_node(&config.instance.node_file())
}

/// How long requests and steps of jobs in progress may take to finish at the end, open event streams among them.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long the database may take to write down what the end leaves to be written.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Serves until `stop` ends. Then it takes no more connections, lets requests and steps of jobs in progress finish, gives
/// its jobs to the other nodes, wipes the keys, and writes down what is not written yet; all of it within 15 s.
pub async fn serve(
    app: Arc<App>,
    listener: TcpListener,
    tls: Option<Tls>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let stopping = CancellationToken::new();
    let jobs = tokio::spawn(Arc::clone(&app).run_jobs(stopping.clone()));
    let mut passes = JoinSet::new();
    passes.spawn(Arc::clone(&app.keyring).keep_watch());
    passes.spawn(Arc::clone(&app).tend_wraps());
    passes.spawn(Arc::clone(&app).tell_of_failed_sign_ins());
    passes.spawn(Arc::clone(&app).keep_trash());
    passes.spawn(Arc::clone(&app).keep_telling());
    passes.spawn(Arc::clone(&app).keep_credentials());
    passes.spawn(Arc::clone(&app).keep_log());
    let handle = Handle::new();
    let stopper = handle.clone();
    // Event streams stay open for as long as their pages: they end first.
    let router = http::router(Arc::clone(&app)).layer(Extension(http::web::Stopping(stopping.clone())));
    passes.spawn(async move {
        stop.await;
        tracing::info!("stopping");
        stopping.cancel();
        stopper.graceful_shutdown(Some(FAREWELL));
    });
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let listener = listener.into_std().map_err(broken)?;
    match tls {
        None => axum_server::from_tcp(listener).map_err(broken)?.handle(handle).serve(service).await.map_err(broken)?,
        Some(tls) => {
            let config = certificate(&tls).await?;
            let server = axum_server::from_tcp_rustls(listener, config).map_err(broken)?;
            server.handle(handle).serve(service).await.map_err(broken)?;
        }
    }
    let abort = jobs.abort_handle();
    if tokio::time::timeout(FAREWELL, jobs).await.is_err() {
        tracing::warn!("steps of jobs did not end in time");
        abort.abort();
    }
    passes.shutdown().await;
    app.keyring.purge_all();
    let late = || Err(StoreError::Unreachable("it did not take the last words of this server in time".into()).into());
    tokio::time::timeout(LAST_WORDS, last_words(&app)).await.unwrap_or_else(|_| late())?;
    tracing::info!("stopped");
    Ok(())
}

/// What is to be written before the end.
async fn last_words(app: &App) -> Result<()> {
    app.let_jobs_go().await?;
    app.keyring.write_samples().await?;
    app.record_failed_sign_ins().await?;
    let event = app.event_by(Actor::System, None, "server.stop", Target::None, Vec::new())?;
    app.record(event).await?;
    app.rest_log().await
}

fn broken(error: std::io::Error) -> Error {
    Error::Setup { what: format!("the server stopped: {error}").into(), fix: "See the server's log.".into() }
}

async fn certificate(tls: &Tls) -> Result<RustlsConfig> {
    // One provider a process; that it is there already is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    RustlsConfig::from_pem_file(&tls.cert, &tls.key).await.map_err(|error| Error::Setup {
        what: format!(
            "server.tls_cert {} and server.tls_key {} cannot be used: {error}",
            tls.cert.display(),
            tls.key.display()
        )
        .into(),
        fix: "Name PEM files that belong together and that the server's user may read.".into(),
    })
}

/// The instance keys that a configuration names; fresh and not saved where there are none.
pub(crate) fn instance_keys(config: &Config, random: &dyn Random) -> Result<instance::Loaded> {
    let environment = |name: &str| std::env::var(name).ok();
    instance::load(&config.instance.key_file, &environment, random)
}

/// A listener on the configured address; an occupied port is named.
pub async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| Error::Setup {
        what: format!("cannot listen on {address}: {error}").into(),
        fix: "Stop what uses that port (ss -ltnp shows it), or choose another.".into(),
    })
}

/// Where the database is, as [`Store::open`] takes it.
pub(crate) fn database_url(config: &Config) -> Zeroizing<String> {
    match &config.database.url {
        DatabaseUrl::Sqlite(path) => Zeroizing::new(format!("sqlite:{}", path.display())),
        DatabaseUrl::Postgres(url) => url.clone(),
    }
}

/// The way to Azure that a configuration describes.
pub(crate) fn reach_azure(config: &Config, request_ids: Option<Arc<dyn RequestIds>>) -> Result<AzureKeys> {
    let ca_pem = config.azure.ca_file.as_ref().map(|file| {
        fs::read(file).map_err(|error| Error::Setup {
            what: format!("azure.ca_file {} cannot be read: {error}", file.display()).into(),
            fix: "Name a PEM file that the server's user may read.".into(),
        })
    });
    let azure = azure::AzureConfig {
        cloud: match config.azure.cloud {
            AzureCloud::Public => Cloud::Public,
            AzureCloud::UsGovernment => Cloud::Government,
            AzureCloud::China => Cloud::China,
        },
        proxy: config.azure.proxy.clone(),
        ca_pem: ca_pem.transpose()?,
        federated_token_file: config.azure.federated_token_file.clone(),
        request_ids,
    };
    AzureKeys::new(&azure).map_err(|error| Error::Setup {
        what: error.to_string().into(),
        fix: "Correct [azure] in the configuration.".into(),
    })
}

fn notice_settings(config: &Config) -> Result<NoticeSettings> {
    let mail = match (&config.smtp.url, &config.smtp.from) {
        (Some(url), Some(from)) => Some(Arc::new(Mail::new(url, from, config.smtp.password.as_ref())?)),
        _ => None,
    };
    let crate::config::NoticesConfig { allow_loopback, allow_private } = config.notices;
    Ok(NoticeSettings { allow_loopback, allow_private, mail })
}

/// The instance keys without which a database does not open.
pub(crate) struct Recorded {
    /// The current one.
    pub key: String,
    /// Those that a rotation which has not ended goes away from.
    pub older: Vec<String>,
}

/// The instance keys that this database was last written under; none where nothing was yet.
pub(crate) async fn recorded_keys(store: &Store) -> Result<Option<Recorded>> {
    store
        .read(|tx| {
            let mut named = |name: &str| {
                tx.first("SELECT value FROM meta WHERE name = $1", &[name.into()], |row| row.get::<String>(0))
            };
            let older = named("instance_key_older")?.unwrap_or_default();
            let older = older.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect();
            Ok(named("instance_key")?.map(|key| Recorded { key, older }))
        })
        .await
}

async fn record_key(store: &Store, id: String) -> Result<()> {
    store
        .write(move |tx| {
            tx.execute("INSERT INTO meta (name, value) VALUES ('instance_key', $1)", &[Param::Text(&id)])?;
            Ok(())
        })
        .await
}

impl Recorded {
    /// Refuses keys that are not those of this database.
    pub(crate) fn require(&self, keys: &InstanceKeys, missing: bool, origin: &str) -> Result<()> {
        let loaded = |id: &String| keys.iter().any(|key| key.id().to_string() == *id);
        let fix = "Put the right key file back from its offline copy.";
        if !loaded(&self.key) {
            let key = &self.key;
            let what = if missing {
                format!("the instance key {key} of this database is missing: there is none in {origin}")
            } else {
                format!("the instance key in {origin} is not the one of this database, which is {key}")
            };
            return Err(Error::Setup { what: what.into(), fix: fix.into() });
        }
        match self.older.iter().find(|id| !loaded(id)) {
            None => Ok(()),
            Some(key) => Err(Error::Setup {
                what: format!(
                    "the rotation of the instance key has not ended, and the older key {key} is not in {origin}"
                )
                .into(),
                fix: "Put its line back, below the current one, and run `strongroom instance-key rotate` again.".into(),
            }),
        }
    }
}

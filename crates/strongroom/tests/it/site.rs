//! A whole installation for tests of the real server: Azure's stand-in, a configuration file, a database, and in it a
//! workspace with an Owner, a Cloud vault and a vault whose key is in the stand-in.

use std::{
    net::{IpAddr, Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use azure_standin::{Settings, Standin, test_keys};
use strongroom::{
    app::App,
    azure_setup::{self, Admin, Client, Plan, Values},
    clock::SystemClock,
    config::Config,
    member::{Origin, Setup},
    secret_text::SecretText,
    server,
    vault::{Accepted, AzureRequest, CredentialText, KeyRequest, VaultRequest},
};
use strongroom_envelope::SystemRandom;
use strongroom_keys::azure::Cloud;
use uuid::Uuid;

/// Longest that anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const SLUG: &str = "site";
pub const OWNER: &str = "owner@example.com";
pub const AZURE_VAULT: &str = "Azure vault";

/// Ends, and takes its files with it, when dropped.
pub struct Site {
    pub standin: Standin,
    pub folder: PathBuf,
    /// Where the server will listen.
    pub url: String,
    /// The Owner's API token.
    pub token: SecretText,
    /// The secret of the link that made the workspace, and the session that began with it.
    pub setup_link: SecretText,
    pub session: SecretText,
    pub cloud_vault: Uuid,
    pub azure_vault: Uuid,
    /// What step 5 was given.
    pub azure: Values,
    pub admin: Client,
}

/// What may differ from one installation to the next.
pub struct Wishes<'a> {
    /// Where configuration and keys go.
    pub folder: &'a Path,
    /// As `database.url` names it.
    pub database: String,
    pub owner_password: &'a str,
}

impl Site {
    /// Builds it with the product's own use cases, and closes the database again: the server is not started.
    pub async fn build(wishes: Wishes<'_>) -> Site {
        Self::build_on(wishes, azure_standin::Config::default(), 300).await
    }

    /// The same, with the stand-in at a place of its own, and leases of so many seconds.
    pub async fn build_on(wishes: Wishes<'_>, place: azure_standin::Config, lease_seconds: u64) -> Site {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = wishes.folder.to_path_buf();
        let settings = Settings { service_limits: None, ..Settings::default() };
        let config = azure_standin::Config { rsa_pool: test_keys(), settings, ..place };
        let standin = Standin::start(config).await.expect("a stand-in starts");
        std::fs::write(folder.join("azure-ca.pem"), standin.ca_pem()).expect("the folder is ours");
        let admin = administrator(&standin);
        let azure = azure_setup::set_up(&admin, &plan(), &|_| ()).await.expect("Azure is set up");
        let port = free_port();
        let toml =
            configuration(&folder, port, &wishes.database, &standin) + &format!("lease_seconds = {lease_seconds}\n");
        std::fs::write(folder.join("strongroom.toml"), toml).expect("the folder is ours");
        let mut site = Site {
            standin,
            url: format!("http://127.0.0.1:{port}"),
            folder,
            token: SecretText::from(""),
            setup_link: SecretText::from(""),
            session: SecretText::from(""),
            cloud_vault: Uuid::nil(),
            azure_vault: Uuid::nil(),
            azure,
            admin,
        };
        let app = site.open().await;
        site.populate(&app, wishes.owner_password).await;
        close(app).await;
        site
    }

    pub fn config_file(&self) -> PathBuf {
        self.folder.join("strongroom.toml")
    }

    /// The database opened in this process; only while no server runs.
    pub async fn open(&self) -> Arc<App> {
        let config = Config::load(Some(&self.config_file()), []).unwrap_or_else(|error| panic!("{error}"));
        let opened = server::open(&config, Arc::new(SystemClock), Arc::new(SystemRandom::new())).await;
        opened.unwrap_or_else(|error| panic!("the database does not open: {error}")).app
    }

    async fn populate(&mut self, app: &Arc<App>, password: &str) {
        let link = app.setup_link().await.expect("a link").expect("the store is empty");
        let setup = Setup {
            workspace: "Site".into(),
            slug: SLUG.into(),
            name: "Olive Owner".into(),
            email: OWNER.into(),
            password: SecretText::from(password),
        };
        let origin = Origin { address: IpAddr::V4(Ipv4Addr::LOCALHOST), agent: "test".into() };
        let session = app.open_setup(link.token.expose(), setup, &origin).await.expect("a workspace is made");
        let caller = app.caller_by_session(session.token.expose()).await.expect("the Owner is signed in");
        self.token = app.create_token(&caller, "test", 30).await.expect("a token is made").secret;
        let key = KeyRequest::Azure(AzureRequest {
            client_id: self.azure.client_id.clone(),
            tenant_id: self.azure.tenant_id.clone(),
            credential: CredentialText::Secret(SecretText::from(self.azure.client_secret.expose())),
            credential_expires: None,
            vault_url: self.azure.vault_url.clone(),
            vault_key_name: self.azure.vault_key_name.clone(),
        });
        let request =
            VaultRequest { name: AZURE_VAULT.into(), make_default: false, key, accept_warnings: Accepted::All };
        self.azure_vault = app.create_vault(&caller, request).await.expect("the Azure vault is made").id.0;
        (self.setup_link, self.session) = (link.token, session.token);
        let vaults = app.vaults(&caller).await.expect("vaults");
        self.cloud_vault = vaults.iter().find(|vault| vault.name != AZURE_VAULT).expect("the built-in vault").id.0;
    }
}

/// Waits until the last task has let go of the database, so that another process may open it.
pub async fn close(app: Arc<App>) {
    let store = Arc::downgrade(&app.store);
    drop(app);
    let deadline = Instant::now() + PATIENCE;
    while store.strong_count() > 0 {
        assert!(Instant::now() < deadline, "the database is still in use");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The stand-in's administrator, as the product's own set-up tool sees it.
fn administrator(standin: &Standin) -> Client {
    let admin = standin.admin().clone();
    let admin = Admin {
        tenant_id: admin.tenant_id,
        client_id: admin.client_id,
        client_secret: SecretText::from(admin.client_secret.as_str()),
        subscription_id: admin.subscription_id,
    };
    let proxy = standin.proxy_url().parse().expect("a URL");
    Client::new(admin, Cloud::Public, Some(&proxy), Some(standin.ca_pem().as_bytes())).expect("a client")
}

fn plan() -> Plan {
    Plan { retention_days: 7, ..Plan::new("Strongroom", "rg", "strongroom-test-kv", "westeurope", "strongroom-kek") }
}

fn configuration(folder: &Path, port: u16, database: &str, standin: &Standin) -> String {
    let (key, ca) = (folder.join("strongroom.key"), folder.join("azure-ca.pem"));
    format!(
        "[server]\nlisten = \"127.0.0.1:{port}\"\n\n[database]\nurl = {database:?}\n\n[instance]\nkey_file = {key:?}\n\n\
         [azure]\nproxy = {:?}\nca_file = {ca:?}\n\n[vaults]\nmax_per_provider = 20\n",
        standin.proxy_url(),
    )
}

/// Below the ports that the system gives to outgoing connections: the server comes back to it after each kill, and none
/// of the many connections meanwhile may take it. Tests in other processes begin their search elsewhere.
pub fn free_port() -> u16 {
    let begin = u16::try_from(std::process::id() % 10_000).expect("it was cut to fit");
    let mut ports = (0..10_000).map(|step| 20_000 + (begin + step) % 10_000);
    ports.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).expect("a free port")
}

//! A whole product on a temp folder, with a vault whose key is in the stand-in's Key Vault, and a clock that stands
//! still. Reached as behind a corporate proxy: real host names, the stand-in's proxy and CA.

use std::{path::PathBuf, sync::Arc};

use azure_standin::{Standin, test_keys};
use strongroom::{
    access::Role,
    app::{App, Caller},
    azure_setup::{self, Admin, Client, Plan, Values},
    clock::ManualClock,
    config::Config,
    id::{ItemId, VaultId},
    item::{Content, Field, FieldKind, ItemType},
    member::{Join, NewMember, Setup},
    server,
    vault::{Accepted, AzureRequest, CredentialText, KeyRequest, VaultRequest},
};
use strongroom_envelope::SystemRandom;
use strongroom_keys::azure::Cloud;
use tempfile::TempDir;
use uuid::Uuid;

use crate::world::origin;

/// The product, its Owner and its Azure.
pub struct AzureWorld {
    pub app: Arc<App>,
    pub owner: Caller,
    pub clock: ManualClock,
    pub standin: Standin,
    pub values: Values,
    pub administrator: Client,
    /// The vault of the strategy Azure External Keys, the default.
    pub vault: VaultId,
    pub kid: String,
    /// Where the server looks for the token of its workload identity. Not there until a test writes it.
    pub token_file: PathBuf,
    dir: TempDir,
}

impl AzureWorld {
    /// Set up by steps 1 to 5, on the database that `url` names; `None` takes SQLite in the temp folder.
    pub async fn start(url: Option<&str>) -> Self {
        let mut world = Self::without_vault(url).await;
        let made = world.app.create_vault(&world.owner, request("Azure", &world.values)).await.expect("step 5");
        (world.vault, world.kid) = (made.id, made.kid);
        world
    }

    /// The same, with room for so many vaults.
    pub async fn with_room_for(url: Option<&str>, vaults: u32) -> Self {
        let mut world = Self::up_to_step_4(url, vaults, None).await;
        let made = world.app.create_vault(&world.owner, request("Azure", &world.values)).await.expect("step 5");
        (world.vault, world.kid) = (made.id, made.kid);
        world
    }

    /// The same on SQLite, with Azure's service limits on.
    pub async fn start_limited() -> Self {
        let mut world = Self::up_to_step_4(None, 1, Some(1.0)).await;
        let made = world.app.create_vault(&world.owner, request("Azure", &world.values)).await.expect("step 5");
        (world.vault, world.kid) = (made.id, made.kid);
        world
    }

    /// The same up to step 4: there is no Azure vault yet.
    pub async fn without_vault(url: Option<&str>) -> Self {
        Self::up_to_step_4(url, 1, None).await
    }

    async fn up_to_step_4(url: Option<&str>, vaults: u32, service_limits: Option<f64>) -> Self {
        let dir = tempfile::tempdir().expect("a temp folder");
        let settings = azure_standin::Settings { service_limits, ..azure_standin::Settings::default() };
        let config = azure_standin::Config { rsa_pool: test_keys(), settings, ..azure_standin::Config::default() };
        let standin = Standin::start(config).await.expect("the stand-in starts");
        let administrator = administrator(&standin);
        let plan = Plan::new("Strongroom", "keys", "customer-keys", "westeurope", "strongroom");
        let values = azure_setup::set_up(&administrator, &plan, &|_| {}).await.expect("steps 1 to 4");
        let clock = ManualClock::at(jiff::Timestamp::now());
        let app = open_with(&dir, url, &standin, &clock, vaults).await;
        let owner = make_owner(&app).await;
        let (vault, kid, token_file) = (VaultId(Uuid::nil()), String::new(), dir.path().join("token"));
        Self { app, owner, clock, standin, values, administrator, vault, kid, token_file, dir }
    }

    /// Another node on the database that `url` names: with a machine's identity and memory of its own.
    pub async fn another_node(&self, url: &str) -> Arc<App> {
        let dir = tempfile::tempdir().expect("a temp folder");
        std::fs::copy(self.dir.path().join("instance.key"), dir.path().join("instance.key")).expect("copied");
        open(&dir, Some(url), &self.standin, &self.clock).await
    }

    /// The SQLite file, where no other database was named.
    pub fn database_file(&self) -> PathBuf {
        self.dir.path().join("strongroom.db")
    }

    /// How many events of `action` the audit log has.
    pub async fn events(&self, action: &'static str) -> u64 {
        let sql = "SELECT COUNT(*) FROM audit_events WHERE action = $1";
        self.app.store.read(move |tx| tx.count(sql, &[action.into()])).await.expect("counted")
    }

    /// Switches the key on or off, as the customer would.
    pub async fn enable_key(&self, enabled: bool) {
        azure_setup::set_enabled(&self.administrator, &self.values.vault_url, &self.values.vault_key_name, enabled)
            .await
            .expect("the administrator may");
    }

    /// So many days from now, to the second.
    pub fn clock_in_days(&self, days: i64) -> jiff::Timestamp {
        let now = jiff::Timestamp::from_second(strongroom::clock::Clock::now(&self.clock).as_second());
        now.expect("in range") + jiff::SignedDuration::from_hours(24 * days)
    }

    /// Unwraps that reached the vault's key so far.
    pub fn unwraps(&self) -> u64 {
        self.standin.stats().operations_on(&self.kid, "unwrapkey")
    }

    /// An account in the Azure vault, with a password.
    pub async fn account(&self, title: &str, password: &str) -> ItemId {
        self.app.create_item(&self.owner, Some(self.vault), account(title, password)).await.expect("created").id
    }

    /// A member who has joined with `role`.
    pub async fn member(&self, name: &str, role: Role) -> Caller {
        let email = format!("{}@example.com", name.to_lowercase());
        let new = NewMember { email, name: name.into(), role };
        let invitation = self.app.invite(&self.owner, new).await.expect("invited");
        let join = Join { name: name.into(), password: "correct horse battery".into() };
        let session = self.app.join(invitation.link.token.expose(), join, &origin()).await.expect("joined");
        self.app.caller_by_session(session.token.expose()).await.expect("signed in")
    }

    /// The password of an account, revealed.
    pub async fn password(&self, item: ItemId) -> strongroom::error::Result<String> {
        let (_, fields) = self.app.reveal_item(&self.owner, item, None).await?;
        Ok(fields[0].value.expose().to_owned())
    }
}

/// What the wizard would send.
pub fn request(name: &str, values: &Values) -> VaultRequest {
    VaultRequest {
        name: name.into(),
        make_default: true,
        accept_warnings: Accepted::All,
        key: KeyRequest::Azure(AzureRequest {
            client_id: values.client_id.clone(),
            tenant_id: values.tenant_id.clone(),
            credential: CredentialText::Secret(values.client_secret.expose().into()),
            credential_expires: None,
            vault_url: values.vault_url.clone(),
            vault_key_name: values.vault_key_name.clone(),
        }),
    }
}

pub fn account(title: &str, password: &str) -> Content {
    Content {
        item_type: ItemType::Account,
        kind: None,
        title: title.into(),
        urls: vec!["https://mail.example.com".into()],
        usernames: vec!["ada@example.com".into()],
        labels: vec![],
        fields: vec![Field { name: "Password".into(), kind: FieldKind::Password, value: password.into() }],
    }
}

pub fn administrator(standin: &Standin) -> Client {
    let proxy = standin.proxy_url().parse().expect("a URL");
    let admin = standin.admin();
    let admin = Admin {
        tenant_id: admin.tenant_id.clone(),
        client_id: admin.client_id.clone(),
        client_secret: admin.client_secret.as_str().into(),
        subscription_id: admin.subscription_id.clone(),
    };
    Client::new(admin, Cloud::Public, Some(&proxy), Some(standin.ca_pem().as_bytes())).expect("a client")
}

pub async fn open(dir: &TempDir, url: Option<&str>, standin: &Standin, clock: &ManualClock) -> Arc<App> {
    open_with(dir, url, standin, clock, 1).await
}

/// With room for so many Azure vaults in a workspace.
async fn open_with(dir: &TempDir, url: Option<&str>, standin: &Standin, clock: &ManualClock, vaults: u32) -> Arc<App> {
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, standin.ca_pem()).expect("written");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let url = url.map_or_else(|| format!("sqlite:{}", path("strongroom.db")), str::to_owned);
    let text = format!(
        "[database]\nurl = \"{url}\"\n[instance]\nkey_file = \"{}\"\n[azure]\nproxy = \"{}\"\nca_file = \"{}\"\n\
         federated_token_file = \"{}\"\n[vaults]\nmax_per_provider = {vaults}\n",
        path("instance.key"),
        standin.proxy_url(),
        ca.display(),
        path("token"),
    );
    let config = Config::parse(&text, "the test", Vec::new()).expect("a configuration");
    let random = Arc::new(SystemRandom::new());
    server::open(&config, Arc::new(clock.clone()), random).await.expect("opened").app
}

pub async fn make_owner(app: &Arc<App>) -> Caller {
    let link = app.setup_link().await.expect("made").expect("an empty store");
    let setup = Setup {
        workspace: "Demo".into(),
        slug: "demo".into(),
        name: "Olivia Berg".into(),
        email: "olivia@example.com".into(),
        password: "correct horse battery".into(),
    };
    let session = app.open_setup(link.token.expose(), setup, &origin()).await.expect("set up");
    app.caller_by_session(session.token.expose()).await.expect("signed in")
}

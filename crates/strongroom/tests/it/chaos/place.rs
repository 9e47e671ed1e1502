//! The programs of a run and the ways between them: the stand-in, one node on SQLite or two on PostgreSQL, and a relay
//! between each pair.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use serde_json::Value;
use strongroom::{
    access::Role,
    app::{App, Caller},
    azure_setup::{Client, Values},
    clock::SystemClock,
    config::Config,
    member::{Join, NewMember, Origin},
    secret_text::SecretText,
    server,
};
use strongroom_envelope::SystemRandom;
use uuid::Uuid;

use super::{
    process::{Process, program},
    relay::Relay,
};
use crate::{
    child::Api,
    site::{PATIENCE, Site, Wishes, close},
};

/// How long a key is held after Azure's last word of it; the least that can be set.
pub const LEASE: Duration = Duration::from_secs(15);
/// Members who are there to be removed.
const GUESTS: usize = 24;
/// Longest that a client waits for an answer.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);

pub struct Place {
    folder: PathBuf,
    standin_port: u16,
    pub standin: Option<Process>,
    pub nodes: Vec<Node>,
    /// The Owner's API token.
    pub token: SecretText,
    pub owner: Uuid,
    pub guests: Vec<Guest>,
    pub cloud_vault: Uuid,
    pub azure_vault: Uuid,
    pub azure: Arc<Values>,
    /// The customer's administrator, whose way to Azure never fails.
    pub admin: Arc<Client>,
}

/// A server, and its ways.
pub struct Node {
    pub process: Option<Process>,
    pub from_clients: Relay,
    pub to_standin: Relay,
    /// None on SQLite.
    pub to_database: Option<Relay>,
    folder: PathBuf,
    url: String,
}

/// A member with an API token, until somebody removes them.
#[derive(Clone)]
pub struct Guest {
    pub id: Uuid,
    pub token: String,
}

impl Place {
    pub async fn build(folder: &Path, database: &str) -> Place {
        let standin_port = two_ports();
        let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let place = azure_standin::Config {
            listen: local(standin_port),
            data: Some(folder.join("standin")),
            ..azure_standin::Config::default()
        };
        let wishes = Wishes { folder, database: database.to_owned(), owner_password: "correct horse battery" };
        let site = Site::build_on(wishes, place, LEASE.as_secs()).await;
        let app = site.open().await;
        let caller = app.caller_by_session(site.session.expose()).await.expect("the Owner is signed in");
        let mut guests = Vec::new();
        for number in 0..GUESTS {
            guests.push(guest(&app, &caller, number).await);
        }
        let owner = caller.member.0;
        close(app).await;
        let Site { standin, token, cloud_vault, azure_vault, azure, admin, .. } = site;
        standin.shutdown().await;
        let mut place = Place {
            folder: folder.to_path_buf(),
            standin_port,
            standin: None,
            nodes: vec![],
            token,
            owner,
            guests,
            cloud_vault,
            azure_vault,
            azure: Arc::new(azure),
            admin: Arc::new(admin),
        };
        let nodes = if database.starts_with("sqlite") { 1 } else { 2 };
        for number in 0..nodes {
            place.add_node(number, database).await;
        }
        place
    }

    async fn add_node(&mut self, number: usize, database: &str) {
        let folder = self.folder.join(format!("node-{number}"));
        fs::create_dir(&folder).expect("the folder is ours");
        let port = two_ports();
        let to_standin = Relay::to(self.standin_port).await;
        let (to_database, database) = match database.rsplit_once('/') {
            Some((server, name)) if !database.starts_with("sqlite") => {
                let (user, address) = server.rsplit_once('@').expect("a user");
                let (host, port) = address.rsplit_once(':').expect("a port");
                let relay = Relay::to(port.parse().expect("a port")).await;
                let url = format!("{user}@{host}:{}/{name}", relay.port);
                (Some(relay), url)
            }
            _ => (None, database.to_owned()),
        };
        let (key, ca) = (self.folder.join("strongroom.key"), self.folder.join("azure-ca.pem"));
        let node = folder.join("strongroom.node");
        let toml = format!(
            "[server]\nlisten = \"127.0.0.1:{port}\"\n\n[database]\nurl = {database:?}\n\n[instance]\nkey_file = \
             {key:?}\nnode_file = {node:?}\n\n[azure]\nproxy = \"http://127.0.0.1:{}\"\nca_file = {ca:?}\n\n[vaults]\nmax_per_provider = \
             20\nlease_seconds = {}\n",
            to_standin.port,
            LEASE.as_secs()
        );
        fs::write(folder.join("strongroom.toml"), toml).expect("the folder is ours");
        let from_clients = Relay::to(port).await;
        let url = format!("http://127.0.0.1:{port}");
        self.nodes.push(Node { process: None, from_clients, to_standin, to_database, folder, url });
    }

    /// Starts the stand-in, with the state that it had, and waits until it answers.
    pub async fn start_standin(&mut self) {
        let data = self.folder.join("standin");
        let listen = format!("127.0.0.1:{}", self.standin_port);
        let arguments = ["serve", "--service-limits", "0", "--listen", &listen, "--data"];
        let arguments: Vec<_> = arguments.into_iter().chain(data.to_str()).collect();
        let log = self.folder.join("standin.log");
        let mut process = Process::start(&program("azure-standin"), &arguments, &self.folder, log);
        ready(&mut process, &format!("{}/healthz", self.control())).await;
        self.standin = Some(process);
    }

    /// Where the stand-in takes orders.
    pub fn control(&self) -> String {
        format!("http://127.0.0.1:{}", self.standin_port + 1)
    }

    /// Azure's log of its Key Vaults, all of it.
    pub fn key_vault_log(&self) -> String {
        fs::read_to_string(self.folder.join("standin/keyvault-audit.json")).expect("the stand-in writes one")
    }

    /// Starts whatever does not run.
    pub async fn start(&mut self) {
        if self.standin.is_none() {
            self.start_standin().await;
        }
        for number in 0..self.nodes.len() {
            if self.nodes[number].process.is_none() {
                self.start_node(number).await;
            }
        }
    }

    pub async fn start_node(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let config = node.folder.join("strongroom.toml");
        let arguments: Vec<_> = ["serve", "--config"].into_iter().chain(config.to_str()).collect();
        let log = node.folder.join("server.log");
        let server = Path::new(env!("CARGO_BIN_EXE_strongroom"));
        let mut process = Process::start(server, &arguments, &node.folder, log);
        ready(&mut process, &format!("{}/healthz/ready", node.url)).await;
        node.process = Some(process);
    }

    /// Every node ends as a supervisor would end it; says which did not.
    pub async fn stop_nodes(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            let Some(mut process) = node.process.take() else { continue };
            if process.has_ended() {
                faults.push(format!("node {number} ended by itself; it said:\n{}", process.said()));
            } else if let Err(why) = process.stop().await {
                faults.push(format!("node {number} {why}; it said:\n{}", process.said()));
            }
        }
        faults
    }

    /// The Owner's ways to all nodes, by the relays.
    pub fn apis(&self) -> Vec<Api> {
        let at = |node: &Node| {
            Api::at(&format!("http://127.0.0.1:{}", node.from_clients.port), self.token.expose(), CLIENT_PATIENCE)
        };
        self.nodes.iter().map(at).collect()
    }

    /// The database opened in this process, while no node runs.
    pub async fn open(&self) -> Arc<App> {
        let file = self.folder.join("strongroom.toml");
        let config = Config::load(Some(&file), []).unwrap_or_else(|error| panic!("{error}"));
        let random = Arc::new(SystemRandom::new());
        let opened = server::open(&config, Arc::new(SystemClock), random).await;
        opened.unwrap_or_else(|error| panic!("the database does not open: {error}")).app
    }

    /// Jobs that have not ended.
    pub async fn open_jobs(&self) -> Vec<Value> {
        let answer = self.apis()[0].try_send(Method::GET, "/jobs?limit=200", None, &Value::Null).await;
        let Some(answer) = answer.filter(|answer| answer.status == 200) else {
            return vec![Value::from("the list of jobs is not answered")];
        };
        let jobs = answer.json();
        let jobs = jobs["items"].as_array().cloned().unwrap_or_default();
        jobs.into_iter().filter(|job| !job["finished_at"].is_string()).collect()
    }
}

async fn guest(app: &App, owner: &Caller, number: usize) -> Guest {
    let (name, email) = (format!("Guest {number}"), format!("guest-{number}@example.com"));
    let role = if number.is_multiple_of(2) { Role::User } else { Role::Admin };
    let invited = app.invite(owner, NewMember { email, name: name.clone(), role }).await.expect("invited");
    // Each from an address of their own: joining is limited.
    let address = IpAddr::from([127, 0, 1, u8::try_from(number).expect("few")]);
    let origin = Origin { address, agent: "test".into() };
    let join = Join { name, password: SecretText::from("correct horse battery") };
    let session = app.join(invited.link.token.expose(), join, &origin).await.expect("joined");
    let caller = app.caller_by_session(session.token.expose()).await.expect("signed in");
    let token = app.create_token(&caller, "test", 30).await.expect("a token").secret.expose().to_owned();
    Guest { id: caller.member.0, token }
}

/// A port, and the next one, that are free and stay so while nobody listens there: below those that the system gives to
/// outgoing connections, and none twice in this process.
fn two_ports() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = u16::try_from(std::process::id() % 5_000).expect("it was cut to fit");
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (begin + step) % 5_000 * 2;
        if free(port) && free(port + 1) {
            return port;
        }
    }
}

async fn ready(process: &mut Process, url: &str) {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(2)).no_proxy().build().expect("a client");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = http.get(url).send().await;
        if answer.is_ok_and(|answer| answer.status() == StatusCode::OK) {
            return;
        }
        let ended = process.has_ended();
        assert!(!ended && Instant::now() < deadline, "{url} is not ready; it said:\n{}", process.said());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

//! An administrator's desk: a stand-in whose clock is set by hand, and the real binary with an environment of its own.

use std::{process::Stdio, sync::Arc, time::Duration};

use azure_standin::{ManualClock, Settings, Standin, test_keys};
use jiff::Timestamp;
use serde_json::{Value, json};
use strongroom::{
    app::{App, Caller},
    azure_setup::{Client, DeviceCode, Target, Way},
    server,
};
use strongroom_keys::azure::Cloud;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::TcpListener,
    process::{Child, ChildStderr, Command},
    sync::oneshot,
};

use crate::azure;

pub const VAULT: &str = "contoso-keys";
pub const GROUP: &str = "strongroom";
/// For one command, all its requests and a trial of the key included.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Desk {
    pub standin: Standin,
    pub clock: Arc<ManualClock>,
    administrator: Client,
    dir: TempDir,
}

/// How a command ended.
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Desk {
    pub async fn open() -> Self {
        Self::with(Settings::default(), Timestamp::now()).await
    }

    /// With a clock that starts at `start`.
    pub async fn with(settings: Settings, start: Timestamp) -> Self {
        let dir = tempfile::tempdir().expect("a temp folder");
        let clock = Arc::new(ManualClock::new(start));
        let config = azure_standin::Config {
            rsa_pool: test_keys(),
            settings,
            clock: clock.clone(),
            ..azure_standin::Config::default()
        };
        let standin = Standin::start(config).await.expect("the stand-in starts");
        std::fs::write(dir.path().join("ca.pem"), standin.ca_pem()).expect("written");
        let administrator = azure::administrator(&standin);
        Self { standin, clock, administrator, dir }
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// `strongroom azure setup` as the service principal that administers the tenant, unless the arguments say otherwise.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let admin = self.standin.admin();
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.args(["azure", "setup", "--location", "westeurope"]);
        if !arguments.contains(&"--key-vault") {
            command.args(["--key-vault", VAULT]);
        }
        if !arguments.contains(&"--sign-in") {
            command.args(["--sign-in", "service-principal"]);
        }
        command.args(arguments).current_dir(self.dir.path()).kill_on_drop(true);
        command
            .env_clear()
            // No az, and nobody's sign-in.
            .env("PATH", self.dir.path())
            .env("HOME", self.dir.path())
            .env("HTTPS_PROXY", self.standin.proxy_url())
            .env("SSL_CERT_FILE", self.path("ca.pem"))
            .env("AZURE_TENANT_ID", &admin.tenant_id)
            .env("AZURE_CLIENT_ID", &admin.client_id)
            .env("AZURE_CLIENT_SECRET", &admin.client_secret);
        command
    }

    pub async fn run(&self, arguments: &[&str]) -> Ended {
        finish(self.command(arguments)).await
    }

    /// What a run that succeeds prints with `--format json`.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.run(&[&["--format", "json"], arguments].concat()).await;
        assert_eq!(ended.code, 0, "{}", ended.err);
        serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {} {}", ended.out, ended.err))
    }

    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let err = BufReader::new(child.stderr.take().expect("piped"));
        Running { child, err, said: String::new() }
    }

    /// Requests so far that could have changed something: all but GET at Graph and Resource Manager, and new keys.
    pub fn changes(&self) -> u64 {
        let stats = self.standin.stats();
        let of = |host: &str| -> u64 {
            let methods = stats.methods.get(host).into_iter().flatten();
            methods.filter(|(method, _)| *method != "GET").map(|(_, count)| count).sum()
        };
        of("graph.microsoft.com") + of("management.azure.com") + stats.operations("create")
    }

    pub fn administrator(&self) -> &Client {
        &self.administrator
    }

    /// A person of the same tenant, signed in.
    pub async fn person(&self) -> Client {
        let proxy = self.standin.proxy_url().parse().expect("a URL");
        let way = Way::new(Cloud::Public, Some(&proxy), Some(self.standin.ca_pem().as_bytes())).expect("a way");
        let code = DeviceCode::begin(&way, None).await.expect("a code");
        let word = code.message.split("enter the code ").nth(1).and_then(|rest| rest.split(' ').next());
        assert!(self.standin.approve_device(word.expect("a code")));
        let (sign_in, tenant) = code.wait(&way).await.expect("signed in");
        Client::signed_in(way, sign_in, tenant)
    }

    /// An application that `who` registers, with a client secret that `who` keeps.
    pub async fn register(&self, who: &Client, name: &str) -> Value {
        let body = json!({"displayName": name});
        let made = who.send(Target::Graph, "POST", "/v1.0/applications", Some(body)).await.expect("registered");
        let secret = format!("/v1.0/applications/{}/addPassword", made["id"].as_str().expect("an id"));
        who.send(Target::Graph, "POST", &secret, Some(json!({"passwordCredential": {}}))).await.expect("a secret");
        made
    }

    pub async fn arm(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        self.administrator.send(Target::Arm, method, path, body).await.expect("the administrator may")
    }

    pub async fn graph(&self, path: &str) -> Vec<Value> {
        let answer = self.administrator.send(Target::Graph, "GET", path, None).await.expect("the administrator may");
        answer["value"].as_array().cloned().expect("a list")
    }

    pub async fn assignments(&self, principal: &str) -> Vec<Value> {
        let vault = self.vault_path();
        let scope = vault.split('?').next().unwrap_or_default();
        let filter = format!("$filter=principalId eq '{principal}'&api-version=2022-04-01");
        let path = format!("{scope}/providers/Microsoft.Authorization/roleAssignments?{filter}");
        self.arm("GET", &path, None).await["value"].as_array().cloned().expect("a list")
    }

    pub fn vault_path(&self) -> String {
        format!("{}/providers/Microsoft.KeyVault/vaults/{VAULT}?api-version=2023-07-01", self.group_path())
    }

    fn group_path(&self) -> String {
        format!("/subscriptions/{}/resourceGroups/{GROUP}", self.standin.admin().subscription_id)
    }

    /// A Key Vault that somebody made before, with these properties; returns it as Azure shows it.
    pub async fn make_key_vault(&self, mut properties: Value) -> Value {
        let group = format!("{}?api-version=2024-11-01", self.group_path());
        self.arm("PUT", &group, Some(json!({"location": "westeurope"}))).await;
        if properties["tenantId"].is_null() {
            properties["tenantId"] = self.standin.admin().tenant_id.as_str().into();
        }
        properties["sku"] = json!({"family": "A", "name": "standard"});
        let body = json!({"location": "westeurope", "properties": properties});
        self.arm("PUT", &self.vault_path(), Some(body)).await
    }

    pub async fn key_vault(&self) -> Value {
        self.arm("GET", &self.vault_path(), None).await
    }

    /// A served Strongroom that reaches the same Azure, with an Owner who is signed in.
    pub async fn strongroom(&self) -> Strongroom {
        let dir = tempfile::tempdir().expect("a temp folder");
        let clock = strongroom::clock::ManualClock::at(Timestamp::now());
        let app = azure::open(&dir, None, &self.standin, &clock).await;
        let owner = azure::make_owner(&app).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(server::serve(Arc::clone(&app), listener, None, async {
            let _ = stopped.await;
        }));
        let token = app.create_token(&owner, "test", 1).await.expect("a token").secret.expose().to_owned();
        Strongroom { app, owner, url, token, _stop: stop, _dir: dir }
    }
}

/// A command under way.
pub struct Running {
    child: Child,
    err: BufReader<ChildStderr>,
    said: String,
}

impl Running {
    /// Waits for a line on standard error with these words.
    pub async fn said(&mut self, words: &str) -> String {
        let wait = async {
            loop {
                let mut line = String::new();
                let read = self.err.read_line(&mut line).await.expect("text");
                self.said.push_str(&line);
                assert!(read > 0, "it ended without \"{words}\":\n{}", self.said);
                if line.contains(words) {
                    return line;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("said within 20 s")
    }

    /// Ends it at once, as a closed terminal does.
    pub async fn cut(mut self) -> Ended {
        self.child.start_kill().expect("it still runs");
        self.end().await
    }

    pub async fn end(mut self) -> Ended {
        let rest = async {
            let (mut out, mut err) = (String::new(), self.said);
            self.err.read_to_string(&mut err).await.expect("text");
            self.child.stdout.take().expect("piped").read_to_string(&mut out).await.expect("text");
            Ended { code: self.child.wait().await.expect("ended").code().unwrap_or(-1), out, err }
        };
        tokio::time::timeout(PATIENCE, rest).await.expect("within 20 s")
    }
}

pub struct Strongroom {
    app: Arc<App>,
    owner: Caller,
    url: String,
    token: String,
    _stop: oneshot::Sender<()>,
    _dir: TempDir,
}

impl Strongroom {
    /// `azure setup` with the Owner's token.
    pub async fn run(&self, desk: &Desk, arguments: &[&str]) -> Ended {
        let mut command = desk.command(arguments);
        command.env("STRONGROOM_URL", &self.url).env("STRONGROOM_TOKEN", &self.token);
        finish(command).await
    }

    /// Name, and whether it is the default.
    pub async fn vaults(&self) -> Vec<(String, bool)> {
        let vaults = self.app.vaults(&self.owner).await.expect("the list");
        vaults.into_iter().map(|vault| (vault.name, vault.is_default)).collect()
    }
}

pub async fn finish(mut command: Command) -> Ended {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("within 20 s").expect("it starts");
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

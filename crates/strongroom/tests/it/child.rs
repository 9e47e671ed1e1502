//! The real server as a child process that can be killed, and a plain client of its REST API.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::site::{PATIENCE, SLUG, Site};

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
}

impl Server {
    /// Starts it and waits until it says that it is ready. What it prints is appended to `server.log`.
    pub async fn start(site: &Site, log_level: &str) -> Server {
        Self::start_with(site, &[("STRONGROOM_LOG", log_level)]).await
    }

    /// The same with any variables.
    pub async fn start_with(site: &Site, environment: &[(&str, &str)]) -> Server {
        Self::start_at(site, &site.url, environment).await
    }

    /// The same where the variables make it listen elsewhere.
    pub async fn start_at(site: &Site, url: &str, environment: &[(&str, &str)]) -> Server {
        let out = File::options().create(true).append(true).open(log_file(&site.folder)).expect("the folder is ours");
        Self::start_writing_to(site, url, environment, out).await
    }

    /// The same; what it prints goes elsewhere.
    pub async fn start_writing_to(site: &Site, url: &str, environment: &[(&str, &str)], out: File) -> Server {
        let log = log_file(&site.folder);
        let child = Command::new(env!("CARGO_BIN_EXE_strongroom"))
            .args(["serve", "--config"])
            .arg(site.config_file())
            .current_dir(&site.folder)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a second handle"))
            .stderr(out)
            .spawn()
            .expect("the server's program is built");
        let mut server = Server { child };
        server.wait_until_ready(url, &log).await;
        server
    }

    async fn wait_until_ready(&mut self, url: &str, log: &Path) {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(2)).build().expect("a client");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = http.get(format!("{url}/healthz/ready")).send().await;
            if answer.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                return;
            }
            let ended = self.child.try_wait().expect("it is our child");
            if ended.is_some() || Instant::now() > deadline {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                panic!("the server is not ready ({ended:?}); it said:\n{}", tail(&said, 40));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGKILL: nothing of it runs any more when this returns.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGTERM, as a supervisor sends it.
    pub fn ask_to_stop(&self) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has an id");
        kill_process(id, Signal::TERM).expect("it is our child");
    }

    /// How it ended, once it has.
    pub async fn ended(mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn end(&mut self) {
        // A child that has ended by itself cannot be killed, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

pub fn log_file(folder: &Path) -> PathBuf {
    folder.join("server.log")
}

/// One member's way to the API of one workspace.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    base: String,
    token: String,
}

/// What the server answered, all of it.
pub struct Answer {
    pub status: u16,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {}", self.text))
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
}

impl Api {
    pub fn of(site: &Site) -> Api {
        // A connection for each request: one that is kept may lead to a server that has been killed since.
        let http = reqwest::Client::builder().timeout(PATIENCE).pool_max_idle_per_host(0).build().expect("a client");
        Api { http, base: site.url.clone(), token: site.token.expose().to_owned() }
    }

    /// The server at this address; a request that takes longer than `patience` counts as not answered.
    pub fn at(url: &str, token: &str, patience: Duration) -> Api {
        let http = reqwest::Client::builder().timeout(patience).pool_max_idle_per_host(0).build().expect("a client");
        Api { http, base: url.to_owned(), token: token.to_owned() }
    }

    /// The same server for another token.
    pub fn with_token(&self, token: &str) -> Api {
        Api { token: token.to_owned(), ..self.clone() }
    }

    /// A request inside the workspace; `None` when no whole answer came back.
    pub async fn try_send(&self, method: Method, path: &str, revision: Option<u64>, body: &Value) -> Option<Answer> {
        let body = if body.is_null() { None } else { Some(body.to_string().into_bytes()) };
        self.try_raw(method, &format!("/api/v1/workspaces/{SLUG}{path}"), revision, body).await
    }

    /// Any path and any bytes, sent as JSON.
    pub async fn try_raw(
        &self,
        method: Method,
        path: &str,
        revision: Option<u64>,
        body: Option<Vec<u8>>,
    ) -> Option<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(revision) = revision {
            request = request.header("if-match", format!("\"{revision}\""));
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        Some(Answer { status, text: answer.text().await.ok()? })
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

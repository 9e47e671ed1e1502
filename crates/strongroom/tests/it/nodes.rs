//! Two real servers over one PostgreSQL: what one does holds for the other, and either may go while people work.
//! `cargo xtask drill --nodes 2` prints the times.

use std::{
    fs::OpenOptions,
    io::Write,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use strongroom::azure_setup;

use crate::{
    child::{Answer, Api, Server},
    site::{PATIENCE, Site, Wishes, free_port},
    world::{on_postgres, runtime},
};

/// What is promised from a withdrawal to nothing readable on any node, and back.
const PROMISE: Duration = Duration::from_secs(15);

/// Two servers, and what leads to each of them.
struct Pair {
    site: Site,
    urls: [String; 2],
    servers: [Option<Server>; 2],
}

impl Pair {
    async fn start(site: Site) -> Self {
        let mut pair = Self { urls: [site.url.clone(), String::new()], site, servers: [None, None] };
        pair.start_node(0).await;
        // Free for sure only now that the first one listens on its own.
        pair.urls[1] = format!("http://127.0.0.1:{}", free_port());
        pair.start_node(1).await;
        pair
    }

    async fn start_node(&mut self, node: usize) {
        let url = &self.urls[node];
        let listen = url.trim_start_matches("http://");
        let file = self.site.folder.join(format!("{node}.node"));
        let environment = [
            ("STRONGROOM_LOG", "warn"),
            ("STRONGROOM_SERVER__LISTEN", listen),
            ("STRONGROOM_SERVER__PUBLIC_URL", self.site.url.as_str()),
            ("STRONGROOM_INSTANCE__NODE_FILE", file.to_str().expect("plain")),
        ];
        self.servers[node] = Some(Server::start_at(&self.site, url, &environment).await);
    }

    async fn stop_node(&mut self, node: usize) {
        let server = self.servers[node].take().expect("it runs");
        server.ask_to_stop();
        assert!(server.ended().await.success());
    }

    fn api(&self, node: usize) -> Api {
        Api::at(&self.urls[node], self.site.token.expose(), PATIENCE)
    }
}

fn on_a_pair<F: Future<Output = ()>>(test: impl Fn(Pair) -> F) {
    on_postgres(|database| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        runtime().block_on(async {
            let wishes =
                Wishes { folder: folder.path(), database: database.url(), owner_password: "correct horse battery" };
            test(Pair::start(Site::build(wishes).await).await).await;
        });
    });
}

/// A time for whoever runs the drill.
fn tell(what: &str, took: Duration) {
    let line = format!("{what}: {:.1} s\n", took.as_secs_f64());
    if let Some(file) = std::env::var_os("STRONGROOM_DRILL_TALLY") {
        let mut out = OpenOptions::new().create(true).append(true).open(file).expect("the drill's own file");
        out.write_all(line.as_bytes()).expect("written");
    }
}

async fn create(api: &Api, vault: uuid::Uuid, title: &str) -> String {
    let item = json!({
        "type": "secret", "vault_id": vault, "title": title,
        "fields": [{ "name": "value", "kind": "hidden", "value": format!("value of {title}") }],
    });
    let made = api.try_send(Method::POST, "/items", None, &item).await.expect("an answer").expect(201).json();
    made["id"].as_str().expect("an id").to_owned()
}

async fn reveal(api: &Api, item: &str) -> Option<Answer> {
    api.try_send(Method::POST, &format!("/items/{item}/reveal"), None, &Value::Null).await
}

/// How long until `node` answers a reveal with this status.
async fn until(api: &Api, item: &str, status: u16, began: Instant) -> Duration {
    loop {
        if reveal(api, item).await.is_some_and(|answer| answer.status == status) {
            return began.elapsed();
        }
        assert!(began.elapsed() < PROMISE, "not {status} within the promise");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn a_second_server_with_the_same_node_id_is_refused_and_told_what_to_do() {
    on_a_pair(|pair| async move {
        let ran = Command::new(env!("CARGO_BIN_EXE_strongroom"))
            .args(["serve", "--config"])
            .arg(pair.site.config_file())
            .env("STRONGROOM_SERVER__LISTEN", format!("127.0.0.1:{}", free_port()))
            .env("STRONGROOM_INSTANCE__NODE_FILE", pair.site.folder.join("0.node"))
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(!ran.status.success(), "{said}");
        assert!(said.contains("nother server runs as the node") && said.contains("instance.node_file"), "{said}");
        let still = pair.api(0).try_raw(Method::GET, "/healthz/ready", None, None).await.expect("an answer");
        assert_eq!(still.status, 200);
    });
}

#[test]
fn what_one_node_does_holds_for_the_other_and_a_denial_reaches_both() {
    on_a_pair(|pair| async move {
        let (one, other) = (pair.api(0), pair.api(1));
        let item = create(&one, pair.site.azure_vault, "Mail").await;
        for api in [&one, &other] {
            let shown = reveal(api, &item).await.expect("an answer").expect(200).json();
            assert_eq!(shown["fields"][0]["value"], "value of Mail");
        }
        let (url, key) = (&pair.site.azure.vault_url, &pair.site.azure.vault_key_name);
        let began = Instant::now();
        azure_setup::set_enabled(&pair.site.admin, url, key, false).await.expect("switched off");
        let (first, second) = tokio::join!(until(&one, &item, 423, began), until(&other, &item, 423, began));
        tell("denied on both nodes", first.max(second));
        let began = Instant::now();
        azure_setup::set_enabled(&pair.site.admin, url, key, true).await.expect("switched on");
        let (first, second) = tokio::join!(until(&one, &item, 200, began), until(&other, &item, 200, began));
        tell("readable on both nodes again", first.max(second));

        let tokens =
            one.try_send(Method::GET, "/tokens", None, &Value::Null).await.expect("an answer").expect(200).json();
        let id = tokens["items"][0]["id"].as_str().unwrap_or_else(|| panic!("no token in {tokens}"));
        let ended = one.try_send(Method::DELETE, &format!("/tokens/{id}"), None, &Value::Null).await;
        assert!(ended.expect("an answer").status < 300);
        let refused = reveal(&other, &item).await.expect("an answer");
        assert_eq!(refused.status, 401, "a token that ended on one node is still good on the other");
    });
}

/// As a proxy does that takes a node out which does not answer: a request that reached nobody goes to the other node, and
/// one that changes nothing is tried again.
async fn through_a_proxy(nodes: &[Api; 2], turn: usize, method: &Method, path: &str, body: &Value) -> Option<u16> {
    let end = Instant::now() + PATIENCE;
    let mut node = turn;
    while Instant::now() < end {
        let api = &nodes[node % 2];
        let ready = api.try_raw(Method::GET, "/healthz/ready", None, None).await;
        if ready.is_some_and(|answer| answer.status == 200)
            && let Some(answer) = api.try_send(method.clone(), path, None, body).await
            && answer.status != 503
        {
            return Some(answer.status);
        }
        if *method != Method::GET && node > turn + 1 {
            return None;
        }
        node += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}

#[test]
fn a_rolling_restart_behind_a_proxy_that_tries_again_fails_no_request() {
    on_a_pair(|mut pair| async move {
        let nodes = Arc::new([pair.api(0), pair.api(1)]);
        let item = create(&nodes[0], pair.site.azure_vault, "Mail").await;
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let (nodes, stop, done) = (Arc::clone(&nodes), Arc::clone(&stop), Arc::clone(&done));
                let path = format!("/items/{item}");
                tokio::spawn(async move {
                    let mut failed = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let turn = done.fetch_add(1, Ordering::Relaxed) + worker;
                        let status = through_a_proxy(&nodes, turn, &Method::GET, &path, &Value::Null).await;
                        if status != Some(200) {
                            failed.push(status);
                        }
                    }
                    failed
                })
            })
            .collect();
        let began = Instant::now();
        for node in [0, 1] {
            pair.stop_node(node).await;
            let (before, stopped) = (done.load(Ordering::Relaxed), Instant::now());
            while done.load(Ordering::Relaxed) < before + 50 {
                assert!(stopped.elapsed() < PATIENCE, "the other node does not carry the load");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            pair.start_node(node).await;
        }
        tell("rolling restart of both nodes", began.elapsed());
        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            assert_eq!(worker.await.expect("it ends"), [], "requests failed");
        }
        assert!(done.load(Ordering::Relaxed) > 100);
    });
}

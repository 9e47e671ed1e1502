//! The control server: plain HTTP on loopback, for whoever runs the stand-in. Counts out, faults in.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpStream;

use crate::entra::{self, OidcToken};
use crate::faults::{Fault, Operation};
use crate::http::{Reply, Request};
use crate::proxy::{self, Shutdown};
use crate::service::Site;
use crate::{World, lock};

/// Count per HTTP status; 0 counts connections that were broken on order.
pub type ByStatus = BTreeMap<u16, u64>;

/// What has been asked of the stand-in since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Requests without a token, answered by a 401 that says where to get one. Not counted as operations.
    pub challenges: u64,
    /// Key operations by name (`wrapkey`, `unwrapkey`, `get` …).
    pub operations: BTreeMap<String, ByStatus>,
    /// The same by kid, where the operation named a key version or meant the current one.
    pub keys: BTreeMap<String, BTreeMap<String, ByStatus>>,
    /// Every request, by host.
    pub requests: BTreeMap<String, ByStatus>,
    /// Every request, by host and method.
    pub methods: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Stats {
    /// How often a key operation was asked for, whatever came of it.
    pub fn operations(&self, name: &str) -> u64 {
        self.operations.get(name).map_or(0, |statuses| statuses.values().sum())
    }

    /// The same for one kid.
    pub fn operations_on(&self, kid: &str, name: &str) -> u64 {
        self.keys.get(kid).and_then(|operations| operations.get(name)).map_or(0, |statuses| statuses.values().sum())
    }

    pub(crate) fn count(&mut self, site: &Site, request: &Request, operation: &Operation, status: u16) {
        *self.requests.entry(request.host.clone()).or_default().entry(status).or_default() += 1;
        let methods = self.methods.entry(request.host.clone()).or_default();
        *methods.entry(request.method.to_string()).or_default() += 1;
        if !matches!(site, Site::KeyVault(_)) {
            return;
        }
        let Some(name) = operation.name else {
            self.challenges += u64::from(status == 401);
            return;
        };
        *self.operations.entry(name.to_owned()).or_default().entry(status).or_default() += 1;
        if let Some(kid) = &operation.kid {
            let operations = self.keys.entry(kid.clone()).or_default();
            *operations.entry(name.to_owned()).or_default().entry(status).or_default() += 1;
        }
    }
}

pub(crate) async fn serve_client(world: Arc<World>, stream: TcpStream, peer: SocketAddr, shutdown: Shutdown) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let world = world.clone();
        async move {
            let (parts, body) = request.into_parts();
            let Ok(body) = Limited::new(body, 1 << 20).collect().await else {
                return Ok::<_, Infallible>(Reply::empty(413).into_hyper());
            };
            let request = Request::new("", peer.ip(), &parts, body.to_bytes());
            Ok(handle(&world, &request).into_hyper())
        }
    });
    proxy::serve_http(stream, service, shutdown).await;
}

fn handle(world: &World, request: &Request) -> Reply {
    // A page in a browser can reach loopback too; it would send its origin.
    if request.header("origin").is_some() {
        return Reply::json(403, &json!({"error": "not for browsers"}));
    }
    match (request.method.as_str(), request.segments().as_slice()) {
        ("GET", ["healthz"]) => Reply::json(200, &json!({"status": "ok"})),
        ("GET", ["stats"]) => Reply::json(200, &json!(*lock(&world.stats))),
        ("GET", ["log"]) => Reply::text(200, "application/x-ndjson", &world.log_text()),
        ("POST", ["faults"]) => match serde_json::from_slice::<Fault>(&request.body) {
            Ok(fault) => {
                lock(&world.faults).add(fault, world.clock.now());
                Reply::empty(204)
            }
            Err(error) => Reply::json(400, &json!({"error": error.to_string()})),
        },
        ("DELETE", ["faults"]) => {
            lock(&world.faults).clear();
            Reply::empty(204)
        }
        ("POST", ["device"]) => match serde_json::from_slice::<Approval>(&request.body) {
            Ok(approval) if entra::approve(world, &approval.user_code) => Reply::empty(204),
            Ok(_) => Reply::json(404, &json!({"error": "no such code waits for approval"})),
            Err(error) => Reply::json(400, &json!({"error": error.to_string()})),
        },
        ("POST", ["oidc-token"]) => match serde_json::from_slice::<OidcToken>(&request.body) {
            Ok(wanted) => Reply::json(200, &json!({"issuer": wanted.issuer, "token": wanted.sign(world)})),
            Err(error) => Reply::json(400, &json!({"error": error.to_string()})),
        },
        _ => {
            let known =
                "GET /healthz, GET /stats, GET /log, POST /faults, DELETE /faults, POST /device, POST /oidc-token";
            Reply::json(404, &json!({"error": known}))
        }
    }
}

#[derive(Deserialize)]
struct Approval {
    user_code: String,
}

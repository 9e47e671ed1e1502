//! From a request to its answer: which service it is for, what fault strikes it, and the headers that all of them add.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use crate::faults::Operation;
use crate::http::{Answer, Reply, Request, new_id};
use crate::{World, arm, entra, graph, keyvault, lock};

const BODY_LIMIT: usize = 1 << 20;

/// The hosts that are played here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    Entra,
    Graph,
    Arm,
    KeyVault(String),
}

impl Site {
    /// `None` for every host that is not Azure's, or not played here.
    pub fn of(host: &str) -> Option<Self> {
        match host {
            entra::HOST => Some(Self::Entra),
            graph::HOST => Some(Self::Graph),
            arm::HOST => Some(Self::Arm),
            _ => {
                let name = host.strip_suffix(keyvault::SUFFIX)?;
                (!name.is_empty() && !name.contains('.')).then(|| Self::KeyVault(name.to_owned()))
            }
        }
    }

    /// A Key Vault that does not exist, or is deleted, has no address; the rest always has one.
    pub fn exists(&self, world: &World) -> bool {
        match self {
            Self::KeyVault(name) => world.read(|state| state.vault(name).is_some()),
            _ => true,
        }
    }
}

/// The answer to one request; `None` when the connection shall break instead.
pub(crate) async fn answer(
    world: Arc<World>,
    site: Site,
    host: &str,
    peer: IpAddr,
    request: hyper::Request<Incoming>,
) -> Option<Reply> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else { return Some(Reply::empty(413)) };
    let request = Request::new(host, peer, &parts, body.to_bytes());
    let (request, operation) = {
        let (world, site) = (world.clone(), site.clone());
        tokio::task::spawn_blocking(move || struck(&world, &site, request)).await.ok()??
    };
    if let Some(delay) = request.effect.delay_ms {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let reply = match (request.effect.drop, request.effect.reply()) {
        (true, _) => None,
        (false, Some(reply)) => Some(reply),
        (false, None) => {
            let (world, site, request) = (world.clone(), site.clone(), request.clone());
            let handled = tokio::task::spawn_blocking(move || handle(&world, &site, &request)).await;
            Some(handled.unwrap_or_else(|_| Reply::empty(500)))
        }
    };
    let reply = reply.map(|reply| request.effect.alter(reply, world.clock.now()));
    let status = reply.as_ref().map_or(0, |reply| reply.status);
    lock(&world.stats).count(&site, &request, &operation, status);
    if let Site::KeyVault(vault) = &site
        && status != 0
    {
        let entry = keyvault::log::entry(&world, &request, vault, status, world.clock.now());
        world.keep_log(entry);
    }
    tracing::info!(host, method = %request.method, operation = operation.name, status, "answered");
    reply.map(|reply| decorate(&world, &site, &request, reply))
}

/// The request with the fault that strikes it; `None` if the host is gone meanwhile.
fn struck(world: &World, site: &Site, mut request: Request) -> Option<(Arc<Request>, Operation)> {
    let operation = classify(world, site, &request);
    let effect = lock(&world.faults).strike(world.clock.now(), &request.host, &request.path, &operation);
    request.effect = effect.unwrap_or_default();
    site.exists(world).then(|| (Arc::new(request), operation))
}

fn classify(world: &World, site: &Site, request: &Request) -> Operation {
    let name = match site {
        Site::KeyVault(vault) => return keyvault::classify(world, request, vault),
        Site::Graph => "graph",
        Site::Arm => "arm",
        Site::Entra if request.path.ends_with("/token") => "token",
        Site::Entra => "discovery",
    };
    Operation { name: Some(name), kid: None }
}

fn handle(world: &World, site: &Site, request: &Request) -> Reply {
    let answer: Answer = match site {
        Site::Entra => entra::handle(world, request),
        Site::Graph => graph::handle(world, request),
        Site::Arm => arm::handle(world, request),
        Site::KeyVault(vault) => keyvault::handle(world, request, vault),
    };
    answer.unwrap_or_else(|error| error)
}

/// Request ids and the like. A header that the answer already has stays.
fn decorate(world: &World, site: &Site, request: &Request, mut reply: Reply) -> Reply {
    let id = new_id();
    reply = reply.with("x-ms-request-id", &id).with("strict-transport-security", "max-age=31536000;includeSubDomains");
    if let Some(client) = request.header("x-ms-client-request-id") {
        reply = reply.with("x-ms-client-request-id", client);
    }
    match site {
        Site::KeyVault(_) => keyvault::decorate(world, reply),
        Site::Graph => {
            let client = request.header("client-request-id").unwrap_or(&id).to_owned();
            reply.with("request-id", &id).with("client-request-id", &client)
        }
        Site::Arm => reply.with("x-ms-correlation-request-id", &id),
        Site::Entra => reply.with("cache-control", "no-store, no-cache").with("pragma", "no-cache"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_azures_own_hosts_are_played() {
        assert_eq!(Site::of("v.vault.azure.net"), Some(Site::KeyVault("v".into())));
        for host in [
            "example.com",
            "vault.azure.net",
            "a.b.vault.azure.net",
            "v.vault.azure.net.evil.example",
            "v.privatelink.vaultcore.azure.net",
        ] {
            assert_eq!(Site::of(host), None, "{host}");
        }
    }
}

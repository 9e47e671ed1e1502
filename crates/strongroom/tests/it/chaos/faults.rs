//! The faults: which there are, in which order a seed deals them, and how each strikes and is lifted.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use strongroom::azure_setup;

use super::{
    load::Shared,
    place::{LEASE, Place},
    process::{kill_all, of_postgres},
    relay::{Relay, Way},
};
use crate::{kills::writers::Dice, site::PATIENCE};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    KillServer,
    KillDatabase,
    KillStandin,
    Network(Pair, Harm),
    /// SIGSTOP of a node for longer than its leases, then SIGCONT.
    Freeze,
    /// The same, and the customer denies the key meanwhile.
    FreezeAndDeny,
    Deny,
    FullDisk,
    AzureClock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    ClientServer,
    ServerStandin,
    ServerDatabase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    Broken,
    Silent,
    Slow,
}

/// Every fault once, in an order that the seed decides. The same again in each further turn.
pub fn deck(on_postgres: bool, dice: &mut Dice) -> Vec<Fault> {
    use Fault::{AzureClock, Deny, Freeze, FreezeAndDeny, FullDisk, KillDatabase, KillServer, KillStandin};
    let mut all = vec![KillServer, KillStandin, Freeze, FreezeAndDeny, Deny, AzureClock];
    let mut pairs = vec![Pair::ClientServer, Pair::ServerStandin];
    if on_postgres {
        all.push(KillDatabase);
        pairs.push(Pair::ServerDatabase);
    } else {
        // PostgreSQL's processes are another user's, whom only root with every capability may limit.
        all.push(FullDisk);
    }
    for pair in pairs {
        all.extend([Harm::Broken, Harm::Silent, Harm::Slow].map(|harm| Fault::Network(pair, harm)));
    }
    for end in (1..all.len() as u64).rev() {
        let other = dice.below(end + 1);
        all.swap(usize::try_from(end).expect("few"), usize::try_from(other).expect("few"));
    }
    all
}

/// A fault with what the seed drew for it.
#[derive(Debug)]
pub struct Plan {
    pub fault: Fault,
    /// From the beginning of the load.
    pub after: Duration,
    pub lasts: Duration,
    pub node: usize,
    /// Of both nodes, where there are two.
    everywhere: bool,
    number: u64,
}

impl Plan {
    pub fn draw(fault: Fault, nodes: usize, dice: &mut Dice) -> Plan {
        let after = Duration::from_millis(400 + dice.below(1600));
        let short = Duration::from_millis(500 + dice.below(4500));
        let beyond_lease = LEASE + Duration::from_millis(3000 + dice.below(3000));
        let long = dice.below(2) == 0;
        let lasts = match fault {
            Fault::Freeze | Fault::FreezeAndDeny | Fault::Deny => beyond_lease,
            Fault::Network(Pair::ServerStandin, Harm::Broken | Harm::Silent) if long => beyond_lease,
            Fault::KillServer => Duration::ZERO,
            _ => short,
        };
        let node = usize::try_from(dice.below(nodes as u64)).expect("few nodes");
        Plan { fault, after, lasts, node, everywhere: dice.below(2) == 0, number: dice.next() }
    }

    fn relays<'a>(&self, place: &'a Place, pair: Pair) -> Vec<&'a Relay> {
        let nodes = place.nodes.iter().enumerate();
        let hit = nodes.filter(|(number, _)| self.everywhere || *number == self.node).map(|(_, node)| node);
        hit.filter_map(|node| match pair {
            Pair::ClientServer => Some(&node.from_clients),
            Pair::ServerStandin => Some(&node.to_standin),
            Pair::ServerDatabase => node.to_database.as_ref(),
        })
        .collect()
    }

    /// On SQLite the servers write the database's files.
    fn limit(place: &Place, bytes: Option<u64>) {
        place.nodes.iter().filter_map(|node| node.process.as_ref()).for_each(|process| process.limit_files(bytes));
    }

    /// Returns how many processes were killed.
    pub async fn strike(&self, place: &mut Place, shared: &Arc<Shared>) -> u64 {
        match self.fault {
            Fault::KillServer => {
                place.nodes[self.node].process.take().expect("it runs").kill();
                return 1;
            }
            Fault::KillStandin => {
                place.standin.take().expect("it runs").kill();
                return 1;
            }
            Fault::KillDatabase => {
                // It does not come back before the fault is lifted.
                place.nodes.iter().filter_map(|node| node.to_database.as_ref()).for_each(|way| way.set(Way::Broken));
                kill_all(&of_postgres(&pid_file().expect("the run has a PostgreSQL")));
                return 1;
            }
            Fault::Network(pair, harm) => {
                let way = match harm {
                    Harm::Broken => Way::Broken,
                    Harm::Silent => Way::Silent,
                    Harm::Slow => Way::Slow(Duration::from_millis(20 + self.number % 180)),
                };
                let relays = self.relays(place, pair);
                let all = relays.len() == place.nodes.len();
                relays.iter().for_each(|relay| relay.set(way));
                if pair == Pair::ServerStandin && harm != Harm::Slow && all {
                    set_denied(shared, true);
                }
            }
            Fault::Freeze => self.signal(place, Signal::STOP),
            Fault::FreezeAndDeny => {
                self.signal(place, Signal::STOP);
                deny(place, shared, true).await;
            }
            Fault::Deny => deny(place, shared, true).await,
            Fault::FullDisk => Self::limit(place, Some(self.number % 4 * 65_536)),
            Fault::AzureClock => {
                let seconds = i64::try_from(self.number % 172_800).expect("a small number") - 86_400;
                let order = json!({"match": {}, "effect": {"date_skew_seconds": seconds}});
                control(place, reqwest::Method::POST, &order).await;
            }
        }
        0
    }

    /// Takes the fault back; what was killed runs again afterwards.
    pub async fn lift(&self, place: &mut Place, shared: &Arc<Shared>) {
        match self.fault {
            Fault::KillServer => place.start_node(self.node).await,
            Fault::KillStandin => place.start_standin().await,
            Fault::KillDatabase => {
                place.nodes.iter().filter_map(|node| node.to_database.as_ref()).for_each(|way| way.set(Way::Open));
            }
            Fault::Network(pair, _) => {
                set_denied(shared, false);
                self.relays(place, pair).iter().for_each(|relay| relay.set(Way::Open));
            }
            Fault::Freeze => self.signal(place, Signal::CONT),
            Fault::FreezeAndDeny => {
                self.signal(place, Signal::CONT);
                // What the node does first is what counts.
                tokio::time::sleep(Duration::from_secs(4)).await;
                deny(place, shared, false).await;
            }
            Fault::Deny => deny(place, shared, false).await,
            Fault::FullDisk => Self::limit(place, None),
            Fault::AzureClock => control(place, reqwest::Method::DELETE, &Value::Null).await,
        }
    }

    fn signal(&self, place: &Place, signal: Signal) {
        place.nodes[self.node].process.as_ref().expect("it runs").signal(signal);
    }
}

/// Where the PostgreSQL of this run keeps its pid; whoever began it starts it again when it ends.
fn pid_file() -> Option<PathBuf> {
    std::env::var_os("STRONGROOM_CHAOS_POSTGRES_PID").map(PathBuf::from)
}

fn set_denied(shared: &Shared, denied: bool) {
    *shared.denied.lock().expect("no holder panics") = denied.then(Instant::now);
}

/// The customer switches every version of the key off, or on again.
async fn deny(place: &Place, shared: &Arc<Shared>, denied: bool) {
    if !denied {
        set_denied(shared, false);
    }
    let (url, key) = (&place.azure.vault_url, &place.azure.vault_key_name);
    azure_setup::set_all_enabled(&place.admin, url, key, !denied).await.expect("the administrator may");
    if denied {
        set_denied(shared, true);
    }
}

async fn control(place: &Place, method: reqwest::Method, body: &Value) {
    let http = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().expect("a client");
    let answer = http.request(method, format!("{}/faults", place.control())).json(body).send().await;
    answer.and_then(reqwest::Response::error_for_status).expect("the stand-in takes orders");
}

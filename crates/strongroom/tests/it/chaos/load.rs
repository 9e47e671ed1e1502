//! The load of a round: clients that create, edit, reveal, trash and delete, each through a node of its choice; one who
//! changes the vaults' keys and moves items; one who removes members. What was acknowledged is in the model.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use strongroom::azure_setup::{self, Client, Values};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::place::{Guest, LEASE};
use crate::{
    child::{Answer, Api},
    kills::{
        model::{Content, Model},
        writers::{Dice, id_of},
    },
};

const CLIENTS: u64 = 5;
/// What a denial may take beyond the lease: the answer that is on its way.
const DARK_WITHIN: Duration = Duration::from_secs(2);
/// Between two requests of a client.
const LONGEST_PAUSE_MILLIS: u64 = 100;
const LARGE: u64 = 40_000;

/// What the clients of a round share, and the faults look at.
pub struct Shared {
    pub model: Mutex<Model>,
    pub acknowledged: AtomicU64,
    /// Since when the customer's key is denied or out of every node's reach.
    pub denied: Mutex<Option<Instant>>,
    /// Members who were there to be removed, and those who were.
    pub guests: Mutex<Vec<Guest>>,
    pub removed: Mutex<Vec<Guest>>,
    faults: Mutex<Vec<String>>,
    over: AtomicBool,
}

/// What of a place the clients need.
#[derive(Clone)]
pub struct Ways {
    pub apis: Vec<Api>,
    pub vaults: [Uuid; 2],
    pub owner: Uuid,
    pub azure: Arc<Values>,
    pub admin: Arc<Client>,
}

impl Shared {
    pub fn new(model: Model, guests: Vec<Guest>) -> Arc<Shared> {
        Arc::new(Shared {
            model: Mutex::new(model),
            acknowledged: AtomicU64::new(0),
            denied: Mutex::new(None),
            guests: Mutex::new(guests),
            removed: Mutex::default(),
            faults: Mutex::default(),
            over: AtomicBool::new(false),
        })
    }

    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().expect("no holder panics")
    }

    pub fn fault(&self, what: String) {
        self.faults.lock().expect("no holder panics").push(what);
    }

    pub fn take_faults(&self) -> Vec<String> {
        std::mem::take(&mut self.faults.lock().expect("no holder panics"))
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether nothing under the customer's key may open to a request that is sent at this moment.
    fn is_dark(&self, at: Instant) -> bool {
        let denied = *self.denied.lock().expect("no holder panics");
        denied.is_some_and(|since| at > since + LEASE + DARK_WITHIN)
    }
}

/// Tasks that go on until [`Load::end`].
pub struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Load {
    pub fn begin(shared: &Arc<Shared>, ways: &Ways, round: u64, dice: &mut Dice) -> Load {
        let mut tasks = JoinSet::new();
        for number in 0..CLIENTS {
            let name = format!("r{round}c{number}");
            let worker = Worker { name, dice: Dice::new(dice.next()), ways: ways.clone(), shared: Arc::clone(shared) };
            tasks.spawn(worker.work());
        }
        let name = format!("r{round}k");
        let keeper = Worker { name, dice: Dice::new(dice.next()), ways: ways.clone(), shared: Arc::clone(shared) };
        tasks.spawn(keeper.keep());
        Load { shared: Arc::clone(shared), tasks }
    }

    /// Waits for the answers that are on their way.
    pub async fn end(mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a client does not panic");
        }
        self.shared.over.store(false, Ordering::Relaxed);
    }
}

struct Worker {
    name: String,
    dice: Dice,
    ways: Ways,
    shared: Arc<Shared>,
}

/// A client's work.
impl Worker {
    async fn work(mut self) {
        let mut count = 0;
        while !self.shared.is_over() {
            count += 1;
            let label = format!("{}n{count}", self.name);
            let known = self.shared.model().pick(self.dice.next());
            let answered = match (self.dice.below(20), known) {
                (0..=6, _) | (_, None) => self.create(label).await,
                (7..=11, Some(id)) => self.edit(id, label).await,
                (12..=13, Some(id)) => self.trash(id).await,
                (14, Some(id)) => self.purge(id).await,
                (_, Some(id)) => self.reveal(id).await,
            };
            if answered {
                self.shared.count();
            }
            tokio::time::sleep(Duration::from_millis(self.dice.below(LONGEST_PAUSE_MILLIS))).await;
        }
    }

    async fn create(&mut self, label: String) -> bool {
        let content = self.content(&label);
        let vault = self.ways.vaults[usize::from(self.dice.below(2) == 1)];
        let mut body = content.body();
        body["type"] = "secret".into();
        body["vault_id"] = vault.to_string().into();
        self.shared.model().will_create(vault, content.clone());
        match self.send(Method::POST, "/items", None, &body, 201).await {
            Said::Maybe => false,
            Said::Done(answer) => self.shared.model().created(id_of(&answer), vault, content),
            Said::No(why) => self.shared.model().not_created(&content, &why),
        }
    }

    async fn edit(&mut self, id: Uuid, label: String) -> bool {
        let content = self.content(&label);
        let before = self.shared.model().will_edit(id, content.clone());
        match self.send(Method::PATCH, &format!("/items/{id}"), Some(before), &content.body(), 200).await {
            Said::Maybe => false,
            Said::Done(answer) => self.shared.model().edited(id, before + 1, answer["revision"].as_u64(), content),
            Said::No(why) => self.refused(id, |model| model.not_edited(id, before + 1, &content, &why)),
        }
    }

    async fn trash(&mut self, id: Uuid) -> bool {
        let trash = {
            let mut model = self.shared.model();
            if model.is_trashed(id).is_none() {
                return false;
            }
            model.will_trash(id)
        };
        let (method, path) = match trash {
            true => (Method::DELETE, format!("/items/{id}")),
            false => (Method::POST, format!("/items/{id}/restore")),
        };
        match self.send(method, &path, None, &Value::Null, 204).await {
            Said::Maybe => false,
            Said::Done(_) => self.shared.model().trashed(id, trash),
            Said::No(why) => self.refused(id, |model| model.not_trashed(id, &why)),
        }
    }

    /// Deletes forever what lies in the trash; from then on it opens to nobody.
    async fn purge(&mut self, id: Uuid) -> bool {
        {
            let mut model = self.shared.model();
            if model.is_trashed(id) != Some(true) {
                return false;
            }
            model.will_purge(id);
        }
        match self.send(Method::DELETE, &format!("/trash/{id}"), None, &Value::Null, 204).await {
            Said::Maybe => return false,
            Said::No(why) => return self.shared.model().refused("deletion", &why),
            Said::Done(_) => self.shared.model().purged(id),
        }
        for api in &self.ways.apis {
            let answer = api.try_send(Method::POST, &format!("/items/{id}/reveal"), None, &Value::Null).await;
            if answer.is_some_and(|answer| answer.status == 200) {
                self.shared.fault(format!("{id}: deleted forever, and it opened afterwards"));
            }
        }
        true
    }

    async fn reveal(&mut self, id: Uuid) -> bool {
        let under_key = {
            let mut model = self.shared.model();
            model.will_reveal(id);
            model.vault_of(id) == Some(self.ways.vaults[1])
        };
        let dark = under_key && self.shared.is_dark(Instant::now());
        match self.send(Method::POST, &format!("/items/{id}/reveal"), None, &Value::Null, 200).await {
            Said::Maybe => false,
            Said::Done(answer) => {
                // Both before and after: the denial did not end meanwhile, nor did anybody move it out.
                if dark && self.shared.is_dark(Instant::now()) && self.shared.model().vault_of(id).is_some() {
                    self.shared.fault(format!("{id}: opened though its key has been denied for longer than a lease"));
                }
                self.shared.model().revealed(id, &answer)
            }
            Said::No(why) => self.refused(id, |model| model.refused("reveal", &why)),
        }
    }

    /// An item that another client deletes forever may be gone.
    fn refused(&self, id: Uuid, judge: impl FnOnce(&mut Model) -> bool) -> bool {
        let mut model = self.shared.model();
        if model.is_leaving(id) { false } else { judge(&mut model) }
    }

    fn content(&mut self, label: &str) -> Content {
        let size = if self.dice.below(6) == 0 { self.dice.below(LARGE) } else { self.dice.below(200) };
        let times = 1 + size / (label.len() as u64 + 1);
        let value = format!("{label}:").repeat(usize::try_from(times).expect("a small number"));
        Content { title: format!("item {label}"), value }
    }

    async fn send(&mut self, method: Method, path: &str, revision: Option<u64>, body: &Value, wanted: u16) -> Said {
        let nodes = self.ways.apis.len() as u64;
        let node = usize::try_from(self.dice.below(nodes)).expect("few nodes");
        let answer = self.ways.apis[node].try_send(method, path, revision, body).await;
        said(answer, wanted, &self.shared)
    }
}

/// The work of whoever manages the vaults and the members.
impl Worker {
    async fn keep(mut self) {
        while !self.shared.is_over() {
            let [cloud, azure] = self.ways.vaults;
            match self.dice.below(8) {
                0 => self.change(format!("/vaults/{azure}/rotate")).await,
                1 => self.change(format!("/vaults/{cloud}/rotate")).await,
                2 => self.change(format!("/vaults/{azure}/reencrypt")).await,
                3 => self.new_key_version().await,
                4 => self.remove_guest().await,
                _ => self.move_some().await,
            }
            tokio::time::sleep(Duration::from_millis(200 + self.dice.below(600))).await;
        }
    }

    async fn change(&mut self, path: String) {
        let body = json!({});
        if let Said::Done(_) = self.send(Method::POST, &path, None, &body, 200).await {
            self.shared.count();
        }
    }

    /// The customer makes a new version of their key, and the vault goes over to it.
    async fn new_key_version(&mut self) {
        let (url, key) = (&self.ways.azure.vault_url, &self.ways.azure.vault_key_name);
        // The stand-in may be down; a key version more or less is the customer's affair.
        let _ = azure_setup::rotate(&self.ways.admin, url, key).await;
        self.change(format!("/vaults/{}/rewrap", self.ways.vaults[1])).await;
    }

    async fn move_some(&mut self) {
        let to = self.ways.vaults[usize::from(self.dice.below(2) == 1)];
        let items: Vec<Uuid> = {
            let mut model = self.shared.model();
            let mut picked: Vec<_> = (0..6).filter_map(|_| model.pick(self.dice.next())).collect();
            picked.sort();
            picked.dedup();
            picked.iter().for_each(|id| model.will_move(*id, to));
            picked
        };
        if items.is_empty() {
            return;
        }
        let body = json!({ "item_ids": items, "to": to });
        if let Said::Done(_) = self.send(Method::POST, "/moves", None, &body, 200).await {
            self.shared.count();
        }
    }

    /// Removes a member, whose token then opens nothing, at any node.
    async fn remove_guest(&mut self) {
        let Some(guest) = self.shared.guests.lock().expect("no holder panics").pop() else { return };
        let path = format!("/members/{}?heir={}", guest.id, self.ways.owner);
        match self.send(Method::DELETE, &path, None, &Value::Null, 204).await {
            Said::Done(_) => self.shared.count(),
            // Removed or not: nothing can be said of this one.
            _ => return,
        }
        for api in &self.ways.apis {
            let answer = api.with_token(&guest.token).try_send(Method::GET, "/items", None, &Value::Null).await;
            if answer.is_some_and(|answer| answer.status == 200) {
                self.shared.fault(format!("the removed member {} still reads", guest.id));
            }
        }
        self.shared.removed.lock().expect("no holder panics").push(guest);
    }
}

enum Said {
    /// It may have happened or not: no answer, or one that says that something is out of reach for now.
    Maybe,
    Done(Value),
    No(String),
}

fn said(answer: Option<Answer>, wanted: u16, shared: &Shared) -> Said {
    let Some(answer) = answer else { return Said::Maybe };
    if answer.status == wanted {
        return Said::Done(if answer.text.is_empty() { Value::Null } else { answer.json() });
    }
    let problem: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    let code = problem["type"].as_str().unwrap_or_default().trim_start_matches("/problems/");
    let why = format!("{} {}", answer.status, answer.text);
    match answer.status {
        // A key that is out of reach or denied, or a change of it that is under way; a database that is.
        409 | 423 | 429 | 503 | 504 => Said::Maybe,
        500 if code.starts_with("key.") || code.starts_with("store.") => Said::Maybe,
        500.. => {
            shared.fault(format!("answered {why}"));
            Said::Maybe
        }
        _ => Said::No(why),
    }
}

//! One round: writers that create, edit, trash and reveal at the same time, until the server is gone.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use super::model::{Content, Model};
use crate::{
    child::{Answer, Api, Server},
    site::PATIENCE,
};

/// Writers at the same time.
const WRITERS: u64 = 6;
/// At least this many requests are answered before the kill.
const LEAST_ANSWERS: u64 = 3;
/// And fewer than this many more.
const MORE_ANSWERS: u64 = 160;
/// The kill comes up to this long after that.
const LONGEST_DELAY_MICROS: u64 = 12_000;
/// Bytes of a large value: several chunks of the sealing, and several pages of the database.
const LARGE: u64 = 60_000;

/// Numbers that a seed decides: SplitMix64 (Steele, Lea, Flood 2014).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

pub struct Round {
    pub number: u64,
    pub dice: Dice,
    pub api: Api,
    pub vaults: [Uuid; 2],
}

/// What the writers of a round share.
struct Shared {
    model: Mutex<Model>,
    answered: AtomicU64,
    over: AtomicBool,
}

impl Shared {
    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().expect("no holder panics")
    }
}

impl Round {
    /// Lets the writers work, kills the server, and returns the model with how many requests were acknowledged.
    pub async fn work(mut self, model: Model, server: Server) -> (Model, u64) {
        let answers = LEAST_ANSWERS + self.dice.below(MORE_ANSWERS);
        let delay = Duration::from_micros(self.dice.below(LONGEST_DELAY_MICROS));
        let (answered, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let shared = Arc::new(Shared { model: Mutex::new(model), answered, over });
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let name = format!("r{}w{number}", self.number);
                let dice = Dice::new(self.dice.next());
                let writer = Writer { number, name, dice, api: self.api.clone(), vaults: self.vaults };
                tokio::spawn(writer.write(Arc::clone(&shared)))
            })
            .collect();
        let deadline = Instant::now() + PATIENCE;
        while shared.answered.load(Ordering::Relaxed) < answers {
            assert!(Instant::now() < deadline, "the server answers too slowly");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(delay).await;
        server.kill();
        shared.over.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.expect("a writer does not panic");
        }
        let acknowledged = shared.answered.load(Ordering::Relaxed);
        let shared = Arc::into_inner(shared).expect("the writers have ended");
        (shared.model.into_inner().expect("no holder panics"), acknowledged)
    }
}

struct Writer {
    number: u64,
    name: String,
    dice: Dice,
    api: Api,
    vaults: [Uuid; 2],
}

impl Writer {
    async fn write(mut self, shared: Arc<Shared>) {
        let mut count = 0;
        while !shared.over.load(Ordering::Relaxed) {
            count += 1;
            let label = format!("{}n{count}", self.name);
            let known = shared.model().pick(self.dice.next());
            // One writer an item moves it to the trash and back, so that it is known what came last.
            let mine = |id: Uuid| id.as_u128() % u128::from(WRITERS) == u128::from(self.number);
            let answered = match (self.dice.below(10), known) {
                (0..=3, _) | (_, None) => self.create(&shared, label).await,
                (4..=6, Some(id)) => self.edit(&shared, id, label).await,
                (7, Some(id)) if mine(id) => self.trash(&shared, id).await,
                (_, Some(id)) => self.reveal(&shared, id).await,
            };
            if answered {
                shared.answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn create(&mut self, shared: &Shared, label: String) -> bool {
        let content = self.content(&label);
        let vault = self.vaults[usize::from(self.dice.below(2) == 1)];
        let mut body = content.body();
        body["type"] = "secret".into();
        body["vault_id"] = vault.to_string().into();
        shared.model().will_create(vault, content.clone());
        let answer = self.api.try_send(Method::POST, "/items", None, &body).await;
        let mut model = shared.model();
        match outcome(answer, 201) {
            Outcome::Unknown => false,
            Outcome::Done(answer) => model.created(id_of(&answer), vault, content),
            Outcome::Refused(why) => model.not_created(&content, &why),
        }
    }

    async fn edit(&mut self, shared: &Shared, id: Uuid, label: String) -> bool {
        let content = self.content(&label);
        let before = shared.model().will_edit(id, content.clone());
        let answer = self.api.try_send(Method::PATCH, &format!("/items/{id}"), Some(before), &content.body()).await;
        let mut model = shared.model();
        match outcome(answer, 200) {
            Outcome::Unknown => false,
            Outcome::Done(answer) => model.edited(id, before + 1, answer["revision"].as_u64(), content),
            Outcome::Refused(why) => model.not_edited(id, before + 1, &content, &why),
        }
    }

    async fn trash(&mut self, shared: &Shared, id: Uuid) -> bool {
        let trashed = shared.model().will_trash(id);
        let (method, path) = match trashed {
            true => (Method::DELETE, format!("/items/{id}")),
            false => (Method::POST, format!("/items/{id}/restore")),
        };
        let answer = self.api.try_send(method, &path, None, &Value::Null).await;
        let mut model = shared.model();
        match outcome(answer, 204) {
            Outcome::Unknown => false,
            Outcome::Done(_) => model.trashed(id, trashed),
            Outcome::Refused(why) => model.not_trashed(id, &why),
        }
    }

    async fn reveal(&mut self, shared: &Shared, id: Uuid) -> bool {
        shared.model().will_reveal(id);
        let answer = self.api.try_send(Method::POST, &format!("/items/{id}/reveal"), None, &Value::Null).await;
        let mut model = shared.model();
        match outcome(answer, 200) {
            Outcome::Unknown => false,
            Outcome::Done(answer) => model.revealed(id, &answer),
            Outcome::Refused(why) => model.refused("reveal", &why),
        }
    }

    fn content(&mut self, label: &str) -> Content {
        let size = if self.dice.below(5) == 0 { self.dice.below(LARGE) } else { self.dice.below(200) };
        let times = 1 + size / (label.len() as u64 + 1);
        let value = format!("{label}:").repeat(usize::try_from(times).expect("a small number"));
        Content { title: format!("item {label}"), value }
    }
}

enum Outcome {
    /// No whole answer: it may have happened or not.
    Unknown,
    Done(Value),
    Refused(String),
}

fn outcome(answer: Option<Answer>, wanted: u16) -> Outcome {
    match answer {
        None => Outcome::Unknown,
        Some(answer) if answer.status != wanted => Outcome::Refused(format!("{} {}", answer.status, answer.text)),
        Some(answer) if answer.text.is_empty() => Outcome::Done(Value::Null),
        Some(answer) => Outcome::Done(answer.json()),
    }
}

pub fn id_of(answer: &Value) -> Uuid {
    answer["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no id in {answer}"))
}

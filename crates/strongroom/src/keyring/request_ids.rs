//! Ids of the requests that use a key at Azure. Each is one that only this instance can have made, and the intent to use
//! it is durable before the request goes out: `key.intent`. Canaries and renewals take theirs out of a range, whose
//! intent is written once an hour, some minutes before the one before it ends.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use strongroom_envelope::{InstanceKeyId, InstanceKeys, Random, RequestPlace, request_id};
use strongroom_keys::{KeyRequest, RequestIds};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{
    audit::{Actor, Event, Target},
    clock::Clock,
    error::{Error, Result},
    id::{EventId, NodeId},
    store::Store,
};

/// Requests that one intent covers at most, and for how long: an hour of a canary each 5 s, with tries.
const RANGE: u64 = 4096;
pub const RANGE_LASTS: SignedDuration = SignedDuration::from_hours(1);
/// What is left of a range when the next one is announced: a database that is away for so long stops no canary.
const AHEAD: SignedDuration = SignedDuration::from_mins(15);
const FEW: u64 = RANGE / 4;
/// How long a request waits to be announced. Shorter than a canary's deadline, so that its failure names the database.
const LIMIT: Duration = Duration::from_secs(2);

/// Makes the ids, and announces them.
pub struct Issuer {
    keys: Arc<InstanceKeys>,
    announcer: Arc<Announcer>,
}

struct Announcer {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    node: NodeId,
    /// Makes the ids.
    key: InstanceKeyId,
    ranges: Mutex<HashMap<String, Slot>>,
}

/// What a target has.
#[derive(Default)]
struct Slot {
    range: Option<Range>,
    /// Held by whoever announces the next one.
    gate: Arc<tokio::sync::Mutex<()>>,
}

/// Random parts that were announced and not used yet.
#[derive(Debug, Clone, Copy)]
struct Range {
    next: u64,
    left: u64,
    until: Timestamp,
}

impl Issuer {
    /// For requests of `node`, announced in `store`.
    pub fn new(
        store: Arc<Store>,
        keys: Arc<InstanceKeys>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        node: NodeId,
    ) -> Self {
        let key = keys.current().id();
        let announcer = Announcer { store, clock, random, node, key, ranges: Mutex::default() };
        Self { keys, announcer: Arc::new(announcer) }
    }
}

#[async_trait]
impl RequestIds for Issuer {
    async fn next(&self, request: &KeyRequest) -> std::result::Result<Uuid, String> {
        let refused = |why: String| {
            format!("the request was not sent, because it could not be announced in the audit log: {why}")
        };
        let random = match tokio::time::timeout(LIMIT, self.announcer.number(request)).await {
            Ok(random) => random.map_err(|error| refused(error.to_string()))?,
            Err(_) => return Err(refused(format!("the database did not take it within {} s", LIMIT.as_secs()))),
        };
        let place = RequestPlace { target: &request.target, node: self.announcer.node.bytes() };
        Ok(Uuid::from_bytes(request_id(&self.keys, random, &place)))
    }
}

impl Announcer {
    /// A number that an intent announces, and that was not given before.
    async fn number(self: &Arc<Self>, request: &KeyRequest) -> Result<u64> {
        let target = &request.target;
        if !request.routine {
            return self.announce(target, 1).await;
        }
        if let Some((number, ends_soon)) = self.out_of_range(target) {
            if ends_soon {
                drop(self.next_range(target));
            }
            return Ok(number);
        }
        self.next_range(target).await.map_err(|_| ended())??;
        self.out_of_range(target).map(|(number, _)| number).ok_or_else(ended)
    }

    /// The next number of the range that there is, and whether that ends soon.
    fn out_of_range(&self, target: &str) -> Option<(u64, bool)> {
        let now = self.clock.now();
        let mut ranges = self.lock();
        let range = ranges.get_mut(target)?.range.as_mut().filter(|range| range.left > 0 && now < range.until)?;
        let number = range.next;
        (range.next, range.left) = (number.wrapping_add(1), range.left - 1);
        Some((number, range.ends_soon(now)))
    }

    /// Announces a range in a task of its own, which nobody's deadline ends. Of several at once, one does.
    fn next_range(self: &Arc<Self>, target: &str) -> JoinHandle<Result<()>> {
        let (this, target) = (Arc::clone(self), target.to_owned());
        let gate = Arc::clone(&this.lock().entry(target.clone()).or_default().gate);
        tokio::spawn(async move {
            let _one = gate.lock().await;
            let now = this.clock.now();
            if this.lock().get(&target).and_then(|slot| slot.range).is_some_and(|range| !range.ends_soon(now)) {
                return Ok(());
            }
            let first = this.announce(&target, RANGE).await?;
            let range = Range { next: first, left: RANGE, until: now + RANGE_LASTS };
            this.lock().entry(target).or_default().range = Some(range);
            Ok(())
        })
    }

    /// Writes down that `count` requests to `target` may follow; the first one's number.
    async fn announce(&self, target: &str, count: u64) -> Result<u64> {
        let mut random = [0; 8];
        self.random.fill(&mut random).map_err(|_| Error::random())?;
        let (first, at) = (u64::from_be_bytes(random), self.clock.now());
        let event = Event {
            id: EventId::generate(at, self.random.as_ref())?,
            at,
            workspace: None,
            actor: Actor::System,
            action: "key.intent",
            target: Target::None,
            detail: vec![
                ("url", target.into()),
                ("random", first.into()),
                ("count", count.into()),
                ("key", self.key.to_string().into()),
            ],
        };
        self.store.write(move |tx| tx.record(&event)).await?;
        Ok(first)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Slot>> {
        // A slot is a whole value at every moment: a panic elsewhere leaves none half written.
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Range {
    fn ends_soon(&self, now: Timestamp) -> bool {
        self.left < FEW || now >= self.until - AHEAD
    }
}

/// The process ends, and its tasks with it.
fn ended() -> Error {
    Error::Setup { what: "this server is stopping".into(), fix: "Try again in a moment.".into() }
}

//! Ids of the requests that use a key at Azure. Each is one that only this instance can have made, and the intent to use
//! it is durable before the request goes out: `key.intent`. Canaries and renewals take theirs out of a range, whose
//! intent is written once an hour.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use strongroom_envelope::{InstanceKeys, Random, RequestPlace, request_id};
use strongroom_keys::{KeyRequest, RequestIds};
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

pub struct Issuer {
    pub store: Arc<Store>,
    pub keys: Arc<InstanceKeys>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub node: NodeId,
    /// Target → what is left of its range.
    pub ranges: Mutex<HashMap<String, Range>>,
}

/// Random parts that were announced and not used yet.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    next: u64,
    left: u64,
    until: Timestamp,
}

#[async_trait]
impl RequestIds for Issuer {
    async fn next(&self, request: &KeyRequest) -> std::result::Result<Uuid, String> {
        let random = self.number(request).await;
        let random = random.map_err(|error| {
            format!("the request was not sent, because it could not be announced in the audit log: {error}")
        })?;
        let place = RequestPlace { target: &request.target, node: self.node.bytes() };
        Ok(Uuid::from_bytes(request_id(&self.keys, random, &place)))
    }
}

impl Issuer {
    /// A number that an intent announces, and that was not given before.
    async fn number(&self, request: &KeyRequest) -> Result<u64> {
        if !request.routine {
            return self.announce(&request.target, 1).await;
        }
        if let Some(number) = self.out_of_range(&request.target) {
            return Ok(number);
        }
        let first = self.announce(&request.target, RANGE).await?;
        let range = Range { next: first.wrapping_add(1), left: RANGE - 1, until: self.clock.now() + RANGE_LASTS };
        self.lock().insert(request.target.clone(), range);
        Ok(first)
    }

    fn out_of_range(&self, target: &str) -> Option<u64> {
        let now = self.clock.now();
        let mut ranges = self.lock();
        let range = ranges.get_mut(target).filter(|range| range.left > 0 && now < range.until)?;
        let number = range.next;
        (range.next, range.left) = (number.wrapping_add(1), range.left - 1);
        Some(number)
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
            detail: vec![("url", target.into()), ("random", first.into()), ("count", count.into())],
        };
        self.store.write(move |tx| tx.record(&event)).await?;
        Ok(first)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Range>> {
        // A range is a whole value at every moment: a panic elsewhere leaves none half written.
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Faults on order: which requests they hit, for how long, and what happens to them instead.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::http::Reply;

/// An order for a fault, as `POST /faults` takes it. Without `times`, `for_ms` and `share` it lasts until cleared.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    #[serde(rename = "match")]
    pub matching: Match,
    pub effect: Effect,
    /// Only this many requests.
    pub times: Option<u64>,
    /// Only for so long from now.
    pub for_ms: Option<u64>,
    /// Only this share of the requests, 0 to 1; evenly spread, not drawn by lot.
    pub share: Option<f64>,
}

/// Which requests. What is absent matches everything.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    pub host: Option<String>,
    /// A part of the path.
    pub path: Option<String>,
    /// A key operation (`unwrapkey`, `get` …), or `token`, `graph`, `arm`. A request that will be challenged for
    /// its missing token is no operation.
    pub operation: Option<String>,
    /// A part of the key's identifier, its key version included.
    pub kid: Option<String>,
}

/// What happens instead, in this order: wait, then drop, or answer, or go on as usual.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Effect {
    pub delay_ms: Option<u64>,
    /// Close the connection without an answer.
    pub drop: bool,
    pub status: Option<u16>,
    /// JSON, or a string that is sent as it stands.
    pub body: Option<Value>,
    pub headers: BTreeMap<String, String>,
    /// Seconds.
    pub retry_after: Option<u64>,
}

/// What a request is, as far as faults and counts care.
#[derive(Debug, Clone, Default)]
pub(crate) struct Operation {
    pub name: Option<&'static str>,
    pub kid: Option<String>,
}

#[derive(Default)]
pub(crate) struct Faults(Vec<Active>);

struct Active {
    fault: Fault,
    until: Option<Timestamp>,
    left: Option<u64>,
    owed: f64,
}

impl Faults {
    pub fn add(&mut self, fault: Fault, now: Timestamp) {
        let until =
            fault.for_ms.and_then(|ms| now.checked_add(SignedDuration::from_millis(i64::try_from(ms).ok()?)).ok());
        self.0.push(Active { until, left: fault.times, owed: 0.0, fault });
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The effect of the first fault that hits this request; it is used up by that.
    pub fn strike(&mut self, now: Timestamp, host: &str, path: &str, operation: &Operation) -> Option<Effect> {
        self.0.retain(|active| active.left != Some(0) && active.until.is_none_or(|until| now < until));
        let mut matching = self.0.iter_mut().filter(|active| active.fault.matching.fits(host, path, operation));
        let hit = matching.find_map(|active| {
            active.owed += active.fault.share.unwrap_or(1.0);
            let due = active.owed >= 1.0;
            active.owed -= if due { 1.0 } else { 0.0 };
            due.then_some(active)
        })?;
        hit.left = hit.left.map(|left| left.saturating_sub(1));
        Some(hit.fault.effect.clone())
    }
}

impl Match {
    fn fits(&self, host: &str, path: &str, operation: &Operation) -> bool {
        let part = |wanted: &Option<String>, text: Option<&str>| {
            wanted.as_ref().is_none_or(|wanted| {
                text.is_some_and(|text| text.to_ascii_lowercase().contains(&wanted.to_ascii_lowercase()))
            })
        };
        self.host.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(host))
            && part(&self.path, Some(path))
            && self
                .operation
                .as_ref()
                .is_none_or(|wanted| operation.name.is_some_and(|name| wanted.eq_ignore_ascii_case(name)))
            && part(&self.kid, operation.kid.as_deref())
    }
}

impl Effect {
    /// The answer that replaces the service's; `None` if the request goes on as usual.
    pub(crate) fn reply(&self) -> Option<Reply> {
        let status = self.status.unwrap_or(200);
        let mut reply = match &self.body {
            Some(Value::String(text)) => Reply::text(status, "text/html; charset=utf-8", text),
            Some(body) => Reply::json(status, body),
            None => Reply::empty(self.status?),
        };
        // Ahead of the others, so that they win.
        let ordered = self.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
        reply.headers.splice(0..0, ordered);
        if let Some(seconds) = self.retry_after {
            reply = reply.with("retry-after", &seconds.to_string());
        }
        Some(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strikes(fault: Fault, requests: usize) -> usize {
        let mut faults = Faults::default();
        faults.add(fault, Timestamp::UNIX_EPOCH);
        let unwrap = Operation { name: Some("unwrapkey"), kid: Some("https://v/keys/k/1".into()) };
        (0..requests).filter(|_| faults.strike(Timestamp::UNIX_EPOCH, "v", "/keys", &unwrap).is_some()).count()
    }

    #[test]
    fn a_fault_ends_after_its_times_and_hits_its_share() {
        assert_eq!(strikes(Fault { times: Some(2), ..Fault::default() }, 10), 2);
        assert_eq!(strikes(Fault { share: Some(0.25), ..Fault::default() }, 100), 25);
        let wrap = Match { operation: Some("wrapkey".into()), ..Match::default() };
        assert_eq!(strikes(Fault { matching: wrap, ..Fault::default() }, 10), 0);
    }

    #[test]
    fn a_fault_ends_with_its_time() {
        let mut faults = Faults::default();
        faults.add(Fault { for_ms: Some(1000), ..Fault::default() }, Timestamp::UNIX_EPOCH);
        let later = Timestamp::UNIX_EPOCH + SignedDuration::from_millis(1000);
        assert!(faults.strike(later, "v", "/", &Operation::default()).is_none());
    }
}

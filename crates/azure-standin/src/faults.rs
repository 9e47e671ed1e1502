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

/// What happens, in this order: wait, then drop, or answer with `status` and `body`, or go on as usual; the rest alters
/// whatever answer there is. The last three strike the CONNECT, before any request, and nothing else of an order that
/// has one of them counts; only `Match::host` can fit there.
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
    /// An answer of Azure's own, from the place where Azure gives it: after sign-in, before roles.
    pub preset: Option<Preset>,
    /// Announce the whole body, send so many bytes of it, then break the connection.
    pub truncate: Option<usize>,
    /// Name a key version that was not asked for and does not exist.
    pub wrong_kid: bool,
    /// Entra issues a token that expired a minute ago, and says that it is good for an hour.
    pub expired_token: bool,
    /// The host's clock is off by so much, which its `Date` header and the tokens of Entra show.
    pub date_skew_seconds: i64,
    /// The proxy answers the CONNECT with this status, 407 or 403 say, and nothing more.
    pub connect_status: Option<u16>,
    /// The proxy takes the CONNECT and never answers, as a black-holed host would.
    pub hang: bool,
    /// The host shows a certificate of an authority with this name, which nobody trusts, as behind an inspecting proxy.
    pub untrusted_ca: Option<String>,
}

/// Refusals that Azure words itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Key Vault: the client's address is not among those that its firewall lets in.
    Firewall,
    /// Key Vault: only private links are let in.
    PrivateLink,
    /// Key Vault: 429 without `Retry-After`, which `retry_after` adds.
    Throttled,
    /// Entra: AADSTS53003.
    ConditionalAccess,
    /// Any host: the page with which Azure's web servers say that nothing is behind them (503, HTML).
    Unavailable,
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
        self.hit(now, |fault| !fault.effect.at_connect() && fault.matching.fits(host, path, operation))
    }

    /// The same for a CONNECT to `host`.
    pub fn strike_connect(&mut self, now: Timestamp, host: &str) -> Option<Effect> {
        self.hit(now, |fault| fault.effect.at_connect() && fault.matching.fits(host, "", &Operation::default()))
    }

    fn hit(&mut self, now: Timestamp, fits: impl Fn(&Fault) -> bool) -> Option<Effect> {
        self.0.retain(|active| active.left != Some(0) && active.until.is_none_or(|until| now < until));
        let mut matching = self.0.iter_mut().filter(|active| fits(&active.fault));
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
    fn at_connect(&self) -> bool {
        self.connect_status.is_some() || self.hang || self.untrusted_ca.is_some()
    }

    /// The answer that replaces the service's; `None` if the request goes on as usual.
    pub(crate) fn reply(&self) -> Option<Reply> {
        let status = self.status.unwrap_or(200);
        match &self.body {
            _ if self.preset == Some(Preset::Unavailable) => {
                Some(Reply::text(503, "text/html; charset=us-ascii", UNAVAILABLE))
            }
            Some(Value::String(text)) => Some(Reply::text(status, "text/html; charset=utf-8", text)),
            Some(body) => Some(Reply::json(status, body)),
            None => self.status.map(Reply::empty),
        }
    }

    /// What it makes of an answer at `now`, whoever gave it.
    pub(crate) fn alter(&self, mut reply: Reply, now: Timestamp) -> Reply {
        if self.wrong_kid {
            reply = with_wrong_kid(reply);
        }
        let mut headers: Vec<_> = self.headers.clone().into_iter().collect();
        headers.extend(self.retry_after.map(|seconds| ("retry-after".into(), seconds.to_string())));
        if self.date_skew_seconds != 0 {
            let skewed = now.saturating_add(SignedDuration::from_secs(self.date_skew_seconds)).unwrap_or(now);
            headers.push(("date".into(), skewed.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()));
        }
        // Ahead of the others, so that they win.
        reply.headers.splice(0..0, headers);
        reply.broken_after = self.truncate;
        reply
    }
}

/// Turns the last digit of each kid of the answer.
fn with_wrong_kid(mut reply: Reply) -> Reply {
    let Ok(mut body) = serde_json::from_slice::<Value>(&reply.body) else { return reply };
    for at in ["/kid", "/key/kid"] {
        if let Some(Value::String(kid)) = body.pointer_mut(at) {
            let turned = if kid.ends_with('0') { '1' } else { '0' };
            kid.pop();
            kid.push(turned);
        }
    }
    reply.body = body.to_string().into_bytes();
    reply
}

const UNAVAILABLE: &str = "<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 4.01//EN\"\"http://www.w3.org/TR/html4/strict.dtd\">\r\n\
    <HTML><HEAD><TITLE>Service Unavailable</TITLE>\r\n<META HTTP-EQUIV=\"Content-Type\" Content=\"text/html; \
    charset=us-ascii\"></HEAD>\r\n<BODY><h2>Service Unavailable</h2>\r\n<hr><p>HTTP Error 503. The service is \
    unavailable.</p>\r\n</BODY></HTML>\r\n";

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

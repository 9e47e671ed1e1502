//! `audit reconcile`: the customer's own Key Vault log beside ours. It names every successful use of a key that this
//! instance did not make, each id that was used twice, and each receipt that Azure does not show.
//!
//! An id is ours if the instance key made it for just this operation on just this key (`strongroom_envelope::request_id`)
//! and an intent in the log announced it. The first without the second is the work of somebody who has the instance
//! key, or of a database that was set back since.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use strongroom_envelope::{InstanceKeys, RequestPlace, is_request_id, request_random};
use uuid::Uuid;

use super::{
    Fact,
    azure_log::{Entry, is_key_vault},
    read::proven,
    verify::{EVENT_COLUMNS, Stored},
};
use crate::{
    counted::counted,
    error::{Error, Result},
    id::{EventId, NodeId},
    keyring::request_ids,
    store::{Store, Tx},
};

/// What uses key material. Reading a key, or changing its attributes, does not.
const USES: [&str; 8] =
    ["KeyUnwrap", "KeyWrap", "KeyDecrypt", "KeyEncrypt", "KeySign", "KeyVerify", "KeyBackup", "KeyRelease"];
/// Azure's log is written in pieces, and its clock is another: at the ends of its span nothing is said to be missing.
const MARGIN: SignedDuration = SignedDuration::from_mins(5);
/// For how long after its intent a single request is sent, its tries included, and Azure's clock may be ahead or behind.
const PROMPT: SignedDuration = SignedDuration::from_mins(5);
/// Longest that a log is silent of a Key Vault in use: a canary comes each 5 s.
const SILENCE: SignedDuration = SignedDuration::from_mins(10);
const PAGE: usize = 500;

/// The outcome of `audit reconcile`.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reconciled {
    /// Entries of Azure's log.
    pub entries: u64,
    /// Of those, the successful uses of keys that this instance uses.
    pub uses: u64,
    /// Of those, the ones that it made.
    pub ours: u64,
    /// Successful uses of other keys, which are none of its business.
    pub others: u64,
    /// Unwraps of which this instance has Azure's answer, within the log's span.
    pub receipts: u64,
    /// From the first to the last entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<(Timestamp, Timestamp)>,
    pub findings: Vec<Finding>,
}

/// Something that only one of the two logs knows, or one knows twice.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub why: Why,
    pub at: Timestamp,
    /// The end of a silence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Azure's name of the operation, or ours of the event.
    pub operation: String,
    /// Host and path of the request, or the kid; of a silence, the Key Vault.
    pub key: String,
    /// The client request id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Uuid>,
    /// Azure's application id of the caller, where its log says one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Ours, of a receipt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<EventId>,
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The instance key did not make this id for this request: somebody else used the key.
    Foreign,
    /// The instance key made the id, and nothing in our log announced it.
    Unannounced,
    /// Announced by this instance under an instance key that is not loaded: nobody can say whether this is it.
    KeyNotLoaded,
    /// Made and announced by this instance for another time: somebody used an id that they had read.
    Late,
    /// An id that was there before: somebody sent a request again.
    Duplicate,
    /// A use whose key cannot be read out of the entry, so that nobody can say whose it is.
    Unplaced,
    /// We have Azure's answer to it, and Azure's log does not show it.
    NotInAzure,
    /// Azure's log shows nothing at all of a Key Vault, over a time in which we asked it.
    Silent,
}

/// Compares Azure's log with the events of the store. A log that tells nothing of any Key Vault of this instance is an
/// error: that both say the same would be true of it, whatever happened.
pub async fn reconcile(store: &Store, keys: Arc<InstanceKeys>, entries: Vec<Entry>) -> Result<Reconciled> {
    store
        .read(move |tx| {
            let ours = Ours::read(tx, &keys)?;
            ours.require_common(&entries)?;
            Ok(ours.compare(&keys, &entries))
        })
        .await
}

/// What our log says of requests.
#[derive(Default)]
struct Ours {
    /// Target → what was announced for it.
    intents: HashMap<String, Vec<Intent>>,
    nodes: BTreeSet<NodeId>,
    receipts: Vec<Receipt>,
    /// Keys as `host/keys/name`.
    keys: BTreeSet<String>,
}

struct Intent {
    first: u64,
    count: u64,
    node: NodeId,
    at: Timestamp,
    /// The instance key that makes the ids.
    key: String,
}

impl Intent {
    fn covers(&self, random: u64) -> bool {
        random.wrapping_sub(self.first) < self.count
    }

    /// Whether a request at this time, by Azure's clock, can be one of those.
    fn is_of(&self, time: Timestamp) -> bool {
        let lasts = if self.count > 1 { request_ids::RANGE_LASTS } else { SignedDuration::ZERO };
        (self.at - PROMPT..=self.at + lasts + PROMPT).contains(&time)
    }
}

struct Receipt {
    at: Timestamp,
    event: EventId,
    request: Uuid,
    kid: String,
}

impl Ours {
    /// From the genuine events alone.
    fn read(tx: &mut Tx<'_>, keys: &InstanceKeys) -> Result<Self> {
        let mut ours = Self::default();
        let mut after = Uuid::nil();
        loop {
            let sql = format!(
                "SELECT {EVENT_COLUMNS} FROM audit_events WHERE id > $1 AND action LIKE 'key.%' \
                 ORDER BY id LIMIT {PAGE}"
            );
            let rows = tx.all(&sql, &[after.into()], Stored::read)?;
            for row in &rows {
                after = row.id.0;
                if let Ok(entry) = proven(keys, row) {
                    ours.take(&entry);
                }
            }
            if rows.len() < PAGE {
                break;
            }
        }
        for kid in tx.all("SELECT DISTINCT kid FROM wraps", &[], |row| row.get::<String>(0))? {
            ours.keys.extend(key_of(&kid));
        }
        Ok(ours)
    }

    fn take(&mut self, entry: &super::Entry) {
        let event = &entry.event;
        let text = |name: &str| match event.fact(name) {
            Some(Fact::Text(text)) => text.clone(),
            _ => String::new(),
        };
        let number = |name: &str| match event.fact(name) {
            Some(Fact::Number(number)) => *number,
            _ => 0,
        };
        if event.action == "key.intent" {
            let (url, node) = (text("url"), entry.place.node);
            self.keys.extend(key_of(&url));
            self.nodes.insert(node);
            self.intents.entry(url).or_default().push(Intent {
                first: number("random"),
                count: number("count"),
                node,
                at: event.at,
                key: text("key"),
            });
            return;
        }
        // Also of keys that no wrap is under any more.
        self.keys.extend(key_of(&text("kid")));
        if event.action == "key.unwrap"
            && let Some(Fact::Id(request)) = event.fact("request")
        {
            self.receipts.push(Receipt { at: event.at, event: event.id, request: *request, kid: text("kid") });
        }
    }

    fn compare(&self, keys: &InstanceKeys, entries: &[Entry]) -> Reconciled {
        let mut report = Reconciled { entries: entries.len() as u64, ..Reconciled::default() };
        let (mut seen, mut uses): (BTreeSet<Uuid>, BTreeMap<Uuid, u64>) = (BTreeSet::new(), BTreeMap::new());
        for entry in entries {
            seen.extend(entry.request);
            report.span = Some(match report.span {
                None => (entry.at, entry.at),
                Some((first, last)) => (first.min(entry.at), last.max(entry.at)),
            });
            if !entry.success || !USES.contains(&entry.operation.as_str()) {
                continue;
            }
            let named: Vec<String> = [&entry.target, &entry.id].into_iter().filter_map(|text| key_of(text)).collect();
            let of_ours = named.iter().any(|key| self.keys.contains(key));
            if !of_ours && !named.is_empty() {
                report.others += 1;
                continue;
            }
            report.uses += 1;
            let wrong = if of_ours { self.judge(keys, entry) } else { Some(Why::Unplaced) };
            match wrong {
                Some(why) => report.findings.push(Finding::of(entry, why)),
                None => {
                    report.ours += 1;
                    let times = entry.request.map(|id| uses.entry(id).or_default());
                    if times.is_some_and(|times| std::mem::replace(times, *times + 1) > 0) {
                        report.ours -= 1;
                        report.findings.push(Finding::of(entry, Why::Duplicate));
                    }
                }
            }
        }
        self.missing(&seen, entries, &mut report);
        report
    }

    /// None for a use that this instance made.
    fn judge(&self, keys: &InstanceKeys, entry: &Entry) -> Option<Why> {
        let Some(id) = entry.request else { return Some(Why::Foreign) };
        let Some(random) = request_random(id.as_bytes()) else { return Some(Why::Foreign) };
        let made_by = |node: &NodeId| {
            is_request_id(keys, id.as_bytes(), &RequestPlace { target: &entry.target, node: node.bytes() })
        };
        let loaded = |id: &str| keys.iter().any(|key| key.id().to_string() == id);
        let announced = || self.intents.get(&entry.target).into_iter().flatten().filter(|intent| intent.covers(random));
        match announced().find(|intent| made_by(&intent.node)) {
            Some(intent) if intent.is_of(entry.at) => None,
            Some(_) => Some(Why::Late),
            None if self.nodes.iter().any(made_by) => Some(Why::Unannounced),
            None if announced().any(|intent| !loaded(&intent.key)) => Some(Why::KeyNotLoaded),
            None => Some(Why::Foreign),
        }
    }

    /// Refuses a log that has no entry of a Key Vault of ours.
    fn require_common(&self, entries: &[Entry]) -> Result<()> {
        let ours: BTreeSet<&str> = self.keys.iter().map(|key| host_of(key)).collect();
        let refused = |what: String| Error::Setup {
            what: what.into(),
            fix: "Give the log of these Key Vaults, and see that their diagnostic setting sends AuditEvent there."
                .into(),
        };
        let list = || ours.iter().copied().collect::<Vec<_>>().join(", ");
        if ours.is_empty() {
            return Err(Error::Setup {
                what: "this instance has used no key in Azure, so there is nothing to compare".into(),
                fix: "Compare once a vault of the strategy Azure External Keys is there.".into(),
            });
        }
        if entries.is_empty() {
            return Err(refused(format!("Azure's log is empty, and this instance uses {}", list())));
        }
        let known = |entry: &Entry| [&entry.target, &entry.id].into_iter().any(|text| ours.contains(host_of(text)));
        match entries.iter().any(known) {
            true => Ok(()),
            false => {
                Err(refused(format!("Azure's log has no entry of any Key Vault that this instance uses: {}", list())))
            }
        }
    }

    /// Receipts that Azure should show, well within its span, and Key Vaults of which it shows nothing meanwhile.
    fn missing(&self, seen: &BTreeSet<Uuid>, entries: &[Entry], report: &mut Reconciled) {
        let Some((first, last)) = report.span else { return };
        let well_within = |at: Timestamp| (first + MARGIN..=last - MARGIN).contains(&at);
        let mut heard: BTreeMap<&str, Vec<Timestamp>> = BTreeMap::new();
        for entry in entries {
            heard.entry(host_of(&entry.target)).or_default().push(entry.at);
        }
        heard.values_mut().for_each(|times| times.sort());
        // Host and beginning → end, and how often it was asked meanwhile.
        let mut silences: BTreeMap<(&str, Timestamp), (Timestamp, u64)> = BTreeMap::new();
        for receipt in self.receipts.iter().filter(|receipt| well_within(receipt.at)) {
            report.receipts += 1;
            if seen.contains(&receipt.request) {
                continue;
            }
            let host = host_of(&receipt.kid);
            let times = heard.get(host).map(Vec::as_slice).unwrap_or_default();
            let next = times.partition_point(|time| *time < receipt.at);
            let from = next.checked_sub(1).map_or(first, |before| times[before]);
            let until = times.get(next).copied().unwrap_or(last);
            if until.duration_since(from) > SILENCE {
                silences.entry((host, from)).or_insert((until, 0)).1 += 1;
            } else {
                report.findings.push(Finding::missing(receipt));
            }
        }
        // Canaries leave no receipt. Where they were announced for a Key Vault, some were sent.
        for (target, intents) in &self.intents {
            let host = host_of(target);
            let asked = intents.iter().filter(|intent| well_within(intent.at)).count() as u64;
            if asked > 0 && !heard.contains_key(host) {
                silences.entry((host, first)).or_insert((last, 0)).1 += asked;
            }
        }
        let silent =
            silences.into_iter().map(|((host, from), (until, count))| Finding::silent(host, from, until, count));
        report.findings.extend(silent);
    }
}

/// The host of a kid or of a request's target.
fn host_of(text: &str) -> &str {
    text.strip_prefix("https://").unwrap_or(text).split('/').next().unwrap_or_default()
}

/// `host/keys/name` of a kid or of a request's target, in lower case.
fn key_of(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let rest = text.strip_prefix("https://").unwrap_or(&text);
    let mut parts = rest.split('/').filter(|part| !part.is_empty());
    match (parts.next(), parts.next(), parts.next()) {
        (Some(host), Some("keys"), Some(name)) if is_key_vault(host) => Some(format!("{host}/keys/{name}")),
        _ => None,
    }
}

impl Finding {
    fn of(entry: &Entry, why: Why) -> Self {
        Self {
            why,
            at: entry.at,
            until: None,
            operation: entry.operation.clone(),
            key: entry.target.clone(),
            request: entry.request,
            application: entry.application.clone(),
            address: entry.address.clone(),
            event: None,
        }
    }

    fn missing(receipt: &Receipt) -> Self {
        Self {
            why: Why::NotInAzure,
            at: receipt.at,
            until: None,
            operation: "key.unwrap".to_owned(),
            key: receipt.kid.clone(),
            request: Some(receipt.request),
            application: None,
            address: None,
            event: Some(receipt.event),
        }
    }

    fn silent(host: &str, from: Timestamp, until: Timestamp, asked: u64) -> Self {
        Self {
            why: Why::Silent,
            at: from,
            until: Some(until),
            operation: counted(asked, "request"),
            key: host.to_owned(),
            request: None,
            application: None,
            address: None,
            event: None,
        }
    }
}

impl fmt::Display for Reconciled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entries, uses, ours, others, receipts, .. } = self;
        match self.span {
            Some((first, last)) => writeln!(f, "{entries} entries of Azure's log, from {first:.0} to {last:.0}")?,
            None => writeln!(f, "No entry of Azure's log")?,
        }
        writeln!(f, "{uses} successful uses of this instance's keys, {ours} of them its own; {others} of other keys")?;
        writeln!(f, "{receipts} unwraps of its own within that time")?;
        for finding in &self.findings {
            writeln!(f, "  {finding}")?;
        }
        match self.findings.len() {
            0 => write!(f, "Both logs say the same."),
            count => write!(f, "Differences: {count}."),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ", self.at)?;
        if let Some(until) = self.until {
            write!(f, "to {until:.3} ")?;
        }
        write!(f, "{} {}: {}", self.operation, self.key, self.why)?;
        if let Some(request) = self.request {
            write!(f, "; client request id {request}")?;
        }
        if let Some(application) = &self.application {
            write!(f, "; application {application}")?;
        }
        if let Some(address) = &self.address {
            write!(f, "; from {address}")?;
        }
        match self.event {
            Some(event) => write!(f, "; our event {event}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Foreign => "this instance did not make it",
            Self::Unannounced => "made with this instance's key, and not announced in its log",
            Self::KeyNotLoaded => {
                "announced under an instance key that is not loaded; put its line below the current one"
            }
            Self::Late => "made by this instance for another time; somebody sent its id again",
            Self::Unplaced => "its key cannot be read, so that nobody can say whose use it is",
            Self::Duplicate => "its request id was used before",
            Self::NotInAzure => "Azure answered it, and Azure's log does not show it",
            Self::Silent => "Azure's log shows nothing of this Key Vault meanwhile",
        })
    }
}

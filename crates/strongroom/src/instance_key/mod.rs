//! A new instance key in place of an old one, and the end of the old one.
//!
//! Both are loaded meanwhile, and every MAC and every seal names its own, so that work that is cut off anywhere leaves
//! a database that opens, and is taken up again by running it again. Each row is proven under the key that it names
//! before anything vouches for it under the new one. What is stored in place of a token cannot be made anew without the
//! token: a session or an API token goes over when it is used the next time.

mod bearers;
mod reanchor;

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use strongroom_envelope::{InstanceKeyId, InstanceKeys, Mac, Random, instance_key_of};
use uuid::Uuid;

pub use self::{
    bearers::Bearers,
    reanchor::{Lost, Reanchored, look_lost, prove, reanchor},
};
use crate::{
    audit::{self, Actor, Event, Target},
    counted::counted,
    error::{Error, Result},
    id::EventId,
    job, keyring, member, notice,
    store::{Param, Store, Tx},
};

/// Rows that are named when they fail their proof.
const NAMED: usize = 20;

/// The instance keys, the new one first, and what else sealing takes.
#[derive(Clone)]
pub struct Means {
    pub keys: Arc<InstanceKeys>,
    pub random: Arc<dyn Random>,
    pub now: Timestamp,
}

/// What is under which instance key.
#[derive(Debug, Default)]
pub struct Survey {
    /// Key → how many MACs and seals of rows name it.
    pub rows: BTreeMap<InstanceKeyId, u64>,
    /// Key → living tokens that it made.
    pub bearers: BTreeMap<InstanceKeyId, Bearers>,
    /// Rows that failed their proof, the first of them.
    pub broken: Vec<String>,
    pub broken_rows: u64,
}

/// How far it is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// What rows it is at.
    pub kind: &'static str,
    /// Of this kind.
    pub rows: u64,
}

/// Called after each page.
pub type Tell<'a> = dyn FnMut(Progress) + Send + 'a;

/// Reads every row that a MAC or a seal under an instance key protects, and proves it. Changes nothing.
pub async fn look(store: &Store, means: &Means, tell: &mut Tell<'_>) -> Result<Survey> {
    let mut survey = Survey::default();
    for kind in &KINDS {
        walk(store, means, kind, false, &mut survey, tell).await?;
    }
    survey.bearers = store.read(bearers::living(means.now)).await?;
    Ok(survey)
}

/// Brings every row under the current key, and proves by reading all of them again that nothing else is left. No server
/// may have the database open. Returns how many MACs and seals were made anew; 0 where none was left to do.
pub async fn rotate(store: &Store, means: &Means, tell: &mut Tell<'_>) -> Result<u64> {
    let before = look(store, means, tell).await?;
    before.require_genuine()?;
    let older = before.older(means);
    if older.is_empty() {
        return Ok(0);
    }
    let (current, needed) = (means.current(), joined(&older));
    store.write(move |tx| begin(tx, &current.to_string(), &needed)).await?;
    let mut renewed = Survey::default();
    for kind in &KINDS {
        walk(store, means, kind, true, &mut renewed, tell).await?;
    }
    renewed.require_genuine()?;
    let after = look(store, means, tell).await?;
    after.require_genuine()?;
    let left = after.older(means);
    if !left.is_empty() {
        return Err(Error::conflict(
            "instance_key.left",
            format!("something was written under {} meanwhile", joined(&left)),
            "Stop every server, then run this again.",
        ));
    }
    let count = older.values().sum();
    let id = EventId::generate(means.now, means.random.as_ref())?;
    let facts = vec![("key", current.to_string().into()), ("from", joined(&older).into()), ("count", u64::into(count))];
    let event = told(id, means.now, "instance_key.rotate", facts);
    store
        .write(move |tx| {
            tx.execute("DELETE FROM meta WHERE name = 'instance_key_older'", &[])?;
            tx.record(&event)
        })
        .await?;
    Ok(count)
}

/// Ends an older key: refused while a row needs it; tokens that it made end if `end_bearers` says so. No server may have
/// the database open. The caller takes it out of the key file afterwards.
pub async fn retire(
    store: &Store,
    means: &Means,
    key: InstanceKeyId,
    end_bearers: bool,
    tell: &mut Tell<'_>,
) -> Result<Bearers> {
    let survey = look(store, means, tell).await?;
    survey.require_genuine()?;
    if let Some(count) = survey.rows.get(&key) {
        return Err(Error::conflict(
            "instance_key.in_use",
            format!("{} of the database (MACs and seals) are under the instance key {key}", counted(*count, "value")),
            "Run `strongroom instance-key rotate` first.",
        ));
    }
    let bearers = survey.bearers.get(&key).copied().unwrap_or_default();
    if bearers != Bearers::default() && !end_bearers {
        return Err(Error::conflict(
            "instance_key.tokens",
            format!("living tokens were made under the instance key {key} and end with it: {bearers}"),
            "Sessions and API tokens go over to the new key when they are used; wait, or end them all now with \
             --end-tokens. Whoever loses recovery codes makes new ones in their profile.",
        ));
    }
    let id = EventId::generate(means.now, means.random.as_ref())?;
    let facts = vec![
        ("key", key.to_string().into()),
        ("sessions", bearers.sessions.into()),
        ("tokens", bearers.tokens.into()),
        ("links", bearers.links.into()),
        ("codes", bearers.codes.into()),
    ];
    let (event, now) = (told(id, means.now, "instance_key.retire", facts), means.now);
    store
        .write(move |tx| {
            bearers::end(tx, key, now)?;
            tx.record(&event)
        })
        .await?;
    Ok(bearers)
}

impl Means {
    fn current(&self) -> InstanceKeyId {
        self.keys.current().id()
    }
}

impl Survey {
    /// Keys other than the current one that rows are under.
    pub fn older(&self, means: &Means) -> BTreeMap<InstanceKeyId, u64> {
        self.rows.iter().map(|(key, count)| (*key, *count)).filter(|(key, _)| *key != means.current()).collect()
    }

    /// Nothing is vouched for anew that fails its proof.
    pub fn require_genuine(&self) -> Result<()> {
        if self.broken.is_empty() {
            return Ok(());
        }
        let more = match self.broken_rows.saturating_sub(self.broken.len() as u64) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        Err(Error::integrity(
            "instance_key.not_genuine",
            format!(
                "{} failed their proof, and no new key vouches for them: {}{more}. Run `strongroom audit verify --state`; \
                 put them right, or restore a backup, then run this again",
                counted(self.broken_rows, "row"),
                self.broken.join("; ")
            ),
        ))
    }
}

/// A kind of rows, read in pages by id. With `write`, what is under an older key comes under the current one.
struct Kind {
    name: &'static str,
    page: fn(&mut Tx<'_>, &Means, Uuid, bool) -> Result<Page>,
}

/// Events come last: there are most of them, and vaults and members leave events.
const KINDS: [Kind; 6] = [
    Kind { name: "vaults", page: keyring::renew_vaults },
    Kind { name: "second factors", page: member::renew_codes },
    Kind { name: "webhooks", page: notice::renew_webhooks },
    Kind { name: "jobs", page: job::renew_jobs },
    Kind { name: "the log's key", page: audit::log::renew_key },
    Kind { name: "audit events", page: audit::renew_events },
];

/// A page of rows, looked through.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// The id of the last row; none after the last page.
    last: Option<Uuid>,
    rows: u64,
    under: BTreeMap<InstanceKeyId, u64>,
    broken: Vec<String>,
}

impl Page {
    /// One of these rows, where a full page has `full`.
    pub(crate) fn of(ids: &[Uuid], full: usize) -> Self {
        let last = ids.last().copied().filter(|_| ids.len() == full);
        Self { last, rows: ids.len() as u64, ..Self::default() }
    }

    /// Counts a genuine row's values; whether one is under an older key.
    pub(crate) fn found(&mut self, means: &Means, under: &[InstanceKeyId]) -> bool {
        for key in under {
            *self.under.entry(*key).or_default() += 1;
        }
        under.iter().any(|key| *key != means.current())
    }

    pub(crate) fn broken(&mut self, row: String) {
        self.broken.push(row);
    }
}

/// The key that a stored MAC names.
pub(crate) fn key_of_mac(mac: &[u8]) -> Result<InstanceKeyId> {
    Mac::from_bytes(mac).map(|mac| mac.instance_key()).map_err(|error| unproven(&error.to_string()))
}

/// The loaded key that a sealed value names.
pub(crate) fn key_of_seal(keys: &InstanceKeys, blob: &[u8]) -> Result<InstanceKeyId> {
    let key = instance_key_of(blob).map_err(|error| unproven(&error.to_string()))?;
    let key = key.ok_or_else(|| unproven("it is not sealed under an instance key"))?;
    match keys.get(key) {
        Some(_) => Ok(key),
        None => Err(unproven(&format!("it needs the instance key {key}, which is not loaded"))),
    }
}

fn unproven(why: &str) -> Error {
    Error::integrity("integrity.row", why.to_owned())
}

async fn walk(
    store: &Store,
    means: &Means,
    kind: &Kind,
    write: bool,
    survey: &mut Survey,
    tell: &mut Tell<'_>,
) -> Result<()> {
    let (mut after, mut rows) = (Uuid::nil(), 0);
    loop {
        let (means, look) = (means.clone(), kind.page);
        let work = move |tx: &mut Tx<'_>| look(tx, &means, after, write);
        let page = if write { store.write(work).await? } else { store.read(work).await? };
        rows += page.rows;
        tell(Progress { kind: kind.name, rows });
        for (key, count) in page.under {
            *survey.rows.entry(key).or_default() += count;
        }
        survey.broken_rows += page.broken.len() as u64;
        let room = NAMED - survey.broken.len();
        survey.broken.extend(page.broken.into_iter().take(room));
        match page.last {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}

/// From here until the end both keys are needed, and no server starts without them.
fn begin(tx: &mut Tx<'_>, current: &str, older: &str) -> Result<()> {
    record(tx, current)?;
    let name = Param::Text("instance_key_older");
    tx.execute("INSERT INTO meta (name, value) VALUES ($1, $2)", &[name, Param::Text(older)])?;
    Ok(())
}

/// The key that the database is under, and no other.
fn record(tx: &mut Tx<'_>, current: &str) -> Result<()> {
    tx.execute("DELETE FROM meta WHERE name IN ('instance_key', 'instance_key_older')", &[])?;
    tx.execute("INSERT INTO meta (name, value) VALUES ('instance_key', $1)", &[Param::Text(current)])?;
    Ok(())
}

fn joined(keys: &BTreeMap<InstanceKeyId, u64>) -> String {
    keys.keys().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn told(id: EventId, at: Timestamp, action: &'static str, detail: Vec<(&'static str, audit::Fact)>) -> Event {
    Event { id, at, workspace: None, actor: Actor::System, action, target: Target::None, detail }
}

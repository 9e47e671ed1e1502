//! One Merkle log over the events of all chains (RFC 6962), so that a checkpoint of a hundred bytes, kept elsewhere,
//! shows one event that was altered, removed, reordered or rolled back.
//!
//! A chain is what a writer adds to in its own transactions. Afterwards one node, the holder of a lease, gives their
//! events indexes, in order (`sequencer`), and signs the tree's head each minute (`checkpoint`, `note`). Each write of
//! both compares the lease's fence: who was frozen and thaws finds another's and writes nothing. A restored database
//! goes on under a new name, whose row and event name the parent (`origin`). `check` is the offline proof.

mod check;
mod checkpoint;
mod note;
mod origin;
mod proof;
mod sequencer;
#[cfg(test)]
mod tests;
mod tree;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use strongroom_envelope::{InstanceKeys, LogKey, open_log_key, seal_log_key};
use uuid::Uuid;

pub(crate) use self::origin::sign_with;
pub(super) use self::{check::check, checkpoint::common, origin::names, sequencer::begin_chain};
pub use self::{
    check::{LogFault, LogReport, LogWhat},
    note::{Checkpoint, NotACheckpoint, NotAVerifierKey, VerifierKey, origin_name},
    origin::{NewOrigin, OriginReason, open_origin},
    proof::{EventProof, Growth, LogHead, NotAProof},
};
use self::{
    origin::{beginnings, first_origin},
    sequencer::{Fence, Pass},
};
use crate::{
    app::App,
    audit::{Actor, Fact, Target},
    error::{Error, Result},
    id::{NodeId, NoticeId, OriginId, WorkspaceId},
    instance_key::{Means, Page, key_of_seal},
    notice::{self, Kind},
    store::{Row, Store, StoreError, Tx},
};

/// The public key of the log, under its present name. An error where the database has no log.
pub async fn verifier_key(store: &Store, keys: Arc<InstanceKeys>) -> Result<VerifierKey> {
    let state = store.read(State::read).await?;
    let state = state
        .ok_or_else(|| Error::integrity("log.none", "this database has no audit log yet; start the server once"))?;
    Ok(VerifierKey { name: origin_name(state.origin), key: state.key(&keys)?.public() })
}

/// How often the holder of the lease looks for new events.
const POLL: Duration = Duration::from_secs(2);
/// How long a log may stand still, for a database that is away, before everybody is told.
const STANDS: Duration = Duration::from_secs(600);
/// How often it signs.
const MINUTE: Duration = Duration::from_secs(60);

impl App {
    /// Makes the log if there is none yet, and gives what earlier starts of this node have written its place before
    /// this start writes anything: then the log orders them, not the clock.
    pub async fn open_log(&self) -> Result<()> {
        self.make_log().await?;
        let mut held = self.claim_log(true).await?;
        while self.log_pass(&mut held).await? == Pass::More {}
        Ok(())
    }

    /// Keeps the log until the server stops: indexes at once, a checkpoint each minute.
    pub async fn keep_log(self: Arc<Self>) {
        let sign_at = self.clock.since_boot();
        let mut keeper = Keeper { held: None, starting: true, sign_at, posted: None, stands_since: None, told: false };
        loop {
            match self.log_round(&mut keeper).await {
                Ok(Pass::More) => continue,
                Ok(Pass::Done) => keeper.stands_since = None,
                Err(error) => self.stands_still(&mut keeper, &error).await,
            }
            keeper.starting = false;
            self.clock.sleep(POLL).await;
        }
    }

    /// Takes in what is left, signs once more and gives the lease back, so that another node goes on at once.
    pub async fn rest_log(&self) -> Result<()> {
        let mut held = self.claim_log(true).await?;
        while self.log_pass(&mut held).await? == Pass::More {}
        if let Some(fence) = held {
            let signed = async {
                self.settle_pushed().await?;
                self.sign_log(fence).await?;
                self.push_checkpoint().await
            };
            if let Err(error) = signed.await {
                tracing::warn!(%error, "the last checkpoint of the audit log was not signed or not pushed");
            }
            self.store.write(move |tx| sequencer::let_go(tx, fence)).await?;
        }
        Ok(())
    }

    async fn log_round(&self, keeper: &mut Keeper) -> Result<Pass> {
        if keeper.starting {
            self.make_log().await?;
        }
        if keeper.held.is_none() {
            keeper.held = self.claim_log(keeper.starting).await?;
        }
        if self.log_pass(&mut keeper.held).await? == Pass::More {
            return Ok(Pass::More);
        }
        if let Some(fence) = keeper.held
            && self.clock.since_boot() >= keeper.sign_at
        {
            keeper.sign_at = self.clock.since_boot() + MINUTE;
            // First what was pushed before: a database that was set back signs nothing under the name that it had.
            let settled = self.settle_pushed().await;
            self.sign_log(fence).await?;
            let to_file = match settled {
                Ok(()) => self.push_checkpoint().await,
                Err(error) => Err(error),
            };
            self.post_checkpoint(&mut keeper.posted).await?;
            to_file?;
        }
        Ok(Pass::Done)
    }

    /// Tells it in the server's log, and those who manage vaults: what is broken at once, what may pass once it lasts.
    async fn stands_still(&self, keeper: &mut Keeper, error: &Error) {
        let now = self.clock.since_boot();
        let since = *keeper.stands_since.get_or_insert(now);
        let is_broken = matches!(error, Error::Integrity { .. });
        match is_broken {
            true => tracing::error!(%error, "the audit log goes no further; run audit verify"),
            false => tracing::warn!(%error, "the audit log could not be taken further"),
        }
        if !keeper.told && (is_broken || now >= since + STANDS) {
            match self.tell_stopped(error.code()).await {
                Ok(()) => keeper.told = true,
                Err(error) => tracing::warn!(%error, "nobody could be told that the audit log stands still"),
            }
        }
    }

    async fn tell_stopped(&self, code: &str) -> Result<()> {
        let facts = vec![("code", Fact::Text(code.to_owned()))];
        let event = self.event_by(Actor::System, None, "log.stopped", Target::None, facts)?;
        let (code, told) = (code.to_owned(), self.notice_for_each_workspace(event.at).await?);
        self.store
            .write(move |tx| {
                tx.record(&event)?;
                notice::of_the_log(tx, &event, Kind::LogStopped, &code, &told)
            })
            .await
    }

    /// An id of a notice for each workspace.
    async fn notice_for_each_workspace(&self, at: Timestamp) -> Result<Vec<(WorkspaceId, NoticeId)>> {
        let workspaces = self.store.read(|tx| tx.all("SELECT id FROM workspaces", &[], |row| row.get(0))).await?;
        let told =
            workspaces.into_iter().map(|id| Ok((WorkspaceId(id), NoticeId::generate(at, self.random.as_ref())?)));
        told.collect()
    }

    async fn make_log(&self) -> Result<()> {
        let there = |tx: &mut Tx<'_>| {
            let had = !beginnings(tx)?.is_empty() || tx.count("SELECT COUNT(*) FROM audit_events", &[])? > 0;
            Ok((State::read(tx)?.is_some(), had))
        };
        match self.store.read(there).await? {
            (true, _) => return Ok(()),
            // A new key over old events would make a second history of them.
            (_, true) => {
                return Err(Error::integrity("log.gone", "the audit log's state was removed from the database"));
            }
            _ => {}
        }
        let new = self.new_origin(OriginReason::First)?;
        let key = LogKey::generate(self.random.as_ref()).map_err(|_| Error::random())?;
        let sealed = seal_log_key(&self.keys, &key, self.random.as_ref()).map_err(|_| Error::random())?;
        let made = self.store.write(move |tx| first_origin(tx, &new, &sealed)).await;
        match made {
            // Another node was faster.
            Err(Error::Store(StoreError::Taken)) => Ok(()),
            other => other,
        }
    }

    fn new_origin(&self, why: OriginReason) -> Result<NewOrigin> {
        NewOrigin::at(self.clock.now(), why, self.random.as_ref())
    }
}

/// The key that signs, which is one row; with `write`, under an older instance key it comes under the current one.
pub(crate) fn renew_key(tx: &mut Tx<'_>, means: &Means, _after: Uuid, write: bool) -> Result<Page> {
    let Some(state) = State::locked(tx)? else { return Ok(Page::default()) };
    let mut page = Page::of(&[state.origin.0], usize::MAX);
    let opened = key_of_seal(&means.keys, &state.sealed_key).and_then(|key| Ok((key, state.key(&means.keys)?)));
    match opened {
        Ok((key, log_key)) if page.found(means, &[key]) && write => {
            let sealed = seal_log_key(&means.keys, &log_key, means.random.as_ref()).map_err(|_| Error::random())?;
            tx.execute("UPDATE log_state SET sealed_key = $1 WHERE one = 1", &[(&sealed).into()])?;
        }
        Ok(_) => {}
        Err(error) => page.broken(format!("the key that signs the log: {error}")),
    }
    Ok(page)
}

/// Whether the key that signs is sealed under an instance key that is not loaded.
pub(crate) fn key_is_lost(tx: &mut Tx<'_>, keys: &InstanceKeys) -> Result<bool> {
    Ok(State::read(tx)?.is_some_and(|state| key_of_seal(keys, &state.sealed_key).is_err()))
}

/// What the loop remembers from round to round.
struct Keeper {
    held: Option<Fence>,
    /// This start has not looked yet: a lease of this node is one of an earlier start.
    starting: bool,
    sign_at: Duration,
    /// The checkpoint that the operator's address took last.
    posted: Option<Checkpoint>,
    /// Since when no round has come to its end, and whether anybody was told.
    stands_since: Option<Duration>,
    told: bool,
}

/// Where the log stands: the one row of `log_state`.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) origin: OriginId,
    pub(super) size: u64,
    node: Option<NodeId>,
    lease_ends: Timestamp,
    fence: Fence,
    sealed_key: Vec<u8>,
}

impl State {
    pub(super) fn read(tx: &mut Tx<'_>) -> Result<Option<Self>> {
        tx.first(SELECT_STATE, &[], State::of)
    }

    /// The same, held against other writers until the transaction ends.
    fn locked(tx: &mut Tx<'_>) -> Result<Option<Self>> {
        tx.first_locked(SELECT_STATE, &[], State::of)
    }

    /// The key that signs, which only the instance key opens.
    pub(super) fn key(&self, keys: &InstanceKeys) -> Result<LogKey> {
        open_log_key(keys, &self.sealed_key)
            .map_err(|error| Error::integrity("log.key", format!("the key of the audit log does not open: {error}")))
    }

    fn of(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            origin: OriginId(row.get(0)?),
            size: row.get(1)?,
            node: row.get::<Option<uuid::Uuid>>(2)?.map(NodeId),
            lease_ends: row.get(3)?,
            fence: Fence(row.get(4)?),
            sealed_key: row.get(5)?,
        })
    }
}

const SELECT_STATE: &str = "SELECT origin_id, size, node, lease_ends, fence, sealed_key FROM log_state WHERE one = 1";

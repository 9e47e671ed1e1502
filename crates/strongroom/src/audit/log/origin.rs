//! Names of the log. A database that was set back must not sign under the name it had: whoever holds a checkpoint of
//! the events that are gone would see a fork. So it goes on under a new name, and says which was its parent and how far.

use std::collections::BTreeSet;

use jiff::Timestamp;
use strongroom_envelope::Random;

use super::{State, tree::root_at};
use crate::{
    audit::{Actor, Event, Fact, Target},
    error::{Error, Result},
    id::{EventId, OriginId},
    store::{Param, Tx},
};

/// Why a name began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginReason {
    /// The instance's first.
    First,
    /// The database came out of a backup.
    Restored,
    /// A checkpoint that was pushed is of events that the database does not have.
    SetBack,
    /// The instance key was lost, and with it the key that signed.
    Reanchored,
}

/// A name to begin.
#[derive(Debug, Clone, Copy)]
pub struct NewOrigin {
    pub id: OriginId,
    /// Of the event `log.origin`, which is recorded with it.
    pub event: EventId,
    pub at: Timestamp,
    pub why: OriginReason,
}

impl NewOrigin {
    /// One with fresh ids. Fails only when the random source does.
    pub fn at(at: Timestamp, why: OriginReason, random: &dyn Random) -> Result<Self> {
        Ok(Self { id: OriginId::generate(at, random)?, event: EventId::generate(at, random)?, at, why })
    }
}

/// Goes on under a new name from where the stored log stands, and ends whatever lease there was. To be the last
/// transaction of a restore, before any server opens the database. Nothing where the database has no log yet.
pub fn open_origin(tx: &mut Tx<'_>, new: &NewOrigin) -> Result<()> {
    let Some(state) = State::locked(tx)? else { return Ok(()) };
    let root = root_at(tx, state.size)?;
    begin(tx, new, Some(state.origin), state.size, &root)?;
    tx.execute(
        "UPDATE log_state SET origin_id = $1, node = NULL, lease_ends = 0, fence = fence + 1 WHERE one = 1",
        &[new.id.0.into()],
    )?;
    Ok(())
}

/// Goes on under a new name and a new key, where the one before was lost: what it signed stays good elsewhere, and is not
/// kept here, where nothing tells it from what anybody wrote.
pub(crate) fn sign_with(tx: &mut Tx<'_>, new: &NewOrigin, sealed_key: &[u8]) -> Result<()> {
    open_origin(tx, new)?;
    tx.execute("DELETE FROM log_checkpoints", &[])?;
    tx.execute("UPDATE log_state SET sealed_key = $1 WHERE one = 1", &[Param::Bytes(sealed_key)])?;
    Ok(())
}

/// The first name, with the sealed key that signs under all of them.
pub(super) fn first_origin(tx: &mut Tx<'_>, new: &NewOrigin, sealed_key: &[u8]) -> Result<()> {
    let root = root_at(tx, 0)?;
    begin(tx, new, None, 0, &root)?;
    tx.execute(
        "INSERT INTO log_state (one, origin_id, size, node, lease_ends, fence, sealed_key) \
         VALUES (1, $1, 0, NULL, 0, 0, $2)",
        &[new.id.0.into(), Param::Bytes(sealed_key)],
    )?;
    Ok(())
}

/// Where a name began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Beginning {
    pub(super) id: OriginId,
    pub(super) parent: Option<OriginId>,
    pub(super) size: u64,
    pub(super) root: [u8; 32],
}

/// Every name that the log has had, the oldest first.
pub(super) fn beginnings(tx: &mut Tx<'_>) -> Result<Vec<Beginning>> {
    tx.all("SELECT id, parent_id, size, root FROM log_origins ORDER BY id", &[], |row| {
        let root: Vec<u8> = row.get(3)?;
        let root = root.try_into().map_err(|_| Error::integrity("log.origin", "an origin's root is not a hash"))?;
        let parent = row.get::<Option<uuid::Uuid>>(1)?.map(OriginId);
        Ok(Beginning { id: OriginId(row.get(0)?), parent, size: row.get(2)?, root })
    })
}

/// The log's names, each with its parent, as the database lists them.
pub(in crate::audit) fn names(tx: &mut Tx<'_>) -> Result<BTreeSet<(OriginId, Option<OriginId>)>> {
    Ok(beginnings(tx)?.into_iter().map(|begun| (begun.id, begun.parent)).collect())
}

fn begin(tx: &mut Tx<'_>, new: &NewOrigin, parent: Option<OriginId>, size: u64, root: &[u8]) -> Result<()> {
    tx.execute(
        "INSERT INTO log_origins (id, parent_id, size, root, why, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
        &[
            new.id.0.into(),
            parent.map(|id| id.0).into(),
            size.into(),
            Param::Bytes(root),
            new.why.word().into(),
            new.at.into(),
        ],
    )?;
    let mut detail = vec![
        ("origin", Fact::Id(new.id.0)),
        ("why", new.why.word().into()),
        ("size", size.into()),
        ("root", Fact::Bytes(root.to_vec())),
    ];
    detail.extend(parent.map(|parent| ("parent", Fact::Id(parent.0))));
    tx.record(&Event {
        id: new.event,
        at: new.at,
        workspace: None,
        actor: Actor::System,
        action: "log.origin",
        target: Target::None,
        detail,
    })
}

impl OriginReason {
    fn word(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Restored => "restored",
            Self::SetBack => "set_back",
            Self::Reanchored => "reanchored",
        }
    }
}

//! Writing: each writer of the store appends to a chain of its own, so that writers never wait for each other.

use std::sync::Arc;

use strongroom_envelope::{InstanceKeys, audit_mac, digest};

use super::{Event, Place, bytes::encode, log, vocabulary};
use crate::{
    error::Result,
    store::{Param, Tx, Writer},
};

/// One writer's chain: where it stands, so that the next event names the one before.
#[derive(Clone)]
pub struct Chain {
    next: Place,
    keys: Arc<InstanceKeys>,
}

impl Chain {
    /// An empty chain under a fresh boot id.
    pub fn start(writer: &Writer) -> Result<Self> {
        let next = Place { node: writer.node, boot: (writer.boot)()?, sequence: 0, previous: [0; 32] };
        Ok(Self { next, keys: Arc::clone(&writer.keys) })
    }

    /// Writes `event` as the next of this chain.
    pub(crate) fn append(&mut self, tx: &mut Tx<'_>, event: &Event) -> Result<()> {
        debug_assert_eq!(vocabulary::check(event), Ok(()), "docs/format.md lists every action with its facts");
        let bytes = encode(&self.next, event);
        let hash = digest(&bytes);
        let mac = audit_mac(&self.keys, &hash).to_bytes();
        tx.execute(
            "INSERT INTO audit_events (id, node, boot, sequence, workspace_id, actor_id, target_id, action, at, bytes, mac) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            &[
                event.id.0.into(),
                self.next.node.0.into(),
                self.next.boot.0.into(),
                self.next.sequence.into(),
                event.workspace.map(|id| id.0).into(),
                event.actor.member().map(|id| id.0).into(),
                event.target.id().into(),
                event.action.into(),
                event.at.into(),
                Param::Bytes(&bytes),
                Param::Bytes(&mac),
            ],
        )?;
        if self.next.sequence == 0 {
            log::begin_chain(tx, &self.next)?;
        }
        self.next.sequence += 1;
        self.next.previous = hash;
        Ok(())
    }
}

//! The audit log: what happened, who did it, to what. An event is written in the same transaction as what it tells
//! of, so that neither exists without the other; a reveal's event is durable before its plaintext leaves.
//!
//! Every writer of the store keeps one chain (node, boot, sequence, previous hash), and each event carries a MAC
//! under the instance key, so that a database writer can delete events at a chain's end but neither alter nor make one.

use std::sync::Arc;

use jiff::Timestamp;
use minicbor::Encoder;
use strongroom_envelope::{InstanceKeys, audit_mac, digest};
use uuid::Uuid;

use crate::{
    error::Result,
    id::{BootId, EventId, ItemId, MemberId, NodeId, SessionId, TokenId, VaultId, WorkspaceId},
    store::{Param, Tx, Writer},
};

/// One thing that happened. It holds ids and numbers, never what was typed into an item.
#[derive(Debug, Clone)]
pub struct Event {
    pub id: EventId,
    pub at: Timestamp,
    pub workspace: Option<WorkspaceId>,
    pub actor: Actor,
    /// A stable word such as `item.reveal`; the list stands in docs/format.md.
    pub action: &'static str,
    pub target: Target,
    /// Named facts in a fixed order for each action.
    pub detail: Vec<(&'static str, Fact)>,
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// The server itself: canaries, jobs, start and stop.
    System,
    /// Somebody who has not signed in.
    Anonymous,
    /// A member in a browser.
    Session(MemberId, SessionId),
    /// A member through the API.
    Token(MemberId, TokenId),
}

/// What it was done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    None,
    Workspace(WorkspaceId),
    Member(MemberId),
    Vault(VaultId),
    Item(ItemId),
    Session(SessionId),
    Token(TokenId),
}

/// One fact of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    Text(String),
    Number(u64),
    Id(Uuid),
    Bytes(Vec<u8>),
}

impl Actor {
    /// The member behind it, if there is one.
    pub fn member(&self) -> Option<MemberId> {
        match self {
            Self::System | Self::Anonymous => None,
            Self::Session(member, _) | Self::Token(member, _) => Some(*member),
        }
    }

    fn parts(&self) -> (&'static str, Option<Uuid>, Option<Uuid>) {
        match self {
            Self::System => ("system", None, None),
            Self::Anonymous => ("anonymous", None, None),
            Self::Session(member, session) => ("session", Some(member.0), Some(session.0)),
            Self::Token(member, token) => ("token", Some(member.0), Some(token.0)),
        }
    }
}

impl Target {
    fn parts(&self) -> (&'static str, Option<Uuid>) {
        match self {
            Self::None => ("none", None),
            Self::Workspace(id) => ("workspace", Some(id.0)),
            Self::Member(id) => ("member", Some(id.0)),
            Self::Vault(id) => ("vault", Some(id.0)),
            Self::Item(id) => ("item", Some(id.0)),
            Self::Session(id) => ("session", Some(id.0)),
            Self::Token(id) => ("token", Some(id.0)),
        }
    }
}

impl From<&str> for Fact {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Fact {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<u64> for Fact {
    fn from(value: u64) -> Self {
        Self::Number(value)
    }
}

impl From<u32> for Fact {
    fn from(value: u32) -> Self {
        Self::Number(value.into())
    }
}

impl From<bool> for Fact {
    fn from(value: bool) -> Self {
        Self::Number(value.into())
    }
}

impl From<Uuid> for Fact {
    fn from(value: Uuid) -> Self {
        Self::Id(value)
    }
}

impl From<&[u8]> for Fact {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

/// The layout of an event's bytes; see docs/format.md.
pub const EVENT_FORMAT: u8 = 1;

/// One writer's chain: where it stands, so that the next event names the one before.
#[derive(Clone)]
pub struct Chain {
    node: NodeId,
    boot: BootId,
    sequence: u64,
    previous: [u8; 32],
    keys: Arc<InstanceKeys>,
}

impl Chain {
    /// An empty chain under a fresh boot id.
    pub fn start(writer: &Writer) -> Result<Self> {
        Ok(Self {
            node: writer.node,
            boot: (writer.boot)()?,
            sequence: 0,
            previous: [0; 32],
            keys: Arc::clone(&writer.keys),
        })
    }

    /// Writes `event` as the next of this chain.
    pub(crate) fn append(&mut self, tx: &mut Tx<'_>, event: &Event) -> Result<()> {
        let bytes = self.encode(event);
        let hash = digest(&bytes);
        let mac = audit_mac(&self.keys, &hash).to_bytes();
        tx.execute(
            "INSERT INTO audit_events (id, node, boot, sequence, workspace_id, actor_id, target_id, action, at, bytes, mac) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            &[
                event.id.0.into(),
                self.node.0.into(),
                self.boot.0.into(),
                self.sequence.into(),
                event.workspace.map(|id| id.0).into(),
                event.actor.member().map(|id| id.0).into(),
                event.target.parts().1.into(),
                event.action.into(),
                event.at.into(),
                Param::Bytes(&bytes),
                Param::Bytes(&mac),
            ],
        )?;
        self.sequence += 1;
        self.previous = hash;
        Ok(())
    }

    fn encode(&self, event: &Event) -> Vec<u8> {
        let mut out = Encoder::new(Vec::with_capacity(256));
        self.encode_into(event, &mut out).expect("writing to memory does not fail");
        out.into_writer()
    }

    fn encode_into(
        &self,
        event: &Event,
        out: &mut Encoder<Vec<u8>>,
    ) -> std::result::Result<(), minicbor::encode::Error<std::convert::Infallible>> {
        let (actor, member, through) = event.actor.parts();
        let (target, target_id) = event.target.parts();
        out.array(14)?.u8(EVENT_FORMAT)?;
        out.bytes(&self.node.bytes())?.bytes(&self.boot.bytes())?.u64(self.sequence)?.bytes(&self.previous)?;
        out.bytes(&event.id.bytes())?.i64(event.at.as_millisecond())?;
        optional_id(out, event.workspace.map(|id| id.0))?;
        out.str(actor)?;
        optional_id(out, member)?;
        optional_id(out, through)?;
        out.str(event.action)?;
        out.array(2)?.str(target)?;
        optional_id(out, target_id)?;
        out.map(event.detail.len() as u64)?;
        for (name, fact) in &event.detail {
            out.str(name)?;
            match fact {
                Fact::Text(text) => out.str(text)?,
                Fact::Number(number) => out.u64(*number)?,
                Fact::Id(id) => out.bytes(id.as_bytes())?,
                Fact::Bytes(bytes) => out.bytes(bytes)?,
            };
        }
        Ok(())
    }
}

fn optional_id(
    out: &mut Encoder<Vec<u8>>,
    id: Option<Uuid>,
) -> std::result::Result<(), minicbor::encode::Error<std::convert::Infallible>> {
    match id {
        Some(id) => out.bytes(id.as_bytes())?,
        None => out.null()?,
    };
    Ok(())
}

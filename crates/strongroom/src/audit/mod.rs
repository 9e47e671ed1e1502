//! The audit log: what happened, who did it, to what. An event is written in the same transaction as what it tells
//! of, so that neither exists without the other; a reveal's event is durable before its plaintext leaves.
//!
//! Every writer of the store keeps one chain (node, boot, sequence, previous hash), and each event carries a MAC
//! under the instance key, so that a database writer can delete events at a chain's end but neither alter nor make one.
//!
//! `vocabulary` lists the actions and their facts, `bytes` is the stored form, `chain` writes it, `read` pages through
//! it, `export` gives it out in its own order. `log` makes one Merkle log of all chains, whose signed heads, kept elsewhere, show what a chain cannot. `verify`
//! walks the chains and the log, `replay` rebuilds what the database should say, `state` compares, `report` tells.
//! `reconcile` lays the customer's Key Vault log (`azure_log`) beside it.

mod azure_log;
mod bytes;
mod chain;
mod export;
pub mod log;
mod read;
mod reconcile;
mod renew;
mod replay;
mod report;
mod state;
#[cfg(test)]
mod tests;
mod verify;
mod vocabulary;

use jiff::Timestamp;
use uuid::Uuid;

pub use self::{
    azure_log::{AzureLog, Entry as AzureEntry, NotALog, read as read_azure_log},
    bytes::{EVENT_FORMAT, Entry, NotAnEvent, Place},
    chain::Chain,
    export::{ExportPage, Exported},
    read::{AuditFilter, AuditPage},
    reconcile::{Finding, Reconciled, Why, reconcile},
    report::{ChainFault, ChainHead, Report, StateFault, StateReport, What, Wrong},
    verify::{Means, verify, verify_by},
    vocabulary::{FactKind, Outcome, VOCABULARY, Word, word},
};
pub(crate) use self::{
    read::newest_of,
    renew::{adopt_events, renew_events},
};
use crate::id::{EventId, ItemId, MemberId, SessionId, TokenId, VaultId, WorkspaceId};

/// One thing that happened. It holds ids and numbers, never what was typed into an item. Its words are `&'static str`
/// where an event is made, `String` where one was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<W = &'static str> {
    pub id: EventId,
    pub at: Timestamp,
    pub workspace: Option<WorkspaceId>,
    pub actor: Actor,
    /// A stable word such as `item.reveal`; the list stands in docs/format.md.
    pub action: W,
    pub target: Target,
    /// Named facts; each action has its own.
    pub detail: Vec<(W, Fact)>,
}

impl<W: AsRef<str>> Event<W> {
    /// The fact of this name.
    pub fn fact(&self, name: &str) -> Option<&Fact> {
        self.detail.iter().find(|(known, _)| known.as_ref() == name).map(|(_, fact)| fact)
    }
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

/// One fact of an event. Bytes are digests and commitments: 16 of them would be read back as an id.
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
    /// The id, whatever it is of.
    pub fn id(&self) -> Option<Uuid> {
        self.parts().1
    }

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

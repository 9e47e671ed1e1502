//! The stored form of an event: one CBOR item in the deterministic encoding of docs/format.md, and the strict way back.

use std::convert::Infallible;

use jiff::Timestamp;
use minicbor::{Decoder, Encoder, data::Type};
use strongroom_envelope::digest;
use uuid::Uuid;

use super::{Actor, Event, Fact, Target};
use crate::id::{BootId, EventId, ItemId, MemberId, NodeId, SessionId, TokenId, VaultId, WorkspaceId};

/// The layout of an event's bytes; see docs/format.md.
pub const EVENT_FORMAT: u8 = 1;
const PARTS: u64 = 14;

/// Where an event stands in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub node: NodeId,
    pub boot: BootId,
    /// Counts from 0 without a gap.
    pub sequence: u64,
    /// SHA-256 of the bytes of the event before; zeros for the first.
    pub previous: [u8; 32],
}

/// An event as it was read from its bytes. That says nothing yet about who wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub place: Place,
    pub event: Event<String>,
}

/// These bytes are not the one encoding of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not an event in its canonical form")]
pub struct NotAnEvent;

/// The canonical bytes. Facts are put in the order of their names' encodings (RFC 8949, section 4.2.1).
pub(super) fn encode<W: AsRef<str>>(place: &Place, event: &Event<W>) -> Vec<u8> {
    let mut out = Encoder::new(Vec::with_capacity(384));
    encode_into(&mut out, place, event).expect("writing to memory does not fail");
    out.into_writer()
}

impl Entry {
    /// Reads an event. Every event has one encoding; any other bytes are refused.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotAnEvent> {
        let mut input = Decoder::new(bytes);
        let entry = decode_from(&mut input)?;
        let same = encode(&entry.place, &entry.event) == bytes;
        same.then_some(entry).ok_or(NotAnEvent)
    }

    /// SHA-256 of its canonical bytes, which the next event of its chain names.
    pub fn hash(&self) -> [u8; 32] {
        digest(&encode(&self.place, &self.event))
    }
}

type Written = Result<(), minicbor::encode::Error<Infallible>>;

fn encode_into<W: AsRef<str>>(out: &mut Encoder<Vec<u8>>, place: &Place, event: &Event<W>) -> Written {
    let (actor, member, through) = event.actor.parts();
    let (target, target_id) = event.target.parts();
    out.array(PARTS)?.u8(EVENT_FORMAT)?;
    out.bytes(&place.node.bytes())?.bytes(&place.boot.bytes())?.u64(place.sequence)?.bytes(&place.previous)?;
    out.bytes(&event.id.bytes())?.i64(event.at.as_millisecond())?;
    optional_id(out, event.workspace.map(|id| id.0))?;
    out.str(actor)?;
    optional_id(out, member)?;
    optional_id(out, through)?;
    out.str(event.action.as_ref())?;
    out.array(2)?.str(target)?;
    optional_id(out, target_id)?;
    let mut facts: Vec<_> = event.detail.iter().map(|(name, fact)| (name.as_ref(), fact)).collect();
    facts.sort_by_key(|(name, _)| rank(name));
    out.map(facts.len() as u64)?;
    for (name, fact) in facts {
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

fn optional_id(out: &mut Encoder<Vec<u8>>, id: Option<Uuid>) -> Written {
    match id {
        Some(id) => out.bytes(id.as_bytes())?,
        None => out.null()?,
    };
    Ok(())
}

/// Orders names as their encodings are ordered: the head holds the length.
fn rank(name: &str) -> (usize, &str) {
    (name.len(), name)
}

fn decode_from(input: &mut Decoder<'_>) -> Result<Entry, NotAnEvent> {
    if input.array()? != Some(PARTS) || input.u8()? != EVENT_FORMAT {
        return Err(NotAnEvent);
    }
    let place = Place {
        node: NodeId(id(input)?),
        boot: BootId(id(input)?),
        sequence: input.u64()?,
        previous: input.bytes()?.try_into().map_err(|_| NotAnEvent)?,
    };
    let event = Event {
        id: EventId(id(input)?),
        at: Timestamp::from_millisecond(input.i64()?).map_err(|_| NotAnEvent)?,
        workspace: read_optional_id(input)?.map(WorkspaceId),
        actor: actor(input)?,
        action: input.str()?.to_owned(),
        target: target(input)?,
        detail: facts(input)?,
    };
    Ok(Entry { place, event })
}

fn actor(input: &mut Decoder<'_>) -> Result<Actor, NotAnEvent> {
    let word = input.str()?;
    let member = read_optional_id(input)?.map(MemberId);
    match (word, member, read_optional_id(input)?) {
        ("system", None, None) => Ok(Actor::System),
        ("anonymous", None, None) => Ok(Actor::Anonymous),
        ("session", Some(member), Some(session)) => Ok(Actor::Session(member, SessionId(session))),
        ("token", Some(member), Some(token)) => Ok(Actor::Token(member, TokenId(token))),
        _ => Err(NotAnEvent),
    }
}

fn target(input: &mut Decoder<'_>) -> Result<Target, NotAnEvent> {
    if input.array()? != Some(2) {
        return Err(NotAnEvent);
    }
    let word = input.str()?;
    match (word, read_optional_id(input)?) {
        ("none", None) => Ok(Target::None),
        ("workspace", Some(id)) => Ok(Target::Workspace(WorkspaceId(id))),
        ("member", Some(id)) => Ok(Target::Member(MemberId(id))),
        ("vault", Some(id)) => Ok(Target::Vault(VaultId(id))),
        ("item", Some(id)) => Ok(Target::Item(ItemId(id))),
        ("session", Some(id)) => Ok(Target::Session(SessionId(id))),
        ("token", Some(id)) => Ok(Target::Token(TokenId(id))),
        _ => Err(NotAnEvent),
    }
}

fn facts(input: &mut Decoder<'_>) -> Result<Vec<(String, Fact)>, NotAnEvent> {
    let count = input.map()?.ok_or(NotAnEvent)?;
    let mut facts: Vec<(String, Fact)> = Vec::new();
    for _ in 0..count {
        let name = input.str()?;
        // Sorting would hide a name that comes twice; everything else shows when the event is encoded again.
        if facts.last().is_some_and(|(before, _)| rank(before) >= rank(name)) {
            return Err(NotAnEvent);
        }
        let fact = match input.datatype()? {
            Type::String => Fact::Text(input.str()?.to_owned()),
            Type::Bytes => {
                let bytes = input.bytes()?;
                Uuid::from_slice(bytes).map_or_else(|_| Fact::Bytes(bytes.to_vec()), Fact::Id)
            }
            _ => Fact::Number(input.u64()?),
        };
        facts.push((name.to_owned(), fact));
    }
    Ok(facts)
}

fn id(input: &mut Decoder<'_>) -> Result<Uuid, NotAnEvent> {
    Uuid::from_slice(input.bytes()?).map_err(|_| NotAnEvent)
}

fn read_optional_id(input: &mut Decoder<'_>) -> Result<Option<Uuid>, NotAnEvent> {
    if input.datatype()? == Type::Null {
        input.null()?;
        return Ok(None);
    }
    id(input).map(Some)
}

impl From<minicbor::decode::Error> for NotAnEvent {
    fn from(_: minicbor::decode::Error) -> Self {
        Self
    }
}

//! What a verification found, for people (`Display`) and for machines (`Serialize`). It holds ids, counters and
//! digests, never a name or an address.

use std::fmt;

use serde::Serialize;

use super::log::{LogFault, LogReport, LogWhat};
use crate::id::{BootId, EventId, NodeId};

/// Faults of one kind that a report lists; the rest is counted. A flooded database must not fill the memory.
const LISTED: usize = 10_000;

/// The outcome of `audit verify`.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Rows of the log.
    pub events: u64,
    /// Every chain with its end. Kept elsewhere, a head tells later whether events were cut off there.
    pub chains: Vec<ChainHead>,
    pub faults: Vec<ChainFault>,
    /// Faults beyond those listed.
    pub more_faults: u64,
    /// The Merkle log over all chains; absent where the database has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<LogReport>,
    /// The comparison of the database with the log, if it was asked for.
    pub state: Option<StateReport>,
}

/// One chain and its last event.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ChainHead {
    pub node: NodeId,
    pub boot: BootId,
    pub events: u64,
    /// SHA-256 of the last event's bytes, in hexadecimal.
    pub head: String,
}

/// An event, or the lack of one, that breaks a chain.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ChainFault {
    /// The chain, as the row says.
    pub boot: BootId,
    pub sequence: i64,
    pub event: EventId,
    #[serde(flatten)]
    pub what: What,
}

/// What is wrong with it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum What {
    /// Events from one sequence to another are gone; the fault names the event after them.
    Gap { from: u64, to: u64 },
    /// The MAC is not this instance's: the event was altered or planted.
    Forged,
    /// The MAC names an instance key that is not loaded, so nothing can be said.
    KeyNotLoaded { key: String },
    /// The bytes are not an event in its one canonical form.
    NotCanonical,
    /// The event is genuine, but columns of its row say something else: it was moved, or the columns were changed.
    Columns { columns: Vec<&'static str> },
    /// The event is genuine, but does not follow the one before it.
    NotNext,
    /// The event is genuine, but this program does not know it.
    Unlisted { why: String },
    /// The row holds values of other kinds than its columns.
    Unreadable,
}

/// The outcome of `--state`.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct StateReport {
    /// Rows compared.
    pub rows: u64,
    pub faults: Vec<StateFault>,
    /// Faults beyond those listed.
    pub more_faults: u64,
}

/// A row that is not what the log says.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct StateFault {
    pub table: &'static str,
    /// The row's key.
    pub id: String,
    pub wrong: Wrong,
    /// What the row says.
    pub row: String,
    /// What the log says.
    pub log: String,
}

/// How it differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// No event made it.
    Planted,
    /// An event made it and none removed it, but it is gone.
    Missing,
    /// It says what it said once.
    RolledBack,
    /// It says what it never said.
    Altered,
}

impl Report {
    /// True when nothing is wrong.
    pub fn is_sound(&self) -> bool {
        let state = self.state.as_ref().is_none_or(|state| state.faults.is_empty());
        let log = self.log.as_ref().is_none_or(|log| log.faults.is_empty());
        self.faults.is_empty() && log && state
    }

    pub(super) fn fault(&mut self, fault: ChainFault) {
        push(&mut self.faults, &mut self.more_faults, fault);
    }
}

impl StateReport {
    pub(super) fn fault(
        &mut self,
        table: &'static str,
        id: impl fmt::Display,
        wrong: Wrong,
        row: impl Into<String>,
        log: impl Into<String>,
    ) {
        let fault = StateFault { table, id: id.to_string(), wrong, row: row.into(), log: log.into() };
        push(&mut self.faults, &mut self.more_faults, fault);
    }
}

fn push<T>(list: &mut Vec<T>, more: &mut u64, fault: T) {
    if list.len() < LISTED {
        list.push(fault);
    } else {
        *more += 1;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chains = if self.chains.len() == 1 { "chain" } else { "chains" };
        writeln!(f, "{} events in {} {chains}", self.events, self.chains.len())?;
        for fault in &self.faults {
            writeln!(f, "  {fault}")?;
        }
        tell_more(f, self.more_faults)?;
        match self.faults.len() {
            0 => writeln!(f, "Every event is genuine, and none is missing before the end of its chain.")?,
            count => writeln!(f, "Faults in the log: {}.", count as u64 + self.more_faults)?,
        }
        if let Some(log) = &self.log {
            write!(f, "{log}")?;
        }
        let Some(state) = &self.state else { return Ok(()) };
        writeln!(f, "{} rows compared with the log", state.rows)?;
        for fault in &state.faults {
            writeln!(f, "  {fault}")?;
        }
        tell_more(f, state.more_faults)?;
        match state.faults.len() {
            0 => writeln!(f, "Every row says what the log says."),
            count => writeln!(f, "Rows that do not say what the log says: {}.", count as u64 + state.more_faults),
        }
    }
}

impl fmt::Display for LogReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, size, proven, checkpoints, waiting, .. } = self;
        writeln!(f, "{size} events in the log {origin}; {waiting} have no place in it yet")?;
        for fault in &self.faults {
            writeln!(f, "  {fault}")?;
        }
        tell_more(f, self.more_faults)?;
        match self.faults.len() {
            0 => {
                writeln!(f, "{proven} of them are as they were signed, by {checkpoints} checkpoints of the database.")?
            }
            count => writeln!(f, "Faults in the signed log: {}.", count as u64 + self.more_faults)?,
        }
        match self.given {
            Some(size) => writeln!(f, "The given checkpoint, of {size} events, is one of this log."),
            None => Ok(()),
        }
    }
}

impl fmt::Display for LogFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("log")?;
        if let Some(index) = self.index {
            write!(f, " place {index}")?;
        }
        if let Some(event) = self.event {
            write!(f, " event {event}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl fmt::Display for LogWhat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Altered => f.write_str("the event is not the one that came into the log here"),
            Self::Reordered { belongs } => write!(f, "the event belongs at place {belongs}"),
            Self::Removed => f.write_str("the event that came into the log here is gone"),
            Self::Unlisted { from, to } => write!(f, "the places {from} to {to} are not listed any more"),
            Self::LeftOut => f.write_str("the event is genuine, but was hidden while others came into the log"),
            Self::Counter => f.write_str("the counter of its chain was set back to before it"),
            Self::Names => f.write_str("the log's names are not those that its events tell, or it began twice"),
            Self::Unproven { from, to } => {
                write!(f, "of the events at the places {from} to {to}, some are not those that were signed")
            }
            Self::StoredHash => f.write_str("the event is as it was signed; the hash that is stored for it is not"),
            Self::Size { said, found } => write!(f, "the database says that it has {said} places; it has {found}"),
            Self::Checkpoint { origin, size } => {
                write!(f, "the stored checkpoint of {origin} at {size} events was not signed by this log's key")
            }
            Self::RolledBack { covered, left } => write!(
                f,
                "a checkpoint covers {covered} events, and {left} of them are here: the database was set back by {}",
                covered.saturating_sub(*left)
            ),
            Self::NotSigned => f.write_str("the given checkpoint was not signed by this log's key"),
            Self::Strange { origin } => write!(f, "the given checkpoint is of {origin}, which this log never was"),
            Self::NoLog => f.write_str("the events tell of a log, and its tables are empty"),
        }
    }
}

fn tell_more(f: &mut fmt::Formatter<'_>, more: u64) -> fmt::Result {
    if more > 0 { writeln!(f, "  … and {more} more") } else { Ok(()) }
}

impl fmt::Display for ChainFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chain {} event {} ({}): {}", self.boot, self.sequence, self.event, self.what)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { from, to } if from == to => write!(f, "the event before it, {from}, is missing"),
            Self::Gap { from, to } => write!(f, "the events before it, {from} to {to}, are missing"),
            Self::Forged => f.write_str("its MAC is wrong: it was altered, or not written by this instance"),
            Self::KeyNotLoaded { key } => {
                write!(f, "its MAC is under the instance key {key}, which is not loaded; load it and verify again")
            }
            Self::NotCanonical => f.write_str("its bytes are not an event in its canonical form"),
            Self::Columns { columns } => {
                write!(f, "the columns {} of its row differ from the event", columns.join(", "))
            }
            Self::NotNext => f.write_str("it does not follow the event before it"),
            Self::Unlisted { why } => write!(f, "this program does not know what it tells of: {why}"),
            Self::Unreadable => f.write_str("its row cannot be read; Strongroom does not write such rows"),
        }
    }
}

impl fmt::Display for StateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}; the row says: {}; the log says: {}", self.table, self.id, self.wrong, self.row, self.log)
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Planted => "planted",
            Self::Missing => "missing",
            Self::RolledBack => "rolled back",
            Self::Altered => "altered",
        })
    }
}

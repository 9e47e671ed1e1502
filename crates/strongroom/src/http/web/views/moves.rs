//! *Move to another vault*: where to, then what it would do, before it starts.

use askama::Template;

use super::{Choice, Shell, filters, jobs::KeptRow};

/// What is to be moved, as both dialogs name it and carry it along.
pub struct Moving {
    /// "Move all items of Contoso", "Move 12 items": before "to …".
    pub title: String,
    /// Where the form is sent.
    pub action: String,
    pub back: String,
    /// Ids of chosen items; empty for a whole vault.
    pub items: Vec<String>,
}

/// Where to?
#[derive(Template)]
#[template(path = "moves/ask.html")]
pub struct MoveAskPage {
    pub shell: Shell,
    pub moving: Moving,
    pub targets: Vec<Choice>,
    pub problem: Option<String>,
}

/// What it would do, to be confirmed.
#[derive(Template)]
#[template(path = "moves/plan.html")]
pub struct MovePlanPage {
    pub shell: Shell,
    pub moving: Moving,
    pub target_id: String,
    pub target: String,
    /// How the target's key is held.
    pub strategy: &'static str,
    pub items: u64,
    pub revisions: u64,
    /// "12 KiB".
    pub size: String,
    /// From a key in Azure to one on this server, or to one of another tenant.
    pub weakens: bool,
    /// Which of the two it is.
    pub to_cloud: bool,
    /// Those that stay where they are, and why.
    pub refused: Vec<KeptRow>,
    pub refused_count: u64,
    pub problem: Option<String>,
}

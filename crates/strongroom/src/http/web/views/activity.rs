//! Activity: the audit log for people.

use askama::Template;

use super::{Choice, Moment, Pager, Shell, Shown, Tone, filters};

/// `GET /activity`.
#[derive(Template)]
#[template(path = "activity.html")]
pub struct ActivityPage {
    pub shell: Shell,
    pub rows: Vec<EventRow>,
    /// Rows of this page that are not genuine.
    pub broken: u64,
    pub actors: Vec<Choice>,
    pub actions: Vec<Choice>,
    pub vaults: Vec<Choice>,
    /// `YYYY-MM-DD`, or empty.
    pub from: String,
    pub to: String,
    pub pager: Pager,
    pub filtered: bool,
}

pub struct EventRow {
    pub id: String,
    pub at: Moment,
    /// A member's name, "Strongroom" for what the server did by itself, or "Someone not signed in".
    pub actor: String,
    /// "revealed an item", "could not unwrap the vault key".
    pub what: String,
    /// The stable name: `item.reveal`.
    pub action: String,
    pub icon: &'static str,
    pub tone: Tone,
    /// What it was done to, resolved for this reader: a title, or an id when it cannot be shown.
    pub target: Option<Target>,
    pub address: Option<String>,
    pub azure_request_id: Option<String>,
}

pub struct Target {
    pub text: Shown,
    pub url: Option<String>,
    /// Its name cannot be shown, so this is its id.
    pub is_id: bool,
}

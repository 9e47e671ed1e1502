//! What each page shows: one struct a page, filled by its handler, and the template that renders it.
//!
//! The structs hold plain values, already authorized and already in the reader's words; a template decides
//! nothing but looks. Words about keys that do not answer live in `dark`, and only there.

pub mod activity;
pub mod chart;
pub mod checks;
pub mod credential;
pub mod dark;
pub mod error;
pub mod exports;
mod filters;
pub mod health;
pub mod home;
mod icons;
pub mod items;
pub mod jobs;
pub mod key;
pub mod members;
pub mod moves;
pub mod notices;
pub mod profile;
pub mod settings;
pub mod sign_in;
pub mod trash;
pub mod vault;

use std::fmt;

pub use dark::{Cause, DarkPanel, VaultState};

use crate::{error::FieldError, secret_text::SecretText};

/// What surrounds every page of someone signed in: navigation, search, theme, messages.
#[derive(Clone)]
pub struct Shell {
    /// Of the browser tab; the page's own heading is in its template.
    pub title: String,
    pub section: Section,
    pub workspace: String,
    pub me: Me,
    pub can: Can,
    pub theme: Theme,
    /// The vaults whose items the reader may see, for the navigation and for the event stream.
    pub vaults: Vec<NavVault>,
    pub notice: Option<Notice>,
    /// Notices that the reader has not read; None for those who are told none.
    pub unread: Option<u64>,
    /// Where the page goes by itself when JavaScript is off; pages of items set it.
    pub refresh: Option<Refresh>,
    /// What was searched for, kept in the search box. Never in a URL.
    pub query: String,
    /// Path and query of this page as a GET, to come back to it.
    pub path: String,
}

impl Shell {
    /// The states of the reader's vaults as JSON `{"id":"word"}`: the event stream sends the same map, and a page
    /// that shows another one reloads itself.
    pub fn states(&self) -> String {
        states_json(self.vaults.iter().map(|v| (v.id.as_str(), &v.state)))
    }

    /// How many notices are unread, short enough for a badge.
    pub fn unread_shown(&self) -> String {
        match self.unread.unwrap_or(0) {
            100.. => "99+".to_owned(),
            few => few.to_string(),
        }
    }

    pub fn is(&self, section: Section) -> bool {
        self.section == section
    }
}

/// The map of vault id to state word that pages carry and the event stream sends.
pub fn states_json<'a>(vaults: impl Iterator<Item = (&'a str, &'a VaultState)>) -> String {
    let map: std::collections::BTreeMap<&str, &str> = vaults.map(|(id, state)| (id, state.word())).collect();
    serde_json::to_string(&map).expect("a map of strings is JSON")
}

/// The entries of the left navigation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Section {
    Dashboard,
    Items,
    Trash,
    Jobs,
    Members,
    Activity,
    Health,
    Notices,
    Settings,
    Profile,
    None,
}

#[derive(Clone)]
pub struct Me {
    pub name: String,
    pub email: String,
    /// The workspace role as shown: "Super Admin".
    pub role: String,
}

impl Me {
    /// Up to two letters for the round badge.
    pub fn initials(&self) -> String {
        initials(&self.name)
    }
}

/// What the reader may do; what they may not is not shown at all, so that there are no dead buttons.
#[derive(Clone, Copy, Default)]
pub struct Can {
    pub create_items: bool,
    pub manage_members: bool,
    pub manage_vaults: bool,
    pub read_activity: bool,
}

#[derive(Clone)]
pub struct NavVault {
    pub id: String,
    pub name: String,
    /// Items of this vault that the reader may see.
    pub items: u64,
    pub state: VaultState,
}

/// Where a page goes without JavaScript, and when.
#[derive(Clone)]
pub struct Refresh {
    pub seconds: u32,
    pub url: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub enum Theme {
    #[default]
    System,
    Light,
    Dark,
}

impl Theme {
    /// As stored in the cookie `theme` and sent by the form; anything unknown is `System`.
    pub fn parse(word: &str) -> Self {
        match word {
            "light" => Self::Light,
            "dark" => Self::Dark,
            _ => Self::System,
        }
    }

    pub fn word(&self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// A message box at the head of a page.
#[derive(Clone)]
pub struct Notice {
    pub tone: Tone,
    pub text: String,
    /// What to do about it, or what comes next.
    pub more: Option<String>,
}

impl Notice {
    pub fn success(text: impl Into<String>) -> Self {
        Self { tone: Tone::Ok, text: text.into(), more: None }
    }

    pub fn problem(text: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        Self { tone: Tone::Bad, text: text.into(), more: Some(what_to_do.into()) }
    }
}

/// How a chip or a message looks. Never the only carrier of a meaning: a word stands beside it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Accent,
    Ok,
    Warn,
    Bad,
    /// A vault whose key is denied.
    Night,
}

impl Tone {
    pub fn class(&self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Accent => "accent",
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
            Self::Night => "night",
        }
    }

    pub fn icon(&self) -> &'static str {
        match self {
            Self::Plain | Self::Accent => "info",
            Self::Ok => "circle-check",
            Self::Warn => "triangle-alert",
            Self::Bad => "circle-alert",
            Self::Night => "moon",
        }
    }
}

/// A point in time as shown.
#[derive(Clone, Default)]
pub struct Moment {
    /// RFC 3339 in UTC, for machines and the tooltip.
    pub iso: String,
    /// For people: "3 minutes ago", "21 Nov 2026, 14:03".
    pub text: String,
}

/// What was typed into a form field, and what is wrong with it.
pub struct Field {
    pub value: Shown,
    pub error: Option<String>,
}

impl Field {
    pub fn of(value: impl Into<Shown>) -> Self {
        Self { value: value.into(), error: None }
    }

    /// With what `errors` say of the field `name`.
    pub fn checked(value: impl Into<Shown>, name: &str, errors: &[FieldError]) -> Self {
        Self { value: value.into(), error: said_of(name, errors) }
    }
}

/// What `errors` say of the field `name`, or of a line of it (`urls.2`).
pub fn said_of(name: &str, errors: &[FieldError]) -> Option<String> {
    let of_it = |error: &&FieldError| error.field.split('.').next() == Some(name);
    errors.iter().find(of_it).map(|error| error.message.clone().into_owned())
}

/// What is sealed elsewhere and stands on a page: wiped on drop like the text it holds, and printed by templates, which
/// escape it.
pub struct Shown(SecretText);

impl Shown {
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, page: &mut fmt::Formatter<'_>) -> fmt::Result {
        page.write_str(self.expose())
    }
}

impl<T: Into<SecretText>> From<T> for Shown {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

/// One entry of a drop-down.
#[derive(Clone)]
pub struct Choice {
    pub value: String,
    pub label: String,
    pub selected: bool,
}

impl Choice {
    pub fn new(value: impl Into<String>, label: impl Into<String>, selected: bool) -> Self {
        Self { value: value.into(), label: label.into(), selected }
    }
}

/// Links to the pages before and after, and how much there is.
#[derive(Clone, Default)]
pub struct Pager {
    /// "1–50 of 512".
    pub range: String,
    pub previous: Option<String>,
    pub next: Option<String>,
}

/// Up to two letters for the badge of a person or a title.
pub fn initials(name: &str) -> String {
    let mut words = name.split_whitespace().filter_map(|w| w.chars().next());
    let first = words.next();
    let last = words.next_back();
    first.into_iter().chain(last).flat_map(char::to_uppercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initials_are_the_first_letters_of_first_and_last_name() {
        assert_eq!(initials("Ada Lovelace"), "AL");
        assert_eq!(initials("Ada King of Lovelace"), "AL");
        assert_eq!(initials("émile"), "É");
        assert_eq!(initials("  "), "");
    }
}

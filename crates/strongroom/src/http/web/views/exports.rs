//! *Export*: what would be in the file and what would not, before it is made.

use askama::Template;

use super::{Choice, Shell, filters};
use crate::export::ExportFormat;

/// `GET /export`, and `POST /export` when something stands against it.
#[derive(Template)]
#[template(path = "items/export.html")]
pub struct ExportPage {
    pub shell: Shell,
    pub vaults: Vec<Choice>,
    /// The chosen vault's id; empty for all.
    pub vault: String,
    pub items: u64,
    /// Of more than one vault: names and items.
    pub parts: Vec<(String, u64)>,
    /// Names, items, and why there is no reading them.
    pub dark: Vec<(String, u64, String)>,
    pub trashed: u64,
    /// What no file holds.
    pub leaves_out: Vec<&'static str>,
    /// What a CSV does not hold either.
    pub csv_leaves_out: Vec<&'static str>,
    pub format: ExportFormat,
    pub problem: Option<String>,
    pub passphrase_error: Option<String>,
    pub again_error: Option<String>,
}

impl ExportPage {
    fn is(&self, word: &str) -> bool {
        self.format.word() == word
    }
}

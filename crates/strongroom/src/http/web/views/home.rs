//! The dashboard: what there is, what needs doing, how the keys are, what was used last.

use askama::Template;

use super::{DarkPanel, NavVault, Shell, filters, items::ItemRow};

#[derive(Template)]
#[template(path = "home.html")]
pub struct DashboardPage {
    pub shell: Shell,
    pub counts: Counts,
    pub todo: Vec<Todo>,
    pub dark: Vec<DarkPanel>,
    pub recent: Vec<ItemRow>,
    /// Detail lines for the vault list, in the order of `shell.vaults`: key and lease in words.
    pub health: Vec<Health>,
}

#[derive(Clone, Copy, Default)]
pub struct Counts {
    pub accounts: u64,
    pub secrets: u64,
    pub shared_with_me: u64,
    pub members: u64,
}

/// One thing that the reader should do.
pub struct Todo {
    pub icon: &'static str,
    pub title: String,
    pub why: String,
    pub action: String,
    pub url: String,
    pub urgent: bool,
}

pub struct Health {
    pub vault: NavVault,
    pub is_default: bool,
    /// "strongroom-kek in contoso-kv", or "this server's instance key".
    pub key: String,
    /// "checked 3 s ago, 41 ms".
    pub checked: String,
}

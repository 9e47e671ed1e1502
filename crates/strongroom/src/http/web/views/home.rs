//! The dashboard: what there is, what needs doing, how the keys are, what was used last.

use askama::Template;

use super::{DarkPanel, NavVault, Shell, filters, items::ItemRow};
use crate::access::ItemRole;

#[derive(Template)]
#[template(path = "home.html")]
pub struct DashboardPage {
    pub shell: Shell,
    pub counts: Counts,
    pub todo: Vec<Todo>,
    pub dark: Vec<DarkPanel>,
    pub recent: Vec<ItemRow>,
    pub damaged: usize,
    /// The vaults in the order of `shell.vaults`.
    pub health: Vec<Health>,
}

#[derive(Clone, Copy, Default)]
pub struct Counts {
    /// Whether some vaults do not open: of those nobody knows what is an account and what a secret.
    pub of_open_vaults: bool,
    pub accounts: u64,
    pub secrets: u64,
    pub shared_with_me: u64,
    /// For those who may see the members.
    pub members: Option<u64>,
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
    /// "strongroom-kek in contoso-kv", "instance key".
    pub key: String,
    /// "answered 3 seconds ago", "since 14:03".
    pub checked: String,
}

//! The trash, and the last question before something is deleted forever.

use askama::Template;

use super::{DarkPanel, Moment, Shell, filters, items::ItemRow};

/// `GET /trash`.
#[derive(Template)]
#[template(path = "items/trash.html")]
pub struct TrashPage {
    pub shell: Shell,
    pub rows: Vec<TrashRow>,
    pub dark: Vec<DarkPanel>,
    /// How long an item stays before it is deleted by itself.
    pub days: u32,
}

impl TrashPage {
    /// Whether the reader may delete any of it.
    fn can_purge(&self) -> bool {
        self.rows.iter().any(|row| row.can_manage)
    }
}

pub struct TrashRow {
    pub item: ItemRow,
    /// When it was moved here.
    pub at: Moment,
    /// When it is deleted forever, should its vault's key answer until then.
    pub ends: Option<Moment>,
    /// Whether the reader may restore it and delete it forever.
    pub can_manage: bool,
}

/// `POST /trash/purge` before it is confirmed, and `GET /trash/purge` for all that lies there.
#[derive(Template)]
#[template(path = "items/purge.html")]
pub struct PurgePage {
    pub shell: Shell,
    /// Empty: all that the reader owns in the trash.
    pub items: Vec<String>,
}

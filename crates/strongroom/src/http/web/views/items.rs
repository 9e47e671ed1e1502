//! Items: list, search, page of one, forms, history, sharing, trash.

use askama::Template;

use super::{Choice, DarkPanel, Field, Moment, Notice, Pager, Shell, filters};

/// What an item is, as the UI names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ItemKind {
    Account,
    Text,
    ApiKey,
    SshKey,
    Database,
    Free,
}

impl ItemKind {
    pub const SECRETS: [Self; 5] = [Self::Text, Self::ApiKey, Self::SshKey, Self::Database, Self::Free];

    /// As in forms and URLs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Text => "text",
            Self::ApiKey => "api_key",
            Self::SshKey => "ssh_key",
            Self::Database => "database",
            Self::Free => "free",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        [Self::Account].into_iter().chain(Self::SECRETS).find(|kind| kind.word() == word)
    }

    pub fn label(&self) -> &'static str {
        match self {
            Self::Account => "Account",
            Self::Text => "Text",
            Self::ApiKey => "API key",
            Self::SshKey => "SSH key",
            Self::Database => "Database",
            Self::Free => "Free fields",
        }
    }

    pub fn icon(&self) -> &'static str {
        match self {
            Self::Account => "globe",
            Self::Text => "text",
            Self::ApiKey => "key-round",
            Self::SshKey => "terminal",
            Self::Database => "database",
            Self::Free => "list-tree",
        }
    }

    pub fn is_account(&self) -> bool {
        *self == Self::Account
    }

    /// The rows that a new secret of this kind starts with: name and kind of field.
    pub fn starting_fields(self) -> Vec<FieldInput> {
        let rows: &[(&str, FieldKind)] = match self {
            Self::Account => &[],
            Self::Text => &[("Text", FieldKind::Multiline)],
            Self::ApiKey => &[("Key", FieldKind::Hidden), ("Endpoint", FieldKind::Url)],
            Self::SshKey => &[
                ("Private key", FieldKind::Multiline),
                ("Public key", FieldKind::Text),
                ("Passphrase", FieldKind::Hidden),
            ],
            Self::Database => &[
                ("Host", FieldKind::Text),
                ("Port", FieldKind::Text),
                ("Database", FieldKind::Text),
                ("Username", FieldKind::Text),
                ("Password", FieldKind::Hidden),
            ],
            Self::Free => &[("", FieldKind::Text), ("", FieldKind::Hidden)],
        };
        rows.iter().map(|(name, kind)| FieldInput::new(*name, *kind, "")).collect()
    }
}

/// How a field's value is entered and shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FieldKind {
    Text,
    Hidden,
    Multiline,
    Url,
    Totp,
}

impl FieldKind {
    pub const ALL: [Self; 5] = [Self::Text, Self::Hidden, Self::Multiline, Self::Url, Self::Totp];

    pub fn word(&self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Hidden => "hidden",
            Self::Multiline => "multiline",
            Self::Url => "url",
            Self::Totp => "totp",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    pub fn label(&self) -> &'static str {
        match self {
            Self::Text => "Text",
            Self::Hidden => "Hidden",
            Self::Multiline => "Several lines",
            Self::Url => "URL",
            Self::Totp => "One-time code",
        }
    }
}

/// What a reader may do with an item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ItemRole {
    Owner,
    Editor,
    Viewer,
}

impl ItemRole {
    pub const ALL: [Self; 3] = [Self::Owner, Self::Editor, Self::Viewer];

    pub fn word(&self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Editor => "editor",
            Self::Viewer => "viewer",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }

    pub fn label(&self) -> &'static str {
        match self {
            Self::Owner => "Owner",
            Self::Editor => "Editor",
            Self::Viewer => "Viewer",
        }
    }

    /// What the role allows, for the drop-down.
    pub fn means(&self) -> &'static str {
        match self {
            Self::Owner => "reveal, edit, share, delete",
            Self::Editor => "reveal, edit",
            Self::Viewer => "reveal",
        }
    }

    pub fn can_edit(&self) -> bool {
        *self != Self::Viewer
    }

    pub fn can_manage(&self) -> bool {
        *self == Self::Owner
    }
}

/// A line of a list.
#[derive(Clone)]
pub struct ItemRow {
    pub id: String,
    pub title: String,
    /// The first username, a URL's host, or what kind of secret it is.
    pub subtitle: String,
    pub kind: ItemKind,
    pub vault: VaultRef,
    pub role: ItemRole,
    /// How many others it is shared with.
    pub shared_with: u64,
    pub updated: Moment,
}

#[derive(Clone)]
pub struct VaultRef {
    pub id: String,
    pub name: String,
}

/// `GET /items` and `POST /items/search`.
#[derive(Template)]
#[template(path = "items/list.html")]
pub struct ItemsPage {
    pub shell: Shell,
    pub rows: Vec<ItemRow>,
    /// Vaults whose items cannot be shown, in place of those.
    pub dark: Vec<DarkPanel>,
    pub filter: ItemFilter,
    pub pager: Pager,
    /// Set on the answer to a search: how many were found in all.
    pub found: Option<u64>,
}

impl ItemsPage {
    fn nothing_there(&self) -> bool {
        self.rows.is_empty() && self.dark.is_empty()
    }
}

/// The choices above the list. Each has an empty value first, which means "any".
#[derive(Clone)]
pub struct ItemFilter {
    pub kinds: Vec<Choice>,
    pub vaults: Vec<Choice>,
    pub sorts: Vec<Choice>,
    pub active: bool,
}

/// What every tab of an item's page has at its head.
#[derive(Clone)]
pub struct ItemHead {
    pub id: String,
    pub title: String,
    pub kind: ItemKind,
    pub vault: VaultRef,
    pub role: ItemRole,
    pub revision: u64,
    pub revisions: u64,
    pub people: u64,
    pub created: Moment,
    pub created_by: String,
    pub updated: Moment,
    pub updated_by: String,
    /// Set when it lies in the trash, and when it will be gone.
    pub trashed: Option<Trashed>,
}

#[derive(Clone)]
pub struct Trashed {
    pub at: Moment,
    pub by: String,
    pub gone: Moment,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ItemTab {
    Overview,
    History,
    Sharing,
}

/// `GET /items/{id}`, and the answer to `POST /items/{id}/reveal`.
#[derive(Template)]
#[template(path = "items/show.html")]
pub struct ItemPage {
    pub shell: Shell,
    pub item: ItemHead,
    pub tab: ItemTab,
    pub usernames: Vec<String>,
    pub urls: Vec<String>,
    pub content: Content,
    pub chain: KeyChain,
}

/// What is under the seal.
pub enum Content {
    /// Names of the fields inside, where the overview knows them.
    Sealed {
        names: Vec<String>,
    },
    Revealed {
        at: Moment,
        fields: Vec<RevealedField>,
        notes: Option<String>,
    },
}

pub struct RevealedField {
    pub name: String,
    pub kind: FieldKind,
    pub value: String,
    /// The code of now, when the field holds a TOTP secret; then `value` is empty.
    pub totp: Option<TotpCode>,
}

pub struct TotpCode {
    pub code: String,
    pub seconds_left: u64,
    pub period: u64,
}

impl TotpCode {
    /// "123 456", easier to read aloud.
    fn spaced(&self) -> String {
        let half = self.code.len() / 2;
        match self.code.split_at_checked(half) {
            Some((left, right)) => format!("{left} {right}"),
            None => self.code.clone(),
        }
    }
}

/// How an item is protected, from the item up to the key.
#[derive(Clone)]
pub struct KeyChain {
    /// Short id of its data key.
    pub data_key: String,
    pub generation: u64,
    pub strategy: String,
    /// "strongroom-kek", or empty for a Cloud vault.
    pub kek: String,
    pub key_vault: String,
    /// First eight digits of the key version.
    pub key_version: String,
}

/// The page of an item whose vault is dark: no title, no name of anything inside.
#[derive(Template)]
#[template(path = "items/dark.html")]
pub struct DarkItemPage {
    pub shell: Shell,
    pub kind: ItemKind,
    pub role: ItemRole,
    pub panel: DarkPanel,
}

/// `GET /items/{id}/history`.
#[derive(Template)]
#[template(path = "items/history.html")]
pub struct HistoryPage {
    pub shell: Shell,
    pub item: ItemHead,
    pub tab: ItemTab,
    pub revisions: Vec<RevisionRow>,
}

pub struct RevisionRow {
    pub revision: u64,
    pub who: String,
    pub at: Moment,
    /// "Created", "Edited", "Restored revision 3".
    pub what: String,
    pub current: bool,
}

/// `GET /items/{id}/sharing`.
#[derive(Template)]
#[template(path = "items/sharing.html")]
pub struct SharingPage {
    pub shell: Shell,
    pub item: ItemHead,
    pub tab: ItemTab,
    pub people: Vec<Grant>,
    /// Members that it can still be shared with.
    pub candidates: Vec<Choice>,
    pub problem: Option<String>,
}

pub struct Grant {
    pub member_id: String,
    pub name: String,
    pub email: String,
    pub role: ItemRole,
    pub is_me: bool,
    /// The last owner can be neither removed nor made less.
    pub fixed: bool,
}

/// `GET /items/new`, `POST /items/{id}/edit`, and either again with errors.
#[derive(Template)]
#[template(path = "items/form.html")]
pub struct ItemForm {
    pub shell: Shell,
    /// None for a new item.
    pub editing: Option<Editing>,
    pub kind: ItemKind,
    pub title: Field,
    pub vaults: Vec<Choice>,
    pub vault_error: Option<String>,
    /// One a line.
    pub usernames: Field,
    /// One a line.
    pub urls: Field,
    pub password: Field,
    /// Base32 or an otpauth:// address.
    pub totp: Field,
    pub notes: Field,
    pub fields: Vec<FieldInput>,
    pub problem: Option<Notice>,
}

impl ItemForm {
    fn action(&self) -> String {
        match &self.editing {
            Some(editing) => format!("/items/{}", editing.id),
            None => "/items".into(),
        }
    }

    fn back(&self) -> String {
        match &self.editing {
            Some(editing) => format!("/items/{}", editing.id),
            None => "/items".into(),
        }
    }
}

#[derive(Clone)]
pub struct Editing {
    pub id: String,
    pub revision: u64,
}

/// One row of the free fields in a form; rows without a name and a value are dropped.
#[derive(Clone)]
pub struct FieldInput {
    pub name: String,
    pub kind: FieldKind,
    pub value: String,
    pub error: Option<String>,
}

impl FieldInput {
    pub fn new(name: impl Into<String>, kind: FieldKind, value: impl Into<String>) -> Self {
        Self { name: name.into(), kind, value: value.into(), error: None }
    }
}

/// `GET /trash`.
#[derive(Template)]
#[template(path = "items/trash.html")]
pub struct TrashPage {
    pub shell: Shell,
    pub rows: Vec<TrashRow>,
    pub dark: Vec<DarkPanel>,
    pub keep_days: u32,
}

pub struct TrashRow {
    pub item: ItemRow,
    pub trashed: Trashed,
}

/// `GET /items/{id}/take-over`: an Owner or Super Admin makes themself owner of an item, loudly.
#[derive(Template)]
#[template(path = "items/take_over.html")]
pub struct TakeOverPage {
    pub shell: Shell,
    pub id: String,
    pub kind: ItemKind,
    pub vault: VaultRef,
    pub owners: Vec<String>,
    pub reason: Field,
}

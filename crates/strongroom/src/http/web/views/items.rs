//! Items: list, search, page of one, forms, history, sharing.

use askama::Template;

use super::{Choice, DarkPanel, Field, Moment, Notice, Pager, Shell, Shown, filters};
use crate::{
    access::ItemRole,
    item::{FieldKind, ItemType, Overview, SecretKind},
};

/// What an item is, as pages name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ItemKind {
    Account,
    Secret(SecretKind),
}

impl ItemKind {
    /// What a new secret can be. Cards and identities come by import.
    pub const SECRETS: [Self; 5] = [
        Self::Secret(SecretKind::Text),
        Self::Secret(SecretKind::ApiKey),
        Self::Secret(SecretKind::SshKey),
        Self::Secret(SecretKind::Database),
        Self::Secret(SecretKind::Custom),
    ];

    pub fn of(overview: &Overview) -> Self {
        match overview.item_type {
            ItemType::Account => Self::Account,
            ItemType::Secret => Self::Secret(overview.kind.unwrap_or(SecretKind::Custom)),
        }
    }

    /// As in forms and URLs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Secret(SecretKind::Text) => "text",
            Self::Secret(SecretKind::ApiKey) => "api_key",
            Self::Secret(SecretKind::SshKey) => "ssh_key",
            Self::Secret(SecretKind::Database) => "database",
            Self::Secret(SecretKind::Card) => "card",
            Self::Secret(SecretKind::Identity) => "identity",
            Self::Secret(SecretKind::Custom) => "custom",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        let imported = [SecretKind::Card, SecretKind::Identity].map(Self::Secret);
        [Self::Account].into_iter().chain(Self::SECRETS).chain(imported).find(|kind| kind.word() == word)
    }

    pub fn label(&self) -> &'static str {
        match self {
            Self::Account => "Account",
            Self::Secret(SecretKind::Text) => "Text",
            Self::Secret(SecretKind::ApiKey) => "API key",
            Self::Secret(SecretKind::SshKey) => "SSH key",
            Self::Secret(SecretKind::Database) => "Database",
            Self::Secret(SecretKind::Card) => "Card",
            Self::Secret(SecretKind::Identity) => "Identity",
            Self::Secret(SecretKind::Custom) => "Free fields",
        }
    }

    pub fn icon(&self) -> &'static str {
        match self {
            Self::Account => "globe",
            Self::Secret(SecretKind::Text) => "text",
            Self::Secret(SecretKind::ApiKey) => "key-round",
            Self::Secret(SecretKind::SshKey) => "terminal",
            Self::Secret(SecretKind::Database) => "database",
            Self::Secret(SecretKind::Card | SecretKind::Identity | SecretKind::Custom) => "list-tree",
        }
    }

    pub fn is_account(&self) -> bool {
        *self == Self::Account
    }

    /// The rows that a new secret of this kind starts with: name and kind of field.
    pub fn starting_fields(self) -> Vec<FieldInput> {
        let rows: &[(&str, FieldKind)] = match self {
            Self::Account => &[],
            Self::Secret(SecretKind::Text) => &[("Text", FieldKind::Notes)],
            Self::Secret(SecretKind::ApiKey) => &[("Key", FieldKind::Hidden), ("Endpoint", FieldKind::Url)],
            Self::Secret(SecretKind::SshKey) => &[
                ("Private key", FieldKind::PrivateKey),
                ("Public key", FieldKind::Text),
                ("Passphrase", FieldKind::Hidden),
            ],
            Self::Secret(SecretKind::Database) => &[
                ("Host", FieldKind::Text),
                ("Port", FieldKind::Text),
                ("Database", FieldKind::Text),
                ("Username", FieldKind::Username),
                ("Password", FieldKind::Password),
            ],
            Self::Secret(_) => &[("", FieldKind::Text), ("", FieldKind::Hidden)],
        };
        rows.iter().map(|(name, kind)| FieldInput::new(*name, *kind, "")).collect()
    }
}

/// Fields as pages name and show them.
impl FieldKind {
    pub const ALL: [Self; 8] = [
        Self::Text,
        Self::Hidden,
        Self::Username,
        Self::Password,
        Self::Url,
        Self::Totp,
        Self::Notes,
        Self::PrivateKey,
    ];

    /// As in forms; the API writes the same.
    pub fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Hidden => "hidden",
            Self::Username => "username",
            Self::Password => "password",
            Self::Url => "url",
            Self::Totp => "totp",
            Self::Notes => "notes",
            Self::PrivateKey => "private_key",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Text => "Text",
            Self::Hidden => "Hidden",
            Self::Username => "Username",
            Self::Password => "Password",
            Self::Url => "URL",
            Self::Totp => "One-time code",
            Self::Notes => "Several lines",
            Self::PrivateKey => "Private key",
        }
    }

    pub fn is_masked(self) -> bool {
        matches!(self, Self::Hidden | Self::Password | Self::Totp | Self::PrivateKey)
    }

    pub fn has_lines(self) -> bool {
        matches!(self, Self::Notes | Self::PrivateKey)
    }
}

/// Roles to an item as pages name them.
impl ItemRole {
    pub fn label(self) -> &'static str {
        match self {
            Self::Owner => "Owner",
            Self::Editor => "Editor",
            Self::Viewer => "Viewer",
        }
    }

    /// What the role allows, for the drop-down.
    pub fn means(self) -> &'static str {
        match self {
            Self::Owner => "reveal, edit, share, delete",
            Self::Editor => "reveal, edit",
            Self::Viewer => "reveal",
        }
    }
}

/// A line of a list.
pub struct ItemRow {
    pub id: String,
    pub title: Shown,
    /// The first username, the first address, or what kind of secret it is.
    pub subtitle: Shown,
    pub kind: ItemKind,
    pub vault: VaultRef,
    pub role: ItemRole,
    pub updated: Moment,
    /// Whether it can be ticked in a list, to be moved.
    pub pick: bool,
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
    /// Items whose stored bytes did not open.
    pub damaged: usize,
}

impl ItemsPage {
    /// Whether any row can be ticked.
    fn can_pick(&self) -> bool {
        self.rows.iter().any(|row| row.pick)
    }

    fn nothing_there(&self) -> bool {
        self.rows.is_empty() && self.dark.is_empty()
    }
}

/// The choices above the list. Each has an empty value first, which means "any".
pub struct ItemFilter {
    pub kinds: Vec<Choice>,
    pub vaults: Vec<Choice>,
    pub sorts: Vec<Choice>,
    pub active: bool,
}

/// What every tab of an item's page has at its head.
pub struct ItemHead {
    pub id: String,
    pub title: Shown,
    pub kind: ItemKind,
    pub vault: VaultRef,
    pub role: ItemRole,
    pub revision: u64,
    pub can_edit: bool,
    pub can_manage: bool,
    pub people: u64,
    pub created: Moment,
    pub created_by: String,
    pub updated: Moment,
    pub updated_by: String,
    /// When it was moved to the trash, if it lies there.
    pub trashed: Option<Moment>,
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
    pub usernames: Vec<Shown>,
    pub urls: Vec<Shown>,
    pub content: Content,
    pub chain: KeyChain,
}

/// What is under the seal.
pub enum Content {
    Sealed,
    Revealed { fields: Vec<RevealedField> },
}

pub struct RevealedField {
    pub name: Shown,
    pub kind: FieldKind,
    pub value: Shown,
    /// The code of now, when the field holds a TOTP secret.
    pub totp: Option<TotpCode>,
}

pub struct TotpCode {
    pub code: Shown,
    pub seconds_left: u64,
    pub period: u64,
}

impl TotpCode {
    /// "123 456", easier to read aloud.
    fn spaced(&self) -> Shown {
        let code = self.code.expose();
        match code.split_at_checked(code.len() / 2) {
            Some((left, right)) => format!("{left} {right}").into(),
            None => code.into(),
        }
    }
}

/// How an item is protected, from the item up to the key.
pub struct KeyChain {
    /// "Azure External Keys", "Cloud vault".
    pub strategy: &'static str,
    /// For those who manage vaults, and only where the key lies in Azure.
    pub kek: Option<Kek>,
}

pub struct Kek {
    pub name: String,
    /// The Key Vault's name.
    pub key_vault: String,
    /// First eight digits of the key version.
    pub key_version: String,
    pub generation: u32,
}

/// The page of an item whose vault is dark: no title, no name of anything inside.
#[derive(Template)]
#[template(path = "items/dark.html")]
pub struct DarkItemPage {
    pub shell: Shell,
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
pub struct FieldInput {
    pub name: Shown,
    pub kind: FieldKind,
    pub value: Shown,
    pub error: Option<String>,
}

impl FieldInput {
    pub fn new(name: impl Into<Shown>, kind: FieldKind, value: impl Into<Shown>) -> Self {
        Self { name: name.into(), kind, value: value.into(), error: None }
    }
}

/// `GET /items/{id}/take-over`: an Owner or Super Admin makes themself owner of an item, loudly.
#[derive(Template)]
#[template(path = "items/take_over.html")]
pub struct TakeOverPage {
    pub shell: Shell,
    pub id: String,
}

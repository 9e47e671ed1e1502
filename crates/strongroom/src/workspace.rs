//! The workspace: its name, its settings, and how it begins.

use jiff::Timestamp;
use strongroom_envelope::digest;

use crate::{
    access::Action,
    app::{App, Caller},
    audit::{Fact, Target},
    error::{Error, FieldError, Result},
    id::{VaultId, WorkspaceId},
    member::input,
    store::{Row, Tx},
};

/// The vault that every workspace begins with.
pub const BUILT_IN_VAULT: &str = "Cloud vault";

/// A workspace as its members see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    pub id: WorkspaceId,
    /// Its name in addresses.
    pub slug: String,
    pub name: String,
    /// Whether vaults of the strategy Azure External Keys may be made.
    pub external_keys: bool,
    /// Whether every member needs a second factor.
    pub require_code: bool,
    pub default_vault: Option<VaultId>,
    pub created_at: Timestamp,
    pub revision: u64,
}

/// New settings; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct Edit {
    pub name: Option<String>,
    pub external_keys: Option<bool>,
    pub require_code: Option<bool>,
}

impl App {
    /// The caller's workspace.
    pub async fn workspace(&self, caller: &Caller) -> Result<Workspace> {
        self.authorize_here(caller, Action::SeeWorkspace).await?;
        let id = caller.workspace;
        self.store.read(move |tx| Workspace::load(tx, id)).await
    }

    /// Changes settings; `revision` is the one that was read.
    pub async fn edit_workspace(&self, caller: &Caller, edit: Edit, revision: u64) -> Result<Workspace> {
        self.authorize_here(caller, Action::ManageSettings).await?;
        self.require_fresh(caller)?;
        let name = edit.name.as_deref().map(|name| input::only(input::name("name", name))).transpose()?;
        let before = self.workspace(caller).await?;
        if before.revision != revision {
            return Err(Error::RevisionStale { current: before.revision });
        }
        let after = Workspace {
            name: name.unwrap_or(before.name),
            external_keys: edit.external_keys.unwrap_or(before.external_keys),
            require_code: edit.require_code.unwrap_or(before.require_code),
            revision: revision + 1,
            ..before
        };
        let event = self.event(caller, "workspace.settings", Target::Workspace(after.id), after.facts())?;
        self.store
            .write(move |tx| {
                after.update(tx)?;
                tx.record(&event)?;
                Ok(after.clone())
            })
            .await
    }
}

impl Workspace {
    pub(crate) fn load(tx: &mut Tx<'_>, id: WorkspaceId) -> Result<Self> {
        let sql = "SELECT id, slug, name, external_keys, require_code, default_vault_id, created_at, revision \
                   FROM workspaces WHERE id = $1";
        tx.first(sql, &[id.0.into()], Self::read)?.ok_or(Error::NotFound("workspace"))
    }

    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            id: WorkspaceId(row.get(0)?),
            slug: row.get(1)?,
            name: row.get(2)?,
            external_keys: row.get(3)?,
            require_code: row.get(4)?,
            default_vault: row.get::<Option<uuid::Uuid>>(5)?.map(VaultId),
            created_at: row.get(6)?,
            revision: row.get(7)?,
        })
    }

    /// Parses name and slug; pushes what is wrong with them.
    pub(crate) fn parse_names(name: &str, slug: &str, wrong: &mut Vec<FieldError>) -> (String, String) {
        let name = input::checked(input::name("workspace", name), wrong);
        let slug = input::checked(input::slug(slug), wrong);
        (name.unwrap_or_default(), slug.unwrap_or_default())
    }

    /// Writes a new workspace.
    pub(crate) fn insert(&self, tx: &mut Tx<'_>) -> Result<()> {
        tx.execute(
            "INSERT INTO workspaces (id, slug, name, external_keys, require_code, default_vault_id, created_at, revision) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            &[
                self.id.0.into(),
                self.slug.as_str().into(),
                self.name.as_str().into(),
                self.external_keys.into(),
                self.require_code.into(),
                self.default_vault.map(|vault| vault.0).into(),
                self.created_at.into(),
                self.revision.into(),
            ],
        )?;
        Ok(())
    }

    fn update(&self, tx: &mut Tx<'_>) -> Result<()> {
        let sql = "UPDATE workspaces SET name = $2, external_keys = $3, require_code = $4, revision = $5 \
                   WHERE id = $1 AND revision = $6";
        let touched = tx.execute(
            sql,
            &[
                self.id.0.into(),
                self.name.as_str().into(),
                self.external_keys.into(),
                self.require_code.into(),
                self.revision.into(),
                (self.revision - 1).into(),
            ],
        )?;
        if touched == 1 { Ok(()) } else { Err(Error::RevisionStale { current: self.revision }) }
    }

    /// The settings as facts of an event.
    pub(crate) fn facts(&self) -> Vec<(&'static str, Fact)> {
        vec![
            ("slug", self.slug.as_str().into()),
            ("name_digest", Fact::Bytes(digest(self.name.as_bytes()).to_vec())),
            ("external_keys", self.external_keys.into()),
            ("require_code", self.require_code.into()),
        ]
    }
}

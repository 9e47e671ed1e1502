//! Items: accounts and secrets. Everything typed into one is sealed under its own data key, which the vault key wraps.
//!
//! No event, no plaintext: a reveal is authorized, gets a lease, is durable in the audit log, and only then opens.

mod content;
mod export;
mod list;
mod moving;
mod proof;
mod reseal;
pub(crate) mod rows;
mod sharing;
mod trash;

use jiff::Timestamp;
use strongroom_envelope::{
    Context, DataKey, DataKeyPlace, ItemPlace, Random, commitment, open, seal, unwrap_data_key, wrap_data_key,
};

use self::rows::ItemRow;
pub use self::{
    content::{Content, Field, FieldKind, ItemType, MAX_ITEM, Overview, Patch, SecretKind, read_details},
    export::{Export, ExportPlan, ExportRequest},
    list::{Dark, Filter, Found},
    moving::{MAX_MOVE, MovePlan, MoveRequest, MoveWhat},
    proof::Proof,
    sharing::Grant,
    trash::{Kept, Purged, TRASH_PAUSE},
};
pub(crate) use self::{proof::open_every_item, rows::still_allowed, trash::note_pass};
use crate::{
    access::{Action, ItemRole, Target as Aim},
    app::{App, Caller},
    audit::{Event, Fact, Target},
    error::{Error, Result},
    id::{DataKeyId, ItemId, MemberId, VaultId},
    keyring::Lease,
    store::Tx,
};

/// An item as lists show it: its overview and what the caller is to it.
pub struct Item {
    pub id: ItemId,
    pub vault: VaultId,
    pub revision: u64,
    pub overview: Overview,
    pub role: ItemRole,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub updated_by: MemberId,
    pub trashed_at: Option<Timestamp>,
}

/// One line of an item's history; times and names, nothing that was typed.
pub struct Revision {
    pub revision: u64,
    pub by: MemberId,
    pub at: Timestamp,
    pub current: bool,
    pub restored_from: Option<u64>,
}

/// A sealed item on its way into the database, with the event that tells of it.
struct NewItem {
    row: ItemRow,
    event: Event,
}

impl NewItem {
    fn insert(&self, tx: &mut Tx<'_>) -> Result<()> {
        rows::insert(tx, &self.row)?;
        tx.record(&self.event)
    }
}

impl App {
    /// Seals a new item into `vault`, or the default one, with the caller as its owner.
    pub async fn create_item(&self, caller: &Caller, vault: Option<VaultId>, content: Content) -> Result<Item> {
        self.authorize_here(caller, Action::CreateItem).await?;
        content.check()?;
        again_if_rotated(|| self.seal_and_insert(caller, vault, &content)).await
    }

    async fn seal_and_insert(&self, caller: &Caller, vault: Option<VaultId>, content: &Content) -> Result<Item> {
        let (vault, generation) = self.vault_for_new_items(caller, vault).await?;
        let lease = self.keyring.lease(vault, generation).await?;
        let new = self.seal_new(caller, &lease, content)?;
        let row = new.row.clone();
        self.keyring.leased_still_or_anew(&lease).await?;
        let caller = caller.clone();
        self.store
            .write(move |tx| {
                rows::still_allowed(tx, &caller, None, Action::CreateItem)?;
                new.insert(tx)
            })
            .await?;
        open_item(row, &lease)
    }

    /// Seals many new items, under one lease and in one transaction. What is wrong with one does not stop the others:
    /// each has its own outcome, in the order given. Fails as a whole when none could be written.
    pub async fn create_items(
        &self,
        caller: &Caller,
        vault: Option<VaultId>,
        contents: Vec<Content>,
    ) -> Result<Vec<Result<ItemId>>> {
        self.authorize_here(caller, Action::CreateItem).await?;
        again_if_rotated(|| self.seal_and_insert_all(caller, vault, &contents)).await
    }

    async fn seal_and_insert_all(
        &self,
        caller: &Caller,
        vault: Option<VaultId>,
        contents: &[Content],
    ) -> Result<Vec<Result<ItemId>>> {
        let (vault, generation) = self.vault_for_new_items(caller, vault).await?;
        let lease = self.keyring.lease(vault, generation).await?;
        let (mut news, mut outcomes) = (Vec::new(), Vec::new());
        for content in contents {
            outcomes.push(match content.check() {
                Ok(()) => {
                    let new = self.seal_new(caller, &lease, content)?;
                    let id = new.row.id;
                    news.push(new);
                    Ok(id)
                }
                Err(error) => Err(error),
            });
        }
        self.keyring.leased_still_or_anew(&lease).await?;
        let caller = caller.clone();
        self.store
            .write(move |tx| {
                rows::still_allowed(tx, &caller, None, Action::CreateItem)?;
                news.iter().try_for_each(|new| new.insert(tx))
            })
            .await?;
        Ok(outcomes)
    }

    /// A new item under a data key of its own, ready to be written.
    fn seal_new(&self, caller: &Caller, lease: &Lease, content: &Content) -> Result<NewItem> {
        let now = self.clock.now();
        let random = self.random.as_ref();
        let mut row = ItemRow {
            id: ItemId::generate(now, random)?,
            workspace: caller.workspace,
            vault: lease.vault,
            revision: 1,
            data_key: DataKeyId::generate(now, random)?,
            generation: lease.generation,
            wrapped_data_key: Vec::new(),
            sealed_overview: Vec::new(),
            sealed_details: Vec::new(),
            created_at: now,
            updated_by: caller.member,
            updated_at: now,
            trashed_at: None,
            role: Some(ItemRole::Owner),
        };
        let data_key = DataKey::generate(random).map_err(|_| Error::random())?;
        row.wrapped_data_key =
            wrap_data_key(lease.vault_key(), &key_place(&row), &data_key, random).map_err(|_| Error::random())?;
        seal_into(&mut row, &data_key, content, random)?;
        let event = self.event(caller, "item.create", Target::Item(row.id), written(&row)?)?;
        Ok(NewItem { row, event })
    }

    /// One item's overview.
    pub async fn item(&self, caller: &Caller, id: ItemId) -> Result<Item> {
        let row = self.item_for(caller, id, Action::ViewItem).await?;
        let lease = self.keyring.lease(row.vault, row.generation).await?;
        let event = self.event(caller, "item.view", Target::Item(id), vec![("revision", row.revision.into())])?;
        self.record_if_allowed(caller, Some(id), Action::ViewItem, event).await?;
        let item = open_item(row, &lease)?;
        self.keyring.leased_still_or_anew(&lease).await?;
        Ok(item)
    }

    /// The fields of the current revision, or of an older one, in plaintext.
    pub async fn reveal_item(&self, caller: &Caller, id: ItemId, revision: Option<u64>) -> Result<(u64, Vec<Field>)> {
        let row = self.item_for(caller, id, Action::RevealItem).await?;
        let row = match revision {
            Some(revision) => self.store.read(move |tx| rows::revision(tx, &row, revision)).await?,
            None => row,
        };
        let lease = self.keyring.lease(row.vault, row.generation).await?;
        let facts = vec![("lease", lease.id.0.into()), ("revision", row.revision.into())];
        let event = self.event(caller, "item.reveal", Target::Item(id), facts)?;
        self.record_if_allowed(caller, Some(id), Action::RevealItem, event).await?;
        let opened = match open_row(&row, &lease) {
            Ok((_, fields)) => self.keyring.leased_still_or_anew(&lease).await.map(|()| (row.revision, fields)),
            Err(error) => Err(error),
        };
        if let Err(error) = &opened {
            let facts = vec![("revision", row.revision.into()), ("code", error.code().into())];
            self.record(self.event(caller, "item.reveal_failed", Target::Item(id), facts)?).await?;
        }
        opened
    }

    /// The next revision: what `patch` holds, and the rest as it was. `expected` is the revision that was read.
    pub async fn edit_item(&self, caller: &Caller, id: ItemId, expected: u64, patch: Patch) -> Result<Item> {
        let row = self.item_for(caller, id, Action::EditItem).await?;
        if row.revision != expected {
            return Err(Error::RevisionStale { current: row.revision });
        }
        let lease = self.keyring.lease(row.vault, row.generation).await?;
        let (overview, fields) = open_row(&row, &lease)?;
        let content = Content::patched(overview, fields, patch);
        content.check()?;
        self.put_revision(caller, row, &content, None).await
    }

    /// Brings an older revision back, as the next one.
    pub async fn restore_revision(&self, caller: &Caller, id: ItemId, revision: u64) -> Result<Item> {
        let row = self.item_for(caller, id, Action::EditItem).await?;
        let older = {
            let row = row.clone();
            self.store.read(move |tx| rows::revision(tx, &row, revision)).await?
        };
        let old_lease = self.keyring.lease(older.vault, older.generation).await?;
        let (overview, fields) = open_row(&older, &old_lease)?;
        self.keyring.leased_still_or_anew(&old_lease).await?;
        let content = Content::patched(overview, fields, Patch::default());
        self.put_revision(caller, row, &content, Some(revision)).await
    }

    /// Every revision, newest first.
    pub async fn item_history(&self, caller: &Caller, id: ItemId) -> Result<Vec<Revision>> {
        let row = self.item_for(caller, id, Action::ViewItem).await?;
        self.keyring.lease(row.vault, row.generation).await?;
        self.store
            .read(move |tx| {
                tx.all(
                    "SELECT revision, updated_by, updated_at, CAST(1 AS BIGINT), restored_from \
                     FROM items WHERE id = $1 \
                     UNION ALL \
                     SELECT revision, created_by, created_at, CAST(0 AS BIGINT), restored_from \
                     FROM item_revisions WHERE item_id = $1 \
                     ORDER BY revision DESC",
                    &[id.0.into()],
                    |row| {
                        Ok(Revision {
                            revision: row.get(0)?,
                            by: MemberId(row.get(1)?),
                            at: row.get(2)?,
                            current: row.get::<i64>(3)? == 1,
                            restored_from: row.get::<Option<i64>>(4)?.and_then(|from| u64::try_from(from).ok()),
                        })
                    },
                )
            })
            .await
    }

    /// The item, if the caller may do `action` to it. Unknown, foreign and unshared items look alike.
    pub(crate) async fn item_for(&self, caller: &Caller, id: ItemId, action: Action) -> Result<ItemRow> {
        let (workspace, member) = (caller.workspace, caller.member);
        let row = self.store.read(move |tx| rows::find(tx, workspace, member, id)).await?;
        self.authorize(caller, action, Aim::Item(row.role), Target::Item(id)).await?;
        Ok(row)
    }

    /// Seals the revision after `before` and writes it. When the item is moved or re-encrypted at the same moment, that
    /// is done again in its new place.
    async fn put_revision(
        &self,
        caller: &Caller,
        mut before: ItemRow,
        content: &Content,
        restored_from: Option<u64>,
    ) -> Result<Item> {
        let (id, read) = (before.id, before.revision);
        loop {
            match self.try_revision(caller, before, content, restored_from).await {
                // Each of these is another job that has just finished with the item, so there is an end to it.
                Err(error) if error.code() == rows::MOVED => {}
                other => return other,
            }
            before = self.item_for(caller, id, Action::EditItem).await?;
            if before.revision != read {
                return Err(Error::RevisionStale { current: before.revision });
            }
        }
    }

    async fn try_revision(
        &self,
        caller: &Caller,
        before: ItemRow,
        content: &Content,
        restored_from: Option<u64>,
    ) -> Result<Item> {
        let lease = self.keyring.lease(before.vault, before.generation).await?;
        let data_key = data_key_of(&before, &lease)?;
        let mut row = ItemRow {
            revision: before.revision + 1,
            updated_by: caller.member,
            updated_at: self.clock.now(),
            ..before
        };
        seal_into(&mut row, &data_key, content, self.random.as_ref())?;
        self.keyring.leased_still_or_anew(&lease).await?;
        let action = if restored_from.is_some() { "item.restore_revision" } else { "item.edit" };
        let event = self.event(caller, action, Target::Item(row.id), written(&row)?)?;
        let (stored, caller) = (row.clone(), caller.clone());
        self.store
            .write(move |tx| {
                rows::still_allowed(tx, &caller, Some(stored.id), Action::EditItem)?;
                rows::replace(tx, &stored, restored_from)?;
                tx.record(&event)
            })
            .await?;
        let item = open_item(row, &lease)?;
        self.keyring.leased_still_or_anew(&lease).await?;
        Ok(item)
    }

    /// Writes the event of a look at plaintext, if the look is still allowed when it is written.
    async fn record_if_allowed(
        &self,
        caller: &Caller,
        item: Option<ItemId>,
        action: Action,
        event: Event,
    ) -> Result<()> {
        let caller = caller.clone();
        self.store
            .write(move |tx| {
                rows::still_allowed(tx, &caller, item, action)?;
                tx.record(&event)
            })
            .await
    }

    /// Writes one event that goes with no other change.
    pub(crate) async fn record(&self, event: Event) -> Result<()> {
        self.store.write(move |tx| tx.record(&event)).await
    }
}

/// Seals details first: the overview names them.
fn seal_into(row: &mut ItemRow, data_key: &DataKey, content: &Content, random: &dyn Random) -> Result<()> {
    let place = place(row);
    row.sealed_details =
        seal(data_key, &Context::Details(place), &content.details(), random).map_err(|_| Error::random())?;
    let details = commitment(&row.sealed_details).map_err(|_| broken("details"))?;
    row.sealed_overview =
        seal(data_key, &Context::Overview(place), &content.overview(details), random).map_err(|_| Error::random())?;
    Ok(())
}

/// What was sealed under a generation that another has replaced meanwhile is sealed anew, under that one. A key is
/// rotated now and then; only a vault that is rotated again and again without a pause can outrun this.
async fn again_if_rotated<T, F: Future<Output = Result<T>>>(create: impl Fn() -> F) -> Result<T> {
    const TRIES: usize = 8;
    for _ in 1..TRIES {
        match create().await {
            Err(error) if error.code() == rows::ROTATED => {}
            created => return created,
        }
    }
    create().await
}

fn place(row: &ItemRow) -> ItemPlace {
    ItemPlace {
        workspace: row.workspace.bytes(),
        vault: row.vault.bytes(),
        item: row.id.bytes(),
        data_key: row.data_key.bytes(),
        revision: row.revision,
    }
}

fn key_place(row: &ItemRow) -> DataKeyPlace {
    DataKeyPlace {
        workspace: row.workspace.bytes(),
        vault: row.vault.bytes(),
        generation: row.generation,
        item: row.id.bytes(),
        data_key: row.data_key.bytes(),
    }
}

fn data_key_of(row: &ItemRow, lease: &Lease) -> Result<DataKey> {
    unwrap_data_key(lease.vault_key(), &key_place(row), &row.wrapped_data_key).map_err(|_| broken("data key"))
}

fn open_overview(row: &ItemRow, data_key: &DataKey) -> Result<Overview> {
    let opened =
        open(data_key, &Context::Overview(place(row)), &row.sealed_overview).map_err(|_| broken("overview"))?;
    Overview::read(&opened)
}

/// The row's overview, as the caller sees the item.
pub(crate) fn open_item(row: ItemRow, lease: &Lease) -> Result<Item> {
    let overview = open_overview(&row, &data_key_of(&row, lease)?)?;
    Ok(Item {
        id: row.id,
        vault: row.vault,
        revision: row.revision,
        overview,
        role: row.role.unwrap_or(ItemRole::Viewer),
        created_at: row.created_at,
        updated_at: row.updated_at,
        updated_by: row.updated_by,
        trashed_at: row.trashed_at,
    })
}

/// Overview and fields of one revision, after proof that they belong together.
fn open_row(row: &ItemRow, lease: &Lease) -> Result<(Overview, Vec<Field>)> {
    let data_key = data_key_of(row, lease)?;
    let overview = open_overview(row, &data_key)?;
    if commitment(&row.sealed_details).ok() != Some(overview.details) {
        return Err(broken("details"));
    }
    let opened = open(&data_key, &Context::Details(place(row)), &row.sealed_details).map_err(|_| broken("details"))?;
    Ok((overview, read_details(&opened)?))
}

/// What a write's event says, so that `audit verify --state` can name a row that was rolled back.
fn written(row: &ItemRow) -> Result<Vec<(&'static str, Fact)>> {
    let names = |blob: &[u8]| commitment(blob).map(|names| Fact::Bytes(names.0.to_vec())).map_err(|_| broken("item"));
    Ok(vec![
        ("vault", row.vault.0.into()),
        ("revision", row.revision.into()),
        ("data_key", row.data_key.0.into()),
        ("overview", names(&row.sealed_overview)?),
        ("details", names(&row.sealed_details)?),
    ])
}

fn broken(what: &str) -> Error {
    Error::integrity(
        "item.not_opened",
        format!("this item's {what} did not open: the stored bytes were changed, moved or rolled back"),
    )
}

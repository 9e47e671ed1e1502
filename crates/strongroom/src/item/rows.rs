//! Items in the database: ids and sealed bytes. Nothing here opens anything.

use jiff::Timestamp;

use crate::{
    access::{self, Action, ItemRole, Role, Target as Aim},
    app::Caller,
    error::{Error, Result},
    id::{DataKeyId, ItemId, MemberId, VaultId, WorkspaceId},
    store::{Row, Tx},
};

/// One revision of an item as it lies in the database, and what the caller is to it.
#[derive(Clone)]
pub(crate) struct ItemRow {
    pub id: ItemId,
    pub workspace: WorkspaceId,
    pub vault: VaultId,
    pub revision: u64,
    pub data_key: DataKeyId,
    pub generation: u32,
    pub wrapped_data_key: Vec<u8>,
    pub sealed_overview: Vec<u8>,
    pub sealed_details: Vec<u8>,
    pub created_at: Timestamp,
    pub updated_by: MemberId,
    pub updated_at: Timestamp,
    pub trashed_at: Option<Timestamp>,
    pub role: Option<ItemRole>,
}

macro_rules! columns {
    () => {
        "i.id, i.workspace_id, i.vault_id, i.revision, i.data_key_id, k.generation, k.wrapped, i.sealed_overview, \
         i.created_at, i.updated_by, i.updated_at, i.trashed_at, r.role"
    };
}

/// The item with this id in the caller's workspace, with the caller's role to it.
pub(crate) fn find(tx: &mut Tx<'_>, workspace: WorkspaceId, member: MemberId, id: ItemId) -> Result<ItemRow> {
    tx.first(
        concat!(
            "SELECT ",
            columns!(),
            ", i.sealed_details FROM items i JOIN data_keys k ON k.id = i.data_key_id \
             LEFT JOIN item_roles r ON r.item_id = i.id AND r.member_id = $2 \
             WHERE i.id = $1 AND i.workspace_id = $3"
        ),
        &[id.0.into(), member.0.into(), workspace.0.into()],
        |row| read(row, true),
    )?
    .ok_or(Error::NotFound("item"))
}

/// Every item that the member has a role to, newest first, without its details.
pub(crate) fn visible(tx: &mut Tx<'_>, member: MemberId, trashed: bool) -> Result<Vec<ItemRow>> {
    let sql = if trashed {
        concat!(
            "SELECT ",
            columns!(),
            " FROM item_roles r JOIN items i ON i.id = r.item_id JOIN data_keys k ON k.id = i.data_key_id \
             WHERE r.member_id = $1 AND i.trashed_at IS NOT NULL ORDER BY i.id DESC"
        )
    } else {
        concat!(
            "SELECT ",
            columns!(),
            " FROM item_roles r JOIN items i ON i.id = r.item_id JOIN data_keys k ON k.id = i.data_key_id \
             WHERE r.member_id = $1 AND i.trashed_at IS NULL ORDER BY i.id DESC"
        )
    };
    tx.all(sql, &[member.0.into()], |row| read(row, false))
}

/// Those of `ids` that the member has a role to, without their details.
pub(crate) fn visible_of(tx: &mut Tx<'_>, member: MemberId, ids: &[ItemId]) -> Result<Vec<ItemRow>> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM item_roles r JOIN items i ON i.id = r.item_id JOIN data_keys k ON k.id = i.data_key_id \
         WHERE r.member_id = $1 AND r.item_id = $2"
    );
    let mut rows = Vec::new();
    for id in ids {
        rows.extend(tx.first(sql, &[member.0.into(), id.0.into()], |row| read(row, false))?);
    }
    Ok(rows)
}

/// In the transaction that does what was allowed a moment ago: it still is. The member lives and has the role that the
/// caller came with; their role to the item, if it concerns one, is read anew.
pub(crate) fn still_allowed(tx: &mut Tx<'_>, caller: &Caller, item: Option<ItemId>, action: Action) -> Result<()> {
    let role: Option<Role> = tx.first(
        "SELECT role FROM members WHERE id = $1 AND workspace_id = $2 AND removed_at IS NULL",
        &[caller.member.0.into(), caller.workspace.0.into()],
        |row| row.parse(0),
    )?;
    if role != Some(caller.role) {
        return Err(Error::conflict(
            "member.changed",
            "your role was changed at the same moment",
            "Look again at what you may do, then repeat what you did.",
        ));
    }
    let aim = match item {
        None => Aim::Workspace,
        Some(item) => Aim::Item(tx.first(
            "SELECT role FROM item_roles WHERE item_id = $1 AND member_id = $2",
            &[item.0.into(), caller.member.0.into()],
            |row| row.parse(0),
        )?),
    };
    match aim {
        _ if access::allowed(caller.role, action, aim) => Ok(()),
        Aim::Item(None) => Err(Error::NotFound("item")),
        _ => Err(Error::Denied(format!("your role was changed at the same moment ({})", action.name()).into())),
    }
}

/// An older revision, in the item's frame.
pub(crate) fn revision(tx: &mut Tx<'_>, item: &ItemRow, revision: u64) -> Result<ItemRow> {
    if revision == item.revision {
        return Ok(item.clone());
    }
    tx.first(
        "SELECT h.data_key_id, k.generation, k.wrapped, h.sealed_overview, h.sealed_details, h.created_by, h.created_at \
         FROM item_revisions h JOIN data_keys k ON k.id = h.data_key_id WHERE h.item_id = $1 AND h.revision = $2",
        &[item.id.0.into(), revision.into()],
        |row| {
            Ok(ItemRow {
                revision,
                data_key: DataKeyId(row.get(0)?),
                generation: row.get(1)?,
                wrapped_data_key: row.get(2)?,
                sealed_overview: row.get(3)?,
                sealed_details: row.get(4)?,
                updated_by: MemberId(row.get(5)?),
                updated_at: row.get(6)?,
                ..item.clone()
            })
        },
    )?
    .ok_or(Error::NotFound("revision"))
}

/// A new item with its data key, in the vault's current generation, owned by its creator.
pub(crate) fn insert(tx: &mut Tx<'_>, row: &ItemRow) -> Result<()> {
    require_generation(tx, row.vault, row.generation)?;
    tx.execute(
        "INSERT INTO items (id, workspace_id, vault_id, revision, data_key_id, sealed_overview, sealed_details, \
                            created_by, created_at, updated_by, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $8, $9)",
        &[
            row.id.0.into(),
            row.workspace.0.into(),
            row.vault.0.into(),
            row.revision.into(),
            row.data_key.0.into(),
            (&row.sealed_overview).into(),
            (&row.sealed_details).into(),
            row.updated_by.0.into(),
            row.created_at.into(),
        ],
    )?;
    tx.execute(
        "INSERT INTO data_keys (id, item_id, vault_id, generation, wrapped, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
        &[
            row.data_key.0.into(),
            row.id.0.into(),
            row.vault.0.into(),
            i64::from(row.generation).into(),
            (&row.wrapped_data_key).into(),
            row.created_at.into(),
        ],
    )?;
    grant(tx, row.id, row.updated_by, ItemRole::Owner, row.updated_by, row.created_at)
}

/// Puts the next revision in place of the one before, which becomes history. Refused when another came first.
pub(crate) fn replace(tx: &mut Tx<'_>, row: &ItemRow, restored_from: Option<u64>) -> Result<()> {
    require_revision(tx, row.id, Some(row.revision - 1))?;
    tx.execute(
        "INSERT INTO item_revisions (item_id, revision, data_key_id, sealed_overview, sealed_details, created_by, \
                                     created_at, restored_from) \
         SELECT id, revision, data_key_id, sealed_overview, sealed_details, updated_by, updated_at, restored_from \
         FROM items WHERE id = $1",
        &[row.id.0.into()],
    )?;
    tx.execute(
        "UPDATE items SET revision = $2, sealed_overview = $3, sealed_details = $4, updated_by = $5, updated_at = $6, \
                          restored_from = $7 WHERE id = $1",
        &[
            row.id.0.into(),
            row.revision.into(),
            (&row.sealed_overview).into(),
            (&row.sealed_details).into(),
            row.updated_by.0.into(),
            row.updated_at.into(),
            restored_from.into(),
        ],
    )?;
    Ok(())
}

/// Holds the item's row, and refuses when another revision than `expected` is current.
pub(crate) fn require_revision(tx: &mut Tx<'_>, id: ItemId, expected: Option<u64>) -> Result<()> {
    let current = tx
        .first_locked("SELECT revision FROM items WHERE id = $1", &[id.0.into()], |row| row.get::<u64>(0))?
        .ok_or(Error::NotFound("item"))?;
    match expected {
        Some(expected) if expected != current => Err(Error::RevisionStale { current }),
        _ => Ok(()),
    }
}

/// Gives a member a role to an item, in place of any other.
pub(crate) fn grant(
    tx: &mut Tx<'_>,
    item: ItemId,
    member: MemberId,
    role: ItemRole,
    by: MemberId,
    at: Timestamp,
) -> Result<()> {
    ungrant(tx, item, member)?;
    tx.execute(
        "INSERT INTO item_roles (item_id, member_id, role, granted_by, granted_at) VALUES ($1, $2, $3, $4, $5)",
        &[item.0.into(), member.0.into(), role.word().into(), by.0.into(), at.into()],
    )?;
    Ok(())
}

/// Takes it away. True when there was one.
pub(crate) fn ungrant(tx: &mut Tx<'_>, item: ItemId, member: MemberId) -> Result<bool> {
    let gone =
        tx.execute("DELETE FROM item_roles WHERE item_id = $1 AND member_id = $2", &[item.0.into(), member.0.into()])?;
    Ok(gone > 0)
}

/// Invariant 7: a data key enters only under the generation that is current while the vault's row is held.
fn require_generation(tx: &mut Tx<'_>, vault: VaultId, generation: u32) -> Result<()> {
    let (current, state) = tx
        .first_locked("SELECT generation, state FROM vaults WHERE id = $1", &[vault.0.into()], |row| {
            Ok((row.get::<u32>(0)?, row.get::<String>(1)?))
        })?
        .ok_or(Error::NotFound("vault"))?;
    if state != "active" {
        return Err(Error::conflict("vault.closed", "this vault takes no new items", "Choose another vault."));
    }
    if current != generation {
        return Err(Error::conflict("vault.rotated", "the vault's key was rotated meanwhile", "Send it again."));
    }
    Ok(())
}

fn read(row: &Row<'_>, with_details: bool) -> Result<ItemRow> {
    let role: Option<String> = row.get(12)?;
    let role = match role.as_deref().map(str::parse) {
        None => None,
        Some(Ok(role)) => Some(role),
        Some(Err(())) => return Err(Error::integrity("store.unknown_value", "a share names an unknown role")),
    };
    Ok(ItemRow {
        id: ItemId(row.get(0)?),
        workspace: WorkspaceId(row.get(1)?),
        vault: VaultId(row.get(2)?),
        revision: row.get(3)?,
        data_key: DataKeyId(row.get(4)?),
        generation: row.get(5)?,
        wrapped_data_key: row.get(6)?,
        sealed_overview: row.get(7)?,
        sealed_details: if with_details { row.get(13)? } else { Vec::new() },
        created_at: row.get(8)?,
        updated_by: MemberId(row.get(9)?),
        updated_at: row.get(10)?,
        trashed_at: row.get(11)?,
        role,
    })
}

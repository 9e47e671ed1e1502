//! Items in the database: ids and sealed bytes. Nothing here opens anything.

use jiff::Timestamp;

use crate::{
    access::{self, Action, ItemRole, Role, Target as Aim},
    app::Caller,
    error::{Error, Result},
    id::{DataKeyId, ItemId, MemberId, VaultId, WorkspaceId},
    keyring::VaultState,
    store::{Row, Tx},
};

/// The refusal of an edit whose item was moved or re-encrypted since it was read.
pub(crate) const MOVED: &str = "item.moved";
/// The refusal of a data key under a generation that is not the current one any more.
pub(crate) const ROTATED: &str = "vault.rotated";

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

macro_rules! older_sql {
    () => {
        "SELECT h.revision, h.data_key_id, k.generation, k.wrapped, h.sealed_overview, h.sealed_details, h.created_by, \
         h.created_at, k.vault_id FROM item_revisions h JOIN data_keys k ON k.id = h.data_key_id"
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

/// Every older revision, in the item's frame, the newest first.
pub(crate) fn history(tx: &mut Tx<'_>, item: &ItemRow) -> Result<Vec<ItemRow>> {
    let sql = concat!(older_sql!(), " WHERE h.item_id = $1 ORDER BY h.revision DESC");
    tx.all(sql, &[item.id.0.into()], |row| older(row, item))
}

/// What an item takes up with its history.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Size {
    /// Sealed.
    pub bytes: u64,
    pub revisions: u64,
}

/// Where an item is and what it takes up, without reading it; None where there is no such item.
pub(crate) fn size(tx: &mut Tx<'_>, id: ItemId) -> Result<Option<(VaultId, Size)>> {
    let current = tx.first(
        "SELECT vault_id, CAST(length(sealed_overview) + length(sealed_details) AS BIGINT) FROM items WHERE id = $1",
        &[id.0.into()],
        |row| Ok((VaultId(row.get(0)?), row.get::<u64>(1)?)),
    )?;
    let Some((vault, bytes)) = current else { return Ok(None) };
    let older = tx.first(
        "SELECT COUNT(*), CAST(COALESCE(SUM(length(sealed_overview) + length(sealed_details)), 0) AS BIGINT) \
         FROM item_revisions WHERE item_id = $1",
        &[id.0.into()],
        |row| Ok(Size { revisions: row.get(0)?, bytes: row.get(1)? }),
    )?;
    let older = older.unwrap_or_default();
    Ok(Some((vault, Size { bytes: bytes + older.bytes, revisions: 1 + older.revisions })))
}

/// An older revision, in the item's frame.
pub(crate) fn revision(tx: &mut Tx<'_>, item: &ItemRow, revision: u64) -> Result<ItemRow> {
    if revision == item.revision {
        return Ok(item.clone());
    }
    let sql = concat!(older_sql!(), " WHERE h.item_id = $1 AND h.revision = $2");
    tx.first(sql, &[item.id.0.into(), revision.into()], |row| older(row, item))?.ok_or(Error::NotFound("revision"))
}

fn older(row: &Row<'_>, item: &ItemRow) -> Result<ItemRow> {
    Ok(ItemRow {
        revision: row.get(0)?,
        data_key: DataKeyId(row.get(1)?),
        generation: row.get(2)?,
        wrapped_data_key: row.get(3)?,
        sealed_overview: row.get(4)?,
        sealed_details: row.get(5)?,
        updated_by: MemberId(row.get(6)?),
        updated_at: row.get(7)?,
        // The item may have moved since it was read.
        vault: VaultId(row.get(8)?),
        ..item.clone()
    })
}

/// A new item with its data key, in the vault's current generation, owned by its creator.
pub(crate) fn insert(tx: &mut Tx<'_>, row: &ItemRow) -> Result<()> {
    require_open(tx, row.vault)?;
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
    insert_data_key(tx, row, row.created_at)?;
    grant(tx, row.id, row.updated_by, ItemRole::Owner, row.updated_by, row.created_at)
}

/// Puts the next revision in place of the one before, which becomes history. Refused when another came first, and with
/// [`MOVED`] when the item lies under another data key by now: then the revision has to be sealed anew.
pub(crate) fn replace(tx: &mut Tx<'_>, row: &ItemRow, restored_from: Option<u64>) -> Result<()> {
    require_revision(tx, row.id, Some(row.revision - 1))?;
    let place = tx.first("SELECT vault_id, data_key_id FROM items WHERE id = $1", &[row.id.0.into()], |row| {
        Ok((VaultId(row.get(0)?), DataKeyId(row.get(1)?)))
    })?;
    if place != Some((row.vault, row.data_key)) {
        return Err(Error::conflict(MOVED, "the item was moved at the same moment", "Send it again."));
    }
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

/// What a swap found.
pub(crate) enum Swap {
    Done,
    /// Another revision came, or another data key: it has to be read again.
    Changed,
    /// It is not in this vault any more.
    Gone,
}

/// Puts an item and its whole history, sealed anew under one fresh data key, in place of what was read from `before`,
/// by a compare-and-set on vault, revision and data key; the old data keys go. The caller holds the vault's row.
/// `anew` has the current revision first, then every older one.
pub(crate) fn swap(tx: &mut Tx<'_>, before: &ItemRow, anew: &[ItemRow], now: Timestamp) -> Result<Swap> {
    let [current, history @ ..] = anew else { return Ok(Swap::Changed) };
    let found = tx.first_locked(
        "SELECT vault_id, revision, data_key_id FROM items WHERE id = $1",
        &[before.id.0.into()],
        |row| Ok((VaultId(row.get(0)?), row.get::<u64>(1)?, DataKeyId(row.get(2)?))),
    )?;
    match found {
        Some(found) if found == (before.vault, before.revision, before.data_key) => {}
        Some((vault, ..)) if vault == before.vault => return Ok(Swap::Changed),
        _ => return Ok(Swap::Gone),
    }
    insert_data_key(tx, current, now)?;
    tx.execute(
        "UPDATE items SET vault_id = $2, data_key_id = $3, sealed_overview = $4, sealed_details = $5 WHERE id = $1",
        &[
            current.id.0.into(),
            current.vault.0.into(),
            current.data_key.0.into(),
            (&current.sealed_overview).into(),
            (&current.sealed_details).into(),
        ],
    )?;
    for older in history {
        tx.execute(
            "UPDATE item_revisions SET data_key_id = $3, sealed_overview = $4, sealed_details = $5 \
             WHERE item_id = $1 AND revision = $2",
            &[
                older.id.0.into(),
                older.revision.into(),
                older.data_key.0.into(),
                (&older.sealed_overview).into(),
                (&older.sealed_details).into(),
            ],
        )?;
    }
    tx.execute(
        "DELETE FROM data_keys WHERE item_id = $1 AND id <> $2",
        &[current.id.0.into(), current.data_key.0.into()],
    )?;
    Ok(Swap::Done)
}

fn insert_data_key(tx: &mut Tx<'_>, row: &ItemRow, at: Timestamp) -> Result<()> {
    tx.execute(
        "INSERT INTO data_keys (id, item_id, vault_id, generation, wrapped, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
        &[
            row.data_key.0.into(),
            row.id.0.into(),
            row.vault.0.into(),
            i64::from(row.generation).into(),
            (&row.wrapped_data_key).into(),
            at.into(),
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

/// Refuses a vault that takes no new items, and holds its row.
pub(crate) fn require_open(tx: &mut Tx<'_>, vault: VaultId) -> Result<()> {
    let state = tx
        .first_locked("SELECT state FROM vaults WHERE id = $1", &[vault.0.into()], |row| row.parse::<VaultState>(0))?
        .ok_or(Error::NotFound("vault"))?;
    if state == VaultState::Active {
        return Ok(());
    }
    Err(Error::conflict("vault.closed", "this vault takes no new items", "Choose another vault."))
}

/// Invariant 7: a data key enters only under the generation that is current while the vault's row is held.
pub(crate) fn require_generation(tx: &mut Tx<'_>, vault: VaultId, generation: u32) -> Result<()> {
    let current = tx
        .first_locked("SELECT generation FROM vaults WHERE id = $1", &[vault.0.into()], |row| row.get::<u32>(0))?
        .ok_or(Error::NotFound("vault"))?;
    if current != generation {
        return Err(Error::conflict(ROTATED, "the vault's key was rotated meanwhile", "Send it again."));
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use strongroom_envelope::{InstanceKey, InstanceKeys, SystemRandom};
    use uuid::Uuid;

    use super::*;
    use crate::{
        id::{BootId, NodeId},
        store::{Store, Writer},
    };

    #[tokio::test]
    async fn a_data_key_under_a_generation_that_is_not_current_any_more_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let id = || Uuid::new_v4();
        let keys = Arc::new(InstanceKeys::new(InstanceKey::generate(&SystemRandom::new()).expect("random"), vec![]));
        let writer = Writer { node: NodeId(id()), keys, boot: Arc::new(|| Ok(BootId(Uuid::new_v4()))) };
        let store = Store::open(&format!("sqlite:{}", folder.path().join("db").display()), writer).expect("a database");
        let now = Timestamp::UNIX_EPOCH;
        let row = ItemRow {
            id: ItemId(id()),
            workspace: WorkspaceId(id()),
            vault: VaultId(id()),
            revision: 1,
            data_key: DataKeyId(id()),
            generation: 1,
            wrapped_data_key: vec![1],
            sealed_overview: vec![2],
            sealed_details: vec![3],
            created_at: now,
            updated_by: MemberId(id()),
            updated_at: now,
            trashed_at: None,
            role: Some(ItemRole::Owner),
        };
        let under = |generation| ItemRow { generation, ..row.clone() };
        let (old, current) = (under(1), under(2));
        let (vault, workspace, member) = (row.vault.0, row.workspace.0, row.updated_by.0);
        store
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO workspaces (id, slug, name, external_keys, require_code, created_at, revision) \
                     VALUES ($1, 'demo', 'Demo', 1, 0, 1, 1)",
                    &[workspace.into()],
                )?;
                tx.execute(
                    "INSERT INTO members (id, workspace_id, email, name, role, totp_confirmed, totp_last_step, \
                                          created_at, revision) VALUES ($1, $2, 'a', 'a', 'owner', 0, 0, 1, 1)",
                    &[member.into(), workspace.into()],
                )?;
                // The rotation has made generation 2 the current one.
                tx.execute(
                    "INSERT INTO vaults (id, workspace_id, name, name_key, strategy, state, lease_seconds, generation, \
                                         provider_id, may_leave, created_at, revision, policy_mac) \
                     VALUES ($1, $2, 'Vault', 'vault', 'cloud', 'active', 300, 2, $1, 0, 1, 1, $3)",
                    &[vault.into(), workspace.into(), b"mac".as_slice().into()],
                )
            })
            .await
            .expect("written");
        let refused = store.write(move |tx| insert(tx, &old)).await.expect_err("generation 1 is not current");
        assert_eq!(refused.code(), ROTATED);
        store.write(move |tx| insert(tx, &current)).await.expect("generation 2 is");
    }
}

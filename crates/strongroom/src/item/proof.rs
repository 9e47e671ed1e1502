//! Proof that an item opens, for nobody's eyes: what a check of a backup does to every item.

use std::{collections::HashMap, sync::Arc};

use uuid::Uuid;

use super::{ItemRow, open_row, rows};
use crate::{
    error::{Error, Result},
    id::{ItemId, MemberId, VaultId, WorkspaceId},
    keyring::{Keyring, Lease},
    store::Store,
};

/// Items that are listed at once.
const PAGE: i64 = 256;

/// What became of the items of one vault.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Items of which every revision opened.
    pub opened: u64,
    /// Their revisions, the current ones among them.
    pub revisions: u64,
    /// Items of which a revision did not open.
    pub broken: Vec<ItemId>,
}

/// Opens every revision of every item of a vault, those in the trash included. Fails where a key of it cannot be had.
pub(crate) async fn open_every_item(
    store: &Store,
    keyring: &Arc<Keyring>,
    workspace: WorkspaceId,
    vault: VaultId,
) -> Result<Proof> {
    let (mut proof, mut after) = (Proof::default(), Uuid::nil());
    let mut leases = HashMap::new();
    loop {
        let sql = format!("SELECT id FROM items WHERE vault_id = $1 AND id > $2 ORDER BY id LIMIT {PAGE}");
        let page = store
            .read(move |tx| tx.all(&sql, &[vault.0.into(), after.into()], |row| row.get::<Uuid>(0).map(ItemId)))
            .await?;
        let Some(last) = page.last() else { return Ok(proof) };
        after = last.0;
        for item in page {
            match opened(store, keyring, &mut leases, workspace, item).await {
                Ok(revisions) => {
                    proof.opened += 1;
                    proof.revisions += revisions;
                }
                Err(Error::Integrity { .. } | Error::NotFound(_)) => proof.broken.push(item),
                Err(error) => return Err(error),
            }
        }
    }
}

async fn opened(
    store: &Store,
    keyring: &Arc<Keyring>,
    leases: &mut HashMap<u32, Arc<Lease>>,
    workspace: WorkspaceId,
    item: ItemId,
) -> Result<u64> {
    // Nobody's eyes: the rows come without anybody's role.
    let nobody = MemberId(Uuid::nil());
    let revisions: Vec<ItemRow> = store
        .read(move |tx| {
            let current = rows::find(tx, workspace, nobody, item)?;
            let older = rows::history(tx, &current)?;
            Ok(std::iter::once(current).chain(older).collect())
        })
        .await?;
    for row in &revisions {
        let held = leases.get(&row.generation).filter(|lease| keyring.still_leased(lease).is_ok());
        let lease = match held {
            Some(lease) => Arc::clone(lease),
            None => keyring.lease(row.vault, row.generation).await?,
        };
        open_row(row, &lease)?;
        leases.insert(row.generation, lease);
    }
    Ok(revisions.len() as u64)
}

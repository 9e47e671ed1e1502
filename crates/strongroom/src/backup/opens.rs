//! Proof that a backup opens: each vault's key is unwrapped where it is, and every item is opened with it. The rows are put
//! into a database of their own for that, sealed as they are, and gone with it.

use std::{path::Path, sync::Arc};

use strongroom_envelope::{InstanceKeys, Random};
use strongroom_keys::azure::AzureKeys;

use super::restore::{Restored, fill};
use crate::{
    clock::Clock,
    error::{Error, Result},
    id::{BootId, NodeId, VaultId, WorkspaceId},
    item::{Proof, open_every_item},
    keyring::Keyring,
    store::{Store, Writer},
};

/// What of a backup opens.
#[derive(Debug)]
pub struct Opened {
    pub whole: Restored,
    pub vaults: Vec<VaultOpened>,
}

/// What of one vault opens.
#[derive(Debug)]
pub struct VaultOpened {
    pub id: VaultId,
    pub name: String,
    /// Fails where the vault's key could not be had.
    pub proof: Result<Proof>,
}

impl Opened {
    /// Whether all of it does.
    pub fn all_opens(&self) -> bool {
        self.vaults.iter().all(|vault| vault.proof.as_ref().is_ok_and(|proof| proof.broken.is_empty()))
    }
}

/// Opens every item of a backup, with the keys of Azure's vaults unwrapped in Azure. Whoever reads Key Vault's log sees
/// these unwraps.
pub async fn open_all(
    file: &Path,
    azure: Arc<AzureKeys>,
    keys: Arc<InstanceKeys>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<Opened> {
    let folder = tempfile::tempdir().map_err(|error| Error::Setup {
        what: format!("no temporary folder can be made: {error}").into(),
        fix: "Set TMPDIR to a folder with room for a copy of the database.".into(),
    })?;
    let node = NodeId::generate(clock.now(), random.as_ref())?;
    let boot = {
        let (clock, random) = (Arc::clone(&clock), Arc::clone(&random));
        Arc::new(move || BootId::generate(clock.now(), random.as_ref()))
    };
    let url = format!("sqlite:{}", folder.path().join("opened.db").display());
    let store = Store::open(&url, Writer { node, keys: Arc::clone(&keys), boot })?.with_patience(None);
    let store = Arc::new(store);
    let (from, with) = (file.to_path_buf(), Arc::clone(&keys));
    let whole = store.write(move |tx| fill(tx, &from, &with)).await?;
    let found = store
        .read(|tx| {
            let sql = "SELECT workspace_id, id, name FROM vaults ORDER BY id";
            tx.all(sql, &[], |row| Ok((WorkspaceId(row.get(0)?), VaultId(row.get(1)?), row.get::<String>(2)?)))
        })
        .await?;
    let keyring = Arc::new(Keyring::new(Arc::clone(&store), azure, keys, clock, random, node));
    let mut vaults = Vec::new();
    for (workspace, id, name) in found {
        let proof = open_every_item(&store, &keyring, workspace, id).await;
        vaults.push(VaultOpened { id, name, proof });
    }
    keyring.purge_all();
    Ok(Opened { whole, vaults })
}

//! Changing a vault: its name and lease, whether it is the default, what it may be used for, and its end.

use std::sync::Arc;

use strongroom_envelope::InstanceKeys;

use super::{MIN_LEASE, Strategy, Vault, VaultState, create, find, set_default};
use crate::{
    access::{Action, Target as Aim},
    app::{App, Caller},
    audit::{Event, Target},
    counted::counted,
    error::{Error, Result},
    id::VaultId,
    item::note_pass,
    keyring::Policy,
    store::Tx,
};

/// What may be changed of a vault; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct VaultEdit {
    pub name: Option<String>,
    pub make_default: bool,
    pub lease_seconds: Option<u32>,
    pub state: Option<VaultState>,
    /// Whether items may move to a vault that promises less. The Owner's to say.
    pub may_leave: Option<bool>,
}

impl VaultEdit {
    fn changes_policy(&self) -> bool {
        self.lease_seconds.is_some() || self.state.is_some() || self.may_leave.is_some()
    }
}

impl App {
    /// Changes a vault. `expected` is the revision that was read, if one was. A vault that is disabled serves nothing from
    /// then on, on this node at once and on the others within a second.
    pub async fn edit_vault(
        &self,
        caller: &Caller,
        id: VaultId,
        expected: Option<u64>,
        edit: VaultEdit,
    ) -> Result<Vault> {
        self.authorize_here(caller, Action::ManageVaults).await?;
        if edit.may_leave.is_some() {
            self.authorize(caller, Action::LeaveAzure, Aim::Workspace, Target::Vault(id)).await?;
        }
        self.require_fresh(caller)?;
        let name = edit.name.as_deref().map(create::checked_name).transpose()?;
        self.check_lease(&edit)?;
        let mut facts = vec![("renamed", name.is_some().into())];
        facts.extend(edit.lease_seconds.map(|seconds| ("lease_seconds", seconds.into())));
        facts.extend(edit.state.map(|state| ("state", state.word().into())));
        facts.extend(edit.may_leave.map(|may| ("may_leave", may.into())));
        let changed = self.event(caller, "vault.edit", Target::Vault(id), facts)?;
        let chosen = self.event(caller, "vault.default", Target::Vault(id), Vec::new())?;
        let (workspace, member, keys, now) = (caller.workspace, caller.member, self.keys.clone(), self.clock.now());
        let switched = self
            .store
            .write(move |tx| {
                let vault = find(tx, workspace, member, id, &keys, now)?;
                if expected.is_some_and(|expected| expected != vault.revision) {
                    return Err(Error::RevisionStale { current: vault.revision });
                }
                check_use(&vault, &edit)?;
                if name.is_some() || edit.changes_policy() {
                    put(tx, &keys, &vault, (name.as_deref(), &edit), &changed)?;
                }
                if edit.make_default && !vault.is_default {
                    set_default(tx, workspace, id)?;
                    tx.record(&chosen)?;
                }
                let switched = edit.state.is_some_and(|state| state != vault.state);
                if switched {
                    // What its trash aged by since the last look is not known to have been readable.
                    note_pass(tx, id, now)?;
                }
                Ok(switched)
            })
            .await?;
        if switched {
            self.keyring.forget(id);
        }
        self.vault(caller, id).await
    }

    /// Deletes a vault in which nothing is left, not even in the trash. `name` is its name, typed again.
    pub async fn delete_vault(&self, caller: &Caller, id: VaultId, name: &str) -> Result<()> {
        self.authorize_here(caller, Action::ManageVaults).await?;
        self.require_fresh(caller)?;
        let typed = name.trim().to_owned();
        let (workspace, member, keys, now) = (caller.workspace, caller.member, self.keys.clone(), self.clock.now());
        let event = self.event(caller, "vault.delete", Target::Vault(id), Vec::new())?;
        self.store
            .write(move |tx| {
                let vault = find(tx, workspace, member, id, &keys, now)?;
                if vault.name != typed {
                    return Err(Error::field("name", "Type the vault's name exactly as it is shown."));
                }
                // Held, so that nothing comes into it meanwhile.
                let policy = Policy::held(tx, &keys, id)?;
                require_deletable(tx, &vault)?;
                for table in ["key_states", "trash_passes", "data_keys", "wraps", "generations", "providers"] {
                    tx.execute(&format!("DELETE FROM {table} WHERE vault_id = $1"), &[id.0.into()])?;
                }
                tx.execute("DELETE FROM vaults WHERE id = $1", &[id.0.into()])?;
                let mut event = event.clone();
                event.detail.push(("strategy", policy.strategy.word().into()));
                tx.record(&event)
            })
            .await?;
        self.keyring.forget(id);
        Ok(())
    }

    fn check_lease(&self, edit: &VaultEdit) -> Result<()> {
        let longest = self.settings.lease_seconds.max(MIN_LEASE);
        match edit.lease_seconds {
            Some(seconds) if !(MIN_LEASE..=longest).contains(&seconds) => {
                Err(Error::field("lease_seconds", format!("From {MIN_LEASE} to {longest} seconds.")))
            }
            _ => Ok(()),
        }
    }
}

/// What new items go to by default has to take them.
fn check_use(vault: &Vault, edit: &VaultEdit) -> Result<()> {
    let state = edit.state.unwrap_or(vault.state);
    if state != VaultState::Active && (vault.is_default || edit.make_default) {
        let (title, fix) = match vault.is_default {
            true => ("the default vault has to take new items", "Make another vault the default one first."),
            false => ("a vault that takes no new items cannot be the default one", "Set its state to active first."),
        };
        return Err(Error::conflict("vault.is_default", title, fix));
    }
    if edit.may_leave == Some(true) && vault.strategy == Strategy::Cloud {
        return Err(Error::field(
            "may_leave",
            "Only items of a vault with Azure External Keys have something to leave.",
        ));
    }
    Ok(())
}

fn put(
    tx: &mut Tx<'_>,
    keys: &Arc<InstanceKeys>,
    vault: &Vault,
    (name, edit): (Option<&str>, &VaultEdit),
    changed: &Event,
) -> Result<()> {
    let mut policy = Policy::held(tx, keys, vault.id)?;
    policy.lease_seconds = edit.lease_seconds.unwrap_or(policy.lease_seconds);
    policy.state = edit.state.unwrap_or(policy.state);
    policy.may_leave = edit.may_leave.unwrap_or(policy.may_leave);
    policy.put(tx, keys)?;
    if let Some(name) = name {
        tx.execute(
            "UPDATE vaults SET name = $2, name_key = $3 WHERE id = $1",
            &[vault.id.0.into(), name.into(), (&create::name_key(name)).into()],
        )
        .map_err(create::name_taken)?;
    }
    let mut changed = changed.clone();
    changed.detail.push(("policy_digest", policy.digest(keys)));
    tx.record(&changed)
}

/// Nothing may be lost with a vault.
fn require_deletable(tx: &mut Tx<'_>, vault: &Vault) -> Result<()> {
    if vault.is_default {
        return Err(Error::conflict(
            "vault.is_default",
            "the default vault cannot be deleted",
            "Make another vault the default one first.",
        ));
    }
    let id = [vault.id.0.into()];
    let trashed = tx.count("SELECT COUNT(*) FROM items WHERE vault_id = $1 AND trashed_at IS NOT NULL", &id)?;
    let items = tx.count("SELECT COUNT(*) FROM items WHERE vault_id = $1", &id)? - trashed;
    if items + trashed > 0 {
        return Err(Error::conflict(
            "vault.not_empty",
            format!("this vault still holds {}, and {trashed} in the trash", counted(items, "item")),
            "Move its items to another vault, those in the trash come along, or have their owners delete them forever.",
        ));
    }
    let jobs = "SELECT COUNT(*) FROM jobs WHERE finished_at IS NULL AND (vault_id = $1 OR target_id = $1)";
    if tx.count(jobs, &id)? > 0 {
        return Err(Error::conflict(
            "vault.busy",
            "a job still works on this vault",
            "Wait until it has ended, or cancel it.",
        ));
    }
    Ok(())
}

//! Rotation of a vault's key, what a compromise needs, and the end of old generations.

use std::{collections::HashMap, sync::Arc};

use super::{KeyChange, find_name};
use crate::{
    access::Action,
    app::{App, Caller},
    audit::Target,
    counted::counted,
    error::{Error, Result},
    id::{DataKeyId, VaultId},
    item::still_allowed,
    job::{Claim, JobKind, NewJob, Step},
    keyring::{DataKeyRow, Lease, Policy, VaultState},
    store::Tx,
};

/// Data keys of one step.
const BATCH: u32 = 500;

impl App {
    /// Makes a new vault key current and takes the data keys to it in the background. Items' bodies stay as they are.
    pub async fn rotate(&self, caller: &Caller, vault: VaultId, dry_run: bool) -> Result<KeyChange> {
        self.renew_vault_key(caller, vault, JobKind::Rotate, dry_run).await
    }

    /// What a compromise needs: a new vault key, and every item opened and sealed under a new data key in the
    /// background, its history included.
    pub async fn reencrypt(&self, caller: &Caller, vault: VaultId, dry_run: bool) -> Result<KeyChange> {
        self.renew_vault_key(caller, vault, JobKind::Reencrypt, dry_run).await
    }

    async fn renew_vault_key(
        &self,
        caller: &Caller,
        vault: VaultId,
        kind: JobKind,
        dry_run: bool,
    ) -> Result<KeyChange> {
        self.authorize_here(caller, Action::ManageVaults).await?;
        if !dry_run {
            self.require_fresh(caller)?;
        }
        let (policy, provider) = self.key_of(caller, vault).await?;
        require_enabled(&policy)?;
        self.keyring.newest(&provider, self.asked_after(dry_run)).await?;
        let mut change = self.key_change(kind, &provider, 0).await?;
        if dry_run {
            return Ok(change);
        }
        // A vault whose key is denied now would be left half way.
        self.keyring.lease(vault, policy.generation).await?;
        let name = self.store.read(move |tx| find_name(tx, vault)).await?;
        let next = self.keyring.next_generation(&name, &policy, &provider).await?;
        let total = if kind == JobKind::Rotate { change.data_keys } else { change.items };
        let job = self.new_job(caller, NewJob::of_vault(kind, vault, total))?;
        let event = self.event(caller, "key.rotate", Target::Vault(vault), next.facts.clone())?;
        let (keys, now, asking) = (Arc::clone(&self.keys), self.clock.now(), caller.clone());
        let started = self
            .store
            .write(move |tx| {
                still_allowed(tx, &asking, None, Action::ManageVaults)?;
                next.put(tx, &keys, now)?;
                tx.record(&event)?;
                job.start(tx)
            })
            .await?;
        change.job = Some(started);
        Ok(change)
    }

    /// Takes some data keys of the job's vault to the current generation.
    pub(crate) async fn rotate_step(&self, claim: &Claim) -> Result<Step> {
        let vault = claim.job.vault;
        let (policy, _) = self.keyring.wraps_to(vault).await?;
        let current = policy.generation;
        let new = self.keyring.lease(vault, current).await?;
        let mut olds: HashMap<u32, Arc<Lease>> = HashMap::new();
        let (mut after, mut unopened) = (DataKeyId(uuid::Uuid::nil()), 0u64);
        loop {
            let job = claim.job.clone();
            let rows = self
                .store
                .read(move |tx| {
                    let rows = DataKeyRow::behind(tx, vault, current, after, BATCH)?;
                    if !rows.is_empty() {
                        job.require_starter(tx)?;
                    }
                    Ok(rows)
                })
                .await?;
            let Some(last) = rows.last() else {
                return self.rotation_ends(claim, unopened).await;
            };
            after = last.id;
            let mut moved = Vec::with_capacity(rows.len());
            for row in rows {
                let old = match olds.get(&row.generation) {
                    Some(old) => Arc::clone(old),
                    None => self.keyring.lease(vault, row.generation).await?,
                };
                match row.rewrapped(&policy, &old, &new, self.random.as_ref())? {
                    Some(wrapped) => moved.push((row, wrapped)),
                    // Its item says so to whoever reads it; the others need not wait for it.
                    None => unopened += 1,
                }
                olds.insert(old.generation, old);
            }
            if !moved.is_empty() {
                self.keyring.still_leased(&new)?;
                self.put_data_keys(claim, current, moved).await?;
                return Ok(Step::More);
            }
        }
    }

    async fn put_data_keys(&self, claim: &Claim, current: u32, moved: Vec<(DataKeyRow, Vec<u8>)>) -> Result<()> {
        let vault = claim.job.vault;
        let facts = vec![("generation", current.into())];
        let event = self.event_by(
            crate::audit::Actor::System,
            Some(claim.job.workspace),
            "key.data_keys",
            Target::Vault(vault),
            facts,
        )?;
        let (claim, keys, now) = (claim.clone(), Arc::clone(&self.keys), self.clock.now());
        self.store
            .write(move |tx| {
                claim.job.require_starter(tx)?;
                // Another rotation may have come: then these would be behind again.
                if Policy::held(tx, &keys, vault)?.generation != current {
                    return Ok(());
                }
                let mut count = 0u64;
                for (row, wrapped) in &moved {
                    count += u64::from(row.put(tx, current, wrapped)?);
                }
                let mut event = event.clone();
                event.detail.push(("count", count.into()));
                tx.record(&event)?;
                claim.progress(tx, count, 0, now)
            })
            .await
    }

    async fn rotation_ends(&self, claim: &Claim, unopened: u64) -> Result<Step> {
        self.account_adds_up(claim, unopened).await?;
        Ok(Step::Finished)
    }

    /// What was counted at the start and is gone by now was neither done nor failed: the total is what was found.
    pub(super) async fn account_adds_up(&self, claim: &Claim, failed: u64) -> Result<()> {
        let (claim, now) = (claim.clone(), self.clock.now());
        self.store
            .write(move |tx| {
                claim.progress(tx, 0, failed, now)?;
                tx.execute("UPDATE jobs SET total = done + failed WHERE id = $1", &[claim.job.id.0.into()]).map(drop)
            })
            .await
    }

    /// Forgets an old generation of a vault's key, with all its wraps: nothing opens with it any more, earlier copies of
    /// the database included once their key versions are gone. Refused while a data key is under it.
    pub async fn retire_generation(&self, caller: &Caller, vault: VaultId, generation: u32) -> Result<()> {
        self.authorize_here(caller, Action::ManageVaults).await?;
        self.require_fresh(caller)?;
        self.key_of(caller, vault).await?;
        let facts = vec![("generation", generation.into())];
        let event = self.event(caller, "key.retire", Target::Vault(vault), facts)?;
        let (keys, caller) = (Arc::clone(&self.keys), caller.clone());
        self.store
            .write(move |tx| {
                let policy = Policy::held(tx, &keys, vault)?;
                still_allowed(tx, &caller, None, Action::ManageVaults)?;
                require_unused(tx, &policy, generation)?;
                let slot = [vault.0.into(), i64::from(generation).into()];
                tx.execute("DELETE FROM wraps WHERE vault_id = $1 AND generation = $2", &slot)?;
                if tx.execute("DELETE FROM generations WHERE vault_id = $1 AND generation = $2", &slot)? == 0 {
                    return Err(Error::NotFound("generation"));
                }
                tx.record(&event)
            })
            .await?;
        // The retired key goes from memory too; the other nodes drop it at their next round of canaries.
        self.keyring.forget(vault);
        Ok(())
    }
}

/// A disabled vault serves nothing, not even to a job.
pub(super) fn require_enabled(policy: &Policy) -> Result<()> {
    if policy.state != VaultState::Disabled {
        return Ok(());
    }
    Err(Error::conflict("vault.disabled", "this vault is disabled", "Enable it, then change its key."))
}

fn require_unused(tx: &mut Tx<'_>, policy: &Policy, generation: u32) -> Result<()> {
    if generation == policy.generation {
        return Err(Error::conflict(
            "generation.current",
            format!("generation {generation} is the current one"),
            "Rotate the vault's key first; the generation before can go when nothing is under it.",
        ));
    }
    let used = tx.count(
        "SELECT COUNT(*) FROM data_keys WHERE vault_id = $1 AND generation = $2",
        &[policy.vault.0.into(), i64::from(generation).into()],
    )?;
    if used > 0 {
        return Err(Error::conflict(
            "generation.in_use",
            format!("generation {generation} is still needed by {}", counted(used, "data key")),
            "Wait until the rotation is done; `strongroom jobs list` shows it.",
        ));
    }
    Ok(())
}

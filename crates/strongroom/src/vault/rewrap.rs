//! Rewrap of vaults: every generation of the vault key under the newest key version, as a job.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{KeyChange, Strategy, change::behind, rotate::require_enabled};
use crate::{
    access::Action,
    app::{App, Caller},
    error::{Error, Result, Unavailable},
    id::VaultId,
    item::still_allowed,
    job::{Claim, JobKind, NewJob, Step},
    keyring::Rewrapped,
    store::Tx,
};

/// How often superseded wraps are looked through.
const LOOK: Duration = Duration::from_secs(600);
/// How long one time of that takes at most.
const A_PASS: Duration = Duration::from_secs(60);
/// How long a step waits that another node, or Azure's own delay, has left without work.
const NOTHING_CAME: SignedDuration = SignedDuration::from_secs(5);

impl App {
    /// Takes a vault's keys to the newest key version of the key that its policy names, in the background. With
    /// `dry_run` it only tells what that would be. Refused, with Azure's reason, where the newest key version takes no
    /// new wraps; no job is started where nothing is behind.
    pub async fn rewrap(&self, caller: &Caller, vault: VaultId, dry_run: bool) -> Result<KeyChange> {
        self.authorize_here(caller, Action::ManageVaults).await?;
        self.rewrap_asked(caller, vault, dry_run, self.asked_after(dry_run)).await
    }

    /// With an answer of Key Vault that is no older than `since`.
    async fn rewrap_asked(
        &self,
        caller: &Caller,
        vault: VaultId,
        dry_run: bool,
        since: Timestamp,
    ) -> Result<KeyChange> {
        if !dry_run {
            self.require_fresh(caller)?;
        }
        let (policy, target) = self.key_of(caller, vault).await?;
        require_enabled(&policy)?;
        if policy.strategy == Strategy::Cloud {
            return Err(Error::conflict(
                "vault.not_external",
                "a Cloud vault has no key version in Azure to go to",
                "Rotate its vault key, or re-encrypt it.",
            ));
        }
        let newest = self.keyring.newest(&target, since).await?;
        let provider = target.id;
        let behind = self.store.read(move |tx| behind(tx, vault, provider, &newest)).await?.len() as u64;
        let mut change = self.key_change(JobKind::Rewrap, &target, behind).await?;
        if dry_run || behind == 0 {
            return Ok(change);
        }
        let new = NewJob::of_vault(JobKind::Rewrap, vault, behind);
        let job = self.new_job(caller, new)?;
        let asking = caller.clone();
        let started = self.store.write(move |tx| {
            still_allowed(tx, &asking, None, Action::ManageVaults)?;
            job.start(tx)
        });
        change.job = Some(started.await?);
        Ok(change)
    }

    /// The same for every vault of the workspace whose key is in Azure. What stands against one does not stop the
    /// others.
    pub async fn rewrap_all(&self, caller: &Caller, dry_run: bool) -> Result<Vec<(VaultId, Result<KeyChange>)>> {
        self.authorize_here(caller, Action::ManageVaults).await?;
        let workspace = caller.workspace;
        let vaults = self
            .store
            .read(move |tx| {
                tx.all(
                    "SELECT id FROM vaults WHERE workspace_id = $1 AND strategy = $2 ORDER BY name_key",
                    &[workspace.0.into(), Strategy::AzureExternalKeys.word().into()],
                    |row| row.get(0).map(VaultId),
                )
            })
            .await?;
        // Vaults under the same key share one answer.
        let since = self.asked_after(dry_run);
        let mut changes = Vec::with_capacity(vaults.len());
        for vault in vaults {
            changes.push((vault, self.rewrap_asked(caller, vault, dry_run, since).await));
        }
        Ok(changes)
    }

    /// One vault key of the job's vault.
    pub(crate) async fn rewrap_step(&self, claim: &Claim) -> Result<Step> {
        let vault = claim.job.vault;
        let (_, target) = self.keyring.wraps_to(vault).await?;
        let newest = self.keyring.newest(&target, claim.job.created_at).await?;
        let provider = target.id;
        let job = claim.job.clone();
        let behind = self
            .store
            .read(move |tx| {
                let behind = behind(tx, vault, provider, &newest)?;
                if !behind.is_empty() {
                    job.require_starter(tx)?;
                }
                Ok(behind)
            })
            .await?;
        if behind.is_empty() {
            self.account_adds_up(claim, 0).await?;
            return Ok(Step::Finished);
        }
        let mut refused = None;
        // What stands against one generation does not keep the others from their new wraps.
        for generation in behind {
            let (claim, now) = (claim.clone(), self.clock.now());
            let rewrapped = async {
                let record = self.keyring.record(vault, generation).await?;
                let also = move |tx: &mut Tx<'_>| {
                    claim.job.require_starter(tx)?;
                    claim.progress(tx, 1, 0, now)
                };
                self.keyring.rewrap(&record, &target, also).await
            };
            match rewrapped.await {
                // The next step looks again at what the newest key version is: there may be a newer one by now.
                Ok(Rewrapped::Swapped) => return Ok(Step::More),
                Ok(Rewrapped::NothingToDo) => {}
                Err(error) if stands_against_all(&error) => return Err(error),
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(error) => Err(error),
            None => Ok(Step::Wait {
                until: self.clock.now() + NOTHING_CAME,
                code: "key.not_newest_yet".into(),
                detail: "Another node was faster, or Azure still wraps with the key version before.".into(),
            }),
        }
    }

    /// Drops wraps that nothing uses any more, a day after they were superseded, until the server stops.
    pub async fn tend_wraps(self: Arc<Self>) {
        loop {
            if let Err(error) = self.keyring.drop_superseded(A_PASS).await {
                tracing::warn!(%error, "superseded wraps could not be looked through");
            }
            self.clock.sleep(LOOK).await;
        }
    }
}

/// Whether an error is of the job or the key as a whole, so that trying another generation would only ask Azure in vain.
fn stands_against_all(error: &Error) -> bool {
    match error {
        Error::Integrity { .. } | Error::NotFound(_) => false,
        Error::KeyUnavailable(why) => why.class != Unavailable::Fault,
        _ => true,
    }
}

//! Items sealed anew under fresh data keys, history included: what a move to another vault and a re-encryption are.
//!
//! An item is opened, sealed for its new place, opened again from there to be sure, and swapped in one transaction by a
//! compare-and-set on its vault, revision and data key. Whoever reads or edits it meanwhile has the one or the other.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use jiff::Timestamp;
use strongroom_envelope::{DataKey, InstanceKeys, wrap_data_key};

use super::{
    Content, ItemRow, Patch, key_place,
    moving::require_policies,
    open_row,
    rows::{self, ROTATED, Swap},
    seal_into, written,
};
use crate::{
    app::App,
    audit::{Actor, Event, Target},
    error::{Error, Result},
    id::{DataKeyId, ItemId, MemberId, VaultId, WorkspaceId},
    job::{Claim, JobKind, Outcome, Step},
    keyring::Lease,
    store::{StoreError, Tx},
};

/// Items of one step, and of one transaction.
const BATCH: i64 = 64;
/// Sealed bytes after which a step takes no more items. One item with its history goes as a whole.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Tries of one item alone in a step; after them it has to wait for the next step.
const TRIES: usize = 8;

/// An item, and the vault that it was in when it was listed.
type Listed = (ItemId, VaultId);
type Leases = HashMap<(VaultId, u32), Arc<Lease>>;

/// An item as it was read: the current revision, then every older one.
struct Read {
    revisions: Vec<ItemRow>,
}

/// What is to be done with an item.
enum Verdict {
    /// Swap what was read for these, in the same order, each with its event.
    Swap {
        before: Box<ItemRow>,
        anew: Vec<ItemRow>,
        events: Vec<Event>,
    },
    Keep {
        item: ItemId,
        code: String,
    },
    Gone(ItemId),
}

impl App {
    /// Seals the next items of a job anew.
    pub(crate) async fn reseal_step(self: &Arc<Self>, claim: &Claim) -> Result<Step> {
        let todo = claim.clone();
        let listed = self.store.read(move |tx| todo.todo(tx, BATCH)).await?;
        if listed.is_empty() {
            return self.look_for_newcomers(claim).await;
        }
        // Somebody wrote to these meanwhile. One alone is read, sealed and swapped before the next edit of it comes.
        for one in self.reseal(claim, listed).await? {
            let mut left = vec![one];
            for _ in 0..TRIES {
                left = self.reseal(claim, left).await?;
                if left.is_empty() {
                    break;
                }
            }
        }
        Ok(Step::More)
    }

    /// Seals these anew, in one transaction; returns those that changed in between.
    async fn reseal(self: &Arc<Self>, claim: &Claim, listed: Vec<Listed>) -> Result<Vec<Listed>> {
        let (workspace, now) = (claim.job.workspace, self.clock.now());
        let asked = listed.clone();
        let (reads, mut verdicts) = self.store.read(move |tx| read_items(tx, workspace, &asked)).await?;
        let target = claim.job.target.unwrap_or(claim.job.vault);
        let generation = self.current_generation(workspace, target).await?;
        let new_lease = self.keyring.lease(target, generation).await?;
        let old_leases = self.leases_of(&reads).await?;
        let (app, lease, leases, job) = (Arc::clone(self), Arc::clone(&new_lease), old_leases.clone(), claim.clone());
        let sealing = tokio::task::spawn_blocking(move || {
            reads.into_iter().map(|read| app.sealed_anew(read, &leases, &lease, &job)).collect::<Result<Vec<_>>>()
        });
        verdicts.extend(sealing.await.map_err(|_| Error::integrity("job.reseal", "sealing ended in a panic"))??);
        for lease in old_leases.values().chain([&new_lease]) {
            self.keyring.still_leased(lease)?;
        }
        let (claim, keys) = (claim.clone(), Arc::clone(&self.keys));
        let written = self.store.write(move |tx| swap_all(tx, &keys, &claim, target, generation, &verdicts, now)).await;
        match written {
            // The next try seals under the generation that is current by then.
            Err(error) if error.code() == ROTATED => Ok(listed),
            // The more rows, the more likely is somebody in the way.
            Err(Error::Store(StoreError::Retry)) => Ok(listed),
            changed => changed,
        }
    }

    /// Whatever came into a vault that moves as a whole comes along. What is made in a vault that is re-encrypted has a
    /// fresh data key already.
    async fn look_for_newcomers(&self, claim: &Claim) -> Result<Step> {
        if claim.job.kind != JobKind::Move || !claim.job.whole {
            return Ok(Step::Finished);
        }
        let (claim, now) = (claim.clone(), self.clock.now());
        let came = self.store.write(move |tx| claim.list_newcomers(tx, now)).await?;
        Ok(if came == 0 { Step::Finished } else { Step::More })
    }

    async fn current_generation(&self, workspace: WorkspaceId, vault: VaultId) -> Result<u32> {
        self.store
            .read(move |tx| {
                tx.first(
                    "SELECT generation FROM vaults WHERE id = $1 AND workspace_id = $2",
                    &[vault.0.into(), workspace.0.into()],
                    |row| row.get(0),
                )?
                .ok_or(Error::NotFound("vault"))
            })
            .await
    }

    async fn leases_of(&self, reads: &[Read]) -> Result<Leases> {
        let mut leases = Leases::new();
        for row in reads.iter().flat_map(|read| &read.revisions) {
            if let Entry::Vacant(vacant) = leases.entry((row.vault, row.generation)) {
                vacant.insert(self.keyring.lease(row.vault, row.generation).await?);
            }
        }
        Ok(leases)
    }

    /// Opens an item and seals it for its new place. One that does not open is kept as it is.
    fn sealed_anew(&self, read: Read, old: &Leases, new: &Lease, claim: &Claim) -> Result<Verdict> {
        let (now, random) = (self.clock.now(), self.random.as_ref());
        let Some(before) = read.revisions.first().cloned() else {
            return Err(Error::integrity("job.reseal", "an item without a revision"));
        };
        let data_key = DataKey::generate(random).map_err(|_| Error::random())?;
        let mut place = ItemRow {
            vault: new.vault,
            generation: new.generation,
            data_key: DataKeyId::generate(now, random)?,
            ..before.clone()
        };
        place.wrapped_data_key =
            wrap_data_key(new.vault_key(), &key_place(&place), &data_key, random).map_err(|_| Error::random())?;
        let (mut anew, mut events) = (Vec::new(), Vec::new());
        for row in &read.revisions {
            let lease = &old[&(row.vault, row.generation)];
            let sealed = match self.sealed_revision(row, lease, &place, &data_key, new) {
                Err(error @ Error::Integrity { .. }) => {
                    return Ok(Verdict::Keep { item: before.id, code: error.code().to_owned() });
                }
                other => other?,
            };
            events.push(self.reseal_event(&sealed, claim)?);
            anew.push(sealed);
        }
        Ok(Verdict::Swap { before: Box::new(before), anew, events })
    }

    /// One revision in its new place, after proof that it opens there to the same.
    fn sealed_revision(
        &self,
        row: &ItemRow,
        old: &Lease,
        place: &ItemRow,
        data_key: &DataKey,
        new: &Lease,
    ) -> Result<ItemRow> {
        let (overview, fields) = open_row(row, old)?;
        let content = Content::patched(overview, fields, Patch::default());
        let mut sealed = ItemRow {
            vault: place.vault,
            generation: place.generation,
            data_key: place.data_key,
            wrapped_data_key: place.wrapped_data_key.clone(),
            ..row.clone()
        };
        seal_into(&mut sealed, data_key, &content, self.random.as_ref())?;
        let (overview, fields) = open_row(&sealed, new)?;
        if overview.title != content.title || fields != content.fields {
            return Err(Error::integrity("item.not_opened", "an item sealed anew opened to something else"));
        }
        Ok(sealed)
    }

    fn reseal_event(&self, row: &ItemRow, claim: &Claim) -> Result<Event> {
        let action = if claim.job.kind == JobKind::Move { "item.move" } else { "item.reencrypt" };
        let mut facts = written(row)?;
        facts.push(("job", claim.job.id.0.into()));
        self.event_by(Actor::System, Some(row.workspace), action, Target::Item(row.id), facts)
    }
}

/// Reads as many of the listed items as a step takes. Those that are not where they were listed are gone.
fn read_items(tx: &mut Tx<'_>, workspace: WorkspaceId, listed: &[Listed]) -> Result<(Vec<Read>, Vec<Verdict>)> {
    // Nobody's eyes: the rows come without anybody's role.
    let nobody = MemberId(uuid::Uuid::nil());
    let (mut reads, mut verdicts, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (item, vault) in listed {
        if bytes > BATCH_BYTES {
            break;
        }
        let row = match rows::find(tx, workspace, nobody, *item) {
            Ok(row) if row.vault == *vault => row,
            Ok(_) | Err(Error::NotFound(_)) => {
                verdicts.push(Verdict::Gone(*item));
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut revisions = rows::history(tx, &row)?;
        revisions.insert(0, row);
        bytes += revisions.iter().map(|row| row.sealed_overview.len() + row.sealed_details.len()).sum::<usize>();
        reads.push(Read { revisions });
    }
    Ok((reads, verdicts))
}

/// One transaction; returns the items that changed since they were read.
fn swap_all(
    tx: &mut Tx<'_>,
    keys: &InstanceKeys,
    claim: &Claim,
    target: VaultId,
    generation: u32,
    verdicts: &[Verdict],
    now: Timestamp,
) -> Result<Vec<Listed>> {
    if claim.job.kind == JobKind::Move {
        let sources = verdicts.iter().filter_map(|verdict| match verdict {
            Verdict::Swap { before, .. } => Some(before.vault),
            Verdict::Keep { .. } | Verdict::Gone(_) => None,
        });
        require_policies(tx, keys, &sources.collect(), target, true)?;
    }
    rows::require_generation(tx, target, generation)?;
    let (mut done, mut kept, mut changed) = (0, 0, Vec::new());
    for verdict in verdicts {
        match verdict {
            Verdict::Keep { item, code } => {
                claim.settle(tx, *item, Outcome::Kept, Some(code))?;
                kept += 1;
            }
            Verdict::Gone(item) => {
                claim.settle(tx, *item, Outcome::Gone, None)?;
                done += 1;
            }
            Verdict::Swap { before, anew, events } => match rows::swap(tx, before, anew, now)? {
                Swap::Done => {
                    events.iter().try_for_each(|event| tx.record(event))?;
                    claim.settle(tx, before.id, Outcome::Done, None)?;
                    done += 1;
                }
                Swap::Gone => {
                    claim.settle(tx, before.id, Outcome::Gone, None)?;
                    done += 1;
                }
                Swap::Changed => changed.push((before.id, before.vault)),
            },
        }
    }
    claim.progress(tx, done, kept, now)?;
    Ok(changed)
}

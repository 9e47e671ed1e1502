//! Items sealed anew under fresh data keys, history included: what a move to another vault and a re-encryption are.
//!
//! An item is opened, sealed for its new place, opened again from there to be sure, and swapped in one transaction by a
//! compare-and-set on its vault, revision and data key. Whoever reads or edits it meanwhile has the one or the other.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
};

use jiff::Timestamp;
use strongroom_envelope::{DataKey, InstanceKeys, wrap_data_key};

use super::{
    Content, ItemRow, Patch, key_place,
    moving::{may_still_move, require_policies, require_readable},
    open_row,
    rows::{self, ROTATED, Swap},
    seal_into, written,
};
use crate::{
    app::App,
    audit::{Actor, Event, Target},
    error::{Error, Result},
    id::{DataKeyId, ItemId, MemberId, VaultId, WorkspaceId},
    job::{Claim, Job, JobKind, Outcome, PLANTED, Step},
    keyring::Lease,
    store::{StoreError, Tx},
};

/// Items of one step, and of one transaction.
const BATCH: i64 = 64;
/// Sealed bytes, and revisions, after which a step takes no more items. One item with its history goes as a whole.
const BATCH_BYTES: u64 = 4 * 1024 * 1024;
const BATCH_REVISIONS: u64 = 1_000;
/// Of one item with its history, so that it fits into memory and into one transaction. What is larger stays as it is.
const MAX_BYTES: u64 = 32 * 1024 * 1024;
const MAX_REVISIONS: u64 = 5_000;
/// Why an item stays that is larger.
const TOO_LARGE: &str = "item.too_large";
/// Why an item stays whose rows do not fit together.
const NOT_OPENED: &str = "item.not_opened";

/// Tries of one item alone in a step; after them it has to wait for the next step.
const TRIES: usize = 8;

/// An item, and the vault that it was in when it was listed.
type Listed = (ItemId, VaultId);
/// Or the code of the reason why there is none.
type Leases = HashMap<(VaultId, u32), std::result::Result<Arc<Lease>, String>>;

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
            return Ok(Step::Finished);
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
        let target = place_of(&claim.job)?;
        let (asked, job) = (listed.clone(), claim.job.clone());
        let (reads, mut verdicts) = self
            .store
            .read(move |tx| {
                let role = job.require_starter(tx)?;
                read_items(tx, &job, &asked, |tx, item| may_still_move(tx, &job, role, item))
            })
            .await?;
        let generation = self.current_generation(workspace, target).await?;
        let new_lease = self.keyring.lease(target, generation).await?;
        let old_leases = self.leases_of(&reads).await?;
        let (app, lease, leases, job) = (Arc::clone(self), Arc::clone(&new_lease), old_leases.clone(), claim.clone());
        let sealing = tokio::task::spawn_blocking(move || {
            reads.into_iter().map(|read| app.sealed_anew(read, &leases, &lease, &job)).collect::<Result<Vec<_>>>()
        });
        verdicts.extend(sealing.await.map_err(|_| Error::integrity("job.reseal", "sealing ended in a panic"))??);
        for lease in old_leases.values().flatten().chain([&new_lease]) {
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

    /// The leases under which these open. A generation that is not there, or whose rows are not ours, is in the way of its
    /// own items only.
    async fn leases_of(&self, reads: &[Read]) -> Result<Leases> {
        let mut leases = Leases::new();
        for row in reads.iter().flat_map(|read| &read.revisions) {
            if let Entry::Vacant(vacant) = leases.entry((row.vault, row.generation)) {
                vacant.insert(match self.keyring.lease(row.vault, row.generation).await {
                    Err(error @ (Error::NotFound(_) | Error::Integrity { .. })) => {
                        tracing::warn!(vault = %row.vault, row.generation, %error, "items cannot be opened");
                        Err(NOT_OPENED.to_owned())
                    }
                    lease => Ok(lease?),
                });
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
            let lease = match &old[&(row.vault, row.generation)] {
                Ok(lease) => lease,
                Err(code) => return Ok(Verdict::Keep { item: before.id, code: code.clone() }),
            };
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
        if Content::patched(overview, fields, Patch::default()) != content {
            return Err(Error::integrity(NOT_OPENED, "an item sealed anew opened to something else"));
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

/// The vault for which the items are sealed.
fn place_of(job: &Job) -> Result<VaultId> {
    match (job.kind, job.target) {
        (JobKind::Move, Some(target)) => Ok(target),
        (JobKind::Reencrypt, None) => Ok(job.vault),
        _ => Err(Error::integrity(PLANTED, "a job of this kind does not go there")),
    }
}

/// Reads as many of the listed items as a step takes. Those that are not where they were listed are gone; those that are
/// there, and cannot be taken, are kept.
fn read_items(
    tx: &mut Tx<'_>,
    job: &Job,
    listed: &[Listed],
    mut may: impl FnMut(&mut Tx<'_>, ItemId) -> Result<bool>,
) -> Result<(Vec<Read>, Vec<Verdict>)> {
    // Nobody's eyes: the rows come without anybody's role.
    let nobody = MemberId(uuid::Uuid::nil());
    let (mut reads, mut verdicts, mut sum) = (Vec::new(), Vec::new(), rows::Size::default());
    for (item, vault) in listed {
        if sum.bytes > BATCH_BYTES || sum.revisions > BATCH_REVISIONS {
            break;
        }
        let keep = |code: &str| Verdict::Keep { item: *item, code: code.to_owned() };
        let size = match rows::size(tx, *item)? {
            Some((there, size)) if there == *vault => size,
            _ => {
                verdicts.push(Verdict::Gone(*item));
                continue;
            }
        };
        if job.whole && *vault != job.vault {
            verdicts.push(keep(PLANTED));
        } else if !may(tx, *item)? {
            verdicts.push(keep("denied"));
        } else if size.bytes > MAX_BYTES || size.revisions > MAX_REVISIONS {
            verdicts.push(keep(TOO_LARGE));
        } else {
            match read_item(tx, job.workspace, nobody, *item) {
                Ok(read) if read.revisions.len() as u64 == size.revisions => {
                    (sum.bytes, sum.revisions) = (sum.bytes + size.bytes, sum.revisions + size.revisions);
                    reads.push(read);
                }
                // The item is there, and its data key is not, or that of an older revision.
                Ok(_) | Err(Error::NotFound(_) | Error::Integrity { .. }) => verdicts.push(keep(NOT_OPENED)),
                Err(error) => return Err(error),
            }
        }
    }
    Ok((reads, verdicts))
}

fn read_item(tx: &mut Tx<'_>, workspace: WorkspaceId, nobody: MemberId, item: ItemId) -> Result<Read> {
    let row = rows::find(tx, workspace, nobody, item)?;
    let mut revisions = rows::history(tx, &row)?;
    revisions.insert(0, row);
    Ok(Read { revisions })
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
    let role = claim.job.require_starter(tx)?;
    require_vaults(tx, keys, &claim.job, target, verdicts)?;
    rows::require_generation(tx, target, generation)?;
    let (mut done, mut kept, mut changed) = (0, 0, Vec::new());
    for verdict in verdicts {
        let (item, outcome, code) = match verdict {
            Verdict::Keep { item, code } => (*item, Outcome::Kept, Some(code.as_str())),
            Verdict::Gone(item) => (*item, Outcome::Gone, None),
            Verdict::Swap { before, .. } if !may_still_move(tx, &claim.job, role, before.id)? => {
                (before.id, Outcome::Kept, Some("denied"))
            }
            Verdict::Swap { before, anew, events } => match rows::swap(tx, before, anew, now)? {
                Swap::Done => {
                    events.iter().try_for_each(|event| tx.record(event))?;
                    (before.id, Outcome::Done, None)
                }
                Swap::Gone => (before.id, Outcome::Gone, None),
                Swap::Changed => {
                    changed.push((before.id, before.vault));
                    continue;
                }
            },
        };
        claim.settle(tx, item, outcome, code)?;
        *(if outcome == Outcome::Kept { &mut kept } else { &mut done }) += 1;
    }
    claim.progress(tx, done, kept, now)?;
    Ok(changed)
}

/// What the vaults allow now: they can be read, and items go from one into another by both policies only.
fn require_vaults(
    tx: &mut Tx<'_>,
    keys: &InstanceKeys,
    job: &Job,
    target: VaultId,
    verdicts: &[Verdict],
) -> Result<()> {
    let sources: BTreeSet<VaultId> = verdicts
        .iter()
        .filter_map(|verdict| match verdict {
            Verdict::Swap { before, .. } => Some(before.vault),
            Verdict::Keep { .. } | Verdict::Gone(_) => None,
        })
        .collect();
    let leaves = sources.iter().any(|source| *source != target);
    if leaves && job.kind != JobKind::Move {
        return Err(Error::integrity(PLANTED, "a re-encryption takes no item out of its vault"));
    }
    let vaults = sources.iter().copied().chain([target]).collect();
    if leaves {
        require_policies(tx, keys, &sources, target, job.weakens)?;
    }
    require_readable(tx, &vaults)
}

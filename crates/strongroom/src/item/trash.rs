//! The trash: into it, out of it, and out of the world, by hand or once an item has lain there for as long as the
//! operator says.
//!
//! Neither denial nor outage destroys data: an item ages in the trash only while its vault's key answers. Each pass adds
//! what has gone by since the one before, and nothing where the vault is dark, in trouble or disabled, or was meanwhile.
//! A pass credits no more than a little over its own pause, so neither a jump of the clock nor a server that stood still
//! brings the end nearer.
//!
//! A row's `trashed_at` is proven by nothing. Destroyed is only what the audit log's own, proven `item.trash` says was put
//! there: for retention, so long ago.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use strongroom_envelope::InstanceKeys;
use uuid::Uuid;

use super::rows;
use crate::{
    access::Action,
    app::{App, Caller},
    audit::{Actor, Event, Target, newest_of},
    error::{Error, Result},
    id::{ItemId, VaultId, WorkspaceId},
    store::Tx,
};

/// Between two passes over the trash.
pub const TRASH_PAUSE: Duration = Duration::from_secs(3600);
/// The most that one pass adds to an item's age.
const LONGEST_STEP: SignedDuration = SignedDuration::from_hours(2);
/// Items deleted in one transaction.
const BATCH: usize = 100;
/// Items that one request may name.
const MAX_ITEMS: usize = 500;

/// What became of items that were to be deleted forever.
#[derive(Default)]
pub struct Purged {
    pub purged: Vec<ItemId>,
    pub kept: Vec<Kept>,
}

/// An item that is still there, and why.
pub struct Kept {
    pub item: ItemId,
    pub why: Arc<Error>,
}

/// A vault's trash, as a pass looks at it.
struct Trash {
    workspace: WorkspaceId,
    vault: VaultId,
}

impl App {
    /// Into the trash, from where it can be restored; nothing is destroyed. `expected` is the revision that was read,
    /// if one was.
    pub async fn trash_item(&self, caller: &Caller, id: ItemId, expected: Option<u64>) -> Result<()> {
        self.set_trashed(caller, id, expected, Some(self.clock.now()), "item.trash").await
    }

    /// Out of the trash.
    pub async fn untrash_item(&self, caller: &Caller, id: ItemId) -> Result<()> {
        self.set_trashed(caller, id, None, None, "item.untrash").await
    }

    /// Deletes an item in the trash forever: its rows, its history and its data keys.
    pub async fn purge_item(&self, caller: &Caller, id: ItemId) -> Result<()> {
        match self.purge_items(caller, &[id]).await?.kept.pop() {
            None => Ok(()),
            Some(kept) => Err(Arc::into_inner(kept.why).expect("one item has one reason of its own")),
        }
    }

    /// The same for several, at most 500. What stands against one does not keep the others.
    pub async fn purge_items(&self, caller: &Caller, ids: &[ItemId]) -> Result<Purged> {
        self.authorize_here(caller, Action::ListItems).await?;
        if ids.len() > MAX_ITEMS {
            return Err(Error::field("items", format!("At most {MAX_ITEMS} items at once.")));
        }
        let (mut found, mut kept, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for id in ids.iter().copied().filter(|id| seen.insert(*id)) {
            match self.item_for(caller, id, Action::ManageItem).await {
                Ok(row) => found.push((id, row.vault, row.generation)),
                Err(error @ (Error::NotFound(_) | Error::Denied(_))) => kept.push(Kept { item: id, why: error.into() }),
                Err(error) => return Err(error),
            }
        }
        self.purge(caller, found, kept).await
    }

    /// Deletes forever all that the caller owns in the trash. What lies in a dark vault stays.
    pub async fn empty_trash(&self, caller: &Caller) -> Result<Purged> {
        self.authorize_here(caller, Action::ListItems).await?;
        let member = caller.member;
        let found = self
            .store
            .read(move |tx| {
                tx.all(
                    "SELECT i.id, i.vault_id, k.generation FROM item_roles r JOIN items i ON i.id = r.item_id \
                     JOIN data_keys k ON k.id = i.data_key_id \
                     WHERE r.member_id = $1 AND r.role = 'owner' AND i.trashed_at IS NOT NULL ORDER BY i.id",
                    &[member.0.into()],
                    |row| Ok((ItemId(row.get(0)?), VaultId(row.get(1)?), row.get::<u32>(2)?)),
                )
            })
            .await?;
        self.purge(caller, found, Vec::new()).await
    }

    /// When retention deletes those of `ids` that lie in the trash, should their vaults' keys answer until then.
    pub async fn trash_ends(&self, caller: &Caller, ids: &[ItemId]) -> Result<HashMap<ItemId, Timestamp>> {
        self.authorize_here(caller, Action::ListItems).await?;
        let (member, ids, keeps) = (caller.member, ids.to_vec(), self.trash_keeps());
        self.store
            .read(move |tx| {
                let mut ends = HashMap::new();
                for id in &ids {
                    let found = tx.first(
                        "SELECT i.trashed_at, t.aged_ms, p.passed_at FROM items i \
                         JOIN item_roles r ON r.item_id = i.id AND r.member_id = $2 \
                         JOIN trash_ages t ON t.item_id = i.id LEFT JOIN trash_passes p ON p.vault_id = i.vault_id \
                         WHERE i.id = $1 AND i.trashed_at IS NOT NULL",
                        &[id.0.into(), member.0.into()],
                        |row| Ok((row.get::<Timestamp>(0)?, row.get::<i64>(1)?, row.get::<Option<Timestamp>>(2)?)),
                    )?;
                    if let Some((trashed_at, aged, passed_at)) = found {
                        let left = keeps - SignedDuration::from_millis(aged);
                        let counted = passed_at.map_or(trashed_at, |at| at.max(trashed_at));
                        ends.insert(*id, (trashed_at + keeps).max(counted + left));
                    }
                }
                Ok(ends)
            })
            .await
    }

    /// Runs a pass over the trash every hour, until the task is dropped.
    pub async fn keep_trash(self: Arc<Self>) {
        loop {
            self.clock.sleep(TRASH_PAUSE).await;
            if let Err(error) = self.trash_pass().await {
                tracing::warn!(%error, "a pass over the trash failed; the next one goes on");
            }
        }
    }

    /// One pass: lets the trash of every vault whose key answers age, and deletes what has lain there long enough.
    /// Returns how many items it deleted.
    pub async fn trash_pass(&self) -> Result<u64> {
        let vaults = self
            .store
            .read(|tx| {
                tx.all(
                    "SELECT DISTINCT v.id, v.workspace_id FROM vaults v JOIN items i ON i.vault_id = v.id \
                     WHERE i.trashed_at IS NOT NULL",
                    &[],
                    |row| Ok(Trash { vault: VaultId(row.get(0)?), workspace: WorkspaceId(row.get(1)?) }),
                )
            })
            .await?;
        let mut deleted = 0;
        for trash in vaults {
            let (vault, now) = (trash.vault, self.clock.now());
            self.store.write(move |tx| age(tx, vault, now)).await?;
            let mut after = Some(ItemId(Uuid::nil()));
            while let Some(from) = after {
                let count;
                (count, after) = self.purge_due(&trash, from).await?;
                deleted += count;
            }
        }
        Ok(deleted)
    }

    /// How long the trash keeps an item.
    pub fn trash_keeps(&self) -> SignedDuration {
        SignedDuration::from_hours(24 * i64::from(self.settings.trash_days))
    }

    async fn set_trashed(
        &self,
        caller: &Caller,
        id: ItemId,
        expected: Option<u64>,
        at: Option<Timestamp>,
        action: &'static str,
    ) -> Result<()> {
        let row = self.item_for(caller, id, Action::ManageItem).await?;
        // While a vault is dark, nothing of it moves.
        self.keyring.lease(row.vault, row.generation).await?;
        let event = self.event(caller, action, Target::Item(id), vec![("revision", row.revision.into())])?;
        let caller = caller.clone();
        self.store
            .write(move |tx| {
                rows::still_allowed(tx, &caller, Some(id), Action::ManageItem)?;
                rows::require_revision(tx, id, expected)?;
                tx.execute("UPDATE items SET trashed_at = $2 WHERE id = $1", &[id.0.into(), at.into()])?;
                tx.execute("DELETE FROM trash_ages WHERE item_id = $1", &[id.0.into()])?;
                if at.is_some() {
                    tx.execute("INSERT INTO trash_ages (item_id, aged_ms) VALUES ($1, 0)", &[id.0.into()])?;
                }
                tx.record(&event)
            })
            .await
    }

    /// Deletes what was found, in bounded transactions, where the key of its vault answers.
    async fn purge(&self, caller: &Caller, found: Vec<(ItemId, VaultId, u32)>, mut kept: Vec<Kept>) -> Result<Purged> {
        let mut refusals: HashMap<(VaultId, u32), Option<Arc<Error>>> = HashMap::new();
        let mut open = Vec::new();
        for (item, vault, generation) in found {
            let refusal = match refusals.entry((vault, generation)) {
                Entry::Occupied(known) => known.into_mut(),
                // While a vault is dark, nothing of it moves.
                Entry::Vacant(vacant) => vacant.insert(self.keyring.lease(vault, generation).await.err().map(Arc::new)),
            };
            match refusal {
                None => open.push(item),
                Some(why) => kept.push(Kept { item, why: Arc::clone(why) }),
            }
        }
        let mut purged = Vec::new();
        for batch in open.chunks(BATCH) {
            let events = batch.iter().map(|id| self.event(caller, "item.purge", Target::Item(*id), Vec::new()));
            let (events, caller) = (events.collect::<Result<Vec<_>>>()?, caller.clone());
            let (ids, keys) = (batch.to_vec(), Arc::clone(&self.keys));
            let outcomes = self
                .store
                .write(move |tx| {
                    let purge = |(id, event): (&ItemId, &Event)| {
                        let done = rows::still_allowed(tx, &caller, Some(*id), Action::ManageItem)
                            .and_then(|()| delete(tx, &keys, *id, Timestamp::MAX, event));
                        match done {
                            Err(error @ Error::Store(_)) => Err(error),
                            done => Ok((*id, done)),
                        }
                    };
                    ids.iter().zip(&events).map(purge).collect::<Result<Vec<_>>>()
                })
                .await?;
            for (item, outcome) in outcomes {
                match outcome {
                    Ok(()) => purged.push(item),
                    Err(error) => kept.push(Kept { item, why: error.into() }),
                }
            }
        }
        Ok(Purged { purged, kept })
    }

    /// Deletes a batch of what has lain in a vault's trash long enough: items after `after`. Returns how many went, and
    /// where the next batch begins, if there may be one.
    async fn purge_due(&self, trash: &Trash, after: ItemId) -> Result<(u64, Option<ItemId>)> {
        let (vault, keeps, now) = (trash.vault, self.trash_keeps(), self.clock.now());
        let limit = i64::try_from(keeps.as_millis()).unwrap_or(i64::MAX);
        let due = self
            .store
            .read(move |tx| {
                tx.all(
                    "SELECT i.id FROM items i JOIN trash_ages t ON t.item_id = i.id \
                     WHERE i.vault_id = $1 AND i.trashed_at <= $2 AND t.aged_ms >= $3 AND i.id > $4 \
                     ORDER BY i.id LIMIT $5",
                    &[vault.0.into(), (now - keeps).into(), limit.into(), after.0.into(), (BATCH as u64).into()],
                    |row| Ok(ItemId(row.get(0)?)),
                )
            })
            .await?;
        let Some(last) = due.last().copied() else { return Ok((0, None)) };
        let next = (due.len() == BATCH).then_some(last);
        let workspace = Some(trash.workspace);
        let events: Vec<_> = due
            .iter()
            .map(|id| self.event_by(Actor::System, workspace, "item.purge", Target::Item(*id), Vec::new()))
            .collect::<Result<_>>()?;
        let keys = Arc::clone(&self.keys);
        let deleted = self
            .store
            .write(move |tx| {
                let mut deleted = 0;
                for (id, event) in due.iter().zip(&events) {
                    match delete(tx, &keys, *id, now - keeps, event) {
                        Ok(()) => deleted += 1,
                        // Restored or gone meanwhile, or the key was denied: it stays.
                        Err(Error::NotFound(_) | Error::Conflict { .. }) => {}
                        Err(error @ Error::Integrity { .. }) => {
                            tracing::warn!(item = %id, %error, "an item in the trash is not deleted");
                        }
                        Err(error) => return Err(error),
                    }
                }
                Ok(deleted)
            })
            .await?;
        Ok((deleted, next))
    }
}

/// Lets the trash of a vault age by what has gone by since the last pass, if its key answered all the while.
fn age(tx: &mut Tx<'_>, vault: VaultId, now: Timestamp) -> Result<()> {
    let answers = answers(tx, vault)?;
    let passed_at = tx.first("SELECT passed_at FROM trash_passes WHERE vault_id = $1", &[vault.0.into()], |row| {
        row.get::<Timestamp>(0)
    })?;
    let changed_at = tx.first("SELECT changed_at FROM key_states WHERE vault_id = $1", &[vault.0.into()], |row| {
        row.get::<Timestamp>(0)
    })?;
    let step = match passed_at {
        Some(passed_at) if answers && changed_at.is_none_or(|changed_at| changed_at < passed_at) => {
            now.duration_since(passed_at).clamp(SignedDuration::ZERO, LONGEST_STEP)
        }
        _ => SignedDuration::ZERO,
    };
    // A node whose clock is a little behind credits nothing twice; one that was far ahead does not stop the others.
    let passed_at = passed_at.filter(|passed_at| passed_at.duration_since(now) < LONGEST_STEP);
    note_pass(tx, vault, passed_at.map_or(now, |passed_at| passed_at.max(now)))?;
    if step > SignedDuration::ZERO {
        tx.execute(
            "UPDATE trash_ages SET aged_ms = aged_ms + $2 \
             WHERE item_id IN (SELECT id FROM items WHERE vault_id = $1 AND trashed_at IS NOT NULL)",
            &[vault.0.into(), i64::try_from(step.as_millis()).unwrap_or(0).into()],
        )?;
    }
    Ok(())
}

/// From here on the age of a vault's trash is counted anew; what has gone by since the last pass is not.
pub(crate) fn note_pass(tx: &mut Tx<'_>, vault: VaultId, at: Timestamp) -> Result<()> {
    tx.execute("DELETE FROM trash_passes WHERE vault_id = $1", &[vault.0.into()])?;
    tx.execute("INSERT INTO trash_passes (vault_id, passed_at) VALUES ($1, $2)", &[vault.0.into(), at.into()])?;
    Ok(())
}

/// Whether the vault is in use and no node has trouble with its key. Holds the vault's row.
fn answers(tx: &mut Tx<'_>, vault: VaultId) -> Result<bool> {
    let state = tx
        .first_locked("SELECT state FROM vaults WHERE id = $1", &[vault.0.into()], |row| row.get::<String>(0))?
        .ok_or(Error::NotFound("vault"))?;
    let status =
        tx.first("SELECT status FROM key_states WHERE vault_id = $1", &[vault.0.into()], |row| row.get::<String>(0))?;
    Ok(state != "disabled" && status.is_none_or(|status| status == "healthy"))
}

/// The log itself says that the item was put in the trash, at `by` or before, and not taken out since.
fn require_trashed(tx: &mut Tx<'_>, keys: &InstanceKeys, id: ItemId, by: Timestamp) -> Result<()> {
    let newest = newest_of(tx, keys, Target::Item(id), &["item.trash", "item.untrash"])?;
    match newest.map(|entry| entry.event) {
        Some(event) if event.action == "item.trash" && event.at <= by => Ok(()),
        Some(event) if event.action == "item.trash" => Err(Error::conflict(
            "item.trashed_later",
            "the audit log says that this item was put in the trash later than its row does",
            "Wait until its time is over.",
        )),
        _ => Err(Error::integrity(
            "item.not_trashed",
            "an item lies in the trash though the audit log does not say who put it there; it is not destroyed",
        )),
    }
}

/// Deletes an item that lies in the trash since `by` at the latest: its roles, history, data keys and itself. `event`
/// still lacks the revision.
fn delete(tx: &mut Tx<'_>, keys: &InstanceKeys, id: ItemId, by: Timestamp, event: &Event) -> Result<()> {
    let (vault, revision, trashed) = tx
        .first_locked("SELECT vault_id, revision, trashed_at FROM items WHERE id = $1", &[id.0.into()], |row| {
            let trashed = row.get::<Option<Timestamp>>(2)?.is_some();
            Ok((VaultId(row.get(0)?), row.get::<u64>(1)?, trashed))
        })?
        .ok_or(Error::NotFound("item"))?;
    if !trashed {
        return Err(Error::conflict(
            "item.not_in_trash",
            "this item is not in the trash",
            "Move it to the trash first; from there it can be deleted forever.",
        ));
    }
    if !answers(tx, vault)? {
        return Err(Error::conflict(
            "vault.unreadable",
            "the vault's key does not answer, and nothing is destroyed meanwhile",
            "Delete it once the vault can be read again.",
        ));
    }
    require_trashed(tx, keys, id, by)?;
    for sql in [
        "DELETE FROM trash_ages WHERE item_id = $1",
        "DELETE FROM item_roles WHERE item_id = $1",
        "DELETE FROM item_revisions WHERE item_id = $1",
        "DELETE FROM data_keys WHERE item_id = $1",
        "DELETE FROM items WHERE id = $1",
    ] {
        tx.execute(sql, &[id.0.into()])?;
    }
    let mut event = event.clone();
    event.detail.push(("revision", revision.into()));
    tx.record(&event)
}

//! Jobs in the database, and the claim by which one node works on one: a lease that it renews, and a fence that grows
//! with each holder. What a job does, it does in transactions that prove the claim; whoever lost it changes nothing.

use std::time::Duration;

use jiff::Timestamp;

use strongroom_envelope::InstanceKeys;

use super::{Account, Job, JobKind, JobState, Starting, Waiting, proof};
use crate::{
    error::{Error, Result},
    id::{ItemId, JobId, MemberId, NodeId, VaultId, WorkspaceId},
    instance_key::{Means, Page, key_of_mac},
    store::{Param, Row, StoreError, Tx},
};

/// How long a node that fell silent keeps a job from the others.
pub(super) const LEASE: Duration = Duration::from_secs(15);
/// The refusal of a transaction whose claim does not hold any more: the job was paused, cancelled or taken over.
pub(crate) const CLAIM_LOST: &str = "job.claim_lost";
/// A lease that ends so much later than one begun now was written before a clock jumped back. Nodes' clocks differ by
/// less.
const JUMPED: Duration = Duration::from_secs(150);
/// Jobs for chosen items that a member may have open at the same time.
const MAX_OPEN: u64 = 20;
/// Ended jobs that a list tells of.
const ENDED: i64 = 200;
/// Items that an account names.
const NAMED: i64 = 1000;

/// A job that this node works on.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub job: Job,
    node: NodeId,
    fence: u64,
    chosen: Option<Vec<u8>>,
}

/// A job as its row has it.
pub(super) struct Held {
    pub job: Job,
    fence: u64,
    /// The digest of chosen items.
    pub chosen: Option<Vec<u8>>,
    pub mac: Vec<u8>,
}

impl Claim {
    /// In the transaction of a piece of work: the claim still holds, which nobody changes before the transaction ends;
    /// counts the work, and renews the lease. Refused with [`CLAIM_LOST`] otherwise.
    pub fn progress(&self, tx: &mut Tx<'_>, done: u64, failed: u64, now: Timestamp) -> Result<()> {
        self.hold(
            tx,
            "UPDATE jobs SET done = done + $4, failed = failed + $5, updated_at = $6, lease_ends = $7, \
                             waiting_code = NULL, waiting_detail = NULL \
             WHERE id = $1 AND node = $2 AND fence = $3 AND state = 'running'",
            &[done.into(), failed.into(), now.into(), (now + LEASE).into()],
        )
    }

    /// The next items to work on, each with the vault where it was when it was listed.
    pub fn todo(&self, tx: &mut Tx<'_>, limit: i64) -> Result<Vec<(ItemId, VaultId)>> {
        tx.all(
            "SELECT item_id, vault_id FROM job_items WHERE job_id = $1 AND outcome IS NULL ORDER BY item_id LIMIT $2",
            &[self.job.id.0.into(), limit.into()],
            |row| Ok((ItemId(row.get(0)?), VaultId(row.get(1)?))),
        )
    }

    /// Says what became of an item.
    pub fn settle(&self, tx: &mut Tx<'_>, item: ItemId, outcome: Outcome, code: Option<&str>) -> Result<()> {
        tx.execute(
            "UPDATE job_items SET outcome = $3, code = $4 WHERE job_id = $1 AND item_id = $2",
            &[self.job.id.0.into(), item.0.into(), outcome.word().into(), code.into()],
        )?;
        Ok(())
    }

    /// Lists what came into the vault since the last look, what left it and came back included, that once; returns how
    /// many there are.
    fn list_newcomers(&self, tx: &mut Tx<'_>, now: Timestamp) -> Result<u64> {
        let ours = [self.job.id.0.into(), self.job.vault.0.into()];
        let came = tx.execute(
            "INSERT INTO job_items (job_id, item_id, vault_id, late) \
             SELECT $1, i.id, i.vault_id, 1 FROM items i WHERE i.vault_id = $2 \
             AND NOT EXISTS (SELECT 1 FROM job_items j WHERE j.job_id = $1 AND j.item_id = i.id)",
            &ours,
        )?;
        let back = tx.execute(
            "UPDATE job_items SET outcome = NULL, late = 1 WHERE job_id = $1 AND late = 0 \
             AND outcome IN ('done', 'gone') AND item_id IN (SELECT id FROM items WHERE vault_id = $2)",
            &ours,
        )?;
        self.hold(
            tx,
            "UPDATE jobs SET total = total + $4, done = done - $5, updated_at = $6 \
             WHERE id = $1 AND node = $2 AND fence = $3 AND state = 'running'",
            &[came.into(), back.into(), now.into()],
        )?;
        Ok(came + back)
    }

    /// Keeps the job while a step takes its time.
    pub(super) fn renew(&self, tx: &mut Tx<'_>, now: Timestamp) -> Result<()> {
        self.hold(
            tx,
            "UPDATE jobs SET lease_ends = $4 WHERE id = $1 AND node = $2 AND fence = $3 AND state = 'running'",
            &[(now + LEASE).into()],
        )
    }

    /// Gives the job back until `due`, with why it waits, if it does.
    pub(super) fn release(&self, tx: &mut Tx<'_>, due: Timestamp, waiting: Option<(&str, &str)>) -> Result<()> {
        let (code, detail) = waiting.unzip();
        self.hold(
            tx,
            "UPDATE jobs SET lease_ends = 0, due_at = $4, waiting_code = $5, waiting_detail = $6 \
             WHERE id = $1 AND node = $2 AND fence = $3 AND state = 'running'",
            &[due.into(), code.into(), detail.into()],
        )
    }

    /// Ends the job, where nothing is left to do; false where more came into a vault that moves as a whole. Whoever makes
    /// an item in it holds the vault's row, as this does.
    pub(super) fn finish(&self, tx: &mut Tx<'_>, keys: &InstanceKeys, now: Timestamp) -> Result<bool> {
        if self.job.kind == JobKind::Move && self.job.whole {
            let vault = [self.job.vault.0.into()];
            tx.first_locked("SELECT id FROM vaults WHERE id = $1", &vault, |row| row.get::<uuid::Uuid>(0))?;
            if self.list_newcomers(tx, now)? > 0 {
                return Ok(false);
            }
        }
        self.hold(
            tx,
            "UPDATE jobs SET state = 'done', lease_ends = 0, updated_at = $4, finished_at = $4, waiting_code = NULL, \
                             waiting_detail = NULL, mac = $5 \
             WHERE id = $1 AND node = $2 AND fence = $3 AND state = 'running'",
            &[now.into(), (&self.mac_as(keys, JobState::Done)).into()],
        )?;
        Ok(true)
    }

    /// Stops the job until somebody resumes it, and says why.
    pub(super) fn pause(&self, tx: &mut Tx<'_>, keys: &InstanceKeys, now: Timestamp, why: (&str, &str)) -> Result<()> {
        self.hold(
            tx,
            "UPDATE jobs SET state = 'paused', lease_ends = 0, updated_at = $4, waiting_code = $5, waiting_detail = $6, \
                             mac = $7 \
             WHERE id = $1 AND node = $2 AND fence = $3 AND state = 'running'",
            &[now.into(), why.0.into(), why.1.into(), (&self.mac_as(keys, JobState::Paused)).into()],
        )
    }

    fn mac_as(&self, keys: &InstanceKeys, state: JobState) -> Vec<u8> {
        proof::mac(keys, &Job { state, ..self.job.clone() }, self.chosen.as_deref())
    }

    fn hold(&self, tx: &mut Tx<'_>, sql: &str, more: &[Param<'_>]) -> Result<()> {
        let mut params = vec![self.job.id.0.into(), self.node.0.into(), self.fence.into()];
        params.extend_from_slice(more);
        match tx.execute(sql, &params)? {
            0 => Err(Error::conflict(CLAIM_LOST, "the job was paused, cancelled or taken over", "Look at the job.")),
            _ => Ok(()),
        }
    }
}

/// What became of an item of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// As it was, for a reason.
    Kept,
    /// It left the vault in another way, or was destroyed.
    Gone,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Done, Self::Kept, Self::Gone];

    fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Kept => "kept",
            Self::Gone => "gone",
        }
    }
}

macro_rules! columns {
    () => {
        "j.id, j.workspace_id, j.kind, j.vault_id, j.target_id, j.whole, j.state, j.total, j.done, j.failed, \
         j.waiting_code, j.waiting_detail, j.due_at, j.started_by, j.created_at, j.updated_at, j.finished_at, j.fence, \
         j.weakens, j.chosen, j.mac"
    };
}

/// The jobs of a workspace, newest first; none that this program cannot read.
pub(super) fn list(tx: &mut Tx<'_>, workspace: WorkspaceId) -> Result<Vec<Job>> {
    let open = concat!(
        "SELECT ",
        columns!(),
        " FROM jobs j WHERE j.workspace_id = $1 AND j.finished_at IS NULL ORDER BY j.id DESC"
    );
    let ended = concat!(
        "SELECT ",
        columns!(),
        " FROM jobs j WHERE j.workspace_id = $1 AND j.finished_at IS NOT NULL ORDER BY j.id DESC LIMIT $2"
    );
    let mut rows = tx.all(open, &[workspace.0.into()], |row| Ok(read(row)))?;
    rows.extend(tx.all(ended, &[workspace.0.into(), ENDED.into()], |row| Ok(read(row)))?);
    let mut jobs: Vec<Job> = rows.into_iter().filter_map(Result::ok).collect();
    jobs.sort_by_key(|job| std::cmp::Reverse(job.id));
    Ok(jobs)
}

pub(super) fn find(tx: &mut Tx<'_>, workspace: WorkspaceId, id: JobId) -> Result<Job> {
    let sql = concat!("SELECT ", columns!(), " FROM jobs j WHERE j.id = $1 AND j.workspace_id = $2");
    tx.first(sql, &[id.0.into(), workspace.0.into()], read)?.ok_or(Error::NotFound("job"))
}

/// Writes a new job; returns how much there is to do. A chosen item that is not in the vault where it was chosen refuses
/// all of it.
pub(super) fn insert(tx: &mut Tx<'_>, starting: &Starting) -> Result<u64> {
    let Starting { job, items, keys, .. } = starting;
    let mut items = items.clone();
    let chosen = (!job.whole).then(|| proof::digest_of(&mut items).to_vec());
    if !job.whole {
        require_few(tx, job.started_by)?;
    }
    tx.execute(
        "INSERT INTO jobs (id, workspace_id, kind, vault_id, target_id, whole, weakens, chosen, state, total, done, \
                           failed, due_at, lease_ends, fence, started_by, created_at, updated_at, mac) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'running', $9, 0, 0, $10, 0, 0, $11, $10, $10, $12)",
        &[
            job.id.0.into(),
            job.workspace.0.into(),
            job.kind.word().into(),
            job.vault.0.into(),
            job.target.map(|target| target.0).into(),
            job.whole.into(),
            job.weakens.into(),
            chosen.as_ref().into(),
            job.total.into(),
            job.created_at.into(),
            job.started_by.0.into(),
            (&proof::mac(keys, job, chosen.as_deref())).into(),
        ],
    )
    .map_err(taken)?;
    if !job.kind.works_on_items() {
        return Ok(job.total);
    }
    let mut total = 0;
    if job.whole {
        total = tx.execute(
            "INSERT INTO job_items (job_id, item_id, vault_id, late) \
             SELECT $1, id, vault_id, 0 FROM items WHERE vault_id = $2",
            &[job.id.0.into(), job.vault.0.into()],
        )?;
    }
    for (item, vault) in &items {
        let listed = tx.execute(
            "INSERT INTO job_items (job_id, item_id, vault_id, late) \
             SELECT $1, id, vault_id, 0 FROM items WHERE id = $2 AND vault_id = $3",
            &[job.id.0.into(), item.0.into(), vault.0.into()],
        )?;
        if listed == 0 {
            return Err(Error::conflict("vault.changed", "the items changed meanwhile", "Look again, and repeat it."));
        }
        total += listed;
    }
    tx.execute("UPDATE jobs SET total = $2 WHERE id = $1", &[job.id.0.into(), total.into()])?;
    Ok(total)
}

/// Nobody fills the queue alone.
fn require_few(tx: &mut Tx<'_>, member: MemberId) -> Result<()> {
    let open = tx.count(
        "SELECT COUNT(*) FROM jobs WHERE started_by = $1 AND whole = 0 AND finished_at IS NULL",
        &[member.0.into()],
    )?;
    if open < MAX_OPEN {
        return Ok(());
    }
    Err(Error::conflict(
        "job.too_many",
        format!("{open} of your moves have not ended"),
        "Wait until one is done, or cancel one; `strongroom jobs list` shows them.",
    ))
}

/// Pauses, resumes or cancels; false where the job is so already. A change takes the claim of whoever works on it.
/// What this instance did not write can be cancelled only.
pub(super) fn steer(
    tx: &mut Tx<'_>,
    keys: &InstanceKeys,
    (workspace, id): (WorkspaceId, JobId),
    to: JobState,
    now: Timestamp,
) -> Result<bool> {
    let sql = concat!("SELECT ", columns!(), " FROM jobs j WHERE j.id = $1 AND j.workspace_id = $2");
    let held = tx.first_locked(sql, &[id.0.into(), workspace.0.into()], held)?.ok_or(Error::NotFound("job"))?;
    match held.job.state {
        JobState::Cancelled if to == JobState::Cancelled => return Ok(false),
        JobState::Done | JobState::Cancelled => {
            return Err(Error::conflict("job.ended", "this job has ended", "Start another one."));
        }
        JobState::Running | JobState::Paused => {}
    }
    if to != JobState::Cancelled {
        proof::verify(keys, &held)?;
    }
    if held.job.state == to {
        // Where it waits, it tries at once; whoever works on it is left alone.
        tx.execute("UPDATE jobs SET due_at = $2 WHERE id = $1 AND lease_ends = 0", &[id.0.into(), now.into()])?;
        return Ok(false);
    }
    let mac = proof::mac(keys, &Job { state: to, ..held.job }, held.chosen.as_deref());
    let ends = (to == JobState::Cancelled).then_some(now);
    tx.execute(
        "UPDATE jobs SET state = $2, updated_at = $3, due_at = $3, finished_at = $4, fence = fence + 1, lease_ends = 0, \
                         waiting_code = NULL, waiting_detail = NULL, mac = $5 WHERE id = $1",
        &[id.0.into(), to.word().into(), now.into(), ends.into(), (&mac).into()],
    )?;
    Ok(true)
}

/// Jobs whose turn it is and that nobody holds, the one that waited longest first; the id alone of one that this program
/// cannot read.
pub(super) fn due(tx: &mut Tx<'_>, now: Timestamp) -> Result<Vec<std::result::Result<Job, JobId>>> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM jobs j WHERE j.state = 'running' AND j.due_at <= $1 AND (j.lease_ends <= $1 OR j.lease_ends > $2) \
         ORDER BY j.due_at LIMIT 50"
    );
    tx.all(sql, &[now.into(), (now + JUMPED).into()], |row| {
        let id = JobId(row.get(0)?);
        Ok(read(row).map_err(|_| id))
    })
}

/// Takes a job that is due, unless another node was faster. Refused with [`proof::PLANTED`] where this instance did not
/// write it.
pub(super) fn claim(
    tx: &mut Tx<'_>,
    keys: &InstanceKeys,
    job: JobId,
    node: NodeId,
    now: Timestamp,
) -> Result<Option<Claim>> {
    let taken = tx.execute(
        "UPDATE jobs SET node = $2, fence = fence + 1, lease_ends = $4 \
         WHERE id = $1 AND state = 'running' AND due_at <= $3 AND (lease_ends <= $3 OR lease_ends > $5)",
        &[job.0.into(), node.0.into(), now.into(), (now + LEASE).into(), (now + JUMPED).into()],
    )?;
    if taken == 0 {
        return Ok(None);
    }
    let sql = concat!("SELECT ", columns!(), " FROM jobs j WHERE j.id = $1");
    let Some(held) = tx.first(sql, &[job.0.into()], held)? else { return Ok(None) };
    proof::verify_with_items(tx, keys, &held)?;
    Ok(Some(Claim { job: held.job, node, fence: held.fence, chosen: held.chosen }))
}

/// After a restore: whoever cancelled a job since, or saw it done, does not find it at work again. How many were paused.
pub(crate) fn pause_restored(tx: &mut Tx<'_>, keys: &InstanceKeys, now: Timestamp) -> Result<u64> {
    let sql = concat!("SELECT ", columns!(), " FROM jobs j WHERE j.finished_at IS NULL ORDER BY j.id");
    let mut paused = 0;
    for held in tx.all(sql, &[], held)? {
        paused += 1;
        // A row that this instance did not write stays as it is, and is not done either.
        if proof::verify(keys, &held).is_err() {
            continue;
        }
        let (id, chosen) = (held.job.id, held.chosen);
        let mac = proof::mac(keys, &Job { state: JobState::Paused, ..held.job }, chosen.as_deref());
        tx.execute(
            "UPDATE jobs SET state = 'paused', updated_at = $2, fence = fence + 1, lease_ends = 0, waiting_code = $3, \
                             waiting_detail = $4, mac = $5 WHERE id = $1",
            &[id.0.into(), now.into(), "job.restored".into(), RESTORED.into(), (&mac).into()],
        )?;
    }
    Ok(paused)
}

const RESTORED: &str = "it came back with a backup, and may have been done or cancelled since; resume or cancel it";

/// Rows of a page of [`renew_jobs`].
const FULL: usize = 200;

/// A page of jobs, the ended ones too; with `write`, those under an older instance key get a MAC under the current one.
pub(crate) fn renew_jobs(tx: &mut Tx<'_>, means: &Means, after: uuid::Uuid, write: bool) -> Result<Page> {
    let sql = format!("{} FROM jobs j WHERE j.id > $1 ORDER BY j.id LIMIT {FULL}", concat!("SELECT ", columns!()));
    let rows = tx.all(&sql, &[after.into()], |row| Ok((row.get::<uuid::Uuid>(0)?, held(row))))?;
    let ids: Vec<_> = rows.iter().map(|(id, _)| *id).collect();
    let mut page = Page::of(&ids, FULL);
    for (id, row) in rows {
        let proven = row.and_then(|held| {
            proof::verify(&means.keys, &held)?;
            Ok((key_of_mac(&held.mac)?, held))
        });
        match proven {
            Ok((key, held)) if page.found(means, &[key]) && write => {
                let mac = proof::mac(&means.keys, &held.job, held.chosen.as_deref());
                tx.execute("UPDATE jobs SET mac = $2 WHERE id = $1", &[id.into(), (&mac).into()])?;
            }
            Ok(_) => {}
            Err(error) => page.broken(format!("job {id}: {error}")),
        }
    }
    Ok(page)
}

/// Jobs under an instance key that is not loaded get a MAC under the current one; those that had not ended are cancelled,
/// since nothing proves what they were to do. How many those were.
pub(crate) fn cancel_lost_jobs(tx: &mut Tx<'_>, means: &Means) -> Result<u64> {
    let sql = concat!("SELECT ", columns!(), " FROM jobs j ORDER BY j.id");
    let (mut cancelled, now) = (0, means.now);
    for held in tx.all(sql, &[], held)? {
        if means.keys.get(key_of_mac(&held.mac)?).is_some() {
            continue;
        }
        let (id, chosen) = (held.job.id, held.chosen);
        let open = matches!(held.job.state, JobState::Running | JobState::Paused);
        let state = if open { JobState::Cancelled } else { held.job.state };
        let ended = held.job.finished_at.or(open.then_some(now));
        let mac = proof::mac(&means.keys, &Job { state, ..held.job }, chosen.as_deref());
        tx.execute(
            "UPDATE jobs SET state = $2, finished_at = $3, fence = fence + 1, lease_ends = 0, mac = $4 WHERE id = $1",
            &[id.0.into(), state.word().into(), ended.into(), (&mac).into()],
        )?;
        cancelled += u64::from(open);
    }
    Ok(cancelled)
}

/// Leaves jobs that cannot be worked on now to their next turn, so that they are in nobody's way.
pub(super) fn put_off(tx: &mut Tx<'_>, jobs: &[JobId], due: Timestamp) -> Result<()> {
    for job in jobs {
        tx.execute(
            "UPDATE jobs SET due_at = $2 WHERE id = $1 AND state = 'running' AND due_at < $2",
            &[job.0.into(), due.into()],
        )?;
    }
    Ok(())
}

/// What an earlier start of this node held, nobody works on any more.
pub(super) fn let_go(tx: &mut Tx<'_>, node: NodeId) -> Result<()> {
    tx.execute("UPDATE jobs SET lease_ends = 0 WHERE node = $1 AND state = 'running'", &[node.0.into()])?;
    Ok(())
}

/// What became of a job's items so far.
pub(super) fn account(tx: &mut Tx<'_>, id: JobId) -> Result<Account> {
    let mut account = Account::default();
    let groups = tx.all(
        "SELECT late, outcome, COUNT(*) FROM job_items WHERE job_id = $1 GROUP BY late, outcome",
        &[id.0.into()],
        |row| Ok((row.get::<bool>(0)?, row.get::<Option<String>>(1)?, row.get::<u64>(2)?)),
    )?;
    for (late, outcome, count) in groups {
        *(if late { &mut account.came } else { &mut account.found }) += count;
        let outcome = outcome.map(|word| {
            let known = Outcome::ALL.into_iter().find(|known| known.word() == word);
            known.ok_or_else(|| Error::integrity("store.unknown_value", "a job's item has an unknown outcome"))
        });
        *(match outcome.transpose()? {
            None => &mut account.left,
            Some(Outcome::Done) => &mut account.done,
            Some(Outcome::Kept) => &mut account.kept,
            Some(Outcome::Gone) => &mut account.gone,
        }) += count;
    }
    account.why_kept = tx.all(
        "SELECT item_id, code FROM job_items WHERE job_id = $1 AND outcome = 'kept' ORDER BY item_id LIMIT $2",
        &[id.0.into(), NAMED.into()],
        |row| Ok((ItemId(row.get(0)?), row.get::<Option<String>>(1)?.unwrap_or_default())),
    )?;
    Ok(account)
}

fn taken(error: Error) -> Error {
    match error {
        Error::Store(StoreError::Taken) => Error::conflict(
            "job.running",
            "such a job works on this vault already",
            "Wait until it is done, or cancel it; `strongroom jobs list` shows it.",
        ),
        other => other,
    }
}

fn held(row: &Row<'_>) -> Result<Held> {
    Ok(Held { job: read(row)?, fence: row.get(17)?, chosen: row.get(19)?, mac: row.get(20)? })
}

fn read(row: &Row<'_>) -> Result<Job> {
    let state = row.parse(6)?;
    let waiting = match (state, row.get::<Option<String>>(10)?) {
        (JobState::Running | JobState::Paused, Some(code)) => {
            let detail = row.get::<Option<String>>(11)?.unwrap_or_default();
            Some(Waiting { code, detail, until: row.get(12)? })
        }
        _ => None,
    };
    Ok(Job {
        id: JobId(row.get(0)?),
        workspace: WorkspaceId(row.get(1)?),
        kind: row.parse::<JobKind>(2)?,
        vault: VaultId(row.get(3)?),
        target: row.get::<Option<uuid::Uuid>>(4)?.map(VaultId),
        whole: row.get(5)?,
        weakens: row.get(18)?,
        state,
        total: row.get(7)?,
        done: row.get(8)?,
        failed: row.get(9)?,
        waiting,
        started_by: MemberId(row.get(13)?),
        created_at: row.get(14)?,
        updated_at: row.get(15)?,
        finished_at: row.get(16)?,
        account: None,
    })
}

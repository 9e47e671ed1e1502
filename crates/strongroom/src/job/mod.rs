//! Jobs: long work in the background. Each is done in steps; what a step did is counted in the transaction that did it,
//! so that a job interrupted anywhere goes on where it was, on this node or another.
//!
//! `rows` is a job in the database and the claim by which one node works on it; `proof` is the MAC that says what it may
//! do; `run` is the loop that works.

mod proof;
mod rows;
mod run;

use std::{fmt, str::FromStr, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strongroom_envelope::InstanceKeys;

pub(crate) use self::{
    proof::PLANTED,
    rows::{Claim, Outcome, cancel_lost_jobs, pause_restored, renew_jobs},
    run::Step,
};
use crate::{
    access::{self, Action, Role, Target as Aim},
    app::{App, Caller},
    audit::{Event, Fact, Target},
    error::{Error, Result},
    id::{ItemId, JobId, MemberId, VaultId, WorkspaceId},
    notice,
    store::Tx,
};

/// The refusal of work on a vault whose key is denied, as the database has it, or that is disabled.
pub(crate) const UNREADABLE: &str = "vault.unreadable";

/// What a job does to a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// The vault keys under the newest key version; items untouched.
    Rewrap,
    /// The data keys under the newest generation; items' bodies untouched.
    Rotate,
    /// Every item under a new data key.
    Reencrypt,
    /// Items into another vault, under new data keys.
    Move,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It is worked on, or waits; see [`Job::waiting`].
    Running,
    /// Until somebody resumes it.
    Paused,
    Done,
    /// What was done before stays done.
    Cancelled,
}

/// A job as it stands.
#[derive(Debug, Clone)]
pub struct Job {
    pub id: JobId,
    pub workspace: WorkspaceId,
    pub kind: JobKind,
    /// Chosen items may lie in several: then this is the vault of the first.
    pub vault: VaultId,
    /// Where a move goes.
    pub target: Option<VaultId>,
    /// It concerns the whole vault, not items that were chosen.
    pub whole: bool,
    /// Items may leave the customer's own key, for one that this server holds or one in another tenant; whoever started
    /// it was allowed to.
    pub weakens: bool,
    pub state: JobState,
    /// Vault keys, data keys or items, by the kind. It grows when more come meanwhile.
    pub total: u64,
    /// Those that need no more work: done, or gone meanwhile.
    pub done: u64,
    /// Those that stay as they were, each for a reason.
    pub failed: u64,
    /// Why nothing happens for now, or why it was paused where nobody did it.
    pub waiting: Option<Waiting>,
    pub started_by: MemberId,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    /// Where each item went, for kinds that work on items; told by [`App::job`].
    pub account: Option<Account>,
}

/// A job waits by itself, and goes on by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Stable, such as `key.disabled`.
    pub code: String,
    pub detail: String,
    /// When it tries again.
    pub until: Timestamp,
}

/// What became of the items: `found + came = done + kept + gone + left`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// There when the job began.
    pub found: u64,
    /// Came into the vault meanwhile.
    pub came: u64,
    /// Moved or re-encrypted.
    pub done: u64,
    /// As they were, where they were.
    pub kept: u64,
    /// Left the vault in another way, or were destroyed.
    pub gone: u64,
    /// Not done: nothing, once the job is done.
    pub left: u64,
    /// Which were kept, and the code of the reason; the first 1,000.
    pub why_kept: Vec<(ItemId, String)>,
}

/// A job to be started.
#[derive(Debug, Clone)]
pub(crate) struct NewJob {
    pub kind: JobKind,
    pub vault: VaultId,
    pub target: Option<VaultId>,
    /// Vault keys or data keys; a kind that works on items counts for itself.
    pub total: u64,
    /// Items may leave the customer's own key.
    pub weakens: bool,
    /// Each with the vault where it was chosen. Empty: the whole vault.
    pub items: Vec<(ItemId, VaultId)>,
}

impl NewJob {
    /// A job for a whole vault, in place.
    pub fn of_vault(kind: JobKind, vault: VaultId, total: u64) -> Self {
        Self { kind, vault, target: None, total, weakens: false, items: Vec::new() }
    }
}

/// A job that is ready to be written, in the transaction that begins its work.
pub(crate) struct Starting {
    job: Job,
    items: Vec<(ItemId, VaultId)>,
    keys: Arc<InstanceKeys>,
    event: Event,
}

impl App {
    /// The jobs that the caller may know of, newest first: all of the workspace to who manages vaults, else their own.
    /// The newest 200 of those that have ended.
    pub async fn jobs(&self, caller: &Caller) -> Result<Vec<Job>> {
        self.authorize_here(caller, Action::SeeJobs).await?;
        let workspace = caller.workspace;
        let mut jobs = self.store.read(move |tx| rows::list(tx, workspace)).await?;
        jobs.retain(|job| may_see(caller, job));
        Ok(jobs)
    }

    /// One of them, with its account.
    pub async fn job(&self, caller: &Caller, id: JobId) -> Result<Job> {
        self.authorize_here(caller, Action::SeeJobs).await?;
        let workspace = caller.workspace;
        let job = self
            .store
            .read(move |tx| {
                let job = rows::find(tx, workspace, id)?;
                let account = if job.kind.works_on_items() { Some(rows::account(tx, id)?) } else { None };
                Ok(Job { account, ..job })
            })
            .await?;
        if may_see(caller, &job) { Ok(job) } else { Err(Error::NotFound("job")) }
    }

    /// Stops the work after the step in hand, until the job is resumed.
    pub async fn pause_job(&self, caller: &Caller, id: JobId) -> Result<Job> {
        self.steer_job(caller, id, JobState::Paused, "job.pause").await
    }

    /// Goes on, at once where it waited. Asks of the caller what starting such a job asks.
    pub async fn resume_job(&self, caller: &Caller, id: JobId) -> Result<Job> {
        self.steer_job(caller, id, JobState::Running, "job.resume").await
    }

    /// Ends the job. What was done stays done; what was not stays as it is.
    pub async fn cancel_job(&self, caller: &Caller, id: JobId) -> Result<Job> {
        self.steer_job(caller, id, JobState::Cancelled, "job.cancel").await
    }

    async fn steer_job(&self, caller: &Caller, id: JobId, to: JobState, action: &'static str) -> Result<Job> {
        let job = self.job(caller, id).await?;
        let mut notices = Vec::new();
        if to == JobState::Running {
            self.may_resume(caller, &job).await?;
            notices = self.leaving_again(caller, &job).await?;
        }
        let event = self.event(caller, action, Target::Vault(job.vault), facts(job.id, job.kind))?;
        let (place, now, keys) = ((caller.workspace, id), self.clock.now(), Arc::clone(&self.keys));
        self.store
            .write(move |tx| {
                if rows::steer(tx, &keys, place, to, now)? {
                    tx.record(&event)?;
                    for notice in &notices {
                        notice::raise(tx, notice)?;
                    }
                }
                Ok(())
            })
            .await?;
        self.job(caller, id).await
    }

    /// What stopped, perhaps for a reason, goes on by the word of who might start it now. Chosen items are looked at one
    /// by one when their turn comes.
    async fn may_resume(&self, caller: &Caller, job: &Job) -> Result<()> {
        let action = job.needs();
        self.authorize(caller, action, Aim::Workspace, Target::Vault(job.vault)).await?;
        if action == Action::CreateItem { Ok(()) } else { self.require_fresh(caller) }
    }

    /// A job of the caller's, ready to be started; whoever starts it has asked for leave.
    pub(crate) fn new_job(&self, caller: &Caller, new: NewJob) -> Result<Starting> {
        let at = self.clock.now();
        let id = JobId::generate(at, self.random.as_ref())?;
        let mut event = self.event(caller, "job.start", Target::Vault(new.vault), facts(id, new.kind))?;
        let whole = new.items.is_empty();
        event.detail.extend(new.target.map(|target| ("target", target.0.into())));
        event.detail.extend([("whole", whole.into()), ("weakens", new.weakens.into())]);
        let job = Job {
            id,
            workspace: caller.workspace,
            kind: new.kind,
            vault: new.vault,
            target: new.target,
            whole,
            weakens: new.weakens,
            state: JobState::Running,
            total: new.total,
            done: 0,
            failed: 0,
            waiting: None,
            started_by: caller.member,
            created_at: at,
            updated_at: at,
            finished_at: None,
            account: None,
        };
        Ok(Starting { job, items: new.items, keys: Arc::clone(&self.keys), event })
    }
}

impl Job {
    /// What whoever starts it, resumes it or has started it must be allowed in the workspace.
    pub(crate) fn needs(&self) -> Action {
        match self {
            Self { weakens: true, .. } => Action::LeaveAzure,
            Self { whole: true, .. } => Action::ManageVaults,
            Self { .. } => Action::CreateItem,
        }
    }

    /// In a transaction that works on the job: whoever started it may still do so. Returns their role. Who resumes a job
    /// starts it again, and lends it no right.
    pub(crate) fn require_starter(&self, tx: &mut Tx<'_>) -> Result<Role> {
        let role: Option<Role> = tx.first(
            "SELECT role FROM members WHERE id = $1 AND workspace_id = $2 AND removed_at IS NULL",
            &[self.started_by.0.into(), self.workspace.0.into()],
            |row| row.parse(0),
        )?;
        role.filter(|role| access::allowed(*role, self.needs(), Aim::Workspace)).ok_or_else(|| {
            Error::Denied("Whoever started this job may not do so any more; cancel it, and start another one.".into())
        })
    }
}

impl Starting {
    pub(crate) fn id(&self) -> JobId {
        self.job.id
    }

    /// Writes the job and its event. A kind that works on items lists them now: those chosen, or all of the vault.
    /// Refused while another of this kind works on the whole vault, unless this one is for chosen items only.
    pub(crate) fn start(&self, tx: &mut Tx<'_>) -> Result<JobId> {
        let total = rows::insert(tx, self)?;
        let mut event = self.event.clone();
        event.detail.push(("total", total.into()));
        tx.record(&event)?;
        Ok(self.job.id)
    }
}

fn may_see(caller: &Caller, job: &Job) -> bool {
    job.started_by == caller.member || caller.may(Action::ManageVaults, Aim::Workspace)
}

fn facts(id: JobId, kind: JobKind) -> Vec<(&'static str, Fact)> {
    vec![("job", id.0.into()), ("kind", kind.word().into())]
}

impl JobKind {
    pub const ALL: [Self; 4] = [Self::Rewrap, Self::Rotate, Self::Reencrypt, Self::Move];

    /// As rows, events and the API write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Rewrap => "rewrap",
            Self::Rotate => "rotate",
            Self::Reencrypt => "reencrypt",
            Self::Move => "move",
        }
    }

    /// Whether its work is listed item by item.
    pub fn works_on_items(self) -> bool {
        matches!(self, Self::Reencrypt | Self::Move)
    }
}

impl JobState {
    pub const ALL: [Self; 4] = [Self::Running, Self::Paused, Self::Done, Self::Cancelled];

    /// As rows and the API write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn has_ended(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled)
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for JobKind {
    type Err = ();
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.word() == text).ok_or(())
    }
}

impl FromStr for JobState {
    type Err = ();
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.word() == text).ok_or(())
    }
}

//! The loop that works on jobs: claims what is due, several at once, and does one bounded step after the other. A job
//! whose key is denied waits, and goes on once the key is back; a dead node's job is taken over when its lease ends.

use std::{collections::HashSet, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Job, JobKind, UNREADABLE,
    proof::PLANTED,
    rows::{self, CLAIM_LOST, Claim},
};
use crate::{
    app::App,
    audit::{Actor, Event, Target},
    error::{Error, Result},
    id::JobId,
    notice,
    store::StoreError,
};

/// What a step of at most two seconds came to.
#[derive(Debug)]
pub(crate) enum Step {
    /// There is more to do.
    More,
    /// Nothing can be done before `until`.
    Wait { until: Timestamp, code: String, detail: String },
    /// Nothing is left to do.
    Finished,
}

/// How often this node looks for jobs.
const POLL: Duration = Duration::from_secs(1);
/// Jobs that one node works on at the same time.
const AT_ONCE: usize = 4;
/// After this long, a job goes to the end of the queue.
const TURN: Duration = Duration::from_secs(10);
/// How often a lease is renewed during a step that takes its time.
const RENEW: Duration = Duration::from_secs(5);
/// Until a job whose key cannot be used looks again. While the vault is dark this asks nobody.
const KEY_PAUSE: Duration = Duration::from_secs(2);
/// Until a job whose vault is dark is looked at again.
const DARK_PAUSE: Duration = Duration::from_secs(5);
/// Refusals that only people can change: the job is paused, so that nothing goes on by itself when they do.
const NEEDS_PEOPLE: [&str; 5] = ["denied", "vault.may_not_leave", "vault.closed", "vault.changed", PLANTED];
/// Until a job that failed for another reason is tried again.
const PAUSE: Duration = Duration::from_secs(30);

impl App {
    /// Works on jobs until the server stops: then each ends its step and is another node's at once.
    pub async fn run_jobs(self: Arc<Self>, stopping: CancellationToken) {
        while let Err(error) = self.let_jobs_go().await {
            tracing::warn!(%error, "the jobs of an earlier start cannot be released");
            self.clock.sleep(PAUSE).await;
        }
        let mut held = HashSet::new();
        let mut tasks: JoinSet<JobId> = JoinSet::new();
        while !stopping.is_cancelled() {
            match self.claim_jobs(AT_ONCE - held.len(), &held).await {
                Ok(claims) => {
                    for claim in claims {
                        held.insert(claim.job.id);
                        tasks.spawn(Arc::clone(&self).take_turn(claim, stopping.clone()));
                    }
                }
                Err(error) => tracing::warn!(%error, "jobs cannot be claimed"),
            }
            tokio::select! {
                () = self.clock.sleep(POLL) => {}
                () = stopping.cancelled() => {}
                Some(Ok(job)) = tasks.join_next() => { held.remove(&job); }
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Lets go of what this node held and nobody works on any more.
    pub(crate) async fn let_jobs_go(&self) -> Result<()> {
        let node = self.node;
        self.store.write(move |tx| rows::let_go(tx, node)).await
    }

    /// As [`App::work_on`]; a defect in one job ends neither the others nor the loop. Its lease lapses.
    async fn take_turn(self: Arc<Self>, claim: Claim, stopping: CancellationToken) -> JobId {
        if AssertUnwindSafe(self.work_on(&claim, &stopping)).catch_unwind().await.is_err() {
            tracing::error!(job = %claim.job.id, "a job ended in a panic");
        }
        claim.job.id
    }

    /// Up to `count` jobs that are due and not held by this node. One that cannot be worked on now stands in nobody's way.
    async fn claim_jobs(&self, count: usize, held: &HashSet<JobId>) -> Result<Vec<Claim>> {
        let (node, now) = (self.node, self.clock.now());
        let due = self.store.read(move |tx| rows::due(tx, now)).await?;
        let (mut claims, mut dark, mut bad) = (Vec::new(), Vec::new(), Vec::new());
        for job in due {
            let job = match job {
                Ok(job) if held.contains(&job.id) => continue,
                Ok(job) if self.still_dark(&job) => {
                    dark.push(job.id);
                    continue;
                }
                Ok(job) => job.id,
                Err(job) => {
                    tracing::warn!(%job, "a job cannot be read");
                    bad.push(job);
                    continue;
                }
            };
            if claims.len() >= count {
                continue;
            }
            let keys = Arc::clone(&self.keys);
            match self.store.write(move |tx| rows::claim(tx, &keys, job, node, now)).await {
                Ok(claim) => claims.extend(claim),
                Err(error @ Error::Integrity { .. }) => {
                    tracing::warn!(%job, %error, "a job is not done");
                    bad.push(job);
                }
                Err(error) => tracing::warn!(%job, %error, "a job cannot be claimed"),
            }
        }
        if !dark.is_empty() || !bad.is_empty() {
            let put_off = self.store.write(move |tx| {
                rows::put_off(tx, &dark, now + DARK_PAUSE)?;
                rows::put_off(tx, &bad, now + PAUSE)
            });
            if let Err(error) = put_off.await {
                tracing::warn!(%error, "jobs that wait cannot be put off");
            }
        }
        Ok(claims)
    }

    /// A job that says already that it waits for a key is left alone for as long as that key is denied.
    fn still_dark(&self, job: &Job) -> bool {
        let dark = |vault| self.keyring.dark(vault).is_some();
        job.waiting.is_some() && (dark(job.vault) || job.target.is_some_and(dark))
    }

    /// Works on a job for its turn, or until it is done, has to wait, is not this node's any more, or the server stops.
    async fn work_on(self: &Arc<Self>, claim: &Claim, stopping: &CancellationToken) {
        let until = self.clock.since_boot() + TURN;
        let goes_on = || self.clock.since_boot() < until && !stopping.is_cancelled();
        let ended = loop {
            match self.step_held(claim).await {
                Ok(Step::More) if goes_on() => {}
                Ok(Step::More) => break self.release(claim, self.clock.now(), None).await,
                Ok(Step::Wait { until, code, detail }) => {
                    break self.release(claim, until, Some((code, detail))).await;
                }
                Ok(Step::Finished) => match self.finish(claim).await {
                    Ok(true) => break Ok(()),
                    Ok(false) if goes_on() => {}
                    Ok(false) => break self.release(claim, self.clock.now(), None).await,
                    Err(error) => break Err(error),
                },
                Err(error) if error.code() == CLAIM_LOST => break Ok(()),
                Err(error) if NEEDS_PEOPLE.contains(&error.code()) => break self.pause_for(claim, &error).await,
                Err(error) => break self.wait_for(claim, &error).await,
            }
        };
        match ended {
            Err(error) if error.code() != CLAIM_LOST => {
                tracing::warn!(job = %claim.job.id, %error, "a job could not be written");
            }
            _ => {}
        }
    }

    /// One step, whose lease is renewed as long as it takes. Paused or cancelled, it ends between two transactions.
    async fn step_held(self: &Arc<Self>, claim: &Claim) -> Result<Step> {
        let mut step = std::pin::pin!(self.job_step(claim));
        loop {
            tokio::select! {
                result = &mut step => return result,
                () = self.clock.sleep(RENEW) => {
                    let (claim, now) = (claim.clone(), self.clock.now());
                    self.store.write(move |tx| claim.renew(tx, now)).await?;
                }
            }
        }
    }

    async fn job_step(self: &Arc<Self>, claim: &Claim) -> Result<Step> {
        match claim.job.kind {
            JobKind::Rewrap => self.rewrap_step(claim).await,
            JobKind::Rotate => self.rotate_step(claim).await,
            JobKind::Reencrypt | JobKind::Move => self.reseal_step(claim).await,
        }
    }

    /// The job waits for what `error` tells of, and tries again by itself.
    async fn wait_for(&self, claim: &Claim, error: &Error) -> Result<()> {
        let (pause, detail) = match error {
            Error::KeyUnavailable(why) => (KEY_PAUSE, format!("{}. {}", why.title, why.detail)),
            other if other.code() == UNREADABLE => (KEY_PAUSE, other.to_string()),
            other @ Error::Store(StoreError::Retry) => (POLL, other.to_string()),
            other => (PAUSE, other.to_string()),
        };
        tracing::warn!(job = %claim.job.id, code = error.code(), "a job waits");
        self.release(claim, self.clock.now() + pause, Some((error.code().to_owned(), detail))).await
    }

    async fn release(&self, claim: &Claim, due: Timestamp, waiting: Option<(String, String)>) -> Result<()> {
        let claim = claim.clone();
        self.store
            .write(move |tx| {
                let waiting = waiting.as_ref().map(|(code, detail)| (code.as_str(), detail.as_str()));
                claim.release(tx, due, waiting)
            })
            .await
    }

    /// The job stops until somebody who may resumes it.
    async fn pause_for(&self, claim: &Claim, error: &Error) -> Result<()> {
        tracing::warn!(job = %claim.job.id, code = error.code(), "a job is paused");
        let event = self.event_of(claim, "job.pause")?;
        let (claim, keys, now) = (claim.clone(), Arc::clone(&self.keys), self.clock.now());
        let (code, detail) = (error.code().to_owned(), error.to_string());
        self.store
            .write(move |tx| {
                claim.pause(tx, &keys, now, (&code, &detail))?;
                tx.record(&event)
            })
            .await
    }

    /// Ends the job; false where there turned out to be more to do.
    async fn finish(&self, claim: &Claim) -> Result<bool> {
        let event = self.event_of(claim, "job.finish")?;
        let (claim, keys, now) = (claim.clone(), Arc::clone(&self.keys), self.clock.now());
        self.store
            .write(move |tx| {
                if !claim.finish(tx, &keys, now)? {
                    return Ok(false);
                }
                let mut event = event.clone();
                let job = rows::find(tx, claim.job.workspace, claim.job.id)?;
                event.detail.extend([("done", job.done.into()), ("failed", job.failed.into())]);
                notice::job_done(tx, &event, job.id, job.kind.word(), job.failed)?;
                tx.record(&event)?;
                Ok(true)
            })
            .await
    }

    fn event_of(&self, claim: &Claim, action: &'static str) -> Result<Event> {
        let facts = super::facts(claim.job.id, claim.job.kind);
        self.event_by(Actor::System, Some(claim.job.workspace), action, Target::Vault(claim.job.vault), facts)
    }
}

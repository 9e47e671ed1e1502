//! Jobs: the list, the page of one, and what steers it.

use axum::response::Response;
use jiff::Timestamp;

use super::{
    form::Form,
    views::{
        Moment, Refresh, Section, Shell,
        jobs::{AccountView, JobCard, JobPage, JobsPage, KeptRow, Stage},
    },
    visit::{Names, Visit, next, to},
    words,
};
use crate::{
    error::Result,
    http::{error::capital, extract::PathId},
    id::{JobId, VaultId},
    job::{Account, Job, JobKind, JobState},
};

/// Seconds after which a page with a job that goes on loads itself again when JavaScript is off.
pub const REFRESH: u32 = 5;
/// Items whose titles one page may ask for.
const TITLES: usize = 200;

pub async fn list(visit: Visit) -> Result<Response> {
    let mut shell = visit.shell("Jobs", Section::Jobs).await?;
    let names = visit.names().await?;
    let jobs = visit.app.jobs(&visit.caller).await?;
    let rows: Vec<_> = jobs.iter().map(|job| card(job, &shell, &names, visit.app.clock.now())).collect();
    refresh_while(&mut shell, &rows);
    visit.page(JobsPage { shell, rows })
}

pub async fn show(visit: Visit, PathId(id): PathId<JobId>) -> Result<Response> {
    let job = visit.app.job(&visit.caller, id).await?;
    let mut shell = visit.shell("Job", Section::Jobs).await?;
    let names = visit.names().await?;
    let card = card(&job, &shell, &names, visit.app.clock.now());
    refresh_while(&mut shell, std::slice::from_ref(&card));
    let account = match job.account {
        Some(account) => Some(account_view(&visit, job.kind, account).await?),
        None => None,
    };
    visit.page(JobPage { shell, job: card, account })
}

pub async fn pause(visit: Visit, PathId(id): PathId<JobId>, form: Form) -> Result<Response> {
    visit.app.pause_job(&visit.caller, id).await?;
    Ok(to(next(form.get("next"))))
}

pub async fn resume(visit: Visit, PathId(id): PathId<JobId>, form: Form) -> Result<Response> {
    visit.app.resume_job(&visit.caller, id).await?;
    Ok(to(next(form.get("next"))))
}

pub async fn cancel(visit: Visit, PathId(id): PathId<JobId>, form: Form) -> Result<Response> {
    visit.app.cancel_job(&visit.caller, id).await?;
    Ok(to(next(form.get("next"))))
}

/// Without JavaScript a page loads itself again for as long as something goes on.
pub fn refresh_while(shell: &mut Shell, jobs: &[JobCard]) {
    if jobs.iter().any(JobCard::is_active) {
        shell.refresh = Some(Refresh { seconds: REFRESH, url: shell.path.clone() });
    }
}

/// The jobs of a vault that matter on its page, newest first: those that go on, and of each kind the newest one, if it
/// ended within a day. Two kinds may work on a vault at once, and the one that ends first is not to vanish.
pub fn of_vault(jobs: &[Job], vault: VaultId, shell: &Shell, names: &Names, now: Timestamp) -> Vec<JobCard> {
    let recent = |job: &Job| {
        let age = job.finished_at.map(|at| now.duration_since(at));
        age.is_some_and(|age| age < jiff::SignedDuration::from_hours(24))
    };
    let mut seen = Vec::new();
    let mut cards = Vec::new();
    for job in jobs.iter().filter(|job| job.vault == vault || job.target == Some(vault)) {
        let newest = !seen.contains(&job.kind);
        seen.push(job.kind);
        if !job.state.has_ended() || (newest && recent(job)) {
            cards.push(card(job, shell, names, now));
        }
    }
    cards
}

pub fn card(job: &Job, shell: &Shell, names: &Names, now: Timestamp) -> JobCard {
    let vault = Visit::vault_name(shell, job.vault);
    let (icon, title, unit) = match job.kind {
        JobKind::Rewrap => ("key-round", format!("Rewrap of {vault}"), "vault key"),
        JobKind::Rotate => ("rotate-ccw", format!("Rotation of {vault}"), "data key"),
        JobKind::Reencrypt => ("shield-check", format!("Re-encryption of {vault}"), "item"),
        JobKind::Move => {
            let target = job.target.map(|target| Visit::vault_name(shell, target)).unwrap_or_default();
            let whole = if job.whole { "all items" } else { "items" };
            ("arrow-right-left", format!("Move of {whole} from {vault} to {target}"), "item")
        }
    };
    JobCard {
        id: job.id.to_string(),
        icon,
        title,
        stage: match (job.state, &job.waiting) {
            (JobState::Running, Some(_)) => Stage::Waiting,
            (JobState::Running, None) => Stage::Running,
            (JobState::Paused, _) => Stage::Paused,
            (JobState::Done, _) => Stage::Done,
            (JobState::Cancelled, _) => Stage::Cancelled,
        },
        unit,
        total: job.total,
        done: job.done,
        failed: job.failed,
        why: why_still(job, now),
        started: words::moment(now, job.created_at),
        by: names.of(job.started_by),
        finished: job.finished_at.map(|at| words::moment(now, at)),
        back: shell.path.clone(),
    }
}

/// Why nothing happens, as a sentence, and when it is tried again by itself; never, where somebody has to resume it.
fn why_still(job: &Job, now: Timestamp) -> Option<(String, Option<Moment>)> {
    let waiting = job.waiting.as_ref()?;
    let again = match job.state {
        JobState::Running => Some(words::moment(now, waiting.until)),
        JobState::Paused => None,
        JobState::Done | JobState::Cancelled => return None,
    };
    Some((format!("{}.", capital(waiting.detail.trim_end_matches('.'))), again))
}

async fn account_view(visit: &Visit, kind: JobKind, account: Account) -> Result<AccountView> {
    let ids: Vec<_> = account.why_kept.iter().map(|(id, _)| *id).take(TITLES).collect();
    let mut titles = visit.app.titles(&visit.caller, &ids).await?;
    let rows = account.why_kept.into_iter().map(|(id, code)| KeptRow {
        id: id.to_string(),
        title: titles.remove(&id).map(Into::into),
        why: why_kept(&code),
    });
    Ok(AccountView {
        found: account.found,
        came: account.came,
        done: account.done,
        kept: account.kept,
        gone: account.gone,
        left: account.left,
        verb: if kind == JobKind::Move { "Moved" } else { "Re-encrypted" },
        why_kept: rows.collect(),
    })
}

/// A reason's code in words; one that this build does not know stays a code.
pub fn why_kept(code: &str) -> String {
    match code {
        "denied" => "Only an owner of the item may move it.".to_owned(),
        "not_found" => "It is gone, or not shared with whoever moves it.".to_owned(),
        "item.there" => "It is in this vault already.".to_owned(),
        "item.not_opened" => "Its stored bytes do not open; `audit verify --state` on the server says more.".to_owned(),
        "item.too_large" => {
            "It is too large with its history: more than 32 MiB, or more than 5,000 revisions.".to_owned()
        }
        "job.planted" => "It was added to the list behind this server's back.".to_owned(),
        "vault.may_not_leave" => "Its vault lets no item leave its key in Azure.".to_owned(),
        "vault.closed" => "The vault that it was to go to takes no new items any more.".to_owned(),
        code => code.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use uuid::Uuid;

    use super::*;
    use crate::{
        id::{JobId, MemberId, WorkspaceId},
        job::Waiting,
    };

    #[test]
    fn a_job_says_why_it_waits_or_was_paused_and_only_one_that_waits_is_tried_again() {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
        let job = |state| Job {
            id: JobId(Uuid::nil()),
            workspace: WorkspaceId(Uuid::nil()),
            kind: JobKind::Rotate,
            vault: VaultId(Uuid::nil()),
            target: None,
            whole: true,
            weakens: false,
            state,
            total: 2,
            done: 1,
            failed: 0,
            waiting: Some(Waiting {
                code: "vault.closed".into(),
                detail: "that vault takes no new items".into(),
                until: now + SignedDuration::from_secs(30),
            }),
            started_by: MemberId(Uuid::nil()),
            created_at: now,
            updated_at: now,
            finished_at: None,
            account: None,
        };
        let why = |state| why_still(&job(state), now).map(|(text, again)| (text, again.is_some()));
        let text = "That vault takes no new items.".to_owned();
        assert_eq!(why(JobState::Running), Some((text.clone(), true)));
        assert_eq!(why(JobState::Paused), Some((text, false)));
        assert_eq!(why(JobState::Done), None);
        assert_eq!(why_still(&Job { waiting: None, ..job(JobState::Paused) }, now).map(|why| why.0), None);
    }
}

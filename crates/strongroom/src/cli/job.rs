//! `strongroom jobs`, and following a job to its end.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use uuid::Uuid;

use super::console::{Console, Format, printable};
use super::failure::{Exit, Failure};
use crate::client::Client;
use crate::http::api::types::{Job, JobState, Vault};

/// See and steer long work in the background: moves, rotations, re-encryptions.
#[derive(Subcommand)]
pub enum Arguments {
    /// List the jobs, the newest first
    #[command(after_help = "Example:\n  strongroom jobs list")]
    List,
    /// Show one job: how far it is, why it waits, and what became of each item
    #[command(after_help = "Example:\n  strongroom jobs show 0197c2f0-5f5e-7cc0-8a2b-3f0e7b1c9d11")]
    Show(Which),
    /// Stop a job after the step in hand, until it is resumed
    #[command(after_help = "Example:\n  strongroom jobs pause 0197c2f0-5f5e-7cc0-8a2b-3f0e7b1c9d11")]
    Pause(Which),
    /// Go on with a paused job, or at once with one that waits
    #[command(after_help = "Example:\n  strongroom jobs resume 0197c2f0-5f5e-7cc0-8a2b-3f0e7b1c9d11 --wait")]
    Resume(Resume),
    /// End a job; what it has done stays done
    #[command(after_help = "Example:\n  strongroom jobs cancel 0197c2f0-5f5e-7cc0-8a2b-3f0e7b1c9d11")]
    Cancel(Which),
}

#[derive(Args)]
pub struct Which {
    /// The job's id
    job: Uuid,
}

#[derive(Args)]
pub struct Resume {
    #[command(flatten)]
    which: Which,
    /// Wait until it has ended, and show how far it is
    #[arg(long)]
    wait: bool,
}

/// How often a job that is followed is looked at.
const LOOK: Duration = Duration::from_secs(1);

pub async fn run(arguments: Arguments, client: &Client, console: &Console) -> Result<(), Failure> {
    match arguments {
        Arguments::List => list(client, console).await,
        Arguments::Show(which) => show(&client.job(which.job).await?, client, console).await,
        Arguments::Pause(which) => show(&client.steer_job(which.job, "pause").await?, client, console).await,
        Arguments::Cancel(which) => show(&client.steer_job(which.job, "cancel").await?, client, console).await,
        Arguments::Resume(Resume { which, wait }) => {
            let job = client.steer_job(which.job, "resume").await?;
            if wait { follow(job.id, client, console).await } else { show(&job, client, console).await }
        }
    }
}

async fn list(client: &Client, console: &Console) -> Result<(), Failure> {
    let jobs = client.jobs().await?;
    if console.format == Format::Json {
        return console.json(&json!({ "items": jobs }));
    }
    if jobs.is_empty() {
        return console.line("There are no jobs. `strongroom vault move` starts one.");
    }
    let vaults = client.vaults().await?;
    let rows = jobs.iter().map(|job| {
        let progress = format!("{} of {}", job.done + job.failed, job.total);
        vec![job.id.to_string(), about(job, &vaults), state(job).to_owned(), progress, job.created_at.to_string()]
    });
    console.table(&["ID", "What", "State", "Done", "Began"], rows.collect())
}

async fn show(job: &Job, client: &Client, console: &Console) -> Result<(), Failure> {
    if console.format == Format::Json {
        return console.json(job);
    }
    let vaults = client.vaults().await?;
    console.line(&format!("{}: {}, {} of {}", about(job, &vaults), state(job), job.done + job.failed, job.total))?;
    if let Some(why) = &job.waiting {
        let still = if job.state == JobState::Paused { "paused until somebody resumes it" } else { "waits" };
        console.line(&format!("  {still}: {} ({})", printable(&why.detail), why.code))?;
    }
    let Some(account) = &job.account else { return Ok(()) };
    let verb = if job.target_id.is_some() { "moved" } else { "re-encrypted" };
    console.line(&format!(
        "  found {}, came meanwhile {}: {verb} {}, kept {}, gone meanwhile {}, left {}",
        account.found, account.came, account.done, account.kept, account.gone, account.left
    ))?;
    for kept in &account.why_kept {
        console.line(&format!("  kept {}: {}", kept.item_id, kept.code))?;
    }
    Ok(())
}

/// Waits until the job has ended, telling how far it is; fails when it was cancelled or left something as it was.
pub async fn follow(id: Uuid, client: &Client, console: &Console) -> Result<(), Failure> {
    let mut told = String::new();
    let job = loop {
        let job = client.job(id).await?;
        let now = match &job.waiting {
            Some(why) => format!("{} of {}, waits: {} ({})", job.done + job.failed, job.total, why.detail, why.code),
            None => format!("{} of {}", job.done + job.failed, job.total),
        };
        if now != told {
            console.note(&printable(&now));
            told = now;
        }
        if matches!(job.state, JobState::Done | JobState::Cancelled) {
            break job;
        }
        tokio::time::sleep(LOOK).await;
    };
    show(&job, client, console).await?;
    let show = format!("`strongroom jobs show {id}` tells what became of each");
    match job.state {
        JobState::Cancelled => Err(Failure::new(Exit::Other, "job.cancelled", "the job was cancelled").fix(show)),
        _ if job.failed > 0 => {
            Err(Failure::new(Exit::Other, "job.kept", format!("{} stay as they were", job.failed)).fix(show))
        }
        _ => Ok(()),
    }
}

/// `move Team to Azure`
fn about(job: &Job, vaults: &[Vault]) -> String {
    let name = |id: Uuid| {
        let known = vaults.iter().find(|vault| vault.id == id);
        known.map_or_else(|| id.to_string(), |vault| printable(&vault.name))
    };
    let from = name(job.vault_id);
    match job.target_id {
        Some(to) if job.whole => format!("{} {from} to {}", job.kind, name(to)),
        Some(to) => format!("{} items to {}", job.kind, name(to)),
        None => format!("{} {from}", job.kind),
    }
}

fn state(job: &Job) -> &'static str {
    match (job.state, &job.waiting) {
        (JobState::Running, Some(_)) => "waiting",
        (state, _) => state.word(),
    }
}

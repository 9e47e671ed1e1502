//! `strongroom vault rewrap`, `rotate`, `reencrypt`, `census`, `retire`: the life of a vault's key.

use clap::Args;

use super::super::console::{Console, Format, printable};
use super::super::failure::{Exit, Failure};
use super::super::{job, lookup};
use crate::client::Client;
use crate::counted::counted;
use crate::http::api::types::{Census, ChangeKey, JobKind, KeyChange, KeyVersionUse};

/// One of the three changes of a vault's key.
#[derive(Args)]
pub struct Change {
    /// Name or id of the vault
    vault: String,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
pub struct Rewrap {
    /// Name or id of the vault
    #[arg(required_unless_present = "all")]
    vault: Option<String>,
    /// Every vault whose key is in Azure
    #[arg(long, conflicts_with = "vault")]
    all: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Args, Clone, Copy)]
struct How {
    /// Only show what it would take and what it would leave
    #[arg(long)]
    dry_run: bool,
    /// Wait until it is done, and show how far it is
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// Do not ask before it starts
    #[arg(long, short)]
    yes: bool,
}

#[derive(Args)]
pub struct Which {
    /// Name or id of the vault
    vault: String,
}

#[derive(Args)]
pub struct Retire {
    /// Name or id of the vault
    vault: String,
    /// The generation; `strongroom vault census` shows which can go
    generation: u32,
}

/// Shows what a change comes to, asks where somebody can be asked, and starts it.
pub async fn change(kind: JobKind, change: Change, client: &Client, console: &Console) -> Result<(), Failure> {
    let Change { vault, how } = change;
    let vaults = client.vaults().await?;
    let vault = lookup::vault(&vaults, &vault)?;
    let ask = |dry_run| client.change_key(vault.id, kind, ChangeKey { dry_run });
    let plan = ask(true).await?;
    if how.dry_run {
        return show(&plan, console);
    }
    if !goes_ahead(&plan, how, console)? {
        return Err(Failure::new(Exit::Other, "cancelled", "nothing was changed"));
    }
    started(&ask(false).await?, how, client, console).await
}

pub async fn rewrap(arguments: Rewrap, client: &Client, console: &Console) -> Result<(), Failure> {
    let Rewrap { vault, how, .. } = arguments;
    if let Some(vault) = vault {
        return change(JobKind::Rewrap, Change { vault, how }, client, console).await;
    }
    let changes = client.rewrap_all(ChangeKey { dry_run: how.dry_run }).await?;
    if console.format == Format::Json {
        return console.json(&changes);
    }
    let vaults = client.vaults().await?;
    let mut failed = 0;
    for item in &changes.items {
        let vault = vaults.iter().find(|vault| vault.id == item.vault_id);
        let name = vault.map_or_else(|| item.vault_id.to_string(), |vault| printable(&vault.name));
        match (&item.change, &item.problem) {
            (Some(change), _) => console.line(&format!("{name}: {}", cost(change)))?,
            (None, Some(problem)) => {
                failed += 1;
                console.line(&format!("{name}: not started, {} ({})", printable(&problem.title), problem.code))?;
            }
            (None, None) => {}
        }
    }
    if changes.items.is_empty() {
        console.line("No vault of this workspace has its key in Azure.")?;
    }
    for change in changes.items.iter().filter_map(|item| item.change.as_ref()) {
        if let Some(id) = change.job_id.filter(|_| how.wait) {
            job::follow(id, client, console).await?;
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::new(
            Exit::Other,
            "vault.not_rewrapped",
            format!("not rewrapped: {}", counted(failed, "vault")),
        )
        .fix("mend what is named beside each, then run it again")),
    }
}

pub async fn census(which: Which, client: &Client, console: &Console) -> Result<(), Failure> {
    let vaults = client.vaults().await?;
    let census = client.census(lookup::vault(&vaults, &which.vault)?.id).await?;
    match console.format {
        Format::Json => console.json(&census),
        Format::Table => show_census(&census, console),
    }
}

pub async fn retire(arguments: Retire, client: &Client, console: &Console) -> Result<(), Failure> {
    let vaults = client.vaults().await?;
    let vault = lookup::vault(&vaults, &arguments.vault)?;
    client.retire_generation(vault.id, arguments.generation).await?;
    console.line(&format!("Retired generation {} of {}.", arguments.generation, printable(&vault.name)))
}

/// A rewrap is shown and begins; what opens data keys or items is asked for where somebody sits there.
fn goes_ahead(plan: &KeyChange, how: How, console: &Console) -> Result<bool, Failure> {
    for line in told(plan) {
        console.note(&line);
    }
    if plan.kind == JobKind::Rewrap || how.yes || !console.interactive() {
        return Ok(true);
    }
    console.confirm("Start it?")
}

async fn started(change: &KeyChange, how: How, client: &Client, console: &Console) -> Result<(), Failure> {
    match change.job_id {
        Some(id) if how.wait => job::follow(id, client, console).await,
        _ if console.format == Format::Json => console.json(change),
        Some(id) => console.line(&format!("Started job {id}. `strongroom jobs show {id}` tells how far it is.")),
        None => console.line("Nothing to do: every vault key is under the newest key version."),
    }
}

fn show(change: &KeyChange, console: &Console) -> Result<(), Failure> {
    if console.format == Format::Json {
        return console.json(change);
    }
    told(change).iter().try_for_each(|line| console.line(line))
}

fn told(change: &KeyChange) -> Vec<String> {
    let mut lines = vec![cost(change)];
    if !change.exposes.is_empty() {
        lines.push("Afterwards:".into());
        lines.extend(change.exposes.iter().map(|told| format!("  {}", printable(told))));
    }
    lines
}

fn cost(change: &KeyChange) -> String {
    if change.kind == JobKind::Rewrap && change.vault_keys == 0 {
        return "nothing to do: every vault key is under the newest key version".into();
    }
    let (keys, operations) = (counted(change.vault_keys, "vault key"), counted(change.key_operations, "key operation"));
    let touched = match change.kind {
        JobKind::Rewrap => "no data key and no item touched".to_owned(),
        JobKind::Rotate => format!("{} wrapped anew, no item touched", counted(change.data_keys, "data key")),
        _ => format!("{} with {} sealed anew", counted(change.items, "item"), counted(change.revisions, "revision")),
    };
    let seconds = change.seconds_at_least.max(1);
    format!("{}: {keys}, {operations}, {touched}; at least {seconds} s", change.kind)
}

fn show_census(census: &Census, console: &Console) -> Result<(), Failure> {
    if let Some(why) = &census.newest_unknown {
        console.note(&format!("Key Vault did not say which key version is the newest: {}", printable(why)));
    }
    let rows = census.versions.iter().map(key_version_row).collect();
    console.table(&["Key version", "", "Vault keys", "Items", "Jobs", "Backups", "Superseded", "Verdict"], rows)?;
    let rows = census.generations.iter().map(|used| {
        let mark = match (used.current, used.retirable) {
            (true, _) => "current",
            (false, true) => "can be retired",
            (false, false) => "",
        };
        let counts = [used.data_keys, used.items, used.revisions].map(|count| count.to_string());
        [vec![used.generation.to_string(), mark.to_owned()], counts.into()].concat()
    });
    console.line("")?;
    console.table(&["Generation", "", "Data keys", "Items", "Revisions"], rows.collect())?;
    if !census.kill_switch.is_empty() {
        console.line("\nTo withdraw the key at once, disable every key version that wraps a key of this vault:")?;
    }
    census.kill_switch.iter().try_for_each(|command| console.line(&printable(command)))
}

fn key_version_row(used: &KeyVersionUse) -> Vec<String> {
    let version = used.kid.rsplit('/').next().unwrap_or(&used.kid).to_owned();
    let mark = match (used.newest, used.enabled) {
        (true, Some(false)) => "newest, disabled",
        (true, _) => "newest",
        _ => "",
    };
    let counts = [used.vault_keys, used.items, used.jobs, used.backups, used.superseded_wraps];
    let mut row = vec![version, mark.to_owned()];
    row.extend(counts.map(|count| count.to_string()));
    row.push(used.verdict.clone());
    row
}

//! `strongroom backup` and `strongroom restore`

use std::{path::PathBuf, sync::Arc};

use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use strongroom_envelope::{Random, SystemRandom};
use strongroom_keys::RequestIds;
use uuid::Uuid;

use super::{
    console::{Console, Format, interrupted},
    failure::{Exit, Failure},
    reanchor::{self, Reanchor},
    serve,
};
use crate::{
    backup::{self, Opened, Restored},
    clock::SystemClock,
    config::Config,
    counted::counted,
    id::BackupId,
    server,
};

/// Make, check and list backups, on the server itself
///
/// A backup is one file, sealed under the instance key, which is never in it. Keep a copy of that key elsewhere: a
/// backup without it is lost, and so are items without their key in Azure.
#[derive(Subcommand)]
pub enum Arguments {
    /// Write every row of the database, as it is at one moment, to a new file
    ///
    /// The server may run, or not; vaults may be dark: nothing is opened for it.
    #[command(after_help = "Examples:
  strongroom backup create /backups/2026-11-24.srbk
  strongroom backup create /backups/weekly.srbk --keep 365 --config /etc/strongroom/strongroom.toml")]
    Create(Create),
    /// Prove that a backup is whole and as it was made; with --open also that every item in it opens
    ///
    /// The first needs the instance key alone. The second asks Azure for every vault's key, which Key Vault's log shows, and
    /// the audit log announces.
    #[command(after_help = "Examples:
  strongroom backup verify /backups/2026-11-24.srbk
  strongroom backup verify /backups/2026-11-24.srbk --open")]
    Verify(Verify),
    /// List the backups that this instance has made, and the key versions that they open through
    #[command(after_help = "Example:\n  strongroom backup list --format json")]
    List(Where),
    /// Say that every copy of a backup is destroyed, so that no key version is kept for it
    #[command(after_help = "Example:\n  strongroom backup retire 019b3f0e-7c1a-7000-8000-3b1f5a0c9d2e")]
    Retire {
        /// As `backup list` shows it
        backup: Uuid,
        #[command(flatten)]
        place: Where,
    },
}

#[derive(Args)]
pub struct Where {
    /// The server's configuration file; strongroom.toml in this folder if absent
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args)]
pub struct Create {
    file: PathBuf,
    /// Days until it expires: so long, the census counts what it needs
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=36_500))]
    keep: u16,
    #[command(flatten)]
    place: Where,
}

#[derive(Args)]
pub struct Verify {
    file: PathBuf,
    /// Also open every item
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    place: Where,
}

/// Put a backup into the empty database that the configuration names
///
/// All of it or nothing. It ends every session, API token, invitation and link; people sign in anew. The instance key that
/// the backup was made under must be in place. Stop the server first.
///
/// With --reanchor, no backup is read: the database stays, and goes on without its instance key, which is lost. An Owner
/// does it, with the credentials of the vaults in Azure. Cloud vaults are lost with the key; what else is, is said first.
#[derive(Args)]
#[command(after_help = "Examples:
  strongroom restore /backups/2026-11-24.srbk --dry-run
  strongroom restore /backups/2026-11-24.srbk --config /etc/strongroom/strongroom.toml
  strongroom restore --reanchor --checkpoint strongroom.checkpoint --public-key strongroom.pub")]
pub struct Restore {
    /// The backup
    #[arg(required_unless_present = "reanchor", conflicts_with = "reanchor")]
    file: Option<PathBuf>,
    #[command(flatten)]
    reanchor: Reanchor,
    /// Only say what would be restored and what would end
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: Where,
}

pub async fn run(arguments: Arguments, console: &Console) -> Result<u8, Failure> {
    match arguments {
        Arguments::Create(arguments) => create(arguments, console).await,
        Arguments::Verify(arguments) => verify(arguments, console).await,
        Arguments::List(place) => list(place, console).await,
        Arguments::Retire { backup, place } => {
            let config = serve::load(place.config)?;
            let store = server::open_beside(&config, Arc::new(SystemClock), Arc::new(SystemRandom::new()))?.0;
            let id = BackupId(backup);
            backup::retire(&store, id, Timestamp::now(), &SystemRandom::new()).await?;
            console.line(&format!("Backup {id} is retired: no key version is kept for it any more."))?;
            Ok(Exit::Ok as u8)
        }
    }
}

async fn create(arguments: Create, console: &Console) -> Result<u8, Failure> {
    let config = serve::load(arguments.place.config)?;
    let random: Arc<dyn Random> = Arc::new(SystemRandom::new());
    let (store, keys) = server::open_beside(&config, Arc::new(SystemClock), Arc::clone(&random))?;
    let keep = SignedDuration::from_hours(24 * i64::from(arguments.keep));
    let made = backup::make(&store, &keys, &random, &arguments.file, Timestamp::now(), keep).await?;
    if console.format == Format::Json {
        console.json(&json!({
            "id": made.id, "file": arguments.file, "made_at": made.made_at, "expires_at": made.expires_at,
            "rows": made.rows, "bytes": made.bytes, "instance_key": keys.current().id().to_string(),
        }))?;
        return Ok(Exit::Ok as u8);
    }
    console.line(&format!(
        "Backup {} lies in {}: {}, {}. It expires at {:.0}.\nIt opens with instance key {} only, which is not in it. \
         Keep a copy of that key elsewhere.",
        made.id,
        arguments.file.display(),
        counted(made.rows, "row"),
        counted(made.bytes, "byte"),
        made.expires_at,
        keys.current().id(),
    ))?;
    Ok(Exit::Ok as u8)
}

async fn verify(arguments: Verify, console: &Console) -> Result<u8, Failure> {
    let config = serve::load(arguments.place.config)?;
    let keys = server::present_keys(&config)?;
    if arguments.open {
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom::new()));
        let azure = Arc::new(server::reach_azure(&config, announced(&config, console))?);
        let opened = tokio::select! {
            opened = backup::open_all(&arguments.file, azure, keys, clock, random) => opened?,
            // The copy of the database goes with the work that made it.
            () = interrupted() => return Err(Failure::new(Exit::Other, "interrupted", "stopped before all was opened")),
        };
        return tell_opened(&opened, console);
    }
    let whole = backup::read_through(&arguments.file, &keys, Timestamp::now())?;
    match console.format {
        Format::Json => console.json(&summary(&whole))?,
        Format::Table => console.line(&format!("{}\nIt is whole and as it was made.", described(&whole)))?,
    }
    Ok(Exit::Ok as u8)
}

/// The unwraps are announced in the instance's own log, where its database is at hand.
fn announced(config: &Config, console: &Console) -> Option<Arc<dyn RequestIds>> {
    match server::announced(config, Arc::new(SystemClock), Arc::new(SystemRandom::new())) {
        Ok(issuer) => Some(issuer),
        Err(error) => {
            console.note(&format!(
                "The database that the configuration names cannot be opened ({error}), so nothing announces these \
                 unwraps: `strongroom audit reconcile` will name them."
            ));
            None
        }
    }
}

fn tell_opened(opened: &Opened, console: &Console) -> Result<u8, Failure> {
    let exit = if opened.all_opens() { Exit::Ok } else { Exit::Other };
    if console.format == Format::Json {
        let vaults: Vec<_> = opened
            .vaults
            .iter()
            .map(|vault| match &vault.proof {
                Ok(proof) => json!({
                    "id": vault.id, "name": vault.name, "opened": proof.opened, "revisions": proof.revisions,
                    "broken": proof.broken,
                }),
                Err(error) => json!({
                    "id": vault.id, "name": vault.name, "code": error.code(), "why": error.to_string(),
                    "fix": error.fix(),
                }),
            })
            .collect();
        let whole = summary(&opened.whole);
        console.json(&json!({ "opens": opened.all_opens(), "backup": whole, "vaults": vaults }))?;
        return Ok(exit as u8);
    }
    console.line(&described(&opened.whole))?;
    for vault in &opened.vaults {
        let told = match &vault.proof {
            Ok(proof) if proof.broken.is_empty() => {
                format!("opens: {}, {}", counted(proof.opened, "item"), counted(proof.revisions, "revision"))
            }
            Ok(proof) => {
                let broken: Vec<_> = proof.broken.iter().map(ToString::to_string).collect();
                format!("{} did not open: {}", counted(proof.broken.len() as u64, "item"), broken.join(", "))
            }
            Err(error) => format!("could not be opened: {error}. {}", error.fix()),
        };
        console.line(&format!("Vault {:?} {told}", vault.name))?;
    }
    let end = if opened.all_opens() { "Every item in it opens." } else { "Not all of it opens." };
    console.line(end)?;
    Ok(exit as u8)
}

async fn list(place: Where, console: &Console) -> Result<u8, Failure> {
    let config = serve::load(place.config)?;
    let (store, _) = server::open_to_verify(&config)?;
    let (known, now) = (backup::known(&store).await?, Timestamp::now());
    if console.format == Format::Json {
        let backups: Vec<_> = known
            .iter()
            .map(|backup| {
                json!({
                    "id": backup.id, "made_at": backup.made_at, "expires_at": backup.expires_at,
                    "retired_at": backup.retired_at, "rows": backup.rows, "key_versions": backup.kids,
                    "counts": backup.counts(now),
                })
            })
            .collect();
        console.json(&json!({ "items": backups }))?;
        return Ok(Exit::Ok as u8);
    }
    if known.is_empty() {
        console.line("No backup was made yet. `strongroom backup create FILE` makes one.")?;
        return Ok(Exit::Ok as u8);
    }
    let rows = known
        .iter()
        .map(|backup| {
            let state = match backup.retired_at {
                Some(at) => format!("retired {at:.0}"),
                None if backup.counts(now) => format!("expires {:.0}", backup.expires_at),
                None => format!("expired {:.0}", backup.expires_at),
            };
            let kids = backup.kids.join("\n");
            vec![backup.id.to_string(), format!("{:.0}", backup.made_at), state, backup.rows.to_string(), kids]
        })
        .collect();
    console.table(&["Backup", "Made", "State", "Rows", "Opens through"], rows)?;
    Ok(Exit::Ok as u8)
}

pub async fn restore(arguments: Restore, console: &Console) -> Result<u8, Failure> {
    let config = serve::load(arguments.place.config)?;
    let Some(file) = arguments.file else {
        reanchor::run(&config, arguments.reanchor, arguments.dry_run, console).await?;
        return Ok(Exit::Ok as u8);
    };
    let (now, random) = (Timestamp::now(), SystemRandom::new());
    let keys = server::present_keys(&config)?;
    // Proven before anything is written, and so also what a dry run tells.
    let found = backup::read_through(&file, &keys, now)?;
    let done = if arguments.dry_run {
        server::require_empty_database(&config).await?;
        found
    } else {
        let store = server::open_to_fill(&config, Arc::new(SystemClock), Arc::new(SystemRandom::new()))?;
        backup::restore(&store, &keys, &random, &file, now).await?
    };
    if console.format == Format::Json {
        let mut told = summary(&done);
        told["restored"] = json!(!arguments.dry_run);
        console.json(&told)?;
        return Ok(Exit::Ok as u8);
    }
    let ended = done.ended;
    let ended = [
        counted(ended.sessions, "session"),
        counted(ended.tokens, "API token"),
        format!("{} (invitations among them)", counted(ended.links, "link")),
        counted(ended.codes, "recovery code"),
    ]
    .join(", ");
    let jobs = counted(done.ended.jobs, "job");
    let end = if arguments.dry_run {
        format!("Nothing was written. A restore would end {ended}, and pause {jobs}.\n{RETURNS}")
    } else {
        format!(
            "It is restored. Ended: {ended}. Paused: {jobs}. The audit log goes on under a new name.\n{RETURNS}\nStart \
             the server, and check: strongroom audit verify --state"
        )
    };
    console.line(&format!("{}\n{end}", described(&done)))?;
    Ok(Exit::Ok as u8)
}

const RETURNS: &str = "As they were then: members, roles, passwords, shares and webhooks. Look through them: whoever was \
                       removed since is back.";

fn described(found: &Restored) -> String {
    let manifest = &found.manifest;
    let expired = if manifest.expires_at <= Timestamp::now() {
        format!("\nIt expired at {:.0}: keys that it opens through may be gone.", manifest.expires_at)
    } else {
        String::new()
    };
    format!(
        "Backup {}, made at {:.0}: {}, {}, {}, {}.{expired}",
        manifest.id,
        manifest.made_at,
        counted(found.count("workspaces"), "workspace"),
        counted(found.count("vaults"), "vault"),
        counted(found.count("items"), "item"),
        counted(found.count("audit_events"), "audit event"),
    )
}

fn summary(found: &Restored) -> serde_json::Value {
    let (manifest, ended) = (&found.manifest, found.ended);
    let tables: serde_json::Map<String, serde_json::Value> =
        manifest.tables.iter().zip(&found.counts).map(|(table, count)| (table.name.clone(), (*count).into())).collect();
    json!({
        "id": manifest.id, "made_at": manifest.made_at, "expires_at": manifest.expires_at, "schema": manifest.schema,
        "rows": found.rows(), "tables": tables,
        "ends": {
            "sessions": ended.sessions, "tokens": ended.tokens, "links": ended.links, "recovery_codes": ended.codes,
        },
        "pauses": { "jobs": ended.jobs },
    })
}

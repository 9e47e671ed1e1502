//! `strongroom audit`

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::console::{Console, Format};
use super::failure::{Exit, Failure};
use super::{lookup, serve};
use crate::audit::{
    Means,
    log::{Checkpoint, EventProof, VerifierKey},
    verify_by,
};
use crate::client::Client;
use crate::http::api::types::{AuditEvent, AuditOutcome, AuditQuery, ExportQuery};
use crate::server;
use crate::store::Store;

/// Read the audit log.
#[derive(Subcommand)]
pub enum Arguments {
    /// List events, newest first
    #[command(after_help = "Examples:
  strongroom audit list --action item.reveal --limit 20
  strongroom audit list --after 2026-11-01T00:00:00Z --outcome refused --format json")]
    List(List),
    /// Prove the log: no event altered, removed, reordered or planted
    ///
    /// Reads the database beside a running server, or a copy of it. With --state it also rebuilds from the log what the
    /// database should say, and names each row that was planted, rolled back or removed. With --checkpoint it says
    /// whether the log is still the one that was signed then, and how far it was set back if not. On a copy elsewhere,
    /// a checkpoint and the log's public key are enough; no secret is needed. Ends with 1 if it finds something.
    #[command(after_help = "Examples:
  strongroom audit verify
  strongroom audit verify --state --config /etc/strongroom/strongroom.toml
  strongroom audit verify --checkpoint /mnt/elsewhere/strongroom.checkpoint
  strongroom audit verify --database sqlite:copy.db --checkpoint strongroom.checkpoint --public-key strongroom.pub")]
    Verify(Verify),
    /// Print the public key that the log's checkpoints are verified with
    ///
    /// It stays the same unless the instance key is lost. Keep it where the checkpoints are kept.
    #[command(after_help = "Examples:
  strongroom audit key > strongroom.pub
  strongroom audit key --config /etc/strongroom/strongroom.toml")]
    Key(Key),
    /// Compare the log with your own Key Vault's diagnostic log
    ///
    /// Names every successful use of a key that this instance did not make, every request that came twice, and every
    /// answer of Azure's that Azure's log does not show. Takes the category AuditEvent as JSON lines from a storage
    /// account, as records from an event hub, or as rows exported from Log Analytics. Ends with 1 if something differs.
    #[command(after_help = "Examples:
  strongroom audit reconcile PT1H.json
  strongroom audit reconcile *.json --config /etc/strongroom/strongroom.toml --format json")]
    Reconcile(Reconcile),
    /// Copy the log elsewhere: events as JSON lines, oldest first, each at least once
    ///
    /// With --cursor-file the next run goes on where this one ended: the file is written after the lines are. A run that
    /// is cut off in between gives some lines again; events keep their ids.
    #[command(after_help = "Examples:
  strongroom audit export > audit.jsonl
  strongroom audit export --cursor-file audit.cursor >> audit.jsonl
  strongroom audit export --cursor-file audit.cursor --follow | collector")]
    Export(Export),
    /// Print the newest checkpoint, the signed head of the log
    #[command(after_help = "Example:
  strongroom audit checkpoint > strongroom.checkpoint")]
    Checkpoint,
    /// Print the proof that one event is in the log
    ///
    /// A C2SP tlog-proof with the event in it; whoever has the log's public key checks it without this server.
    #[command(after_help = "Example:
  strongroom audit prove 0199f0a2-7c3e-7a11-8f00-2b1e5d3c4a60 > reveal.tlog-proof")]
    Prove(Prove),
    /// Check the proof of an event, without any server, and say what it proves
    #[command(after_help = "Example:
  strongroom audit check-proof reveal.tlog-proof --public-key strongroom.pub")]
    CheckProof(CheckProof),
}

#[derive(Args)]
pub struct Reconcile {
    /// Azure's log; all files together are one log
    #[arg(required = true, value_name = "AZURE-LOG")]
    files: Vec<PathBuf>,
    /// The server's configuration file; strongroom.toml in this folder if absent
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Needs the instance key and the database, not a running server.
pub async fn reconcile(arguments: Reconcile, console: &Console) -> Result<u8, Failure> {
    let mut entries = Vec::new();
    for file in &arguments.files {
        let refused = |why: String| Failure::new(Exit::Usage, "audit.file", format!("{}: {why}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| refused(error.to_string()))?;
        let log = crate::audit::read_azure_log(&text).map_err(|error| refused(error.to_string()))?;
        if log.cut_off {
            console.note(&format!("The last line of {} is cut off and was left out.", file.display()));
        }
        entries.extend(log.entries);
    }
    let (store, keys) = server::open_to_verify(&serve::load(arguments.config)?)?;
    let report = crate::audit::reconcile(&store, keys, entries).await?;
    match console.format {
        Format::Json => console.json(&report)?,
        Format::Table => console.line(&report.to_string())?,
    }
    Ok(if report.findings.is_empty() { Exit::Ok as u8 } else { Exit::Other as u8 })
}

#[derive(Args)]
pub struct Export {
    /// Where to go on, and where to say so; made if absent
    #[arg(long, value_name = "FILE")]
    cursor_file: Option<PathBuf>,
    /// Wait for new events, and go on until interrupted
    #[arg(long)]
    follow: bool,
}

#[derive(Args)]
pub struct Prove {
    /// The event's id, as audit list --format json shows it
    event: Uuid,
}

#[derive(Args)]
pub struct CheckProof {
    /// The proof; - for standard input
    file: PathBuf,
    /// The file with the log's public key, as `audit key` prints it
    #[arg(long, value_name = "FILE")]
    public_key: PathBuf,
}

/// How often `export --follow` looks for more.
const FOLLOW: Duration = Duration::from_secs(5);

async fn export(arguments: Export, client: &Client, console: &Console) -> Result<(), Failure> {
    let file = arguments.cursor_file.as_deref();
    let mut query = ExportQuery { cursor: file.map(read_cursor).transpose()?.flatten(), limit: Some(200) };
    loop {
        let page = client.export_audit(&query).await?;
        for event in &page.items {
            console.json_line(event)?;
        }
        for event in &page.broken {
            console.note(&format!("event {event} is not genuine and was left out; run audit verify on the server"));
        }
        console.flush()?;
        if let Some(file) = file {
            replace(file, &page.next_cursor)?;
        }
        query.cursor = Some(page.next_cursor);
        match (page.more, arguments.follow) {
            (true, _) => {}
            (false, true) => tokio::time::sleep(FOLLOW).await,
            (false, false) => return Ok(()),
        }
    }
}

fn read_cursor(file: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// As a whole or not at all: half a cursor would be none.
fn replace(file: &Path, cursor: &str) -> Result<(), Failure> {
    let mut fresh = file.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let mut out = std::fs::File::create(&fresh)?;
    writeln!(out, "{cursor}")?;
    out.sync_all()?;
    Ok(std::fs::rename(fresh, file)?)
}

/// Needs neither a server nor a secret.
pub fn check_proof(arguments: &CheckProof, console: &Console) -> Result<u8, Failure> {
    let key = read_parsed::<VerifierKey>(&arguments.public_key)?;
    let proof = read_parsed::<EventProof>(&arguments.file)?;
    let Some(entry) = proof.verify(&key.key) else {
        console
            .note("It is not proven: the event, its place or the checkpoint was changed, or the key is another log's.");
        return Ok(Exit::Other as u8);
    };
    let checkpoint = &proof.checkpoint;
    console.line(&format!(
        "Event {} of {:.3}, {}, is at place {} of the {} that {} signed.",
        entry.event.id, entry.event.at, entry.event.action, proof.index, checkpoint.size, checkpoint.origin
    ))?;
    Ok(Exit::Ok as u8)
}

#[derive(Args)]
pub struct Verify {
    /// Compare the database with what the log says of it
    #[arg(long)]
    state: bool,
    /// A checkpoint of the log that was kept elsewhere
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// A copy of the database to read, without any secret: sqlite:PATH or postgres://…
    #[arg(long, value_name = "URL", requires = "checkpoint", requires = "public_key", conflicts_with_all = ["state", "config"])]
    database: Option<String>,
    /// The file with the log's public key, as `audit key` prints it
    #[arg(long, value_name = "FILE", requires = "checkpoint")]
    public_key: Option<PathBuf>,
    /// The server's configuration file; strongroom.toml in this folder if absent
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args)]
pub struct Key {
    /// The server's configuration file; strongroom.toml in this folder if absent
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Needs the instance key and the database, not a running server.
pub async fn key(arguments: Key, console: &Console) -> Result<(), Failure> {
    let (store, keys) = server::open_to_verify(&serve::load(arguments.config)?)?;
    console.line(&crate::audit::log::verifier_key(&store, keys).await?.to_string())
}

/// Needs the database, and the instance key or the log's public key; not a running server.
pub async fn verify(arguments: Verify, console: &Console) -> Result<u8, Failure> {
    let public_key = arguments.public_key.as_deref().map(read_parsed::<VerifierKey>).transpose()?;
    let mut means = Means {
        public_key: public_key.map(|known| known.key),
        checkpoint: arguments.checkpoint.as_deref().map(read_parsed::<Checkpoint>).transpose()?,
        state: arguments.state,
        ..Means::default()
    };
    let store = match &arguments.database {
        Some(url) => Store::open_read_only(url)?,
        None => {
            let (store, keys) = server::open_to_verify(&serve::load(arguments.config)?)?;
            means.keys = Some(keys);
            store
        }
    };
    let report = verify_by(&store, means).await?;
    match console.format {
        Format::Json => console.json(&report)?,
        Format::Table => console.line(&report.to_string())?,
    }
    Ok(if report.is_sound() { Exit::Ok as u8 } else { Exit::Other as u8 })
}

pub(super) fn read_parsed<T>(file: &Path) -> Result<T, Failure>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let refused = |why: String| Failure::new(Exit::Usage, "audit.file", format!("{}: {why}", file.display()));
    let text = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(file),
    };
    let text = text.map_err(|error| refused(error.to_string()))?;
    text.parse().map_err(|error: T::Err| refused(error.to_string()))
}

#[derive(Args)]
pub struct List {
    /// Only this action, such as item.reveal, or a family of them, such as item.
    #[arg(long)]
    action: Option<String>,
    /// Only acts of this member, by e-mail address or id
    #[arg(long)]
    member: Option<String>,
    /// Only events of this item, by id
    #[arg(long)]
    item: Option<Uuid>,
    /// Only events of this vault, by name or id
    #[arg(long)]
    vault: Option<String>,
    #[arg(long)]
    outcome: Option<OutcomeName>,
    /// Only events at or after this time (RFC 3339)
    #[arg(long)]
    after: Option<Timestamp>,
    /// Only events before this time (RFC 3339)
    #[arg(long)]
    before: Option<Timestamp>,
    /// At most so many events
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutcomeName {
    Allowed,
    Refused,
    Failed,
}

pub async fn run(arguments: Arguments, client: &Client, console: &Console) -> Result<(), Failure> {
    match arguments {
        Arguments::List(arguments) => list(arguments, client, console).await,
        Arguments::Export(arguments) => export(arguments, client, console).await,
        Arguments::Checkpoint => console.raw(&client.audit_checkpoint().await?.note),
        Arguments::Prove(Prove { event }) => console.raw(&client.audit_proof(event).await?.proof),
        Arguments::Verify(_) | Arguments::Key(_) | Arguments::CheckProof(_) | Arguments::Reconcile(_) => {
            unreachable!("these need no server")
        }
    }
}

async fn list(list: List, client: &Client, console: &Console) -> Result<(), Failure> {
    let vaults = client.vaults().await?;
    let vault_id = list.vault.as_deref().map(|name| lookup::vault(&vaults, name)).transpose()?.map(|vault| vault.id);
    let members: HashMap<Uuid, String> =
        client.members().await?.into_iter().map(|member| (member.id, member.email)).collect();
    let member_id = list.member.as_deref().map(|member| member_of(&members, member)).transpose()?;
    let mut query = AuditQuery {
        action: list.action,
        member_id,
        item_id: list.item,
        vault_id,
        outcome: list.outcome.map(outcome_of),
        after: list.after,
        before: list.before,
        cursor: None,
        limit: None,
    };
    let mut events: Vec<AuditEvent> = Vec::new();
    while events.len() < list.limit {
        query.limit = Some(u16::try_from(list.limit - events.len()).unwrap_or(200).min(200));
        let page = client.audit(&query).await?;
        events.extend(page.items);
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            break;
        }
    }
    if console.format == Format::Json {
        return console.json(&json!({ "items": events, "next_cursor": query.cursor }));
    }
    let rows = events
        .iter()
        .map(|event| {
            let vault = event.vault_id.map(|id| lookup::vault_name(&vaults, id)).unwrap_or_default();
            vec![
                format!("{:.0}", event.at),
                event.action.clone(),
                outcome_word(event),
                event.member_id.map_or_else(|| "server".to_owned(), |id| name_of(&members, id)),
                vault,
                event.item_id.map(|id| id.to_string()).unwrap_or_default(),
                event.azure_request_id.clone().unwrap_or_default(),
            ]
        })
        .collect();
    console.table(&["Time", "Action", "Outcome", "Who", "Vault", "Item", "Azure request id"], rows)
}

fn member_of(members: &HashMap<Uuid, String>, wanted: &str) -> Result<Uuid, Failure> {
    // The id of a member who has left is in no list, and still in the log.
    if let Ok(id) = wanted.parse() {
        return Ok(id);
    }
    let found = members.iter().find(|(_, email)| email.eq_ignore_ascii_case(wanted));
    found.map(|(id, _)| *id).ok_or_else(|| {
        Failure::new(super::failure::Exit::NotFound, "member.not_found", format!("there is no member {wanted}"))
    })
}

fn name_of(members: &HashMap<Uuid, String>, id: Uuid) -> String {
    members.get(&id).cloned().unwrap_or_else(|| id.to_string())
}

fn outcome_word(event: &AuditEvent) -> String {
    let word = match event.outcome {
        AuditOutcome::Allowed => "allowed",
        AuditOutcome::Refused => "refused",
        AuditOutcome::Failed => "failed",
    };
    match &event.code {
        Some(code) => format!("{word} ({code})"),
        None => word.to_owned(),
    }
}

fn outcome_of(name: OutcomeName) -> AuditOutcome {
    match name {
        OutcomeName::Allowed => AuditOutcome::Allowed,
        OutcomeName::Refused => AuditOutcome::Refused,
        OutcomeName::Failed => AuditOutcome::Failed,
    }
}

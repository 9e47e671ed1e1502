//! `strongroom export`

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;
use strongroom_envelope::Plaintext;

use super::console::{Console, Format, interrupted, printable, secret_from_stdin};
use super::failure::{Exit, Failure};
use super::lookup;
use crate::client::Client;
use crate::counted::counted;
use crate::http::api::types::{ExportFormat, ExportPlan, PlanExport, StartExport, Vault};
use crate::import::{self, FILE_LIMIT};
use crate::secret_text::SecretText;

/// Export your accounts and secrets as a file that other password managers read
///
/// Writes Bitwarden's JSON, encrypted to a passphrase of yours: Bitwarden reads it, and `strongroom import` brings every
/// item back exactly. Without the passphrase nobody opens it, so keep that elsewhere. With --plaintext the file is readable
/// by whoever gets it, and all admins are told. Either way it needs a sign-in of the last 15 minutes, and the audit log
/// says who exported which items.
#[derive(Args)]
#[command(after_help = "Examples:
  strongroom export acme.json
  strongroom export azure.json --vault Azure --passphrase-stdin < passphrase.txt
  strongroom export --dry-run
  strongroom export acme.csv --plaintext csv")]
pub struct Arguments {
    /// The file to write; it must not exist yet
    #[arg(required_unless_present = "dry_run")]
    file: Option<PathBuf>,
    /// Only this vault, by name or id; all that you see something of if absent
    #[arg(long)]
    vault: Option<String>,
    /// Do not encrypt it, and write this format
    #[arg(long, value_name = "FORMAT", conflicts_with = "passphrase_stdin")]
    plaintext: Option<Readable>,
    /// The passphrase is on standard input
    #[arg(long)]
    passphrase_stdin: bool,
    /// Say what would be in it and what would not, and write nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Readable {
    /// Bitwarden's JSON; `strongroom import` brings every item back exactly
    Json,
    /// Bitwarden's CSV; items lose their kinds
    Csv,
}

impl Arguments {
    fn format(&self) -> ExportFormat {
        match self.plaintext {
            None => ExportFormat::EncryptedJson,
            Some(Readable::Json) => ExportFormat::Json,
            Some(Readable::Csv) => ExportFormat::Csv,
        }
    }
}

pub async fn run(arguments: Arguments, client: &Client, console: &Console) -> Result<(), Failure> {
    let format = arguments.format();
    let vaults = client.vaults().await?;
    let vault = arguments.vault.as_deref().map(|wanted| lookup::vault(&vaults, wanted)).transpose()?;
    let vault_id = vault.map(|vault| vault.id);
    let plan = client.plan_export(&PlanExport { vault_id, format }).await?;
    let Some(file) = arguments.file.as_deref().filter(|_| !arguments.dry_run) else {
        return match console.format {
            Format::Json => console.json(&plan),
            Format::Table => lines(&plan, &vaults, "Would export").iter().try_for_each(|line| console.line(line)),
        };
    };
    lines(&plan, &vaults, "Exports").iter().for_each(|line| console.note(line));
    if file.exists() {
        return Err(Failure::usage(format!("{} exists already", file.display())).fix("choose another name"));
    }
    let passphrase = match format.is_encrypted() {
        true => Some(asked(&arguments, console)?),
        false => {
            console.note("\nWARNING: the file is not encrypted. Whoever gets it reads every password in it.");
            None
        }
    };
    let request = StartExport { vault_id, format, passphrase };
    let written = tokio::select! {
        written = write(file, &request, client) => written?,
        // The part that was written goes with the work that wrote it.
        () = interrupted() => return Err(Failure::new(Exit::Other, "interrupted", "stopped; no file was written")),
    };
    let again = read_again(file, &request)?;
    tell(file, &plan, written, again, console)
}

/// The passphrase, typed twice or piped in.
fn asked(arguments: &Arguments, console: &Console) -> Result<SecretText, Failure> {
    if arguments.passphrase_stdin {
        return secret_from_stdin();
    }
    let passphrase = console.ask_secret("Passphrase for the file", "pipe it in and say --passphrase-stdin")?;
    match console.ask_secret("The same again", "pipe it in and say --passphrase-stdin")? == passphrase {
        true => Ok(passphrase),
        false => Err(Failure::usage("the two are not the same")),
    }
}

/// Writes the file under its name when all of it is there, readable by nobody else. Returns its size in bytes.
async fn write(path: &Path, request: &StartExport, client: &Client) -> Result<u64, Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let mut bytes = 0;
    client
        .export(request, |piece| {
            bytes += piece.len() as u64;
            Ok::<_, Failure>(file.write_all(piece)?)
        })
        .await
        .map_err(|failure| {
            failure.fix_or("no file was written; run it again, and look at the vault's key if it stays")
        })?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| Failure::from(error.error))?;
    Ok(bytes)
}

/// How many items the file holds, opened and read as an import would: an export that nobody can read is none. None for a
/// format, or a size, that is not imported.
fn read_again(path: &Path, request: &StartExport) -> Result<Option<u64>, Failure> {
    let bytes = zeroize::Zeroizing::new(std::fs::read(path)?);
    if request.format == ExportFormat::Csv || bytes.len() > FILE_LIMIT {
        return Ok(None);
    }
    let unreadable = |error: import::ImportError| {
        Failure::new(Exit::Other, "export.unreadable", format!("the file was written, but it cannot be read: {error}"))
            .fix("delete it and export again; if it stays, keep the server's log")
    };
    let opened = match &request.passphrase {
        Some(passphrase) => import::unlock(&bytes, passphrase).map_err(unreadable)?,
        None => Plaintext::new(bytes.to_vec()),
    };
    let parsed = import::parse(&opened, import::Format::Bitwarden).map_err(unreadable)?;
    Ok(Some(parsed.drafts.len() as u64))
}

fn tell(file: &Path, plan: &ExportPlan, bytes: u64, again: Option<u64>, console: &Console) -> Result<(), Failure> {
    // Not known of a file that cannot be read again.
    let missing = again.map(|items| plan.items.saturating_sub(items));
    if console.format == Format::Json {
        console.json(&json!({
            "file": file,
            "format": plan.format,
            "bytes": bytes,
            "items": again.unwrap_or(plan.items),
            "missing": missing,
            "read_again": again.is_some(),
            "leaves_out": plan.leaves_out,
            "dark": plan.dark,
            "trashed": plan.trashed,
        }))?;
    } else {
        console.line(&match again {
            Some(items) => format!("\nWrote {}: {}, read again and whole.", file.display(), counted(items, "item")),
            None => format!("\nWrote {}: {bytes} bytes.", file.display()),
        })?;
        if bytes > FILE_LIMIT as u64 {
            console.note(&format!("It is too large for `strongroom import`, which reads {} MiB.", FILE_LIMIT >> 20));
        }
    }
    match (plan.dark.is_empty(), missing.unwrap_or(0)) {
        (true, 0) => Ok(()),
        (true, missing) => {
            let title = format!("{} fewer than planned are in the file", counted(missing, "item"));
            Err(Failure::new(Exit::Other, "export.incomplete", title)
                .fix("damaged, or taken away meanwhile: Activity names them"))
        }
        (false, _) => Err(Failure::new(Exit::KeyUnavailable, "export.incomplete", "vaults are missing in the file")
            .fix("export them once their keys answer: `strongroom export FILE --vault NAME`")),
    }
}

/// What is in it and what is not, in lines.
fn lines(plan: &ExportPlan, vaults: &[Vault], does: &str) -> Vec<String> {
    let name = |id| vaults.iter().find(|vault| vault.id == id).map_or("?".into(), |vault| printable(&vault.name));
    let mut lines = vec![format!("{does} {}:", counted(plan.items, "item"))];
    lines.extend(plan.vaults.iter().map(|vault| format!("  {}: {}", name(vault.vault_id), vault.items)));
    lines.push("Not in the file:".to_owned());
    lines.extend(plan.dark.iter().map(|dark| {
        format!(
            "  {} of {}, whose key does not answer: {}",
            counted(dark.count, "item"),
            name(dark.vault_id),
            dark.title
        )
    }));
    lines.extend(plan.leaves_out.iter().map(|part| match part.starts_with("items in the trash") {
        true => format!("  {} in the trash", counted(plan.trashed, "item")),
        false => format!("  {part}"),
    }));
    lines
}

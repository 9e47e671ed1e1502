//! `strongroom vault credential`

use std::path::PathBuf;

use clap::Args;

use super::{WARNED, print_check, print_checks, read_certificate, shown_warnings, verdict};
use crate::cli::{
    console::{Console, Format, printable, secret_from_stdin},
    failure::Failure,
    lookup,
};
use crate::client::{Client, ClientError};
use crate::http::api::types::{AcceptWarnings, NewCredential, ReplacedCredential};

/// What `--help` shows below the options.
pub const EXAMPLES: &str = "Examples:
  strongroom vault credential Azure --client-secret-stdin \\
      --client-secret-expires 2027-05-01 < new-secret.txt
  strongroom vault credential Azure --client-certificate certificate.pem --everywhere
  strongroom vault credential Azure --expiry-only --client-secret-expires 2027-05-01

The new credential is checked first and has to unwrap the vault's key. Both are held until it has worked again.";

#[derive(Args)]
pub struct Arguments {
    /// Name or id of the vault
    vault: String,
    /// Application (client) ID, if it is of another application than before
    #[arg(long)]
    client_id: Option<String>,
    /// Read the client secret from standard input instead of asking
    #[arg(long)]
    client_secret_stdin: bool,
    /// The day on which the client secret ends, as in 2027-05-01, to be warned in time
    #[arg(long, value_name = "DATE", conflicts_with_all = ["client_certificate", "workload_identity"])]
    client_secret_expires: Option<String>,
    /// A PEM file with an RSA private key and its certificate, instead of a client secret
    #[arg(long, value_name = "FILE", conflicts_with_all = ["client_secret_stdin", "workload_identity"])]
    client_certificate: Option<PathBuf>,
    /// Sign in with the server's own workload identity, instead of a client secret
    #[arg(long, conflicts_with = "client_secret_stdin")]
    workload_identity: bool,
    /// Keep the credential and only note when it ends
    #[arg(long, requires = "client_secret_expires",
          conflicts_with_all = ["client_id", "client_secret_stdin", "client_certificate", "workload_identity", "check"])]
    expiry_only: bool,
    /// Replace it in every vault of the workspace that signs in with it
    #[arg(long)]
    everywhere: bool,
    /// Only check it; change nothing
    #[arg(long)]
    check: bool,
    /// Replace it although checks warn
    #[arg(long)]
    accept_warnings: bool,
}

pub async fn run(arguments: Arguments, client: &Client, console: &Console) -> Result<(), Failure> {
    let vaults = client.vaults().await?;
    let vault = lookup::vault(&vaults, &arguments.vault)?;
    let (check_only, date_only) = (arguments.check, arguments.expiry_only);
    let mut request = arguments.read(console)?;
    if check_only {
        let checks = client.check_credential(vault.id, &request, |check| print_check(check, console)).await?;
        print_checks(&checks, console)?;
        return verdict(&checks.checks);
    }
    let replaced = match client.replace_credential(vault.id, &request).await {
        Err(ClientError::Problem(problem)) if problem.code == WARNED && console.interactive() => {
            for warning in &problem.errors {
                console.note(&printable(&format!("warning: {} ({})", warning.message, warning.field)));
            }
            if !console.confirm("Replace the credential although these warn?")? {
                return Err(Failure::from(*problem));
            }
            request.accept_warnings = shown_warnings(&problem);
            client.replace_credential(vault.id, &request).await?
        }
        replaced => replaced?,
    };
    report(&replaced, date_only, console)
}

fn report(replaced: &ReplacedCredential, date_only: bool, console: &Console) -> Result<(), Failure> {
    if console.format == Format::Json {
        return console.json(replaced);
    }
    let name = printable(&replaced.vault.name);
    console.line(&match date_only {
        true => format!("Noted when the credential of {name} ends."),
        false => format!("{name} has a new credential."),
    })?;
    for other in &replaced.others {
        let name = printable(&other.name);
        match &other.problem {
            None => console.line(&format!("{name} has it too."))?,
            Some(problem) => {
                console.note(&format!("{name} keeps the one before: {} [{}]", printable(&problem.title), problem.code));
            }
        }
    }
    Ok(())
}

impl Arguments {
    /// What is not given is asked for, unless only the date is to be noted.
    fn read(self, console: &Console) -> Result<NewCredential, Failure> {
        let client_certificate = self.client_certificate.as_deref().map(read_certificate).transpose()?;
        let client_secret = if self.expiry_only || self.workload_identity || client_certificate.is_some() {
            None
        } else if self.client_secret_stdin {
            Some(secret_from_stdin()?)
        } else {
            Some(console.ask_secret("Client Secret", "pipe it in and say --client-secret-stdin")?)
        };
        Ok(NewCredential {
            client_id: self.client_id,
            client_secret,
            client_certificate,
            workload_identity: self.workload_identity,
            client_secret_expires: self.client_secret_expires,
            accept_warnings: AcceptWarnings::All(self.accept_warnings),
            everywhere: self.everywhere,
        })
    }
}

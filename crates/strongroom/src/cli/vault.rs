//! `strongroom vault`

mod credential;
mod drill;
mod health;
mod keys;
mod life;

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use serde_json::json;
use zeroize::Zeroizing;

use super::console::{Console, Format, printable, secret_from_stdin};
use super::failure::{Exit, Failure, state_words};
use super::{lookup, moving};
use crate::client::{Client, ClientError};
use crate::http::api::types::{
    AcceptWarnings, AzureKey, Check, CheckStatus, CheckVault, Checks, CreateVault, HealthStatus, JobKind, Problem,
    Strategy, Vault, VaultHealth,
};
use crate::secret_text::SecretText;

/// See, make and check vaults.
#[derive(Subcommand)]
pub enum Arguments {
    /// List the vaults, their strategy and whether their key answers
    #[command(after_help = "Example:\n  strongroom vault list --format json | jq '.items[] | {name, health}'")]
    List,
    /// Make a vault: a Cloud vault, or one under a key in your own Azure Key Vault
    #[command(after_help = "Examples:
  strongroom vault create Team --strategy cloud
  strongroom vault create Azure --strategy azure-external-keys --default \\
      --client-id 11111111-2222-3333-4444-555555555555 --tenant-id 66666666-7777-8888-9999-000000000000 \\
      --vault-url https://contoso.vault.azure.net --vault-key-name strongroom \\
      --client-secret-stdin --client-secret-expires 2027-05-01 < client-secret.txt

Instead of a client secret: --client-certificate certificate.pem, or --workload-identity.")]
    Create(Create),
    /// Check the key of a vault, or a key in Azure before making a vault of it
    ///
    /// Nothing is changed. Ends with 1 if a check fails, and with 5 if the vault's items cannot be read.
    #[command(after_help = "Examples:
  strongroom vault check Azure
  strongroom vault check --client-id 11111111-2222-3333-4444-555555555555 \\
      --tenant-id 66666666-7777-8888-9999-000000000000 \\
      --vault-url https://contoso.vault.azure.net --vault-key-name strongroom")]
    Check(CheckArguments),
    /// Show how a vault's key is: what Azure says of it, when it last answered and how quickly, its quota
    ///
    /// Asks the server what its canaries found; Azure is not asked.
    #[command(after_help = "Examples:
  strongroom vault health Azure
  strongroom vault health Azure --format json | jq .watch.expires")]
    Health {
        /// Name or id of the vault
        vault: String,
    },
    Drill(drill::Arguments),
    /// Move everything in a vault to another vault: re-encrypted, with history and shares
    ///
    /// Reading and writing go on; what is created in the vault meanwhile comes along. Moving out of Azure for a Cloud
    /// vault is for the workspace's Owner, where the vault's policy allows it.
    #[command(after_help = "Examples:
  strongroom vault move Team Azure --dry-run
  strongroom vault move Team Azure --wait")]
    Move(moving::VaultMove),
    /// Rename a vault, make it the default, close, disable or enable it
    #[command(after_help = "Examples:
  strongroom vault edit Team --name Crew --default
  strongroom vault edit Team --state disabled
  strongroom vault edit Azure --may-leave on")]
    Edit(life::Edit),
    /// Take a vault to another key in Azure: another Key Vault, another key, another tenant
    ///
    /// The new key is checked first. A job then brings the vault's keys over; until it is done, both are needed.
    #[command(after_help = "Examples:
  strongroom vault key-vault Azure --check \\
      --vault-url https://fabrikam.vault.azure.net --vault-key-name strongroom
  strongroom vault key-vault Azure \\
      --vault-url https://fabrikam.vault.azure.net --vault-key-name strongroom")]
    KeyVault(life::KeyVault),
    /// Delete an empty vault
    #[command(after_help = "Example:\n  strongroom vault delete Team --name Team")]
    Delete(life::Delete),
    /// Replace what a vault signs in with: another client secret, a certificate, a workload identity
    #[command(after_help = credential::EXAMPLES)]
    Credential(credential::Arguments),
    /// Take the vault's keys to the newest version of the key in Azure: three key operations each, no item touched
    ///
    /// Hygiene after a new key version, not a cure for a compromise: the vault key stays the same.
    #[command(after_help = "Examples:
  strongroom vault rewrap Azure --dry-run
  strongroom vault rewrap --all --wait")]
    Rewrap(keys::Rewrap),
    /// Make a new vault key current and take the data keys to it; what items hold is not touched
    #[command(after_help = "Examples:
  strongroom vault rotate Azure --dry-run
  strongroom vault rotate Azure --wait")]
    Rotate(keys::Change),
    /// After a compromise: a new vault key, new data keys, every item sealed anew, its history included
    #[command(after_help = "Examples:
  strongroom vault reencrypt Azure --dry-run
  strongroom vault reencrypt Azure --wait")]
    Reencrypt(keys::Change),
    /// Show what still needs which key version and generation, and which are safe to disable
    ///
    /// It counts what this instance knows of. Copies of the database that were made elsewhere are not in it.
    #[command(after_help = "Example:\n  strongroom vault census Azure")]
    Census(keys::Which),
    /// Forget an old generation of the vault key that nothing is under any more
    ///
    /// Nothing opens with it after that; earlier copies of the database keep their own.
    #[command(after_help = "Example:\n  strongroom vault retire Azure 1")]
    Retire(keys::Retire),
}

#[derive(Args)]
pub struct Create {
    /// Vault name
    name: String,
    #[arg(long)]
    strategy: StrategyName,
    /// Set as default vault
    #[arg(long)]
    default: bool,
    /// Make it although checks of its key warn
    #[arg(long)]
    accept_warnings: bool,
    #[command(flatten)]
    azure: AzureArguments,
}

#[derive(Args)]
pub struct CheckArguments {
    /// Name or id of an existing vault
    #[arg(conflicts_with = "AzureArguments")]
    vault: Option<String>,
    #[command(flatten)]
    azure: AzureArguments,
}

/// What the dialog *Configure the Azure vault* asks for.
#[derive(Args)]
pub struct AzureArguments {
    /// Application (client) ID of the app registration
    #[arg(long)]
    client_id: Option<String>,
    /// Directory (tenant) ID
    #[arg(long)]
    tenant_id: Option<String>,
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
    /// Vault URI of the Key Vault
    #[arg(long)]
    vault_url: Option<String>,
    /// Name of the key
    #[arg(long)]
    vault_key_name: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StrategyName {
    Cloud,
    AzureExternalKeys,
}

/// The refusal of a vault whose checks only warn.
pub(super) const WARNED: &str = "vault.checks_warned";

pub async fn run(arguments: Arguments, client: &Client, console: &Console, now: Timestamp) -> Result<(), Failure> {
    match arguments {
        Arguments::List => list(client, console).await,
        Arguments::Move(arguments) => moving::vault(arguments, client, console).await,
        Arguments::Rewrap(arguments) => keys::rewrap(arguments, client, console).await,
        Arguments::Rotate(arguments) => keys::change(JobKind::Rotate, arguments, client, console).await,
        Arguments::Reencrypt(arguments) => keys::change(JobKind::Reencrypt, arguments, client, console).await,
        Arguments::Census(which) => keys::census(which, client, console).await,
        Arguments::Retire(arguments) => keys::retire(arguments, client, console).await,
        Arguments::Create(create) => self::create(create, client, console).await,
        Arguments::Check(CheckArguments { vault: Some(vault), .. }) => check_existing(&vault, client, console).await,
        Arguments::Check(CheckArguments { azure, .. }) => check(azure, client, console).await,
        Arguments::Health { vault } => health::run(&vault, client, console).await,
        Arguments::Drill(arguments) => drill::run(arguments, client, console, now).await,
        Arguments::Edit(arguments) => life::edit(arguments, client, console).await,
        Arguments::KeyVault(arguments) => life::key_vault(arguments, client, console).await,
        Arguments::Delete(arguments) => life::delete(arguments, client, console).await,
        Arguments::Credential(arguments) => credential::run(arguments, client, console).await,
    }
}

async fn list(client: &Client, console: &Console) -> Result<(), Failure> {
    let vaults = client.vaults().await?;
    if console.format == Format::Json {
        return console.json(&json!({ "items": vaults }));
    }
    let rows = vaults
        .iter()
        .map(|vault| {
            vec![
                vault.name.clone(),
                if vault.default { "default".to_owned() } else { String::new() },
                strategy_name(vault.strategy).to_owned(),
                key_name(vault),
                credential_word(vault),
                health_word(&vault.health),
                vault.item_count.map_or_else(String::new, |count| count.to_string()),
                vault.id.to_string(),
            ]
        })
        .collect();
    console.table(&["Name", "", "Strategy", "Key", "Credential", "Status", "Items", "ID"], rows)?;
    for vault in &vaults {
        if let Some(failure) = unavailable(vault) {
            console.note(&format!("\n{}", failure.text().replacen("error", &printable(&vault.name), 1)));
        }
    }
    Ok(())
}

async fn create(arguments: Create, client: &Client, console: &Console) -> Result<(), Failure> {
    let (strategy, azure) = match arguments.strategy {
        StrategyName::Cloud if arguments.azure.is_given() => {
            return Err(Failure::usage("a Cloud vault takes no Azure key")
                .fix("leave the Azure options out, or say --strategy azure-external-keys"));
        }
        StrategyName::Cloud => (Strategy::Cloud, None),
        StrategyName::AzureExternalKeys => (Strategy::AzureExternalKeys, Some(arguments.azure.read(console)?)),
    };
    let Create { name, default, accept_warnings, .. } = arguments;
    let accept_warnings = AcceptWarnings::All(accept_warnings);
    let mut request = CreateVault { name, strategy, default, azure, accept_warnings };
    let vault = match client.create_vault(&request).await {
        Err(ClientError::Problem(problem)) if problem.code == WARNED && console.interactive() => {
            for warning in &problem.errors {
                console.note(&printable(&format!("warning: {} ({})", warning.message, warning.field)));
            }
            if !console.confirm("Make the vault although these warn?")? {
                return Err(Failure::from(*problem));
            }
            request.accept_warnings = shown_warnings(&problem);
            client.create_vault(&request).await?
        }
        made => made?,
    };
    match console.format {
        Format::Json => console.json(&vault),
        Format::Table => console.line(&format!("Created vault {} ({}).", printable(&vault.name), vault.id)),
    }
}

/// The warnings that were shown.
pub(super) fn shown_warnings(problem: &Problem) -> AcceptWarnings {
    AcceptWarnings::Lines(problem.errors.iter().map(|warning| warning.field.clone()).collect())
}

async fn check(arguments: AzureArguments, client: &Client, console: &Console) -> Result<(), Failure> {
    let request = CheckVault { azure: arguments.read(console)? };
    let checks = client.check_azure(&request, |check| print_check(check, console)).await?;
    print_checks(&checks, console)?;
    verdict(&checks.checks)
}

/// Fails if a check failed.
fn verdict(checks: &[Check]) -> Result<(), Failure> {
    let failed = checks.iter().filter(|check| check.status == CheckStatus::Fail).count();
    let proven = |check: &Check| check.code == "key.compare" && check.status == CheckStatus::Pass;
    if failed == 0 && (checks.is_empty() || checks.iter().any(proven)) {
        return Ok(());
    }
    if failed == 0 {
        return Err(Failure::new(
            Exit::Other,
            "vault.check_incomplete",
            "the check did not come as far as a trial wrap",
        )
        .fix("see which line could not be checked, and check again"));
    }
    Err(Failure::new(Exit::Other, "vault.check_failed", format!("{failed} of {} checks failed", checks.len()))
        .fix("mend the first that failed and check again; later ones often follow from it"))
}

/// One check as soon as it is made; as JSON they come in one document at the end.
fn print_check(check: &Check, console: &Console) {
    if console.format == Format::Json {
        return;
    }
    let time = check.ms.filter(|ms| *ms > 0).map(|ms| format!("  {ms} ms")).unwrap_or_default();
    let mut text = format!("{:<9}  {:<24}  {}{time}", status_word(check.status), check.code, check.title);
    // Every command has a line of its own, to be copied.
    let command = check.command.as_deref().map(|command| format!(" Run: {command}")).unwrap_or_default();
    let own_line = check.command.as_deref().map(|command| format!("\n{command}")).unwrap_or_default();
    let fix = check.fix.as_deref().map(|fix| fix.replacen(&command, &own_line, 1));
    let azure = check.azure_request_id.as_ref().filter(|_| check.status != CheckStatus::Pass);
    let azure = azure.map(|id| format!("Azure request id: {id}"));
    let reason = check.reason.as_ref().map(|reason| format!("[{reason}]"));
    let cause = check.cause.as_ref().map(|cause| [cause.as_str(), reason.as_deref().unwrap_or_default()].join(" "));
    let told: Vec<String> = [cause, fix, azure].into_iter().flatten().collect();
    for told in told.iter().flat_map(|told| told.lines()) {
        text.push_str("\n           ");
        text.push_str(&printable(told.trim_end()));
    }
    // Whoever pipes the lines away sees the verdict in the exit status.
    let _ = console.line(&text);
}

fn print_checks(checks: &Checks, console: &Console) -> Result<(), Failure> {
    match console.format {
        Format::Json => console.json(checks),
        Format::Table => Ok(()),
    }
}

/// Checks a vault that there is. One whose items cannot be read ends with that, rather than with the failed check.
async fn check_existing(wanted: &str, client: &Client, console: &Console) -> Result<(), Failure> {
    let vaults = client.vaults().await?;
    let vault = lookup::vault(&vaults, wanted)?;
    let checks = match vault.strategy {
        Strategy::AzureExternalKeys => client.check_vault(vault.id, |check| print_check(check, console)).await?,
        // The server holds the key itself; there is nobody to ask.
        Strategy::Cloud => Checks { checks: Vec::new() },
    };
    match (vault.strategy, console.format) {
        (Strategy::Cloud, Format::Table) => {
            console.line(&format!("{}: {}", printable(&vault.name), health_word(&vault.health)))?;
        }
        _ => print_checks(&checks, console)?,
    }
    unavailable(vault).map_or_else(|| verdict(&checks.checks), Err)
}

/// Why a vault's items cannot be read, or may soon not be.
fn unavailable(vault: &Vault) -> Option<Failure> {
    let health = &vault.health;
    if matches!(health.status, HealthStatus::Healthy | HealthStatus::Unknown) {
        return None;
    }
    let code = health.code.as_deref().unwrap_or("key.unavailable");
    let mut failure = Failure::new(Exit::KeyUnavailable, code, health.title.as_deref().unwrap_or(code));
    failure.state = health.state.clone();
    failure.recoverable_until = health.recoverable_until;
    failure.detail = health.detail.clone();
    failure.fix = health.fix.clone();
    failure.azure_request_id = health.azure_request_id.clone();
    Some(failure)
}

impl AzureArguments {
    fn is_given(&self) -> bool {
        self.client_secret_stdin
            || self.workload_identity
            || self.client_certificate.is_some()
            || self.client_secret_expires.is_some()
            || [&self.client_id, &self.tenant_id, &self.vault_url, &self.vault_key_name].iter().any(|one| one.is_some())
    }

    /// The values of the connection. What is not given is asked for: the client secret too, unless it is piped in or
    /// another credential takes its place.
    fn read(self, console: &Console) -> Result<AzureKey, Failure> {
        let ask = |value: Option<String>, label: &str, option: &str| match value {
            Some(value) => Ok(value),
            None => console.ask(label, &format!("give {option}")),
        };
        let client_id = ask(self.client_id, "Client ID", "--client-id")?;
        let tenant_id = ask(self.tenant_id, "Tenant ID", "--tenant-id")?;
        let vault_url = ask(self.vault_url, "Vault URL", "--vault-url")?;
        let vault_key_name = ask(self.vault_key_name, "Vault Key Name", "--vault-key-name")?;
        let client_certificate = self.client_certificate.as_deref().map(read_certificate).transpose()?;
        let client_secret = if self.workload_identity || client_certificate.is_some() {
            None
        } else if self.client_secret_stdin {
            Some(secret_from_stdin()?)
        } else {
            Some(console.ask_secret("Client Secret", "pipe it in and say --client-secret-stdin")?)
        };
        Ok(AzureKey {
            client_id,
            tenant_id,
            client_secret,
            client_certificate,
            workload_identity: self.workload_identity,
            client_secret_expires: self.client_secret_expires,
            vault_url,
            vault_key_name,
        })
    }
}

/// The text of a PEM file; what it holds is the server's to judge.
fn read_certificate(path: &Path) -> Result<SecretText, Failure> {
    let bytes = Zeroizing::new(fs::read(path).map_err(|error| {
        Failure::new(Exit::Other, "file.unreadable", format!("cannot read {}: {error}", path.display()))
    })?);
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        Failure::usage(format!("{} is not PEM text", path.display()))
            .fix("turn a PFX file into PEM: openssl pkcs12 -in FILE.pfx -nodes -out certificate.pem")
    })?;
    Ok(SecretText::from(text))
}

fn strategy_name(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Cloud => "Cloud vault",
        Strategy::AzureExternalKeys => "Azure External Keys",
    }
}

/// `contoso.vault.azure.net/strongroom`
fn key_name(vault: &Vault) -> String {
    let host = |url: &str| url.trim_start_matches("https://").trim_end_matches('/').to_owned();
    vault.key.as_ref().map(|key| format!("{}/{}", host(&key.vault_url), key.vault_key_name)).unwrap_or_default()
}

/// `secret until 2027-05-01`
fn credential_word(vault: &Vault) -> String {
    let Some(key) = &vault.key else { return String::new() };
    let until = key.credential_expires.map(|end| format!(" until {}", end.strftime("%F"))).unwrap_or_default();
    format!("{}{until}", key.credential_kind.title().to_lowercase())
}

fn health_word(health: &VaultHealth) -> String {
    let word = match health.status {
        HealthStatus::Healthy => "healthy",
        HealthStatus::Dark => "dark",
        HealthStatus::Outage => "outage",
        HealthStatus::Fault => "fault",
        HealthStatus::Unknown => "unknown",
    };
    match &health.state {
        Some(state) => format!("{word} ({})", state_words(state, health.recoverable_until)),
        None => word.to_owned(),
    }
}

fn status_word(status: CheckStatus) -> &'static str {
    match status {
        CheckStatus::Pass => "pass",
        CheckStatus::Warn => "warn",
        CheckStatus::Fail => "FAIL",
        CheckStatus::Skipped => "skipped",
        CheckStatus::CouldNotCheck => "not known",
    }
}

//! `strongroom azure setup`: the command line of `azure_setup`.

mod finish;
mod report;
mod sign_in;
mod wishes;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use serde_json::json;

use self::{
    finish::Finish,
    report::Report,
    wishes::{AtHand, CredentialKind, Wishes},
};
use super::{
    console::{Console, Format, printable},
    failure::{Exit, Failure},
    session::{Given, connect},
};
use crate::{
    azure_setup::{self, Event, Mode, NewSecret, Place, Plan, State, Stopped},
    client::Client as StrongroomClient,
};

/// Set up Azure for a vault with the strategy Azure External Keys.
#[derive(Subcommand)]
pub enum Arguments {
    /// Make what a vault needs in Azure: identity, Key Vault, key, and the right to use that one key
    ///
    /// Looks for each thing first and makes only what is missing, so that it can be run again at any time: nothing that
    /// is there is changed. You sign in as yourself; what you need there is in docs/azure-setup.md.
    #[command(after_help = "Examples:
  strongroom azure setup --key-vault contoso-keys --location westeurope --dry-run
  strongroom azure setup --key-vault contoso-keys --location westeurope --vault-name Azure
  strongroom azure setup --key-vault contoso-keys --location westeurope --secret-file client-secret.txt
  strongroom azure setup --key-vault contoso-keys --location westeurope --hsm --credential certificate
  strongroom azure setup --key-vault contoso-keys --location westeurope --credential workload-identity \\
      --issuer https://token.example.com --subject system:serviceaccount:strongroom:server
  strongroom azure setup --key-vault contoso-keys --location westeurope --print az > setup.sh")]
    Setup(Box<Setup>),
}

#[derive(Args)]
pub struct Setup {
    #[command(flatten)]
    things: Things,
    #[command(flatten)]
    credential: CredentialArguments,
    #[command(flatten)]
    sign_in: sign_in::Arguments,
    #[command(flatten)]
    vault: VaultArguments,
    /// Say each request and what it would find or make; send only those that read
    #[arg(long, conflicts_with = "print")]
    dry_run: bool,
    /// Print a script that does the same with the Azure CLI, and do nothing
    #[arg(long, value_name = "TOOL")]
    print: Option<Tool>,
    /// Do not ask before making what is missing
    #[arg(long)]
    yes: bool,
}

/// What to make in Azure, and what to call it.
#[derive(Args)]
struct Things {
    /// Name of the Key Vault: 3 to 24 letters, digits and hyphens, unique in all of Azure
    #[arg(long, value_name = "NAME", help_heading = "What to make")]
    key_vault: String,
    /// Azure region of the Key Vault, near the server: westeurope, eastus …
    #[arg(long, value_name = "REGION", help_heading = "What to make")]
    location: String,
    /// Name of the application in Entra ID
    #[arg(long, value_name = "NAME", default_value = "Strongroom", help_heading = "What to make")]
    application: String,
    /// An application that exists already, by its Application (client) ID
    #[arg(long, value_name = "GUID", conflicts_with = "application", help_heading = "What to make")]
    client_id: Option<String>,
    /// Resource group of the Key Vault
    #[arg(long, value_name = "NAME", default_value = "strongroom", help_heading = "What to make")]
    resource_group: String,
    /// Name of the key
    #[arg(long, value_name = "NAME", default_value = "strongroom", help_heading = "What to make")]
    key: String,
    /// The key in a hardware security module: RSA-HSM, in a Key Vault of the Premium tier
    #[arg(long, help_heading = "What to make")]
    hsm: bool,
    /// Days that a deleted key or Key Vault can be recovered; cannot be changed later
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(7..=90),
          help_heading = "What to make")]
    retention_days: u32,
}

/// How Strongroom's server will sign in.
#[derive(Args)]
struct CredentialArguments {
    /// How Strongroom's server will sign in to Azure
    #[arg(long, value_name = "KIND", default_value = "secret", help_heading = "Credential")]
    credential: CredentialKind,
    /// PEM file with certificate and private key; made, readable by you only, if it is not there
    #[arg(long, value_name = "FILE", default_value = "strongroom-certificate.pem", help_heading = "Credential")]
    certificate: std::path::PathBuf,
    /// Workload identity: whose tokens count, as the tokens name it
    #[arg(long, value_name = "URL", required_if_eq("credential", "workload-identity"), help_heading = "Credential")]
    issuer: Option<String>,
    /// Workload identity: whom the tokens have to be for
    #[arg(long, required_if_eq("credential", "workload-identity"), help_heading = "Credential")]
    subject: Option<String>,
    /// Make a new client secret even if there is one; the old one goes on working
    #[arg(long, help_heading = "Credential")]
    new_credential: bool,
    /// Keep the client secret in this file, readable by you only, instead of printing it
    #[arg(long, value_name = "FILE", help_heading = "Credential")]
    secret_file: Option<std::path::PathBuf>,
}

/// What to make in Strongroom in the end.
#[derive(Args)]
struct VaultArguments {
    /// Make this vault in Strongroom in the end, if you are signed in there
    #[arg(long, value_name = "NAME", help_heading = "In Strongroom")]
    vault_name: Option<String>,
    /// Set as default vault
    #[arg(long, requires = "vault_name", help_heading = "In Strongroom")]
    default: bool,
    /// Make the vault although checks warn
    #[arg(long, requires = "vault_name", help_heading = "In Strongroom")]
    accept_warnings: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Tool {
    Az,
}

pub async fn run(arguments: Arguments, given: Given, console: &Console, now: Timestamp) -> Result<(), Failure> {
    let Arguments::Setup(setup) = arguments;
    let Wishes { mut plan, mut at_hand } = wishes::wishes(&setup, now)?;
    if let Some(Tool::Az) = setup.print {
        let tenant = setup.sign_in.tenant()?;
        let place = Place { tenant: tenant.as_deref(), subscription: setup.sign_in.subscription() };
        return console.raw(&azure_setup::script(&plan, &place));
    }
    let reach = setup.sign_in.reach()?;
    let report = Report::new(console, setup.dry_run);
    if setup.dry_run {
        let administrator = sign_in::administrator(&setup.sign_in, &reach, console).await?;
        return dry_run(&administrator, &plan, now, &report, console).await;
    }
    if let Some(file) = &setup.credential.secret_file {
        finish::may_keep(file)?;
        if plan.new_credential && setup.credential.credential == CredentialKind::Secret {
            finish::keeps_nothing(file)?;
        }
    }
    may_ask(&setup, console)?;
    let strongroom = strongroom(&setup, given, now, &report).await?;
    // The server has to be given the client secret, and Azure does not show an old one.
    plan.new_credential |= strongroom.is_some() && matches!(at_hand, AtHand::Unknown);
    let administrator = sign_in::administrator(&setup.sign_in, &reach, console).await?;
    if let (AtHand::Secret(..), Some(file)) = (&at_hand, &setup.credential.secret_file) {
        // Azure may have no client secret that works, and make one that would take the place of what is kept there.
        let known = azure_setup::run(&administrator, &plan, Mode::DryRun, now, &|_| {}).await.map_err(stopped)?;
        if known.lines.last().is_none_or(|line| line.state != State::Found) {
            finish::keeps_nothing(file)?;
        }
    }
    confirm(&setup, console)?;
    if setup.credential.credential == CredentialKind::Certificate {
        // Not before the answer: whoever declines is told that nothing was made.
        (plan.credential, at_hand) = wishes::certificate(&setup, now)?;
    }
    let listen = |event: Event<'_>| report.event(&event);
    let outcome = azure_setup::run(&administrator, &plan, Mode::Make, now, &listen).await.map_err(stopped)?;
    let missing = || Failure::new(Exit::Other, "azure.refused", "Azure's answers lack one of the five values");
    let new_credential = outcome.lines.last().is_some_and(|line| line.state == State::Made);
    let at_hand = match outcome.secret {
        None => match at_hand {
            AtHand::Secret(kept, None) => AtHand::Secret(kept, outcome.secret_ends),
            other => other,
        },
        Some(NewSecret { text, key_id, ends }) => {
            if let Some(file) = &setup.credential.secret_file {
                finish::keep_secret(file, &text, console)?;
            } else if strongroom.is_some() {
                // Strongroom is to have it, and nobody else; whoever interrupts the proof has to know what is left.
                let client_id = outcome.client_id.as_deref().unwrap_or_default();
                report.say(&format!(
                    "           it works from now on. If this ends before the vault is made, remove it:\n           \
                     az ad app credential delete --id {client_id} --key-id {key_id}"
                ));
            }
            AtHand::Secret(text, ends)
        }
    };
    let finish = Finish {
        setup: &setup,
        console,
        report: &report,
        lines: &outcome.lines,
        client_id: outcome.client_id.ok_or_else(missing)?,
        tenant_id: administrator.tenant().to_owned(),
        vault_url: outcome.vault_url.ok_or_else(missing)?,
        at_hand,
        new_credential,
    };
    finish.run(&reach, strongroom.as_ref()).await
}

async fn dry_run(
    administrator: &azure_setup::Client,
    plan: &Plan,
    now: Timestamp,
    report: &Report<'_>,
    console: &Console,
) -> Result<(), Failure> {
    let listen = |event: Event<'_>| report.event(&event);
    let outcome = azure_setup::run(administrator, plan, Mode::DryRun, now, &listen).await.map_err(stopped)?;
    if console.format == Format::Json {
        return console.json(&json!({ "steps": outcome.lines }));
    }
    report.say(
        "\nThen the service principal signs in, wraps and unwraps with the key, for up to ten minutes until that works.\n\
         Nothing was changed: only the requests marked \"sent\" were sent.",
    );
    Ok(())
}

/// A script says --yes; a person is asked, once everything is known that the answer depends on.
fn may_ask(setup: &Setup, console: &Console) -> Result<(), Failure> {
    if setup.yes || console.interactive() {
        return Ok(());
    }
    Err(Failure::usage("this makes things in Azure, and there is no terminal to ask on whether it may")
        .fix("say --yes; --dry-run shows what it would make"))
}

fn confirm(setup: &Setup, console: &Console) -> Result<(), Failure> {
    let question =
        "Make what is missing there, and give yourself Key Vault Crypto Officer on the Key Vault if you lack it?";
    if setup.yes || console.confirm(question)? {
        return Ok(());
    }
    Err(Failure::new(Exit::Other, "azure.declined", "nothing was made"))
}

/// The signed-in way to Strongroom, if the vault is wanted there and is not there yet.
async fn strongroom(
    setup: &Setup,
    given: Given,
    now: Timestamp,
    report: &Report<'_>,
) -> Result<Option<StrongroomClient>, Failure> {
    let Some(name) = &setup.vault.vault_name else { return Ok(None) };
    let client = match connect(given, now).await {
        Ok(client) => client,
        Err(failure) if failure.code == "login.missing" => {
            report.say("You are not signed in to Strongroom; the command that makes the vault comes at the end.");
            return Ok(None);
        }
        Err(failure) => return Err(failure),
    };
    let vaults = client.vaults().await?;
    let there = vaults.iter().any(|vault| vault.name.eq_ignore_ascii_case(name));
    if there {
        report.say(&format!("The vault \"{}\" is there in Strongroom already.", printable(name)));
    }
    Ok((!there).then_some(client))
}

fn stopped(stopped: Stopped) -> Failure {
    let exists = report::what_exists(&stopped);
    let mut failure = Failure::from(stopped.error);
    if !failure.title.starts_with(&stopped.thing) {
        failure.title = format!("{}: {}", stopped.thing, failure.title);
    }
    let fix = failure.fix.take().map(|fix| format!("{}\n  ", fix.replace('\n', "\n  "))).unwrap_or_default();
    failure.fix(format!("{fix}{exists}"))
}

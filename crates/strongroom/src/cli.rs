//! The command line: one file a command.

mod admin;
mod audit;
mod azure;
mod backup;
mod console;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
mod env_file;
mod export;
mod failure;
mod import;
mod instance_key;
mod item;
mod job;
mod login;
mod lookup;
mod mask;
mod moving;
mod notices;
mod read;
mod reanchor;
pub mod reference;
mod run;
mod serve;
mod session;
mod store;
mod vault;
mod webhooks;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use jiff::Timestamp;

use crate::client::Client;
use crate::secret_text::SecretText;
use console::{Console, Format};
use failure::{Exit, Failure, PIPE_CLOSED};
use session::{Given, connect};

/// Shared accounts and secrets, encrypted under a key that stays in your own Azure Key Vault
#[derive(Parser)]
#[command(
    name = "strongroom",
    version,
    after_help = "Exit codes: 0 ok, 2 usage, 3 not found, 4 denied, 5 key unavailable, 6 server unreachable, \
                  1 anything else.\n\nExamples:
  strongroom login https://strongroom.example.com
  strongroom item list --search mail
  strongroom read strongroom://Azure/Mail/Password
  strongroom run --env-file .env -- ./deploy"
)]
pub struct Cli {
    /// The server's address
    #[arg(long, global = true, help_heading = "Everywhere", env = "STRONGROOM_URL", value_name = "URL")]
    server: Option<String>,
    /// The workspace; the one you signed in to if absent
    #[arg(long, global = true, help_heading = "Everywhere", env = "STRONGROOM_WORKSPACE", value_name = "SLUG")]
    workspace: Option<String>,
    /// How answers are printed
    #[arg(long, global = true, help_heading = "Everywhere", env = "STRONGROOM_FORMAT", default_value = "table")]
    format: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Login(login::Arguments),
    #[command(subcommand)]
    Vault(vault::Arguments),
    #[command(subcommand)]
    Item(item::Arguments),
    #[command(subcommand)]
    Jobs(job::Arguments),
    Read(read::Arguments),
    Run(run::Arguments),
    Import(import::Arguments),
    Export(export::Arguments),
    #[command(subcommand)]
    Audit(audit::Arguments),
    #[command(subcommand)]
    Notices(notices::Arguments),
    #[command(subcommand)]
    Webhooks(webhooks::Arguments),
    Serve(serve::Arguments),
    Doctor(doctor::Arguments),
    #[command(subcommand)]
    Backup(backup::Arguments),
    Restore(backup::Restore),
    #[command(subcommand)]
    InstanceKey(instance_key::Arguments),
    #[command(subcommand)]
    Store(store::Arguments),
    #[command(subcommand)]
    Azure(azure::Arguments),
    #[command(subcommand)]
    Admin(admin::Arguments),
    #[cfg(feature = "demo")]
    Demo(demo::Arguments),
}

/// Reads the command line, does what it says, and ends with one of the documented exit codes.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let console = Console { format: cli.format };
    // Secrets pass through most commands. Where the system refuses, `doctor` says so.
    let _ = crate::memory::forbid_dumps();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return ExitCode::from(report(&Failure::from(error), &console)),
    };
    let code = runtime.block_on(execute(cli, &console)).unwrap_or_else(|failure| report(&failure, &console));
    // Not waiting: a read of standard input that nobody answers would keep us.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn execute(cli: Cli, console: &Console) -> Result<u8, Failure> {
    let token = std::env::var("STRONGROOM_TOKEN").ok().filter(|token| !token.is_empty()).map(SecretText::from);
    let given = Given { url: filled(cli.server), workspace: filled(cli.workspace), token };
    let now = Timestamp::now();
    let command = match cli.command {
        Command::Login(arguments) => {
            return login::run(arguments, given, console).await.map(|()| Exit::Ok as u8);
        }
        Command::Serve(arguments) => return serve::run(arguments, console).await.map(|()| Exit::Ok as u8),
        Command::Doctor(arguments) => return doctor::run(arguments, console).await,
        Command::Backup(arguments) => return backup::run(arguments, console).await,
        Command::Restore(arguments) => return backup::restore(arguments, console).await,
        Command::InstanceKey(arguments) => {
            return instance_key::run(arguments, console).await.map(|()| Exit::Ok as u8);
        }
        Command::Store(arguments) => return store::run(arguments, console).await,
        Command::Audit(audit::Arguments::Verify(arguments)) => return audit::verify(arguments, console).await,
        Command::Audit(audit::Arguments::Reconcile(arguments)) => return audit::reconcile(arguments, console).await,
        Command::Audit(audit::Arguments::CheckProof(arguments)) => return audit::check_proof(&arguments, console),
        Command::Audit(audit::Arguments::Key(arguments)) => {
            return audit::key(arguments, console).await.map(|()| Exit::Ok as u8);
        }
        Command::Azure(arguments) => return azure::run(arguments, given, console, now).await.map(|()| Exit::Ok as u8),
        Command::Admin(arguments) => return admin::run(arguments, console).await.map(|()| Exit::Ok as u8),
        #[cfg(feature = "demo")]
        Command::Demo(arguments) => return demo::run(arguments, console).await.map(|()| Exit::Ok as u8),
        command => command,
    };
    let client = connect(given, now).await?;
    match command {
        Command::Run(arguments) => run::run(arguments, std::env::vars(), &client, now).await,
        command => with_server(command, &client, console, now).await.map(|()| Exit::Ok as u8),
    }
}

async fn with_server(command: Command, client: &Client, console: &Console, now: Timestamp) -> Result<(), Failure> {
    match command {
        Command::Vault(arguments) => vault::run(arguments, client, console, now).await,
        Command::Item(arguments) => item::run(arguments, client, console).await,
        Command::Jobs(arguments) => job::run(arguments, client, console).await,
        Command::Read(arguments) => read::run(arguments, client, console, now).await,
        Command::Import(arguments) => import::run(arguments, client, console).await,
        Command::Export(arguments) => export::run(arguments, client, console).await,
        Command::Audit(arguments) => audit::run(arguments, client, console).await,
        Command::Notices(arguments) => notices::run(arguments, client, console).await,
        Command::Webhooks(arguments) => webhooks::run(arguments, client, console).await,
        _ => unreachable!("handled before a server was needed"),
    }
}

fn report(failure: &Failure, console: &Console) -> u8 {
    if failure.code != PIPE_CLOSED {
        match (console.format, serde_json::to_string(failure)) {
            (Format::Json, Ok(json)) => console.note(&json),
            _ => console.note(&failure.text()),
        }
    }
    failure.exit as u8
}

/// An empty variable of the environment is none.
fn filled(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    fn refusal(arguments: &[&str]) -> ErrorKind {
        let arguments = [&["strongroom"], arguments].concat();
        Cli::try_parse_from(arguments).err().expect("refused").kind()
    }

    fn taken(arguments: &[&str]) -> Command {
        let arguments = [&["strongroom"], arguments].concat();
        Cli::try_parse_from(arguments).unwrap_or_else(|error| panic!("{error}")).command
    }

    #[test]
    fn the_definition_is_sound_and_every_command_has_examples() {
        Cli::command().debug_assert();
        let mut commands: Vec<clap::Command> = Cli::command().get_subcommands().cloned().collect();
        while let Some(command) = commands.pop() {
            assert!(command.get_about().is_some(), "{} says nothing about itself", command.get_name());
            commands.extend(command.get_subcommands().cloned());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(command.has_subcommands() || help.contains("strongroom "), "{} has no example", command.get_name());
        }
    }

    #[test]
    fn no_option_takes_a_secret() {
        for option in ["--password", "--client-secret", "--token", "--code", "--value"] {
            assert_eq!(refusal(&["login", option, "x"]), ErrorKind::UnknownArgument, "{option}");
            assert_eq!(refusal(&["vault", "check", option, "x"]), ErrorKind::UnknownArgument, "{option}");
            assert_eq!(refusal(&["item", "create", "T", option, "x"]), ErrorKind::UnknownArgument, "{option}");
        }
    }

    #[test]
    fn the_commands_of_the_help_are_taken() {
        assert!(matches!(taken(&["vault", "list", "--format", "json"]), Command::Vault(_)));
        assert!(matches!(taken(&["vault", "check", "Azure"]), Command::Vault(_)));
        assert!(matches!(taken(&["item", "create", "Mail", "--field", "Password"]), Command::Item(_)));
        assert!(matches!(taken(&["item", "create", "--from", "-", "--vault", "Azure"]), Command::Item(_)));
        assert!(matches!(taken(&["read", "-n", "strongroom://a/b/c"]), Command::Read(_)));
        assert!(matches!(taken(&["run", "--env-file", ".env", "--", "ls", "--format"]), Command::Run(_)));
        assert!(matches!(taken(&["import", "-", "--from", "chrome", "--dry-run"]), Command::Import(_)));
        assert!(matches!(taken(&["audit", "list", "--after", "2026-11-01T00:00:00Z"]), Command::Audit(_)));
    }

    #[test]
    fn wrong_use_is_refused_with_code_two() {
        assert_eq!(refusal(&["item", "create"]), ErrorKind::MissingRequiredArgument);
        assert_eq!(refusal(&["item", "create", "T", "--from", "-"]), ErrorKind::ArgumentConflict);
        assert_eq!(refusal(&["vault", "check", "Azure", "--client-id", "x"]), ErrorKind::ArgumentConflict);
        assert_eq!(refusal(&["read", "op://a/b/c"]), ErrorKind::ValueValidation);
        assert_eq!(refusal(&["run", "ls"]), ErrorKind::UnknownArgument);
        assert_eq!(refusal(&["--format", "xml", "vault", "list"]), ErrorKind::InvalidValue);
        let error = Cli::try_parse_from(["strongroom", "read"]).err().expect("refused");
        assert_eq!(error.exit_code(), Exit::Usage as i32);
    }
}

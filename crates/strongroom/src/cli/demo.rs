//! `strongroom demo`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    console::Console,
    failure::{Exit, Failure},
    serve,
};
use crate::demo::{self, KeyCommand, Options};

/// Show everything on this machine: a server, and a stand-in for Azure with the key that protects it
///
/// Nothing leaves the machine. Ctrl-C ends it; the same command goes on where it stopped.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  strongroom demo
  strongroom demo --fresh --port 9000
  strongroom demo key disable
  strongroom demo key enable"
)]
pub struct Arguments {
    #[command(flatten)]
    options: Flags,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Args)]
struct Flags {
    /// The folder in which the demo lives
    #[arg(long, default_value = "strongroom-demo")]
    dir: PathBuf,
    /// Throw away an earlier demo and start over
    #[arg(long)]
    fresh: bool,
    /// The server's port; the stand-in takes the two after it
    #[arg(long, default_value_t = 8470)]
    port: u16,
}

#[derive(Subcommand)]
enum Action {
    /// Act on the demo's key, as its Azure administrator
    Key {
        #[command(subcommand)]
        action: KeyAction,
    },
}

#[derive(Subcommand)]
enum KeyAction {
    /// Switch every version of the key off: the vault goes dark
    #[command(after_help = "Example:\n  strongroom demo key disable")]
    Disable(Place),
    /// Switch all of them on again
    #[command(after_help = "Example:\n  strongroom demo key enable")]
    Enable(Place),
    /// Make a new key version
    #[command(after_help = "Example:\n  strongroom demo key rotate")]
    Rotate(Place),
    /// What Azure says of the key
    #[command(after_help = "Example:\n  strongroom demo key status")]
    Status(Place),
}

#[derive(Args)]
struct Place {
    /// The folder of the running demo
    #[arg(long, default_value = "strongroom-demo")]
    dir: PathBuf,
}

pub async fn run(arguments: Arguments, console: &Console) -> Result<(), Failure> {
    let Some(Action::Key { action }) = arguments.action else {
        serve::start_logging("warn");
        let Flags { dir, fresh, port } = arguments.options;
        let say = |text: &str| console.note(text);
        return Ok(demo::run(&Options { dir, fresh, port }, &say, serve::stopped()).await?);
    };
    let (command, place) = match action {
        KeyAction::Disable(place) => (KeyCommand::Disable, place),
        KeyAction::Enable(place) => (KeyCommand::Enable, place),
        KeyAction::Rotate(place) => (KeyCommand::Rotate, place),
        KeyAction::Status(place) => (KeyCommand::Status, place),
    };
    let said = demo::key(&place.dir, command).await.map_err(|error| {
        let failure = Failure::from(error);
        if failure.exit == Exit::Other { failure.fix_or("Is the demo running?") } else { failure }
    })?;
    console.line(&said)
}

//! `strongroom admin`: what only whoever runs the server may do, on the server.

use std::{path::PathBuf, sync::Arc};

use clap::Subcommand;
use strongroom_envelope::SystemRandom;

use super::{console::Console, failure::Failure, serve};
use crate::{clock::SystemClock, server};

/// What only whoever runs the server may do, on the server itself
#[derive(Subcommand)]
pub enum Arguments {
    /// Make an instance key for a server that has none yet, readable by its owner only
    ///
    /// The first start makes one by itself. This is for where the server may not write it, as with a systemd credential or a
    /// secret of a container. It replaces no file.
    #[command(after_help = "Example:\n  sudo strongroom admin new-instance-key /etc/strongroom/instance.key")]
    NewInstanceKey {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print a one-time link with which a member sets a new password; it works for 60 minutes
    ///
    /// With SQLite, stop the server first: one process at a time opens the database.
    #[command(after_help = "Example:\n  strongroom admin reset-link ada@example.com")]
    ResetLink {
        email: String,
        /// The server's configuration file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

pub async fn run(arguments: Arguments, console: &Console) -> Result<(), Failure> {
    match arguments {
        Arguments::NewInstanceKey { file } => {
            let id = server::instance::make(&file, &SystemRandom::new())?;
            console.line(&format!("Instance key {id} lies in {}. Keep an offline copy of it.", file.display()))
        }
        Arguments::ResetLink { email, config } => {
            let config = serve::load(config)?;
            let opened =
                server::open_for_command(&config, Arc::new(SystemClock), Arc::new(SystemRandom::new())).await?;
            let link = opened.app.reset_link(&email).await?;
            console.line(link.url.expose())
        }
    }
}

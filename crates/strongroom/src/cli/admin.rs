//! `strongroom admin`: what only whoever runs the server may do, on the server.

use std::{path::PathBuf, sync::Arc};

use clap::Subcommand;
use strongroom_envelope::SystemRandom;

use super::{console::Console, failure::Failure, serve};
use crate::{clock::SystemClock, server};

/// Help members back in, on the server itself
#[derive(Subcommand)]
pub enum Arguments {
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
    let Arguments::ResetLink { email, config } = arguments;
    let config = serve::load(config)?;
    let opened = server::open(&config, Arc::new(SystemClock), Arc::new(SystemRandom::new())).await?;
    let link = opened.app.reset_link(&email).await?;
    console.line(link.url.expose())
}

//! `strongroom serve`

use std::{io::IsTerminal, path::PathBuf, sync::Arc};

use clap::Args;
use rustix::fs::Mode;
use strongroom_envelope::SystemRandom;
use tracing_subscriber::EnvFilter;

use super::{
    console::Console,
    failure::{Exit, Failure},
};
use crate::{
    clock::SystemClock,
    config::{Config, EXAMPLE},
    memory, server,
};

/// Run the server: web app and REST API
///
/// On an empty database it prints a one-time link, good for 15 minutes, to make the workspace and its Owner.
#[derive(Args)]
#[command(after_help = "Examples:
  strongroom serve
  strongroom serve --print-config > strongroom.toml
  strongroom serve --config /etc/strongroom/strongroom.toml")]
pub struct Arguments {
    /// The configuration file; strongroom.toml in this folder if absent
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the example configuration, with every key and its default, and end
    #[arg(long)]
    print_config: bool,
}

pub async fn run(arguments: Arguments, console: &Console) -> Result<(), Failure> {
    if arguments.print_config {
        return console.raw(EXAMPLE);
    }
    start_logging("warn,strongroom=info");
    keep_to_itself();
    let config = load(arguments.config)?;
    let listener = server::listen(config.server.listen).await?;
    let _node = server::hold_node(&config)?;
    let opened = server::open(&config, Arc::new(SystemClock), Arc::new(SystemRandom::new())).await?;
    for notice in &opened.notices {
        console.note(notice);
    }
    if let Some(link) = opened.app.setup_link().await? {
        console.note("No workspace yet. Make it, and its Owner, with this link; it works once, for 15 minutes:");
        console.note(link.url.expose());
    }
    console.note(&format!(
        "Strongroom serves {} from {}",
        opened.app.settings.public_url,
        opened.app.store.engine_name()
    ));
    let (engine, node) = (opened.app.store.engine_name(), opened.app.node);
    tracing::info!(listen = %config.server.listen, engine, %node, build = env!("CARGO_PKG_VERSION"), "serving");
    if let Some(address) = config.server.metrics_listen {
        let app = Arc::clone(&opened.app);
        tokio::spawn(async move {
            if let Err(error) = server::metrics::serve(app, address).await {
                tracing::error!(%error, "/metrics is not served");
            }
        });
    }
    Ok(server::serve(opened.app, listener, server::Tls::of(&config), stopped()).await?)
}

/// What the server writes and holds is nobody else's.
fn keep_to_itself() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let core_dumps = if memory::dumps_are_forbidden() { "forbidden" } else { "possible" };
    match memory::lock() {
        Ok(()) => tracing::info!(core_dumps, memory = "locked", "guarded"),
        Err(why) => tracing::info!(core_dumps, memory = "not locked", %why, "guarded"),
    }
}

/// The configuration that `serve` and `admin` share.
pub fn load(file: Option<PathBuf>) -> Result<Config, Failure> {
    Config::load(file.as_deref(), std::env::vars())
        .map_err(|error| Failure::new(Exit::Usage, "config", error.to_string()))
}

/// Ends on Ctrl-C and on SIGTERM.
pub async fn stopped() {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(_) => return std::future::pending().await,
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// `STRONGROOM_LOG` filters as tracing's `EnvFilter` does; JSON lines with `STRONGROOM_LOG_FORMAT=json`.
pub fn start_logging(default: &str) {
    let filter = EnvFilter::try_from_env("STRONGROOM_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let colours = std::io::stderr().is_terminal();
    // A line that cannot be written (a full disk, a pipe whose reader is gone) is dropped. By default that would be
    // complained of on the same standard error, by a macro that panics: whichever task logs would end.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    // A second start in one process (tests) keeps the first one's.
    let _ = if std::env::var("STRONGROOM_LOG_FORMAT").is_ok_and(|format| format == "json") {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.try_init()
    };
}

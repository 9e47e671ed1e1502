//! `strongroom doctor`

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use serde_json::json;
use strongroom_envelope::SystemRandom;

use super::console::{Console, Format, printable};
use super::failure::{Exit, Failure};
use super::serve;
use crate::clock::SystemClock;
use crate::doctor::{self, Line, Status};

/// Look at everything the server stands on: process, files, key, database, disk, clock, backups, every vault's key
///
/// Runs on the server's machine as the server's user, whether the server runs or not. It writes nothing, and uses no key in
/// Azure. Ends with 1 if a line fails.
#[derive(Args)]
#[command(after_help = "Examples:
  strongroom doctor
  sudo -u strongroom strongroom doctor --config /etc/strongroom/strongroom.toml
  strongroom doctor --format json")]
pub struct Arguments {
    /// The server's configuration file; strongroom.toml in this folder if absent
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub async fn run(arguments: Arguments, console: &Console) -> Result<u8, Failure> {
    let config = serve::load(arguments.config)?;
    let tell = |line: &Line| {
        if console.format == Format::Table {
            // A closed output ends nothing: the exit code still tells.
            let _ = console.line(&text(line));
        }
    };
    let lines = doctor::examine(&config, Arc::new(SystemClock), Arc::new(SystemRandom::new()), &tell).await;
    let sound = doctor::is_sound(&lines);
    if console.format == Format::Json {
        console.json(&json!({ "sound": sound, "lines": lines }))?;
    }
    Ok(if sound { Exit::Ok as u8 } else { Exit::Other as u8 })
}

/// What, why, what to do.
fn text(line: &Line) -> String {
    let mut text = format!("{:<8}{}", line.status.word(), line.title);
    let more = |text: &mut String, words: &str| {
        for words in words.lines() {
            *text += &format!("\n        {words}");
        }
    };
    if !line.why.is_empty() {
        more(&mut text, &line.why);
    }
    if let Some(fix) = line.fix.as_ref().filter(|_| line.status != Status::Pass) {
        more(&mut text, &format!("what to do: {fix}"));
    }
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

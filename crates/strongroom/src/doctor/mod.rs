//! `strongroom doctor`: looks at everything that the server stands on, from where it stands, beside it or in its place:
//! the process, its files, the instance key, the database, the disk, the clock, backups, checkpoints, and every vault's key. It writes nothing,
//! and wraps and unwraps nothing at a Key Vault.

mod database;
mod files;
mod kept;
mod process;
mod vaults;

use std::sync::Arc;

use serde::Serialize;
use strongroom_envelope::{InstanceKeys, Random};

use crate::{clock::Clock, config::Config, server, store::Store};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Stable, as in `disk.free`.
    pub code: &'static str,
    pub title: String,
    pub status: Status,
    /// What was seen, and why it matters where it is not well.
    pub why: String,
    /// What to do; None where nothing is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Pass,
    /// It works, and may hurt later.
    Warn,
    /// The server does not work, or not safely.
    Fail,
    /// It was not looked at: something before it failed, or it has no meaning here.
    Skipped,
}

impl Status {
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skipped => "skipped",
        }
    }
}

impl Line {
    fn new(code: &'static str, title: impl Into<String>, status: Status, why: impl Into<String>) -> Self {
        Self { code, title: title.into(), status, why: why.into(), fix: None }
    }

    fn pass(code: &'static str, title: impl Into<String>, seen: impl Into<String>) -> Self {
        Self::new(code, title, Status::Pass, seen)
    }

    fn skipped(code: &'static str, title: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(code, title, Status::Skipped, why)
    }

    fn warn(code: &'static str, title: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..Self::new(code, title, Status::Warn, why) }
    }

    fn fail(code: &'static str, title: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..Self::new(code, title, Status::Fail, why) }
    }

    fn of(code: &'static str, title: impl Into<String>, error: &crate::error::Error) -> Self {
        Self::fail(code, title, error.to_string(), error.fix())
    }
}

/// Looks at all of it; `tell` gets each line as soon as it is known.
pub async fn examine(
    config: &Config,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    tell: &dyn Fn(&Line),
) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut say = |found: Vec<Line>| {
        found.iter().for_each(tell);
        lines.extend(found);
    };
    say(process::look());
    say(files::look(config));
    let (key, keys) = instance_key(config, random.as_ref());
    say(vec![key]);
    let (found, readable) = database::look(config, keys.as_deref(), clock.as_ref()).await;
    say(found);
    say(vec![files::disk(config)]);
    match keys.filter(|_| readable) {
        Some(keys) => match Store::open_read_only(&server::database_url(config)) {
            Ok(store) => {
                let store = Arc::new(store);
                say(kept::look(config, &store, clock.as_ref()).await);
                say(vaults::look(config, store, keys, clock, random).await);
            }
            Err(error) => say(vec![Line::of("vault.keys", "Vaults can be read", &error)]),
        },
        None => {
            say(vec![Line::skipped("vault.keys", "Vaults can be read", "The lines above have to be mended first.")])
        }
    }
    lines
}

/// Whether there is nothing that keeps the server from working.
pub fn is_sound(lines: &[Line]) -> bool {
    lines.iter().all(|line| line.status != Status::Fail)
}

fn instance_key(config: &Config, random: &dyn Random) -> (Line, Option<Arc<InstanceKeys>>) {
    const CODE: &str = "instance_key";
    const TITLE: &str = "Instance key can be used";
    match server::instance_keys(config, random) {
        Ok(loaded) if loaded.unsaved.is_some() => {
            let why = format!("There is none in {} yet.", loaded.origin);
            let fix = "The first start of the server makes it. If it was there before, put it back from its offline \
                       copy instead.";
            (Line::warn(CODE, TITLE, why, fix), None)
        }
        Ok(loaded) => {
            let others = loaded.keys.iter().count() - 1;
            let older = if others > 0 { format!(", and {others} older") } else { String::new() };
            let seen = format!("{}{older}, from {}.", loaded.keys.current().id(), loaded.origin);
            (Line::pass(CODE, TITLE, seen), Some(Arc::new(loaded.keys)))
        }
        Err(error) => (Line::of(CODE, TITLE, &error), None),
    }
}

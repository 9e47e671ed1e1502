//! The database: whether it answers, is ours, takes writes, and has the same time.

use std::time::Duration;

use jiff::SignedDuration;
use strongroom_envelope::InstanceKeys;

use super::Line;
use crate::{
    clock::Clock,
    config::{Config, DatabaseUrl},
    error::Error,
    server,
    store::{Probe, SCHEMA, Store, StoreError},
};

/// Jobs' leases and denial marks are compared between nodes by the clock.
const MOST_SKEW: SignedDuration = SignedDuration::from_secs(5);
/// A database that answers no more within this time answers nobody.
const PATIENCE: Duration = Duration::from_secs(15);

const ANSWERS: (&str, &str) = ("database.answers", "Database answers");
const SCHEMA_FITS: (&str, &str) = ("database.schema", "Schema is the one of this program");
const WRITABLE: (&str, &str) = ("database.writable", "Database takes writes");
const CLOCK: (&str, &str) = ("database.clock", "Clock agrees with the database's");
const OURS: (&str, &str) = ("database.instance_key", "Instance key is the one of this database");

/// The lines, and whether the vaults in it can be read.
pub(super) async fn look(config: &Config, keys: Option<&InstanceKeys>, clock: &dyn Clock) -> (Vec<Line>, bool) {
    if let DatabaseUrl::Sqlite(path) = &config.database.url
        && !path.exists()
    {
        let why = format!("There is no {} yet.", path.display());
        let fix = "The first start of the server makes it. If it was there before, see that database.url names it.";
        return (vec![Line::warn(ANSWERS.0, ANSWERS.1, why, fix)], false);
    }
    let url = server::database_url(config);
    let begun = clock.since_boot();
    let probe = match tokio::time::timeout(PATIENCE, Store::probe(&url)).await {
        Ok(Ok(probe)) => probe,
        Ok(Err(error @ Error::Store(StoreError::NewerSchema { .. }))) => {
            return (vec![Line::of(SCHEMA_FITS.0, SCHEMA_FITS.1, &error)], false);
        }
        Ok(Err(error)) => return (vec![Line::of(ANSWERS.0, ANSWERS.1, &error)], false),
        Err(_) => {
            let why = format!("It took the connection and did not answer within {} s.", PATIENCE.as_secs());
            return (vec![Line::fail(ANSWERS.0, ANSWERS.1, why, "See what the database waits for.")], false);
        }
    };
    let took = clock.since_boot().saturating_sub(begun);
    let mut lines = vec![Line::pass(ANSWERS.0, ANSWERS.1, format!("Within {} ms.", took.as_millis()))];
    let readable = probe.schema == Some(SCHEMA);
    lines.push(schema(&probe));
    lines.push(match &probe.written {
        Ok(()) if probe.schema.is_none() => Line::skipped(WRITABLE.0, WRITABLE.1, "It has no tables yet."),
        Ok(()) => Line::pass(WRITABLE.0, WRITABLE.1, "A trial was written and taken back."),
        Err(error) => Line::fail(WRITABLE.0, WRITABLE.1, format!("A trial was refused: {error}."), error.fix()),
    });
    lines.push(time(&probe, clock));
    if readable {
        lines.push(ours(&url, keys).await);
    }
    (lines, readable)
}

fn schema(probe: &Probe) -> Line {
    let (code, title) = SCHEMA_FITS;
    match probe.schema {
        Some(SCHEMA) => Line::pass(code, title, format!("Schema {SCHEMA}.")),
        Some(found) => {
            let why = format!("The database has schema {found}; this program brings it to {SCHEMA}.");
            Line::warn(code, title, why, "Make a backup, then start this server once.")
        }
        None => {
            let why = "The database is empty.";
            Line::warn(code, title, why, "The first start of the server makes its tables.")
        }
    }
}

fn time(probe: &Probe, clock: &dyn Clock) -> Line {
    let (code, title) = CLOCK;
    let Some(time) = probe.time else {
        return Line::skipped(code, title, "This database goes by this machine's clock.");
    };
    let skew = clock.now().duration_since(time);
    let seen = format!("{} ms apart.", skew.as_millis().unsigned_abs());
    if skew.abs() <= MOST_SKEW {
        return Line::pass(code, title, seen);
    }
    let why = format!("{seen} Nodes that disagree on the time may take each other's work away too early or too late.");
    Line::warn(code, title, why, "Let all machines set their clocks by NTP: timedatectl set-ntp true")
}

async fn ours(url: &str, keys: Option<&InstanceKeys>) -> Line {
    let (code, title) = OURS;
    let Some(keys) = keys else {
        return Line::skipped(code, title, "There is no instance key to compare.");
    };
    let recorded = match Store::open_read_only(url) {
        Ok(store) => server::recorded_keys(&store).await,
        Err(error) => Err(error),
    };
    match recorded {
        Err(error) => Line::of(code, title, &error),
        Ok(None) => Line::skipped(code, title, "The database has not been used yet."),
        Ok(Some(recorded)) => match recorded.require(keys, false, "the place that is configured") {
            Ok(()) => Line::pass(code, title, format!("{}.", recorded.key)),
            Err(error) => Line::of(code, title, &error),
        },
    }
}

//! What has to be there after a bad day: a backup that is not too old, and checkpoints of the audit log that are kept where
//! the database is not.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Line;
use crate::{backup, clock::Clock, config::Config, counted::counted, error::Result, store::Store};

/// A backup older than this is worth a word.
const OLD_BACKUP: SignedDuration = SignedDuration::from_hours(7 * 24);
/// A server signs a checkpoint each minute in which there was something new.
const OLD_CHECKPOINT: SignedDuration = SignedDuration::from_mins(5);

const BACKUP: (&str, &str) = ("backup.newest", "There is a backup");
const CHECKPOINT: (&str, &str) = ("audit.checkpoint", "Audit log is kept safe by checkpoints");

pub(super) async fn look(config: &Config, store: &Arc<Store>, clock: &dyn Clock) -> Vec<Line> {
    let now = clock.now();
    let backup = match newest_backup(store, now).await {
        Ok(newest) => backup_line(newest, now),
        Err(error) => Line::of(BACKUP.0, BACKUP.1, &error),
    };
    let checkpoint = match log_end(store).await {
        Ok(end) => checkpoint_line(config, &end, now),
        Err(error) => Line::of(CHECKPOINT.0, CHECKPOINT.1, &error),
    };
    vec![backup, checkpoint]
}

async fn newest_backup(store: &Store, now: Timestamp) -> Result<Option<Timestamp>> {
    let known = backup::known(store).await?;
    Ok(known.iter().find(|backup| backup.counts(now)).map(|backup| backup.made_at))
}

fn backup_line(newest: Option<Timestamp>, now: Timestamp) -> Line {
    let (code, title) = BACKUP;
    let fix = "Make one, on another disk: strongroom backup create FILE. Keep a copy of the instance key elsewhere.";
    match newest {
        None => {
            let why = "There is none that has neither expired nor been retired: what this disk loses is lost.";
            Line::warn(code, title, why, fix)
        }
        Some(at) if now.duration_since(at) > OLD_BACKUP => {
            let days = u64::try_from(now.duration_since(at).as_hours() / 24).unwrap_or(0);
            Line::warn(code, title, format!("The newest is {} old, of {at:.0}.", counted(days, "day")), fix)
        }
        Some(at) => Line::pass(code, title, format!("The newest is of {at:.0}.")),
    }
}

/// How far the log has come, and its newest checkpoint.
struct LogEnd {
    signed_at: Option<Timestamp>,
    signed: u64,
    events: u64,
}

async fn log_end(store: &Store) -> Result<LogEnd> {
    store
        .read(|tx| {
            let newest = "SELECT created_at, size FROM log_checkpoints ORDER BY created_at DESC, size DESC LIMIT 1";
            let newest = tx.first(newest, &[], |row| Ok((row.get::<Timestamp>(0)?, row.get::<u64>(1)?)))?;
            let events = tx.count("SELECT COUNT(*) FROM audit_events", &[])?;
            Ok(LogEnd { signed_at: newest.map(|(at, _)| at), signed: newest.map_or(0, |(_, size)| size), events })
        })
        .await
}

fn checkpoint_line(config: &Config, end: &LogEnd, now: Timestamp) -> Line {
    let (code, title) = CHECKPOINT;
    let unsigned = end.events.saturating_sub(end.signed);
    let late = end.signed_at.is_none_or(|at| now.duration_since(at) > OLD_CHECKPOINT);
    if unsigned > 0 && late {
        let why = format!(
            "{} are in no signed checkpoint yet: whoever deletes them now is not found out.",
            counted(unsigned, "event")
        );
        return Line::warn(code, title, why, "Start the server, which signs one each minute; see its log if it runs.");
    }
    let (file, url) = (&config.audit.checkpoint_file, &config.audit.checkpoint_url);
    if file.is_none() && url.is_none() {
        let why = "Checkpoints stay in the database that they vouch for: whoever sets all of it back is not found out.";
        let fix = "Set audit.checkpoint_file, to a disk that the database is not on, or audit.checkpoint_url.";
        return Line::warn(code, title, why, fix);
    }
    if let Some(file) = file.as_ref().filter(|file| end.signed_at.is_some() && !file.exists()) {
        let why = format!("{} is not there, though checkpoints were signed.", file.display());
        return Line::warn(
            code,
            title,
            why,
            "Let the server's user write it and its folder (systemd: ReadWritePaths=).",
        );
    }
    let at = end
        .signed_at
        .map_or_else(|| "There was nothing to sign yet.".into(), |at| format!("The newest is of {at:.0}."));
    Line::pass(code, title, at)
}

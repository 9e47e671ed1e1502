//! Putting a backup into an empty database, in one transaction: there is never half of one.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use strongroom_envelope::{InstanceKeys, Random};

use super::{
    file::{BackupReader, Manifest},
    make::{kids_in_use, note},
};
use crate::{
    audit::{
        Actor, Event, Target,
        log::{NewOrigin, OriginReason, open_origin},
    },
    error::{Error, Result},
    id::EventId,
    job,
    store::{
        SCHEMA, Store, Tx,
        rows::{Table, Value, tables},
    },
};

/// What is in a backup, or came out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    pub manifest: Manifest,
    /// Of each table of the manifest.
    pub counts: Vec<u64>,
    pub ended: Ended,
}

/// What a restore ends: whoever had one of these at the time of the backup may have lost it since.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub sessions: u64,
    pub tokens: u64,
    /// Invitations among them.
    pub links: u64,
    /// Recovery codes that were not used then.
    pub codes: u64,
    /// Jobs that had not ended: they are paused, since they may have been cancelled or done since.
    pub jobs: u64,
}

impl Restored {
    pub fn rows(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many rows of this table there are.
    pub fn count(&self, table: &str) -> u64 {
        let place = self.manifest.tables.iter().position(|known| known.name == table);
        place.map_or(0, |place| self.counts[place])
    }
}

/// Reads a backup to its end and so proves that it is whole and as it was made, with the instance key alone; counts what a
/// restore of it would end at `now`.
pub fn read_through(file: &Path, keys: &Arc<InstanceKeys>, now: Timestamp) -> Result<Restored> {
    let mut reader = open(file, keys)?;
    let manifest = reader.manifest().clone();
    let alive = |table: &str, ended: &str| Alive::of(&manifest, table, ended);
    let (sessions, tokens) = (alive("sessions", "revoked_at"), alive("api_tokens", "revoked_at"));
    let links = alive("links", "used_at");
    let (codes, jobs) = (alive("recovery_codes", "used_at"), alive("jobs", "finished_at"));
    let mut ended = Ended::default();
    while let Some((place, row)) = reader.next_row()? {
        ended.sessions += u64::from(sessions.is(place, &row, now));
        ended.tokens += u64::from(tokens.is(place, &row, now));
        ended.links += u64::from(links.is(place, &row, now));
        ended.codes += u64::from(codes.is(place, &row, now));
        ended.jobs += u64::from(jobs.is(place, &row, now));
    }
    Ok(Restored { counts: reader.counts().to_vec(), manifest, ended })
}

/// Puts a backup into `store`, which must be empty. Sessions, API tokens and links end; the audit log goes on under a new
/// origin that names the one before.
pub async fn restore(
    store: &Store,
    keys: &Arc<InstanceKeys>,
    random: &dyn Random,
    file: &Path,
    now: Timestamp,
) -> Result<Restored> {
    let event = EventId::generate(now, random)?;
    let origin = NewOrigin::at(now, OriginReason::Restored, random)?;
    let (file, keys): (PathBuf, _) = (file.into(), Arc::clone(keys));
    store
        .write(move |tx| {
            require_empty(tx)?;
            let mut restored = fill(tx, &file, &keys)?;
            restored.ended = end_all(tx, &keys, now)?;
            let manifest = &restored.manifest;
            let kids = kids_in_use(tx)?;
            note(tx, manifest.id, manifest.made_at, manifest.expires_at, restored.rows(), &kids)?;
            tx.record(&told(event, now, &restored))?;
            open_origin(tx, &origin)?;
            Ok(restored)
        })
        .await
}

/// Writes every row of a backup as it is.
pub(super) fn fill(tx: &mut Tx<'_>, file: &Path, keys: &Arc<InstanceKeys>) -> Result<Restored> {
    let mut reader = open(file, keys)?;
    let manifest = reader.manifest().clone();
    if manifest.schema != SCHEMA || manifest.tables != tables()? {
        return Err(Error::Setup {
            what: format!("this backup is of schema {}, as another build of Strongroom wrote it", manifest.schema)
                .into(),
            fix: "Restore it with the Strongroom that made it, then start this one on that database.".into(),
        });
    }
    while let Some((place, row)) = reader.next_row()? {
        let table = &manifest.tables[place];
        if !is_schema(table, &row) {
            table.insert(tx, &row)?;
        }
    }
    Ok(Restored { counts: reader.counts().to_vec(), manifest, ended: Ended::default() })
}

/// Nothing but the schema's own row may be there.
pub fn require_empty(tx: &mut Tx<'_>) -> Result<()> {
    for table in tables()? {
        let own = u64::from(table.name == "meta");
        if table.count(tx)? > own {
            return Err(Error::Setup {
                what: "the database that the configuration names is not empty".into(),
                fix: "Name an empty one in database.url. What is there now stays as it is: a restore replaces nothing."
                    .into(),
            });
        }
    }
    Ok(())
}

fn open(file: &Path, keys: &Arc<InstanceKeys>) -> Result<BackupReader<BufReader<File>>> {
    let input = File::open(file).map_err(|error| Error::Setup {
        what: format!("{} cannot be read: {error}", file.display()).into(),
        fix: "Name the file of a backup that this user may read.".into(),
    })?;
    BackupReader::begin(BufReader::new(input), Arc::clone(keys))
}

/// The schema writes this row itself.
fn is_schema(table: &Table, row: &[Value]) -> bool {
    table.name == "meta" && row.first() == Some(&Value::Text("schema".into()))
}

fn end_all(tx: &mut Tx<'_>, keys: &InstanceKeys, now: Timestamp) -> Result<Ended> {
    let mut end = |sql| tx.execute(sql, &[now.into()]);
    Ok(Ended {
        sessions: end("UPDATE sessions SET revoked_at = $1 WHERE revoked_at IS NULL AND expires_at > $1")?,
        tokens: end("UPDATE api_tokens SET revoked_at = $1 WHERE revoked_at IS NULL AND expires_at > $1")?,
        links: end("UPDATE links SET used_at = $1 WHERE used_at IS NULL AND expires_at > $1")?,
        codes: end("UPDATE recovery_codes SET used_at = $1 WHERE used_at IS NULL")?,
        jobs: job::pause_restored(tx, keys, now)?,
    })
}

fn told(id: EventId, at: Timestamp, restored: &Restored) -> Event {
    let (manifest, ended) = (&restored.manifest, restored.ended);
    Event {
        id,
        at,
        workspace: None,
        actor: Actor::System,
        action: "backup.restore",
        target: Target::None,
        detail: vec![
            ("backup", manifest.id.0.into()),
            ("made_at", u64::try_from(manifest.made_at.as_millisecond()).unwrap_or(0).into()),
            ("sessions", ended.sessions.into()),
            ("tokens", ended.tokens.into()),
            ("links", ended.links.into()),
            ("codes", ended.codes.into()),
            ("jobs", ended.jobs.into()),
        ],
    }
}

/// Rows of a table that have not ended, by its places in a backup.
struct Alive {
    table: Option<usize>,
    ended: Option<usize>,
    expires: Option<usize>,
}

impl Alive {
    fn of(manifest: &Manifest, table: &str, ended: &str) -> Self {
        let place = manifest.tables.iter().position(|known| known.name == table);
        let column = |name: &str| {
            let columns = &manifest.tables[place?].columns;
            columns.iter().position(|column| column.name == name)
        };
        Self { table: place, ended: column(ended), expires: column("expires_at") }
    }

    fn is(&self, place: usize, row: &[Value], now: Timestamp) -> bool {
        let field = |at: Option<usize>| at.and_then(|at| row.get(at));
        // What has no end of its own lasts.
        let lasts = self.expires.is_none()
            || matches!(field(self.expires), Some(Value::Int(end)) if *end > now.as_millisecond());
        self.table == Some(place) && lasts && field(self.ended) == Some(&Value::Null)
    }
}

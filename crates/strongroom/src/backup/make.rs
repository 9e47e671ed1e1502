//! Making a backup, beside a running server or without one.

use std::{
    fs::{self, File},
    io::BufWriter,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use strongroom_envelope::{InstanceKeys, Random};
use uuid::Uuid;

use super::file::{BackupWriter, Manifest};
use crate::{
    audit::{Actor, Event, Target},
    error::{Error, Result},
    id::{BackupId, EventId},
    store::{
        SCHEMA, Store, Tx,
        rows::{Table, tables},
    },
};

/// Rows that are read at once. An item's row may have more than a megabyte.
const PAGE: usize = 64;

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    pub id: BackupId,
    pub made_at: Timestamp,
    pub expires_at: Timestamp,
    pub rows: u64,
    /// Of the file.
    pub bytes: u64,
}

/// Which vault opens through which key version.
pub(super) type VaultKid = (Uuid, String);

/// Writes a backup to `file`, which must not be there yet, and notes it in the database, for the census. The rows are those
/// of one moment. On SQLite it runs on the calling thread.
pub async fn make(
    store: &Store,
    keys: &Arc<InstanceKeys>,
    random: &Arc<dyn Random>,
    file: &Path,
    now: Timestamp,
    keep: SignedDuration,
) -> Result<Made> {
    let cannot = |error: std::io::Error| unwritten(file, &error);
    if file.exists() {
        return Err(Error::Setup {
            what: format!("{} is there already", file.display()).into(),
            fix: "Choose another name: a backup replaces no file.".into(),
        });
    }
    let expires_at = now.checked_add(keep).map_err(|_| Error::Setup {
        what: "a backup cannot be kept for that long".into(),
        fix: "Name fewer days.".into(),
    })?;
    let id = BackupId::generate(now, random.as_ref())?;
    let manifest = Manifest { id, schema: SCHEMA, made_at: now, expires_at, tables: tables()? };
    let partial = partial(file);
    let (out, with, same) = (partial.clone(), Arc::clone(keys), Arc::clone(random));
    let written = store.read(move |tx| write(tx, &out, &with, &same, &manifest)).await;
    let noted = match written {
        Ok((rows, kids)) => {
            let event = created(id, now, expires_at, rows, random.as_ref())?;
            let noted = store.write(move |tx| {
                note(tx, id, now, expires_at, rows, &kids)?;
                tx.record(&event)
            });
            noted.await.map(|()| rows)
        }
        Err(error) => Err(error),
    };
    let rows = noted.inspect_err(|_| {
        // What is left of it helps nobody.
        let _ = fs::remove_file(&partial);
    })?;
    fs::rename(&partial, file).map_err(cannot)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(cannot)?;
    let bytes = fs::metadata(file).map_err(cannot)?.len();
    Ok(Made { id, made_at: now, expires_at, rows, bytes })
}

/// Writes every row to a fresh file; returns how many there are, and what the backup opens through.
fn write(
    tx: &mut Tx<'_>,
    file: &Path,
    keys: &Arc<InstanceKeys>,
    random: &Arc<dyn Random>,
    manifest: &Manifest,
) -> Result<(u64, Vec<VaultKid>)> {
    let cannot = |error: std::io::Error| unwritten(file, &error);
    let out = File::options().create(true).truncate(true).write(true).mode(0o600).open(file).map_err(cannot)?;
    let mut writer = BackupWriter::begin(BufWriter::new(out), Arc::clone(keys), Arc::clone(random), manifest)?;
    for (place, table) in manifest.tables.iter().enumerate() {
        write_table(tx, &mut writer, place, table)?;
    }
    let (out, counts) = writer.finish()?;
    out.get_ref().sync_all().map_err(cannot)?;
    Ok((counts.iter().sum(), kids_in_use(tx)?))
}

fn write_table<W: std::io::Write>(
    tx: &mut Tx<'_>,
    writer: &mut BackupWriter<W>,
    place: usize,
    table: &Table,
) -> Result<()> {
    let mut after = None;
    loop {
        let page = table.page(tx, after.as_deref(), PAGE)?;
        for row in &page {
            writer.row(place, row)?;
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(table.key_of(last)),
            _ => return Ok(()),
        }
    }
}

/// What every generation of every vault's key opens through.
pub(super) fn kids_in_use(tx: &mut Tx<'_>) -> Result<Vec<VaultKid>> {
    let sql = "SELECT DISTINCT vault_id, kid FROM generations ORDER BY vault_id, kid";
    tx.all(sql, &[], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Notes a backup that exists, for the census.
pub(super) fn note(
    tx: &mut Tx<'_>,
    id: BackupId,
    made_at: Timestamp,
    expires_at: Timestamp,
    rows: u64,
    kids: &[VaultKid],
) -> Result<()> {
    tx.execute(
        "INSERT INTO backups (id, made_at, expires_at, row_count) VALUES ($1, $2, $3, $4)",
        &[id.0.into(), made_at.into(), expires_at.into(), rows.into()],
    )?;
    for (vault, kid) in kids {
        tx.execute(
            "INSERT INTO backup_kids (backup_id, vault_id, kid) VALUES ($1, $2, $3)",
            &[id.0.into(), (*vault).into(), kid.into()],
        )?;
    }
    Ok(())
}

fn created(id: BackupId, at: Timestamp, expires_at: Timestamp, rows: u64, random: &dyn Random) -> Result<Event> {
    Ok(Event {
        id: EventId::generate(at, random)?,
        at,
        workspace: None,
        actor: Actor::System,
        action: "backup.create",
        target: Target::None,
        detail: vec![
            ("backup", id.0.into()),
            ("expires_at", u64::try_from(expires_at.as_millisecond()).unwrap_or(0).into()),
            ("rows", rows.into()),
        ],
    })
}

/// Where it is until it is whole.
fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn unwritten(file: &Path, error: &std::io::Error) -> Error {
    Error::Setup {
        what: format!("{} cannot be written: {error}", file.display()).into(),
        fix: "Check that its folder is there, that the disk has room and that this user may write there.".into(),
    }
}

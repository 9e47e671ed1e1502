//! The backups that this instance has made: what the census counts.

use jiff::Timestamp;
use strongroom_envelope::Random;

use crate::{
    audit::{Actor, Event, Target},
    error::{Error, Result},
    id::{BackupId, EventId},
    store::{Store, Tx},
};

/// A backup that this instance knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBackup {
    pub id: BackupId,
    pub made_at: Timestamp,
    pub expires_at: Timestamp,
    /// When somebody said that every copy of it is destroyed.
    pub retired_at: Option<Timestamp>,
    pub rows: u64,
    /// Key versions that it opens through.
    pub kids: Vec<String>,
}

impl KnownBackup {
    /// Whether the census counts it.
    pub fn counts(&self, now: Timestamp) -> bool {
        self.retired_at.is_none() && self.expires_at > now
    }
}

/// Every backup that this instance knows of, the newest first.
pub async fn known(store: &Store) -> Result<Vec<KnownBackup>> {
    store
        .read(|tx| {
            let sql =
                "SELECT id, made_at, expires_at, retired_at, row_count FROM backups ORDER BY made_at DESC, id DESC";
            let mut backups = tx.all(sql, &[], |row| {
                Ok(KnownBackup {
                    id: BackupId(row.get(0)?),
                    made_at: row.get(1)?,
                    expires_at: row.get(2)?,
                    retired_at: row.get(3)?,
                    rows: row.get(4)?,
                    kids: Vec::new(),
                })
            })?;
            for backup in &mut backups {
                backup.kids = kids(tx, backup.id)?;
            }
            Ok(backups)
        })
        .await
}

/// Notes that every copy of a backup is destroyed: nothing is kept for it any more. It cannot be taken back.
pub async fn retire(store: &Store, id: BackupId, now: Timestamp, random: &dyn Random) -> Result<()> {
    let event = Event {
        id: EventId::generate(now, random)?,
        at: now,
        workspace: None,
        actor: Actor::System,
        action: "backup.retire",
        target: Target::None,
        detail: vec![("backup", id.0.into())],
    };
    store
        .write(move |tx| {
            let sql = "UPDATE backups SET retired_at = $2 WHERE id = $1 AND retired_at IS NULL";
            if tx.execute(sql, &[id.0.into(), now.into()])? == 1 {
                return tx.record(&event);
            }
            match tx.count("SELECT COUNT(*) FROM backups WHERE id = $1", &[id.0.into()])? {
                0 => Err(Error::NotFound("backup")),
                // It was retired before.
                _ => Ok(()),
            }
        })
        .await
}

fn kids(tx: &mut Tx<'_>, id: BackupId) -> Result<Vec<String>> {
    tx.all("SELECT DISTINCT kid FROM backup_kids WHERE backup_id = $1 ORDER BY kid", &[id.0.into()], |row| row.get(0))
}

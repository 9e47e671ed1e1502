//! Events under the current instance key. Their bytes stay as they are, and with them the chains and the tree.

use strongroom_envelope::{audit_mac, digest};
use uuid::Uuid;

use super::{
    Entry, What,
    read::proven,
    verify::{EVENT_COLUMNS, Stored},
};
use crate::{
    error::Result,
    instance_key::{Means, Page, key_of_mac},
    store::{Param, Tx},
};

const FULL: usize = 500;

/// A page of events; with `write`, those under an older instance key get a MAC under the current one.
pub(crate) fn renew_events(tx: &mut Tx<'_>, means: &Means, after: Uuid, write: bool) -> Result<Page> {
    let sql = format!("SELECT {EVENT_COLUMNS} FROM audit_events WHERE id > $1 ORDER BY id LIMIT {FULL}");
    let rows = tx.all(&sql, &[after.into()], |row| Ok((row.get::<Uuid>(0)?, Stored::read(row))))?;
    let ids: Vec<Uuid> = rows.iter().map(|(id, _)| *id).collect();
    let mut page = Page::of(&ids, FULL);
    for (id, row) in rows {
        let Ok(row) = row else {
            page.broken(format!("event {id}: it cannot be read"));
            continue;
        };
        if let Err(what) = proven(&means.keys, &row) {
            page.broken(format!("event {id}: {what}"));
        } else if page.found(means, &[key_of_mac(&row.mac)?]) && write {
            let mac = audit_mac(&means.keys, &digest(&row.bytes)).to_bytes();
            tx.execute("UPDATE audit_events SET mac = $2 WHERE id = $1", &[id.into(), Param::Bytes(&mac)])?;
        }
    }
    Ok(page)
}

/// A page of events; with `write`, those under an instance key that is not loaded get a MAC under the current one. Nothing
/// proves them here but their encoding and their columns: the caller has proven the chains, and the tree where it could.
pub(crate) fn adopt_events(tx: &mut Tx<'_>, means: &Means, after: Uuid, write: bool) -> Result<Page> {
    let sql = format!("SELECT {EVENT_COLUMNS} FROM audit_events WHERE id > $1 ORDER BY id LIMIT {FULL}");
    let rows = tx.all(&sql, &[after.into()], |row| Ok((row.get::<Uuid>(0)?, Stored::read(row))))?;
    let ids: Vec<Uuid> = rows.iter().map(|(id, _)| *id).collect();
    let mut page = Page::of(&ids, FULL);
    for (id, row) in rows {
        let Ok(row) = row else {
            page.broken(format!("event {id}: it cannot be read"));
            continue;
        };
        let adopted = match proven(&means.keys, &row) {
            Ok(_) => continue,
            Err(What::KeyNotLoaded { .. }) => {
                Entry::decode(&row.bytes).is_ok_and(|entry| row.differs(&entry).is_empty())
            }
            Err(_) => false,
        };
        if !adopted {
            page.broken(format!("event {id}: it does not say what its columns say"));
        } else if page.found(means, &[key_of_mac(&row.mac)?]) && write {
            let mac = audit_mac(&means.keys, &digest(&row.bytes)).to_bytes();
            tx.execute("UPDATE audit_events SET mac = $2 WHERE id = $1", &[id.into(), Param::Bytes(&mac)])?;
        }
    }
    Ok(page)
}

//! A whole database carried into an empty one, from either engine to either: `strongroom store migrate`.
//!
//! Rows go over as they are, sealed, in batches, each in one transaction of the target. What was carried stays when the
//! work is cut off, and the next run goes on from there. Until every row has been compared the target bears a mark, and no
//! server starts on it.

use std::time::Duration;

use jiff::Timestamp;
use strongroom_envelope::digest;

use super::{
    Param, Store, StoreError, Tx,
    rows::{Table, Value, tables},
};
use crate::error::{Error, Result};

type Values = Vec<Value>;

/// Rows that are read at once. An item's row may have more than a megabyte.
const PAGE: usize = 64;
/// A batch ends with the page that reaches one of these.
const BATCH_ROWS: usize = 1024;
const BATCH_BYTES: usize = 8 << 20;
/// How long connections that have just ended may still be listed by the source.
const LINGER: Duration = Duration::from_secs(5);

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    pub step: Step,
    pub table: String,
    /// Of all tables.
    pub rows_done: u64,
    pub rows: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Copy,
    Compare,
}

/// One table, the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    pub table: String,
    pub rows: u64,
    /// SHA-256 over the sorted SHA-256 of its rows, each computed from what that side answered.
    pub from: [u8; 32],
    pub to: [u8; 32],
}

/// Carries every row of `from`, which no server may use meanwhile, into `to`, which must be empty or hold what an earlier
/// run left there. Then compares both sides row by row. `tell` is called after each batch.
pub async fn transfer(
    from: &Store,
    to: &Store,
    now: Timestamp,
    tell: &mut dyn FnMut(&Progress),
) -> Result<Vec<Carried>> {
    require_rest(from).await?;
    to.write(move |tx| begin(tx, now)).await?;
    let tables = tables()?;
    let mut rows = 0;
    for table in tables.clone() {
        rows += from.read(move |tx| table.count(tx)).await?;
    }
    let mut progress = Progress { step: Step::Copy, table: String::new(), rows_done: 0, rows };
    for table in &tables {
        copy(from, to, table, &mut progress, tell).await?;
    }
    progress = Progress { step: Step::Compare, rows_done: 0, ..progress };
    let mut carried = Vec::with_capacity(tables.len());
    for table in &tables {
        carried.push(compare(from, to, table, &mut progress, tell).await?);
    }
    // Whoever began to use it meanwhile may have changed what was compared already. A command that came and went, as
    // `backup create` does, has left an event at least.
    require_rest(from).await?;
    if from.changed_at_rest() {
        return Err(changed());
    }
    for (table, compared) in tables.iter().zip(&carried) {
        let counted = table.clone();
        if from.read(move |tx| counted.count(tx)).await? != compared.rows {
            return Err(changed());
        }
    }
    to.write(|tx| tx.execute("DELETE FROM meta WHERE name = 'transfer'", &[]).map(drop)).await?;
    Ok(carried)
}

/// Refuses a database into which a transfer has not ended.
pub(crate) fn require_whole(tx: &mut Tx<'_>) -> Result<()> {
    if tx.count(MARK, &[])? == 0 {
        return Ok(());
    }
    Err(Error::Setup {
        what: "this database is not whole: `strongroom store migrate` into it has not ended".into(),
        fix: "Run the same `strongroom store migrate` again; it goes on where it stopped.".into(),
    })
}

const MARK: &str = "SELECT COUNT(*) FROM meta WHERE name = 'transfer'";

/// Marks an empty target; takes one that bears the mark as it is.
fn begin(tx: &mut Tx<'_>, now: Timestamp) -> Result<()> {
    if tx.count(MARK, &[])? > 0 {
        return Ok(());
    }
    for table in tables()? {
        // The schema's own row is there from the start.
        if table.count(tx)? > u64::from(table.name == "meta") {
            return Err(Error::Setup {
                what: "the database to migrate to is not empty".into(),
                fix: "Name an empty one with --to. What is there now stays as it is.".into(),
            });
        }
    }
    let begun = now.to_string();
    tx.execute("INSERT INTO meta (name, value) VALUES ('transfer', $1)", &[Param::Text(&begun)])?;
    Ok(())
}

/// SQLite's lock is held for as long as the source is open. PostgreSQL tells who else is connected.
/// Refuses a database that somebody else has open, as far as it tells.
pub(crate) async fn require_rest(from: &Store) -> Result<()> {
    let (pause, mut waited) = (Duration::from_millis(100), Duration::ZERO);
    loop {
        let others = from.others().await?;
        if others == 0 {
            return Ok(());
        }
        if waited >= LINGER {
            return Err(StoreError::InUse(format!("{others} connections of it")).into());
        }
        tokio::time::sleep(pause).await;
        waited += pause;
    }
}

async fn copy(
    from: &Store,
    to: &Store,
    table: &Table,
    progress: &mut Progress,
    tell: &mut dyn FnMut(&Progress),
) -> Result<()> {
    let mut source = Batches::of(from, table);
    let counted = table.clone();
    let begun = to.read(move |tx| counted.count(tx)).await? > 0;
    while let Some(batch) = source.next().await? {
        progress.table.clone_from(&table.name);
        progress.rows_done += batch.len() as u64;
        let table = table.clone();
        to.write(move |tx| batch.iter().try_for_each(|row| put(tx, &table, row, begun))).await?;
        tell(progress);
    }
    Ok(())
}

/// Writes a row; where an earlier run may have, it looks first.
fn put(tx: &mut Tx<'_>, table: &Table, row: &[Value], begun: bool) -> Result<()> {
    if begun && let Some(there) = table.find(tx, &table.key_of(row))? {
        return if there == row { Ok(()) } else { Err(differs(table)) };
    }
    table.insert(tx, row)
}

async fn compare(
    from: &Store,
    to: &Store,
    table: &Table,
    progress: &mut Progress,
    tell: &mut dyn FnMut(&Progress),
) -> Result<Carried> {
    let mut source = Batches::of(from, table);
    let (mut one, mut other) = (Checksum::default(), Checksum::default());
    let mut rows = 0;
    while let Some(batch) = source.next().await? {
        let (looked_up, keys) = (table.clone(), batch.iter().map(|row| table.key_of(row)).collect::<Vec<_>>());
        let found =
            to.read(move |tx| keys.iter().map(|key| looked_up.find(tx, key)).collect::<Result<Vec<_>>>()).await?;
        for (row, found) in batch.iter().zip(&found) {
            let found = found.as_ref().filter(|found| *found == row).ok_or_else(|| differs(table))?;
            one.add(row);
            other.add(found);
        }
        rows += batch.len() as u64;
        progress.table.clone_from(&table.name);
        progress.rows_done += batch.len() as u64;
        tell(progress);
        // SQLite answers at once: without this, whoever gives the work up would not be heard before its end.
        tokio::task::yield_now().await;
    }
    let counted = table.clone();
    let there = to.read(move |tx| counted.count(tx)).await?;
    // Every row of the source is there. As many rows, and keys are unique: nothing else is. The mark is ours.
    if there != rows + u64::from(table.name == "meta") {
        return Err(differs(table));
    }
    Ok(Carried { table: table.name.clone(), rows, from: one.finish(), to: other.finish() })
}

fn changed() -> Error {
    Error::Setup {
        what: "something wrote to the source while it was carried over, and the target does not have that".into(),
        fix: "Stop the server, and what makes backups, then empty the target and begin again.".into(),
    }
}

fn differs(table: &Table) -> Error {
    Error::Setup {
        what: format!("the table {} is not the same in both databases: one of them was changed meanwhile", table.name)
            .into(),
        fix: "Stop every server on both, empty the target, and begin again. The source was not changed.".into(),
    }
}

/// The rows of a table in the order of its key, in batches that fit into memory.
struct Batches<'a> {
    store: &'a Store,
    table: &'a Table,
    after: Option<Values>,
    ended: bool,
}

impl<'a> Batches<'a> {
    fn of(store: &'a Store, table: &'a Table) -> Self {
        Self { store, table, after: None, ended: false }
    }

    async fn next(&mut self) -> Result<Option<Vec<Values>>> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while !self.ended && batch.len() < BATCH_ROWS && bytes < BATCH_BYTES {
            let (table, after) = (self.table.clone(), self.after.clone());
            let page = self.store.read(move |tx| table.page(tx, after.as_deref(), PAGE)).await?;
            self.ended = page.len() < PAGE;
            if let Some(last) = page.last() {
                self.after = Some(self.table.key_of(last));
            }
            bytes += page.iter().flatten().map(size).sum::<usize>();
            batch.extend(page);
        }
        Ok(Some(batch).filter(|batch| !batch.is_empty()))
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => 16,
    }
}

/// Of a set of rows: the engines order text differently.
#[derive(Default)]
struct Checksum(Vec<[u8; 32]>);

impl Checksum {
    fn add(&mut self, row: &[Value]) {
        let mut bytes = Vec::new();
        for value in row {
            let (kind, content) = match value {
                Value::Null => (0, Vec::new()),
                Value::Int(number) => (1, number.to_be_bytes().to_vec()),
                Value::Text(text) => (2, text.clone().into_bytes()),
                Value::Bytes(content) => (3, content.clone()),
                Value::Id(id) => (4, id.as_bytes().to_vec()),
            };
            bytes.push(kind);
            bytes.extend((content.len() as u64).to_be_bytes());
            bytes.extend(content);
        }
        self.0.push(digest(&bytes));
    }

    fn finish(mut self) -> [u8; 32] {
        self.0.sort_unstable();
        digest(&self.0.concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(rows: &[Values]) -> [u8; 32] {
        let mut sum = Checksum::default();
        rows.iter().for_each(|row| sum.add(row));
        sum.finish()
    }

    #[test]
    fn a_checksum_knows_every_field_and_no_order_of_rows() {
        let (one, two) = (vec![Value::Int(1), Value::Text("ab".into())], vec![Value::Int(2), Value::Null]);
        assert_eq!(sum(&[one.clone(), two.clone()]), sum(&[two.clone(), one.clone()]));
        assert_ne!(sum(&[one.clone(), two.clone()]), sum(&[one.clone(), one.clone()]));
        assert_ne!(sum(&[one]), sum(&[vec![Value::Int(1), Value::Bytes(b"ab".to_vec())]]));
        let moved = |left: &str, right: &str| sum(&[vec![Value::Text(left.into()), Value::Text(right.into())]]);
        assert_ne!(moved("ab", "c"), moved("a", "bc"));
    }
}

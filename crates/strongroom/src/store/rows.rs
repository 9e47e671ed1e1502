//! Every row of every table as typed values: what a backup holds, and what goes from one engine to the other.
//!
//! The tables are read from the schema itself, so that a new one is in every backup without anybody thinking of it.

use rusqlite::Connection;
use uuid::Uuid;

use super::{MIGRATIONS, Param, Row, StoreError, Tx, sqlite};
use crate::error::{Error, Result};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    Int,
    Text,
    Bytes,
    Id,
}

impl ColumnKind {
    /// As the schema writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Int => "BIGINT",
            Self::Text => "TEXT",
            Self::Bytes => "BYTEA",
            Self::Id => "UUID",
        }
    }

    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Int, Self::Text, Self::Bytes, Self::Id].into_iter().find(|kind| kind.word() == word)
    }
}

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: ColumnKind,
}

/// One table of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    pub columns: Vec<Column>,
    /// The columns of the primary key, in its order, as places in `columns`.
    pub key: Vec<usize>,
}

/// One field of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
    Id(Uuid),
}

/// Every table, each after those that it refers to.
pub fn tables() -> Result<Vec<Table>> {
    // SQLite reads the schema for both engines: it is one text.
    let connection = Connection::open_in_memory().map_err(|error| sqlite::refused(&error))?;
    for sql in MIGRATIONS {
        connection.execute_batch(sql).map_err(|error| sqlite::refused(&error))?;
    }
    let in_order_of_creation = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid";
    let names = sqlite::all(&connection, in_order_of_creation, &[], |row| row.get::<String>(0))?;
    names.into_iter().map(|name| described(&connection, name)).collect()
}

fn described(connection: &Connection, name: String) -> Result<Table> {
    let columns = sqlite::all(
        connection,
        "SELECT name, type, pk FROM pragma_table_info($1) ORDER BY cid",
        &[Param::Text(&name)],
        |row| Ok((row.get::<String>(0)?, row.get::<String>(1)?, row.get::<u64>(2)?)),
    )?;
    let mut key: Vec<_> = columns.iter().enumerate().filter(|(_, (.., part))| *part > 0).collect();
    key.sort_by_key(|(_, (.., part))| *part);
    let key = key.into_iter().map(|(place, _)| place).collect();
    let column = |(name, declared, _): (String, String, u64)| {
        let unknown = || StoreError::Failed(format!("the schema has a column of the type {declared}"));
        let kind = ColumnKind::of_word(&declared).ok_or_else(unknown)?;
        Ok::<_, StoreError>(Column { name, kind })
    };
    let columns = columns.into_iter().map(column).collect::<std::result::Result<_, _>>()?;
    Ok(Table { name, columns, key })
}

impl Table {
    /// The next rows in the order of the key, at most so many, after the row with the key `after`.
    pub fn page(&self, tx: &mut Tx<'_>, after: Option<&[Value]>, rows: usize) -> Result<Vec<Vec<Value>>> {
        let key = self.key_names().join(", ");
        let beyond = match after {
            Some(_) => format!(" WHERE ({key}) > ({})", places(self.key.len())),
            None => String::new(),
        };
        let sql = format!("SELECT {} FROM {}{beyond} ORDER BY {key} LIMIT {rows}", self.names(), self.name);
        let params: Vec<_> = after.unwrap_or_default().iter().map(Value::param).collect();
        tx.all(&sql, &params, |row| self.read(row))
    }

    /// The row with this key.
    pub fn find(&self, tx: &mut Tx<'_>, key: &[Value]) -> Result<Option<Vec<Value>>> {
        let key_names = self.key_names().join(", ");
        let sql =
            format!("SELECT {} FROM {} WHERE ({key_names}) = ({})", self.names(), self.name, places(self.key.len()));
        let params: Vec<_> = key.iter().map(Value::param).collect();
        tx.first(&sql, &params, |row| self.read(row))
    }

    /// Writes a row that is not there yet.
    pub fn insert(&self, tx: &mut Tx<'_>, row: &[Value]) -> Result<()> {
        if !self.takes(row) {
            return Err(Error::integrity("store.row", format!("a row does not fit the table {}", self.name)));
        }
        let sql = format!("INSERT INTO {} ({}) VALUES ({})", self.name, self.names(), places(self.columns.len()));
        let params: Vec<_> = row.iter().map(Value::param).collect();
        tx.execute(&sql, &params)?;
        Ok(())
    }

    /// How many rows there are.
    pub fn count(&self, tx: &mut Tx<'_>) -> Result<u64> {
        tx.count(&format!("SELECT COUNT(*) FROM {}", self.name), &[])
    }

    /// The key of one of its rows.
    pub fn key_of(&self, row: &[Value]) -> Vec<Value> {
        self.key.iter().map(|place| row[*place].clone()).collect()
    }

    /// Whether a row has a value of the right kind, or none, for each column.
    fn takes(&self, row: &[Value]) -> bool {
        row.len() == self.columns.len() && row.iter().zip(&self.columns).all(|(value, column)| value.is(column.kind))
    }

    fn read(&self, row: &Row<'_>) -> Result<Vec<Value>> {
        let value = |(place, column): (usize, &Column)| {
            let value = match column.kind {
                ColumnKind::Int => row.get::<Option<i64>>(place)?.map(Value::Int),
                ColumnKind::Text => row.get::<Option<String>>(place)?.map(Value::Text),
                ColumnKind::Bytes => row.get::<Option<Vec<u8>>>(place)?.map(Value::Bytes),
                ColumnKind::Id => row.get::<Option<Uuid>>(place)?.map(Value::Id),
            };
            Ok(value.unwrap_or(Value::Null))
        };
        self.columns.iter().enumerate().map(value).collect()
    }

    fn names(&self) -> String {
        self.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn key_names(&self) -> Vec<&str> {
        self.key.iter().map(|place| self.columns[*place].name.as_str()).collect()
    }
}

impl Value {
    fn param(&self) -> Param<'_> {
        match self {
            Self::Null => Param::Null,
            Self::Int(value) => Param::Int(*value),
            Self::Text(value) => Param::Text(value),
            Self::Bytes(value) => Param::Bytes(value),
            Self::Id(value) => Param::Id(*value),
        }
    }

    fn is(&self, kind: ColumnKind) -> bool {
        match self {
            Self::Null => true,
            Self::Int(_) => kind == ColumnKind::Int,
            Self::Text(_) => kind == ColumnKind::Text,
            Self::Bytes(_) => kind == ColumnKind::Bytes,
            Self::Id(_) => kind == ColumnKind::Id,
        }
    }
}

fn places(count: usize) -> String {
    (1..=count).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_of_the_schema_is_known_with_its_key() {
        let tables = tables().expect("the schema is read");
        let names: Vec<_> = tables.iter().map(|table| table.name.as_str()).collect();
        for sql in MIGRATIONS {
            for line in sql.lines().filter_map(|line| line.strip_prefix("CREATE TABLE ")) {
                let name = line.split_whitespace().next().expect("a name");
                assert!(names.contains(&name), "{name} is not in {names:?}");
            }
        }
        for table in &tables {
            assert!(!table.key.is_empty(), "{} has no key to go through it by", table.name);
        }
        let wraps = tables.iter().find(|table| table.name == "wraps").expect("there are wraps");
        assert_eq!(wraps.key_names(), ["vault_id", "generation", "kid"]);
    }

    #[test]
    fn a_table_stands_after_those_that_it_refers_to() {
        let names: Vec<_> = tables().expect("the schema is read").into_iter().map(|table| table.name).collect();
        let place = |name: &str| names.iter().position(|known| known == name);
        for sql in MIGRATIONS {
            let mut table = "";
            for line in sql.lines() {
                if let Some(rest) = line.strip_prefix("CREATE TABLE ") {
                    table = rest.split_whitespace().next().expect("a name");
                }
                if let Some((_, rest)) = line.split_once("REFERENCES ") {
                    let other = rest.split_whitespace().next().expect("a name");
                    assert!(place(other) < place(table), "{table} stands before {other}");
                }
            }
        }
    }
}

//! What goes into a statement and what comes out, the same for both engines.

use jiff::Timestamp;
use uuid::Uuid;

use super::{StoreError, postgres, sqlite};
use crate::error::{Error, Result};

/// One parameter of a statement.
#[derive(Debug, Clone, Copy)]
pub enum Param<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Id(Uuid),
}

impl From<i64> for Param<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u64> for Param<'_> {
    /// Counters and times stay far below 2^63. A larger number came from outside: it becomes the largest, which no row
    /// has.
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Param<'_> {
    fn from(value: bool) -> Self {
        Self::Int(value.into())
    }
}

impl From<Timestamp> for Param<'_> {
    fn from(value: Timestamp) -> Self {
        Self::Int(value.as_millisecond())
    }
}

impl<'a> From<&'a str> for Param<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<&'a String> for Param<'a> {
    fn from(value: &'a String) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<&'a [u8]> for Param<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Bytes(value)
    }
}

impl<'a> From<&'a Vec<u8>> for Param<'a> {
    fn from(value: &'a Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl From<Uuid> for Param<'_> {
    fn from(value: Uuid) -> Self {
        Self::Id(value)
    }
}

impl<'a, T: Into<Param<'a>>> From<Option<T>> for Param<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One row of an answer.
pub enum Row<'a> {
    Sqlite(&'a rusqlite::Row<'a>),
    Postgres(&'a ::postgres::Row),
}

impl Row<'_> {
    /// The column at `index`, counted from 0.
    pub fn get<T: FromColumn>(&self, index: usize) -> Result<T> {
        T::from_column(self, index)
    }

    /// The text at `index` as one of our enums or parsed values; anything unknown fails closed.
    pub fn parse<T: std::str::FromStr>(&self, index: usize) -> Result<T> {
        let text: String = self.get(index)?;
        text.parse()
            .map_err(|_| Error::integrity("store.unknown_value", "a row holds a word this program does not know"))
    }
}

/// What a column can be read as.
pub trait FromColumn: Sized {
    fn from_column(row: &Row<'_>, index: usize) -> Result<Self>;
}

macro_rules! native {
    ($($type:ty),*) => {$(
        impl FromColumn for $type {
            fn from_column(row: &Row<'_>, index: usize) -> Result<Self> {
                match row {
                    Row::Sqlite(row) => row.get(index).map_err(|error| sqlite::refused(&error).into()),
                    Row::Postgres(row) => row.try_get(index).map_err(|error| postgres::refused(&error).into()),
                }
            }
        }
    )*};
}

native!(i64, Option<i64>, String, Option<String>, Vec<u8>, Option<Vec<u8>>);

impl FromColumn for Option<Uuid> {
    fn from_column(row: &Row<'_>, index: usize) -> Result<Self> {
        match row {
            Row::Sqlite(row) => {
                let bytes: Option<[u8; 16]> = row.get(index).map_err(|error| sqlite::refused(&error))?;
                Ok(bytes.map(Uuid::from_bytes))
            }
            Row::Postgres(row) => row.try_get(index).map_err(|error| postgres::refused(&error).into()),
        }
    }
}

impl FromColumn for Uuid {
    fn from_column(row: &Row<'_>, index: usize) -> Result<Self> {
        Option::<Self>::from_column(row, index)?.ok_or_else(|| StoreError::Failed("a missing id".into()).into())
    }
}

impl FromColumn for u64 {
    fn from_column(row: &Row<'_>, index: usize) -> Result<Self> {
        Self::try_from(i64::from_column(row, index)?)
            .map_err(|_| StoreError::Failed("a negative counter".into()).into())
    }
}

impl FromColumn for u32 {
    fn from_column(row: &Row<'_>, index: usize) -> Result<Self> {
        Self::try_from(i64::from_column(row, index)?)
            .map_err(|_| StoreError::Failed("a counter out of range".into()).into())
    }
}

impl FromColumn for bool {
    fn from_column(row: &Row<'_>, index: usize) -> Result<Self> {
        Ok(i64::from_column(row, index)? != 0)
    }
}

impl FromColumn for Timestamp {
    fn from_column(row: &Row<'_>, index: usize) -> Result<Self> {
        Self::from_millisecond(i64::from_column(row, index)?)
            .map_err(|_| StoreError::Failed("a time out of range".into()).into())
    }
}

impl FromColumn for Option<Timestamp> {
    fn from_column(row: &Row<'_>, index: usize) -> Result<Self> {
        let Some(millis) = Option::<i64>::from_column(row, index)? else { return Ok(None) };
        Timestamp::from_millisecond(millis)
            .map(Some)
            .map_err(|_| StoreError::Failed("a time out of range".into()).into())
    }
}

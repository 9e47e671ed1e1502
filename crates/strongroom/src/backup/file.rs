//! The bytes of a backup: parts sealed under the instance key, each for its own place in its own backup; see
//! docs/format.md, which is the authority. Neither side of it holds more than one part in memory.

use std::{
    io::{Read, Write},
    sync::Arc,
};

use jiff::Timestamp;
use minicbor::{Decoder, Encoder, data::Type};
use strongroom_envelope::{InstanceContext, InstanceKeys, OpenError, Plaintext, Random, open, seal};
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    id::BackupId,
    store::{
        SCHEMA, StoreError,
        rows::{Column, ColumnKind, Table, Value},
    },
};

const MAGIC: &[u8; 4] = b"SRBK";
const FORMAT: u8 = 1;
/// Rows are gathered up to so many bytes before a part is sealed.
const PART: usize = 1024 * 1024;
/// No part is longer: one row has an item of 1 MiB at most, sealed.
const LONGEST_PART: u32 = 16 * 1024 * 1024;

/// What a part holds: its first byte.
const MANIFEST: u8 = 0;
const ROWS: u8 = 1;
const END: u8 = 2;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub id: BackupId,
    /// Of the database that it is of.
    pub schema: i64,
    pub made_at: Timestamp,
    pub expires_at: Timestamp,
    /// In the order in which their rows follow.
    pub tables: Vec<Table>,
}

/// Seals a backup's rows into `out`.
pub struct BackupWriter<W> {
    out: W,
    sealer: Sealer,
    tables: usize,
    rows: Vec<u8>,
    counts: Vec<u64>,
}

/// Seals the parts of one backup, in order.
struct Sealer {
    keys: Arc<InstanceKeys>,
    random: Arc<dyn Random>,
    id: BackupId,
    next: u64,
}

impl<W: Write> BackupWriter<W> {
    /// Writes the head and the manifest.
    pub fn begin(mut out: W, keys: Arc<InstanceKeys>, random: Arc<dyn Random>, manifest: &Manifest) -> Result<Self> {
        let write = |out: &mut W, bytes: &[u8]| out.write_all(bytes).map_err(unwritten);
        write(&mut out, MAGIC)?;
        write(&mut out, &[FORMAT])?;
        write(&mut out, &manifest.id.bytes())?;
        let sealer = Sealer { keys, random, id: manifest.id, next: 0 };
        let tables = manifest.tables.len();
        let mut writer = Self { out, sealer, tables, rows: vec![ROWS], counts: vec![0; tables] };
        writer.part(&manifest_bytes(manifest))?;
        Ok(writer)
    }

    /// Adds a row of the table at this place of the manifest.
    pub fn row(&mut self, table: usize, row: &[Value]) -> Result<()> {
        debug_assert!(table < self.tables);
        let mut out = Encoder::new(&mut self.rows);
        let fields = row.len() as u64 + 1;
        out.array(fields).and_then(|out| out.u64(table as u64)).expect(MEMORY);
        for value in row {
            match value {
                Value::Null => out.null(),
                Value::Int(value) => out.i64(*value),
                Value::Text(value) => out.str(value),
                Value::Bytes(value) => out.bytes(value),
                Value::Id(value) => out.bytes(value.as_bytes()),
            }
            .expect(MEMORY);
        }
        self.counts[table] += 1;
        if self.rows.len() >= PART { self.flush_rows() } else { Ok(()) }
    }

    /// Writes the end, with the count of every table's rows; returns what was written to and the counts.
    pub fn finish(mut self) -> Result<(W, Vec<u64>)> {
        if self.rows.len() > 1 {
            self.flush_rows()?;
        }
        let mut end = vec![END];
        let mut out = Encoder::new(&mut end);
        out.array(self.counts.len() as u64).expect(MEMORY);
        for count in &self.counts {
            out.u64(*count).expect(MEMORY);
        }
        self.part(&end)?;
        self.out.flush().map_err(unwritten)?;
        Ok((self.out, self.counts))
    }

    fn flush_rows(&mut self) -> Result<()> {
        let rows = std::mem::replace(&mut self.rows, vec![ROWS]);
        self.part(&rows)
    }

    fn part(&mut self, plaintext: &[u8]) -> Result<()> {
        let blob = self.sealer.seal(plaintext)?;
        let length = u32::try_from(blob.len()).ok().filter(|length| *length <= LONGEST_PART);
        let length = length.ok_or_else(|| Error::integrity("backup.row", "a row is too large for a backup"))?;
        self.out.write_all(&length.to_be_bytes()).map_err(unwritten)?;
        self.out.write_all(&blob).map_err(unwritten)
    }
}

impl Sealer {
    fn seal(&mut self, plaintext: &[u8]) -> Result<Vec<u8>> {
        let place = InstanceContext::Backup { backup: self.id.bytes(), part: self.next };
        self.next += 1;
        seal(self.keys.as_ref(), &place, plaintext, self.random.as_ref()).map_err(|_| Error::random())
    }
}

/// Opens a backup part by part. Nothing of a part is handed out before that part is authentic; that the backup is whole
/// is known once [`BackupReader::next_row`] has returned `None`.
pub struct BackupReader<R> {
    input: R,
    keys: Arc<InstanceKeys>,
    manifest: Manifest,
    next: u64,
    /// Rows of the part that was opened last, not handed out yet.
    opened: Option<(Plaintext, usize)>,
    counts: Vec<u64>,
    ended: bool,
}

impl<R: Read> BackupReader<R> {
    /// Reads the head and the manifest.
    pub fn begin(mut input: R, keys: Arc<InstanceKeys>) -> Result<Self> {
        let mut head = [0; 21];
        read_exactly(&mut input, &mut head, "this is no backup of Strongroom: it is too short")?;
        let (magic, rest) = head.split_first_chunk::<4>().expect("21 bytes begin with 4");
        if magic != MAGIC {
            return Err(damaged("this is no backup of Strongroom: it does not begin with SRBK"));
        }
        if rest[0] != FORMAT {
            let what =
                format!("this backup has format {}, which this program does not know; a newer one made it", rest[0]);
            return Err(Error::integrity("backup.format", what));
        }
        let id = BackupId(Uuid::from_slice(&rest[1..]).expect("16 bytes are left"));
        let unread = Manifest {
            id,
            schema: 0,
            made_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::UNIX_EPOCH,
            tables: vec![],
        };
        let mut reader = Self { input, keys, manifest: unread, next: 0, opened: None, counts: vec![], ended: false };
        let manifest = reader.part()?;
        reader.manifest = read_manifest(id, &manifest).map_err(|_| damaged("its manifest cannot be read"))?;
        if reader.manifest.schema > SCHEMA {
            return Err(StoreError::NewerSchema { found: reader.manifest.schema }.into());
        }
        reader.counts = vec![0; reader.manifest.tables.len()];
        Ok(reader)
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// How many rows of each table were handed out.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The next row and its table's place in the manifest; `None` once the end was read and everything was there.
    pub fn next_row(&mut self) -> Result<Option<(usize, Vec<Value>)>> {
        while !self.ended {
            let Some((part, at)) = self.opened.take() else {
                self.open_part()?;
                continue;
            };
            let mut input = Decoder::new(&part[at..]);
            let row = self.read_row(&mut input).map_err(|_| damaged("a row cannot be read"))?;
            let after = at + input.position();
            self.opened = (after < part.len()).then_some((part, after));
            self.counts[row.0] += 1;
            return Ok(Some(row));
        }
        Ok(None)
    }

    fn open_part(&mut self) -> Result<()> {
        let part = self.part()?;
        match part.first() {
            Some(&ROWS) if part.len() > 1 => {
                self.opened = Some((part, 1));
                Ok(())
            }
            Some(&END) => self.end(&part[1..]),
            _ => Err(damaged("a part of it is of no known kind")),
        }
    }

    fn end(&mut self, bytes: &[u8]) -> Result<()> {
        let mut input = Decoder::new(bytes);
        let counts: std::result::Result<Vec<u64>, _> = input.array_iter().and_then(Iterator::collect);
        if counts.ok().as_ref() != Some(&self.counts) {
            return Err(damaged("its rows are not as many as its end says"));
        }
        let mut beyond = [0];
        if self.input.read(&mut beyond).map_err(unread)? > 0 {
            return Err(damaged("something was added after its end"));
        }
        self.ended = true;
        Ok(())
    }

    fn part(&mut self) -> Result<Plaintext> {
        const CUT: &str = "it was cut off: its end is missing";
        let mut length = [0; 4];
        read_exactly(&mut self.input, &mut length, CUT)?;
        let length = u32::from_be_bytes(length);
        if length > LONGEST_PART {
            return Err(damaged("a part of it is longer than any that Strongroom writes"));
        }
        let mut blob = vec![0; length as usize];
        read_exactly(&mut self.input, &mut blob, CUT)?;
        let place = InstanceContext::Backup { backup: self.manifest.id.bytes(), part: self.next };
        let part = self.next;
        self.next += 1;
        open(self.keys.as_ref(), &place, &blob).map_err(|error| match error {
            OpenError::UnknownInstanceKey(id) => Error::Setup {
                what: format!("this backup was made under instance key {id}, which is not loaded").into(),
                fix: "Put that key into the instance key file, from its offline copy.".into(),
            },
            _ => damaged(&format!("part {part} was changed, moved, or belongs to another backup")),
        })
    }

    fn read_row(&self, input: &mut Decoder<'_>) -> std::result::Result<(usize, Vec<Value>), Unreadable> {
        let fields = input.array()?.ok_or(Unreadable)?;
        let place = usize::try_from(input.u64()?).map_err(|_| Unreadable)?;
        let table = self.manifest.tables.get(place).ok_or(Unreadable)?;
        if fields != table.columns.len() as u64 + 1 {
            return Err(Unreadable);
        }
        let row =
            table.columns.iter().map(|column| read_value(input, column.kind)).collect::<std::result::Result<_, _>>();
        Ok((place, row?))
    }
}

const MEMORY: &str = "writing to memory does not fail";

/// CBOR that is not what it has to be.
struct Unreadable;

impl From<minicbor::decode::Error> for Unreadable {
    fn from(_: minicbor::decode::Error) -> Self {
        Self
    }
}

fn read_value(input: &mut Decoder<'_>, kind: ColumnKind) -> std::result::Result<Value, Unreadable> {
    if input.datatype()? == Type::Null {
        input.null()?;
        return Ok(Value::Null);
    }
    Ok(match kind {
        ColumnKind::Int => Value::Int(input.i64()?),
        ColumnKind::Text => Value::Text(input.str()?.to_owned()),
        ColumnKind::Bytes => Value::Bytes(input.bytes()?.to_vec()),
        ColumnKind::Id => Value::Id(Uuid::from_slice(input.bytes()?).map_err(|_| Unreadable)?),
    })
}

fn manifest_bytes(manifest: &Manifest) -> Vec<u8> {
    let mut bytes = vec![MANIFEST];
    let mut out = Encoder::new(&mut bytes);
    let write = |out: &mut Encoder<&mut Vec<u8>>| {
        out.array(4)?.i64(manifest.schema)?;
        out.i64(manifest.made_at.as_millisecond())?.i64(manifest.expires_at.as_millisecond())?;
        out.array(manifest.tables.len() as u64)?;
        for table in &manifest.tables {
            out.array(3)?.str(&table.name)?.array(table.columns.len() as u64)?;
            for column in &table.columns {
                out.array(2)?.str(&column.name)?.str(column.kind.word())?;
            }
            out.array(table.key.len() as u64)?;
            for place in &table.key {
                out.u64(*place as u64)?;
            }
        }
        Ok::<_, minicbor::encode::Error<std::convert::Infallible>>(())
    };
    write(&mut out).expect(MEMORY);
    bytes
}

fn read_manifest(id: BackupId, part: &[u8]) -> std::result::Result<Manifest, Unreadable> {
    let (&MANIFEST, bytes) = part.split_first().ok_or(Unreadable)? else { return Err(Unreadable) };
    let mut input = Decoder::new(bytes);
    if input.array()? != Some(4) {
        return Err(Unreadable);
    }
    let schema = input.i64()?;
    let mut time = || Timestamp::from_millisecond(input.i64()?).map_err(|_| Unreadable);
    let (made_at, expires_at) = (time()?, time()?);
    let tables = input.array()?.ok_or(Unreadable)?;
    let tables = (0..tables).map(|_| read_table(&mut input)).collect::<std::result::Result<_, _>>()?;
    Ok(Manifest { id, schema, made_at, expires_at, tables })
}

fn read_table(input: &mut Decoder<'_>) -> std::result::Result<Table, Unreadable> {
    if input.array()? != Some(3) {
        return Err(Unreadable);
    }
    let name = input.str()?.to_owned();
    let mut columns = Vec::new();
    for _ in 0..input.array()?.ok_or(Unreadable)? {
        if input.array()? != Some(2) {
            return Err(Unreadable);
        }
        let name = input.str()?.to_owned();
        columns.push(Column { name, kind: ColumnKind::of_word(input.str()?).ok_or(Unreadable)? });
    }
    let mut key = Vec::new();
    for _ in 0..input.array()?.ok_or(Unreadable)? {
        let place = usize::try_from(input.u64()?).map_err(|_| Unreadable)?;
        key.push(Some(place).filter(|place| *place < columns.len()).ok_or(Unreadable)?);
    }
    Ok(Table { name, columns, key })
}

fn read_exactly(input: &mut impl Read, into: &mut [u8], cut: &str) -> Result<()> {
    input.read_exact(into).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => damaged(cut),
        _ => unread(error),
    })
}

fn damaged(why: &str) -> Error {
    Error::integrity("backup.damaged", format!("the backup is not as it was made: {why}"))
}

fn unread(error: std::io::Error) -> Error {
    Error::Setup {
        what: format!("the backup cannot be read: {error}").into(),
        fix: "Check the disk that it lies on, and the right of this user to read it.".into(),
    }
}

fn unwritten(error: std::io::Error) -> Error {
    Error::Setup {
        what: format!("the backup cannot be written: {error}").into(),
        fix: "Check that the disk has room and that this user may write there.".into(),
    }
}

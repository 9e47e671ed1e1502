//! SQLite: WAL, `synchronous=FULL`, one writer thread that commits waiting transactions together, readers beside it.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Mutex,
    thread::JoinHandle,
};

use crossbeam_channel::{Receiver, Sender};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql, types::ToSqlOutput};

use super::{
    Inner, Job, LOCK_WAIT, Param, Probe, Row, StoreError, TRIAL, Tx, Writer, migrate, require_schema, schema_of,
};
use crate::{
    audit::Chain,
    error::{Error, Result},
};

/// At most this many transactions share one flush: enough to hide the disk, few enough to keep each one's wait short.
const GROUP: usize = 256;

pub(super) struct Sqlite {
    path: PathBuf,
    idle_readers: Mutex<Vec<Connection>>,
    /// Absent when it only reads, and on drop.
    jobs: Option<Sender<Box<dyn Job>>>,
    writer: Option<JoinHandle<()>>,
    /// Of a server: held for as long as it is open.
    _lock: Option<File>,
    /// What a database at rest looked like when it was opened.
    found: Option<[Stamp; 2]>,
}

impl Sqlite {
    pub(super) fn open(path: &Path, writer: Writer) -> Result<Self> {
        let lock = lock_file(path)?;
        let connection = connect(path)?;
        // SQLite opens what it may not write for reading, and would say so at the first write.
        if connection.is_readonly("main").map_err(|error| refused(&error))? {
            let what = format!("the database file {} is read-only", path.display());
            return Err(Error::Setup { what: what.into(), fix: StoreError::ReadOnly.fix().into() });
        }
        let exists = has_tables(&connection)?;
        connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| refused(&error))?;
        let mut tx = Tx { inner: Inner::Sqlite(&connection), chain: None };
        migrate(&mut tx, batch, exists)?;
        connection.execute_batch("COMMIT").map_err(|error| refused(&error))?;
        Self::start(path, connection, &writer, Some(lock))
    }

    /// See [`super::Store::open_beside`].
    pub(super) fn open_beside(path: &Path, writer: &Writer) -> Result<Self> {
        // It must be there already: nothing is made beside a server.
        drop(Self::open_read_only(path)?);
        Self::start(path, connect(path)?, writer, None)
    }

    fn start(path: &Path, connection: Connection, writer: &Writer, lock: Option<File>) -> Result<Self> {
        let chain = Chain::start(writer)?;
        let (jobs, queue) = crossbeam_channel::unbounded();
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || write_loop(&connection, chain, &queue))
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(Self {
            path: path.into(),
            idle_readers: Mutex::default(),
            jobs: Some(jobs),
            writer: Some(writer),
            _lock: lock,
            found: None,
        })
    }

    pub(super) fn open_read_only(path: &Path) -> Result<Self> {
        let engine = Self {
            path: path.into(),
            idle_readers: Mutex::default(),
            jobs: None,
            writer: None,
            _lock: None,
            found: None,
        };
        engine.read(&require_schema)?;
        Ok(engine)
    }

    /// See [`super::Store::open_at_rest`].
    pub(super) fn open_at_rest(path: &Path) -> Result<Self> {
        let mut engine = Self::open_read_only(path)?;
        engine._lock = Some(lock_file(path)?);
        engine.found = Some(stamp(path));
        Ok(engine)
    }

    /// Whether somebody wrote to a database that was opened at rest.
    pub(super) fn changed(&self) -> bool {
        self.found.as_ref().is_some_and(|found| *found != stamp(&self.path))
    }

    pub(super) fn read<T>(&self, work: &dyn Fn(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        let idle = self.idle_readers.lock().expect("no holder panics").pop();
        let connection = match idle {
            Some(connection) => connection,
            None if self.jobs.is_none() => connect_read_only(&self.path)?,
            None => connect(&self.path)?,
        };
        connection.execute_batch("BEGIN").map_err(|error| refused(&error))?;
        let result = work(&mut Tx { inner: Inner::Sqlite(&connection), chain: None });
        connection.execute_batch("COMMIT").map_err(|error| refused(&error))?;
        self.idle_readers.lock().expect("no holder panics").push(connection);
        result
    }

    pub(super) fn write(&self, job: Box<dyn Job>) -> Result<()> {
        let jobs = self.jobs.as_ref().ok_or(StoreError::ReadOnly)?;
        jobs.send(job).map_err(|_| StoreError::Unreachable("the writer has stopped".into()).into())
    }
}

/// Length and time of the last change.
type Stamp = Option<(u64, std::time::SystemTime)>;

/// Of the file and of its log. Connections to a database at rest take it for one that nobody changes, and would not see it.
fn stamp(path: &Path) -> [Stamp; 2] {
    let log = PathBuf::from(format!("{}-wal", path.display()));
    [path, &log].map(|file| {
        let file = std::fs::metadata(file).ok()?;
        Some((file.len(), file.modified().ok()?))
    })
}

/// See [`super::Store::probe`]. A server that has the file open goes on meanwhile.
pub(super) fn probe(path: &Path) -> Result<Probe> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| refused(&error))?;
    connection.busy_timeout(LOCK_WAIT).map_err(|error| refused(&error))?;
    if !has_tables(&connection)? {
        return Ok(Probe { schema: None, written: Ok(()), time: None });
    }
    let schema = schema_of(&mut Tx { inner: Inner::Sqlite(&connection), chain: None })?;
    let run = |sql| connection.execute_batch(sql).map_err(|error| refused(&error));
    let written = run("BEGIN IMMEDIATE").and_then(|()| run(TRIAL)).and_then(|()| run("ROLLBACK"));
    Ok(Probe { schema: Some(schema), written, time: None })
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            // It ends once the queue is empty; a panic there has been reported already.
            let _ = writer.join();
        }
    }
}

fn write_loop(connection: &Connection, mut chain: Chain, queue: &Receiver<Box<dyn Job>>) {
    while let Ok(first) = queue.recv() {
        let mut jobs = vec![first];
        jobs.extend(queue.try_iter().take(GROUP - 1));
        let before = chain.clone();
        let committed = commit_group(connection, &mut chain, &mut jobs);
        if committed.is_err() {
            chain = before;
            // After a failed commit SQLite may or may not have ended the transaction; either is fine here.
            let _ = connection.execute_batch("ROLLBACK");
        }
        for job in jobs {
            job.finish(committed.clone());
        }
    }
}

/// Runs each job in a savepoint of one transaction, so that one that fails takes nobody with it.
fn commit_group(
    connection: &Connection,
    chain: &mut Chain,
    jobs: &mut [Box<dyn Job>],
) -> std::result::Result<(), StoreError> {
    let run = |sql| connection.execute_batch(sql).map_err(|error| refused(&error));
    run("BEGIN IMMEDIATE")?;
    for job in jobs {
        run("SAVEPOINT job")?;
        let mut attempt = chain.clone();
        let keep = job.run(&mut Tx { inner: Inner::Sqlite(connection), chain: Some(&mut attempt) })?;
        if connection.is_autocommit() {
            // A full disk or a failing one: SQLite took the whole transaction back (sqlite.org/lang_transaction.html).
            let lost = || StoreError::Failed("SQLite gave the transaction up".into());
            return Err(job.refusal().unwrap_or_else(lost));
        }
        if keep {
            *chain = attempt;
        } else {
            run("ROLLBACK TO job")?;
        }
        run("RELEASE job")?;
    }
    run("COMMIT")
}

pub(super) fn execute(connection: &Connection, sql: &str, params: &[Param<'_>]) -> Result<u64> {
    let mut statement = connection.prepare_cached(sql).map_err(|error| refused(&error))?;
    bind(&mut statement, params)?;
    statement.raw_execute().map(|rows| rows as u64).map_err(|error| refused(&error).into())
}

pub(super) fn all<T>(
    connection: &Connection,
    sql: &str,
    params: &[Param<'_>],
    mut map: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut statement = connection.prepare_cached(sql).map_err(|error| refused(&error))?;
    bind(&mut statement, params)?;
    let mut rows = statement.raw_query();
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(|error| refused(&error))? {
        found.push(map(&Row::Sqlite(row))?);
    }
    Ok(found)
}

/// `$1` is a name to SQLite, not a place: each is bound by its name, so that the order in the text does not matter.
fn bind(statement: &mut rusqlite::Statement<'_>, params: &[Param<'_>]) -> Result<()> {
    const NAMES: [&str; 24] = [
        "$1", "$2", "$3", "$4", "$5", "$6", "$7", "$8", "$9", "$10", "$11", "$12", "$13", "$14", "$15", "$16", "$17",
        "$18", "$19", "$20", "$21", "$22", "$23", "$24",
    ];
    for (name, param) in NAMES.iter().zip(params) {
        let index = statement.parameter_index(name).map_err(|error| refused(&error))?;
        let index = index.ok_or_else(|| StoreError::Failed(format!("a statement without {name}")))?;
        statement.raw_bind_parameter(index, param).map_err(|error| refused(&error))?;
    }
    Ok(())
}

impl ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Null => Ok(rusqlite::types::Null.into()),
            Self::Int(value) => Ok((*value).into()),
            Self::Text(value) => value.to_sql(),
            Self::Bytes(value) => value.to_sql(),
            Self::Id(value) => value.as_bytes().as_slice().to_sql(),
        }
    }
}

/// Our word for SQLite's error. Its text names tables and columns, never values.
pub(super) fn refused(error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) if error.to_string().contains("UNIQUE") => StoreError::Taken,
        Some(ErrorCode::DiskFull) => StoreError::Full,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => StoreError::ReadOnly,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse("SQLite says it is busy".into()),
        Some(ErrorCode::CannotOpen) => StoreError::Unreachable(error.to_string()),
        _ => StoreError::Failed(error.to_string()),
    }
}

fn has_tables(connection: &Connection) -> Result<bool> {
    let mut statement =
        connection.prepare("SELECT 1 FROM sqlite_master WHERE name = 'meta'").map_err(|error| refused(&error))?;
    statement.exists([]).map_err(|error| refused(&error).into())
}

fn batch(tx: &mut Tx<'_>, sql: &str) -> Result<()> {
    match &tx.inner {
        Inner::Sqlite(connection) => connection.execute_batch(sql).map_err(|error| refused(&error).into()),
        Inner::Postgres(_) => unreachable!("this file makes SQLite transactions only"),
    }
}

fn connect(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| refused(&error))?;
    connection.busy_timeout(LOCK_WAIT).map_err(|error| refused(&error))?;
    connection.set_prepared_statement_cache_capacity(256);
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
             PRAGMA cache_size = -16384; PRAGMA mmap_size = 1073741824; PRAGMA secure_delete = ON;",
        )
        .map_err(|error| refused(&error))?;
    Ok(connection)
}

/// Without a write-ahead log beside it, no server has the file open and it is read as it lies: a reader of WAL files
/// would make that log anew, and a copy may lie where nothing can be written.
fn connect_read_only(path: &Path) -> Result<Connection> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let still = if Path::new(&log).exists() { "" } else { "&immutable=1" };
    // In a URI these three would end or escape the path (sqlite.org/uri.html).
    let name = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let uri = format!("file:{name}?mode=ro{still}");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri, flags).map_err(|error| refused(&error))?;
    connection.busy_timeout(LOCK_WAIT).map_err(|error| refused(&error))?;
    Ok(connection)
}

/// One server a file: SQLite itself would let two share it, and their leases and audit chains would not.
fn lock_file(path: &Path) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let cannot = |error: std::io::Error| {
        let what = format!("the database folder of {} cannot be used: {error}", path.display());
        let fix = "Make the folder, and give the server's user the right to write in it.";
        Error::Setup { what: what.into(), fix: fix.into() }
    };
    let file = File::options().create(true).truncate(false).write(true).open(PathBuf::from(name)).map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse(path.display().to_string()).into()),
        Err(std::fs::TryLockError::Error(error)) => Err(cannot(error)),
    }
}

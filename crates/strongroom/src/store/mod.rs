//! The database: SQLite or PostgreSQL, by URL. SQL is written once, in the nouns' own modules; this folder is the
//! only place that knows one engine from the other (`sqlite.rs`, `postgres.rs`).
//!
//! A transaction is a plain function over [`Tx`]. It cannot wait for a network call, because it cannot wait for
//! anything: that is invariant 3 as a type. It may run more than once (PostgreSQL asks for retries), so it takes
//! bytes that are already sealed and changes nothing outside of the database.

mod postgres;
pub mod rows;
mod sqlite;
pub mod transfer;
mod value;

use std::{path::Path, sync::Arc, time::Duration};

use jiff::Timestamp;
use strongroom_envelope::InstanceKeys;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

pub use self::value::{FromColumn, Param, Row};
use crate::{
    audit::{Chain, Event},
    error::{Error, Result},
    id::{BootId, NodeId},
};

/// The schema this program writes. An older one is brought forward at start, a newer one is refused.
pub const SCHEMA: i64 = 1;
/// How long a caller waits for the database before it is told that there is no answer.
const PATIENCE: Duration = Duration::from_secs(30);
const MIGRATIONS: &[&str] = &[include_str!("../../migrations/0001_first.sql")];

/// An open database.
pub struct Store {
    engine: Engine,
    patience: Option<Duration>,
}

enum Engine {
    Sqlite(sqlite::Sqlite),
    Postgres(postgres::Postgres),
}

/// What a look at a database found; see [`Store::probe`].
#[derive(Debug)]
pub struct Probe {
    /// None where nothing has been written to it yet.
    pub schema: Option<i64>,
    /// What happened to a write that was taken back.
    pub written: std::result::Result<(), StoreError>,
    /// What time it is there; None where it goes by this machine's clock.
    pub time: Option<Timestamp>,
}

/// Who writes audit events: every writer of the store starts one chain under these.
#[derive(Clone)]
pub struct Writer {
    pub node: NodeId,
    pub keys: Arc<InstanceKeys>,
    /// Called once per writer for a fresh [`BootId`].
    pub boot: Arc<dyn Fn() -> Result<BootId> + Send + Sync>,
}

/// What the database said no with.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    #[error("this value is taken already")]
    Taken,
    #[error("the database asks for a retry")]
    Retry,
    #[error("the disk that holds the database is full")]
    Full,
    #[error("the database cannot be written: it is read-only")]
    ReadOnly,
    #[error("another server has this database open: {0}")]
    InUse(String),
    #[error("the database has schema {found}, made by a newer Strongroom; this one knows schema {SCHEMA}")]
    NewerSchema { found: i64 },
    #[error("the database cannot be reached: {0}")]
    Unreachable(String),
    #[error("the database failed: {0}")]
    Failed(String),
}

impl StoreError {
    /// Stable, for the API and the log.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Taken => "store.taken",
            Self::Retry => "store.busy",
            Self::Full => "store.full",
            Self::ReadOnly => "store.read_only",
            Self::InUse(_) => "store.in_use",
            Self::NewerSchema { .. } => "store.newer_schema",
            Self::Unreachable(_) => "store.unreachable",
            Self::Failed(_) => "store.failed",
        }
    }

    /// What an operator can do about it.
    pub fn fix(&self) -> &'static str {
        match self {
            Self::Taken => "Choose another.",
            Self::Retry => "Try again in a moment.",
            Self::Full => {
                "Free space on that disk. Nothing acknowledged was lost; reading goes on where it needs no audit event."
            }
            Self::ReadOnly => "Give the server's user the right to write the database file and its folder.",
            Self::InUse(_) => "Stop the other server, or use PostgreSQL, which takes several.",
            Self::NewerSchema { .. } => {
                "Start the newer Strongroom again, or restore the backup made before the upgrade."
            }
            Self::Unreachable(_) => "Check `database.url` and that the database runs.",
            Self::Failed(_) => "See the server's log.",
        }
    }
}

/// One transaction.
pub struct Tx<'a> {
    inner: Inner<'a>,
    chain: Option<&'a mut Chain>,
}

enum Inner<'a> {
    Sqlite(&'a rusqlite::Connection),
    Postgres(&'a mut postgres::Session),
}

impl Store {
    /// Opens `sqlite:PATH` or `postgres://…`, brings the schema forward and starts the writers.
    pub fn open(url: &str, writer: Writer) -> Result<Self> {
        let engine = match engine_of(url)? {
            EngineUrl::Sqlite(path) => Engine::Sqlite(sqlite::Sqlite::open(path, writer)?),
            EngineUrl::Postgres => Engine::Postgres(postgres::Postgres::open(url, writer)?),
        };
        Ok(Self { engine, patience: Some(PATIENCE) })
    }

    /// The same, which waits for the database this long, or for ever: for whoever has nobody else waiting.
    pub fn with_patience(self, patience: Option<Duration>) -> Self {
        Self { patience, ..self }
    }

    /// Opens a database to write a little to it beside its running server: it takes no lock, brings no schema forward and
    /// makes no database. What it writes must be nothing that a server keeps in memory.
    pub fn open_beside(url: &str, writer: Writer) -> Result<Self> {
        let engine = match engine_of(url)? {
            EngineUrl::Sqlite(path) => Engine::Sqlite(sqlite::Sqlite::open_beside(path, &writer)?),
            EngineUrl::Postgres => Engine::Postgres(postgres::Postgres::open_beside(url, writer)?),
        };
        Ok(Self { engine, patience: None })
    }

    /// Opens a database to read it, beside a running server or as a copy: it takes no lock and writes nothing, and
    /// [`Store::write`] refuses. The schema must be the one that this program writes.
    pub fn open_read_only(url: &str) -> Result<Self> {
        let engine = match engine_of(url)? {
            EngineUrl::Sqlite(path) => Engine::Sqlite(sqlite::Sqlite::open_read_only(path)?),
            EngineUrl::Postgres => Engine::Postgres(postgres::Postgres::open_read_only(url)?),
        };
        Ok(Self { engine, patience: None })
    }

    /// As [`Store::open_read_only`], and no server may have it open: SQLite's lock is taken; for PostgreSQL see
    /// [`Store::others`].
    pub fn open_at_rest(url: &str) -> Result<Self> {
        let engine = match engine_of(url)? {
            EngineUrl::Sqlite(path) => Engine::Sqlite(sqlite::Sqlite::open_at_rest(path)?),
            EngineUrl::Postgres => Engine::Postgres(postgres::Postgres::open_read_only(url)?),
        };
        Ok(Self { engine, patience: None })
    }

    /// How many other connections of Strongroom this database has, as far as it tells; 0 on SQLite, which is locked.
    pub(crate) async fn others(&self) -> Result<u64> {
        match self.engine {
            Engine::Sqlite(_) => Ok(0),
            Engine::Postgres(_) => self.read(|tx| tx.count(postgres::OTHERS, &[])).await,
        }
    }

    /// Whether a database that was opened at rest was written to since, where its connections would not see that.
    pub(crate) fn changed_at_rest(&self) -> bool {
        matches!(&self.engine, Engine::Sqlite(engine) if engine.changed())
    }

    /// Looks whether a database could be served from, beside a running server too. Changes nothing, and makes none.
    pub async fn probe(url: &str) -> Result<Probe> {
        let url = Zeroizing::new(url.to_owned());
        let look = move || match engine_of(&url)? {
            EngineUrl::Sqlite(path) => sqlite::probe(path),
            EngineUrl::Postgres => postgres::probe(&url),
        };
        let looked = tokio::task::spawn_blocking(look).await;
        looked.unwrap_or_else(|_| Err(StoreError::Failed("looking at the database panicked".into()).into()))
    }

    /// Runs `work` on one snapshot. On SQLite it runs on the calling thread: ask for a page of rows, not for a table.
    pub async fn read<T: Send + 'static>(&self, work: impl Fn(&mut Tx<'_>) -> Result<T> + Send + 'static) -> Result<T> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(&work),
            Engine::Postgres(engine) => {
                let (job, answer) = TypedJob::of(work);
                engine.read(job)?;
                self.answered(answer).await
            }
        }
    }

    /// Runs `work` in one transaction and returns once it is durable. Several may share one flush of the disk.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (job, answer) = TypedJob::of(work);
        match &self.engine {
            Engine::Sqlite(engine) => engine.write(job)?,
            Engine::Postgres(engine) => engine.write(job)?,
        }
        self.answered(answer).await
    }

    /// What the transaction came to. One that is given up may still have been committed, as with a connection that breaks.
    async fn answered<T>(&self, answer: oneshot::Receiver<Result<T>>) -> Result<T> {
        let gone = || Err(StoreError::Unreachable("the store is shutting down".into()).into());
        let Some(patience) = self.patience else { return answer.await.unwrap_or_else(|_| gone()) };
        match tokio::time::timeout(patience, answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| gone()),
            Err(_) => Err(StoreError::Unreachable(format!("no answer within {} s", patience.as_secs())).into()),
        }
    }

    /// What to call the engine in pages and logs.
    pub fn engine_name(&self) -> &'static str {
        match self.engine {
            Engine::Sqlite(_) => "SQLite",
            Engine::Postgres(_) => "PostgreSQL",
        }
    }
}

impl Tx<'_> {
    /// Runs a statement; returns how many rows it touched. Parameters are `$1`, `$2` … in the order of `params`.
    pub fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64> {
        match &mut self.inner {
            Inner::Sqlite(connection) => sqlite::execute(connection, sql, params),
            Inner::Postgres(session) => session.execute(sql, params),
        }
    }

    /// Every row, through `map`.
    pub fn all<T>(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        map: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        match &mut self.inner {
            Inner::Sqlite(connection) => sqlite::all(connection, sql, params, map),
            Inner::Postgres(session) => session.all(sql, params, map),
        }
    }

    /// The first row, if there is one.
    pub fn first<T>(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        map: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.all(sql, params, map)?.into_iter().next())
    }

    /// As [`Tx::first`], and nobody else changes that row before this transaction ends. One that only reads has a
    /// snapshot instead, and no leave to lock.
    pub fn first_locked<T>(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        map: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        match self.inner {
            // SQLite has one writer: a write transaction holds every row.
            Inner::Sqlite(_) => self.first(sql, params, map),
            Inner::Postgres(_) if self.chain.is_none() => self.first(sql, params, map),
            Inner::Postgres(_) => self.first(&format!("{sql} FOR UPDATE"), params, map),
        }
    }

    /// The number in the first column of the first row; 0 without one.
    pub fn count(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64> {
        let count = self.first(sql, params, |row| row.get::<i64>(0))?.unwrap_or(0);
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Appends an audit event to this writer's chain; it stands or falls with the transaction.
    pub fn record(&mut self, event: &Event) -> Result<()> {
        let chain = self.chain.take().ok_or(StoreError::ReadOnly)?;
        let result = chain.append(self, event);
        self.chain = Some(chain);
        result
    }
}

/// A transaction waiting for its turn: run once or more, then told how the commit went.
trait Job: Send {
    /// True when the transaction should be committed.
    fn run(&mut self, tx: &mut Tx<'_>) -> std::result::Result<bool, StoreError>;
    /// What the database said no with in the last run, if that is why it failed.
    fn refusal(&self) -> Option<StoreError>;
    fn finish(self: Box<Self>, committed: std::result::Result<(), StoreError>);
    /// Nobody waits for it any more.
    fn is_given_up(&self) -> bool;
}

struct TypedJob<T, F> {
    work: F,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> TypedJob<T, F>
where
    T: Send + 'static,
    F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
{
    fn of(work: F) -> (Box<dyn Job>, oneshot::Receiver<Result<T>>) {
        let (reply, answer) = oneshot::channel();
        (Box::new(Self { work, outcome: None, reply }), answer)
    }
}

impl<T, F> Job for TypedJob<T, F>
where
    T: Send + 'static,
    F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> std::result::Result<bool, StoreError> {
        // A defect in one request must not end the writer that all requests share.
        let work = std::panic::AssertUnwindSafe(|| (self.work)(tx));
        let outcome = std::panic::catch_unwind(work)
            .unwrap_or_else(|_| Err(StoreError::Failed("a transaction panicked".into()).into()));
        if let Err(Error::Store(StoreError::Retry)) = outcome {
            return Err(StoreError::Retry);
        }
        let commit = outcome.is_ok();
        self.outcome = Some(outcome);
        Ok(commit)
    }

    fn is_given_up(&self) -> bool {
        self.reply.is_closed()
    }

    fn refusal(&self) -> Option<StoreError> {
        match &self.outcome {
            Some(Err(Error::Store(error))) => Some(error.clone()),
            _ => None,
        }
    }

    fn finish(mut self: Box<Self>, committed: std::result::Result<(), StoreError>) {
        let outcome = match (committed, self.outcome.take()) {
            (Ok(()), Some(outcome)) | (Err(_), Some(outcome @ Err(_))) => outcome,
            (Err(error), _) => Err(error.into()),
            (Ok(()), None) => Err(StoreError::Failed("a transaction never ran".into()).into()),
        };
        // Nobody waits any more: the request was given up.
        let _ = self.reply.send(outcome);
    }
}

enum EngineUrl<'a> {
    Sqlite(&'a Path),
    Postgres,
}

fn engine_of(url: &str) -> Result<EngineUrl<'_>> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        Ok(EngineUrl::Sqlite(path.trim_start_matches("//").as_ref()))
    } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        Ok(EngineUrl::Postgres)
    } else {
        Err(Error::Setup {
            what: "database.url names no engine that Strongroom knows".into(),
            fix: "Use sqlite:PATH or postgres://USER@HOST/NAME.".into(),
        })
    }
}

/// The schema of a database that has its tables.
fn schema_of(tx: &mut Tx<'_>) -> Result<i64> {
    let text = tx.first("SELECT value FROM meta WHERE name = 'schema'", &[], |row| row.get::<String>(0))?;
    let found = text.and_then(|text| text.parse().ok()).unwrap_or(0);
    if found > SCHEMA { Err(StoreError::NewerSchema { found }.into()) } else { Ok(found) }
}

/// A statement that changes no row, in a transaction that is then taken back.
const TRIAL: &str = "UPDATE meta SET value = value WHERE name = 'schema'";

/// Who only reads cannot bring the schema forward.
fn require_schema(tx: &mut Tx<'_>) -> Result<()> {
    match schema_of(tx)? {
        SCHEMA => transfer::require_whole(tx),
        found => Err(Error::Setup {
            what: format!("the database has schema {found}, this program reads schema {SCHEMA}").into(),
            fix: "Start this server on it once; that brings the schema forward.".into(),
        }),
    }
}

/// Brings an open database to [`SCHEMA`]; the same steps on both engines.
fn migrate(tx: &mut Tx<'_>, batch: impl Fn(&mut Tx<'_>, &str) -> Result<()>, exists: bool) -> Result<()> {
    let found = if exists { schema_of(tx)? } else { 0 };
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        batch(tx, sql)?;
        let schema = (index + 1).to_string();
        tx.execute("DELETE FROM meta WHERE name = 'schema'", &[])?;
        tx.execute("INSERT INTO meta (name, value) VALUES ('schema', $1)", &[Param::Text(&schema)])?;
    }
    Ok(())
}

/// How long a transaction may wait for a lock before it is told to try again.
const LOCK_WAIT: Duration = Duration::from_secs(5);

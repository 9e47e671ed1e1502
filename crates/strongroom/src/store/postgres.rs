//! PostgreSQL, and engines that speak its protocol: a few threads with a connection each, SERIALIZABLE writes that
//! are retried when the engine asks (SQLSTATE 40001), statements prepared once per connection.

use std::{
    collections::HashMap,
    error::Error as StdError,
    net::IpAddr,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender};
use jiff::Timestamp;
use postgres::{
    Client, NoTls, Statement,
    config::{Host, SslMode},
    error::SqlState,
};
use postgres_types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked};
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    Inner, Job, LOCK_WAIT, Param, Probe, Row, StoreError, TRIAL, Tx, Writer, migrate, require_schema, schema_of,
};
use crate::{
    audit::Chain,
    error::{Error, Result},
};

/// Connections that write, and as many that read.
const LANES: usize = 8;
/// Tries of one transaction before the caller is told that the database is busy.
const TRIES: u32 = 12;
/// A server that acknowledges nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(15);
/// No new try begins later than this after the first: each may wait for a lock as long as [`LOCK_WAIT`].
const PATIENCE: Duration = Duration::from_secs(15);

/// Other connections of Strongroom to the same database. An engine that lists none has none for all we know.
pub(super) const OTHERS: &str = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() \
                                 AND application_name = 'strongroom' AND pid <> pg_backend_pid()";

pub(super) struct Postgres {
    writes: Option<Sender<Box<dyn Job>>>,
    reads: Option<Sender<Box<dyn Job>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Postgres {
    pub(super) fn open(url: &str, writer: Writer) -> Result<Self> {
        let config = config_of(url)?;
        at_the_start(&config, Session::prepare_schema)?;
        Self::start(config, writer)
    }

    /// See [`super::Store::open_beside`].
    pub(super) fn open_beside(url: &str, writer: Writer) -> Result<Self> {
        let config = config_of(url)?;
        at_the_start(&config, Session::require_schema)?;
        Self::start(config, writer)
    }

    fn start(config: Config, writer: Writer) -> Result<Self> {
        let (writes, write_queue) = crossbeam_channel::unbounded();
        let (reads, read_queue) = crossbeam_channel::unbounded();
        let mut threads = Vec::new();
        for _ in 0..LANES {
            let lane = Lane { config: config.clone(), session: None, writer: Some(writer.clone()), chain: None };
            threads.push(spawn(lane, write_queue.clone())?);
            let lane = Lane { config: config.clone(), session: None, writer: None, chain: None };
            threads.push(spawn(lane, read_queue.clone())?);
        }
        Ok(Self { writes: Some(writes), reads: Some(reads), threads })
    }

    pub(super) fn open_read_only(url: &str) -> Result<Self> {
        let config = config_of(url)?;
        at_the_start(&config, Session::require_schema)?;
        let (reads, queue) = crossbeam_channel::unbounded();
        let thread = spawn(Lane { config, session: None, writer: None, chain: None }, queue)?;
        Ok(Self { writes: None, reads: Some(reads), threads: vec![thread] })
    }

    pub(super) fn read(&self, job: Box<dyn Job>) -> Result<()> {
        send(self.reads.as_ref(), job)
    }

    pub(super) fn write(&self, job: Box<dyn Job>) -> Result<()> {
        send(self.writes.as_ref(), job)
    }
}

/// See [`super::Store::probe`].
pub(super) fn probe(url: &str) -> Result<Probe> {
    at_the_start(&config_of(url)?, |session| {
        let millis = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";
        let millis = session.all(millis, &[], |row| row.get::<i64>(0))?.into_iter().next();
        let time = millis.and_then(|millis| Timestamp::from_millisecond(millis).ok());
        if !session.has_tables()? {
            return Ok(Probe { schema: None, written: Ok(()), time });
        }
        let schema = schema_of(&mut Tx { inner: Inner::Postgres(session), chain: None })?;
        let mut written = session.trial();
        for tried in 1..TRIES {
            if !matches!(written, Err(StoreError::Retry)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1 << tried.min(6)));
            written = session.trial();
        }
        Ok(Probe { schema: Some(schema), written, time })
    })
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.writes = None;
        self.reads = None;
        for thread in self.threads.drain(..) {
            // It ends once its queue is empty; a panic there has been reported already.
            let _ = thread.join();
        }
    }
}

/// One connection and, if it writes, its own chain of audit events: chains never wait for each other.
struct Lane {
    config: Config,
    session: Option<Session>,
    writer: Option<Writer>,
    /// Where this lane's chain stands; `None` before its first event, and after a commit of which nobody knows whether
    /// it happened: a new chain begins then.
    chain: Option<Chain>,
}

impl Lane {
    fn serve(mut self, queue: &Receiver<Box<dyn Job>>) {
        while let Ok(mut job) = queue.recv() {
            // Whoever gave up was told that nothing is known of it: so it need not be done.
            if job.is_given_up() {
                continue;
            }
            let mut done = self.attempt(job.as_mut());
            let (mut tries, begun) = (1, Instant::now());
            while matches!(done, Err(StoreError::Retry)) && tries < TRIES && begun.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(1 << tries.min(6)));
                done = self.attempt(job.as_mut());
                tries += 1;
            }
            job.finish(done);
        }
    }

    fn attempt(&mut self, job: &mut dyn Job) -> std::result::Result<(), StoreError> {
        let mut chain = match (self.chain.take(), &self.writer) {
            (Some(chain), _) => Some(chain),
            (None, Some(writer)) => Some(Chain::start(writer).map_err(|error| StoreError::Failed(error.to_string()))?),
            (None, None) => None,
        };
        let before = chain.clone();
        let begin = if chain.is_some() {
            "BEGIN ISOLATION LEVEL SERIALIZABLE"
        } else {
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        };
        let mut session = match self.begin(begin) {
            Ok(session) => session,
            Err(error) => {
                self.chain = before;
                return Err(error);
            }
        };
        let keep = job.run(&mut Tx { inner: Inner::Postgres(&mut session), chain: chain.as_mut() });
        let done = match keep {
            Ok(true) => match session.command("COMMIT") {
                Ok(()) => {
                    self.chain = chain;
                    Ok(())
                }
                Err(error) => {
                    // A retry says that nothing was committed; a lost connection says nothing.
                    self.chain = before.filter(|_| matches!(error, StoreError::Retry));
                    Err(error)
                }
            },
            other => {
                self.chain = before;
                other.and_then(|_| session.command("ROLLBACK"))
            }
        };
        if done.is_err() {
            // The first error is the one to report.
            let _ = session.command("ROLLBACK");
        }
        // After a failover the server that this one leads to may be the one that only reads.
        self.session = Some(session).filter(|_| !matches!(done, Err(StoreError::ReadOnly)));
        done
    }

    /// A session in a new transaction. Nothing has run in it yet: where the connection that was kept turns out to have
    /// ended, as after a restart of the database, another one begins instead.
    fn begin(&mut self, begin: &str) -> std::result::Result<Session, StoreError> {
        if let Some(mut kept) = self.session.take().filter(|session| !session.client.is_closed())
            && kept.command(begin).is_ok()
        {
            return Ok(kept);
        }
        let mut session = Session::connect(&self.config)?;
        session.command(begin)?;
        Ok(session)
    }
}

/// A connection with its prepared statements.
pub(super) struct Session {
    client: Client,
    statements: HashMap<String, Statement>,
}

impl Session {
    fn connect(Config { server, tls }: &Config) -> std::result::Result<Self, StoreError> {
        let connected = match tls {
            Some(tls) => server.connect(tls.clone()),
            None => server.connect(NoTls),
        };
        let mut client = connected.map_err(|error| match refused(&error) {
            StoreError::Failed(text) => StoreError::Unreachable(text),
            other => other,
        })?;
        let limits = format!("SET lock_timeout = {}", LOCK_WAIT.as_millis());
        client.batch_execute(&limits).map_err(|error| refused(&error))?;
        Ok(Self { client, statements: HashMap::new() })
    }

    /// Brings the schema forward. Another node may do the same at this moment: then it is looked at again.
    fn prepare_schema(&mut self) -> Result<()> {
        let again = |error: &Error| matches!(error, Error::Store(StoreError::Retry | StoreError::Taken));
        let mut tries = 1;
        loop {
            match self.try_to_prepare_schema() {
                Err(error) if again(&error) && tries < TRIES => {
                    self.command("ROLLBACK")?;
                    std::thread::sleep(Duration::from_millis(1 << tries.min(6)));
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    fn try_to_prepare_schema(&mut self) -> Result<()> {
        self.command("BEGIN ISOLATION LEVEL SERIALIZABLE")?;
        let exists = self.has_tables()?;
        let mut tx = Tx { inner: Inner::Postgres(self), chain: None };
        migrate(
            &mut tx,
            |tx, sql| match &mut tx.inner {
                Inner::Postgres(session) => session.command(sql).map_err(Into::into),
                Inner::Sqlite(_) => unreachable!("this file makes PostgreSQL transactions only"),
            },
            exists,
        )?;
        self.command("COMMIT").map_err(Into::into)
    }

    fn require_schema(&mut self) -> Result<()> {
        self.command("BEGIN READ ONLY")?;
        require_schema(&mut Tx { inner: Inner::Postgres(self), chain: None })
    }

    /// Writes what changes nothing, and takes it back.
    fn trial(&mut self) -> std::result::Result<(), StoreError> {
        let written = self.command("BEGIN").and_then(|()| self.command(TRIAL));
        written.and(self.command("ROLLBACK"))
    }

    fn has_tables(&mut self) -> Result<bool> {
        let found = "SELECT 1 FROM information_schema.tables WHERE table_schema = current_schema() \
                     AND table_name = 'meta'";
        Ok(!self.client.query(found, &[]).map_err(|error| refused(&error))?.is_empty())
    }

    fn command(&mut self, sql: &str) -> std::result::Result<(), StoreError> {
        self.client.batch_execute(sql).map_err(|error| refused(&error))
    }

    pub(super) fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64> {
        let statement = self.statement(sql)?;
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|param| param as _).collect();
        self.client.execute(&statement, &params).map_err(|error| refused(&error).into())
    }

    pub(super) fn all<T>(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        mut map: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let statement = self.statement(sql)?;
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|param| param as _).collect();
        let rows = self.client.query(&statement, &params).map_err(|error| refused(&error))?;
        rows.iter().map(|row| map(&Row::Postgres(row))).collect()
    }

    fn statement(&mut self, sql: &str) -> Result<Statement> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).map_err(|error| refused(&error))?;
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

impl ToSql for Param<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> std::result::Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(value) => value.to_sql(kind, out),
            Self::Text(value) => value.to_sql(kind, out),
            Self::Bytes(value) => value.to_sql(kind, out),
            Self::Id(value) => value.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        [Type::INT8, Type::TEXT, Type::VARCHAR, Type::BYTEA, Type::UUID].contains(kind)
    }

    to_sql_checked!();
}

/// Another transaction was in the way; the third is the end of `lock_timeout`, the last one is of a schema that another node
/// makes at the same moment.
const AGAIN: [SqlState; 4] = [
    SqlState::T_R_SERIALIZATION_FAILURE,
    SqlState::T_R_DEADLOCK_DETECTED,
    SqlState::LOCK_NOT_AVAILABLE,
    SqlState::DUPLICATE_TABLE,
];
/// The server ended the connection, or takes none yet.
const GONE: [SqlState; 5] = [
    SqlState::ADMIN_SHUTDOWN,
    SqlState::CRASH_SHUTDOWN,
    SqlState::CANNOT_CONNECT_NOW,
    SqlState::TOO_MANY_CONNECTIONS,
    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
];

/// Our word for PostgreSQL's error. `Display` of a database error carries its message, never row values (`DETAIL`).
pub(super) fn refused(error: &postgres::Error) -> StoreError {
    match error.code() {
        Some(code) if *code == SqlState::UNIQUE_VIOLATION => StoreError::Taken,
        Some(code) if AGAIN.contains(code) => StoreError::Retry,
        Some(code) if GONE.contains(code) => StoreError::Unreachable(format!("SQLSTATE {}", code.code())),
        Some(code) if *code == SqlState::DISK_FULL => StoreError::Full,
        Some(code) if *code == SqlState::READ_ONLY_SQL_TRANSACTION => StoreError::ReadOnly,
        Some(code) => StoreError::Failed(format!("SQLSTATE {}", code.code())),
        None => StoreError::Unreachable(error.to_string()),
    }
}

fn spawn(lane: Lane, queue: Receiver<Box<dyn Job>>) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("store-lane".into())
        .spawn(move || lane.serve(&queue))
        .map_err(|error| StoreError::Failed(error.to_string()).into())
}

/// Runs `work` on a connection of its own before there are lanes. On a thread: the client blocks on a runtime that it
/// makes, which it must not do within the runtime that its caller may run in.
fn at_the_start<T: Send>(config: &Config, work: impl FnOnce(&mut Session) -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let done = scope.spawn(|| work(&mut Session::connect(config)?)).join();
        done.unwrap_or_else(|_| Err(StoreError::Failed("opening the database panicked".into()).into()))
    })
}

/// Where the database is, and how its connections are protected.
#[derive(Clone)]
struct Config {
    server: postgres::Config,
    /// Present when the URL asks for it.
    tls: Option<MakeRustlsConnect>,
}

/// Reads `database.url`. rustls proves who the server is, always, so `sslmode=require` is as good as `verify-full`.
/// Without it only this machine is reached: what another one answers must not cross a network in the clear.
fn config_of(url: &str) -> Result<Config> {
    let url = match url.rsplit_once('?') {
        Some((address, options)) => format!("{address}?{}", options.replace("sslmode=verify-full", "sslmode=require")),
        None => url.to_owned(),
    };
    let mut server: postgres::Config = url.parse().map_err(|error: postgres::Error| Error::Setup {
        what: format!("database.url cannot be read: {error}").into(),
        fix: "Write it as postgres://USER:PASSWORD@HOST:PORT/NAME?sslmode=require.".into(),
    })?;
    server.connect_timeout(LOCK_WAIT).application_name("strongroom");
    // A connection that leads nowhere any more is given up within this.
    server.keepalives_idle(LOCK_WAIT).keepalives_interval(LOCK_WAIT).keepalives_retries(2).tcp_user_timeout(SILENCE);
    if server.get_ssl_mode() == SslMode::Require {
        return Ok(Config { server, tls: Some(verifying_tls()?) });
    }
    if server.get_hosts().iter().all(is_here) && server.get_hostaddrs().iter().all(IpAddr::is_loopback) {
        return Ok(Config { server, tls: None });
    }
    Err(Error::Setup {
        what: "database.url names another machine, and does not ask for TLS".into(),
        fix: "Add sslmode=require to it. The server's certificate must be one that this machine trusts; \
              the environment variable SSL_CERT_FILE may name the file of another CA."
            .into(),
    })
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback()),
        Host::Unix(_) => true,
    }
}

/// TLS with the platform's roots.
fn verifying_tls() -> Result<MakeRustlsConnect> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(|error| Error::Setup {
            what: format!("TLS to the database cannot be set up: {error}").into(),
            fix: "Install the certificates of public CAs (Debian: ca-certificates), or set SSL_CERT_FILE.".into(),
        })?;
    Ok(MakeRustlsConnect::new(config.with_no_client_auth()))
}

fn send(jobs: Option<&Sender<Box<dyn Job>>>, job: Box<dyn Job>) -> Result<()> {
    let jobs = jobs.ok_or(StoreError::ReadOnly)?;
    jobs.send(job).map_err(|_| StoreError::Unreachable("the store is shutting down".into()).into())
}

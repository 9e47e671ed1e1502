//! One instance on an empty database, with a clock that tests turn by hand.

use std::{
    env,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use strongroom::{
    access::Role,
    app::{App, Caller, Settings},
    clock::{Clock, ManualClock},
    error::{Error, Result},
    id::{BootId, NodeId},
    keyring::Keyring,
    member::{Join, NewMember, Origin, Setup, guard::Guard},
    notice::NoticeSettings,
    secret_text::SecretText,
    store::{Store, Writer},
};
use strongroom_envelope::{InstanceKey, InstanceKeys, Random, SystemRandom};
use strongroom_keys::azure::{AzureConfig, AzureKeys};
use tempfile::TempDir;

/// Every member's password here, the Owner's included.
pub const PASSWORD: &str = "correct horse battery";
/// Where PostgreSQL listens; its user may create databases. Without it those tests are skipped, loudly.
const POSTGRES: &str = "STRONGROOM_TEST_POSTGRES";

/// An instance and the database under it.
pub struct World {
    pub app: Arc<App>,
    pub clock: ManualClock,
    // Dropped last: a database cannot go while the store is connected to it.
    pub database: Database,
}

/// An empty database, gone when dropped.
pub enum Database {
    Sqlite(TempDir),
    Postgres { server: String, name: String },
}

/// Runs `test` on each engine, one after the other.
pub fn on_both_engines<F: Future<Output = ()>>(test: impl Fn(Arc<World>) -> F) {
    on_each_database(|database| {
        let world = Arc::new(World::begin(database, fresh_keys()));
        runtime().block_on(test(Arc::clone(&world)));
    });
}

/// Hands an empty database of each engine to `test`.
pub fn on_each_database(test: impl Fn(Database)) {
    eprintln!("on SQLite");
    test(Database::sqlite());
    on_postgres(test);
}

/// Hands an empty database of PostgreSQL to `test`.
pub fn on_postgres(test: impl Fn(Database)) {
    match env::var(POSTGRES) {
        Ok(server) => {
            eprintln!("on PostgreSQL");
            test(Database::postgres(server));
        }
        Err(_) if env::var_os("CI").is_some() => panic!("{POSTGRES} is not set, and under CI nothing is skipped"),
        Err(_) => eprintln!("SKIPPED on PostgreSQL: {POSTGRES} is not set"),
    }
}

/// Every transaction that writes is refused with SQLSTATE 40001 the first time, half of them at their first statement and
/// half at the commit, as a distributed engine may at SERIALIZABLE: whatever the product does has to come out the same.
/// A session's advisory lock is not taken back with the transaction: whoever holds it was refused, and passes.
const TRY_AGAIN: &str = "
    CREATE SCHEMA faults;
    CREATE SEQUENCE faults.refused;
    CREATE FUNCTION faults.at_once() RETURNS trigger LANGUAGE plpgsql SET client_min_messages = error AS $$
    DECLARE at_commit boolean;
    BEGIN
        IF current_setting('faults.decided', true) IS DISTINCT FROM txid_current()::text THEN
            PERFORM set_config('faults.decided', txid_current()::text, true);
            PERFORM set_config('faults.at_commit', 'false', true);
            IF NOT pg_advisory_unlock(pg_backend_pid()) THEN
                PERFORM pg_advisory_lock(pg_backend_pid());
                at_commit := nextval('faults.refused') % 2 = 1;
                PERFORM set_config('faults.at_commit', at_commit::text, true);
                IF NOT at_commit THEN RAISE EXCEPTION 'try again' USING ERRCODE = '40001'; END IF;
            END IF;
        END IF;
        RETURN NULL;
    END $$;
    CREATE FUNCTION faults.at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF current_setting('faults.at_commit', true) = 'true' THEN
            RAISE EXCEPTION 'try again' USING ERRCODE = '40001';
        END IF;
        RETURN NULL;
    END $$;
    CREATE FUNCTION faults.watch() RETURNS event_trigger LANGUAGE plpgsql AS $$
    DECLARE made record;
    BEGIN
        FOR made IN SELECT DISTINCT object_identity FROM pg_event_trigger_ddl_commands()
            WHERE object_type = 'table' AND command_tag = 'CREATE TABLE' LOOP
            EXECUTE 'CREATE TRIGGER at_once AFTER INSERT OR UPDATE OR DELETE ON ' || made.object_identity
                || ' FOR EACH STATEMENT EXECUTE FUNCTION faults.at_once()';
            EXECUTE 'CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT OR UPDATE OR DELETE ON ' || made.object_identity
                || ' DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION faults.at_commit()';
        END LOOP;
    END $$;
    CREATE EVENT TRIGGER watch ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION faults.watch();";

impl World {
    /// An instance on `database` with `keys`.
    pub fn begin(database: Database, keys: Arc<InstanceKeys>) -> Self {
        let clock = ManualClock::at("2026-03-01T09:00:00Z".parse().expect("a time"));
        let app = open_app(&database, &clock, keys).expect("an empty database opens");
        Self { app, clock, database }
    }

    /// The same database and time, after a restart with `keys`.
    pub fn restart(self, keys: Arc<InstanceKeys>) -> Self {
        let Self { app, clock, database } = self;
        drop(app);
        let app = open_app(&database, &clock, keys).expect("its own database opens again");
        Self { app, clock, database }
    }

    /// Makes the workspace; returns its Owner.
    pub async fn set_up(&self) -> Caller {
        let link = self.app.setup_link().await.expect("the store works").expect("the store is empty");
        let session = self.app.open_setup(link.token.expose(), setup(), &origin()).await.expect("a good setup");
        self.app.caller_by_session(session.token.expose()).await.expect("a live session")
    }

    /// A member who has joined with `role`, invited by `by`.
    pub async fn member(&self, by: &Caller, name: &str, role: Role) -> Caller {
        let invitation = self.app.invite(by, new_member(name, role)).await.expect("an invitation");
        let join = Join { name: name.into(), password: PASSWORD.into() };
        let session = self.app.join(invitation.link.token.expose(), join, &origin()).await.expect("joined");
        self.app.caller_by_session(session.token.expose()).await.expect("a live session")
    }

    /// Changes the database behind the product's back.
    pub async fn tamper(&self, sql: &'static str) {
        self.app.store.write(move |tx| tx.execute(sql, &[]).map(drop)).await.expect("a statement that works");
    }

    /// How many events of `action` the audit log has.
    pub async fn events(&self, action: &'static str) -> u64 {
        let sql = "SELECT COUNT(*) FROM audit_events WHERE action = $1";
        self.app.store.read(move |tx| tx.count(sql, &[action.into()])).await.expect("the store works")
    }

    pub fn hours(&self, hours: u64) {
        self.clock.advance(Duration::from_secs(hours * 3600));
    }

    pub fn minutes(&self, minutes: u64) {
        self.clock.advance(Duration::from_secs(minutes * 60));
    }
}

impl Database {
    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().expect("a temporary folder"))
    }

    /// An empty database of the server that this URL of its administrator names.
    pub fn postgres(server: String) -> Self {
        let name = format!("strongroom_test_{}", uuid::Uuid::new_v4().simple());
        administer(&server, &format!("CREATE DATABASE {name}"));
        let database = Self::Postgres { server, name };
        administer(&database.url(), TRY_AGAIN);
        database
    }

    /// Another empty one of the same engine.
    pub fn another(&self) -> Self {
        match self {
            Self::Sqlite(_) => Self::sqlite(),
            Self::Postgres { server, .. } => Self::postgres(server.clone()),
        }
    }

    /// As `database.url` names it.
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => format!("sqlite:{}", folder.path().join("strongroom.db").display()),
            Self::Postgres { server, name } => {
                let (host, _) = server.rsplit_once('/').expect("the URL names a database");
                format!("{host}/{name}")
            }
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Self::Postgres { server, name } = self {
            administer(server, &format!("DROP DATABASE {name} WITH (FORCE)"));
        }
    }
}

/// A store alone, for tests of the store.
pub fn open_store(url: &str) -> Result<Store> {
    Store::open(url, writer(fresh_keys(), NodeId(uuid::Uuid::new_v4())))
}

pub fn fresh_keys() -> Arc<InstanceKeys> {
    let key = InstanceKey::generate(&SystemRandom::new()).expect("random");
    Arc::new(InstanceKeys::new(key, vec![]))
}

/// What the first Owner types.
pub fn setup() -> Setup {
    Setup {
        workspace: "Acme".into(),
        slug: "acme".into(),
        name: "Olivia Owner".into(),
        email: email("Olivia"),
        password: PASSWORD.into(),
    }
}

pub fn new_member(name: &str, role: Role) -> NewMember {
    NewMember { email: email(name), name: name.into(), role }
}

pub fn email(name: &str) -> String {
    format!("{}@example.com", name.to_lowercase())
}

pub fn origin() -> Origin {
    origin_at(7)
}

/// The same browser at another address.
pub fn origin_at(host: u8) -> Origin {
    Origin { address: IpAddr::V4(Ipv4Addr::new(203, 0, 113, host)), agent: "a browser".into() }
}

pub fn text(text: &str) -> SecretText {
    SecretText::from(text)
}

/// The code of the refusal that `result` has to be.
#[track_caller]
pub fn refusal<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("this should have been refused"),
        Err(error) => error.code().to_owned(),
    }
}

/// The fields that `result` has to complain about.
#[track_caller]
pub fn wrong_fields<T>(result: Result<T>) -> Vec<String> {
    match result {
        Err(Error::Invalid(fields)) => fields.into_iter().map(|field| field.field.into_owned()).collect(),
        Err(other) => panic!("expected wrong fields, got {other:?}"),
        Ok(_) => panic!("this should have been refused"),
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn open_app(database: &Database, clock: &ManualClock, keys: Arc<InstanceKeys>) -> Result<Arc<App>> {
    let random: Arc<dyn Random> = Arc::new(SystemRandom::new());
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    let node = NodeId::generate(clock.now(), random.as_ref())?;
    let store = Arc::new(Store::open(&database.url(), writer(Arc::clone(&keys), node))?);
    let azure = Arc::new(AzureKeys::new(&AzureConfig::default()).expect("the defaults are sound"));
    let keyring = Arc::new(Keyring::new(
        Arc::clone(&store),
        Arc::clone(&azure),
        Arc::clone(&keys),
        Arc::clone(&clock),
        Arc::clone(&random),
        node,
    ));
    let settings = Settings {
        public_url: "https://strongroom.example".into(),
        max_vaults_per_provider: 1,
        lease_seconds: 300,
        trash_days: 30,
        checkpoint_file: None,
        checkpoint_url: None,
        trusted_proxies: vec![],
        notices: NoticeSettings::default(),
    };
    Ok(Arc::new(App { store, keyring, azure, keys, clock, random, node, settings, guard: Guard::new() }))
}

/// What a store writes as.
pub fn writer(keys: Arc<InstanceKeys>, node: NodeId) -> Writer {
    let boot = Arc::new(|| BootId::generate(Timestamp::now(), &SystemRandom::new()));
    Writer { node, keys, boot }
}

/// One statement as the administrator of the `server` that has a database. On a thread of its own: the client blocks, and tests are async.
pub fn administer(server: &str, sql: &str) {
    std::thread::scope(|scope| {
        let statement = scope.spawn(|| {
            let mut client = postgres::Client::connect(server, postgres::NoTls)?;
            client.batch_execute(sql)
        });
        statement.join().expect("no panic").unwrap_or_else(|error| panic!("{sql}: {error}"));
    });
}

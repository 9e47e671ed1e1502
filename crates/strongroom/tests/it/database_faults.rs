//! A database that is away, full of others, read-only or silent: whoever asks is told so in time, and what was away is used
//! again without a restart of the server.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use strongroom::{
    error::{Error, Result},
    store::{Store, StoreError},
};

use crate::world::{Database, administer, on_postgres, open_store, runtime};

/// Longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_database_that_takes_no_connections_or_only_reads_is_said_and_used_again_when_it_is_back() {
    on_postgres(|database| {
        let name = name_of(&database);
        let store = open_store(&as_a_user_of_its_own(&database, &name)).expect("an empty database");
        runtime().block_on(async {
            put(&store, "before").await.expect("written");
            for (fault, mended, code) in [
                // Restarted, or failed over: no connection, and none to be had for a while.
                ("DATABASE {} ALLOW_CONNECTIONS false", "DATABASE {} ALLOW_CONNECTIONS true", "store.unreachable"),
                // The pool is used up by others.
                ("ROLE {} CONNECTION LIMIT 0", "ROLE {} CONNECTION LIMIT -1", "store.unreachable"),
                // Failed over to a server that is not the primary yet.
                (
                    "DATABASE {} SET default_transaction_read_only = on",
                    "DATABASE {} RESET default_transaction_read_only",
                    "store.read_only",
                ),
            ] {
                alter(&database, &name, fault);
                let begun = Instant::now();
                let refused = put(&store, "meanwhile").await.expect_err("it cannot be written");
                assert_eq!(refused.code(), code, "{fault}: {refused}");
                assert!(!refused.to_string().is_empty() && refused.fix().len() > 10, "{fault}: {refused}");
                assert!(begun.elapsed() < PATIENCE, "{fault}: {:?}", begun.elapsed());
                if code == "store.read_only" {
                    assert_eq!(rows(&store).await.expect("reading goes on"), 1);
                }
                alter(&database, &name, mended);
                put(&store, "before").await.unwrap_or_else(|error| panic!("after {mended}: {error}"));
            }
            assert_eq!(rows(&store).await.expect("read"), 1, "what was refused was written");
        });
    });
}

#[test]
fn a_database_that_falls_silent_keeps_nobody_waiting_and_what_was_given_up_is_not_done_later() {
    on_postgres(|database| {
        let network = Network::to(&database);
        let store = open_store(&network.url).expect("an empty database").with_patience(Some(Duration::from_secs(2)));
        let store = Arc::new(store);
        runtime().block_on(async {
            put(&store, "before").await.expect("written");
            network.cut(true);
            let begun = Instant::now();
            // More than there are connections: those that never began are not begun later.
            let asked: Vec<_> = (0..40)
                .map(|n| {
                    let store = Arc::clone(&store);
                    tokio::spawn(async move { put(&store, &format!("meanwhile-{n}")).await })
                })
                .collect();
            for asked in asked {
                let refused = asked.await.expect("no panic").expect_err("nothing answers");
                assert!(matches!(refused, Error::Store(StoreError::Unreachable(_))), "{refused}");
            }
            assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
            network.cut(false);
            let deadline = Instant::now() + PATIENCE;
            while put(&store, "after").await.is_err() {
                assert!(Instant::now() < deadline, "it is not used again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            // Of each connection, the transaction that was on its way may have come through.
            let written = rows(&store).await.expect("read");
            assert!((2..=2 + 8).contains(&written), "{written}");
        });
    });
}

fn name_of(database: &Database) -> String {
    database.url().rsplit_once('/').expect("the URL names a database").1.to_owned()
}

/// The URL for a user who owns the database and is not the administrator, whom limits do not hold.
fn as_a_user_of_its_own(database: &Database, name: &str) -> String {
    let Database::Postgres { server, .. } = database else { panic!("on PostgreSQL") };
    administer(server, &format!("CREATE ROLE {name} LOGIN; ALTER DATABASE {name} OWNER TO {name}"));
    let let_try_again = "GRANT USAGE ON SCHEMA faults TO PUBLIC; GRANT USAGE ON SEQUENCE faults.refused TO PUBLIC";
    administer(&database.url(), let_try_again);
    let (_, rest) = server.split_once('@').expect("a user");
    let (host, _) = rest.split_once('/').expect("a database");
    format!("postgres://{name}@{host}/{name}")
}

/// Changes the database or its user, and ends every connection so that the change holds.
fn alter(database: &Database, name: &str, change: &str) {
    let Database::Postgres { server, .. } = database else { panic!("on PostgreSQL") };
    administer(server, &format!("ALTER {}", change.replace("{}", name)));
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    administer(server, &end);
}

async fn put(store: &Store, name: &str) -> Result<()> {
    let name = format!("row-{name}");
    let sql = "INSERT INTO meta (name, value) VALUES ($1, '') ON CONFLICT (name) DO NOTHING";
    store.write(move |tx| tx.execute(sql, &[(&name).into()]).map(drop)).await
}

async fn rows(store: &Store) -> Result<u64> {
    store.read(|tx| tx.count("SELECT COUNT(*) FROM meta WHERE name LIKE 'row-%'", &[])).await
}

/// The way to a database, which can be cut: connections stay open then, and nothing comes through.
struct Network {
    url: String,
    cut: Arc<AtomicBool>,
}

impl Network {
    fn to(database: &Database) -> Self {
        let url = database.url();
        let (head, rest) = url.split_once('@').expect("a user");
        let (server, name) = rest.split_once('/').expect("a database");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it listens").port();
        let (cut, server) = (Arc::new(AtomicBool::new(false)), server.to_owned());
        let here = Arc::clone(&cut);
        // It ends with the process of the test.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(behind) = TcpStream::connect(&server) else { continue };
                let both = [(client.try_clone(), behind.try_clone()), (Ok(behind), Ok(client))];
                for (from, to) in both {
                    let (from, to) = (from.expect("a handle"), to.expect("a handle"));
                    let cut = Arc::clone(&here);
                    std::thread::spawn(move || pass_on(from, to, &cut));
                }
            }
        });
        Self { url: format!("{head}@127.0.0.1:{port}/{name}"), cut }
    }

    fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        while cut.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

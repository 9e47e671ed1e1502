//! Both engines keep what they acknowledged and refuse what they must not open.

use std::{
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    sync::Arc,
};

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use strongroom::{
    error::{Error, Result},
    store::{SCHEMA, Store, StoreError},
};

use crate::world::{Database, administer, on_each_database, on_postgres, open_store, refusal};

#[test]
fn what_many_write_at_once_is_all_there_after_a_restart() {
    on_each_database(|database| {
        let store = Arc::new(open_store(&database.url()).expect("an empty database"));
        block_on(async {
            let writes: Vec<_> = (0..500).map(|n| tokio::spawn(put(Arc::clone(&store), format!("row-{n}")))).collect();
            for write in writes {
                write.await.expect("no panic").expect("acknowledged");
            }
        });
        drop(store);
        let store = open_store(&database.url()).expect("its own database");
        assert_eq!(block_on(rows(&store)), 500);
    });
}

#[test]
fn a_transaction_that_fails_takes_nobody_with_it() {
    on_each_database(|database| {
        let store = Arc::new(open_store(&database.url()).expect("an empty database"));
        let outcomes = block_on(async {
            let writes: Vec<_> = (0..300)
                .map(|n| {
                    let store = Arc::clone(&store);
                    tokio::spawn(async move {
                        store
                            .write(move |tx| {
                                let name = format!("row-{n}");
                                tx.execute("INSERT INTO meta (name, value) VALUES ($1, '')", &[(&name).into()])?;
                                match n % 3 {
                                    0 => Err(Error::NotFound("anything")),
                                    1 => panic!("a defect of one request"),
                                    _ => Ok(()),
                                }
                            })
                            .await
                    })
                })
                .collect();
            let mut outcomes = vec![];
            for write in writes {
                outcomes.push(write.await.expect("the panic stays in the store"));
            }
            outcomes
        });
        for (n, outcome) in outcomes.into_iter().enumerate() {
            assert_eq!(outcome.is_ok(), n % 3 == 2, "{n}: {outcome:?}");
        }
        assert_eq!(block_on(rows(&store)), 100, "half a transaction was kept");
    });
}

#[test]
fn a_value_that_has_to_be_unique_is_taken() {
    on_each_database(|database| {
        let store = Arc::new(open_store(&database.url()).expect("an empty database"));
        block_on(put(Arc::clone(&store), "row-1".into())).expect("the first");
        let second = block_on(put(Arc::clone(&store), "row-1".into()));
        assert!(matches!(second, Err(Error::Store(StoreError::Taken))), "{second:?}");
        block_on(put(store, "row-2".into())).expect("the connection is none the worse");
    });
}

#[test]
fn writers_of_one_row_count_each_other() {
    on_each_database(|database| {
        let store = Arc::new(open_store(&database.url()).expect("an empty database"));
        block_on(async {
            store
                .write(|tx| tx.execute("INSERT INTO meta (name, value) VALUES ('row-count', '0')", &[]))
                .await
                .expect("the first");
            let one_more = |store: Arc<Store>| async move {
                store
                    .write(|tx| {
                        let sql = "SELECT value FROM meta WHERE name = 'row-count'";
                        let count: String =
                            tx.first_locked(sql, &[], |row| row.get(0))?.ok_or(Error::NotFound("row"))?;
                        let next = (count.parse::<u64>().expect("a number") + 1).to_string();
                        tx.execute("UPDATE meta SET value = $1 WHERE name = 'row-count'", &[(&next).into()])
                    })
                    .await
            };
            let mut writes: Vec<_> = (0..40).map(|_| tokio::spawn(one_more(Arc::clone(&store)))).collect();
            // Who is told that the database is busy tries again, as a client would.
            let mut counted = 0;
            while let Some(write) = writes.pop() {
                match write.await.expect("no panic") {
                    Ok(_) => counted += 1,
                    Err(Error::Store(StoreError::Retry)) => writes.push(tokio::spawn(one_more(Arc::clone(&store)))),
                    Err(error) => panic!("{error}"),
                }
            }
            let sql = "SELECT value FROM meta WHERE name = 'row-count'";
            let count: Option<String> = store.read(|tx| tx.first(sql, &[], |row| row.get(0))).await.expect("a row");
            assert_eq!((count.as_deref(), counted), (Some("40"), 40));
        });
    });
}

#[test]
fn a_database_of_a_newer_strongroom_is_refused_and_left_as_it_is() {
    on_each_database(|database| {
        let store = open_store(&database.url()).expect("an empty database");
        let newer = SCHEMA + 1;
        let sql = "UPDATE meta SET value = $1 WHERE name = 'schema'";
        block_on(store.write(move |tx| tx.execute(sql, &[(&newer.to_string()).into()]))).expect("a row");
        drop(store);
        let refused = open_store(&database.url()).err().expect("refused");
        assert!(matches!(refused, Error::Store(StoreError::NewerSchema { found }) if found == newer), "{refused:?}");
        assert_eq!(refused.code(), "store.newer_schema");
        assert_eq!(open_store(&database.url()).err().expect("refused again").code(), "store.newer_schema");
    });
}

#[test]
fn a_store_opens_inside_of_a_runtime() {
    on_each_database(|database| {
        block_on(async {
            let store = open_store(&database.url()).expect("an empty database");
            assert_eq!(rows(&store).await, 0);
        });
    });
}

#[test]
fn an_address_that_names_no_engine_is_refused() {
    assert_eq!(refusal(open_store("mysql://localhost/strongroom")), "setup");
}

#[test]
fn a_postgresql_that_is_not_there_is_named_as_unreachable() {
    assert_eq!(refusal(open_store("postgres://nobody@127.0.0.1:1/nothing")), "store.unreachable");
}

#[test]
fn a_second_server_on_one_sqlite_file_is_refused() {
    let database = Database::sqlite();
    let first = open_store(&database.url()).expect("an empty database");
    let refused = open_store(&database.url()).err().expect("refused");
    assert_eq!(refused.code(), "store.in_use");
    assert!(refused.to_string().contains("strongroom.db"), "{refused}");
    drop(first);
    open_store(&database.url()).expect("free again");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let refused = open_store("sqlite:/nowhere/at/all/strongroom.db").err().expect("refused");
    assert!(refused.to_string().contains("/nowhere/at/all/strongroom.db"), "{refused}");
}

#[test]
fn a_read_only_sqlite_file_is_named_as_such() {
    let database = Database::sqlite();
    drop(open_store(&database.url()).expect("an empty database"));
    let path = database.url().trim_start_matches("sqlite:").to_owned();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).expect("our own file");
    // Root may write any file: this thread gives up that right, and those it starts do without it too.
    let mut sets = capabilities(None).expect("our own capabilities");
    sets.effective.remove(CapabilitySet::DAC_OVERRIDE);
    set_capabilities(None, sets).expect("giving up is always allowed");
    let refused = open_store(&database.url()).err().expect("refused");
    assert_eq!(refused.to_string(), format!("the database file {path} is read-only"));
}

#[test]
fn a_full_disk_is_named_nothing_acknowledged_is_lost_and_it_goes_on_when_there_is_room() {
    let database = Database::sqlite();
    let store = Arc::new(open_store(&database.url()).expect("an empty database"));
    block_on(async {
        put(Arc::clone(&store), "row-1".into()).await.expect("there is room");
        pages(&store, 1).await;
        // Those that come in one group, before and after the one that does not fit, are told the same.
        let large = |name: &'static str| {
            let store = Arc::clone(&store);
            async move {
                let value = "x".repeat(1 << 20);
                let sql = "INSERT INTO meta (name, value) VALUES ($1, $2)";
                store.write(move |tx| tx.execute(sql, &[name.into(), (&value).into()])).await
            }
        };
        for _ in 0..5 {
            let writes = (0..9).map(|n| tokio::spawn(large(["large-1", "large-2", "large-3"][n % 3])));
            for write in writes.collect::<Vec<_>>() {
                let refused = write.await.expect("no panic").expect_err("there is no room");
                assert_eq!(refused.code(), "store.full", "{refused}");
            }
        }
        assert_eq!(rows(&store).await, 1);
        pages(&store, 1 << 20).await;
        put(Arc::clone(&store), "row-2".into()).await.expect("there is room again");
        large("large").await.expect("for this one too");
    });
    drop(store);
    let store = open_store(&database.url()).expect("its own database");
    assert_eq!(block_on(rows(&store)), 2);
}

#[test]
fn a_connection_that_the_server_ended_is_made_anew() {
    on_postgres(|database| {
        let store = Arc::new(open_store(&database.url()).expect("an empty database"));
        let name = database.url().rsplit_once('/').expect("a URL").1.to_owned();
        block_on(async {
            for round in 0..3 {
                let writes = (0..40).map(|n| tokio::spawn(put(Arc::clone(&store), format!("row-{round}-{n}"))));
                for write in writes.collect::<Vec<_>>() {
                    write.await.expect("no panic").expect("written");
                }
                let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
                let Database::Postgres { server, .. } = &database else { panic!("on PostgreSQL") };
                administer(server, &end);
            }
            assert_eq!(rows(&store).await, 120);
        });
    });
}

#[test]
fn who_waits_too_long_for_a_lock_asks_again() {
    on_postgres(|database| {
        let store = Arc::new(open_store(&database.url()).expect("an empty database"));
        block_on(put(Arc::clone(&store), "row-1".into())).expect("written");
        let url = database.url();
        let (held, holds) = std::sync::mpsc::channel();
        let holder = std::thread::spawn(move || {
            let mut client = postgres::Client::connect(&url, postgres::NoTls).expect("connected");
            let mut transaction = client.transaction().expect("begun");
            transaction.batch_execute("SELECT 1 FROM meta WHERE name = 'row-1' FOR UPDATE").expect("locked");
            held.send(()).expect("awaited");
            // Longer than a transaction waits for a lock.
            transaction.batch_execute("SELECT pg_sleep(6)").expect("slept");
        });
        holds.recv().expect("locked");
        let sql = "UPDATE meta SET value = 'late' WHERE name = 'row-1'";
        assert_eq!(block_on(store.write(move |tx| tx.execute(sql, &[]))).expect("written in the end"), 1);
        holder.join().expect("no panic");
    });
}

#[test]
fn another_machine_s_postgresql_is_reached_with_tls_only() {
    for url in [
        "postgres://u@192.0.2.1/db",
        "postgres://u@db.example.com/db?sslmode=prefer",
        "postgres://u@192.0.2.1/db?host=/run",
    ] {
        let refused = open_store(url).err().expect("refused");
        assert_eq!(refused.code(), "setup", "{url}");
        assert!(refused.fix().contains("sslmode=require"), "{}", refused.fix());
    }
}

#[test]
fn a_postgresql_without_tls_is_told_nothing_when_tls_is_asked_for() {
    for mode in ["require", "verify-full"] {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let server = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("a client");
            client.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("set");
            let mut asked = [0; 8];
            client.read_exact(&mut asked).expect("a request");
            client.write_all(b"N").expect("answered");
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).expect("it hangs up");
            (asked, rest)
        });
        let refused = refusal(open_store(&format!("postgres://u:secret@127.0.0.1:{port}/db?sslmode={mode}")));
        assert_eq!(refused, "store.unreachable");
        // SSLRequest, and nothing after "no": postgresql.org/docs/current/protocol-message-formats.html.
        assert_eq!(server.join().expect("no panic"), ([0, 0, 0, 8, 4, 210, 22, 47], vec![]));
    }
}

/// Bounds the database's size, in pages, as a disk would; never below what it has.
async fn pages(store: &Store, most: u32) {
    let sql = format!("PRAGMA max_page_count = {most}");
    store.write(move |tx| tx.first(&sql, &[], |row| row.get::<i64>(0))).await.expect("bounded");
}

async fn put(store: Arc<Store>, name: String) -> Result<u64> {
    store.write(move |tx| tx.execute("INSERT INTO meta (name, value) VALUES ($1, '')", &[(&name).into()])).await
}

async fn rows(store: &Store) -> u64 {
    store.read(|tx| tx.count("SELECT COUNT(*) FROM meta WHERE name LIKE 'row-%'", &[])).await.expect("a read")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

#[test]
fn nodes_that_start_at_once_on_an_empty_database_all_come_up() {
    on_postgres(|database| {
        let url = database.url();
        let stores: Vec<Store> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| open_store(&url))).collect();
            starts.into_iter().map(|start| start.join().expect("no panic").expect("it opens")).collect()
        });
        for store in &stores {
            assert_eq!(block_on(rows(store)), 0);
        }
    });
}

#[test]
fn every_transaction_of_these_tests_on_postgres_is_refused_once_before_it_passes() {
    on_postgres(|database| {
        let store = Arc::new(open_store(&database.url()).expect("an empty database"));
        block_on(put(Arc::clone(&store), "row-1".into())).expect("the second try passes");
        let given =
            block_on(store.read(|tx| tx.first("SELECT last_value FROM faults.refused", &[], |row| row.get::<u64>(0))));
        assert!(given.expect("the sequence is there").is_some_and(|refused| refused >= 2), "nothing was refused");
    });
}

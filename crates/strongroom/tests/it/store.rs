//! Both engines keep what they acknowledged and refuse what they must not open.

use std::{os::unix::fs::PermissionsExt, sync::Arc};

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use strongroom::{
    error::{Error, Result},
    store::{SCHEMA, Store, StoreError},
};

use crate::world::{Database, on_each_database, open_store, refusal};

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

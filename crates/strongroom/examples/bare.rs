//! The floors of `cargo xtask bench`: what the same machine does in the same minute without Strongroom.
//!
//! `bare http LISTEN BYTES` answers every request with that many bytes of JSON, by axum and nothing else.
//! `bare read DATABASE` reads rows of items by key, as fast as rusqlite does, for a second.
//! `bare sync FOLDER` appends 4 KiB and makes it durable with fdatasync(2), again and again, for a second.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::{
    env,
    error::Error,
    fs::File,
    io::Write,
    time::{Duration, Instant},
};

use axum::{Router, http::header};
use rusqlite::{Connection, OpenFlags};

/// How long a floor is measured.
const LONG: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["http", listen, bytes] => http(listen, bytes.parse()?),
        ["read", database] => reads(database).map(|rate| println!("{rate:.0}")),
        ["sync", folder] => syncs(folder).map(|rate| println!("{rate:.0}")),
        _ => Err("bare http LISTEN BYTES | bare read DATABASE | bare sync FOLDER".into()),
    }
}

/// The runtime is the one that the server has: as many threads as the process may use cores.
#[tokio::main]
async fn http(listen: &str, bytes: usize) -> Result<(), Box<dyn Error>> {
    let around = r#"{"value":""}"#;
    let body = format!(r#"{{"value":"{}"}}"#, "x".repeat(bytes.saturating_sub(around.len())));
    let answer = move || {
        let body = body.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], body) }
    };
    let listener = tokio::net::TcpListener::bind(listen).await?;
    Ok(axum::serve(listener, Router::new().fallback(answer)).await?)
}

/// Rows a second: an item with its data key by the item's id, which a reveal cannot do without.
fn reads(database: &str) -> Result<f64, Box<dyn Error>> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.execute_batch("PRAGMA cache_size = -16384; PRAGMA mmap_size = 1073741824;")?;
    let mut ids = connection.prepare("SELECT id FROM items")?;
    let ids: Vec<Vec<u8>> = ids.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let sql = "SELECT i.sealed_overview, i.sealed_details, k.wrapped FROM items i \
               JOIN data_keys k ON k.id = i.data_key_id WHERE i.id = ?1";
    let mut statement = connection.prepare(sql)?;
    let (started, mut count, mut bytes) = (Instant::now(), 0_usize, 0);
    while started.elapsed() < LONG {
        for _ in 0..64 {
            // A step that shares no factor with the count visits every row, and no two neighbours in turn.
            let id = ids.get(count * 7919 % ids.len().max(1)).ok_or("there are no items")?;
            bytes += statement.query_row([id], |row| Ok(row.get_ref(1)?.as_blob()?.len()))?;
            count += 1;
        }
    }
    assert!(bytes > 0, "rows hold something");
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

/// Appends a second, each durable before the next: what one commit of a group costs at least.
fn syncs(folder: &str) -> Result<f64, Box<dyn Error>> {
    let mut file = tempfile::tempfile_in(folder)?;
    let page = [0x5a; 4096];
    let (started, mut count) = (Instant::now(), 0_u32);
    while started.elapsed() < LONG {
        file.write_all(&page)?;
        File::sync_data(&file)?;
        count += 1;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

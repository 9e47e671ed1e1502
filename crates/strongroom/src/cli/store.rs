//! `strongroom store`

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;
use strongroom_envelope::SystemRandom;
use zeroize::Zeroizing;

use super::{
    console::{Console, Format},
    failure::{Exit, Failure},
    serve,
};
use crate::{
    clock::{Clock, SystemClock},
    counted::counted,
    server,
    store::transfer::{Progress, Step, transfer},
};

/// How often progress is told.
const TELL: Duration = Duration::from_secs(2);

/// Move the database to another engine, on the server itself
#[derive(Subcommand)]
pub enum Arguments {
    /// Carry every row into an empty database of either engine, and compare both row by row
    ///
    /// Stop every server first. Cut off, it goes on where it stopped when it is run again; no server starts on a database
    /// that is not whole. The source is not changed: keep it until the new one has served, and never serve from both.
    /// A URL with a password belongs into the variable, where no list of processes shows it.
    #[command(after_help = "Examples:
  strongroom store migrate --from sqlite:/var/lib/strongroom/strongroom.db --to postgres://strongroom@127.0.0.1/strongroom
  STRONGROOM_MIGRATE_TO=$(cat /run/secrets/url) strongroom store migrate --from sqlite:strongroom.db")]
    Migrate(Migrate),
}

#[derive(Args)]
pub struct Migrate {
    /// sqlite:PATH or postgres://…
    #[arg(long, value_name = "URL", env = "STRONGROOM_MIGRATE_FROM", hide_env_values = true)]
    from: String,
    /// The same; an empty database, or one that an earlier run was cut off at
    #[arg(long, value_name = "URL", env = "STRONGROOM_MIGRATE_TO", hide_env_values = true)]
    to: String,
    /// The server's configuration file, for its instance key; strongroom.toml in this folder if absent
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub async fn run(arguments: Arguments, console: &Console) -> Result<u8, Failure> {
    let Arguments::Migrate(Migrate { from, to, config }) = arguments;
    let (from, to) = (Zeroizing::new(from), Zeroizing::new(to));
    let config = serve::load(config)?;
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom::new()));
    let begun = clock.since_boot();
    let (from, to) = server::open_to_transfer(&config, &from, &to, clock, random).await?;
    let mut told = Duration::ZERO;
    let mut tell = |progress: &Progress| {
        let now = SystemClock.since_boot();
        if now.saturating_sub(told) >= TELL {
            told = now;
            console.note(&line(progress));
        }
    };
    let carried = transfer(&from, &to, Timestamp::now(), &mut tell).await?;
    let seconds = SystemClock.since_boot().saturating_sub(begun).as_secs_f64();
    let rows: u64 = carried.iter().map(|table| table.rows).sum();
    if console.format == Format::Json {
        let tables: Vec<_> = carried
            .iter()
            .map(|table| {
                let (from, to) = (hex::encode(table.from), hex::encode(table.to));
                json!({ "table": table.table, "rows": table.rows, "from_sha256": from, "to_sha256": to })
            })
            .collect();
        console.json(&json!({ "rows": rows, "seconds": seconds, "tables": tables }))?;
        return Ok(Exit::Ok as u8);
    }
    let shown = carried.iter().filter(|table| table.rows > 0);
    let shown =
        shown.map(|table| vec![table.table.clone(), table.rows.to_string(), short(&table.from), short(&table.to)]);
    console.table(&["Table", "Rows", "Checksum from", "Checksum to"], shown.collect())?;
    console.line(&format!(
        "{} from {} are in {}, compared row by row, in {seconds:.1} s.\nName the new database in database.url and start the \
         server. Never start one on the old database again.",
        counted(rows, "row"),
        from.engine_name(),
        to.engine_name(),
    ))?;
    Ok(Exit::Ok as u8)
}

fn line(progress: &Progress) -> String {
    let step = match progress.step {
        Step::Copy => "Copied",
        Step::Compare => "Compared",
    };
    format!("{step} {} of {}, now {}", progress.rows_done, counted(progress.rows, "row"), progress.table)
}

/// Enough to compare by eye; JSON has all of it.
fn short(checksum: &[u8; 32]) -> String {
    hex::encode(&checksum[..8])
}

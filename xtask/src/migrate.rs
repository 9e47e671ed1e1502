//! `cargo xtask migrate`: a large installation from SQLite to PostgreSQL, killed once on the way, and back.
//!
//! What happens is `crates/strongroom/tests/it/transfer.rs`, with the real program in the dev profile; this says how many
//! items there are, gives it a PostgreSQL, and prints what was measured.

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use crate::postgres::{self, Postgres};
use crate::process::{self, Interrupt};
use crate::{Result, Workspace};

const TEST: &str = "transfer::as_many_items_as_asked_for_go_there_and_back_with_equal_checksums";

#[derive(clap::Args)]
pub struct Options {
    /// How many items
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    items: u64,
}

pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let interrupt = Interrupt::listen()?;
    let programs = postgres::find_programs().ok_or("PostgreSQL is missing: cargo xtask test --install")?;
    let server = Postgres::start(&programs)?;
    let folder = tempfile::tempdir()?;
    let tally = folder.path().join("tally");
    let started = Instant::now();
    let mut test = workspace.cargo();
    test.args(["test", "--quiet", "--package", "strongroom", "--test", "it", "--locked", "--"])
        .args(["--ignored", "--nocapture", "--exact", TEST])
        .env("STRONGROOM_MIGRATE_ITEMS", options.items.to_string())
        .env("STRONGROOM_MIGRATE_TALLY", &tally)
        .env("STRONGROOM_TEST_POSTGRES", server.url());
    let status = process::run(&mut test, &interrupt)?;
    println!("{:.0} s", started.elapsed().as_secs_f64());
    println!("{}", fs::read_to_string(&tally).unwrap_or_else(|_| "it did not come to its end".to_owned()));
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

//! `cargo xtask chaos`: the kills of the test run, many more of them, on both database engines.
//!
//! The rounds themselves are `crates/strongroom/tests/it/kills.rs`; this sets how many there are, gives them a
//! PostgreSQL, and adds up what they tell.

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::postgres::{self, Postgres};
use crate::process::{self, Interrupt};
use crate::{Result, Workspace, install};

const TEST: &str = "kills::a_killed_server_keeps_everything_that_it_acknowledged";

/// A run ends after this, whatever it has done by then; building comes on top.
const BOUND: Duration = Duration::from_secs(15 * 60);
const FULL_BOUND: Duration = Duration::from_secs(60 * 60);
/// The last round and the check of all items have to fit in after the rounds.
const FOR_THE_END: Duration = Duration::from_secs(90);

#[derive(clap::Args)]
pub struct Options {
    /// How often the server is killed, both engines together
    #[arg(long, default_value_t = 200)]
    kills: u64,
    /// What is written and when the kill comes; a failed run prints the seed that it had
    #[arg(long)]
    seed: Option<u64>,
    /// 2,000 kills within an hour, in place of 15 minutes
    #[arg(long, conflicts_with = "kills")]
    full: bool,
}

pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let interrupt = Interrupt::listen()?;
    let mut build = workspace.cargo();
    build.args(["test", "--package", "strongroom", "--test", "it", "--locked", "--no-run"]);
    if !process::run(&mut build, &interrupt)?.success() {
        return Ok(ExitCode::FAILURE);
    }
    let started = Instant::now();
    let (kills, bound) = if options.full { (2000, FULL_BOUND) } else { (options.kills, BOUND) };
    let postgres = start_postgres(workspace)?;
    let folder = tempfile::tempdir()?;
    let tally_file = folder.path().join("tally");
    let mut test = workspace.cargo();
    test.args([
        "test",
        "--quiet",
        "--package",
        "strongroom",
        "--test",
        "it",
        "--locked",
        "--",
        "--nocapture",
        "--exact",
    ])
    .arg(TEST)
    .env("STRONGROOM_KILLS", kills.to_string())
    .env("STRONGROOM_KILLS_SECONDS", (bound - FOR_THE_END).as_secs().to_string())
    .env("STRONGROOM_KILLS_TALLY", &tally_file);
    if let Some(seed) = options.seed {
        test.env("STRONGROOM_KILLS_SEED", seed.to_string());
    }
    if let Some(server) = &postgres {
        test.env("STRONGROOM_TEST_POSTGRES", server.url());
    }
    let status = process::run(&mut test, &interrupt)?;
    let tally = Tally::parse(&fs::read_to_string(&tally_file).unwrap_or_default());
    println!("{:.0} s", started.elapsed().as_secs_f64());
    if tally.kills < kills {
        println!("ended before all {kills} kills");
    }
    println!("{tally}");
    let good = status.success() && tally.lost == 0 && tally.kills > 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn start_postgres(workspace: &Workspace) -> Result<Option<Postgres>> {
    match postgres::find_programs() {
        Some(programs) => Postgres::start(&programs).map(Some),
        None if std::env::var("CI").is_ok_and(|value| value == "true") => {
            Err("PostgreSQL is missing; nothing may be skipped under CI".into())
        }
        None => {
            println!("SKIPPED on PostgreSQL, which is missing: {}", install::Tool::Postgres.how_to_install(workspace));
            Ok(None)
        }
    }
}

/// What the rounds of all engines told, added up.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    rounds: u64,
    kills: u64,
    acknowledged: u64,
    lost: u64,
}

impl Tally {
    /// From lines of `rounds=… kills=… acknowledged=… lost=…`.
    fn parse(lines: &str) -> Self {
        let mut sum = Self::default();
        for (name, value) in lines.split_whitespace().filter_map(|word| word.split_once('=')) {
            let value: u64 = value.parse().unwrap_or(0);
            match name {
                "rounds" => sum.rounds += value,
                "kills" => sum.kills += value,
                "acknowledged" => sum.acknowledged += value,
                "lost" => sum.lost += value,
                _ => {}
            }
        }
        sum
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rounds, kills, acknowledged, lost } = self;
        write!(out, "rounds={rounds} kills={kills} acknowledged={acknowledged} lost={lost}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_are_added_up() {
        let told = "rounds=3 kills=2 acknowledged=140 lost=0\nrounds=2 kills=2 acknowledged=60 lost=1\n";
        let sum = Tally::parse(told);
        assert_eq!(sum, Tally { rounds: 5, kills: 4, acknowledged: 200, lost: 1 });
        assert_eq!(sum.to_string(), "rounds=5 kills=4 acknowledged=200 lost=1");
    }
}

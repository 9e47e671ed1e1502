//! `cargo xtask drill`: the withdrawal drill against the stand-in, many rounds over many keys at once.
//!
//! The rounds themselves are `crates/strongroom/tests/it/drills.rs`, on the real server in the dev profile; this sets how
//! many there are and prints what was measured.

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::postgres::{self, Postgres};
use crate::process::{self, Interrupt};
use crate::{Result, Workspace};

const TEST: &str = "drills::every_way_is_refused_and_back_within_the_promise_under_load";

/// No round begins after this; building comes on top.
const BOUND: Duration = Duration::from_secs(12 * 60);
const FULL_BOUND: Duration = Duration::from_secs(60 * 60);

#[derive(clap::Args)]
pub struct Options {
    /// How often each key is withdrawn and given back
    #[arg(long, default_value_t = 50)]
    rounds: u64,
    /// Vaults, each on a key of its own
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=19))]
    keys: u64,
    /// 200 rounds within an hour, in place of 15 minutes
    #[arg(long, conflicts_with = "rounds")]
    full: bool,
    /// In place of the rounds: two servers over one PostgreSQL, a denial that reaches both, and a rolling restart
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=2), conflicts_with_all = ["rounds", "keys", "full"])]
    nodes: Option<u8>,
}

pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let interrupt = Interrupt::listen()?;
    let mut build = workspace.cargo();
    build.args(["test", "--package", "strongroom", "--test", "it", "--locked", "--no-run"]);
    if !process::run(&mut build, &interrupt)?.success() {
        return Ok(ExitCode::FAILURE);
    }
    if options.nodes.is_some() {
        return two_nodes(workspace, &interrupt);
    }
    let started = Instant::now();
    let (rounds, bound) = if options.full { (200, FULL_BOUND) } else { (options.rounds, BOUND) };
    let folder = tempfile::tempdir()?;
    let tally_file = folder.path().join("tally.json");
    let mut test = workspace.cargo();
    test.args(["test", "--quiet", "--package", "strongroom", "--test", "it", "--locked", "--", "--exact", TEST])
        .env("STRONGROOM_DRILL_ROUNDS", rounds.to_string())
        .env("STRONGROOM_DRILL_KEYS", options.keys.to_string())
        .env("STRONGROOM_DRILL_SECONDS", bound.as_secs().to_string())
        .env("STRONGROOM_DRILL_TALLY", &tally_file);
    let status = process::run(&mut test, &interrupt)?;
    let tally: Value = serde_json::from_str(&fs::read_to_string(&tally_file).unwrap_or_default()).unwrap_or_default();
    println!("{}", table(&tally));
    println!("{:.0} s", started.elapsed().as_secs_f64());
    let withdrawals = tally["withdrawals"].as_u64().unwrap_or(0);
    let wanted = rounds * options.keys;
    if withdrawals < wanted {
        println!("ended after {withdrawals} of {wanted} withdrawals");
    }
    let good = status.success() && withdrawals == wanted;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The tests of `crates/strongroom/tests/it/nodes.rs`; prints the times that they took.
fn two_nodes(workspace: &Workspace, interrupt: &Interrupt) -> Result<ExitCode> {
    let programs = postgres::find_programs().ok_or("PostgreSQL is missing: cargo xtask test --install")?;
    let server = Postgres::start(&programs)?;
    let folder = tempfile::tempdir()?;
    let tally_file = folder.path().join("tally");
    let mut test = workspace.cargo();
    test.args(["test", "--quiet", "--package", "strongroom", "--test", "it", "--locked", "--"])
        // One after the other: what is measured is two servers, not six.
        .args(["--test-threads=1", "nodes::"])
        .env("STRONGROOM_TEST_POSTGRES", server.url())
        .env("STRONGROOM_DRILL_TALLY", &tally_file);
    let status = process::run(&mut test, interrupt)?;
    let told = fs::read_to_string(&tally_file).unwrap_or_default();
    print!("{told}");
    let good = status.success() && told.lines().count() == 3;
    println!("two nodes: {}", if good { "kept" } else { "NOT KEPT" });
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What was measured, a row for each way.
fn table(tally: &Value) -> String {
    let number = |name: &str| tally[name].as_u64().unwrap_or(0);
    let seconds = |value: &Value| value.as_f64().map_or("–".into(), |ms| format!("{:.1}", ms / 1000.0));
    let mut lines = vec![
        format!(
            "{} withdrawals over {} keys at once, {} reveals beside the probes",
            number("withdrawals"),
            number("keys"),
            number("reads")
        ),
        format!("{:<32} {:>8} {:>16} {:>16}", "way", "tries", "max denied, s", "max recovered, s"),
    ];
    let ways = tally["ways"].as_array().map(Vec::as_slice).unwrap_or_default();
    lines.extend(ways.iter().map(|way| {
        format!(
            "{:<32} {:>8} {:>16} {:>16}",
            way["way"].as_str().unwrap_or_default(),
            way["tries"].as_u64().unwrap_or(0),
            seconds(&way["denied_ms"]),
            seconds(&way["recovered_ms"])
        )
    }));
    let limit = seconds(&tally["limit_ms"]);
    let over = |way: &Value, which: &str| way[which].as_u64() > tally["limit_ms"].as_u64();
    let kept = !ways.is_empty() && !ways.iter().any(|way| over(way, "denied_ms") || over(way, "recovered_ms"));
    let faults = tally["faults"].as_array().map_or(0, Vec::len);
    lines.push(format!("promise {limit} s each way: {}; faults: {faults}", if kept { "kept" } else { "NOT KEPT" }));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_way_over_the_limit_shows() {
        let told = |denied: u64| {
            json!({"keys": 2, "withdrawals": 4, "reads": 9, "limit_ms": 15_000, "faults": [],
                "ways": [{"way": "Search", "tries": 7, "denied_ms": denied, "recovered_ms": 4100}]})
        };
        let good = table(&told(5230));
        assert!(good.contains("kept") && good.contains("5.2") && good.contains("4.1"), "{good}");
        assert!(table(&told(15_001)).contains("NOT KEPT"));
        assert!(table(&Value::Null).contains("NOT KEPT"));
    }
}

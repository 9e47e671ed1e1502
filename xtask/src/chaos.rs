//! `cargo xtask chaos`: everything that can fail fails while clients work, on both database engines. `chaos writes` and
//! `chaos move` are the kills of the test run, many more of them: of writers, and of a whole vault that moves.
//!
//! The rounds themselves are `crates/strongroom/tests/it/chaos`, `kills.rs` and `kills/moving.rs`; this sets how many
//! there are, builds the programs, gives them a PostgreSQL that comes back when it is killed, and tells what they told.

use std::fs;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::postgres::{self, Postgres};
use crate::process::{self, Interrupt};
use crate::{Result, Workspace, install};

const ROUNDS: &str = "chaos::nothing_acknowledged_is_lost_whatever_fails";
const WRITES: &str = "kills::a_killed_server_keeps_everything_that_it_acknowledged";
const MOVES: &str = "kills::moving::a_killed_server_finishes_its_move_and_the_account_adds_up";

/// A run ends after this, whatever it has done by then; of `writes` and `move` building comes on top.
const BOUND: Duration = Duration::from_secs(15 * 60);
const FULL_BOUND: Duration = Duration::from_secs(60 * 60);
/// The last round and the check of all items have to fit in after the rounds.
const FOR_THE_END: Duration = Duration::from_secs(90);

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    rounds: Rounds,
}

#[derive(clap::Subcommand)]
enum What {
    /// Writers that create, edit, trash and reveal, and kills of the server
    Writes(Writes),
    /// A whole vault that moves to another
    Move(Moves),
}

#[derive(clap::Args)]
struct Rounds {
    /// Which faults come, when and to whom; a failed run prints the seed that it had
    #[arg(long)]
    seed: Option<u64>,
    /// How many faults, on each engine; by default each once, as far as the time reaches
    #[arg(long)]
    rounds: Option<u64>,
    #[arg(long, value_enum, default_value_t = Engine::Both)]
    engine: Engine,
    /// Only faults whose names have this in them, as the rounds print them: KillServer, ServerDatabase, Silent
    #[arg(long)]
    only: Option<String>,
    /// An hour in place of 15 minutes, and 200 rounds
    #[arg(long)]
    full: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Engine {
    Sqlite,
    Postgres,
    Both,
}

impl Engine {
    fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::Both => "both",
        }
    }
}

#[derive(clap::Args)]
struct Writes {
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

#[derive(clap::Args)]
struct Moves {
    /// How many items move, on each engine
    #[arg(long, default_value_t = 50_000)]
    items: u64,
    /// How often the server is killed meanwhile, on each engine
    #[arg(long, default_value_t = 20)]
    kills: u64,
    /// When the kills come; a failed run prints the seed that it had
    #[arg(long)]
    seed: Option<u64>,
}

pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    match &options.what {
        None => rounds(workspace, &options.rounds),
        Some(What::Writes(options)) => writes(workspace, options),
        Some(What::Move(options)) => moves(workspace, options),
    }
}

fn rounds(workspace: &Workspace, options: &Rounds) -> Result<ExitCode> {
    let begun = Instant::now();
    let (count, bound) = if options.full { (200, FULL_BOUND) } else { (20, BOUND) };
    let seed = options.seed.unwrap_or_else(|| u64::from(std::process::id()) ^ 0x6368_616f);
    println!("seed {seed}");
    let interrupt = Interrupt::listen()?;
    let mut build = workspace.cargo();
    build.args(["build", "--locked", "--package", "azure-standin", "--bin", "azure-standin"]);
    let built = process::run(&mut build, &interrupt)?.success();
    if !built || !build_tests(workspace, &interrupt)? {
        return Ok(ExitCode::FAILURE);
    }
    let postgres = match options.engine {
        Engine::Sqlite => None,
        _ => start_postgres(workspace)?.map(Postgres::kept_alive).transpose()?,
    };
    let engine = if postgres.is_none() { Engine::Sqlite } else { options.engine };
    let left = bound.saturating_sub(begun.elapsed()).max(FOR_THE_END * 2);
    let folder = tempfile::tempdir()?;
    let tally_file = folder.path().join("tally");
    let mut test = test_command(workspace, ROUNDS);
    test.arg("--ignored")
        .env("STRONGROOM_KILLS_TALLY", &tally_file)
        .env("STRONGROOM_CHAOS_SEED", seed.to_string())
        .env("STRONGROOM_CHAOS_ROUNDS", options.rounds.unwrap_or(count).to_string())
        .env("STRONGROOM_CHAOS_SECONDS", left.as_secs().to_string())
        .env("STRONGROOM_CHAOS_ENGINE", engine.name());
    if let Some(only) = &options.only {
        test.env("STRONGROOM_CHAOS_ONLY", only);
    }
    if let Some(server) = &postgres {
        test.env("STRONGROOM_TEST_POSTGRES", &server.url).env("STRONGROOM_CHAOS_POSTGRES_PID", &server.pid_file);
    }
    let passed = process::run(&mut test, &interrupt)?.success();
    let told = fs::read_to_string(&tally_file).unwrap_or_default();
    println!("seed {seed}, {:.0} s with building", begun.elapsed().as_secs_f64());
    if !passed {
        println!("The same faults again: cargo xtask chaos --engine {} --seed {seed}", engine.name());
    }
    print!("{told}");
    let good = passed && !told.is_empty();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn writes(workspace: &Workspace, options: &Writes) -> Result<ExitCode> {
    let (kills, bound) = if options.full { (2000, FULL_BOUND) } else { (options.kills, BOUND) };
    let settings = [
        ("STRONGROOM_KILLS", Some(kills)),
        ("STRONGROOM_KILLS_SECONDS", Some((bound - FOR_THE_END).as_secs())),
        ("STRONGROOM_KILLS_SEED", options.seed),
    ];
    let Some(ran) = run_test(workspace, WRITES, &settings)? else { return Ok(ExitCode::FAILURE) };
    let tally = Tally::parse(&ran.told);
    if tally.kills < kills {
        println!("ended before all {kills} kills");
    }
    println!("{tally}");
    let good = ran.passed && tally.lost == 0 && tally.kills > 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn moves(workspace: &Workspace, options: &Moves) -> Result<ExitCode> {
    let settings = [
        ("STRONGROOM_MOVE_ITEMS", Some(options.items)),
        ("STRONGROOM_MOVE_KILLS", Some(options.kills)),
        ("STRONGROOM_KILLS_SEED", options.seed),
    ];
    let Some(ran) = run_test(workspace, MOVES, &settings)? else { return Ok(ExitCode::FAILURE) };
    // A line of each engine: items, kills, and what was lost, doubled, closed or not accounted for.
    print!("{}", ran.told);
    let good = ran.passed && !ran.told.is_empty();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Ran {
    passed: bool,
    /// What the test wrote into its tally.
    told: String,
}

/// Builds and runs one test with these in its environment; None where it does not build.
fn run_test(workspace: &Workspace, name: &str, settings: &[(&str, Option<u64>)]) -> Result<Option<Ran>> {
    let interrupt = Interrupt::listen()?;
    if !build_tests(workspace, &interrupt)? {
        return Ok(None);
    }
    let started = Instant::now();
    let postgres = start_postgres(workspace)?;
    let folder = tempfile::tempdir()?;
    let tally_file = folder.path().join("tally");
    let mut test = test_command(workspace, name);
    test.env("STRONGROOM_KILLS_TALLY", &tally_file)
        .envs(settings.iter().filter_map(|(name, value)| Some((name, (*value)?.to_string()))));
    if let Some(server) = &postgres {
        test.env("STRONGROOM_TEST_POSTGRES", server.url());
    }
    let passed = process::run(&mut test, &interrupt)?.success();
    println!("{:.0} s", started.elapsed().as_secs_f64());
    Ok(Some(Ran { passed, told: fs::read_to_string(&tally_file).unwrap_or_default() }))
}

fn build_tests(workspace: &Workspace, interrupt: &Interrupt) -> Result<bool> {
    let mut build = workspace.cargo();
    build.args(["test", "--package", "strongroom", "--test", "it", "--locked", "--no-run"]);
    Ok(process::run(&mut build, interrupt)?.success())
}

fn test_command(workspace: &Workspace, name: &str) -> Command {
    let mut test = workspace.cargo();
    test.args(["test", "--quiet", "--package", "strongroom", "--test", "it", "--locked", "--"]).args([
        "--nocapture",
        "--exact",
        name,
    ]);
    test
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

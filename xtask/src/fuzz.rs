//! `cargo xtask fuzz`: the targets of `fuzz/`, each for some minutes, on the nightly toolchain.
//!
//! What libFuzzer learns stays in `fuzz/corpus/`, which is not part of the sources; what it finds lies in
//! `fuzz/artifacts/` and belongs into a unit test.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::install::{self, Tool};
use crate::process::{self, Interrupt};
use crate::{Result, Workspace};

/// Longest that libFuzzer may take to end once its time is up.
const GRACE: Duration = Duration::from_secs(60);
/// Parsers take what is short; a corpus of long inputs only makes each try slower.
const LONGEST_INPUT: &str = "-max_len=4096";

#[derive(clap::Args)]
pub struct Options {
    /// Only these, named as the files in fuzz/fuzz_targets
    targets: Vec<String>,
    /// How long each is fuzzed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=6000))]
    minutes: u64,
    /// So many targets at a time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    jobs: u64,
    /// Install what is missing (the nightly toolchain and cargo-fuzz) before
    #[arg(long)]
    install: bool,
}

pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let interrupt = Interrupt::listen()?;
    let tools = [Tool::Nightly, Tool::CargoFuzz];
    install::provide(workspace, &tools, options.install, "cargo xtask fuzz --install", &interrupt)?;
    let all = targets(&workspace.root.join("fuzz/fuzz_targets"))?;
    if let Some(unknown) = options.targets.iter().find(|name| !all.contains(*name)) {
        let known: Vec<&str> = all.iter().map(String::as_str).collect();
        return Err(format!("there is no target {unknown}; there are {}", known.join(", ")).into());
    }
    let chosen = if options.targets.is_empty() { all.into_iter().collect() } else { options.targets.clone() };
    if !process::run(cargo_fuzz(workspace).args(["build", "--sanitizer", "none"]), &interrupt)?.success() {
        return Ok(ExitCode::FAILURE);
    }
    let time = Duration::from_secs(options.minutes * 60);
    let outcomes = fuzz_all(workspace, &chosen, time, options.jobs, &interrupt)?;
    println!("{}", table(&outcomes));
    let good = outcomes.iter().all(|outcome| outcome.findings.is_empty() && outcome.executions > 0);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The targets that are there, by name.
fn targets(folder: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if let (Some("rs"), Some(name)) = (path.extension().and_then(|s| s.to_str()), path.file_stem()) {
            names.insert(name.to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// cargo-fuzz on the nightly toolchain, which the stable one that runs this must not shine through to; last in line for
/// the processor.
fn cargo_fuzz(workspace: &Workspace) -> Command {
    let mut command = workspace.command("nice");
    command
        .args(["-n", "19", "cargo-fuzz", "fuzz"])
        .env_remove("CARGO")
        .env("RUSTUP_TOOLCHAIN", "nightly")
        .env("CARGO_TARGET_DIR", workspace.target.join("fuzz"));
    command
}

/// What came of one target.
struct Outcome {
    target: String,
    took: Duration,
    executions: u64,
    /// Files that hold the inputs.
    findings: Vec<PathBuf>,
}

fn fuzz_all(
    workspace: &Workspace,
    targets: &[String],
    time: Duration,
    jobs: u64,
    interrupt: &Interrupt,
) -> Result<Vec<Outcome>> {
    let waiting = Mutex::new(targets.iter());
    let outcomes = Mutex::new(Vec::new());
    let locked = "no thread panics while it holds this";
    let work = || {
        loop {
            let next = waiting.lock().expect(locked).next();
            let Some(target) = next.filter(|_| !interrupt.received()) else { return };
            let outcome = fuzz_one(workspace, target, time, interrupt).map_err(|error| error.to_string());
            outcomes.lock().expect(locked).push(outcome);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    let outcomes: std::result::Result<Vec<Outcome>, String> =
        outcomes.into_inner().expect(locked).into_iter().collect();
    let mut outcomes = outcomes?;
    outcomes.sort_by(|one, other| one.target.cmp(&other.target));
    Ok(outcomes)
}

fn fuzz_one(workspace: &Workspace, target: &str, time: Duration, interrupt: &Interrupt) -> Result<Outcome> {
    println!("fuzzing {target} for {} s", time.as_secs());
    let fuzz = workspace.root.join("fuzz");
    let (artifacts, corpus) = (fuzz.join("artifacts").join(target), fuzz.join("corpus").join(target));
    fs::create_dir_all(&artifacts)?;
    fs::create_dir_all(&corpus)?;
    let before = files(&artifacts)?;
    let log = workspace.target.join("fuzz").join(format!("{target}.log"));
    let mut command = cargo_fuzz(workspace);
    command.args(["run", "--sanitizer", "none", target]).arg(&corpus);
    let seeds = fuzz.join("seeds").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    command
        .args(["--", "-print_final_stats=1", "-use_value_profile=1", "-rss_limit_mb=1024", LONGEST_INPUT])
        .arg(format!("-max_total_time={}", time.as_secs()))
        .stderr(File::create(&log)?);
    let started = Instant::now();
    let status = process::run_within(&mut command, time + GRACE, interrupt)?;
    let findings: Vec<PathBuf> = files(&artifacts)?.difference(&before).cloned().collect();
    if !status.success() && findings.is_empty() {
        return Err(format!("{target} ended with {status}; see {}", log.display()).into());
    }
    let executions = executions(&fs::read_to_string(&log)?);
    Ok(Outcome { target: target.to_owned(), took: started.elapsed(), executions, findings })
}

fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

/// What libFuzzer's last statistics say; 0 without any.
fn executions(log: &str) -> u64 {
    let told = log.lines().rev().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    told.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

fn table(outcomes: &[Outcome]) -> String {
    let mut lines = vec![format!("{:<20} {:>8} {:>14} {:>9}", "target", "minutes", "executions", "findings")];
    for Outcome { target, took, executions, findings } in outcomes {
        let minutes = took.as_secs_f64() / 60.0;
        lines.push(format!("{target:<20} {minutes:>8.1} {executions:>14} {:>9}", findings.len()));
        lines.extend(findings.iter().map(|file| format!("  {}", file.display())));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_count_of_executions_is_told() {
        let log = "#2\tINITED\nstat::number_of_executed_units: 17\nstat::average_exec_per_sec:     5\n";
        assert_eq!(executions(log), 17);
        assert_eq!(executions("killed"), 0);
    }

    #[test]
    fn a_finding_is_named_below_its_target() {
        let outcome = Outcome {
            target: "blob".into(),
            took: Duration::from_secs(90),
            executions: 5,
            findings: vec!["artifacts/blob/crash-1".into()],
        };
        let told = table(&[outcome]);
        assert!(told.contains("1.5") && told.ends_with("  artifacts/blob/crash-1"), "{told}");
    }
}

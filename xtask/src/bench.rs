//! `cargo xtask bench`: how fast Strongroom is, beside what the same machine does without it in the same minute.
//!
//! Machines differ, so every figure stands beside its floor: a bare axum handler on the same core answering as many
//! bytes to the same requests, the bare read of the same rows, and how often the disk makes an append durable. The
//! server has a core of its own; the load, and Azure's stand-in, have another where there is one.

mod load;
mod rewrap;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use self::load::{Sample, Target, wait_until_ready};
use crate::install::{self, Tool};
use crate::process::{self, Interrupt, Running};
use crate::{Result, Workspace};

const CONNECTIONS: [u32; 3] = [1, 16, 64];
/// Of each case; the median is what counts.
const RUNS: usize = 5;
/// Seconds of one run.
const BARE_SECONDS: u32 = 2;
const REVEAL_SECONDS: u32 = 3;
/// Longest that making the store may take.
const FILLING: Duration = Duration::from_secs(240);
/// What a reveal at 64 connections has to reach of the bare handler's rate.
const BUDGET: f64 = 0.15;

#[derive(clap::Args)]
pub struct Options {
    #[command(subcommand)]
    case: Case,
}

#[derive(clap::Subcommand)]
enum Case {
    /// Reveal one account: authorised, audited durably, its vault's key in Azure's stand-in under a lease
    Reveal(Reveal),
    /// Rewrap many vaults under one key of Azure's stand-in, with Azure's service limits: operations counted there
    Rewrap(rewrap::Rewrap),
}

#[derive(clap::Args)]
struct Reveal {
    /// Accounts in the store
    #[arg(long, default_value_t = 10_000)]
    items: u32,
    /// Install what is missing (the Debian package wrk)
    #[arg(long)]
    install: bool,
}

pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    match &options.case {
        Case::Reveal(reveal) => run_reveal(workspace, reveal),
        Case::Rewrap(rewrap) => rewrap::run(workspace, rewrap),
    }
}

fn run_reveal(workspace: &Workspace, reveal: &Reveal) -> Result<ExitCode> {
    let interrupt = Interrupt::listen()?;
    let wanted = [Tool::Wrk, Tool::Taskset];
    install::provide(workspace, &wanted, reveal.install, "cargo xtask bench reveal --install", &interrupt)?;
    build(workspace, &interrupt)?;
    let started = Instant::now();
    let site = Site::start(workspace, reveal.items)?;
    let measured = measure(&site, &interrupt)?;
    let report = report(&site, reveal.items, &measured);
    let folder = workspace.target.join("bench");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("reveal.json"), serde_json::to_string_pretty(&report)?)?;
    println!("{}", table(&report));
    println!("{:.0} s; {}", started.elapsed().as_secs_f64(), folder.join("reveal.json").display());
    Ok(ExitCode::SUCCESS)
}

fn build(workspace: &Workspace, interrupt: &Interrupt) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--release", "--locked", "--package", "strongroom", "--bin", "strongroom"]);
    cargo.args(["--example", "bare", "--example", "bench_store"]);
    let status = process::run(&mut cargo, interrupt)?;
    if status.success() { Ok(()) } else { Err("the release build failed".into()) }
}

/// Which core serves and which makes the load; the same one where there is no other.
struct Cores {
    server: usize,
    load: usize,
}

impl Cores {
    fn of_this_machine() -> Self {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        Self { server: 0, load: usize::from(count > 1) }
    }

    /// `program` on one core, of its own process group, with none of this terminal's variables.
    fn pinned(&self, workspace: &Workspace, core: usize, program: &Path) -> Command {
        let mut command = workspace.command("taskset");
        command.args(["--cpu-list", &core.to_string()]).arg(program);
        command
    }
}

/// Everything that is measured, running.
struct Site {
    folder: TempDir,
    programs: PathBuf,
    cores: Cores,
    server: Running,
    reveal: Target,
    bare: Target,
    bytes: usize,
    _bare: Running,
    _standin: Running,
    _until_closed: ChildStdin,
}

impl Site {
    /// In the target folder: a temporary one may be in memory, where nothing is durable.
    fn start(workspace: &Workspace, items: u32) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(&workspace.target)?;
        let (cores, programs) = (Cores::of_this_machine(), workspace.target.join("release"));
        let log = folder.path().join("bench.log");
        println!("filling a store with {items} items …");
        let mut command = cores.pinned(workspace, cores.load, &programs.join("examples/bench_store"));
        command.arg(folder.path()).arg(items.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut standin = Running::start(&mut command, &log)?;
        let until_closed = standin.0.stdin.take().ok_or("no standard input")?;
        let made = first_line(&mut standin.0, &log)?;
        let mut command = cores.pinned(workspace, cores.server, &programs.join("strongroom"));
        command.args(["serve", "--config"]).arg(folder.path().join("strongroom.toml"));
        command.env("STRONGROOM_LOG", "warn").stdin(Stdio::null()).stdout(Stdio::null());
        let server = Running::start(&mut command, &log)?;
        let reveal = Target::reveal(&made, server.0.id())?;
        wait_until_ready(&reveal, "/healthz/ready")?;
        let bytes = reveal.size_of_first()?;
        let listen = load::free_address()?;
        let mut command = cores.pinned(workspace, cores.server, &programs.join("examples/bare"));
        command.args(["http", &listen.to_string(), &bytes.to_string()]).stdin(Stdio::null()).stdout(Stdio::null());
        let bare_process = Running::start(&mut command, &log)?;
        let bare = reveal.at(listen, bare_process.0.id());
        wait_until_ready(&bare, "/")?;
        Ok(Self {
            folder,
            programs,
            cores,
            server,
            reveal,
            bare,
            bytes,
            _bare: bare_process,
            _standin: standin,
            _until_closed: until_closed,
        })
    }

    /// One of the floors that `examples/bare.rs` measures by itself, on the server's core, a second.
    fn floor(&self, what: &str, argument: &Path) -> Result<f64> {
        let core = self.cores.server.to_string();
        let bare = self.programs.join("examples/bare");
        let output = Command::new("taskset").args(["--cpu-list", &core]).arg(bare).arg(what).arg(argument).output()?;
        let rate = String::from_utf8_lossy(&output.stdout).trim().parse();
        rate.map_err(|_| format!("bare {what}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }

    /// Resident memory of the server now and at its highest, in KiB (proc(5)).
    fn memory(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.server.0.id())).unwrap_or_default();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        (kib("VmRSS:"), kib("VmHWM:"))
    }
}

/// What the store's maker prints once it is done, or why it did not get there.
fn first_line(maker: &mut Child, log: &Path) -> Result<Value> {
    let output = maker.stdout.take().ok_or("no standard output")?;
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        // Without a line the receiver sees an empty one, and reports the log.
        let _ = BufReader::new(output).read_line(&mut line);
        let _ = tell.send(line);
    });
    let line = told.recv_timeout(FILLING).map_err(|_| "filling the store took too long; use fewer --items")?;
    serde_json::from_str(&line).map_err(|_| {
        let log = fs::read_to_string(log).unwrap_or_default();
        format!("the store could not be made:\n{log}").into()
    })
}

/// Everything that was measured, run by run.
#[derive(Default)]
struct Measured {
    bare: [Vec<Sample>; 3],
    reveal: [Vec<Sample>; 3],
    syncs: Vec<f64>,
    reads: Vec<f64>,
}

/// The cases take turns, so that a slow minute of the machine meets all of them.
fn measure(site: &Site, interrupt: &Interrupt) -> Result<Measured> {
    let load = load::Load::new(site.folder.path(), site.cores.load)?;
    load.run(&site.bare, 16, 1)?;
    load.run(&site.reveal, 16, 3)?;
    let mut measured = Measured::default();
    for run in 1..=RUNS {
        println!("run {run} of {RUNS} …");
        for (index, connections) in CONNECTIONS.into_iter().enumerate() {
            measured.bare[index].push(load.run(&site.bare, connections, BARE_SECONDS)?);
            measured.reveal[index].push(load.run(&site.reveal, connections, REVEAL_SECONDS)?);
            if interrupt.received() {
                return Err("interrupted".into());
            }
        }
        measured.syncs.push(site.floor("sync", site.folder.path())?);
        measured.reads.push(site.floor("read", &site.folder.path().join("strongroom.db"))?);
    }
    Ok(measured)
}

fn report(site: &Site, items: u32, measured: &Measured) -> Value {
    let cases: Vec<Value> = CONNECTIONS
        .into_iter()
        .enumerate()
        .map(|(index, connections)| {
            let (bare, reveal) = (&measured.bare[index], &measured.reveal[index]);
            let rate = |samples: &[Sample]| Spread::of(samples.iter().map(|sample| sample.rate));
            let ratio = rate(reveal).median / rate(bare).median;
            json!({
                "connections": connections, "ratio": ratio,
                "bare": side(bare), "reveal": side(reveal),
            })
        })
        .collect();
    let (memory, highest) = site.memory();
    json!({
        "case": "reveal", "engine": "SQLite", "items": items, "bytes": site.bytes,
        "server_core": site.cores.server, "load_core": site.cores.load,
        "cases": cases,
        "fdatasyncs_per_second": Spread::of(measured.syncs.iter().copied()).json(),
        "bare_reads_per_second": Spread::of(measured.reads.iter().copied()).json(),
        "memory_kib": memory, "highest_memory_kib": highest,
    })
}

fn side(samples: &[Sample]) -> Value {
    let spread = |value: fn(&Sample) -> f64| Spread::of(samples.iter().map(value)).json();
    json!({
        "requests_per_second": spread(|sample| sample.rate),
        "cpu_micros_per_request": spread(|sample| sample.cpu_micros),
        "p50_micros": spread(|sample| sample.p50_micros),
        "p99_micros": spread(|sample| sample.p99_micros),
    })
}

/// The least, the middle and the most of some runs.
#[derive(Debug, PartialEq)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self { min: at(0), median: at(values.len() / 2), max: at(values.len().saturating_sub(1)) }
    }

    fn json(&self) -> Value {
        json!({"min": self.min, "median": self.median, "max": self.max})
    }
}

fn table(report: &Value) -> String {
    let mut lines = vec![
        format!("\nreveal, {} items, SQLite, {} bytes an answer", report["items"], report["bytes"]),
        format!(
            "{:>11}  {:<6} {:>9} {:>9} {:>9}  {:>8} {:>8} {:>8}  {:>6}",
            "connections", "", "min/s", "median/s", "max/s", "CPU µs", "p50 µs", "p99 µs", "ratio"
        ),
    ];
    let cases = report["cases"].as_array().map(Vec::as_slice).unwrap_or_default();
    for case in cases {
        for side in ["bare", "reveal"] {
            let of = |what: &str, which: &str| case[side][what][which].as_f64().unwrap_or(f64::NAN);
            let rate = |which| of("requests_per_second", which);
            let ratio = if side == "reveal" { case["ratio"].as_f64().unwrap_or(f64::NAN) } else { 1.0 };
            lines.push(format!(
                "{:>11}  {side:<6} {:>9.0} {:>9.0} {:>9.0}  {:>8.1} {:>8.0} {:>8.0}  {ratio:>6.3}",
                case["connections"].as_u64().unwrap_or(0),
                rate("min"),
                rate("median"),
                rate("max"),
                of("cpu_micros_per_request", "median"),
                of("p50_micros", "median"),
                of("p99_micros", "median"),
            ));
        }
    }
    for (name, key) in
        [("durable appends (fdatasync)", "fdatasyncs_per_second"), ("bare database reads", "bare_reads_per_second")]
    {
        let of = |which: &str| report[key][which].as_f64().unwrap_or(f64::NAN);
        lines.push(format!("{name:<28} {:>9.0} {:>9.0} {:>9.0}  /s", of("min"), of("median"), of("max")));
    }
    let memory = |key: &str| report[key].as_f64().unwrap_or(f64::NAN) / 1024.0;
    lines.push(format!(
        "server's memory: {:.0} MiB, {:.0} at most",
        memory("memory_kib"),
        memory("highest_memory_kib")
    ));
    let ratio = cases.last().and_then(|case| case["ratio"].as_f64()).unwrap_or(0.0);
    let verdict = if ratio >= BUDGET { "met" } else { "NOT MET" };
    lines.push(format!("budget at 64 connections: ratio {BUDGET}, measured {ratio:.3}: {verdict}"));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_run() {
        let spread = Spread::of([5.0, 1.0, 4.0, 2.0, 3.0].into_iter());
        assert_eq!(spread, Spread { min: 1.0, median: 3.0, max: 5.0 });
    }
}

//! `cargo xtask test`: every check in stages, each named with its result and time.
//!
//! A stage that fails does not stop the next one; only an interrupt does. Locally PostgreSQL, the browser and Azure's
//! clients may be missing: their stages are then skipped and counted. With `CI=true` nothing is skipped.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::clients::{self, Client};
use crate::install::{self, Tool};
use crate::postgres::{self, Postgres};
use crate::process::{self, Interrupt};
use crate::{Result, Workspace};

/// The product's tests that need PostgreSQL have this word in their path. They connect to the URL in
/// `STRONGROOM_TEST_POSTGRES`; without a server they are left out, and nextest counts them as skipped.
const WITHOUT_POSTGRES: [&str; 2] = ["-E", "not (package(strongroom) & test(postgres))"];

/// Longest a single browser test may take, in milliseconds.
const BROWSER_TEST_TIMEOUT: &str = "--test-timeout=180000";

#[derive(clap::Args)]
pub struct Options {
    /// Install what is missing (Debian packages, cargo-nextest, Node and Python packages) before testing
    #[arg(long)]
    install: bool,
    /// Formatting, clippy and the tests on SQLite only: no PostgreSQL, doc tests, browser, nor Azure's clients
    #[arg(long)]
    quick: bool,
}

pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let interrupt = Interrupt::listen()?;
    let mut wanted = vec![Tool::Rustfmt, Tool::Clippy, Tool::Nextest];
    if !options.quick {
        wanted = Tool::ALL.to_vec();
    }
    let mut report = Report::default();
    let missing = provide(workspace, &wanted, options.install, &interrupt, &mut report)?;
    let suite =
        Suite { workspace, interrupt: &interrupt, missing, ci: std::env::var("CI").is_ok_and(|value| value == "true") };
    suite.formatting(&mut report);
    suite.clippy(&mut report);
    if options.quick {
        suite.tests(&mut report, None);
    } else {
        suite.tests_on_both_engines(&mut report);
        suite.doc_tests(&mut report);
        suite.browser_tests(&mut report);
        suite.azures_own_clients(&mut report);
    }
    report.print();
    if interrupt.received() {
        eprintln!("interrupted");
        return Ok(ExitCode::from(130));
    }
    Ok(report.exit_code())
}

/// Names what is missing, installs it if asked to, and returns what is missing still.
fn provide(
    workspace: &Workspace,
    wanted: &[Tool],
    may_install: bool,
    interrupt: &Interrupt,
    report: &mut Report,
) -> Result<Vec<Tool>> {
    let missing = install::missing(workspace, wanted);
    if missing.is_empty() {
        return Ok(missing);
    }
    if may_install {
        let started = Instant::now();
        install::install(workspace, &missing, interrupt)?;
        let still = install::missing(workspace, wanted);
        let outcome = match still.is_empty() {
            true => Outcome::Passed,
            false => Outcome::Failed(format!("still missing: {}", names(&still))),
        };
        report.add("installing", started.elapsed(), outcome);
        return Ok(still);
    }
    println!("Missing here; `cargo xtask test --install` installs it, or:");
    for tool in &missing {
        println!("  {}: {}", tool.name(), tool.how_to_install(workspace));
    }
    Ok(missing)
}

/// What the stages share.
struct Suite<'a> {
    workspace: &'a Workspace,
    interrupt: &'a Interrupt,
    missing: Vec<Tool>,
    ci: bool,
}

impl Suite<'_> {
    fn formatting(&self, report: &mut Report) {
        self.stage(report, "formatting", &[Tool::Rustfmt], || {
            self.run(self.workspace.cargo().args(["fmt", "--all", "--check"]))?;
            let mut apart = self.workspace.cargo();
            self.run(apart.args(["fmt", "--check", "--manifest-path"]).arg(clients::rust_manifest(self.workspace)))
        });
    }

    fn clippy(&self, report: &mut Report) {
        self.stage(report, "clippy", &[Tool::Clippy], || {
            let mut clippy = self.workspace.cargo();
            clippy.args(["clippy", "--workspace", "--all-targets", "--locked"]);
            self.run(clippy.args(["--", "-D", "warnings"]))?;
            let mut apart = self.workspace.cargo();
            apart.args(["clippy", "--locked", "--manifest-path"]).arg(clients::rust_manifest(self.workspace));
            apart.arg("--target-dir").arg(&self.workspace.target);
            self.run(apart.args(["--", "-D", "warnings"]))
        });
    }

    /// A fresh server for the run, or the tests without those that need one.
    fn tests_on_both_engines(&self, report: &mut Report) {
        let mut server = None;
        self.stage(report, "PostgreSQL", &[Tool::Postgres], || {
            let programs = postgres::find_programs().ok_or("PostgreSQL is gone")?;
            let started = Postgres::start(&programs)?;
            println!("{} from {}", started.url(), programs.display());
            server = Some(started);
            Ok(())
        });
        self.tests(report, server.as_ref());
    }

    fn tests(&self, report: &mut Report, postgres: Option<&Postgres>) {
        let name = match postgres {
            Some(_) => "tests, SQLite and PostgreSQL",
            None => "tests, SQLite only",
        };
        self.stage(report, name, &[Tool::Nextest], || {
            let mut nextest = self.workspace.cargo();
            nextest.args(["nextest", "run", "--workspace", "--locked"]);
            match postgres {
                Some(server) => nextest.env("STRONGROOM_TEST_POSTGRES", server.url()),
                None => nextest.args(WITHOUT_POSTGRES),
            };
            self.run(&mut nextest)
        });
    }

    fn doc_tests(&self, report: &mut Report) {
        self.stage(report, "doc tests", &[], || {
            let mut doc = self.workspace.cargo();
            self.run(doc.args(["test", "--doc", "--workspace", "--locked"]))
        });
    }

    fn browser_tests(&self, report: &mut Report) {
        let tools = [Tool::Node, Tool::Chromium, Tool::BrowserPackages];
        self.stage(report, "browser tests", &tools, || {
            self.build_programs()?;
            let chromium = process::find(install::CHROMIUM).ok_or("Chromium is gone")?;
            let mut node = self.workspace.command("node");
            node.args(["--test", "--test-reporter=spec", "--test-concurrency=1"])
                .arg(BROWSER_TEST_TIMEOUT)
                .current_dir(self.workspace.browser_tests())
                .env("STRONGROOM_CHROMIUM", chromium)
                .env("STRONGROOM_BIN", self.workspace.target.join("debug/strongroom"));
            self.run(&mut node)
        });
    }

    fn azures_own_clients(&self, report: &mut Report) {
        let tools: Vec<Tool> = Client::ALL.iter().flat_map(|client| client.needs()).copied().collect();
        self.stage(report, "Azure's own clients", &tools, || {
            self.build_programs()?;
            clients::check(self.workspace, &Client::ALL, self.interrupt)
        });
    }

    /// With `--tests` cargo settles on the same features as for the tests, and builds nothing twice.
    fn build_programs(&self) -> Result<()> {
        let mut build = self.workspace.cargo();
        self.run(build.args(["build", "--workspace", "--bins", "--tests", "--locked"]))
    }

    /// Runs one stage, unless its tools are missing or the run was interrupted, and notes its result.
    fn stage(&self, report: &mut Report, name: &'static str, needs: &[Tool], work: impl FnOnce() -> Result<()>) {
        if self.interrupt.received() {
            return;
        }
        println!("\n── {name} ──");
        let started = Instant::now();
        let lacking: Vec<Tool> = self.missing.iter().copied().filter(|tool| needs.contains(tool)).collect();
        let outcome = if lacking.is_empty() {
            work().map_or_else(|error| Outcome::Failed(error.to_string()), |()| Outcome::Passed)
        } else {
            self.without(&lacking)
        };
        report.add(name, started.elapsed(), outcome);
    }

    fn without(&self, lacking: &[Tool]) -> Outcome {
        let missing = format!("missing: {}", names(lacking));
        if self.ci {
            Outcome::Failed(format!("{missing}; nothing may be skipped under CI"))
        } else if lacking.iter().all(|tool| tool.is_optional()) {
            Outcome::Skipped(missing)
        } else {
            Outcome::Failed(missing)
        }
    }

    fn run(&self, command: &mut Command) -> Result<()> {
        let status = process::run(command, self.interrupt)?;
        if status.success() {
            return Ok(());
        }
        Err(status.to_string().into())
    }
}

fn names(tools: &[Tool]) -> String {
    tools.iter().map(|tool| tool.name()).collect::<Vec<_>>().join(", ")
}

#[derive(Debug)]
enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

#[derive(Default)]
struct Report {
    stages: Vec<(&'static str, Duration, Outcome)>,
}

impl Report {
    fn add(&mut self, name: &'static str, took: Duration, outcome: Outcome) {
        println!("── {name}: {} in {:.1} s", describe(&outcome), took.as_secs_f64());
        self.stages.push((name, took, outcome));
    }

    fn print(&self) {
        println!("\n{:<30} {:>9}  result", "stage", "time");
        for (name, took, outcome) in &self.stages {
            let seconds = format!("{:.1} s", took.as_secs_f64());
            println!("{name:<30} {seconds:>9}  {}", describe(outcome));
        }
        let total: Duration = self.stages.iter().map(|(_, took, _)| *took).sum();
        let seconds = format!("{:.1} s", total.as_secs_f64());
        let failed = self.count(|outcome| matches!(outcome, Outcome::Failed(_)));
        let skipped = self.count(|outcome| matches!(outcome, Outcome::Skipped(_)));
        println!("{:<30} {seconds:>9}  {failed} stages failed, {skipped} stages skipped", "all");
    }

    fn exit_code(&self) -> ExitCode {
        match self.count(|outcome| matches!(outcome, Outcome::Failed(_))) {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }

    fn count(&self, wanted: impl Fn(&Outcome) -> bool) -> usize {
        self.stages.iter().filter(|(_, _, outcome)| wanted(outcome)).count()
    }
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passed => "ok".into(),
        Outcome::Failed(reason) => format!("FAILED ({reason})"),
        Outcome::Skipped(reason) => format!("SKIPPED ({reason})"),
    }
}

//! The developer commands: `cargo xtask test`, `clients`, `chaos`, `drill`, `migrate`, `fuzz`,
//! `api-fuzz`, `bench`, `lines`. One file a command.
//!
//! What a command starts, it ends: on success, on failure and on Ctrl-C.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a terminal program; what it prints is what it is for")]

mod api_fuzz;
mod bench;
mod chaos;
mod clients;
mod drill;
mod fuzz;
mod install;
mod lines;
mod migrate;
mod postgres;
mod process;
mod test;

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};

/// Errors here are read by the person at the terminal and by nobody else, so text is enough.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The developer commands of Strongroom")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run every check: formatting, clippy, tests on both database engines, doc tests, browser tests, Azure's clients
    Test(test::Options),
    /// Run Azure's own clients against the stand-in, and write what they could do into its README
    Clients(clients::Options),
    /// Measure how fast it is, beside what the machine does without it
    Bench(bench::Options),
    /// Kill the server at random moments, on both database engines, and check that nothing acknowledged is lost
    Chaos(chaos::Options),
    /// Withdraw keys at the stand-in again and again, under load, and time every way to denial and back
    Drill(drill::Options),
    /// Carry 100,000 items from SQLite to PostgreSQL and back, killed once, and compare the checksums
    Migrate(migrate::Options),
    /// Ask every operation of the API what its description allows and what it does not, and check each answer
    ApiFuzz(api_fuzz::Options),
    /// Feed every parser of outside bytes with what a fuzzer makes up
    Fuzz(fuzz::Options),
    /// Count lines of Rust code per crate, without blank lines and comments
    Lines,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = Workspace::locate().and_then(|workspace| match cli.command {
        Task::Test(options) => test::run(&workspace, &options),
        Task::Clients(options) => clients::run(&workspace, &options),
        Task::Bench(options) => bench::run(&workspace, &options),
        Task::Chaos(options) => chaos::run(&workspace, &options),
        Task::Drill(options) => drill::run(&workspace, &options),
        Task::Migrate(options) => migrate::run(&workspace, &options),
        Task::ApiFuzz(options) => api_fuzz::run(&workspace, &options),
        Task::Fuzz(options) => fuzz::run(&workspace, &options),
        Task::Lines => lines::run(&workspace).map(|()| ExitCode::SUCCESS),
    });
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

/// Where the project lies and where cargo puts what it builds.
pub struct Workspace {
    pub root: PathBuf,
    pub target: PathBuf,
}

impl Workspace {
    fn locate() -> Result<Self> {
        let output = Command::new(cargo_path()).args(["metadata", "--no-deps", "--format-version", "1"]).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let path = |name: &str| {
            metadata[name].as_str().map(PathBuf::from).ok_or_else(|| format!("`cargo metadata` names no {name}"))
        };
        Ok(Self { root: path("workspace_root")?, target: path("target_directory")? })
    }

    /// The folder with the browser tests and their `package.json`.
    pub fn browser_tests(&self) -> PathBuf {
        self.root.join("crates/strongroom/tests/browser")
    }

    /// The folder with the suites of Azure's own clients, a folder each.
    pub fn clients(&self) -> PathBuf {
        self.root.join("crates/azure-standin/clients")
    }

    /// The Python environment of one of those suites.
    pub fn python(&self, client: &str) -> PathBuf {
        self.target.join("clients").join(client)
    }

    /// A cargo command at the root of the workspace; see [`Workspace::command`].
    pub fn cargo(&self) -> Command {
        self.command(cargo_path())
    }

    /// A command at the root of the workspace, deaf to what this terminal is signed in to: no test
    /// may reach a real server or a real Azure because of a variable left in the shell.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        for (name, _) in std::env::vars_os() {
            if is_kept_from_children(&name.to_string_lossy()) {
                command.env_remove(&name);
            }
        }
        command
    }
}

/// Beside the variables of the product and of Azure's tools, those that `cargo run` sets for us: some
/// build scripts watch them, and would run again at each change between this and a plain cargo.
fn is_kept_from_children(variable: &str) -> bool {
    ["STRONGROOM_", "AZURE_", "CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|prefix| variable.starts_with(prefix))
}

fn cargo_path() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

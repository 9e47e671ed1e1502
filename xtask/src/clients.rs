//! `cargo xtask clients`: Azure's own clients, unmodified and at pinned releases, against the stand-in.
//!
//! Each has a suite under `crates/azure-standin/clients/` (one more is the product's own), a program that tries one operation after the other and says
//! in a line of JSON what came of each. A run of all of them writes those lines as tables into the stand-in's README;
//! with `CI=true` it fails where the README says something else.

mod suite;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use self::suite::Finding;
use self::table::Outcome;
use crate::install::{self, Tool};
use crate::process::{self, Interrupt};
use crate::{Result, Workspace};

/// So many suites run at a time: each is one process that mostly waits for its own stand-in's process.
const AT_A_TIME: usize = 2;

#[derive(clap::Args)]
pub struct Options {
    /// Only these; the README is then left alone
    names: Vec<Client>,
    /// Install what is missing (Python and its packages, Node packages) before
    #[arg(long)]
    install: bool,
}

/// A client of Azure's, or a family of them, that has a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Client {
    /// The Azure CLI
    Az,
    /// azure-identity and azure-keyvault-keys, synchronous and asynchronous
    Python,
    /// @azure/identity and @azure/keyvault-keys
    #[value(name = "javascript")]
    JavaScript,
    /// azure_identity and azure_security_keyvault_keys, with their defaults
    Rust,
    /// The Azure CLI, running the script that `strongroom azure setup --print az` prints
    SetupScript,
}

impl Client {
    /// The slowest first, so that two at a time end together.
    pub const ALL: [Client; 5] = [Client::Az, Client::SetupScript, Client::Python, Client::JavaScript, Client::Rust];

    fn name(self) -> &'static str {
        match self {
            Client::Az => "az",
            Client::SetupScript => "setup-script",
            Client::Python => "python",
            Client::JavaScript => "javascript",
            Client::Rust => "rust",
        }
    }

    /// What has to be installed for its suite.
    pub fn needs(self) -> &'static [Tool] {
        match self {
            Client::Az | Client::SetupScript => &[Tool::Python, Tool::AzPackages],
            Client::Python => &[Tool::Python, Tool::PythonPackages],
            Client::JavaScript => &[Tool::Node, Tool::JavaScriptPackages],
            Client::Rust => &[],
        }
    }
}

pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let interrupt = Interrupt::listen()?;
    let clients = if options.names.is_empty() { Client::ALL.to_vec() } else { options.names.clone() };
    let tools: Vec<Tool> = clients.iter().flat_map(|client| client.needs()).copied().collect();
    install::provide(workspace, &tools, options.install, "cargo xtask clients --install", &interrupt)?;
    let mut build = workspace.cargo();
    build.args(["build", "--locked", "--package", "azure-standin", "--bin", "azure-standin"]);
    if clients.contains(&Client::SetupScript) {
        build.args(["--package", "strongroom", "--bin", "strongroom"]);
    }
    if !process::run(&mut build, &interrupt)?.success() {
        return Ok(ExitCode::FAILURE);
    }
    check(workspace, &clients, &interrupt)?;
    Ok(ExitCode::SUCCESS)
}

/// The Rust suite is a workspace of its own, so that the SDK has its default features there and not in the product.
pub fn rust_manifest(workspace: &Workspace) -> PathBuf {
    workspace.clients().join("rust/Cargo.toml")
}

/// Runs the suites of `clients` against the debug builds of the stand-in and of what else they need, which must be
/// there. Of all of them, it also sees to the tables in the README.
///
/// # Errors
/// When a suite fails, or the README says something else under CI.
pub fn check(workspace: &Workspace, clients: &[Client], interrupt: &Interrupt) -> Result<()> {
    if clients.contains(&Client::Rust) {
        suite::build_rust(workspace, interrupt)?;
    }
    let findings = run_all(workspace, clients, interrupt);
    if interrupt.received() {
        return Err("interrupted".into());
    }
    let failed: Vec<&str> = findings.iter().filter(|of| !of.is_good()).map(|of| of.client.name()).collect();
    if !failed.is_empty() {
        return Err(format!("failed: {}", failed.join(", ")).into());
    }
    if findings.len() < Client::ALL.len() {
        println!("Only some of the clients: the tables in {README} are as they were.");
        return Ok(());
    }
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    settle_readme(&workspace.root.join(README), &findings, ci)
}

/// Two at a time, each told about when it ends; in the order of `clients` in the end.
fn run_all(workspace: &Workspace, clients: &[Client], interrupt: &Interrupt) -> Vec<Finding> {
    let waiting = Mutex::new(clients.iter().copied());
    let found = Mutex::new(Vec::new());
    // The lock is let go before the suite runs.
    let next = || waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
    let work = || {
        while let Some(client) = next() {
            if interrupt.received() {
                return;
            }
            let started = Instant::now();
            let finding = suite::run(workspace, client, interrupt);
            println!("{}", describe(&finding, started.elapsed().as_secs_f64()));
            found.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(finding);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(work);
        }
    });
    let mut found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    found.sort_by_key(|finding: &Finding| clients.iter().position(|client| *client == finding.client));
    found
}

/// How many operations a client could do, and in full what failed.
fn describe(finding: &Finding, seconds: f64) -> String {
    let count = |wanted: Outcome| finding.lines.iter().filter(|line| line.outcome == wanted).count();
    let mut text = format!(
        "{:<11} {:>3} ok, {} with Azure's own error, {} failed, in {seconds:.1} s",
        finding.client.name(),
        count(Outcome::Ok),
        count(Outcome::AzureError),
        count(Outcome::Failed)
    );
    for line in finding.lines.iter().filter(|line| line.outcome == Outcome::Failed) {
        text += &format!("\n  FAILED {}, {}: {}", line.client, line.operation, line.note);
    }
    if let Some(trouble) = &finding.trouble {
        text += &format!("\n{trouble}");
    }
    text
}

const README: &str = "crates/azure-standin/README.md";

fn settle_readme(file: &Path, findings: &[Finding], ci: bool) -> Result<()> {
    let before = fs::read_to_string(file)?;
    // The stand-in's README tells of Azure's clients, not of what this product does with one.
    let groups: [&[Client]; 2] = [&[Client::Az], &[Client::Python, Client::JavaScript, Client::Rust]];
    let tables = groups.map(|group| {
        let of_group = findings.iter().filter(|finding| group.contains(&finding.client));
        table::render(of_group.flat_map(|finding| &finding.lines))
    });
    let after = table::replace(&before, &tables.join("\n"))?;
    if before == after {
        println!("The tables in {README} say what this run found.");
        return Ok(());
    }
    if ci {
        return Err(format!(
            "the tables in {README} do not say what this run found. Run `cargo xtask clients --install`, which writes \
             them, look at what changed, and commit the file"
        )
        .into());
    }
    fs::write(file, after)?;
    println!("The tables in {README} now say what this run found; commit the file.");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::table::Line;
    use super::*;

    #[test]
    fn a_table_that_differs_is_written_but_under_ci_it_is_a_failure() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let file = folder.path().join("README.md");
        let empty = table::replace("<!-- written by `cargo xtask clients` -->\n<!-- end of what it wrote -->\n", "")
            .expect("both markers are there");
        fs::write(&file, &empty).expect("the folder is ours");
        let line = Line::parse(r#"{"client": "az 1", "operation": "group show", "result": "ok"}"#).expect("our own");
        let findings = [Finding { client: Client::Az, lines: vec![line], trouble: None }];
        let refused = settle_readme(&file, &findings, true).expect_err("nobody wrote that table");
        assert!(refused.to_string().contains("cargo xtask clients --install"), "{refused}");
        assert_eq!(fs::read_to_string(&file).expect("ours"), empty);
        settle_readme(&file, &findings, false).expect("both markers are there");
        assert!(fs::read_to_string(&file).expect("ours").contains("| group show | ok |"));
        settle_readme(&file, &findings, true).expect("it says now what was found");
    }
}

//! The programs that the tests and the benchmarks need: which are missing, and how to install them.

use std::fs;
use std::path::Path;

use crate::process::{self, Interrupt};
use crate::{Result, Workspace, postgres};

/// A program that the tests or the benchmarks need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Rustfmt,
    Clippy,
    Nextest,
    Postgres,
    Node,
    Chromium,
    NodePackages,
    Wrk,
    Taskset,
}

impl Tool {
    /// What the tests need.
    pub const ALL: [Tool; 7] =
        [Tool::Rustfmt, Tool::Clippy, Tool::Nextest, Tool::Postgres, Tool::Node, Tool::Chromium, Tool::NodePackages];

    pub fn name(self) -> &'static str {
        match self {
            Tool::Rustfmt => "rustfmt",
            Tool::Clippy => "clippy",
            Tool::Nextest => "cargo-nextest",
            Tool::Postgres => "PostgreSQL",
            Tool::Node => "Node.js with npm",
            Tool::Chromium => "Chromium",
            Tool::NodePackages => "the browser tests' Node packages",
            Tool::Wrk => "wrk",
            Tool::Taskset => "taskset",
        }
    }

    /// Whether the tests can go on without it on a developer's machine, with less checked. Without a test runner
    /// nothing would be checked, and that is no success.
    pub fn is_optional(self) -> bool {
        match self {
            Tool::Rustfmt | Tool::Clippy | Tool::Nextest | Tool::Wrk | Tool::Taskset => false,
            Tool::Postgres | Tool::Node | Tool::Chromium | Tool::NodePackages => true,
        }
    }

    pub fn is_missing(self, workspace: &Workspace) -> bool {
        match self {
            Tool::Rustfmt => !answers(workspace, &["fmt", "--version"]),
            Tool::Clippy => !answers(workspace, &["clippy", "--version"]),
            Tool::Nextest => !answers(workspace, &["nextest", "--version"]),
            Tool::Postgres => postgres::find_programs().is_none(),
            Tool::Node => process::find(&["node"]).is_none() || process::find(&["npm"]).is_none(),
            Tool::Chromium => process::find(CHROMIUM).is_none(),
            Tool::Wrk => process::find(&["wrk"]).is_none(),
            Tool::Taskset => process::find(&["taskset"]).is_none(),
            Tool::NodePackages => !node_packages_are_current(&workspace.browser_tests()),
        }
    }

    /// The commands that install it, as one would type them at the root of the project.
    fn commands(self) -> Vec<Vec<&'static str>> {
        match self {
            Tool::Rustfmt => vec![vec!["rustup", "component", "add", "rustfmt"]],
            Tool::Clippy => vec![vec!["rustup", "component", "add", "clippy"]],
            Tool::Nextest => vec![vec!["cargo", "install", "cargo-nextest", "--locked"]],
            Tool::Postgres => apt(&["postgresql"]),
            Tool::Node => apt(&["nodejs", "npm"]),
            Tool::Chromium => apt(&["chromium", "fonts-liberation"]),
            Tool::Wrk => apt(&["wrk"]),
            Tool::Taskset => apt(&["util-linux"]),
            Tool::NodePackages => vec![vec![
                "npm",
                "--prefix",
                "crates/strongroom/tests/browser",
                "ci",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
            ]],
        }
    }

    /// The same as one line for the reader.
    pub fn how_to_install(self) -> String {
        let lines: Vec<String> = self.commands().iter().map(|words| words.join(" ")).collect();
        lines.join(" && ")
    }
}

/// The names under which distributions install Chromium or Chrome.
pub const CHROMIUM: &[&str] = &["chromium", "chromium-browser", "google-chrome"];

/// Those of `wanted` that are not there.
pub fn missing(workspace: &Workspace, wanted: &[Tool]) -> Vec<Tool> {
    let absent = |tool: &Tool| tool.is_missing(workspace);
    wanted.iter().copied().filter(absent).collect()
}

/// Installs `tools` and shows each command. One that fails is reported and does not stop the others:
/// whoever needs what is still missing says so.
pub fn install(workspace: &Workspace, tools: &[Tool], interrupt: &Interrupt) -> Result<()> {
    for tool in tools {
        println!("\n── installing {} ──", tool.name());
        for words in tool.commands() {
            println!("$ {}", words.join(" "));
            let mut command = workspace.command(words[0]);
            command.args(&words[1..]).env("DEBIAN_FRONTEND", "noninteractive");
            match process::run(&mut command, interrupt) {
                Ok(status) if status.success() => {}
                Ok(status) => println!("failed: {status}"),
                Err(error) if interrupt.received() => return Err(error),
                Err(error) => println!("failed: {error}"),
            }
        }
    }
    Ok(())
}

/// Debian's packages are installed by root, or through sudo.
fn apt(packages: &[&'static str]) -> Vec<Vec<&'static str>> {
    let sudo: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["sudo"] };
    let update = ["apt-get", "update", "--quiet"];
    let install = ["apt-get", "install", "--yes", "--quiet"];
    let lean = ["--no-install-recommends"];
    vec![[sudo, &update].concat(), [sudo, &install, &lean, packages].concat()]
}

fn answers(workspace: &Workspace, arguments: &[&str]) -> bool {
    let output = workspace.cargo().args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

/// npm records what it installed in `node_modules/.package-lock.json`, in the form of the lock file.
fn node_packages_are_current(folder: &Path) -> bool {
    let wanted = locked_packages(&folder.join("package-lock.json"));
    let installed = locked_packages(&folder.join("node_modules/.package-lock.json"));
    wanted.is_some() && wanted == installed
}

/// Path and release of each package in a lock file, without the entry of the project itself.
fn locked_packages(file: &Path) -> Option<Vec<(String, String)>> {
    let lock: serde_json::Value = serde_json::from_str(&fs::read_to_string(file).ok()?).ok()?;
    let packages = lock["packages"].as_object()?;
    packages
        .iter()
        .filter(|(path, package)| !path.is_empty() && package["optional"] != true)
        .map(|(path, package)| Some((path.clone(), package["version"].as_str()?.to_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_packages_of_another_release_are_not_current() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let lock =
            |release: &str| format!(r#"{{"packages": {{"": {{}}, "node_modules/a": {{"version": "{release}"}}}}}}"#);
        let installed = folder.path().join("node_modules/.package-lock.json");
        fs::create_dir(folder.path().join("node_modules")).expect("the folder is ours");
        fs::write(folder.path().join("package-lock.json"), lock("1.2.3")).expect("ours");
        assert!(!node_packages_are_current(folder.path()), "none installed");
        fs::write(&installed, lock("1.2.4")).expect("ours");
        assert!(!node_packages_are_current(folder.path()), "another release");
        fs::write(&installed, lock("1.2.3")).expect("ours");
        assert!(node_packages_are_current(folder.path()));
    }
}

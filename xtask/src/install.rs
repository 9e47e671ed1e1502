//! The programs that the tests and the benchmarks need: which are missing, and how to install them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{self, Interrupt};
use crate::{Result, Workspace, postgres};

/// A program that the tests or the benchmarks need, or the packages of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Rustfmt,
    Clippy,
    Nextest,
    Postgres,
    Node,
    Chromium,
    BrowserPackages,
    Python,
    AzPackages,
    PythonPackages,
    JavaScriptPackages,
    ApiFuzzPackages,
    CargoFuzz,
    Nightly,
    Wrk,
    Taskset,
}

impl Tool {
    /// What the tests need.
    pub const ALL: [Tool; 11] = [
        Tool::Rustfmt,
        Tool::Clippy,
        Tool::Nextest,
        Tool::Postgres,
        Tool::Node,
        Tool::Chromium,
        Tool::BrowserPackages,
        Tool::Python,
        Tool::AzPackages,
        Tool::PythonPackages,
        Tool::JavaScriptPackages,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Tool::Rustfmt => "rustfmt",
            Tool::Clippy => "clippy",
            Tool::Nextest => "cargo-nextest",
            Tool::Postgres => "PostgreSQL",
            Tool::Node => "Node.js with npm",
            Tool::Chromium => "Chromium",
            Tool::BrowserPackages => "the browser tests' Node packages",
            Tool::Python => "Python with venv",
            Tool::AzPackages => "Azure CLI",
            Tool::PythonPackages => "Azure's Python packages",
            Tool::JavaScriptPackages => "Azure's Node packages",
            Tool::ApiFuzzPackages => "schemathesis",
            Tool::CargoFuzz => "cargo-fuzz",
            Tool::Nightly => "the nightly toolchain",
            Tool::Wrk => "wrk",
            Tool::Taskset => "taskset",
        }
    }

    /// Whether the tests can go on without it on a developer's machine, with less checked. Without a test runner
    /// nothing would be checked, and that is no success.
    pub fn is_optional(self) -> bool {
        !matches!(
            self,
            Tool::Rustfmt | Tool::Clippy | Tool::Nextest | Tool::Wrk | Tool::Taskset | Tool::CargoFuzz | Tool::Nightly
        )
    }

    pub fn is_missing(self, workspace: &Workspace) -> bool {
        match self {
            Tool::Rustfmt => !answers(workspace.cargo().args(["fmt", "--version"])),
            Tool::Clippy => !answers(workspace.cargo().args(["clippy", "--version"])),
            Tool::Nextest => !answers(workspace.cargo().args(["nextest", "--version"])),
            Tool::Postgres => postgres::find_programs().is_none(),
            Tool::Node => process::find(&["node"]).is_none() || process::find(&["npm"]).is_none(),
            Tool::Chromium => process::find(CHROMIUM).is_none(),
            Tool::Wrk => process::find(&["wrk"]).is_none(),
            Tool::Taskset => process::find(&["taskset"]).is_none(),
            Tool::BrowserPackages => !node_packages_are_current(&workspace.browser_tests()),
            Tool::Python => !answers(workspace.command("python3").args(["-c", "import venv, ensurepip"])),
            Tool::AzPackages => !python_packages_are_current(workspace, AZ),
            Tool::PythonPackages => !python_packages_are_current(workspace, AZURE_SDK),
            Tool::ApiFuzzPackages => !python_packages_are_current(workspace, API_FUZZ),
            Tool::CargoFuzz => process::find(&["cargo-fuzz"]).is_none(),
            Tool::Nightly => !answers(workspace.command("rustc").arg("+nightly").arg("--version")),
            Tool::JavaScriptPackages => !node_packages_are_current(&workspace.clients().join("javascript")),
        }
    }

    /// The commands that install it, as one would type them at the root of the project.
    fn commands(self, workspace: &Workspace) -> Vec<Vec<String>> {
        match self {
            Tool::Rustfmt => vec![words("rustup component add rustfmt")],
            Tool::Clippy => vec![words("rustup component add clippy")],
            Tool::Nextest => vec![words("cargo install cargo-nextest --locked")],
            Tool::Postgres => apt("postgresql"),
            Tool::Node => apt("nodejs npm"),
            Tool::Chromium => apt("chromium fonts-liberation"),
            Tool::Python => apt("python3 python3-venv"),
            Tool::Wrk => apt("wrk"),
            Tool::Taskset => apt("util-linux"),
            Tool::BrowserPackages => vec![npm_ci("crates/strongroom/tests/browser")],
            Tool::JavaScriptPackages => vec![npm_ci("crates/azure-standin/clients/javascript")],
            Tool::AzPackages => python_packages(workspace, AZ),
            Tool::PythonPackages => python_packages(workspace, AZURE_SDK),
            Tool::ApiFuzzPackages => python_packages(workspace, API_FUZZ),
            Tool::CargoFuzz => vec![words("cargo install cargo-fuzz --locked")],
            Tool::Nightly => vec![words("rustup toolchain install nightly --profile minimal")],
        }
    }

    /// The same as one line for the reader.
    pub fn how_to_install(self, workspace: &Workspace) -> String {
        let lines: Vec<String> = self.commands(workspace).iter().map(|words| words.join(" ")).collect();
        lines.join(" && ")
    }
}

/// Folders whose `requirements.txt` a Python environment is made from.
const AZ: &str = "crates/azure-standin/clients/az";
const AZURE_SDK: &str = "crates/azure-standin/clients/python";
pub const API_FUZZ: &str = "crates/strongroom/tests/api_fuzz";

/// The names under which distributions install Chromium or Chrome.
pub const CHROMIUM: &[&str] = &["chromium", "chromium-browser", "google-chrome"];

/// Those of `wanted` that are not there, each once.
pub fn missing(workspace: &Workspace, wanted: &[Tool]) -> Vec<Tool> {
    let mut absent = Vec::new();
    for tool in wanted {
        if !absent.contains(tool) && tool.is_missing(workspace) {
            absent.push(*tool);
        }
    }
    absent
}

/// Sees to it that `wanted` is there, or says what is not; `command` is what installs it.
pub fn provide(
    workspace: &Workspace,
    wanted: &[Tool],
    may_install: bool,
    command: &str,
    interrupt: &Interrupt,
) -> Result<()> {
    if may_install {
        install(workspace, &missing(workspace, wanted), interrupt)?;
    }
    match missing(workspace, wanted).first() {
        None => Ok(()),
        Some(tool) => {
            let (name, how) = (tool.name(), tool.how_to_install(workspace));
            Err(format!("{name} is missing; `{command}` installs it, or: {how}").into())
        }
    }
}

/// Installs `tools` and shows each command. One that fails is reported and does not stop the others:
/// whoever needs what is still missing says so.
pub fn install(workspace: &Workspace, tools: &[Tool], interrupt: &Interrupt) -> Result<()> {
    for tool in tools {
        println!("\n── installing {} ──", tool.name());
        for words in tool.commands(workspace) {
            println!("$ {}", words.join(" "));
            let mut command = workspace.command(&words[0]);
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

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Debian's packages are installed by root, or through sudo.
fn apt(packages: &str) -> Vec<Vec<String>> {
    let sudo = if rustix::process::geteuid().is_root() { "" } else { "sudo " };
    let install = format!("{sudo}apt-get install --yes --quiet --no-install-recommends {packages}");
    vec![words(&format!("{sudo}apt-get update --quiet")), words(&install)]
}

fn npm_ci(folder: &str) -> Vec<String> {
    words(&format!("npm --prefix {folder} ci --ignore-scripts --no-audit --no-fund"))
}

/// The Python environment of a suite, of Azure's clients say, below the target folder. The list that it was made from is
/// left in it, last, as the sign that it is whole. What Python compiles, it compiles when first used: compiling all of
/// the Azure CLI takes longer than running it.
fn python_packages(workspace: &Workspace, suite: &str) -> Vec<Vec<String>> {
    let folder = python_environment(workspace, suite).display().to_string();
    let wanted = format!("{suite}/requirements.txt");
    let own = |line: &str| -> Vec<String> {
        let put = |word: String| word.replace("FOLDER", &folder).replace("WANTED", &wanted);
        words(line).into_iter().map(put).collect()
    };
    vec![
        own("python3 -m venv --clear FOLDER"),
        own("FOLDER/bin/python -m pip install --quiet --only-binary :all: --no-compile --no-deps --requirement WANTED"),
        own("FOLDER/bin/python -m pip check"),
        own("cp WANTED FOLDER/requirements.txt"),
    ]
}

/// Named as the folder of its suite.
pub fn python_environment(workspace: &Workspace, suite: &str) -> PathBuf {
    workspace.python(suite.rsplit('/').next().unwrap_or(suite))
}

fn answers(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn python_packages_are_current(workspace: &Workspace, suite: &str) -> bool {
    let environment = python_environment(workspace, suite);
    let wanted = fs::read(workspace.root.join(suite).join("requirements.txt"));
    let installed = fs::read(environment.join("requirements.txt"));
    let same = matches!((wanted, installed), (Ok(wanted), Ok(installed)) if wanted == installed);
    same && environment.join("bin/python").is_file()
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

    #[test]
    fn python_packages_made_from_another_list_are_not_current() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let workspace = Workspace { root: folder.path().to_owned(), target: folder.path().join("target") };
        let (wanted, environment) = (workspace.root.join(AZ), workspace.python("az"));
        fs::create_dir_all(&wanted).expect("the folder is ours");
        fs::create_dir_all(environment.join("bin")).expect("ours");
        fs::write(environment.join("bin/python"), "").expect("ours");
        fs::write(wanted.join("requirements.txt"), "a==2\n").expect("ours");
        assert!(!python_packages_are_current(&workspace, AZ), "installing them did not come to its end");
        fs::write(environment.join("requirements.txt"), "a==1\n").expect("ours");
        assert!(!python_packages_are_current(&workspace, AZ), "another release");
        fs::write(environment.join("requirements.txt"), "a==2\n").expect("ours");
        assert!(python_packages_are_current(&workspace, AZ));
    }
}

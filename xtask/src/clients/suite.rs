//! One suite: its stand-in, its surroundings, what it said.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Client;
use super::table::{Line, Outcome};
use crate::process::{self, Interrupt, Running};
use crate::{Result, Workspace};

/// Longest that a suite may take, and that a stand-in may take until it listens.
const SUITE: Duration = Duration::from_secs(480);
const START: Duration = Duration::from_secs(20);

/// In the run's folder.
const STANDIN_LOG: &str = "standin.log";

/// What one run of a suite showed.
pub struct Finding {
    pub client: Client,
    pub lines: Vec<Line>,
    /// Why the run as a whole counts for nothing, with what the suite wrote to standard error.
    pub trouble: Option<String>,
}

impl Finding {
    pub fn is_good(&self) -> bool {
        self.trouble.is_none() && self.lines.iter().all(|line| line.outcome != Outcome::Failed)
    }
}

/// Shares the target folder with the product's workspace, so that what is alike is built once.
pub fn build_rust(workspace: &Workspace, interrupt: &Interrupt) -> Result<()> {
    let mut build = workspace.cargo();
    build.args(["build", "--locked", "--manifest-path"]).arg(super::rust_manifest(workspace));
    build.arg("--target-dir").arg(&workspace.target);
    if process::run(&mut build, interrupt)?.success() { Ok(()) } else { Err("the Rust suite does not build".into()) }
}

/// Runs a suite against a stand-in of its own; what goes wrong is part of the finding.
pub fn run(workspace: &Workspace, client: Client, interrupt: &Interrupt) -> Finding {
    match try_run(workspace, client, interrupt) {
        Ok(finding) => finding,
        Err(error) => Finding { client, lines: Vec::new(), trouble: Some(error.to_string()) },
    }
}

fn try_run(workspace: &Workspace, client: Client, interrupt: &Interrupt) -> Result<Finding> {
    let folder = tempfile::Builder::new().prefix("azure-clients-").tempdir()?;
    let standin = Standin::start(workspace, folder.path())?;
    let home = folder.path().join("home");
    fs::create_dir(&home)?;
    let (said, log) = (folder.path().join("said"), folder.path().join("log"));
    let (program, script) = program(workspace, client)?;
    let mut command = Command::new(program);
    command
        .args(script)
        .env_clear()
        .envs(surroundings(&standin, &home))
        .env("PATH", search_path(workspace, client)?)
        .env("STRONGROOM_BIN", workspace.target.join("debug/strongroom"))
        .current_dir(&home)
        .stdout(File::create(&said)?)
        .stderr(File::create(&log)?);
    let ended = process::run_within(&mut command, SUITE, interrupt);
    let (said, log) = (fs::read_to_string(said)?, fs::read_to_string(log)?);
    let lines: Result<Vec<Line>> = said.lines().map(Line::parse).collect();
    let trouble = match (&ended, &lines) {
        (Err(error), _) => Some(error.to_string()),
        (_, Err(error)) => Some(format!("it said what is no line of a table: {error}")),
        (Ok(status), _) if !status.success() => Some(format!("it ended with {status}")),
        (_, Ok(lines)) if lines.is_empty() => Some("it tried nothing".to_owned()),
        _ => None,
    };
    let trouble = match trouble {
        Some(reason) => {
            let kept = workspace.target.join("clients").join(format!("{}.log", client.name()));
            fs::create_dir_all(workspace.target.join("clients"))?;
            fs::copy(folder.path().join(STANDIN_LOG), &kept)?;
            let requests = kept.display();
            Some(format!(
                "{}: {reason}. What the stand-in answered: {requests}. On standard error:\n{log}",
                client.name()
            ))
        }
        None => None,
    };
    Ok(Finding { client, lines: lines.unwrap_or_default(), trouble })
}

/// The program, and the script that it runs if it is an interpreter.
fn program(workspace: &Workspace, client: Client) -> Result<(PathBuf, Option<PathBuf>)> {
    let python = environment(workspace, client).join("bin/python");
    let suite = |name: &str| Some(workspace.clients().join(client.name()).join(name));
    Ok(match client {
        Client::Az | Client::Python => (python, suite("suite.py")),
        Client::SetupScript => (python, Some(workspace.root.join("crates/strongroom/tests/az/setup_script.py"))),
        Client::JavaScript => (process::find(&["node"]).ok_or("Node.js is gone")?, suite("suite.mjs")),
        Client::Rust => (workspace.target.join("debug/azure-clients-rust"), None),
    })
}

/// The Python environment that it runs in, if it is one of those.
fn environment(workspace: &Workspace, client: Client) -> PathBuf {
    workspace.python(if client == Client::SetupScript { "az" } else { client.name() })
}

/// The client's own programs before the system's.
fn search_path(workspace: &Workspace, client: Client) -> Result<OsString> {
    let own = environment(workspace, client).join("bin");
    let system = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths([own].into_iter().chain(std::env::split_paths(&system)))?)
}

/// All variables of a suite but `PATH`. Nothing is left of this terminal's, and every request goes to the stand-in,
/// which plays Azure's hosts, refuses every other, and connects to nothing. Only its control port, on loopback, is
/// spoken to without a proxy.
fn surroundings(standin: &Standin, home: &Path) -> Vec<(String, OsString)> {
    let mut variables: Vec<(String, OsString)> =
        standin.variables.iter().map(|(name, value)| (name.clone(), value.into())).collect();
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"] {
        variables.push((name.to_owned(), standin.proxy.clone().into()));
        variables.push((name.to_lowercase(), standin.proxy.clone().into()));
    }
    for name in ["NO_PROXY", "no_proxy"] {
        variables.push((name.to_owned(), "127.0.0.1".into()));
    }
    for name in ["HOME", "TMPDIR"] {
        variables.push((name.to_owned(), home.into()));
    }
    variables.push(("LANG".to_owned(), "C.UTF-8".into()));
    variables.push(("STANDIN_CONTROL".to_owned(), standin.control.clone().into()));
    variables
}

/// A fresh stand-in on free ports; ends with this value.
struct Standin {
    proxy: String,
    control: String,
    /// What `azure-standin env` prints.
    variables: Vec<(String, String)>,
    _process: Running,
}

impl Standin {
    fn start(workspace: &Workspace, folder: &Path) -> Result<Self> {
        let program = workspace.target.join("debug/azure-standin");
        let (data, log) = (folder.join("standin"), folder.join(STANDIN_LOG));
        let mut serve = workspace.command(&program);
        serve.args(["serve", "--test-keys", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
        serve.env("RUST_LOG", "info").stdin(Stdio::null()).stdout(Stdio::null());
        let mut process = Running::start(&mut serve, &log)?;
        let deadline = Instant::now() + START;
        let (proxy, control) = loop {
            let told = fs::read_to_string(&log)?;
            if let Some(addresses) = addresses(&told) {
                break addresses;
            }
            if process.0.try_wait()?.is_some() || Instant::now() > deadline {
                return Err(format!("the stand-in did not start; its log says:\n{told}").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let listen = proxy.strip_prefix("http://").unwrap_or(&proxy);
        let printed = workspace.command(&program).args(["env", "--listen", listen, "--data"]).arg(&data).output()?;
        let variables = String::from_utf8(printed.stdout)?.lines().filter_map(exported).collect();
        Ok(Self { proxy, control, variables, _process: process })
    }
}

/// The URLs of proxy and control, from the whole line in which the stand-in's log names them.
fn addresses(log: &str) -> Option<(String, String)> {
    let line = log.split_inclusive('\n').find(|line| line.ends_with('\n') && line.contains(" control http://"))?;
    let (before, control) = line.trim_end().rsplit_once(" control ")?;
    let (_, proxy) = before.rsplit_once("proxy ")?;
    Some((proxy.to_owned(), control.to_owned()))
}

/// Name and value of a line `export NAME='value'`.
fn exported(line: &str) -> Option<(String, String)> {
    let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
    let value = value.strip_prefix('\'')?.strip_suffix('\'')?;
    Some((name.to_owned(), value.replace("'\\''", "'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_are_read_from_a_whole_line() {
        let line =
            "2026-11-23T16:00:00Z  INFO azure_standin: proxy http://127.0.0.1:4001 control http://127.0.0.1:4002";
        let expected = ("http://127.0.0.1:4001".to_owned(), "http://127.0.0.1:4002".to_owned());
        assert_eq!(addresses(&format!("first\n{line}\nmore\n")), Some(expected));
        assert_eq!(addresses(line), None, "the end of the line has not come yet");
    }

    #[test]
    fn an_exported_value_is_what_the_shell_would_make_of_it() {
        let expected = ("AZURE_CLIENT_SECRET".to_owned(), "it's".to_owned());
        assert_eq!(exported(r"export AZURE_CLIENT_SECRET='it'\''s'"), Some(expected));
        assert_eq!(exported("# nothing"), None);
    }
}

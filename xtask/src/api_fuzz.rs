//! `cargo xtask api-fuzz`: schemathesis against the OpenAPI document of a demo that was made for it, with Azure's stand-in
//! in good health.
//!
//! No answer may be a server error, and each must be what the document says. What schemathesis is told is in
//! `crates/strongroom/tests/api_fuzz/`.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::install::{self, API_FUZZ, Tool};
use crate::process::{self, Interrupt, Running};
use crate::{Result, Workspace};

/// Longest that the demo may take until it is ready, and schemathesis to end once its time is up.
const START: Duration = Duration::from_secs(120);
const GRACE: Duration = Duration::from_secs(120);

#[derive(clap::Args)]
pub struct Options {
    /// How long to go on asking
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    minutes: u64,
    /// What is asked; without it a new one, which is printed
    #[arg(long)]
    seed: Option<u64>,
    /// Install what is missing (Python and schemathesis) before
    #[arg(long)]
    install: bool,
}

pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let interrupt = Interrupt::listen()?;
    let tools = [Tool::Python, Tool::ApiFuzzPackages];
    install::provide(workspace, &tools, options.install, "cargo xtask api-fuzz --install", &interrupt)?;
    let mut build = workspace.cargo();
    build.args(["build", "--locked", "--package", "strongroom", "--bin", "strongroom"]);
    if !process::run(&mut build, &interrupt)?.success() {
        return Ok(ExitCode::FAILURE);
    }
    let seed = match options.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() % 1_000_000,
    };
    let folder = tempfile::tempdir()?;
    let demo = Demo::start(workspace, folder.path())?;
    let time = Duration::from_secs(options.minutes * 60);
    let suite = workspace.root.join(API_FUZZ);
    let mut schemathesis = workspace.command(install::python_environment(workspace, API_FUZZ).join("bin/schemathesis"));
    schemathesis
        .arg("--config-file")
        .arg(suite.join("schemathesis.toml"))
        .args(["run", &format!("{}/api/v1/openapi.json", demo.url)])
        .args(["--seed", &seed.to_string(), "--max-time", &time.as_secs().to_string()])
        .current_dir(folder.path())
        .env("API_FUZZ_DEMO", folder.path().join("demo/demo.json"))
        .env("API_FUZZ_SEED", seed.to_string())
        .env("API_FUZZ_TOKEN", &demo.token)
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("PYTHONPATH", &suite)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let status = process::run_within(&mut schemathesis, time + GRACE, &interrupt)?;
    println!("seed {seed}; the server's log names {} server errors", demo.server_errors()?);
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A fresh demo on free ports; ends with this value.
struct Demo<'a> {
    folder: &'a Path,
    url: String,
    token: String,
    _process: Running,
}

impl<'a> Demo<'a> {
    fn start(workspace: &Workspace, folder: &'a Path) -> Result<Self> {
        let port = three_free_ports()?;
        let mut demo = workspace.command(workspace.target.join("debug/strongroom"));
        demo.args(["demo", "--port", &port.to_string(), "--dir"]).arg(folder.join("demo"));
        demo.stdin(Stdio::null()).stdout(Stdio::null());
        let mut process = Running::start(&mut demo, &folder.join("log"))?;
        let deadline = Instant::now() + START;
        let file = folder.join("demo/demo.json");
        while !file.exists() {
            if process.0.try_wait()?.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(folder.join("log"))?;
                return Err(format!("the demo did not start; its log says:\n{log}").into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let told: Value = serde_json::from_str(&fs::read_to_string(file)?)?;
        let word = |value: &Value| value.as_str().map(str::to_owned).ok_or("the demo's file lacks a value");
        let (url, token) = (word(&told["url"])?, word(&told["members"][0]["token"])?);
        Ok(Self { folder, url, token, _process: process })
    }

    fn server_errors(&self) -> Result<usize> {
        let log = fs::read_to_string(self.folder.join("log"))?;
        Ok(log.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked")).count())
    }
}

/// The first of three ports in a row that nobody has.
fn three_free_ports() -> Result<u16> {
    let bind = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    for _ in 0..100 {
        let first = bind(0)?;
        let port = first.local_addr()?.port();
        if port < u16::MAX - 2 && bind(port + 1).is_ok() && bind(port + 2).is_ok() {
            return Ok(port);
        }
    }
    Err("no three free ports in a row".into())
}

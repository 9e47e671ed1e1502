//! Running programs so that none outlives this one.
//!
//! Every child leads a process group of its own. Ctrl-C then reaches only this process, which passes
//! it on to the whole group: cargo, what cargo started, and what that started.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::Result;

/// How often a running child is asked whether it has ended.
const POLL: Duration = Duration::from_millis(50);

/// How long a program may take to end once told to. The test runner gives its own tests 10 s.
const GRACE: Duration = Duration::from_secs(15);

/// Remembers that this process was asked to end, instead of ending at once.
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on SIGINT, SIGTERM and SIGHUP no longer kill this process.
    pub fn listen() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Self(flag))
    }

    pub fn received(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Runs `command` to its end, its output going where ours goes unless it says otherwise. When interrupted, ends its
/// whole process group first.
pub fn run(command: &mut Command, interrupt: &Interrupt) -> Result<ExitStatus> {
    run_within(command, Duration::MAX, interrupt)
}

/// The same, and ends it when it has not ended by itself after `limit`.
pub fn run_within(command: &mut Command, limit: Duration, interrupt: &Interrupt) -> Result<ExitStatus> {
    let started = Instant::now();
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if interrupt.received() {
            end(&mut child, Signal::TERM);
            return Err(format!("{program} was interrupted").into());
        }
        if started.elapsed() > limit {
            end(&mut child, Signal::TERM);
            return Err(format!("{program} had not ended after {} s", limit.as_secs()).into());
        }
        std::thread::sleep(POLL);
    }
}

/// A process that ends with this value.
pub struct Running(pub Child);

impl Running {
    /// Starts `command` in a process group of its own; what it writes to standard error is added to the file `log`.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        Ok(Self(command.stderr(log).process_group(0).spawn()?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.0, Signal::TERM);
    }
}

/// Asks the process group that `child` leads to end, waits, and in the end kills it.
pub fn end(child: &mut Child, signal: Signal) {
    let group = Pid::from_child(child);
    let deadline = Instant::now() + GRACE;
    // A failure means that the group is gone already, which is what is wanted.
    let _ = kill_process_group(group, signal);
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(None) => std::thread::sleep(POLL),
            Ok(Some(_)) | Err(_) => break,
        }
    }
    // The leader may have ended before those it started.
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait();
}

/// The first of `names` that lies on the search path.
pub fn find(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    names
        .iter()
        .flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name)))
        .find(|file| file.is_file())
}

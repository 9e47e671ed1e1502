//! Programs that run as children and that can be killed, frozen, and kept from writing.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use crate::site::PATIENCE;

/// A child; killed when dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; what it prints is appended to `log`. It is not ended by a write that is too large, as a program on a
    /// full disk is not: such a write fails.
    pub fn start(program: &Path, arguments: &[&str], folder: &Path, log: PathBuf) -> Process {
        let out = File::options().create(true).append(true).open(&log).expect("the folder is ours");
        let child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(program)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a second handle"))
            .stderr(out)
            .spawn()
            .expect("a shell");
        Process { child, log }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(pid(self.child.id()), signal).expect("it is our child");
    }

    /// SIGKILL: nothing of it runs any more when this returns.
    pub fn kill(&mut self) {
        // One that has ended by itself cannot be killed, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and how it ended then.
    pub async fn stop(&mut self) -> Result<(), String> {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while !self.has_ended() {
            if Instant::now() > deadline {
                self.kill();
                return Err("did not end within 20 s of SIGTERM".into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }

    /// No file may grow beyond so many bytes in it: what a full disk is to it. None takes that back.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(pid(self.child.id())), Resource::Fsize, limit).expect("it is our child");
    }

    /// The end of what it printed.
    pub fn said(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The program of this name that cargo built beside the product's own.
pub fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_strongroom")).with_file_name(name);
    assert!(path.is_file(), "{name} is not built; `cargo xtask chaos` does");
    path
}

/// The processes of the PostgreSQL whose pid file this is: its first one, then those that it began.
pub fn of_postgres(pid_file: &Path) -> Vec<u32> {
    let text = fs::read_to_string(pid_file).unwrap_or_default();
    let Some(first) = text.lines().next().and_then(|line| line.trim().parse().ok()) else { return vec![] };
    let entries = fs::read_dir("/proc").expect("Linux has it").flatten();
    let all = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    std::iter::once(first).chain(all.filter(|id| parent_of(*id) == Some(first))).collect()
}

pub fn kill_all(processes: &[u32]) {
    for id in processes {
        let _ = kill_process(pid(*id), Signal::KILL);
    }
}

/// `pid (name) state ppid …`, proc_pid_stat(5); the name may hold anything.
fn parent_of(id: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn pid(id: u32) -> Pid {
    i32::try_from(id).ok().and_then(Pid::from_raw).expect("a process has an id")
}

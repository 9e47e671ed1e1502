//! A throw-away PostgreSQL for one test run: empty, on a free loopback port, gone afterwards.
//!
//! It trusts whoever connects and never syncs to disk. It holds test data only.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{Result, process};

/// How long a server may take until it accepts connections.
const START: Duration = Duration::from_secs(20);

/// How often a server that is kept alive is looked at.
const KEEPER: Duration = Duration::from_millis(50);

/// Enough for every test of a run to hold a small pool of its own.
const MAX_CONNECTIONS: &str = "max_connections=200";

/// A running server; ends, and takes its files with it, when dropped.
pub struct Postgres {
    server: Child,
    port: u16,
    programs: PathBuf,
    data: PathBuf,
    directory: TempDir,
}

/// A server that comes back by itself; ends when dropped.
pub struct KeptAlive {
    pub url: String,
    pub pid_file: PathBuf,
    over: Arc<AtomicBool>,
    keeper: Option<JoinHandle<()>>,
}

impl Postgres {
    /// Makes a database cluster from the programs in `programs` and starts it.
    pub fn start(programs: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("strongroom-postgres-").tempdir()?;
        let user = Unprivileged::for_this_process()?;
        if let Some(user) = &user {
            chown(directory.path(), Some(user.uid), Some(user.gid))?;
        }
        let data = directory.path().join("data");
        initialise(programs, &data, user.as_ref())?;
        let port = free_port()?;
        let log = directory.path().join("log");
        let server = serve(programs, &data, port, &log, user.as_ref())?;
        let mut postgres = Self { server, port, programs: programs.to_path_buf(), data: data.clone(), directory };
        postgres.wait_until_ready(&data, &log)?;
        Ok(postgres)
    }

    /// Where the server keeps its process id, in the first line.
    pub fn pid_file(&self) -> PathBuf {
        self.data.join("postmaster.pid")
    }

    /// Starts the server again whenever it has ended, until this is dropped: for a run that kills it.
    pub fn kept_alive(self) -> Result<KeptAlive> {
        let (url, pid_file, over) = (self.url(), self.pid_file(), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&over);
        let mut postgres = self;
        let keeper = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                // Processes that have not ended with it hold its memory for a moment, and it refuses: the next turn.
                if postgres.server.try_wait().is_ok_and(|ended| ended.is_some())
                    && let Ok(server) = postgres.serve()
                {
                    postgres.server = server;
                }
                std::thread::sleep(KEEPER);
            }
        });
        Ok(KeptAlive { url, pid_file, over, keeper: Some(keeper) })
    }

    /// The connection URL of its administrator, who may create databases.
    pub fn url(&self) -> String {
        format!("postgres://strongroom@127.0.0.1:{}/postgres", self.port)
    }

    fn serve(&self) -> Result<Child> {
        let user = Unprivileged::for_this_process()?;
        serve(&self.programs, &self.data, self.port, &self.directory.path().join("log"), user.as_ref())
    }

    /// The server writes `ready` into the last line of its pid file once it accepts connections;
    /// `pg_ctl start --wait` looks at the same line.
    fn wait_until_ready(&mut self, data: &Path, log: &Path) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            let pid_file = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
            if pid_file.lines().nth(7).map(str::trim) == Some("ready") {
                return Ok(());
            }
            let ended = self.server.try_wait()?.is_some();
            if ended || Instant::now() > deadline {
                let log = fs::read_to_string(log).unwrap_or_default();
                return Err(format!("PostgreSQL did not start; its log says:\n{log}").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGQUIT is PostgreSQL's immediate shutdown: nothing is worth a checkpoint here.
        process::end(&mut self.server, Signal::QUIT);
    }
}

impl Drop for KeptAlive {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(keeper) = self.keeper.take() {
            // The server ends with the keeper, which owns it.
            let _ = keeper.join();
        }
    }
}

/// The folder with `initdb` and `postgres`. Debian keeps them off the search path, one folder a
/// major release; the newest is taken.
pub fn find_programs() -> Option<PathBuf> {
    let mut releases: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .map(|(release, path)| (release, path.join("bin")))
        .filter(|(_, folder)| folder.join("postgres").is_file())
        .collect();
    releases.sort();
    let newest = releases.pop().map(|(_, folder)| folder);
    newest.or_else(|| Some(process::find(&["initdb"])?.parent()?.to_path_buf()))
}

fn initialise(programs: &Path, data: &Path, user: Option<&Unprivileged>) -> Result<()> {
    let mut initdb = command(&programs.join("initdb"), user);
    initdb
        .args(["--username=strongroom", "--auth=trust", "--encoding=UTF8"])
        .args(["--no-locale", "--no-sync", "--no-instructions", "--pgdata"])
        .arg(data);
    let output = initdb.output()?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    Err(format!("initdb failed: {message}").into())
}

fn serve(programs: &Path, data: &Path, port: u16, log: &Path, user: Option<&Unprivileged>) -> Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    let settings = [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        MAX_CONNECTIONS,
        "fsync=off",
        "full_page_writes=off",
        "timezone=UTC",
    ];
    let mut postgres = command(&programs.join("postgres"), user);
    postgres
        .arg("-D")
        .arg(data)
        .args(["-p", &port.to_string()])
        .args(settings.iter().flat_map(|setting| ["-c", setting]))
        .process_group(0)
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(postgres.spawn()?)
}

fn command(program: &Path, user: Option<&Unprivileged>) -> Command {
    let mut command = Command::new(program);
    // The current folder may be one that the unprivileged user cannot enter.
    command.stdin(Stdio::null()).current_dir("/");
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

/// The system picks a free port; another program could take it before the server does, which then
/// says so in its log.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// The user as whom the server runs: PostgreSQL refuses to run as root.
#[derive(Debug, PartialEq)]
struct Unprivileged {
    uid: u32,
    gid: u32,
}

impl Unprivileged {
    /// `None` if this process is unprivileged itself.
    fn for_this_process() -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd")?;
        let nobody = Self::parse(&users, "nobody")
            .ok_or("PostgreSQL does not run as root, and there is no user `nobody` to run it as")?;
        Ok(Some(nobody))
    }

    /// Finds `name` in a passwd file: `name:password:uid:gid:…`, see passwd(5).
    fn parse(users: &str, name: &str) -> Option<Self> {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next()? != name {
                return None;
            }
            Some(Self { uid: fields.nth(1)?.parse().ok()?, gid: fields.next()?.parse().ok()? })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let users = "nobody2:x:1:2::/:/bin/sh\nnobody:x:65534:65533:nobody:/:/sbin/nologin\n";
        let nobody = Unprivileged { uid: 65534, gid: 65533 };
        assert_eq!(Unprivileged::parse(users, "nobody"), Some(nobody));
        assert_eq!(Unprivileged::parse(users, "body"), None);
    }
}

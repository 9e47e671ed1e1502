//! The server's files: who else may read them, and how much room is left beside them.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::Line;
use crate::config::{Config, DatabaseUrl};

/// Below this SQLite soon refuses to write.
const LEAST_BYTES: u64 = 256 << 20;
/// Below this it is time to look for room.
const FEW_BYTES: u64 = 1 << 30;

/// One line for all files that nobody else shall read, and one for the folders that nobody else shall write to.
pub(super) fn look(config: &Config) -> Vec<Line> {
    vec![private(config), folders(config)]
}

fn private(config: &Config) -> Line {
    const CODE: &str = "files.private";
    const TITLE: &str = "Files are the server's alone";
    let mut wanted = Vec::new();
    if let DatabaseUrl::Sqlite(path) = &config.database.url {
        wanted.extend(["", "-wal"].map(|end| with_end(path, end)));
    }
    wanted.extend(config.server.tls_key.clone());
    wanted.extend(config.secret_file.clone());
    let open: Vec<_> = wanted.iter().filter(|path| mode(path).is_some_and(|mode| mode & 0o007 != 0)).collect();
    if open.is_empty() {
        let seen = "Nobody but owner and group may read the database, the TLS key and a configuration with passwords.";
        return Line::pass(CODE, TITLE, seen);
    }
    let names: Vec<_> = open.iter().map(|path| path.display().to_string()).collect();
    let why = format!("Every user of this machine may read {}.", names.join(", "));
    Line::warn(CODE, TITLE, why, format!("chmod o-rwx {}", names.join(" ")))
}

fn folders(config: &Config) -> Line {
    const CODE: &str = "files.folders";
    const TITLE: &str = "Folders are the server's alone";
    let mut wanted = vec![folder_of(&config.instance.key_file)];
    if let DatabaseUrl::Sqlite(path) = &config.database.url {
        wanted.push(folder_of(path));
    }
    wanted.dedup();
    let open: Vec<_> = wanted.iter().filter(|path| mode(path).is_some_and(|mode| mode & 0o002 != 0)).collect();
    if open.is_empty() {
        return Line::pass(CODE, TITLE, "Nobody but owner and group may put files beside the key and the database.");
    }
    let names: Vec<_> = open.iter().map(|path| path.display().to_string()).collect();
    let why = format!("Every user of this machine may replace files in {}.", names.join(", "));
    Line::fail(CODE, TITLE, why, format!("chmod o-w {}", names.join(" ")))
}

/// How much room is left for the database, or for the files of a server whose database is elsewhere.
pub(super) fn disk(config: &Config) -> Line {
    const CODE: &str = "disk.free";
    const TITLE: &str = "Disk has room";
    let folder = match &config.database.url {
        DatabaseUrl::Sqlite(path) => folder_of(path),
        DatabaseUrl::Postgres(_) => {
            return Line::skipped(CODE, TITLE, "The database lies with its own server: watch the disk there.");
        }
    };
    let found = match rustix::fs::statvfs(&folder) {
        Ok(found) => found,
        Err(error) => {
            let why = format!("{} cannot be looked at: {error}.", folder.display());
            return Line::fail(CODE, TITLE, why, "Make the folder that database.url names.");
        }
    };
    let (free, all) = (found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize);
    let percent = (free * 100).checked_div(all).unwrap_or(0);
    let seen = format!("{} MiB are free at {}, {percent} % of it", free >> 20, folder.display());
    let fix = "Free space or enlarge the disk. What was acknowledged is safe on a full disk, but nothing can be \
               written, and no reveal without its event.";
    match free {
        0..LEAST_BYTES => Line::fail(CODE, TITLE, format!("{seen}: too little to go on for long."), fix),
        LEAST_BYTES..FEW_BYTES => Line::warn(CODE, TITLE, format!("{seen}."), fix),
        _ if percent < 5 => Line::warn(CODE, TITLE, format!("{seen}."), fix),
        _ => Line::pass(CODE, TITLE, format!("{seen}.")),
    }
}

fn mode(path: &Path) -> Option<u32> {
    Some(fs::metadata(path).ok()?.permissions().mode())
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.into(),
        _ => ".".into(),
    }
}

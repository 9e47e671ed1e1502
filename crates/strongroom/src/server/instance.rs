//! The instance key and the node's id: two files outside of the database, made at the first start.

use std::{
    fs,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use strongroom_envelope::{InstanceKey, InstanceKeyId, InstanceKeys, Random};
use zeroize::Zeroizing;

use crate::{
    error::{Error, Result},
    id::NodeId,
};

/// Holds the instance key in place of a file: the text of a key file.
pub const KEY_VARIABLE: &str = "STRONGROOM_INSTANCE_KEY";
/// The name of a systemd credential (`LoadCredential=`) with the text of a key file.
pub const CREDENTIAL: &str = "strongroom-instance-key";

/// The instance keys, and whether they were made just now and still have to be kept.
pub struct Loaded {
    pub keys: InstanceKeys,
    /// The text to write once the database is known to be new.
    pub unsaved: Option<Zeroizing<String>>,
    /// Where they came from, in words.
    pub origin: String,
    /// Whether that is the configured file, which may be written.
    pub in_file: bool,
}

/// Reads the instance keys from the environment, a systemd credential or `file`; makes one when there is none.
pub fn load(file: &Path, environment: &dyn Fn(&str) -> Option<String>, random: &dyn Random) -> Result<Loaded> {
    if let Some(text) = environment(KEY_VARIABLE).map(Zeroizing::new) {
        return parsed(&text, format!("the environment variable {KEY_VARIABLE}"));
    }
    let credential = environment("CREDENTIALS_DIRECTORY").map(|folder| PathBuf::from(folder).join(CREDENTIAL));
    if let Some(path) = credential.filter(|path| path.exists()) {
        return parsed(&read(&path)?, format!("the systemd credential {CREDENTIAL}"));
    }
    if file.exists() {
        require_private(file)?;
        let loaded = parsed(&read(file)?, file.display().to_string())?;
        return Ok(Loaded { in_file: true, ..loaded });
    }
    let key = InstanceKey::generate(random).map_err(|_| Error::random())?;
    let text = key.to_key_file();
    let keys = InstanceKeys::new(key, Vec::new());
    Ok(Loaded { keys, unsaved: Some(text), origin: file.display().to_string(), in_file: true })
}

/// Makes a key where no file is yet; returns its id.
pub fn make(file: &Path, random: &dyn Random) -> Result<String> {
    let key = InstanceKey::generate(random).map_err(|_| Error::random())?;
    save(file, &key.to_key_file())?;
    Ok(key.id().to_string())
}

/// Writes a fresh key file, readable by its owner only, and makes it durable before anything is sealed under it.
pub fn save(file: &Path, text: &str) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut out = fs::File::options().create_new(true).write(true).mode(0o600).open(file)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        synced_folder(file)
    };
    write().map_err(|error| unusable(file, &error.to_string()))
}

/// The text of a key file with another key in front, which is the current one then.
pub fn with_new(file: &Path, key: &InstanceKey) -> Result<Zeroizing<String>> {
    let before = read(file)?;
    let line = key.to_key_file();
    let mut text = Zeroizing::new(String::with_capacity(line.len() + before.len()));
    text.push_str(&line);
    text.push_str(&before);
    Ok(text)
}

/// Takes a key out of a key file; the other lines stay as they are.
pub fn take_out(file: &Path, key: InstanceKeyId) -> Result<()> {
    let before = read(file)?;
    let mut text = Zeroizing::new(String::with_capacity(before.len()));
    let gone = |line: &str| InstanceKey::parse_key_file(line).is_ok_and(|of_line| of_line.id() == key);
    for line in before.lines().filter(|line| !gone(line)) {
        text.push_str(line);
        text.push('\n');
    }
    replace(file, &text)
}

/// Writes a key file in place of the one before: whoever reads it sees one or the other, whole.
pub fn replace(file: &Path, text: &str) -> Result<()> {
    let file = file.canonicalize().map_err(|error| unusable(file, &error.to_string()))?;
    let mut beside = file.clone().into_os_string();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // Left by an earlier try that was cut off; nothing was sealed under a key of it.
    let _ = fs::remove_file(&beside);
    save(&beside, text)?;
    fs::rename(&beside, &file).and_then(|()| synced_folder(&file)).map_err(|error| unusable(&file, &error.to_string()))
}

fn synced_folder(file: &Path) -> std::io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()
}

/// The id of the server that has this file.
pub fn node_id(file: &Path, now: Timestamp, random: &dyn Random) -> Result<NodeId> {
    match fs::read_to_string(file) {
        // Empty: a server holds it that has not written its id yet.
        Ok(text) if !text.trim().is_empty() => {
            return text.trim().parse().map_err(|_| unusable(file, "it holds no node id"));
        }
        _ => {}
    }
    let id = NodeId::generate(now, random)?;
    fs::write(file, format!("{id}\n")).map_err(|error| unusable(file, &error.to_string()))?;
    Ok(id)
}

/// Holds a node's file for as long as the result lives. Two servers with one id would take each other's leases for their
/// own.
pub fn hold_node(file: &Path) -> Result<fs::File> {
    let open = fs::File::options().create(true).truncate(false).write(true).open(file);
    let held = open.map_err(|error| unusable(file, &error.to_string()))?;
    match held.try_lock() {
        Ok(()) => Ok(held),
        Err(fs::TryLockError::WouldBlock) => Err(Error::Setup {
            what: format!("another server runs as the node of {}", file.display()).into(),
            fix: "Give each server a file of its own: instance.node_file in its configuration, or \
                  STRONGROOM_INSTANCE__NODE_FILE. It is made at the first start."
                .into(),
        }),
        Err(fs::TryLockError::Error(error)) => Err(unusable(file, &error.to_string())),
    }
}

fn parsed(text: &str, origin: String) -> Result<Loaded> {
    let keys = InstanceKeys::parse_key_file(text).map_err(|error| Error::Setup {
        what: format!("the instance key in {origin} cannot be used: {error}").into(),
        fix: "Put the right key file back from its offline copy.".into(),
    })?;
    Ok(Loaded { keys, unsaved: None, origin, in_file: false })
}

fn read(file: &Path) -> Result<Zeroizing<String>> {
    fs::read_to_string(file).map(Zeroizing::new).map_err(|error| unusable(file, &error.to_string()))
}

fn require_private(file: &Path) -> Result<()> {
    let mode = fs::metadata(file).map_err(|error| unusable(file, &error.to_string()))?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(Error::Setup {
        what: format!("the instance key file {} can be read by others (mode {mode:03o})", file.display()).into(),
        fix: format!("chmod 600 {}", file.display()).into(),
    })
}

fn unusable(file: &Path, why: &str) -> Error {
    Error::Setup {
        what: format!("{} cannot be used: {why}", file.display()).into(),
        fix: "Check that the file and its folder belong to the server's user.".into(),
    }
}

//! Keeps what a process holds out of core dumps and out of swap, as far as the system allows.

use std::{fs, io};

use rustix::{
    mm::{MlockAllFlags, mlockall},
    process::{DumpableBehavior, Resource, Rlimit, dumpable_behavior, getrlimit, set_dumpable_behavior, setrlimit},
    thread::{CapabilitySet, capabilities},
};

/// From here on the system writes no core dump of this process, and lets no other process of its user read its memory
/// (PR_SET_DUMPABLE, prctl(2)). A program that it starts is not concerned.
pub fn forbid_dumps() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Whether [`forbid_dumps`] holds.
pub fn dumps_are_forbidden() -> bool {
    dumpable_behavior().is_ok_and(|behavior| behavior == DumpableBehavior::NotDumpable)
}

/// Locks all memory that this process has and will have, page by page as it is used, so that none goes into swap
/// (mlockall(2)). Not tried under a limit: an allocation beyond it would fail later.
pub fn lock() -> Result<(), NotLocked> {
    may_lock()?;
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
        .map_err(|error| NotLocked::Refused(error.into()))
}

/// Why memory is not locked.
#[derive(Debug, thiserror::Error)]
pub enum NotLocked {
    #[error("this process may lock {} KiB only", .0 / 1024)]
    Limit(u64),
    #[error("the system refused: {0}")]
    Refused(io::Error),
}

/// Whether [`lock`] would be tried; raises this process's own limit as far as it may.
pub fn may_lock() -> Result<(), NotLocked> {
    let limit = getrlimit(Resource::Memlock);
    let Some(bytes) = limit.maximum else {
        let unlimited = Rlimit { current: None, maximum: None };
        return setrlimit(Resource::Memlock, unlimited).map_err(|error| NotLocked::Refused(error.into()));
    };
    // Who has this capability is under no limit.
    let privileged = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    if privileged { Ok(()) } else { Err(NotLocked::Limit(bytes)) }
}

/// Whether this machine has swap at all; None where the system does not say (proc_swaps(5)).
pub fn has_swap() -> Option<bool> {
    let text = fs::read_to_string("/proc/swaps").ok()?;
    // The first line is a head.
    Some(text.lines().count() > 1)
}

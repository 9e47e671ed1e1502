//! The process that asks: whom it runs as, and what the system does with its memory. The server, started by the same user
//! under the same limits, gets the same; it also writes what it got into its log at the start.

use rustix::process::geteuid;

use super::Line;
use crate::memory;

pub(super) fn look() -> Vec<Line> {
    vec![user(), dumps(), swap()]
}

fn user() -> Line {
    const CODE: &str = "process.user";
    const TITLE: &str = "Run as the server's own user";
    match geteuid() {
        user if user.is_root() => Line::warn(
            CODE,
            TITLE,
            "You are root, who may read and write everything: that says little of what the server may.",
            "Run this as the server's user: sudo -u strongroom strongroom doctor. The server needs no root either.",
        ),
        user => Line::pass(CODE, TITLE, format!("User id {}.", user.as_raw())),
    }
}

fn dumps() -> Line {
    const CODE: &str = "process.core_dumps";
    const TITLE: &str = "No core dump is written";
    if memory::dumps_are_forbidden() {
        return Line::pass(CODE, TITLE, "The system agreed to write none of this program.");
    }
    Line::warn(
        CODE,
        TITLE,
        "The system did not agree to leave this program out: a crash may leave keys on the disk.",
        "Set LimitCORE=0 for the service, and sysctl kernel.core_pattern=/dev/null.",
    )
}

fn swap() -> Line {
    const CODE: &str = "process.swap";
    const TITLE: &str = "Memory stays out of swap";
    let Err(why) = memory::may_lock() else {
        return Line::pass(CODE, TITLE, "The server may lock its memory.");
    };
    match memory::has_swap() {
        Some(false) => Line::pass(CODE, TITLE, format!("The memory is not locked ({why}); this machine has no swap.")),
        _ => Line::warn(
            CODE,
            TITLE,
            format!("The memory cannot be locked: {why}. Keys in it may be written into swap."),
            "Set LimitMEMLOCK=infinity for the service (a container: --ulimit memlock=-1), or turn swap off, or encrypt it.",
        ),
    }
}

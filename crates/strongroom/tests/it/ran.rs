//! The program, run to its end in the folder of an installation.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::site::Site;

/// Runs it with these arguments; nobody answers it.
pub fn strongroom(site: &Site, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    let ran = command.args(arguments).current_dir(&site.folder).stdin(Stdio::null()).output();
    ran.expect("the command runs")
}

/// The same, with this on its standard input, and JSON as its answer.
pub fn answered(site: &Site, arguments: &[&str], input: &Value) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_strongroom"))
        .args(["--format", "json"])
        .args(arguments)
        .current_dir(&site.folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    // One that reads nothing closes the pipe.
    let _ = child.stdin.take().expect("piped").write_all(input.to_string().as_bytes());
    child.wait_with_output().expect("it ends")
}

/// What a command that has to work printed as JSON.
#[track_caller]
pub fn told(site: &Site, arguments: &[&str]) -> Value {
    json_of(arguments, &strongroom(site, &[&["--format", "json"], arguments].concat()))
}

/// The JSON of a command that had to work.
#[track_caller]
pub fn json_of(arguments: &[&str], ran: &Output) -> Value {
    assert!(ran.status.success(), "{arguments:?}: {}", said(ran));
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(ran)))
}

/// What a command that has to fail said.
#[track_caller]
pub fn refused(site: &Site, arguments: &[&str]) -> String {
    refusal_of(arguments, &strongroom(site, arguments))
}

/// What a command that had to fail said.
#[track_caller]
pub fn refusal_of(arguments: &[&str], ran: &Output) -> String {
    assert!(!ran.status.success(), "{arguments:?} should have been refused: {}", said(ran));
    said(ran)
}

/// All that it said, whatever came of it.
pub fn said(ran: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr))
}

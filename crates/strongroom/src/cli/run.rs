//! `strongroom run`

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::str::FromStr;

use clap::Args;
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use super::console::printable;
use super::env_file;
use super::failure::{Exit, Failure};
use super::lookup::Resolver;
use super::mask::Masker;
use super::reference::Reference;
use crate::client::Client;
use crate::secret_text::SecretText;

/// Run a command with secrets in its environment
///
/// Every variable whose value is a reference (strongroom://vault/item/field) gets that field's value. What the command
/// prints is searched for these values, and they are masked. Ends with the command's own exit code.
#[derive(Args)]
#[command(after_help = "Examples:
  DB_PASSWORD=strongroom://Azure/Database/Password strongroom run -- ./migrate
  strongroom run --env-file .env -- docker compose up")]
pub struct Arguments {
    /// Read variables from this file too; they win over the environment. May be repeated
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Show what the command prints as it is
    #[arg(long)]
    no_masking: bool,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Answers the exit code of the command.
pub async fn run(
    arguments: Arguments,
    environment: impl IntoIterator<Item = (String, String)>,
    client: &Client,
    now: Timestamp,
) -> Result<u8, Failure> {
    let references = references(environment, &arguments.env_file)?;
    let mut variables: Vec<(String, SecretText)> = Vec::new();
    let mut secrets: Vec<SecretText> = Vec::new();
    // The server is asked only if there is something to ask for.
    let mut resolver = None;
    for (name, value) in references {
        let value = match value {
            Value::Plain(text) => SecretText::from(text),
            Value::Reference(reference) => {
                let resolver = match &mut resolver {
                    Some(resolver) => resolver,
                    none => none.insert(Resolver::new(client).await?),
                };
                let value = resolver.value(&reference, now).await.map_err(|failure| about(&name, failure))?;
                secrets.push(SecretText::from(value.expose()));
                value
            }
        };
        variables.push((name, value));
    }
    let mut command = std::process::Command::new(&arguments.command[0]);
    command.args(&arguments.command[1..]);
    command.envs(variables.iter().map(|(name, value)| (name, value.expose())));
    if arguments.no_masking {
        // Becomes the command, so that signals and the terminal are its own.
        return Err(not_started(&arguments.command[0], &command.exec()));
    }
    masked(command, Masker::new(&secrets), Masker::new(&secrets)).await
}

enum Value {
    Plain(String),
    Reference(Reference),
}

/// The variables to set: all of the files, and of the environment those that are references.
fn references(
    environment: impl IntoIterator<Item = (String, String)>,
    files: &[PathBuf],
) -> Result<BTreeMap<String, Value>, Failure> {
    let mut variables: BTreeMap<String, String> =
        environment.into_iter().filter(|(_, value)| Reference::looks_like_one(value)).collect();
    for path in files {
        let unreadable = |error: std::io::Error| {
            Failure::new(Exit::Other, "file.unreadable", format!("cannot read {}: {error}", path.display()))
        };
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(unreadable)?);
        let pairs = env_file::parse(&text).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        variables.extend(pairs);
    }
    let value = |(name, text): (String, String)| {
        let value = if Reference::looks_like_one(&text) {
            let reference = Reference::from_str(&text).map_err(|error| Failure::usage(format!("{name}: {error}")))?;
            Value::Reference(reference)
        } else {
            Value::Plain(text)
        };
        Ok((name, value))
    };
    variables.into_iter().map(value).collect()
}

fn about(variable: &str, mut failure: Failure) -> Failure {
    failure.title = format!("{variable}: {}", failure.title);
    failure
}

async fn masked(command: std::process::Command, out: Masker, err: Masker) -> Result<u8, Failure> {
    let program = command.get_program().to_owned();
    let mut child = Command::from(command)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| not_started(&program, &error))?;
    let stdout = child.stdout.take().expect("it is piped");
    let stderr = child.stderr.take().expect("it is piped");
    let copied = async { tokio::join!(copy(stdout, tokio::io::stdout(), out), copy(stderr, tokio::io::stderr(), err)) };
    let (status, _) = tokio::join!(wait(&mut child), copied);
    Ok(exit_code(status?))
}

/// Waits for the child and hands on what a supervisor sends to us. Ctrl-C reaches the child by itself, as it sits in the
/// same process group, and must not end us before it.
async fn wait(child: &mut Child) -> Result<ExitStatus, Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    // It fails when the child has just ended, and then there is nothing to do.
    let forward = |signal| pid.map(|pid| kill_process(pid, signal).ok());
    loop {
        tokio::select! {
            status = child.wait() => return Ok(status?),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => { forward(Signal::TERM); }
            _ = hang_up.recv() => { forward(Signal::HUP); }
        }
    }
}

/// Copies until the end. When nobody reads our output any more, the child's is still read, so that it does not hang.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut masker: Masker) {
    let mut chunk = Zeroizing::new(vec![0; 64 * 1024]);
    let mut open = true;
    loop {
        let read = from.read(&mut chunk).await.unwrap_or(0);
        let shown = if read == 0 { masker.finish() } else { masker.push(&chunk[..read]) };
        if open {
            open = to.write_all(&shown).await.is_ok() && to.flush().await.is_ok();
        }
        if read == 0 {
            return;
        }
    }
}

/// As a shell reports it: 128 and the signal's number for a child that a signal ended.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    u8::try_from(code).unwrap_or(Exit::Other as u8)
}

fn not_started(program: &OsString, error: &std::io::Error) -> Failure {
    let program = printable(&program.to_string_lossy());
    Failure::new(Exit::Other, "run.not_started", format!("cannot run `{program}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> std::process::Command {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn the_exit_code_of_the_command_comes_back() {
        let run = |script| masked(shell(script), Masker::new([]), Masker::new([]));
        assert_eq!(run("exit 0").await.ok(), Some(0));
        assert_eq!(run("exit 42").await.ok(), Some(42));
        assert_eq!(run("kill -TERM $$").await.ok(), Some(143));
    }

    #[tokio::test]
    async fn a_command_that_is_not_there_is_named() {
        let command = std::process::Command::new("no-such-command-here");
        let failure = masked(command, Masker::new([]), Masker::new([])).await.expect_err("not started");
        assert!(failure.title.contains("no-such-command-here"), "{}", failure.title);
    }

    #[tokio::test]
    async fn output_is_masked_on_its_way() {
        let secret = SecretText::from("hunter2");
        let mut shown = Vec::new();
        copy(&b"password: hunter2\n"[..], &mut shown, Masker::new([&secret])).await;
        assert_eq!(shown, b"password: <concealed by strongroom>\n");
    }

    #[test]
    fn only_references_are_taken_from_the_environment() {
        let environment = [("A", "strongroom://v/i/f"), ("B", "plain")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let found = references(environment, &[]).expect("found");
        assert!(matches!(found.get("A"), Some(Value::Reference(_))) && found.len() == 1);
        let bad = [("A".to_owned(), "strongroom://v/i".to_owned())];
        assert_eq!(references(bad, &[]).err().expect("refused").exit, Exit::Usage);
    }

    #[test]
    fn a_file_wins_over_the_environment() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(".env");
        std::fs::write(&path, "A=plain\nB=strongroom://v/i/f?attribute=otp\n").expect("written");
        let environment = [("A".to_owned(), "strongroom://v/i/f".to_owned())];
        let found = references(environment, &[path]).expect("found");
        assert!(matches!(found.get("A"), Some(Value::Plain(text)) if text == "plain"));
        assert!(matches!(found.get("B"), Some(Value::Reference(reference)) if reference.otp));
    }
}

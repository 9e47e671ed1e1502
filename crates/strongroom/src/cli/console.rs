//! Where a command writes and asks. Answers go to standard output, everything else to standard error.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use zeroize::Zeroizing;

use super::failure::Failure;
use crate::secret_text::SecretText;

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

pub struct Console {
    pub format: Format,
}

/// More than any secret that is typed or piped in.
const INPUT_LIMIT: u64 = 1024 * 1024;

impl Console {
    /// Whether a person can be asked.
    pub fn interactive(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    pub fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from)?;
        writeln!(out)?;
        Ok(())
    }

    /// One line of JSON among many.
    pub fn json_line(&self, value: &impl Serialize) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, value).map_err(io::Error::from)?;
        Ok(writeln!(out)?)
    }

    /// Returns once everything so far was taken by whoever reads standard output.
    pub fn flush(&self) -> Result<(), Failure> {
        Ok(io::stdout().lock().flush()?)
    }

    pub fn table(&self, header: &[&str], rows: Vec<Vec<String>>) -> Result<(), Failure> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(header.iter().map(|name| name.to_uppercase()));
        for row in rows {
            table.add_row(row.iter().map(|cell| printable(cell)));
        }
        self.line(&table.trim_fmt())
    }

    /// One line of the answer.
    pub fn line(&self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(io::stdout().lock(), "{text}")?)
    }

    /// A secret, byte for byte.
    pub fn raw(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    /// Something worth knowing that is not part of the answer. Nobody reads it when standard error is gone.
    pub fn note(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Asks for a line. `instead` names what to give when nobody can be asked.
    pub fn ask(&self, question: &str, instead: &str) -> Result<String, Failure> {
        self.must_be_interactive(question, instead)?;
        write!(io::stderr().lock(), "{question}: ")?;
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Asks for a yes; anything else is a no.
    pub fn confirm(&self, question: &str) -> Result<bool, Failure> {
        let answer = self.ask(&format!("{question} [y/N]"), "say --yes")?;
        Ok(["y", "yes"].contains(&answer.to_ascii_lowercase().as_str()))
    }

    /// Asks for a line that is not shown.
    pub fn ask_secret(&self, question: &str, instead: &str) -> Result<SecretText, Failure> {
        self.must_be_interactive(question, instead)?;
        Ok(SecretText::from(rpassword::prompt_password(format!("{question}: "))?))
    }

    fn must_be_interactive(&self, question: &str, instead: &str) -> Result<(), Failure> {
        if self.interactive() {
            return Ok(());
        }
        Err(Failure::usage(format!("{question} is needed, and there is no terminal to ask on")).fix(instead))
    }
}

/// All of standard input, without the one line end that `echo` adds.
pub fn secret_from_stdin() -> Result<SecretText, Failure> {
    let mut text = Zeroizing::new(String::new());
    io::stdin().lock().take(INPUT_LIMIT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > INPUT_LIMIT {
        return Err(Failure::usage("standard input holds more than 1 MiB"));
    }
    let end = text.strip_suffix('\n').map_or(text.len(), |rest| rest.strip_suffix('\r').unwrap_or(rest).len());
    text.truncate(end);
    Ok(SecretText::from(text))
}

/// Text of others, safe for a terminal: no control characters, which could move the cursor or rename the window, and
/// none that turn the direction of writing.
pub fn printable(text: &str) -> String {
    let harmful =
        |letter: char| letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|letter| if harmful(letter) { '\u{fffd}' } else { letter }).collect()
}

/// Ends once somebody wants this command to end: Ctrl-C, SIGTERM, or a terminal that was closed. For commands that have
/// something to take away then.
pub async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let Ok(mut signals) = kinds.into_iter().map(signal).collect::<Result<Vec<_>, _>>() else {
        return std::future::pending().await;
    };
    futures_util::future::select_all(signals.iter_mut().map(|signal| Box::pin(signal.recv()))).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc\u{202e}d \u{1F511}"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d \u{1F511}");
    }
}

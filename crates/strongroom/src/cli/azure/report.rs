//! What a person is told of a set-up.

use std::{
    io::{IsTerminal, Write},
    sync::Mutex,
    time::Duration,
};

use crate::{
    azure_setup::{Event, Line, State, Stopped},
    cli::console::{Console, Format, printable},
};

/// Tells each event as it happens, on standard error; a dry run on standard output, since there it is all that was
/// asked for. On a terminal a wait is one line that counts.
pub(super) struct Report<'a> {
    console: &'a Console,
    /// Each request is told, too.
    dry_run: bool,
    /// What was last said of the present wait, and whether its line is still open.
    wait: Mutex<Wait>,
}

#[derive(Default)]
struct Wait {
    what: String,
    said_at: Duration,
    open: bool,
}

impl<'a> Report<'a> {
    pub fn new(console: &'a Console, dry_run: bool) -> Self {
        Self { console, dry_run, wait: Mutex::default() }
    }

    pub fn event(&self, event: &Event<'_>) {
        match event {
            Event::Part(part) => self.say(&format!("\n{}", part.title())),
            Event::Line(line) => self.line(line),
            Event::Waiting { what, elapsed, limit } => self.waiting(what, *elapsed, *limit),
        }
    }

    /// A line of its own.
    pub fn say(&self, text: &str) {
        let mut wait = self.wait.lock().expect("no holder panics");
        if std::mem::take(&mut wait.open) {
            self.console.note("");
        }
        wait.what.clear();
        if self.dry_run && self.console.format == Format::Table {
            // Here it is the answer. Whoever closed the output wants no more of it.
            let _ = self.console.line(text);
        } else {
            self.console.note(text);
        }
    }

    fn line(&self, line: &Line) {
        let state = match line.state {
            State::Found => "there    ",
            State::Made => "made     ",
            State::WouldMake => "missing  ",
            State::CannotTell => "unknown  ",
        };
        self.say(&format!("  {state}{}", printable(&line.thing)));
        if self.dry_run {
            self.say(&format!("           {}", line.why));
            let looked = line.looked.iter().map(|request| format!("           sent  {request}"));
            let changes = line.changes.iter().map(|request| format!("           would {request}"));
            looked.chain(changes).for_each(|request| self.say(&printable(&request)));
        }
        for remark in &line.remarks {
            self.say(&format!("           {}", printable(remark)));
        }
    }

    fn waiting(&self, what: &str, elapsed: Duration, limit: Duration) {
        let mut wait = self.wait.lock().expect("no holder panics");
        let text = format!(
            "  waiting  for {what}: {} s so far, up to {} min",
            elapsed.as_secs(),
            limit.as_secs().div_ceil(60)
        );
        let new = wait.what != what;
        if std::io::stderr().is_terminal() {
            let mut err = std::io::stderr().lock();
            // Nobody reads it when standard error is gone.
            let _ = write!(err, "{}{text}", if new && wait.open { "\n" } else { "\r" });
            let _ = err.flush();
            wait.open = true;
        } else if new || elapsed >= wait.said_at + Duration::from_secs(30) {
            self.console.note(&text);
            wait.said_at = elapsed;
        }
        if new {
            what.clone_into(&mut wait.what);
        }
    }
}

/// Text of several lines, each of them `printable`.
pub(super) fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// What there is by now, and how to go on if the same command can, after a step that did not succeed.
pub(super) fn what_exists(stopped: &Stopped) -> String {
    let things = |state: State| -> Option<String> {
        let all: Vec<&str> =
            stopped.lines.iter().filter(|line| line.state == state).map(|line| line.thing.as_str()).collect();
        (!all.is_empty()).then(|| printable(&all.join("; ")))
    };
    let made = things(State::Made).map_or("Nothing was made".to_owned(), |made| format!("Made, and stays: {made}"));
    let found = things(State::Found).map(|found| format!("Was there before: {found}"));
    let again = (!stopped.error.lasts()).then(|| match stopped.lines.is_empty() {
        true => "Run the same command again once that is mended".to_owned(),
        false => "Run the same command again: it goes on from there".to_owned(),
    });
    [Some(made), found, again].into_iter().flatten().collect::<Vec<_>>().join("\n  ")
}

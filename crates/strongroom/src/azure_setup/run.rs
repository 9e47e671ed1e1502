//! Takes the list of steps to Azure: looks for each thing and makes it where it is missing, or only says what it would
//! make.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    client::{Client, Request},
    plan::Plan,
    step::{Facts, Found, Part, STEPS, Step},
    way::SetupError,
};
use crate::secret_text::SecretText;

/// Azure says that role assignments take up to ten minutes; what Entra replicates takes less.
pub(super) const PROPAGATION: Duration = Duration::from_secs(600);

/// What to do about what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Make,
    /// Nothing: only reading requests are sent.
    DryRun,
}

/// What became of one step.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    #[serde(skip)]
    pub part: Part,
    pub thing: String,
    pub why: &'static str,
    pub state: State,
    /// What is not as it would have been made, and how to change it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// What stays behind, and the command that ends it; for after the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub afterwards: Option<String>,
    /// The request that looked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looked: Option<String>,
    /// The request that made it, or would have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Found,
    Made,
    /// Missing, and a dry run makes nothing.
    WouldMake,
    /// A dry run may not look: the right to is among the things that are missing.
    CannotTell,
}

/// What happens, as it happens.
pub enum Event<'a> {
    Part(Part),
    Line(&'a Line),
    Waiting { what: &'a str, elapsed: Duration, limit: Duration },
}

pub type Listen<'a> = &'a (dyn Fn(Event<'_>) + Sync);

/// Everything is there (or, after a dry run, would be).
pub struct Outcome {
    pub lines: Vec<Line>,
    pub client_id: Option<String>,
    pub vault_url: Option<String>,
    /// If one was made.
    pub secret: Option<NewSecret>,
    /// Of the client secret that was there, if only one works.
    pub secret_ends: Option<Timestamp>,
}

/// A client secret that Azure shows only now.
pub struct NewSecret {
    pub text: SecretText,
    /// What Azure lists it under.
    pub key_id: String,
    pub ends: Option<Timestamp>,
}

/// A step did not succeed. What the lines name exists and stays; the same run goes on from there.
pub struct Stopped {
    pub lines: Vec<Line>,
    /// What was being looked for or made.
    pub thing: String,
    pub error: SetupError,
}

/// Does steps 1 to 4, telling `listen`.
///
/// # Errors
/// The first refusal that does not pass by itself within ten minutes.
pub async fn run(
    client: &Client,
    plan: &Plan,
    mode: Mode,
    now: Timestamp,
    listen: Listen<'_>,
) -> Result<Outcome, Stopped> {
    let me = match client.identity().await {
        Ok(me) => me,
        Err(error) => return Err(Stopped { lines: Vec::new(), thing: "your own account".to_owned(), error }),
    };
    let mut facts = Facts::new(client.tenant(), client.subscription(), me, client.graph_host(), now);
    let mut lines: Vec<Line> = Vec::new();
    for step in STEPS {
        if lines.last().is_none_or(|last| last.part != step.part()) {
            listen(Event::Part(step.part()));
        }
        match settle(client, step, plan, mode, &mut facts, listen).await {
            Ok(line) => {
                listen(Event::Line(&line));
                lines.push(line);
            }
            Err(error) => {
                let error = error.advise_or(|error| step.advice(plan, error));
                return Err(Stopped { lines, thing: step.thing(plan), error });
            }
        }
    }
    let Facts { client_id, vault_url, secret, secret_ends, .. } = facts;
    Ok(Outcome { lines, client_id, vault_url, secret, secret_ends })
}

async fn settle(
    client: &Client,
    step: &dyn Step,
    plan: &Plan,
    mode: Mode,
    facts: &mut Facts,
    listen: Listen<'_>,
) -> Result<Line, SetupError> {
    let mut line = Line {
        part: step.part(),
        thing: step.thing(plan),
        why: step.why(plan),
        state: State::Found,
        remarks: Vec::new(),
        afterwards: None,
        looked: None,
        changes: None,
    };
    let look = step.look(plan, facts);
    line.looked = look.as_ref().map(|request| words(client, request));
    let looked = match &look {
        None => None,
        Some(request) if mode == Mode::DryRun => match client.ask(request).await {
            Err(error) if step.waits_for(&error).is_some() => {
                line.state = State::CannotTell;
                None
            }
            answer => absent(answer)?,
        },
        Some(request) => absent(ask_patiently(client, step, request, listen).await)?,
    };
    if let Some(answer) = looked
        && let Found::There(remarks) = step.read(plan, &answer, facts).map_err(SetupError::lasting)?
    {
        line.remarks = remarks;
        return Ok(line);
    }
    let make = step.make(plan, facts);
    line.changes = Some(words(client, &make));
    if mode == Mode::DryRun {
        line.state = if line.state == State::CannotTell { State::CannotTell } else { State::WouldMake };
        return Ok(line);
    }
    match ask_patiently(client, step, &make, listen).await {
        Ok(answer) => {
            line.state = State::Made;
            step.made(&answer, facts)?;
            line.afterwards = step.afterwards(plan, facts);
        }
        Err(error) if step.is_there_already(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(line)
}

/// "Not found" is an answer to a look.
fn absent(answer: Result<Value, SetupError>) -> Result<Option<Value>, SetupError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Asks again for as long as Azure's refusal is one that passes.
async fn ask_patiently(
    client: &Client,
    step: &dyn Step,
    request: &Request<'_>,
    listen: Listen<'_>,
) -> Result<Value, SetupError> {
    let mut patience = Patience::begin();
    loop {
        let error = match client.ask(request).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        // That nothing is there yet is what a look is for.
        let looking = request.method == "GET" && error.is_not_found();
        match step.waits_for(&error).filter(|_| !looking) {
            Some(what) if patience.pause(what, listen).await => {}
            _ => return Err(error),
        }
    }
}

/// Waits that grow from one second to five, ten minutes in all.
pub(super) struct Patience {
    started: Instant,
    pauses: u32,
}

impl Patience {
    pub fn begin() -> Self {
        Self { started: Instant::now(), pauses: 0 }
    }

    /// Waits a while and says for what; `false` when the ten minutes are over.
    pub async fn pause(&mut self, what: &str, listen: Listen<'_>) -> bool {
        let elapsed = self.started.elapsed();
        if elapsed >= PROPAGATION {
            return false;
        }
        listen(Event::Waiting { what, elapsed, limit: PROPAGATION });
        self.pauses += 1;
        tokio::time::sleep(Duration::from_secs(self.pauses.min(5).into())).await;
        true
    }
}

/// `POST https://graph.microsoft.com/v1.0/applications {"displayName":"Strongroom"}`
fn words(client: &Client, request: &Request<'_>) -> String {
    let body = request.body.as_ref().map(|body| format!(" {body}")).unwrap_or_default();
    let address = format!("{}{}{}", client.origin(request.target), request.path, request.query(|value| value));
    format!("{} {address}{body}", request.method)
}

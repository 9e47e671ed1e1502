//! A withdrawal drill: every way to a vault's items is tried all the time while its key is withdrawn and given back, and
//! for each way it is measured when it was refused and when it served again.
//!
//! Only measures: who withdraws the key, and when, is the caller's affair. The command is `cli::vault::drill`.

mod probe;
mod report;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::task::JoinSet;
use uuid::Uuid;

pub use self::report::{About, PathReport, Report};
use crate::{client::ClientError, secret_text::SecretText};

/// What the product promises, both ways.
pub const PROMISE: Duration = Duration::from_secs(15);
/// Title of the items that a drill makes, and deletes again.
pub const TITLE: &str = "Withdrawal drill";
/// Between two looks at what the probes have found.
const LOOK: Duration = Duration::from_millis(20);

/// A way to a vault's items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    Reveal,
    List,
    Search,
    Create,
    /// `strongroom read` as a program of its own.
    Command,
    /// The list of items as a page, in a browser's session.
    Page,
    /// What turns open pages dark, in a browser's session.
    Events,
}

impl Way {
    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Reveal => "Reveal of an item",
            Self::List => "List of items",
            Self::Search => "Search",
            Self::Create => "Creation of an item",
            Self::Command => "Command line (strongroom read)",
            Self::Page => "Page of items",
            Self::Events => "Event stream of open pages",
        }
    }
}

/// One vault, and who looks at it.
pub struct Target {
    /// The server, as `strongroom login` takes it.
    pub url: String,
    pub workspace: String,
    /// An API token, for all ways but the last two.
    pub token: SecretText,
    /// Sessions of browsers (the cookie's name and value), each for a page and an event stream.
    pub sessions: Vec<(&'static str, SecretText)>,
    pub vault: Uuid,
    /// An item in the vault with a field `Password`.
    pub item: Uuid,
    /// The program `strongroom`, which reads the item over and over. `None` leaves that way out.
    pub program: Option<PathBuf>,
    pub pace: Pace,
}

/// Pauses between two tries of one way.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub requests: Duration,
    /// For starting a program, and for creating an item.
    pub costly: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { requests: Duration::from_millis(200), costly: Duration::from_secs(1) }
    }
}

/// What one try came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Served,
    /// The vault's state, such as `key_disabled`.
    Refused(String),
    /// Neither: in a few words.
    Odd(String),
}

/// One try; the event stream has one for each state that it tells.
#[derive(Debug, Clone)]
pub struct Sample {
    pub began: Instant,
    pub done: Instant,
    pub verdict: Verdict,
}

/// One way in one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    pub way: Way,
    /// From 1, where several sessions take the same way.
    pub session: usize,
}

/// What the probes have found so far.
#[derive(Clone, Default)]
pub struct Record(Arc<Mutex<Findings>>);

#[derive(Default)]
struct Findings {
    samples: BTreeMap<Probe, Vec<Sample>>,
    /// Items that the probes have made.
    made: Vec<Uuid>,
    /// When the key was last seen to have answered the server, at the earliest.
    key_answered: Option<Instant>,
}

/// Running probes; they end when this is dropped.
pub struct Probes {
    pub record: Record,
    _tasks: JoinSet<()>,
}

impl Probes {
    /// Begins to try every way of `target`.
    ///
    /// # Errors
    /// When the server's address is none.
    pub fn start(target: Target) -> Result<Self, ClientError> {
        let record = Record::default();
        let tasks = probe::start(Arc::new(target), &record)?;
        Ok(Self { record, _tasks: tasks })
    }

    /// Waits until each way serves; false after `patience`.
    pub async fn all_serve(&self, since: Instant, patience: Duration) -> bool {
        self.settled(since, patience, |verdict| *verdict == Verdict::Served).await
    }

    /// Waits until each way refuses; false after `patience`.
    pub async fn all_refuse(&self, since: Instant, patience: Duration) -> bool {
        self.settled(since, patience, |verdict| matches!(verdict, Verdict::Refused(_))).await
    }

    /// Waits until some way refuses for the first time after `since`; false after `patience`.
    pub async fn one_refuses(&self, since: Instant, patience: Duration) -> bool {
        let refused = |samples: &[Sample]| {
            let mut later = samples.iter().rev().take_while(|sample| sample.done >= since);
            later.any(|sample| matches!(sample.verdict, Verdict::Refused(_)))
        };
        self.holds(patience, |findings| findings.samples.values().any(|samples| refused(samples))).await
    }

    async fn settled(&self, since: Instant, patience: Duration, fits: impl Fn(&Verdict) -> bool) -> bool {
        let fitting = |(probe, samples): (&Probe, &Vec<Sample>)| {
            samples.last().is_some_and(|last| {
                // The stream tells changes only: what it told last still holds.
                let fresh = last.began >= since || probe.way == Way::Events;
                fresh && fits(&last.verdict)
            })
        };
        self.holds(patience, |findings| findings.samples.iter().all(fitting)).await
    }

    async fn holds(&self, patience: Duration, fits: impl Fn(&Findings) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            if fits(&self.record.findings()) {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Record {
    /// Items that the probes have made, to be deleted.
    pub fn made(&self) -> Vec<Uuid> {
        self.findings().made.clone()
    }

    /// The latest moment of which it is certain that the key answered after it.
    pub fn key_answered(&self) -> Option<Instant> {
        self.findings().key_answered
    }

    /// Each way's times, for a key that was withdrawn and given back at these moments.
    pub fn measure(&self, withdrawn: Instant, restored: Instant) -> Vec<Measured> {
        let findings = self.findings();
        findings.samples.iter().map(|(probe, samples)| measure(*probe, samples, withdrawn, restored)).collect()
    }

    /// The state that a refused reveal told first after the withdrawal.
    pub fn state(&self, withdrawn: Instant) -> Option<String> {
        let findings = self.findings();
        let reveals = findings.samples.iter().filter(|(probe, _)| probe.way == Way::Reveal).flat_map(|(_, all)| all);
        reveals.filter(|sample| sample.done >= withdrawn).find_map(|sample| match &sample.verdict {
            Verdict::Refused(state) => Some(state.clone()),
            _ => None,
        })
    }

    /// The first answer served after `moment`.
    pub fn first_served(&self, moment: Instant) -> Option<Instant> {
        let findings = self.findings();
        let later = findings.samples.values().flatten().filter(|sample| sample.done >= moment);
        later.filter(|sample| sample.verdict == Verdict::Served).map(|sample| sample.done).min()
    }

    /// What each way came to last, in words.
    pub fn latest(&self) -> Vec<String> {
        let findings = self.findings();
        let words = findings.samples.iter().map(|(probe, samples)| match samples.last().map(|last| &last.verdict) {
            Some(Verdict::Served) => format!("{}: served", probe.way.title()),
            Some(Verdict::Refused(state)) => format!("{}: refused, {state}", probe.way.title()),
            Some(Verdict::Odd(words)) => format!("{}: {words}", probe.way.title()),
            None => format!("{}: no answer yet", probe.way.title()),
        });
        words.collect()
    }

    /// Forgets what was found before `moment`, but for the last try of each way.
    pub fn forget_before(&self, moment: Instant) {
        for samples in self.findings().samples.values_mut() {
            let keep = samples.iter().position(|sample| sample.done >= moment).unwrap_or(samples.len());
            samples.drain(..keep.saturating_sub(1));
        }
    }

    fn expect(&self, probe: Probe) {
        self.findings().samples.entry(probe).or_default();
    }

    fn add(&self, probe: Probe, sample: Sample) {
        self.findings().samples.entry(probe).or_default().push(sample);
    }

    fn findings(&self) -> std::sync::MutexGuard<'_, Findings> {
        self.0.lock().expect("no holder panics")
    }
}

/// The times of one way in one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    pub probe: Probe,
    /// Tries in all.
    pub tries: usize,
    /// From the withdrawal to the last answer that was still served; zero where none was.
    pub last_served: Duration,
    /// From the withdrawal to the first refusal after that. `None`: never refused.
    pub denied: Option<Duration>,
    /// From the key's return to the first answer served, after which none was refused. `None`: never.
    pub recovered: Option<Duration>,
    /// Answers that were neither, each kind once.
    pub odd: Vec<String>,
}

fn measure(probe: Probe, samples: &[Sample], withdrawn: Instant, restored: Instant) -> Measured {
    let refused = |sample: &&Sample| matches!(sample.verdict, Verdict::Refused(_));
    let served = |sample: &&Sample| sample.verdict == Verdict::Served;
    let dark: Vec<&Sample> =
        samples.iter().filter(|sample| sample.done >= withdrawn && sample.done < restored).collect();
    let last_served = dark.iter().rev().find(|sample| served(sample)).map_or(withdrawn, |sample| sample.done);
    let denied = dark.iter().find(|sample| sample.done >= last_served && refused(sample));
    let after: Vec<&Sample> = samples.iter().filter(|sample| sample.done >= restored).collect();
    let last_refused = after.iter().rev().find(|sample| refused(sample)).map_or(restored, |sample| sample.done);
    let recovered = after.iter().find(|sample| sample.done >= last_refused && served(sample));
    let mut odd: Vec<String> = samples
        .iter()
        .filter_map(|sample| match &sample.verdict {
            Verdict::Odd(words) => Some(words.clone()),
            _ => None,
        })
        .collect();
    odd.sort();
    odd.dedup();
    Measured {
        probe,
        tries: samples.len(),
        last_served: last_served - withdrawn,
        denied: denied.map(|sample| sample.done - withdrawn),
        recovered: recovered.map(|sample| sample.done - restored),
        odd,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_run_to_the_first_refusal_after_the_last_answer_and_back() {
        let start = Instant::now();
        let at = |ms: u64, verdict: Verdict| {
            let moment = start + Duration::from_millis(ms);
            Sample { began: moment, done: moment, verdict }
        };
        let refused = || Verdict::Refused("key_disabled".into());
        let samples = [
            at(0, Verdict::Served),
            at(1200, Verdict::Served),
            at(1300, refused()),
            // One that slipped through counts until it is refused again.
            at(1400, Verdict::Served),
            at(1500, Verdict::Odd("500 internal".into())),
            at(1600, refused()),
            at(5000, refused()),
            at(5200, Verdict::Served),
        ];
        let moment = |ms| start + Duration::from_millis(ms);
        let found = measure(Probe { way: Way::Reveal, session: 1 }, &samples, moment(1000), moment(4000));
        let ms = Duration::from_millis;
        assert_eq!((found.last_served, found.denied, found.recovered), (ms(400), Some(ms(600)), Some(ms(1200))));
        assert_eq!(found.odd, ["500 internal"]);
        let never = measure(Probe { way: Way::List, session: 1 }, &samples[..2], moment(1000), moment(4000));
        assert_eq!((never.denied, never.recovered), (None, None));
    }
}

//! What a drill came to, as JSON and as a page that needs nothing else.

use std::{fs, io, path::Path, time::Duration};

use askama::Template;
use jiff::Timestamp;
use serde::Serialize;
use strongroom_keys::State;

use super::{Measured, PROMISE, Way};

/// A drill of one vault. Holds names of the vault and of ways, never what is in an item.
#[derive(Serialize, Template)]
#[template(path = "drill/report.html")]
pub struct Report {
    pub vault: String,
    pub server: String,
    /// The key versions that were withdrawn, as far as the vault's page lists them.
    pub kids: Vec<String>,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub limit_seconds: u64,
    /// Whether each way was refused and back within the limit.
    pub passed: bool,
    /// `customer` or `demo`.
    pub withdrawn_by: &'static str,
    /// `key_disabled` …
    pub state: Option<String>,
    pub denial_from: &'static str,
    pub recovery_from: &'static str,
    pub denied_ms_max: Option<u64>,
    pub recovered_ms_max: Option<u64>,
    pub paths: Vec<PathReport>,
    #[serde(skip)]
    pub shown_as: String,
}

/// One way in one session.
#[derive(Debug, Serialize)]
pub struct PathReport {
    pub path: Way,
    pub title: &'static str,
    pub session: usize,
    pub tries: usize,
    pub last_served_ms: u64,
    pub denied_ms: Option<u64>,
    pub recovered_ms: Option<u64>,
    /// Answers that were neither served nor refused for the key.
    pub odd: Vec<String>,
}

/// What the caller of a drill knows beside the times.
pub struct About {
    pub vault: String,
    pub server: String,
    pub kids: Vec<String>,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub withdrawn_by: &'static str,
    pub state: Option<String>,
    pub denial_from: &'static str,
    pub recovery_from: &'static str,
}

impl Report {
    pub fn new(about: About, measured: Vec<Measured>) -> Self {
        let kept = |time: Option<Duration>| time.is_some_and(|time| time <= PROMISE);
        let passed = !measured.is_empty() && measured.iter().all(|way| kept(way.denied) && kept(way.recovered));
        let paths: Vec<PathReport> = measured.into_iter().map(PathReport::from).collect();
        let highest = |of: fn(&PathReport) -> Option<u64>| {
            let times: Option<Vec<u64>> = paths.iter().map(of).collect();
            times.and_then(|times| times.into_iter().max())
        };
        let shown_as = about.state.as_deref().and_then(State::of_word).map_or("nothing", State::label).to_owned();
        let About { vault, server, kids, started_at, finished_at, withdrawn_by, state, denial_from, recovery_from } =
            about;
        Self {
            denied_ms_max: highest(|path| path.denied_ms),
            recovered_ms_max: highest(|path| path.recovered_ms),
            limit_seconds: PROMISE.as_secs(),
            vault,
            server,
            kids,
            started_at,
            finished_at,
            passed,
            withdrawn_by,
            state,
            denial_from,
            recovery_from,
            paths,
            shown_as,
        }
    }

    /// Writes `report.json` and `report.html` into `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("report.json"), serde_json::to_string_pretty(self)? + "\n")?;
        fs::write(folder.join("report.html"), self.render().map_err(io::Error::other)?)
    }
}

impl PathReport {
    /// In seconds, as the others below.
    pub fn last_served(&self) -> String {
        seconds(Some(self.last_served_ms))
    }

    pub fn denied(&self) -> String {
        seconds(self.denied_ms)
    }

    pub fn recovered(&self) -> String {
        seconds(self.recovered_ms)
    }
}

impl From<Measured> for PathReport {
    fn from(measured: Measured) -> Self {
        let Measured { probe, tries, last_served, denied, recovered, odd } = measured;
        Self {
            path: probe.way,
            title: probe.way.title(),
            session: probe.session,
            tries,
            last_served_ms: millis(last_served),
            denied_ms: denied.map(millis),
            recovered_ms: recovered.map(millis),
            odd,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// `4.2`, or `never`.
fn seconds(ms: Option<u64>) -> String {
    let tenths = ms.map(|ms| ms.div_ceil(100));
    tenths.map_or_else(|| "never".into(), |tenths| format!("{}.{}", tenths / 10, tenths % 10))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Probe, Way},
        *,
    };

    fn report(recovered: Option<Duration>) -> Report {
        let at: Timestamp = "2026-11-23T14:00:00Z".parse().expect("a time");
        let about = About {
            vault: "Finance <b>".into(),
            server: "http://127.0.0.1:8470/".into(),
            kids: vec!["https://contoso.vault.azure.net/keys/k/1".into()],
            started_at: at,
            finished_at: at,
            withdrawn_by: "customer",
            state: Some("key_disabled".into()),
            denial_from: "the last answer of the key",
            recovery_from: "the command",
        };
        let probe = Probe { way: Way::Reveal, session: 1 };
        let denied = Some(Duration::from_millis(4210));
        Report::new(
            about,
            vec![Measured { probe, tries: 9, last_served: Duration::ZERO, denied, recovered, odd: vec![] }],
        )
    }

    #[test]
    fn a_way_that_never_came_back_fails_the_drill() {
        assert!(report(Some(Duration::from_secs(3))).passed);
        let failed = report(None);
        assert_eq!((failed.passed, failed.recovered_ms_max, failed.denied_ms_max), (false, None, Some(4210)));
        assert!(!report(Some(Duration::from_millis(15_001))).passed);
    }

    #[test]
    fn the_page_stands_by_itself_and_says_names_safely() {
        let folder = tempfile::tempdir().expect("a folder");
        report(None).write(folder.path()).expect("written");
        let page = fs::read_to_string(folder.path().join("report.html")).expect("a page");
        assert!(page.contains("Key disabled") && page.contains("<td class=\"n\">4.3</td>") && page.contains("never"));
        for foreign in ["<script", "<link", "src=", "Finance <b>"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }
}

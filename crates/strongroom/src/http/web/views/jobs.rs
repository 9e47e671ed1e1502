//! Jobs: the list, the page of one with its account, and the card that stands on a vault's page too.

use askama::Template;

use super::{Moment, Shell, Shown, Tone, filters};

/// `GET /jobs`.
#[derive(Template)]
#[template(path = "jobs/list.html")]
pub struct JobsPage {
    pub shell: Shell,
    pub rows: Vec<JobCard>,
}

impl JobsPage {
    fn is_moving(&self) -> bool {
        self.rows.iter().any(|job| job.is_active())
    }
}

/// `GET /jobs/{id}`.
#[derive(Template)]
#[template(path = "jobs/show.html")]
pub struct JobPage {
    pub shell: Shell,
    pub job: JobCard,
    /// None for a job that does not work on items.
    pub account: Option<AccountView>,
}

/// A job as it stands, with the buttons that steer it.
#[derive(Template)]
#[template(path = "jobs/card.html")]
pub struct JobCard {
    pub id: String,
    pub icon: &'static str,
    /// "Rewrap of Contoso", "Move from Contoso to Archive".
    pub title: String,
    /// "rewraps", "moves": what is done to how many.
    pub stage: Stage,
    /// "vault key", "data key", "item".
    pub unit: &'static str,
    pub total: u64,
    pub done: u64,
    pub failed: u64,
    /// Why nothing happens, as a sentence, and when it is tried again by itself; never, where somebody has to resume it.
    pub why: Option<(String, Option<Moment>)>,
    pub started: Moment,
    pub by: String,
    pub finished: Option<Moment>,
    /// Where the page is that it stands on, to come back to.
    pub back: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    Running,
    /// By itself: it goes on by itself.
    Waiting,
    Paused,
    Done,
    Cancelled,
}

impl Stage {
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Waiting => "Waiting",
            Self::Paused => "Paused",
            Self::Done => "Done",
            Self::Cancelled => "Cancelled",
        }
    }

    pub fn tone(self) -> Tone {
        match self {
            Self::Running => Tone::Accent,
            Self::Waiting => Tone::Warn,
            Self::Done => Tone::Ok,
            Self::Paused | Self::Cancelled => Tone::Plain,
        }
    }

    fn icon(self) -> &'static str {
        match self {
            Self::Running => "loader-circle",
            Self::Waiting => "clock",
            Self::Paused => "pause",
            Self::Done => "circle-check",
            Self::Cancelled => "circle-x",
        }
    }
}

impl JobCard {
    /// Not ended: it may be steered, and the page looks again by itself.
    pub fn is_active(&self) -> bool {
        matches!(self.stage, Stage::Running | Stage::Waiting | Stage::Paused)
    }

    /// "62 %".
    pub fn percent(&self) -> String {
        let done = (self.done + self.failed).min(self.total);
        match self.total {
            0 => "0 %".to_owned(),
            total => format!("{} %", done * 100 / total),
        }
    }

    /// "62 of 100 items, 1 kept".
    fn count(&self) -> String {
        let of = crate::counted::counted(self.total, self.unit);
        let kept = if self.failed > 0 { format!(", {} kept as it was", self.failed) } else { String::new() };
        format!("{} of {of}{kept}", self.done)
    }
}

/// Where each item went; the two sides are the same number.
pub struct AccountView {
    pub found: u64,
    pub came: u64,
    pub done: u64,
    pub kept: u64,
    pub gone: u64,
    pub left: u64,
    /// "moved", "re-encrypted".
    pub verb: &'static str,
    pub why_kept: Vec<KeptRow>,
}

/// An item that stayed as it was.
pub struct KeptRow {
    pub id: String,
    /// None where the reader may not see it, or its vault does not open.
    pub title: Option<Shown>,
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(stage: Stage, done: u64, failed: u64, total: u64) -> JobCard {
        JobCard {
            id: "1".into(),
            icon: "refresh-cw",
            title: "Re-encryption of Finance".into(),
            stage,
            unit: "item",
            total,
            done,
            failed,
            why: None,
            started: Moment::default(),
            by: "you".into(),
            finished: None,
            back: "/jobs".into(),
        }
    }

    #[test]
    fn progress_counts_what_was_kept_and_never_passes_the_whole() {
        assert_eq!(job(Stage::Running, 62, 1, 100).percent(), "63 %");
        assert_eq!(job(Stage::Running, 12, 0, 10).percent(), "100 %");
        assert_eq!(job(Stage::Running, 0, 0, 0).percent(), "0 %");
        assert_eq!(job(Stage::Running, 62, 1, 1200).count(), "62 of 1,200 items, 1 kept as it was");
    }

    #[test]
    fn a_paused_job_says_why_and_that_it_does_not_go_on_by_itself() {
        let why = "Its policy forbids it.".to_owned();
        let html = |stage, again| JobCard { why: Some((why.clone(), again)), ..job(stage, 1, 0, 2) }.render();
        let paused = html(Stage::Paused, None).expect("it renders");
        assert!(paused.contains("Its policy forbids it. It goes on only when somebody resumes it."), "{paused}");
        assert!(!paused.contains("by itself"), "{paused}");
        let waits = html(Stage::Waiting, Some(Moment::default())).expect("it renders");
        assert!(waits.contains("it goes on by itself") && !waits.contains("resumes it"), "{waits}");
    }

    #[test]
    fn only_a_job_that_has_not_ended_is_steered_and_looked_at_again() {
        let html = |stage| job(stage, 1, 0, 2).render().expect("it renders");
        for (stage, button) in [(Stage::Running, "/jobs/1/pause"), (Stage::Paused, "/jobs/1/resume")] {
            assert!(html(stage).contains(button) && html(stage).contains("data-poll=\"/jobs/1\""), "{stage:?}");
        }
        for stage in [Stage::Done, Stage::Cancelled] {
            assert!(!html(stage).contains("<form") && !html(stage).contains("data-poll"), "{stage:?}");
        }
    }
}

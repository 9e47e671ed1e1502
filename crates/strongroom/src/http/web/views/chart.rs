//! Latency and failures of a key over time, drawn as SVG on the server: no script, no style that the page's policy
//! forbids, and the same numbers as a table for who cannot see it.

use askama::Template;
use jiff::{SignedDuration, Timestamp};

use crate::keyring::KeySample;

/// Left and right end of the drawing, in the picture's own units.
const LEFT: f64 = 52.0;
const RIGHT: f64 = 712.0;
const TOP: f64 = 12.0;
/// Where latency ends and failures begin and end.
const FLOOR: f64 = 132.0;
const FAIL_TOP: f64 = 150.0;
const FAIL_FLOOR: f64 = 178.0;
/// Steps of the latency's scale, in milliseconds.
const SCALES: [u64; 12] = [20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000];

/// How far back a chart looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Span {
    Day,
    Week,
}

impl Span {
    /// As the address writes it; anything unknown is a day.
    pub fn parse(word: &str) -> Self {
        if word == "7d" { Self::Week } else { Self::Day }
    }

    pub fn length(self) -> SignedDuration {
        match self {
            Self::Day => SignedDuration::from_hours(24),
            Self::Week => SignedDuration::from_hours(24 * 7),
        }
    }

    fn step(self) -> SignedDuration {
        match self {
            Self::Day => SignedDuration::from_mins(30),
            Self::Week => SignedDuration::from_hours(4),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Day => "24 hours",
            Self::Week => "7 days",
        }
    }
}

/// A chart, and the table that says the same.
#[derive(Template)]
#[template(path = "health/chart.html")]
pub struct Chart {
    /// Of the vault, to keep several charts of a page apart.
    pub id: String,
    pub title: String,
    /// What it shows, in a sentence.
    pub told: String,
    /// Lines across: height and what stands beside them.
    pub grid: Vec<(String, String)>,
    /// Times along the bottom: place, how the text stands to it, text.
    pub times: Vec<(String, &'static str, String)>,
    /// The mean of each step, as a path; broken where nothing was asked.
    pub mean: String,
    /// From the mean to the slowest of each step.
    pub spread: String,
    /// Bars of failures.
    pub failures: String,
    /// Those steps in which something was asked, newest first.
    pub rows: Vec<ChartRow>,
}

/// One step in words.
pub struct ChartRow {
    pub from: String,
    pub ok: u64,
    pub failed: u64,
    pub mean: String,
    pub slowest: String,
}

#[derive(Clone, Copy, Default)]
struct Step {
    ok: u64,
    failed: u64,
    sum_ms: u64,
    max_ms: u64,
}

impl Step {
    fn mean(self) -> Option<f64> {
        (self.ok > 0).then(|| self.sum_ms as f64 / (self.ok + self.failed) as f64)
    }
}

impl Chart {
    /// The samples of a span that ends `now`; None where there are none.
    pub fn of(id: String, samples: &[KeySample], now: Timestamp, span: Span) -> Option<Self> {
        let begin = now - span.length();
        let steps = steps(samples, begin, span);
        if steps.iter().all(|step| step.ok + step.failed == 0) {
            return None;
        }
        let slowest = steps.iter().map(|step| step.max_ms).max().unwrap_or(0);
        let top = SCALES.into_iter().find(|scale| *scale >= slowest).unwrap_or(slowest);
        let (ok, failed) = (steps.iter().map(|s| s.ok).sum::<u64>(), steps.iter().map(|s| s.failed).sum::<u64>());
        let sum: u64 = steps.iter().map(|step| step.sum_ms).sum();
        let mean = if ok > 0 {
            format!("{} ms on average, {slowest} ms at the slowest", sum / (ok + failed))
        } else {
            "no answer".into()
        };
        let asked = crate::counted::counted(ok + failed, "request");
        let told = format!("{asked} in {}: {mean}; {failed} failed.", span.words());
        Some(Self {
            title: format!("Latency and failures in the last {}", span.words()),
            told,
            id,
            grid: [0.0, 0.5, 1.0]
                .map(|part| (number(height(part)), format!("{} ms", (top as f64 * part) as u64)))
                .into(),
            times: times(begin, span),
            mean: mean_path(&steps, top),
            spread: spread_path(&steps, top),
            failures: failure_path(&steps),
            rows: rows(&steps, begin, span),
        })
    }
}

fn steps(samples: &[KeySample], begin: Timestamp, span: Span) -> Vec<Step> {
    let count = usize::try_from(span.length().as_secs() / span.step().as_secs()).expect("a span has few steps");
    let mut steps = vec![Step::default(); count];
    for sample in samples {
        let index = sample.minute.duration_since(begin).as_secs().div_euclid(span.step().as_secs());
        let Some(step) = usize::try_from(index).ok().and_then(|index| steps.get_mut(index)) else { continue };
        step.ok += sample.ok;
        step.failed += sample.failed;
        step.sum_ms += sample.latency_ms_sum;
        step.max_ms = step.max_ms.max(sample.latency_ms_max);
    }
    steps
}

/// Where a part of the scale, from 0 to 1, stands.
fn height(part: f64) -> f64 {
    FLOOR - part.clamp(0.0, 1.0) * (FLOOR - TOP)
}

/// The middle of a step.
fn middle(index: usize, count: usize) -> f64 {
    LEFT + (index as f64 + 0.5) * (RIGHT - LEFT) / count as f64
}

fn mean_path(steps: &[Step], top: u64) -> String {
    let (mut path, mut drawing) = (String::new(), false);
    for (index, step) in steps.iter().enumerate() {
        let Some(mean) = step.mean() else {
            drawing = false;
            continue;
        };
        let (x, y) = (middle(index, steps.len()), height(mean / top as f64));
        // A step alone would be a line without length; a short one is seen.
        path += &match drawing {
            true => format!("L{} {}", number(x), number(y)),
            false => format!("M{} {}h2", number(x - 1.0), number(y)),
        };
        drawing = true;
    }
    path
}

fn spread_path(steps: &[Step], top: u64) -> String {
    let lines = steps.iter().enumerate().filter_map(|(index, step)| {
        let (low, high) = (height(step.mean()? / top as f64), height(step.max_ms as f64 / top as f64));
        Some(format!("M{} {}V{}", number(middle(index, steps.len())), number(low), number(high)))
    });
    lines.collect()
}

fn failure_path(steps: &[Step]) -> String {
    let most = steps.iter().map(|step| step.failed).max().unwrap_or(0).max(1);
    let width = (RIGHT - LEFT) / steps.len() as f64 - 2.0;
    let bars = steps.iter().enumerate().filter(|(_, step)| step.failed > 0).map(|(index, step)| {
        // Never so small that it is not seen.
        let tall = (FAIL_FLOOR - FAIL_TOP) * (step.failed as f64 / most as f64).max(0.15);
        let x = middle(index, steps.len()) - width / 2.0;
        format!("M{} {}v{}h{}v{}z", number(x), number(FAIL_FLOOR), number(-tall), number(width), number(tall))
    });
    bars.collect()
}

fn times(begin: Timestamp, span: Span) -> Vec<(String, &'static str, String)> {
    let marks: [(i32, &'static str); 5] = [(0, "start"), (1, "middle"), (2, "middle"), (3, "middle"), (4, "end")];
    let time = |part: i32| {
        let at = begin + span.length() / 4 * part;
        let format = if span == Span::Day { "%H:%M" } else { "%-d %b %H:%M" };
        at.strftime(format).to_string()
    };
    let place = |part: i32| number(LEFT + (RIGHT - LEFT) * f64::from(part) / 4.0);
    marks.into_iter().map(|(part, anchor)| (place(part), anchor, time(part))).collect()
}

fn rows(steps: &[Step], begin: Timestamp, span: Span) -> Vec<ChartRow> {
    let asked = steps.iter().enumerate().filter(|(_, step)| step.ok + step.failed > 0);
    let rows = asked.map(|(index, step)| {
        let from = begin + span.step() * i32::try_from(index).expect("a span has few steps");
        ChartRow {
            from: from.strftime("%-d %b, %H:%M").to_string(),
            ok: step.ok,
            failed: step.failed,
            mean: step.mean().map_or_else(|| "–".to_owned(), |mean| format!("{mean:.0} ms")),
            slowest: if step.ok > 0 { format!("{} ms", step.max_ms) } else { "–".to_owned() },
        }
    });
    let mut rows: Vec<_> = rows.collect();
    rows.reverse();
    rows
}

fn number(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(minutes_ago: i64, ok: u64, failed: u64, ms: u64) -> KeySample {
        let minute = now() - SignedDuration::from_mins(minutes_ago);
        KeySample { minute, ok, failed, latency_ms_sum: ok * ms, latency_ms_max: ms }
    }

    fn now() -> Timestamp {
        "2026-11-23T20:00:00Z".parse().expect("a time")
    }

    #[test]
    fn a_chart_says_in_words_what_it_draws() {
        let samples =
            [sample(10, 12, 0, 40), sample(20, 12, 3, 90), sample(600, 12, 0, 60), sample(60 * 30, 5, 5, 999)];
        let chart = Chart::of("v".into(), &samples, now(), Span::Day).expect("there is something to draw");
        assert_eq!(chart.told, "39 requests in 24 hours: 58 ms on average, 90 ms at the slowest; 3 failed.");
        assert_eq!(chart.rows.iter().map(|row| (row.ok, row.failed)).collect::<Vec<_>>(), [(24, 3), (12, 0)]);
        // One line breaks off where nothing was asked, and begins anew.
        assert_eq!(chart.mean.matches('M').count(), 2);
        assert_eq!(chart.failures.matches('M').count(), 1);
        let week = Chart::of("v".into(), &samples, now(), Span::Week).expect("there is something to draw");
        assert!(week.told.starts_with("49 requests in 7 days"), "{}", week.told);
        let html = chart.render().expect("it renders");
        assert!(!html.contains("style=") && html.contains("<title") && html.contains("<table"));
    }

    #[test]
    fn where_nothing_was_asked_nothing_is_drawn() {
        assert!(Chart::of("v".into(), &[], now(), Span::Day).is_none());
        assert!(Chart::of("v".into(), &[sample(60 * 25, 1, 0, 1)], now(), Span::Day).is_none());
        let failed = Chart::of("v".into(), &[sample(1, 0, 2, 0)], now(), Span::Day).expect("failures are drawn too");
        assert!(failed.mean.is_empty() && failed.told.contains("no answer; 2 failed"), "{}", failed.told);
    }
}

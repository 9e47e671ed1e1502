//! `docs/checks.md` says what the code does.

use strongroom_keys::Code;
use strongroom_keys::check::{LINES, REASONS};

const DOCUMENT: &str = include_str!("../../../../../docs/checks.md");

/// The rows of the table under a heading, cell by cell.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, rest) = DOCUMENT.split_once(&format!("\n## {heading}\n")).expect(heading);
    let section = rest.split("\n## ").next().expect("a section");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`')).collect()).collect()
}

#[test]
fn every_line_stands_in_the_document_in_its_order() {
    let told: Vec<_> = table("Lines").into_iter().map(|row| (row[0], row[1])).collect();
    assert_eq!(told, LINES);
}

#[test]
fn every_reason_of_the_check_stands_in_the_document_with_its_line() {
    let told: Vec<_> = table("Reasons of a line").into_iter().map(|row| (row[0], row[1], row[2])).collect();
    assert_eq!(told, REASONS);
    for (line, reason, _) in REASONS {
        assert!(*line == "any" || LINES.iter().any(|(code, _)| code == line), "{line}");
        assert!(!Code::ALL.iter().any(|code| code.as_str() == *reason), "{reason} is a failure's code");
    }
}

#[test]
fn every_failure_stands_in_the_document() {
    let told: Vec<_> = table("Failures").into_iter().map(|row| (row[0], row[1])).collect();
    let known: Vec<_> = Code::ALL.iter().map(|code| (code.as_str(), code.title())).collect();
    assert_eq!(told, known);
}

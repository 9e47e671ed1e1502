//! The tables of client × operation × result, from the lines that the suites say to the README.

use crate::Result;

/// What came of one operation of one client.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// A short name, and after a colon the packages and their releases: `Python: azure-identity 1.27.0`.
    pub client: String,
    pub operation: String,
    pub outcome: Outcome,
    /// What the reader of the table has to know; empty if nothing.
    pub note: String,
}

/// The best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Ok,
    /// Not covered: the client shows the error that Azure has for it.
    AzureError,
    Failed,
}

impl Line {
    /// From `{"client", "operation", "result": "ok" | "azure_error" | "failed", "note"}`; the note may be absent.
    pub fn parse(json: &str) -> Result<Self> {
        let value: serde_json::Value = serde_json::from_str(json).map_err(|error| format!("{error}: {json}"))?;
        let text = |name: &str| value[name].as_str().ok_or_else(|| format!("no {name}: {json}"));
        let outcome = match text("result")? {
            "ok" => Outcome::Ok,
            "azure_error" => Outcome::AzureError,
            "failed" => Outcome::Failed,
            _ => return Err(format!("no such result: {json}").into()),
        };
        let note = value["note"].as_str().unwrap_or_default().to_owned();
        Ok(Self { client: text("client")?.to_owned(), operation: text("operation")?.to_owned(), outcome, note })
    }

    fn column(&self) -> &str {
        self.client.split_once(':').map_or(self.client.as_str(), |(name, _)| name)
    }
}

/// One table: a row an operation, a column a client, both in the order in which they come. A client that tried an
/// operation twice has the worse result in it.
pub fn render<'a>(lines: impl Iterator<Item = &'a Line>) -> String {
    let lines: Vec<&Line> = lines.collect();
    let clients = in_order(lines.iter().map(|line| line.client.as_str()));
    let columns = in_order(lines.iter().map(|line| line.column()));
    let rows = in_order(lines.iter().map(|line| line.operation.as_str()));
    let mut text = String::new();
    let releases: Vec<String> =
        clients.iter().filter(|client| client.contains(':')).map(|c| format!("- {c}")).collect();
    if !releases.is_empty() {
        text += &format!("{}\n\n", releases.join("\n"));
    }
    text += &format!("| Operation | {} |\n", columns.join(" | "));
    text += &format!("|---|{}\n", "---|".repeat(columns.len()));
    for row in rows {
        let of_column = |column: &str| {
            let of_both = lines.iter().filter(|line| line.operation == row && line.column() == column);
            cell(&of_both.copied().collect::<Vec<_>>())
        };
        let cells: Vec<String> = columns.iter().map(|column| of_column(column)).collect();
        text += &format!("| {} | {} |\n", escape(row), cells.join(" | "));
    }
    text
}

fn cell(lines: &[&Line]) -> String {
    let Some(outcome) = lines.iter().map(|line| line.outcome).max() else { return "–".to_owned() };
    let worst = lines.iter().filter(|line| line.outcome == outcome && !line.note.is_empty());
    let notes = in_order(worst.map(|line| line.note.as_str())).join("; ");
    let word = match outcome {
        Outcome::Ok => "ok",
        Outcome::AzureError => "Azure's error",
        Outcome::Failed => "FAILED",
    };
    if notes.is_empty() { word.to_owned() } else { format!("{word}: {}", escape(&notes)) }
}

/// A bar would end the cell, and so would a new line.
fn escape(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// Each one once, where it comes first.
fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

const BEGIN: &str = "<!-- written by `cargo xtask clients` -->\n";
const END: &str = "<!-- end of what it wrote -->\n";

/// `document` with `tables` between the two markers.
///
/// # Errors
/// When a marker is missing.
pub fn replace(document: &str, tables: &str) -> Result<String> {
    let parts = document.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or_else(|| format!("it lacks the lines\n{BEGIN}and\n{END}"))?;
    Ok(format!("{before}{BEGIN}\n{tables}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(client: &str, operation: &str, result: &str, note: &str) -> Line {
        let json = serde_json::json!({"client": client, "operation": operation, "result": result, "note": note});
        Line::parse(&json.to_string()).expect("the test's own")
    }

    #[test]
    fn clients_that_tried_the_same_operation_share_its_row() {
        let lines = [
            line("Python: azure-identity 1.27.0", "wrap", "ok", ""),
            line("Python: azure-identity 1.27.0", "back up", "azure_error", "NotSupported"),
            line("Rust: azure_identity 1.0.0", "wrap", "ok", "on the server"),
            line("Rust: azure_identity 1.0.0", "get", "ok", ""),
        ];
        let expected = "\
- Python: azure-identity 1.27.0
- Rust: azure_identity 1.0.0

| Operation | Python | Rust |
|---|---|---|
| wrap | ok | ok: on the server |
| back up | Azure's error: NotSupported | – |
| get | – | ok |
";
        assert_eq!(render(lines.iter()), expected);
    }

    #[test]
    fn an_operation_tried_twice_shows_the_worse_result() {
        let lines =
            [line("az 2.91.0", "group show", "failed", "a|b\nc"), line("az 2.91.0", "group show", "ok", "fine")];
        let expected = "| Operation | az 2.91.0 |\n|---|---|\n| group show | FAILED: a\\|b c |\n";
        assert_eq!(render(lines.iter()), expected);
    }

    #[test]
    fn what_no_suite_may_say_is_refused() {
        for json in ["", "ok", "{}", r#"{"client": "a", "operation": "b", "result": "great"}"#] {
            assert!(Line::parse(json).is_err(), "{json}");
        }
    }

    #[test]
    fn only_what_is_between_the_markers_is_replaced() {
        let document = format!("# A\n{BEGIN}old\n{END}after\n");
        let once = replace(&document, "| new |\n").expect("both markers are there");
        assert_eq!(once, format!("# A\n{BEGIN}\n| new |\n\n{END}after\n"));
        assert_eq!(replace(&once, "| new |\n").expect("both markers are there"), once);
        assert!(replace("# A\n", "").is_err());
    }
}

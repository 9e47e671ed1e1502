//! `strongroom notices`

use clap::{Args, Subcommand};
use serde_json::json;

use super::console::{Console, Format, printable};
use super::failure::Failure;
use crate::client::Client;
use crate::http::api::types::{Notice, NoticeQuery, ReadNotices, Severity};

/// See what you should know of keys, credentials and jobs.
#[derive(Subcommand)]
pub enum Arguments {
    /// List notices, newest first
    #[command(after_help = "Examples:
  strongroom notices list --unread
  strongroom notices list --format json | jq '.items[] | select(.severity == \"critical\")'")]
    List(List),
    /// Mark all notices as read by you
    #[command(after_help = "Example:\n  strongroom notices read")]
    Read,
}

#[derive(Args)]
pub struct List {
    /// Only those that you have not read
    #[arg(long)]
    unread: bool,
}

pub async fn run(arguments: Arguments, client: &Client, console: &Console) -> Result<(), Failure> {
    match arguments {
        Arguments::List(List { unread }) => list(unread, client, console).await,
        Arguments::Read => {
            client.read_notices(&ReadNotices { ids: None }).await?;
            match console.format {
                Format::Json => console.json(&json!({ "read": true })),
                Format::Table => console.line("All notices are marked as read."),
            }
        }
    }
}

async fn list(unread: bool, client: &Client, console: &Console) -> Result<(), Failure> {
    let query = NoticeQuery { unread: unread.then_some(true), cursor: None, limit: Some(200) };
    let notices = client.notices(&query).await?;
    if console.format == Format::Json {
        return console.json(&notices);
    }
    if notices.items.is_empty() {
        return console.line(if unread { "Nothing unread." } else { "No notices yet." });
    }
    let rows = notices.items.iter().map(row).collect();
    console.table(&["At", "", "Notice", "Kind", "Read"], rows)
}

fn row(notice: &Notice) -> Vec<String> {
    let severity = match notice.severity {
        _ if notice.over_at.is_some() => "over",
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Info => "info",
    };
    vec![
        notice.at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        severity.to_owned(),
        printable(&notice.title),
        notice.kind.word().to_owned(),
        if notice.read { String::new() } else { "new".to_owned() },
    ]
}

//! `strongroom import`

use std::collections::HashSet;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use clap::Args;
use futures_util::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use strongroom_envelope::Plaintext;
use zeroize::Zeroizing;

use super::console::{Console, Format as OutputFormat, printable, secret_from_stdin};
use super::failure::{Exit, Failure};
use super::lookup;
use crate::client::Client;
use crate::http::api::types::{CreateItem, Item, ItemQuery, Vault};
use crate::import::{FILE_LIMIT, Format, ImportDraft, Parsed, Place, detect, is_protected, parse, unlock};
use crate::secret_text::SecretText;

/// Import accounts and secrets from another password manager's export
///
/// Takes the CSV of Chrome and its kin, a CSV with the columns Title,URL,Username,Password,Notes, and Bitwarden's JSON, as
/// `strongroom export` writes it too: readable, or under a passphrase, which is asked for and opens the file here, on this
/// machine. Rows that repeat another row, or an item of the vault by title, URLs and usernames, are skipped, so
/// an import that was interrupted can be run again. Delete the file afterwards.
#[derive(Args)]
#[command(after_help = "Examples:
  strongroom import passwords.csv --dry-run
  strongroom import bitwarden_export.json --vault Azure
  strongroom import strongroom_acme_20261124.json --passphrase-stdin < passphrase.txt
  strongroom import - --from chrome < passwords.csv")]
pub struct Arguments {
    /// The export; - reads standard input
    file: PathBuf,
    /// What wrote the file; told from its content if absent
    #[arg(long)]
    from: Option<Format>,
    /// The vault to import into, by name or id; the default vault if absent
    #[arg(long)]
    vault: Option<String>,
    /// The passphrase of the file is on standard input
    #[arg(long)]
    passphrase_stdin: bool,
    /// Read and check the file, and create nothing
    #[arg(long)]
    dry_run: bool,
    /// Import rows that repeat another too
    #[arg(long)]
    allow_duplicates: bool,
}

/// What became of each row. Holds places and reasons, never a title or a secret.
#[derive(Serialize)]
pub struct Report {
    pub dry_run: bool,
    /// In a dry run: what would be.
    pub imported: usize,
    pub skipped: Vec<Line>,
    pub failed: Vec<Line>,
    /// Parts that no item has a place for.
    pub left_out: Vec<Line>,
    /// Rows that were not tried, because the import stopped.
    pub not_tried: usize,
}

#[derive(Serialize, PartialEq, Eq, Debug)]
pub struct Line {
    #[serde(flatten)]
    pub place: Place,
    pub reason: String,
}

/// Requests under way at a time; the server groups their commits.
const AT_ONCE: usize = 8;

pub async fn run(arguments: Arguments, client: &Client, console: &Console) -> Result<(), Failure> {
    let bytes = read(&arguments.file)?;
    let (mut parsed, mut report) = match is_protected(&bytes) {
        true => parsed(&unlocked(&bytes, &arguments, console)?, &arguments)?,
        false => parsed(&bytes, &arguments)?,
    };
    let vaults = client.vaults().await?;
    let vault = target(&vaults, arguments.vault.as_deref())?;
    if !arguments.allow_duplicates {
        skip_known(&mut parsed, &mut report, &existing(client, vault).await?);
    }
    let stopped = if arguments.dry_run {
        report.imported = parsed.drafts.len();
        None
    } else {
        create(parsed.drafts, vault, client, console, &mut report).await
    };
    print(&report, vault, console)?;
    match stopped {
        Some(failure) => Err(failure),
        None if report.failed.is_empty() => Ok(()),
        None => {
            let title = format!("{} of the file's rows could not be imported", report.failed.len());
            Err(Failure::new(Exit::Other, "import.incomplete", title).fix("mend them in the file and run it again"))
        }
    }
}

fn read(path: &PathBuf) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::new(Exit::Other, "file.unreadable", format!("cannot read {}: {error}", path.display()))
    };
    let mut bytes = Zeroizing::new(Vec::new());
    // One byte over the limit is enough for the parser to refuse it.
    let limit = FILE_LIMIT as u64 + 1;
    if path.as_os_str() == "-" {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    } else {
        File::open(path).map_err(unreadable)?.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    Ok(bytes)
}

/// What is under the file's passphrase.
fn unlocked(bytes: &[u8], arguments: &Arguments, console: &Console) -> Result<Plaintext, Failure> {
    let passphrase = match arguments.passphrase_stdin {
        true if arguments.file.as_os_str() == "-" => {
            return Err(Failure::usage("standard input cannot hold both the file and its passphrase"));
        }
        true => secret_from_stdin()?,
        false => console.ask_secret("Passphrase of the file", "pipe it in and say --passphrase-stdin")?,
    };
    unlock(bytes, &passphrase).map_err(|error| {
        Failure::new(Exit::Other, "import.not_opened", error.to_string())
            .fix("try the passphrase again; if it is right, the file is damaged: take another copy of it")
    })
}

fn parsed(bytes: &[u8], arguments: &Arguments) -> Result<(Parsed, Report), Failure> {
    let unreadable =
        |error: crate::import::ImportError| Failure::new(Exit::Other, "import.unreadable", error.to_string());
    let format = match arguments.from {
        Some(format) => format,
        None => detect(bytes).map_err(unreadable)?,
    };
    let mut parsed = parse(bytes, format).map_err(unreadable)?;
    let line = |place, reason: String| Line { place, reason };
    let mut report = Report {
        dry_run: arguments.dry_run,
        imported: 0,
        skipped: Vec::new(),
        failed: parsed.refused.iter().map(|refused| line(refused.place, refused.reason.to_string())).collect(),
        left_out: parsed.left_out.iter().map(|part| line(part.place, part.to_string())).collect(),
        not_tried: 0,
    };
    if !arguments.allow_duplicates {
        let repeats = parsed.remove_duplicates().into_iter();
        report.skipped.extend(repeats.map(|(place, first)| line(place, format!("repeats {first}"))));
    }
    Ok((parsed, report))
}

fn target<'v>(vaults: &'v [Vault], wanted: Option<&str>) -> Result<&'v Vault, Failure> {
    match wanted {
        Some(name) => lookup::vault(vaults, name),
        None => vaults.iter().find(|vault| vault.default).ok_or_else(|| {
            Failure::new(Exit::NotFound, "vault.no_default", "the workspace has no vault yet")
                .fix("make one with `strongroom vault create`")
        }),
    }
}

/// Title, URLs and usernames of an item: what an overview shows without a reveal.
type Likeness<'i> = (&'i str, Vec<&'i str>, Vec<&'i str>);

fn likeness<'i>(title: &'i SecretText, urls: &'i [SecretText], usernames: &'i [SecretText]) -> Likeness<'i> {
    let exposed = |texts: &'i [SecretText]| texts.iter().map(SecretText::expose).collect();
    (title.expose(), exposed(urls), exposed(usernames))
}

async fn existing(client: &Client, vault: &Vault) -> Result<Vec<Item>, Failure> {
    let mut items = Vec::new();
    let mut query = ItemQuery { vault_id: Some(vault.id), limit: Some(200), ..ItemQuery::default() };
    loop {
        let page = client.items(&query).await?;
        items.extend(page.items);
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            return Ok(items);
        }
    }
}

fn skip_known(parsed: &mut Parsed, report: &mut Report, existing: &[Item]) {
    let known: HashSet<Likeness> =
        existing.iter().map(|item| likeness(&item.title, &item.urls, &item.usernames)).collect();
    parsed.drafts.retain(|draft| {
        let CreateItem { title, urls, usernames, .. } = &draft.item;
        let is_known = known.contains(&likeness(title, urls, usernames));
        if is_known {
            report.skipped.push(Line { place: draft.place, reason: "the vault has an item like it".to_owned() });
        }
        !is_known
    });
}

/// Creates the items, and stops at the first failure that would meet all others too. Answers that failure.
async fn create(
    drafts: Vec<ImportDraft>,
    vault: &Vault,
    client: &Client,
    console: &Console,
    report: &mut Report,
) -> Option<Failure> {
    let total = drafts.len();
    let bar = progress(total, console);
    let requests = drafts.into_iter().map(|draft| {
        let ImportDraft { place, mut item } = draft;
        item.vault_id = Some(vault.id);
        async move { (place, client.create_item(&item).await) }
    });
    let mut answers = stream::iter(requests).buffer_unordered(AT_ONCE);
    let mut stopped = None;
    while let Some((place, answer)) = answers.next().await {
        bar.inc(1);
        let failure = match answer.map_err(Failure::from) {
            Ok(_) => {
                report.imported += 1;
                continue;
            }
            Err(failure) => failure,
        };
        report.failed.push(Line { place, reason: reason(&failure) });
        if matches!(failure.exit, Exit::Denied | Exit::KeyUnavailable | Exit::Unreachable) {
            stopped =
                Some(failure.fix_or("when that is mended, run the same command again; it goes on where it stopped"));
            break;
        }
    }
    bar.finish_and_clear();
    let tried = report.imported + report.failed.len();
    report.not_tried = total.saturating_sub(tried);
    stopped
}

fn reason(failure: &Failure) -> String {
    let fields: Vec<String> =
        failure.errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect();
    if fields.is_empty() { failure.title.clone() } else { format!("{} ({})", failure.title, fields.join("; ")) }
}

fn progress(total: usize, console: &Console) -> ProgressBar {
    if console.format == OutputFormat::Json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} items, {eta} left").expect("the template is sound");
    ProgressBar::new(total as u64).with_style(style)
}

fn print(report: &Report, vault: &Vault, console: &Console) -> Result<(), Failure> {
    if console.format == OutputFormat::Json {
        return console.json(report);
    }
    let did = if report.dry_run { "Would import" } else { "Imported" };
    console.line(&format!(
        "{did} {} into {}; skipped {}, failed {}.",
        report.imported,
        printable(&vault.name),
        report.skipped.len(),
        report.failed.len()
    ))?;
    if report.not_tried > 0 {
        console.line(&format!("Stopped; {} were not tried.", report.not_tried))?;
    }
    for (heading, lines) in [("Failed", &report.failed), ("Skipped", &report.skipped), ("Left out", &report.left_out)] {
        if !lines.is_empty() {
            console.line(&format!("\n{heading}:"))?;
        }
        let mut sorted: Vec<&Line> = lines.iter().collect();
        sorted.sort_by_key(|line| line.place);
        for line in sorted {
            console.line(&format!("  {}: {}", line.place, line.reason))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::http::api::types::{ItemRole, ItemType};

    fn arguments(allow_duplicates: bool) -> Arguments {
        Arguments {
            file: "-".into(),
            from: None,
            vault: None,
            passphrase_stdin: false,
            dry_run: true,
            allow_duplicates,
        }
    }

    const ROWS: &[u8] = b"name,url,username,password,note\n\
        a,https://a.example,u,hunter2,\nb,https://b.example,u,p,\nshort\na,https://a.example,u,hunter2,\n";

    fn item(title: &str, url: &str, username: &str) -> Item {
        Item {
            id: Uuid::nil(),
            vault_id: Uuid::nil(),
            item_type: ItemType::Account,
            title: SecretText::from(title),
            kind: None,
            urls: vec![SecretText::from(url)],
            usernames: vec![SecretText::from(username)],
            labels: Vec::new(),
            revision: 1,
            role: ItemRole::Owner,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            trashed_at: None,
            deleted_after: None,
        }
    }

    #[test]
    fn repeated_and_known_rows_are_skipped_and_bad_ones_fail_with_their_line() {
        let (mut parsed, mut report) = parsed(ROWS, &arguments(false)).expect("parsed");
        skip_known(
            &mut parsed,
            &mut report,
            &[item("b", "https://b.example", "u"), item("a", "https://a.example", "v")],
        );
        assert_eq!(parsed.drafts.len(), 1);
        let skipped: Vec<(Place, &str)> =
            report.skipped.iter().map(|line| (line.place, line.reason.as_str())).collect();
        assert_eq!(skipped, [(Place::Line(5), "repeats line 2"), (Place::Line(3), "the vault has an item like it")]);
        assert_eq!(report.failed[0].place, Place::Line(4));
    }

    #[test]
    fn duplicates_are_kept_when_told() {
        let (parsed, report) = parsed(ROWS, &arguments(true)).expect("parsed");
        assert_eq!((parsed.drafts.len(), report.skipped.len()), (3, 0));
    }

    #[test]
    fn the_report_in_json_has_places_and_reasons_and_no_content() {
        let (_, report) = parsed(ROWS, &arguments(false)).expect("parsed");
        let json = serde_json::to_value(&report).expect("serializes");
        assert_eq!(json["skipped"][0], serde_json::json!({ "line": 5, "reason": "repeats line 2" }));
        let text = json.to_string();
        assert!(!text.contains("hunter2") && !text.contains("a.example"), "{text}");
    }
}

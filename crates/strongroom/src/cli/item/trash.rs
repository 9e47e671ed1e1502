//! `strongroom item trash`, `restore` and `purge`

use clap::Args;
use serde_json::json;
use uuid::Uuid;

use crate::cli::{
    console::{Console, Format, printable},
    failure::{Exit, Failure},
};
use crate::client::Client;
use crate::counted::counted;
use crate::http::api::types::{Item, ItemQuery, PurgedItems};

#[derive(Args)]
pub struct Restore {
    /// Title or id of an item in the trash
    item: String,
}

#[derive(Args)]
pub struct Purge {
    /// Titles or ids of items in the trash
    #[arg(required_unless_present = "all")]
    items: Vec<String>,
    /// All that you own in the trash
    #[arg(long, conflicts_with = "items")]
    all: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub async fn list(client: &Client, console: &Console) -> Result<(), Failure> {
    let items = all(client).await?;
    if console.format == Format::Json {
        return console.json(&json!({ "items": items }));
    }
    let at = |at: Option<jiff::Timestamp>| at.map(|at| format!("{at:.0}")).unwrap_or_default();
    let rows = items
        .iter()
        .map(|item| {
            vec![item.title.expose().to_owned(), at(item.trashed_at), at(item.deleted_after), item.id.to_string()]
        })
        .collect();
    console.table(&["Title", "Trashed", "Deleted after", "ID"], rows)
}

pub async fn restore(arguments: Restore, client: &Client, console: &Console) -> Result<(), Failure> {
    let items = all(client).await?;
    let item = find(&items, &arguments.item)?;
    client.restore_item(item.id).await?;
    match console.format {
        Format::Json => console.json(&json!({ "id": item.id, "trashed": false })),
        Format::Table => console.line(&format!("Restored {} ({}).", printable(item.title.expose()), item.id)),
    }
}

pub async fn purge(arguments: Purge, client: &Client, console: &Console) -> Result<(), Failure> {
    let items = if arguments.all { Vec::new() } else { all(client).await? };
    let found = arguments.items.iter().map(|wanted| find(&items, wanted).map(|item| item.id));
    let ids = found.collect::<Result<Vec<Uuid>, Failure>>()?;
    let question = match arguments.all {
        true => "Delete forever all that you own in the trash?".to_owned(),
        false => format!("Delete {} forever?", counted(ids.len() as u64, "item")),
    };
    if !arguments.yes && !console.confirm(&question)? {
        return Ok(());
    }
    let answer = if arguments.all { client.empty_trash().await? } else { client.purge_items(ids).await? };
    report(&answer, console)
}

/// Ends with the first reason, where something was kept.
fn report(answer: &PurgedItems, console: &Console) -> Result<(), Failure> {
    match console.format {
        Format::Json => console.json(answer)?,
        Format::Table => console.line(&format!("Deleted {} forever.", counted(answer.purged.len() as u64, "item")))?,
    }
    for kept in &answer.kept {
        console.note(&format!("kept {}: {} [{}]", kept.id, printable(&kept.problem.title), kept.problem.code));
    }
    answer.kept.first().map_or(Ok(()), |kept| Err(Failure::from(kept.problem.clone())))
}

async fn all(client: &Client) -> Result<Vec<Item>, Failure> {
    let (mut items, mut query) = (Vec::new(), ItemQuery { limit: Some(200), ..ItemQuery::default() });
    loop {
        let page = client.trash(&query).await?;
        items.extend(page.items);
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            return Ok(items);
        }
    }
}

fn find<'i>(items: &'i [Item], wanted: &str) -> Result<&'i Item, Failure> {
    let mut found = items.iter().filter(|item| item.id.to_string() == wanted || item.title.expose() == wanted);
    let missing = |title: String| Failure::new(Exit::NotFound, "item.not_found", title);
    let item = found.next().ok_or_else(|| {
        missing(format!("there is no `{}` in the trash", printable(wanted))).fix("`strongroom item trash` shows it")
    })?;
    match found.next() {
        None => Ok(item),
        Some(_) => Err(missing(format!("several items in the trash are called `{}`", printable(wanted)))
            .fix("name it by its id; `strongroom item trash` shows it")),
    }
}

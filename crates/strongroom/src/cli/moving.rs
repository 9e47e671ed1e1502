//! `strongroom vault move` and `strongroom item move`.

use clap::Args;
use uuid::Uuid;

use super::console::{Console, Format, printable};
use super::failure::Failure;
use super::{job, lookup};
use crate::client::Client;
use crate::counted::counted;
use crate::http::api::types::{MoveItems, MovePlan, Strategy, Vault};

#[derive(Args)]
pub struct VaultMove {
    /// Name or id of the vault whose items move
    from: String,
    /// Name or id of the vault they move to
    to: String,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
pub struct ItemMove {
    /// Titles or ids
    #[arg(required = true)]
    items: Vec<String>,
    /// Name or id of the vault they move to
    #[arg(long)]
    to: String,
    /// The vault they are in, by name or id
    #[arg(long)]
    vault: Option<String>,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct How {
    /// Say what it comes to, and move nothing
    #[arg(long)]
    dry_run: bool,
    /// Wait until it is done, and show how far it is
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// Move out of the customer's own key, to a Cloud vault or another tenant, without asking again
    #[arg(long)]
    weaken: bool,
}

/// Everything in a vault, and what comes into it meanwhile.
pub async fn vault(arguments: VaultMove, client: &Client, console: &Console) -> Result<(), Failure> {
    let vaults = client.vaults().await?;
    let (from, to) = (lookup::vault(&vaults, &arguments.from)?, lookup::vault(&vaults, &arguments.to)?);
    let request = MoveItems { item_ids: Vec::new(), vault_id: Some(from.id), to: to.id, dry_run: true };
    start(request, to, arguments.how, client, console).await
}

pub async fn items(arguments: ItemMove, client: &Client, console: &Console) -> Result<(), Failure> {
    let vaults = client.vaults().await?;
    let to = lookup::vault(&vaults, &arguments.to)?;
    let within = arguments.vault.as_deref().map(|wanted| lookup::vault(&vaults, wanted)).transpose()?;
    let mut item_ids: Vec<Uuid> = Vec::new();
    for wanted in &arguments.items {
        item_ids.push(lookup::item(client, &vaults, within, wanted).await?.id);
    }
    let request = MoveItems { item_ids, vault_id: None, to: to.id, dry_run: true };
    start(request, to, arguments.how, client, console).await
}

/// Asks what it comes to; where that weakens the promise, asks the person too; then starts it.
async fn start(
    mut request: MoveItems,
    to: &Vault,
    how: How,
    client: &Client,
    console: &Console,
) -> Result<(), Failure> {
    let plan = client.start_move(&request).await?;
    if how.dry_run {
        return tell(&plan, to, "would move", console);
    }
    if plan.weakens && !how.weaken {
        let question = format!("{} {}. Move them?", counted(plan.items, "item"), leave(plan.items, to));
        if !console.interactive() {
            return Err(Failure::usage(format!("moving to {} weakens the promise", printable(&to.name)))
                .why(format!("the items {}", leave(2, to)))
                .fix("say --weaken if that is meant"));
        }
        if !console.confirm(&question)? {
            return Ok(());
        }
    }
    request.dry_run = false;
    let plan = client.start_move(&request).await?;
    let Some(id) = plan.job_id.filter(|_| how.wait) else { return tell(&plan, to, "moving", console) };
    if console.format == Format::Table {
        console.note(&format!("moving {} to {}", counted(plan.items, "item"), printable(&to.name)));
    }
    job::follow(id, client, console).await
}

fn tell(plan: &MovePlan, to: &Vault, verb: &str, console: &Console) -> Result<(), Failure> {
    if console.format == Format::Json {
        return console.json(plan);
    }
    let (items, revisions) = (counted(plan.items, "item"), counted(plan.revisions, "revision"));
    let kib = plan.bytes.div_ceil(1024);
    console.line(&format!("{verb} {items} with {revisions}, {kib} KiB sealed anew, to {}", printable(&to.name)))?;
    if plan.weakens {
        console.line(&format!("  they {}", leave(2, to)))?;
    }
    for kept in &plan.refused {
        console.line(&format!("  stays {}: {}", kept.item_id, kept.code))?;
    }
    match plan.job_id {
        Some(id) => console.line(&format!("  job {id}; `strongroom jobs show {id}` tells how far it is")),
        None => Ok(()),
    }
}

/// What so many items do that lose the promise of their key.
fn leave(items: u64, to: &Vault) -> String {
    let verb = if items == 1 { "leaves" } else { "leave" };
    let to_what = match to.strategy {
        Strategy::Cloud => "one that this server holds",
        Strategy::AzureExternalKeys => "one in another tenant",
    };
    format!("{verb} your own key in Azure for {to_what}")
}

//! `strongroom webhooks`

use clap::{Args, Subcommand};
use serde_json::json;
use uuid::Uuid;

use super::console::{Console, Format, printable, secret_from_stdin};
use super::failure::{Exit, Failure};
use crate::client::Client;
use crate::http::api::types::{CreateWebhook, Delivery, DeliveryState};

/// Send notices to addresses outside, signed by the Standard Webhooks scheme.
#[derive(Subcommand)]
pub enum Arguments {
    /// List the addresses that get notices
    #[command(after_help = "Example:\n  strongroom webhooks list")]
    List,
    /// Send every notice to an address from now on
    ///
    /// Prints the secret that the receiver verifies signatures by; it is shown this once.
    #[command(after_help = "Examples:
  strongroom webhooks add
  strongroom webhooks add --url-stdin < address.txt")]
    Add(Add),
    /// Send a trial notice now; ends with 1 if it is not taken
    #[command(after_help = "Example:\n  strongroom webhooks test 019ab2c4-0000-7000-8000-000000000000")]
    Test(One),
    /// Show what was sent to an address, newest first
    #[command(after_help = "Example:\n  strongroom webhooks deliveries 019ab2c4-0000-7000-8000-000000000000")]
    Deliveries(One),
    /// Send no more notices to an address
    #[command(after_help = "Example:\n  strongroom webhooks remove 019ab2c4-0000-7000-8000-000000000000")]
    Remove(One),
}

#[derive(Args)]
pub struct Add {
    /// Read the address from standard input instead of asking: many hold a secret in their path
    #[arg(long)]
    url_stdin: bool,
}

#[derive(Args)]
pub struct One {
    /// Its id, as `strongroom webhooks list` shows it
    webhook: Uuid,
}

pub async fn run(arguments: Arguments, client: &Client, console: &Console) -> Result<(), Failure> {
    match arguments {
        Arguments::List => list(client, console).await,
        Arguments::Add(Add { url_stdin }) => add(url_stdin, client, console).await,
        Arguments::Test(One { webhook }) => test(webhook, client, console).await,
        Arguments::Deliveries(One { webhook }) => deliveries(webhook, client, console).await,
        Arguments::Remove(One { webhook }) => {
            client.remove_webhook(webhook).await?;
            match console.format {
                Format::Json => console.json(&json!({ "removed": webhook })),
                Format::Table => console.line("Removed."),
            }
        }
    }
}

async fn list(client: &Client, console: &Console) -> Result<(), Failure> {
    let webhooks = client.webhooks().await?;
    if console.format == Format::Json {
        return console.json(&json!({ "items": webhooks }));
    }
    if webhooks.is_empty() {
        return console.line("No webhooks. Add one with `strongroom webhooks add`.");
    }
    let rows = webhooks.iter().map(|webhook| {
        let last = webhook.last_delivery.as_ref();
        vec![
            printable(&webhook.address),
            last.map_or("nothing sent yet", |last| state_word(last.state)).to_owned(),
            last.map(|last| last.outcome.clone()).unwrap_or_default(),
            webhook.id.to_string(),
        ]
    });
    console.table(&["Address", "Last", "Answer", "ID"], rows.collect())
}

async fn add(url_stdin: bool, client: &Client, console: &Console) -> Result<(), Failure> {
    let url = match url_stdin {
        true => secret_from_stdin()?,
        false => console.ask_secret("Address", "pipe it in and say --url-stdin")?,
    };
    let made = client.create_webhook(&CreateWebhook { url }).await?;
    match console.format {
        Format::Json => console.json(&made),
        Format::Table => {
            console.note(&format!("Notices go to {} ({}).", printable(&made.webhook.address), made.webhook.id));
            console.note("The signing secret, shown this once:");
            console.line(made.secret.expose())
        }
    }
}

async fn test(webhook: Uuid, client: &Client, console: &Console) -> Result<(), Failure> {
    let tested = client.test_webhook(webhook).await?;
    match console.format {
        Format::Json => console.json(&tested)?,
        Format::Table if tested.delivered => {
            console.line(&format!("It was taken: {}, in {} ms.", tested.outcome, tested.ms))?;
        }
        Format::Table => {}
    }
    if tested.delivered {
        return Ok(());
    }
    let title = format!("the trial was not taken: {}", tested.outcome);
    Err(Failure::new(Exit::Other, "webhook.not_taken", title).fix("check the address and what listens there"))
}

async fn deliveries(webhook: Uuid, client: &Client, console: &Console) -> Result<(), Failure> {
    let sent = client.deliveries(webhook).await?;
    if console.format == Format::Json {
        return console.json(&json!({ "items": sent }));
    }
    if sent.is_empty() {
        return console.line("Nothing sent yet.");
    }
    console.table(&["Raised", "Kind", "State", "Attempts", "Answer"], sent.iter().map(delivery_row).collect())
}

fn delivery_row(delivery: &Delivery) -> Vec<String> {
    vec![
        delivery.created_at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        delivery.kind.word().to_owned(),
        state_word(delivery.state).to_owned(),
        delivery.attempts.to_string(),
        delivery.outcome.clone(),
    ]
}

fn state_word(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Waiting => "waiting",
        DeliveryState::Delivered => "delivered",
        DeliveryState::Failed => "given up",
    }
}

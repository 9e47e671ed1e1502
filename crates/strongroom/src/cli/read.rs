//! `strongroom read`

use clap::Args;
use jiff::Timestamp;

use super::console::Console;
use super::failure::Failure;
use super::lookup::Resolver;
use super::reference::Reference;
use crate::client::Client;

/// Print one field of one item
///
/// The reference names vault, item and field, by name or id: strongroom://vault/item/field. A blank, `/`, `?` or `%`
/// inside a name is percent-encoded. ?attribute=otp gives the current code of a one-time password.
#[derive(Args)]
#[command(after_help = "Examples:
  strongroom read strongroom://Azure/Mail/Password
  strongroom read 'strongroom://Azure/Mail/One-time%20password?attribute=otp'
  strongroom read --no-newline strongroom://Azure/deploy/Private%20key > key.pem")]
pub struct Arguments {
    reference: Reference,
    /// Print no line end after the value
    #[arg(long, short)]
    no_newline: bool,
}

pub async fn run(arguments: Arguments, client: &Client, console: &Console, now: Timestamp) -> Result<(), Failure> {
    let value = Resolver::new(client).await?.value(&arguments.reference, now).await?;
    console.raw(value.expose())?;
    if arguments.no_newline { Ok(()) } else { console.raw("\n") }
}

//! `strongroom vault edit`, `key-vault` and `delete`

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};

use super::{WARNED, print_check, print_checks, read_certificate, shown_warnings, verdict};
use crate::cli::{
    console::{Console, Format, printable, secret_from_stdin},
    failure::Failure,
    lookup,
};
use crate::client::{Client, ClientError};
use crate::http::api::types::{AcceptWarnings, EditVault, NewKeyVault, VaultState};

#[derive(Args)]
#[command(group(ArgGroup::new("change").required(true).multiple(true)
                .args(["name", "default", "lease_seconds", "state", "may_leave"])))]
pub struct Edit {
    /// Name or id of the vault
    vault: String,
    /// A new name
    #[arg(long)]
    name: Option<String>,
    /// Make it the default vault
    #[arg(long)]
    default: bool,
    /// How long an unwrapped vault key may be used, in seconds
    #[arg(long, value_name = "SECONDS")]
    lease_seconds: Option<u32>,
    /// closed takes no new items; disabled serves nothing
    #[arg(long)]
    state: Option<StateName>,
    /// Whether items may move to a Cloud vault or to another tenant; for the Owner
    #[arg(long)]
    may_leave: Option<Switch>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StateName {
    Active,
    Closed,
    Disabled,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Args)]
pub struct Delete {
    /// Name or id of the vault; nothing may be left in it, not even in the trash
    vault: String,
    /// Its name, typed again
    #[arg(long)]
    name: Option<String>,
}

#[derive(Args)]
pub struct KeyVault {
    /// Name or id of the vault
    vault: String,
    /// Vault URI of the Key Vault
    #[arg(long)]
    vault_url: String,
    /// Name of the key
    #[arg(long)]
    vault_key_name: String,
    /// Directory (tenant) ID, if it is another than before; for the Owner
    #[arg(long)]
    tenant_id: Option<String>,
    /// Application (client) ID, if it is another than before
    #[arg(long)]
    client_id: Option<String>,
    /// Read another client secret from standard input; without a credential, the one that is held signs in there too
    #[arg(long)]
    client_secret_stdin: bool,
    /// The day on which the client secret ends, as in 2027-05-01, to be warned in time
    #[arg(long, value_name = "DATE", conflicts_with_all = ["client_certificate", "workload_identity"])]
    client_secret_expires: Option<String>,
    /// A PEM file with an RSA private key and its certificate
    #[arg(long, value_name = "FILE", conflicts_with_all = ["client_secret_stdin", "workload_identity"])]
    client_certificate: Option<PathBuf>,
    /// Sign in with the server's own workload identity
    #[arg(long, conflicts_with = "client_secret_stdin")]
    workload_identity: bool,
    /// Only check the key there; change nothing
    #[arg(long, conflicts_with = "accept_warnings")]
    check: bool,
    /// Change it although checks warn
    #[arg(long)]
    accept_warnings: bool,
}

pub async fn edit(arguments: Edit, client: &Client, console: &Console) -> Result<(), Failure> {
    let vaults = client.vaults().await?;
    let vault = lookup::vault(&vaults, &arguments.vault)?;
    let request = EditVault {
        name: arguments.name,
        default: arguments.default.then_some(true),
        lease_seconds: arguments.lease_seconds,
        state: arguments.state.map(|state| match state {
            StateName::Active => VaultState::Active,
            StateName::Closed => VaultState::Closed,
            StateName::Disabled => VaultState::Disabled,
        }),
        may_leave: arguments.may_leave.map(|switch| switch == Switch::On),
    };
    let edited = client.edit_vault(vault.id, vault.revision, &request).await?;
    match console.format {
        Format::Json => console.json(&edited),
        Format::Table => console.line(&format!("Changed {} ({}).", printable(&edited.name), edited.id)),
    }
}

pub async fn delete(arguments: Delete, client: &Client, console: &Console) -> Result<(), Failure> {
    let vaults = client.vaults().await?;
    let vault = lookup::vault(&vaults, &arguments.vault)?;
    let name = match arguments.name {
        Some(name) => name,
        None => console.ask("Type the vault's name to delete it", "give --name")?,
    };
    client.delete_vault(vault.id, &name).await?;
    match console.format {
        Format::Json => console.json(&serde_json::json!({ "id": vault.id, "deleted": true })),
        Format::Table => console.line(&format!("Deleted {} ({}).", printable(&vault.name), vault.id)),
    }
}

pub async fn key_vault(arguments: KeyVault, client: &Client, console: &Console) -> Result<(), Failure> {
    let vaults = client.vaults().await?;
    let vault = lookup::vault(&vaults, &arguments.vault)?;
    let mut request = NewKeyVault {
        vault_url: arguments.vault_url,
        vault_key_name: arguments.vault_key_name,
        tenant_id: arguments.tenant_id,
        client_id: arguments.client_id,
        client_secret: if arguments.client_secret_stdin { Some(secret_from_stdin()?) } else { None },
        client_certificate: arguments.client_certificate.as_deref().map(read_certificate).transpose()?,
        workload_identity: arguments.workload_identity,
        client_secret_expires: arguments.client_secret_expires,
        accept_warnings: AcceptWarnings::All(arguments.accept_warnings),
    };
    if arguments.check {
        let checks = client.check_key_vault(vault.id, &request, |check| print_check(check, console)).await?;
        print_checks(&checks, console)?;
        return verdict(&checks.checks);
    }
    let changed = match client.change_key_vault(vault.id, &request).await {
        Err(ClientError::Problem(problem)) if problem.code == WARNED && console.interactive() => {
            for warning in &problem.errors {
                console.note(&printable(&format!("warning: {} ({})", warning.message, warning.field)));
            }
            if !console.confirm("Change the Key Vault although these warn?")? {
                return Err(Failure::from(*problem));
            }
            request.accept_warnings = shown_warnings(&problem);
            client.change_key_vault(vault.id, &request).await?
        }
        changed => changed?,
    };
    match console.format {
        Format::Json => console.json(&changed),
        Format::Table => console.line(&format!(
            "{} goes to the new key by the job {}. Until it is done, both keys are needed.",
            printable(&changed.vault.name),
            changed.job
        )),
    }
}

//! `strongroom demo key …`: what the customer's Azure administrator does to the key, by requests to (the stand-in's)
//! Key Vault with the administrator's own sign-in.

use std::{fs, path::Path};

use strongroom_keys::azure::Cloud;

use super::{DemoFile, file::key_command};
use crate::{
    azure_setup::{self, Admin, Client, SetupError},
    error::{Error, Result},
};

/// What to do to the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyCommand {
    Disable,
    Enable,
    Rotate,
    Status,
}

pub(super) async fn run(dir: &Path, file: &DemoFile, command: KeyCommand) -> Result<String> {
    let client = administrator(file)?;
    let (url, key) = (file.azure.vault_url.as_str(), file.azure.vault_key_name.as_str());
    let said = match command {
        KeyCommand::Disable => {
            let kids = azure_setup::set_all_enabled(&client, url, key, false).await.map_err(failed)?.join("\n  ");
            let back = key_command(dir, "enable");
            format!("Disabled {kids}\nWithin 15 s nothing of the vault can be read. Bring it back:\n  {back}")
        }
        KeyCommand::Enable => {
            let kids = azure_setup::set_all_enabled(&client, url, key, true).await.map_err(failed)?.join("\n  ");
            format!("Enabled {kids}\nWithin 15 s everything is back.")
        }
        KeyCommand::Rotate => {
            let kid = azure_setup::rotate(&client, url, key).await.map_err(failed)?;
            format!("Made the new key version {kid}\nWhat was wrapped under the older one still opens with it.")
        }
        KeyCommand::Status => {
            let (kid, enabled) = azure_setup::status(&client, url, key).await.map_err(failed)?;
            format!("{kid} is {}", if enabled { "enabled" } else { "disabled" })
        }
    };
    Ok(said)
}

/// The stand-in's administrator, by its proxy and CA.
pub(super) fn administrator(file: &DemoFile) -> Result<Client> {
    let proxy = file.standin.proxy.parse().map_err(|_| Error::Setup {
        what: "demo.json names a proxy that is no URL".into(),
        fix: "Start over with strongroom demo --fresh.".into(),
    })?;
    let ca = fs::read(&file.standin.ca).map_err(|error| Error::Setup {
        what: format!("{} cannot be read: {error}", file.standin.ca).into(),
        fix: "Start the demo again.".into(),
    })?;
    let admin = &file.standin.admin;
    let admin = Admin {
        tenant_id: admin.tenant_id.clone(),
        client_id: admin.client_id.clone(),
        client_secret: admin.client_secret.expose().into(),
        subscription_id: admin.subscription_id.clone(),
    };
    Client::new(admin, Cloud::Public, Some(&proxy), Some(&ca)).map_err(failed)
}

pub(super) fn failed(error: SetupError) -> Error {
    Error::Setup {
        what: error.to_string().into(),
        fix: "Check that the demo is running, then try again; strongroom demo --fresh starts over.".into(),
    }
}

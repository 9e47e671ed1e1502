//! What the customer's administrator does to the key itself: switch it off and on, make a new key version.

use serde_json::{Value, json};

use super::{
    client::{Client, Target, text},
    way::SetupError,
};

/// Switches the newest key version on or off, as the administrator of the Key Vault. Returns its kid.
pub async fn set_enabled(client: &Client, vault_url: &str, key: &str, enabled: bool) -> Result<String, SetupError> {
    let body = json!({"attributes": {"enabled": enabled}});
    let answer = client.send(Target::KeyVault(vault_url), "PATCH", &path(key, ""), Some(body)).await?;
    text(&answer, "/key/kid")
}

/// Makes a new key version. Returns its kid.
pub async fn rotate(client: &Client, vault_url: &str, key: &str) -> Result<String, SetupError> {
    let answer = client.send(Target::KeyVault(vault_url), "POST", &path(key, "/rotate"), Some(json!({}))).await?;
    text(&answer, "/key/kid")
}

/// The newest key version, and whether it is enabled.
pub async fn status(client: &Client, vault_url: &str, key: &str) -> Result<(String, bool), SetupError> {
    let answer = client.send(Target::KeyVault(vault_url), "GET", &path(key, ""), None).await?;
    let enabled = answer.pointer("/attributes/enabled").and_then(Value::as_bool).unwrap_or(false);
    Ok((text(&answer, "/key/kid")?, enabled))
}

fn path(name: &str, rest: &str) -> String {
    format!("/keys/{name}{rest}?api-version=7.4")
}

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

/// Switches every key version of the key on or off: the kill switch, and its way back. Returns their kids.
pub async fn set_all_enabled(
    client: &Client,
    vault_url: &str,
    key: &str,
    enabled: bool,
) -> Result<Vec<String>, SetupError> {
    let mut kids = Vec::new();
    let mut next = path(key, "/versions");
    loop {
        let page = client.send(Target::KeyVault(vault_url), "GET", &next, None).await?;
        let rows = page.get("value").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        kids.extend(rows.iter().filter_map(|row| row.get("kid").and_then(Value::as_str)).map(str::to_owned));
        let link = page.get("nextLink").and_then(Value::as_str).and_then(|link| link.strip_prefix(vault_url));
        match link {
            Some(link) => next = link.to_owned(),
            None => break,
        }
    }
    for kid in &kids {
        let version = kid.rsplit('/').next().unwrap_or_default();
        let body = json!({"attributes": {"enabled": enabled}});
        client.send(Target::KeyVault(vault_url), "PATCH", &path(key, &format!("/{version}")), Some(body)).await?;
    }
    Ok(kids)
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

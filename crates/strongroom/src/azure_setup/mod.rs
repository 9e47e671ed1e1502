//! Steps 1 to 4 of the set-up, done over the wire as an Azure administrator's tools would: an application with a
//! service principal and a client secret (Microsoft Graph), a resource group and a Key Vault with RBAC (Resource
//! Manager), an RSA-4096 key (Key Vault), and the role assignment on that one key.
//!
//! Requests and answers follow Microsoft's REST references: Graph v1.0, Resource Manager (Microsoft.Resources
//! 2024-11-01, Microsoft.KeyVault 2023-07-01, Microsoft.Authorization 2022-04-01), Key Vault 7.4.

mod client;

use std::time::Duration;

use serde_json::{Value, json};
use strongroom_keys::azure::Cloud;
use uuid::Uuid;

pub use self::client::{Admin, Client, SetupError, Target};
use crate::secret_text::SecretText;

/// *Key Vault Crypto Officer*: what the human needs to make a key; Owner and Contributor have no data actions.
const CRYPTO_OFFICER: &str = "14b46e9e-c2b7-41b4-b07b-48a6ebf60603";
/// *Key Vault Crypto Service Encryption User*: read, wrap and unwrap, and nothing else.
const ENCRYPTION_USER: &str = "e147488a-f6f5-4113-8e2d-b22465e65bf6";
/// The least RSA modulus that Strongroom takes.
const KEY_BITS: u32 = 4096;
/// Azure says that a role assignment takes up to ten minutes.
const PROPAGATION: Duration = Duration::from_secs(600);

/// What to make.
#[derive(Debug, Clone)]
pub struct Plan {
    pub application: String,
    pub resource_group: String,
    pub key_vault: String,
    pub location: String,
    pub key: String,
    /// Days that deleted keys stay recoverable, 7 to 90.
    pub retention_days: u32,
}

/// The five values of step 5.
pub struct Values {
    pub client_id: String,
    pub tenant_id: String,
    pub client_secret: SecretText,
    pub vault_url: String,
    pub vault_key_name: String,
}

/// Does steps 1 to 4, telling `progress` before each. What exists already is taken as it is, apart from the client
/// secret, which Azure shows only once: a new one is made.
pub async fn set_up(client: &Client, plan: &Plan, progress: &(dyn Fn(&str) + Sync)) -> Result<Values, SetupError> {
    progress("1. Application, service principal and client secret in Entra ID");
    let application = application(client, &plan.application).await?;
    let principal = service_principal(client, &application.client_id).await?;
    let secret = add_secret(client, &application.object_id).await?;
    progress("2. Resource group and Key Vault, with RBAC and purge protection");
    let group = format!("/subscriptions/{}/resourcegroups/{}", client.subscription(), plan.resource_group);
    client
        .send(Target::Arm, "PUT", &format!("{group}?api-version=2024-11-01"), Some(json!({"location": plan.location})))
        .await?;
    let (vault_id, vault_url) = key_vault(client, &group, plan).await?;
    progress("3. RSA-4096 key, by an administrator who is made Key Vault Crypto Officer first");
    let me = client.object_id().await?;
    assign(client, &vault_id, CRYPTO_OFFICER, &me, "officer").await?;
    key(client, &vault_url, &plan.key).await?;
    progress("4. Key Vault Crypto Service Encryption User for the service principal, on that one key");
    let key_scope = format!("{vault_id}/keys/{}", plan.key);
    assign(client, &key_scope, ENCRYPTION_USER, &principal, "service").await?;
    Ok(Values {
        client_id: application.client_id,
        tenant_id: client.tenant().to_owned(),
        client_secret: secret,
        vault_url,
        vault_key_name: plan.key.clone(),
    })
}

/// Switches the newest key version on or off, as the administrator of the Key Vault.
pub async fn set_enabled(client: &Client, vault_url: &str, key: &str, enabled: bool) -> Result<String, SetupError> {
    let body = json!({"attributes": {"enabled": enabled}});
    let answer = client.send(Target::KeyVault(vault_url), "PATCH", &key_path(key, ""), Some(body)).await?;
    text(&answer, "/key/kid")
}

/// Makes a new key version.
pub async fn rotate(client: &Client, vault_url: &str, key: &str) -> Result<String, SetupError> {
    let answer = client.send(Target::KeyVault(vault_url), "POST", &key_path(key, "/rotate"), Some(json!({}))).await?;
    text(&answer, "/key/kid")
}

/// The newest key version, and whether it is enabled.
pub async fn status(client: &Client, vault_url: &str, key: &str) -> Result<(String, bool), SetupError> {
    let answer = client.send(Target::KeyVault(vault_url), "GET", &key_path(key, ""), None).await?;
    let enabled = answer.pointer("/attributes/enabled").and_then(Value::as_bool).unwrap_or(false);
    Ok((text(&answer, "/key/kid")?, enabled))
}

struct Application {
    client_id: String,
    object_id: String,
}

async fn application(client: &Client, name: &str) -> Result<Application, SetupError> {
    let filter = format!("/v1.0/applications?$filter=displayName eq '{}'", name.replace('\'', "''"));
    let found = client.send(Target::Graph, "GET", &filter, None).await?;
    let application = match found.pointer("/value/0") {
        Some(application) => application.clone(),
        None => client.send(Target::Graph, "POST", "/v1.0/applications", Some(json!({"displayName": name}))).await?,
    };
    Ok(Application { client_id: text(&application, "/appId")?, object_id: text(&application, "/id")? })
}

async fn service_principal(client: &Client, client_id: &str) -> Result<String, SetupError> {
    let filter = format!("/v1.0/servicePrincipals?$filter=appId eq '{client_id}'");
    let found = client.send(Target::Graph, "GET", &filter, None).await?;
    if let Some(principal) = found.pointer("/value/0") {
        return text(principal, "/id");
    }
    let body = json!({"appId": client_id, "accountEnabled": true});
    let principal = client.send(Target::Graph, "POST", "/v1.0/servicePrincipals", Some(body)).await?;
    text(&principal, "/id")
}

async fn add_secret(client: &Client, application: &str) -> Result<SecretText, SetupError> {
    let path = format!("/v1.0/applications/{application}/addPassword");
    let body = json!({"passwordCredential": {"displayName": "Strongroom"}});
    let answer = client.send(Target::Graph, "POST", &path, Some(body)).await?;
    text(&answer, "/secretText").map(SecretText::from)
}

async fn key_vault(client: &Client, group: &str, plan: &Plan) -> Result<(String, String), SetupError> {
    let path = format!("{group}/providers/Microsoft.KeyVault/vaults/{}?api-version=2023-07-01", plan.key_vault);
    let vault = match client.send(Target::Arm, "GET", &path, None).await {
        Ok(vault) => vault,
        Err(error) if error.is_not_found() => {
            let body = json!({
                "location": plan.location,
                "properties": {
                    "tenantId": client.tenant(),
                    "sku": {"family": "A", "name": "standard"},
                    "enableRbacAuthorization": true,
                    "enableSoftDelete": true,
                    "softDeleteRetentionInDays": plan.retention_days,
                    "enablePurgeProtection": true,
                },
            });
            client.send(Target::Arm, "PUT", &path, Some(body)).await?
        }
        Err(error) => return Err(error),
    };
    let url = text(&vault, "/properties/vaultUri")?;
    Ok((text(&vault, "/id")?, url.trim_end_matches('/').to_owned()))
}

/// Makes the key, or takes the one that is there. A fresh role assignment may take minutes to count.
async fn key(client: &Client, vault_url: &str, name: &str) -> Result<(), SetupError> {
    let started = std::time::Instant::now();
    loop {
        let made = match client.send(Target::KeyVault(vault_url), "GET", &key_path(name, ""), None).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_not_found() => {
                let body = json!({"kty": "RSA", "key_size": KEY_BITS, "key_ops": ["wrapKey", "unwrapKey"]});
                client.send(Target::KeyVault(vault_url), "POST", &key_path(name, "/create"), Some(body)).await
            }
            Err(error) => Err(error),
        };
        match made {
            Ok(_) => return Ok(()),
            Err(error) if error.is_forbidden() && started.elapsed() < PROPAGATION => {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Assigns a role; the same assignment twice is one.
async fn assign(client: &Client, scope: &str, role: &str, principal: &str, purpose: &str) -> Result<(), SetupError> {
    // A name made of what is assigned lets a second run find the first one's assignment.
    let digest = strongroom_envelope::digest(format!("{scope}|{role}|{principal}|{purpose}").as_bytes());
    let name = uuid::Builder::from_custom_bytes(digest[..16].try_into().expect("16 of 32 bytes")).into_uuid();
    let path = format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{name}?api-version=2022-04-01");
    let definition = format!(
        "/subscriptions/{}/providers/Microsoft.Authorization/roleDefinitions/{}",
        client.subscription(),
        Uuid::parse_str(role).expect("a constant of this file")
    );
    let properties = json!({
        "roleDefinitionId": definition, "principalId": principal, "principalType": "ServicePrincipal",
    });
    let answer = client.send(Target::Arm, "PUT", &path, Some(json!({"properties": properties}))).await;
    match answer {
        Err(error) if error.code() == Some("RoleAssignmentExists") => Ok(()),
        other => other.map(|_| ()),
    }
}

fn key_path(name: &str, rest: &str) -> String {
    format!("/keys/{name}{rest}?api-version=7.4")
}

fn text(answer: &Value, pointer: &str) -> Result<String, SetupError> {
    let found = answer.pointer(pointer).and_then(Value::as_str);
    found.map(str::to_owned).ok_or_else(|| SetupError::answer(format!("Azure's answer lacks {pointer}")))
}

/// The public cloud's names; the others differ in their hosts.
pub(crate) fn hosts(cloud: Cloud) -> (&'static str, &'static str, &'static str) {
    match cloud {
        Cloud::Public => ("graph.microsoft.com", "management.azure.com", "vault.azure.net"),
        Cloud::Government => ("graph.microsoft.us", "management.usgovcloudapi.net", "vault.usgovcloudapi.net"),
        Cloud::China => ("microsoftgraph.chinacloudapi.cn", "management.chinacloudapi.cn", "vault.azure.cn"),
    }
}

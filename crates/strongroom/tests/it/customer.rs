//! What the customer does at Azure, by requests of their administrator over the wire.

use serde_json::{Value, json};
use strongroom::azure_setup::Target;

use crate::azure::AzureWorld;

/// Key Vault Crypto Service Encryption User.
const SERVICE_ENCRYPTION_USER: &str = "e147488a-f6f5-4113-8e2d-b22465e65bf6";
/// Key Vault Crypto Officer.
const CRYPTO_OFFICER: &str = "14b46e9e-c2b7-41b4-b07b-48a6ebf60603";
/// Key Vault Crypto User.
const CRYPTO_USER: &str = "12338af0-0e69-4776-bea7-57ae8d297424";
const ASSIGNMENTS: &str = "/providers/Microsoft.Authorization/roleAssignments";

/// A role assignment, as it was before it was removed.
pub struct Assignment {
    id: String,
    properties: Value,
}

impl AzureWorld {
    /// Changes the newest key version: `{"attributes": …}` or `{"key_ops": …}`.
    pub async fn change_key(&self, change: Value) {
        self.key_vault("PATCH", &self.key_path(), change).await;
    }

    pub async fn delete_key(&self) {
        self.key_vault("DELETE", &self.key_path(), Value::Null).await;
    }

    pub async fn recover_key(&self) {
        self.key_vault("POST", &format!("/deletedkeys/{}/recover", self.values.vault_key_name), json!({})).await;
    }

    /// Takes the application's role on the key away.
    pub async fn remove_role(&self) -> Assignment {
        let path = format!("{}{ASSIGNMENTS}?$filter=atScope()&api-version=2022-04-01", self.key_id());
        let answer = self.arm("GET", &path, Value::Null).await;
        let rows = answer["value"].as_array().cloned().unwrap_or_default();
        let ours = |row: &&Value| {
            let role = row.pointer("/properties/roleDefinitionId").and_then(Value::as_str);
            role.is_some_and(|role| role.ends_with(SERVICE_ENCRYPTION_USER))
        };
        let found = rows.iter().find(ours).expect("step 4 assigned it");
        let id = found["id"].as_str().expect("an id").to_owned();
        self.arm("DELETE", &format!("{id}?api-version=2022-04-01"), Value::Null).await;
        let property = |name: &str| found["properties"][name].clone();
        let properties = json!({"roleDefinitionId": property("roleDefinitionId"),
            "principalId": property("principalId"), "principalType": "ServicePrincipal"});
        Assignment { id, properties }
    }

    pub async fn assign_again(&self, assignment: &Assignment) {
        let body = json!({"properties": assignment.properties});
        self.arm("PUT", &format!("{}?api-version=2022-04-01", assignment.id), body).await;
    }

    /// Gives the application more than it needs, as the article does: it may sign, too.
    pub async fn assign_crypto_user(&self) {
        let subscription = &self.standin.admin().subscription_id;
        let role =
            format!("/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{CRYPTO_USER}");
        let path = format!("{}{ASSIGNMENTS}/{}?api-version=2022-04-01", self.key_id(), uuid::Uuid::new_v4());
        let properties = json!({"roleDefinitionId": role, "principalId": self.principal().await,
            "principalType": "ServicePrincipal"});
        self.arm("PUT", &path, json!({"properties": properties})).await;
    }

    /// Gives the administrator the right to change keys back, which goes with a deleted Key Vault.
    pub async fn become_officer_again(&self) {
        let admin = self.standin.admin();
        let role = format!(
            "/subscriptions/{}/providers/Microsoft.Authorization/roleDefinitions/{CRYPTO_OFFICER}",
            admin.subscription_id
        );
        let path = format!("{}{ASSIGNMENTS}/{}?api-version=2022-04-01", self.key_vault_id(), uuid::Uuid::new_v4());
        let properties = json!({"roleDefinitionId": role, "principalId": admin.object_id,
            "principalType": "ServicePrincipal"});
        self.arm("PUT", &path, json!({"properties": properties})).await;
    }

    pub async fn delete_key_vault(&self) {
        self.arm("DELETE", &format!("{}?api-version=2023-07-01", self.key_vault_id()), Value::Null).await;
    }

    pub async fn recover_key_vault(&self) {
        let properties = json!({"tenantId": self.values.tenant_id, "createMode": "recover",
            "sku": {"family": "A", "name": "standard"}});
        let body = json!({"location": "westeurope", "properties": properties});
        self.arm("PUT", &format!("{}?api-version=2023-07-01", self.key_vault_id()), body).await;
    }

    /// Switches the application's service principal off or on.
    pub async fn enable_application(&self, enabled: bool) {
        let principal = self.principal().await;
        self.graph("PATCH", &format!("/v1.0/servicePrincipals/{principal}"), json!({"accountEnabled": enabled})).await;
    }

    async fn principal(&self) -> String {
        let path = format!("/v1.0/servicePrincipals?$filter=appId%20eq%20'{}'", self.values.client_id);
        let answer = self.graph("GET", &path, Value::Null).await;
        answer.pointer("/value/0/id").and_then(Value::as_str).expect("step 1 made it").to_owned()
    }

    fn key_path(&self) -> String {
        format!("/keys/{}", self.values.vault_key_name)
    }

    fn key_vault_id(&self) -> String {
        let subscription = &self.standin.admin().subscription_id;
        format!("/subscriptions/{subscription}/resourceGroups/keys/providers/Microsoft.KeyVault/vaults/customer-keys")
    }

    fn key_id(&self) -> String {
        format!("{}{}", self.key_vault_id(), self.key_path())
    }

    async fn key_vault(&self, method: &str, path: &str, body: Value) -> Value {
        self.ask(Target::KeyVault(&self.values.vault_url), method, &format!("{path}?api-version=7.4"), body).await
    }

    async fn arm(&self, method: &str, path: &str, body: Value) -> Value {
        self.ask(Target::Arm, method, path, body).await
    }

    async fn graph(&self, method: &str, path: &str, body: Value) -> Value {
        self.ask(Target::Graph, method, path, body).await
    }

    async fn ask(&self, target: Target<'_>, method: &str, path: &str, body: Value) -> Value {
        let body = Some(body).filter(|body| !body.is_null());
        let answer = self.administrator.send(target, method, path, body).await;
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }
}

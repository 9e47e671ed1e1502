//! Resource group, Key Vault and key: Resource Manager (Microsoft.Resources 2024-11-01, Microsoft.KeyVault 2023-07-01)
//! and Key Vault 7.4.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    client::{Request, Target, text},
    plan::Plan,
    step::{Facts, Found, Part, Step},
    way::{Kind, SetupError},
};
use crate::vault::REQUIRED_BITS;

/// Key Vault switched on in the subscription: a new one has it off.
pub(super) struct Provider;

impl Step for Provider {
    fn part(&self) -> Part {
        Part::KeyVault
    }

    fn thing(&self, _: &Plan) -> String {
        "resource provider Microsoft.KeyVault".to_owned()
    }

    fn why(&self, _: &Plan) -> &'static str {
        "a subscription without it makes no Key Vault"
    }

    fn look<'a>(&self, _: &Plan, facts: &'a Facts) -> Option<Request<'a>> {
        Some(arm("GET", format!("/subscriptions/{}/providers/Microsoft.KeyVault", facts.subscription), "2024-11-01"))
    }

    fn read(&self, _: &Plan, answer: &Value, _: &mut Facts) -> Result<Found, SetupError> {
        let registered = answer.get("registrationState").and_then(Value::as_str) == Some("Registered");
        Ok(if registered { Found::There(Vec::new()) } else { Found::Missing })
    }

    fn make<'a>(&self, _: &Plan, facts: &'a Facts) -> Request<'a> {
        let path = format!("/subscriptions/{}/providers/Microsoft.KeyVault/register", facts.subscription);
        arm("POST", path, "2024-11-01")
    }

    fn made(&self, _: &Value, _: &mut Facts) -> Result<(), SetupError> {
        Ok(())
    }

    fn script(&self, _: &Plan) -> String {
        "az provider register --namespace Microsoft.KeyVault --wait --output none\n".to_owned()
    }
}

pub(super) struct ResourceGroup;

impl Step for ResourceGroup {
    fn part(&self) -> Part {
        Part::KeyVault
    }

    fn thing(&self, plan: &Plan) -> String {
        format!("resource group {}", plan.resource_group)
    }

    fn why(&self, _: &Plan) -> &'static str {
        "where the Key Vault is kept"
    }

    fn look<'a>(&self, plan: &Plan, facts: &'a Facts) -> Option<Request<'a>> {
        Some(arm("GET", facts.group_scope(plan), "2024-11-01"))
    }

    fn read(&self, _: &Plan, _: &Value, _: &mut Facts) -> Result<Found, SetupError> {
        // It may lie elsewhere than the Key Vault: its location is only where Azure keeps its description.
        Ok(Found::There(Vec::new()))
    }

    fn make<'a>(&self, plan: &Plan, facts: &'a Facts) -> Request<'a> {
        let body = json!({"location": plan.location});
        Request { body: Some(body), ..arm("PUT", facts.group_scope(plan), "2024-11-01") }
    }

    fn made(&self, _: &Value, _: &mut Facts) -> Result<(), SetupError> {
        Ok(())
    }

    fn script(&self, _: &Plan) -> String {
        "FOUND=$(az group exists --name \"$RESOURCE_GROUP\")\n\
         if [ \"$FOUND\" = false ]; then\n  \
           az group create --name \"$RESOURCE_GROUP\" --location \"$LOCATION\" --output none\n\
         fi\n"
            .to_owned()
    }
}

pub(super) struct KeyVault;

impl Step for KeyVault {
    fn part(&self) -> Part {
        Part::KeyVault
    }

    fn thing(&self, plan: &Plan) -> String {
        format!("Key Vault {}", plan.key_vault)
    }

    fn why(&self, plan: &Plan) -> &'static str {
        if plan.hsm {
            "holds the key in hardware; Azure RBAC decides who may use it, and nobody can purge it by mistake"
        } else {
            "holds the key; Azure RBAC decides who may use it, and nobody can purge it by mistake"
        }
    }

    fn look<'a>(&self, plan: &Plan, facts: &'a Facts) -> Option<Request<'a>> {
        Some(arm("GET", facts.vault_scope(plan), "2023-07-01"))
    }

    fn read(&self, plan: &Plan, answer: &Value, facts: &mut Facts) -> Result<Found, SetupError> {
        let name = &plan.key_vault;
        let property = |name: &str| answer.get("properties").and_then(|found| found.get(name));
        let stop =
            |what: String, command: String| Err(SetupError::answer(format!("Key Vault {name} {what}")).advise(command));
        if let Some(tenant) = property("tenantId").and_then(Value::as_str).filter(|tenant| *tenant != facts.tenant) {
            return stop(
                format!("belongs to tenant {tenant}, and you are signed in to {}", facts.tenant),
                format!("sign in to that tenant (--tenant {tenant}), or choose another --key-vault"),
            );
        }
        if property("enableRbacAuthorization") != Some(&Value::Bool(true)) {
            return stop(
                "decides by access policies, where no role counts; it is left as it is".to_owned(),
                format!(
                    "choose another --key-vault, or switch this one to Azure RBAC, which ends all its access policies:\n\
                     az keyvault update --name {name} --enable-rbac-authorization true"
                ),
            );
        }
        let sku = answer.pointer("/properties/sku/name").and_then(Value::as_str).unwrap_or_default();
        if plan.hsm && !sku.eq_ignore_ascii_case("premium") {
            return stop(
                "is of the Standard tier, which has no HSM keys; it is left as it is".to_owned(),
                format!(
                    "choose another --key-vault, leave --hsm out, or change its tier:\n\
                     az keyvault update --name {name} --set properties.sku.name=premium"
                ),
            );
        }
        let mut remarks = Vec::new();
        if property("enablePurgeProtection") != Some(&Value::Bool(true)) {
            remarks.push(format!(
                "it has no purge protection: one command can destroy the key and all that it protects. Turn it on, \
                 which cannot be undone: az keyvault update --name {name} --enable-purge-protection true"
            ));
        }
        self.made(answer, facts)?;
        Ok(Found::There(remarks))
    }

    fn make<'a>(&self, plan: &Plan, facts: &'a Facts) -> Request<'a> {
        let body = json!({
            "location": plan.location,
            "properties": {
                "tenantId": facts.tenant,
                "sku": {"family": "A", "name": plan.sku()},
                "enableRbacAuthorization": true,
                "enableSoftDelete": true,
                "softDeleteRetentionInDays": plan.retention_days,
                "enablePurgeProtection": true,
            },
        });
        Request { body: Some(body), ..arm("PUT", facts.vault_scope(plan), "2023-07-01") }
    }

    fn made(&self, answer: &Value, facts: &mut Facts) -> Result<(), SetupError> {
        facts.vault_url = Some(text(answer, "/properties/vaultUri")?.trim_end_matches('/').to_owned());
        Ok(())
    }

    fn waits_for(&self, error: &SetupError) -> Option<&'static str> {
        error.is_code("MissingSubscriptionRegistration").then_some("Microsoft.KeyVault to be registered")
    }

    fn advice(&self, plan: &Plan, error: &SetupError) -> Option<String> {
        let name = &plan.key_vault;
        if error.is_code("ConflictError") || error.says("deleted state") {
            return Some(format!(
                "a Key Vault of this name was deleted and can still be recovered. Choose another --key-vault, or bring it \
                 back with its keys:\naz keyvault recover --name {name} --location LOCATION\n\
                 Then run this again, since its role assignments do not come back with it"
            ));
        }
        error.is_code("VaultAlreadyExists").then(|| {
            format!(
                "the names of Key Vaults are unique in all of Azure, and {name} is taken: by somebody else, by another \
                 resource group or subscription of yours, or by a deleted one. Choose another --key-vault, or name its \
                 --resource-group. What you have:\n\
                 az keyvault list --query \"[?name=='{name}'].resourceGroup\"\naz keyvault list-deleted"
            )
        })
    }

    fn script(&self, plan: &Plan) -> String {
        format!(
            "KEY_VAULT_ID=$(az keyvault list --resource-group \"$RESOURCE_GROUP\" \\\n    \
               --query \"[?name=='$KEY_VAULT'].id\" --output tsv)\n\
             if [ -z \"$KEY_VAULT_ID\" ]; then\n  \
               KEY_VAULT_ID=$(az keyvault create --name \"$KEY_VAULT\" --resource-group \"$RESOURCE_GROUP\" \\\n    \
                 --location \"$LOCATION\" --sku {} --enable-rbac-authorization true --retention-days {} \\\n    \
                 --enable-purge-protection true --query id --output tsv)\n\
             else\n  \
               RBAC=$(az keyvault show --name \"$KEY_VAULT\" --query properties.enableRbacAuthorization --output tsv)\n  \
               if [ \"$RBAC\" != true ]; then\n    \
                 echo \"$KEY_VAULT decides by access policies, where no role counts. It is left as it is.\" >&2\n    \
                 exit 1\n  \
               fi\n\
             fi\n\
             VAULT_URL=$(az keyvault show --name \"$KEY_VAULT\" --query properties.vaultUri --output tsv)\n",
            plan.sku(),
            plan.retention_days
        )
    }
}

pub(super) struct Key;

impl Step for Key {
    fn part(&self) -> Part {
        Part::Key
    }

    fn thing(&self, plan: &Plan) -> String {
        format!("{}-{REQUIRED_BITS} key {}", plan.key_type(), plan.key)
    }

    fn why(&self, _: &Plan) -> &'static str {
        "wraps the vault's key, good for nothing else; it never leaves the Key Vault"
    }

    fn look<'a>(&self, plan: &Plan, facts: &'a Facts) -> Option<Request<'a>> {
        facts.vault_url.as_deref().map(|url| key_request(url, "GET", format!("/keys/{}", plan.key)))
    }

    fn read(&self, plan: &Plan, answer: &Value, _: &mut Facts) -> Result<Found, SetupError> {
        let (name, vault) = (&plan.key, &plan.key_vault);
        let word = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let modulus = URL_SAFE_NO_PAD.decode(word("/key/n")).unwrap_or_default();
        let bits = modulus.iter().skip_while(|byte| **byte == 0).count() * 8;
        let kind = word("/key/kty");
        if !["RSA", "RSA-HSM"].contains(&kind) || bits < REQUIRED_BITS as usize {
            let size = if bits == 0 { String::new() } else { format!("-{bits}") };
            let message = format!("the key {name} is {kind}{size}, and {}-{REQUIRED_BITS} is needed", plan.key_type());
            return Err(SetupError::answer(message).advise("choose another name with --key"));
        }
        let set = format!("az keyvault key set-attributes --vault-name {vault} --name {name}");
        let operations = answer.pointer("/key/key_ops").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut remarks = Vec::new();
        if plan.hsm && kind != "RSA-HSM" {
            remarks.push("it is a software key; --hsm makes one in hardware only under another --key".to_owned());
        }
        if answer.pointer("/attributes/enabled") == Some(&Value::Bool(false)) {
            remarks.push(format!("it is disabled. Enable it: {set} --enabled true"));
        }
        if !["wrapKey", "unwrapKey"].iter().all(|needed| operations.iter().any(|found| found == needed)) {
            remarks.push(format!("it does not permit wrapping. Permit it: {set} --ops wrapKey unwrapKey"));
        }
        Ok(Found::There(remarks))
    }

    fn make<'a>(&self, plan: &Plan, facts: &'a Facts) -> Request<'a> {
        let body = json!({"kty": plan.key_type(), "key_size": REQUIRED_BITS, "key_ops": ["wrapKey", "unwrapKey"]});
        Request { body: Some(body), ..key_request(facts.vault_url(), "POST", format!("/keys/{}/create", plan.key)) }
    }

    fn made(&self, _: &Value, _: &mut Facts) -> Result<(), SetupError> {
        Ok(())
    }

    fn waits_for(&self, error: &SetupError) -> Option<&'static str> {
        match error.kind() {
            Kind::Denied if error.inner() == Some("ForbiddenByRbac") => Some("Key Vault Crypto Officer to count"),
            Kind::Unreachable if error.is_unknown_host() => Some("the Key Vault's host name to be known"),
            _ => None,
        }
    }

    fn advice(&self, plan: &Plan, error: &SetupError) -> Option<String> {
        let name = &plan.key_vault;
        match error.inner() {
            Some("ForbiddenByFirewall") => {
                return Some(format!(
                    "the Key Vault's firewall lets this machine not in: run this where it does, or let it in:\n\
                     az keyvault network-rule add --name {name} --ip-address YOUR-ADDRESS"
                ));
            }
            Some("ForbiddenByConnection") => {
                return Some(
                    "the Key Vault answers over its private endpoint only: run this inside that network".into(),
                );
            }
            _ => {}
        }
        error.is_conflict().then(|| {
            format!(
                "a key of this name was deleted and can still be recovered. Choose another --key, or recover it:\n\
                 az keyvault key recover --vault-name {} --name {}",
                plan.key_vault, plan.key
            )
        })
    }

    fn script(&self, plan: &Plan) -> String {
        format!(
            "FOUND=$(patiently az keyvault key list --vault-name \"$KEY_VAULT\" --query \"[?name=='$KEY'].name\" --output tsv)\n\
             if [ -z \"$FOUND\" ]; then\n  \
               patiently az keyvault key create --vault-name \"$KEY_VAULT\" --name \"$KEY\" --kty {} --size {REQUIRED_BITS} \\\n    \
                 --ops wrapKey unwrapKey --output none\n\
             else\n  \
               # In base64 the modulus has so many letters or more; other types of key have none.\n  \
               MODULUS=$(az keyvault key show --vault-name \"$KEY_VAULT\" --name \"$KEY\" --query key.n --output tsv)\n  \
               if [ \"${{#MODULUS}}\" -lt {} ]; then\n    \
                 echo \"The key $KEY is there, and is no RSA key of {REQUIRED_BITS} bits. It is left as it is: choose another --key.\" >&2\n    \
                 exit 1\n  \
               fi\n\
             fi\n",
            plan.key_type(),
            (REQUIRED_BITS / 8 * 4).div_ceil(3)
        )
    }
}

fn key_request<'a>(url: &'a str, method: &'static str, path: String) -> Request<'a> {
    let query = vec![("api-version", "7.4".to_owned())];
    Request { target: Target::KeyVault(url), method, path, query, body: None }
}

pub(super) fn arm(method: &'static str, path: String, api_version: &str) -> Request<'static> {
    Request { target: Target::Arm, method, path, query: vec![("api-version", api_version.to_owned())], body: None }
}

//! `Microsoft.KeyVault` in Resource Manager: Key Vaults and deleted Key Vaults.
//! Source: learn.microsoft.com/rest/api/keyvault/keyvault/vaults.

use serde_json::{Value, json};

use super::roles::quoted_after;
use super::{Call, error, find_group, no_route};
use crate::graph::iso;
use crate::http::{Answer, Reply, new_id};
use crate::rbac;
use crate::state::{Deleted, State, Vault};

const READ: &str = "Microsoft.KeyVault/vaults/read";

/// `path` and `lower` (its lower case) follow the subscription.
pub(super) fn handle(call: &Call, path: &[&str], lower: &[&str]) -> Answer {
    match (call.request.method.as_str(), lower) {
        ("GET", ["providers", _, "vaults"]) => list(call, None),
        ("GET", ["resourcegroups", group, _, _, "vaults"]) => list(call, Some(group)),
        ("GET", ["resourcegroups", group, _, _, "vaults", name]) => call.world.read(|state| {
            call.permit(state, READ, &scope(state, group, name))?;
            Ok(Reply::json(200, &vault_json(state, find(state, group, name)?)))
        }),
        ("PUT", ["resourcegroups", _, _, _, "vaults", _]) => put(call, path[1], path[5]),
        ("PATCH", ["resourcegroups", group, _, _, "vaults", name]) => {
            let body = call.body()?;
            call.world.write(|state| {
                call.permit(state, "Microsoft.KeyVault/vaults/write", &scope(state, group, name))?;
                find(state, group, name)?;
                change(state, name, &body)
            })
        }
        ("DELETE", ["resourcegroups", group, _, _, "vaults", name]) => call.world.write(|state| {
            call.permit(state, "Microsoft.KeyVault/vaults/delete", &scope(state, group, name))?;
            let name = find(state, group, name)?.name.clone();
            soft_delete(state, call.world.now(), &name);
            Ok(Reply::empty(200))
        }),
        // Managed HSMs exist in Azure; this subscription has none.
        ("GET", ["providers", _, "managedhsms" | "deletedmanagedhsms"])
        | ("GET", ["resourcegroups", _, _, _, "managedhsms"]) => call.world.read(|state| {
            let scope = format!("/subscriptions/{}", state.subscription);
            call.permit(state, "Microsoft.KeyVault/managedHSMs/read", &scope)?;
            Ok(Reply::json(200, &json!({"value": []})))
        }),
        ("GET", ["providers", _, "deletedvaults"]) => call.world.read(|state| {
            let scope = format!("/subscriptions/{}", state.subscription);
            call.permit(state, "Microsoft.KeyVault/deletedVaults/read", &scope)?;
            call.page(state.vaults.iter().filter_map(|vault| deleted_json(state, vault)).collect())
        }),
        ("GET", ["providers", _, "locations", location, "deletedvaults", name]) => call.world.read(|state| {
            let scope = format!("/subscriptions/{}", state.subscription);
            call.permit(state, "Microsoft.KeyVault/locations/deletedVaults/read", &scope)?;
            let found = find_deleted(state, location, name)?;
            Ok(Reply::json(200, &deleted_json(state, found).unwrap_or_default()))
        }),
        ("POST", ["providers", _, "locations", location, "deletedvaults", name, "purge"]) => {
            call.world.write(|state| purge(call, state, location, name))
        }
        _ => Err(no_route(call.request)),
    }
}

/// `GET /subscriptions/{s}/resources`: Key Vaults are the only resources here.
pub(super) fn resources(call: &Call) -> Answer {
    let filter = call.request.query("$filter").unwrap_or_default();
    let kind = quoted_after(filter, "resourceType eq ");
    let name = quoted_after(filter, " name eq ");
    call.world.read(|state| {
        let subscription = format!("/subscriptions/{}", state.subscription);
        call.permit(state, "Microsoft.Resources/subscriptions/resources/read", &subscription)?;
        let wanted = kind.is_none_or(|kind| kind.eq_ignore_ascii_case("Microsoft.KeyVault/vaults"));
        let rows = state
            .vaults
            .iter()
            .filter(|vault| wanted && vault.deleted.is_none())
            .filter(|vault| name.as_ref().is_none_or(|name| vault.name.eq_ignore_ascii_case(name)))
            .map(|vault| {
                json!({
                    "id": vault.id(&state.subscription), "name": vault.name, "type": "Microsoft.KeyVault/vaults",
                    "location": vault.location, "tags": vault.tags,
                })
            });
        call.page(rows.collect())
    })
}

fn list(call: &Call, group: Option<&str>) -> Answer {
    call.world.read(|state| {
        let mut scope = format!("/subscriptions/{}", state.subscription);
        if let Some(group) = group {
            scope = format!("{scope}/resourceGroups/{}", find_group(state, group)?.name);
        }
        call.permit(state, READ, &scope)?;
        let inside = |vault: &&Vault| vault.deleted.is_none() && rbac::within(&vault.id(&state.subscription), &scope);
        call.page(state.vaults.iter().filter(inside).map(|vault| vault_json(state, vault)).collect())
    })
}

/// Creates, updates or (with `createMode` "recover") recovers a Key Vault.
fn put(call: &Call, group: &str, name: &str) -> Answer {
    let body = call.body()?;
    let dated = call.request.query("api-version").unwrap_or_default();
    // Since this API version, RBAC is what a Key Vault gets when the request does not say.
    let rbac_default = dated >= "2026-02-01";
    call.world.write(|state| {
        call.permit(state, "Microsoft.KeyVault/vaults/write", &scope(state, group, name))?;
        let group = find_group(state, group)?.name.clone();
        if !is_vault_name(name) {
            let message = format!(
                "The vault name '{name}' is invalid. A vault's name must be between 3-24 alphanumeric characters. The \
                 name must begin with a letter, end with a letter or digit, and not contain consecutive hyphens. Follow \
                 this link for more information: https://go.microsoft.com/fwlink/?linkid=2147742"
            );
            return Err(error(400, "VaultNameNotValid", &message));
        }
        let Some(at) = state.vaults.iter().position(|vault| vault.name.eq_ignore_ascii_case(name)) else {
            return create(state, &group, name, &body, rbac_default);
        };
        if state.vaults[at].deleted.is_some() {
            if body["properties"]["createMode"] != "recover" {
                let message = "A vault with the same name already exists in deleted state. You need to either recover \
                               or purge existing key vault. Follow this link https://go.microsoft.com/fwlink/?linkid=2149745 \
                               for more information on soft delete.";
                return Err(error(409, "ConflictError", message));
            }
            state.vaults[at].deleted = None;
            return Ok(Reply::json(200, &vault_json(state, &state.vaults[at])));
        }
        if !state.vaults[at].group.eq_ignore_ascii_case(&group) {
            let message = format!(
                "The vault name '{name}' is already in use. Vault names are globally unique so it is possible that the \
                 name is already taken. If you are sure that the vault name was not taken then it is possible that a \
                 vault with the same name was recently deleted but not purged after being placed in a recoverable state."
            );
            return Err(error(409, "VaultAlreadyExists", &message));
        }
        change(state, name, &body)
    })
}

fn create(state: &mut State, group: &str, name: &str, body: &Value, rbac_default: bool) -> Answer {
    let Some(location) = body["location"].as_str() else {
        return Err(error(400, "LocationRequired", "The location property is required for this definition."));
    };
    let given = &body["properties"];
    if given["tenantId"].as_str().is_none_or(|tenant| state.tenant(tenant).is_none()) {
        return Err(bad_request("An invalid value was provided for 'tenantId'."));
    }
    let mut properties = json!({
        "sku": {"family": "A", "name": "standard"},
        "accessPolicies": [],
        "enabledForDeployment": false,
        "enabledForDiskEncryption": false,
        "enabledForTemplateDeployment": false,
        "enableSoftDelete": true,
        "softDeleteRetentionInDays": 90,
        "enableRbacAuthorization": rbac_default,
        "publicNetworkAccess": "Enabled",
        "vaultUri": format!("https://{}.vault.azure.net/", name.to_ascii_lowercase()),
        "provisioningState": "Succeeded",
    });
    merge(&mut properties, given, true)?;
    let days = properties["softDeleteRetentionInDays"].as_i64().unwrap_or(0);
    if !(7..=90).contains(&days) {
        return Err(bad_request("The property \"softDeleteRetentionInDays\" must be between 7 and 90."));
    }
    let tags = if body["tags"].is_object() { body["tags"].clone() } else { json!({}) };
    let vault = Vault {
        name: name.to_owned(),
        group: group.to_owned(),
        location: location.to_owned(),
        tags,
        properties,
        deleted: None,
        keys: Vec::new(),
    };
    let shown = vault_json(state, &vault);
    state.vaults.push(vault);
    Ok(Reply::json(200, &shown))
}

fn change(state: &mut State, name: &str, body: &Value) -> Answer {
    if let Some(vault) = state.vault_mut(name) {
        let mut properties = vault.properties.clone();
        merge(&mut properties, &body["properties"], false)?;
        vault.properties = properties;
        if body["tags"].is_object() {
            vault.tags = body["tags"].clone();
        }
    }
    let vault = state.vault(name).ok_or_else(|| error(404, "VaultNotFound", "The vault was not found."))?;
    Ok(Reply::json(200, &vault_json(state, vault)))
}

/// Lays what is given over what is there, and refuses to take back what cannot be taken back.
fn merge(properties: &mut Value, given: &Value, new: bool) -> Result<(), Reply> {
    for (name, value) in given.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            "vaultUri" | "provisioningState" | "createMode" => continue,
            "enablePurgeProtection" if properties[name] == true && value == false => {
                return Err(bad_request(
                    "The property \"enablePurgeProtection\" cannot be set to false. Enabling the purge protection for a \
                     vault is an irreversible action.",
                ));
            }
            "softDeleteRetentionInDays" if !new && properties[name] != *value => {
                return Err(bad_request(
                    "The property \"softDeleteRetentionInDays\" has been set already and it can't be modified.",
                ));
            }
            _ => properties[name.as_str()] = value.clone(),
        }
    }
    Ok(())
}

fn purge(call: &Call, state: &mut State, location: &str, name: &str) -> Answer {
    let subscription = format!("/subscriptions/{}", state.subscription);
    call.permit(state, "Microsoft.KeyVault/locations/deletedVaults/purge/action", &subscription)?;
    let found = find_deleted(state, location, name)?;
    if found.flag("enablePurgeProtection") {
        return Err(error(405, "MethodNotAllowed", "Operation 'DeletedVaultPurge' is not allowed."));
    }
    state.vaults.retain(|vault| !vault.name.eq_ignore_ascii_case(name));
    Ok(Reply::empty(200))
}

/// Marks the Key Vault as deleted. Role assignments on it and below go for good, as in Azure.
fn soft_delete(state: &mut State, now: i64, name: &str) {
    let subscription = state.subscription.clone();
    let Some(vault) = state.vault_mut(name) else { return };
    vault.deleted = Some(Deleted { at: now, purge_at: now + vault.retention_days() * 86_400 });
    let id = vault.id(&subscription);
    state.assignments.retain(|assignment| !rbac::within(&assignment.scope, &id));
}

pub(super) fn delete_group(state: &mut State, now: i64, group: &str) {
    let inside = |vault: &&Vault| vault.deleted.is_none() && vault.group.eq_ignore_ascii_case(group);
    let names: Vec<String> = state.vaults.iter().filter(inside).map(|vault| vault.name.clone()).collect();
    for name in names {
        soft_delete(state, now, &name);
    }
}

pub(super) fn find<'a>(state: &'a State, group: &str, name: &str) -> Result<&'a Vault, Reply> {
    find_group(state, group)?;
    state.vault(name).filter(|vault| vault.group.eq_ignore_ascii_case(group)).ok_or_else(|| {
        let message = format!(
            "The Resource 'Microsoft.KeyVault/vaults/{name}' under resource group '{group}' was not found. For more \
             details please go to https://aka.ms/ARMResourceNotFoundFix"
        );
        error(404, "ResourceNotFound", &message)
    })
}

fn find_deleted<'a>(state: &'a State, location: &str, name: &str) -> Result<&'a Vault, Reply> {
    let wanted = |vault: &&Vault| {
        vault.deleted.is_some()
            && vault.name.eq_ignore_ascii_case(name)
            && vault.location.replace(' ', "").eq_ignore_ascii_case(location)
    };
    state.vaults.iter().find(wanted).ok_or_else(|| {
        error(404, "DeletedVaultNotFound", &format!("The specified deleted vault '{name}' does not exist."))
    })
}

fn scope(state: &State, group: &str, name: &str) -> String {
    format!("/subscriptions/{}/resourceGroups/{group}/providers/Microsoft.KeyVault/vaults/{name}", state.subscription)
}

fn vault_json(state: &State, vault: &Vault) -> Value {
    json!({
        "id": vault.id(&state.subscription),
        "name": vault.name,
        "type": "Microsoft.KeyVault/vaults",
        "location": vault.location,
        "tags": vault.tags,
        "properties": vault.properties,
    })
}

fn deleted_json(state: &State, vault: &Vault) -> Option<Value> {
    let deleted = vault.deleted?;
    let (subscription, location) = (&state.subscription, &vault.location);
    Some(json!({
        "id": format!("/subscriptions/{subscription}/providers/Microsoft.KeyVault/locations/{location}/deletedVaults/{}", vault.name),
        "name": vault.name,
        "type": "Microsoft.KeyVault/deletedVaults",
        "properties": {
            "vaultId": vault.id(subscription),
            "location": location,
            "tags": vault.tags,
            "deletionDate": iso(deleted.at),
            "scheduledPurgeDate": iso(deleted.purge_at),
            "purgeProtectionEnabled": vault.flag("enablePurgeProtection"),
        },
    }))
}

fn is_vault_name(name: &str) -> bool {
    (3..=24).contains(&name.len())
        && name.starts_with(|char: char| char.is_ascii_alphabetic())
        && !name.ends_with('-')
        && !name.contains("--")
        && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '-')
}

fn bad_request(message: &str) -> Reply {
    error(400, "BadRequest", message).with("x-ms-error-id", &new_id())
}

//! `Microsoft.Authorization`: the built-in role definitions, and who holds them where.

use serde_json::{Value, json};

use super::{Call, error, no_route};
use crate::graph::iso;
use crate::http::{Answer, Reply};
use crate::rbac::{self, Role};
use crate::state::{Assignment, State};

/// `rest` is what follows `Microsoft.Authorization/`, in lower case.
pub(super) fn handle(call: &Call, scope: &str, rest: &[&str]) -> Answer {
    match (call.request.method.as_str(), rest) {
        ("GET", ["roledefinitions"]) => definitions(call, scope),
        ("GET", ["roledefinitions", id]) => definition(call, scope, id),
        ("GET", ["roleassignments"]) => list(call, scope),
        ("GET", ["roleassignments", name]) => call.world.read(|state| {
            call.permit(state, "Microsoft.Authorization/roleAssignments/read", scope)?;
            Ok(Reply::json(200, &assignment(state, find(state, scope, name).ok_or_else(|| not_found(name))?)))
        }),
        ("PUT", ["roleassignments", name]) => put(call, scope, name),
        ("DELETE", ["roleassignments", name]) => delete(call, scope, name),
        _ => Err(no_route(call.request)),
    }
}

fn definitions(call: &Call, scope: &str) -> Answer {
    let wanted = call.request.query("$filter").and_then(|filter| quoted_after(filter, "roleName eq "));
    call.world.read(|state| {
        call.permit(state, "Microsoft.Authorization/roleDefinitions/read", scope)?;
        let named = |role: &&Role| wanted.as_ref().is_none_or(|name| role.name.eq_ignore_ascii_case(name));
        call.page(rbac::ROLES.iter().filter(named).map(|role| role_json(state, role)).collect())
    })
}

fn definition(call: &Call, scope: &str, id: &str) -> Answer {
    call.world.read(|state| {
        call.permit(state, "Microsoft.Authorization/roleDefinitions/read", scope)?;
        Ok(Reply::json(200, &role_json(state, rbac::role(id).ok_or_else(|| no_role(id))?)))
    })
}

/// At the scope, above it, and (unless `atScope()` is asked for) below it.
fn list(call: &Call, scope: &str) -> Answer {
    let filter = call.request.query("$filter").unwrap_or_default();
    let at_scope = filter.contains("atScope()");
    let principal = quoted_after(filter, "principalId eq ").or_else(|| quoted_after(filter, "assignedTo("));
    call.world.read(|state| {
        call.permit(state, "Microsoft.Authorization/roleAssignments/read", scope)?;
        let rows = state
            .assignments
            .iter()
            .filter(|found| found.lingers_until.is_none())
            .filter(|found| rbac::within(scope, &found.scope) || !at_scope && rbac::within(&found.scope, scope))
            .filter(|found| principal.as_ref().is_none_or(|id| found.principal.eq_ignore_ascii_case(id)))
            .map(|found| assignment(state, found));
        call.page(rows.collect())
    })
}

fn put(call: &Call, scope: &str, name: &str) -> Answer {
    let body = call.body()?;
    let properties = &body["properties"];
    let role = properties["roleDefinitionId"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    let principal = properties["principalId"].as_str().unwrap_or_default();
    if uuid::Uuid::try_parse(name).is_err() {
        let message = format!("The role assignment ID '{name}' is not valid. The role assignment ID must be a GUID.");
        return Err(error(400, "InvalidRoleAssignmentId", &message));
    }
    let now = call.world.now();
    call.world.write(|state| {
        call.permit(state, "Microsoft.Authorization/roleAssignments/write", scope)?;
        check_scope(state, scope)?;
        let role = rbac::role(role).ok_or_else(|| no_role(role))?;
        let tenant = &state.tenants[0].id;
        let Some(kind) = state.principal_type(principal) else {
            let message = format!(
                "Principal {} does not exist in the directory {tenant}. Check that you have the correct principal ID. \
                 If you are creating this principal and then immediately assigning a role, this error might be related \
                 to a replication delay. In this case, set the role assignment principalType property to a value, such \
                 as ServicePrincipal, User, or Group.  See https://aka.ms/docs-principaltype",
                principal.replace('-', "")
            );
            return Err(error(400, "PrincipalNotFound", &message));
        };
        if let Some(said) = properties["principalType"].as_str().filter(|said| !said.eq_ignore_ascii_case(kind)) {
            let id = principal.replace('-', "");
            let message = format!(
                "The PrincipalId '{id}' has type '{kind}' , which is different from specified PrinciaplType '{said}'."
            );
            return Err(error(400, "UnmatchedPrincipalType", &message));
        }
        let new = Assignment {
            name: name.to_owned(),
            scope: scope.to_owned(),
            role: role.id.to_owned(),
            principal: principal.to_owned(),
            created: now,
            effective: now + call.world.settings.propagation_seconds,
            lingers_until: None,
        };
        let same = |found: &&Assignment| {
            found.lingers_until.is_none()
                && found.scope.eq_ignore_ascii_case(scope)
                && found.role == new.role
                && found.principal.eq_ignore_ascii_case(principal)
        };
        if let Some(found) = state.assignments.iter().find(same) {
            if found.name == name {
                return Ok(Reply::json(200, &assignment(state, found)));
            }
            let message = format!(
                "The role assignment already exists. The ID of the existing role assignment is {}.",
                found.name
            );
            return Err(error(409, "RoleAssignmentExists", &message));
        }
        if state.assignments.iter().any(|found| found.name == name && found.lingers_until.is_none()) {
            let message = "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.";
            return Err(error(409, "RoleAssignmentUpdateNotPermitted", message));
        }
        let shown = assignment(state, &new);
        state.assignments.push(new);
        Ok(Reply::json(201, &shown))
    })
}

/// What is removed still counts for as long as removals take to propagate.
fn delete(call: &Call, scope: &str, name: &str) -> Answer {
    let until = call.world.now() + call.world.settings.propagation_seconds;
    call.world.write(|state| {
        call.permit(state, "Microsoft.Authorization/roleAssignments/delete", scope)?;
        let Some(found) = find(state, scope, name) else { return Ok(Reply::empty(204)) };
        let (shown, id) = (assignment(state, found), found.name.clone());
        for found in state.assignments.iter_mut().filter(|found| found.name == id) {
            found.lingers_until = Some(until);
        }
        state.sweep(call.world.now());
        Ok(Reply::json(200, &shown))
    })
}

fn find<'a>(state: &'a State, scope: &str, name: &str) -> Option<&'a Assignment> {
    state.assignments.iter().find(|found| {
        found.name.eq_ignore_ascii_case(name)
            && found.scope.eq_ignore_ascii_case(scope)
            && found.lingers_until.is_none()
    })
}

/// The subscription, group and Key Vault of a scope must exist; whether a key does, ARM does not know.
fn check_scope(state: &State, scope: &str) -> Result<(), Reply> {
    let parts: Vec<String> = scope.to_ascii_lowercase().split('/').skip(1).map(str::to_owned).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    if let ["subscriptions", _, "resourcegroups", group, rest @ ..] = parts.as_slice() {
        super::find_group(state, group)?;
        if let ["providers", "microsoft.keyvault", "vaults", vault, ..] = rest {
            super::vaults::find(state, group, vault)?;
        }
    }
    Ok(())
}

fn role_json(state: &State, role: &Role) -> Value {
    json!({
        "id": format!("/subscriptions/{}/providers/Microsoft.Authorization/roleDefinitions/{}", state.subscription, role.id),
        "type": "Microsoft.Authorization/roleDefinitions",
        "name": role.id,
        "properties": {
            "roleName": role.name,
            "type": "BuiltInRole",
            "description": role.name,
            "assignableScopes": ["/"],
            "permissions": [{
                "actions": role.actions,
                "notActions": role.not_actions,
                "dataActions": role.data_actions,
                "notDataActions": [],
            }],
        },
    })
}

fn assignment(state: &State, found: &Assignment) -> Value {
    let definition = format!(
        "/subscriptions/{}/providers/Microsoft.Authorization/roleDefinitions/{}",
        state.subscription, found.role
    );
    json!({
        "id": format!("{}/providers/Microsoft.Authorization/roleAssignments/{}", found.scope, found.name),
        "type": "Microsoft.Authorization/roleAssignments",
        "name": found.name,
        "properties": {
            "roleDefinitionId": definition,
            "principalId": found.principal,
            "principalType": state.principal_type(&found.principal).unwrap_or("Unknown"),
            "scope": found.scope,
            "createdOn": iso(found.created),
            "updatedOn": iso(found.created),
            "condition": null,
            "conditionVersion": null,
            "delegatedManagedIdentityResourceId": null,
        },
    })
}

/// The text between quotes that follows `marker`.
pub(super) fn quoted_after(filter: &str, marker: &str) -> Option<String> {
    let at = filter.to_ascii_lowercase().find(&marker.to_ascii_lowercase())?;
    let rest = filter.get(at + marker.len()..)?.trim_start().strip_prefix('\'')?;
    Some(rest.split('\'').next()?.to_owned())
}

fn no_role(id: &str) -> Reply {
    error(404, "RoleDefinitionDoesNotExist", &format!("The specified role definition with ID '{id}' does not exist."))
}

fn not_found(name: &str) -> Reply {
    error(404, "RoleAssignmentNotFound", &format!("The role assignment '{name}' is not found."))
}

//! Service principals, and how a user is shown.

use serde_json::{Value, json};

use super::{Call, bad_request, conflict, no_segment, not_found};
use crate::http::{Answer, Reply, new_id};
use crate::state::{Principal, User};

/// `rest` follows `servicePrincipals`.
pub(super) fn handle(call: &Call, rest: &[&str]) -> Answer {
    match (call.request.method.as_str(), rest) {
        ("POST", []) => create(call),
        ("PATCH", [id]) => change(call, id),
        ("DELETE", [id]) => call.world.write(|state| {
            let before = state.principals.len();
            state.principals.retain(|found| found.id != *id || found.tenant != call.claims.tid);
            if state.principals.len() == before { Err(not_found(id)) } else { Ok(Reply::empty(204)) }
        }),
        _ => Err(no_segment(rest)),
    }
}

fn create(call: &Call) -> Answer {
    let body = call.body()?;
    let app = body["appId"].as_str().unwrap_or_default().to_owned();
    let tenant = &call.claims.tid;
    call.world.write(|state| {
        let known = state.applications.iter().find(|found| found.app_id == app && found.tenant == *tenant);
        let name = known.map(|found| found.name.clone()).ok_or_else(|| {
            let message =
                format!("The appId '{app}' of the service principal does not reference a valid application object.");
            bad_request(&message)
        })?;
        if state.principals.iter().any(|found| found.app_id == app && found.tenant == *tenant) {
            let message = format!(
                "The service principal cannot be created, updated, or restored because the service principal name \
                 {app} is already in use."
            );
            return Err(conflict(&message));
        }
        let enabled = body["accountEnabled"].as_bool().unwrap_or(true);
        let new =
            Principal { id: new_id(), app_id: app, tenant: tenant.clone(), name, enabled, directory_admin: false };
        let shown = show(&new);
        state.principals.push(new);
        Ok(Reply::json(201, &shown))
    })
}

/// Switches a service principal on or off; nothing else of it can be changed here.
fn change(call: &Call, id: &str) -> Answer {
    let body = call.body()?;
    let Some(enabled) =
        body["accountEnabled"].as_bool().filter(|_| body.as_object().is_some_and(|body| body.len() == 1))
    else {
        return Err(bad_request("Only 'accountEnabled' can be changed."));
    };
    call.world.write(|state| {
        let mut known = state.principals.iter_mut().filter(|found| found.tenant == call.claims.tid);
        known.find(|found| found.id == id).ok_or_else(|| not_found(id))?.enabled = enabled;
        Ok(Reply::empty(204))
    })
}

pub(super) fn show(found: &Principal) -> Value {
    json!({
        "id": found.id,
        "appId": found.app_id,
        "displayName": found.name,
        "appDisplayName": found.name,
        "accountEnabled": found.enabled,
        "appOwnerOrganizationId": found.tenant,
        "servicePrincipalNames": [found.app_id],
        "servicePrincipalType": "Application",
    })
}

pub(super) fn user(found: &User) -> Value {
    json!({
        "id": found.id,
        "displayName": found.name,
        "givenName": null,
        "surname": null,
        "mail": found.upn,
        "userPrincipalName": found.upn,
        "businessPhones": [],
    })
}

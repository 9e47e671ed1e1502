//! Applications, and the way to their credentials.

use serde_json::{Value, json};

use super::{Call, bad_request, credentials, iso, no_segment, not_found};
use crate::http::{Answer, Reply, new_id};
use crate::jwt::Claims;
use crate::paging;
use crate::state::{Application, State};

/// `rest` follows `applications`.
pub(super) fn handle(call: &Call, rest: &[&str]) -> Answer {
    match (call.request.method.as_str(), rest) {
        ("POST", []) => create(call),
        ("PATCH", [id]) => change(call, id),
        ("DELETE", [id]) => delete(call, id),
        ("POST", [id, "addPassword"]) => credentials::add_password(call, id),
        ("POST", [id, "removePassword"]) => credentials::remove_password(call, id),
        ("GET", [id, "owners"]) => owners(call, id),
        ("POST", [id, "owners", "$ref"]) => add_owner(call, id),
        (_, [id, "federatedIdentityCredentials", rest @ ..]) => credentials::federated(call, id, rest),
        _ => Err(no_segment(rest)),
    }
}

fn create(call: &Call) -> Answer {
    let body = call.body()?;
    let name = body["displayName"].as_str().filter(|name| !name.is_empty());
    let name =
        name.ok_or_else(|| bad_request("A value is required for property 'displayName' of resource 'Application'."))?;
    let new = Application {
        id: new_id(),
        app_id: new_id(),
        tenant: call.claims.tid.clone(),
        name: name.to_owned(),
        created: call.world.now(),
        owners: vec![call.claims.oid.clone()],
        secrets: Vec::new(),
        certificates: credentials::certificates(&body["keyCredentials"], &[])?,
        federated: Vec::new(),
    };
    call.world.write(|state| {
        let shown = show(state, &new);
        state.applications.push(new);
        Ok(Reply::json(201, &shown))
    })
}

/// Name and certificates; of the rest nothing is kept here, so nothing of it can be changed.
fn change(call: &Call, id: &str) -> Answer {
    let body = call.body()?;
    let known = ["displayName", "keyCredentials"];
    if let Some((name, _)) = body.as_object().into_iter().flatten().find(|(name, _)| !known.contains(&name.as_str())) {
        return Err(bad_request(&format!("Property '{name}' is read-only and cannot be set.")));
    }
    call.world.write(|state| {
        let application = find(state, &call.claims, id)?;
        if !body["keyCredentials"].is_null() {
            application.certificates = credentials::certificates(&body["keyCredentials"], &application.certificates)?;
        }
        if let Some(name) = body["displayName"].as_str() {
            application.name = name.to_owned();
        }
        Ok(Reply::empty(204))
    })
}

fn delete(call: &Call, id: &str) -> Answer {
    call.world.write(|state| {
        let app = find(state, &call.claims, id)?.app_id.clone();
        state.applications.retain(|found| found.app_id != app);
        state.principals.retain(|found| found.app_id != app);
        Ok(Reply::empty(204))
    })
}

fn owners(call: &Call, id: &str) -> Answer {
    let ids = call.world.read(|state| {
        let mut here = state.applications.iter().filter(|found| found.tenant == call.claims.tid);
        here.find(|found| found.id == id).map(|found| found.owners.clone()).ok_or_else(|| not_found(id))
    })?;
    Ok(Reply::json(200, &paging::page(call.request, call.objects_of(&ids), "@odata.nextLink")))
}

/// `{"@odata.id": "https://graph.microsoft.com/v1.0/directoryObjects/ID"}`
fn add_owner(call: &Call, id: &str) -> Answer {
    let body = call.body()?;
    let owner = body["@odata.id"].as_str().and_then(|url| url.rsplit('/').next()).unwrap_or_default().to_owned();
    if call.objects_of(std::slice::from_ref(&owner)).is_empty() {
        return Err(not_found(&owner));
    }
    call.world.write(|state| {
        let owners = &mut find(state, &call.claims, id)?.owners;
        if owners.contains(&owner) {
            let message =
                "One or more added object references already exist for the following modified properties: 'owners'.";
            return Err(bad_request(message));
        }
        owners.push(owner);
        Ok(Reply::empty(204))
    })
}

pub(super) fn find<'a>(state: &'a mut State, claims: &Claims, id: &str) -> Result<&'a mut Application, Reply> {
    let mut owned = state.applications.iter_mut().filter(|found| found.tenant == claims.tid);
    owned.find(|found| found.id == id).ok_or_else(|| not_found(id))
}

pub(super) fn show(state: &State, found: &Application) -> Value {
    let domain = state.tenant(&found.tenant).map(|tenant| tenant.domain.clone());
    json!({
        "id": found.id,
        "appId": found.app_id,
        "displayName": found.name,
        "createdDateTime": iso(found.created),
        "publisherDomain": domain,
        "signInAudience": "AzureADMyOrg",
        "identifierUris": [],
        "keyCredentials": found.certificates.iter().map(credentials::certificate).collect::<Vec<_>>(),
        "passwordCredentials": found.secrets.iter().map(credentials::password).collect::<Vec<_>>(),
    })
}

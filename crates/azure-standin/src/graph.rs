//! Microsoft Graph, as far as setting up needs it: applications, their secrets, service principals.
//! Source: learn.microsoft.com/graph/api (v1.0: application, servicePrincipal, directoryObject).

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::World;
use crate::http::{Answer, Reply, Request, new_id};
use crate::jwt::{self, Claims, Distrust};
use crate::state::{Application, ClientSecret, Principal, State};

pub(crate) const HOST: &str = "graph.microsoft.com";

const TWO_YEARS: i64 = 2 * 365 * 86_400;

pub(crate) fn handle(world: &World, request: &Request) -> Answer {
    let claims = world.read(|state| authenticate(world, state, request))?;
    let segments = request.segments();
    let Some(("v1.0", rest)) = segments.split_first().map(|(first, rest)| (*first, rest)) else {
        return Err(error(400, "BadRequest", "Invalid version."));
    };
    match (request.method.as_str(), rest) {
        // A service principal is nobody's sign-in, so Graph has no "me" for it.
        ("GET", ["me"]) => {
            Err(error(400, "BadRequest", "/me request is only valid with delegated authentication flow."))
        }
        ("GET", ["applications"]) => list(world, request, &claims, "application"),
        ("POST", ["applications"]) => create_application(world, request, &claims),
        ("GET", ["applications", id]) => get(world, &claims, "application", id),
        ("DELETE", ["applications", id]) => delete_application(world, &claims, id),
        ("POST", ["applications", id, "addPassword"]) => add_password(world, request, &claims, id),
        ("POST", ["applications", id, "removePassword"]) => remove_password(world, request, &claims, id),
        ("GET", ["servicePrincipals"]) => list(world, request, &claims, "servicePrincipal"),
        ("POST", ["servicePrincipals"]) => create_principal(world, request, &claims),
        ("GET", ["servicePrincipals", id]) => get(world, &claims, "servicePrincipal", id),
        ("DELETE", ["servicePrincipals", id]) => delete_principal(world, &claims, id),
        ("POST", ["directoryObjects", "getByIds"]) => by_ids(world, request, &claims),
        _ => Err(error(400, "BadRequest", &format!("Resource not found for the segment '{}'.", rest.join("/")))),
    }
}

fn authenticate(world: &World, state: &State, request: &Request) -> Result<Claims, Reply> {
    let refuse = |message: &str| error(401, "InvalidAuthenticationToken", message);
    let token = request.bearer().ok_or_else(|| refuse("Access token is empty."))?;
    let claims = jwt::verify(&state.signing_key, world.now(), token).map_err(|distrust| match distrust {
        Distrust::Signature => refuse("Access token validation failure. Invalid signature."),
        Distrust::Expired(_) => refuse("Lifetime validation failed, the token is expired."),
        Distrust::NotYetValid => refuse("Lifetime validation failed, the token is not yet valid."),
    })?;
    if claims.aud.trim_end_matches('/') != "https://graph.microsoft.com" {
        return Err(refuse("Access token validation failure. Invalid audience."));
    }
    let admin = state.principals.iter().any(|found| found.id == claims.oid && found.directory_admin);
    let denied = || error(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.");
    admin.then_some(claims).ok_or_else(denied)
}

/// Every object of one kind in the caller's tenant.
fn objects(state: &State, claims: &Claims, kind: &str) -> Vec<Value> {
    if kind == "application" {
        let owned = state.applications.iter().filter(|found| found.tenant == claims.tid);
        owned.map(|found| application(state, found)).collect()
    } else {
        let known = state.principals.iter().filter(|found| found.tenant == claims.tid);
        known.map(principal).collect()
    }
}

fn list(world: &World, request: &Request, claims: &Claims, kind: &str) -> Answer {
    let keep = Filter::parse(request.query("$filter").unwrap_or_default())?;
    let mut found = world.read(|state| objects(state, claims, kind));
    found.retain(|object| keep.matches(object));
    let context = format!("https://{HOST}/v1.0/$metadata#{kind}s");
    Ok(Reply::json(200, &json!({"@odata.context": context, "value": found})))
}

fn get(world: &World, claims: &Claims, kind: &str, id: &str) -> Answer {
    let found = world.read(|state| objects(state, claims, kind));
    let found = found.into_iter().find(|object| object["id"] == id);
    found.map(|object| Reply::json(200, &object)).ok_or_else(|| not_found(id))
}

fn by_ids(world: &World, request: &Request, claims: &Claims) -> Answer {
    let body = request.json().ok_or_else(bad_json)?;
    let ids = body["ids"].as_array().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for (kind, tag) in
        [("application", "#microsoft.graph.application"), ("servicePrincipal", "#microsoft.graph.servicePrincipal")]
    {
        for mut object in world.read(|state| objects(state, claims, kind)) {
            if ids.contains(&object["id"]) {
                object["@odata.type"] = tag.into();
                found.push(object);
            }
        }
    }
    Ok(Reply::json(200, &json!({"value": found})))
}

fn create_application(world: &World, request: &Request, claims: &Claims) -> Answer {
    let body = request.json().ok_or_else(bad_json)?;
    let name = body["displayName"].as_str().filter(|name| !name.is_empty()).ok_or_else(|| {
        error(400, "Request_BadRequest", "A value is required for property 'displayName' of resource 'Application'.")
    })?;
    let new = Application {
        id: new_id(),
        app_id: new_id(),
        tenant: claims.tid.clone(),
        name: name.to_owned(),
        created: world.now(),
        secrets: Vec::new(),
    };
    world.write(|state| {
        let shown = application(state, &new);
        state.applications.push(new);
        Ok(Reply::json(201, &shown))
    })
}

fn delete_application(world: &World, claims: &Claims, id: &str) -> Answer {
    world.write(|state| {
        let app = find_application(state, claims, id)?.app_id.clone();
        state.applications.retain(|found| found.app_id != app);
        state.principals.retain(|found| found.app_id != app);
        Ok(Reply::empty(204))
    })
}

fn add_password(world: &World, request: &Request, claims: &Claims, id: &str) -> Answer {
    let body = request.json().ok_or_else(bad_json)?;
    let wanted = &body["passwordCredential"];
    let time = |field: &str| wanted[field].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let starts = time("startDateTime").map_or(world.now(), Timestamp::as_second);
    let ends = time("endDateTime").map_or(starts + TWO_YEARS, Timestamp::as_second);
    if ends <= starts {
        return Err(error(400, "Request_BadRequest", "Key credential end date is invalid."));
    }
    let secret = new_secret();
    let name = wanted["displayName"].as_str().map(str::to_owned);
    let credential = ClientSecret::new(new_id(), name, &secret, starts, ends);
    let mut shown = password(&credential);
    shown["secretText"] = secret.into();
    world.write(|state| {
        find_application(state, claims, id)?.secrets.push(credential);
        Ok(Reply::json(200, &shown))
    })
}

fn remove_password(world: &World, request: &Request, claims: &Claims, id: &str) -> Answer {
    let body = request.json().ok_or_else(bad_json)?;
    world.write(|state| {
        let secrets = &mut find_application(state, claims, id)?.secrets;
        let before = secrets.len();
        secrets.retain(|secret| body["keyId"] != secret.key_id.as_str());
        if secrets.len() == before {
            return Err(error(400, "Request_BadRequest", "No password credential found with keyId."));
        }
        Ok(Reply::empty(204))
    })
}

fn create_principal(world: &World, request: &Request, claims: &Claims) -> Answer {
    let body = request.json().ok_or_else(bad_json)?;
    let app = body["appId"].as_str().unwrap_or_default().to_owned();
    world.write(|state| {
        let known = state.applications.iter().find(|found| found.app_id == app && found.tenant == claims.tid);
        let name = known.map(|found| found.name.clone()).ok_or_else(|| {
            let message =
                format!("The appId '{app}' of the service principal does not reference a valid application object.");
            error(400, "Request_BadRequest", &message)
        })?;
        if state.principals.iter().any(|found| found.app_id == app && found.tenant == claims.tid) {
            let message = format!(
                "The service principal cannot be created, updated, or restored because the service principal name \
                 {app} is already in use."
            );
            return Err(error(409, "Request_MultipleObjectsWithSameKeyValue", &message));
        }
        let new = Principal { id: new_id(), app_id: app, tenant: claims.tid.clone(), name, directory_admin: false };
        let shown = principal(&new);
        state.principals.push(new);
        Ok(Reply::json(201, &shown))
    })
}

fn delete_principal(world: &World, claims: &Claims, id: &str) -> Answer {
    world.write(|state| {
        let before = state.principals.len();
        state.principals.retain(|found| found.id != id || found.tenant != claims.tid);
        if state.principals.len() == before { Err(not_found(id)) } else { Ok(Reply::empty(204)) }
    })
}

fn find_application<'a>(state: &'a mut State, claims: &Claims, id: &str) -> Result<&'a mut Application, Reply> {
    let mut owned = state.applications.iter_mut().filter(|found| found.tenant == claims.tid);
    owned.find(|found| found.id == id).ok_or_else(|| not_found(id))
}

/// A client secret as Entra makes them: 40 characters, with the `8Q~` that secret scanners look for.
pub(crate) fn new_secret() -> String {
    let random = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    format!("{}8Q~{}", &random[..3], &random[3..37])
}

fn application(state: &State, found: &Application) -> Value {
    let domain = state.tenant(&found.tenant).map(|tenant| tenant.domain.clone());
    json!({
        "id": found.id,
        "appId": found.app_id,
        "displayName": found.name,
        "createdDateTime": iso(found.created),
        "publisherDomain": domain,
        "signInAudience": "AzureADMyOrg",
        "identifierUris": [],
        "keyCredentials": [],
        "passwordCredentials": found.secrets.iter().map(password).collect::<Vec<_>>(),
    })
}

fn password(secret: &ClientSecret) -> Value {
    json!({
        "keyId": secret.key_id,
        "displayName": secret.name,
        "hint": secret.hint,
        "startDateTime": iso(secret.starts),
        "endDateTime": iso(secret.ends),
        "secretText": null,
        "customKeyIdentifier": null,
    })
}

fn principal(found: &Principal) -> Value {
    json!({
        "id": found.id,
        "appId": found.app_id,
        "displayName": found.name,
        "appDisplayName": found.name,
        "accountEnabled": true,
        "appOwnerOrganizationId": found.tenant,
        "servicePrincipalNames": [found.app_id],
        "servicePrincipalType": "Application",
    })
}

pub(crate) fn iso(second: i64) -> String {
    Timestamp::from_second(second).unwrap_or_default().to_string()
}

/// The three shapes of `$filter` that Azure's tools send.
enum Filter {
    All,
    Equals(String, String),
    StartsWith(String, String),
}

impl Filter {
    fn parse(text: &str) -> Result<Self, Reply> {
        let text = text.trim();
        let unquoted = |value: &str| {
            value
                .trim()
                .strip_prefix('\'')
                .and_then(|value| value.strip_suffix('\''))
                .map(|value| value.replace("''", "'"))
        };
        let parsed = if text.is_empty() {
            Some(Self::All)
        } else if let Some(inner) = text.strip_prefix("startswith(").and_then(|rest| rest.strip_suffix(')')) {
            inner
                .split_once(',')
                .and_then(|(field, value)| Some(Self::StartsWith(field.trim().into(), unquoted(value)?)))
        } else if let Some(inner) =
            text.strip_prefix("servicePrincipalNames/any(").and_then(|rest| rest.strip_suffix(')'))
        {
            inner.split_once(" eq ").and_then(|(_, value)| Some(Self::Equals("appId".into(), unquoted(value)?)))
        } else {
            text.split_once(" eq ").and_then(|(field, value)| Some(Self::Equals(field.trim().into(), unquoted(value)?)))
        };
        parsed.ok_or_else(|| error(400, "Request_UnsupportedQuery", "Unsupported or invalid query filter clause."))
    }

    /// Graph compares text without case.
    fn matches(&self, object: &Value) -> bool {
        let text = |field: &String| object[field.as_str()].as_str().unwrap_or_default().to_lowercase();
        match self {
            Self::All => true,
            Self::Equals(field, value) => text(field) == value.to_lowercase(),
            Self::StartsWith(field, value) => text(field).starts_with(&value.to_lowercase()),
        }
    }
}

fn not_found(id: &str) -> Reply {
    let message =
        format!("Resource '{id}' does not exist or one of its queried reference-property objects are not present.");
    error(404, "Request_ResourceNotFound", &message)
}

fn bad_json() -> Reply {
    error(
        400,
        "BadRequest",
        "Unable to read JSON request payload. Please ensure Content-Type header is set and payload is of valid JSON format.",
    )
}

fn error(status: u16, code: &str, message: &str) -> Reply {
    let inner = json!({"request-id": new_id(), "client-request-id": new_id()});
    Reply::json(status, &json!({"error": {"code": code, "message": message, "innerError": inner}}))
}

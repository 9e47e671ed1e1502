//! What an application may prove itself with: passwords (client secrets), certificates, federated credentials.

use aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use x509_cert::der::Decode;

use super::applications::find;
use super::{Call, bad_request, conflict, iso, no_segment, not_found, time};
use crate::entra::thumbprint;
use crate::http::{Answer, Reply, new_id};
use crate::paging;
use crate::state::{Certificate, ClientSecret, FederatedCredential};

const TWO_YEARS: i64 = 2 * 365 * 86_400;
const MOST_FEDERATED: usize = 20;

pub(super) fn add_password(call: &Call, id: &str) -> Answer {
    let body = call.body()?;
    let wanted = &body["passwordCredential"];
    let starts = time(&wanted["startDateTime"]).unwrap_or_else(|| call.world.now());
    let ends = time(&wanted["endDateTime"]).unwrap_or(starts + TWO_YEARS);
    if ends <= starts {
        return Err(bad_request("Key credential end date is invalid."));
    }
    let secret = new_secret();
    let name = wanted["displayName"].as_str().map(str::to_owned);
    let credential = ClientSecret::new(new_id(), name, &secret, starts, ends);
    let mut shown = password(&credential);
    shown["secretText"] = secret.into();
    call.world.write(|state| {
        find(state, &call.claims, id)?.secrets.push(credential);
        Ok(Reply::json(200, &shown))
    })
}

pub(super) fn remove_password(call: &Call, id: &str) -> Answer {
    let body = call.body()?;
    call.world.write(|state| {
        let secrets = &mut find(state, &call.claims, id)?.secrets;
        let before = secrets.len();
        secrets.retain(|secret| body["keyId"] != secret.key_id.as_str());
        if secrets.len() == before {
            return Err(bad_request("No password credential found with keyId."));
        }
        Ok(Reply::empty(204))
    })
}

pub(super) fn password(secret: &ClientSecret) -> Value {
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

/// A client secret as Entra makes them: 40 characters, with the `8Q~` that secret scanners look for.
pub(crate) fn new_secret() -> String {
    let random = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    format!("{}8Q~{}", &random[..3], &random[3..37])
}

/// `keyCredentials` as a request gives them: the whole new list. An entry without its certificate means one that is
/// there already.
pub(super) fn certificates(given: &Value, present: &[Certificate]) -> Result<Vec<Certificate>, Reply> {
    let invalid = || bad_request("Key credential value is invalid.");
    let entries = given.as_array().into_iter().flatten();
    let read = |entry: &Value| {
        let id = entry["keyId"].as_str().map_or_else(new_id, str::to_owned);
        let Some(key) = entry["key"].as_str() else {
            return present.iter().find(|known| known.key_id == id).cloned().ok_or_else(invalid);
        };
        // Azure CLI leaves the line ends of the PEM in it.
        let key: String = key.split_whitespace().collect();
        let der = STANDARD.decode(key).map_err(|_| invalid())?;
        let validity = x509_cert::Certificate::from_der(&der).map_err(|_| invalid())?.tbs_certificate.validity;
        let second = |time: x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
        let ends = second(validity.not_after);
        if time(&entry["endDateTime"]).is_some_and(|wanted| wanted > ends) {
            return Err(bad_request("Key credential end date is invalid."));
        }
        Ok(Certificate {
            key_id: id,
            name: entry["displayName"].as_str().map(str::to_owned),
            starts: time(&entry["startDateTime"]).unwrap_or_else(|| second(validity.not_before)),
            ends: time(&entry["endDateTime"]).unwrap_or(ends),
            der,
        })
    };
    entries.map(read).collect()
}

pub(super) fn certificate(known: &Certificate) -> Value {
    let thumbprint = thumbprint(known, &SHA1_FOR_LEGACY_USE_ONLY);
    json!({
        "keyId": known.key_id,
        "displayName": known.name,
        "type": "AsymmetricX509Cert",
        "usage": "Verify",
        "key": null,
        "startDateTime": iso(known.starts),
        "endDateTime": iso(known.ends),
        "customKeyIdentifier": thumbprint.iter().map(|byte| format!("{byte:02X}")).collect::<String>(),
    })
}

/// `federatedIdentityCredentials`; one of them goes by its id or its name.
pub(super) fn federated(call: &Call, application: &str, rest: &[&str]) -> Answer {
    match (call.request.method.as_str(), rest) {
        ("GET", []) => {
            let rows = call.world.read(|state| {
                let owned = state.applications.iter().filter(|found| found.tenant == call.claims.tid);
                let found = owned.into_iter().find(|found| found.id == application);
                let found = found.ok_or_else(|| not_found(application))?;
                Ok(found.federated.iter().map(show).collect::<Vec<_>>())
            })?;
            Ok(Reply::json(200, &paging::page(call.request, rows, "@odata.nextLink")))
        }
        ("POST", []) => add_federated(call, application),
        ("GET", [id]) => call.world.write(|state| {
            let known = &find(state, &call.claims, application)?.federated;
            let found = known.iter().find(|known| known.id == *id || known.name == *id);
            found.map(|known| Reply::json(200, &show(known))).ok_or_else(|| not_found(id))
        }),
        ("PATCH", [id]) => change_federated(call, application, id),
        ("DELETE", [id]) => call.world.write(|state| {
            let known = &mut find(state, &call.claims, application)?.federated;
            let at = known.iter().position(|known| known.id == *id || known.name == *id);
            known.remove(at.ok_or_else(|| not_found(id))?);
            Ok(Reply::empty(204))
        }),
        _ => Err(no_segment(rest)),
    }
}

fn add_federated(call: &Call, application: &str) -> Answer {
    let new = read_federated(&call.body()?, &json!({"id": new_id()}))?;
    call.world.write(|state| {
        let known = &mut find(state, &call.claims, application)?.federated;
        if known.iter().any(|known| known.name == new.name) {
            return Err(conflict(&format!("FederatedIdentityCredential with name {} already exists.", new.name)));
        }
        if known.iter().any(|known| known.issuer == new.issuer && known.subject == new.subject) {
            let message = "Issuer and subject combination already exists for this application.";
            return Err(conflict(message));
        }
        if known.len() >= MOST_FEDERATED {
            return Err(bad_request("The limit of 20 federated identity credentials per application is reached."));
        }
        let shown = show(&new);
        known.push(new);
        Ok(Reply::json(201, &shown))
    })
}

fn change_federated(call: &Call, application: &str, id: &str) -> Answer {
    let body = call.body()?;
    call.world.write(|state| {
        let known = &mut find(state, &call.claims, application)?.federated;
        let found = known.iter_mut().find(|known| known.id == id || known.name == id);
        let found = found.ok_or_else(|| not_found(id))?;
        *found = read_federated(&body, &show(found))?;
        Ok(Reply::empty(204))
    })
}

/// What a request gives, laid over what is there.
fn read_federated(given: &Value, present: &Value) -> Result<FederatedCredential, Reply> {
    let either = |name: &str| if given[name].is_null() { &present[name] } else { &given[name] };
    let text = |name: &str| {
        let missing = || bad_request(&format!("Property {name} is required for FederatedIdentityCredential."));
        either(name).as_str().filter(|text| !text.is_empty()).map(str::to_owned).ok_or_else(missing)
    };
    let audiences = either("audiences").as_array().into_iter().flatten();
    let audiences: Vec<String> = audiences.filter_map(Value::as_str).map(str::to_owned).collect();
    if audiences.len() != 1 {
        return Err(bad_request("FederatedIdentityCredential must have exactly one audience."));
    }
    Ok(FederatedCredential {
        id: present["id"].as_str().unwrap_or_default().to_owned(),
        name: text("name")?,
        description: either("description").as_str().map(str::to_owned),
        issuer: text("issuer")?,
        subject: text("subject")?,
        audiences,
    })
}

fn show(known: &FederatedCredential) -> Value {
    json!({
        "id": known.id,
        "name": known.name,
        "issuer": known.issuer,
        "subject": known.subject,
        "description": known.description,
        "audiences": known.audiences,
    })
}

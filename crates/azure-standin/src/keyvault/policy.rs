//! Rotation policies: read, judged and set. What they ask for is not done by itself; only the expiry of new key
//! versions follows them. Rules: learn.microsoft.com/azure/key-vault/keys/how-to-configure-key-rotation.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde_json::{Value, json};

use super::errors;
use super::keys::{find, key_url};
use crate::World;
use crate::http::{Answer, Reply, Request};
use crate::state::{Key, RotationPolicy};

const DAY: i64 = 86_400;
const LEAST_LIFE: i64 = 28 * DAY;
const LEAST_DISTANCE: i64 = 7 * DAY;

pub(super) fn get(world: &World, request: &Request, vault: &str, name: &str) -> Answer {
    world.read(|state| {
        let vault = state.vault(vault).ok_or_else(errors::html_not_found)?;
        Ok(Reply::json(200, &show(request, find(vault, name, None)?.0)))
    })
}

pub(super) fn set(world: &World, request: &Request, vault: &str, name: &str) -> Answer {
    let body = request.json().ok_or_else(errors::incorrect_parameter)?;
    let now = world.now();
    let (actions, expiry) = judge(&body, now)?;
    world.write(|state| {
        let vault = state.vault_mut(vault).ok_or_else(errors::html_not_found)?;
        find(vault, name, None)?;
        let key = vault.key_mut(name).ok_or_else(|| errors::key_not_found(name))?;
        let created = key.policy.as_ref().map_or(now, |policy| policy.created);
        key.policy = Some(RotationPolicy { actions, expiry, created, updated: now });
        Ok(Reply::json(200, &show(request, key)))
    })
}

impl RotationPolicy {
    /// When a key version made at `now` expires.
    pub(super) fn expiry_of(&self, now: i64) -> Option<i64> {
        Some(now + lasts(self.expiry.as_deref()?, now)?)
    }
}

/// Seconds that an ISO 8601 duration takes from `now` on.
fn lasts(duration: &str, now: i64) -> Option<i64> {
    let start = TimeZone::UTC.to_datetime(Timestamp::from_second(now).ok()?);
    let end = start.checked_add(duration.parse::<Span>().ok()?).ok()?;
    Some(TimeZone::UTC.to_timestamp(end).ok()?.as_second() - now)
}

/// A key that nobody set a policy for has this one: a notice thirty days before it expires.
fn default_notice() -> Value {
    json!({"trigger": {"timeBeforeExpiry": "P30D"}, "action": {"type": "Notify"}})
}

fn show(request: &Request, key: &Key) -> Value {
    let id = format!("{}/rotationpolicy", key_url(request, "keys", &key.name));
    match &key.policy {
        None => json!({"id": id, "lifetimeActions": [default_notice()], "attributes": {}}),
        Some(policy) => {
            let mut attributes = json!({"created": policy.created, "updated": policy.updated});
            if let Some(expiry) = &policy.expiry {
                attributes["expiryTime"] = expiry.as_str().into();
            }
            json!({"id": id, "lifetimeActions": policy.actions, "attributes": attributes})
        }
    }
}

/// The actions, with the notice that is always there, and the expiry; or why Key Vault takes neither.
fn judge(body: &Value, now: i64) -> Result<(Value, Option<String>), Reply> {
    let seconds = |name: &str, duration: &str| {
        lasts(duration, now).ok_or_else(|| refuse(&format!("'{duration}' of {name} is not an ISO 8601 duration.")))
    };
    let expiry = body["attributes"]["expiryTime"].as_str().filter(|text| !text.is_empty());
    let life = expiry.map(|text| seconds("expiryTime", text)).transpose()?;
    if life.is_some_and(|life| life < LEAST_LIFE) {
        return Err(refuse("expiryTime must be at least 28 days."));
    }
    let mut actions = Vec::new();
    for given in body["lifetimeActions"].as_array().into_iter().flatten() {
        let kind = given["action"]["type"].as_str().unwrap_or_default();
        let kind = *["Rotate", "Notify"].iter().find(|known| known.eq_ignore_ascii_case(kind)).ok_or_else(|| {
            refuse(&format!("'{kind}' is not a type of a lifetime action; they are Rotate and Notify."))
        })?;
        let trigger = |name: &str| given["trigger"][name].as_str().map(str::to_owned);
        let (name, after) = match (trigger("timeAfterCreate"), trigger("timeBeforeExpiry")) {
            (Some(after), None) if kind == "Rotate" => ("timeAfterCreate", after),
            (None, Some(before)) if kind == "Notify" || life.is_some() => ("timeBeforeExpiry", before),
            (None, Some(_)) => return Err(refuse("timeBeforeExpiry needs an expiryTime.")),
            _ => return Err(refuse("A lifetime action has one trigger: Notify timeBeforeExpiry, Rotate either.")),
        };
        let distance = seconds(name, &after)?;
        if distance < LEAST_DISTANCE || life.is_some_and(|life| life - distance < LEAST_DISTANCE) {
            return Err(refuse(&format!("{name} must be at least 7 days away from creation and from expiry.")));
        }
        actions.push(json!({"trigger": {name: after}, "action": {"type": kind}}));
    }
    if !actions.iter().any(|action| action["action"]["type"] == "Notify") {
        actions.push(default_notice());
    }
    Ok((actions.into(), expiry.map(str::to_owned)))
}

fn refuse(why: &str) -> Reply {
    errors::bad_parameter(&format!("The rotation policy is not valid. {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_keep_azures_distances() {
        let judged = |expiry: &str, kind: &str, trigger: &str, time: &str| {
            let action = json!({"trigger": {trigger: time}, "action": {"type": kind}});
            judge(&json!({"lifetimeActions": [action], "attributes": {"expiryTime": expiry}}), 0).is_ok()
        };
        assert!(judged("P28D", "rotate", "timeAfterCreate", "P7D"));
        assert!(judged("P2Y", "Rotate", "timeBeforeExpiry", "P30D"));
        assert!(judged("", "Rotate", "timeAfterCreate", "P18M"));
        for (expiry, kind, trigger, time) in [
            ("P27D", "Rotate", "timeAfterCreate", "P7D"),
            ("P90D", "Rotate", "timeAfterCreate", "P6D"),
            ("P90D", "Rotate", "timeAfterCreate", "P84D"),
            ("P90D", "Rotate", "timeBeforeExpiry", "P6D"),
            ("P90D", "Notify", "timeAfterCreate", "P30D"),
            ("", "Rotate", "timeBeforeExpiry", "P30D"),
            ("P90D", "Delete", "timeAfterCreate", "P30D"),
            ("soon", "Rotate", "timeAfterCreate", "P30D"),
        ] {
            assert!(!judged(expiry, kind, trigger, time), "{expiry} {kind} {trigger} {time}");
        }
    }
}

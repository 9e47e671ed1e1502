//! The device code flow (RFC 8628): a program shows a code, a human approves it elsewhere, the program polls.
//! Here the built-in administrator approves, over the control port. Entra's code for an unknown device code is a guess.

use aws_lc_rs::rand;
use serde_json::json;

use super::{Form, find_tenant, is_any_tenant, refuse, token};
use crate::http::{Answer, Reply, b64url};
use crate::{World, lock};

const LIFETIME: i64 = 900;

/// A code that was given out and not yet used.
pub(crate) struct Device {
    device_code: String,
    user_code: String,
    client: String,
    scope: String,
    expires: i64,
    approved: bool,
}

pub(super) fn start(world: &World, form: &Form, tenant: &str) -> Answer {
    let (client, scope) = (form.need(world, "client_id")?, form.need(world, "scope")?);
    if !is_any_tenant(tenant) {
        world.read(|state| find_tenant(world, state, tenant).map(|_| ()))?;
    }
    token::check_public_client(world, tenant, client)?;
    let mut random = [0; 41];
    rand::fill(&mut random).map_err(|_| Reply::empty(500))?;
    // Letters and digits that are hard to confuse, as Entra takes them.
    let letters = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let user_code: String = random[..9].iter().map(|byte| char::from(letters[usize::from(byte % 32)])).collect();
    let device_code = b64url(&random[9..]);
    let now = world.now();
    let mut devices = lock(&world.devices);
    devices.retain(|device| device.expires > now);
    devices.push(Device {
        device_code: device_code.clone(),
        user_code: user_code.clone(),
        client: client.to_owned(),
        scope: scope.to_owned(),
        expires: now + LIFETIME,
        approved: false,
    });
    let page = "https://login.microsoft.com/device";
    Ok(Reply::json(
        200,
        &json!({
            "user_code": user_code,
            "device_code": device_code,
            "verification_uri": page,
            "expires_in": LIFETIME,
            "interval": world.settings.device_interval_seconds,
            "message": format!(
                "To sign in, use a web browser to open the page {page} and enter the code {user_code} to authenticate."
            ),
        }),
    ))
}

/// The human's yes. False if no such code waits.
pub(crate) fn approve(world: &World, user_code: &str) -> bool {
    let now = world.now();
    let mut devices = lock(&world.devices);
    let waiting = devices.iter_mut().find(|device| device.user_code == user_code && device.expires > now);
    waiting.map(|device| device.approved = true).is_some()
}

/// The scope that was asked for, once the code is approved; the code is used up then.
pub(super) fn redeem(world: &World, client: &str, code: &str) -> Result<String, Reply> {
    let mut devices = lock(&world.devices);
    let refuse = |error: &str, code: u32, message: &str| refuse(world, 400, error, code, message);
    let Some(at) = devices.iter().position(|device| device.device_code == code && device.client == client) else {
        return Err(refuse("bad_verification_code", 70_018, "Bad verification code."));
    };
    if devices[at].expires <= world.now() {
        let message =
            "The provided value for the input parameter 'device_code' is not valid. This device code has expired.";
        return Err(refuse("expired_token", 70_020, message));
    }
    if !devices[at].approved {
        let message = "OAuth 2.0 device flow error. Authorization is pending. Continue polling.";
        return Err(refuse("authorization_pending", 70_016, message));
    }
    Ok(devices.swap_remove(at).scope)
}

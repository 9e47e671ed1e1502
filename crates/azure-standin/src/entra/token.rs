//! The token endpoint: one grant after the other, and what each of them gives.

use serde_json::{Value, json};

use super::{Form, credentials, device, find_tenant, is_any_tenant, refuse};
use crate::World;
use crate::faults::Preset;
use crate::http::{Answer, Reply, b64url};
use crate::jwt::{self, Distrust, Subject};
use crate::state::{Application, State, Tenant, User};

/// What Entra gives tokens for, without the trailing slash.
const RESOURCES: [&str; 4] = [
    "https://vault.azure.net",
    "https://graph.microsoft.com",
    "https://management.azure.com",
    "https://management.core.windows.net",
];

/// Microsoft's own public clients, which every tenant knows.
const PUBLIC_CLIENTS: [&str; 2] = ["04b07795-8ddb-461a-bbee-02f9e1bf7b46", "1950a258-227b-4e31-a9cf-717495945fc2"];

const REFRESH: &str = "refresh";
const NINETY_DAYS: i64 = 90 * 86_400;

pub(super) fn grant(world: &World, form: &Form, tenant: &str) -> Answer {
    match form.need(world, "grant_type")? {
        "client_credentials" => client_credentials(world, form, tenant),
        "urn:ietf:params:oauth:grant-type:device_code" => device_code(world, form, tenant),
        "refresh_token" => refresh_token(world, form, tenant),
        other => {
            let message = format!("The app requested an unsupported grant type '{other}'.");
            Err(refuse(world, 400, "unsupported_grant_type", 70_003, &message))
        }
    }
}

/// The checks in Entra's order: form of the request, tenant, scope, application, credential, resource.
/// Where "disabled" stands in that order is a guess.
fn client_credentials(world: &World, form: &Form, tenant: &str) -> Answer {
    let (client, scope) = (form.need(world, "client_id")?, form.need(world, "scope")?);
    world.read(|state| {
        let tenant = find_tenant(world, state, tenant)?;
        let Some(audience) = scope.strip_suffix("/.default").filter(|audience| !audience.contains(' ')) else {
            return Err(bad_scope(world, scope));
        };
        let application = find_application(world, state, tenant, client)?;
        let how = credentials::check(world, state, tenant, application, form)?;
        let Some(principal) =
            state.principals.iter().find(|found| found.tenant == tenant.id && found.app_id == application.app_id)
        else {
            let message = format!(
                "The client application {client} is missing service principal in the tenant {}. See instructions \
                 here: https://go.microsoft.com/fwlink/?linkid=2225119",
                tenant.id
            );
            return Err(refuse(world, 401, "invalid_client", 7_000_229, &message));
        };
        if !principal.enabled {
            let message = format!("Application '{client}'({}) is disabled.", application.name);
            return Err(refuse(world, 400, "unauthorized_client", 7_000_112, &message));
        }
        check_resource(world, tenant, audience)?;
        let subject = Subject::App { appid: &application.app_id, oid: &principal.id, how };
        Ok(Reply::json(200, &access(world, state, form, audience, &tenant.id, &subject)?))
    })
}

fn device_code(world: &World, form: &Form, tenant: &str) -> Answer {
    let (client, code) = (form.need(world, "client_id")?, form.need(world, "device_code")?);
    check_public_client(world, tenant, client)?;
    let scope = device::redeem(world, client, code)?;
    world.read(|state| {
        let user = state.users.first().ok_or_else(|| Reply::empty(500))?;
        user_tokens(world, state, form, tenant, user, &scope)
    })
}

fn refresh_token(world: &World, form: &Form, tenant: &str) -> Answer {
    let (client, token) = (form.need(world, "client_id")?, form.need(world, "refresh_token")?);
    let scope = form.need(world, "scope")?;
    check_public_client(world, tenant, client)?;
    let refuse = |code: u32, message: &str| refuse(world, 400, "invalid_grant", code, message);
    world.read(|state| {
        let claims = jwt::verify(&state.signing_key, world.now(), token).map_err(|distrust| match distrust {
            Distrust::Expired(_) => refuse(700_082, "The refresh token has expired due to inactivity."),
            _ => refuse(70_000, "Provided grant is invalid or malformed."),
        })?;
        let user = state.users.iter().find(|user| user.id == claims.oid);
        match user.filter(|_| claims.aud == REFRESH && claims.appid == client) {
            Some(user) => user_tokens(world, state, form, tenant, user, scope),
            None => Err(refuse(70_000, "Provided grant is invalid or malformed.")),
        }
    })
}

/// Access, refresh and id token for a human, with the `client_info` by which MSAL knows the account again.
fn user_tokens(world: &World, state: &State, form: &Form, tenant: &str, user: &User, scope: &str) -> Answer {
    let client = form.need(world, "client_id")?;
    let home = find_tenant(world, state, &user.tenant)?;
    if !is_any_tenant(tenant) && find_tenant(world, state, tenant)?.id != home.id {
        let message = format!(
            "User account '{}' from identity provider 'https://sts.windows.net/{}/' does not exist in tenant '{tenant}' \
             and cannot access the application '{client}' in that tenant.",
            user.upn, home.id
        );
        return Err(refuse(world, 400, "invalid_grant", 50_020, &message));
    }
    let wanted = scope.split(' ').find(|part| !matches!(*part, "openid" | "profile" | "email" | "offline_access"));
    let Some((audience, _)) = wanted.unwrap_or("https://graph.microsoft.com/.default").rsplit_once('/') else {
        return Err(bad_scope(world, scope));
    };
    check_resource(world, home, audience)?;
    let subject = Subject::User { appid: client, user };
    let mut answer = access(world, state, form, audience, &home.id, &subject)?;
    let now = form.now(world);
    let refresh = json!({
        "aud": REFRESH, "iss": "", "tid": home.id, "appid": client, "oid": user.id, "nbf": now, "exp": now + NINETY_DAYS,
    });
    let id = json!({
        "aud": client, "iss": format!("https://{}/{}/v2.0", super::HOST, home.id), "iat": now, "nbf": now,
        "exp": now + jwt::LIFETIME, "name": user.name, "oid": user.id, "preferred_username": user.upn, "sub": user.id,
        "tid": home.id, "ver": "2.0",
    });
    let account = json!({"uid": user.id, "utid": home.id}).to_string();
    answer["scope"] = format!("{audience}/user_impersonation {audience}/.default").into();
    answer["refresh_token"] = jwt::sign(&state.signing_key, &refresh).into();
    answer["id_token"] = jwt::sign(&state.signing_key, &id).into();
    answer["client_info"] = b64url(account.as_bytes()).into();
    Ok(Reply::json(200, &answer))
}

fn access(
    world: &World,
    state: &State,
    form: &Form,
    audience: &str,
    tenant: &str,
    subject: &Subject,
) -> Result<Value, Reply> {
    let effect = &form.request.effect;
    if effect.preset == Some(Preset::ConditionalAccess) {
        let message = "Access has been blocked by Conditional Access policies. The access policy does not allow token \
                       issuance.";
        return Err(refuse(world, 400, "interaction_required", 53_003, message));
    }
    let issued = form.now(world) - if effect.expired_token { jwt::LIFETIME + 60 } else { 0 };
    let token = jwt::issue(&state.signing_key, issued, audience, tenant, subject);
    Ok(json!({
        "token_type": "Bearer",
        "expires_in": jwt::LIFETIME,
        "ext_expires_in": jwt::LIFETIME,
        "access_token": token.ok_or_else(|| Reply::empty(500))?,
    }))
}

fn find_application<'a>(
    world: &World,
    state: &'a State,
    tenant: &Tenant,
    client: &str,
) -> Result<&'a Application, Reply> {
    let found =
        state.applications.iter().find(|app| app.app_id.eq_ignore_ascii_case(client) && app.tenant == tenant.id);
    found.ok_or_else(|| unknown_client(world, client, &tenant.name))
}

/// A human signs in with a client that has no secret of its own.
pub(super) fn check_public_client(world: &World, tenant: &str, client: &str) -> Result<(), Reply> {
    if PUBLIC_CLIENTS.contains(&client) {
        return Ok(());
    }
    if world.read(|state| state.applications.iter().any(|app| app.app_id.eq_ignore_ascii_case(client))) {
        let message = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.";
        return Err(refuse(world, 401, "invalid_client", 7_000_218, message));
    }
    Err(unknown_client(world, client, tenant))
}

fn unknown_client(world: &World, client: &str, directory: &str) -> Reply {
    let message = format!(
        "Application with identifier '{client}' was not found in the directory '{directory}'. This can happen if the \
         application has not been installed by the administrator of the tenant or consented to by any user in the \
         tenant. You may have sent your authentication request to the wrong tenant."
    );
    refuse(world, 400, "unauthorized_client", 700_016, &message)
}

fn check_resource(world: &World, tenant: &Tenant, audience: &str) -> Result<(), Reply> {
    if RESOURCES.contains(&audience.trim_end_matches('/')) {
        return Ok(());
    }
    let message = format!(
        "The resource principal named {audience} was not found in the tenant named {}. This can happen if the \
         application has not been installed by the administrator of the tenant or consented to by any user in the \
         tenant. You might have sent your authentication request to the wrong tenant.",
        tenant.name
    );
    Err(refuse(world, 400, "invalid_resource", 500_011, &message))
}

fn bad_scope(world: &World, scope: &str) -> Reply {
    let message = format!(
        "The provided request must include a 'scope' input parameter. The provided value for the input parameter \
         'scope' is not valid. The scope {scope} is not valid."
    );
    refuse(world, 400, "invalid_scope", 70_011, &message)
}

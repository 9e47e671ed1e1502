//! Entra ID: discovery documents, the key set, and tokens for client credentials.
//! Error texts and codes: AADSTS error reference at learn.microsoft.com/entra/identity-platform/reference-error-codes.

use jiff::Timestamp;
use serde_json::json;

use crate::World;
use crate::faults::Preset;
use crate::http::{Answer, Reply, Request, new_id};
use crate::jwt;
use crate::state::{Application, State, Tenant};

pub(crate) const HOST: &str = "login.microsoftonline.com";

/// What Entra gives tokens for, without the trailing slash.
const RESOURCES: [&str; 4] = [
    "https://vault.azure.net",
    "https://graph.microsoft.com",
    "https://management.azure.com",
    "https://management.core.windows.net",
];

pub(crate) fn handle(world: &World, request: &Request) -> Answer {
    match (request.method.as_str(), request.segments().as_slice()) {
        ("GET", ["common", "discovery", "instance"]) => Ok(instance_discovery()),
        ("GET", [tenant, "v2.0", ".well-known", "openid-configuration"]) => openid(world, tenant, true),
        ("GET", [tenant, ".well-known", "openid-configuration"]) => openid(world, tenant, false),
        ("GET", [_, "discovery", "v2.0", "keys"] | [_, "discovery", "keys"]) => Ok(key_set(world)),
        ("POST", [tenant, "oauth2", "v2.0", "token"]) => token(world, request, tenant),
        _ => Err(Reply::text(404, "text/html; charset=utf-8", "<html><body><h1>404 Not Found</h1></body></html>")),
    }
}

fn instance_discovery() -> Reply {
    let endpoint = format!("https://{HOST}/common/v2.0/.well-known/openid-configuration");
    Reply::json(
        200,
        &json!({
            "tenant_discovery_endpoint": endpoint,
            "api-version": "1.1",
            "metadata": [{
                "preferred_network": HOST,
                "preferred_cache": "login.windows.net",
                "aliases": [HOST, "login.windows.net", "login.microsoft.com", "sts.windows.net"],
            }],
        }),
    )
}

fn openid(world: &World, tenant: &str, v2: bool) -> Answer {
    let id = match tenant {
        "common" | "organizations" => "{tenantid}".to_owned(),
        _ => world.read(|state| find_tenant(world, state, tenant).map(|tenant| tenant.id.clone()))?,
    };
    let base = format!("https://{HOST}/{tenant}");
    let (issuer, version) = match v2 {
        true => (format!("https://{HOST}/{id}/v2.0"), "v2.0/"),
        false => (format!("https://sts.windows.net/{id}/"), ""),
    };
    Ok(Reply::json(
        200,
        &json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{base}/oauth2/{version}authorize"),
            "token_endpoint": format!("{base}/oauth2/{version}token"),
            "device_authorization_endpoint": format!("{base}/oauth2/{version}devicecode"),
            "jwks_uri": format!("{base}/discovery/{version}keys"),
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "tenant_region_scope": "EU",
            "cloud_instance_name": "microsoftonline.com",
            "cloud_graph_host_name": "graph.windows.net",
            "msgraph_host": "graph.microsoft.com",
        }),
    ))
}

fn key_set(world: &World) -> Reply {
    let mut key = world.read(|state| state.signing_key.public_jwk());
    for (name, value) in [("kty", "RSA"), ("use", "sig"), ("kid", jwt::KEY_ID), ("x5t", jwt::KEY_ID)] {
        key[name] = value.into();
    }
    Reply::json(200, &json!({"keys": [key]}))
}

/// The checks in Entra's order: form of the request, tenant, scope, application, credential, resource.
fn token(world: &World, request: &Request, tenant: &str) -> Answer {
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&request.body).into_owned().collect();
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let missing = |name: &str| {
        let message = format!("The request body must contain the following parameter: '{name}'.");
        refuse(world, 400, "invalid_request", 900_144, &message)
    };
    match field("grant_type").ok_or_else(|| missing("grant_type"))? {
        "client_credentials" => {}
        other => {
            let message = format!("The app requested an unsupported grant type '{other}'.");
            return Err(refuse(world, 400, "unsupported_grant_type", 70_003, &message));
        }
    }
    let client = field("client_id").ok_or_else(|| missing("client_id"))?;
    let scope = field("scope").ok_or_else(|| missing("scope"))?;
    let now = world.now() + request.effect.date_skew_seconds;
    world.read(|state| {
        let tenant = find_tenant(world, state, tenant)?;
        let Some(audience) = scope.strip_suffix("/.default").filter(|audience| !audience.contains(' ')) else {
            let message = format!(
                "The provided request must include a 'scope' input parameter. The provided value for the input \
                 parameter 'scope' is not valid. The scope {scope} is not valid."
            );
            return Err(refuse(world, 400, "invalid_scope", 70_011, &message));
        };
        let application = find_application(world, state, tenant, client)?;
        check_credential(world, application, field("client_secret"), field("client_assertion").is_some(), now)?;
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
        if !RESOURCES.contains(&audience.trim_end_matches('/')) {
            let message = format!(
                "The resource principal named {audience} was not found in the tenant named {}. This can happen if \
                 the application has not been installed by the administrator of the tenant or consented to by any \
                 user in the tenant. You might have sent your authentication request to the wrong tenant.",
                tenant.name
            );
            return Err(refuse(world, 400, "invalid_resource", 500_011, &message));
        }
        if request.effect.preset == Some(Preset::ConditionalAccess) {
            let message = "Access has been blocked by Conditional Access policies. The access policy does not allow \
                           token issuance.";
            return Err(refuse(world, 400, "interaction_required", 53_003, message));
        }
        let issued = if request.effect.expired_token { now - jwt::LIFETIME - 60 } else { now };
        let token = jwt::issue(&state.signing_key, issued, audience, &tenant.id, &application.app_id, &principal.id)
            .ok_or_else(|| Reply::empty(500))?;
        Ok(Reply::json(
            200,
            &json!({
                "token_type": "Bearer",
                "expires_in": jwt::LIFETIME,
                "ext_expires_in": jwt::LIFETIME,
                "access_token": token,
            }),
        ))
    })
}

fn find_tenant<'a>(world: &World, state: &'a State, name: &str) -> Result<&'a Tenant, Reply> {
    if matches!(name, "common" | "organizations" | "consumers") {
        let message = "No tenant-identifying information found in either the request or implied by any provided \
                       credentials.";
        return Err(refuse(world, 400, "invalid_request", 50_059, message));
    }
    let domain = |text: &str| {
        text.contains('.') && text.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '.' | '-'))
    };
    if uuid::Uuid::try_parse(name).is_err() && !domain(name) || name.contains(['{', '}']) {
        let message =
            format!("Specified tenant identifier '{name}' is neither a valid DNS name, nor a valid external domain.");
        return Err(refuse(world, 400, "invalid_request", 900_023, &message));
    }
    state.tenant(name).ok_or_else(|| {
        let message = format!(
            "Tenant '{name}' not found. Check to make sure you have the correct tenant ID and are signing into the \
             correct cloud. Check with your subscription administrator, this may happen if there are no active \
             subscriptions for the tenant."
        );
        refuse(world, 400, "invalid_request", 90_002, &message)
    })
}

fn find_application<'a>(
    world: &World,
    state: &'a State,
    tenant: &Tenant,
    client: &str,
) -> Result<&'a Application, Reply> {
    let found =
        state.applications.iter().find(|app| app.app_id.eq_ignore_ascii_case(client) && app.tenant == tenant.id);
    found.ok_or_else(|| {
        let message = format!(
            "Application with identifier '{client}' was not found in the directory '{}'. This can happen if the \
             application has not been installed by the administrator of the tenant or consented to by any user in \
             the tenant. You may have sent your authentication request to the wrong tenant.",
            tenant.name
        );
        refuse(world, 400, "unauthorized_client", 700_016, &message)
    })
}

fn check_credential(
    world: &World,
    application: &Application,
    secret: Option<&str>,
    assertion: bool,
    now: i64,
) -> Result<(), Reply> {
    let app = &application.app_id;
    let refuse = |code: u32, message: &str| refuse(world, 401, "invalid_client", code, message);
    let Some(secret) = secret.filter(|secret| !secret.is_empty()) else {
        return Err(match assertion {
            true => refuse(
                700_027,
                "The certificate with identifier used to sign the client assertion is not registered on application. \
                 [Reason - The key was not found.]",
            ),
            false => refuse(
                7_000_216,
                "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.",
            ),
        });
    };
    let Some(known) = application.secrets.iter().find(|known| known.matches(secret)) else {
        return Err(refuse(
            7_000_215,
            &format!(
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, \
             not the client secret ID, for a secret added to app '{app}'."
            ),
        ));
    };
    if now < known.starts || known.ends <= now {
        return Err(refuse(
            7_000_222,
            &format!(
                "The provided client secret keys for app '{app}' are expired. Visit the Azure portal to create new keys \
             for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added \
             security: https://aka.ms/certCreds."
            ),
        ));
    }
    Ok(())
}

fn refuse(world: &World, status: u16, error: &str, code: u32, message: &str) -> Reply {
    let (trace, correlation) = (new_id(), new_id());
    let timestamp = timestamp(world.clock.now());
    Reply::json(
        status,
        &json!({
            "error": error,
            "error_description": format!(
                "AADSTS{code}: {message} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {timestamp}"
            ),
            "error_codes": [code],
            "timestamp": timestamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": format!("https://{HOST}/error?code={code}"),
        }),
    )
}

fn timestamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

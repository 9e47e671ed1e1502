//! Entra ID: `discovery` documents, the `token` endpoint, what proves an application (`credentials`), and the device
//! code by which a human signs in (`device`).
//! Error texts and codes: AADSTS error reference at learn.microsoft.com/entra/identity-platform/reference-error-codes.

mod credentials;
mod device;
mod discovery;
mod token;

use jiff::Timestamp;
use serde_json::json;

pub(crate) use credentials::{OidcToken, thumbprint};
pub(crate) use device::{Device, approve};

use crate::World;
use crate::http::{Answer, Reply, Request, new_id};
use crate::state::{State, Tenant};

pub(crate) const HOST: &str = "login.microsoftonline.com";

pub(crate) fn handle(world: &World, request: &Request) -> Answer {
    match (request.method.as_str(), request.segments().as_slice()) {
        ("GET", ["common", "discovery", "instance"]) => Ok(discovery::instance()),
        ("GET", [tenant, "v2.0", ".well-known", "openid-configuration"]) => discovery::openid(world, tenant, true),
        ("GET", [tenant, ".well-known", "openid-configuration"]) => discovery::openid(world, tenant, false),
        ("GET", [_, "discovery", "v2.0", "keys"] | [_, "discovery", "keys"]) => Ok(discovery::key_set(world)),
        ("POST", [tenant, "oauth2", "v2.0", "devicecode"]) => device::start(world, &Form::read(request), tenant),
        ("POST", [tenant, "oauth2", "v2.0", "token"]) => token::grant(world, &Form::read(request), tenant),
        _ => Err(Reply::text(404, "text/html; charset=utf-8", "<html><body><h1>404 Not Found</h1></body></html>")),
    }
}

/// A posted form, with the request that brought it. An empty field counts as missing.
struct Form<'a> {
    fields: Vec<(String, String)>,
    request: &'a Request,
}

impl<'a> Form<'a> {
    fn read(request: &'a Request) -> Self {
        Self { fields: url::form_urlencoded::parse(&request.body).into_owned().collect(), request }
    }

    /// The present second, or what a fault makes of it.
    fn now(&self, world: &World) -> i64 {
        world.now() + self.request.effect.date_skew_seconds
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    fn need(&self, world: &World, name: &str) -> Result<&str, Reply> {
        self.field(name).ok_or_else(|| {
            let message = format!("The request body must contain the following parameter: '{name}'.");
            refuse(world, 400, "invalid_request", 900_144, &message)
        })
    }
}

/// What stands for "whichever tenant the user is at home in".
fn is_any_tenant(name: &str) -> bool {
    matches!(name, "common" | "organizations")
}

fn find_tenant<'a>(world: &World, state: &'a State, name: &str) -> Result<&'a Tenant, Reply> {
    tenant_or(world, state, name, "invalid_request")
}

/// The tenant, or what Entra says where there is none, under an error name that differs from place to place.
fn tenant_or<'a>(world: &World, state: &'a State, name: &str, error: &str) -> Result<&'a Tenant, Reply> {
    if is_any_tenant(name) || name == "consumers" {
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
        return Err(refuse(world, 400, error, 900_023, &message));
    }
    state.tenant(name).ok_or_else(|| {
        let message = format!(
            "Tenant '{name}' not found. Check to make sure you have the correct tenant ID and are signing into the \
             correct cloud. Check with your subscription administrator, this may happen if there are no active \
             subscriptions for the tenant."
        );
        refuse(world, 400, error, 90_002, &message)
    })
}

fn refuse(world: &World, status: u16, error: &str, code: u32, message: &str) -> Reply {
    let (trace, correlation) = (new_id(), new_id());
    let timestamp = world.clock.now().strftime("%Y-%m-%d %H:%M:%SZ").to_string();
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

fn iso(second: i64) -> String {
    Timestamp::from_second(second).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S.0000000Z").to_string()
}

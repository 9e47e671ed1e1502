//! Key Vault's data plane for keys: which call this is, who calls, and whether they may. The calls themselves are in
//! `keys` (life of a key) and `ops` (what is done with one).

mod errors;
mod keys;
mod ops;

use serde_json::Value;

use crate::World;
use crate::faults::{Operation, Preset};
use crate::http::{Answer, Reply, Request};
use crate::jwt::{self, Claims, Distrust};
use crate::limits::Cost;
use crate::rbac;
use crate::state::{State, Vault};

pub(crate) const SUFFIX: &str = ".vault.azure.net";

/// One call of the data plane. A key version is 32 hex digits; none means the current one.
#[derive(Clone, Copy)]
enum Call<'a> {
    List,
    Create(&'a str),
    Get(&'a str, Option<&'a str>),
    Versions(&'a str),
    Update(&'a str, Option<&'a str>),
    Rotate(&'a str),
    Delete(&'a str),
    Crypto(ops::Op, &'a str, Option<&'a str>),
    ListDeleted,
    GetDeleted(&'a str),
    Recover(&'a str),
    Purge(&'a str),
}

pub(crate) fn handle(world: &World, request: &Request, vault: &str) -> Answer {
    let segments = request.segments();
    let call = Call::parse(request.method.as_str(), &segments).ok_or_else(errors::html_not_found)?;
    let assignment = world.read(|state| {
        let vault = state.vault(vault).ok_or_else(errors::html_not_found)?;
        let claims = authenticate(world, state, vault, request)?;
        admit_address(vault, &claims, request)?;
        authorize(world, state, vault, &claims, call)
    })?;
    check_api_version(request)?;
    throttle(world, request, vault, call)?;
    let reply = keys::perform(world, request, vault, call)?;
    Ok(match assignment {
        Some(name) => reply.with("x-ms-keyvault-rbac-assignment-id", &name),
        None => reply,
    })
}

/// The headers that Key Vault puts on every answer, good or bad.
pub(crate) fn decorate(world: &World, reply: Reply) -> Reply {
    reply
        .with("cache-control", "no-cache")
        .with("pragma", "no-cache")
        .with("expires", "-1")
        .with("x-ms-keyvault-region", &world.settings.region)
        .with("x-ms-keyvault-service-version", "1.9.2784.1")
        .with("x-ms-keyvault-network-info", "conn_type=Ipv4;addr=127.0.0.1;act_addr_fam=InterNetwork;")
        .with("x-content-type-options", "nosniff")
}

/// What the request is for faults and counts. One without a token will be challenged: it is no operation.
pub(crate) fn classify(world: &World, request: &Request, vault: &str) -> Operation {
    let segments = request.segments();
    let Some(call) = Call::parse(request.method.as_str(), &segments).filter(|_| request.bearer().is_some()) else {
        return Operation::default();
    };
    let (Call::Get(name, version) | Call::Update(name, version) | Call::Crypto(_, name, version)) = call else {
        return Operation { name: Some(call.name()), kid: None };
    };
    let kid = world.read(|state| {
        let key = state.vault(vault)?.key(name)?;
        Some(format!("https://{}/keys/{}/{}", request.host, key.name, key.version(version)?.id))
    });
    Operation { name: Some(call.name()), kid }
}

impl<'a> Call<'a> {
    fn parse(method: &str, segments: &[&'a str]) -> Option<Self> {
        let lower: Vec<String> = segments.iter().map(|part| part.to_ascii_lowercase()).collect();
        let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
        let named = |at: usize| segments.get(at).copied().filter(|name| is_key_name(name));
        let versioned = |at: usize| segments.get(at).copied().filter(|version| is_key_version(version));
        Some(match (method, lower.as_slice()) {
            ("GET", ["keys"]) => Self::List,
            ("GET", ["deletedkeys"]) => Self::ListDeleted,
            ("GET", ["deletedkeys", _]) => Self::GetDeleted(named(1)?),
            ("DELETE", ["deletedkeys", _]) => Self::Purge(named(1)?),
            ("POST", ["deletedkeys", _, "recover"]) => Self::Recover(named(1)?),
            ("GET", ["keys", _]) => Self::Get(named(1)?, None),
            ("GET", ["keys", _, "versions"]) => Self::Versions(named(1)?),
            ("GET", ["keys", _, _]) => Self::Get(named(1)?, Some(versioned(2)?)),
            ("PATCH", ["keys", _]) => Self::Update(named(1)?, None),
            ("PATCH", ["keys", _, _]) => Self::Update(named(1)?, Some(versioned(2)?)),
            ("DELETE", ["keys", _]) => Self::Delete(named(1)?),
            ("POST", ["keys", _, "create"]) => Self::Create(named(1)?),
            ("POST", ["keys", _, "rotate"]) => Self::Rotate(named(1)?),
            ("POST", ["keys", _, op]) => Self::Crypto(ops::Op::parse(op)?, named(1)?, None),
            ("POST", ["keys", _, _, op]) => Self::Crypto(ops::Op::parse(op)?, named(1)?, Some(versioned(2)?)),
            _ => return None,
        })
    }

    /// The name in counts and faults.
    fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Create(_) => "create",
            Self::Get(..) => "get",
            Self::Versions(_) => "versions",
            Self::Update(..) => "update",
            Self::Rotate(_) => "rotate",
            Self::Delete(_) => "delete",
            Self::Crypto(op, ..) => op.name(),
            Self::ListDeleted => "listdeleted",
            Self::GetDeleted(_) => "getdeleted",
            Self::Recover(_) => "recover",
            Self::Purge(_) => "purge",
        }
    }

    /// The data action below `Microsoft.KeyVault/vaults/keys/`, and the permission of an access policy.
    fn rights(self) -> (String, &'static str) {
        let (action, permission) = match self {
            Self::List | Self::Versions(_) | Self::ListDeleted => ("read", "list"),
            Self::Get(..) | Self::GetDeleted(_) => ("read", "get"),
            Self::Create(_) => ("create/action", "create"),
            Self::Update(..) => ("update/action", "update"),
            Self::Rotate(_) => ("rotate/action", "rotate"),
            Self::Delete(_) => ("delete", "delete"),
            Self::Recover(_) => ("recover/action", "recover"),
            Self::Purge(_) => ("purge/action", "purge"),
            Self::Crypto(op, ..) => return (format!("{}/action", op.action()), op.permission()),
        };
        (action.to_owned(), permission)
    }

    fn key(self) -> Option<&'a str> {
        match self {
            Self::List | Self::ListDeleted => None,
            Self::Create(name)
            | Self::Get(name, _)
            | Self::Versions(name)
            | Self::Update(name, _)
            | Self::Rotate(name)
            | Self::Delete(name)
            | Self::Crypto(_, name, _)
            | Self::GetDeleted(name)
            | Self::Recover(name)
            | Self::Purge(name) => Some(name),
        }
    }
}

fn authenticate(world: &World, state: &State, vault: &Vault, request: &Request) -> Result<Claims, Reply> {
    let tenant = vault.text("tenantId");
    let Some(token) = request.bearer() else {
        return Err(errors::challenge(tenant, "AKV10000: Request is missing a Bearer or PoP token."));
    };
    let claims = jwt::verify(&state.signing_key, world.now(), token).map_err(|distrust| {
        let message = match distrust {
            Distrust::Signature => "AKV10046: Unable to resolve the key used for signature validation.",
            Distrust::Expired(_) => "[TokenExpired] Error validating token: 'S2S12086'.",
            Distrust::NotYetValid => "Token not yet valid",
        };
        errors::challenge(tenant, message)
    })?;
    let issuer = format!("https://sts.windows.net/{tenant}/");
    if claims.iss != issuer {
        let message = format!("AKV10032: Invalid issuer. Expected one of {issuer}, found {}.", claims.iss);
        return Err(errors::challenge(tenant, &message));
    }
    if claims.aud.trim_end_matches('/') != "https://vault.azure.net" {
        let message = format!("AKV10022: Invalid audience. Expected https://vault.azure.net, found: {}.", claims.aud);
        return Err(errors::challenge(tenant, &message));
    }
    Ok(claims)
}

/// The network rules of the Key Vault, and those that a fault adds.
fn admit_address(vault: &Vault, claims: &Claims, request: &Request) -> Result<(), Reply> {
    let peer = request.peer.to_string();
    match request.effect.preset {
        Some(Preset::Firewall) => return Err(errors::forbidden_by_firewall(claims, &peer, vault)),
        Some(Preset::PrivateLink) => return Err(errors::forbidden_by_connection()),
        _ => {}
    }
    if vault.text("publicNetworkAccess").eq_ignore_ascii_case("Disabled") {
        return Err(errors::forbidden_by_connection());
    }
    let rules = &vault.properties["networkAcls"];
    if !rules["defaultAction"].as_str().is_some_and(|action| action.eq_ignore_ascii_case("Deny")) {
        return Ok(());
    }
    let listed = rules["ipRules"].as_array().is_some_and(|rules| {
        rules.iter().filter_map(|rule| rule["value"].as_str()).any(|rule| rule.trim_end_matches("/32") == peer)
    });
    if listed { Ok(()) } else { Err(errors::forbidden_by_firewall(claims, &peer, vault)) }
}

/// The name of the role assignment that allows the call; none if an access policy does.
fn authorize(
    world: &World,
    state: &State,
    vault: &Vault,
    claims: &Claims,
    call: Call,
) -> Result<Option<String>, Reply> {
    let (action, permission) = call.rights();
    if !vault.flag("enableRbacAuthorization") {
        let allowed = vault.properties["accessPolicies"].as_array().into_iter().flatten().any(|policy| {
            let named = |right: &Value| {
                right.as_str().is_some_and(|right| right.eq_ignore_ascii_case(permission) || right == "all")
            };
            policy["objectId"].as_str().is_some_and(|oid| oid.eq_ignore_ascii_case(&claims.oid))
                && policy["permissions"]["keys"].as_array().is_some_and(|rights| rights.iter().any(named))
        });
        let denied = || errors::forbidden_by_policy(claims, permission, vault);
        return allowed.then_some(None).ok_or_else(denied);
    }
    let action = format!("Microsoft.KeyVault/vaults/keys/{action}");
    let mut resource = vault.id(&state.subscription);
    if let Some(key) = call.key() {
        resource = format!("{resource}/keys/{key}");
    }
    rbac::allows_data(state, world.now(), &claims.oid, &resource, &action)
        .map(Some)
        .ok_or_else(|| errors::forbidden_by_rbac(claims, &action, &resource, vault))
}

fn check_api_version(request: &Request) -> Result<(), Reply> {
    let Some(asked) = request.query("api-version") else {
        return Err(errors::bad_parameter("api-version must be specified"));
    };
    let plain = asked.split("-preview").next().unwrap_or_default();
    let numbered = matches!(plain, "7.0" | "7.1" | "7.2" | "7.3" | "7.4" | "7.5" | "7.6");
    let dated = plain.parse::<jiff::civil::Date>().is_ok_and(|date| date.year() >= 2015);
    if numbered || dated {
        return Ok(());
    }
    let message = format!(
        "The specified version ({asked}) is not recognized. Consider using the latest supported version (7.6)."
    );
    Err(errors::bad_parameter(&message))
}

fn throttle(world: &World, request: &Request, vault: &str, call: Call) -> Result<(), Reply> {
    if request.effect.preset == Some(Preset::Throttled) {
        return Err(errors::throttled());
    }
    let Some(share) = world.settings.service_limits else { return Ok(()) };
    let version = call.key().and_then(|name| world.read(|state| state.vault(vault)?.key(name)?.version(None).cloned()));
    let cost = Cost {
        create: matches!(call, Call::Create(_)),
        hsm: version.as_ref().is_some_and(|version| version.kty.ends_with("-HSM")),
        rsa_bits: version.map_or(0, |version| version.material.rsa_bits()),
    };
    let admitted = crate::lock(&world.limits).admit(vault, world.now(), share, &cost);
    if admitted { Ok(()) } else { Err(errors::throttled()) }
}

fn is_key_name(name: &str) -> bool {
    (1..=127).contains(&name.len()) && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '-')
}

fn is_key_version(text: &str) -> bool {
    text.len() == 32 && text.chars().all(|char| char.is_ascii_hexdigit())
}

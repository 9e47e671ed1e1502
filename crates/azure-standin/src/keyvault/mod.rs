//! Key Vault's data plane for keys: which call this is, who calls, and whether they may. The calls themselves are in
//! `keys` (life of a key), `policy` (its rotation policy) and `ops` (what is done with one).

mod call;
mod errors;
mod keys;
pub(crate) mod log;
mod ops;
mod policy;

use serde_json::Value;

use self::call::Call;

use crate::World;
use crate::faults::{Operation, Preset};
use crate::http::{Answer, Reply, Request};
use crate::jwt::{self, Claims, Distrust};
use crate::limits::Cost;
use crate::rbac;
use crate::state::{State, Vault};

/// API versions that are named by a date.
const API_DATES: [&str; 6] =
    ["2015-06-01", "2016-10-01", "2025-06-01-preview", "2025-07-01", "2026-01-01-preview", "2026-03-01-preview"];

pub(crate) const SUFFIX: &str = ".vault.azure.net";

pub(crate) fn handle(world: &World, request: &Request, vault: &str) -> Answer {
    let segments = request.segments();
    let call = Call::parse(request.method.as_str(), &segments).ok_or_else(|| errors::no_such_path(&segments))?;
    let assignment = world.read(|state| {
        let vault = state.vault(vault).ok_or_else(errors::html_not_found)?;
        let claims = authenticate(world, state, vault, request)?;
        admit_address(vault, &claims, request)?;
        authorize(world, state, vault, &claims, call)
    })?;
    check_api_version(request)?;
    throttle(world, request, vault, call)?;
    let named = |reply: Reply| match &assignment {
        Some(name) => reply.with("x-ms-keyvault-rbac-assignment-id", name),
        None => reply,
    };
    keys::perform(world, request, vault, call).map(named).map_err(named)
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

/// The name of the role assignment that allows the call; none if an access policy does, or nothing has to.
fn authorize(
    world: &World,
    state: &State,
    vault: &Vault,
    claims: &Claims,
    call: Call,
) -> Result<Option<String>, Reply> {
    let Some(right) = call.right() else { return Ok(None) };
    if !vault.flag("enableRbacAuthorization") {
        let allowed = vault.properties["accessPolicies"].as_array().into_iter().flatten().any(|policy| {
            let named = |given: &Value| {
                given.as_str().is_some_and(|given| given.eq_ignore_ascii_case(right.permission) || given == "all")
            };
            policy["objectId"].as_str().is_some_and(|oid| oid.eq_ignore_ascii_case(&claims.oid))
                && policy["permissions"][right.object].as_array().is_some_and(|given| given.iter().any(named))
        });
        let denied = || errors::forbidden_by_policy(claims, &format!("{} {}", right.object, right.permission), vault);
        return allowed.then_some(None).ok_or_else(denied);
    }
    let action = format!("Microsoft.KeyVault/vaults/{}/{}", right.action.0, right.action.1);
    let resource = format!("{}{}", vault.id(&state.subscription), call.resource());
    rbac::allows_data(state, world.now(), &claims.oid, &resource, &action)
        .map(Some)
        .ok_or_else(|| errors::forbidden_by_rbac(claims, &action, &resource, vault))
}

fn check_api_version(request: &Request) -> Result<(), Reply> {
    let Some(asked) = request.query("api-version") else {
        return Err(errors::bad_parameter("api-version must be specified"));
    };
    let numbered = |asked: &str| {
        let minor = asked.strip_prefix("7.").map(|rest| rest.split_once("-preview").map_or(rest, |(minor, _)| minor));
        minor.and_then(|minor| minor.parse::<u8>().ok()).is_some_and(|minor| minor <= 6)
    };
    if API_DATES.contains(&asked) || numbered(asked) {
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

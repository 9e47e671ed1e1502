//! Key Vault's error bodies, to the letter where a transcript exists (`\r\n` included).
//! Where no transcript is public the text is a guess: a key outside of its dates, an expired token, a rotation policy
//! that is refused, a page size out of range, an HSM key in a standard Key Vault.

use serde_json::json;

use super::call::is_key_name;
use crate::http::Reply;
use crate::jwt::Claims;
use crate::state::{KeyVersion, Vault};

pub(super) fn error(status: u16, code: &str, inner: Option<&str>, message: &str) -> Reply {
    let mut error = json!({"code": code, "message": message});
    if let Some(inner) = inner {
        error["innererror"] = json!({"code": inner});
    }
    Reply::json(status, &json!({"error": error}))
}

/// The 401 that tells a client where to get a token, and for what.
pub(super) fn challenge(tenant: &str, message: &str) -> Reply {
    let header = format!(
        "Bearer authorization=\"https://login.microsoftonline.com/{tenant}\", resource=\"https://vault.azure.net\""
    );
    error(401, "Unauthorized", None, message).with("WWW-Authenticate", &header)
}

pub(super) fn caller(claims: &Claims) -> String {
    format!("appid={};oid={};iss={}", claims.appid, claims.oid, claims.iss)
}

pub(super) fn forbidden_by_rbac(claims: &Claims, action: &str, resource: &str, vault: &Vault) -> Reply {
    let message = format!(
        "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role \
         definitions were changed recently, please observe propagation time.\r\nCaller: {}\r\nAction: '{action}'\r\n\
         Resource: '{}'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: null \r\nVault: \
         {};location={}\r\n",
        caller(claims),
        resource.to_ascii_lowercase(),
        vault.name,
        vault.location
    );
    error(403, "Forbidden", Some("ForbiddenByRbac"), &message)
}

/// `permission` is one of an access policy, `keys get` say.
pub(super) fn forbidden_by_policy(claims: &Claims, permission: &str, vault: &Vault) -> Reply {
    let message = format!(
        "The user, group or application '{}' does not have {permission} permission on key vault '{};location={}'. \
         For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125287",
        caller(claims),
        vault.name,
        vault.location
    );
    error(403, "Forbidden", Some("ForbiddenByPolicy"), &message)
}

pub(super) fn forbidden_by_connection() -> Reply {
    let message = "Connection is not an approved private link and caller was ignored because bypass is not set to \
                   'AzureServices' and PublicNetworkAccess is set to 'Disabled'.";
    error(403, "Forbidden", Some("ForbiddenByConnection"), message)
}

pub(super) fn forbidden_by_firewall(claims: &Claims, peer: &str, vault: &Vault) -> Reply {
    let message = format!(
        "Client address is not authorized and caller is not a trusted service.\r\nClient address: {peer}\r\nCaller: \
         {}\r\nVault: {};location={}",
        caller(claims),
        vault.name,
        vault.location
    );
    error(403, "Forbidden", Some("ForbiddenByFirewall"), &message)
}

pub(super) fn throttled() -> Reply {
    let message =
        "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached";
    error(429, "Throttled", None, message)
}

pub(super) fn key_not_found(name: &str) -> Reply {
    not_found("key", "KeyNotFound", name)
}

/// `kind` is key, secret or certificate.
pub(super) fn not_found(kind: &str, code: &str, name: &str) -> Reply {
    let message = format!(
        "A {kind} with (name/id) {name} was not found in this key vault. If you recently deleted this {kind} you may be \
         able to recover it using the correct recovery command. For help resolving this issue, please see \
         https://go.microsoft.com/fwlink/?linkid=2125182"
    );
    error(404, code, None, &message)
}

pub(super) fn deleted_key_not_found(name: &str) -> Reply {
    error(404, "KeyNotFound", None, &format!("Deleted Key not found: {name}"))
}

/// A path that Key Vault does not take: because of the name in it, or as a whole.
pub(super) fn no_such_path(segments: &[&str]) -> Reply {
    match segments {
        ["keys" | "deletedkeys", name, ..] if !is_key_name(name) => {
            bad_parameter(&format!("The request URI contains an invalid name: {name}"))
        }
        _ => html_not_found(),
    }
}

/// IIS, not Key Vault, answers what is no key path at all.
pub(super) fn html_not_found() -> Reply {
    let body = "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\">\r\n<html><head><title>404 - File or \
                directory not found.</title></head>\r\n<body><h2>404 - File or directory not found.</h2>\r\n<h3>The \
                resource you are looking for might have been removed, had its name changed, or is temporarily \
                unavailable.</h3></body></html>\r\n";
    Reply::text(404, "text/html", body)
}

pub(super) fn key_disabled(operation: &str) -> Reply {
    let message = format!("Operation {operation} is not allowed on a disabled key.");
    error(403, "Forbidden", Some("KeyDisabled"), &message)
}

/// Documented: wrap, encrypt and sign are refused outside of nbf and exp. The text is a guess after the one for secrets.
pub(super) fn outside_dates(operation: &str, expired: bool) -> Reply {
    let (what, inner) = if expired { ("an expired", "KeyExpired") } else { ("a not yet valid", "KeyNotYetValid") };
    error(403, "Forbidden", Some(inner), &format!("Operation {operation} is not allowed on {what} key."))
}

pub(super) fn operation_forbidden(operation: &str) -> Reply {
    let message = format!("Operation {operation} is not permitted on this key.");
    error(403, "Forbidden", Some("KeyOperationForbidden"), &message)
}

/// What Key Vault says to a path that ends in no operation of its own.
pub(super) fn no_such_operation(method: &str, operation: &str) -> Reply {
    bad_parameter(&format!("Method {method} does not allow operation '{operation}'"))
}

/// An algorithm that signs with keys of another type, or on another curve.
pub(super) fn incompatible(kid: &str, version: &KeyVersion, alg: &str) -> Reply {
    let wanted = match alg {
        "ES256" => "P-256",
        "ES384" => "P-384",
        "ES512" => "P-521",
        _ => "P-256K",
    };
    let why = match (version.material.curve(), alg.starts_with("ES")) {
        (Some(curve), true) => {
            format!("uses curve '{curve}', and algorithm '{alg}' can only be used with curve '{wanted}'")
        }
        (_, ec) => {
            let kty = if ec { "EC" } else { "RSA" };
            format!(
                "is of type '{}', and algorithm '{alg}' can only be used with a key of type '{kty}' or '{kty}-HSM'",
                version.kty
            )
        }
    };
    bad_parameter(&format!("Key and signing algorithm are incompatible. Key {kid} {why}."))
}

pub(super) fn bad_parameter(message: &str) -> Reply {
    error(400, "BadParameter", None, message)
}

pub(super) fn incorrect_parameter() -> Reply {
    bad_parameter("The parameter is incorrect.\r\n")
}

pub(super) fn deleted_but_recoverable(name: &str) -> Reply {
    let message = format!(
        "Key {name} is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the \
         key can only be recovered or purged."
    );
    error(409, "Conflict", Some("ObjectIsDeletedButRecoverable"), &message)
}

pub(super) fn purge_protected() -> Reply {
    let message = "Operation \"purge\" is not allowed because purge protection is enabled for this vault. Key Vault \
                   service will automatically purge it after the retention period has passed.";
    error(403, "Forbidden", None, message)
}

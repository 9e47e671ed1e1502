//! The diagnostic log that Azure writes of a Key Vault, category AuditEvent, as a storage account holds it: one JSON
//! object a line. learn.microsoft.com/azure/key-vault/general/logging describes each field.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::call::Call;
use crate::World;
use crate::http::{Request, unb64url};

/// The entry of one request and its answer.
pub(crate) fn entry(world: &World, request: &Request, vault: &str, status: u16, at: Timestamp) -> String {
    let segments = request.segments();
    let claims = request.bearer().map(claims).unwrap_or_default();
    let operation = match Call::parse(request.method.as_str(), &segments) {
        Some(call) if status != 401 => operation_name(call.name()),
        _ => "Authentication",
    };
    let good = (200..300).contains(&status);
    let entry = json!({
        "time": at.to_string(),
        "resourceId": world.read(|state| state.vault(vault).map(|found| found.id(&state.subscription).to_uppercase())),
        "operationName": operation,
        "operationVersion": request.query("api-version").unwrap_or_default(),
        "category": "AuditEvent",
        "resultType": if good { "Success" } else { "Failed" },
        "resultSignature": signature(status),
        "resultDescription": "",
        "durationMs": "1",
        "callerIpAddress": request.peer.to_string(),
        "correlationId": request.header("x-ms-client-request-id").unwrap_or_default(),
        "identity": {"claim": {
            "http://schemas.microsoft.com/identity/claims/objectidentifier": claims["oid"],
            "appid": claims["appid"],
        }},
        "properties": {
            "clientInfo": request.header("user-agent").unwrap_or_default(),
            "requestUri": asked(request),
            "id": format!("https://{}{}", request.host, request.path),
            "httpStatusCode": status,
        },
    });
    entry.to_string()
}

fn asked(request: &Request) -> String {
    let query = request.query("api-version").map(|date| format!("?api-version={date}")).unwrap_or_default();
    format!("https://{}{}{query}", request.host, request.path)
}

/// What the token says, whether or not it was accepted.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).and_then(unb64url);
    payload.and_then(|payload| serde_json::from_slice(&payload).ok()).unwrap_or_default()
}

fn operation_name(name: &str) -> &'static str {
    match name {
        "wrapkey" => "KeyWrap",
        "unwrapkey" => "KeyUnwrap",
        "encrypt" => "KeyEncrypt",
        "decrypt" => "KeyDecrypt",
        "sign" => "KeySign",
        "verify" => "KeyVerify",
        "get" => "KeyGet",
        "list" => "KeyList",
        "versions" => "KeyListVersions",
        "create" => "KeyCreate",
        "import" => "KeyImport",
        "update" => "KeyUpdate",
        "rotate" => "KeyRotate",
        "delete" => "KeyDelete",
        "recover" => "KeyRecover",
        "purge" => "KeyPurge",
        "listdeleted" => "KeyListDeleted",
        "getdeleted" => "KeyGetDeleted",
        "secrets" => "SecretList",
        "secret" => "SecretGet",
        "certificates" => "CertificateList",
        "certificate" => "CertificateGet",
        _ => "KeyOperation",
    }
}

fn signature(status: u16) -> &'static str {
    match status {
        200..300 => "OK",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        429 => "Too Many Requests",
        _ => "Bad Request",
    }
}

//! Reads what Azure answers when it refuses. The SDK's own reading is not used: it fails on any JSON escape, which real
//! Key Vault messages contain, and knows no inner codes.
//!
//! Shapes: Key Vault `{"error":{"code","message","innererror":{"code"}}}`, Entra `{"error","error_codes",
//! "error_description"}`. Anything may instead be HTML, empty, or cut off: then it did not come from Azure.

use serde::Deserialize;

use super::transport::{Exchange, Outcome};
use crate::failure::Facts;
use crate::{Code, Credential, KeyFailure, Operation, Step};

/// The failure that the last of these exchanges was. What `credential` sends is blanked out should an answer repeat it.
pub(super) fn failure(operation: Operation, exchanges: Vec<Exchange>, credential: &Credential) -> KeyFailure {
    let Reading { code, detail, facts } = match exchanges.last() {
        Some(last) => read(last, operation),
        None => Reading::new(Code::Unreadable, "the SDK made no request"),
    };
    let mut failure = KeyFailure::new(code, operation, credential.blank_out(&detail));
    failure.facts = Box::new(facts);
    if let Some(last) = exchanges.last() {
        failure.http_status = last.receipt.status;
        failure.azure_request_id = last.receipt.azure_request_id.clone();
        failure.our_request_id = Some(last.receipt.our_request_id);
        if let Outcome::Refused { retry_after, .. } = last.outcome {
            failure.retry_after = retry_after;
        }
    }
    failure.receipts = exchanges.into_iter().map(|exchange| exchange.receipt).collect();
    failure
}

/// For the fuzzer: as what a refusal of Entra or of a Key Vault is read, and its words.
#[cfg(fuzzing)]
pub fn read_refusal(entra: bool, status: u16, body: &[u8], operation: Operation) -> (Code, String) {
    let reading = match entra {
        true => read_entra(status, body, "login.example"),
        false => read_key_vault(status, body, "vault.example", operation),
    };
    (reading.code, reading.detail)
}

#[derive(Debug)]
struct Reading {
    code: Code,
    detail: String,
    facts: Facts,
}

impl Reading {
    fn new(code: Code, detail: impl Into<String>) -> Reading {
        Reading { code, detail: detail.into(), facts: Facts::default() }
    }
}

fn read(exchange: &Exchange, operation: Operation) -> Reading {
    let mut reading = read_outcome(exchange, operation);
    // Whoever answered in Azure's place may have taken offence at the path.
    if reading.code == Code::Unreadable {
        reading.detail = format!("{} ({})", reading.detail, exchange.asked);
    }
    reading
}

fn read_outcome(exchange: &Exchange, operation: Operation) -> Reading {
    let host = &exchange.receipt.host;
    match &exchange.outcome {
        Outcome::Pending => Reading::new(Code::Timeout, format!("{host} did not answer before the deadline")),
        Outcome::Failed { code, detail } => Reading::new(*code, detail.clone()),
        Outcome::Good => Reading::new(Code::Unreadable, format!("{host} said success, but not in Azure's form")),
        Outcome::Refused { status, .. } if (300..400).contains(status) => {
            Reading::new(Code::Redirected, format!("{host} answered {status}"))
        }
        Outcome::Refused { status, body, .. } => match exchange.receipt.step {
            Step::SignIn | Step::Tenant => read_entra(*status, body, host),
            Step::Challenge if *status == 401 => {
                Reading::new(Code::Unreadable, format!("{host} asks for a sign-in, but not as Key Vault does"))
            }
            Step::Challenge | Step::GetKey | Step::WrapKey | Step::UnwrapKey | Step::Sign | Step::Probe => {
                read_key_vault(*status, body, host, operation)
            }
        },
    }
}

#[derive(Deserialize)]
struct KeyVaultAnswer {
    error: KeyVaultError,
}

#[derive(Deserialize)]
struct KeyVaultError {
    code: String,
    #[serde(default)]
    message: String,
    innererror: Option<InnerError>,
}

#[derive(Deserialize)]
struct InnerError {
    code: Option<String>,
}

fn read_key_vault(status: u16, body: &[u8], host: &str, operation: Operation) -> Reading {
    if let Some(code) = by_status_alone(status) {
        let message = serde_json::from_slice::<KeyVaultAnswer>(body).map(|answer| words(&answer.error.message));
        return Reading::new(code, message.unwrap_or_else(|_| format!("{host} answered {status}")));
    }
    let Ok(KeyVaultAnswer { error }) = serde_json::from_slice(body) else {
        return unreadable(status, body, host);
    };
    let inner = error.innererror.and_then(|inner| inner.code).unwrap_or_default();
    let message = error.message.as_str();
    let code = match (status, error.code.as_str()) {
        (401, "Unauthorized") if message.contains("AKV10032") => Code::TenantMismatch,
        (401, "Unauthorized") => Code::TokenRefused,
        (403, "Forbidden") => forbidden(&inner, message),
        (404, "KeyNotFound") if operation == Operation::Unwrap => Code::KeyDeleted,
        (404, "KeyNotFound") => Code::KeyNotFound,
        (400, "BadParameter") if operation == Operation::Unwrap => Code::BadParameter,
        (400, _) => Code::BadRequest,
        _ => Code::Unreadable,
    };
    let facts = Facts { private_only: inner == "ForbiddenByConnection", ..facts(message) };
    Reading { code, detail: words(message), facts }
}

/// The reasons that Key Vault gives in `innererror.code`. For a key outside of its dates no code is documented, so there
/// the message decides.
fn forbidden(inner: &str, message: &str) -> Code {
    match inner {
        "KeyDisabled" => Code::KeyDisabled,
        "KeyOperationForbidden" => Code::OperationForbidden,
        "ForbiddenByRbac" | "AccessDenied" | "ForbiddenByPolicy" => Code::AccessRemoved,
        "ForbiddenByFirewall" | "ForbiddenByConnection" => Code::Firewall,
        _ => {
            let (inner, message) = (inner.to_ascii_lowercase(), message.to_ascii_lowercase());
            let says = |text: &str| inner.contains(&text.replace(' ', "")) || message.contains(text);
            if says("expired") {
                Code::KeyExpired
            } else if says("not yet valid") || says("not valid yet") || message.contains("before its activation") {
                Code::KeyNotYetValid
            } else {
                Code::KeyForbidden
            }
        }
    }
}

#[derive(Deserialize)]
struct EntraAnswer {
    /// As in `invalid_client`; its presence tells Entra's form from any other.
    #[serde(rename = "error")]
    _error: String,
    #[serde(default)]
    error_codes: Vec<i64>,
    #[serde(default)]
    error_description: String,
}

fn read_entra(status: u16, body: &[u8], host: &str) -> Reading {
    let answer = serde_json::from_slice::<EntraAnswer>(body);
    if let Some(code) = by_status_alone(status) {
        let message = answer.map(|answer| words(&answer.error_description));
        return Reading::new(code, message.unwrap_or_else(|_| format!("{host} answered {status}")));
    }
    let Ok(answer) = answer else { return unreadable(status, body, host) };
    let is = |number: i64| {
        answer.error_codes.contains(&number) || answer.error_description.starts_with(&format!("AADSTS{number}:"))
    };
    let known = [
        (7_000_215, Code::SecretWrong),
        (7_000_222, Code::SecretExpired),
        (700_016, Code::UnknownClient),
        (90_002, Code::UnknownTenant),
        (700_027, Code::CertificateRefused),
        (700_024, Code::AssertionTime),
        (70_021, Code::NoFederation),
        (70_025, Code::NoFederation),
        (700_211, Code::NoFederation),
        (700_212, Code::NoFederation),
        (700_213, Code::NoFederation),
        (7_002_138, Code::NoFederation),
        (7_000_112, Code::ApplicationDisabled),
        (7_000_229, Code::NoServicePrincipal),
        (53_003, Code::SignInBlocked),
        (500_011, Code::UnknownResource),
    ];
    let code = match known.into_iter().find(|(number, _)| is(*number)) {
        // One number for "not registered" and "expired"; its words tell them apart.
        Some((700_027, _)) if answer.error_description.contains("expired") => Code::CertificateExpired,
        Some((_, code)) => code,
        None => Code::SignInFailed,
    };
    // After the first sentence come trace ids and the time, which the receipt has.
    let description = answer.error_description.split(" Trace ID:").next().unwrap_or_default();
    let description = description.split("\r\nTrace ID:").next().unwrap_or_default();
    let mut reading = Reading::new(code, words(description));
    if is(700_212) {
        let named = description.split_once("audience '").and_then(|(_, rest)| rest.split('\'').next());
        reading.facts.audience = Some(named.map_or_else(|| "another audience".to_owned(), words));
    }
    reading
}

/// Statuses whose meaning does not depend on who answered.
fn by_status_alone(status: u16) -> Option<Code> {
    match status {
        408 => Some(Code::Timeout),
        429 => Some(Code::Throttled),
        500..600 => Some(Code::Unavailable),
        _ => None,
    }
}

fn unreadable(status: u16, body: &[u8], host: &str) -> Reading {
    let start = body.trim_ascii_start();
    let what = match start {
        [] => "nothing in it",
        [b'<', ..] => "an HTML page",
        [b'{' | b'[', ..] => "JSON that is damaged or not Azure's",
        _ => "something that is not JSON",
    };
    Reading::new(Code::Unreadable, format!("{host} answered {status} with {what}"))
}

/// Reads names out of Key Vault's messages, to fill in the command that mends it.
fn facts(message: &str) -> Facts {
    let after = |mark: &str, end: &[char]| {
        let rest = message.split_once(mark)?.1.trim_start();
        let value = rest.split(end).next()?.trim();
        (!value.is_empty()).then(|| words(value))
    };
    Facts {
        object_id: after("oid=", &[';', '\'', '\r', '\n', ' ']).filter(|id| uuid::Uuid::try_parse(id).is_ok()),
        action: after("Action: '", &['\'']),
        resource: after("Resource: '", &['\'']),
        client_address: after("Client address: ", &['\r', '\n', ' '])
            .filter(|text| text.parse::<std::net::IpAddr>().is_ok()),
        access_policies: message.contains(" permission on key vault "),
        ..Facts::default()
    }
}

/// Another's words on one line: control characters become spaces, tokens are blanked out, and it ends after 400
/// characters.
pub(super) fn words(text: &str) -> String {
    let shown = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let mut line = String::new();
    for word in shown {
        if line.chars().count() + word.chars().count() > 400 {
            line.push('…');
            break;
        }
        line.push_str(if word.contains("eyJ") { "…" } else { word });
        line.push(' ');
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Class;

    const HOST: &str = "acme.vault.azure.net";
    const LOGIN: &str = "login.microsoftonline.com";

    fn key_vault(status: u16, body: &str, operation: Operation) -> Reading {
        read_key_vault(status, body.as_bytes(), HOST, operation)
    }

    fn unwrap_code(status: u16, code: &str, inner: &str, message: &str) -> Code {
        let body = serde_json::json!({"error": {"code": code, "message": message, "innererror": {"code": inner}}});
        key_vault(status, &body.to_string(), Operation::Unwrap).code
    }

    /// As in a transcript of terraform-provider-azurerm #27817, `\r\n` included.
    const RBAC: &str = r#"{"error":{"code":"Forbidden","message":"Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role definitions were changed recently, please observe propagation time.\r\nCaller: appid=11111111-1111-1111-1111-111111111111;oid=22222222-2222-2222-2222-222222222222;iss=https://sts.windows.net/33333333-3333-3333-3333-333333333333/\r\nAction: 'Microsoft.KeyVault/vaults/keys/unwrap/action'\r\nResource: '/subscriptions/44444444-4444-4444-4444-444444444444/resourcegroups/rg/providers/microsoft.keyvault/vaults/acme/keys/kek'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: null \r\nVault: acme;location=westeurope\r\n","innererror":{"code":"ForbiddenByRbac"}}}"#;

    #[test]
    fn a_message_with_line_breaks_is_read_and_its_names_are_found() {
        let reading = key_vault(403, RBAC, Operation::Unwrap);
        assert_eq!(reading.code, Code::AccessRemoved);
        assert_eq!(reading.facts.object_id.as_deref(), Some("22222222-2222-2222-2222-222222222222"));
        assert_eq!(reading.facts.action.as_deref(), Some("Microsoft.KeyVault/vaults/keys/unwrap/action"));
        assert!(reading.facts.resource.is_some_and(|resource| resource.ends_with("/vaults/acme/keys/kek")));
        assert!(reading.detail.starts_with("Caller is not authorized to perform action on resource. If role"));
        assert!(!reading.detail.contains(['\r', '\n']));
    }

    #[test]
    fn each_reason_of_key_vault_has_its_code() {
        for (status, code, inner, message, expected) in [
            (
                403,
                "Forbidden",
                "KeyDisabled",
                "Operation unwrapKey is not allowed on a disabled key.",
                Code::KeyDisabled,
            ),
            (
                403,
                "Forbidden",
                "KeyOperationForbidden",
                "Operation decrypt is not permitted on this key.",
                Code::OperationForbidden,
            ),
            (
                403,
                "Forbidden",
                "AccessDenied",
                "The user, group or application 'appid=…' does not have keys get permission on key vault 'acme;location=westeurope'.",
                Code::AccessRemoved,
            ),
            (403, "Forbidden", "ForbiddenByPolicy", "", Code::AccessRemoved),
            (
                403,
                "Forbidden",
                "ForbiddenByFirewall",
                "Client address is not authorized and caller is not a trusted service.\r\nClient address: 203.0.113.7",
                Code::Firewall,
            ),
            (403, "Forbidden", "ForbiddenByConnection", "Public network access is disabled.", Code::Firewall),
            (403, "Forbidden", "KeyExpired", "", Code::KeyExpired),
            (403, "Forbidden", "", "The key is not yet valid.", Code::KeyNotYetValid),
            (403, "Forbidden", "SomethingNew", "No.", Code::KeyForbidden),
            (404, "KeyNotFound", "", "A key with (name/id) kek was not found in this key vault.", Code::KeyDeleted),
            (400, "BadParameter", "", "Unable to decrypt specified value with this key.", Code::BadParameter),
            (400, "BadParameter", "", "The parameter is incorrect.\r\n", Code::BadParameter),
            (401, "Unauthorized", "", "AKV10000: Request is missing a Bearer or PoP token.", Code::TokenRefused),
            (
                401,
                "Unauthorized",
                "",
                "AKV10032: Invalid issuer. Expected one of https://sts.windows.net/a/, found https://sts.windows.net/b/.",
                Code::TenantMismatch,
            ),
            (
                429,
                "Throttled",
                "",
                "Request was not processed because too many requests were received.",
                Code::Throttled,
            ),
            (503, "ServiceUnavailable", "", "", Code::Unavailable),
            (409, "Conflict", "ObjectIsBeingRecovered", "", Code::Unreadable),
        ] {
            assert_eq!(unwrap_code(status, code, inner, message), expected, "{status} {code} {inner} {message}");
        }
    }

    #[test]
    fn a_missing_key_is_called_deleted_only_where_it_was_known_to_exist() {
        let body = r#"{"error":{"code":"KeyNotFound","message":"A key with (name/id) kek was not found"}}"#;
        assert_eq!(key_vault(404, body, Operation::Unwrap).code, Code::KeyDeleted);
        assert_eq!(key_vault(404, body, Operation::Describe).code, Code::KeyNotFound);
        assert_eq!(key_vault(404, body, Operation::Wrap).code, Code::KeyNotFound);
    }

    #[test]
    fn what_did_not_come_from_azure_is_an_outage_whatever_its_status() {
        for status in [400, 401, 403, 404, 418, 500, 502, 503] {
            for body in [
                "",
                "  ",
                "<!DOCTYPE html><html><body>404 - File or directory not found.</body></html>",
                &RBAC[..RBAC.len() / 2],
                r#"{"message":"Forbidden"}"#,
                r#"{"error":"Forbidden"}"#,
                r#"["KeyDisabled"]"#,
                "KeyDisabled",
            ] {
                let code = key_vault(status, body, Operation::Unwrap).code;
                assert_eq!(crate::failure::class(code, Operation::Unwrap), crate::Class::Outage, "{status} {body}");
            }
        }
    }

    #[test]
    fn each_refusal_of_entra_has_its_code() {
        for (status, number, description, expected) in [
            (
                401,
                7_000_215,
                "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app 'a'.",
                Code::SecretWrong,
            ),
            (
                401,
                7_000_222,
                "AADSTS7000222: The provided client secret keys for app 'a' are expired.",
                Code::SecretExpired,
            ),
            (
                400,
                700_016,
                "AADSTS700016: Application with identifier 'a' was not found in the directory 'b'.",
                Code::UnknownClient,
            ),
            (
                400,
                90_002,
                "AADSTS90002: Tenant 'b' not found.\r\nTrace ID: 1\r\nCorrelation ID: 2",
                Code::UnknownTenant,
            ),
            (400, 53_003, "AADSTS53003: Access has been blocked by Conditional Access policies.", Code::SignInBlocked),
            (
                400,
                500_011,
                "AADSTS500011: The resource principal named x was not found in the tenant named y.",
                Code::UnknownResource,
            ),
            (
                401,
                700_027,
                "AADSTS700027: The certificate with identifier used to sign the client assertion is not registered on application. [Reason - The key was not found., Thumbprint of key used by client: 'A1']",
                Code::CertificateRefused,
            ),
            (
                401,
                700_027,
                "AADSTS700027: The certificate with identifier used to sign the client assertion is expired on application. [Reason - The key used is expired.]",
                Code::CertificateExpired,
            ),
            (
                401,
                700_024,
                "AADSTS700024: Client assertion is not within its valid time range. Current time: 2026-01-01T00:00:00Z",
                Code::AssertionTime,
            ),
            (
                400,
                70_021,
                "AADSTS70021: No matching federated identity record found for presented assertion.",
                Code::NoFederation,
            ),
            (
                401,
                70_025,
                "AADSTS70025: The client 'a'(Strongroom) has no configured federated identity credentials.",
                Code::NoFederation,
            ),
            (
                401,
                700_211,
                "AADSTS700211: No matching federated identity record found for presented assertion issuer 'a'.",
                Code::NoFederation,
            ),
            (
                401,
                700_212,
                "AADSTS700212: No matching federated identity record found for presented assertion audience 'a'.",
                Code::NoFederation,
            ),
            (
                401,
                700_213,
                "AADSTS700213: No matching federated identity record found for presented assertion subject 'a'.",
                Code::NoFederation,
            ),
            (
                401,
                7_002_138,
                "AADSTS7002138: No matching federated identity record found for presented assertion subject 'a'. The subject matches with case-insensitive comparison, but not with case-sensitive comparison.",
                Code::NoFederation,
            ),
            (401, 7_000_112, "AADSTS7000112: Application 'a'(Strongroom) is disabled.", Code::ApplicationDisabled),
            (
                400,
                7_000_229,
                "AADSTS7000229: The client application a is missing service principal in the tenant b.",
                Code::NoServicePrincipal,
            ),
            (400, 90_013, "AADSTS90013: Invalid input received from the user.", Code::SignInFailed),
        ] {
            let body = serde_json::json!({"error": "invalid_client", "error_description": description, "error_codes": [number]});
            let reading = read_entra(status, body.to_string().as_bytes(), LOGIN);
            assert_eq!(reading.code, expected, "{number}");
            assert!(!reading.detail.contains("Trace ID"), "{}", reading.detail);
            let without_list = serde_json::json!({"error": "invalid_client", "error_description": description});
            assert_eq!(read_entra(status, without_list.to_string().as_bytes(), LOGIN).code, expected, "{number}");
        }
    }

    #[test]
    fn a_sign_in_page_of_somebody_else_denies_nothing() {
        for body in ["", "<html>AADSTS7000215: Invalid client secret</html>", r#"{"error_codes":[7000215]}"#] {
            assert_eq!(read_entra(401, body.as_bytes(), LOGIN).code, Code::Unreadable, "{body}");
        }
        assert_eq!(read_entra(503, b"", LOGIN).code, Code::Unavailable);
        assert_eq!(read_entra(429, b"", LOGIN).code, Code::Throttled);
    }

    #[test]
    fn words_of_others_are_one_short_line_without_tokens() {
        assert_eq!(words("a\r\n  b\u{7}c"), "a b c");
        assert_eq!(words("Bearer eyJhbGciOi.eyJpc3M.sig was refused"), "Bearer … was refused");
        assert!(words(&"word ".repeat(1000)).chars().count() <= 403);
        assert_eq!(words(&"x".repeat(5000)), "…");
    }

    proptest! {
        #[test]
        fn no_body_makes_the_reader_panic_or_passes_for_a_denial_without_being_json(
            body: Vec<u8>, status in 400u16..600, entra: bool,
        ) {
            let reading = match entra {
                true => read_entra(status, &body, LOGIN),
                false => read_key_vault(status, &body, HOST, Operation::Unwrap),
            };
            prop_assert!(!reading.detail.chars().any(char::is_control));
            let failure = KeyFailure::new(reading.code, Operation::Unwrap, "");
            let is_json = body.contains(&b'{');
            prop_assert!(failure.class != Class::Denial || is_json);
        }

        #[test]
        fn a_message_is_told_in_one_line_without_a_token(message in "(?s).{0,600}", status in 400u16..500) {
            let body = serde_json::json!({"error": {"code": "Forbidden", "message": format!("{message} eyJhbGciOi")}});
            let reading = key_vault(status, &body.to_string(), Operation::Unwrap);
            prop_assert!(!reading.detail.chars().any(char::is_control) && !reading.detail.contains("eyJ"));
        }
    }
}

//! Azure's diagnostic log of a Key Vault, category AuditEvent, as it leaves Azure: JSON lines in a storage account, an
//! object with `records` from an event hub, or rows of the tables AzureDiagnostics or AZKVAuditLogs out of Log Analytics.
//! learn.microsoft.com/azure/key-vault/general/logging names the fields.

use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use strongroom_keys::azure::Cloud;
use uuid::Uuid;

/// One entry, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub at: Timestamp,
    /// As in `KeyUnwrap`.
    pub operation: String,
    pub success: bool,
    /// Host and path of the request, in lower case; where the log leaves the request out, the key's id.
    pub target: String,
    /// The key's id, in the same form; empty where the log leaves it out.
    pub id: String,
    /// The client request id, if it is a UUID.
    pub request: Option<Uuid>,
    pub application: Option<String>,
    pub address: Option<String>,
}

/// A log, as far as it could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureLog {
    pub entries: Vec<Entry>,
    /// Whether the last line is not whole, as in a file that Azure is still writing. It is left out.
    pub cut_off: bool,
}

/// This is not a log of a Key Vault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotALog {
    #[error("line {0} is not JSON; a log is JSON lines, an object with `records`, or a list")]
    Json(usize),
    #[error("entry {index} has no readable {field}; is this the log of category AuditEvent?")]
    Field { index: usize, field: &'static str },
}

/// Reads a log in any of its forms. Entries of other categories are left out.
pub fn read(text: &str) -> Result<AzureLog, NotALog> {
    // Windows puts a byte order mark before what it exports.
    let text = text.trim_start_matches('\u{feff}');
    let (values, cut_off) = match serde_json::from_str::<Value>(text) {
        Ok(whole) => (flatten(whole), false),
        Err(_) => lines(text)?,
    };
    let ours =
        |value: &Value| text_of(value, &["category", "Category"]).is_none_or(|category| category == "AuditEvent");
    let entries = values.iter().enumerate().filter(|(_, value)| ours(value));
    let entries = entries.map(|(index, value)| entry(index + 1, value)).collect::<Result<_, _>>()?;
    Ok(AzureLog { entries, cut_off })
}

/// Each line is JSON, but the last one after others may have been cut off.
fn lines(text: &str) -> Result<(Vec<Value>, bool), NotALog> {
    let mut values = Vec::new();
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()).peekable();
    while let Some((number, line)) = lines.next() {
        match serde_json::from_str(line) {
            Ok(value) => values.extend(flatten(value)),
            Err(_) if lines.peek().is_none() && !text.ends_with('\n') && !values.is_empty() => {
                return Ok((values, true));
            }
            Err(_) => return Err(NotALog::Json(number)),
        }
    }
    Ok((values, false))
}

fn flatten(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values,
        Value::Object(mut object) => match object.remove("records") {
            Some(Value::Array(values)) => values,
            _ => vec![Value::Object(object)],
        },
        other => vec![other],
    }
}

fn entry(index: usize, value: &Value) -> Result<Entry, NotALog> {
    let field = |field| NotALog::Field { index, field };
    let at = text_of(value, &["time", "TimeGenerated", "TimeGenerated [UTC]"]).ok_or(field("time"))?;
    let operation = text_of(value, &["operationName", "OperationName"]).ok_or(field("operationName"))?;
    let status =
        find(value, &["httpStatusCode", "httpStatusCode_d", "HttpStatusCode"]).and_then(|status| match status {
            Value::String(text) => text.parse().ok(),
            number => number.as_f64(),
        });
    let success = match status {
        Some(status) => (200.0..300.0).contains(&status),
        None => text_of(value, &["resultType", "ResultType"]).is_some_and(|result| result == "Success"),
    };
    let asked = text_of(value, &["requestUri", "requestUri_s", "RequestUri"]).filter(|asked| !asked.is_empty());
    let id = text_of(value, &["id", "id_s", "Id"]).unwrap_or_default();
    let claim = find(value, &["identity", "Identity"]).and_then(|identity| find(identity, &["appid"])?.as_str());
    Ok(Entry {
        at: at.parse().map_err(|_| field("time"))?,
        operation: operation.to_owned(),
        success,
        target: target_of(asked.unwrap_or(id)),
        id: target_of(id),
        request: text_of(value, &["correlationId", "CorrelationId"]).and_then(|id| id.parse().ok()),
        application: claim.or_else(|| text_of(value, &["identity_claim_appid_g"])).map(str::to_owned),
        address: text_of(value, &["callerIpAddress", "CallerIPAddress", "CallerIpAddress"]).map(str::to_owned),
    })
}

/// Host and path of a URL in lower case, without a port, percent signs, empty segments and the query. Whoever sends a
/// request chooses how it is spelled, so that a Key Vault's other names are told by its first one.
fn target_of(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let url = percent_decode_str(url).decode_utf8_lossy().to_ascii_lowercase();
    let rest = url.strip_prefix("https://").unwrap_or(&url);
    let mut parts = rest.split('/').filter(|part| !part.is_empty());
    let host = parts.next().unwrap_or_default();
    let host = public_name(host.strip_suffix(":443").unwrap_or(host).trim_end_matches('.'));
    std::iter::once(host.as_str()).chain(parts).collect::<Vec<_>>().join("/")
}

/// A Key Vault's public name for the ones that it has for private endpoints.
fn public_name(host: &str) -> String {
    for cloud in Cloud::ALL {
        // learn.microsoft.com/azure/private-link/private-endpoint-dns
        let private = cloud.vault_suffix().replacen(".vault.", ".vaultcore.", 1);
        if let Some(name) = host.strip_suffix(&private) {
            return format!("{}{}", name.strip_suffix(".privatelink").unwrap_or(name), cloud.vault_suffix());
        }
    }
    host.to_owned()
}

/// Whether a host, as an [`Entry`] tells it, is a Key Vault's.
pub(super) fn is_key_vault(host: &str) -> bool {
    let name = Cloud::ALL.iter().find_map(|cloud| host.strip_suffix(cloud.vault_suffix()));
    name.or_else(|| host.strip_suffix(MANAGED_HSM)).is_some_and(|name| !name.is_empty() && !name.contains('.'))
}

/// The other service with such a log; none of its keys is ever ours.
const MANAGED_HSM: &str = ".managedhsm.azure.net";

fn text_of<'a>(value: &'a Value, names: &[&str]) -> Option<&'a str> {
    find(value, names)?.as_str()
}

/// The field of one of these names: at the top, in `properties`, or in `claim`.
fn find<'a>(value: &'a Value, names: &[&str]) -> Option<&'a Value> {
    let places = [Some(value), value.get("properties"), value.get("claim")];
    places.into_iter().flatten().find_map(|place| names.iter().find_map(|name| place.get(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After the example of Azure's documentation.
    const RECORD: &str = r#"{"time":"2026-11-24T01:32:01.2691226Z","resourceId":"/SUBSCRIPTIONS/1/RESOURCEGROUPS/CONTOSO/PROVIDERS/MICROSOFT.KEYVAULT/VAULTS/CONTOSO","operationName":"KeyUnwrap","operationVersion":"7.6","category":"AuditEvent","resultType":"Success","resultSignature":"OK","resultDescription":"","durationMs":"78","callerIpAddress":"104.40.82.76","correlationId":"01234567-89ab-8def-8123-456789abcdef","identity":{"claim":{"appid":"04b07795-8ddb-461a-bbee-02f9e1bf7b46"}},"properties":{"clientInfo":"azsdk-rust","requestUri":"https://Contoso.vault.azure.net:443/keys//KEK/01/unwrapkey?api-version=7.6","id":"https://contoso.vault.azure.net/keys/KEK/01","httpStatusCode":200}}"#;

    #[test]
    fn each_form_of_the_log_is_read() {
        let read = |text: &str| read(text).map(|log| log.entries);
        let one = read(RECORD).expect("one record");
        assert_eq!(one.len(), 1);
        assert_eq!(one[0].target, "contoso.vault.azure.net/keys/kek/01/unwrapkey");
        assert_eq!((one[0].operation.as_str(), one[0].success), ("KeyUnwrap", true));
        assert_eq!(one[0].application.as_deref(), Some("04b07795-8ddb-461a-bbee-02f9e1bf7b46"));
        for text in [
            format!("{RECORD}\n\n{RECORD}\n"),
            format!("[{RECORD},{RECORD}]"),
            format!("{{\"records\":[{RECORD},{RECORD}]}}"),
            format!("{{\"records\":[{RECORD}]}}\n{{\"records\":[{RECORD}]}}"),
        ] {
            assert_eq!(read(&text).expect("a log"), [one[0].clone(), one[0].clone()], "{text}");
        }
        let specific = r#"{"TimeGenerated":"2026-11-24T01:32:01.2691226Z","OperationName":"KeyUnwrap","ResultType":"Success",
            "HttpStatusCode":200,"CallerIpAddress":"104.40.82.76","CorrelationId":"01234567-89ab-8def-8123-456789abcdef",
            "Identity":{"claim":{"appid":"04b07795-8ddb-461a-bbee-02f9e1bf7b46"}},
            "RequestUri":"https://contoso.vault.azure.net/keys/KEK/01/unwrapkey?api-version=7.6"}"#;
        let row = r#"[{"TimeGenerated":"2026-11-24T01:32:01.2691226Z","Category":"AuditEvent","OperationName":"KeyUnwrap",
            "ResultType":"Success","httpStatusCode_d":200.0,"CallerIPAddress":"104.40.82.76",
            "CorrelationId":"01234567-89ab-8def-8123-456789abcdef",
            "identity_claim_appid_g":"04b07795-8ddb-461a-bbee-02f9e1bf7b46",
            "requestUri_s":"https://contoso.vault.azure.net/keys/KEK/01/unwrapkey?api-version=7.6"}]"#;
        let without_id = [Entry { id: String::new(), ..one[0].clone() }];
        assert_eq!(read(row).expect("a row of AzureDiagnostics"), without_id);
        let specific = specific.replace('\n', " ");
        assert_eq!(read(&specific).expect("a row of AZKVAuditLogs"), without_id);
        assert_eq!(read(&format!("\u{feff}{RECORD}\r\n")).expect("a file of Windows"), one);
    }

    #[test]
    fn however_a_request_spells_its_key_it_is_the_same_key() {
        for url in [
            "https://contoso.vault.azure.net/keys/%6Bek/01/unwrapkey",
            "https://CONTOSO.vaultcore.azure.net/keys/kek/01/unwrapkey?api-version=7.6",
            "https://contoso.privatelink.vaultcore.azure.net:443/keys/kek/01//unwrapkey",
            "https://contoso.vault.azure.net./keys%2Fkek/01/unwrapkey",
        ] {
            assert_eq!(target_of(url), "contoso.vault.azure.net/keys/kek/01/unwrapkey", "{url}");
        }
        assert!(is_key_vault("contoso.vault.azure.net") && is_key_vault("contoso.vault.usgovcloudapi.net"));
        assert!(!is_key_vault("contoso.example.com") && !is_key_vault(".vault.azure.net") && !is_key_vault("10.0.0.4"));
    }

    #[test]
    fn a_last_line_that_azure_is_still_writing_is_told_and_left_out() {
        let log = read(&format!("{RECORD}\n{}", &RECORD[..90])).expect("a log");
        assert_eq!((log.entries.len(), log.cut_off), (1, true));
        assert_eq!(read(&format!("{RECORD}\n{}\n", &RECORD[..90])), Err(NotALog::Json(2)), "a line of its own");
        assert_eq!(read(&RECORD[..90]), Err(NotALog::Json(1)), "nothing of it can be read");
    }

    #[test]
    fn what_is_no_log_is_refused() {
        let read = |text: &str| read(text).map(|log| log.entries);
        assert_eq!(read("{}\nnonsense\n"), Err(NotALog::Json(2)));
        assert_eq!(read("{}"), Err(NotALog::Field { index: 1, field: "time" }));
        assert_eq!(read("[]").expect("an empty log"), []);
        let other = RECORD.replace("AuditEvent", "AzurePolicyEvaluationDetails");
        assert_eq!(read(&other).expect("a log"), [], "another category");
        let refused = RECORD.replace("200}", "403}");
        assert!(!read(&refused).expect("a log")[0].success);
    }
}

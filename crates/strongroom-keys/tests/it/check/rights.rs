//! Rights beyond the needed: each wider role is a warning that names it and the commands that narrow it; and the check
//! itself does nothing that has an effect.

use std::collections::BTreeSet;

use azure_standin::Settings;
use serde_json::json;
use strongroom_keys::check::{CheckLine, CheckStatus};

use super::{check_now, find};
use crate::tenant::{HOST, KEY, Tenant, VAULT, answer};

const CRYPTO_USER: &str = "12338af0-0e69-4776-bea7-57ae8d297424";
const CRYPTO_OFFICER: &str = "14b46e9e-c2b7-41b4-b07b-48a6ebf60603";
const ADMINISTRATOR: &str = "00482a5a-887f-4fb3-b363-3b7fe8e74483";
const SERVICE_ENCRYPTION_USER: &str = "e147488a-f6f5-4113-8e2d-b22465e65bf6";
const READER: &str = "21090545-7ca7-4776-b22c-e363652d74d2";

#[tokio::test]
async fn the_check_only_reads_wraps_unwraps_and_tries_a_signature() {
    let tenant = Tenant::start().await;
    let before = tenant.standin.stats();
    check_now(&tenant).await;
    let after = tenant.standin.stats();
    let sent: BTreeSet<&str> = after
        .operations
        .keys()
        .map(String::as_str)
        .filter(|name| after.operations(name) > before.operations(name))
        .collect();
    let allowed = ["get", "getrotationpolicy", "list", "secrets", "sign", "unwrapkey", "versions", "wrapkey"];
    assert_eq!(sent, BTreeSet::from(allowed));
    for name in sent {
        assert_eq!(after.operations(name) - before.operations(name), 1, "{name}, once");
    }
    let hosts: BTreeSet<&str> = after
        .requests
        .iter()
        .filter(|(host, statuses)| before.requests.get(*host) != Some(statuses))
        .map(|(host, _)| host.as_str())
        .collect();
    assert_eq!(hosts, BTreeSet::from([HOST, "login.microsoftonline.com"]));
}

#[tokio::test]
async fn the_least_role_on_the_key_alone_passes() {
    let tenant = Tenant::start().await;
    let lines = check_now(&tenant).await;
    for code in ["rights.role", "rights.scope"] {
        assert_eq!(find(&lines, code).status, CheckStatus::Pass, "{:?}", find(&lines, code));
    }
}

/// The commands of what to do. Each ends with its line, so that nothing but the command is copied.
fn commands(line: &CheckLine) -> Vec<&str> {
    let fix = line.fix.as_deref().expect("a fix");
    let found: Vec<&str> = fix
        .lines()
        .filter_map(|line| line.find("az ").map(|at| &line[at..]))
        .inspect(|command| {
            assert!(!command.ends_with(['.', ',', ';', ':']), "{command}");
            assert!(!command.contains("az role") || command.matches("az role").count() == 1, "{command}");
        })
        .collect();
    assert_eq!(found.first().copied(), line.command.as_deref(), "{fix}");
    found
}

#[tokio::test]
async fn a_wider_role_is_named_with_the_commands_that_narrow_it() {
    let tenant = Tenant::start().await;
    tenant.remove_role().await;
    let (vault, key, principal) = (tenant.vault_id(), tenant.key_id(), tenant.principal.clone());
    for (role, name, scope, whole) in [
        (CRYPTO_USER, "Key Vault Crypto User", &key, false),
        (CRYPTO_OFFICER, "Key Vault Crypto Officer", &key, false),
        (CRYPTO_USER, "Key Vault Crypto User", &vault, true),
        (ADMINISTRATOR, "Key Vault Administrator", &vault, true),
    ] {
        let assignment = tenant.assign(role, scope).await;
        let lines = check_now(&tenant).await;
        let line = find(&lines, "rights.role");
        assert_eq!((line.status, line.reason), (CheckStatus::Warn, Some("rights.wider_role")), "{line:?}");
        let cause = line.cause.as_deref().expect("a cause");
        assert!(cause.contains("may also sign with the key"), "{cause}");
        assert!(cause.contains(&format!("{name} is the narrowest built-in role")), "{cause}");
        let command = line.command.as_deref().expect("a command");
        let create = format!(
            "az role assignment create --role \"Key Vault Crypto Service Encryption User\" --assignee-object-id {principal} \
             --assignee-principal-type ServicePrincipal --scope \""
        );
        assert!(command.starts_with(&create) && !command.contains("delete"), "{command}");
        // What is deleted is deleted later: the new assignment takes its time.
        let delete = format!("az role assignment delete --assignee {principal} --role \"{name}\"");
        let deleted = commands(line).into_iter().find(|line| line.starts_with(&delete)).expect(command);
        assert_eq!(cause.contains("may delete the key and switch it off"), role != CRYPTO_USER, "{cause}");
        assert_eq!(deleted.contains(&format!("/keys/{KEY}")), !whole, "{deleted}");
        let expected = if whole { CheckStatus::Warn } else { CheckStatus::Pass };
        assert_eq!(find(&lines, "rights.scope").status, expected, "{:?}", find(&lines, "rights.scope"));
        tenant.take_back(&assignment).await;
    }
}

#[tokio::test]
async fn the_least_role_on_the_whole_key_vault_is_a_warning() {
    let tenant = Tenant::start().await;
    tenant.remove_role().await;
    tenant.assign(SERVICE_ENCRYPTION_USER, &tenant.vault_id()).await;
    let lines = check_now(&tenant).await;
    assert_eq!(find(&lines, "rights.role").status, CheckStatus::Pass);
    let line = find(&lines, "rights.scope");
    assert_eq!((line.status, line.reason), (CheckStatus::Warn, Some("rights.whole_key_vault")), "{line:?}");
    let command = line.command.as_deref().expect("a command");
    // Azure's refusal to list secrets told the Key Vault's resource id.
    let scope = tenant.vault_id().to_lowercase();
    assert!(command.to_lowercase().ends_with(&format!("--scope \"{scope}/keys/{KEY}\"")), "{command}");
    assert!(line.fix.as_deref().is_some_and(|fix| fix.to_lowercase().contains(&format!("--scope \"{scope}\"\n"))));
}

#[tokio::test]
async fn rights_of_no_single_role_are_told_and_no_role_is_guessed() {
    let tenant = Tenant::start().await;
    tenant.assign(READER, &tenant.vault_id()).await;
    let lines = check_now(&tenant).await;
    let line = find(&lines, "rights.role");
    assert_eq!(line.status, CheckStatus::Warn, "{line:?}");
    let cause = line.cause.as_deref().expect("a cause");
    assert!(cause.contains("list the Key Vault's secrets") && !cause.contains("narrowest"), "{cause}");
    assert!(line.command.as_deref().is_some_and(|command| command.starts_with("az role assignment list")), "{line:?}");
}

#[tokio::test]
async fn what_azure_does_not_answer_is_not_known() {
    let tenant = Tenant::start().await;
    tenant.fault("sign", answer(503, json!("")));
    tenant.fault("list", answer(429, json!("")));
    let lines = check_now(&tenant).await;
    for (code, reason) in [("rights.role", "azure.unavailable"), ("rights.scope", "azure.throttled")] {
        let line = find(&lines, code);
        assert_eq!((line.status, line.reason), (CheckStatus::CouldNotCheck, Some(reason)), "{line:?}");
        let command = line.command.as_deref().expect("a command");
        assert!(command.starts_with(&format!("az role assignment list --assignee {}", tenant.principal)), "{command}");
    }
    let line = find(&lines, "azure.quota");
    assert_eq!((line.status, line.reason), (CheckStatus::Warn, Some("azure.throttled")), "{line:?}");
}

#[tokio::test]
async fn a_key_that_permits_no_signature_shows_nothing_about_signing() {
    let tenant = Tenant::start().await;
    tenant.fault(
        "sign",
        answer(
            403,
            json!({"error": {
                "code": "Forbidden",
                "message": "Operation sign is not permitted on this key.",
                "innererror": {"code": "KeyOperationForbidden"},
            }}),
        ),
    );
    let lines = check_now(&tenant).await;
    let line = find(&lines, "rights.role");
    assert_eq!((line.status, line.reason), (CheckStatus::CouldNotCheck, Some("key.operation_forbidden")), "{line:?}");
    assert!(line.command.as_deref().is_some_and(|command| command.starts_with("az role assignment list")), "{line:?}");
}

#[tokio::test]
async fn access_policies_are_told_and_what_narrows_them() {
    let tenant = Tenant::with(Settings { service_limits: None, ..Settings::default() }).await;
    let policy = |keys: &[&str]| json!([{"tenantId": tenant.standin.admin().tenant_id, "objectId": tenant.principal, "permissions": {"keys": keys}}]);
    tenant
        .change_key_vault(
            json!({"enableRbacAuthorization": false, "accessPolicies": policy(&["get", "wrapKey", "unwrapKey"])}),
        )
        .await;
    let lines = check_now(&tenant).await;
    assert_eq!(find(&lines, "rights.role").status, CheckStatus::Pass, "{:?}", find(&lines, "rights.role"));
    let line = find(&lines, "rights.scope");
    assert_eq!((line.status, line.reason), (CheckStatus::Warn, Some("rights.access_policies")), "{line:?}");
    let (fix, command) = (line.fix.as_deref().expect("a fix"), line.command.as_deref().expect("a command"));
    assert!(command.starts_with("az role assignment create"), "{command}");
    let switch = format!("az keyvault update --name {VAULT} --enable-rbac-authorization true");
    assert!(commands(line).contains(&switch.as_str()), "{fix}");

    tenant.change_key_vault(json!({"accessPolicies": policy(&["get", "wrapKey", "unwrapKey", "sign"])})).await;
    let lines = check_now(&tenant).await;
    let line = find(&lines, "rights.role");
    assert_eq!(line.status, CheckStatus::Warn, "{line:?}");
    assert!(line.command.as_deref().is_some_and(|command| command.starts_with("az keyvault set-policy")), "{line:?}");
}

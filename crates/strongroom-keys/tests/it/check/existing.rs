//! The check of a vault that exists: it depends on the key version that wraps its key, whichever is the newest.

use azure_standin::Settings;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use strongroom_keys::check::{AzureInput, CheckLine, CheckStatus, check_vault};
use strongroom_keys::{CredentialInput, INTERACTIVE, KeyProvider, Kid};

use super::{URL, find, status};
use crate::tenant::{KEY, Tenant, VAULT, answer};

/// The newest key version.
async fn newest(tenant: &Tenant) -> Kid {
    tenant.provider().describe(INTERACTIVE).await.expect("a description").0.kid
}

fn key_version(kid: &Kid) -> String {
    kid.to_string().rsplit('/').next().expect("a key version").to_owned()
}

async fn check_in_use(tenant: &Tenant, in_use: &Kid) -> Vec<CheckLine> {
    check_with_secret(tenant, std::slice::from_ref(in_use), &tenant.secret, None).await
}

async fn check_with_secret(
    tenant: &Tenant,
    in_use: &[Kid],
    secret: &str,
    credential_expires: Option<Timestamp>,
) -> Vec<CheckLine> {
    let input = AzureInput {
        client_id: &tenant.client_id,
        tenant_id: &tenant.standin.admin().tenant_id,
        credential: CredentialInput::Secret(secret),
        vault_url: URL,
        vault_key_name: KEY,
        credential_expires,
    };
    check_vault(&tenant.keys(), &input, in_use, Timestamp::now(), 4096, &|_| ()).await
}

#[tokio::test]
async fn a_disabled_key_version_that_the_vault_uses_fails_with_the_command_that_enables_it() {
    let tenant = Tenant::with(Settings { service_limits: None, ..Settings::default() }).await;
    let in_use = newest(&tenant).await;
    tenant.rotate_key().await;
    let (used, current) = (key_version(&in_use), key_version(&newest(&tenant).await));
    let lines = check_in_use(&tenant, &in_use).await;
    let line = find(&lines, "key.versions");
    assert_eq!(line.status, CheckStatus::Pass, "{line:?}");
    let told = format!("This vault uses key version {used}; the newest is {current}.");
    assert!(line.cause.as_deref().is_some_and(|cause| cause.contains(&told)), "{line:?}");

    tenant.set_version_enabled(&used, false).await;
    let lines = check_in_use(&tenant, &in_use).await;
    assert_eq!(status(&lines, "key.compare"), CheckStatus::Pass, "the newest key version is in order");
    let line = find(&lines, "key.versions");
    assert_eq!((line.status, line.reason), (CheckStatus::Fail, Some("key.disabled")), "{line:?}");
    assert!(line.cause.as_deref().is_some_and(|cause| cause.contains(&told)), "{line:?}");
    let command =
        format!("az keyvault key set-attributes --vault-name {VAULT} --name {KEY} --version {used} --enabled true");
    assert_eq!(line.command.as_deref(), Some(command.as_str()));

    // Of a key version that no vault uses it is worth a word, and no more.
    let line = check_in_use(&tenant, &newest(&tenant).await).await;
    assert_eq!(status(&line, "key.versions"), CheckStatus::Pass);
}

#[tokio::test]
async fn a_disabled_key_version_that_only_an_older_generation_uses_fails_too() {
    let tenant = Tenant::with(Settings { service_limits: None, ..Settings::default() }).await;
    let older = newest(&tenant).await;
    tenant.rotate_key().await;
    let in_use = [newest(&tenant).await, older.clone()];
    let lines = check_with_secret(&tenant, &in_use, &tenant.secret, None).await;
    let line = find(&lines, "key.versions");
    let told = format!("Older generations of its key need {}.", key_version(&older));
    assert_eq!(line.status, CheckStatus::Pass);
    assert!(line.cause.as_deref().is_some_and(|cause| cause.contains(&told)), "{line:?}");

    tenant.set_version_enabled(&key_version(&older), false).await;
    let lines = check_with_secret(&tenant, &in_use, &tenant.secret, None).await;
    let line = find(&lines, "key.versions");
    assert_eq!((line.status, line.reason), (CheckStatus::Fail, Some("key.disabled")), "{line:?}");
    let command = line.command.as_deref().expect("a command");
    assert!(command.contains(&format!("--version {} --enabled true", key_version(&older))), "{command}");
}

#[tokio::test]
async fn a_key_version_that_the_vault_uses_and_azure_does_not_have_fails() {
    let tenant = Tenant::start().await;
    let in_use: Kid = format!("{URL}keys/{KEY}/0123456789abcdef0123456789abcdef").parse().expect("a kid");
    let line = check_in_use(&tenant, &in_use).await;
    let line = find(&line, "key.versions");
    assert_eq!((line.status, line.reason), (CheckStatus::Fail, Some("key.version_unlisted")), "{line:?}");

    // Without the list nothing is known.
    tenant.fault("versions", answer(503, json!("")));
    assert_eq!(status(&check_in_use(&tenant, &in_use).await, "key.versions"), CheckStatus::CouldNotCheck);
}

#[tokio::test]
async fn an_expired_key_version_still_unwraps_so_the_vault_may_use_it() {
    let tenant = Tenant::start().await;
    let in_use = newest(&tenant).await;
    tenant.change_key(json!({"attributes": {"exp": 1_600_000_000}})).await;
    tenant.create_key(KEY, "RSA", 4096).await;
    assert_eq!(status(&check_in_use(&tenant, &in_use).await, "key.versions"), CheckStatus::Pass);
}

#[tokio::test]
async fn an_existing_vault_whose_credential_ends_is_told_how_to_replace_it() {
    let tenant = Tenant::start().await;
    let in_use = newest(&tenant).await;
    let in_use = [in_use];
    let refused = check_with_secret(&tenant, &in_use, "wrong8Q~secret", None).await;
    let ends = Timestamp::now() + SignedDuration::from_hours(24 * 10);
    let ending = check_with_secret(&tenant, &in_use, &tenant.secret, Some(ends)).await;
    for (line, reason) in [
        (find(&refused, "sign_in"), "credential.refused"),
        (find(&ending, "credential.expiry"), "credential.ends_soon"),
    ] {
        assert_eq!((line.reason, line.command.as_deref()), (Some(reason), None), "{line:?}");
        let fix = line.fix.as_deref().expect("a fix");
        for word in ["strongroom vault credential", "items are kept"] {
            assert!(fix.contains(word), "{fix}");
        }
        assert!(!fix.contains("az "), "{fix}");
    }
}

#[tokio::test]
async fn a_role_that_an_existing_vault_had_is_told_as_taken_away() {
    let tenant = Tenant::start().await;
    let in_use = newest(&tenant).await;
    tenant.remove_role().await;
    let lines = check_in_use(&tenant, &in_use).await;
    let line = find(&lines, "key.readable");
    assert_eq!((line.status, line.reason), (CheckStatus::Fail, Some("key.access_removed")), "{line:?}");
    assert!(line.cause.as_deref().is_some_and(|cause| cause.contains("no longer allows")), "{line:?}");
    assert!(
        line.command.as_deref().is_some_and(|command| command.starts_with("az role assignment create")),
        "{line:?}"
    );
}

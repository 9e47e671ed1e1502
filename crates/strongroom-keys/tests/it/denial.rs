//! The customer takes the key away, one way after another: each has its own code, denies the unwrap and nothing else,
//! and is over when it is undone.

use azure_standin::Settings;
use serde_json::json;
use strongroom_keys::azure::{AzureAccess, AzureProvider, command};
use strongroom_keys::{Class, ClientId, INTERACTIVE, KeyFailure, KeyProvider, Step, TenantId, TokenUse, Wrapped};

use crate::contract::sample;
use crate::tenant::{HOST, KEY, Tenant, VAULT, answer, secret};

async fn wrapped(provider: &AzureProvider) -> Wrapped {
    provider.wrap_key(&sample().1, INTERACTIVE).await.expect("a wrap")
}

async fn unwrap(provider: &AzureProvider, wrapped: &Wrapped, token: TokenUse) -> Result<(), KeyFailure> {
    provider.unwrap_key(&wrapped.kid, &wrapped.bytes, token, INTERACTIVE).await.map(|_| ())
}

async fn denied(provider: &AzureProvider, wrapped: &Wrapped, token: TokenUse) -> KeyFailure {
    let failure = unwrap(provider, wrapped, token).await.expect_err("no unwrap");
    assert_eq!(failure.class, Class::Denial, "{failure}");
    failure
}

/// The refusal of a wrap, which never purges.
async fn refused_wrap(provider: &AzureProvider) -> &'static str {
    let failure = provider.wrap_key(&sample().1, INTERACTIVE).await.expect_err("no wrap");
    assert_eq!(failure.class, Class::Refused, "{failure}");
    failure.code.as_str()
}

#[tokio::test]
async fn a_disabled_key_denies_until_it_is_enabled_again() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let wrapped = wrapped(&provider).await;
    tenant.set_enabled(false).await;

    let failure = denied(&provider, &wrapped, TokenUse::Cached).await;
    assert_eq!(failure.code.as_str(), "key.disabled");
    assert_eq!(failure.http_status, Some(403));
    assert!(failure.azure_request_id.is_some());
    assert_eq!(failure.our_request_id, failure.receipts.last().map(|receipt| receipt.our_request_id));
    let key_version = wrapped.kid.to_string().rsplit('/').next().map(str::to_owned).expect("a key version");
    assert_eq!(
        command(&failure, provider.access(), Some(&wrapped.kid)).as_deref(),
        Some(format!("az keyvault key set-attributes --vault-name {VAULT} --name {KEY} --version {key_version} --enabled true").as_str())
    );
    assert_eq!(refused_wrap(&provider).await, "key.disabled");
    let (described, _) = provider.describe(INTERACTIVE).await.expect("a description");
    assert!(!described.enabled);

    tenant.set_enabled(true).await;
    unwrap(&provider, &wrapped, TokenUse::Cached).await.expect("an unwrap");
}

#[tokio::test]
async fn a_disabled_key_may_refuse_to_be_described_and_that_denies_nothing() {
    let settings = Settings { disabled_blocks_get: true, service_limits: None, ..Settings::default() };
    let tenant = Tenant::with(settings).await;
    tenant.set_enabled(false).await;
    let failure = tenant.provider().describe(INTERACTIVE).await.expect_err("no description");
    assert_eq!((failure.code.as_str(), failure.class), ("key.disabled", Class::Refused));
}

#[tokio::test]
async fn a_removed_role_denies_and_the_command_names_principal_and_key() {
    let mut tenant = Tenant::start().await;
    let provider = tenant.provider();
    let wrapped = wrapped(&provider).await;
    tenant.remove_role().await;

    let failure = denied(&provider, &wrapped, TokenUse::Cached).await;
    assert_eq!(failure.code.as_str(), "key.access_removed");
    assert_eq!(failure.facts.object_id.as_deref(), Some(tenant.principal.as_str()));
    assert_eq!(failure.facts.action.as_deref(), Some("Microsoft.KeyVault/vaults/keys/unwrap/action"));
    let command = command(&failure, provider.access(), Some(&wrapped.kid)).expect("a command");
    assert!(command.contains(&format!("--assignee-object-id {} ", tenant.principal)), "{command}");
    assert!(command.contains(&format!("/vaults/{VAULT}/keys/{KEY}\"").to_lowercase()), "{command}");
    assert_eq!(refused_wrap(&provider).await, "key.access_removed");

    tenant.assign_role().await;
    unwrap(&provider, &wrapped, TokenUse::Cached).await.expect("an unwrap");
}

#[tokio::test]
async fn a_key_vault_in_access_policy_mode_denies_and_says_so() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let wrapped = wrapped(&provider).await;
    tenant.change_key_vault(json!({"enableRbacAuthorization": false})).await;
    let failure = denied(&provider, &wrapped, TokenUse::Cached).await;
    assert_eq!(failure.code.as_str(), "key.access_removed");
    let command = command(&failure, provider.access(), None).expect("a command");
    assert!(
        command.starts_with(&format!("az keyvault set-policy --name {VAULT} --spn {}", tenant.client_id)),
        "{command}"
    );
}

#[tokio::test]
async fn a_deleted_key_denies_until_it_is_recovered() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let wrapped = wrapped(&provider).await;
    tenant.delete_key().await;

    assert_eq!(denied(&provider, &wrapped, TokenUse::Cached).await.code.as_str(), "key.deleted");
    assert_eq!(refused_wrap(&provider).await, "key.not_found");
    let failure = provider.describe(INTERACTIVE).await.expect_err("no description");
    assert_eq!((failure.code.as_str(), failure.class), ("key.not_found", Class::Refused));

    tenant.recover_key().await;
    unwrap(&provider, &wrapped, TokenUse::Cached).await.expect("an unwrap");
}

#[tokio::test]
async fn a_deleted_key_vault_is_an_outage_since_nobody_answers() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let wrapped = wrapped(&provider).await;
    tenant.delete_key_vault().await;
    let failure = unwrap(&provider, &wrapped, TokenUse::Fresh).await.expect_err("no unwrap");
    assert_eq!(failure.class, Class::Outage, "{failure}");
}

#[tokio::test]
async fn a_firewall_denies_and_the_command_names_the_address_it_saw() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let wrapped = wrapped(&provider).await;
    tenant.change_key_vault(json!({"networkAcls": {"defaultAction": "Deny", "bypass": "None", "ipRules": []}})).await;
    let failure = denied(&provider, &wrapped, TokenUse::Cached).await;
    assert_eq!(failure.code.as_str(), "azure.firewall");
    let command = command(&failure, provider.access(), None);
    assert_eq!(
        command.as_deref(),
        Some(format!("az keyvault network-rule add --name {VAULT} --ip-address 127.0.0.1").as_str())
    );
}

#[tokio::test]
async fn a_key_without_the_operation_denies() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let wrapped = wrapped(&provider).await;
    tenant.change_key(json!({"key_ops": ["wrapKey"]})).await;
    assert_eq!(denied(&provider, &wrapped, TokenUse::Cached).await.code.as_str(), "key.operation_forbidden");
}

#[tokio::test]
async fn an_expired_key_unwraps_but_does_not_wrap() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let wrapped = wrapped(&provider).await;
    tenant.change_key(json!({"attributes": {"exp": 1_600_000_000}})).await;
    assert_eq!(refused_wrap(&provider).await, "key.expired");
    unwrap(&provider, &wrapped, TokenUse::Cached).await.expect("an unwrap");
}

#[tokio::test]
async fn a_withdrawn_application_shows_with_a_fresh_token_only() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let wrapped = wrapped(&provider).await;
    tenant.delete_application().await;
    let failure = denied(&provider, &wrapped, TokenUse::Fresh).await;
    assert_eq!(failure.code.as_str(), "credential.unknown_client");
    assert!(failure.is_sign_in());
    assert_eq!(failure.receipts.last().map(|receipt| receipt.step), Some(Step::SignIn));
}

#[tokio::test]
async fn each_wrong_credential_has_its_own_code() {
    let tenant = Tenant::start().await;
    let good = wrapped(&tenant.provider()).await;
    let long_ago = json!({"startDateTime": "2020-01-01T00:00:00Z", "endDateTime": "2021-01-01T00:00:00Z"});
    let (expired, _) = tenant.add_secret(long_ago).await;
    let other = tenant.standin.other_admin();
    let nowhere = "99999999-9999-4999-8999-999999999999";
    let wrong = "wrong8Q~secret";
    let cases: [(&str, &str, AzureAccess); 5] = [
        ("credential.refused", wrong, AzureAccess { credential: secret(wrong), ..tenant.access() }),
        ("credential.expired", &expired, AzureAccess { credential: secret(&expired), ..tenant.access() }),
        (
            "credential.unknown_client",
            &tenant.secret,
            AzureAccess { client: ClientId::parse(nowhere).expect("id"), ..tenant.access() },
        ),
        (
            "tenant.unknown",
            &tenant.secret,
            AzureAccess { tenant: TenantId::parse(nowhere).expect("id"), ..tenant.access() },
        ),
        (
            "tenant.mismatch",
            &other.client_secret,
            AzureAccess {
                tenant: TenantId::parse(&other.tenant_id).expect("id"),
                client: ClientId::parse(&other.client_id).expect("id"),
                credential: secret(&other.client_secret),
                ..tenant.access()
            },
        ),
    ];
    for (code, value, access) in cases {
        let failure = denied(&tenant.keys().provider(access), &good, TokenUse::Cached).await;
        assert_eq!(failure.code.as_str(), code);
        assert_eq!(failure.is_sign_in(), code != "tenant.mismatch");
        assert!(!format!("{failure} {failure:?}").contains(value), "{code}: the secret is in its error");
    }
}

#[tokio::test]
async fn conditional_access_denies() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let wrapped = wrapped(&provider).await;
    let body = json!({
        "error": "invalid_grant",
        "error_description": "AADSTS53003: Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.",
        "error_codes": [53003],
    });
    tenant.fault("token", answer(400, body));
    assert_eq!(denied(&provider, &wrapped, TokenUse::Fresh).await.code.as_str(), "credential.blocked");
    unwrap(&provider, &wrapped, TokenUse::Cached).await.expect("the old token still works");
}

/// A 401 in Key Vault's own form, with its challenge.
pub fn unauthorized() -> azure_standin::Effect {
    let challenge =
        "Bearer authorization=\"https://login.microsoftonline.com/t\", resource=\"https://vault.azure.net\"";
    let body = json!({"error": {"code": "Unauthorized", "message": "AKV10022: Invalid audience."}});
    azure_standin::Effect {
        headers: [("WWW-Authenticate".to_owned(), challenge.to_owned())].into(),
        ..answer(401, body)
    }
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_and_then_believed() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let wrapped = wrapped(&provider).await;
    // The SDK itself repeats a refused request with the same token, hence two.
    tenant.fault_times("unwrapkey", unauthorized(), Some(2));
    let unwrapped = provider.unwrap_key(&wrapped.kid, &wrapped.bytes, TokenUse::Cached, INTERACTIVE).await;
    let receipts = unwrapped.expect("an unwrap").receipts;
    assert_eq!(receipts.iter().filter(|receipt| receipt.step == Step::SignIn).count(), 1);

    tenant.fault("unwrapkey", unauthorized());
    let failure = denied(&provider, &wrapped, TokenUse::Cached).await;
    assert_eq!(failure.code.as_str(), "credential.token_refused");
    assert_eq!(failure.receipts.iter().filter(|receipt| receipt.step == Step::SignIn).count(), 1);
    assert!(failure.receipts.iter().all(|receipt| receipt.host == HOST || receipt.step == Step::SignIn));
}

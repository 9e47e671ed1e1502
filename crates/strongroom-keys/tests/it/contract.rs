//! What every provider must do, whoever holds the key.

use std::time::Duration;

use strongroom_envelope::{
    CloudKek, CloudKekPlace, SystemRandom, VaultKey, VaultKeyPlace, WrapRecord, read_wrap_record, wrap_record,
};
use strongroom_keys::azure::{AzureAccess, AzureConfig, AzureKeys, Cloud};
use strongroom_keys::{
    Class, ClientId, Credential, CredentialInput, INTERACTIVE, KeyProvider, KeyType, Kid, LocalProvider, TenantId,
    TokenUse, parse_vault_url_and_key,
};

use crate::tenant::{Tenant, parsed, secret};

pub const PLACE: VaultKeyPlace = VaultKeyPlace { workspace: [1; 16], vault: [2; 16], generation: 3 };

/// A vault key and its record.
pub fn sample() -> (VaultKey, WrapRecord) {
    let key = VaultKey::generate(&SystemRandom::new()).expect("random bytes");
    let record = wrap_record(&PLACE, &key);
    (key, record)
}

/// The contract. Prints nothing and changes nothing at the provider.
async fn keeps_the_contract(provider: &dyn KeyProvider) {
    let (described, _) = provider.describe(INTERACTIVE).await.expect("a description");
    assert!(described.enabled);

    let (key, record) = sample();
    let wrapped = provider.wrap_key(&record, INTERACTIVE).await.expect("a wrap");
    assert_eq!(wrapped.kid, described.kid, "the newest key version wraps");
    assert_eq!(wrapped.kid.to_string().parse(), Ok(wrapped.kid.clone()), "its kid can be stored as text");
    assert!(!contains(&wrapped.bytes, &record), "the record is not in the wrap");

    for token in [TokenUse::Cached, TokenUse::Fresh] {
        let unwrapped = provider.unwrap_key(&wrapped.kid, &wrapped.bytes, token, INTERACTIVE).await.expect("an unwrap");
        let back = read_wrap_record(&unwrapped.record, &PLACE).expect("our record");
        assert!(back.matches(&key));
    }

    let again = provider.wrap_key(&record, INTERACTIVE).await.expect("a second wrap");
    assert_ne!(again.bytes, wrapped.bytes, "wrapping is randomized");

    let mut flipped = wrapped.bytes.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let fault = unwrap_error(provider, &wrapped.kid, &flipped).await;
    assert_eq!(fault.class, Class::Fault, "a damaged wrap is a fault, never a denial: {fault}");

    let foreign: Kid =
        "https://foreign.vault.azure.net/keys/kek/0123456789abcdef0123456789abcdef".parse().expect("kid");
    let fault = unwrap_error(provider, &foreign, &wrapped.bytes).await;
    assert_eq!((fault.code.as_str(), fault.class), ("fault.foreign_kid", Class::Fault));
    assert!(fault.receipts.is_empty(), "nobody was asked");
}

async fn unwrap_error(provider: &dyn KeyProvider, kid: &Kid, wrapped: &[u8]) -> strongroom_keys::KeyFailure {
    match provider.unwrap_key(kid, wrapped, TokenUse::Cached, INTERACTIVE).await {
        Ok(_) => panic!("it opened"),
        Err(failure) => failure,
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn local() -> LocalProvider {
    let kek = CloudKek::generate(&SystemRandom::new()).expect("random bytes");
    let place = CloudKekPlace { workspace: [1; 16], provider: [4; 16], kek: [5; 16] };
    LocalProvider::new(kek, place, Box::new(SystemRandom::new()))
}

#[tokio::test]
async fn the_local_provider_keeps_the_contract() {
    keeps_the_contract(&local()).await;
}

#[tokio::test]
async fn a_wrap_of_another_local_kek_does_not_open() {
    let (one, two) = (local(), local());
    let wrapped = one.wrap_key(&sample().1, INTERACTIVE).await.expect("a wrap");
    let fault = unwrap_error(&two, &wrapped.kid, &wrapped.bytes).await;
    assert_eq!(fault.code.as_str(), "fault.not_opened");
}

#[tokio::test]
async fn the_azure_provider_keeps_the_contract() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    keeps_the_contract(&provider).await;
    let (key, _) = provider.describe(INTERACTIVE).await.expect("a description");
    assert_eq!((key.key_type, key.bits), (KeyType::Rsa, Some(4096)));
    assert!(key.operations.iter().any(|operation| operation == "unwrapKey"));
    assert!(key.created.is_some() && key.recovery_level.is_some());
}

#[tokio::test]
async fn every_kind_of_credential_keeps_the_contract() {
    let tenant = Tenant::start().await;
    let pem = tenant.register_certificate().await;
    let credential = parsed(&CredentialInput::Certificate(&pem));
    keeps_the_contract(&tenant.keys().provider(AzureAccess { credential, ..tenant.access() })).await;

    tenant.trust("system:serviceaccount:vaults:strongroom").await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, tenant.standin.federated_token("system:serviceaccount:vaults:strongroom").1).expect("a file");
    let keys = AzureKeys::new(&AzureConfig { federated_token_file: Some(file), ..tenant.config() });
    let credential = Credential::WorkloadIdentity;
    let provider = keys.expect("a configuration").provider(AzureAccess { credential, ..tenant.access() });
    keeps_the_contract(&provider).await;
}

#[tokio::test]
async fn what_an_older_key_version_wrapped_still_opens_after_rotation() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let (key, record) = sample();
    let old = provider.wrap_key(&record, INTERACTIVE).await.expect("a wrap");
    tenant.rotate_key().await;
    let new = provider.wrap_key(&record, INTERACTIVE).await.expect("a wrap");
    assert_ne!(old.kid, new.kid);
    for wrapped in [&old, &new] {
        let unwrapped = provider.unwrap_key(&wrapped.kid, &wrapped.bytes, TokenUse::Cached, INTERACTIVE).await;
        let record = unwrapped.expect("an unwrap").record;
        assert!(read_wrap_record(&record, &PLACE).expect("our record").matches(&key));
    }
    let fault = unwrap_error(&provider, &new.kid, &old.bytes).await;
    assert_eq!((fault.code.as_str(), fault.class), ("fault.bad_parameter", Class::Fault));
}

#[tokio::test]
#[allow(clippy::print_stderr)]
async fn live_azure_keeps_the_contract() {
    if std::env::var("STRONGROOM_LIVE_AZURE").as_deref() != Ok("1") {
        return eprintln!("NOT RUN: set STRONGROOM_LIVE_AZURE=1 and the AZURE_ variables to run this against Azure");
    }
    let var = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let optional = |name: &str| std::env::var(name).ok();
    let cloud: Cloud = optional("AZURE_CLOUD").map_or(Cloud::Public, |name| name.parse().expect("AZURE_CLOUD"));
    let config = AzureConfig {
        cloud,
        proxy: optional("AZURE_PROXY").map(|url| url.parse().expect("AZURE_PROXY")),
        ca_pem: optional("AZURE_CA_FILE").map(|path| std::fs::read(path).expect("AZURE_CA_FILE")),
        federated_token_file: optional("AZURE_FEDERATED_TOKEN_FILE").map(Into::into),
        request_ids: None,
    };
    let credential = if let Some(path) = optional("AZURE_CLIENT_CERTIFICATE_PATH") {
        let pem = std::fs::read_to_string(path).expect("AZURE_CLIENT_CERTIFICATE_PATH");
        parsed(&CredentialInput::Certificate(&pem))
    } else if config.federated_token_file.is_some() {
        Credential::WorkloadIdentity
    } else {
        secret(&var("AZURE_CLIENT_SECRET"))
    };
    let (vault_url, key_name) =
        parse_vault_url_and_key(&var("AZURE_VAULT_URL"), &var("AZURE_KEY_NAME"), cloud).expect("a key");
    let provider = AzureKeys::new(&config).expect("a configuration").provider(AzureAccess {
        tenant: TenantId::parse(&var("AZURE_TENANT_ID")).expect("AZURE_TENANT_ID"),
        client: ClientId::parse(&var("AZURE_CLIENT_ID")).expect("AZURE_CLIENT_ID"),
        credential,
        vault_url,
        key_name,
    });
    tokio::time::timeout(Duration::from_secs(60), keeps_the_contract(&provider)).await.expect("within a minute");
}

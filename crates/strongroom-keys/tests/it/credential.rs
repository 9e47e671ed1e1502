//! Certificates and workload identities: withdrawn, replaced, out of date. What a client secret does stands in `denial`.

use std::path::PathBuf;
use std::sync::Arc;

use azure_standin::{Config, ManualClock, Settings};
use jiff::{SignedDuration, Timestamp};
use strongroom_keys::azure::{AzureAccess, AzureConfig, AzureKeys, AzureProvider, command};
use strongroom_keys::{
    Class, Credential, CredentialInput, INTERACTIVE, KeyFailure, KeyProvider, Step, TokenUse, Wrapped,
};

use crate::contract::sample;
use crate::tenant::{Tenant, certificate, parsed};

const SUBJECT: &str = "system:serviceaccount:vaults:strongroom";

fn with_certificate(tenant: &Tenant, pem: &str) -> AzureProvider {
    let credential = parsed(&CredentialInput::Certificate(pem));
    tenant.keys().provider(AzureAccess { credential, ..tenant.access() })
}

fn with_token_file(tenant: &Tenant, file: Option<PathBuf>) -> AzureProvider {
    let config = AzureConfig { federated_token_file: file, ..tenant.config() };
    let keys = AzureKeys::new(&config).expect("a configuration");
    keys.provider(AzureAccess { credential: Credential::WorkloadIdentity, ..tenant.access() })
}

async fn wrapped(provider: &AzureProvider) -> Wrapped {
    provider.wrap_key(&sample().1, INTERACTIVE).await.expect("a wrap")
}

/// An unwrap with a fresh sign-in: withdrawn credentials show then.
async fn unwrap(provider: &AzureProvider, wrapped: &Wrapped) -> Result<(), KeyFailure> {
    provider.unwrap_key(&wrapped.kid, &wrapped.bytes, TokenUse::Fresh, INTERACTIVE).await.map(|_| ())
}

/// The code of the refusal, whose class has to be this.
async fn fails(provider: &AzureProvider, wrapped: &Wrapped, class: Class) -> KeyFailure {
    let failure = unwrap(provider, wrapped).await.expect_err("no unwrap");
    assert_eq!(failure.class, class, "{failure}");
    assert!(failure.is_sign_in(), "{failure}");
    assert_eq!(failure.receipts.last().map(|receipt| receipt.step), Some(Step::SignIn));
    failure
}

fn mends(failure: &KeyFailure, provider: &AzureProvider) -> String {
    command(failure, provider.access(), None).expect("a command")
}

#[tokio::test]
async fn a_removed_certificate_denies_and_a_registered_one_is_taken() {
    let tenant = Tenant::start().await;
    let pem = tenant.register_certificate().await;
    let provider = with_certificate(&tenant, &pem);
    let wrapped = wrapped(&provider).await;
    let ours = provider.access().credential.certificate().expect("a certificate").thumbprint();
    assert_eq!(ours, tenant.thumbprint().await);
    tenant.remove_certificates().await;

    let failure = fails(&provider, &wrapped, Class::Denial).await;
    assert_eq!(failure.code.as_str(), "credential.certificate_refused");
    let expected = format!("az ad app credential reset --id {} --cert @certificate.pem --append", tenant.client_id);
    assert_eq!(mends(&failure, &provider), expected);
    assert!(failure.detail.contains("not registered"), "{}", failure.detail);

    let another = with_certificate(&tenant, &tenant.register_certificate().await);
    unwrap(&another, &wrapped).await.expect("the new certificate signs in");
    fails(&provider, &wrapped, Class::Denial).await;
}

#[tokio::test]
async fn a_certificate_of_nobody_is_refused_and_nothing_of_its_key_is_told() {
    let tenant = Tenant::start().await;
    let good = wrapped(&tenant.provider()).await;
    let (pem, _) = certificate();
    let failure = fails(&with_certificate(&tenant, &pem), &good, Class::Denial).await;
    let told = format!("{failure} {failure:?}");
    assert!(pem.lines().filter(|line| line.len() > 32).all(|line| !told.contains(line)), "{told}");
    assert!(!told.contains("eyJ"), "{told}");
}

#[tokio::test]
async fn a_wrong_clock_and_an_expired_certificate_are_told_apart() {
    let clock = Arc::new(ManualClock::new(Timestamp::now()));
    let settings = Settings { service_limits: None, ..Settings::default() };
    let tenant = Tenant::of(Config { clock: clock.clone(), settings, ..Config::default() }).await;
    let pem = tenant.register_certificate().await;
    let provider = with_certificate(&tenant, &pem);
    let wrapped = wrapped(&provider).await;

    clock.advance(SignedDuration::from_mins(20));
    let failure = fails(&provider, &wrapped, Class::Outage).await;
    assert_eq!(failure.code.as_str(), "credential.assertion_time");

    clock.set("4100-01-01T00:00:00Z".parse().expect("a time"));
    let failure = fails(&provider, &wrapped, Class::Denial).await;
    assert_eq!(failure.code.as_str(), "credential.certificate_expired");
}

#[tokio::test]
async fn a_disabled_application_denies_until_it_is_enabled() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let wrapped = wrapped(&provider).await;
    tenant.enable_principal(false).await;
    let failure = fails(&provider, &wrapped, Class::Denial).await;
    assert_eq!(failure.code.as_str(), "credential.application_disabled");
    let expected = format!("az ad sp update --id {} --set accountEnabled=true", tenant.client_id);
    assert_eq!(mends(&failure, &provider), expected);
    tenant.enable_principal(true).await;
    unwrap(&provider, &wrapped).await.expect("an unwrap");
}

#[tokio::test]
async fn a_deleted_service_principal_denies() {
    let tenant = Tenant::start().await;
    let provider = tenant.provider();
    let wrapped = wrapped(&provider).await;
    tenant.delete_principal().await;
    let failure = fails(&provider, &wrapped, Class::Denial).await;
    assert_eq!(failure.code.as_str(), "credential.no_service_principal");
    assert_eq!(mends(&failure, &provider), format!("az ad sp create --id {}", tenant.client_id));
}

#[tokio::test]
async fn a_deleted_federated_credential_denies_and_the_command_names_the_token() {
    let tenant = Tenant::start().await;
    tenant.trust(SUBJECT).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    let (issuer, token) = tenant.standin.federated_token(SUBJECT);
    std::fs::write(&file, &token).expect("a file");
    let provider = with_token_file(&tenant, Some(file.clone()));
    let wrapped = wrapped(&provider).await;

    // Another of the same issuer is not trusted.
    std::fs::write(&file, tenant.standin.federated_token("system:serviceaccount:vaults:other").1).expect("a file");
    let failure = fails(&provider, &wrapped, Class::Denial).await;
    assert_eq!(failure.code.as_str(), "credential.no_federation");
    assert!(mends(&failure, &provider).contains(r#""subject":"system:serviceaccount:vaults:other""#));

    std::fs::write(&file, &token).expect("a file");
    unwrap(&provider, &wrapped).await.expect("an unwrap");
    tenant.trust_nobody().await;
    let failure = fails(&provider, &wrapped, Class::Denial).await;
    assert_eq!(failure.code.as_str(), "credential.no_federation");
    let command = mends(&failure, &provider);
    let start = format!("az ad app federated-credential create --id {} --parameters '", tenant.client_id);
    assert!(command.starts_with(&start), "{command}");
    assert!(command.contains(&format!(r#""issuer":"{issuer}""#)) && command.contains(SUBJECT), "{command}");
    assert!(!format!("{failure} {failure:?}").contains(&token));
}

#[tokio::test]
async fn a_token_made_out_to_another_audience_is_told_with_both() {
    let tenant = Tenant::start().await;
    tenant.trust_made_out_to(SUBJECT, "api://somebody-else").await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, tenant.standin.federated_token(SUBJECT).1).expect("a file");
    let provider = with_token_file(&tenant, Some(file));
    let failure = provider.wrap_key(&sample().1, INTERACTIVE).await.expect_err("refused");
    assert_eq!(failure.code.as_str(), "credential.no_federation");
    let said = "The token is made out to api://AzureADTokenExchange. Entra wants api://AzureADTokenExchange, or what \
                the application's federated credential names.";
    assert!(failure.detail.starts_with("AADSTS700212") && failure.detail.ends_with(said), "{failure}");
    assert_eq!(provider.command(&failure, None), None);
}

#[tokio::test]
async fn a_token_file_that_rotates_every_day_works_for_days() {
    let clock = Arc::new(ManualClock::new(Timestamp::now()));
    let settings = Settings { service_limits: None, ..Settings::default() };
    let tenant = Tenant::of(Config { clock: clock.clone(), settings, ..Config::default() }).await;
    tenant.trust(SUBJECT).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, tenant.standin.federated_token(SUBJECT).1).expect("a file");
    let provider = with_token_file(&tenant, Some(file.clone()));
    let wrapped = wrapped(&provider).await;
    for _ in 0..3 {
        clock.advance(SignedDuration::from_hours(24));
        // Yesterday's token has ended: nobody withdrew anything.
        let failure = fails(&provider, &wrapped, Class::Outage).await;
        assert_eq!(failure.code.as_str(), "credential.assertion_time");
        std::fs::write(&file, tenant.standin.federated_token(SUBJECT).1).expect("a file");
        unwrap(&provider, &wrapped).await.expect("the new token is read without a restart");
    }
}

#[tokio::test]
async fn a_missing_token_file_is_an_outage_that_names_the_setting() {
    let tenant = Tenant::start().await;
    let good = wrapped(&tenant.provider()).await;
    let folder = tempfile::tempdir().expect("a folder");
    for (file, said) in [(None, "is not set"), (Some(folder.path().join("absent")), "is not there")] {
        let before = tenant.standin.stats();
        let failure = fails(&with_token_file(&tenant, file), &good, Class::Outage).await;
        assert_eq!(failure.code.as_str(), "credential.token_file");
        assert!(failure.detail.contains("azure.federated_token_file") && failure.detail.contains(said), "{failure}");
        assert!(!failure.detail.contains(&*folder.path().to_string_lossy()), "{failure}");
        assert_eq!((failure.http_status, failure.azure_request_id.as_deref()), (None, None), "{failure:?}");
        assert_eq!(tenant.standin.stats().operations, before.operations, "the key was not used");
    }
}

//! The three kinds of credential that a vault signs in with: made over the wire, shown without the secret, withdrawn.

use std::time::Duration;

use axum::{
    body::{Body, to_bytes},
    http::{Request, header},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};
use strongroom::{
    azure_setup::{Client, Target},
    error::{Error, Unavailable},
    http,
    id::{ItemId, VaultId},
};
use strongroom_keys::TokenUse;
use tower::ServiceExt;

use crate::{
    azure::AzureWorld,
    world::{on_each_database, runtime},
};

const SUBJECT: &str = "system:serviceaccount:vaults:strongroom";

#[test]
fn a_client_secret_keeps_the_end_that_it_was_given() {
    on_each_database(|database| {
        runtime().block_on(async {
            let mut world = AzureWorld::without_vault(Some(&database.url())).await;
            let secret = world.values.client_secret.expose().to_owned();
            let vault = make(&mut world, json!({"client_secret": secret, "client_secret_expires": "2027-05-01"})).await;
            assert_eq!(vault["key"]["credential_kind"], "secret");
            assert_eq!(vault["key"]["credential_expires"], "2027-05-01T00:00:00Z");
            assert!(!vault.to_string().contains(&secret));
            opens_items(&world).await;
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_whose_secret_is_gone_is_told_how_to_replace_it() {
    let mut world = AzureWorld::without_vault(None).await;
    let secret = world.values.client_secret.expose().to_owned();
    make(&mut world, json!({"client_secret": secret})).await;
    let item = opens_items(&world).await;
    let filter = format!("/v1.0/applications?$filter=appId eq '{}'", world.values.client_id);
    let found = world.administrator.send(Target::Graph, "GET", &filter, None).await.expect("found");
    let key = found["value"][0]["passwordCredentials"][0]["keyId"].clone();
    let body = Some(json!({"keyId": key}));
    change(&world.administrator, &world.values.client_id, "POST", "/removePassword", body).await;
    goes_dark(&world, item, "credential.refused", "strongroom vault credential").await;
    let why = world.app.keyring.dark(world.vault).expect("dark");
    assert!(why.fix.contains("items are kept") && !why.fix.contains("az "), "{}", why.fix);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_makes_a_vault_and_its_removal_turns_it_dark() {
    let mut world = AzureWorld::without_vault(None).await;
    let (pem, der) = certificate();
    register(&world.administrator, &world.values.client_id, &der).await;
    let vault = make(&mut world, json!({"client_certificate": pem})).await;
    assert_eq!(vault["key"]["credential_kind"], "certificate");
    assert_eq!(vault["key"]["credential_expires"], "2040-01-01T00:00:00Z");
    assert!(pem.lines().all(|line| !vault.to_string().contains(line)));
    let item = opens_items(&world).await;

    change(&world.administrator, &world.values.client_id, "PATCH", "", Some(json!({"keyCredentials": []}))).await;
    goes_dark(&world, item, "credential.certificate_refused", "az ad app credential reset").await;
    register(&world.administrator, &world.values.client_id, &der).await;
    comes_back(&world, item).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_identity_makes_a_vault_and_its_end_turns_it_dark() {
    let mut world = AzureWorld::without_vault(None).await;
    let (issuer, token) = world.standin.federated_token(SUBJECT);
    std::fs::write(&world.token_file, token).expect("a token file");
    let audiences = ["api://AzureADTokenExchange"];
    let trust = json!({"name": "strongroom", "issuer": issuer, "subject": SUBJECT, "audiences": audiences});
    change(&world.administrator, &world.values.client_id, "POST", "/federatedIdentityCredentials", Some(trust.clone()))
        .await;
    let vault = make(&mut world, json!({"workload_identity": true})).await;
    assert_eq!(vault["key"]["credential_kind"], "workload_identity");
    assert_eq!(vault["key"]["credential_expires"], Value::Null);
    let item = opens_items(&world).await;

    change(&world.administrator, &world.values.client_id, "DELETE", "/federatedIdentityCredentials/strongroom", None)
        .await;
    goes_dark(&world, item, "credential.no_federation", SUBJECT).await;
    change(&world.administrator, &world.values.client_id, "POST", "/federatedIdentityCredentials", Some(trust)).await;
    comes_back(&world, item).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_token_file_is_an_outage_and_not_a_denial() {
    let mut world = AzureWorld::without_vault(None).await;
    let (issuer, token) = world.standin.federated_token(SUBJECT);
    std::fs::write(&world.token_file, token).expect("a token file");
    let audiences = ["api://AzureADTokenExchange"];
    let trust = json!({"name": "strongroom", "issuer": issuer, "subject": SUBJECT, "audiences": audiences});
    change(&world.administrator, &world.values.client_id, "POST", "/federatedIdentityCredentials", Some(trust)).await;
    make(&mut world, json!({"workload_identity": true})).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    std::fs::remove_file(&world.token_file).expect("it was there");
    twice_refused(&world).await;
    assert!(world.password(item).await.is_ok(), "the lease runs on");
    let vaults = world.app.vaults(&world.owner).await.expect("listed");
    assert!(!format!("{vaults:?}").contains("credential.no_federation"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_application_turns_the_vault_dark() {
    let world = AzureWorld::start(None).await;
    let filter = format!("/v1.0/servicePrincipals?$filter=appId eq '{}'", world.values.client_id);
    let found = world.administrator.send(Target::Graph, "GET", &filter, None).await.expect("found");
    let principal = format!("/v1.0/servicePrincipals/{}", found["value"][0]["id"].as_str().expect("an id"));
    let switch = async |enabled: bool| {
        let body = Some(json!({"accountEnabled": enabled}));
        world.administrator.send(Target::Graph, "PATCH", &principal, body).await.expect("switched");
    };
    let item = opens_items(&world).await;
    switch(false).await;
    goes_dark(&world, item, "credential.application_disabled", "az ad sp update").await;
    switch(true).await;
    comes_back(&world, item).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_credential_is_taken() {
    let world = AzureWorld::without_vault(None).await;
    for (credential, field) in [
        (json!({}), "azure"),
        (json!({"workload_identity": false}), "azure"),
        (json!({"client_secret": "a", "workload_identity": true}), "azure"),
        (json!({"client_secret": "a", "client_certificate": "b"}), "azure"),
        (json!({"client_secret": "a", "client_secret_expires": "next year"}), "azure.client_secret_expires"),
        (json!({"client_certificate": "b", "client_secret_expires": "2027-05-01"}), "azure.client_secret_expires"),
        (json!({"workload_identity": true, "client_secret_expires": "2027-05-01"}), "azure.client_secret_expires"),
    ] {
        let azure = connection(&world, credential);
        let vault = json!({"name": "Azure", "strategy": "azure_external_keys", "azure": azure});
        for (path, body) in [("/vaults", vault), ("/vaults/check", json!({"azure": azure}))] {
            let (status, answer) = post(&world, path, body).await;
            assert_eq!((status, answer["errors"][0]["field"].as_str()), (422, Some(field)), "{answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_without_its_key_is_named_and_nothing_is_saved() {
    let world = AzureWorld::without_vault(None).await;
    let (pem, _) = certificate();
    let (key, certificate) = pem.split_at(pem.find("-----BEGIN CERTIFICATE").expect("a certificate"));
    let azure = connection(&world, json!({"client_certificate": certificate}));
    let (status, answer) = post(&world, "/vaults/check", json!({"azure": azure})).await;
    assert_eq!(status, 200);
    assert!(answer.to_string().contains("The certificate came without its private key."), "{answer}");
    let azure = connection(&world, json!({"client_certificate": key}));
    let body = json!({"name": "Azure", "strategy": "azure_external_keys", "azure": azure, "accept_warnings": true});
    let (status, answer) = post(&world, "/vaults", body).await;
    assert!((400..500).contains(&status), "{status}");
    assert!(answer.to_string().contains("The private key came without its certificate."), "{answer}");
    assert!(key.lines().filter(|line| line.len() > 32).all(|line| !answer.to_string().contains(line)));
    assert!(world.app.vaults(&world.owner).await.expect("listed").iter().all(|vault| vault.azure.is_none()));
}

/// Makes the world's Azure vault over REST, with this credential, and returns it as shown.
async fn make(world: &mut AzureWorld, credential: Value) -> Value {
    let azure = connection(world, credential);
    let body = json!({
        "name": "Azure", "strategy": "azure_external_keys", "default": true, "azure": azure, "accept_warnings": true,
    });
    let (status, vault) = post(world, "/vaults", body).await;
    assert_eq!(status, 201, "{vault}");
    world.vault = VaultId(vault["id"].as_str().and_then(|id| id.parse().ok()).expect("an id"));
    world.kid = vault["key"]["kid"].as_str().expect("a kid").to_owned();
    vault
}

/// The values of the connection, with this credential.
fn connection(world: &AzureWorld, credential: Value) -> Value {
    let mut azure = credential;
    azure["client_id"] = world.values.client_id.clone().into();
    azure["tenant_id"] = world.values.tenant_id.clone().into();
    azure["vault_url"] = world.values.vault_url.clone().into();
    azure["vault_key_name"] = world.values.vault_key_name.clone().into();
    azure
}

/// What was stored signs in again, passes the checks and opens items.
async fn opens_items(world: &AzureWorld) -> ItemId {
    let item = world.account("Mail", "tide-and-lamp").await;
    world.app.keyring.purge_all();
    assert_eq!(world.password(item).await.expect("revealed"), "tide-and-lamp");
    let (status, answer) = post(world, &format!("/vaults/{}/check", world.vault), Value::Null).await;
    assert_eq!(status, 200);
    assert!(answer["checks"].as_array().expect("checks").iter().all(|check| check["status"] != "fail"), "{answer}");
    item
}

async fn goes_dark(world: &AzureWorld, item: ItemId, code: &str, command: &str) {
    twice_refused(world).await;
    let why = match world.password(item).await {
        Err(Error::KeyUnavailable(why)) => why,
        other => panic!("not dark: {:?}", other.map(|_| ())),
    };
    assert_eq!((why.code.as_str(), why.class), (code, Unavailable::Dark));
    assert!(why.fix.contains(command), "{}", why.fix);
}

/// Entra's refusals count when they are met twice, five seconds apart, each with a fresh sign-in.
async fn twice_refused(world: &AzureWorld) {
    world.app.keyring.canary_round(TokenUse::Fresh).await.expect("a round");
    world.clock.advance(Duration::from_secs(5));
    world.app.keyring.canary_round(TokenUse::Fresh).await.expect("a round");
}

async fn comes_back(world: &AzureWorld, item: ItemId) {
    for _ in 0..2 {
        world.clock.advance(Duration::from_secs(5));
        world.app.keyring.canary_round(TokenUse::Fresh).await.expect("a round");
    }
    assert_eq!(world.password(item).await.expect("revealed"), "tide-and-lamp");
}

/// Changes the application at Microsoft Graph, as its administrator.
async fn change(administrator: &Client, client_id: &str, method: &str, rest: &str, body: Option<Value>) {
    let filter = format!("/v1.0/applications?$filter=appId eq '{client_id}'");
    let found = administrator.send(Target::Graph, "GET", &filter, None).await.expect("found");
    let path = format!("/v1.0/applications/{}{rest}", found["value"][0]["id"].as_str().expect("an id"));
    administrator.send(Target::Graph, method, &path, body).await.expect("changed");
}

/// Registers a certificate on the application, in place of any other.
pub async fn register(administrator: &Client, client_id: &str, der: &[u8]) {
    let entry = json!({"type": "AsymmetricX509Cert", "usage": "Verify", "key": STANDARD.encode(der)});
    change(administrator, client_id, "PATCH", "", Some(json!({"keyCredentials": [entry]}))).await;
}

/// Asks over REST as the Owner.
async fn post(world: &AzureWorld, path: &str, body: Value) -> (u16, Value) {
    let token = world.app.create_token(&world.owner, "test", 30).await.expect("a token").secret;
    let request = Request::post(format!("/api/v1/workspaces/demo{path}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let router = http::router(world.app.clone());
    let answer = router.oneshot(request.body(body).expect("a request")).await.expect("an answer");
    let status = answer.status().as_u16();
    let bytes = to_bytes(answer.into_body(), 1 << 20).await.expect("the body ends");
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// A new RSA key and its certificate until 2040: together as PEM, and the certificate as DER.
pub fn certificate() -> (String, Vec<u8>) {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("a key");
    let mut parameters = CertificateParams::default();
    parameters.not_after = rcgen::date_time_ymd(2040, 1, 1);
    let certificate = parameters.self_signed(&key).expect("a certificate");
    (format!("{}{}", key.serialize_pem(), certificate.pem()), certificate.der().to_vec())
}

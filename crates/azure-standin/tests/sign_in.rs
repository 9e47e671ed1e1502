//! Ways to sign in beside the client secret: a human's device code, a registered certificate, a federated token.

mod support;

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use serde_json::{Value, json};
use support::{ARM, Answer, App, Azure, GRAPH, VAULT_PATH, b64, text};

const AZURE_CLI: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";
const KEY_VAULT: &str = "https://vault.azure.net/.default";
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[tokio::test]
async fn a_human_signs_in_with_a_device_code_and_refreshes_for_other_services() {
    let azure = Azure::start().await;
    let user = azure.standin.admin_user().clone();
    let scope = "https://management.core.windows.net//.default offline_access openid profile";
    let started = form(&azure, "organizations", "devicecode", &[("client_id", AZURE_CLI), ("scope", scope)]).await;
    let started = started.expect(200).json();
    let (user_code, device_code) = (text(&started["user_code"]), text(&started["device_code"]));
    assert!(text(&started["message"]).contains(&user_code));
    let poll = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("client_id", AZURE_CLI),
        ("device_code", &*device_code),
    ];
    let pending = form(&azure, "organizations", "token", &poll).await.expect(400).json();
    assert_eq!((&pending["error"], &pending["error_codes"]), (&json!("authorization_pending"), &json!([70_016])));
    assert!(!azure.standin.approve_device("WRONGCODE"));
    assert!(azure.standin.approve_device(&user_code));
    let granted = form(&azure, "organizations", "token", &poll).await.expect(200).json();
    assert_eq!(
        form(&azure, "organizations", "token", &poll).await.expect(400).json()["error"],
        "bad_verification_code"
    );

    let (account, id) = (part(&text(&granted["client_info"])), part(middle(&text(&granted["id_token"]))));
    assert_eq!((&account["uid"], &account["utid"]), (&json!(user.object_id), &json!(user.tenant_id)));
    assert_eq!((&id["aud"], &id["preferred_username"]), (&json!(AZURE_CLI), &json!(user.user_principal_name)));
    let token = text(&granted["access_token"]);
    let tenants = azure.send("GET", &format!("{ARM}/tenants?api-version=2022-12-01"), Some(&token), Value::Null).await;
    assert_eq!(tenants.expect(200).json()["value"][0]["tenantId"], user.tenant_id.as_str());
    let url = format!("{ARM}/subscriptions/{}/resourcegroups/by-ada?api-version=2022-04-01", user.subscription_id);
    azure.send("PUT", &url, Some(&token), json!({"location": "westeurope"})).await.expect(201);

    let refresh = text(&granted["refresh_token"]);
    let mut again = vec![
        ("grant_type", "refresh_token"),
        ("client_id", AZURE_CLI),
        ("refresh_token", &*refresh),
        ("scope", "https://graph.microsoft.com//.default offline_access openid profile"),
    ];
    let graph = text(&form(&azure, &user.tenant_id, "token", &again).await.expect(200).json()["access_token"]);
    let me = azure.send("GET", &format!("{GRAPH}/me"), Some(&graph), Value::Null).await.expect(200).json();
    assert_eq!((&me["id"], &me["userPrincipalName"]), (&json!(user.object_id), &json!(user.user_principal_name)));
    azure.send("GET", &format!("{GRAPH}/me"), Some(&refresh), Value::Null).await.expect(401);
    let elsewhere = azure.standin.other_admin().tenant_id.clone();
    assert_eq!(form(&azure, &elsewhere, "token", &again).await.expect(400).json()["error_codes"], json!([50_020]));
    again[2].1 = &graph;
    assert_eq!(form(&azure, &user.tenant_id, "token", &again).await.expect(400).json()["error"], "invalid_grant");
    again[2].1 = &refresh;
    azure.clock.advance(SignedDuration::from_hours(24 * 91));
    assert_eq!(
        form(&azure, &user.tenant_id, "token", &again).await.expect(400).json()["error_codes"],
        json!([700_082])
    );
}

#[tokio::test]
async fn a_device_code_expires_and_only_a_public_client_gets_one() {
    let azure = Azure::start().await;
    let admin = azure.standin.admin().clone();
    let begin = async |client: &str| {
        form(&azure, &admin.tenant_id, "devicecode", &[("client_id", client), ("scope", KEY_VAULT)]).await
    };
    assert_eq!(begin(&admin.client_id).await.expect(401).json()["error_codes"], json!([7_000_218]));
    assert_eq!(begin(&admin.object_id).await.expect(400).json()["error_codes"], json!([700_016]));
    let started = begin(AZURE_CLI).await.expect(200).json();
    azure.clock.advance(SignedDuration::from_secs(901));
    assert!(!azure.standin.approve_device(&text(&started["user_code"])));
    let poll = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("client_id", AZURE_CLI),
        ("device_code", started["device_code"].as_str().unwrap()),
    ];
    assert_eq!(form(&azure, &admin.tenant_id, "token", &poll).await.expect(400).json()["error"], "expired_token");
}

#[tokio::test]
async fn an_assertion_signed_with_a_registered_certificate_signs_in() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    let (certificate, key) = certificate();
    let signed = |alg: &str, change: Value| assertion(&azure, &app, &certificate, &key, alg, change);
    let unknown = assert_sign_in(&azure, &app, &signed("PS256", json!({}))).await.expect(401).json();
    assert_eq!(unknown["error_codes"], json!([700_027]));
    assert!(text(&unknown["error_description"]).contains("[Reason - The key was not found., Thumbprint of key used"));

    register(&azure, &app, &certificate).await;
    for alg in ["PS256", "RS256"] {
        let granted = assert_sign_in(&azure, &app, &signed(alg, json!({}))).await.expect(200).json();
        assert_eq!(part(middle(&text(&granted["access_token"])))["appidacr"], "2");
    }
    let now = azure.standin_now();
    let forged = format!("{}AAAA", &signed("PS256", json!({}))[..700]);
    let cases = [
        (signed("PS256", json!({"exp": now - 301})), 700_024),
        (signed("PS256", json!({"nbf": now + 301})), 700_024),
        (signed("PS256", json!({"sub": app.object_id})), 700_021),
        (signed("PS256", json!({"aud": "https://login.microsoftonline.com/elsewhere/v2.0"})), 700_023),
        (forged, 700_027),
    ];
    for (assertion, code) in cases {
        let refused = assert_sign_in(&azure, &app, &assertion).await.expect(401).json();
        assert_eq!(refused["error_codes"], json!([code]), "{refused}");
    }
    azure.clock.advance(SignedDuration::from_hours(24 * 800));
    let expired = assert_sign_in(&azure, &app, &signed("PS256", json!({}))).await.expect(401).json();
    assert!(text(&expired["error_description"]).contains("The key used is expired."));
}

#[tokio::test]
async fn certificates_are_listed_kept_and_replaced_as_a_whole() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    let path = format!("/applications/{}", app.application);
    register(&azure, &app, &certificate().0).await;
    let first = azure.graph("GET", &path, Value::Null).await.expect(200).json()["keyCredentials"].clone();
    assert_eq!((&first[0]["type"], &first[0]["key"]), (&json!("AsymmetricX509Cert"), &Value::Null));
    azure.graph("PATCH", &path, json!({"keyCredentials": first, "displayName": "renamed"})).await.expect(204);
    let kept = azure.graph("GET", &path, Value::Null).await.expect(200).json();
    assert_eq!((&kept["keyCredentials"], &kept["displayName"]), (&first, &json!("renamed")));
    azure.graph("PATCH", &path, json!({"keyCredentials": [{"keyId": "unknown"}]})).await.expect(400);
    azure.graph("PATCH", &path, json!({"keyCredentials": []})).await.expect(204);
    let none = azure.graph("GET", &path, Value::Null).await.expect(200).json();
    assert_eq!(none["keyCredentials"], json!([]));
}

#[tokio::test]
async fn a_federated_token_signs_in_if_issuer_audience_and_subject_match() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    let subject = "system:serviceaccount:strongroom:server";
    let (issuer, token) = azure.standin.federated_token(subject);
    let refusal = async |token: &str| {
        let refused = assert_sign_in(&azure, &app, token).await.expect(401).json();
        refused["error_codes"][0].as_i64().unwrap()
    };
    assert_eq!(refusal(&token).await, 70_025);
    let path = format!("/applications/{}/federatedIdentityCredentials", app.application);
    let trust =
        json!({"name": "one", "issuer": issuer, "subject": subject, "audiences": ["api://AzureADTokenExchange"]});
    let made = azure.graph("POST", &path, trust.clone()).await.expect(201).json();
    azure.graph("POST", &path, trust).await.expect(409);
    assert_eq!(azure.graph("GET", &path, Value::Null).await.expect(200).json()["value"], json!([made]));
    assert_sign_in(&azure, &app, &token).await.expect(200);

    let other = async |body: Value| {
        let url = format!("{}/oidc-token", azure.standin.control_url());
        let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap().error_for_status().unwrap();
        text(&answer.json::<Value>().await.unwrap()["token"])
    };
    let (upper, foreign) = (subject.to_uppercase(), "system:serviceaccount:other:server");
    assert_eq!(refusal(&other(json!({"subject": subject, "issuer": "https://other.example"})).await).await, 700_211);
    assert_eq!(refusal(&other(json!({"subject": subject, "audience": "api://other"})).await).await, 700_212);
    assert_eq!(refusal(&other(json!({"subject": foreign})).await).await, 700_213);
    assert_eq!(refusal(&other(json!({"subject": upper})).await).await, 7_002_138);
    assert_eq!(refusal(&other(json!({"subject": foreign, "audience": "api://other"})).await).await, 70_021);
    assert_eq!(refusal(&other(json!({"subject": subject, "expires_in": -301})).await).await, 700_024);
    let forged = token.rsplit_once('.').unwrap().0.to_owned() + "." + &b64(&[0; 256]);
    assert_eq!(refusal(&forged).await, 50_013);
    azure.graph("PATCH", &format!("{path}/one"), json!({"subject": foreign})).await.expect(204);
    assert_eq!(refusal(&token).await, 700_213);
    azure.graph("DELETE", &format!("{path}/one"), Value::Null).await.expect(204);
    assert_eq!(refusal(&token).await, 70_025);
}

#[tokio::test]
async fn a_disabled_application_is_refused_until_it_is_enabled_again() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    let path = format!("/servicePrincipals/{}", app.object_id);
    azure.graph("PATCH", &path, json!({"accountEnabled": false})).await.expect(204);
    let refused = azure.sign_in(&app.tenant, &app.client, &app.secret, KEY_VAULT).await.expect(400).json();
    assert_eq!((&refused["error"], &refused["error_codes"]), (&json!("unauthorized_client"), &json!([7_000_112])));
    azure.graph("PATCH", &path, json!({"accountEnabled": true})).await.expect(204);
    azure.sign_in(&app.tenant, &app.client, &app.secret, KEY_VAULT).await.expect(200);
}

#[tokio::test]
async fn lists_come_in_pages_that_link_to_the_next() {
    let azure = Azure::start().await;
    for number in 0..12 {
        azure.graph("POST", "/applications", json!({"displayName": format!("many {number}")})).await.expect(201);
    }
    let token = azure.admin_token("https://graph.microsoft.com").await;
    let mut url = format!("{GRAPH}/applications?$filter=startswith(displayName,'many')&$top=5");
    let mut sizes = Vec::new();
    loop {
        let page = azure.send("GET", &url, Some(&token), Value::Null).await.expect(200).json();
        sizes.push(page["value"].as_array().unwrap().len());
        let Some(next) = page["@odata.nextLink"].as_str() else { break };
        url = next.to_owned();
    }
    assert_eq!(sizes, [5, 5, 2]);
    let roles = azure.arm("GET", "/providers/Microsoft.Authorization/roleDefinitions", Value::Null).await;
    let roles = roles.expect(200).json();
    assert_eq!(roles["value"].as_array().unwrap().len(), 10);
    let rest = azure.send("GET", &text(&roles["nextLink"]), Some(&azure.admin_token(ARM).await), Value::Null).await;
    let rest = rest.expect(200).json();
    assert!(!rest["value"].as_array().unwrap().is_empty());
    assert!(rest["nextLink"].is_null());
}

#[tokio::test]
async fn a_role_is_assigned_to_a_user_as_a_user() {
    let azure = Azure::start().await;
    azure.make_vault(json!({})).await;
    let user = azure.standin.admin_user().object_id.clone();
    let refused = azure.assign(VAULT_PATH, support::ENCRYPTION_USER, &user).await.expect(400);
    assert_eq!(refused.code(), "UnmatchedPrincipalType");
    let path = "/providers/Microsoft.Authorization/roleAssignments?$filter=atScope()";
    let listed = azure.arm("GET", path, Value::Null).await.expect(200).json();
    let kinds: Vec<&Value> =
        listed["value"].as_array().unwrap().iter().map(|row| &row["properties"]["principalType"]).collect();
    assert_eq!(kinds, ["ServicePrincipal", "User"]);
}

/// A certificate for the application, in DER, and its RSA key.
fn certificate() -> (Vec<u8>, RsaKeyPair) {
    let bytes = include_bytes!("../testkeys/rsa2048-3.p8.der");
    let pkcs1 = rustls::pki_types::PrivatePkcs1KeyDer::from(bytes.as_slice()).into();
    let key = rcgen::KeyPair::from_der_and_sign_algo(&pkcs1, &rcgen::PKCS_RSA_SHA256).unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2028, 1, 1);
    let certificate = parameters.self_signed(&key).unwrap();
    (certificate.der().to_vec(), RsaKeyPair::from_der(bytes).unwrap())
}

async fn register(azure: &Azure, app: &App, certificate: &[u8]) {
    let mut key = STANDARD.encode(certificate);
    key.insert(64, '\n');
    let entry = json!({"type": "AsymmetricX509Cert", "usage": "Verify", "key": key});
    let body = json!({"keyCredentials": [entry]});
    azure.graph("PATCH", &format!("/applications/{}", app.application), body).await.expect(204);
}

fn assertion(azure: &Azure, app: &App, certificate: &[u8], key: &RsaKeyPair, alg: &str, change: Value) -> String {
    let now = azure.standin_now();
    let (print, algorithm, encoding): (_, _, &'static dyn RsaEncoding) = match alg {
        "PS256" => ("x5t#S256", &digest::SHA256, &RSA_PSS_SHA256),
        _ => ("x5t", &digest::SHA1_FOR_LEGACY_USE_ONLY, &RSA_PKCS1_SHA256),
    };
    // Azure CLI sends the padding too.
    let named = format!("{}=", b64(digest::digest(algorithm, certificate).as_ref()));
    let header = json!({"alg": alg, "typ": "JWT", print: named});
    let mut claims = json!({
        "aud": format!("https://login.microsoftonline.com/{}/oauth2/v2.0/token", app.tenant),
        "iss": app.client, "sub": app.client, "jti": "1", "nbf": now, "exp": now as f64 + 600.5,
    });
    for (name, value) in change.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    let signed = format!("{}.{}", b64(header.to_string().as_bytes()), b64(claims.to_string().as_bytes()));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(encoding, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
    format!("{signed}.{}", b64(&signature))
}

async fn assert_sign_in(azure: &Azure, app: &App, assertion: &str) -> Answer {
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", &*app.client),
        ("client_assertion_type", JWT_BEARER),
        ("client_assertion", assertion),
        ("scope", KEY_VAULT),
    ];
    form(azure, &app.tenant, "token", &fields).await
}

async fn form(azure: &Azure, tenant: &str, endpoint: &str, fields: &[(&str, &str)]) -> Answer {
    let url = format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/{endpoint}");
    support::post_form(&azure.http, &url, fields).await
}

fn middle(token: &str) -> &str {
    token.split('.').nth(1).unwrap()
}

fn part(text: &str) -> Value {
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

//! Entra, Graph, Resource Manager, the proxy and the state file, over the wire.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use azure_standin::{Config, Standin, StartError, test_keys};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::{ARM, Azure, VAULT, VAULT_PATH, client, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn each_wrong_sign_in_has_its_own_aadsts_code() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    let scope = "https://vault.azure.net/.default";
    let foreign = azure.standin.other_admin().tenant_id.clone();
    let unknown = uuid::Uuid::new_v4().to_string();
    let cases = [
        (&*app.tenant, &*app.client, "wrong", scope, 401, "invalid_client", 7_000_215),
        (&*app.tenant, &*app.client, "", scope, 401, "invalid_client", 7_000_216),
        (&*app.tenant, &*app.object_id, &*app.secret, scope, 400, "unauthorized_client", 700_016),
        (&*foreign, &*app.client, &*app.secret, scope, 400, "unauthorized_client", 700_016),
        (&*unknown, &*app.client, &*app.secret, scope, 400, "invalid_request", 90_002),
        ("%7Bbraces%7D", &*app.client, &*app.secret, scope, 400, "invalid_request", 900_023),
        (&*app.tenant, &*app.client, &*app.secret, "https://vault.azure.net", 400, "invalid_scope", 70_011),
        (
            &*app.tenant,
            &*app.client,
            &*app.secret,
            "https://kv.privatelink.vaultcore.azure.net/.default",
            400,
            "invalid_resource",
            500_011,
        ),
    ];
    for (tenant, client, secret, scope, status, error, code) in cases {
        let body = azure.sign_in(tenant, client, secret, scope).await.expect(status).json();
        assert_eq!((&body["error"], &body["error_codes"]), (&json!(error), &json!([code])));
        assert!(text(&body["error_description"]).starts_with(&format!("AADSTS{code}: ")));
        assert!(["trace_id", "correlation_id", "timestamp", "error_uri"].iter().all(|name| body[name].is_string()));
    }
    azure.clock.advance(SignedDuration::from_hours(24 * 731));
    let expired = azure.sign_in(&app.tenant, &app.client, &app.secret, scope).await.expect(401).json();
    assert_eq!(expired["error_codes"], json!([7_000_222]));
}

#[tokio::test]
async fn the_discovery_documents_name_the_tenant_and_publish_the_signing_key() {
    let azure = Azure::start().await;
    let tenant = azure.standin.admin().tenant_id.clone();
    let base = format!("https://login.microsoftonline.com/{tenant}");
    let document = azure.send("GET", &format!("{base}/v2.0/.well-known/openid-configuration"), None, Value::Null).await;
    let document = document.expect(200).json();
    assert_eq!(document["issuer"], format!("{base}/v2.0"));
    let keys = azure.send("GET", &text(&document["jwks_uri"]), None, Value::Null).await.expect(200).json();
    assert_eq!(keys["keys"][0]["kty"], "RSA");
    let nowhere = "https://login.microsoftonline.com/nowhere.example/v2.0/.well-known/openid-configuration";
    let refused = azure.send("GET", nowhere, None, Value::Null).await.expect(400).json();
    assert_eq!((&refused["error"], &refused["error_codes"]), (&json!("invalid_tenant"), &json!([90_002])));
}

#[tokio::test]
async fn graph_finds_what_it_made_and_forgets_what_it_deleted() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    for filter in ["appId eq '{}'", "servicePrincipalNames/any(c:c eq '{}')"] {
        let path = format!("/servicePrincipals?$filter={}", filter.replace("{}", &app.client));
        let found = azure.graph("GET", &path, Value::Null).await.expect(200).json();
        assert_eq!(found["value"][0]["id"], app.object_id.as_str(), "{filter}");
    }
    let found = azure.graph("GET", "/applications?$filter=startswith(displayName,'ap')", Value::Null).await.expect(200);
    let key = text(&found.json()["value"][0]["passwordCredentials"][0]["keyId"]);
    assert!(!found.text.contains(&app.secret));
    azure.graph("POST", "/servicePrincipals", json!({"appId": app.client})).await.expect(409);
    azure
        .graph("POST", &format!("/applications/{}/removePassword", app.application), json!({"keyId": key}))
        .await
        .expect(204);
    let gone = azure.sign_in(&app.tenant, &app.client, &app.secret, "https://vault.azure.net/.default").await;
    assert_eq!(gone.expect(401).json()["error_codes"], json!([7_000_215]));
    azure.graph("DELETE", &format!("/applications/{}", app.application), Value::Null).await.expect(204);
    azure.graph("GET", &format!("/servicePrincipals/{}", app.object_id), Value::Null).await.expect(404);
}

#[tokio::test]
async fn only_a_role_opens_resource_manager_and_only_an_administrator_opens_graph() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    let subscription = azure.standin.admin().subscription_id.clone();
    let answer =
        azure.sign_in(&app.tenant, &app.client, &app.secret, "https://management.core.windows.net//.default").await;
    let token = text(&answer.expect(200).json()["access_token"]);
    let url = format!("{ARM}/subscriptions/{subscription}{VAULT_PATH}?api-version=2022-04-01");
    assert_eq!(azure.send("GET", &url, Some(&token), Value::Null).await.expect(403).code(), "AuthorizationFailed");
    let answer = azure.sign_in(&app.tenant, &app.client, &app.secret, "https://graph.microsoft.com/.default").await;
    let token = text(&answer.expect(200).json()["access_token"]);
    let url = format!("{}/applications", support::GRAPH);
    let denied = azure.send("GET", &url, Some(&token), Value::Null).await.expect(403);
    assert_eq!(denied.code(), "Authorization_RequestDenied");
    azure.send("GET", &format!("{ARM}/subscriptions?api-version=2022-12-01"), None, Value::Null).await.expect(401);
}

#[tokio::test]
async fn a_role_cannot_be_assigned_to_nobody_or_twice() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    let nobody = uuid::Uuid::new_v4().to_string();
    let refused = azure.assign(VAULT_PATH, support::ENCRYPTION_USER, &nobody).await.expect(400);
    assert_eq!(refused.code(), "PrincipalNotFound");
    let scope = format!("{VAULT_PATH}/keys/app-key");
    let twice = azure.assign(&scope, support::ENCRYPTION_USER, &app.object_id).await.expect(409);
    assert_eq!(twice.code(), "RoleAssignmentExists");
    let path = format!(
        "{VAULT_PATH}/providers/Microsoft.Authorization/roleDefinitions?$filter=roleName eq 'Key Vault Crypto User'"
    );
    let found = azure.arm("GET", &path, Value::Null).await.expect(200).json();
    assert_eq!(found["value"][0]["name"], "12338af0-0e69-4776-bea7-57ae8d297424");
}

#[tokio::test]
async fn a_deleted_key_vault_loses_its_address_and_its_role_assignments() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    let token = azure.app_token(&app).await;
    let url = format!("{VAULT}/keys/app-key?api-version=7.5");
    azure.send("GET", &url, Some(&token), Value::Null).await.expect(200);
    azure.arm("DELETE", VAULT_PATH, Value::Null).await.expect(200);
    assert!(azure.try_send("GET", &url, Some(&token), Value::Null).await.is_err());
    let body = json!({"location": "westeurope", "properties": {"tenantId": app.tenant}});
    assert_eq!(azure.arm("PUT", VAULT_PATH, body.clone()).await.expect(409).code(), "ConflictError");
    let deleted = azure.arm("GET", "/providers/Microsoft.KeyVault/deletedVaults", Value::Null).await.expect(200).json();
    assert_eq!(deleted["value"][0]["name"], "kv-one");
    let recover = json!({"location": "westeurope", "properties": {"tenantId": app.tenant, "createMode": "recover"}});
    azure.arm("PUT", VAULT_PATH, recover).await.expect(200);
    assert_eq!(azure.send("GET", &url, Some(&token), Value::Null).await.expect(403).inner(), "ForbiddenByRbac");
    azure.arm("DELETE", VAULT_PATH, Value::Null).await.expect(200);
    let purge = "/providers/Microsoft.KeyVault/locations/westeurope/deletedVaults/kv-one/purge";
    azure.arm("POST", purge, Value::Null).await.expect(200);
    azure.arm("PUT", VAULT_PATH, body).await.expect(200);
}

#[tokio::test]
async fn the_proxy_refuses_every_host_that_it_does_not_play() {
    let azure = Azure::start().await;
    for (target, status) in [
        ("example.com:443", "403"),
        ("login.microsoftonline.com:80", "403"),
        ("no-such-vault.vault.azure.net:443", "502"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(&azure.standin.proxy_url()["http://".len()..]).await.unwrap();
        stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

#[tokio::test]
async fn what_was_made_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = || Config { data: Some(dir.path().to_owned()), rsa_pool: test_keys(), ..Config::default() };
    let start = async || {
        let standin = Standin::start(config()).await.unwrap();
        let http = client(&standin);
        Azure { standin, clock: azure_standin::ManualClock::new(Timestamp::now()).into(), http }
    };
    let azure = start().await;
    let app = azure.set_up().await;
    let token = azure.app_token(&app).await;
    let value = azure.wrap(&token, b"kept").await.expect(200).json()["value"].clone();
    let second = Standin::start(config()).await.err().unwrap();
    assert!(matches!(second, StartError::Data { .. }), "{second}");
    azure.standin.shutdown().await;

    let state = std::fs::read_to_string(dir.path().join("state.json")).unwrap();
    assert!(!state.contains(&app.secret));
    let azure = start().await;
    assert_eq!(azure.standin.admin().tenant_id, app.tenant);
    let token = azure.app_token(&app).await;
    azure.unwrap(&token, &app.key_id, &value).await.expect(200);
    azure.standin.shutdown().await;

    std::fs::write(dir.path().join("state.json"), &state[..state.len() / 2]).unwrap();
    let torn = Standin::start(config()).await.err().unwrap();
    assert!(matches!(torn, StartError::Corrupt { .. }), "{torn}");
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9_and_no_secret_is_logged() {
    let dir = tempfile::tempdir().unwrap();
    let mut serve = Command::new(env!("CARGO_BIN_EXE_azure-standin"));
    serve.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(dir.path()).env("RUST_LOG", "debug");
    let mut process = serve.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let line = lines.find_map(|line| line.ok().filter(|line| line.contains("proxy http"))).unwrap();
    let proxy = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
    let ca = std::fs::read(dir.path().join("ca.pem")).unwrap();
    let (admin, _) = azure_standin::read_admins(dir.path()).unwrap();
    let http = support::client_of(proxy, &ca);
    let token = support::token(&http, &admin, ARM).await;
    let url = format!("{ARM}/subscriptions/{}/resourcegroups/kept?api-version=2022-04-01", admin.subscription_id);
    let made = http.put(url).bearer_auth(&token).json(&json!({"location": "westeurope"})).send().await.unwrap();
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(made.status(), 201);
    let log: Vec<String> = lines.map_while(Result::ok).collect();
    assert!(log.iter().any(|line| line.contains("operation=\"arm\"")), "{log:?}");
    assert!(!log.iter().any(|line| line.contains(&admin.client_secret) || line.contains(&token)));

    let config = Config { data: Some(dir.path().to_owned()), ..Config::default() };
    let standin = Standin::start(config).await.unwrap();
    let http = client(&standin);
    let azure = Azure { standin, clock: azure_standin::ManualClock::new(Timestamp::now()).into(), http };
    azure.arm("GET", "/resourcegroups/kept", Value::Null).await.expect(200);
}

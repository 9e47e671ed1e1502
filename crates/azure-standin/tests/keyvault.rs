//! Key Vault's data plane, over the wire.

mod support;

use azure_standin::Settings;
use jiff::SignedDuration;
use serde_json::{Value, json};
use support::{Azure, CRYPTO_OFFICER, ENCRYPTION_USER, VAULT, VAULT_PATH, b64, text};

const SECRET: &[u8] = b"thirty-two bytes of a vault key!";

#[tokio::test]
async fn a_key_wrapped_by_the_application_unwraps_to_itself() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    let token = azure.app_token(&app).await;
    let wrapped = azure.wrap(&token, SECRET).await.expect(200).json();
    assert_eq!(wrapped["kid"], app.key_id.as_str());
    let unwrapped = azure.unwrap(&token, &app.key_id, &wrapped["value"]).await.expect(200).json();
    assert_eq!(unwrapped, json!({"kid": app.key_id, "value": b64(SECRET)}));
    let stats = azure.standin.stats();
    assert_eq!((stats.operations("wrapkey"), stats.operations_on(&app.key_id, "unwrapkey")), (1, 1));
}

#[tokio::test]
async fn a_request_without_token_is_challenged_to_the_letter() {
    let azure = Azure::start().await;
    azure.make_vault(json!({})).await;
    let answer = azure.send("GET", &format!("{VAULT}/keys/k/?api-version=7.5"), None, Value::Null).await.expect(401);
    let tenant = &azure.standin.admin().tenant_id;
    let expected = format!(
        "Bearer authorization=\"https://login.microsoftonline.com/{tenant}\", resource=\"https://vault.azure.net\""
    );
    assert_eq!(answer.header("www-authenticate"), expected);
    let body =
        json!({"error": {"code": "Unauthorized", "message": "AKV10000: Request is missing a Bearer or PoP token."}});
    assert_eq!(answer.json(), body);
    let stats = azure.standin.stats();
    assert_eq!((stats.challenges, stats.operations.len()), (1, 0));
}

#[tokio::test]
async fn tokens_for_another_tenant_or_audience_and_old_or_forged_ones_are_refused() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    let stranger = azure.token(azure.standin.other_admin(), "https://vault.azure.net").await;
    let wrong_issuer = azure.wrap(&stranger, SECRET).await.expect(401);
    assert!(wrong_issuer.message().starts_with("AKV10032: Invalid issuer. Expected one of https://sts.windows.net/"));
    let for_arm = azure.admin_token("https://management.azure.com").await;
    assert!(azure.wrap(&for_arm, SECRET).await.expect(401).message().starts_with("AKV10022: Invalid audience."));
    let token = azure.app_token(&app).await;
    let forged = format!("{}AAAA", &token[..token.len() - 4]);
    azure.wrap(&forged, SECRET).await.expect(401);
    azure.clock.advance(SignedDuration::from_secs(3600));
    let old = azure.wrap(&token, SECRET).await.expect(401);
    assert!(old.header("www-authenticate").starts_with("Bearer authorization="));
}

#[tokio::test]
async fn an_owner_has_no_right_inside_until_a_role_gives_one() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    let token = azure.app_token(&app).await;
    let body = json!({"attributes": {"enabled": false}});
    let denied = azure.vault("PATCH", "/keys/app-key", &token, body).await.expect(403);
    assert_eq!((denied.code(), denied.inner()), ("Forbidden".into(), "ForbiddenByRbac".into()));
    let (tenant, subscription) = (&app.tenant, &azure.standin.admin().subscription_id);
    let expected = format!(
        "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role \
         definitions were changed recently, please observe propagation time.\r\nCaller: appid={};oid={};iss=https://sts.\
         windows.net/{tenant}/\r\nAction: 'Microsoft.KeyVault/vaults/keys/update/action'\r\nResource: '/subscriptions/\
         {subscription}/resourcegroups/rg/providers/microsoft.keyvault/vaults/kv-one/keys/app-key'\r\nAssignment: (not \
         found)\r\nDenyAssignmentId: null\r\nDecisionReason: null \r\nVault: kv-one;location=westeurope\r\n",
        app.client, app.object_id
    );
    assert_eq!(denied.message(), expected);
}

#[tokio::test]
async fn a_role_on_one_key_does_not_open_another() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    azure.officer("POST", "/keys/other/create", json!({"kty": "RSA"})).await.expect(200);
    let token = azure.app_token(&app).await;
    azure.vault("GET", "/keys/app-key", &token, Value::Null).await.expect(200);
    assert_eq!(azure.vault("GET", "/keys/other", &token, Value::Null).await.expect(403).inner(), "ForbiddenByRbac");
    azure.assign("", ENCRYPTION_USER, &app.object_id).await.expect(201);
    azure.vault("GET", "/keys/other", &token, Value::Null).await.expect(200);
    // Rights come before existence, so that names do not leak.
    assert_eq!(azure.vault("GET", "/keys/none", &token, Value::Null).await.expect(404).code(), "KeyNotFound");
}

#[tokio::test]
async fn a_disabled_key_does_nothing_and_an_expired_one_only_unwraps() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    let token = azure.app_token(&app).await;
    let value = azure.wrap(&token, SECRET).await.expect(200).json()["value"].clone();
    let set = |attributes: Value| azure.officer("PATCH", "/keys/app-key/", json!({"attributes": attributes}));

    set(json!({"enabled": false})).await.expect(200);
    let disabled = azure.unwrap(&token, &app.key_id, &value).await.expect(403);
    assert_eq!(disabled.inner(), "KeyDisabled");
    assert_eq!(disabled.message(), "Operation unwrapKey is not allowed on a disabled key.");
    azure.vault("GET", "/keys/app-key", &token, Value::Null).await.expect(200);

    set(json!({"enabled": true, "exp": 1})).await.expect(200);
    azure.unwrap(&token, &app.key_id, &value).await.expect(200);
    azure.wrap(&token, SECRET).await.expect(403);
    set(json!({"exp": 9_000_000_000_i64, "nbf": 8_000_000_000_i64})).await.expect(200);
    azure.wrap(&token, SECRET).await.expect(403);
    azure.unwrap(&token, &app.key_id, &value).await.expect(200);

    let body = json!({"key_ops": ["wrapKey"]});
    azure.officer("PATCH", "/keys/app-key", body).await.expect(200);
    let forbidden = azure.unwrap(&token, &app.key_id, &value).await.expect(403);
    assert_eq!(forbidden.inner(), "KeyOperationForbidden");
}

#[tokio::test]
async fn after_rotation_only_the_recorded_key_version_unwraps() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    let token = azure.app_token(&app).await;
    let value = azure.wrap(&token, SECRET).await.expect(200).json()["value"].clone();
    let new = azure.officer("POST", "/keys/app-key/rotate", Value::Null).await.expect(200).json();
    assert_ne!(new["key"]["kid"], app.key_id.as_str());
    azure.unwrap(&token, &app.key_id, &value).await.expect(200);
    let wrong = azure.unwrap(&token, &text(&new["key"]["kid"]), &value).await.expect(400);
    assert_eq!(
        (wrong.code(), wrong.message()),
        ("BadParameter".into(), "Unable to decrypt specified value with this key.".into(),)
    );
    let rows = azure.vault("GET", "/keys/app-key/versions?maxresults=1", &token, Value::Null).await.expect(200).json();
    assert_eq!(rows["value"][0]["kid"], app.key_id.as_str());
    let next = azure.send("GET", &text(&rows["nextLink"]), Some(&token), Value::Null).await.expect(200).json();
    assert_eq!((&next["value"][0]["kid"], &next["nextLink"]), (&new["key"]["kid"], &Value::Null));
}

#[tokio::test]
async fn a_deleted_key_blocks_its_name_until_recovered_or_purged() {
    let azure = Azure::start().await;
    azure.set_up().await;
    let create = json!({"kty": "RSA", "key_size": 2048});
    let deleted = azure.officer("DELETE", "/keys/app-key", Value::Null).await.expect(200).json();
    assert_eq!(deleted["recoveryId"], format!("{VAULT}/deletedkeys/app-key"));
    assert_eq!(azure.officer("GET", "/keys/app-key", Value::Null).await.expect(404).code(), "KeyNotFound");
    let conflict = azure.officer("POST", "/keys/app-key/create", create.clone()).await.expect(409);
    assert_eq!(conflict.inner(), "ObjectIsDeletedButRecoverable");
    let listed = azure.officer("GET", "/deletedkeys", Value::Null).await.expect(200).json();
    assert_eq!(listed["value"].as_array().map(Vec::len), Some(1));
    azure.officer("POST", "/deletedkeys/app-key/recover", Value::Null).await.expect(200);
    azure.officer("GET", "/keys/app-key", Value::Null).await.expect(200);
    azure.officer("DELETE", "/keys/app-key", Value::Null).await.expect(200);
    azure.officer("DELETE", "/deletedkeys/app-key", Value::Null).await.expect(204);
    azure.officer("POST", "/keys/app-key/create", create).await.expect(200);
    azure.officer("DELETE", "/keys/app-key", Value::Null).await.expect(200);
    azure.clock.advance(SignedDuration::from_hours(24 * 91));
    azure.officer("GET", "/deletedkeys/app-key", Value::Null).await.expect(404);
}

#[tokio::test]
async fn the_recovery_level_follows_retention_and_purge_protection() {
    let azure = Azure::start().await;
    azure.make_vault(json!({"softDeleteRetentionInDays": 7, "enablePurgeProtection": true})).await;
    let key = azure.officer("POST", "/keys/k/create", json!({"kty": "RSA"})).await.expect(200).json();
    assert_eq!(key["attributes"]["recoveryLevel"], "CustomizedRecoverable");
    assert_eq!(key["attributes"]["recoverableDays"], 7);
    azure.officer("DELETE", "/keys/k", Value::Null).await.expect(200);
    azure.officer("DELETE", "/deletedkeys/k", Value::Null).await.expect(403);
}

#[tokio::test]
async fn what_is_no_key_path_gets_a_page_and_what_is_no_value_an_error() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    let token = azure.app_token(&app).await;
    let page = azure.vault("GET", "/keys/app-key/not-a-key-version", &token, Value::Null).await.expect(404);
    assert!(page.header("content-type").starts_with("text/html"));
    let body = json!({"alg": "RSA-OAEP-256", "value": "%%%"});
    let bad = azure.vault("POST", "/keys/app-key/wrapKey", &token, body).await.expect(400);
    assert_eq!(bad.message(), "Content of 'value' is not base64url.\r\nProperty 'value' is required.\r\n");
    azure.wrap(&token, &[7; 400]).await.expect(400);
    let url = format!("{VAULT}/keys/app-key");
    azure.send("GET", &url, Some(&token), Value::Null).await.expect(400);
    azure.officer("POST", "/keys/k/create", json!({"kty": "RSA-HSM"})).await.expect(400);
    azure.officer("POST", "/keys/k/create", json!({"kty": "RSA", "key_size": 1024})).await.expect(400);
    let ec = azure.officer("POST", "/keys/ec/create", json!({"kty": "EC"})).await.expect(200).json();
    assert_eq!((&ec["key"]["kty"], &ec["key"]["crv"]), (&json!("EC"), &json!("P-256")));
}

#[tokio::test]
async fn signatures_verify_and_altered_digests_do_not() {
    let azure = Azure::start().await;
    azure.set_up().await;
    for alg in ["RS256", "PS256"] {
        let digest = b64(&[5; 32]);
        let signed =
            azure.officer("POST", "/keys/app-key/sign", json!({"alg": alg, "value": digest})).await.expect(200);
        let signature = signed.json()["value"].clone();
        for (digest, verdict) in [(digest, true), (b64(&[6; 32]), false)] {
            let body = json!({"alg": alg, "digest": digest, "value": signature});
            let verified = azure.officer("POST", "/keys/app-key/verify", body).await.expect(200);
            assert_eq!(verified.json()["value"], verdict, "{alg}");
        }
    }
}

#[tokio::test]
async fn network_rules_refuse_before_roles_do() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    let token = azure.app_token(&app).await;
    let firewall = json!({"properties": {"networkAcls": {"defaultAction": "Deny", "ipRules": []}}});
    azure.arm("PATCH", VAULT_PATH, firewall).await.expect(200);
    assert_eq!(azure.wrap(&token, SECRET).await.expect(403).inner(), "ForbiddenByFirewall");
    let opened =
        json!({"properties": {"networkAcls": {"defaultAction": "Deny", "ipRules": [{"value": "127.0.0.1/32"}]}}});
    azure.arm("PATCH", VAULT_PATH, opened).await.expect(200);
    azure.wrap(&token, SECRET).await.expect(200);
    azure.arm("PATCH", VAULT_PATH, json!({"properties": {"publicNetworkAccess": "Disabled"}})).await.expect(200);
    assert_eq!(azure.wrap(&token, SECRET).await.expect(403).inner(), "ForbiddenByConnection");
}

#[tokio::test]
async fn a_key_vault_with_access_policies_ignores_roles() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    let token = azure.app_token(&app).await;
    azure.arm("PATCH", VAULT_PATH, json!({"properties": {"enableRbacAuthorization": false}})).await.expect(200);
    assert_eq!(azure.wrap(&token, SECRET).await.expect(403).inner(), "AccessDenied");
    let policy = json!({"objectId": app.object_id, "tenantId": app.tenant, "permissions": {"keys": ["wrapKey"]}});
    azure.arm("PATCH", VAULT_PATH, json!({"properties": {"accessPolicies": [policy]}})).await.expect(200);
    azure.wrap(&token, SECRET).await.expect(200);
}

#[tokio::test]
async fn beyond_the_service_limit_requests_are_throttled_until_the_window_ends() {
    // A fiftieth of Azure's limit for RSA-2048: 80 operations in ten seconds.
    let azure = Azure::with(Settings { service_limits: Some(0.02), ..Settings::default() }).await;
    azure.make_vault(json!({})).await;
    azure.clock.advance(SignedDuration::from_secs(10));
    let token = azure.admin_token("https://vault.azure.net").await;
    let mut refused = None;
    for _ in 0..81 {
        let answer = azure.vault("GET", "/keys", &token, Value::Null).await;
        refused = (answer.status == 429).then_some(answer);
    }
    let refused = refused.unwrap();
    assert_eq!((refused.code(), refused.header("retry-after")), ("Throttled".into(), ""));
    azure.clock.advance(SignedDuration::from_secs(10));
    azure.vault("GET", "/keys", &token, Value::Null).await.expect(200);
}

#[tokio::test]
async fn a_role_assignment_counts_only_when_it_has_propagated() {
    let azure = Azure::with(Settings { propagation_seconds: 300, ..Settings::default() }).await;
    azure.make_vault(json!({})).await;
    assert_eq!(azure.officer("GET", "/keys", Value::Null).await.expect(403).inner(), "ForbiddenByRbac");
    azure.clock.advance(SignedDuration::from_secs(300));
    azure.officer("GET", "/keys", Value::Null).await.expect(200);
    let admin = &azure.standin.admin().object_id;
    let path = format!("{VAULT_PATH}/providers/Microsoft.Authorization/roleAssignments");
    let rows =
        azure.arm("GET", &format!("{path}?$filter=principalId eq '{admin}'"), Value::Null).await.expect(200).json();
    let role = |row: &&Value| text(&row["properties"]["roleDefinitionId"]).ends_with(CRYPTO_OFFICER);
    let name = text(&rows["value"].as_array().unwrap().iter().find(role).unwrap()["name"]);
    azure.arm("DELETE", &format!("{path}/{name}"), Value::Null).await.expect(200);
    azure.officer("GET", "/keys", Value::Null).await.expect(200);
    azure.clock.advance(SignedDuration::from_secs(300));
    azure.officer("GET", "/keys", Value::Null).await.expect(403);
}

#[tokio::test]
async fn every_answer_carries_azures_headers_and_echoes_the_clients_id() {
    let azure = Azure::start().await;
    azure.make_vault(json!({})).await;
    let request = azure.http.get(format!("{VAULT}/keys?api-version=7.5")).header("x-ms-client-request-id", "mine");
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["x-ms-client-request-id"], "mine");
    for name in
        ["x-ms-request-id", "x-ms-keyvault-region", "x-ms-keyvault-service-version", "x-ms-keyvault-network-info"]
    {
        assert!(response.headers().contains_key(name), "{name}");
    }
}

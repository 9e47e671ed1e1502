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
    let named = azure.vault("GET", "/keys/app_key", &token, Value::Null).await.expect(400);
    assert_eq!(named.message(), "The request URI contains an invalid name: app_key");
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
async fn every_algorithm_undoes_what_it_did_and_altered_digests_do_not_verify() {
    let azure = Azure::start().await;
    azure.make_vault(json!({})).await;
    let token = azure.admin_token("https://vault.azure.net").await;
    let call = async |path: String, body: Value| azure.vault("POST", &path, &token, body).await;
    let rsa = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
    for (name, key, algorithms) in [
        ("rsa", json!({"kty": "RSA", "key_size": 4096}), &rsa[..]),
        ("p-256", json!({"kty": "EC"}), &["ES256"]),
        ("p-384", json!({"kty": "EC", "crv": "P-384"}), &["ES384"]),
        ("p-521", json!({"kty": "EC", "crv": "P-521"}), &["ES512"]),
        ("p-256k", json!({"kty": "EC", "crv": "P-256K"}), &["ES256K"]),
    ] {
        call(format!("/keys/{name}/create"), key).await.expect(200);
        for alg in algorithms {
            let length = alg[2..5].parse::<usize>().unwrap() / 8;
            let (right, wrong) = (b64(&vec![5; length]), b64(&vec![6; length]));
            let signed = call(format!("/keys/{name}/sign"), json!({"alg": alg, "value": right})).await.expect(200);
            let signature = signed.json()["value"].clone();
            for (digest, verdict) in [(right, true), (wrong, false)] {
                let body = json!({"alg": alg, "digest": digest, "value": signature});
                let verified = call(format!("/keys/{name}/verify"), body).await.expect(200);
                assert_eq!(verified.json()["value"], verdict, "{alg}");
            }
        }
    }
    for alg in ["RSA-OAEP-256", "RSA-OAEP", "RSA1_5"] {
        let sealed = call("/keys/rsa/encrypt".into(), json!({"alg": alg, "value": b64(SECRET)})).await.expect(200);
        let body = json!({"alg": alg, "value": sealed.json()["value"]});
        assert_eq!(call("/keys/rsa/decrypt".into(), body).await.expect(200).json()["value"], b64(SECRET), "{alg}");
    }
}

#[tokio::test]
async fn an_algorithm_that_does_not_fit_the_key_is_refused_in_azures_words() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    azure.officer("POST", "/keys/ec/create", json!({"kty": "EC", "crv": "P-256K"})).await.expect(200);
    let sign = async |key: &str, alg: &str, length: usize| {
        let body = json!({"alg": alg, "value": b64(&vec![1; length])});
        azure.officer("POST", &format!("/keys/{key}/sign"), body).await.expect(400).message()
    };
    assert_eq!(
        sign("app-key", "ES256", 32).await,
        format!(
            "Key and signing algorithm are incompatible. Key {} is of type 'RSA', and algorithm 'ES256' can only be \
             used with a key of type 'EC' or 'EC-HSM'.",
            app.key_id
        )
    );
    assert!(sign("ec", "ES256", 32).await.contains("uses curve 'P-256K', and algorithm 'ES256' can only be used with"));
    assert_eq!(
        sign("app-key", "RS256", 31).await,
        "Invalid length of 'value': 31 bytes. RS256 requires 32 bytes, encoded with base64url."
    );
    assert_eq!(sign("app-key", "HS256", 32).await, "The parameter is incorrect.\r\n");
}

#[tokio::test]
async fn an_imported_key_is_the_one_that_was_given() {
    let azure = Azure::start().await;
    azure.make_vault(json!({})).await;
    let names = ["n", "e", "d", "p", "q", "dp", "dq", "qi"];
    let mut jwk = json!({"kty": "RSA", "key_ops": ["encrypt", "decrypt"]});
    for (name, number) in names.iter().zip(integers(include_bytes!("../testkeys/rsa2048-1.p8.der"))) {
        jwk[name] = b64(&number).into();
    }
    let body = json!({"key": jwk, "attributes": {"enabled": true}, "tags": {"from": "elsewhere"}});
    let imported = azure.officer("PUT", "/keys/mine", body.clone()).await.expect(200).json();
    assert_eq!(imported["key"]["n"], jwk["n"]);
    assert_eq!(imported["key"]["key_ops"], json!(["encrypt", "decrypt"]));
    assert!(imported["key"].get("d").is_none());
    assert_eq!(imported["tags"]["from"], "elsewhere");
    let sealed = json!({"alg": "RSA-OAEP-256", "value": b64(SECRET)});
    let sealed = azure.officer("POST", "/keys/mine/encrypt", sealed).await.expect(200).json()["value"].clone();
    let opened = azure.officer("POST", "/keys/mine/decrypt", json!({"alg": "RSA-OAEP-256", "value": sealed})).await;
    assert_eq!(opened.expect(200).json()["value"], b64(SECRET));
    jwk["q"] = jwk["p"].clone();
    azure.officer("PUT", "/keys/broken", json!({"key": jwk})).await.expect(400);
    azure.officer("DELETE", "/keys/mine", Value::Null).await.expect(200);
    assert_eq!(azure.officer("PUT", "/keys/mine", body).await.expect(409).inner(), "ObjectIsDeletedButRecoverable");
}

#[tokio::test]
async fn a_rotation_policy_gives_each_new_key_version_its_expiry() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    let token = azure.app_token(&app).await;
    let denied = azure.vault("GET", "/keys/app-key/rotationpolicy", &token, Value::Null).await.expect(403);
    assert!(denied.message().contains("Action: 'Microsoft.KeyVault/vaults/keyrotationpolicies/read'"));
    let shown = azure.officer("GET", "/keys/app-key/rotationpolicy", Value::Null).await.expect(200).json();
    assert_eq!(shown["id"], format!("{VAULT}/keys/app-key/rotationpolicy"));
    assert_eq!(shown["lifetimeActions"][0]["action"]["type"], "Notify");
    let set = |expiry: &str| {
        let rotate = json!({"trigger": {"timeAfterCreate": "P30D"}, "action": {"type": "rotate"}});
        let body = json!({"lifetimeActions": [rotate], "attributes": {"expiryTime": expiry}});
        azure.officer("PUT", "/keys/app-key/rotationpolicy", body)
    };
    assert_eq!(set("P27D").await.expect(400).code(), "BadParameter");
    let policy = set("P90D").await.expect(200).json();
    assert_eq!(policy["attributes"]["expiryTime"], "P90D");
    assert_eq!(policy["lifetimeActions"][0]["trigger"], json!({"timeAfterCreate": "P30D"}));
    let old = azure.officer("GET", "/keys/app-key", Value::Null).await.expect(200).json();
    assert_eq!(old["attributes"]["exp"], Value::Null);
    let new = azure.officer("POST", "/keys/app-key/rotate", Value::Null).await.expect(200).json();
    assert_eq!(new["attributes"]["exp"], azure.standin_now() + 90 * 86_400);
}

#[tokio::test]
async fn lists_come_in_pages_of_twenty_five() {
    let azure = Azure::with(Settings { service_limits: None, ..Settings::default() }).await;
    azure.make_vault(json!({})).await;
    let token = azure.admin_token("https://vault.azure.net").await;
    for number in 0..27 {
        azure.vault("POST", &format!("/keys/k{number}/create"), &token, json!({"kty": "EC"})).await.expect(200);
        azure.vault("POST", "/keys/k0/rotate", &token, Value::Null).await.expect(200);
    }
    let count = async |path: &str| {
        let first = azure.vault("GET", path, &token, Value::Null).await.expect(200).json();
        let next = text(&first["nextLink"]);
        assert!(next.starts_with("https://kv-one.vault.azure.net:443/"), "{next}");
        let second = azure.send("GET", &next, Some(&token), Value::Null).await.expect(200).json();
        assert_eq!(second["nextLink"], Value::Null);
        [&first, &second].map(|page| page["value"].as_array().unwrap().len())
    };
    assert_eq!(count("/keys").await, [25, 2]);
    assert_eq!(count("/keys/k0/versions").await, [25, 3]);
    for number in 0..27 {
        azure.vault("DELETE", &format!("/keys/k{number}"), &token, Value::Null).await.expect(200);
    }
    assert_eq!(count("/deletedkeys").await, [25, 2]);
    azure.vault("GET", "/keys?maxresults=26", &token, Value::Null).await.expect(400);
    let empty = azure.vault("GET", "/keys", &token, Value::Null).await.expect(200).json();
    assert_eq!(empty, json!({"value": [], "nextLink": null}));
}

#[tokio::test]
async fn secrets_and_certificates_are_guarded_and_there_are_none() {
    let azure = Azure::start().await;
    azure.make_vault(json!({})).await;
    for (path, action) in [
        ("/secrets", "Microsoft.KeyVault/vaults/secrets/readMetadata/action"),
        ("/secrets/s", "Microsoft.KeyVault/vaults/secrets/getSecret/action"),
        ("/certificates", "Microsoft.KeyVault/vaults/certificates/read"),
    ] {
        let denied = azure.officer("GET", path, Value::Null).await.expect(403);
        assert_eq!(denied.inner(), "ForbiddenByRbac");
        assert!(denied.message().contains(&format!("\r\nAction: '{action}'\r\n")), "{}", denied.message());
    }
    let admin = azure.standin.admin().object_id.clone();
    azure.assign(VAULT_PATH, "00482a5a-887f-4fb3-b363-3b7fe8e74483", &admin).await.expect(201);
    for path in ["/secrets", "/certificates", "/deletedsecrets"] {
        let listed = azure.officer("GET", path, Value::Null).await.expect(200).json();
        assert_eq!(listed, json!({"value": [], "nextLink": null}));
    }
    assert_eq!(azure.officer("GET", "/secrets/s", Value::Null).await.expect(404).code(), "SecretNotFound");
    assert_eq!(azure.officer("GET", "/certificates/c", Value::Null).await.expect(404).code(), "CertificateNotFound");
}

#[tokio::test]
async fn what_is_not_played_is_refused_as_an_operation_that_key_vault_does_not_know() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    let token = azure.app_token(&app).await;
    let denied = azure.vault("POST", "/keys/app-key/backup", &token, Value::Null).await.expect(403);
    assert!(denied.message().contains("Action: 'Microsoft.KeyVault/vaults/keys/backup/action'"));
    for path in ["/keys/app-key/backup", "/keys/restore", "/rng", "/keys/app-key/explode"] {
        let refused = azure.officer("POST", path, json!({"value": "AAAA", "count": 4})).await.expect(400);
        let operation = path.rsplit('/').next().unwrap();
        assert_eq!(refused.message(), format!("Method POST does not allow operation '{operation}'"));
    }
}

#[tokio::test]
async fn only_api_versions_that_exist_are_taken() {
    let azure = Azure::start().await;
    azure.make_vault(json!({})).await;
    let token = azure.admin_token("https://vault.azure.net").await;
    let ask = |dated: &str| {
        let url = format!("{VAULT}/keys?api%2Dversion={dated}");
        let (azure, token) = (&azure, &token);
        async move { azure.send("GET", &url, Some(token), Value::Null).await }
    };
    for dated in ["7.0", "7.6", "7.6-preview.2", "2016-10-01", "2025-07-01", "2026-03-01-preview"] {
        ask(dated).await.expect(200);
    }
    for dated in ["7.7", "2023-01-01", "latest"] {
        let refused = ask(dated).await.expect(400);
        let expected = format!(
            "The specified version ({dated}) is not recognized. Consider using the latest supported version (7.6)."
        );
        assert_eq!((refused.code(), refused.message()), ("BadParameter".into(), expected));
    }
}

#[tokio::test]
async fn the_role_assignment_that_let_a_call_in_is_named_even_when_the_key_refuses() {
    let azure = Azure::start().await;
    let app = azure.set_up().await;
    let token = azure.app_token(&app).await;
    let name = azure.wrap(&token, SECRET).await.expect(200).header("x-ms-keyvault-rbac-assignment-id").to_owned();
    assert_eq!(name.len(), 36);
    azure.officer("PATCH", "/keys/app-key", json!({"attributes": {"enabled": false}})).await.expect(200);
    let disabled = azure.wrap(&token, SECRET).await.expect(403);
    assert_eq!(
        (disabled.inner().as_str(), disabled.header("x-ms-keyvault-rbac-assignment-id")),
        ("KeyDisabled", &*name)
    );
    let denied = azure.vault("GET", "/keys", &token, Value::Null).await.expect(403);
    assert_eq!(denied.header("x-ms-keyvault-rbac-assignment-id"), "");
    // Rights come before the state of the key, so a probe finds out about them whatever that is.
    let body = json!({"alg": "RS256", "value": b64(&[5; 32])});
    let probed = azure.vault("POST", "/keys/app-key/sign", &token, body).await.expect(403);
    assert_eq!(probed.inner(), "ForbiddenByRbac");
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
    assert_eq!(azure.wrap(&token, SECRET).await.expect(403).inner(), "ForbiddenByPolicy");
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

/// The numbers of an RSA key in DER (RFC 8017, A.1.2), modulus first.
fn integers(key: &[u8]) -> Vec<Vec<u8>> {
    fn parts(der: &[u8]) -> Vec<(u8, &[u8])> {
        let (mut rest, mut found) = (der, Vec::new());
        while let [tag, first, tail @ ..] = rest {
            let (size, tail) = match first {
                0..0x80 => (usize::from(*first), tail),
                _ => {
                    let (length, tail) = tail.split_at(usize::from(first - 0x80));
                    (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), tail)
                }
            };
            let (value, tail) = tail.split_at(size);
            found.push((*tag, value));
            rest = tail;
        }
        found
    }
    parts(parts(key)[0].1)[1..].iter().map(|(_, number)| number.strip_prefix(&[0]).unwrap_or(number).to_vec()).collect()
}

//! The main paths of `azure_identity` and `azure_security_keyvault_keys`, with their default features, transport and
//! retries, against a running stand-in.
//!
//! Takes the variables that `azure-standin env` prints; says one JSON object a line for each operation. Ends with 1 if
//! one of them failed.

mod site;

use std::collections::HashMap;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use azure_core::credentials::{Secret, TokenCredential};
use azure_core::error::ErrorKind;
use azure_core::http::RequestContent;
use azure_core::time::OffsetDateTime;
use azure_identity::ClientSecretCredential;
use azure_security_keyvault_keys::models::{
    CreateKeyParameters, CurveName, EncryptionAlgorithm, Key, KeyAttributes, KeyClientGetKeyOptions,
    KeyClientListKeyPropertiesOptions, KeyClientListKeyPropertiesVersionsOptions, KeyClientUpdateKeyPropertiesOptions,
    KeyOperationParameters, KeyRotationPolicy, KeyRotationPolicyAction, KeyRotationPolicyAttributes, KeyType,
    LifetimeAction, LifetimeActionTrigger, LifetimeActionType, ListKeyPropertiesResult, SignParameters,
    SignatureAlgorithm, UpdateKeyPropertiesParameters, VerifyParameters,
};
use azure_security_keyvault_keys::{KeyClient, ResourceExt, ResourceId};
use futures_util::TryStreamExt;

use self::site::Site;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const CLIENT: &str = "Rust: azure_identity 1.0.0, azure_security_keyvault_keys 1.0.1, azure_core 1.1.0";
const SECRET: &[u8] = b"32 bytes, as a vault key has them";
/// SHA-256 of "message".
const DIGEST: &[u8] = b"\xab\x53\x0a\x13\xe4\x59\x14\x98\x2b\x79\xf9\xb7\xe3\xfb\xa9\x94\xcf\xd1\xf3\xfb\x22\xf7\x1c\xea\x1a\xfb\xf0\x2b\x46\x0c\x6d\x1d";

#[tokio::main]
async fn main() -> ExitCode {
    let mut suite = Suite { failed: false };
    if let Err(error) = run(&mut suite).await {
        suite.say("set up", "failed", &told(&*error));
    }
    ExitCode::from(u8::from(suite.failed))
}

async fn run(suite: &mut Suite) -> Result<()> {
    let site = Site::from_environment()?;
    let credential = site.credential(&site.secret)?;
    suite.attempt("sign in with a secret", sign_in(&site, &credential).await);
    let url = site.make_key_vault(&credential).await?;
    let client = KeyClient::new(&url, credential, None)?;
    for bits in [2048, 3072, 4096] {
        suite.attempt(&format!("create RSA-{bits}"), create(&client, bits).await);
    }
    suite.attempt("get", get(&client).await);
    suite.attempt("wrap", wrap(&client, "rsa-4096").await.map(|_| ()));
    suite.attempt("unwrap", unwrap(&client).await);
    suite.attempt("encrypt", encrypt(&client).await.map(|_| ()));
    suite.attempt("decrypt", decrypt(&client).await);
    suite.attempt("sign", sign(&client, SignatureAlgorithm::Ps256).await.map(|_| ()));
    suite.attempt("verify", verify(&client).await);
    suite.attempt("rotate", rotate(&client).await);
    suite.attempt("list versions", list_versions(&client).await);
    suite.attempt("list keys", list_keys(&client).await);
    suite.attempt("update", update(&client).await);
    suite.attempt("disabled key is refused", disable(&client).await);
    suite.attempt("rotation policy", rotation_policy(&client).await);
    suite.attempt("delete", delete(&client).await);
    suite.attempt("recover", recover(&client).await);
    suite.attempt("purge", purge(&client).await);
    suite.attempt("create EC", create_ec(&client).await);
    suite.attempt_uncovered("back up", client.backup_key("rsa-4096", None).await.map(|_| ()));
    Ok(())
}

/// Says what came of each operation.
struct Suite {
    failed: bool,
}

impl Suite {
    fn attempt(&mut self, operation: &str, outcome: Result<()>) {
        match outcome {
            Ok(()) => self.say(operation, "ok", ""),
            Err(error) => self.say(operation, "failed", &told(&*error)),
        }
    }

    /// One that the stand-in may refuse, if it does so with an error that the client reads as Azure's.
    fn attempt_uncovered(&mut self, operation: &str, outcome: azure_core::Result<()>) {
        let code = outcome.as_ref().err().and_then(|error| match error.kind() {
            ErrorKind::HttpResponse { error_code: Some(code), .. } if code.parse::<u16>().is_err() => {
                Some(code.clone())
            }
            _ => None,
        });
        match code {
            Some(code) => self.say(operation, "azure_error", &code),
            None => self.attempt(operation, outcome.map_err(Into::into)),
        }
    }

    fn say(&mut self, operation: &str, result: &str, note: &str) {
        self.failed |= result == "failed";
        let line = serde_json::json!({"client": CLIENT, "operation": operation, "result": result, "note": note});
        println!("{line}");
    }
}

/// An error with all that caused it: the SDK's own text often leaves out what the service said.
fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

fn ensure(holds: bool, what: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(what.into()) }
}

/// The error that was expected, by its status and Azure's code.
fn refused<T>(outcome: azure_core::Result<T>, status: u16, code: &str) -> Result<()> {
    match outcome {
        Err(error)
            if matches!(error.kind(), ErrorKind::HttpResponse { status: found, error_code, .. }
            if u16::from(*found) == status && error_code.as_deref() == Some(code)) =>
        {
            Ok(())
        }
        Err(error) => Err(error.into()),
        Ok(_) => Err(format!("{status} {code} was expected, and it went well").into()),
    }
}

async fn sign_in(site: &Site, credential: &Arc<ClientSecretCredential>) -> Result<()> {
    let scope = ["https://vault.azure.net/.default"];
    credential.get_token(&scope, None).await?;
    let wrong = site.credential(&Secret::new("not-the-secret"))?.get_token(&scope, None).await;
    let error = wrong.err().ok_or("a wrong secret was taken")?;
    ensure(told(&error).contains("AADSTS7000215"), &told(&error))
}

async fn create(client: &KeyClient, bits: i32) -> Result<()> {
    let tags = HashMap::from([("made".to_owned(), "by the suite".to_owned())]);
    let wanted = CreateKeyParameters {
        kty: Some(KeyType::Rsa),
        key_size: Some(bits),
        tags: Some(tags.clone()),
        ..Default::default()
    };
    let key = client.create_key(&format!("rsa-{bits}"), wanted.try_into()?, None).await?.into_model()?;
    let modulus = key.key.and_then(|key| key.n).ok_or("no modulus")?;
    ensure(modulus.len() * 8 == bits as usize, "a key of another size")?;
    ensure(key.tags == Some(tags), "other tags")
}

async fn current(client: &KeyClient, name: &str) -> Result<Key> {
    Ok(client.get_key(name, None).await?.into_model()?)
}

fn version(of: &impl ResourceExt) -> Result<String> {
    let ResourceId { version, .. } = of.resource_id()?;
    Ok(version.ok_or("no key version")?)
}

async fn get(client: &KeyClient) -> Result<()> {
    let key_version = version(&current(client, "rsa-4096").await?)?;
    let options = KeyClientGetKeyOptions { key_version: Some(key_version.clone()), ..Default::default() };
    let same = client.get_key("rsa-4096", Some(options)).await?.into_model()?;
    ensure(version(&same)? == key_version, "another key version")?;
    refused(client.get_key("absent", None).await, 404, "KeyNotFound")
}

fn with(value: Vec<u8>) -> Result<RequestContent<KeyOperationParameters>> {
    let algorithm = Some(EncryptionAlgorithm::RsaOaep256);
    Ok(KeyOperationParameters { algorithm, value: Some(value), ..Default::default() }.try_into()?)
}

/// The wrapped bytes and the key version that wrapped them.
async fn wrap(client: &KeyClient, name: &str) -> Result<(Vec<u8>, String)> {
    let wrapped = client.wrap_key(name, with(SECRET.to_vec())?, None).await?.into_model()?;
    let key_version = version(&wrapped)?;
    Ok((wrapped.result.ok_or("nothing wrapped")?, key_version))
}

async fn unwrap(client: &KeyClient) -> Result<()> {
    let (wrapped, key_version) = wrap(client, "rsa-4096").await?;
    let unwrapped = client.unwrap_key("rsa-4096", &key_version, with(wrapped)?, None).await?.into_model()?;
    ensure(unwrapped.result.as_deref() == Some(SECRET), "other bytes came back")
}

async fn encrypt(client: &KeyClient) -> Result<(Vec<u8>, String)> {
    let encrypted = client.encrypt("rsa-4096", with(SECRET.to_vec())?, None).await?.into_model()?;
    let key_version = version(&encrypted)?;
    Ok((encrypted.result.ok_or("nothing encrypted")?, key_version))
}

async fn decrypt(client: &KeyClient) -> Result<()> {
    let (encrypted, key_version) = encrypt(client).await?;
    let decrypted = client.decrypt("rsa-4096", &key_version, with(encrypted)?, None).await?.into_model()?;
    ensure(decrypted.result.as_deref() == Some(SECRET), "other bytes came back")
}

async fn sign(client: &KeyClient, algorithm: SignatureAlgorithm) -> Result<(Vec<u8>, String)> {
    let parameters = SignParameters { algorithm: Some(algorithm), value: Some(DIGEST.to_vec()) };
    let signed = client.sign("rsa-4096", parameters.try_into()?, None).await?.into_model()?;
    let key_version = version(&signed)?;
    Ok((signed.result.ok_or("no signature")?, key_version))
}

async fn verify(client: &KeyClient) -> Result<()> {
    for algorithm in [SignatureAlgorithm::Rs256, SignatureAlgorithm::Ps256] {
        let (signature, key_version) = sign(client, algorithm.clone()).await?;
        for (digest, expected) in [(DIGEST, true), (&[0; 32][..], false)] {
            let parameters = VerifyParameters {
                algorithm: Some(algorithm.clone()),
                digest: Some(digest.to_vec()),
                signature: Some(signature.clone()),
            };
            let verified = client.verify("rsa-4096", &key_version, parameters.try_into()?, None).await?.into_model()?;
            ensure(verified.value == Some(expected), "a signature was misjudged")?;
        }
    }
    Ok(())
}

async fn rotate(client: &KeyClient) -> Result<()> {
    let (wrapped, older) = wrap(client, "rsa-4096").await?;
    let newer = version(&client.rotate_key("rsa-4096", None).await?.into_model()?)?;
    ensure(newer != older, "the same key version")?;
    let unwrapped = client.unwrap_key("rsa-4096", &older, with(wrapped.clone())?, None).await?.into_model()?;
    ensure(unwrapped.result.as_deref() == Some(SECRET), "the older key version does not unwrap")?;
    refused(client.unwrap_key("rsa-4096", &newer, with(wrapped)?, None).await, 400, "BadParameter")
}

async fn list_versions(client: &KeyClient) -> Result<()> {
    for _ in 0..2 {
        client.rotate_key("rsa-2048", None).await?;
    }
    let options = KeyClientListKeyPropertiesVersionsOptions { maxresults: Some(2), ..Default::default() };
    let pages = client.list_key_properties_versions("rsa-2048", Some(options))?.into_pages();
    counted(pages.try_collect().await?, 3)
}

async fn list_keys(client: &KeyClient) -> Result<()> {
    let options = KeyClientListKeyPropertiesOptions { maxresults: Some(2), ..Default::default() };
    let pages = client.list_key_properties(Some(options))?.into_pages();
    counted(pages.try_collect().await?, 3)
}

/// Pages of at most two came, more than one of them.
fn counted(pages: Vec<azure_core::http::Response<ListKeyPropertiesResult>>, expected: usize) -> Result<()> {
    let mut sizes = Vec::new();
    for page in pages {
        sizes.push(page.into_model()?.value.len());
    }
    let good = sizes.len() > 1 && sizes.iter().all(|size| *size <= 2) && sizes.iter().sum::<usize>() == expected;
    ensure(good, &format!("pages of {sizes:?}"))
}

async fn update(client: &KeyClient) -> Result<()> {
    let expires = OffsetDateTime::from_unix_timestamp(2_208_988_800)?;
    let tags = HashMap::from([("changed".to_owned(), "yes".to_owned())]);
    let changes = UpdateKeyPropertiesParameters {
        key_attributes: Some(KeyAttributes { expires: Some(expires), ..Default::default() }),
        tags: Some(tags.clone()),
        ..Default::default()
    };
    let key = client.update_key_properties("rsa-3072", changes.try_into()?, None).await?.into_model()?;
    let found = key.attributes.and_then(|attributes| attributes.expires);
    ensure(found == Some(expires) && key.tags == Some(tags), "not what was asked for")
}

async fn enable(client: &KeyClient, key_version: &str, enabled: bool) -> Result<()> {
    let changes = UpdateKeyPropertiesParameters {
        key_attributes: Some(KeyAttributes { enabled: Some(enabled), ..Default::default() }),
        ..Default::default()
    };
    let options =
        KeyClientUpdateKeyPropertiesOptions { key_version: Some(key_version.to_owned()), ..Default::default() };
    client.update_key_properties("rsa-3072", changes.try_into()?, Some(options)).await?;
    Ok(())
}

async fn disable(client: &KeyClient) -> Result<()> {
    let (wrapped, key_version) = wrap(client, "rsa-3072").await?;
    enable(client, &key_version, false).await?;
    refused(client.unwrap_key("rsa-3072", &key_version, with(wrapped.clone())?, None).await, 403, "Forbidden")?;
    enable(client, &key_version, true).await?;
    let unwrapped = client.unwrap_key("rsa-3072", &key_version, with(wrapped)?, None).await?.into_model()?;
    ensure(unwrapped.result.as_deref() == Some(SECRET), "it does not unwrap again")
}

async fn rotation_policy(client: &KeyClient) -> Result<()> {
    let action = LifetimeAction {
        action: Some(LifetimeActionType { type_prop: Some(KeyRotationPolicyAction::Rotate) }),
        trigger: Some(LifetimeActionTrigger { time_after_create: Some("P90D".to_owned()), ..Default::default() }),
    };
    let attributes = KeyRotationPolicyAttributes { expiry_time: Some("P2Y".to_owned()), ..Default::default() };
    let policy =
        KeyRotationPolicy { attributes: Some(attributes), lifetime_actions: Some(vec![action]), ..Default::default() };
    client.update_key_rotation_policy("rsa-4096", policy.try_into()?, None).await?;
    let found = client.get_key_rotation_policy("rsa-4096", None).await?.into_model()?;
    ensure(found.attributes.and_then(|a| a.expiry_time).as_deref() == Some("P2Y"), "another expiry")?;
    let rotates = found
        .lifetime_actions
        .unwrap_or_default()
        .into_iter()
        .any(|action| action.trigger.and_then(|trigger| trigger.time_after_create).as_deref() == Some("P90D"));
    ensure(rotates, "it does not rotate after 90 days")
}

async fn delete(client: &KeyClient) -> Result<()> {
    let deleted = client.delete_key("rsa-2048", None).await?.into_model()?;
    ensure(deleted.recovery_id.is_some(), "no way to recover it")?;
    let again = CreateKeyParameters { kty: Some(KeyType::Rsa), key_size: Some(2048), ..Default::default() };
    refused(client.create_key("rsa-2048", again.try_into()?, None).await, 409, "Conflict")
}

async fn recover(client: &KeyClient) -> Result<()> {
    client.recover_deleted_key("rsa-2048", None).await?;
    current(client, "rsa-2048").await.map(|_| ())
}

async fn purge(client: &KeyClient) -> Result<()> {
    client.delete_key("rsa-2048", None).await?;
    client.purge_deleted_key("rsa-2048", None).await?;
    refused(client.get_deleted_key("rsa-2048", None).await, 404, "KeyNotFound")
}

async fn create_ec(client: &KeyClient) -> Result<()> {
    let wanted = CreateKeyParameters { kty: Some(KeyType::Ec), curve: Some(CurveName::P256), ..Default::default() };
    let key = client.create_key("ec", wanted.try_into()?, None).await?.into_model()?;
    ensure(key.key.and_then(|key| key.crv) == Some(CurveName::P256), "another curve")
}

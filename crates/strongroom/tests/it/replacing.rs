//! A vault's credential is replaced: without a moment of denial, and by nothing that does not work.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use strongroom::{
    audit,
    azure_setup::Target,
    error::Error,
    secret_text::SecretText,
    vault::{Accepted, CredentialKind, CredentialText, NewCredential, VaultEdit},
};
use strongroom_keys::TokenUse;

use crate::{
    azure::{AzureWorld, request},
    credentials::{certificate, register},
    world::{on_each_database, refusal, runtime},
};

#[test]
fn a_secret_is_replaced_by_another_while_readers_go_on_and_none_of_them_is_refused() {
    on_each_database(|database| {
        runtime().block_on(async {
            let world = Arc::new(AzureWorld::start(Some(&database.url())).await);
            let item = world.account("Mail", "tide-and-lamp").await;
            let (stop, read) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
            let readers: Vec<_> = (0..4)
                .map(|_| {
                    let (world, stop, read) = (Arc::clone(&world), Arc::clone(&stop), Arc::clone(&read));
                    tokio::spawn(async move {
                        while !stop.load(Ordering::Relaxed) {
                            // Every few of them has to ask Azure.
                            if read.fetch_add(1, Ordering::Relaxed) % 16 == 0 {
                                world.app.keyring.purge_all();
                            }
                            match world.password(item).await {
                                Ok(password) => assert_eq!(password, "tide-and-lamp"),
                                // A lease that a neighbour ended under it.
                                Err(Error::KeyUnavailable(why)) if why.code == "azure.timeout" => {}
                                Err(error) => panic!("refused: {error}"),
                            }
                        }
                    })
                })
                .collect();
            let before = add_secret(&world).await;
            let replaced = world.app.replace_credential(&world.owner, world.vault, secret(&before)).await;
            assert_eq!(replaced.expect("replaced").vault.azure.expect("a key").credential_kind, CredentialKind::Secret);
            canaries(&world, TokenUse::Fresh).await;
            assert!(world.app.credential(&world.owner, world.vault).await.expect("told").previous_held);
            assert_eq!(world.app.settle_credentials().await.expect("a look"), 1);
            assert_eq!(world.app.settle_credentials().await.expect("a look"), 0);
            remove_first_secret(&world).await;
            for _ in 0..3 {
                canaries(&world, TokenUse::Fresh).await;
            }
            stop.store(true, Ordering::Relaxed);
            for reader in readers {
                reader.await.expect("no reader was refused");
            }
            assert!(read.load(Ordering::Relaxed) > 16);
            assert!(!world.app.credential(&world.owner, world.vault).await.expect("told").previous_held);
            sound(&world).await;
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_gives_way_to_a_certificate() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    let (pem, der) = certificate();
    register(&world.administrator, &world.values.client_id, &der).await;
    let new = with(CredentialText::Certificate(SecretText::from(pem.as_str())));
    let replaced = world.app.replace_credential(&world.owner, world.vault, new).await.expect("replaced");
    let key = replaced.vault.azure.expect("a key");
    assert_eq!(key.credential_kind, CredentialKind::Certificate);
    assert_eq!(key.credential_expires.expect("it says so").to_string(), "2040-01-01T00:00:00Z");
    world.app.settle_credentials().await.expect("a look");
    remove_first_secret(&world).await;
    world.app.keyring.purge_all();
    assert_eq!(world.password(item).await.expect("revealed"), "tide-and-lamp");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_credential_is_refused_by_its_check_and_changes_nothing() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    let wrong = "not-the-secret-of-this-application";
    let error = world.app.replace_credential(&world.owner, world.vault, secret(wrong)).await.err().expect("refused");
    assert_eq!(error.code(), "vault.checks_failed");
    assert!(!format!("{error:?}").contains(wrong));
    let lines = world.app.check_credential(&world.owner, world.vault, &secret(wrong), &|_| ()).await.expect("checked");
    assert!(lines.iter().any(|line| line.reason == Some("credential.refused")), "{lines:?}");
    assert_eq!(world.app.settle_credentials().await.expect("a look"), 0);
    world.app.keyring.purge_all();
    canaries(&world, TokenUse::Fresh).await;
    assert_eq!(world.password(item).await.expect("revealed"), "tide-and-lamp");
    let twice = NewCredential { credential: None, ..secret("") };
    assert_eq!(refusal(world.app.replace_credential(&world.owner, world.vault, twice).await), "invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_previous_credential_is_held_until_the_new_one_has_worked_again() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    let first = add_secret(&world).await;
    world.app.replace_credential(&world.owner, world.vault, secret(&first)).await.expect("replaced");
    // The new one is withdrawn before it has worked again: the previous one carries on, and is not let go.
    remove_secret(&world, "another").await;
    world.app.keyring.purge_all();
    canaries(&world, TokenUse::Fresh).await;
    canaries(&world, TokenUse::Fresh).await;
    assert_eq!(world.password(item).await.expect("revealed"), "tide-and-lamp");
    assert_eq!(world.app.settle_credentials().await.expect("a look"), 0);
    // A third one keeps the one that works beside it, not the one that does not.
    let third = add_secret(&world).await;
    world.app.replace_credential(&world.owner, world.vault, secret(&third)).await.expect("replaced");
    remove_secret(&world, "another").await;
    world.app.keyring.purge_all();
    assert_eq!(world.password(item).await.expect("revealed"), "tide-and-lamp");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_went_dark_for_its_secret_comes_back_with_another() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    let new = add_secret(&world).await;
    remove_first_secret(&world).await;
    canaries(&world, TokenUse::Fresh).await;
    canaries(&world, TokenUse::Fresh).await;
    assert_eq!(refusal(world.password(item).await), "credential.refused");
    world.app.replace_credential(&world.owner, world.vault, secret(&new)).await.expect("replaced");
    canaries(&world, TokenUse::Cached).await;
    canaries(&world, TokenUse::Cached).await;
    assert_eq!(world.password(item).await.expect("revealed"), "tide-and-lamp");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_credential_of_several_vaults_is_replaced_in_all_of_them_at_once() {
    let world = AzureWorld::with_room_for(None, 2).await;
    let made = world.app.create_vault(&world.owner, request("Second", &world.values)).await.expect("made");
    let told = world.app.credential(&world.owner, world.vault).await.expect("told");
    assert_eq!(told.also_in.iter().map(|vault| vault.name.as_str()).collect::<Vec<_>>(), ["Second"]);
    let new = add_secret(&world).await;
    let new = NewCredential { everywhere: true, ..secret(&new) };
    let replaced = world.app.replace_credential(&world.owner, world.vault, new).await.expect("replaced");
    assert!(replaced.others.len() == 1 && replaced.others[0].id == made.id && replaced.others[0].refused.is_none());
    assert_eq!(world.app.settle_credentials().await.expect("a look"), 2);
    remove_first_secret(&world).await;
    canaries(&world, TokenUse::Fresh).await;
    canaries(&world, TokenUse::Fresh).await;
    for vault in [world.vault, made.id] {
        assert!(world.app.keyring.dark(vault).is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_secret_is_noted_without_a_new_one() {
    let world = AzureWorld::start(None).await;
    let end = Some("2027-05-01T00:00:00Z".parse().expect("a time"));
    let noted = NewCredential { credential: None, expires: end, ..secret("") };
    let replaced = world.app.replace_credential(&world.owner, world.vault, noted).await.expect("noted");
    assert_eq!(replaced.vault.azure.expect("a key").credential_expires, end);
    assert!(!world.app.credential(&world.owner, world.vault).await.expect("told").previous_held);
    canaries(&world, TokenUse::Fresh).await;
    assert!(world.app.keyring.dark(world.vault).is_none());
    let renamed = VaultEdit { name: Some("Renamed".into()), ..VaultEdit::default() };
    world.app.edit_vault(&world.owner, world.vault, None, renamed).await.expect("its rows are its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warning_that_nobody_saw_stands_against_it() {
    let world = AzureWorld::start(None).await;
    let new = add_secret(&world).await;
    let soon = world.clock_in_days(10);
    let unseen = NewCredential {
        expires: Some(soon),
        accept_warnings: Accepted::Lines(vec!["rights.role".into(), "rights.scope".into()]),
        ..secret(&new)
    };
    let error = world.app.replace_credential(&world.owner, world.vault, unseen).await.err().expect("refused");
    assert_eq!(error.code(), "vault.checks_warned");
    let Error::ChecksFailed(lines) = error else { panic!("{error}") };
    let seen = lines.iter().map(|line| line.code.to_owned()).collect();
    let seen = NewCredential { expires: Some(soon), accept_warnings: Accepted::Lines(seen), ..secret(&new) };
    world.app.replace_credential(&world.owner, world.vault, seen).await.expect("replaced");
}

fn secret(text: &str) -> NewCredential {
    with(CredentialText::Secret(text.into()))
}

fn with(credential: CredentialText) -> NewCredential {
    NewCredential {
        client_id: None,
        credential: Some(credential),
        expires: None,
        accept_warnings: Accepted::All,
        everywhere: false,
    }
}

async fn canaries(world: &AzureWorld, token: TokenUse) {
    world.clock.advance(Duration::from_secs(5));
    world.app.keyring.canary_round(token).await.expect("a round of canaries");
}

async fn application(world: &AzureWorld) -> Value {
    let filter = format!("/v1.0/applications?$filter=appId eq '{}'", world.values.client_id);
    let found = world.administrator.send(Target::Graph, "GET", &filter, None).await.expect("found");
    found["value"][0].clone()
}

/// Another client secret of the application, beside those there are.
async fn add_secret(world: &AzureWorld) -> String {
    let path = format!("/v1.0/applications/{}/addPassword", application(world).await["id"].as_str().expect("an id"));
    let body = json!({"passwordCredential": {"displayName": "another"}});
    let made = world.administrator.send(Target::Graph, "POST", &path, Some(body)).await.expect("made");
    made["secretText"].as_str().expect("a secret").to_owned()
}

/// Takes away the secret that the vault was made with.
async fn remove_first_secret(world: &AzureWorld) {
    let application = application(world).await;
    let secrets = application["passwordCredentials"].as_array().expect("secrets");
    let first = secrets.iter().find(|secret| secret["displayName"] != "another").expect("the first");
    remove(world, &application, first).await;
}

async fn remove_secret(world: &AzureWorld, name: &str) {
    let application = application(world).await;
    let secrets = application["passwordCredentials"].as_array().expect("secrets");
    let named = secrets.iter().find(|secret| secret["displayName"] == name).expect("a secret of this name");
    remove(world, &application, named).await;
}

async fn remove(world: &AzureWorld, application: &Value, secret: &Value) {
    let path = format!("/v1.0/applications/{}/removePassword", application["id"].as_str().expect("an id"));
    let body = Some(json!({"keyId": secret["keyId"]}));
    world.administrator.send(Target::Graph, "POST", &path, body).await.expect("removed");
}

async fn sound(world: &AzureWorld) {
    let report = audit::verify(&world.app.store, Arc::clone(&world.app.keys), true).await.expect("the log can be read");
    assert!(report.is_sound(), "{report}");
}

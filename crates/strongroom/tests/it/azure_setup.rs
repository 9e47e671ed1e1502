//! `strongroom azure setup` as an administrator meets it: the real binary against the stand-in, signed in as a person or
//! a service principal.

mod desk;

use std::{fs, os::unix::fs::PermissionsExt};

use azure_standin::{Effect, Fault, Match, Preset, Settings};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use strongroom::azure_setup::Target;

use self::desk::{Desk, VAULT};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/azure-setup.md");

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_finds_everything_and_changes_nothing() {
    let desk = Desk::open().await;
    let secret_file = desk.path("secret.txt");
    let first = desk.run(&["--yes", "--secret-file", &secret_file]).await;
    assert_eq!(first.code, 0, "{}", first.err);
    assert!(first.err.contains("made     application \"Strongroom\""), "{}", first.err);
    assert!(first.err.contains("works      it signs in, and wraps and unwraps with the key"), "{}", first.err);
    assert_eq!(fs::metadata(&secret_file).expect("kept").permissions().mode() & 0o777, 0o600);
    let (secret, before) = (fs::read_to_string(&secret_file).expect("kept"), desk.changes());
    assert!(before > 5 && !first.out.contains(secret.trim()), "{before} {}", first.out);
    let second = desk.run(&["--yes", "--secret-file", &secret_file]).await;
    assert_eq!((second.code, second.out), (0, first.out), "{}", second.err);
    assert!(
        second.err.contains("there    application \"Strongroom\"") && !second.err.contains("  made"),
        "{}",
        second.err
    );
    let expires = first.err.split("--client-secret-expires ").nth(1).and_then(|rest| rest.get(..10)).expect("a date");
    assert!(second.err.contains(&format!("--client-secret-expires {expires}")), "{}", second.err);
    assert_eq!((desk.changes(), fs::read_to_string(&secret_file).expect("kept")), (before, secret));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_secret_is_said_to_be_lost_and_a_new_one_is_made_when_asked() {
    let desk = Desk::open().await;
    let first = desk.json(&["--yes"]).await;
    let again = desk.json(&["--yes"]).await;
    assert_eq!(again["azure"]["client_secret"], Value::Null);
    assert_eq!(again["azure"]["client_id"], first["azure"]["client_id"]);
    let remark = again["steps"][9]["remarks"][0].as_str().expect("a remark");
    assert!(remark.contains("Azure does not show it again"), "{remark}");
    let third = desk.json(&["--yes", "--new-credential"]).await;
    let secrets = (&first["azure"]["client_secret"], &third["azure"]["client_secret"]);
    assert!(secrets.0.is_string() && secrets.1.is_string() && secrets.0 != secrets.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_client_secret_is_printed_before_anything_is_waited_for() {
    let settings = Settings { propagation_seconds: 300, ..Settings::default() };
    let wait = SignedDuration::from_secs(301);
    for format in ["table", "json"] {
        let desk = Desk::with(settings.clone(), Timestamp::now() - wait).await;
        let mut running = desk.start(&["--yes", "--format", format]);
        running.said("waiting  for Key Vault Crypto Officer to count").await;
        desk.clock.advance(wait);
        running.said("waiting  for the role on the key to count").await;
        let cut = running.cut().await;
        let application = desk.graph("/v1.0/applications?$filter=displayName eq 'Strongroom'").await.remove(0);
        let hint = application["passwordCredentials"][0]["hint"].as_str().expect("a hint");
        let label = if format == "json" { "\"client_secret\": \"" } else { "Client Secret    " };
        assert!(cut.out.contains(&format!("{label}{hint}")), "{}\n{}", cut.out, cut.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_keep_the_secret_is_refused_before_anything_is_made() {
    let desk = Desk::open().await;
    let folder = desk.path("folder");
    fs::create_dir(&folder).expect("made");
    for file in [&folder, &desk.path("nowhere/secret.txt")] {
        let refused = desk.run(&["--yes", "--secret-file", file]).await;
        assert_eq!((refused.code, desk.changes()), (2, 0), "{}", refused.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_something_in_it_is_never_replaced() {
    let desk = Desk::open().await;
    let file = desk.path("keep.txt");
    fs::write(&file, "notes\n").expect("written");
    // By itself, since no client secret is there yet; and asked for.
    for more in [&[][..], &["--new-credential"]] {
        let refused = desk.run(&[&["--yes", "--secret-file", &file], more].concat()).await;
        assert_eq!((refused.code, desk.changes()), (2, 0), "{}", refused.err);
        assert!(refused.err.contains("keep.txt is there already"), "{}", refused.err);
    }
    assert_eq!(fs::read_to_string(&file).expect("kept"), "notes\n");
    assert_eq!(desk.run(&["--yes"]).await.code, 0);
    let none_made = desk.path("none.txt");
    assert_eq!(desk.run(&["--yes", "--secret-file", &none_made]).await.code, 0);
    assert!(!std::path::Path::new(&none_made).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_no_vault_came_of_is_named_with_the_command_that_removes_it() {
    let desk = Desk::open().await;
    let strongroom = desk.strongroom().await;
    let matching = Match { operation: Some("wrapkey".into()), ..Match::default() };
    let effect = Effect { preset: Some(Preset::Firewall), ..Effect::default() };
    desk.standin.set_fault(Fault { matching, effect, ..Fault::default() });
    let failed = strongroom.run(&desk, &["--yes", "--vault-name", "Azure"]).await;
    assert_eq!(failed.code, 5, "{}", failed.err);
    let application = desk.graph("/v1.0/applications?$filter=displayName eq 'Strongroom'").await.remove(0);
    let key_id = application["passwordCredentials"][0]["keyId"].as_str().expect("an id");
    let remove = format!("--key-id {key_id}");
    assert!(!failed.err.contains("Make the vault in Strongroom with these"), "{}", failed.err);
    assert!(failed.err.contains("error: ") && !failed.err.contains("error: Key is"), "{}", failed.err);
    assert!(failed.err.contains(&remove) && failed.out.contains("Client Secret    "), "{}\n{}", failed.out, failed.err);
    desk.standin.clear_faults();
    let mended = strongroom.run(&desk, &["--yes", "--vault-name", "Azure"]).await;
    assert_eq!(mended.code, 0, "{}", mended.err);
    let older = mended.err.split("Older client secrets go on working").nth(1).expect("they are named");
    assert!(older.contains(&remove) && older.contains("az ad app credential delete --id"), "{}", mended.err);
    assert!(!mended.out.contains("Client Secret"), "Strongroom has it, and nobody else needs it: {}", mended.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_that_stays_with_the_administrator_is_told_with_the_command_that_ends_it() {
    let desk = Desk::open().await;
    let ended = desk.run(&["--yes"]).await;
    let vault = desk.vault_path();
    let scope = vault.split('?').next().expect("a path");
    let command = format!(
        "az role assignment delete --assignee {} --role \"Key Vault Crypto Officer\" --scope {scope}",
        desk.standin.admin().object_id
    );
    assert!(ended.err.contains(&command), "{command}: {}", ended.err);
    let again = desk.run(&["--yes"]).await;
    assert!(!again.err.contains("az role assignment delete"), "it was there before: {}", again.err);
    let other = desk.json(&["--yes", "--key-vault", "contoso-more", "--application", "Another"]).await;
    let told: Vec<&str> =
        other["steps"].as_array().expect("steps").iter().filter_map(|step| step["afterwards"].as_str()).collect();
    assert!(told.len() == 1 && told[0].contains("az role assignment delete --assignee"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_with_a_device_code() {
    let desk = Desk::open().await;
    let mut running = desk.start(&["--sign-in", "device-code", "--yes"]);
    let message = running.said("enter the code").await;
    let code = message.split("enter the code ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a code");
    assert!(desk.standin.approve_device(code), "{message}");
    let ended = running.end().await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    let user = desk.standin.admin_user();
    assert!(ended.err.contains(&user.user_principal_name), "{}", ended.err);
    assert!(desk.assignments(&user.object_id).await.iter().any(|row| row["properties"]["principalType"] == "User"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_somebody_else_calls_strongroom_gets_nothing_unless_it_is_named() {
    let desk = Desk::open().await;
    let strangers = desk.person().await;
    let application = desk.register(&strangers, "Strongroom").await;
    let client_id = application["appId"].as_str().expect("a client id");
    let before = desk.changes();
    let stopped = desk.run(&["--yes"]).await;
    assert_eq!((stopped.code, desk.changes()), (2, before), "{}", stopped.err);
    let choice = format!("--client-id {client_id}");
    for wanted in ["which you do not own", &choice, "with 1 client secret", "--application"] {
        assert!(stopped.err.contains(wanted), "{wanted}: {}", stopped.err);
    }
    let dry = desk.run(&["--dry-run"]).await;
    assert_eq!((dry.code, dry.err.contains(&choice)), (2, true), "{}", dry.err);
    let named = desk.json(&["--yes", "--client-id", client_id]).await;
    assert_eq!(named["azure"]["client_id"], client_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_applications_of_one_name_each_is_told() {
    let desk = Desk::open().await;
    let one = desk.register(desk.administrator(), "Strongroom").await;
    let other = desk.register(desk.administrator(), "Strongroom").await;
    let stopped = desk.run(&["--yes"]).await;
    assert_eq!(stopped.code, 2, "{}", stopped.err);
    for application in [one, other] {
        assert!(stopped.err.contains(application["appId"].as_str().expect("an id")), "{}", stopped.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_with_a_credential_gets_the_role_only_if_it_is_named() {
    let desk = Desk::open().await;
    // As left by somebody who made it, kept a secret of it, and made the administrator its only owner.
    let application = desk.register(desk.administrator(), "Strongroom").await;
    let stopped = desk.run(&["--yes"]).await;
    assert_eq!(stopped.code, 2, "{}", stopped.err);
    assert!(stopped.err.contains("which may not use this key yet"), "{}", stopped.err);
    let principals = desk.graph("/v1.0/servicePrincipals?$filter=displayName eq 'Strongroom'").await;
    assert_eq!(desk.assignments(principals[0]["id"].as_str().expect("an id")).await.len(), 0);
    let client_id = application["appId"].as_str().expect("a client id");
    let named = desk.run(&["--yes", "--client-id", client_id, "--new-credential"]).await;
    assert_eq!(named.code, 0, "{}", named.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_midway_says_what_exists_and_the_same_command_goes_on() {
    let desk = Desk::open().await;
    let matching = Match { path: Some("/keys/strongroom/providers/".into()), ..Match::default() };
    let effect = Effect { status: Some(500), ..Effect::default() };
    desk.standin.set_fault(Fault { matching, effect, ..Fault::default() });
    let stopped = desk.run(&["--yes"]).await;
    assert_eq!(stopped.code, 1, "{}", stopped.err);
    for wanted in ["Key Vault contoso-keys; ", "RSA-4096 key strongroom", "Run the same command again", "500"] {
        assert!(stopped.err.contains(wanted), "{wanted}: {}", stopped.err);
    }
    assert!(!stopped.err.contains("made     client secret"), "a secret was made and is lost: {}", stopped.err);
    desk.standin.clear_faults();
    let resumed = desk.run(&["--yes"]).await;
    assert_eq!(resumed.code, 0, "{}", resumed.err);
    assert!(resumed.err.contains("there    RSA-4096 key strongroom"), "{}", resumed.err);
    assert_eq!(desk.graph("/v1.0/applications?$filter=displayName eq 'Strongroom'").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_take_their_time_are_waited_for_with_visible_progress() {
    let settings = Settings { propagation_seconds: 300, ..Settings::default() };
    // The two waits together end at the present time: a token from the future would be refused.
    let wait = SignedDuration::from_secs(301);
    let desk = Desk::with(settings, Timestamp::now() - wait - wait).await;
    let mut running = desk.start(&["--yes"]);
    running.said("waiting  for Key Vault Crypto Officer to count").await;
    desk.clock.advance(wait);
    running.said("waiting  for the role on the key to count").await;
    desk.clock.advance(wait);
    let ended = running.end().await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.err.contains("works      "), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_vault_in_access_policy_mode_is_left_as_it_is() {
    let desk = Desk::open().await;
    let before = desk.make_key_vault(json!({"enableRbacAuthorization": false})).await;
    let ended = desk.run(&["--yes"]).await;
    assert_eq!(ended.code, 1, "{}", ended.err);
    let command = format!("az keyvault update --name {VAULT} --enable-rbac-authorization true");
    assert!(ended.err.contains("access policies") && ended.err.contains(&command), "{}", ended.err);
    assert!(ended.err.contains("resource provider Microsoft.KeyVault; resource group strongroom"), "{}", ended.err);
    assert!(ended.err.contains("Made, and stays: application"), "{}", ended.err);
    assert!(!ended.err.contains("the same command again"), "it would be refused again: {}", ended.err);
    assert_eq!(desk.key_vault().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_vault_without_purge_protection_is_used_and_told() {
    let desk = Desk::open().await;
    let before = desk.make_key_vault(json!({"enableRbacAuthorization": true})).await;
    let ended = desk.run(&["--yes"]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    let command = format!("az keyvault update --name {VAULT} --enable-purge-protection true");
    assert!(ended.err.contains(&command), "{}", ended.err);
    assert!(!ended.err.contains("cannot be destroyed by mistake"), "the title says the opposite: {}", ended.err);
    assert_eq!(desk.key_vault().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_a_deleted_key_vault_is_told_with_the_command_that_recovers_it() {
    let desk = Desk::open().await;
    desk.make_key_vault(json!({"enableRbacAuthorization": true})).await;
    desk.arm("DELETE", &desk.vault_path(), None).await;
    let ended = desk.run(&["--yes"]).await;
    assert_eq!(ended.code, 1, "{}", ended.err);
    let command = format!("az keyvault recover --name {VAULT} --location LOCATION");
    assert!(ended.err.lines().any(|line| line.trim() == command), "on a line of its own: {}", ended.err);
    assert!(ended.err.contains("its role assignments do not come back"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_somebody_elses_key_vault_is_told() {
    let desk = Desk::open().await;
    desk.make_key_vault(json!({"enableRbacAuthorization": true})).await;
    let ended = desk.run(&["--yes", "--resource-group", "another"]).await;
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(ended.err.contains("unique in all of Azure") && ended.err.contains("another --key-vault"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_vault_of_another_tenant_is_left_as_it_is() {
    let desk = Desk::open().await;
    let other = &desk.standin.other_admin().tenant_id;
    let before = desk.make_key_vault(json!({"enableRbacAuthorization": true, "tenantId": other})).await;
    let ended = desk.run(&["--yes"]).await;
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(ended.err.contains(&format!("belongs to tenant {other}")), "{}", ended.err);
    assert_eq!(desk.key_vault().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_hardware_takes_a_premium_key_vault() {
    let desk = Desk::open().await;
    let made = desk.run(&["--yes", "--hsm"]).await;
    assert_eq!(made.code, 0, "{}", made.err);
    assert!(made.err.contains("made     RSA-HSM-4096 key strongroom"), "{}", made.err);
    assert_eq!(desk.key_vault().await["properties"]["sku"]["name"], "premium");
    let desk = Desk::open().await;
    let before = desk.make_key_vault(json!({"enableRbacAuthorization": true})).await;
    let stopped = desk.run(&["--yes", "--hsm"]).await;
    assert_eq!(stopped.code, 1, "{}", stopped.err);
    assert!(stopped.err.contains("--set properties.sku.name=premium"), "{}", stopped.err);
    assert_eq!(desk.key_vault().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_entra_has_not_replicated_yet_is_waited_for() {
    let desk = Desk::open().await;
    let message = "The appId 'x' of the service principal does not reference a valid application object.";
    let body = json!({"error": {"code": "Request_BadRequest", "message": message}});
    let effect = Effect { status: Some(400), body: Some(body), ..Effect::default() };
    let matching = Match { path: Some("/v1.0/servicePrincipals".into()), ..Match::default() };
    desk.standin.set_fault(Fault { matching, effect, times: Some(2), ..Fault::default() });
    let ended = desk.run(&["--yes"]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.err.contains("waiting  for the new application to be known everywhere"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firewall_is_named_and_not_waited_for() {
    let desk = Desk::open().await;
    let matching = Match { host: Some(format!("{VAULT}.vault.azure.net")), ..Match::default() };
    let effect = Effect { preset: Some(Preset::Firewall), ..Effect::default() };
    desk.standin.set_fault(Fault { matching, effect, ..Fault::default() });
    let ended = desk.run(&["--yes"]).await;
    assert_eq!(ended.code, 4, "{}", ended.err);
    assert!(ended.err.contains("az keyvault network-rule add --name contoso-keys"), "{}", ended.err);
    assert!(!ended.err.contains("waiting"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_unknown_host_is_waited_for() {
    let key_vault = || Match { host: Some(format!("{VAULT}.vault.azure.net")), ..Match::default() };
    let refused = Effect { connect_status: Some(403), ..Effect::default() };
    let untrusted = Effect { untrusted_ca: Some("Inspecting proxy".into()), ..Effect::default() };
    let desk = Desk::open().await;
    for effect in [refused, untrusted] {
        desk.standin.clear_faults();
        desk.standin.set_fault(Fault { matching: key_vault(), effect, ..Fault::default() });
        let ended = desk.run(&["--yes"]).await;
        assert_eq!((ended.code, ended.err.contains("waiting")), (6, false), "{}", ended.err);
    }
    desk.standin.clear_faults();
    let effect = Effect { connect_status: Some(502), ..Effect::default() };
    desk.standin.set_fault(Fault { matching: key_vault(), effect, times: Some(2), ..Fault::default() });
    let ended = desk.run(&["--yes"]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.err.contains("waiting  for the Key Vault's host name to be known"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_has_ended_is_renewed() {
    let desk = Desk::open().await;
    let matching = Match { path: Some("/resourceGroups/".into()), ..Match::default() };
    let effect = Effect { status: Some(401), ..Effect::default() };
    desk.standin.set_fault(Fault { matching, effect, times: Some(1), ..Fault::default() });
    let ended = desk.run(&["--yes"]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_made_once_registered_once_and_signs_in() {
    let desk = Desk::open().await;
    let file = desk.path("certificate.pem");
    let wanted = ["--yes", "--credential", "certificate", "--certificate", &file];
    let first = desk.run(&wanted).await;
    assert_eq!(first.code, 0, "{}", first.err);
    assert!(first.err.contains("works      "), "{}", first.err);
    assert_eq!(fs::metadata(&file).expect("kept").permissions().mode() & 0o777, 0o600);
    let (pem, before) = (fs::read_to_string(&file).expect("kept"), desk.changes());
    let second = desk.run(&wanted).await;
    assert_eq!((second.code, desk.changes()), (0, before), "{}", second.err);
    assert_eq!(fs::read_to_string(&file).expect("kept"), pem);
    // A second certificate stands beside the first, which goes on working.
    let other = desk.path("other.pem");
    let beside = desk.run(&["--yes", "--credential", "certificate", "--certificate", &other]).await;
    assert_eq!(beside.code, 0, "{}", beside.err);
    let application = desk.graph("/v1.0/applications?$filter=displayName eq 'Strongroom'").await.remove(0);
    assert_eq!(application["keyCredentials"].as_array().map(Vec::len), Some(2));
    assert_eq!(desk.run(&wanted).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_identity_is_trusted_once_and_signs_in() {
    let desk = Desk::open().await;
    let subject = "system:serviceaccount:strongroom:server";
    let (issuer, token) = desk.standin.federated_token(subject);
    let file = desk.path("token");
    fs::write(&file, token).expect("written");
    let wanted = ["--yes", "--credential", "workload-identity", "--issuer", &issuer, "--subject", subject];
    let mut command = desk.command(&wanted);
    command.env("AZURE_FEDERATED_TOKEN_FILE", &file);
    let first = desk::finish(command).await;
    assert_eq!(first.code, 0, "{}", first.err);
    assert!(first.err.contains("works      ") && first.err.contains("--workload-identity"), "{}", first.err);
    let before = desk.changes();
    let second = desk.run(&wanted).await;
    assert_eq!((second.code, desk.changes()), (0, before), "{}", second.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_federated_credential_for_another_audience_is_told_and_not_waited_for() {
    let desk = Desk::open().await;
    let (issuer, subject) = ("https://tokens.example.com", "server");
    let wanted = ["--yes", "--credential", "workload-identity", "--issuer", issuer, "--subject", subject];
    assert_eq!(desk.run(&["--yes"]).await.code, 0);
    let application = desk.graph("/v1.0/applications?$filter=displayName eq 'Strongroom'").await.remove(0);
    let path =
        format!("/v1.0/applications/{}/federatedIdentityCredentials", application["id"].as_str().expect("an id"));
    let body = json!({"name": "by-hand", "issuer": issuer, "subject": subject, "audiences": ["api://another"]});
    desk.administrator().send(Target::Graph, "POST", &path, Some(body)).await.expect("registered");
    let stopped = desk.run(&wanted).await;
    assert_eq!(stopped.code, 1, "{}", stopped.err);
    for words in ["api://another", "az ad app federated-credential update --id", "AzureADTokenExchange"] {
        assert!(stopped.err.contains(words), "{words}: {}", stopped.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_each_request_and_sends_none_that_changes() {
    let desk = Desk::open().await;
    let dry = desk.run(&["--dry-run"]).await;
    assert_eq!((dry.code, desk.changes()), (0, 0), "{}", dry.err);
    for wanted in [
        "sent  GET https://graph.microsoft.com/v1.0/applications?$filter=displayName eq 'Strongroom'",
        "would POST https://graph.microsoft.com/v1.0/servicePrincipals",
        "would PUT https://management.azure.com/subscriptions/",
        "\"enablePurgeProtection\":true",
        "would POST {Vault URI}/keys/strongroom/create",
        "would POST https://graph.microsoft.com/v1.0/applications/{object id of the application}/addPassword",
    ] {
        assert!(dry.out.contains(wanted), "{wanted}: {}", dry.out);
    }
    assert_eq!(desk.run(&["--yes"]).await.code, 0);
    let before = desk.changes();
    let document = desk.json(&["--dry-run"]).await;
    let steps = document["steps"].as_array().expect("steps");
    assert!(steps.iter().all(|step| step["state"] == "found"), "{document}");
    assert_eq!((steps.len(), desk.changes()), (10, before));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_with_the_vault_in_strongroom_and_runs_again() {
    let desk = Desk::open().await;
    let strongroom = desk.strongroom().await;
    let made = strongroom.run(&desk, &["--yes", "--vault-name", "Azure", "--default"]).await;
    assert_eq!(made.code, 0, "{}", made.err);
    assert!(made.out.starts_with("Created vault Azure ("), "{}", made.out);
    let vaults = strongroom.vaults().await;
    assert!(vaults.contains(&("Azure".to_owned(), true)), "{vaults:?}");
    let before = desk.changes();
    let again = strongroom.run(&desk, &["--yes", "--vault-name", "Azure", "--default"]).await;
    assert_eq!((again.code, desk.changes()), (0, before), "{}", again.err);
    assert!(again.err.contains("is there in Strongroom already"), "{}", again.err);
    assert_eq!(strongroom.vaults().await, vaults);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_whose_check_warns_is_made_only_if_the_warnings_are_accepted() {
    let desk = Desk::open().await;
    desk.make_key_vault(json!({"enableRbacAuthorization": true, "softDeleteRetentionInDays": 7})).await;
    let strongroom = desk.strongroom().await;
    let file = desk.path("secret.txt");
    let wanted = ["--yes", "--vault-name", "Azure", "--secret-file", &file];
    let warned = strongroom.run(&desk, &wanted).await;
    assert_eq!(warned.code, 1, "{}", warned.err);
    assert!(warned.err.contains("  warning    ") && warned.err.contains("--accept-warnings"), "{}", warned.err);
    assert!(!strongroom.vaults().await.iter().any(|(name, _)| name == "Azure"));
    let accepted = strongroom.run(&desk, &[&wanted[..], &["--accept-warnings"]].concat()).await;
    assert_eq!(accepted.code, 0, "{}", accepted.err);
    assert!(strongroom.vaults().await.iter().any(|(name, _)| name == "Azure"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_asked_for_before_anything_is_made() {
    let desk = Desk::open().await;
    let silent = desk.run(&[]).await;
    assert_eq!(silent.code, 2, "{}", silent.err);
    assert!(silent.err.contains("--yes") && silent.err.contains("--dry-run"), "{}", silent.err);
    let certificate = desk.path("certificate.pem");
    let undecided = desk.run(&["--credential", "certificate", "--certificate", &certificate]).await;
    assert_eq!((undecided.code, std::path::Path::new(&certificate).exists()), (2, false), "{}", undecided.err);
    let no_az = desk.run(&["--yes", "--sign-in", "az"]).await;
    assert_eq!(no_az.code, 2, "{}", no_az.err);
    assert!(no_az.err.contains("there is no az on PATH"), "{}", no_az.err);
    let mut wrong = desk.command(&["--yes"]);
    wrong.env("AZURE_CLIENT_SECRET", "wrong8Q~secret");
    let wrong = desk::finish(wrong).await;
    assert_eq!(wrong.code, 4, "{}", wrong.err);
    assert!(wrong.err.contains("AADSTS7000215") && !wrong.err.contains("wrong8Q~secret"), "{}", wrong.err);
    let other = desk.run(&["--yes", "--subscription", "elsewhere"]).await;
    assert_eq!(other.code, 3, "{}", other.err);
    assert!(other.err.contains(&desk.standin.admin().subscription_id), "{}", other.err);
    let nowhere = desk.run(&["--yes", "--proxy", "http://127.0.0.1:9"]).await;
    assert_eq!(nowhere.code, 6, "{}", nowhere.err);
    assert_eq!(desk.changes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_in_the_docs_is_the_one_that_is_printed() {
    let desk = Desk::open().await;
    let mut command = desk.command(&["--print", "az"]);
    command.env_remove("AZURE_TENANT_ID");
    let printed = desk::finish(command).await;
    assert_eq!(printed.code, 0, "{}", printed.err);
    let docs = fs::read_to_string(DOCS).expect("the docs");
    assert!(
        docs.contains(&format!("```sh\n{}```\n", printed.out)),
        "docs/azure-setup.md does not show:\n{}",
        printed.out
    );
    let elsewhere = desk.run(&["--print", "az", "--subscription", "Key's home"]).await;
    let tenant = &desk.standin.admin().tenant_id;
    for line in [
        "az account set --subscription 'Key'\\''s home'\n",
        &format!("if [ \"${{TENANT_ID,,}}\" != '{tenant}' ]; then\n"),
    ] {
        assert!(elsewhere.out.contains(line), "{line}: {}", elsewhere.out);
    }
    assert_eq!(desk.standin.stats().requests.len(), 0, "printing needs no Azure");
}

const TENANT: &str = "5f3e2c1d-0000-4000-8000-000000000001";

/// `az` is a shell function here: the real one costs seconds a call.
fn run_with_az(script: &str, az: &str) -> (Option<i32>, String) {
    let script = format!("az() {{\n{az}\n}}\n{script}");
    let ran = std::process::Command::new("bash").args(["-c", &script]).output().expect("bash is there");
    (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_looks_for_the_application_that_its_first_line_names() {
    let desk = Desk::open().await;
    let printed = desk.run(&["--print", "az", "--tenant", TENANT]).await.out;
    let edited = printed.replace("APPLICATION='Strongroom'", "APPLICATION=\"O'Brien's & \\$x\"");
    assert_ne!(edited, printed);
    let az = format!(
        "case \"$*\" in 'ad app list'*) echo \"$5\" >&2; exit 7 ;; 'account show'*) echo {TENANT} user me ;; esac"
    );
    let (code, said) = run_with_az(&edited, &az);
    assert_eq!((code, said.as_str()), (Some(7), "displayName eq 'O''Brien''s & $x'\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_list_of_owners_is_not_told_as_somebody_elses_application() {
    let desk = Desk::open().await;
    let printed = desk.run(&["--print", "az", "--tenant", TENANT]).await.out;
    let az = format!(
        "case \"$*\" in 'ad app owner list'*) echo 'no route' >&2; return 3 ;; 'account show'*) echo {TENANT} user me ;; \
              'ad app list'*) echo an-app ;; esac"
    );
    let (code, said) = run_with_az(&printed, &az);
    assert_eq!((code, said.as_str()), (Some(3), "no route\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_script_is_sound_bash() {
    let desk = Desk::open().await;
    let odd = ["--print", "az", "--application", "O'Brien \"$(touch /) `id`"];
    let issuer =
        ["--print", "az", "--credential", "workload-identity", "--issuer", "https://i'd.example", "--subject", "a'b"];
    let certificate = ["--print", "az", "--credential", "certificate", "--certificate", "my cert's.pem", "--hsm"];
    for arguments in [&odd[..], &issuer[..], &certificate[..]] {
        let printed = desk.run(arguments).await;
        assert_eq!(printed.code, 0, "{}", printed.err);
        let file = desk.path("setup.sh");
        fs::write(&file, &printed.out).expect("written");
        let checked = std::process::Command::new("bash").args(["-n", &file]).output().expect("bash is there");
        assert!(checked.status.success(), "{}\n{}", String::from_utf8_lossy(&checked.stderr), printed.out);
    }
    assert!(!std::path::Path::new(&desk.path("my cert's.pem")).exists());
}

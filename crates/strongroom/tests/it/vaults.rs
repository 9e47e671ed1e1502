//! The rules of vaults: one of a provider, one default, unique names, checks before anything is saved.

use std::{sync::Mutex, time::Duration};

use azure_standin::{Effect, Fault, Match};

use strongroom::{
    access::Role,
    azure_setup,
    error::{Error, Result},
    vault::{Accepted, CredentialText, KeyRequest, Vault, VaultEdit, VaultRequest},
    workspace::Edit,
};

use strongroom_keys::check::{CheckLine, CheckStatus};
use tokio::sync::Notify;

use crate::azure::{AzureWorld, request};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_azure_vault_is_refused_and_the_operator_named_who_may_raise_the_limit() {
    let world = AzureWorld::start(None).await;
    let error = refused(world.app.create_vault(&world.owner, request("Another", &world.values)).await);
    assert_eq!(error.code(), "vault.limit");
    assert!(error.fix().contains("vaults.max_per_provider"), "{}", error.fix());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_vaults_cannot_share_a_name_whatever_its_letter_case() {
    let world = AzureWorld::start(None).await;
    assert_eq!(refused(world.app.create_vault(&world.owner, cloud("aZURE", false)).await).code(), "vault.name_taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_and_endless_names_are_refused_by_name() {
    let world = AzureWorld::start(None).await;
    for name in ["", "   ", "a\nb", &"x".repeat(10 << 20)] {
        let error = refused(world.app.create_vault(&world.owner, cloud(name, false)).await);
        assert!(matches!(&error, Error::Invalid(fields) if fields[0].field == "name"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_always_exactly_one_default_vault() {
    let world = AzureWorld::start(None).await;
    assert_eq!(default_of(&world).await, "Azure");
    let made = world.app.create_vault(&world.owner, cloud("Second", true)).await.expect("made");
    assert!(made.is_default);
    assert_eq!(default_of(&world).await, "Second");
    let edit = VaultEdit { make_default: true, ..VaultEdit::default() };
    world.app.edit_vault(&world.owner, world.vault, None, edit).await.expect("chosen");
    assert_eq!(default_of(&world).await, "Azure");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_without_the_feature_says_so() {
    let world = AzureWorld::start(None).await;
    let workspace = world.app.workspace(&world.owner).await.expect("seen");
    let off = Edit { external_keys: Some(false), ..Edit::default() };
    world.app.edit_workspace(&world.owner, off, workspace.revision).await.expect("switched off");
    let error = refused(world.app.create_vault(&world.owner, request("Another", &world.values)).await);
    assert_eq!(error.code(), "vault.external_keys_off");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_named_and_nothing_is_saved() {
    let world = AzureWorld::start(None).await;
    let before = world.app.vaults(&world.owner).await.expect("listed").len();
    world.app.edit_vault(&world.owner, world.vault, None, VaultEdit::default()).await.expect("it is there");
    let mut wrong = request("Another", &world.values);
    let KeyRequest::Azure(azure) = &mut wrong.key else { panic!("an Azure request") };
    azure.credential = CredentialText::Secret("not-the-secret-of-this-application".into());
    let lines = world.app.check_azure(&world.owner, &input(&wrong), &|_| ()).await.expect("checked");
    let first = lines.iter().find(|line| line.status == CheckStatus::Fail).expect("a failure");
    assert_eq!(first.reason, Some("credential.refused"), "{first:?}");
    assert!(first.fix.as_deref().is_some_and(|fix| fix.contains("Value")), "{first:?}");
    assert_eq!(world.app.vaults(&world.owner).await.expect("listed").len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_vault_is_checked_with_its_own_credential() {
    let world = AzureWorld::start(None).await;
    let told = Mutex::new(Vec::new());
    let tell = |line: &CheckLine| told.lock().expect("not poisoned").push(line.clone());
    let lines = world.app.check_vault(&world.owner, world.vault, &tell).await.expect("checked");
    assert_eq!(told.into_inner().expect("not poisoned"), lines);
    let of = |code: &str| lines.iter().find(|line| line.code == code).expect(code).status;
    assert_eq!(of("key.compare"), CheckStatus::Pass, "{lines:?}");
    // Before a change in Azure is saved, the same check tells what would come of it.
    world.enable_key(false).await;
    let lines = world.app.check_vault(&world.owner, world.vault, &|_| ()).await.expect("checked");
    let first = lines.iter().find(|line| line.status == CheckStatus::Fail).expect("a failure");
    assert_eq!((first.code, first.reason), ("key.enabled", Some("key.disabled")), "{first:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_vault_is_checked_for_the_key_version_that_it_uses() {
    let world = AzureWorld::start(None).await;
    let (url, key) = (&world.values.vault_url, &world.values.vault_key_name);
    azure_setup::rotate(&world.administrator, url, key).await.expect("the administrator may");
    let used = world.kid.rsplit('/').next().expect("a key version");
    let older = format!("{key}/{used}");
    azure_setup::set_enabled(&world.administrator, url, &older, false).await.expect("the administrator may");
    let lines = world.app.check_vault(&world.owner, world.vault, &|_| ()).await.expect("checked");
    let failed: Vec<_> = lines.iter().filter(|line| line.status == CheckStatus::Fail).collect();
    let [line] = failed[..] else { panic!("one failure: {failed:?}") };
    assert_eq!((line.code, line.reason), ("key.versions", Some("key.disabled")), "{line:?}");
    assert!(line.command.as_deref().is_some_and(|command| command.contains(&format!("--version {used} "))), "{line:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hangs_up_leaves_an_event_and_has_to_wait_for_the_end() {
    let world = AzureWorld::start(None).await;
    let admin = world.member("Ada", Role::Admin).await;
    let checks = async || {
        let sql = "SELECT COUNT(*) FROM audit_events WHERE action = 'vault.check'";
        world.app.store.read(move |tx| tx.count(sql, &[])).await.expect("counted")
    };
    let before = checks().await;
    world.standin.set_fault(Fault {
        matching: Match { operation: Some("wrapkey".into()), ..Match::default() },
        effect: Effect { delay_ms: Some(1000), ..Effect::default() },
        ..Fault::default()
    });

    let first_line = Notify::new();
    let tell = |_: &CheckLine| first_line.notify_one();
    tokio::select! {
        ended = world.app.check_vault(&world.owner, world.vault, &tell) => panic!("too quick: {ended:?}"),
        () = first_line.notified() => {}
    }

    for caller in [&world.owner, &admin] {
        let again = world.app.check_vault(caller, world.vault, &|_| ()).await;
        assert!(matches!(again, Err(Error::CheckRunning)), "{again:?}");
    }
    let request = request("Another", &world.values);
    let values = world.app.check_azure(&world.owner, &input(&request), &|_| ()).await;
    assert!(matches!(values, Err(Error::CheckRunning)), "one at a time for a member, whatever is checked");

    let event = async {
        while checks().await == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), event).await.expect("the check ends and is recorded");
    let next = async {
        while let Err(Error::CheckRunning) = world.app.check_vault(&admin, world.vault, &|_| ()).await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), next).await.expect("its turn is given back");
    assert_eq!(checks().await, before + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_three_managing_roles_make_vaults() {
    let world = AzureWorld::start(None).await;
    for (name, role, may) in [
        ("Samir", Role::SuperAdmin, true),
        ("Ada", Role::Admin, true),
        ("Ugo", Role::User, false),
        ("Grace", Role::Guest, false),
    ] {
        let member = world.member(name, role).await;
        let made = world.app.create_vault(&member, cloud(name, false)).await;
        assert_eq!(made.is_ok(), may, "{role}");
    }
}

fn cloud(name: &str, make_default: bool) -> VaultRequest {
    VaultRequest { name: name.into(), make_default, accept_warnings: Accepted::All, key: KeyRequest::Cloud }
}

fn input(request: &VaultRequest) -> strongroom_keys::check::AzureInput<'_> {
    let KeyRequest::Azure(azure) = &request.key else { panic!("an Azure request") };
    azure.input()
}

async fn default_of(world: &AzureWorld) -> String {
    let vaults = world.app.vaults(&world.owner).await.expect("listed");
    let mut defaults = vaults.into_iter().filter(|vault| vault.is_default);
    let one = defaults.next().expect("a default vault");
    assert!(defaults.next().is_none(), "one default vault");
    one.name
}

fn refused(result: Result<Vault>) -> Error {
    result.expect_err("refused")
}

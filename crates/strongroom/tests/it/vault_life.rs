//! A vault is closed, disabled, enabled, taken to another Key Vault and deleted.

use std::{sync::Arc, time::Duration};

use strongroom::{
    access::Role,
    app::Caller,
    audit,
    azure_setup::{self, Plan},
    id::{ItemId, VaultId},
    item::Filter,
    job::JobState,
    vault::{Accepted, KeyRequest, NewKeyVault, VaultEdit, VaultRequest, VaultState},
};
use strongroom_keys::TokenUse;

use crate::{
    azure::{AzureWorld, account},
    world::{World, on_both_engines, on_each_database, refusal, runtime, wrong_fields},
};

#[test]
fn a_closed_vault_serves_what_it_has_and_takes_nothing_new() {
    on_both_engines(|world| async move {
        let (owner, vault, item) = second_vault(&world).await;
        let app = &world.app;
        set(&world, &owner, vault, VaultState::Closed).await;
        assert_eq!(refusal(app.create_item(&owner, Some(vault), account("Two", "x")).await), "vault.closed");
        assert!(app.reveal_item(&owner, item, None).await.is_ok());
        set(&world, &owner, vault, VaultState::Active).await;
        assert!(app.create_item(&owner, Some(vault), account("Two", "x")).await.is_ok());
        sound(app).await;
    });
}

#[test]
fn a_disabled_vault_serves_nothing_until_it_is_enabled_again() {
    on_both_engines(|world| async move {
        let (owner, vault, item) = second_vault(&world).await;
        let app = &world.app;
        assert!(app.reveal_item(&owner, item, None).await.is_ok());
        set(&world, &owner, vault, VaultState::Disabled).await;
        assert_eq!(refusal(app.reveal_item(&owner, item, None).await), "vault.disabled");
        assert_eq!(refusal(app.trash_item(&owner, item, None).await), "vault.disabled");
        let found = app.find_items(&owner, Filter { limit: 50, ..Filter::default() }).await.expect("a list");
        assert_eq!((found.items.len(), found.dark.len(), found.dark[0].count), (0, 1, 1));
        set(&world, &owner, vault, VaultState::Active).await;
        assert!(app.reveal_item(&owner, item, None).await.is_ok());
        sound(app).await;
    });
}

#[test]
fn sixty_days_disabled_do_not_count_for_the_trash() {
    on_both_engines(|world| async move {
        let (owner, vault, item) = second_vault(&world).await;
        world.app.trash_item(&owner, item, None).await.expect("trashed");
        let wait = async |days: u64| {
            for _ in 0..days * 12 {
                world.hours(2);
                assert_eq!(world.app.trash_pass().await.expect("a pass"), 0);
            }
        };
        wait(2).await;
        // A fresh sign-in, as a person would.
        let fresh =
            |owner: &Caller| Caller { signed_in_at: strongroom::clock::Clock::now(&world.clock), ..owner.clone() };
        set(&world, &fresh(&owner), vault, VaultState::Disabled).await;
        wait(60).await;
        assert_eq!(refusal(world.app.purge_item(&owner, item).await), "vault.disabled");
        set(&world, &fresh(&owner), vault, VaultState::Active).await;
        wait(27).await;
        assert!(world.app.untrash_item(&owner, item).await.is_ok());
    });
}

#[test]
fn the_default_vault_is_neither_closed_nor_disabled_nor_deleted() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let default = world.app.vaults(&owner).await.expect("listed")[0].id;
        for state in [VaultState::Closed, VaultState::Disabled] {
            let edit = VaultEdit { state: Some(state), ..VaultEdit::default() };
            assert_eq!(refusal(world.app.edit_vault(&owner, default, None, edit).await), "vault.is_default");
        }
        let name = world.app.vault(&owner, default).await.expect("seen").name;
        assert_eq!(refusal(world.app.delete_vault(&owner, default, &name).await), "vault.is_default");
        let (second, _) = (made(&world, &owner).await, ());
        set(&world, &owner, second, VaultState::Closed).await;
        let edit = VaultEdit { make_default: true, ..VaultEdit::default() };
        assert_eq!(refusal(world.app.edit_vault(&owner, second, None, edit).await), "vault.is_default");
    });
}

#[test]
fn only_an_empty_vault_is_deleted_and_only_by_its_name() {
    on_both_engines(|world| async move {
        let (owner, vault, item) = second_vault(&world).await;
        let app = &world.app;
        assert_eq!(wrong_fields(app.delete_vault(&owner, vault, "second").await), ["name"]);
        assert_eq!(refusal(app.delete_vault(&owner, vault, "Second").await), "vault.not_empty");
        app.trash_item(&owner, item, None).await.expect("trashed");
        assert_eq!(refusal(app.delete_vault(&owner, vault, "Second").await), "vault.not_empty");
        app.purge_item(&owner, item).await.expect("purged");
        let ugo = world.member(&owner, "Ugo", Role::User).await;
        assert_eq!(refusal(app.delete_vault(&ugo, vault, "Second").await), "denied");
        app.delete_vault(&owner, vault, "Second").await.expect("deleted");
        assert_eq!(refusal(app.vault(&owner, vault).await), "not_found");
        assert_eq!(refusal(app.create_item(&owner, Some(vault), account("Two", "x")).await), "not_found");
        sound(app).await;
        let again = made(&world, &owner).await;
        assert_ne!(again, vault, "its name is free again");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_lets_items_leave_azure() {
    let world = AzureWorld::start(None).await;
    let edit = || VaultEdit { may_leave: Some(true), ..VaultEdit::default() };
    let samir = world.member("Samir", Role::SuperAdmin).await;
    assert_eq!(refusal(world.app.edit_vault(&samir, world.vault, None, edit()).await), "denied");
    assert!(world.app.edit_vault(&world.owner, world.vault, None, edit()).await.expect("allowed").may_leave);
    let report = audit::verify(&world.app.store, Arc::clone(&world.app.keys), true).await.expect("read");
    assert!(report.is_sound(), "{report}");
}

#[test]
fn a_vault_goes_to_another_key_vault_and_is_read_all_the_while() {
    on_each_database(|database| {
        runtime().block_on(async {
            let world = AzureWorld::start(Some(&database.url())).await;
            let item = world.account("Mail", "tide-and-lamp").await;
            let plan = Plan::new("Elsewhere", "keys-2", "other-keys", "westeurope", "elsewhere");
            let other = azure_setup::set_up(&world.administrator, &plan, &|_| {}).await.expect("steps 1 to 4");
            let new = |url: &str, key: &str| NewKeyVault {
                tenant_id: None,
                client_id: Some(other.client_id.clone()),
                credential: Some(strongroom::vault::CredentialText::Secret(other.client_secret.expose().into())),
                expires: None,
                vault_url: url.into(),
                vault_key_name: key.into(),
                accept_warnings: Accepted::All,
            };
            let app = &world.app;
            let wrong = app.change_key_vault(&world.owner, world.vault, new(&other.vault_url, "nothing")).await;
            assert_eq!(refusal(wrong), "vault.checks_failed");
            let (url, key) = (&other.vault_url, &other.vault_key_name);
            // Another tenant is for the Owner: who could switch the key off before cannot do so there.
            let samir = world.member("Samir", Role::SuperAdmin).await;
            let away =
                || NewKeyVault { tenant_id: Some("{00000000-1111-2222-3333-444444444444}".into()), ..new(url, key) };
            assert_eq!(refusal(app.change_key_vault(&samir, world.vault, away()).await), "denied");
            assert_eq!(refusal(app.change_key_vault(&world.owner, world.vault, away()).await), "vault.checks_failed");
            let job = app.change_key_vault(&world.owner, world.vault, new(url, key)).await.expect("changed");
            app.keyring.purge_all();
            assert_eq!(world.password(item).await.expect("revealed"), "tide-and-lamp");
            let worker = tokio::spawn(Arc::clone(app).run_jobs(Default::default()));
            let done = async {
                while app.job(&world.owner, job).await.expect("told").state != JobState::Done {
                    world.clock.advance(Duration::from_secs(1));
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    assert_eq!(world.password(item).await.expect("revealed"), "tide-and-lamp");
                }
            };
            tokio::time::timeout(Duration::from_secs(20), done).await.expect("the job ends");
            worker.abort();
            // The key before is not needed any more.
            world.enable_key(false).await;
            app.keyring.purge_all();
            world.clock.advance(Duration::from_secs(5));
            app.keyring.canary_round(TokenUse::Cached).await.expect("a round");
            assert_eq!(world.password(item).await.expect("revealed"), "tide-and-lamp");
            let vault = app.vault(&world.owner, world.vault).await.expect("seen");
            assert!(vault.kid.contains("other-keys"), "{}", vault.kid);
            sound(app).await;
        });
    });
}

/// A Cloud vault beside the default one, with an item.
async fn second_vault(world: &World) -> (Caller, VaultId, ItemId) {
    let owner = world.set_up().await;
    let vault = made(world, &owner).await;
    let item = world.app.create_item(&owner, Some(vault), account("Mail", "tide-and-lamp")).await.expect("created").id;
    (owner, vault, item)
}

async fn made(world: &World, owner: &Caller) -> VaultId {
    let request = VaultRequest {
        name: "Second".into(),
        make_default: false,
        accept_warnings: Accepted::None,
        key: KeyRequest::Cloud,
    };
    world.app.create_vault(owner, request).await.expect("made").id
}

async fn set(world: &World, caller: &Caller, vault: VaultId, state: VaultState) {
    let edit = VaultEdit { state: Some(state), ..VaultEdit::default() };
    assert_eq!(world.app.edit_vault(caller, vault, None, edit).await.expect("changed").state, state);
}

async fn sound(app: &strongroom::app::App) {
    let report = audit::verify(&app.store, Arc::clone(&app.keys), true).await.expect("the log can be read");
    assert!(report.is_sound(), "{report}");
}

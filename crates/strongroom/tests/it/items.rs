//! Items: leave is asked for where the write happens, and lists are bounded and never outlive a key.

use std::{sync::mpsc, time::Duration};

use strongroom::{
    access::{ItemRole, Role},
    app::Caller,
    error::{Error, Result},
    id::ItemId,
    item::{Filter, Patch},
};

use crate::{
    azure::account,
    world::{Database, World, fresh_keys, on_both_engines, refusal, text, wrong_fields},
};

#[test]
fn who_was_given_another_role_writes_nothing_with_the_one_before() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let samir = world.member(&owner, "Samir", Role::SuperAdmin).await;
        let (mine, hers) = (made(&world, &samir).await, made(&world, &owner).await);
        world.app.change_role(&owner, samir.member, None, Role::User).await.expect("demoted");
        let app = &world.app;
        let refused = "member.changed";
        assert_eq!(refusal(app.create_item(&samir, None, account("Two", "x")).await), refused);
        assert_eq!(refusal(app.create_items(&samir, None, vec![account("Two", "x")]).await), refused);
        assert_eq!(refusal(app.edit_item(&samir, mine, 1, Patch::default()).await), refused);
        assert_eq!(refusal(app.restore_revision(&samir, mine, 1).await), refused);
        assert_eq!(refusal(app.trash_item(&samir, mine, None).await), refused);
        assert_eq!(refusal(app.untrash_item(&samir, mine).await), refused);
        assert_eq!(refusal(app.share_item(&samir, mine, owner.member, ItemRole::Owner).await), refused);
        assert_eq!(refusal(app.unshare_item(&samir, mine, samir.member).await), refused);
        assert_eq!(refusal(app.take_over_item(&samir, hers).await), refused);
        assert_eq!(refusal(app.reveal_item(&samir, mine, None).await), refused);
        assert_eq!(refusal(app.item(&samir, mine).await), refused);
        assert_eq!(refusal(app.find_items(&samir, all()).await), refused);
        assert_eq!(refusal(app.titles(&samir, &[mine]).await), refused);
        for action in ["item.reveal", "item.edit", "item.grant", "item.take_over", "item.trash", "item.view"] {
            assert_eq!(world.events(action).await, 0, "{action}");
        }
    });
}

#[test]
fn a_share_that_was_taken_away_a_moment_ago_gives_nothing() {
    let world = World::begin(Database::sqlite(), fresh_keys());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (owner, app) = (world.set_up().await, &world.app);
        let ada = world.member(&owner, "Ada", Role::User).await;
        let item = made(&world, &owner).await;
        let share = || app.share_item(&owner, item, ada.member, ItemRole::Owner);
        let unshare = || app.unshare_item(&owner, item, ada.member);
        share().await.expect("shared");
        let again = app.share_item(&ada, item, ada.member, ItemRole::Owner);
        assert_eq!(refusal(overtaken(&world, unshare(), again).await), "not_found");
        assert_eq!(refusal(unshare().await), "not_found", "the revocation stands");
        share().await.expect("shared");
        assert_eq!(refusal(overtaken(&world, unshare(), app.reveal_item(&ada, item, None)).await), "not_found");
        assert_eq!(world.events("item.reveal").await, 0);
        share().await.expect("shared");
        let less = app.share_item(&owner, item, ada.member, ItemRole::Viewer);
        let edit = app.edit_item(&ada, item, 1, Patch::default());
        assert_eq!(refusal(overtaken(&world, less, edit).await), "denied");
    });
}

#[test]
fn titles_are_asked_for_told_and_bounded() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let ada = world.member(&owner, "Ada", Role::User).await;
        let item = made(&world, &owner).await;
        let app = &world.app;
        let titles = app.titles(&owner, &[item, item]).await.expect("told");
        assert_eq!(titles[&item].expose(), "Mail");
        assert_eq!(world.events("item.list").await, 1);
        assert!(app.titles(&ada, &[item]).await.expect("none of hers").is_empty());
        let barred = Caller { must_set_up_code: true, ..owner.clone() };
        assert_eq!(refusal(app.titles(&barred, &[item]).await), "signin.setup_code");
        assert_eq!(wrong_fields(app.titles(&owner, &[item; 201]).await), ["ids"]);
    });
}

#[test]
fn a_search_is_bounded_and_finds_whatever_the_letter_case() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        app.create_item(&owner, None, account("ΟΔΥΣΣΕΥΣ Straße", "x")).await.expect("created");
        let find = async |query: &str| app.find_items(&owner, Filter { query: Some(text(query)), ..all() }).await;
        for query in ["οδυσσευς", "STRA", "ada@EXAMPLE mail.", &"a ".repeat(16)] {
            assert_eq!(find(query).await.expect("a list").total, 1, "{query}");
        }
        assert_eq!(find("ada@example.comhttps").await.expect("a list").total, 0, "one text ends where another begins");
        assert_eq!(wrong_fields(find(&"a ".repeat(17)).await), ["query"]);
        assert_eq!(wrong_fields(find(&"a".repeat(1025)).await), ["query"]);
    });
}

#[test]
fn a_key_that_goes_while_a_list_is_made_leaves_a_dark_vault_and_no_title() {
    let world = World::begin(Database::sqlite(), fresh_keys());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let owner = world.set_up().await;
        let item = made(&world, &owner).await;
        let app = &world.app;
        let (open, gate) = mpsc::channel::<()>();
        let late = async {
            app.keyring.purge_all();
            open.send(()).expect("the writer waits");
        };
        let (_, found, ()) = tokio::join!(biased; held(&world, gate), app.find_items(&owner, all()), late);
        let found = found.expect("a list");
        assert_eq!((found.items.len(), found.total, found.dark.len()), (0, 0, 1));
        assert_eq!(found.dark[0].count, 1);
        let (open, gate) = mpsc::channel::<()>();
        app.item(&owner, item).await.expect("a lease again");
        let late = async {
            app.keyring.purge_all();
            open.send(()).expect("the writer waits");
        };
        let ids = [item];
        let (_, titles, ()) = tokio::join!(biased; held(&world, gate), app.titles(&owner, &ids), late);
        assert!(titles.expect("none").is_empty());
    });
}

#[test]
fn a_key_that_goes_while_an_edit_is_written_takes_its_answer_along() {
    let world = World::begin(Database::sqlite(), fresh_keys());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let owner = world.set_up().await;
        let item = made(&world, &owner).await;
        let app = &world.app;
        for restore in [false, true] {
            app.item(&owner, item).await.expect("a lease");
            let (open, gate) = mpsc::channel::<()>();
            let late = async {
                app.keyring.purge_all();
                open.send(()).expect("the writer waits");
            };
            let write = async {
                if restore {
                    app.restore_revision(&owner, item, 1).await
                } else {
                    app.edit_item(&owner, item, 1, Patch::default()).await
                }
            };
            let (_, edited, ()) = tokio::join!(biased; held(&world, gate), write, late);
            assert!(matches!(edited, Err(Error::KeyUnavailable(_))), "restore: {restore}");
        }
        assert_eq!(app.item(&owner, item).await.expect("written").revision, 3);
    });
}

#[test]
fn a_revision_beyond_all_numbers_is_not_there() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let item = made(&world, &owner).await;
        for number in [u64::MAX, u64::MAX / 2 + 1, u64::MAX / 2, 0] {
            assert_eq!(refusal(world.app.reveal_item(&owner, item, Some(number)).await), "not_found");
            assert_eq!(refusal(world.app.restore_revision(&owner, item, number).await), "not_found");
            assert_eq!(refusal(world.app.trash_item(&owner, item, Some(number)).await), "revision.stale");
        }
    });
}

async fn made(world: &World, caller: &Caller) -> ItemId {
    world.app.create_item(caller, None, account("Mail", "tide-and-lamp")).await.expect("created").id
}

fn all() -> Filter {
    Filter { limit: 50, ..Filter::default() }
}

/// Runs `second` on what it read before `first` was written; the database writes `first`, then `second`. On SQLite and
/// a runtime of one thread, where each runs up to the writer's queue before the next begins.
async fn overtaken<T>(
    world: &World,
    first: impl Future<Output = Result<()>>,
    second: impl Future<Output = Result<T>>,
) -> Result<T> {
    let (open, gate) = mpsc::channel::<()>();
    let opened = async { open.send(()).expect("the writer waits") };
    let (_, first, second, ()) = tokio::join!(biased; held(world, gate), first, second, opened);
    first.expect("the first is written");
    second
}

/// Keeps the writer busy until `gate` opens.
async fn held(world: &World, gate: mpsc::Receiver<()>) -> Result<()> {
    let gate = std::sync::Mutex::new(gate);
    let wait = move || gate.lock().expect("one holder").recv_timeout(Duration::from_secs(20));
    world.app.store.write(move |_| wait().map_err(|_| Error::NotFound("opening"))).await
}

//! The trash: what it keeps, for how long, and what it never destroys.

use std::{sync::Arc, time::Duration};

use strongroom::{
    access::{ItemRole, Role},
    app::{App, Caller},
    audit,
    error::Result,
    id::ItemId,
    item::{Filter, Patch},
};
use strongroom_keys::TokenUse;

use crate::{
    azure::{AzureWorld, account},
    world::{World, on_both_engines, on_each_database, refusal, runtime},
};

#[test]
fn an_item_in_the_trash_is_deleted_forever_after_thirty_days_and_nothing_of_it_is_left() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let (item, other) = (made(&world, &owner).await, made(&world, &owner).await);
        let app = &world.app;
        app.edit_item(&owner, item, 1, Patch::default()).await.expect("a history");
        app.trash_item(&owner, item, None).await.expect("trashed");
        wait(&world, 30 * 24 - 2).await;
        assert_eq!(in_trash(app, &owner).await, [item]);
        let ends = app.trash_ends(&owner, &[item, other]).await.expect("told");
        let left = ends[&item].duration_since(app.clock.now());
        assert!(ends.len() == 1 && left.as_hours() <= 4, "{left}");
        wait(&world, 4).await;
        assert!(in_trash(app, &owner).await.is_empty());
        assert_eq!((rows_of(app, item).await, world.events("item.purge").await), (0, 1));
        assert!(app.item(&owner, other).await.is_ok());
        sound(app).await;
    });
}

#[test]
fn sixty_days_in_the_dark_do_not_count_and_destroy_nothing() {
    on_each_database(|database| {
        runtime().block_on(async {
            let world = AzureWorld::start(Some(&database.url())).await;
            let item = world.account("Mail", "tide-and-lamp").await;
            world.app.trash_item(&world.owner, item, None).await.expect("trashed");
            let wait = async |days: u64| {
                for _ in 0..days * 12 {
                    world.clock.advance(Duration::from_secs(2 * 3600));
                    assert_eq!(world.app.trash_pass().await.expect("a pass"), 0);
                }
            };
            wait(10).await;
            world.enable_key(false).await;
            canaries(&world).await;
            wait(60).await;
            assert_eq!(refusal(world.app.purge_item(&world.owner, item).await), "key.disabled");
            world.enable_key(true).await;
            canaries(&world).await;
            wait(19).await;
            assert_eq!(in_trash(&world.app, &world.owner).await, [item]);
            world.app.untrash_item(&world.owner, item).await.expect("it can be restored");
            assert_eq!(world.password(item).await.expect("revealed"), "tide-and-lamp");
        });
    });
}

#[test]
fn an_item_that_was_planted_in_the_trash_is_not_destroyed() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let item = made(&world, &owner).await;
        let plant = move |tx: &mut strongroom::store::Tx<'_>| {
            tx.execute("UPDATE items SET trashed_at = 1", &[])?;
            tx.execute("DELETE FROM trash_ages", &[])?;
            tx.execute("INSERT INTO trash_ages (item_id, aged_ms) SELECT id, 9000000000000000 FROM items", &[])
        };
        world.app.store.write(plant).await.expect("the database lets it happen");
        assert_eq!(world.app.trash_pass().await.expect("a pass"), 0);
        assert_eq!(refusal(world.app.purge_item(&owner, item).await), "item.not_trashed");
        assert!(rows_of(&world.app, item).await > 0);
        // Put there truly, but a moment ago.
        world.app.untrash_item(&owner, item).await.expect("restored");
        world.clock.advance(std::time::Duration::from_secs(1));
        world.app.trash_item(&owner, item, None).await.expect("trashed");
        world.app.store.write(plant).await.expect("the database lets it happen");
        assert_eq!(world.app.trash_pass().await.expect("a pass"), 0);
        world.app.purge_item(&owner, item).await.expect("its owner may");
        sound(&world.app).await;
    });
}

#[test]
fn a_clock_that_jumps_ahead_deletes_nothing() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let item = made(&world, &owner).await;
        world.app.trash_item(&owner, item, None).await.expect("trashed");
        world.app.trash_pass().await.expect("a pass");
        world.hours(24 * 400);
        assert_eq!(world.app.trash_pass().await.expect("a pass"), 0);
        assert_eq!(in_trash(&world.app, &owner).await, [item]);
    });
}

#[test]
fn only_what_lies_in_the_trash_is_deleted_and_only_by_its_owners() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let ada = world.member(&owner, "Ada", Role::User).await;
        let (item, foreign) = (made(&world, &owner).await, made(&world, &ada).await);
        let app = &world.app;
        assert_eq!(refusal(app.purge_item(&owner, item).await), "item.not_in_trash");
        app.share_item(&owner, item, ada.member, ItemRole::Editor).await.expect("shared");
        app.trash_item(&owner, item, None).await.expect("trashed");
        app.trash_item(&ada, foreign, None).await.expect("trashed");
        assert_eq!(refusal(app.purge_item(&ada, item).await), "denied");
        assert_eq!(refusal(app.purge_item(&owner, foreign).await), "not_found");
        let answer = app.purge_items(&owner, &[item, foreign, item]).await.expect("an account");
        assert_eq!((answer.purged.as_slice(), answer.kept.len()), (&[item][..], 1));
        assert_eq!((answer.kept[0].item, answer.kept[0].why.code()), (foreign, "not_found"));
        assert_eq!((rows_of(app, item).await, world.events("item.purge").await), (0, 1));
        assert_eq!(refusal(app.purge_item(&owner, item).await), "not_found");
        sound(app).await;
    });
}

#[test]
fn an_emptied_trash_keeps_what_others_own() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let ada = world.member(&owner, "Ada", Role::User).await;
        let app = &world.app;
        let hers = made(&world, &ada).await;
        app.share_item(&ada, hers, owner.member, ItemRole::Viewer).await.expect("shared");
        app.trash_item(&ada, hers, None).await.expect("trashed");
        for _ in 0..3 {
            let item = made(&world, &owner).await;
            app.trash_item(&owner, item, None).await.expect("trashed");
        }
        let answer = app.empty_trash(&owner).await.expect("an account");
        assert_eq!((answer.purged.len(), answer.kept.len()), (3, 0));
        assert_eq!(in_trash(app, &owner).await, [hers]);
        sound(app).await;
    });
}

/// Passes over the trash, two hours apart.
async fn wait(world: &World, hours: u64) {
    for _ in 0..hours / 2 {
        world.hours(2);
        world.app.trash_pass().await.expect("a pass");
    }
}

async fn canaries(world: &AzureWorld) {
    for _ in 0..2 {
        world.clock.advance(Duration::from_secs(5));
        world.app.keyring.canary_round(TokenUse::Cached).await.expect("a round of canaries");
    }
}

async fn made(world: &World, caller: &Caller) -> ItemId {
    world.app.create_item(caller, None, account("Mail", "tide-and-lamp")).await.expect("created").id
}

async fn in_trash(app: &App, caller: &Caller) -> Vec<ItemId> {
    let filter = Filter { trashed: true, limit: 50, ..Filter::default() };
    app.find_items(caller, filter).await.expect("a list").items.into_iter().map(|item| item.id).collect()
}

/// Rows that name the item.
async fn rows_of(app: &App, item: ItemId) -> u64 {
    let count = move |tx: &mut strongroom::store::Tx<'_>| -> Result<u64> {
        let mut rows = tx.count("SELECT COUNT(*) FROM items WHERE id = $1", &[item.0.into()])?;
        for table in ["item_revisions", "item_roles", "data_keys", "trash_ages"] {
            rows += tx.count(&format!("SELECT COUNT(*) FROM {table} WHERE item_id = $1"), &[item.0.into()])?;
        }
        Ok(rows)
    };
    app.store.read(count).await.expect("the store works")
}

async fn sound(app: &App) {
    let report = audit::verify(&app.store, Arc::clone(&app.keys), true).await.expect("the log can be read");
    assert!(report.is_sound(), "{report}");
}

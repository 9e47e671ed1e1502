//! Jobs against whoever writes the database, against a policy or a role that changed meanwhile, and against rows that
//! would stop the others.

use std::time::Duration;

use strongroom::{
    access::{ItemRole, Role},
    app::Caller,
    clock::Clock,
    id::{ItemId, JobId, VaultId},
    item::{MoveRequest, MoveWhat},
    job::JobState,
};
use uuid::Uuid;

use crate::{
    azure::{AzureWorld, account},
    moves::{
        Running, ask, assert_sound, cloud_vault, create, ended, events, held_elsewhere, may_leave, on_both_engines,
        rows_of, set_policy, started, state_of, until,
    },
    world::refusal,
};

#[test]
fn a_planted_job_takes_nothing_out_of_its_vault() {
    on_both_engines(|world| async move {
        let cloud = cloud_vault(&world).await;
        let item = world.account("Mail", "tide-and-lamp").await;
        create(&world, cloud, "Other", "x").await;
        may_leave(&world).await;
        // Of a job that somebody may do: one that takes an Azure vault's items out as a re-encryption.
        let job = started(&world, MoveWhat::Vault(cloud), world.vault).await;
        let vault = world.vault;
        change(&world, "UPDATE jobs SET kind = 'reencrypt', vault_id = $2, target_id = $3 WHERE id = $1", move || {
            vec![job.0, vault.0, cloud.0]
        })
        .await;
        change(&world, "UPDATE job_items SET item_id = $2, vault_id = $3 WHERE job_id = $1", move || {
            vec![job.0, item.0, vault.0]
        })
        .await;
        let _running = Running::begin(&world.app);
        turns(&world, 10).await;
        assert_eq!((rows_of(&world, vault).await, rows_of(&world, cloud).await), ((1, 1), (1, 1)));
        // The same as a move, which the policy would allow.
        change(&world, "UPDATE jobs SET kind = 'move', due_at = 0 WHERE id = $1", move || vec![job.0]).await;
        turns(&world, 10).await;
        assert_eq!((rows_of(&world, vault).await, rows_of(&world, cloud).await), ((1, 1), (1, 1)));
        assert_eq!(refusal(world.app.pause_job(&world.owner, job).await), "job.planted");
        world.app.cancel_job(&world.owner, job).await.expect("it can be ended");
        assert_sound(&world).await;
    });
}

#[test]
fn an_item_added_to_a_job_s_list_and_a_job_set_running_again_move_nothing() {
    on_both_engines(|world| async move {
        let cloud = cloud_vault(&world).await;
        let (chosen, other) = (create(&world, cloud, "One", "x").await, create(&world, cloud, "Two", "y").await);
        let job = started(&world, MoveWhat::Items(vec![chosen]), world.vault).await;
        change(&world, "INSERT INTO job_items (job_id, item_id, vault_id, late) VALUES ($1, $2, $3, 0)", move || {
            vec![job.0, other.0, cloud.0]
        })
        .await;
        let paused = started(&world, MoveWhat::Items(vec![other]), world.vault).await;
        world.app.pause_job(&world.owner, paused).await.expect("paused");
        change(&world, "UPDATE jobs SET state = 'running' WHERE id = $1", move || vec![paused.0]).await;
        let _running = Running::begin(&world.app);
        turns(&world, 10).await;
        assert_eq!(rows_of(&world, cloud).await, (2, 2));
        // Without it the job goes on by itself.
        change(&world, "DELETE FROM job_items WHERE job_id = $1 AND item_id = $2", move || vec![job.0, other.0]).await;
        assert_eq!(ended(&world, job).await.done, 1);
        assert_eq!(rows_of(&world, cloud).await, (1, 1));
    });
}

#[test]
fn what_the_owner_stopped_goes_on_by_the_owner_s_word_only() {
    on_both_engines(|world| async move {
        let (app, cloud) = (&world.app, cloud_vault(&world).await);
        let mira = world.member("Mira", Role::SuperAdmin).await;
        world.account("Mail", "x").await;
        may_leave(&world).await;
        let job = started(&world, MoveWhat::Vault(world.vault), cloud).await;
        // The policy stops it, and opening the policy again for something else does not start it.
        set_policy(&world, false).await;
        let _running = Running::begin(app);
        until(&world, "it is paused", async || state_of(&world, job).await.state == JobState::Paused).await;
        let why = state_of(&world, job).await.waiting.map(|why| why.code);
        assert_eq!((why.as_deref(), events(&world, "job.pause").await), (Some("vault.may_not_leave"), 1));
        may_leave(&world).await;
        turns(&world, 60).await;
        assert_eq!(rows_of(&world, cloud).await, (0, 0));
        assert_eq!(refusal(app.resume_job(&mira, job).await), "denied");
        let told = notices(&world).await;
        app.resume_job(&world.owner, job).await.expect("resumed");
        assert_eq!(notices(&world).await, told + 1, "all are told again");
        assert_eq!(ended(&world, job).await.done, 1);
        world.clock.advance(Duration::from_secs(16 * 60));
        let stale = app.move_items(&world.owner, whole(cloud, world.vault)).await;
        assert_eq!(refusal(stale), "signin.fresh_required");
    });
}

#[test]
fn a_selection_whose_starter_lost_the_item_or_the_membership_moves_nothing_more() {
    on_both_engines(|world| async move {
        let (app, cloud) = (&world.app, cloud_vault(&world).await);
        let ada = world.member("Ada", Role::User).await;
        let item = app.create_item(&ada, Some(cloud), account("Hers", "x")).await.expect("created").id;
        let other = app.create_item(&ada, Some(cloud), account("Hers too", "x")).await.expect("created").id;
        app.share_item(&ada, item, world.owner.member, ItemRole::Owner).await.expect("shared");
        let (first, second) = (selection(&world, &ada, item).await, selection(&world, &ada, other).await);
        app.pause_job(&ada, second).await.expect("paused");
        app.unshare_item(&world.owner, item, ada.member).await.expect("taken away");
        let _running = Running::begin(app);
        let account = { ended(&world, first).await.account.expect("an account") };
        assert_eq!((account.done, account.why_kept), (0, vec![(item, "denied".to_owned())]));
        app.resume_job(&ada, second).await.expect("still hers");
        let member = ada.member.0;
        change(&world, "UPDATE members SET removed_at = 1 WHERE id = $1", move || vec![member]).await;
        let after = state_of(&world, second).await;
        if !after.state.has_ended() {
            until(&world, "it is paused", async || state_of(&world, second).await.state != JobState::Running).await;
        }
    });
}

#[test]
fn an_item_too_large_or_with_rows_that_do_not_fit_is_kept_and_the_others_move() {
    on_both_engines(|world| async move {
        let cloud = cloud_vault(&world).await;
        let mut made = Vec::new();
        for title in ["Large", "No key", "No generation", "Good"] {
            made.push(create(&world, cloud, title, "x").await);
        }
        let [large, no_key, no_generation, good] = made[..] else { panic!("four were made") };
        let bytes = vec![7; 33 * 1024 * 1024];
        let grown = world.app.store.write(move |tx| {
            tx.execute("UPDATE items SET sealed_details = $2 WHERE id = $1", &[large.0.into(), (&bytes).into()])
                .map(drop)
        });
        grown.await.expect("written");
        change(&world, "DELETE FROM data_keys WHERE item_id = $1", move || vec![no_key.0]).await;
        change(&world, "UPDATE data_keys SET generation = 99 WHERE item_id = $1", move || vec![no_generation.0]).await;
        let job = started(&world, MoveWhat::Vault(cloud), world.vault).await;
        let _running = Running::begin(&world.app);
        let account = ended(&world, job).await.account.expect("an account");
        let mut kept = account.why_kept;
        kept.sort();
        let mut expected = [
            (large, "item.too_large".to_owned()),
            (no_key, "item.not_opened".to_owned()),
            (no_generation, "item.not_opened".to_owned()),
        ];
        expected.sort();
        assert_eq!((account.done, account.gone, kept.as_slice()), (1, 0, expected.as_slice()));
        assert_eq!(world.password(good).await.expect("it opens"), "x");
    });
}

#[test]
fn jobs_that_wait_for_a_dark_vault_or_cannot_be_read_are_in_nobody_s_way() {
    on_both_engines(|world| async move {
        let (app, cloud) = (&world.app, cloud_vault(&world).await);
        let item = create(&world, cloud, "Mail", "x").await;
        let waits = started(&world, MoveWhat::Items(vec![item]), world.vault).await;
        for number in 0..60_u128 {
            let kind = if number % 2 == 0 { "kind" } else { "'unheard-of'" };
            let sql = format!(
                "INSERT INTO jobs (id, workspace_id, kind, vault_id, target_id, whole, weakens, state, total, done, failed, \
                 waiting_code, waiting_detail, due_at, lease_ends, fence, started_by, created_at, updated_at, mac) \
                 SELECT $2, workspace_id, {kind}, vault_id, target_id, 0, 0, 'running', 1, 0, 0, 'key.disabled', '', 1, 0, \
                 0, started_by, created_at, updated_at, mac FROM jobs WHERE id = $1"
            );
            change(&world, &sql, move || vec![waits.0, Uuid::from_u128(number + 1)]).await;
        }
        world.enable_key(false).await;
        world.clock.advance(Duration::from_secs(5));
        world.app.keyring.canary_round(strongroom_keys::TokenUse::Cached).await.expect("a round");
        let change = app.reencrypt(&world.owner, cloud, false).await.expect("started");
        let _running = Running::begin(app);
        assert_eq!(ended(&world, change.job.expect("a job")).await.done, 1);
        assert!(app.jobs(&world.owner).await.expect("listed").iter().any(|job| job.id == waits));
    });
}

#[test]
fn a_member_has_a_bounded_number_of_moves_open() {
    on_both_engines(|world| async move {
        let cloud = cloud_vault(&world).await;
        let item = create(&world, cloud, "Mail", "x").await;
        for _ in 0..20 {
            started(&world, MoveWhat::Items(vec![item]), world.vault).await;
        }
        assert_eq!(refusal(ask(&world, MoveWhat::Items(vec![item]), world.vault, false).await), "job.too_many");
    });
}

#[test]
fn a_denial_that_another_node_wrote_down_stops_a_move_before_it_is_committed() {
    on_both_engines(|world| async move {
        let cloud = cloud_vault(&world).await;
        world.account("Mail", "x").await;
        may_leave(&world).await;
        let job = started(&world, MoveWhat::Vault(world.vault), cloud).await;
        let vault = world.vault;
        change(&world, "DELETE FROM key_states WHERE vault_id = $1", move || vec![vault.0]).await;
        change(
            &world,
            "INSERT INTO key_states (vault_id, status, code, detail, node, since, changed_at) \
             VALUES ($1, 'dark', 'key.disabled', '', $2, 1, 1)",
            move || vec![vault.0, Uuid::from_u128(7)],
        )
        .await;
        let _running = Running::begin(&world.app);
        until(&world, "it waits", async || state_of(&world, job).await.waiting.is_some()).await;
        let code = state_of(&world, job).await.waiting.map(|why| why.code);
        assert_eq!((code.as_deref(), rows_of(&world, cloud).await), (Some("vault.unreadable"), (0, 0)));
        change(&world, "DELETE FROM key_states WHERE vault_id = $1", move || vec![vault.0]).await;
        assert_eq!(ended(&world, job).await.done, 1);
    });
}

#[test]
fn a_running_job_is_left_to_its_node_by_a_slower_clock_and_by_a_resume() {
    on_both_engines(|world| async move {
        let cloud = cloud_vault(&world).await;
        create(&world, cloud, "Mail", "x").await;
        let job = started(&world, MoveWhat::Vault(cloud), world.vault).await;
        // Renewed by a node whose clock is ahead.
        held_elsewhere(&world, job, world.clock.now() + Duration::from_secs(20)).await;
        let fence = fence(&world, job).await;
        world.app.resume_job(&world.owner, job).await.expect("nothing to do");
        let _running = Running::begin(&world.app);
        turns(&world, 10).await;
        assert_eq!((self::fence(&world, job).await, events(&world, "job.resume").await), (fence, 0));
        assert_eq!(ended(&world, job).await.done, 1);
    });
}

fn whole(from: VaultId, to: VaultId) -> MoveRequest {
    MoveRequest { what: MoveWhat::Vault(from), to, dry_run: false }
}

async fn selection(world: &AzureWorld, caller: &Caller, item: ItemId) -> JobId {
    let request = MoveRequest { what: MoveWhat::Items(vec![item]), to: world.vault, dry_run: false };
    world.app.move_items(caller, request).await.expect("started").job.expect("a job")
}

/// What somebody does who writes the database.
async fn change(world: &AzureWorld, sql: &str, ids: impl Fn() -> Vec<Uuid>) {
    let (sql, ids) = (sql.to_owned(), ids());
    let write = world.app.store.write(move |tx| {
        let params: Vec<_> = ids.iter().map(|id| (*id).into()).collect();
        tx.execute(&sql, &params).map(drop)
    });
    write.await.expect("a statement that works");
}

/// Seconds of the server's clock.
async fn turns(world: &AzureWorld, seconds: u32) {
    for _ in 0..seconds {
        world.clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn fence(world: &AzureWorld, job: JobId) -> u64 {
    let sql = "SELECT fence FROM jobs WHERE id = $1";
    world.app.store.read(move |tx| tx.count(sql, &[job.0.into()])).await.expect("the store works")
}

async fn notices(world: &AzureWorld) -> u64 {
    let sql = "SELECT COUNT(*) FROM notices WHERE kind = 'vault.left'";
    world.app.store.read(move |tx| tx.count(sql, &[])).await.expect("the store works")
}

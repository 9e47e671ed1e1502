//! Rewrap, rotation and re-encryption of a vault's key, as jobs, on days that go well and on others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use azure_standin::{Effect, Fault, Match};
use base64::Engine as _;
use strongroom::{
    access::Role,
    audit,
    azure_setup::{Target, rotate, set_enabled},
    error::Error,
    id::JobId,
    item::Patch,
    job::{Job, JobState},
    vault::{Accepted, KeyChange, KeyRequest, VaultEdit, VaultRequest, VaultState},
};

use crate::{
    azure::{AzureWorld, account},
    world::{on_each_database, on_postgres, runtime},
};

/// No wait in these tests is longer.
const BOUND: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_rewrap_takes_three_key_operations_and_touches_no_item() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    let newest = new_key_version(&world).await;
    let rows = item_rows(&world).await;
    let (wraps, unwraps) = operations(&world);

    let planned = world.app.rewrap(&world.owner, world.vault, true).await.expect("planned");
    assert_eq!((planned.job, planned.vault_keys, planned.key_operations, planned.data_keys), (None, 1, 3, 0));
    assert!(planned.exposes.iter().any(|told| told.contains("older key version")), "{planned:?}");
    assert_eq!(operations(&world), (wraps, unwraps), "a dry run uses no key");

    let job = done(&world, world.app.rewrap(&world.owner, world.vault, false).await.expect("started")).await;
    assert_eq!((job.total, job.done, job.failed), (1, 1, 0));
    assert_eq!(operations(&world), (wraps + 1, unwraps + 2));
    assert_eq!(item_rows(&world).await, rows);
    assert_eq!(kid_in_use(&world).await, newest);
    assert_eq!(world.password(item).await.expect("readable"), "tide-and-lamp");
    let again = world.app.rewrap(&world.owner, world.vault, false).await.expect("asked again");
    assert_eq!((again.job, again.vault_keys), (None, 0), "nothing is behind");
    verified(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_wrap_goes_a_day_later_after_another_unwrap_of_the_one_in_use() {
    let world = AzureWorld::start(None).await;
    new_key_version(&world).await;
    done(&world, world.app.rewrap(&world.owner, world.vault, false).await.expect("started")).await;
    world.clock.advance(Duration::from_secs(24 * 3600 - 60));
    assert_eq!(world.app.keyring.drop_superseded(BOUND).await.expect("looked"), 0);
    world.clock.advance(Duration::from_secs(120));
    let unwraps = operations(&world).1;
    world.standin.set_fault(fault("unwrapkey", Effect { status: Some(503), ..Effect::default() }));
    assert_eq!(world.app.keyring.drop_superseded(BOUND).await.expect("looked"), 0, "the one in use did not open");
    world.standin.clear_faults();
    assert_eq!(world.app.keyring.drop_superseded(BOUND).await.expect("looked"), 1);
    assert!(operations(&world).1 > unwraps);
    assert_eq!(
        count(&world, "SELECT COUNT(*) FROM wraps w JOIN vaults v ON v.id = w.vault_id WHERE v.strategy <> 'cloud'")
            .await,
        1
    );
    verified(&world).await;
}

#[test]
fn superseded_wraps_that_stay_keep_no_other_from_going() {
    on_each_database(|database| {
        runtime().block_on(async {
            let world = AzureWorld::start(Some(&database.url())).await;
            for _ in 0..2 {
                new_key_version(&world).await;
                done(&world, world.app.rewrap(&world.owner, world.vault, false).await.expect("started")).await;
                world.clock.advance(Duration::from_secs(120));
            }
            plant_superseded(&world, 300).await;
            world.clock.advance(Duration::from_secs(24 * 3600 - 180));
            assert_eq!(world.app.keyring.drop_superseded(BOUND).await.expect("looked"), 1, "in one long pass");
            world.clock.advance(Duration::from_secs(120));
            let mut passes = Vec::new();
            for _ in 0..=300 {
                passes.push(world.app.keyring.drop_superseded(Duration::ZERO).await.expect("looked"));
            }
            assert_eq!((passes.iter().sum(), passes.last()), (1, Some(&1)), "each short pass goes on where it stopped");
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewrap_waits_while_the_old_key_version_is_off_and_goes_on_by_itself() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    let newest = new_key_version(&world).await;
    enable(&world, &world.kid, false).await;
    let change = world.app.rewrap(&world.owner, world.vault, false).await.expect("started");
    let _jobs = working(&world);
    let waiting = until(&world, change.job.expect("a job"), |job| job.waiting.is_some()).await;
    let why = waiting.waiting.expect("it waits");
    assert_eq!(why.code, "key.disabled");
    assert_eq!(kid_in_use(&world).await, world.kid);
    enable(&world, &world.kid, true).await;
    canaries(&world).await;
    let job = until(&world, change.job.expect("a job"), |job| job.state == JobState::Done).await;
    assert_eq!(job.done, 1);
    assert_eq!(kid_in_use(&world).await, newest);
    assert_eq!(world.password(item).await.expect("readable"), "tide-and-lamp");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewrap_that_a_newer_key_version_overtakes_ends_on_the_newest() {
    let world = AzureWorld::start(None).await;
    for _ in 0..2 {
        world.app.rotate(&world.owner, world.vault, false).await.expect("one more generation");
        let running = "UPDATE jobs SET state = 'cancelled', finished_at = 1";
        world.app.store.write(move |tx| tx.execute(running, &[])).await.expect("its job is of no matter here");
    }
    new_key_version(&world).await;
    let change = world.app.rewrap(&world.owner, world.vault, false).await.expect("started");
    let newest = new_key_version(&world).await;
    done(&world, change).await;
    let sql = "SELECT COUNT(*) FROM generations g JOIN vaults v ON v.id = g.vault_id WHERE v.strategy <> 'cloud' AND g.kid = $1";
    let under = world.app.store.read(move |tx| tx.count(sql, &[(&newest).into()])).await.expect("read");
    assert_eq!(under, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_cannot_be_rewrapped_does_not_keep_the_others_back() {
    let world = AzureWorld::start(None).await;
    let newest = new_key_version(&world).await;
    let vault = world.vault;
    let planted = "INSERT INTO generations (vault_id, generation, kid, created_at) VALUES ($1, 99, 'x', 1)";
    world.app.store.write(move |tx| tx.execute(planted, &[vault.0.into()])).await.expect("planted");
    let change = world.app.rewrap(&world.owner, world.vault, false).await.expect("started");
    let _jobs = working(&world);
    let job = until(&world, change.job.expect("a job"), |job| job.done == 1).await;
    assert_eq!(job.state, JobState::Running);
    let sql = "SELECT COUNT(*) FROM generations WHERE generation = 1 AND kid = $1";
    assert_eq!(world.app.store.read(move |tx| tx.count(sql, &[(&newest).into()])).await.expect("read"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_unwrap_of_a_rewrap_that_comes_to_nothing_is_in_the_log() {
    let world = AzureWorld::start(None).await;
    new_key_version(&world).await;
    let change = world.app.rewrap(&world.owner, world.vault, false).await.expect("started");
    world.standin.set_fault(fault("wrapkey", Effect { status: Some(400), ..Effect::default() }));
    let told = "SELECT COUNT(*) FROM audit_events WHERE action = 'key.unwrap'";
    let before = (operations(&world).1, count(&world, told).await);
    {
        let _jobs = working(&world);
        until(&world, change.job.expect("a job"), |job| job.waiting.is_some()).await;
    }
    let unwraps = operations(&world).1 - before.0;
    assert!(unwraps >= 1);
    assert_eq!(count(&world, told).await - before.1, unwraps);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_vault_s_key_is_not_rewrapped_and_a_removed_manager_s_rotation_is_refused() {
    let world = AzureWorld::start(None).await;
    let admin = world.member("Grace", Role::Admin).await;
    let gone = admin.member;
    let sql = "UPDATE members SET removed_at = 1 WHERE id = $1";
    world.app.store.write(move |tx| tx.execute(sql, &[gone.0.into()])).await.expect("removed");
    for refused in [
        world.app.rotate(&admin, world.vault, false).await.map(drop),
        world.app.retire_generation(&admin, world.vault, 1).await,
    ] {
        assert_eq!(refused.expect_err("not a member any more").code(), "member.changed");
    }
    let another = VaultRequest {
        name: "Another".into(),
        make_default: true,
        accept_warnings: Accepted::All,
        key: KeyRequest::Cloud,
    };
    world.app.create_vault(&world.owner, another).await.expect("the default one from now on");
    let edit = VaultEdit { state: Some(VaultState::Disabled), ..VaultEdit::default() };
    world.app.edit_vault(&world.owner, world.vault, None, edit).await.expect("disabled");
    new_key_version(&world).await;
    let refused = world.app.rewrap(&world.owner, world.vault, false).await.expect_err("its key is not used");
    assert_eq!(refused.code(), "vault.disabled");
}

#[test]
fn a_change_whose_starter_may_not_do_so_any_more_is_paused_and_says_so() {
    on_each_database(|database| {
        runtime().block_on(async {
            let world = AzureWorld::start(Some(&database.url())).await;
            let (app, owner, vault) = (&world.app, &world.owner, world.vault);
            let item = world.account("Mail", "tide-and-lamp").await;
            let grace = world.member("Grace", Role::Admin).await;
            let newest = new_key_version(&world).await;
            let rewrap = app.rewrap(&grace, vault, false).await.expect("started").job.expect("a job");
            let rotation = app.rotate(&grace, vault, false).await.expect("started").job.expect("a job");
            app.change_role(owner, grace.member, None, Role::User).await.expect("demoted");
            let _jobs = working(&world);
            for job in [rewrap, rotation] {
                let paused = until(&world, job, |job| job.state != JobState::Running).await;
                let why = paused.waiting.expect("it says why");
                assert_eq!((paused.state, paused.done, why.code.as_str()), (JobState::Paused, 0, "denied"));
                assert!(why.detail.contains("Whoever started this job may not"), "{}", why.detail);
            }
            let before = (1, world.kid.clone());
            assert_eq!(first_generation(&world).await, before, "the data key and the vault key are where they were");
            assert_eq!(world.password(item).await.expect("readable"), "tide-and-lamp");
            // It stays the job of whoever started it: another's word starts it again, and lends them no right.
            app.resume_job(owner, rotation).await.expect("resumed");
            until(&world, rotation, |job| job.state == JobState::Paused).await;
            assert_eq!(first_generation(&world).await, before);
            app.change_role(owner, grace.member, None, Role::Admin).await.expect("an admin again");
            for job in [rewrap, rotation] {
                app.resume_job(owner, job).await.expect("resumed");
                until(&world, job, |job| job.state == JobState::Done).await;
            }
            assert_eq!(first_generation(&world).await, (0, newest));
            assert_eq!(world.password(item).await.expect("readable"), "tide-and-lamp");
            verified(&world).await;
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_key_still_reads_and_refuses_rewrap_and_rotation_in_words() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    new_key_version(&world).await;
    expire_newest(&world).await;
    for refused in [
        world.app.rewrap(&world.owner, world.vault, false).await,
        world.app.rotate(&world.owner, world.vault, false).await,
        world.app.reencrypt(&world.owner, world.vault, false).await,
    ] {
        let error = refused.expect_err("no new wraps");
        assert_eq!(error.code(), "key.expired");
        assert!(error.fix().starts_with("az keyvault key rotate"), "{}", error.fix());
    }
    world.app.keyring.purge_all();
    assert_eq!(world.password(item).await.expect("reads go on"), "tide-and-lamp");
    assert_eq!(count(&world, "SELECT COUNT(*) FROM jobs").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_answer_to_the_proof_flips_nothing() {
    for wrong in 0..3 {
        let world = AzureWorld::start(None).await;
        let newest = new_key_version(&world).await;
        let change = world.app.rewrap(&world.owner, world.vault, false).await.expect("started");
        let effect = wrong_answers(&newest)[wrong].clone();
        // Only what is asked of the new key version; the wrap in use answers as ever.
        let matching = Match { operation: Some("unwrapkey".into()), kid: Some(newest.clone()), ..Match::default() };
        world.standin.set_fault(Fault { matching, effect: effect.clone(), ..Fault::default() });
        let _jobs = working(&world);
        let job = until(&world, change.job.expect("a job"), |job| job.waiting.is_some()).await;
        assert_eq!((job.done, job.state), (0, JobState::Running), "{effect:?}");
        let code = job.waiting.expect("it waits").code;
        assert!(code.starts_with("fault."), "{code}");
        assert_eq!(kid_in_use(&world).await, world.kid, "{effect:?}");
        assert_eq!(wraps_of(&world).await, 1);
        world.standin.clear_faults();
        until(&world, change.job.expect("a job"), |job| job.state == JobState::Done).await;
        assert_eq!(kid_in_use(&world).await, newest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_rewraps_at_once_one_wins_and_the_other_does_no_harm() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    let newest = new_key_version(&world).await;
    let change = world.app.rewrap(&world.owner, world.vault, false).await.expect("started");
    let refused = world.app.rewrap(&world.owner, world.vault, false).await.expect_err("one at a time");
    assert_eq!(refused.code(), "job.running");
    // Both loops look for the job at once.
    let _jobs = [working(&world), working(&world)];
    until(&world, change.job.expect("a job"), |job| job.state == JobState::Done).await;
    assert_eq!((kid_in_use(&world).await, wraps_of(&world).await), (newest, 2));
    assert_eq!(world.password(item).await.expect("readable"), "tide-and-lamp");
    verified(&world).await;
}

#[test]
fn a_rotation_takes_the_data_keys_along_and_leaves_bodies_alone() {
    on_each_database(|database| {
        runtime().block_on(async {
            let world = AzureWorld::start(Some(&database.url())).await;
            let items = [world.account("Mail", "tide-and-lamp").await, world.account("Bank", "gate-and-fern").await];
            let bodies = bodies(&world).await;
            let (wraps, unwraps) = operations(&world);
            let planned = world.app.rotate(&world.owner, world.vault, true).await.expect("planned");
            assert_eq!((planned.vault_keys, planned.key_operations, planned.data_keys, planned.items), (1, 2, 2, 0));
            let started = world.app.rotate(&world.owner, world.vault, false).await.expect("started");
            assert_eq!(operations(&world), (wraps + 1, unwraps + 1));
            let job = done(&world, started).await;
            assert_eq!((job.total, job.done, job.failed), (2, 2, 0));
            assert_eq!(self::bodies(&world).await, bodies);
            let census = world.app.census(&world.owner, world.vault).await.expect("counted");
            let counts: Vec<_> = census.generations.iter().map(|used| (used.generation, used.data_keys)).collect();
            assert_eq!(counts, [(2, 2), (1, 0)]);
            assert!(census.generations[0].current && census.generations[1].retirable, "{census:?}");
            assert_eq!(world.password(items[0]).await.expect("readable"), "tide-and-lamp");
            world.account("New", "under-the-new-one").await;
            verified(&world).await;

            let current = world.app.retire_generation(&world.owner, world.vault, 2).await.expect_err("current");
            assert_eq!(current.code(), "generation.current");
            world.app.retire_generation(&world.owner, world.vault, 1).await.expect("nothing is under it");
            let gone = world.app.retire_generation(&world.owner, world.vault, 1).await.expect_err("gone");
            assert!(matches!(gone, Error::NotFound("generation")), "{gone}");
            assert_eq!(world.password(items[1]).await.expect("readable"), "gate-and-fern");
            verified(&world).await;
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_with_data_keys_under_it_cannot_be_retired() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    // No loop works on the job: the data key stays where it is.
    world.app.rotate(&world.owner, world.vault, false).await.expect("started");
    let refused = world.app.retire_generation(&world.owner, world.vault, 1).await.expect_err("in use");
    assert_eq!(refused.code(), "generation.in_use");
    world.app.keyring.purge_all();
    assert_eq!(world.password(item).await.expect("readable under the old one"), "tide-and-lamp");
}

#[test]
fn writers_go_on_through_rotations_and_no_data_key_stays_behind() {
    on_each_database(|database| {
        runtime().block_on(async {
            let world = Arc::new(AzureWorld::start(Some(&database.url())).await);
            let _jobs = working(&world);
            let stop = Arc::new(AtomicBool::new(false));
            let writers: Vec<_> = (0..3)
                .map(|writer| {
                    let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
                    tokio::spawn(async move {
                        let mut made = 0;
                        while !stop.load(Ordering::Relaxed) {
                            let contents = (0..20).map(|n| account(&format!("{writer}-{made}-{n}"), "tide")).collect();
                            let ids = world.app.create_items(&world.owner, Some(world.vault), contents).await;
                            made += ids.expect("never refused").len();
                        }
                        made
                    })
                })
                .collect();
            for _ in 0..4 {
                let change = world.app.rotate(&world.owner, world.vault, false).await.expect("started");
                until(&world, change.job.expect("a job"), |job| job.state == JobState::Done).await;
            }
            stop.store(true, Ordering::Relaxed);
            let mut made = 0;
            for writer in writers {
                made += writer.await.expect("no panic");
            }
            assert!(made > 0);
            let last = world.app.rotate(&world.owner, world.vault, false).await.expect("started");
            until(&world, last.job.expect("a job"), |job| job.state == JobState::Done).await;
            let behind = "SELECT COUNT(*) FROM data_keys d JOIN vaults v ON v.id = d.vault_id \
                          WHERE d.generation <> v.generation";
            assert_eq!(count(&world, behind).await, 0);
            assert_eq!(count(&world, "SELECT COUNT(*) FROM data_keys").await, made as u64);
            verified(&world).await;
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_denied_on_its_way_waits_and_is_done_once_the_key_is_back() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    let change = world.app.rotate(&world.owner, world.vault, false).await.expect("started");
    world.enable_key(false).await;
    canaries(&world).await;
    let _jobs = working(&world);
    let job = until(&world, change.job.expect("a job"), |job| job.waiting.is_some()).await;
    assert_eq!(job.waiting.expect("it waits").code, "key.disabled");
    assert!(world.password(item).await.is_err(), "dark for readers too");
    let again = world.app.rotate(&world.owner, world.vault, false).await.expect_err("not while it is denied");
    assert_eq!(again.code(), "key.disabled");
    world.enable_key(true).await;
    canaries(&world).await;
    until(&world, change.job.expect("a job"), |job| job.state == JobState::Done).await;
    assert_eq!(world.password(item).await.expect("back"), "tide-and-lamp");
    verified(&world).await;
}

#[test]
fn a_rewrap_that_is_broken_off_again_and_again_ends_on_another_node() {
    on_each_database(|database| {
        runtime().block_on(async {
            let world = AzureWorld::start(Some(&database.url())).await;
            let item = world.account("Mail", "tide-and-lamp").await;
            // Five generations, none of which is taken along: five vault keys to rewrap.
            for _ in 0..4 {
                let change = world.app.rotate(&world.owner, world.vault, false).await.expect("started");
                world.app.cancel_job(&world.owner, change.job.expect("a job")).await.expect("cancelled");
            }
            let newest = new_key_version(&world).await;
            let change = world.app.rewrap(&world.owner, world.vault, false).await.expect("started");
            assert_eq!((change.vault_keys, change.key_operations), (5, 15));
            let id = change.job.expect("a job");
            // Dropped at some point between two awaits, whichever it is; the lease of a dead node has to end.
            for pause in [0, 3, 9, 15, 21, 30] {
                let jobs = working(&world);
                world.clock.advance(Duration::from_secs(20));
                tokio::time::sleep(Duration::from_millis(pause)).await;
                drop(jobs);
            }
            let _jobs = working(&world);
            let job = until(&world, id, |job| job.state == JobState::Done).await;
            assert_eq!((job.done, job.failed), (5, 0));
            assert_eq!(kid_in_use(&world).await, newest);
            assert_eq!(wraps_of(&world).await, 10);
            world.app.keyring.purge_all();
            assert_eq!(world.password(item).await.expect("readable"), "tide-and-lamp");
            verified(&world).await;
        });
    });
}

#[test]
fn two_nodes_rewrap_one_vault_and_each_key_changes_once() {
    on_postgres(|database| {
        runtime().block_on(async {
            let world = AzureWorld::start(Some(&database.url())).await;
            let other = world.another_node(&database.url()).await;
            let newest = new_key_version(&world).await;
            let change = world.app.rewrap(&world.owner, world.vault, false).await.expect("started");
            let (_here, _there) =
                (working(&world), Working(tokio::spawn(Arc::clone(&other).run_jobs(Default::default()))));
            let job = until(&world, change.job.expect("a job"), |job| job.state == JobState::Done).await;
            assert_eq!((job.done, job.failed), (1, 0));
            assert_eq!((kid_in_use(&world).await, wraps_of(&world).await), (newest, 2));
            assert_eq!(world.events("key.rewrap").await, 1);
            verified(&world).await;
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_census_tells_what_needs_which_key_version_and_what_is_safe_to_disable() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    let newest = new_key_version(&world).await;
    let census = world.app.census(&world.owner, world.vault).await.expect("counted");
    let told: Vec<_> = census.versions.iter().map(|used| (used.kid.as_str(), used.vault_keys, used.items)).collect();
    assert_eq!(told, [(newest.as_str(), 0, 0), (world.kid.as_str(), 1, 1)]);
    assert!(census.versions.iter().all(|used| !used.safe_to_disable), "{census:?}");
    assert_eq!(census.versions[1].verdict(), "Needed by 1 vault key, 1 item.");
    assert_eq!(census.kill_switch(), [switch_off(&world.kid)]);

    done(&world, world.app.rewrap(&world.owner, world.vault, false).await.expect("started")).await;
    world.clock.advance(Duration::from_secs(60));
    let census = world.app.census(&world.owner, world.vault).await.expect("counted");
    let [new, old] = census.versions.as_slice() else { panic!("two key versions: {census:?}") };
    assert_eq!((new.vault_keys, new.items, new.enabled, new.safe_to_disable), (1, 1, Some(true), false));
    assert_eq!((old.vault_keys, old.superseded_wraps, old.safe_to_disable), (0, 1, true));
    let verdict = "Safe to disable: nothing that this instance knows of needs it. 1 superseded wrap is under it and goes a \
                   day later.";
    assert_eq!(old.verdict(), verdict);
    assert_eq!(census.kill_switch(), [switch_off(&newest), switch_off(&world.kid)]);

    enable(&world, &world.kid, false).await;
    world.app.keyring.purge_all();
    canaries(&world).await;
    assert_eq!(world.password(item).await.expect("it was safe"), "tide-and-lamp");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_manages_vaults_with_a_fresh_sign_in_changes_a_key() {
    let world = AzureWorld::start(None).await;
    let member = world.member("Ugo", Role::User).await;
    for refused in [
        world.app.rewrap(&member, world.vault, true).await.map(drop),
        world.app.rotate(&member, world.vault, true).await.map(drop),
        world.app.census(&member, world.vault).await.map(drop),
        world.app.retire_generation(&member, world.vault, 1).await,
    ] {
        assert!(matches!(refused, Err(Error::Denied(_))), "{refused:?}");
    }
    world.clock.advance(Duration::from_secs(3600));
    world.app.rotate(&world.owner, world.vault, true).await.expect("a plan needs no fresh sign-in");
    for refused in [
        world.app.rewrap(&world.owner, world.vault, false).await.map(drop),
        world.app.rotate(&world.owner, world.vault, false).await.map(drop),
        world.app.reencrypt(&world.owner, world.vault, false).await.map(drop),
        world.app.retire_generation(&world.owner, world.vault, 1).await,
    ] {
        assert!(matches!(refused, Err(Error::StaleSignIn)), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_compromise_every_body_and_data_key_is_another_history_included() {
    let world = AzureWorld::start(None).await;
    let item = world.account("Mail", "tide-and-lamp").await;
    let patch = Patch { title: Some("Post".into()), ..Patch::default() };
    world.app.edit_item(&world.owner, item, 1, patch).await.expect("edited");
    let (bodies, keys) = (bodies(&world).await, item_rows(&world).await);
    let planned = world.app.reencrypt(&world.owner, world.vault, true).await.expect("planned");
    assert_eq!((planned.vault_keys, planned.data_keys, planned.items, planned.revisions), (1, 1, 1, 2));
    let job = done(&world, world.app.reencrypt(&world.owner, world.vault, false).await.expect("started")).await;
    assert_eq!((job.total, job.done, job.failed), (1, 1, 0));
    assert!(self::bodies(&world).await.iter().all(|body| !bodies.contains(body)));
    assert!(item_rows(&world).await.iter().all(|row| !keys.contains(row)));
    for (revision, password) in [(1, "tide-and-lamp"), (2, "tide-and-lamp")] {
        let (_, fields) = world.app.reveal_item(&world.owner, item, Some(revision)).await.expect("readable");
        assert_eq!(fields[0].value.expose(), password);
    }
    world.app.retire_generation(&world.owner, world.vault, 1).await.expect("nothing is under it");
    verified(&world).await;
}

/// The command that the census gives for a key version.
fn switch_off(kid: &str) -> String {
    let (host, rest) = kid.trim_start_matches("https://").split_once("/keys/").expect("a kid");
    let (vault, (name, key_version)) = (host.split('.').next().expect("a name"), rest.split_once('/').expect("a kid"));
    format!("az keyvault key set-attributes --vault-name {vault} --name {name} --version {key_version} --enabled false")
}

/// Another vault's key, 31 bytes, and the right bytes under another key version's name.
fn wrong_answers(kid: &str) -> [Effect; 3] {
    let answer = |bytes: usize| {
        let value = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(vec![7; bytes]);
        serde_json::json!({ "kid": kid, "value": value })
    };
    [
        Effect { status: Some(200), body: Some(answer(73)), ..Effect::default() },
        Effect { status: Some(200), body: Some(answer(31)), ..Effect::default() },
        Effect { wrong_kid: true, ..Effect::default() },
    ]
}

/// The customer lets the newest key version end now.
async fn expire_newest(world: &AzureWorld) {
    let path = format!("/keys/{}?api-version=7.4", world.values.vault_key_name);
    let body = serde_json::json!({"attributes": {"exp": world.app.clock.now().as_second() - 1}});
    let target = Target::KeyVault(&world.values.vault_url);
    world.administrator.send(target, "PATCH", &path, Some(body)).await.expect("the administrator may");
}

/// Makes a new version of the key in Azure; returns its kid.
async fn new_key_version(world: &AzureWorld) -> String {
    // What Key Vault said at this very moment would still count as recent.
    world.clock.advance(Duration::from_secs(1));
    rotate(&world.administrator, &world.values.vault_url, &world.values.vault_key_name).await.expect("rotated")
}

async fn enable(world: &AzureWorld, kid: &str, enabled: bool) {
    let name = kid.split("/keys/").nth(1).expect("a kid");
    set_enabled(&world.administrator, &world.values.vault_url, name, enabled).await.expect("the administrator may");
}

/// A loop that works on jobs until it is dropped.
struct Working(tokio::task::JoinHandle<()>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn working(world: &AzureWorld) -> Working {
    Working(tokio::spawn(Arc::clone(&world.app).run_jobs(Default::default())))
}

/// The change's job, done.
async fn done(world: &AzureWorld, change: KeyChange) -> Job {
    let _jobs = working(world);
    until(world, change.job.expect("a job"), |job| job.state == JobState::Done).await
}

/// Lets time pass until the job is so.
async fn until(world: &AzureWorld, id: JobId, so: impl Fn(&Job) -> bool) -> Job {
    let wait = async {
        loop {
            let job = world.app.job(&world.owner, id).await.expect("the job");
            if so(&job) {
                return job;
            }
            world.clock.advance(Duration::from_millis(200));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(BOUND, wait).await.expect("it comes to that")
}

async fn canaries(world: &AzureWorld) {
    world.clock.advance(Duration::from_secs(5));
    world.app.keyring.canary_round(strongroom_keys::TokenUse::Cached).await.expect("a round of canaries");
}

/// Wraps and unwraps that Key Vault was asked for, with whatever key version.
fn operations(world: &AzureWorld) -> (u64, u64) {
    let stats = world.standin.stats();
    (stats.operations("wrapkey"), stats.operations("unwrapkey"))
}

/// Rows that fail their proof, and so never go; superseded before all others.
async fn plant_superseded(world: &AzureWorld, rows: u32) {
    let vault = world.vault;
    let plant = move |tx: &mut strongroom::store::Tx<'_>| {
        for row in 0..rows {
            tx.execute(
                "INSERT INTO wraps (vault_id, generation, kid, provider_id, algorithm, wrapped, created_at, \
                                    superseded_at, row_mac) \
                 SELECT vault_id, generation, $2, provider_id, algorithm, wrapped, 0, 0, row_mac FROM wraps \
                 WHERE vault_id = $1 AND superseded_at IS NULL",
                &[vault.0.into(), (&format!("planted-{row}")).into()],
            )?;
        }
        Ok(())
    };
    world.app.store.write(plant).await.expect("planted");
}

async fn kid_in_use(world: &AzureWorld) -> String {
    world.app.vault(&world.owner, world.vault).await.expect("the vault").kid
}

/// Of generation 1: how many data keys are under it, and the key version that it is under.
async fn first_generation(world: &AzureWorld) -> (u64, String) {
    let vault = world.vault;
    let look = move |tx: &mut strongroom::store::Tx<'_>| {
        let under = "SELECT COUNT(*) FROM data_keys WHERE vault_id = $1 AND generation = 1";
        let kid = "SELECT kid FROM generations WHERE vault_id = $1 AND generation = 1";
        let count = tx.count(under, &[vault.0.into()])?;
        Ok((count, tx.first(kid, &[vault.0.into()], |row| row.get(0))?.expect("it is there")))
    };
    world.app.store.read(look).await.expect("read")
}

async fn wraps_of(world: &AzureWorld) -> u64 {
    let vault = world.vault;
    let sql = "SELECT COUNT(*) FROM wraps WHERE vault_id = $1";
    world.app.store.read(move |tx| tx.count(sql, &[vault.0.into()])).await.expect("counted")
}

async fn count(world: &AzureWorld, sql: &'static str) -> u64 {
    world.app.store.read(move |tx| tx.count(sql, &[])).await.expect("counted")
}

/// Every byte of every item and data key.
async fn item_rows(world: &AzureWorld) -> Vec<Vec<u8>> {
    let read = |tx: &mut strongroom::store::Tx<'_>| {
        let mut rows = Vec::new();
        for (sql, columns) in [
            ("SELECT sealed_overview, sealed_details FROM items ORDER BY id", 2),
            ("SELECT wrapped FROM data_keys ORDER BY id", 1),
        ] {
            for row in tx.all(sql, &[], |row| (0..columns).map(|index| row.get(index)).collect())? {
                let row: Vec<Vec<u8>> = row;
                rows.extend(row);
            }
        }
        Ok(rows)
    };
    world.app.store.read(read).await.expect("read")
}

/// Every sealed body.
async fn bodies(world: &AzureWorld) -> Vec<(Vec<u8>, Vec<u8>)> {
    let sql = "SELECT sealed_overview, sealed_details FROM items ORDER BY id";
    let read = move |tx: &mut strongroom::store::Tx<'_>| tx.all(sql, &[], |row| Ok((row.get(0)?, row.get(1)?)));
    world.app.store.read(read).await.expect("read")
}

/// The log and every row that it vouches for.
async fn verified(world: &AzureWorld) {
    let report = audit::verify(&world.app.store, Arc::clone(&world.app.keys), true).await.expect("verified");
    assert!(report.is_sound(), "{report}");
}

fn fault(operation: &str, effect: Effect) -> Fault {
    Fault { matching: Match { operation: Some(operation.into()), ..Match::default() }, effect, ..Fault::default() }
}

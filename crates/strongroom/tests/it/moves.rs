//! Moves: nothing lost, nothing twice, while others read and write, through denials, pauses and dead nodes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use strongroom::{
    access::{ItemRole, Role},
    app::{App, Caller},
    audit,
    clock::Clock,
    error::Result,
    id::{ItemId, JobId, VaultId},
    item::{MovePlan, MoveRequest, MoveWhat, Patch},
    job::{Job, JobState},
    keyring::{Policy, Strategy},
};
use strongroom_keys::TokenUse;
use tokio::task::JoinHandle;

use crate::{
    azure::{AzureWorld, account, request},
    world::{on_each_database, refusal, runtime, wrong_fields},
};

/// Longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The server's loop for as long as a test wants it.
pub struct Running(JoinHandle<()>);

impl Running {
    pub fn begin(app: &Arc<App>) -> Self {
        Self(tokio::spawn(Arc::clone(app).run_jobs(Default::default())))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs `test` on each engine, with a Cloud vault and an Azure vault.
pub fn on_both_engines<F: Future<Output = ()>>(test: impl Fn(Arc<AzureWorld>) -> F) {
    on_each_database(|database| {
        runtime().block_on(async {
            let world = Arc::new(AzureWorld::start(Some(&database.url())).await);
            test(Arc::clone(&world)).await;
            drop(world);
        });
    });
}

#[test]
fn a_whole_vault_moves_with_its_history_its_trash_its_shares_and_what_comes_meanwhile() {
    on_both_engines(|world| async move {
        let (app, owner) = (&world.app, &world.owner);
        let ada = world.member("Ada", Role::User).await;
        let cloud = cloud_vault(&world).await;
        let edited = create(&world, cloud, "Mail", "one").await;
        for (revision, password) in [(1, "two"), (2, "three")] {
            edit(app, owner, edited, revision, password).await.expect("edited");
        }
        app.share_item(owner, edited, ada.member, ItemRole::Editor).await.expect("shared");
        let trashed = create(&world, cloud, "Old", "dust").await;
        app.trash_item(owner, trashed, None).await.expect("trashed");
        let plan = ask(&world, MoveWhat::Vault(cloud), world.vault, true).await.expect("a plan");
        assert_eq!((plan.items, plan.revisions, plan.weakens, plan.job), (2, 4, false, None));
        assert!(plan.bytes > 4 * 512, "{}", plan.bytes);
        let job = started(&world, MoveWhat::Vault(cloud), world.vault).await;
        let late = create(&world, cloud, "Late", "here").await;
        let _running = Running::begin(app);
        let done = ended(&world, job).await;
        let account = done.account.expect("an account");
        assert_eq!((account.found, account.came, account.done), (2, 1, 3));
        assert_eq!((account.kept, account.gone, account.left), (0, 0, 0));
        assert_eq!((done.total, done.done, done.failed), (3, 3, 0));
        assert_eq!(rows_of(&world, cloud).await, (0, 0), "items and data keys of the vault that was left");
        assert_eq!(rows_of(&world, world.vault).await, (3, 3));
        for (revision, password) in [(1, "one"), (2, "two"), (3, "three")] {
            assert_eq!(revealed(app, owner, edited, Some(revision)).await.expect("it opens"), password);
        }
        assert_eq!(revealed(app, &ada, edited, None).await.expect("her share stands"), "three");
        assert_eq!(revealed(app, owner, late, None).await.expect("it came along"), "here");
        app.untrash_item(owner, trashed).await.expect("still in the trash");
        edit(app, &ada, edited, 3, "four").await.expect("the revision counts on");
        assert_sound(&world).await;
    });
}

#[test]
fn readers_and_writers_go_on_while_their_items_move() {
    on_both_engines(|world| async move {
        let (app, owner) = (&world.app, &world.owner);
        let cloud = cloud_vault(&world).await;
        let mut items = Vec::new();
        for number in 0..40 {
            items.push(create(&world, cloud, &format!("Item {number}"), "0").await);
        }
        let over = Arc::new(AtomicBool::new(false));
        let hands: Vec<_> = items
            .chunks(10)
            .map(|items| tokio::spawn(hand(Arc::clone(&world), items.to_vec(), Arc::clone(&over))))
            .collect();
        let job = started(&world, MoveWhat::Vault(cloud), world.vault).await;
        let importer = tokio::spawn(importing(Arc::clone(&world), cloud, Arc::clone(&over)));
        let _running = Running::begin(app);
        // Slowly: at the pace of other tests leases would end under the hands.
        let deadline = Instant::now() + PATIENCE;
        while state_of(&world, job).await.done < 20 {
            assert!(Instant::now() < deadline, "half of it is not moved: {:?}", state_of(&world, job).await);
            world.clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        over.store(true, Ordering::Relaxed);
        let imported = importer.await.expect("no panic");
        let mut edits = 0;
        for hand in hands {
            for (item, revision) in hand.await.expect("no panic") {
                let password = revealed(app, owner, item, None).await.expect("it opens");
                assert_eq!(password, (revision - 1).to_string(), "the last acknowledged edit");
                edits += revision - 1;
            }
        }
        let account = ended(&world, job).await.account.expect("an account");
        assert_eq!((account.found, account.kept, account.gone, account.left), (40, 0, 0, 0));
        assert_eq!(account.done, 40 + account.came);
        assert!(edits > 0, "somebody wrote meanwhile");
        // What was imported after the job was done is where it was imported to.
        let (left, moved) = (imported - account.came, account.done);
        assert_eq!(rows_of(&world, cloud).await, (left, left));
        assert_eq!(rows_of(&world, world.vault).await, (moved, moved));
        assert_sound(&world).await;
    });
}

/// Edits and reveals its items in turn; returns the revision that each has.
async fn hand(world: Arc<AzureWorld>, items: Vec<ItemId>, over: Arc<AtomicBool>) -> Vec<(ItemId, u64)> {
    let mut seen: Vec<_> = items.into_iter().map(|item| (item, 1)).collect();
    while !over.load(Ordering::Relaxed) {
        for (item, revision) in &mut seen {
            edit(&world.app, &world.owner, *item, *revision, &revision.to_string()).await.expect("no edit is lost");
            *revision += 1;
            revealed(&world.app, &world.owner, *item, Some(1)).await.expect("history opens at every moment");
        }
    }
    seen
}

/// Imports into a vault; returns how many items.
async fn importing(world: Arc<AzureWorld>, vault: VaultId, over: Arc<AtomicBool>) -> u64 {
    let mut count = 0;
    while !over.load(Ordering::Relaxed) {
        let contents = vec![account("Imported", "x"), account("Imported too", "y")];
        count += world.app.create_items(&world.owner, Some(vault), contents).await.expect("imported").len() as u64;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    count
}

#[test]
fn leaving_azure_is_for_the_owner_freshly_signed_in_where_the_vault_s_policy_allows_it() {
    on_both_engines(|world| async move {
        let (app, cloud) = (&world.app, cloud_vault(&world).await);
        let mira = world.member("Mira", Role::SuperAdmin).await;
        let ada = world.member("Ada", Role::User).await;
        let item = world.account("Mail", "tide-and-lamp").await;
        let hers = app.create_item(&ada, Some(world.vault), account("Hers", "x")).await.expect("created").id;
        let whole = || MoveRequest { what: MoveWhat::Vault(world.vault), to: cloud, dry_run: true };
        let one = |item| MoveRequest { what: MoveWhat::Items(vec![item]), to: cloud, dry_run: true };
        assert_eq!(refusal(app.move_items(&world.owner, whole()).await), "vault.may_not_leave");
        assert_eq!(refusal(app.move_items(&world.owner, one(item)).await), "vault.may_not_leave");
        may_leave(&world).await;
        assert_eq!(refusal(app.move_items(&mira, whole()).await), "denied");
        assert_eq!(refusal(app.move_items(&ada, one(hers)).await), "denied");
        let plan = app.move_items(&world.owner, whole()).await.expect("a plan");
        assert!(plan.weakens && plan.items == 2);
        let job = started(&world, MoveWhat::Vault(world.vault), cloud).await;
        let _running = Running::begin(app);
        assert_eq!(ended(&world, job).await.done, 2);
        world.enable_key(false).await;
        round(&world).await;
        assert_eq!(world.password(item).await.expect("it is under another key now"), "tide-and-lamp");
        world.clock.advance(Duration::from_secs(16 * 60));
        let back = MoveRequest { what: MoveWhat::Vault(cloud), to: world.vault, dry_run: true };
        assert_eq!(refusal(app.move_items(&world.owner, back).await), "signin.fresh_required");
        assert_sound(&world).await;
    });
}

#[test]
fn a_vault_in_another_tenant_is_as_much_a_leave_as_a_cloud_vault() {
    on_each_database(|database| {
        runtime().block_on(async {
            let world = Arc::new(AzureWorld::with_room_for(Some(&database.url()), 2).await);
            let (app, first) = (&world.app, world.vault);
            let mira = world.member("Mira", Role::SuperAdmin).await;
            let second = app.create_vault(&world.owner, request("Second", &world.values)).await.expect("made").id;
            let item = world.account("Mail", "tide-and-lamp").await;
            create(&world, second, "There", "x").await;
            let whole = |from, to, dry_run| MoveRequest { what: MoveWhat::Vault(from), to, dry_run };
            // Within the tenant nothing is lost, and nobody has to be asked.
            let plan = app.move_items(&mira, whole(first, second, false)).await.expect("started");
            assert!(!plan.weakens);
            let begun = plan.job.expect("a job");
            in_another_tenant(&world, second).await;
            let _running = Running::begin(app);
            until(&world, "it is paused", async || state_of(&world, begun).await.state == JobState::Paused).await;
            let why = state_of(&world, begun).await.waiting.map(|why| why.code);
            assert_eq!((why.as_deref(), rows_of(&world, first).await), (Some("vault.may_not_leave"), (1, 1)));
            app.cancel_job(&world.owner, begun).await.expect("cancelled");

            let refused = app.move_items(&world.owner, whole(first, second, true)).await;
            assert_eq!(refusal(refused), "vault.may_not_leave");
            let back = app.move_items(&world.owner, whole(second, first, true)).await;
            assert_eq!(refusal(back), "vault.may_not_leave", "nor out of the other tenant");
            may_leave(&world).await;
            assert_eq!(refusal(app.move_items(&mira, whole(first, second, true)).await), "denied");
            let plan = app.move_items(&world.owner, whole(first, second, false)).await.expect("started");
            assert!(plan.weakens);
            let told = "SELECT COUNT(*) FROM notices WHERE kind = 'vault.left'";
            let told = app.store.read(move |tx| tx.count(told, &[])).await.expect("counted");
            assert_eq!((told, ended(&world, plan.job.expect("a job")).await.done), (1, 1));
            assert_eq!(world.password(item).await.expect("it opens there"), "tide-and-lamp");
            // Nobody holds a Cloud vault's key but this server: what goes from there to a tenant wins.
            let cloud = cloud_vault(&world).await;
            create(&world, cloud, "Cloud", "y").await;
            assert!(!app.move_items(&mira, whole(cloud, second, true)).await.expect("a plan").weakens);
        });
    });
}

#[test]
fn a_vault_that_stops_letting_items_leave_keeps_those_it_still_has() {
    on_both_engines(|world| async move {
        let cloud = cloud_vault(&world).await;
        let item = world.account("Mail", "tide-and-lamp").await;
        may_leave(&world).await;
        let job = started(&world, MoveWhat::Vault(world.vault), cloud).await;
        set_policy(&world, false).await;
        let _running = Running::begin(&world.app);
        until(&world, "it stops", async || state_of(&world, job).await.waiting.is_some()).await;
        let stopped = state_of(&world, job).await;
        assert_eq!(stopped.waiting.map(|why| why.code).as_deref(), Some("vault.may_not_leave"));
        assert_eq!(stopped.state, JobState::Paused);
        assert_eq!(rows_of(&world, cloud).await, (0, 0));
        assert_eq!(world.password(item).await.expect("it opens"), "tide-and-lamp");
    });
}

#[test]
fn a_selection_moves_what_its_owner_may_move_and_says_why_the_rest_stays() {
    on_both_engines(|world| async move {
        let (app, cloud) = (&world.app, cloud_vault(&world).await);
        let ada = world.member("Ada", Role::User).await;
        let create = async |who: &Caller, vault| {
            app.create_item(who, Some(vault), account("Mail", "x")).await.expect("created").id
        };
        let (mine, secret) = (create(&ada, cloud).await, create(&world.owner, cloud).await);
        let (shared, there) = (create(&world.owner, cloud).await, create(&ada, world.vault).await);
        app.share_item(&world.owner, shared, ada.member, ItemRole::Editor).await.expect("shared");
        let request =
            |items: &[ItemId]| MoveRequest { what: MoveWhat::Items(items.to_vec()), to: world.vault, dry_run: false };
        let plan = app.move_items(&ada, request(&[mine, secret, shared, there, mine])).await.expect("started");
        let mut refused = plan.refused.clone();
        refused.sort();
        let mut expected = vec![(secret, "not_found"), (shared, "denied"), (there, "item.there")];
        expected.sort();
        assert_eq!((plan.items, refused), (1, expected));
        let _running = Running::begin(app);
        let job = plan.job.expect("a job");
        assert_eq!(ended(&world, job).await.done, 1);
        assert_eq!((rows_of(&world, cloud).await, rows_of(&world, world.vault).await), ((2, 2), (2, 2)));
        assert_eq!(app.job(&ada, job).await.expect("her own").started_by, ada.member);
        let eve = world.member("Eve", Role::User).await;
        assert_eq!(refusal(app.job(&eve, job).await), "not_found");
        assert_eq!(refusal(app.cancel_job(&eve, job).await), "not_found");
        assert!(app.jobs(&eve).await.expect("none of hers").is_empty());
        assert_eq!(refusal(app.move_items(&ada, request(&[there])).await), "move.nothing");
        assert_eq!(wrong_fields(app.move_items(&ada, request(&[])).await), ["items"]);
        let whole = MoveRequest { what: MoveWhat::Vault(cloud), to: world.vault, dry_run: true };
        assert_eq!(refusal(app.move_items(&ada, whole).await), "denied");
        let nowhere = MoveRequest { what: MoveWhat::Vault(cloud), to: cloud, dry_run: true };
        assert_eq!(wrong_fields(app.move_items(&world.owner, nowhere).await), ["to"]);
        assert_sound(&world).await;
    });
}

#[test]
fn a_move_whose_key_is_denied_waits_and_goes_on_when_it_is_back() {
    on_both_engines(|world| async move {
        let cloud = cloud_vault(&world).await;
        for number in 0..3 {
            create(&world, cloud, &format!("Item {number}"), "x").await;
        }
        let job = started(&world, MoveWhat::Vault(cloud), world.vault).await;
        world.enable_key(false).await;
        round(&world).await;
        let _running = Running::begin(&world.app);
        until(&world, "it waits", async || state_of(&world, job).await.waiting.is_some()).await;
        let waits = state_of(&world, job).await;
        assert_eq!(waits.waiting.map(|why| why.code).as_deref(), Some("key.disabled"));
        assert_eq!((waits.state, waits.done), (JobState::Running, 0));
        assert_eq!(rows_of(&world, cloud).await, (3, 3), "nothing is lost meanwhile");
        let item = create(&world, cloud, "Written meanwhile", "x").await;
        let request = MoveRequest { what: MoveWhat::Items(vec![item]), to: world.vault, dry_run: true };
        assert_eq!(refusal(world.app.move_items(&world.owner, request).await), "key.disabled");
        world.enable_key(true).await;
        round(&world).await;
        round(&world).await;
        assert_eq!(ended(&world, job).await.done, 4);
        assert_sound(&world).await;
    });
}

#[test]
fn a_job_is_paused_resumed_and_cancelled_and_its_account_adds_up() {
    on_both_engines(|world| async move {
        let (app, owner, cloud) = (&world.app, &world.owner, cloud_vault(&world).await);
        for number in 0..3 {
            create(&world, cloud, &format!("Item {number}"), "x").await;
        }
        let job = started(&world, MoveWhat::Vault(cloud), world.vault).await;
        let again = ask(&world, MoveWhat::Vault(cloud), world.vault, false).await;
        assert_eq!(refusal(again), "job.running");
        assert_eq!(app.pause_job(owner, job).await.expect("paused").state, JobState::Paused);
        let _running = Running::begin(app);
        for _ in 0..5 {
            world.clock.advance(Duration::from_secs(5));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(rows_of(&world, cloud).await, (3, 3), "nothing moves while it is paused");
        app.resume_job(owner, job).await.expect("resumed");
        assert_eq!(ended(&world, job).await.done, 3);
        assert_eq!(refusal(app.cancel_job(owner, job).await), "job.ended");
        let item = create(&world, cloud, "Another", "x").await;
        drop(_running);
        let job = started(&world, MoveWhat::Items(vec![item]), world.vault).await;
        let cancelled = app.cancel_job(owner, job).await.expect("cancelled");
        let account = cancelled.account.expect("an account");
        assert_eq!((cancelled.state, account.found, account.left), (JobState::Cancelled, 1, 1));
        assert_eq!(events(&world, "job.cancel").await, 1);
        assert_sound(&world).await;
    });
}

#[test]
fn the_job_of_a_dead_node_goes_on_when_its_lease_has_ended() {
    on_both_engines(|world| async move {
        let cloud = cloud_vault(&world).await;
        for number in 0..3 {
            create(&world, cloud, &format!("Item {number}"), "x").await;
        }
        let job = started(&world, MoveWhat::Vault(cloud), world.vault).await;
        held_elsewhere(&world, job, world.clock.now() + Duration::from_secs(15)).await;
        let _running = Running::begin(&world.app);
        for _ in 0..13 {
            world.clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(state_of(&world, job).await.done, 0, "another node may still work on it");
        assert_eq!(ended(&world, job).await.done, 3);
    });
}

#[test]
fn a_re_encryption_puts_every_revision_under_a_fresh_data_key_of_the_new_generation() {
    on_both_engines(|world| async move {
        let (app, owner) = (&world.app, &world.owner);
        let item = world.account("Mail", "one").await;
        edit(app, owner, item, 1, "two").await.expect("edited");
        let trashed = world.account("Old", "dust").await;
        app.trash_item(owner, trashed, None).await.expect("trashed");
        let before = data_keys(&world).await;
        let job = app.reencrypt(owner, world.vault, false).await.expect("started").job.expect("a job");
        let _running = Running::begin(app);
        let account = ended(&world, job).await.account.expect("an account");
        assert_eq!((account.found, account.done, account.kept, account.gone, account.left), (2, 2, 0, 0, 0));
        let after = data_keys(&world).await;
        assert_eq!(after.len(), 2);
        assert!(after.iter().all(|(key, generation)| *generation == 2 && before.iter().all(|(old, _)| old != key)));
        assert_eq!(revealed(app, owner, item, None).await.expect("it opens"), "two");
        assert_eq!(revealed(app, owner, item, Some(1)).await.expect("its history opens"), "one");
        assert_eq!(events(&world, "item.reencrypt").await, 3, "one for each revision");
        assert_sound(&world).await;
    });
}

#[test]
fn an_item_that_does_not_open_is_kept_and_named_and_the_others_move() {
    on_both_engines(|world| async move {
        let cloud = cloud_vault(&world).await;
        let (bad, good) = (create(&world, cloud, "Bad", "x").await, create(&world, cloud, "Good", "y").await);
        let change = "UPDATE items SET sealed_details = sealed_overview WHERE id = $1";
        let damage = world.app.store.write(move |tx| tx.execute(change, &[bad.0.into()]).map(drop));
        damage.await.expect("a statement that works");
        let job = started(&world, MoveWhat::Vault(cloud), world.vault).await;
        let _running = Running::begin(&world.app);
        let done = ended(&world, job).await;
        let account = done.account.expect("an account");
        assert_eq!((done.done, done.failed, account.done, account.kept), (1, 1, 1, 1));
        assert_eq!(account.why_kept, [(bad, "item.not_opened".to_owned())]);
        assert_eq!(world.password(good).await.expect("it opens"), "y");
        assert_eq!((rows_of(&world, cloud).await, rows_of(&world, world.vault).await), ((1, 1), (1, 1)));
    });
}

pub async fn cloud_vault(world: &AzureWorld) -> VaultId {
    let vaults = world.app.vaults(&world.owner).await.expect("listed");
    vaults.iter().find(|vault| vault.strategy == Strategy::Cloud).expect("the built-in vault").id
}

pub async fn create(world: &AzureWorld, vault: VaultId, title: &str, password: &str) -> ItemId {
    world.app.create_item(&world.owner, Some(vault), account(title, password)).await.expect("created").id
}

async fn edit(app: &App, caller: &Caller, item: ItemId, revision: u64, password: &str) -> Result<()> {
    let patch = Patch { fields: Some(account("", password).fields), ..Patch::default() };
    app.edit_item(caller, item, revision, patch).await.map(drop)
}

async fn revealed(app: &App, caller: &Caller, item: ItemId, revision: Option<u64>) -> Result<String> {
    let (_, fields) = app.reveal_item(caller, item, revision).await?;
    Ok(fields[0].value.expose().to_owned())
}

pub async fn ask(world: &AzureWorld, what: MoveWhat, to: VaultId, dry_run: bool) -> Result<MovePlan> {
    world.app.move_items(&world.owner, MoveRequest { what, to, dry_run }).await
}

pub async fn started(world: &AzureWorld, what: MoveWhat, to: VaultId) -> JobId {
    ask(world, what, to, false).await.expect("started").job.expect("a job")
}

pub async fn state_of(world: &AzureWorld, job: JobId) -> Job {
    world.app.job(&world.owner, job).await.expect("seen")
}

/// Turns the clock until the job has ended.
pub async fn ended(world: &AzureWorld, job: JobId) -> Job {
    until(world, "the job ends", async || state_of(world, job).await.state.has_ended()).await;
    state_of(world, job).await
}

pub async fn until(world: &AzureWorld, what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "waited for this: {what}");
        world.clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The canaries' look at the key.
async fn round(world: &AzureWorld) {
    world.clock.advance(Duration::from_secs(5));
    world.app.keyring.canary_round(TokenUse::Cached).await.expect("a round of canaries");
}

/// Items and data keys of a vault.
pub async fn rows_of(world: &AzureWorld, vault: VaultId) -> (u64, u64) {
    let count = move |tx: &mut strongroom::store::Tx<'_>| {
        let items = tx.count("SELECT COUNT(*) FROM items WHERE vault_id = $1", &[vault.0.into()])?;
        Ok((items, tx.count("SELECT COUNT(*) FROM data_keys WHERE vault_id = $1", &[vault.0.into()])?))
    };
    world.app.store.read(count).await.expect("the store works")
}

/// Every data key, with its generation.
async fn data_keys(world: &AzureWorld) -> Vec<(uuid::Uuid, u32)> {
    let read = |tx: &mut strongroom::store::Tx<'_>| {
        tx.all("SELECT id, generation FROM data_keys", &[], |row| Ok((row.get(0)?, row.get(1)?)))
    };
    world.app.store.read(read).await.expect("the store works")
}

/// As if the vault's Key Vault were in another tenant; the lease that there is goes on.
async fn in_another_tenant(world: &AzureWorld, vault: VaultId) {
    let mut row = world.app.keyring.provider_row(vault, 1).await.expect("its row").0;
    row.tenant_id = "00000000-1111-2222-3333-444444444444".into();
    let mac = row.mac(&world.app.keys).to_bytes();
    let sql = "UPDATE providers SET tenant_id = $2, row_mac = $3 WHERE id = $1";
    let write = world
        .app
        .store
        .write(move |tx| tx.execute(sql, &[row.id.0.into(), (&row.tenant_id).into(), mac.as_slice().into()]).map(drop));
    write.await.expect("written");
}

pub async fn may_leave(world: &AzureWorld) {
    set_policy(world, true).await;
}

/// The Azure vault's policy, with its event.
pub async fn set_policy(world: &AzureWorld, may_leave: bool) {
    let (vault, keys) = (world.vault, Arc::clone(&world.app.keys));
    let target = audit::Target::Vault(vault);
    let event = world.app.event(&world.owner, "vault.edit", target, vec![("renamed", false.into())]).expect("random");
    let write = world.app.store.write(move |tx| {
        let mut policy = Policy::held(tx, &keys, vault)?;
        policy.may_leave = may_leave;
        policy.put(tx, &keys)?;
        let mut event = event.clone();
        event.detail.push(("policy_digest", policy.digest(&keys)));
        tx.record(&event)
    });
    write.await.expect("written");
}

/// As if another node held the job, and had fallen silent.
pub async fn held_elsewhere(world: &AzureWorld, job: JobId, ends: Timestamp) {
    let hold = "UPDATE jobs SET fence = fence + 1, lease_ends = $2 WHERE id = $1";
    let write = world.app.store.write(move |tx| tx.execute(hold, &[job.0.into(), ends.into()]).map(drop));
    write.await.expect("written");
}

pub async fn events(world: &AzureWorld, action: &'static str) -> u64 {
    let sql = "SELECT COUNT(*) FROM audit_events WHERE action = $1";
    world.app.store.read(move |tx| tx.count(sql, &[action.into()])).await.expect("the store works")
}

/// The log is whole, and the rows are what it says.
pub async fn assert_sound(world: &AzureWorld) {
    let report = audit::verify(&world.app.store, Arc::clone(&world.app.keys), true).await.expect("it can be read");
    assert!(report.is_sound(), "{report}");
}

//! State: every row that was planted, deleted, changed or rolled back is named.

use strongroom_envelope::{Context, DataKey, ItemPlace, commitment, digest, pad_256, seal};

use super::*;

/// A workspace with two members, a vault, and an item of two revisions that is shared, each with its events.
struct Rows {
    log: Log,
    owner: Uuid,
    guest: Uuid,
    vault: Uuid,
    item: Uuid,
    data_key: Uuid,
    session: Uuid,
}

impl Rows {
    async fn new() -> Self {
        let id = || random_id(START);
        let log = Log::new();
        let rows = Self { log, owner: id(), guest: id(), vault: id(), item: id(), data_key: id(), session: id() };
        rows.workspace().await;
        rows.member(rows.owner, "ada@example.com", "owner").await;
        rows.member(rows.guest, "bob@example.com", "guest").await;
        rows.vault().await;
        rows.revision("item.create", 1).await;
        rows.revision("item.edit", 2).await;
        rows.share(rows.guest, "viewer").await;
        rows.session().await;
        let report = rows.log.report(true).await;
        assert!(report.is_sound(), "{report}");
        rows
    }

    async fn workspace(&self) {
        let facts = vec![
            ("slug", "demo".into()),
            ("name_digest", Fact::Bytes(digest(b"Demo").to_vec())),
            ("external_keys", true.into()),
            ("require_code", false.into()),
        ];
        let workspace = self.log.workspace;
        let event = self.log.event("workspace.create", Target::Workspace(workspace), facts);
        let write = move |tx: &mut Tx<'_>| {
            tx.execute(
                "INSERT INTO workspaces (id, slug, name, external_keys, require_code, created_at, revision) \
                 VALUES ($1, 'demo', 'Demo', 1, 0, 1, 1)",
                &[workspace.0.into()],
            )?;
            tx.record(&event)
        };
        self.log.store.write(write).await.expect("written");
    }

    async fn member(&self, id: Uuid, email: &'static str, role: &'static str) {
        // name, password hash, second factor: each with its length, the absent one with all bits set.
        let row = [&4u64.to_be_bytes()[..], b"Name", &4u64.to_be_bytes(), b"hash", &[0xff; 8]].concat();
        let facts = vec![
            ("member", id.into()),
            ("role", role.into()),
            ("state", "active".into()),
            ("revision", 1u64.into()),
            ("email_digest", Fact::Bytes(digest(email.as_bytes()).to_vec())),
            ("row_digest", Fact::Bytes(digest(&row).to_vec())),
        ];
        let event = self.log.event("member.add", Target::Member(MemberId(id)), facts);
        let workspace = self.log.workspace;
        let write = move |tx: &mut Tx<'_>| {
            insert_member(tx, workspace, id, email, role)?;
            tx.record(&event)
        };
        self.log.store.write(write).await.expect("written");
    }

    async fn vault(&self) {
        let (vault, provider, workspace) = (self.vault, random_id(START), self.log.workspace);
        let target = Target::Vault(VaultId(vault));
        let made = vec![
            ("strategy", "cloud".into()),
            ("provider", provider.into()),
            ("generation", 1u64.into()),
            ("policy_digest", Fact::Bytes(digest(b"policy").to_vec())),
        ];
        let key = vec![
            ("generation", 1u64.into()),
            ("kid", "local:1".into()),
            ("wrap_digest", Fact::Bytes(digest(b"wrap").to_vec())),
        ];
        let events = [
            self.log.event("vault.create", target, made),
            self.log.event("key.create", target, key),
            self.log.event("vault.default", target, vec![]),
        ];
        let write = move |tx: &mut Tx<'_>| {
            let ids = [Param::Id(vault), Param::Id(workspace.0), Param::Id(provider)];
            tx.execute(
                "INSERT INTO vaults (id, workspace_id, name, name_key, strategy, state, lease_seconds, generation, \
                                     provider_id, may_leave, created_at, revision, policy_mac) \
                 VALUES ($1, $2, 'Cloud', 'cloud', 'cloud', 'active', 300, 1, $3, 0, 1, 1, $4)",
                &[ids[0], ids[1], ids[2], Param::Bytes(b"policy")],
            )?;
            tx.execute(
                "INSERT INTO providers (id, vault_id, kind, tenant_id, client_id, vault_url, key_name, credential_id, \
                                        sealed_credential, created_at, revision, row_mac) \
                 VALUES ($2, $1, 'cloud', '', '', '', '', $2, $3, 1, 1, $3)",
                &[ids[0], ids[2], Param::Bytes(b"bytes")],
            )?;
            tx.execute(
                "INSERT INTO generations (vault_id, generation, kid, created_at) VALUES ($1, 1, 'local:1', 1)",
                &ids[..1],
            )?;
            insert_wrap(tx, vault, 1, "local:1", b"wrap")?;
            tx.execute("UPDATE workspaces SET default_vault_id = $1", &ids[..1])?;
            events.iter().try_for_each(|event| tx.record(event))
        };
        self.log.store.write(write).await.expect("written");
    }

    /// The next revision, in place of the one before, which becomes history.
    async fn revision(&self, action: &'static str, revision: u64) {
        let (overview, details) = self.blobs(revision);
        let facts = vec![
            ("vault", self.vault.into()),
            ("revision", revision.into()),
            ("data_key", self.data_key.into()),
            ("overview", Fact::Bytes(commitment(&overview).expect("a blob").0.to_vec())),
            ("details", Fact::Bytes(commitment(&details).expect("a blob").0.to_vec())),
        ];
        let mut event = self.log.event(action, Target::Item(ItemId(self.item)), facts);
        event.actor = Actor::Session(MemberId(self.owner), SessionId(self.session));
        let (item, vault, key, owner) = (self.item, self.vault, self.data_key, self.owner);
        let workspace = self.log.workspace;
        let write = move |tx: &mut Tx<'_>| {
            let blobs = [Param::Id(item), revision.into(), Param::Bytes(&overview), Param::Bytes(&details)];
            if revision == 1 {
                insert_item(tx, [item, workspace.0, vault, key, owner], &overview, &details)?;
            } else {
                tx.execute(
                    "INSERT INTO item_revisions (item_id, revision, data_key_id, sealed_overview, sealed_details, \
                                                 created_by, created_at) \
                     SELECT id, revision, data_key_id, sealed_overview, sealed_details, updated_by, updated_at FROM items",
                    &[],
                )?;
                tx.execute(
                    "UPDATE items SET revision = $2, sealed_overview = $3, sealed_details = $4 WHERE id = $1",
                    &blobs,
                )?;
            }
            tx.record(&event)
        };
        self.log.store.write(write).await.expect("written");
    }

    /// The start of a job.
    async fn job(&self, kind: &'static str, target: Option<Uuid>) -> Uuid {
        let job = random_id(START);
        let mut facts: Vec<(&str, Fact)> = vec![("job", job.into()), ("kind", kind.into()), ("total", 1u64.into())];
        facts.extend([("whole", 1u64.into()), ("weakens", 0u64.into())]);
        facts.extend(target.map(|target| ("target", target.into())));
        self.log.record(self.log.event("job.start", Target::Vault(VaultId(self.vault)), facts)).await;
        job
    }

    /// Both revisions under a fresh data key, as a re-encryption by `job` writes them.
    async fn reseal(&self, job: Uuid) {
        let (key, item, vault) = (random_id(START), self.item, self.vault);
        let sealed: Vec<_> = [1, 2].into_iter().map(|revision| (revision, self.blobs(revision))).collect();
        let events: Vec<_> = (sealed.iter())
            .map(|(revision, (overview, details))| {
                let facts = vec![
                    ("vault", vault.into()),
                    ("revision", (*revision).into()),
                    ("data_key", key.into()),
                    ("overview", Fact::Bytes(commitment(overview).expect("a blob").0.to_vec())),
                    ("details", Fact::Bytes(commitment(details).expect("a blob").0.to_vec())),
                    ("job", job.into()),
                ];
                self.log.event("item.reencrypt", Target::Item(ItemId(item)), facts)
            })
            .collect();
        let write = move |tx: &mut Tx<'_>| {
            insert_data_key(tx, key, item, vault)?;
            for (revision, (overview, details)) in &sealed {
                let blobs = [Param::Id(item), Param::Id(key), Param::Bytes(overview), Param::Bytes(details)];
                let (table, id) = if *revision == 2 { ("items", "id") } else { ("item_revisions", "item_id") };
                let sql = format!(
                    "UPDATE {table} SET data_key_id = $2, sealed_overview = $3, sealed_details = $4 WHERE {id} = $1"
                );
                tx.execute(&sql, &blobs)?;
            }
            tx.execute("DELETE FROM data_keys WHERE id <> $1", &[key.into()])?;
            events.iter().try_for_each(|event| tx.record(event))
        };
        self.log.store.write(write).await.expect("written");
    }

    fn blobs(&self, revision: u64) -> (Vec<u8>, Vec<u8>) {
        let random = SystemRandom::new();
        let key = DataKey::generate(&random).expect("the system gives randomness");
        let bytes = |id: Uuid| *id.as_bytes();
        let (workspace, vault) = (self.log.workspace.bytes(), bytes(self.vault));
        let place = ItemPlace { workspace, vault, item: bytes(self.item), data_key: bytes(self.data_key), revision };
        let sealed = |context| seal(&key, &context, &pad_256(b"text".to_vec()), &random).expect("it seals");
        (sealed(Context::Overview(place)), sealed(Context::Details(place)))
    }

    async fn share(&self, member: Uuid, role: &'static str) {
        let facts = vec![("member", member.into()), ("role", role.into())];
        let event = self.log.event("item.grant", Target::Item(ItemId(self.item)), facts);
        let (item, owner) = (self.item, self.owner);
        let write = move |tx: &mut Tx<'_>| {
            insert_role(tx, item, member, role, owner)?;
            tx.record(&event)
        };
        self.log.store.write(write).await.expect("written");
    }

    async fn session(&self) {
        let (session, owner) = (self.session, self.owner);
        let facts = vec![("member", owner.into()), ("expires_at", 9u64.into()), ("address", "127.0.0.1".into())];
        let event = self.log.event("session.create", Target::Session(SessionId(session)), facts);
        let write = move |tx: &mut Tx<'_>| {
            insert_session(tx, session, owner)?;
            tx.record(&event)
        };
        self.log.store.write(write).await.expect("written");
    }

    /// An event whose row is changed by `sql`, as a use case does it.
    async fn change(&self, sql: &'static str, action: &'static str, target: Target, facts: Vec<(&'static str, Fact)>) {
        let event = self.log.event(action, target, facts);
        let write = move |tx: &mut Tx<'_>| {
            tx.execute(sql, &[])?;
            tx.record(&event)
        };
        self.log.store.write(write).await.expect("written");
    }

    /// The rows that a report names: table, id, and how they differ.
    async fn named(&self) -> Vec<(&'static str, String, Wrong)> {
        let report = self.log.report(true).await;
        assert_eq!(report.faults, [], "the log itself is whole");
        let state = report.state.expect("it was asked for");
        state.faults.into_iter().map(|fault| (fault.table, fault.id, fault.wrong)).collect()
    }

    async fn sql(&self, sql: &'static str) {
        self.log.tamper(move |tx| tx.execute(sql, &[])).await;
    }
}

fn insert_member(tx: &mut Tx<'_>, workspace: WorkspaceId, id: Uuid, email: &str, role: &str) -> Result<u64> {
    tx.execute(
        "INSERT INTO members (id, workspace_id, email, name, role, password_hash, totp_confirmed, totp_last_step, \
                              created_at, revision) VALUES ($1, $2, $3, 'Name', $4, 'hash', 0, 0, 1, 1)",
        &[id.into(), workspace.0.into(), email.into(), role.into()],
    )
}

fn insert_wrap(tx: &mut Tx<'_>, vault: Uuid, generation: u64, kid: &str, wrapped: &[u8]) -> Result<u64> {
    tx.execute(
        "INSERT INTO wraps (vault_id, generation, kid, provider_id, algorithm, wrapped, created_at, row_mac) \
         VALUES ($1, $2, $3, $1, 'RSA-OAEP-256', $4, 1, $4)",
        &[vault.into(), generation.into(), kid.into(), wrapped.into()],
    )
}

/// Ids: item, workspace, vault, data key, creator.
fn insert_item(tx: &mut Tx<'_>, ids: [Uuid; 5], overview: &[u8], details: &[u8]) -> Result<u64> {
    let [item, workspace, vault, key, owner] = ids.map(Param::Id);
    tx.execute(
        "INSERT INTO items (id, workspace_id, vault_id, revision, data_key_id, sealed_overview, sealed_details, \
                            created_by, created_at, updated_by, updated_at) \
         VALUES ($1, $2, $3, 1, $4, $5, $6, $7, 1, $7, 1)",
        &[item, workspace, vault, key, overview.into(), details.into(), owner],
    )?;
    insert_data_key(tx, ids[3], ids[0], ids[2])?;
    insert_role(tx, ids[0], ids[4], "owner", ids[4])
}

fn insert_data_key(tx: &mut Tx<'_>, key: Uuid, item: Uuid, vault: Uuid) -> Result<u64> {
    tx.execute(
        "INSERT INTO data_keys (id, item_id, vault_id, generation, wrapped, created_at) VALUES ($1, $2, $3, 1, $4, 1)",
        &[key.into(), item.into(), vault.into(), Param::Bytes(b"wrapped")],
    )
}

fn insert_role(tx: &mut Tx<'_>, item: Uuid, member: Uuid, role: &str, by: Uuid) -> Result<u64> {
    tx.execute(
        "INSERT INTO item_roles (item_id, member_id, role, granted_by, granted_at) VALUES ($1, $2, $3, $4, 1)",
        &[item.into(), member.into(), role.into(), by.into()],
    )
}

fn insert_session(tx: &mut Tx<'_>, session: Uuid, member: Uuid) -> Result<u64> {
    tx.execute(
        "INSERT INTO sessions (id, token_mac, member_id, created_at, signed_in_at, last_seen_at, expires_at, address, \
                               agent) VALUES ($1, $3, $2, 1, 1, 1, 9, '', '')",
        &[session.into(), member.into(), Param::Bytes(session.as_bytes())],
    )
}

#[tokio::test]
async fn a_planted_member_is_named() {
    let rows = Rows::new().await;
    let (id, workspace) = (random_id(START), rows.log.workspace);
    rows.log.tamper(move |tx| insert_member(tx, workspace, id, "eve@example.com", "admin")).await;
    assert_eq!(rows.named().await, [("members", id.to_string(), Wrong::Planted)]);
}

#[tokio::test]
async fn a_member_planted_under_the_lowest_id_is_named() {
    let rows = Rows::new().await;
    let workspace = rows.log.workspace;
    rows.log.tamper(move |tx| insert_member(tx, workspace, Uuid::nil(), "eve@example.com", "admin")).await;
    assert_eq!(rows.named().await, [("members", Uuid::nil().to_string(), Wrong::Planted)]);
}

#[tokio::test]
async fn an_altered_role_password_or_address_of_a_member_is_named() {
    for sql in [
        "UPDATE members SET role = 'admin' WHERE role = 'guest'",
        "UPDATE members SET password_hash = 'of the attacker' WHERE role = 'guest'",
        "UPDATE members SET email = 'eve@example.com' WHERE role = 'guest'",
        "UPDATE members SET removed_at = 1 WHERE role = 'guest'",
    ] {
        let rows = Rows::new().await;
        rows.sql(sql).await;
        assert_eq!(rows.named().await, [("members", rows.guest.to_string(), Wrong::Altered)], "{sql}");
    }
}

#[tokio::test]
async fn a_role_that_was_taken_away_and_rolled_back_is_named() {
    let rows = Rows::new().await;
    let workspace = rows.log.workspace;
    let old = rows.guest;
    // The guest is a user for a while: revision 2, then somebody restores the row of revision 1.
    let row = [&4u64.to_be_bytes()[..], b"Name", &4u64.to_be_bytes(), b"hash", &[0xff; 8]].concat();
    let facts = vec![
        ("member", old.into()),
        ("role", "user".into()),
        ("state", "active".into()),
        ("revision", 2u64.into()),
        ("email_digest", Fact::Bytes(digest(b"bob@example.com").to_vec())),
        ("row_digest", Fact::Bytes(digest(&row).to_vec())),
    ];
    let target = Target::Member(MemberId(old));
    rows.change("UPDATE members SET role = 'user', revision = 2 WHERE role = 'guest'", "member.role", target, facts)
        .await;
    assert_eq!(rows.named().await, [], "in workspace {workspace}");
    rows.sql("UPDATE members SET role = 'guest', revision = 1 WHERE role = 'user'").await;
    assert_eq!(rows.named().await, [("members", old.to_string(), Wrong::RolledBack)]);
}

#[tokio::test]
async fn planted_altered_and_missing_shares_are_named() {
    let rows = Rows::new().await;
    rows.sql("UPDATE item_roles SET role = 'owner' WHERE role = 'viewer'").await;
    let share = format!("{}/{}", rows.item, rows.guest);
    assert_eq!(rows.named().await, [("item_roles", share.clone(), Wrong::Altered)]);
    rows.sql("DELETE FROM item_roles WHERE granted_by <> member_id").await;
    assert_eq!(rows.named().await, [("item_roles", share.clone(), Wrong::Missing)]);
    let target = Target::Item(ItemId(rows.item));
    rows.log.record(rows.log.event("item.ungrant", target, vec![("member", rows.guest.into())])).await;
    assert_eq!(rows.named().await, []);
    let (item, guest) = (rows.item, rows.guest);
    rows.log.tamper(move |tx| insert_role(tx, item, guest, "viewer", guest)).await;
    assert_eq!(rows.named().await, [("item_roles", share, Wrong::RolledBack)]);
    let rows = Rows::new().await;
    rows.member(random_id(START), "joan@example.com", "user").await;
    rows.sql(
        "INSERT INTO item_roles SELECT i.id, m.id, 'editor', m.id, 1 FROM items i, members m WHERE m.role = 'user'",
    )
    .await;
    assert!(matches!(&rows.named().await[..], [("item_roles", _, Wrong::Planted)]));
}

#[tokio::test]
async fn an_item_rolled_back_to_an_older_revision_is_named() {
    let rows = Rows::new().await;
    rows.sql(
        "UPDATE items SET revision = 1, sealed_overview = r.sealed_overview, sealed_details = r.sealed_details \
         FROM item_revisions r WHERE r.item_id = items.id",
    )
    .await;
    assert_eq!(rows.named().await, [("items", rows.item.to_string(), Wrong::RolledBack)]);
    // Written again after that, it is current in the database, and the log still tells.
    rows.sql("DELETE FROM item_revisions").await;
    rows.revision("item.edit", 2).await;
    assert_eq!(rows.named().await, [("items", rows.item.to_string(), Wrong::RolledBack)]);
}

#[tokio::test]
async fn a_blob_of_another_revision_under_the_current_number_is_named() {
    let rows = Rows::new().await;
    rows.sql(
        "UPDATE items SET sealed_overview = r.sealed_overview, sealed_details = r.sealed_details \
         FROM item_revisions r WHERE r.item_id = items.id",
    )
    .await;
    assert_eq!(rows.named().await, [("items", rows.item.to_string(), Wrong::RolledBack)]);
}

#[tokio::test]
async fn planted_and_deleted_items_revisions_and_data_keys_are_named() {
    let rows = Rows::new().await;
    let ids = [random_id(START), rows.log.workspace.0, rows.vault, random_id(START), rows.owner];
    let (overview, details) = rows.blobs(1);
    rows.log.tamper(move |tx| insert_item(tx, ids, &overview, &details)).await;
    let planted = [
        ("items", ids[0].to_string(), Wrong::Planted),
        ("data_keys", ids[3].to_string(), Wrong::Planted),
        ("item_roles", format!("{}/{}", ids[0], ids[4]), Wrong::Planted),
    ];
    assert_eq!(rows.named().await, planted);

    let rows = Rows::new().await;
    rows.sql("UPDATE item_revisions SET revision = 7").await;
    let revision = |revision| format!("{}/{revision}", rows.item);
    let found = [("item_revisions", revision(7), Wrong::Planted), ("item_revisions", revision(1), Wrong::Missing)];
    assert_eq!(rows.named().await, found);

    let rows = Rows::new().await;
    for sql in ["DELETE FROM item_revisions", "DELETE FROM item_roles", "DELETE FROM data_keys", "DELETE FROM items"] {
        rows.sql(sql).await;
    }
    let tables: Vec<_> = rows.named().await.into_iter().map(|(table, _, wrong)| (table, wrong)).collect();
    let missing = |table| (table, Wrong::Missing);
    let roles = missing("item_roles");
    assert_eq!(tables, [missing("items"), missing("item_revisions"), missing("data_keys"), roles, roles]);
}

#[tokio::test]
async fn an_item_taken_out_of_the_trash_behind_the_log_is_named() {
    let rows = Rows::new().await;
    let target = Target::Item(ItemId(rows.item));
    rows.change("UPDATE items SET trashed_at = 1", "item.trash", target, vec![("revision", 2u64.into())]).await;
    assert_eq!(rows.named().await, []);
    rows.sql("UPDATE items SET trashed_at = NULL").await;
    assert_eq!(rows.named().await, [("items", rows.item.to_string(), Wrong::Altered)]);
}

#[tokio::test]
async fn a_purged_item_that_comes_back_is_named() {
    let rows = Rows::new().await;
    let target = Target::Item(ItemId(rows.item));
    for action in ["item.trash", "item.purge"] {
        rows.log.record(rows.log.event(action, target, vec![("revision", 2u64.into())])).await;
    }
    let named = rows.named().await;
    assert_eq!(named[0], ("items", rows.item.to_string(), Wrong::RolledBack));
    assert_eq!(named.len(), 5, "its history, data key and two roles too: {named:?}");
}

#[tokio::test]
async fn vaults_generations_and_wraps_that_were_changed_are_named() {
    let id = |rows: &Rows, rest: &str| format!("{}{rest}", rows.vault);
    for (sql, table, rest, wrong) in [
        ("UPDATE vaults SET policy_mac = x'00'", "vaults", "", Wrong::RolledBack),
        ("UPDATE vaults SET strategy = 'azure_external_keys'", "vaults", "", Wrong::Altered),
        ("UPDATE generations SET kid = 'local:0'", "generations", "/1", Wrong::Altered),
        ("UPDATE wraps SET wrapped = x'00'", "wraps", "/1/local:1", Wrong::Altered),
        ("DELETE FROM wraps", "wraps", "/1/local:1", Wrong::Missing),
    ] {
        let rows = Rows::new().await;
        rows.sql(sql).await;
        assert_eq!(rows.named().await, [(table, id(&rows, rest), wrong)], "{sql}");
    }
    let rows = Rows::new().await;
    let vault = rows.vault;
    rows.log.tamper(move |tx| insert_wrap(tx, vault, 1, "local:2", b"wrap")).await;
    assert_eq!(rows.named().await, [("wraps", id(&rows, "/1/local:2"), Wrong::Planted)]);
}

/// The facts of generation 1 rewrapped to `local:2`.
fn rewrapped() -> Vec<(&'static str, Fact)> {
    vec![
        ("generation", 1u64.into()),
        ("kid", "local:2".into()),
        ("wrap_digest", Fact::Bytes(digest(b"wrap 2").to_vec())),
        ("provider", random_id(START).into()),
        ("from", "local:1".into()),
    ]
}

#[tokio::test]
async fn a_vault_made_while_the_clock_was_ahead_is_followed() {
    let rows = Rows::new().await;
    rows.log.now.fetch_sub(600_000, Ordering::Relaxed);
    let rows = Rows { log: rows.log.restarted(), ..rows };
    let (vault, target) = (rows.vault, Target::Vault(VaultId(rows.vault)));
    rows.log.tamper(move |tx| insert_wrap(tx, vault, 1, "local:2", b"wrap 2")).await;
    rows.change("UPDATE generations SET kid = 'local:2'", "key.rewrap", target, rewrapped()).await;
    let facts = vec![("renamed", 0u64.into()), ("policy_digest", Fact::Bytes(digest(b"closed").to_vec()))];
    rows.change("UPDATE vaults SET policy_mac = x'636c6f736564'", "vault.edit", target, facts).await;
    assert_eq!(rows.named().await, []);
}

#[tokio::test]
async fn a_generation_rolled_back_is_named() {
    let rows = Rows::new().await;
    let vault = rows.vault;
    rows.log.tamper(move |tx| insert_wrap(tx, vault, 1, "local:2", b"wrap 2")).await;
    let target = Target::Vault(VaultId(vault));
    rows.change("UPDATE generations SET kid = 'local:2'", "key.rewrap", target, rewrapped()).await;
    assert_eq!(rows.named().await, []);
    rows.sql("UPDATE generations SET kid = 'local:1'").await;
    assert_eq!(rows.named().await, [("generations", format!("{vault}/1"), Wrong::RolledBack)]);
}

#[tokio::test]
async fn a_dropped_wrap_or_retired_generation_that_comes_back_is_named() {
    let rows = Rows::new().await;
    let (vault, target) = (rows.vault, Target::Vault(VaultId(rows.vault)));
    let facts = |generation: u64, wrap: &[u8], kid: &str| {
        vec![
            ("generation", generation.into()),
            ("kid", kid.into()),
            ("wrap_digest", Fact::Bytes(digest(wrap).to_vec())),
            ("provider", random_id(START).into()),
        ]
    };
    rows.log.tamper(move |tx| insert_wrap(tx, vault, 1, "local:2", b"wrap 2")).await;
    let rewrap = [facts(1, b"wrap 2", "local:2"), vec![("from", "local:1".into())]].concat();
    rows.change("UPDATE generations SET kid = 'local:2'", "key.rewrap", target, rewrap).await;
    assert_eq!(rows.named().await, []);
    let dropped = vec![("generation", 1u64.into()), ("kid", "local:1".into()), ("in_use", "local:2".into())];
    rows.change("DELETE FROM wraps WHERE kid = 'local:1'", "key.wrap_dropped", target, dropped).await;
    assert_eq!(rows.named().await, []);
    rows.log.tamper(move |tx| insert_wrap(tx, vault, 1, "local:1", b"wrap")).await;
    assert_eq!(rows.named().await, [("wraps", format!("{vault}/1/local:1"), Wrong::RolledBack)]);
    rows.sql("DELETE FROM wraps WHERE kid = 'local:1'").await;

    rows.log.tamper(move |tx| insert_wrap(tx, vault, 2, "local:2", b"wrap of 2")).await;
    rows.sql("INSERT INTO generations (vault_id, generation, kid, created_at) SELECT id, 2, 'local:2', 1 FROM vaults")
        .await;
    let policy = vec![("policy_digest", Fact::Bytes(digest(b"policy").to_vec()))];
    let rotate = [facts(2, b"wrap of 2", "local:2"), policy].concat();
    rows.change("UPDATE vaults SET generation = 2", "key.rotate", target, rotate).await;
    assert_eq!(rows.named().await, []);
    rows.sql("DELETE FROM wraps WHERE generation = 1").await;
    let retired = vec![("generation", 1u64.into())];
    rows.change("DELETE FROM generations WHERE generation = 1", "key.retire", target, retired).await;
    assert_eq!(rows.named().await, []);
    rows.sql("INSERT INTO generations (vault_id, generation, kid, created_at) SELECT id, 1, 'local:1', 1 FROM vaults")
        .await;
    assert_eq!(rows.named().await, [("generations", format!("{vault}/1"), Wrong::Planted)]);
}

#[tokio::test]
async fn an_item_sealed_anew_is_followed_and_one_put_back_to_before_that_is_named() {
    let rows = Rows::new().await;
    let (item, vault, key) = (rows.item, rows.vault, rows.data_key);
    let read = |tx: &mut Tx<'_>| {
        let sql = "SELECT sealed_overview, sealed_details FROM items";
        tx.first(sql, &[], |row| Ok((row.get::<Vec<u8>>(0)?, row.get::<Vec<u8>>(1)?)))
    };
    let (overview, details) = rows.log.store.read(read).await.expect("read").expect("a row");
    rows.reseal(rows.job("reencrypt", None).await).await;
    assert_eq!(rows.named().await, []);
    rows.log.tamper(move |tx| insert_data_key(tx, key, item, vault)).await;
    assert_eq!(rows.named().await, [("data_keys", key.to_string(), Wrong::RolledBack)]);
    rows.log
        .tamper(move |tx| {
            tx.execute(
                "UPDATE items SET data_key_id = $1, sealed_overview = $2, sealed_details = $3",
                &[key.into(), (&overview).into(), (&details).into()],
            )
        })
        .await;
    let named = rows.named().await;
    assert_eq!(named[0], ("items", item.to_string(), Wrong::RolledBack));
    assert_eq!(named[1], ("data_keys", key.to_string(), Wrong::RolledBack));
}

#[tokio::test]
async fn items_sealed_anew_by_a_job_that_nobody_started_so_are_named() {
    let rows = Rows::new().await;
    let (unknown, elsewhere) = (random_id(START), Some(random_id(START)));
    for job in [unknown, rows.job("move", Some(rows.vault)).await, rows.job("rotate", elsewhere).await] {
        rows.reseal(job).await;
        let named = rows.named().await;
        assert!(named.contains(&("jobs", job.to_string(), Wrong::Planted)), "{named:?}");
    }
}

#[tokio::test]
async fn an_item_that_was_purged_though_nobody_put_it_in_the_trash_is_named() {
    let rows = Rows::new().await;
    let target = Target::Item(ItemId(rows.item));
    for sql in ["DELETE FROM item_revisions", "DELETE FROM item_roles", "DELETE FROM data_keys"] {
        rows.sql(sql).await;
    }
    rows.change("DELETE FROM items", "item.purge", target, vec![("revision", 2u64.into())]).await;
    assert_eq!(rows.named().await, [("items", rows.item.to_string(), Wrong::Missing)]);
}

#[tokio::test]
async fn a_workspace_whose_settings_or_default_vault_changed_is_named() {
    for sql in [
        "UPDATE workspaces SET require_code = 1",
        "UPDATE workspaces SET default_vault_id = NULL",
        "UPDATE workspaces SET name = 'Another'",
    ] {
        let rows = Rows::new().await;
        rows.sql(sql).await;
        assert_eq!(rows.named().await, [("workspaces", rows.log.workspace.to_string(), Wrong::Altered)], "{sql}");
    }
}

#[tokio::test]
async fn planted_stretched_and_revived_sessions_are_named() {
    let rows = Rows::new().await;
    let (planted, owner) = (random_id(START), rows.owner);
    rows.log.tamper(move |tx| insert_session(tx, planted, owner)).await;
    assert_eq!(rows.named().await, [("sessions", planted.to_string(), Wrong::Planted)]);

    let rows = Rows::new().await;
    rows.sql("UPDATE sessions SET expires_at = 99").await;
    let session = rows.session.to_string();
    assert_eq!(rows.named().await, [("sessions", session, Wrong::Altered)]);

    let rows = Rows::new().await;
    let target = Target::Session(SessionId(rows.session));
    rows.change("UPDATE sessions SET revoked_at = 1", "session.revoke", target, vec![]).await;
    assert_eq!(rows.named().await, []);
    rows.sql("UPDATE sessions SET revoked_at = NULL").await;
    assert_eq!(rows.named().await, [("sessions", rows.session.to_string(), Wrong::RolledBack)]);
}

#[tokio::test]
async fn a_forged_event_does_not_vouch_for_a_planted_row() {
    let rows = Rows::new().await;
    rows.log.tamper(|tx| tx.execute("UPDATE audit_events SET bytes = x'00' WHERE action = 'item.grant'", &[])).await;
    let report = rows.log.report(true).await;
    assert_eq!(report.faults.len(), 1);
    let state = report.state.expect("it was asked for");
    assert_eq!(state.faults[0].id, format!("{}/{}", rows.item, rows.guest));
}

#[tokio::test]
async fn grants_of_two_chains_at_the_same_time_may_have_ended_either_way() {
    let rows = Rows::new().await;
    let target = Target::Item(ItemId(rows.item));
    let at = |event: Event, millis: i64| Event {
        at: Timestamp::from_millisecond(START + 3_600_000 + millis).expect("in range"),
        ..event
    };
    let away = at(rows.log.event("item.ungrant", target, vec![("member", rows.guest.into())]), 0);
    let facts = vec![("member", rows.guest.into()), ("role", "editor".into())];
    let given = at(rows.log.event("item.grant", target, facts), 500);
    rows.log.record(given).await;
    let rows = Rows { log: rows.log.restarted(), ..rows };
    rows.log.record(away).await;
    rows.sql("UPDATE item_roles SET role = 'editor' WHERE role = 'viewer'").await;
    assert_eq!(rows.named().await, [], "the grant came last");
    rows.sql("DELETE FROM item_roles WHERE role = 'editor'").await;
    assert_eq!(rows.named().await, [], "the grant came first");
    let (item, guest) = (rows.item, rows.guest);
    rows.log.tamper(move |tx| insert_role(tx, item, guest, "owner", guest)).await;
    assert_eq!(rows.named().await.len(), 1, "but nobody made an owner");
}

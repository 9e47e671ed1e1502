//! A day of use, through the use cases: what they record is what verification needs. And reading the log in pages.

use std::net::Ipv4Addr;

use super::*;
use crate::{
    access::{ItemRole, Role},
    app::{App, Caller},
    clock::SystemClock,
    config::Config,
    error::Error,
    item::{Content, Field, FieldKind, Filter, ItemType, Patch},
    member::{Join, NewMember, Origin, Setup},
    server,
    vault::VaultEdit,
    workspace::Edit,
};

struct Office {
    app: Arc<App>,
    url: String,
    owner: Caller,
    _folder: tempfile::TempDir,
}

fn origin() -> Origin {
    Origin { address: Ipv4Addr::LOCALHOST.into(), agent: "test".into() }
}

fn account(title: &str) -> Content {
    Content {
        item_type: ItemType::Account,
        kind: None,
        title: title.into(),
        urls: vec![],
        usernames: vec![],
        labels: vec![],
        fields: vec![Field::new("Password", FieldKind::Password, "hunter2 is not it".into())],
    }
}

impl Office {
    /// On the database that `url` names, or on SQLite in a folder of its own.
    async fn open(url: Option<String>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let url = url.unwrap_or_else(|| format!("sqlite:{}", path("db")));
        let text = format!("[database]\nurl = \"{url}\"\n[instance]\nkey_file = \"{}\"\n", path("key"));
        let config = Config::parse(&text, "the test", []).unwrap_or_else(|error| panic!("{error}"));
        let random = Arc::new(SystemRandom::new());
        let app = server::open(&config, Arc::new(SystemClock), random).await.expect("opened").app;
        let link = app.setup_link().await.expect("made").expect("an empty store");
        let setup = Setup {
            workspace: "Demo".into(),
            slug: "demo".into(),
            name: "Ada".into(),
            email: "Ada@Example.com".into(),
            password: "correct horse battery".into(),
        };
        let session = app.open_setup(link.token.expose(), setup, &origin()).await.expect("set up");
        let owner = app.caller_by_session(session.token.expose()).await.expect("signed in");
        Self { app, url, owner, _folder: folder }
    }

    async fn member(&self, email: &str, role: Role) -> Caller {
        let new = NewMember { email: email.into(), name: "Bob".into(), role };
        let invited = self.app.invite(&self.owner, new).await.expect("invited");
        let join = Join { name: "Bob".into(), password: "battery staple correct".into() };
        let session = self.app.join(invited.link.token.expose(), join, &origin()).await.expect("joined");
        self.app.caller_by_session(session.token.expose()).await.expect("signed in")
    }

    /// Nearly everything that changes a row.
    async fn day(&self) {
        let (app, owner) = (&self.app, &self.owner);
        let user = self.member("bob@example.com", Role::User).await;
        let guest = self.member("eve@example.com", Role::Guest).await;
        let item = app.create_item(&user, None, account("Mail")).await.expect("created").id;
        let edit = Patch { title: Some("Post".into()), ..Patch::default() };
        app.edit_item(&user, item, 1, edit).await.expect("edited");
        app.restore_revision(&user, item, 1).await.expect("restored");
        app.share_item(&user, item, guest.member, ItemRole::Viewer).await.expect("shared");
        app.share_item(&user, item, guest.member, ItemRole::Editor).await.expect("shared");
        app.unshare_item(&user, item, guest.member).await.expect("unshared");
        app.reveal_item(&user, item, None).await.expect("revealed");
        app.find_items(&user, Filter { limit: 10, ..Filter::default() }).await.expect("listed");
        app.take_over_item(owner, item).await.expect("taken over");
        app.trash_item(&user, item, None).await.expect("trashed");
        app.untrash_item(&user, item).await.expect("restored");
        let second = app.create_item(&user, None, account("Bank")).await.expect("created").id;
        app.trash_item(&user, second, None).await.expect("trashed");
        let token = app.create_token(owner, "laptop", 30).await.expect("made").token;
        app.revoke_token(owner, token.id).await.expect("revoked");
        app.change_role(owner, guest.member, None, Role::User).await.expect("changed");
        app.remove_member(owner, user.member, owner.member).await.expect("removed");
        app.revoke_other_sessions(owner).await.expect("revoked");
        let vault = app.vaults(owner).await.expect("listed")[0].id;
        let shorter = VaultEdit { name: Some("Ours".into()), lease_seconds: Some(60), ..VaultEdit::default() };
        app.edit_vault(owner, vault, None, shorter).await.expect("edited");
        let revision = app.workspace(owner).await.expect("seen").revision;
        let edit = Edit { name: Some("Renamed".into()), external_keys: Some(false), ..Edit::default() };
        app.edit_workspace(owner, edit, revision).await.expect("edited");
    }

    async fn report(&self) -> Report {
        verify(&self.app.store, Arc::clone(&self.app.keys), true).await.expect("the log can be read")
    }
}

#[tokio::test]
async fn after_a_day_of_use_every_row_says_what_the_log_says() {
    let office = Office::open(None).await;
    office.day().await;
    let report = office.report().await;
    assert!(report.is_sound(), "{report}");
    let reader = Store::open_read_only(&office.url).expect("beside the server");
    let same = verify(&reader, Arc::clone(&office.app.keys), true).await.expect("the log can be read");
    assert_eq!(same, report);
    office
        .app
        .store
        .write(|tx| tx.execute("UPDATE members SET password_hash = 'planted' WHERE role = 'owner'", &[]))
        .await
        .expect("the database lets it happen");
    let state = office.report().await.state.expect("it was asked for");
    assert_eq!(state.faults.len(), 1);
    assert_eq!(state.faults[0].id, office.owner.member.to_string());
}

#[tokio::test]
async fn after_a_day_of_use_every_row_says_what_the_log_says_on_postgres() {
    let server = std::env::var("STRONGROOM_TEST_POSTGRES").expect("cargo xtask test starts a server and names it");
    let name = format!("audit_{}", random_id(START).simple());
    let url = format!("{}/{name}", server.rsplit_once('/').expect("a URL names a database").0);
    let made = tokio::task::spawn_blocking(move || {
        let mut client = postgres::Client::connect(&server, postgres::NoTls)?;
        client.batch_execute(&format!("CREATE DATABASE {name}"))
    });
    made.await.expect("it ends").expect("a database of its own");
    let office = Office::open(Some(url)).await;
    office.day().await;
    let reader = Store::open_read_only(&office.url).expect("beside the server");
    let report = verify(&reader, Arc::clone(&office.app.keys), true).await.expect("the log can be read");
    assert!(report.is_sound(), "{report}");
    let refused = reader.write(|tx| tx.execute("DELETE FROM audit_events", &[])).await;
    assert!(refused.is_err(), "a store that only reads");
    office
        .app
        .store
        .write(|tx| tx.execute("UPDATE items SET trashed_at = NULL WHERE trashed_at IS NOT NULL", &[]))
        .await
        .expect("the database lets it happen");
    let state = office.report().await.state.expect("it was asked for");
    assert_eq!(state.faults.len(), 1);
}

#[tokio::test]
async fn pages_of_the_log_come_newest_first_and_join_without_a_gap() {
    let office = Office::open(None).await;
    office.day().await;
    let (app, owner) = (&office.app, &office.owner);
    let filter = || AuditFilter { action: Some("item.".into()), ..AuditFilter::default() };
    let whole = app.audit_page(owner, filter(), None, 200).await.expect("read");
    assert_eq!((whole.next_cursor, whole.broken.len()), (None, 0));
    let whole: Vec<_> = whole.entries.into_iter().map(|entry| entry.event.id).collect();
    assert!(whole.is_sorted_by(|newer, older| newer > older));
    let (mut joined, mut cursor) = (Vec::new(), None);
    loop {
        let page = app.audit_page(owner, filter(), cursor.as_deref(), 4).await.expect("read");
        assert!(page.entries.iter().all(|entry| entry.event.action.starts_with("item.")));
        joined.extend(page.entries.into_iter().map(|entry| entry.event.id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(joined, whole);
    let reads = AuditFilter { action: Some("audit.read".into()), ..AuditFilter::default() };
    let reads = app.audit_page(owner, reads, None, 1).await.expect("read").entries;
    assert!(matches!(reads[0].event.fact("count"), Some(Fact::Number(1..=4))), "to read it is an event");
}

#[tokio::test]
async fn filters_narrow_the_log() {
    let office = Office::open(None).await;
    office.day().await;
    let (app, owner) = (&office.app, &office.owner);
    let page = async |filter| app.audit_page(owner, filter, None, 0).await.expect("read").entries;
    let mine = page(AuditFilter { actor: Some(owner.member), ..AuditFilter::default() }).await;
    assert!(!mine.is_empty() && mine.iter().all(|entry| entry.event.actor.member() == Some(owner.member)));
    let target = Some(office.owner.workspace.0);
    let here = page(AuditFilter { target, action: Some("workspace.settings".into()), ..AuditFilter::default() }).await;
    assert_eq!(here.len(), 1);
    let at = here[0].event.at;
    let later = page(AuditFilter { from: Some(at), ..AuditFilter::default() }).await;
    assert!(later.iter().all(|entry| entry.event.at >= at));
    let earlier = page(AuditFilter { to: Some(at), ..AuditFilter::default() }).await;
    assert!(!earlier.is_empty() && earlier.iter().all(|entry| entry.event.at < at));
    let failed = AuditFilter { outcome: Some(Outcome::Failed), ..AuditFilter::default() };
    assert_eq!(page(failed).await, []);
}

#[tokio::test]
async fn who_does_not_manage_reads_no_log_and_a_made_up_cursor_is_refused() {
    let office = Office::open(None).await;
    let user = office.member("bob@example.com", Role::User).await;
    let refused = office.app.audit_page(&user, AuditFilter::default(), None, 0).await.expect_err("refused");
    assert!(matches!(refused, Error::Denied(_)), "{refused}");
    for cursor in ["", "none", "AAAA"] {
        let page = office.app.audit_page(&office.owner, AuditFilter::default(), Some(cursor), 0).await;
        assert!(matches!(page, Err(Error::Invalid(_))), "{cursor}");
    }
}

#[tokio::test]
async fn an_event_that_is_not_genuine_is_named_and_not_shown() {
    let office = Office::open(None).await;
    let event = office.app.audit_page(&office.owner, AuditFilter::default(), None, 1).await.expect("read").entries;
    let id = event[0].event.id;
    office
        .app
        .store
        .write(move |tx| tx.execute("UPDATE audit_events SET action = 'item.view' WHERE id = $1", &[id.0.into()]))
        .await
        .expect("the database lets it happen");
    let page = office.app.audit_page(&office.owner, AuditFilter::default(), None, 200).await.expect("read");
    assert_eq!(page.broken, [id]);
    assert!(page.entries.iter().all(|entry| entry.event.id != id));
}

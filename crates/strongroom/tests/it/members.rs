//! Who may do what to whom, and what is left of a member who goes.

use strongroom::{
    access::{ItemRole, Role},
    app::Caller,
    id::ItemId,
    item::{Content, ItemType},
    member::{Grant, Join, NewMember, State},
    workspace::Edit,
};

use crate::world::{PASSWORD, World, email, new_member, on_both_engines, origin, refusal, text, wrong_fields};

#[test]
fn an_invitation_makes_a_member_who_joins_once() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        let invitation = app.invite(&owner, new_member("Uma", Role::User)).await.expect("an invitation");
        assert!(invitation.link.url.expose().starts_with("https://strongroom.example/join/srl_join_"));
        assert_eq!(invitation.member.state, State::Invited);
        assert_eq!(refusal(app.sign_in(&email("Uma"), text(PASSWORD), &origin()).await), "signin.wrong");
        let join = || Join { name: " Uma Thorn ".into(), password: text(PASSWORD) };
        app.join(invitation.link.token.expose(), join(), &origin()).await.expect("joined");
        let member = app.member(&owner, invitation.member.id).await.expect("a member");
        assert_eq!((member.state, member.name.as_str()), (State::Active, "Uma Thorn"));
        assert_eq!(refusal(app.join(invitation.link.token.expose(), join(), &origin()).await), "link.gone");
        assert_eq!(refusal(app.invite_again(&owner, member.id).await), "member.joined");
    });
}

#[test]
fn an_invitation_lasts_three_days_and_a_new_one_replaces_it() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        let first = app.invite(&owner, new_member("Uma", Role::User)).await.expect("an invitation");
        let second = app.invite_again(&owner, first.member.id).await.expect("another link");
        let join = || Join { name: "Uma".into(), password: text(PASSWORD) };
        assert_eq!(refusal(app.join(first.link.token.expose(), join(), &origin()).await), "link.gone");
        world.hours(72);
        assert_eq!(refusal(app.join(second.link.token.expose(), join(), &origin()).await), "link.gone");
    });
}

#[test]
fn an_address_belongs_to_one_member_at_a_time() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        let first = world.member(&owner, "Uma", Role::User).await;
        let twice = NewMember { email: "UMA@example.com".into(), name: "Another".into(), role: Role::User };
        assert_eq!(refusal(app.invite(&owner, twice.clone()).await), "member.email_taken");
        app.remove_member(&owner, first.member, owner.member).await.expect("removed");
        let second = app.invite(&owner, twice).await.expect("free again");
        assert_ne!(second.member.id, first.member);
        assert_eq!(refusal(app.member(&owner, first.member).await), "not_found");
    });
}

#[test]
fn wrong_fields_of_an_invitation_are_named() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let new = NewMember { email: format!("{}@example.com", "a".repeat(250)), name: "".into(), role: Role::User };
        assert_eq!(wrong_fields(world.app.invite(&owner, new).await), ["email", "name"]);
    });
}

#[test]
fn an_admin_reaches_up_to_admins_and_a_user_to_nobody() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        let chief = world.member(&owner, "Sue", Role::SuperAdmin).await;
        let admin = world.member(&chief, "Adam", Role::Admin).await;
        let user = world.member(&admin, "Uma", Role::User).await;
        for role in [Role::Owner, Role::SuperAdmin] {
            assert_eq!(refusal(app.invite(&admin, new_member("New", role)).await), "denied");
            assert_eq!(refusal(app.change_role(&admin, user.member, None, role).await), "denied");
        }
        assert_eq!(refusal(app.change_role(&admin, chief.member, None, Role::User).await), "denied");
        assert_eq!(refusal(app.change_role(&chief, owner.member, None, Role::User).await), "denied");
        assert_eq!(refusal(app.remove_member(&admin, chief.member, admin.member).await), "denied");
        assert_eq!(refusal(app.remove_member(&chief, owner.member, chief.member).await), "denied");
        assert_eq!(refusal(app.invite(&user, new_member("New", Role::Guest)).await), "denied");
        assert_eq!(refusal(app.transfer_ownership(&chief, chief.member).await), "denied");
        assert_eq!(world.events("access.refused").await, 10);
        assert_eq!(app.members(&user).await.expect("a list").len(), 4);
        let guest = world.member(&owner, "Gus", Role::Guest).await;
        assert_eq!(refusal(app.members(&guest).await), "denied");
        app.member(&guest, guest.member).await.expect("oneself");
    });
}

#[test]
fn a_new_role_ends_the_sessions_of_the_old() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        let user = world.member(&owner, "Uma", Role::User).await;
        let before = app.member(&owner, user.member).await.expect("a member");
        let changed = app.change_role(&owner, user.member, Some(before.revision), Role::Admin).await.expect("changed");
        assert_eq!((changed.role, changed.revision), (Role::Admin, before.revision + 1));
        assert!(app.sessions(&user).await.expect("a list").is_empty());
        // What the member's browser still believes counts for nothing.
        let stale = app.change_role(&owner, user.member, Some(before.revision), Role::User).await;
        assert_eq!(refusal(stale), "revision.stale");
    });
}

#[test]
fn a_new_role_ends_the_link_to_join_with_the_old() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        let admin = world.member(&owner, "Adam", Role::Admin).await;
        let first = app.invite(&admin, new_member("Uma", Role::User)).await.expect("an invitation");
        app.change_role(&owner, first.member.id, None, Role::SuperAdmin).await.expect("changed");
        let join = || Join { name: "Uma".into(), password: text(PASSWORD) };
        assert_eq!(refusal(app.join(first.link.token.expose(), join(), &origin()).await), "link.gone");
        assert_eq!(refusal(app.invite_again(&admin, first.member.id).await), "denied");
        let second = app.invite_again(&owner, first.member.id).await.expect("another link");
        app.join(second.link.token.expose(), join(), &origin()).await.expect("joined");
    });
}

#[test]
fn a_link_to_join_is_never_left_over_from_the_role_before() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        let admin = world.member(&owner, "Adam", Role::Admin).await;
        for n in 0..10 {
            let member = app.invite(&admin, new_member(&format!("Uma{n}"), Role::User)).await.expect("invited").member;
            let (link, changed) = tokio::join!(
                app.invite_again(&admin, member.id),
                app.change_role(&owner, member.id, None, Role::SuperAdmin)
            );
            changed.expect("changed");
            let join = Join { name: "Uma".into(), password: text(PASSWORD) };
            match link {
                Ok(link) => {
                    assert_eq!(refusal(app.join(link.link.token.expose(), join, &origin()).await), "link.gone");
                }
                Err(error) => assert!(["member.changed", "denied"].contains(&error.code()), "{error:?}"),
            }
        }
    });
}

#[test]
fn who_is_refused_again_and_again_fills_no_disk() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        let user = world.member(&owner, "Uma", Role::User).await;
        for _ in 0..100 {
            assert_eq!(refusal(app.invite(&user, new_member("New", Role::Guest)).await), "denied");
        }
        assert_eq!(world.events("access.refused").await, 60);
        let guest = world.member(&owner, "Gus", Role::Guest).await;
        assert_eq!(refusal(app.members(&guest).await), "denied");
        assert_eq!(world.events("access.refused").await, 61, "another member's refusals are told at once");
        world.minutes(1);
        assert_eq!(refusal(app.invite(&user, new_member("New", Role::Guest)).await), "denied");
        assert_eq!(world.events("access.refused").await, 62);
    });
}

#[test]
fn who_was_demoted_a_moment_ago_changes_nobody() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        let admin = world.member(&owner, "Adam", Role::Admin).await;
        let user = world.member(&owner, "Uma", Role::User).await;
        app.change_role(&owner, admin.member, None, Role::User).await.expect("demoted");
        // `admin` was read before: the request was on its way.
        assert_eq!(refusal(app.invite(&admin, new_member("New", Role::User)).await), "member.changed");
        assert_eq!(refusal(app.change_role(&admin, user.member, None, Role::Guest).await), "member.changed");
        app.remove_member(&owner, admin.member, owner.member).await.expect("removed");
        assert_eq!(refusal(app.remove_member(&admin, user.member, owner.member).await), "member.changed");
    });
}

#[test]
fn a_removed_member_is_nobody_and_their_own_items_go_to_the_heir() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        let (leaver, heir) =
            (world.member(&owner, "Lea", Role::User).await, world.member(&owner, "Harry", Role::User).await);
        let token = app.create_token(&leaver, "script", 30).await.expect("a token");
        let alone = item(&world, &leaver).await;
        let shared = item(&world, &leaver).await;
        app.share_item(&leaver, shared, owner.member, ItemRole::Owner).await.expect("two owners");
        app.share_item(&leaver, alone, heir.member, ItemRole::Viewer).await.expect("a viewer");
        for unfit in [leaver.member, world.member(&owner, "Gus", Role::Guest).await.member] {
            assert_eq!(wrong_fields(app.remove_member(&owner, leaver.member, unfit).await), ["heir"]);
        }
        app.remove_member(&owner, leaver.member, heir.member).await.expect("removed");
        assert_eq!(app.item(&heir, alone).await.expect("inherited").role, ItemRole::Owner);
        assert_eq!(refusal(app.item(&heir, shared).await), "not_found");
        assert_eq!(app.item_grants(&owner, shared).await.expect("grants").len(), 1);
        assert_eq!(refusal(app.caller_by_token(token.secret.expose()).await), "signin.expired");
        assert_eq!(refusal(app.sign_in(&email("Lea"), text(PASSWORD), &origin()).await), "signin.wrong");
        assert_eq!(app.members(&owner).await.expect("a list").len(), 3);
        assert_eq!(refusal(app.remove_member(&owner, leaver.member, heir.member).await), "not_found");
    });
}

#[test]
fn a_guest_owns_nothing_so_an_owner_of_items_becomes_none() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        let user = world.member(&owner, "Uma", Role::User).await;
        let item = item(&world, &user).await;
        assert_eq!(refusal(app.change_role(&owner, user.member, None, Role::Guest).await), "member.owns_items");
        app.share_item(&user, item, owner.member, ItemRole::Owner).await.expect("shared");
        app.share_item(&user, item, user.member, ItemRole::Viewer).await.expect("left");
        app.change_role(&owner, user.member, None, Role::Guest).await.expect("owns nothing now");
    });
}

#[test]
fn there_is_exactly_one_owner_before_and_after_a_transfer() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        let (one, two) =
            (world.member(&owner, "Una", Role::User).await, world.member(&owner, "Dora", Role::Admin).await);
        let invited = app.invite(&owner, new_member("Ida", Role::Admin)).await.expect("an invitation").member;
        assert_eq!(wrong_fields(app.transfer_ownership(&owner, invited.id).await), ["member_id"]);
        assert_eq!(wrong_fields(app.transfer_ownership(&owner, owner.member).await), ["member_id"]);
        let (first, second) =
            tokio::join!(app.transfer_ownership(&owner, one.member), app.transfer_ownership(&owner, two.member));
        assert_eq!(u8::from(first.is_ok()) + u8::from(second.is_ok()), 1, "{first:?} {second:?}");
        let heir = if first.is_ok() { one } else { two };
        let sql = "SELECT COUNT(*) FROM members WHERE role = 'owner'";
        assert_eq!(app.store.read(|tx| tx.count(sql, &[])).await.expect("a count"), 1);
        let last = app.member(&owner, owner.member).await.expect("still a member");
        assert_eq!(last.role, Role::SuperAdmin);
        let next = app.member(&owner, heir.member).await.expect("a member");
        assert_eq!(next.role, Role::Owner);
        assert_eq!(refusal(app.transfer_ownership(&owner, heir.member).await), "member.changed");
    });
}

#[test]
fn a_member_of_another_workspace_is_not_there() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let stranger = strongroom::id::MemberId(uuid::Uuid::new_v4());
        let planted = world.app.store.write(move |tx| {
            let workspace = uuid::Uuid::from_bytes([9; 16]);
            tx.execute(
                "INSERT INTO workspaces (id, slug, name, external_keys, require_code, created_at, revision) \
                 VALUES ($1, 'other', 'Other', 1, 0, 0, 1)",
                &[workspace.into()],
            )?;
            tx.execute(
                "INSERT INTO members (id, workspace_id, email, name, role, password_hash, totp_confirmed, \
                                      totp_last_step, created_at, revision) \
                 VALUES ($1, $2, 'x@example.com', 'X', 'user', 'x', 0, 0, 0, 1)",
                &[stranger.0.into(), workspace.into()],
            )
        });
        planted.await.expect("a second workspace");
        let app = &world.app;
        assert_eq!(app.members(&owner).await.expect("a list").len(), 1);
        assert_eq!(refusal(app.member(&owner, stranger).await), "not_found");
        assert_eq!(refusal(app.change_role(&owner, stranger, None, Role::Admin).await), "not_found");
        assert_eq!(refusal(app.transfer_ownership(&owner, stranger).await), "not_found");
        let user = world.member(&owner, "Uma", Role::User).await;
        assert_eq!(wrong_fields(app.remove_member(&owner, user.member, stranger).await), ["heir"]);
    });
}

#[test]
fn every_change_of_a_member_that_gains_anything_shows_in_the_grant() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        world.member(&owner, "Uma", Role::User).await;
        let stored = || world.app.store.read(Grant::stored);
        let mut before = stored().await.expect("grants");
        for sql in [
            "UPDATE members SET role = 'admin' WHERE role = 'user'",
            "UPDATE members SET email = 'eve@example.com' WHERE role = 'admin'",
            "UPDATE members SET name = 'Olivia Owner' WHERE role = 'admin'",
            "UPDATE members SET password_hash = (SELECT password_hash FROM members WHERE role = 'owner') \
             WHERE role = 'admin'",
            "UPDATE members SET totp_confirmed = 1 - totp_confirmed, sealed_totp = token_mac FROM sessions \
             WHERE role = 'admin'",
            "UPDATE members SET removed_at = 1 WHERE role = 'admin'",
        ] {
            world.tamper(sql).await;
            let after = stored().await.expect("grants");
            assert_ne!(before, after, "{sql}");
            before = after;
        }
    });
}

#[test]
fn settings_are_changed_by_who_manages_and_by_revision() {
    on_both_engines(|world| async move {
        let owner = world.set_up().await;
        let app = &world.app;
        let user = world.member(&owner, "Uma", Role::User).await;
        let renamed = || Edit { name: Some(" Acme Ltd ".into()), ..Edit::default() };
        assert_eq!(refusal(app.edit_workspace(&user, renamed(), 1).await), "denied");
        let after = app.edit_workspace(&owner, renamed(), 1).await.expect("renamed");
        assert_eq!((after.name.as_str(), after.revision, after.external_keys), ("Acme Ltd", 2, true));
        assert_eq!(refusal(app.edit_workspace(&owner, renamed(), 1).await), "revision.stale");
        let off = Edit { external_keys: Some(false), ..Edit::default() };
        assert!(!app.edit_workspace(&owner, off, 2).await.expect("off").external_keys);
        let empty = Edit { name: Some(" ".into()), ..Edit::default() };
        assert_eq!(wrong_fields(app.edit_workspace(&owner, empty, 3).await), ["name"]);
        assert_eq!(app.workspace(&user).await.expect("a workspace").revision, 3);
    });
}

async fn item(world: &World, by: &Caller) -> ItemId {
    let content = Content {
        item_type: ItemType::Secret,
        kind: None,
        title: text("a secret"),
        urls: vec![],
        usernames: vec![],
        labels: vec![],
        fields: vec![],
    };
    world.app.create_item(by, None, content).await.expect("an item").id
}

//! What members do to members: list, invite, change roles, remove, hand the workspace over.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use strongroom_envelope::Random;

use super::{
    Link, Member, Record, SELECT, State, bearer::Bearer, changed_meanwhile, input, input::Email, link, session, token,
};
use crate::{
    access::{self, Action, ItemRole, Role, Target as Aim},
    app::{App, Caller},
    audit::{Actor, Event, Fact, Target},
    error::{Error, Result},
    id::{EventId, ItemId, MemberId, WorkspaceId},
    item::rows,
    store::{Row, StoreError, Tx},
};

/// Whom to invite.
#[derive(Debug, Clone)]
pub struct NewMember {
    pub email: String,
    pub name: String,
    pub role: Role,
}

/// A member who has just been invited, and the link to hand over.
pub struct Invitation {
    pub member: Member,
    pub link: Link,
}

impl App {
    /// The workspace's members, by name; the removed ones are left out.
    pub async fn members(&self, caller: &Caller) -> Result<Vec<Member>> {
        self.authorize_here(caller, Action::SeeMembers).await?;
        let workspace = caller.workspace;
        let sql =
            format!("{SELECT} WHERE m.workspace_id = $1 AND m.removed_at IS NULL ORDER BY LOWER(m.name), m.email");
        self.store.read(move |tx| tx.all(&sql, &[workspace.0.into()], |row| Ok(Record::read(row)?.member))).await
    }

    /// One member of the caller's workspace, who may be the caller.
    pub async fn member(&self, caller: &Caller, id: MemberId) -> Result<Member> {
        let action = if id == caller.member { Action::ManageSelf } else { Action::SeeMembers };
        self.authorize_here(caller, action).await?;
        Ok(self.fellow(caller, id).await?.member)
    }

    /// How many items of each member nobody else owns; whoever owns none is left out.
    pub async fn owned_alone(&self, caller: &Caller) -> Result<HashMap<MemberId, u64>> {
        self.authorize_here(caller, Action::SeeMembers).await?;
        let workspace = caller.workspace;
        let sql = "SELECT r.member_id, COUNT(*) FROM item_roles r JOIN items i ON i.id = r.item_id \
                   WHERE i.workspace_id = $1 AND r.role = 'owner' AND NOT EXISTS (SELECT 1 FROM item_roles o \
                   WHERE o.item_id = r.item_id AND o.role = 'owner' AND o.member_id <> r.member_id) GROUP BY r.member_id";
        let read = |row: &Row<'_>| Ok((MemberId(row.get(0)?), row.get(1)?));
        self.store.read(move |tx| Ok(tx.all(sql, &[workspace.0.into()], read)?.into_iter().collect())).await
    }

    /// Makes a member and a link to join, good for 72 hours.
    pub async fn invite(&self, caller: &Caller, new: NewMember) -> Result<Invitation> {
        let here = Target::Workspace(caller.workspace);
        self.authorize(caller, Action::InviteMember, Aim::Member(new.role), here).await?;
        self.require_fresh(caller)?;
        let mut wrong = vec![];
        let email = input::checked(Email::parse(&new.email), &mut wrong);
        let name = input::checked(input::name("name", &new.name), &mut wrong);
        let (Some(email), Some(name)) = (email, name) else { return Err(Error::Invalid(wrong)) };
        let now = self.clock.now();
        let id = MemberId::generate(now, self.random.as_ref())?;
        let record = link::new_record(id, caller.workspace, &email, name, new.role, None, now);
        let made = self.make_link(Bearer::Join, Some(id))?;
        let event = self.member_event(caller.actor(), "member.add", &record)?;
        let (row, link, member, caller) = (made.row, made.link, record.member.clone(), caller.clone());
        let written = self.store.write(move |tx| {
            still(tx, &caller)?;
            record.insert(tx)?;
            row.insert(tx)?;
            tx.record(&event)
        });
        match written.await {
            Err(Error::Store(StoreError::Taken)) => Err(Error::conflict(
                "member.email_taken",
                "a member with this e-mail address exists already",
                "Look for them in the list of members; they may be invited and not have joined yet.",
            )),
            other => other.map(|()| Invitation { member, link }),
        }
    }

    /// A new link for a member who has not joined; the old one is good no more.
    pub async fn invite_again(&self, caller: &Caller, id: MemberId) -> Result<Invitation> {
        let record = self.fellow(caller, id).await?;
        self.authorize(caller, Action::InviteMember, Aim::Member(record.member.role), Target::Member(id)).await?;
        self.require_fresh(caller)?;
        let role = record.member.role;
        let made = self.make_link(Bearer::Join, Some(id))?;
        let event = self.event(caller, "member.link", Target::Member(id), vec![("member", id.0.into())])?;
        let (row, link, caller) = (made.row, made.link, caller.clone());
        self.store
            .write(move |tx| {
                still(tx, &caller)?;
                still_invited(tx, id, role)?;
                row.insert(tx)?;
                tx.record(&event)
            })
            .await?;
        Ok(Invitation { member: record.member, link })
    }

    /// Gives a member another role. Their sessions end, and their link to join: who could invite to the old role may not
    /// be let to invite to the new one. `expected` is the revision that was read, if one was.
    pub async fn change_role(
        &self,
        caller: &Caller,
        id: MemberId,
        expected: Option<u64>,
        role: Role,
    ) -> Result<Member> {
        let mut record = self.fellow(caller, id).await?;
        for aim in [record.member.role, role] {
            self.authorize(caller, Action::ChangeRole, Aim::Member(aim), Target::Member(id)).await?;
        }
        self.require_fresh(caller)?;
        if expected.is_some_and(|expected| expected != record.member.revision) {
            return Err(Error::RevisionStale { current: record.member.revision });
        }
        if record.member.role == role {
            return Ok(record.member);
        }
        record.member.role = role;
        record.member.revision += 1;
        let event = self.member_event(caller.actor(), "member.role", &record)?;
        let (now, caller) = (self.clock.now(), caller.clone());
        self.store
            .write(move |tx| {
                still(tx, &caller)?;
                if role == Role::Guest {
                    owns_nothing(tx, id)?;
                }
                record.update(tx, now)?;
                session::revoke_all(tx, id, caller.session(), now)?;
                link::revoke_all(tx, id)?;
                tx.record(&event)?;
                Ok(record.member.clone())
            })
            .await
    }

    /// Removes a member. Items that nobody else owns go to `heir`; every session, token and link of theirs ends. Their
    /// e-mail address may be invited again, as another member.
    pub async fn remove_member(&self, caller: &Caller, id: MemberId, heir: MemberId) -> Result<()> {
        let mut record = self.fellow(caller, id).await?;
        self.authorize(caller, Action::RemoveMember, Aim::Member(record.member.role), Target::Member(id)).await?;
        self.require_fresh(caller)?;
        record.member.state = State::Removed;
        record.member.revision += 1;
        let event = self.member_event(caller.actor(), "member.remove", &record)?;
        let estate = Estate::of(self, caller, id, heir);
        let caller = caller.clone();
        self.store
            .write(move |tx| {
                still(tx, &caller)?;
                estate.hand_over(tx)?;
                record.update(tx, estate.now)?;
                session::revoke_all(tx, id, None, estate.now)?;
                token::revoke_all(tx, id, estate.now)?;
                link::revoke_all(tx, id)?;
                tx.record(&event)
            })
            .await
    }

    /// Makes another member Owner; the caller becomes a Super Admin. The new Owner's sessions end, and the caller's
    /// other ones.
    pub async fn transfer_ownership(&self, caller: &Caller, id: MemberId) -> Result<()> {
        self.authorize_here(caller, Action::TransferOwnership).await?;
        self.require_fresh(caller)?;
        let mut next = self.fellow(caller, id).await?;
        let mut last = self.fellow(caller, caller.member).await?;
        if next.member.state != State::Active || id == caller.member {
            return Err(Error::field("member_id", "The new Owner has to be another member who has joined."));
        }
        (next.member.role, last.member.role) = (Role::Owner, Role::SuperAdmin);
        next.member.revision += 1;
        last.member.revision += 1;
        let down = self.member_event(caller.actor(), "member.role", &last)?;
        let up = self.member_event(caller.actor(), "member.role", &next)?;
        let (now, caller) = (self.clock.now(), caller.clone());
        self.store
            .write(move |tx| {
                still(tx, &caller)?;
                // The Owner goes first: there is never more than one.
                last.update(tx, now)?;
                next.update(tx, now)?;
                session::revoke_all(tx, caller.member, caller.session(), now)?;
                session::revoke_all(tx, id, None, now)?;
                tx.record(&down)?;
                tx.record(&up)
            })
            .await
    }

    /// An event that makes or changes a member; it carries the whole grant.
    pub(super) fn member_event(&self, actor: Actor, action: &'static str, record: &Record) -> Result<Event> {
        let member = &record.member;
        self.event_by(actor, Some(member.workspace), action, Target::Member(member.id), record.grant().facts())
    }

    /// A living member of the caller's workspace.
    async fn fellow(&self, caller: &Caller, id: MemberId) -> Result<Record> {
        let record = self.store.read(move |tx| Record::living(tx, id)).await?;
        if record.member.workspace == caller.workspace { Ok(record) } else { Err(Error::NotFound("member")) }
    }
}

/// What a removed member leaves behind.
struct Estate {
    from: MemberId,
    heir: MemberId,
    by: MemberId,
    actor: Actor,
    workspace: WorkspaceId,
    now: Timestamp,
    random: Arc<dyn Random>,
}

impl Estate {
    fn of(app: &App, caller: &Caller, from: MemberId, heir: MemberId) -> Self {
        let (by, actor, workspace) = (caller.member, caller.actor(), caller.workspace);
        Self { from, heir, by, actor, workspace, now: app.clock.now(), random: Arc::clone(&app.random) }
    }

    /// Makes the heir owner of every item that nobody else owns, and ends every item role of the removed member, with
    /// one event for each.
    fn hand_over(&self, tx: &mut Tx<'_>) -> Result<()> {
        let fits = |heir: &Member| {
            let elsewhere = heir.workspace != self.workspace || heir.id == self.from;
            !elsewhere && heir.state == State::Active && access::allowed(heir.role, Action::OwnItem, Aim::Workspace)
        };
        let unfit = || Error::field("heir", "The items have to go to another member who has joined and is no Guest.");
        let heir = Record::living(tx, self.heir).map_err(|error| error.if_missing(unfit))?;
        if !fits(&heir.member) {
            return Err(unfit());
        }
        let sql = "SELECT r.item_id FROM item_roles r WHERE r.member_id = $1 AND r.role = 'owner' AND NOT EXISTS \
                   (SELECT 1 FROM item_roles o WHERE o.item_id = r.item_id AND o.role = 'owner' AND o.member_id <> $1)";
        for item in tx.all(sql, &[self.from.0.into()], |row| row.get(0).map(ItemId))? {
            rows::grant(tx, item, self.heir, ItemRole::Owner, self.by, self.now)?;
            let role = ("role", ItemRole::Owner.word().into());
            tx.record(&self.event("item.grant", item, vec![("member", self.heir.0.into()), role])?)?;
        }
        let sql = "SELECT item_id FROM item_roles WHERE member_id = $1";
        for item in tx.all(sql, &[self.from.0.into()], |row| row.get(0).map(ItemId))? {
            rows::ungrant(tx, item, self.from)?;
            tx.record(&self.event("item.ungrant", item, vec![("member", self.from.0.into())])?)?;
        }
        Ok(())
    }

    fn event(&self, action: &'static str, item: ItemId, detail: Vec<(&'static str, Fact)>) -> Result<Event> {
        let (at, workspace, actor, target) = (self.now, Some(self.workspace), self.actor, Target::Item(item));
        Ok(Event { id: EventId::generate(at, self.random.as_ref())?, at, workspace, actor, action, target, detail })
    }
}

/// Refuses what a caller asked for who was removed or given another role a moment ago.
fn still(tx: &mut Tx<'_>, caller: &Caller) -> Result<()> {
    match Record::living(tx, caller.member) {
        Ok(record) if record.member.role == caller.role => Ok(()),
        Ok(_) | Err(Error::NotFound(_)) => Err(changed_meanwhile()),
        Err(error) => Err(error),
    }
}

/// Refuses a new link to join for a member who has joined, or whose role is not the one that leave was asked for.
fn still_invited(tx: &mut Tx<'_>, member: MemberId, role: Role) -> Result<()> {
    let current = Record::living(tx, member)?.member;
    if current.state != State::Invited {
        let title = "this member has joined already";
        return Err(Error::conflict("member.joined", title, "There is nothing to do."));
    }
    if current.role == role { Ok(()) } else { Err(changed_meanwhile()) }
}

/// A Guest owns no item.
fn owns_nothing(tx: &mut Tx<'_>, member: MemberId) -> Result<()> {
    let sql = "SELECT COUNT(*) FROM item_roles WHERE member_id = $1 AND role = 'owner'";
    match tx.count(sql, &[member.0.into()])? {
        0 => Ok(()),
        items => Err(Error::conflict(
            "member.owns_items",
            format!("a Guest owns no items, and this member owns {items}"),
            "Let them make others owners of their items and leave them first.",
        )),
    }
}

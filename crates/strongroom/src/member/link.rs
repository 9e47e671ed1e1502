//! One-time links: the first Owner's, a new member's, and the one to a new password.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use strongroom_envelope::Mac;
use uuid::Uuid;

use super::{
    Member, NewSession, Origin, Record, State, bearer::Bearer, bearer::Presented, input, input::Email, password,
    session, token,
};
use crate::{
    access::Role,
    app::App,
    audit::{Actor, Target},
    error::{Error, Result},
    id::{LinkId, MemberId, WorkspaceId},
    secret_text::SecretText,
    store::{Param, Tx},
    vault::{self, NewVault},
    workspace::{BUILT_IN_VAULT, Workspace},
};

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Making the workspace and its Owner.
    Setup,
    /// Joining after an invitation.
    Join,
    /// A new password.
    Reset,
}

/// A link that has just been made. Shown this once.
pub struct Link {
    /// What to open in a browser.
    pub url: SecretText,
    /// The secret in it.
    pub token: SecretText,
    pub expires_at: Timestamp,
}

/// What the page behind a link says before anything is typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenLink {
    pub purpose: Purpose,
    /// The workspace's name; none for [`Purpose::Setup`].
    pub workspace: Option<String>,
    /// E-mail address and name of whom the link is for; none for [`Purpose::Setup`].
    pub member: Option<(String, String)>,
    pub expires_at: Timestamp,
}

/// What the first Owner types.
pub struct Setup {
    pub workspace: String,
    pub slug: String,
    pub name: String,
    pub email: String,
    pub password: SecretText,
}

/// What a new member types.
pub struct Join {
    pub name: String,
    pub password: SecretText,
}

impl Purpose {
    fn bearer(self) -> Bearer {
        match self {
            Self::Setup => Bearer::Setup,
            Self::Join => Bearer::Join,
            Self::Reset => Bearer::Reset,
        }
    }
}

impl App {
    /// On an empty store, the link that makes the workspace and its Owner, good for 15 minutes; one made before is
    /// good no more. `None` once there is a workspace.
    pub async fn setup_link(&self) -> Result<Option<Link>> {
        let made = self.make_link(Bearer::Setup, None)?;
        let event = self.event_by(Actor::System, None, "setup.link", Target::None, vec![])?;
        let (row, link) = (made.row, made.link);
        let empty = self.store.write(move |tx| {
            if has_workspace(tx)? {
                return Ok(false);
            }
            row.insert(tx)?;
            tx.record(&event)?;
            Ok(true)
        });
        Ok(empty.await?.then_some(link))
    }

    /// What a link is for, without using it. `link.gone` when it is used, too old, or was never made.
    pub async fn look_at_link(&self, purpose: Purpose, token: &str) -> Result<OpenLink> {
        let shown = purpose.bearer().read(token, &self.keys).ok_or_else(gone)?;
        let now = self.clock.now();
        let found = self.store.read(move |tx| {
            let Some(found) = find(tx, &shown, now)? else { return Err(gone()) };
            if purpose == Purpose::Setup {
                return Ok(OpenLink { purpose, workspace: None, member: None, expires_at: found.expires_at });
            }
            let member = Record::living(tx, shown.member).map_err(|error| error.if_missing(gone))?.member;
            let workspace = Some(Workspace::load(tx, member.workspace)?.name);
            let member = Some((member.email, member.name));
            Ok(OpenLink { purpose, workspace, member, expires_at: found.expires_at })
        });
        found.await
    }

    /// Makes the workspace with its built-in vault, and its Owner, who is signed in at once.
    pub async fn open_setup(&self, token: &str, setup: Setup, origin: &Origin) -> Result<NewSession> {
        self.look_at_link(Purpose::Setup, token).await?;
        let now = self.clock.now();
        let id = WorkspaceId::generate(now, self.random.as_ref())?;
        let owner = MemberId::generate(now, self.random.as_ref())?;
        let mut wrong = vec![];
        let (name, slug) = Workspace::parse_names(&setup.workspace, &setup.slug, &mut wrong);
        let person = input::checked(input::name("name", &setup.name), &mut wrong);
        let email = input::checked(Email::parse(&setup.email), &mut wrong);
        input::checked(input::new_password(&setup.password), &mut wrong);
        let (Some(person), Some(email), true) = (person, email, wrong.is_empty()) else {
            return Err(Error::Invalid(wrong));
        };
        let password = password::hash(&self.guard, self.random.as_ref(), setup.password).await?;
        let workspace = Workspace {
            id,
            slug,
            name,
            external_keys: true,
            require_code: false,
            default_vault: None,
            created_at: now,
            revision: 1,
        };
        let record = new_record(owner, id, &email, person, Role::Owner, Some(password), now);
        let vault = self.prepare_cloud_vault(id, BUILT_IN_VAULT, owner).await?;
        let workspace = Workspace { default_vault: Some(vault.id()), ..workspace };
        let opening = self.open_session(owner, origin)?;
        self.write_setup(token, (workspace, vault, record), opening).await
    }

    async fn write_setup(
        &self,
        token: &str,
        (workspace, built_in, owner): (Workspace, NewVault, Record),
        opening: session::Opening,
    ) -> Result<NewSession> {
        let shown = Bearer::Setup.read(token, &self.keys).ok_or_else(gone)?;
        let now = self.clock.now();
        let session::Opening { session, row } = opening;
        let actor = Actor::Session(owner.member.id, row.id);
        let target = Target::Workspace(workspace.id);
        let created = self.event_by(actor, Some(workspace.id), "workspace.create", target, workspace.facts())?;
        let added = self.member_event(actor, "member.add", &owner)?;
        let chosen = Target::Vault(built_in.id());
        let chosen = self.event_by(actor, Some(workspace.id), "vault.default", chosen, Vec::new())?;
        let (began, keys) = (self.session_event(workspace.id, &row)?, Arc::clone(&self.keys));
        self.store
            .write(move |tx| {
                if has_workspace(tx)? {
                    return Err(gone());
                }
                let found = find(tx, &shown, now)?.ok_or_else(gone)?;
                spend(tx, found.id, now)?;
                workspace.insert(tx)?;
                owner.insert(tx)?;
                tx.record(&created)?;
                tx.record(&added)?;
                vault::insert(tx, &keys, &built_in)?;
                tx.record(&chosen)?;
                row.insert(tx)?;
                tx.record(&began)
            })
            .await?;
        Ok(session)
    }

    /// Takes up an invitation; the new member is signed in at once.
    pub async fn join(&self, token: &str, join: Join, origin: &Origin) -> Result<NewSession> {
        let shown = Bearer::Join.read(token, &self.keys).ok_or_else(gone)?;
        let mut record = self.record_of_link(token, Purpose::Join).await?;
        let mut wrong = vec![];
        let name = input::checked(input::name("name", &join.name), &mut wrong);
        input::checked(input::new_password(&join.password), &mut wrong);
        let (Some(name), true) = (name, wrong.is_empty()) else { return Err(Error::Invalid(wrong)) };
        record.password_hash = Some(password::hash(&self.guard, self.random.as_ref(), join.password).await?);
        record.member.name = name;
        record.member.state = State::Active;
        record.member.revision += 1;
        let session::Opening { session, row } = self.open_session(record.member.id, origin)?;
        let event = self.member_event(Actor::Session(record.member.id, row.id), "member.join", &record)?;
        let began = self.session_event(record.member.workspace, &row)?;
        let now = self.clock.now();
        self.store
            .write(move |tx| {
                let found = find(tx, &shown, now)?.ok_or_else(gone)?;
                spend(tx, found.id, now)?;
                record.update(tx, now)?;
                tx.record(&event)?;
                row.insert(tx)?;
                tx.record(&began)
            })
            .await?;
        Ok(session)
    }

    /// A link to a new password, good for an hour. For the operator of the server only; nothing that listens calls it.
    pub async fn reset_link(&self, email: &str) -> Result<Link> {
        let email = input::only(Email::parse(email))?;
        let found = self.store.read(move |tx| Record::by_email(tx, email.as_str())).await?;
        let member = found.ok_or(Error::NotFound("member"))?.member;
        if member.state != State::Active {
            return Err(Error::conflict(
                "member.not_joined",
                "this member has not joined yet",
                "Invite them again: that makes a new link to join.",
            ));
        }
        let made = self.make_link(Bearer::Reset, Some(member.id))?;
        let target = Target::Member(member.id);
        let facts = vec![("member", member.id.0.into())];
        let event = self.event_by(Actor::System, Some(member.workspace), "member.link", target, facts)?;
        let (row, link) = (made.row, made.link);
        self.store
            .write(move |tx| {
                row.insert(tx)?;
                tx.record(&event)
            })
            .await?;
        Ok(link)
    }

    /// Sets a new password. Every session and API token of the member ends; a second factor stays.
    pub async fn reset(&self, token: &str, password: SecretText) -> Result<()> {
        let shown = Bearer::Reset.read(token, &self.keys).ok_or_else(gone)?;
        let mut record = self.record_of_link(token, Purpose::Reset).await?;
        input::only(input::new_password(&password))?;
        record.password_hash = Some(password::hash(&self.guard, self.random.as_ref(), password).await?);
        record.member.revision += 1;
        let event = self.member_event(Actor::Anonymous, "member.password", &record)?;
        let now = self.clock.now();
        self.store
            .write(move |tx| {
                let found = find(tx, &shown, now)?.ok_or_else(gone)?;
                spend(tx, found.id, now)?;
                record.update(tx, now)?;
                session::revoke_all(tx, record.member.id, None, now)?;
                token::revoke_all(tx, record.member.id, now)?;
                revoke_all(tx, record.member.id)?;
                tx.record(&event)
            })
            .await
    }

    async fn record_of_link(&self, token: &str, purpose: Purpose) -> Result<Record> {
        let shown = purpose.bearer().read(token, &self.keys).ok_or_else(gone)?;
        let now = self.clock.now();
        let found = self.store.read(move |tx| {
            let record = match find(tx, &shown, now)? {
                Some(_) => Record::living(tx, shown.member).map_err(|error| error.if_missing(gone))?,
                None => return Err(gone()),
            };
            let fits = match purpose {
                Purpose::Setup => false,
                Purpose::Join => record.member.state == State::Invited,
                Purpose::Reset => record.member.state == State::Active,
            };
            if fits { Ok(record) } else { Err(gone()) }
        });
        found.await
    }

    /// A link or ticket, to be written by [`LinkRow::insert`].
    pub(super) fn make_link(&self, bearer: Bearer, member: Option<MemberId>) -> Result<LinkOpening> {
        let created_at = self.clock.now();
        let id = LinkId::generate(created_at, self.random.as_ref())?;
        let expires_at = created_at + lifetime(bearer);
        let (token, mac) = bearer.mint(member, expires_at, &self.keys, self.random.as_ref())?;
        let purpose = bearer.purpose();
        let url = SecretText::from(format!("{}/{purpose}/{}", self.settings.public_url, token.expose()));
        let row = LinkRow { id, mac, purpose, member, created_at, expires_at };
        Ok(LinkOpening { link: Link { url, token, expires_at }, row })
    }
}

/// A link on its way into the database.
pub(super) struct LinkOpening {
    pub(super) link: Link,
    pub(super) row: LinkRow,
}

pub(super) struct LinkRow {
    id: LinkId,
    mac: [u8; Mac::LEN],
    purpose: &'static str,
    member: Option<MemberId>,
    created_at: Timestamp,
    expires_at: Timestamp,
}

/// A link that may still be used.
pub(super) struct Found {
    pub(super) id: LinkId,
    expires_at: Timestamp,
}

impl LinkRow {
    /// Writes it in place of an earlier one of the same purpose and member, and drops what is too old.
    pub(super) fn insert(&self, tx: &mut Tx<'_>) -> Result<()> {
        tx.execute("DELETE FROM links WHERE expires_at < $1", &[self.created_at.into()])?;
        match self.member {
            Some(member) => {
                let sql = "DELETE FROM links WHERE purpose = $1 AND member_id = $2";
                tx.execute(sql, &[self.purpose.into(), member.0.into()])?;
            }
            None => {
                tx.execute("DELETE FROM links WHERE purpose = $1", &[self.purpose.into()])?;
            }
        }
        tx.execute(
            "INSERT INTO links (id, token_mac, purpose, member_id, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
            &[
                self.id.0.into(),
                Param::Bytes(&self.mac),
                self.purpose.into(),
                self.member.map(|member| member.0).into(),
                self.created_at.into(),
                self.expires_at.into(),
            ],
        )?;
        Ok(())
    }
}

/// The link that somebody showed, if it may still be used and its row speaks for the same member.
pub(super) fn find(tx: &mut Tx<'_>, shown: &Presented, now: Timestamp) -> Result<Option<Found>> {
    let sql = "SELECT id, member_id, expires_at FROM links \
               WHERE token_mac = $1 AND used_at IS NULL";
    let found = session::first_of(tx, sql, &shown.macs, |row| {
        let member: Option<Uuid> = row.get(1)?;
        Ok((member, Found { id: LinkId(row.get(0)?), expires_at: row.get(2)? }))
    })?;
    let good = |(member, found): (Option<Uuid>, Found)| {
        let mine = member.unwrap_or(Uuid::nil()) == shown.member.0;
        (mine && now < found.expires_at && now < shown.expires_at).then_some(found)
    };
    Ok(found.and_then(good))
}

/// Uses a link; refuses one that was used meanwhile.
pub(super) fn spend(tx: &mut Tx<'_>, link: LinkId, now: Timestamp) -> Result<()> {
    let sql = "UPDATE links SET used_at = $2 WHERE id = $1 AND used_at IS NULL";
    match tx.execute(sql, &[link.0.into(), now.into()])? {
        1 => Ok(()),
        _ => Err(gone()),
    }
}

/// Ends every link and ticket of a member.
pub(super) fn revoke_all(tx: &mut Tx<'_>, member: MemberId) -> Result<()> {
    tx.execute("DELETE FROM links WHERE member_id = $1", &[member.0.into()]).map(drop)
}

/// A member who has just begun to be one.
pub(super) fn new_record(
    id: MemberId,
    workspace: WorkspaceId,
    email: &Email,
    name: String,
    role: Role,
    password_hash: Option<String>,
    now: Timestamp,
) -> Record {
    let state = if password_hash.is_some() { State::Active } else { State::Invited };
    let email = email.as_str().to_owned();
    let member = Member {
        id,
        workspace,
        email,
        name,
        role,
        state,
        has_code: false,
        created_at: now,
        last_sign_in_at: None,
        revision: 1,
    };
    Record { member, password_hash, sealed_code: None, last_step: 0 }
}

fn lifetime(bearer: Bearer) -> SignedDuration {
    match bearer {
        Bearer::Ticket => SignedDuration::from_mins(5),
        Bearer::Setup => SignedDuration::from_mins(15),
        Bearer::Reset => SignedDuration::from_mins(60),
        Bearer::Join => SignedDuration::from_hours(72),
        Bearer::Session | Bearer::ApiToken => unreachable!("these are no links"),
    }
}

fn has_workspace(tx: &mut Tx<'_>) -> Result<bool> {
    Ok(tx.first("SELECT id FROM workspaces LIMIT 1", &[], |_| Ok(()))?.is_some())
}

fn gone() -> Error {
    Error::NotSignedIn {
        code: "link.gone",
        title: "this link is good no more: it was used, replaced by a newer one, or is too old",
        fix: "Ask for a new one: an invitation from whoever manages members, a link to a new password or to the first \
              workspace from the operator of the server.",
    }
}

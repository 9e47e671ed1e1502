//! Members of a workspace: who they are, how they prove it, and what lets them in.
//!
//! `signin` and `code` are the proofs, `session` and `token` what a proof is exchanged for, `link` the way in for those
//! who have no password yet, `manage` what members do to members.

mod bearer;
mod code;
pub mod guard;
pub mod input;
mod link;
mod manage;
mod password;
mod session;
mod signin;
mod token;

use std::net::IpAddr;

use jiff::Timestamp;
use strongroom_envelope::digest;

pub use self::{
    code::CodeSetup,
    link::{Join, Link, OpenLink, Purpose, Setup},
    manage::{Invitation, NewMember},
    session::{NewSession, Session},
    signin::SignIn,
    token::{NewToken, Token},
};
pub(crate) use self::{
    code::{drop_lost_codes, renew_codes},
    password::is_password,
    signin::expired,
};
use crate::{
    access::Role,
    audit::Fact,
    error::{Error, Result},
    id::{MemberId, WorkspaceId},
    store::{Param, Row, Tx},
};

/// A member as others see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: MemberId,
    pub workspace: WorkspaceId,
    pub email: String,
    pub name: String,
    pub role: Role,
    pub state: State,
    /// Whether a second factor is set up.
    pub has_code: bool,
    pub created_at: Timestamp,
    pub last_sign_in_at: Option<Timestamp>,
    pub revision: u64,
}

/// Where a member is between invitation and removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Has a link, has not joined yet.
    Invited,
    Active,
    Removed,
}

/// Where a request comes from, for limits, sessions and the audit log.
#[derive(Debug, Clone)]
pub struct Origin {
    pub address: IpAddr,
    /// The browser's or client's own name; cut to 200 characters when stored.
    pub agent: String,
}

/// What the row of a member says, as far as anybody could gain by changing it: every event that makes or changes a
/// member carries the whole of it, so that `audit verify --state` can rebuild it and name a row that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub member: MemberId,
    pub role: Role,
    pub state: State,
    pub revision: u64,
    pub email_digest: [u8; 32],
    /// Digest over name, password hash and sealed second factor.
    pub row_digest: [u8; 32],
}

impl State {
    /// As events and the API write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Invited => "invited",
            Self::Active => "active",
            Self::Removed => "removed",
        }
    }
}

impl Grant {
    /// The grant as facts of an event; their names are the same in every event that changes a member.
    pub fn facts(&self) -> Vec<(&'static str, Fact)> {
        vec![
            ("member", self.member.0.into()),
            ("role", self.role.word().into()),
            ("state", self.state.word().into()),
            ("revision", self.revision.into()),
            ("email_digest", Fact::Bytes(self.email_digest.to_vec())),
            ("row_digest", Fact::Bytes(self.row_digest.to_vec())),
        ]
    }

    /// Every member's grant as the database has it now, the removed ones included.
    pub fn stored(tx: &mut Tx<'_>) -> Result<Vec<Self>> {
        tx.all(&format!("{SELECT} ORDER BY m.id"), &[], |row| Ok(Record::read(row)?.grant()))
    }
}

/// The digest of what else of a member's row is worth changing; `code` is the sealed second factor once it is confirmed.
pub(crate) fn row_digest(name: &str, password_hash: Option<&str>, code: Option<&[u8]>) -> [u8; 32] {
    let mut row = Vec::new();
    for part in [Some(name.as_bytes()), password_hash.map(str::as_bytes), code] {
        // Absent is not empty, and no part runs into the next.
        row.extend_from_slice(&part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
        row.extend_from_slice(part.unwrap_or_default());
    }
    digest(&row)
}

/// A member's whole row.
pub(super) struct Record {
    pub(super) member: Member,
    pub(super) password_hash: Option<String>,
    pub(super) sealed_code: Option<Vec<u8>>,
    pub(super) last_step: u64,
}

const SELECT: &str = "SELECT m.id, m.workspace_id, m.email, m.name, m.role, m.password_hash, m.sealed_totp, \
                      m.totp_confirmed, m.totp_last_step, m.created_at, m.last_sign_in_at, m.removed_at, m.revision \
                      FROM members m";

impl Record {
    fn read(row: &Row<'_>) -> Result<Self> {
        let password_hash: Option<String> = row.get(5)?;
        let removed_at: Option<Timestamp> = row.get(11)?;
        let state = match (removed_at, &password_hash) {
            (Some(_), _) => State::Removed,
            (None, None) => State::Invited,
            (None, Some(_)) => State::Active,
        };
        let member = Member {
            id: MemberId(row.get(0)?),
            workspace: WorkspaceId(row.get(1)?),
            email: row.get(2)?,
            name: row.get(3)?,
            role: row.parse(4)?,
            state,
            has_code: row.get(7)?,
            created_at: row.get(9)?,
            last_sign_in_at: row.get(10)?,
            revision: row.get(12)?,
        };
        Ok(Self { member, password_hash, sealed_code: row.get(6)?, last_step: row.get(8)? })
    }

    /// The member of this id who has not been removed.
    pub(super) fn living(tx: &mut Tx<'_>, id: MemberId) -> Result<Self> {
        let sql = format!("{SELECT} WHERE m.id = $1 AND m.removed_at IS NULL");
        tx.first(&sql, &[id.0.into()], Self::read)?.ok_or(Error::NotFound("member"))
    }

    /// The member of this address who has not been removed.
    pub(super) fn by_email(tx: &mut Tx<'_>, email: &str) -> Result<Option<Self>> {
        let sql = format!("{SELECT} WHERE m.email = $1 AND m.removed_at IS NULL");
        tx.first(&sql, &[email.into()], Self::read)
    }

    /// The grant that this row spells.
    pub(super) fn grant(&self) -> Grant {
        let member = &self.member;
        let code = self.sealed_code.as_deref().filter(|_| member.has_code);
        Grant {
            member: member.id,
            role: member.role,
            state: member.state,
            revision: member.revision,
            email_digest: digest(member.email.as_bytes()),
            row_digest: row_digest(&member.name, self.password_hash.as_deref(), code),
        }
    }

    /// Writes a member who did not exist.
    pub(super) fn insert(&self, tx: &mut Tx<'_>) -> Result<()> {
        let member = &self.member;
        tx.execute(
            "INSERT INTO members (id, workspace_id, email, name, role, password_hash, sealed_totp, totp_confirmed, \
                                  totp_last_step, created_at, last_sign_in_at, removed_at, revision) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            &[
                member.id.0.into(),
                member.workspace.0.into(),
                member.email.as_str().into(),
                member.name.as_str().into(),
                member.role.word().into(),
                self.password_hash.as_deref().into(),
                self.sealed_code.as_deref().into(),
                member.has_code.into(),
                self.last_step.into(),
                member.created_at.into(),
                member.last_sign_in_at.into(),
                Param::Null,
                member.revision.into(),
            ],
        )?;
        Ok(())
    }

    /// Writes what a grant covers, as the revision after the one that was read. Refuses when somebody was faster.
    pub(super) fn update(&self, tx: &mut Tx<'_>, now: Timestamp) -> Result<()> {
        let member = &self.member;
        let removed_at = (member.state == State::Removed).then_some(now);
        let touched = tx.execute(
            "UPDATE members SET name = $2, role = $3, password_hash = $4, sealed_totp = $5, totp_confirmed = $6, \
                                removed_at = $7, revision = $8 WHERE id = $1 AND revision = $9 AND removed_at IS NULL",
            &[
                member.id.0.into(),
                member.name.as_str().into(),
                member.role.word().into(),
                self.password_hash.as_deref().into(),
                self.sealed_code.as_deref().into(),
                member.has_code.into(),
                removed_at.into(),
                member.revision.into(),
                (member.revision - 1).into(),
            ],
        )?;
        if touched == 1 { Ok(()) } else { Err(changed_meanwhile()) }
    }
}

fn changed_meanwhile() -> Error {
    Error::conflict(
        "member.changed",
        "somebody changed this member at the same moment",
        "Look at the list of members again, then repeat what you did.",
    )
}

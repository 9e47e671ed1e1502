//! Sessions: what a browser holds after sign-in. Every request reads its session and its member's role in one query.

use jiff::{SignedDuration, Timestamp};
use strongroom_envelope::Mac;

use super::{Origin, bearer::Bearer, signin};
use crate::{
    access::Action,
    app::{App, Caller, Through},
    audit::{Actor, Event, Target},
    error::{Error, Result},
    id::{MemberId, SessionId, WorkspaceId},
    secret_text::SecretText,
    store::{Param, Row, Tx},
};

/// A session that nobody uses ends.
const IDLE: SignedDuration = SignedDuration::from_hours(8);
/// Every session ends.
const ABSOLUTE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Its last use is written at most this often: a page view is no reason for a write.
pub(super) const SEEN_EVERY: SignedDuration = SignedDuration::from_mins(5);
const AGENT_MAX: usize = 200;

/// A session that has just begun. The token is shown this once, to the browser.
pub struct NewSession {
    pub id: SessionId,
    pub token: SecretText,
    pub expires_at: Timestamp,
}

/// One of a member's live sessions, as the member sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub created_at: Timestamp,
    pub last_seen_at: Timestamp,
    pub expires_at: Timestamp,
    /// Where it signed in from.
    pub address: String,
    pub agent: String,
    /// Whether it is the one that asks.
    pub current: bool,
}

impl App {
    /// Who a session's token speaks for, at this moment. `signin.required` without a session, `signin.expired` when
    /// it has ended: idle, too old, revoked, or its member removed.
    pub async fn caller_by_session(&self, token: &str) -> Result<Caller> {
        let shown = Bearer::Session.read(token, &self.keys).ok_or_else(signin::required)?;
        let (member, end, newest) = (shown.member, shown.expires_at, shown.newest());
        let found = self.store.read(move |tx| {
            let sql = "SELECT s.id, s.member_id, s.signed_in_at, s.last_seen_at, s.expires_at, s.revoked_at, \
                              m.removed_at, m.workspace_id, m.role, m.totp_confirmed, w.require_code, w.slug, \
                              s.token_mac FROM sessions s JOIN members m ON m.id = s.member_id JOIN workspaces w ON w.id = m.workspace_id \
                       WHERE s.token_mac = $1";
            first_of(tx, sql, &shown.macs, Presence::read)
        });
        let found = found.await?.filter(|found| found.member == member).ok_or_else(signin::required)?;
        let now = self.clock.now();
        let idle = now.duration_since(found.seen_at.unwrap_or(now));
        if found.ended || now >= found.expires_at.min(end) || idle > IDLE {
            return Err(signin::expired());
        }
        if idle >= SEEN_EVERY {
            self.seen("UPDATE sessions SET last_seen_at = $2 WHERE id = $1 AND last_seen_at < $2", found.id, now).await;
        }
        if found.mac != newest {
            self.goes_over("UPDATE sessions SET token_mac = $2 WHERE id = $1", found.id, newest).await;
        }
        let id = SessionId(found.id);
        Ok(found.caller(Through::Session(id)))
    }

    /// Whether the caller's session still stands, with the role it had. Looking does not count as using it.
    pub async fn still_signed_in(&self, caller: &Caller) -> Result<bool> {
        let Some(session) = caller.session() else { return Ok(false) };
        let (now, role) = (self.clock.now(), caller.role);
        let sql = "SELECT COUNT(*) FROM sessions s JOIN members m ON m.id = s.member_id \
                   WHERE s.id = $1 AND s.revoked_at IS NULL AND s.expires_at > $2 AND s.last_seen_at > $3 \
                   AND m.removed_at IS NULL AND m.role = $4";
        let params = move || [session.0.into(), now.into(), (now - IDLE).into(), role.word().into()];
        self.store.read(move |tx| Ok(tx.count(sql, &params())? == 1)).await
    }

    /// The caller's live sessions, the newest first.
    pub async fn sessions(&self, caller: &Caller) -> Result<Vec<Session>> {
        self.authorize_here(caller, Action::ManageSelf).await?;
        let (member, through, now) = (caller.member, caller.through, self.clock.now());
        let listed = move |row: &Row<'_>| {
            let id = SessionId(row.get(0)?);
            Ok(Session {
                id,
                created_at: row.get(1)?,
                last_seen_at: row.get(2)?,
                expires_at: row.get(3)?,
                address: row.get(4)?,
                agent: row.get(5)?,
                current: through == Through::Session(id),
            })
        };
        let sql = "SELECT id, created_at, last_seen_at, expires_at, address, agent FROM sessions \
                   WHERE member_id = $1 AND revoked_at IS NULL AND expires_at > $2 AND last_seen_at > $3 \
                   ORDER BY created_at DESC, id DESC";
        self.store.read(move |tx| tx.all(sql, &[member.0.into(), now.into(), (now - IDLE).into()], listed)).await
    }

    /// Ends one of the caller's sessions.
    pub async fn revoke_session(&self, caller: &Caller, session: SessionId) -> Result<()> {
        self.authorize_here(caller, Action::ManageSelf).await?;
        let (member, now) = (caller.member, self.clock.now());
        let event = self.event(caller, "session.revoke", Target::Session(session), vec![])?;
        self.store
            .write(move |tx| {
                let sql = "UPDATE sessions SET revoked_at = $3 WHERE id = $1 AND member_id = $2 AND revoked_at IS NULL";
                match tx.execute(sql, &[session.0.into(), member.0.into(), now.into()])? {
                    0 => Err(Error::NotFound("session")),
                    _ => tx.record(&event),
                }
            })
            .await
    }

    /// Ends all of the caller's sessions but the one that asks; says how many.
    pub async fn revoke_other_sessions(&self, caller: &Caller) -> Result<u64> {
        self.authorize_here(caller, Action::ManageSelf).await?;
        let (member, keep, now) = (caller.member, caller.session(), self.clock.now());
        let event = self.event(caller, "session.revoke_others", Target::Member(member), vec![])?;
        self.store
            .write(move |tx| {
                let ended = revoke_all(tx, member, keep, now)?;
                let mut event = event.clone();
                event.detail.push(("count", ended.into()));
                tx.record(&event)?;
                Ok(ended)
            })
            .await
    }

    /// Ends the session that asks.
    pub async fn sign_out(&self, caller: &Caller) -> Result<()> {
        match caller.session() {
            Some(session) => self.revoke_session(caller, session).await,
            None => Err(Error::Denied("an API token does not sign out; revoke it".into())),
        }
    }

    /// Notes the last use of a session or token. Reading goes on when it cannot be noted.
    pub(super) async fn seen(&self, sql: &'static str, id: uuid::Uuid, now: Timestamp) {
        let noted = self.store.write(move |tx| tx.execute(sql, &[id.into(), now.into()]).map(drop)).await;
        if let Err(error) = noted {
            tracing::warn!(code = error.code(), "the last use of a session or token was not noted");
        }
    }

    /// What is stored of a session or token that an older instance key made is made anew, now that it was shown.
    pub(super) async fn goes_over(&self, sql: &'static str, id: uuid::Uuid, mac: [u8; Mac::LEN]) {
        let put = move |tx: &mut Tx<'_>| tx.execute(sql, &[id.into(), Param::Bytes(&mac)]).map(drop);
        if let Err(error) = self.store.write(put).await {
            tracing::warn!(code = error.code(), "a session or token stays under an older instance key for now");
        }
    }

    /// The event of a session that begins.
    pub(super) fn session_event(&self, workspace: WorkspaceId, row: &OpeningRow) -> Result<Event> {
        let expires_at = u64::try_from((row.now + ABSOLUTE).as_millisecond()).unwrap_or(0);
        let detail = vec![
            ("member", row.member.0.into()),
            ("expires_at", expires_at.into()),
            ("address", row.address.as_str().into()),
        ];
        let actor = Actor::Session(row.member, row.id);
        self.event_by(actor, Some(workspace), "session.create", Target::Session(row.id), detail)
    }

    /// A session to be written by [`OpeningRow::insert`].
    pub(super) fn open_session(&self, member: MemberId, origin: &Origin) -> Result<Opening> {
        let now = self.clock.now();
        let id = SessionId::generate(now, self.random.as_ref())?;
        let expires_at = now + ABSOLUTE;
        let (token, mac) = Bearer::Session.mint(Some(member), expires_at, &self.keys, self.random.as_ref())?;
        let agent = origin.agent.chars().filter(|letter| !letter.is_control()).take(AGENT_MAX).collect();
        let session = NewSession { id, token, expires_at };
        let row = OpeningRow { id, mac, member, now, address: origin.address.to_string(), agent };
        Ok(Opening { session, row })
    }
}

/// A session on its way into the database: the token stays here, the row goes into the transaction.
pub(super) struct Opening {
    pub(super) session: NewSession,
    pub(super) row: OpeningRow,
}

pub(super) struct OpeningRow {
    pub(super) id: SessionId,
    mac: [u8; Mac::LEN],
    member: MemberId,
    now: Timestamp,
    address: String,
    agent: String,
}

impl OpeningRow {
    /// Writes it, notes the sign-in, and drops the member's sessions that are too old.
    pub(super) fn insert(&self, tx: &mut Tx<'_>) -> Result<()> {
        let now = self.now;
        let sql = "DELETE FROM sessions WHERE member_id = $1 AND expires_at < $2";
        tx.execute(sql, &[self.member.0.into(), now.into()])?;
        tx.execute(
            "INSERT INTO sessions (id, token_mac, member_id, created_at, signed_in_at, last_seen_at, expires_at, \
                                   address, agent) VALUES ($1, $2, $3, $4, $4, $4, $5, $6, $7)",
            &[
                self.id.0.into(),
                Param::Bytes(&self.mac),
                self.member.0.into(),
                now.into(),
                (now + ABSOLUTE).into(),
                self.address.as_str().into(),
                self.agent.as_str().into(),
            ],
        )?;
        tx.execute("UPDATE members SET last_sign_in_at = $2 WHERE id = $1", &[self.member.0.into(), now.into()])?;
        Ok(())
    }
}

/// What one row says of whoever showed a session or an API token.
pub(super) struct Presence {
    pub(super) id: uuid::Uuid,
    pub(super) member: MemberId,
    signed_in_at: Timestamp,
    pub(super) seen_at: Option<Timestamp>,
    pub(super) expires_at: Timestamp,
    /// Revoked, or its member removed.
    pub(super) ended: bool,
    workspace: WorkspaceId,
    role: crate::access::Role,
    must_set_up_code: bool,
    slug: String,
    pub(super) mac: Vec<u8>,
}

impl Presence {
    pub(super) fn read(row: &Row<'_>) -> Result<Self> {
        let (revoked_at, removed_at): (Option<Timestamp>, Option<Timestamp>) = (row.get(5)?, row.get(6)?);
        let (has_code, require_code): (bool, bool) = (row.get(9)?, row.get(10)?);
        Ok(Self {
            id: row.get(0)?,
            member: MemberId(row.get(1)?),
            signed_in_at: row.get(2)?,
            seen_at: row.get(3)?,
            expires_at: row.get(4)?,
            ended: revoked_at.or(removed_at).is_some(),
            workspace: WorkspaceId(row.get(7)?),
            role: row.parse(8)?,
            must_set_up_code: require_code && !has_code,
            slug: row.get(11)?,
            mac: row.get(12)?,
        })
    }

    pub(super) fn caller(self, through: Through) -> Caller {
        Caller {
            workspace: self.workspace,
            workspace_slug: self.slug,
            member: self.member,
            role: self.role,
            through,
            signed_in_at: self.signed_in_at,
            must_set_up_code: self.must_set_up_code,
        }
    }
}

/// The row of the first MAC that has one: more than one MAC only while several instance keys are loaded.
pub(super) fn first_of<T>(
    tx: &mut Tx<'_>,
    sql: &str,
    macs: &[[u8; Mac::LEN]],
    map: impl Fn(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    for mac in macs {
        let found = tx.first(sql, &[Param::Bytes(mac)], &map)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Ends a member's live sessions, all but `keep`; says how many.
pub(super) fn revoke_all(tx: &mut Tx<'_>, member: MemberId, keep: Option<SessionId>, now: Timestamp) -> Result<u64> {
    let keep = keep.map_or(uuid::Uuid::nil(), |session| session.0);
    let sql = "UPDATE sessions SET revoked_at = $3 WHERE member_id = $1 AND id <> $2 AND revoked_at IS NULL";
    tx.execute(sql, &[member.0.into(), keep.into(), now.into()])
}

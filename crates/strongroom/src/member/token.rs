//! API tokens: what programs hold. A token acts as its member, with the role that the member has at that moment.

use jiff::{SignedDuration, Timestamp};
use strongroom_envelope::Mac;

use super::{
    bearer::Bearer,
    input,
    session::{Presence, SEEN_EVERY, first_of},
    signin,
};
use crate::{
    access::Action,
    app::{App, Caller, Through},
    audit::{Actor, Event, Target},
    error::{Error, Result},
    id::{MemberId, TokenId, WorkspaceId},
    secret_text::SecretText,
    store::{Param, Tx},
};

/// Days that a token may be good for.
const DAYS: std::ops::RangeInclusive<u16> = 1..=366;

/// Living tokens that a member may have.
const MAX: u64 = 100;

/// A token that has just been made. The secret is shown this once.
pub struct NewToken {
    pub token: Token,
    pub secret: SecretText,
}

/// One of a member's live API tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub id: TokenId,
    pub name: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
}

impl App {
    /// Who an API token (`srm_…`, without the word Bearer) speaks for, at this moment. Fails as
    /// [`App::caller_by_session`] does.
    pub async fn caller_by_token(&self, secret: &str) -> Result<Caller> {
        let shown = Bearer::ApiToken.read(secret, &self.keys).ok_or_else(signin::required)?;
        let (member, end, newest) = (shown.member, shown.expires_at, shown.newest());
        let found = self.store.read(move |tx| {
            let sql = "SELECT t.id, t.member_id, t.signed_in_at, t.last_used_at, t.expires_at, t.revoked_at, \
                              m.removed_at, m.workspace_id, m.role, m.totp_confirmed, w.require_code, w.slug, \
                              t.token_mac FROM api_tokens t JOIN members m ON m.id = t.member_id \
                       JOIN workspaces w ON w.id = m.workspace_id WHERE t.token_mac = $1";
            first_of(tx, sql, &shown.macs, Presence::read)
        });
        let found = found.await?.filter(|found| found.member == member).ok_or_else(signin::required)?;
        let now = self.clock.now();
        if found.ended || now >= found.expires_at.min(end) {
            return Err(signin::expired());
        }
        if found.seen_at.is_none_or(|at| now.duration_since(at) >= SEEN_EVERY) {
            let sql = "UPDATE api_tokens SET last_used_at = $2 WHERE id = $1";
            self.seen(sql, found.id, now).await;
        }
        if found.mac != newest {
            self.goes_over("UPDATE api_tokens SET token_mac = $2 WHERE id = $1", found.id, newest).await;
        }
        let id = TokenId(found.id);
        Ok(found.caller(Through::Token(id)))
    }

    /// Makes an API token for the caller, good for 1 to 366 `days`. In person only: a stolen token begets no others.
    pub async fn create_token(&self, caller: &Caller, name: &str, days: u16) -> Result<NewToken> {
        self.authorize_here(caller, Action::ManageSelf).await?;
        signin::in_person(caller)?;
        self.require_fresh(caller)?;
        let made = self.make_token(caller.member, name, days, caller.signed_in_at)?;
        let event = self.token_event(caller.actor(), caller.workspace, &made)?;
        let TokenOpening { token, row } = made;
        self.store
            .write(move |tx| {
                row.insert(tx)?;
                tx.record(&event)
            })
            .await?;
        Ok(token)
    }

    /// The caller's live API tokens, the newest first.
    pub async fn tokens(&self, caller: &Caller) -> Result<Vec<Token>> {
        self.authorize_here(caller, Action::ManageSelf).await?;
        let (member, now) = (caller.member, self.clock.now());
        let sql = "SELECT id, name, created_at, expires_at, last_used_at FROM api_tokens \
                   WHERE member_id = $1 AND revoked_at IS NULL AND expires_at > $2 ORDER BY created_at DESC, id DESC";
        self.store
            .read(move |tx| {
                tx.all(sql, &[member.0.into(), now.into()], |row| {
                    Ok(Token {
                        id: TokenId(row.get(0)?),
                        name: row.get(1)?,
                        created_at: row.get(2)?,
                        expires_at: row.get(3)?,
                        last_used_at: row.get(4)?,
                    })
                })
            })
            .await
    }

    /// Ends one of the caller's API tokens.
    pub async fn revoke_token(&self, caller: &Caller, token: TokenId) -> Result<()> {
        self.authorize_here(caller, Action::ManageSelf).await?;
        let (member, now) = (caller.member, self.clock.now());
        let event = self.event(caller, "token.revoke", Target::Token(token), vec![])?;
        self.store
            .write(move |tx| {
                let sql =
                    "UPDATE api_tokens SET revoked_at = $3 WHERE id = $1 AND member_id = $2 AND revoked_at IS NULL";
                match tx.execute(sql, &[token.0.into(), member.0.into(), now.into()])? {
                    0 => Err(Error::NotFound("token")),
                    _ => tx.record(&event),
                }
            })
            .await
    }

    /// A token for `member`, to be written by [`TokenRow::insert`].
    pub(super) fn make_token(
        &self,
        member: MemberId,
        name: &str,
        days: u16,
        signed_in_at: Timestamp,
    ) -> Result<TokenOpening> {
        let mut wrong = vec![];
        let name = input::checked(input::name("name", name), &mut wrong).unwrap_or_default();
        if !DAYS.contains(&days) {
            let message = "A token is good for 1 to 366 days.".into();
            wrong.push(crate::error::FieldError { field: "expires_in_days".into(), message });
        }
        if !wrong.is_empty() {
            return Err(Error::Invalid(wrong));
        }
        let created_at = self.clock.now();
        let id = TokenId::generate(created_at, self.random.as_ref())?;
        let expires_at = created_at + SignedDuration::from_hours(i64::from(days) * 24);
        let (secret, mac) = Bearer::ApiToken.mint(Some(member), expires_at, &self.keys, self.random.as_ref())?;
        let token = Token { id, name, created_at, expires_at, last_used_at: None };
        let row = TokenRow { token: token.clone(), mac, member, signed_in_at };
        Ok(TokenOpening { token: NewToken { token, secret }, row })
    }

    pub(super) fn token_event(&self, actor: Actor, workspace: WorkspaceId, made: &TokenOpening) -> Result<Event> {
        let expires_at = u64::try_from(made.row.token.expires_at.as_millisecond()).unwrap_or(0);
        let detail = vec![("member", made.row.member.0.into()), ("expires_at", expires_at.into())];
        self.event_by(actor, Some(workspace), "token.create", Target::Token(made.row.token.id), detail)
    }
}

/// A token on its way into the database.
pub(super) struct TokenOpening {
    pub(super) token: NewToken,
    pub(super) row: TokenRow,
}

pub(super) struct TokenRow {
    token: Token,
    mac: [u8; Mac::LEN],
    member: MemberId,
    signed_in_at: Timestamp,
}

impl TokenRow {
    /// Writes it and drops the member's tokens that have ended. Refuses when [`MAX`] others live.
    pub(super) fn insert(&self, tx: &mut Tx<'_>) -> Result<()> {
        let sql = "DELETE FROM api_tokens WHERE member_id = $1 AND (expires_at <= $2 OR revoked_at IS NOT NULL)";
        tx.execute(sql, &[self.member.0.into(), self.token.created_at.into()])?;
        if tx.count("SELECT COUNT(*) FROM api_tokens WHERE member_id = $1", &[self.member.0.into()])? >= MAX {
            return Err(Error::conflict(
                "token.too_many",
                format!("a member may have {MAX} living API tokens, and you have as many"),
                "Revoke some in your profile, then sign in again.",
            ));
        }
        tx.execute(
            "INSERT INTO api_tokens (id, token_mac, member_id, name, created_at, signed_in_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            &[
                self.token.id.0.into(),
                Param::Bytes(&self.mac),
                self.member.0.into(),
                self.token.name.as_str().into(),
                self.token.created_at.into(),
                self.signed_in_at.into(),
                self.token.expires_at.into(),
            ],
        )?;
        Ok(())
    }
}

/// Ends a member's live API tokens; says how many.
pub(super) fn revoke_all(tx: &mut Tx<'_>, member: MemberId, now: Timestamp) -> Result<u64> {
    let sql = "UPDATE api_tokens SET revoked_at = $2 WHERE member_id = $1 AND revoked_at IS NULL";
    tx.execute(sql, &[member.0.into(), now.into()])
}

//! Signing in: a password, then a code where one is set up. Nothing that is answered tells an unknown e-mail address
//! from a wrong password: not the words, not the time, not the limits.

use std::{sync::Arc, time::Duration};

use super::{
    NewSession, NewToken, Origin, Record, bearer::Bearer, code, guard::Try, input, input::Email, link, password,
    session, token,
};
use crate::{
    access::Action,
    app::{App, Caller},
    audit::{Actor, Event, Target},
    error::{Error, Result},
    secret_text::SecretText,
    store::Tx,
};

/// How the first step ended.
pub enum SignIn {
    Session(NewSession),
    /// The password was right; the ticket and a code make it a session, for five minutes.
    NeedsCode {
        ticket: SecretText,
    },
}

impl App {
    /// The first step: e-mail address and password. `signin.wrong` when they do not belong together.
    pub async fn sign_in(&self, email: &str, password: SecretText, origin: &Origin) -> Result<SignIn> {
        let record = self.prove_email(email, password, origin).await?;
        if record.member.has_code {
            let ticket = self.make_link(Bearer::Ticket, Some(record.member.id))?;
            let (row, ticket) = (ticket.row, ticket.link.token);
            self.store.write(move |tx| row.insert(tx)).await?;
            return Ok(SignIn::NeedsCode { ticket });
        }
        self.begin_session(record, None, origin, |_| Ok(())).await.map(SignIn::Session)
    }

    /// The second step: the ticket of the first, and six digits or a recovery code. `signin.code_wrong` leaves the
    /// ticket as it is; a used or old one is `signin.expired`.
    pub async fn sign_in_code(&self, ticket: SecretText, code: SecretText, origin: &Origin) -> Result<NewSession> {
        let shown = Bearer::Ticket.read(ticket.expose(), &self.keys).ok_or_else(expired)?;
        let now = self.clock.now();
        let found = self.store.read(move |tx| {
            let Some(found) = link::find(tx, &shown, now)? else { return Ok(None) };
            Ok(Some((found, Record::living(tx, shown.member)?)))
        });
        let (found, record) = found.await?.ok_or_else(expired)?;
        let spend_ticket = move |tx: &mut Tx<'_>| link::spend(tx, found.id, now);
        self.begin_session(record, Some(code), origin, spend_ticket).await
    }

    /// Both steps at once, for a program: an API token called `name`, good for `days`. `signin.code_required` when the
    /// password was right and a code is missing.
    pub async fn sign_in_for_token(
        &self,
        (email, password, code): (&str, SecretText, Option<SecretText>),
        (name, days): (&str, u16),
        origin: &Origin,
    ) -> Result<NewToken> {
        let record = self.prove_email(email, password, origin).await?;
        let member = &record.member;
        let made = self.make_token(member.id, name, days, self.clock.now())?;
        let mut event = self.token_event(Actor::Token(member.id, made.token.token.id), member.workspace, &made)?;
        event.detail.push(("address", origin.address.to_string().into()));
        let token::TokenOpening { token, row } = made;
        self.admit(&record, code, origin, event, move |tx| row.insert(tx)).await?;
        Ok(token)
    }

    /// Proves again who the caller is, so that [`App::require_fresh`] is content.
    pub async fn refresh(
        &self,
        caller: &Caller,
        password: SecretText,
        code: Option<SecretText>,
        origin: &Origin,
    ) -> Result<()> {
        self.authorize_here(caller, Action::ManageSelf).await?;
        let session = in_person(caller)?;
        let record = self.prove_caller(caller, password, origin).await?;
        let now = self.clock.now();
        let event = self.event(caller, "session.refresh", Target::Session(session), vec![])?;
        let entry = move |tx: &mut Tx<'_>| {
            let sql = "UPDATE sessions SET signed_in_at = $2 WHERE id = $1";
            tx.execute(sql, &[session.0.into(), now.into()]).map(drop)
        };
        self.admit(&record, code, origin, event, entry).await
    }

    /// Replaces the caller's password. Every other session of theirs ends; API tokens stay.
    pub async fn change_password(
        &self,
        caller: &Caller,
        old: SecretText,
        new: SecretText,
        origin: &Origin,
    ) -> Result<()> {
        self.authorize_here(caller, Action::ManageSelf).await?;
        let keep = in_person(caller)?;
        input::only(input::new_password(&new))?;
        let mut record = self.prove_caller(caller, old, origin).await?;
        record.password_hash = Some(password::hash(&self.guard, self.random.as_ref(), new).await?);
        record.member.revision += 1;
        let event = self.member_event(caller.actor(), "member.password", &record)?;
        let now = self.clock.now();
        self.store
            .write(move |tx| {
                record.update(tx, now)?;
                session::revoke_all(tx, record.member.id, Some(keep), now)?;
                link::revoke_all(tx, record.member.id)?;
                tx.record(&event)
            })
            .await
    }

    /// Calls [`App::record_failed_sign_ins`] once a minute, for as long as the server runs.
    pub async fn tell_of_failed_sign_ins(self: Arc<Self>) {
        loop {
            self.clock.sleep(Duration::from_secs(60)).await;
            if let Err(error) = self.record_failed_sign_ins().await {
                tracing::warn!(code = error.code(), "failed sign-ins were not recorded");
            }
        }
    }

    /// Writes an event for failed sign-ins that none has told of yet, and whose minute is over.
    pub async fn record_failed_sign_ins(&self) -> Result<()> {
        let count = self.guard.untold(self.clock.since_boot());
        if count == 0 {
            return Ok(());
        }
        let detail = vec![("count", count.into())];
        let event = self.event_by(Actor::Anonymous, None, "signin.failed", Target::None, detail)?;
        self.store.write(move |tx| tx.record(&event)).await
    }

    /// The member behind an address and a password.
    async fn prove_email(&self, email: &str, password: SecretText, origin: &Origin) -> Result<Record> {
        let email = Email::parse(email).ok();
        let account = email.as_ref().map_or("", Email::as_str);
        let attempt = self.guard.take(account, origin.address, self.clock.since_boot())?;
        let found = match email.clone() {
            Some(email) => self.store.read(move |tx| Record::by_email(tx, email.as_str())).await?,
            None => None,
        };
        self.prove((account, attempt), found, password, origin).await
    }

    async fn prove_caller(&self, caller: &Caller, password: SecretText, origin: &Origin) -> Result<Record> {
        let member = caller.member;
        let record = self.store.read(move |tx| Record::living(tx, member)).await?;
        let account = record.member.email.clone();
        let attempt = self.guard.take_again(&account, self.clock.since_boot())?;
        self.prove((&account, attempt), Some(record), password, origin).await
    }

    /// Compares the password; `attempt` has been taken for `account` and is given back when it was right.
    async fn prove(
        &self,
        (account, attempt): (&str, Try),
        found: Option<Record>,
        password: SecretText,
        origin: &Origin,
    ) -> Result<Record> {
        let stored = found.as_ref().and_then(|record| record.password_hash.clone());
        let right = password::verify(&self.guard, password, stored).await?;
        match found {
            Some(record) if right => {
                self.guard.succeeded(attempt, account, self.clock.since_boot())?;
                Ok(record)
            }
            found => {
                self.note_failure(account, found.as_ref(), "password", origin).await?;
                Err(wrong())
            }
        }
    }

    /// The end of every sign-in: spends the code where there is one, does `entry` and records `event`, all of it in
    /// one transaction and only while the member is as they were when their password was compared.
    async fn admit(
        &self,
        record: &Record,
        code: Option<SecretText>,
        origin: &Origin,
        event: Event,
        entry: impl Fn(&mut Tx<'_>) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let member = record.member.clone();
        let attempt = match (member.has_code, &code) {
            (true, None) => return Err(code_required()),
            (true, Some(_)) => Some(self.guard.take_code(&member.email, origin.address, self.clock.since_boot())?),
            (false, _) => None,
        };
        let (keys, now, email) = (self.keys.clone(), self.clock.now(), member.email.clone());
        let admitted = self.store.write(move |tx| {
            let current = Record::living(tx, member.id).map_err(|error| error.if_missing(wrong))?;
            if current.member.revision != member.revision {
                return Err(wrong());
            }
            let with = match &code {
                Some(code) if member.has_code => code::spend(tx, &keys, &current, code, now)?,
                _ => Some("password"),
            };
            let Some(with) = with else { return Ok(false) };
            let mut event = event.clone();
            event.detail.push(("with", with.into()));
            entry(tx)?;
            tx.record(&event)?;
            Ok(true)
        });
        if !admitted.await? {
            self.note_failure(&email, Some(record), "code", origin).await?;
            return Err(code_wrong());
        }
        if let Some(attempt) = attempt {
            self.guard.give_back(attempt);
        }
        Ok(())
    }

    async fn begin_session(
        &self,
        record: Record,
        code: Option<SecretText>,
        origin: &Origin,
        also: impl Fn(&mut Tx<'_>) -> Result<()> + Send + 'static,
    ) -> Result<NewSession> {
        let session::Opening { session, row } = self.open_session(record.member.id, origin)?;
        let event = self.session_event(record.member.workspace, &row)?;
        let entry = move |tx: &mut Tx<'_>| {
            also(tx)?;
            row.insert(tx)
        };
        self.admit(&record, code, origin, event, entry).await?;
        Ok(session)
    }

    /// Counts a failure, and tells the audit log when it is time: see [`super::guard`].
    async fn note_failure(
        &self,
        account: &str,
        found: Option<&Record>,
        with: &'static str,
        origin: &Origin,
    ) -> Result<()> {
        let Some(count) = self.guard.failed(account, origin.address, self.clock.since_boot()) else { return Ok(()) };
        let workspace = found.map(|record| record.member.workspace);
        let target = found.map_or(Target::None, |record| Target::Member(record.member.id));
        let detail =
            vec![("address", origin.address.to_string().into()), ("count", count.into()), ("with", with.into())];
        let event = self.event_by(Actor::Anonymous, workspace, "signin.failed", target, detail)?;
        self.store.write(move |tx| tx.record(&event)).await
    }
}

/// How members prove who they are is changed by themselves, in a browser: a stolen API token changes none of it.
pub(super) fn in_person(caller: &Caller) -> Result<crate::id::SessionId> {
    caller.session().ok_or_else(|| Error::Denied("an API token may not change how its member signs in".into()))
}

pub(super) fn required() -> Error {
    Error::NotSignedIn { code: "signin.required", title: "you are not signed in", fix: "Sign in." }
}

pub(crate) fn expired() -> Error {
    Error::NotSignedIn { code: "signin.expired", title: "this sign-in has ended", fix: "Sign in again." }
}

pub(super) fn wrong() -> Error {
    Error::NotSignedIn {
        code: "signin.wrong",
        title: "the e-mail address or the password is wrong",
        fix: "Check both. An operator of the server makes a new password possible with \
              `strongroom admin reset-link EMAIL`.",
    }
}

fn code_required() -> Error {
    Error::NotSignedIn {
        code: "signin.code_required",
        title: "a code is needed too",
        fix: "Send the six digits of your authenticator app, or a recovery code.",
    }
}

pub(super) fn code_wrong() -> Error {
    Error::NotSignedIn {
        code: "signin.code_wrong",
        title: "this code is wrong or was used before",
        fix: "Wait for the next code of your authenticator app, or use a recovery code.",
    }
}

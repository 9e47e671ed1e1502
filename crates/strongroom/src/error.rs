//! Every way a use case can end without an answer. A variant is a choice a caller can make; the words are for the
//! reader: what happened, why, what to do. None holds what was in an item, a key or a credential.

use std::borrow::Cow;

use jiff::Timestamp;
use strongroom_keys::{
    Class, Code, KeyFailure, KeyProvider, Kid, State,
    check::{CheckLine, CheckStatus},
};

use crate::{id::VaultId, store::StoreError};

/// The result of every use case.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a use case refused. `http::error` maps each variant to a status once, `cli` to an exit code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such thing, or the caller may not know of it. The two look alike on purpose.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The caller's role does not allow it.
    #[error("{0}")]
    Denied(Cow<'static, str>),
    /// Nobody is signed in, or the session, token or link is no longer good.
    #[error("{title}")]
    NotSignedIn { code: &'static str, title: &'static str, fix: &'static str },
    /// Signed in, but too long ago for this action.
    #[error("this needs a fresh sign-in")]
    StaleSignIn,
    /// What was sent cannot be taken; one line for each field.
    #[error("{}", .0.first().map_or("invalid", |field| &field.message))]
    Invalid(Vec<FieldError>),
    /// A rule of the workspace stands against it.
    #[error("{title}")]
    Conflict { code: &'static str, title: Cow<'static, str>, fix: Cow<'static, str> },
    /// An edit without `If-Match`.
    #[error("this edit must say which revision it changes")]
    RevisionRequired,
    /// Somebody else edited first.
    #[error("revision {current} is current now")]
    RevisionStale { current: u64 },
    /// The vault's key cannot be used now.
    #[error("{}", .0.title)]
    KeyUnavailable(Box<KeyUnavailable>),
    /// The checks stand against the vault; each line names one. See [`obstacle`] for what of them does.
    #[error("the checks of the vault {}", match obstacle(.0) {
        CheckStatus::Fail => "failed",
        CheckStatus::Warn => "warn",
        _ => "came to no end",
    })]
    ChecksFailed(Vec<CheckLine>),
    /// One of this member or of this vault has not ended.
    #[error("a check of this is running")]
    CheckRunning,
    /// Too many tries.
    #[error("too many tries; wait {0} s")]
    TooMany(u64),
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Stored bytes are not what they should be: tampered with, or a defect of ours.
    #[error("{what}")]
    Integrity { code: &'static str, what: Cow<'static, str> },
    /// Something of this machine: configuration, files, the random source.
    #[error("{what}")]
    Setup { what: Cow<'static, str>, fix: Cow<'static, str> },
}

/// What is wrong with one field that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    pub field: Cow<'static, str>,
    pub message: Cow<'static, str>,
}

/// Whether a key is denied, out of reach or wrong: the classes of `strongroom_keys`, as a vault's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// The provider refused: the vault is dark until it allows again. HTTP 423.
    Dark,
    /// The provider is out of reach and no lease is left. HTTP 503.
    Outage,
    /// The provider answered what must not be. HTTP 500, with an alarm.
    Fault,
    /// The workspace switched the vault off; its key was not asked. HTTP 423.
    Disabled,
}

/// Why a vault cannot be read, for people: the same words on every page, in the API and in the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUnavailable {
    pub vault: VaultId,
    pub vault_name: String,
    pub class: Unavailable,
    /// Stable, such as `key.disabled`.
    pub code: String,
    /// What happened, in a few words.
    pub title: String,
    pub detail: String,
    pub fix: String,
    pub since: Timestamp,
    /// Of a deleted key: about when it can no longer be recovered. Nobody tells when it was deleted, so that this counts
    /// from when it was first denied. None where the days are not known.
    pub recoverable_until: Option<Timestamp>,
    pub azure_request_id: Option<String>,
}

impl KeyUnavailable {
    /// A provider's failure in the words of `strongroom_keys`, with the customer's own names in the command that mends
    /// it; `kid` is the key version that was asked for, where one was.
    pub fn told(
        vault: VaultId,
        vault_name: &str,
        provider: &dyn KeyProvider,
        failure: &KeyFailure,
        kid: Option<&Kid>,
        since: Timestamp,
    ) -> Self {
        Self {
            vault,
            vault_name: vault_name.to_owned(),
            class: match failure.class {
                Class::Denial | Class::Refused => Unavailable::Dark,
                Class::Outage => Unavailable::Outage,
                Class::Fault => Unavailable::Fault,
            },
            code: failure.code.as_str().into(),
            title: failure.code.title().into(),
            detail: failure.detail.clone(),
            fix: mends(provider, failure, kid),
            since,
            recoverable_until: None,
            azure_request_id: failure.azure_request_id.clone(),
        }
    }

    /// The vault's state as every face of the product names it.
    pub fn state(&self) -> State {
        state_of(self.class, Code::of(&self.code))
    }

    /// Rows that fail their proof; None for any other error.
    pub fn tampered(vault: VaultId, vault_name: &str, error: &Error, since: Timestamp) -> Option<Self> {
        let Error::Integrity { code, what } = error else { return None };
        Some(Self {
            vault,
            vault_name: vault_name.to_owned(),
            class: Unavailable::Fault,
            code: (*code).into(),
            title: "The vault's rows were changed behind the server's back".into(),
            detail: what.clone().into_owned(),
            fix: error.fix().into_owned(),
            since,
            recoverable_until: None,
            azure_request_id: None,
        })
    }
}

/// The state that readers see, of a class and a code; a code of another build keeps the class's plainest word.
pub fn state_of(class: Unavailable, code: Option<Code>) -> State {
    code.map_or(
        match class {
            Unavailable::Dark => State::AccessRemoved,
            Unavailable::Outage => State::Unreachable,
            Unavailable::Fault => State::Fault,
            Unavailable::Disabled => State::VaultDisabled,
        },
        Code::state,
    )
}

/// The command, or words where no single command helps: another credential is made in Azure, then given to the vault.
fn mends(provider: &dyn KeyProvider, failure: &KeyFailure, kid: Option<&Kid>) -> String {
    let words = failure.fix_of_vault();
    let command = if words == failure.fix() { provider.command(failure, kid) } else { None };
    command.unwrap_or_else(|| words.into())
}

impl Error {
    /// One field, one message.
    pub fn field(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid(vec![FieldError { field: field.into(), message: message.into() }])
    }

    /// A rule that stands against the request.
    pub fn conflict(
        code: &'static str,
        title: impl Into<Cow<'static, str>>,
        fix: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Conflict { code, title: title.into(), fix: fix.into() }
    }

    /// The workspace itself switched the vault off. For its items that is as if the key were denied.
    pub fn vault_disabled(vault: VaultId, vault_name: &str, now: Timestamp) -> Self {
        Self::KeyUnavailable(Box::new(KeyUnavailable {
            vault,
            vault_name: vault_name.to_owned(),
            class: Unavailable::Disabled,
            code: "vault.disabled".into(),
            title: "The vault is disabled".into(),
            detail: "Somebody who manages the vaults switched it off. Its items are kept.".into(),
            fix: "An Owner, Super Admin or Admin can enable it again in the vault's settings.".into(),
            since: now,
            recoverable_until: None,
            azure_request_id: None,
        }))
    }

    /// Stored bytes that fail their own proof.
    pub fn integrity(code: &'static str, what: impl Into<Cow<'static, str>>) -> Self {
        Self::Integrity { code, what: what.into() }
    }

    /// `answer` where what was looked for is not there. Every other error stays what it is: a transaction that the
    /// database wants repeated has to say so.
    pub fn if_missing(self, answer: fn() -> Self) -> Self {
        match self {
            Self::NotFound(_) => answer(),
            other => other,
        }
    }

    /// The operating system gave no randomness.
    pub fn random() -> Self {
        Self::Setup {
            what: "the operating system's random source failed".into(),
            fix: "Restart the server; if it happens again, the machine is broken.".into(),
        }
    }

    /// The stable code that the API, the audit log and the pages carry.
    pub fn code(&self) -> &str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::Denied(_) => "denied",
            Self::NotSignedIn { code, .. } | Self::Conflict { code, .. } | Self::Integrity { code, .. } => code,
            Self::StaleSignIn => "signin.fresh_required",
            Self::Invalid(_) => "invalid",
            Self::RevisionRequired => "revision.required",
            Self::RevisionStale { .. } => "revision.stale",
            Self::KeyUnavailable(key) => &key.code,
            Self::ChecksFailed(lines) => match obstacle(lines) {
                CheckStatus::Fail => "vault.checks_failed",
                CheckStatus::Warn => "vault.checks_warned",
                _ => "vault.checks_unfinished",
            },
            Self::CheckRunning => "vault.check_running",
            Self::TooMany(_) => "too_many",
            Self::Store(error) => error.code(),
            Self::Setup { .. } => "setup",
        }
    }

    /// What the reader can do about it.
    pub fn fix(&self) -> Cow<'_, str> {
        match self {
            Self::NotFound(_) => {
                "Check the address or the id; it may have been deleted, or not be shared with you.".into()
            }
            Self::Denied(_) => "Ask an Owner, Super Admin or Admin of the workspace, or the item's owner.".into(),
            Self::NotSignedIn { fix, .. } => (*fix).into(),
            Self::StaleSignIn => "Sign in again, then repeat what you did.".into(),
            Self::Invalid(_) => "Correct what is named and send it again.".into(),
            Self::Conflict { fix, .. } | Self::Setup { fix, .. } => fix.as_ref().into(),
            Self::RevisionRequired => "Send the header If-Match with the revision you read, in quotes.".into(),
            Self::RevisionStale { .. } => "Read it again, look at what changed, and repeat your edit.".into(),
            Self::KeyUnavailable(key) => key.fix.as_str().into(),
            Self::ChecksFailed(lines) => match obstacle(lines) {
                CheckStatus::Fail => "Mend the first failed line, then try again.".into(),
                CheckStatus::Warn => "Mend what they warn of, or take it as it is: accept_warnings in the request, \
                                      --accept-warnings on the command line."
                    .into(),
                _ => "Try again; if it stays, see which line could not be checked, and why.".into(),
            },
            Self::CheckRunning => "Wait until it has ended, within 15 s, and check again.".into(),
            Self::TooMany(seconds) => format!("Wait {seconds} s and try again.").into(),
            Self::Store(error) => error.fix().into(),
            Self::Integrity { .. } => {
                "Nothing was changed. Run `strongroom audit verify --state` on the server and keep its report.".into()
            }
        }
    }
}

/// The status of those lines that stand against making a vault: what failed; else what could not be checked, where the
/// key was never seen to work; else what warns.
pub fn obstacle(lines: &[CheckLine]) -> CheckStatus {
    let proven = lines.iter().any(|line| line.code == "key.compare" && line.status == CheckStatus::Pass);
    match lines.iter().any(|line| line.status == CheckStatus::Fail) {
        true => CheckStatus::Fail,
        false if proven => CheckStatus::Warn,
        false => CheckStatus::CouldNotCheck,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_database_wants_repeated_is_no_wrong_answer() {
        let answer = || Error::StaleSignIn;
        assert!(matches!(Error::NotFound("member").if_missing(answer), Error::StaleSignIn));
        let retry = Error::Store(StoreError::Retry).if_missing(answer);
        assert!(matches!(retry, Error::Store(StoreError::Retry)));
    }
}

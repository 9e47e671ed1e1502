//! Two credentials of one key, while the previous one is still held. The new one is asked first; where the sign-in fails or
//! the key refuses it, the previous one is asked. So there is no moment of denial when a credential is replaced, and a
//! denial counts only when every held credential meets it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use strongroom_envelope::WrapRecord;
use strongroom_keys::{Class, KeyDescription, KeyFailure, KeyProvider, Kid, Receipts, TokenUse, Unwrapped, Wrapped};
use tokio::time::Instant;

/// The same key by either credential.
pub(super) struct BothCredentials {
    pub(super) current: Arc<dyn KeyProvider>,
    pub(super) previous: Arc<dyn KeyProvider>,
}

#[async_trait]
impl KeyProvider for BothCredentials {
    async fn describe(&self, deadline: Duration) -> Result<(KeyDescription, Receipts), KeyFailure> {
        let end = Instant::now() + deadline;
        match self.current.describe(deadline).await {
            Err(failure) if may_be_the_credential(&failure) => {
                either(failure, self.previous.describe(until(end)).await)
            }
            answer => answer,
        }
    }

    async fn wrap_key(&self, record: &WrapRecord, deadline: Duration) -> Result<Wrapped, KeyFailure> {
        let end = Instant::now() + deadline;
        match self.current.wrap_key(record, deadline).await {
            Err(failure) if may_be_the_credential(&failure) => {
                either(failure, self.previous.wrap_key(record, until(end)).await)
            }
            answer => answer,
        }
    }

    async fn unwrap_key(
        &self,
        kid: &Kid,
        wrapped: &[u8],
        token: TokenUse,
        deadline: Duration,
    ) -> Result<Unwrapped, KeyFailure> {
        let end = Instant::now() + deadline;
        match self.current.unwrap_key(kid, wrapped, token, deadline).await {
            Err(failure) if may_be_the_credential(&failure) => {
                either(failure, self.previous.unwrap_key(kid, wrapped, token, until(end)).await)
            }
            answer => answer,
        }
    }

    fn command(&self, failure: &KeyFailure, kid: Option<&Kid>) -> Option<String> {
        self.current.command(failure, kid)
    }
}

/// Whether another credential could do better: not where Azure could not be asked, or answered what must not be.
fn may_be_the_credential(failure: &KeyFailure) -> bool {
    failure.is_sign_in() || matches!(failure.class, Class::Denial | Class::Refused)
}

/// The previous credential's answer. Where both are refused, the refusal of the current one is told, unless one of the two
/// says less than no: then nobody has denied anything yet.
fn either<T>(current: KeyFailure, previous: Result<T, KeyFailure>) -> Result<T, KeyFailure> {
    previous.map_err(|previous| match previous.class {
        Class::Denial | Class::Refused => current,
        Class::Outage | Class::Fault => previous,
    })
}

fn until(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}

#[cfg(test)]
mod tests {
    use strongroom_keys::{Code, Operation};

    use super::*;

    /// Answers every unwrap in one way.
    struct Answers(Option<Code>);

    fn failure(code: Code) -> KeyFailure {
        KeyFailure::new(code, Operation::Unwrap, "")
    }

    #[async_trait]
    impl KeyProvider for Answers {
        async fn describe(&self, _: Duration) -> Result<(KeyDescription, Receipts), KeyFailure> {
            Err(failure(Code::Timeout))
        }

        async fn wrap_key(&self, _: &WrapRecord, _: Duration) -> Result<Wrapped, KeyFailure> {
            Err(failure(Code::Timeout))
        }

        async fn unwrap_key(&self, _: &Kid, _: &[u8], _: TokenUse, _: Duration) -> Result<Unwrapped, KeyFailure> {
            match self.0 {
                Some(code) => Err(failure(code)),
                None => Ok(Unwrapped { record: strongroom_envelope::Plaintext::new(Vec::new()), receipts: Vec::new() }),
            }
        }

        fn command(&self, _: &KeyFailure, _: Option<&Kid>) -> Option<String> {
            None
        }
    }

    async fn both(current: Option<Code>, previous: Option<Code>) -> Option<(Code, Class)> {
        let both = BothCredentials { current: Arc::new(Answers(current)), previous: Arc::new(Answers(previous)) };
        let kid = "https://customer-keys.vault.azure.net/keys/strongroom/0123456789abcdef0123456789abcdef";
        let kid = kid.parse().expect("a kid");
        let answer = both.unwrap_key(&kid, &[], TokenUse::Cached, Duration::from_secs(5)).await;
        answer.err().map(|failure| (failure.code, failure.class))
    }

    #[tokio::test]
    async fn a_denial_counts_only_when_both_credentials_meet_it() {
        use Code::{AccessRemoved, KeyDisabled, SecretExpired, SecretWrong, SignInFailed, Timeout, WrongKid};
        assert_eq!(both(None, Some(SecretWrong)).await, None);
        assert_eq!(both(Some(SecretWrong), None).await, None);
        assert_eq!(both(Some(AccessRemoved), None).await, None);
        assert_eq!(both(Some(SignInFailed), None).await, None);
        assert_eq!(both(Some(SecretWrong), Some(SecretExpired)).await, Some((SecretWrong, Class::Denial)));
        assert_eq!(both(Some(KeyDisabled), Some(KeyDisabled)).await, Some((KeyDisabled, Class::Denial)));
        assert_eq!(both(Some(SecretWrong), Some(Timeout)).await, Some((Timeout, Class::Outage)));
        assert_eq!(both(Some(SignInFailed), Some(SecretExpired)).await, Some((SignInFailed, Class::Outage)));
        assert_eq!(both(Some(SecretWrong), Some(WrongKid)).await, Some((WrongKid, Class::Fault)));
    }

    #[tokio::test]
    async fn what_no_credential_can_help_is_not_asked_twice() {
        assert_eq!(both(Some(Code::Timeout), None).await, Some((Code::Timeout, Class::Outage)));
        assert_eq!(both(Some(Code::WrongKid), None).await, Some((Code::WrongKid, Class::Fault)));
    }
}

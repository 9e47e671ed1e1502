//! Canaries: an unwrap of each Azure vault's live wrap, for real, every few seconds, also while the vault is dark, so
//! that a withdrawal and its end are both noticed without a reader. Their leases renew those in use.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::join_all};
use strongroom_envelope::read_wrap_record;
use strongroom_keys::TokenUse;

use super::{Keyring, Strategy};
use crate::{
    error::{Error, Result},
    id::VaultId,
};

/// Between two canaries of a vault.
pub const CANARY_PAUSE: Duration = Duration::from_secs(5);
/// What a canary waits for Azure.
const CANARY_DEADLINE: Duration = Duration::from_secs(4);
/// Between two looks at the marks of other nodes.
const MARKS_PAUSE: Duration = Duration::from_secs(1);
/// Every so many rounds a canary signs in anew, so that a withdrawn credential shows within a minute.
const FRESH_EVERY: u64 = 12;
/// Canaries of one vault in one round: a success while it is dark is followed at once by the second that it needs.
const AT_ONCE: usize = 3;

impl Keyring {
    /// Runs canaries until the task is dropped. Nothing that one of them meets ends the others.
    pub async fn keep_watch(self: Arc<Self>) {
        let marks = async {
            loop {
                self.clock.sleep(MARKS_PAUSE).await;
                self.drop_lapsed();
                if let Err(error) = guarded(self.read_marks()).await {
                    tracing::warn!(%error, "the denial marks could not be read");
                }
            }
        };
        let canaries = async {
            for round in 0u64.. {
                let pause = self.clock.sleep(CANARY_PAUSE);
                let token = if round % FRESH_EVERY == 0 { TokenUse::Fresh } else { TokenUse::Cached };
                if let Err(error) = guarded(self.canary_round(token)).await {
                    tracing::warn!(%error, "a round of canaries failed");
                }
                pause.await;
            }
        };
        tokio::join!(marks, canaries);
    }

    /// One canary for each vault whose key is in Azure.
    pub async fn canary_round(self: &Arc<Self>, token: TokenUse) -> Result<()> {
        let vaults = self
            .store
            .read(|tx| {
                // Either row may be planted; a vault that one of them calls external keeps its canary.
                tx.all(
                    "SELECT v.id, v.generation FROM vaults v JOIN providers p ON p.vault_id = v.id \
                     WHERE v.strategy = $1 OR p.kind = $1",
                    &[Strategy::AzureExternalKeys.word().into()],
                    |row| Ok((VaultId(row.get(0)?), row.get::<u32>(1)?)),
                )
            })
            .await?;
        let canaries = vaults.into_iter().map(|(vault, generation)| guarded(self.canary(vault, generation, token)));
        for outcome in join_all(canaries).await {
            match outcome {
                // What a canary finds is the vault's state, noted already.
                Ok(()) | Err(Error::KeyUnavailable(_)) => {}
                Err(Error::Store(error)) => return Err(error.into()),
                Err(error) => tracing::error!(%error, "a canary could not be sent"),
            }
        }
        Ok(())
    }

    async fn canary(self: &Arc<Self>, vault: VaultId, generation: u32, token: TokenUse) -> Result<()> {
        // A cached token says nothing of a credential that Entra has refused.
        let token = if self.credential_in_doubt(vault) { TokenUse::Fresh } else { token };
        for _ in 0..AT_ONCE {
            if self.canary_once(vault, generation, token).await? {
                break;
            }
        }
        Ok(())
    }

    /// True when the vault needs no second canary now.
    async fn canary_once(&self, vault: VaultId, generation: u32, token: TokenUse) -> Result<bool> {
        let (record, proven) = match self.record(vault, generation).await {
            Ok(record) => (record, true),
            // Rows that fail their proof must not blind the canary: it goes on with those it last saw.
            Err(error) => (self.last_proven(vault, generation, error).await?, false),
        };
        let provider = self.provider(&record.provider)?;
        let started = (self.clock.now(), self.clock.since_boot());
        let answer = match provider.unwrap_key(&record.kid, &record.wrapped, token, CANARY_DEADLINE).await {
            Ok(answer) => answer,
            Err(failure) => return Err(self.failed(&record, provider.as_ref(), failure, started.1).await),
        };
        let key = match read_wrap_record(&answer.record, &record.place()) {
            Ok(key) => key,
            Err(error) => return Err(self.faulty(&record, &error).await),
        };
        if !proven {
            return Ok(true);
        }
        if !self.succeeded(&record, started.1, token).await? {
            return Ok(false);
        }
        self.renew(&record, key, started, &answer).await?;
        Ok(true)
    }
}

/// A panic in one canary is a defect of ours; it must not end the watch.
async fn guarded(work: impl Future<Output = Result<()>>) -> Result<()> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(Error::integrity("key.task", "a canary ended in a panic")))
}

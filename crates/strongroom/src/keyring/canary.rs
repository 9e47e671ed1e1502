//! Canaries: an unwrap of each Azure vault's live wrap, for real, every few seconds, also while the vault is dark, so
//! that a withdrawal and its end are both noticed without a reader. Their leases renew those in use.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use strongroom_envelope::read_wrap_record;
use strongroom_keys::TokenUse;

use super::{Keyring, Strategy};
use crate::{error::Result, id::VaultId};

/// Between two canaries of a vault.
pub const CANARY_PAUSE: Duration = Duration::from_secs(5);
/// What a canary waits for Azure.
const CANARY_DEADLINE: Duration = Duration::from_secs(4);
/// Between two looks at the marks of other nodes.
const MARKS_PAUSE: Duration = Duration::from_secs(1);
/// Every so many rounds a canary signs in anew, so that a withdrawn credential shows within a minute.
const FRESH_EVERY: u64 = 12;

impl Keyring {
    /// Runs canaries until the task is dropped.
    pub async fn keep_watch(self: Arc<Self>) {
        let marks = async {
            loop {
                self.clock.sleep(MARKS_PAUSE).await;
                if let Err(error) = self.read_marks().await {
                    tracing::warn!(%error, "the denial marks could not be read");
                }
            }
        };
        let canaries = async {
            for round in 0u64.. {
                let pause = self.clock.sleep(CANARY_PAUSE);
                let token = if round % FRESH_EVERY == 0 { TokenUse::Fresh } else { TokenUse::Cached };
                if let Err(error) = self.canary_round(token).await {
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
                tx.all(
                    "SELECT id, generation FROM vaults WHERE strategy = $1",
                    &[Strategy::AzureExternalKeys.word().into()],
                    |row| Ok((VaultId(row.get(0)?), row.get::<u32>(1)?)),
                )
            })
            .await?;
        let canaries = vaults.into_iter().map(|(vault, generation)| self.canary(vault, generation, token));
        for outcome in join_all(canaries).await {
            // What a canary finds is the vault's state, noted already; only our own troubles end the round.
            if let Err(crate::error::Error::Store(error)) = outcome {
                return Err(error.into());
            }
        }
        Ok(())
    }

    async fn canary(self: &Arc<Self>, vault: VaultId, generation: u32, token: TokenUse) -> Result<()> {
        // A success while the vault is dark needs a second one: it follows at once.
        while !self.canary_once(vault, generation, token).await? {}
        Ok(())
    }

    /// True when the vault needs no second canary now.
    async fn canary_once(&self, vault: VaultId, generation: u32, token: TokenUse) -> Result<bool> {
        let record = self.record(vault, generation).await?;
        let provider = self.provider(&record)?;
        let started = (self.clock.now(), self.clock.since_boot());
        let answer = match provider.unwrap_key(&record.kid, &record.wrapped, token, CANARY_DEADLINE).await {
            Ok(answer) => answer,
            Err(failure) => return Err(self.failed(&record, provider.as_ref(), failure, started.1).await),
        };
        let key = match read_wrap_record(&answer.record, &record.place()) {
            Ok(key) => key,
            Err(error) => return Err(self.faulty(&record, &error).await),
        };
        if !self.succeeded(&record, started.1).await? {
            // Begun before the newest denial: not a success. Otherwise the first of two.
            return Ok(self.dark(vault).is_none());
        }
        self.renew(&record, key, started, &answer).await?;
        Ok(true)
    }
}

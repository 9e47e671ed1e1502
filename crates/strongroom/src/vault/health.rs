//! How a vault's key is: what Azure says of it, when it last answered and how quickly, which leases run, and how much of
//! the Key Vault's quota is used.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Vault;
use crate::{
    access::Action,
    app::{App, Caller},
    error::Result,
    id::VaultId,
    keyring::{KeySample, KeyWatch, LeaseState, Quota, Strategy},
};

/// How far back the samples go.
pub const SAMPLED_DAYS: i64 = 7;

/// The health of one vault's key.
#[derive(Debug, Clone)]
pub struct KeyHealth {
    pub vault: Vault,
    /// None for a Cloud vault, and before the first look.
    pub watch: Option<KeyWatch>,
    /// Of this node.
    pub leases: Vec<LeaseState>,
    /// When the key last gave a vault key back: to this node, or as the samples of all nodes tell to the minute.
    pub last_success: Option<Timestamp>,
    /// Of this node. None for a Cloud vault.
    pub quota: Option<Quota>,
    /// By the minute, oldest first, of the last [`SAMPLED_DAYS`] days; minutes in which nobody asked are left out.
    pub samples: Vec<KeySample>,
}

impl App {
    /// The health of a vault's key, for those who manage vaults. Asks nobody: it is what the watch and the canaries found.
    pub async fn key_health(&self, caller: &Caller, id: VaultId) -> Result<KeyHealth> {
        self.authorize_here(caller, Action::ManageVaults).await?;
        let vault = self.vault(caller, id).await?;
        let leases = self.keyring.lease_states(id);
        let last_answer = self.keyring.last_answer(id);
        if vault.strategy == Strategy::Cloud || vault.kid.is_empty() {
            let (watch, quota, samples) = (None, None, Vec::new());
            return Ok(KeyHealth { vault, watch, leases, last_success: last_answer, quota, samples });
        }
        let (provider, _) = self.keyring.provider_row(id, vault.generation).await?;
        let quota = Some(self.keyring.quota(&provider));
        let from = self.clock.now() - SignedDuration::from_hours(24 * SAMPLED_DAYS);
        let provider = Arc::new(provider);
        let (watch, samples) =
            self.store.read(move |tx| Ok((KeyWatch::find(tx, id)?, KeySample::of_key(tx, &provider, from)?))).await?;
        let sampled = samples.iter().rev().find(|sample| sample.ok > 0).map(|sample| sample.minute);
        let last_success = last_answer.max(sampled);
        Ok(KeyHealth { vault, watch, leases, last_success, quota, samples })
    }
}

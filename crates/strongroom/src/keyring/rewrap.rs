//! A vault key under another wrapping key: wrap, unwrap again, compare, and only then put it in place.
//!
//! A rewrap takes the same vault key from the key version that wraps it to the newest one of the key that the vault's
//! policy names, which may be in another Key Vault: three key operations, and no item is touched. The row is swapped by
//! one compare-and-set, so of two nodes that try at once one wins and the other does no harm.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use strongroom_envelope::{VaultKey, VaultKeyPlace, read_wrap_record, wrap_record};
use strongroom_keys::{Class, Code, INTERACTIVE, KeyDescription, KeyFailure, KeyProvider, Kid, Receipts, TokenUse};

use super::{
    KeyRecord, Keyring, Policy, ProviderRow, Strategy, VaultState,
    record::{load, load_provider, load_wrap, wrap_mac},
};
use crate::{
    audit::Fact,
    error::{Error, KeyUnavailable, Result},
    id::VaultId,
    store::{Row, Tx},
};

/// How long a superseded wrap stays, at least.
const KEPT: SignedDuration = SignedDuration::from_hours(24);
/// Rows read in one go.
const PAGE: u32 = 200;
/// Key operations that rewrapping one vault key takes: unwrap, wrap, unwrap.
pub(crate) const REWRAP_OPERATIONS: u32 = 3;

/// A wrap that has just given its key back, not yet stored; and what Azure called the requests.
pub(crate) struct ProvenWrap {
    pub kid: Kid,
    pub algorithm: &'static str,
    pub bytes: Vec<u8>,
    pub wrapped_by: Option<String>,
    pub proven_by: Option<String>,
}

/// A wrap that nothing uses any more: since when, of which vault and generation, under which kid.
pub(super) type Superseded = (Timestamp, VaultId, u32, String);

/// What became of a rewrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rewrapped {
    /// The wrap in use is this node's new one.
    Swapped,
    /// The newest key version wraps it already, or another node came first.
    NothingToDo,
}

impl Keyring {
    /// What a vault's policy says, and where its new wraps go, proven.
    pub(crate) async fn wraps_to(&self, vault: VaultId) -> Result<(Policy, ProviderRow)> {
        let keys = self.keys.clone();
        self.store
            .read(move |tx| {
                let policy = Policy::held(tx, &keys, vault)?;
                let provider = load_provider(tx, &keys, &policy)?;
                Ok((policy, provider))
            })
            .await
    }

    /// The newest key version, which takes new wraps; see [`Keyring::described`]. Refused where it takes none.
    pub(crate) async fn newest(&self, row: &ProviderRow, since: Timestamp) -> Result<Kid> {
        let newest = self.described(row, since).await?;
        self.require_wrapping(row, &newest)?;
        Ok(newest.kid)
    }

    /// The newest key version, as its provider described it at `since` or later: many vaults under one key ask once.
    pub(crate) async fn described(&self, row: &ProviderRow, since: Timestamp) -> Result<KeyDescription> {
        let key = (row.tenant_id.clone(), row.vault_url.clone(), row.key_name.clone());
        if row.strategy == Strategy::AzureExternalKeys
            && let Some((at, known)) = self.state().described.get(&key)
            && *at >= since
        {
            return Ok(known.clone());
        }
        let provider = self.provider(row)?;
        let asked_at = self.clock.now();
        let answer = provider.describe(INTERACTIVE).await;
        let (described, _) = answer.map_err(|failure| self.not_wrapped(row, provider.as_ref(), &failure, None))?;
        if row.strategy == Strategy::AzureExternalKeys {
            self.state().described.insert(key, (asked_at, described.clone()));
        }
        Ok(described)
    }

    /// A wrap under another key version than the one described: the description is of before, and is asked for anew.
    fn note_newest(&self, row: &ProviderRow, kid: &Kid) {
        let key = (row.tenant_id.clone(), row.vault_url.clone(), row.key_name.clone());
        let mut state = self.state();
        if state.described.get(&key).is_some_and(|(_, known)| !known.kid.same_key_version(kid)) {
            state.described.remove(&key);
        }
    }

    /// Takes one vault key to the newest key version of `target`, unless it is there: unwraps it, wraps it, unwraps
    /// that and compares, then swaps the wrap in use. `also` joins the transaction of the swap.
    pub(crate) async fn rewrap(
        &self,
        record: &KeyRecord,
        target: &ProviderRow,
        also: impl Fn(&mut Tx<'_>) -> Result<()> + Send + 'static,
    ) -> Result<Rewrapped> {
        if record.provider.vault_url == target.vault_url {
            self.job_turn(target, REWRAP_OPERATIONS).await?;
        } else {
            self.job_turn(&record.provider, 1).await?;
            self.job_turn(target, REWRAP_OPERATIONS - 1).await?;
        }
        let (key, opened_by) = self.opened_for_rewrap(record).await?;
        let proven = self.wrap_proven(target, &record.vault_name, &record.place(), &key).await?;
        drop(key);
        self.note_newest(target, &proven.kid);
        if proven.kid.same_key_version(&record.kid) && target.id == record.provider.id {
            return Ok(Rewrapped::NothingToDo);
        }
        let after = record.under(target, &proven);
        let mut facts = after.facts();
        facts.push(("provider", target.id.0.into()));
        facts.push(("from", record.kid.to_string().into()));
        facts.extend(request_facts([
            ("azure_unwrap", opened_by),
            ("azure_request", proven.wrapped_by),
            ("azure_verify", proven.proven_by),
        ]));
        let event = self.event(record, "key.rewrap", facts)?;
        let (keys, now) = (self.keys.clone(), self.clock.now());
        let before = (record.kid.clone(), record.provider.id);
        self.store
            .write(move |tx| {
                let policy = Policy::held(tx, &keys, after.vault)?;
                let in_use = match load(tx, &keys, after.vault, after.generation) {
                    Err(Error::NotFound(_)) => return Ok(Rewrapped::NothingToDo),
                    in_use => in_use?,
                };
                if policy.provider != after.provider.id || before != (in_use.kid, in_use.provider.id) {
                    return Ok(Rewrapped::NothingToDo);
                }
                swap(tx, &before.0, &after, now)?;
                insert_wrap(tx, &keys, &after, now)?;
                tx.record(&event)?;
                also(tx)?;
                Ok(Rewrapped::Swapped)
            })
            .await
    }

    /// Wraps a vault key under the newest key version of `row`, unwraps it again and compares. Two key operations.
    pub(crate) async fn wrap_proven(
        &self,
        row: &ProviderRow,
        vault_name: &str,
        place: &VaultKeyPlace,
        key: &VaultKey,
    ) -> Result<ProvenWrap> {
        let provider = self.provider(row)?;
        let refused = |failure, kid: Option<&Kid>| self.not_wrapped(row, provider.as_ref(), &failure, kid);
        let wrapped =
            provider.wrap_key(&wrap_record(place, key), INTERACTIVE).await.map_err(|failure| refused(failure, None))?;
        let answer = provider
            .unwrap_key(&wrapped.kid, &wrapped.bytes, TokenUse::Cached, INTERACTIVE)
            .await
            .map_err(|failure| refused(failure, Some(&wrapped.kid)))?;
        if !read_wrap_record(&answer.record, place).is_ok_and(|read| read.matches(key)) {
            tracing::error!(vault = %row.vault, kid = %wrapped.kid, "a new wrap did not give its key back");
            return Err(Error::integrity(
                "fault.wrong_record",
                format!(
                    "the key in Azure did not unwrap what it had just wrapped for {vault_name}; nothing was changed"
                ),
            ));
        }
        Ok(ProvenWrap {
            kid: wrapped.kid,
            algorithm: wrapped.algorithm,
            bytes: wrapped.bytes,
            wrapped_by: request_of(&wrapped.receipts),
            proven_by: request_of(&answer.receipts),
        })
    }

    /// The vault key out of the wrap in use. That is an unwrap like a reader's: a refusal is a denial.
    pub(crate) async fn opened_for_rewrap(&self, record: &KeyRecord) -> Result<(VaultKey, Option<String>)> {
        if let Some(why) = self.dark(record.vault) {
            return Err(Error::KeyUnavailable(Box::new(why)));
        }
        let provider = self.provider(&record.provider)?;
        let started = self.clock.since_boot();
        match provider.unwrap_key(&record.kid, &record.wrapped, TokenUse::Cached, INTERACTIVE).await {
            Err(failure) => Err(self.failed(record, provider.as_ref(), failure, started).await),
            Ok(answer) => match read_wrap_record(&answer.record, &record.place()) {
                Ok(key) => {
                    // Told before the key is used, whatever comes of it: Key Vault's log has the request too.
                    self.note_unwrap(record, &answer).await?;
                    Ok((key, request_of(&answer.receipts)))
                }
                Err(error) => Err(self.faulty(record, &error).await),
            },
        }
    }

    /// Drops wraps that were superseded a day ago or earlier, each after another verified unwrap of the one in use; with
    /// its last wrap goes the row of a Key Vault that the vault has left. Returns how many wraps went. What is dark,
    /// disabled or out of reach stays for the next time. A pass takes `at_most` this long, but for the wrap that it is
    /// at then; the next one goes on there.
    pub async fn drop_superseded(&self, at_most: Duration) -> Result<u64> {
        let (until, began) = (self.clock.now() - KEPT, self.clock.since_boot());
        let mut dropped = 0;
        loop {
            let after = self.state().superseded_after.take();
            let page = self.store.read(move |tx| superseded(tx, until, after.as_ref())).await?;
            if page.is_empty() {
                return Ok(dropped);
            }
            for wrap in page {
                let (_, vault, generation, kid) = wrap.clone();
                self.state().superseded_after = Some(wrap);
                match self.drop_one(vault, generation, kid, until).await {
                    Ok(gone) => dropped += u64::from(gone),
                    Err(Error::Store(error)) => return Err(error.into()),
                    Err(error) => tracing::warn!(%vault, %error, "a superseded wrap stays for now"),
                }
                if self.clock.since_boot() >= began + at_most {
                    return Ok(dropped);
                }
            }
        }
    }

    async fn drop_one(&self, vault: VaultId, generation: u32, kid: String, until: Timestamp) -> Result<bool> {
        let record = self.record(vault, generation).await?;
        if record.policy.state == VaultState::Disabled {
            return Ok(false);
        }
        // A planted row is worth no key operation and no event. It stays, and the log says so.
        let (keys, superseded) = (self.keys.clone(), kid.clone());
        self.store.read(move |tx| load_wrap(tx, &keys, (vault, generation), &superseded).map(drop)).await?;
        self.job_turn(&record.provider, 1).await?;
        let (_, proven_by) = self.opened_for_rewrap(&record).await?;
        let mut facts = vec![("generation", generation.into()), ("kid", kid.as_str().into())];
        facts.push(("in_use", record.kid.to_string().into()));
        facts.extend(request_facts([("azure_request", proven_by)]));
        let event = self.event(&record, "key.wrap_dropped", facts)?;
        let (keys, in_use) = (self.keys.clone(), record.kid.to_string());
        self.store
            .write(move |tx| {
                let policy = Policy::held(tx, &keys, vault)?;
                let slot = [vault.0.into(), i64::from(generation).into()];
                let sql = "SELECT kid FROM generations WHERE vault_id = $1 AND generation = $2";
                if tx.first(sql, &slot, |row| row.get::<String>(0))?.as_ref() != Some(&in_use) || kid == in_use {
                    return Ok(false);
                }
                let gone = tx.execute(
                    "DELETE FROM wraps WHERE vault_id = $1 AND generation = $2 AND kid = $3 AND superseded_at <= $4",
                    &[slot[0], slot[1], (&kid).into(), until.into()],
                )?;
                if gone == 0 {
                    return Ok(false);
                }
                tx.execute(
                    "DELETE FROM providers WHERE vault_id = $1 AND id <> $2 \
                     AND id NOT IN (SELECT provider_id FROM wraps WHERE vault_id = $1)",
                    &[slot[0], policy.provider.0.into()],
                )?;
                tx.record(&event)?;
                Ok(true)
            })
            .await
    }

    /// A failure to wrap, or to open a wrap that nothing uses yet. It says nothing of the wraps in use and purges
    /// nothing.
    fn not_wrapped(
        &self,
        row: &ProviderRow,
        provider: &dyn KeyProvider,
        failure: &KeyFailure,
        kid: Option<&Kid>,
    ) -> Error {
        if failure.class == Class::Refused {
            let fix = provider.command(failure, kid).unwrap_or_else(|| failure.fix().into());
            return Error::conflict(failure.code.as_str(), failure.code.title(), fix);
        }
        let why = KeyUnavailable::told(row.vault, "", provider, failure, kid, self.clock.now());
        Error::KeyUnavailable(Box::new(why))
    }

    /// The quota that jobs share is used up, or Azure has asked to wait.
    pub(super) fn no_turn(&self, row: &ProviderRow) -> Error {
        let detail = "this server has used up what it may ask of this Key Vault for changes of keys, and waits";
        let failure = KeyFailure::new(Code::Throttled, strongroom_keys::Operation::Wrap, detail);
        match self.provider(row) {
            Ok(provider) => self.not_wrapped(row, provider.as_ref(), &failure, None),
            Err(error) => error,
        }
    }

    /// An expired or disabled key version still answers when it is asked what it is.
    fn require_wrapping(&self, row: &ProviderRow, newest: &KeyDescription) -> Result<()> {
        let now = self.clock.now();
        let code = if !newest.enabled {
            Code::KeyDisabled
        } else if newest.expires.is_some_and(|expires| expires <= now) {
            Code::KeyExpired
        } else if newest.not_before.is_some_and(|begins| begins > now) {
            Code::KeyNotYetValid
        } else {
            return Ok(());
        };
        let provider = self.provider(row)?;
        let failure = KeyFailure::new(code, strongroom_keys::Operation::Wrap, String::new());
        Err(self.not_wrapped(row, provider.as_ref(), &failure, Some(&newest.kid)))
    }
}

/// The next wraps after `after` that were superseded at `until` or earlier.
fn superseded(tx: &mut Tx<'_>, until: Timestamp, after: Option<&Superseded>) -> Result<Vec<Superseded>> {
    let read = |row: &Row<'_>| Ok((row.get(0)?, VaultId(row.get(1)?), row.get(2)?, row.get(3)?));
    let order = "superseded_at, vault_id, generation, kid";
    let sql = format!("SELECT {order} FROM wraps WHERE superseded_at <= $1");
    match after {
        None => tx.all(&format!("{sql} ORDER BY {order} LIMIT {PAGE}"), &[until.into()], read),
        Some((at, vault, generation, kid)) => tx.all(
            &format!("{sql} AND ({order}) > ($2, $3, $4, $5) ORDER BY {order} LIMIT {PAGE}"),
            &[until.into(), (*at).into(), vault.0.into(), i64::from(*generation).into(), kid.into()],
            read,
        ),
    }
}

impl KeyRecord {
    /// The same vault key under another wrap.
    fn under(&self, provider: &ProviderRow, proven: &ProvenWrap) -> Self {
        Self {
            workspace: self.workspace,
            vault: self.vault,
            vault_name: self.vault_name.clone(),
            generation: self.generation,
            kid: proven.kid.clone(),
            algorithm: proven.algorithm.to_owned(),
            wrapped: proven.bytes.clone(),
            policy: self.policy.clone(),
            provider: provider.clone(),
        }
    }
}

/// Points the generation at the wrap that comes next; the one before stays for a day and can be put back by hand.
fn swap(tx: &mut Tx<'_>, before: &Kid, after: &KeyRecord, now: Timestamp) -> Result<()> {
    let slot = [after.vault.0.into(), i64::from(after.generation).into()];
    let (before, kid) = (before.to_string(), after.kid.to_string());
    tx.execute(
        "UPDATE wraps SET superseded_at = $4 WHERE vault_id = $1 AND generation = $2 AND kid = $3",
        &[slot[0], slot[1], (&before).into(), now.into()],
    )?;
    // Under this key version there may be an older wrap of the same vault key, superseded or through another provider's
    // row, even the one in use. It goes at once, since a key version has one wrap: the new one has just been unwrapped by
    // the same key version and gave the same key, so the older one could open nothing that this one does not.
    tx.execute(
        "DELETE FROM wraps WHERE vault_id = $1 AND generation = $2 AND kid = $3",
        &[slot[0], slot[1], (&kid).into()],
    )?;
    tx.execute(
        "UPDATE generations SET kid = $3 WHERE vault_id = $1 AND generation = $2",
        &[slot[0], slot[1], (&kid).into()],
    )?;
    Ok(())
}

/// Writes a wrap that is in use from now on.
pub(crate) fn insert_wrap(
    tx: &mut Tx<'_>,
    keys: &strongroom_envelope::InstanceKeys,
    record: &KeyRecord,
    now: Timestamp,
) -> Result<()> {
    tx.execute(
        "INSERT INTO wraps (vault_id, generation, kid, provider_id, algorithm, wrapped, created_at, row_mac) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        &[
            record.vault.0.into(),
            i64::from(record.generation).into(),
            (&record.kid.to_string()).into(),
            record.provider.id.0.into(),
            (&record.algorithm).into(),
            (&record.wrapped).into(),
            now.into(),
            wrap_mac(keys, record).to_bytes().as_slice().into(),
        ],
    )?;
    Ok(())
}

/// Azure's own id of the last request, to be found in the customer's log.
pub(crate) fn request_of(receipts: &Receipts) -> Option<String> {
    receipts.last().and_then(|receipt| receipt.azure_request_id.clone())
}

/// Those of Azure's ids that there are, as facts.
pub(crate) fn request_facts<const N: usize>(
    ids: [(&'static str, Option<String>); N],
) -> impl Iterator<Item = (&'static str, Fact)> {
    ids.into_iter().filter_map(|(name, id)| Some((name, id?.into())))
}

//! Vaults whose rows name an instance key that is lost. Nothing proves those rows any more, so what they lead to is proven
//! instead: the key that Azure gives back must be the one that the vault's data keys are wrapped under.

use strongroom_envelope::{DataKeyPlace, InstanceKeys, VaultKey, read_wrap_record, seal, unwrap_data_key};
use strongroom_keys::{INTERACTIVE, TokenUse};
use uuid::Uuid;

use super::{
    CredentialText, KeyRecord, Keyring,
    record::{HeldCredential, Policy, ProviderRow, Strategy, VaultState, policy_columns, provider_columns, wrap_mac},
};
use crate::{
    audit::{Actor, Event, Target},
    error::{Error, Result},
    id::{EventId, ProviderId, VaultId, WorkspaceId},
    instance_key::{Means, key_of_mac},
    store::Tx,
};

/// A vault as its rows say it, unproven.
#[derive(Clone)]
pub struct LostVault {
    pub policy: Policy,
    pub name: String,
    pub providers: Vec<ProviderRow>,
    wraps: Vec<Wrap>,
}

#[derive(Clone)]
struct Wrap {
    generation: u32,
    kid: String,
    provider: ProviderId,
    algorithm: String,
    wrapped: Vec<u8>,
    in_use: bool,
}

/// A vault that may come under the current instance key.
#[derive(Clone)]
pub struct ProvenVault {
    vault: LostVault,
    /// Data keys that its vault keys opened.
    pub compared: u64,
    /// Superseded wraps that did not give the key back.
    dropped: Vec<Wrap>,
}

/// The vaults of a workspace whose policy names an instance key that is not loaded.
pub(crate) fn lost_vaults(tx: &mut Tx<'_>, keys: &InstanceKeys, workspace: WorkspaceId) -> Result<Vec<LostVault>> {
    let sql = concat!("SELECT ", policy_columns!(), ", v.name FROM vaults v WHERE v.workspace_id = $1 ORDER BY v.id");
    let policies = tx.all(sql, &[workspace.0.into()], |row| {
        Ok((Policy::unproven(row)?, row.get::<Vec<u8>>(8)?, row.get::<String>(9)?))
    })?;
    let mut lost = Vec::new();
    for (policy, mac, name) in policies {
        if keys.get(key_of_mac(&mac)?).is_some() {
            continue;
        }
        let id = [policy.vault.0.into()];
        let sql = concat!("SELECT ", provider_columns!(), " FROM providers p WHERE p.vault_id = $1 ORDER BY p.id");
        let providers = tx.all(sql, &id, |row| ProviderRow::read(row, 0, &policy))?;
        let sql = "SELECT w.generation, w.kid, w.provider_id, w.algorithm, w.wrapped, g.kid FROM wraps w \
                   JOIN generations g ON g.vault_id = w.vault_id AND g.generation = w.generation \
                   WHERE w.vault_id = $1 ORDER BY w.generation, w.kid";
        let wraps = tx.all(sql, &id, |row| {
            let kid: String = row.get(1)?;
            Ok(Wrap {
                generation: row.get(0)?,
                in_use: kid == row.get::<String>(5)?,
                kid,
                provider: ProviderId(row.get(2)?),
                algorithm: row.get(3)?,
                wrapped: row.get(4)?,
            })
        })?;
        lost.push(LostVault { policy, name, providers, wraps });
    }
    Ok(lost)
}

impl LostVault {
    /// Where its new wraps go.
    pub fn provider(&self) -> Result<&ProviderRow> {
        let found = self.providers.iter().find(|row| row.id == self.policy.provider);
        found.ok_or_else(|| Error::integrity("integrity.row", "the vault's provider is not there"))
    }

    pub fn is_cloud(&self) -> bool {
        self.policy.strategy == Strategy::Cloud
    }

    /// A Cloud vault: its KEK went with the instance key. It is kept, switched off, so that it opens again should that key
    /// ever be found.
    pub(crate) fn kept_closed(mut self) -> ProvenVault {
        self.policy.state = VaultState::Disabled;
        self.providers.iter_mut().for_each(|row| row.revision += 1);
        ProvenVault { vault: self, compared: 0, dropped: Vec::new() }
    }

    /// The same with this credential, sealed under the current instance key; what else the rows said of one is gone.
    fn signing_in_with(&mut self, credential: &CredentialText, means: &Means) -> Result<()> {
        for row in &mut self.providers {
            let id = ProviderId::generate(means.now, means.random.as_ref())?.0;
            let text = credential.text().as_bytes();
            let sealed = seal(means.keys.as_ref(), &row.credential_place(id), text, means.random.as_ref());
            row.credential = HeldCredential {
                id,
                client_id: row.credential.client_id.clone(),
                kind: Some(credential.kind()),
                expires: credential.ends(None),
                sealed: sealed.map_err(|_| Error::random())?,
            };
            row.previous = None;
            row.revision += 1;
        }
        Ok(())
    }

    fn record(&self, wrap: &Wrap) -> Result<KeyRecord> {
        let broken = |what: &str| Error::integrity("integrity.row", format!("the {what} of a wrap cannot be read"));
        let provider = self.providers.iter().find(|row| row.id == wrap.provider).ok_or_else(|| broken("provider"))?;
        Ok(KeyRecord {
            workspace: self.policy.workspace,
            vault: self.policy.vault,
            vault_name: self.name.clone(),
            generation: wrap.generation,
            kid: wrap.kid.parse().map_err(|_| broken("key id"))?,
            algorithm: wrap.algorithm.clone(),
            wrapped: wrap.wrapped.clone(),
            policy: self.policy.clone(),
            provider: provider.clone(),
        })
    }
}

impl Keyring {
    /// Has each wrap unwrapped in Azure, and every data key with what comes back. Refused where one does not open: then
    /// the rows lead to another key than the items'. A vault whose current key has no data key to compare it with takes no
    /// new items until it is rotated.
    pub(crate) async fn prove_lost(
        &self,
        mut vault: LostVault,
        credential: &CredentialText,
        lease_seconds: u32,
        means: &Means,
    ) -> Result<ProvenVault> {
        vault.signing_in_with(credential, means)?;
        let (mut compared, mut current, mut dropped) = (0, 0, Vec::new());
        for wrap in vault.wraps.clone() {
            let record = vault.record(&wrap)?;
            let key = match self.given_back(&record).await {
                Ok(key) => key,
                Err(_) if !wrap.in_use => {
                    dropped.push(wrap);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let opened = self.opens_data_keys(&record, key).await?;
            compared += opened;
            if wrap.generation == vault.policy.generation {
                current += opened;
            }
        }
        vault
            .wraps
            .retain(|wrap| dropped.iter().all(|gone| (gone.generation, &gone.kid) != (wrap.generation, &wrap.kid)));
        // What nothing proves goes back to what is safe.
        (vault.policy.lease_seconds, vault.policy.may_leave) = (lease_seconds, false);
        if current == 0 && vault.policy.state == VaultState::Active {
            vault.policy.state = VaultState::Closed;
        }
        Ok(ProvenVault { vault, compared, dropped })
    }

    async fn given_back(&self, record: &KeyRecord) -> Result<VaultKey> {
        let provider = self.provider(&record.provider)?;
        let answer = provider.unwrap_key(&record.kid, &record.wrapped, TokenUse::Cached, INTERACTIVE).await;
        let answer = answer.map_err(|failure| Error::Setup {
            what: format!("Azure did not unwrap its key: {}", failure.code.title()).into(),
            fix: failure.code.fix().into(),
        })?;
        self.note_unwrap(record, &answer).await?;
        read_wrap_record(&answer.record, &record.place()).map_err(|error| {
            Error::integrity("integrity.row", format!("the wrap is not of this vault and generation: {error}"))
        })
    }

    async fn opens_data_keys(&self, record: &KeyRecord, key: VaultKey) -> Result<u64> {
        let (mut opened, mut after) = (0, Uuid::nil());
        loop {
            let slot = (record.vault, record.generation);
            let page = self.store.read(move |tx| data_keys(tx, slot, after)).await?;
            let Some(last) = page.last() else { return Ok(opened) };
            after = last.0;
            for (id, item, wrapped) in &page {
                let place = DataKeyPlace {
                    workspace: record.workspace.bytes(),
                    vault: record.vault.bytes(),
                    generation: record.generation,
                    item: *item.as_bytes(),
                    data_key: *id.as_bytes(),
                };
                unwrap_data_key(&key, &place, wrapped).map_err(|_| {
                    Error::integrity(
                        "integrity.row",
                        format!("the key that Azure gives back does not open the data key {id} of item {item}"),
                    )
                })?;
                opened += 1;
            }
        }
    }
}

type DataKeyRow = (Uuid, Uuid, Vec<u8>);

fn data_keys(tx: &mut Tx<'_>, (vault, generation): (VaultId, u32), after: Uuid) -> Result<Vec<DataKeyRow>> {
    tx.all(
        "SELECT id, item_id, wrapped FROM data_keys WHERE vault_id = $1 AND generation = $2 AND id > $3 \
         ORDER BY id LIMIT 500",
        &[vault.0.into(), i64::from(generation).into(), after.into()],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )
}

impl ProvenVault {
    pub fn name(&self) -> &str {
        &self.vault.name
    }

    pub fn state(&self) -> VaultState {
        self.vault.policy.state
    }

    /// Writes the rows with MACs under the current instance key, and an event that says the new policy.
    pub(crate) fn adopt(&self, tx: &mut Tx<'_>, means: &Means) -> Result<()> {
        let vault = &self.vault;
        let event = |action, detail| -> Result<Event> {
            Ok(Event {
                id: EventId::generate(means.now, means.random.as_ref())?,
                at: means.now,
                workspace: Some(vault.policy.workspace),
                actor: Actor::System,
                action,
                target: Target::Vault(vault.policy.vault),
                detail,
            })
        };
        for row in &vault.providers {
            row.put(tx, &means.keys)?;
        }
        let slot = |wrap: &Wrap| (vault.policy.vault.0, i64::from(wrap.generation), wrap.kid.clone());
        for wrap in &vault.wraps {
            let (id, generation, kid) = slot(wrap);
            let mac = wrap_mac(&means.keys, &vault.record(wrap)?).to_bytes();
            let sql = "UPDATE wraps SET row_mac = $4 WHERE vault_id = $1 AND generation = $2 AND kid = $3";
            tx.execute(sql, &[id.into(), generation.into(), (&kid).into(), mac.as_slice().into()])?;
        }
        for wrap in &self.dropped {
            let (id, generation, kid) = slot(wrap);
            let sql = "DELETE FROM wraps WHERE vault_id = $1 AND generation = $2 AND kid = $3";
            tx.execute(sql, &[id.into(), generation.into(), (&kid).into()])?;
            let same = |other: &&Wrap| other.in_use && other.generation == wrap.generation;
            let in_use = vault.wraps.iter().find(same).map_or_else(String::new, |wrap| wrap.kid.clone());
            let facts = vec![("generation", wrap.generation.into()), ("kid", kid.into()), ("in_use", in_use.into())];
            tx.record(&event("key.wrap_dropped", facts)?)?;
        }
        vault.policy.put(tx, &means.keys)?;
        tx.record(&event("vault.reseal", vec![("policy_digest", vault.policy.digest(&means.keys))])?)
    }
}

//! Rotation of a vault key: a fresh key in a new generation, current only once its wrap has given it back, and data keys
//! taken over to it in the background. What items hold is not touched.

use jiff::Timestamp;
use strongroom_envelope::{DataKeyPlace, InstanceKeys, VaultKey, VaultKeyPlace, unwrap_data_key, wrap_data_key};
use strongroom_keys::INTERACTIVE;

use super::{
    KeyRecord, Keyring, Lease, Policy, ProviderRow,
    rewrap::{insert_wrap, request_facts},
};
use crate::{
    audit::Fact,
    error::{Error, Result},
    id::{DataKeyId, ItemId, VaultId},
    store::Tx,
};

/// Key operations that a new generation takes: wrap, unwrap.
pub(crate) const ROTATE_OPERATIONS: u32 = 2;

/// The next generation of a vault key, proven to unwrap and not yet stored.
pub(crate) struct NextGeneration {
    /// Its policy is the one that makes it current.
    pub record: KeyRecord,
    pub facts: Vec<(&'static str, Fact)>,
}

impl Keyring {
    /// A fresh vault key of the generation after the current one, wrapped where the policy says. The key itself is gone
    /// when this returns; whoever needs it unwraps it.
    pub(crate) async fn next_generation(
        &self,
        vault_name: &str,
        policy: &Policy,
        provider: &ProviderRow,
    ) -> Result<NextGeneration> {
        // A person waits for it, so not for ever.
        if tokio::time::timeout(INTERACTIVE, self.job_turn(provider, ROTATE_OPERATIONS)).await.is_err() {
            return Err(self.no_turn(provider));
        }
        let generation = policy.generation + 1;
        let place = VaultKeyPlace { workspace: policy.workspace.bytes(), vault: policy.vault.bytes(), generation };
        let key = VaultKey::generate(self.random.as_ref()).map_err(|_| Error::random())?;
        let proven = self.wrap_proven(provider, vault_name, &place, &key).await?;
        let record = KeyRecord {
            workspace: policy.workspace,
            vault: policy.vault,
            vault_name: vault_name.to_owned(),
            generation,
            kid: proven.kid,
            algorithm: proven.algorithm.to_owned(),
            wrapped: proven.bytes,
            policy: Policy { generation, ..policy.clone() },
            provider: provider.clone(),
        };
        let mut facts = record.facts();
        facts.push(("provider", provider.id.0.into()));
        facts.push(("policy_digest", record.policy.digest(&self.keys)));
        facts.extend(request_facts([("azure_request", proven.wrapped_by), ("azure_verify", proven.proven_by)]));
        Ok(NextGeneration { record, facts })
    }
}

impl NextGeneration {
    /// Makes it the current generation, if the policy is still the one that it was made for.
    pub fn put(&self, tx: &mut Tx<'_>, keys: &InstanceKeys, now: Timestamp) -> Result<()> {
        let record = &self.record;
        let held = Policy::held(tx, keys, record.vault)?;
        if (Policy { generation: record.generation, ..held.clone() }) != record.policy
            || held.generation + 1 != record.generation
        {
            return Err(Error::conflict(
                "vault.changed",
                "the vault was changed at the same moment",
                "Look at the vault again, then repeat what you did.",
            ));
        }
        tx.execute(
            "INSERT INTO generations (vault_id, generation, kid, created_at) VALUES ($1, $2, $3, $4)",
            &[record.vault.0.into(), i64::from(record.generation).into(), (&record.kid.to_string()).into(), now.into()],
        )?;
        insert_wrap(tx, keys, record, now)?;
        record.policy.put(tx, keys)
    }
}

/// A data key as it lies in the database.
pub(crate) struct DataKeyRow {
    pub id: DataKeyId,
    pub item: ItemId,
    pub generation: u32,
    pub wrapped: Vec<u8>,
}

impl DataKeyRow {
    /// Those of a vault that are not under `current`, after the one of the id `after`, in the order of ids.
    pub fn behind(tx: &mut Tx<'_>, vault: VaultId, current: u32, after: DataKeyId, count: u32) -> Result<Vec<Self>> {
        tx.all(
            "SELECT id, item_id, generation, wrapped FROM data_keys WHERE vault_id = $1 AND generation <> $2 AND id > $3 \
             ORDER BY id LIMIT $4",
            &[vault.0.into(), i64::from(current).into(), after.0.into(), i64::from(count).into()],
            |row| {
                Ok(Self {
                    id: DataKeyId(row.get(0)?),
                    item: ItemId(row.get(1)?),
                    generation: row.get(2)?,
                    wrapped: row.get(3)?,
                })
            },
        )
    }

    /// The same data key under the current vault key; None where it does not open under the one that its row names.
    pub fn rewrapped(
        &self,
        policy: &Policy,
        old: &Lease,
        new: &Lease,
        random: &dyn strongroom_envelope::Random,
    ) -> Result<Option<Vec<u8>>> {
        let place = |generation| DataKeyPlace {
            workspace: policy.workspace.bytes(),
            vault: policy.vault.bytes(),
            generation,
            item: self.item.bytes(),
            data_key: self.id.bytes(),
        };
        let Ok(key) = unwrap_data_key(old.vault_key(), &place(self.generation), &self.wrapped) else {
            return Ok(None);
        };
        wrap_data_key(new.vault_key(), &place(new.generation), &key, random).map(Some).map_err(|_| Error::random())
    }

    /// Puts the new wrap in place of the one that was read. False when another came first.
    pub fn put(&self, tx: &mut Tx<'_>, generation: u32, wrapped: &[u8]) -> Result<bool> {
        let changed = tx.execute(
            "UPDATE data_keys SET generation = $3, wrapped = $4 WHERE id = $1 AND generation = $2",
            &[self.id.0.into(), i64::from(self.generation).into(), i64::from(generation).into(), wrapped.into()],
        )?;
        Ok(changed > 0)
    }
}

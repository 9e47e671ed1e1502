//! Vaults under the current instance key: policy, providers with what they seal, and every wrap.

use strongroom_envelope::{InstanceKeyId, open, seal, unwrap_cloud_kek, wrap_cloud_kek};
use uuid::Uuid;

use super::record::{HeldCredential, KeyRecord, Policy, ProviderRow, Strategy, load_wrap, providers_of, wrap_mac};
use crate::{
    audit::{Actor, Event, Target},
    error::{Error, Result},
    id::{EventId, VaultId},
    instance_key::{Means, Page, key_of_mac, key_of_seal},
    store::Tx,
};

const FULL: usize = 16;

/// A page of vaults; with `write`, those with anything under an older key come under the current one, each with an event
/// that says the new policy.
pub(crate) fn renew_vaults(tx: &mut Tx<'_>, means: &Means, after: Uuid, write: bool) -> Result<Page> {
    let sql = format!("SELECT id FROM vaults WHERE id > $1 ORDER BY id LIMIT {FULL}");
    let ids = tx.all(&sql, &[after.into()], |row| row.get::<Uuid>(0))?;
    let mut page = Page::of(&ids, FULL);
    for id in ids {
        match Rows::proven(tx, means, VaultId(id)) {
            Ok(rows) if page.found(means, &rows.under) && write => rows.renew(tx, means)?,
            Ok(_) => {}
            Err(error @ Error::Integrity { .. }) => page.broken(format!("vault {id}: {error}")),
            Err(error) => return Err(error),
        }
    }
    Ok(page)
}

/// All of one vault that is under an instance key.
struct Rows {
    policy: Policy,
    providers: Vec<ProviderRow>,
    wraps: Vec<KeyRecord>,
    under: Vec<InstanceKeyId>,
}

impl Rows {
    fn proven(tx: &mut Tx<'_>, means: &Means, vault: VaultId) -> Result<Self> {
        let policy = Policy::held(tx, &means.keys, vault)?;
        let providers = providers_of(tx, &means.keys, &policy)?;
        let mut under = Vec::new();
        let macs = "SELECT policy_mac FROM vaults WHERE id = $1 UNION ALL \
                    SELECT row_mac FROM providers WHERE vault_id = $1 UNION ALL \
                    SELECT row_mac FROM wraps WHERE vault_id = $1";
        for mac in tx.all(macs, &[vault.0.into()], |row| row.get::<Vec<u8>>(0))? {
            under.push(key_of_mac(&mac)?);
        }
        for held in providers.iter().flat_map(|row| std::iter::once(&row.credential).chain(&row.previous)) {
            under.push(key_of_seal(&means.keys, &held.sealed)?);
        }
        let names = "SELECT generation, kid FROM wraps WHERE vault_id = $1 ORDER BY generation, kid";
        let names = tx.all(names, &[vault.0.into()], |row| Ok((row.get::<u32>(0)?, row.get::<String>(1)?)))?;
        let load = |(generation, kid): (u32, String)| match load_wrap(tx, &means.keys, (vault, generation), &kid) {
            Err(Error::NotFound(_)) => {
                Err(Error::integrity("integrity.row", format!("its wrap under {kid} leads nowhere")))
            }
            other => other,
        };
        let wraps = names.into_iter().map(load).collect::<Result<_>>()?;
        Ok(Self { policy, providers, wraps, under })
    }

    fn renew(self, tx: &mut Tx<'_>, means: &Means) -> Result<()> {
        for mut row in self.providers {
            row.credential.sealed = sealed_anew(&row, &row.credential, means)?;
            if let Some(previous) = &row.previous {
                let sealed = sealed_anew(&row, previous, means)?;
                row.previous = row.previous.map(|held| HeldCredential { sealed, ..held });
            }
            row.revision += 1;
            row.put(tx, &means.keys)?;
        }
        for wrap in &self.wraps {
            tx.execute(
                "UPDATE wraps SET row_mac = $4 WHERE vault_id = $1 AND generation = $2 AND kid = $3",
                &[
                    wrap.vault.0.into(),
                    i64::from(wrap.generation).into(),
                    (&wrap.kid.to_string()).into(),
                    wrap_mac(&means.keys, wrap).to_bytes().as_slice().into(),
                ],
            )?;
        }
        self.policy.put(tx, &means.keys)?;
        tx.record(&Event {
            id: EventId::generate(means.now, means.random.as_ref())?,
            at: means.now,
            workspace: Some(self.policy.workspace),
            actor: Actor::System,
            action: "vault.reseal",
            target: Target::Vault(self.policy.vault),
            detail: vec![("policy_digest", self.policy.digest(&means.keys))],
        })
    }
}

fn sealed_anew(row: &ProviderRow, held: &HeldCredential, means: &Means) -> Result<Vec<u8>> {
    let (keys, random) = (means.keys.as_ref(), means.random.as_ref());
    let broken = || Error::integrity("integrity.row", "a provider's credential does not open");
    let sealed = match row.strategy {
        Strategy::Cloud => {
            let place = row.kek_place();
            let kek = unwrap_cloud_kek(keys, &place, &held.sealed).map_err(|_| broken())?;
            wrap_cloud_kek(keys, &place, &kek, random)
        }
        Strategy::AzureExternalKeys => {
            let place = row.credential_place(held.id);
            let text = open(keys, &place, &held.sealed).map_err(|_| broken())?;
            seal(keys, &place, &text, random)
        }
    };
    sealed.map_err(|_| Error::random())
}

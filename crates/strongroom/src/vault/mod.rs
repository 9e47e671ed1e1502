//! Vaults: containers of items, each with a key of its own that a KEK wraps. Making one, choosing the default,
//! looking at their health.

mod census;
mod change;
mod check;
mod create;
mod credential;
mod edit;
mod health;
mod key_vault;
mod rewrap;
mod rotate;

use std::sync::Arc;

use jiff::Timestamp;
use strongroom_envelope::InstanceKeys;
use strongroom_keys::Code;

pub use self::census::{Census, GenerationUse, KeyVersionUse};
pub use self::change::KeyChange;
pub use self::check::{Accepted, Checks, broken};
pub use self::create::{AzureRequest, KeyRequest, NewVault, REQUIRED_BITS, VaultRequest, expiry, insert};
pub use self::credential::{NewCredential, OtherVault, Replaced, Signer};
pub use self::edit::VaultEdit;
pub use self::health::{KeyHealth, SAMPLED_DAYS};
pub use self::key_vault::NewKeyVault;
pub use crate::keyring::{CredentialKind, CredentialText, Strategy, VaultState};
use crate::{
    access::{Action, Role, Target as Aim},
    app::{App, Caller},
    error::{Error, KeyUnavailable, Result, Unavailable},
    id::{MemberId, VaultId, WorkspaceId},
    keyring::{POLICY_COLUMNS, ProviderRow, RECORD_COLUMNS, policy_columns, proven, provider_columns, record_columns},
    store::{Row, Tx},
};

/// Smallest lease, in seconds: canaries need the time to renew one.
pub const MIN_LEASE: u32 = 15;

/// A vault as its managers see it.
#[derive(Debug, Clone)]
pub struct Vault {
    pub id: VaultId,
    pub name: String,
    pub strategy: Strategy,
    pub is_default: bool,
    pub state: VaultState,
    /// Whether items may move to a vault that promises less.
    pub may_leave: bool,
    pub lease_seconds: u32,
    pub generation: u32,
    pub created_at: Timestamp,
    pub revision: u64,
    /// The key version that wraps the current generation; empty where the vault's rows fail their proof.
    pub kid: String,
    /// None for a Cloud vault, and where the rows fail their proof.
    pub azure: Option<AzureKey>,
    pub health: Health,
    /// Items in it, those in the trash left out; to whom manages no vaults, those shared with them.
    pub items: u64,
    /// Those of them that the caller has a role to.
    pub shared: u64,
}

/// Where the key of an Azure vault is.
#[derive(Debug, Clone)]
pub struct AzureKey {
    pub tenant_id: String,
    pub client_id: String,
    pub vault_url: String,
    pub key_name: String,
    pub credential_kind: CredentialKind,
    /// When the credential ends, where that is known.
    pub credential_expires: Option<Timestamp>,
}

/// Whether a vault's key answers.
#[derive(Debug, Clone)]
pub enum Health {
    /// It answered last time; when, if this process asked.
    Healthy(Option<Timestamp>),
    Unavailable(KeyUnavailable),
}

impl App {
    /// The vaults that the caller may know of, in the order of their names, the default one first: all of the
    /// workspace, and for a Guest those that hold something shared with them.
    pub async fn vaults(&self, caller: &Caller) -> Result<Vec<Vault>> {
        self.authorize_here(caller, Action::SeeVaults).await?;
        let (workspace, member) = (caller.workspace, caller.member);
        let (keys, now) = (Arc::clone(&self.keys), self.clock.now());
        let mut vaults = self
            .store
            .read(move |tx| {
                let sql = concat!(vaults_sql!(), " WHERE v.workspace_id = $1 ORDER BY v.name_key");
                tx.all(sql, &[workspace.0.into(), member.0.into()], |row| read(row, &keys, now))
            })
            .await?;
        vaults.retain(|vault| caller.role > Role::Guest || vault.shared > 0);
        for vault in &mut vaults {
            self.look_at(caller, vault);
        }
        vaults.sort_by_key(|vault| !vault.is_default);
        Ok(vaults)
    }

    /// One of them.
    pub async fn vault(&self, caller: &Caller, id: VaultId) -> Result<Vault> {
        self.vaults(caller).await?.into_iter().find(|vault| vault.id == id).ok_or(Error::NotFound("vault"))
    }

    /// Where a new item goes: the vault that was named, or the default one, with its current generation.
    pub(crate) async fn vault_for_new_items(&self, caller: &Caller, id: Option<VaultId>) -> Result<(VaultId, u32)> {
        let workspace = caller.workspace;
        self.store
            .read(move |tx| {
                let row = |row: &Row<'_>| Ok((VaultId(row.get(0)?), row.get::<u32>(1)?));
                let found = match id {
                    Some(id) => tx.first(
                        "SELECT id, generation FROM vaults WHERE workspace_id = $1 AND id = $2",
                        &[workspace.0.into(), id.0.into()],
                        row,
                    )?,
                    None => tx.first(
                        "SELECT v.id, v.generation FROM workspaces w JOIN vaults v ON v.id = w.default_vault_id \
                         AND v.workspace_id = w.id WHERE w.id = $1",
                        &[workspace.0.into()],
                        row,
                    )?,
                };
                found.ok_or(Error::NotFound("vault"))
            })
            .await
    }

    /// Adds what this process knows of the vault's key, and leaves out what only managers see.
    fn look_at(&self, caller: &Caller, vault: &mut Vault) {
        let is_proven = !vault.kid.is_empty();
        if vault.state == VaultState::Disabled
            && let Error::KeyUnavailable(why) = Error::vault_disabled(vault.id, &vault.name, self.clock.now())
        {
            vault.health = Health::Unavailable(*why);
        } else if let Some(why) = self.keyring.dark(vault.id).filter(|_| is_proven) {
            vault.health = Health::Unavailable(why);
        } else if let Health::Healthy(answered) = &mut vault.health {
            *answered = self.keyring.last_answer(vault.id);
        }
        if !caller.may(Action::ManageVaults, Aim::Workspace) {
            vault.azure = None;
            vault.kid.clear();
            vault.items = vault.shared;
        }
    }
}

macro_rules! vaults_sql {
    () => {
        concat!(
            "SELECT ",
            record_columns!(),
            ", CAST(CASE WHEN x.default_vault_id = v.id THEN 1 ELSE 0 END AS BIGINT), v.created_at, v.revision, \
             k.status, k.code, k.detail, k.azure_request_id, k.since, \
             (SELECT COUNT(*) FROM items i WHERE i.vault_id = v.id AND i.trashed_at IS NULL), \
             (SELECT COUNT(*) FROM items i JOIN item_roles r ON r.item_id = i.id AND r.member_id = $2 \
              WHERE i.vault_id = v.id AND i.trashed_at IS NULL) \
             FROM vaults v JOIN workspaces x ON x.id = v.workspace_id \
             LEFT JOIN generations g ON g.vault_id = v.id AND g.generation = v.generation \
             LEFT JOIN wraps w ON w.vault_id = v.id AND w.generation = g.generation AND w.kid = g.kid \
             LEFT JOIN providers p ON p.id = w.provider_id AND p.vault_id = v.id LEFT JOIN key_states k ON k.vault_id = v.id"
        )
    };
}
use vaults_sql;

fn find(
    tx: &mut Tx<'_>,
    workspace: WorkspaceId,
    member: MemberId,
    id: VaultId,
    keys: &InstanceKeys,
    now: Timestamp,
) -> Result<Vault> {
    tx.first(
        concat!(vaults_sql!(), " WHERE v.id = $3 AND v.workspace_id = $1"),
        &[workspace.0.into(), member.0.into(), id.0.into()],
        |row| read(row, keys, now),
    )?
    .ok_or(Error::NotFound("vault"))
}

/// The name that a vault has in messages.
fn find_name(tx: &mut Tx<'_>, id: VaultId) -> Result<String> {
    tx.first("SELECT name FROM vaults WHERE id = $1", &[id.0.into()], |row| row.get(0))?.ok_or(Error::NotFound("vault"))
}

/// Every vault of every workspace, with its workspace, for the server's own passes. What is shared with whom is left out.
pub(crate) fn of_all_workspaces(
    tx: &mut Tx<'_>,
    keys: &InstanceKeys,
    now: Timestamp,
) -> Result<Vec<(WorkspaceId, Vault)>> {
    let mut found = Vec::new();
    for workspace in tx.all("SELECT id FROM workspaces ORDER BY id", &[], |row| Ok(WorkspaceId(row.get(0)?)))? {
        let sql = concat!(vaults_sql!(), " WHERE v.workspace_id = $1 ORDER BY v.name_key");
        let nobody = uuid::Uuid::nil();
        let vaults = tx.all(sql, &[workspace.0.into(), nobody.into()], |row| read(row, keys, now))?;
        found.extend(vaults.into_iter().map(|vault| (workspace, vault)));
    }
    Ok(found)
}

fn set_default(tx: &mut Tx<'_>, workspace: WorkspaceId, id: VaultId) -> Result<()> {
    tx.execute(
        "UPDATE workspaces SET default_vault_id = $2, revision = revision + 1 WHERE id = $1",
        &[workspace.0.into(), id.0.into()],
    )?;
    Ok(())
}

/// A vault, and of its key only what is proven: rows that fail that are told as the fault they are.
fn read(row: &Row<'_>, keys: &InstanceKeys, now: Timestamp) -> Result<Vault> {
    let own = |index: usize| RECORD_COLUMNS + index;
    let (id, name) = (VaultId(row.get(0)?), row.get::<String>(POLICY_COLUMNS)?);
    let mut health = read_health(row, id, name.clone())?;
    let (kid, azure) = match proven(row, keys) {
        Ok(record) => (record.kid.to_string(), azure_key(record.provider)),
        Err(error) => {
            let fault = KeyUnavailable::tampered(id, &name, &error, now).ok_or(error)?;
            // A canary may have met it before.
            if !matches!(&health, Health::Unavailable(why) if why.code == fault.code) {
                health = Health::Unavailable(fault);
            }
            (String::new(), None)
        }
    };
    Ok(Vault {
        id,
        name,
        strategy: row.parse(2)?,
        is_default: row.get(own(0))?,
        state: row.parse(3)?,
        may_leave: row.get(7)?,
        lease_seconds: row.get(4)?,
        generation: row.get(5)?,
        created_at: row.get(own(1))?,
        revision: row.get(own(2))?,
        kid,
        azure,
        health,
        items: row.get(own(8))?,
        shared: row.get(own(9))?,
    })
}

fn azure_key(provider: ProviderRow) -> Option<AzureKey> {
    // Only an Azure vault has a credential.
    let credential_kind = provider.credential.kind?;
    Some(AzureKey {
        tenant_id: provider.tenant_id,
        client_id: provider.credential.client_id,
        vault_url: provider.vault_url,
        key_name: provider.key_name,
        credential_kind,
        credential_expires: provider.credential.expires,
    })
}

fn read_health(row: &Row<'_>, vault: VaultId, vault_name: String) -> Result<Health> {
    let class = match row.get::<Option<String>>(RECORD_COLUMNS + 3)?.as_deref() {
        Some("dark") => Unavailable::Dark,
        Some("outage") => Unavailable::Outage,
        Some("fault") => Unavailable::Fault,
        _ => return Ok(Health::Healthy(None)),
    };
    let code: String = row.get(RECORD_COLUMNS + 4)?;
    let known = Code::ALL.iter().find(|known| known.as_str() == code);
    Ok(Health::Unavailable(KeyUnavailable {
        vault,
        vault_name,
        class,
        title: known.map_or("The key cannot be used", |code| code.title()).into(),
        fix: known.map_or("Run the vault's checks.", |code| code.fix_of_vault()).into(),
        code,
        detail: row.get(RECORD_COLUMNS + 5)?,
        since: row.get(RECORD_COLUMNS + 7)?,
        // The keyring knows, once it has read the row.
        recoverable_until: None,
        azure_request_id: row.get(RECORD_COLUMNS + 6)?,
    }))
}

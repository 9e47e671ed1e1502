//! The rows that lead to a vault key: vault policy, provider, generation, wrap. Each carries a MAC under the instance
//! key, checked here before anything acts on it, so that a database writer can plant none of them.

use std::{str::FromStr, sync::Arc};

use jiff::Timestamp;
use strongroom_envelope::{
    CloudKekPlace, Field, InstanceContext, InstanceKeys, Mac, ProviderRow as ProviderMacRow, Random, VaultKeyPlace,
    VaultPolicyRow, WrapRow, digest, mac_provider_row, mac_vault_policy, mac_wrap_row, open, unwrap_cloud_kek,
    verify_provider_row, verify_vault_policy, verify_wrap_row,
};
use strongroom_keys::{
    ClientId, Credential, KeyName, KeyProvider, Kid, TenantId, VaultUrl,
    azure::{AzureAccess, AzureKeys},
    local::LocalProvider,
};
use uuid::Uuid;

use super::{
    credential::{CredentialKind, CredentialText},
    held::BothCredentials,
};
use crate::{
    audit::Fact,
    error::{Error, Result},
    id::{ProviderId, VaultId, WorkspaceId},
    store::{Row, Tx},
};

/// The columns that a [`ProviderRow`] is read from, of `providers p`, its MAC last.
macro_rules! provider_columns {
    () => {
        "p.id, p.kind, p.tenant_id, p.vault_url, p.key_name, p.credential_id, p.client_id, p.credential_kind, \
         p.credential_expires, p.sealed_credential, p.previous_id, p.previous_client_id, p.previous_kind, \
         p.previous_expires, p.sealed_previous, p.revision, p.row_mac"
    };
}

/// The columns that a [`Policy`] is read from, of `vaults v`.
macro_rules! policy_columns {
    () => {
        "v.id, v.workspace_id, v.strategy, v.state, v.lease_seconds, v.generation, v.provider_id, v.may_leave, \
         v.policy_mac"
    };
}
pub(crate) use {policy_columns, provider_columns};

/// How many they are.
pub(crate) const POLICY_COLUMNS: usize = 9;

/// How a vault's key is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// *Cloud vault*: the KEK lies with the server, under the instance key.
    Cloud,
    /// *Azure External Keys*: the KEK lies in the customer's Key Vault.
    AzureExternalKeys,
}

impl Strategy {
    pub const ALL: [Self; 2] = [Self::Cloud, Self::AzureExternalKeys];

    /// As rows and the API write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::AzureExternalKeys => "azure_external_keys",
        }
    }

    /// As pages say it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Cloud => "Cloud vault",
            Self::AzureExternalKeys => "Azure External Keys",
        }
    }
}

impl FromStr for Strategy {
    type Err = ();
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        Self::ALL.into_iter().find(|strategy| strategy.word() == text).ok_or(())
    }
}

/// What a vault may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VaultState {
    Active,
    /// It takes no new items.
    Closed,
    /// Nobody reads or writes its items, whatever its key says.
    Disabled,
}

impl VaultState {
    pub const ALL: [Self; 3] = [Self::Active, Self::Closed, Self::Disabled];

    /// As rows and the API write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Closed => "closed",
            Self::Disabled => "disabled",
        }
    }
}

impl FromStr for VaultState {
    type Err = ();
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.word() == text).ok_or(())
    }
}

/// One wrap and all that is needed to unwrap it, proven authentic.
pub struct KeyRecord {
    pub workspace: WorkspaceId,
    pub vault: VaultId,
    pub vault_name: String,
    pub generation: u32,
    pub kid: Kid,
    pub algorithm: String,
    pub wrapped: Vec<u8>,
    pub policy: Policy,
    /// Of this wrap; the policy names the one of new wraps.
    pub provider: ProviderRow,
}

impl KeyRecord {
    /// What the unwrapped record has to say.
    pub fn place(&self) -> VaultKeyPlace {
        VaultKeyPlace { workspace: self.workspace.bytes(), vault: self.vault.bytes(), generation: self.generation }
    }
}

/// Where a vault's KEK is and how to get there.
#[derive(Clone)]
pub struct ProviderRow {
    pub id: ProviderId,
    pub workspace: WorkspaceId,
    pub vault: VaultId,
    pub strategy: Strategy,
    pub tenant_id: String,
    pub vault_url: String,
    pub key_name: String,
    pub credential: HeldCredential,
    /// The one before, held until the new one has worked.
    pub previous: Option<HeldCredential>,
    pub revision: u64,
}

/// A credential, sealed under the instance key; of a Cloud vault, its KEK.
#[derive(Clone)]
pub struct HeldCredential {
    pub id: Uuid,
    /// Of the application that signs in with it; empty for a Cloud vault.
    pub client_id: String,
    /// None for a Cloud vault.
    pub kind: Option<CredentialKind>,
    /// When it ends, in whole seconds, where that is known.
    pub expires: Option<Timestamp>,
    pub sealed: Vec<u8>,
}

impl ProviderRow {
    /// Where a Cloud vault's KEK belongs; the credential's id stands for the KEK's.
    pub fn kek_place(&self) -> CloudKekPlace {
        CloudKekPlace {
            workspace: self.workspace.bytes(),
            provider: self.id.bytes(),
            kek: *self.credential.id.as_bytes(),
        }
    }

    /// What the credential of this id is sealed for.
    pub fn credential_place(&self, credential: Uuid) -> InstanceContext {
        InstanceContext::ProviderCredential {
            workspace: self.workspace.bytes(),
            provider: self.id.bytes(),
            credential: *credential.as_bytes(),
        }
    }

    /// A credential of an Azure vault that this row holds, opened.
    pub fn opened(&self, held: &HeldCredential, keys: &InstanceKeys) -> Result<CredentialText> {
        let opened = open(keys, &self.credential_place(held.id), &held.sealed).map_err(|_| planted("provider"))?;
        let text = std::str::from_utf8(&opened).map_err(|_| unreadable())?;
        Ok(CredentialText::stored(held.kind.ok_or_else(unreadable)?, text))
    }

    /// Writes the row, which no other of this id may precede.
    pub fn insert(&self, tx: &mut Tx<'_>, keys: &InstanceKeys, now: Timestamp) -> Result<()> {
        let (held, previous) = (&self.credential, self.previous.as_ref());
        tx.execute(
            "INSERT INTO providers (id, vault_id, kind, tenant_id, vault_url, key_name, credential_id, client_id, \
                                    credential_kind, credential_expires, sealed_credential, previous_id, \
                                    previous_client_id, previous_kind, previous_expires, sealed_previous, created_at, \
                                    revision, row_mac) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
            &[
                self.id.0.into(),
                self.vault.0.into(),
                self.strategy.word().into(),
                (&self.tenant_id).into(),
                (&self.vault_url).into(),
                (&self.key_name).into(),
                held.id.into(),
                (&held.client_id).into(),
                held.kind.map(|kind| kind.word()).into(),
                held.expires.into(),
                (&held.sealed).into(),
                previous.map(|held| held.id).into(),
                previous.map(|held| held.client_id.as_str()).into(),
                previous.and_then(|held| held.kind).map(|kind| kind.word()).into(),
                previous.and_then(|held| held.expires).into(),
                previous.map(|held| held.sealed.as_slice()).into(),
                now.into(),
                self.revision.into(),
                self.mac(keys).to_bytes().as_slice().into(),
            ],
        )?;
        Ok(())
    }

    /// Writes the row in place of the revision before. Refused when somebody else was quicker.
    pub fn put(&self, tx: &mut Tx<'_>, keys: &InstanceKeys) -> Result<()> {
        let (held, previous) = (&self.credential, self.previous.as_ref());
        let changed = tx.execute(
            "UPDATE providers SET credential_id = $3, client_id = $4, credential_kind = $5, credential_expires = $6, \
                                  sealed_credential = $7, previous_id = $8, previous_client_id = $9, \
                                  previous_kind = $10, previous_expires = $11, sealed_previous = $12, revision = $13, \
                                  row_mac = $14 WHERE id = $1 AND revision = $2",
            &[
                self.id.0.into(),
                (self.revision - 1).into(),
                held.id.into(),
                (&held.client_id).into(),
                held.kind.map(|kind| kind.word()).into(),
                held.expires.into(),
                (&held.sealed).into(),
                previous.map(|held| held.id).into(),
                previous.map(|held| held.client_id.as_str()).into(),
                previous.and_then(|held| held.kind).map(|kind| kind.word()).into(),
                previous.and_then(|held| held.expires).into(),
                previous.map(|held| held.sealed.as_slice()).into(),
                self.revision.into(),
                self.mac(keys).to_bytes().as_slice().into(),
            ],
        )?;
        if changed == 1 {
            return Ok(());
        }
        Err(Error::conflict(
            "vault.changed",
            "the vault's connection was changed at the same moment",
            "Look at the vault again, then repeat what you did.",
        ))
    }

    /// The columns of [`provider_columns`] from `from` on, unproven.
    pub(super) fn read(row: &Row<'_>, from: usize, policy: &Policy) -> Result<Self> {
        let kind = |column| match row.get::<Option<String>>(column)? {
            Some(word) => word.parse().map(Some).map_err(|()| unreadable()),
            None => Ok(None),
        };
        Ok(Self {
            id: ProviderId(row.get(from)?),
            workspace: policy.workspace,
            vault: policy.vault,
            strategy: row.parse(from + 1)?,
            tenant_id: row.get(from + 2)?,
            vault_url: row.get(from + 3)?,
            key_name: row.get(from + 4)?,
            credential: HeldCredential {
                id: row.get(from + 5)?,
                client_id: row.get(from + 6)?,
                kind: kind(from + 7)?,
                expires: row.get(from + 8)?,
                sealed: row.get(from + 9)?,
            },
            previous: match row.get::<Option<Uuid>>(from + 10)? {
                None => None,
                Some(id) => Some(HeldCredential {
                    id,
                    client_id: row.get(from + 11)?,
                    kind: kind(from + 12)?,
                    expires: row.get(from + 13)?,
                    sealed: row.get(from + 14)?,
                }),
            },
            revision: row.get(from + 15)?,
        })
    }

    /// The row's MAC, as docs/format.md registers its fields.
    pub fn mac(&self, keys: &InstanceKeys) -> Mac {
        self.with_fields(|row| mac_provider_row(keys, row))
    }

    fn verify(&self, keys: &InstanceKeys, mac: &[u8]) -> Result<()> {
        let mac = Mac::from_bytes(mac).map_err(|_| planted("provider"))?;
        self.with_fields(|row| verify_provider_row(keys, row, &mac)).map_err(|_| planted("provider"))
    }

    fn with_fields<T>(&self, use_row: impl FnOnce(&ProviderMacRow<'_>) -> T) -> T {
        let vault = self.vault.bytes();
        let revision = self.revision.to_be_bytes();
        let (held, previous) = (&self.credential, self.previous.as_ref());
        let expires = held.expires.map(|at| at.as_millisecond().to_be_bytes());
        let previous_expires = previous.and_then(|held| held.expires).map(|at| at.as_millisecond().to_be_bytes());
        let maybe = |name, value| Field { name, value };
        let kind = |held: &HeldCredential| held.kind.map(|kind| kind.word().as_bytes());
        let fields = [
            field("vault", &vault),
            field("kind", self.strategy.word().as_bytes()),
            field("tenant_id", self.tenant_id.as_bytes()),
            field("vault_url", self.vault_url.as_bytes()),
            field("key_name", self.key_name.as_bytes()),
            field("credential_id", held.id.as_bytes()),
            field("client_id", held.client_id.as_bytes()),
            maybe("credential_kind", kind(held)),
            maybe("credential_expires", expires.as_ref().map(<[u8; 8]>::as_slice)),
            field("sealed_credential", &held.sealed),
            maybe("previous_id", previous.map(|held| held.id.as_bytes().as_slice())),
            maybe("previous_client_id", previous.map(|held| held.client_id.as_bytes())),
            maybe("previous_kind", previous.and_then(kind)),
            maybe("previous_expires", previous_expires.as_ref().map(<[u8; 8]>::as_slice)),
            maybe("sealed_previous", previous.map(|held| held.sealed.as_slice())),
            field("revision", &revision),
        ];
        use_row(&ProviderMacRow { workspace: self.workspace.bytes(), provider: self.id.bytes(), fields: &fields })
    }
}

/// What decides how a vault behaves: the fields under its policy MAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub workspace: WorkspaceId,
    pub vault: VaultId,
    pub strategy: Strategy,
    pub state: VaultState,
    pub lease_seconds: u32,
    /// The current one, under which new data keys are wrapped.
    pub generation: u32,
    /// Where new wraps go.
    pub provider: ProviderId,
    /// Whether items may move to a Cloud vault or to another tenant.
    pub may_leave: bool,
}

impl Policy {
    /// The policy of a vault, proven, and its row held until the transaction ends: what is signed anew was ours before.
    pub fn held(tx: &mut Tx<'_>, keys: &InstanceKeys, vault: VaultId) -> Result<Self> {
        let sql = concat!("SELECT ", policy_columns!(), " FROM vaults v WHERE v.id = $1");
        tx.first_locked(sql, &[vault.0.into()], |row| Self::read(row, keys))?.ok_or(Error::NotFound("vault"))
    }

    /// Writes the policy in place of the one that was held.
    pub fn put(&self, tx: &mut Tx<'_>, keys: &InstanceKeys) -> Result<()> {
        tx.execute(
            "UPDATE vaults SET state = $2, lease_seconds = $3, generation = $4, provider_id = $5, may_leave = $6, \
                               policy_mac = $7, revision = revision + 1 WHERE id = $1",
            &[
                self.vault.0.into(),
                self.state.word().into(),
                i64::from(self.lease_seconds).into(),
                i64::from(self.generation).into(),
                self.provider.0.into(),
                self.may_leave.into(),
                self.mac(keys).to_bytes().as_slice().into(),
            ],
        )?;
        Ok(())
    }

    /// The first columns of a row of [`policy_columns`], proven.
    fn read(row: &Row<'_>, keys: &InstanceKeys) -> Result<Self> {
        let policy = Self::unproven(row)?;
        policy.verify(keys, &row.get::<Vec<u8>>(8)?)?;
        Ok(policy)
    }

    /// The same, as the row says it.
    pub(super) fn unproven(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            vault: VaultId(row.get(0)?),
            workspace: WorkspaceId(row.get(1)?),
            strategy: row.parse(2)?,
            state: row.parse(3)?,
            lease_seconds: row.get(4)?,
            generation: row.get(5)?,
            provider: ProviderId(row.get(6)?),
            may_leave: row.get(7)?,
        })
    }

    /// The policy's MAC, as docs/format.md registers its fields.
    pub fn mac(&self, keys: &InstanceKeys) -> Mac {
        self.with_fields(|row| mac_vault_policy(keys, row))
    }

    /// What an event says of the policy: the digest of its MAC.
    pub fn digest(&self, keys: &InstanceKeys) -> Fact {
        Fact::Bytes(digest(&self.mac(keys).to_bytes()).to_vec())
    }

    /// Refuses a policy that this instance did not write.
    fn verify(&self, keys: &InstanceKeys, mac: &[u8]) -> Result<()> {
        let mac = Mac::from_bytes(mac).map_err(|_| planted("vault"))?;
        self.with_fields(|row| verify_vault_policy(keys, row, &mac)).map_err(|_| planted("vault"))
    }

    fn with_fields<T>(&self, use_row: impl FnOnce(&VaultPolicyRow<'_>) -> T) -> T {
        let (lease, generation) = (self.lease_seconds.to_be_bytes(), self.generation.to_be_bytes());
        let may_leave = [u8::from(self.may_leave)];
        let fields = [
            field("strategy", self.strategy.word().as_bytes()),
            field("state", self.state.word().as_bytes()),
            field("lease_seconds", &lease),
            field("generation", &generation),
            field("provider", self.provider.0.as_bytes()),
            field("may_leave", &may_leave),
        ];
        use_row(&VaultPolicyRow { workspace: self.workspace.bytes(), vault: self.vault.bytes(), fields: &fields })
    }
}

/// The MAC of a wrap row.
pub fn wrap_mac(keys: &InstanceKeys, record: &KeyRecord) -> Mac {
    let kid = record.kid.to_string();
    mac_wrap_row(keys, &wrap_row(record, &kid))
}

fn wrap_row<'a>(record: &'a KeyRecord, kid: &'a str) -> WrapRow<'a> {
    WrapRow {
        workspace: record.workspace.bytes(),
        vault: record.vault.bytes(),
        generation: record.generation,
        provider: record.provider.id.bytes(),
        algorithm: &record.algorithm,
        kid,
        wrap: &record.wrapped,
    }
}

/// The columns that [`proven`] reads, of the tables `vaults v`, `generations g`, `wraps w` and `providers p`.
macro_rules! record_columns {
    () => {
        concat!(
            policy_columns!(),
            ", v.name, g.generation, w.kid, w.algorithm, w.wrapped, w.row_mac, ",
            provider_columns!()
        )
    };
}
pub(crate) use record_columns;

/// How many they are.
pub(crate) const RECORD_COLUMNS: usize = 32;

/// Reads the wrap in use of one generation and proves every row on the way.
pub(super) fn load(tx: &mut Tx<'_>, keys: &InstanceKeys, vault: VaultId, generation: u32) -> Result<KeyRecord> {
    let found = tx.first(
        concat!(
            "SELECT ",
            record_columns!(),
            " FROM vaults v \
             JOIN generations g ON g.vault_id = v.id AND g.generation = $2 \
             JOIN wraps w ON w.vault_id = v.id AND w.generation = g.generation AND w.kid = g.kid \
             JOIN providers p ON p.id = w.provider_id AND p.vault_id = v.id \
             WHERE v.id = $1"
        ),
        &[vault.0.into(), i64::from(generation).into()],
        |row| proven(row, keys),
    )?;
    found.ok_or(Error::NotFound("vault key"))
}

/// Reads one wrap of a generation, in use or superseded, and proves every row on the way.
pub(super) fn load_wrap(
    tx: &mut Tx<'_>,
    keys: &InstanceKeys,
    (vault, generation): (VaultId, u32),
    kid: &str,
) -> Result<KeyRecord> {
    let found = tx.first(
        concat!(
            "SELECT ",
            record_columns!(),
            " FROM vaults v \
             JOIN generations g ON g.vault_id = v.id AND g.generation = $2 \
             JOIN wraps w ON w.vault_id = v.id AND w.generation = g.generation AND w.kid = $3 \
             JOIN providers p ON p.id = w.provider_id AND p.vault_id = v.id \
             WHERE v.id = $1"
        ),
        &[vault.0.into(), i64::from(generation).into(), kid.into()],
        |row| proven(row, keys),
    )?;
    found.ok_or(Error::NotFound("wrap"))
}

/// A wrap in use, or why its rows fail their proof.
pub(super) type Found = (VaultId, u32, Result<KeyRecord>);

/// The wraps in use of vaults with Azure keys after `(vault, generation)`, at most `count`: of every generation, whether a
/// data key is under it or not. One planted row must not hide a vault: either row that calls it external is enough.
pub(super) fn load_in_use(
    tx: &mut Tx<'_>,
    keys: &InstanceKeys,
    (vault, generation): (VaultId, u32),
    count: u32,
) -> Result<Vec<Found>> {
    tx.all(
        concat!(
            "SELECT ",
            record_columns!(),
            " FROM vaults v \
             JOIN generations g ON g.vault_id = v.id \
             LEFT JOIN wraps w ON w.vault_id = v.id AND w.generation = g.generation AND w.kid = g.kid \
             LEFT JOIN providers p ON p.id = w.provider_id AND p.vault_id = v.id \
             WHERE (v.strategy = $1 OR p.kind = $1) \
             AND (v.id > $2 OR (v.id = $2 AND g.generation > $3)) \
             ORDER BY v.id, g.generation LIMIT $4"
        ),
        &[
            Strategy::AzureExternalKeys.word().into(),
            vault.0.into(),
            i64::from(generation).into(),
            i64::from(count).into(),
        ],
        |row| Ok((VaultId(row.get(0)?), row.get(10)?, proven(row, keys))),
    )
}

/// A vault's provider of new wraps, and the kid of its current generation.
pub(super) type InUse = (ProviderRow, String);

/// Where new wraps of vaults with Azure keys go, and the key version that wraps the current generation; after `vault`, at
/// most `count`. None where the rows fail their proof: whoever uses them tells of that.
pub(super) fn external_keys(
    tx: &mut Tx<'_>,
    keys: &InstanceKeys,
    vault: VaultId,
    count: u32,
) -> Result<Vec<(VaultId, Option<InUse>)>> {
    tx.all(
        concat!(
            "SELECT ",
            policy_columns!(),
            ", ",
            provider_columns!(),
            ", g.kid FROM vaults v JOIN providers p ON p.id = v.provider_id AND p.vault_id = v.id \
             JOIN generations g ON g.vault_id = v.id AND g.generation = v.generation \
             WHERE v.strategy = $1 AND v.id > $2 ORDER BY v.id LIMIT $3"
        ),
        &[Strategy::AzureExternalKeys.word().into(), vault.0.into(), i64::from(count).into()],
        |row| {
            let vault = VaultId(row.get(0)?);
            let Ok(policy) = Policy::read(row, keys) else { return Ok((vault, None)) };
            let provider = ProviderRow::read(row, POLICY_COLUMNS, &policy)?;
            let mac: Vec<u8> = row.get(POLICY_COLUMNS + 16)?;
            let is_proven = provider.verify(keys, &mac).is_ok() && provider.strategy == policy.strategy;
            let kid = row.get::<String>(POLICY_COLUMNS + 17)?;
            Ok((vault, is_proven.then_some((provider, kid))))
        },
    )
}

/// Where the vault's new wraps go, proven.
pub(crate) fn load_provider(tx: &mut Tx<'_>, keys: &InstanceKeys, policy: &Policy) -> Result<ProviderRow> {
    let sql = concat!("SELECT ", provider_columns!(), " FROM providers p WHERE p.id = $1 AND p.vault_id = $2");
    let found = tx.first(sql, &[policy.provider.0.into(), policy.vault.0.into()], |row| {
        let provider = ProviderRow::read(row, 0, policy)?;
        provider.verify(keys, &row.get::<Vec<u8>>(16)?)?;
        Ok(provider)
    })?;
    found.filter(|provider| provider.strategy == policy.strategy).ok_or_else(|| planted("provider"))
}

/// Every provider of a vault, proven, the oldest first.
pub(crate) fn providers_of(tx: &mut Tx<'_>, keys: &InstanceKeys, policy: &Policy) -> Result<Vec<ProviderRow>> {
    let sql = concat!("SELECT ", provider_columns!(), " FROM providers p WHERE p.vault_id = $1 ORDER BY p.id");
    tx.all(sql, &[policy.vault.0.into()], |row| {
        let provider = ProviderRow::read(row, 0, policy)?;
        provider.verify(keys, &row.get::<Vec<u8>>(16)?)?;
        Ok(provider)
    })
}

/// A row of [`record_columns`], once every MAC on it is verified. A wrap or provider that is not there is as wrong as a
/// changed one.
pub(crate) fn proven(row: &Row<'_>, keys: &InstanceKeys) -> Result<KeyRecord> {
    let policy = Policy::read(row, keys)?;
    let wrap_mac = row.get::<Option<Vec<u8>>>(14)?.ok_or_else(|| planted("wrap"))?;
    let provider_mac = row.get::<Option<Vec<u8>>>(31)?.ok_or_else(|| planted("provider"))?;
    let provider = ProviderRow::read(row, 15, &policy)?;
    provider.verify(keys, &provider_mac)?;
    if provider.strategy != policy.strategy {
        return Err(planted("provider"));
    }
    let kid: String = row.get(11)?;
    let record = KeyRecord {
        workspace: policy.workspace,
        vault: policy.vault,
        vault_name: row.get(9)?,
        generation: row.get(10)?,
        kid: kid.parse().map_err(|_| planted("wrap"))?,
        algorithm: row.get(12)?,
        wrapped: row.get(13)?,
        policy,
        provider,
    };
    let mac = Mac::from_bytes(&wrap_mac).map_err(|_| planted("wrap"))?;
    verify_wrap_row(keys, &wrap_row(&record, &kid), &mac).map_err(|_| planted("wrap"))?;
    Ok(record)
}

/// The provider that a row describes, ready to be asked; with every credential that it holds.
pub fn connect(
    row: &ProviderRow,
    azure: &AzureKeys,
    keys: &InstanceKeys,
    random: &Arc<dyn Random>,
) -> Result<Arc<dyn KeyProvider>> {
    let current = connect_with(row, &row.credential, azure, keys, random)?;
    match &row.previous {
        None => Ok(current),
        Some(previous) => {
            let previous = connect_with(row, previous, azure, keys, random)?;
            Ok(Arc::new(BothCredentials { current, previous }))
        }
    }
}

/// The same with this credential alone.
pub(crate) fn connect_with(
    row: &ProviderRow,
    held: &HeldCredential,
    azure: &AzureKeys,
    keys: &InstanceKeys,
    random: &Arc<dyn Random>,
) -> Result<Arc<dyn KeyProvider>> {
    match row.strategy {
        Strategy::Cloud => {
            let place = row.kek_place();
            let kek = unwrap_cloud_kek(keys, &place, &held.sealed).map_err(|_| planted("provider"))?;
            Ok(Arc::new(LocalProvider::new(kek, place, Box::new(Arc::clone(random)))))
        }
        Strategy::AzureExternalKeys => {
            let credential = row.opened(held, keys)?;
            let access = AzureAccess {
                tenant: TenantId::parse(&row.tenant_id).map_err(|_| unreadable())?,
                client: ClientId::parse(&held.client_id).map_err(|_| unreadable())?,
                credential: Credential::parse(&credential.input()).map_err(|_| unreadable())?,
                vault_url: VaultUrl::parse(&row.vault_url, azure.cloud()).map_err(|_| unreadable())?,
                key_name: KeyName::parse(&row.key_name).map_err(|_| unreadable())?,
            };
            Ok(Arc::new(azure.provider(access)))
        }
    }
}

fn field<'a>(name: &'a str, value: &'a [u8]) -> Field<'a> {
    Field { name, value: Some(value) }
}

fn unreadable() -> Error {
    Error::integrity("provider.unreadable", "a stored provider row cannot be read")
}

fn planted(what: &str) -> Error {
    Error::integrity(
        "integrity.row",
        format!("a {what} row was not written by this instance, or was changed behind its back; it is not used"),
    )
}

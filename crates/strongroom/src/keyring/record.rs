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

use super::credential::{CredentialKind, CredentialText};
use crate::{
    audit::Fact,
    error::{Error, Result},
    id::{ProviderId, VaultId, WorkspaceId},
    store::{Row, Tx},
};

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

/// One wrap and all that is needed to unwrap it, proven authentic.
pub struct KeyRecord {
    pub workspace: WorkspaceId,
    pub vault: VaultId,
    pub vault_name: String,
    pub generation: u32,
    pub kid: Kid,
    pub algorithm: String,
    pub wrapped: Vec<u8>,
    pub lease_seconds: u32,
    pub provider: ProviderRow,
}

impl KeyRecord {
    /// What the unwrapped record has to say.
    pub fn place(&self) -> VaultKeyPlace {
        VaultKeyPlace { workspace: self.workspace.bytes(), vault: self.vault.bytes(), generation: self.generation }
    }
}

/// Where a vault's KEK is and how to get there. The credential is sealed under the instance key.
#[derive(Clone)]
pub struct ProviderRow {
    pub id: ProviderId,
    pub workspace: WorkspaceId,
    pub vault: VaultId,
    pub strategy: Strategy,
    pub tenant_id: String,
    pub client_id: String,
    pub vault_url: String,
    pub key_name: String,
    pub credential_id: uuid::Uuid,
    /// None for a Cloud vault.
    pub credential_kind: Option<CredentialKind>,
    /// When it ends, in whole seconds, where that is known.
    pub credential_expires: Option<Timestamp>,
    pub sealed_credential: Vec<u8>,
    pub revision: u64,
}

impl ProviderRow {
    /// Where a Cloud vault's KEK belongs; the credential's id stands for the KEK's.
    pub fn kek_place(&self) -> CloudKekPlace {
        CloudKekPlace {
            workspace: self.workspace.bytes(),
            provider: self.id.bytes(),
            kek: *self.credential_id.as_bytes(),
        }
    }

    /// What a credential is sealed for.
    pub fn credential_place(&self) -> InstanceContext {
        InstanceContext::ProviderCredential {
            workspace: self.workspace.bytes(),
            provider: self.id.bytes(),
            credential: *self.credential_id.as_bytes(),
        }
    }

    /// The credential of an Azure vault, opened.
    pub fn credential(&self, keys: &InstanceKeys) -> Result<CredentialText> {
        let opened = open(keys, &self.credential_place(), &self.sealed_credential).map_err(|_| planted("provider"))?;
        let text = std::str::from_utf8(&opened).map_err(|_| unreadable())?;
        let kind = self.credential_kind.ok_or_else(unreadable)?;
        Ok(CredentialText::stored(kind, text))
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
        let expires = self.credential_expires.map(|at| at.as_millisecond().to_be_bytes());
        let fields = [
            field("vault", &vault),
            field("kind", self.strategy.word().as_bytes()),
            field("tenant_id", self.tenant_id.as_bytes()),
            field("client_id", self.client_id.as_bytes()),
            field("vault_url", self.vault_url.as_bytes()),
            field("key_name", self.key_name.as_bytes()),
            field("credential_id", self.credential_id.as_bytes()),
            Field { name: "credential_kind", value: self.credential_kind.map(|kind| kind.word().as_bytes()) },
            Field { name: "credential_expires", value: expires.as_ref().map(<[u8; 8]>::as_slice) },
            field("sealed_credential", &self.sealed_credential),
            field("revision", &revision),
        ];
        use_row(&ProviderMacRow { workspace: self.workspace.bytes(), provider: self.id.bytes(), fields: &fields })
    }
}

/// What decides how a vault behaves: the fields under its policy MAC.
pub struct Policy<'a> {
    pub workspace: WorkspaceId,
    pub vault: VaultId,
    pub strategy: Strategy,
    pub state: &'a str,
    pub lease_seconds: u32,
    pub generation: u32,
}

impl Policy<'_> {
    /// The policy's MAC, as docs/format.md registers its fields.
    pub fn mac(&self, keys: &InstanceKeys) -> Mac {
        self.with_fields(|row| mac_vault_policy(keys, row))
    }

    /// What an event says of the policy: the digest of its MAC.
    pub fn digest(&self, keys: &InstanceKeys) -> Fact {
        Fact::Bytes(digest(&self.mac(keys).to_bytes()).to_vec())
    }

    /// Refuses a policy that this instance did not write.
    pub fn verify(&self, keys: &InstanceKeys, mac: &[u8]) -> Result<()> {
        let mac = Mac::from_bytes(mac).map_err(|_| planted("vault"))?;
        self.with_fields(|row| verify_vault_policy(keys, row, &mac)).map_err(|_| planted("vault"))
    }

    fn with_fields<T>(&self, use_row: impl FnOnce(&VaultPolicyRow<'_>) -> T) -> T {
        let (lease, generation) = (self.lease_seconds.to_be_bytes(), self.generation.to_be_bytes());
        let fields = [
            field("strategy", self.strategy.word().as_bytes()),
            field("state", self.state.as_bytes()),
            field("lease_seconds", &lease),
            field("generation", &generation),
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
        "v.id, v.workspace_id, v.name, v.strategy, v.state, v.lease_seconds, v.generation, v.policy_mac, \
         g.generation, w.kid, w.algorithm, w.wrapped, w.row_mac, \
         p.id, p.kind, p.tenant_id, p.client_id, p.vault_url, p.key_name, p.credential_id, p.credential_kind, \
         p.credential_expires, p.sealed_credential, p.revision, p.row_mac"
    };
}
pub(crate) use record_columns;

/// How many they are.
pub(crate) const RECORD_COLUMNS: usize = 25;

/// Reads the wrap in use of one generation and proves every row on the way.
pub(super) fn load(tx: &mut Tx<'_>, keys: &InstanceKeys, vault: VaultId, generation: u32) -> Result<KeyRecord> {
    let found = tx.first(
        concat!(
            "SELECT ",
            record_columns!(),
            " FROM vaults v \
             JOIN generations g ON g.vault_id = v.id AND g.generation = $2 \
             JOIN wraps w ON w.vault_id = v.id AND w.generation = g.generation AND w.kid = g.kid \
             JOIN providers p ON p.vault_id = v.id \
             WHERE v.id = $1"
        ),
        &[vault.0.into(), i64::from(generation).into()],
        |row| proven(row, keys),
    )?;
    found.ok_or(Error::NotFound("vault key"))
}

/// A row of [`record_columns`], once every MAC on it is verified. A wrap or provider that is not there is as wrong as a
/// changed one.
pub(crate) fn proven(row: &Row<'_>, keys: &InstanceKeys) -> Result<KeyRecord> {
    let vault = VaultId(row.get(0)?);
    let workspace = WorkspaceId(row.get(1)?);
    let policy = Policy {
        workspace,
        vault,
        strategy: row.parse(3)?,
        state: &row.get::<String>(4)?,
        lease_seconds: row.get(5)?,
        generation: row.get(6)?,
    };
    policy.verify(keys, &row.get::<Vec<u8>>(7)?)?;
    let wrap_mac = row.get::<Option<Vec<u8>>>(12)?.ok_or_else(|| planted("wrap"))?;
    let provider_mac = row.get::<Option<Vec<u8>>>(24)?.ok_or_else(|| planted("provider"))?;
    let provider = ProviderRow {
        id: ProviderId(row.get(13)?),
        workspace,
        vault,
        strategy: row.parse(14)?,
        tenant_id: row.get(15)?,
        client_id: row.get(16)?,
        vault_url: row.get(17)?,
        key_name: row.get(18)?,
        credential_id: row.get(19)?,
        credential_kind: match row.get::<Option<String>>(20)? {
            Some(word) => Some(word.parse().map_err(|()| unreadable())?),
            None => None,
        },
        credential_expires: row.get(21)?,
        sealed_credential: row.get(22)?,
        revision: row.get(23)?,
    };
    provider.verify(keys, &provider_mac)?;
    if provider.strategy != policy.strategy {
        return Err(planted("provider"));
    }
    let kid: String = row.get(9)?;
    let record = KeyRecord {
        workspace,
        vault,
        vault_name: row.get(2)?,
        generation: row.get(8)?,
        kid: kid.parse().map_err(|_| planted("wrap"))?,
        algorithm: row.get(10)?,
        wrapped: row.get(11)?,
        lease_seconds: policy.lease_seconds,
        provider,
    };
    let mac = Mac::from_bytes(&wrap_mac).map_err(|_| planted("wrap"))?;
    verify_wrap_row(keys, &wrap_row(&record, &kid), &mac).map_err(|_| planted("wrap"))?;
    Ok(record)
}

/// The provider that a row describes, ready to be asked.
pub fn connect(
    row: &ProviderRow,
    azure: &AzureKeys,
    keys: &InstanceKeys,
    random: &Arc<dyn Random>,
) -> Result<Arc<dyn KeyProvider>> {
    match row.strategy {
        Strategy::Cloud => {
            let place = row.kek_place();
            let kek = unwrap_cloud_kek(keys, &place, &row.sealed_credential).map_err(|_| planted("provider"))?;
            Ok(Arc::new(LocalProvider::new(kek, place, Box::new(Arc::clone(random)))))
        }
        Strategy::AzureExternalKeys => {
            let credential = row.credential(keys)?;
            let access = AzureAccess {
                tenant: TenantId::parse(&row.tenant_id).map_err(|_| unreadable())?,
                client: ClientId::parse(&row.client_id).map_err(|_| unreadable())?,
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

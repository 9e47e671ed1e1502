//! Making a vault: check the key, wrap a fresh vault key, unwrap it again, and only then write a row.

use std::sync::Arc;

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use strongroom_envelope::{CloudKek, VaultKey, VaultKeyPlace, read_wrap_record, seal, wrap_cloud_kek, wrap_record};
use strongroom_keys::{
    AzureInput, ClientId, INTERACTIVE, KeyFailure, KeyProvider, TenantId, TokenUse, parse_vault_url_and_key,
};

use super::{
    Strategy, Vault,
    check::{Accepted, CHECK_OPERATIONS, refused_by},
};
use crate::{
    access::Action,
    app::{App, Caller},
    audit::{Event, Target},
    error::{Error, KeyUnavailable, Result},
    id::{MemberId, ProviderId, VaultId, WorkspaceId},
    keyring::{CredentialText, HeldCredential, KeyRecord, Policy, ProviderRow, VaultState, connect, wrap_mac},
    store::{StoreError, Tx},
};

/// The least RSA modulus that an Azure vault takes, as the article's step 3 demands.
pub const REQUIRED_BITS: u32 = 4096;
/// Characters of a vault's name.
const MAX_NAME: usize = 100;
/// Key operations that proving a fresh vault key takes: wrap, unwrap.
const CREATE_OPERATIONS: u32 = 2;

/// What the *Create new vault* dialog asks for.
pub struct VaultRequest {
    pub name: String,
    pub make_default: bool,
    pub key: KeyRequest,
    /// Which warnings of the checks were read and taken.
    pub accept_warnings: Accepted,
}

/// The strategy, with what it needs.
pub enum KeyRequest {
    Cloud,
    Azure(AzureRequest),
}

/// What *Configure the Azure vault* asks for, as typed.
pub struct AzureRequest {
    pub client_id: String,
    pub tenant_id: String,
    pub credential: CredentialText,
    /// When the client secret ends, where somebody said so; see [`expiry`].
    pub credential_expires: Option<Timestamp>,
    pub vault_url: String,
    pub vault_key_name: String,
}

impl AzureRequest {
    /// For the checks.
    pub fn input(&self) -> AzureInput<'_> {
        AzureInput {
            client_id: &self.client_id,
            tenant_id: &self.tenant_id,
            credential: self.credential.input(),
            vault_url: &self.vault_url,
            vault_key_name: &self.vault_key_name,
            credential_expires: self.credential_expires,
        }
    }
}

/// Reads the day or moment at which a client secret ends, as in `2027-05-01` (its first moment, UTC) or RFC 3339, to the
/// second.
pub fn expiry(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let day = || TimeZone::UTC.to_timestamp(text.parse::<Date>().ok()?.into()).ok();
    let moment = text.parse::<Timestamp>().ok().or_else(day)?;
    Timestamp::from_second(moment.as_second()).ok()
}

/// A vault whose key is proven to wrap and unwrap, ready to be written.
#[derive(Clone)]
pub struct NewVault {
    record: Arc<KeyRecord>,
    name: String,
    created_by: MemberId,
    created_at: Timestamp,
    events: Vec<Event>,
}

impl NewVault {
    pub fn id(&self) -> VaultId {
        self.record.vault
    }
}

impl App {
    /// Makes a vault. An Azure vault passes its checks first; nothing is saved before its key has wrapped and unwrapped.
    pub async fn create_vault(self: &Arc<Self>, caller: &Caller, request: VaultRequest) -> Result<Vault> {
        self.authorize_here(caller, Action::ManageVaults).await?;
        self.require_fresh(caller)?;
        let name = checked_name(&request.name)?;
        let new = match &request.key {
            KeyRequest::Cloud => self.prepare_cloud_vault(caller.workspace, &name, caller.member).await?,
            KeyRequest::Azure(azure) => {
                self.prepare_azure_vault(caller, &name, azure, &request.accept_warnings).await?
            }
        };
        let chosen = self.event(caller, "vault.default", Target::Vault(new.id()), Vec::new())?;
        let (id, workspace, make_default) = (new.id(), caller.workspace, request.make_default);
        let limit = self.settings.max_vaults_per_provider;
        let keys = Arc::clone(&self.keys);
        self.store
            .write(move |tx| {
                require_room(tx, workspace, new.record.provider.strategy, limit)?;
                insert(tx, &keys, &new)?;
                if make_default {
                    super::set_default(tx, workspace, id)?;
                    tx.record(&chosen)?;
                }
                Ok(())
            })
            .await?;
        self.keyring.note_answer(id);
        self.vault(caller, id).await
    }

    /// Whether a vault of this name and strategy could be made now, before anybody types the values of its key.
    pub async fn may_create_vault(&self, caller: &Caller, name: &str, strategy: Strategy) -> Result<()> {
        self.authorize_here(caller, Action::ManageVaults).await?;
        self.require_fresh(caller)?;
        let key = name_key(&checked_name(name)?);
        let (workspace, limit) = (caller.workspace, self.settings.max_vaults_per_provider);
        self.store
            .read(move |tx| {
                require_room(tx, workspace, strategy, limit)?;
                let sql = "SELECT COUNT(*) FROM vaults WHERE workspace_id = $1 AND name_key = $2";
                match tx.count(sql, &[workspace.0.into(), (&key).into()])? {
                    0 => Ok(()),
                    _ => Err(name_taken(Error::Store(StoreError::Taken))),
                }
            })
            .await
    }

    /// A vault whose KEK lies with the server, sealed under the instance key.
    pub async fn prepare_cloud_vault(&self, workspace: WorkspaceId, name: &str, by: MemberId) -> Result<NewVault> {
        let mut provider = self.blank_provider(workspace, Strategy::Cloud)?;
        let kek = CloudKek::generate(self.random.as_ref()).map_err(|_| Error::random())?;
        provider.credential.sealed = wrap_cloud_kek(&self.keys, &provider.kek_place(), &kek, self.random.as_ref())
            .map_err(|_| Error::random())?;
        self.prepare(provider, name, by).await
    }

    async fn prepare_azure_vault(
        self: &Arc<Self>,
        caller: &Caller,
        name: &str,
        request: &AzureRequest,
        accept_warnings: &Accepted,
    ) -> Result<NewVault> {
        let (workspace, limit) = (caller.workspace, self.settings.max_vaults_per_provider);
        // Refuse early what Azure need not be asked for; the write transaction looks again.
        self.store.read(move |tx| require_room(tx, workspace, Strategy::AzureExternalKeys, limit)).await?;
        let lines = self.check_azure(caller, &request.input(), &|_| ()).await?;
        if refused_by(&lines, accept_warnings) {
            return Err(Error::ChecksFailed(lines));
        }
        let parsed = parse_vault_url_and_key(&request.vault_url, &request.vault_key_name, self.azure.cloud());
        let ids = (TenantId::parse(&request.tenant_id), ClientId::parse(&request.client_id));
        let (Ok((url, key)), (Ok(tenant), Ok(client))) = (parsed, ids) else {
            return Err(Error::ChecksFailed(lines));
        };
        let mut provider = self.blank_provider(workspace, Strategy::AzureExternalKeys)?;
        provider.tenant_id = tenant.to_string();
        provider.credential.client_id = client.to_string();
        provider.vault_url = url.to_string();
        provider.key_name = key.as_str().to_owned();
        provider.credential.kind = Some(request.credential.kind());
        provider.credential.expires = request.credential.ends(request.credential_expires);
        let sealed = request.credential.text().as_bytes();
        let place = provider.credential_place(provider.credential.id);
        provider.credential.sealed =
            seal(self.keys.as_ref(), &place, sealed, self.random.as_ref()).map_err(|_| Error::random())?;
        self.keyring.count_check(&provider, CHECK_OPERATIONS + CREATE_OPERATIONS);
        self.prepare(provider, name, caller.member).await
    }

    fn blank_provider(&self, workspace: WorkspaceId, strategy: Strategy) -> Result<ProviderRow> {
        let now = self.clock.now();
        let random = self.random.as_ref();
        Ok(ProviderRow {
            id: ProviderId::generate(now, random)?,
            workspace,
            vault: VaultId::generate(now, random)?,
            strategy,
            tenant_id: String::new(),
            vault_url: String::new(),
            key_name: String::new(),
            credential: HeldCredential {
                id: ProviderId::generate(now, random)?.0,
                client_id: String::new(),
                kind: None,
                expires: None,
                sealed: Vec::new(),
            },
            previous: None,
            revision: 1,
        })
    }

    /// Wraps a fresh vault key, unwraps it again and compares: a generation is current only after that.
    async fn prepare(&self, row: ProviderRow, name: &str, by: MemberId) -> Result<NewVault> {
        let provider = connect(&row, &self.azure, &self.keys, &self.random)?;
        let place = VaultKeyPlace { workspace: row.workspace.bytes(), vault: row.vault.bytes(), generation: 1 };
        let key = VaultKey::generate(self.random.as_ref()).map_err(|_| Error::random())?;
        let told = |failure: KeyFailure| self.told(&row, name, provider.as_ref(), &failure);
        let wrapped = provider.wrap_key(&wrap_record(&place, &key), INTERACTIVE).await.map_err(told)?;
        let unwrapped =
            provider.unwrap_key(&wrapped.kid, &wrapped.bytes, TokenUse::Cached, INTERACTIVE).await.map_err(told)?;
        let same = read_wrap_record(&unwrapped.record, &place).is_ok_and(|read| read.matches(&key));
        if !same {
            let what = "the key did not unwrap what it had just wrapped; no vault was made";
            return Err(Error::integrity("fault.wrong_record", what));
        }
        let created_at = self.clock.now();
        let record = KeyRecord {
            workspace: row.workspace,
            vault: row.vault,
            vault_name: name.to_owned(),
            generation: 1,
            kid: wrapped.kid,
            algorithm: wrapped.algorithm.to_owned(),
            wrapped: wrapped.bytes,
            policy: Policy {
                workspace: row.workspace,
                vault: row.vault,
                strategy: row.strategy,
                state: VaultState::Active,
                lease_seconds: self.settings.lease_seconds,
                generation: 1,
                provider: row.id,
                may_leave: false,
            },
            provider: row,
        };
        let request = unwrapped.receipts.last().and_then(|receipt| receipt.azure_request_id.clone());
        let events = self.creation_events(&record, by, request)?;
        Ok(NewVault { record: Arc::new(record), name: name.to_owned(), created_by: by, created_at, events })
    }

    fn creation_events(&self, record: &KeyRecord, by: MemberId, request: Option<String>) -> Result<Vec<Event>> {
        let target = Target::Vault(record.vault);
        let created = vec![
            ("strategy", record.provider.strategy.word().into()),
            ("provider", record.provider.id.0.into()),
            ("generation", record.generation.into()),
            ("policy_digest", record.policy.digest(&self.keys)),
            ("by", by.0.into()),
        ];
        let mut key = record.facts();
        key.extend(request.map(|id| ("azure_request", id.into())));
        let actor = crate::audit::Actor::System;
        Ok(vec![
            self.event_by(actor, Some(record.workspace), "vault.create", target, created)?,
            self.event_by(actor, Some(record.workspace), "key.create", target, key)?,
        ])
    }

    /// A provider's refusal while a vault is being made.
    fn told(&self, row: &ProviderRow, name: &str, provider: &dyn KeyProvider, failure: &KeyFailure) -> Error {
        Error::KeyUnavailable(Box::new(KeyUnavailable::told(
            row.vault,
            name,
            provider,
            failure,
            None,
            self.clock.now(),
        )))
    }
}

/// Writes a new vault, its provider, its first generation and wrap, and their events.
pub fn insert(tx: &mut Tx<'_>, keys: &strongroom_envelope::InstanceKeys, new: &NewVault) -> Result<()> {
    let record = &new.record;
    let policy = &record.policy;
    let kid = record.kid.to_string();
    tx.execute(
        "INSERT INTO vaults (id, workspace_id, name, name_key, strategy, state, lease_seconds, generation, provider_id, \
                             may_leave, created_by, created_at, revision, policy_mac) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 1, $13)",
        &[
            record.vault.0.into(),
            record.workspace.0.into(),
            (&new.name).into(),
            (&name_key(&new.name)).into(),
            policy.strategy.word().into(),
            policy.state.word().into(),
            i64::from(policy.lease_seconds).into(),
            i64::from(policy.generation).into(),
            policy.provider.0.into(),
            policy.may_leave.into(),
            new.created_by.0.into(),
            new.created_at.into(),
            policy.mac(keys).to_bytes().as_slice().into(),
        ],
    )
    .map_err(name_taken)?;
    record.provider.insert(tx, keys, new.created_at)?;
    tx.execute(
        "INSERT INTO generations (vault_id, generation, kid, created_at) VALUES ($1, 1, $2, $3)",
        &[record.vault.0.into(), (&kid).into(), new.created_at.into()],
    )?;
    tx.execute(
        "INSERT INTO wraps (vault_id, generation, kid, provider_id, algorithm, wrapped, created_at, row_mac) \
         VALUES ($1, 1, $2, $3, $4, $5, $6, $7)",
        &[
            record.vault.0.into(),
            (&kid).into(),
            record.provider.id.0.into(),
            (&record.algorithm).into(),
            (&record.wrapped).into(),
            new.created_at.into(),
            wrap_mac(keys, record).to_bytes().as_slice().into(),
        ],
    )?;
    new.events.iter().try_for_each(|event| tx.record(event))
}

/// The rules of the workspace: the feature is on, and there is room for one more of this provider.
fn require_room(tx: &mut Tx<'_>, workspace: WorkspaceId, strategy: Strategy, limit: u32) -> Result<()> {
    if strategy == Strategy::Cloud {
        return Ok(());
    }
    let external = tx
        .first_locked("SELECT external_keys FROM workspaces WHERE id = $1", &[workspace.0.into()], |row| {
            row.get::<bool>(0)
        })?
        .ok_or(Error::NotFound("workspace"))?;
    if !external {
        return Err(Error::conflict(
            "vault.external_keys_off",
            "Azure External Keys are switched off for this workspace",
            "An Owner, Super Admin or Admin can switch them on under Settings, Privacy and Security.",
        ));
    }
    let count = tx.count(
        "SELECT COUNT(*) FROM vaults WHERE workspace_id = $1 AND strategy = $2",
        &[workspace.0.into(), strategy.word().into()],
    )?;
    if count >= u64::from(limit) {
        return Err(Error::conflict(
            "vault.limit",
            format!("this workspace has {count} of at most {limit} vaults with Azure External Keys"),
            "Use the vault that exists, or ask whoever runs the server to raise vaults.max_per_provider.",
        ));
    }
    Ok(())
}

/// A vault's name, trimmed and checked.
pub(super) fn checked_name(name: &str) -> Result<String> {
    let name = name.trim();
    if name.is_empty() {
        return Err(Error::field("name", "Give the vault a name."));
    }
    if name.chars().count() > MAX_NAME {
        return Err(Error::field("name", format!("A vault's name has at most {MAX_NAME} characters.")));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::field("name", "A vault's name cannot hold line breaks or control characters."));
    }
    Ok(name.to_owned())
}

/// What makes two names the same.
pub(super) fn name_key(name: &str) -> String {
    name.to_lowercase()
}

pub(super) fn name_taken(error: Error) -> Error {
    match error {
        Error::Store(StoreError::Taken) => Error::conflict(
            "vault.name_taken",
            "the workspace has a vault of this name already",
            "Choose another name.",
        ),
        other => other,
    }
}

//! Replacing what a vault signs in with: another client secret, a certificate or a workload identity, of the same
//! application or of another one of the same tenant. The new credential is checked, then it has to unwrap the vault's own
//! key; from then on both are held, until the new one has worked again with a sign-in of its own some time later. There is
//! no moment in which neither is held.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use strongroom_envelope::{read_wrap_record, seal};
use strongroom_keys::{AzureInput, ClientId, INTERACTIVE, KeyFailure, TokenUse, check::CheckLine};

use super::{
    AzureRequest, CredentialKind, CredentialText, Strategy, Vault,
    check::{Accepted, kept, refused_by},
};
use crate::{
    access::Action,
    app::{App, Caller},
    audit::{Actor, Event, Fact, Target},
    error::{Error, KeyUnavailable, Result},
    id::{ProviderId, VaultId, WorkspaceId},
    keyring::{HeldCredential, KeyRecord, Policy, ProviderRow, connect_with, providers_of},
    store::Tx,
};

/// Between two looks whether a new credential has worked, and the one before can go.
const SETTLE_PAUSE: Duration = Duration::from_secs(60);

/// What is to be signed in with from now on.
pub struct NewCredential {
    /// Of the application that it belongs to; the same as before when absent.
    pub client_id: Option<String>,
    /// The one that is held stays when absent, and only its end is noted.
    pub credential: Option<CredentialText>,
    /// When a client secret ends, where somebody says so; see [`super::expiry`].
    pub expires: Option<Timestamp>,
    pub accept_warnings: Accepted,
    /// Also in every other vault of the workspace that signs in with the credential of this one.
    pub everywhere: bool,
}

/// What a vault signs in with.
pub struct Signer {
    pub client_id: String,
    pub kind: CredentialKind,
    pub expires: Option<Timestamp>,
    /// Whether the one before is still held, because this one has not worked again yet.
    pub previous_held: bool,
    pub also_in: Vec<OtherVault>,
}

/// A vault whose credential was replaced.
pub struct Replaced {
    pub vault: Vault,
    /// What became of the others, where it was replaced everywhere.
    pub others: Vec<OtherVault>,
}

/// A vault that signs in with the same credential.
pub struct OtherVault {
    pub id: VaultId,
    pub name: String,
    /// Why its credential was not replaced.
    pub refused: Option<Error>,
}

/// The provider rows of one vault that are to change, and the wrap that proves a credential.
struct Connection {
    record: Arc<KeyRecord>,
    rows: Vec<ProviderRow>,
}

impl App {
    /// The checks of a vault's key with another credential than the one it holds. Nothing is changed.
    pub async fn check_credential(
        self: &Arc<Self>,
        caller: &Caller,
        id: VaultId,
        new: &NewCredential,
        tell: &(dyn Fn(&CheckLine) + Send + Sync),
    ) -> Result<Vec<CheckLine>> {
        self.authorize_here(caller, Action::ManageVaults).await?;
        let connection = self.connection(caller, id).await?;
        let request = self.as_request(&connection.record, new)?;
        let (_, in_use) = self.keyring.key_in_use(id, connection.record.generation).await?;
        self.check_values(caller, id, request, in_use, tell).await
    }

    /// Replaces the credential of a vault, or notes when the one that is held ends. A credential that its checks or the
    /// vault's own key refuse changes nothing.
    pub async fn replace_credential(
        self: &Arc<Self>,
        caller: &Caller,
        id: VaultId,
        new: NewCredential,
    ) -> Result<Replaced> {
        self.authorize_here(caller, Action::ManageVaults).await?;
        self.require_fresh(caller)?;
        let connection = self.connection(caller, id).await?;
        if new.credential.is_some() {
            let request = self.as_request(&connection.record, &new)?;
            let (_, in_use) = self.keyring.key_in_use(id, connection.record.generation).await?;
            let lines = self.check_values(caller, id, request, in_use, &|_| ()).await?;
            if refused_by(&lines, &new.accept_warnings) {
                return Err(Error::ChecksFailed(lines));
            }
        }
        let others = if new.everywhere { self.connections_like(caller, &connection).await? } else { Vec::new() };
        self.replace_in(caller, &connection, &new).await?;
        let mut told = Vec::new();
        for (name, other) in others {
            let refused = self.replace_in(caller, &other, &new).await.err();
            told.push(OtherVault { id: other.record.vault, name, refused });
        }
        Ok(Replaced { vault: self.vault(caller, id).await?, others: told })
    }

    /// What a vault signs in with, and which other vaults of the workspace do so too.
    pub async fn credential(&self, caller: &Caller, id: VaultId) -> Result<Signer> {
        self.authorize_here(caller, Action::ManageVaults).await?;
        let connection = self.connection(caller, id).await?;
        let row = &connection.record.provider;
        let others = self.connections_like(caller, &connection).await?;
        let also_in = others
            .into_iter()
            .map(|(name, other)| OtherVault { id: other.record.vault, name, refused: None })
            .collect();
        Ok(Signer {
            client_id: row.credential.client_id.clone(),
            kind: row.credential.kind.unwrap_or(CredentialKind::Secret),
            expires: row.credential.expires,
            previous_held: row.previous.is_some(),
            also_in,
        })
    }

    /// Lets previous credentials go once the new ones have worked, until the task is dropped.
    pub async fn keep_credentials(self: Arc<Self>) {
        loop {
            self.clock.sleep(SETTLE_PAUSE).await;
            if let Err(error) = self.settle_credentials().await {
                tracing::warn!(%error, "a look at replaced credentials failed; the next one goes on");
            }
        }
    }

    /// Asks for one unwrap by each new credential alone, with a sign-in of its own, and lets the previous one go where it
    /// worked. Returns how many went.
    pub async fn settle_credentials(&self) -> Result<u64> {
        let vaults = self
            .store
            .read(|tx| {
                tx.all("SELECT DISTINCT vault_id FROM providers WHERE previous_id IS NOT NULL", &[], |row| {
                    Ok(VaultId(row.get(0)?))
                })
            })
            .await?;
        let mut settled = 0;
        for vault in vaults {
            match self.settle_vault(vault).await {
                Ok(count) => settled += count,
                Err(Error::Store(error)) => return Err(error.into()),
                // The previous one stays for as long as the new one does not work.
                Err(error) => tracing::warn!(%vault, %error, "a replaced credential is still held"),
            }
        }
        Ok(settled)
    }

    /// The vault's connection, as far as it is this instance's own writing.
    async fn connection(&self, caller: &Caller, id: VaultId) -> Result<Connection> {
        let generation = self.vault(caller, id).await?.generation;
        let record = self.keyring.record(id, generation).await?;
        if record.provider.strategy == Strategy::Cloud {
            return Err(Error::conflict(
                "vault.not_external",
                "a Cloud vault signs in nowhere: its key lies with the server",
                "Choose a vault of the strategy Azure External Keys.",
            ));
        }
        let (keys, held) = (Arc::clone(&self.keys), Arc::clone(&record));
        let rows = self.store.read(move |tx| providers_of(tx, &keys, &held.policy)).await?;
        let rows = self.with_same_credential(rows, &record.provider)?;
        Ok(Connection { record, rows })
    }

    /// The other vaults of the workspace whose connection uses the same credential, with their names.
    async fn connections_like(&self, caller: &Caller, connection: &Connection) -> Result<Vec<(String, Connection)>> {
        let mut others = Vec::new();
        for vault in self.vaults(caller).await? {
            let unlike = vault.strategy == Strategy::Cloud || vault.kid.is_empty();
            if unlike || vault.id == connection.record.vault {
                continue;
            }
            let mut other = self.connection(caller, vault.id).await?;
            other.rows = self.with_same_credential(other.rows, &connection.record.provider)?;
            if !other.rows.is_empty() {
                others.push((vault.name, other));
            }
        }
        Ok(others)
    }

    /// Those rows that sign in as `like` does.
    fn with_same_credential(&self, rows: Vec<ProviderRow>, like: &ProviderRow) -> Result<Vec<ProviderRow>> {
        let wanted = like.opened(&like.credential, &self.keys)?;
        let mut same = Vec::new();
        for row in rows {
            let named = row.tenant_id == like.tenant_id
                && row.credential.client_id == like.credential.client_id
                && row.credential.kind == like.credential.kind;
            if named && row.opened(&row.credential, &self.keys)?.text() == wanted.text() {
                same.push(row);
            }
        }
        Ok(same)
    }

    /// The vault's connection with the new credential, for the checks, and the key version in use.
    fn as_request(&self, record: &KeyRecord, new: &NewCredential) -> Result<AzureRequest> {
        let (row, opened) = (&record.provider, record.provider.opened(&record.provider.credential, &self.keys)?);
        let (credential, credential_expires) = match &new.credential {
            Some(text) => (text, new.expires),
            None => (&opened, new.expires.or(row.credential.expires)),
        };
        Ok(kept(&AzureInput {
            client_id: new.client_id.as_deref().unwrap_or(&row.credential.client_id),
            tenant_id: &row.tenant_id,
            credential: credential.input(),
            credential_expires,
            vault_url: &row.vault_url,
            vault_key_name: &row.key_name,
        }))
    }

    /// Replaces the credential in every row of a connection, once it has unwrapped the vault's key.
    async fn replace_in(&self, caller: &Caller, connection: &Connection, new: &NewCredential) -> Result<()> {
        let (record, mut changed) = (&connection.record, Vec::new());
        for row in &connection.rows {
            let row = match &new.credential {
                None => noted_end(row, new)?,
                Some(text) => {
                    let row = self.with_new(row, record, text, new).await?;
                    self.prove_credential(record, &row, &row.credential).await?;
                    row
                }
            };
            let action = if new.credential.is_some() { "credential.replace" } else { "credential.end" };
            let mut facts = facts(&row, &row.credential);
            facts.extend(row.credential.expires.map(|at| ("expires_at", moment(at))));
            changed.push((self.event(caller, action, Target::Vault(record.vault), facts)?, row));
        }
        let (keys, vault) = (Arc::clone(&self.keys), record.vault);
        self.store
            .write(move |tx| {
                // Held, so that the vault does not go meanwhile.
                Policy::held(tx, &keys, vault)?;
                changed.iter().try_for_each(|(event, row)| put(tx, &keys, row, event))
            })
            .await
    }

    /// The row with a new credential in front of the one that is known to work.
    async fn with_new(
        &self,
        row: &ProviderRow,
        record: &KeyRecord,
        text: &CredentialText,
        new: &NewCredential,
    ) -> Result<ProviderRow> {
        let client_id = match &new.client_id {
            None => row.credential.client_id.clone(),
            Some(typed) => ClientId::parse(typed)
                .map_err(|_| Error::field("client_id", "Copy the Application (client) ID from the app registration."))?
                .to_string(),
        };
        let id = ProviderId::generate(self.clock.now(), self.random.as_ref())?.0;
        let sealed = seal(self.keys.as_ref(), &row.credential_place(id), text.text().as_bytes(), self.random.as_ref())
            .map_err(|_| Error::random())?;
        let credential =
            HeldCredential { id, client_id, kind: Some(text.kind()), expires: text.ends(new.expires), sealed };
        // Of two that are held, the one that works is kept beside the new one.
        let works = match &row.previous {
            None => true,
            Some(_) => self.prove_credential(record, row, &row.credential).await.is_ok(),
        };
        let previous = if works { Some(row.credential.clone()) } else { row.previous.clone() };
        Ok(ProviderRow { credential, previous, revision: row.revision + 1, ..row.clone() })
    }

    /// Unwraps the vault's key with this credential alone, after a fresh sign-in; of a key that wraps nothing of the vault,
    /// reads the description. Says nothing to the vault's health.
    async fn prove_credential(&self, record: &KeyRecord, row: &ProviderRow, held: &HeldCredential) -> Result<()> {
        let provider = connect_with(row, held, &self.azure, &self.keys, &self.random)?;
        let (vault, name, kid) = (record.vault, record.vault_name.as_str(), Some(&record.kid));
        let told = |failure: KeyFailure| {
            let provider = provider.as_ref();
            let told = KeyUnavailable::told(vault, name, provider, &failure, kid, self.clock.now());
            Error::KeyUnavailable(Box::new(told))
        };
        if row.id != record.provider.id {
            return provider.describe(INTERACTIVE).await.map(drop).map_err(told);
        }
        let answer = provider.unwrap_key(&record.kid, &record.wrapped, TokenUse::Fresh, INTERACTIVE).await;
        let answer = answer.map_err(told)?;
        match read_wrap_record(&answer.record, &record.place()) {
            Ok(_) => self.keyring.note_unwrap(record, &answer).await,
            Err(_) => Err(Error::integrity(
                "fault.wrong_record",
                "the key answered with something else than this vault's key; the credential was not replaced",
            )),
        }
    }

    async fn settle_vault(&self, vault: VaultId) -> Result<u64> {
        let keys = Arc::clone(&self.keys);
        let (generation, workspace) = self
            .store
            .read(move |tx| {
                let policy = Policy::held(tx, &keys, vault)?;
                Ok((policy.generation, policy.workspace))
            })
            .await?;
        let record = self.keyring.record(vault, generation).await?;
        let (keys, held) = (Arc::clone(&self.keys), Arc::clone(&record));
        let rows = self.store.read(move |tx| providers_of(tx, &keys, &held.policy)).await?;
        let mut settled = 0;
        for row in rows {
            let Some(previous) = row.previous.clone() else { continue };
            self.prove_credential(&record, &row, &row.credential).await?;
            let event = self.dropped(&row, &previous, workspace)?;
            let row = ProviderRow { previous: None, revision: row.revision + 1, ..row };
            let keys = Arc::clone(&self.keys);
            let write = move |tx: &mut Tx<'_>| put(tx, &keys, &row, &event);
            match self.store.write(write).await {
                Ok(()) => settled += 1,
                // Another node was quicker.
                Err(Error::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(settled)
    }

    fn dropped(&self, row: &ProviderRow, previous: &HeldCredential, workspace: WorkspaceId) -> Result<Event> {
        let facts = facts(row, previous);
        self.event_by(Actor::System, Some(workspace), "credential.drop", Target::Vault(row.vault), facts)
    }
}

fn put(tx: &mut Tx<'_>, keys: &strongroom_envelope::InstanceKeys, row: &ProviderRow, event: &Event) -> Result<()> {
    row.put(tx, keys)?;
    tx.record(event)
}

/// What an event says of a credential: where it is held, which it is, and what kind.
fn facts(row: &ProviderRow, held: &HeldCredential) -> Vec<(&'static str, Fact)> {
    vec![
        ("provider", row.id.0.into()),
        ("credential", held.id.into()),
        ("kind", held.kind.map_or("", CredentialKind::word).into()),
    ]
}

fn moment(at: Timestamp) -> Fact {
    Fact::Number(u64::try_from(at.as_millisecond()).unwrap_or(0))
}

/// The row with another end of the credential that it holds.
fn noted_end(row: &ProviderRow, new: &NewCredential) -> Result<ProviderRow> {
    if new.client_id.is_some() {
        return Err(Error::field("credential", "Another application needs a credential of its own."));
    }
    let Some(expires) = new.expires else {
        return Err(Error::field("credential", "Give a new credential, or the day on which the client secret ends."));
    };
    if row.credential.kind != Some(CredentialKind::Secret) {
        let message = "Only a client secret takes this; a certificate says itself when it ends.";
        return Err(Error::field("client_secret_expires", message));
    }
    let credential = HeldCredential { expires: Some(expires), ..row.credential.clone() };
    Ok(ProviderRow { credential, revision: row.revision + 1, ..row.clone() })
}

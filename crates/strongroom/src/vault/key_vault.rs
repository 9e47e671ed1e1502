//! Taking a vault to another key: another Key Vault, another key, another tenant. The new key is checked as for a new
//! vault; then new wraps go there, and a rewrap brings the vault keys over. Until then both are used, and what is read goes
//! on. The connection to the key before goes with the last wrap that names it.

use std::sync::Arc;

use jiff::Timestamp;
use strongroom_envelope::seal;
use strongroom_keys::{AzureInput, ClientId, TenantId, check::CheckLine, parse_vault_url_and_key};

use super::{
    AzureRequest, CredentialText, Strategy,
    check::{Accepted, kept, refused_by},
};
use crate::{
    access::{Action, Target as Aim},
    app::{App, Caller},
    audit::Target,
    error::{Error, Result},
    id::{JobId, ProviderId, VaultId},
    item::still_allowed,
    job::{JobKind, NewJob},
    keyring::{HeldCredential, Policy, ProviderRow, VaultState},
};

/// Where a vault's key is from now on; what is absent stays as it is.
pub struct NewKeyVault {
    pub tenant_id: Option<String>,
    pub client_id: Option<String>,
    /// The one that is held signs in there too when absent.
    pub credential: Option<CredentialText>,
    /// When a client secret ends, where somebody says so.
    pub expires: Option<Timestamp>,
    pub vault_url: String,
    pub vault_key_name: String,
    pub accept_warnings: Accepted,
}

impl App {
    /// The checks of another key for a vault, as for a new one. Nothing is changed.
    pub async fn check_key_vault(
        self: &Arc<Self>,
        caller: &Caller,
        id: VaultId,
        new: &NewKeyVault,
        tell: &(dyn Fn(&CheckLine) + Send + Sync),
    ) -> Result<Vec<CheckLine>> {
        self.authorize_here(caller, Action::ManageVaults).await?;
        let (policy, before) = self.key_of(caller, id).await?;
        require_external(&policy)?;
        self.check_values(caller, id, self.asked_for(&before, new)?, Vec::new(), tell).await
    }

    /// Points a vault's new wraps at another key and starts the rewrap that brings its vault keys over. Returns that job.
    /// Only the Owner takes a vault to another tenant: who could switch its key off before cannot do so there.
    pub async fn change_key_vault(self: &Arc<Self>, caller: &Caller, id: VaultId, new: NewKeyVault) -> Result<JobId> {
        self.authorize_here(caller, Action::ManageVaults).await?;
        self.require_fresh(caller)?;
        let (policy, before) = self.key_of(caller, id).await?;
        require_external(&policy)?;
        let request = self.asked_for(&before, &new)?;
        // What cannot be read as a tenant is refused by the checks.
        let leaves = TenantId::parse(&request.tenant_id).is_ok_and(|tenant| tenant.to_string() != before.tenant_id);
        if leaves {
            self.authorize(caller, Action::LeaveAzure, Aim::Workspace, Target::Vault(id)).await?;
        }
        let lines = self.check_values(caller, id, kept(&request.input()), Vec::new(), &|_| ()).await?;
        if refused_by(&lines, &new.accept_warnings) {
            return Err(Error::ChecksFailed(lines));
        }
        let parsed = parse_vault_url_and_key(&request.vault_url, &request.vault_key_name, self.azure.cloud());
        let ids = (TenantId::parse(&request.tenant_id), ClientId::parse(&request.client_id));
        let (Ok((url, key)), (Ok(tenant), Ok(client))) = (parsed, ids) else {
            return Err(Error::ChecksFailed(lines));
        };
        let row = ProviderRow {
            id: ProviderId::generate(self.clock.now(), self.random.as_ref())?,
            tenant_id: tenant.to_string(),
            vault_url: url.to_string(),
            key_name: key.as_str().to_owned(),
            credential: before.credential.clone(),
            previous: None,
            revision: 1,
            ..before.clone()
        };
        if (&row.vault_url, row.key_name.to_lowercase()) == (&before.vault_url, before.key_name.to_lowercase()) {
            return Err(Error::conflict(
                "vault.same_key",
                "this is the key that the vault uses already",
                "To sign in with something else, replace the credential; for the newest key version, rewrap.",
            ));
        }
        let row = self.signing_in_with(row, client.to_string(), &request.credential, request.credential_expires)?;
        self.point_at(caller, policy, row, if leaves { Action::LeaveAzure } else { Action::ManageVaults }).await
    }

    /// The new values, with those of now for what is absent.
    fn asked_for(&self, before: &ProviderRow, new: &NewKeyVault) -> Result<AzureRequest> {
        let opened = before.opened(&before.credential, &self.keys)?;
        let (credential, expires) = match &new.credential {
            Some(text) => (text, new.expires),
            None => (&opened, new.expires.or(before.credential.expires)),
        };
        Ok(kept(&AzureInput {
            client_id: new.client_id.as_deref().unwrap_or(&before.credential.client_id),
            tenant_id: new.tenant_id.as_deref().unwrap_or(&before.tenant_id),
            credential: credential.input(),
            credential_expires: expires,
            vault_url: &new.vault_url,
            vault_key_name: &new.vault_key_name,
        }))
    }

    /// The row with this credential, sealed for it.
    fn signing_in_with(
        &self,
        row: ProviderRow,
        client_id: String,
        text: &CredentialText,
        expires: Option<Timestamp>,
    ) -> Result<ProviderRow> {
        let id = ProviderId::generate(self.clock.now(), self.random.as_ref())?.0;
        let place = row.credential_place(id);
        let sealed = seal(self.keys.as_ref(), &place, text.text().as_bytes(), self.random.as_ref())
            .map_err(|_| Error::random())?;
        let (kind, expires) = (Some(text.kind()), text.ends(expires));
        Ok(ProviderRow { credential: HeldCredential { id, client_id, kind, expires, sealed }, ..row })
    }

    /// New wraps go to `row` from now on, and a job brings the others. Whoever asked may still do what it `needs`.
    async fn point_at(&self, caller: &Caller, before: Policy, row: ProviderRow, needs: Action) -> Result<JobId> {
        let (vault, now, keys) = (row.vault, self.clock.now(), Arc::clone(&self.keys));
        let facts = vec![("provider", row.id.0.into()), ("from", before.provider.0.into())];
        let event = self.event(caller, "vault.key_vault", Target::Vault(vault), facts)?;
        let generations = self
            .store
            .read(move |tx| tx.count("SELECT COUNT(*) FROM generations WHERE vault_id = $1", &[vault.0.into()]))
            .await?;
        let new = NewJob::of_vault(JobKind::Rewrap, vault, generations);
        let job = self.new_job(caller, new)?;
        let caller = caller.clone();
        self.store
            .write(move |tx| {
                still_allowed(tx, &caller, None, needs)?;
                let mut policy = Policy::held(tx, &keys, vault)?;
                if policy.provider != before.provider {
                    return Err(Error::conflict(
                        "vault.changed",
                        "the vault's connection was changed at the same moment",
                        "Look at the vault again, then repeat what you did.",
                    ));
                }
                require_external(&policy)?;
                row.insert(tx, &keys, now)?;
                policy.provider = row.id;
                policy.put(tx, &keys)?;
                let mut event = event.clone();
                event.detail.push(("policy_digest", policy.digest(&keys)));
                tx.record(&event)?;
                job.start(tx)
            })
            .await
    }
}

fn require_external(policy: &Policy) -> Result<()> {
    if policy.strategy == Strategy::Cloud {
        return Err(Error::conflict(
            "vault.not_external",
            "a Cloud vault has no key in Azure to change",
            "Make a vault with Azure External Keys and move the items there.",
        ));
    }
    if policy.state == VaultState::Disabled {
        return Err(Error::conflict("vault.disabled", "this vault is disabled", "Enable it, then change its key."));
    }
    Ok(())
}

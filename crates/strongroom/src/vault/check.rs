//! Checking a vault's key, or the values of one that is to be made. Whoever asks may hang up: a check that was begun
//! goes on to its end and into the audit log. One runs at a time for a member and for a vault, since each takes a dozen
//! requests out of the Key Vault's limit, which reading needs too.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard},
};

use strongroom_keys::{
    CredentialInput, Kid,
    check::{AzureInput, CheckLine, CheckStatus, check, check_vault},
};
use tokio::sync::mpsc;

use super::{AzureRequest, CredentialText, Strategy, create::REQUIRED_BITS};
use crate::{
    access::Action,
    app::{App, Caller},
    audit::Target,
    error::{Error, Result},
    id::{MemberId, VaultId},
    keyring::KeyWatch,
};

/// What a check asks of a Key Vault, at most.
pub(super) const CHECK_OPERATIONS: u32 = 12;

impl App {
    /// The checks of step 5 on values that nobody has saved; `tell` gets each line as soon as it is known.
    pub async fn check_azure(
        self: &Arc<Self>,
        caller: &Caller,
        input: &AzureInput<'_>,
        tell: &(dyn Fn(&CheckLine) + Send + Sync),
    ) -> Result<Vec<CheckLine>> {
        self.authorize_here(caller, Action::ManageVaults).await?;
        let turn = self.guard.checks.take(vec![Whose::Member(caller.member)])?;
        self.check_to_the_end(caller, Target::Workspace(caller.workspace), (kept(input), Vec::new()), turn, tell).await
    }

    /// The same checks on an existing vault, with the credential that it holds.
    pub async fn check_vault(
        self: &Arc<Self>,
        caller: &Caller,
        id: VaultId,
        tell: &(dyn Fn(&CheckLine) + Send + Sync),
    ) -> Result<Vec<CheckLine>> {
        self.authorize_here(caller, Action::ManageVaults).await?;
        let vault = self.vault(caller, id).await?;
        // What is checked, and named in the commands, is what this instance wrote, not what the row says now.
        let (row, in_use) = self.keyring.key_in_use(id, vault.generation).await?;
        if row.strategy == Strategy::Cloud {
            return Err(Error::conflict(
                "vault.not_external",
                "a Cloud vault has no key in Azure to check",
                "Check a vault of the strategy Azure External Keys.",
            ));
        }
        self.keyring.count_check(&row, CHECK_OPERATIONS);
        let request = AzureRequest {
            credential: row.opened(&row.credential, &self.keys)?,
            client_id: row.credential.client_id,
            tenant_id: row.tenant_id,
            credential_expires: row.credential.expires,
            vault_url: row.vault_url,
            vault_key_name: row.key_name,
        };
        self.check_values(caller, id, request, in_use, tell).await
    }

    /// The checks of values that an existing vault is to have. With `in_use` come the key versions that it uses, where the
    /// values name its own key.
    pub(super) async fn check_values(
        self: &Arc<Self>,
        caller: &Caller,
        vault: VaultId,
        request: AzureRequest,
        in_use: Vec<Kid>,
        tell: &(dyn Fn(&CheckLine) + Send + Sync),
    ) -> Result<Vec<CheckLine>> {
        let turn = self.guard.checks.take(vec![Whose::Member(caller.member), Whose::Vault(vault)])?;
        self.check_to_the_end(caller, Target::Vault(vault), (request, in_use), turn, tell).await
    }

    /// In a task of its own, which does not end when nobody waits for it any more. With the values come the key versions
    /// that an existing vault uses.
    async fn check_to_the_end(
        self: &Arc<Self>,
        caller: &Caller,
        target: Target,
        (request, in_use): (AzureRequest, Vec<Kid>),
        turn: Turn,
        tell: &(dyn Fn(&CheckLine) + Send + Sync),
    ) -> Result<Vec<CheckLine>> {
        let (sender, mut told) = mpsc::unbounded_channel();
        let (app, caller) = (Arc::clone(self), caller.clone());
        let running = tokio::spawn(async move {
            let _turn = turn;
            let tell = |line: &CheckLine| {
                // Nobody listens any more.
                let _ = sender.send(line.clone());
            };
            let (input, now) = (request.input(), app.clock.now());
            let lines = if in_use.is_empty() {
                check(&app.azure, &input, now, REQUIRED_BITS, &tell).await
            } else {
                check_vault(&app.azure, &input, &in_use, now, REQUIRED_BITS, &tell).await
            };
            let failed = lines.iter().any(|line| line.status == CheckStatus::Fail);
            let event = app.event(&caller, "vault.check", target, vec![("failed", failed.into())])?;
            // What it found wrong of a vault's own key is kept, for its health.
            let checked = match target {
                Target::Vault(vault) if !in_use.is_empty() => Some(vault),
                _ => None,
            };
            let wrong = |line: &&CheckLine| matches!(line.status, CheckStatus::Fail | CheckStatus::Warn);
            let codes: Vec<&str> = lines.iter().filter(wrong).map(|line| line.code).collect();
            app.store
                .write(move |tx| {
                    if let Some(vault) = checked {
                        KeyWatch::put_check(tx, vault, &codes, now)?;
                    }
                    tx.record(&event)
                })
                .await?;
            Ok(lines)
        });
        while let Some(line) = told.recv().await {
            tell(&line);
        }
        running.await.unwrap_or_else(|_| Err(broken()))
    }
}

/// Which warnings of the checks were read and taken as they are. A failure is never taken.
#[derive(Debug, Clone, Default)]
pub enum Accepted {
    #[default]
    None,
    All,
    /// Those of these lines, as in `rights.scope`: one that nobody has seen yet still stands against it.
    Lines(Vec<String>),
}

impl Accepted {
    fn takes(&self, line: &CheckLine) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Lines(codes) => codes.iter().any(|code| code == line.code),
        }
    }
}

/// Whether the checks stand against what they were made for.
pub(super) fn refused_by(lines: &[CheckLine], accepted: &Accepted) -> bool {
    let stops = |line: &CheckLine| match line.status {
        CheckStatus::Fail => true,
        CheckStatus::Warn => !accepted.takes(line),
        _ => false,
    };
    // A check that ran out of time has no failure, and no proof either.
    let proven = lines.iter().any(|line| line.code == "key.compare" && line.status == CheckStatus::Pass);
    !proven || lines.iter().any(stops)
}

/// Of a check that ended in a panic.
pub fn broken() -> Error {
    Error::Setup { what: "the check broke off".into(), fix: "This is a defect of Strongroom; report it.".into() }
}

/// The values, for as long as the check takes.
pub(super) fn kept(input: &AzureInput<'_>) -> AzureRequest {
    AzureRequest {
        client_id: input.client_id.to_owned(),
        tenant_id: input.tenant_id.to_owned(),
        credential: match input.credential {
            CredentialInput::Secret(text) => CredentialText::Secret(text.into()),
            CredentialInput::Certificate(pem) => CredentialText::Certificate(pem.into()),
            CredentialInput::WorkloadIdentity => CredentialText::WorkloadIdentity,
        },
        credential_expires: input.credential_expires,
        vault_url: input.vault_url.to_owned(),
        vault_key_name: input.vault_key_name.to_owned(),
    }
}

/// The checks that run in this process now.
#[derive(Default, Clone)]
pub struct Checks(Arc<Mutex<HashSet<Whose>>>);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Whose {
    Member(MemberId),
    Vault(VaultId),
}

/// Leave to check; given back when dropped.
struct Turn {
    checks: Checks,
    whose: Vec<Whose>,
}

impl Checks {
    fn take(&self, whose: Vec<Whose>) -> Result<Turn> {
        let mut running = self.running();
        if whose.iter().any(|one| running.contains(one)) {
            return Err(Error::CheckRunning);
        }
        running.extend(&whose);
        Ok(Turn { checks: self.clone(), whose })
    }

    fn running(&self) -> MutexGuard<'_, HashSet<Whose>> {
        self.0.lock().expect("no holder panics")
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut running = self.checks.running();
        for one in &self.whose {
            running.remove(one);
        }
    }
}

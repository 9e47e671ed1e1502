//! Every vault's key: what the rows prove, what the servers met last, and what Azure says now. Nothing is wrapped,
//! unwrapped or signed, so that the customer's log shows no use of the key that the audit log does not have.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use jiff::SignedDuration;
use strongroom_envelope::{InstanceKeys, Random};
use strongroom_keys::{
    azure::AzureKeys,
    check::{CheckLine, CheckStatus, look_at_vault},
};

use super::{Line, Status};
use crate::{
    clock::Clock,
    config::Config,
    error::{Error, Result},
    id::NodeId,
    keyring::{KeySample, Keyring, ProviderRow},
    server,
    store::Store,
    vault::{self, AzureRequest, Health, REQUIRED_BITS, Strategy, Vault, VaultState},
};

/// Vaults that are looked at together: each takes a dozen requests and up to 15 s.
const AT_ONCE: usize = 8;
/// How far back it is looked for an answer of the key.
const RECENT: SignedDuration = SignedDuration::from_hours(24);

const CODE: &str = "vault.key";
const AZURE_CLOCK: (&str, &str) = ("azure.clock", "Clock agrees with Azure's");

pub(super) async fn look(
    config: &Config,
    store: Arc<Store>,
    keys: Arc<InstanceKeys>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Vec<Line> {
    let all = async {
        let (proof, now) = (Arc::clone(&keys), clock.now());
        let vaults = store.read(move |tx| vault::of_all_workspaces(tx, &proof, now)).await?;
        let azure = Arc::new(server::reach_azure(config, None)?);
        // Of nobody: this one asks, and serves nothing.
        let node = NodeId::generate(now, random.as_ref())?;
        let (shared, same) = (Arc::clone(&store), (Arc::clone(&azure), Arc::clone(&keys), Arc::clone(&clock)));
        let keyring = Keyring::new(shared, same.0, same.1, same.2, random, node);
        Ok::<_, Error>((vaults, Eye { store, azure, keys, clock, keyring }))
    };
    let (vaults, eye) = match all.await {
        Ok(found) => found,
        Err(error) => return vec![Line::of("vault.keys", "Vaults can be read", &error)],
    };
    let looked: Vec<Looked> =
        stream::iter(&vaults).map(|(_, vault)| eye.look_at(vault)).buffered(AT_ONCE).collect().await;
    let mut lines = vec![azure_clock(&looked)];
    lines.extend(looked.into_iter().map(|looked| looked.line));
    lines
}

struct Looked {
    line: Line,
    /// Of the checks, the one of the clock.
    clock: Option<CheckLine>,
}

struct Eye {
    store: Arc<Store>,
    azure: Arc<AzureKeys>,
    keys: Arc<InstanceKeys>,
    clock: Arc<dyn Clock>,
    keyring: Keyring,
}

impl Eye {
    async fn look_at(&self, vault: &Vault) -> Looked {
        let title = format!("Vault {:?} has its key", vault.name);
        if vault.state == VaultState::Disabled {
            let why = "The vault is disabled in its settings.";
            return Looked { line: Line::skipped(CODE, title, why), clock: None };
        }
        if let Health::Unavailable(why) = &vault.health {
            let seen = format!("{}, since {:.0}. {}", why.title, why.since, why.detail);
            let line = Line::fail(CODE, title, seen.trim(), why.fix.as_str());
            return Looked { line, clock: None };
        }
        if vault.strategy == Strategy::Cloud {
            let seen = format!("{}: its rows are proven.", vault.strategy.title());
            return Looked { line: Line::pass(CODE, title, seen), clock: None };
        }
        match self.ask(vault).await {
            Ok((checks, answered)) => {
                let clock = checks.iter().find(|check| check.code == "token.clock").cloned();
                Looked { line: told(&title, &checks, &answered), clock }
            }
            Err(error) => Looked { line: Line::of(CODE, title, &error), clock: None },
        }
    }

    /// What Azure says of the key, and when the key answered last.
    async fn ask(&self, vault: &Vault) -> Result<(Vec<CheckLine>, String)> {
        let (row, in_use) = self.keyring.key_in_use(vault.id, vault.generation).await?;
        let answered = self.answered(&row).await?;
        let request = AzureRequest {
            credential: row.opened(&row.credential, &self.keys)?,
            client_id: row.credential.client_id,
            tenant_id: row.tenant_id,
            credential_expires: row.credential.expires,
            vault_url: row.vault_url,
            vault_key_name: row.key_name,
        };
        let checks = look_at_vault(&self.azure, &request.input(), &in_use, self.clock.now(), REQUIRED_BITS).await;
        Ok((checks, answered))
    }

    async fn answered(&self, row: &ProviderRow) -> Result<String> {
        let (row, from) = (Arc::new(row.clone()), self.clock.now() - RECENT);
        let samples = self.store.read(move |tx| KeySample::of_key(tx, &row, from)).await?;
        let last = samples.iter().rev().find(|sample| sample.ok > 0);
        Ok(last.map_or("No server has unwrapped with it in the last 24 hours.".into(), |sample| {
            format!("A server unwrapped with it last at {:.0}.", sample.minute)
        }))
    }
}

/// The first check that failed, else the first that warns.
fn told(title: &str, checks: &[CheckLine], answered: &str) -> Line {
    let first = |status| checks.iter().find(|check| check.status == status);
    let (status, check) = match (first(CheckStatus::Fail), first(CheckStatus::Warn), first(CheckStatus::CouldNotCheck))
    {
        (Some(check), ..) => (Status::Fail, check),
        (_, Some(check), _) | (_, _, Some(check)) => (Status::Warn, check),
        _ => return Line::pass(CODE, title, format!("Azure lets this server read it. {answered}")),
    };
    let cause = check.cause.as_deref().unwrap_or("It is not so.");
    let why = format!("{}: {cause} {answered}", check.title);
    Line { fix: check.fix.clone(), ..Line::new(CODE, title, status, why) }
}

/// The worst that any vault's Azure said of the clock.
fn azure_clock(looked: &[Looked]) -> Line {
    let (code, title) = AZURE_CLOCK;
    let of = |status| looked.iter().filter_map(|looked| looked.clock.as_ref()).find(|clock| clock.status == status);
    match of(CheckStatus::Warn).or(of(CheckStatus::Fail)).or(of(CheckStatus::Pass)) {
        Some(clock) => {
            let status = if clock.status == CheckStatus::Pass { Status::Pass } else { Status::Warn };
            let why = clock.cause.clone().unwrap_or_default();
            Line { fix: clock.fix.clone(), ..Line::new(code, title, status, why) }
        }
        None => Line::skipped(code, title, "No answer of Azure told its time."),
    }
}

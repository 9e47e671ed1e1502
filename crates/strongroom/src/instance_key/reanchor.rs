//! Going on without a lost instance key. What it alone protected is gone; vaults with Azure keys are anchored to a new one,
//! by the Owner, with their credentials entered again, once their keys have opened what is under them.
//!
//! The order: the log is proven as far as it can be without the key; each vault is proven; then the events come under the
//! new key in batches, and last, in one transaction, everything else. Cut off before that, it begins again.

use std::sync::Arc;

use strongroom_envelope::{InstanceKeys, LogKey, seal_log_key};

use super::{Kind, Means, Survey, Tell, bearers, told, walk};
use crate::{
    audit::{
        self,
        log::{NewOrigin, OriginReason, key_is_lost, sign_with},
    },
    error::{Error, Result},
    id::{EventId, WorkspaceId},
    job,
    keyring::{Keyring, LostVault, ProvenVault, lost_vaults},
    member, notice,
    secret_text::SecretText,
    server,
    store::{Store, Tx},
};

/// What an Owner has to know before anything is done.
pub struct Lost {
    /// The keys without which the database was not to be opened.
    pub keys: Vec<String>,
    pub workspace: WorkspaceId,
    pub workspace_name: String,
    pub vaults: Vec<LostVault>,
    /// Items of each of them.
    pub items: Vec<u64>,
    /// Events, and of these how many the given checkpoint proved.
    pub events: u64,
    pub proven: u64,
}

/// What became of it.
#[derive(Debug, Default)]
pub struct Reanchored {
    /// Vaults that open again.
    pub vaults: u64,
    /// Cloud vaults, kept and switched off.
    pub closed: u64,
    pub codes: u64,
    pub webhooks: u64,
    pub jobs: u64,
    pub bearers: super::Bearers,
}

/// Looks at a database whose instance key is lost. `by` is what the log is proven by, without the key. Refused where the
/// key is in place, where an event fails its proof, and to everybody but an Owner.
pub async fn look_lost(
    store: &Store,
    means: &Means,
    by: audit::Means,
    email: &str,
    password: &SecretText,
) -> Result<Lost> {
    let (recorded, keys) = (server::recorded_keys(store).await?, Arc::clone(&means.keys));
    let Some(recorded) = recorded else {
        return Err(Error::Setup {
            what: "this database has not been used yet, so nothing was lost".into(),
            fix: "Start the server.".into(),
        });
    };
    let needed: Vec<String> = std::iter::once(recorded.key).chain(recorded.older).collect();
    let (workspace, workspace_name) = owned(store, email, password).await?;
    let (vaults, items) = store.read(move |tx| vaults_and_items(tx, &keys, workspace)).await?;
    let loaded = |id: &String| means.keys.iter().any(|key| key.id().to_string() == *id);
    let missing: Vec<String> = needed.into_iter().filter(|id| !loaded(id)).collect();
    if missing.is_empty() && vaults.is_empty() {
        return Err(Error::Setup {
            what: "the instance key of this database is in place, and no vault of yours needs another".into(),
            fix: "Start the server; `strongroom doctor` says what is wrong if it does not start.".into(),
        });
    }
    let checked = by.checkpoint.is_some();
    let report = audit::verify_by(store, audit::Means { keys: None, state: false, ..by }).await?;
    if !report.is_sound() {
        return Err(Error::integrity(
            "instance_key.log_not_genuine",
            format!("the audit log is not whole, and no new key vouches for it:\n{report}"),
        ));
    }
    let proven = report.log.as_ref().filter(|_| checked).map_or(0, |log| log.proven);
    Ok(Lost { keys: missing, workspace, workspace_name, vaults, items, events: report.events, proven })
}

/// Proves one vault by its key and this credential. Asks Azure; changes nothing but the audit log.
pub async fn prove(
    keyring: &Keyring,
    means: &Means,
    vault: LostVault,
    credential: &crate::keyring::CredentialText,
    lease_seconds: u32,
) -> Result<ProvenVault> {
    keyring.prove_lost(vault, credential, lease_seconds, means).await
}

/// Brings the events, then everything else under the new key. A Cloud vault of `lost` is kept and switched off; an Azure
/// vault that is not among the `proven` stays as it is, for another run.
pub async fn reanchor(
    store: &Store,
    means: &Means,
    lost: &Lost,
    proven: Vec<ProvenVault>,
    tell: &mut Tell<'_>,
) -> Result<Reanchored> {
    let events = Kind { name: "audit events", page: audit::adopt_events };
    let mut survey = Survey::default();
    walk(store, means, &events, false, &mut survey, tell).await?;
    survey.require_genuine()?;
    walk(store, means, &events, true, &mut survey, tell).await?;
    let closed: Vec<_> = lost.vaults.iter().filter(|vault| vault.is_cloud()).cloned().collect();
    let mut adopted = proven;
    let counts = (adopted.len() as u64, closed.len() as u64);
    adopted.extend(closed.into_iter().map(LostVault::kept_closed));
    let random = means.random.as_ref();
    let log_key = LogKey::generate(random).map_err(|_| Error::random())?;
    let sealed = seal_log_key(&means.keys, &log_key, random).map_err(|_| Error::random())?;
    let origin = NewOrigin::at(means.now, OriginReason::Reanchored, random)?;
    let facts = vec![
        ("key", means.current().to_string().into()),
        ("lost", lost.keys.join(",").into()),
        ("vaults", counts.0.into()),
        ("closed", counts.1.into()),
        ("events", lost.events.into()),
        ("proven", lost.proven.into()),
    ];
    let event = told(EventId::generate(means.now, random)?, means.now, "instance_key.reanchor", facts);
    let means = means.clone();
    store
        .write(move |tx| {
            let mut done = Reanchored { vaults: counts.0, closed: counts.1, ..Reanchored::default() };
            for vault in &adopted {
                vault.adopt(tx, &means)?;
            }
            done.codes = member::drop_lost_codes(tx, &means)?;
            done.webhooks = notice::drop_lost_webhooks(tx, &means)?;
            done.jobs = job::cancel_lost_jobs(tx, &means)?;
            for (key, bearers) in bearers::living(means.now)(tx)? {
                if means.keys.get(key).is_none() {
                    bearers::end(tx, key, means.now)?;
                    done.bearers += bearers;
                }
            }
            if key_is_lost(tx, &means.keys)? {
                sign_with(tx, &origin, &sealed)?;
            }
            super::record(tx, &means.current().to_string())?;
            tx.record(&event)?;
            Ok(done)
        })
        .await
}

/// The workspace whose Owner this is.
async fn owned(store: &Store, email: &str, password: &SecretText) -> Result<(WorkspaceId, String)> {
    let email = email.trim().to_lowercase();
    let sql = "SELECT w.id, w.name, m.password_hash FROM members m JOIN workspaces w ON w.id = m.workspace_id \
               WHERE m.email = $1 AND m.role = 'owner' AND m.removed_at IS NULL";
    let found = store
        .read(move |tx| {
            tx.first(sql, &[(&email).into()], |row| {
                Ok((WorkspaceId(row.get(0)?), row.get::<String>(1)?, row.get::<Option<String>>(2)?))
            })
        })
        .await?;
    let hash = found.as_ref().and_then(|(.., hash)| hash.as_deref());
    if !member::is_password(password, hash)? {
        return Err(Error::Denied("this is not the e-mail address and password of an Owner".into()));
    }
    found.map(|(id, name, _)| (id, name)).ok_or(Error::NotFound("workspace"))
}

fn vaults_and_items(
    tx: &mut Tx<'_>,
    keys: &InstanceKeys,
    workspace: WorkspaceId,
) -> Result<(Vec<LostVault>, Vec<u64>)> {
    let vaults = lost_vaults(tx, keys, workspace)?;
    let mut items = Vec::with_capacity(vaults.len());
    for vault in &vaults {
        items.push(tx.count("SELECT COUNT(*) FROM items WHERE vault_id = $1", &[vault.policy.vault.0.into()])?);
    }
    Ok((vaults, items))
}

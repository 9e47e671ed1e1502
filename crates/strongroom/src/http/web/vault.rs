//! The page of one vault: its key and the checks of it; a tab for what may be changed of it.

mod change_key;
mod credential;
mod key_vault;
mod settings;

use axum::{http::HeaderMap, response::Response};
use jiff::Timestamp;

pub use self::change_key::{
    ask as ask_key_change, ask_all as ask_rewrap_all, retire, start as start_key_change, start_all as rewrap_all,
};
pub use self::credential::{ask as ask_credential, check as check_credential, replace as replace_credential};
pub use self::key_vault::{ask as ask_key_vault, change as change_key_vault, check as check_key_vault};
pub use self::settings::{ask_delete, delete, make_default, save, show as show_settings};
use super::{
    checks::{self, Ran, Subject},
    jobs,
    vaults::key_version,
    views::{
        Section, Shell, Tone,
        checks::Place,
        key::{CensusView, GenerationRow, KeyVersionRow},
        vault::{AzureKey, Expiry, VaultHead, VaultPage, VaultTab},
    },
    visit::{Visit, to},
    words,
};
use crate::{
    counted::counted,
    error::Result,
    http::{extract::PathId, progress::wants_lines},
    id::VaultId,
    vault::{CredentialKind, Health, Vault, VaultState},
};

pub async fn show(visit: Visit, PathId(id): PathId<VaultId>) -> Result<Response> {
    key_page(&visit, id, None).await
}

/// *Check now*.
pub async fn check(visit: Visit, headers: HeaderMap, PathId(id): PathId<VaultId>) -> Result<Response> {
    if wants_lines(&headers) {
        return checks::streamed(visit, Subject::Vault(id)).await;
    }
    let ran = checks::whole(&visit, &Subject::Vault(id)).await?;
    key_page(&visit, id, Some(ran)).await
}

/// The address of a form's answer, loaded again.
pub async fn back(_: Visit, PathId(id): PathId<VaultId>) -> Response {
    to(format!("/settings/vaults/{id}"))
}

async fn key_page(visit: &Visit, id: VaultId, ran: Option<Ran>) -> Result<Response> {
    let vault = visit.app.vault(&visit.caller, id).await?;
    let now = visit.app.clock.now();
    let (shell, head) = head(visit, &vault, format!("/settings/vaults/{id}")).await?;
    let answered = match vault.health {
        Health::Healthy(at) => at,
        Health::Unavailable(_) => visit.app.keyring.last_answer(id),
    };
    visit.page(VaultPage {
        shell,
        vault: head,
        tab: VaultTab::Key,
        created: words::moment(now, vault.created_at),
        generation: vault.generation,
        lease_seconds: vault.lease_seconds,
        answered: answered.map(|at| words::moment(now, at)),
        checks: vault.azure.as_ref().map(|_| checks::panel(Place::Vault, ran.as_ref())),
        azure: azure_key(&vault, now),
        census: census(visit, &vault).await?,
    })
}

/// A key identifier without scheme and key version.
fn key_of(kid: &str) -> &str {
    let key = kid.rsplit_once('/').map_or(kid, |(key, _)| key);
    key.strip_prefix("https://").unwrap_or(key)
}

async fn census(visit: &Visit, vault: &Vault) -> Result<Option<CensusView>> {
    if vault.kid.is_empty() {
        return Ok(None);
    }
    let census = visit.app.census(&visit.caller, vault.id).await?;
    let kill_switch = census.kill_switch();
    let short = |kid: &str| key_version(kid).chars().take(8).collect();
    let versions = census.versions.iter().filter(|_| vault.azure.is_some()).map(|used| KeyVersionRow {
        code: key_version(&used.kid).to_owned(),
        elsewhere: (key_of(&used.kid) != key_of(&vault.kid)).then(|| key_of(&used.kid).to_owned()),
        in_use: used.kid == vault.kid,
        newest: used.newest,
        enabled: used.enabled,
        safe_to_disable: used.safe_to_disable,
        verdict: used.verdict(),
    });
    let generations = census.generations.iter().map(|used| GenerationRow {
        generation: used.generation,
        current: used.current,
        key_version: short(&used.kid),
        data_keys: used.data_keys,
        items: used.items,
        retirable: used.retirable,
    });
    Ok(Some(CensusView {
        versions: versions.collect(),
        generations: generations.collect(),
        kill_switch,
        newest_unknown: census.newest_unknown,
    }))
}

/// What every tab starts from; `path` is the tab's own.
pub(super) async fn head(visit: &Visit, vault: &Vault, path: String) -> Result<(Shell, VaultHead)> {
    let mut shell = visit.shell(&vault.name, Section::Settings).await?;
    shell.path = path;
    let dark = match &vault.health {
        Health::Unavailable(why) => {
            let mut panel = visit.panel(why, vault.items, &shell);
            (panel.folded, panel.can_manage) = (false, false);
            Some(panel)
        }
        Health::Healthy(_) => None,
    };
    let (names, jobs) = (visit.names().await?, visit.app.jobs(&visit.caller).await?);
    let jobs = jobs::of_vault(&jobs, vault.id, &shell, &names, visit.app.clock.now());
    jobs::refresh_while(&mut shell, &jobs);
    let head = VaultHead {
        id: vault.id.to_string(),
        name: vault.name.clone(),
        is_default: vault.is_default,
        strategy: vault.strategy.title(),
        state: words::state(&vault.health),
        external: vault.azure.is_some(),
        closed: vault.state == VaultState::Closed,
        items: vault.items,
        dark,
        jobs,
    };
    Ok((shell, head))
}

fn azure_key(vault: &Vault, now: Timestamp) -> Option<AzureKey> {
    vault.azure.as_ref().map(|azure| AzureKey {
        vault_url: azure.vault_url.clone(),
        key_name: azure.key_name.clone(),
        key_version: key_version(&vault.kid).to_owned(),
        client_id: azure.client_id.clone(),
        tenant_id: azure.tenant_id.clone(),
        credential: azure.credential_kind.title(),
        credential_kept: match azure.credential_kind {
            CredentialKind::Secret | CredentialKind::Certificate => {
                "Stored sealed under the instance key, never shown."
            }
            CredentialKind::WorkloadIdentity => "The server’s own identity; nothing is stored.",
        },
        expiry: azure.credential_expires.map(|at| expiry_of(now, at)),
    })
}

/// Of a credential that has ended, or ends soon.
pub fn expiry_soon(vault: &Vault, now: Timestamp) -> Option<Expiry> {
    let at = vault.azure.as_ref()?.credential_expires?;
    Some(expiry_of(now, at)).filter(|expiry| expiry.tone != Tone::Plain)
}

pub(super) fn expiry_of(now: Timestamp, at: Timestamp) -> Expiry {
    let days = at.duration_since(now).as_hours().div_euclid(24);
    let (tone, text) = match days {
        ..0 => (Tone::Bad, "Expired".to_owned()),
        0 => (Tone::Bad, "Expires within a day".to_owned()),
        1..=30 => (Tone::Warn, format!("{} left", counted(days.unsigned_abs(), "day"))),
        _ => (Tone::Plain, format!("{} left", counted(days.unsigned_abs(), "day"))),
    };
    Expiry { at: words::day(at), tone, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_warns_a_month_before_it_ends() {
        let now: Timestamp = "2026-11-23T14:00:00Z".parse().expect("a time");
        let told = |days: i64| expiry_of(now, now + jiff::SignedDuration::from_hours(days * 24 + 1));
        let seen = [-2, 0, 1, 30, 31].map(|days| (told(days).tone.class(), told(days).text));
        let wanted = [
            ("bad", "Expired"),
            ("bad", "Expires within a day"),
            ("warn", "1 day left"),
            ("warn", "30 days left"),
            ("plain", "31 days left"),
        ];
        assert_eq!(seen, wanted.map(|(tone, text)| (tone, text.to_owned())));
    }
}

//! The dashboard.

use axum::response::Response;

use super::{
    items::{RECENT, row},
    views::{Section, home::*},
    visit::Visit,
    words,
};
use crate::{
    access::{Action, ItemRole},
    error::{Result, Unavailable},
    item::{Filter, ItemType},
    keyring::Strategy,
    vault::{Health as Answer, Vault},
};

pub async fn dashboard(visit: Visit) -> Result<Response> {
    let shell = visit.item_shell("Dashboard", Section::Dashboard, visit.path.clone()).await?;
    let filter = Filter { newest_first: true, limit: usize::MAX, ..Filter::default() };
    let found = visit.app.find_items(&visit.caller, filter).await?;
    let of = |wanted: ItemType| found.items.iter().filter(|item| item.overview.item_type == wanted).count() as u64;
    let counts = Counts {
        of_open_vaults: !found.dark.is_empty(),
        accounts: of(ItemType::Account),
        secrets: of(ItemType::Secret),
        shared_with_me: found.items.iter().filter(|item| item.role != ItemRole::Owner).count() as u64,
        members: match visit.may(Action::SeeMembers) {
            true => Some(visit.app.members(&visit.caller).await?.len() as u64),
            false => None,
        },
    };
    let now = visit.app.clock.now();
    let vaults = visit.app.vaults(&visit.caller).await?;
    let health = vaults.iter().zip(&shell.vaults).map(|(vault, nav)| Health {
        vault: nav.clone(),
        is_default: vault.is_default,
        key: key(vault),
        checked: match &vault.health {
            Answer::Healthy(Some(at)) => format!("answered {}", words::moment(now, *at).text),
            Answer::Healthy(None) => "asked at the first use".to_owned(),
            Answer::Unavailable(why) => format!("since {}", words::since(why.since).text),
        },
    });
    let health = health.collect();
    let page = DashboardPage {
        counts,
        todo: todo(&visit, &vaults).await?,
        dark: visit.panels(&found.dark, &shell),
        recent: found.items.into_iter().take(RECENT).map(|item| row(item, now, &shell)).collect(),
        damaged: found.damaged.len(),
        health,
        shell,
    };
    visit.page(page)
}

/// Where a vault's key is, as far as the reader may know.
fn key(vault: &Vault) -> String {
    match (&vault.azure, vault.strategy) {
        (Some(azure), _) => format!("{} in {}", azure.key_name, super::vaults::key_vault_name(&azure.vault_url)),
        (None, Strategy::Cloud) => "a key on this server".to_owned(),
        (None, Strategy::AzureExternalKeys) => "a key in Azure Key Vault".to_owned(),
    }
}

/// What those who manage the workspace should do next.
async fn todo(visit: &Visit, vaults: &[Vault]) -> Result<Vec<Todo>> {
    let mut tasks = Vec::new();
    for vault in vaults.iter().filter(|_| visit.may(Action::ManageVaults)) {
        if let Answer::Unavailable(why) = &vault.health
            && why.class != Unavailable::Disabled
        {
            tasks.push(Todo {
                icon: "key-round",
                title: format!("{}: {}", vault.name, why.title),
                why: "Nobody can read or change its items until the key answers again.".into(),
                action: "See the cause and the command".into(),
                url: format!("/settings/vaults/{}", vault.id),
                urgent: true,
            });
        }
    }
    if visit.may(Action::ManageVaults) && vaults.iter().all(|vault| vault.strategy == Strategy::Cloud) {
        tasks.push(Todo {
            icon: "vault",
            title: "Create a vault with Azure External Keys".into(),
            why: "Its items are sealed under a key that stays in your own Azure Key Vault.".into(),
            action: "Vault management".into(),
            url: "/settings/privacy-and-security".into(),
            urgent: false,
        });
    }
    let me = visit.app.member(&visit.caller, visit.caller.member).await?;
    if me.role.manages() && !me.has_code {
        tasks.push(Todo {
            icon: "smartphone",
            title: "Set up your second step".into(),
            why: "You manage this workspace: a password alone should not be enough.".into(),
            action: "Set it up".into(),
            url: "/profile#two-step".into(),
            urgent: false,
        });
    }
    Ok(tasks)
}

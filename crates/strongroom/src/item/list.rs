//! Lists and search. Overviews are opened in memory, under leases, and go with the request; a dark vault gives a count.

use std::collections::{HashMap, hash_map::Entry};

use super::{Item, ItemRow, ItemType, open_item, rows};
use crate::{
    access::Action,
    app::{App, Caller},
    audit::Target,
    error::{Error, KeyUnavailable, Result},
    id::{ItemId, VaultId},
    keyring::Lease,
    secret_text::SecretText,
};

/// What to look for.
#[derive(Default)]
pub struct Filter {
    /// Every word of it must occur in the title, a username, a URL or a label, letter case aside.
    pub query: Option<SecretText>,
    pub item_type: Option<ItemType>,
    pub vault: Option<VaultId>,
    pub trashed: bool,
    /// The last changed ones first, instead of the order of titles.
    pub newest_first: bool,
    /// How many matches to leave out.
    pub skip: usize,
    pub limit: usize,
}

/// A page of matches.
pub struct Found {
    pub items: Vec<Item>,
    /// Matches in all, without those in dark vaults.
    pub total: usize,
    pub dark: Vec<Dark>,
    /// Items whose stored bytes did not open: changed or moved behind the server's back. The others are served.
    pub damaged: Vec<ItemId>,
}

/// A vault whose items cannot be shown: how many, and why. Never a title.
pub struct Dark {
    pub why: KeyUnavailable,
    pub count: u64,
}

impl App {
    /// The items that the caller may see and that match.
    pub async fn find_items(&self, caller: &Caller, filter: Filter) -> Result<Found> {
        self.authorize_here(caller, Action::ListItems).await?;
        let (member, trashed) = (caller.member, filter.trashed);
        let mut rows = self.store.read(move |tx| rows::visible(tx, member, trashed)).await?;
        if let Some(vault) = filter.vault {
            rows.retain(|row| row.vault == vault);
        }
        let (leases, dark) = self.leases_for(&rows).await?;
        let action = if filter.query.is_some() { "item.search" } else { "item.list" };
        let count = rows.len() as u64 - dark.iter().map(|dark| dark.count).sum::<u64>();
        self.record(self.event(caller, action, Target::Workspace(caller.workspace), vec![("count", count.into())])?)
            .await?;
        let found = opened(rows, &leases, &filter);
        for lease in leases.values() {
            self.keyring.still_leased(lease)?;
        }
        Ok(Found { dark, ..found })
    }

    /// The titles of those of `ids` that the caller may see now, for pages that hold ids only.
    pub async fn titles(&self, caller: &Caller, ids: &[ItemId]) -> Result<HashMap<ItemId, SecretText>> {
        let (workspace, member, ids) = (caller.workspace, caller.member, ids.to_vec());
        let rows: Vec<ItemRow> = self
            .store
            .read(move |tx| {
                let found = ids.iter().map(|id| rows::find(tx, workspace, member, *id));
                Ok(found.filter_map(|row| row.ok().filter(|row| row.role.is_some())).collect())
            })
            .await?;
        let (leases, _) = self.leases_for(&rows).await?;
        let found = opened(rows, &leases, &Filter { limit: usize::MAX, ..Filter::default() });
        Ok(found.items.into_iter().map(|item| (item.id, item.overview.title)).collect())
    }

    /// One lease for each (vault, generation) among the rows; a vault that gives none is dark for this list.
    async fn leases_for(&self, rows: &[ItemRow]) -> Result<(Leases, Vec<Dark>)> {
        let mut leases = Leases::new();
        let mut dark: Vec<Dark> = Vec::new();
        for row in rows {
            let slot = (row.vault, row.generation);
            if let Some(dark) = dark.iter_mut().find(|dark| dark.why.vault == row.vault) {
                dark.count += 1;
            } else if let Entry::Vacant(vacant) = leases.entry(slot) {
                match self.keyring.lease(row.vault, row.generation).await {
                    Ok(lease) => {
                        vacant.insert(lease);
                    }
                    Err(Error::KeyUnavailable(why)) => dark.push(Dark { why: *why, count: 1 }),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok((leases, dark))
    }
}

type Leases = HashMap<(VaultId, u32), std::sync::Arc<Lease>>;

fn opened(rows: Vec<ItemRow>, leases: &Leases, filter: &Filter) -> Found {
    let words: Vec<SecretText> = filter
        .query
        .iter()
        .flat_map(|query| query.expose().split_whitespace())
        .map(|word| word.to_lowercase().into())
        .collect();
    let (mut items, mut damaged) = (Vec::new(), Vec::new());
    for row in rows {
        let Some(lease) = leases.get(&(row.vault, row.generation)) else { continue };
        let id = row.id;
        let Ok(item) = open_item(row, lease) else {
            damaged.push(id);
            continue;
        };
        if filter.item_type.is_none_or(|wanted| wanted == item.overview.item_type) && matches(&item, &words) {
            items.push(item);
        }
    }
    let total = items.len();
    if filter.newest_first {
        items.sort_by_key(|item| std::cmp::Reverse((item.updated_at, item.id)));
    } else {
        items.sort_by_cached_key(|item| (item.overview.title.expose().to_lowercase(), item.id));
    }
    let items = items.into_iter().skip(filter.skip).take(filter.limit).collect();
    Found { items, total, dark: Vec::new(), damaged }
}

fn matches(item: &Item, words: &[SecretText]) -> bool {
    let overview = &item.overview;
    words.iter().all(|word| {
        let lists = [&overview.usernames, &overview.urls, &overview.labels];
        let mut texts = std::iter::once(&overview.title).chain(lists.into_iter().flatten());
        texts.any(|text| SecretText::from(text.expose().to_lowercase()).expose().contains(word.expose()))
    })
}

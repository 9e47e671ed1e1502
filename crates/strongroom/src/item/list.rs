//! Lists and search. Overviews are opened in memory, under leases, and go with the request; a dark vault gives a count.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use tokio::sync::Semaphore;
use zeroize::Zeroizing;

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

/// Bytes of a query, and words in it.
const MAX_QUERY: usize = 1024;
const MAX_WORDS: usize = 16;
/// Titles that one page may ask for.
const MAX_TITLES: usize = 200;

/// Opening a list is work for a processor, and for more of them the more items there are: this many lists of the process
/// at once, each on a thread that serves no requests.
static OPENERS: Semaphore = Semaphore::const_new(2);

impl App {
    /// The items that the caller may see and that match.
    pub async fn find_items(&self, caller: &Caller, filter: Filter) -> Result<Found> {
        self.authorize_here(caller, Action::ListItems).await?;
        let words = words_of(&filter)?;
        let (member, trashed) = (caller.member, filter.trashed);
        let mut rows = self.store.read(move |tx| rows::visible(tx, member, trashed)).await?;
        if let Some(vault) = filter.vault {
            rows.retain(|row| row.vault == vault);
        }
        let action = if filter.query.is_some() { "item.search" } else { "item.list" };
        let (skip, limit) = (filter.skip, filter.limit);
        let found = self.opened(caller, action, rows, filter, words).await?;
        Ok(Found { items: found.items.into_iter().skip(skip).take(limit).collect(), ..found })
    }

    /// The titles of those of `ids`, at most 200, that the caller may see now, for pages that hold ids only.
    pub async fn titles(&self, caller: &Caller, ids: &[ItemId]) -> Result<HashMap<ItemId, SecretText>> {
        self.authorize_here(caller, Action::ListItems).await?;
        if ids.len() > MAX_TITLES {
            return Err(Error::field("ids", format!("At most {MAX_TITLES} items at once.")));
        }
        let ids: Vec<ItemId> = ids.iter().copied().collect::<HashSet<_>>().into_iter().collect();
        let member = caller.member;
        let rows = self.store.read(move |tx| rows::visible_of(tx, member, &ids)).await?;
        let found = self.opened(caller, "item.list", rows, Filter::default(), Vec::new()).await?;
        Ok(found.items.into_iter().map(|item| (item.id, item.overview.title)).collect())
    }

    /// Opens the rows under leases, once an event tells how many, and keeps those that match, all of them, in order.
    async fn opened(
        &self,
        caller: &Caller,
        action: &'static str,
        rows: Vec<ItemRow>,
        filter: Filter,
        words: Vec<SecretText>,
    ) -> Result<Found> {
        let mut counts: HashMap<VaultId, u64> = HashMap::new();
        for row in &rows {
            *counts.entry(row.vault).or_default() += 1;
        }
        let (leases, mut why) = self.leases_for(&rows).await?;
        let count = rows.iter().filter(|row| leases.contains_key(&(row.vault, row.generation))).count() as u64;
        let event = self.event(caller, action, Target::Workspace(caller.workspace), vec![("count", count.into())])?;
        self.record_if_allowed(caller, None, Action::ListItems, event).await?;
        let (mut found, leases) = open_aside(rows, leases, filter, words).await?;
        for lease in leases.values() {
            match self.keyring.still_leased(lease) {
                Ok(()) => {}
                Err(Error::KeyUnavailable(ended)) => {
                    found.items.retain(|item| item.vault != lease.vault);
                    if why.iter().all(|why| why.vault != lease.vault) {
                        why.push(*ended);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        found.total = found.items.len();
        found.dark = why.into_iter().map(|why| Dark { count: counts[&why.vault], why }).collect();
        Ok(found)
    }

    /// One lease for each (vault, generation) among the rows, and why vaults give none: those are dark for this list.
    async fn leases_for(&self, rows: &[ItemRow]) -> Result<(Leases, Vec<KeyUnavailable>)> {
        let mut leases = Leases::new();
        let mut dark: Vec<KeyUnavailable> = Vec::new();
        for row in rows {
            if dark.iter().any(|why| why.vault == row.vault) {
                continue;
            }
            if let Entry::Vacant(vacant) = leases.entry((row.vault, row.generation)) {
                match self.keyring.lease(row.vault, row.generation).await {
                    Ok(lease) => {
                        vacant.insert(lease);
                    }
                    Err(Error::KeyUnavailable(why)) => dark.push(*why),
                    Err(error) => return Err(error),
                }
            }
        }
        leases.retain(|(vault, _), _| dark.iter().all(|why| why.vault != *vault));
        Ok((leases, dark))
    }
}

type Leases = HashMap<(VaultId, u32), std::sync::Arc<Lease>>;

/// [`open_all`] on a thread of its own, when its turn comes.
async fn open_aside(
    rows: Vec<ItemRow>,
    leases: Leases,
    filter: Filter,
    words: Vec<SecretText>,
) -> Result<(Found, Leases)> {
    let turn = OPENERS.acquire().await.expect("nobody closes it");
    let opening = tokio::task::spawn_blocking(move || {
        // Held until the work is done, also when nobody waits for it any more.
        let _turn = turn;
        (open_all(rows, &leases, &filter, &words), leases)
    });
    opening.await.map_err(|_| Error::integrity("item.list", "opening a list ended in a panic"))
}

fn open_all(rows: Vec<ItemRow>, leases: &Leases, filter: &Filter, words: &[SecretText]) -> Found {
    let (mut items, mut damaged) = (Vec::new(), Vec::new());
    for row in rows {
        let Some(lease) = leases.get(&(row.vault, row.generation)) else { continue };
        let id = row.id;
        let Ok(item) = open_item(row, lease) else {
            damaged.push(id);
            continue;
        };
        if filter.item_type.is_none_or(|wanted| wanted == item.overview.item_type) && matches(&item, words) {
            items.push(item);
        }
    }
    if filter.newest_first {
        items.sort_by_key(|item| std::cmp::Reverse((item.updated_at, item.id)));
    } else {
        items = by_title(items);
    }
    Found { total: items.len(), items, dark: Vec::new(), damaged }
}

fn by_title(items: Vec<Item>) -> Vec<Item> {
    let mut titled: Vec<_> = items.into_iter().map(|item| (lowered([&item.overview.title]), item)).collect();
    titled.sort_by(|(title, item), (other, next)| title.as_str().cmp(other).then(item.id.cmp(&next.id)));
    titled.into_iter().map(|(_, item)| item).collect()
}

fn matches(item: &Item, words: &[SecretText]) -> bool {
    if words.is_empty() {
        return true;
    }
    let overview = &item.overview;
    let lists = [&overview.usernames, &overview.urls, &overview.labels];
    let text = lowered(std::iter::once(&overview.title).chain(lists.into_iter().flatten()));
    words.iter().all(|word| text.contains(word.expose()))
}

/// The words of the query, in lower case.
fn words_of(filter: &Filter) -> Result<Vec<SecretText>> {
    let Some(query) = &filter.query else { return Ok(Vec::new()) };
    let text = query.expose();
    if text.len() > MAX_QUERY || text.split_whitespace().count() > MAX_WORDS {
        return Err(Error::field("query", format!("At most {MAX_WORDS} words and {MAX_QUERY} bytes.")));
    }
    Ok(text.split_whitespace().map(|word| lowered([&word.into()]).into()).collect())
}

/// The texts in lower case, letter by letter, a line each: no word of a query reaches from one into the next.
fn lowered<'a>(texts: impl IntoIterator<Item = &'a SecretText> + Clone) -> Zeroizing<String> {
    // Lower case is at most half as long again: the buffer never moves and leaves no copy behind.
    let bytes = texts.clone().into_iter().map(|text| 2 * text.expose().len() + 1).sum();
    let mut lines = Zeroizing::new(String::with_capacity(bytes));
    for text in texts {
        if !lines.is_empty() {
            lines.push('\n');
        }
        let letters = text.expose().chars().flat_map(char::to_lowercase);
        // The one letter whose lower case depends on its place in the word.
        lines.extend(letters.map(|letter| if letter == 'ς' { 'σ' } else { letter }));
    }
    lines
}

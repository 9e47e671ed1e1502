//! Items: lists, search, the page of one, its history.

use std::borrow::Cow;

use axum::response::Response;
use jiff::Timestamp;
use totp_rs::{Builder, Totp};

use super::{
    form::Form,
    views::{
        Choice, Pager, Section, Shell,
        items::{
            Content, HistoryPage, ItemFilter, ItemHead, ItemKind, ItemPage, ItemRow, ItemTab, ItemsPage, Kek, KeyChain,
            RevealedField, RevisionRow, TotpCode, VaultRef,
        },
    },
    visit::{Visit, to},
    words,
};
use crate::{
    access::{Action, Target as Aim},
    error::{Error, Result},
    http::{error::status, extract::PathId},
    id::ItemId,
    item::{Field, FieldKind, Filter, Found, Item, ItemType},
};

/// Rows of one page of a list.
const ROWS: usize = 50;
/// Rows of a search's answer.
const HITS: usize = 100;
/// Rows on the dashboard.
pub const RECENT: usize = 8;

pub async fn list(visit: Visit) -> Result<Response> {
    let page = visit.asked("page").parse::<usize>().unwrap_or(1).clamp(1, 1_000_000);
    let item_type = match visit.asked("type") {
        "account" => Some(ItemType::Account),
        "secret" => Some(ItemType::Secret),
        _ => None,
    };
    let vault = visit.asked("vault").parse().ok();
    let newest_first = visit.asked("sort") == "newest";
    let skip = (page - 1) * ROWS;
    let filter = Filter { item_type, vault, newest_first, skip, limit: ROWS, ..Filter::default() };
    let found = visit.app.find_items(&visit.caller, filter).await?;
    let shell = visit.item_shell("Items", Section::Items, visit.path.clone()).await?;
    let pager = pager(&visit, page, found.items.len(), found.total);
    let page = items_page(&visit, shell, found, choices(&visit).await?, None);
    visit.page(ItemsPage { pager, ..page })
}

pub async fn search(visit: Visit, form: Form) -> Result<Response> {
    let query = form.secret("q");
    let mut shell = visit.item_shell("Search", Section::Items, "/items".into()).await?;
    query.expose().clone_into(&mut shell.query);
    // What was searched for is sealed knowledge too: it stands in no address, so nothing loads it again.
    shell.refresh = None;
    let filter = Filter { query: Some(query), limit: HITS, ..Filter::default() };
    let found = visit.app.find_items(&visit.caller, filter).await?;
    let total = found.total as u64;
    let page = items_page(&visit, shell, found, choices(&visit).await?, Some(total));
    visit.page(page)
}

/// A search is a form; its address alone shows all items.
pub async fn search_again(_: Visit) -> Response {
    to("/items")
}

pub async fn show(visit: Visit, PathId(id): PathId<ItemId>) -> Result<Response> {
    item_page(&visit, id, None).await
}

pub async fn reveal(visit: Visit, PathId(id): PathId<ItemId>) -> Result<Response> {
    let revealed = match visit.app.reveal_item(&visit.caller, id, None).await {
        Ok((_, fields)) => fields,
        Err(error) => return dark_or(&visit, id, error).await,
    };
    item_page(&visit, id, Some(revealed)).await
}

/// The address of a form's answer, loaded again.
pub async fn back_to_item(_: Visit, PathId(id): PathId<ItemId>) -> Response {
    to(format!("/items/{id}"))
}

pub async fn discard(visit: Visit, PathId(id): PathId<ItemId>) -> Result<Response> {
    visit.app.trash_item(&visit.caller, id, None).await?;
    Ok(to("/trash?done=item-trashed"))
}

pub async fn restore(visit: Visit, PathId(id): PathId<ItemId>) -> Result<Response> {
    visit.app.untrash_item(&visit.caller, id).await?;
    Ok(to(format!("/items/{id}?done=item-restored")))
}

pub async fn history(visit: Visit, PathId(id): PathId<ItemId>) -> Result<Response> {
    let (shell, item, _) = match open(&visit, id, &format!("/items/{id}/history")).await {
        Ok(opened) => opened,
        Err(error) => return dark_or(&visit, id, error).await,
    };
    let (names, now) = (visit.names().await?, visit.app.clock.now());
    let lines = visit.app.item_history(&visit.caller, id).await?;
    let revisions = lines.into_iter().map(|line| RevisionRow {
        revision: line.revision,
        who: names.of(line.by),
        at: words::moment(now, line.at),
        what: match line.restored_from {
            Some(from) => format!("Restored revision {from}"),
            None if line.revision == 1 => "Created".to_owned(),
            None => "Edited".to_owned(),
        },
        current: line.current,
    });
    let revisions = revisions.collect();
    visit.page(HistoryPage { shell, item, tab: ItemTab::History, revisions })
}

pub async fn restore_revision(
    visit: Visit,
    PathId(id): PathId<ItemId>,
    PathId(revision): PathId<u64>,
) -> Result<Response> {
    visit.app.restore_revision(&visit.caller, id, revision).await?;
    Ok(to(format!("/items/{id}?done=revision-restored")))
}

/// The page of an item, with what was revealed of it.
async fn item_page(visit: &Visit, id: ItemId, revealed: Option<Vec<Field>>) -> Result<Response> {
    let (shell, head, opened) = match open(visit, id, &format!("/items/{id}")).await {
        Ok(opened) => opened,
        Err(error) => return dark_or(visit, id, error).await,
    };
    let now = visit.app.clock.now();
    let content = match revealed {
        None => Content::Sealed,
        Some(fields) => Content::Revealed { fields: fields.into_iter().map(|field| shown(field, now)).collect() },
    };
    let overview = opened.overview;
    visit.page(ItemPage {
        chain: chain(visit, opened.vault).await?,
        shell,
        item: head,
        tab: ItemTab::Overview,
        usernames: overview.usernames.into_iter().map(Into::into).collect(),
        urls: overview.urls.into_iter().map(Into::into).collect(),
        content,
    })
}

/// What every tab of an item's page starts from; `path` is the tab's own.
pub async fn open(visit: &Visit, id: ItemId, path: &str) -> Result<(Shell, ItemHead, Item)> {
    let mut item = visit.app.item(&visit.caller, id).await?;
    let kind = ItemKind::of(&item.overview);
    let shell = visit.item_shell(kind.label(), Section::Items, path.to_owned()).await?;
    let names = visit.names().await?;
    let history = visit.app.item_history(&visit.caller, id).await?;
    let people = visit.app.item_grants(&visit.caller, id).await?.len() as u64;
    let now = visit.app.clock.now();
    let may = |action| visit.caller.may(action, Aim::Item(Some(item.role)));
    let head = ItemHead {
        id: id.to_string(),
        can_edit: may(Action::EditItem),
        can_manage: may(Action::ManageItem),
        title: std::mem::replace(&mut item.overview.title, "".into()).into(),
        kind,
        vault: VaultRef { id: item.vault.to_string(), name: Visit::vault_name(&shell, item.vault) },
        role: item.role,
        revision: item.revision,
        people,
        created: words::moment(now, item.created_at),
        created_by: history.last().map(|first| names.of(first.by)).unwrap_or_default(),
        updated: words::moment(now, item.updated_at),
        updated_by: names.of(item.updated_by),
        trashed: item.trashed_at.map(|at| words::moment(now, at)),
    };
    Ok((shell, head, item))
}

/// The page of an item whose vault does not open; any other error stays what it is.
pub async fn dark_or(visit: &Visit, id: ItemId, error: Error) -> Result<Response> {
    let Error::KeyUnavailable(why) = &error else { return Err(error) };
    let shell = visit.item_shell("Item", Section::Items, format!("/items/{id}")).await?;
    let items = shell.vaults.iter().find(|vault| vault.id == why.vault.to_string()).map_or(0, |vault| vault.items);
    let mut panel = visit.panel(why, items, &shell);
    panel.folded = false;
    words::page(status(&error), super::views::items::DarkItemPage { shell, panel })
}

/// A line of a list.
pub fn row(item: Item, now: Timestamp, shell: &Shell) -> ItemRow {
    let kind = ItemKind::of(&item.overview);
    let vault = VaultRef { id: item.vault.to_string(), name: Visit::vault_name(shell, item.vault) };
    let overview = item.overview;
    let first = overview.usernames.into_iter().chain(overview.urls).find(|text| !text.is_empty());
    ItemRow {
        id: item.id.to_string(),
        title: overview.title.into(),
        subtitle: first.map_or_else(|| kind.label().into(), Into::into),
        kind,
        vault,
        role: item.role,
        updated: words::moment(now, item.updated_at),
        pick: false,
    }
}

fn items_page(visit: &Visit, shell: Shell, found: Found, filter: ItemFilter, total: Option<u64>) -> ItemsPage {
    let now = visit.app.clock.now();
    ItemsPage {
        dark: visit.panels(&found.dark, &shell),
        rows: found.items.into_iter().map(|item| pickable(visit, item, now, &shell)).collect(),
        filter,
        pager: Pager::default(),
        found: total,
        damaged: found.damaged.len(),
        shell,
    }
}

/// A line that can be ticked by whoever may move its item.
fn pickable(visit: &Visit, item: Item, now: Timestamp, shell: &Shell) -> ItemRow {
    let pick = visit.caller.may(Action::ManageItem, Aim::Item(Some(item.role)));
    ItemRow { pick, ..row(item, now, shell) }
}

async fn choices(visit: &Visit) -> Result<ItemFilter> {
    let choice = |value: &str, label: &str, name: &str| Choice::new(value, label, visit.asked(name) == value);
    let mut vaults = vec![choice("", "All vaults", "vault")];
    for vault in visit.app.vaults(&visit.caller).await? {
        vaults.push(choice(&vault.id.to_string(), &vault.name, "vault"));
    }
    Ok(ItemFilter {
        kinds: vec![
            choice("", "All", "type"),
            choice("account", "Accounts", "type"),
            choice("secret", "Secrets", "type"),
        ],
        vaults,
        sorts: vec![choice("", "By title", "sort"), choice("newest", "Last changed", "sort")],
        active: !visit.asked("type").is_empty() || !visit.asked("vault").is_empty(),
    })
}

fn pager(visit: &Visit, page: usize, shown: usize, total: usize) -> Pager {
    if total <= ROWS && page == 1 {
        return Pager::default();
    }
    let first = (page - 1) * ROWS;
    let url = |page: usize| {
        let kept = ["type", "vault", "sort"].map(|name| format!("{name}={}", words::in_query(visit.asked(name))));
        format!("/items?{}&page={page}", kept.join("&"))
    };
    let range =
        if shown == 0 { format!("none of {total}") } else { format!("{}–{} of {total}", first + 1, first + shown) };
    Pager {
        range,
        previous: (page > 1).then(|| url(page - 1)),
        next: (first + shown < total && shown > 0).then(|| url(page + 1)),
    }
}

/// From the item up to the key, as far as the reader may know it.
async fn chain(visit: &Visit, vault: crate::id::VaultId) -> Result<KeyChain> {
    let vault = visit.app.vault(&visit.caller, vault).await?;
    let kek = vault.azure.as_ref().map(|azure| Kek {
        name: azure.key_name.clone(),
        key_vault: super::vaults::key_vault_name(&azure.vault_url),
        key_version: super::vaults::key_version(&vault.kid).chars().take(8).collect(),
        generation: vault.generation,
    });
    Ok(KeyChain { strategy: vault.strategy.title(), kek })
}

fn shown(field: Field, now: Timestamp) -> RevealedField {
    let totp = (field.kind == FieldKind::Totp).then(|| totp(field.value.expose())).flatten().map(|totp| {
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let next = totp.next_step(seconds);
        let code = totp.generate(seconds).to_string();
        TotpCode { code: code.into(), seconds_left: next - seconds, period: totp.next_step(next) - next }
    });
    RevealedField { name: field.name.into(), kind: field.kind, value: field.value.into(), totp }
}

/// The generator of one-time codes that a setup key or an `otpauth://` address describes.
pub fn totp(text: &str) -> Option<Totp> {
    if text.trim().starts_with("otpauth://") {
        // Sites hand out keys shorter than RFC 6238 wants; only what has no meaning is refused.
        let url = url::Url::parse(text.trim()).ok()?;
        let sound = |(name, value): (Cow<'_, str>, Cow<'_, str>)| match &*name {
            "digits" => matches!(&*value, "6" | "7" | "8"),
            "period" => value.parse().is_ok_and(|period: u64| (1..=3600).contains(&period)),
            _ => true,
        };
        return url.query_pairs().all(sound).then(|| Totp::from_url_unchecked(text.trim()).ok()).flatten();
    }
    let key: String = text.chars().filter(|letter| !letter.is_whitespace() && *letter != '-').collect();
    let secret = totp_rs::Secret::try_from_base32(key.to_uppercase().trim_end_matches('=')).ok()?;
    (!secret.as_bytes().is_empty()).then(|| Builder::new().with_secret(secret).build_noncompliant())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setup_key_gives_the_codes_of_rfc_6238() {
        // Appendix B: SHA-1, 59 s, of whose eight digits the last six are 287082.
        let key = "GEZD GNBV gy3t QOJQ-GEZDGNBVGY3TQOJQ";
        assert_eq!(totp(key).expect("a key").generate(59).to_string(), "287082");
        let url = "otpauth://totp/A:b?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=A";
        assert_eq!(totp(url).expect("a URL").generate(59).to_string(), "287082");
        assert!(totp("otpauth://totp/A:b?secret=GEZDGNBVGY3TQOJQ&period=0").is_none());
        assert!(totp("not a key!").is_none() && totp("").is_none());
    }
}

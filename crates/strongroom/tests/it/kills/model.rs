//! What the writers know: every write that was acknowledged, and every one that may have happened.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Value, json};
use uuid::Uuid;

use super::evidence::{Ledger, Row, Seen};

/// What a revision holds; every one is unlike all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub title: String,
    pub value: String,
}

impl Content {
    pub fn body(&self) -> Value {
        json!({"title": self.title, "fields": [{"name": "value", "kind": "hidden", "value": self.value}]})
    }
}

#[derive(Default)]
pub struct Model {
    items: HashMap<Uuid, Known>,
    /// In the order in which they were made.
    order: Vec<Uuid>,
    /// Creations that were sent and not answered, with their vault.
    unanswered: Vec<(Uuid, Content)>,
    /// Deleted forever.
    gone: HashSet<Uuid>,
    /// Written to or revealed since they were last compared.
    touched: HashSet<Uuid>,
    /// What was wrong while writing.
    faults: Vec<String>,
}

/// One item.
#[derive(Default)]
struct Known {
    vault: Uuid,
    /// Where it was to be moved since it was last seen in its vault.
    bound_for: Vec<Uuid>,
    /// It was to be deleted forever, and whether that was acknowledged.
    leaving: Option<bool>,
    /// Acknowledged revisions.
    revisions: BTreeMap<u64, Content>,
    /// Edits that were sent to become a revision, and not answered.
    attempts: Vec<(u64, Content)>,
    trashed: bool,
    /// A move into the trash (or out of it) that was not answered.
    trash_attempt: Option<bool>,
    /// Revisions as reveals showed them, to be compared once it is known which edits were acknowledged.
    shown: Vec<(u64, String)>,
    reveals: u64,
    /// Reveals that were not answered: their event may be there.
    reveal_attempts: u64,
}

impl Known {
    fn latest(&self) -> u64 {
        self.revisions.keys().next_back().copied().unwrap_or(0)
    }

    /// What `revision` may hold.
    fn candidates(&self, revision: u64) -> Vec<&Content> {
        match self.revisions.get(&revision) {
            Some(content) => vec![content],
            None => self.attempts.iter().filter(|(to, _)| *to == revision).map(|(_, content)| content).collect(),
        }
    }

    fn drop_attempt(&mut self, revision: u64, content: &Content) {
        self.attempts.retain(|(to, attempt)| *to != revision || attempt != content);
    }
}

/// While writing. What returns a truth value says whether the request counts as acknowledged.
impl Model {
    /// One of the items, mostly a young one, so that writers meet.
    pub fn pick(&self, number: u64) -> Option<Uuid> {
        let window = if number.is_multiple_of(4) { self.order.len() } else { self.order.len().min(12) };
        let back = usize::try_from(number >> 8).ok()?.checked_rem(window)?;
        self.order.iter().rev().nth(back).copied()
    }

    pub fn will_create(&mut self, vault: Uuid, content: Content) {
        self.unanswered.push((vault, content));
    }

    pub fn created(&mut self, id: Uuid, vault: Uuid, content: Content) -> bool {
        self.unanswered.retain(|(_, attempt)| *attempt != content);
        self.add(id, Known { vault, revisions: BTreeMap::from([(1, content)]), ..Known::default() });
        true
    }

    pub fn not_created(&mut self, content: &Content, why: &str) -> bool {
        self.unanswered.retain(|(_, attempt)| attempt != content);
        self.refused("create", why)
    }

    /// The revision that the edit is based on.
    pub fn will_edit(&mut self, id: Uuid, content: Content) -> u64 {
        let item = self.item(id);
        let before = item.latest();
        item.attempts.push((before + 1, content));
        before
    }

    pub fn edited(&mut self, id: Uuid, wanted: u64, revision: Option<u64>, content: Content) -> bool {
        let item = self.item(id);
        item.drop_attempt(wanted, &content);
        if item.revisions.insert(wanted, content).is_some() {
            self.faults.push(format!("{id}: revision {wanted} was acknowledged to two writers"));
        }
        if revision != Some(wanted) {
            self.faults.push(format!("{id}: the edit to revision {wanted} was answered with {revision:?}"));
        }
        true
    }

    pub fn not_edited(&mut self, id: Uuid, wanted: u64, content: &Content, why: &str) -> bool {
        self.item(id).drop_attempt(wanted, content);
        // Another writer was faster.
        if why.starts_with("412 ") { false } else { self.refused("edit", why) }
    }

    /// Whether the item shall go into the trash or come out of it.
    pub fn will_trash(&mut self, id: Uuid) -> bool {
        let item = self.item(id);
        item.trash_attempt = Some(!item.trashed);
        !item.trashed
    }

    pub fn trashed(&mut self, id: Uuid, trashed: bool) -> bool {
        let item = self.item(id);
        (item.trashed, item.trash_attempt) = (trashed, None);
        true
    }

    pub fn not_trashed(&mut self, id: Uuid, why: &str) -> bool {
        self.item(id).trash_attempt = None;
        self.refused("trash", why)
    }

    /// Whether the item lies in the trash for sure (or for sure not), and nobody deletes it.
    pub fn is_trashed(&self, id: Uuid) -> Option<bool> {
        let item = self.items.get(&id)?;
        (item.trash_attempt.is_none() && item.leaving.is_none()).then_some(item.trashed)
    }

    /// Nobody picks the item from here on.
    pub fn will_purge(&mut self, id: Uuid) {
        self.item(id).leaving = Some(false);
        self.order.retain(|other| *other != id);
    }

    pub fn purged(&mut self, id: Uuid) {
        self.item(id).leaving = Some(true);
    }

    pub fn is_leaving(&self, id: Uuid) -> bool {
        self.items.get(&id).is_none_or(|item| item.leaving.is_some())
    }

    pub fn will_move(&mut self, id: Uuid, to: Uuid) {
        self.item(id).bound_for.push(to);
    }

    /// The vault that the item is in, where that is sure.
    pub fn vault_of(&self, id: Uuid) -> Option<Uuid> {
        self.items.get(&id).filter(|item| item.bound_for.is_empty()).map(|item| item.vault)
    }

    pub fn will_reveal(&mut self, id: Uuid) {
        self.item(id).reveal_attempts += 1;
    }

    pub fn revealed(&mut self, id: Uuid, answer: &Value) -> bool {
        let item = self.item(id);
        item.reveal_attempts -= 1;
        item.reveals += 1;
        item.shown.push((answer["revision"].as_u64().unwrap_or(0), value_of(answer)));
        true
    }

    /// A refusal is a fault, but for one: the database asked for a retry once too often.
    pub fn refused(&mut self, what: &str, why: &str) -> bool {
        if !(why.starts_with("503 ") && why.contains("\"store.busy\"")) {
            self.faults.push(format!("a {what} was answered {why}"));
        }
        false
    }

    fn add(&mut self, id: Uuid, known: Known) {
        self.items.insert(id, known);
        self.order.push(id);
        self.touched.insert(id);
    }

    fn item(&mut self, id: Uuid) -> &mut Known {
        self.touched.insert(id);
        self.items.get_mut(&id).expect("writers use what they know")
    }
}

/// After the kill.
impl Model {
    /// The items to look at, each with its acknowledged revisions.
    pub fn touched(&self) -> Vec<(Uuid, Vec<u64>)> {
        let mut touched: Vec<_> = self.touched.iter().copied().collect();
        touched.sort();
        touched.into_iter().map(|id| (id, self.items[&id].revisions.keys().copied().collect())).collect()
    }

    pub fn touch_all(&mut self) {
        self.touched = self.items.keys().copied().collect();
    }

    /// What is wrong with an item after a restart; what may have happened and has is acknowledged from here on.
    pub fn compare(&mut self, seen: &Seen) -> Vec<String> {
        let id = seen.id;
        let item = self.items.get_mut(&id).expect("only known items are read");
        match (item.leaving, &seen.overview) {
            (Some(_), Err(why)) if why.starts_with("404 ") && seen.revealed[0].1.is_err() => {
                self.items.remove(&id);
                self.touched.remove(&id);
                self.gone.insert(id);
                return vec![];
            }
            (Some(true), _) => return vec![format!("{id}: deleted forever, and it is still there")],
            (Some(false), Ok(_)) => {
                item.leaving = None;
                self.order.push(id);
            }
            _ => {}
        }
        item.reveals += seen.revealed.iter().filter(|(_, opened)| opened.is_ok()).count() as u64;
        let overview = match &seen.overview {
            Ok(overview) => overview,
            Err(why) => return vec![format!("{id}: acknowledged, and not there: {why}")],
        };
        let mut faults = Vec::new();
        let (revision, title) = (overview["revision"].as_u64().unwrap_or(0), overview["title"].as_str());
        let least = item.shown.iter().map(|(revision, _)| *revision).fold(item.latest(), u64::max);
        if revision < least {
            faults.push(format!("{id}: revision {least} was answered, {revision} is there"));
        }
        let current = item.candidates(revision).into_iter().find(|content| Some(content.title.as_str()) == title);
        let Some(current) = current.cloned() else {
            faults.push(format!("{id}: revision {revision} has a title that nobody gave it: {title:?}"));
            return faults;
        };
        let trashed = overview["trashed_at"].is_string();
        if trashed != item.trashed && Some(trashed) != item.trash_attempt {
            faults.push(format!("{id}: trashed is {trashed}, acknowledged was {}", item.trashed));
        }
        faults.extend(item.compare_revealed(seen));
        item.revisions.insert(revision, current);
        item.attempts.clear();
        item.shown.clear();
        (item.trashed, item.trash_attempt) = (trashed, None);
        self.touched.remove(&id);
        faults
    }

    /// Compares ids, counts and events. An unknown item must be one whose creation was not answered; the next check
    /// opens it.
    pub fn compare_rows(&mut self, ledger: &Ledger) -> Vec<String> {
        let mut faults = std::mem::take(&mut self.faults);
        faults.extend(ledger.halves());
        let absent = self.items.keys().filter(|id| !ledger.rows.contains_key(id) && !self.is_leaving(**id));
        faults.extend(absent.map(|id| format!("{id}: acknowledged, and no row")));
        for (id, row) in &ledger.rows {
            if row.revision == 0
                && (self.gone.contains(id) || self.items.get(id).is_some_and(|known| known.leaving.is_some()))
            {
                continue;
            }
            match self.items.get_mut(id) {
                Some(known) => faults.extend(known.compare_row(*id, row)),
                None => faults.extend(self.adopt_unanswered(*id, row)),
            }
        }
        self.unanswered.clear();
        faults
    }

    /// Which creation it was is known once it is opened: until then any that was not answered may be it.
    fn adopt_unanswered(&mut self, id: Uuid, row: &Row) -> Option<String> {
        let here = self.unanswered.iter().filter(|(vault, _)| *vault == row.vault);
        let attempts: Vec<_> = here.map(|(_, content)| (1, content.clone())).collect();
        if attempts.is_empty() || row.revision != 1 || row.creates != 1 {
            return Some(format!("{id}: a row that nobody asked for: {row:?}"));
        }
        self.add(id, Known { vault: row.vault, attempts, ..Known::default() });
        None
    }
}

impl Known {
    fn compare_revealed(&self, seen: &Seen) -> Vec<String> {
        let opened = seen.revealed.iter().map(|(number, opened)| (*number, opened.as_ref().map(value_of)));
        let shown = self.shown.iter().map(|(number, value)| (*number, Ok(value.clone())));
        let wrong = opened.chain(shown).filter_map(|(number, value)| match value {
            Ok(value) if self.candidates(number).iter().any(|content| content.value == value) => None,
            Ok(_) => Some(format!("{}: revision {number} holds what nobody wrote", seen.id)),
            Err(why) => Some(format!("{}: revision {number} does not open: {why}", seen.id)),
        });
        wrong.collect()
    }

    fn compare_row(&mut self, id: Uuid, row: &Row) -> Vec<String> {
        let mut faults = Vec::new();
        if self.bound_for.contains(&row.vault) {
            self.vault = row.vault;
        }
        self.bound_for.clear();
        if row.vault != self.vault {
            faults.push(format!("{id}: lies in another vault"));
        }
        if row.creates != 1 || row.edits + 1 != row.revision {
            faults.push(format!("{id}: its events do not tell its revisions: {row:?}"));
        }
        let most = self.reveals + self.reveal_attempts;
        if !(self.reveals..=most).contains(&row.reveals) {
            let (found, least) = (row.reveals, self.reveals);
            faults.push(format!("{id}: {least} to {most} reveals were answered, the log has {found}"));
        }
        faults
    }
}

fn value_of(revealed: &Value) -> String {
    revealed["fields"][0]["value"].as_str().unwrap_or_default().to_owned()
}

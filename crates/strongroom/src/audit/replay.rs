//! What the database should say, rebuilt from the events. It holds ids, counters and digests of every row that the log
//! vouches for, some 200 bytes for each revision of an item.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{Event, Fact, Target};
use crate::id::BootId;

/// Where an event stands among all: by its place in the log, if it has one yet; those that have none come after, by their
/// chains' clocks, and within a chain by sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) index: i64,
    pub(super) at: i64,
    pub(super) boot: BootId,
    pub(super) sequence: u64,
}

/// Events of different chains this close, in milliseconds, may have been committed in either order.
const RACE: i64 = 10_000;

/// A value that the last event decides. Where two chains wrote it at the same time, either may have been the last.
#[derive(Debug)]
pub(super) struct Register<T> {
    /// From the event that made what this is a value of: any other came later.
    first: Option<T>,
    candidates: Vec<(Rank, T)>,
}

#[derive(Debug, Default)]
pub(super) struct Replay {
    pub(super) workspaces: BTreeMap<Uuid, Workspace>,
    pub(super) members: BTreeMap<Uuid, Member>,
    pub(super) vaults: BTreeMap<Uuid, Vault>,
    pub(super) items: BTreeMap<Uuid, Item>,
    /// Every data key that there ever was → item, vault.
    pub(super) data_keys: BTreeMap<Uuid, (Uuid, Uuid)>,
    pub(super) sessions: BTreeMap<Uuid, Bearer>,
    pub(super) tokens: BTreeMap<Uuid, Bearer>,
    pub(super) jobs: BTreeMap<Uuid, Job>,
    /// What jobs are said to have sealed anew, each once: the job, how, and the vault where it lies since; and an item.
    pub(super) resealed: BTreeMap<(Uuid, &'static str, Uuid), Uuid>,
    /// Revisions that two events wrote, each something else: the first was rolled back before the second.
    pub(super) written_twice: BTreeSet<(&'static str, Uuid, u64)>,
}

#[derive(Debug, Default)]
pub(super) struct Workspace {
    pub(super) settings: Register<Settings>,
    pub(super) default_vault: Register<Uuid>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) slug: String,
    pub(super) name: Vec<u8>,
    pub(super) external_keys: bool,
    pub(super) require_code: bool,
}

/// The newest grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) workspace: Option<Uuid>,
    pub(super) role: String,
    pub(super) state: String,
    pub(super) revision: u64,
    pub(super) email: Vec<u8>,
    pub(super) row: Vec<u8>,
}

#[derive(Debug, Default)]
pub(super) struct Vault {
    pub(super) workspace: Option<Uuid>,
    pub(super) strategy: String,
    /// Where new wraps go.
    pub(super) provider: Register<Uuid>,
    pub(super) deleted: bool,
    pub(super) policy: Register<Vec<u8>>,
    /// Generation → the kid of its wrap in use.
    pub(super) generations: BTreeMap<u64, Register<String>>,
    /// Generations that were forgotten; their numbers do not come again.
    pub(super) retired: BTreeSet<u64>,
    /// Generation and kid → the digest of the wrap, or none where it was dropped.
    pub(super) wraps: BTreeMap<(u64, String), Register<Option<Vec<u8>>>>,
}

#[derive(Debug, Default)]
pub(super) struct Item {
    pub(super) workspace: Option<Uuid>,
    /// Where each lies: as it was written first, until it is sealed anew for another place.
    pub(super) revisions: BTreeMap<u64, Register<Written>>,
    pub(super) trashed: Register<bool>,
    pub(super) purged: bool,
    /// Member → role, or none where it was taken away.
    pub(super) roles: BTreeMap<Uuid, Register<Option<String>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) vault: Uuid,
    pub(super) data_key: Uuid,
    pub(super) overview: Vec<u8>,
    pub(super) details: Vec<u8>,
}

/// A job as its start says it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) kind: String,
    pub(super) vault: Uuid,
    pub(super) target: Option<Uuid>,
}

/// A session or API token.
#[derive(Debug, Default)]
pub(super) struct Bearer {
    pub(super) made: bool,
    pub(super) member: Uuid,
    pub(super) expires_at: u64,
    pub(super) revoked: bool,
}

impl<T> Default for Register<T> {
    fn default() -> Self {
        Self { first: None, candidates: Vec::new() }
    }
}

impl<T> Register<T> {
    fn set(&mut self, rank: Rank, value: T) {
        self.candidates.push((rank, value));
        self.candidates.sort_by_key(|(rank, _)| *rank);
        let ranks: Vec<Rank> = self.candidates.iter().map(|(rank, _)| *rank).collect();
        let last = ranks[ranks.len() - 1].at;
        let outdone = |rank: &Rank| ranks.iter().any(|later| later > rank && later.boot == rank.boot);
        self.candidates.retain(|(rank, _)| (last - rank.at).abs() <= RACE && !outdone(rank));
    }

    /// The value, if an event set one.
    pub(super) fn latest(&self) -> Option<&T> {
        self.candidates.last().map(|(_, value)| value).or(self.first.as_ref())
    }

    /// Every value that it may have.
    pub(super) fn possible(&self) -> impl Iterator<Item = &T> {
        let first = self.first.as_ref().filter(|_| self.candidates.is_empty());
        first.into_iter().chain(self.candidates.iter().map(|(_, value)| value))
    }

    /// Whether `is` holds for a value that it had once, as far as that is remembered.
    pub(super) fn once(&self, is: impl Fn(&T) -> bool) -> bool {
        self.first.as_ref().is_some_and(&is) || self.candidates.iter().any(|(_, value)| is(value))
    }

    /// Whether the value may be one that `is` so.
    pub(super) fn may(&self, is: impl Fn(&T) -> bool) -> bool {
        self.possible().any(is)
    }
}

impl Job {
    /// Where it leaves what it seals anew, if it does that at all.
    pub(super) fn leaves_in(&self) -> Option<Uuid> {
        match self.kind.as_str() {
            "move" => self.target,
            "reencrypt" => Some(self.vault),
            _ => None,
        }
    }
}

impl Item {
    /// Whether it was destroyed although it cannot have lain in the trash.
    pub(super) fn purged_untrashed(&self) -> bool {
        self.purged && !self.trashed.may(|trashed| *trashed)
    }
}

impl Vault {
    /// The generations that were not retired; none of a vault that was deleted.
    pub(super) fn living(&self) -> impl Iterator<Item = (u64, &Register<String>)> {
        let living = |generation: &u64| !self.deleted && !self.retired.contains(generation);
        self.generations
            .iter()
            .map(|(generation, kid)| (*generation, kid))
            .filter(move |(generation, _)| living(generation))
    }
}

impl Replay {
    /// Takes in one genuine event that has the facts of its action.
    pub(super) fn apply(&mut self, rank: Rank, event: &Event<String>) {
        let workspace = event.workspace.map(|id| id.0);
        match (event.action.as_str(), event.target) {
            (_, Target::Member(id)) if event.fact("row_digest").is_some() => {
                self.member(id.0, Member::granted(workspace, event));
            }
            ("workspace.create" | "workspace.settings", Target::Workspace(id)) => {
                self.workspaces.entry(id.0).or_default().settings.set(rank, Settings::of(event));
            }
            ("job.start", Target::Vault(vault)) => {
                let target = Some(id_of(event, "target")).filter(|target| !target.is_nil());
                let job = Job { kind: text(event, "kind"), vault: vault.0, target };
                self.jobs.insert(id_of(event, "job"), job);
            }
            (action, Target::Vault(id)) => self.vault(action, id.0, rank, event),
            (action, Target::Item(id)) => self.item(action, id.0, rank, event),
            ("session.create", Target::Session(id)) => self.sessions.entry(id.0).or_default().make(event),
            ("session.revoke", Target::Session(id)) => self.sessions.entry(id.0).or_default().revoked = true,
            ("token.create", Target::Token(id)) => self.tokens.entry(id.0).or_default().make(event),
            ("token.revoke", Target::Token(id)) => self.tokens.entry(id.0).or_default().revoked = true,
            _ => {}
        }
    }

    fn member(&mut self, id: Uuid, grant: Member) {
        match self.members.get(&id) {
            Some(known) if known.revision == grant.revision && *known != grant => {
                self.written_twice.insert(("members", id, grant.revision));
            }
            Some(known) if known.revision > grant.revision => {}
            _ => {
                self.members.insert(id, grant);
            }
        }
    }

    fn vault(&mut self, action: &str, id: Uuid, rank: Rank, event: &Event<String>) {
        match action {
            "vault.create" | "vault.edit" | "vault.key_vault" | "vault.reseal" | "vault.delete" => {}
            "key.create" | "key.rewrap" | "key.rotate" | "key.wrap_dropped" | "key.retire" => {}
            "vault.default" => {
                if let Some(workspace) = event.workspace {
                    self.workspaces.entry(workspace.0).or_default().default_vault.set(rank, id);
                }
                return;
            }
            _ => return,
        }
        let vault = self.vaults.entry(id).or_default();
        if action == "vault.create" {
            vault.workspace = event.workspace.map(|id| id.0);
            vault.strategy = text(event, "strategy");
            vault.provider.first = Some(id_of(event, "provider"));
        }
        let (generation, kid) = (number(event, "generation"), text(event, "kid"));
        match action {
            "vault.create" => vault.policy.first = Some(bytes(event, "policy_digest")),
            _ if event.fact("policy_digest").is_some() => vault.policy.set(rank, bytes(event, "policy_digest")),
            _ => {}
        }
        match action {
            "key.create" | "key.rotate" => {
                vault.generations.entry(generation).or_default().first = Some(kid.clone());
                vault.wraps.entry((generation, kid)).or_default().first = Some(Some(bytes(event, "wrap_digest")));
            }
            "key.rewrap" => {
                vault.generations.entry(generation).or_default().set(rank, kid.clone());
                let digest = bytes(event, "wrap_digest");
                vault.wraps.entry((generation, kid)).or_default().set(rank, Some(digest));
            }
            "key.wrap_dropped" => vault.wraps.entry((generation, kid)).or_default().set(rank, None),
            "key.retire" => {
                vault.retired.insert(generation);
            }
            "vault.key_vault" => vault.provider.set(rank, id_of(event, "provider")),
            "vault.delete" => vault.deleted = true,
            _ => {}
        }
    }

    fn item(&mut self, action: &str, id: Uuid, rank: Rank, event: &Event<String>) {
        let role = match action {
            "item.create" | "item.take_over" => Some("owner".to_owned()),
            "item.grant" => Some(text(event, "role")),
            "item.ungrant" => None,
            "item.edit" | "item.restore_revision" | "item.move" | "item.reencrypt" => None,
            "item.trash" | "item.untrash" | "item.purge" => None,
            _ => return,
        };
        let item = self.items.entry(id).or_default();
        match action {
            "item.create" | "item.edit" | "item.restore_revision" => {
                let (revision, written) = (number(event, "revision"), Written::of(event));
                item.workspace = event.workspace.map(|id| id.0);
                if action == "item.create" {
                    item.trashed.first = Some(false);
                    if let Some(creator) = event.actor.member() {
                        item.roles.entry(creator.0).or_default().first = Some(role);
                    }
                }
                self.data_keys.insert(written.data_key, (id, written.vault));
                let before = item.revisions.entry(revision).or_default().first.replace(written.clone());
                if before.is_some_and(|before| before != written) {
                    self.written_twice.insert(("items", id, revision));
                }
            }
            "item.move" | "item.reencrypt" => {
                let (revision, written) = (number(event, "revision"), Written::of(event));
                let kind = if action == "item.move" { "move" } else { "reencrypt" };
                self.resealed.entry((id_of(event, "job"), kind, written.vault)).or_insert(id);
                self.data_keys.insert(written.data_key, (id, written.vault));
                item.revisions.entry(revision).or_default().set(rank, written);
            }
            "item.trash" => item.trashed.set(rank, true),
            "item.untrash" => item.trashed.set(rank, false),
            "item.purge" => item.purged = true,
            _ => item.roles.entry(id_of(event, "member")).or_default().set(rank, role),
        }
    }
}

impl Member {
    fn granted(workspace: Option<Uuid>, event: &Event<String>) -> Self {
        Self {
            workspace,
            role: text(event, "role"),
            state: text(event, "state"),
            revision: number(event, "revision"),
            email: bytes(event, "email_digest"),
            row: bytes(event, "row_digest"),
        }
    }
}

impl Settings {
    fn of(event: &Event<String>) -> Self {
        Self {
            slug: text(event, "slug"),
            name: bytes(event, "name_digest"),
            external_keys: number(event, "external_keys") != 0,
            require_code: number(event, "require_code") != 0,
        }
    }
}

impl Written {
    fn of(event: &Event<String>) -> Self {
        Self {
            vault: id_of(event, "vault"),
            data_key: id_of(event, "data_key"),
            overview: bytes(event, "overview"),
            details: bytes(event, "details"),
        }
    }
}

impl Bearer {
    fn make(&mut self, event: &Event<String>) {
        self.made = true;
        self.member = id_of(event, "member");
        self.expires_at = number(event, "expires_at");
    }
}

// The vocabulary has been checked: a fact that is asked for here is there and of this kind.

fn text(event: &Event<String>, name: &str) -> String {
    match event.fact(name) {
        Some(Fact::Text(text)) => text.clone(),
        _ => String::new(),
    }
}

fn number(event: &Event<String>, name: &str) -> u64 {
    match event.fact(name) {
        Some(Fact::Number(number)) => *number,
        _ => 0,
    }
}

fn id_of(event: &Event<String>, name: &str) -> Uuid {
    match event.fact(name) {
        Some(Fact::Id(id)) => *id,
        _ => Uuid::nil(),
    }
}

fn bytes(event: &Event<String>, name: &str) -> Vec<u8> {
    match event.fact(name) {
        Some(Fact::Bytes(bytes)) => bytes.clone(),
        _ => Vec::new(),
    }
}

//! `audit verify --state`: compares each row that the log vouches for with what the log says, table by table.
//!
//! Compared: workspaces, members, vaults, providers' ids, generations, wraps, items, their revisions, data keys and
//! roles, sessions and API tokens. Blobs are compared by the commitments that they carry, without any key.

use std::collections::{BTreeMap, BTreeSet};

use strongroom_envelope::{commitment, digest};
use uuid::Uuid;

use super::{
    StateReport, Wrong,
    replay::{Bearer, Item, Member, Register, Replay, Settings, Vault, Written},
};
use crate::{
    error::Result,
    member::row_digest,
    store::{Param, Row, Tx},
};

/// Rows read at a time.
const PAGE: usize = 200;
const NOTHING: &str = "nothing";
const GONE: &str = "it is not there";

/// Compares the rows that `tx` sees with what the events say.
pub(super) fn compare(tx: &mut Tx<'_>, replay: Replay) -> Result<StateReport> {
    let mut compared = Compared { tx, report: StateReport::default() };
    for (table, id, revision) in &replay.written_twice {
        let log = format!("revision {revision} was written twice");
        compared.report.fault(table, id, Wrong::RolledBack, "the later of the two, or one after it", log);
    }
    compared.jobs(&replay);
    compared.workspaces(replay.workspaces)?;
    compared.members(replay.members)?;
    compared.vaults(&replay.vaults)?;
    compared.generations(&replay.vaults)?;
    compared.wraps(&replay.vaults)?;
    let mut items = replay.items;
    let data_keys = DataKeys::of(&items, replay.data_keys);
    compared.items(&mut items)?;
    compared.revisions(&mut items)?;
    compared.data_keys(data_keys)?;
    compared.roles(&mut items)?;
    compared.bearers(&SESSIONS, replay.sessions)?;
    compared.bearers(&TOKENS, replay.tokens)?;
    Ok(compared.report)
}

struct Compared<'a, 'b> {
    tx: &'a mut Tx<'b>,
    report: StateReport,
}

/// A table, its key columns, which come first, and what else is read.
struct Table {
    name: &'static str,
    key: &'static [(&'static str, KeyKind)],
    columns: &'static str,
}

#[derive(Clone, Copy)]
enum KeyKind {
    Id,
    Number,
    Text,
}

#[derive(Clone, PartialEq)]
enum KeyPart {
    Id(Uuid),
    Number(i64),
    Text(String),
}

const ID: &[(&str, KeyKind)] = &[("id", KeyKind::Id)];
const WORKSPACES: Table =
    Table { name: "workspaces", key: ID, columns: "slug, name, external_keys, require_code, default_vault_id" };
const MEMBERS: Table = Table {
    name: "members",
    key: ID,
    columns: "workspace_id, role, email, name, password_hash, sealed_totp, totp_confirmed, removed_at, revision",
};
const VAULTS: Table = Table {
    name: "vaults",
    key: ID,
    columns: "workspace_id, strategy, generation, policy_mac, \
              (SELECT p.id FROM providers p WHERE p.id = vaults.provider_id AND p.vault_id = vaults.id) AS held",
};
const GENERATIONS: Table =
    Table { name: "generations", key: &[("vault_id", KeyKind::Id), ("generation", KeyKind::Number)], columns: "kid" };
const WRAPS: Table = Table {
    name: "wraps",
    key: &[("vault_id", KeyKind::Id), ("generation", KeyKind::Number), ("kid", KeyKind::Text)],
    columns: "wrapped",
};
// The commitment lies within the first 64 bytes of a blob; the rest can be megabytes.
const ITEMS: Table = Table {
    name: "items",
    key: ID,
    columns: "revision, workspace_id, vault_id, data_key_id, substr(sealed_overview, 1, 64), \
              substr(sealed_details, 1, 64), trashed_at",
};
const REVISIONS: Table = Table {
    name: "item_revisions",
    key: &[("item_id", KeyKind::Id), ("revision", KeyKind::Number)],
    columns: "data_key_id, substr(sealed_overview, 1, 64), substr(sealed_details, 1, 64)",
};
const DATA_KEYS: Table = Table { name: "data_keys", key: ID, columns: "item_id, vault_id" };
const ROLES: Table =
    Table { name: "item_roles", key: &[("item_id", KeyKind::Id), ("member_id", KeyKind::Id)], columns: "role" };
const SESSIONS: Table = Table { name: "sessions", key: ID, columns: "member_id, expires_at, revoked_at" };
const TOKENS: Table = Table { name: "api_tokens", key: ID, columns: "member_id, expires_at, revoked_at" };

impl Compared<'_, '_> {
    /// The log in itself: what seals items anew is a job that somebody started, of that kind and for that vault. A row of
    /// `jobs` alone, which is not proven, is no reason.
    fn jobs(&mut self, replay: &Replay) {
        for ((id, kind, vault), item) in &replay.resealed {
            let job = replay.jobs.get(id);
            if job.is_some_and(|job| job.kind == *kind && job.leaves_in() == Some(*vault)) {
                continue;
            }
            let log = match job {
                None => "nobody started it".to_owned(),
                Some(job) => format!("a {} into {}", job.kind, named("vault", job.leaves_in())),
            };
            let did = format!("a {kind} into vault {vault}, of item {item} at least");
            self.report.fault("jobs", id, Wrong::Planted, did, log);
        }
    }

    fn workspaces(&mut self, mut expected: BTreeMap<Uuid, super::replay::Workspace>) -> Result<()> {
        let read = |row: &Row<'_>| {
            let settings = Settings {
                slug: row.get(1)?,
                name: digest(row.get::<String>(2)?.as_bytes()).to_vec(),
                external_keys: row.get(3)?,
                require_code: row.get(4)?,
            };
            Ok((row.get::<Uuid>(0)?, settings, row.get::<Option<Uuid>>(5)?))
        };
        self.each(&WORKSPACES, read, |report, (id, settings, default_vault)| {
            let Some(log) = expected.remove(&id) else {
                report.fault("workspaces", id, Wrong::Planted, settings.told(), NOTHING);
                return;
            };
            if !log.settings.may(|log| *log == settings) {
                let told = log.settings.latest().map_or_else(|| NOTHING.to_owned(), Settings::told);
                report.fault("workspaces", id, Wrong::Altered, settings.told(), told);
            }
            let same = match default_vault {
                Some(vault) => log.default_vault.may(|log| *log == vault),
                None => log.default_vault.latest().is_none(),
            };
            if !same {
                let log = named("default vault", log.default_vault.latest().copied());
                report.fault("workspaces", id, Wrong::Altered, named("default vault", default_vault), log);
            }
        })?;
        for (id, log) in expected {
            let told = log.settings.latest().map_or_else(|| NOTHING.to_owned(), Settings::told);
            self.report.fault("workspaces", id, Wrong::Missing, GONE, told);
        }
        Ok(())
    }

    fn members(&mut self, mut expected: BTreeMap<Uuid, Member>) -> Result<()> {
        self.each(&MEMBERS, member, |report, (id, row)| {
            let Some(log) = expected.remove(&id) else {
                report.fault("members", id, Wrong::Planted, row.told(), NOTHING);
                return;
            };
            // A revision may count changes that matter to nobody; it never falls.
            let same = Member { revision: log.revision, ..row.clone() } == log;
            if row.revision < log.revision {
                report.fault("members", id, Wrong::RolledBack, row.told(), log.told());
            } else if !same {
                let told = format!("{}{}", log.told(), row.other_parts(&log));
                report.fault("members", id, Wrong::Altered, row.told(), told);
            }
        })?;
        for (id, log) in expected {
            self.report.fault("members", id, Wrong::Missing, GONE, log.told());
        }
        Ok(())
    }

    fn vaults(&mut self, expected: &BTreeMap<Uuid, Vault>) -> Result<()> {
        let mut seen = Vec::new();
        let read = |row: &Row<'_>| {
            let ids = (row.get::<Uuid>(0)?, row.get::<Option<Uuid>>(1)?, row.get::<Option<Uuid>>(5)?);
            Ok((ids, row.get::<String>(2)?, row.get::<u64>(3)?, digest(&row.get::<Vec<u8>>(4)?)))
        };
        self.each(&VAULTS, read, |report, ((id, workspace, provider), strategy, generation, policy)| {
            seen.push(id);
            let Some(log) = expected.get(&id) else {
                let told = format!("a vault of the strategy {strategy}");
                report.fault("vaults", id, Wrong::Planted, told, NOTHING);
                return;
            };
            if log.deleted {
                let told = format!("a vault of the strategy {strategy}");
                report.fault("vaults", id, Wrong::RolledBack, told, "it was deleted");
                return;
            }
            let newest = log.generations.last_key_value().map_or(0, |(generation, _)| *generation);
            if generation != newest {
                let wrong = if generation < newest { Wrong::RolledBack } else { Wrong::Altered };
                report.fault("vaults", id, wrong, format!("generation {generation}"), format!("generation {newest}"));
            }
            if workspace != log.workspace || strategy != log.strategy {
                let row = format!("{}, strategy {strategy}", named("workspace", workspace));
                let told = format!("{}, strategy {}", named("workspace", log.workspace), log.strategy);
                report.fault("vaults", id, Wrong::Altered, row, told);
            } else if !log.policy.may(|log| log[..] == policy) {
                let told = log.policy.latest().map_or_else(|| NOTHING.to_owned(), |log| short("policy", log));
                report.fault("vaults", id, Wrong::RolledBack, short("policy", &policy), told);
            }
            if !log.provider.may(|log| provider == Some(*log)) {
                let told = named("provider", log.provider.latest().copied());
                report.fault("providers", id, Wrong::Altered, named("provider", provider), told);
            }
        })?;
        let gone = |(id, log): &(&Uuid, &Vault)| !log.deleted && seen.binary_search(id).is_err();
        for (id, log) in expected.iter().filter(gone) {
            self.report.fault("vaults", id, Wrong::Missing, GONE, format!("a vault of the strategy {}", log.strategy));
        }
        Ok(())
    }

    fn generations(&mut self, vaults: &BTreeMap<Uuid, Vault>) -> Result<()> {
        let mut expected: BTreeMap<(Uuid, u64), _> = BTreeMap::new();
        for (id, vault) in vaults {
            expected.extend(vault.living().map(|(generation, kid)| ((*id, generation), kid)));
        }
        let read = |row: &Row<'_>| Ok(((row.get::<Uuid>(0)?, row.get::<u64>(1)?), row.get::<String>(2)?));
        self.each(&GENERATIONS, read, |report, ((vault, generation), kid)| {
            let id = format!("{vault}/{generation}");
            match expected.remove(&(vault, generation)) {
                None => report.fault("generations", id, Wrong::Planted, kid, NOTHING),
                Some(log) if log.may(|log| *log == kid) => {}
                Some(log) => {
                    let known =
                        vaults.get(&vault).is_some_and(|log| log.wraps.contains_key(&(generation, kid.clone())));
                    let wrong = if known { Wrong::RolledBack } else { Wrong::Altered };
                    report.fault("generations", id, wrong, kid, log.latest().cloned().unwrap_or_default());
                }
            }
        })?;
        for ((vault, generation), kid) in expected {
            let told = kid.latest().cloned().unwrap_or_default();
            self.report.fault("generations", format!("{vault}/{generation}"), Wrong::Missing, GONE, told);
        }
        Ok(())
    }

    /// A wrap may go when another is in use; the one in use must be there.
    fn wraps(&mut self, vaults: &BTreeMap<Uuid, Vault>) -> Result<()> {
        let mut in_use: BTreeMap<(Uuid, u64), String> = BTreeMap::new();
        for (id, vault) in vaults {
            let kids = vault.living().filter_map(|(generation, kid)| Some((generation, kid.latest()?.clone())));
            in_use.extend(kids.map(|(generation, kid)| ((*id, generation), kid)));
        }
        let read = |row: &Row<'_>| {
            let key = (row.get::<Uuid>(0)?, row.get::<u64>(1)?, row.get::<String>(2)?);
            Ok((key, digest(&row.get::<Vec<u8>>(3)?)))
        };
        self.each(&WRAPS, read, |report, ((vault, generation, kid), wrapped)| {
            let id = format!("{vault}/{generation}/{kid}");
            if in_use.get(&(vault, generation)) == Some(&kid) {
                in_use.remove(&(vault, generation));
            }
            let log = vaults.get(&vault).filter(|log| !log.deleted && !log.retired.contains(&generation));
            let Some(log) = log.and_then(|log| log.wraps.get(&(generation, kid))) else {
                report.fault("wraps", id, Wrong::Planted, short("wrap", &wrapped), NOTHING);
                return;
            };
            if log.may(|log| log.as_ref().is_some_and(|log| log[..] == wrapped)) {
                return;
            }
            match log.latest().and_then(Option::as_ref) {
                Some(log) => {
                    report.fault("wraps", id, Wrong::Altered, short("wrap", &wrapped), short("wrap", log));
                }
                None => report.fault("wraps", id, Wrong::RolledBack, short("wrap", &wrapped), "it was dropped"),
            }
        })?;
        for ((vault, generation), kid) in in_use {
            let id = format!("{vault}/{generation}/{kid}");
            self.report.fault("wraps", id, Wrong::Missing, GONE, "the wrap in use");
        }
        Ok(())
    }

    /// Takes each item's newest revision out of `expected`; what is left there belongs into its history.
    fn items(&mut self, expected: &mut BTreeMap<Uuid, Item>) -> Result<()> {
        let mut seen = Vec::new();
        self.each(&ITEMS, ItemRow::read, |report, row| {
            seen.push(row.id);
            match expected.get_mut(&row.id) {
                None => report.fault("items", row.id, Wrong::Planted, row.told(), NOTHING),
                Some(log) if log.purged => {
                    report.fault("items", row.id, Wrong::RolledBack, row.told(), "it was purged");
                }
                Some(log) => row.check(log, report),
            }
        })?;
        for (id, _) in expected.iter().filter(|(_, log)| log.purged_untrashed()) {
            self.report.fault("items", id, Wrong::Missing, "it was purged", "it was not in the trash");
        }
        for (id, log) in expected.iter_mut().filter(|(id, log)| !log.purged && seen.binary_search(id).is_err()) {
            let told = log
                .revisions
                .last_key_value()
                .map_or_else(|| NOTHING.to_owned(), |(revision, log)| told(log, *revision));
            self.report.fault("items", id, Wrong::Missing, GONE, told);
        }
        for log in expected.values_mut() {
            log.revisions.pop_last();
        }
        Ok(())
    }

    fn revisions(&mut self, expected: &mut BTreeMap<Uuid, Item>) -> Result<()> {
        let read = |row: &Row<'_>| {
            let blobs = (committed(row, 3)?, committed(row, 4)?);
            Ok((row.get::<Uuid>(0)?, row.get::<u64>(1)?, row.get::<Uuid>(2)?, blobs))
        };
        self.each(&REVISIONS, read, |report, (item, revision, data_key, (overview, details))| {
            let id = format!("{item}/{revision}");
            let log = expected.get_mut(&item).filter(|log| !log.purged).and_then(|log| log.revisions.remove(&revision));
            let Some(log) = log else {
                let row = Written { vault: Uuid::nil(), data_key, overview, details };
                report.fault("item_revisions", id, Wrong::Planted, row.told(revision), NOTHING);
                return;
            };
            // A row of history does not say in which vault it lies; its data key does.
            let row = |vault| Written { vault, data_key, overview: overview.clone(), details: details.clone() };
            if !log.may(|log| *log == row(log.vault)) {
                let once = log.once(|log| *log == row(log.vault));
                let wrong = if once { Wrong::RolledBack } else { Wrong::Altered };
                report.fault("item_revisions", id, wrong, row(Uuid::nil()).told(revision), told(&log, revision));
            }
        })?;
        for (item, log) in expected.iter().filter(|(_, log)| !log.purged) {
            for (revision, log) in &log.revisions {
                let id = format!("{item}/{revision}");
                self.report.fault("item_revisions", id, Wrong::Missing, GONE, told(log, *revision));
            }
        }
        Ok(())
    }

    fn data_keys(&mut self, mut expected: DataKeys) -> Result<()> {
        let told = |(item, vault): (Uuid, Uuid)| format!("of item {item} in vault {vault}");
        let read = |row: &Row<'_>| Ok((row.get::<Uuid>(0)?, (row.get::<Uuid>(1)?, row.get::<Uuid>(2)?)));
        self.each(&DATA_KEYS, read, |report, (id, row)| {
            expected.needed.remove(&id);
            match expected.possible.get(&id) {
                Some(log) if *log == row => {}
                Some(log) => report.fault("data_keys", id, Wrong::Altered, told(row), told(*log)),
                None if expected.replaced.contains(&id) => {
                    report.fault("data_keys", id, Wrong::RolledBack, told(row), "its item was sealed anew since");
                }
                None => report.fault("data_keys", id, Wrong::Planted, told(row), NOTHING),
            }
        })?;
        for (id, log) in expected.needed {
            self.report.fault("data_keys", id, Wrong::Missing, GONE, told(log));
        }
        Ok(())
    }

    fn roles(&mut self, expected: &mut BTreeMap<Uuid, Item>) -> Result<()> {
        let read = |row: &Row<'_>| Ok((row.get::<Uuid>(0)?, row.get::<Uuid>(1)?, row.get::<String>(2)?));
        self.each(&ROLES, read, |report, (item, member, role)| {
            let id = format!("{item}/{member}");
            let log = expected.get_mut(&item).filter(|log| !log.purged).and_then(|log| log.roles.remove(&member));
            match log {
                None => report.fault("item_roles", id, Wrong::Planted, role, NOTHING),
                Some(log) if log.may(|log| log.as_ref() == Some(&role)) => {}
                Some(log) => match log.latest().cloned().flatten() {
                    Some(log) => report.fault("item_roles", id, Wrong::Altered, role, log),
                    None => report.fault("item_roles", id, Wrong::RolledBack, role, "it was taken away"),
                },
            }
        })?;
        for (item, log) in expected.iter().filter(|(_, log)| !log.purged) {
            for (member, log) in log.roles.iter().filter(|(_, log)| !log.may(Option::is_none)) {
                let told = log.latest().cloned().flatten().unwrap_or_default();
                self.report.fault("item_roles", format!("{item}/{member}"), Wrong::Missing, GONE, told);
            }
        }
        Ok(())
    }

    /// Ended sessions and tokens may be cleared away, so none is missing.
    fn bearers(&mut self, table: &Table, expected: BTreeMap<Uuid, Bearer>) -> Result<()> {
        let read = |row: &Row<'_>| {
            let ids = (row.get::<Uuid>(0)?, row.get::<Uuid>(1)?);
            Ok((ids, row.get::<u64>(2)?, row.get::<Option<i64>>(3)?.is_some()))
        };
        self.each(table, read, |report, ((id, member), expires_at, revoked)| {
            let told = |member, expires_at| format!("of member {member}, until {expires_at}");
            match expected.get(&id).filter(|log| log.made) {
                None => report.fault(table.name, id, Wrong::Planted, told(member, expires_at), NOTHING),
                Some(log) if log.member != member || log.expires_at != expires_at => {
                    let log = told(log.member, log.expires_at);
                    report.fault(table.name, id, Wrong::Altered, told(member, expires_at), log);
                }
                Some(log) if log.revoked && !revoked => {
                    report.fault(table.name, id, Wrong::RolledBack, "not revoked", "revoked");
                }
                Some(_) => {}
            }
        })
    }

    /// Reads a table in pages and shows each row to `visit`. A row of other kinds than its columns is a fault.
    fn each<T>(
        &mut self,
        table: &Table,
        read: impl Fn(&Row<'_>) -> Result<T>,
        mut visit: impl FnMut(&mut StateReport, T),
    ) -> Result<()> {
        let names: Vec<_> = table.key.iter().map(|(name, _)| *name).collect();
        let names = names.join(", ");
        let marks: Vec<_> = (1..=table.key.len()).map(|index| format!("${index}")).collect();
        let mut after: Vec<KeyPart> = table.key.iter().map(|(_, kind)| kind.least()).collect();
        let mut compare = ">=";
        loop {
            let sql = format!(
                "SELECT {names}, {} FROM {} WHERE ({names}) {compare} ({}) ORDER BY {names} LIMIT {PAGE}",
                table.columns,
                table.name,
                marks.join(", "),
            );
            let params: Vec<_> = after.iter().map(KeyPart::param).collect();
            let page = self.tx.all(&sql, &params, |row| Ok((table.key_of(row), read(row))))?;
            drop(params);
            let count = page.len();
            let before = (after.clone(), compare);
            for (key, row) in page {
                self.report.rows += 1;
                if let Ok(key) = key {
                    (after, compare) = (key, ">");
                }
                match row {
                    Ok(row) => visit(&mut self.report, row),
                    Err(_) => {
                        let id = after.iter().map(KeyPart::told).collect::<Vec<_>>().join("/");
                        self.report.fault(table.name, id, Wrong::Planted, "a row that cannot be read", NOTHING);
                    }
                }
            }
            // Without progress, a page holds nothing but rows that cannot be read, and the next would be the same.
            if count < PAGE || before == (after.clone(), compare) {
                return Ok(());
            }
        }
    }
}

impl Table {
    fn key_of(&self, row: &Row<'_>) -> Result<Vec<KeyPart>> {
        let part = |(index, (_, kind)): (usize, &(&str, KeyKind))| match kind {
            KeyKind::Id => row.get(index).map(KeyPart::Id),
            KeyKind::Number => row.get(index).map(KeyPart::Number),
            KeyKind::Text => row.get(index).map(KeyPart::Text),
        };
        self.key.iter().enumerate().map(part).collect()
    }
}

impl KeyKind {
    fn least(self) -> KeyPart {
        match self {
            Self::Id => KeyPart::Id(Uuid::nil()),
            Self::Number => KeyPart::Number(i64::MIN),
            Self::Text => KeyPart::Text(String::new()),
        }
    }
}

impl KeyPart {
    fn param(&self) -> Param<'_> {
        match self {
            Self::Id(id) => (*id).into(),
            Self::Number(number) => (*number).into(),
            Self::Text(text) => text.into(),
        }
    }

    fn told(&self) -> String {
        match self {
            Self::Id(id) => id.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// A row of `items`.
struct ItemRow {
    id: Uuid,
    revision: u64,
    workspace: Option<Uuid>,
    written: Written,
    trashed: bool,
}

impl ItemRow {
    fn read(row: &Row<'_>) -> Result<Self> {
        let written = Written {
            vault: row.get(3)?,
            data_key: row.get(4)?,
            overview: committed(row, 5)?,
            details: committed(row, 6)?,
        };
        let trashed = row.get::<Option<i64>>(7)?.is_some();
        Ok(Self { id: row.get(0)?, revision: row.get(1)?, workspace: row.get(2)?, written, trashed })
    }

    fn check(&self, log: &Item, report: &mut StateReport) {
        let Some((newest, written)) = log.revisions.last_key_value() else {
            report.fault("items", self.id, Wrong::Planted, self.told(), "no revision of it");
            return;
        };
        if self.revision != *newest || !written.may(|log| *log == self.written) {
            // The counter may stay while the content goes back.
            let same = |log: &Written| log.overview == self.written.overview;
            let here = written.may(same);
            let once = !here && log.revisions.values().any(|old| old.once(same));
            let wrong = if self.revision < *newest || once { Wrong::RolledBack } else { Wrong::Altered };
            report.fault("items", self.id, wrong, self.told(), told(written, *newest));
        }
        if self.workspace != log.workspace {
            let (row, log) = (named("workspace", self.workspace), named("workspace", log.workspace));
            report.fault("items", self.id, Wrong::Altered, row, log);
        }
        if !log.trashed.may(|trashed| *trashed == self.trashed) {
            let told = |trashed| if trashed { "in the trash" } else { "not in the trash" };
            report.fault("items", self.id, Wrong::Altered, told(self.trashed), told(!self.trashed));
        }
    }

    fn told(&self) -> String {
        self.written.told(self.revision)
    }
}

/// The data keys that the log knows of, of items that live: item and vault.
struct DataKeys {
    /// Those that must be there.
    needed: BTreeMap<Uuid, (Uuid, Uuid)>,
    /// Those that may be there: of two events at the same time either may have been the last.
    possible: BTreeMap<Uuid, (Uuid, Uuid)>,
    /// Those whose items lie under others since.
    replaced: BTreeSet<Uuid>,
}

impl DataKeys {
    fn of(items: &BTreeMap<Uuid, Item>, ever: BTreeMap<Uuid, (Uuid, Uuid)>) -> Self {
        let (mut needed, mut possible) = (BTreeMap::new(), BTreeMap::new());
        for (id, item) in items.iter().filter(|(_, item)| !item.purged) {
            for register in item.revisions.values() {
                let mut keys = register.possible().map(|written| (written.data_key, (*id, written.vault)));
                if let (Some(only), None) = (keys.next(), keys.next()) {
                    needed.insert(only.0, only.1);
                }
                possible.extend(register.possible().map(|written| (written.data_key, (*id, written.vault))));
            }
        }
        let living = |item: &Uuid| items.get(item).is_some_and(|item| !item.purged);
        let replaced = ever.into_iter().filter(|(id, (item, _))| living(item) && !possible.contains_key(id));
        Self { needed, replaced: replaced.map(|(id, _)| id).collect(), possible }
    }
}

/// The newest place of a revision.
fn told(log: &Register<Written>, revision: u64) -> String {
    log.latest().map_or_else(|| NOTHING.to_owned(), |written| written.told(revision))
}

impl Written {
    fn told(&self, revision: u64) -> String {
        let Self { data_key, overview, details, .. } = self;
        let (overview, details) = (short("overview", overview), short("details", details));
        format!("revision {revision}, data key {data_key}, {overview}, {details}")
    }
}

impl Settings {
    fn told(&self) -> String {
        let Self { slug, name, external_keys, require_code } = self;
        let name = short("name", name);
        format!("{slug}, {name}, external keys {external_keys}, second factor required {require_code}")
    }
}

impl Member {
    fn told(&self) -> String {
        format!("{}, {}, revision {}", self.role, self.state, self.revision)
    }

    /// What differs and is not told.
    fn other_parts(&self, log: &Self) -> String {
        let parts = [
            (self.workspace == log.workspace, "; another workspace"),
            (self.email == log.email, "; another e-mail address"),
            (self.row == log.row, "; another name, password or second factor"),
        ];
        parts.into_iter().filter(|(same, _)| !same).map(|(_, told)| told).collect()
    }
}

/// A member's row as the facts that an event says of it.
fn member(row: &Row<'_>) -> Result<(Uuid, Member)> {
    let (name, password, code) = (row.get::<String>(4)?, row.get::<Option<String>>(5)?, row.get::<Option<Vec<u8>>>(6)?);
    let code = if row.get(7)? { code } else { None };
    let removed = row.get::<Option<i64>>(8)?.is_some();
    let state = match (removed, &password) {
        (true, _) => "removed",
        (false, None) => "invited",
        (false, Some(_)) => "active",
    };
    let member = Member {
        workspace: row.get(1)?,
        role: row.get(2)?,
        state: state.to_owned(),
        revision: row.get(9)?,
        email: digest(row.get::<String>(3)?.as_bytes()).to_vec(),
        row: row_digest(&name, password.as_deref(), code.as_deref()).to_vec(),
    };
    Ok((row.get(0)?, member))
}

/// The commitment of a blob; of bytes that are no blob their digest, which no event names.
fn committed(row: &Row<'_>, index: usize) -> Result<Vec<u8>> {
    let blob: Vec<u8> = row.get(index)?;
    Ok(commitment(&blob).map_or_else(|_| digest(&blob).to_vec(), |names| names.0.to_vec()))
}

fn named(what: &str, id: Option<Uuid>) -> String {
    id.map_or_else(|| format!("no {what}"), |id| format!("{what} {id}"))
}

/// Enough of a digest or commitment to tell two apart.
fn short(what: &str, bytes: &[u8]) -> String {
    format!("{what} {}…", hex::encode(&bytes[..bytes.len().min(6)]))
}

//! What is stored in place of tokens: which instance key made it, and its end with that key.

use std::{collections::BTreeMap, fmt, ops::AddAssign};

use jiff::Timestamp;
use strongroom_envelope::InstanceKeyId;

use crate::{
    counted::counted,
    error::Result,
    store::{Param, Tx},
};

/// How many there are of each kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Bearers {
    pub sessions: u64,
    pub tokens: u64,
    /// Invitations among them.
    pub links: u64,
    pub codes: u64,
}

impl AddAssign for Bearers {
    fn add_assign(&mut self, more: Self) {
        self.sessions += more.sessions;
        self.tokens += more.tokens;
        self.links += more.links;
        self.codes += more.codes;
    }
}

impl fmt::Display for Bearers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.sessions, "session"),
            (self.tokens, "API token"),
            (self.links, "link"),
            (self.codes, "recovery code"),
        ];
        let parts: Vec<_> =
            parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, name)| counted(count, name)).collect();
        f.write_str(if parts.is_empty() { "no tokens" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

/// A table, the column of its MAC, and which of its rows are living; `$1` is the time.
struct Table {
    name: &'static str,
    mac: &'static str,
    ended: &'static str,
    living: &'static str,
}

const SESSIONS: Table =
    Table { name: "sessions", mac: "token_mac", ended: "revoked_at", living: "revoked_at IS NULL AND expires_at > $1" };
const TOKENS: Table = Table { name: "api_tokens", ..SESSIONS };
const LINKS: Table =
    Table { name: "links", ended: "used_at", living: "used_at IS NULL AND expires_at > $1", ..SESSIONS };
const CODES: Table = Table {
    name: "recovery_codes",
    mac: "code_mac",
    ended: "used_at",
    living: "used_at IS NULL AND CAST($1 AS BIGINT) > 0",
};

/// Counts the living ones of each key.
pub(super) fn living(now: Timestamp) -> impl Fn(&mut Tx<'_>) -> Result<BTreeMap<InstanceKeyId, Bearers>> {
    move |tx| {
        let mut found: BTreeMap<InstanceKeyId, Bearers> = BTreeMap::new();
        let mut count = |table: &Table, of: fn(&mut Bearers) -> &mut u64| -> Result<()> {
            let Table { name, mac, living, .. } = table;
            let sql =
                format!("SELECT substr({mac}, 1, 8), COUNT(*) FROM {name} WHERE {living} GROUP BY substr({mac}, 1, 8)");
            for (key, count) in tx.all(&sql, &[now.into()], |row| Ok((row.get::<Vec<u8>>(0)?, row.get::<u64>(1)?)))? {
                // What is shorter is no token of anybody.
                if let Ok(key) = key.try_into() {
                    *of(found.entry(InstanceKeyId(key)).or_default()) += count;
                }
            }
            Ok(())
        };
        count(&SESSIONS, |bearers| &mut bearers.sessions)?;
        count(&TOKENS, |bearers| &mut bearers.tokens)?;
        count(&LINKS, |bearers| &mut bearers.links)?;
        count(&CODES, |bearers| &mut bearers.codes)?;
        Ok(found)
    }
}

/// Ends all that a key made.
pub(super) fn end(tx: &mut Tx<'_>, key: InstanceKeyId, now: Timestamp) -> Result<()> {
    for Table { name, mac, ended, living } in [SESSIONS, TOKENS, LINKS, CODES] {
        let sql = format!("UPDATE {name} SET {ended} = $1 WHERE {living} AND substr({mac}, 1, 8) = $2");
        tx.execute(&sql, &[now.into(), Param::Bytes(&key.0)])?;
    }
    Ok(())
}

//! The keys in Azure: what the watch found of them, and what this node asks of the Key Vaults.

use std::fmt::Write;

use jiff::Timestamp;

use crate::{
    app::App,
    error::Result,
    id::VaultId,
    keyring::{KeyWatch, Strategy},
    store::Tx,
};

/// Name, explanation, and the value of one key where it is known.
type Gauge = (&'static str, &'static str, fn(&KeyWatch) -> Option<i64>);

/// What the watch found of the keys, and what this node asks of the Key Vaults.
pub(super) async fn write(app: &App, out: &mut String) -> Result<()> {
    let keys = app.store.read(watched_keys).await?;
    let gauges: [Gauge; 5] = [
        ("strongroom_key_expires_seconds", "When the newest key version expires.", |key| {
            key.expires.map(Timestamp::as_second)
        }),
        ("strongroom_key_enabled", "Whether the newest key version is enabled.", |key| key.enabled.map(i64::from)),
        ("strongroom_key_purge_protected", "Whether nobody can purge the key before its retention ends.", |key| {
            key.purge_protected().map(i64::from)
        }),
        ("strongroom_key_seen_seconds", "When the provider last described the key.", |key| {
            key.seen_at.map(Timestamp::as_second)
        }),
        ("strongroom_key_rights_too_wide", "Whether the latest check warned of wider rights than needed.", |key| {
            key.checked_at.map(|_| i64::from(key.check_codes.iter().any(|code| code.starts_with("rights."))))
        }),
    ];
    for (name, help, value) in gauges {
        head(out, name, help);
        for (vault, _, key) in &keys {
            if let Some(value) = value(key) {
                line(out, name, &format!("vault=\"{vault}\""), value);
            }
        }
    }
    let name = "strongroom_key_rewrap_due";
    head(out, name, "Whether a newer key version exists than the one that wraps the vault's key.");
    for (vault, in_use, key) in &keys {
        line(out, name, &format!("vault=\"{vault}\""), i64::from(key.is_newer_than(in_use)));
    }
    for (name, help, value) in [
        ("strongroom_key_vault_operations", "Operations in the last 10 s, by this node.", 0),
        ("strongroom_key_vault_job_operations", "Those of them granted to jobs.", 1),
        ("strongroom_key_vault_limit", "Azure's limit of them.", 2),
    ] {
        head(out, name, help);
        for (url, quota) in app.keyring.quotas() {
            let value = [quota.used, quota.jobs, quota.limit][value];
            line(out, name, &format!("key_vault=\"{}\"", url.trim_start_matches("https://")), value.into());
        }
    }
    let totals = app.keyring.unwrap_totals();
    for (name, help, value) in [
        ("strongroom_unwraps_total", "Unwraps that Azure answered.", totals.ok),
        ("strongroom_unwraps_failed_total", "Unwraps that failed.", totals.failed),
        ("strongroom_unwrap_milliseconds_total", "How long they took together.", totals.latency_ms),
    ] {
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}").expect(MEMORY);
    }
    Ok(())
}

fn watched_keys(tx: &mut Tx<'_>) -> Result<Vec<(VaultId, String, KeyWatch)>> {
    let vaults = tx.all(
        "SELECT v.id, g.kid FROM vaults v JOIN generations g ON g.vault_id = v.id AND g.generation = v.generation \
         WHERE v.strategy = $1",
        &[Strategy::AzureExternalKeys.word().into()],
        |row| Ok((VaultId(row.get(0)?), row.get::<String>(1)?)),
    )?;
    let mut keys = Vec::new();
    for (vault, in_use) in vaults {
        keys.extend(KeyWatch::find(tx, vault)?.map(|key| (vault, in_use, key)));
    }
    Ok(keys)
}

const MEMORY: &str = "writing to memory does not fail";

fn head(out: &mut String, name: &str, help: &str) {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge").expect(MEMORY);
}

fn line(out: &mut String, name: &str, labels: &str, value: i64) {
    writeln!(out, "{name}{{{labels}}} {value}").expect(MEMORY);
}

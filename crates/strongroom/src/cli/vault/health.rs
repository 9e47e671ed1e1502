//! `strongroom vault health`

use jiff::Timestamp;

use super::{health_word, lookup, strategy_name};
use crate::cli::console::{Console, Format, printable};
use crate::cli::failure::Failure;
use crate::client::Client;
use crate::http::api::types::{KeyHealth, KeyHour, WatchedKey};

pub async fn run(wanted: &str, client: &Client, console: &Console) -> Result<(), Failure> {
    let vaults = client.vaults().await?;
    let vault = lookup::vault(&vaults, wanted)?;
    let health = client.key_health(vault.id).await?;
    if console.format == Format::Json {
        return console.json(&health);
    }
    for (name, value) in lines(&health) {
        console.line(&printable(&format!("{name:<22}{value}")))?;
    }
    if health.vault.key.is_some() && health.samples.is_empty() {
        console.note("\nNothing is known of its latency yet: that is written once a minute.");
    }
    Ok(())
}

fn lines(health: &KeyHealth) -> Vec<(&'static str, String)> {
    let vault = &health.vault;
    let mut lines = vec![
        ("Vault", vault.name.clone()),
        ("Strategy", strategy_name(vault.strategy).to_owned()),
        ("Status", health_word(&vault.health)),
        ("Last success", moment(health.last_success)),
    ];
    let Some(key) = &vault.key else { return lines };
    lines.push(("Key version in use", key.kid.clone()));
    match &health.watch {
        Some(watch) => lines.extend(watched(watch)),
        None => lines.push(("Newest key version", "not looked at yet".to_owned())),
    }
    lines.push(("Credential ends", moment(key.credential_expires)));
    for lease in &health.leases {
        let use_of = if lease.in_use { "in use" } else { "not used lately" };
        lines.push(("Lease", format!("generation {} until {}, {use_of}", lease.generation, to_second(lease.ends_at))));
    }
    if let Some(quota) = &health.quota {
        let (used, limit, seconds, jobs) = (quota.used, quota.limit, quota.window_seconds, quota.jobs);
        lines.push(("Quota", format!("{used} of {limit} operations in {seconds} s, {jobs} of them by jobs")));
    }
    lines.extend(day(&health.samples).map(|told| ("Last 24 hours", told)));
    lines
}

fn watched(watch: &WatchedKey) -> Vec<(&'static str, String)> {
    let due = if watch.rewrap_due { " (rewrap to use it)" } else { "" };
    let newest = watch.newest_kid.as_deref().unwrap_or("not known");
    let size = watch.bits.map(|bits| format!(" {bits}")).unwrap_or_default();
    let mut lines = vec![("Newest key version", format!("{newest}{due}"))];
    if let Some(key_type) = &watch.key_type {
        lines
            .push(("Key", format!("{key_type}{size}{}", if watch.enabled == Some(false) { ", disabled" } else { "" })));
    }
    lines.push(("Key expires", moment(watch.expires)));
    let days = watch.recoverable_days.map(|days| format!(" for {days} days once deleted")).unwrap_or_default();
    match watch.purge_protected {
        Some(true) => lines.push(("Recoverable", format!("yes{days}; nobody can purge it earlier"))),
        Some(false) => lines.push(("Recoverable", format!("yes{days}, unless it is purged: no purge protection"))),
        None => {}
    }
    if let Some(error) = &watch.error {
        lines.push(("Not described", error.clone()));
    }
    if !watch.check_codes.is_empty() {
        lines.push(("Latest check", format!("{} ({})", watch.check_codes.join(", "), moment(watch.checked_at))));
    }
    lines.push(("Looked at", moment(watch.seen_at)));
    lines
}

/// The last 24 hours in which anybody asked.
fn day(hours: &[KeyHour]) -> Option<String> {
    let last = hours.last()?.from;
    let of_day = hours.iter().filter(|hour| last.duration_since(hour.from) < jiff::SignedDuration::from_hours(24));
    let (mut ok, mut failed, mut sum, mut max) = (0, 0, 0, 0);
    for hour in of_day {
        ok += hour.ok;
        failed += hour.failed;
        sum += hour.latency_mean * (hour.ok + hour.failed);
        max = max.max(hour.latency_max);
    }
    let mean = sum / (ok + failed).max(1);
    Some(format!("{ok} unwraps, {failed} failed; {mean} ms on average, {max} ms at most"))
}

fn moment(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "not known".to_owned(), to_second)
}

fn to_second(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

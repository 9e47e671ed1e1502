//! `…/vaults/{vault}/health`

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use jiff::Timestamp;

use super::{
    types::{KeyHealth as Shown, KeyHour, KeyLease, KeyQuota, WatchedKey},
    vaults,
};
use crate::{
    app::App,
    error::Result,
    http::extract::{Authenticated, PathId},
    id::VaultId,
    keyring::{KeySample, KeyWatch},
};

const HOUR: i64 = 3600;

pub async fn get(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<VaultId>,
) -> Result<Json<Shown>> {
    let health = app.key_health(&caller, id).await?;
    let kid = health.vault.kid.clone();
    Ok(Json(Shown {
        vault: vaults::shown(health.vault, &caller),
        last_success: health.last_success,
        watch: health.watch.map(|watch| watched(watch, &kid)),
        leases: (health.leases.into_iter())
            .map(|lease| KeyLease { generation: lease.generation, ends_at: lease.ends_at, in_use: lease.in_use })
            .collect(),
        quota: health.quota.map(|quota| KeyQuota {
            used: quota.used,
            jobs: quota.jobs,
            limit: quota.limit,
            window_seconds: quota.window_seconds,
        }),
        samples: hours(&health.samples),
    }))
}

fn watched(watch: KeyWatch, in_use: &str) -> WatchedKey {
    WatchedKey {
        rewrap_due: watch.is_newer_than(in_use),
        purge_protected: watch.purge_protected(),
        newest_kid: watch.newest,
        key_type: watch.key_type,
        bits: watch.bits,
        enabled: watch.enabled,
        expires: watch.expires,
        not_before: watch.not_before,
        recovery_level: watch.recovery_level,
        recoverable_days: watch.recoverable_days,
        seen_at: watch.seen_at,
        error: watch.error,
        check_codes: watch.check_codes,
        checked_at: watch.checked_at,
    }
}

fn hours(samples: &[KeySample]) -> Vec<KeyHour> {
    let mut hours: BTreeMap<i64, (KeyHour, u64)> = BTreeMap::new();
    for sample in samples {
        let start = sample.minute.as_second().div_euclid(HOUR) * HOUR;
        let from = Timestamp::from_second(start).unwrap_or(sample.minute);
        let empty = KeyHour { from, ok: 0, failed: 0, latency_mean: 0, latency_max: 0 };
        let (hour, sum) = hours.entry(start).or_insert((empty, 0));
        hour.ok += sample.ok;
        hour.failed += sample.failed;
        hour.latency_max = hour.latency_max.max(sample.latency_ms_max);
        *sum += sample.latency_ms_sum;
    }
    let mean = |(hour, sum): (KeyHour, u64)| KeyHour { latency_mean: sum / (hour.ok + hour.failed).max(1), ..hour };
    hours.into_values().map(mean).collect()
}

//! The key: whether it is there, whether it is of use, and a trial wrap.

use std::time::Duration;

use jiff::Timestamp;
use strongroom_envelope::{SystemRandom, VaultKey, VaultKeyPlace, WrapRecord, read_wrap_record, wrap_record};

use super::{ANSWER, CheckLine, CheckStatus, Run, TRIAL};
use crate::azure::{AzureAccess, AzureProvider, command};
use crate::{Code, KeyDescription, KeyFailure, KeyProvider, KeyType, Kid, Operation, TokenUse, Wrapped};

/// An end this near is worth a warning.
pub(super) const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// Reads the key and judges what it is.
pub(super) async fn read(run: &mut Run<'_>, provider: &AzureProvider, bits: u32) -> Option<KeyDescription> {
    let access = provider.access();
    let key = match provider.describe(run.limit(ANSWER)).await {
        Ok((key, receipts)) => {
            run.saw(&receipts);
            run.report.passed("key.readable", receipts.last());
            key
        }
        Err(failure) => {
            run.failure("key.readable", &failure, access, None);
            return None;
        }
    };
    type_and_size(run, &key, access, bits);
    operations(run, &key, access);
    dates(run, &key, access);
    if key.enabled {
        run.report.pass("key.enabled");
    } else {
        let failure = KeyFailure::new(Code::KeyDisabled, Operation::Describe, "");
        run.failure("key.enabled", &failure, access, Some(&key.kid));
    }
    run.go_on()?;
    Some(key)
}

fn type_and_size(run: &mut Run<'_>, key: &KeyDescription, access: &AzureAccess, bits: u32) {
    let (vault, name) = (access.vault_url.vault_name(), &access.key_name);
    let create = |name: &str| {
        format!("az keyvault key create --vault-name {vault} --name {name} --kty RSA --size {}", bits.max(2048))
    };
    if !matches!(key.key_type, KeyType::Rsa | KeyType::RsaHsm) {
        let cause = format!("The key is {}, which cannot wrap.", key.key_type);
        let advice = "Make an RSA key under another name and give that name.";
        let line = CheckLine::new("key.type", CheckStatus::Fail).because("key.wrong_type", cause);
        run.report.add(line.advise(advice, Some(create("NEW-NAME"))));
        return run.report.add(CheckLine::new("key.size", CheckStatus::Skipped));
    }
    run.report.pass("key.type");
    if key.bits.is_some_and(|found| found >= bits) {
        return run.report.pass("key.size");
    }
    let found = key.bits.map_or("of unknown size".to_owned(), |found| format!("RSA-{found}"));
    let line = CheckLine::new("key.size", CheckStatus::Fail)
        .because("key.too_small", format!("The key is {found}; RSA-{bits} is required."));
    let advice = "Make a new key version of that size; it becomes the one that wraps.";
    run.report.add(line.advise(advice, Some(create(name.as_str()))));
}

fn operations(run: &mut Run<'_>, key: &KeyDescription, access: &AzureAccess) {
    let permits = |needed: &&str| key.operations.iter().any(|permitted| permitted.eq_ignore_ascii_case(needed));
    let lacking: Vec<_> = ["wrapKey", "unwrapKey"].into_iter().filter(|needed| !permits(needed)).collect();
    if lacking.is_empty() {
        return run.report.pass("key.operations");
    }
    let detail = format!("it lacks {}.", lacking.join(" and "));
    let mut failure = KeyFailure::new(Code::OperationForbidden, Operation::Describe, detail);
    failure.facts.permitted.clone_from(&key.operations);
    run.failure("key.operations", &failure, access, Some(&key.kid));
}

fn dates(run: &mut Run<'_>, key: &KeyDescription, access: &AzureAccess) {
    const LINE: &str = "key.dates";
    let refused = |code, detail| KeyFailure::new(code, Operation::Describe, detail);
    // By Azure's clock: it is Azure who judges, and ours may be wrong.
    let now: Timestamp = run.azure_now();
    match (key.not_before, key.expires) {
        (Some(start), _) if start > now => {
            run.failure(LINE, &refused(Code::KeyNotYetValid, format!("valid from {start}")), access, None);
        }
        (_, Some(end)) if end <= now => {
            run.failure(LINE, &refused(Code::KeyExpired, format!("expired {end}")), access, None);
        }
        (_, Some(end)) if end <= now + SOON => {
            let failure = refused(Code::KeyExpired, String::new());
            let cause = format!("The key expires {end}. New vaults, rotation and rewrap stop then; items go on.");
            let advice = "Rotate the key, or clear or move its expiry date.";
            let line = CheckLine::new(LINE, CheckStatus::Warn).because("key.expires_soon", cause);
            run.report.add(line.advise(advice, command(&failure, access, None)));
        }
        (_, Some(end)) => {
            run.report.add(CheckLine::new(LINE, CheckStatus::Pass).noting(format!("The key expires {end}.")));
        }
        _ => run.report.pass(LINE),
    }
}

const NOWHERE: VaultKeyPlace = VaultKeyPlace { workspace: [0; 16], vault: [0; 16], generation: 0 };

/// Wraps a throwaway vault key of no vault, and unwraps it again. `described` is the key version that was read.
pub(super) async fn try_out(run: &mut Run<'_>, provider: &AzureProvider, described: &Kid) -> Option<()> {
    let access = provider.access();
    let Ok(key) = VaultKey::generate(&SystemRandom::new()) else {
        run.failure("key.wrap", &KeyFailure::new(Code::NoRandom, Operation::Wrap, ""), access, None);
        return None;
    };
    let record: WrapRecord = wrap_record(&NOWHERE, &key);
    match provider.wrap_key(&record, run.limit(TRIAL)).await {
        Ok(wrapped) => {
            run.saw(&wrapped.receipts);
            if !wrapped.kid.same_key_version(described) {
                other_key_version(run, &wrapped, described, access);
                return None;
            }
            run.report.passed("key.wrap", wrapped.receipts.last());
            run.begin("key.unwrap", "unwrapping")?;
            unwrap(run, provider, &wrapped, &key).await;
        }
        Err(failure) => run.failure("key.wrap", &failure, access, None),
    }
    run.go_on()
}

fn other_key_version(run: &mut Run<'_>, wrapped: &Wrapped, described: &Kid, access: &AzureAccess) {
    let detail = format!("Azure uses {described} and answered for {}.", wrapped.kid);
    let mut failure = KeyFailure::new(Code::WrongKid, Operation::Wrap, detail);
    failure.azure_request_id = wrapped.receipts.last().and_then(|receipt| receipt.azure_request_id.clone());
    run.failure("key.wrap", &failure, access, None);
}

async fn unwrap(run: &mut Run<'_>, provider: &AzureProvider, wrapped: &Wrapped, expected: &VaultKey) {
    match provider.unwrap_key(&wrapped.kid, &wrapped.bytes, TokenUse::Cached, run.limit(TRIAL)).await {
        Ok(unwrapped) => {
            run.saw(&unwrapped.receipts);
            run.report.passed("key.unwrap", unwrapped.receipts.last());
            if read_wrap_record(&unwrapped.record, &NOWHERE).is_ok_and(|key| key.matches(expected)) {
                return run.report.pass("key.compare");
            }
            let line = CheckLine::new("key.compare", CheckStatus::Fail).seen_in(unwrapped.receipts.last());
            let line = line.because("fault.wrong_record", "Another value came back than was wrapped.");
            let advice = "Do not use this Key Vault. Report this with Azure's request id.";
            run.report.add(line.advise(advice, None));
        }
        Err(failure) => run.failure("key.unwrap", &failure, provider.access(), Some(&wrapped.kid)),
    }
}

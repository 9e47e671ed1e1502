//! The check of a connection before anything depends on it: one list of lines, in an order in which the first red line
//! is the cause. Nothing at the customer's is changed, and no cause is guessed.
//!
//! Lines come in stages (what was typed, the way to Azure, the key's properties, a trial wrap). Within a stage every
//! line is judged, so that all typing errors show at once; after a stage with a failure the rest is skipped.

use std::time::Duration;

use jiff::Timestamp;
use strongroom_envelope::{Random, SystemRandom, VaultKey, VaultKeyPlace, WrapRecord, read_wrap_record, wrap_record};

use crate::azure::{AzureAccess, AzureKeys, AzureProvider, command};
pub use crate::input::AzureInput;
use crate::input::{Field, parse_vault_url_and_key};
use crate::{
    ClientId, Code, Credential, KeyDescription, KeyFailure, KeyName, KeyProvider, KeyType, Step, TenantId, TokenUse,
    Wrapped,
};

mod line;

use line::Report;
pub use line::{CheckLine, CheckStatus};

/// All lines, in their order.
const LINES: [(&str, &str); 19] = [
    ("form.client_id", "Client ID is well-formed"),
    ("form.tenant_id", "Tenant ID is well-formed"),
    ("form.client_secret", "Client secret is well-formed"),
    ("form.vault_url", "Vault URL is well-formed"),
    ("form.vault_key_name", "Vault key name is well-formed"),
    ("host.allowed", "Host is a Key Vault of the configured Azure cloud"),
    ("reach.key_vault", "Key Vault answers"),
    ("reach.sign_in", "Microsoft Entra answers"),
    ("sign_in", "Signed in"),
    ("key.readable", "Key is there and readable"),
    ("key.type", "Key is RSA"),
    ("key.size", "Key is large enough"),
    ("key.enabled", "Key is enabled"),
    ("key.dates", "Key is within its dates"),
    ("key.operations", "Key permits wrapKey and unwrapKey"),
    ("key.wrap", "Key wraps a trial value"),
    ("key.unwrap", "Key unwraps it again"),
    ("key.compare", "The value came back unchanged"),
    ("key.recovery", "Key cannot be destroyed by mistake"),
];

/// Every stage that asks Azure has a limit; together they stay below 15 s.
const READ_LIMIT: Duration = Duration::from_secs(5);
const TRIAL_LIMIT: Duration = Duration::from_secs(4);

/// Expiry this near is worth a warning.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// Checks whether a vault can be created with these values. `require_bits` is the least RSA modulus that is accepted.
/// Every line comes once, in the same order, to `tell` as soon as its status is known; all of them within 15 s.
pub async fn check(
    azure: &AzureKeys,
    input: &AzureInput<'_>,
    now: Timestamp,
    require_bits: u32,
    tell: &(dyn Fn(&CheckLine) + Send + Sync),
) -> Vec<CheckLine> {
    let mut report = Report::new(tell);
    let Some(access) = check_form(&mut report, azure, input, now) else { return report.finish() };
    let provider = azure.provider(access);
    let Some(key) = check_readable(&mut report, &provider).await else { return report.finish() };
    check_properties(&mut report, &key, provider.access(), now, require_bits);
    if report.failed {
        return report.finish();
    }
    if let Some((wrapped, expected)) = check_wrap(&mut report, &provider, &SystemRandom::new()).await {
        check_unwrap(&mut report, &provider, &wrapped, &expected).await;
    }
    if !report.failed {
        check_recovery(&mut report, &key, provider.access());
    }
    report.finish()
}

fn check_form(
    report: &mut Report<'_>,
    azure: &AzureKeys,
    input: &AzureInput<'_>,
    now: Timestamp,
) -> Option<AzureAccess> {
    let client = report.parsed("form.client_id", ClientId::parse(input.client_id));
    let tenant = report.parsed("form.tenant_id", TenantId::parse(input.tenant_id));
    let credential = Credential::parse(&input.credential).and_then(|credential| {
        credential.certificate().map_or(Ok(()), |certificate| certificate.valid_at(now)).map(|()| credential)
    });
    let credential = report.parsed("form.client_secret", credential);
    let key = match parse_vault_url_and_key(input.vault_url, input.vault_key_name, azure.cloud()) {
        Ok(key) => {
            report.pass("form.vault_url");
            report.pass("form.vault_key_name");
            report.pass("host.allowed");
            Some(key)
        }
        Err(error) if error.field == Field::VaultUrl => {
            // Which hosts are allowed is a question of its own; the rest is the form of the URL.
            if error.code.starts_with("host_") {
                report.pass("form.vault_url");
                report.input("host.allowed", error);
            } else {
                report.input("form.vault_url", error);
            }
            if !input.vault_key_name.contains("://") {
                report.parsed("form.vault_key_name", KeyName::parse(input.vault_key_name));
            }
            None
        }
        Err(error) => {
            report.pass("form.vault_url");
            report.input("form.vault_key_name", error);
            None
        }
    };
    let (vault_url, key_name) = key?;
    Some(AzureAccess { tenant: tenant?, client: client?, credential: credential?, vault_url, key_name })
}

/// One GET of the key shows four things: that the Key Vault answers, that Entra answers, that it signs in, and that the
/// key may be read. Which of them failed is told by the last request that was made.
async fn check_readable(report: &mut Report<'_>, provider: &AzureProvider) -> Option<KeyDescription> {
    const WAY: [&str; 4] = ["reach.key_vault", "reach.sign_in", "sign_in", "key.readable"];
    let (failing, result) = match provider.describe(READ_LIMIT).await {
        Ok((key, receipts)) => (WAY.len(), Ok((key, receipts))),
        Err(failure) => (way_stopped_at(&failure), Err(failure)),
    };
    let receipts = match &result {
        Ok((_, receipts)) => receipts,
        Err(failure) => &failure.receipts,
    };
    for (line, step) in WAY.iter().zip([Step::Challenge, Step::SignIn, Step::SignIn, Step::GetKey]).take(failing) {
        report.passed(line, receipts.iter().rfind(|receipt| receipt.step == step));
    }
    match result {
        Ok((key, _)) => Some(key),
        Err(failure) => {
            report.failure(WAY[failing], &failure, provider.access(), None);
            None
        }
    }
}

fn way_stopped_at(failure: &KeyFailure) -> usize {
    match failure.receipts.last().map(|receipt| receipt.step) {
        None | Some(Step::Challenge) => 0,
        Some(Step::SignIn) if failure.is_sign_in() => 2,
        Some(Step::SignIn) => 1,
        Some(Step::GetKey | Step::WrapKey | Step::UnwrapKey) => 3,
    }
}

fn check_properties(report: &mut Report<'_>, key: &KeyDescription, access: &AzureAccess, now: Timestamp, bits: u32) {
    let (vault, name) = (access.vault_url.vault_name(), &access.key_name);
    let larger = bits.max(2048);
    let create = format!("az keyvault key create --vault-name {vault} --name {name} --kty RSA --size {larger}");
    let rsa = matches!(key.key_type, KeyType::Rsa | KeyType::RsaHsm);
    if rsa {
        report.pass("key.type");
        match key.bits {
            Some(found) if found >= bits => report.pass("key.size"),
            found => {
                let found = found.map_or("of unknown size".to_owned(), |found| format!("RSA-{found}"));
                let advice = "Make a new key version of that size; it becomes the one that wraps.";
                report.fail(
                    "key.size",
                    "key.too_small",
                    format!("The key is {found}; RSA-{bits} is required."),
                    advice,
                    Some(create),
                );
            }
        }
    } else {
        let advice = "Make an RSA key under another name and give that name.";
        let create = create.replace(&format!("--name {name} "), "--name NEW-NAME ");
        report.fail(
            "key.type",
            "key.wrong_type",
            format!("The key is {}, which cannot wrap.", key.key_type),
            advice,
            Some(create),
        );
    }
    if key.enabled {
        report.pass("key.enabled");
    } else {
        let failure = KeyFailure::new(Code::KeyDisabled, crate::Operation::Describe, "");
        report.failure("key.enabled", &failure, access, Some(&key.kid));
    }
    check_dates(report, key, access, now);
    let lacking: Vec<_> = ["wrapKey", "unwrapKey"].into_iter().filter(|needed| !permits(key, needed)).collect();
    if lacking.is_empty() {
        report.pass("key.operations");
    } else {
        let detail = format!("it lacks {}", lacking.join(" and "));
        let failure = KeyFailure::new(Code::OperationForbidden, crate::Operation::Describe, detail);
        report.failure("key.operations", &failure, access, Some(&key.kid));
    }
}

fn permits(key: &KeyDescription, operation: &str) -> bool {
    key.operations.iter().any(|permitted| permitted.eq_ignore_ascii_case(operation))
}

fn check_dates(report: &mut Report<'_>, key: &KeyDescription, access: &AzureAccess, now: Timestamp) {
    let refused = |code, detail| KeyFailure::new(code, crate::Operation::Describe, detail);
    match (key.not_before, key.expires) {
        (Some(start), _) if start > now => {
            report.failure("key.dates", &refused(Code::KeyNotYetValid, format!("valid from {start}")), access, None);
        }
        (_, Some(end)) if end <= now => {
            report.failure("key.dates", &refused(Code::KeyExpired, format!("expired {end}")), access, None);
        }
        (_, Some(end)) if end <= now + SOON => {
            let failure = refused(Code::KeyExpired, String::new());
            let cause = format!("The key expires {end}. New vaults, rotation and rewrap stop then; items go on.");
            let advice = "Rotate the key, or clear or move its expiry date.";
            report.add(
                CheckLine::new("key.dates", CheckStatus::Warn)
                    .because("key.expires_soon", cause)
                    .advise(advice, command(&failure, access, None)),
            );
        }
        _ => report.pass("key.dates"),
    }
}

/// Wraps a throwaway vault key of no vault.
async fn check_wrap(
    report: &mut Report<'_>,
    provider: &AzureProvider,
    random: &dyn Random,
) -> Option<(Wrapped, VaultKey)> {
    let Ok(key) = VaultKey::generate(random) else {
        let failure = KeyFailure::new(Code::NoRandom, crate::Operation::Wrap, "");
        report.failure("key.wrap", &failure, provider.access(), None);
        return None;
    };
    let record: WrapRecord = wrap_record(&NOWHERE, &key);
    match provider.wrap_key(&record, TRIAL_LIMIT).await {
        Ok(wrapped) => {
            report.passed("key.wrap", wrapped.receipts.last());
            Some((wrapped, key))
        }
        Err(failure) => {
            report.failure("key.wrap", &failure, provider.access(), None);
            None
        }
    }
}

const NOWHERE: VaultKeyPlace = VaultKeyPlace { workspace: [0; 16], vault: [0; 16], generation: 0 };

async fn check_unwrap(report: &mut Report<'_>, provider: &AzureProvider, wrapped: &Wrapped, expected: &VaultKey) {
    match provider.unwrap_key(&wrapped.kid, &wrapped.bytes, TokenUse::Cached, TRIAL_LIMIT).await {
        Ok(unwrapped) => {
            report.passed("key.unwrap", unwrapped.receipts.last());
            if read_wrap_record(&unwrapped.record, &NOWHERE).is_ok_and(|key| key.matches(expected)) {
                report.pass("key.compare");
            } else {
                let advice = "Do not use this Key Vault. Report this with Azure's request id.";
                let cause = "Another value came back than was wrapped.".to_owned();
                report.fail("key.compare", "fault.wrong_record", cause, advice, None);
            }
        }
        Err(failure) => report.failure("key.unwrap", &failure, provider.access(), Some(&wrapped.kid)),
    }
}

fn check_recovery(report: &mut Report<'_>, key: &KeyDescription, access: &AzureAccess) {
    let Some(level) = &key.recovery_level else {
        let line = CheckLine::new("key.recovery", CheckStatus::CouldNotCheck);
        return report.add(line.because("key.recovery_unknown", "Azure did not say."));
    };
    if level.contains("Recoverable") && !level.contains("Purgeable") {
        return report.pass("key.recovery");
    }
    let vault = access.vault_url.vault_name();
    let cause =
        format!("The key can be purged at once (recovery level {level}); then nobody can ever open what it protects.");
    let command = format!("az keyvault update --name {vault} --enable-purge-protection true");
    report.add(
        CheckLine::new("key.recovery", CheckStatus::Warn)
            .because("key.purgeable", cause)
            .advise("Turn on purge protection. It cannot be turned off again.", Some(command)),
    );
}

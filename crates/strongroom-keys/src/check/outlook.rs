//! What may go wrong later: a key that can be purged, a credential that ends, an Azure that is slow or throttles.

use std::time::Duration;

use jiff::Timestamp;

use super::key::SOON;
use super::line::Of;
use super::rights::Versions;
use super::{AzureInput, CheckLine, CheckStatus, Run};
use crate::azure::probe::ListedVersion;
use crate::azure::{AzureAccess, AzureProvider, command};
use crate::failure::OTHER_CREDENTIAL;
use crate::{Code, Credential, KeyDescription, KeyFailure, KeyType, Kid, Operation, Receipt, Step};

/// Slower than this is worth a warning.
const SLOW: Duration = Duration::from_secs(1);

pub(super) fn check(
    run: &mut Run<'_>,
    provider: &AzureProvider,
    key: &KeyDescription,
    versions: Option<Versions>,
    input: &AzureInput<'_>,
) {
    let access = provider.access();
    run.report.add(recovery(key, access));
    run.report.add(match versions {
        Some(Ok(told)) => key_versions(&told.value.0, told.value.1, key, run.in_use, access).seen_in(told.receipt()),
        Some(Err(failure)) => no_versions(&failure, access),
        None => run.out_of_time("key.versions"),
    });
    run.report.add(expiry(run.azure_now(), input, access, run.of()));
    run.report.add(latency(&run.receipts));
    let asked = run.azure.recent_operations(access.vault_url.host());
    run.report.add(quota(&run.receipts, key, asked));
}

fn recovery(key: &KeyDescription, access: &AzureAccess) -> CheckLine {
    const LINE: &str = "key.recovery";
    let vault = access.vault_url.vault_name();
    let Some(level) = &key.recovery_level else {
        let command = format!("az keyvault show --name {vault} --query properties.enablePurgeProtection");
        let line = CheckLine::new(LINE, CheckStatus::CouldNotCheck);
        let line = line.because("key.recovery_unknown", "Azure did not say how a deleted key is recovered.");
        return line.advise("Look whether purge protection is on.", Some(command));
    };
    let days = key.recoverable_days.map(|days| format!(", {days} days")).unwrap_or_default();
    if level.contains("Recoverable") && !level.contains("Purgeable") {
        return CheckLine::new(LINE, CheckStatus::Pass).noting(format!("The recovery level is {level}{days}."));
    }
    let cause = format!(
        "The key can be purged at once (recovery level {level}{days}); then nobody can ever open what it protects."
    );
    let command = format!("az keyvault update --name {vault} --enable-purge-protection true");
    CheckLine::new(LINE, CheckStatus::Warn)
        .because("key.purgeable", cause)
        .advise("Turn on purge protection. It cannot be turned off again.", Some(command))
}

/// `in_use` are the key versions of a vault that exists; each has to be enabled. `key` is the one that Azure uses for
/// new wraps.
fn key_versions(
    found: &[ListedVersion],
    all: bool,
    key: &KeyDescription,
    in_use: &[Kid],
    access: &AzureAccess,
) -> CheckLine {
    const LINE: &str = "key.versions";
    let current = key_version(&key.kid);
    let counts = counted(found);
    if let Some(line) = in_use.iter().find_map(|kid| lost(found, all, kid, current, access)) {
        return line;
    }
    if !all {
        let cause = format!("There are more than {} key versions; the rest was not looked at.", found.len());
        let line = CheckLine::new(LINE, CheckStatus::CouldNotCheck).because("key.many_versions", cause);
        return line.advise("List them.", Some(list(access)));
    }
    let Some(listed) = found.iter().find(|one| one.key_version == current) else {
        let cause = format!("{counts}. {current}, which Azure says it uses, is not among them.");
        let line = CheckLine::new(LINE, CheckStatus::Warn).because("key.version_unlisted", cause);
        return line.advise("Compare the two.", Some(list(access)));
    };
    if let Some(newer) = found.iter().find(|one| one.created > listed.created) {
        let state = if newer.enabled { "enabled" } else { "disabled" };
        let cause = format!("{counts}. {} is newer than {current}, which Azure uses, and {state}.", newer.key_version);
        let line = CheckLine::new(LINE, CheckStatus::Warn).because("key.newer_version", cause);
        return line.advise("See which key version is meant to be the current one.", Some(list(access)));
    }
    let used = match in_use {
        [] => format!("The newest, {current}, is enabled."),
        [kid] => format!("{} It is enabled.", uses(key_version(kid), current)),
        [kid, older @ ..] => {
            let older: Vec<_> = older.iter().map(key_version).collect();
            let told = uses(key_version(kid), current);
            format!("{told} Older generations of its key need {}. All of them are enabled.", older.join(", "))
        }
    };
    CheckLine::new(LINE, CheckStatus::Pass).noting(format!("{counts}. {used}"))
}

/// The key version that the vault cannot be without is disabled, or Azure has it no more.
fn lost(found: &[ListedVersion], all: bool, kid: &Kid, current: &str, access: &AzureAccess) -> Option<CheckLine> {
    let (used, counts) = (key_version(kid), counted(found));
    let told = uses(used, current);
    let line = CheckLine::new("key.versions", CheckStatus::Fail);
    match found.iter().find(|one| one.key_version == used) {
        Some(one) if one.enabled => None,
        Some(_) => {
            let failure = KeyFailure::new(Code::KeyDisabled, Operation::Unwrap, "");
            let line =
                line.because(failure.code.as_str(), format!("{counts}. {told} It is disabled, so the vault is dark."));
            let advice = "Enable the key version that the vault uses. Older key versions must stay enabled for as long as \
                          a vault uses them. Nothing is lost meanwhile.";
            Some(line.advise(advice, command(&failure, access, Some(kid))))
        }
        None if all => {
            let cause = format!("{counts}. {told} Azure does not list it, so the vault cannot be opened.");
            let advice = "The key was made anew under its old name, or restored without that key version. Recover the key \
                          that has it, or restore it from a backup.";
            Some(line.because("key.version_unlisted", cause).advise(advice, Some(list(access))))
        }
        None => None,
    }
}

/// Which key version the vault uses, and which is the newest.
fn uses(used: &str, current: &str) -> String {
    match used == current {
        true => format!("This vault uses key version {used}, the newest."),
        false => format!("This vault uses key version {used}; the newest is {current}."),
    }
}

fn counted(found: &[ListedVersion]) -> String {
    let disabled: Vec<&str> = found.iter().filter(|one| !one.enabled).map(|one| one.key_version.as_str()).collect();
    let plural = if found.len() == 1 { "" } else { "s" };
    let named = if disabled.is_empty() { String::new() } else { format!(" ({})", disabled.join(", ")) };
    let enabled = found.len() - disabled.len();
    format!("{} key version{plural}: {enabled} enabled, {} disabled{named}", found.len(), disabled.len())
}

fn key_version(kid: &Kid) -> &str {
    match kid {
        Kid::Azure(url) => url.key_version(),
        Kid::Cloud(_) => "",
    }
}

fn no_versions(failure: &KeyFailure, access: &AzureAccess) -> CheckLine {
    let line = CheckLine::new("key.versions", CheckStatus::CouldNotCheck).seen_in(failure.receipts.last());
    let line = line.because(failure.code.as_str(), format!("The key versions were not listed: {failure}."));
    line.advise("List them.", Some(list(access)))
}

fn list(access: &AzureAccess) -> String {
    let (vault, key) = (access.vault_url.vault_name(), &access.key_name);
    format!("az keyvault key list-versions --vault-name {vault} --name {key} --output table")
}

/// When the credential ends: its certificate says so, or whoever gave the secret did.
fn expiry(now: Timestamp, input: &AzureInput<'_>, access: &AzureAccess, of: Of) -> CheckLine {
    const LINE: &str = "credential.expiry";
    let client = access.client;
    let (what, end) = match (&access.credential, input.credential_expires) {
        (Credential::WorkloadIdentity, _) => {
            return CheckLine::new(LINE, CheckStatus::Pass).noting("A workload identity has no end of its own.");
        }
        (Credential::Certificate(certificate), _) => ("certificate", certificate.not_after()),
        (Credential::Secret(_), Some(end)) => ("client secret", end),
        (Credential::Secret(_), None) => {
            let line = CheckLine::new(LINE, CheckStatus::CouldNotCheck);
            let line =
                line.because("credential.end_unknown", "Azure does not tell an application when its secret ends.");
            let command = format!("az ad app credential list --id {client} --output table");
            return line.advise("Look it up and give the date, to be warned 30 days ahead.", Some(command));
        }
    };
    let renew = match access.credential.certificate() {
        Some(_) => format!("az ad app credential reset --id {client} --cert @certificate.pem --append"),
        None => format!("az ad app credential reset --id {client} --append"),
    };
    if end <= now {
        let cause = format!(
            "The {what} ended {end} by the date given, yet Microsoft Entra has just taken it: the date is not right."
        );
        let line = CheckLine::new(LINE, CheckStatus::Fail).because("credential.past_its_date", cause);
        return match of {
            Of::NewVault => line.advise("Give the date at which it really ends, or make a new one.", Some(renew)),
            Of::Vault => line.advise(OTHER_CREDENTIAL, None),
        };
    }
    if end <= now + SOON {
        let line = CheckLine::new(LINE, CheckStatus::Warn)
            .because("credential.ends_soon", format!("The {what} ends {end}. Strongroom cannot sign in after that."));
        return match of {
            Of::NewVault => line.advise("Make a new one before that day.", Some(renew)),
            Of::Vault => line.advise(OTHER_CREDENTIAL, None),
        };
    }
    CheckLine::new(LINE, CheckStatus::Pass).noting(format!("The {what} ends {end}."))
}

fn latency(receipts: &[Receipt]) -> CheckLine {
    const LINE: &str = "azure.latency";
    let mut times: Vec<Duration> =
        receipts.iter().filter(|receipt| receipt.status.is_some()).map(|receipt| receipt.latency).collect();
    times.sort();
    let (Some(slowest), Some(median)) = (times.last().copied(), times.get(times.len() / 2).copied()) else {
        return CheckLine::new(LINE, CheckStatus::Skipped);
    };
    let unwrap = receipts.iter().rfind(|receipt| receipt.step == Step::UnwrapKey).map(|receipt| receipt.latency);
    let told = format!(
        "Of {} requests the slowest took {} ms, the one in the middle {} ms.",
        times.len(),
        slowest.as_millis(),
        median.as_millis()
    );
    let mut line = if median > SLOW || unwrap.is_some_and(|unwrap| unwrap > SLOW) {
        let advice = "Items of a vault open as fast as its key unwraps. Look at the way to Azure: the proxy, the region of \
                      the Key Vault, the load of this server.";
        CheckLine::new(LINE, CheckStatus::Warn).because("azure.slow", told).advise(advice, None)
    } else {
        CheckLine::new(LINE, CheckStatus::Pass).noting(told)
    };
    line.ms = super::line::millis(slowest);
    line
}

fn quota(receipts: &[Receipt], key: &KeyDescription, asked: usize) -> CheckLine {
    const LINE: &str = "azure.quota";
    let told = quota_words(Some(key), asked);
    let throttled = receipts.iter().filter(|receipt| receipt.status == Some(429)).count();
    if throttled > 0 {
        let cause = format!("Azure throttled {throttled} of this check's requests. {told}");
        let line = CheckLine::new(LINE, CheckStatus::Warn).because(Code::Throttled.as_str(), cause);
        return line.advise("See what else uses this Key Vault: its limit is shared.", None);
    }
    let near = limit(key).is_some_and(|limit| asked * 2 > limit);
    if near {
        let line = CheckLine::new(LINE, CheckStatus::Warn).because("azure.quota_near", told);
        return line.advise("Use a Key Vault of its own for this vault, or a longer lease.", None);
    }
    CheckLine::new(LINE, CheckStatus::Pass).noting(told)
}

/// What this installation used of Azure's limit. `key` is `None` where its size is not known yet.
pub(super) fn quota_words(key: Option<&KeyDescription>, asked: usize) -> String {
    let used = format!("This server asked this Key Vault {asked} times in the last 10 s");
    let of = match key {
        Some(key) => limit(key).map(|limit| (format!("{}-{}", key.key_type, key.bits.unwrap_or_default()), limit)),
        None => Some(("RSA-4096".to_owned(), 500)),
    };
    match of {
        Some((size, limit)) => {
            format!("{used}; Azure's limit for {size} is {limit} in 10 s, shared by all who use the Key Vault.")
        }
        None => format!("{used}."),
    }
}

/// Operations other than create that Azure allows a Key Vault in 10 s, by the size of the key
/// (learn.microsoft.com/azure/key-vault/general/service-limits).
fn limit(key: &KeyDescription) -> Option<usize> {
    match (&key.key_type, key.bits?) {
        (KeyType::Rsa, 2048) => Some(4000),
        (KeyType::Rsa, 3072) => Some(1000),
        (KeyType::Rsa, 4096) => Some(500),
        (KeyType::RsaHsm, 2048) => Some(2000),
        (KeyType::RsaHsm, 3072) => Some(500),
        (KeyType::RsaHsm, 4096) => Some(250),
        _ => None,
    }
}

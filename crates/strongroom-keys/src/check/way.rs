//! The way to Azure: names, connections, proxy, TLS; then whether Entra and the Key Vault answer, and about which tenant.

use std::time::Duration;

use super::line::millis;
use super::outlook::quota_words;
use super::signing_in::{is_skewed, skew_words};
use super::{ANSWER, CheckLine, CheckStatus, Run, WAY};
use crate::azure::probe::{Challenge, Told};
use crate::azure::reach::{Blocked, Hop, Hopped};
use crate::azure::{AzureAccess, AzureProvider};
use crate::{Code, KeyFailure, Kid};

/// Walks to the Key Vault and to Microsoft Entra at once, without sending either a request.
pub(super) async fn walk(run: &mut Run<'_>, key_vault: &str) -> Option<()> {
    let azure = run.azure;
    let end = run.end_of(WAY);
    let (to_key_vault, to_sign_in) =
        tokio::join!(azure.walk(key_vault, end), azure.walk(azure.cloud().login_host(), end));
    let walks = [to_key_vault, to_sign_in];
    for (code, hop) in [
        ("net.dns", Hop::Lookup),
        ("net.tcp", Hop::Connect),
        ("proxy.reachable", Hop::Proxy),
        ("proxy.connect", Hop::Tunnel),
    ] {
        let through_proxy = matches!(hop, Hop::Proxy | Hop::Tunnel);
        if through_proxy == azure.proxied() {
            judge(run, code, walks.iter().filter_map(|walk| find(walk, hop)).collect());
            run.go_on()?;
        } else {
            let why = if azure.proxied() { "The proxy does this." } else { "No proxy is configured." };
            run.report.add(CheckLine::new(code, CheckStatus::Skipped).noting(why));
        }
    }
    for (code, walk) in ["tls.key_vault", "tls.sign_in"].into_iter().zip(&walks) {
        judge(run, code, find(walk, Hop::Tls).into_iter().collect());
    }
    run.go_on()
}

fn find(walk: &[Hopped], hop: Hop) -> Option<&Hopped> {
    walk.iter().find(|hopped| hopped.hop == hop)
}

/// One line about the same hop to one or both hosts. The first that failed names the reason; what is known of the other
/// is told with it.
fn judge(run: &mut Run<'_>, code: &'static str, hops: Vec<&Hopped>) {
    let took = hops.iter().map(|hopped| hopped.took).max().unwrap_or(Duration::ZERO);
    let blocked: Vec<&Blocked> = hops.iter().filter_map(|hopped| hopped.outcome.as_ref().err()).collect();
    let seen: Vec<&str> = hops.iter().filter_map(|hopped| hopped.outcome.as_deref().ok()).collect();
    let mut told: Vec<&str> = blocked.iter().map(|blocked| blocked.cause.as_str()).chain(seen).collect();
    told.dedup();
    let mut told = told.join(" ");
    let mut line = match blocked.first() {
        // Both at once: neither a typing error nor a Key Vault that is gone.
        Some(first) if code == "net.dns" && blocked.len() > 1 => {
            told.push_str(" Neither name is found: this server has no DNS to the outside, or it needs azure.proxy.");
            let advice = "Give this server a DNS server that finds names on the internet, or set azure.proxy, which then \
                          looks them up. HTTPS_PROXY is not read.";
            CheckLine::new(code, CheckStatus::Fail).because(first.reason, told).advise(advice, None)
        }
        Some(first) => CheckLine::new(code, CheckStatus::Fail).because(first.reason, told).advise(first.fix, None),
        None => CheckLine::new(code, CheckStatus::Pass).noting(told),
    };
    line.ms = millis(took);
    run.report.add(line);
}

/// Asks both without signing in: Entra about the tenant, the Key Vault where to sign in.
pub(super) async fn ask(run: &mut Run<'_>, provider: &AzureProvider) -> Option<()> {
    let limit = run.limit(ANSWER);
    let (tenant, challenge) = tokio::join!(provider.tenant_document(limit), provider.challenge(limit));
    let access = provider.access();
    match &tenant {
        Ok(told) => {
            run.saw(&told.receipts);
            run.saw_date(told.date);
            run.report.passed("reach.sign_in", told.receipt());
        }
        // An answer about the tenant, whatever it says, is an answer.
        Err(failure) if failure.is_sign_in() => run.report.passed("reach.sign_in", failure.receipts.last()),
        Err(failure) => run.failure("reach.sign_in", failure, access, None),
    }
    match &challenge {
        Ok(told) => {
            run.saw(&told.receipts);
            run.saw_date(told.date);
            run.report.passed("reach.key_vault", told.receipt());
        }
        Err(failure) => run.failure("reach.key_vault", failure, access, None),
    }
    run.go_on()?;
    match tenant {
        Ok(told) => known(run, &told.value.issuer, access),
        Err(failure) => run.failure("tenant.known", &failure, access, None),
    }
    if let Ok(challenge) = challenge {
        belongs(run, &challenge, access);
    }
    run.go_on()
}

fn known(run: &mut Run<'_>, issuer: &str, access: &AzureAccess) {
    if issuer.contains(&access.tenant.to_string()) {
        return run.report.pass("tenant.known");
    }
    let cause = format!("Microsoft Entra answered about another tenant than {}.", access.tenant);
    run.report.add(CheckLine::new("tenant.known", CheckStatus::CouldNotCheck).because("tenant.other_answer", cause));
}

/// The tenant that the Key Vault names against the one that was given.
fn belongs(run: &mut Run<'_>, challenge: &Told<Challenge>, access: &AzureAccess) {
    const LINE: &str = "tenant.key_vault";
    let vault = access.vault_url.vault_name();
    let receipt = challenge.receipt();
    let Some(theirs) = &challenge.value.tenant else {
        let line = CheckLine::new(LINE, CheckStatus::CouldNotCheck).seen_in(receipt);
        let cause = format!("The Key Vault {vault} did not name its tenant where it asks for a sign-in.");
        return run.report.add(line.because("tenant.not_named", cause));
    };
    if theirs.eq_ignore_ascii_case(&access.tenant.to_string()) {
        return run.report.passed(LINE, receipt);
    }
    let at = challenge.value.host.as_deref().unwrap_or("an unnamed host");
    let cause = format!(
        "The Key Vault {vault} belongs to tenant {theirs} (it sends sign-ins to {at}); tenant {} was given.",
        access.tenant
    );
    let advice = "Give the tenant that the Key Vault lives in, and an application registered there.";
    let command = format!("az keyvault show --name {vault} --query properties.tenantId --output tsv");
    let line = CheckLine::new(LINE, CheckStatus::Fail).seen_in(receipt);
    run.report.add(line.because("tenant.mismatch", cause).advise(advice, Some(command)));
}

impl Run<'_> {
    /// A line that failed with an answer, or for want of one.
    pub(super) fn failure(
        &mut self,
        code: &'static str,
        failure: &KeyFailure,
        access: &AzureAccess,
        kid: Option<&Kid>,
    ) {
        self.saw(&failure.receipts);
        let mut line = CheckLine::failed(code, failure, access, kid, self.of());
        if failure.code == Code::Throttled {
            let asked = self.azure.recent_operations(access.vault_url.host());
            line = line.adding(&quota_words(None, asked));
        }
        if let Some(skew) = self.skew.filter(|skew| failure.is_sign_in() && is_skewed(*skew)) {
            line = line.adding(&skew_words(skew));
        }
        self.report.add(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azure::{AzureConfig, AzureKeys};
    use crate::check::line::Report;

    fn lookup(host: &str, found: bool) -> Hopped {
        let blocked = || Blocked {
            reason: Code::UnknownHost.as_str(),
            cause: format!("{host} was looked up: no such name."),
            fix: Code::UnknownHost.fix(),
        };
        let outcome = if found { Ok(format!("{host} is 192.0.2.1.")) } else { Err(blocked()) };
        Hopped { hop: Hop::Lookup, took: Duration::ZERO, outcome }
    }

    fn judged(hops: [Hopped; 2]) -> CheckLine {
        let azure = AzureKeys::new(&AzureConfig::default()).expect("a configuration");
        let mut run = Run::new(Report::new(&|_| ()), &azure, jiff::Timestamp::UNIX_EPOCH);
        judge(&mut run, "net.dns", hops.iter().collect());
        run.report.finish().into_iter().find(|line| line.code == "net.dns").expect("the line")
    }

    #[test]
    fn no_name_at_all_is_not_blamed_on_the_key_vaults() {
        let none = judged([lookup("acme", false), lookup("login", false)]);
        assert_eq!((none.status, none.reason), (CheckStatus::Fail, Some("dns.unknown_host")));
        let told = format!("{} {}", none.cause.unwrap_or_default(), none.fix.unwrap_or_default());
        for word in ["acme was looked up", "login was looked up", "Neither name is found", "HTTPS_PROXY is not read"] {
            assert!(told.contains(word), "{told}");
        }
        assert!(!told.contains("typing errors") && !told.contains("deleted"), "{told}");

        let one = judged([lookup("acme", false), lookup("login", true)]);
        assert_eq!(one.fix.as_deref(), Some(Code::UnknownHost.fix()));
    }
}

//! The check of a connection before anything depends on it: one list of lines, in an order in which the first red line
//! is the cause. Nothing at the customer's is changed, and no cause is guessed.
//!
//! Lines come in stages: what was typed (`form`), the way to Azure (`way`), signing in (`signing_in`), the key and a trial
//! wrap (`key`), and what else is worth knowing (`rights`, `outlook`). Within a stage every line is judged, so that all
//! typing errors show at once; after a stage with a failure the rest is skipped. `docs/checks.md` lists all lines.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::azure::AzureKeys;
pub use crate::input::AzureInput;
use crate::{Kid, Receipt, Receipts};

mod form;
mod key;
mod line;
mod outlook;
mod reasons;
mod rights;
mod signing_in;
mod way;

pub use line::{CheckLine, CheckStatus};
pub use reasons::REASONS;

use line::{Of, Report};

/// All lines, in their order: code and title.
pub const LINES: [(&str, &str); 35] = [
    ("form.client_id", "Client ID is well-formed"),
    ("form.tenant_id", "Tenant ID is well-formed"),
    ("form.client_secret", "Credential is well-formed"),
    ("form.vault_url", "Vault URL is well-formed"),
    ("form.vault_key_name", "Vault key name is well-formed"),
    ("host.allowed", "Host is a Key Vault of the configured Azure cloud"),
    ("net.dns", "Azure's host names are found"),
    ("net.tcp", "Azure takes connections on port 443"),
    ("proxy.reachable", "Proxy takes connections"),
    ("proxy.connect", "Proxy connects to Azure"),
    ("tls.key_vault", "TLS to the Key Vault is trusted"),
    ("tls.sign_in", "TLS to Microsoft Entra is trusted"),
    ("reach.sign_in", "Microsoft Entra answers"),
    ("reach.key_vault", "Key Vault answers"),
    ("tenant.known", "Tenant is known to Microsoft Entra"),
    ("tenant.key_vault", "Key Vault belongs to this tenant"),
    ("sign_in", "Signed in"),
    ("token.claims", "Token is for this tenant, application and Key Vault"),
    ("token.clock", "This server's clock agrees with Azure's"),
    ("key.readable", "Key is there and readable"),
    ("key.type", "Key is RSA"),
    ("key.size", "Key is large enough"),
    ("key.operations", "Key permits wrapKey and unwrapKey"),
    ("key.dates", "Key is within its dates"),
    ("key.enabled", "Key is enabled"),
    ("key.wrap", "Key wraps a trial value"),
    ("key.unwrap", "Key unwraps it again"),
    ("key.compare", "The value came back unchanged"),
    ("rights.role", "Application may do no more than it needs"),
    ("rights.scope", "Application's role is on this key alone"),
    ("key.recovery", "Key cannot be destroyed by mistake"),
    ("key.versions", "Key versions in use are enabled"),
    ("credential.expiry", "Credential lasts"),
    ("azure.latency", "Azure answers quickly"),
    ("azure.quota", "Azure's limit leaves room"),
];

/// All of a check. A caller who waits sees the last line before 15 s are over, however slow the rest is.
const WHOLE: Duration = Duration::from_millis(14_500);
/// A stage that has less left is not begun: its answer would say nothing about Azure.
const LEAST: Duration = Duration::from_millis(500);
/// A stage's share. Their sum is more than the whole: one slow stage is no failure, many are.
const WAY: Duration = Duration::from_millis(5_500);
const ANSWER: Duration = Duration::from_millis(3_000);
const TRIAL: Duration = Duration::from_millis(4_000);

/// Checks whether a vault can be created with these values. `require_bits` is the least RSA modulus that is accepted.
/// Every line comes once, in the same order, to `tell` as soon as its status is known; all of them within 15 s.
pub async fn check(
    azure: &AzureKeys,
    input: &AzureInput<'_>,
    now: Timestamp,
    require_bits: u32,
    tell: &(dyn Fn(&CheckLine) + Send + Sync),
) -> Vec<CheckLine> {
    let run = Run::new(Report::new(tell), azure, now);
    to_the_end(run, input, require_bits).await
}

/// The same check of a vault that exists, the generations of whose key are wrapped under the key versions `in_use`, the
/// current one's first.
pub async fn check_vault(
    azure: &AzureKeys,
    input: &AzureInput<'_>,
    in_use: &[Kid],
    now: Timestamp,
    require_bits: u32,
    tell: &(dyn Fn(&CheckLine) + Send + Sync),
) -> Vec<CheckLine> {
    let run = Run { in_use, ..Run::new(Report::new(tell), azure, now) };
    to_the_end(run, input, require_bits).await
}

/// As [`check_vault`], and nothing is wrapped, unwrapped or signed: the lines of the trial are skipped, whether it may sign
/// is not asked, and Azure's log shows no use of the key.
pub async fn look_at_vault(
    azure: &AzureKeys,
    input: &AzureInput<'_>,
    in_use: &[Kid],
    now: Timestamp,
    require_bits: u32,
) -> Vec<CheckLine> {
    let run = Run { in_use, with_trial: false, ..Run::new(Report::new(&|_| ()), azure, now) };
    to_the_end(run, input, require_bits).await
}

async fn to_the_end(mut run: Run<'_>, input: &AzureInput<'_>, require_bits: u32) -> Vec<CheckLine> {
    // Where it stopped stands in the report.
    let _: Option<()> = stages(&mut run, input, require_bits).await;
    run.report.finish()
}

async fn stages(run: &mut Run<'_>, input: &AzureInput<'_>, require_bits: u32) -> Option<()> {
    let access = form::check(run, input)?;
    way::walk(run, access.vault_url.host()).await?;
    let provider = run.azure.provider(access);
    run.begin("reach.sign_in", "the first answers")?;
    way::ask(run, &provider).await?;
    run.begin("sign_in", "the sign-in")?;
    let signed_in = signing_in::check(run, &provider).await?;
    run.begin("key.readable", "reading the key")?;
    let key = key::read(run, &provider, require_bits).await?;
    if run.with_trial {
        run.begin("key.wrap", "wrapping")?;
        key::try_out(run, &provider, &key.kid).await?;
    }
    let listed = match run.begin("rights.role", "the questions about rights") {
        Some(()) => Some(rights::check(run, &provider, &key, &signed_in).await),
        None => {
            run.report.add(run.out_of_time("rights.scope"));
            None
        }
    };
    outlook::check(run, &provider, &key, listed, input);
    Some(())
}

/// One check as it goes on.
struct Run<'a> {
    report: Report<'a>,
    azure: &'a AzureKeys,
    /// The key versions that wrap the generations of the vault's key, the current one's first; empty where a vault is only
    /// to be made.
    in_use: &'a [Kid],
    /// Whether a trial value is wrapped and unwrapped.
    with_trial: bool,
    start: Instant,
    /// This server's clock at the start.
    now: Timestamp,
    /// The stage that goes on, and when it began.
    stage: (&'static str, Instant),
    /// The stage that took longest so far.
    slowest: (&'static str, Duration),
    /// Every request so far.
    receipts: Vec<Receipt>,
    /// How far this server's clock is ahead of Azure's, in seconds; below zero if it is behind. Of several answers the
    /// farthest.
    skew: Option<i64>,
}

impl<'a> Run<'a> {
    fn new(report: Report<'a>, azure: &'a AzureKeys, now: Timestamp) -> Run<'a> {
        let start = Instant::now();
        let (stage, slowest) = (("the way to Azure", start), ("the way to Azure", Duration::ZERO));
        Run {
            report,
            azure,
            in_use: &[],
            with_trial: true,
            start,
            now,
            stage,
            slowest,
            receipts: Vec::new(),
            skew: None,
        }
    }

    /// Begins a stage, unless the time is up: then its first line says so, and the rest is not looked at.
    fn begin(&mut self, line: &'static str, stage: &'static str) -> Option<()> {
        let took = self.stage.1.elapsed();
        if took > self.slowest.1 {
            self.slowest = (self.stage.0, took);
        }
        self.stage = (stage, Instant::now());
        if self.limit(WHOLE) >= LEAST {
            return Some(());
        }
        self.report.add(self.out_of_time(line));
        None
    }

    fn out_of_time(&self, line: &'static str) -> CheckLine {
        let (slowest, took) = self.slowest;
        let cause = format!("The 15 s of a check are over: {slowest} took {:.1} s of them.", took.as_secs_f64());
        let advice = "See why that takes so long, and check again.";
        CheckLine::new(line, CheckStatus::CouldNotCheck).because("check.out_of_time", cause).advise(advice, None)
    }

    /// What time it is at Azure, as far as its answers told; else by this server's clock.
    fn azure_now(&self) -> Timestamp {
        let skew = jiff::SignedDuration::from_secs(self.skew.unwrap_or_default());
        self.now.checked_sub(skew).unwrap_or(self.now)
    }

    fn of(&self) -> Of {
        if self.in_use.is_empty() { Of::NewVault } else { Of::Vault }
    }

    /// When a stage that begins now must be over.
    fn end_of(&self, share: Duration) -> Instant {
        (Instant::now() + share).min(self.start + WHOLE)
    }

    /// What is left to a stage of this share.
    fn limit(&self, share: Duration) -> Duration {
        self.end_of(share).saturating_duration_since(Instant::now())
    }

    fn saw(&mut self, receipts: &Receipts) {
        self.receipts.extend(receipts.iter().cloned());
    }

    /// Compares this server's clock with the `Date` of an answer that came just now.
    fn saw_date(&mut self, date: Option<Timestamp>) {
        let Some(date) = date else { return };
        let elapsed = i64::try_from(self.start.elapsed().as_secs()).unwrap_or_default();
        let skew = self.now.as_second() + elapsed - date.as_second();
        if self.skew.is_none_or(|known| known.abs() < skew.abs()) {
            self.skew = Some(skew);
        }
    }

    /// `Some` as long as nothing has failed.
    fn go_on(&self) -> Option<()> {
        (!self.report.failed).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azure::AzureConfig;

    #[tokio::test]
    async fn a_stage_without_time_is_not_blamed_on_azure() {
        let azure = AzureKeys::new(&AzureConfig::default()).expect("a configuration");
        let mut run = Run::new(Report::new(&|_| ()), &azure, Timestamp::UNIX_EPOCH);
        assert!(run.begin("sign_in", "the sign-in").is_some());
        run.start -= Duration::from_secs(14);
        run.stage.1 -= Duration::from_secs(6);
        assert!(run.begin("key.wrap", "wrapping").is_none());
        let lines = run.report.finish();
        let of = |code: &str| lines.iter().find(|line| line.code == code).expect(code);
        let line = of("key.wrap");
        assert_eq!((line.status, line.reason), (CheckStatus::CouldNotCheck, Some("check.out_of_time")));
        assert!(line.cause.as_deref().is_some_and(|cause| cause.contains("the sign-in took 6.0 s")), "{line:?}");
        assert_eq!(of("key.compare").status, CheckStatus::Skipped);
    }
}

//! Signing in, and what the token says of itself.

use jiff::Timestamp;
use uuid::Uuid;

use super::{ANSWER, CheckLine, CheckStatus, Run};
use crate::azure::probe::{Claims, SignedIn, Told};
use crate::azure::{AzureAccess, AzureProvider};

/// Azure lets clocks differ by 5 minutes; this much is worth a warning.
const MOST_SKEW: i64 = 120;

/// Key Vault's own application id, which some tokens name instead of its URL.
const KEY_VAULT: &str = "cfa8b339-82a2-471a-a3c9-0fc0be7a4093";

pub(super) async fn check(run: &mut Run<'_>, provider: &AzureProvider) -> Option<SignedIn> {
    let access = provider.access();
    let told = match provider.sign_in(run.limit(ANSWER)).await {
        Ok(told) => told,
        Err(failure) => {
            run.failure("sign_in", &failure, access, None);
            return None;
        }
    };
    run.saw(&told.receipts);
    run.saw_date(told.date);
    run.report.passed("sign_in", told.receipt());
    claims(run, &told, access, &run.azure.cloud().vault_resource());
    clock(run);
    run.go_on()?;
    Some(told.value)
}

fn claims(run: &mut Run<'_>, told: &Told<SignedIn>, access: &AzureAccess, resource: &str) {
    const LINE: &str = "token.claims";
    let Some(claims) = &told.value.claims else {
        let cause = "The token is not in the form in which its claims can be read.";
        let line = CheckLine::new(LINE, CheckStatus::CouldNotCheck).because("token.unreadable", cause);
        return run.report.add(line);
    };
    // By Azure's clock only: whether ours is right is a line of its own.
    let found = misfit(claims, access, resource).or_else(|| out_of_time(claims, told.date?.as_second()));
    let Some((reason, cause)) = found else {
        let cause = format!("The application's object id is {}.", object_id(claims).unwrap_or_default());
        return run.report.add(CheckLine::new(LINE, CheckStatus::Pass).noting(cause));
    };
    let advice = "Look for a gateway between this server and Azure that answers in Microsoft Entra's place; report this \
                  with Azure's request id if there is none.";
    let line = CheckLine::new(LINE, CheckStatus::Fail).seen_in(told.receipt());
    run.report.add(line.because(reason, cause).advise(advice, None));
}

fn misfit(claims: &Claims, access: &AzureAccess, resource: &str) -> Option<(&'static str, String)> {
    let differs = |told: &str, wanted: &str| !told.trim_end_matches('/').eq_ignore_ascii_case(wanted);
    if differs(&claims.tid, &access.tenant.to_string()) {
        return Some(("token.tenant", format!("The token is of tenant {}, not {}.", claims.tid, access.tenant)));
    }
    if differs(&claims.appid, &access.client.to_string()) {
        let cause = format!("The token is of application {}, not {}.", claims.appid, access.client);
        return Some(("token.application", cause));
    }
    (differs(&claims.aud, resource) && differs(&claims.aud, KEY_VAULT))
        .then(|| ("token.audience", format!("The token is for {}, not for {resource}.", claims.aud)))
}

fn out_of_time(claims: &Claims, now: i64) -> Option<(&'static str, String)> {
    let at = |second: i64| Timestamp::from_second(second).map_or_else(|_| second.to_string(), |at| at.to_string());
    if claims.exp <= now {
        let cause = format!("The token ended {}, and it was {} when Microsoft Entra gave it.", at(claims.exp), at(now));
        return Some(("token.expired", cause));
    }
    // The five minutes that Azure allows.
    (claims.nbf > now + 300)
        .then(|| ("token.not_yet_valid", format!("The token begins {}, and it is {} now.", at(claims.nbf), at(now))))
}

fn clock(run: &mut Run<'_>) {
    const LINE: &str = "token.clock";
    let Some(skew) = run.skew else {
        let cause = "Azure's answers do not say what time it is there.";
        let line = CheckLine::new(LINE, CheckStatus::CouldNotCheck);
        return run.report.add(line.because("clock.no_date", cause));
    };
    if skew.abs() <= MOST_SKEW {
        return run.report.add(CheckLine::new(LINE, CheckStatus::Pass).noting(skew_words(skew)));
    }
    let line = CheckLine::new(LINE, CheckStatus::Warn).because("clock.skew", skew_words(skew));
    let advice = "Let this server set its clock by NTP. Azure refuses certificates and federated tokens when clocks \
                  differ by more than 5 minutes.";
    run.report.add(line.advise(advice, Some("timedatectl set-ntp true".to_owned())));
}

pub(super) fn is_skewed(skew: i64) -> bool {
    skew.abs() > MOST_SKEW
}

pub(super) fn skew_words(skew: i64) -> String {
    match skew {
        -1..=1 => "This server's clock agrees with Azure's to the second.".to_owned(),
        2.. => format!("This server's clock is {} ahead of Azure's.", span(skew)),
        _ => format!("This server's clock is {} behind Azure's.", span(-skew)),
    }
}

fn span(seconds: i64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..7200 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// The service principal's object id, which role assignments name.
pub(super) fn object_id(claims: &Claims) -> Option<String> {
    Uuid::try_parse(&claims.oid).ok().map(|id| id.to_string())
}

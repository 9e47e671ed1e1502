//! One line of the check, and the report that tells the lines in their order, each as soon as it is known.

use std::time::Duration;

use crate::azure::{AzureAccess, command};
use crate::{Code, InputError, KeyFailure, Kid, Receipt};

use super::{LINES, REASONS};

/// One line of the check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckLine {
    /// Stable, as in `key.enabled`.
    pub code: &'static str,
    pub title: &'static str,
    pub status: CheckStatus,
    /// The stable code of what went wrong, as in `key.disabled`.
    pub reason: Option<&'static str>,
    /// What is wrong, in plain words; where nothing is, what was seen, if that is worth a word.
    pub cause: Option<String>,
    /// What to do, with the exact command at the end of its first line where there is one. Each further command has a line
    /// of its own.
    pub fix: Option<String>,
    /// That command alone.
    pub command: Option<String>,
    /// Time that Azure took for what this line looks at, in milliseconds; 0 for lines that need no request.
    pub ms: u64,
    pub azure_request_id: Option<String>,
}

/// What is checked, which decides what can be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// A vault that is to be made: nothing was seen to work yet.
    NewVault,
    /// A vault that exists.
    Vault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CheckStatus {
    Pass,
    Warn,
    Fail,
    /// Not looked at: an earlier line failed, the time was up, or it has no meaning here.
    Skipped,
    /// Azure did not say, or was not asked in time.
    CouldNotCheck,
}

impl CheckStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            CheckStatus::Pass => "pass",
            CheckStatus::Warn => "warn",
            CheckStatus::Fail => "fail",
            CheckStatus::Skipped => "skipped",
            CheckStatus::CouldNotCheck => "could_not_check",
        }
    }
}

impl CheckLine {
    pub(super) fn new(code: &'static str, status: CheckStatus) -> CheckLine {
        CheckLine {
            code,
            title: LINES.iter().find(|(known, _)| *known == code).map_or(code, |(_, title)| title),
            status,
            reason: None,
            cause: None,
            fix: None,
            command: None,
            ms: 0,
            azure_request_id: None,
        }
    }

    pub(super) fn because(mut self, reason: &'static str, cause: impl Into<String>) -> CheckLine {
        self.reason = Some(reason);
        self.cause = Some(cause.into());
        self
    }

    /// With what was seen, where that is worth a word though nothing is wrong.
    pub(super) fn noting(mut self, seen: impl Into<String>) -> CheckLine {
        self.cause = Some(seen.into()).filter(|seen| !seen.is_empty());
        self
    }

    /// With one more sentence to the cause.
    pub(super) fn adding(mut self, sentence: &str) -> CheckLine {
        let cause = self.cause.unwrap_or_default();
        let end = if cause.ends_with(['.', '…']) { " " } else { ". " };
        self.cause = Some(format!("{cause}{end}{sentence}"));
        self
    }

    pub(super) fn failed(
        code: &'static str,
        failure: &KeyFailure,
        access: &AzureAccess,
        kid: Option<&Kid>,
        of: Of,
    ) -> CheckLine {
        let cause = match failure.detail.as_str() {
            "" => format!("{}.", failure.code.title()),
            detail => format!("{}: {detail}", failure.code.title()),
        };
        let mut line = CheckLine::new(code, CheckStatus::Fail)
            .because(failure.code.as_str(), cause)
            .mending(failure, access, kid, of);
        line.ms = millis(failure.receipts.iter().map(|receipt| receipt.latency).sum());
        line.azure_request_id = failure.azure_request_id.clone();
        if failure.facts.access_policies {
            line = line.adding("This Key Vault works by access policies, so role assignments have no effect on it.");
        }
        match (failure.code, kid) {
            (Code::BadParameter, Some(kid)) => line.adding(&format!("The key version is {kid}.")),
            (Code::UnknownClient, _) => line.adding(&format!("Tenant {} was asked.", access.tenant)),
            _ => line,
        }
    }

    fn mending(self, failure: &KeyFailure, access: &AzureAccess, kid: Option<&Kid>, of: Of) -> CheckLine {
        let unseen =
            failure.code == Code::AccessRemoved && !failure.facts.access_policies && self.code == "key.readable";
        match of {
            Of::Vault if failure.code.needs_other_credential() => self.advise(failure.fix_of_vault(), None),
            Of::NewVault if unseen => self.name_or_role(failure, access),
            _ => self.advise(failure.fix(), command(failure, access, kid)),
        }
    }

    /// Where the role is on the one key, Azure gives the same answer about a key that does not exist.
    fn name_or_role(mut self, failure: &KeyFailure, access: &AzureAccess) -> CheckLine {
        let (vault, key) = (access.vault_url.vault_name(), &access.key_name);
        let seen = format!(
            "Azure does not let this application read a key named {key}: either the name is wrong or the role is missing"
        );
        self.cause = Some(match failure.detail.as_str() {
            "" => format!("{seen}."),
            detail => format!("{seen}: {detail}"),
        });
        let list = format!("az keyvault key list --vault-name {vault} --query \"[].name\" --output tsv");
        let line = self.advise("Look whether the Key Vault has a key of this name.", Some(list));
        match command(failure, access, None) {
            Some(assign) => {
                line.advising(&format!("If it has, assign the role, which takes up to 10 minutes:\n{assign}"))
            }
            None => line,
        }
    }

    /// With what to do after the command, on lines of its own.
    pub(super) fn advising(mut self, more: &str) -> CheckLine {
        let fix = self.fix.unwrap_or_default();
        self.fix = Some(format!("{fix}\n{more}"));
        self
    }

    pub(super) fn advise(mut self, advice: &str, command: Option<String>) -> CheckLine {
        self.fix = Some(match &command {
            Some(command) => format!("{advice} Run: {command}"),
            None => advice.to_owned(),
        });
        self.command = command;
        self
    }

    /// With the time and Azure's id of the request that showed it.
    pub(super) fn seen_in(mut self, receipt: Option<&Receipt>) -> CheckLine {
        self.ms = receipt.map_or(0, |receipt| millis(receipt.latency));
        self.azure_request_id = receipt.and_then(|receipt| receipt.azure_request_id.clone());
        self
    }
}

/// Takes lines as they become known and tells them in the order of [`LINES`].
pub(super) struct Report<'a> {
    tell: &'a (dyn Fn(&CheckLine) + Send + Sync),
    known: Vec<Option<CheckLine>>,
    told: usize,
    /// Whether a line has failed.
    pub failed: bool,
}

impl<'a> Report<'a> {
    pub fn new(tell: &'a (dyn Fn(&CheckLine) + Send + Sync)) -> Report<'a> {
        Report { tell, known: LINES.iter().map(|_| None).collect(), told: 0, failed: false }
    }

    pub fn add(&mut self, line: CheckLine) {
        self.failed |= line.status == CheckStatus::Fail;
        debug_assert!(line.reason.is_none_or(|reason| is_known(line.code, reason)), "{line:?}");
        let place = LINES.iter().position(|(code, _)| *code == line.code).expect("every line of the check is in LINES");
        self.known[place] = Some(line);
        while let Some(Some(line)) = self.known.get(self.told) {
            (self.tell)(line);
            self.told += 1;
        }
    }

    pub fn pass(&mut self, code: &'static str) {
        self.add(CheckLine::new(code, CheckStatus::Pass));
    }

    pub fn passed(&mut self, code: &'static str, receipt: Option<&Receipt>) {
        self.add(CheckLine::new(code, CheckStatus::Pass).seen_in(receipt));
    }

    pub fn parsed<T>(&mut self, code: &'static str, parsed: Result<T, InputError>) -> Option<T> {
        match parsed {
            Ok(value) => {
                self.pass(code);
                Some(value)
            }
            Err(error) => {
                self.input(code, error);
                None
            }
        }
    }

    pub fn input(&mut self, code: &'static str, error: InputError) {
        self.add(CheckLine::new(code, CheckStatus::Fail).because(error.code, error.cause).advise(&error.fix, None));
    }

    /// Every line once, in order; those not reached are skipped.
    pub fn finish(mut self) -> Vec<CheckLine> {
        for (place, (code, _)) in LINES.iter().enumerate() {
            if self.known[place].is_none() {
                self.add(CheckLine::new(code, CheckStatus::Skipped));
            }
        }
        self.known.into_iter().flatten().collect()
    }
}

/// Whether `docs/checks.md` has the reason for this line.
fn is_known(line: &str, reason: &str) -> bool {
    line.starts_with("form.")
        || line.starts_with("host.")
        || REASONS.iter().any(|(code, known, _)| (*code == line || *code == "any") && *known == reason)
        || Code::ALL.iter().any(|code| code.as_str() == reason)
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

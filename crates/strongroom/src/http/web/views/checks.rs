//! The checks of a key, as the wizard and the page of a vault show them: whole, or one row after the other.

use std::time::Duration;

use askama::Template;

use super::filters;

/// The panel. Without rows it says what pressing *Check* will do.
#[derive(Template)]
#[template(path = "settings/checks.html")]
pub struct Checks {
    pub place: Place,
    /// How many checks there are.
    pub total: usize,
    pub rows: Vec<CheckRow>,
    /// From the first to the last; None before they ran.
    pub took: Option<Duration>,
}

/// Where the panel stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Between *Next* and *Create vault*: warnings have to be ticked.
    Wizard,
    /// Before the credential of a vault, or where its key is, is changed: the same.
    Change,
    /// On the page of a vault that there is.
    Vault,
}

impl Place {
    /// Whether something is entered beside it.
    fn asks(self) -> bool {
        self != Self::Vault
    }
}

/// What checks are about, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    Values,
    Way,
    SignIn,
    Key,
    Trial,
    Outlook,
}

impl Group {
    pub const ALL: [Self; 6] = [Self::Values, Self::Way, Self::SignIn, Self::Key, Self::Trial, Self::Outlook];

    /// Of a line's stable code.
    pub fn of(code: &str) -> Self {
        match (code.split('.').next().unwrap_or_default(), code) {
            ("form" | "host", _) => Self::Values,
            ("net" | "proxy" | "tls" | "reach", _) => Self::Way,
            ("tenant" | "sign_in" | "token", _) => Self::SignIn,
            (_, "key.wrap" | "key.unwrap" | "key.compare") => Self::Trial,
            (_, "key.recovery" | "key.versions") => Self::Outlook,
            ("key", _) => Self::Key,
            _ => Self::Outlook,
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::Values => "The values",
            Self::Way => "The way to Azure",
            Self::SignIn => "Sign-in",
            Self::Key => "The key",
            Self::Trial => "A trial",
            Self::Outlook => "What may go wrong later",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::Values => "the form of each value, and whether the host is a Key Vault",
            Self::Way => "names, connections, the proxy, who vouches for TLS",
            Self::SignIn => "the tenant, the credential, what the token says",
            Self::Key => "there and readable, its type, size, operations and dates",
            Self::Trial => "a throwaway value is wrapped, unwrapped and compared",
            Self::Outlook => "rights beyond the needed, purge protection, expiry, limits",
        }
    }
}

/// One check of a key.
#[derive(Template)]
#[template(path = "settings/check.html")]
pub struct CheckRow {
    /// The stable code, as in the API.
    pub code: String,
    /// What was checked: "Signed in".
    pub label: String,
    pub status: CheckStatus,
    /// On the first row of one.
    pub group: Option<Group>,
    /// Whether it is the first that failed, so what stopped the rest.
    pub is_cause: bool,
    pub cause: Option<String>,
    /// What to do, in words.
    pub fix: Option<String>,
    pub command: Option<String>,
    /// None where nothing had to be asked.
    pub ms: Option<u64>,
    pub azure_request_id: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckStatus {
    Pass,
    Warn,
    Fail,
    /// Not tried, because something before it failed or because it has no meaning here.
    Skipped,
    /// Could not be asked; legal, and said.
    Unknown,
}

impl Checks {
    pub fn count(&self, wanted: CheckStatus) -> usize {
        self.rows.iter().filter(|row| row.status == wanted).count()
    }

    fn rows_with(&self, wanted: CheckStatus) -> Vec<&CheckRow> {
        self.rows.iter().filter(|row| row.status == wanted).collect()
    }

    fn shown(&self) -> impl Iterator<Item = &CheckRow> {
        self.rows.iter().filter(|row| row.status != CheckStatus::Skipped)
    }

    /// The worst of all rows.
    pub fn worst(&self) -> CheckStatus {
        let order = [CheckStatus::Fail, CheckStatus::Warn];
        order.into_iter().find(|status| self.count(*status) > 0).unwrap_or(CheckStatus::Pass)
    }

    /// What came of them, in a sentence.
    pub fn verdict(&self) -> String {
        match (self.worst(), self.place) {
            (CheckStatus::Fail, Place::Wizard) => "This key cannot be used yet. Nothing was saved.".to_owned(),
            (CheckStatus::Fail, Place::Change) => "This does not work yet. Nothing was changed.".to_owned(),
            (CheckStatus::Fail, Place::Vault) => "Something is wrong with this key.".to_owned(),
            (CheckStatus::Warn, _) => match self.count(CheckStatus::Warn) {
                1 => "It works, with one warning.".to_owned(),
                count => format!("It works, with {count} warnings."),
            },
            (_, Place::Wizard) => "Everything works. The vault can be created.".to_owned(),
            (_, Place::Change) => "Everything works. It can be changed.".to_owned(),
            (_, Place::Vault) => "Everything works.".to_owned(),
        }
    }

    /// "31 checks in 0.8 s: 1 failed, 12 passed, 18 not tried".
    pub fn summary(&self) -> String {
        let parts = [
            (CheckStatus::Fail, "failed"),
            (CheckStatus::Warn, "with a warning"),
            (CheckStatus::Pass, "passed"),
            (CheckStatus::Unknown, "could not be made"),
            (CheckStatus::Skipped, self.skipped_word()),
        ];
        let told = parts.iter().map(|(status, how)| (self.count(*status), how));
        let told: Vec<_> = told.filter(|(count, _)| *count > 0).map(|(count, how)| format!("{count} {how}")).collect();
        let took = match self.took {
            Some(took) if took.as_millis() < 100 => format!(" in {} ms", took.as_millis()),
            Some(took) => format!(" in {:.1} s", took.as_secs_f64()),
            None => String::new(),
        };
        format!("{} checks{took}: {}", self.rows.len(), told.join(", "))
    }

    fn skipped_word(&self) -> &'static str {
        if self.count(CheckStatus::Fail) > 0 { "not tried" } else { "not needed here" }
    }

    fn needs_tick(&self) -> bool {
        self.place.asks() && self.worst() == CheckStatus::Warn
    }
}

impl CheckStatus {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pass => "Passed",
            Self::Warn => "Warning",
            Self::Fail => "Failed",
            Self::Skipped => "Not tried",
            Self::Unknown => "Not known",
        }
    }

    pub fn class(&self) -> &'static str {
        match self {
            Self::Pass => "ok",
            Self::Warn => "warn",
            Self::Fail => "bad",
            Self::Skipped | Self::Unknown => "plain",
        }
    }

    pub fn icon(&self) -> &'static str {
        match self {
            Self::Pass => "circle-check",
            Self::Warn => "triangle-alert",
            Self::Fail => "circle-x",
            Self::Skipped | Self::Unknown => "circle-dashed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(status: CheckStatus) -> CheckRow {
        CheckRow {
            code: "key.readable".into(),
            label: "Key is there".into(),
            status,
            group: None,
            is_cause: status == CheckStatus::Fail,
            cause: Some("It is <not> there.".into()),
            fix: None,
            command: Some("az keyvault key recover --name k".into()),
            ms: Some(12),
            azure_request_id: None,
        }
    }

    fn panel(place: Place, statuses: &[CheckStatus]) -> Checks {
        let rows: Vec<_> = statuses.iter().map(|status| row(*status)).collect();
        Checks { place, total: rows.len(), rows, took: Some(Duration::from_millis(840)) }
    }

    #[test]
    fn the_summary_counts_what_came_of_each_check() {
        use CheckStatus::{Fail, Pass, Skipped, Unknown};
        let failed = panel(Place::Wizard, &[Pass, Pass, Fail, Skipped]);
        assert_eq!(failed.summary(), "4 checks in 0.8 s: 1 failed, 2 passed, 1 not tried");
        let passed = panel(Place::Wizard, &[Pass, Skipped, Unknown]);
        assert_eq!(passed.summary(), "3 checks in 0.8 s: 1 passed, 1 could not be made, 1 not needed here");
    }

    #[test]
    fn only_the_wizard_asks_to_tick_warnings_and_only_where_nothing_failed() {
        use CheckStatus::{Fail, Pass, Warn};
        let ticks = |place, statuses: &[CheckStatus]| {
            panel(place, statuses).render().expect("it renders").contains("accept_warnings")
        };
        assert!(ticks(Place::Wizard, &[Pass, Warn]));
        assert!(!ticks(Place::Wizard, &[Pass, Pass]));
        assert!(!ticks(Place::Wizard, &[Warn, Fail]));
        assert!(!ticks(Place::Vault, &[Pass, Warn]));
    }

    #[test]
    fn every_line_of_the_check_stands_in_a_group_and_groups_do_not_mix() {
        let mut groups: Vec<Group> = strongroom_keys::check::LINES.iter().map(|(code, _)| Group::of(code)).collect();
        groups.dedup();
        assert_eq!(groups, Group::ALL);
    }

    #[test]
    fn what_azure_said_is_text_and_never_markup() {
        let html = row(CheckStatus::Fail).render().expect("it renders");
        assert!(html.contains("It is &#60;not&#62; there.") && !html.contains("<not>"), "{html}");
    }
}

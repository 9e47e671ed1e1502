//! How pages tell of a vault whose key does not answer: everywhere the same words.
//!
//! What happened and the command that mends it come from the one table in `strongroom_keys`, through
//! [`KeyUnavailable`]; the API and the command line print the same. Here is what only pages add: who can mend it, what happens next, and what is safe meanwhile.

use askama::Template;
use strongroom_keys::{ACCESS_POLICY, Code};

use super::{Moment, Tone, filters};
use crate::counted::counted;
use crate::error::{KeyUnavailable, Unavailable, state_of};

/// What is safe while a key does not answer.
pub const SAFE: [&str; 3] = [
    "Nothing is lost: every item lies here as ciphertext, and trash and history wait too.",
    "Other vaults go on as before, and so does everyone’s sign-in.",
    "As soon as Azure allows the key again, everything is back, within seconds.",
];

/// Why a vault cannot be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cause {
    pub class: Unavailable,
    /// None for a code that this build does not know, which another node may have written.
    pub code: Option<Code>,
}

impl Cause {
    /// The cause of a stable code such as `key.disabled`.
    pub fn new(class: Unavailable, code: &str) -> Self {
        Self { class, code: Code::of(code) }
    }

    /// The vault's state in two or three words, the same everywhere.
    pub fn chip(&self) -> &'static str {
        state_of(self.class, self.code).label()
    }

    /// Who can mend it: the role, and where.
    pub fn who(&self) -> &'static str {
        use Code as C;
        match (self.class, self.code) {
            (Unavailable::Disabled, _) => "An Owner, Super Admin or Admin of this workspace.",
            (Unavailable::Fault, _) => "Whoever runs this server. Please leave the key as it is meanwhile.",
            (Unavailable::Outage, Some(C::Throttled | C::Unavailable)) => "Nobody has to: Strongroom keeps asking.",
            (Unavailable::Outage, Some(C::NotAnnounced)) => "Whoever runs this server and its database.",
            (Unavailable::Outage, _) => "Whoever runs this server and its network.",
            (_, Some(C::AccessRemoved)) => {
                "Owner, User Access Administrator or Role Based Access Control Administrator on the Key Vault."
            }
            (_, Some(C::Firewall)) => "Contributor or Key Vault Contributor on the Key Vault.",
            (
                _,
                Some(
                    C::SecretWrong
                    | C::SecretExpired
                    | C::CertificateRefused
                    | C::CertificateExpired
                    | C::NoFederation
                    | C::ApplicationDisabled
                    | C::NoServicePrincipal
                    | C::UnknownClient
                    | C::TokenRefused,
                ),
            ) => "An owner of the app registration, or an Application Administrator in Microsoft Entra ID.",
            (_, Some(C::SignInBlocked)) => "A Conditional Access Administrator in Microsoft Entra ID.",
            (_, Some(C::TenantMismatch | C::UnknownTenant)) => {
                "Whoever manages the tenant and the Key Vault’s subscription in Azure."
            }
            _ => "Key Vault Crypto Officer or Key Vault Administrator on the Key Vault.",
        }
    }

    /// What happens afterwards.
    pub fn then(&self) -> &'static str {
        use Code as C;
        match (self.class, self.code) {
            (Unavailable::Disabled, _) => "Its items can be read again at once.",
            (Unavailable::Fault, _) => "Nothing was overwritten. Keep the request id below and the server’s log.",
            (Unavailable::Dark, Some(C::SecretWrong | C::SecretExpired | C::CertificateExpired)) => {
                "Once the vault has a credential that Microsoft Entra takes, Strongroom opens it by itself, within seconds."
            }
            (Unavailable::Dark, Some(C::AccessRemoved)) => {
                "Azure may take up to 10 minutes to apply it. Strongroom asks every 5 seconds and opens the vault by itself."
            }
            _ => "Strongroom asks every 5 seconds and opens the vault by itself.",
        }
    }

    pub fn tone(&self) -> Tone {
        match self.class {
            Unavailable::Dark | Unavailable::Disabled => Tone::Night,
            Unavailable::Outage => Tone::Warn,
            Unavailable::Fault => Tone::Bad,
        }
    }

    pub fn icon(&self) -> &'static str {
        use Code as C;
        match (self.class, self.code) {
            (Unavailable::Fault, _) => "triangle-alert",
            (Unavailable::Outage, Some(C::Throttled)) | (_, Some(C::SecretExpired | C::KeyExpired)) => "clock",
            (Unavailable::Outage, _) => "unplug",
            (_, Some(C::KeyDeleted | C::KeyNotFound | C::UnknownClient)) => "trash-2",
            (_, Some(C::KeyDisabled)) | (_, None) => "lock",
            _ => "ban",
        }
    }

    /// For machines: in `data-` attributes and the event stream.
    fn word(&self) -> &'static str {
        self.code.map_or("unavailable", Code::as_str)
    }
}

/// How a vault is, as shown everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VaultState {
    Healthy,
    /// Works, and something needs care soon.
    Warning,
    /// Not asked yet since the server started.
    Checking,
    Stopped(Cause),
}

impl VaultState {
    pub fn word(&self) -> &'static str {
        match self {
            // One word for the three that serve items: going from one to another is no reason to load a page again.
            Self::Healthy | Self::Warning | Self::Checking => "open",
            Self::Stopped(cause) => cause.word(),
        }
    }

    pub fn chip(&self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Warning => "Warning",
            Self::Checking => "Not used yet",
            Self::Stopped(cause) => cause.chip(),
        }
    }

    pub fn tone(&self) -> Tone {
        match self {
            Self::Healthy => Tone::Ok,
            Self::Warning => Tone::Warn,
            Self::Checking => Tone::Plain,
            Self::Stopped(cause) => cause.tone(),
        }
    }

    pub fn icon(&self) -> &'static str {
        match self {
            Self::Healthy => "circle-check",
            Self::Warning => "triangle-alert",
            Self::Checking => "circle-dashed",
            Self::Stopped(cause) => cause.icon(),
        }
    }

    pub fn stopped(&self) -> Option<Cause> {
        match self {
            Self::Stopped(cause) => Some(*cause),
            _ => None,
        }
    }
}

/// A vault that cannot be opened: shown in place of its items.
#[derive(Clone, Template)]
#[template(path = "parts/dark.html")]
pub struct DarkPanel {
    pub vault_id: String,
    pub vault_name: String,
    /// How many of its items the reader could see.
    pub items: u64,
    pub cause: Cause,
    /// What happened, from the one table.
    pub title: String,
    /// The cause in this very case: Azure's words, a host, an address.
    pub detail: String,
    /// A command, or where none mends it, what to do.
    pub fix: String,
    pub since: Moment,
    /// Of a deleted key: the day, about.
    pub recoverable_until: Option<Moment>,
    /// Azure's own id of the request that was refused.
    pub azure_request_id: Option<String>,
    /// One line that opens on a click (lists), or all of it at once (the page of an item or a vault).
    pub folded: bool,
    /// Whether the reader may see the vault's own page.
    pub can_manage: bool,
}

impl DarkPanel {
    /// The panel of `why`, for `items` items of that vault; `since` and `recoverable_until` are those of `why` in the
    /// reader's words.
    pub fn of(why: &KeyUnavailable, items: u64, since: Moment, recoverable_until: Option<Moment>) -> Self {
        Self {
            vault_id: why.vault.to_string(),
            vault_name: why.vault_name.clone(),
            items,
            cause: Cause::new(why.class, &why.code),
            title: why.title.clone(),
            detail: why.detail.clone(),
            fix: why.fix.clone(),
            since,
            recoverable_until,
            azure_request_id: why.azure_request_id.clone(),
            folded: true,
            can_manage: false,
        }
    }

    /// "12 items are dark", "1 item is dark", "12 items wait for Azure".
    pub fn headline(&self) -> String {
        headline(self.items, self.cause.class)
    }

    fn command(&self) -> Option<&str> {
        self.fix.starts_with("az ").then_some(&self.fix)
    }

    /// What to do, in words; beside a command, what the command does.
    fn in_words(&self) -> &str {
        match (self.command(), self.cause.code) {
            (None, _) => &self.fix,
            (Some(command), _) if command.starts_with("az keyvault set-policy ") => ACCESS_POLICY,
            (Some(_), Some(code)) => code.fix_of_vault(),
            (Some(_), None) => "",
        }
    }
}

/// What has become of so many items, in four words.
pub fn headline(items: u64, class: Unavailable) -> String {
    let (none, one, many) = match class {
        Unavailable::Dark => ("This vault is dark", "is dark", "are dark"),
        Unavailable::Outage => ("This vault waits for Azure", "waits for Azure", "wait for Azure"),
        Unavailable::Disabled => ("This vault is disabled", "is in a disabled vault", "are in a disabled vault"),
        Unavailable::Fault => ("This vault is held back", "is held back", "are held back"),
    };
    match items {
        0 => none.to_owned(),
        1 => format!("{} {one}", counted(1, "item")),
        _ => format!("{} {many}", counted(items, "item")),
    }
}

#[cfg(test)]
mod tests {
    use crate::id::VaultId;

    use super::*;

    #[test]
    fn every_code_of_the_table_is_known_by_its_stable_form() {
        for &code in Code::ALL {
            assert_eq!(Cause::new(Unavailable::Dark, code.as_str()).code, Some(code));
        }
    }

    #[test]
    fn a_code_that_only_another_node_knows_still_gets_words() {
        let cause = Cause::new(Unavailable::Outage, "azure.on_holiday");
        assert_eq!((cause.chip(), cause.word()), ("Unreachable", "unavailable"));
    }

    #[test]
    fn the_words_beside_a_command_do_not_contradict_it() {
        let why = |fix: &str| KeyUnavailable {
            vault: VaultId(uuid::Uuid::nil()),
            vault_name: "Finance".into(),
            class: Unavailable::Dark,
            code: Code::AccessRemoved.as_str().into(),
            title: Code::AccessRemoved.title().into(),
            detail: String::new(),
            fix: fix.into(),
            since: jiff::Timestamp::UNIX_EPOCH,
            recoverable_until: None,
            azure_request_id: None,
        };
        let words = |fix: &str| DarkPanel::of(&why(fix), 1, Moment::default(), None).in_words().to_owned();
        assert!(words("az keyvault set-policy --name kv").contains("access policy"));
        assert!(words("az role assignment create --role x").starts_with("Assign the role"));
    }

    #[test]
    fn headlines_count_and_agree_in_number() {
        assert_eq!(headline(1, Unavailable::Dark), "1 item is dark");
        assert_eq!(headline(12, Unavailable::Dark), "12 items are dark");
        assert_eq!(headline(1204, Unavailable::Outage), "1,204 items wait for Azure");
        assert_eq!(headline(0, Unavailable::Dark), "This vault is dark");
    }
}

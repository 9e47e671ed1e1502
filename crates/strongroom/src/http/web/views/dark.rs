//! The words for keys that do not answer. Every page, notice and API answer takes them from here, so that a cause
//! reads the same everywhere.
//!
//! Three classes, which promise different things:
//! - *denial*: Azure refuses the key. The vault is **dark**: nothing of it is served until Azure allows it again.
//! - *outage*: Azure cannot be asked. What is under a lease goes on until its end, then waits.
//! - *fault*: Azure answered something that must not be trusted. Nothing new is served, nothing is overwritten.

use askama::Template;

use super::{Moment, Tone, filters};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    Denial,
    Outage,
    Fault,
}

/// Why a vault's key does not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    KeyDisabled,
    AccessRemoved,
    KeyDeleted,
    OperationRemoved,
    CredentialRefused,
    CredentialExpired,
    AppRemoved,
    WrongTenant,
    Blocked,
    Throttled,
    Unreachable,
    Fault,
}

/// Every cause, for tests and for the glossary.
pub const CAUSES: [Cause; 12] = [
    Cause::KeyDisabled,
    Cause::AccessRemoved,
    Cause::KeyDeleted,
    Cause::OperationRemoved,
    Cause::CredentialRefused,
    Cause::CredentialExpired,
    Cause::AppRemoved,
    Cause::WrongTenant,
    Cause::Blocked,
    Cause::Throttled,
    Cause::Unreachable,
    Cause::Fault,
];

/// The names that the commands need. All have passed the checks of the vault form, so none needs quoting.
#[derive(Clone, Default)]
pub struct KeyNames {
    /// `contoso-kv`, the first label of the host.
    pub key_vault: String,
    pub key: String,
    /// 32 hex digits.
    pub key_version: String,
    pub client_id: String,
    pub tenant_id: String,
    /// The address that Azure saw, where its firewall named one.
    pub client_address: Option<String>,
}

impl Cause {
    /// The stable code, as in the API and the audit log.
    pub fn code(self) -> &'static str {
        match self {
            Self::KeyDisabled => "key.disabled",
            Self::AccessRemoved => "key.access_removed",
            Self::KeyDeleted => "key.deleted",
            Self::OperationRemoved => "key.operation_removed",
            Self::CredentialRefused => "credential.refused",
            Self::CredentialExpired => "credential.expired",
            Self::AppRemoved => "credential.app_removed",
            Self::WrongTenant => "credential.wrong_tenant",
            Self::Blocked => "azure.blocked",
            Self::Throttled => "azure.throttled",
            Self::Unreachable => "azure.unreachable",
            Self::Fault => "key.fault",
        }
    }

    /// The cause of a stable code; one that is not known here is a fault, never a guess.
    pub fn from_code(code: &str) -> Self {
        CAUSES.into_iter().find(|cause| cause.code() == code).unwrap_or(Self::Fault)
    }

    pub fn class(self) -> Class {
        match self {
            Self::Throttled | Self::Unreachable => Class::Outage,
            Self::Fault => Class::Fault,
            _ => Class::Denial,
        }
    }

    /// Two or three words, for a chip.
    pub fn chip(self) -> &'static str {
        match self {
            Self::KeyDisabled => "Key disabled",
            Self::AccessRemoved => "Access removed",
            Self::KeyDeleted => "Key deleted",
            Self::OperationRemoved => "Operation removed",
            Self::CredentialRefused => "Credential refused",
            Self::CredentialExpired => "Credential expired",
            Self::AppRemoved => "App removed",
            Self::WrongTenant => "Wrong tenant",
            Self::Blocked => "Blocked by firewall or policy",
            Self::Throttled => "Throttled",
            Self::Unreachable => "Unreachable",
            Self::Fault => "Fault",
        }
    }

    /// What Azure said, in one plain sentence.
    pub fn sentence(self, names: &KeyNames) -> String {
        let KeyNames { key_vault, key, client_id, tenant_id, .. } = names;
        match self {
            Self::KeyDisabled => format!("The key {key} in the Key Vault {key_vault} is switched off."),
            Self::AccessRemoved => {
                format!("Strongroom's service principal has no right to unwrap with the key {key} in {key_vault}.")
            }
            Self::KeyDeleted => format!("The key {key} is no longer in the Key Vault {key_vault}."),
            Self::OperationRemoved => {
                format!("The key {key} in {key_vault} no longer permits the operation unwrapKey.")
            }
            Self::CredentialRefused => {
                format!("Microsoft Entra ID refuses the client secret of the application {client_id}.")
            }
            Self::CredentialExpired => {
                format!("The client secret of the application {client_id} has expired.")
            }
            Self::AppRemoved => {
                format!("Microsoft Entra ID has no application {client_id} in the tenant {tenant_id}.")
            }
            Self::WrongTenant => {
                format!("The Key Vault {key_vault} belongs to another tenant than {tenant_id}.")
            }
            Self::Blocked => match &names.client_address {
                Some(address) => format!("The firewall of {key_vault} refuses this server's address {address}."),
                None => format!("A firewall or an access policy in Azure refuses this server at {key_vault}."),
            },
            Self::Throttled => format!("The Key Vault {key_vault} takes no more requests for the moment."),
            Self::Unreachable => format!("The Key Vault {key_vault} or its sign-in service does not answer."),
            Self::Fault => format!("The key {key} in {key_vault} gave an answer that does not fit what was stored."),
        }
    }

    /// Who can mend it: the role in Azure, and where.
    pub fn who(self, names: &KeyNames) -> String {
        let key_vault = &names.key_vault;
        match self {
            Self::KeyDisabled | Self::KeyDeleted | Self::OperationRemoved => {
                format!("Key Vault Crypto Officer or Key Vault Administrator on {key_vault}")
            }
            Self::AccessRemoved => {
                format!("Owner, User Access Administrator or Role Based Access Control Administrator on {key_vault}")
            }
            Self::CredentialRefused | Self::CredentialExpired | Self::AppRemoved => {
                "The owner of the app registration, or an Application Administrator in Microsoft Entra ID".into()
            }
            Self::WrongTenant => "An Admin of this workspace, who corrects the Tenant ID".into(),
            Self::Blocked => format!("Key Vault Contributor or Contributor on {key_vault}"),
            Self::Throttled => "Nobody needs to: Strongroom asks again by itself".into(),
            Self::Unreachable => "Whoever runs this server and its network".into(),
            Self::Fault => "Whoever runs this server; please do not change the key meanwhile".into(),
        }
    }

    /// The exact command that mends it, or where none can, the one that shows what is wrong.
    pub fn command(self, names: &KeyNames) -> Option<String> {
        let KeyNames { key_vault, key, key_version, client_id, client_address, .. } = names;
        Some(match self {
            Self::KeyDisabled => format!(
                "az keyvault key set-attributes --vault-name {key_vault} --name {key} --version {key_version} --enabled true"
            ),
            Self::AccessRemoved => format!(
                "az role assignment create --assignee {client_id} --role \"Key Vault Crypto Service Encryption User\" --scope \"$(az keyvault show --name {key_vault} --query id --output tsv)/keys/{key}\""
            ),
            Self::KeyDeleted => format!("az keyvault key recover --vault-name {key_vault} --name {key}"),
            Self::OperationRemoved => format!(
                "az keyvault key set-attributes --vault-name {key_vault} --name {key} --version {key_version} --ops wrapKey unwrapKey"
            ),
            Self::CredentialRefused | Self::CredentialExpired => format!(
                "az ad app credential reset --id {client_id} --append --display-name strongroom --query password --output tsv"
            ),
            Self::AppRemoved => format!("az ad app show --id {client_id}"),
            Self::WrongTenant => {
                format!("az keyvault show --name {key_vault} --query properties.tenantId --output tsv")
            }
            Self::Blocked => match client_address {
                Some(address) => format!("az keyvault network-rule add --name {key_vault} --ip-address {address}"),
                None => format!("az keyvault show --name {key_vault} --query properties.networkAcls"),
            },
            Self::Unreachable => {
                format!("curl -sS -o /dev/null -w '%{{http_code}}\\n' https://{key_vault}.vault.azure.net/keys")
            }
            Self::Throttled | Self::Fault => return None,
        })
    }

    /// What to do after the command, or instead of one.
    pub fn then(self) -> &'static str {
        match self {
            Self::KeyDisabled | Self::KeyDeleted | Self::OperationRemoved => {
                "Strongroom asks Azure every 5 seconds and opens the vault again by itself."
            }
            Self::AccessRemoved => {
                "Azure may take up to 10 minutes to apply it. Strongroom asks every 5 seconds and opens the vault again by itself."
            }
            Self::CredentialRefused | Self::CredentialExpired => {
                "Then enter the new client secret on the page of this vault. Nothing needs to be re-encrypted."
            }
            Self::AppRemoved => {
                "Restore it under Microsoft Entra ID › App registrations › Deleted applications (kept for 30 days)."
            }
            Self::WrongTenant => "Enter the tenant that this command prints on the page of this vault.",
            Self::Blocked => {
                "Strongroom asks Azure every 5 seconds and opens the vault again by itself. Under Conditional Access, allow the service principal there."
            }
            Self::Throttled => "Azure counts per Key Vault and 10 seconds. It usually passes within a minute.",
            Self::Unreachable => "401 means that the way is free again. Strongroom keeps asking and goes on by itself.",
            Self::Fault => {
                "Nothing was overwritten. Keep the request id below and the server's log, and look at the vault's page."
            }
        }
    }

    pub fn tone(self) -> Tone {
        match self.class() {
            Class::Denial => Tone::Night,
            Class::Outage => Tone::Warn,
            Class::Fault => Tone::Bad,
        }
    }

    pub fn icon(self) -> &'static str {
        match self {
            Self::KeyDisabled => "lock",
            Self::AccessRemoved | Self::Blocked | Self::WrongTenant => "ban",
            Self::KeyDeleted | Self::AppRemoved => "trash-2",
            Self::OperationRemoved | Self::CredentialRefused => "circle-x",
            Self::CredentialExpired | Self::Throttled => "clock",
            Self::Unreachable => "unplug",
            Self::Fault => "triangle-alert",
        }
    }
}

/// What is safe while a key does not answer; the same three sentences wherever it is told.
pub const SAFE: [&str; 3] = [
    "Nothing is lost: every item lies here as ciphertext, and trash and history wait too.",
    "Other vaults go on as before, and so does everyone's sign-in.",
    "As soon as Azure allows the key again, everything is back, within seconds.",
];

/// How a vault is, as shown everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VaultState {
    Healthy,
    /// Works, and something needs care soon.
    Warning,
    Checking,
    Stopped(Cause),
}

impl VaultState {
    /// For machines: in `data-` attributes and the event stream.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Warning => "warning",
            Self::Checking => "checking",
            Self::Stopped(cause) => cause.code(),
        }
    }

    pub fn chip(&self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Warning => "Warning",
            Self::Checking => "Checking",
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
    pub since: Moment,
    pub names: KeyNames,
    /// Azure's own id of the request that was refused last.
    pub azure_request_id: Option<String>,
    /// One line that opens on a click (lists), or all of it at once (the page of an item or a vault).
    pub folded: bool,
    /// Whether the reader may see the vault's own page.
    pub can_manage: bool,
}

impl DarkPanel {
    /// "12 items are dark", "1 item is dark", "12 items wait for Azure".
    pub fn headline(&self) -> String {
        headline(self.items, self.cause)
    }

    fn sentence(&self) -> String {
        self.cause.sentence(&self.names)
    }

    fn who(&self) -> String {
        self.cause.who(&self.names)
    }

    fn command(&self) -> Option<String> {
        self.cause.command(&self.names)
    }
}

/// What has become of so many items, in four words.
pub fn headline(items: u64, cause: Cause) -> String {
    let counted = counted(items, "item");
    match (cause.class(), items) {
        (_, 0) => match cause.class() {
            Class::Denial => "This vault is dark".into(),
            Class::Outage => "This vault waits for Azure".into(),
            Class::Fault => "This vault is held back".into(),
        },
        (Class::Denial, 1) => format!("{counted} is dark"),
        (Class::Denial, _) => format!("{counted} are dark"),
        (Class::Outage, 1) => format!("{counted} waits for Azure"),
        (Class::Outage, _) => format!("{counted} wait for Azure"),
        (Class::Fault, 1) => format!("{counted} is held back"),
        (Class::Fault, _) => format!("{counted} are held back"),
    }
}

/// "1 item", "12 items", "1,204 items".
pub fn counted(count: u64, noun: &str) -> String {
    let digits = count.to_string();
    let mut grouped = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let plural = if count == 1 { "" } else { "s" };
    format!("{grouped} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> KeyNames {
        KeyNames {
            key_vault: "contoso-kv".into(),
            key: "strongroom-kek".into(),
            key_version: "0123456789abcdef0123456789abcdef".into(),
            client_id: "11111111-2222-3333-4444-555555555555".into(),
            tenant_id: "99999999-8888-7777-6666-555555555555".into(),
            client_address: None,
        }
    }

    #[test]
    fn every_cause_has_its_own_code_and_chip_and_is_found_by_its_code() {
        let mut chips: Vec<_> = CAUSES.iter().map(|cause| cause.chip()).collect();
        chips.sort_unstable();
        chips.dedup();
        assert_eq!(chips.len(), CAUSES.len());
        for cause in CAUSES {
            assert_eq!(Cause::from_code(cause.code()), cause);
        }
    }

    #[test]
    fn a_code_nobody_knows_is_a_fault() {
        assert_eq!(Cause::from_code("key.eaten_by_dog"), Cause::Fault);
    }

    #[test]
    fn every_denial_comes_with_a_command_that_holds_real_names() {
        for cause in CAUSES.into_iter().filter(|cause| cause.class() == Class::Denial) {
            let command = cause.command(&names()).expect("a denial has a command");
            assert!(command.starts_with("az "), "{command}");
            assert!(command.contains("contoso-kv") || command.contains(&names().client_id), "{command}");
            assert!(!command.contains('<'), "no placeholder in {command}");
        }
    }

    #[test]
    fn headlines_count_and_agree_in_number() {
        assert_eq!(headline(1, Cause::KeyDisabled), "1 item is dark");
        assert_eq!(headline(12, Cause::KeyDisabled), "12 items are dark");
        assert_eq!(headline(1204, Cause::Unreachable), "1,204 items wait for Azure");
        assert_eq!(headline(0, Cause::KeyDeleted), "This vault is dark");
    }
}

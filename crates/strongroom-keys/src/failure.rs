//! Every way a key operation can fail: one stable code each, and in one table what it means for the vault,
//! what to call it, and what to do about it.
//!
//! The table is the whole policy on revocation. *Denial* makes a vault dark at once, *outage* lets a lease run to its
//! end, *fault* stops and alarms. Change it here or nowhere.

use std::fmt;
use std::time::Duration;

use uuid::Uuid;

use crate::Receipt;

/// What a failure means for a vault whose key is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The customer took the key away: purge at once. Only ever the class of an unwrap.
    Denial,
    /// Azure could not be asked: a running lease runs to its end, and no further.
    Outage,
    /// The answer makes no sense for what was asked: serve nothing new, raise an alarm, purge and overwrite nothing.
    Fault,
    /// A definite no to something other than an unwrap (wrap, describe, a check): reported, purges nothing.
    Refused,
}

/// What was being attempted. Only an unwrap can be denied; the same answer to anything else is a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    Describe,
    Wrap,
    Unwrap,
}

/// The class of a code, by what was being attempted: failures of describe and wrap never purge.
pub fn class(code: Code, operation: Operation) -> Class {
    match (code.row().class, operation) {
        (Class::Denial, Operation::Describe | Operation::Wrap) => Class::Refused,
        (class, _) => class,
    }
}

macro_rules! states {
    ($($(#[$doc:meta])* $state:ident = $word:literal, $label:literal;)*) => {
        /// What a reader sees of a key that does not answer, everywhere in the same two or three words. Each code has one;
        /// its title says the rest.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum State { $($(#[$doc])* $state,)* }

        impl State {
            /// All states, in the order of the table.
            pub const ALL: &[State] = &[$(State::$state,)*];

            /// For programs, as in `key_disabled`. Part of the API.
            pub fn word(self) -> &'static str {
                match self { $(State::$state => $word,)* }
            }

            /// For people, as in *Key disabled*.
            pub fn label(self) -> &'static str {
                match self { $(State::$state => $label,)* }
            }
        }
    };
}

states! {
    KeyDisabled = "key_disabled", "Key disabled";
    /// Key Vault says no, for want of a role, an access policy or a permitted operation, or by the key's dates.
    AccessRemoved = "access_removed", "Access removed";
    KeyDeleted = "key_deleted", "Key deleted";
    CredentialRefused = "credential_refused", "Credential refused";
    CredentialExpired = "credential_expired", "Credential expired";
    Blocked = "blocked", "Blocked by firewall or policy";
    Throttled = "throttled", "Throttled";
    /// Azure could not be asked.
    Unreachable = "unreachable", "Unreachable";
    /// An answer in Azure's name that cannot be right.
    WrongAnswer = "wrong_answer", "Key Vault answers wrongly";
    /// What this side holds or asked for cannot be right.
    Fault = "fault", "Fault";
    /// No failure of a key: those who manage the vault switched it off. No code has this state.
    VaultDisabled = "vault_disabled", "Vault disabled";
}

impl State {
    /// The state that [`State::word`] writes so; `None` for one that this build does not know.
    pub fn of_word(word: &str) -> Option<State> {
        State::ALL.iter().copied().find(|state| state.word() == word)
    }
}

struct Row {
    name: &'static str,
    class: Class,
    state: State,
    title: &'static str,
    fix: &'static str,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $name:literal, $class:ident, $state:ident, $title:literal, $fix:literal;)*) => {
        /// A stable code for one cause. Its string form is part of the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $code,)* }

        impl Code {
            /// All codes, in the order of the table.
            pub const ALL: &[Code] = &[$(Code::$code,)*];

            fn row(self) -> Row {
                match self {
                    $(Code::$code => Row { name: $name, class: Class::$class, state: State::$state, title: $title, fix: $fix },)*
                }
            }
        }
    };
}

codes! {
    // The key, as Key Vault answers.
    /// Key Vault: `KeyDisabled`.
    KeyDisabled = "key.disabled", Denial, KeyDisabled,
        "The key is switched off in Azure",
        "Enable the key version in Key Vault. Nothing is lost meanwhile.";
    /// Key Vault: `ForbiddenByRbac`, `AccessDenied`, `ForbiddenByPolicy`.
    AccessRemoved = "key.access_removed", Denial, AccessRemoved,
        "Azure no longer allows Strongroom to use the key",
        "Assign the role Key Vault Crypto Service Encryption User on the key to the application's service principal. A new assignment takes up to 10 minutes.";
    /// Key Vault answered `KeyNotFound` for a key version that had answered before.
    KeyDeleted = "key.deleted", Denial, KeyDeleted,
        "The key was deleted in Azure",
        "Recover the key in Key Vault before its retention ends. Once it is purged, nobody can open what it protects.";
    /// Key Vault: `KeyNotFound` for a name that was never seen to work.
    KeyNotFound = "key.not_found", Denial, KeyDeleted,
        "The Key Vault has no key of this name",
        "Check the key's name. If it was deleted lately, recover it.";
    /// Key Vault: `KeyOperationForbidden`.
    OperationForbidden = "key.operation_forbidden", Denial, AccessRemoved,
        "The key does not permit this operation",
        "Add wrapKey and unwrapKey to the key's permitted operations. --ops replaces the whole list: repeat what the key permits now, or its other users lose it.";
    /// Key Vault: 403 outside the key's dates. Real Azure refuses only wraps; an expired key still unwraps.
    KeyExpired = "key.expired", Denial, AccessRemoved,
        "The key has expired",
        "Rotate the key, or clear or move its expiry date. Items stay readable; new vaults, rotation and rewrap wait.";
    KeyNotYetValid = "key.not_yet_valid", Denial, AccessRemoved,
        "The key is not valid yet",
        "Wait for the key's activation date, or move it.";
    /// A 403 in Key Vault's own form whose reason is none of the known ones.
    KeyForbidden = "key.forbidden", Denial, AccessRemoved,
        "Azure refuses to let Strongroom use the key",
        "Read Azure's words beside this message; Azure's request id finds the call in the Key Vault's logs.";
    /// Key Vault: `ForbiddenByFirewall`, `ForbiddenByConnection`.
    Firewall = "azure.firewall", Denial, Blocked,
        "The Key Vault's network rules block Strongroom",
        "Allow this server's address in the Key Vault's networking settings, or let it connect by an approved private endpoint.";
    /// Key Vault: `AKV10032`.
    TenantMismatch = "tenant.mismatch", Denial, CredentialRefused,
        "The Key Vault belongs to another tenant",
        "Give the tenant that the Key Vault lives in, and an application registered there.";
    /// A 401 in Key Vault's own form, after one fresh token.
    TokenRefused = "credential.token_refused", Denial, CredentialRefused,
        "The Key Vault refuses Strongroom's token",
        "Check that the application still exists and is enabled in the Key Vault's tenant.";

    // Signing in, as Microsoft Entra answers.
    /// AADSTS7000215.
    SecretWrong = "credential.refused", Denial, CredentialRefused,
        "Microsoft Entra refuses the client secret",
        "Paste the secret's Value (not its ID), or make a new secret for the application.";
    /// AADSTS7000222.
    SecretExpired = "credential.expired", Denial, CredentialExpired,
        "The client secret has expired",
        "Make a new client secret for the application.";
    /// AADSTS700016.
    UnknownClient = "credential.unknown_client", Denial, CredentialRefused,
        "The tenant has no application with this client ID",
        "Copy the Application (client) ID from the app registration's overview (not the object ID), and check the tenant.";
    /// AADSTS90002.
    UnknownTenant = "tenant.unknown", Denial, CredentialRefused,
        "Microsoft Entra knows no such tenant",
        "Copy the Directory (tenant) ID, and check that the configured Azure cloud is the right one.";
    /// AADSTS700027: no such certificate on the application, or its signature is wrong. Whoever removes the certificate
    /// from the application withdraws access with it, as with a secret, so this denies.
    CertificateRefused = "credential.certificate_refused", Denial, CredentialRefused,
        "Microsoft Entra refuses the certificate",
        "Register the certificate on the application; compare its thumbprint with those listed there.";
    /// AADSTS700027 with the words for an expired one. Like an expired secret.
    CertificateExpired = "credential.certificate_expired", Denial, CredentialExpired,
        "The client certificate has expired",
        "Register a new certificate on the application.";
    /// AADSTS700024. Our own assertions are minutes old, so this is a wrong clock, or a token file that is no longer
    /// renewed: nobody withdrew anything, so it is no denial.
    AssertionTime = "credential.assertion_time", Outage, CredentialRefused,
        "Microsoft Entra finds the sign-in too old or too early",
        "Set this server's clock. With a workload identity, see that the token file is renewed.";
    /// AADSTS70021, 70025, 700211, 700212, 700213, 7002138. Whoever deletes the federated credential withdraws access,
    /// so this denies.
    NoFederation = "credential.no_federation", Denial, CredentialRefused,
        "The application trusts no such workload identity",
        "Give the application a federated credential with the very issuer, subject and audience of the token.";
    /// AADSTS7000112. Switching the service principal off is the plainest way to withdraw access, so this denies.
    ApplicationDisabled = "credential.application_disabled", Denial, CredentialRefused,
        "The application is disabled in its tenant",
        "Enable sign-in for its service principal (Enterprise applications › Properties).";
    /// AADSTS7000229: the service principal was deleted, or was never made.
    NoServicePrincipal = "credential.no_service_principal", Denial, CredentialRefused,
        "The application has no service principal in this tenant",
        "Create or restore the application's service principal, then assign its role on the key again.";
    /// The token file of the workload identity is missing, empty or no token. Nobody was asked, so it is no denial.
    TokenFile = "credential.token_file", Outage, Unreachable,
        "This server has no token of its workload identity",
        "Name the token file in azure.federated_token_file (or AZURE_FEDERATED_TOKEN_FILE), and see that it is mounted and that the server's user may read it.";
    /// AADSTS500011. The tenant knows the resource by no name: a setting that never worked, not a withdrawal.
    UnknownResource = "tenant.no_key_vault", Outage, CredentialRefused,
        "The tenant does not know the Key Vault service by this name",
        "Use the Key Vault's public name (NAME.vault.azure.net), never a privatelink name, and check the configured Azure cloud.";
    /// AADSTS53003.
    SignInBlocked = "credential.blocked", Denial, Blocked,
        "A Conditional Access policy blocks the sign-in",
        "Let an administrator exempt this application or this server's address from the policy.";
    /// Any other refusal by Microsoft Entra. Its meaning for the key is not known, so it is no denial.
    SignInFailed = "credential.sign_in_failed", Outage, CredentialRefused,
        "Microsoft Entra does not sign Strongroom in",
        "Read Microsoft's words and AADSTS code beside this message.";

    // Azure could not be asked, or did not answer sensibly.
    Throttled = "azure.throttled", Outage, Throttled,
        "Azure is throttling requests",
        "Wait. If it goes on, see what else uses this Key Vault: its limit is shared.";
    Unavailable = "azure.unavailable", Outage, Unreachable,
        "Azure answered with a server error",
        "Wait, and see status.azure.com.";
    Timeout = "azure.timeout", Outage, Unreachable,
        "Azure did not answer in time",
        "Check this server's network and firewall towards Azure.";
    Unreachable = "azure.unreachable", Outage, Unreachable,
        "Azure cannot be reached",
        "Check this server's network and firewall: it needs port 443 to the sign-in and Key Vault hosts.";
    Unreadable = "azure.unreadable", Outage, Unreachable,
        "The answer did not come from Azure, or is damaged",
        "Look for a proxy or gateway between this server and Azure that answers in its place.";
    Redirected = "azure.redirected", Outage, Unreachable,
        "The request was redirected, which Azure never does",
        "Look for a captive portal or gateway between this server and Azure. Redirects are not followed.";
    UnknownHost = "dns.unknown_host", Outage, Unreachable,
        "The host name cannot be resolved",
        "Check the name for typing errors, this server's DNS and private DNS zone, and whether the Key Vault was deleted.";
    Untrusted = "tls.untrusted", Outage, Unreachable,
        "The TLS certificate is not trusted",
        "If a proxy inspects TLS here, get its root certificate as PEM and name the file in azure.ca_file.";
    TlsFailed = "tls.failed", Outage, Unreachable,
        "No TLS connection could be made",
        "Look for a gateway between this server and Azure that does not speak TLS 1.2 or 1.3.";
    ProxyUnreachable = "proxy.unreachable", Outage, Unreachable,
        "The proxy cannot be reached",
        "Check azure.proxy, and that the proxy runs.";
    ProxyRefused = "proxy.refused", Outage, Unreachable,
        "The proxy refuses to connect to Azure",
        "Let the proxy allow CONNECT to the sign-in and Key Vault hosts on port 443; check its credentials in azure.proxy.";

    /// No request goes out that the audit log does not announce.
    NotAnnounced = "log.not_announced", Outage, Unreachable,
        "The audit log cannot be written, so Azure was not asked",
        "See to this server's database: `strongroom doctor` says what is wrong with it. Nothing has to be done in Azure.";

    // What came back, or what was asked, cannot be right.
    WrongKid = "fault.wrong_kid", Fault, WrongAnswer,
        "The answer is about another key",
        "Nothing was changed. Compare the recorded key identifier with the key in Azure; report this if they agree.";
    WrongLength = "fault.wrong_length", Fault, WrongAnswer,
        "The answer has an impossible length",
        "Nothing was changed. Report this with Azure's request id.";
    /// An unwrap that gave the record of another vault or generation, or no record at all.
    WrongRecord = "fault.wrong_record", Fault, WrongAnswer,
        "The key answered with something else than this vault's key",
        "Nothing was changed. Report this with Azure's request id.";
    BadParameter = "fault.bad_parameter", Fault, WrongAnswer,
        "The key cannot unwrap what was recorded as wrapped by it",
        "Nothing was changed. The recorded bytes or the key version are not the original ones: restore them from a backup.";
    /// Any other 400 in Key Vault's own form, or a request that cannot be sent.
    BadRequest = "fault.bad_request", Fault, Fault,
        "The request is malformed",
        "Nothing was changed. Check that the key is RSA; otherwise report this with Azure's request id.";
    NoRandom = "fault.no_random", Fault, Fault,
        "This machine gave no random bytes",
        "Nothing was wrapped. Try again; if it stays, look at the operating system's random source.";
    NotOpened = "fault.not_opened", Fault, Fault,
        "The built-in key does not open this wrap",
        "Nothing was changed. Check that the right instance key is loaded, or restore the wrap from a backup.";
    ForeignKid = "fault.foreign_kid", Fault, Fault,
        "The recorded key belongs to another provider",
        "Nothing was asked. The wrap names a key that is not in the configured Key Vault.";
    HostRefused = "fault.host_not_allowed", Fault, Fault,
        "The host does not belong to the configured Azure cloud",
        "Nothing was sent. Check azure.cloud and the Key Vault's URL.";
}

/// What to do where roles have no effect.
pub const ACCESS_POLICY: &str = "Give the application an access policy (it covers every key in the Key Vault), or switch \
                                 the Key Vault to RBAC after assigning roles to all who use it.";

/// What to do where a vault's own credential has come to its end.
pub(crate) const OTHER_CREDENTIAL: &str = "Make a new client secret or certificate for the application and give it to the \
                                           vault: Replace the credential, on its page, or strongroom vault credential. \
                                           Its items are kept.";

impl Code {
    /// The stable form, as in `key.disabled`.
    pub fn as_str(self) -> &'static str {
        self.row().name
    }

    /// The code that [`Code::as_str`] writes so; `None` for one that this build does not know.
    pub fn of(name: &str) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.as_str() == name)
    }

    /// What a reader sees of it in two or three words.
    pub fn state(self) -> State {
        self.row().state
    }

    /// What happened, in a few words without a full stop.
    pub fn title(self) -> &'static str {
        self.row().title
    }

    /// What to do, in general. [`crate::azure::command`] fills in the customer's own names.
    pub fn fix(self) -> &'static str {
        self.row().fix
    }

    /// What to do about a vault that exists: its credential can be replaced.
    pub fn fix_of_vault(self) -> &'static str {
        if self.needs_other_credential() { OTHER_CREDENTIAL } else { self.fix() }
    }

    /// Whether only another credential helps. A certificate that was removed can be registered again.
    pub(crate) fn needs_other_credential(self) -> bool {
        matches!(self, Code::SecretWrong | Code::SecretExpired | Code::CertificateExpired)
    }

    /// Whether it was the sign-in that failed, before the Key Vault had its say. Such a denial counts only when every held
    /// credential meets it twice, some seconds apart; the caller keeps that count.
    pub fn is_sign_in(self) -> bool {
        matches!(
            self,
            Code::SecretWrong
                | Code::SecretExpired
                | Code::UnknownClient
                | Code::UnknownTenant
                | Code::CertificateRefused
                | Code::CertificateExpired
                | Code::AssertionTime
                | Code::NoFederation
                | Code::ApplicationDisabled
                | Code::NoServicePrincipal
                | Code::TokenFile
                | Code::UnknownResource
                | Code::SignInBlocked
                | Code::SignInFailed
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A key operation that did not succeed. Holds nothing secret: safe to log, to audit and to show to an administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFailure {
    pub code: Code,
    pub class: Class,
    /// The status of the last answer, where there was one.
    pub http_status: Option<u16>,
    /// Azure's `x-ms-request-id` of the last answer.
    pub azure_request_id: Option<String>,
    /// Our `x-ms-client-request-id` of the last request.
    pub our_request_id: Option<Uuid>,
    /// The cause in this very case: a host name, an address, Azure's own words (one line, shortened, without secrets).
    pub detail: String,
    /// Names that Azure's answer gave, for the command that mends it.
    pub facts: Box<Facts>,
    /// How long Azure asks to wait.
    pub retry_after: Option<Duration>,
    /// Every request made, in order; the last is the one that failed.
    pub receipts: Vec<Receipt>,
}

/// What an error message of Azure names, read out of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Object id of the calling service principal.
    pub object_id: Option<String>,
    /// The data action that is missing, like `Microsoft.KeyVault/vaults/keys/read`.
    pub action: Option<String>,
    /// Full resource id of the key or Key Vault.
    pub resource: Option<String>,
    /// The address that the Key Vault's firewall saw.
    pub client_address: Option<String>,
    /// Who issued the token of the workload identity that was presented, and for whom.
    pub issuer: Option<String>,
    pub subject: Option<String>,
    /// What that token is made out to, where this is what Entra trips over.
    pub audience: Option<String>,
    /// The operations that the key permits, where they are known.
    pub permitted: Vec<String>,
    /// The Key Vault's network or role check says that it works by access policies, not by roles.
    pub access_policies: bool,
    /// The Key Vault takes no connection but by private endpoints.
    pub private_only: bool,
}

impl KeyFailure {
    /// A failure without any request behind it.
    pub fn new(code: Code, operation: Operation, detail: impl Into<String>) -> KeyFailure {
        KeyFailure {
            code,
            class: class(code, operation),
            http_status: None,
            azure_request_id: None,
            our_request_id: None,
            detail: detail.into(),
            facts: Box::default(),
            retry_after: None,
            receipts: Vec::new(),
        }
    }

    /// What to do, by all that Azure's answer told.
    pub fn fix(&self) -> &'static str {
        match self.code {
            Code::AccessRemoved if self.facts.access_policies => ACCESS_POLICY,
            Code::Firewall if self.facts.private_only => {
                "Public network access to this Key Vault is disabled. Let this server reach it by an approved private \
                 endpoint, or enable public network access."
            }
            code => code.fix(),
        }
    }

    /// The same for a vault that exists.
    pub fn fix_of_vault(&self) -> &'static str {
        if self.code.needs_other_credential() { self.code.fix_of_vault() } else { self.fix() }
    }

    /// Whether this is a denial or refusal that Microsoft Entra spoke, not the Key Vault.
    pub fn is_sign_in(&self) -> bool {
        self.code.is_sign_in()
    }
}

impl fmt::Display for KeyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.code.title(), self.code)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for KeyFailure {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn only_an_unwrap_is_ever_denied() {
        for &code in Code::ALL {
            assert_ne!(class(code, Operation::Describe), Class::Denial, "{code}");
            assert_ne!(class(code, Operation::Wrap), Class::Denial, "{code}");
        }
        assert_eq!(class(Code::KeyDisabled, Operation::Unwrap), Class::Denial);
        assert_eq!(class(Code::KeyDisabled, Operation::Wrap), Class::Refused);
    }

    #[test]
    fn an_outage_or_a_fault_is_one_whatever_was_asked() {
        for operation in [Operation::Describe, Operation::Wrap, Operation::Unwrap] {
            assert_eq!(class(Code::Throttled, operation), Class::Outage);
            assert_eq!(class(Code::Unreadable, operation), Class::Outage);
            assert_eq!(class(Code::WrongKid, operation), Class::Fault);
        }
    }

    #[test]
    fn names_are_unique_and_every_row_says_what_to_do() {
        let names: HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(code.fix().ends_with('.'), "{code}");
            assert!(!code.title().ends_with('.'), "{code}");
        }
    }

    #[test]
    fn states_are_distinct_and_each_has_a_code() {
        let words: HashSet<_> = State::ALL.iter().map(|state| state.word()).collect();
        let labels: HashSet<_> = State::ALL.iter().map(|state| state.label()).collect();
        assert_eq!((words.len(), labels.len()), (State::ALL.len(), State::ALL.len()));
        for state in State::ALL {
            let of_a_code = Code::ALL.iter().any(|code| code.state() == *state);
            assert!(of_a_code || *state == State::VaultDisabled, "{state:?}");
            assert_eq!(State::of_word(state.word()), Some(*state));
        }
    }

    #[test]
    fn a_fault_is_never_called_by_the_name_of_a_denial_or_an_outage() {
        for code in Code::ALL {
            let faulty = matches!(code.state(), State::WrongAnswer | State::Fault);
            assert_eq!(faulty, class(*code, Operation::Unwrap) == Class::Fault, "{code}");
        }
    }

    #[test]
    fn of_the_sign_in_refusals_exactly_the_known_withdrawals_deny() {
        let denying: Vec<_> = Code::ALL
            .iter()
            .filter(|code| code.is_sign_in() && class(**code, Operation::Unwrap) == Class::Denial)
            .map(|code| code.as_str())
            .collect();
        assert_eq!(
            denying,
            [
                "credential.refused",
                "credential.expired",
                "credential.unknown_client",
                "tenant.unknown",
                "credential.certificate_refused",
                "credential.certificate_expired",
                "credential.no_federation",
                "credential.application_disabled",
                "credential.no_service_principal",
                "credential.blocked"
            ]
        );
    }
}

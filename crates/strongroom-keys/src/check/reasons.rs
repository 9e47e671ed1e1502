//! The reasons that only the check has. All others are codes of a failure ([`crate::Code`]) or of a value's form
//! ([`crate::InputError::code`]).

/// Line, reason, and what it means. Beside each line any code of a failure may stand as well.
pub const REASONS: &[(&str, &str, &str)] = &[
    ("net.dns", "dns.no_answer", "No DNS server answered; whether the name exists is not known"),
    (
        "proxy.connect",
        "proxy.credentials",
        "The proxy asks for a user name and password, or refuses those it got (407)",
    ),
    ("proxy.connect", "proxy.failed", "The proxy could not connect to the host itself (5xx)"),
    ("proxy.connect", "proxy.silent", "The proxy took the CONNECT and did not answer it"),
    ("tenant.known", "tenant.other_answer", "Microsoft Entra answered about another tenant than was asked for"),
    ("tenant.key_vault", "tenant.not_named", "The Key Vault did not name its tenant"),
    ("token.claims", "token.unreadable", "The token's claims cannot be read"),
    ("token.claims", "token.tenant", "The token is of another tenant"),
    ("token.claims", "token.application", "The token is of another application"),
    ("token.claims", "token.audience", "The token is for something other than Key Vault"),
    ("token.claims", "token.expired", "The token had ended when it was given, by the sender's own clock"),
    ("token.claims", "token.not_yet_valid", "The token begins in the future, by the sender's own clock"),
    ("token.clock", "clock.no_date", "Azure's answers carried no time to compare with"),
    ("token.clock", "clock.skew", "This server's clock and Azure's differ by more than two minutes"),
    ("key.type", "key.wrong_type", "The key is not RSA"),
    ("key.size", "key.too_small", "The key is shorter than required"),
    ("key.dates", "key.expires_soon", "The key expires within 30 days"),
    ("key.compare", "fault.wrong_record", "Another value came back than was wrapped"),
    ("rights.role", "rights.wider_role", "The application has more rights than it needs"),
    ("rights.scope", "rights.whole_key_vault", "The application's role is on the whole Key Vault or above"),
    ("rights.scope", "rights.access_policies", "The Key Vault works by access policies, which hold for all its keys"),
    ("key.recovery", "key.purgeable", "Purge protection is off"),
    ("key.recovery", "key.recovery_unknown", "Azure did not tell the recovery level"),
    ("key.versions", "key.newer_version", "A newer key version exists than the one that Azure uses"),
    ("key.versions", "key.version_unlisted", "Azure's list of key versions lacks the one that it uses"),
    ("credential.expiry", "credential.ends_soon", "The credential ends within 30 days"),
    (
        "credential.expiry",
        "credential.past_its_date",
        "The date given for the credential's end is over, though it works",
    ),
    ("credential.expiry", "credential.end_unknown", "Nobody gave the date on which the client secret ends"),
    ("azure.latency", "azure.slow", "Half of the requests, or the unwrap, took longer than a second"),
    ("azure.quota", "azure.quota_near", "This server alone uses more than half of Azure's limit"),
];

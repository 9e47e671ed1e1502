//! What a person types to connect a Key Vault, parsed at the edge: each mistake that people make gets its own error,
//! which says what to do.

use std::fmt;

use jiff::Timestamp;
use url::{Host, Url};
use uuid::Uuid;

use crate::azure::Cloud;
use crate::credential::CredentialInput;

/// What connects a Key Vault, as it was typed.
pub struct AzureInput<'a> {
    pub client_id: &'a str,
    pub tenant_id: &'a str,
    pub credential: CredentialInput<'a>,
    pub vault_url: &'a str,
    pub vault_key_name: &'a str,
    /// When the client secret ends, where somebody said so. A certificate says it itself.
    pub credential_expires: Option<Timestamp>,
}

/// A value that cannot be used, and what to do about it. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause} {fix}")]
pub struct InputError {
    pub field: Field,
    /// Stable, as in `vault_url.privatelink`.
    pub code: &'static str,
    /// What is wrong, as a sentence.
    pub cause: String,
    /// What to do, as a sentence.
    pub fix: String,
}

/// The values of a connection. One of the three credentials is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    ClientId,
    TenantId,
    ClientSecret,
    ClientCertificate,
    WorkloadIdentity,
    VaultUrl,
    VaultKeyName,
}

impl Field {
    /// The name in the API, as in `vault_url`.
    pub fn as_str(self) -> &'static str {
        match self {
            Field::ClientId => "client_id",
            Field::TenantId => "tenant_id",
            Field::ClientSecret => "client_secret",
            Field::ClientCertificate => "client_certificate",
            Field::WorkloadIdentity => "workload_identity",
            Field::VaultUrl => "vault_url",
            Field::VaultKeyName => "vault_key_name",
        }
    }
}

/// Directory (tenant) ID of Microsoft Entra.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TenantId(Uuid);

/// Application (client) ID of an app registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientId(Uuid);

impl TenantId {
    /// Takes a GUID; spaces, quotes and braces around it are accepted.
    pub fn parse(text: &str) -> Result<TenantId, InputError> {
        guid(Field::TenantId, text, "Directory (tenant) ID").map(TenantId)
    }
}

impl ClientId {
    /// Takes a GUID; spaces, quotes and braces around it are accepted.
    pub fn parse(text: &str) -> Result<ClientId, InputError> {
        guid(Field::ClientId, text, "Application (client) ID").map(ClientId)
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

fn guid(field: Field, text: &str, name: &str) -> Result<Uuid, InputError> {
    let fix = format!("Copy the {name} from the app registration's overview page in the Azure portal.");
    let bare =
        text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '{' | '}' | '"' | '\'' | '\u{200b}' | '\u{feff}'));
    if bare.is_empty() {
        return Err(error(field, "empty", format!("The {name} is missing."), fix));
    }
    if field == Field::TenantId && bare.contains('.') {
        return Err(error(field, "domain", format!("The {name} is a domain name, not an ID."), fix));
    }
    // `Uuid` would also take a GUID without hyphens or with a urn: in front, which Azure never shows.
    match Uuid::try_parse(bare) {
        Ok(id) if bare.len() == 36 => Ok(id),
        _ => Err(error(
            field,
            "not_a_guid",
            format!("The {name} is not a GUID like 12345678-90ab-cdef-1234-567890abcdef."),
            fix,
        )),
    }
}

/// `https://NAME.vault.azure.net` (or the suffix of the configured cloud), without anything after it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VaultUrl {
    host: String,
    cloud: Cloud,
}

impl VaultUrl {
    /// Takes the Vault URI as the Azure portal shows it. `cloud` decides which hosts are Key Vaults.
    pub fn parse(text: &str, cloud: Cloud) -> Result<VaultUrl, InputError> {
        let url = https_url(text, cloud)?;
        let host = key_vault_host(&url, cloud)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(vault_url("user_info", "The Vault URL contains a user name.", &example(cloud)));
        }
        if let Some(port) = url.port() {
            return Err(vault_url(
                "port",
                &format!("The Vault URL names port {port}; Key Vault answers on 443 only."),
                &example(cloud),
            ));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(vault_url("path", "The Vault URL has something after the host name.", &example(cloud)));
        }
        Ok(VaultUrl { host, cloud })
    }

    /// The host name, in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn cloud(&self) -> Cloud {
        self.cloud
    }

    /// The Key Vault's own name: the first label of the host.
    pub fn vault_name(&self) -> &str {
        self.host.split('.').next().unwrap_or(&self.host)
    }
}

impl fmt::Display for VaultUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.host)
    }
}

/// Name of a key in Key Vault: 1 to 127 letters, digits and hyphens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyName(String);

impl KeyName {
    pub fn parse(text: &str) -> Result<KeyName, InputError> {
        let field = Field::VaultKeyName;
        let fix = "Copy the key's name from Objects › Keys of the Key Vault: letters, digits and hyphens only.";
        let bare = text.trim();
        if bare.is_empty() {
            return Err(error(field, "empty", "The vault key name is missing.", fix));
        }
        if bare.len() > 127 {
            return Err(error(field, "too_long", "The vault key name is longer than 127 characters.", fix));
        }
        if !is_key_name(bare) {
            return Err(error(
                field,
                "characters",
                "The vault key name has characters that no key name can have.",
                fix,
            ));
        }
        Ok(KeyName(bare.to_owned()))
    }

    /// A name that [`is_key_name`] has accepted.
    pub(crate) fn known(name: &str) -> KeyName {
        KeyName(name.to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) fn is_key_name(text: &str) -> bool {
    (1..=127).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Parses the two fields that name a key. A full key identifier (`https://HOST/keys/NAME/VERSION`) pasted into either
/// is split; its key version is dropped, since new wraps always use the newest.
pub fn parse_vault_url_and_key(url: &str, key: &str, cloud: Cloud) -> Result<(VaultUrl, KeyName), InputError> {
    match (split_key_identifier(url), split_key_identifier(key)) {
        (None, None) => Ok((VaultUrl::parse(url, cloud)?, KeyName::parse(key)?)),
        (Some((host, name)), None) => {
            let vault = VaultUrl::parse(&host, cloud)?;
            if key.trim().is_empty() {
                return Ok((vault, KeyName::parse(&name)?));
            }
            let key = KeyName::parse(key)?;
            agree(key.as_str().eq_ignore_ascii_case(&name)).map(|()| (vault, key))
        }
        (None, Some((host, name))) => {
            let from_key = VaultUrl::parse(&host, cloud)?;
            if !url.trim().is_empty() {
                agree(VaultUrl::parse(url, cloud)? == from_key)?;
            }
            Ok((from_key, KeyName::parse(&name)?))
        }
        (Some((host, name)), Some((other_host, other_name))) => {
            let vault = VaultUrl::parse(&host, cloud)?;
            agree(vault == VaultUrl::parse(&other_host, cloud)? && name.eq_ignore_ascii_case(&other_name))?;
            Ok((vault, KeyName::parse(&name)?))
        }
    }
}

fn agree(same: bool) -> Result<(), InputError> {
    if same {
        return Ok(());
    }
    Err(error(
        Field::VaultKeyName,
        "contradiction",
        "The vault key name and the Vault URL name different keys or Key Vaults.",
        "Give the Vault URL and the name of a key in that Key Vault.",
    ))
}

/// `https://HOST/keys/NAME[/VERSION]` → (`https://HOST`, `NAME`).
fn split_key_identifier(text: &str) -> Option<(String, String)> {
    let text = text.trim();
    let (before, after) = text.split_once("/keys/")?;
    let name = after.split('/').next()?;
    (before.contains("://") && !name.is_empty()).then(|| (before.to_owned(), name.to_owned()))
}

fn https_url(text: &str, cloud: Cloud) -> Result<Url, InputError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(vault_url("empty", "The Vault URL is missing.", &example(cloud)));
    }
    if text.len() > 512 {
        return Err(vault_url("too_long", "The Vault URL is longer than 512 bytes.", &example(cloud)));
    }
    if !text.contains("://") {
        return Err(vault_url("no_scheme", "The Vault URL does not begin with https://.", &example(cloud)));
    }
    let url = Url::parse(text).map_err(|_| vault_url("not_a_url", "The Vault URL is not a URL.", &example(cloud)))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" => Err(vault_url(
            "not_https",
            "The Vault URL begins with http://.",
            "Write https://: Key Vault speaks nothing else.",
        )),
        _ => Err(vault_url("not_https", "The Vault URL does not begin with https://.", &example(cloud))),
    }
}

fn key_vault_host(url: &Url, cloud: Cloud) -> Result<String, InputError> {
    let host = match url.host() {
        Some(Host::Domain(host)) => host.trim_end_matches('.').to_ascii_lowercase(),
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => {
            return Err(vault_url("host_ip", "The Vault URL names an IP address.", &example(cloud)));
        }
        None => {
            return Err(vault_url("not_a_url", "The Vault URL names no host.", &example(cloud)));
        }
    };
    if host == "localhost" || host.ends_with(".localhost") {
        return Err(vault_url("host_localhost", "The Vault URL names this machine.", &example(cloud)));
    }
    if host.contains("privatelink") {
        let fix = format!(
            "Write the public name, {}: a private endpoint is found through DNS under that same name.",
            host.replace("privatelink.vaultcore.", "vault.").replace("privatelink.", "")
        );
        return Err(vault_url("host_privatelink", "The Vault URL names a private link host.", &fix));
    }
    if host.contains("managedhsm.") {
        return Err(vault_url(
            "host_managed_hsm",
            "The Vault URL names a Managed HSM, which is not supported.",
            &example(cloud),
        ));
    }
    if let Some(name) = host.strip_suffix(cloud.vault_suffix()) {
        return if is_vault_name(name) {
            Ok(host)
        } else {
            Err(vault_url("host_name", "The Vault URL does not name a Key Vault.", &example(cloud)))
        };
    }
    if let Some(other) = Cloud::ALL.iter().find(|other| host.ends_with(other.vault_suffix())) {
        let cause =
            format!("The Vault URL belongs to the cloud \"{other}\"; this server is configured for \"{cloud}\".");
        return Err(vault_url(
            "host_other_cloud",
            &cause,
            "Use a Key Vault of the configured cloud, or change azure.cloud on the server.",
        ));
    }
    let cause = format!("The host {host} is not a Key Vault: its name does not end in {}.", cloud.vault_suffix());
    Err(vault_url("host_foreign", &cause, &example(cloud)))
}

/// 3 to 24 letters, digits and hyphens (Azure's naming rules for Microsoft.KeyVault/vaults).
fn is_vault_name(name: &str) -> bool {
    (3..=24).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn example(cloud: Cloud) -> String {
    format!(
        "Copy the Vault URI from the Key Vault's overview page; it looks like https://NAME{}.",
        cloud.vault_suffix()
    )
}

fn vault_url(code: &'static str, cause: &str, fix: &str) -> InputError {
    error(Field::VaultUrl, code, cause, fix)
}

pub(crate) fn error(field: Field, code: &'static str, cause: impl Into<String>, fix: impl Into<String>) -> InputError {
    InputError { field, code, cause: cause.into(), fix: fix.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GUID: &str = "12345678-90ab-cdef-1234-567890abcdef";

    #[test]
    fn a_guid_may_come_with_spaces_quotes_and_braces() {
        for text in [GUID.to_owned(), format!(" {{{GUID}}}\n"), format!("\"{GUID}\""), GUID.to_uppercase()] {
            assert_eq!(TenantId::parse(&text).expect("a GUID").to_string(), GUID);
            assert_eq!(ClientId::parse(&text).expect("a GUID").to_string(), GUID);
        }
    }

    #[test]
    fn what_is_no_guid_is_named() {
        for (text, code) in [
            ("", "empty"),
            ("  ", "empty"),
            ("contoso.onmicrosoft.com", "domain"),
            ("12345678", "not_a_guid"),
            ("1234567890abcdef1234567890abcdef", "not_a_guid"),
            ("%7B12345678-90ab-cdef-1234-567890abcdef%7D", "not_a_guid"),
            ("12345678-90ab-cdef-1234-567890abcdeg", "not_a_guid"),
        ] {
            assert_eq!(TenantId::parse(text).expect_err(text).code, code, "{text}");
        }
    }

    #[test]
    fn every_wrong_vault_url_has_its_own_error() {
        for (text, code) in [
            ("", "empty"),
            ("acme.vault.azure.net", "no_scheme"),
            ("http://acme.vault.azure.net", "not_https"),
            ("ftp://acme.vault.azure.net", "not_https"),
            ("https://", "not_a_url"),
            ("https://10.0.0.1", "host_ip"),
            ("https://2130706433/", "host_ip"),
            ("https://[::1]/", "host_ip"),
            ("https://localhost", "host_localhost"),
            ("https://acme.localhost", "host_localhost"),
            ("https://acme.privatelink.vaultcore.azure.net", "host_privatelink"),
            ("https://acme.managedhsm.azure.net", "host_managed_hsm"),
            ("https://acme.vault.azure.cn", "host_other_cloud"),
            ("https://evil.example", "host_foreign"),
            ("https://acme.vault.azure.net.evil.example", "host_foreign"),
            ("https://acmevault.azure.net", "host_foreign"),
            ("https://a.b.vault.azure.net", "host_name"),
            ("https://ab.vault.azure.net", "host_name"),
            ("https://me:pw@acme.vault.azure.net", "user_info"),
            ("https://acme.vault.azure.net:8443", "port"),
            ("https://acme.vault.azure.net/secrets/", "path"),
            ("https://acme.vault.azure.net/?x=1", "path"),
        ] {
            let error = VaultUrl::parse(text, Cloud::Public).expect_err(text);
            assert_eq!(error.code, code, "{text}");
            assert!(!error.to_string().contains("pw"), "{error}");
        }
    }

    #[test]
    fn a_vault_url_of_the_configured_cloud_is_accepted() {
        for text in
            ["https://Acme.vault.azure.net/", " https://acme.vault.azure.net:443 ", "https://acme.vault.azure.net"]
        {
            let url = VaultUrl::parse(text, Cloud::Public).expect(text);
            assert_eq!(url.to_string(), "https://acme.vault.azure.net");
            assert_eq!(url.vault_name(), "acme");
        }
        assert!(VaultUrl::parse("https://acme.vault.usgovcloudapi.net", Cloud::Government).is_ok());
        assert!(VaultUrl::parse("https://acme.vault.azure.cn", Cloud::China).is_ok());
    }

    #[test]
    fn a_private_link_name_is_turned_into_the_public_one_in_the_advice() {
        let error =
            VaultUrl::parse("https://acme.privatelink.vaultcore.azure.net", Cloud::Public).expect_err("private");
        assert!(error.fix.contains("acme.vault.azure.net"), "{}", error.fix);
    }

    #[test]
    fn a_pasted_key_identifier_is_split() {
        let kid = "https://acme.vault.azure.net/keys/kek/0123456789abcdef0123456789abcdef";
        let url = "https://acme.vault.azure.net";
        for (url, key) in
            [(url, kid), ("", kid), (kid, ""), (kid, "kek"), (kid, kid), (url, "https://acme.vault.azure.net/keys/kek")]
        {
            let (vault, name) = parse_vault_url_and_key(url, key, Cloud::Public).expect("a key");
            assert_eq!((vault.to_string().as_str(), name.as_str()), ("https://acme.vault.azure.net", "kek"));
        }
        let other = "https://other.vault.azure.net/keys/kek/0123456789abcdef0123456789abcdef";
        assert_eq!(parse_vault_url_and_key(url, other, Cloud::Public).expect_err("two vaults").code, "contradiction");
        assert_eq!(parse_vault_url_and_key(kid, "another", Cloud::Public).expect_err("two keys").code, "contradiction");
    }

    #[test]
    fn a_key_name_is_letters_digits_and_hyphens() {
        assert_eq!(KeyName::parse(" Strongroom-KEK ").expect("a name").as_str(), "Strongroom-KEK");
        let long = "k".repeat(128);
        for (text, code) in [
            ("", "empty"),
            ("a_b", "characters"),
            ("a/b", "characters"),
            ("schlüssel", "characters"),
            (long.as_str(), "too_long"),
        ] {
            assert_eq!(KeyName::parse(text).expect_err(text).code, code, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_url_that_is_taken_is_a_key_vault_of_its_cloud_and_reads_as_it_prints(
            text in "\\PC{0,60}", host in "[a-zA-Z0-9.:/@#?%-]{0,40}",
        ) {
            for text in [text, format!("https://{host}.vault.azure.net"), format!("https://acme.vault.azure.net{host}")] {
                let Ok((url, _)) = parse_vault_url_and_key(&text, "key", Cloud::Public) else { continue };
                prop_assert!(Cloud::Public.allows(url.host()) && url.host().ends_with(".vault.azure.net"));
                prop_assert_eq!(VaultUrl::parse(&url.to_string(), Cloud::Public), Ok(url));
            }
        }
    }
}

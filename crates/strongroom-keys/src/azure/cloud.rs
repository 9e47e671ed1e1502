//! The Azure clouds and their host names.

use std::fmt;
use std::str::FromStr;

use azure_core::cloud::CloudConfiguration;

/// An Azure cloud. It decides which hosts may be spoken to; all others are refused before DNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Cloud {
    #[default]
    Public,
    Government,
    China,
}

/// The name of the cloud is none of `public`, `government`, `china`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown Azure cloud: write public, government or china")]
pub struct UnknownCloud;

impl Cloud {
    pub const ALL: [Cloud; 3] = [Cloud::Public, Cloud::Government, Cloud::China];

    /// What every Key Vault's host name ends in, with the leading dot.
    pub fn vault_suffix(self) -> &'static str {
        match self {
            Cloud::Public => ".vault.azure.net",
            Cloud::Government => ".vault.usgovcloudapi.net",
            Cloud::China => ".vault.azure.cn",
        }
    }

    /// What an access token for any Key Vault is for.
    pub(crate) fn vault_resource(self) -> String {
        format!("https://{}", self.vault_suffix().trim_start_matches('.'))
    }

    /// The host of Microsoft Entra, the same that the SDK uses.
    pub fn login_host(self) -> &'static str {
        match self {
            Cloud::Public => "login.microsoftonline.com",
            Cloud::Government => "login.microsoftonline.us",
            Cloud::China => "login.chinacloudapi.cn",
        }
    }

    /// Whom the token of another issuer has to be made out to, for Entra to take it.
    pub(crate) fn federation_audience(self) -> &'static str {
        match self {
            Cloud::Public => "api://AzureADTokenExchange",
            Cloud::Government => "api://AzureADTokenExchangeUSGov",
            Cloud::China => "api://AzureADTokenExchangeChina",
        }
    }

    /// Whether the provider may speak to this host: sign-in and Key Vaults of this cloud, nothing else.
    pub(crate) fn allows(self, host: &str) -> bool {
        host == self.login_host() || host.ends_with(self.vault_suffix())
    }

    pub(crate) fn configuration(self) -> CloudConfiguration {
        match self {
            Cloud::Public => CloudConfiguration::AzurePublic,
            Cloud::Government => CloudConfiguration::AzureGovernment,
            Cloud::China => CloudConfiguration::AzureChina,
        }
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cloud::Public => "public",
            Cloud::Government => "government",
            Cloud::China => "china",
        })
    }
}

impl FromStr for Cloud {
    type Err = UnknownCloud;

    fn from_str(text: &str) -> Result<Cloud, UnknownCloud> {
        Cloud::ALL.into_iter().find(|cloud| cloud.to_string() == text).ok_or(UnknownCloud)
    }
}

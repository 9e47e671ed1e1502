//! Keys in the customer's Azure Key Vault, by Microsoft's official crates on a transport of our own.
//!
//! [`AzureKeys`] holds what the whole installation shares: cloud, proxy, trust, connections. [`AzureAccess`] names one
//! key and who may use it; both together make an [`AzureProvider`].

use std::sync::Arc;

use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::{ClientOptions, RetryOptions, Transport, UserAgentOptions};
use azure_identity::{ClientSecretCredential, ClientSecretCredentialOptions};
use azure_security_keyvault_keys::{KeyClient, KeyClientOptions};
use url::Url;

use crate::{ClientId, ClientSecret, KeyName, TenantId, VaultUrl};

mod answer;
mod cloud;
mod command;
mod provider;
mod tls;
mod transport;

pub use cloud::{Cloud, UnknownCloud};
pub use command::command;
pub use provider::{ALGORITHM, AzureProvider};

use transport::ObservingTransport;

/// How this installation reaches Azure.
#[derive(Default)]
pub struct AzureConfig {
    pub cloud: Cloud,
    /// `http://` or `https://`, with credentials if the proxy asks for some. Never taken from the environment.
    pub proxy: Option<Url>,
    /// Certificates to trust beside the platform's own, as PEM.
    pub ca_pem: Option<Vec<u8>>,
}

/// One key, and who uses it.
pub struct AzureAccess {
    pub tenant: TenantId,
    pub client: ClientId,
    pub secret: ClientSecret,
    pub vault_url: VaultUrl,
    pub key_name: KeyName,
}

/// The configuration cannot be used. Said at the start, not at the first request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("azure.ca_file holds no readable certificate: write one or more in PEM form")]
    Ca,
    #[error("azure.proxy cannot be used: write http://HOST:PORT or https://HOST:PORT")]
    Proxy,
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// The way to Azure, shared by all providers of an installation. Cloning shares it.
#[derive(Clone)]
pub struct AzureKeys {
    cloud: Cloud,
    transport: Arc<ObservingTransport>,
}

impl AzureKeys {
    /// Reads certificates and builds the HTTP client. Sends nothing.
    pub fn new(config: &AzureConfig) -> Result<AzureKeys, ConfigError> {
        if let Some(proxy) = &config.proxy
            && (!matches!(proxy.scheme(), "http" | "https") || proxy.host().is_none())
        {
            return Err(ConfigError::Proxy);
        }
        Ok(AzureKeys { cloud: config.cloud, transport: Arc::new(ObservingTransport::new(config)?) })
    }

    pub fn cloud(&self) -> Cloud {
        self.cloud
    }

    /// A provider for one key. Sends nothing; the first call signs in.
    pub fn provider(&self, access: AzureAccess) -> AzureProvider {
        AzureProvider::new(self.clone(), access)
    }

    /// A client that has not signed in yet. The SDK keeps a token inside the credential and another inside the client,
    /// and offers no way to drop them: a fresh token takes a new pair.
    fn session(&self, access: &AzureAccess) -> Arc<KeyClient> {
        let options = KeyClientOptions { client_options: self.client_options(), ..Default::default() };
        let client = KeyClient::new(&access.vault_url.to_string(), self.credential(access), Some(options))
            .expect("a VaultUrl is an https URL");
        Arc::new(client)
    }

    /// What signs in. Certificates and federation become further ways to make a [`TokenCredential`] here. The SDK's
    /// copy of the secret is out of our reach and is not wiped.
    fn credential(&self, access: &AzureAccess) -> Arc<dyn TokenCredential> {
        ClientSecretCredential::new(
            &access.tenant.to_string(),
            access.client.to_string(),
            Secret::new(access.secret.expose().to_owned()),
            Some(ClientSecretCredentialOptions { client_options: self.client_options() }),
        )
        .expect("the tenant is a GUID, client and secret are not empty, the cloud's sign-in host is https")
    }

    fn client_options(&self) -> ClientOptions {
        ClientOptions {
            retry: RetryOptions::none(),
            transport: Some(Transport::with_policy(self.transport.clone())),
            user_agent: UserAgentOptions { application_id: Some("strongroom".to_owned()) },
            // Set even for the public cloud: without it the SDK asks the environment for its sign-in host.
            cloud: Some(Arc::new(self.cloud.configuration())),
            ..Default::default()
        }
    }
}

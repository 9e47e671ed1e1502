//! Keys in the customer's Azure Key Vault, by Microsoft's official crates on a transport of our own.
//!
//! [`AzureKeys`] holds what the whole installation shares: cloud, proxy, trust, connections. [`AzureAccess`] names one
//! key and who may use it; both together make an [`AzureProvider`].

use std::path::PathBuf;
use std::sync::Arc;

use azure_core::credentials::TokenCredential;
use azure_core::http::{ClientOptions, RetryOptions, Transport, UserAgentOptions};
use azure_security_keyvault_keys::{KeyClient, KeyClientOptions};
use url::Url;

use crate::{ClientId, Credential, KeyName, RequestIds, TenantId, VaultUrl};

mod answer;
mod cloud;
mod command;
mod credential;
pub(crate) mod probe;
mod provider;
pub(crate) mod reach;
mod tls;
mod transport;

#[cfg(fuzzing)]
pub use answer::read_refusal;
pub use cloud::{Cloud, UnknownCloud};
pub(crate) use command::is_resource_id;
pub use command::{command, disable_command, federated_credential};
pub use credential::token_claims;
pub use provider::{ALGORITHM, AzureProvider};

use credential::TokenFile;
use reach::Ways;
use transport::ObservingTransport;

/// How this installation reaches Azure.
#[derive(Default)]
pub struct AzureConfig {
    pub cloud: Cloud,
    /// `http://` or `https://`, with credentials if the proxy asks for some. Never taken from the environment.
    pub proxy: Option<Url>,
    /// Certificates to trust beside the platform's own, as PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// Holds the token of this server's workload identity; read anew at every sign-in, since it rotates. The only such
    /// file for all vaults, so that no vault can name a path.
    pub federated_token_file: Option<PathBuf>,
    /// Who gives requests that use a key their ids; without it they are random.
    pub request_ids: Option<Arc<dyn RequestIds>>,
}

/// One key, and who uses it.
pub struct AzureAccess {
    pub tenant: TenantId,
    pub client: ClientId,
    pub credential: Credential,
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
    token_file: Arc<TokenFile>,
    ways: Arc<Ways>,
}

impl AzureKeys {
    /// Reads certificates and builds the HTTP client. Sends nothing.
    pub fn new(config: &AzureConfig) -> Result<AzureKeys, ConfigError> {
        if let Some(proxy) = &config.proxy
            && (!matches!(proxy.scheme(), "http" | "https") || proxy.host().is_none())
        {
            return Err(ConfigError::Proxy);
        }
        let tls = tls::client_config(config.ca_pem.as_deref())?;
        let ways = Ways::new(config.cloud, Arc::new(tls.clone()), config.proxy.clone());
        Ok(AzureKeys {
            cloud: config.cloud,
            transport: Arc::new(ObservingTransport::new(config, tls)?),
            token_file: Arc::new(TokenFile::new(config.federated_token_file.clone())),
            ways: Arc::new(ways),
        })
    }

    pub fn cloud(&self) -> Cloud {
        self.cloud
    }

    /// Whether this server has a token file to sign in with.
    pub fn offers_workload_identity(&self) -> bool {
        self.token_file.is_configured()
    }

    /// A provider for one key. Sends nothing; the first call signs in.
    pub fn provider(&self, access: AzureAccess) -> AzureProvider {
        AzureProvider::new(self.clone(), Arc::new(access))
    }

    /// A client that has not signed in yet. The SDK keeps a token inside the credential and another inside the client,
    /// and offers no way to drop them: a fresh token takes a new pair.
    fn session(&self, access: &Arc<AzureAccess>) -> Arc<KeyClient> {
        self.session_of(self.credential(access), access)
    }

    /// A client that signs in with this credential, and with the token that it may hold already.
    fn session_of(&self, credential: Arc<dyn TokenCredential>, access: &AzureAccess) -> Arc<KeyClient> {
        let options = KeyClientOptions { client_options: self.client_options(), ..Default::default() };
        let client = KeyClient::new(&access.vault_url.to_string(), credential, Some(options))
            .expect("a VaultUrl is an https URL");
        Arc::new(client)
    }

    fn credential(&self, access: &Arc<AzureAccess>) -> Arc<dyn TokenCredential> {
        credential::token_credential(access, &self.token_file, self.cloud, self.client_options())
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

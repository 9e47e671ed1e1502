//! Signing in to Microsoft Entra, by Microsoft's crate for all three kinds of credential. The SDK's own certificate and
//! workload-identity credentials are not used: one brings OpenSSL along, the other keeps a rotated token for minutes.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use azure_core::credentials::{Secret, TokenCredential};
use azure_core::error::ErrorKind;
use azure_core::http::{ClientMethodOptions, ClientOptions};
use azure_identity::{
    ClientAssertion, ClientAssertionCredential, ClientAssertionCredentialOptions, ClientSecretCredential,
    ClientSecretCredentialOptions,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt as _;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::transport::Recorder;
use super::{AzureAccess, Cloud};
use crate::{Code, Credential};

/// Tokens of Kubernetes and of other issuers take one or two kilobytes.
const LONGEST_TOKEN: u64 = 64 * 1024;

/// A credential that has not signed in yet. The SDK's copies of a secret or assertion are out of our reach and are not
/// wiped.
pub(super) fn token_credential(
    access: &Arc<AzureAccess>,
    token_file: &Arc<TokenFile>,
    cloud: Cloud,
    client_options: ClientOptions,
) -> Arc<dyn TokenCredential> {
    let (tenant, client) = (access.tenant.to_string(), access.client.to_string());
    let options = ClientAssertionCredentialOptions { client_options: client_options.clone() };
    let made: azure_core::Result<Arc<dyn TokenCredential>> = match &access.credential {
        Credential::Secret(secret) => {
            let secret = Secret::new(secret.expose().to_owned());
            ClientSecretCredential::new(&tenant, client, secret, Some(ClientSecretCredentialOptions { client_options }))
                .map(|credential| credential as _)
        }
        Credential::Certificate(_) => {
            let assertion = CertificateAssertion { access: access.clone(), cloud };
            ClientAssertionCredential::new(tenant, client, assertion, Some(options)).map(|credential| credential as _)
        }
        Credential::WorkloadIdentity => {
            let assertion = FederatedAssertion { file: token_file.clone(), cloud };
            ClientAssertionCredential::new(tenant, client, assertion, Some(options)).map(|credential| credential as _)
        }
    };
    made.expect("the tenant is a GUID, client and secret are not empty, the cloud's sign-in host is https")
}

/// Signs a fresh assertion for every sign-in.
struct CertificateAssertion {
    access: Arc<AzureAccess>,
    cloud: Cloud,
}

impl fmt::Debug for CertificateAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAssertion").finish_non_exhaustive()
    }
}

#[async_trait]
impl ClientAssertion for CertificateAssertion {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        let certificate = self.access.credential.certificate().expect("made for a certificate only");
        let endpoint = format!("https://{}/{}/oauth2/v2.0/token", self.cloud.login_host(), self.access.tenant);
        let client = self.access.client.to_string();
        let mut assertion = certificate.assertion(&client, &endpoint, Timestamp::now(), Uuid::new_v4());
        Ok(std::mem::take(&mut *assertion))
    }
}

/// Presents what the token file holds at this moment: whoever issued it replaces it, usually every hour.
struct FederatedAssertion {
    file: Arc<TokenFile>,
    cloud: Cloud,
}

impl fmt::Debug for FederatedAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FederatedAssertion").finish_non_exhaustive()
    }
}

#[async_trait]
impl ClientAssertion for FederatedAssertion {
    async fn secret(&self, options: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        let problem = match self.file.read().await {
            Ok(mut token) => return Ok(std::mem::take(&mut *token)),
            Err(problem) => problem,
        };
        if let Some(recorder) = options.as_ref().and_then(|options| options.context.value::<Recorder>()) {
            recorder.not_sent(self.cloud.login_host(), Code::TokenFile, problem.clone());
        }
        Err(azure_core::Error::with_message(ErrorKind::Credential, problem))
    }
}

/// The file that holds this server's own token, and whom the last one spoke for.
#[derive(Default)]
pub(super) struct TokenFile {
    path: Option<PathBuf>,
    presented: Mutex<Option<Presented>>,
}

/// Whom a token speaks for, as it says itself: what the application's federated credential has to name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Presented {
    #[serde(rename = "iss")]
    pub issuer: String,
    #[serde(rename = "sub")]
    pub subject: String,
}

impl TokenFile {
    pub(super) fn new(path: Option<PathBuf>) -> TokenFile {
        TokenFile { path, presented: Mutex::default() }
    }

    pub(super) fn is_configured(&self) -> bool {
        self.path.is_some()
    }

    /// Whom the token spoke for that was read last.
    pub(super) fn presented(&self) -> Option<Presented> {
        self.presented.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The token, or what is wrong with the file and what to do. The path is the operator's and stays out of it.
    async fn read(&self) -> Result<Zeroizing<String>, String> {
        const NAMED: &str = "the file that azure.federated_token_file names";
        let Some(path) = &self.path else {
            return Err("azure.federated_token_file is not set on this server".to_owned());
        };
        let unreadable = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => format!("{NAMED} is not there"),
            std::io::ErrorKind::PermissionDenied => format!("the server's user may not read {NAMED}"),
            kind => format!("{NAMED} cannot be read: {kind}"),
        };
        let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(LONGEST_TOKEN + 1).read_to_end(&mut bytes).await.map_err(unreadable)?;
        if bytes.len() as u64 > LONGEST_TOKEN {
            return Err(format!("{NAMED} is longer than 64 KiB, so it holds no token"));
        }
        let token = bytes.trim_ascii();
        if token.is_empty() {
            return Err(format!("{NAMED} is empty"));
        }
        let (Some(presented), Ok(token)) = (token_claims(token), std::str::from_utf8(token)) else {
            return Err(format!("{NAMED} holds no token: it is not a JWT"));
        };
        *self.presented.lock().unwrap_or_else(PoisonError::into_inner) = Some(presented);
        Ok(Zeroizing::new(token.to_owned()))
    }
}

/// What a JSON Web Token (RFC 7519) says of itself; `None` for anything else. Nobody's signature is checked here: that is
/// for whom it is meant.
pub fn token_claims<T: DeserializeOwned>(token: &[u8]) -> Option<T> {
    let mut parts = token.split(|&byte| byte == b'.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    let claims = URL_SAFE_NO_PAD.decode(claims).ok().filter(|_| parts.next().is_none())?;
    serde_json::from_slice(&claims).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(subject: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let claims = format!(r#"{{"iss":"https://issuer.example","sub":"{subject}","aud":["x"]}}"#);
        format!("{}.{}.c2ln", encode(r#"{"alg":"RS256"}"#), encode(&claims))
    }

    #[tokio::test]
    async fn the_file_is_read_anew_each_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let file = TokenFile::new(Some(path.clone()));
        for subject in ["one", "two"] {
            std::fs::write(&path, format!("{}\n", token(subject))).expect("a file");
            assert_eq!(file.read().await.as_deref().map(String::as_str), Ok(token(subject).as_str()));
            assert_eq!(file.presented().expect("claims").subject, subject);
        }
    }

    #[tokio::test]
    async fn each_unusable_file_is_named_without_its_path_or_content() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let file = TokenFile::new(Some(path.clone()));
        let long = format!("{}{}", token("one"), "x".repeat(70_000));
        for (content, said) in [
            (None, "is not there"),
            (Some(""), "is empty"),
            (Some(" \n"), "is empty"),
            (Some("hunter2"), "holds no token"),
            (Some("hunter2.hunter2.hunter2"), "holds no token"),
            (Some(long.as_str()), "longer than 64 KiB"),
        ] {
            if let Some(content) = content {
                std::fs::write(&path, content).expect("a file");
            }
            let problem = file.read().await.map(|_| ()).expect_err(said);
            assert!(problem.contains(said), "{problem}");
            assert!(!problem.contains("hunter2") && !problem.contains(&*folder.path().to_string_lossy()), "{problem}");
        }
        let unset = TokenFile::default().read().await.map(|_| ()).expect_err("no file is set");
        assert_eq!(unset, "azure.federated_token_file is not set on this server");
    }
}

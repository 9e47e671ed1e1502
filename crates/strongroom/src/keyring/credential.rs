//! How a vault's service principal signs in, as rows, the API and pages name it.

use std::str::FromStr;

use jiff::Timestamp;
use strongroom_keys::{ClientCertificate, CredentialInput};

use crate::secret_text::SecretText;

/// The kind of credential that a vault holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// A client secret.
    Secret,
    /// A client certificate with its private key.
    Certificate,
    /// The server's own workload identity; the vault holds nothing.
    WorkloadIdentity,
}

impl CredentialKind {
    pub const ALL: [Self; 3] = [Self::Secret, Self::Certificate, Self::WorkloadIdentity];

    /// As rows and the API write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Certificate => "certificate",
            Self::WorkloadIdentity => "workload_identity",
        }
    }

    /// As pages say it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Secret => "Client secret",
            Self::Certificate => "Client certificate",
            Self::WorkloadIdentity => "Workload identity",
        }
    }
}

impl FromStr for CredentialKind {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.word() == text).ok_or(())
    }
}

/// A credential in the clear: as it was typed, or as it came out of its seal.
pub enum CredentialText {
    Secret(SecretText),
    /// PEM: the private key and its certificate.
    Certificate(SecretText),
    WorkloadIdentity,
}

impl CredentialText {
    pub(super) fn stored(kind: CredentialKind, text: &str) -> Self {
        match kind {
            CredentialKind::Secret => Self::Secret(text.into()),
            CredentialKind::Certificate => Self::Certificate(text.into()),
            CredentialKind::WorkloadIdentity => Self::WorkloadIdentity,
        }
    }

    pub fn kind(&self) -> CredentialKind {
        match self {
            Self::Secret(_) => CredentialKind::Secret,
            Self::Certificate(_) => CredentialKind::Certificate,
            Self::WorkloadIdentity => CredentialKind::WorkloadIdentity,
        }
    }

    /// What is sealed for storage; nothing for a workload identity.
    pub fn text(&self) -> &str {
        match self {
            Self::Secret(text) | Self::Certificate(text) => text.expose().trim(),
            Self::WorkloadIdentity => "",
        }
    }

    /// When it ends: a certificate says so itself, of a client secret somebody may have `said` it.
    pub fn ends(&self, said: Option<Timestamp>) -> Option<Timestamp> {
        match self {
            Self::Secret(_) => said,
            Self::Certificate(pem) => {
                ClientCertificate::parse(pem.expose()).ok().map(|certificate| certificate.not_after())
            }
            Self::WorkloadIdentity => None,
        }
    }

    /// For the checks.
    pub fn input(&self) -> CredentialInput<'_> {
        match self {
            Self::Secret(text) => CredentialInput::Secret(text.expose()),
            Self::Certificate(text) => CredentialInput::Certificate(text.expose()),
            Self::WorkloadIdentity => CredentialInput::WorkloadIdentity,
        }
    }
}

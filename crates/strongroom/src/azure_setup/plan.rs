//! What set-up shall make.

use strongroom_keys::azure::Cloud;

/// What to make, and what to call it.
#[derive(Debug, Clone)]
pub struct Plan {
    pub cloud: Cloud,
    /// The application's display name.
    pub application: String,
    /// An application that exists already, by its client id; then its name is not looked for.
    pub client_id: Option<String>,
    pub resource_group: String,
    pub key_vault: String,
    pub location: String,
    pub key: String,
    /// The key in a hardware security module, which takes a Premium Key Vault.
    pub hsm: bool,
    /// Days that deleted keys stay recoverable, 7 to 90.
    pub retention_days: u32,
    pub credential: CredentialPlan,
    /// Make a credential even if the application has one.
    pub new_credential: bool,
}

/// How the service principal will sign in.
#[derive(Debug, Clone)]
pub enum CredentialPlan {
    Secret,
    Certificate(PublicCertificate),
    /// Tokens of `issuer` for `subject` are as good as a credential.
    WorkloadIdentity {
        issuer: String,
        subject: String,
    },
}

/// What Entra has to know of a certificate. The private key is not in it.
#[derive(Debug, Clone)]
pub struct PublicCertificate {
    /// DER, in base64.
    pub der: String,
    /// SHA-1 of the DER in hexadecimal, upper case: what Entra lists it under.
    pub thumbprint: String,
    /// The PEM file that holds it beside its private key, for the script.
    pub file: String,
}

impl Plan {
    /// A software key and a client secret, with Azure's longest retention, in the public cloud.
    pub fn new(application: &str, resource_group: &str, key_vault: &str, location: &str, key: &str) -> Self {
        Self {
            cloud: Cloud::Public,
            application: application.to_owned(),
            client_id: None,
            resource_group: resource_group.to_owned(),
            key_vault: key_vault.to_owned(),
            location: location.to_owned(),
            key: key.to_owned(),
            hsm: false,
            retention_days: 90,
            credential: CredentialPlan::Secret,
            new_credential: false,
        }
    }

    pub(super) fn sku(&self) -> &'static str {
        if self.hsm { "premium" } else { "standard" }
    }

    pub(super) fn key_type(&self) -> &'static str {
        if self.hsm { "RSA-HSM" } else { "RSA" }
    }
}

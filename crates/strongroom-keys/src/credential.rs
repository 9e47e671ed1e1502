//! How Strongroom proves to Microsoft Entra who it is: a client secret, a client certificate, or the token of a
//! workload identity.

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::input::{Field, InputError, error};

mod certificate;

pub use certificate::ClientCertificate;

/// What signs in. Does not print, clone or serialise; zeroized on drop.
pub enum Credential {
    Secret(ClientSecret),
    Certificate(ClientCertificate),
    /// The server's own identity, by the token file that its configuration names. Holds nothing itself.
    WorkloadIdentity,
}

/// A credential as it was typed.
#[derive(Clone, Copy)]
pub enum CredentialInput<'a> {
    Secret(&'a str),
    /// PEM: the private key and its certificate.
    Certificate(&'a str),
    WorkloadIdentity,
}

impl Credential {
    pub fn parse(input: &CredentialInput<'_>) -> Result<Credential, InputError> {
        match input {
            CredentialInput::Secret(text) => ClientSecret::parse(text).map(Credential::Secret),
            CredentialInput::Certificate(pem) => ClientCertificate::parse(pem).map(Credential::Certificate),
            CredentialInput::WorkloadIdentity => Ok(Credential::WorkloadIdentity),
        }
    }

    /// The certificate, if that is what signs in.
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        match self {
            Credential::Certificate(certificate) => Some(certificate),
            Credential::Secret(_) | Credential::WorkloadIdentity => None,
        }
    }

    /// Another's text without what this credential sends. Certificates and workload identities send signed tokens, which
    /// are blanked out of every text anyway.
    pub(crate) fn blank_out(&self, text: &str) -> String {
        match self {
            Credential::Secret(secret) => text.replace(secret.expose(), "…"),
            Credential::Certificate(_) | Credential::WorkloadIdentity => text.to_owned(),
        }
    }
}

/// The Value of a client secret. Zeroized on drop; does not print, clone or serialise.
pub struct ClientSecret(Zeroizing<String>);

impl ClientSecret {
    /// Takes the secret's Value; white space around it is dropped. A GUID is refused: that is a secret's ID.
    pub fn parse(text: &str) -> Result<ClientSecret, InputError> {
        let field = Field::ClientSecret;
        let fix = "Paste the secret's Value, which Azure shows only once, when the secret is made.";
        let bare = text.trim();
        if bare.is_empty() {
            return Err(error(field, "empty", "The client secret is missing.", fix));
        }
        if Uuid::try_parse(bare.trim_matches(['{', '}'])).is_ok() {
            return Err(error(field, "secret_id", "This looks like the secret's ID, not the secret.", fix));
        }
        if bare.len() > 1024 {
            return Err(error(field, "too_long", "The client secret is longer than 1024 bytes.", fix));
        }
        if bare.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(error(field, "white_space", "The client secret has white space inside it.", fix));
        }
        Ok(ClientSecret(Zeroizing::new(bare.to_owned())))
    }

    /// The secret in the clear, to be sealed for storage or sent to Microsoft Entra.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_id_is_not_a_secret() {
        assert_eq!(
            ClientSecret::parse("12345678-90ab-cdef-1234-567890abcdef").err().map(|e| e.code),
            Some("secret_id")
        );
        assert_eq!(ClientSecret::parse("").err().map(|e| e.code), Some("empty"));
        assert_eq!(ClientSecret::parse("two words").err().map(|e| e.code), Some("white_space"));
        let secret = ClientSecret::parse(" abc8Q~defGHI_jkl.mno-pqr \n");
        assert_eq!(secret.as_ref().ok().map(ClientSecret::expose), Some("abc8Q~defGHI_jkl.mno-pqr"));
    }
}

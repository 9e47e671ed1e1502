//! *Replace the credential* and *Change the Key Vault*: what is asked for beside the checks of it.

use askama::Template;

use super::{Field, Shell, checks::Checks, filters};
use crate::vault::CredentialKind;

pub const MAKE_CERTIFICATE: &str = "\
openssl req -x509 -newkey rsa:3072 -nodes -days 365 -subj /CN=strongroom -keyout strongroom.pem -out strongroom.crt
az ad app credential reset --id CLIENT-ID --cert @strongroom.crt --append
cat strongroom.crt >> strongroom.pem";

/// The fields of a credential, as `settings/credential.html` shows them. Values of secrets are never sent back.
pub struct CredentialFields {
    /// None: the one that is held stays.
    pub credential: Option<CredentialKind>,
    /// Where one is held, and may stay.
    pub keep: Option<Keep>,
    /// Whether this server has a token to sign in with.
    pub offers_workload_identity: bool,
    pub client_secret_error: Option<String>,
    pub client_secret_expires: Field,
    pub client_certificate_error: Option<String>,
}

/// The choice to go on with the credential that is held.
pub struct Keep {
    pub label: &'static str,
    pub hint: &'static str,
    /// When it ends, where that may be noted.
    pub expires: Option<Field>,
}

/// `GET /settings/vaults/{id}/credential`, and its answers.
#[derive(Template)]
#[template(path = "vault/credential.html")]
pub struct CredentialPage {
    pub shell: Shell,
    pub id: String,
    pub name: String,
    pub client_id: Field,
    pub fields: CredentialFields,
    /// How many other vaults have the same credential.
    pub others: u64,
    pub everywhere: bool,
    pub checks: Checks,
    pub problem: Option<String>,
}

/// `GET /settings/vaults/{id}/key-vault`, and its answers.
#[derive(Template)]
#[template(path = "vault/key_vault.html")]
pub struct KeyVaultPage {
    pub shell: Shell,
    pub id: String,
    pub name: String,
    pub client_id: Field,
    pub tenant_id: Field,
    pub fields: CredentialFields,
    pub vault_url: Field,
    pub key_name: Field,
    pub checks: Checks,
    pub problem: Option<String>,
}

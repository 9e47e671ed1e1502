//! The exact Azure CLI command that mends a failure, with the customer's own names filled in.

use super::AzureAccess;
use crate::{Code, KeyFailure, Kid};

/// The command, or `None` where no single command mends it. `kid` is the key version that was asked for, where one was.
pub fn command(failure: &KeyFailure, access: &AzureAccess, kid: Option<&Kid>) -> Option<String> {
    let vault = access.vault_url.vault_name();
    let key = match kid {
        Some(Kid::Azure(url)) => url.name().as_str(),
        _ => access.key_name.as_str(),
    };
    let key_version = match kid {
        Some(Kid::Azure(url)) => format!(" --version {}", url.key_version()),
        _ => String::new(),
    };
    let facts = &failure.facts;
    let client = access.client;
    Some(match failure.code {
        Code::KeyDisabled => {
            format!("az keyvault key set-attributes --vault-name {vault} --name {key}{key_version} --enabled true")
        }
        Code::KeyDeleted | Code::KeyNotFound => format!("az keyvault key recover --vault-name {vault} --name {key}"),
        Code::OperationForbidden => {
            format!(
                "az keyvault key set-attributes --vault-name {vault} --name {key}{key_version} --ops wrapKey unwrapKey"
            )
        }
        Code::KeyExpired => format!("az keyvault key rotate --vault-name {vault} --name {key}"),
        Code::AccessRemoved if facts.access_policies => {
            format!("az keyvault set-policy --name {vault} --spn {client} --key-permissions get wrapKey unwrapKey")
        }
        Code::AccessRemoved => {
            let assignee = match &facts.object_id {
                Some(id) => format!("--assignee-object-id {id} --assignee-principal-type ServicePrincipal"),
                None => format!("--assignee {client}"),
            };
            let scope = facts.resource.as_ref().filter(|resource| is_resource_id(resource)).map_or_else(
                || format!("\"$(az keyvault show --name {vault} --query id --output tsv)/keys/{key}\""),
                |resource| format!("\"{resource}\""),
            );
            format!(
                "az role assignment create --role \"Key Vault Crypto Service Encryption User\" {assignee} --scope {scope}"
            )
        }
        Code::Firewall => {
            let address = facts.client_address.as_ref()?;
            format!("az keyvault network-rule add --name {vault} --ip-address {address}")
        }
        Code::SecretWrong | Code::SecretExpired => format!("az ad app credential reset --id {client} --append"),
        Code::CertificateRefused | Code::CertificateExpired => {
            format!("az ad app credential reset --id {client} --cert @certificate.pem --append")
        }
        Code::NoFederation => {
            let named = |fact: &Option<String>| fact.clone().filter(|text| is_claim(text));
            let (issuer, subject) = (named(&facts.issuer)?, named(&facts.subject)?);
            let parameters = serde_json::json!({
                "name": "strongroom",
                "issuer": issuer,
                "subject": subject,
                "audiences": ["api://AzureADTokenExchange"],
            });
            format!("az ad app federated-credential create --id {client} --parameters '{parameters}'")
        }
        Code::ApplicationDisabled => format!("az ad sp update --id {client} --set accountEnabled=true"),
        Code::NoServicePrincipal => format!("az ad sp create --id {client}"),
        Code::TenantMismatch => {
            format!("az keyvault show --name {vault} --query properties.tenantId --output tsv")
        }
        _ => return None,
    })
}

/// Only what a resource id can hold goes into a command: the text comes from outside.
pub(crate) fn is_resource_id(text: &str) -> bool {
    text.starts_with("/subscriptions/")
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '(' | ')'))
}

/// Only what an issuer's URL or a subject like `system:serviceaccount:ns:name` or `repo:org/name:ref:refs/heads/main`
/// can hold: the text goes between single quotes.
fn is_claim(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "/:._-@|*~+=%,".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azure::Cloud;
    use crate::{ClientId, Credential, CredentialInput, KeyName, Operation, TenantId, VaultUrl};

    const ID: &str = "11111111-1111-4111-8111-111111111111";

    fn access() -> AzureAccess {
        AzureAccess {
            tenant: TenantId::parse(ID).expect("an id"),
            client: ClientId::parse(ID).expect("an id"),
            credential: Credential::parse(&CredentialInput::Secret("abc8Q~def"))
                .unwrap_or_else(|error| panic!("{error}")),
            vault_url: VaultUrl::parse("https://acme.vault.azure.net", Cloud::Public).expect("a URL"),
            key_name: KeyName::parse("kek").expect("a name"),
        }
    }

    #[test]
    fn text_from_outside_cannot_add_to_a_command() {
        let mut failure = KeyFailure::new(Code::AccessRemoved, Operation::Unwrap, "");
        for resource in ["/subscriptions/x\"; rm -rf ~; \"", "/subscriptions/$(id)", "`id`", "/other/x"] {
            failure.facts.resource = Some(resource.to_owned());
            let command = command(&failure, &access(), None).expect("a command");
            assert!(!command.contains(resource), "{command}");
            assert!(command.ends_with("--scope \"$(az keyvault show --name acme --query id --output tsv)/keys/kek\""));
        }
    }

    #[test]
    fn a_federated_credential_is_made_for_the_very_token_that_was_refused() {
        let mut failure = KeyFailure::new(Code::NoFederation, Operation::Unwrap, "");
        failure.facts.issuer = Some("https://oidc.example/cluster/".to_owned());
        failure.facts.subject = Some("system:serviceaccount:vaults:strongroom".to_owned());
        let mends = command(&failure, &access(), None).expect("a command");
        assert!(mends.contains(r#""subject":"system:serviceaccount:vaults:strongroom""#), "{mends}");
        failure.facts.subject = Some("x' ; rm -rf ~ ; '".to_owned());
        assert_eq!(command(&failure, &access(), None), None);
    }

    #[test]
    fn no_command_shows_the_secret() {
        for &code in Code::ALL {
            let command = command(&KeyFailure::new(code, Operation::Unwrap, ""), &access(), None);
            assert!(command.is_none_or(|command| !command.contains("8Q~")), "{code}");
        }
    }
}

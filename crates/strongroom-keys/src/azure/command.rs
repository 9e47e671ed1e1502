//! The exact Azure CLI command that mends a failure, with the customer's own names filled in.

use serde_json::{Value, json};
use strongroom_envelope::digest;

use super::{AzureAccess, Cloud};
use crate::{Code, KeyFailure, KeyUrl, Kid};

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
            permit(&format!("--vault-name {vault} --name {key}{key_version}"), &facts.permitted)
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
        // Network rules have no effect there.
        Code::Firewall if facts.private_only => return None,
        Code::Firewall => {
            let address = facts.client_address.as_ref()?;
            format!("az keyvault network-rule add --name {vault} --ip-address {address}")
        }
        Code::SecretWrong | Code::SecretExpired => format!("az ad app credential reset --id {client} --append"),
        Code::CertificateRefused | Code::CertificateExpired => {
            format!("az ad app credential reset --id {client} --cert @certificate.pem --append")
        }
        // The application may well trust the issuer and the subject: another record would not help.
        Code::NoFederation if facts.audience.is_some() => return None,
        Code::NoFederation => {
            let named = |fact: &Option<String>| fact.clone().filter(|text| is_claim(text));
            let (issuer, subject) = (named(&facts.issuer)?, named(&facts.subject)?);
            let parameters = federated_credential(access.vault_url.cloud(), &issuer, &subject);
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

/// Switches one key version off: what an administrator runs to withdraw it.
pub fn disable_command(kid: &KeyUrl) -> String {
    let vault = kid.host().split('.').next().unwrap_or_default();
    let (key, key_version) = (kid.name().as_str(), kid.key_version());
    format!("az keyvault key set-attributes --vault-name {vault} --name {key} --version {key_version} --enabled false")
}

/// What makes an application trust the tokens of `issuer` that speak for `subject`: the body of Microsoft Graph's
/// `federatedIdentityCredentials`. Its name is made of both, because an application has each name once.
pub fn federated_credential(cloud: Cloud, issuer: &str, subject: &str) -> Value {
    let about = digest(format!("{issuer}|{subject}").as_bytes());
    let [a, b, c, d, ..] = about;
    json!({
        "name": format!("strongroom-{a:02x}{b:02x}{c:02x}{d:02x}"),
        "issuer": issuer,
        "subject": subject,
        "audiences": [cloud.federation_audience()],
    })
}

/// Lets `key` be used for wrapping too. `--ops` replaces the whole list, and others may use the key, so what it
/// `permitted` goes along; where that is not known, the command asks for it first and ends if it gets no answer.
fn permit(key: &str, permitted: &[String]) -> String {
    const NEEDED: [&str; 2] = ["wrapKey", "unwrapKey"];
    let set = format!("az keyvault key set-attributes {key} --ops");
    if permitted.is_empty() {
        let show = format!("az keyvault key show {key} --query key.keyOps --output tsv");
        return format!("OPS=$({show}) && {set} $(printf '%s\\n' {} $OPS | sort -u)", NEEDED.join(" "));
    }
    let known = permitted.iter().map(String::as_str).filter(|one| one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let lacking = NEEDED.into_iter().filter(|needed| !permitted.iter().any(|one| one.eq_ignore_ascii_case(needed)));
    let all: Vec<&str> = known.chain(lacking).collect();
    format!("{set} {}", all.join(" "))
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
        // Another subject's would stand under another name: Entra refuses a name that is taken.
        let name =
            |command: &str| command.split(r#""name":""#).nth(1).and_then(|rest| rest.get(..19)).map(str::to_owned);
        assert!(name(&mends).is_some_and(|name| name.starts_with("strongroom-")), "{mends}");
        failure.facts.subject = Some("system:serviceaccount:vaults:other".to_owned());
        assert_ne!(name(&command(&failure, &access(), None).expect("a command")), name(&mends));
        failure.facts.subject = Some("x' ; rm -rf ~ ; '".to_owned());
        assert_eq!(command(&failure, &access(), None), None);
    }

    #[test]
    fn a_federated_credential_has_the_audience_of_the_key_vaults_own_cloud() {
        let mut failure = KeyFailure::new(Code::NoFederation, Operation::Unwrap, "");
        failure.facts.issuer = Some("https://oidc.example/cluster/".to_owned());
        failure.facts.subject = Some("one".to_owned());
        for (cloud, audience) in [
            (Cloud::Public, "api://AzureADTokenExchange"),
            (Cloud::Government, "api://AzureADTokenExchangeUSGov"),
            (Cloud::China, "api://AzureADTokenExchangeChina"),
        ] {
            let url = format!("https://acme{}", cloud.vault_suffix());
            let access = AzureAccess { vault_url: VaultUrl::parse(&url, cloud).expect("a URL"), ..access() };
            let mends = command(&failure, &access, None).expect("a command");
            assert!(mends.contains(&format!(r#""audiences":["{audience}"]"#)), "{mends}");
        }
    }

    #[test]
    fn a_token_for_another_audience_is_not_mended_by_one_more_federated_credential() {
        let mut failure = KeyFailure::new(Code::NoFederation, Operation::Unwrap, "");
        failure.facts.issuer = Some("https://oidc.example/cluster/".to_owned());
        failure.facts.subject = Some("one".to_owned());
        failure.facts.audience = Some("api://other".to_owned());
        assert_eq!(command(&failure, &access(), None), None);
    }

    #[test]
    fn whoever_else_uses_the_key_keeps_what_it_permits_them() {
        let mut failure = KeyFailure::new(Code::OperationForbidden, Operation::Unwrap, "");
        failure.facts.permitted = ["sign", "unwrapKey", "decrypt", "x;id"].map(str::to_owned).to_vec();
        let known = command(&failure, &access(), None).expect("a command");
        assert_eq!(
            known,
            "az keyvault key set-attributes --vault-name acme --name kek --ops sign unwrapKey decrypt wrapKey"
        );
        failure.facts.permitted.clear();
        let unknown = command(&failure, &access(), None).expect("a command");
        assert_eq!(
            unknown,
            "OPS=$(az keyvault key show --vault-name acme --name kek --query key.keyOps --output tsv) && \
             az keyvault key set-attributes --vault-name acme --name kek --ops \
             $(printf '%s\\n' wrapKey unwrapKey $OPS | sort -u)"
        );
        assert!(Code::OperationForbidden.fix().contains("replaces the whole list"));
    }

    #[test]
    fn no_command_shows_the_secret() {
        for &code in Code::ALL {
            let command = command(&KeyFailure::new(code, Operation::Unwrap, ""), &access(), None);
            assert!(command.is_none_or(|command| !command.contains("8Q~")), "{code}");
        }
    }
}

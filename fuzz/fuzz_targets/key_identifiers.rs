//! Key identifiers, Vault URLs, key names and ids as they are pasted: one form each, which prints as it was read, and never a
//! host that is no Key Vault's.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_keys::{
    ClientCertificate, ClientId, KeyName, Kid, TenantId, VaultUrl, azure::Cloud, parse_vault_url_and_key,
};

fuzz_target!(|text: &str| {
    for text in [text.to_owned(), format!("https://acme.vault.azure.net/keys/{text}"), format!("cloud:{text}")] {
        if let Ok(kid) = text.parse::<Kid>() {
            assert_eq!(kid.to_string(), text, "a kid prints as it was read");
            assert!(kid.same_key(&kid) && kid.same_key_version(&kid));
        }
    }
    for cloud in [Cloud::Public, Cloud::Government, Cloud::China] {
        if let Ok(url) = VaultUrl::parse(text, cloud) {
            is_a_key_vault(&url, cloud);
        }
        let (url, key) = text.split_once('\n').unwrap_or((text, ""));
        if let Ok((url, name)) = parse_vault_url_and_key(url, key, cloud) {
            is_a_key_vault(&url, cloud);
            assert_eq!(
                KeyName::parse(name.as_str()).map(|again| again.as_str().to_owned()),
                Ok(name.as_str().to_owned())
            );
        }
    }
    let _ = (TenantId::parse(text), ClientId::parse(text), KeyName::parse(text), ClientCertificate::parse(text));
});

fn is_a_key_vault(url: &VaultUrl, cloud: Cloud) {
    assert!(url.host().ends_with(cloud.vault_suffix()), "{url} is no Key Vault of that cloud");
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    assert!(!url.vault_name().is_empty() && url.vault_name().chars().all(plain), "{url}");
    let again = VaultUrl::parse(&url.to_string(), cloud).map(|again| again.to_string());
    assert_eq!(again, Ok(url.to_string()), "it reads as it prints");
}

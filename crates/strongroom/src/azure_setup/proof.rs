//! The last thing before Strongroom: the service principal itself signs in, and wraps and unwraps with the key.

use jiff::Timestamp;
use strongroom_keys::{
    AzureInput, Code,
    azure::AzureKeys,
    check::{CheckLine, CheckStatus, check},
};

use super::run::{Listen, Patience};
use crate::vault::REQUIRED_BITS;

/// What a role assignment gives until it counts.
const ROLE: [Code; 2] = [Code::AccessRemoved, Code::Throttled];
/// What a credential gives until all of Entra ID knows it and its application.
const CREDENTIAL: [Code; 5] =
    [Code::SecretWrong, Code::UnknownClient, Code::CertificateRefused, Code::NoFederation, Code::NoServicePrincipal];

/// Repeats the checks of `strongroom vault check` until they pass, for up to ten minutes while they fail for a reason
/// that passes by itself. `new_credential`: whether a refused credential is one of them. Returns the last lines, of
/// which some may have failed.
pub async fn prove(
    azure: &AzureKeys,
    input: &AzureInput<'_>,
    new_credential: bool,
    listen: Listen<'_>,
) -> Vec<CheckLine> {
    let mut patience = Patience::begin();
    loop {
        let lines = check(azure, input, Timestamp::now(), REQUIRED_BITS, &|_| {}).await;
        let Some(failed) = lines.iter().find(|line| line.status == CheckStatus::Fail) else { return lines };
        let one_of = |codes: &[Code]| codes.iter().any(|code| failed.reason == Some(code.as_str()));
        let waited = if one_of(&ROLE) {
            patience.pause("the role on the key to count", listen).await
        } else if new_credential && one_of(&CREDENTIAL) {
            patience.pause("the new credential to be known everywhere in Entra ID", listen).await
        } else {
            false
        };
        if !waited {
            return lines;
        }
    }
}

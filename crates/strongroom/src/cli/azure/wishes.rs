//! What the options ask for, checked before anything is asked of Azure.

use std::{fs, io::ErrorKind};

use clap::ValueEnum;
use jiff::Timestamp;
use strongroom_keys::{ClientId, InputError, KeyName, VaultUrl};
use zeroize::Zeroizing;

use super::Setup;
use crate::{
    azure_setup::{Certificate, CredentialPlan, Plan, PublicCertificate},
    cli::failure::Failure,
    secret_text::SecretText,
};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum CredentialKind {
    /// A client secret, good for two years
    Secret,
    /// A certificate; Azure never sees its private key
    Certificate,
    /// Tokens of the server's own platform; no secret to keep
    WorkloadIdentity,
}

/// What to make, and the credential as far as it is known before.
pub(super) struct Wishes {
    pub plan: Plan,
    pub at_hand: AtHand,
}

/// What Strongroom shall sign in with, as far as this machine knows it.
pub(super) enum AtHand {
    /// A client secret that is new, or was kept in a file; with its end, where that is known.
    Secret(SecretText, Option<Timestamp>),
    /// PEM with the private key.
    Certificate(SecretText),
    /// Only the server has its tokens.
    WorkloadIdentity,
    /// A client secret that Azure made earlier and does not show again, or one that is still to be made.
    Unknown,
}

/// Reads the options. Makes nothing: a certificate that is not there yet is `certificate`'s to make.
pub(super) fn wishes(setup: &Setup, now: Timestamp) -> Result<Wishes, Failure> {
    let (credential, at_hand) = credential(setup, now)?;
    Ok(Wishes { plan: plan(setup, credential)?, at_hand })
}

fn plan(setup: &Setup, credential: CredentialPlan) -> Result<Plan, Failure> {
    let (things, cloud) = (&setup.things, setup.sign_in.cloud());
    let wrong = |option: &str| {
        let option = option.to_owned();
        move |error: InputError| Failure::usage(format!("{option}: {}", error.cause)).fix(error.fix)
    };
    VaultUrl::parse(&format!("https://{}{}", things.key_vault, cloud.vault_suffix()), cloud).map_err(|_| {
        Failure::usage("--key-vault: this is no name of a Key Vault").fix("take 3 to 24 letters, digits and hyphens")
    })?;
    let key = KeyName::parse(&things.key).map_err(wrong("--key"))?;
    let client_id = things.client_id.as_deref().map(ClientId::parse).transpose().map_err(wrong("--client-id"))?;
    let plain = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || more.contains(letter))
    };
    if !plain(&things.resource_group, "-_.()") || things.resource_group.len() > 90 {
        return Err(Failure::usage("--resource-group: this is no name of a resource group")
            .fix("take up to 90 letters, digits, hyphens, underscores, full stops and parentheses"));
    }
    if !plain(&things.location, "") {
        return Err(Failure::usage("--location: this is no Azure region")
            .fix("write it as `az account list-locations --query [].name` does: westeurope"));
    }
    if things.application.is_empty() || things.application.chars().any(char::is_control) {
        return Err(Failure::usage("--application: this is no name").fix("take letters, digits and spaces"));
    }
    Ok(Plan {
        cloud,
        client_id: client_id.map(|id| id.to_string()),
        hsm: things.hsm,
        retention_days: things.retention_days,
        credential,
        new_credential: setup.credential.new_credential,
        ..Plan::new(&things.application, &things.resource_group, &things.key_vault, &things.location, key.as_str())
    })
}

fn credential(setup: &Setup, now: Timestamp) -> Result<(CredentialPlan, AtHand), Failure> {
    let arguments = &setup.credential;
    Ok(match arguments.credential {
        CredentialKind::Secret => (CredentialPlan::Secret, kept_secret(setup)?),
        CredentialKind::Certificate => {
            let file = &arguments.certificate;
            if setup.print.is_some() || !file.exists() {
                (CredentialPlan::Certificate(PublicCertificate::to_be_made(file)), AtHand::Unknown)
            } else {
                certificate(setup, now)?
            }
        }
        CredentialKind::WorkloadIdentity => {
            let needed = |value: &Option<String>| value.clone().expect("clap requires it with workload-identity");
            let issuer = needed(&arguments.issuer);
            if !issuer.starts_with("https://") {
                return Err(Failure::usage("--issuer: the issuer of tokens is an https:// URL")
                    .fix("copy it from the tokens' `iss`, letter by letter: a slash at the end counts"));
            }
            let subject = needed(&arguments.subject);
            (CredentialPlan::WorkloadIdentity { issuer, subject }, AtHand::WorkloadIdentity)
        }
    })
}

/// The certificate in its file, which is made if it is not there.
pub(super) fn certificate(setup: &Setup, now: Timestamp) -> Result<(CredentialPlan, AtHand), Failure> {
    let Certificate { pem, public, .. } = Certificate::read_or_make(&setup.credential.certificate, now)?;
    Ok((CredentialPlan::Certificate(public), AtHand::Certificate(pem)))
}

/// The client secret that an earlier run kept in the file.
fn kept_secret(setup: &Setup) -> Result<AtHand, Failure> {
    let Some(file) = setup.credential.secret_file.as_ref().filter(|_| !setup.credential.new_credential) else {
        return Ok(AtHand::Unknown);
    };
    match fs::read_to_string(file) {
        Ok(text) if text.trim().is_empty() => Ok(AtHand::Unknown),
        Ok(text) => {
            let text = Zeroizing::new(text);
            Ok(AtHand::Secret(SecretText::from(text.trim()), None))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(AtHand::Unknown),
        Err(error) => {
            Err(Failure::usage(format!("{} cannot be read: {error}", file.display())).fix("name another --secret-file"))
        }
    }
}

//! What was typed: each value by itself, nothing sent.

use super::{AzureInput, Run};
use crate::azure::AzureAccess;
use crate::input::{Field, parse_vault_url_and_key};
use crate::{ClientId, Credential, InputError, KeyName, TenantId, VaultUrl};

pub(super) fn check(run: &mut Run<'_>, input: &AzureInput<'_>) -> Option<AzureAccess> {
    let report = &mut run.report;
    let client = report.parsed("form.client_id", ClientId::parse(input.client_id));
    let tenant = report.parsed("form.tenant_id", TenantId::parse(input.tenant_id));
    let now = run.now;
    let credential = Credential::parse(&input.credential).and_then(|credential| {
        let valid = credential.certificate().map_or(Ok(()), |certificate| certificate.valid_at(now));
        // Nobody has been asked yet what time it is elsewhere.
        let by_our_clock = |error: InputError| {
            let cause = format!("{} It is {now} by this server's clock.", error.cause);
            InputError { cause, ..error }
        };
        valid.map_err(by_our_clock).map(|()| credential)
    });
    let credential = report.parsed("form.client_secret", credential);
    let (vault_url, key_name) = key(run, input)?;
    Some(AzureAccess { tenant: tenant?, client: client?, credential: credential?, vault_url, key_name })
}

fn key(run: &mut Run<'_>, input: &AzureInput<'_>) -> Option<(VaultUrl, KeyName)> {
    let report = &mut run.report;
    match parse_vault_url_and_key(input.vault_url, input.vault_key_name, run.azure.cloud()) {
        Ok(key) => {
            report.pass("form.vault_url");
            report.pass("form.vault_key_name");
            report.pass("host.allowed");
            Some(key)
        }
        Err(error) if error.field == Field::VaultUrl => {
            // Which hosts are allowed is a question of its own; the rest is the form of the URL.
            if error.code.starts_with("host_") {
                report.pass("form.vault_url");
                report.input("host.allowed", error);
            } else {
                report.input("form.vault_url", error);
            }
            if !input.vault_key_name.contains("://") {
                report.parsed("form.vault_key_name", KeyName::parse(input.vault_key_name));
            }
            None
        }
        Err(error) => {
            report.pass("form.vault_url");
            report.input("form.vault_key_name", error);
            None
        }
    }
}

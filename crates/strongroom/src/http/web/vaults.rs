//! Settings › Workspace Configuration › Privacy and Security › Vault management: the table of vaults, and step 5 of the
//! article.

use axum::{
    http::{HeaderMap, StatusCode},
    response::Response,
};
use jiff::Timestamp;
use strongroom_keys::check::CheckStatus;

use super::{
    checks::{self, Ran, Subject},
    form::Form,
    jobs,
    vault::expiry_soon,
    views::{
        Choice, Field, Section,
        checks::Place,
        credential::CredentialFields,
        jobs::JobCard,
        said_of,
        settings::{AzureVaultPage, CloudVaultPage, NewVaultPage, PrivacyPage, SettingsTab, VaultRow},
    },
    visit::{Visit, to},
    words,
};
use crate::{
    error::{Error, FieldError, Result},
    http::{
        error::{capital, status},
        progress::wants_lines,
    },
    keyring::Strategy,
    vault::{Accepted, AzureRequest, CredentialKind, CredentialText, KeyRequest, VaultRequest, VaultState, expiry},
};

const TABLE: &str = "/settings/privacy-and-security";

/// `GET /settings/vaults`, where a form is sent to: whoever shortens the address of a vault wants the table.
pub async fn back(_: Visit) -> Response {
    to(TABLE)
}

pub async fn table(visit: Visit) -> Result<Response> {
    let now = visit.app.clock.now();
    let mut shell = visit.shell("Privacy and Security", Section::Settings).await?;
    let (names, jobs) = (visit.names().await?, visit.app.jobs(&visit.caller).await?);
    let jobs_of = |id| {
        let mut jobs = jobs::of_vault(&jobs, id, &shell, &names, now);
        jobs.retain(JobCard::is_active);
        jobs
    };
    let rows = visit.app.vaults(&visit.caller).await?.into_iter().map(|vault| VaultRow {
        external: vault.strategy == Strategy::AzureExternalKeys,
        closed: vault.state == VaultState::Closed,
        jobs: jobs_of(vault.id),
        id: vault.id.to_string(),
        key: match &vault.azure {
            Some(azure) => format!("{} / {}", key_vault_name(&azure.vault_url), azure.key_name),
            None if vault.strategy == Strategy::Cloud => "Instance key".to_owned(),
            None => "not known".to_owned(),
        },
        key_version: vault
            .azure
            .as_ref()
            .map(|_| key_version(&vault.kid).chars().take(8).collect())
            .unwrap_or_default(),
        state: words::state(&vault.health),
        expiry: expiry_soon(&vault, now),
        name: vault.name,
        is_default: vault.is_default,
        strategy: vault.strategy.title().to_owned(),
        items: vault.items,
        created: words::moment(now, vault.created_at),
    });
    let vaults: Vec<_> = rows.collect();
    for vault in &vaults {
        jobs::refresh_while(&mut shell, &vault.jobs);
    }
    let external_keys = visit.app.workspace(&visit.caller).await?.external_keys;
    visit.page(PrivacyPage { shell, tab: SettingsTab::PrivacyAndSecurity, external_keys, vaults })
}

pub async fn first_dialog(visit: Visit) -> Result<Response> {
    // Asked now, so that nobody types the values of a key and is asked then.
    visit.app.require_fresh(&visit.caller)?;
    first_page(&visit, StatusCode::OK, &Form::default(), &[], None).await
}

/// *Next*: the second dialog, unless the workspace's rules stand against a vault of this name and strategy.
pub async fn next(visit: Visit, form: Form) -> Result<Response> {
    let Some(strategy) = form.parsed::<Strategy>("strategy") else {
        let errors = [FieldError { field: "strategy".into(), message: "Choose a strategy.".into() }];
        return first_page(&visit, StatusCode::UNPROCESSABLE_ENTITY, &form, &errors, None).await;
    };
    match visit.app.may_create_vault(&visit.caller, form.get("name"), strategy).await {
        Ok(()) => second_page(&visit, StatusCode::OK, &form, strategy, Outcome::default()).await,
        Err(Error::Invalid(errors)) => first_page(&visit, StatusCode::UNPROCESSABLE_ENTITY, &form, &errors, None).await,
        Err(error @ Error::Conflict { .. }) => first_page(&visit, status(&error), &form, &[], Some(said(&error))).await,
        Err(error) => Err(error),
    }
}

/// *Check*: the checks alone, nothing is saved.
pub async fn check_values(visit: Visit, headers: HeaderMap, form: Form) -> Result<Response> {
    let request = match azure_request(&form) {
        Ok(request) => request,
        Err(error) => return wrong_value(&visit, &form, error).await,
    };
    if wants_lines(&headers) {
        return checks::streamed(visit, Subject::Values(request)).await;
    }
    let ran = match checks::whole(&visit, &Subject::Values(request)).await {
        Err(error @ Error::CheckRunning) => {
            let outcome = Outcome { problem: Some(said(&error)), ..Outcome::default() };
            return second_page(&visit, status(&error), &form, Strategy::AzureExternalKeys, outcome).await;
        }
        ran => ran?,
    };
    second_page(&visit, StatusCode::OK, &form, Strategy::AzureExternalKeys, Outcome::of(ran, &form)).await
}

/// *Create vault*.
pub async fn create(visit: Visit, form: Form) -> Result<Response> {
    let strategy = form.parsed::<Strategy>("strategy").ok_or(Error::field("strategy", "Choose a strategy."))?;
    let key = match strategy {
        Strategy::Cloud => KeyRequest::Cloud,
        Strategy::AzureExternalKeys => match azure_request(&form) {
            Ok(request) => KeyRequest::Azure(request),
            Err(error) => return wrong_value(&visit, &form, error).await,
        },
    };
    let request = VaultRequest {
        name: form.text("name"),
        make_default: form.has("default"),
        key,
        accept_warnings: accepted(&form),
    };
    match visit.app.create_vault(&visit.caller, request).await {
        Ok(_) => Ok(to(format!("{TABLE}?done=vault-created"))),
        Err(error) => {
            let status = status(&error);
            match error {
                Error::ChecksFailed(lines) => {
                    let outcome = Outcome::of(Ran { lines, took: None }, &form);
                    second_page(&visit, status, &form, strategy, outcome).await
                }
                Error::Invalid(errors) => first_page(&visit, status, &form, &errors, None).await,
                error @ (Error::Conflict { .. } | Error::KeyUnavailable(_) | Error::CheckRunning) => {
                    let outcome = Outcome { problem: Some(said(&error)), ..Outcome::default() };
                    second_page(&visit, status, &form, strategy, outcome).await
                }
                error => Err(error),
            }
        }
    }
}

/// The warnings that stood beside the tick, if it was set: one that nobody saw is not taken.
pub(super) fn accepted(form: &Form) -> Accepted {
    match form.has("accept_warnings") {
        true => Accepted::Lines(form.all("warned").map(str::to_owned).collect()),
        false => Accepted::None,
    }
}

async fn first_page(
    visit: &Visit,
    status: StatusCode,
    form: &Form,
    errors: &[FieldError],
    problem: Option<String>,
) -> Result<Response> {
    let external_keys = visit.app.workspace(&visit.caller).await?.external_keys;
    let wanted = form.parsed::<Strategy>("strategy").unwrap_or(Strategy::Cloud);
    let mut strategies = vec![Strategy::Cloud];
    if external_keys {
        strategies.push(Strategy::AzureExternalKeys);
    }
    let strategies =
        strategies.into_iter().map(|strategy| Choice::new(strategy.word(), strategy.title(), strategy == wanted));
    words::page(
        status,
        NewVaultPage {
            shell: visit.shell("Create new vault", Section::Settings).await?,
            name: Field::checked(form.get("name"), "name", errors),
            strategies: strategies.collect(),
            strategy_error: said_of("strategy", errors),
            default: form.has("default"),
            problem,
        },
    )
}

/// What came of the values of the second dialog.
#[derive(Default)]
pub struct Outcome {
    pub ran: Option<Ran>,
    pub errors: Vec<FieldError>,
    pub problem: Option<String>,
}

impl Outcome {
    pub fn wrong(error: FieldError) -> Self {
        Self { errors: vec![error], ..Self::default() }
    }

    pub fn problem(error: &Error) -> Self {
        Self { problem: Some(said(error)), ..Self::default() }
    }

    pub fn of(ran: Ran, form: &Form) -> Self {
        // What is wrong with a value stands beside it too.
        let wrong = ran.lines.iter().filter(|line| line.status == CheckStatus::Fail);
        let errors = wrong.filter_map(|line| {
            let field = checks::field_of(line.code, credential_of(form))?.to_owned();
            Some(FieldError { field: field.into(), message: line.cause.clone()?.into() })
        });
        Self { errors: errors.collect(), ran: Some(ran), problem: None }
    }
}

async fn wrong_value(visit: &Visit, form: &Form, error: FieldError) -> Result<Response> {
    let outcome = Outcome { errors: vec![error], ..Outcome::default() };
    second_page(visit, StatusCode::UNPROCESSABLE_ENTITY, form, Strategy::AzureExternalKeys, outcome).await
}

async fn second_page(
    visit: &Visit,
    status: StatusCode,
    form: &Form,
    strategy: Strategy,
    outcome: Outcome,
) -> Result<Response> {
    let shell = visit.shell("Create new vault", Section::Settings).await?;
    let (name, default) = (form.text("name"), form.has("default"));
    let Outcome { ran, errors, problem } = outcome;
    if strategy == Strategy::Cloud {
        return words::page(status, CloudVaultPage { shell, name, default, problem });
    }
    let field = |name: &'static str| Field::checked(form.get(name), name, &errors);
    words::page(
        status,
        AzureVaultPage {
            shell,
            setup_command: setup_command(&visit.app.settings.public_url, &name, default),
            name,
            default,
            client_id: field("client_id"),
            tenant_id: field("tenant_id"),
            fields: credential_fields(visit, form, &errors),
            vault_url: field("vault_url"),
            key_name: field("vault_key_name"),
            checks: checks::panel(Place::Wizard, ran.as_ref()),
            problem,
        },
    )
}

pub fn credential_fields(visit: &Visit, form: &Form, errors: &[FieldError]) -> CredentialFields {
    CredentialFields {
        credential: Some(credential_of(form)).filter(|_| form.get("credential") != "keep"),
        keep: None,
        offers_workload_identity: visit.app.azure.offers_workload_identity(),
        client_secret_error: said_of("client_secret", errors),
        client_secret_expires: Field::checked(form.get("client_secret_expires"), "client_secret_expires", errors),
        client_certificate_error: said_of("client_certificate", errors),
    }
}

pub fn credential_of(form: &Form) -> CredentialKind {
    form.parsed("credential").unwrap_or(CredentialKind::Secret)
}

/// The values as they were typed. Fields of another kind of credential than the chosen one are left aside.
fn azure_request(form: &Form) -> std::result::Result<AzureRequest, FieldError> {
    let credential = credential_text(form);
    let credential_expires = ends(form, "client_secret_expires")?;
    Ok(AzureRequest {
        client_id: form.text("client_id"),
        tenant_id: form.text("tenant_id"),
        credential,
        credential_expires,
        vault_url: form.text("vault_url"),
        vault_key_name: form.text("vault_key_name"),
    })
}

/// What was typed of the chosen kind.
pub fn credential_text(form: &Form) -> CredentialText {
    match credential_of(form) {
        CredentialKind::Secret => CredentialText::Secret(form.secret("client_secret")),
        CredentialKind::Certificate => CredentialText::Certificate(form.secret("client_certificate")),
        CredentialKind::WorkloadIdentity => CredentialText::WorkloadIdentity,
    }
}

/// The day that was typed into `field`, if one was: of a client secret alone, since the others know it themselves.
pub fn ends(form: &Form, field: &'static str) -> std::result::Result<Option<Timestamp>, FieldError> {
    let typed = form.get(field).trim();
    if typed.is_empty() || credential_of(form) != CredentialKind::Secret {
        return Ok(None);
    }
    let message = "Write a date as in 2027-05-01, or leave it empty.";
    expiry(typed).map(Some).ok_or(FieldError { field: field.into(), message: message.into() })
}

/// Makes what the second dialog asks for, and the vault.
fn setup_command(public_url: &str, vault_name: &str, default: bool) -> String {
    let (vault_name, default) = (quoted(vault_name), if default { " --default" } else { "" });
    format!(
        "strongroom login {public_url}\n\
         strongroom azure setup --key-vault KEY-VAULT-NAME --location REGION --vault-name {vault_name}{default}"
    )
}

/// For a shell: between single quotes, those inside it taken out of them.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A refusal as one line: what happened, what to do.
pub fn said(error: &Error) -> String {
    format!("{}. {}", capital(error.to_string().trim_end_matches('.')), error.fix())
}

/// `contoso-kv` of `https://contoso-kv.vault.azure.net`.
pub fn key_vault_name(url: &str) -> String {
    let host = url.split("://").nth(1).unwrap_or(url);
    host.split(['.', '/']).next().unwrap_or(host).to_owned()
}

/// The key version at the end of a key identifier.
pub fn key_version(kid: &str) -> &str {
    kid.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_up_command_runs_as_pasted_whatever_the_vault_is_called() {
        let command = setup_command("https://s.example", "Fiona's; rm -rf ~", true);
        let wanted = r"--vault-name 'Fiona'\''s; rm -rf ~' --default";
        assert!(command.starts_with("strongroom login https://s.example\n") && command.ends_with(wanted), "{command}");
    }
}

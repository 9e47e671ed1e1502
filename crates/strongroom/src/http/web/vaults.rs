//! Settings › Workspace Configuration › Privacy and Security › Vault management: step 5 of the article, and the page
//! of one vault.

use axum::{http::StatusCode, response::Response};
use strongroom_keys::check::{CheckLine, CheckStatus as Status};

use super::{
    form::Form,
    views::{
        Choice, Field, Section, said_of,
        settings::{
            AzureVaultPage, CheckRow, CheckStatus, CloudVaultPage, NewVaultPage, PrivacyPage, SettingsTab, VaultRow,
        },
        vaults::{AzureKey, VaultPage},
    },
    visit::{Visit, to},
    words,
};
use crate::{
    error::{Error, FieldError, Result},
    http::{
        error::{capital, status},
        extract::PathId,
    },
    id::VaultId,
    keyring::Strategy,
    vault::{AzureRequest, CredentialText, Health, KeyRequest, Vault, VaultEdit, VaultRequest},
};

const TABLE: &str = "/settings/privacy-and-security";

pub async fn table(visit: Visit) -> Result<Response> {
    let now = visit.app.clock.now();
    let rows = visit.app.vaults(&visit.caller).await?.into_iter().map(|vault| VaultRow {
        id: vault.id.to_string(),
        key: match &vault.azure {
            Some(azure) => format!("{} / {}", key_vault_name(&azure.vault_url), azure.key_name),
            None => "Instance key".to_owned(),
        },
        key_version: vault
            .azure
            .as_ref()
            .map(|_| key_version(&vault.kid).chars().take(8).collect())
            .unwrap_or_default(),
        state: words::state(&vault.health),
        name: vault.name,
        is_default: vault.is_default,
        strategy: vault.strategy.title().to_owned(),
        items: vault.items,
        created: words::moment(now, vault.created_at),
    });
    let vaults = rows.collect();
    let external_keys = visit.app.workspace(&visit.caller).await?.external_keys;
    let shell = visit.shell("Privacy and Security", Section::Settings).await?;
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
        Ok(()) => second_page(&visit, StatusCode::OK, &form, strategy, Vec::new(), None).await,
        Err(Error::Invalid(errors)) => first_page(&visit, StatusCode::UNPROCESSABLE_ENTITY, &form, &errors, None).await,
        Err(error @ Error::Conflict { .. }) => first_page(&visit, status(&error), &form, &[], Some(told(&error))).await,
        Err(error) => Err(error),
    }
}

/// *Check*: the checks alone, nothing is saved.
pub async fn check_values(visit: Visit, form: Form) -> Result<Response> {
    let lines = visit.app.check_azure(&visit.caller, &azure_request(&form).input(), &|_| ()).await?;
    second_page(&visit, StatusCode::OK, &form, Strategy::AzureExternalKeys, lines, None).await
}

/// *Create vault*.
pub async fn create(visit: Visit, form: Form) -> Result<Response> {
    let strategy = form.parsed::<Strategy>("strategy").ok_or(Error::field("strategy", "Choose a strategy."))?;
    let key = match strategy {
        Strategy::Cloud => KeyRequest::Cloud,
        Strategy::AzureExternalKeys => KeyRequest::Azure(azure_request(&form)),
    };
    let request = VaultRequest {
        name: form.text("name"),
        make_default: form.has("default"),
        key,
        accept_warnings: form.has("accept_warnings"),
    };
    match visit.app.create_vault(&visit.caller, request).await {
        Ok(_) => Ok(to(format!("{TABLE}?done=vault-created"))),
        Err(error) => {
            let status = status(&error);
            match error {
                Error::ChecksFailed(lines) => second_page(&visit, status, &form, strategy, lines, None).await,
                Error::Invalid(errors) => first_page(&visit, status, &form, &errors, None).await,
                error @ (Error::Conflict { .. } | Error::KeyUnavailable(_)) => {
                    second_page(&visit, status, &form, strategy, Vec::new(), Some(told(&error))).await
                }
                error => Err(error),
            }
        }
    }
}

pub async fn show(visit: Visit, PathId(id): PathId<VaultId>) -> Result<Response> {
    vault_page(&visit, id, Vec::new()).await
}

pub async fn check_vault(visit: Visit, PathId(id): PathId<VaultId>) -> Result<Response> {
    let lines = visit.app.check_vault(&visit.caller, id, &|_| ()).await?;
    vault_page(&visit, id, lines).await
}

/// The address of a form's answer, loaded again.
pub async fn back_to_vault(_: Visit, PathId(id): PathId<VaultId>) -> Response {
    to(format!("/settings/vaults/{id}"))
}

pub async fn make_default(visit: Visit, PathId(id): PathId<VaultId>) -> Result<Response> {
    let edit = VaultEdit { make_default: true, ..VaultEdit::default() };
    visit.app.edit_vault(&visit.caller, id, None, edit).await?;
    Ok(to(format!("/settings/vaults/{id}?done=vault-default")))
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

async fn second_page(
    visit: &Visit,
    status: StatusCode,
    form: &Form,
    strategy: Strategy,
    lines: Vec<CheckLine>,
    problem: Option<String>,
) -> Result<Response> {
    let shell = visit.shell("Create new vault", Section::Settings).await?;
    let (name, default) = (form.text("name"), form.has("default"));
    if strategy == Strategy::Cloud {
        return words::page(status, CloudVaultPage { shell, name, default, problem });
    }
    // What is wrong with a value stands beside it too.
    let errors: Vec<FieldError> = lines
        .iter()
        .filter(|line| line.status == Status::Fail)
        .filter_map(|line| {
            let field = match line.code {
                "host.allowed" => "vault_url",
                code => code.strip_prefix("form.")?,
            };
            Some(FieldError { field: field.into(), message: line.cause.clone()?.into() })
        })
        .collect();
    let field = |name: &'static str| Field::checked(form.get(name), name, &errors);
    words::page(
        status,
        AzureVaultPage {
            shell,
            name,
            default,
            client_id: field("client_id"),
            tenant_id: field("tenant_id"),
            client_secret_error: said_of("client_secret", &errors),
            vault_url: field("vault_url"),
            key_name: field("vault_key_name"),
            checks: lines.into_iter().map(check_row).collect(),
            problem,
        },
    )
}

async fn vault_page(visit: &Visit, id: VaultId, lines: Vec<CheckLine>) -> Result<Response> {
    let vault = visit.app.vault(&visit.caller, id).await?;
    let now = visit.app.clock.now();
    let mut shell = visit.shell(&vault.name, Section::Settings).await?;
    shell.path = format!("/settings/vaults/{id}");
    let dark = match &vault.health {
        Health::Unavailable(why) => {
            let mut panel = visit.panel(why, vault.items, &shell);
            (panel.folded, panel.can_manage) = (false, false);
            Some(panel)
        }
        Health::Healthy(_) => None,
    };
    let answered = match vault.health {
        Health::Healthy(at) => at,
        Health::Unavailable(_) => visit.app.keyring.last_answer(id),
    };
    visit.page(VaultPage {
        shell,
        id: id.to_string(),
        is_default: vault.is_default,
        strategy: vault.strategy.title(),
        state: words::state(&vault.health),
        items: vault.items,
        created: words::moment(now, vault.created_at),
        generation: vault.generation,
        lease_seconds: vault.lease_seconds,
        answered: answered.map(|at| words::moment(now, at)),
        dark,
        azure: azure_key(&vault),
        checks: lines.into_iter().map(check_row).collect(),
        name: vault.name,
    })
}

fn azure_key(vault: &Vault) -> Option<AzureKey> {
    vault.azure.as_ref().map(|azure| AzureKey {
        vault_url: azure.vault_url.clone(),
        key_name: azure.key_name.clone(),
        key_version: key_version(&vault.kid).to_owned(),
        client_id: azure.client_id.clone(),
        tenant_id: azure.tenant_id.clone(),
    })
}

fn azure_request(form: &Form) -> AzureRequest {
    AzureRequest {
        client_id: form.text("client_id"),
        tenant_id: form.text("tenant_id"),
        credential: CredentialText::Secret(form.secret("client_secret")),
        credential_expires: None,
        vault_url: form.text("vault_url"),
        vault_key_name: form.text("vault_key_name"),
    }
}

fn check_row(line: CheckLine) -> CheckRow {
    // Where a command mends it, the words end with it; it is shown in a box of its own.
    let fix = line.fix.map(|fix| match &line.command {
        Some(command) => fix.replace(command.as_str(), "").trim().trim_end_matches(':').to_owned(),
        None => fix,
    });
    CheckRow {
        code: line.code.to_owned(),
        label: line.title.to_owned(),
        status: match line.status {
            Status::Pass => CheckStatus::Pass,
            Status::Warn => CheckStatus::Warn,
            Status::Fail => CheckStatus::Fail,
            Status::Skipped => CheckStatus::Skipped,
            Status::CouldNotCheck => CheckStatus::Unknown,
        },
        cause: line.cause,
        fix: fix.filter(|fix| !fix.is_empty()),
        command: line.command,
        ms: Some(line.ms).filter(|ms| *ms > 0),
        azure_request_id: line.azure_request_id,
    }
}

/// A refusal as one line: what happened, what to do.
fn told(error: &Error) -> String {
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

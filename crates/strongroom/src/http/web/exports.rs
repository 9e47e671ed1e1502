//! *Export*: what would be in the file, and the file.

use axum::{http::StatusCode, response::Response};

use super::{
    form::Form,
    vaults::said,
    views::{Choice, Section, exports::ExportPage},
    visit::Visit,
    words,
};
use crate::{
    error::{Error, FieldError, Result},
    export::ExportFormat,
    http::{api::exports::file, error::status},
    id::VaultId,
    item::ExportRequest,
};

pub async fn ask(visit: Visit) -> Result<Response> {
    let vault = vault_of(visit.asked("vault"))?;
    page(&visit, StatusCode::OK, vault, ExportFormat::default(), Wrong::default()).await
}

pub async fn start(visit: Visit, form: Form) -> Result<Response> {
    let vault = vault_of(form.get("vault"))?;
    let format = form.parsed::<ExportFormat>("format").unwrap_or_default();
    let wrong = before(&form, format);
    if wrong.is_any() {
        return page(&visit, StatusCode::UNPROCESSABLE_ENTITY, vault, format, wrong).await;
    }
    let passphrase = format.is_encrypted().then(|| form.secret("passphrase"));
    match visit.app.export(&visit.caller, ExportRequest { vault, format, passphrase }).await {
        Ok(export) => Ok(file(&visit.app, &visit.caller, export)),
        Err(Error::Invalid(fields)) => {
            let text = |FieldError { message, .. }| message.into_owned();
            let wrong = Wrong { passphrase: fields.into_iter().next().map(text), ..Wrong::default() };
            page(&visit, StatusCode::UNPROCESSABLE_ENTITY, vault, format, wrong).await
        }
        Err(error @ (Error::Conflict { .. } | Error::KeyUnavailable(_) | Error::TooMany(_))) => {
            let wrong = Wrong { problem: Some(said(&error)), ..Wrong::default() };
            page(&visit, status(&error), vault, format, wrong).await
        }
        Err(error) => Err(error),
    }
}

/// What is to be mended in the form.
#[derive(Default)]
struct Wrong {
    problem: Option<String>,
    passphrase: Option<String>,
    again: Option<String>,
}

impl Wrong {
    fn is_any(&self) -> bool {
        self.problem.is_some() || self.passphrase.is_some() || self.again.is_some()
    }
}

/// What only the form can tell.
fn before(form: &Form, format: ExportFormat) -> Wrong {
    let mut wrong = Wrong::default();
    let (typed, readable) = (!form.get("passphrase").is_empty(), form.has("readable"));
    match format.is_encrypted() {
        true if form.get("passphrase") != form.get("again") => {
            wrong.again = Some("The two are not the same.".to_owned());
        }
        true if readable => {
            wrong.problem = Some("Choose: a file encrypted to a passphrase, or a readable one.".to_owned());
        }
        true => {}
        // Somebody who typed a passphrase expects it to be asked for.
        false if typed => {
            wrong.problem =
                Some("A readable file has no passphrase. Leave it out, or choose the encrypted one.".to_owned());
        }
        false if !readable => {
            wrong.problem = Some("To get a readable file, tick that you take these items out unencrypted.".to_owned());
        }
        false => {}
    }
    wrong
}

fn vault_of(text: &str) -> Result<Option<VaultId>> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| Error::NotFound("vault")),
    }
}

async fn page(
    visit: &Visit,
    status: StatusCode,
    vault: Option<VaultId>,
    format: ExportFormat,
    wrong: Wrong,
) -> Result<Response> {
    let plan = visit.app.plan_export(&visit.caller, vault, format).await?;
    let shell = visit.shell("Export", Section::Items).await?;
    let chosen = vault.map(|vault| vault.to_string()).unwrap_or_default();
    let all = Choice::new("", "All vaults", vault.is_none());
    let one = shell.vaults.iter().map(|vault| Choice::new(vault.id.as_str(), vault.name.as_str(), vault.id == chosen));
    let vaults = std::iter::once(all).chain(one).collect();
    let always = ExportFormat::Json.leaves_out();
    let name = |vault| Visit::vault_name(&shell, vault);
    let page = ExportPage {
        vaults,
        vault: chosen,
        items: plan.items,
        parts: plan.vaults.iter().map(|(vault, items)| (name(*vault), *items)).collect(),
        dark: plan.dark.into_iter().map(|dark| (name(dark.why.vault), dark.count, dark.why.title)).collect(),
        trashed: plan.trashed,
        csv_leaves_out: ExportFormat::Csv.leaves_out().into_iter().filter(|part| !always.contains(part)).collect(),
        // Those in the trash are told by their number.
        leaves_out: always.into_iter().filter(|part| !part.contains("trash")).collect(),
        format,
        problem: wrong.problem,
        passphrase_error: wrong.passphrase,
        again_error: wrong.again,
        shell,
    };
    words::page(status, page)
}

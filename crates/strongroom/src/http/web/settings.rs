//! Settings › Workspace Configuration › General.

use axum::{http::StatusCode, response::Response};

use super::{
    form::Form,
    views::{
        Field, Section,
        settings::{GeneralPage, SettingsTab},
    },
    visit::{Visit, to},
    words,
};
use crate::{
    error::{Error, FieldError, Result},
    http::error::status,
    workspace::Edit,
};

pub async fn general(visit: Visit) -> Result<Response> {
    let name = visit.app.workspace(&visit.caller).await?.name;
    page(&visit, StatusCode::OK, &name, &[], None).await
}

pub async fn save(visit: Visit, form: Form) -> Result<Response> {
    let revision = form.parsed("revision").ok_or(Error::RevisionRequired)?;
    let edit = Edit {
        name: Some(form.text("name")),
        external_keys: Some(form.has("external_keys")),
        require_code: Some(form.has("require_two_step")),
    };
    match visit.app.edit_workspace(&visit.caller, edit, revision).await {
        Ok(_) => Ok(to("/settings?done=settings-saved")),
        Err(Error::Invalid(errors)) => {
            page(&visit, StatusCode::UNPROCESSABLE_ENTITY, form.get("name"), &errors, None).await
        }
        Err(error @ Error::RevisionStale { .. }) => {
            let text = "Somebody else saved the settings at the same moment. Look at them below and save yours again.";
            let name = visit.app.workspace(&visit.caller).await?.name;
            page(&visit, status(&error), &name, &[], Some(text.into())).await
        }
        Err(error) => Err(error),
    }
}

async fn page(
    visit: &Visit,
    status: StatusCode,
    name: &str,
    errors: &[FieldError],
    problem: Option<String>,
) -> Result<Response> {
    let workspace = visit.app.workspace(&visit.caller).await?;
    words::page(
        status,
        GeneralPage {
            shell: visit.shell("Workspace Configuration", Section::Settings).await?,
            tab: SettingsTab::General,
            name: Field::checked(name, "name", errors),
            slug: workspace.slug,
            created: words::moment(visit.app.clock.now(), workspace.created_at),
            require_two_step: workspace.require_code,
            external_keys: workspace.external_keys,
            revision: workspace.revision,
            problem,
        },
    )
}

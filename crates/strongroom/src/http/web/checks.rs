//! *Check* and *Check now*: the checks of a key as a page, or, to the script of our pages, line by line as they become
//! known.

use std::{sync::Arc, time::Duration};

use askama::Template;
use axum::response::Response;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use strongroom_keys::check::{CheckLine, CheckStatus as Status, LINES};

use super::{
    vaults::said,
    views::checks::{CheckRow, CheckStatus, Checks, Group, Place},
    visit::Visit,
};
use crate::{
    app::App,
    error::{Error, Result},
    http::progress::{self, Told},
    id::VaultId,
    vault::{AzureRequest, CredentialKind, CredentialText, NewCredential, NewKeyVault},
};

/// What is to be checked.
pub enum Subject {
    /// The values of the wizard.
    Values(AzureRequest),
    Vault(VaultId),
    /// Another credential for a vault.
    Credential(VaultId, NewCredential),
    /// Another key for a vault.
    KeyVault(VaultId, NewKeyVault),
}

impl Subject {
    fn place(&self) -> Place {
        match self {
            Self::Values(_) => Place::Wizard,
            Self::Vault(_) => Place::Vault,
            Self::Credential(..) | Self::KeyVault(..) => Place::Change,
        }
    }

    /// The kind of credential among the fields, where there are fields for one.
    fn fields(&self) -> Option<CredentialKind> {
        match self {
            Self::Values(request) => Some(request.credential.kind()),
            Self::Vault(_) => None,
            Self::Credential(_, new) => new.credential.as_ref().map(CredentialText::kind),
            Self::KeyVault(_, new) => {
                Some(new.credential.as_ref().map_or(CredentialKind::Secret, CredentialText::kind))
            }
        }
    }

    async fn check(&self, visit: &Visit, tell: &(dyn Fn(&CheckLine) + Send + Sync)) -> Result<Vec<CheckLine>> {
        match self {
            Self::Values(request) => visit.app.check_azure(&visit.caller, &request.input(), tell).await,
            Self::Vault(id) => visit.app.check_vault(&visit.caller, *id, tell).await,
            Self::Credential(id, new) => visit.app.check_credential(&visit.caller, *id, new, tell).await,
            Self::KeyVault(id, new) => visit.app.check_key_vault(&visit.caller, *id, new, tell).await,
        }
    }
}

/// Checks that were made.
pub struct Ran {
    pub lines: Vec<CheckLine>,
    /// From the first to the last; None where nobody measured.
    pub took: Option<Duration>,
}

/// All checks, then what came of them.
pub async fn whole(visit: &Visit, subject: &Subject) -> Result<Ran> {
    let begun = visit.app.clock.since_boot();
    let lines = subject.check(visit, &|_| ()).await?;
    Ok(Ran { lines, took: Some(visit.app.clock.since_boot().saturating_sub(begun)) })
}

/// The checks, each line sent as soon as it is known: `{at, of, status, said, field, cause, html, next}`, where `html`
/// is the row (none for what was skipped) and `next` what is asked now. At the end `{end, status, said, html}` with the
/// whole panel, or `{end, problem}`. What is refused before the first line is an answer of its own.
pub async fn streamed(visit: Visit, subject: Subject) -> Result<Response> {
    let app = Arc::clone(&visit.app);
    let (place, fields) = (subject.place(), subject.fields());
    let mut news = News { place, fields, begun: app.clock.since_boot(), app, lines: 0, failed: false, group: None };
    let told = match progress::start(|tell| async move { subject.check(&visit, &*tell).await }).await {
        // Said where the lines would come, so that nothing typed is lost.
        Err(error @ Error::CheckRunning) => stream::once(async { Told::End(Err(error)) }).boxed(),
        told => told?,
    };
    Ok(progress::answer(told, move |told| news.of(told)))
}

/// The panel of what ran, or before anything did.
pub fn panel(place: Place, ran: Option<&Ran>) -> Checks {
    let lines = ran.map_or(&[][..], |ran| &ran.lines);
    let cause = lines.iter().position(|line| line.status == Status::Fail);
    let mut group = None;
    let rows = lines.iter().enumerate().map(|(at, line)| row(line, cause == Some(at), &mut group));
    Checks { place, total: LINES.len(), rows: rows.collect(), took: ran.and_then(|ran| ran.took) }
}

/// The field of the wizard that a line is about, where `credential` is the chosen kind.
pub fn field_of(code: &str, credential: CredentialKind) -> Option<&str> {
    match (code, credential) {
        ("form.client_secret", CredentialKind::Certificate) => Some("client_certificate"),
        ("form.client_secret", CredentialKind::WorkloadIdentity) => None,
        ("host.allowed", _) => Some("vault_url"),
        _ => code.strip_prefix("form."),
    }
}

/// What the script is told, one after the other.
struct News {
    place: Place,
    fields: Option<CredentialKind>,
    app: Arc<App>,
    begun: Duration,
    lines: usize,
    failed: bool,
    group: Option<Group>,
}

impl News {
    fn of(&mut self, told: Told) -> Value {
        match told {
            Told::Line(line) => self.line(&line),
            Told::End(Ok(lines)) => self.end(lines),
            Told::End(Err(error)) => json!({"end": true, "problem": said(&error)}),
        }
    }

    fn end(&self, lines: Vec<CheckLine>) -> Value {
        let took = self.app.clock.since_boot().saturating_sub(self.begun);
        let panel = panel(self.place, Some(&Ran { lines, took: Some(took) }));
        json!({
            "end": true,
            "status": panel.worst().class(),
            "said": format!("{} {}.", panel.verdict(), panel.summary()),
            "html": html(&panel),
        })
    }

    fn line(&mut self, line: &CheckLine) -> Value {
        let failed = line.status == Status::Fail;
        let row = row(line, failed && !self.failed, &mut self.group);
        self.failed |= failed;
        self.lines += 1;
        let said = failed.then(|| format!("Failed: {}. {}", line.title, line.cause.as_deref().unwrap_or_default()));
        json!({
            "at": self.lines,
            "of": LINES.len(),
            "status": row.status.class(),
            "said": said,
            "field": self.fields.filter(|_| failed).and_then(|kind| field_of(line.code, kind)),
            "cause": line.cause.as_ref().filter(|_| failed),
            "html": (row.status != CheckStatus::Skipped).then(|| html(&row)),
            "next": LINES.get(self.lines).map(|(_, title)| *title),
        })
    }
}

/// A part of a page. One that does not render is a defect, which the test of the page finds.
fn html(part: &impl Template) -> String {
    part.render().unwrap_or_default()
}

/// `group` is the one of the row before, and then of this one.
fn row(line: &CheckLine, is_cause: bool, group: &mut Option<Group>) -> CheckRow {
    // Rows of what was skipped are folded away.
    let of_it = Some(Group::of(line.code)).filter(|_| line.status != Status::Skipped);
    let begins = of_it.filter(|_| *group != of_it);
    *group = of_it.or(*group);
    // Where a command mends it, it stands in the words; it is shown in a box of its own.
    let fix = line.fix.as_ref().map(|fix| match &line.command {
        Some(command) => fix.replacen(&format!("Run: {command}"), "", 1).trim().to_owned(),
        None => fix.clone(),
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
        group: begins,
        is_cause,
        cause: line.cause.clone(),
        fix: fix.filter(|fix| !fix.is_empty()),
        command: line.command.clone(),
        ms: Some(line.ms).filter(|ms| *ms > 0),
        azure_request_id: line.azure_request_id.clone(),
    }
}

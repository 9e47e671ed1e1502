//! My profile: password, second step, sessions, API tokens.

use axum::{http::StatusCode, response::Response};

use super::{
    form::Form,
    views::{Choice, Field, Section, profile::*, said_of},
    visit::{Visit, to},
    words,
};
use crate::{
    error::{Error, FieldError, Result},
    http::{
        error::{capital, status},
        extract::PathId,
    },
    id::{SessionId, TokenId},
    member::CodeSetup,
    secret_text::SecretText,
};

/// Days that a token may be good for, as the form offers them.
const LIFETIMES: [(u16, &str); 4] = [(7, "in 7 days"), (30, "in 30 days"), (90, "in 90 days"), (365, "in a year")];

pub async fn show(visit: Visit) -> Result<Response> {
    profile_page(&visit, StatusCode::OK, None, None).await
}

pub async fn change_password(visit: Visit, form: Form) -> Result<Response> {
    let (old, new) = (form.secret("current_password"), form.secret("new_password"));
    let Err(error) = visit.app.change_password(&visit.caller, old, new, &visit.origin).await else {
        return Ok(to("/profile?done=password"));
    };
    let code = status(&error);
    match error {
        Error::NotSignedIn { code: "signin.wrong", .. } => {
            profile_page(&visit, code, Some("This is not your current password.".into()), None).await
        }
        Error::TooMany(_) => profile_page(&visit, code, Some(format!("{}.", capital(&error.to_string()))), None).await,
        Error::Invalid(errors) => {
            let text = errors.first().map(|error| error.message.clone().into_owned());
            profile_page(&visit, code, None, text).await
        }
        error => Err(error),
    }
}

pub async fn start_code(visit: Visit) -> Result<Response> {
    let setup = visit.app.begin_code(&visit.caller).await?;
    code_page(&visit, StatusCode::OK, setup, None).await
}

pub async fn confirm_code(visit: Visit, form: Form) -> Result<Response> {
    match visit.app.confirm_code(&visit.caller, form.secret("code"), &visit.origin).await {
        Ok(codes) => codes_page(&visit, codes).await,
        Err(error @ (Error::NotSignedIn { code: "signin.code_wrong", .. } | Error::TooMany(_))) => {
            // The key that was scanned stays what it is; it comes back with the form.
            let setup = CodeSetup { secret: form.secret("secret"), uri: form.secret("uri") };
            let text = match error {
                Error::TooMany(_) => format!("{}.", capital(&error.to_string())),
                _ => "This code does not fit. Check the clock of your phone and type the code that shows now.".into(),
            };
            code_page(&visit, status(&error), setup, Some(text)).await
        }
        Err(error) => Err(error),
    }
}

pub async fn stop_code(visit: Visit) -> Result<Response> {
    visit.app.disable_code(&visit.caller).await?;
    Ok(to("/profile?done=code-off"))
}

pub async fn renew_recovery_codes(visit: Visit) -> Result<Response> {
    let codes = visit.app.renew_recovery_codes(&visit.caller).await?;
    codes_page(&visit, codes).await
}

pub async fn revoke_session(visit: Visit, PathId(id): PathId<SessionId>) -> Result<Response> {
    visit.app.revoke_session(&visit.caller, id).await?;
    Ok(to("/profile?done=session-ended"))
}

pub async fn ask_token(visit: Visit) -> Result<Response> {
    visit.app.require_fresh(&visit.caller)?;
    token_form(&visit, StatusCode::OK, &Form::default(), &[]).await
}

pub async fn create_token(visit: Visit, form: Form) -> Result<Response> {
    let days = form.parsed("days").unwrap_or(0);
    match visit.app.create_token(&visit.caller, &form.text("name"), days).await {
        Ok(made) => visit.page(TokenPage {
            shell: visit.shell("API token", Section::Profile).await?,
            name: made.token.name,
            token: made.secret.into(),
            expires: words::exact(made.token.expires_at),
            server_url: visit.app.settings.public_url.clone(),
        }),
        Err(Error::Invalid(errors)) => token_form(&visit, StatusCode::UNPROCESSABLE_ENTITY, &form, &errors).await,
        Err(error) => Err(error),
    }
}

pub async fn revoke_token(visit: Visit, PathId(id): PathId<TokenId>) -> Result<Response> {
    visit.app.revoke_token(&visit.caller, id).await?;
    Ok(to("/profile?done=token-revoked"))
}

async fn profile_page(
    visit: &Visit,
    status: StatusCode,
    current_password_error: Option<String>,
    new_password_error: Option<String>,
) -> Result<Response> {
    let (app, caller, now) = (&visit.app, &visit.caller, visit.app.clock.now());
    let mut shell = visit.shell("My profile", Section::Profile).await?;
    shell.path = "/profile".into();
    let two_step = if app.member(caller, caller.member).await?.has_code {
        TwoStep::On { recovery_codes_left: app.recovery_codes_left(caller).await? }
    } else {
        TwoStep::Off { required: app.workspace(caller).await?.require_code }
    };
    let notice_mail = match (caller.role.manages(), &app.settings.notices.mail) {
        (true, Some(_)) => Some(app.wants_mail(caller).await?),
        _ => None,
    };
    let sessions = app.sessions(caller).await?.into_iter().map(|session| SessionRow {
        id: session.id.to_string(),
        browser: browser(&session.agent),
        address: session.address,
        started: words::moment(now, session.created_at),
        last_seen: words::moment(now, session.last_seen_at),
        current: session.current,
    });
    let tokens = app.tokens(caller).await?.into_iter().map(|token| TokenRow {
        id: token.id.to_string(),
        name: token.name,
        created: words::moment(now, token.created_at),
        last_used: token.last_used_at.map(|at| words::moment(now, at)),
        expires: words::moment(now, token.expires_at),
    });
    words::page(
        status,
        ProfilePage {
            shell,
            two_step,
            notice_mail,
            sessions: sessions.collect(),
            tokens: tokens.collect(),
            current_password_error,
            new_password_error,
        },
    )
}

async fn code_page(
    visit: &Visit,
    status: StatusCode,
    setup: CodeSetup,
    code_error: Option<String>,
) -> Result<Response> {
    let qr = Qr::of(setup.uri.expose()).map_err(|_| Error::field("uri", "This is no setup key of ours."))?;
    let groups: Vec<&str> =
        setup.secret.expose().as_bytes().chunks(4).filter_map(|group| str::from_utf8(group).ok()).collect();
    let mut shell = visit.shell("Second step", Section::Profile).await?;
    shell.path = "/profile".into();
    let secret = groups.join(" ").into();
    words::page(status, TwoStepPage { shell, qr, secret, setup, code_error })
}

async fn codes_page(visit: &Visit, codes: Vec<SecretText>) -> Result<Response> {
    let mut shell = visit.shell("Recovery codes", Section::Profile).await?;
    shell.path = "/profile".into();
    let all = codes.iter().map(SecretText::expose).collect::<Vec<_>>().join("\n").into();
    visit.page(RecoveryCodesPage { shell, codes: codes.into_iter().map(Into::into).collect(), all })
}

async fn token_form(visit: &Visit, status: StatusCode, form: &Form, errors: &[FieldError]) -> Result<Response> {
    let chosen = form.parsed::<u16>("days").unwrap_or(90);
    let lifetimes = LIFETIMES.map(|(days, label)| Choice::new(days.to_string(), label, days == chosen));
    words::page(
        status,
        NewTokenPage {
            shell: visit.shell("New API token", Section::Profile).await?,
            name: Field::checked(form.get("name"), "name", errors),
            lifetimes: lifetimes.into(),
            problem: said_of("expires_in_days", errors),
        },
    )
}

/// "Firefox on Linux", as far as a browser tells.
fn browser(agent: &str) -> String {
    let find =
        |known: &[(&str, &'static str)]| known.iter().find(|(sign, _)| agent.contains(sign)).map(|(_, name)| *name);
    // Each names those before it too: Edge calls itself Chrome, and Chrome Safari.
    let program = find(&[("Edg/", "Edge"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari")]);
    let system = find(&[
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (program, system) {
        (Some(program), Some(system)) => format!("{program} on {system}"),
        (Some(program), None) => program.to_owned(),
        _ => "Unknown browser".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_named() {
        let edge = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36 Edg/120.0";
        assert_eq!(browser(edge), "Edge on Windows");
        assert_eq!(
            browser("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
            "Firefox on Linux"
        );
        assert_eq!(browser("curl/8"), "Unknown browser");
    }
}

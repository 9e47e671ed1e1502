//! Doors: password and code, the one-time links, signing out, and the second look at who somebody is.

use std::sync::Arc;

use axum::{
    extract::Path,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    cookies,
    form::Form,
    views::{Field, Section, said_of, sign_in::*},
    visit::{Doorstep, Visit, next, to},
    words,
};
use crate::{
    app::App,
    error::{Error, FieldError, Result},
    http::error::{capital, status},
    member::{Join, NewSession, Purpose, Setup, SignIn},
    secret_text::SecretText,
};

/// Seconds that the ticket between password and code is good for.
const TICKET_SECONDS: u64 = 300;

pub async fn form(door: Doorstep) -> Result<Response> {
    // Whoever is signed in already wants to get on.
    if door.app.caller_by_session(cookies::session(&door.app, &door.headers)).await.is_ok() {
        return Ok(to(next(door.asked("next"))));
    }
    words::page(StatusCode::OK, sign_in_page(&door, "", door.asked("next"), None))
}

pub async fn submit(door: Doorstep, form: Form) -> Result<Response> {
    let (email, wanted) = (form.text("email"), next(form.get("next")));
    match door.app.sign_in(&email, form.secret("password"), &door.origin).await {
        Ok(SignIn::Session(session)) => Ok(enter(&door.app, &session, &wanted)),
        Ok(SignIn::NeedsCode { ticket }) => {
            let cookie = cookies::set_ticket(&door.app, ticket.expose(), TICKET_SECONDS);
            Ok(with_cookies([cookie], to(format!("/signin/code?next={}", words::in_query(&wanted)))))
        }
        Err(error) => match refused(&error) {
            Some(text) => words::page(status(&error), sign_in_page(&door, &email, &wanted, Some(text))),
            None => Err(error),
        },
    }
}

fn sign_in_page(door: &Doorstep, email: &str, wanted: &str, wrong: Option<String>) -> SignInPage {
    SignInPage { outside: door.outside("Sign in"), email: Field::of(email), password_error: wrong, next: next(wanted) }
}

pub async fn code_form(door: Doorstep) -> Result<Response> {
    let wanted = next(door.asked("next"));
    words::page(StatusCode::OK, SignInCodePage { outside: door.outside("Second step"), code_error: None, next: wanted })
}

pub async fn submit_code(door: Doorstep, form: Form) -> Result<Response> {
    let wanted = next(form.get("next"));
    let ticket = SecretText::from(cookies::ticket(&door.app, &door.headers));
    match door.app.sign_in_code(ticket, form.secret("code"), &door.origin).await {
        Ok(session) => Ok(with_cookies([cookies::end_ticket(&door.app)], enter(&door.app, &session, &wanted))),
        Err(error) => match refused(&error) {
            Some(text) => {
                let outside = door.outside("Second step");
                words::page(status(&error), SignInCodePage { outside, code_error: Some(text), next: wanted })
            }
            None => Err(error),
        },
    }
}

pub async fn again_form(visit: Visit) -> Result<Response> {
    let wanted = next(visit.asked("next"));
    again_page(&visit, StatusCode::OK, wanted, None, None).await
}

pub async fn again(visit: Visit, form: Form) -> Result<Response> {
    let wanted = next(form.get("next"));
    let code = Some(form.secret("code")).filter(|code| !code.is_empty());
    match visit.app.refresh(&visit.caller, form.secret("password"), code, &visit.origin).await {
        Ok(()) => Ok(to(wanted)),
        Err(error) => {
            let Some(text) = refused(&error) else { return Err(error) };
            let of_code = matches!(&error, Error::NotSignedIn { code, .. } if *code != "signin.wrong");
            let (wrong, code_wrong) = if of_code { (None, Some(text)) } else { (Some(text), None) };
            again_page(&visit, status(&error), wanted, wrong, code_wrong).await
        }
    }
}

async fn again_page(
    visit: &Visit,
    status: StatusCode,
    next: String,
    error: Option<String>,
    code_error: Option<String>,
) -> Result<Response> {
    let shell = visit.shell("Sign in again", Section::None).await?;
    let needs_code = visit.app.member(&visit.caller, visit.caller.member).await?.has_code;
    words::page(status, SignInAgainPage { shell, needs_code, error, code_error, next })
}

pub async fn out(visit: Visit) -> Result<Response> {
    visit.app.sign_out(&visit.caller).await?;
    Ok(with_cookies([cookies::end_session(&visit.app)], to("/signin?done=signed-out")))
}

pub async fn setup_form(door: Doorstep, Path(token): Path<String>) -> Result<Response> {
    door.app.look_at_link(Purpose::Setup, &token).await?;
    words::page(StatusCode::OK, setup_page(&door, token, &Form::default(), &[]))
}

pub async fn setup(door: Doorstep, Path(token): Path<String>, form: Form) -> Result<Response> {
    let workspace = form.text("workspace");
    let setup = Setup {
        slug: slug(&workspace),
        workspace,
        name: form.text("name"),
        email: form.text("email"),
        password: form.secret("password"),
    };
    match door.app.open_setup(&token, setup, &door.origin).await {
        Ok(session) => Ok(enter(&door.app, &session, "/")),
        Err(Error::Invalid(errors)) => {
            words::page(StatusCode::UNPROCESSABLE_ENTITY, setup_page(&door, token, &form, &errors))
        }
        Err(error) => Err(error),
    }
}

fn setup_page(door: &Doorstep, token: String, form: &Form, errors: &[FieldError]) -> SetupPage {
    let field = |name: &'static str| Field::checked(form.get(name), name, errors);
    let mut workspace = field("workspace");
    // The slug follows from the name.
    workspace.error = workspace.error.or_else(|| said_of("slug", errors));
    SetupPage {
        outside: door.outside("Set up"),
        token,
        workspace,
        name: field("name"),
        email: field("email"),
        password_error: said_of("password", errors),
    }
}

pub async fn join_form(door: Doorstep, Path(token): Path<String>) -> Result<Response> {
    new_password_page(&door, Purpose::Join, &token, None, &[]).await
}

pub async fn join(door: Doorstep, Path(token): Path<String>, form: Form) -> Result<Response> {
    let join = Join { name: form.text("name"), password: form.secret("password") };
    match door.app.join(&token, join, &door.origin).await {
        Ok(session) => Ok(enter(&door.app, &session, "/")),
        Err(Error::Invalid(errors)) => {
            new_password_page(&door, Purpose::Join, &token, Some(form.get("name")), &errors).await
        }
        Err(error) => Err(error),
    }
}

pub async fn reset_form(door: Doorstep, Path(token): Path<String>) -> Result<Response> {
    new_password_page(&door, Purpose::Reset, &token, None, &[]).await
}

pub async fn reset(door: Doorstep, Path(token): Path<String>, form: Form) -> Result<Response> {
    match door.app.reset(&token, form.secret("password")).await {
        Ok(()) => Ok(with_cookies([cookies::end_session(&door.app)], to("/signin?done=password-set"))),
        Err(Error::Invalid(errors)) => new_password_page(&door, Purpose::Reset, &token, None, &errors).await,
        Err(error) => Err(error),
    }
}

/// `typed` is the name that somebody who joins has typed.
async fn new_password_page(
    door: &Doorstep,
    purpose: Purpose,
    token: &str,
    typed: Option<&str>,
    errors: &[FieldError],
) -> Result<Response> {
    let link = door.app.look_at_link(purpose, token).await?;
    let (email, invited_as) = link.member.unwrap_or_default();
    let (word, name) = match purpose {
        Purpose::Join => ("join", Some(Field::checked(typed.unwrap_or(&invited_as), "name", errors))),
        Purpose::Setup | Purpose::Reset => ("reset", None),
    };
    let page = NewPasswordPage {
        outside: door.outside(if name.is_some() { "Join" } else { "New password" }),
        action: format!("/{word}/{token}"),
        workspace: link.workspace.unwrap_or_default(),
        email,
        name,
        password_error: said_of("password", errors),
    };
    words::page(if errors.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY }, page)
}

/// With the cookie of a new session, on to a page.
fn enter(app: &Arc<App>, session: &NewSession, path: &str) -> Response {
    let seconds = session.expires_at.duration_since(app.clock.now()).as_secs();
    let cookie = cookies::set_session(app, session.token.expose(), u64::try_from(seconds).unwrap_or(0));
    with_cookies([cookie], to(path))
}

fn with_cookies<const N: usize>(set: [HeaderValue; N], mut response: Response) -> Response {
    for cookie in set {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response.into_response()
}

/// What a form of these pages says itself, beside the field; anything else is an error page.
fn refused(error: &Error) -> Option<String> {
    match error {
        Error::NotSignedIn { code: "signin.wrong" | "signin.code_wrong" | "signin.code_required", title, fix } => {
            Some(format!("{}. {fix}", capital(title)))
        }
        Error::TooMany(_) => Some(format!("{}.", capital(&error.to_string()))),
        _ => None,
    }
}

/// A workspace's name as it may stand in addresses: "Contoso Ltd." gives `contoso-ltd`.
fn slug(name: &str) -> String {
    let plain =
        name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' });
    let words: Vec<String> =
        plain.collect::<String>().split('-').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let slug: String = words.join("-").chars().take(40).collect();
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "workspace".to_owned() } else { slug.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_follows_from_the_name() {
        assert_eq!(slug(" Contoso Ltd. "), "contoso-ltd");
        assert_eq!(slug("日本"), "workspace");
        assert!(slug(&"ab ".repeat(40)).len() <= 40);
    }
}

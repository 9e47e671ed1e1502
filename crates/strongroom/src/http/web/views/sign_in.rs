//! Everything before someone is signed in, and the second look at who they are.

use askama::Template;

use super::{Field, Notice, Shell, Theme, filters};

/// What surrounds the pages of someone who is not signed in.
#[derive(Clone)]
pub struct Outside {
    pub title: String,
    pub theme: Theme,
    pub notice: Option<Notice>,
    pub path: String,
}

/// `GET /signin`.
#[derive(Template)]
#[template(path = "sign_in/password.html")]
pub struct SignInPage {
    pub outside: Outside,
    pub email: Field,
    pub password_error: Option<String>,
    /// Where to go afterwards; a path of this server.
    pub next: String,
}

/// `GET /signin/code`: the second step.
#[derive(Template)]
#[template(path = "sign_in/code.html")]
pub struct SignInCodePage {
    pub outside: Outside,
    pub code_error: Option<String>,
    pub next: String,
}

/// `GET /setup/{token}`: the first start, by the one-time link.
#[derive(Template)]
#[template(path = "sign_in/setup.html")]
pub struct SetupPage {
    pub outside: Outside,
    pub token: String,
    pub workspace: Field,
    pub name: Field,
    pub email: Field,
    pub password_error: Option<String>,
}

/// `GET /join/{token}` and `GET /reset/{token}`: choose a password.
#[derive(Template)]
#[template(path = "sign_in/new_password.html")]
pub struct NewPasswordPage {
    pub outside: Outside,
    /// Where the form goes: `/join/{token}` or `/reset/{token}`.
    pub action: String,
    pub workspace: String,
    pub email: String,
    /// Set for an invitation, whose guest may correct the name.
    pub name: Option<Field>,
    pub password_error: Option<String>,
}

/// `GET /signin/again`: asked before vault and member changes when the sign-in is not fresh.
#[derive(Template)]
#[template(path = "sign_in/again.html")]
pub struct SignInAgainPage {
    pub shell: Shell,
    pub needs_code: bool,
    pub error: Option<String>,
    pub code_error: Option<String>,
    pub next: String,
}

//! `strongroom login`

use std::fs;

use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use super::console::{Console, Format, printable, secret_from_stdin};
use super::failure::Failure;
use super::session::{Given, Login};
use crate::client::{ClientError, Server};
use crate::http::api::types::{LoginAnswer, LoginRequest};
use crate::secret_text::SecretText;

/// Sign in, and keep a token for the other commands.
///
/// The token lies in your configuration directory, in a file that only you can read. For CI, make a token in the web
/// app and set STRONGROOM_URL and STRONGROOM_TOKEN instead.
#[derive(Args)]
#[command(after_help = "Examples:
  strongroom login https://strongroom.example.com --email ada@example.com
  strongroom login --password-stdin --email ada@example.com < password-and-code.txt")]
pub struct Arguments {
    /// The server's address; --server and STRONGROOM_URL do the same
    url: Option<String>,
    /// Your e-mail address
    #[arg(long)]
    email: Option<String>,
    /// Read the password from the first line of standard input, and the code of the second factor, if you have one,
    /// from the second
    #[arg(long)]
    password_stdin: bool,
}

pub async fn run(arguments: Arguments, given: Given, console: &Console) -> Result<(), Failure> {
    let url = match arguments.url.or(given.url) {
        Some(url) => url,
        None => console.ask("Server", "name it: strongroom login https://strongroom.example.com")?,
    };
    let server = Server::new(&url)?;
    let email = match arguments.email {
        Some(email) => email,
        None => console.ask("E-mail", "name it with --email")?,
    };
    let (password, code) = if arguments.password_stdin {
        password_and_code(secret_from_stdin()?)
    } else {
        (console.ask_secret("Password", "pipe it in and say --password-stdin")?, None)
    };
    let mut request = LoginRequest { workspace: given.workspace, email, password, code, token_name: token_name() };
    let answer = sign_in(&server, &mut request, console).await?;
    let login = Login {
        url: server.url().to_string(),
        workspace: answer.workspace,
        email: request.email,
        token: answer.token,
        expires_at: answer.expires_at,
    };
    login.save(&Login::path()?)?;
    match console.format {
        Format::Json => console.json(&json!({
            "url": login.url, "workspace": login.workspace, "email": login.email, "expires_at": login.expires_at,
        })),
        Format::Table => console.line(&format!(
            "Signed in to {} at {} as {} until {:.0}.",
            printable(&login.workspace),
            login.url,
            printable(&login.email),
            login.expires_at
        )),
    }
}

/// Asks for the second factor when the server wants one and none was given.
async fn sign_in(server: &Server, request: &mut LoginRequest, console: &Console) -> Result<LoginAnswer, Failure> {
    match server.login(request).await {
        Err(ClientError::Problem(problem)) if problem.code == "signin.code_required" && request.code.is_none() => {
            let instead = "write the code into the second line of standard input, with --password-stdin";
            request.code = Some(console.ask_secret("Code of your second factor", instead)?);
            Ok(server.login(request).await?)
        }
        other => Ok(other?),
    }
}

fn password_and_code(input: SecretText) -> (SecretText, Option<SecretText>) {
    let input: Zeroizing<String> = input.into_zeroizing();
    let mut lines = input.lines();
    let password = SecretText::from(lines.next().unwrap_or_default());
    let code = lines.next().map(str::trim).filter(|code| !code.is_empty()).map(SecretText::from);
    (password, code)
}

/// What the token is listed under, so that its owner knows which to revoke.
fn token_name() -> String {
    match fs::read_to_string("/etc/hostname") {
        Ok(name) if !name.trim().is_empty() => format!("strongroom CLI on {}", name.trim()),
        _ => "strongroom CLI".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_and_code_are_the_first_two_lines() {
        let (password, code) = password_and_code(SecretText::from(" p w \r\n123 456\n"));
        assert_eq!((password.expose(), code.as_ref().map(SecretText::expose)), (" p w ", Some("123 456")));
        let (password, code) = password_and_code(SecretText::from("p"));
        assert_eq!((password.expose(), code.is_none()), ("p", true));
    }
}

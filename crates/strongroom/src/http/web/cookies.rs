//! The three cookies: the session, the ticket between password and code, the theme. Under https the first two carry
//! the `__Host-` prefix (RFC 6265bis, section 4.1.3.2), which no other host and no plain http can set.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::app::App;

const SESSION: &str = "strongroom";
const TICKET: &str = "strongroom-code";
const THEME: &str = "theme";
/// Seconds that a browser keeps the choice of a theme.
const A_YEAR: u64 = 365 * 24 * 3600;

/// The token of the session, or nothing, which no token equals.
pub fn session<'a>(app: &App, headers: &'a HeaderMap) -> &'a str {
    find(headers, &secure_name(app, SESSION)).unwrap_or_default()
}

/// The ticket of a sign-in whose password was right.
pub fn ticket<'a>(app: &App, headers: &'a HeaderMap) -> &'a str {
    find(headers, &secure_name(app, TICKET)).unwrap_or_default()
}

/// The word of the theme that was chosen.
pub fn theme(headers: &HeaderMap) -> &str {
    find(headers, THEME).unwrap_or_default()
}

/// `Set-Cookie` for a session that lasts `seconds`.
pub fn set_session(app: &App, token: &str, seconds: u64) -> HeaderValue {
    set(app, SESSION, token, seconds)
}

pub fn set_ticket(app: &App, ticket: &str, seconds: u64) -> HeaderValue {
    set(app, TICKET, ticket, seconds)
}

pub fn end_session(app: &App) -> HeaderValue {
    set(app, SESSION, "", 0)
}

pub fn end_ticket(app: &App) -> HeaderValue {
    set(app, TICKET, "", 0)
}

pub fn set_theme(word: &'static str) -> HeaderValue {
    let text = format!("{THEME}={word}; Path=/; Max-Age={A_YEAR}; SameSite=Lax; HttpOnly");
    HeaderValue::try_from(text).expect("words of ours are a header's value")
}

fn set(app: &App, name: &str, value: &str, seconds: u64) -> HeaderValue {
    let secure = if is_https(app) { "; Secure" } else { "" };
    let name = secure_name(app, name);
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; SameSite=Lax; HttpOnly{secure}");
    let mut value = HeaderValue::try_from(text).expect("a token of ours is base64url");
    value.set_sensitive(true);
    value
}

fn secure_name(app: &App, name: &str) -> String {
    if is_https(app) { format!("__Host-{name}") } else { name.to_owned() }
}

fn is_https(app: &App) -> bool {
    app.settings.public_url.starts_with("https://")
}

fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(
            header::COOKIE,
            HeaderValue::from_static("xstrongroom=a; strongroom-code=b;strongroom=c; theme=dark"),
        );
        assert_eq!(find(&headers, SESSION), Some("c"));
        assert_eq!(find(&headers, TICKET), Some("b"));
        assert_eq!(find(&headers, "__Host-strongroom"), None);
        assert_eq!(theme(&headers), "dark");
    }
}

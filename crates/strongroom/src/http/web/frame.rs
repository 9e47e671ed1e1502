//! Around every page: requests of other sites are refused, headers tell the browser what a page of secrets may do, and
//! what went wrong becomes a page instead of a problem document.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};

use super::{
    cookies,
    views::{Theme, error::ErrorPage},
    visit::{is_local, local_path},
    words,
};
use crate::{
    app::App,
    error::Error,
    http::{error::Refusal, frame::RequestId},
};

/// No inline script or style, nothing from elsewhere, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Serves one page; the API goes through as it is.
pub async fn frame(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if ["/api/", "/healthz/"].iter().any(|start| request.uri().path().starts_with(start)) {
        return next.run(request).await;
    }
    let around = Around::of(&request);
    if !request.method().is_safe() && !is_ours(request.headers(), &app.settings.public_url) {
        return around.finish(&app, Refusal::ForeignPage.into_response());
    }
    let response = next.run(request).await;
    around.finish(&app, response)
}

/// What an error page needs to know of the request it answers.
struct Around {
    method: Method,
    /// Path and query.
    path: String,
    /// The page whose form was sent, if it was one of ours.
    from: Option<String>,
    theme: Theme,
    id: String,
    /// Whether a person reads the answer: programs show a token, and open pages listen for events.
    reads_pages: bool,
}

impl Around {
    fn of(request: &Request) -> Self {
        let headers = request.headers();
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let referer = headers.get(header::REFERER).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Self {
            method: request.method().clone(),
            reads_pages: !headers.contains_key(header::AUTHORIZATION) && path != "/events",
            path,
            from: url::Url::parse(referer).ok().map(|url| local_path(&url)),
            theme: Theme::parse(cookies::theme(headers)),
            id: request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default(),
        }
    }

    fn finish(self, app: &App, response: Response) -> Response {
        let mut response = match response.extensions().get::<Arc<Refusal>>().cloned() {
            Some(refusal) if self.reads_pages => self.say(app, &refusal),
            _ => response,
        };
        let headers = response.headers_mut();
        let rules: [(HeaderName, &str); 4] = [
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
            (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
        ];
        for (name, value) in rules {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    /// Where to come back to after signing in: a page, never the target of a form.
    fn next(&self) -> String {
        let page = if self.method.is_safe() { Some(self.path.clone()) } else { self.from.clone() };
        page.filter(|path| is_local(path)).unwrap_or_else(|| "/".to_owned())
    }

    fn say(&self, app: &App, refusal: &Refusal) -> Response {
        match refusal {
            Refusal::Refused(Error::NotSignedIn { code: "signin.setup_code", .. }) => {
                Redirect::to("/profile?done=code-required").into_response()
            }
            Refusal::Refused(Error::NotSignedIn { code: "signin.required" | "signin.expired", .. }) => {
                let next = self.next();
                let target =
                    if next == "/" { "/signin".to_owned() } else { format!("/signin?next={}", words::in_query(&next)) };
                Redirect::to(&target).into_response()
            }
            Refusal::Refused(Error::StaleSignIn) => {
                Redirect::to(&format!("/signin/again?next={}", words::in_query(&self.next()))).into_response()
            }
            _ => self.error_page(app, refusal),
        }
    }

    fn error_page(&self, app: &App, refusal: &Refusal) -> Response {
        let problem = refusal.problem();
        let mut page = ErrorPage::of(problem.status, self.id.clone());
        page.theme = self.theme;
        if let Some(from) = self.from.clone().filter(|from| !self.method.is_safe() && is_local(from)) {
            page.back = (from, "Go back".into());
        }
        let fix = problem.fix.clone().unwrap_or_default();
        match refusal {
            Refusal::ForeignPage => {
                page.what = format!("{}.", problem.title);
                page.why = "A form was sent from a page of another site, or by something that does not say where it comes from.".into();
                page.what_to_do = vec![fix];
            }
            Refusal::Refused(Error::KeyUnavailable(why)) => {
                let mut panel = words::panel(why, 0);
                panel.folded = false;
                page.dark = Some(panel);
            }
            Refusal::Refused(Error::Invalid(errors)) => {
                page.what_to_do = errors.iter().map(|error| error.message.clone().into_owned()).collect();
            }
            Refusal::Refused(
                Error::Conflict { .. } | Error::NotSignedIn { .. } | Error::Setup { .. } | Error::Integrity { .. },
            )
            | Refusal::Refused(Error::TooMany(_) | Error::Store(_)) => {
                page.what = format!("{}.", problem.title);
                page.what_to_do = vec![fix];
            }
            _ => {}
        }
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        words::page(status, page).unwrap_or_else(|_| {
            tracing::error!(node = %app.node, "the error page did not render");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        })
    }
}

/// Whether a request that changes something comes from a page of this server: browsers say so in `Sec-Fetch-Site`
/// (Fetch Metadata, W3C), older ones in `Origin` (RFC 6454). Who says neither is refused.
fn is_ours(headers: &HeaderMap, public_url: &str) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    match (text(HeaderName::from_static("sec-fetch-site")), text(header::ORIGIN)) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => origin == public_url,
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(site: Option<&'static str>, origin: Option<&'static str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(site) = site {
            headers.insert("sec-fetch-site", HeaderValue::from_static(site));
        }
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        is_ours(&headers, "https://strongroom.example.com")
    }

    #[test]
    fn only_pages_of_this_server_change_anything() {
        let (ours, foreign) = (Some("https://strongroom.example.com"), Some("https://evil.example.com"));
        assert!(asked(Some("same-origin"), ours) && asked(Some("same-origin"), None) && asked(None, ours));
        for site in ["cross-site", "same-site", "none", ""] {
            assert!(!asked(Some(site), ours), "{site}");
        }
        assert!(!asked(None, foreign) && !asked(None, Some("null")) && !asked(None, None));
    }
}

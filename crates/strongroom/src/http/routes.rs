//! The one table through which every route is added. A route cannot be added without saying what it needs, and what
//! it needs is asked for before its handler runs. Use cases still authorize for themselves; this is the guard that no
//! route was forgotten.

use std::{pin::Pin, sync::Arc};

use axum::{
    RequestExt, Router,
    extract::{RawPathParams, Request},
    handler::Handler,
    http::{Method, header},
    response::{IntoResponse, Response},
    routing::{MethodFilter, on},
};

use super::{api::document::Doc, extract::Authenticated, web::cookies};
use crate::{
    access::{ItemRole, Role, Target as Aim, allowed},
    app::{App, Caller},
    error::{Error, Result},
};

pub use crate::access::Action;

/// What a request must show before its handler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: health, sign-in, descriptions.
    Nobody,
    /// An API token of a member whose role may do this to something. To what, the use case decides.
    Token(Action),
    /// The session of such a member, by the browser's cookie.
    Session(Action),
}

/// Routes, and what is known of them.
#[derive(Default)]
pub struct Routes {
    router: Router<Arc<App>>,
    list: Vec<Listed>,
}

/// One route of the table.
pub struct Listed {
    pub method: Method,
    /// With its parameters in braces.
    pub path: &'static str,
    pub needs: Needs,
    /// For the OpenAPI document; every route of the API has one.
    pub doc: Option<Doc>,
}

impl Routes {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route.
    pub fn at<H, T>(mut self, method: Method, path: &'static str, needs: Needs, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: Send + 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("the table holds methods that axum knows");
        self.router = self.router.route(path, on(filter, Guarded { needs, handler }));
        self.list.push(Listed { method, path, needs, doc: None });
        self
    }

    /// Describes the route that was added last.
    pub fn doc(mut self, doc: Doc) -> Self {
        self.list.last_mut().expect("a description follows its route").doc = Some(doc);
        self
    }

    /// Everything that was added, in order.
    pub fn list(&self) -> &[Listed] {
        &self.list
    }

    pub fn into_router(self) -> Router<Arc<App>> {
        self.router
    }
}

impl Needs {
    /// Asks for what is needed and leaves the caller with the request.
    async fn ask(self, app: &App, request: &mut Request) -> Result<()> {
        match self {
            Self::Nobody => Ok(()),
            Self::Token(action) => {
                let caller = app.caller_by_token(bearer(request)).await?;
                require_own_workspace(request, &caller).await?;
                require_role(app, &caller, action).await?;
                request.extensions_mut().insert(Authenticated(caller));
                Ok(())
            }
            Self::Session(action) => {
                let caller = app.caller_by_session(cookies::session(app, request.headers())).await?;
                require_role(app, &caller, action).await?;
                request.extensions_mut().insert(Authenticated(caller));
                Ok(())
            }
        }
    }
}

/// A handler behind what its route needs.
#[derive(Clone)]
struct Guarded<H> {
    needs: Needs,
    handler: H,
}

/// Tells the handlers of this table from axum's own in `Handler`'s second parameter.
struct ByTable;

impl<H, T> Handler<(ByTable, T), Arc<App>> for Guarded<H>
where
    H: Handler<T, Arc<App>>,
    T: Send + 'static,
{
    type Future = Pin<Box<dyn Future<Output = Response> + Send>>;

    fn call(self, mut request: Request, app: Arc<App>) -> Self::Future {
        Box::pin(async move {
            match self.needs.ask(&app, &mut request).await {
                Ok(()) => self.handler.call(request, app).await,
                Err(error) => error.into_response(),
            }
        })
    }
}

/// The token of `Authorization: Bearer …` (RFC 6750, section 2.1), or nothing, which no token equals.
fn bearer(request: &Request) -> &str {
    let value = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match value.and_then(|value| value.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim_start(),
        _ => "",
    }
}

/// A path that names another workspace than the caller's looks like one that does not exist.
async fn require_own_workspace(request: &mut Request, caller: &Caller) -> Result<()> {
    let parts = request.extract_parts::<RawPathParams>().await.map_err(|_| Error::NotFound("address"))?;
    match parts.iter().find(|(name, _)| *name == "workspace") {
        Some((_, slug)) if slug != caller.workspace_slug => Err(Error::NotFound("workspace")),
        _ => Ok(()),
    }
}

/// Refuses, with an event, who could not do this to anything.
async fn require_role(app: &App, caller: &Caller, action: Action) -> Result<()> {
    let members = Role::ALL.map(Aim::Member);
    let items = ItemRole::ALL.map(|role| Aim::Item(Some(role)));
    let mut aims = members.into_iter().chain(items).chain([Aim::Item(None)]);
    if aims.any(|aim| allowed(caller.role, action, aim)) {
        return Ok(());
    }
    app.authorize_here(caller, action).await
}

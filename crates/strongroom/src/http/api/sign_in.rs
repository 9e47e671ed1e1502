//! `login`, `…/tokens`, `…/sessions`: what lets a member in, and what they can withdraw.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};

use super::{
    paging,
    types::{LoginAnswer, LoginRequest, Page, PageQuery, Session as ShownSession, Token as ShownToken},
};
use crate::{
    app::App,
    error::{Error, Result},
    http::{
        extract::{Authenticated, Body, ListQuery, PathId},
        origin::From,
    },
    id::{SessionId, TokenId},
    member::{Session, Token},
};

/// Days that a token is good for when nothing else is said.
const DAYS: u16 = 90;

type Server = State<Arc<App>>;

pub async fn login(
    State(app): Server,
    From(origin): From,
    Body(body): Body<LoginRequest>,
) -> Result<Json<LoginAnswer>> {
    let LoginRequest { workspace, email, password, code, token_name } = body;
    let made = app.sign_in_for_token((&email, password, code), (&token_name, DAYS), &origin).await?;
    let caller = app.caller_by_token(made.secret.expose()).await?;
    if workspace.is_some_and(|wanted| wanted != caller.workspace_slug) {
        app.revoke_token(&caller, made.token.id).await?;
        return Err(Error::NotFound("workspace"));
    }
    Ok(Json(LoginAnswer { token: made.secret, expires_at: made.token.expires_at, workspace: caller.workspace_slug }))
}

pub async fn tokens(
    State(app): Server,
    Authenticated(caller): Authenticated,
    ListQuery(query): ListQuery<PageQuery>,
) -> Result<Json<Page<ShownToken>>> {
    paging::page(&query, app.tokens(&caller).await?, shown_token).map(Json)
}

pub async fn revoke_token(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<TokenId>,
) -> Result<StatusCode> {
    app.revoke_token(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn sessions(
    State(app): Server,
    Authenticated(caller): Authenticated,
    ListQuery(query): ListQuery<PageQuery>,
) -> Result<Json<Page<ShownSession>>> {
    paging::page(&query, app.sessions(&caller).await?, shown_session).map(Json)
}

pub async fn revoke_session(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<SessionId>,
) -> Result<StatusCode> {
    app.revoke_session(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown_token(token: Token) -> ShownToken {
    ShownToken {
        id: token.id.0,
        name: token.name,
        created_at: token.created_at,
        expires_at: token.expires_at,
        last_used_at: token.last_used_at,
    }
}

fn shown_session(session: Session) -> ShownSession {
    ShownSession {
        id: session.id.0,
        created_at: session.created_at,
        last_seen_at: session.last_seen_at,
        expires_at: session.expires_at,
        address: Some(session.address),
        user_agent: Some(session.agent),
        current: session.current,
    }
}

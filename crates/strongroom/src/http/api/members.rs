//! The workspace itself, and `…/members`: who belongs to it, as what.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};

use super::{
    paging,
    types::{
        EditMember, EditWorkspace, Invitation as ShownInvitation, InviteMember, Member as Shown, MemberState, Page,
        PageQuery, RemoveMember, TransferOwnership, Workspace as ShownWorkspace,
    },
};
use crate::{
    app::{App, Caller},
    error::Result,
    http::extract::{Authenticated, Body, IfMatch, ListQuery, PathId, Tagged},
    id::MemberId,
    member::{Invitation, Member, NewMember, State as Standing},
    workspace::{self, Workspace},
};

type Server = State<Arc<App>>;

/// The workspaces that the token opens: always one.
pub async fn workspaces(
    State(app): Server,
    Authenticated(caller): Authenticated,
    ListQuery(query): ListQuery<PageQuery>,
) -> Result<Json<Page<ShownWorkspace>>> {
    let here = app.workspace(&caller).await?;
    paging::page(&query, vec![here], |workspace| shown_workspace(workspace, &caller)).map(Json)
}

pub async fn workspace(
    State(app): Server,
    Authenticated(caller): Authenticated,
) -> Result<Tagged<Json<ShownWorkspace>>> {
    Ok(tagged_workspace(app.workspace(&caller).await?, &caller))
}

pub async fn edit_workspace(
    State(app): Server,
    Authenticated(caller): Authenticated,
    IfMatch(revision): IfMatch,
    Body(body): Body<EditWorkspace>,
) -> Result<Tagged<Json<ShownWorkspace>>> {
    let edit = workspace::Edit {
        name: body.name,
        external_keys: body.azure_external_keys,
        require_code: body.require_second_factor,
    };
    Ok(tagged_workspace(app.edit_workspace(&caller, edit, revision).await?, &caller))
}

pub async fn list(
    State(app): Server,
    Authenticated(caller): Authenticated,
    ListQuery(query): ListQuery<PageQuery>,
) -> Result<Json<Page<Shown>>> {
    paging::page(&query, app.members(&caller).await?, shown).map(Json)
}

pub async fn invite(
    State(app): Server,
    Authenticated(caller): Authenticated,
    Body(InviteMember { email, name, role }): Body<InviteMember>,
) -> Result<impl IntoResponse> {
    let invitation = app.invite(&caller, NewMember { email, name, role }).await?;
    let place = format!("/api/v1/workspaces/{}/members/{}", caller.workspace_slug, invitation.member.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, place)], Json(shown_invitation(invitation))))
}

pub async fn invite_again(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<MemberId>,
) -> Result<impl IntoResponse> {
    let invitation = app.invite_again(&caller, id).await?;
    Ok((StatusCode::CREATED, Json(shown_invitation(invitation))))
}

pub async fn get(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<MemberId>,
) -> Result<Tagged<Json<Shown>>> {
    Ok(tagged(app.member(&caller, id).await?))
}

pub async fn edit(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<MemberId>,
    IfMatch(revision): IfMatch,
    Body(EditMember { role }): Body<EditMember>,
) -> Result<Tagged<Json<Shown>>> {
    Ok(tagged(app.change_role(&caller, id, Some(revision), role).await?))
}

pub async fn remove(
    State(app): Server,
    Authenticated(caller): Authenticated,
    PathId(id): PathId<MemberId>,
    ListQuery(RemoveMember { heir }): ListQuery<RemoveMember>,
) -> Result<StatusCode> {
    app.remove_member(&caller, id, MemberId(heir)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn transfer(
    State(app): Server,
    Authenticated(caller): Authenticated,
    Body(TransferOwnership { member_id }): Body<TransferOwnership>,
) -> Result<StatusCode> {
    app.transfer_ownership(&caller, MemberId(member_id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn tagged_workspace(workspace: Workspace, caller: &Caller) -> Tagged<Json<ShownWorkspace>> {
    Tagged(workspace.revision, Json(shown_workspace(workspace, caller)))
}

fn shown_workspace(workspace: Workspace, caller: &Caller) -> ShownWorkspace {
    ShownWorkspace {
        id: workspace.id.0,
        slug: workspace.slug,
        name: workspace.name,
        member_id: caller.member.0,
        role: caller.role,
        default_vault_id: workspace.default_vault.map(|vault| vault.0),
        azure_external_keys: workspace.external_keys,
        require_second_factor: workspace.require_code,
        revision: workspace.revision,
        created_at: workspace.created_at,
    }
}

fn tagged(member: Member) -> Tagged<Json<Shown>> {
    Tagged(member.revision, Json(shown(member)))
}

fn shown(member: Member) -> Shown {
    Shown {
        id: member.id.0,
        email: member.email,
        name: member.name,
        role: member.role,
        state: if member.state == Standing::Invited { MemberState::Invited } else { MemberState::Active },
        second_factor: member.has_code,
        created_at: member.created_at,
        last_seen_at: member.last_sign_in_at,
        revision: member.revision,
    }
}

fn shown_invitation(Invitation { member, link }: Invitation) -> ShownInvitation {
    ShownInvitation { member: shown(member), link: link.url, expires_at: link.expires_at }
}

//! Members: the list, invitations, roles, removal, and handing the workspace over.

use axum::{http::StatusCode, response::Response};

use super::{
    form::Form,
    views::{Choice, Field, Section, members::*, said_of},
    visit::{Visit, to},
    words,
};
use crate::{
    access::{Action, Role, Target as Aim, allowed},
    error::{Error, FieldError, Result},
    http::{
        error::{capital, status},
        extract::PathId,
    },
    id::MemberId,
    member::{Invitation, Member, NewMember, State},
};

pub async fn list(visit: Visit) -> Result<Response> {
    let owned = visit.app.owned_alone(&visit.caller).await?;
    let members = visit.app.members(&visit.caller).await?;
    let rows = members.into_iter().map(|member| {
        let owns = owned.get(&member.id).copied().unwrap_or(0);
        row(&visit, member, owns)
    });
    let rows = rows.collect();
    let shell = visit.shell("Members", Section::Members).await?;
    visit.page(MembersPage { shell, rows, can_transfer: visit.may(Action::TransferOwnership) })
}

pub async fn ask_invite(visit: Visit) -> Result<Response> {
    visit.app.require_fresh(&visit.caller)?;
    invite_page(&visit, StatusCode::OK, &Form::default(), &[], None).await
}

pub async fn invite(visit: Visit, form: Form) -> Result<Response> {
    let role = form.parsed::<Role>("role").ok_or(Error::field("role", "Choose a role."))?;
    let new = NewMember { email: form.text("email"), name: form.text("name"), role };
    match visit.app.invite(&visit.caller, new).await {
        Ok(invitation) => link_page(&visit, invitation).await,
        Err(Error::Invalid(errors)) => {
            invite_page(&visit, StatusCode::UNPROCESSABLE_ENTITY, &form, &errors, None).await
        }
        Err(error @ Error::Conflict { .. }) => {
            invite_page(&visit, status(&error), &form, &[], Some(told(&error))).await
        }
        Err(error) => Err(error),
    }
}

pub async fn invite_again(visit: Visit, PathId(id): PathId<MemberId>) -> Result<Response> {
    let invitation = visit.app.invite_again(&visit.caller, id).await?;
    link_page(&visit, invitation).await
}

pub async fn show(visit: Visit, PathId(id): PathId<MemberId>) -> Result<Response> {
    member_page(&visit, StatusCode::OK, id, None).await
}

pub async fn change_role(visit: Visit, PathId(id): PathId<MemberId>, form: Form) -> Result<Response> {
    let role = form.parsed::<Role>("role").ok_or(Error::field("role", "Choose a role."))?;
    match visit.app.change_role(&visit.caller, id, None, role).await {
        Ok(_) => Ok(to(format!("/members/{id}?done=role-changed"))),
        Err(error @ Error::Conflict { .. }) => member_page(&visit, status(&error), id, Some(told(&error))).await,
        Err(error) => Err(error),
    }
}

pub async fn ask_remove(visit: Visit, PathId(id): PathId<MemberId>) -> Result<Response> {
    visit.app.require_fresh(&visit.caller)?;
    remove_page(&visit, StatusCode::OK, id, None).await
}

pub async fn remove(visit: Visit, PathId(id): PathId<MemberId>, form: Form) -> Result<Response> {
    // Without items to hand over the form does not ask for an heir.
    let heir = form.parsed("heir").unwrap_or(visit.caller.member);
    match visit.app.remove_member(&visit.caller, id, heir).await {
        Ok(()) => Ok(to("/members?done=removed")),
        Err(error @ (Error::Invalid(_) | Error::Conflict { .. })) => {
            remove_page(&visit, status(&error), id, Some(told(&error))).await
        }
        Err(error) => Err(error),
    }
}

pub async fn ask_transfer(visit: Visit) -> Result<Response> {
    visit.app.require_fresh(&visit.caller)?;
    transfer_page(&visit, StatusCode::OK, None).await
}

pub async fn transfer(visit: Visit, form: Form) -> Result<Response> {
    let Some(member) = form.parsed("member_id") else {
        let text = "Choose who is to be the Owner.".to_owned();
        return transfer_page(&visit, StatusCode::UNPROCESSABLE_ENTITY, Some(text)).await;
    };
    match visit.app.transfer_ownership(&visit.caller, member).await {
        Ok(()) => Ok(to("/members?done=transferred")),
        Err(error @ (Error::Invalid(_) | Error::Conflict { .. })) => {
            transfer_page(&visit, status(&error), Some(told(&error))).await
        }
        Err(error) => Err(error),
    }
}

async fn invite_page(
    visit: &Visit,
    status: StatusCode,
    form: &Form,
    errors: &[FieldError],
    problem: Option<String>,
) -> Result<Response> {
    let chosen = form.parsed::<Role>("role").unwrap_or(Role::User);
    words::page(
        status,
        InvitePage {
            shell: visit.shell("Invite a member", Section::Members).await?,
            name: Field::checked(form.get("name"), "name", errors),
            email: Field::checked(form.get("email"), "email", errors),
            roles: words::roles(chosen, |role| visit.caller.may(Action::InviteMember, Aim::Member(role))),
            problem: problem.or_else(|| said_of("role", errors)),
        },
    )
}

async fn link_page(visit: &Visit, invitation: Invitation) -> Result<Response> {
    let Invitation { member, link } = invitation;
    visit.page(LinkPage {
        shell: visit.shell("Invitation", Section::Members).await?,
        name: member.name,
        email: member.email,
        link: link.url.into(),
        expires: words::exact(link.expires_at),
    })
}

async fn member_page(visit: &Visit, status: StatusCode, id: MemberId, role_error: Option<String>) -> Result<Response> {
    let member = visit.app.member(&visit.caller, id).await?;
    let owns = visit.app.owned_alone(&visit.caller).await?.get(&id).copied().unwrap_or(0);
    let mut shell = visit.shell("Member", Section::Members).await?;
    shell.path = format!("/members/{id}");
    let not_me = id != visit.caller.member;
    words::page(
        status,
        MemberPage {
            shell,
            created: words::moment(visit.app.clock.now(), member.created_at),
            roles: words::roles(member.role, |role| visit.caller.may(Action::ChangeRole, Aim::Member(role))),
            can_remove: not_me && visit.caller.may(Action::RemoveMember, Aim::Member(member.role)),
            member: row(visit, member, owns),
            role_error,
        },
    )
}

async fn remove_page(visit: &Visit, status: StatusCode, id: MemberId, problem: Option<String>) -> Result<Response> {
    let member = visit.app.member(&visit.caller, id).await?;
    let owns = visit.app.owned_alone(&visit.caller).await?.get(&id).copied().unwrap_or(0);
    let may_own = |other: &Member| allowed(other.role, Action::OwnItem, Aim::Workspace);
    let heirs = visit.app.members(&visit.caller).await?.into_iter();
    let heirs = heirs
        .filter(|other| other.id != id && other.state == State::Active && may_own(other))
        .map(|other| Choice::new(other.id.to_string(), other.name, other.id == visit.caller.member));
    words::page(
        status,
        RemovePage {
            shell: visit.shell("Remove a member", Section::Members).await?,
            id: id.to_string(),
            name: member.name,
            owns,
            heirs: heirs.collect(),
            problem,
        },
    )
}

async fn transfer_page(visit: &Visit, status: StatusCode, problem: Option<String>) -> Result<Response> {
    let members = visit.app.members(&visit.caller).await?.into_iter();
    let candidates = members
        .filter(|member| member.id != visit.caller.member && member.state == State::Active)
        .map(|member| Choice::new(member.id.to_string(), format!("{} ({})", member.name, member.role.title()), false));
    words::page(
        status,
        TransferPage {
            shell: visit.shell("Transfer ownership", Section::Members).await?,
            candidates: candidates.collect(),
            problem,
        },
    )
}

fn row(visit: &Visit, member: Member, owns: u64) -> MemberRow {
    let is_me = member.id == visit.caller.member;
    MemberRow {
        id: member.id.to_string(),
        is_me,
        two_step: member.has_code,
        joined: member.state == State::Active,
        last_sign_in: member.last_sign_in_at.map(|at| words::moment(visit.app.clock.now(), at)),
        owns,
        can_change: !is_me && visit.caller.may(Action::ChangeRole, Aim::Member(member.role)),
        role: member.role.title().to_owned(),
        name: member.name,
        email: member.email,
    }
}

fn told(error: &Error) -> String {
    format!("{}. {}", capital(error.to_string().trim_end_matches('.')), error.fix())
}

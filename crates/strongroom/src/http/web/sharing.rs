//! Who has a role to an item, and taking one over.

use axum::{http::StatusCode, response::Response};

use super::{
    form::Form,
    items::{dark_or, open},
    views::{
        Choice, Section,
        items::{Grant, ItemTab, SharingPage, TakeOverPage},
    },
    visit::{Visit, to},
    words,
};
use crate::{
    access::{Action, ItemRole},
    error::{Error, Result},
    http::{
        error::{capital, status},
        extract::PathId,
    },
    id::{ItemId, MemberId},
};

pub async fn show(visit: Visit, PathId(id): PathId<ItemId>) -> Result<Response> {
    page(&visit, id, None).await
}

pub async fn share(visit: Visit, PathId(id): PathId<ItemId>, form: Form) -> Result<Response> {
    let outcome = match form.parsed::<MemberId>("member_id") {
        None => Err(Error::field("member_id", "Choose whom to share it with.")),
        Some(member) => give(&visit, id, member, &form).await,
    };
    answer(&visit, id, outcome, "shared").await
}

pub async fn change(
    visit: Visit,
    PathId(id): PathId<ItemId>,
    PathId(member): PathId<MemberId>,
    form: Form,
) -> Result<Response> {
    let outcome = give(&visit, id, member, &form).await;
    answer(&visit, id, outcome, "role-changed").await
}

pub async fn unshare(visit: Visit, PathId(id): PathId<ItemId>, PathId(member): PathId<MemberId>) -> Result<Response> {
    let outcome = visit.app.unshare_item(&visit.caller, id, member).await;
    if outcome.is_ok() && member == visit.caller.member {
        return Ok(to("/items?done=unshared"));
    }
    answer(&visit, id, outcome, "unshared").await
}

pub async fn ask_take_over(visit: Visit, PathId(id): PathId<ItemId>) -> Result<Response> {
    visit.app.require_fresh(&visit.caller)?;
    let shell = visit.shell("Take over an item", Section::Activity).await?;
    visit.page(TakeOverPage { shell, id: id.to_string() })
}

pub async fn take_over(visit: Visit, PathId(id): PathId<ItemId>) -> Result<Response> {
    visit.app.take_over_item(&visit.caller, id).await?;
    Ok(to(format!("/items/{id}?done=taken-over")))
}

async fn give(visit: &Visit, id: ItemId, member: MemberId, form: &Form) -> Result<()> {
    let role = words::item_role(form.get("role"))?;
    visit.app.share_item(&visit.caller, id, member, role).await
}

async fn answer(visit: &Visit, id: ItemId, outcome: Result<()>, done: &str) -> Result<Response> {
    match outcome {
        Ok(()) => Ok(to(format!("/items/{id}/sharing?done={done}"))),
        Err(error @ (Error::Invalid(_) | Error::Conflict { .. })) => {
            let told = format!("{}. {}", capital(error.to_string().trim_end_matches('.')), error.fix());
            page(visit, id, Some((status(&error), told))).await
        }
        Err(error) => dark_or(visit, id, error).await,
    }
}

async fn page(visit: &Visit, id: ItemId, problem: Option<(StatusCode, String)>) -> Result<Response> {
    let (shell, item, _) = match open(visit, id, &format!("/items/{id}/sharing")).await {
        Ok(opened) => opened,
        Err(error) => return dark_or(visit, id, error).await,
    };
    let grants = visit.app.item_grants(&visit.caller, id).await?;
    let members = if visit.may(Action::SeeMembers) { visit.app.members(&visit.caller).await? } else { Vec::new() };
    let has_role = |member: MemberId| grants.iter().any(|grant| grant.member == member);
    let candidates = members.iter().filter(|member| !has_role(member.id));
    let candidates = candidates
        .map(|member| Choice::new(member.id.to_string(), format!("{} ({})", member.name, member.role.title()), false));
    let candidates = candidates.collect();
    let owners = grants.iter().filter(|grant| grant.role == ItemRole::Owner).count();
    let people = grants.iter().map(|grant| Grant {
        member_id: grant.member.to_string(),
        name: grant.name.clone(),
        email: grant.email.clone(),
        role: grant.role,
        is_me: grant.member == visit.caller.member,
        fixed: grant.role == ItemRole::Owner && owners == 1,
    });
    let people = people.collect();
    let (status, problem) = problem.map_or((StatusCode::OK, None), |(status, text)| (status, Some(text)));
    words::page(status, SharingPage { shell, item, tab: ItemTab::Sharing, people, candidates, problem })
}

//! The web app: pages for people, rendered on the server, usable without JavaScript.
//!
//! `views` holds what each page shows (structs and templates), `assets` the files beside them. A handler parses its
//! form, calls use cases and fills a view; `visit` is what every handler knows of who looks, `frame` what surrounds
//! every answer.

mod activity;
pub mod assets;
mod checks;
pub mod cookies;
mod exports;
mod form;
pub mod frame;
mod health;
mod home;
mod item_form;
mod items;
mod jobs;
mod live;
mod members;
mod moves;
mod notices;
mod profile;
mod settings;
mod sharing;
mod sign_in;
mod trash;
mod vault;
mod vaults;
pub mod views;
mod visit;
mod words;

use axum::http::Method;

use super::routes::{
    Action as A,
    Needs::{Nobody, Session},
    Routes,
};

pub use live::Stopping;

const GET: Method = Method::GET;
const POST: Method = Method::POST;

/// Adds every page.
pub fn routes(routes: Routes) -> Routes {
    people(notices(workspace(items(doors(routes)))))
}

/// Before sign-in, and what needs none.
fn doors(routes: Routes) -> Routes {
    routes
        .at(GET, "/assets/{hash}/{name}", Nobody, assets::serve)
        .at(POST, "/theme", Nobody, visit::choose_theme)
        .at(GET, "/signin", Nobody, sign_in::form)
        .at(POST, "/signin", Nobody, sign_in::submit)
        .at(GET, "/signin/code", Nobody, sign_in::code_form)
        .at(POST, "/signin/code", Nobody, sign_in::submit_code)
        .at(GET, "/signin/again", Session(A::ManageSelf), sign_in::again_form)
        .at(POST, "/signin/again", Session(A::ManageSelf), sign_in::again)
        .at(POST, "/signout", Session(A::ManageSelf), sign_in::out)
        .at(GET, "/setup/{link}", Nobody, sign_in::setup_form)
        .at(POST, "/setup/{link}", Nobody, sign_in::setup)
        .at(GET, "/join/{link}", Nobody, sign_in::join_form)
        .at(POST, "/join/{link}", Nobody, sign_in::join)
        .at(GET, "/reset/{link}", Nobody, sign_in::reset_form)
        .at(POST, "/reset/{link}", Nobody, sign_in::reset)
}

fn items(routes: Routes) -> Routes {
    routes
        .at(GET, "/", Session(A::ListItems), home::dashboard)
        .at(GET, "/events", Session(A::ListItems), live::events)
        .at(GET, "/items", Session(A::ListItems), items::list)
        .at(POST, "/items/search", Session(A::ListItems), items::search)
        .at(GET, "/items/search", Session(A::ListItems), items::search_again)
        .at(GET, "/export", Session(A::ListItems), exports::ask)
        .at(POST, "/export", Session(A::ListItems), exports::start)
        .at(GET, "/trash", Session(A::ListItems), trash::list)
        .at(GET, "/trash/purge", Session(A::ManageItem), trash::ask_all)
        .at(POST, "/trash/purge", Session(A::ManageItem), trash::purge)
        .at(GET, "/items/move", Session(A::ManageItem), moves::back_to_items)
        .at(POST, "/items/move", Session(A::ManageItem), moves::items)
        .at(GET, "/items/{item}/move", Session(A::ManageItem), moves::ask_item)
        .at(GET, "/items/new", Session(A::CreateItem), item_form::blank)
        .at(POST, "/items", Session(A::CreateItem), item_form::create)
        .at(GET, "/items/{item}", Session(A::ViewItem), items::show)
        .at(POST, "/items/{item}", Session(A::EditItem), item_form::save)
        .at(POST, "/items/{item}/edit", Session(A::EditItem), item_form::open)
        .at(GET, "/items/{item}/edit", Session(A::EditItem), items::back_to_item)
        .at(POST, "/items/{item}/reveal", Session(A::RevealItem), items::reveal)
        .at(GET, "/items/{item}/reveal", Session(A::RevealItem), items::back_to_item)
        .at(POST, "/items/{item}/trash", Session(A::ManageItem), items::discard)
        .at(POST, "/items/{item}/restore", Session(A::ManageItem), items::restore)
        .at(GET, "/items/{item}/history", Session(A::ViewItem), items::history)
        .at(POST, "/items/{item}/history/{revision}/restore", Session(A::EditItem), items::restore_revision)
        .at(GET, "/items/{item}/sharing", Session(A::ViewItem), sharing::show)
        .at(POST, "/items/{item}/sharing", Session(A::ManageItem), sharing::share)
        .at(POST, "/items/{item}/sharing/{member}", Session(A::ManageItem), sharing::change)
        .at(POST, "/items/{item}/sharing/{member}/remove", Session(A::ManageItem), sharing::unshare)
        .at(GET, "/items/{item}/take-over", Session(A::TakeOverItem), sharing::ask_take_over)
        .at(POST, "/items/{item}/take-over", Session(A::TakeOverItem), sharing::take_over)
}

fn workspace(routes: Routes) -> Routes {
    routes
        .at(GET, "/settings", Session(A::ManageSettings), settings::general)
        .at(POST, "/settings", Session(A::ManageSettings), settings::save)
        .at(GET, "/settings/privacy-and-security", Session(A::ManageVaults), vaults::table)
        .at(GET, "/settings/vaults/new", Session(A::ManageVaults), vaults::first_dialog)
        .at(POST, "/settings/vaults/new", Session(A::ManageVaults), vaults::next)
        .at(GET, "/settings/vaults/rewrap", Session(A::ManageVaults), vault::ask_rewrap_all)
        .at(POST, "/settings/vaults/rewrap", Session(A::ManageVaults), vault::rewrap_all)
        .at(POST, "/settings/vaults/check", Session(A::ManageVaults), vaults::check_values)
        .at(GET, "/settings/vaults", Session(A::ManageVaults), vaults::back)
        .at(POST, "/settings/vaults", Session(A::ManageVaults), vaults::create)
        .at(GET, "/settings/vaults/{vault}", Session(A::ManageVaults), vault::show)
        .at(POST, "/settings/vaults/{vault}/check", Session(A::ManageVaults), vault::check)
        .at(GET, "/settings/vaults/{vault}/check", Session(A::ManageVaults), vault::back)
        .at(GET, "/settings/vaults/{vault}/key", Session(A::ManageVaults), vault::ask_key_change)
        .at(POST, "/settings/vaults/{vault}/key", Session(A::ManageVaults), vault::start_key_change)
        .at(POST, "/settings/vaults/{vault}/generations/{generation}/retire", Session(A::ManageVaults), vault::retire)
        .at(GET, "/settings/vaults/{vault}/credential", Session(A::ManageVaults), vault::ask_credential)
        .at(POST, "/settings/vaults/{vault}/credential", Session(A::ManageVaults), vault::replace_credential)
        .at(POST, "/settings/vaults/{vault}/credential/check", Session(A::ManageVaults), vault::check_credential)
        .at(GET, "/settings/vaults/{vault}/key-vault", Session(A::ManageVaults), vault::ask_key_vault)
        .at(POST, "/settings/vaults/{vault}/key-vault", Session(A::ManageVaults), vault::change_key_vault)
        .at(POST, "/settings/vaults/{vault}/key-vault/check", Session(A::ManageVaults), vault::check_key_vault)
        .at(GET, "/settings/vaults/{vault}/move", Session(A::ManageVaults), moves::ask_vault)
        .at(POST, "/settings/vaults/{vault}/move", Session(A::ManageVaults), moves::vault)
        .at(GET, "/settings/vaults/{vault}/settings", Session(A::ManageVaults), vault::show_settings)
        .at(POST, "/settings/vaults/{vault}/settings", Session(A::ManageVaults), vault::save)
        .at(GET, "/settings/vaults/{vault}/delete", Session(A::ManageVaults), vault::ask_delete)
        .at(POST, "/settings/vaults/{vault}/delete", Session(A::ManageVaults), vault::delete)
        .at(POST, "/settings/vaults/{vault}/default", Session(A::ManageVaults), vault::make_default)
        .at(GET, "/activity", Session(A::ReadAudit), activity::list)
        .at(GET, "/jobs", Session(A::SeeJobs), jobs::list)
        .at(GET, "/jobs/{job}", Session(A::SeeJobs), jobs::show)
        .at(POST, "/jobs/{job}/pause", Session(A::SeeJobs), jobs::pause)
        .at(POST, "/jobs/{job}/resume", Session(A::SeeJobs), jobs::resume)
        .at(POST, "/jobs/{job}/cancel", Session(A::SeeJobs), jobs::cancel)
}

fn notices(routes: Routes) -> Routes {
    routes
        .at(GET, "/health", Session(A::ManageVaults), health::list)
        .at(GET, "/settings/vaults/{vault}/health", Session(A::ManageVaults), health::show)
        .at(GET, "/notices", Session(A::ManageVaults), notices::list)
        .at(POST, "/notices/read", Session(A::ManageVaults), notices::read)
        .at(GET, "/settings/notices", Session(A::ManageSettings), notices::settings)
        .at(GET, "/settings/webhooks/new", Session(A::ManageSettings), notices::ask_webhook)
        .at(POST, "/settings/webhooks", Session(A::ManageSettings), notices::create_webhook)
        .at(GET, "/settings/webhooks/{webhook}", Session(A::ManageSettings), notices::webhook)
        .at(POST, "/settings/webhooks/{webhook}/test", Session(A::ManageSettings), notices::test_webhook)
        .at(GET, "/settings/webhooks/{webhook}/test", Session(A::ManageSettings), notices::back_to_webhook)
        .at(GET, "/settings/webhooks/{webhook}/remove", Session(A::ManageSettings), notices::ask_remove)
        .at(POST, "/settings/webhooks/{webhook}/remove", Session(A::ManageSettings), notices::remove)
        .at(POST, "/profile/notices", Session(A::ManageSelf), notices::save_mail)
}

fn people(routes: Routes) -> Routes {
    routes
        .at(GET, "/members", Session(A::InviteMember), members::list)
        .at(GET, "/members/invite", Session(A::InviteMember), members::ask_invite)
        .at(POST, "/members/invite", Session(A::InviteMember), members::invite)
        .at(GET, "/members/transfer", Session(A::TransferOwnership), members::ask_transfer)
        .at(POST, "/members/transfer", Session(A::TransferOwnership), members::transfer)
        .at(GET, "/members/{member}", Session(A::InviteMember), members::show)
        .at(POST, "/members/{member}/role", Session(A::ChangeRole), members::change_role)
        .at(POST, "/members/{member}/link", Session(A::InviteMember), members::invite_again)
        .at(GET, "/members/{member}/remove", Session(A::RemoveMember), members::ask_remove)
        .at(POST, "/members/{member}/remove", Session(A::RemoveMember), members::remove)
        .at(GET, "/profile", Session(A::ManageSelf), profile::show)
        .at(POST, "/profile/password", Session(A::ManageSelf), profile::change_password)
        .at(POST, "/profile/two-step/start", Session(A::ManageSelf), profile::start_code)
        .at(POST, "/profile/two-step", Session(A::ManageSelf), profile::confirm_code)
        .at(POST, "/profile/two-step/stop", Session(A::ManageSelf), profile::stop_code)
        .at(POST, "/profile/recovery-codes", Session(A::ManageSelf), profile::renew_recovery_codes)
        .at(POST, "/profile/sessions/{session}/revoke", Session(A::ManageSelf), profile::revoke_session)
        .at(GET, "/profile/tokens/new", Session(A::ManageSelf), profile::ask_token)
        .at(POST, "/profile/tokens", Session(A::ManageSelf), profile::create_token)
        .at(POST, "/profile/tokens/{token}/revoke", Session(A::ManageSelf), profile::revoke_token)
}

//! REST, version 1: `/api/v1`. Handlers parse, call one use case and render; this file is the table of them.

mod audit;
mod credential;
pub mod document;
pub mod exports;
mod health;
mod items;
mod jobs;
mod key_health;
mod keys;
mod members;
mod notices;
mod paging;
mod sign_in;
mod trash;
pub mod types;
mod vaults;

use axum::{extract::DefaultBodyLimit, handler::Handler, http::Method};

use self::document::Doc;
use super::routes::{
    Action as A,
    Needs::{Nobody, Token},
    Routes,
};

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PATCH: Method = Method::PATCH;
const PUT: Method = Method::PUT;
const DELETE: Method = Method::DELETE;

macro_rules! here {
    ($path:literal) => {
        concat!("/api/v1/workspaces/{workspace}", $path)
    };
}

/// Adds the whole API.
pub fn routes(routes: Routes) -> Routes {
    let routes = routes
        .at(GET, "/healthz/live", Nobody, health::live)
        .at(GET, "/healthz/ready", Nobody, health::ready)
        .at(GET, "/api/v1/openapi.json", Nobody, document::serve)
        .doc(Doc::new("This description").gives_json(200));
    keys(jobs(exports(notices(items(vaults(members(sign_in(routes))))))))
}

fn sign_in(routes: Routes) -> Routes {
    use types as t;
    routes
        .at(POST, "/api/v1/login", Nobody, sign_in::login)
        .doc(Doc::new("Exchange a password for an API token").takes::<t::LoginRequest>().gives::<t::LoginAnswer>(200))
        .at(GET, here!("/tokens"), Token(A::ManageSelf), sign_in::tokens)
        .doc(Doc::new("Your API tokens").query::<t::PageQuery>().gives_page::<t::Token>())
        .at(DELETE, here!("/tokens/{token}"), Token(A::ManageSelf), sign_in::revoke_token)
        .doc(Doc::new("Revoke an API token of yours"))
        .at(GET, here!("/sessions"), Token(A::ManageSelf), sign_in::sessions)
        .doc(Doc::new("Your browser sessions").query::<t::PageQuery>().gives_page::<t::Session>())
        .at(DELETE, here!("/sessions/{session}"), Token(A::ManageSelf), sign_in::revoke_session)
        .doc(Doc::new("End a browser session of yours"))
}

fn members(routes: Routes) -> Routes {
    use types as t;
    routes
        .at(GET, "/api/v1/workspaces", Token(A::SeeWorkspace), members::workspaces)
        .doc(Doc::new("The workspaces that a token opens").query::<t::PageQuery>().gives_page::<t::Workspace>())
        .at(GET, here!(""), Token(A::SeeWorkspace), members::workspace)
        .doc(Doc::new("The workspace").gives::<t::Workspace>(200))
        .at(PATCH, here!(""), Token(A::ManageSettings), members::edit_workspace)
        .doc(
            Doc::new("Change the workspace's settings")
                .if_match()
                .takes::<t::EditWorkspace>()
                .gives::<t::Workspace>(200),
        )
        .at(GET, here!("/members"), Token(A::SeeMembers), members::list)
        .doc(Doc::new("The members, by name").query::<t::PageQuery>().gives_page::<t::Member>())
        .at(POST, here!("/members"), Token(A::InviteMember), members::invite)
        .doc(Doc::new("Invite a member").takes::<t::InviteMember>().gives::<t::Invitation>(201))
        .at(GET, here!("/members/{member}"), Token(A::ManageSelf), members::get)
        .doc(Doc::new("One member; yourself whatever your role").gives::<t::Member>(200))
        .at(PATCH, here!("/members/{member}"), Token(A::ChangeRole), members::edit)
        .doc(Doc::new("Change a member's role").if_match().takes::<t::EditMember>().gives::<t::Member>(200))
        .at(DELETE, here!("/members/{member}"), Token(A::RemoveMember), members::remove)
        .doc(Doc::new("Remove a member; what they alone owned goes to the heir").query::<t::RemoveMember>())
        .at(POST, here!("/members/{member}/invitation"), Token(A::InviteMember), members::invite_again)
        .doc(Doc::new("Make a new link for a member who has not joined").gives::<t::Invitation>(201))
        .at(POST, here!("/transfer"), Token(A::TransferOwnership), members::transfer)
        .doc(Doc::new("Make another member the Owner").takes::<t::TransferOwnership>())
        .at(GET, here!("/audit"), Token(A::ReadAudit), audit::list)
        .doc(Doc::new("The audit log, newest first").query::<t::AuditQuery>().gives::<t::AuditPage>(200))
        .at(GET, here!("/audit/export"), Token(A::ReadAudit), audit::export)
        .doc(
            Doc::new("The audit log in its own order, to be copied")
                .query::<t::ExportQuery>()
                .gives::<t::ExportPage>(200),
        )
        .at(GET, here!("/audit/checkpoint"), Token(A::ReadAudit), audit::checkpoint)
        .doc(Doc::new("The newest signed head of the audit log").gives::<t::AuditCheckpoint>(200))
        .at(GET, here!("/audit/growth"), Token(A::ReadAudit), audit::growth)
        .doc(Doc::new("Proof that the audit log only grew").query::<t::GrowthQuery>().gives::<t::AuditGrowth>(200))
        .at(GET, here!("/audit/{event}/proof"), Token(A::ReadAudit), audit::proof)
        .doc(Doc::new("Proof that an event is in the audit log").gives::<t::AuditProof>(200))
}

fn vaults(routes: Routes) -> Routes {
    use types as t;
    routes
        .at(GET, here!("/vaults"), Token(A::SeeVaults), vaults::list)
        .doc(Doc::new("All vaults, the default one first").query::<t::PageQuery>().gives_page::<t::Vault>())
        .at(POST, here!("/vaults"), Token(A::ManageVaults), vaults::create)
        .doc(Doc::new("Make a vault").takes::<t::CreateVault>().gives::<t::Vault>(201))
        .at(POST, here!("/vaults/check"), Token(A::ManageVaults), vaults::check_azure)
        .doc(
            Doc::new("Check a key in Azure; saves nothing")
                .takes::<t::CheckVault>()
                .gives::<t::Checks>(200)
                .or_lines::<t::Check>(),
        )
        .at(GET, here!("/vaults/{vault}"), Token(A::SeeVaults), vaults::get)
        .doc(Doc::new("One vault").gives::<t::Vault>(200))
        .at(PATCH, here!("/vaults/{vault}"), Token(A::ManageVaults), vaults::edit)
        .doc(Doc::new("Change a vault").if_match().takes::<t::EditVault>().gives::<t::Vault>(200))
        .at(DELETE, here!("/vaults/{vault}"), Token(A::ManageVaults), vaults::delete)
        .doc(Doc::new("Delete an empty vault").query::<t::DeleteVault>())
        .at(PUT, here!("/vaults/{vault}/key-vault"), Token(A::ManageVaults), vaults::change_key_vault)
        .doc(
            Doc::new("Take a vault to another key in Azure").takes::<t::NewKeyVault>().gives::<t::ChangedKeyVault>(200),
        )
        .at(POST, here!("/vaults/{vault}/key-vault/check"), Token(A::ManageVaults), vaults::check_key_vault)
        .doc(
            Doc::new("Check another key in Azure for a vault; changes nothing")
                .takes::<t::NewKeyVault>()
                .gives::<t::Checks>(200)
                .or_lines::<t::Check>(),
        )
        .at(GET, here!("/vaults/{vault}/health"), Token(A::ManageVaults), key_health::get)
        .doc(
            Doc::new("How a vault's key is: what Azure says of it, when it answered, its quota")
                .gives::<t::KeyHealth>(200),
        )
        .at(POST, here!("/vaults/{vault}/check"), Token(A::ManageVaults), vaults::check)
        .doc(
            Doc::new("Check a vault's key with the credential it holds").gives::<t::Checks>(200).or_lines::<t::Check>(),
        )
        .at(GET, here!("/vaults/{vault}/credential"), Token(A::ManageVaults), credential::get)
        .doc(Doc::new("What a vault signs in with, without the secret").gives::<t::Credential>(200))
        .at(PUT, here!("/vaults/{vault}/credential"), Token(A::ManageVaults), credential::replace)
        .doc(Doc::new("Replace a vault's credential").takes::<t::NewCredential>().gives::<t::ReplacedCredential>(200))
        .at(POST, here!("/vaults/{vault}/credential/check"), Token(A::ManageVaults), credential::check)
        .doc(
            Doc::new("Check a vault's key with another credential; changes nothing")
                .takes::<t::NewCredential>()
                .gives::<t::Checks>(200)
                .or_lines::<t::Check>(),
        )
}

fn notices(routes: Routes) -> Routes {
    use types as t;
    routes
        .at(GET, here!("/notices"), Token(A::ManageVaults), notices::list)
        .doc(Doc::new("What you should know, newest first").query::<t::NoticeQuery>().gives_page::<t::Notice>())
        .at(POST, here!("/notices/read"), Token(A::ManageVaults), notices::read)
        .doc(Doc::new("Mark notices as read by you").takes::<t::ReadNotices>())
        .at(GET, here!("/notices/mail"), Token(A::ManageSelf), notices::mail)
        .doc(Doc::new("Whether you get notices by e-mail").gives::<t::NoticeMail>(200))
        .at(PUT, here!("/notices/mail"), Token(A::ManageSelf), notices::set_mail)
        .doc(Doc::new("Get notices by e-mail, or not").takes::<t::SetNoticeMail>())
        .at(GET, here!("/webhooks"), Token(A::ManageSettings), notices::webhooks)
        .doc(Doc::new("The addresses that get notices").query::<t::PageQuery>().gives_page::<t::Webhook>())
        .at(POST, here!("/webhooks"), Token(A::ManageSettings), notices::create)
        .doc(Doc::new("Send notices to an address").takes::<t::CreateWebhook>().gives::<t::NewWebhook>(201))
        .at(DELETE, here!("/webhooks/{webhook}"), Token(A::ManageSettings), notices::remove)
        .doc(Doc::new("Send no more notices to an address"))
        .at(POST, here!("/webhooks/{webhook}/test"), Token(A::ManageSettings), notices::test)
        .doc(Doc::new("Send a trial notice now").gives::<t::WebhookTest>(200))
        .at(GET, here!("/webhooks/{webhook}/deliveries"), Token(A::ManageSettings), notices::deliveries)
        .doc(Doc::new("What was sent, newest first").query::<t::PageQuery>().gives_page::<t::Delivery>())
}

fn keys(routes: Routes) -> Routes {
    use types as t;
    routes
        .at(POST, here!("/vaults/rewrap"), Token(A::ManageVaults), keys::rewrap_all)
        .doc(
            Doc::new("Take every vault under a key in Azure to its newest key version")
                .takes::<t::ChangeKey>()
                .gives::<t::KeyChanges>(200),
        )
        .at(POST, here!("/vaults/{vault}/rewrap"), Token(A::ManageVaults), keys::rewrap)
        .doc(
            Doc::new("Take a vault's keys to the newest key version; items are untouched")
                .takes::<t::ChangeKey>()
                .gives::<t::KeyChange>(200),
        )
        .at(POST, here!("/vaults/{vault}/rotate"), Token(A::ManageVaults), keys::rotate)
        .doc(
            Doc::new("Make a new vault key current; bodies of items are untouched")
                .takes::<t::ChangeKey>()
                .gives::<t::KeyChange>(200),
        )
        .at(POST, here!("/vaults/{vault}/reencrypt"), Token(A::ManageVaults), keys::reencrypt)
        .doc(
            Doc::new("After a compromise: a new vault key, new data keys, items sealed anew")
                .takes::<t::ChangeKey>()
                .gives::<t::KeyChange>(200),
        )
        .at(GET, here!("/vaults/{vault}/census"), Token(A::ManageVaults), keys::census)
        .doc(Doc::new("What still needs which key version of a vault's key").gives::<t::Census>(200))
        .at(DELETE, here!("/vaults/{vault}/generations/{generation}"), Token(A::ManageVaults), keys::retire)
        .doc(Doc::new("Forget an old generation of a vault's key that nothing is under"))
}

fn items(routes: Routes) -> Routes {
    use types as t;
    let import = items::import.layer(DefaultBodyLimit::max(items::IMPORT_LIMIT));
    routes
        .at(GET, here!("/items"), Token(A::ListItems), items::list)
        .doc(Doc::new("Items, in the order of their titles").query::<t::ItemQuery>().gives::<t::ItemPage>(200))
        .at(GET, here!("/trash"), Token(A::ListItems), trash::list)
        .doc(Doc::new("Items in the trash").query::<t::ItemQuery>().gives::<t::ItemPage>(200))
        .at(DELETE, here!("/trash"), Token(A::ManageItem), trash::empty)
        .doc(Doc::new("Delete forever all that you own in the trash").gives::<t::PurgedItems>(200))
        .at(POST, here!("/trash/purge"), Token(A::ManageItem), trash::purge)
        .doc(Doc::new("Delete items in the trash forever").takes::<t::PurgeItems>().gives::<t::PurgedItems>(200))
        .at(DELETE, here!("/trash/{item}"), Token(A::ManageItem), trash::purge_one)
        .doc(Doc::new("Delete an item in the trash forever"))
        .at(POST, here!("/items/search"), Token(A::ListItems), items::search)
        .doc(Doc::new("Items that match every word").takes::<t::SearchItems>().gives::<t::ItemPage>(200))
        .at(POST, here!("/items"), Token(A::CreateItem), items::create)
        .doc(Doc::new("Make an item").takes::<t::CreateItem>().gives::<t::Item>(201))
        .at(POST, here!("/items/import"), Token(A::CreateItem), import)
        .doc(Doc::new("Make up to 500 items").takes::<t::ImportItems>().gives::<t::Imported>(200))
        .at(GET, here!("/items/{item}"), Token(A::ViewItem), items::get)
        .doc(Doc::new("One item's overview").gives::<t::Item>(200))
        .at(PATCH, here!("/items/{item}"), Token(A::EditItem), items::edit)
        .doc(Doc::new("Make an item's next revision").if_match().takes::<t::EditItem>().gives::<t::Item>(200))
        .at(DELETE, here!("/items/{item}"), Token(A::ManageItem), items::discard)
        .doc(Doc::new("Move an item to the trash").may_match())
        .at(POST, here!("/items/{item}/restore"), Token(A::ManageItem), items::restore)
        .doc(Doc::new("Take an item out of the trash"))
        .at(POST, here!("/items/{item}/reveal"), Token(A::RevealItem), items::reveal)
        .doc(Doc::new("An item's fields in plaintext").gives::<t::Revealed>(200))
        .at(GET, here!("/items/{item}/history"), Token(A::ViewItem), items::history)
        .doc(Doc::new("An item's revisions, newest first").query::<t::PageQuery>().gives_page::<t::Revision>())
        .at(POST, here!("/items/{item}/history/{revision}/reveal"), Token(A::RevealItem), items::reveal_revision)
        .doc(Doc::new("An older revision's fields in plaintext").gives::<t::Revealed>(200))
        .at(POST, here!("/items/{item}/history/{revision}/restore"), Token(A::EditItem), items::restore_revision)
        .doc(Doc::new("Bring an older revision back, as the next one").gives::<t::Item>(200))
        .at(GET, here!("/items/{item}/roles"), Token(A::ViewItem), items::grants)
        .doc(Doc::new("Who has a role to an item").query::<t::PageQuery>().gives_page::<t::ItemGrant>())
        .at(PUT, here!("/items/{item}/roles/{member}"), Token(A::ManageItem), items::share)
        .doc(Doc::new("Give a member a role to an item").takes::<t::SetItemRole>())
        .at(DELETE, here!("/items/{item}/roles/{member}"), Token(A::ManageItem), items::unshare)
        .doc(Doc::new("Take a member's role to an item away"))
        .at(POST, here!("/items/{item}/take-over"), Token(A::TakeOverItem), items::take_over)
        .doc(Doc::new("Become an owner of somebody else's item; audited as such"))
}

fn exports(routes: Routes) -> Routes {
    use types as t;
    routes
        .at(POST, here!("/exports/plan"), Token(A::ListItems), exports::plan)
        .doc(Doc::new("What an export would hold").takes::<t::PlanExport>().gives::<t::ExportPlan>(200))
        .at(POST, here!("/exports"), Token(A::ListItems), exports::start)
        .doc(
            Doc::new("Export the items of a vault, or all that you see, as a file")
                .takes::<t::StartExport>()
                .gives_file(&["application/json", "text/csv"]),
        )
}

fn jobs(routes: Routes) -> Routes {
    use types as t;
    routes
        .at(POST, here!("/moves"), Token(A::CreateItem), jobs::start_move)
        .doc(
            Doc::new("Move items, or a whole vault, to another vault")
                .takes::<t::MoveItems>()
                .gives::<t::MovePlan>(200),
        )
        .at(GET, here!("/jobs"), Token(A::SeeJobs), jobs::list)
        .doc(Doc::new("Long work in the background, newest first").query::<t::PageQuery>().gives_page::<t::Job>())
        .at(GET, here!("/jobs/{job}"), Token(A::SeeJobs), jobs::get)
        .doc(Doc::new("One job, with what became of its items").gives::<t::Job>(200))
        .at(POST, here!("/jobs/{job}/pause"), Token(A::SeeJobs), jobs::pause)
        .doc(Doc::new("Stop a job until it is resumed").gives::<t::Job>(200))
        .at(POST, here!("/jobs/{job}/resume"), Token(A::SeeJobs), jobs::resume)
        .doc(Doc::new("Go on with a job").gives::<t::Job>(200))
        .at(POST, here!("/jobs/{job}/cancel"), Token(A::SeeJobs), jobs::cancel)
        .doc(Doc::new("End a job; what it has done stays done").gives::<t::Job>(200))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{document::document, *};
    use crate::http::routes::Needs::Session;

    #[test]
    fn the_route_table_is_the_one_in_the_snapshot() {
        let lines = crate::http::routes().list().iter().fold(String::new(), |lines, route| {
            let needs = match route.needs {
                Nobody => "nobody",
                Token(action) | Session(action) => action.name(),
            };
            format!("{lines}{needs:<20} {:<7} {}\n", route.method.as_str(), route.path)
        });
        insta::assert_snapshot!(lines);
    }

    #[test]
    fn every_route_of_the_api_is_in_the_document() {
        let table = routes(Routes::new());
        let document = document(table.list());
        let described: BTreeSet<_> = (document.paths.paths.iter())
            .flat_map(|(path, item)| {
                let item = serde_json::to_value(item).expect("a path item serializes");
                let methods: Vec<_> = item.as_object().expect("an object").keys().cloned().collect();
                methods.into_iter().map(move |method| (path.clone(), method))
            })
            .collect();
        let routed: BTreeSet<_> = (table.list().iter())
            .filter(|route| route.path.starts_with("/api/"))
            .map(|route| (route.path.to_owned(), route.method.as_str().to_lowercase()))
            .collect();
        assert_eq!(described, routed);
        insta::assert_snapshot!(document.to_pretty_json().expect("the document serializes"));
    }

    #[test]
    fn the_document_names_no_type_that_it_does_not_hold() {
        let table = routes(Routes::new());
        let text = document(table.list()).to_json().expect("the document serializes");
        let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for reference in text.split("\"$ref\":\"").skip(1) {
            let name = reference.split('"').next().expect("it ends");
            let pointer = name.strip_prefix('#').expect("it points into the document");
            assert!(document.pointer(pointer).is_some(), "{name} is missing");
        }
    }
}

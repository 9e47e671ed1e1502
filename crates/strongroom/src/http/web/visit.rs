//! What every handler knows of whoever looks at a page, and the shell that surrounds it.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{FromRequestParts, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use url::Url;

use super::{
    cookies,
    form::Form,
    views::{Can, DarkPanel, Me, NavVault, Notice, Refresh, Section, Shell, Theme, sign_in::Outside},
    words,
};
use crate::{
    access::{Action, Role, Target as Aim},
    app::{App, Caller},
    error::{Error, KeyUnavailable, Result},
    http::{extract::Authenticated, origin::From},
    id::{MemberId, VaultId},
    item::Dark,
    member::Origin,
};

/// Seconds after which a page of items loads itself again when JavaScript is off.
const REFRESH: u32 = 10;

/// Somebody signed in, at one page.
pub struct Visit {
    pub app: Arc<App>,
    pub caller: Caller,
    pub origin: Origin,
    pub theme: Theme,
    /// Path and query, without what only tells what was just done.
    pub path: String,
    notice: Option<Notice>,
    query: HashMap<String, String>,
}

impl FromRequestParts<Arc<App>> for Visit {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, app).await?;
        let From(origin) = From::from_request_parts(parts, app).await?;
        let (path, query) = place(parts);
        let theme = Theme::parse(cookies::theme(&parts.headers));
        let notice = query.get("done").and_then(|code| notice(code));
        Ok(Self { app: Arc::clone(app), caller, origin, theme, path, notice, query })
    }
}

impl Visit {
    /// A parameter of the query; empty when there is none.
    pub fn asked(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    pub fn may(&self, action: Action) -> bool {
        self.caller.may(action, Aim::Workspace)
    }

    /// Navigation and all that surrounds a page. `title` is for the browser's tab and its history: it never holds
    /// what is sealed.
    pub async fn shell(&self, title: &str, section: Section) -> Result<Shell> {
        let me = self.app.member(&self.caller, self.caller.member).await?;
        let vaults = if self.may(Action::SeeVaults) { self.app.vaults(&self.caller).await? } else { Vec::new() };
        let vaults = vaults.into_iter().map(|vault| NavVault {
            id: vault.id.to_string(),
            state: words::state(&vault.health),
            name: vault.name,
            items: vault.shared,
        });
        let invites = Role::ALL.into_iter().any(|role| self.caller.may(Action::InviteMember, Aim::Member(role)));
        Ok(Shell {
            title: title.to_owned(),
            section,
            workspace: self.app.workspace(&self.caller).await?.name,
            me: Me { name: me.name, email: me.email, role: me.role.title().to_owned() },
            can: Can {
                create_items: self.may(Action::CreateItem),
                manage_members: invites,
                manage_vaults: self.may(Action::ManageVaults),
                read_activity: self.may(Action::ReadAudit),
            },
            theme: self.theme,
            vaults: vaults.collect(),
            notice: self.notice.clone(),
            unread: match self.may(Action::ManageVaults) {
                true => Some(self.app.unread_notices(&self.caller).await?),
                false => None,
            },
            refresh: None,
            query: String::new(),
            path: self.path.clone(),
        })
    }

    /// The shell of a page that shows what is sealed: without JavaScript it loads itself again, so that it turns dark.
    pub async fn item_shell(&self, title: &str, section: Section, path: String) -> Result<Shell> {
        let refresh = Some(Refresh { seconds: REFRESH, url: path.clone() });
        Ok(Shell { refresh, path, ..self.shell(title, section).await? })
    }

    /// A panel in place of a vault's items.
    pub fn panel(&self, why: &KeyUnavailable, items: u64, shell: &Shell) -> DarkPanel {
        let mut panel = words::panel(why, items);
        if let Some(vault) = shell.vaults.iter().find(|vault| vault.id == panel.vault_id) {
            vault.name.clone_into(&mut panel.vault_name);
        }
        panel.can_manage = self.may(Action::ManageVaults);
        panel
    }

    pub fn panels(&self, dark: &[Dark], shell: &Shell) -> Vec<DarkPanel> {
        dark.iter().map(|dark| self.panel(&dark.why, dark.count, shell)).collect()
    }

    /// Names of the members whom the caller may know by name.
    pub async fn names(&self) -> Result<Names> {
        let mut names = HashMap::new();
        if self.may(Action::SeeMembers) {
            let members = self.app.members(&self.caller).await?;
            names.extend(members.into_iter().map(|member| (member.id, member.name)));
        }
        Ok(Names { me: self.caller.member, sees_all: self.may(Action::SeeMembers), names })
    }

    /// The name of a vault on this page.
    pub fn vault_name(shell: &Shell, id: VaultId) -> String {
        let id = id.to_string();
        shell.vaults.iter().find(|vault| vault.id == id).map(|vault| vault.name.clone()).unwrap_or_default()
    }

    /// A page with status 200.
    pub fn page(&self, template: impl askama::Template) -> Result<Response> {
        words::page(StatusCode::OK, template)
    }
}

/// Members by name.
pub struct Names {
    me: MemberId,
    sees_all: bool,
    names: HashMap<MemberId, String>,
}

impl Names {
    pub fn of(&self, id: MemberId) -> String {
        match self.names.get(&id) {
            _ if id == self.me => "you".to_owned(),
            Some(name) => name.clone(),
            None if self.sees_all => "a former member".to_owned(),
            None => "another member".to_owned(),
        }
    }
}

/// A page for somebody who is not signed in.
pub struct Doorstep {
    pub app: Arc<App>,
    pub origin: Origin,
    pub headers: HeaderMap,
    path: String,
    query: HashMap<String, String>,
}

impl FromRequestParts<Arc<App>> for Doorstep {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let From(origin) = From::from_request_parts(parts, app).await?;
        let (path, query) = place(parts);
        Ok(Self { app: Arc::clone(app), origin, headers: parts.headers.clone(), path, query })
    }
}

impl Doorstep {
    pub fn asked(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    pub fn outside(&self, title: &str) -> Outside {
        Outside {
            title: title.to_owned(),
            theme: Theme::parse(cookies::theme(&self.headers)),
            notice: self.query.get("done").and_then(|code| notice(code)),
            path: self.path.clone(),
        }
    }
}

/// `POST /theme`.
pub async fn choose_theme(State(_): State<Arc<App>>, form: Form) -> Response {
    let theme = Theme::parse(form.get("theme"));
    ([(header::SET_COOKIE, cookies::set_theme(theme.word()))], Redirect::to(&next(form.get("next")))).into_response()
}

/// To another page after a form.
pub fn to(path: impl AsRef<str>) -> Response {
    Redirect::to(path.as_ref()).into_response()
}

/// Where a form says to go afterwards, if that is a page of this server.
pub fn next(path: &str) -> String {
    if is_local(path) { path.to_owned() } else { "/".to_owned() }
}

/// Whether a path leads to a page of this server and nowhere else, whatever a browser makes of it.
pub fn is_local(path: &str) -> bool {
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    path.len() <= 500 && plain && path.starts_with('/') && !path.starts_with("//")
}

/// Path and query of a URL.
pub fn local_path(url: &Url) -> String {
    url[url::Position::BeforePath..url::Position::AfterQuery].to_owned()
}

fn place(parts: &Parts) -> (String, HashMap<String, String>) {
    let pairs = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let query: Vec<(String, String)> = pairs.into_owned().collect();
    let kept: Vec<String> = (query.iter())
        .filter(|(name, _)| name != "done")
        .map(|(name, value)| format!("{}={}", words::in_query(name), words::in_query(value)))
        .collect();
    let path = parts.uri.path();
    let path = if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    (path, query.into_iter().collect())
}

/// What was just done, in the words for the head of the page it led to.
fn notice(code: &str) -> Option<Notice> {
    Some(match code {
        "vault-created" => Notice::success("The vault was created. Its key wrapped and unwrapped a first vault key."),
        "vault-default" => {
            Notice::success("This is the default vault now: new items go here unless another is chosen.")
        }
        "key-change" => Notice::success("Started. It goes on in the background; the card below shows how far it is."),
        "credential-replaced" => Notice::success(
            "The credential was replaced. The one before is held too, until the new one has worked by itself.",
        ),
        "credential-end" => Notice::success("Noted when the credential ends."),
        "credential-here" => Notice::problem(
            "The credential was replaced here; in another vault the new one does not work.",
            "Open the pages of the other vaults and replace it there by one that does.",
        ),
        "key-vault" => Notice::success(
            "New wraps go to the new key. A rewrap brings the vault keys over; leave the key before enabled until it is done.",
        ),
        "key-newest" => Notice::success("Nothing to do: every vault key is under the newest key version already."),
        "generation-retired" => Notice::success("The generation was retired: nothing opens with it any more."),
        "vault-deleted" => Notice::success("The vault was deleted."),
        "vault-saved" => Notice::success("The vault was saved."),
        "settings-saved" => Notice::success("The settings were saved."),
        "item-created" => Notice::success("Created and sealed."),
        "item-saved" => Notice::success("Saved as a new revision."),
        "item-trashed" => Notice::success("Moved to the trash. It can be restored from here."),
        "purged" => Notice::success("Deleted forever."),
        "purged-some" => Notice::problem(
            "Some of it was not deleted and still lies here.",
            "Its vault’s key does not answer now, it was restored meanwhile, or you do not own it any more.",
        ),
        "item-restored" => Notice::success("Restored from the trash."),
        "revision-restored" => Notice::success("The older content is current again, as a new revision."),
        "shared" => Notice::success("Shared."),
        "role-changed" => Notice::success("The role was changed."),
        "unshared" => Notice::success("The role was taken away."),
        "taken-over" => Notice::success("You are an owner of this item now. This was recorded in Activity."),
        "removed" => Notice::success("The member was removed and is signed out everywhere."),
        "transferred" => Notice::success("Ownership was transferred. You are a Super Admin now."),
        "password" => Notice::success("The password was changed. Every other session was signed out."),
        "password-set" => Notice::success("The password was set. Sign in with it now."),
        "code-off" => Notice::success("The second step is off."),
        "code-required" => Notice::problem(
            "This workspace requires a second step to sign in.",
            "Set it up below; everything else opens afterwards.",
        ),
        "webhook-removed" => Notice::success("The webhook was removed."),
        "notices-saved" => Notice::success("Saved."),
        "session-ended" => Notice::success("That session was signed out."),
        "token-revoked" => Notice::success("The API token was revoked."),
        "signed-out" => Notice::success("You are signed out."),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_to_another_server() {
        for path in ["/", "/items?vault=1", "/settings/vaults/new"] {
            assert!(is_local(path), "{path}");
        }
        let long = format!("/{}", "a".repeat(500));
        for path in [
            "",
            "items",
            "//evil.example.com",
            "/\\evil.example.com",
            "https://evil.example.com",
            "/\t/evil",
            "/a\nb",
            &long,
        ] {
            assert!(!is_local(path), "{path:?}");
        }
    }
}

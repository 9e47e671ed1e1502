//! What every use case works with, who is asking, and the one way to ask for leave.
//!
//! The use cases are `impl App` blocks in the nouns' modules: `workspace`, `member`, `vault`, `item`, `audit`. Pages,
//! the API and the command line call the same ones.

use std::{path::PathBuf, sync::Arc};

use ipnet::IpNet;
use jiff::Timestamp;
use strongroom_envelope::{InstanceKeys, Random};
use strongroom_keys::azure::AzureKeys;
use url::Url;

use crate::{
    access::{self, Action, Role, Target as Aim},
    audit::{Actor, Event, Fact, Target},
    clock::Clock,
    error::{Error, Result},
    id::{EventId, MemberId, NodeId, SessionId, TokenId, WorkspaceId},
    keyring::Keyring,
    member::guard::Guard,
    notice::NoticeSettings,
    store::Store,
};

/// The product, open. One per process; every request works on it.
pub struct App {
    pub store: Arc<Store>,
    pub keyring: Arc<Keyring>,
    pub azure: Arc<AzureKeys>,
    pub keys: Arc<InstanceKeys>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub node: NodeId,
    pub settings: Settings,
    /// Rate limits of sign-in, and the bound on password hashing.
    pub guard: Guard,
}

/// What the operator decides.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where browsers and links reach the server, without a trailing slash.
    pub public_url: String,
    /// Vaults of one cloud provider that a workspace may have.
    pub max_vaults_per_provider: u32,
    /// Seconds that a new vault's leases last.
    pub lease_seconds: u32,
    /// Days that the trash keeps an item, those left out in which its vault's key did not answer.
    pub trash_days: u32,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    pub notices: NoticeSettings,
    /// Where checkpoints of the audit log go.
    pub checkpoint_file: Option<PathBuf>,
    pub checkpoint_url: Option<Url>,
}

/// A member who asks for something, as their session or token says at this moment.
#[derive(Debug, Clone)]
pub struct Caller {
    pub workspace: WorkspaceId,
    /// The workspace's name in addresses.
    pub workspace_slug: String,
    pub member: MemberId,
    pub role: Role,
    pub through: Through,
    /// When they last proved who they are.
    pub signed_in_at: Timestamp,
    /// The workspace requires a second factor and this member has none: they may set it up and nothing else.
    pub must_set_up_code: bool,
}

/// How a caller came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    Session(SessionId),
    Token(TokenId),
}

/// A sign-in this many minutes old still counts as fresh.
const FRESH_MINUTES: i64 = 15;

impl Caller {
    /// As the audit log names them.
    pub fn actor(&self) -> Actor {
        match self.through {
            Through::Session(session) => Actor::Session(self.member, session),
            Through::Token(token) => Actor::Token(self.member, token),
        }
    }

    /// The session they came through, unless it was an API token.
    pub fn session(&self) -> Option<SessionId> {
        match self.through {
            Through::Session(session) => Some(session),
            Through::Token(_) => None,
        }
    }

    /// Whether `action` is allowed, without asking for it: for pages that show no dead buttons.
    pub fn may(&self, action: Action, aim: Aim) -> bool {
        !self.is_barred(action) && access::allowed(self.role, action, aim)
    }

    /// Without a second factor that is required, a member sees the workspace's name and their own profile.
    fn is_barred(&self, action: Action) -> bool {
        self.must_set_up_code && !matches!(action, Action::SeeWorkspace | Action::ManageSelf)
    }
}

impl App {
    /// Leave to do `action`, or the refusal, which is audited: a member writes 60 such events an hour, and each counts
    /// the refusals since the one before.
    pub async fn authorize(&self, caller: &Caller, action: Action, aim: Aim, target: Target) -> Result<()> {
        if caller.is_barred(action) {
            return Err(Error::NotSignedIn {
                code: "signin.setup_code",
                title: "this workspace requires a second factor, and you have none yet",
                fix: "Sign in to the web app and set up the second factor.",
            });
        }
        if access::allowed(caller.role, action, aim) {
            return Ok(());
        }
        if let Some(count) = self.guard.refused(caller.member, self.clock.since_boot()) {
            let (wanted, role) = (action.name().into(), caller.role.word().into());
            let detail = vec![("wanted", wanted), ("role", role), ("count", count.into())];
            let event = self.event(caller, "access.refused", target, detail)?;
            self.store.write(move |tx| tx.record(&event)).await?;
        }
        // Whoever has no role to an item must not learn that it exists.
        if aim == Aim::Item(None) {
            return Err(Error::NotFound("item"));
        }
        Err(Error::Denied(format!("a {} may not do this ({})", caller.role.title(), action.name()).into()))
    }

    /// As [`App::authorize`] for what concerns the whole workspace.
    pub async fn authorize_here(&self, caller: &Caller, action: Action) -> Result<()> {
        self.authorize(caller, action, Aim::Workspace, Target::Workspace(caller.workspace)).await
    }

    /// Vault and member changes need a sign-in of the last minutes, an API token's as well as a session's. A token
    /// keeps the time of the sign-in that it was made from.
    pub fn require_fresh(&self, caller: &Caller) -> Result<()> {
        let age = self.clock.now().duration_since(caller.signed_in_at);
        if age > jiff::SignedDuration::from_mins(FRESH_MINUTES) { Err(Error::StaleSignIn) } else { Ok(()) }
    }

    /// An event by a caller, to be recorded in the transaction that it tells of.
    pub fn event(
        &self,
        caller: &Caller,
        action: &'static str,
        target: Target,
        detail: Vec<(&'static str, Fact)>,
    ) -> Result<Event> {
        self.event_by(caller.actor(), Some(caller.workspace), action, target, detail)
    }

    /// An event by anybody, the server included.
    pub fn event_by(
        &self,
        actor: Actor,
        workspace: Option<WorkspaceId>,
        action: &'static str,
        target: Target,
        detail: Vec<(&'static str, Fact)>,
    ) -> Result<Event> {
        let at = self.clock.now();
        let id = EventId::generate(at, self.random.as_ref())?;
        Ok(Event { id, at, workspace, actor, action, target, detail })
    }
}

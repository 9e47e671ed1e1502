//! The list of steps that the run, the dry run and the script share. A step is a thing that has to be there: how to look
//! for it, how to make it, and the same for `az`. Steps hold no connection: they turn facts into requests, and answers
//! into facts.

use serde_json::Value;

use super::{
    client::{Identity, Request},
    credential::Credential,
    entra::{Application, Owner, ServicePrincipal},
    plan::Plan,
    resources::{Key, KeyVault, Provider, ResourceGroup},
    roles::{EncryptionUser, Officer},
    run::NewSecret,
    way::{Kind, SetupError},
};
/// All of them, in the order in which they depend on each other. The credential comes last: whatever fails before it,
/// no secret is lost with it.
pub(super) const STEPS: [&dyn Step; 10] = [
    &Application,
    &Owner,
    &ServicePrincipal,
    &Provider,
    &ResourceGroup,
    &KeyVault,
    &Officer,
    &Key,
    &EncryptionUser,
    &Credential,
];

/// One thing that has to be there.
pub(super) trait Step: Send + Sync {
    fn part(&self) -> Part;

    /// As in `application "Strongroom"`.
    fn thing(&self, plan: &Plan) -> String;

    /// What it is good for.
    fn why(&self, plan: &Plan) -> &'static str;

    /// The request that tells whether it is there. `None` while something that it would be in is missing.
    fn look<'a>(&self, plan: &Plan, facts: &'a Facts) -> Option<Request<'a>>;

    /// What the answer to `look` says. Keeps what later steps need.
    ///
    /// # Errors
    /// It is there, but so different that nothing can be built on it.
    fn read(&self, plan: &Plan, answer: &Value, facts: &mut Facts) -> Result<Found, SetupError>;

    /// The request that makes it.
    fn make<'a>(&self, plan: &Plan, facts: &'a Facts) -> Request<'a>;

    /// Keeps what later steps need of what was made.
    fn made(&self, answer: &Value, facts: &mut Facts) -> Result<(), SetupError>;

    /// What stays behind of what was made, and the command that ends it.
    fn afterwards(&self, _plan: &Plan, _facts: &Facts) -> Option<String> {
        None
    }

    /// Whether this refusal passes by itself, and what is waited for.
    fn waits_for(&self, _error: &SetupError) -> Option<&'static str> {
        None
    }

    /// Whether this refusal of `make` says that it is there after all.
    fn is_there_already(&self, _error: &SetupError) -> bool {
        false
    }

    /// What to do about a refusal that does not pass.
    fn advice(&self, _plan: &Plan, _error: &SetupError) -> Option<String> {
        None
    }

    /// The same for `az`: lines of bash that may be run again, on the variables of `script::head`.
    fn script(&self, plan: &Plan) -> String;
}

/// Whether a thing is there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Missing,
    /// With remarks on what is not as it would have been made; set-up leaves that as it is.
    There(Vec<String>),
}

/// The parts of the article.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Identity,
    KeyVault,
    Key,
    Right,
}

impl Part {
    pub fn title(self) -> &'static str {
        match self {
            Part::Identity => "1. Application and service principal in Entra ID",
            Part::KeyVault => "2. Resource group and Key Vault, with RBAC and purge protection",
            Part::Key => "3. RSA-4096 key, by an administrator who is Key Vault Crypto Officer",
            Part::Right => "4. Key Vault Crypto Service Encryption User on that one key, and how to sign in",
        }
    }
}

/// What tells a person whether an application of the wanted name is the one that they mean: anybody may have given it that
/// name, and whoever has a credential of it has what is given to it.
pub(super) struct Namesake {
    pub created: String,
    pub credentials: usize,
}

/// What is known of the customer's Azure. A fact that is missing has a stand-in name, which only a dry run shows.
pub(super) struct Facts {
    pub tenant: String,
    pub subscription: String,
    pub me: Identity,
    pub graph_host: &'static str,
    pub application: Option<String>,
    pub client_id: Option<String>,
    pub principal: Option<String>,
    /// Of an application that was found by nothing but its name.
    pub namesake: Option<Namesake>,
    pub vault_url: Option<String>,
    /// The certificates of the application, as Graph lists them.
    pub certificates: Vec<Value>,
    /// Shown once, when it is made.
    pub secret: Option<NewSecret>,
    /// Of the client secret that was found, if it is the only one that works.
    pub secret_ends: Option<jiff::Timestamp>,
    /// Client secrets that go on working beside it, by what Azure lists them under.
    pub older_secrets: Vec<String>,
    pub now: jiff::Timestamp,
}

impl Facts {
    pub fn new(tenant: &str, subscription: &str, me: Identity, graph_host: &'static str, now: jiff::Timestamp) -> Self {
        Self {
            tenant: tenant.to_owned(),
            subscription: subscription.to_owned(),
            me,
            graph_host,
            application: None,
            client_id: None,
            principal: None,
            namesake: None,
            vault_url: None,
            certificates: Vec::new(),
            secret: None,
            secret_ends: None,
            older_secrets: Vec::new(),
            now,
        }
    }

    /// Refuses to give anything to an application that has only its name for it.
    pub fn not_by_name(&self, plan: &Plan, namesake: &Namesake, why: &str) -> SetupError {
        let Namesake { created, credentials } = namesake;
        let message = format!(
            "there is an application \"{}\", {why}: client id {}, made on {created}, with {credentials} client secrets and \
             certificates. Its name alone does not make it yours",
            plan.application,
            self.client_id()
        );
        SetupError::new(Kind::Usage, message).advise(format!(
            "if you know it and everybody who holds a credential of it, say so with --client-id {}; otherwise choose \
             another name with --application",
            self.client_id()
        ))
    }

    pub fn group_scope(&self, plan: &Plan) -> String {
        format!("/subscriptions/{}/resourceGroups/{}", self.subscription, plan.resource_group)
    }

    pub fn vault_scope(&self, plan: &Plan) -> String {
        format!("{}/providers/Microsoft.KeyVault/vaults/{}", self.group_scope(plan), plan.key_vault)
    }

    pub fn key_scope(&self, plan: &Plan) -> String {
        format!("{}/keys/{}", self.vault_scope(plan), plan.key)
    }

    pub fn application(&self) -> &str {
        self.application.as_deref().unwrap_or("{object id of the application}")
    }

    pub fn client_id(&self) -> &str {
        self.client_id.as_deref().unwrap_or("{client id}")
    }

    pub fn principal(&self) -> &str {
        self.principal.as_deref().unwrap_or("{object id of the service principal}")
    }

    pub fn vault_url(&self) -> &str {
        self.vault_url.as_deref().unwrap_or("{Vault URI}")
    }
}

//! Steps 1 to 4 of the set-up, done over the wire as an Azure administrator's tools would: an application with a
//! service principal (Microsoft Graph), a resource group and a Key Vault with RBAC (Resource Manager), an RSA-4096 key
//! (Key Vault), the role assignment on that one key, and a credential.
//!
//! `step` has the one list of steps; `run` takes it to Azure, for real or dry, and `script` writes it for `az`. The steps
//! themselves are in `entra`, `resources`, `roles` and `credential`. `sign_in` has the ways to be an administrator,
//! `client` and `way` the requests, `certificate` and `proof` what the service principal itself has and does.

mod certificate;
mod client;
mod credential;
mod entra;
mod key;
mod plan;
mod proof;
mod resources;
mod roles;
mod run;
mod script;
mod sign_in;
mod step;
mod way;

pub use self::{
    certificate::Certificate,
    client::{Admin, Client, Identity, Subscription, Target},
    key::{rotate, set_all_enabled, set_enabled, status},
    plan::{CredentialPlan, Plan, PublicCertificate},
    proof::prove,
    run::{Event, Line, Listen, Mode, NewSecret, Outcome, State, Stopped, run},
    script::{Place, Quoted, script},
    sign_in::{AzureCli, DeviceCode, SignIn},
    step::Part,
    way::{Kind, SetupError, Way},
};
use crate::secret_text::SecretText;

/// The five values of step 5.
pub struct Values {
    pub client_id: String,
    pub tenant_id: String,
    pub client_secret: SecretText,
    pub vault_url: String,
    pub vault_key_name: String,
}

/// Does steps 1 to 4 with a new client secret, telling `progress` before each part.
pub async fn set_up(client: &Client, plan: &Plan, progress: &(dyn Fn(&str) + Sync)) -> Result<Values, SetupError> {
    let plan = Plan { credential: CredentialPlan::Secret, new_credential: true, ..plan.clone() };
    let listen = |event: Event<'_>| {
        if let Event::Part(part) = event {
            progress(part.title());
        }
    };
    let outcome = run(client, &plan, Mode::Make, jiff::Timestamp::now(), &listen).await;
    let outcome = outcome.map_err(|stopped| stopped.error)?;
    let lacking = || SetupError::answer("Azure's answers lack one of the five values");
    Ok(Values {
        client_id: outcome.client_id.ok_or_else(lacking)?,
        tenant_id: client.tenant().to_owned(),
        client_secret: outcome.secret.ok_or_else(lacking)?.text,
        vault_url: outcome.vault_url.ok_or_else(lacking)?,
        vault_key_name: plan.key,
    })
}

//! Everything one running stand-in holds, and the two ways to it: `read` and `write`. A write is durable when it returns.

use std::{
    collections::VecDeque,
    io::Write,
    sync::{Arc, Mutex},
};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::ca::{self, Ca};
use crate::control::Stats;
use crate::entra::Device;
use crate::faults::Faults;
use crate::graph::new_secret;
use crate::http::{Reply, new_id};
use crate::limits::Limits;
use crate::material::{Material, RsaPool};
use crate::state::{Application, Assignment, ClientSecret, Principal, State, Store, Tenant, User};
use crate::{Admin, AdminUser, Clock, Config, Settings, StartError, lock, rbac};

const FORMAT: u32 = 2;
const FIVE_YEARS: i64 = 5 * 365 * 86_400;
/// The diagnostic log in a data directory.
const LOG_FILE: &str = "keyvault-audit.json";
/// Lines of it that are kept in memory.
const LOG_LINES: usize = 100_000;

pub(crate) struct World {
    pub clock: Arc<dyn Clock>,
    pub settings: Settings,
    pub ca: Ca,
    pub admins: Admins,
    pub pool: Mutex<RsaPool>,
    pub limits: Mutex<Limits>,
    pub faults: Mutex<Faults>,
    pub stats: Mutex<Stats>,
    /// The newest lines of the Key Vaults' diagnostic log.
    pub log: Mutex<VecDeque<String>>,
    /// Sign-ins that wait for a human. They do not outlive the process.
    pub devices: Mutex<Vec<Device>>,
    state: Mutex<State>,
    store: Option<Store>,
}

/// The built-in administrators with their secrets, which the state itself keeps only as hashes.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Admins {
    pub admin: Admin,
    pub other: Admin,
    pub user: AdminUser,
}

impl World {
    /// Reads what the data directory holds, or founds a new world.
    pub fn open(config: Config) -> Result<Self, StartError> {
        let store = match &config.data {
            None => None,
            Some(dir) => Some(Store::open(dir).map_err(|source| StartError::Data { path: dir.clone(), source })?),
        };
        let mut pool = config.rsa_pool;
        let now = config.clock.now().as_second();
        let (ca, admins, state) = match &store {
            None => found(&mut pool, now)?,
            Some(store) => load(store)?.map_or_else(
                || {
                    let new = found(&mut pool, now)?;
                    save_all(store, &new)?;
                    Ok::<_, StartError>(new)
                },
                Ok,
            )?,
        };
        Ok(Self {
            clock: config.clock,
            settings: config.settings,
            ca,
            admins,
            pool: Mutex::new(pool),
            limits: Mutex::default(),
            faults: Mutex::default(),
            stats: Mutex::default(),
            log: Mutex::default(),
            devices: Mutex::default(),
            state: Mutex::new(state),
            store,
        })
    }

    /// Keeps a line of the Key Vaults' diagnostic log: in memory, and in the data directory if there is one.
    pub fn keep_log(&self, line: String) {
        let mut log = lock(&self.log);
        if let Some(path) = self.store.as_ref().map(|store| store.path(LOG_FILE)) {
            let written = std::fs::File::options().create(true).append(true).open(path);
            // In one piece: a process that is killed leaves whole lines.
            if let Err(error) = written.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())) {
                tracing::error!(%error, "the diagnostic log cannot be written");
            }
        }
        if log.len() == LOG_LINES {
            log.pop_front();
        }
        log.push_back(line);
    }

    pub fn log_text(&self) -> String {
        lock(&self.log).iter().map(|line| format!("{line}\n")).collect()
    }

    /// The present second.
    pub fn now(&self) -> i64 {
        self.clock.now().as_second()
    }

    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        let mut state = lock(&self.state);
        state.sweep(self.now());
        look(&state)
    }

    /// `change` must not fail after it has changed something. What it returns is safe on disk.
    pub fn write<T>(&self, change: impl FnOnce(&mut State) -> Result<T, Reply>) -> Result<T, Reply> {
        let mut state = lock(&self.state);
        state.sweep(self.now());
        let done = change(&mut state)?;
        if let Some(store) = &self.store {
            save(store, &state).map_err(|error| {
                tracing::error!(%error, "the state file cannot be written");
                let message = "The stand-in cannot write its state file.";
                Reply::json(500, &json!({"error": {"code": "InternalServerError", "message": message}}))
            })?;
        }
        Ok(done)
    }

    pub fn ca_path(&self) -> Option<std::path::PathBuf> {
        self.store.as_ref().map(|store| store.path("ca.pem"))
    }
}

type Founded = (Ca, Admins, State);

/// Two tenants, each with an administrator; the first has a human one too, and owns the subscription. The second exists so that a client can
/// be in the wrong tenant.
fn found(pool: &mut RsaPool, now: i64) -> Result<Founded, StartError> {
    let signing_key = pool.take(2048).map_or_else(|| Material::generate_rsa(2048), Ok);
    let mut state = State {
        format: FORMAT,
        subscription: new_id(),
        tenants: Vec::new(),
        signing_key: signing_key.map_err(|_| StartError::Entropy)?,
        applications: Vec::new(),
        principals: Vec::new(),
        users: Vec::new(),
        groups: Vec::new(),
        vaults: Vec::new(),
        assignments: Vec::new(),
    };
    let admin = found_tenant(&mut state, "Contoso", "contoso.onmicrosoft.com", now);
    let other = found_tenant(&mut state, "Fabrikam", "fabrikam.onmicrosoft.com", now);
    let user = AdminUser {
        user_principal_name: "ada@contoso.onmicrosoft.com".into(),
        display_name: "Ada Admin".into(),
        object_id: new_id(),
        tenant_id: admin.tenant_id.clone(),
        subscription_id: admin.subscription_id.clone(),
    };
    state.users.push(User {
        id: user.object_id.clone(),
        tenant: user.tenant_id.clone(),
        name: user.display_name.clone(),
        upn: user.user_principal_name.clone(),
    });
    for principal in [&admin.object_id, &user.object_id] {
        state.assignments.push(Assignment {
            name: new_id(),
            scope: format!("/subscriptions/{}", state.subscription),
            role: rbac::OWNER.to_owned(),
            principal: principal.clone(),
            created: now,
            effective: now,
            lingers_until: None,
        });
    }
    Ok((Ca::generate(ca::NAME)?, Admins { admin, other, user }, state))
}

fn found_tenant(state: &mut State, name: &str, domain: &str, now: i64) -> Admin {
    let admin = Admin {
        tenant_id: new_id(),
        client_id: new_id(),
        client_secret: new_secret(),
        object_id: new_id(),
        subscription_id: state.subscription.clone(),
    };
    let tenant = admin.tenant_id.clone();
    state.tenants.push(Tenant { id: tenant.clone(), name: name.into(), domain: domain.into() });
    let label = "azure-standin administrator";
    state.applications.push(Application {
        id: new_id(),
        app_id: admin.client_id.clone(),
        tenant: tenant.clone(),
        name: label.into(),
        created: now,
        owners: Vec::new(),
        secrets: vec![ClientSecret::new(new_id(), None, &admin.client_secret, now, now + FIVE_YEARS)],
        certificates: Vec::new(),
        federated: Vec::new(),
    });
    state.principals.push(Principal {
        id: admin.object_id.clone(),
        app_id: admin.client_id.clone(),
        tenant,
        name: label.into(),
        enabled: true,
        directory_admin: true,
    });
    admin
}

/// `None` if the directory is new. `state.json` is written last, so its presence says that the rest is whole.
fn load(store: &Store) -> Result<Option<Founded>, StartError> {
    let text = |name: &str| {
        let found = store.read(name).map_err(|source| StartError::Data { path: store.path(name), source })?;
        found.ok_or_else(|| corrupt(store, name, &"the file is missing"))
    };
    let unread = |source| StartError::Data { path: store.path("state.json"), source };
    let Some(state) = store.read("state.json").map_err(unread)? else { return Ok(None) };
    let state: State = serde_json::from_str(&state).map_err(|error| corrupt(store, "state.json", &error.classify()))?;
    if state.format != FORMAT || state.tenants.is_empty() {
        return Err(corrupt(store, "state.json", &"its format is not one that this program reads"));
    }
    let admins = serde_json::from_str(&text("admin.json")?);
    let admins = admins.map_err(|error| corrupt(store, "admin.json", &error.classify()))?;
    Ok(Some((Ca::from_pem(ca::NAME, &text("ca.pem")?, &text("ca-key.pem")?)?, admins, state)))
}

fn save_all(store: &Store, (ca, admins, state): &Founded) -> Result<(), StartError> {
    let write = |name: &str, content: &[u8]| {
        store.write(name, content).map_err(|source| StartError::Data { path: store.path(name), source })
    };
    write(".gitignore", b"*\n")?;
    write("ca.pem", ca.cert_pem().as_bytes())?;
    write("ca-key.pem", ca.key_pem().as_bytes())?;
    write("admin.json", &serde_json::to_vec_pretty(admins).unwrap_or_default())?;
    save(store, state).map_err(|source| StartError::Data { path: store.path("state.json"), source })
}

fn save(store: &Store, state: &State) -> std::io::Result<()> {
    store.write("state.json", &serde_json::to_vec(state)?)
}

fn corrupt(store: &Store, name: &str, reason: &dyn std::fmt::Debug) -> StartError {
    StartError::Corrupt { path: store.path(name), reason: format!("{reason:?}") }
}

impl Admins {
    /// As a data directory holds them.
    pub fn read(dir: &std::path::Path) -> std::io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(dir.join("admin.json"))?)?)
    }
}

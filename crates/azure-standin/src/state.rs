//! What the stand-in knows, and how that survives `kill -9`: one JSON file, replaced as a whole after each change.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::{constant_time, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::material::Material;

#[derive(Serialize, Deserialize)]
pub(crate) struct State {
    pub format: u32,
    pub subscription: String,
    pub tenants: Vec<Tenant>,
    /// Signs the tokens of every tenant.
    pub signing_key: Material,
    pub applications: Vec<Application>,
    pub principals: Vec<Principal>,
    pub users: Vec<User>,
    pub groups: Vec<ResourceGroup>,
    pub vaults: Vec<Vault>,
    pub assignments: Vec<Assignment>,
}

#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct Tenant {
    pub id: String,
    pub name: String,
    pub domain: String,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Application {
    pub id: String,
    pub app_id: String,
    pub tenant: String,
    pub name: String,
    pub created: i64,
    /// Object ids of users and service principals.
    #[serde(default)]
    pub owners: Vec<String>,
    pub secrets: Vec<ClientSecret>,
    pub certificates: Vec<Certificate>,
    pub federated: Vec<FederatedCredential>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ClientSecret {
    pub key_id: String,
    pub name: Option<String>,
    pub hint: String,
    pub starts: i64,
    pub ends: i64,
    sha256: String,
}

impl ClientSecret {
    /// Secrets are 40 random characters, so a plain hash hides them well enough.
    pub fn new(key_id: String, name: Option<String>, secret: &str, starts: i64, ends: i64) -> Self {
        Self { key_id, name, hint: secret.chars().take(3).collect(), starts, ends, sha256: sha256(secret) }
    }

    pub fn matches(&self, secret: &str) -> bool {
        constant_time::verify_slices_are_equal(self.sha256.as_bytes(), sha256(secret).as_bytes()).is_ok()
    }
}

/// A certificate with which an application may sign its assertions.
#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct Certificate {
    pub key_id: String,
    pub name: Option<String>,
    pub der: Vec<u8>,
    pub starts: i64,
    pub ends: i64,
}

/// Whose tokens count as an application's own.
#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct FederatedCredential {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub issuer: String,
    pub subject: String,
    pub audiences: Vec<String>,
}

/// A human, who may do everything in the directory.
#[derive(Serialize, Deserialize)]
pub(crate) struct User {
    pub id: String,
    pub tenant: String,
    pub name: String,
    /// The user principal name, which looks like an e-mail address.
    pub upn: String,
}

/// A service principal: an application as one tenant knows it. RBAC matches its `id`, never the application's.
#[derive(Serialize, Deserialize)]
pub(crate) struct Principal {
    pub id: String,
    pub app_id: String,
    pub tenant: String,
    pub name: String,
    pub enabled: bool,
    /// May use Graph, as Application Administrator.
    pub directory_admin: bool,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ResourceGroup {
    pub name: String,
    pub location: String,
    pub tags: Value,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Vault {
    pub name: String,
    pub group: String,
    pub location: String,
    pub tags: Value,
    /// As ARM shows them, all defaults filled in.
    pub properties: Value,
    pub deleted: Option<Deleted>,
    pub keys: Vec<Key>,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
pub(crate) struct Deleted {
    pub at: i64,
    pub purge_at: i64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Key {
    pub name: String,
    pub deleted: Option<Deleted>,
    /// Oldest first; the last is current.
    pub versions: Vec<KeyVersion>,
    #[serde(default)]
    pub policy: Option<RotationPolicy>,
}

/// As set by its customer; nothing rotates by itself here.
#[derive(Serialize, Deserialize)]
pub(crate) struct RotationPolicy {
    /// As Key Vault shows them.
    pub actions: Value,
    /// How long each new key version is good, in ISO 8601.
    pub expiry: Option<String>,
    pub created: i64,
    pub updated: i64,
}

#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct KeyVersion {
    /// 32 hex digits, Azure's key version.
    pub id: String,
    pub kty: String,
    pub material: Material,
    pub ops: Vec<String>,
    pub enabled: bool,
    pub nbf: Option<i64>,
    pub exp: Option<i64>,
    pub created: i64,
    pub updated: i64,
    pub tags: Value,
}

#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct Assignment {
    pub name: String,
    pub scope: String,
    pub role: String,
    pub principal: String,
    pub created: i64,
    /// Counts from this second on; later than `created` while it propagates.
    pub effective: i64,
    /// Set when it was deleted and still counts until this second.
    pub lingers_until: Option<i64>,
}

impl State {
    /// Forgets what time has ended: retention of deleted things, removals that have propagated.
    pub fn sweep(&mut self, now: i64) {
        let over = |deleted: &Option<Deleted>| deleted.is_some_and(|deleted| deleted.purge_at <= now);
        self.vaults.retain(|vault| !over(&vault.deleted));
        for vault in &mut self.vaults {
            vault.keys.retain(|key| !over(&key.deleted));
        }
        self.assignments.retain(|assignment| assignment.lingers_until.is_none_or(|until| until > now));
    }

    /// By GUID or domain.
    pub fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.tenants
            .iter()
            .find(|tenant| tenant.id.eq_ignore_ascii_case(name) || tenant.domain.eq_ignore_ascii_case(name))
    }

    /// What Azure calls the type of the principal with that object id in the subscription's tenant.
    pub fn principal_type(&self, id: &str) -> Option<&'static str> {
        let here = |tenant: &str, found: &str| tenant == self.tenants[0].id && found.eq_ignore_ascii_case(id);
        if self.users.iter().any(|user| here(&user.tenant, &user.id)) {
            return Some("User");
        }
        self.principals.iter().any(|found| here(&found.tenant, &found.id)).then_some("ServicePrincipal")
    }

    /// A Key Vault that exists and is not deleted.
    pub fn vault(&self, name: &str) -> Option<&Vault> {
        self.vaults.iter().find(|vault| vault.deleted.is_none() && vault.name.eq_ignore_ascii_case(name))
    }

    pub fn vault_mut(&mut self, name: &str) -> Option<&mut Vault> {
        self.vaults.iter_mut().find(|vault| vault.deleted.is_none() && vault.name.eq_ignore_ascii_case(name))
    }
}

impl Vault {
    pub fn id(&self, subscription: &str) -> String {
        format!(
            "/subscriptions/{subscription}/resourceGroups/{}/providers/Microsoft.KeyVault/vaults/{}",
            self.group, self.name
        )
    }

    pub fn text(&self, property: &str) -> &str {
        self.properties[property].as_str().unwrap_or_default()
    }

    pub fn flag(&self, property: &str) -> bool {
        self.properties[property].as_bool().unwrap_or(false)
    }

    pub fn retention_days(&self) -> i64 {
        self.properties["softDeleteRetentionInDays"].as_i64().unwrap_or(90)
    }

    pub fn key(&self, name: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.name.eq_ignore_ascii_case(name))
    }

    pub fn key_mut(&mut self, name: &str) -> Option<&mut Key> {
        self.keys.iter_mut().find(|key| key.name.eq_ignore_ascii_case(name))
    }
}

impl Key {
    /// The key version of that id, or the current one.
    pub fn version(&self, id: Option<&str>) -> Option<&KeyVersion> {
        match id {
            Some(id) => self.versions.iter().find(|version| version.id.eq_ignore_ascii_case(id)),
            None => self.versions.last(),
        }
    }
}

/// The data directory. Holds a lock on it, so that two processes cannot share it.
pub(crate) struct Store {
    dir: PathBuf,
    _lock: File,
}

impl Store {
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let lock = private().open(dir.join("lock"))?;
        lock.try_lock().map_err(|_| io::Error::other("another stand-in is using this directory"))?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The file's text; `None` if there is no such file.
    pub fn read(&self, name: &str) -> io::Result<Option<String>> {
        match fs::read_to_string(self.path(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file as a whole and returns when that would survive a power cut. Mode 0600.
    pub fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let temporary = self.path(&format!("{name}.tmp"));
        let mut file = private().truncate(true).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, self.path(name))?;
        File::open(&self.dir)?.sync_all()
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

fn sha256(text: &str) -> String {
    STANDARD.encode(digest::digest(&digest::SHA256, text.as_bytes()))
}

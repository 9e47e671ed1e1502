//! Which call of the data plane a request is, and which right it needs.

use super::ops::Op;

/// One call. A key version is 32 hex digits; none means the current one.
#[derive(Clone, Copy)]
pub(super) enum Call<'a> {
    List,
    Create(&'a str),
    Import(&'a str),
    Get(&'a str, Option<&'a str>),
    Versions(&'a str),
    Update(&'a str, Option<&'a str>),
    Rotate(&'a str),
    Policy(&'a str),
    SetPolicy(&'a str),
    Delete(&'a str),
    Crypto(Op, &'a str, Option<&'a str>),
    ListDeleted,
    GetDeleted(&'a str),
    Recover(&'a str),
    Purge(&'a str),
    /// A look into a collection that is always empty here, or at one of its things.
    Elsewhere(&'static Collection, Option<&'a str>),
    /// An operation that is not played, or not Key Vault's, and the key it is for.
    Unknown(&'a str, Option<&'a str>),
}

/// Secrets and certificates, which have rights and nothing else.
pub(super) struct Collection {
    segment: &'static str,
    pub kind: &'static str,
    pub missing: &'static str,
    list: Right,
    get: Right,
}

/// What RBAC and access policies call the right to a call.
#[derive(Clone, Copy)]
pub(super) struct Right {
    /// Below `Microsoft.KeyVault/vaults/`.
    pub action: Action,
    /// `keys`, `secrets` or `certificates` in an access policy.
    pub object: &'static str,
    pub permission: &'static str,
}

/// The collection and the rest of a data action's name.
pub(super) type Action = (&'static str, &'static str);

const fn right(action: Action, object: &'static str, permission: &'static str) -> Right {
    Right { action, object, permission }
}

const SECRETS: Right = right(("secrets", "readMetadata/action"), "secrets", "list");
const CERTIFICATES: Right = right(("certificates", "read"), "certificates", "list");
const SECRET: Right = right(("secrets", "getSecret/action"), "secrets", "get");
const CERTIFICATE: Right = right(("certificates", "read"), "certificates", "get");

#[rustfmt::skip]
static COLLECTIONS: [Collection; 4] = [
    Collection { segment: "secrets", kind: "secret", missing: "SecretNotFound", list: SECRETS, get: SECRET },
    Collection { segment: "deletedsecrets", kind: "secret", missing: "SecretNotFound", list: SECRETS, get: SECRET },
    Collection { segment: "certificates", kind: "certificate", missing: "CertificateNotFound", list: CERTIFICATES, get: CERTIFICATE },
    Collection { segment: "deletedcertificates", kind: "certificate", missing: "CertificateNotFound", list: CERTIFICATES, get: CERTIFICATE },
];

impl<'a> Call<'a> {
    /// `None` for what is no path of Key Vault's at all.
    pub fn parse(method: &str, segments: &[&'a str]) -> Option<Self> {
        let lower: Vec<String> = segments.iter().map(|part| part.to_ascii_lowercase()).collect();
        let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
        let named = |at: usize| segments.get(at).copied().filter(|name| is_key_name(name));
        let versioned = |at: usize| segments.get(at).copied().filter(|version| is_key_version(version));
        Some(match (method, lower.as_slice()) {
            ("GET", ["keys"]) => Self::List,
            ("GET", ["deletedkeys"]) => Self::ListDeleted,
            ("GET", ["deletedkeys", _]) => Self::GetDeleted(named(1)?),
            ("DELETE", ["deletedkeys", _]) => Self::Purge(named(1)?),
            ("POST", ["deletedkeys", _, "recover"]) => Self::Recover(named(1)?),
            ("GET", ["keys", _]) => Self::Get(named(1)?, None),
            ("GET", ["keys", _, "versions"]) => Self::Versions(named(1)?),
            ("GET", ["keys", _, "rotationpolicy"]) => Self::Policy(named(1)?),
            ("PUT", ["keys", _, "rotationpolicy"]) => Self::SetPolicy(named(1)?),
            ("GET", ["keys", _, _]) => Self::Get(named(1)?, Some(versioned(2)?)),
            ("GET", ["keys", _, _, _]) => Self::Unknown(versioned(2).and(segments.last())?, Some(named(1)?)),
            ("PUT", ["keys", _]) => Self::Import(named(1)?),
            ("PATCH", ["keys", _]) => Self::Update(named(1)?, None),
            ("PATCH", ["keys", _, _]) => Self::Update(named(1)?, Some(versioned(2)?)),
            ("DELETE", ["keys", _]) => Self::Delete(named(1)?),
            ("POST", ["keys", _, "create"]) => Self::Create(named(1)?),
            ("POST", ["keys", _, "rotate"]) => Self::Rotate(named(1)?),
            ("POST", ["keys", _, op]) => match Op::parse(op) {
                Some(op) => Self::Crypto(op, named(1)?, None),
                None => Self::Unknown(segments.last()?, Some(named(1)?)),
            },
            ("POST", ["keys", _, _, op]) => match Op::parse(op) {
                Some(op) => Self::Crypto(op, named(1)?, Some(versioned(2)?)),
                None => Self::Unknown(versioned(2).and(segments.last())?, Some(named(1)?)),
            },
            ("POST", ["keys", "restore"] | ["rng"]) => Self::Unknown(segments.last()?, None),
            ("GET", [collection]) => Self::Elsewhere(find_collection(collection)?, None),
            ("GET", [collection, _] | [collection, _, _]) => {
                Self::Elsewhere(find_collection(collection)?, Some(named(1)?))
            }
            _ => return None,
        })
    }

    /// The name in counts and faults.
    pub fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Create(_) => "create",
            Self::Import(_) => "import",
            Self::Get(..) => "get",
            Self::Versions(_) => "versions",
            Self::Update(..) => "update",
            Self::Rotate(_) => "rotate",
            Self::Policy(_) => "getrotationpolicy",
            Self::SetPolicy(_) => "setrotationpolicy",
            Self::Delete(_) => "delete",
            Self::Crypto(op, ..) => op.name(),
            Self::ListDeleted => "listdeleted",
            Self::GetDeleted(_) => "getdeleted",
            Self::Recover(_) => "recover",
            Self::Purge(_) => "purge",
            Self::Elsewhere(collection, None) => collection.segment,
            Self::Elsewhere(collection, Some(_)) => collection.kind,
            Self::Unknown(..) => "unknown",
        }
    }

    /// `None` where Key Vault has nothing to judge, because there is no such call.
    pub fn right(self) -> Option<Right> {
        let (action, permission) = match self {
            Self::List | Self::Versions(_) | Self::ListDeleted => ("read", "list"),
            Self::Get(..) | Self::GetDeleted(_) => ("read", "get"),
            Self::Create(_) => ("create/action", "create"),
            Self::Import(_) => ("import/action", "import"),
            Self::Update(..) => ("update/action", "update"),
            Self::Rotate(_) => ("rotate/action", "rotate"),
            Self::Delete(_) => ("delete", "delete"),
            Self::Recover(_) => ("recover/action", "recover"),
            Self::Purge(_) => ("purge/action", "purge"),
            Self::Crypto(op, ..) => (op.action(), op.permission()),
            Self::Policy(_) => return Some(right(("keyrotationpolicies", "read"), "keys", "getrotationpolicy")),
            Self::SetPolicy(_) => return Some(right(("keyrotationpolicies", "write"), "keys", "setrotationpolicy")),
            Self::Elsewhere(collection, None) => return Some(collection.list),
            Self::Elsewhere(collection, Some(_)) => return Some(collection.get),
            Self::Unknown(operation, _) => match operation.to_ascii_lowercase().as_str() {
                "backup" => ("backup/action", "backup"),
                "restore" => ("restore/action", "restore"),
                "release" => ("release/action", "release"),
                "attestation" => ("read", "get"),
                _ => return None,
            },
        };
        Some(right(("keys", action), "keys", permission))
    }

    pub fn key(self) -> Option<&'a str> {
        match self {
            Self::List | Self::ListDeleted | Self::Elsewhere(..) => None,
            Self::Unknown(_, name) => name,
            Self::Create(name)
            | Self::Import(name)
            | Self::Get(name, _)
            | Self::Versions(name)
            | Self::Update(name, _)
            | Self::Rotate(name)
            | Self::Policy(name)
            | Self::SetPolicy(name)
            | Self::Delete(name)
            | Self::Crypto(_, name, _)
            | Self::GetDeleted(name)
            | Self::Recover(name)
            | Self::Purge(name) => Some(name),
        }
    }

    /// What RBAC calls the thing it is for, below the Key Vault: `/keys/k`, or nothing.
    pub fn resource(self) -> String {
        match (self, self.key()) {
            (Self::Elsewhere(collection, Some(name)), _) => format!("/{}s/{name}", collection.kind),
            (_, Some(name)) => format!("/keys/{name}"),
            (_, None) => String::new(),
        }
    }
}

fn find_collection(segment: &str) -> Option<&'static Collection> {
    COLLECTIONS.iter().find(|collection| collection.segment == segment)
}

pub(super) fn is_key_name(name: &str) -> bool {
    (1..=127).contains(&name.len()) && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '-')
}

fn is_key_version(text: &str) -> bool {
    text.len() == 32 && text.chars().all(|char| char.is_ascii_hexdigit())
}

//! The life of a key: create, import, read, change, rotate, delete, recover, purge.

use serde_json::{Value, json};

use super::{Call, errors, ops, policy};
use crate::World;
use crate::http::{Answer, Reply, Request, b64url, unb64url};
use crate::material::Material;
use crate::state::{Deleted, Key, KeyVersion, Vault};

const RSA_OPS: [&str; 6] = ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"];
const EC_OPS: [&str; 2] = ["sign", "verify"];
const PAGE: usize = 25;

/// Does an authorized call on the Key Vault named `vault`.
pub(super) fn perform(world: &World, request: &Request, vault: &str, call: Call) -> Answer {
    let read = |show: &dyn Fn(&Vault) -> Answer| {
        world.read(|state| show(state.vault(vault).ok_or_else(errors::html_not_found)?))
    };
    match call {
        Call::Create(name) => create(world, request, vault, name),
        Call::Import(name) => import(world, request, vault, name),
        Call::Rotate(name) => rotate(world, request, vault, name),
        Call::Update(name, version) => update(world, request, vault, name, version),
        Call::Policy(name) => policy::get(world, request, vault, name),
        Call::SetPolicy(name) => policy::set(world, request, vault, name),
        Call::Delete(name) => delete(world, request, vault, name),
        Call::Recover(name) => recover(world, request, vault, name),
        Call::Purge(name) => purge(world, vault, name),
        Call::Crypto(op, name, version) => {
            let (kid, version) = read_version(world, request, vault, name, version)?;
            ops::perform(world, request, op, &kid, &version)
        }
        Call::Get(name, id) => read(&|vault| {
            let (key, version) = find(vault, name, id)?;
            if !version.enabled && world.settings.disabled_blocks_get {
                return Err(errors::key_disabled("get"));
            }
            Ok(Reply::json(200, &bundle(request, vault, key, version)))
        }),
        Call::Elsewhere(_, None) => page(request, Vec::new()),
        Call::Elsewhere(collection, Some(name)) => Err(errors::not_found(collection.kind, collection.missing, name)),
        Call::Unknown(operation, _) => Err(errors::no_such_operation(request.method.as_str(), operation)),
        Call::List => read(&|vault| list(request, vault, "keys", |key| key.deleted.is_none())),
        Call::ListDeleted => read(&|vault| list(request, vault, "deletedkeys", |key| key.deleted.is_some())),
        Call::Versions(name) => read(&|vault| {
            let (key, _) = find(vault, name, None)?;
            let rows = key.versions.iter().map(|version| {
                let kid = format!("{}/{}", key_url(request, "keys", &key.name), version.id);
                json!({"kid": kid, "attributes": attributes(vault, version), "tags": version.tags})
            });
            page(request, rows.collect())
        }),
        Call::GetDeleted(name) => read(&|vault| {
            let key = vault.key(name).ok_or_else(|| errors::deleted_key_not_found(name))?;
            let deleted = key.deleted.ok_or_else(|| errors::deleted_key_not_found(name))?;
            Ok(Reply::json(200, &deleted_bundle(request, vault, key, deleted)?))
        }),
    }
}

fn create(world: &World, request: &Request, vault: &str, name: &str) -> Answer {
    let body = request.json().ok_or_else(errors::incorrect_parameter)?;
    let kty = body["kty"].as_str().unwrap_or_default();
    check_room(world, vault, name, kty)?;
    let bits = body["key_size"].as_u64().unwrap_or(2048);
    let curve = body["crv"].as_str().unwrap_or("P-256");
    let material = new_material(world, kty, usize::try_from(bits).unwrap_or(0), curve)?;
    append(world, request, vault, name, first_version(kty, material, &body, world.now()))
}

fn import(world: &World, request: &Request, vault: &str, name: &str) -> Answer {
    let mut body = request.json().ok_or_else(errors::incorrect_parameter)?;
    let jwk = body["key"].take();
    let mut kty = jwk["kty"].as_str().unwrap_or_default().to_owned();
    if body["Hsm"] == true && !kty.ends_with("-HSM") {
        kty.push_str("-HSM");
    }
    check_room(world, vault, name, &kty)?;
    let material = Material::from_jwk(&jwk).map_err(|_| errors::incorrect_parameter())?;
    if kty.starts_with("EC") != material.curve().is_some() {
        return Err(errors::incorrect_parameter());
    }
    body["key_ops"] = jwk["key_ops"].clone();
    append(world, request, vault, name, first_version(&kty, material, &body, world.now()))
}

/// Whether a key of that name and type may be made here.
fn check_room(world: &World, vault: &str, name: &str, kty: &str) -> Result<(), Reply> {
    let premium = world.read(|state| {
        let vault = state.vault(vault).ok_or_else(errors::html_not_found)?;
        if vault.key(name).is_some_and(|key| key.deleted.is_some()) {
            return Err(errors::deleted_but_recoverable(name));
        }
        Ok(vault.properties["sku"]["name"] == "premium")
    })?;
    match kty {
        "RSA" | "EC" => Ok(()),
        "RSA-HSM" | "EC-HSM" if premium => Ok(()),
        "RSA-HSM" | "EC-HSM" => Err(errors::bad_parameter("HSM-protected keys need a Key Vault of the premium SKU.")),
        _ => Err(errors::incorrect_parameter()),
    }
}

fn first_version(kty: &str, material: Material, body: &Value, now: i64) -> KeyVersion {
    let default: &[&str] = if kty.starts_with("RSA") { &RSA_OPS } else { &EC_OPS };
    let mut version = KeyVersion {
        id: uuid::Uuid::new_v4().simple().to_string(),
        kty: kty.to_owned(),
        material,
        ops: default.iter().map(|op| (*op).to_owned()).collect(),
        enabled: true,
        nbf: None,
        exp: None,
        created: now,
        updated: now,
        tags: json!({}),
    };
    change(&mut version, body, now);
    version
}

fn rotate(world: &World, request: &Request, vault: &str, name: &str) -> Answer {
    let (_, current) = read_version(world, request, vault, name, None)?;
    let curve = current.material.curve().unwrap_or_default();
    let material = new_material(world, &current.kty, current.material.rsa_bits(), curve)?;
    let (id, now) = (uuid::Uuid::new_v4().simple().to_string(), world.now());
    let next = KeyVersion { id, material, enabled: true, nbf: None, exp: None, created: now, updated: now, ..current };
    append(world, request, vault, name, next)
}

fn new_material(world: &World, kty: &str, bits: usize, curve: &str) -> Result<Material, Reply> {
    let made = if kty.starts_with("EC") {
        Material::generate_ec(curve)
    } else {
        let pooled = crate::lock(&world.pool).take(bits);
        pooled.map_or_else(|| Material::generate_rsa(bits), Ok)
    };
    made.map_err(|_| errors::incorrect_parameter())
}

/// Makes `version` the current one of the key, which may be new. It expires as the key's policy says, if at all.
fn append(world: &World, request: &Request, vault: &str, name: &str, mut version: KeyVersion) -> Answer {
    world.write(|state| {
        let vault = state.vault_mut(vault).ok_or_else(errors::html_not_found)?;
        if vault.key(name).is_some_and(|key| key.deleted.is_some()) {
            return Err(errors::deleted_but_recoverable(name));
        }
        if vault.key(name).is_none() {
            vault.keys.push(Key { name: name.to_owned(), deleted: None, versions: Vec::new(), policy: None });
        }
        if let Some(key) = vault.key_mut(name) {
            let stamp = || key.policy.as_ref()?.expiry_of(version.created);
            version.exp = version.exp.or_else(stamp);
            key.versions.push(version);
        }
        let (key, version) = find(vault, name, None)?;
        Ok(Reply::json(200, &bundle(request, vault, key, version)))
    })
}

fn update(world: &World, request: &Request, vault: &str, name: &str, id: Option<&str>) -> Answer {
    let body = request.json().ok_or_else(errors::incorrect_parameter)?;
    let now = world.now();
    world.write(|state| {
        let vault = state.vault_mut(vault).ok_or_else(errors::html_not_found)?;
        let wanted = find(vault, name, id)?.1.id.clone();
        let versions = vault.key_mut(name).map(|key| key.versions.iter_mut()).into_iter().flatten();
        for version in versions.filter(|version| version.id == wanted) {
            change(version, &body, now);
        }
        let (key, version) = find(vault, name, id)?;
        Ok(Reply::json(200, &bundle(request, vault, key, version)))
    })
}

/// Applies what a create or update names, and leaves the rest.
fn change(version: &mut KeyVersion, body: &Value, now: i64) {
    let attributes = &body["attributes"];
    version.enabled = attributes["enabled"].as_bool().unwrap_or(version.enabled);
    version.nbf = attributes["nbf"].as_i64().or(version.nbf);
    version.exp = attributes["exp"].as_i64().or(version.exp);
    if let Some(ops) = body["key_ops"].as_array() {
        version.ops = ops.iter().filter_map(|op| op.as_str().map(str::to_owned)).collect();
    }
    if body["tags"].is_object() {
        version.tags = body["tags"].clone();
    }
    version.updated = now;
}

fn delete(world: &World, request: &Request, vault: &str, name: &str) -> Answer {
    let now = world.now();
    world.write(|state| {
        let vault = state.vault_mut(vault).ok_or_else(errors::html_not_found)?;
        find(vault, name, None)?;
        let deleted = Deleted { at: now, purge_at: now + vault.retention_days() * 86_400 };
        if let Some(key) = vault.key_mut(name) {
            key.deleted = Some(deleted);
        }
        let key = vault.key(name).ok_or_else(|| errors::key_not_found(name))?;
        Ok(Reply::json(200, &deleted_bundle(request, vault, key, deleted)?))
    })
}

fn recover(world: &World, request: &Request, vault: &str, name: &str) -> Answer {
    world.write(|state| {
        let vault = state.vault_mut(vault).ok_or_else(errors::html_not_found)?;
        let deleted = vault.key_mut(name).filter(|key| key.deleted.is_some());
        deleted.ok_or_else(|| errors::deleted_key_not_found(name))?.deleted = None;
        let (key, version) = find(vault, name, None)?;
        Ok(Reply::json(200, &bundle(request, vault, key, version)))
    })
}

fn purge(world: &World, vault: &str, name: &str) -> Answer {
    world.write(|state| {
        let vault = state.vault_mut(vault).ok_or_else(errors::html_not_found)?;
        if vault.key(name).is_none_or(|key| key.deleted.is_none()) {
            return Err(errors::deleted_key_not_found(name));
        }
        if vault.flag("enablePurgeProtection") {
            return Err(errors::purge_protected());
        }
        vault.keys.retain(|key| !key.name.eq_ignore_ascii_case(name));
        Ok(Reply::empty(204))
    })
}

/// A key that is not deleted, and its key version.
pub(super) fn find<'a>(vault: &'a Vault, name: &str, id: Option<&str>) -> Result<(&'a Key, &'a KeyVersion), Reply> {
    let asked = || id.map_or_else(|| name.to_owned(), |id| format!("{name}/{id}"));
    let key = vault.key(name).filter(|key| key.deleted.is_none()).ok_or_else(|| errors::key_not_found(&asked()))?;
    Ok((key, key.version(id).ok_or_else(|| errors::key_not_found(&asked()))?))
}

/// The kid and a copy of the key version, so that cryptography runs outside of the lock.
fn read_version(
    world: &World,
    request: &Request,
    vault: &str,
    name: &str,
    id: Option<&str>,
) -> Result<(String, KeyVersion), Reply> {
    world.read(|state| {
        let vault = state.vault(vault).ok_or_else(errors::html_not_found)?;
        let (key, version) = find(vault, name, id)?;
        Ok((format!("{}/{}", key_url(request, "keys", &key.name), version.id), version.clone()))
    })
}

pub(super) fn key_url(request: &Request, collection: &str, name: &str) -> String {
    format!("https://{}/{collection}/{name}", request.host)
}

fn bundle(request: &Request, vault: &Vault, key: &Key, version: &KeyVersion) -> Value {
    let mut jwk = version.material.public_jwk();
    jwk["kid"] = format!("{}/{}", key_url(request, "keys", &key.name), version.id).into();
    jwk["kty"] = version.kty.as_str().into();
    jwk["key_ops"] = json!(version.ops);
    json!({"key": jwk, "attributes": attributes(vault, version), "tags": version.tags})
}

fn deleted_bundle(request: &Request, vault: &Vault, key: &Key, deleted: Deleted) -> Result<Value, Reply> {
    let version = key.version(None).ok_or_else(|| errors::key_not_found(&key.name))?;
    let mut bundle = bundle(request, vault, key, version);
    mark_deleted(&mut bundle, request, key, deleted);
    Ok(bundle)
}

fn mark_deleted(value: &mut Value, request: &Request, key: &Key, deleted: Deleted) {
    value["recoveryId"] = key_url(request, "deletedkeys", &key.name).into();
    value["deletedDate"] = deleted.at.into();
    value["scheduledPurgeDate"] = deleted.purge_at.into();
}

fn list(request: &Request, vault: &Vault, collection: &str, wanted: impl Fn(&Key) -> bool) -> Answer {
    let rows = vault.keys.iter().filter(|key| wanted(key)).filter_map(|key| {
        let version = key.version(None)?;
        let kid = key_url(request, "keys", &key.name);
        let mut row = json!({"kid": kid, "attributes": attributes(vault, version), "tags": version.tags});
        if let (Some(deleted), "deletedkeys") = (key.deleted, collection) {
            mark_deleted(&mut row, request, key, deleted);
        }
        Some(row)
    });
    page(request, rows.collect())
}

/// One page of `rows` with the link to the next, which names the port as Azure's does.
fn page(request: &Request, rows: Vec<Value>) -> Answer {
    let size = match request.query("maxresults").map(str::parse::<usize>) {
        None => PAGE,
        Some(Ok(size)) if (1..=PAGE).contains(&size) => size,
        Some(_) => return Err(errors::bad_parameter(&format!("maxresults must be between 1 and {PAGE}."))),
    };
    let marker = request.query("$skiptoken").and_then(unb64url).and_then(|token| String::from_utf8(token).ok());
    let start: usize = marker.and_then(|marker| marker.parse().ok()).unwrap_or(0);
    let next = start.saturating_add(size);
    let link = (next < rows.len()).then(|| {
        let (host, path) = (&request.host, &request.path);
        let (dated, token) = (request.query("api-version").unwrap_or_default(), b64url(next.to_string().as_bytes()));
        format!("https://{host}:443{path}?api-version={dated}&$skiptoken={token}&maxresults={size}")
    });
    let rows: Vec<Value> = rows.into_iter().skip(start).take(size).collect();
    Ok(Reply::json(200, &json!({"value": rows, "nextLink": link})))
}

fn recovery_level(vault: &Vault) -> Value {
    let customized = if vault.retention_days() < 90 { "Customized" } else { "" };
    let purgeable = if vault.flag("enablePurgeProtection") { "" } else { "+Purgeable" };
    format!("{customized}Recoverable{purgeable}").into()
}

/// Attributes of a key version as every answer shows them.
fn attributes(vault: &Vault, version: &KeyVersion) -> Value {
    let mut attributes = json!({
        "enabled": version.enabled,
        "created": version.created,
        "updated": version.updated,
        "recoveryLevel": recovery_level(vault),
        "recoverableDays": vault.retention_days(),
        "exportable": false,
        "hsmPlatform": if version.kty.ends_with("-HSM") { "2" } else { "0" },
    });
    for (name, at) in [("nbf", version.nbf), ("exp", version.exp)] {
        if let Some(at) = at {
            attributes[name] = at.into();
        }
    }
    attributes
}

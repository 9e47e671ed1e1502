//! What commands on the server's machine open: the database that a configuration names, without being the server.

use std::sync::Arc;

use strongroom_envelope::{InstanceKey, InstanceKeys, Random, SystemRandom};
use zeroize::Zeroizing;

use super::{database_url, instance, instance_keys, reach_azure, recorded_keys};
use crate::{
    backup,
    clock::Clock,
    config::{Config, DatabaseUrl},
    error::{Error, Result},
    id::BootId,
    keyring::{Keyring, request_ids::Issuer},
    store::{Store, Writer, transfer},
};

/// The instance keys that a configuration names; a refusal where there are none, since nothing is to be made here.
pub fn present_keys(config: &Config) -> Result<Arc<InstanceKeys>> {
    let loaded = instance_keys(config, &SystemRandom::new())?;
    if loaded.unsaved.is_some() {
        return Err(Error::Setup {
            what: format!("there is no instance key in {}", loaded.origin).into(),
            fix: "Name the server's configuration with --config, and run this as the server's user.".into(),
        });
    }
    Ok(Arc::new(loaded.keys))
}

/// The database, to be read beside a running server, and the keys that prove its rows.
pub fn open_to_verify(config: &Config) -> Result<(Store, Arc<InstanceKeys>)> {
    let keys = present_keys(config)?;
    Ok((Store::open_read_only(&database_url(config))?, keys))
}

/// The database, to write a little to it beside a running server.
pub fn open_beside(
    config: &Config,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<(Store, Arc<InstanceKeys>)> {
    let keys = present_keys(config)?;
    let writer = writer(config, &keys, clock, random)?;
    Ok((Store::open_beside(&database_url(config), writer)?, keys))
}

/// Ids for requests that a command sends to Azure itself, announced in the log of the instance whose database the
/// configuration names.
pub fn announced(config: &Config, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Result<Arc<Issuer>> {
    let node = instance::node_id(&config.instance.node_file(), clock.now(), random.as_ref())?;
    let (store, keys) = open_beside(config, Arc::clone(&clock), Arc::clone(&random))?;
    Ok(Arc::new(Issuer::new(Arc::new(store), keys, clock, random, node)))
}

/// The database, made where it is not there yet, to be filled. No server may have it open.
pub fn open_to_fill(config: &Config, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Result<Store> {
    let keys = present_keys(config)?;
    let store = Store::open(&database_url(config), writer(config, &keys, clock, random)?)?;
    // A restore is one transaction, however long it takes.
    Ok(store.with_patience(None))
}

/// Refuses a database that has anything in it; makes none where there is none.
pub async fn require_empty_database(config: &Config) -> Result<()> {
    if let DatabaseUrl::Sqlite(path) = &config.database.url
        && !path.exists()
    {
        return Ok(());
    }
    let url = database_url(config);
    if Store::probe(&url).await?.schema.is_none() {
        return Ok(());
    }
    Store::open_read_only(&url)?.read(backup::require_empty).await
}

/// The database to carry over and the one to carry it into, made where it is not there yet. The instance key in place must
/// be the one of the former.
pub async fn open_to_transfer(
    config: &Config,
    from: &str,
    to: &str,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<(Store, Store)> {
    let keys = present_keys(config)?;
    let from = Store::open_at_rest(from)?;
    if let Some(recorded) = recorded_keys(&from).await? {
        recorded.require(&keys, false, "the configuration's place")?;
    }
    let to = Store::open(to, writer(config, &keys, clock, random)?)?.with_patience(None);
    Ok((from, to))
}

/// The instance keys for a rotation.
pub struct Rotating {
    pub keys: Arc<InstanceKeys>,
    /// Where they came from, in words.
    pub origin: String,
    /// The key file's new text, to be written before anything is sealed under the key in front of it; none where it has
    /// several keys already, of which the first is the one to rotate to.
    pub unsaved: Option<Zeroizing<String>>,
}

/// The keys in place, and a fresh one in front of a single one.
pub fn keys_to_rotate(config: &Config, random: &dyn Random) -> Result<Rotating> {
    let present = present_keys(config)?;
    let loaded = instance_keys(config, random)?;
    let origin = loaded.origin;
    if present.iter().count() > 1 {
        return Ok(Rotating { keys: present, origin, unsaved: None });
    }
    if !loaded.in_file {
        return Err(Error::Setup {
            what: format!("{origin} holds the instance key, and this command cannot write there").into(),
            fix: "Make a key with `strongroom admin new-instance-key FILE`, put its line before the old one, on every \
                  node, and run this again."
                .into(),
        });
    }
    let key = InstanceKey::generate(random).map_err(|_| Error::random())?;
    let text = instance::with_new(&config.instance.key_file, &key)?;
    let keys = InstanceKeys::parse_key_file(&text).map_err(|error| Error::Setup {
        what: format!("{origin} cannot be used: {error}").into(),
        fix: "Put the right key file back from its offline copy.".into(),
    })?;
    Ok(Rotating { keys: Arc::new(keys), origin, unsaved: Some(text) })
}

/// The database, to bring its rows under other keys. No server may have it open.
pub async fn open_to_renew(
    config: &Config,
    keys: &Arc<InstanceKeys>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<Store> {
    let at_rest = open_at_rest(config).await?;
    if let Some(recorded) = recorded_keys(&at_rest).await? {
        recorded.require(keys, false, "the configuration's place")?;
    }
    drop(at_rest);
    Ok(Store::open(&database_url(config), writer(config, keys, clock, random)?)?.with_patience(None))
}

/// A database whose instance key is lost, opened with others that are in place, and a way to its vaults' keys.
pub async fn open_to_reanchor(
    config: &Config,
    keys: &Arc<InstanceKeys>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<(Arc<Store>, Keyring)> {
    drop(open_at_rest(config).await?);
    let writer = writer(config, keys, Arc::clone(&clock), Arc::clone(&random))?;
    let node = writer.node;
    let store = Arc::new(Store::open(&database_url(config), writer)?.with_patience(None));
    let issuer = Issuer::new(Arc::clone(&store), Arc::clone(keys), Arc::clone(&clock), Arc::clone(&random), node);
    let azure = Arc::new(reach_azure(config, Some(Arc::new(issuer)))?);
    let keyring = Keyring::new(Arc::clone(&store), azure, Arc::clone(keys), clock, random, node);
    Ok((store, keyring))
}

/// The database, to be read while no server has it open.
async fn open_at_rest(config: &Config) -> Result<Store> {
    let at_rest = Store::open_at_rest(&database_url(config))?;
    transfer::require_rest(&at_rest).await?;
    Ok(at_rest)
}

fn writer(config: &Config, keys: &Arc<InstanceKeys>, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Result<Writer> {
    let node = instance::node_id(&config.instance.node_file(), clock.now(), random.as_ref())?;
    let boot = Arc::new(move || BootId::generate(clock.now(), random.as_ref()));
    Ok(Writer { node, keys: Arc::clone(keys), boot })
}

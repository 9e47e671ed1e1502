//! `strongroom instance-key`

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;
use strongroom_envelope::{InstanceKeyId, InstanceKeys, SystemRandom};

use super::{
    console::{Console, Format},
    failure::{Exit, Failure},
    serve,
};
use crate::{
    clock::{Clock, SystemClock},
    config::Config,
    counted::counted,
    instance_key::{self, Bearers, Means, Progress, Survey},
    server::{self, Rotating, instance},
};

/// How often progress is told.
const TELL: Duration = Duration::from_secs(2);

/// Replace the server's own key, on the server itself
#[derive(Subcommand)]
pub enum Arguments {
    /// Show what is under which instance key
    ///
    /// Every row is read and proven, beside a running server too.
    #[command(after_help = "Example:\n  strongroom instance-key list")]
    List(Where),
    /// Make a new instance key and bring every row under it
    ///
    /// Stop every server first. Cut off, it goes on where it stopped when it is run again; a server starts meanwhile too,
    /// with both keys in place. The old key stays in the file, for sessions and API tokens: they go over when they are
    /// used. Then `retire` it.
    #[command(after_help = "Example:\n  strongroom instance-key rotate --config /etc/strongroom/strongroom.toml")]
    Rotate(Where),
    /// Take an old instance key out of the key file
    ///
    /// Stop every server first. Refused while a row is under it, or a token that it made still lives.
    #[command(after_help = "Examples:
  strongroom instance-key retire 3f9ac2d17be04a55
  strongroom instance-key retire 3f9ac2d17be04a55 --end-tokens")]
    Retire(Retire),
}

#[derive(Args)]
pub struct Where {
    /// The server's configuration file; strongroom.toml in this folder if absent
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args)]
pub struct Retire {
    /// Its id, as `instance-key list` shows it
    #[arg(value_name = "ID")]
    key: String,
    /// End the sessions, API tokens, links and recovery codes that it made
    #[arg(long)]
    end_tokens: bool,
    #[command(flatten)]
    place: Where,
}

pub async fn run(arguments: Arguments, console: &Console) -> Result<(), Failure> {
    match arguments {
        Arguments::List(place) => list(&serve::load(place.config)?, console).await,
        Arguments::Rotate(place) => rotate(&serve::load(place.config)?, console).await,
        Arguments::Retire(arguments) => retire(arguments, console).await,
    }
}

async fn list(config: &Config, console: &Console) -> Result<(), Failure> {
    let (store, keys) = server::open_to_verify(config)?;
    let means = means(keys);
    let survey = instance_key::look(&store, &means, &mut teller(console)).await?;
    let mut ids: Vec<InstanceKeyId> = means.keys.iter().map(|key| key.id()).collect();
    ids.extend(survey.bearers.keys().filter(|id| means.keys.get(**id).is_none()));
    let rows: Vec<_> = ids.iter().map(|id| Line::of(*id, &means, &survey)).collect();
    if console.format == Format::Json {
        let keys: Vec<_> = rows.iter().map(Line::json).collect();
        let broken = json!({ "count": survey.broken_rows, "first": survey.broken });
        return console.json(&json!({ "keys": keys, "broken": broken }));
    }
    console.table(&["Key", "Is", "MACs and seals", "Living tokens"], rows.into_iter().map(Line::cells).collect())?;
    Ok(survey.require_genuine()?)
}

async fn rotate(config: &Config, console: &Console) -> Result<(), Failure> {
    let random = Arc::new(SystemRandom::new());
    let Rotating { keys, origin, unsaved } = server::keys_to_rotate(config, random.as_ref())?;
    let means = means(keys);
    let (file, new, made) = (&config.instance.key_file, means.keys.current().id(), unsaved.is_some());
    let store = server::open_to_renew(config, &means.keys, Arc::new(SystemClock), random).await?;
    // Before the key is kept: what cannot be rotated leaves the file as it was.
    instance_key::look(&store, &means, &mut teller(console)).await?.require_genuine()?;
    if let Some(text) = unsaved {
        instance::replace(file, &text)?;
        console.note(&format!(
            "The new instance key {new} lies in {origin}, in front of the old one. Keep an offline copy."
        ));
    }
    let count = instance_key::rotate(&store, &means, &mut teller(console)).await?;
    let survey = instance_key::look(&store, &means, &mut teller(console)).await?;
    let older: Vec<_> = means.keys.iter().skip(1).map(|key| key.id()).collect();
    if console.format == Format::Json {
        let keys: Vec<_> = means.keys.iter().map(|key| Line::of(key.id(), &means, &survey).json()).collect();
        return console.json(&json!({ "key": new.to_string(), "made": made, "renewed": count, "keys": keys }));
    }
    console.line(&match count {
        0 => format!("Everything is under {new} already."),
        _ => format!(
            "{} (MACs and seals) came under {new}; every row was read again to prove it.",
            counted(count, "value")
        ),
    })?;
    for key in older {
        let bearers = survey.bearers.get(&key).copied().unwrap_or_default();
        console.line(&format!("{key}: {}", advice(bearers, key)))?;
    }
    console.line(
        "Put the same key file on every node before its server starts. Backups made until now open with the old key \
         alone: keep its offline copy until they have expired.",
    )
}

async fn retire(arguments: Retire, console: &Console) -> Result<(), Failure> {
    let config = serve::load(arguments.place.config)?;
    let keys = server::present_keys(&config)?;
    let usage = |what: String| Failure::new(Exit::Usage, "instance_key", what);
    let key = keys.iter().map(|key| key.id()).find(|id| id.to_string() == arguments.key);
    let key = key.ok_or_else(|| {
        usage(format!(
            "{} is not among the instance keys in place; `strongroom instance-key list` shows them",
            arguments.key
        ))
    })?;
    if key == keys.current().id() {
        return Err(usage(format!(
            "{key} is the current instance key; `strongroom instance-key rotate` makes another"
        )));
    }
    let (means, random) = (means(keys), Arc::new(SystemRandom::new()));
    let store = server::open_to_renew(&config, &means.keys, Arc::new(SystemClock), random).await?;
    let ended = instance_key::retire(&store, &means, key, arguments.end_tokens, &mut teller(console)).await?;
    let loaded = server::instance_keys(&config, means.random.as_ref())?;
    let gone = match loaded.in_file {
        true => {
            instance::take_out(&config.instance.key_file, key)?;
            format!("{key} is out of {}; take it out on every other node too.", loaded.origin)
        }
        false => format!("Nothing needs {key} any more: take its line out of {}, on every node.", loaded.origin),
    };
    if console.format == Format::Json {
        let Bearers { sessions, tokens, links, codes } = ended;
        let ended = json!({ "sessions": sessions, "tokens": tokens, "links": links, "recovery_codes": codes });
        return console.json(&json!({ "key": key.to_string(), "taken_out": loaded.in_file, "ended": ended }));
    }
    if ended != Bearers::default() {
        console.line(&format!("{ended} ended with it."))?;
    }
    console.line(&gone)?;
    console
        .line("Backups made before the rotation open with it alone: destroy its offline copy when they have expired.")
}

fn advice(bearers: Bearers, key: InstanceKeyId) -> String {
    let next = format!("`strongroom instance-key retire {key}` takes it out of the file");
    match bearers == Bearers::default() {
        true => format!("nothing is under it any more; {next}."),
        false => {
            format!("still living by it: {bearers}. Sessions and API tokens go over when they are used. Later, {next}.")
        }
    }
}

/// One key and what is under it.
struct Line {
    key: InstanceKeyId,
    is: &'static str,
    rows: u64,
    bearers: Bearers,
}

impl Line {
    fn of(key: InstanceKeyId, means: &Means, survey: &Survey) -> Self {
        let is = match means.keys.get(key) {
            Some(_) if means.keys.current().id() == key => "current",
            Some(_) => "older",
            None => "not loaded",
        };
        let rows = survey.rows.get(&key).copied().unwrap_or_default();
        Self { key, is, rows, bearers: survey.bearers.get(&key).copied().unwrap_or_default() }
    }

    fn cells(self) -> Vec<String> {
        vec![self.key.to_string(), self.is.to_owned(), self.rows.to_string(), self.bearers.to_string()]
    }

    fn json(&self) -> serde_json::Value {
        let Bearers { sessions, tokens, links, codes } = self.bearers;
        json!({
            "key": self.key.to_string(), "is": self.is, "macs_and_seals": self.rows,
            "living": { "sessions": sessions, "tokens": tokens, "links": links, "recovery_codes": codes },
        })
    }
}

fn means(keys: Arc<InstanceKeys>) -> Means {
    Means { keys, random: Arc::new(SystemRandom::new()), now: Timestamp::now() }
}

/// Tells now and then how far it is.
fn teller(console: &Console) -> impl FnMut(Progress) + Send + '_ {
    let mut told = SystemClock.since_boot();
    move |progress| {
        let now = SystemClock.since_boot();
        if now.saturating_sub(told) >= TELL {
            told = now;
            console.note(&format!("{}: {} so far", progress.kind, counted(progress.rows, "row")));
        }
    }
}

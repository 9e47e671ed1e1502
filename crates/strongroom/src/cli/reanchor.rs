//! `strongroom restore --reanchor`

use std::{collections::BTreeMap, io::Read, path::PathBuf, sync::Arc};

use clap::Args;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use strongroom_envelope::SystemRandom;
use zeroize::Zeroizing;

use super::{
    audit::read_parsed,
    console::{Console, Format, printable},
    failure::Failure,
};
use crate::{
    audit::{
        self,
        log::{Checkpoint, VerifierKey},
    },
    clock::SystemClock,
    config::Config,
    counted::counted,
    error::Error,
    instance_key::{self, Lost, Means, Reanchored},
    keyring::{CredentialKind, CredentialText, LostVault, ProvenVault, VaultState},
    secret_text::SecretText,
    server::{self, instance},
};

#[derive(Args)]
pub struct Reanchor {
    /// Go on without a lost instance key, with a new one
    #[arg(long)]
    reanchor: bool,
    /// E-mail address of the Owner who does it; asked for if absent
    #[arg(long, requires = "reanchor")]
    email: Option<String>,
    /// A checkpoint of the log that was kept elsewhere: events up to it are proven, the others taken on trust
    #[arg(long, value_name = "FILE", requires = "reanchor", requires = "public_key")]
    checkpoint: Option<PathBuf>,
    /// The file with the log's public key of before, as `audit key` printed it
    #[arg(long, value_name = "FILE", requires = "checkpoint")]
    public_key: Option<PathBuf>,
    /// Read {"password": …, "credentials": {"VAULT": {"client_secret": …}}} from standard input, and ask nothing
    ///
    /// A credential is {"client_secret": …}, {"client_certificate": PEM} or {"workload_identity": true}. A vault without
    /// one is left for another run.
    #[arg(long, requires = "reanchor", requires = "email")]
    answers_stdin: bool,
}

/// What would be asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answers {
    password: SecretText,
    #[serde(default)]
    credentials: BTreeMap<String, Entered>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Entered {
    ClientSecret(SecretText),
    ClientCertificate(SecretText),
    WorkloadIdentity(bool),
}

pub async fn run(config: &Config, arguments: Reanchor, dry_run: bool, console: &Console) -> Result<(), Failure> {
    let mut answers = if arguments.answers_stdin { Some(Answers::read()?) } else { None };
    let random = Arc::new(SystemRandom::new());
    let by = audit::Means {
        public_key: arguments.public_key.as_deref().map(read_parsed::<VerifierKey>).transpose()?.map(|known| known.key),
        checkpoint: arguments.checkpoint.as_deref().map(read_parsed::<Checkpoint>).transpose()?,
        ..audit::Means::default()
    };
    let email = match arguments.email {
        Some(email) => email,
        None => console.ask("E-mail address of the Owner", "say --email and --answers-stdin")?,
    };
    let password = match &mut answers {
        Some(answers) => std::mem::replace(&mut answers.password, SecretText::from("")),
        None => console.ask_secret("Password", "say --answers-stdin")?,
    };
    let loaded = server::instance_keys(config, random.as_ref())?;
    let unsaved = loaded.unsaved;
    let means = Means { keys: Arc::new(loaded.keys), random: random.clone(), now: Timestamp::now() };
    let (store, keyring) = server::open_to_reanchor(config, &means.keys, Arc::new(SystemClock), random).await?;
    let lost = instance_key::look_lost(&store, &means, by, &email, &password).await?;
    console.note(&warning(&lost));
    if dry_run {
        return console.line("Nothing was written.");
    }
    if answers.is_none() && !console.confirm("Go on without the lost key?")? {
        return Err(Failure::usage("nothing was changed"));
    }
    // Durable before anything is sealed under it.
    if let Some(text) = unsaved {
        instance::save(&config.instance.key_file, &text)?;
        console.note(&format!("A new instance key lies in {}. Keep an offline copy.", loaded.origin));
    }
    let mut proven = Vec::new();
    for vault in lost.vaults.iter().filter(|vault| !vault.is_cloud()) {
        let Some(credential) = entered(vault, answers.as_mut(), console)? else { continue };
        let lease = config.vaults.lease_seconds;
        match instance_key::prove(&keyring, &means, vault.clone(), &credential, lease).await {
            Ok(vault) => proven.push(vault),
            Err(error @ (Error::Setup { .. } | Error::Integrity { .. })) => {
                console.note(&format!("{} is left as it is: {}", printable(&vault.name), Failure::from(error).text()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let told: Vec<_> = proven.iter().map(summary).collect();
    let done = instance_key::reanchor(&store, &means, &lost, proven, &mut |_| {}).await?;
    report(&lost, &done, told, console)
}

impl Answers {
    fn read() -> Result<Self, Failure> {
        let mut text = Zeroizing::new(String::new());
        std::io::stdin().lock().take(1 << 20).read_to_string(&mut text)?;
        serde_json::from_str(&text)
            .map_err(|error| Failure::usage(format!("the answers cannot be read: line {}", error.line())))
    }
}

fn entered(
    vault: &LostVault,
    answers: Option<&mut Answers>,
    console: &Console,
) -> Result<Option<CredentialText>, Failure> {
    if let Some(answers) = answers {
        return Ok(match answers.credentials.remove(&vault.name) {
            Some(Entered::ClientSecret(text)) => Some(CredentialText::Secret(text)),
            Some(Entered::ClientCertificate(text)) => Some(CredentialText::Certificate(text)),
            Some(Entered::WorkloadIdentity(true)) => Some(CredentialText::WorkloadIdentity),
            _ => None,
        });
    }
    let row = vault.provider()?;
    console.note(&printable(&format!(
        "{}: key {} in {}, application {} of tenant {}",
        vault.name, row.key_name, row.vault_url, row.credential.client_id, row.tenant_id
    )));
    let text = match row.credential.kind {
        Some(CredentialKind::WorkloadIdentity) => return Ok(Some(CredentialText::WorkloadIdentity)),
        Some(CredentialKind::Certificate) => {
            let file =
                console.ask("PEM file with key and certificate (empty: leave this vault)", "say --answers-stdin")?;
            if file.is_empty() {
                return Ok(None);
            }
            return Ok(Some(CredentialText::Certificate(SecretText::from(Zeroizing::new(std::fs::read_to_string(
                file,
            )?)))));
        }
        _ => console.ask_secret("Client Secret (empty: leave this vault)", "say --answers-stdin")?,
    };
    Ok(Some(text).filter(|text| !text.expose().trim().is_empty()).map(CredentialText::Secret))
}

/// Everything that is lost, before anybody says yes.
fn warning(lost: &Lost) -> String {
    let mut lines = vec![format!(
        "The instance key {} of {} is lost. Without it:",
        lost.keys.join(", "),
        printable(&lost.workspace_name)
    )];
    for (vault, items) in lost.vaults.iter().zip(&lost.items) {
        let (name, items) = (printable(&vault.name), counted(*items, "item"));
        lines.push(match vault.is_cloud() {
            true => {
                format!("  LOST: {name}, a Cloud vault, with {items}. Its rows are kept, and open if the key is found.")
            }
            false => {
                format!("  {name}, {items}: opens again if its key in Azure does, with its credential entered anew.")
            }
        });
    }
    lines.extend([
        "  LOST: stored credentials, webhooks, every second factor. Sessions, API tokens, links and recovery codes end,"
            .to_owned(),
        "  and jobs that had not ended are cancelled. Members sign in with their passwords alone until they set up a code."
            .to_owned(),
        "  LOST: every backup that was made under it.".to_owned(),
        match lost.proven {
            0 => format!(
                "  {} of the audit log are taken on trust: their chains are whole, and no checkpoint was given.",
                counted(lost.events, "event")
            ),
            proven => format!(
                "  {} of the audit log are proven by the checkpoint; {} are taken on trust.",
                counted(proven, "event"),
                lost.events.saturating_sub(proven)
            ),
        },
        "  The log's public key changes: fetch it anew (strongroom audit key).".to_owned(),
        "Names, roles and passwords of members, and who may see what, were never under the key alone; whoever could write \
         the database could have changed them. Look through them afterwards: strongroom audit verify --state"
            .to_owned(),
    ]);
    lines.join("\n")
}

fn summary(vault: &ProvenVault) -> (String, u64, VaultState) {
    (vault.name().to_owned(), vault.compared, vault.state())
}

fn report(
    lost: &Lost,
    done: &Reanchored,
    vaults: Vec<(String, u64, VaultState)>,
    console: &Console,
) -> Result<(), Failure> {
    let left = lost.vaults.iter().filter(|vault| !vault.is_cloud()).count() as u64 - done.vaults;
    if console.format == Format::Json {
        let opened: Vec<_> = vaults
            .iter()
            .map(|(name, compared, state)| json!({ "name": name, "data_keys_opened": compared, "state": state }))
            .collect();
        return console.json(&json!({
            "vaults": opened, "left": left, "closed": done.closed, "second_factors": done.codes,
            "webhooks": done.webhooks, "jobs": done.jobs, "events": lost.events, "proven": lost.proven,
        }));
    }
    for (name, compared, state) in vaults {
        let closed = match state {
            VaultState::Closed => "; it takes no new items: rotate its key, then open it",
            _ => "",
        };
        let name = printable(&name);
        console.line(&format!("{name} is anchored anew: its key opened {}{closed}.", counted(compared, "data key")))?;
    }
    if left > 0 {
        console.line(&format!("{} left as before: run this again for it.", counted(left, "vault")))?;
    }
    console.line(&format!(
        "Kept and switched off: {}. Gone: {}, {}, {}; {} cancelled. Start the server, sign in, make a backup.",
        counted(done.closed, "Cloud vault"),
        counted(done.codes, "second factor"),
        counted(done.webhooks, "webhook"),
        done.bearers,
        counted(done.jobs, "job"),
    ))
}

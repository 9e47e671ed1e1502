//! `strongroom vault drill`: a withdrawal drill, led by questions, or by itself against the demo's stand-in.

use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use reqwest::header;
use strongroom_keys::State;

use super::super::console::{Console, Format, printable};
use super::super::failure::{Exit, Failure};
use super::super::{lookup, serve};
use crate::client::Client;
use crate::drill::{About, Pace, Probes, Report, TITLE, Target};
use crate::http::api::types::{Census, CreateItem, Field, FieldKind, ItemType, KeyVersionUse, Strategy, Vault};
use crate::secret_text::SecretText;

/// Until every way serves, before anything is withdrawn.
const READY: Duration = Duration::from_secs(30);
/// Until every way has followed the first, or the demo's administrator.
const FOLLOW: Duration = Duration::from_secs(60);
/// Until the customer has withdrawn the key, and until Azure has given it back: a role takes ten minutes.
const CUSTOMER: Duration = Duration::from_secs(30 * 60);

/// Hold a withdrawal drill: the key is disabled and enabled again, and each way to the vault's items is timed
///
/// Every way is tried all the time: reveal, list, search, creation, `strongroom read`, and with a sign-in a page and its
/// event stream. The drill makes items called "Withdrawal drill" in the vault and deletes them at the end. While the key
/// is withdrawn nobody can read the vault. Ends with 1 if a way took more than 15 s to be refused or to be back.
#[derive(Args)]
#[command(after_help = "Examples:
  strongroom vault drill Azure
  strongroom vault drill Azure --email ada@example.com --report drill-2026-11
  strongroom vault drill Azure --demo strongroom-demo")]
pub struct Arguments {
    /// The vault, by name or id
    #[arg(value_name = "VAULT")]
    vault: String,
    /// Let the demo in this folder withdraw the key, as its Azure administrator
    #[cfg(feature = "demo")]
    #[arg(long, value_name = "DIR")]
    demo: Option<PathBuf>,
    /// Sign in with this address too, so that pages and their event streams are tried; the password is asked for
    #[arg(long)]
    email: Option<String>,
    /// The folder for report.json and report.html
    #[arg(long, value_name = "DIR", default_value = "strongroom-drill")]
    report: PathBuf,
}

pub async fn run(arguments: Arguments, client: &Client, console: &Console, now: Timestamp) -> Result<(), Failure> {
    let vaults = client.vaults().await?;
    let vault = lookup::vault(&vaults, &arguments.vault)?;
    if vault.strategy == Strategy::Cloud {
        let title =
            format!("`{}` is a Cloud vault: this server holds its key, so nobody can withdraw it in Azure", vault.name);
        return Err(Failure::new(Exit::Other, "drill.cloud_vault", printable(&title))
            .fix("hold the drill in a vault of the strategy Azure External Keys"));
    }
    let hand = Hand::of(&arguments);
    let census = client.census(vault.id).await?;
    if matches!(hand, Hand::Customer) && !console.interactive() {
        return Err(Failure::usage("a drill asks somebody to withdraw the key, and there is no terminal to ask on")
            .fix("run it on a terminal; against the demo say --demo DIR"));
    }
    let sessions = sessions(&arguments, client, console).await?;
    let started = Instant::now();
    let item = client.create_item(&probe_item(vault)).await?.id;
    let (url, workspace, token) = client.place();
    let target = Target {
        url: url.to_string(),
        workspace: workspace.to_owned(),
        token: SecretText::from(token.expose()),
        sessions,
        vault: vault.id,
        item,
        program: std::env::current_exe().ok(),
        pace: Pace::default(),
    };
    let probes = Probes::start(target)?;
    let outcome = {
        let mut work = pin!(withdraw_and_restore(&hand, &census, &probes, console));
        tokio::select! {
            outcome = &mut work => outcome,
            () = serve::stopped() => Err(Failure::new(Exit::Other, "drill.stopped", "the drill was stopped")),
        }
    };
    if outcome.is_err() {
        hand.undo(&census, &probes, console).await;
    }
    let mut made = probes.record.made();
    made.push(item);
    let moments = outcome
        .map(|(withdrawn, restored)| (probes.record.measure(withdrawn, restored), probes.record.state(withdrawn)));
    drop(probes);
    delete(&made, client, console).await;
    let (measured, state) = moments?;
    let elapsed = SignedDuration::try_from(started.elapsed()).unwrap_or_default();
    let about = About {
        vault: vault.name.clone(),
        server: url.to_string(),
        kids: listed(&census),
        started_at: now,
        finished_at: now + elapsed,
        withdrawn_by: hand.word(),
        state,
        denial_from: hand.denial_from(),
        recovery_from: hand.recovery_from(),
    };
    tell(&Report::new(about, measured), &arguments.report, console)
}

/// Who withdraws the key.
enum Hand {
    /// Somebody at Azure, who is asked to.
    Customer,
    #[cfg(feature = "demo")]
    Demo(PathBuf),
}

impl Hand {
    fn of(arguments: &Arguments) -> Self {
        #[cfg(feature = "demo")]
        if let Some(dir) = &arguments.demo {
            return Self::Demo(dir.clone());
        }
        let _ = arguments;
        Self::Customer
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Customer => "customer",
            #[cfg(feature = "demo")]
            Self::Demo(_) => "demo",
        }
    }

    fn denial_from(&self) -> &'static str {
        match self {
            Self::Customer => "the last answer that the key gave this server",
            #[cfg(feature = "demo")]
            Self::Demo(_) => "the end of the administrator’s command",
        }
    }

    fn recovery_from(&self) -> &'static str {
        match self {
            Self::Customer => "the word of whoever enabled the key again, or the first answer if that came earlier",
            #[cfg(feature = "demo")]
            Self::Demo(_) => "the end of the administrator’s command",
        }
    }

    /// What can be done for somebody whose drill broke off: the demo's key comes back, a customer is told.
    #[cfg_attr(not(feature = "demo"), expect(unused_variables, reason = "only the demo's key comes back by itself"))]
    async fn undo(&self, census: &Census, probes: &Probes, console: &Console) {
        match self {
            Self::Customer => {
                console.note("If you have disabled key versions, enable them again:");
                for command in way_back(census) {
                    console.note(&format!("  {command}"));
                }
            }
            #[cfg(feature = "demo")]
            Self::Demo(dir) => {
                if let Err(error) = crate::demo::key(dir, crate::demo::KeyCommand::Enable).await {
                    console.note(&format!("The demo's key could not be enabled again: {error}"));
                }
                // Items of a dark vault cannot be deleted.
                probes.all_serve(Instant::now(), READY).await;
            }
        }
    }
}

/// Returns when the key was withdrawn, and when it was given back.
async fn withdraw_and_restore(
    hand: &Hand,
    census: &Census,
    probes: &Probes,
    console: &Console,
) -> Result<(Instant, Instant), Failure> {
    console.note("Trying every way to the vault …");
    if !probes.all_serve(Instant::now(), READY).await {
        return Err(stuck(probes, "not every way to the vault serves now, so nothing was withdrawn")
            .fix("see `strongroom vault check` and whether this token may read and create items there"));
    }
    let begun = Instant::now();
    let withdrawn = withdraw(hand, census, probes, console, begun).await?;
    if !probes.all_refuse(withdrawn, FOLLOW).await {
        return Err(stuck(probes, "a minute after the first refusal some way still served the vault's items"));
    }
    console.note("Every way is refused.");
    let restored = restore(hand, census, probes, console).await?;
    if !probes.all_serve(restored, if matches!(hand, Hand::Customer) { CUSTOMER } else { FOLLOW }).await {
        return Err(stuck(probes, "the key was given back, and not every way serves the vault's items again"));
    }
    console.note("Every way is back.");
    Ok((withdrawn, restored))
}

async fn withdraw(
    hand: &Hand,
    census: &Census,
    probes: &Probes,
    console: &Console,
    begun: Instant,
) -> Result<Instant, Failure> {
    match hand {
        Hand::Customer => {
            console
                .note("Every way serves. Now disable every key version of the vault in Azure, as who may change it:");
            for command in census.kill_switch.iter() {
                console.note(&format!("  {command}"));
            }
            console.note("Waiting until Strongroom is refused. Ctrl-C ends the drill.");
            if !probes.one_refuses(begun, CUSTOMER).await {
                return Err(stuck(probes, "the key answered for half an hour more; was another key version disabled?"));
            }
            Ok(probes.record.key_answered().unwrap_or(begun))
        }
        #[cfg(feature = "demo")]
        Hand::Demo(dir) => {
            crate::demo::key(dir, crate::demo::KeyCommand::Disable).await?;
            console.note("The demo's administrator has disabled the key.");
            Ok(Instant::now())
        }
    }
}

async fn restore(hand: &Hand, census: &Census, probes: &Probes, console: &Console) -> Result<Instant, Failure> {
    match hand {
        Hand::Customer => {
            let refused = Instant::now();
            console.note("Now enable again what you disabled:");
            for command in way_back(census) {
                console.note(&format!("  {command}"));
            }
            let asked = Console { format: console.format };
            let word = tokio::task::spawn_blocking(move || asked.ask("Press Enter as soon as that is done", ""));
            word.await.map_err(|_| Failure::new(Exit::Other, "drill.stopped", "the drill was stopped"))??;
            let now = Instant::now();
            Ok(probes.record.first_served(refused).map_or(now, |served| served.min(now)))
        }
        #[cfg(feature = "demo")]
        Hand::Demo(dir) => {
            crate::demo::key(dir, crate::demo::KeyCommand::Enable).await?;
            console.note("The demo's administrator has enabled it again.");
            Ok(Instant::now())
        }
    }
}

/// The kill switch, thrown back.
fn way_back(census: &Census) -> impl Iterator<Item = String> {
    census.kill_switch.iter().map(|command| command.replace("--enabled false", "--enabled true"))
}

/// The key versions that the kill switch names.
fn listed(census: &Census) -> Vec<String> {
    let wraps = |used: &&KeyVersionUse| used.vault_keys + used.superseded_wraps > 0;
    census.versions.iter().filter(wraps).map(|used| used.kid.clone()).collect()
}

fn stuck(probes: &Probes, title: &str) -> Failure {
    Failure::new(Exit::Other, "drill.stuck", title).why(probes.record.latest().join("; "))
}

fn probe_item(vault: &Vault) -> CreateItem {
    let field = Field { name: "Password".into(), kind: FieldKind::Password, value: "nothing worth reading".into() };
    CreateItem { vault_id: Some(vault.id), fields: vec![field], ..CreateItem::new(ItemType::Account, TITLE.into()) }
}

async fn delete(made: &[uuid::Uuid], client: &Client, console: &Console) {
    let mut left = 0;
    for id in made {
        left += usize::from(client.trash_item(*id).await.is_err());
    }
    for some in made.chunks(500) {
        let kept = client.purge_items(some.to_vec()).await.map(|gone| gone.kept.len());
        left += kept.unwrap_or(some.len());
    }
    if left > 0 {
        console.note(&format!("Some items called \"{TITLE}\" could not be deleted; they are yours to delete."));
    }
}

/// The cookies of two sessions that are signed in for the drill.
async fn sessions(
    arguments: &Arguments,
    client: &Client,
    console: &Console,
) -> Result<Vec<(&'static str, SecretText)>, Failure> {
    let (email, password) = match (&arguments.email, Hand::of(arguments)) {
        #[cfg(feature = "demo")]
        (None, Hand::Demo(dir)) => {
            let file = crate::demo::DemoFile::read(&dir)?;
            let Some(owner) = file.members.into_iter().next() else { return Ok(Vec::new()) };
            (owner.email, owner.password)
        }
        (Some(email), _) => (email.clone(), console.ask_secret(&format!("Password of {email}"), "leave out --email")?),
        (None, _) => {
            console.note("Without --email no page and no event stream is tried.");
            return Ok(Vec::new());
        }
    };
    let mut sessions = Vec::new();
    for _ in 0..2 {
        sessions.push(sign_in(client, &email, &password).await?);
    }
    Ok(sessions)
}

async fn sign_in(client: &Client, email: &str, password: &SecretText) -> Result<(&'static str, SecretText), Failure> {
    let refused = |why: &str| {
        Failure::new(Exit::Denied, "drill.sign_in", format!("{email} could not sign in for the pages: {why}"))
            .fix("check the password; an account with a second step cannot be used here: leave out --email")
    };
    let url = client.place().0.join("signin").map_err(|error| refused(&error.to_string()))?;
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
    let http = http.map_err(|error| refused(&error.to_string()))?;
    let body = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("email", email)
        .append_pair("password", password.expose())
        .finish();
    let request = http
        .post(url)
        .header("sec-fetch-site", "same-origin")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(body);
    let answer = request.send().await.map_err(|error| refused(&error.without_url().to_string()))?;
    let cookies = answer.headers().get_all(header::SET_COOKIE);
    let pairs = cookies.iter().filter_map(|value| value.to_str().ok()?.split(';').next()?.split_once('='));
    let session = pairs.into_iter().find_map(|(name, value)| {
        let name = ["strongroom", "__Host-strongroom"].into_iter().find(|known| *known == name)?;
        Some((name, SecretText::from(value)))
    });
    session.ok_or_else(|| refused(&format!("the server answers {}", answer.status().as_u16())))
}

fn tell(report: &Report, folder: &std::path::Path, console: &Console) -> Result<(), Failure> {
    report.write(folder).map_err(|error| {
        Failure::new(Exit::Other, "drill.report", format!("the report could not be written: {error}"))
            .fix("name another folder with --report")
    })?;
    if console.format == Format::Json {
        console.json(report)?;
    } else {
        let rows = report.paths.iter().map(|path| {
            let session = path.session.to_string();
            let way =
                if path.session > 1 { format!("{}, session {session}", path.title) } else { path.title.to_owned() };
            vec![way, path.tries.to_string(), path.last_served(), path.denied(), path.recovered(), path.odd.join("; ")]
        });
        let shown = report.state.as_deref().and_then(State::of_word).map_or("nothing", State::label);
        console.table(&["Way", "Tries", "Last served, s", "Refused, s", "Back, s", "Other answers"], rows.collect())?;
        console.line(&format!("\nShown as: {shown}\nReport: {}", folder.join("report.html").display()))?;
    }
    if report.passed {
        return Ok(());
    }
    Err(Failure::new(Exit::Other, "drill.too_slow", "some way took more than 15 s to be refused or to be back")
        .fix("see the report; a server that is overloaded or cut off from Azure shows there first"))
}

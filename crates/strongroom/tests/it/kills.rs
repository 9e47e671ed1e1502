//! Kills: several writers work through the REST API, the server gets a SIGKILL in the middle, is started again, and has
//! to have everything that it had acknowledged. Round after round on one database, SQLite and PostgreSQL.
//!
//! `STRONGROOM_KILLS` sets how many kills there are in all (16 otherwise), `STRONGROOM_KILLS_SEED` the seed, which
//! decides what is written and when the kill comes; what the system's scheduler does in between is its own affair.
//! `cargo xtask chaos` runs this with more, and reads the tally from the file in `STRONGROOM_KILLS_TALLY`.

pub mod evidence;
pub mod model;
mod moving;
mod planted;
pub mod writers;

use std::{
    env,
    fs::File,
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use strongroom::{app::App, audit};

use self::{
    evidence::{Ledger, Seen},
    model::Model,
    writers::{Dice, Round},
};
use crate::{
    child::{Api, Server},
    site::{Site, Wishes, close},
    world::{Database, on_each_database},
};

/// Kills of an ordinary test run, both engines together.
const KILLS: u64 = 16;
/// Requests that check at the same time.
const CHECKERS: usize = 8;

#[test]
fn a_killed_server_keeps_everything_that_it_acknowledged() {
    let seed = number("STRONGROOM_KILLS_SEED").unwrap_or_else(|| u64::from(std::process::id()) ^ 0x5742_6f78);
    let kills = number("STRONGROOM_KILLS").unwrap_or(KILLS);
    let until = number("STRONGROOM_KILLS_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let engines = if env::var_os("STRONGROOM_TEST_POSTGRES").is_some() { 2 } else { 1 };
    on_each_database(|database| {
        let first = matches!(database, Database::Sqlite(_));
        let share = if first { kills.div_ceil(engines) } else { kills / engines };
        // The first engine gets its part of the time, the last one what is left.
        let part = if first && engines == 2 { 2 } else { 1 };
        let now = Instant::now();
        let until = until.map(|until| now + until.saturating_duration_since(now) / part);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let tally = runtime.expect("a runtime").block_on(rounds(seed, share, until, database.url()));
        tally.tell();
        assert!(tally.faults.is_empty(), "seed {seed}:\n{}", tally.faults.join("\n"));
    });
}

/// What came of it.
#[derive(Default)]
struct Tally {
    rounds: u64,
    kills: u64,
    acknowledged: u64,
    faults: Vec<String>,
}

impl Tally {
    fn tell(&self) {
        let (rounds, kills, acknowledged, lost) = (self.rounds, self.kills, self.acknowledged, self.faults.len());
        let line = format!("rounds={rounds} kills={kills} acknowledged={acknowledged} lost={lost}");
        eprintln!("{line}");
        if let Some(file) = env::var_os("STRONGROOM_KILLS_TALLY") {
            let mut out = File::options().create(true).append(true).open(file).expect("the tally can be written");
            writeln!(out, "{line}").expect("the tally can be written");
        }
    }
}

/// Works and kills `kills` times, or until the time is over, and stops at the first round with a fault.
async fn rounds(seed: u64, kills: u64, until: Option<Instant>, database: String) -> Tally {
    eprintln!("seed {seed}, {kills} kills");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let site = Site::build(Wishes { folder: folder.path(), database, owner_password: "correct horse battery" }).await;
    let vaults = [site.cloud_vault, site.azure_vault];
    let (mut model, mut tally) = (Model::default(), Tally::default());
    while tally.kills < kills && tally.faults.is_empty() && until.is_none_or(|until| Instant::now() < until) {
        tally.rounds += 1;
        let server = Server::start(&site, "warn").await;
        tally.faults.extend(check_touched(&mut model, &Api::of(&site)).await);
        let dice = Dice::new(seed ^ tally.rounds.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let round = Round { number: tally.rounds, dice, api: Api::of(&site), vaults };
        let (after, acknowledged) = round.work(model, server).await;
        model = after;
        tally.acknowledged += acknowledged;
        tally.kills += 1;
        tally.faults.extend(check_rows(&mut model, &site).await);
    }
    let server = Server::start(&site, "warn").await;
    model.touch_all();
    tally.faults.extend(check_touched(&mut model, &Api::of(&site)).await);
    drop(server);
    tally.faults.extend(check_rows(&mut model, &site).await);
    tally
}

/// Opens every item that was written to since the last check, and each acknowledged revision of it.
async fn check_touched(model: &mut Model, api: &Api) -> Vec<String> {
    let wanted = model.touched();
    let seen: Vec<Seen> = stream::iter(wanted)
        .map(|(id, revisions)| async move { Seen::read(api, id, &revisions).await })
        .buffer_unordered(CHECKERS)
        .collect()
        .await;
    seen.iter().flat_map(|seen| model.compare(seen)).collect()
}

/// What the database says while no server runs: which items there are, and that the audit log tells of each write and
/// each reveal, without a gap.
async fn check_rows(model: &mut Model, site: &Site) -> Vec<String> {
    let app = site.open().await;
    let ledger = Ledger::read(&app.store).await;
    let mut faults = model.compare_rows(&ledger);
    faults.extend(check_audit(&app).await);
    close(app).await;
    faults
}

/// Every chain without a gap, and every row as the log says that it should be.
pub async fn check_audit(app: &Arc<App>) -> Vec<String> {
    let report = audit::verify(&app.store, Arc::clone(&app.keys), true).await.expect("the log can be read");
    let chains = report.faults.iter().map(|fault| format!("audit log: {fault:?}"));
    let state = report.state.iter().flat_map(|state| &state.faults).map(|fault| format!("state: {fault:?}"));
    chains.chain(state).collect()
}

pub fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

//! Chaos: programs are killed and frozen, networks cut and slowed, disks full, keys denied, while clients work; and nothing
//! that was acknowledged is lost, nothing opens that should not, and everything opens that should.
//!
//! `cargo xtask chaos` builds the programs, starts a PostgreSQL and runs this. A seed decides which faults come, in which
//! order, at what moment and to whom; what the clients then do to each other is the scheduler's affair.
//!
//! `place` has the programs and the ways between them, `relay` a network that fails, `process` a child that can be killed,
//! `load` the clients, `faults` the faults, `verdict` what has to hold. The model of what was acknowledged is that of the
//! kills.

mod faults;
mod load;
mod place;
mod process;
mod relay;
mod verdict;

use std::{
    env,
    fs::File,
    io::Write,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use self::{
    faults::{Fault, Plan, deck},
    load::{Load, Shared, Ways},
    place::Place,
};
use crate::{
    kills::{model::Model, number, writers::Dice},
    world::Database,
};

/// Kept for the last check.
const FOR_THE_END: Duration = Duration::from_secs(60);
/// How long the clients go on after a fault.
const AFTERWARDS: Duration = Duration::from_millis(500);

#[test]
#[ignore = "takes minutes, and a PostgreSQL that may be killed: cargo xtask chaos"]
fn nothing_acknowledged_is_lost_whatever_fails() {
    let seed = number("STRONGROOM_CHAOS_SEED").expect("cargo xtask chaos gives one");
    let rounds = number("STRONGROOM_CHAOS_ROUNDS").expect("cargo xtask chaos says how many");
    let seconds = number("STRONGROOM_CHAOS_SECONDS").expect("cargo xtask chaos says how long");
    let engine = env::var("STRONGROOM_CHAOS_ENGINE").expect("cargo xtask chaos names it");
    let until = Instant::now() + Duration::from_secs(seconds) - FOR_THE_END;
    let server = || env::var("STRONGROOM_TEST_POSTGRES").expect("cargo xtask chaos starts one");
    let engines: Vec<&'static str> =
        ["sqlite", "postgres"].into_iter().filter(|name| engine == "both" || engine == *name).collect();
    // Side by side: most of a round is waiting.
    let faults: Vec<String> = std::thread::scope(|scope| {
        let runs: Vec<_> = engines
            .into_iter()
            .map(|engine| {
                scope.spawn(move || {
                    let folder = tempfile::tempdir().expect("a temporary folder");
                    let database = (engine == "postgres").then(|| Database::postgres(server()));
                    let sqlite = || format!("sqlite:{}", folder.path().join("strongroom.db").display());
                    let url = database.as_ref().map_or_else(sqlite, Database::url);
                    let run = Run { engine, seed, rounds, until, only: env::var("STRONGROOM_CHAOS_ONLY").ok() };
                    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
                    let tally = runtime.expect("a runtime").block_on(run.all(folder.path(), &url));
                    run.tell(&tally);
                    if !tally.faults.is_empty() {
                        eprintln!("{engine}: the run's folder is kept: {}", folder.keep().display());
                    }
                    tally.faults.into_iter().map(|fault| format!("{engine}: {fault}")).collect::<Vec<_>>()
                })
            })
            .collect();
        runs.into_iter().flat_map(|run| run.join().unwrap_or_else(|_| vec!["a run panicked".into()])).collect()
    });
    assert!(faults.is_empty(), "seed {seed}:\n{}", faults.join("\n"));
}

struct Run {
    engine: &'static str,
    seed: u64,
    rounds: u64,
    until: Instant,
    /// Only faults whose names have this in them.
    only: Option<String>,
}

/// What came of it.
#[derive(Default)]
struct Tally {
    rounds: u64,
    kills: u64,
    acknowledged: u64,
    faults: Vec<String>,
}

impl Run {
    /// Rounds until there are enough, the time is over, or something is wrong.
    async fn all(&self, folder: &Path, database: &str) -> Tally {
        let mut place = Place::build(folder, database).await;
        let shared = Shared::new(Model::default(), place.guests.clone());
        let mut order = Vec::new();
        let mut dice = Dice::new(self.seed);
        let mut tally = Tally::default();
        while tally.rounds < self.rounds && tally.faults.is_empty() && Instant::now() < self.until {
            tally.rounds += 1;
            if order.is_empty() {
                order = deck(place.nodes.len() > 1, &mut dice);
                order.retain(|fault| self.only.as_ref().is_none_or(|only| format!("{fault:?}").contains(only)));
            }
            let fault = order.pop().expect("a fault of this engine has that name");
            let plan = Plan::draw(fault, place.nodes.len(), &mut dice);
            self.round(&mut place, &shared, &plan, &mut dice, &mut tally).await;
        }
        place.start().await;
        shared.model().touch_all();
        tally.faults.extend(verdict::everything_opens(&place, &shared).await);
        tally.faults.extend(place.stop_nodes().await);
        tally.faults.extend(verdict::rows_hold(&place, &shared).await);
        tally.faults.extend(verdict::logs_agree(&place).await);
        tally
    }

    async fn round(&self, place: &mut Place, shared: &Arc<Shared>, plan: &Plan, dice: &mut Dice, tally: &mut Tally) {
        let (begun, before) = (Instant::now(), shared.acknowledged.load(Ordering::Relaxed));
        place.start().await;
        tally.faults.extend(verdict::everything_opens(place, shared).await);
        let ways = Ways {
            apis: place.apis(),
            vaults: [place.cloud_vault, place.azure_vault],
            owner: place.owner,
            azure: Arc::clone(&place.azure),
            admin: Arc::clone(&place.admin),
        };
        let load = Load::begin(shared, &ways, tally.rounds, dice);
        tokio::time::sleep(plan.after).await;
        tally.kills += plan.strike(place, shared).await;
        if matches!(plan.fault, Fault::Freeze) {
            tally.faults.extend(verdict::others_serve(place, plan.node, shared).await);
        }
        tokio::time::sleep(plan.lasts).await;
        plan.lift(place, shared).await;
        tally.faults.extend(verdict::comes_back(place, shared).await);
        tokio::time::sleep(AFTERWARDS).await;
        load.end().await;
        tally.faults.extend(verdict::jobs_end(place).await);
        tally.faults.extend(place.stop_nodes().await);
        tally.faults.extend(verdict::rows_hold(place, shared).await);
        tally.faults.extend(shared.take_faults());
        let acknowledged = shared.acknowledged.load(Ordering::Relaxed);
        tally.acknowledged = acknowledged;
        eprintln!(
            "{} round {}: {:?} for {:.1} s; {} acknowledged, {:.0} s{}",
            self.engine,
            tally.rounds,
            plan.fault,
            plan.lasts.as_secs_f64(),
            acknowledged - before,
            begun.elapsed().as_secs_f64(),
            if tally.faults.is_empty() { "" } else { ": WRONG" },
        );
    }

    fn tell(&self, tally: &Tally) {
        let Tally { rounds, kills, acknowledged, faults } = tally;
        let line =
            format!("{}: rounds={rounds} kills={kills} acknowledged={acknowledged} lost={}", self.engine, faults.len());
        eprintln!("{line}");
        if let Some(file) = env::var_os("STRONGROOM_KILLS_TALLY") {
            let mut out = File::options().create(true).append(true).open(file).expect("the tally can be written");
            writeln!(out, "{line}").expect("the tally can be written");
        }
    }
}

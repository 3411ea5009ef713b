//! Plays seeds until one fails.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use selvage_sim::bugs::Bug;
use selvage_sim::world::{Peaks, Troubles};
use selvage_sim::{BftCluster, Cluster, Failure, Outcome, RaftCluster, Scenario, run};

/// Simulates clusters of orderers under faults, from seeds.
#[derive(Debug, Parser)]
#[command(name = "selvage-sim", version)]
struct Options {
    /// The engine.
    #[arg(long, default_value = "raft")]
    engine: String,
    /// Consenters at the start.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds to play.
    #[arg(long, default_value_t = 100)]
    count: u64,
    /// Puts a mistake back in, and expects it to be noticed.
    #[arg(long)]
    bug: Option<Bug>,
    /// Plays every seed twice and compares the traces.
    #[arg(long)]
    twice: bool,
    /// Goes on after a seed that fails.
    #[arg(long)]
    keep_going: bool,
}

/// What all runs came to.
#[derive(Default)]
struct Sum {
    simulated: u64,
    events: u64,
    accepted: u64,
    troubles: Troubles,
    peaks: Peaks,
    failed: u64,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.simulated += outcome.lasted;
        self.events += outcome.events;
        self.accepted += outcome.accepted;
        let (sum, more) = (&mut self.troubles, &outcome.troubles);
        sum.crashes += more.crashes;
        sum.splits += more.splits;
        sum.rotten += more.rotten;
        sum.liars += more.liars;
        sum.changes += more.changes;
        sum.fetched += more.fetched;
        sum.full += more.full;
        sum.outcasts += more.outcasts;
        sum.repeated += more.repeated;
        sum.invalid += more.invalid;
        let (peaks, more) = (&mut self.peaks, &outcome.peaks);
        peaks.clients = peaks.clients.max(more.clients);
        peaks.journal = peaks.journal.max(more.journal);
        peaks.writes = peaks.writes.max(more.writes);
        peaks.on_the_way = peaks.on_the_way.max(more.on_the_way);
    }

    fn print(&self, options: &Options, took: f64) {
        let hours = self.simulated as f64 / 3.6e9;
        println!(
            "{} seeds of {}-{}: {hours:.2} simulated hours in {took:.1} s ({:.0} an hour), {} \
             events, {} messages accepted, {}",
            options.count,
            options.engine,
            options.nodes,
            hours * 3600.0 / took,
            self.events,
            self.accepted,
            match self.failed {
                0 => "nothing broken".to_owned(),
                failed => format!("{failed} failed"),
            }
        );
        let troubles = &self.troubles;
        println!(
            "with {} crashes, {} splits, {} full disks, {} rotten journals, {} liars, {} changes of \
             consenters, {} outcasts, {} blocks fetched, {} messages repeated, {} transactions invalid",
            troubles.crashes,
            troubles.splits,
            troubles.full,
            troubles.rotten,
            troubles.liars,
            troubles.changes,
            troubles.outcasts,
            troubles.fetched,
            troubles.repeated,
            troubles.invalid
        );
        let peaks = &self.peaks;
        println!(
            "at most {} clients waiting at a node, {} bytes of journal, {} writes waiting, {} events \
             to come for each node",
            peaks.clients, peaks.journal, peaks.writes, peaks.on_the_way
        );
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let cluster: Box<dyn Cluster> = match options.engine.as_str() {
        "raft" => Box::new(RaftCluster),
        "bft" => Box::new(BftCluster),
        other => {
            eprintln!("selvage-sim: there is no engine {other}; choose raft or bft");
            return ExitCode::FAILURE;
        }
    };
    if !cfg!(feature = "mistakes") && options.bug.is_some_and(|bug| bug.mistake().is_some()) {
        eprintln!("selvage-sim: mistakes inside an engine need a build with --features mistakes");
        return ExitCode::FAILURE;
    }
    let begun = Instant::now();
    let mut sum = Sum::default();
    for seed in options.seed..options.seed + options.count {
        let plan = Scenario::from_seed(seed, options.nodes);
        let outcome = run(cluster.as_ref(), plan, options.bug);
        if options.twice && outcome != run(cluster.as_ref(), plan, options.bug) {
            println!("seed {seed}: two runs differ, so something is not made from the seed");
            return ExitCode::FAILURE;
        }
        match outcome {
            Ok(outcome) => sum.add(&outcome),
            Err(failure) => {
                report(&options, seed, &failure);
                sum.failed += 1;
                if !options.keep_going || options.bug.is_some() {
                    break;
                }
            }
        }
    }
    let took = begun.elapsed().as_secs_f64();
    match options.bug {
        Some(bug) if sum.failed > 0 => {
            println!("the mistake {bug:?} was noticed after {took:.1} s")
        }
        Some(bug) => println!("the mistake {bug:?} was not noticed in {took:.1} s"),
        None if sum.failed == 0 || options.keep_going => sum.print(&options, took),
        None => {}
    }
    match options.bug.is_some() == (sum.failed > 0) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn report(options: &Options, seed: u64, failure: &Failure) {
    println!(
        "seed {seed}: {} broken at {:.3} s: {}",
        failure.invariant,
        failure.at as f64 / 1e6,
        failure.what
    );
    println!(
        "again: selvage-sim --engine {} --nodes {} --seed {seed} --count 1",
        options.engine, options.nodes
    );
}

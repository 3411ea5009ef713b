//! Plays seeds until one fails.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use selvage_sim::bugs::Bug;
use selvage_sim::{BftCluster, Cluster, RaftCluster, Scenario, run};

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
    let begun = Instant::now();
    let (mut simulated, mut events, mut accepted, mut crashes) = (0, 0, 0, 0);
    for seed in options.seed..options.seed + options.count {
        let plan = Scenario::from_seed(seed, options.nodes);
        let outcome = run(cluster.as_ref(), plan, options.bug);
        if options.twice && outcome != run(cluster.as_ref(), plan, options.bug) {
            println!("seed {seed}: two runs differ, so something is not made from the seed");
            return ExitCode::FAILURE;
        }
        match outcome {
            Ok(outcome) => {
                simulated += outcome.lasted;
                events += outcome.events;
                accepted += outcome.accepted;
                crashes += outcome.crashes;
            }
            Err(failure) => {
                println!(
                    "seed {seed}: {} broken at {:.3} s: {}",
                    failure.invariant,
                    failure.at as f64 / 1e6,
                    failure.what
                );
                println!(
                    "again: selvage-sim --engine {} --nodes {} --seed {seed} --count 1",
                    cluster.name(),
                    options.nodes
                );
                return match options.bug {
                    Some(_) => ExitCode::SUCCESS,
                    None => ExitCode::FAILURE,
                };
            }
        }
    }
    let took = begun.elapsed().as_secs_f64();
    let hours = simulated as f64 / 3.6e9;
    println!(
        "{} seeds of {}-{}: {hours:.2} simulated hours in {took:.1} s ({:.0} an hour), {events} \
         events, {accepted} messages accepted, {crashes} crashes, nothing broken",
        options.count,
        cluster.name(),
        options.nodes,
        hours * 3600.0 / took,
    );
    match options.bug {
        Some(bug) => {
            println!("the mistake {bug:?} was not noticed");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

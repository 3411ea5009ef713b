//! `selvage bench`.

use std::collections::{BTreeSet, HashMap};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use selvage_env::{System, random_array};
use selvage_proto::Message as _;

use crate::BenchError;
use crate::broadcast::Trust;
use crate::commits::{self, Commits};
use crate::connections;
use crate::load::{Counters, Run, Settings, Work};
use crate::plan::Plan;
use crate::processes::Watched;
use crate::report::{Counted, Report};
use crate::target::{Overrides, Target};

/// How long to wait for transactions that were ordered but not yet seen in a block.
const DRAIN: Duration = Duration::from_secs(30);

/// Load a Fabric network and say what it did.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// The output of `selvage up --detach --json`
    #[arg(long, value_name = "FILE", required_unless_present = "profile")]
    network: Option<PathBuf>,
    /// A connection profile as Fabric's SDKs read it; --channel, --chaincode, --cert and --key say
    /// what it does not
    #[arg(long, value_name = "FILE", conflicts_with = "network")]
    profile: Option<PathBuf>,
    /// Clients at the same time
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// Seconds to measure
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Seconds of load before the measurement
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=3_600))]
    warmup: u32,
    /// Wait for each commit before the next transaction
    #[arg(long)]
    closed: bool,
    /// Go through the peer's Gateway service instead of endorsing directly
    #[arg(long)]
    gateway: bool,
    /// Only evaluate: ask one peer, order nothing
    #[arg(long, conflicts_with = "closed")]
    evaluate: bool,
    /// Only order: send signed envelopes straight to the orderers' Broadcast service
    ///
    /// Nobody endorses them, so peers put them on their ledgers as invalid: not for a channel that is
    /// to be kept. What counts is an orderer's SUCCESS, and latency is the time from sending to it.
    /// An envelope holds --size bytes, and about a kilobyte of headers, certificate and signature;
    /// `envelope_bytes` says how large it is as a whole. A client keeps a stream open and goes
    /// on to the next orderer when one fails; an envelope that none takes is an error. On a BFT
    /// channel, where one orderer's word is not enough, each client sends each envelope to all
    /// orderers and waits until a quorum said SUCCESS, as Fabric's gateway does.
    #[arg(long, conflicts_with_all = ["closed", "gateway", "evaluate", "function", "arguments", "chaincode"])]
    order: bool,
    /// Bytes of the value that each transaction writes, or of the content of an envelope with --order
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    size: u32,
    /// Function to call
    #[arg(long, default_value = "Put")]
    function: String,
    /// Arguments of the function; {key} is unique, {value} has --size bytes [default: {key} {value}]
    #[arg(long = "arg", value_name = "TEXT")]
    arguments: Vec<String>,
    /// Channel, where the file does not say it or says another
    #[arg(long)]
    channel: Option<String>,
    /// Chaincode, where the file does not say it or says another
    #[arg(long)]
    chaincode: Option<String>,
    /// MSP id of the client
    #[arg(long)]
    msp_id: Option<String>,
    /// Certificate of the client (PEM)
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Private key of the client (PEM)
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Count this process too, such as a chaincode that runs as a service
    #[arg(long = "pid", value_name = "NAME=PID", value_parser = named_pid)]
    pids: Vec<(String, u32)>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn named_pid(text: &str) -> Result<(String, u32), String> {
    let (name, pid) = text.split_once('=').ok_or("give it as NAME=PID")?;
    Ok((
        name.into(),
        pid.parse().map_err(|_| format!("{pid} is no process id"))?,
    ))
}

/// Runs a measurement and answers what it found, as text or JSON.
///
/// # Errors
/// When the network's description cannot be used, or the network refuses what a run needs.
/// Refused transactions are no error: they are counted.
pub async fn run(arguments: BenchArgs) -> Result<String, BenchError> {
    let json = arguments.json;
    let report = measure(arguments).await?;
    if json {
        serde_json::to_string(&report).map_err(|e| BenchError::Plan(e.to_string()))
    } else {
        Ok(report.text())
    }
}

async fn measure(arguments: BenchArgs) -> Result<Report, BenchError> {
    let warmup = Duration::from_secs(arguments.warmup.into());
    let pids = arguments.pids.clone();
    let mut run = prepare(arguments).await?;
    let watcher = match run.settings.work {
        Work::Evaluate | Work::Order => None,
        _ => {
            let commits = run.commits.clone();
            let (peer, target) = (&run.plan.peer, &run.target);
            Some(commits::watch(peer, &target.user, &target.channel, commits).await?)
        }
    };
    if !warmup.is_zero() {
        run = warm_up(run, warmup).await?;
    }
    let watched = Watched::find(&ports(&run.plan), &pids);
    // Who reads this may have left.
    let _ = writeln!(
        std::io::stderr(),
        "counting the processor time of: {}",
        watched.names().join(", ")
    );
    let run = Arc::new(run);
    let watch = watched.watch();
    let start = Instant::now();
    run.drive().await;
    drain(&run.commits).await;
    let cpu_us = watch.stop();
    let report = Report::of(counted(&run, start, cpu_us));
    if let Some(watcher) = watcher {
        watcher.abort();
    }
    Ok(report)
}

async fn prepare(arguments: BenchArgs) -> Result<Run, BenchError> {
    let overrides = Overrides {
        channel: arguments.channel,
        chaincode: arguments.chaincode,
        msp_id: arguments.msp_id,
        cert: arguments.cert,
        key: arguments.key,
    };
    let target = match (&arguments.network, &arguments.profile) {
        (Some(file), _) => Target::from_up(file, overrides)?,
        (None, Some(file)) => Target::from_profile(file, overrides)?,
        (None, None) => return Err(BenchError::Plan("give --network or --profile".into())),
    };
    let work = match (arguments.order, arguments.evaluate, arguments.closed) {
        (true, _, _) => Work::Order,
        (_, true, _) => Work::Evaluate,
        (_, _, true) => Work::Closed,
        _ => Work::Open,
    };
    let chaincode = match work {
        Work::Order => None,
        _ => Some(target.chaincode.clone().ok_or_else(no_chaincode)?),
    };
    let own = connections::throwaway_identity(&System)?;
    let plan = Plan::make(&target, chaincode.as_deref(), &own).await?;
    let defaults = || vec!["{key}".into(), "{value}".into()];
    let settings = Settings {
        work,
        gateway: arguments.gateway,
        clients: arguments.clients as usize,
        length: Duration::from_secs(arguments.seconds.into()),
        value_bytes: arguments.size as usize,
        chaincode: chaincode.unwrap_or_default(),
        function: arguments.function,
        arguments: if arguments.arguments.is_empty() {
            defaults()
        } else {
            arguments.arguments
        },
    };
    Ok(Run {
        target,
        plan,
        settings,
        commits: Arc::new(Commits::default()),
        counters: Counters::default(),
        name: format!("bench-{}", hex::encode(random_array::<4>(&System))),
    })
}

fn no_chaincode() -> BenchError {
    BenchError::Plan("the file names no chaincode: give --chaincode".into())
}

/// Loads the network for a while, then forgets what was counted.
async fn warm_up(mut run: Run, length: Duration) -> Result<Run, BenchError> {
    let measured = std::mem::replace(&mut run.settings.length, length);
    let shared = Arc::new(run);
    shared.drive().await;
    drain(&shared.commits).await;
    let mut run = Arc::into_inner(shared)
        .ok_or_else(|| BenchError::Plan("a client of the warm-up did not end".into()))?;
    run.settings.length = measured;
    run.commits.reset();
    run.counters = Counters::default();
    run.name.push('m');
    Ok(run)
}

/// Waits until every ordered transaction was seen, or until none has been seen for [`DRAIN`].
async fn drain(commits: &Commits) {
    let mut left = commits.outstanding();
    let mut since = Instant::now();
    while left > 0 && since.elapsed() < DRAIN {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let now = commits.outstanding();
        if now < left {
            since = Instant::now();
        }
        left = now;
    }
}

fn counted(run: &Run, start: Instant, cpu_us: std::collections::BTreeMap<String, u64>) -> Counted {
    let settings = &run.settings;
    let through = match (settings.work, run.plan.trust) {
        (Work::Order, Trust::Quorum(needed)) => {
            format!(", {needed} of {}", run.plan.orderers.len())
        }
        _ if settings.gateway => ", gateway".into(),
        _ => String::new(),
    };
    let mode = format!("{:?}{through}", settings.work).to_lowercase();
    let mut errors: HashMap<String, u64> = run.counters.errors();
    let (done, latencies_us, gaps) = match settings.work {
        Work::Evaluate | Work::Order => (
            run.counters.answered(),
            run.counters.answer_us(),
            &run.counters.gaps,
        ),
        _ => {
            errors.extend(run.commits.invalid());
            let commits = &run.commits;
            (commits.valid(), commits.latencies_us(), &commits.gaps)
        }
    };
    let length = match settings.work {
        Work::Evaluate => settings.length,
        _ => gaps
            .last()
            .unwrap_or(start)
            .saturating_duration_since(start),
    };
    let lost = run.commits.outstanding() as u64;
    let envelope_bytes = (settings.work == Work::Order).then(|| run.envelope().encoded_len());
    Counted {
        mode,
        clients: settings.clients,
        length,
        done,
        latencies_us,
        longest_gap: gaps.longest(start, start + settings.length),
        envelope_bytes,
        errors,
        lost,
        cpu_us,
    }
}

fn ports(plan: &Plan) -> BTreeSet<u16> {
    let nodes = std::iter::once(&plan.peer)
        .chain(&plan.endorsers)
        .chain(&plan.orderers);
    nodes
        .filter_map(|n| n.address.rsplit(':').next()?.parse().ok())
        .collect()
}

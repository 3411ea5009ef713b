//! The task that drives the engine: what happens, and what the engine is told of it. What the engine
//! answers is carried out in `effects`.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use selvage_channel::ChannelConfig;
use selvage_consensus_bft::FilterJudge;
use selvage_env::random_array;
use selvage_identity::SigningIdentity;
use selvage_ordering::block::consenter_metadata;
use selvage_ordering::filters::Author;
use selvage_ordering::{Engine, Input, Member, Rejection, Submission, Ticket};
use selvage_proto::common::{Block, Envelope, Status};
use selvage_proto::orderer::consensus_type::State;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep};

use super::engines::{Consensus, NotRunning, Running};
use super::fetch::{Fetching, Findings};
use super::journaling::{self, Journaling};
use super::metrics::ConsensusMetrics;
use super::writer::{self, Job, Report};
use super::{Answer, Chain, Part, Relation, Shared, Standing, engines};
use crate::cluster::Ports;
use crate::in_full;

/// Jobs on their way to the writer.
const TO_WRITER: usize = 64;
/// How often a follower looks whether it is a consenter, and a leaderless consenter whether it
/// still is one.
const LOOK: Duration = Duration::from_secs(1);

/// How long nobody may lead a channel in maintenance before this node asks others how things stand.
const MAINTENANCE_SUSPICION: Duration = Duration::from_secs(3);

/// A message that passed the filters.
pub(super) struct Command {
    pub(super) envelope: Envelope,
    pub(super) sequence: u64,
    pub(super) is_config: bool,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// Who this node signs configurations as.
pub(super) fn author<'a>(shared: &Shared, signer: &'a SigningIdentity) -> Author<'a> {
    Author {
        signer,
        nonce: random_array(shared.env.rng.as_ref()),
        unix_seconds: shared.env.clock.unix_seconds(),
    }
}

/// What the driver starts with.
pub(super) struct Beginning {
    pub(super) running: Result<Running, NotRunning>,
    pub(super) newest: Arc<Block>,
    pub(super) last_config: u64,
    pub(super) ports: Option<Ports>,
}

/// Starts the channel's task and writer.
pub(super) fn spawn(chain: Arc<Chain>, commands: mpsc::Receiver<Command>, beginning: Beginning) {
    let (to_writer, decisions) = mpsc::channel(TO_WRITER);
    let (report, reports) = mpsc::channel(TO_WRITER);
    writer::spawn(chain.clone(), decisions, report, beginning.last_config);
    let driver = Driver {
        handed_over: beginning.newest.number(),
        newest: beginning.newest,
        chain,
        role: Role::Following,
        to_writer,
        reports,
        reported: VecDeque::new(),
        journaled: None,
        waiting: HashMap::new(),
        next_ticket: 0,
        timer: None,
        ports: beginning.ports,
        fetching: None,
        fetch_due: false,
        findings: None,
        members: Vec::new(),
        informed: BTreeSet::new(),
        filling: None,
        measures: None,
    };
    tokio::spawn(driver.run(commands, beginning.running));
}

/// What this node does for the channel.
pub(super) enum Role {
    /// It takes part in ordering.
    Consenting(Consenting),
    /// It keeps up with the blocks of the others.
    Following,
    /// Its engine cannot go on; blocks are still served.
    Halted(String),
}

/// An engine with what it needs.
pub(super) struct Consenting {
    pub(super) engine: Box<dyn Engine>,
    pub(super) id: Option<u64>,
    pub(super) consensus: Consensus,
    judge: Option<Arc<FilterJudge>>,
    tick: Option<Interval>,
    pub(super) journaling: Option<Journaling>,
    pub(super) catching_up: Option<u64>,
    pub(super) leaderless: Option<Instant>,
}

impl Consenting {
    /// Ends it, and waits until nothing writes to its journal any more.
    pub(super) async fn end(self) {
        if let Some(journaling) = self.journaling {
            journaling.end().await;
        }
    }
}

pub(super) struct Driver {
    pub(super) chain: Arc<Chain>,
    pub(super) role: Role,
    pub(super) to_writer: mpsc::Sender<Job>,
    pub(super) reports: mpsc::Receiver<Report>,
    /// Reports that came while the writer's queue was full.
    pub(super) reported: VecDeque<Report>,
    /// Likewise of the journal's: the newest.
    pub(super) journaled: Option<u64>,
    pub(super) waiting: HashMap<Ticket, oneshot::Sender<Answer>>,
    next_ticket: u64,
    pub(super) timer: Option<(u64, Pin<Box<Sleep>>)>,
    ports: Option<Ports>,
    pub(super) fetching: Option<Fetching>,
    /// Whether fetching begins when the writer is through.
    fetch_due: bool,
    findings: Option<oneshot::Receiver<Findings>>,
    pub(super) members: Vec<Member>,
    /// The consenters that know who is active, from this node as their leader.
    pub(super) informed: BTreeSet<u64>,
    /// The newest block given to the writer.
    pub(super) handed_over: u64,
    /// The newest block that is durable.
    pub(super) newest: Arc<Block>,
    /// Since when the batch waits that is being gathered.
    pub(super) filling: Option<Instant>,
    /// What is measured while this node takes part.
    pub(super) measures: Option<ConsensusMetrics>,
}

/// Something that happened.
enum Happened {
    Stored(Report),
    Journaled(u64),
    Fired(u64),
    Tick,
    Look,
    Received(u64, Bytes, Bytes),
    Forwarded(Envelope, u64),
    Unreachable(u64),
    Fetched(Block),
    Found(Option<Findings>),
    Asked(Command),
    /// The channel is over.
    End,
}

impl Driver {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        running: Result<Running, NotRunning>,
    ) {
        let mut going = self.begin(running).await;
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while going {
            going = match self.happened(&mut commands, &mut look).await {
                Happened::End => false,
                happened => self.handle(happened).await,
            };
        }
        commands.close();
        let reason = self
            .chain
            .trouble()
            .unwrap_or_else(|| Rejection::Stopped.to_string());
        for (_, reply) in self.waiting.drain() {
            let _ = reply.send((Status::ServiceUnavailable, reason.clone()));
        }
    }

    /// Takes up the role that starting an engine gave. False when the channel is over.
    pub(super) async fn begin(&mut self, running: Result<Running, NotRunning>) -> bool {
        let running = match running {
            Ok(running) => running,
            Err(NotRunning::NotConsenter) => {
                self.follow();
                return true;
            }
            Err(NotRunning::Failed(error)) => {
                self.halt(in_full(&error));
                return true;
            }
        };
        let tick = running.tick.map(|length| {
            let mut interval = tokio::time::interval(length);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        self.measure(running.consensus);
        let timing = self.measures.as_ref().and_then(ConsensusMetrics::persist);
        let journal = running.journal;
        let journaling = journal.map(|j| journaling::spawn(self.chain.clone(), j, timing));
        self.fetching = None;
        self.journaled = None;
        self.role = Role::Consenting(Consenting {
            engine: running.engine,
            id: running.id,
            consensus: running.consensus,
            judge: running.judge,
            tick,
            journaling,
            catching_up: None,
            leaderless: Some(Instant::now()),
        });
        self.chain.stand(Standing::consenting(running.id.is_some()));
        self.carry_out(running.effects).await
    }

    async fn happened(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        look: &mut Interval,
    ) -> Happened {
        if let Some(report) = self.reported.pop_front() {
            return Happened::Stored(report);
        }
        if let Some(sequence) = self.journaled.take() {
            return Happened::Journaled(sequence);
        }
        let consenting = match &mut self.role {
            Role::Consenting(consenting) => Some(consenting),
            _ => None,
        };
        let is_cluster = self.ports.is_some();
        let (mut ticks, mut journal) = (None, None);
        if let Some(consenting) = consenting {
            ticks = consenting.tick.as_mut();
            journal = consenting.journaling.as_mut();
        }
        tokio::select! {
            biased;
            () = self.chain.stop.cancelled() => Happened::End,
            report = self.reports.recv() => match report {
                Some(report) => Happened::Stored(report),
                // The writer is gone: the disk failed.
                None => Happened::End,
            },
            sequence = journaled(journal) => match sequence {
                Some(sequence) => Happened::Journaled(sequence),
                None => Happened::End,
            },
            generation = fire(&mut self.timer) => Happened::Fired(generation),
            () = tick(ticks) => Happened::Tick,
            message = heard(&mut self.ports) => message,
            block = fetched(&mut self.fetching) => Happened::Fetched(block),
            findings = found(&mut self.findings) => Happened::Found(findings),
            _ = look.tick(), if is_cluster => Happened::Look,
            command = commands.recv() => match command {
                Some(command) => Happened::Asked(command),
                None => Happened::End,
            },
        }
    }

    /// Does what has to be done about it. False when the channel is over.
    async fn handle(&mut self, happened: Happened) -> bool {
        match happened {
            Happened::Stored(report) => self.stored(report).await,
            Happened::Journaled(sequence) => self.input(Input::Journaled { sequence }).await,
            Happened::Fired(generation) => self.input(Input::Timer { generation }).await,
            // A leader that can store nothing must not look alive to the others.
            Happened::Tick if self.chain.trouble().is_some() => true,
            Happened::Tick => self.input(Input::Tick).await,
            Happened::Received(from, message, metadata) => {
                self.note_metadata(from, &metadata);
                self.input(Input::Receive { from, message }).await
            }
            Happened::Forwarded(envelope, sequence) => {
                let is_config = super::is_config(&envelope);
                let submission = Submission::new(Ticket(u64::MAX), &envelope, sequence);
                let input = Input::Forwarded {
                    submission,
                    is_config,
                };
                self.input(input).await
            }
            Happened::Unreachable(id) => self.input(Input::Unreachable { id }).await,
            Happened::Fetched(block) => self.keep_fetched(block).await,
            Happened::Found(findings) => {
                self.findings = None;
                match findings {
                    Some(findings) => self.consider(findings).await,
                    None => true,
                }
            }
            Happened::Look => {
                self.look();
                true
            }
            Happened::Asked(command) => match self.admit(command) {
                Some(input) => self.input(input).await,
                None => true,
            },
            Happened::End => false,
        }
    }

    /// Gives an input to the engine, if one runs, and carries out what it answers.
    pub(super) async fn input(&mut self, input: Input) -> bool {
        let Role::Consenting(consenting) = &mut self.role else {
            return true;
        };
        let effects = consenting.engine.step(input);
        self.carry_out(effects).await
    }

    /// Measures this node's part in a consensus from now on.
    fn measure(&mut self, consensus: Consensus) {
        self.end_measuring();
        self.chain.leader.store(0, Ordering::Relaxed);
        self.measures = self.chain.metrics.consenting(consensus);
        if let Some(measures) = &self.measures {
            measures.size(engines::places(&self.chain.config()).len());
            measures.committed(self.newest.number());
        }
    }

    pub(super) fn end_measuring(&mut self) {
        self.filling = None;
        if let Some(measures) = self.measures.take() {
            measures.forget();
        }
    }

    fn admit(&mut self, command: Command) -> Option<Input> {
        let refusal = match &self.role {
            Role::Consenting(_) => None,
            Role::Following => Some(format!(
                "orderer is a follower of channel {}",
                self.chain.id
            )),
            Role::Halted(reason) => Some(reason.clone()),
        };
        if let Some(reason) = refusal {
            let _ = command.reply.send((Status::ServiceUnavailable, reason));
            return None;
        }
        if let Some(measures) = &self.measures {
            measures.received(command.is_config);
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiting.insert(ticket, command.reply);
        let submission = Submission::new(ticket, &command.envelope, command.sequence);
        Some(if command.is_config {
            Input::Configure(submission)
        } else {
            Input::Order(submission)
        })
    }

    /// A block is durable: the engine hears, or the fetching goes on.
    async fn stored(&mut self, report: Report) -> bool {
        let number = report.block.number();
        self.newest = report.block;
        if let Some(measures) = &self.measures {
            measures.committed(number);
        }
        if self.fetch_due && number == self.handed_over {
            self.fetch();
        }
        let Role::Consenting(consenting) = &mut self.role else {
            return self.chain.reached(&self.newest) || self.mismatch();
        };
        if report.parameters.is_some() {
            let config = self.chain.config();
            if Consensus::of(&config) != Some(consenting.consensus) {
                return self.change_engine().await;
            }
            if let Some(measures) = &self.measures {
                measures.size(engines::places(&config).len());
            }
            if let Some(judge) = &consenting.judge {
                judge.set_config(config);
            }
        }
        if !report.fetched {
            let parameters = report.parameters;
            return self.input(Input::Persisted { number, parameters }).await;
        }
        let caught_up = consenting
            .catching_up
            .is_some_and(|through| number >= through);
        let block = self.newest.clone();
        if !caught_up {
            return self.input(Input::Fetched { block }).await;
        }
        consenting.catching_up = None;
        self.fetching = None;
        if !self.input(Input::Fetched { block }).await {
            return false;
        }
        let input = Input::CaughtUp {
            newest: self.newest.header.clone().unwrap_or_default(),
            last_config: self.newest.last_config_index().unwrap_or_default(),
            consenter_metadata: consenter_metadata(&self.newest),
            parameters: engines::parameters(&self.chain.config()),
        };
        self.input(input).await
    }

    /// The blocks fetched are not those that the join block stands on.
    fn mismatch(&mut self) -> bool {
        let number = self.newest.number();
        self.halt(format!(
            "block [{number}] of the channel's orderers is not the block this orderer was told to \
             join with: remove the channel here and join it with a block of the channel"
        ));
        self.fetching = None;
        true
    }

    /// Hands a fetched block on to be stored as it is.
    async fn keep_fetched(&mut self, block: Block) -> bool {
        // An engine that catches up makes the blocks behind the one it asked for itself.
        let limit = match &self.role {
            Role::Consenting(consenting) => consenting.catching_up.unwrap_or(0),
            Role::Following => u64::MAX,
            Role::Halted(_) => 0,
        };
        if block.number() != self.handed_over + 1 || block.number() > limit {
            return true;
        }
        self.handed_over = block.number();
        self.hand_to_writer(Job::Keep(block)).await
    }

    /// Follows the channel from the newest block on.
    pub(super) fn follow(&mut self) {
        self.role = Role::Following;
        self.timer = None;
        self.chain.stand(self.chain.following());
        self.fetch();
    }

    pub(super) fn halt(&mut self, reason: String) {
        tracing::error!(
            channel = self.chain.id,
            "the channel's engine stopped: {reason}"
        );
        *self.chain.trouble.lock() = Some(reason.clone());
        self.end_measuring();
        self.role = Role::Halted(reason);
        self.timer = None;
        self.chain.stand(Standing {
            relation: Relation::Consenter,
            part: Part::Failed,
        });
    }

    /// Begins to fetch blocks behind those that are durable here, once the writer has no others.
    pub(super) fn fetch(&mut self) {
        self.fetching = None;
        self.fetch_due = self.handed_over > self.newest.number();
        if !self.fetch_due {
            self.fetching = Some(Fetching::begin(&self.chain, &self.newest, &self.members));
        }
    }

    /// A follower that the configuration names, and a consenter without leader for long, ask the
    /// others how things stand.
    fn look(&mut self) {
        if self.findings.is_some() {
            return;
        }
        let config = self.chain.config();
        let due = match &self.role {
            Role::Following if !self.chain.onboarded() => false,
            Role::Following => {
                let named = engines::number(&self.chain.shared, &config, &self.newest).is_some();
                if !named {
                    self.chain.stand(self.chain.following());
                }
                named
            }
            Role::Consenting(consenting) => consenting
                .leaderless
                .is_some_and(|since| since.elapsed() > self.suspicion(&config)),
            Role::Halted(_) => false,
        };
        if due {
            self.findings = Some(Findings::ask(&self.chain, &self.members));
        }
    }

    /// How long nobody may lead. In maintenance the others may have changed their consensus.
    fn suspicion(&self, config: &ChannelConfig) -> Duration {
        let suspicion = self.chain.shared.cluster.suspicion;
        match config.orderer().map(|orderer| orderer.consensus_state()) {
            Some(State::Maintenance) => suspicion.min(MAINTENANCE_SUSPICION),
            _ => suspicion,
        }
    }

    /// Weighs what the others have: the newest configuration tells who is a consenter.
    async fn consider(&mut self, findings: Findings) -> bool {
        match &mut self.role {
            Role::Following if findings.height <= self.newest.number() + 1 => {
                let chain = self.chain.clone();
                let config = chain.config();
                let running = engines::start(&chain.id, &chain.shared, &config, &self.newest, true);
                self.begin(running).await
            }
            Role::Consenting(consenting) => {
                // The next look is a while away again.
                consenting.leaderless = Some(Instant::now());
                let Some((config, block)) = findings.newer_than(self.newest.number()) else {
                    return true;
                };
                let number = engines::number(&self.chain.shared, &config, &block);
                let same = Consensus::of(&config) == Some(consenting.consensus);
                if same && number == consenting.id {
                    self.meet(&config, &block);
                    return true;
                }
                let mine = consenting.id;
                let mut members = engines::members(&config, &block).into_iter();
                let renewed = same && members.any(|member| Some(member.id) == mine);
                if renewed && consenting.consensus == Consensus::Raft {
                    tracing::warn!(
                        channel = self.chain.id,
                        "the channel names another TLS certificate for this orderer: following the \
                         channel until it shows that one"
                    );
                    return self.stand_aside().await;
                }
                tracing::warn!(
                    channel = self.chain.id,
                    "this orderer is not the consenter it was: following the channel"
                );
                self.leave(Some(block)).await
            }
            _ => true,
        }
    }

    /// Lets in the consenters of a newer configuration: one of them may lead by now, and its
    /// messages are the only way to learn of it.
    fn meet(&mut self, config: &ChannelConfig, block: &Block) {
        let known: Vec<u64> = self.members.iter().map(|member| member.id).collect();
        let me = engines::number(&self.chain.shared, config, block);
        let new = engines::members(config, block)
            .into_iter()
            .filter(|member| Some(member.id) != me && !known.contains(&member.id));
        self.members.extend(new);
        self.configure_links(config);
    }
}

async fn fire(timer: &mut Option<(u64, Pin<Box<Sleep>>)>) -> u64 {
    match timer {
        Some((generation, sleep)) => {
            sleep.as_mut().await;
            let generation = *generation;
            *timer = None;
            generation
        }
        None => std::future::pending().await,
    }
}

async fn tick(ticks: Option<&mut Interval>) {
    match ticks {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

async fn journaled(journal: Option<&mut Journaling>) -> Option<u64> {
    match journal {
        Some(journaling) => journaling.reports.recv().await,
        None => std::future::pending().await,
    }
}

async fn heard(ports: &mut Option<Ports>) -> Happened {
    let Some(ports) = ports else {
        return std::future::pending().await;
    };
    tokio::select! {
        message = ports.received.recv() => match message {
            Some(message) => {
                Happened::Received(message.from, message.payload, message.metadata)
            },
            None => std::future::pending().await,
        },
        id = ports.unreachable.recv() => Happened::Unreachable(id),
        message = ports.forwarded.recv() => match message {
            Some(message) => Happened::Forwarded(message.envelope, message.sequence),
            None => std::future::pending().await,
        },
    }
}

async fn fetched(fetching: &mut Option<Fetching>) -> Block {
    match fetching {
        Some(fetching) => fetching.next().await,
        None => std::future::pending().await,
    }
}

async fn found(findings: &mut Option<oneshot::Receiver<Findings>>) -> Option<Findings> {
    match findings {
        Some(receiver) => receiver.await.ok(),
        None => std::future::pending().await,
    }
}

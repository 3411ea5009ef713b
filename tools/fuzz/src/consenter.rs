//! One node of a channel's consensus, with a disk in memory, whose other nodes the input plays.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use selvage_channel::names::{CONSENSUS_TYPE, ORDERER, ORDERERS};
use selvage_channel::{CONSENSUS_BFT, CONSENSUS_RAFT};
use selvage_consensus_bft::{self as bft, Bft, BftOptions, Judge, Keys, Verifier};
use selvage_consensus_raft::{self as raft, Raft, RaftOptions, wire};
use selvage_env::SeededRng;
use selvage_ordering::block::{consenter_metadata, set_signatures, signed_value};
use selvage_ordering::{
    BatchLimits, Cutting, Decision, Effect, Engine, Input, JournalWrite, Parameters, Submission,
    Ticket,
};
use selvage_proto::common::{
    Block, BlockData, BlockHeader, ChannelHeader, Config, ConfigEnvelope, ConfigGroup, ConfigValue,
    Consenter as Named, Envelope, Header, HeaderType, Orderers, Payload,
};
use selvage_proto::etcdraft::{ConfigMetadata, Consenter as RaftConsenter, Options};
use selvage_proto::orderer::ConsensusType;

use crate::pick::{Pick, Put};
use crate::world::CHANNEL;

/// Inputs that one input may lead to by what has to be done about it.
const MOST_REPORTS: usize = 2_000;
/// Blocks that can be fetched at once.
const MOST_FETCHED: u64 = 1_000;

/// How the channel comes to its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consensus {
    Raft,
    Bft,
}

/// The engine and its first effects.
type Started = (Box<dyn Engine>, Vec<Effect>);

impl Consensus {
    fn name(self) -> &'static str {
        match self {
            Self::Raft => CONSENSUS_RAFT,
            Self::Bft => CONSENSUS_BFT,
        }
    }

    pub(crate) fn nodes(self) -> u8 {
        match self {
            Self::Raft => 3,
            Self::Bft => 4,
        }
    }

    /// Starts a node's engine, or says why it cannot.
    fn start(
        self,
        id: u8,
        newest: &Block,
        config: &Block,
        records: &[Bytes],
    ) -> Result<Started, Refusal> {
        let parameters =
            parameters(self, config).ok_or(Refusal::Other("no parameters".to_owned()))?;
        match self {
            Self::Raft => start_raft(id, newest, parameters, records),
            Self::Bft => start_bft(id, newest, parameters, records),
        }
    }
}

/// Why an engine does not start.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It is none of this node's channels (any more).
    NotConsenter,
    Other(String),
}

fn certificate(id: u8) -> Bytes {
    Bytes::from(format!("certificate of node {id}"))
}

fn start_raft(
    id: u8,
    newest: &Block,
    parameters: Parameters,
    records: &[Bytes],
) -> Result<Started, Refusal> {
    let start = raft::Start {
        channel_id: CHANNEL,
        newest: &newest.header.clone().unwrap_or_default(),
        consenter_metadata: &consenter_metadata(newest),
        parameters,
        own: &|consenter| consenter.client_tls_cert == certificate(id),
        records,
        joined: false,
        options: RaftOptions {
            cutting: Cutting::default(),
            max_waiting: 50,
            max_waiting_bytes: 1 << 20,
            patience: 100,
        },
        rng: Arc::new(SeededRng::new(id.into())),
    };
    match Raft::start(start) {
        Ok((engine, effects)) => Ok((Box::new(engine), effects)),
        Err(raft::StartError::NotConsenter) => Err(Refusal::NotConsenter),
        Err(error) => Err(Refusal::Other(error.to_string())),
    }
}

fn start_bft(
    id: u8,
    newest: &Block,
    parameters: Parameters,
    records: &[Bytes],
) -> Result<Started, Refusal> {
    let start = bft::Start {
        channel_id: CHANNEL,
        newest,
        parameters,
        records,
        joined: false,
        options: BftOptions {
            tick: Duration::from_millis(100),
            max_waiting: 50,
            max_waiting_bytes: 1 << 20,
            journal_bytes: 2_000,
            ..BftOptions::default()
        },
        keys: Arc::new(Number(id)),
        judge: Arc::new(Anything),
    };
    match Bft::start(start) {
        Ok((engine, effects)) => Ok((Box::new(engine), effects)),
        Err(bft::StartError::NotConsenter) => Err(Refusal::NotConsenter),
        Err(error) => Err(Refusal::Other(error.to_string())),
    }
}

/// Signs anything with its number, so that what a change makes of a message is signed too.
struct Number(u8);

impl Keys for Number {
    fn is_me(&self, consenter: &Named) -> bool {
        consenter.id == u32::from(self.0)
    }

    fn sign(&self, _: &[u8]) -> Vec<u8> {
        vec![self.0; 8]
    }

    fn verifier(&self, consenter: &Named) -> Result<Arc<dyn Verifier>, String> {
        let id = u8::try_from(consenter.id).map_err(|error| error.to_string())?;
        Ok(Arc::new(Self(id)))
    }
}

impl Verifier for Number {
    fn verify(&self, _: &[u8], signature: &[u8]) -> bool {
        signature.first() == Some(&self.0)
    }
}

struct Anything;

impl Judge for Anything {
    fn judge(&self, _: u64, _: &Bytes, _: bool) -> Result<(), String> {
        Ok(())
    }
}

/// A CONFIG message under which these nodes order.
pub(crate) fn config(consensus: Consensus, sequence: u64, nodes: &[u8]) -> Envelope {
    let raft = ConfigMetadata {
        consenters: nodes
            .iter()
            .map(|id| RaftConsenter {
                host: format!("node{id}"),
                port: 7050,
                client_tls_cert: certificate(*id),
                server_tls_cert: certificate(*id),
            })
            .collect(),
        options: Some(Options {
            tick_interval: "100ms".to_owned(),
            election_tick: 10,
            heartbeat_tick: 1,
            max_inflight_blocks: 5,
            // So small that each block makes a snapshot.
            snapshot_interval_size: 1,
        }),
    };
    let named = nodes.iter().map(|id| Named {
        id: (*id).into(),
        host: format!("node{id}"),
        identity: certificate(*id),
        ..Default::default()
    });
    let orderers = Orderers {
        consenter_mapping: named.collect(),
    };
    let consensus = ConsensusType {
        r#type: consensus.name().to_owned(),
        metadata: match consensus {
            Consensus::Raft => raft.encode_to_vec().into(),
            Consensus::Bft => Bytes::new(),
        },
        ..Default::default()
    };
    let value = |value: Vec<u8>| ConfigValue {
        value: value.into(),
        ..Default::default()
    };
    let values = [
        (CONSENSUS_TYPE.to_owned(), value(consensus.encode_to_vec())),
        (ORDERERS.to_owned(), value(orderers.encode_to_vec())),
    ];
    let orderer = ConfigGroup {
        values: values.into(),
        ..Default::default()
    };
    let config = Config {
        sequence,
        channel_group: Some(ConfigGroup {
            groups: [(ORDERER.to_owned(), orderer)].into(),
            ..Default::default()
        }),
    };
    let config = ConfigEnvelope {
        config: Some(config),
        last_update: None,
    };
    envelope(HeaderType::Config, config.encode_to_vec())
}

/// A message of the channel.
pub(crate) fn envelope(kind: HeaderType, data: Vec<u8>) -> Envelope {
    let header = ChannelHeader {
        r#type: kind as i32,
        channel_id: CHANNEL.to_owned(),
        ..Default::default()
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: header.encode_to_vec().into(),
            signature_header: Bytes::new(),
        }),
        data: data.into(),
    };
    Envelope {
        payload: payload.encode_to_vec().into(),
        signature: Bytes::from_static(b"signature"),
    }
}

/// The first block of the channel.
fn genesis(consensus: Consensus) -> Block {
    let nodes: Vec<u8> = (1..=consensus.nodes()).collect();
    let data = BlockData {
        data: vec![config(consensus, 0, &nodes).encode_to_vec().into()],
    };
    Block {
        header: Some(BlockHeader {
            number: 0,
            previous_hash: Bytes::new(),
            data_hash: selvage_channel::block::data_hash(&data).to_vec().into(),
        }),
        data: Some(data),
        metadata: Some(Default::default()),
    }
}

/// What a configuration block puts in force.
fn parameters(consensus: Consensus, block: &Block) -> Option<Parameters> {
    let envelope = selvage_channel::config_transaction(block).ok()?;
    let (_, config) = selvage_channel::open_config(&envelope).ok()?;
    let config = config.config?;
    let values = config.channel_group?.groups.remove(ORDERER)?.values;
    let value = ConsensusType::decode(values.get(CONSENSUS_TYPE)?.value.clone()).ok()?;
    if value.r#type != consensus.name() {
        return None;
    }
    let orderers = Orderers::decode(values.get(ORDERERS)?.value.clone()).ok()?;
    Some(Parameters {
        sequence: config.sequence,
        limits: BatchLimits {
            max_messages: 2,
            preferred_bytes: 10_000,
        },
        timeout: Duration::from_secs(1),
        metadata: value.metadata,
        consenters: orderers.consenter_mapping.into(),
    })
}

/// What a node has come to, for tests of seeds.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    pub(crate) blocks: usize,
    pub(crate) accepted: usize,
    pub(crate) led: bool,
    pub(crate) fetched: usize,
    pub(crate) configured: usize,
    pub(crate) restarts: usize,
    pub(crate) evicted: bool,
    pub(crate) halted: Option<String>,
}

/// A node, and what its driver keeps.
pub(crate) struct Consenter {
    pub(crate) consensus: Consensus,
    pub(crate) id: u8,
    pub(crate) newest: Block,
    /// The newest configuration block.
    pub(crate) config: Block,
    /// Blocks that it wrote or fetched.
    pub(crate) chain: Vec<Block>,
    /// The block that it is catching up to.
    pub(crate) wanted: Option<u64>,
    /// The journal.
    pub(crate) records: Vec<Bytes>,
    pub(crate) engine: Option<Box<dyn Engine>>,
    timer: Option<u64>,
    tickets: u64,
    pub(crate) sent: Vec<(u64, Said)>,
    pub(crate) reached: Reached,
}

/// What one node says to another.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    Message(Bytes),
    Forward(Bytes, bool),
}

/// What happens to a node.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Ticks(u8),
    Hears(u8, Said),
    Order(Bytes, bool),
    Timer,
    Unreachable(u8),
    Restart,
    /// The block that it is catching up to is there.
    Fetched(Bytes),
}

impl Step {
    fn read(pick: &mut Pick<'_>) -> Self {
        let bytes = |pick: &mut Pick<'_>| Bytes::copy_from_slice(pick.piece());
        match pick.byte() % 9 {
            0 => Self::Ticks(pick.byte() % 32),
            1 | 2 => Self::Hears(pick.byte(), Said::Message(bytes(pick))),
            3 => {
                let (from, is_config) = (pick.byte(), pick.byte() % 2 == 1);
                Self::Hears(from, Said::Forward(bytes(pick), is_config))
            }
            4 => {
                let is_config = pick.byte() % 2 == 1;
                Self::Order(bytes(pick), is_config)
            }
            5 => Self::Timer,
            6 => Self::Unreachable(pick.byte()),
            7 => Self::Restart,
            _ => Self::Fetched(bytes(pick)),
        }
    }

    pub(crate) fn write(&self, put: Put) -> Put {
        match self {
            Self::Ticks(count) => put.byte(0).byte(*count),
            Self::Hears(from, Said::Message(message)) => put.byte(1).byte(*from).piece(message),
            Self::Hears(from, Said::Forward(message, is_config)) => put
                .byte(3)
                .byte(*from)
                .byte(u8::from(*is_config))
                .piece(message),
            Self::Order(message, is_config) => {
                put.byte(4).byte(u8::from(*is_config)).piece(message)
            }
            Self::Timer => put.byte(5),
            Self::Unreachable(id) => put.byte(6).byte(*id),
            Self::Restart => put.byte(7),
            Self::Fetched(block) => put.byte(8).piece(block),
        }
    }
}

impl Consenter {
    /// A node of a new channel.
    pub(crate) fn new(consensus: Consensus, id: u8) -> Self {
        let genesis = genesis(consensus);
        let mut node = Self::after(consensus, id, genesis.clone(), genesis, Vec::new());
        node.start().expect("a new channel can be started");
        node
    }

    /// A node with this journal, not started.
    fn after(
        consensus: Consensus,
        id: u8,
        newest: Block,
        config: Block,
        records: Vec<Bytes>,
    ) -> Self {
        Self {
            consensus,
            id,
            newest,
            config,
            chain: Vec::new(),
            wanted: None,
            records,
            engine: None,
            timer: None,
            tickets: 0,
            sent: Vec::new(),
            reached: Reached::default(),
        }
    }

    /// A node from what [`Cluster::disks`] gives, or anything else. Says why it does not start.
    pub(crate) fn recover(consensus: Consensus, pick: &mut Pick<'_>) -> Result<Self, Refusal> {
        let id = 1 + pick.byte() % consensus.nodes();
        let newest = Block::decode(pick.piece()).ok();
        let newest = newest.filter(|block| block.header.is_some());
        let config = Block::decode(pick.piece()).unwrap_or_default();
        let mut records = Vec::new();
        while !pick.is_empty() && records.len() < 200 {
            records.push(Bytes::copy_from_slice(pick.piece()));
        }
        let first = || genesis(consensus);
        let config = match parameters(consensus, &config) {
            Some(_) => config,
            None => first(),
        };
        let newest = newest.unwrap_or_else(first);
        let mut node = Self::after(consensus, id, newest, config, records);
        node.start()?;
        Ok(node)
    }

    fn start(&mut self) -> Result<(), Refusal> {
        let (engine, effects) =
            self.consensus
                .start(self.id, &self.newest, &self.config, &self.records)?;
        self.engine = Some(engine);
        self.timer = None;
        self.wanted = None;
        self.carry_out(effects);
        Ok(())
    }

    /// Lets time pass.
    pub(crate) fn ticks(&mut self, count: u8) {
        self.act(Step::Ticks(count));
    }

    /// Starts again from what is on the disk: a node that could run can always do that.
    pub(crate) fn restart(&mut self) {
        if self.engine.take().is_none() {
            return;
        }
        self.reached.restarts += 1;
        match self.start() {
            Ok(()) => {}
            Err(Refusal::NotConsenter) => self.reached.evicted = true,
            Err(Refusal::Other(why)) => panic!("its own journal stops it: {why}"),
        }
    }

    /// Plays what the rest of an input says.
    pub(crate) fn play(&mut self, pick: &mut Pick<'_>) {
        for _ in 0..400 {
            if pick.is_empty() || self.engine.is_none() {
                return;
            }
            self.act(Step::read(pick));
        }
    }

    pub(crate) fn act(&mut self, step: Step) {
        match step {
            Step::Ticks(count) => (0..count).for_each(|_| self.input(Input::Tick)),
            Step::Hears(from, Said::Message(message)) => {
                let message = match self.consensus {
                    Consensus::Raft => addressed(message, from, self.id),
                    Consensus::Bft => message,
                };
                let from = from.into();
                self.input(Input::Receive { from, message });
            }
            Step::Hears(_, Said::Forward(message, is_config)) => {
                let submission = self.submission(&message);
                self.input(Input::Forwarded {
                    submission,
                    is_config,
                });
            }
            Step::Order(message, is_config) => {
                let submission = self.submission(&message);
                self.input(match is_config {
                    true => Input::Configure(submission),
                    false => Input::Order(submission),
                });
            }
            Step::Timer => {
                if let Some(generation) = self.timer.take() {
                    self.input(Input::Timer { generation });
                }
            }
            Step::Unreachable(id) => self.input(Input::Unreachable { id: id.into() }),
            Step::Restart => self.restart(),
            Step::Fetched(block) => self.fetched(block),
        }
    }

    /// A message that passed the filters: an envelope, with any payload.
    fn submission(&mut self, message: &Bytes) -> Submission {
        let envelope = Envelope::decode(message.clone()).unwrap_or_else(|_| Envelope {
            payload: message.clone(),
            signature: Bytes::new(),
        });
        self.tickets += 1;
        let sequence = self.sequence();
        Submission::new(Ticket(self.tickets), &envelope, sequence)
    }

    fn sequence(&self) -> u64 {
        parameters(self.consensus, &self.config).map_or(0, |p| p.sequence)
    }

    fn input(&mut self, input: Input) {
        if let Some(engine) = &mut self.engine {
            let effects = engine.step(input);
            self.carry_out(effects);
        }
    }

    /// Does what the engine wants, and reports it, until there is nothing more to do.
    fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        let mut reports = VecDeque::new();
        for _ in 0..MOST_REPORTS {
            while let Some(effect) = effects.pop_front() {
                if let Some(report) = self.carry_out_one(effect) {
                    reports.push_back(report);
                }
            }
            let (Some(engine), Some(report)) = (&mut self.engine, reports.pop_front()) else {
                return;
            };
            effects.extend(engine.step(report));
        }
        panic!("one input keeps this node busy for ever");
    }

    fn carry_out_one(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Write(decision) => return Some(self.write(&decision)),
            Effect::Journal(write) => return Some(self.journal(write)),
            Effect::CatchUp { through } => {
                // Nobody has more; whoever claims it is not believed.
                let here = self.newest.number();
                let there = through > here && through - here <= MOST_FETCHED;
                self.wanted = there.then_some(through);
            }
            Effect::Revalidate {
                mut submission,
                is_config,
            } => {
                submission.sequence = self.sequence();
                return Some(match is_config {
                    true => Input::Configure(submission),
                    false => Input::Order(submission),
                });
            }
            Effect::StartTimer { generation, .. } => self.timer = Some(generation),
            Effect::CancelTimer => self.timer = None,
            Effect::Accept(tickets) => self.reached.accepted += tickets.len(),
            Effect::Send { to, message } => self.sent.push((to, Said::Message(message))),
            Effect::Forward {
                to,
                submission,
                is_config,
            } => {
                let said = Said::Forward(submission.envelope, is_config);
                self.sent.push((to, said));
            }
            Effect::Leader(leader) => self.reached.led |= leader == Some(self.id.into()),
            Effect::Evicted => {
                self.reached.evicted = true;
                self.engine = None;
            }
            Effect::Halt(reason) => {
                assert!(!reason.is_empty(), "an end without a reason");
                self.reached.halted = Some(reason);
                self.engine = None;
            }
            Effect::Refuse(..)
            | Effect::Members(_)
            | Effect::Active(_)
            | Effect::Unheard { .. }
            | Effect::BatchBegun
            | Effect::BatchCut
            | Effect::Snapshot { .. } => {}
        }
        None
    }

    fn write(&mut self, decision: &Decision) -> Input {
        let mut block = decision.block.clone();
        let header = block.header.clone().unwrap_or_default();
        assert_eq!(
            header.number,
            self.newest.number() + 1,
            "no block is left out"
        );
        let last_config = match decision.is_config {
            true => header.number,
            false => self.config.number(),
        };
        let value = signed_value(last_config, decision.consenter_metadata.clone());
        set_signatures(&mut block, last_config, value, decision.signatures.clone());
        self.newest = block.clone();
        self.chain.push(block);
        self.reached.blocks += 1;
        let mut now_in_force = None;
        if decision.is_config {
            now_in_force = parameters(self.consensus, &self.newest);
            self.config = self.newest.clone();
            self.reached.configured += 1;
            if now_in_force.is_none() {
                // Another consensus goes on from here.
                self.engine = None;
            }
        }
        Input::Persisted {
            number: header.number,
            parameters: now_in_force,
        }
    }

    fn journal(&mut self, write: JournalWrite) -> Input {
        if write.checkpoint {
            self.records.clear();
        }
        self.records.extend(write.records);
        Input::Journaled {
            sequence: write.sequence,
        }
    }

    /// A block from elsewhere, or one of the right number where it is none.
    fn fetched(&mut self, block: Bytes) {
        let Some(through) = self.wanted.take() else {
            return;
        };
        let block = Block::decode(block).ok();
        let block = block.filter(|block| block.number() == through);
        let block = block.unwrap_or_else(|| block_at(through, consenter_metadata(&self.newest)));
        let parameters = parameters(self.consensus, &block);
        if parameters.is_some() {
            self.config = block.clone();
        }
        self.newest = block.clone();
        self.chain.push(block.clone());
        self.reached.fetched += 1;
        self.input(Input::Fetched {
            block: Arc::new(block.clone()),
        });
        self.input(Input::CaughtUp {
            newest: block.header.clone().unwrap_or_default(),
            last_config: self.config.number(),
            consenter_metadata: consenter_metadata(&block),
            parameters,
        });
    }
}

fn block_at(number: u64, consenter_metadata: Bytes) -> Block {
    let mut block = Block {
        header: Some(BlockHeader {
            number,
            previous_hash: vec![5; 32].into(),
            data_hash: vec![6; 32].into(),
        }),
        data: Some(BlockData::default()),
        metadata: Some(Default::default()),
    };
    let value = signed_value(0, consenter_metadata);
    set_signatures(&mut block, 0, value, Vec::new());
    block
}

/// A Raft message as it comes from this sender: the connection says who it is.
fn addressed(message: Bytes, from: u8, to: u8) -> Bytes {
    match wire::Message::decode(message.clone()) {
        Ok(read) => wire::Message {
            from: from.into(),
            to: to.into(),
            ..read
        }
        .encode_to_vec()
        .into(),
        Err(_) => message,
    }
}

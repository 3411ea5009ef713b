//! Whole clusters in one thread: engines, a network that loses, doubles, delays and reorders,
//! disks that lose what was not synced. Everything follows from one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use selvage_consensus_bft::{Bft, BftOptions, Start};
use selvage_env::{Crash, MemDisk, Rng, SeededRng};
use selvage_ordering::block::{set_signatures, signed_value};
use selvage_ordering::journal::Journal;
use selvage_ordering::{
    Effect, Engine, Input, JournalWrite, Parameters, Refused, Submission, Ticket,
};
use selvage_proto::Message as _;
use selvage_proto::block::header_bytes;
use selvage_proto::common::{Block, Envelope, IdentifierHeader};

use crate::world::{self, World};

const FOLDER: &str = "/journal";
/// Microseconds.
pub(crate) type Time = u64;
pub(crate) const MS: Time = 1000;
pub(crate) const SECOND: Time = 1000 * MS;

/// A stored block and what the engine said about it.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) block: Block,
    pub(crate) metadata: Bytes,
    pub(crate) is_config: bool,
}

enum Event {
    Tick(usize),
    Message {
        to: usize,
        from: u64,
        message: Bytes,
    },
    Forward {
        to: usize,
        envelope: Bytes,
        is_config: bool,
    },
    Timer {
        life: u64,
        generation: u64,
    },
    Kept {
        life: u64,
        write: JournalWrite,
    },
    Written {
        life: u64,
        stored: Stored,
    },
    Fetch {
        life: u64,
        through: u64,
    },
}

/// How a node behaves towards the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    Honest,
    /// Sends nothing.
    Silent,
    /// Sends damaged, random and old messages besides what it should.
    Babbling,
}

pub(crate) struct Node {
    pub(crate) id: u32,
    pub(crate) engine: Option<Bft>,
    pub(crate) blocks: Vec<Stored>,
    /// Whether its chain counts as evidence.
    pub(crate) trusted: bool,
    pub(crate) manner: Manner,
    /// Messages with this text never reach it, from clients or other nodes.
    pub(crate) deaf_to: Option<String>,
    pub(crate) halted: Option<String>,
    pub(crate) evicted: bool,
    /// Messages of other consenters that it refused, by reason.
    pub(crate) refused: BTreeMap<Refused, u64>,
    parameters: Parameters,
    disk: Arc<MemDisk>,
    journal: Option<Journal>,
    life: u64,
    timer: u64,
    io_until: Time,
    joined: bool,
    tickets: BTreeMap<u64, Bytes>,
}

/// What the network does.
#[derive(Clone, Copy)]
pub(crate) struct Weather {
    /// In a thousand.
    pub(crate) loss: u64,
    /// In a thousand.
    pub(crate) doubled: u64,
    pub(crate) max_delay: Time,
}

pub(crate) const CALM: Weather = Weather {
    loss: 0,
    doubled: 0,
    max_delay: MS,
};

pub(crate) struct Cluster {
    pub(crate) world: Box<dyn World>,
    pub(crate) now: Time,
    pub(crate) nodes: Vec<Node>,
    pub(crate) weather: Weather,
    /// Pairs of nodes that do not reach each other.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    /// Whether a message from one node is lost on its way to another.
    pub(crate) lost: fn(usize, usize, &Bytes) -> bool,
    /// The chain as trusted nodes wrote it.
    pub(crate) chain: BTreeMap<u64, Block>,
    pub(crate) submitted: BTreeSet<Bytes>,
    pub(crate) accepted: BTreeMap<Bytes, Time>,
    pub(crate) refused: u64,
    pub(crate) leaders: BTreeMap<usize, u64>,
    rng: SeededRng,
    queue: BTreeMap<(Time, u64), (usize, Event)>,
    events: u64,
    tickets: u64,
    overheard: Vec<Bytes>,
    options: BftOptions,
}

impl Cluster {
    pub(crate) fn new(world: impl World + 'static, seed: u64) -> Self {
        let world: Box<dyn World> = Box::new(world);
        let ids = world.ids();
        let mut cluster = Self {
            world,
            now: 0,
            nodes: Vec::new(),
            weather: CALM,
            cut: BTreeSet::new(),
            lost: |_, _, _| false,
            chain: BTreeMap::new(),
            submitted: BTreeSet::new(),
            accepted: BTreeMap::new(),
            refused: 0,
            leaders: BTreeMap::new(),
            rng: SeededRng::new(seed),
            queue: BTreeMap::new(),
            events: 0,
            tickets: 0,
            overheard: Vec::new(),
            options: BftOptions {
                journal_bytes: 20_000,
                ..BftOptions::default()
            },
        };
        for id in ids {
            cluster.add_node(id, false);
        }
        cluster
    }

    /// Adds a node that starts from the genesis block, or from a copy of the chain.
    pub(crate) fn add_node(&mut self, id: u32, joined: bool) -> usize {
        let genesis = Stored {
            block: self.world.genesis(),
            metadata: Bytes::new(),
            is_config: true,
        };
        let blocks = match joined {
            true => self.nodes[1].blocks.clone(),
            false => vec![genesis],
        };
        let index = self.nodes.len();
        self.nodes.push(Node {
            id,
            engine: None,
            blocks,
            trusted: true,
            manner: Manner::Honest,
            deaf_to: None,
            halted: None,
            evicted: false,
            refused: BTreeMap::new(),
            parameters: self.world.parameters(&self.world.genesis()),
            disk: Arc::new(MemDisk::new()),
            journal: None,
            life: 0,
            timer: 0,
            io_until: 0,
            joined,
            tickets: BTreeMap::new(),
        });
        self.start(index);
        index
    }

    pub(crate) fn dice(&self, below: u64) -> u64 {
        self.rng.next_u64() % below.max(1)
    }

    fn post(&mut self, after: Time, node: usize, event: Event) {
        self.events += 1;
        let at = (self.now + after, self.events);
        self.queue.insert(at, (node, event));
    }

    /// Starts a node from its disk; says why it cannot.
    pub(crate) fn try_start(&mut self, index: usize) -> Result<(), String> {
        let node = &mut self.nodes[index];
        let journal = Journal::open(node.disk.clone(), Path::new(FOLDER));
        let (journal, records) = journal.map_err(|error| error.to_string())?;
        let newest = node.blocks.last().expect("a genesis block");
        let is_config = |stored: &&Stored| stored.is_config;
        let config = node
            .blocks
            .iter()
            .rfind(is_config)
            .expect("a genesis block");
        node.parameters = self.world.parameters(&config.block);
        let started = Bft::start(Start {
            channel_id: world::CHANNEL,
            newest: &newest.block,
            parameters: node.parameters.clone(),
            records: &records,
            joined: node.joined,
            options: self.options,
            keys: self.world.keys(node.id),
            judge: self.world.judge(),
        });
        let (engine, effects) = started.map_err(|error| error.to_string())?;
        node.engine = Some(engine);
        node.journal = Some(journal);
        node.joined = false;
        node.life += 1;
        node.io_until = 0;
        let start = self.dice(20 * MS);
        self.post(start, index, Event::Tick(index));
        self.carry_out(index, effects);
        Ok(())
    }

    pub(crate) fn start(&mut self, index: usize) {
        let started = self.try_start(index);
        started.unwrap_or_else(|error| panic!("node {index}: {error}"));
    }

    pub(crate) fn crash(&mut self, index: usize, how: Crash) {
        let node = &mut self.nodes[index];
        node.engine = None;
        node.journal = None;
        node.life += 1;
        node.disk = Arc::new(node.disk.crash(how));
        // Who waited for an answer does not get one.
        node.tickets.clear();
    }

    pub(crate) fn disk(&self, index: usize) -> &MemDisk {
        &self.nodes[index].disk
    }

    /// Puts another disk under a stopped node.
    pub(crate) fn replace_disk(&mut self, index: usize, disk: MemDisk) {
        self.nodes[index].disk = Arc::new(disk);
    }

    pub(crate) fn is_up(&self, index: usize) -> bool {
        self.nodes[index].engine.is_some()
    }

    /// A client gives a message to a node.
    pub(crate) fn submit(&mut self, index: usize, text: &str) {
        let envelope = self.world.message(text);
        self.submitted.insert(envelope.clone());
        self.order(index, envelope, false);
    }

    pub(crate) fn submit_to_all(&mut self, text: &str) {
        for index in 0..self.nodes.len() {
            self.submit(index, text);
        }
    }

    /// A configuration message arrives at a node.
    pub(crate) fn configure(&mut self, index: usize, envelope: Bytes) {
        self.order(index, envelope, true);
    }

    fn is_deaf_to(&self, index: usize, envelope: &Bytes) -> bool {
        let deaf = self.nodes[index].deaf_to.as_ref();
        deaf.is_some_and(|text| {
            let mut windows = envelope.windows(text.len());
            windows.any(|window| window == text.as_bytes())
        })
    }

    fn order(&mut self, index: usize, envelope: Bytes, is_config: bool) {
        if self.is_deaf_to(index, &envelope) {
            return;
        }
        self.tickets += 1;
        let ticket = self.tickets;
        self.nodes[index].tickets.insert(ticket, envelope.clone());
        let submission = self.submission(index, ticket, &envelope);
        let input = match is_config {
            true => Input::Configure(submission),
            false => Input::Order(submission),
        };
        self.step(index, input);
    }

    fn submission(&self, index: usize, ticket: u64, envelope: &Bytes) -> Submission {
        let decoded = Envelope::decode(envelope.clone()).expect("an envelope");
        let sequence = self.nodes[index].parameters.sequence;
        Submission::new(Ticket(ticket), &decoded, sequence)
    }

    pub(crate) fn step(&mut self, index: usize, input: Input) {
        let Some(engine) = &mut self.nodes[index].engine else {
            return;
        };
        let effects = engine.step(input);
        self.carry_out(index, effects);
    }

    fn io(&mut self, index: usize) -> Time {
        let delay = self.now + 100 + self.dice(3 * MS);
        let node = &mut self.nodes[index];
        node.io_until = node.io_until.max(delay) + 1;
        node.io_until - self.now
    }

    fn carry_out(&mut self, index: usize, effects: Vec<Effect>) {
        let life = self.nodes[index].life;
        for effect in effects {
            match effect {
                Effect::StartTimer { generation, after } => {
                    self.nodes[index].timer = generation;
                    let after = after.as_micros() as Time;
                    self.post(after, index, Event::Timer { life, generation });
                }
                Effect::CancelTimer => self.nodes[index].timer = 0,
                Effect::Journal(write) => {
                    let after = self.io(index);
                    self.post(after, index, Event::Kept { life, write });
                }
                Effect::Write(decision) => {
                    let stored = self.check_decision(index, decision);
                    let after = self.io(index);
                    self.post(after, index, Event::Written { life, stored });
                }
                Effect::Accept(tickets) => {
                    for ticket in tickets {
                        if let Some(envelope) = self.nodes[index].tickets.remove(&ticket.0)
                            && self.nodes[index].trusted
                        {
                            self.accepted.entry(envelope).or_insert(self.now);
                        }
                    }
                }
                Effect::Refuse(ticket, _) => {
                    self.refused += 1;
                    self.nodes[index].tickets.remove(&ticket.0);
                }
                Effect::Revalidate {
                    submission,
                    is_config,
                } => {
                    if !is_config {
                        let again =
                            self.submission(index, submission.ticket.0, &submission.envelope);
                        self.step(index, Input::Order(again));
                    }
                }
                Effect::Send { to, message } => self.send(index, to, message),
                Effect::Forward {
                    to,
                    submission,
                    is_config,
                } => self.forward(index, to, submission.envelope, is_config),
                Effect::CatchUp { through, .. } => {
                    self.post(2 * MS, index, Event::Fetch { life, through });
                }
                Effect::Leader(leader) => {
                    self.leaders.insert(index, leader.unwrap_or(0));
                }
                Effect::Unheard { why, .. } => {
                    *self.nodes[index].refused.entry(why).or_default() += 1;
                }
                Effect::Members(_)
                | Effect::Active(_)
                | Effect::BatchBegun
                | Effect::BatchCut
                | Effect::Snapshot { .. } => {}
                Effect::Evicted => self.nodes[index].evicted = true,
                Effect::Halt(reason) => {
                    assert!(!self.nodes[index].trusted, "node {index}: {reason}");
                    self.nodes[index].halted = Some(reason);
                }
            }
        }
    }

    /// Nodes that a message to a consenter reaches.
    fn targets(&self, from: usize, to: u64) -> Vec<usize> {
        let nodes = self.nodes.iter().enumerate();
        let named = nodes.filter(|(_, node)| u64::from(node.id) == to);
        named
            .map(|(index, _)| index)
            .filter(|index| !self.cut.contains(&(from.min(*index), from.max(*index))))
            .collect()
    }

    fn travel(&mut self) -> Vec<Time> {
        if self.dice(1000) < self.weather.loss {
            return Vec::new();
        }
        let copies = 1 + u64::from(self.dice(1000) < self.weather.doubled);
        (0..copies)
            .map(|_| 50 + self.dice(self.weather.max_delay))
            .collect()
    }

    fn send(&mut self, index: usize, to: u64, message: Bytes) {
        match self.nodes[index].manner {
            Manner::Silent => return,
            Manner::Honest => {}
            Manner::Babbling => {
                let babble = self.babble(&message);
                self.deliver(index, to, babble);
            }
        }
        if self.dice(20) == 0 {
            self.overheard.push(message.clone());
        }
        self.deliver(index, to, message);
    }

    fn deliver(&mut self, index: usize, to: u64, message: Bytes) {
        let from = self.nodes[index].id.into();
        for to in self.targets(index, to) {
            if (self.lost)(index, to, &message) {
                continue;
            }
            for after in self.travel() {
                let message = message.clone();
                self.post(after, to, Event::Message { to, from, message });
            }
        }
    }

    /// Something that should not be said.
    fn babble(&self, message: &Bytes) -> Bytes {
        let mut bytes = message.to_vec();
        match self.dice(4) {
            0 => bytes = (0..self.dice(200)).map(|_| self.dice(256) as u8).collect(),
            1 if !self.overheard.is_empty() => {
                let which = self.dice(self.overheard.len() as u64) as usize;
                return self.overheard[which].clone();
            }
            2 => bytes.truncate(self.dice(bytes.len() as u64) as usize),
            _ => {
                for _ in 0..1 + self.dice(4) {
                    let at = self.dice(bytes.len() as u64) as usize;
                    bytes[at] ^= 1 << self.dice(8);
                }
            }
        }
        bytes.into()
    }

    fn forward(&mut self, index: usize, to: u64, envelope: Bytes, is_config: bool) {
        if self.nodes[index].manner == Manner::Silent {
            return;
        }
        for to in self.targets(index, to) {
            for after in self.travel() {
                let envelope = envelope.clone();
                let event = Event::Forward {
                    to,
                    envelope,
                    is_config,
                };
                self.post(after, to, event);
            }
        }
    }

    /// A decided block is the one that every other node decided, and carries a quorum of good
    /// signatures in Fabric's form.
    fn check_decision(&mut self, index: usize, decision: selvage_ordering::Decision) -> Stored {
        let mut block = decision.block;
        let header = block.header.clone().expect("a header");
        let number = header.number;
        let stored = &self.nodes[index].blocks;
        let newest = stored.last().map(|stored| stored.block.number());
        assert_eq!(newest, Some(number - 1), "node {index} writes out of order");
        let is_config = |stored: &&Stored| stored.is_config;
        let config = stored.iter().rfind(is_config).expect("a genesis block");
        let last_config = match decision.is_config {
            true => number,
            false => config.block.number(),
        };
        let parameters = self.world.parameters(&config.block);
        let value = signed_value(last_config, decision.consenter_metadata.clone());
        let mut signers = BTreeSet::new();
        for signature in &decision.signatures {
            let identifier = IdentifierHeader::decode(signature.identifier_header.clone());
            let identifier = identifier.expect("an identifier header").identifier;
            let mut consenters = parameters.consenters.iter();
            let consenter = consenters
                .find(|c| c.id == identifier)
                .expect("a consenter");
            let message = [
                value.as_ref(),
                signature.identifier_header.as_ref(),
                &header_bytes(&header),
            ]
            .concat();
            let key = self.world.keys(identifier).verifier(consenter);
            let good = key.expect("a key").verify(&message, &signature.signature);
            assert!(good, "signature of {identifier} on block {number}");
            signers.insert(identifier);
        }
        let count = parameters.consenters.len();
        let quorum = (count + (count - 1) / 3 + 1).div_ceil(2);
        assert!(signers.len() >= quorum, "block {number}: {signers:?}");
        set_signatures(&mut block, last_config, value, decision.signatures);
        if self.nodes[index].trusted {
            let known = self.chain.entry(number).or_insert_with(|| block.clone());
            assert_eq!(known.header, block.header, "agreement on block {number}");
            assert_eq!(known.data, block.data, "agreement on block {number}");
        }
        Stored {
            block,
            metadata: decision.consenter_metadata,
            is_config: decision.is_config,
        }
    }

    fn happen(&mut self, index: usize, event: Event) {
        let alive = |life: u64, cluster: &Self| cluster.nodes[index].life == life;
        match event {
            Event::Tick(index) => {
                if self.is_up(index) {
                    self.post(20 * MS, index, Event::Tick(index));
                    self.step(index, Input::Tick);
                }
            }
            Event::Message { to, from, message } => self.step(to, Input::Receive { from, message }),
            Event::Forward {
                to,
                envelope,
                is_config,
            } => {
                if !self.is_deaf_to(to, &envelope) {
                    let submission = self.submission(to, 0, &envelope);
                    let input = Input::Forwarded {
                        submission,
                        is_config,
                    };
                    self.step(to, input);
                }
            }
            Event::Timer { life, generation } => {
                if alive(life, self) && self.nodes[index].timer == generation {
                    self.step(index, Input::Timer { generation });
                }
            }
            Event::Kept { life, write } => {
                if alive(life, self) {
                    let sequence = write.sequence;
                    let journal = self.nodes[index].journal.as_mut().expect("a journal");
                    journal.append(&[write]).expect("room");
                    self.step(index, Input::Journaled { sequence });
                }
            }
            Event::Written { life, stored } => {
                if alive(life, self) {
                    let number = stored.block.number();
                    let parameters = self.store(index, stored);
                    self.step(index, Input::Persisted { number, parameters });
                }
            }
            Event::Fetch { life, through } => {
                if alive(life, self) {
                    self.fetch(index, through);
                }
            }
        }
    }

    fn store(&mut self, index: usize, stored: Stored) -> Option<Parameters> {
        let changed = stored.is_config.then(|| {
            self.world.takes_effect(&stored.block);
            self.world.parameters(&stored.block)
        });
        let node = &mut self.nodes[index];
        node.blocks.push(stored);
        if let Some(parameters) = &changed {
            node.parameters = parameters.clone();
        }
        changed
    }

    fn fetch(&mut self, index: usize, through: u64) {
        let have = self.nodes[index].blocks.len() as u64;
        if have > through {
            // A later request went further.
            return;
        }
        let others = 0..self.nodes.len();
        let mut sources = others.filter(|other| {
            let reaches = !self.cut.contains(&(index.min(*other), index.max(*other)));
            let node = &self.nodes[*other];
            reaches && node.trusted && self.is_up(*other) && node.blocks.len() as u64 > through
        });
        let Some(source) = sources.next() else {
            let life = self.nodes[index].life;
            return self.post(50 * MS, index, Event::Fetch { life, through });
        };
        let blocks = self.nodes[source].blocks[have as usize..=through as usize].to_vec();
        let mut parameters = None;
        for stored in blocks {
            let block = Arc::new(stored.block.clone());
            parameters = self.store(index, stored).or(parameters);
            self.step(index, Input::Fetched { block });
        }
        let node = &self.nodes[index];
        let newest = node.blocks.last().expect("blocks").clone();
        let mut configs = node.blocks.iter().filter(|stored| stored.is_config);
        let last_config = configs
            .next_back()
            .map_or(0, |stored| stored.block.number());
        let input = Input::CaughtUp {
            newest: newest.block.header.expect("a header"),
            last_config,
            consenter_metadata: newest.metadata,
            parameters,
        };
        self.step(index, input);
    }

    /// Loses what is on its way between nodes.
    pub(crate) fn drop_messages(&mut self) {
        let lost = |event: &Event| matches!(event, Event::Message { .. } | Event::Forward { .. });
        self.queue.retain(|_, (_, event)| !lost(event));
    }

    /// Lets time pass.
    pub(crate) fn run_for(&mut self, time: Time) {
        let end = self.now + time;
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), (index, event)) = entry.remove_entry();
            self.now = at;
            self.happen(index, event);
        }
        self.now = end;
    }

    /// Lets time pass until something holds; panics when it does not in time.
    pub(crate) fn run_until(
        &mut self,
        what: &str,
        limit: Time,
        mut holds: impl FnMut(&Self) -> bool,
    ) {
        let end = self.now + limit;
        while !holds(self) {
            assert!(
                self.now < end,
                "{what} within {} s: {}",
                limit / SECOND,
                self.summary()
            );
            self.run_for(5 * MS);
        }
    }

    pub(crate) fn summary(&self) -> String {
        let node = |node: &Node| format!("{} blocks, {:?}", node.blocks.len(), node.engine);
        let nodes: Vec<String> = self.nodes.iter().map(node).collect();
        let (done, all) = (self.accepted.len(), self.submitted.len());
        format!(
            "{done} of {all} accepted, {} refused; {nodes:#?}",
            self.refused
        )
    }

    pub(crate) fn heights(&self) -> Vec<usize> {
        let trusted = self
            .nodes
            .iter()
            .filter(|node| node.trusted && !node.evicted);
        trusted.map(|node| node.blocks.len()).collect()
    }

    /// Whether every message of a client is accepted.
    pub(crate) fn is_accepted(&self) -> bool {
        let mut submitted = self.submitted.iter();
        submitted.all(|envelope| self.accepted.contains_key(envelope))
    }

    /// Whether every message is accepted, and every trusted node has every block.
    pub(crate) fn is_settled(&self) -> bool {
        let newest = self.chain.len() + 1;
        self.is_accepted() && self.heights().iter().all(|h| *h == newest)
    }

    /// How often each submitted message is in the chain.
    pub(crate) fn ordered(&self) -> BTreeMap<Bytes, usize> {
        let mut count = BTreeMap::new();
        for envelope in self.chain.values().flat_map(|block| block.envelopes()) {
            *count.entry(envelope.clone()).or_default() += 1;
        }
        count
    }

    /// Every accepted message is in the chain as it was accepted.
    pub(crate) fn check_accepted(&self) {
        let ordered = self.ordered();
        for envelope in self.accepted.keys() {
            assert!(
                ordered.contains_key(envelope),
                "an accepted message is lost"
            );
        }
        let mut previous = 0;
        for number in self.chain.keys() {
            assert_eq!(*number, previous + 1, "a block is missing");
            previous = *number;
        }
    }

    /// As [`Self::check_accepted`], and nothing is there twice.
    pub(crate) fn check_once(&self) {
        self.check_accepted();
        assert!(
            self.ordered().values().all(|count| *count == 1),
            "ordered twice"
        );
    }
}

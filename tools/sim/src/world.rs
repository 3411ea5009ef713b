//! The simulation itself: events in order of time, and what the orderer's driver would do.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;
use prost::Message as _;
use selvage_ordering::{Effect, Input, JournalWrite, Parameters, Submission, Ticket};
use selvage_proto::common::BlockHeader;

use crate::bugs::Bug;
use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::invariants::{self, Invariant, Seen};
use crate::network::Network;
use crate::node::{Node, complete};
use crate::oracle::{Fate, Oracle};
use crate::scenario::{MS, Scenario};

/// A property that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
    /// When, in simulated microseconds.
    pub at: u64,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Simulated microseconds.
    pub lasted: u64,
    /// A hash over every event: equal for equal seeds.
    pub trace: u64,
    /// Events.
    pub events: u64,
    /// Messages accepted.
    pub accepted: u64,
    /// The highest block.
    pub height: u64,
    /// Crashes.
    pub crashes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Arrive {
        from: usize,
        message: Bytes,
    },
    Forwarded {
        envelope: Bytes,
        size: u32,
        sequence: u64,
        is_config: bool,
    },
    /// A message that was filtered again.
    Again(u64, Bytes, u32),
    Tick,
    Timer(u64),
    JournalWritten,
    JournalSynced,
    BlocksStored,
    Fetch,
    Follow,
    Start,
    Crash,
    Client,
    Split,
    Heal,
    Room,
    Change,
}

#[derive(Debug, PartialEq, Eq)]
struct Scheduled {
    at: u64,
    order: u64,
    node: usize,
    life: u64,
    event: Event,
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A cluster in the middle of a run.
pub struct World<'a> {
    pub(crate) now: u64,
    order: u64,
    events: BinaryHeap<Reverse<Scheduled>>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) dice: Dice,
    pub(crate) network: Network,
    pub(crate) plan: Scenario,
    pub(crate) oracle: Oracle,
    cluster: &'a dyn Cluster,
    first: Parameters,
    invariants: Vec<Box<dyn Invariant>>,
    bug: Option<Bug>,
    failure: Option<Failure>,
    trace: u64,
    count: u64,
    crashes: u64,
    chaos: bool,
}

/// Plays a scenario to its end.
pub fn run(cluster: &dyn Cluster, plan: Scenario, bug: Option<Bug>) -> Result<Outcome, Failure> {
    World::new(cluster, plan, bug).play()
}

/// The event that everybody's events without a node belong to.
const NOBODY: usize = usize::MAX;
/// Blocks that share a write.
const GROUP: usize = 8;

impl<'a> World<'a> {
    fn new(cluster: &'a dyn Cluster, plan: Scenario, bug: Option<Bug>) -> Self {
        let founders: Vec<usize> = (0..plan.nodes).collect();
        // One more node stands ready to be added.
        let spare = usize::from(plan.changes > 0);
        let nodes = (0..plan.nodes + spare).map(|i| Node::new(i, i >= plan.nodes));
        Self {
            now: 0,
            order: 0,
            events: BinaryHeap::new(),
            nodes: nodes.collect(),
            dice: Dice::new(plan.seed),
            network: Network::new(plan.faults),
            plan,
            oracle: Oracle::default(),
            first: cluster.parameters(0, &founders),
            cluster,
            invariants: invariants::all(),
            bug,
            failure: None,
            trace: 0xcbf2_9ce4_8422_2325,
            count: 0,
            crashes: 0,
            chaos: true,
        }
    }

    fn play(mut self) -> Result<Outcome, Failure> {
        for node in 0..self.nodes.len() {
            self.schedule(0, node, Event::Start);
        }
        let plan = self.plan;
        for (pause, event) in [
            (plan.pace, Event::Client),
            (plan.crashes, Event::Crash),
            (plan.splits, Event::Split),
            (plan.changes, Event::Change),
        ] {
            if pause > 0 {
                let after = self.dice.between(pause / 2, pause);
                self.schedule(after, NOBODY, event);
            }
        }
        self.run_until(plan.chaos)?;
        self.heal_everything()?;
        self.recover()?;
        let heights = self.nodes.iter().filter_map(|n| n.up.as_ref());
        Ok(Outcome {
            lasted: self.now,
            trace: self.trace,
            events: self.count,
            accepted: self.oracle.accepted,
            height: heights.map(|up| up.store.height()).max().unwrap_or(0),
            crashes: self.crashes,
        })
    }

    fn run_until(&mut self, until: u64) -> Result<(), Failure> {
        while let Some(Reverse(next)) = self.events.peek()
            && next.at <= until
        {
            let Some(Reverse(next)) = self.events.pop() else {
                break;
            };
            self.now = next.at;
            self.happen(next);
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
        }
        self.now = until;
        Ok(())
    }

    fn schedule(&mut self, after: u64, node: usize, event: Event) {
        self.order += 1;
        let life = self.nodes.get(node).map_or(0, |n| n.life);
        self.events.push(Reverse(Scheduled {
            at: self.now + after,
            order: self.order,
            node,
            life,
            event,
        }));
    }

    fn note(&mut self, value: u64) {
        self.trace = (self.trace ^ value).wrapping_mul(0x0100_0000_01b3);
    }

    fn happen(&mut self, next: Scheduled) {
        let Scheduled {
            node, life, event, ..
        } = next;
        let same_life = self.nodes.get(node).is_none_or(|n| n.life == life);
        let travels = matches!(event, Event::Arrive { .. } | Event::Forwarded { .. });
        if !same_life && !travels {
            return;
        }
        self.count += 1;
        self.note(self.now);
        self.note(node as u64);
        match event {
            Event::Start => self.start(node),
            Event::Tick => self.tick(node),
            Event::Timer(generation) => self.fire(node, generation),
            Event::Arrive { from, message } => self.arrive(node, from, message),
            Event::Forwarded {
                envelope,
                size,
                sequence,
                is_config,
            } => {
                let submission = Submission {
                    ticket: Ticket(u64::MAX),
                    envelope,
                    size,
                    sequence,
                };
                self.input(
                    node,
                    Input::Forwarded {
                        submission,
                        is_config,
                    },
                );
            }
            Event::Again(ticket, envelope, size) => {
                let sequence = self.nodes[node]
                    .up
                    .as_ref()
                    .map(|up| up.parameters.sequence);
                let submission = Submission {
                    ticket: Ticket(ticket),
                    envelope,
                    size,
                    sequence: sequence.unwrap_or_default(),
                };
                self.input(node, Input::Order(submission));
            }
            Event::JournalWritten => self.journal_written(node),
            Event::JournalSynced => self.journal_synced(node),
            Event::BlocksStored => self.blocks_stored(node),
            Event::Fetch => self.fetch(node),
            Event::Follow => self.follow(node),
            Event::Client => self.client(),
            Event::Crash => self.crash_somebody(),
            Event::Split => self.split(),
            Event::Heal => self.network.heal(),
            Event::Room => self.nodes[node].disk.set_fault(None),
            Event::Change => self.change(),
        }
    }

    fn see(&mut self, seen: &Seen<'_>) {
        for invariant in &mut self.invariants {
            if let Err(what) = invariant.see(seen)
                && self.failure.is_none()
            {
                self.failure = Some(Failure {
                    invariant: invariant.name(),
                    what,
                    at: self.now,
                });
            }
        }
    }

    /// Gives an input to a node's engine and carries out what it answers.
    pub(crate) fn input(&mut self, node: usize, input: Input) {
        let Some(engine) = self.engine(node) else {
            return;
        };
        let effects = engine.step(input);
        self.carry_out(node, effects);
    }

    fn engine(&mut self, node: usize) -> Option<&mut Box<dyn selvage_ordering::Engine>> {
        self.nodes.get_mut(node)?.up.as_mut()?.engine.as_mut()
    }

    fn start(&mut self, index: usize) {
        let (cluster, seed) = (self.cluster, self.dice.seed());
        let node = &mut self.nodes[index];
        if node.up.is_some() {
            return;
        }
        let started = node.start(cluster, &self.first, seed);
        let (failed, reported) = (node.failed.clone(), node.reported);
        let Some(effects) = started else {
            self.crash(index);
            return;
        };
        if let Some(reason) = failed {
            let reason = reason.as_str();
            return self.see(&Seen::Halted {
                node: index,
                reason,
            });
        }
        let height = self.nodes[index]
            .up
            .as_ref()
            .map_or(0, |up| up.store.height());
        self.nodes[index].reported = height.max(reported);
        self.see(&Seen::Opened {
            node: index,
            height,
            reported,
        });
        let tick = self.tick_of(index);
        self.schedule(tick, index, Event::Tick);
        self.schedule(MS, index, Event::Follow);
        self.carry_out(index, effects);
    }

    /// Clocks run apart: each node's ticks are a little longer or shorter.
    fn tick_of(&self, node: usize) -> u64 {
        let tick = self.cluster.tick();
        let share = self.plan.drift * node as u64 / self.nodes.len().max(1) as u64;
        tick + tick * share / 1000
    }

    fn tick(&mut self, node: usize) {
        let tick = self.tick_of(node);
        self.schedule(tick, node, Event::Tick);
        self.input(node, Input::Tick);
    }

    fn fire(&mut self, node: usize, generation: u64) {
        let Some(up) = &mut self.nodes[node].up else {
            return;
        };
        if up.timer == Some(generation) {
            up.timer = None;
            self.input(node, Input::Timer { generation });
        }
    }

    fn arrive(&mut self, node: usize, from: usize, message: Bytes) {
        let Some(up) = &self.nodes[node].up else {
            return;
        };
        // Who is no member is not let in.
        let mut members = up.members.iter();
        let Some((id, _)) = members.find(|(_, member)| **member == from) else {
            return;
        };
        let from = *id;
        self.input(node, Input::Receive { from, message });
    }

    pub(crate) fn carry_out(&mut self, node: usize, effects: Vec<Effect>) {
        let effects = match self.bug {
            Some(bug) => bug.corrupt(effects, &self.dice),
            None => effects,
        };
        for effect in effects {
            if self.nodes[node].up.is_none() {
                return;
            }
            self.carry_out_one(node, effect);
        }
    }

    fn carry_out_one(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::StartTimer { generation, after } => {
                let after = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
                if let Some(up) = &mut self.nodes[node].up {
                    up.timer = Some(generation);
                }
                self.schedule(after, node, Event::Timer(generation));
            }
            Effect::CancelTimer => {
                if let Some(up) = &mut self.nodes[node].up {
                    up.timer = None;
                }
            }
            Effect::Write(decision) => {
                if let Some(up) = &mut self.nodes[node].up {
                    up.to_store.push_back(decision);
                }
                self.begin_storing(node);
            }
            Effect::Accept(tickets) => tickets
                .into_iter()
                .for_each(|ticket| self.tell(node, ticket, Fate::Accepted)),
            Effect::Refuse(ticket, _) => self.tell(node, ticket, Fate::Refused),
            Effect::Revalidate {
                submission,
                is_config,
            } => self.revalidate(node, submission, is_config),
            Effect::Send { to, message } => self.send(node, to, message),
            Effect::Forward {
                to,
                submission,
                is_config,
            } => self.forward(node, to, submission, is_config),
            Effect::Journal(write) => {
                if let Some(up) = &mut self.nodes[node].up {
                    up.to_journal.push_back(write);
                }
                self.begin_journaling(node);
            }
            Effect::CatchUp { through } => {
                if let Some(up) = &mut self.nodes[node].up {
                    up.catching_up = Some(through);
                }
                self.schedule(MS, node, Event::Fetch);
            }
            Effect::Members(members) => {
                let number = |host: &str| host.strip_prefix("node")?.parse::<usize>().ok();
                let members = members
                    .iter()
                    .filter_map(|m| Some((m.id, number(&m.host)?)));
                let members = members.collect();
                if let Some(up) = &mut self.nodes[node].up {
                    up.members = members;
                }
            }
            Effect::Leader(leader) => {
                let since = leader.is_none().then_some(self.now);
                if let Some(up) = &mut self.nodes[node].up {
                    up.leaderless = since;
                }
            }
            Effect::Active(_) => {}
            Effect::Evicted => {
                if !self.nodes[node].demote() {
                    self.crash(node);
                }
            }
            Effect::Halt(reason) => {
                if let Some(up) = &mut self.nodes[node].up {
                    up.engine = None;
                }
                self.nodes[node].failed = Some(reason.clone());
                let reason = reason.as_str();
                self.see(&Seen::Halted { node, reason });
            }
        }
    }

    fn tell(&mut self, node: usize, ticket: Ticket, fate: Fate) {
        let up = self.nodes[node].up.as_mut();
        if let Some(bytes) = up.and_then(|up| up.tickets.remove(&ticket)) {
            self.oracle.told(&bytes, fate);
        }
    }

    /// Filters again: every normal message passes, a configuration made for an older one does not.
    fn revalidate(&mut self, node: usize, submission: Submission, is_config: bool) {
        if is_config {
            return self.tell(node, submission.ticket, Fate::Refused);
        }
        // After what else the engine asked for: its effects keep their order.
        let again = Event::Again(submission.ticket.0, submission.envelope, submission.size);
        self.schedule(0, node, again);
    }

    fn member(&self, node: usize, id: u64) -> Option<usize> {
        self.nodes[node].up.as_ref()?.members.get(&id).copied()
    }

    fn send(&mut self, node: usize, to: u64, message: Bytes) {
        self.see(&Seen::Sent {
            from: node,
            message: &message,
        });
        let Some(target) = self.member(node, to) else {
            return;
        };
        for after in self.network.carry(&self.dice, node, target) {
            let message = message.clone();
            self.schedule(
                after,
                target,
                Event::Arrive {
                    from: node,
                    message,
                },
            );
        }
    }

    fn forward(&mut self, node: usize, to: u64, submission: Submission, is_config: bool) {
        let Some(target) = self.member(node, to) else {
            return;
        };
        for after in self.network.carry(&self.dice, node, target) {
            let event = Event::Forwarded {
                envelope: submission.envelope.clone(),
                size: submission.size,
                sequence: submission.sequence,
                is_config,
            };
            self.schedule(after, target, event);
        }
    }

    fn begin_journaling(&mut self, node: usize) {
        let after = self.dice.between(MS / 10, self.plan.disk_delay);
        let Some(up) = &mut self.nodes[node].up else {
            return;
        };
        if up.journaling || up.to_journal.is_empty() {
            return;
        }
        up.journaling = true;
        self.schedule(after, node, Event::JournalWritten);
    }

    /// The records are with the system, and perhaps partly on the disk.
    fn journal_written(&mut self, node: usize) {
        let Some(up) = &mut self.nodes[node].up else {
            return;
        };
        let Some(journal) = &mut up.journal else {
            return;
        };
        let writes: Vec<JournalWrite> = up
            .to_journal
            .iter()
            .map(|write| JournalWrite {
                sync: false,
                ..write.clone()
            })
            .collect();
        match journal.append(&writes) {
            Ok(()) => {
                up.to_journal.clear();
                up.journal_through = writes.last().map_or(0, |write| write.sequence);
                let after = self.dice.between(MS / 10, self.plan.disk_delay);
                self.schedule(after, node, Event::JournalSynced);
            }
            Err(error) if error.is_full() => {
                self.schedule(100 * MS, node, Event::JournalWritten);
            }
            Err(_) => self.crash(node),
        }
    }

    fn journal_synced(&mut self, node: usize) {
        let Some(up) = &mut self.nodes[node].up else {
            return;
        };
        let Some(journal) = &mut up.journal else {
            return;
        };
        let sync = JournalWrite {
            sequence: 0,
            records: Vec::new(),
            checkpoint: false,
            sync: true,
        };
        match journal.append(&[sync]) {
            Ok(()) => {
                let sequence = up.journal_through;
                up.journaling = false;
                self.input(node, Input::Journaled { sequence });
                self.begin_journaling(node);
            }
            Err(error) if error.is_full() => {
                self.schedule(100 * MS, node, Event::JournalSynced);
            }
            Err(_) => self.crash(node),
        }
    }

    fn begin_storing(&mut self, node: usize) {
        let after = self.dice.between(MS / 10, self.plan.disk_delay);
        let Some(up) = &mut self.nodes[node].up else {
            return;
        };
        if up.storing || up.to_store.is_empty() {
            return;
        }
        up.storing = true;
        self.schedule(after, node, Event::BlocksStored);
    }

    fn blocks_stored(&mut self, node: usize) {
        let Some(up) = &mut self.nodes[node].up else {
            return;
        };
        let mut blocks = Vec::new();
        let mut last_config = up.last_config;
        for decision in up.to_store.iter().take(GROUP) {
            if decision.is_config {
                last_config = decision.block.number();
            }
            blocks.push(complete(decision, last_config));
        }
        let encoded: Vec<(BlockHeader, Bytes)> = blocks
            .iter()
            .map(|block| {
                let header = block.header.clone().unwrap_or_default();
                (header, block.encode_to_vec().into())
            })
            .collect();
        if let Err(error) = up.store.append_encoded(&encoded) {
            if error.is_full() && !error.is_fatal() {
                self.schedule(100 * MS, node, Event::BlocksStored);
            } else {
                self.crash(node);
            }
            return;
        }
        up.to_store.drain(..blocks.len());
        up.storing = false;
        for block in blocks {
            self.stored(node, &block);
        }
        self.begin_storing(node);
    }

    fn stored(&mut self, node: usize, block: &selvage_proto::common::Block) {
        let header = block.header.clone().unwrap_or_default();
        self.note(header.number);
        self.see(&Seen::Stored {
            node,
            header: &header,
        });
        let Some(up) = &mut self.nodes[node].up else {
            return;
        };
        let parameters = up.take_over(block);
        self.nodes[node].reported = header.number + 1;
        self.input(
            node,
            Input::Persisted {
                number: header.number,
                parameters,
            },
        );
    }
}

mod chaos;
mod fetching;
mod settling;

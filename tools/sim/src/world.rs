//! The simulation itself: events in order of time, and what the orderer's driver would do.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::AssertUnwindSafe;

use bytes::Bytes;
use selvage_ordering::{Input, Parameters, Submission, Ticket};

use crate::bugs::Bug;
use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::invariants::{self, Invariant, Seen};
use crate::liars::Liar;
use crate::network::Network;
use crate::node::{Node, With};
use crate::oracle::Oracle;
use crate::peer::Peer;
use crate::scenario::{MS, Scenario};

use outcasts::Outcast;

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
    /// What went wrong.
    pub troubles: Troubles,
    /// The most that there ever was of what has bounds.
    pub peaks: Peaks,
}

/// The most that there ever was of what has bounds ([`invariants::Load`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peaks {
    /// Clients that waited at one node.
    pub clients: usize,
    /// Bytes of a journal.
    pub journal: u64,
    /// Writes that waited for one disk.
    pub writes: usize,
    /// Events to come for each node.
    pub on_the_way: usize,
}

/// What went wrong in a run, to see that a simulator does what it says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Troubles {
    /// Nodes that stopped.
    pub crashes: u64,
    /// Splits of the network.
    pub splits: u64,
    /// Journals damaged in the middle.
    pub rotten: u64,
    /// Nodes that lied.
    pub liars: u64,
    /// Changes of the consenters that were stored.
    pub changes: u64,
    /// Blocks fetched from others.
    pub fetched: u64,
    /// Disks that were full for a while.
    pub full: u64,
    /// Consenters that were cut off, taken out, and heard only orderers that lag.
    pub outcasts: u64,
    /// Further copies of messages in the chain.
    pub repeated: u64,
    /// Transactions that peers found invalid.
    pub invalid: u64,
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
    /// There is room again on this slot's disk, whether it runs or not.
    Room(usize),
    Change,
    /// The next step with a consenter that is cut off and taken out.
    Outcast,
    /// Something could not be sent to this consenter.
    Unreachable(u64),
    /// A client's message reaches one more node.
    Submit(Bytes),
    /// Liars think of something else.
    Whim,
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
    /// The first slots are the consenters that there may be; behind them, liars' second halves.
    pub(crate) nodes: Vec<Node>,
    /// The peers beside the nodes, by slot.
    peers: Vec<Peer>,
    /// What happens to peers, so that it changes nothing for the others.
    peer_dice: Dice,
    outcast: Option<Outcast>,
    identities: usize,
    overheard: Vec<Bytes>,
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
    /// A moment, and how many events there were when it began.
    moment: (u64, u64),
    troubles: Troubles,
    peaks: Peaks,
    chaos: bool,
}

/// Plays a scenario to its end. What panics on the way has failed like what breaks an invariant.
pub fn run(cluster: &dyn Cluster, plan: Scenario, bug: Option<Bug>) -> Result<Outcome, Failure> {
    #[cfg(feature = "mistakes")]
    let _making = selvage_ordering::mistakes::Making::begin(bug.and_then(Bug::mistake));
    let play = || World::new(cluster, plan, bug).play();
    std::panic::catch_unwind(AssertUnwindSafe(play)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Failure {
            invariant: "no panic",
            what: text.unwrap_or_default(),
            at: 0,
        })
    })
}

/// The event that everybody's events without a node belong to.
const NOBODY: usize = usize::MAX;
/// More events at one moment than can be.
const AT_A_MOMENT: u64 = 100_000;
/// Blocks that share a write.
const GROUP: usize = 8;

impl<'a> World<'a> {
    fn new(cluster: &'a dyn Cluster, plan: Scenario, bug: Option<Bug>) -> Self {
        let founders: Vec<usize> = (0..plan.nodes).collect();
        let first = cluster.parameters(0, &founders);
        // One more node stands ready to be added.
        let identities = plan.nodes + usize::from(plan.changes > 0);
        let nodes = (0..identities).map(|i| Node::new(i, i >= plan.nodes));
        let mut invariants = invariants::common();
        invariants.extend(cluster.invariants(&first));
        let mut world = Self {
            now: 0,
            order: 0,
            events: BinaryHeap::new(),
            nodes: nodes.collect(),
            peers: Vec::new(),
            peer_dice: Dice::new(plan.seed ^ 0x9ee6),
            outcast: None,
            identities,
            overheard: Vec::new(),
            dice: Dice::new(plan.seed),
            network: Network::new(plan.faults),
            plan,
            oracle: Oracle::default(),
            first,
            cluster,
            invariants,
            bug,
            failure: None,
            trace: 0xcbf2_9ce4_8422_2325,
            count: 0,
            moment: (0, 0),
            troubles: Troubles::default(),
            peaks: Peaks::default(),
            chaos: true,
        };
        world.choose_liars();
        world
    }

    /// Makes liars of some founders, not more than the cluster can bear.
    fn choose_liars(&mut self) {
        let dice = Dice::new(self.plan.seed ^ 0x11a5);
        // A node whose journal is damaged is as good as one that lies.
        let bearable = self.cluster.faulty(self.plan.nodes);
        let most = bearable.saturating_sub(usize::from(self.plan.rot));
        let mut count = most;
        if dice.chance(250) {
            count = dice.below(count as u64) as usize;
        }
        if self.bug == Some(Bug::OneLiarMore) {
            count = most + 1;
        }
        let mut chosen: Vec<usize> = (0..self.plan.nodes).collect();
        while chosen.len() > count {
            chosen.remove(dice.below(chosen.len() as u64) as usize);
        }
        for node in chosen {
            let mut liar = Liar::draw(&dice, self.identities);
            if self.bug == Some(Bug::OneLiarMore) {
                liar = Liar::equivocator(&dice, self.identities);
            }
            self.make_liar(node, liar);
        }
        if self.bug == Some(Bug::RunTwice) && self.nodes[0].liar.is_none() {
            let mut liar = Liar::equivocator(&dice, self.identities);
            liar.honest = true;
            self.make_liar(0, liar);
        }
    }

    fn make_liar(&mut self, node: usize, liar: Liar) {
        self.troubles.liars += 1;
        if let Some(twin) = liar.twin() {
            let mut second = Node::new(self.nodes.len(), self.nodes[node].joined);
            second.identity = node;
            second.liar = Some(twin);
            self.nodes.push(second);
        }
        self.nodes[node].liar = Some(liar);
    }

    fn play(mut self) -> Result<Outcome, Failure> {
        for node in 0..self.nodes.len() {
            self.add_peer(node);
            self.schedule(0, node, Event::Start);
        }
        let plan = self.plan;
        for (pause, event) in [
            (plan.pace, Event::Client),
            (plan.crashes, Event::Crash),
            (plan.splits, Event::Split),
            (plan.changes, Event::Change),
            (self.whims(), Event::Whim),
            (self.outcast_pause(), Event::Outcast),
        ] {
            if pause > 0 {
                let after = self.dice.between(pause / 2, pause);
                self.schedule(after, NOBODY, event);
            }
        }
        self.run_until(plan.chaos)?;
        self.heal_everything()?;
        self.recover()?;
        self.settle()?;
        let heights = self.nodes.iter().filter_map(|n| n.up.as_ref());
        Ok(Outcome {
            lasted: self.now,
            trace: self.trace,
            events: self.count,
            accepted: self.oracle.accepted,
            height: heights.map(|up| up.store.height()).max().unwrap_or(0),
            troubles: self.troubles,
            peaks: self.peaks,
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

    /// Whether something begets itself for ever without time passing.
    fn stands_still(&mut self) -> bool {
        let begun = match self.moment {
            (at, begun) if at == self.now => begun,
            _ => self.count,
        };
        self.moment = (self.now, begun);
        self.count - begun > AT_A_MOMENT
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
        if self.stands_still() {
            return self.watch(&Seen::StandsStill { node });
        }
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
                self.arrive_forwarded(node, submission, is_config);
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
            Event::Room(slot) => self.nodes[slot].fill_disk(None),
            Event::Change => self.change(),
            Event::Outcast => self.cast_out(),
            Event::Unreachable(id) => self.miss(node, id),
            Event::Submit(bytes) => self.submit(node, bytes, false),
            Event::Whim => self.turn_liars(),
        }
    }

    /// Shows the invariants what an honest node did.
    fn see(&mut self, slot: usize, seen: &Seen<'_>) {
        if !self.nodes[slot].lies() {
            self.watch(seen);
        }
    }

    /// Shows the invariants what happened.
    fn watch(&mut self, seen: &Seen<'_>) {
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

    /// An engine refused to start or to go on.
    fn halted(&mut self, slot: usize, reason: &str) {
        let node = &mut self.nodes[slot];
        if node.lies() {
            // It forgets what it said and begins again.
            node.failed = None;
            if let Some(up) = &mut node.up {
                up.engine = None;
                up.journal = None;
            }
            node.forget();
            return self.crash(slot);
        }
        // What a damaged journal has to come to: it says so, and the node stays down.
        if node.spoilt && reason.contains("is corrupt at byte") {
            return;
        }
        self.see(slot, &Seen::Halted { node: slot, reason });
    }

    /// An engine started.
    fn started(&mut self, slot: usize) {
        let Some(up) = &self.nodes[slot].up else {
            return;
        };
        if up.engine.is_none() {
            return;
        }
        let (height, spoilt) = (up.store.height(), self.nodes[slot].spoilt);
        self.see(
            slot,
            &Seen::Started {
                node: slot,
                height,
                spoilt,
            },
        );
    }

    fn with(&self) -> With<'a> {
        With {
            cluster: self.cluster,
            seed: self.dice.seed(),
            bug: self.bug,
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
        let with = self.with();
        let node = &mut self.nodes[index];
        if node.up.is_some() {
            return;
        }
        node.failed = None;
        let started = node.start(&self.first, with);
        let (failed, reported) = (node.failed.clone(), node.reported);
        let Some(effects) = started else {
            self.crash(index);
            return;
        };
        if let Some(reason) = failed {
            return self.halted(index, &reason);
        }
        let height = self.nodes[index]
            .up
            .as_ref()
            .map_or(0, |up| up.store.height());
        self.nodes[index].reported = height.max(reported);
        self.see(
            index,
            &Seen::Opened {
                node: index,
                height,
                reported,
            },
        );
        self.deliver(index);
        self.started(index);
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
}

mod chaos;
mod disk;
mod effects;
mod fetching;
mod messages;
mod outcasts;
mod peers;
mod settling;

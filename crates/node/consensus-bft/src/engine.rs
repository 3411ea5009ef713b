//! The engine: clients' messages in, signed blocks out.
//!
//! One ballot a block number. The next begins when the block before is durable here and there is
//! something to order: this node leads and has a batch, a message has waited too long, or another
//! consenter has begun. So an idle channel is silent but for an occasional word on where each node
//! is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use malachite::Input as Step;
use selvage_ordering::block::{Tip, consenter_metadata};
use selvage_ordering::mistakes::{Mistake, made};
use selvage_ordering::waiting::{Place, Waiting, digest};
use selvage_ordering::{
    Batcher, Effect, Engine, Input, JournalWrite, Member, Parameters, Rejection, Submission,
};
use selvage_proto::Message as _;
use selvage_proto::common::{Block, BlockHeader, BlockMetadataIndex, Metadata};

use crate::ballot::{Ballot, Setting};
use crate::consenters::{number_of, voters_of};
use crate::context::{Chain, Id, Voters};
use crate::judge::Judge;
use crate::keys::Keys;
use crate::options::{BftOptions, Timing};
use crate::peers::Peers;
use crate::recent::Recent;
use crate::signed::Position;
use crate::view::{ViewMetadata, Views};
use crate::wire::{Decided, Record};

/// Messages that go into one block.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) messages: Vec<Submission>,
    pub(crate) is_config: bool,
}

/// Where the journal is, and what waits for it.
#[derive(Debug, Default)]
pub(crate) struct Writing {
    /// The last write begun.
    pub(crate) begun: u64,
    /// The last write begun that has to be durable before anything later leaves.
    pub(crate) promised: u64,
    /// The last write reported.
    pub(crate) done: u64,
    /// Bytes since the last checkpoint.
    pub(crate) bytes: usize,
    /// Effects by the write that they wait for.
    pub(crate) held: VecDeque<(u64, Effect)>,
}

/// What lets others decide the newest block, should they have missed it.
#[derive(Debug)]
pub(crate) struct Proof {
    pub(crate) number: u64,
    pub(crate) since: u64,
    pub(crate) decided: Decided,
}

impl Proof {
    /// From a stored block of this engine. A genesis block, or one of another consensus, proves
    /// nothing to others, and need not.
    pub(crate) fn of(block: &Block, since: u64) -> Option<Self> {
        let slot = block.metadata_slot(BlockMetadataIndex::Signatures);
        let signatures = Metadata::decode(slot).ok()?.signatures;
        let view = ViewMetadata::decode(consenter_metadata(block)).ok()?;
        if signatures.is_empty() || view.latest_sequence != block.number() {
            return None;
        }
        let bare = Block {
            metadata: None,
            ..block.clone()
        };
        Some(Self {
            number: block.number(),
            since,
            decided: Decided {
                height: block.number(),
                round: view.round,
                view: view.view_id,
                block: bare.encode_to_vec().into(),
                signatures,
            },
        })
    }
}

/// The records of one height, read.
pub(crate) type Log = Vec<(Record, Step<Chain>)>;

/// The BFT engine of one channel.
pub struct Bft {
    pub(crate) channel: Arc<str>,
    pub(crate) me: Id,
    pub(crate) keys: Arc<dyn Keys>,
    pub(crate) judge: Arc<dyn Judge>,
    pub(crate) options: BftOptions,
    pub(crate) timing: Timing,
    pub(crate) parameters: Parameters,
    pub(crate) voters: Voters,
    /// The newest block decided.
    pub(crate) tip: Tip,
    pub(crate) last_config: u64,
    pub(crate) views: Views,
    pub(crate) ballot: Option<Ballot>,
    /// Whether the ballot has records in the journal.
    pub(crate) recorded: bool,
    /// Records of heights whose blocks before are missing here.
    pub(crate) logs: BTreeMap<u64, Vec<Record>>,
    /// A decided block that is not durable yet.
    pub(crate) unpersisted: Option<u64>,
    pub(crate) catching_up: Option<u64>,
    pub(crate) waiting: Waiting,
    pub(crate) batcher: Batcher,
    pub(crate) batches: VecDeque<Batch>,
    /// Whether the batcher was told that nothing is under way.
    pub(crate) told_idle: bool,
    pub(crate) leader: Option<Id>,
    /// Whether too few consenters are heard for anything to be decided.
    pub(crate) isolated: bool,
    /// The tick at which the leader became it.
    pub(crate) leader_since: u64,
    /// Messages that everybody was told of, or that came because somebody else waits for them.
    pub(crate) urgent: BTreeMap<Place, u64>,
    pub(crate) recent: Recent,
    pub(crate) peers: Peers,
    pub(crate) proof: Option<Proof>,
    pub(crate) writing: Writing,
    pub(crate) ticks: u64,
    pub(crate) active: Vec<u64>,
    pub(crate) over: bool,
}

impl std::fmt::Debug for Bft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bft")
            .field("id", &self.me.0)
            .field("leader", &self.leader)
            .field("tip", &self.tip)
            .field("round", &self.ballot.as_ref().map(Ballot::round))
            .finish_non_exhaustive()
    }
}

impl Bft {
    /// The consenter's number of this node.
    pub fn id(&self) -> u64 {
        self.me.0.into()
    }

    /// Who leads.
    pub fn leader(&self) -> Option<u64> {
        self.leader.map(|id| id.0.into())
    }

    /// The newest block decided.
    pub fn newest(&self) -> u64 {
        self.tip.number()
    }

    /// The attempts at the next block so far, beyond the first.
    pub fn round(&self) -> u32 {
        let round = self.ballot.as_ref().map(Ballot::round);
        round.and_then(|round| round.as_u32()).unwrap_or(0)
    }

    pub(crate) fn leads(&self) -> bool {
        self.leader == Some(self.me)
    }

    /// The number of the next block.
    pub(crate) fn next(&self) -> u64 {
        self.tip.number() + 1
    }

    /// Whether the next block can be voted on.
    pub(crate) fn ready(&self) -> bool {
        !self.over && self.unpersisted.is_none() && self.catching_up.is_none()
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = Id> + '_ {
        let ids = self.voters.0.iter().map(|voter| voter.id);
        ids.filter(|id| *id != self.me)
    }

    pub(crate) fn new_ballot(&self) -> Ballot {
        let position = Position::behind(
            self.channel.clone(),
            &self.tip,
            self.last_config,
            self.views,
        );
        Ballot::new(Setting {
            position,
            voters: self.voters.clone(),
            me: self.me,
            keys: self.keys.clone(),
            timing: self.timing,
            options: self.options,
            first_view: self.views.first(self.timing.rotate_after),
        })
    }

    /// An effect that may only happen once everything promised before is durable.
    pub(crate) fn emit(&mut self, effect: Effect, out: &mut Vec<Effect>) {
        if self.writing.promised > self.writing.done {
            self.writing.held.push_back((self.writing.promised, effect));
        } else {
            out.push(effect);
        }
    }

    pub(crate) fn journal(
        &mut self,
        records: Vec<Bytes>,
        checkpoint: bool,
        sync: bool,
        out: &mut Vec<Effect>,
    ) {
        let bytes: usize = records.iter().map(Bytes::len).sum();
        self.writing.begun += 1;
        if sync {
            self.writing.promised = self.writing.begun;
        }
        self.writing.bytes = bytes + if checkpoint { 0 } else { self.writing.bytes };
        out.push(Effect::Journal(JournalWrite {
            sequence: self.writing.begun,
            records,
            checkpoint,
            sync,
        }));
    }

    fn journaled(&mut self, sequence: u64, out: &mut Vec<Effect>) {
        self.writing.done = self.writing.done.max(sequence);
        while let Some((waits_for, _)) = self.writing.held.front()
            && *waits_for <= self.writing.done
        {
            out.extend(self.writing.held.pop_front().map(|(_, effect)| effect));
        }
    }

    fn admit(&mut self, submission: Submission, is_config: bool, own: bool, out: &mut Vec<Effect>) {
        let bytes = submission.envelope.len();
        if self.recent.contains(&digest(&submission.envelope)) {
            if own {
                self.emit(Effect::Accept(vec![submission.ticket]), out);
            }
            return;
        }
        let full = self.waiting.len() >= self.options.max_waiting
            || self.waiting.bytes() + bytes > self.options.max_waiting_bytes.max(bytes);
        if full {
            if own {
                out.push(Effect::Refuse(submission.ticket, Rejection::Busy));
            }
            return;
        }
        // The driver may know of a configuration before this engine does: what it let in by that one
        // waits here for it. Sent back, it would come again at once, for ever.
        let early =
            own && submission.sequence > self.parameters.sequence && !made(Mistake::SendBackEarly);
        if submission.sequence != self.parameters.sequence && !early {
            if own {
                out.push(Effect::Revalidate {
                    submission,
                    is_config,
                });
            }
            return;
        }
        // One copy of what others sent is enough while it waits here.
        if !own && self.waiting.holds(&submission.envelope) {
            return;
        }
        let place = self.waiting.add(submission, is_config, own, self.ticks);
        if self.leads() {
            self.take(place, out);
        } else if !own {
            // Its sender has waited for the leader in vain, or takes this node for it.
            self.urgent.insert(place, self.ticks);
        }
    }

    pub(crate) fn halt(&mut self, reason: String, out: &mut Vec<Effect>) {
        self.refuse_all(Rejection::Stopped, out);
        self.writing.held.clear();
        self.over = true;
        out.push(Effect::Halt(reason));
    }

    pub(crate) fn refuse_all(&mut self, why: Rejection, out: &mut Vec<Effect>) {
        let _ = self.batcher.flush(out);
        self.batches.clear();
        self.urgent.clear();
        let held = self.waiting.drain().into_iter().filter(|h| h.own);
        out.extend(held.map(|h| Effect::Refuse(h.submission.ticket, why)));
    }

    fn persisted(&mut self, number: u64, parameters: Option<Parameters>, out: &mut Vec<Effect>) {
        if self.unpersisted.is_some_and(|block| block <= number) {
            self.unpersisted = None;
        }
        if let Some(parameters) = parameters {
            self.adopt(parameters, out);
        }
    }

    /// Takes over a new configuration: its consenters vote on the next block.
    pub(crate) fn adopt(&mut self, parameters: Parameters, out: &mut Vec<Effect>) {
        let voters = match voters_of(&parameters.consenters, self.keys.as_ref()) {
            Ok(voters) => voters,
            Err(error) => return self.halt(format!("the configuration is unusable: {error}"), out),
        };
        self.timing = Timing::of(&parameters.metadata);
        self.parameters = parameters;
        if number_of(&self.parameters.consenters, self.keys.as_ref()) != Some(self.me) {
            self.refuse_all(Rejection::NotConsenter, out);
            self.over = true;
            out.push(Effect::Evicted);
            return;
        }
        self.voters = voters;
        self.peers.retain(&self.voters);
        out.push(self.members());
        self.revalidate(out);
        self.note_leader(out);
    }

    /// What passed the filters under another configuration has to pass them again. What others sent
    /// is theirs to send again.
    fn revalidate(&mut self, out: &mut Vec<Effect>) {
        let sequence = self.parameters.sequence;
        let _ = self.batcher.flush(out);
        self.batches.clear();
        self.told_idle = false;
        let stale = self.waiting.iter();
        let stale = stale.filter(|(_, held)| held.submission.sequence != sequence);
        let stale: Vec<Place> = stale.map(|(place, _)| place).collect();
        for place in stale {
            self.urgent.remove(&place);
            let held = self.waiting.remove(place).filter(|held| held.own);
            out.extend(held.map(|held| Effect::Revalidate {
                submission: held.submission,
                is_config: held.is_config,
            }));
        }
        self.waiting.unplace_all();
        self.take_all(out);
    }

    pub(crate) fn members(&self) -> Effect {
        let consenters = self.parameters.consenters.iter();
        let others = consenters.filter(|consenter| Id(consenter.id) != self.me);
        Effect::Members(others.map(Member::from).collect())
    }

    /// Notices whose turn it is.
    pub(crate) fn note_leader(&mut self, out: &mut Vec<Effect>) {
        let view = self.views.first(self.timing.rotate_after);
        let leader = match &self.ballot {
            Some(ballot) => ballot.proposer(),
            None => self.voters.leader(view).id,
        };
        if self.leader == Some(leader) || self.over {
            return;
        }
        tracing::info!(
            "Changing leader: {} -> {leader} channel={}",
            self.leader.map_or(0, |id| id.0),
            self.channel
        );
        self.leader = Some(leader);
        self.leader_since = self.ticks;
        if !self.isolated {
            out.push(Effect::Leader(Some(leader.0.into())));
        }
        // What the last leader gathered, this node or another, goes to the new one.
        let _ = self.batcher.flush(out);
        self.batches.clear();
        self.told_idle = false;
        self.waiting.unplace_all();
        self.take_all(out);
    }

    fn fetched(&mut self, block: &Block, out: &mut Vec<Effect>) {
        let done = self.acknowledge(block.envelopes());
        self.proof = Proof::of(block, self.ticks);
        if !done.is_empty() {
            out.push(Effect::Accept(done));
        }
    }

    fn caught_up(
        &mut self,
        newest: &BlockHeader,
        last_config: u64,
        metadata: &Bytes,
        parameters: Option<Parameters>,
        out: &mut Vec<Effect>,
    ) {
        self.catching_up = None;
        if newest.number > self.tip.number() {
            self.tip = Tip::after(newest);
            self.last_config = last_config;
            self.views = Views::after(newest.number, metadata);
            self.ballot = None;
            self.recorded = false;
            self.logs.retain(|height, _| *height > newest.number);
        }
        if let Some(parameters) = parameters {
            self.adopt(parameters, out);
        }
        self.note_leader(out);
    }

    fn dispatch(&mut self, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Order(submission) => self.admit(submission, false, true, out),
            Input::Configure(submission) => self.admit(submission, true, true, out),
            Input::Forwarded {
                submission,
                is_config,
            } => self.admit(submission, is_config, false, out),
            Input::Timer { generation } => self.timer(generation, out),
            Input::Persisted { number, parameters } => self.persisted(number, parameters, out),
            Input::Journaled { sequence } => self.journaled(sequence, out),
            Input::Fetched { block } => self.fetched(&block, out),
            Input::CaughtUp {
                newest,
                last_config,
                consenter_metadata,
                parameters,
            } => self.caught_up(&newest, last_config, &consenter_metadata, parameters, out),
            Input::Unreachable { .. } => {}
            Input::Tick => self.tick(out),
            Input::Receive { from, message } => self.receive(from, message, out),
        }
    }
}

impl Engine for Bft {
    fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        if !self.over {
            self.dispatch(input, &mut out);
            self.advance(&mut out);
            return out;
        }
        match input {
            Input::Order(submission) | Input::Configure(submission) => {
                out.push(Effect::Refuse(submission.ticket, Rejection::Stopped));
            }
            // What was decided before the end still becomes a block.
            Input::Journaled { sequence } => self.journaled(sequence, &mut out),
            _ => {}
        }
        out
    }

    fn stop(&mut self) -> Vec<Effect> {
        let mut out = Vec::new();
        self.refuse_all(Rejection::Stopped, &mut out);
        self.over = true;
        out
    }
}

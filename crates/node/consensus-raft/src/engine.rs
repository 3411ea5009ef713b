//! The engine: clients' messages in, blocks out, with the `raft` crate's state machine between.
//!
//! Only the leader makes blocks. It gathers messages, links each block to the one it proposed before
//! and proposes it as one log entry; a committed entry is written by every node. A new leader first
//! applies everything it finds in its log, so that its blocks follow those of its predecessor.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::{self, ConfState};
use raft::{RawNode, StateRole};
use selvage_env::Rng;
use selvage_ordering::block::Tip;
use selvage_ordering::mistakes::{Mistake, made};
use selvage_ordering::{
    Batcher, Cutting, Effect, Engine, Input, Member, Parameters, Rejection, Submission,
};
use selvage_proto::common::BlockHeader;

use crate::guard;
use crate::log::Log;
use crate::membership::Membership;
use crate::start::Campaign;
use selvage_ordering::waiting::{Place, Waiting};

/// Options of the Raft engine that are not the channel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaftOptions {
    /// When to cut.
    pub cutting: Cutting,
    /// Messages that may wait, beyond which new ones are refused.
    pub max_waiting: usize,
    /// Bytes of messages that may wait, beyond which new ones are refused.
    pub max_waiting_bytes: usize,
    /// Ticks that a message may wait for a leader and a block.
    pub patience: u64,
}

impl Default for RaftOptions {
    fn default() -> Self {
        Self {
            cutting: Cutting::default(),
            max_waiting: 20_000,
            max_waiting_bytes: 64 << 20,
            patience: 150,
        }
    }
}

/// The largest sum of entries in one message to a follower, as Fabric sets it.
pub(crate) const MAX_MESSAGE_BYTES: u64 = 1 << 20;
/// Entries kept behind a snapshot for followers that are a little behind.
pub(crate) const KEPT_BEHIND_SNAPSHOT: u64 = 4;

/// A `Ready` whose records are on their way to the disk.
#[derive(Debug)]
pub(crate) struct Unpersisted {
    pub(crate) sequence: u64,
    pub(crate) number: u64,
    /// The snapshot among the records.
    pub(crate) snapshot: Option<u64>,
    /// What may be sent once they are durable.
    pub(crate) messages: Vec<eraftpb::Message>,
}

/// What a leader is busy with.
#[derive(Debug)]
pub(crate) struct Leading {
    /// The last block proposed; `None` until everything in the log at election is applied.
    pub(crate) proposed: Option<Tip>,
    /// The log's end at election or at the last failed proposal.
    pub(crate) serve_from: u64,
    /// Blocks proposed and not applied.
    pub(crate) in_flight: u64,
    /// Finished batches that wait for room among them.
    pub(crate) batches: VecDeque<Vec<Submission>>,
    /// Where the last change of membership was proposed.
    pub(crate) conf_proposed_at: u64,
    /// Whether leadership is being handed to somebody else.
    pub(crate) abdicating: bool,
    /// Whether a configuration is among what was proposed or waits for room.
    pub(crate) config_in_flight: bool,
}

/// The Raft engine of one channel.
pub struct Raft {
    pub(crate) id: u64,
    pub(crate) node: RawNode<Log>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) options: RaftOptions,
    pub(crate) election_tick: usize,
    pub(crate) max_in_flight: u64,
    pub(crate) snapshot_interval: u64,
    pub(crate) parameters: Parameters,
    pub(crate) membership: Membership,
    pub(crate) voters: ConfState,
    /// Consenters that a configuration left out, with the tick from which nobody needs to speak with
    /// them: they vote until the log says otherwise, and have to hear that it does.
    pub(crate) leaving: Vec<(Member, Option<u64>)>,
    /// The newest block handed out for writing.
    pub(crate) tip: Tip,
    pub(crate) batcher: Batcher,
    pub(crate) waiting: Waiting,
    pub(crate) leader: u64,
    pub(crate) leading: Option<Leading>,
    /// A configuration block that was handed out for writing and is not in force yet.
    pub(crate) config_block: Option<u64>,
    pub(crate) to_apply: VecDeque<eraftpb::Entry>,
    pub(crate) applied: u64,
    pub(crate) catching_up: Option<u64>,
    pub(crate) since_snapshot: u64,
    pub(crate) journaled: u64,
    pub(crate) unpersisted: VecDeque<Unpersisted>,
    pub(crate) ticks: u64,
    pub(crate) campaign: Option<Campaign>,
    pub(crate) active: Vec<u64>,
    /// Whether what other nodes sent here goes on to the next leader.
    pub(crate) handing_on: bool,
    /// The tick in which each consenter was last heard.
    pub(crate) heard_of: BTreeMap<u64, u64>,
    /// The tick in which the leader was last heard.
    pub(crate) heard: u64,
    /// Whether the leader has been silent for long. Raft itself notices only where this node votes.
    pub(crate) silent: bool,
    /// Role and term after the last input; a new election timeout is drawn when they change.
    pub(crate) last_role: (StateRole, u64),
    pub(crate) over: bool,
}

impl std::fmt::Debug for Raft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Raft")
            .field("id", &self.id)
            .field("leader", &self.leader)
            .field("tip", &self.tip)
            .finish_non_exhaustive()
    }
}

impl Raft {
    /// The consenter's number of this node.
    pub fn id(&self) -> u64 {
        self.id
    }

    fn admit(&mut self, submission: Submission, is_config: bool, own: bool, out: &mut Vec<Effect>) {
        let bytes = submission.envelope.len();
        let full = self.waiting.len() >= self.options.max_waiting
            || self.waiting.bytes() + bytes > self.options.max_waiting_bytes.max(bytes);
        if full {
            if own {
                out.push(Effect::Refuse(submission.ticket, Rejection::Busy));
            }
            return;
        }
        // A follower may send a message a second time; one copy is enough while it waits here.
        if !own && self.waiting.holds(&submission.envelope) {
            return;
        }
        let place = self.waiting.add(submission, is_config, own, self.ticks);
        self.place(place, out);
    }

    /// Gives a waiting message to whoever leads; it stays where it is while nobody does.
    pub(crate) fn place(&mut self, place: Place, out: &mut Vec<Effect>) {
        if self.leading.is_some() {
            self.take(place, out);
            return;
        }
        let ticks = self.ticks;
        let leader = self.leader;
        // What other nodes sent here goes no further: they send it to the right one themselves. But
        // where this node stepped down on purpose they may not: Fabric's never send twice.
        let hand_on = self.handing_on;
        let Some(held) = self.waiting.get_mut(place) else {
            return;
        };
        if leader == 0 || !(held.own || hand_on) {
            return;
        }
        held.placed = Some(ticks);
        let own = held.own;
        out.push(Effect::Forward {
            to: leader,
            submission: held.submission.clone(),
            is_config: held.is_config,
        });
        if !own {
            self.waiting.remove(place);
        }
    }

    /// Places everything that has no place yet.
    pub(crate) fn place_all(&mut self, out: &mut Vec<Effect>) {
        for place in self.waiting.unplaced() {
            self.place(place, out);
        }
        self.handing_on &= self.leader == 0;
    }

    /// Orders a message as the leader, or leaves it for later.
    fn take(&mut self, place: Place, out: &mut Vec<Effect>) {
        if !self.serving() {
            return;
        }
        let (ticks, sequence) = (self.ticks, self.parameters.sequence);
        let Some(held) = self.waiting.get_mut(place) else {
            return;
        };
        if held.submission.sequence != sequence {
            let held = self.waiting.remove(place);
            out.extend(held.map(|held| Effect::Revalidate {
                submission: held.submission,
                is_config: held.is_config,
            }));
            return;
        }
        held.placed = Some(ticks);
        let (submission, is_config) = (held.submission.clone(), held.is_config);
        if is_config {
            self.take_config(place, submission, out);
            return;
        }
        let idle = self.idle();
        let batches = self.batcher.add(submission, &self.parameters, idle, out);
        self.propose_batches(batches);
    }

    /// Whether the leader takes messages: it has applied what it found, and no configuration is on
    /// its way.
    fn serving(&self) -> bool {
        self.config_block.is_none()
            && self.settled()
            && self
                .leading
                .as_ref()
                .is_some_and(|l| l.proposed.is_some() && !l.abdicating && !l.config_in_flight)
    }

    /// Whether Raft's voters are those that the configuration names.
    pub(crate) fn settled(&self) -> bool {
        let mut ids = self.membership.metadata.consenter_ids.clone();
        let mut voters = self.voters.voters.clone();
        ids.sort_unstable();
        voters.sort_unstable();
        ids == voters
    }

    fn idle(&self) -> bool {
        self.leading
            .as_ref()
            .is_some_and(|l| l.in_flight == 0 && l.batches.is_empty())
    }

    /// Whether a snapshot is on its way to the disk. Until it is there, Raft must not call an
    /// election: it would look for entries that the snapshot replaced.
    pub(crate) fn restoring(&self) -> bool {
        !made(Mistake::ElectWhileRestoring) && self.unpersisted.iter().any(|u| u.snapshot.is_some())
    }

    fn tick(&mut self, out: &mut Vec<Effect>) {
        self.ticks += 1;
        self.note_active(out);
        if !self.restoring() {
            self.node.tick();
        }
        if let Some(campaign) = &mut self.campaign
            && campaign.due()
        {
            // Refused while another election runs or a membership change is unapplied.
            let _ = self.node.campaign();
        }
        let give_up = self.ticks.saturating_sub(self.options.patience);
        if self.ticks > self.options.patience {
            let reason = match self.leader {
                0 => Rejection::NoLeader,
                _ => Rejection::TimedOut,
            };
            let expired = self.waiting.expired(give_up).into_iter().filter(|h| h.own);
            out.extend(expired.map(|held| Effect::Refuse(held.submission.ticket, reason)));
        }
        self.end_abdication();
        self.see_off(out);
        self.note_silence(out);
        self.place_lost(out);
        self.place_all(out);
    }

    /// Says that nobody leads when the leader has been silent for several election timeouts.
    fn note_silence(&mut self, out: &mut Vec<Effect>) {
        let long = 3 * self.election_tick as u64;
        if made(Mistake::MissSilence) {
            return;
        }
        let silent = self.leading.is_none() && self.ticks - self.heard > long;
        if silent && !self.silent {
            self.silent = true;
            out.push(Effect::Leader(None));
        }
    }

    fn hear(&mut self, from: u64, out: &mut Vec<Effect>) {
        if from != self.leader {
            return;
        }
        self.heard = self.ticks;
        if std::mem::take(&mut self.silent) {
            out.push(Effect::Leader(Some(from)));
        }
    }

    /// Leads on when the successor did not take over: Raft gives it one election timeout.
    fn end_abdication(&mut self) {
        if self.node.raft.lead_transferee.is_none()
            && !made(Mistake::TrustSuccessor)
            && let Some(leading) = &mut self.leading
        {
            leading.abdicating = false;
        }
    }

    /// Filters and sends again what a leader has had for long without a block: it was lost on the
    /// way, or a new configuration forbids it.
    fn place_lost(&mut self, out: &mut Vec<Effect>) {
        let long = 3 * self.election_tick as u64;
        if self.leading.is_some() || self.ticks <= long {
            return;
        }
        for place in self.waiting.placed_until(self.ticks - long) {
            let held = self.waiting.remove(place);
            out.extend(held.filter(|h| h.own).map(|held| Effect::Revalidate {
                submission: held.submission,
                is_config: held.is_config,
            }));
        }
    }

    /// Tells which consenters the leader has heard within the last election timeout.
    fn note_active(&mut self, out: &mut Vec<Effect>) {
        let mut active = Vec::new();
        if self.leading.is_some() {
            let since = self.ticks.saturating_sub(self.election_tick as u64);
            let heard = |id: u64| self.heard_of.get(&id).is_some_and(|tick| *tick >= since);
            let voters = self.voters.voters.iter().copied();
            active.extend(voters.filter(|id| *id == self.id || heard(*id)));
            active.sort_unstable();
        }
        if active != self.active {
            self.active = active.clone();
            out.push(Effect::Active(active));
        }
    }

    fn receive(&mut self, from: u64, message: Bytes, out: &mut Vec<Effect>) {
        match guard::check(&self.node, self.id, from, message) {
            Ok(message)
                if message.get_msg_type() == eraftpb::MessageType::MsgTimeoutNow
                    && self.restoring() =>
            {
                tracing::debug!(from, "no candidate before the snapshot is stored");
            }
            Ok(message) => {
                self.heard_of.insert(from, self.ticks);
                if let Err(error) = self.node.step(message) {
                    tracing::debug!(from, %error, "a Raft message has no effect");
                }
                if made(Mistake::CommitUnsorted) {
                    self.commit_unsorted();
                }
                self.hear(from, out);
            }
            Err(guard::Verdict::Ignore(why, detail)) => {
                out.push(Effect::Unheard { from, why, detail });
            }
            Err(guard::Verdict::Halt(_)) if made(Mistake::CommitUnsorted) => {}
            Err(guard::Verdict::Halt(reason)) => self.halt(reason, out),
        }
    }

    /// See [`Mistake::CommitUnsorted`]: what is in the middle of a list in order is what a quorum
    /// has; in one without, it is what somebody has.
    fn commit_unsorted(&mut self) {
        let raft = &mut self.node.raft;
        if raft.state != StateRole::Leader {
            return;
        }
        let voters = self.voters.voters.iter();
        let places: Vec<u64> = voters
            .filter_map(|id| raft.prs().get(*id).map(|progress| progress.matched))
            .collect();
        let term = raft.term;
        if let Some(place) = places.get(places.len() / 2) {
            raft.raft_log.maybe_commit(*place, term);
        }
    }

    pub(crate) fn halt(&mut self, reason: String, out: &mut Vec<Effect>) {
        self.refuse_all(Rejection::Stopped, out);
        self.over = true;
        out.push(Effect::Halt(reason));
    }

    pub(crate) fn refuse_all(&mut self, why: Rejection, out: &mut Vec<Effect>) {
        let _ = self.batcher.flush(out);
        let held = self.waiting.drain().into_iter().filter(|h| h.own);
        out.extend(held.map(|h| Effect::Refuse(h.submission.ticket, why)));
    }

    fn persisted(&mut self, number: u64, parameters: Option<Parameters>, out: &mut Vec<Effect>) {
        if let Some(parameters) = parameters {
            self.adopt(parameters);
        }
        if self.config_block.is_some_and(|block| block <= number) {
            self.config_block = None;
            self.place_all(out);
        }
    }

    /// Takes over a new configuration's settings.
    pub(crate) fn adopt(&mut self, parameters: Parameters) {
        if let Ok(config) = crate::membership::config_metadata(&parameters.metadata)
            && let Some(options) = config.options
        {
            self.max_in_flight = u64::from(options.max_inflight_blocks);
            self.snapshot_interval = u64::from(options.snapshot_interval_size);
        }
        self.parameters = parameters;
    }

    pub(crate) fn members(&self) -> Effect {
        let mut members = self.membership.members();
        members.extend(self.leaving.iter().map(|(member, _)| member.clone()));
        members.retain(|member| member.id != self.id);
        Effect::Members(members)
    }

    /// Ends speaking with those who left a while ago.
    fn see_off(&mut self, out: &mut Vec<Effect>) {
        let (count, now) = (self.leaving.len(), self.ticks);
        self.leaving
            .retain(|(_, until)| until.is_none_or(|until| until > now));
        if self.leaving.len() < count {
            out.push(self.members());
        }
    }

    /// Draws a new election timeout from this engine's own chance whenever Raft has drawn one.
    fn renew_timeout(&mut self) {
        let role = (self.node.raft.state, self.node.raft.term);
        if role != self.last_role {
            self.last_role = role;
            self.draw_timeout();
        }
    }

    pub(crate) fn draw_timeout(&mut self) {
        let chance = self.rng.next_u64() as usize % self.election_tick;
        let raft = &mut self.node.raft;
        raft.set_randomized_election_timeout(self.election_tick + chance);
    }

    fn caught_up(
        &mut self,
        newest: &BlockHeader,
        metadata: &Bytes,
        parameters: Option<Parameters>,
        out: &mut Vec<Effect>,
    ) {
        self.catching_up = None;
        if let Some(parameters) = parameters {
            self.adopt(parameters);
        }
        let config = crate::membership::config_metadata(&self.parameters.metadata);
        match config.and_then(|config| Membership::at(metadata, &config)) {
            Ok(membership) => self.membership = membership,
            Err(error) => {
                let reason = format!("the blocks fetched name no usable consenters: {error}");
                return self.halt(reason, out);
            }
        }
        self.tip = Tip::after(newest);
        out.push(self.members());
        self.apply_more(out);
    }
}

impl Engine for Raft {
    fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        if self.over {
            if let Input::Order(submission) | Input::Configure(submission) = input {
                out.push(Effect::Refuse(submission.ticket, Rejection::Stopped));
            }
            return out;
        }
        match input {
            Input::Order(submission) => self.admit(submission, false, true, &mut out),
            Input::Configure(submission) => self.admit(submission, true, true, &mut out),
            Input::Forwarded {
                submission,
                is_config,
            } => self.admit(submission, is_config, false, &mut out),
            Input::Timer { generation } => {
                let batch = self.batcher.fired(generation, &mut out);
                self.propose_batches(batch.into_iter().collect());
            }
            Input::Persisted { number, parameters } => {
                self.persisted(number, parameters, &mut out);
            }
            Input::Journaled { sequence } => self.journaled(sequence, &mut out),
            Input::Fetched { block } => self.acknowledge(block.envelopes(), &mut out),
            Input::CaughtUp {
                newest,
                consenter_metadata,
                parameters,
                ..
            } => self.caught_up(&newest, &consenter_metadata, parameters, &mut out),
            Input::Unreachable { id } => self.node.report_unreachable(id),
            Input::Tick => self.tick(&mut out),
            Input::Receive { from, message } => self.receive(from, message, &mut out),
        }
        if !self.over {
            self.drain(&mut out);
            self.renew_timeout();
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

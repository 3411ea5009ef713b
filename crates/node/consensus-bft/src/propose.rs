//! From messages to blocks: what the leader does, and how messages come to it.

use std::collections::HashSet;

use bytes::Bytes;
use malachite_types::Round;
use selvage_ordering::waiting::{Place, digest};
use selvage_ordering::{Effect, Submission};

use crate::context::Candidate;
use crate::engine::{Batch, Bft};
use crate::judge;

/// Messages that are passed on in one tick.
const SPREAD_AT_ONCE: usize = 500;

impl Bft {
    /// Puts a waiting message into a batch, as the leader.
    pub(crate) fn take(&mut self, place: Place, out: &mut Vec<Effect>) {
        let ticks = self.ticks;
        let idle = self.may_propose() && self.batches.is_empty();
        let Some(held) = self.waiting.get_mut(place) else {
            return;
        };
        held.placed = Some(ticks);
        let (submission, is_config) = (held.submission.clone(), held.is_config);
        if is_config {
            let gathered = self.batcher.flush(out);
            self.queue(gathered, false);
            self.queue([vec![submission]], true);
            return;
        }
        let batches = self.batcher.add(submission, &self.parameters, idle, out);
        self.queue(batches, false);
    }

    /// Puts everything that has no place yet into batches, if this node leads.
    pub(crate) fn take_all(&mut self, out: &mut Vec<Effect>) {
        if self.leads() {
            for place in self.waiting.unplaced() {
                self.take(place, out);
            }
        }
    }

    fn queue(&mut self, batches: impl IntoIterator<Item = Vec<Submission>>, is_config: bool) {
        let batch = |messages| Batch {
            messages,
            is_config,
        };
        self.batches.extend(batches.into_iter().map(batch));
    }

    pub(crate) fn timer(&mut self, generation: u64, out: &mut Vec<Effect>) {
        let batch = self.batcher.fired(generation, out);
        self.queue(batch, false);
    }

    /// Whether a block could be proposed at once.
    fn may_propose(&self) -> bool {
        let open = self
            .ballot
            .as_ref()
            .is_none_or(|b| b.wants_value().is_some());
        self.ready() && self.leads() && open
    }

    /// Goes on with whatever can go on: a new ballot, a proposal, messages that came early.
    pub(crate) fn advance(&mut self, out: &mut Vec<Effect>) {
        while self.ready() {
            if let Some(ballot) = &self.ballot
                && let Some(fault) = ballot.fault()
            {
                let fault = fault.to_owned();
                return self.halt(fault, out);
            }
            if let Some((from, body)) = self.peers.take_early(self.next()) {
                self.deliver(from, body, out);
                continue;
            }
            self.offer_idle(out);
            if self.ballot.is_none() {
                let due = self.leads() && !self.batches.is_empty() || !self.urgent.is_empty();
                if !due && !self.logs.contains_key(&self.next()) {
                    return;
                }
                self.begin(out);
                continue;
            }
            if !self.propose(out) {
                return;
            }
        }
        if self.over {
            self.ballot = None;
        }
    }

    /// Tells the batcher once that nothing is under way.
    fn offer_idle(&mut self, out: &mut Vec<Effect>) {
        let idle = self.may_propose() && self.batches.is_empty();
        if !idle || self.told_idle || self.batcher.is_empty() {
            return;
        }
        self.told_idle = true;
        let batch = self.batcher.idle(&self.parameters, out);
        self.queue(batch, false);
    }

    /// Proposes the next batch when it is this node's turn. False when there is nothing to do.
    fn propose(&mut self, out: &mut Vec<Effect>) -> bool {
        let wanted = self.ballot.as_ref().and_then(|b| b.wants_value());
        let Some(round) = wanted.filter(|_| self.leads()) else {
            return false;
        };
        let Some(batch) = self.batches.pop_front() else {
            return false;
        };
        let messages = self.still_wanted(&batch);
        if messages.is_empty() {
            return true;
        }
        match self.make_block(round, messages) {
            Ok(candidate) => {
                self.told_idle = false;
                if let Some(ballot) = &mut self.ballot {
                    ballot.propose(round, candidate);
                }
                self.carry_out(out);
            }
            Err(error) => tracing::error!("cannot make a block: {error}"),
        }
        true
    }

    /// What of a batch still waits, each message once.
    fn still_wanted(&self, batch: &Batch) -> Vec<Bytes> {
        let mut seen = HashSet::new();
        let sequence = self.parameters.sequence;
        let messages = batch.messages.iter();
        let wanted = messages.filter(|message| {
            let digest = digest(&message.envelope);
            let held = self.waiting.find(&digest);
            held.is_some_and(|held| held.is_config == batch.is_config)
                && message.sequence == sequence
                && seen.insert(digest)
        });
        wanted.map(|message| message.envelope.clone()).collect()
    }

    fn make_block(&self, round: Round, messages: Vec<Bytes>) -> Result<Candidate, String> {
        let ballot = self.ballot.as_ref().ok_or("no ballot")?;
        let mut block = self.tip.clone().next_block(messages);
        block.metadata = None;
        judge::name_block(block, ballot.view(round))
    }

    /// Passes messages on: to the leader after a moment, and to everybody when the leader leaves
    /// them too long.
    pub(crate) fn pass_on(&mut self, out: &mut Vec<Effect>) {
        let Some(leader) = self.leader.filter(|_| !self.leads()) else {
            return;
        };
        let (now, spread_every) = (self.ticks, self.options.ticks(self.timing.spread_after));
        let forward_after = self.options.ticks(self.options.forward_after);
        let mut hand_on: Vec<(Place, bool)> = Vec::new();
        for (place, held) in self.waiting.iter() {
            if held.since + forward_after > now || hand_on.len() >= SPREAD_AT_ONCE {
                break;
            }
            let spread = self.urgent.get(&place).copied().unwrap_or(held.since);
            if held.own && spread + spread_every <= now {
                hand_on.push((place, true));
            } else if held.own && held.placed.is_none() {
                hand_on.push((place, false));
            }
        }
        let others: Vec<_> = self.others().collect();
        for (place, to_all) in hand_on {
            let Some(held) = self.waiting.get_mut(place) else {
                continue;
            };
            held.placed = Some(now);
            let to = match to_all {
                true => others.as_slice(),
                false => &[leader],
            };
            out.extend(to.iter().map(|id| Effect::Forward {
                to: id.0.into(),
                submission: held.submission.clone(),
                is_config: held.is_config,
            }));
            if to_all {
                self.urgent.insert(place, now);
            }
        }
    }

    /// Whether a block leaves out what this leader should have ordered long ago.
    pub(crate) fn leaves_out(&self, candidate: &Candidate) -> bool {
        let limit = self.options.ticks(self.timing.complain_after);
        if self.leader_since + limit > self.ticks {
            return false;
        }
        let messages = candidate.block.envelopes().iter().map(digest);
        let inside: HashSet<_> = messages.collect();
        let old = self.waiting.iter();
        let mut old = old.take_while(|(_, held)| held.since + limit <= self.ticks);
        old.any(|(_, held)| !inside.contains(&digest(&held.submission.envelope)))
    }
}

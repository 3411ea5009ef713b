//! What comes of a ballot: records, messages, and in the end a block.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message as _;
use selvage_ordering::block::Tip;
use selvage_ordering::waiting::digest;
use selvage_ordering::{Decision, Effect, Rejection, Ticket};
use selvage_proto::block::METADATA_SLOTS;
use selvage_proto::common::BlockMetadata;

use crate::ballot::{Decided, Out};
use crate::context::Id;
use crate::engine::{Bft, Proof};
use crate::view::Views;
use crate::wire::{self, Body, Message};

impl Bft {
    /// Begins the ballot on the next block, from the journal where it has something about it.
    pub(crate) fn begin(&mut self, out: &mut Vec<Effect>) {
        let records = self.logs.remove(&self.next()).unwrap_or_default();
        let mut ballot = self.new_ballot();
        match crate::start::read_log(ballot.position(), records) {
            Ok(log) => {
                self.recorded = !log.is_empty();
                ballot.start(log);
                self.ballot = Some(ballot);
                self.carry_out(out);
            }
            Err(error) => self.halt(error, out),
        }
    }

    /// Does what the ballot wants done. Records go first: what follows may depend on them.
    pub(crate) fn carry_out(&mut self, out: &mut Vec<Effect>) {
        let Some(ballot) = &mut self.ballot else {
            return;
        };
        let outs = ballot.take_outs();
        if let Some(fault) = ballot.fault() {
            let fault = fault.to_owned();
            return self.halt(fault, out);
        }
        let (mut records, mut own) = (Vec::new(), false);
        for wanted in &outs {
            if let Out::Keep { record, own: mine } = wanted {
                records.push(Bytes::from(record.encode_to_vec()));
                own |= mine;
            }
        }
        if !records.is_empty() {
            let checkpoint = !self.recorded && self.writing.bytes >= self.options.journal_bytes;
            self.recorded = true;
            self.journal(records, checkpoint, own || checkpoint, out);
        }
        for wanted in outs {
            match wanted {
                Out::Keep { .. } => {}
                Out::Publish(body) => {
                    let to: Vec<Id> = self.others().collect();
                    self.send(&to, body, out);
                }
                Out::Resend { to, body } => self.send(&to, body, out),
                Out::Decided(decided) => self.decided(decided, out),
            }
        }
        self.note_leader(out);
    }

    fn send(&mut self, to: &[Id], body: Body, out: &mut Vec<Effect>) {
        let message: Bytes = Message::new(body).encode_to_vec().into();
        for id in to {
            let effect = Effect::Send {
                to: id.0.into(),
                message: message.clone(),
            };
            self.emit(effect, out);
        }
    }

    pub(crate) fn decided(&mut self, decided: Decided, out: &mut Vec<Effect>) {
        let Some(ballot) = self.ballot.take() else {
            return;
        };
        let id = decided.value.id;
        let consenter_metadata = ballot.position().metadata(&id, decided.round);
        let mut block = (*decided.value.block).clone();
        let header = block.header.clone().unwrap_or_default();
        self.recorded = false;
        self.told_idle = false;
        self.tip = Tip::after(&header);
        self.views = Views::after(header.number, &consenter_metadata);
        if id.is_config {
            self.last_config = header.number;
        }
        self.unpersisted = Some(header.number);
        self.proof = Some(Proof {
            number: header.number,
            since: self.ticks,
            decided: wire::Decided {
                height: header.number,
                round: decided.round.as_u32().unwrap_or(0),
                view: id.view,
                block: decided.value.encoded,
                signatures: decided.signatures.clone(),
            },
        });
        let done = self.acknowledge(block.envelopes());
        block.metadata = Some(BlockMetadata {
            metadata: vec![Bytes::new(); METADATA_SLOTS],
        });
        let decision = Decision {
            block,
            is_config: id.is_config,
            consenter_metadata,
            signatures: decided.signatures,
        };
        self.emit(Effect::Write(decision), out);
        if !done.is_empty() {
            self.emit(Effect::Accept(done), out);
        }
    }

    /// Notes that these messages are ordered, and says who waits for them.
    pub(crate) fn acknowledge(&mut self, envelopes: &[Bytes]) -> Vec<Ticket> {
        let mut done = Vec::new();
        for envelope in envelopes {
            self.recent.add(digest(envelope));
            done.extend(self.waiting.ordered(envelope));
        }
        let waiting = &self.waiting;
        self.urgent.retain(|place, _| waiting.get(*place).is_some());
        done
    }

    pub(crate) fn tick(&mut self, out: &mut Vec<Effect>) {
        self.ticks += 1;
        if self.ready() {
            let wanted = !self.waiting.is_empty();
            if let Some(ballot) = &mut self.ballot {
                ballot.tick(wanted);
            }
            self.carry_out(out);
        }
        self.give_up(out);
        self.pass_on(out);
        if self
            .ticks
            .is_multiple_of(self.options.ticks(self.options.status_every))
        {
            let to: Vec<Id> = self.others().collect();
            let message: Bytes = Message::new(self.status()).encode_to_vec().into();
            out.extend(to.iter().map(|id| Effect::Send {
                to: id.0.into(),
                message: message.clone(),
            }));
            self.note_active(out);
        }
        self.look_ahead(out);
    }

    /// Refuses what has waited too long.
    fn give_up(&mut self, out: &mut Vec<Effect>) {
        let patience = self.options.ticks(self.options.patience);
        let Some(since) = self.ticks.checked_sub(patience) else {
            return;
        };
        let expired = self.waiting.expired(since);
        if expired.is_empty() {
            return;
        }
        let own = expired.into_iter().filter(|held| held.own);
        out.extend(own.map(|h| Effect::Refuse(h.submission.ticket, Rejection::TimedOut)));
        let waiting = &self.waiting;
        self.urgent.retain(|place, _| waiting.get(*place).is_some());
    }

    /// Tells which consenters this node hears from. While they are too few to decide anything, nobody
    /// leads as far as this node can tell.
    fn note_active(&mut self, out: &mut Vec<Effect>) {
        let window = 3 * self.options.ticks(self.options.status_every);
        let since = self.ticks.saturating_sub(window);
        let heard = self.peers.heard_since(since).map(|id| u64::from(id.0));
        let active: BTreeSet<u64> = heard.chain([self.me.0.into()]).collect();
        let active: Vec<u64> = active.into_iter().collect();
        let isolated = active.len() < self.voters.0.len() - self.voters.faulty();
        if isolated != self.isolated {
            self.isolated = isolated;
            let leader = self.leader.filter(|_| !isolated);
            out.push(Effect::Leader(leader.map(|id| id.0.into())));
        }
        if active != self.active {
            self.active.clone_from(&active);
            out.push(Effect::Active(active));
        }
    }

    /// Fetches blocks when the others are ahead: at once when by more than one, after a moment when
    /// this node may still decide by itself.
    fn look_ahead(&mut self, out: &mut Vec<Effect>) {
        if self.over || self.unpersisted.is_some() || !self.writing.held.is_empty() {
            return;
        }
        let newest = match self.peers.newest(self.voters.faulty()) {
            Some(newest) if newest > self.tip.number() => newest,
            _ => {
                self.peers.behind_for(false, self.ticks);
                return;
            }
        };
        let behind_for = self.peers.behind_for(true, self.ticks);
        let patience = self.options.ticks(self.options.catch_up_after);
        if newest > self.next() || behind_for >= patience {
            self.catch_up(newest, out);
        }
    }

    pub(crate) fn catch_up(&mut self, through: u64, out: &mut Vec<Effect>) {
        if self.catching_up.is_some_and(|to| to >= through) {
            return;
        }
        self.catching_up = Some(through);
        out.push(Effect::CatchUp { through });
    }
}

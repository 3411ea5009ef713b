//! Messages from other consenters: what is heard, what is kept for later, what is answered.

use bytes::Bytes;
use malachite_types::{Round, RoundCertificateType};
use prost::Message as _;
use selvage_ordering::{Effect, Refused};

use crate::ballot::Decided;
use crate::context::{Candidate, Id};
use crate::engine::Bft;
use crate::judge::{self, Rules};
use crate::wire::{self, Body, Message, Status};

/// Rounds ahead of the current one that are listened to, as in Malachite.
const ROUNDS_AHEAD: u32 = 10;

impl Bft {
    pub(crate) fn receive(&mut self, from: u64, message: Bytes, out: &mut Vec<Effect>) {
        let sender = u32::try_from(from).map(Id).ok();
        let Some(sender) = sender.filter(|id| self.others().any(|other| other == *id)) else {
            return refuse(from, Refused::Stranger, "", out);
        };
        if message.len() > self.options.max_message_bytes {
            return refuse(from, Refused::TooLarge, "", out);
        }
        let message = match Message::decode(message) {
            Ok(message) => message,
            Err(error) => {
                return refuse(from, Refused::Malformed, error.to_string(), out);
            }
        };
        if message.version != wire::VERSION {
            return refuse(from, Refused::Version, "", out);
        }
        self.peers.heard(sender, self.ticks);
        let Some(body) = message.body else {
            return refuse(from, Refused::Malformed, "it says nothing", out);
        };
        match body.height() {
            None => {
                if let Body::Status(status) = body {
                    self.peers.is_at(sender, status.newest);
                    self.help(sender, status.newest, out);
                }
            }
            // Whoever still votes on the newest block was only slow.
            Some(height) if height < self.tip.number() => {
                let detail = format!("block [{height}]");
                refuse(from, Refused::Stale, detail, out);
            }
            // Its status will tell whether it needs help.
            Some(height) if height < self.next() => {}
            Some(height) => self.hear(sender, height, body, out),
        }
    }

    fn hear(&mut self, from: Id, height: u64, body: Body, out: &mut Vec<Effect>) {
        // Whoever votes on a block has the one before it.
        self.peers.has(from, height - 1);
        if height == self.next() && self.ready() {
            return self.deliver(from, body, out);
        }
        if height > self.next() + 1 {
            // This node is behind and fetches what is missing.
            return;
        }
        if !self.peers.keep_early(from, height, body) {
            refuse(from.0.into(), Refused::TooMany, "", out);
        }
    }

    /// A node that lacks only the newest block gets it, with what proves it. One that lacks more
    /// sees by itself that it is behind.
    fn help(&mut self, to: Id, its_newest: u64, out: &mut Vec<Effect>) {
        let patience = self.options.ticks(self.options.catch_up_after);
        let missing = its_newest.saturating_add(1);
        let proof = self.proof.as_ref().filter(|p| p.number == missing);
        // Right after a decision others are about to decide too.
        let Some(proof) = proof.filter(|p| p.since + patience <= self.ticks) else {
            return;
        };
        let body = Body::Decided(proof.decided.clone());
        if self.peers.may_answer(to, self.ticks, patience) {
            let message = Message::new(body).encode_to_vec().into();
            let to = to.0.into();
            self.emit(Effect::Send { to, message }, out);
        }
    }

    pub(crate) fn status(&self) -> Body {
        let durable = match self.unpersisted {
            Some(number) => number - 1,
            None => self.tip.number(),
        };
        Body::Status(Status { newest: durable })
    }

    /// Hands a message about the next block to its ballot.
    pub(crate) fn deliver(&mut self, from: Id, body: Body, out: &mut Vec<Effect>) {
        if self.ballot.is_none() {
            self.begin(out);
        }
        if !self.ready() {
            return;
        }
        let heard = match body {
            Body::Vote(vote) => self.hear_vote(&vote),
            Body::Proposal(proposal) => self.hear_proposal(&proposal),
            Body::Polka(certificate) => certificate
                .read_polka()
                .map_err(|error| (Refused::Malformed, error.0.to_owned()))
                .map(|polka| self.with_ballot(|ballot| ballot.polka(polka))),
            Body::Skip(votes) => self.hear_round(&votes, RoundCertificateType::Skip),
            Body::Precommits(votes) => self.hear_round(&votes, RoundCertificateType::Precommit),
            Body::Decided(decided) => self.hear_decided(decided, out),
            Body::Status(_) => Ok(()),
        };
        if let Err((why, detail)) = heard {
            refuse(from.0.into(), why, detail, out);
        }
        self.carry_out(out);
    }

    fn with_ballot(&mut self, act: impl FnOnce(&mut crate::ballot::Ballot)) {
        if let Some(ballot) = &mut self.ballot {
            act(ballot);
        }
    }

    fn is_far(&self, round: u32) -> bool {
        round > self.round().saturating_add(ROUNDS_AHEAD)
    }

    fn hear_vote(&mut self, vote: &wire::Vote) -> Result<(), (Refused, String)> {
        if self.is_far(vote.round) {
            return Err((Refused::TooFar, String::new()));
        }
        let vote = vote.read().map_err(malformed)?;
        let Some(ballot) = &mut self.ballot else {
            return Ok(());
        };
        if !ballot.is_signed(&vote) {
            let voter = vote.message.voter;
            return Err((Refused::Signature, format!("a vote in the name of {voter}")));
        }
        let (voter, second) = (vote.message.voter, ballot.is_second_vote(&vote));
        ballot.vote(vote);
        match second {
            true => Err((Refused::Equivocation, format!("a vote of {voter}"))),
            false => Ok(()),
        }
    }

    fn hear_round(
        &mut self,
        certificate: &wire::Certificate,
        kind: RoundCertificateType,
    ) -> Result<(), (Refused, String)> {
        // However far its round: enough signatures prove that somebody correct is there.
        let certificate = certificate.read_round(kind).map_err(malformed)?;
        self.with_ballot(|ballot| ballot.round_certificate(certificate));
        Ok(())
    }

    /// A decided block needs no vote of this node any more.
    fn hear_decided(
        &mut self,
        wire: wire::Decided,
        out: &mut Vec<Effect>,
    ) -> Result<(), (Refused, String)> {
        let Some(ballot) = &mut self.ballot else {
            return Ok(());
        };
        let value = judge::read_block(ballot.position(), &wire.block, wire.view);
        let value = value.map_err(|why| (Refused::Block, why))?;
        let (round, mut signatures) = (Round::new(wire.round), wire.signatures);
        if !ballot.is_decided(&value.id, round, &mut signatures) {
            let why = "a decided block without a quorum".to_owned();
            return Err((Refused::Signature, why));
        }
        let decided = Decided {
            value,
            round,
            signatures,
        };
        self.decided(decided, out);
        Ok(())
    }

    fn hear_proposal(&mut self, wire: &wire::Proposal) -> Result<(), (Refused, String)> {
        if self.is_far(wire.round) {
            return Err((Refused::TooFar, String::new()));
        }
        let wrong = |why: String| (Refused::Block, why);
        let Some(ballot) = &self.ballot else {
            return Ok(());
        };
        let candidate = judge::read_block(ballot.position(), &wire.block, wire.view);
        let candidate = candidate.map_err(wrong)?;
        let proposal = wire.read(candidate.clone()).map_err(malformed)?;
        let signed = self
            .ballot
            .as_mut()
            .is_some_and(|b| b.is_proposed(&proposal));
        if !signed {
            let proposer = proposal.message.proposer;
            return Err((Refused::Signature, format!("a block of {proposer}")));
        }
        // From here on it is the proposer's doing. A round whose block gets no vote is given up.
        let second = self
            .ballot
            .as_ref()
            .is_some_and(|b| b.is_second_proposal(&proposal));
        let judged = self.judge(&candidate, wire);
        let current = Some(proposal.message.round) == self.ballot.as_ref().map(|b| b.round());
        let complaint = judged.is_ok() && current && self.leaves_out(&candidate);
        if complaint {
            tracing::warn!(
                leader = wire.proposer,
                "the leader leaves out messages that have waited long; it gets no vote"
            );
        }
        if let Some(ballot) = &mut self.ballot {
            if current && (judged.is_err() || complaint) {
                ballot.pass_over();
            }
            if judged.is_ok() {
                ballot.proposal(proposal);
            }
        }
        judged.map_err(wrong)?;
        if second {
            let detail = format!("a block of {}", wire.proposer);
            return Err((Refused::Equivocation, detail));
        }
        Ok(())
    }

    fn judge(&self, candidate: &Candidate, wire: &wire::Proposal) -> Result<(), String> {
        let ballot = self.ballot.as_ref().ok_or("there is no ballot")?;
        let (first, view) = (ballot.view(Round::new(0)), candidate.id.view);
        let fits = match wire.pol_round {
            None => view == ballot.view(Round::new(wire.round)),
            Some(earlier) => {
                earlier < wire.round && (first..=ballot.view(Round::new(earlier))).contains(&view)
            }
        };
        if !fits {
            return Err(format!("it is of view {view}"));
        }
        if ballot.knows(&candidate.id) {
            return Ok(());
        }
        let rules = Rules {
            channel: &self.channel,
            parameters: &self.parameters,
            waiting: &self.waiting,
            judge: self.judge.as_ref(),
            keys: self.keys.as_ref(),
        };
        rules.check(candidate)
    }
}

fn refuse(from: u64, why: Refused, detail: impl Into<String>, out: &mut Vec<Effect>) {
    let detail = detail.into();
    out.push(Effect::Unheard { from, why, detail });
}

fn malformed(error: wire::Malformed) -> (Refused, String) {
    (Refused::Malformed, error.0.to_owned())
}

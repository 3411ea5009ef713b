//! The vote on one block number: Malachite's state machine, and everything it asks for.
//!
//! A ballot is made for one height and thrown away after it. It does no I/O: what it wants kept,
//! sent or written comes out as [`Out`]s, in the order in which it happened.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use malachite::{
    ConsensusMsg, Effect, Error, Input, LivenessMsg, LocallyProposedValue, Params, Resumable,
    Resume, SignedConsensusMsg, State, VoteExtensionError, process,
};
use malachite_types::{
    CertificateError, NilOrVal, Round, RoundCertificateType, SignedExtension, SignedMessage,
    SignedProposal, SignedVote, ThresholdParams, Timeout, TimeoutKind, ValidatorSet as _,
    ValuePayload, VoteExtensionPolicy, VoteExtensions, VoteType,
};
use selvage_ordering::mistakes::{Mistake, made};
use selvage_proto::Message as _;
use selvage_proto::common::{IdentifierHeader, MetadataSignature};

use crate::certificates;
use crate::context::{BlockId, BlockSignature, BlockVote, Candidate, Chain, Id, Number, Voters};
use crate::guard::{Contradiction, Guard, Kind};
use crate::keys::{Key, Keys};
use crate::options::{BftOptions, Timing};
use crate::signed::Position;
use crate::wire::{self, Body, Entry, Record};

/// Signatures remembered as good, so that a vote that comes again in a certificate costs nothing.
const REMEMBERED: usize = 8192;

/// What a ballot wants done.
#[derive(Debug)]
pub(crate) enum Out {
    /// To the journal. What this node signed has to be durable before anything later leaves.
    Keep { record: Record, own: bool },
    /// To all other consenters.
    Publish(Body),
    /// To those that seem not to have it.
    Resend { to: Vec<Id>, body: Body },
    /// The block is decided.
    Decided(Decided),
}

/// A decided block.
#[derive(Debug)]
pub(crate) struct Decided {
    pub(crate) value: Candidate,
    /// The round in which it was.
    pub(crate) round: Round,
    /// The consenters' signatures over it, as they will stand in it.
    pub(crate) signatures: Vec<MetadataSignature>,
}

#[derive(Debug)]
struct Timer {
    timeout: Timeout,
    left: u64,
}

/// Everything but the state machine itself: Malachite's effects end here.
struct Desk {
    position: Position,
    voters: Voters,
    me: Id,
    keys: Arc<dyn Keys>,
    timing: Timing,
    options: BftOptions,
    guard: Guard,
    verified: HashSet<[u8; 32]>,
    /// Records that the journal had at the start.
    known: HashSet<[u8; 32]>,
    timers: Vec<Timer>,
    wants_value: Option<Round>,
    round: Round,
    republished: bool,
    /// The round whose votes the certificate holds that was just repeated.
    recertified: Option<Round>,
    decided: Option<(Round, VoteExtensions<Chain>)>,
    fault: Option<String>,
    outs: Vec<Out>,
}

/// The vote on one block number.
pub(crate) struct Ballot {
    state: State<Chain>,
    desk: Desk,
}

/// What a ballot needs from its engine.
pub(crate) struct Setting {
    pub(crate) position: Position,
    pub(crate) voters: Voters,
    pub(crate) me: Id,
    pub(crate) keys: Arc<dyn Keys>,
    pub(crate) timing: Timing,
    pub(crate) options: BftOptions,
    pub(crate) first_view: u64,
}

fn record(height: u64, entry: Entry) -> Record {
    Record {
        version: wire::VERSION,
        height,
        entry: Some(entry),
    }
}

fn fingerprint(record: &Record) -> [u8; 32] {
    selvage_crypto::sha256(&record.encode_to_vec())
}

impl Ballot {
    pub(crate) fn new(setting: Setting) -> Self {
        let number = Number(setting.position.number);
        let params = Params {
            address: setting.me,
            threshold_params: ThresholdParams::default(),
            value_payload: ValuePayload::ProposalOnly,
            enabled: true,
        };
        let chain = Chain {
            first_view: setting.first_view,
        };
        // Messages of other heights never come this far, so there is nothing to queue.
        let state = State::new(chain, number, setting.voters.clone(), params, 1, 1);
        let desk = Desk {
            position: setting.position,
            voters: setting.voters,
            me: setting.me,
            keys: setting.keys,
            timing: setting.timing,
            options: setting.options,
            guard: Guard::default(),
            verified: HashSet::new(),
            known: HashSet::new(),
            timers: Vec::new(),
            wants_value: None,
            round: Round::Nil,
            republished: false,
            recertified: None,
            decided: None,
            fault: None,
            outs: Vec::new(),
        };
        Self { state, desk }
    }

    /// Begins, from what the journal has of this height.
    pub(crate) fn start(&mut self, log: Vec<(Record, Input<Chain>)>) {
        let (records, inputs): (Vec<_>, Vec<_>) = log.into_iter().unzip();
        self.desk.known = records.iter().map(fingerprint).collect();
        for input in &inputs {
            self.desk.remember(input);
        }
        self.state.index_wal_entries(&inputs);
        self.run(Input::StartHeight(
            Number(self.desk.position.number),
            self.desk.voters.clone(),
            !inputs.is_empty(),
            None,
            VoteExtensionPolicy::Required,
        ));
        self.state
            .record_recovered_own_precommit_extensions(&inputs);
        for input in inputs {
            self.run(input);
        }
        self.state.reset_entries_index();
    }

    fn run(&mut self, input: Input<Chain>) {
        if self.desk.fault.is_some() || self.desk.decided.is_some() {
            return;
        }
        let (state, desk) = (&mut self.state, &mut self.desk);
        let result: Result<(), Error<Chain>> =
            process!(input: input, state: state, metrics: &(), with: effect => desk.answer(effect));
        match result {
            Ok(()) => {}
            Err(error @ Error::ReplayDivergence(..)) if self.desk.fault.is_none() => {
                self.desk.fault = Some(error.to_string());
            }
            Err(error) => tracing::warn!(%error, "a consensus step had no effect"),
        }
        self.resend_proposal();
        self.resend_precommits();
        self.conclude();
    }

    pub(crate) fn vote(&mut self, vote: SignedVote<Chain>) {
        self.run(Input::Vote(vote));
    }

    pub(crate) fn proposal(&mut self, proposal: SignedProposal<Chain>) {
        self.run(Input::Proposal(proposal));
    }

    pub(crate) fn polka(&mut self, polka: malachite_types::PolkaCertificate<Chain>) {
        self.run(Input::PolkaCertificate(polka));
    }

    pub(crate) fn round_certificate(&mut self, c: malachite_types::RoundCertificate<Chain>) {
        self.run(Input::RoundCertificate(c));
    }

    /// Gives up waiting for the proposal of the current round.
    pub(crate) fn pass_over(&mut self) {
        if self.state.driver.step_is_propose() {
            self.run(Input::TimeoutElapsed(Timeout::propose(self.desk.round)));
        }
    }

    /// Whether a vote's signatures are good. Asked before the state machine sees it, which would
    /// log each bad one.
    pub(crate) fn is_signed(&mut self, vote: &SignedVote<Chain>) -> bool {
        let voters = self.desk.voters.clone();
        let Some(voter) = voters.get_by_address(&vote.message.voter) else {
            return false;
        };
        let extension = match (vote.message.kind, &vote.message.value) {
            (VoteType::Precommit, NilOrVal::Val(id)) => Some(id),
            _ => None,
        };
        let extended = match (extension, &vote.message.extension) {
            (Some(id), Some(extension)) => {
                let (round, by) = (vote.message.round, (voter.id, &voter.key));
                let (header, signature) = (&extension.message.0, &extension.signature);
                self.desk
                    .verify_block_signature(id, round, by, header, signature)
            }
            (None, None) => true,
            _ => false,
        };
        extended
            && self
                .desk
                .verify_vote(&vote.message, &vote.signature, &voters)
    }

    /// Whether a proposal comes from the consenter whose turn its round is.
    pub(crate) fn is_proposed(&mut self, proposal: &SignedProposal<Chain>) -> bool {
        let message = &proposal.message;
        let number = Number(self.desk.position.number);
        let turn = *self.state.get_proposer(number, message.round);
        let voters = self.desk.voters.clone();
        let Some(voter) = voters.get_by_address(&turn) else {
            return false;
        };
        let bytes = self.desk.position.proposal(message);
        turn == message.proposer
            && self
                .desk
                .verify(turn, &voter.key, &bytes, &proposal.signature)
    }

    /// Whether a vote's author cast another one in its place before. Asked before the state machine
    /// sees it.
    pub(crate) fn is_second_vote(&self, vote: &SignedVote<Chain>) -> bool {
        let vote = &vote.message;
        let votes = self.state.driver.votes().per_round(vote.round);
        let mut known = votes.iter().flat_map(|round| round.received_votes());
        known.any(|known| {
            let known = &known.message;
            known.voter == vote.voter && known.kind == vote.kind && known.value != vote.value
        })
    }

    /// Whether a proposal's author proposed another block in its round before.
    pub(crate) fn is_second_proposal(&self, proposal: &SignedProposal<Chain>) -> bool {
        let (number, message) = (Number(self.desk.position.number), &proposal.message);
        let known = self.state.full_proposal_at_round_and_proposer(
            &number,
            message.round,
            &message.proposer,
        );
        known.is_some_and(|known| known.proposal.message.value != message.value)
    }

    /// Whether a block was proposed before, and so judged.
    pub(crate) fn knows(&self, id: &BlockId) -> bool {
        let number = Number(self.desk.position.number);
        let keeper = &self.state.full_proposal_keeper;
        keeper.get_value_by_id(&number, id).is_some()
    }

    /// Whether these signatures were given by a quorum with precommits for this block in this
    /// round, which decides it. Signatures that are not good do not count.
    pub(crate) fn is_decided(
        &mut self,
        id: &BlockId,
        round: Round,
        signatures: &mut Vec<MetadataSignature>,
    ) -> bool {
        let voters = self.desk.voters.clone();
        let mut seen = HashSet::new();
        signatures.retain(|signature| {
            let header = &signature.identifier_header;
            let named = IdentifierHeader::decode(header.clone()).unwrap_or_default();
            let Some(voter) = voters.get_by_address(&Id(named.identifier)) else {
                return false;
            };
            let by = (voter.id, &voter.key);
            let good =
                self.desk
                    .verify_block_signature(id, round, by, header, &signature.signature);
            good && signature.signature_header.is_empty() && seen.insert(voter.id)
        });
        let signed = seen.len() as u64;
        let quorum = ThresholdParams::default().quorum;
        quorum.is_met(signed, voters.total_voting_power())
    }

    /// The view of a round.
    pub(crate) fn view(&self, round: Round) -> u64 {
        let round = u64::from(round.as_u32().unwrap_or(0));
        self.state.ctx.first_view.wrapping_add(round)
    }

    /// The round for which this node should make a block now.
    pub(crate) fn wants_value(&self) -> Option<Round> {
        let round = self.desk.wants_value?;
        (!self.desk.guard.has(round, Kind::Proposal)).then_some(round)
    }

    pub(crate) fn propose(&mut self, round: Round, value: Candidate) {
        self.desk.wants_value = None;
        let number = Number(self.desk.position.number);
        self.run(Input::Propose(LocallyProposedValue::new(
            number, round, value,
        )));
    }

    pub(crate) fn position(&self) -> &Position {
        &self.desk.position
    }

    pub(crate) fn round(&self) -> Round {
        self.desk.round
    }

    /// Whose turn the current round is.
    pub(crate) fn proposer(&self) -> Id {
        let number = Number(self.desk.position.number);
        *self.state.get_proposer(number, self.desk.round)
    }

    /// Why the ballot must not go on.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.desk.fault.as_deref()
    }

    pub(crate) fn take_outs(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.desk.outs)
    }

    /// Time passes. While nobody wants anything ordered, a silent proposer is no reason to go on
    /// to the next round.
    pub(crate) fn tick(&mut self, wanted: bool) {
        let wanted = wanted || self.others_moved();
        let mut elapsed = Vec::new();
        self.desk.timers.retain_mut(|timer| {
            if timer.timeout.kind != TimeoutKind::Propose || wanted {
                timer.left = timer.left.saturating_sub(1);
            }
            if timer.left == 0 {
                elapsed.push(timer.timeout);
            }
            timer.left > 0
        });
        for timeout in elapsed {
            self.run(Input::TimeoutElapsed(timeout));
        }
    }

    /// Whether somebody correct voted in this round.
    fn others_moved(&self) -> bool {
        let votes = self.state.driver.votes().per_round(self.desk.round);
        let votes = votes.iter().flat_map(|round| round.received_votes());
        let others = votes.map(|vote| vote.message.voter);
        let voters: HashSet<Id> = others.filter(|id| *id != self.desk.me).collect();
        voters.len() > self.desk.voters.faulty()
    }

    /// The proposer sends its block again to those that have not voted in its round. Malachite
    /// repeats votes only.
    fn resend_proposal(&mut self) {
        if !std::mem::take(&mut self.desk.republished) || self.proposer() != self.desk.me {
            return;
        }
        let (number, round) = (Number(self.desk.position.number), self.desk.round);
        let me = &self.desk.me;
        let proposal = self
            .state
            .full_proposal_at_round_and_proposer(&number, round, me);
        let Some(proposal) = proposal else { return };
        let votes = self.state.driver.votes().per_round(round);
        let silent = |id: &Id| {
            let mut votes = votes.iter().flat_map(|r| r.received_votes());
            votes.all(|vote| vote.message.voter != *id)
        };
        let ids = self.desk.voters.0.iter().map(|voter| voter.id);
        let to: Vec<Id> = ids.filter(|id| id != me && silent(id)).collect();
        let body = Body::Proposal(wire::Proposal::of(&proposal.proposal));
        if !to.is_empty() {
            self.desk.outs.push(Out::Resend { to, body });
        }
    }

    /// With a certificate go the precommits for blocks in it, whole: they have lost their extensions
    /// in it, so nobody could use them, and whoever gave them does not repeat them in later rounds.
    /// Nodes that lack them would stay behind for ever.
    fn resend_precommits(&mut self) {
        let Some(round) = self.desk.recertified.take() else {
            return;
        };
        let votes = self.state.driver.votes().per_round(round);
        let votes = votes.iter().flat_map(|round| round.received_votes());
        let whole = votes.filter(|vote| vote.message.extension.is_some());
        let bodies = whole.map(|vote| Out::Publish(Body::Vote(wire::Vote::of(vote))));
        self.desk.outs.extend(bodies);
    }

    fn conclude(&mut self) {
        let Some((round, extensions)) = self.desk.decided.clone() else {
            return;
        };
        let Some((_, value)) = self.state.decided_value() else {
            return;
        };
        let signature = |(_, extension): (Id, SignedExtension<Chain>)| MetadataSignature {
            signature_header: Bytes::new(),
            signature: extension.signature,
            identifier_header: extension.message.0,
        };
        let decided = Decided {
            value,
            round,
            signatures: extensions.extensions.into_iter().map(signature).collect(),
        };
        self.desk.outs.push(Out::Decided(decided));
    }
}

impl Desk {
    fn number(&self) -> u64 {
        self.position.number
    }

    fn answer(&mut self, effect: Effect<Chain>) -> Result<Resume<Chain>, Contradiction> {
        Ok(match effect {
            Effect::CancelAllTimeouts(r) => {
                self.timers.clear();
                r.resume_with(())
            }
            Effect::CancelTimeout(timeout, r) => {
                // Malachite stops repeating its votes when a certificate brought new ones, even if
                // it could not use those that would have ended the round: precommits in it have
                // lost their extensions. Then nobody would speak again. A new round ends the timer.
                let repeats = timeout.kind == TimeoutKind::Rebroadcast;
                self.timers
                    .retain(|timer| repeats || timer.timeout != timeout);
                r.resume_with(())
            }
            Effect::ScheduleTimeout(timeout, r) => {
                self.schedule(timeout);
                r.resume_with(())
            }
            Effect::StartRound(_, round, _, _, r) => {
                self.round = round;
                self.wants_value = None;
                r.resume_with(())
            }
            Effect::PublishConsensusMsg(message, r) => {
                self.publish(message);
                r.resume_with(())
            }
            Effect::PublishLivenessMsg(message, r) => {
                self.outs.push(Out::Publish(liveness(&message)));
                r.resume_with(())
            }
            Effect::RepublishVote(vote, r) => {
                self.republished = true;
                self.outs
                    .push(Out::Publish(Body::Vote(wire::Vote::of(&vote))));
                r.resume_with(())
            }
            Effect::RepublishRoundCertificate(certificate, r) => {
                self.recertified = Some(certificate.round);
                self.outs.push(Out::Publish(round_body(&certificate)));
                r.resume_with(())
            }
            Effect::GetValue(_, round, _, r) => {
                self.wants_value = Some(round);
                r.resume_with(())
            }
            // The proposal that follows carries the block.
            Effect::RestreamProposal(.., r) => r.resume_with(()),
            // Nodes that are behind fetch blocks; no value ever comes this way.
            Effect::CertVerifiedSyncValue(_, _, r) => r.resume_with(()),
            Effect::CertRejectedSyncValue(_, _, _, r) => r.resume_with(()),
            Effect::VerifyExtendedCommitCertificate(.., r) => {
                r.resume_with(Err(CertificateError::VerificationError(None)))
            }
            Effect::Decide(certificate, extensions, r) => {
                self.decided = Some((certificate.round, extensions));
                r.resume_with(())
            }
            // Whoever signed two things in one place was told of when the second came.
            Effect::Finalize(_, _, _, r) => r.resume_with(()),
            other => return self.answer_signatures(other),
        })
    }

    fn answer_signatures(&mut self, effect: Effect<Chain>) -> Result<Resume<Chain>, Contradiction> {
        Ok(match effect {
            Effect::SignVote(vote, r) => {
                let bytes = self.position.vote(&vote);
                let signature = self.sign(vote.round, vote.kind.into(), &bytes)?;
                r.resume_with(SignedMessage::new(vote, signature))
            }
            Effect::SignProposal(proposal, r) => {
                let bytes = self.position.proposal(&proposal);
                let signature = self.sign(proposal.round, Kind::Proposal, &bytes)?;
                r.resume_with(SignedMessage::new(proposal, signature))
            }
            Effect::VerifySignature(signed, key, r) => {
                let (by, bytes) = match &signed.message {
                    ConsensusMsg::Vote(vote) => (vote.voter, self.position.vote(vote)),
                    ConsensusMsg::Proposal(p) => (p.proposer, self.position.proposal(p)),
                };
                r.resume_with(self.verify(by, &key, &bytes, &signed.signature))
            }
            Effect::VerifyCommitCertificate(certificate, voters, thresholds, r) => {
                let valid = certificates::commit(&certificate, &voters, thresholds, |vote, by| {
                    self.verify_vote(vote, by, &voters)
                });
                r.resume_with(valid)
            }
            Effect::VerifyPolkaCertificate(certificate, voters, thresholds, r) => {
                let valid = certificates::polka(&certificate, &voters, thresholds, |vote, by| {
                    self.verify_vote(vote, by, &voters)
                });
                r.resume_with(valid)
            }
            Effect::VerifyRoundCertificate(certificate, voters, thresholds, r) => {
                let valid = certificates::round(&certificate, &voters, thresholds, |vote, by| {
                    self.verify_vote(vote, by, &voters)
                });
                r.resume_with(valid)
            }
            Effect::WalAppend(_, input, r) => {
                self.append(&input);
                r.resume_with(())
            }
            Effect::ExtendVote(_, round, id, _, r) => {
                r.resume_with(Some(self.sign_block(&id, round)))
            }
            Effect::VerifyVoteExtension(_, round, id, by, extension, key, r) => {
                let (header, signature) = (&extension.message.0, &extension.signature);
                let valid = self.verify_block_signature(&id, round, (by, &key), header, signature);
                r.resume_with(match valid {
                    true => Ok(()),
                    false => Err(VoteExtensionError::InvalidSignature),
                })
            }
            _ => Resume::Continue,
        })
    }

    fn schedule(&mut self, timeout: Timeout) {
        self.timers.retain(|timer| timer.timeout != timeout);
        let left = self.options.ticks(self.timing.of_timeout(timeout));
        self.timers.push(Timer { timeout, left });
    }

    fn contradiction(&mut self, round: Round, kind: Kind) {
        let number = self.number();
        self.fault = Some(format!(
            "a second, different {kind:?} of this orderer for block [{number}], round {round} was \
             about to be signed: its journal does not fit what it is doing. Remove this orderer \
             from the channel's consenters, remove the channel here, and add it again with a new \
             certificate"
        ));
    }

    fn sign(&mut self, round: Round, kind: Kind, bytes: &[u8]) -> Result<Bytes, Contradiction> {
        if let Err(contradiction) = self.guard.sign(round, kind, bytes)
            && !made(Mistake::ForgetProposal)
        {
            self.contradiction(round, kind);
            return Err(contradiction);
        }
        let signature = Bytes::from(self.keys.sign(bytes));
        self.verified.insert(seal(self.me, bytes, &signature));
        Ok(signature)
    }

    fn sign_block(&mut self, id: &BlockId, round: Round) -> SignedExtension<Chain> {
        let header = self.position.identifier_header(id, self.me);
        let bytes = self.position.block(id, round, &header);
        let signature = Bytes::from(self.keys.sign(&bytes));
        self.verified.insert(seal(self.me, &bytes, &signature));
        SignedMessage::new(BlockSignature(header), signature)
    }

    fn verify(&mut self, by: Id, key: &Key, bytes: &[u8], signature: &[u8]) -> bool {
        let seal = seal(by, bytes, signature);
        if self.verified.contains(&seal) {
            return true;
        }
        let valid = key.verify(bytes, signature);
        if valid {
            if self.verified.len() >= REMEMBERED {
                self.verified.clear();
            }
            self.verified.insert(seal);
        }
        valid
    }

    fn verify_vote(&mut self, vote: &BlockVote, signature: &Bytes, voters: &Voters) -> bool {
        let voter = voters.0.iter().find(|voter| voter.id == vote.voter);
        let bytes = self.position.vote(vote);
        voter.is_some_and(|voter| self.verify(voter.id, &voter.key, &bytes, signature))
    }

    fn verify_block_signature(
        &mut self,
        id: &BlockId,
        round: Round,
        (by, key): (Id, &Key),
        header: &Bytes,
        signature: &Bytes,
    ) -> bool {
        let names = IdentifierHeader::decode(header.clone());
        if !names.is_ok_and(|identifier| identifier.identifier == by.0) {
            return false;
        }
        let bytes = self.position.block(id, round, header);
        self.verify(by, key, &bytes, signature)
    }

    fn publish(&mut self, message: SignedConsensusMsg<Chain>) {
        let (round, kind, by) = match &message {
            SignedConsensusMsg::Vote(v) => {
                (v.message.round, v.message.kind.into(), v.message.voter)
            }
            SignedConsensusMsg::Proposal(p) => {
                (p.message.round, Kind::Proposal, p.message.proposer)
            }
        };
        let (body, input) = match message {
            SignedConsensusMsg::Vote(vote) => {
                (Body::Vote(wire::Vote::of(&vote)), Input::Vote(vote))
            }
            SignedConsensusMsg::Proposal(proposal) => (
                Body::Proposal(wire::Proposal::of(&proposal)),
                Input::Proposal(proposal),
            ),
        };
        // Nothing of this node's own leaves without a record.
        if by == self.me && !self.guard.is_kept(round, kind) {
            self.append(&input);
        }
        self.outs.push(Out::Publish(body));
    }

    /// Notes what this node signed, from a record or on its way to becoming one.
    fn remember(&mut self, input: &Input<Chain>) -> bool {
        let (round, kind, bytes) = match input {
            Input::Vote(vote) if vote.message.voter == self.me => {
                let vote = &vote.message;
                (vote.round, vote.kind.into(), self.position.vote(vote))
            }
            Input::Proposal(proposal) if proposal.message.proposer == self.me => {
                let proposal = &proposal.message;
                (
                    proposal.round,
                    Kind::Proposal,
                    self.position.proposal(proposal),
                )
            }
            _ => return false,
        };
        if let Err(Contradiction) = self.guard.keep(round, kind, &bytes)
            && !made(Mistake::ForgetProposal)
        {
            self.contradiction(round, kind);
        }
        true
    }

    fn append(&mut self, input: &Input<Chain>) {
        let entry = match input {
            Input::Vote(vote) => Entry::Vote(wire::Vote::of(vote)),
            Input::Proposal(proposal) => Entry::Proposal(wire::Proposal::of(proposal)),
            Input::PolkaCertificate(polka) => Entry::Polka(wire::Certificate::of_polka(polka)),
            Input::TimeoutElapsed(timeout) => match wire::Timeout::of(timeout) {
                Some(timeout) => Entry::Timeout(timeout),
                None => return,
            },
            // The proposal that follows carries the same block.
            _ => return,
        };
        let own = self.remember(input);
        if own && made(Mistake::ForgetProposal) && matches!(input, Input::Proposal(_)) {
            return;
        }
        let record = record(self.number(), entry);
        if !self.known.contains(&fingerprint(&record)) {
            self.outs.push(Out::Keep { record, own });
        }
    }
}

/// Names a signature that was found to be good.
fn seal(by: Id, bytes: &[u8], signature: &[u8]) -> [u8; 32] {
    let by = by.0.to_be_bytes();
    let length = (bytes.len() as u64).to_be_bytes();
    selvage_crypto::sha256_parts([by.as_slice(), length.as_slice(), bytes, signature])
}

fn liveness(message: &LivenessMsg<Chain>) -> Body {
    match message {
        LivenessMsg::Vote(vote) => Body::Vote(wire::Vote::of(vote)),
        LivenessMsg::PolkaCertificate(polka) => Body::Polka(wire::Certificate::of_polka(polka)),
        LivenessMsg::SkipRoundCertificate(certificate) => round_body(certificate),
    }
}

fn round_body(certificate: &malachite_types::RoundCertificate<Chain>) -> Body {
    let votes = wire::Certificate::of_round(certificate);
    match certificate.cert_type {
        RoundCertificateType::Skip => Body::Skip(votes),
        RoundCertificateType::Precommit => Body::Precommits(votes),
    }
}

#[cfg(test)]
#[path = "ballot_tests.rs"]
mod tests;

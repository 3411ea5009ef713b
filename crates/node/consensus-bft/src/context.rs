//! Malachite's vocabulary, filled with ours: heights are block numbers, validators are consenters,
//! and what is decided is a block without its metadata.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use malachite_types::{
    Address, Context, Extension, Height, LinearTimeouts, NilOrVal, Proposal, ProposalPart, Round,
    SignedExtension, SigningScheme, Validator, ValidatorSet, Value, Vote, VoteType,
};
use selvage_proto::common::Block;

use crate::keys::Key;

/// The context of one height. `first_view` decides whose turn its round 0 is.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    pub(crate) first_view: u64,
}

/// A consenter's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id(pub(crate) u32);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Address for Id {}

/// A block's number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Number(pub(crate) u64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Height for Number {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);

    fn increment_by(&self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

/// What names a proposed block in votes. Together with the block before it, it says everything
/// that the signatures of the finished block cover, so a precommit can be checked by a node that
/// does not have the block yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BlockId {
    /// Hash of the encoded block. The data hash alone would not do: it is taken over the messages'
    /// concatenation and does not say where one ends.
    pub(crate) digest: [u8; 32],
    /// The hash over the messages, as it stands in the header.
    pub(crate) data_hash: [u8; 32],
    /// The view in which the block was made.
    pub(crate) view: u64,
    /// Whether its single message is a configuration.
    pub(crate) is_config: bool,
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in &self.digest[..6] {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// A proposed block: header and data, no metadata.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) id: BlockId,
    pub(crate) block: Arc<Block>,
    /// The block in its one encoding.
    pub(crate) encoded: Bytes,
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.id.cmp(&other.id)
    }
}

impl Value for Candidate {
    type Id = BlockId;

    fn id(&self) -> BlockId {
        self.id
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockProposal {
    pub(crate) height: Number,
    pub(crate) round: Round,
    pub(crate) value: Candidate,
    /// The round in which a quorum prevoted for this block before, if one did.
    pub(crate) pol_round: Round,
    pub(crate) proposer: Id,
}

impl Proposal<Chain> for BlockProposal {
    fn height(&self) -> Number {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &Candidate {
        &self.value
    }

    fn take_value(self) -> Candidate {
        self.value
    }

    fn pol_round(&self) -> Round {
        self.pol_round
    }

    fn validator_address(&self) -> &Id {
        &self.proposer
    }
}

/// Blocks travel whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoPart {}

impl ProposalPart<Chain> for NoPart {
    fn is_first(&self) -> bool {
        match *self {}
    }

    fn is_last(&self) -> bool {
        match *self {}
    }
}

/// What a precommit brings beside itself: an encoded `IdentifierHeader`, and as its signature the
/// one over the block as Fabric takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockSignature(pub(crate) Bytes);

impl Extension for BlockSignature {
    fn size_bytes(&self) -> usize {
        self.0.len()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockVote {
    pub(crate) kind: VoteType,
    pub(crate) height: Number,
    pub(crate) round: Round,
    pub(crate) value: NilOrVal<BlockId>,
    pub(crate) voter: Id,
    pub(crate) extension: Option<SignedExtension<Chain>>,
}

impl Vote<Chain> for BlockVote {
    fn height(&self) -> Number {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<BlockId> {
        &self.value
    }

    fn take_value(self) -> NilOrVal<BlockId> {
        self.value
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &Id {
        &self.voter
    }

    fn extension(&self) -> Option<&SignedExtension<Chain>> {
        self.extension.as_ref()
    }

    fn take_extension(&mut self) -> Option<SignedExtension<Chain>> {
        self.extension.take()
    }

    fn extend(mut self, extension: SignedExtension<Chain>) -> Self {
        self.extension = Some(extension);
        self
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Voter {
    pub(crate) id: Id,
    pub(crate) key: Key,
}

impl Validator<Chain> for Voter {
    fn address(&self) -> &Id {
        &self.id
    }

    fn public_key(&self) -> &Key {
        &self.key
    }

    fn voting_power(&self) -> u64 {
        1
    }
}

/// The consenters under one configuration, by ascending number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Voters(pub(crate) Arc<[Voter]>);

impl Voters {
    /// The consenter whose turn a view is.
    pub(crate) fn leader(&self, view: u64) -> &Voter {
        &self.0[(view % self.0.len() as u64) as usize]
    }

    /// How many may be faulty.
    pub(crate) fn faulty(&self) -> usize {
        (self.0.len() - 1) / 3
    }
}

impl ValidatorSet<Chain> for Voters {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn total_voting_power(&self) -> u64 {
        self.0.len() as u64
    }

    fn get_by_address(&self, id: &Id) -> Option<&Voter> {
        self.0.iter().find(|voter| voter.id == *id)
    }

    fn get_by_index(&self, index: usize) -> Option<&Voter> {
        self.0.get(index)
    }
}

/// Signatures and keys are whatever the channel's suite makes of them: this crate passes bytes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suite;

impl SigningScheme for Suite {
    type DecodingError = &'static str;
    type Signature = Bytes;
    type PublicKey = Key;
    type PrivateKey = ();

    fn decode_signature(bytes: &[u8]) -> Result<Bytes, &'static str> {
        Ok(Bytes::copy_from_slice(bytes))
    }

    fn encode_signature(signature: &Bytes) -> Vec<u8> {
        signature.to_vec()
    }

    fn decode_public_key(_: &[u8]) -> Result<Key, &'static str> {
        Err("keys come from the channel's configuration")
    }

    fn encode_public_key(key: &Key) -> Vec<u8> {
        key.identity().to_vec()
    }
}

impl Context for Chain {
    type Address = Id;
    type Height = Number;
    type ProposalPart = NoPart;
    type Proposal = BlockProposal;
    type Validator = Voter;
    type ValidatorSet = Voters;
    type Timeouts = LinearTimeouts;
    type Value = Candidate;
    type Vote = BlockVote;
    type Extension = BlockSignature;
    type SigningScheme = Suite;

    fn select_proposer<'a>(&self, voters: &'a Voters, _: Number, round: Round) -> &'a Voter {
        let round = u64::from(round.as_u32().unwrap_or(0));
        voters.leader(self.first_view.wrapping_add(round))
    }

    fn new_proposal(
        &self,
        height: Number,
        round: Round,
        value: Candidate,
        pol_round: Round,
        proposer: Id,
    ) -> BlockProposal {
        BlockProposal {
            height,
            round,
            value,
            pol_round,
            proposer,
        }
    }

    fn new_prevote(
        &self,
        height: Number,
        round: Round,
        value: NilOrVal<BlockId>,
        voter: Id,
    ) -> BlockVote {
        BlockVote {
            kind: VoteType::Prevote,
            height,
            round,
            value,
            voter,
            extension: None,
        }
    }

    fn new_precommit(
        &self,
        height: Number,
        round: Round,
        value: NilOrVal<BlockId>,
        voter: Id,
    ) -> BlockVote {
        BlockVote {
            kind: VoteType::Precommit,
            ..self.new_prevote(height, round, value, voter)
        }
    }
}

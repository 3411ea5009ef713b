//! Messages between consenters, and the records of the journal.
//!
//! ```proto
//! message Message {
//!   uint32 version = 1;                 // 1
//!   oneof body { Vote vote = 2; Proposal proposal = 3; Certificate polka = 4;
//!                Certificate skip = 5; Certificate precommits = 6; Status status = 7;
//!                Decided decided = 8; }
//! }
//! message BlockId { bytes digest = 1; bytes data_hash = 2; uint64 view = 3; bool is_config = 4; }
//! message Vote { uint32 kind = 1; uint64 height = 2; uint32 round = 3; BlockId value = 4;
//!                uint32 voter = 5; bytes signature = 6;
//!                bytes identifier_header = 7; bytes block_signature = 8; }
//! message Proposal { uint64 height = 1; uint32 round = 2; optional uint32 pol_round = 3;
//!                    uint64 view = 4; uint32 proposer = 5; bytes signature = 6; bytes block = 7; }
//! message Certificate { uint64 height = 1; uint32 round = 2; repeated Vote votes = 3; }
//! message Status { uint64 newest = 1; }
//! message Decided { uint64 height = 1; uint32 round = 2; uint64 view = 3; bytes block = 4;
//!                   repeated common.MetadataSignature signatures = 5; }
//! message Record { uint32 version = 1; uint64 height = 2;
//!                  oneof body { Vote vote = 3; Proposal proposal = 4; Certificate polka = 5;
//!                               Timeout timeout = 6; } }
//! message Timeout { uint32 kind = 1; uint32 round = 2; }
//! ```
//!
//! A vote without a value is for no block. Votes inside a certificate carry `kind`, `value`,
//! `voter` and `signature` only; the rest is the certificate's. Everything signed is signed over
//! bytes of its own ([`crate::signed`]) that name the channel, the block before, and what kind of
//! thing it is; a status is not signed, because nobody acts on one alone.

use bytes::Bytes;
use malachite_types::{
    NilOrVal, PolkaCertificate, PolkaSignature, Round, RoundCertificate, RoundCertificateType,
    RoundSignature, SignedMessage, SignedProposal, SignedVote, Timeout as Elapsed, TimeoutKind,
    VoteType,
};

use selvage_proto::common::MetadataSignature;

use crate::context::{
    BlockId, BlockProposal, BlockSignature, BlockVote, Candidate, Chain, Id, Number,
};

/// The version this program speaks.
pub const VERSION: u32 = 1;

const PREVOTE: u32 = 1;
const PRECOMMIT: u32 = 2;
/// No signature of any suite is as long.
const MAX_SIGNATURE: usize = 512;
/// No `IdentifierHeader` is as long.
const MAX_IDENTIFIER: usize = 128;
/// Votes in a certificate beyond which nobody made it in earnest.
const MAX_VOTES: usize = 256;

/// A message to another consenter.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    /// [`VERSION`]
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// What it says.
    #[prost(oneof = "Body", tags = "2, 3, 4, 5, 6, 7, 8")]
    pub body: Option<Body>,
}

/// What a message says.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Body {
    /// A vote.
    #[prost(message, tag = "2")]
    Vote(Vote),
    /// A block to vote on.
    #[prost(message, tag = "3")]
    Proposal(Proposal),
    /// Prevotes of a quorum for one block.
    #[prost(message, tag = "4")]
    Polka(Certificate),
    /// Votes that show that somebody correct is in this round.
    #[prost(message, tag = "5")]
    Skip(Certificate),
    /// Precommits of a quorum that end this round.
    #[prost(message, tag = "6")]
    Precommits(Certificate),
    /// Where the sender is.
    #[prost(message, tag = "7")]
    Status(Status),
    /// A decided block, for somebody who missed it.
    #[prost(message, tag = "8")]
    Decided(Decided),
}

/// What a vote is for.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct WireBlockId {
    /// SHA-256 of the encoded block.
    #[prost(bytes = "bytes", tag = "1")]
    pub digest: Bytes,
    /// `BlockHeader.data_hash`
    #[prost(bytes = "bytes", tag = "2")]
    pub data_hash: Bytes,
    /// The view in which it was made.
    #[prost(uint64, tag = "3")]
    pub view: u64,
    /// Whether it is a configuration block.
    #[prost(bool, tag = "4")]
    pub is_config: bool,
}

/// A vote.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Vote {
    /// 1 prevote, 2 precommit.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// The block number voted on.
    #[prost(uint64, tag = "2")]
    pub height: u64,
    /// The attempt at it, from 0.
    #[prost(uint32, tag = "3")]
    pub round: u32,
    /// The block; missing for none.
    #[prost(message, optional, tag = "4")]
    pub value: Option<WireBlockId>,
    /// The consenter.
    #[prost(uint32, tag = "5")]
    pub voter: u32,
    /// Its signature over the vote.
    #[prost(bytes = "bytes", tag = "6")]
    pub signature: Bytes,
    /// Precommits for a block: the encoded `IdentifierHeader` of the signature below.
    #[prost(bytes = "bytes", tag = "7")]
    pub identifier_header: Bytes,
    /// Precommits for a block: the consenter's signature over it, as it will stand in the block.
    #[prost(bytes = "bytes", tag = "8")]
    pub block_signature: Bytes,
}

/// A block to vote on.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Proposal {
    /// The block's number.
    #[prost(uint64, tag = "1")]
    pub height: u64,
    /// The attempt at it, from 0.
    #[prost(uint32, tag = "2")]
    pub round: u32,
    /// The earlier attempt in which a quorum prevoted for it.
    #[prost(uint32, optional, tag = "3")]
    pub pol_round: Option<u32>,
    /// The view in which the block was made.
    #[prost(uint64, tag = "4")]
    pub view: u64,
    /// The consenter that proposes it.
    #[prost(uint32, tag = "5")]
    pub proposer: u32,
    /// Its signature over the proposal.
    #[prost(bytes = "bytes", tag = "6")]
    pub signature: Bytes,
    /// The block, without metadata.
    #[prost(bytes = "bytes", tag = "7")]
    pub block: Bytes,
}

/// Votes of one height and round.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Certificate {
    /// The block number voted on.
    #[prost(uint64, tag = "1")]
    pub height: u64,
    /// The attempt at it.
    #[prost(uint32, tag = "2")]
    pub round: u32,
    /// The votes.
    #[prost(message, repeated, tag = "3")]
    pub votes: Vec<Vote>,
}

/// Where a node is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Status {
    /// Its newest block.
    #[prost(uint64, tag = "1")]
    pub newest: u64,
}

/// A decided block. Its signatures prove that it is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Decided {
    /// The block's number.
    #[prost(uint64, tag = "1")]
    pub height: u64,
    /// The attempt in which it was decided.
    #[prost(uint32, tag = "2")]
    pub round: u32,
    /// The view in which it was made.
    #[prost(uint64, tag = "3")]
    pub view: u64,
    /// The block, without metadata.
    #[prost(bytes = "bytes", tag = "4")]
    pub block: Bytes,
    /// Signatures of a quorum of consenters.
    #[prost(message, repeated, tag = "5")]
    pub signatures: Vec<MetadataSignature>,
}

/// A record of the journal.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Record {
    /// [`VERSION`]
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The block number that it is about.
    #[prost(uint64, tag = "2")]
    pub height: u64,
    /// What happened; nothing in the first record of a journal.
    #[prost(oneof = "Entry", tags = "3, 4, 5, 6")]
    pub entry: Option<Entry>,
}

/// What happened at a height.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Entry {
    /// A vote was received or cast.
    #[prost(message, tag = "3")]
    Vote(Vote),
    /// A proposal was received or made.
    #[prost(message, tag = "4")]
    Proposal(Proposal),
    /// A polka certificate was received.
    #[prost(message, tag = "5")]
    Polka(Certificate),
    /// A timeout ended.
    #[prost(message, tag = "6")]
    Timeout(Timeout),
}

/// A timeout of a round.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Timeout {
    /// 1 propose, 2 prevote, 3 precommit.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// The round.
    #[prost(uint32, tag = "2")]
    pub round: u32,
}

/// Why a message is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

fn wire_round(round: Round) -> u32 {
    round.as_u32().unwrap_or(0)
}

fn short(bytes: &Bytes, limit: usize, what: &'static str) -> Result<Bytes, Malformed> {
    match bytes.len() <= limit {
        // A copy, so that a small part does not keep a large message in memory.
        true => Ok(Bytes::copy_from_slice(bytes)),
        false => Err(Malformed(what)),
    }
}

impl WireBlockId {
    fn of(id: &BlockId) -> Self {
        Self {
            digest: Bytes::copy_from_slice(&id.digest),
            data_hash: Bytes::copy_from_slice(&id.data_hash),
            view: id.view,
            is_config: id.is_config,
        }
    }

    fn read(&self) -> Result<BlockId, Malformed> {
        let hash = |bytes: &Bytes| {
            let hash = <[u8; 32]>::try_from(bytes.as_ref());
            hash.map_err(|_| Malformed("a block is named by a hash of the wrong length"))
        };
        Ok(BlockId {
            digest: hash(&self.digest)?,
            data_hash: hash(&self.data_hash)?,
            view: self.view,
            is_config: self.is_config,
        })
    }
}

impl Vote {
    pub(crate) fn of(signed: &SignedVote<Chain>) -> Self {
        let vote = &signed.message;
        let (identifier_header, block_signature) = match &vote.extension {
            Some(extension) => (extension.message.0.clone(), extension.signature.clone()),
            None => Default::default(),
        };
        Self {
            height: vote.height.0,
            round: wire_round(vote.round),
            identifier_header,
            block_signature,
            ..Self::in_certificate(vote.kind, &vote.value, vote.voter, &signed.signature)
        }
    }

    fn in_certificate(kind: VoteType, value: &NilOrVal<BlockId>, voter: Id, by: &Bytes) -> Self {
        Self {
            kind: match kind {
                VoteType::Prevote => PREVOTE,
                VoteType::Precommit => PRECOMMIT,
            },
            value: match value {
                NilOrVal::Nil => None,
                NilOrVal::Val(id) => Some(WireBlockId::of(id)),
            },
            voter: voter.0,
            signature: by.clone(),
            ..Self::default()
        }
    }

    fn kind(&self) -> Result<VoteType, Malformed> {
        match self.kind {
            PREVOTE => Ok(VoteType::Prevote),
            PRECOMMIT => Ok(VoteType::Precommit),
            _ => Err(Malformed("a vote of an unknown kind")),
        }
    }

    fn value(&self) -> Result<NilOrVal<BlockId>, Malformed> {
        Ok(match &self.value {
            None => NilOrVal::Nil,
            Some(id) => NilOrVal::Val(id.read()?),
        })
    }

    fn signature(&self) -> Result<Bytes, Malformed> {
        short(&self.signature, MAX_SIGNATURE, "a signature is too long")
    }

    pub(crate) fn read(&self) -> Result<SignedVote<Chain>, Malformed> {
        let long = "a block signature is too long";
        let header = short(&self.identifier_header, MAX_IDENTIFIER, long)?;
        let by = short(&self.block_signature, MAX_SIGNATURE, long)?;
        let extension = (!by.is_empty()).then(|| SignedMessage::new(BlockSignature(header), by));
        let vote = BlockVote {
            kind: self.kind()?,
            height: Number(self.height),
            round: Round::new(self.round),
            value: self.value()?,
            voter: Id(self.voter),
            extension,
        };
        Ok(SignedMessage::new(vote, self.signature()?))
    }
}

impl Proposal {
    pub(crate) fn of(signed: &SignedProposal<Chain>) -> Self {
        let proposal = &signed.message;
        Self {
            height: proposal.height.0,
            round: wire_round(proposal.round),
            pol_round: proposal.pol_round.as_u32(),
            view: proposal.value.id.view,
            proposer: proposal.proposer.0,
            signature: signed.signature.clone(),
            block: proposal.value.encoded.clone(),
        }
    }

    /// The proposal around a block that was read and judged.
    pub(crate) fn read(&self, value: Candidate) -> Result<SignedProposal<Chain>, Malformed> {
        let proposal = BlockProposal {
            height: Number(self.height),
            round: Round::new(self.round),
            value,
            pol_round: self.pol_round.map_or(Round::Nil, Round::new),
            proposer: Id(self.proposer),
        };
        let signature = short(&self.signature, MAX_SIGNATURE, "a signature is too long")?;
        Ok(SignedMessage::new(proposal, signature))
    }
}

impl Certificate {
    pub(crate) fn of_polka(polka: &PolkaCertificate<Chain>) -> Self {
        let value = NilOrVal::Val(polka.value_id);
        let votes = polka.polka_signatures.iter();
        let vote = |s: &PolkaSignature<Chain>| {
            Vote::in_certificate(VoteType::Prevote, &value, s.address, &s.signature)
        };
        Self {
            height: polka.height.0,
            round: wire_round(polka.round),
            votes: votes.map(vote).collect(),
        }
    }

    pub(crate) fn of_round(certificate: &RoundCertificate<Chain>) -> Self {
        let votes = certificate.round_signatures.iter();
        let vote = |s: &RoundSignature<Chain>| {
            Vote::in_certificate(s.vote_type, &s.value_id, s.address, &s.signature)
        };
        Self {
            height: certificate.height.0,
            round: wire_round(certificate.round),
            votes: votes.map(vote).collect(),
        }
    }

    fn votes(&self) -> Result<&[Vote], Malformed> {
        match self.votes.len() <= MAX_VOTES {
            true => Ok(&self.votes),
            false => Err(Malformed("a certificate has too many votes")),
        }
    }

    pub(crate) fn read_polka(&self) -> Result<PolkaCertificate<Chain>, Malformed> {
        let mixed = Malformed("a polka certificate is about more than one block");
        let mut votes = self.votes()?.iter().peekable();
        let first = votes.peek().map(|vote| vote.value()).transpose()?;
        let Some(NilOrVal::Val(value_id)) = first else {
            return Err(Malformed("a polka certificate names no block"));
        };
        let mut polka_signatures = Vec::new();
        for vote in votes {
            if vote.kind()? != VoteType::Prevote || vote.value()? != NilOrVal::Val(value_id) {
                return Err(mixed);
            }
            polka_signatures.push(PolkaSignature::new(Id(vote.voter), vote.signature()?));
        }
        Ok(PolkaCertificate {
            height: Number(self.height),
            round: Round::new(self.round),
            value_id,
            polka_signatures,
        })
    }

    pub(crate) fn read_round(
        &self,
        cert_type: RoundCertificateType,
    ) -> Result<RoundCertificate<Chain>, Malformed> {
        let mut round_signatures = Vec::new();
        for vote in self.votes()? {
            let by = vote.signature()?;
            let signature = RoundSignature::new(vote.kind()?, vote.value()?, Id(vote.voter), by);
            round_signatures.push(signature);
        }
        Ok(RoundCertificate {
            height: Number(self.height),
            round: Round::new(self.round),
            cert_type,
            round_signatures,
        })
    }
}

impl Timeout {
    /// `None` for those that are not kept.
    pub(crate) fn of(timeout: &Elapsed) -> Option<Self> {
        let kind = match timeout.kind {
            TimeoutKind::Propose => 1,
            TimeoutKind::Prevote => 2,
            TimeoutKind::Precommit => 3,
            TimeoutKind::Rebroadcast | TimeoutKind::FinalizeHeight(_) => return None,
        };
        Some(Self {
            kind,
            round: wire_round(timeout.round),
        })
    }

    pub(crate) fn read(&self) -> Result<Elapsed, Malformed> {
        let kind = match self.kind {
            1 => TimeoutKind::Propose,
            2 => TimeoutKind::Prevote,
            3 => TimeoutKind::Precommit,
            _ => return Err(Malformed("a timeout of an unknown kind")),
        };
        Ok(Elapsed::new(Round::new(self.round), kind))
    }
}

impl Message {
    pub(crate) fn new(body: Body) -> Self {
        Self {
            version: VERSION,
            body: Some(body),
        }
    }
}

impl Body {
    /// The block number that it is about; `None` for a status.
    pub(crate) fn height(&self) -> Option<u64> {
        match self {
            Self::Vote(vote) => Some(vote.height),
            Self::Proposal(proposal) => Some(proposal.height),
            Self::Polka(c) | Self::Skip(c) | Self::Precommits(c) => Some(c.height),
            Self::Decided(decided) => Some(decided.height),
            Self::Status(_) => None,
        }
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;

//! What exactly is signed.
//!
//! Votes and proposals are signed over bytes that begin with this engine's name, the channel and
//! the block before, so that nothing signed for one channel, one history or one purpose means
//! anything elsewhere. Blocks are signed as Fabric signs them: over the metadata value, the
//! identifier header and the DER header.

use std::sync::Arc;

use bytes::Bytes;
use malachite_types::{NilOrVal, Round, VoteType};
use selvage_crypto::sha256_parts;
use selvage_ordering::block::{NONCE_BYTES, Tip, signed_value};
use selvage_proto::Message as _;
use selvage_proto::block::header_bytes;
use selvage_proto::common::{BlockHeader, IdentifierHeader};

use crate::context::{BlockId, BlockProposal, BlockVote, Id};
use crate::view::Views;

const NAME: &[u8] = b"selvage-bft/1";

/// A height: the place behind the newest block, and what everybody knows about it.
#[derive(Debug, Clone)]
pub(crate) struct Position {
    channel: Arc<str>,
    previous: Bytes,
    pub(crate) number: u64,
    last_config: u64,
    views: Views,
}

impl Position {
    pub(crate) fn behind(channel: Arc<str>, tip: &Tip, last_config: u64, views: Views) -> Self {
        Self {
            channel,
            previous: Bytes::copy_from_slice(tip.hash()),
            number: tip.number() + 1,
            last_config,
            views,
        }
    }

    fn begin(&self, kind: u8, round: Round) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(192);
        bytes.extend_from_slice(NAME);
        bytes.push(kind);
        for part in [self.channel.as_bytes(), self.previous.as_ref()] {
            bytes.extend_from_slice(&(part.len() as u32).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(&round.as_i64().to_be_bytes());
        bytes
    }

    /// The bytes of a vote. The extension is not among them: it is signed by itself.
    pub(crate) fn vote(&self, vote: &BlockVote) -> Vec<u8> {
        let kind = match vote.kind {
            VoteType::Prevote => 1,
            VoteType::Precommit => 2,
        };
        let mut bytes = self.begin(kind, vote.round);
        match &vote.value {
            NilOrVal::Nil => bytes.push(0),
            NilOrVal::Val(id) => put_id(&mut bytes, id),
        }
        bytes
    }

    /// The bytes of a proposal.
    pub(crate) fn proposal(&self, proposal: &BlockProposal) -> Vec<u8> {
        let mut bytes = self.begin(3, proposal.round);
        bytes.extend_from_slice(&proposal.pol_round.as_i64().to_be_bytes());
        put_id(&mut bytes, &proposal.value.id);
        bytes
    }

    /// The header that a block of this name has.
    pub(crate) fn header(&self, id: &BlockId) -> BlockHeader {
        BlockHeader {
            number: self.number,
            previous_hash: self.previous.clone(),
            data_hash: Bytes::copy_from_slice(&id.data_hash),
        }
    }

    /// The consenter metadata that a block of this name has when it is decided in this round.
    pub(crate) fn metadata(&self, id: &BlockId, round: Round) -> Bytes {
        let round = round.as_u32().unwrap_or(0);
        self.views.metadata(self.number, id.view, round)
    }

    /// The bytes that a consenter signs for a block of this name, with its precommit of a round.
    ///
    /// The round is among them. Signatures from different rounds would prove nothing: consenters
    /// may precommit a block in one round, another in the next, and only a quorum in one round
    /// binds them.
    pub(crate) fn block(&self, id: &BlockId, round: Round, identifier_header: &[u8]) -> Vec<u8> {
        let last_config = match id.is_config {
            true => self.number,
            false => self.last_config,
        };
        let mut bytes = signed_value(last_config, self.metadata(id, round)).to_vec();
        bytes.extend_from_slice(identifier_header);
        bytes.extend_from_slice(&header_bytes(&self.header(id)));
        bytes
    }

    /// The identifier header of a consenter's signature. The nonce serves nothing here; it follows
    /// from the block, so that signing again after a restart gives the same.
    pub(crate) fn identifier_header(&self, id: &BlockId, by: Id) -> Bytes {
        let number = by.0.to_be_bytes();
        let digest = sha256_parts([NAME, self.channel.as_bytes(), &id.digest, &number]);
        IdentifierHeader {
            identifier: by.0,
            nonce: Bytes::copy_from_slice(&digest[..NONCE_BYTES]),
        }
        .encode_to_vec()
        .into()
    }
}

fn put_id(bytes: &mut Vec<u8>, id: &BlockId) {
    bytes.push(1 + u8::from(id.is_config));
    bytes.extend_from_slice(&id.digest);
    bytes.extend_from_slice(&id.data_hash);
    bytes.extend_from_slice(&id.view.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use selvage_proto::common::BlockHeader;

    use super::*;

    fn position(channel: &str, previous: &BlockHeader) -> Position {
        let views = Views::after(0, &Bytes::new());
        Position::behind(channel.into(), &Tip::after(previous), 0, views)
    }

    #[test]
    fn what_is_signed_for_one_thing_means_nothing_elsewhere() {
        let genesis = BlockHeader::default();
        let other = BlockHeader {
            data_hash: Bytes::from_static(b"another"),
            ..BlockHeader::default()
        };
        let id = BlockId {
            digest: [1; 32],
            data_hash: [2; 32],
            view: 3,
            is_config: false,
        };
        let vote = |kind, round, value| BlockVote {
            kind,
            height: crate::context::Number(1),
            round: Round::new(round),
            value,
            voter: Id(1),
            extension: None,
        };
        let (here, there) = (position("here", &genesis), position("there", &genesis));
        let again = position("here", &other);
        let value = NilOrVal::Val(id);
        let config = NilOrVal::Val(BlockId {
            is_config: true,
            ..id
        });
        let all = [
            here.vote(&vote(VoteType::Prevote, 0, value)),
            there.vote(&vote(VoteType::Prevote, 0, value)),
            again.vote(&vote(VoteType::Prevote, 0, value)),
            here.vote(&vote(VoteType::Precommit, 0, value)),
            here.vote(&vote(VoteType::Prevote, 1, value)),
            here.vote(&vote(VoteType::Prevote, 0, NilOrVal::Nil)),
            here.vote(&vote(VoteType::Prevote, 0, config)),
            here.block(&id, Round::new(0), b"header"),
            here.block(&id, Round::new(1), b"header"),
            again.block(&id, Round::new(0), b"header"),
        ];
        for (index, bytes) in all.iter().enumerate() {
            assert!(!all[..index].contains(bytes), "{index}");
        }
    }
}

//! Views: whose turn it is, written into every block.
//!
//! A view has one leader. It makes block after block until it fails, or until the channel's
//! settings rotate it; a round that ends without a decision moves on to the next view. The number
//! stands in the block's consenter metadata, in the message that SmartBFT uses for it, so every
//! node, one that fetched its blocks too, knows it without asking.

use bytes::Bytes;
use prost::Message as _;

/// `smartbftprotos.ViewMetadata`
#[derive(Clone, PartialEq, prost::Message)]
pub struct ViewMetadata {
    /// The view in which the block was made. Its leader is the consenter at this place, counted
    /// around the consenters in the order of their numbers.
    #[prost(uint64, tag = "1")]
    pub view_id: u64,
    /// The block's number.
    #[prost(uint64, tag = "2")]
    pub latest_sequence: u64,
    /// Blocks made in this view before this one.
    #[prost(uint64, tag = "3")]
    pub decisions_in_view: u64,
    /// SmartBFT's list of leaders to leave out. Not used here.
    #[prost(uint64, repeated, tag = "4")]
    pub black_list: Vec<u64>,
    /// SmartBFT's digest of the signatures of the block before. Not used here.
    #[prost(bytes = "bytes", tag = "5")]
    pub prev_commit_signature_digest: Bytes,
    /// This engine's own: the attempt at this block number in which these signatures were given,
    /// from 0. Signatures of different attempts never make one block, see `docs/decisions/bft.md`.
    #[prost(uint32, tag = "100")]
    pub round: u32,
}

/// Where views stand after a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Views {
    /// View and decisions of the newest block; `None` when another consensus, or nobody, made it.
    last: Option<(u64, u64)>,
}

impl Views {
    /// From the consenter metadata of the newest block, which has this number. What does not read
    /// as view metadata of that block was written by the consensus that the channel used before.
    pub(crate) fn after(number: u64, metadata: &Bytes) -> Self {
        let last = ViewMetadata::decode(metadata.clone()).ok();
        let last = last.filter(|view| number > 0 && view.latest_sequence == number);
        Self {
            last: last.map(|view| (view.view_id, view.decisions_in_view)),
        }
    }

    /// Whether this consensus made the newest block.
    pub(crate) fn begun(&self) -> bool {
        self.last.is_some()
    }

    /// The view of the next block's round 0. With `rotate_after`, a leader gives way after so many
    /// blocks.
    pub(crate) fn first(&self, rotate_after: Option<u64>) -> u64 {
        match (self.last, rotate_after) {
            (None, _) => 0,
            (Some((view, decisions)), Some(limit)) if decisions.saturating_add(1) >= limit => {
                view.wrapping_add(1)
            }
            (Some((view, _)), _) => view,
        }
    }

    /// The consenter metadata of the next block when it is made in this view and decided in this
    /// round.
    pub(crate) fn metadata(&self, number: u64, view: u64, round: u32) -> Bytes {
        let decisions = match self.last {
            Some((last, decisions)) if last == view => decisions.saturating_add(1),
            _ => 0,
        };
        ViewMetadata {
            view_id: view,
            latest_sequence: number,
            decisions_in_view: decisions,
            round,
            ..ViewMetadata::default()
        }
        .encode_to_vec()
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_stays_until_it_fails() {
        let genesis = Views::after(0, &Bytes::new());
        assert_eq!(genesis.first(None), 0);
        let one = Views::after(1, &genesis.metadata(1, 0, 0));
        assert_eq!(one.first(None), 0);
        let two = one.metadata(2, 0, 3);
        let decoded = ViewMetadata::decode(two.clone()).unwrap();
        assert_eq!((decoded.view_id, decoded.decisions_in_view), (0, 1));
        let three = Views::after(2, &two).metadata(3, 2, 2);
        let decoded = ViewMetadata::decode(three.clone()).unwrap();
        assert_eq!((decoded.view_id, decoded.decisions_in_view), (2, 0));
        assert_eq!(Views::after(3, &three).first(None), 2);
    }

    #[test]
    fn a_leader_rotates_where_the_channel_says_so() {
        let mut views = Views::after(0, &Bytes::new());
        let mut leaders = Vec::new();
        for number in 1..8 {
            let view = views.first(Some(3));
            leaders.push(view);
            views = Views::after(number, &views.metadata(number, view, 0));
        }
        assert_eq!(leaders, [0, 0, 0, 1, 1, 1, 2]);
    }

    #[test]
    fn metadata_of_another_consensus_starts_again() {
        let raft = Bytes::from_static(&[0x0a, 3, 8, 1, 16]);
        assert_eq!(Views::after(9, &raft).first(None), 0);
        let stale = Views::after(0, &Bytes::new()).metadata(8, 5, 0);
        assert_eq!(Views::after(9, &stale).first(None), 0);
    }
}

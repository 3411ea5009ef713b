//! How an instance's ordering nodes agree on blocks, and how many of them that takes.

use serde::{Deserialize, Serialize};

use crate::error::ApiError;

/// Most ordering nodes of an instance, whatever its consensus.
pub const MAX_ORDERERS: i32 = 10;

/// 共识策略. Kept with an instance in the words of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Consensus {
    /// One ordering node.
    #[default]
    #[serde(rename = "solo")]
    Solo,
    /// Raft: goes on while a majority of the ordering nodes runs.
    #[serde(rename = "etcdraft")]
    Raft,
    /// BCS's FBFT: goes on, too, while fewer than a third of the ordering nodes lie.
    #[serde(rename = "sflic")]
    Bft,
}

impl Consensus {
    /// The word in answers. Requests may write it in upper case, as BCS does for FBFT.
    pub fn wire(self) -> &'static str {
        match self {
            Self::Solo => "solo",
            Self::Raft => "etcdraft",
            Self::Bft => "sflic",
        }
    }

    /// The ordering nodes it gets when nobody says how many, and the numbers to choose from. An even
    /// number of Raft nodes bears no more failures than one node less.
    fn orderers(self) -> (u32, &'static [u32]) {
        match self {
            Self::Solo => (1, &[1]),
            Self::Raft => (3, &[1, 3, 5, 7]),
            Self::Bft => (4, &[4, 5, 6, 7, 8, 9, 10]),
        }
    }

    /// How many ordering nodes a request's `orderer_node_number` means.
    pub fn count(self, asked: Option<i32>) -> Result<u32, ApiError> {
        let (usual, possible) = self.orderers();
        let Some(asked) = asked else {
            return Ok(usual);
        };
        let found = possible.iter().find(|n| i64::from(**n) == i64::from(asked));
        found.copied().ok_or_else(|| {
            let possible: Vec<String> = possible.iter().map(u32::to_string).collect();
            ApiError::bad(format!(
                "orderer_node_number must be one of {} with consensus {}, not {asked}",
                possible.join(", "),
                self.wire()
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_consensus_has_its_number_of_orderers() {
        for consensus in [Consensus::Solo, Consensus::Raft, Consensus::Bft] {
            let (usual, possible) = consensus.orderers();
            assert!(possible.contains(&usual));
            assert_eq!(consensus.count(None), Ok(usual));
            for n in -1..=11 {
                let expected = u32::try_from(n).is_ok_and(|n| possible.contains(&n));
                assert_eq!(
                    consensus.count(Some(n)).is_ok(),
                    expected,
                    "{consensus:?} {n}"
                );
            }
            let most = possible.iter().max().copied();
            assert!(most.is_some_and(|n| i64::from(n) <= i64::from(MAX_ORDERERS)));
            let kept = serde_json::to_value(consensus).expect("JSON");
            assert_eq!(kept, consensus.wire());
        }
    }
}

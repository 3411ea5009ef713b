//! Peers of equal height have the same state: the same hash of what blocks changed and, in the end,
//! the same keys, values and versions. None refuses a block, and none comes back from a crash with
//! fewer blocks than it had.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Invariant, Seen};

/// The first commit hash seen at each height, and the first state.
#[derive(Debug, Default)]
pub struct State {
    hashes: BTreeMap<u64, (Bytes, usize)>,
    states: BTreeMap<u64, ([u8; 32], usize)>,
}

impl Invariant for State {
    fn name(&self) -> &'static str {
        "state"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Committed { node, block } => {
                let hash = block.commit_hash.clone();
                let first = self.hashes.entry(block.number);
                let first = first.or_insert_with(|| (hash.clone(), *node));
                if first.0 != hash {
                    return Err(format!(
                        "block {} leads to another state on the peer of node {node} than on that of \
                         node {}",
                        block.number, first.1
                    ));
                }
            }
            Seen::State {
                node,
                height,
                digest,
            } => {
                let first = *self.states.entry(*height).or_insert((**digest, *node));
                if first.0 != **digest {
                    return Err(format!(
                        "with {height} blocks the peers of nodes {node} and {} have different \
                         states",
                        first.1
                    ));
                }
            }
            Seen::Reopened {
                node,
                before,
                height,
            } if height < before => {
                return Err(format!(
                    "the peer of node {node} came back with {height} blocks after it had {before}"
                ));
            }
            Seen::Stuck { node, reason } => {
                return Err(format!("the peer of node {node} is stuck: {reason}"));
            }
            _ => {}
        }
        Ok(())
    }
}

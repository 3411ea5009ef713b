//! Each node's blocks follow each other by number and hash, and hold what their headers say.

use std::collections::BTreeMap;

use bytes::Bytes;
use selvage_crypto::sha256_parts;
use selvage_ordering::block::Tip;
use selvage_proto::common::Block;

use super::{Invariant, Seen};

/// Each node's newest block.
#[derive(Debug, Default)]
pub struct Chain {
    tips: BTreeMap<usize, Tip>,
}

fn is_whole(block: &Block) -> bool {
    let data = sha256_parts(block.envelopes().iter().map(Bytes::as_ref));
    let header = block.header.as_ref();
    header.is_some_and(|header| header.data_hash == data.as_slice())
}

impl Invariant for Chain {
    fn name(&self) -> &'static str {
        "hash chain"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            // What was stored and not reported may be gone; the next block tells where it is.
            Seen::Opened { node, .. } => {
                self.tips.remove(node);
            }
            Seen::Stored { node, block } => {
                let header = block.header.clone().unwrap_or_default();
                if !is_whole(block) {
                    return Err(format!(
                        "block {} of node {node} holds something else than its header says",
                        header.number
                    ));
                }
                let before = self.tips.insert(*node, Tip::after(&header));
                if let Some(tip) = before
                    && (tip.number() + 1 != header.number || tip.hash() != header.previous_hash)
                {
                    return Err(format!(
                        "block {} of node {node} does not follow block {}",
                        header.number,
                        tip.number()
                    ));
                }
            }
            // What lies on the disk in the end is what went there.
            Seen::Settled { node, blocks } => {
                let mut numbered = (0..).zip(*blocks);
                if let Some((number, _)) =
                    numbered.find(|(number, block)| block.number() != *number || !is_whole(block))
                {
                    return Err(format!("block {number} of node {node} is damaged"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

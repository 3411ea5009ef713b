//! Each node's blocks follow each other by number and hash.

use std::collections::BTreeMap;

use selvage_ordering::block::Tip;

use super::{Invariant, Seen};

/// Each node's newest block.
#[derive(Debug, Default)]
pub struct Chain {
    tips: BTreeMap<usize, Tip>,
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
            _ => {}
        }
        Ok(())
    }
}

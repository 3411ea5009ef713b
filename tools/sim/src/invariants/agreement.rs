//! Every node stores the same block at the same height (State Machine Safety, Raft figure 3).

use std::collections::BTreeMap;

use selvage_proto::block::header_bytes;

use super::{Invariant, Seen};

/// The first block seen at each height, and who stored it.
#[derive(Debug, Default)]
pub struct Agreement {
    blocks: BTreeMap<u64, (Vec<u8>, usize)>,
}

impl Invariant for Agreement {
    fn name(&self) -> &'static str {
        "agreement"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Stored { node, block } = seen else {
            return Ok(());
        };
        let header = block.header.clone().unwrap_or_default();
        let bytes = header_bytes(&header);
        let first = self
            .blocks
            .entry(header.number)
            .or_insert_with(|| (bytes.clone(), *node));
        if first.0 == bytes {
            return Ok(());
        }
        Err(format!(
            "node {node} stored another block {} than node {}",
            header.number, first.1
        ))
    }
}

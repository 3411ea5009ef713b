//! Every peer gives the transactions of a block the same validation codes.

use std::collections::BTreeMap;

use selvage_proto::peer::TxValidationCode;

use super::{Invariant, Seen};

/// The first codes seen at each height, and whose they are.
#[derive(Debug, Default)]
pub struct Codes {
    blocks: BTreeMap<u64, (Vec<TxValidationCode>, usize)>,
}

impl Invariant for Codes {
    fn name(&self) -> &'static str {
        "codes"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Committed { node, block } = seen else {
            return Ok(());
        };
        let first = self.blocks.entry(block.number);
        let first = first.or_insert_with(|| (block.codes.clone(), *node));
        if first.0 == block.codes {
            return Ok(());
        }
        Err(format!(
            "in block {} the peer of node {node} finds {:?}, that of node {} {:?}",
            block.number, block.codes, first.1, first.0
        ))
    }
}

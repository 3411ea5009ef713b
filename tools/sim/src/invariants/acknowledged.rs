//! What a client was told by an honest node is accepted is in the chain of every honest node after
//! healing.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Invariant, Seen};

/// What clients were told.
#[derive(Debug, Default)]
pub struct Acknowledged {
    accepted: BTreeSet<Bytes>,
}

impl Invariant for Acknowledged {
    fn name(&self) -> &'static str {
        "acknowledged"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Accepted { message } => {
                self.accepted.insert((*message).clone());
            }
            Seen::Settled { node, blocks } => {
                let envelopes = blocks.iter().flat_map(|block| block.envelopes());
                let inside: BTreeSet<&Bytes> = envelopes.collect();
                if let Some(lost) = self.accepted.iter().find(|m| !inside.contains(m)) {
                    let id = selvage_ledger::tx_id_of(lost);
                    return Err(format!("{id:?} was accepted and is not on node {node}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

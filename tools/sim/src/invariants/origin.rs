//! Every message in a block is one that a client or an administrator sent.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Invariant, Seen};

/// What was sent.
#[derive(Debug, Default)]
pub struct Origin {
    made: BTreeSet<Bytes>,
}

impl Invariant for Origin {
    fn name(&self) -> &'static str {
        "origin"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Made { message } => {
                self.made.insert((*message).clone());
            }
            Seen::Stored { node, block } if block.number() > 0 => {
                let mut envelopes = block.envelopes().iter();
                if let Some(unknown) = envelopes.find(|envelope| !self.made.contains(*envelope)) {
                    let id = selvage_ledger::tx_id_of(unknown);
                    return Err(format!(
                        "{id:?} in block {} of node {node} was sent by nobody",
                        block.number()
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

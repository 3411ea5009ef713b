//! Raft: a message is in the chain no oftener than it came to a node, from its client or handed on.
//!
//! More the engine does not promise, like Fabric's: who hands a message on waits three election
//! timeouts for a block with it and then hands it on again, the network may double it, and the leader
//! remembers only what still waits for a block. What peers make of a second copy is [`super::Once`].

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Invariant, Seen};

/// How often each message came, and how often it is in the chain.
#[derive(Debug, Default)]
pub struct Copies {
    came: BTreeMap<Bytes, (u64, u64)>,
    looked_at: u64,
}

impl Invariant for Copies {
    fn name(&self) -> &'static str {
        "copies"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::HandedIn { message } => {
                self.came.entry((*message).clone()).or_default().0 += 1;
            }
            Seen::Stored { block, .. } if block.number() > self.looked_at => {
                self.looked_at = block.number();
                for envelope in block.envelopes() {
                    let (came, ordered) = self.came.entry(envelope.clone()).or_default();
                    *ordered += 1;
                    if ordered > came {
                        let id = selvage_ledger::tx_id_of(envelope);
                        return Err(format!(
                            "{id:?} came {came} times and is in the chain {ordered} times, with \
                             block {}",
                            block.number()
                        ));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

//! No honest leader orders a message again that its engine knows to be ordered: one of a block that
//! came after the engine started, decided here or fetched. Older ones it may have forgotten.

use std::collections::BTreeMap;

use bytes::Bytes;
use selvage_ordering::Parameters;

use super::{Configurations, Invariant, Seen};
use crate::cluster::{consenter_at, node_at, view_of};

/// Where each message is, and since when engines run.
#[derive(Debug)]
pub struct Repetitions {
    configurations: Configurations,
    places: BTreeMap<Bytes, u64>,
    looked_at: u64,
    /// How many blocks each honest node had when its engine started last.
    since: BTreeMap<usize, u64>,
}

impl Repetitions {
    /// For a channel that begins with this configuration.
    pub fn new(first: &Parameters) -> Self {
        Self {
            configurations: Configurations::new(first),
            places: BTreeMap::new(),
            looked_at: 0,
            since: BTreeMap::new(),
        }
    }
}

impl Invariant for Repetitions {
    fn name(&self) -> &'static str {
        "repetitions"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let block = match seen {
            Seen::Started { node, height, .. } => {
                self.since.insert(*node, *height);
                return Ok(());
            }
            Seen::Stored { block, .. } => block,
            _ => return Ok(()),
        };
        let number = block.number();
        if number <= self.looked_at {
            return Ok(());
        }
        self.looked_at = number;
        self.configurations.note(block);
        let before = self.configurations.before(number);
        let maker = before
            .zip(view_of(block))
            .and_then(|(parameters, view)| node_at(&consenter_at(parameters, view)?.host));
        // Liars are not among those whose start was seen.
        let since = maker.and_then(|maker| self.since.get(&maker));
        for envelope in block.envelopes() {
            let earlier = *self.places.entry(envelope.clone()).or_insert(number);
            if earlier < number && since.is_some_and(|since| *since <= earlier) {
                return Err(format!(
                    "a message of block {earlier} was ordered again in block {number} by node \
                     {maker:?}, which knew"
                ));
            }
        }
        Ok(())
    }
}

//! Nothing grows without bounds: clients that wait, journals, writes that wait for a disk, messages
//! on their way.

use super::{Invariant, Seen};

/// The most of each that a node may have: some times what a thousand runs of any size come to, which
/// every run prints, and below what comes of forgetting nothing.
const CLIENTS: usize = 2 * crate::cluster::MAX_WAITING;
const JOURNAL: u64 = 300_000;
const WRITES: usize = 1_000;
/// For each node of the cluster.
const ON_THE_WAY: usize = 2_000;

/// Needs no memory.
#[derive(Debug, Default)]
pub struct Bounds;

impl Invariant for Bounds {
    fn name(&self) -> &'static str {
        "bounds"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Load { node, load } = seen else {
            return Ok(());
        };
        let bounded = |what: &str, amount: u64, limit: u64| match amount <= limit {
            true => Ok(()),
            false => Err(format!(
                "node {node} has {amount} {what}, more than {limit}"
            )),
        };
        bounded("clients waiting", load.clients as u64, CLIENTS as u64)?;
        bounded("bytes of journal", load.journal, JOURNAL)?;
        bounded("writes waiting", load.writes as u64, WRITES as u64)?;
        let limit = ON_THE_WAY * load.nodes;
        bounded("messages on the way", load.on_the_way as u64, limit as u64)
    }
}

//! The second phase: everything heals, and the cluster has to get going again.

use super::{Event, Failure, World};
use crate::network::Faults;
use crate::node::Node;
use crate::oracle::Fate;
use crate::scenario::MS;

impl World<'_> {
    /// No more faults; whoever is down comes up.
    pub(super) fn heal_everything(&mut self) -> Result<(), Failure> {
        self.chaos = false;
        self.network.heal();
        self.network.faults = Faults::NONE;
        self.plan.disk_delay = MS;
        for node in 0..self.nodes.len() {
            self.nodes[node].disk.set_fault(None);
            if self.nodes[node].up.is_none() {
                self.schedule(MS, node, Event::Start);
            }
        }
        // Slow messages of the bad times arrive, and an election happens.
        let until = self.now + 3 * self.cluster.election() + 10 * 40 * MS;
        self.run_until(until)
    }

    /// Every consenter takes new messages within ten elections, all of them come to the same
    /// blocks, and nothing that was accepted is missing.
    pub(super) fn recover(&mut self) -> Result<(), Failure> {
        let deadline = self.now + 10 * self.cluster.election();
        while self.consenters().iter().any(|(_, ready)| !ready) && self.now < deadline {
            self.run_until(self.now + 100 * MS)?;
        }
        let deadline = self.now + 10 * self.cluster.election();
        let mut probes = Vec::new();
        for (node, _) in self.consenters() {
            for _ in 0..3 {
                let bytes = self.new_message("message", 50);
                self.submit(node, bytes.clone(), false);
                probes.push((node, bytes));
            }
        }
        while self.now < deadline {
            self.run_until(self.now + 100 * MS)?;
            let done = |bytes| self.oracle.fate(bytes) == Some(Fate::Accepted);
            if !probes.is_empty() && probes.iter().all(|(_, bytes)| done(bytes)) && self.level() {
                return self.check_accepted();
            }
        }
        let missing = probes
            .iter()
            .filter(|(_, bytes)| self.oracle.fate(bytes) != Some(Fate::Accepted));
        let nodes: Vec<usize> = missing.map(|(node, _)| *node).collect();
        let heights = self.heights();
        Err(self.failed(
            "liveness",
            format!("messages at nodes {nodes:?} not accepted after healing; heights {heights:?}"),
        ))
    }

    /// Nodes that have to come back.
    fn sound(&self) -> impl Iterator<Item = &Node> {
        let nodes = self.nodes.iter();
        nodes.filter(|node| !node.lies() && !node.spoilt)
    }

    /// The honest nodes that the newest configuration anywhere names, and whether their engines run
    /// under the numbers it gives them.
    fn consenters(&self) -> Vec<(usize, bool)> {
        let up = self.sound().filter_map(|n| n.up.as_ref());
        let Some(newest) = up.max_by_key(|up| up.store.height()) else {
            return Vec::new();
        };
        let Ok(Some(block)) = newest.store.last_block() else {
            return Vec::new();
        };
        let ready = |node: &Node| {
            let identity = node.identity;
            let id = self.cluster.id_of(&block, &newest.parameters, identity)?;
            let up = node.up.as_ref();
            Some((
                node.index,
                up.is_some_and(|up| up.engine.is_some() && up.id == Some(id)),
            ))
        };
        self.sound().filter_map(ready).collect()
    }

    fn heights(&self) -> Vec<Option<u64>> {
        let heights = self.sound().map(|n| n.up.as_ref());
        heights.map(|up| up.map(|up| up.store.height())).collect()
    }

    fn level(&self) -> bool {
        let heights = self.heights();
        heights.iter().all(|height| *height == heights[0])
    }

    fn failed(&self, invariant: &'static str, what: String) -> Failure {
        Failure {
            invariant,
            what,
            at: self.now,
        }
    }

    /// Accepted messages are in the chain on every node.
    fn check_accepted(&self) -> Result<(), Failure> {
        for node in self.sound() {
            let Some(up) = &node.up else { continue };
            let mut inside = std::collections::BTreeSet::new();
            for number in 0..up.store.height() {
                let block = up.store.block(number).map_err(|error| {
                    self.failed(
                        "durability",
                        format!("block {number} is unreadable: {error}"),
                    )
                })?;
                inside.extend(block.envelopes().iter().cloned());
            }
            if let Some(lost) = self
                .oracle
                .with(Fate::Accepted)
                .find(|bytes| !inside.contains(*bytes))
            {
                let text = String::from_utf8_lossy(&lost[..lost.len().min(20)]).into_owned();
                return Err(self.failed(
                    "acknowledged",
                    format!("{text:?} was accepted and is not on node {}", node.index),
                ));
            }
        }
        Ok(())
    }
}

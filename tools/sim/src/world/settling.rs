//! The second phase: everything heals, and the cluster has to get going again.

use std::collections::BTreeSet;

use bytes::Bytes;
use selvage_proto::common::{Block, BlockMetadataIndex};
use selvage_proto::peer::TxValidationCode;

use super::{Event, Failure, Seen, World};
use crate::network::Faults;
use crate::node::Node;
use crate::oracle::Fate;
use crate::scenario::MS;

impl World<'_> {
    /// No more faults; whoever is down comes up.
    pub(super) fn heal_everything(&mut self) -> Result<(), Failure> {
        self.chaos = false;
        self.network.heal();
        self.network.keep_apart([]);
        self.network.faults = Faults::NONE;
        self.plan.disk_delay = MS;
        for node in 0..self.nodes.len() {
            self.nodes[node].fill_disk(None);
            if self.nodes[node].up.is_none() {
                self.schedule(MS, node, Event::Start);
            }
        }
        let (at, election) = (self.now, self.cluster.election());
        self.watch(&Seen::Healed { at, election });
        // Slow messages of the bad times arrive, and an election happens.
        self.run_until(at + 3 * election)
    }

    /// Every consenter takes new messages and all of them come to the same blocks, before an
    /// invariant finds it to be too late.
    pub(super) fn recover(&mut self) -> Result<(), Failure> {
        while let Some((node, _)) = self.consenters().iter().find(|(_, ready)| !ready) {
            self.wait(&format!("the engine of node {node} does not run"))?;
        }
        let mut probes = Vec::new();
        for (node, _) in self.consenters() {
            for _ in 0..3 {
                let message = self.new_message(node, "message", 50);
                self.made(&message);
                self.submit(node, message.clone(), false);
                probes.push((node, message));
            }
        }
        loop {
            let open = |bytes: &Bytes| self.oracle.fate(bytes) != Some(Fate::Accepted);
            let missing = probes.iter().filter(|(_, bytes)| open(bytes));
            let nodes: BTreeSet<usize> = missing.map(|(node, _)| *node).collect();
            if nodes.is_empty() && !probes.is_empty() && self.level() {
                return Ok(());
            }
            let heights = self.heights();
            self.wait(&format!(
                "messages at nodes {nodes:?} are not accepted; heights {heights:?}"
            ))?;
        }
    }

    fn wait(&mut self, why: &str) -> Result<(), Failure> {
        self.watch(&Seen::Waiting { at: self.now, why });
        self.run_until(self.now + 100 * MS)
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

    /// Reads back what there is, and shows it.
    pub(super) fn settle(&mut self) -> Result<(), Failure> {
        let sound: Vec<usize> = self.sound().map(|node| node.index).collect();
        for (place, node) in sound.into_iter().enumerate() {
            let Some(up) = &self.nodes[node].up else {
                continue;
            };
            let blocks = (0..up.store.height()).map(|number| up.store.block(number));
            let blocks: Vec<Block> = blocks.collect::<Result<_, _>>().map_err(|error| Failure {
                invariant: "durability",
                what: format!("a block of node {node} cannot be read: {error}"),
                at: self.now,
            })?;
            if place == 0 {
                self.count_copies(&blocks);
            }
            let blocks = blocks.as_slice();
            self.watch(&Seen::Settled { node, blocks });
            let height = self.peers[node].height();
            match self.peers[node].state() {
                Ok(digest) => {
                    let digest = &digest;
                    self.watch(&Seen::State {
                        node,
                        height,
                        digest,
                    });
                }
                Err(reason) => self.watch(&Seen::Stuck {
                    node,
                    reason: &reason,
                }),
            }
            if place == 0 {
                self.count_invalid(node);
            }
        }
        self.failure.take().map_or(Ok(()), Err)
    }

    fn count_copies(&mut self, blocks: &[Block]) {
        let envelopes = || blocks.iter().flat_map(|block| block.envelopes());
        let once: BTreeSet<&Bytes> = envelopes().collect();
        self.troubles.repeated = (envelopes().count() - once.len()) as u64;
    }

    fn count_invalid(&mut self, node: usize) {
        let peer = &self.peers[node];
        let blocks = (0..peer.height()).filter_map(|number| peer.block(number));
        let valid = TxValidationCode::Valid as u8;
        let invalid = blocks.map(|block| {
            let codes = block.metadata_slot(BlockMetadataIndex::TransactionsFilter);
            codes.iter().filter(|code| **code != valid).count() as u64
        });
        self.troubles.invalid = invalid.sum();
    }
}

//! Blocks from other nodes: for engines that fell behind, and for nodes that only follow.

use std::sync::Arc;

use selvage_ordering::Input;
use selvage_proto::common::Block;

use super::{Event, Seen, World};
use crate::oracle::Fate;
use crate::scenario::MS;

/// Blocks fetched in one go.
const AT_ONCE: usize = 100;
/// How long a node may be without a leader before it asks whether it is still a consenter.
const SUSPICION: u64 = 3_000 * MS;

impl World<'_> {
    /// Goes on with what an engine asked for.
    pub(super) fn fetch(&mut self, node: usize) {
        let Some(up) = &self.nodes[node].up else {
            return;
        };
        let Some(through) = up.catching_up else {
            return;
        };
        // What was decided before is stored first.
        if up.storing || !up.to_store.is_empty() {
            return self.schedule(5 * MS, node, Event::Fetch);
        }
        let behind = up.store.height();
        let (fetched, mut parameters) = (self.source(node, behind, through), None);
        for block in &fetched {
            let Some(up) = &mut self.nodes[node].up else {
                return;
            };
            match up.store_fetched(block) {
                Ok(changed) => parameters = changed.or(parameters),
                Err(_) => return self.crash(node),
            }
            self.fetched(node, block);
            let block = Arc::new(block.clone());
            self.input(node, Input::Fetched { block });
        }
        let Some(up) = &mut self.nodes[node].up else {
            return;
        };
        if parameters.is_some() {
            up.caught = parameters;
        }
        if up.store.height() <= through {
            return self.schedule(50 * MS, node, Event::Fetch);
        }
        up.catching_up = None;
        let parameters = up.caught.take();
        let last_config = up.last_config;
        let Some((newest, consenter_metadata)) = up.newest() else {
            return self.crash(node);
        };
        self.input(
            node,
            Input::CaughtUp {
                newest,
                last_config,
                consenter_metadata,
                parameters,
            },
        );
    }

    /// A node that is no consenter keeps up with the others and becomes one when it may; one that
    /// has not heard of a leader for long looks whether it still is one.
    pub(super) fn follow(&mut self, node: usize) {
        self.schedule(300 * MS, node, Event::Follow);
        let Some(up) = &self.nodes[node].up else {
            return;
        };
        if up.engine.is_some() {
            let lonely = up.leaderless.is_some_and(|t| self.now - t > SUSPICION);
            if !lonely {
                return;
            }
            if !self.is_out(node) {
                return self.learn_members(node);
            }
            let tickets = self.nodes[node]
                .up
                .as_mut()
                .map(|up| std::mem::take(&mut up.tickets));
            for bytes in tickets.unwrap_or_default().into_values() {
                self.oracle.told(&bytes, Fate::Refused);
            }
            if !self.nodes[node].demote() {
                self.crash(node);
            }
            return;
        }
        if self.nodes[node].failed.is_some() {
            return;
        }
        if up.storing || !up.to_store.is_empty() {
            return;
        }
        let behind = up.store.height();
        let fetched = self.source(node, behind, u64::MAX);
        for block in &fetched {
            let Some(up) = &mut self.nodes[node].up else {
                return;
            };
            if up.store_fetched(block).is_err() {
                return self.crash(node);
            }
            self.fetched(node, block);
        }
        // Only the newest configuration tells who is a consenter now.
        if fetched.len() < AT_ONCE {
            self.promote(node);
        }
    }

    fn promote(&mut self, node: usize) {
        let (cluster, seed) = (self.cluster, self.dice.seed());
        let Some(effects) = self.nodes[node].promote(cluster, seed) else {
            return self.crash(node);
        };
        if let Some(reason) = self.nodes[node].failed.clone() {
            let reason = reason.as_str();
            return self.see(&Seen::Halted { node, reason });
        }
        let now = self.now;
        if let Some(up) = &mut self.nodes[node].up
            && up.engine.is_some()
        {
            up.leaderless = Some(now);
            self.carry_out(node, effects);
        }
    }

    fn fetched(&mut self, node: usize, block: &Block) {
        let header = block.header.clone().unwrap_or_default();
        self.nodes[node].reported = header.number + 1;
        self.see(&Seen::Stored {
            node,
            header: &header,
        });
    }

    /// Whether some node that can be heard has a configuration in which this one is not what it
    /// takes itself for.
    fn is_out(&self, node: usize) -> bool {
        let Some(me) = &self.nodes[node].up else {
            return false;
        };
        self.nodes.iter().any(|other| {
            let Some(up) = &other.up else { return false };
            let heard = other.index != node && self.network.passes(other.index, node);
            if !heard || up.store.height() <= me.store.height() {
                return false;
            }
            let newest = up.store.last_block().ok().flatten();
            newest.is_some_and(|b| self.cluster.id_of(&b, &up.parameters, node) != me.id)
        })
    }

    /// Lets in the consenters of newer configurations: one of them may lead by now, and its messages
    /// are the only way to learn of it.
    fn learn_members(&mut self, node: usize) {
        let mut known = Vec::new();
        for other in self
            .nodes
            .iter()
            .filter(|n| self.network.passes(n.index, node))
        {
            let Some(up) = &other.up else { continue };
            let Ok(Some(newest)) = up.store.last_block() else {
                continue;
            };
            let ids = (0..self.nodes.len())
                .filter(|n| *n != node)
                .filter_map(|n| {
                    let id = self.cluster.id_of(&newest, &up.parameters, n)?;
                    Some((id, n))
                });
            known.extend(ids);
        }
        if let Some(up) = &mut self.nodes[node].up {
            up.members.extend(known);
        }
    }

    /// Some blocks from a node that has them and can be heard.
    fn source(&self, node: usize, from: u64, through: u64) -> Vec<Block> {
        let has = |other: &&crate::node::Node| {
            other.index != node
                && self.network.passes(other.index, node)
                && other.up.as_ref().is_some_and(|up| up.store.height() > from)
        };
        let Some(up) = self.nodes.iter().find(has).and_then(|n| n.up.as_ref()) else {
            return Vec::new();
        };
        let end = up.store.height().min(through.saturating_add(1));
        let blocks = (from..end).map_while(|number| up.store.block(number).ok());
        blocks.take(AT_ONCE).collect()
    }
}

//! Blocks from other nodes: for engines that fell behind, and for nodes that only follow.

use std::sync::Arc;

use bytes::Bytes;
use selvage_crypto::sha256_parts;
use selvage_ordering::Input;
use selvage_ordering::block::Tip;
use selvage_proto::common::{Block, BlockMetadataIndex};

use super::{Event, Seen, World};
use crate::bugs::Bug;
use crate::cluster::config_of;
use crate::dice::Dice;
use crate::node::Node;
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
        let fetched = self.source(node, behind, through);
        for block in &fetched {
            let Some(up) = &mut self.nodes[node].up else {
                return;
            };
            match up.store_fetched(block) {
                Ok(()) => {}
                Err(error) if error.is_full() && !error.is_fatal() => {
                    return self.schedule(100 * MS, node, Event::Fetch);
                }
                Err(_) => return self.crash(node),
            }
            self.fetched(node, block);
            if self.bug != Some(Bug::SkipFetched) {
                let block = Arc::new(block.clone());
                self.input(node, Input::Fetched { block });
            }
        }
        let Some(up) = &mut self.nodes[node].up else {
            return;
        };
        if up.store.height() <= through {
            return self.schedule(50 * MS, node, Event::Fetch);
        }
        up.catching_up = None;
        // The driver does not ask whether they changed.
        let parameters = Some(up.parameters.clone());
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
        self.weigh(node);
        let Some(up) = &self.nodes[node].up else {
            return;
        };
        if up.engine.is_some() {
            let lonely = up.leaderless.is_some_and(|t| self.now - t > SUSPICION);
            if !lonely {
                return;
            }
            let Some(shown_by) = self.is_out(node) else {
                return self.learn_members(node);
            };
            let tickets = self.nodes[node]
                .up
                .as_mut()
                .map(|up| std::mem::take(&mut up.tickets));
            for bytes in tickets.unwrap_or_default().into_values() {
                self.oracle.told(&bytes, Fate::Refused);
            }
            let begins_at = match self.bug {
                Some(Bug::BeginAnywhere) => 0,
                _ => shown_by,
            };
            if !self.nodes[node].demote(begins_at) {
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
            match up.store_fetched(block) {
                Ok(()) => {}
                // Later.
                Err(error) if error.is_full() && !error.is_fatal() => return,
                Err(_) => return self.crash(node),
            }
            self.fetched(node, block);
        }
        // Only the newest configuration tells who is a consenter now.
        if fetched.len() < AT_ONCE {
            self.promote(node);
        }
    }

    fn promote(&mut self, node: usize) {
        let with = self.with();
        let Some(effects) = self.nodes[node].promote(with) else {
            return self.crash(node);
        };
        if let Some(reason) = self.nodes[node].failed.clone() {
            return self.halted(node, &reason);
        }
        let now = self.now;
        if let Some(up) = &mut self.nodes[node].up
            && up.engine.is_some()
        {
            up.leaderless = Some(now);
            self.started(node);
            self.carry_out(node, effects);
        }
    }

    fn fetched(&mut self, node: usize, block: &Block) {
        self.troubles.fetched += 1;
        self.nodes[node].reported = block.number() + 1;
        self.see(node, &Seen::Stored { node, block });
        self.deliver(node);
    }

    /// Whether a node hears another.
    fn hears(&self, node: usize, other: usize) -> bool {
        let identity = |slot: usize| self.nodes[slot].identity;
        let reached = self.network.passes(identity(other), identity(node));
        node != other && reached && self.speak(node, other)
    }

    /// The newest block of a node that can be heard and has a configuration in which this one is not
    /// what it takes itself for.
    fn is_out(&self, node: usize) -> Option<u64> {
        let me = self.nodes[node].up.as_ref()?;
        let identity = self.nodes[node].identity;
        self.nodes.iter().find_map(|other| {
            let up = other.up.as_ref()?;
            if !self.hears(node, other.index) || up.store.height() <= me.store.height() {
                return None;
            }
            let newest = up.store.last_block().ok()??;
            let id = self.cluster.id_of(&newest, &up.parameters, identity);
            (id != me.id).then(|| newest.number())
        })
    }

    /// Lets in the consenters of a newer configuration: one of them may lead by now, and its messages
    /// are the only way to learn of it.
    fn learn_members(&mut self, node: usize) {
        let me = self.nodes[node].identity;
        let height = |slot: &Node| slot.up.as_ref().map_or(0, |up| up.store.height());
        let others = self.nodes.iter().filter(|n| self.hears(node, n.index));
        let newer = others.filter(|n| height(n) > height(&self.nodes[node]));
        let Some(up) = newer.max_by_key(|n| height(n)).and_then(|n| n.up.as_ref()) else {
            return;
        };
        let Ok(Some(newest)) = up.store.last_block() else {
            return;
        };
        let ids = (0..self.identities).filter(|n| *n != me).filter_map(|n| {
            let id = self.cluster.id_of(&newest, &up.parameters, n)?;
            Some((id, n))
        });
        let known: Vec<(u64, usize)> = ids.collect();
        if let Some(up) = &mut self.nodes[node].up {
            up.members.extend(known);
        }
    }

    /// Some good blocks from a node that has them and can be heard.
    fn source(&self, node: usize, from: u64, through: u64) -> Vec<Block> {
        let has = |other: &&Node| {
            let up = other.up.as_ref();
            self.hears(node, other.index) && up.is_some_and(|up| up.store.height() > from)
        };
        let sources: Vec<&Node> = self.nodes.iter().filter(has).collect();
        // One that gives bad blocks is not asked for ever.
        let chosen = match self.cluster.faulty(self.plan.nodes) {
            0 => 0,
            _ => self.dice.below(sources.len() as u64) as usize,
        };
        let Some((source, up)) = sources.get(chosen).and_then(|n| Some((n, n.up.as_ref()?))) else {
            return Vec::new();
        };
        let end = up.store.height().min(through.saturating_add(1));
        let blocks = (from..end).map_while(|number| up.store.block(number).ok());
        let mut blocks: Vec<Block> = blocks.take(AT_ONCE).collect();
        if source.liar.as_ref().is_some_and(|liar| liar.spoils)
            && let Some(block) = blocks.last_mut()
        {
            damage(block, &self.dice);
        }
        self.verified(node, blocks)
    }

    /// Those of the blocks that follow a node's own and are what the configuration before each makes
    /// a block.
    fn verified(&self, node: usize, blocks: Vec<Block>) -> Vec<Block> {
        let Some(up) = &self.nodes[node].up else {
            return Vec::new();
        };
        let Ok(Some(newest)) = up.store.last_block() else {
            return Vec::new();
        };
        let mut tip = Tip::after(&newest.header.unwrap_or_default());
        let mut parameters = up.parameters.clone();
        let mut good = Vec::with_capacity(blocks.len());
        for block in blocks {
            let header = block.header.clone().unwrap_or_default();
            let follows = header.number == tip.number() + 1 && header.previous_hash == tip.hash();
            let trusted = self.bug == Some(Bug::TrustFetched);
            if !follows || !trusted && self.cluster.check(&parameters, &block).is_err() {
                break;
            }
            tip = Tip::after(&header);
            parameters = config_of(&block).unwrap_or(parameters);
            good.push(block);
        }
        good
    }
}

/// What a liar makes of a block before it hands it on.
fn damage(block: &mut Block, dice: &Dice) {
    match dice.below(3) {
        0 => block.set_metadata_slot(BlockMetadataIndex::Signatures, Vec::new()),
        1 => {
            if let Some(data) = &mut block.data {
                data.data.pop();
            }
        }
        _ => {
            let data = block.data.get_or_insert_default();
            data.data.push(Bytes::from_static(b"smuggled"));
            let hash = sha256_parts(data.data.iter().map(Bytes::as_ref));
            if let Some(header) = &mut block.header {
                header.data_hash = hash.to_vec().into();
            }
        }
    }
}

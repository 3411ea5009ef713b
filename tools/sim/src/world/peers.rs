//! The peers beside the nodes: they take every block that their orderer has, and clients ask them
//! what a transaction does.

use bytes::Bytes;
use selvage_env::Crash;

use super::{Seen, World};
use crate::bugs::Bug;
use crate::invariants::Load;
use crate::journals;
use crate::peer::{Deed, Peer, Slip};

/// Keys that transactions share; few, so that some come in between.
const KEYS: u64 = 30;

impl World<'_> {
    pub(super) fn add_peer(&mut self, node: usize) {
        match Peer::new() {
            Ok(peer) => self.peers.push(peer),
            Err(reason) => self.stuck(node, &reason),
        }
    }

    fn stuck(&mut self, node: usize, reason: &str) {
        self.see(node, &Seen::Stuck { node, reason });
    }

    /// Brings a node's peer up to the blocks of its orderer. Those of liars take none.
    pub(super) fn deliver(&mut self, node: usize) {
        if self.nodes[node].lies() {
            return;
        }
        loop {
            let Some(up) = &self.nodes[node].up else {
                return;
            };
            let height = self.peers[node].height();
            if height >= up.store.height() || self.failure.is_some() {
                return;
            }
            let committed = match up.store.block(height) {
                Ok(block) => self.peers[node].commit(&block, self.slip(node, height)),
                Err(error) => Err(format!("block {height} cannot be read: {error}")),
            };
            match committed {
                Ok(block) => self.see(
                    node,
                    &Seen::Committed {
                        node,
                        block: &block,
                    },
                ),
                Err(reason) => return self.stuck(node, &reason),
            }
        }
    }

    /// The mistake that a peer makes with a block.
    fn slip(&self, node: usize, number: u64) -> Slip {
        match self.bug {
            Some(Bug::ValidTwice) => Slip::Credulous,
            Some(Bug::JudgeAlone) if node == 0 => Slip::Credulous,
            Some(Bug::LoseWrite) if node == 1 && number % 8 == 7 => Slip::LoseWrite,
            _ => Slip::None,
        }
    }

    /// What happens to a node's machine may happen to its peer.
    pub(super) fn crash_peer(&mut self, node: usize, how: Crash) {
        if self.nodes[node].lies() || !self.peer_dice.chance(300) {
            return;
        }
        let before = self.peers[node].height();
        if let Err(reason) = self.peers[node].crash(how) {
            return self.stuck(node, &reason);
        }
        let height = self.peers[node].height();
        self.see(
            node,
            &Seen::Reopened {
                node,
                before,
                height,
            },
        );
    }

    /// A message that no client sent before, with what a transaction does on the state of a node's
    /// peer, or of another's when that one lies.
    pub(super) fn new_message(&mut self, node: usize, kind: &str, size: usize) -> Bytes {
        let id = self.oracle.id(kind);
        let deed = Deed {
            key: self.dice.below(KEYS),
            size,
            blind: self.dice.chance(300),
        };
        let honest = |slot: &usize| !self.nodes[*slot].lies();
        let mut asked = std::iter::once(node).chain(0..self.nodes.len());
        let asked = asked.find(honest).unwrap_or(node);
        match self.peers[asked].endorse(&id, deed) {
            Ok(message) => message,
            Err(reason) => {
                self.stuck(asked, &reason);
                Bytes::new()
            }
        }
    }

    /// Clients send a message.
    pub(super) fn made(&mut self, message: &Bytes) {
        self.oracle.sent(message.clone());
        self.watch(&Seen::Made { message });
    }

    /// Shows what a node has to do with.
    pub(super) fn weigh(&mut self, node: usize) {
        let Some(up) = &self.nodes[node].up else {
            return;
        };
        let load = Load {
            clients: up.tickets.len(),
            journal: journals::length(&self.nodes[node].disk),
            writes: up.to_journal.len() + up.to_store.len(),
            on_the_way: self.events.len(),
            nodes: self.nodes.len(),
        };
        let peaks = &mut self.peaks;
        peaks.clients = peaks.clients.max(load.clients);
        peaks.journal = peaks.journal.max(load.journal);
        peaks.writes = peaks.writes.max(load.writes);
        peaks.on_the_way = peaks.on_the_way.max(load.on_the_way / load.nodes);
        self.see(node, &Seen::Load { node, load });
    }
}

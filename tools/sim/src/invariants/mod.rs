//! What has to hold, whatever happens. One file each. What liars do is not looked at.

mod acknowledged;
mod agreement;
mod bounds;
mod chain;
mod codes;
mod configurations;
mod copies;
mod durability;
mod liveness;
mod once;
mod origin;
mod promises;
mod repetitions;
mod signatures;
mod state;
mod validity;
mod votes;

use std::collections::BTreeMap;

use bytes::Bytes;
use selvage_ledger::CommittedBlock;
use selvage_ordering::Parameters;
use selvage_proto::common::Block;

pub use acknowledged::Acknowledged;
pub use agreement::Agreement;
pub use bounds::Bounds;
pub use chain::Chain;
pub use codes::Codes;
pub use configurations::Sequence;
pub use copies::Copies;
pub use durability::Durability;
pub use liveness::{ELECTIONS, Liveness};
pub use once::Once;
pub use origin::Origin;
pub use promises::Promises;
pub use repetitions::Repetitions;
pub use signatures::Signatures;
pub use state::State;
pub use validity::Validity;
pub use votes::Votes;

use crate::cluster::config_of;

/// Something that was seen in a run.
#[derive(Debug)]
pub enum Seen<'a> {
    /// A node made a block durable.
    Stored {
        /// The node.
        node: usize,
        /// The block as it is stored.
        block: &'a Block,
    },
    /// A node opened its blocks after a start.
    Opened {
        /// The node.
        node: usize,
        /// How many blocks it has.
        height: u64,
        /// How many it had reported durable before.
        reported: u64,
    },
    /// An engine started on a node.
    Started {
        /// The node.
        node: usize,
        /// How many blocks the node had.
        height: u64,
        /// Whether its journal was damaged.
        spoilt: bool,
    },
    /// A node sent a consensus message.
    Sent {
        /// The node.
        from: usize,
        /// The bytes.
        message: &'a Bytes,
    },
    /// An engine refused to go on.
    Halted {
        /// The node.
        node: usize,
        /// Why.
        reason: &'a str,
    },
    /// A client or an administrator made a message.
    Made {
        /// The envelope.
        message: &'a Bytes,
    },
    /// A message came to a node whose engine runs, from its client or from another node.
    HandedIn {
        /// The envelope.
        message: &'a Bytes,
    },
    /// A client heard from an honest node that its message is accepted.
    Accepted {
        /// The envelope.
        message: &'a Bytes,
    },
    /// The peer beside a node made a block part of its ledger.
    Committed {
        /// The node.
        node: usize,
        /// The block, with what became of its transactions.
        block: &'a CommittedBlock,
    },
    /// The peer beside a node came back after a crash.
    Reopened {
        /// The node.
        node: usize,
        /// How many blocks it had before.
        before: u64,
        /// How many it has.
        height: u64,
    },
    /// The peer beside a node cannot go on.
    Stuck {
        /// The node.
        node: usize,
        /// Why.
        reason: &'a str,
    },
    /// What a node has to do with at a moment.
    Load {
        /// The node.
        node: usize,
        /// How much.
        load: Load,
    },
    /// Events beget each other and no time passes.
    StandsStill {
        /// The node of the last one.
        node: usize,
    },
    /// Nothing goes wrong any more.
    Healed {
        /// When, in simulated microseconds.
        at: u64,
        /// How long an election takes at most.
        election: u64,
    },
    /// The cluster has not recovered yet.
    Waiting {
        /// When.
        at: u64,
        /// What is missing.
        why: &'a str,
    },
    /// The run is over, and this is all that a node has stored.
    Settled {
        /// The node.
        node: usize,
        /// Its blocks, read back.
        blocks: &'a [Block],
    },
    /// The run is over, and this is the state of the peer beside a node.
    State {
        /// The node.
        node: usize,
        /// How many blocks the peer has.
        height: u64,
        /// A hash over all keys, values and versions.
        digest: &'a [u8; 32],
    },
}

/// What a node has to do with at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Clients that wait for an answer.
    pub clients: usize,
    /// Bytes of its journal.
    pub journal: u64,
    /// Records and blocks that wait for the disk.
    pub writes: usize,
    /// Events to come, of all nodes together.
    pub on_the_way: usize,
    /// How many nodes there are.
    pub nodes: usize,
}

/// A property of every run.
pub trait Invariant {
    /// What it is called in reports.
    fn name(&self) -> &'static str;

    /// Looks at what was seen.
    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String>;
}

/// Those that hold for every kind of cluster.
pub fn common() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::<Agreement>::default(),
        Box::<Chain>::default(),
        Box::<Durability>::default(),
        Box::<Acknowledged>::default(),
        Box::<Origin>::default(),
        Box::<Sequence>::default(),
        Box::<Codes>::default(),
        Box::<State>::default(),
        Box::<Once>::default(),
        Box::<Bounds>::default(),
        Box::<Liveness>::default(),
    ]
}

/// The configurations of the chain, by the number of their block.
#[derive(Debug)]
struct Configurations(BTreeMap<u64, Parameters>);

impl Configurations {
    fn new(first: &Parameters) -> Self {
        Self([(0, first.clone())].into())
    }

    fn note(&mut self, block: &Block) {
        if let Some(parameters) = config_of(block) {
            self.0.entry(block.number()).or_insert(parameters);
        }
    }

    /// The one that the block of this number was made under.
    fn before(&self, number: u64) -> Option<&Parameters> {
        let mut earlier = self.0.range(..number);
        earlier.next_back().map(|(_, parameters)| parameters)
    }
}

//! What has to hold, whatever happens. One file each. What liars do is not looked at.

mod agreement;
mod chain;
mod durability;
mod promises;
mod repetitions;
mod signatures;
mod validity;
mod votes;

use std::collections::BTreeMap;

use bytes::Bytes;
use selvage_ordering::Parameters;
use selvage_proto::common::Block;

pub use agreement::Agreement;
pub use chain::Chain;
pub use durability::Durability;
pub use promises::Promises;
pub use repetitions::Repetitions;
pub use signatures::Signatures;
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

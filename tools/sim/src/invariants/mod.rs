//! What has to hold, whatever happens. One file each.

mod agreement;
mod chain;
mod durability;
mod promises;

use bytes::Bytes;
use selvage_proto::common::BlockHeader;

pub use agreement::Agreement;
pub use chain::Chain;
pub use durability::Durability;
pub use promises::Promises;

/// Something that was seen in a run.
#[derive(Debug)]
pub enum Seen<'a> {
    /// A node made a block durable.
    Stored {
        /// The node.
        node: usize,
        /// The block.
        header: &'a BlockHeader,
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

/// All of them.
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::<Agreement>::default(),
        Box::<Chain>::default(),
        Box::<Durability>::default(),
        Box::<Promises>::default(),
    ]
}

//! What a node reported durable is there after a crash, and no node stops for good without a
//! cause outside of it. A node whose journal was damaged does not go on as if nothing were missing.

use super::{Invariant, Seen};

/// Needs no memory: nodes report what they had.
#[derive(Debug, Default)]
pub struct Durability;

impl Invariant for Durability {
    fn name(&self) -> &'static str {
        "durability"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Opened {
                node,
                height,
                reported,
            } if height < reported => Err(format!(
                "node {node} came back with {height} blocks after it had {reported}"
            )),
            Seen::Started {
                node, spoilt: true, ..
            } => Err(format!("node {node} goes on with a damaged journal")),
            Seen::Halted { node, reason } => Err(format!("node {node} stopped: {reason}")),
            _ => Ok(()),
        }
    }
}

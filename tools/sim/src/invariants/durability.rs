//! What a node reported durable is there after a crash, and no node stops for good without a
//! cause outside of it.

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
            Seen::Halted { node, reason } => Err(format!("node {node} stopped: {reason}")),
            _ => Ok(()),
        }
    }
}

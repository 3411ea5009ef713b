//! Configurations follow each other by one: each was made for the one before it.

use super::{Invariant, Seen};
use crate::cluster::config_of;

/// The newest configuration.
#[derive(Debug, Default)]
pub struct Sequence {
    newest: u64,
    looked_at: u64,
}

impl Invariant for Sequence {
    fn name(&self) -> &'static str {
        "configurations"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Stored { node, block } = seen else {
            return Ok(());
        };
        let number = block.number();
        if number <= self.looked_at {
            return Ok(());
        }
        self.looked_at = number;
        let Some(parameters) = config_of(block) else {
            return Ok(());
        };
        let before = std::mem::replace(&mut self.newest, parameters.sequence);
        match parameters.sequence == before + 1 {
            true => Ok(()),
            false => Err(format!(
                "block {number} of node {node} brings configuration {} after {before}",
                parameters.sequence
            )),
        }
    }
}

//! No message that the filters refuse is in a block of an honest node, whoever leads.

use super::{Invariant, Seen};
use crate::liars::is_forbidden;

/// Needs no memory.
#[derive(Debug, Default)]
pub struct Validity;

impl Invariant for Validity {
    fn name(&self) -> &'static str {
        "validity"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Stored { node, block } = seen else {
            return Ok(());
        };
        match block.envelopes().iter().any(is_forbidden) {
            true => Err(format!(
                "block {} of node {node} holds a forbidden message",
                block.number()
            )),
            false => Ok(()),
        }
    }
}

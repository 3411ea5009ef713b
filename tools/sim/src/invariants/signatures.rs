//! Every block that an honest node stores carries good signatures of a quorum of the consenters
//! that the configuration before it names: what peers of Fabric 3 check.

use selvage_ordering::Parameters;

use super::{Configurations, Invariant, Seen};
use crate::cluster::check_block;

/// Knows the configurations.
#[derive(Debug)]
pub struct Signatures(Configurations);

impl Signatures {
    /// For a channel that begins with this configuration.
    pub fn new(first: &Parameters) -> Self {
        Self(Configurations::new(first))
    }
}

impl Invariant for Signatures {
    fn name(&self) -> &'static str {
        "signatures"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Stored { node, block } = seen else {
            return Ok(());
        };
        self.0.note(block);
        let Some(before) = self.0.before(block.number()) else {
            return Ok(());
        };
        check_block(before, block)
            .map_err(|why| format!("node {node} stored what is no block: {why}"))
    }
}

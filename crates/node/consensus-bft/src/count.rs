//! What was refused, and how often.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Why a message of another consenter was not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Refused {
    /// It came from nobody that the configuration names, or claims to come from this node.
    Stranger,
    /// It is larger than any message may be.
    TooLarge,
    /// It does not read.
    Malformed,
    /// It is of another version of this protocol.
    Version,
    /// It is about a round too far away to keep it.
    TooFar,
    /// The sender has too much waiting here for the next block.
    TooMany,
    /// A signature is not its claimed author's.
    Signature,
    /// A proposed block is not one that may come next.
    Block,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stranger => "its sender is no consenter",
            Self::TooLarge => "it is too large",
            Self::Malformed => "it cannot be read",
            Self::Version => "it is of another version",
            Self::TooFar => "it is about a round far ahead",
            Self::TooMany => "too many of its sender's wait already",
            Self::Signature => "a signature is wrong",
            Self::Block => "the block it proposes may not come next",
        })
    }
}

/// Counts refusals and logs the first of each kind from each sender.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    counts: BTreeMap<Refused, u64>,
    logged: BTreeSet<(u64, Refused)>,
}

/// Senders and reasons that are remembered as logged.
const REMEMBERED: usize = 1024;

impl Refusals {
    pub(crate) fn note(&mut self, from: u64, why: Refused, detail: &str) {
        *self.counts.entry(why).or_default() += 1;
        if self.logged.len() < REMEMBERED && self.logged.insert((from, why)) {
            tracing::warn!(
                from,
                "refused a consensus message: {why}{}{detail}; further ones are counted only",
                if detail.is_empty() { "" } else { ": " },
            );
        }
    }

    pub(crate) fn counts(&self) -> &BTreeMap<Refused, u64> {
        &self.counts
    }
}

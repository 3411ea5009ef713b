//! Messages ordered a short while ago.
//!
//! Clients of a BFT channel give a message to every node, and some of them hear of it only when a
//! block holds it already. Without this memory they would order it again.

use std::collections::{HashSet, VecDeque};

use selvage_ordering::waiting::Digest;

/// Messages remembered; at 64 bytes each.
const REMEMBERED: usize = 100_000;

#[derive(Debug, Default)]
pub(crate) struct Recent {
    known: HashSet<Digest>,
    order: VecDeque<Digest>,
}

impl Recent {
    pub(crate) fn add(&mut self, digest: Digest) {
        if !self.known.insert(digest) {
            return;
        }
        self.order.push_back(digest);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.known.contains(digest)
    }
}

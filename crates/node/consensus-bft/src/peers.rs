//! What this node knows of the others: where they are, and what they sent too early.

use std::collections::{BTreeMap, VecDeque};

use prost::Message as _;

use crate::context::{Id, Voters};
use crate::wire::Body;

/// Messages kept of one consenter for the next block.
const MAX_EARLY: usize = 64;
/// Bytes of them; one message may be larger.
const MAX_EARLY_BYTES: usize = 16 << 20;

#[derive(Debug, Default)]
struct Peer {
    heard: Option<u64>,
    newest: u64,
    answered: Option<u64>,
    early: VecDeque<(u64, Body)>,
    early_bytes: usize,
}

/// The other consenters.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    peers: BTreeMap<Id, Peer>,
    /// Since when somebody correct is ahead.
    behind_since: Option<u64>,
}

impl Peers {
    /// Forgets those that are no consenters any more.
    pub(crate) fn retain(&mut self, voters: &Voters) {
        let known = |id: &Id| voters.0.iter().any(|voter| voter.id == *id);
        self.peers.retain(|id, _| known(id));
    }

    pub(crate) fn heard(&mut self, from: Id, tick: u64) {
        self.peers.entry(from).or_default().heard = Some(tick);
    }

    /// Those heard of at or after a tick.
    pub(crate) fn heard_since(&self, tick: u64) -> impl Iterator<Item = Id> + '_ {
        let peers = self.peers.iter();
        let heard = peers.filter(move |(_, peer)| peer.heard.is_some_and(|heard| heard >= tick));
        heard.map(|(id, _)| *id)
    }

    /// A consenter says, or shows, that it has this block.
    pub(crate) fn has(&mut self, from: Id, newest: u64) {
        let peer = self.peers.entry(from).or_default();
        peer.newest = peer.newest.max(newest);
    }

    /// A consenter says where it is, which may be less than it once showed.
    pub(crate) fn is_at(&mut self, from: Id, newest: u64) {
        self.peers.entry(from).or_default().newest = newest;
    }

    /// The newest block that somebody correct has, and a consenter that says it has it. `faulty`
    /// of them may lie.
    pub(crate) fn newest(&self, faulty: usize) -> Option<u64> {
        let mut claims: Vec<u64> = self.peers.values().map(|peer| peer.newest).collect();
        claims.sort_unstable_by(|a, b| b.cmp(a));
        claims.get(faulty).copied()
    }

    /// Whether this node has been behind for so many ticks.
    pub(crate) fn behind_for(&mut self, behind: bool, now: u64) -> u64 {
        if !behind {
            self.behind_since = None;
            return 0;
        }
        now - *self.behind_since.get_or_insert(now)
    }

    /// Whether a consenter may be answered again, at most once in so many ticks.
    pub(crate) fn may_answer(&mut self, to: Id, now: u64, every: u64) -> bool {
        let peer = self.peers.entry(to).or_default();
        let due = peer.answered.is_none_or(|last| last + every <= now);
        if due {
            peer.answered = Some(now);
        }
        due
    }

    /// Keeps a message for the next block. False when there is no room.
    pub(crate) fn keep_early(&mut self, from: Id, height: u64, body: Body) -> bool {
        let peer = self.peers.entry(from).or_default();
        let bytes = size(&body);
        let room = peer.early.len() < MAX_EARLY
            && (peer.early.is_empty() || peer.early_bytes + bytes <= MAX_EARLY_BYTES);
        if room {
            peer.early_bytes += bytes;
            peer.early.push_back((height, body));
        }
        room
    }

    /// Takes out a message for this block, and forgets those for blocks before it.
    pub(crate) fn take_early(&mut self, height: u64) -> Option<(Id, Body)> {
        for (id, peer) in &mut self.peers {
            peer.early.retain(|(about, _)| *about >= height);
            let mut early = peer.early.iter();
            let found = early.position(|(about, _)| *about == height);
            let taken = found.and_then(|at| peer.early.remove(at));
            peer.early_bytes = match peer.early.is_empty() {
                true => 0,
                false => peer.early.iter().map(|(_, body)| size(body)).sum(),
            };
            if let Some((_, body)) = taken {
                return Some((*id, body));
            }
        }
        None
    }
}

fn size(body: &Body) -> usize {
    match body {
        Body::Proposal(proposal) => proposal.encoded_len(),
        Body::Vote(vote) => vote.encoded_len(),
        Body::Polka(votes) | Body::Skip(votes) | Body::Precommits(votes) => votes.encoded_len(),
        Body::Decided(decided) => decided.encoded_len(),
        Body::Status(_) => 0,
    }
}

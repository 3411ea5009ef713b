//! Messages of clients that wait for a block with them in it.
//!
//! A message counts as ordered when a committed block holds it, whoever put it there. So a node
//! that forwarded a message needs no answer from the leader, and a change of leaders loses nothing:
//! what still waits is placed again.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use selvage_crypto::sha256_parts;

use crate::engine::{Submission, Ticket};

/// Names a waiting message, in order of arrival.
pub type Place = u64;

/// A message that waits.
#[derive(Debug)]
pub struct Held {
    /// The message.
    pub submission: Submission,
    /// Whether it is of type CONFIG.
    pub is_config: bool,
    /// Whether a client of this node waits for the answer.
    pub own: bool,
    /// The tick it came in.
    pub since: u64,
    /// The tick it was placed with a leader, this node or another.
    pub placed: Option<u64>,
    digest: Digest,
}

/// The hash by which a message is known again.
pub type Digest = [u8; 32];

/// The digest of an encoded envelope.
pub fn digest(envelope: &Bytes) -> Digest {
    sha256_parts([envelope.as_ref()])
}

/// The messages that wait at one node.
#[derive(Debug, Default)]
pub struct Waiting {
    held: BTreeMap<Place, Held>,
    by_digest: HashMap<Digest, Vec<Place>>,
    next: Place,
    bytes: usize,
}

impl Waiting {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The bytes of all envelopes together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the same bytes wait already.
    pub fn holds(&self, envelope: &Bytes) -> bool {
        self.by_digest.contains_key(&digest(envelope))
    }

    /// The first message with this digest.
    pub fn find(&self, digest: &Digest) -> Option<&Held> {
        let place = self.by_digest.get(digest)?.first()?;
        self.held.get(place)
    }

    /// Takes a message in at a tick.
    pub fn add(&mut self, submission: Submission, is_config: bool, own: bool, tick: u64) -> Place {
        let place = self.next;
        self.next += 1;
        self.bytes += submission.envelope.len();
        let digest = digest(&submission.envelope);
        self.by_digest.entry(digest).or_default().push(place);
        let held = Held {
            submission,
            is_config,
            own,
            since: tick,
            placed: None,
            digest,
        };
        self.held.insert(place, held);
        place
    }

    /// The messages in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = (Place, &Held)> {
        self.held.iter().map(|(place, held)| (*place, held))
    }

    /// A message.
    pub fn get(&self, place: Place) -> Option<&Held> {
        self.held.get(&place)
    }

    /// A message, to note where it was placed.
    pub fn get_mut(&mut self, place: Place) -> Option<&mut Held> {
        self.held.get_mut(&place)
    }

    /// Takes a message out.
    pub fn remove(&mut self, place: Place) -> Option<Held> {
        let held = self.held.remove(&place)?;
        self.bytes -= held.submission.envelope.len();
        if let Some(places) = self.by_digest.get_mut(&held.digest) {
            places.retain(|p| *p != place);
            if places.is_empty() {
                self.by_digest.remove(&held.digest);
            }
        }
        Some(held)
    }

    /// A committed block holds this envelope: whoever waits for it is done waiting.
    pub fn ordered(&mut self, envelope: &Bytes) -> Vec<Ticket> {
        let Some(places) = self.by_digest.get(&digest(envelope)).cloned() else {
            return Vec::new();
        };
        let held = places.into_iter().filter_map(|place| self.remove(place));
        held.filter(|h| h.own)
            .map(|h| h.submission.ticket)
            .collect()
    }

    /// Forgets where messages were placed, because that leader is no more.
    pub fn unplace_all(&mut self) {
        self.held.values_mut().for_each(|h| h.placed = None);
    }

    /// What is not placed, in order of arrival.
    pub fn unplaced(&self) -> Vec<Place> {
        let unplaced = self.held.iter().filter(|(_, h)| h.placed.is_none());
        unplaced.map(|(place, _)| *place).collect()
    }

    /// What was placed at or before a tick, in order of arrival.
    pub fn placed_until(&self, tick: u64) -> Vec<Place> {
        let old = |h: &Held| h.placed.is_some_and(|placed| placed <= tick);
        let held = self.held.iter().filter(|(_, h)| old(h));
        held.map(|(place, _)| *place).collect()
    }

    /// Takes out what came at or before a tick: it has waited long enough.
    pub fn expired(&mut self, tick: u64) -> Vec<Held> {
        let mut expired = Vec::new();
        while let Some((place, held)) = self.held.first_key_value()
            && held.since <= tick
        {
            let place = *place;
            expired.extend(self.remove(place));
        }
        expired
    }

    /// Takes out everything.
    pub fn drain(&mut self) -> Vec<Held> {
        self.by_digest.clear();
        self.bytes = 0;
        std::mem::take(&mut self.held).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(ticket: u64, bytes: &'static str) -> Submission {
        Submission {
            ticket: Ticket(ticket),
            envelope: Bytes::from_static(bytes.as_bytes()),
            size: 1,
            sequence: 0,
        }
    }

    #[test]
    fn a_block_answers_everyone_who_waits_for_the_same_bytes() {
        let mut waiting = Waiting::default();
        waiting.add(message(1, "a"), false, true, 0);
        waiting.add(message(2, "b"), false, true, 0);
        waiting.add(message(3, "a"), false, true, 0);
        waiting.add(message(0, "a"), false, false, 0);
        assert!(waiting.holds(&Bytes::from_static(b"a")));
        let done = waiting.ordered(&Bytes::from_static(b"a"));
        assert_eq!(done, [Ticket(1), Ticket(3)]);
        assert!(waiting.ordered(&Bytes::from_static(b"a")).is_empty());
        assert_eq!((waiting.len(), waiting.bytes()), (1, 1));
    }

    #[test]
    fn messages_are_placed_again_and_give_up() {
        let mut waiting = Waiting::default();
        let first = waiting.add(message(1, "a"), false, true, 0);
        let second = waiting.add(message(2, "b"), false, true, 5);
        assert_eq!(waiting.unplaced(), [first, second]);
        waiting.get_mut(first).unwrap().placed = Some(6);
        assert_eq!(waiting.unplaced(), [second]);
        assert_eq!(waiting.placed_until(6), [first]);
        waiting.unplace_all();
        assert_eq!(waiting.unplaced(), [first, second]);
        let gone = waiting.expired(4);
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].submission.ticket, Ticket(1));
        assert_eq!(waiting.drain().len(), 1);
        assert_eq!((waiting.len(), waiting.bytes()), (0, 0));
    }
}

//! What clients sent and what they were told.

use std::collections::BTreeMap;

use bytes::Bytes;

/// What became of a message, as its client knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// No answer yet.
    Open,
    /// Success.
    Accepted,
    /// Refused; the message may be ordered all the same.
    Refused,
}

/// The clients' memory.
#[derive(Debug, Default)]
pub struct Oracle {
    fates: BTreeMap<Bytes, Fate>,
    sent: u64,
    /// Messages that were accepted.
    pub accepted: u64,
}

impl Oracle {
    /// The id of a new message, unlike any other.
    pub fn id(&mut self, kind: &str) -> String {
        self.sent += 1;
        format!("{kind} {}", self.sent)
    }

    /// A message is about to be sent.
    pub fn sent(&mut self, bytes: Bytes) {
        self.fates.entry(bytes).or_insert(Fate::Open);
    }

    /// The client hears. Who asked several nodes needs one success.
    pub fn told(&mut self, bytes: &Bytes, fate: Fate) {
        if let Some(known) = self.fates.get_mut(bytes)
            && *known != Fate::Accepted
        {
            *known = fate;
            self.accepted += u64::from(fate == Fate::Accepted);
        }
    }

    /// What a message's client knows.
    pub fn fate(&self, bytes: &Bytes) -> Option<Fate> {
        self.fates.get(bytes).copied()
    }
}

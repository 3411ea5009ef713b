//! The block cutter: decides which messages share a block.
//!
//! The rules are those of Fabric's `orderer/common/blockcutter`, because the sizes in a channel's
//! configuration promise them to every member.

use selvage_proto::common::Envelope;

/// The limits of one block, from the `BatchSize` value of `/Channel/Orderer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Messages per block; reaching it cuts.
    pub max_messages: u32,
    /// Bytes per block that are not exceeded unless a single message does.
    pub preferred_bytes: u32,
}

/// What one message caused.
#[derive(Debug, PartialEq, Eq)]
pub struct Cut<M> {
    /// Finished batches in order: none, one, or two.
    pub batches: Vec<Vec<M>>,
    /// Whether messages wait for more to come. The batch timer runs exactly while this is true.
    pub pending: bool,
}

/// Collects messages and hands them out in batches. Holds no clock: the caller runs the batch timer
/// and calls [`BlockCutter::cut`] when it fires.
#[derive(Debug)]
pub struct BlockCutter<M> {
    pending: Vec<M>,
    pending_bytes: u64,
}

impl<M> Default for BlockCutter<M> {
    fn default() -> Self {
        Self {
            pending: Vec::new(),
            pending_bytes: 0,
        }
    }
}

impl<M> BlockCutter<M> {
    /// An empty cutter.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a message of `size` bytes ([`message_size`]).
    ///
    /// A message above the preferred size gets a block of its own, after what was waiting. One that
    /// would push the waiting batch over the preferred size closes that batch first. Reaching the
    /// message count closes the batch with the message in it.
    pub fn ordered(&mut self, message: M, size: u32, limits: &BatchLimits) -> Cut<M> {
        let mut batches = Vec::new();
        let size = u64::from(size);
        let preferred = u64::from(limits.preferred_bytes);
        if size > preferred {
            batches.extend(self.cut());
            batches.push(vec![message]);
            return Cut {
                batches,
                pending: false,
            };
        }
        if self.pending_bytes + size > preferred {
            batches.extend(self.cut());
        }
        self.pending.push(message);
        self.pending_bytes += size;
        if self.pending.len() as u64 >= u64::from(limits.max_messages) {
            batches.extend(self.cut());
        }
        Cut {
            batches,
            pending: !self.pending.is_empty(),
        }
    }

    /// Takes what is waiting; `None` when nothing is.
    pub fn cut(&mut self) -> Option<Vec<M>> {
        self.pending_bytes = 0;
        (!self.pending.is_empty()).then(|| std::mem::take(&mut self.pending))
    }

    /// Messages waiting.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

/// A message's size as the cutter and the size filter count it: payload plus signature, without the
/// few bytes of their framing.
pub fn message_size(envelope: &Envelope) -> u32 {
    u32::try_from(envelope.payload.len() + envelope.signature.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: BatchLimits = BatchLimits {
        max_messages: 2,
        preferred_bytes: 100,
    };

    /// Sends messages of the given sizes; each step says how many batches of which lengths come out
    /// and whether a batch is then pending.
    fn check(name: &str, limits: BatchLimits, steps: &[(u32, &[usize], bool)]) {
        let mut cutter = BlockCutter::new();
        for (i, (size, lengths, pending)) in steps.iter().enumerate() {
            let cut = cutter.ordered(i, *size, &limits);
            let got: Vec<usize> = cut.batches.iter().map(Vec::len).collect();
            assert_eq!(got, *lengths, "{name}, step {i}: batches");
            assert_eq!(cut.pending, *pending, "{name}, step {i}: pending");
            assert_eq!(cutter.is_empty(), !pending, "{name}, step {i}: left over");
        }
    }

    #[test]
    fn batches_follow_fabrics_rules() {
        check("one message waits", LIMITS, &[(30, &[], true)]);
        check(
            "the count closes",
            LIMITS,
            &[(30, &[], true), (30, &[2], false)],
        );
        check(
            "a message above the preferred size is alone",
            LIMITS,
            &[(101, &[1], false)],
        );
        check(
            "and cuts what waits before it",
            LIMITS,
            &[(30, &[], true), (101, &[1, 1], false)],
        );
        check(
            "exactly the preferred size is no overflow",
            LIMITS,
            &[(100, &[], true)],
        );
        check(
            "two that fit exactly share a block",
            BatchLimits {
                max_messages: 3,
                preferred_bytes: 100,
            },
            &[(50, &[], true), (50, &[], true)],
        );
        check(
            "an overflow closes the waiting batch and keeps the message",
            BatchLimits {
                max_messages: 20,
                preferred_bytes: 100,
            },
            &[(60, &[], true), (60, &[1], true), (40, &[], true)],
        );
        check(
            "a count of one isolates everything",
            BatchLimits {
                max_messages: 1,
                preferred_bytes: 100,
            },
            &[(10, &[1], false), (10, &[1], false)],
        );
        check(
            "an overflow with a count of one gives a batch each",
            BatchLimits {
                max_messages: 1,
                preferred_bytes: 100,
            },
            &[(99, &[1], false), (2, &[1], false)],
        );
    }

    #[test]
    fn cutting_empties() {
        let mut cutter = BlockCutter::new();
        assert_eq!(cutter.cut(), None);
        cutter.ordered('a', 10, &LIMITS);
        assert_eq!(cutter.cut(), Some(vec!['a']));
        assert_eq!(cutter.cut(), None);
        // The byte count starts again, or the next messages would overflow too early.
        cutter.ordered('b', 95, &LIMITS);
        cutter.cut();
        assert!(cutter.ordered('c', 95, &LIMITS).batches.is_empty());
    }

    #[test]
    fn sizes_count_payload_and_signature() {
        let envelope = Envelope {
            payload: vec![0; 20].into(),
            signature: vec![0; 7].into(),
        };
        assert_eq!(message_size(&envelope), 27);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_order_is_kept_limits_hold(
            sizes in proptest::collection::vec(0u32..400, 0..200),
            max_messages in 1u32..8,
            preferred_bytes in 1u32..300,
        ) {
            let limits = BatchLimits { max_messages, preferred_bytes };
            let mut cutter = BlockCutter::new();
            let mut batches: Vec<Vec<usize>> = Vec::new();
            for (i, size) in sizes.iter().enumerate() {
                let cut = cutter.ordered(i, *size, &limits);
                prop_assert!(cut.batches.len() <= 2);
                prop_assert_eq!(cut.pending, !cutter.is_empty());
                batches.extend(cut.batches);
            }
            batches.extend(cutter.cut());
            for batch in &batches {
                prop_assert!(!batch.is_empty());
                prop_assert!(batch.len() <= max_messages as usize);
                let bytes: u64 = batch.iter().map(|i| u64::from(sizes[*i])).sum();
                prop_assert!(bytes <= u64::from(preferred_bytes) || batch.len() == 1);
            }
            let all: Vec<usize> = batches.concat();
            prop_assert_eq!(all, (0..sizes.len()).collect::<Vec<_>>());
        }
    }
}

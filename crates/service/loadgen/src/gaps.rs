//! How long nothing was acknowledged.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// When acknowledgements came; only the first, the last and the longest pause are kept.
#[derive(Default)]
pub(crate) struct Gaps(Mutex<Option<Seen>>);

#[derive(Clone, Copy)]
struct Seen {
    first: Instant,
    last: Instant,
    longest: Duration,
}

impl Gaps {
    /// An acknowledgement came.
    pub(crate) fn acknowledged(&self, now: Instant) {
        let mut seen = self.0.lock();
        *seen = Some(match *seen {
            None => Seen {
                first: now,
                last: now,
                longest: Duration::ZERO,
            },
            Some(before) => Seen {
                first: before.first,
                // Whoever looked at the clock first may be counted second.
                last: before.last.max(now),
                longest: before
                    .longest
                    .max(now.saturating_duration_since(before.last)),
            },
        });
    }

    /// When the last one came.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.0.lock().map(|seen| seen.last)
    }

    /// The longest time without any, between `start` and `end`, and beyond `end` while what was
    /// sent before was still answered.
    pub(crate) fn longest(&self, start: Instant, end: Instant) -> Duration {
        let Some(seen) = *self.0.lock() else {
            return end.saturating_duration_since(start);
        };
        seen.longest
            .max(seen.first.saturating_duration_since(start))
            .max(end.saturating_duration_since(seen.last))
    }

    /// Forgets all.
    pub(crate) fn reset(&self) {
        *self.0.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of ten seconds with acknowledgements at these seconds.
    fn check(acknowledged: &[u64], longest: u64) {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let gaps = Gaps::default();
        for second in acknowledged {
            gaps.acknowledged(at(*second));
        }
        let found = gaps.longest(start, at(10));
        assert_eq!(found, Duration::from_secs(longest), "{acknowledged:?}");
    }

    #[test]
    fn a_pause_counts_wherever_it_is() {
        check(&[], 10);
        check(&[2, 4, 6, 8, 10], 2);
        check(&[7, 9], 7); // at the beginning
        check(&[1, 2, 8, 9], 6); // in the middle
        check(&[1, 2, 3], 7); // at the end
        check(&[1, 2, 3, 15], 12); // answered late
        check(&[1, 3, 2, 4, 9], 5); // out of order
    }

    #[test]
    fn what_was_before_is_forgotten() {
        let gaps = Gaps::default();
        let start = Instant::now();
        gaps.acknowledged(start);
        assert_eq!(gaps.last(), Some(start));
        gaps.reset();
        assert_eq!(gaps.last(), None);
    }
}

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// What time it is.
pub trait Clock: Send + Sync {
    /// Nanoseconds since 1970-01-01T00:00:00Z; may jump when the machine's clock is set.
    fn unix_nanos(&self) -> i64;

    /// Time since some fixed moment of this process; never goes back. For timeouts and rates.
    fn monotonic(&self) -> Duration;

    /// Whole seconds since 1970-01-01T00:00:00Z, rounded down.
    fn unix_seconds(&self) -> i64 {
        self.unix_nanos().div_euclid(1_000_000_000)
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    unix_nanos: AtomicI64,
    elapsed_nanos: AtomicU64,
}

impl ManualClock {
    /// A clock showing `unix_nanos`, with no time elapsed.
    pub fn new(unix_nanos: i64) -> ManualClock {
        ManualClock {
            unix_nanos: AtomicI64::new(unix_nanos),
            elapsed_nanos: AtomicU64::new(0),
        }
    }

    /// Lets `by` pass on both scales.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.elapsed_nanos.fetch_add(nanos, Ordering::SeqCst);
        let signed = i64::try_from(nanos).unwrap_or(i64::MAX);
        self.unix_nanos.fetch_add(signed, Ordering::SeqCst);
    }

    /// Sets the time of day, as an operator would; elapsed time is not touched.
    pub fn set_unix_nanos(&self, unix_nanos: i64) {
        self.unix_nanos.store(unix_nanos, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn unix_nanos(&self) -> i64 {
        self.unix_nanos.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.elapsed_nanos.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_the_clock_is_not_the_passing_of_time() {
        let clock = ManualClock::new(-1);
        assert_eq!(clock.unix_seconds(), -1);
        clock.advance(Duration::from_secs(2));
        assert_eq!(clock.unix_seconds(), 1);
        clock.set_unix_nanos(0);
        assert_eq!(
            (clock.unix_nanos(), clock.monotonic()),
            (0, Duration::from_secs(2))
        );
    }
}

//! Growing pauses between attempts.

use std::time::Duration;

use selvage_env::Rng;

/// Pauses that grow by 1.6 from a base to a limit, each shortened or lengthened by up to a fifth so
/// that nodes that failed together do not return together.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    limit: Duration,
    current: Duration,
}

impl Backoff {
    /// Begins at `base` and never exceeds `limit` by more than the jitter.
    pub fn new(base: Duration, limit: Duration) -> Self {
        Self {
            base,
            limit,
            current: base,
        }
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        self.current = self.base;
    }

    /// The next pause.
    pub fn pause(&mut self, rng: &dyn Rng) -> Duration {
        let pause = self.current;
        self.current = pause.mul_f64(1.6).min(self.limit);
        let mut random = [0; 2];
        rng.fill(&mut random);
        let jitter = f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX);
        pause.mul_f64(0.8 + 0.4 * jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_and_start_anew() {
        let env = selvage_env::Env::test(7);
        let (base, limit) = (Duration::from_millis(100), Duration::from_secs(10));
        let mut backoff = Backoff::new(base, limit);
        let first = backoff.pause(env.rng.as_ref());
        assert!(
            first >= base.mul_f64(0.79) && first <= base.mul_f64(1.21),
            "{first:?}"
        );
        for _ in 0..30 {
            assert!(backoff.pause(env.rng.as_ref()) <= limit.mul_f64(1.21));
        }
        assert!(backoff.pause(env.rng.as_ref()) >= limit.mul_f64(0.79));
        backoff.reset();
        assert!(backoff.pause(env.rng.as_ref()) <= base.mul_f64(1.21));
    }
}

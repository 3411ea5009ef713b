//! Chance, all of it from the run's seed.

use selvage_env::{Rng, SeededRng};

/// Throws dice.
#[derive(Debug)]
pub struct Dice(SeededRng);

impl Dice {
    /// Dice that fall the same way for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(SeededRng::new(seed))
    }

    /// A number below `limit`; 0 for a limit of 0.
    pub fn below(&self, limit: u64) -> u64 {
        self.0.next_u64() % limit.max(1)
    }

    /// A number of the range, both ends included.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True `per_mille` times of a thousand.
    pub fn chance(&self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// A seed for other dice.
    pub fn seed(&self) -> u64 {
        self.0.next_u64()
    }
}

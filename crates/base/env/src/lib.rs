//! The seam through which time, chance and storage enter.
//!
//! Everything in Selvage that decides something from the time of day, from a random number or
//! from what a disk holds takes these three from an [`Env`]. A program passes [`Env::real`]; a
//! test passes [`TestEnv`], whose clock stands still until moved, whose random numbers follow from
//! a seed and whose disk ([`MemDisk`]) can fail at any operation or lose power.
//!
//! | what | trait | in a program | in a test |
//! |---|---|---|---|
//! | time | [`Clock`] | [`System`] | [`ManualClock`] |
//! | chance | [`Rng`] | [`System`] | [`SeededRng`] |
//! | files | [`Disk`], [`DiskFile`] | [`RealDisk`] | [`MemDisk`] |
//!
//! Fabric has no such seam: its code asks the operating system wherever it stands.

mod clock;
mod disk;
mod rng;

use std::sync::Arc;

pub use clock::{Clock, ManualClock};
pub use disk::{
    Crash, DirLock, Disk, DiskError, DiskFile, DiskOp, Fault, FaultKind, MemDisk, OpenMode,
    RealDisk,
};
pub use rng::{Rng, SeededRng, System, random_array};

/// The time, chance and storage one process or one simulated node works with.
///
/// Cloning shares the three; it is a handful of reference counts.
#[derive(Clone)]
pub struct Env {
    /// Time of day and elapsed time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes fit for keys and nonces.
    pub rng: Arc<dyn Rng>,
    /// Files.
    pub disk: Arc<dyn Disk>,
}

impl Env {
    /// The operating system's clock, random numbers and files.
    pub fn real() -> Env {
        Env {
            clock: Arc::new(System),
            rng: Arc::new(System),
            disk: Arc::new(RealDisk),
        }
    }

    /// A frozen clock, random numbers that follow from `seed` and an empty disk in memory.
    ///
    /// A test that wants to move the clock or break the disk keeps the handles of [`TestEnv`].
    pub fn test(seed: u64) -> Env {
        TestEnv::new(seed).env()
    }
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Env")
    }
}

/// A simulated environment together with the handles that steer it.
#[derive(Clone, Debug)]
pub struct TestEnv {
    /// The clock; it moves only when told.
    pub clock: Arc<ManualClock>,
    /// The random numbers.
    pub rng: Arc<SeededRng>,
    /// The disk.
    pub disk: Arc<MemDisk>,
}

impl TestEnv {
    /// A clock at 2025-01-01T00:00:00Z, random numbers from `seed`, an empty disk.
    pub fn new(seed: u64) -> TestEnv {
        TestEnv {
            clock: Arc::new(ManualClock::new(1_735_689_600_000_000_000)),
            rng: Arc::new(SeededRng::new(seed)),
            disk: Arc::new(MemDisk::new()),
        }
    }

    /// The same three behind the traits.
    pub fn env(&self) -> Env {
        Env {
            clock: self.clock.clone(),
            rng: self.rng.clone(),
            disk: self.disk.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_same_seed_gives_the_same_world() {
        let (a, b, c) = (Env::test(1), Env::test(1), Env::test(2));
        let bytes = |env: &Env| random_array::<16>(&*env.rng);
        assert_eq!(a.clock.unix_nanos(), b.clock.unix_nanos());
        let first = bytes(&a);
        assert_eq!(first, bytes(&b));
        assert_ne!(first, bytes(&c));
        assert_ne!(first, bytes(&a));
    }

    #[test]
    fn the_real_world_moves() {
        let env = Env::real();
        assert!(env.clock.unix_nanos() > 1_700_000_000_000_000_000);
        let before = env.clock.monotonic();
        assert!(env.clock.monotonic() >= before);
        assert_ne!(random_array::<32>(&*env.rng), random_array::<32>(&*env.rng));
        assert!(env.disk.exists(Path::new("/")).unwrap());
    }
}

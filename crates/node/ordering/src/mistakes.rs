//! Mistakes that consensus engines and journals made once, here or elsewhere, to be made again: the
//! simulator has to notice each of them (`docs/simulation.md`).
//!
//! One can be made only with the feature `mistakes`, which nothing but `tools/sim` asks for, and only
//! by the thread that [`Making::begin`] was called on. Without the feature [`made`] is `false` at
//! compile time, and no program holds what would happen otherwise.

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// A Raft leader takes the place in the log that a quorum has from a list that is not in order, and
    /// no node objects to what comes of it (openraft's issue 1802).
    CommitUnsorted,
    /// A Raft leader that steps down for a successor waits for ever for it to take over.
    TrustSuccessor,
    /// A Raft node calls elections while a snapshot is on its way to the disk.
    ElectWhileRestoring,
    /// A Raft leader goes on waiting for a configuration that its log did not take.
    AwaitLostConfig,
    /// A Raft node without a vote does not notice that nobody leads any more.
    MissSilence,
    /// A BFT proposer does not log what it proposed, so that it makes another block after a restart,
    /// and signs what it is asked to (malachite's issue 864).
    ForgetProposal,
    /// A BFT node sends back a message that was let in by a configuration it does not know yet.
    SendBackEarly,
    /// A journal whose end is torn does not open (malachite's issue 1434).
    RefuseTornEnd,
}

/// Whether this thread makes a mistake.
#[cfg(not(feature = "mistakes"))]
#[inline(always)]
pub const fn made(_: Mistake) -> bool {
    false
}

#[cfg(feature = "mistakes")]
pub use making::{Making, made};

#[cfg(feature = "mistakes")]
mod making {
    use std::cell::Cell;
    use std::marker::PhantomData;

    use super::Mistake;

    thread_local! {
        static MADE: Cell<Option<Mistake>> = const { Cell::new(None) };
    }

    /// Whether this thread makes a mistake.
    pub fn made(mistake: Mistake) -> bool {
        MADE.get() == Some(mistake)
    }

    /// The time in which the thread that began it makes a mistake; dropping it ends it.
    #[derive(Debug)]
    pub struct Making(PhantomData<*const ()>);

    impl Making {
        /// Makes this mistake from now on, or none.
        pub fn begin(mistake: Option<Mistake>) -> Self {
            MADE.set(mistake);
            Self(PhantomData)
        }
    }

    impl Drop for Making {
        fn drop(&mut self) {
            MADE.set(None);
        }
    }
}

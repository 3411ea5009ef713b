//! Hostile bytes for every decoder that takes bytes from outside.
//!
//! A [`Target`] is one plain function over bytes, with seeds to start from. The same table runs in
//! two ways:
//!
//! * `cargo test -p selvage-fuzz`, part of `make test`, on stable: [`driver`] changes the seeds at
//!   random, from a fixed start, a bounded number of times;
//! * `make fuzz TARGET=… SECONDS=…`: libFuzzer, which sees what each input reaches and goes on from
//!   there. It is a crate of its own (`tools/fuzz/libfuzzer`), because it needs Rust's nightly.
//!
//! What a target asks for beyond "does not panic" stands in it as assertions: what was decoded and
//! encoded again decodes to the same; what one half accepts the other half accepts; answers are
//! bounded by what they answer. libFuzzer watches time and memory as well.
//!
//! An input is never signed or checksummed itself: where the code under test wants a signature, a
//! checksum or an archive around it, the target adds that. So a change reaches the code behind, and
//! a failing input is the same in every run although keys are not.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::missing_panics_doc)]

mod cluster;
mod consenter;
pub mod driver;
mod golden;
mod mutate;
mod peer;
mod pick;
mod protobuf;
mod reach;
pub mod targets;
mod world;

pub use mutate::mutate;
pub use reach::Reached;
pub use targets::{TARGETS, target};

/// A decoder, or a chain of them, and how to feed it.
pub struct Target {
    /// What `make fuzz TARGET=` calls it.
    pub name: &'static str,
    /// Whose bytes it takes.
    pub about: &'static str,
    /// Takes any bytes and panics when something is wrong.
    pub run: fn(&[u8]),
    /// Inputs that get far.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Where they get, taken together: places behind the first checks.
    pub reaches: &'static [&'static str],
    /// Inputs that `make test` tries.
    pub iterations: u32,
}

/// Inputs are not longer than this: longer ones find little more and take long.
pub const MAX_INPUT: usize = 64 << 10;

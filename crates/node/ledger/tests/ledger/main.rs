//! The ledger from outside: simulate, commit, read, break.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../support/mod.rs"]
mod support;

mod conflicts;
mod model;
mod powercut;
mod private;
mod recovery;
mod simulation;

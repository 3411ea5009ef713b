//! The ledger from outside: simulate, commit, read, break.

#[path = "../support/mod.rs"]
mod support;

mod conflicts;
mod model;
mod private;
mod recovery;
mod simulation;

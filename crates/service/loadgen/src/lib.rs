//! A load generator for any Fabric network: it speaks Fabric's protocol and nothing else.
//!
//! A run has four parts. [`target`] reads who and where from a file, [`plan`] asks the network
//! which peers must endorse and where blocks are ordered (Fabric's discovery service), [`load`]
//! drives clients against that plan while [`commits`] watches a peer's filtered blocks, and
//! [`report`] turns what they counted into figures, with the processor time that [`processes`]
//! read from `/proc` for every process that listens on one of the network's ports and all its
//! descendants.
//!
//! An open loop sends the next transaction as soon as the last was ordered; a closed loop waits
//! until it was committed. Latency always counts from the start of the proposal to the moment the
//! peer's block event arrives.
//!
//! A run that only orders ([`broadcast`]) needs no chaincode and no endorsement: it counts what
//! orderers acknowledge, and leaves out the peers. In each run [`gaps`] keeps the longest time
//! without an acknowledgement.

mod broadcast;
mod commits;
mod connections;
mod error;
mod gaps;
mod load;
mod plan;
mod processes;
mod report;
mod target;

pub mod cli;

pub use error::BenchError;

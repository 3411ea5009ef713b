//! The peer node: endorses proposals, validates and commits blocks, and serves what it committed.
//!
//! A bird's-eye view, in the words Fabric uses:
//!
//! * [`channels`]: the channels this peer has joined; each is a ledger, the configuration in force
//!   and the listeners for commits (Fabric: `core/peer`).
//! * [`lifecycle`]: committed chaincode definitions as they lie in the `_lifecycle` namespace.
//! * [`validator`]: gives every transaction of a block its code (Fabric: `txvalidator`, the VSCC and
//!   state-based endorsement).
//! * [`committer`]: takes blocks from the ordering service through verification, validation and
//!   commit, one block ahead of the disk.
//! * [`deliver`]: the peer's `Deliver` services, and the client that follows the orderers.
//! * [`endorser`], [`chaincode_glue`], [`scc`]: simulation of proposals, user and system chaincode.
//! * [`gateway`], [`discovery`]: what client applications talk to.
//! * [`config`], [`node`]: `core.yaml`, and the wiring of everything above into one process.

pub mod chaincode_glue;
pub mod channels;
pub mod committer;
pub mod config;
pub mod deliver;
mod details;
pub mod discovery;
pub mod endorser;
pub mod gateway;
#[cfg(test)]
mod golden;
pub mod lifecycle;
pub mod node;
pub mod scc;
pub mod validator;

pub use selvage_crypto::in_full as report;

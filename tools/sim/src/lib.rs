//! Whole clusters of orderers in one thread, with time, network and disks made from one seed.
//!
//! What runs is the real thing as far as it is pure: engines, block cutters, journals and block
//! stores, on [`selvage_env::MemDisk`]s, and beside each orderer a [`peer`]'s ledger. What the orderer's driver does with sockets and threads, the
//! [`node`] does with events. A run has two phases. In the first, the [`scenario`] loses, delays,
//! doubles and reorders messages, splits the network, stops nodes at any write and takes from their
//! disks what was not synced. Then everything heals, and the cluster has to get going again.
//! All the while, and at the end, [`invariants`] watch; the [`oracle`] knows what clients were
//! promised. The same seed gives the same run, event for event.
//!
//! Of a BFT cluster some nodes may lie ([`liars`]). [`bugs`] are mistakes put back on purpose, to see that they are noticed.

pub mod bugs;
pub mod cluster;
pub mod dice;
pub mod invariants;
pub mod journals;
pub mod liars;
pub mod network;
pub mod node;
pub mod oracle;
pub mod peer;
pub mod scenario;
pub mod transactions;
pub mod world;

pub use cluster::{BftCluster, Cluster, RaftCluster};
pub use scenario::Scenario;
pub use world::{Failure, Outcome, World, run};

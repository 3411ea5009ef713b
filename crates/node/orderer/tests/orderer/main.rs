//! An orderer over real sockets, with certificates as `cryptogen` makes them.

#![allow(clippy::unwrap_used)]

mod bad_disk;
mod bft;
mod broadcast;
mod certificates;
mod cluster;
mod consortium;
mod deliver;
mod fabric;
mod fabric_metrics;
mod faults;
mod load;
mod log;
mod migration;
mod mixed;
mod onboarding;
mod operations;
mod participation;
mod partitions;
mod patience;
mod process;
mod raft;
mod reconfigure;
mod recovery;
mod refusals;
mod restart;
mod rotation;
mod sizes;
mod updates;
mod world;

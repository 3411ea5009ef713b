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
mod faults;
mod migration;
mod mixed;
mod onboarding;
mod operations;
mod participation;
mod partitions;
mod process;
mod raft;
mod reconfigure;
mod recovery;
mod restart;
mod world;

//! An orderer over real sockets, with certificates as `cryptogen` makes them.

#![allow(clippy::unwrap_used)]

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
mod operations;
mod participation;
mod raft;
mod reconfigure;
mod restart;
mod world;

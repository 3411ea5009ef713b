//! An orderer over real sockets, with certificates as `cryptogen` makes them.

#![allow(clippy::unwrap_used)]

mod broadcast;
mod cluster;
mod deliver;
mod faults;
mod operations;
mod participation;
mod raft;
mod reconfigure;
mod restart;
mod world;

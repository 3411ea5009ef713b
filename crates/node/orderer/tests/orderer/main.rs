//! An orderer over real sockets, with certificates as `cryptogen` makes them.

#![allow(clippy::unwrap_used)]

mod broadcast;
mod deliver;
mod faults;
mod operations;
mod participation;
mod reconfigure;
mod restart;
mod world;

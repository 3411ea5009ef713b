//! An orderer over real sockets, with certificates as `cryptogen` makes them.

mod broadcast;
mod deliver;
mod faults;
mod participation;
mod restart;
mod world;

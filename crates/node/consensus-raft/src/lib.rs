//! The Raft engine: crash-tolerant ordering, message for message that of Fabric's etcdraft
//! orderers, so that ours can stand in one cluster with theirs.
//!
//! The state machine of Raft itself is the `raft` crate's, a port of the one in etcd that Fabric
//! uses. This crate turns clients' messages into its proposals and its committed entries into
//! blocks, as an [`Engine`](selvage_ordering::Engine): inputs in, effects out. An entry is an
//! encoded block or a change of membership; a snapshot is the newest block.
//!
//! | here | Fabric |
//! |---|---|
//! | [`Raft`] | `etcdraft.Chain` |
//! | [`Membership`] | `etcdraft/membership.go`, `BlockMetadata` |
//! | [`wire`] | `go.etcd.io/raft/v3/raftpb` |
//! | `log` | `etcdraft/storage.go` |
//! | `guard` | none: etcd's Raft panics where a message cannot be true |
//!
//! A message of a client counts as ordered when a committed entry holds it: then it is on the disks
//! of a quorum, and [`Effect::Accept`](selvage_ordering::Effect::Accept) says so, on whatever node
//! the client is connected to.

mod apply;
mod engine;
mod guard;
mod log;
mod logger;
mod membership;
mod propose;
mod ready;
mod start;
pub mod wire;

pub use engine::{Raft, RaftOptions};
pub use log::LogError;
pub use membership::{
    Change, Membership, MembershipError, config_metadata, consensus_of, consensus_of_block,
    tick_interval,
};
pub use start::{Start, StartError};

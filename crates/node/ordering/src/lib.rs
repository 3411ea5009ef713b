//! Ordering: which messages are let in, how they are gathered into blocks, and the seam behind
//! which consensus happens.
//!
//! A message passes the [`filters`], then an [`Engine`] orders it; the engine gathers messages with
//! a [`BlockCutter`] and hands finished [`Decision`]s to its driver, who completes, signs and
//! stores the block ([`block`]) and reports back. Everything here is a pure state machine: time,
//! randomness, disk and network belong to the driver (the orderer node).
//!
//! | here | Fabric |
//! |---|---|
//! | [`filters`] | `orderer/common/msgprocessor`, statuses of `broadcast` |
//! | [`BlockCutter`] | `orderer/common/blockcutter` |
//! | [`Batcher`] | the batch timer of the consenters' main loops |
//! | [`journal`] | the write-ahead log of `orderer/consensus/etcdraft/storage.go` |
//! | [`Engine`] | `consensus.Chain` |
//! | [`solo::Solo`] | the solo consenter of Fabric 1 and 2 |
//! | [`block::Tip`], [`block::sign_block`] | `multichannel.BlockWriter` |

mod batcher;
pub mod block;
mod cutter;
mod engine;
pub mod filters;
pub mod journal;
mod maintenance;
pub mod mistakes;
mod refused;
pub mod solo;
pub mod waiting;

pub use batcher::{Batcher, Cutting};
pub use cutter::{BatchLimits, BlockCutter, Cut, message_size};
pub use engine::{
    Decision, Effect, Engine, Input, JournalWrite, Member, Parameters, Rejection, Submission,
    Ticket,
};
pub use refused::Refused;

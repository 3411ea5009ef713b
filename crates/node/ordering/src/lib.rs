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
//! | [`Engine`] | `consensus.Chain` |
//! | [`solo::Solo`] | the solo consenter of Fabric 1 and 2 |
//! | [`block::Tip`], [`block::sign_block`] | `multichannel.BlockWriter` |

pub mod block;
mod cutter;
mod engine;
pub mod filters;
mod maintenance;
pub mod solo;

pub use cutter::{BatchLimits, BlockCutter, Cut, message_size};
pub use engine::{Decision, Effect, Engine, Input, Parameters, Rejection, Submission, Ticket};

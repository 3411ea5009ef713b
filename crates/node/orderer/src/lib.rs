//! The ordering node: broadcast, deliver and channel participation.
//!
//! A client's message comes in over broadcast, passes the filters of `selvage-ordering`,
//! is ordered by the channel's engine, signed and stored in a block, and only then acknowledged.
//! Blocks go out through `selvage-net`'s deliver. Administrators join and remove channels over
//! HTTP.
//!
//! | here | Fabric |
//! |---|---|
//! | [`config::Settings`] | `orderer.yaml`, `orderer/common/localconfig` |
//! | `broadcast` | `orderer/common/broadcast` |
//! | `chain` | `multichannel.ChainSupport`, `BlockWriter`, the consenter's main loop |
//! | `registrar` | `multichannel.Registrar` |
//! | `onboarding` | `follower.Chain` before its first block |
//! | `participation` | `orderer/common/channelparticipation` |
//! | `standings` | `multichannel.Metrics` |
//! | `refusals` | what Fabric only logs |
//! | `limiter` | `General.Throttling` |
//! | [`node`] | `orderer/common/server` |

mod broadcast;
mod chain;
pub mod cluster;
pub mod config;
mod error;
mod limiter;
mod local_msp;
pub mod node;
mod onboarding;
mod participation;
mod refusals;
mod registrar;
mod reload;
mod standings;
mod tls;

pub use chain::CONSENSUS_TYPES;
pub use error::{ChainError, OrdererError};
pub use local_msp::Signer;
pub use refusals::Refusals;
pub use selvage_crypto::in_full;

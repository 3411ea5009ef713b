//! The client of a Fabric network that Selvage uses itself: its manager, its block browser, its
//! load generator. It speaks only Fabric's protocols, to our nodes and to Fabric's alike.
//!
//! A [`User`] signs; [`Peer`] and [`Orderer`] are connections. On top of them:
//!
//! | here | Fabric |
//! |---|---|
//! | [`Gateway`] | the Fabric Gateway client libraries |
//! | [`Network`], [`Proposal`], [`endorse`] | SDKs before the gateway, `peer chaincode invoke` |
//! | [`Checkpoint`], [`Peer::blocks`], [`Peer::filtered_blocks`] | block and chaincode events |
//! | [`PeerAdmin`] | `peer channel`, `peer lifecycle chaincode`; `cscc`, `qscc`, `_lifecycle` |
//! | [`ConfigChange`] | `configtxlator compute_update`, `peer channel signconfigtx` and `update` |
//! | [`Profile`] | connection profiles |
//! | [`Participation`] | `osnadmin channel` |
//! | [`explorer`] | what a block browser shows of a block |

mod admin;
mod commits;
mod deliver;
mod error;
pub mod explorer;
mod gateway;
mod lifecycle;
mod node;
mod participation;
mod profile;
mod proposal;
mod transact;
mod update;
mod user;

pub use admin::PeerAdmin;
pub use commits::CommitWatch;
pub use deliver::From;
pub use error::{ClientError, Failure};
pub use gateway::{Checkpoint, CommitStatus, Committed, Event, Gateway, Prepared};
pub use lifecycle::{Definition, EndorsementPolicy};
pub use node::{Orderer, Peer, endorse};
pub use participation::{ChannelState, ListedChannel, Participation};
pub use profile::{Pem, Profile, ProfileNode};
pub use proposal::{Invocation, Proposal, transaction_result};
pub use transact::Network;
pub use update::ConfigChange;
pub use user::User;

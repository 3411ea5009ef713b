//! How the orderers of a channel reach each other: consensus messages and forwarded transactions
//! both ways. Blocks that this node lacks it fetches by Deliver, as everybody does (`chain::fetch`).
//!
//! | here | Fabric |
//! |---|---|
//! | [`ClusterTls`] | `General.Cluster`, `cluster.PredicateDialer` |
//! | [`Links`] | `cluster.Comm`, `cluster.AuthCommMgr`, `cluster.RPC` |
//! | [`StepService`] | `cluster.Service`, `cluster.ClusterService` |
//!
//! A channel is announced with [`Links::open`], which gives it its [`Ports`], and told about its
//! nodes with [`Links::configure`]. Nodes prove who they are by TLS certificates: those in the
//! channel's configuration count, compared by public key and whatever their validity, as in Fabric,
//! so that a consenter can be given a certificate that was renewed with the same key.

mod auth;
mod connections;
mod lane;
mod links;
mod members;
mod metrics;
mod ports;
mod queue;
mod service;
mod tls;

pub use auth::node_auth_request;
pub use links::{LinkOptions, Links, NotSent};
pub use members::Kind;
pub(crate) use members::consenter_address;
pub use ports::{Forwarded, Ports, Received, Unreachable};
pub use service::{Limits, StepService};
pub use tls::ClusterTls;

/// The version of the handshake of BFT streams. Fabric's BFT orderers speak version 0.
pub const BFT_VERSION: u32 = auth::VERSION;

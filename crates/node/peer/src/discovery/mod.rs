//! Who can endorse what: the peers of a channel, plans over them, and the discovery service
//! (Fabric: `discovery`).

mod layouts;
mod membership;
mod planner;
mod principals;
mod service;

pub(crate) use membership::{Member, belongs_to};
pub use membership::{Membership, OwnPeer};
pub(crate) use planner::Planned;
pub use planner::Planner;
pub use service::{DiscoveryService, DiscoverySettings};

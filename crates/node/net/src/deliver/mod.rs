//! Block delivery, both ends: clients ask with a signed `SeekInfo`, servers answer with blocks and
//! a closing status.
//!
//! | here | Fabric |
//! |---|---|
//! | [`Deliverer`], [`Source`], [`Respond`] | `common/deliver` handler, chain, response sender |
//! | [`Follower`] | `internal/pkg/peer/blocksprovider`, `orderer/common/cluster` block pullers |
//! | [`seek_envelope`] | the `DELIVER_SEEK_INFO` envelope |

mod follow;
mod seek;
mod serve;
#[cfg(test)]
mod tests;

pub use follow::{
    FollowError, Follower, Kind, Rejected, RequestOpen, Signer, ToldOfRefusals, open_request,
};
pub use seek::{between, from_on, newest, oldest, only, seek_envelope, specified};
pub use serve::{Deliverer, Respond, SeekRequest, Source, SourceError, Sources};

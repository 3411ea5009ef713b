//! The channels this peer has joined (Fabric: `core/peer`).

mod channel;
mod notifier;
mod registry;

pub use channel::{ChannelError, PeerChannel};
pub use notifier::{CommitStatus, CommittedBlock, CommittedTx, Notifier, TooManyWaiting, TxWait};
pub use registry::{Channels, JoinError};

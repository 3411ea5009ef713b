//! Following the orderers of a channel and feeding its committer
//! (Fabric: `deliverservice`, `blocksprovider`).

use std::sync::Arc;
use std::time::Duration;

use selvage_env::{Clock, Rng};
use selvage_net::CancellationToken;
use selvage_net::Endpoint;
use selvage_net::deliver::{Follower, Kind, Rejected, Signer};

use crate::channels::PeerChannel;
use crate::committer::{Committer, OfferError};

/// Knows how to reach the orderers of a channel configuration.
pub trait Orderers: Send + Sync + 'static {
    /// The endpoints to pull blocks from, by the channel's configuration as it is now.
    fn endpoints(&self, channel: &PeerChannel) -> Vec<Endpoint>;
}

/// What every channel's follower needs of the node.
#[derive(Clone)]
pub struct Following {
    /// Signs requests for blocks.
    pub signer: Arc<dyn Signer>,
    /// Where the orderers are.
    pub orderers: Arc<dyn Orderers>,
    /// Stamps requests.
    pub clock: Arc<dyn Clock>,
    /// Chooses orderers and spreads retries.
    pub rng: Arc<dyn Rng>,
    /// The longest pause between attempts.
    pub max_pause: Duration,
}

/// How long an orderer may have no new block before the others are asked whether they have.
const IDLE: Duration = Duration::from_secs(60);

/// Pulls blocks into `committer` until `stop` is cancelled or the channel stops.
pub async fn follow(
    node: &Following,
    channel: Arc<PeerChannel>,
    committer: Arc<Committer>,
    stop: CancellationToken,
) {
    let orderers = node.orderers.clone();
    let of_channel = channel.clone();
    let follower = Follower {
        channel_id: channel.id().to_owned(),
        kind: Kind::Orderer,
        signer: node.signer.clone(),
        endpoints: Arc::new(move || orderers.endpoints(&of_channel)),
        clock: node.clock.clone(),
        rng: node.rng.clone(),
        max_pause: node.max_pause,
        idle: IDLE,
        best_effort: false,
        refused: None,
    };
    let next = committer.next().await;
    let halt = stop.child_token();
    let accept = |block: selvage_proto::common::Block, source: String| {
        let (committer, halt) = (committer.clone(), halt.clone());
        let channel = channel.id().to_owned();
        async move {
            tracing::debug!(channel, block = block.number(), source, "Received block");
            match committer.offer(block).await {
                Ok(()) => Ok(()),
                Err(error) => {
                    if matches!(error, OfferError::Stopped(_)) {
                        halt.cancel();
                    }
                    Err(Rejected(crate::report(&error)))
                }
            }
        }
    };
    follower.run(next, halt.clone(), accept).await;
}

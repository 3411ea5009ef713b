//! What the node does for every channel it opens: pull, commit, follow configuration changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use selvage_net::CancellationToken;
use selvage_net::metrics::Gauges;
use tokio::runtime::Handle;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::tls::PeerTls;
use crate::chaincode_glue::Chaincodes;
use crate::channels::{Channels, PeerChannel};
use crate::committer::{CommitError, Committer, CommitterOptions};
use crate::deliver::{Following, follow};
use crate::validator::Validator;

/// Channels that stopped, with the reason.
pub(crate) type Stopped = Arc<Mutex<BTreeMap<String, String>>>;

/// Keeps a node's channels going. The registry of channels holds it, so it must not hold what leads
/// back there.
pub(crate) struct ChannelKeeper {
    pub(crate) validator: Arc<Validator>,
    pub(crate) options: CommitterOptions,
    pub(crate) following: Following,
    /// Whether this peer pulls blocks from the orderers itself.
    pub(crate) pulls: bool,
    pub(crate) tls: Arc<PeerTls>,
    pub(crate) channels: Weak<Channels>,
    pub(crate) chaincodes: Weak<Chaincodes>,
    pub(crate) shutdown: CancellationToken,
    /// Where a failure goes after which the process must not go on.
    pub(crate) fatal: mpsc::Sender<String>,
    pub(crate) stopped: Stopped,
    pub(crate) heights: Gauges,
    pub(crate) runtime: Handle,
    pub(crate) committers: Mutex<Vec<Arc<Committer>>>,
}

impl ChannelKeeper {
    /// Starts what a channel that was just opened needs.
    pub(crate) fn keep(self: &Arc<Self>, channel: &Arc<PeerChannel>) {
        let _inside = self.runtime.enter();
        let committer = Arc::new(Committer::start(
            channel.clone(),
            self.validator.clone(),
            self.options,
            self.shutdown.clone(),
        ));
        if self.pulls {
            let (keeper, channel, committer) = (self.clone(), channel.clone(), committer.clone());
            tokio::spawn(async move {
                let stop = keeper.shutdown.clone();
                follow(&keeper.following, channel, committer, stop).await;
            });
        } else {
            tracing::warn!(
                channel = channel.id(),
                "peer.gossip.orgLeader is false: this peer does not pull blocks itself"
            );
        }
        self.committers.lock().push(committer.clone());
        if let Some(chaincodes) = self.chaincodes.upgrade() {
            chaincodes.follow(channel, self.shutdown.clone());
        }
        tokio::spawn(self.clone().watch_failure(channel.clone(), committer));
        tokio::spawn(self.clone().watch_commits(channel.clone()));
    }

    /// Waits until every channel is done with the block in hand.
    pub(crate) async fn finish(&self) {
        let committers = std::mem::take(&mut *self.committers.lock());
        for committer in committers {
            committer.finish().await;
        }
    }

    async fn watch_failure(self: Arc<Self>, channel: Arc<PeerChannel>, committer: Arc<Committer>) {
        let error = tokio::select! {
            () = self.shutdown.cancelled() => return,
            error = committer.stopped() => error,
        };
        let reason = crate::report(error.as_ref());
        self.stopped
            .lock()
            .insert(channel.id().to_owned(), reason.clone());
        if let CommitError::Ledger { source, .. } = error.as_ref()
            && source.is_fatal()
        {
            let reason = format!("channel {}: {reason}", channel.id());
            // A full queue means that the node is stopping already.
            let _ = self.fatal.try_send(reason);
        }
    }

    async fn watch_commits(self: Arc<Self>, channel: Arc<PeerChannel>) {
        let height = self.heights.with(&[channel.id()]);
        height.set(channel.height() as i64);
        self.refresh_roots();
        let mut commits = channel.subscribe();
        loop {
            let commit = tokio::select! {
                () = self.shutdown.cancelled() => return,
                commit = commits.recv() => commit,
            };
            match commit {
                Ok(block) => {
                    height.set(block.number as i64 + 1);
                    if block.reconfigured {
                        self.refresh_roots();
                    }
                }
                Err(RecvError::Lagged(_)) => self.refresh_roots(),
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn refresh_roots(&self) {
        if let Some(channels) = self.channels.upgrade() {
            self.tls.refresh_client_roots(&channels);
        }
    }
}

//! Takes blocks from the ordering service to the ledger
//! (Fabric: `gossip/state`, `core/committer`, `blocksprovider`'s block handling).
//!
//! A block is verified and prepared by whoever offers it, while the block before is judged and
//! committed by the channel's own task: signatures of block n+1 are checked while n goes to disk.
//! What depends on the state (definitions, key-level policies, ids, MVCC) happens in the second
//! half only. A block that may follow a new configuration waits until that is in force.

mod pipeline;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use selvage_crypto::sha256;
use selvage_proto::block::header_bytes;
use selvage_proto::common::Block;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::channels::PeerChannel;
use crate::validator::{Scope, ValidateError, Validator};
use pipeline::Job;

/// Blocks that are verified and wait for their commit.
const QUEUE: usize = 4;

/// Why a block was not taken.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// The block is not what the channel's orderers would sign. Its source is not to be trusted.
    #[error("channel {channel}: block {number} does not verify")]
    Verify {
        /// The channel.
        channel: String,
        /// The block.
        number: u64,
        /// What is wrong.
        #[source]
        source: selvage_channel::BlockError,
    },
    /// Blocks are missing in between.
    #[error("channel {channel}: got block {got} where {expected} comes next")]
    Gap {
        /// The channel.
        channel: String,
        /// The number of the offered block.
        got: u64,
        /// The number that comes next.
        expected: u64,
    },
    /// The channel takes no more blocks; the log says why.
    #[error("channel {0} is stopped")]
    Stopped(String),
}

/// Why a channel stopped.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A block could not be judged.
    #[error("block {number} could not be validated")]
    Validate {
        /// The block.
        number: u64,
        /// Why.
        #[source]
        source: ValidateError,
    },
    /// A block could not be written.
    #[error("block {number} could not be committed")]
    Ledger {
        /// The block.
        number: u64,
        /// Why.
        #[source]
        source: selvage_ledger::LedgerError,
    },
    /// A worker panicked.
    #[error("block {number}: the commit was interrupted")]
    Interrupted {
        /// The block.
        number: u64,
    },
}

/// Where the chain of offered blocks ends.
struct Tip {
    next: u64,
    hash: Bytes,
}

/// The way into one channel's ledger. Offer blocks in order, one at a time.
pub struct Committer {
    channel: Arc<PeerChannel>,
    validator: Arc<Validator>,
    tip: tokio::sync::Mutex<Tip>,
    scope: Mutex<Arc<Scope>>,
    jobs: mpsc::Sender<Job>,
    stopped: watch::Receiver<Option<Arc<CommitError>>>,
}

impl Committer {
    /// Starts the committing task of a channel; it ends when the committer is dropped or `shutdown`
    /// is cancelled, after the block in hand. `tip_hash` is the header hash of the newest block.
    pub fn start(
        channel: Arc<PeerChannel>,
        validator: Arc<Validator>,
        tip_hash: Bytes,
        shutdown: CancellationToken,
    ) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (stopped_tx, stopped) = watch::channel(None);
        let tip = Tip { next: channel.height(), hash: tip_hash };
        let scope = Arc::new(Scope::new(channel.config()));
        tokio::spawn(pipeline::run(
            channel.clone(),
            validator.clone(),
            queue,
            stopped_tx,
            shutdown,
        ));
        Self {
            channel,
            validator,
            tip: tokio::sync::Mutex::new(tip),
            scope: Mutex::new(scope),
            jobs,
            stopped,
        }
    }

    /// The number of the block that is wanted next.
    pub async fn next(&self) -> u64 {
        self.tip.lock().await.next
    }

    /// Waits until the channel stops for good, and says why.
    pub async fn stopped(&self) -> Arc<CommitError> {
        let mut stopped = self.stopped.clone();
        loop {
            if let Some(error) = stopped.borrow_and_update().clone() {
                return error;
            }
            if stopped.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Verifies a block, prepares it and queues it for commit. Returns once there is room in the
    /// queue. Blocks that the channel has already are passed over.
    pub async fn offer(&self, block: Block) -> Result<(), OfferError> {
        let mut tip = self.tip.lock().await;
        let number = block.number();
        if number < tip.next {
            return Ok(());
        }
        if number > tip.next {
            return Err(OfferError::Gap {
                channel: self.channel.id().to_owned(),
                got: number,
                expected: tip.next,
            });
        }
        let (scope, previous) = (self.scope(), tip.hash.clone());
        let validator = self.validator.clone();
        let work = tokio::task::spawn_blocking(move || {
            scope.config().verify_block(&block, &previous)?;
            let prepared = validator.prepare(&block, &scope);
            Ok::<_, selvage_channel::BlockError>((block, prepared))
        });
        let (block, prepared) = match work.await {
            Ok(Ok(done)) => done,
            Ok(Err(source)) => {
                let channel = self.channel.id().to_owned();
                return Err(OfferError::Verify { channel, number, source });
            }
            Err(_) => return Err(OfferError::Stopped(self.channel.id().to_owned())),
        };
        let hash = block.header.as_ref().map(|h| sha256(&header_bytes(h)));
        let reconfigures = prepared.reconfigures();
        self.queue(Job { block, prepared }).await?;
        tip.next = number + 1;
        tip.hash = hash.map_or_else(Bytes::new, |h| Bytes::copy_from_slice(&h));
        if reconfigures {
            self.wait_for(number).await?;
        }
        Ok(())
    }

    async fn queue(&self, job: Job) -> Result<(), OfferError> {
        self.jobs
            .send(job)
            .await
            .map_err(|_| OfferError::Stopped(self.channel.id().to_owned()))
    }

    /// Waits until `number` is committed, so that the configuration it carries is in force.
    async fn wait_for(&self, number: u64) -> Result<(), OfferError> {
        let mut height = self.channel.height_watch();
        tokio::select! {
            _ = height.wait_for(|height| *height > number) => Ok(()),
            () = self.jobs.closed() => Err(OfferError::Stopped(self.channel.id().to_owned())),
        }
    }

    /// The scope of the configuration in force.
    fn scope(&self) -> Arc<Scope> {
        let config = self.channel.config();
        let mut scope = self.scope.lock();
        if !Arc::ptr_eq(scope.config(), &config) {
            *scope = Arc::new(Scope::new(config));
        }
        scope.clone()
    }
}

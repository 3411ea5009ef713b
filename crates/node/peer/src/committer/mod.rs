//! Takes blocks from the ordering service to the ledger
//! (Fabric: `gossip/state`, `core/committer`, `blocksprovider`'s block handling).
//!
//! A block is verified and prepared by whoever offers it, while the block before is judged and
//! committed by the channel's own task: signatures of block n+1 are checked while n goes to disk.
//! What depends on the state (definitions, key-level policies, ids, MVCC) happens in the second
//! half only. A block that may follow a new configuration waits until that is in force.

mod pipeline;
mod private;

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use selvage_channel::block::{BlockError, block_verify};
use selvage_net::CancellationToken;
use selvage_proto::common::Block;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

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
        source: BlockError,
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
        source: Box<ValidateError>,
    },
    /// A block could not be written.
    #[error("block {number} could not be committed")]
    Ledger {
        /// The block.
        number: u64,
        /// Why.
        #[source]
        source: Box<selvage_ledger::LedgerError>,
    },
    /// A worker panicked.
    #[error("block {number}: the commit was interrupted")]
    Interrupted {
        /// The block.
        number: u64,
    },
}

/// Settings of a committer.
#[derive(Debug, Clone, Copy)]
pub struct CommitterOptions {
    /// Blocks after which private data of endorsements that never came to a block is dropped.
    pub transient_retention: u64,
}

impl Default for CommitterOptions {
    fn default() -> Self {
        Self {
            transient_retention: private::DEFAULT_RETENTION,
        }
    }
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
    stop: CancellationToken,
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Committer {
    /// Starts the committing task of a channel; it ends with [`Committer::finish`] or when
    /// `shutdown` is cancelled, after the block in hand.
    pub fn start(
        channel: Arc<PeerChannel>,
        validator: Arc<Validator>,
        options: CommitterOptions,
        shutdown: CancellationToken,
    ) -> Self {
        let info = channel.ledger().info();
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (stopped_tx, stopped) = watch::channel(None);
        let tip = Tip {
            next: info.height,
            hash: info.current_block_hash,
        };
        let scope = Arc::new(Scope::new(channel.config()));
        let stop = shutdown.child_token();
        let task = tokio::spawn(pipeline::run(
            channel.clone(),
            validator.clone(),
            options.transient_retention,
            queue,
            stopped_tx,
            stop.clone(),
        ));
        Self {
            channel,
            validator,
            tip: tokio::sync::Mutex::new(tip),
            scope: Mutex::new(scope),
            jobs,
            stopped,
            stop,
            task: tokio::sync::Mutex::new(Some(task)),
        }
    }

    /// Ends the committing task after the block in hand and waits for it. Blocks that were offered
    /// and not yet committed are forgotten; the next start asks for them again.
    pub async fn finish(&self) {
        self.stop.cancel();
        if let Some(task) = self.task.lock().await.take() {
            // A task that panicked has ended, too.
            let _ = task.await;
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
            let hash = block_verify(scope.config(), &block, number.wrapping_sub(1), &previous)?;
            let prepared = validator.prepare(&block, &scope);
            Ok::<_, BlockError>((Job { block, prepared }, hash))
        });
        let (job, hash) = match work.await {
            Ok(Ok(done)) => done,
            Ok(Err(source)) => {
                let channel = self.channel.id().to_owned();
                return Err(OfferError::Verify {
                    channel,
                    number,
                    source,
                });
            }
            Err(_) => return Err(OfferError::Stopped(self.channel.id().to_owned())),
        };
        let reconfigures = job.prepared.reconfigures();
        self.queue(job).await?;
        tip.next = number + 1;
        tip.hash = Bytes::copy_from_slice(&hash);
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

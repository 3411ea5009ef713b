//! One joined channel: its ledger, the configuration in force, and who listens.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use selvage_channel::ChannelConfig;
use selvage_ledger::Ledger;
use selvage_proto::common::Block;
use tokio::sync::{broadcast, watch};

use super::notifier::{CommitStatus, CommittedBlock, Notifier, TooManyWaiting};
use crate::lifecycle::{
    self, ChaincodeDefinition, ConfigHandle, LIFECYCLE_NAMESPACE, LifecycleError,
};

/// Blocks kept in memory for deliver streams.
const RECENT_BLOCKS: usize = 4;
/// The largest block that is kept in memory.
const RECENT_BLOCK_BYTES: usize = 512 * 1024;

/// Why a question to a channel has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The ledger could not be read.
    #[error("channel {channel}: ledger failure")]
    Ledger {
        /// The channel's id.
        channel: String,
        /// What the ledger said.
        #[source]
        source: selvage_ledger::LedgerError,
    },
    /// Too many clients wait on this channel.
    #[error("channel {channel}: too many clients")]
    Busy {
        /// The channel's id.
        channel: String,
        /// The limit that was reached.
        #[source]
        source: TooManyWaiting,
    },
    /// The channel was shut down while the client waited.
    #[error("channel {0} was closed")]
    Closed(String),
}

/// Definitions already read, valid for one generation of `_lifecycle`.
#[derive(Default)]
struct Definitions {
    generation: u64,
    by_name: HashMap<String, Arc<ChaincodeDefinition>>,
}

/// A channel as everything in the peer shares it. Reading it never blocks the committer.
pub struct PeerChannel {
    id: String,
    ledger: Arc<Ledger>,
    config: RwLock<Arc<ChannelConfig>>,
    shared_config: ConfigHandle,
    definitions: RwLock<Definitions>,
    recent: Mutex<VecDeque<Arc<Block>>>,
    notifier: Notifier,
}

impl PeerChannel {
    /// A channel over an open ledger whose newest configuration is `config`. `shared_config` is
    /// what the ledger's collections follow.
    pub fn new(
        ledger: Arc<Ledger>,
        config: Arc<ChannelConfig>,
        shared_config: ConfigHandle,
    ) -> Self {
        shared_config.set(config.clone());
        let height = ledger.height();
        Self {
            id: config.channel_id().to_owned(),
            ledger,
            config: RwLock::new(config),
            shared_config,
            definitions: RwLock::default(),
            recent: Mutex::default(),
            notifier: Notifier::new(height),
        }
    }

    /// The channel's name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The channel's ledger.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// The configuration in force after the newest committed block.
    pub fn config(&self) -> Arc<ChannelConfig> {
        self.config.read().clone()
    }

    /// Number of committed blocks.
    pub fn height(&self) -> u64 {
        *self.notifier.height().borrow()
    }

    /// The height as it changes.
    pub fn height_watch(&self) -> watch::Receiver<u64> {
        self.notifier.height()
    }

    /// Commits from now on. A receiver that lags must catch up from the ledger.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<CommittedBlock>> {
        self.notifier.blocks()
    }

    /// A number that changes with every committed write to `_lifecycle`, approvals included.
    pub(crate) fn lifecycle_generation(&self) -> u64 {
        self.definitions.read().generation
    }

    /// The committed definition of a chaincode; `None` when the channel has none of that name.
    pub fn definition(
        &self,
        name: &str,
    ) -> Result<Option<Arc<ChaincodeDefinition>>, LifecycleError> {
        let generation = {
            let known = self.definitions.read();
            if let Some(definition) = known.by_name.get(name) {
                return Ok(Some(definition.clone()));
            }
            known.generation
        };
        let query = self
            .ledger
            .query()
            .map_err(|source| LifecycleError::State {
                key: name.to_owned(),
                source: source.into(),
            })?;
        let read = lifecycle::read_definition(name, |key| {
            query
                .get_state(LIFECYCLE_NAMESPACE, key)
                .map_err(Into::into)
        })?;
        let Some(definition) = read.map(Arc::new) else {
            return Ok(None);
        };
        let mut known = self.definitions.write();
        // A commit in between may have changed what was read.
        if known.generation == generation {
            known.by_name.insert(name.to_owned(), definition.clone());
        }
        Ok(Some(definition))
    }

    /// A block that was committed lately, without reading the disk.
    pub fn recent_block(&self, number: u64) -> Option<Arc<Block>> {
        self.recent
            .lock()
            .iter()
            .find(|block| block.number() == number)
            .cloned()
    }

    /// Waits until a transaction is committed, valid or not. Returns at once when it already is.
    pub async fn commit_status(&self, tx_id: &str) -> Result<CommitStatus, ChannelError> {
        let wait = self
            .notifier
            .wait_for(tx_id)
            .map_err(|source| ChannelError::Busy {
                channel: self.id.clone(),
                source,
            })?;
        if let Some(status) = self.committed_status(tx_id)? {
            return Ok(status);
        }
        wait.status()
            .await
            .ok_or_else(|| ChannelError::Closed(self.id.clone()))
    }

    /// How a transaction ended, if it is on the ledger.
    pub fn committed_status(&self, tx_id: &str) -> Result<Option<CommitStatus>, ChannelError> {
        let found =
            self.ledger
                .tx_validation_code(tx_id)
                .map_err(|source| ChannelError::Ledger {
                    channel: self.id.clone(),
                    source,
                })?;
        Ok(found.map(|(code, block_number)| CommitStatus { block_number, code }))
    }

    /// Puts what a commit changed into force and tells the listeners; called by the committer once
    /// the ledger has the block.
    pub(crate) fn committed(
        &self,
        stored: Block,
        block: CommittedBlock,
        config: Option<Arc<ChannelConfig>>,
        lifecycle_written: bool,
    ) {
        if let Some(config) = config {
            self.shared_config.set(config.clone());
            *self.config.write() = config;
        }
        if lifecycle_written {
            let mut known = self.definitions.write();
            known.generation += 1;
            known.by_name.clear();
        }
        self.remember(stored);
        self.notifier.announce(block);
    }

    /// Keeps the newest blocks for those who follow the channel closely; large ones are not worth
    /// the memory.
    fn remember(&self, block: Block) {
        let size: usize = block.envelopes().iter().map(|data| data.len()).sum();
        let mut recent = self.recent.lock();
        while recent.len() >= RECENT_BLOCKS {
            recent.pop_front();
        }
        if size <= RECENT_BLOCK_BYTES {
            recent.push_back(Arc::new(block));
        }
    }
}

impl std::fmt::Debug for PeerChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerChannel")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

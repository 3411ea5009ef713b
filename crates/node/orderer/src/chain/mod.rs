//! One channel: a task that drives the consensus engine and a thread that signs and stores blocks.
//!
//! The task owns the engine; everything reaches it through one bounded queue. Blocks go to the
//! writer over a second bounded queue and come back as reports once they are durable. Only then are
//! clients told that their messages are ordered (see `docs/decisions/durable-broadcast.md`).

mod driver;
mod source;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prost::Message;
use selvage_channel::ChannelConfig;
use selvage_channel::block::verify_config_block;
use selvage_env::Env;
use selvage_identity::SigningIdentity;
use selvage_ledger::{BlockStore, BlockStoreOptions};
use selvage_net::CancellationToken;
use selvage_net::metrics::Gauge;
use selvage_ordering::filters::{Filters, Incoming, Kind, Refusal};
use selvage_ordering::solo::SoloOptions;
use selvage_ordering::{BatchLimits, Parameters};
use selvage_proto::common::{Block, Status};
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::ChainError;
use crate::in_full;
pub(crate) use source::Recent;

/// The consensus type this orderer has an engine for.
pub const CONSENSUS_TYPE: &str = "solo";

/// Messages that wait for the channel's task.
const QUEUE: usize = 4_096;

/// What all channels of a node share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) signer: Arc<SigningIdentity>,
    pub(crate) filters: Filters,
    pub(crate) solo: SoloOptions,
    /// Told when a channel's configuration changes or a channel comes or goes.
    pub(crate) config_changed: Arc<dyn Fn() + Send + Sync>,
    /// Told when a channel can no longer write.
    pub(crate) fatal: mpsc::Sender<(String, String)>,
}

/// What became of a message.
pub(crate) type Answer = (Status, String);

/// A channel that is being served.
pub(crate) struct Chain {
    id: String,
    dir: PathBuf,
    shared: Shared,
    store: Arc<BlockStore>,
    config: ArcSwap<ChannelConfig>,
    height: watch::Sender<u64>,
    recent: Mutex<Recent>,
    /// Why the channel takes no messages at the moment, for example a full disk.
    trouble: Mutex<Option<String>>,
    stop: CancellationToken,
    inbox: mpsc::Sender<driver::Command>,
    height_gauge: Gauge,
}

impl Chain {
    /// Opens the channel in `dir` and starts serving it. A folder without a durable block is
    /// [`ChainError::Empty`].
    pub(crate) fn open(
        id: &str,
        dir: &Path,
        shared: Shared,
        height_gauge: Gauge,
    ) -> Result<Arc<Self>, ChainError> {
        let store = BlockStore::open(shared.env.disk.clone(), dir, BlockStoreOptions::default())?;
        let newest = store.last_block()?.ok_or(ChainError::Empty)?;
        let (config_number, config) = newest_config(&store, &newest)?;
        if config.channel_id() != id {
            return Err(ChainError::OtherChannel(config.channel_id().to_owned()));
        }
        let parameters = check_config(&config)?;
        let (inbox, commands) = mpsc::channel(QUEUE);
        let chain = Arc::new(Self {
            id: id.to_owned(),
            dir: dir.to_owned(),
            height: watch::Sender::new(store.height()),
            store: Arc::new(store),
            config: ArcSwap::from_pointee(config),
            recent: Mutex::new(Recent::default()),
            trouble: Mutex::new(None),
            stop: CancellationToken::new(),
            inbox,
            height_gauge,
            shared,
        });
        chain.height_gauge.set(chain.height() as i64);
        let header = newest.header.unwrap_or_default();
        driver::spawn(chain.clone(), commands, &header, parameters, config_number);
        Ok(chain)
    }

    /// Creates the channel from its genesis block and starts serving it.
    pub(crate) fn create(
        id: &str,
        dir: &Path,
        genesis: &Block,
        shared: Shared,
        height_gauge: Gauge,
    ) -> Result<Arc<Self>, ChainError> {
        let disk = shared.env.disk.clone();
        let store = BlockStore::open(disk, dir, BlockStoreOptions::default())?;
        store.append(genesis)?;
        drop(store);
        Self::open(id, dir, shared, height_gauge)
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The number of durable blocks.
    pub(crate) fn height(&self) -> u64 {
        *self.height.borrow()
    }

    pub(crate) fn config(&self) -> Arc<ChannelConfig> {
        self.config.load_full()
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    pub(crate) fn store(&self) -> &BlockStore {
        &self.store
    }

    /// Filters a message and, when it passes, hands it to the engine. The receiver tells what
    /// became of it once it is durable.
    pub(crate) async fn submit(
        &self,
        incoming: Incoming,
    ) -> Result<oneshot::Receiver<Answer>, Answer> {
        if let Some(trouble) = self.trouble() {
            return Err((Status::ServiceUnavailable, trouble));
        }
        let kind = incoming.kind().map_err(refusal)?;
        let config = self.config();
        let now = self.shared.env.clock.unix_seconds();
        let (envelope, sequence) = match kind {
            Kind::Normal => {
                let sequence = self.shared.filters.check_normal(&config, &incoming, now);
                (incoming.envelope, sequence.map_err(refusal)?)
            }
            Kind::ConfigUpdate => {
                let author = driver::author(&self.shared);
                let made = self
                    .shared
                    .filters
                    .process_update(&config, &incoming, author);
                let made = made.map_err(refusal)?;
                (made.envelope, made.sequence)
            }
        };
        let (reply, answer) = oneshot::channel();
        let command = driver::Command {
            envelope,
            sequence,
            is_config: kind == Kind::ConfigUpdate,
            reply,
        };
        match self.inbox.send(command).await {
            Ok(()) => Ok(answer),
            Err(_) => Err((Status::ServiceUnavailable, "chain is stopped".to_owned())),
        }
    }

    /// Ends the channel's task and writer: no further block is written.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
        // Wakes streams that wait for a block.
        self.height.send_modify(|_| {});
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }
}

pub(crate) fn refusal(refusal: Refusal) -> Answer {
    (refusal.status(), refusal.to_string())
}

/// The configuration in force at the newest block, and the number of its block.
fn newest_config(store: &BlockStore, newest: &Block) -> Result<(u64, ChannelConfig), ChainError> {
    let number = newest.number();
    let config_number = match number {
        // A genesis block carries no metadata and is its own configuration.
        0 => 0,
        _ => newest
            .last_config_index()
            .map_err(|source| ChainError::Metadata { number, source })?,
    };
    let block = store.block(config_number)?;
    let config = verify_config_block(&block).map_err(|source| ChainError::Config {
        number: config_number,
        source,
    })?;
    Ok((config_number, config))
}

/// Whether this orderer can run a channel with this configuration, and with which limits.
pub(crate) fn check_config(config: &ChannelConfig) -> Result<Parameters, ChainError> {
    config
        .check_supported_by_orderer()
        .map_err(ChainError::Unsupported)?;
    let orderer = config.orderer().ok_or(ChainError::NoOrderer)?;
    if orderer.consensus_type() != CONSENSUS_TYPE {
        let name = orderer.consensus_type().to_owned();
        return Err(ChainError::ConsensusType(name));
    }
    parameters(config).ok_or(ChainError::NoOrderer)
}

fn parameters(config: &ChannelConfig) -> Option<Parameters> {
    let orderer = config.orderer()?;
    Some(Parameters {
        sequence: config.sequence(),
        limits: BatchLimits {
            max_messages: orderer.batch_size().max_message_count,
            preferred_bytes: orderer.batch_size().preferred_max_bytes,
        },
        timeout: orderer.batch_timeout(),
        metadata: orderer.consensus_metadata().clone(),
        consenters: orderer.consenters().into(),
    })
}

/// The configuration after a configuration block.
fn config_after(current: &ChannelConfig, block: &Block) -> Result<ChannelConfig, String> {
    let envelope = selvage_channel::config_transaction(block).map_err(|e| in_full(&e))?;
    let (_, next) = selvage_channel::open_config(&envelope).map_err(|e| in_full(&e))?;
    current.apply(&next).map_err(|e| in_full(&e))
}

/// Encodes a block once for the store.
fn encoded(block: &Block) -> bytes::Bytes {
    block.encode_to_vec().into()
}

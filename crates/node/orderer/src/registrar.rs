//! The channels of this node: opened at start, joined and removed while it runs.
//!
//! A channel lives in `chains/<id>` below the ledger folder. Removing renames that folder into
//! `removed` first, so that a kill in between leaves either a whole channel or rubbish that the
//! next start clears away. A folder without a durable block is a join that was never acknowledged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use selvage_channel::ChannelConfig;
use selvage_env::{Disk, DiskError};
use selvage_net::deliver::{Source, Sources};
use selvage_net::metrics::{Gauges, Metrics};
use selvage_proto::common::Block;
use thiserror::Error;

use crate::chain::{Chain, Shared, check_config, first_block, is_cluster};
use crate::error::{ChainError, OrdererError};
use crate::in_full;

/// Why a request to the participation API fails. The words are Fabric's where Fabric has some.
#[derive(Debug, Error)]
pub(crate) enum ManageError {
    #[error("channel already exists")]
    Exists,
    #[error("channel does not exist")]
    Unknown,
    #[error("channel pending removal")]
    PendingRemoval,
    #[error(
        "the block has number {0}: this orderer joins a channel with one orderer only from its \
         genesis block, because there are no others to fetch the blocks before it from"
    )]
    NotGenesis(u64),
    #[error("{0}")]
    Onboarding(String),
    #[error("this orderer already serves {0} channels, the most it may")]
    TooMany(usize),
    #[error("{}", in_full(.0))]
    Chain(ChainError),
    #[error("{0}")]
    NotFound(String),
}

/// The most channels of one node.
const MAX_CHANNELS: usize = 1_000;

pub(crate) struct Registrar {
    folder: PathBuf,
    shared: Shared,
    heights: Gauges,
    chains: RwLock<BTreeMap<String, Arc<Chain>>>,
    /// Joining and removing go one at a time.
    managing: Mutex<()>,
}

impl Registrar {
    /// Opens every channel in the ledger folder.
    pub(crate) fn open(
        location: &Path,
        shared: Shared,
        metrics: &Metrics,
    ) -> Result<Arc<Self>, OrdererError> {
        let disk = shared.env.disk.clone();
        let folder = location.join("chains");
        let usable = |error: DiskError| OrdererError::Folder {
            path: location.to_owned(),
            hint: hint(&error),
            source: error,
        };
        disk.create_dir_all(&folder).map_err(usable)?;
        check_writable(disk.as_ref(), location).map_err(usable)?;
        clear_removed(disk.as_ref(), location).map_err(usable)?;
        let registrar = Self {
            heights: metrics.gauges(
                "ledger_blockchain_height",
                "Height of the chain in blocks.",
                &["channel"],
            ),
            chains: RwLock::new(BTreeMap::new()),
            managing: Mutex::new(()),
            folder,
            shared,
        };
        let names = disk.list(&registrar.folder).map_err(usable)?;
        for name in names {
            registrar.open_channel(&name, location)?;
        }
        Ok(Arc::new(registrar))
    }

    fn open_channel(&self, name: &str, location: &Path) -> Result<(), OrdererError> {
        let dir = self.folder.join(name);
        let gauge = self.heights.with(&[name]);
        match Chain::open(name, &dir, self.shared.clone(), gauge) {
            Ok(chain) => {
                tracing::info!(
                    channel = name,
                    height = chain.height(),
                    "opened the channel"
                );
                self.chains.write().insert(name.to_owned(), chain);
                Ok(())
            }
            Err(ChainError::Empty) => {
                tracing::warn!(
                    channel = name,
                    "clearing away a join that was never completed"
                );
                self.heights.remove(&[name]);
                self.shared
                    .env
                    .disk
                    .remove_dir_all(&dir)
                    .map_err(|error| OrdererError::Folder {
                        path: location.to_owned(),
                        hint: hint(&error),
                        source: error,
                    })
            }
            Err(source) => Err(OrdererError::Channel {
                channel: name.to_owned(),
                source: Box::new(source),
            }),
        }
    }

    pub(crate) fn chain(&self, id: &str) -> Option<Arc<Chain>> {
        self.chains.read().get(id).cloned()
    }

    pub(crate) fn chains(&self) -> Vec<Arc<Chain>> {
        self.chains.read().values().cloned().collect()
    }

    /// The configurations in force of all channels.
    pub(crate) fn configs(&self) -> Vec<Arc<ChannelConfig>> {
        let chains = self.chains.read();
        chains.values().map(|chain| chain.config()).collect()
    }

    /// Joins a channel with one of its configuration blocks, which has been checked to hold
    /// `config`. A later one than the genesis block is
    /// where this node begins to take part; the blocks before it come from the other orderers.
    pub(crate) async fn join(
        self: &Arc<Self>,
        block: Block,
        config: ChannelConfig,
    ) -> Result<Arc<Chain>, ManageError> {
        let number = block.number();
        check_config(&self.shared, &config).map_err(ManageError::Chain)?;
        if self.chain(config.channel_id()).is_some() {
            return Err(ManageError::Exists);
        }
        if is_cluster(&config) && self.shared.cluster.links.is_none() {
            return Err(ManageError::Chain(ChainError::NoTls));
        }
        let (genesis, join) = match number {
            0 => (block, None),
            _ if !is_cluster(&config) => return Err(ManageError::NotGenesis(number)),
            _ => {
                let genesis = first_block(&self.shared, &config).await;
                (genesis.map_err(ManageError::Onboarding)?, Some(block))
            }
        };
        let id = config.channel_id().to_owned();
        let this = self.clone();
        // Joining writes and syncs files.
        let created =
            tokio::task::spawn_blocking(move || this.create(&id, &genesis, join.as_ref()));
        let stopped = |_| ManageError::Onboarding("the orderer is being stopped".to_owned());
        created.await.map_err(stopped)?
    }

    fn create(
        &self,
        id: &str,
        genesis: &Block,
        join: Option<&Block>,
    ) -> Result<Arc<Chain>, ManageError> {
        let Some(_managing) = self.managing.try_lock() else {
            return Err(ManageError::PendingRemoval);
        };
        let count = self.chains.read().len();
        if self.chain(id).is_some() {
            return Err(ManageError::Exists);
        }
        if count >= MAX_CHANNELS {
            return Err(ManageError::TooMany(count));
        }
        let disk = |error| ManageError::Chain(ChainError::Disk(error));
        // What an earlier membership left would be mistaken for this one's.
        self.shared.forget_engine(id).map_err(disk)?;
        if let Some(join) = join {
            self.shared.remember_join(id, join).map_err(disk)?;
        }
        let dir = self.folder.join(id);
        let gauge = self.heights.with(&[id]);
        match Chain::create(id, &dir, genesis, self.shared.clone(), gauge) {
            Ok(chain) => {
                tracing::info!(channel = id, "Joining channel: {id}");
                self.chains.write().insert(id.to_owned(), chain.clone());
                (self.shared.config_changed)();
                Ok(chain)
            }
            Err(error) => {
                self.heights.remove(&[id]);
                if let Err(error) = self.shared.env.disk.remove_dir_all(&dir) {
                    tracing::warn!(channel = id, "cannot clear a failed join: {error}");
                }
                Err(ManageError::Chain(error))
            }
        }
    }

    /// Stops a channel and deletes its blocks.
    pub(crate) fn remove(&self, id: &str) -> Result<(), ManageError> {
        let Some(_managing) = self.managing.try_lock() else {
            return Err(ManageError::PendingRemoval);
        };
        let chain = self.chains.write().remove(id).ok_or(ManageError::Unknown)?;
        chain.stop();
        self.heights.remove(&[id]);
        (self.shared.config_changed)();
        let removed = self.discard(&chain);
        tracing::info!(channel = id, "Removed channel: {id}");
        removed.map_err(|error| ManageError::Chain(ChainError::Disk(error)))
    }

    fn discard(&self, chain: &Chain) -> Result<(), DiskError> {
        let disk = self.shared.env.disk.as_ref();
        let location = self.folder.parent().unwrap_or(&self.folder);
        let removed = location.join("removed");
        disk.create_dir_all(&removed)?;
        let target = removed.join(chain.id());
        if disk.exists(&target)? {
            disk.remove_dir_all(&target)?;
        }
        disk.rename(chain.dir(), &target)?;
        disk.sync_dir(&self.folder)?;
        disk.remove_dir_all(&target)?;
        self.shared.forget_engine(chain.id())
    }

    /// A block by what the participation API calls it: `newest`, `oldest`, `config` or a number.
    pub(crate) fn fetch(&self, id: &str, which: &str) -> Result<Block, ManageError> {
        let chain = self.chain(id).ok_or(ManageError::Unknown)?;
        let newest = chain.height().saturating_sub(1);
        let number = match which {
            "oldest" => 0,
            "newest" | "config" => newest,
            number => number
                .parse()
                .map_err(|_| ManageError::NotFound(format!("no such block number [{number}]")))?,
        };
        let failed = |error| ManageError::Chain(ChainError::Store(error));
        let block = chain.store().block(number).map_err(failed)?;
        if which != "config" || number == 0 {
            return Ok(block);
        }
        let index = block
            .last_config_index()
            .map_err(|source| ManageError::Chain(ChainError::Metadata { number, source }))?;
        chain.store().block(index).map_err(failed)
    }

    /// Ends all channels; what clients wait for is refused. The answer tells when nobody uses the
    /// channels' files any more.
    pub(crate) fn stop(&self) -> Vec<Weak<Chain>> {
        let chains = std::mem::take(&mut *self.chains.write());
        chains
            .into_values()
            .map(|chain| {
                chain.stop();
                Arc::downgrade(&chain)
            })
            .collect()
    }
}

impl Sources for Registrar {
    fn source(&self, channel_id: &str) -> Option<Arc<dyn Source>> {
        let chain = self.chain(channel_id)?;
        Some(chain)
    }
}

/// Writes and removes a small file, so that an unusable folder shows at start and not with the
/// first transaction.
fn check_writable(disk: &dyn Disk, location: &Path) -> Result<(), DiskError> {
    let probe = location.join(".writable");
    disk.write_atomic(&probe, b"selvage\n")?;
    disk.remove_file(&probe)
}

fn clear_removed(disk: &dyn Disk, location: &Path) -> Result<(), DiskError> {
    let removed = location.join("removed");
    if disk.exists(&removed)? {
        disk.remove_dir_all(&removed)?;
    }
    Ok(())
}

fn hint(error: &DiskError) -> &'static str {
    if error.is_full() {
        return "the disk is full; make room or choose another folder";
    }
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "this user may not write there; change the owner or choose another folder"
        }
        std::io::ErrorKind::ReadOnlyFilesystem => {
            "the file system is read-only; choose another folder"
        }
        std::io::ErrorKind::NotADirectory | std::io::ErrorKind::AlreadyExists => {
            "a file is in the way; choose another folder"
        }
        _ => "see the cause",
    }
}

//! The channels of this node: opened at start, joined and removed while it runs.
//!
//! A channel lives in `chains/<id>` below the ledger folder. Removing renames that folder into
//! `removed` first, so that a kill in between leaves either a whole channel or rubbish that the
//! next start clears away. A folder without a durable block is a join that was never acknowledged.
//! A channel joined with a later block waits in `onboarding` until it has its first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use selvage_channel::ChannelConfig;
use selvage_channel::block::verify_config_block;
use selvage_env::{Disk, DiskError};
use selvage_net::deliver::{Source, Sources};
use selvage_net::metrics::{Gauges, Metrics};
use selvage_proto::common::Block;
use thiserror::Error;

use crate::chain::{Chain, Part, Shared, Standing, check_config, is_cluster};
use crate::error::{ChainError, OrdererError};
use crate::in_full;
use crate::onboarding::Onboarding;

/// Why a request to the participation API fails. The words are Fabric's where Fabric has some.
#[derive(Debug, Error)]
pub(crate) enum ManageError {
    #[error("channel already exists")]
    Exists,
    #[error("channel does not exist")]
    Unknown,
    #[error("channel pending removal")]
    PendingRemoval,
    #[error("channel removal failure")]
    RemovalFailed,
    #[error("channel is not ready, he is a follower")]
    NotReady,
    #[error(
        "the block has number {0}: this orderer joins a channel with one orderer only from its \
         genesis block, because there are no others to fetch the blocks before it from"
    )]
    NotGenesis(u64),
    #[error("the orderer is being stopped")]
    Stopping,
    #[error("this orderer already serves {0} channels, the most it may")]
    TooMany(usize),
    #[error("{}", in_full(.0))]
    Chain(ChainError),
    #[error("{0}")]
    NotFound(String),
}

/// A channel as the participation API tells of it.
pub(crate) struct ChannelInfo {
    pub(crate) name: String,
    pub(crate) standing: Standing,
    pub(crate) height: u64,
}

impl ChannelInfo {
    pub(crate) fn of(chain: &Chain) -> Self {
        Self {
            name: chain.id().to_owned(),
            standing: chain.standing(),
            height: chain.height(),
        }
    }

    fn without_blocks(name: &str, standing: Standing) -> Self {
        Self {
            name: name.to_owned(),
            standing,
            height: 0,
        }
    }
}

/// What this node has of a channel.
enum Slot {
    Serving(Arc<Chain>),
    /// No block yet.
    Onboarding(Arc<Onboarding>),
    /// Files that cannot be used, for this reason. They can be removed.
    Damaged(String),
    /// Files that are being deleted, or, where it failed, left over.
    Removing(Standing),
}

/// The most channels of one node.
const MAX_CHANNELS: usize = 1_000;

pub(crate) struct Registrar {
    folder: PathBuf,
    shared: Shared,
    heights: Gauges,
    channels: RwLock<BTreeMap<String, Slot>>,
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
            channels: RwLock::new(BTreeMap::new()),
            managing: Mutex::new(()),
            folder,
            shared,
        };
        let names = disk.list(&registrar.folder).map_err(usable)?;
        for name in names {
            registrar.open_channel(&name, location)?;
        }
        let registrar = Arc::new(registrar);
        for name in registrar.shared.joins().map_err(usable)? {
            if !registrar.names().contains(&name) {
                registrar.resume_onboarding(&name);
            }
        }
        Ok(registrar)
    }

    fn resume_onboarding(self: &Arc<Self>, name: &str) {
        let resumed = self.shared.join_block(name).and_then(|join| {
            let number = join.number();
            let config = verify_config_block(&join)
                .map_err(|source| ChainError::Config { number, source })?;
            Ok((number, config))
        });
        match resumed {
            Ok((number, config)) => {
                tracing::info!(channel = name, "going on with the join at block [{number}]");
                self.begin_onboarding(name, config);
            }
            Err(error) => self.set_aside(name, &error),
        }
    }

    /// Keeps a channel out of service whose files cannot be used; the others are served.
    fn set_aside(&self, name: &str, error: &ChainError) {
        let reason = format!(
            "channel {name} cannot be opened: {}; the other channels are served; take this orderer \
             out of the channel's consenters if it is one, remove the channel here and join it again",
            in_full(error)
        );
        tracing::error!(channel = name, "{reason}");
        self.heights.remove(&[name]);
        self.put(name, Slot::Damaged(reason));
    }

    fn begin_onboarding(self: &Arc<Self>, id: &str, config: ChannelConfig) {
        let onboarding = Arc::new(Onboarding::new(&self.shared, config));
        self.put(id, Slot::Onboarding(onboarding.clone()));
        onboarding.begin(self);
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
                self.put(name, Slot::Serving(chain));
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
            Err(error) if error.is_damage() => {
                self.set_aside(name, &error);
                Ok(())
            }
            Err(source) => Err(OrdererError::Channel {
                channel: name.to_owned(),
                source: Box::new(source),
            }),
        }
    }

    fn put(&self, id: &str, slot: Slot) {
        self.channels.write().insert(id.to_owned(), slot);
    }

    pub(crate) fn chain(&self, id: &str) -> Option<Arc<Chain>> {
        match self.channels.read().get(id) {
            Some(Slot::Serving(chain)) => Some(chain.clone()),
            _ => None,
        }
    }

    pub(crate) fn chains(&self) -> Vec<Arc<Chain>> {
        let channels = self.channels.read();
        let serving = channels.values().filter_map(|slot| match slot {
            Slot::Serving(chain) => Some(chain.clone()),
            _ => None,
        });
        serving.collect()
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Why a channel that this node has is not served, in words for clients.
    pub(crate) fn why_not_served(&self, id: &str) -> Option<String> {
        match self.channels.read().get(id)? {
            Slot::Onboarding(_) => Some(format!("orderer is a follower of channel {id}")),
            Slot::Damaged(reason) => Some(reason.clone()),
            Slot::Serving(_) | Slot::Removing(_) => None,
        }
    }

    /// What is wrong with some channel.
    pub(crate) fn trouble(&self) -> Option<String> {
        let channels = self.channels.read();
        let damaged = channels.values().find_map(|slot| match slot {
            Slot::Damaged(reason) => Some(reason.clone()),
            _ => None,
        });
        drop(channels);
        damaged.or_else(|| self.chains().iter().find_map(|chain| chain.trouble()))
    }

    pub(crate) fn info(&self, id: &str) -> Option<ChannelInfo> {
        let standing = match self.channels.read().get(id)? {
            Slot::Serving(chain) => return Some(ChannelInfo::of(chain)),
            Slot::Onboarding(onboarding) => onboarding.standing,
            Slot::Damaged(_) => Standing::damaged(),
            Slot::Removing(standing) => *standing,
        };
        Some(ChannelInfo::without_blocks(id, standing))
    }

    /// Every channel's name, in order; without those that are being removed.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        let channels = self.channels.read();
        let stay = channels
            .iter()
            .filter(|(_, slot)| !matches!(slot, Slot::Removing(_)));
        stay.map(|(name, _)| name.clone()).collect()
    }

    /// The configurations in force of all channels.
    pub(crate) fn configs(&self) -> Vec<Arc<ChannelConfig>> {
        self.chains().iter().map(|chain| chain.config()).collect()
    }

    fn check_absent(&self, id: &str) -> Result<(), ManageError> {
        match self.channels.read().get(id) {
            None => Ok(()),
            Some(Slot::Removing(standing)) => Err(match standing.part {
                Part::Failed => ManageError::RemovalFailed,
                _ => ManageError::PendingRemoval,
            }),
            Some(_) => Err(ManageError::Exists),
        }
    }

    /// The channel to be updated.
    pub(crate) fn to_update(&self, id: &str) -> Result<Arc<Chain>, ManageError> {
        match self.channels.read().get(id) {
            Some(Slot::Serving(chain)) if !chain.is_following() => return Ok(chain.clone()),
            Some(Slot::Serving(_) | Slot::Onboarding(_)) => return Err(ManageError::NotReady),
            _ => {}
        }
        self.check_absent(id)?;
        Err(ManageError::Unknown)
    }

    /// Joins a channel with one of its configuration blocks, which has been checked to hold
    /// `config`. A later one than the genesis block is where this node begins to take part; the
    /// blocks before it come from the other orderers.
    pub(crate) async fn join(
        self: &Arc<Self>,
        block: Block,
        config: ChannelConfig,
    ) -> Result<ChannelInfo, ManageError> {
        let number = block.number();
        check_config(&self.shared, &config).map_err(ManageError::Chain)?;
        self.check_absent(config.channel_id())?;
        if is_cluster(&config) && self.shared.cluster.links.is_none() {
            return Err(ManageError::Chain(ChainError::NoTls));
        }
        if number > 0 && !is_cluster(&config) {
            return Err(ManageError::NotGenesis(number));
        }
        let this = self.clone();
        // Joining writes and syncs files.
        let created = tokio::task::spawn_blocking(move || this.create(block, config));
        created.await.map_err(|_| ManageError::Stopping)?
    }

    fn create(
        self: &Arc<Self>,
        block: Block,
        config: ChannelConfig,
    ) -> Result<ChannelInfo, ManageError> {
        let _managing = self.managing.lock();
        let (id, number) = (config.channel_id().to_owned(), block.number());
        self.check_absent(&id)?;
        let names = self.names();
        if names.len() >= MAX_CHANNELS {
            return Err(ManageError::TooMany(names.len()));
        }
        let disk = |error| ManageError::Chain(ChainError::Disk(error));
        // What an earlier membership left would be mistaken for this one's.
        self.shared.forget_engine(&id).map_err(disk)?;
        tracing::info!(channel = id, "Joining channel: {id}");
        if number > 0 {
            self.shared.remember_join(&id, &block).map_err(disk)?;
            self.begin_onboarding(&id, config);
            return self.info(&id).ok_or(ManageError::Unknown);
        }
        let chain = self.open_first(&id, &block)?;
        self.put(&id, Slot::Serving(chain.clone()));
        (self.shared.config_changed)();
        Ok(ChannelInfo::of(&chain))
    }

    /// The first block of a channel that was joined with a later one is there.
    pub(crate) fn open_onboarded(
        &self,
        onboarding: &Arc<Onboarding>,
        genesis: &Block,
    ) -> Result<(), ManageError> {
        let _managing = self.managing.lock();
        let waits = |slot: &Slot| matches!(slot, Slot::Onboarding(o) if Arc::ptr_eq(o, onboarding));
        let id = {
            let channels = self.channels.read();
            let own = channels.iter().find(|(_, slot)| waits(slot));
            own.map(|(id, _)| id.clone())
        };
        let Some(id) = id else { return Ok(()) };
        let chain = self.open_first(&id, genesis)?;
        match self.channels.write().get_mut(&id) {
            Some(slot) if waits(slot) => *slot = Slot::Serving(chain),
            // It was taken out meanwhile; its files are deleted next.
            _ => {
                chain.stop();
                self.heights.remove(&[&id]);
                return Ok(());
            }
        }
        (self.shared.config_changed)();
        Ok(())
    }

    fn open_first(&self, id: &str, genesis: &Block) -> Result<Arc<Chain>, ManageError> {
        let dir = self.folder.join(id);
        let gauge = self.heights.with(&[id]);
        let created = Chain::create(id, &dir, genesis, self.shared.clone(), gauge);
        created.map_err(|error| {
            self.heights.remove(&[id]);
            if let Err(error) = self.shared.env.disk.remove_dir_all(&dir) {
                tracing::warn!(channel = id, "cannot clear a failed join: {error}");
            }
            ManageError::Chain(error)
        })
    }

    /// Stops a channel and deletes its blocks.
    pub(crate) async fn remove(self: &Arc<Self>, id: &str) -> Result<(), ManageError> {
        let (this, id) = (self.clone(), id.to_owned());
        let removed = tokio::task::spawn_blocking(move || this.remove_now(&id));
        removed.await.map_err(|_| ManageError::Stopping)?
    }

    fn remove_now(&self, id: &str) -> Result<(), ManageError> {
        self.take_out(id)?;
        let _managing = self.managing.lock();
        let removed = self.discard(id);
        let mut channels = self.channels.write();
        match removed {
            Ok(()) => {
                channels.remove(id);
                tracing::info!(channel = id, "Removed channel: {id}");
                Ok(())
            }
            Err(error) => {
                if let Some(Slot::Removing(standing)) = channels.get_mut(id) {
                    standing.part = Part::Failed;
                }
                Err(ManageError::Chain(ChainError::Disk(error)))
            }
        }
    }

    /// Ends a channel, and notes that it is being removed.
    fn take_out(&self, id: &str) -> Result<(), ManageError> {
        let mut channels = self.channels.write();
        let slot = channels.get_mut(id).ok_or(ManageError::Unknown)?;
        let standing = match slot {
            Slot::Serving(chain) => chain.standing(),
            Slot::Onboarding(onboarding) => onboarding.standing,
            // The files are what is left of it.
            Slot::Damaged(_) => Standing::damaged().inactive(),
            Slot::Removing(standing) if standing.part == Part::Failed => standing.inactive(),
            Slot::Removing(_) => return Err(ManageError::PendingRemoval),
        };
        let taken = std::mem::replace(slot, Slot::Removing(standing));
        drop(channels);
        match taken {
            Slot::Serving(chain) => {
                chain.stop();
                self.heights.remove(&[id]);
                (self.shared.config_changed)();
            }
            Slot::Onboarding(onboarding) => onboarding.stop(),
            Slot::Damaged(_) | Slot::Removing(_) => {}
        }
        Ok(())
    }

    fn discard(&self, id: &str) -> Result<(), DiskError> {
        let disk = self.shared.env.disk.as_ref();
        let location = self.folder.parent().unwrap_or(&self.folder);
        let removed = location.join("removed");
        // Without blocks, what is left of a join would be taken for one that waits for them.
        self.shared.forget_join(id)?;
        disk.create_dir_all(&removed)?;
        let (dir, target) = (self.folder.join(id), removed.join(id));
        if disk.exists(&dir)? {
            if disk.exists(&target)? {
                disk.remove_dir_all(&target)?;
            }
            disk.rename(&dir, &target)?;
            disk.sync_dir(&self.folder)?;
        }
        if disk.exists(&target)? {
            disk.remove_dir_all(&target)?;
        }
        self.shared.forget_engine(id)
    }

    /// A block by what the participation API calls it: `newest`, `oldest`, `config` or a number.
    pub(crate) fn fetch(&self, id: &str, which: &str) -> Result<Block, ManageError> {
        let Some(chain) = self.chain(id) else {
            return Err(match self.why_not_served(id) {
                Some(reason) => ManageError::NotFound(reason),
                None => ManageError::Unknown,
            });
        };
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
        let channels = std::mem::take(&mut *self.channels.write());
        let mut ended = Vec::new();
        for slot in channels.into_values() {
            match slot {
                Slot::Serving(chain) => {
                    chain.stop();
                    ended.push(Arc::downgrade(&chain));
                }
                Slot::Onboarding(onboarding) => onboarding.stop(),
                Slot::Damaged(_) | Slot::Removing(_) => {}
            }
        }
        ended
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
            "the file system is read-only; mount it writable, after a repair if the kernel's log \
             tells of a fault, or choose another folder"
        }
        std::io::ErrorKind::NotADirectory | std::io::ErrorKind::AlreadyExists => {
            "a file is in the way; choose another folder"
        }
        _ => "see the cause",
    }
}

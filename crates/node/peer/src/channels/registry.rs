//! All channels of the peer: opening them at start, and joining new ones by genesis block.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use selvage_channel::ChannelConfig;
use selvage_env::Env;
use selvage_ledger::{Ledger, LedgerOptions, PrivateSets};
use selvage_proto::common::Block;
use selvage_proto::peer::TxValidationCode;

use super::PeerChannel;
use crate::lifecycle::{ChannelCollections, ConfigHandle};

/// Called with every channel that is opened or joined, once the registry lists it.
type Opened = Box<dyn Fn(&Arc<PeerChannel>) + Send + Sync>;

/// Why a channel could not be opened or joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The peer is a member already.
    #[error(
        "cannot create ledger from genesis block: ledger [{0}] already exists with state [ACTIVE]"
    )]
    Exists(String),
    /// The block is no genesis block of a channel this peer can take part in.
    #[error("channel {channel}: not a usable genesis block")]
    Config {
        /// The channel's id, or what could be read of it.
        channel: String,
        /// What is wrong with the configuration.
        #[source]
        source: selvage_channel::ConfigError,
    },
    /// The block is not the first of its channel.
    #[error("block {0} is not a genesis block")]
    NotGenesis(u64),
    /// The ledger could not be made or opened.
    #[error("channel {channel}: ledger at {}", path.display())]
    Ledger {
        /// The channel's id.
        channel: String,
        /// The ledger's folder.
        path: PathBuf,
        /// What the ledger said.
        #[source]
        source: selvage_ledger::LedgerError,
    },
    /// The ledgers' folder could not be read.
    #[error("ledgers at {}", path.display())]
    Folder {
        /// The folder of all ledgers.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A ledger was opened that lacks its newest configuration block.
    #[error("channel {channel}: {detail}")]
    Damaged {
        /// The channel's id.
        channel: String,
        /// What is missing.
        detail: String,
    },
}

/// The channels of this peer.
pub struct Channels {
    root: PathBuf,
    env: Env,
    options: LedgerOptions,
    channels: RwLock<BTreeMap<String, Arc<PeerChannel>>>,
    joining: Mutex<()>,
    opened: OnceLock<Opened>,
}

impl Channels {
    /// A registry whose ledgers lie below `root`. Opens nothing yet.
    pub fn new(root: &Path, env: Env, options: LedgerOptions) -> Self {
        Self {
            root: root.to_owned(),
            env,
            options,
            channels: RwLock::default(),
            joining: Mutex::new(()),
            opened: OnceLock::new(),
        }
    }

    /// Sets what follows a channel once it is open. Only the first call counts; it comes before
    /// [`Channels::open_all`].
    pub fn on_open(&self, opened: impl Fn(&Arc<PeerChannel>) + Send + Sync + 'static) {
        let _ = self.opened.set(Box::new(opened));
    }

    /// The channel of that name, if the peer joined it.
    pub fn get(&self, id: &str) -> Option<Arc<PeerChannel>> {
        self.channels.read().get(id).cloned()
    }

    /// All channels, sorted by name.
    pub fn list(&self) -> Vec<Arc<PeerChannel>> {
        self.channels.read().values().cloned().collect()
    }

    /// Opens every channel that was joined before. A join that was interrupted before its genesis
    /// block was stored leaves an empty ledger, which goes away.
    pub fn open_all(&self) -> Result<(), JoinError> {
        let folder = |source| JoinError::Folder {
            path: self.root.clone(),
            source,
        };
        // Durably: ledgers are synced in it, and would go with it.
        let made = self.env.disk.create_dir_all(&self.root);
        made.map_err(|error| folder(error.source))?;
        for entry in std::fs::read_dir(&self.root).map_err(folder)? {
            let entry = entry.map_err(folder)?;
            let Ok(id) = entry.file_name().into_string() else {
                continue;
            };
            if !entry.file_type().map_err(folder)?.is_dir() {
                continue;
            }
            match self.open(&id)? {
                Some(channel) => self.admit(channel),
                None => {
                    tracing::warn!(channel = id, "removing the ledger of an interrupted join");
                    std::fs::remove_dir_all(entry.path()).map_err(folder)?;
                }
            }
        }
        Ok(())
    }

    /// Makes the peer a member of the channel that `genesis` creates (Fabric: `JoinChain`).
    pub fn join(&self, genesis: Block) -> Result<Arc<PeerChannel>, JoinError> {
        if genesis.number() != 0 {
            return Err(JoinError::NotGenesis(genesis.number()));
        }
        let unusable = |channel: &str| {
            let channel = channel.to_owned();
            move |source| JoinError::Config { channel, source }
        };
        let config = ChannelConfig::from_block(&genesis).map_err(unusable("(unknown)"))?;
        let id = config.channel_id().to_owned();
        config.check_supported_by_peer().map_err(unusable(&id))?;
        let _one_at_a_time = self.joining.lock();
        if self.get(&id).is_some() {
            return Err(JoinError::Exists(id));
        }
        let (ledger, handle) = self.open_ledger(&id)?;
        let height = ledger.height();
        if height == 0 {
            let codes = vec![TxValidationCode::Valid; genesis.envelopes().len()];
            ledger
                .commit(genesis, &codes, &PrivateSets::new())
                .map_err(self.ledger_error(&id))?;
        }
        let channel = Arc::new(PeerChannel::new(ledger, Arc::new(config), handle));
        self.admit(channel.clone());
        Ok(channel)
    }

    fn admit(&self, channel: Arc<PeerChannel>) {
        self.channels
            .write()
            .insert(channel.id().to_owned(), channel.clone());
        tracing::info!(
            channel = channel.id(),
            height = channel.height(),
            "channel open"
        );
        if let Some(opened) = self.opened.get() {
            opened(&channel);
        }
    }

    fn open(&self, id: &str) -> Result<Option<Arc<PeerChannel>>, JoinError> {
        let (ledger, handle) = self.open_ledger(id)?;
        let height = ledger.height();
        if height == 0 {
            return Ok(None);
        }
        let damaged = |detail: String| JoinError::Damaged {
            channel: id.to_owned(),
            detail,
        };
        let newest = ledger
            .block_by_number(height - 1)
            .map_err(self.ledger_error(id))?;
        let index = newest
            .last_config_index()
            .map_err(|e| damaged(format!("block {} has unreadable metadata: {e}", height - 1)))?;
        let block = ledger
            .block_by_number(index)
            .map_err(self.ledger_error(id))?;
        let config = ChannelConfig::from_block(&block).map_err(|source| JoinError::Config {
            channel: id.to_owned(),
            source,
        })?;
        if config.channel_id() != id {
            let found = config.channel_id();
            return Err(damaged(format!(
                "the ledger's folder holds the channel {found}"
            )));
        }
        config
            .check_supported_by_peer()
            .map_err(|source| JoinError::Config {
                channel: id.to_owned(),
                source,
            })?;
        let channel = PeerChannel::new(ledger, Arc::new(config), handle);
        Ok(Some(Arc::new(channel)))
    }

    fn open_ledger(&self, id: &str) -> Result<(Arc<Ledger>, ConfigHandle), JoinError> {
        let handle = ConfigHandle::default();
        let collections = Arc::new(ChannelCollections::new(id, handle.clone()));
        let path = self.root.join(id);
        let disk = self.env.disk.clone();
        let ledger = Ledger::open(disk, &path, self.options.clone(), collections)
            .map_err(self.ledger_error(id))?;
        Ok((ledger, handle))
    }

    fn ledger_error(&self, id: &str) -> impl Fn(selvage_ledger::LedgerError) -> JoinError {
        let (channel, path) = (id.to_owned(), self.root.join(id));
        move |source| JoinError::Ledger {
            channel: channel.clone(),
            path: path.clone(),
            source,
        }
    }
}

//! All channels of the peer: opening them at start, and joining new ones by genesis block.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use selvage_channel::ChannelConfig;
use selvage_env::Env;
use selvage_ledger::Ledger;
use selvage_proto::common::Block;

use super::PeerChannel;

/// Called with every channel that is opened or joined, once the registry lists it.
type Opened = Box<dyn Fn(&Arc<PeerChannel>) + Send + Sync>;

/// Why a channel could not be opened or joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The peer is a member already.
    #[error("cannot create ledger from genesis block: ledger [{0}] already exists with state [ACTIVE]")]
    Exists(String),
    /// The block is no genesis block of a channel this peer can take part in.
    #[error("channel {channel}: not a usable genesis block")]
    Config {
        /// The channel's id, or what could be read of it.
        channel: String,
        /// What is wrong with the configuration.
        #[source]
        source: selvage_channel::ChannelError,
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
    channels: RwLock<BTreeMap<String, Arc<PeerChannel>>>,
    joining: Mutex<()>,
    opened: OnceLock<Opened>,
}

impl Channels {
    /// A registry whose ledgers lie below `root`. Opens nothing yet.
    pub fn new(root: &Path, env: Env) -> Self {
        Self {
            root: root.to_owned(),
            env,
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
}

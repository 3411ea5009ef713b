//! One peer as a process: everything started in order, and stopped in order.

mod chaincode;
mod channels;
mod files;
mod listeners;
mod local;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use selvage_env::Env;
use selvage_ledger::LedgerOptions;
use selvage_net::logging::Levels;
use selvage_net::metrics::Metrics;
use selvage_net::{CancellationToken, NetError, TlsError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::channels::{ChannelKeeper, Stopped};
use self::files::DataLock;
use self::listeners::Bound;
use self::local::Identities;
use self::tls::{ConfiguredOrderers, PeerTls};
use crate::chaincode_glue::{ChaincodeSetupError, Chaincodes};
use crate::channels::{Channels, JoinError};
use crate::committer::CommitterOptions;
use crate::config::{SettingError, Settings};
use crate::deliver::Following;
use crate::validator::{ValidateError, Validator};

pub use files::FileError;
pub use local::LocalMspError;

/// Why a peer does not start, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A setting cannot be used.
    #[error("configuration")]
    Setting(#[source] SettingError),
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The peer's own identity cannot be used.
    #[error("the peer's own MSP")]
    Local(#[source] LocalMspError),
    /// TLS cannot be set up.
    #[error("TLS of the peer")]
    Tls(#[source] TlsError),
    /// A port cannot be taken.
    #[error("{setting}")]
    Listen {
        /// The key of the address.
        setting: &'static str,
        /// Why.
        source: NetError,
    },
    /// A port or address cannot be used.
    #[error("network")]
    Net(#[source] NetError),
    /// A channel cannot be opened.
    #[error("cannot open the peer's channels")]
    Channels(#[source] JoinError),
    /// Validation cannot be set up.
    #[error("validation")]
    Validate(#[source] ValidateError),
    /// Chaincode cannot be set up.
    #[error("chaincode")]
    Chaincode(#[source] ChaincodeSetupError),
    /// What the disk holds is unknown after a failed write: the process has to stop, and the next
    /// start recovers.
    #[error(
        "the peer stops to protect its ledger; see to the disk and start it again, nothing that \
         was acknowledged is lost: {0}"
    )]
    Fatal(String),
}

/// What the command line adds to the configuration.
pub struct NodeOptions {
    /// The log levels in force, which operators may change.
    pub levels: Levels,
    /// Let developers start chaincode themselves, whatever the configuration says.
    pub chaincode_dev: bool,
}

/// The version as `peer version` prints it.
pub fn version_text() -> String {
    format!(
        "peer:\n Version: v{}\n Commit SHA: {}\n OS/Arch: {}/{}\n",
        env!("CARGO_PKG_VERSION"),
        commit_sha(),
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}

fn commit_sha() -> &'static str {
    option_env!("SELVAGE_COMMIT").unwrap_or("development build")
}

/// A peer that serves.
pub struct Node {
    /// Where clients and peers connect.
    pub address: SocketAddr,
    /// Where chaincode connects.
    pub chaincode_address: SocketAddr,
    /// Where operators connect, if anywhere.
    pub operations_address: Option<SocketAddr>,
    channels: Arc<Channels>,
    chaincodes: Arc<Chaincodes>,
    keeper: Arc<ChannelKeeper>,
    servers: JoinSet<Result<(), NetError>>,
    fatal: mpsc::Receiver<String>,
    shutdown: CancellationToken,
    _lock: DataLock,
}

impl Node {
    /// Starts a peer: claims its data, opens its channels, takes its ports and serves. It stops
    /// when `shutdown` is cancelled.
    pub async fn start(
        settings: Settings,
        options: NodeOptions,
        shutdown: CancellationToken,
    ) -> Result<Self, NodeError> {
        let env = Env::real();
        let identities = Identities::load(&settings, env.clock.as_ref())?;
        let tls = Arc::new(PeerTls::load(&settings)?);
        let lock = DataLock::claim(env.disk.as_ref(), &settings.data_dir())?;
        let metrics = Metrics::default();
        let ledger = LedgerOptions {
            history: settings.core.ledger.history.enable_history_database,
            ..LedgerOptions::default()
        };
        let ledgers = settings.data_dir().join("ledgersData").join("channels");
        let channels = Arc::new(Channels::new(&ledgers, env.clone(), ledger));
        let bound = Bound::take(&settings, &tls, &metrics, &env).await?;
        let dev = options.chaincode_dev;
        let chaincodes = chaincode::assemble(&settings, &env, &channels, &identities, &bound, dev)?;
        let orderers = Arc::new(ConfiguredOrderers::new(tls.clone(), &settings)?);
        let parts = listeners::Parts {
            settings: &settings,
            env: &env,
            identities: &identities,
            channels: &channels,
            chaincodes: &chaincodes,
            orderers,
            tls,
            metrics,
            levels: options.levels,
            stopped: Stopped::default(),
        };
        let (fatal_tx, fatal) = mpsc::channel(1);
        let keeper = keeper(&parts, fatal_tx, &shutdown)?;
        open_channels(&channels, &keeper).await?;
        let addresses = bound.addresses();
        let servers = listeners::serve(bound, parts, shutdown.clone());
        let peer = &settings.core.peer;
        tracing::info!(
            "Started peer with ID=[{}], network ID=[{}], address=[{}]",
            peer.id,
            peer.network_id,
            peer.address
        );
        Ok(Self {
            address: addresses.main,
            chaincode_address: addresses.chaincode,
            operations_address: addresses.operations,
            channels,
            chaincodes,
            keeper,
            servers,
            fatal,
            shutdown,
            _lock: lock,
        })
    }

    /// The channels this peer has joined.
    pub fn channels(&self) -> &Arc<Channels> {
        &self.channels
    }

    /// Serves until shutdown is asked for or the peer must stop, then ends in order: no more calls,
    /// the block in hand, chaincode.
    pub async fn run(mut self) -> Result<(), NodeError> {
        let end = loop {
            tokio::select! {
                () = self.shutdown.cancelled() => break Ok(()),
                reason = self.fatal.recv() => {
                    break Err(NodeError::Fatal(reason.unwrap_or_default()));
                }
                ended = self.servers.join_next() => match ended {
                    Some(Ok(Err(error))) => break Err(NodeError::Net(error)),
                    Some(_) => {}
                    None => break Ok(()),
                },
            }
        };
        self.shutdown.cancel();
        let mut end = end;
        while let Some(ended) = self.servers.join_next().await {
            if let (Ok(Err(error)), Ok(())) = (ended, &end) {
                end = Err(NodeError::Net(error));
            }
        }
        self.keeper.finish().await;
        self.chaincodes.shutdown().await;
        tracing::info!("peer stopped");
        end
    }
}

/// What keeps the channels of this peer going.
fn keeper(
    parts: &listeners::Parts<'_>,
    fatal: mpsc::Sender<String>,
    shutdown: &CancellationToken,
) -> Result<Arc<ChannelKeeper>, NodeError> {
    let (settings, env) = (parts.settings, parts.env);
    let peer = &settings.core.peer;
    let validator = Validator::new(peer.validator_pool_size).map_err(NodeError::Validate)?;
    let heights = parts.metrics.gauges(
        "ledger_blockchain_height",
        "Height of the chain in blocks.",
        &["channel"],
    );
    Ok(Arc::new(ChannelKeeper {
        validator: Arc::new(validator),
        options: committer_options(settings),
        following: Following {
            signer: Arc::new(local::RequestSigner(parts.identities.signer.clone())),
            orderers: parts.orderers.clone(),
            clock: env.clock.clone(),
            rng: env.rng.clone(),
            max_pause: max_pause(settings),
        },
        pulls: peer.gossip.org_leader,
        tls: parts.tls.clone(),
        channels: Arc::downgrade(parts.channels),
        chaincodes: Arc::downgrade(parts.chaincodes),
        shutdown: shutdown.clone(),
        fatal,
        stopped: parts.stopped.clone(),
        heights,
        runtime: tokio::runtime::Handle::current(),
        committers: Mutex::default(),
    }))
}

fn committer_options(settings: &Settings) -> CommitterOptions {
    let private = &settings.core.peer.gossip.pvt_data;
    CommitterOptions {
        transient_retention: private.transientstore_max_block_retention,
    }
}

/// The longest pause between attempts to reach an orderer. Fabric's default of an hour is meant for
/// peers that need not pull; one that is alone with the task tries more often.
fn max_pause(settings: &Settings) -> std::time::Duration {
    const LONGEST: std::time::Duration = std::time::Duration::from_secs(10);
    settings
        .core
        .peer
        .deliveryclient
        .re_connect_backoff_threshold
        .0
        .min(LONGEST)
}

/// Opens the ledgers away from the threads that serve, because recovery reads disks for a while.
async fn open_channels(
    channels: &Arc<Channels>,
    keeper: &Arc<ChannelKeeper>,
) -> Result<(), NodeError> {
    let (opened, keeper) = (channels.clone(), keeper.clone());
    channels.on_open(move |channel| keeper.keep(channel));
    tokio::task::spawn_blocking(move || opened.open_all())
        .await
        .map_err(|_| NodeError::Fatal("opening the channels was interrupted".to_owned()))?
        .map_err(NodeError::Channels)
}

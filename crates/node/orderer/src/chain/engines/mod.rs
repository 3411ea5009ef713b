//! The engines this orderer has, and what each needs to start.

mod bft;
mod certificates;
mod raft;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use selvage_channel::{CONSENSUS_BFT, CONSENSUS_RAFT, CONSENSUS_SOLO, ChannelConfig};
use selvage_consensus_bft::FilterJudge;
use selvage_ordering::journal::{Journal, JournalError};
use selvage_ordering::solo::Solo;
use selvage_ordering::{BatchLimits, Effect, Engine, Member, Parameters};
use selvage_proto::common::{Block, Envelope};

use super::Shared;
use crate::cluster::{ClusterTls, Kind, Links, consenter_address};
use crate::error::ChainError;
use crate::in_full;

/// The consensus types this orderer has engines for.
pub const CONSENSUS_TYPES: [&str; 3] = [CONSENSUS_SOLO, CONSENSUS_RAFT, CONSENSUS_BFT];

/// The engine that a configuration names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consensus {
    Solo,
    Raft,
    Bft,
}

impl Consensus {
    /// None for one that this orderer does not have.
    pub(super) fn of(config: &ChannelConfig) -> Option<Self> {
        match config.orderer()?.consensus_type() {
            CONSENSUS_SOLO => Some(Self::Solo),
            CONSENSUS_RAFT => Some(Self::Raft),
            CONSENSUS_BFT => Some(Self::Bft),
            _ => None,
        }
    }

    /// The name in configurations.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Solo => CONSENSUS_SOLO,
            Self::Raft => CONSENSUS_RAFT,
            Self::Bft => CONSENSUS_BFT,
        }
    }
}

/// What clusters need of the node.
#[derive(Clone)]
pub(crate) struct ClusterNode {
    /// The way to the other orderers; none without TLS, where this node can be no consenter.
    pub(crate) links: Option<Links>,
    /// The certificates by which consenters know this node.
    pub(crate) tls: Option<Arc<ClusterTls>>,
    /// The folder of what engines keep, one below it for each channel.
    pub(crate) journals: PathBuf,
    /// How long a tick of Raft is, instead of the configuration's.
    pub(crate) tick: Option<Duration>,
    /// How long nobody may lead before this node asks others whether it was removed.
    pub(crate) suspicion: Duration,
    /// How long a message may wait for a leader.
    pub(crate) patience: Duration,
}

impl ClusterNode {
    /// Whether a consenter with this TLS certificate (PEM) is this node: it shows the same key.
    pub(crate) fn is_own(&self, server_tls_cert: &[u8]) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|tls| tls.is_own(server_tls_cert))
    }
}

/// An engine that runs.
pub(super) struct Running {
    pub(super) engine: Box<dyn Engine>,
    pub(super) consensus: Consensus,
    /// To be carried out first.
    pub(super) effects: Vec<Effect>,
    /// The length of a tick, for engines that have elections.
    pub(super) tick: Option<Duration>,
    pub(super) journal: Option<Journal>,
    /// The consenter's number; none for solo.
    pub(super) id: Option<u64>,
    /// To be told of each configuration before the engine is; BFT's.
    pub(super) judge: Option<Arc<FilterJudge>>,
}

/// Why no engine runs.
pub(super) enum NotRunning {
    /// This node only follows.
    NotConsenter,
    Failed(ChainError),
}

impl From<ChainError> for NotRunning {
    fn from(error: ChainError) -> Self {
        Self::Failed(error)
    }
}

impl From<JournalError> for NotRunning {
    fn from(error: JournalError) -> Self {
        Self::Failed(ChainError::Journal(error))
    }
}

/// Whether the channel's consensus runs among several nodes.
pub(crate) fn is_cluster(config: &ChannelConfig) -> bool {
    config
        .orderer()
        .is_some_and(|orderer| orderer.consensus_type() != CONSENSUS_SOLO)
}

/// Whether this orderer can join a channel with this configuration.
pub(crate) fn check_config(shared: &Shared, config: &ChannelConfig) -> Result<(), ChainError> {
    runnable(shared, config)?;
    match Consensus::of(config) {
        Some(Consensus::Raft) => raft::check_issued(config).map_err(ChainError::Consenters),
        Some(Consensus::Bft) => bft::check_readable(config).map_err(ChainError::BftConsenters),
        Some(Consensus::Solo) | None => Ok(()),
    }
}

/// Whether this orderer can run a channel with this configuration, and with which parameters.
fn runnable(shared: &Shared, config: &ChannelConfig) -> Result<Parameters, ChainError> {
    config
        .check_supported_by_orderer()
        .map_err(ChainError::Unsupported)?;
    let orderer = config.orderer().ok_or(ChainError::NoOrderer)?;
    match Consensus::of(config) {
        None => {
            let name = orderer.consensus_type().to_owned();
            return Err(ChainError::ConsensusType(name));
        }
        Some(Consensus::Solo) => {}
        Some(Consensus::Raft) => raft::check(config)?,
        Some(Consensus::Bft) => bft::check(shared, config)?,
    }
    parameters(config).ok_or(ChainError::NoOrderer)
}

pub(super) fn parameters(config: &ChannelConfig) -> Option<Parameters> {
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

/// Where a consenter listens, and what it shows there.
pub(super) struct Place {
    pub(super) address: String,
    /// PEM.
    pub(super) server_tls_cert: Bytes,
}

impl Place {
    fn new(host: &str, port: u32, server_tls_cert: &Bytes) -> Self {
        Self {
            address: consenter_address(host, port),
            server_tls_cert: server_tls_cert.clone(),
        }
    }
}

/// The consenters that a configuration names.
pub(super) fn places(config: &ChannelConfig) -> Vec<Place> {
    match Consensus::of(config) {
        Some(Consensus::Raft) => raft::places(config),
        Some(Consensus::Bft) => bft::places(config),
        Some(Consensus::Solo) | None => Vec::new(),
    }
}

/// Whether this node is among the consenters that a configuration names, by its certificate.
pub(super) fn is_place_of(shared: &Shared, config: &ChannelConfig) -> bool {
    let is_own = |place: &Place| shared.cluster.is_own(&place.server_tls_cert);
    places(config).iter().any(is_own)
}

/// The consenters with their numbers at the channel's newest block.
pub(super) fn members(config: &ChannelConfig, newest: &Block) -> Vec<Member> {
    match Consensus::of(config) {
        Some(Consensus::Raft) => raft::members(config, newest),
        Some(Consensus::Bft) => bft::members(config),
        Some(Consensus::Solo) | None => Vec::new(),
    }
}

/// The number under which this node is a consenter at a block.
pub(super) fn number(shared: &Shared, config: &ChannelConfig, newest: &Block) -> Option<u64> {
    match Consensus::of(config)? {
        Consensus::Solo => None,
        Consensus::Raft => raft::number(shared, config, newest),
        Consensus::Bft => bft::number(shared, config),
    }
}

/// How the consenters of a configuration speak with this one of them.
pub(super) fn link_kind(config: &ChannelConfig, own: u64) -> Kind {
    match Consensus::of(config) {
        Some(Consensus::Bft) => bft::link_kind(config, own),
        _ => Kind::Raft,
    }
}

/// Starts the engine that the configuration names. `joined` says that the blocks came from other
/// nodes, so that an empty journal is what is expected.
pub(super) fn start(
    id: &str,
    shared: &Shared,
    config: &Arc<ChannelConfig>,
    newest: &Block,
    joined: bool,
) -> Result<Running, NotRunning> {
    let parameters = runnable(shared, config)?;
    let consensus = Consensus::of(config).ok_or(ChainError::NoOrderer)?;
    if consensus == Consensus::Solo {
        let header = newest.header.clone().unwrap_or_default();
        return Ok(Running {
            engine: Box::new(Solo::new(&header, parameters, shared.solo)),
            consensus,
            effects: Vec::new(),
            tick: None,
            journal: None,
            id: None,
            judge: None,
        });
    }
    if number(shared, config, newest).is_none() {
        return Err(NotRunning::NotConsenter);
    }
    let folder = shared.journal_folder(id, consensus);
    let (journal, records) = Journal::open(shared.env.disk.clone(), &folder)?;
    let starting = Starting {
        id,
        shared,
        config,
        parameters,
        newest,
        joined,
        records: &records,
    };
    let started = match consensus {
        Consensus::Bft => bft::start(starting),
        _ => raft::start(starting),
    };
    let running = started?;
    Ok(Running {
        journal: Some(journal),
        ..running
    })
}

/// What an engine of a cluster starts from.
struct Starting<'a> {
    id: &'a str,
    shared: &'a Shared,
    config: &'a Arc<ChannelConfig>,
    parameters: Parameters,
    newest: &'a Block,
    joined: bool,
    records: &'a [Bytes],
}

/// Judges what a CONFIG message makes of the consenters. Those who are `active` may not become too
/// few; nobody knows who they are when there are none.
pub(super) fn check_consenters(
    shared: &Shared,
    config: &ChannelConfig,
    newest: &Block,
    made: &Envelope,
    active: &[u64],
) -> Result<(), String> {
    let next = ChannelConfig::from_envelope(made).map_err(|error| in_full(&error))?;
    match (Consensus::of(config), Consensus::of(&next)) {
        (Some(Consensus::Solo), Some(Consensus::Solo)) => Ok(()),
        (Some(Consensus::Raft), Some(Consensus::Raft)) => {
            raft::check_change(config, &next, newest, active)
        }
        (Some(Consensus::Raft), Some(Consensus::Bft)) => {
            bft::check_migration(shared, &raft::places(config), &next)
        }
        (Some(Consensus::Bft), Some(Consensus::Bft)) => bft::check_change(shared, &next),
        _ => Err(format!(
            "this orderer cannot move a channel from consensus type {} to {}",
            config.orderer().map_or("", |o| o.consensus_type()),
            next.orderer().map_or("", |o| o.consensus_type())
        )),
    }
}

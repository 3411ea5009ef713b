//! The engines this orderer has, and what each needs to start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use selvage_channel::{CONSENSUS_RAFT, CONSENSUS_SOLO, ChannelConfig};
use selvage_consensus_raft::{
    Membership, Raft, RaftOptions, Start, StartError, config_metadata, consensus_of, tick_interval,
};
use selvage_ordering::block::consenter_metadata;
use selvage_ordering::journal::{Journal, JournalError};
use selvage_ordering::solo::{Solo, SoloOptions};
use selvage_ordering::{BatchLimits, Effect, Engine, Parameters};
use selvage_proto::common::{Block, Envelope};
use selvage_proto::etcdraft::Consenter;

use super::Shared;
use crate::cluster::{ClusterTls, Links};
use crate::error::ChainError;

/// The consensus types this orderer has engines for.
pub const CONSENSUS_TYPES: [&str; 2] = [CONSENSUS_SOLO, CONSENSUS_RAFT];

/// What clusters need of the node.
#[derive(Clone)]
pub(crate) struct ClusterNode {
    /// The way to the other orderers; none without TLS, where this node can be no consenter.
    pub(crate) links: Option<Links>,
    /// The certificates by which consenters know this node.
    pub(crate) tls: Option<Arc<ClusterTls>>,
    /// The folder of the journals, one below it for each channel.
    pub(crate) journals: PathBuf,
    /// How long a tick is, instead of the configuration's.
    pub(crate) tick: Option<Duration>,
    /// How long nobody may lead before this node asks others whether it was removed.
    pub(crate) suspicion: Duration,
    /// How long a message may wait for a leader.
    pub(crate) patience: Duration,
}

impl ClusterNode {
    /// Whether a consenter is this node: it shows one of its keys.
    pub(crate) fn is_own(&self, consenter: &Consenter) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|tls| tls.is_own(&consenter.server_tls_cert))
    }
}

/// An engine that runs.
pub(super) struct Running {
    pub(super) engine: Box<dyn Engine>,
    /// To be carried out first.
    pub(super) effects: Vec<Effect>,
    /// The length of a tick, for engines that have elections.
    pub(super) tick: Option<Duration>,
    pub(super) journal: Option<Journal>,
    /// The consenter's number; none for solo.
    pub(super) id: Option<u64>,
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

/// Whether this orderer can run a channel with this configuration, and with which parameters.
pub(crate) fn check_config(config: &ChannelConfig) -> Result<Parameters, ChainError> {
    config
        .check_supported_by_orderer()
        .map_err(ChainError::Unsupported)?;
    let orderer = config.orderer().ok_or(ChainError::NoOrderer)?;
    if !CONSENSUS_TYPES.contains(&orderer.consensus_type()) {
        let name = orderer.consensus_type().to_owned();
        return Err(ChainError::ConsensusType(name));
    }
    if orderer.consensus_type() == CONSENSUS_RAFT {
        config_metadata(orderer.consensus_metadata()).map_err(ChainError::Consenters)?;
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

/// The consenters that a configuration names.
pub(super) fn consenters(config: &ChannelConfig) -> Vec<Consenter> {
    let metadata = config.orderer().map(|o| o.consensus_metadata());
    let metadata = metadata.and_then(|bytes| config_metadata(bytes).ok());
    metadata.unwrap_or_default().consenters
}

/// Who the consenters of a Raft channel are at its newest block.
pub(super) fn membership(config: &ChannelConfig, newest: &Block) -> Option<Membership> {
    let orderer = config.orderer()?;
    if orderer.consensus_type() != CONSENSUS_RAFT {
        return None;
    }
    let raft = config_metadata(orderer.consensus_metadata()).ok()?;
    Membership::at(&consenter_metadata(newest), &raft).ok()
}

/// The number under which this node is a consenter at a block.
pub(super) fn number(shared: &Shared, config: &ChannelConfig, newest: &Block) -> Option<u64> {
    membership(config, newest)?.number_of(&|consenter| shared.cluster.is_own(consenter))
}

/// Starts the engine that the configuration names. `joined` says that the blocks came from other
/// nodes, so that an empty journal is what is expected.
pub(super) fn start(
    id: &str,
    shared: &Shared,
    config: &ChannelConfig,
    newest: &Block,
    joined: bool,
) -> Result<Running, NotRunning> {
    let parameters = check_config(config)?;
    let header = newest.header.clone().unwrap_or_default();
    if !is_cluster(config) {
        return Ok(Running {
            engine: Box::new(Solo::new(&header, parameters, shared.solo)),
            effects: Vec::new(),
            tick: None,
            journal: None,
            id: None,
        });
    }
    if number(shared, config, newest).is_none() {
        return Err(NotRunning::NotConsenter);
    }
    let folder = shared.cluster.journals.join(id);
    let (journal, records) = Journal::open(shared.env.disk.clone(), &folder)?;
    let tick = shared.cluster.tick.or_else(|| {
        let options = config_metadata(&parameters.metadata).ok()?.options?;
        tick_interval(&options)
    });
    let tick = tick.unwrap_or(Duration::from_millis(500));
    let (engine, effects) = Raft::start(Start {
        channel_id: id,
        newest: &header,
        consenter_metadata: &consenter_metadata(newest),
        parameters,
        own: &|consenter| shared.cluster.is_own(consenter),
        records: &records,
        joined,
        options: raft_options(&shared.solo, shared.cluster.patience, tick),
        rng: Arc::clone(&shared.env.rng),
    })?;
    let id = Some(engine.id());
    Ok(Running {
        engine: Box::new(engine),
        effects,
        tick: Some(tick),
        journal: Some(journal),
        id,
    })
}

fn raft_options(solo: &SoloOptions, patience: Duration, tick: Duration) -> RaftOptions {
    let ticks = patience.as_millis() / tick.as_millis().max(1);
    RaftOptions {
        cutting: solo.cutting,
        max_waiting: solo.max_waiting,
        max_waiting_bytes: solo.max_waiting_bytes,
        patience: u64::try_from(ticks).unwrap_or(u64::MAX).max(1),
    }
}

/// Judges what a new configuration makes of the consenters: one changes a time, and not so that
/// those who are `active` are too few. The texts are Fabric's.
pub(super) fn check_consenters(
    config: &ChannelConfig,
    newest: &Block,
    made: &Envelope,
    active: &[u64],
) -> Result<(), String> {
    let Some(membership) = membership(config, newest) else {
        return Ok(());
    };
    let Some(consensus) = consensus_of(made) else {
        return Ok(());
    };
    if consensus.r#type != CONSENSUS_RAFT {
        return Ok(());
    }
    let wrong = |error: selvage_consensus_raft::MembershipError| {
        format!(
            "consensus metadata update for channel config update is invalid: {}",
            error
        )
    };
    let next = config_metadata(&consensus.metadata).map_err(wrong)?;
    let change = membership.change(&next.consenters).map_err(wrong)?;
    if !active.is_empty() && change.loses_quorum(active) {
        return Err(format!(
            "consensus metadata update for channel config update is invalid: {} out of {} nodes \
             are alive, configuration will result in quorum loss",
            active.len(),
            membership.consenters.len()
        ));
    }
    Ok(())
}

impl From<StartError> for NotRunning {
    fn from(error: StartError) -> Self {
        match error {
            StartError::NotConsenter => Self::NotConsenter,
            other => Self::Failed(ChainError::Engine(other)),
        }
    }
}

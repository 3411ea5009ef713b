//! Raft: consenters stand in the consensus metadata, their numbers in the blocks' metadata.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use selvage_channel::ChannelConfig;
use selvage_consensus_raft::{
    Membership, MembershipError, Raft, RaftOptions, Start, StartError, config_metadata,
    tick_interval,
};
use selvage_ordering::Member;
use selvage_ordering::block::consenter_metadata;
use selvage_ordering::solo::SoloOptions;
use selvage_proto::common::Block;

use super::certificates::Shown;
use super::{Consensus, NotRunning, Place, Running, Shared, Starting};
use crate::error::ChainError;

/// The length of a tick where neither node nor channel says one, as in Fabric's examples.
const TICK: Duration = Duration::from_millis(500);

pub(super) fn check(config: &ChannelConfig) -> Result<(), ChainError> {
    let orderer = config.orderer().ok_or(ChainError::NoOrderer)?;
    let metadata = config_metadata(orderer.consensus_metadata());
    metadata.map(drop).map_err(ChainError::Consenters)
}

/// The consenters' TLS certificates can be read and come from the orderer organisations, as Fabric
/// asks of every configuration (`VerifyConfigMetadata`).
pub(super) fn check_issued(config: &ChannelConfig) -> Result<(), MembershipError> {
    let metadata = config.orderer().map(|o| o.consensus_metadata());
    let metadata = config_metadata(metadata.unwrap_or(&Bytes::new()))?;
    let check = |consenter: &selvage_proto::etcdraft::Consenter| {
        let shown = Shown {
            host: &consenter.host,
            port: consenter.port,
            client: &consenter.client_tls_cert,
            server: &consenter.server_tls_cert,
        };
        shown.check_issued(config).map_err(MembershipError::Invalid)
    };
    metadata.consenters.iter().try_for_each(check)
}

pub(super) fn places(config: &ChannelConfig) -> Vec<Place> {
    let metadata = config.orderer().map(|o| o.consensus_metadata());
    let metadata = metadata.and_then(|bytes| config_metadata(bytes).ok());
    let consenters = metadata.unwrap_or_default().consenters;
    let place =
        |c: selvage_proto::etcdraft::Consenter| Place::new(&c.host, c.port, &c.server_tls_cert);
    consenters.into_iter().map(place).collect()
}

/// Who the consenters of a Raft channel are at its newest block.
fn membership(config: &ChannelConfig, newest: &Block) -> Option<Membership> {
    let raft = config_metadata(config.orderer()?.consensus_metadata()).ok()?;
    Membership::at(&consenter_metadata(newest), &raft).ok()
}

pub(super) fn members(config: &ChannelConfig, newest: &Block) -> Vec<Member> {
    membership(config, newest).map_or_else(Vec::new, |membership| membership.members())
}

pub(super) fn number(shared: &Shared, config: &ChannelConfig, newest: &Block) -> Option<u64> {
    let own = |c: &selvage_proto::etcdraft::Consenter| shared.cluster.is_own(&c.server_tls_cert);
    membership(config, newest)?.number_of(&own)
}

pub(super) fn start(starting: Starting<'_>) -> Result<Running, NotRunning> {
    let shared = starting.shared;
    let tick = shared.cluster.tick.or_else(|| {
        let options = config_metadata(&starting.parameters.metadata)
            .ok()?
            .options?;
        tick_interval(&options)
    });
    let tick = tick.unwrap_or(TICK);
    let (engine, effects) = Raft::start(Start {
        channel_id: starting.id,
        newest: &starting.newest.header.clone().unwrap_or_default(),
        consenter_metadata: &consenter_metadata(starting.newest),
        parameters: starting.parameters,
        own: &|consenter| shared.cluster.is_own(&consenter.server_tls_cert),
        records: starting.records,
        joined: starting.joined,
        options: options(&shared.solo, shared.cluster.patience, tick),
        rng: Arc::clone(&shared.env.rng),
    })?;
    let id = Some(engine.id());
    Ok(Running {
        engine: Box::new(engine),
        consensus: Consensus::Raft,
        effects,
        tick: Some(tick),
        journal: None,
        id,
        judge: None,
    })
}

fn options(solo: &SoloOptions, patience: Duration, tick: Duration) -> RaftOptions {
    let ticks = patience.as_millis() / tick.as_millis().max(1);
    RaftOptions {
        cutting: solo.cutting,
        max_waiting: solo.max_waiting,
        max_waiting_bytes: solo.max_waiting_bytes,
        patience: u64::try_from(ticks).unwrap_or(u64::MAX).max(1),
    }
}

/// One consenter changes a time, and not so that those who are `active` are too few. The texts are
/// Fabric's.
pub(super) fn check_change(
    config: &ChannelConfig,
    next: &ChannelConfig,
    newest: &Block,
    active: &[u64],
) -> Result<(), String> {
    let Some(membership) = membership(config, newest) else {
        return Ok(());
    };
    let wrong = |error: MembershipError| {
        format!("consensus metadata update for channel config update is invalid: {error}")
    };
    let orderer = next
        .orderer()
        .ok_or("the configuration has no orderer group")?;
    check_issued(next).map_err(wrong)?;
    let next = config_metadata(orderer.consensus_metadata()).map_err(wrong)?;
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
            other => Self::Failed(ChainError::Raft(other)),
        }
    }
}

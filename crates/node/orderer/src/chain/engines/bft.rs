//! BFT: consenters with numbers and identities stand in the `Orderers` value.

use std::sync::Arc;

use selvage_channel::ChannelConfig;
use selvage_consensus_bft::{
    Bft, BftOptions, FilterJudge, Keys, Start, StartError, check_consenters,
};
use selvage_ordering::Member;
use selvage_proto::common::Consenter;

use super::certificates::Shown;
use super::{Consensus, Kind, NotRunning, Place, Running, Shared, Starting};
use crate::error::ChainError;

fn consenters(config: &ChannelConfig) -> &[Consenter] {
    config.orderer().map_or(&[], |orderer| orderer.consenters())
}

pub(super) fn check(shared: &Shared, config: &ChannelConfig) -> Result<(), ChainError> {
    let keys = shared.signer.current();
    check_consenters(consenters(config), keys.as_ref()).map_err(ChainError::BftConsenters)
}

/// The consenters' TLS certificates can be read. Fabric asks no more of BFT's: whoever may change the
/// consenters vouches for them.
pub(super) fn check_readable(config: &ChannelConfig) -> Result<(), String> {
    let check = |consenter: &Consenter| {
        let shown = Shown {
            host: &consenter.host,
            port: consenter.port,
            client: &consenter.client_tls_cert,
            server: &consenter.server_tls_cert,
        };
        shown.check()
    };
    consenters(config).iter().try_for_each(check)
}

pub(super) fn places(config: &ChannelConfig) -> Vec<Place> {
    let place = |c: &Consenter| Place::new(&c.host, c.port, &c.server_tls_cert);
    consenters(config).iter().map(place).collect()
}

pub(super) fn members(config: &ChannelConfig) -> Vec<Member> {
    consenters(config).iter().map(Member::from).collect()
}

pub(super) fn number(shared: &Shared, config: &ChannelConfig) -> Option<u64> {
    let keys = shared.signer.current();
    let own = consenters(config).iter().find(|c| keys.is_me(c))?;
    Some(own.id.into())
}

pub(super) fn link_kind(config: &ChannelConfig, own: u64) -> Kind {
    Kind::Bft {
        own,
        consenters: consenters(config).into(),
    }
}

pub(super) fn start(starting: Starting<'_>) -> Result<Running, NotRunning> {
    let shared = starting.shared;
    let options = BftOptions {
        cutting: shared.solo.cutting,
        max_waiting: shared.solo.max_waiting,
        max_waiting_bytes: shared.solo.max_waiting_bytes,
        patience: shared.cluster.patience,
        ..BftOptions::default()
    };
    let targets = shared.filters.migration_targets.clone();
    let judge = Arc::new(FilterJudge::new(starting.config.clone(), targets));
    let (engine, effects) = Bft::start(Start {
        channel_id: starting.id,
        newest: starting.newest,
        parameters: starting.parameters,
        records: starting.records,
        joined: starting.joined,
        options,
        keys: shared.signer.current(),
        judge: judge.clone(),
    })?;
    let id = Some(engine.id());
    Ok(Running {
        engine: Box::new(engine),
        consensus: Consensus::Bft,
        effects,
        tick: Some(options.tick),
        journal: None,
        id,
        judge: Some(judge),
    })
}

/// Any number of consenters may change at once, as long as the new ones can go on.
pub(super) fn check_change(shared: &Shared, next: &ChannelConfig) -> Result<(), String> {
    let keys = shared.signer.current();
    let checked = check_consenters(consenters(next), keys.as_ref());
    checked
        .and_then(|()| check_readable(next))
        .map_err(|error| {
            format!("consensus metadata update for channel config update is invalid: {error}")
        })
}

/// A channel leaves Raft with the consenters it has: each has to be there under the same address and
/// certificate, so that those who agreed on the change are those who go on.
pub(super) fn check_migration(
    shared: &Shared,
    current: &[Place],
    next: &ChannelConfig,
) -> Result<(), String> {
    check_change(shared, next)?;
    let next = places(next);
    let missing = current.iter().find(|place| {
        let same =
            |p: &&Place| p.address == place.address && p.server_tls_cert == place.server_tls_cert;
        next.iter().find(same).is_none()
    });
    if let Some(place) = missing {
        return Err(format!(
            "consensus metadata update for channel config update is invalid: Raft consenter {} is \
             not among the BFT consenters with the same server TLS certificate",
            place.address
        ));
    }
    if next.len() != current.len() {
        return Err(format!(
            "consensus metadata update for channel config update is invalid: the channel has {} \
             Raft consenters and would have {} BFT consenters; add or remove consenters before or \
             after the change",
            current.len(),
            next.len()
        ));
    }
    Ok(())
}

impl From<StartError> for NotRunning {
    fn from(error: StartError) -> Self {
        match error {
            StartError::NotConsenter => Self::NotConsenter,
            other => Self::Failed(ChainError::Bft(other)),
        }
    }
}

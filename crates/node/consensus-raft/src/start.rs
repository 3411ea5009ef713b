//! Starting an engine: for a new channel, after a restart, or on a channel that it joins later.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use raft::{Config, RawNode};
use selvage_crypto::sha256_parts;
use selvage_env::Rng;
use selvage_ordering::block::Tip;
use selvage_ordering::{Batcher, Effect, Parameters};
use selvage_proto::common::{Block, BlockHeader};
use selvage_proto::etcdraft::{Consenter, Options};
use thiserror::Error;

use crate::engine::{MAX_MESSAGE_BYTES, Raft, RaftOptions};
use crate::log::{Log, LogError};
use crate::logger;
use crate::membership::{Membership, MembershipError, config_metadata};
use crate::wire::{self, ADD_NODE, ConfChange};

/// What an engine starts from.
pub struct Start<'a> {
    /// The channel's name, by which the node is chosen that calls the first election.
    pub channel_id: &'a str,
    /// The newest durable block.
    pub newest: &'a BlockHeader,
    /// That block's consenter metadata, as it stands in its signed value; empty for a genesis block.
    pub consenter_metadata: &'a Bytes,
    /// The configuration in force.
    pub parameters: Parameters,
    /// Whether a consenter is this node, which knows itself by its TLS certificates.
    pub own: &'a dyn Fn(&Consenter) -> bool,
    /// The records of the journal; none for a new engine.
    pub records: &'a [Bytes],
    /// Whether the blocks were fetched when this node joined a running channel, so that a journal
    /// without records is what is expected.
    pub joined: bool,
    /// Options of this node.
    pub options: RaftOptions,
    /// Chance for election timeouts.
    pub rng: Arc<dyn Rng>,
}

/// Why an engine cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// No consenter of the configuration shows this node's certificate.
    #[error("this orderer is not a consenter of the channel: no consenter has its TLS certificate")]
    NotConsenter,
    /// The journal is gone although this node has taken part.
    #[error(
        "the Raft log of this orderer is gone although it has blocks up to [{0}]: without it the \
         orderer does not know what it promised to the others. Put the log back, or remove this \
         orderer from the channel's consenters and add it again with a new certificate"
    )]
    JournalLost(u64),
    /// The configuration names no usable consenters.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The journal's records make no log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The Raft library refuses.
    #[error("raft refuses to start: {0}")]
    Raft(String),
}

/// Calls the first election of a channel, so that nobody has to wait for a timeout.
#[derive(Debug)]
pub(crate) struct Campaign {
    every: u32,
    ticks: u32,
}

impl Campaign {
    /// Whether it is time to call one (again).
    pub(crate) fn due(&mut self) -> bool {
        self.ticks += 1;
        self.ticks.is_multiple_of(self.every)
    }
}

impl Raft {
    /// Starts an engine. The effects are to be carried out before the first input.
    pub fn start(start: Start<'_>) -> Result<(Self, Vec<Effect>), StartError> {
        let config = config_metadata(&start.parameters.metadata)?;
        let membership = Membership::at(start.consenter_metadata, &config)?;
        let id = membership.number_of(start.own);
        let id = id.ok_or(StartError::NotConsenter)?;
        let mut log = Log::replay(start.records)?;
        let fresh = log.is_empty();
        let height = start.newest.number + 1;
        if fresh && height > 1 && !start.joined {
            return Err(StartError::JournalLost(start.newest.number));
        }
        let founding = fresh && height == 1 && !start.joined;
        let records = match founding {
            true => found(&mut log, &membership),
            false => Vec::new(),
        };
        let options = config.options.unwrap_or_default();
        let snapshot = log.latest_snapshot().clone();
        let applied = snapshot.index();
        let voters = snapshot.metadata.and_then(|m| m.conf_state);
        let raft = raft_config(id, &options, applied);
        let node = RawNode::new(&raft, log, &logger::to_tracing())
            .map_err(|error| StartError::Raft(error.to_string()))?;
        let mut engine = Self {
            id,
            last_role: (node.raft.state, node.raft.term),
            node,
            rng: start.rng,
            options: start.options,
            election_tick: raft.election_tick,
            max_in_flight: u64::from(options.max_inflight_blocks),
            snapshot_interval: u64::from(options.snapshot_interval_size),
            parameters: start.parameters,
            membership,
            leaving: Vec::new(),
            voters: voters.unwrap_or_default().into_raft(),
            tip: Tip::after(start.newest),
            batcher: Batcher::new(start.options.cutting),
            waiting: Default::default(),
            leader: 0,
            leading: None,
            config_block: None,
            to_apply: Default::default(),
            applied,
            catching_up: None,
            since_snapshot: 0,
            journaled: 0,
            unpersisted: Default::default(),
            ticks: 0,
            campaign: None,
            active: Vec::new(),
            handing_on: false,
            heard_of: Default::default(),
            heard: 0,
            silent: false,
            over: false,
        };
        engine.draw_timeout();
        let mut out = vec![engine.members()];
        if founding {
            engine.journal(records, false, true, &mut out);
            engine.campaign = chosen(start.channel_id, id, &engine.membership, &options);
        }
        engine.fetch_missing(&snapshot.data, &mut out);
        engine.drain(&mut out);
        Ok((engine, out))
    }

    /// After a restart in the middle of catching up, goes on with it.
    fn fetch_missing(&mut self, snapshot: &Bytes, out: &mut Vec<Effect>) {
        let block = Block::decode(snapshot.clone()).unwrap_or_default();
        let through = block.header.map_or(0, |header| header.number);
        out.push(Effect::Snapshot { number: through });
        if through > self.tip.number() {
            self.catch_up(through, out);
        }
    }
}

/// The first entries of a new channel's log: every consenter joins, in order, in term 1. All nodes
/// write the same, etcd's nodes too, so nobody has to be asked.
fn found(log: &mut Log, membership: &Membership) -> Vec<Bytes> {
    let mut records = Vec::new();
    let mut last = 0;
    for (index, id) in (1..).zip(&membership.metadata.consenter_ids) {
        let change = ConfChange {
            kind: ADD_NODE,
            node_id: *id,
            ..ConfChange::default()
        };
        let entry = wire::Entry {
            kind: 1,
            term: 1,
            index,
            data: change.encode_to_vec().into(),
        };
        records.push(crate::log::entry_record(&entry));
        if let Ok(entry) = entry.into_raft() {
            log.append(&[entry]);
        }
        last = index;
    }
    let state = wire::HardState {
        term: 1,
        vote: 0,
        commit: last,
    };
    records.push(crate::log::hard_state_record(&state));
    log.set_hard_state(&state.to_raft());
    records
}

/// The node that calls the first election follows from the channel's name, as in Fabric.
fn chosen(
    channel_id: &str,
    id: u64,
    membership: &Membership,
    options: &Options,
) -> Option<Campaign> {
    let digest = sha256_parts([channel_id.as_bytes()]);
    let number = prost::encoding::decode_varint(&mut &digest[24..]).unwrap_or(0);
    let count = membership.metadata.consenter_ids.len() as u64;
    (number % count + 1 == id).then(|| Campaign {
        every: 2 * options.heartbeat_tick,
        ticks: 0,
    })
}

fn raft_config(id: u64, options: &Options, applied: u64) -> Config {
    Config {
        id,
        election_tick: options.election_tick as usize,
        heartbeat_tick: options.heartbeat_tick as usize,
        applied,
        max_size_per_msg: MAX_MESSAGE_BYTES,
        max_inflight_msgs: options.max_inflight_blocks as usize,
        check_quorum: true,
        pre_vote: true,
        ..Config::default()
    }
}

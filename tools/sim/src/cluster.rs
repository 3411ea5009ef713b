//! The engines that can be simulated, behind one trait.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use selvage_consensus_raft::{Raft, RaftOptions, Start};
use selvage_env::{Rng, SeededRng};
use selvage_ordering::block::consenter_metadata;
use selvage_ordering::{BatchLimits, Cutting, Effect, Engine, Parameters};
use selvage_proto::common::{
    Block, BlockHeader, ChannelHeader, Config, ConfigEnvelope, ConfigGroup, ConfigValue, Envelope,
    Header, HeaderType, Payload,
};
use selvage_proto::etcdraft::{ConfigMetadata, Consenter, Options};
use selvage_proto::orderer::ConsensusType;

/// The channel of every run.
pub const CHANNEL: &str = "simulated";

/// What a node starts its engine from.
pub struct Begin<'a> {
    /// The node's number in the simulation, from 0.
    pub node: usize,
    /// The newest durable block.
    pub newest: &'a Block,
    /// The newest configuration's parameters.
    pub parameters: Parameters,
    /// What the journal holds.
    pub records: &'a [Bytes],
    /// Whether the blocks were fetched when joining.
    pub joined: bool,
    /// For the engine's chance.
    pub seed: u64,
}

/// An engine that runs, with the effects of its start.
pub type Started = (Box<dyn Engine>, Vec<Effect>);

/// A kind of cluster.
pub trait Cluster {
    /// The name on the command line.
    fn name(&self) -> &'static str;

    /// The parameters of a channel whose consenters are these nodes.
    fn parameters(&self, sequence: u64, nodes: &[usize]) -> Parameters;

    /// Starts a node's engine, or says why it cannot.
    fn start(&self, begin: Begin<'_>) -> Result<Started, String>;

    /// The consenter's number by which engines know a node, under a configuration.
    fn id_of(&self, newest: &Block, parameters: &Parameters, node: usize) -> Option<u64>;

    /// How long a tick of the engine is, in microseconds.
    fn tick(&self) -> u64;

    /// How long an election takes at most while all is well, in microseconds.
    fn election(&self) -> u64;
}

/// Clusters of the Raft engine.
#[derive(Debug, Default)]
pub struct RaftCluster;

const ELECTION_TICKS: u32 = 10;

impl RaftCluster {
    fn certificate(node: usize) -> Bytes {
        Bytes::from(format!("certificate of node {node}"))
    }
}

impl Cluster for RaftCluster {
    fn name(&self) -> &'static str {
        "raft"
    }

    fn parameters(&self, sequence: u64, nodes: &[usize]) -> Parameters {
        let consenter = |node: &usize| Consenter {
            host: format!("node{node}"),
            port: 7050,
            client_tls_cert: Self::certificate(*node),
            server_tls_cert: Self::certificate(*node),
        };
        let metadata = ConfigMetadata {
            consenters: nodes.iter().map(consenter).collect(),
            options: Some(Options {
                tick_interval: "50ms".to_owned(),
                election_tick: ELECTION_TICKS,
                heartbeat_tick: 1,
                max_inflight_blocks: 5,
                // Small, so that snapshots are frequent.
                snapshot_interval_size: 8_192,
            }),
        };
        Parameters {
            sequence,
            limits: BatchLimits {
                max_messages: 10,
                preferred_bytes: 10_000,
            },
            timeout: Duration::from_millis(200),
            metadata: metadata.encode_to_vec().into(),
            consenters: [].into(),
        }
    }

    fn start(&self, begin: Begin<'_>) -> Result<Started, String> {
        let header = begin.newest.header.clone().unwrap_or_default();
        let metadata = consenter_metadata(begin.newest);
        let rng: Arc<dyn Rng> = Arc::new(SeededRng::new(begin.seed));
        let start = Start {
            channel_id: CHANNEL,
            newest: &header,
            consenter_metadata: &metadata,
            parameters: begin.parameters,
            own: &|consenter| consenter.client_tls_cert == Self::certificate(begin.node),
            records: begin.records,
            joined: begin.joined,
            options: RaftOptions {
                cutting: Cutting::default(),
                max_waiting: 500,
                max_waiting_bytes: 1 << 20,
                patience: 200,
            },
            rng,
        };
        match Raft::start(start) {
            Ok((raft, effects)) => Ok((Box::new(raft), effects)),
            Err(error) => Err(error.to_string()),
        }
    }

    fn id_of(&self, newest: &Block, parameters: &Parameters, node: usize) -> Option<u64> {
        let config = selvage_consensus_raft::config_metadata(&parameters.metadata).ok()?;
        let metadata = consenter_metadata(newest);
        let membership = selvage_consensus_raft::Membership::at(&metadata, &config).ok()?;
        membership.number_of(&|consenter| consenter.client_tls_cert == Self::certificate(node))
    }

    fn tick(&self) -> u64 {
        50 * crate::scenario::MS
    }

    fn election(&self) -> u64 {
        2 * u64::from(ELECTION_TICKS) * self.tick()
    }
}

/// The first block of the channel.
pub fn genesis(parameters: &Parameters) -> Block {
    let envelope = config_envelope(parameters);
    let data = vec![Bytes::from(envelope.encode_to_vec())];
    let hash = selvage_crypto::sha256_parts(data.iter().map(Bytes::as_ref));
    Block {
        header: Some(BlockHeader {
            number: 0,
            previous_hash: Bytes::new(),
            data_hash: hash.to_vec().into(),
        }),
        data: Some(selvage_proto::common::BlockData { data }),
        metadata: Some(Default::default()),
    }
}

/// A CONFIG message that puts parameters in force; unsigned, since no filter looks at it here.
pub fn config_envelope(parameters: &Parameters) -> Envelope {
    let consensus = ConsensusType {
        r#type: "etcdraft".to_owned(),
        metadata: parameters.metadata.clone(),
        state: 0,
    };
    let value = ConfigValue {
        value: consensus.encode_to_vec().into(),
        ..Default::default()
    };
    let mut orderer = ConfigGroup::default();
    orderer.values.insert("ConsensusType".to_owned(), value);
    let mut channel = ConfigGroup::default();
    channel.groups.insert("Orderer".to_owned(), orderer);
    let config = ConfigEnvelope {
        config: Some(Config {
            sequence: parameters.sequence,
            channel_group: Some(channel),
        }),
        last_update: None,
    };
    let header = ChannelHeader {
        r#type: HeaderType::Config as i32,
        channel_id: CHANNEL.to_owned(),
        ..Default::default()
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: header.encode_to_vec().into(),
            signature_header: Bytes::new(),
        }),
        data: config.encode_to_vec().into(),
    };
    Envelope {
        payload: payload.encode_to_vec().into(),
        signature: Bytes::new(),
    }
}

/// The sequence and consensus metadata that a configuration block puts in force.
pub fn config_of(block: &Block) -> Option<(u64, Bytes)> {
    let [envelope] = block.envelopes() else {
        return None;
    };
    let envelope = Envelope::decode(envelope.clone()).ok()?;
    let payload = Payload::decode(envelope.payload).ok()?;
    let header = ChannelHeader::decode(payload.header?.channel_header).ok()?;
    if header.r#type != HeaderType::Config as i32 {
        return None;
    }
    let config = ConfigEnvelope::decode(payload.data).ok()?.config?;
    let orderer = config.channel_group?.groups.remove("Orderer")?;
    let value = orderer.values.get("ConsensusType")?;
    let consensus = ConsensusType::decode(value.value.clone()).ok()?;
    Some((config.sequence, consensus.metadata))
}

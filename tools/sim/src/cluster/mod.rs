//! The engines that can be simulated, behind one trait.

mod bft;
mod raft;

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use selvage_ordering::{BatchLimits, Effect, Engine, Parameters};
use selvage_proto::common::{
    Block, BlockHeader, ChannelHeader, Config, ConfigEnvelope, ConfigGroup, ConfigValue, Envelope,
    Header, HeaderType, Orderers, Payload,
};
use selvage_proto::orderer::ConsensusType;

pub use bft::{BftCluster, check_block, consenter_at, view_of};
pub use raft::RaftCluster;

use crate::bugs::Bug;
use crate::invariants::Invariant;

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
    /// Whether the node judges nothing that it orders, because it lies.
    pub lies: bool,
    /// A mistake in what the engine is given.
    pub bug: Option<Bug>,
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

    /// What has to hold for this kind besides what holds for all.
    fn invariants(&self, first: &Parameters) -> Vec<Box<dyn Invariant>>;

    /// How many of so many nodes may lie.
    fn faulty(&self, _nodes: usize) -> usize {
        0
    }

    /// Whether a block that somebody shows is one, by the configuration before it.
    fn check(&self, _before: &Parameters, _block: &Block) -> Result<(), String> {
        Ok(())
    }
}

/// What the channels of all kinds have in common.
fn limits() -> BatchLimits {
    BatchLimits {
        max_messages: 10,
        preferred_bytes: 10_000,
    }
}

/// Messages that may wait at a node.
pub(crate) const MAX_WAITING: usize = 500;

/// How long a batch waits for company.
const BATCH_TIMEOUT: Duration = Duration::from_millis(200);

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

/// A CONFIG message that puts parameters in force; nobody signed it, since nobody asks here.
pub fn config_envelope(parameters: &Parameters) -> Envelope {
    let value = |value: Vec<u8>| ConfigValue {
        value: value.into(),
        ..Default::default()
    };
    let is_bft = !parameters.consenters.is_empty();
    let consensus = ConsensusType {
        r#type: if is_bft { "BFT" } else { "etcdraft" }.to_owned(),
        metadata: parameters.metadata.clone(),
        state: 0,
    };
    let mut orderer = ConfigGroup::default();
    let consensus = value(consensus.encode_to_vec());
    orderer.values.insert("ConsensusType".to_owned(), consensus);
    if is_bft {
        let orderers = Orderers {
            consenter_mapping: parameters.consenters.to_vec(),
        };
        let orderers = value(orderers.encode_to_vec());
        orderer.values.insert("Orderers".to_owned(), orderers);
    }
    let mut channel = ConfigGroup::default();
    channel.groups.insert("Orderer".to_owned(), orderer);
    let config = ConfigEnvelope {
        config: Some(Config {
            sequence: parameters.sequence,
            channel_group: Some(channel),
        }),
        last_update: None,
    };
    envelope(HeaderType::Config, "", config.encode_to_vec().into())
}

/// A message of the channel.
pub(crate) fn envelope(kind: HeaderType, id: &str, data: Bytes) -> Envelope {
    let header = ChannelHeader {
        r#type: kind as i32,
        channel_id: CHANNEL.to_owned(),
        tx_id: id.to_owned(),
        ..Default::default()
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: header.encode_to_vec().into(),
            signature_header: Bytes::new(),
        }),
        data,
    };
    Envelope {
        payload: payload.encode_to_vec().into(),
        signature: match kind {
            HeaderType::Config => Bytes::new(),
            _ => Bytes::from_static(b"signature"),
        },
    }
}

/// The parameters that a configuration block puts in force.
pub fn config_of(block: &Block) -> Option<Parameters> {
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
    let consensus = orderer.values.get("ConsensusType")?;
    let consensus = ConsensusType::decode(consensus.value.clone()).ok()?;
    let consenters = match orderer.values.get("Orderers") {
        Some(value) => {
            Orderers::decode(value.value.clone())
                .ok()?
                .consenter_mapping
        }
        None => Vec::new(),
    };
    Some(Parameters {
        sequence: config.sequence,
        limits: limits(),
        timeout: BATCH_TIMEOUT,
        metadata: consensus.metadata,
        consenters: consenters.into(),
    })
}

/// The nodes that a configuration names.
pub fn nodes_of(parameters: &Parameters) -> Vec<usize> {
    let raft = selvage_consensus_raft::config_metadata(&parameters.metadata);
    let hosts: Vec<String> = match parameters.consenters.is_empty() {
        true => raft.map_or_else(
            |_| Vec::new(),
            |raft| raft.consenters.into_iter().map(|c| c.host).collect(),
        ),
        false => parameters
            .consenters
            .iter()
            .map(|c| c.host.clone())
            .collect(),
    };
    hosts.iter().filter_map(|host| node_at(host)).collect()
}

/// The node at an address.
pub fn node_at(host: &str) -> Option<usize> {
    host.strip_prefix("node")?.parse().ok()
}

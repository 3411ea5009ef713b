//! Clusters of the Raft engine.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use selvage_consensus_raft::{Raft, RaftOptions, Start};
use selvage_env::{Rng, SeededRng};
use selvage_ordering::block::consenter_metadata;
use selvage_ordering::{Cutting, Parameters};
use selvage_proto::common::Block;
use selvage_proto::etcdraft::{ConfigMetadata, Consenter, Options};

use super::{BATCH_TIMEOUT, Begin, CHANNEL, Cluster, MAX_WAITING, Started, limits};
use crate::invariants::{Copies, Invariant, Promises};

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
            limits: limits(),
            timeout: BATCH_TIMEOUT,
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
                max_waiting: MAX_WAITING,
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

    fn invariants(&self, _: &Parameters) -> Vec<Box<dyn Invariant>> {
        vec![Box::<Promises>::default(), Box::<Copies>::default()]
    }
}

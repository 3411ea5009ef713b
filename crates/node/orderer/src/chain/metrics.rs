//! What is measured of a channel, under Fabric's names.
//!
//! The series of a channel exist as long as this node serves it, and those of a consensus as long as
//! this node takes part in it.

use std::sync::Arc;
use std::time::Duration;

use selvage_net::metrics::{
    Counter, Counters, DurationHistogram, Durations, Gauge, Gauges, Metrics,
};

use super::engines::Consensus;

const CHANNEL: &[&str] = &["channel"];

/// The families of all channels of a node. Clones share them.
#[derive(Clone)]
pub(crate) struct ChainMetrics(Arc<Families>);

struct Families {
    metrics: Metrics,
    fill: Durations,
    commit: Durations,
    raft: ClusterFamilies,
    bft: ClusterFamilies,
    raft_only: RaftFamilies,
    bft_leader: Gauges,
}

/// What the consensus of every cluster has.
struct ClusterFamilies {
    size: Gauges,
    committed: Gauges,
    is_leader: Gauges,
}

struct RaftFamilies {
    active: Gauges,
    snapshot: Gauges,
    leader_changes: Counters,
    failures: Counters,
    normal: Counters,
    config: Counters,
    persist: Durations,
}

impl ClusterFamilies {
    fn new(metrics: &Metrics, consensus: &str) -> Self {
        let gauges = |name: &str, help: &str| {
            metrics.gauges(&format!("consensus_{consensus}_{name}"), help, CHANNEL)
        };
        Self {
            size: gauges("cluster_size", "How many consenters the channel has."),
            committed: gauges(
                "committed_block_number",
                "The number of the newest block that is stored.",
            ),
            is_leader: gauges("is_leader", "Whether this node leads the channel: 1 or 0."),
        }
    }
}

impl RaftFamilies {
    fn new(metrics: &Metrics) -> Self {
        let full = |name: &str| format!("consensus_etcdraft_{name}");
        let gauges = |name: &str, help: &str| metrics.gauges(&full(name), help, CHANNEL);
        let counters = |name: &str, help: &str| metrics.counters(&full(name), help, CHANNEL);
        Self {
            active: gauges(
                "active_nodes",
                "How many consenters are heard, by this node or by its leader.",
            ),
            snapshot: gauges(
                "snapshot_block_number",
                "The number of the block in the newest snapshot.",
            ),
            leader_changes: counters(
                "leader_changes",
                "How often the leader changed since this node takes part.",
            ),
            failures: counters(
                "proposal_failures",
                "How many messages were taken and could not be ordered.",
            ),
            normal: counters(
                "normal_proposals_received",
                "How many transactions came in to be ordered.",
            ),
            config: counters(
                "config_proposals_received",
                "How many configurations came in to be ordered.",
            ),
            persist: metrics.durations(
                &full("data_persist_duration"),
                "How long it took to store what Raft must not forget, in seconds.",
                CHANNEL,
            ),
        }
    }
}

impl ChainMetrics {
    /// Registers them.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self(Arc::new(Families {
            metrics: metrics.clone(),
            fill: metrics.durations(
                "blockcutter_block_fill_duration",
                "How long a batch waited from its first message until it was cut, in seconds.",
                CHANNEL,
            ),
            commit: metrics.durations(
                "ledger_blockstorage_commit_time",
                "How long it took to store a block, in seconds.",
                CHANNEL,
            ),
            raft: ClusterFamilies::new(metrics, "etcdraft"),
            bft: ClusterFamilies::new(metrics, "BFT"),
            raft_only: RaftFamilies::new(metrics),
            bft_leader: metrics.gauges(
                "consensus_BFT_leader_id",
                "The number of the consenter that leads the channel; 0 while nobody does.",
                CHANNEL,
            ),
        }))
    }

    /// Those of one channel.
    pub(super) fn of(&self, channel: &str) -> ChannelMetrics {
        let labels = [channel];
        ChannelMetrics {
            families: self.clone(),
            channel: channel.to_owned(),
            fill: self.0.fill.with(&labels),
            commit: self.0.commit.with(&labels),
        }
    }
}

/// What is measured of a channel whatever its consensus.
pub(super) struct ChannelMetrics {
    families: ChainMetrics,
    channel: String,
    fill: DurationHistogram,
    commit: DurationHistogram,
}

impl ChannelMetrics {
    /// A batch was cut that had waited so long.
    pub(super) fn filled(&self, waited: Duration) {
        self.fill.observe(waited);
    }

    /// Blocks were stored with one sync.
    pub(super) fn stored(&self, blocks: usize, took: Duration) {
        for _ in 0..blocks {
            self.commit.observe(took);
        }
    }

    /// This node takes part in the channel's consensus. None for one without a cluster.
    pub(super) fn consenting(&self, consensus: Consensus) -> Option<ConsensusMetrics> {
        let (families, labels) = (&self.families.0, [self.channel.as_str()]);
        let cluster = match consensus {
            Consensus::Solo => return None,
            Consensus::Raft => &families.raft,
            Consensus::Bft => &families.bft,
        };
        let only = &families.raft_only;
        let raft = (consensus == Consensus::Raft).then(|| RaftMetrics {
            active: only.active.with(&labels),
            snapshot: only.snapshot.with(&labels),
            leader_changes: only.leader_changes.with(&labels),
            failures: only.failures.with(&labels),
            normal: only.normal.with(&labels),
            config: only.config.with(&labels),
            persist: only.persist.with(&labels),
        });
        let bft = consensus == Consensus::Bft;
        Some(ConsensusMetrics {
            families: self.families.clone(),
            channel: self.channel.clone(),
            size: cluster.size.with(&labels),
            committed: cluster.committed.with(&labels),
            is_leader: cluster.is_leader.with(&labels),
            leader: bft.then(|| families.bft_leader.with(&labels)),
            raft,
        })
    }

    /// The channel is gone, and everything measured of it.
    pub(super) fn forget(&self) {
        self.families.0.metrics.forget_channel(&self.channel);
    }
}

/// What is measured while this node takes part in a cluster's consensus.
pub(super) struct ConsensusMetrics {
    families: ChainMetrics,
    channel: String,
    size: Gauge,
    committed: Gauge,
    is_leader: Gauge,
    leader: Option<Gauge>,
    raft: Option<RaftMetrics>,
}

struct RaftMetrics {
    active: Gauge,
    snapshot: Gauge,
    leader_changes: Counter,
    failures: Counter,
    normal: Counter,
    config: Counter,
    persist: DurationHistogram,
}

impl ConsensusMetrics {
    pub(super) fn size(&self, consenters: usize) {
        self.size.set(consenters as i64);
    }

    pub(super) fn committed(&self, block: u64) {
        self.committed.set(block as i64);
    }

    /// Another consenter leads than before, or nobody.
    pub(super) fn leader_changed(&self, leader: Option<u64>, is_me: bool) {
        self.is_leader.set(is_me.into());
        if let Some(gauge) = &self.leader {
            gauge.set(leader.unwrap_or(0) as i64);
        }
        if let Some(raft) = &self.raft {
            raft.leader_changes.inc();
        }
    }

    pub(super) fn active(&self, consenters: usize) {
        if let Some(raft) = &self.raft {
            raft.active.set(consenters as i64);
        }
    }

    pub(super) fn snapshot(&self, block: u64) {
        if let Some(raft) = &self.raft {
            raft.snapshot.set(block as i64);
        }
    }

    /// A client's message goes to the engine.
    pub(super) fn received(&self, is_config: bool) {
        if let Some(raft) = &self.raft {
            match is_config {
                true => raft.config.inc(),
                false => raft.normal.inc(),
            }
        }
    }

    /// Messages that were taken are not ordered.
    pub(super) fn failed(&self, messages: usize) {
        if let Some(raft) = &self.raft {
            raft.failures.add(messages as u64);
        }
    }

    /// Where to note how long writes of the journal take.
    pub(super) fn persist(&self) -> Option<DurationHistogram> {
        Some(self.raft.as_ref()?.persist.clone())
    }

    /// This node takes part no longer.
    pub(super) fn forget(self) {
        let (families, labels) = (&self.families.0, [self.channel.as_str()]);
        for cluster in [&families.raft, &families.bft] {
            cluster.size.remove(&labels);
            cluster.committed.remove(&labels);
            cluster.is_leader.remove(&labels);
        }
        families.bft_leader.remove(&labels);
        let only = &families.raft_only;
        only.active.remove(&labels);
        only.snapshot.remove(&labels);
        only.leader_changes.remove(&labels);
        only.failures.remove(&labels);
        only.normal.remove(&labels);
        only.config.remove(&labels);
        only.persist.remove(&labels);
    }
}

//! The metrics that Fabric's orderers have, by name, type and labels
//! (Fabric: `docs/source/metrics_reference.rst` and the `metrics.go` beside each part).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use selvage_net::deliver::{oldest, only};
use selvage_net::services::health::HealthCheckRequest;
use selvage_net::services::health::health_client::HealthClient;

use crate::cluster::soon;
use crate::consortium::{Cluster, Consensus};
use crate::world::{At, CHANNEL, World, http, http_to, join};

/// Name, type, labels.
type Row = (&'static str, &'static str, &'static [&'static str]);

const SERVED: &[&str] = &["channel", "type", "status"];
const METHOD: &[&str] = &["service", "method"];
const ENDED: &[&str] = &["service", "method", "code"];
const DELIVER: &[&str] = &["channel", "filtered", "data_type"];
const DELIVERED: &[&str] = &["channel", "filtered", "data_type", "success"];
const LANE: &[&str] = &["host", "msg_type", "channel"];
const HOST: &[&str] = &["host", "channel"];
const CHANNEL_ONLY: &[&str] = &["channel"];

/// What every orderer has that serves a channel.
const NODE: &[Row] = &[
    ("blockcutter_block_fill_duration", "histogram", CHANNEL_ONLY),
    ("broadcast_enqueue_duration", "histogram", SERVED),
    ("broadcast_processed_count", "counter", SERVED),
    ("broadcast_validate_duration", "histogram", SERVED),
    ("deliver_blocks_sent", "counter", DELIVER),
    ("deliver_requests_completed", "counter", DELIVERED),
    ("deliver_requests_received", "counter", DELIVER),
    ("deliver_streams_closed", "counter", &[]),
    ("deliver_streams_opened", "counter", &[]),
    ("fabric_version", "gauge", &["version"]),
    ("grpc_comm_conn_closed", "counter", &[]),
    ("grpc_comm_conn_opened", "counter", &[]),
    ("grpc_server_stream_messages_received", "counter", METHOD),
    ("grpc_server_stream_messages_sent", "counter", METHOD),
    ("grpc_server_stream_request_duration", "histogram", ENDED),
    ("grpc_server_stream_requests_completed", "counter", ENDED),
    ("grpc_server_stream_requests_received", "counter", METHOD),
    ("grpc_server_unary_request_duration", "histogram", ENDED),
    ("grpc_server_unary_requests_completed", "counter", ENDED),
    ("grpc_server_unary_requests_received", "counter", METHOD),
    ("ledger_blockchain_height", "gauge", CHANNEL_ONLY),
    ("ledger_blockstorage_commit_time", "histogram", CHANNEL_ONLY),
    ("logging_entries_checked", "counter", &["level"]),
    ("logging_entries_written", "counter", &["level"]),
    ("participation_consensus_relation", "gauge", CHANNEL_ONLY),
    ("participation_status", "gauge", CHANNEL_ONLY),
];

/// What those of a cluster have.
const CLUSTER: &[Row] = &[
    ("cluster_comm_egress_queue_capacity", "gauge", LANE),
    ("cluster_comm_egress_queue_length", "gauge", LANE),
    ("cluster_comm_egress_queue_workers", "gauge", CHANNEL_ONLY),
    ("cluster_comm_egress_stream_count", "gauge", CHANNEL_ONLY),
    ("cluster_comm_egress_tls_connection_count", "gauge", &[]),
    ("cluster_comm_ingress_stream_count", "gauge", &[]),
    ("cluster_comm_msg_send_time", "histogram", HOST),
];

/// What a node has that had something to say to one that is down.
const DROPPED: &[Row] = &[("cluster_comm_msg_dropped_count", "counter", HOST)];

const RAFT: &[Row] = &[
    ("consensus_etcdraft_active_nodes", "gauge", CHANNEL_ONLY),
    ("consensus_etcdraft_cluster_size", "gauge", CHANNEL_ONLY),
    (
        "consensus_etcdraft_committed_block_number",
        "gauge",
        CHANNEL_ONLY,
    ),
    (
        "consensus_etcdraft_config_proposals_received",
        "counter",
        CHANNEL_ONLY,
    ),
    (
        "consensus_etcdraft_data_persist_duration",
        "histogram",
        CHANNEL_ONLY,
    ),
    ("consensus_etcdraft_is_leader", "gauge", CHANNEL_ONLY),
    ("consensus_etcdraft_leader_changes", "counter", CHANNEL_ONLY),
    (
        "consensus_etcdraft_normal_proposals_received",
        "counter",
        CHANNEL_ONLY,
    ),
    (
        "consensus_etcdraft_proposal_failures",
        "counter",
        CHANNEL_ONLY,
    ),
    (
        "consensus_etcdraft_snapshot_block_number",
        "gauge",
        CHANNEL_ONLY,
    ),
];

const BFT: &[Row] = &[
    ("consensus_BFT_cluster_size", "gauge", CHANNEL_ONLY),
    (
        "consensus_BFT_committed_block_number",
        "gauge",
        CHANNEL_ONLY,
    ),
    ("consensus_BFT_is_leader", "gauge", CHANNEL_ONLY),
    ("consensus_BFT_leader_id", "gauge", CHANNEL_ONLY),
];

/// A family as it is shown.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    labels: BTreeSet<String>,
}

/// What `/metrics` shows.
struct Shown {
    text: String,
    families: BTreeMap<String, Family>,
}

impl Shown {
    async fn of(at: At<'_>) -> Self {
        let (code, text, _) = http_to(at, "GET /metrics HTTP/1.1\r\n", b"").await;
        assert_eq!(code, 200);
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut current = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                name.clone_into(&mut current);
                families.entry(current.clone()).or_default().kind = kind.to_owned();
            } else if !line.starts_with('#') {
                let sample = line.rsplit_once(' ').unwrap().0;
                let labels = sample.split_once('{').map_or("", |(_, labels)| labels);
                let names = labels.split("=\"").map(|part| {
                    let name = part.rsplit([',', '{']).next().unwrap_or(part);
                    name.to_owned()
                });
                let mut names: Vec<String> = names.collect();
                // What stands behind the last value.
                names.pop();
                names.retain(|name| name != "le");
                families.get_mut(&current).unwrap().labels.extend(names);
            }
        }
        Self { text, families }
    }

    /// What of these is missing or otherwise.
    fn lacks(&self, rows: &[&[Row]]) -> Vec<String> {
        let mut lacking = Vec::new();
        for (name, kind, labels) in rows.iter().copied().flatten() {
            let labels: BTreeSet<_> = labels.iter().map(|label| (*label).to_owned()).collect();
            match self.families.get(*name) {
                Some(family) if family.kind == *kind && family.labels == labels => {}
                other => lacking.push(format!("{name}: {other:?}")),
            }
        }
        lacking
    }

    /// The channel's value of a gauge or counter.
    fn value(&self, name: &str) -> u64 {
        let series = format!("{name}{{channel=\"{CHANNEL}\"}} ");
        let mut values = self.text.lines().filter_map(|l| l.strip_prefix(&series));
        let value = values.next();
        value
            .unwrap_or_else(|| panic!("{name} is not in\n{}", self.text))
            .parse()
            .unwrap()
    }
}

/// Asks until nothing is missing: some series begin with what happens now and then only.
async fn until_complete(at: At<'_>, rows: &[&[Row]]) -> Shown {
    let mut lacking = Vec::new();
    for _ in 0..600 {
        let shown = Shown::of(at).await;
        lacking = shown.lacks(rows);
        if lacking.is_empty() {
            return shown;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{lacking:#?}");
}

async fn until(at: At<'_>, is_so: impl Fn(&Shown) -> bool) {
    let waiting = async {
        while !is_so(&Shown::of(at).await) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(waiting).await;
}

/// One call of each kind that no cluster makes by itself.
async fn be_asked(client: &crate::world::Client) {
    client.blocks(&only(oldest())).await;
    let mut health = HealthClient::new(client.channel.clone());
    let request = HealthCheckRequest::default();
    health.check(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderer_shows_what_fabrics_shows_until_the_channel_is_removed() {
    let world = World::new();
    let mut settings = world.settings();
    settings.metrics.provider = "prometheus".to_owned();
    let orderer = world.start(&settings).await;
    assert_eq!(join(&orderer, &world.genesis(CHANNEL)).await.0, 201);
    let client = world.client(&orderer);
    for n in 0..3u8 {
        client
            .broadcast_one(client.transaction(CHANNEL, &[n]))
            .await;
    }
    be_asked(&client).await;
    drop(client);
    let at = ("127.0.0.1", orderer.operations.port());
    let shown = until_complete(at, &[NODE]).await;
    for (name, value) in [
        ("participation_consensus_relation", 0),
        ("participation_status", 1),
        ("ledger_blockstorage_commit_time_count", 3),
        ("blockcutter_block_fill_duration_count", 3),
    ] {
        assert_eq!(shown.value(name), value, "{name}");
    }
    let broadcast = "service=\"orderer_AtomicBroadcast\",method=\"Broadcast\"";
    let counted = [
        format!("grpc_server_stream_messages_received{{{broadcast}}} 3"),
        format!("grpc_server_stream_messages_sent{{{broadcast}}} 3"),
        format!("grpc_server_stream_requests_completed{{{broadcast},code=\"OK\"}} 3"),
    ];
    until(at, |shown| {
        counted
            .iter()
            .all(|line| shown.text.lines().any(|l| l == line))
    })
    .await;
    assert!(!shown.text.contains("\nconsensus_"), "{}", shown.text);
    let delete = format!("DELETE /participation/v1/channels/{CHANNEL} HTTP/1.1\r\n");
    let removed = http(orderer.admin.port(), &delete, b"").await;
    assert_eq!(removed.0, 204, "{}", removed.1);
    let of_it = format!("channel=\"{CHANNEL}\"");
    until(at, |shown| !shown.text.contains(&of_it)).await;
    orderer.stop().await;
}

async fn cluster(consensus: Consensus, count: usize) -> Cluster {
    let mut cluster = Cluster::new(consensus, count, count);
    for node in &mut cluster.nodes {
        node.settings.metrics.provider = "prometheus".to_owned();
    }
    cluster.founded(count).await;
    for index in 0..count {
        for n in 0..3u8 {
            cluster.order(index, &[index as u8, n]).await;
        }
        be_asked(&cluster.admin(index)).await;
    }
    let all: Vec<_> = (0..count).collect();
    cluster.level(&all).await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raft_cluster_shows_what_fabrics_shows() {
    let mut cluster = cluster(Consensus::Raft, 3).await;
    let newest = cluster.height(0).await - 1;
    let mut leaders = 0;
    for index in 0..3 {
        let shown = Shown::of(cluster.operations(index)).await;
        for (name, value) in [
            ("consensus_etcdraft_cluster_size", 3),
            ("consensus_etcdraft_committed_block_number", newest),
            ("consensus_etcdraft_normal_proposals_received", 3),
            ("consensus_etcdraft_config_proposals_received", 0),
            ("consensus_etcdraft_proposal_failures", 0),
            ("participation_consensus_relation", 1),
            ("participation_status", 1),
        ] {
            assert_eq!(shown.value(name), value, "{name} of node {index}");
        }
        assert!(shown.value("consensus_etcdraft_leader_changes") > 0);
        leaders += shown.value("consensus_etcdraft_is_leader");
    }
    assert_eq!(leaders, 1);
    // What is meant for a node that is down is dropped.
    cluster.stop(2).await;
    for n in 0..3u8 {
        cluster.order(0, &[7, n]).await;
    }
    let dropping = async {
        while Shown::of(cluster.operations(0))
            .await
            .lacks(&[DROPPED])
            .len()
            + Shown::of(cluster.operations(1))
                .await
                .lacks(&[DROPPED])
                .len()
            == 2
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // A follower says nothing to another.
    soon(dropping).await;
    for index in 0..2 {
        let rows = [NODE, CLUSTER, RAFT];
        let shown = until_complete(cluster.operations(index), &rows).await;
        assert!(!shown.text.contains("consensus_BFT"), "{}", shown.text);
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bft_cluster_shows_what_fabrics_shows() {
    let mut cluster = cluster(Consensus::Bft, 4).await;
    let newest = cluster.height(0).await - 1;
    cluster.stop(3).await;
    for index in 0..3 {
        let rows = [NODE, CLUSTER, DROPPED, BFT];
        let shown = until_complete(cluster.operations(index), &rows).await;
        for (name, value) in [
            ("consensus_BFT_cluster_size", 4),
            ("consensus_BFT_committed_block_number", newest),
            ("participation_consensus_relation", 1),
        ] {
            assert_eq!(shown.value(name), value, "{name} of node {index}");
        }
        let leader = shown.value("consensus_BFT_leader_id");
        let leads = shown.value("consensus_BFT_is_leader") == 1;
        assert!((1..=4).contains(&leader), "{leader}");
        assert_eq!(leads, leader == index as u64 + 1, "node {index}");
        assert!(!shown.text.contains("consensus_etcdraft"), "{}", shown.text);
    }
    cluster.stop_all().await;
}

//! Clusters of orderers that order by Raft, over real sockets.

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use prost::Message;
use selvage_channel::ChannelConfig;
use selvage_channel::block::{block_verify, is_config_block};
use selvage_crypto::issue::NodeRole;
use selvage_net::deliver::{newest, only};
use selvage_orderer::config::Settings;
use selvage_orderer::node::Orderer;
use selvage_proto::common::{Block, Status};
use selvage_proto::etcdraft::{ConfigMetadata, Consenter};

use crate::reconfigure::{chain, update_value};
use crate::world::{CHANNEL, Client, World, http, join};

/// An orderer that other orderers reach.
struct Node {
    settings: Settings,
    consenter: Consenter,
    up: Option<Orderer>,
}

/// Several of them, with what the world around them needs.
struct Cluster {
    world: World,
    nodes: Vec<Node>,
    genesis: Block,
    /// Transactions that were accepted.
    accepted: usize,
    /// Configuration updates that were.
    changes: usize,
}

/// Ports that nobody has at the moment, below those that the system gives to connections: a node that
/// is down gets its own back.
fn free_ports(count: usize) -> Vec<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + (std::process::id() % 40) as u16 * 250;
    let mut ports = Vec::new();
    while ports.len() < count {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 250;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
    }
    ports
}

impl Cluster {
    /// `count` nodes, of which the first `founders` are the consenters of the genesis block.
    fn new(count: usize, founders: usize) -> Self {
        let world = World::new();
        let nodes: Vec<Node> = free_ports(count)
            .into_iter()
            .enumerate()
            .map(|(index, port)| {
                let (certificate, key) = world.orderer_org.tls_pem();
                let name = format!("tls{index}");
                let files = [("server.crt", certificate.clone()), ("server.key", key)];
                let files = files.map(|(name, text)| (name.to_owned(), text.into()));
                world.write(&name, &files.into());
                let mut settings = world.settings();
                settings.general.listen_port = port;
                settings.general.tls.certificate = world.path(&format!("{name}/server.crt"));
                settings.general.tls.private_key = world.path(&format!("{name}/server.key"));
                settings.general.tls.root_cas = vec![world.path("tls/ca.crt")];
                settings.file_ledger.location = world.path(&format!("ledger{index}"));
                settings.consensus.wal_dir = world.path(&format!("wal{index}"));
                settings.consensus.eviction_suspicion = "2s".to_owned();
                Node {
                    settings,
                    consenter: Consenter {
                        host: "127.0.0.1".to_owned(),
                        port: port.into(),
                        client_tls_cert: certificate.clone().into(),
                        server_tls_cert: certificate.into(),
                    },
                    up: None,
                }
            })
            .collect();
        let genesis = genesis(&world, &nodes[..founders]);
        Self {
            world,
            nodes,
            genesis,
            accepted: 0,
            changes: 0,
        }
    }

    async fn start(&mut self, index: usize) {
        let orderer = self.world.start(&self.nodes[index].settings).await;
        self.nodes[index].up = Some(orderer);
    }

    async fn stop(&mut self, index: usize) {
        if let Some(orderer) = self.nodes[index].up.take() {
            orderer.stop().await;
        }
    }

    fn orderer(&self, index: usize) -> &Orderer {
        self.nodes[index].up.as_ref().unwrap()
    }

    fn client(&self, index: usize) -> Client {
        self.world.client(self.orderer(index))
    }

    /// Starts the first `count` nodes and joins them to the channel.
    async fn founded(&mut self, count: usize) {
        for index in 0..count {
            self.start(index).await;
            let answer = join(self.orderer(index), &self.genesis).await;
            assert_eq!(answer.0, 201, "{}", answer.1);
            assert!(
                answer.1.contains("\"consensusRelation\":\"consenter\""),
                "{}",
                answer.1
            );
        }
    }

    /// Orders one transaction by a node, which waits for a leader if need be.
    async fn order(&mut self, index: usize, data: &[u8]) {
        let client = self.client(index);
        let (status, info) = client
            .broadcast_one(client.transaction(CHANNEL, data))
            .await;
        assert_eq!(status, Status::Success, "{info}");
        self.accepted += 1;
    }

    async fn height(&self, index: usize) -> u64 {
        let (blocks, _) = self.client(index).blocks(&only(newest())).await;
        blocks[0] + 1
    }

    /// Waits until these nodes have the same blocks, with everything that was accepted in them.
    async fn level(&self, nodes: &[usize]) -> Vec<Block> {
        let begun = Instant::now();
        loop {
            let mut chains = Vec::new();
            for node in nodes {
                chains.push(chain(&self.client(*node)).await);
            }
            let headers = |blocks: &[Block]| -> Vec<_> {
                blocks.iter().map(|block| block.header.clone()).collect()
            };
            let first = headers(&chains[0]);
            let inside: usize = chains[0]
                .iter()
                .filter(|block| !is_config_block(block))
                .map(|block| block.envelopes().len())
                .sum();
            let changes = chains[0]
                .iter()
                .filter(|block| is_config_block(block))
                .count()
                - 1;
            let same = chains.iter().all(|chain| headers(chain) == first);
            if same && inside >= self.accepted && changes >= self.changes {
                return chains.remove(0);
            }
            let heights: Vec<_> = chains.iter().map(Vec::len).collect();
            let waited = begun.elapsed();
            assert!(
                waited < Duration::from_secs(60),
                "{heights:?}, {inside} transactions"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn standing(&self, index: usize) -> String {
        let request = "GET /participation/v1/channels/trade HTTP/1.1\r\n";
        http(self.orderer(index).admin.port(), request, b"").await.1
    }

    /// Waits until the participation API says this of the channel.
    async fn becomes(&self, index: usize, text: &str) {
        let begun = Instant::now();
        loop {
            let standing = self.standing(index).await;
            if standing.contains(text) {
                return;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{standing}, not {text}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Changes the consenters by a configuration update.
    async fn consenters(&mut self, by: usize, nodes: &[usize]) {
        let blocks = self.level(&[by]).await;
        let config = ChannelConfig::from_block(newest_config(&blocks)).unwrap();
        let admin = Client {
            identity: self.world.orderer_org.identity(NodeRole::Admin),
            ..self.client(by)
        };
        let consenters = nodes.iter().map(|n| self.nodes[*n].consenter.clone());
        let update = update_value(&config, "ConsensusType", &admin, |value| {
            use selvage_proto::orderer::ConsensusType;
            let mut consensus = ConsensusType::decode(value).unwrap();
            let mut metadata = ConfigMetadata::decode(consensus.metadata).unwrap();
            metadata.consenters = consenters.collect();
            consensus.metadata = metadata.encode_to_vec().into();
            consensus.encode_to_vec()
        });
        let (status, info) = admin.broadcast_one(update).await;
        assert_eq!(status, Status::Success, "{info}");
        self.changes += 1;
    }
}

fn newest_config(blocks: &[Block]) -> &Block {
    blocks.iter().rfind(|block| is_config_block(block)).unwrap()
}

/// A genesis block whose consenters are these nodes.
fn genesis(world: &World, nodes: &[Node]) -> Block {
    let consenters: String = nodes
        .iter()
        .enumerate()
        .map(|(index, node)| {
            format!(
                "\n          - {{Host: 127.0.0.1, Port: {}, ClientTLSCert: tls{index}/server.crt, \
                 ServerTLSCert: tls{index}/server.crt}}",
                node.consenter.port
            )
        })
        .collect();
    let text = format!(
        "OrdererType: etcdraft\n      EtcdRaft:\n        Options: {{TickInterval: 50ms, \
         ElectionTick: 10, HeartbeatTick: 1, MaxInflightBlocks: 5, SnapshotIntervalSize: 20 \
         KB}}\n        Consenters:{consenters}"
    );
    let files = nodes.iter().enumerate().map(|(index, node)| {
        let name = format!("tls{index}/server.crt");
        (name, node.consenter.server_tls_cert.clone())
    });
    world.genesis_with(CHANNEL, files, |profile| {
        profile.replace("OrdererType: CONSENSUS", &text)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn three_orderers_order_the_same_whichever_is_asked() {
    let mut cluster = Cluster::new(3, 3);
    cluster.founded(3).await;
    for round in 0..5u8 {
        for node in 0..3 {
            cluster.order(node, &[round, node as u8]).await;
        }
    }
    let blocks = cluster.level(&[0, 1, 2]).await;
    let transactions: usize = blocks[1..].iter().map(|b| b.envelopes().len()).sum();
    assert_eq!(transactions, 15);
    // Peers judge the blocks of a Raft channel as those of any other.
    let config = ChannelConfig::from_block(&blocks[0]).unwrap();
    for pair in blocks.windows(2) {
        let hash = selvage_channel::block::header_hash(pair[0].header.as_ref().unwrap());
        block_verify(&config, &pair[1], pair[0].number(), &hash).unwrap();
    }
    for node in 0..3 {
        cluster.stop(node).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_goes_on_without_any_one_node_and_takes_it_back() {
    let mut cluster = Cluster::new(3, 3);
    cluster.founded(3).await;
    cluster.order(0, b"first").await;
    for victim in 0..3 {
        cluster.stop(victim).await;
        // Whoever led, the others find a leader while the client waits.
        let other = (victim + 1) % 3;
        for n in 0..30u8 {
            cluster
                .order(other, &[victim as u8, n, 7, 7, 7, 7, 7, 7])
                .await;
        }
        cluster.start(victim).await;
        cluster.level(&[0, 1, 2]).await;
        cluster.order(victim, b"back").await;
    }
    cluster.level(&[0, 1, 2]).await;
    for node in 0..3 {
        cluster.stop(node).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn consenters_come_and_go_while_the_channel_runs() {
    let mut cluster = Cluster::new(4, 3);
    cluster.founded(3).await;
    for n in 0..10u8 {
        cluster.order(0, &[n]).await;
    }
    // A fourth orderer is added, and joins with the block that adds it.
    cluster.consenters(0, &[0, 1, 2, 3]).await;
    let blocks = cluster.level(&[0, 1, 2]).await;
    cluster.start(3).await;
    let answer = join(cluster.orderer(3), newest_config(&blocks)).await;
    assert_eq!(answer.0, 201, "{}", answer.1);
    cluster
        .becomes(3, "\"consensusRelation\":\"consenter\"")
        .await;
    cluster.order(3, b"through the new one").await;
    cluster.level(&[0, 1, 2, 3]).await;

    // One that is taken out follows the channel, and takes no transactions.
    cluster.consenters(1, &[1, 2, 3]).await;
    cluster
        .becomes(0, "\"consensusRelation\":\"follower\"")
        .await;
    cluster.order(3, b"without the first").await;
    cluster.level(&[0, 1, 2, 3]).await;
    let client = cluster.client(0);
    let (status, info) = client
        .broadcast_one(client.transaction(CHANNEL, b"no"))
        .await;
    assert_eq!(status, Status::ServiceUnavailable);
    assert_eq!(info, "orderer is a follower of channel trade");

    // Two at once are refused in Fabric's words.
    let blocks = cluster.level(&[1]).await;
    let config = ChannelConfig::from_block(newest_config(&blocks)).unwrap();
    let admin = Client {
        identity: cluster.world.orderer_org.identity(NodeRole::Admin),
        ..cluster.client(1)
    };
    let update = update_value(&config, "ConsensusType", &admin, |value| {
        use selvage_proto::orderer::ConsensusType;
        let mut consensus = ConsensusType::decode(value).unwrap();
        let mut metadata = ConfigMetadata::decode(consensus.metadata).unwrap();
        metadata.consenters.truncate(1);
        consensus.metadata = metadata.encode_to_vec().into();
        consensus.encode_to_vec()
    });
    let (status, info) = admin.broadcast_one(update).await;
    assert_eq!(status, Status::BadRequest);
    assert!(
        info.contains("update of more than one consenter at a time"),
        "{info}"
    );

    // Added again, it takes part under a new number.
    cluster.consenters(1, &[1, 2, 3, 0]).await;
    cluster
        .becomes(0, "\"consensusRelation\":\"consenter\"")
        .await;
    cluster.order(0, b"here again").await;
    cluster.level(&[0, 1, 2, 3]).await;
    for node in 0..4 {
        cluster.stop(node).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderer_without_its_log_says_so_and_serves_blocks() {
    let mut cluster = Cluster::new(3, 3);
    cluster.founded(3).await;
    cluster.order(0, b"first").await;
    cluster.level(&[0, 1, 2]).await;
    cluster.stop(2).await;
    std::fs::remove_dir_all(cluster.world.path("wal2")).unwrap();
    cluster.start(2).await;
    cluster.becomes(2, "\"status\":\"failed\"").await;
    assert_eq!(cluster.height(2).await, 2);
    let client = cluster.client(2);
    let (status, info) = client
        .broadcast_one(client.transaction(CHANNEL, b"no"))
        .await;
    assert_eq!(status, Status::ServiceUnavailable);
    assert!(
        info.contains("the Raft log of this orderer is gone"),
        "{info}"
    );
    cluster.order(0, b"the others go on").await;
    for node in 0..3 {
        cluster.stop(node).await;
    }
}

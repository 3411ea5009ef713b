//! Several orderers that order together, over real sockets.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use prost::Message;
use selvage_channel::ChannelConfig;
use selvage_channel::block::{BlockVerifier, is_config_block};
use selvage_crypto::issue::NodeRole;
use selvage_env::Env;
use selvage_net::deliver::{newest, only};
use selvage_net::logging::Levels;
use selvage_orderer::config::Settings;
use selvage_orderer::in_full;
use selvage_orderer::node::Orderer;
use selvage_proto::common::{Block, ConfigGroup, Consenter, Status};
use selvage_proto::etcdraft::{self, ConfigMetadata};
use selvage_proto::orderer::ConsensusType;

use crate::process::Process;
use crate::reconfigure::{chain, update_orderer};
use crate::world::{At, CHANNEL, Client, World, http_to, join_at};

/// What the participation API says of a node that takes part.
pub(crate) const CONSENTS: &str = "\"consensusRelation\":\"consenter\",\"status\":\"active\"";

/// The consensus of a genesis block.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Consensus {
    Raft,
    Bft,
}

/// An orderer that other orderers reach.
pub(crate) struct Node {
    pub(crate) settings: Settings,
    /// As BFT channels name it.
    pub(crate) consenter: Consenter,
    pub(crate) up: Option<Up>,
}

/// An orderer that runs.
pub(crate) enum Up {
    Ours(Orderer),
    /// Fabric's, or one of ours that runs elsewhere.
    Process(Process),
}

impl Up {
    fn address(&self) -> At<'_> {
        match self {
            Self::Ours(orderer) => ("127.0.0.1", orderer.address.port()),
            Self::Process(process) => (&process.host, process.port),
        }
    }

    fn admin(&self) -> At<'_> {
        match self {
            Self::Ours(orderer) => ("127.0.0.1", orderer.admin.port()),
            Self::Process(process) => (&process.host, process.admin),
        }
    }
}

impl Node {
    /// As Raft channels name it.
    pub(crate) fn raft_consenter(&self) -> etcdraft::Consenter {
        etcdraft::Consenter {
            host: self.consenter.host.clone(),
            port: self.consenter.port,
            client_tls_cert: self.consenter.client_tls_cert.clone(),
            server_tls_cert: self.consenter.server_tls_cert.clone(),
        }
    }
}

/// Several of them, with what the world around them needs.
pub(crate) struct Cluster {
    pub(crate) world: World,
    pub(crate) nodes: Vec<Node>,
    pub(crate) genesis: Block,
    /// Transactions that were accepted.
    pub(crate) accepted: usize,
    /// Configuration updates that were.
    pub(crate) changes: usize,
}

/// Ports that nobody has at the moment, below those that the system gives to connections: a node that
/// is down gets its own back.
pub(crate) fn free_ports(count: usize) -> Vec<u16> {
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
    pub(crate) fn new(consensus: Consensus, count: usize, founders: usize) -> Self {
        let places = free_ports(count).into_iter();
        let places: Vec<_> = places.map(|port| ("127.0.0.1".to_owned(), port)).collect();
        Self::at(consensus, &places, founders)
    }

    /// Nodes at these hosts and ports, of which the first `founders` are the consenters.
    pub(crate) fn at(consensus: Consensus, places: &[(String, u16)], founders: usize) -> Self {
        let world = World::new();
        let places = places.iter().enumerate();
        let nodes: Vec<Node> = places
            .map(|(index, place)| node(&world, index, place))
            .collect();
        let genesis = genesis(&world, consensus, &nodes, founders);
        Self {
            world,
            nodes,
            genesis,
            accepted: 0,
            changes: 0,
        }
    }

    pub(crate) async fn start(&mut self, index: usize) {
        self.start_in(index, Env::real()).await;
    }

    pub(crate) async fn start_in(&mut self, index: usize, env: Env) {
        let levels = Levels::new("info").unwrap();
        let settings = &self.nodes[index].settings;
        let orderer = Orderer::start(settings, env, levels).await.unwrap();
        self.nodes[index].up = Some(Up::Ours(orderer));
    }

    /// Waits until a node of ours ends by itself, and says why it did.
    pub(crate) async fn ends(&mut self, index: usize) -> String {
        let Some(Up::Ours(orderer)) = self.nodes[index].up.take() else {
            panic!("node {index} does not run here");
        };
        let ended = orderer.serve_until(tokio::time::sleep(Duration::from_secs(60)));
        in_full(&ended.await.unwrap_err())
    }

    /// Where a node's operations endpoint listens.
    pub(crate) fn operations(&self, index: usize) -> At<'_> {
        match self.up(index) {
            Up::Ours(orderer) => ("127.0.0.1", orderer.operations.port()),
            Up::Process(_) => panic!("node {index} does not run here"),
        }
    }

    /// Starts Fabric's program in the place of ours, with the same keys, port and folders.
    pub(crate) async fn start_fabrics(&mut self, index: usize, program: &Path) {
        let mut command = Command::new(program);
        command.env_clear();
        self.start_process(index, command).await;
    }

    /// Starts a node as a process.
    pub(crate) async fn start_process(&mut self, index: usize, command: Command) {
        let process = Process::start(command, &self.nodes[index].settings).await;
        self.nodes[index].up = Some(Up::Process(process));
    }

    pub(crate) async fn stop(&mut self, index: usize) {
        match self.nodes[index].up.take() {
            Some(Up::Ours(orderer)) => orderer.stop().await,
            Some(Up::Process(process)) => process.stop(),
            None => {}
        }
    }

    fn up(&self, index: usize) -> &Up {
        self.nodes[index].up.as_ref().unwrap()
    }

    pub(crate) fn is_ours(&self, index: usize) -> bool {
        matches!(self.nodes[index].up, Some(Up::Ours(_)))
    }

    pub(crate) fn client(&self, index: usize) -> Client {
        self.world.client_to(self.up(index).address())
    }

    /// Joins a node to the channel with a block of it.
    pub(crate) async fn join(&self, index: usize, block: &Block) -> String {
        let (code, body, _) = join_at(self.up(index).admin(), block).await;
        assert_eq!(code, 201, "{body}");
        body
    }

    /// Starts the first `count` nodes and joins them to the channel.
    pub(crate) async fn founded(&mut self, count: usize) {
        for index in 0..count {
            self.start(index).await;
            let answer = self.join(index, &self.genesis).await;
            let expected = "\"consensusRelation\":\"consenter\"";
            assert!(answer.contains(expected), "{answer}");
        }
    }

    /// Orders one transaction by a node, which waits for a leader if need be.
    pub(crate) async fn order(&mut self, index: usize, data: &[u8]) {
        let client = self.client(index);
        let (status, info) = client
            .broadcast_one(client.transaction(CHANNEL, data))
            .await;
        let text = String::from_utf8_lossy(data);
        assert_eq!(status, Status::Success, "{text:?} at node {index}: {info}");
        self.accepted += 1;
    }

    pub(crate) async fn height(&self, index: usize) -> u64 {
        let (blocks, _) = self.admin(index).blocks(&only(newest())).await;
        blocks[0] + 1
    }

    /// Waits until these nodes have the same blocks, with everything that was accepted in them.
    pub(crate) async fn level(&self, nodes: &[usize]) -> Vec<Block> {
        let begun = Instant::now();
        loop {
            let mut chains = Vec::new();
            for node in nodes {
                chains.push(chain(&self.admin(*node)).await);
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

    /// Where a node's participation API listens.
    pub(crate) fn admin_api(&self, index: usize) -> At<'_> {
        self.up(index).admin()
    }

    async fn standing(&self, index: usize) -> String {
        let request = "GET /participation/v1/channels/trade HTTP/1.1\r\n";
        http_to(self.up(index).admin(), request, b"").await.1
    }

    /// Waits until the participation API says this of the channel.
    pub(crate) async fn becomes(&self, index: usize, text: &str) {
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

    /// An administrator of the orderers, as a client of a node.
    pub(crate) fn admin(&self, index: usize) -> Client {
        Client {
            identity: self.world.orderer_org.identity(NodeRole::Admin),
            ..self.client(index)
        }
    }

    /// Changes the configuration by way of a node.
    pub(crate) async fn reconfigure(&mut self, by: usize, change: impl FnOnce(&mut ConfigGroup)) {
        let (status, info) = self.try_reconfigure(by, change).await;
        assert_eq!(status, Status::Success, "{info}");
        self.changes += 1;
    }

    pub(crate) async fn try_reconfigure(
        &self,
        by: usize,
        change: impl FnOnce(&mut ConfigGroup),
    ) -> (Status, String) {
        let blocks = self.level(&[by]).await;
        let config = ChannelConfig::from_block(newest_config(&blocks)).unwrap();
        let admin = self.admin(by);
        admin
            .broadcast_one(update_orderer(&config, &admin, change))
            .await
    }

    /// Names these nodes as the consenters of a Raft channel. One that has just come back may not be
    /// known to be alive yet.
    pub(crate) async fn raft_consenters(&mut self, by: usize, nodes: &[usize]) {
        let consenters = nodes.iter().map(|n| self.nodes[*n].raft_consenter());
        let consenters: Vec<_> = consenters.collect();
        let change = |group: &mut ConfigGroup| {
            raft_metadata(group, |raft| raft.consenters.clone_from(&consenters));
        };
        self.reconfigure_with_quorum(by, change).await;
    }

    /// Changes the consenters of a Raft channel, as soon as those who are needed are known to be
    /// alive.
    pub(crate) async fn reconfigure_with_quorum(
        &mut self,
        by: usize,
        change: impl Fn(&mut ConfigGroup),
    ) {
        for _ in 0..200 {
            let (status, info) = self.try_reconfigure(by, &change).await;
            if status == Status::Success {
                self.changes += 1;
                return;
            }
            assert!(info.contains("will result in quorum loss"), "{info}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the change is refused for want of a quorum");
    }

    pub(crate) async fn stop_all(&mut self) {
        for index in 0..self.nodes.len() {
            self.stop(index).await;
        }
    }
}

fn node(world: &World, index: usize, (host, port): &(String, u16)) -> Node {
    let (certificate, key) = world.orderer_org.tls_pem_at(host);
    let files = [("server.crt", certificate.clone()), ("server.key", key)];
    let files = files.map(|(name, text)| (name.to_owned(), text.into()));
    world.write(&format!("tls{index}"), &files.into());
    let identity = world.write_msp(
        &format!("msp{index}"),
        &world.orderer_org,
        NodeRole::Orderer,
    );
    let path = |name: &str| world.path(&format!("{name}{index}"));
    let mut settings = world.settings();
    settings.general.listen_address.clone_from(host);
    settings.general.listen_port = *port;
    settings.general.local_msp_dir = path("msp");
    settings.general.tls.certificate = format!("{}/server.crt", path("tls"));
    settings.general.tls.private_key = format!("{}/server.key", path("tls"));
    settings.general.tls.root_cas = vec![world.path("tls/ca.crt")];
    settings.file_ledger.location = path("ledger");
    settings.consensus.wal_dir = path("wal");
    settings.consensus.eviction_suspicion = "2s".to_owned();
    Node {
        settings,
        consenter: Consenter {
            id: index as u32 + 1,
            host: host.clone(),
            port: (*port).into(),
            msp_id: "OrdererMSP".to_owned(),
            identity: identity.into(),
            client_tls_cert: certificate.clone().into(),
            server_tls_cert: certificate.into(),
        },
        up: None,
    }
}

/// Changes the consensus metadata of a Raft channel.
pub(crate) fn raft_metadata(orderer: &mut ConfigGroup, change: impl FnOnce(&mut ConfigMetadata)) {
    edit(orderer, "ConsensusType", |consensus: &mut ConsensusType| {
        let mut metadata = ConfigMetadata::decode(consensus.metadata.clone()).unwrap();
        change(&mut metadata);
        consensus.metadata = metadata.encode_to_vec().into();
    });
}

/// Changes a value of a group, or makes it.
pub(crate) fn edit<M: Message + Default>(
    group: &mut ConfigGroup,
    name: &str,
    change: impl FnOnce(&mut M),
) {
    let value = group.values.entry(name.to_owned()).or_default();
    let mut message = M::decode(value.value.clone()).unwrap();
    change(&mut message);
    value.value = message.encode_to_vec().into();
    value.mod_policy = "Admins".to_owned();
}

/// Every block is one that anybody would take.
pub(crate) fn verify(blocks: &[Block]) {
    let config = ChannelConfig::from_block(&blocks[0]).unwrap();
    let mut verifier = BlockVerifier::after(config.into(), blocks[0].header.as_ref().unwrap());
    for block in &blocks[1..] {
        verifier.verify(block).unwrap();
        if let Ok(config) = ChannelConfig::from_block(block) {
            verifier.set_config(config.into());
        }
    }
}

pub(crate) fn newest_config(blocks: &[Block]) -> &Block {
    blocks.iter().rfind(|block| is_config_block(block)).unwrap()
}

/// A genesis block whose consenters are the first of these nodes.
fn genesis(world: &World, consensus: Consensus, all: &[Node], founders: usize) -> Block {
    let nodes = &all[..founders];
    let endpoint = |node: &Node| format!("\"{}:{}\"", node.consenter.host, node.consenter.port);
    let endpoints: Vec<_> = all.iter().map(endpoint).collect();
    let text = match consensus {
        Consensus::Raft => raft_profile(nodes),
        Consensus::Bft => bft_profile(nodes),
    };
    let files = nodes.iter().enumerate().flat_map(|(index, node)| {
        let consenter = &node.consenter;
        [
            (
                format!("tls{index}/server.crt"),
                consenter.server_tls_cert.clone(),
            ),
            (format!("msp{index}/cert.pem"), consenter.identity.clone()),
        ]
    });
    world.genesis_with(CHANNEL, files, |profile| {
        profile
            .replacen("V2_0", "V3_0", 1)
            .replace("\"127.0.0.1:7050\"", &endpoints.join(", "))
            .replace("OrdererType: CONSENSUS", &text)
    })
}

fn raft_profile(nodes: &[Node]) -> String {
    let consenter = |(index, node): (usize, &Node)| {
        format!(
            "\n          - {{Host: {}, Port: {}, ClientTLSCert: tls{index}/server.crt, \
             ServerTLSCert: tls{index}/server.crt}}",
            node.consenter.host, node.consenter.port
        )
    };
    let consenters: String = nodes.iter().enumerate().map(consenter).collect();
    format!(
        "OrdererType: etcdraft\n      EtcdRaft:\n        Options: {{TickInterval: 50ms, \
         ElectionTick: 10, HeartbeatTick: 1, MaxInflightBlocks: 5, SnapshotIntervalSize: 20 \
         KB}}\n        Consenters:{consenters}"
    )
}

fn bft_profile(nodes: &[Node]) -> String {
    let consenter = |(index, node): (usize, &Node)| {
        format!(
            "\n        - {{ID: {}, Host: {}, Port: {}, MSPID: OrdererMSP, Identity: \
             msp{index}/cert.pem, ClientTLSCert: tls{index}/server.crt, ServerTLSCert: \
             tls{index}/server.crt}}",
            node.consenter.id, node.consenter.host, node.consenter.port
        )
    };
    let consenters: String = nodes.iter().enumerate().map(consenter).collect();
    format!("OrdererType: BFT\n      ConsenterMapping:{consenters}")
}

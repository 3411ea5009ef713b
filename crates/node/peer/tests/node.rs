//! A whole peer over real sockets and TLS: it pulls blocks from an orderer, serves them, survives
//! restarts, and says clearly what keeps it from starting.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{CHANNEL, Network, Org, Tx, define, writes};
use futures::StreamExt;
use prost::Message;
use selvage_env::Env;
use selvage_identity::SigningIdentity;
use selvage_net::config::Variables;
use selvage_net::deliver::{
    Deliverer, Respond, SeekRequest, Signer, Source, SourceError, Sources, between, seek_envelope,
    specified,
};
use selvage_net::logging::Levels;
use selvage_net::metrics::{DeliverMetrics, Metrics};
use selvage_net::server::{Server, ServerOptions};
use selvage_net::services::atomic_broadcast_server::{AtomicBroadcast, AtomicBroadcastServer};
use selvage_net::services::deliver_client::DeliverClient;
use selvage_net::services::endorser_client::EndorserClient;
use selvage_net::tls::{ClientAuth, ClientTls, ServerTls, TlsIdentity};
use selvage_net::tonic::service::Routes;
use selvage_net::tonic::{self, Request, Response, Streaming};
use selvage_net::{CancellationToken, Endpoint, connect};
use selvage_peer::config::Settings;
use selvage_peer::node::{Node, NodeError, NodeOptions};
use selvage_proto::common::{Block, Envelope, Status};
use selvage_proto::orderer::deliver_response::Type as FromOrderer;
use selvage_proto::orderer::{BroadcastResponse, DeliverResponse, SeekInfo};
use selvage_proto::peer::deliver_response::Type;
use selvage_proto::peer::{ChannelQueryResponse, TxValidationCode as Code};
use tokio::sync::watch;

/// Blocks an orderer has, which grow.
#[derive(Clone)]
struct Chain(Arc<watch::Sender<Vec<Arc<Block>>>>, watch::Sender<u64>);

impl Chain {
    fn new(genesis: Block) -> Self {
        Self(
            Arc::new(watch::Sender::new(vec![Arc::new(genesis)])),
            watch::Sender::new(1),
        )
    }

    fn newest(&self) -> Block {
        (**self.0.borrow().last().expect("genesis")).clone()
    }

    fn push(&self, block: Block) {
        self.0.send_modify(|blocks| blocks.push(Arc::new(block)));
        self.1.send_modify(|height| *height += 1);
    }
}

impl Source for Chain {
    fn height(&self) -> watch::Receiver<u64> {
        self.1.subscribe()
    }

    fn read(&self, number: u64) -> Result<Arc<Block>, SourceError> {
        Ok(self.0.borrow()[number as usize].clone())
    }

    fn config_sequence(&self) -> u64 {
        0
    }

    fn authorize(&self, _: &SeekRequest) -> Result<(), String> {
        Ok(())
    }
}

struct OneChain(Chain);

impl Sources for OneChain {
    fn source(&self, channel_id: &str) -> Option<Arc<dyn Source>> {
        (channel_id == CHANNEL).then(|| Arc::new(self.0.clone()) as Arc<dyn Source>)
    }
}

struct OrdererAnswers;

impl Respond for OrdererAnswers {
    type Response = DeliverResponse;

    fn data_type(&self) -> &'static str {
        "block"
    }

    fn status(&self, status: Status) -> DeliverResponse {
        DeliverResponse {
            r#type: Some(FromOrderer::Status(status as i32)),
        }
    }

    fn block(&self, _: &SeekRequest, block: Arc<Block>) -> Result<DeliverResponse, tonic::Status> {
        Ok(DeliverResponse {
            r#type: Some(FromOrderer::Block(Arc::unwrap_or_clone(block))),
        })
    }
}

/// An orderer that only delivers.
struct TestOrderer(Deliverer);

type Answers<T> = std::pin::Pin<Box<dyn futures::Stream<Item = Result<T, tonic::Status>> + Send>>;

#[tonic::async_trait]
impl AtomicBroadcast for TestOrderer {
    type BroadcastStream = Answers<BroadcastResponse>;
    type DeliverStream = Answers<DeliverResponse>;

    async fn broadcast(
        &self,
        _: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::BroadcastStream>, tonic::Status> {
        Err(tonic::Status::unavailable("this orderer only delivers"))
    }

    async fn deliver(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::DeliverStream>, tonic::Status> {
        Ok(Response::new(Box::pin(
            self.0.serve(request, Arc::new(OrdererAnswers)),
        )))
    }
}

fn tls_identity(org: &Org) -> TlsIdentity {
    let pair = org.tls();
    TlsIdentity::from_pem("test", pair.certificate.as_bytes(), pair.key.as_bytes()).expect("TLS")
}

async fn serve_orderer(server: Server, chain: &Chain, stop: CancellationToken) {
    let deliverer = Deliverer {
        sources: Arc::new(OneChain(chain.clone())),
        clock: Env::real().clock,
        time_window: Duration::from_secs(900),
        mutual_tls: false,
        expiration_checks: true,
        metrics: DeliverMetrics::new(&Metrics::default()),
    };
    let service = AtomicBroadcastServer::new(TestOrderer(deliverer));
    let router = Routes::new(service).into_axum_router();
    tokio::spawn(server.serve(router, stop));
}

/// A network with an orderer that has a port, and the folder of a peer.
struct World {
    network: Network,
    chain: Chain,
    orderer_address: String,
    orderer_tls: ServerTls,
    dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        // The address stands in the channel before the orderer exists.
        let reserved = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
        let address = reserved.local_addr().expect("address").to_string();
        drop(reserved);
        let network = Network::with_orderer(&address);
        let world = Self {
            chain: Chain::new(network.genesis.clone()),
            orderer_tls: ServerTls::new(tls_identity(&network.ordering), ClientAuth::Request),
            orderer_address: address,
            network,
            dir: tempfile::tempdir().expect("folder"),
        };
        world.write_peer_files();
        world
    }

    async fn start_orderer(&self) -> CancellationToken {
        let options = ServerOptions::grpc(Some(self.orderer_tls.clone()));
        let server = Server::bind(&self.orderer_address, options)
            .await
            .expect("orderer's port");
        let stop = CancellationToken::new();
        serve_orderer(server, &self.chain, stop.clone()).await;
        stop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write_peer_files(&self) {
        let org = &self.network.one;
        let write = |name: &str, bytes: &[u8]| {
            let path = self.path(name);
            fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            fs::write(path, bytes).expect("file");
        };
        for (name, bytes) in org.msp_files() {
            write(&format!("msp/{name}"), &bytes);
        }
        write(
            "msp/signcerts/cert.pem",
            org.peer.certificate().to_pem().as_bytes(),
        );
        let key = org.peer_key.to_pkcs8_pem().expect("key");
        write("msp/keystore/key_sk", key.as_bytes());
        let tls = org.tls();
        write("tls/server.crt", tls.certificate.as_bytes());
        write("tls/server.key", tls.key.as_bytes());
        write("tls/ca.crt", org.tls_ca.certificate().to_pem().as_bytes());
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../config/core.yaml");
        fs::copy(shipped, self.path("core.yaml")).expect("core.yaml");
    }

    fn settings(&self, more: &[(&str, &str)]) -> Settings {
        let data = self.path("data").display().to_string();
        let mut variables: Variables = [
            ("CORE_PEER_LISTENADDRESS", "127.0.0.1:0"),
            ("CORE_PEER_CHAINCODELISTENADDRESS", "127.0.0.1:0"),
            ("CORE_OPERATIONS_LISTENADDRESS", "127.0.0.1:0"),
            ("CORE_PEER_LOCALMSPID", "OneMSP"),
            ("CORE_PEER_TLS_ENABLED", "true"),
            ("CORE_PEER_FILESYSTEMPATH", &data),
        ]
        .iter()
        .chain(more)
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
        variables.insert("CORE_PEER_ID".into(), "peer0".into());
        Settings::load_file(&self.path("core.yaml"), &variables).expect("settings")
    }

    async fn start(&self, more: &[(&str, &str)]) -> Result<Running, NodeError> {
        let shutdown = CancellationToken::new();
        let options = NodeOptions {
            levels: Levels::new("info").expect("levels"),
            chaincode_dev: false,
        };
        let node = Node::start(self.settings(more), options, shutdown.clone()).await?;
        let (address, operations) = (node.address, node.operations_address);
        let channels = node.channels().clone();
        let task = tokio::spawn(node.run());
        Ok(Running {
            address: address.to_string(),
            operations,
            channels,
            task,
            shutdown,
        })
    }

    /// Starts a peer where one has just ended in this process: its last tasks may still hold the
    /// ledger for a moment, which they would not if the process had ended.
    async fn start_again(&self) -> Running {
        let started = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                match self.start(&[]).await {
                    Ok(running) => return running,
                    Err(NodeError::Channels(_)) => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
        started.await.expect("the ledger stays locked")
    }

    fn client(&self, running: &Running) -> DeliverClient<tonic::transport::Channel> {
        let roots = self.network.one.tls_ca.certificate().to_pem();
        let tls = ClientTls::from_pem("test", roots.as_bytes(), None).expect("TLS");
        DeliverClient::new(connect(&Endpoint::new(&running.address, Some(tls))).expect("endpoint"))
    }
}

struct Running {
    address: String,
    operations: Option<std::net::SocketAddr>,
    channels: Arc<selvage_peer::channels::Channels>,
    task: tokio::task::JoinHandle<Result<(), NodeError>>,
    shutdown: CancellationToken,
}

impl Running {
    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("task").expect("an orderly end");
    }

    async fn height(&self, wanted: u64) {
        let channel = self.channels.get(CHANNEL).expect("channel");
        channel
            .height_watch()
            .wait_for(|h| *h >= wanted)
            .await
            .expect("the channel lives");
    }
}

struct ClientSigner(Arc<SigningIdentity>);

impl Signer for ClientSigner {
    fn creator(&self) -> Bytes {
        self.0.serialized()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message)
    }
}

fn seek(channel: &str, seek: &SeekInfo, signer: &Arc<SigningIdentity>) -> Envelope {
    let env = Env::real();
    let signer = ClientSigner(signer.clone());
    seek_envelope(
        channel,
        seek,
        &signer,
        None,
        env.clock.as_ref(),
        env.rng.as_ref(),
    )
}

fn request(envelope: Envelope) -> impl futures::Stream<Item = Envelope> + Send + 'static {
    futures::stream::iter([envelope]).chain(futures::stream::pending())
}

async fn next(answers: &mut Streaming<selvage_proto::peer::DeliverResponse>) -> Type {
    answers
        .message()
        .await
        .expect("stream")
        .expect("answer")
        .r#type
        .expect("content")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_pulls_commits_and_delivers() {
    let world = World::new().await;
    let network = &world.network;
    let orderer = world.start_orderer().await;
    let peer = world.start(&[]).await.expect("peer");
    peer.channels.join(network.genesis.clone()).expect("join");
    let definition = define(network, "cc", "OR('OneMSP.peer')");
    world
        .chain
        .push(network.block(&world.chain.newest(), vec![definition.seal()]));
    let tx = Tx::new(
        &network.one.client,
        &[&network.one.peer],
        "cc",
        &writes("cc", &[("k", "v")]),
    );
    world
        .chain
        .push(network.block(&world.chain.newest(), vec![tx.seal(), tx.seal()]));
    peer.height(3).await;

    let all = between(specified(0), specified(2));
    let mut client = world.client(&peer);
    let envelope = seek(CHANNEL, &all, &network.two.client);
    let mut blocks = client
        .deliver(request(envelope))
        .await
        .expect("call")
        .into_inner();
    for number in 0..3 {
        let Type::Block(block) = next(&mut blocks).await else {
            panic!("no block {number}")
        };
        assert_eq!(block.number(), number);
    }
    assert_eq!(
        next(&mut blocks).await,
        Type::Status(Status::Success as i32)
    );

    let envelope = seek(
        CHANNEL,
        &between(specified(2), specified(2)),
        &network.one.client,
    );
    let mut blocks = client
        .deliver_filtered(request(envelope))
        .await
        .expect("call")
        .into_inner();
    let Type::FilteredBlock(filtered) = next(&mut blocks).await else {
        panic!("no block")
    };
    assert_eq!(
        (filtered.number, filtered.channel_id.as_str()),
        (2, CHANNEL)
    );
    let codes: Vec<i32> = filtered
        .filtered_transactions
        .iter()
        .map(|tx| tx.tx_validation_code)
        .collect();
    assert_eq!(codes, [Code::Valid as i32, Code::DuplicateTxid as i32]);
    assert_eq!(filtered.filtered_transactions[0].txid, tx.id());

    let envelope = seek(
        CHANNEL,
        &between(specified(1), specified(1)),
        &network.one.client,
    );
    let mut blocks = client
        .deliver_with_private_data(request(envelope))
        .await
        .expect("call")
        .into_inner();
    let Type::BlockAndPrivateData(both) = next(&mut blocks).await else {
        panic!("no block")
    };
    assert_eq!(both.block.expect("block").number(), 1);
    assert!(both.private_data_map.is_empty());

    // A stream without an end gets the next block when it is committed.
    let envelope = seek(
        CHANNEL,
        &between(specified(3), specified(u64::MAX)),
        &network.one.client,
    );
    let mut live = client
        .deliver(request(envelope))
        .await
        .expect("call")
        .into_inner();
    world
        .chain
        .push(network.block(&world.chain.newest(), vec![tx.seal()]));
    let Type::Block(block) = next(&mut live).await else {
        panic!("no block")
    };
    assert_eq!(block.number(), 3);
    drop(live);
    orderer.cancel();
    peer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_read_is_told_so() {
    let world = World::new().await;
    let network = &world.network;
    let peer = world.start(&[]).await.expect("peer");
    peer.channels.join(network.genesis.clone()).expect("join");
    let client = world.client(&peer);
    let first = between(specified(0), specified(0));
    let outside = Network::new();
    let check = async |what: &str, envelope: Envelope, status: Status| {
        let mut client = client.clone();
        let mut answers = client
            .deliver(request(envelope))
            .await
            .expect("call")
            .into_inner();
        assert_eq!(
            next(&mut answers).await,
            Type::Status(status as i32),
            "{what}"
        );
    };
    let stranger = seek(CHANNEL, &first, &outside.one.client);
    check("a stranger", stranger, Status::Forbidden).await;
    let unknown = seek("otherchannel", &first, &network.one.client);
    check("an unknown channel", unknown, Status::NotFound).await;
    let mut forged = seek(CHANNEL, &first, &network.one.client);
    forged.signature = Bytes::from_static(b"signature");
    check("a forged signature", forged, Status::Forbidden).await;
    let empty = Envelope {
        payload: Bytes::from_static(b"\xff"),
        ..Default::default()
    };
    check("no envelope", empty, Status::BadRequest).await;
    let backwards = seek(
        CHANNEL,
        &between(specified(1), specified(0)),
        &network.one.client,
    );
    check("an end before the start", backwards, Status::BadRequest).await;
    peer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_waits_for_its_orderer_and_resumes() {
    let world = World::new().await;
    let network = &world.network;
    let peer = world.start(&[]).await.expect("peer");
    peer.channels.join(network.genesis.clone()).expect("join");
    let push = |key: &str| {
        let set = writes("_lifecycle", &[(key, "v")]);
        let endorsers = [&network.one.peer, &network.two.peer];
        let tx = Tx::new(&network.one.client, &endorsers, "_lifecycle", &set);
        world
            .chain
            .push(network.block(&world.chain.newest(), vec![tx.seal()]));
    };
    push("a");
    let orderer = world.start_orderer().await;
    peer.height(2).await;
    orderer.cancel();
    push("b");
    peer.stop().await;
    let peer = world.start_again().await;
    assert_eq!(peer.channels.get(CHANNEL).expect("channel").height(), 2);
    let orderer = world.start_orderer().await;
    push("c");
    peer.height(4).await;
    orderer.cancel();
    peer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_joins_the_peer_to_a_channel() {
    let world = World::new().await;
    let network = &world.network;
    let orderer = world.start_orderer().await;
    let peer = world.start(&[]).await.expect("peer");
    let roots = network.one.tls_ca.certificate().to_pem();
    let tls = ClientTls::from_pem("test", roots.as_bytes(), None).expect("TLS");
    let endpoint = Endpoint::new(&peer.address, Some(tls));
    let mut endorser = EndorserClient::new(connect(&endpoint).expect("endpoint"));
    let genesis = network.genesis.encode_to_vec();
    let mut call = async |signer: &SigningIdentity, args: &[&[u8]]| {
        let proposal = common::proposal(signer, "", "cscc", args);
        let answer = endorser
            .process_proposal(proposal)
            .await
            .expect("call")
            .into_inner();
        answer.response.expect("response")
    };
    let refused = call(&network.one.client, &[b"JoinChain", &genesis]).await;
    assert_eq!(refused.status, 500, "{refused:?}");
    assert!(peer.channels.get(CHANNEL).is_none());
    let joined = call(&network.one.admin, &[b"JoinChain", &genesis]).await;
    assert_eq!(joined.status, 200, "{joined:?}");
    let again = call(&network.one.admin, &[b"JoinChain", &genesis]).await;
    assert!(again.message.contains("already exists"), "{again:?}");
    let listed = call(&network.one.client, &[b"GetChannels"]).await;
    let listed = ChannelQueryResponse::decode(listed.payload).expect("channels");
    assert_eq!(listed.channels[0].channel_id, CHANNEL);
    let definition = define(network, "cc", "OR('OneMSP.peer')");
    let block = network.block(&world.chain.newest(), vec![definition.seal()]);
    world.chain.push(block);
    peer.height(2).await;
    orderer.cancel();
    peer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_mutual_tls_clients_prove_themselves_twice() {
    let world = World::new().await;
    let network = &world.network;
    let peer = world
        .start(&[("CORE_PEER_TLS_CLIENTAUTHREQUIRED", "true")])
        .await
        .expect("peer");
    peer.channels.join(network.genesis.clone()).expect("join");
    let roots = network.one.tls_ca.certificate().to_pem();
    let first = between(specified(0), specified(0));
    let bare = ClientTls::from_pem("test", roots.as_bytes(), None).expect("TLS");
    let bare = Endpoint::new(&peer.address, Some(bare));
    let mut client = DeliverClient::new(connect(&bare).expect("endpoint"));
    let envelope = seek(CHANNEL, &first, &network.one.client);
    client
        .deliver(request(envelope.clone()))
        .await
        .expect_err("no certificate");

    // The second organisation is known through the channel only.
    let identity = tls_identity(&network.two);
    let hash = identity.leaf_hash();
    let tls = ClientTls::from_pem("test", roots.as_bytes(), Some(identity)).expect("TLS");
    let endpoint = Endpoint::new(&peer.address, Some(tls));
    let connected = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let mut client = DeliverClient::new(connect(&endpoint).expect("endpoint"));
            // The roots of a channel count a moment after it was joined.
            if let Ok(answers) = client.deliver(request(envelope.clone())).await {
                return (client, answers.into_inner());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let (mut client, mut answers) = connected
        .await
        .expect("a certificate of the channel counts");
    assert_eq!(
        next(&mut answers).await,
        Type::Status(Status::BadRequest as i32)
    );
    let env = Env::real();
    let signer = ClientSigner(network.two.client.clone());
    let (clock, rng) = (env.clock.as_ref(), env.rng.as_ref());
    let bound = seek_envelope(CHANNEL, &first, &signer, Some(hash), clock, rng);
    let mut answers = client
        .deliver(request(bound))
        .await
        .expect("call")
        .into_inner();
    assert!(matches!(next(&mut answers).await, Type::Block(_)));
    peer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orderer_is_found_under_another_address() {
    let world = World::new().await;
    let network = &world.network;
    let server = Server::bind(
        "127.0.0.1:0",
        ServerOptions::grpc(Some(world.orderer_tls.clone())),
    )
    .await
    .expect("port");
    let address = server.local_addr();
    let stop = CancellationToken::new();
    serve_orderer(server, &world.chain, stop.clone()).await;
    let file = world.path("core.yaml");
    let text = fs::read_to_string(&file).expect("core.yaml");
    let (from, roots) = (&world.orderer_address, "roots.pem");
    let pem = network.ordering.tls_ca.certificate().to_pem();
    fs::write(world.path(roots), pem).expect("roots");
    let entry = format!(
        "addressOverrides:\n      - from: {from}\n        to: {address}\n        caCertsFile: {roots}\n"
    );
    fs::write(&file, text.replace("addressOverrides:\n", &entry)).expect("core.yaml");
    let peer = world.start(&[]).await.expect("peer");
    peer.channels.join(network.genesis.clone()).expect("join");
    let definition = define(network, "cc", "OR('OneMSP.peer')");
    let block = network.block(&world.chain.newest(), vec![definition.seal()]);
    world.chain.push(block);
    peer.height(2).await;
    stop.cancel();
    peer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_health_and_version() {
    let world = World::new().await;
    let peer = world
        .start(&[("CORE_METRICS_PROVIDER", "prometheus")])
        .await
        .expect("peer");
    peer.channels
        .join(world.network.genesis.clone())
        .expect("join");
    let address = peer.operations.expect("operations");
    let get = async |path: &str| {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(address)
            .await
            .expect("connect");
        let text = format!("GET {path} HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.expect("request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answer");
        answer
    };
    let health = get("/healthz").await;
    assert!(
        health.starts_with("HTTP/1.1 200") && health.contains("\"status\":\"OK\""),
        "{health}"
    );
    let version = get("/version").await;
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let metrics = get("/metrics").await;
    assert!(metrics.contains("ledger_blockchain_height"), "{metrics}");
    peer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_a_peer_from_starting_is_named() {
    let world = World::new().await;
    let report = |error: NodeError| {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    };
    let check = async |what: &str, more: &[(&str, &str)], words: &[&str]| {
        let Err(error) = world.start(more).await else {
            panic!("{what}: started")
        };
        let text = report(error);
        for word in words {
            assert!(text.contains(word), "{what}: {text}");
        }
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
    let address = taken.local_addr().expect("address").to_string();
    check(
        "taken port",
        &[("CORE_PEER_LISTENADDRESS", &address)],
        &["cannot listen", &address],
    )
    .await;
    check(
        "no MSP",
        &[("CORE_PEER_MSPCONFIGPATH", "/nowhere")],
        &["cannot read /nowhere"],
    )
    .await;
    check(
        "no TLS key",
        &[("CORE_PEER_TLS_KEY_FILE", "/nowhere")],
        &["cannot read /nowhere"],
    )
    .await;
    let key = world.path("msp/keystore/key_sk");
    let saved = fs::read(&key).expect("key");
    fs::write(
        &key,
        world
            .network
            .two
            .peer_key
            .to_pkcs8_pem()
            .expect("key")
            .as_bytes(),
    )
    .expect("write");
    check("another's key", &[], &["no private key in keystore"]).await;
    fs::write(&key, saved).expect("write");
    check(
        "mode",
        &[("CORE_CHAINCODE_MODE", "odd")],
        &["chaincode.mode", "odd"],
    )
    .await;
    check(
        "sandbox",
        &[("CORE_CHAINCODE_SANDBOX", "odd")],
        &["chaincode.sandbox", "odd"],
    )
    .await;
    let file = world.path("file");
    fs::write(&file, b"").expect("write");
    let file = file.display().to_string();
    check(
        "data folder",
        &[("CORE_PEER_FILESYSTEMPATH", &file)],
        &["peer.fileSystemPath"],
    )
    .await;
    let peer = world.start(&[]).await.expect("peer");
    check(
        "two peers on one folder",
        &[],
        &["in use by another process"],
    )
    .await;
    peer.stop().await;
    assert!(Settings::load_file(Path::new("/nowhere/core.yaml"), &Variables::new()).is_err());
}

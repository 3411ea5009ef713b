//! A network with an orderer that has a port, and a peer that runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use selvage_env::Env;
use selvage_identity::SigningIdentity;
use selvage_net::config::Variables;
use selvage_net::deliver::{
    Deliverer, Respond, SeekRequest, Signer, Source, SourceError, Sources, seek_envelope,
};
use selvage_net::logging::Levels;
use selvage_net::metrics::{DeliverMetrics, Metrics};
use selvage_net::server::{Server, ServerOptions};
use selvage_net::services::atomic_broadcast_server::{AtomicBroadcast, AtomicBroadcastServer};
use selvage_net::services::deliver_client::DeliverClient;
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
use tokio::sync::watch;

use super::{CHANNEL, Network, Org};

/// Blocks an orderer has, which grow.
#[derive(Clone)]
pub struct Chain(Arc<watch::Sender<Vec<Arc<Block>>>>, watch::Sender<u64>);

impl Chain {
    pub fn new(genesis: Block) -> Self {
        Self(
            Arc::new(watch::Sender::new(vec![Arc::new(genesis)])),
            watch::Sender::new(1),
        )
    }

    pub fn newest(&self) -> Block {
        (**self.0.borrow().last().expect("genesis")).clone()
    }

    pub fn push(&self, block: Block) {
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

pub struct OneChain(Chain);

impl Sources for OneChain {
    fn source(&self, channel_id: &str) -> Option<Arc<dyn Source>> {
        (channel_id == CHANNEL).then(|| Arc::new(self.0.clone()) as Arc<dyn Source>)
    }
}

pub struct OrdererAnswers;

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
pub struct TestOrderer(Deliverer);

pub type Answers<T> =
    std::pin::Pin<Box<dyn futures::Stream<Item = Result<T, tonic::Status>> + Send>>;

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

/// A free address outside the range the system gives to others meanwhile.
fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id() as u16;
    for _ in 0..1000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + start.wrapping_mul(31).wrapping_add(step) % 10_000;
        let address = format!("127.0.0.1:{port}");
        if std::net::TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
    panic!("no free port")
}

pub fn tls_identity(org: &Org) -> TlsIdentity {
    let pair = org.tls();
    TlsIdentity::from_pem("test", pair.certificate.as_bytes(), pair.key.as_bytes()).expect("TLS")
}

pub async fn serve_orderer(server: Server, chain: &Chain, stop: CancellationToken) {
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
pub struct World {
    pub network: Network,
    pub chain: Chain,
    pub orderer_address: String,
    pub orderer_tls: ServerTls,
    pub dir: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        // The address stands in the channel before the orderer exists.
        let address = free_address();
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

    pub async fn start_orderer(&self) -> CancellationToken {
        let options = ServerOptions::grpc(Some(self.orderer_tls.clone()));
        let server = Server::bind(&self.orderer_address, options)
            .await
            .expect("orderer's port");
        let stop = CancellationToken::new();
        serve_orderer(server, &self.chain, stop.clone()).await;
        stop
    }

    /// Has the orderer order another block.
    pub fn push(&self, envelopes: Vec<Bytes>) {
        let newest = self.chain.newest();
        self.chain.push(self.network.block(&newest, envelopes));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write_peer_files(&self) {
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

    pub fn settings(&self, more: &[(&str, &str)]) -> Settings {
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

    pub async fn start(&self, more: &[(&str, &str)]) -> Result<Running, NodeError> {
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
    pub async fn start_again(&self) -> Running {
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

    pub fn client(&self, running: &Running) -> DeliverClient<tonic::transport::Channel> {
        let roots = self.network.one.tls_ca.certificate().to_pem();
        let tls = ClientTls::from_pem("test", roots.as_bytes(), None).expect("TLS");
        DeliverClient::new(connect(&Endpoint::new(&running.address, Some(tls))).expect("endpoint"))
    }
}

pub struct Running {
    pub address: String,
    pub operations: Option<std::net::SocketAddr>,
    pub channels: Arc<selvage_peer::channels::Channels>,
    pub task: tokio::task::JoinHandle<Result<(), NodeError>>,
    pub shutdown: CancellationToken,
}

impl Running {
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("task").expect("an orderly end");
    }

    pub async fn height(&self, wanted: u64) {
        let channel = self.channels.get(CHANNEL).expect("channel");
        channel
            .height_watch()
            .wait_for(|h| *h >= wanted)
            .await
            .expect("the channel lives");
    }
}

pub struct ClientSigner(pub Arc<SigningIdentity>);

impl Signer for ClientSigner {
    fn creator(&self) -> Bytes {
        self.0.serialized()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message)
    }
}

pub fn seek(channel: &str, seek: &SeekInfo, signer: &Arc<SigningIdentity>) -> Envelope {
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

pub fn request(envelope: Envelope) -> impl futures::Stream<Item = Envelope> + Send + 'static {
    futures::stream::iter([envelope]).chain(futures::stream::pending())
}

pub async fn next(answers: &mut Streaming<selvage_proto::peer::DeliverResponse>) -> Type {
    answers
        .message()
        .await
        .expect("stream")
        .expect("answer")
        .r#type
        .expect("content")
}

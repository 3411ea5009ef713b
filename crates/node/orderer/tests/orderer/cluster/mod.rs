//! Orderers speak with each other over real sockets.

mod bft;
pub(crate) mod chain;
mod following;
pub(crate) mod streams;
mod trouble;

use std::time::Duration;

use bytes::Bytes;
use selvage_crypto::PrivateKey;
use selvage_crypto::issue::{LeafProfile, NodeRole, Validity};
use selvage_env::Env;
use selvage_net::metrics::Metrics;
use selvage_net::server::{Server, ServerOptions};
use selvage_net::tls::{ClientAuth, ClientTls, ServerRoots, ServerTls, TlsIdentity};
use selvage_net::tonic::service::Routes;
use selvage_net::tonic::transport::Channel;
use selvage_net::{CancellationToken, Dialled, Endpoint, NetError, dial};
use selvage_orderer::Refusals;
use selvage_orderer::Signer;
use selvage_orderer::cluster::{
    ClusterTls, Kind, Limits, LinkOptions, Links, Ports, Received, StepService,
};
use selvage_orderer::config::{Settings, Tls};
use selvage_ordering::Member;
use selvage_proto::common::Envelope;
use tokio::task::JoinHandle;

use crate::world::{CHANNEL, Org, World, now};

/// A TLS certificate and its key.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: PrivateKey,
}

impl Pair {
    pub(crate) fn new(org: &Org) -> Self {
        let key = PrivateKey::generate(selvage_crypto::KeyKind::P256).unwrap();
        Self::with_key(org, key, Validity::ten_years(now()))
    }

    /// A certificate for a key that exists.
    pub(crate) fn with_key(org: &Org, key: PrivateKey, validity: Validity) -> Self {
        let profile = LeafProfile::tls("localhost", &["localhost", "127.0.0.1"], validity);
        let certificate = org.tls.issue(&profile, key.public_key()).unwrap();
        Self {
            certificate: certificate.to_pem(),
            key,
        }
    }

    pub(crate) fn expired(org: &Org) -> Self {
        Self::new(org).renewed(org, Validity::starting(now() - 7_200, 3_600))
    }

    pub(crate) fn renewed(&self, org: &Org, validity: Validity) -> Self {
        Self::with_key(org, self.key.clone(), validity)
    }

    pub(crate) fn identity(&self) -> TlsIdentity {
        let key = self.key.to_pkcs8_pem().unwrap();
        TlsIdentity::from_pem("test", self.certificate.as_bytes(), key.as_bytes()).unwrap()
    }
}

/// One orderer, as far as others see it.
pub(crate) struct Station {
    pub(crate) id: u64,
    pub(crate) pair: Pair,
    pub(crate) signer: Signer,
    pub(crate) links: Links,
    pub(crate) metrics: Metrics,
    pub(crate) port: u16,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Station {
    pub(crate) async fn start(world: &World, id: u64) -> Self {
        let pair = Pair::new(&world.orderer_org);
        Self::with(world, id, pair, 0, |_| {}).await
    }

    /// A node with this TLS certificate at this port; `change` edits its settings.
    pub(crate) async fn with(
        world: &World,
        id: u64,
        pair: Pair,
        port: u16,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let path = |name: &str| world.path(&format!("node{id}.{name}"));
        std::fs::write(path("crt"), &pair.certificate).unwrap();
        std::fs::write(path("key"), pair.key.to_pkcs8_pem().unwrap().as_bytes()).unwrap();
        let mut settings = Settings::default();
        settings.general.tls = Tls {
            enabled: true,
            private_key: path("key"),
            certificate: path("crt"),
            root_cas: vec![world.path("tls/ca.crt")],
            ..Tls::default()
        };
        change(&mut settings);
        let tls = ClusterTls::load(&settings).unwrap().unwrap();
        let signer = Signer::new(world.orderer_org.identity(NodeRole::Orderer));
        let metrics = Metrics::default();
        let options = LinkOptions::new(&settings);
        let links = Links::new(options, tls, signer.clone(), &metrics, Env::real());
        let shutdown = CancellationToken::new();
        let limits = Limits::new(&settings);
        let refusals = Refusals::new(&metrics, Env::real().clock);
        let service = StepService::new(&links, limits, refusals, Env::real(), shutdown.clone());
        let router = Routes::new(service.cluster())
            .add_service(service.node_service())
            .into_axum_router();
        let server_tls = ServerTls::new(pair.identity(), ClientAuth::Request);
        let options = ServerOptions::grpc(Some(server_tls));
        let address = format!("127.0.0.1:{port}");
        let server = Server::bind(&address, options).await.unwrap();
        Self {
            id,
            pair,
            signer,
            links,
            metrics,
            port: server.local_addr().port(),
            serving: tokio::spawn({
                let shutdown = shutdown.clone();
                async move { server.serve(router, shutdown).await.unwrap() }
            }),
            shutdown,
        }
    }

    /// As the channel's configuration knows this node.
    pub(crate) fn member(&self) -> Member {
        Member {
            id: self.id,
            host: "127.0.0.1".to_owned(),
            port: self.port.into(),
            client_tls_cert: self.pair.certificate.clone().into(),
            server_tls_cert: self.pair.certificate.clone().into(),
        }
    }

    /// Opens the channel with these others in it.
    pub(crate) fn open(&self, others: &[Member]) -> Ports {
        let ports = self.links.open(CHANNEL);
        self.links.configure(CHANNEL, Kind::Raft, others);
        ports
    }

    pub(crate) fn send(&self, to: u64, payload: impl Into<Bytes>) {
        self.links.send(CHANNEL, to, payload.into(), Bytes::new());
    }

    /// A metric's value; 0 where it does not exist.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.text();
        let values = text.lines().filter(|line| line.starts_with(name));
        values
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    pub(crate) async fn stop(self) -> (Pair, u16) {
        self.links.stop();
        self.shutdown.cancel();
        self.serving.await.unwrap();
        (self.pair, self.port)
    }
}

/// Two nodes of one channel that know each other.
pub(crate) async fn two(world: &World) -> (Station, Ports, Station, Ports) {
    let (a, b) = (
        Station::start(world, 1).await,
        Station::start(world, 2).await,
    );
    let at_a = a.open(&[b.member()]);
    let at_b = b.open(&[a.member()]);
    (a, at_a, b, at_b)
}

/// What comes within a time that is long enough for any machine.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("it comes within a minute")
}

pub(crate) async fn received(ports: &mut Ports) -> Received {
    soon(ports.received.recv()).await.unwrap()
}

/// Sends the payload until it arrives, past pauses after failures. Other messages may come first.
pub(crate) async fn until_received(from: &Station, to: u64, ports: &mut Ports, payload: &[u8]) {
    let arriving = async {
        loop {
            from.send(to, payload.to_vec());
            let wait = Duration::from_millis(100);
            while let Ok(Some(got)) = tokio::time::timeout(wait, ports.received.recv()).await {
                if got.payload == payload {
                    return;
                }
            }
        }
    };
    soon(arriving).await;
}

pub(crate) fn some_envelope(n: u8) -> Envelope {
    Envelope {
        payload: vec![n; 10].into(),
        signature: vec![n].into(),
    }
}

/// A connection of somebody with this certificate, or with none.
pub(crate) async fn raw_to(
    world: &World,
    port: u16,
    pair: Option<&Pair>,
) -> Result<Dialled, NetError> {
    let root = world.orderer_org.tls.certificate().der().to_vec();
    let roots = ServerRoots::new([root.into()]);
    let identity = pair.map(Pair::identity);
    let tls = ClientTls::between_nodes(&roots, identity, None, Duration::ZERO).unwrap();
    dial(&Endpoint::new(format!("127.0.0.1:{port}"), Some(tls))).await
}

pub(crate) async fn raw_channel(world: &World, station: &Station, pair: Option<&Pair>) -> Channel {
    raw_to(world, station.port, pair).await.unwrap().channel
}

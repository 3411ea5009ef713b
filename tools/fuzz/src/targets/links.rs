//! The streams on which orderers speak with each other, over TLS on this machine: who somebody is
//! comes from the session, which nothing but a session can make.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use prost::Message;
use selvage_crypto::issue::{Authority, LeafProfile, Subject, Validity};
use selvage_env::Env;
use selvage_net::metrics::Metrics;
use selvage_net::server::{Server, ServerOptions};
use selvage_net::tls::{ClientAuth, ClientTls, ServerRoots, ServerTls, TlsIdentity};
use selvage_net::tonic::body::Body;
use selvage_net::tonic::codegen::Service;
use selvage_net::tonic::service::Routes;
use selvage_net::{CancellationToken, Dialled, Endpoint, dial};
use selvage_orderer::Refusals;
use selvage_orderer::Signer;
use selvage_orderer::cluster::{
    BFT_VERSION, ClusterTls, Kind, Limits, LinkOptions, Links, Ports, StepService,
    node_auth_request,
};
use selvage_orderer::config::{Settings, Tls};
use selvage_ordering::Member;
use selvage_proto::Timestamp;
use selvage_proto::common::{Consenter, Envelope};
use selvage_proto::orderer::cluster_node_service_step_request::Payload as BftPayload;
use selvage_proto::orderer::step_request::Payload;
use selvage_proto::orderer::{
    ClusterNodeServiceStepRequest, ConsensusRequest, NodeAuthRequest, NodeConsensusRequest,
    NodeTransactionOrderRequest, StepRequest, SubmitRequest,
};

use crate::peer::frame;
use crate::pick::{Pick, Put};
use crate::reach::reach;
use crate::world::{CHANNEL, NOW, world};

/// The channel whose orderers speak BFT.
const BFT_CHANNEL: &str = "bft";
/// The other orderer's number on both channels.
const OTHER: u64 = 2;
/// Longer than any answer takes.
const LONG: Duration = Duration::from_secs(60);

/// An orderer's cluster services, and a connection of another orderer to them.
struct Station {
    runtime: tokio::runtime::Runtime,
    endpoint: Endpoint,
    other: Dialled,
    ports: [Ports; 2],
    // What the services need to go on.
    _links: Links,
    _folder: tempfile::TempDir,
}

fn station() -> &'static Mutex<Station> {
    static STATION: OnceLock<Mutex<Station>> = OnceLock::new();
    STATION.get_or_init(|| Mutex::new(Station::new()))
}

/// A TLS certificate and its key, PEM.
fn pair(authority: &Authority) -> (String, String) {
    let names = ["localhost", "127.0.0.1"];
    let profile = LeafProfile::tls("localhost", &names, Validity::ten_years(NOW - 3600));
    let (certificate, key) = authority.issue_new(&profile).expect("a certificate");
    let key = key.to_pkcs8_pem().expect("a key's text");
    (
        certificate.to_pem(),
        String::from_utf8_lossy(key.as_bytes()).into_owned(),
    )
}

fn identity((certificate, key): &(String, String)) -> TlsIdentity {
    let read = TlsIdentity::from_pem("fuzz", certificate.as_bytes(), key.as_bytes());
    read.expect("an identity")
}

impl Station {
    fn new() -> Self {
        let builder = &mut tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().expect("a runtime");
        let guard = runtime.enter();
        let folder = tempfile::tempdir().expect("a folder");
        let validity = Validity::ten_years(NOW - 3600);
        let authority = Authority::new_root(&Subject::named("tls"), validity).expect("a root");
        let (own, other) = (pair(&authority), pair(&authority));
        let settings = settings(folder.path(), &authority, &own);
        let tls = ClusterTls::load(&settings)
            .expect("read")
            .expect("TLS is on");
        let options = LinkOptions::new(&settings);
        let signer = Signer::new(world().orderer.clone());
        let metrics = Metrics::default();
        let links = Links::new(options, tls, signer, &metrics, Env::test(1));
        let ports = [CHANNEL, BFT_CHANNEL].map(|channel| links.open(channel));
        let members = [Member {
            id: OTHER,
            host: "127.0.0.1".to_owned(),
            port: 1,
            client_tls_cert: other.0.clone().into(),
            server_tls_cert: other.0.clone().into(),
        }];
        links.configure(CHANNEL, Kind::Raft, &members);
        let consenter = Consenter {
            id: OTHER as u32,
            identity: world().orderer.certificate().to_pem().into(),
            ..Default::default()
        };
        let kind = Kind::Bft {
            own: 1,
            consenters: [consenter].into(),
        };
        links.configure(BFT_CHANNEL, kind, &members);
        let shutdown = CancellationToken::new();
        let limits = Limits::new(&settings);
        let refusals = Refusals::new(&metrics, Env::test(1).clock);
        let service = StepService::new(&links, limits, refusals, Env::test(1), shutdown.clone());
        let router = Routes::new(service.cluster())
            .add_service(service.node_service())
            .into_axum_router();
        let tls = ServerTls::new(identity(&own), ClientAuth::Request);
        let server = Server::bind("127.0.0.1:0", ServerOptions::grpc(Some(tls)));
        let server = runtime.block_on(server).expect("a port");
        let address = server.local_addr().to_string();
        runtime.spawn(async move { server.serve(router, shutdown).await });
        let roots = ServerRoots::new([authority.certificate().der().to_vec().into()]);
        let tls = ClientTls::between_nodes(&roots, Some(identity(&other)), None, Duration::ZERO);
        let endpoint = Endpoint::new(address, Some(tls.expect("TLS settings")));
        let other = runtime.block_on(dial(&endpoint)).expect("a connection");
        drop(guard);
        Self {
            runtime,
            endpoint,
            other,
            ports,
            _links: links,
            _folder: folder,
        }
    }

    /// The message that opens a BFT stream on the connection, framed.
    fn handshake(&mut self) -> Bytes {
        let request = |other: &Dialled| {
            let tls = other.tls.as_ref()?;
            node_auth_request(BFT_CHANNEL, OTHER, 1, NOW, tls, &world().orderer)
        };
        if request(&self.other).is_none() {
            let dialled = self.runtime.block_on(dial(&self.endpoint));
            self.other = dialled.expect("another connection");
        }
        let request = ClusterNodeServiceStepRequest {
            payload: request(&self.other).map(BftPayload::NodeAuthrequest),
        };
        frame(&request.encode_to_vec())
    }

    /// Calls a method with this body. Gives what reached the channels: how many consensus messages,
    /// and how many transactions.
    fn call(&mut self, path: &str, body: Bytes) -> (usize, usize) {
        let request = http::Request::builder()
            .method(http::Method::POST)
            .uri(format!("https://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::new(Full::new(body)))
            .expect("a request");
        let (mut consensus, mut transactions) = (0, 0);
        let Self {
            runtime,
            other,
            ports,
            ..
        } = self;
        let other = &mut other.channel;
        let answered = runtime.block_on(async {
            let call = async {
                std::future::poll_fn(|cx| other.poll_ready(cx)).await?;
                let answer = other.call(request).await?;
                let collected = answer.into_body().collect().await;
                Ok::<_, selvage_net::tonic::transport::Error>(collected.is_ok())
            };
            tokio::time::timeout(LONG, call).await
        });
        assert!(answered.is_ok(), "the stream does not end");
        for ports in ports {
            while let Ok(received) = ports.received.try_recv() {
                assert_eq!(received.from, OTHER, "who it is says the session");
                consensus += 1;
            }
            while let Ok(forwarded) = ports.forwarded.try_recv() {
                assert_eq!(forwarded.from, OTHER, "who it is says the session");
                transactions += 1;
            }
        }
        (consensus, transactions)
    }
}

fn settings(
    folder: &std::path::Path,
    authority: &Authority,
    (certificate, key): &(String, String),
) -> Settings {
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("written");
        path.to_string_lossy().into_owned()
    };
    let mut settings = Settings::default();
    settings.general.tls = Tls {
        enabled: true,
        private_key: file("key", key),
        certificate: file("crt", certificate),
        root_cas: vec![file("ca", &authority.certificate().to_pem())],
        ..Tls::default()
    };
    settings
}

/// The first byte says which service: Raft's or BFT's. Then pieces, each a message that is framed
/// here, and a rest that is not. On BFT channels the first message is a handshake whose session
/// binding no input knows, so nothing behind it is let in; see [`node_stream`].
pub(super) fn cluster(input: &[u8]) {
    let mut pick = Pick::new(input);
    let bft = pick.byte() % 2 == 1;
    let mut body = Vec::new();
    let messages = pick.byte() % 8;
    for _ in 0..messages {
        body.extend_from_slice(&frame(pick.piece()));
    }
    let rest = pick.rest();
    body.extend_from_slice(rest);
    let handed = hand_in(bft, body);
    if handed > 0 {
        reach("handed in");
    }
    assert!(handed <= usize::from(messages) + rest.len() / 5);
    assert!(!bft || handed == 0, "nobody proved who they are");
}

fn hand_in(bft: bool, body: Vec<u8>) -> usize {
    let path = match bft {
        false => "/orderer.Cluster/Step",
        true => "/orderer.ClusterNodeService/Step",
    };
    let mut station = station().lock().unwrap_or_else(PoisonError::into_inner);
    let (consensus, transactions) = station.call(path, body.into());
    consensus + transactions
}

/// What follows the handshake of a BFT stream, which is made here: pieces, as many as the first byte
/// says, each a message that is framed here, and a rest that is not.
pub(super) fn node_stream(input: &[u8]) {
    let mut pick = Pick::new(input);
    let mut body = Vec::new();
    let messages = usize::from(pick.byte() % 8);
    for _ in 0..messages {
        body.extend_from_slice(&frame(pick.piece()));
    }
    let rest = pick.rest();
    body.extend_from_slice(rest);
    let (consensus, transactions) = hand_in_behind_handshake(&body);
    if consensus > 0 {
        reach("a consensus message");
    }
    if transactions > 0 {
        reach("a transaction");
    }
    assert!(consensus + transactions <= messages + rest.len() / 5);
}

fn hand_in_behind_handshake(body: &[u8]) -> (usize, usize) {
    let mut station = station().lock().unwrap_or_else(PoisonError::into_inner);
    let mut whole = station.handshake().to_vec();
    whole.extend_from_slice(body);
    station.call("/orderer.ClusterNodeService/Step", whole.into())
}

fn bft_messages() -> [Vec<u8>; 2] {
    let consensus = NodeConsensusRequest {
        payload: Bytes::from_static(b"\x08\x01\x12\x02\x08\x07"),
        metadata: Bytes::from_static(b"\x08\x01"),
    };
    let transaction = NodeTransactionOrderRequest {
        last_validation_seq: 3,
        payload: Some(Envelope {
            payload: Bytes::from_static(b"payload"),
            signature: Bytes::from_static(b"signature"),
        }),
    };
    [
        BftPayload::NodeConrequest(consensus),
        BftPayload::NodeTranrequest(transaction),
    ]
    .map(|payload| {
        let request = ClusterNodeServiceStepRequest {
            payload: Some(payload),
        };
        request.encode_to_vec()
    })
}

pub(super) fn node_stream_seeds() -> Vec<Vec<u8>> {
    let [consensus, transaction] = bft_messages();
    let put = || Put::default().byte(2);
    vec![
        put().piece(&consensus).piece(&transaction).rest([]),
        put().piece(&transaction).piece(&consensus).rest([0, 0, 9]),
    ]
}

fn raft_messages() -> [StepRequest; 2] {
    let consensus = ConsensusRequest {
        channel: CHANNEL.to_owned(),
        payload: Bytes::from_static(b"\x08\x08\x10\x01\x18\x02\x20\x02"),
        metadata: Bytes::from_static(b"\x08\x01"),
    };
    let submit = SubmitRequest {
        channel: CHANNEL.to_owned(),
        last_validation_seq: 0,
        payload: Some(Envelope {
            payload: Bytes::from_static(b"payload"),
            signature: Bytes::from_static(b"signature"),
        }),
    };
    [
        Payload::ConsensusRequest(consensus),
        Payload::SubmitRequest(submit),
    ]
    .map(|payload| StepRequest {
        payload: Some(payload),
    })
}

pub(super) fn cluster_seeds() -> Vec<Vec<u8>> {
    let [consensus, submit] = raft_messages().map(|message| message.encode_to_vec());
    let handshake = NodeAuthRequest {
        version: BFT_VERSION,
        timestamp: Some(Timestamp {
            seconds: NOW,
            nanos: 0,
        }),
        from_id: OTHER,
        to_id: 1,
        channel: BFT_CHANNEL.to_owned(),
        session_binding: vec![1; 32].into(),
        signature: Bytes::from_static(b"signature"),
    };
    let handshake = ClusterNodeServiceStepRequest {
        payload: Some(BftPayload::NodeAuthrequest(handshake)),
    };
    let two = |bft: u8, first: &[u8], second: &[u8]| {
        let put = Put::default().byte(bft).byte(2);
        put.piece(first).piece(second).rest([])
    };
    vec![
        two(0, &consensus, &submit),
        two(1, &handshake.encode_to_vec(), &consensus),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_known_orderer_reach_the_channel() {
        let [consensus, submit] = raft_messages().map(|message| frame(&message.encode_to_vec()));
        assert_eq!(hand_in(false, [consensus, submit].concat()), 2);
        // Another stream on the same connection, after one that broke off.
        assert_eq!(hand_in(false, vec![0, 0, 0, 0, 9, 1]), 0);
        let [consensus, _] = raft_messages().map(|message| frame(&message.encode_to_vec()));
        assert_eq!(hand_in(false, consensus.to_vec()), 1);
    }

    #[test]
    fn messages_behind_a_good_handshake_reach_the_channel() {
        let [consensus, transaction] = bft_messages().map(|message| frame(&message));
        let both = [consensus.clone(), transaction].concat();
        assert_eq!(hand_in_behind_handshake(&both), (1, 1));
        // What breaks one stream off leaves the next alone; a second handshake is no message.
        assert_eq!(hand_in_behind_handshake(&[0, 0, 0, 0, 9, 1]), (0, 0));
        let handshake = station().lock().expect("a station").handshake();
        let after = [handshake, consensus.clone()].concat();
        assert_eq!(hand_in_behind_handshake(&after), (0, 0));
        assert_eq!(hand_in_behind_handshake(&consensus), (1, 0));
    }
}

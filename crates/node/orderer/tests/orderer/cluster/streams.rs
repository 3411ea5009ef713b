//! Who is heard, and what arrives.

use bytes::Bytes;
use selvage_crypto::issue::Validity;
use selvage_net::services::cluster_client::ClusterClient;
use selvage_net::tonic::body::Body;
use selvage_net::tonic::codegen::{Service, http};
use selvage_net::tonic::transport::Channel;
use selvage_net::tonic::{Code, Status};
use selvage_orderer::cluster::{Kind, NotSent};
use selvage_proto::orderer::step_request::Payload;
use selvage_proto::orderer::{ConsensusRequest, StepRequest, SubmitRequest};

use super::{
    Pair, Station, raw_channel, raw_to, received, some_envelope, soon, two, until_received,
};
use crate::world::{CHANNEL, Org, World, now};

#[tokio::test(flavor = "multi_thread")]
async fn messages_arrive_in_order_with_their_sender() {
    let world = World::new();
    let (a, mut at_a, b, mut at_b) = two(&world).await;
    for n in 0..50u8 {
        let metadata = Bytes::from(vec![n; 2]);
        a.links.send(CHANNEL, 2, vec![n; 3].into(), metadata);
        let sent = a.links.forward(CHANNEL, 2, some_envelope(n), n.into());
        sent.unwrap();
    }
    for n in 0..50u8 {
        let got = received(&mut at_b).await;
        assert_eq!((got.from, &got.payload[..]), (1, &[n; 3][..]));
        assert_eq!(got.metadata[..], [n; 2]);
        let got = soon(at_b.forwarded.recv()).await.unwrap();
        assert_eq!((got.from, got.sequence), (1, n.into()));
        assert_eq!(got.envelope, some_envelope(n));
    }
    b.send(1, "back");
    let got = received(&mut at_a).await;
    assert_eq!((got.from, &got.payload[..]), (2, &b"back"[..]));
    // Nobody of that number.
    let nobody = a.links.forward(CHANNEL, 3, some_envelope(0), 0);
    assert_eq!(nobody, Err(NotSent::Unknown(3)));
    a.send(3, "x");

    // One connection carries both streams, and the metrics say so.
    assert_eq!(a.metric("cluster_comm_egress_tls_connection_count"), 1.0);
    assert_eq!(a.metric("cluster_comm_egress_stream_count"), 2.0);
    assert_eq!(a.metric("cluster_comm_egress_queue_workers"), 2.0);
    assert_eq!(b.metric("cluster_comm_ingress_stream_count"), 2.0);
    assert_eq!(a.metric("cluster_comm_msg_send_time_count"), 100.0);
    assert_eq!(a.metric("cluster_comm_msg_dropped_count"), 0.0);
    assert_eq!(a.metric("cluster_comm_egress_queue_capacity"), 200.0);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_serves_all_channels() {
    let world = World::new();
    let (a, _at_a, b, mut at_b) = two(&world).await;
    let _other_a = a.links.open("other");
    a.links.configure("other", Kind::Raft, &[b.member()]);
    let mut other_b = b.links.open("other");
    b.links.configure("other", Kind::Raft, &[a.member()]);
    a.send(2, "one");
    a.links.send("other", 2, "two".into(), Bytes::new());
    assert_eq!(received(&mut at_b).await.payload, "one");
    assert_eq!(received(&mut other_b).await.payload, "two");
    assert_eq!(a.metric("cluster_comm_egress_tls_connection_count"), 1.0);
    a.links.close("other");
    // A channel that is gone says so; the others go on.
    b.links.close("other");
    a.send(2, "three");
    assert_eq!(received(&mut at_b).await.payload, "three");
    assert!(soon(other_b.received.recv()).await.is_none());
    a.stop().await;
    b.stop().await;
}

pub(crate) fn consensus(channel: &str, size: usize) -> StepRequest {
    StepRequest {
        payload: Some(Payload::ConsensusRequest(ConsensusRequest {
            channel: channel.to_owned(),
            payload: vec![7; size].into(),
            metadata: Bytes::new(),
        })),
    }
}

/// Sends one message and returns how the stream ends.
pub(crate) async fn step(channel: Channel, message: StepRequest) -> Result<(), Status> {
    let mut client = ClusterClient::new(channel);
    let call = client.step(futures::stream::iter([message]));
    soon(call).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_in_the_words_of_fabric() {
    let world = World::new();
    let station = Station::start(&world, 1).await;
    let (known, stranger) = (Pair::new(&world.orderer_org), Pair::new(&Org::new("Else")));
    let member = selvage_ordering::Member {
        id: 2,
        client_tls_cert: known.certificate.clone().into(),
        ..station.member()
    };
    let mut ports = station.open(&[member]);
    let _unconfigured = station.links.open("unconfigured");
    let refused = async |pair: Option<&Pair>, message: StepRequest, text: &str| {
        let channel = raw_channel(&world, &station, pair).await;
        let status = step(channel, message).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unknown, text));
    };
    let unauthorised = "certificate extracted from TLS connection isn't authorized";
    refused(None, consensus(CHANNEL, 1), "no TLS certificate sent").await;
    refused(Some(&stranger), consensus(CHANNEL, 1), unauthorised).await;
    let nameless = "badly formatted message, cannot extract channel";
    refused(Some(&known), consensus("", 1), nameless).await;
    for channel in ["no", "unconfigured"] {
        let text = format!("channel {channel} doesn't exist");
        refused(Some(&known), consensus(channel, 1), &text).await;
    }
    let empty = "message is neither a Submit nor a Consensus request";
    refused(Some(&known), StepRequest { payload: None }, empty).await;
    let submit = SubmitRequest {
        channel: CHANNEL.to_owned(),
        last_validation_seq: 0,
        payload: None,
    };
    let submit = StepRequest {
        payload: Some(Payload::SubmitRequest(submit)),
    };
    let text = "a Submit request without envelope";
    refused(Some(&known), submit, text).await;

    // Strangers cannot make this node hold large messages; members can send them.
    let large = consensus(CHANNEL, 1 << 20);
    let channel = raw_channel(&world, &station, Some(&stranger)).await;
    let status = step(channel, large.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    let channel = raw_channel(&world, &station, Some(&known)).await;
    step(channel, large).await.unwrap();
    assert_eq!(received(&mut ports).await.from, 2);

    // The key counts: a certificate renewed with the same key is the same node, even expired.
    let validity = Validity::starting(now() - 7_200, 3_600);
    let renewed = known.renewed(&world.orderer_org, validity);
    assert_ne!(renewed.certificate, known.certificate);
    let channel = raw_channel(&world, &station, Some(&renewed)).await;
    step(channel, consensus(CHANNEL, 1)).await.unwrap();
    assert_eq!(received(&mut ports).await.from, 2);
    assert!(ports.received.try_recv().is_err());
    station.stop().await;
}

/// Sends the messages of one method to another.
#[derive(Clone)]
struct Misdirected(Channel);

impl Service<http::Request<Body>> for Misdirected {
    type Response = http::Response<Body>;
    type Error = selvage_net::tonic::transport::Error;
    type Future = <Channel as Service<http::Request<Body>>>::Future;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        *request.uri_mut() = http::Uri::from_static("https://localhost/orderer.Cluster/Step");
        self.0.call(request)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_end_their_stream_only() {
    use selvage_net::services::atomic_broadcast_client::AtomicBroadcastClient;
    let world = World::new();
    let (a, _at_a, b, mut at_b) = two(&world).await;
    let channel = raw_channel(&world, &b, Some(&a.pair)).await;
    // An envelope is no step request: its payload would be a message.
    let mut misdirected = AtomicBroadcastClient::new(Misdirected(channel.clone()));
    let garbage = some_envelope(0xff);
    let call = misdirected.broadcast(futures::stream::iter([garbage]));
    let status = soon(call).await.unwrap_err();
    assert!(status.message().contains("decode"), "{status:?}");
    step(channel, consensus(CHANNEL, 1)).await.unwrap();
    assert_eq!(received(&mut at_b).await.from, 1);
    until_received(&a, 2, &mut at_b, b"well").await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_orderers_may_have_a_listener_to_themselves() {
    let world = World::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut settings = world.settings();
    let cluster = &mut settings.general.cluster;
    cluster.listen_address = "127.0.0.1".to_owned();
    cluster.listen_port = port;
    cluster.server_certificate = world.path("tls/server.crt");
    cluster.server_private_key = world.path("tls/server.key");
    cluster.root_cas = vec![world.path("tls/ca.crt")];
    let orderer = world.start(&settings).await;
    let pair = Pair::new(&world.orderer_org);
    let nothing = |status: Status| (status.code(), status.message().to_owned());
    let there = raw_to(&world, port, Some(&pair)).await.unwrap();
    let refused = step(there.channel, consensus("no", 1)).await.unwrap_err();
    let unknown = (Code::Unknown, "channel no doesn't exist".to_owned());
    assert_eq!(nothing(refused), unknown);
    // Clients' listener does not have the service.
    let general = raw_to(&world, orderer.address.port(), Some(&pair)).await;
    let refused = step(general.unwrap().channel, consensus("no", 1)).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unimplemented);
    // The cluster's listener demands a certificate of a known authority. TLS 1.3 clients learn of
    // it with their first call.
    for pair in [None, Some(Pair::new(&Org::new("Else")))] {
        if let Ok(there) = raw_to(&world, port, pair.as_ref()).await {
            let refused = step(there.channel, consensus("no", 1)).await.unwrap_err();
            assert_ne!(nothing(refused), unknown);
        }
    }
    // Once the node serves a channel, its organisations' authorities are known as well.
    let member = Pair::new(&world.org1);
    let joined = crate::world::join(&orderer, &world.genesis(CHANNEL)).await;
    assert_eq!(joined.0, 201);
    let there = raw_to(&world, port, Some(&member)).await.unwrap();
    let refused = step(there.channel, consensus("no", 1)).await.unwrap_err();
    assert_eq!(nothing(refused), unknown);
    orderer.stop().await;
}
